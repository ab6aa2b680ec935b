//! The shell as its clients meet it: requests through the whole stack, on real tables.

#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // BLESS=1

mod access;
mod audit;
mod bench;
mod canary;
mod cors;
mod csrf;
mod listen;
mod live;
mod pages;
mod sessions;
