//! The tables on SQLite: one file, one group-commit writer, a pool of readers.
//!
//! Callers check and sort their batch themselves and hand it to a bounded queue. One thread takes what waits and
//! commits it with one fsync, each batch under a savepoint, so that one that fails leaves its neighbours whole.
//! Readers see committed rows only and never wait for the writer.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hilum_core::{Epoch, Seq, Stream, Timestamp};
use rusqlite::Connection;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::query::{Stop, Waiting};
use self::schema::TableSql;
use self::writer::{Job, Writer};
use super::query::{Answer, Bounds, Query, budget as budget_of};
use super::shape::Schema;
use super::{Anew, Applied, Batch, Change, Read, Row, Scan, Table, TablesError, Token};
use crate::limits;
use crate::sqlite_file::{
    Fault, OwnError, Owned, Reader, Readers, SyncMode, Tuning, open_writer, prepare_writer,
};

mod query;
mod read;
mod schema;
mod tape;
mod value;
mod writer;

/// Where the tables stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In this file, beside its `-wal`, `-shm` and `.lock`.
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
#[derive(Clone)]
pub struct Options {
    /// When a commit counts as durable.
    pub sync: SyncMode,
    /// Pages in the write-ahead log before they are moved into the file.
    pub wal_pages_max: i64,
    /// What may be made anew where it does not fit its declaration.
    pub anew: Option<Anew>,
    /// Where the statements of each commit are written down, for a bench's floor.
    pub tape: Option<PathBuf>,
    /// A test's hook that makes the disk fail: asked before each commit (`commit`) and checkpoint (`checkpoint`).
    pub fault: Option<Fault>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync: SyncMode::Full,
            wal_pages_max: limits::TABLES_WAL_PAGES_MAX,
            anew: None,
            tape: None,
            fault: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("sync", &self.sync).finish_non_exhaustive()
    }
}

/// The tables on SQLite. Cheap to clone; when the last clone is dropped, what waits is written out first.
#[derive(Debug, Clone)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Arc<State>,
    /// Absent only while dropping.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer of the tables panicked");
        }
    }
}

/// What the writer and the callers share.
#[derive(Debug)]
struct State {
    schema: Schema,
    /// The statements of each table of `schema`, in its order.
    sql: Vec<TableSql>,
    source: Source,
    /// One permit for each byte that may wait for the writer.
    queue: Arc<Semaphore>,
    committed: watch::Sender<Seq>,
    /// Why nothing is written any more.
    broken: Mutex<Option<String>>,
    describe: String,
}

impl State {
    fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn turn_read_only(&self, why: &str) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.is_none() {
            tracing::error!(why, "the tables are read-only until a restart");
            *broken = Some(why.to_owned());
        }
    }
}

/// Where reads come from.
#[derive(Debug, Clone)]
enum Source {
    /// Connections of their own.
    Pool(Arc<Readers>),
    /// The writer's connection, which is locked for a whole group: so they see committed rows only.
    Shared(Arc<Mutex<Connection>>),
}

impl Source {
    async fn take(&self) -> Result<Handle, TablesError> {
        match self {
            Self::Pool(readers) => Ok(Handle::Pooled(readers.take().await.map_err(TablesError::Engine)?)),
            Self::Shared(conn) => Ok(Handle::Shared(Arc::clone(conn))),
        }
    }
}

/// A connection for one read.
#[derive(Debug)]
enum Handle {
    Pooled(Reader),
    Shared(Arc<Mutex<Connection>>),
}

