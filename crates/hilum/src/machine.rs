//! The one place that reads the machine: clock, randomness, environment, standard output.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use hilum_core::{Clock, Entropy, Timestamp};

/// The machine's clock.
pub fn clock() -> Clock {
    Clock::new(|| {
        #[allow(
            clippy::disallowed_methods,
            reason = "this is the wiring: everybody else is handed this clock"
        )]
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp::from_micros(since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX)))
    })
}

/// The system's random generator.
pub fn entropy() -> Entropy {
    Entropy::new(|out| {
        getrandom::fill(out).expect("the system's random generator answers; without it no secret is one");
    })
}

/// The environment's variables that are text.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// One variable of the environment.
#[allow(clippy::disallowed_methods, reason = "this is the wiring")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The user's cache folder, in which `scripts/install-tools` puts servers.
pub fn cache() -> PathBuf {
    let below_home = || variable("HOME").map(|home| PathBuf::from(home).join(".cache"));
    variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(below_home).unwrap_or_default()
}

/// The machine's own name; `localhost` where it says none.
pub fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

/// Raises the number of files (so, of connections) that this process may open as far as the system lets it.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current < limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, ?limit.current, "the limit of open files stays low");
    }
}

/// Writes a line to standard error.
pub fn complain(line: &str) {
    writeln!(std::io::stderr().lock(), "{line}").ok();
}

/// Whether a person reads standard error.
pub fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}
