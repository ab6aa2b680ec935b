//! A house of many processes that are killed in turn, under load. Takes some two minutes; alone in its target, so that
//! no other test has its share of the machine meanwhile.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::disallowed_methods)]

mod cluster;
mod demo;
mod load;
#[allow(dead_code)]
#[path = "../house/server.rs"]
mod server;
