//! The engines without us: what the same machine does with the same bytes when nothing is checked, keyed or folded.
//! The floor of `hilum bench`; never part of serving.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params};

pub mod kafka;
pub mod postgres;

/// The form of a tape: one byte says what comes. Numbers are big end first; a length is four bytes.
pub(crate) mod tape {
    /// A statement's length and text: the next one in order.
    pub(crate) const STATEMENT: u8 = b'S';
    /// A statement's number (four bytes), how many parameters (one byte), the parameters.
    pub(crate) const ROW: u8 = b'R';
    /// A statement's number (four bytes), how many rows its arrays hold (four bytes), how many parameters (one byte), the
    /// parameters as they went over the wire.
    pub(crate) const ROWS: u8 = b'M';
    /// What was said since the last one was committed. Of PostgreSQL: the counter before, and the batches that were left
    /// out, follow as text.
    pub(crate) const COMMIT: u8 = b'C';
    /// A parameter: absent.
    pub(crate) const NULL: u8 = b'n';
    /// Eight bytes.
    pub(crate) const INT: u8 = b'i';
    /// Length and text.
    pub(crate) const TEXT: u8 = b't';
    /// Length and bytes.
    pub(crate) const BLOB: u8 = b'b';
}

/// Why a floor could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum BareError {
    /// The engine.
    #[error("bare engine: {0}")]
    Engine(#[from] rusqlite::Error),
    /// PostgreSQL. Its code alone: a message may quote values.
    #[error("bare postgresql: {0}")]
    Postgres(String),
    /// Kafka.
    #[error("bare kafka: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// The tape.
    #[error("tape: {0}")]
    Tape(#[from] io::Error),
}

impl From<tokio_postgres::Error> for BareError {
    fn from(error: tokio_postgres::Error) -> Self {
        let code = error.code().map_or("the connection failed", tokio_postgres::error::SqlState::code);
        Self::Postgres(code.to_owned())
    }
}

fn open(path: &Path) -> Result<Connection, BareError> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// Appends `bodies` to a new file in groups, each group one transaction and one fsync.
///
/// # Errors
/// [`BareError`] when the file cannot be written.
pub fn append(path: &Path, bodies: &[Vec<u8>], group: usize) -> Result<(), BareError> {
    let mut connection = open(path)?;
    connection.execute_batch("CREATE TABLE record (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")?;
    for bodies in bodies.chunks(group.max(1)) {
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO record (body) VALUES (?1)")?;
            for body in bodies {
                insert.execute(params![body])?;
            }
        }
        transaction.commit()?;
    }
    Ok(())
}

/// The bodies of [`append`], read by their number: what a point read costs without us.
#[derive(Debug)]
pub struct Bodies {
    path: PathBuf,
    /// Connections that nobody uses now.
    free: Mutex<Vec<Connection>>,
}

impl Bodies {
    /// Those in the file at `path`.
    pub fn open(path: &Path) -> Self {
        Self { path: path.to_owned(), free: Mutex::default() }
    }

    /// The body `number`, from 1; none where there is none.
    ///
    /// # Errors
    /// [`BareError`] when the file cannot be read.
    pub fn get(&self, number: i64) -> Result<Option<Vec<u8>>, BareError> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = free.map_or_else(|| open(&self.path), Ok)?;
        let body = connection
            .prepare_cached("SELECT body FROM record WHERE id = ?1")?
            .query_row([number], |row| row.get(0))
            .optional()?;
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(body)
    }
}

/// What a replay did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Replayed {
    /// Transactions.
    pub commits: u64,
    /// Row statements.
    pub rows: u64,
    /// In the engine; reading the tape is not counted.
    pub time: Duration,
}

/// Runs the statements of a tape on a new file at `path` that has the tables and indexes of `like`: the same rows in the
/// same transactions, and nothing of what led to them. `elapsed` is a clock that only grows.
///
/// # Errors
/// [`BareError`] when a file cannot be read or written, or the tape is cut off.
pub fn replay(
    path: &Path,
    like: &Path,
    tape: &Path,
    elapsed: impl Fn() -> Duration,
) -> Result<Replayed, BareError> {
    let conn = open(path)?;
    conn.execute("ATTACH ?1 AS model", [like.to_string_lossy()])?;
    let tables: Vec<String> = conn
        .prepare("SELECT sql FROM model.sqlite_schema WHERE sql IS NOT NULL ORDER BY type DESC")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    conn.execute_batch("DETACH model")?;
    for table in &tables {
        conn.execute_batch(table)?;
    }
    conn.set_prepared_statement_cache_capacity(1_000);
    let mut tape = Reader(BufReader::with_capacity(1 << 20, File::open(tape)?));
    let (mut statements, mut rows): (Vec<String>, Vec<(usize, Vec<Value>)>) = (Vec::new(), Vec::new());
    let mut done = Replayed::default();
    while let Some(what) = tape.next()? {
        match what {
            tape::STATEMENT => statements.push(tape.text()?),
            tape::ROW => {
                let statement = u32::from_be_bytes(tape.array()?) as usize;
                let [count] = tape.array()?;
                let values = (0..count).map(|_| tape.value()).collect::<Result<_, _>>()?;
                rows.push((statement, values));
            }
            tape::COMMIT => {
                let begun = elapsed();
                conn.execute_batch("BEGIN IMMEDIATE")?;
                for (statement, values) in &rows {
                    let sql = statements.get(*statement).ok_or_else(cut_off)?;
                    conn.prepare_cached(sql)?.execute(rusqlite::params_from_iter(values))?;
                }
                conn.execute_batch("COMMIT")?;
                done.time += elapsed().saturating_sub(begun);
                done.commits += 1;
                done.rows += rows.len() as u64;
                rows.clear();
            }
            _ => return Err(cut_off().into()),
        }
    }
    Ok(done)
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the tape is damaged")
}

/// Reads a tape.
struct Reader(BufReader<File>);

impl Reader {
    fn next(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        Ok((self.0.read(&mut byte)? > 0).then_some(byte[0]))
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; u32::from_be_bytes(self.array()?) as usize];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn text(&mut self) -> io::Result<String> {
        String::from_utf8(self.bytes()?).map_err(|_| cut_off())
    }

    fn value(&mut self) -> io::Result<Value> {
        let [what] = self.array()?;
        match what {
            tape::NULL => Ok(Value::Null),
            tape::INT => Ok(Value::Integer(i64::from_be_bytes(self.array()?))),
            tape::TEXT => Ok(Value::Text(self.text()?)),
            tape::BLOB => Ok(Value::Blob(self.bytes()?)),
            _ => Err(cut_off()),
        }
    }
}
