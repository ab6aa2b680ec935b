//! What came in, for good: `append` resolves when the record is durable, `read` gives records back in order.
//!
//! One log holds the streams of [`hilum_core::Stream`], each cut into partitions by the envelope's key, on Kafka by its source
//! too where that has a topic of its own. Offsets grow by one within a partition. Nothing is ever changed or dropped.

use std::collections::BTreeSet;
use std::sync::Arc;

use hilum_core::{Entropy, Envelope, Epoch, Id, Kind, Position, Stream, Timestamp};
use tokio::sync::watch;

pub mod embedded;
pub mod kafka;
pub mod stored;

pub use kafka::{Feed, Last, Mark, Placed, Tail};

/// The partition of a key among the `partitions` of one topic. Stored logs depend on it: it never changes.
pub fn partition_of(key: Id, partitions: u16) -> u16 {
    let tail = u16::from_be_bytes([key.as_bytes()[14], key.as_bytes()[15]]);
    tail % partitions.max(1)
}

/// Partitions that a process works at.
pub type Share = Arc<BTreeSet<(Stream, u16)>>;

/// The epoch of a log that begins.
fn new_epoch(entropy: &Entropy) -> Epoch {
    Epoch(uuid::Builder::from_random_bytes(entropy.bytes()).into_uuid())
}

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

/// The end of a partition that is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedEnd {
    /// The stream.
    pub stream: Stream,
    /// The partition.
    pub partition: u16,
    /// The offset at which it goes on; absent when that is not known, and it takes nothing.
    pub before: Option<u64>,
}

/// How the log does.
#[derive(Debug, Clone, Default)]
pub struct LogHealth {
    /// Why nothing is accepted any more until a restart (a disk error); absent when all is well.
    pub read_only: Option<String>,
    /// Why nothing is accepted just now (the disk reserve).
    pub full: Option<String>,
    /// Why what is appended waits in vain just now, as last seen (another process holds the file): it passes.
    pub held: Option<String>,
    /// Partitions whose newest records cannot be read, as seen at the start.
    pub damaged: Vec<DamagedEnd>,
    /// What is to be said of topics that are gone.
    pub gone: Vec<String>,
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
    /// The engine did not say in time whether it keeps the record. It may: whoever sends it again may send it twice.
    #[error("whether the record is kept is not known: {0}")]
    Unknown(String),
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
    /// Offsets at which nothing stands, though there is something behind them: what stood there is deleted, or nothing
    /// of ours ever did. Nobody can say which, so nobody steps over them.
    #[error(
        "{stream}/{partition} holds no records from {from} to before {to}: deleted, gone by retention, or never ours \
         (a transaction's)"
    )]
    Missing {
        /// The stream.
        stream: Stream,
        /// The partition.
        partition: u16,
        /// The first offset that is missing.
        from: u64,
        /// The first that is there again.
        to: u64,
    },
    /// Where the partition ends is not known, because its end is damaged. What is read up to there is right; nothing is
    /// appended, or an offset would be given twice.
    #[error(
        "the end of {stream}/{partition} is damaged and not known: nothing is kept there until it is mended"
    )]
    Unsure {
        /// The stream.
        stream: Stream,
        /// The partition.
        partition: u16,
    },
    /// A topic that the log has is not there: what stood in it is not stepped over, and what would go there is not kept.
    #[error(
        "topic {topic} is gone, though {list} names it: restore it from a mirror. If it is lost, make it again, empty, with \
         {partitions} partitions: what was applied of it stays (docs/OPERATIONS.md, a topic of its own)"
    )]
    Gone {
        /// The topic.
        topic: String,
        /// The topic in which its name stands.
        list: String,
        /// Partitions that it must have.
        partitions: u16,
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
            Self::ReadOnly(_)
            | Self::Full(_)
            | Self::Unknown(_)
            | Self::Unsure { .. }
            | Self::InUse { .. }
            | Self::Gone { .. }
            | Self::Engine(_) => Kind::Transient,
            Self::TooLarge { .. } => Kind::TooLarge,
            Self::Corrupt { .. } | Self::Missing { .. } | Self::Newer { .. } => Kind::Internal,
        }
    }
}

/// The log, whatever engine keeps it. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Log {
    /// SQLite in its own file, one group-commit writer.
    Embedded(embedded::Embedded),
    /// Kafka.
    Kafka(kafka::Kafka),
}

impl Log {
    /// The engine's name and durability level, for people (`kafka replicated`).
    pub fn describe(&self) -> String {
        let engine = match self {
            Self::Embedded(_) => "sqlite",
            Self::Kafka(_) => "kafka",
        };
        format!("{engine} {}", self.health().durability)
    }

    /// Appends one record and resolves when it is durable. Waits while the queue is full.
    ///
    /// # Errors
    /// [`LogError::ReadOnly`], [`LogError::Full`]: the record was not kept and must not be acknowledged.
    /// [`LogError::Unsure`]: nothing is kept in this partition, others go on.
    /// [`LogError::Unknown`]: it may be kept, and must not be acknowledged either.
    pub async fn append(&self, envelope: Envelope) -> Result<Position, LogError> {
        match self {
            Self::Embedded(log) => log.append(envelope).await,
            Self::Kafka(log) => log.append(envelope).await,
        }
    }

