//! The tables on Sqlite.

use std::fmt;
use std::path::{Path, PathBuf};

use hilum_core::{Epoch, Seq, Stream, Timestamp};
use tokio::sync::watch;

use super::{Batch, Change, Read, Row, Scan, Table, TablesError, Token};
use crate::sqlite_file::{Fault, SyncMode};

/// Where the tables stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In this file, beside its `-wal` and `.lock`.
    File(PathBuf),
    /// In memory, gone when closed: for tests and for a rebuild beside the live tables.
    Memory,
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

/// How the tables are kept. [`Options::default`] is what a server runs with; a test or a bench chooses otherwise.
#[derive(Clone, Default)]
pub struct Options {
    /// When a commit counts as durable.
    pub sync: SyncMode,
    /// A test's hook that makes the disk fail: asked before each commit (`commit`) and checkpoint (`checkpoint`).
    pub fault: Option<Fault>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("sync", &self.sync).finish_non_exhaustive()
    }
}

/// The tables on Sqlite.
#[derive(Debug, Clone)]
pub struct Sqlite;

#[allow(missing_docs, clippy::unused_async, clippy::unused_self, clippy::todo)]
impl Sqlite {
    /// Opens the tables in `place`, makes or extends them as `schema` declares, and starts the writer thread.
    ///
    /// # Errors
    /// [`TablesError::Newer`] and [`TablesError::Shape`] when the stored schema does not fit, [`TablesError::Engine`]
    /// when the file cannot be opened or is in use.
    pub fn open(
        _place: impl Into<Place>,
        _schema: &[&'static Table],
        _options: Options,
    ) -> Result<Self, TablesError> {
        todo!()
    }
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
