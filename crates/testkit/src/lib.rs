//! Generators, real engines for tests, tidy tests.

pub mod clock;
pub mod disk;
pub mod kafka;
pub mod keycloak;
pub mod nginx;
pub mod postgres;
pub mod record;
pub mod tls;
pub mod workers;

use std::io;
use std::path::PathBuf;

/// The user's cache folder, as `scripts/install-tools` finds it.
#[allow(clippy::disallowed_methods)] // the same folder as the script's
fn cache() -> PathBuf {
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_default()
}

/// Where `scripts/install-tools` has put `name`.
///
/// # Panics
/// When it is not there: with the way out.
pub fn installed(name: &str) -> PathBuf {
    match hilum_launch::installed(&cache(), name) {
        Ok(place) => place,
        Err(error) => panic!("{error}"),
    }
}

/// A new folder. Its server removes it, also when no destructor runs.
fn folder(prefix: &str) -> io::Result<PathBuf> {
    Ok(tempfile::Builder::new().prefix(prefix).tempdir()?.keep())
}
