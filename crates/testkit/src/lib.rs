//! Generators, real engines for tests, tidy tests.

pub mod clock;
pub mod disk;
pub mod kafka;
pub mod keycloak;
pub mod postgres;
mod process;
pub mod record;
pub mod tls;
pub mod workers;
