//! The embedded log: SQLite in its own file, one group-commit writer.

use std::fmt;
use std::path::Path;

use hilum_core::{Clock, Entropy, Envelope, Epoch, Position, Stream};
use tokio::sync::watch;

use super::{LogError, LogHealth, ReadMax, Record};
use crate::limits;
use crate::sqlite_file::{Fault, SyncMode};

/// How the embedded log is kept. [`Options::default`] is what a server runs with; a test or a bench chooses otherwise.
#[derive(Clone)]
pub struct Options {
    /// When a group counts as durable.
    pub sync: SyncMode,
    /// Partitions of each stream; a log that exists keeps those it was made with.
    pub partitions: u16,
    /// Bytes of records that may wait for the writer.
    pub queue_bytes_max: usize,
    /// Records in one group.
    pub group_records_max: usize,
    /// Bytes in one group.
    pub group_bytes_max: usize,
    /// Share of the volume that stays free.
    pub disk_reserve_ratio: f64,
    /// A test's hook that makes the disk fail: asked before each commit (`commit`) and checkpoint (`checkpoint`).
    pub fault: Option<Fault>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync: SyncMode::Full,
            partitions: limits::LOG_PARTITIONS,
            queue_bytes_max: limits::LOG_QUEUE_BYTES_MAX,
            group_records_max: limits::LOG_GROUP_RECORDS_MAX,
            group_bytes_max: limits::LOG_GROUP_BYTES_MAX,
            disk_reserve_ratio: limits::DISK_RESERVE_RATIO,
            fault: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("sync", &self.sync)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

/// The embedded log.
#[derive(Debug, Clone)]
pub struct Embedded;

#[allow(missing_docs, clippy::unused_async, clippy::unused_self, clippy::todo)]
impl Embedded {
    /// Opens the log in the file `path`, made with a new epoch when it is not there, and starts its writer thread.
    ///
    /// # Errors
    /// [`LogError::InUse`] when it is open already, [`LogError::Engine`] for the rest.
    pub fn open(_path: &Path, _clock: Clock, _entropy: Entropy, _options: Options) -> Result<Self, LogError> {
        todo!()
    }
    pub async fn append(&self, _: Envelope) -> Result<Position, LogError> {
        todo!()
    }
    pub fn ready(&self, _: usize) -> Result<(), LogError> {
        todo!()
    }
    pub async fn read(&self, _: Stream, _: u16, _: u64, _: ReadMax) -> Result<Vec<Record>, LogError> {
        todo!()
    }
    pub async fn end(&self, _: Stream, _: u16) -> Result<u64, LogError> {
        todo!()
    }
    pub fn appended(&self) -> watch::Receiver<u64> {
        todo!()
    }
    pub fn partitions(&self) -> u16 {
        todo!()
    }
    pub fn epoch(&self) -> Epoch {
        todo!()
    }
    pub fn health(&self) -> LogHealth {
        todo!()
    }
    pub async fn close(&self) {}
}
