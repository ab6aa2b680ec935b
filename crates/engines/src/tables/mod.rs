//! Rows as data, engines as engines. A room declares its [`Table`]s; real, typed SQL tables come out of it, and
//! nobody above this crate writes SQL.
//!
//! Every row carries the [`Seq`] `t` of the commit that last wrote it. A [`Batch`] names the rows that it was based
//! on with the `t` they had (or that they were absent); the engine refuses it with [`TablesError::Conflict`] when
//! one of them has changed. All commits of one engine are totally ordered by `t`.

use bytes::Bytes;
use hilum_core::{Epoch, Id, Kind, RecordId, Seq, Stream, Timestamp};

pub mod postgres;
pub mod query;
pub(crate) mod shape;
pub mod sqlite;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// 16 bytes: PostgreSQL `uuid`, SQLite 16-byte blob.
    Id,
    /// UTF-8 without NUL, compared byte by byte (collation `C` / `BINARY`).
    Text,
    /// 64-bit signed integer.
    Int,
    /// Truth value.
    Bool,
    /// Instant in microseconds: PostgreSQL `timestamptz`, SQLite integer microseconds since the epoch.
    Time,
    /// A commit's `t`.
    Seq,
    /// Bytes, compared byte by byte.
    Bytes,
}

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name, snake_case.
    pub name: &'static str,
    /// Its type.
    pub ty: Type,
    /// Whether it may be absent.
    pub optional: bool,
}

impl Column {
    /// A column that every row has.
    pub const fn new(name: &'static str, ty: Type) -> Self {
        Self { name, ty, optional: false }
    }

    /// A column that a row may lack.
    pub const fn optional(name: &'static str, ty: Type) -> Self {
        Self { name, ty, optional: true }
    }
}

/// One index, never unique: rows are ordered by its columns and then by the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Index {
    /// Its name within the table.
    pub name: &'static str,
    /// Its columns.
    pub columns: &'static [&'static str],
}

/// A table as a room declares it. The key columns are the first `key_len` columns.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name, with the room as prefix (`adt_board`).
    pub name: &'static str,
    /// How many of the first columns are the key.
    pub key_len: usize,
    /// Its columns, key first.
    pub columns: &'static [Column],
    /// Its indexes.
    pub indexes: &'static [Index],
    /// For a register: the column (type [`Type::Bytes`] or [`Type::Int`]) by which [`Write::PutIfNewer`] decides.
    pub register: Option<&'static str>,
}

impl Table {
    /// The place of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

/// What a projection keeps, where whoever opens it computes it anew from the log: tables that cannot be brought to their
/// declaration (a new required column, another key) are then made anew, all of them, empty, and the projection stands at
/// the log's beginning. Everybody else is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anew {
    /// Whose offsets go.
    pub projection: &'static str,
    /// All its tables.
    pub tables: &'static [&'static Table],
}

impl Anew {
    /// Whether `why` says that one of the tables does not fit.
    pub(crate) fn mends(self, why: &TablesError) -> bool {
        let mends = matches!(why, TablesError::Shape { table, .. } if self.tables.iter().any(|one| one.name == table));
        if mends {
            tracing::warn!(projection = self.projection, %why, "its tables are made anew, empty");
        }
        mends
    }
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// Absent.
    Null,
    /// [`Type::Bool`].
    Bool(bool),
    /// [`Type::Int`].
    Int(i64),
    /// [`Type::Time`].
    Time(Timestamp),
    /// [`Type::Seq`].
    Seq(Seq),
    /// [`Type::Id`].
    Id(Id),
    /// [`Type::Text`].
    Text(String),
    /// [`Type::Bytes`].
    Bytes(Bytes),
    /// In a write only, for a [`Type::Seq`] column: the `t` of the commit that writes it.
    ThisCommit,
    /// In a write only, for a [`Type::Int`] column: a number that no other commit gives, `t · 2²⁰ + n`; `n` is less than
    /// [`crate::limits::NTH_END`].
    ThisCommitNth(u32),
    /// In a write only, for a [`Type::Time`] column: the moment of the commit that writes it. Moments grow with `t`, whatever
    /// the clocks of the writers say: who has seen the rows of one has seen those of all earlier ones.
    ThisMoment,
    /// In what a [`query::Query`] keeps only, for a [`Type::Seq`] column: the newest commit that the query sees.
    ThisSnapshot,
}

