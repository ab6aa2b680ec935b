//! Generators, real engines for tests, tidy tests.

pub mod disk;
pub mod kafka;
pub mod postgres;
pub mod record;
pub mod workers;
