//! The tables on Postgres.

use hilum_core::{Epoch, Seq, Stream, Timestamp};
use tokio::sync::watch;

use super::{Batch, Change, Read, Row, Scan, TablesError, Token};

/// The tables on Postgres.
#[derive(Debug, Clone)]
pub struct Postgres;

#[allow(missing_docs, clippy::unused_async, clippy::unused_self, clippy::todo)]
impl Postgres {
    pub async fn commit(&self, _: Batch) -> Result<Seq, TablesError> {
        todo!()
    }
    pub async fn read(&self, _: &[Read]) -> Result<Vec<Vec<Row>>, TablesError> {
        todo!()
    }
    pub async fn count(&self, _: &Scan, _: u64) -> Result<u64, TablesError> {
        todo!()
    }
    pub async fn changes(&self, _: Seq, _: u32) -> Result<Vec<Change>, TablesError> {
        todo!()
    }
    pub async fn offset(&self, _: &str, _: Stream, _: u16, _: Epoch) -> Result<u64, TablesError> {
        todo!()
    }
    pub async fn now(&self) -> Result<Seq, TablesError> {
        todo!()
    }
    pub async fn lease(
        &self,
        _: &str,
        _: &str,
        _: Timestamp,
        _: Timestamp,
    ) -> Result<Option<Token>, TablesError> {
        todo!()
    }
    pub fn committed(&self) -> watch::Receiver<Seq> {
        todo!()
    }
    pub fn describe(&self) -> String {
        todo!()
    }
    pub async fn prune(&self, _: Seq) -> Result<u64, TablesError> {
        todo!()
    }
    pub async fn close(&self) {}
}
