//! What came in, for good: `append` resolves when the record is durable, `read` gives records back in order.
//!
//! One log holds the streams of [`hilum_core::Stream`], each cut into partitions by the envelope's key. Offsets grow by one within
//! a partition. Nothing is ever changed or dropped.

use std::sync::Arc;

use hilum_core::{Envelope, Epoch, Kind, Position, Stream, Timestamp};

pub mod embedded;

/// One record as it stands in the log.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its place.
    pub position: Position,
    /// When its group was durable; absent for records of a group that was the last before a crash.
    pub durable: Option<Timestamp>,
    /// What came in.
    pub envelope: Arc<Envelope>,
}

/// How far `read` goes.
#[derive(Debug, Clone, Copy)]
pub struct ReadMax {
    /// At most this many records.
    pub records: usize,
    /// At most this many bytes of bodies, but always one record.
    pub bytes: usize,
}

/// How the log does.
#[derive(Debug, Clone, Default)]
pub struct LogHealth {
    /// Why nothing is accepted any more until a restart (a disk error); absent when all is well.
    pub read_only: Option<String>,
    /// Why nothing is accepted just now (the disk reserve).
    pub full: Option<String>,
    /// Bytes that wait for the writer.
    pub queue_bytes: usize,
    /// The durability level: `fsync` or `replicated`.
    pub durability: &'static str,
}

/// What the log refuses or fails at.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The disk failed; the process must not write any more (an fsync is never retried).
    #[error("log is read-only after a disk error: {0}")]
    ReadOnly(String),
    /// The disk reserve is reached or the queue is full: push back, nothing was kept.
    #[error("log does not accept now: {0}")]
    Full(String),
    /// The record is larger than the log takes.
    #[error("record of {size_bytes} bytes is larger than {size_bytes_max}")]
    TooLarge {
        /// The record's size.
        size_bytes: usize,
        /// The bound.
        size_bytes_max: usize,
    },
    /// A stored record cannot be read back.
    #[error("record {position} cannot be read: {why}")]
    Corrupt {
        /// Where it stands.
        position: Position,
        /// What is wrong with it, without its content.
        why: String,
    },
    /// A stored record is whole, but a newer program wrote it: it waits for that program.
    #[error("record {position} has envelope version {version}, which is newer than this program")]
    Newer {
        /// Where it stands.
        position: Position,
        /// The version of its envelope.
        version: u64,
    },
    /// Another process (or another handle of this one) owns the log.
    #[error("log {path} is in use by another process")]
    InUse {
        /// The file that is owned.
        path: String,
    },
    /// The engine failed.
    #[error("log engine: {0}")]
    Engine(String),
}

impl LogError {
    /// What the caller may do.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::ReadOnly(_) | Self::Full(_) | Self::InUse { .. } | Self::Engine(_) => Kind::Transient,
            Self::TooLarge { .. } => Kind::TooLarge,
            Self::Corrupt { .. } | Self::Newer { .. } => Kind::Internal,
        }
    }
}

/// The log, whatever engine keeps it. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Log {
    /// SQLite in its own file, one group-commit writer.
    Embedded(embedded::Embedded),
}

impl Log {
    /// Appends one record and resolves when it is durable. Waits while the queue is full.
    ///
    /// # Errors
    /// [`LogError::ReadOnly`], [`LogError::Full`]: the record was not kept and must not be acknowledged.
    pub async fn append(&self, envelope: Envelope) -> Result<Position, LogError> {
        match self {
            Self::Embedded(log) => log.append(envelope).await,
        }
    }

    /// Whether a record of `size_bytes` would be taken without waiting: the doors ask before they read a body.
    ///
    /// # Errors
    /// The same that [`Log::append`] would give.
    pub fn ready(&self, size_bytes: usize) -> Result<(), LogError> {
        match self {
            Self::Embedded(log) => log.ready(size_bytes),
        }
    }

    /// Records from `from` on, in order, without waiting for new ones; empty at the end.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] names a record that cannot be read, [`LogError::Newer`] one that a newer program wrote,
    /// [`LogError::Engine`] the rest.
    pub async fn read(
        &self,
        stream: Stream,
        partition: u16,
        from: u64,
        max: ReadMax,
    ) -> Result<Vec<Record>, LogError> {
        match self {
            Self::Embedded(log) => log.read(stream, partition, from, max).await,
        }
    }

    /// The offset that the next record of the partition will get.
    ///
    /// # Errors
    /// [`LogError::Engine`].
    pub async fn end(&self, stream: Stream, partition: u16) -> Result<u64, LogError> {
        match self {
            Self::Embedded(log) => log.end(stream, partition).await,
        }
    }

    /// A counter that changes after each durable group: whoever waits for records watches it.
    pub fn appended(&self) -> tokio::sync::watch::Receiver<u64> {
        match self {
            Self::Embedded(log) => log.appended(),
        }
    }

    /// Number of partitions of each stream.
    pub fn partitions(&self) -> u16 {
        match self {
            Self::Embedded(log) => log.partitions(),
        }
    }

    /// This log's life.
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Embedded(log) => log.epoch(),
        }
    }

    /// When this life of the log began.
    pub fn created(&self) -> Timestamp {
        match self {
            Self::Embedded(log) => log.created(),
        }
    }

    /// How it does.
    pub fn health(&self) -> LogHealth {
        match self {
            Self::Embedded(log) => log.health(),
        }
    }

    /// Writes out what waits and closes. Later appends fail with [`LogError::ReadOnly`].
    pub async fn close(&self) {
        match self {
            Self::Embedded(log) => log.close().await,
        }
    }
}
