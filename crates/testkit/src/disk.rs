//! Damage on the disk, in place: also under a process that has the file open.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hilum_engines::sqlite_file::Fault;

/// Flips one bit in the first byte of each place where `needle` stands in the file; returns the places.
///
/// # Panics
/// When the file cannot be read or written, or holds no `needle`.
pub fn flip_bit(path: &Path, needle: &[u8]) -> Vec<usize> {
    let file = std::fs::read(path).expect("the file");
    let places: Vec<usize> =
        (0..=file.len().saturating_sub(needle.len())).filter(|&at| file[at..].starts_with(needle)).collect();
    assert!(!places.is_empty(), "the needle stands in no file");
    flip_bits_at(path, &places);
    places
}

/// Flips the same bits (back).
///
/// # Panics
/// As [`flip_bit`].
pub fn flip_bits_at(path: &Path, places: &[usize]) {
    let file = std::fs::File::options().read(true).write(true).open(path).expect("the file");
    for &at in places {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at as u64).expect("reads");
        file.write_all_at(&[byte[0] ^ 1], at as u64).expect("writes");
    }
}

/// Bytes of a page of the log's file.
const LOG_PAGE_BYTES: usize = 8_192;

fn damage_page(path: &Path, page: usize) {
    let file = std::fs::File::options().write(true).open(path).expect("the file");
    file.write_all_at(&[0xAA; LOG_PAGE_BYTES], (page * LOG_PAGE_BYTES) as u64).expect("writes");
}

/// Makes the page of a log's file unreadable on which `needle` stands for the last time.
///
/// # Panics
/// As [`flip_bit`].
pub fn damage_log_page(path: &Path, needle: &[u8]) {
    let file = std::fs::read(path).expect("the file");
    let at = file.windows(needle.len()).rposition(|bytes| bytes == needle).expect("the needle stands there");
    damage_page(path, at / LOG_PAGE_BYTES);
}

/// Makes the first page of a table of a log's file unreadable: all of it where the table is small.
///
/// # Panics
/// When there is no such table.
pub fn damage_log_table(path: &Path, table: &str) {
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let root: u32 = rusqlite::Connection::open(path)
        .and_then(|conn| conn.query_row(sql, [table], |row| row.get(0)))
        .expect("the table");
    damage_page(path, root as usize - 1);
}

/// Takes a column out of a table of `tables.sqlite`, as a program left it that did not have it yet.
///
/// # Panics
/// When there is no such column.
pub fn forget_column(path: &Path, table: &str, column: &str) {
    let declared =
        "UPDATE hilum_table SET declaration = json_remove(declaration, '$.columns.' || ?2) WHERE name = ?1";
    let changed = rusqlite::Connection::open(path).and_then(|conn| {
        conn.execute_batch(&format!("ALTER TABLE {table} DROP COLUMN \"{column}\""))?;
        conn.execute(declared, [table, column])
    });
    assert_eq!(changed.expect("the column"), 1);
}

/// Keeps every other writer out of a SQLite file for as long as it lives, as a forgotten shell would.
#[derive(Debug)]
pub struct Held(#[allow(dead_code)] rusqlite::Connection);

/// Takes the file's write lock.
///
/// # Panics
/// When it cannot be had.
pub fn hold(path: &Path) -> Held {
    let conn = rusqlite::Connection::open(path).expect("the file");
    conn.execute_batch("BEGIN IMMEDIATE").expect("its lock");
    Held(conn)
}

/// Stops a writer inside its commit until it is let go.
#[derive(Debug)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// A gate that is shut, and the hook that waits at it.
    pub fn shut() -> (Self, Fault) {
        let open = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&open);
        let fault = move |_: &str| {
            while !seen.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        };
        (Self(open), Arc::new(fault))
    }

    /// Lets the writer go on.
    pub fn open(&self) {
        self.0.store(true, Ordering::Release);
    }
}