    /// Appends as [`Log::append`] does, but into the topic that holds `beside`: a correction stands in one partition with
    /// what it corrects, also when its source has another topic since.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn append_beside(&self, beside: Position, envelope: Envelope) -> Result<Position, LogError> {
        match self {
            // One topic: the key alone decides.
            Self::Embedded(log) => log.append(envelope).await,
            Self::Kafka(log) => log.append_beside(beside, envelope).await,
        }
    }

    /// Whether a record of `size_bytes` would be taken without waiting: the doors ask before they read a body.
    ///
    /// # Errors
    /// The same that [`Log::append`] would give.
    pub fn ready(&self, size_bytes: usize) -> Result<(), LogError> {
        match self {
            Self::Embedded(log) => log.ready(size_bytes),
            Self::Kafka(log) => log.ready(size_bytes),
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
            Self::Kafka(log) => log.read(stream, partition, from, max).await,
        }
    }

    /// One record; absent behind the end. For looking up: [`Log::read`] is for what is read in order.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub async fn get(&self, position: Position) -> Result<Option<Record>, LogError> {
        match self {
            Self::Embedded(log) => {
                let one = ReadMax { records: 1, bytes: 0 };
                let found = log.read(position.stream, position.partition, position.offset, one).await?;
                Ok(found.into_iter().next())
            }
            Self::Kafka(log) => log.get(position).await,
        }
    }

    /// The offset that the next record of the partition will get.
    ///
    /// # Errors
    /// [`LogError::Engine`].
    pub async fn end(&self, stream: Stream, partition: u16) -> Result<u64, LogError> {
        match self {
            Self::Embedded(log) => log.end(stream, partition).await,
            Self::Kafka(log) => log.end(stream, partition).await,
        }
    }

    /// A counter that changes after each durable group: whoever waits for records watches it.
    pub fn appended(&self) -> watch::Receiver<u64> {
        match self {
            Self::Embedded(log) => log.appended(),
            Self::Kafka(log) => log.appended(),
        }
    }

    /// The partitions that fall to this process among all that ask for a share under the same `name`, as they come
    /// and go. Dropping what this returns gives them back. An engine of one process gives all of them.
    ///
    /// # Errors
    /// [`LogError::Engine`].
    pub fn share(&self, name: &str) -> Result<watch::Receiver<Share>, LogError> {
        match self {
            Self::Embedded(_) => {
                let all = self.places(&Stream::ALL).into_iter().collect();
                Ok(watch::channel(Arc::new(all)).1)
            }
            Self::Kafka(log) => log.share(name),
        }
    }

    /// The change feed beside this log, made if it is not there: where the outbox is published.
    ///
    /// # Errors
    /// [`LogError::Engine`] names what is missing; a log in a file has none.
    pub async fn feed(&self) -> Result<Feed, LogError> {
        match self {
            Self::Embedded(_) => {
                Err(LogError::Engine("a log in a file has no change feed: that takes Kafka".to_owned()))
            }
            Self::Kafka(log) => log.feed().await,
        }
    }

    /// Number of partitions of a stream, as known now: they are numbered from 0, a number never changes its meaning, and
    /// there are more of them when a source gets a topic of its own.
    pub fn partitions(&self, stream: Stream) -> u16 {
        match self {
            Self::Embedded(log) => log.partitions(),
            Self::Kafka(log) => log.partitions(stream),
        }
    }

    /// Every partition of `streams`, as known now.
    pub fn places(&self, streams: &[Stream]) -> Vec<(Stream, u16)> {
        let each = streams.iter().map(|&stream| (0..self.partitions(stream)).map(move |one| (stream, one)));
        each.flatten().collect()
    }

    /// Comes as soon as all streams together have more than `known` partitions; never, where that cannot be.
    pub async fn grown(&self, known: usize) {
        match self {
            Self::Embedded(_) => std::future::pending().await,
            Self::Kafka(log) => log.grown(known).await,
        }
    }

    /// The topic in which a partition stands, where the engine has topics.
    pub fn topic(&self, stream: Stream, partition: u16) -> Option<Arc<str>> {
        match self {
            Self::Embedded(_) => None,
            Self::Kafka(log) => log.topic(stream, partition),
        }
    }

    /// This log's life.
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Embedded(log) => log.epoch(),
            Self::Kafka(log) => log.epoch(),
        }
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        match self {
            Self::Embedded(_) => "log.sqlite".to_owned(),
            Self::Kafka(log) => log.place(),
        }
    }

    /// When this life of the log began.
    pub fn created(&self) -> Timestamp {
        match self {
            Self::Embedded(log) => log.created(),
            Self::Kafka(log) => log.created(),
        }
    }

    /// How it does.
    pub fn health(&self) -> LogHealth {
        match self {
            Self::Embedded(log) => log.health(),
            Self::Kafka(log) => log.health(),
        }
    }

    /// Sees whether a record could be appended, writing none, so that [`Log::health`] says so also while nobody
    /// appends. Returns when it is seen.
    pub async fn look(&self) {
        match self {
            Self::Embedded(log) => log.look().await,
            // The client has said by itself whether any broker answers.
            Self::Kafka(log) => log.notice(),
        }
    }

    /// Writes out what waits and closes. Later appends fail with [`LogError::ReadOnly`].
    pub async fn close(&self) {
        match self {
            Self::Embedded(log) => log.close().await,
            Self::Kafka(log) => log.close().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_of_a_key_never_changes() {
        let cases = [
            ("zero", [0; 16], 8, 0),
            ("ones", [0xff; 16], 8, 7),
            ("the last two bytes decide", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 1, 2], 8, 2),
            ("no power of two", [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2], 7, 6),
            ("no partitions", [9; 16], 0, 0),
        ];
        for (why, key, partitions, want) in cases {
            assert_eq!(partition_of(Id::from_bytes(key), partitions), want, "{why}");
        }
    }
}