/// What [`Value::ThisCommitNth`] stands for in the commit `t`.
pub(crate) const fn nth(t: Seq, n: u32) -> i64 {
    (t.0 << crate::limits::NTH_BITS) | (n as i64)
}

/// A key: the values of the key columns.
pub type Key = Vec<Value>;

/// One row as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// All columns in the table's order.
    pub values: Vec<Value>,
    /// The commit that last wrote it.
    pub t: Seq,
}

/// The rows of one index range, in index order: by the index's columns, then by the key columns that it lacks. An
/// absent value orders before all others (so last when descending).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scan {
    /// The table's name.
    pub table: &'static str,
    /// The index; absent = by key.
    pub index: Option<&'static str>,
    /// Values of the first columns of the index that every row must have.
    pub prefix: Vec<Value>,
    /// Inclusive lower bound of the next column, never [`Value::Null`]. A row that lacks that column lies in no range.
    pub from: Option<Value>,
    /// Exclusive upper bound of the next column, never [`Value::Null`]. A row that lacks that column lies in no range.
    pub to: Option<Value>,
    /// Start behind this row, which need not exist any more: its index columns, then all its key columns (by key:
    /// the key alone). Its first values are those of `prefix`.
    pub after: Option<Vec<Value>>,
    /// At most this many rows, itself at most `limits::SCAN_ROWS_MAX`.
    pub limit: u32,
    /// Largest first.
    pub descending: bool,
}

impl Scan {
    /// All rows under `prefix` of the key, in key order, up to the bound.
    pub fn by_key(table: &'static str, prefix: Vec<Value>) -> Self {
        Self {
            table,
            index: None,
            prefix,
            from: None,
            to: None,
            after: None,
            limit: crate::limits::SCAN_ROWS_MAX,
            descending: false,
        }
    }

    /// All rows under `prefix` of an index, in index order, up to the bound.
    pub fn by_index(table: &'static str, index: &'static str, prefix: Vec<Value>) -> Self {
        Self { index: Some(index), ..Self::by_key(table, prefix) }
    }
}

/// One read of a round trip.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Read {
    /// One row by key.
    Get {
        /// The table's name.
        table: &'static str,
        /// The key.
        key: Key,
    },
    /// A range.
    Scan(Scan),
}

/// What a batch was based on: the row had this `t`, or was absent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expect {
    /// The table's name.
    pub table: &'static str,
    /// The key.
    pub key: Key,
    /// The `t` that was read; `None` = there was no such row.
    pub t: Option<Seq>,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Inserts or replaces the row.
    Put {
        /// The table's name.
        table: &'static str,
        /// All columns.
        values: Vec<Value>,
    },
    /// Inserts the row, or replaces it when its register column is greater than the stored one.
    PutIfNewer {
        /// The table's name.
        table: &'static str,
        /// All columns.
        values: Vec<Value>,
    },
    /// Writes these columns of the row if it is there, and nothing if it is not: one statement, and no index is touched whose
    /// columns stay.
    Set {
        /// The table's name.
        table: &'static str,
        /// The key.
        key: Key,
        /// Columns behind the key, each once, with what they become. No text or bytes that stand in an index: how long those
        /// may be depends on the rest of the row.
        columns: Vec<(&'static str, Value)>,
    },
    /// Removes the row if it is there.
    Delete {
        /// The table's name.
        table: &'static str,
        /// The key.
        key: Key,
    },
}

/// How far one projection has read one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetMove {
    /// The projection's name.
    pub projection: &'static str,
    /// The stream.
    pub stream: Stream,
    /// The partition.
    pub partition: u16,
    /// The log's life: another one under the same name is refused, not skipped through.
    pub epoch: Epoch,
    /// The next offset to read before this batch.
    pub from: u64,
    /// The next offset to read after it: not before `from`, or 0, to go through the log anew.
    pub to: u64,
    /// The record before `to`, by which the log is known again; absent where it could not be read.
    pub last: Option<RecordId>,
}

