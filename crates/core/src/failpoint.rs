//! Named places where a test may kill the process or make an engine fail.
//!
//! The wiring installs one handler (from `HILUM_FAILPOINT`, tests only); without it a failpoint is one relaxed
//! load. A crash test registers what it wants to hit and fails when it never fired.

use std::sync::OnceLock;

/// The registered places: a message's, in the order of its way, the change feed's, then those of moving house.
pub const NAMES: &[&str] =
    &["judge", "accept", "append", "ack", "read", "apply", "commit", "relay", "export", "import"];

static HANDLER: OnceLock<fn(&'static str)> = OnceLock::new();

/// Installs the handler; the first caller wins, so that a process has one plan.
pub fn install(handler: fn(&'static str)) {
    HANDLER.get_or_init(|| handler);
}

/// Marks a place. `name` is one of [`NAMES`].
pub fn hit(name: &'static str) {
    debug_assert!(NAMES.contains(&name), "failpoint {name} is not registered");
    if let Some(handler) = HANDLER.get() {
        handler(name);
    }
}
