//! The embedded log: SQLite in its own file, one group-commit writer.

use hilum_core::{Envelope, Epoch, Position, Stream};
use tokio::sync::watch;

use super::{LogError, LogHealth, ReadMax, Record};

/// The embedded log.
#[derive(Debug, Clone)]
pub struct Embedded;

#[allow(missing_docs, clippy::unused_async, clippy::unused_self, clippy::todo)]
impl Embedded {
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
