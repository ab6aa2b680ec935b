//! The engines without us: what the same machine does with the same bytes when nothing is checked, keyed or folded.
//! The floor of `hilum bench`; never part of serving.

use std::path::Path;

use rusqlite::{Connection, params};

/// Why a floor could not be measured.
#[derive(Debug, thiserror::Error)]
#[error("bare engine: {0}")]
pub struct BareError(#[from] rusqlite::Error);

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
