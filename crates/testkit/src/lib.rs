//! Generators, real engines for tests, tidy tests.
