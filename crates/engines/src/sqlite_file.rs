//! What the embedded log and the SQLite tables share: how a file is owned, synced and watched.

use std::io;
use std::sync::Arc;

/// When a commit counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncMode {
    /// When it is fsynced.
    #[default]
    Full,
    /// When the operating system has it: survives the process, not the power. For tests, and planted as a fault.
    Off,
}

/// A test's hook that makes the disk fail at a named place.
pub type Fault = Arc<dyn Fn(&str) -> io::Result<()> + Send + Sync>;
