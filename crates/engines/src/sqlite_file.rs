//! What the embedded log and the SQLite tables share: how a file is owned, opened, synced, read and emptied of its
//! write-ahead log.
//!
//! A disk error is final for the process. An fsync that failed may succeed when it is asked again although the
//! pages are gone, so nothing here retries one: not a commit, not a checkpoint, and no connection checkpoints when
//! it closes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;

/// When a commit counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncMode {
    /// When it is fsynced.
    #[default]
    Full,
    /// When the operating system has it: survives the process, not the power. For tests, and planted as a fault.
    Off,
}

impl SyncMode {
    /// Its name for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "fsync",
            Self::Off => "none",
        }
    }
}

/// A test's hook that makes the disk fail at a named place.
pub type Fault = Arc<dyn Fn(&str) -> io::Result<()> + Send + Sync>;

/// Asks the hook, if there is one.
pub(crate) fn ask(fault: Option<&Fault>, place: &str) -> Result<(), String> {
    fault.map_or(Ok(()), |fault| fault(place)).map_err(|why| format!("{place}: {why}"))
}

/// Why a file is not ours.
#[derive(Debug)]
pub(crate) enum OwnError {
    /// Another handle has it.
    InUse,
    /// The lock file cannot be made or read.
    Io(io::Error),
}

/// The only handle of a SQLite file, as long as it lives. It locks `<file>.lock` beside the file: opening and closing
/// the file itself would drop the locks that SQLite holds on it.
#[derive(Debug)]
pub(crate) struct Owned {
    _lock: File,
}

impl Owned {
    /// Takes the file, made empty and readable by its owner alone when it is not there.
    pub(crate) fn take(path: &Path) -> Result<Self, OwnError> {
        let open = |path: &Path| {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
        };
        let lock = open(&beside(path, ".lock")).map_err(OwnError::Io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(OwnError::InUse),
            Err(std::fs::TryLockError::Error(why)) => return Err(OwnError::Io(why)),
        }
        if !path.exists() {
            open(path).and_then(|file| file.sync_all()).map_err(OwnError::Io)?;
            // The name itself must survive a power cut too.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))
                .and_then(|folder| folder.sync_all())
                .map_err(OwnError::Io)?;
        }
        Ok(Self { _lock: lock })
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// How a connection is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning {
    pub(crate) sync: SyncMode,
    pub(crate) cache_kib: u32,
    /// Bytes of a page; only a file that is being made takes it.
    pub(crate) page_bytes: u32,
}

/// Opens the writing connection.
pub(crate) fn open_writer(path: &Path, tuning: Tuning) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    prepare_writer(&conn, tuning)?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        // A file system without shared memory, say.
        return Err(rusqlite::Error::InvalidPath(format!("no write-ahead log here, but {mode}").into()));
    }
    Ok(conn)
}

/// Sets a writing connection, in memory or of a file.
pub(crate) fn prepare_writer(conn: &Connection, tuning: Tuning) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Or a statement is planned anew each time that the value of its limit differs: that is a fifth of a scan's time.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    let synchronous = match tuning.sync {
        SyncMode::Full => "FULL",
        SyncMode::Off => "OFF",
    };
    conn.execute_batch(&format!(
        "PRAGMA page_size = {};
         PRAGMA synchronous = {synchronous};
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA cache_size = -{};
         PRAGMA temp_store = MEMORY;
         PRAGMA busy_timeout = 5000;",
        tuning.page_bytes, tuning.cache_kib
    ))?;
    conn.set_prepared_statement_cache_capacity(256);
    Ok(())
}

/// Opens a reading connection.
pub(crate) fn open_reader(path: &Path, cache_kib: u32) -> rusqlite::Result<Connection> {
    // Read-write, or it could not map the index of the write-ahead log; `query_only` is what keeps it from writing.
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Or a statement is planned anew each time that the value of its limit differs: that is a fifth of a scan's time.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.execute_batch(&format!(
        "PRAGMA query_only = ON; PRAGMA cache_size = -{cache_kib}; PRAGMA temp_store = MEMORY; PRAGMA busy_timeout = 5000;"
    ))?;
    conn.set_prepared_statement_cache_capacity(128);
    Ok(conn)
}

/// Moves the write-ahead log into the file now and then.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    pages_max: i64,
    /// Pages in the log before which nothing is tried again (a reader may have held the last try back).
    not_before: i64,
}

impl Checkpoints {
    pub(crate) const fn new(pages_max: i64) -> Self {
        Self { pages_max, not_before: 0 }
    }

    /// Checkpoints when the log has grown to its bound. An error is final, as one of a commit.
    pub(crate) fn run_if_due(&mut self, conn: &Connection, fault: Option<&Fault>) -> Result<(), String> {
        let (pages, moved) = wal_pages(conn, "NOOP").map_err(|why| why.to_string())?;
        if pages - moved < self.pages_max || pages < self.not_before {
            return Ok(());
        }
        ask(fault, "checkpoint")?;
        let (pages, moved) = wal_pages(conn, "PASSIVE").map_err(|why| format!("checkpoint: {why}"))?;
        self.not_before = if moved < pages { pages + self.pages_max / 4 } else { 0 };
        Ok(())
    }

    /// Moves all and empties the log: at the end of an orderly close.
    pub(crate) fn finish(conn: &Connection, fault: Option<&Fault>) -> Result<(), String> {
        ask(fault, "checkpoint")?;
        wal_pages(conn, "TRUNCATE").map(|_| ()).map_err(|why| format!("checkpoint: {why}"))
    }
}

