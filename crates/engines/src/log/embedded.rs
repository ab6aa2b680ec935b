//! The embedded log: SQLite in its own file, one group-commit writer.
//!
//! Callers hand their records to a queue that is bounded in bytes. One thread takes what waits, inserts it, and
//! commits it with one fsync; what comes in meanwhile is the next group. There is no timer: alone, a record costs
//! one fsync; in a crowd the groups grow by themselves.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use hilum_core::{Clock, Digest, Entropy, Envelope, Epoch, Position, Stream, Timestamp};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::layout::Layout;
use self::writer::{Command, Entry, Writer};
use super::{DamagedEnd, LogError, LogHealth, ReadMax, Record, partition_of};
use crate::limits;
use crate::sqlite_file::{Fault, OwnError, Owned, Readers, SyncMode, Tuning, open_writer, volume_bytes};

mod ends;
mod file;
mod layout;
mod read;
mod writer;

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
    /// Pages in the write-ahead log before they are moved into the file.
    pub wal_pages_max: i64,
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
            wal_pages_max: limits::LOG_WAL_PAGES_MAX,
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

/// The embedded log. Cheap to clone; when the last clone is dropped, what waits is written out first.
#[derive(Debug, Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Arc<State>,
    /// Absent only while dropping.
    commands: Option<mpsc::UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log's writer panicked");
        }
    }
}

/// What the writer and the callers share.
#[derive(Debug)]
struct State {
    folder: PathBuf,
    clock: Clock,
    layout: Layout,
    epoch: Epoch,
    created: Timestamp,
    options: Options,
    /// Partitions whose newest records cannot be read.
    damaged: Vec<DamagedEnd>,
    /// One permit for each byte that may wait.
    queue: Arc<Semaphore>,
    closed: AtomicBool,
    health: Mutex<Health>,
    disk_checked: AtomicI64,
    published: Mutex<Published>,
    appended: watch::Sender<u64>,
    readers: Arc<Readers>,
}

#[derive(Debug, Default)]
struct Health {
    read_only: Option<String>,
    full: Option<String>,
    /// Another process had the file's write lock when it was last asked for.
    held: bool,
}

/// What is said while that lasts.
const HELD: &str = "another process holds the write lock of the log's file";

/// What is durable, and known to be.
#[derive(Debug)]
struct Published {
    /// The next offset of each slot.
    ends: Vec<u64>,
    /// The newest group of this process and its instant: it reaches the file with the next group.
    last: Option<(i64, Timestamp)>,
}

impl State {
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing is accepted; the first reason stays.
    fn turn_read_only(&self, why: &str) {
        let mut health = self.health();
        if health.read_only.is_none() {
            tracing::error!(why, "the log is read-only until a restart");
            health.read_only = Some(why.to_owned());
        }
    }

    /// Notes whether somebody else holds the file. No record is refused for it: each asks anew.
    fn set_held(&self, held: bool) {
        let was = std::mem::replace(&mut self.health().held, held);
        match (was, held) {
            (false, true) => tracing::error!("{HELD}: nothing can be appended"),
            (true, false) => tracing::info!("the log's file is free again"),
            _ => {}
        }
    }

    /// Whether it is known where the partition ends.
    fn is_sure(&self, slot: usize) -> Result<(), LogError> {
        match self.layout.slots().get(slot) {
            Some(slot) if slot.is_unsure => {
                Err(LogError::Unsure { stream: slot.stream, partition: slot.partition })
            }
            _ => Ok(()),
        }
    }

    /// Whether a record would be taken at all just now.
    fn accepting(&self) -> Result<(), LogError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(LogError::ReadOnly("closed".to_owned()));
        }
        self.check_disk();
        let health = self.health();
        if let Some(why) = &health.read_only {
            return Err(LogError::ReadOnly(why.clone()));
        }
        health.full.as_ref().map_or(Ok(()), |why| Err(LogError::Full(why.clone())))
    }

    /// Looks at the free space of the volume, if the last look is old enough.
    fn check_disk(&self) {
        let now = self.clock.now().as_micros();
        let last = self.disk_checked.load(Ordering::Acquire);
        let fresh = last != i64::MIN && now.abs_diff(last) < limits::DISK_CHECK_MICROS.unsigned_abs();
        if fresh
            || self.disk_checked.compare_exchange(last, now, Ordering::AcqRel, Ordering::Acquire).is_err()
        {
            return;
        }
        let full = match volume_bytes(&self.folder) {
            // What waits is written twice: to the write-ahead log and to the file.
            Ok((free, size)) => {
                let waiting = 2 * self.queue_bytes() as u64;
                let reserve = (size as f64 * self.options.disk_reserve_ratio) as u64;
                (free.saturating_sub(waiting) < reserve)
                    .then(|| format!("{free} bytes free on the volume, {reserve} are reserved"))
            }
            Err(why) => Some(format!("free space of the volume is unknown: {why}")),
        };
        let mut health = self.health();
        if health.full.is_some() != full.is_some() {
            if let Some(why) = &full {
                tracing::error!(why, "the log does not accept");
            } else {
                tracing::info!("the log accepts again");
            }
        }
        health.full = full;
    }

    fn queue_bytes(&self) -> usize {
        self.options.queue_bytes_max.saturating_sub(self.queue.available_permits())
    }
}