/// How far one projection has read one partition, as it is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// The next offset to read, 0 at first.
    pub next: u64,
    /// The record before it; absent where none was, or where it could not be read.
    pub last: Option<RecordId>,
}

/// The topic of an outbox entry which says that rows were mended without a word about each (a rebuild: what was told
/// once is not told again): who shows them reads all again, who acts on changes has nothing to do.
pub const REREAD_TOPIC: &str = "tables.reread";

/// One entry of the outbox, in commit order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// What it is about (`adt.board`, `chart.resource`).
    pub topic: &'static str,
    /// The patient's (or other subject's) key.
    pub key: Id,
    /// Ids and versions only, as JSON.
    pub body: Bytes,
}

/// An outbox entry that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The commit.
    pub t: Seq,
    /// Its place within the commit, from 0.
    pub n: i64,
    /// What it is about.
    pub topic: String,
    /// The subject's key.
    pub key: Id,
    /// Its content.
    pub body: Bytes,
}

/// All or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// What it was based on.
    pub expects: Vec<Expect>,
    /// What it writes; at most one write for a key.
    pub writes: Vec<Write>,
    /// How far it read.
    pub offset: Option<OffsetMove>,
    /// What it tells others.
    pub outbox: Vec<Outgoing>,
    /// The writer's clock: [`Value::ThisMoment`] is not before that.
    pub moment: Option<Timestamp>,
}

/// What a tables engine refuses or fails at.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TablesError {
    /// Something that the batch was based on has changed, or another writer was first: read again.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The offset row says another position: another worker owns the partition now.
    #[error("offset of {projection} {stream}/{partition} is not where this worker left it")]
    Fenced {
        /// The projection.
        projection: String,
        /// The stream.
        stream: Stream,
        /// The partition.
        partition: u16,
    },
    /// The offset row belongs to another log.
    #[error("tables belong to log epoch {stored}, this log is {given}: restore the matching log or rebuild")]
    OtherLog {
        /// The epoch in the tables.
        stored: Epoch,
        /// The epoch given.
        given: Epoch,
    },
    /// A declaration or a value does not fit (programming error, or a text with NUL).
    #[error("table {table}: {why}")]
    Shape {
        /// The table.
        table: String,
        /// What does not fit.
        why: String,
    },
    /// Other processes work on the schema, and one of them or this one must be alone with it.
    #[error(
        "schema {schema} is in use by {by}: {}",
        if *alone { "this must be alone with it, stop them first" } else { "it must be alone, wait for its end" }
    )]
    InUse {
        /// The schema.
        schema: String,
        /// Who has it.
        by: String,
        /// Whether it was asked for alone.
        alone: bool,
    },
    /// The stored schema is newer than this program.
    #[error("schema version {stored} is newer than this program's {ours}: start the newer program")]
    Newer {
        /// In the database.
        stored: i64,
        /// In this program.
        ours: i64,
    },
    /// The server that answers does not have the tables, though they were made: another server, or one that was emptied.
    #[error(
        "the server that answers does not have the tables ({what}), and nothing is made there: see that tables.url leads \
         to the server that has them, or restore them. If they are lost, stop every process; `hilum rebuild chart` makes \
         the chart anew from the log, accounts and keys are made anew by hand"
    )]
    Gone {
        /// What is not there.
        what: String,
    },
    /// The outbox does not reach back that far: whoever asks reads the state itself and goes on from now.
    #[error("changes before {oldest} are pruned: read the state anew")]
    Pruned {
        /// The oldest commit that is still whole.
        oldest: Seq,
    },
    /// A query took longer than it may: it was called off. Another one, with other criteria, may not.
    #[error("the query takes longer than it may")]
    TooCostly,
    /// The disk failed; the process must not write any more (an fsync is never retried).
    #[error("tables are read-only after a disk error: {0}")]
    ReadOnly(String),
    /// The engine does not answer; nothing was committed as far as is known.
    #[error("tables engine: {0}")]
    Engine(String),
}