/// Pages in the write-ahead log, and how many of them are in the file already.
fn wal_pages(conn: &Connection, mode: &'static str) -> rusqlite::Result<(i64, i64)> {
    let mut statement = conn.prepare_cached(match mode {
        "NOOP" => "PRAGMA wal_checkpoint(NOOP)",
        "PASSIVE" => "PRAGMA wal_checkpoint(PASSIVE)",
        _ => "PRAGMA wal_checkpoint(TRUNCATE)",
    })?;
    statement.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
}

/// Bytes that may still be written to the volume of `path`, and its size.
pub(crate) fn volume_bytes(path: &Path) -> io::Result<(u64, u64)> {
    let volume = rustix::fs::statvfs(path)?;
    Ok((volume.f_bavail.saturating_mul(volume.f_frsize), volume.f_blocks.saturating_mul(volume.f_frsize)))
}

/// A bounded pool of reading connections of one file.
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    cache_kib: u32,
    /// Each with whether it has a page cache for queries.
    idle: Mutex<Vec<(Connection, bool)>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(path: &Path, cache_kib: u32) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            cache_kib,
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(limits::SQLITE_READERS_MAX)),
        })
    }

    /// A connection for one read; waits while all are in use.
    pub(crate) async fn take(self: &Arc<Self>) -> Result<Reader, String> {
        let permit =
            Arc::clone(&self.permits).acquire_owned().await.map_err(|_| "the file is closed".to_owned())?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (conn, is_roomy) = match idle {
            Some(idle) => idle,
            None => (open_reader(&self.path, self.cache_kib).map_err(|why| why.to_string())?, false),
        };
        Ok(Reader { conn: Some(conn), is_roomy, pool: Arc::clone(self), _permit: permit })
    }

    /// Closes what is idle and refuses further reads.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection that goes back to its pool.
#[derive(Debug)]
pub(crate) struct Reader {
    conn: Option<Connection>,
    is_roomy: bool,
    pool: Arc<Readers>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// The connection.
    pub(crate) fn conn(&self) -> &Connection {
        self.conn.as_ref().expect("taken only at its end")
    }

    /// The connection, with a page cache for queries, which come by the same pages again and again.
    pub(crate) fn for_query(&mut self) -> rusqlite::Result<&mut Connection> {
        let conn = self.conn.as_mut().expect("taken only at its end");
        if !self.is_roomy {
            conn.pragma_update(None, "cache_size", -i64::from(limits::QUERY_CACHE_KIB))?;
            self.is_roomy = true;
        }
        Ok(conn)
    }

    /// Closes the connection instead of giving it back: its page cache is not to be read again.
    pub(crate) fn discard(mut self) {
        drop(self.conn.take());
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take()
            && !self.pool.permits.is_closed()
        {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push((conn, self.is_roomy));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_library_is_new_enough() {
        // Builds before 3.51.3 can corrupt a write-ahead log that is reset while it is checkpointed.
        assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
    }

    #[test]
    fn a_file_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sqlite");
        let first = Owned::take(&path).unwrap();
        assert!(matches!(Owned::take(&path), Err(OwnError::InUse)));
        drop(first);
        Owned::take(&path).unwrap();
    }

    #[tokio::test]
    async fn who_has_queried_keeps_more_pages() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sqlite");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE x (a)").unwrap();
        let readers = Readers::new(&path, limits::READER_CACHE_KIB);
        let kib =
            |conn: &Connection| conn.query_row("PRAGMA cache_size", [], |row| row.get::<_, i64>(0)).unwrap();
        let (plain, mut reader) = (readers.take().await.unwrap(), readers.take().await.unwrap());
        assert_eq!(kib(reader.conn()), -i64::from(limits::READER_CACHE_KIB));
        assert_eq!(kib(reader.for_query().unwrap()), -i64::from(limits::QUERY_CACHE_KIB));
        drop((plain, reader));
        let again = readers.take().await.unwrap();
        assert_eq!(kib(again.conn()), -i64::from(limits::QUERY_CACHE_KIB), "the last one that came back");
    }

    #[test]
    fn the_write_ahead_log_is_moved_at_its_bound_and_its_failure_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sqlite");
        let _owned = Owned::take(&path).unwrap();
        let conn =
            open_writer(&path, Tuning { sync: SyncMode::Off, cache_kib: 1024, page_bytes: 512 }).unwrap();
        conn.execute_batch("CREATE TABLE x (b BLOB)").unwrap();
        let mut checkpoints = Checkpoints::new(1_000);
        checkpoints.run_if_due(&conn, None).unwrap();
        assert_eq!(wal_pages(&conn, "NOOP").unwrap().1, 0, "nothing is moved before the bound");
        conn.execute("INSERT INTO x VALUES (zeroblob(?1))", [1_000 * 520]).unwrap();
        let broken: Fault = Arc::new(|place| Err(io::Error::other(format!("no {place}"))));
        assert!(checkpoints.run_if_due(&conn, Some(&broken)).is_err());
        checkpoints.run_if_due(&conn, None).unwrap();
        let (pages, moved) = wal_pages(&conn, "NOOP").unwrap();
        assert!(pages >= 1_000 && moved == pages, "{moved} of {pages}");
    }
}