/// Takes the file, made when it is not there, and reads its layout.
fn open_file(
    path: &Path,
    clock: &Clock,
    entropy: &Entropy,
    options: &Options,
) -> Result<(Owned, rusqlite::Connection, file::Opened), LogError> {
    let shown = path.display();
    let engine = |why: &dyn fmt::Display| LogError::Engine(format!("{shown}: {why}"));
    let owned = Owned::take(path).map_err(|why| match why {
        OwnError::InUse => LogError::InUse { path: shown.to_string() },
        OwnError::Io(why) => engine(&why),
    })?;
    let tuning =
        Tuning { sync: options.sync, cache_kib: limits::LOG_WRITER_CACHE_KIB, page_bytes: file::PAGE_BYTES };
    let conn = open_writer(path, tuning).map_err(|why| engine(&why))?;
    let opened = file::open(&conn, clock, entropy, options.partitions).map_err(|why| engine(&why))?;
    Ok((owned, conn, opened))
}

impl Embedded {
    /// Opens the log in the file `path`, made with a new epoch when it is not there, and starts its writer thread.
    ///
    /// # Errors
    /// [`LogError::InUse`] when it is open already, [`LogError::Engine`] for the rest.
    #[allow(clippy::needless_pass_by_value)] // handed over as the clock is
    pub fn open(path: &Path, clock: Clock, entropy: Entropy, options: Options) -> Result<Self, LogError> {
        let engine = |why: &dyn fmt::Display| LogError::Engine(format!("{}: {why}", path.display()));
        let (owned, conn, opened) = open_file(path, &clock, &entropy, &options)?;
        let queue_bytes_max = options.queue_bytes_max.min(Semaphore::MAX_PERMITS);
        let state = Arc::new(State {
            folder: path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned(),
            clock,
            layout: opened.layout,
            epoch: opened.epoch,
            created: opened.created,
            options: Options { queue_bytes_max, ..options },
            damaged: opened.damaged,
            queue: Arc::new(Semaphore::new(queue_bytes_max)),
            closed: AtomicBool::new(false),
            health: Mutex::default(),
            disk_checked: AtomicI64::new(i64::MIN),
            published: Mutex::new(Published { ends: opened.ends.clone(), last: None }),
            appended: watch::Sender::new(0),
            readers: Readers::new(path, limits::READER_CACHE_KIB),
        });
        let (commands, receiver) = mpsc::unbounded_channel();
        let writer = Writer::new(Arc::clone(&state), conn, owned, opened.ends, opened.group);
        let thread = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run(receiver))
            .map_err(|why| engine(&why))?;
        Ok(Self { inner: Arc::new(Inner { state, commands: Some(commands), thread: Some(thread) }) })
    }

    /// Lets the partitions of a closed log go on whose end is not known ([`LogError::Unsure`]): behind all that can be
    /// read of them, and behind what was `applied` of them. Records that came after that and cannot be read are given
    /// up: their offsets are given again. Returns where each of them goes on.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn settle(
        path: &Path,
        clock: &Clock,
        entropy: &Entropy,
        applied: &dyn Fn(Stream, u16) -> u64,
    ) -> Result<Vec<Position>, LogError> {
        let (_owned, conn, mut opened) = open_file(path, clock, entropy, &Options::default())?;
        let settled = file::settle(&conn, &mut opened.layout, applied)
            .map_err(|why| LogError::Engine(format!("{}: {why}", path.display())))?;
        let place = |(stream, partition, offset)| Position { stream, partition, offset };
        Ok(settled.into_iter().map(place).collect())
    }

    fn state(&self) -> &State {
        &self.inner.state
    }

    /// See [`super::Log::append`].
    ///
    /// # Errors
    /// As there; [`LogError::TooLarge`] beyond the bound, [`LogError::Engine`] when the digest is not the body's.
    pub async fn append(&self, envelope: Envelope) -> Result<Position, LogError> {
        let state = self.state();
        state.accepting()?;
        let slot = state.layout.slot(envelope.stream, partition_of(envelope.key, state.layout.partitions()));
        state.is_sure(slot)?;
        let header =
            serde_json::to_vec(&envelope).map_err(|why| LogError::Engine(format!("header: {why}")))?;
        let size_bytes = header.len() + envelope.body.len();
        let size_bytes_max = limits::LOG_RECORD_BYTES_MAX.min(state.options.queue_bytes_max);
        if size_bytes > size_bytes_max {
            return Err(LogError::TooLarge { size_bytes, size_bytes_max });
        }
        // Durable but unreadable would be worse than refused.
        if Digest::of(&envelope.body) != envelope.digest {
            return Err(LogError::Engine("the digest is not the body's".to_owned()));
        }
        let closed = || LogError::ReadOnly("closed".to_owned());
        // Unconstrained: the runtime's budget would put off some of a connection's pipelined messages and so change
        // their order.
        let room = Arc::clone(&state.queue).acquire_many_owned(size_bytes as u32);
        let permit = tokio::task::unconstrained(room).await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let entry = Entry { slot, header, body: envelope.body, permit, reply };
        let commands = self.inner.commands.as_ref().ok_or_else(closed)?;
        commands.send(Command::Append(entry)).map_err(|_| closed())?;
        answer.await.map_err(|_| LogError::ReadOnly("the writer is gone".to_owned()))?
    }

    /// See [`super::Log::ready`].
    ///
    /// # Errors
    /// As there.
    pub fn ready(&self, size_bytes: usize) -> Result<(), LogError> {
        let state = self.state();
        state.accepting()?;
        let size_bytes_max = limits::LOG_RECORD_BYTES_MAX.min(state.options.queue_bytes_max);
        if size_bytes > size_bytes_max {
            return Err(LogError::TooLarge { size_bytes, size_bytes_max });
        }
        if state.queue.available_permits() < size_bytes {
            return Err(LogError::Full(format!("{} bytes wait for the disk", state.queue_bytes())));
        }
        Ok(())
    }

    /// See [`super::Log::read`]. What stands before an unreadable record is given back; the next read names it.
    ///
    /// # Errors
    /// As there.
    pub async fn read(
        &self,
        stream: Stream,
        partition: u16,
        from: u64,
        max: ReadMax,
    ) -> Result<Vec<Record>, LogError> {
        let state = Arc::clone(&self.inner.state);
        let wanted = read::Wanted::new(&state, stream, partition, from, max)?;
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let reader = state.readers.take().await.map_err(LogError::Engine)?;
        if wanted.records() <= limits::LOG_INLINE_READ_RECORDS_MAX as u64 {
            return wanted.read_with(&state, reader);
        }
        tokio::task::spawn_blocking(move || wanted.read_with(&state, reader))
            .await
            .map_err(|why| LogError::Engine(why.to_string()))?
    }

    /// See [`super::Log::end`].
    ///
    /// # Errors
    /// [`LogError::Engine`] when there is no such partition; [`LogError::Unsure`] when its end is not known.
    #[allow(clippy::unused_async)] // the port is async for engines that ask a broker
    pub async fn end(&self, stream: Stream, partition: u16) -> Result<u64, LogError> {
        let slot = self.state().layout.known_slot(stream, partition)?;
        self.state().is_sure(slot)?;
        Ok(self.state().published().ends[slot])
    }

    /// See [`super::Log::appended`].
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.state().appended.subscribe()
    }

    /// See [`super::Log::partitions`].
    pub fn partitions(&self) -> u16 {
        self.state().layout.partitions()
    }

    /// See [`super::Log::epoch`].
    pub fn epoch(&self) -> Epoch {
        self.state().epoch
    }

    /// See [`super::Log::created`].
    pub fn created(&self) -> Timestamp {
        self.state().created
    }

    /// See [`super::Log::health`].
    pub fn health(&self) -> LogHealth {
        let state = self.state();
        if !state.closed.load(Ordering::Acquire) {
            state.check_disk();
        }
        let health = state.health();
        LogHealth {
            read_only: health.read_only.clone(),
            full: health.full.clone(),
            damaged: state.damaged.clone(),
            gone: Vec::new(),
            held: health.held.then(|| HELD.to_owned()),
            queue_bytes: state.queue_bytes(),
            durability: state.options.sync.as_str(),
        }
    }

    /// See [`super::Log::look`].
    pub async fn look(&self) {
        let (done, looked) = oneshot::channel();
        if self.inner.commands.as_ref().is_some_and(|c| c.send(Command::Look(done)).is_ok()) {
            // One that closes meanwhile has nothing to say.
            looked.await.ok();
        }
    }

    /// See [`super::Log::close`].
    pub async fn close(&self) {
        self.state().closed.store(true, Ordering::Release);
        let (done, closed) = oneshot::channel();
        let sent = self.inner.commands.as_ref().is_some_and(|c| c.send(Command::Close(done)).is_ok());
        if sent && closed.await.is_err() {
            tracing::debug!("the log was closed by another caller");
        }
        self.state().readers.close();
    }
}
