//! Real chromium in front of the real binary: what a person at its pages sees, does and is spared.
//!
//! Needs the Debian packages `chromium` and `chromium-driver`; without them these tests fail and say so.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::disallowed_methods, clippy::type_complexity)]

mod census;
mod chromium;
mod looks;
mod mending;
// Each test binary uses its own part of it.
#[allow(dead_code)]
#[path = "../house/server.rs"]
mod server;
