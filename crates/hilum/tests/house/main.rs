//! The real binary over real sockets.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::disallowed_methods, clippy::type_complexity)]

mod archive;
mod board;
mod brokers;
mod canary;
mod checkup;
mod confidence;
mod crash;
mod damage;
mod doors;
mod ends;
mod exchange;
mod fhir;
mod files;
mod form;
mod found;
mod http;
mod lifecycle;
mod many;
mod misread;
mod mllp;
mod plans;
mod relay;
mod restored;
mod roles;
mod routes;
mod search;
mod secrets;
mod server;
mod sources;
mod telemetry;
mod topics;
mod untied;
mod watching;