impl TablesError {
    /// What the caller may do.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Conflict(_) => Kind::Conflict,
            Self::Fenced { .. }
            | Self::InUse { .. }
            | Self::Gone { .. }
            | Self::ReadOnly(_)
            | Self::Engine(_) => Kind::Transient,
            Self::Pruned { .. } => Kind::NotFound,
            Self::TooCostly => Kind::TooLarge,
            Self::OtherLog { .. } | Self::Shape { .. } | Self::Newer { .. } => Kind::Internal,
        }
    }
}

/// That the tables are older than what was seen of them: a backup, or a server without the last commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WentBack {
    /// The newest commit that was seen.
    pub from: Seq,
    /// The newest that was there.
    pub to: Seq,
}

/// A lease's fencing token: grows with each holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub i64);

/// The tables, whatever engine keeps them. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Tables {
    /// One file, one group-commit writer, a pool of readers.
    Sqlite(sqlite::Sqlite),
    /// A schema of a PostgreSQL database.
    Postgres(postgres::Postgres),
}

macro_rules! each {
    ($self:ident, $engine:ident => $call:expr) => {
        match $self {
            Self::Sqlite($engine) => $call,
            Self::Postgres($engine) => $call,
        }
    };
}

impl Tables {
    /// Commits a batch and returns its `t`. Durable when it resolves.
    ///
    /// # Errors
    /// [`TablesError::Conflict`] is to be retried from the reads on; [`TablesError::Fenced`] ends this worker's turn.
    pub async fn commit(&self, batch: Batch) -> Result<Seq, TablesError> {
        each!(self, engine => engine.commit(batch).await)
    }

    /// Answers all reads in one round trip, in their order; a get gives no row or one. Each read sees one snapshot,
    /// different reads may see different ones: the commit's expectations are what makes them consistent.
    ///
    /// # Errors
    /// [`TablesError::Engine`], [`TablesError::Shape`].
    pub async fn read(&self, reads: &[Read]) -> Result<Vec<Vec<Row>>, TablesError> {
        each!(self, engine => engine.read(reads).await)
    }

    /// How many rows the scan would give without its limit, exact up to `cap`.
    ///
    /// # Errors
    /// As [`Tables::read`].
    pub async fn count(&self, scan: &Scan, cap: u64) -> Result<u64, TablesError> {
        each!(self, engine => engine.count(scan, cap).await)
    }

    /// Subjects that meet all criteria, in the order asked for, and the newest commit that was seen: one snapshot.
    ///
    /// Whoever does not wait for it any more (drops the future) calls it off.
    ///
    /// # Errors
    /// [`TablesError::TooCostly`] beyond its budget; as [`Tables::read`].
    pub async fn query(&self, query: &query::Query) -> Result<query::Answer, TablesError> {
        each!(self, engine => engine.query(query).await)
    }

    /// How many subjects meet the criteria, whatever `after` and `limit` say, exact up to `cap`; as long as the query may take.
    ///
    /// # Errors
    /// As [`Tables::query`].
    pub async fn query_count(&self, query: &query::Query, cap: u64) -> Result<u64, TablesError> {
        let bounds = query::Bounds { cap, rows: None, budget: query.budget };
        let counted = self.query_counts(std::slice::from_ref(query), bounds).await?;
        counted.first().copied().flatten().ok_or(TablesError::TooCostly)
    }

    /// How many subjects meet the criteria of each query, exact up to the cap; absent where that was not found out within the
    /// bounds. Each is counted in a snapshot of its own; what a query itself says of limit and budget does not count here.
    ///
    /// # Errors
    /// As [`Tables::read`].
    pub async fn query_counts(
        &self,
        queries: &[query::Query],
        bounds: query::Bounds,
    ) -> Result<Vec<Option<u64>>, TablesError> {
        each!(self, engine => engine.query_counts(queries, bounds).await)
    }

    /// How the engine executes a query, for people: it is run for that. What it says may quote values.
    ///
    /// # Errors
    /// As [`Tables::query`].
    pub async fn explain_query(&self, query: &query::Query) -> Result<String, TablesError> {
        each!(self, engine => engine.explain_query(query).await)
    }

