//! Generators, real engines for tests, tidy tests.

pub mod postgres;