impl Handle {
    fn with<T>(&self, read: impl FnOnce(&Connection) -> T) -> T {
        match self {
            Self::Pooled(reader) => read(reader.conn()),
            Self::Shared(conn) => read(&conn.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Reads until `stop` says that nobody waits for it any more.
    fn with_until<T>(
        mut self,
        stop: &Stop,
        read: impl FnOnce(&Connection) -> Result<T, TablesError>,
    ) -> Result<T, TablesError> {
        match &mut self {
            Self::Pooled(reader) => stop.watch(reader.for_query().map_err(|why| engine(&why))?, read),
            Self::Shared(conn) => stop.watch(&mut conn.lock().unwrap_or_else(PoisonError::into_inner), read),
        }
    }
}

fn engine(why: &impl fmt::Display) -> TablesError {
    TablesError::Engine(why.to_string())
}

fn closed() -> TablesError {
    TablesError::Engine("the tables are closed".to_owned())
}

impl Sqlite {
    /// Opens the tables in `place`, makes or extends them as `schema` declares, and starts the writer thread.
    ///
    /// # Errors
    /// [`TablesError::Newer`] and [`TablesError::Shape`] when the stored schema does not fit, [`TablesError::Engine`]
    /// when the file cannot be opened or is in use.
    pub fn open(
        place: impl Into<Place>,
        schema: &[&'static Table],
        options: Options,
    ) -> Result<Self, TablesError> {
        let schema = Schema::new(schema)?;
        let tuning =
            Tuning { sync: options.sync, cache_kib: limits::TABLES_WRITER_CACHE_KIB, page_bytes: 4_096 };
        let (conn, owned, readers, describe) = match place.into() {
            Place::File(path) => {
                let shown = path.display();
                let owned = Owned::take(&path).map_err(|why| match why {
                    OwnError::InUse => {
                        TablesError::Engine(format!("tables {shown} are in use by another process"))
                    }
                    OwnError::Io(why) => TablesError::Engine(format!("{shown}: {why}")),
                })?;
                let conn = open_writer(&path, tuning)
                    .map_err(|why| TablesError::Engine(format!("{shown}: {why}")))?;
                let readers = Readers::new(&path, limits::READER_CACHE_KIB);
                (conn, Some(owned), Some(readers), format!("sqlite {}", options.sync.as_str()))
            }
            Place::Memory => {
                let conn = Connection::open_in_memory().map_err(|why| engine(&why))?;
                prepare_writer(&conn, tuning).map_err(|why| engine(&why))?;
                (conn, None, None, "sqlite memory".to_owned())
            }
        };
        let last = schema::migrate(&conn, &schema, options.anew)?;
        let sql = schema::statements(&schema);

        let conn = Arc::new(Mutex::new(conn));
        let in_file = readers.is_some();
        let source = readers.map_or_else(|| Source::Shared(Arc::clone(&conn)), Source::Pool);
        let state = Arc::new(State {
            schema,
            sql,
            source,
            queue: Arc::new(Semaphore::new(limits::TABLES_QUEUE_BYTES_MAX)),
            committed: watch::Sender::new(last.t),
            broken: Mutex::default(),
            describe,
        });
        let (jobs, receiver) = mpsc::channel(limits::TABLES_QUEUE_MAX);
        let tape = options.tape.as_deref().map(tape::Tape::create).transpose();
        let tape = tape.map_err(|why| TablesError::Engine(format!("tape: {why}")))?;
        let writer = Writer::new(Arc::clone(&state), conn, owned, (last, tape), in_file, options);
        let thread = std::thread::Builder::new()
            .name("tables-writer".to_owned())
            .spawn(move || writer.run(receiver))
            .map_err(|why| engine(&why))?;
        Ok(Self { inner: Arc::new(Inner { state, jobs: Some(jobs), thread: Some(thread) }) })
    }

    fn state(&self) -> &Arc<State> {
        &self.inner.state
    }

    /// Hands a job to the writer and waits for its answer.
    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, TablesError>>) -> Job,
    ) -> Result<T, TablesError> {
        if let Some(why) = self.state().broken() {
            return Err(TablesError::ReadOnly(why));
        }
        let (reply, answer) = oneshot::channel();
        let jobs = self.inner.jobs.as_ref().ok_or_else(closed)?;
        jobs.send(job(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Reads on this thread what is small, on a blocking thread what is not.
    async fn read_with<T: Send + 'static>(
        &self,
        small: bool,
        read: impl FnOnce(&State, &Connection) -> Result<T, TablesError> + Send + 'static,
    ) -> Result<T, TablesError> {
        let state = Arc::clone(self.state());
        let handle = state.source.take().await?;
        if small {
            return handle.with(|conn| read(&state, conn));
        }
        tokio::task::spawn_blocking(move || handle.with(|conn| read(&state, conn)))
            .await
            .map_err(|why| engine(&why))?
    }

    /// See [`super::Tables::commit`].
    ///
    /// # Errors
    /// As there.
    pub async fn commit(&self, mut batch: Batch) -> Result<Seq, TablesError> {
        let state = Arc::clone(self.state());
        let (size_bytes, batch) = if batch.writes.len() <= limits::TABLES_INLINE_CHECK_MAX {
            (state.schema.check_batch(&mut batch)?, batch)
        } else {
            tokio::task::spawn_blocking(move || {
                state.schema.check_batch(&mut batch).map(|size| (size, batch))
            })
            .await
            .map_err(|why| engine(&why))??
        };
        let room = size_bytes.min(limits::TABLES_QUEUE_BYTES_MAX) as u32;
        let room = Arc::clone(&self.state().queue).acquire_many_owned(room).await.map_err(|_| closed())?;
        self.ask(|reply| Job::Commit { batch, size_bytes, room, reply }).await
    }

    /// See [`super::Tables::ready`].
    ///
    /// # Errors
    /// As there.
    pub async fn ready(&self) -> Result<(), TablesError> {
        if let Some(why) = self.state().broken() {
            return Err(TablesError::ReadOnly(why));
        }
        self.now().await.map(drop)
    }

    /// See [`super::Tables::read`]. All reads see the same snapshot.
    ///
    /// # Errors
    /// As there.
    pub async fn read(&self, reads: &[Read]) -> Result<Vec<Vec<Row>>, TablesError> {
        let weight: usize = reads
            .iter()
            .map(|read| match read {
                Read::Get { .. } => 1,
                Read::Scan(scan) => scan.limit as usize,
            })
            .sum();
        if weight <= limits::TABLES_INLINE_READS_MAX {
            // Not through `read_with`: what is small is not copied either.
            let handle = self.state().source.take().await?;
            return handle.with(|conn| read::all(self.state(), conn, reads));
        }
        let reads = reads.to_vec();
        self.read_with(false, move |state, conn| read::all(state, conn, &reads)).await
    }

    /// See [`super::Tables::count`].
    ///
    /// # Errors
    /// As there.
    pub async fn count(&self, scan: &Scan, cap: u64) -> Result<u64, TablesError> {
        let scan = scan.clone();
        let small = cap <= limits::TABLES_INLINE_READS_MAX as u64;
        self.read_with(small, move |state, conn| read::count(state, conn, &scan, cap)).await
    }

    /// Reads on a blocking thread for as long as `budget` says and somebody waits for it.
    async fn read_within<T: Send + 'static>(
        &self,
        budget: Option<Duration>,
        read: impl FnOnce(&State, &Connection, &Stop) -> Result<T, TablesError> + Send + 'static,
    ) -> Result<T, TablesError> {
        let state = Arc::clone(self.state());
        let handle = state.source.take().await?;
        let waiting = Waiting::default();
        let stop = waiting.stop();
        let mut reading =
            tokio::task::spawn_blocking(move || handle.with_until(&stop, |conn| read(&state, conn, &stop)));
        let answer = if let Ok(answer) = tokio::time::timeout(budget_of(budget), &mut reading).await {
            answer
        } else {
            drop(waiting);
            reading.await
        };
        answer.map_err(|why| engine(&why))?
    }

    /// See [`super::Tables::query`].
    ///
    /// # Errors
    /// As there.
    pub async fn query(&self, query: &Query) -> Result<Answer, TablesError> {
        let asked = query.clone();
        self.read_within(query.budget, move |state, conn, _| query::find(state, conn, &asked)).await
    }

    /// See [`super::Tables::explain_query`]: the plan, the steps of SQLite's machine, and how many were found.
    ///
    /// # Errors
    /// As there.
    pub async fn explain_query(&self, query: &Query) -> Result<String, TablesError> {
        let asked = query.clone();
        self.read_within(query.budget, move |state, conn, _| query::explain(state, conn, &asked)).await
    }

    /// See [`super::Tables::query_counts`].
    ///
    /// # Errors
    /// As there.
    pub async fn query_counts(
        &self,
        queries: &[Query],
        bounds: Bounds,
    ) -> Result<Vec<Option<u64>>, TablesError> {
        let asked = queries.to_vec();
        let read = move |state: &State, conn: &Connection, stop: &Stop| {
            query::counts(state, conn, &asked, bounds, stop)
        };
        match self.read_within(bounds.budget, read).await {
            Err(TablesError::TooCostly) => Ok(vec![None; queries.len()]), // it did not even begin
            counted => counted,
        }
    }

    /// See [`super::Tables::changes`].
    ///
    /// # Errors
    /// As there.
    pub async fn changes(&self, after: Seq, limit: u32) -> Result<Vec<Change>, TablesError> {
        let small = limit as usize <= limits::TABLES_INLINE_READS_MAX;
        self.read_with(small, move |_, conn| read::changes(conn, after, limit)).await
    }

    /// See [`super::Tables::prune`].
    ///
    /// # Errors
    /// As there.
    pub async fn prune(&self, before: Seq) -> Result<u64, TablesError> {
        let mut removed = 0;
        loop {
            // In steps, so that commits in between do not wait for long.
            let step = self.ask(|reply| Job::Prune { before, reply }).await?;
            removed += step.removed;
            if !step.more {
                return Ok(removed);
            }
        }
    }

    /// See [`super::Tables::applied`].
    ///
    /// # Errors
    /// As there.
    pub async fn applied(
        &self,
        projection: &str,
        stream: Stream,
        partition: u16,
        epoch: Epoch,
    ) -> Result<Applied, TablesError> {
        let projection = projection.to_owned();
        self.read_with(true, move |_, conn| read::applied(conn, &projection, stream, partition, epoch)).await
    }

    /// See [`super::Tables::now`].
    ///
    /// # Errors
    /// None; the port has them for engines that ask a server.
    #[allow(clippy::unused_async)] // the port is async for engines that ask a server
    pub async fn now(&self) -> Result<Seq, TablesError> {
        Ok(*self.state().committed.borrow())
    }

    /// See [`super::Tables::lease`].
    ///
    /// # Errors
    /// As there.
    pub async fn lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Token>, TablesError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.ask(|reply| Job::Lease { name, holder, now, until, reply }).await
    }

    /// See [`super::Tables::committed`].
    pub fn committed(&self) -> watch::Receiver<Seq> {
        self.state().committed.subscribe()
    }

    /// See [`super::Tables::describe`].
    pub fn describe(&self) -> String {
        self.state().describe.clone()
    }

    /// See [`super::Tables::close`].
    pub async fn close(&self) {
        let (done, ended) = oneshot::channel();
        let sent = match &self.inner.jobs {
            Some(jobs) => jobs.send(Job::Close(done)).await.is_ok(),
            None => false,
        };
        if sent && ended.await.is_err() {
            tracing::debug!("the tables were closed by another caller");
        }
        if let Source::Pool(readers) = &self.state().source {
            readers.close();
        }
    }
}