    /// Outbox entries behind `after`, in commit order, whole commits: at least one commit, then up to `limit`.
    ///
    /// # Errors
    /// [`TablesError::Pruned`] when commits behind `after` are pruned; as [`Tables::read`].
    pub async fn changes(&self, after: Seq, limit: u32) -> Result<Vec<Change>, TablesError> {
        each!(self, engine => engine.changes(after, limit).await)
    }

    /// Removes outbox entries of commits before `before` and returns how many: the outbox is a window, kept bounded
    /// by whoever runs the engine. Later [`Tables::changes`] from before it say so.
    ///
    /// # Errors
    /// As [`Tables::commit`].
    pub async fn prune(&self, before: Seq) -> Result<u64, TablesError> {
        each!(self, engine => engine.prune(before).await)
    }

    /// The next offset that `projection` will read of a partition, 0 at first.
    ///
    /// # Errors
    /// [`TablesError::OtherLog`] when the row belongs to another log.
    pub async fn offset(
        &self,
        projection: &str,
        stream: Stream,
        partition: u16,
        epoch: Epoch,
    ) -> Result<u64, TablesError> {
        Ok(self.applied(projection, stream, partition, epoch).await?.next)
    }

    /// The same with the record that was read last.
    ///
    /// # Errors
    /// [`TablesError::OtherLog`] when the row belongs to another log.
    pub async fn applied(
        &self,
        projection: &str,
        stream: Stream,
        partition: u16,
        epoch: Epoch,
    ) -> Result<Applied, TablesError> {
        each!(self, engine => engine.applied(projection, stream, partition, epoch).await)
    }

    /// Whether a commit would be taken now.
    ///
    /// # Errors
    /// [`TablesError::ReadOnly`], [`TablesError::Engine`]: why not.
    pub async fn ready(&self) -> Result<(), TablesError> {
        each!(self, engine => engine.ready().await)
    }

    /// The newest committed `t`.
    ///
    /// # Errors
    /// As [`Tables::read`].
    pub async fn now(&self) -> Result<Seq, TablesError> {
        each!(self, engine => engine.now().await)
    }

    /// Takes or renews the lease `name` for `holder` until `until`, at most [`crate::limits::LEASE_S_MAX`] from `now`; `None`
    /// when another holder has it at `now`. A lease runs while `now < until`. A renewal in time keeps its token; one taken anew, also by the same holder
    /// after it ran out, gets the next. Where others commit too, the server's clock counts: only how long it is from `now`
    /// to `until` matters then.
    ///
    /// # Errors
    /// [`TablesError::Shape`] for a longer one; else as [`Tables::read`].
    pub async fn lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Token>, TablesError> {
        if until.micros_since(now) > crate::limits::LEASE_S_MAX * 1_000_000 {
            return Err(shape::shape("hilum_lease", "it is asked for longer than LEASE_S_MAX"));
        }
        each!(self, engine => engine.lease(name, holder, now, until).await)
    }

    /// Waits until the tables are open: at once, but for those that were opened while their server did not answer.
    pub async fn wait_open(&self) {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(engine) => engine.wait_open().await,
        }
    }

    /// Whether other processes commit as well. [`Tables::committed`] then misses theirs until somebody asks.
    pub const fn is_shared(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(_) => true,
        }
    }

    /// A counter that changes after each commit that this process made or heard of: a hint for who waits for changes.
    pub fn committed(&self) -> tokio::sync::watch::Receiver<Seq> {
        each!(self, engine => engine.committed())
    }

    /// That they went back, once it was found by this process; `t` goes on behind what was seen all the same.
    pub fn went_back(&self) -> tokio::sync::watch::Receiver<Option<WentBack>> {
        match self {
            // A file under a running process is not exchanged.
            Self::Sqlite(_) => tokio::sync::watch::channel(None).1,
            Self::Postgres(engine) => engine.went_back(),
        }
    }

    /// The engine's name and durability level, for people (`sqlite fsync`).
    pub fn describe(&self) -> String {
        each!(self, engine => engine.describe())
    }

    /// Writes out what waits and closes.
    pub async fn close(&self) {
        each!(self, engine => engine.close().await);
    }
}
