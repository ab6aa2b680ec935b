//! Writes down which row statements the writer ran, for the floor of `hilum bench`: the same rows, in the same commits,
//! by the bare engine. Off in a server.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use rusqlite::types::{ToSqlOutput, ValueRef};

use super::value::{Stamp, as_sql};
use crate::bare::tape::{BLOB, COMMIT, INT, NULL, ROW, STATEMENT, TEXT};
use crate::tables::Value;

/// The tape of one file of tables; see [`crate::bare::tape`] for its form.
#[derive(Debug)]
pub(super) struct Tape {
    out: BufWriter<File>,
    statements: HashMap<String, u32>,
    /// Of the group that is being written.
    open: Vec<u8>,
}

impl Tape {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        Ok(Self { out, statements: HashMap::new(), open: Vec::new() })
    }

    /// One statement that changed a row, with its parameters.
    pub(super) fn row<'v>(&mut self, sql: &str, values: impl IntoIterator<Item = &'v Value>, stamp: Stamp) {
        let next = self.statements.len() as u32;
        let statement = if let Some(&known) = self.statements.get(sql) {
            known
        } else {
            self.statements.insert(sql.to_owned(), next);
            self.open.push(STATEMENT);
            self.bytes(sql.as_bytes());
            next
        };
        self.open.push(ROW);
        self.open.extend(statement.to_be_bytes());
        let count = self.open.len();
        self.open.push(0);
        for value in values {
            self.open[count] += 1;
            match as_sql(value, stamp) {
                ToSqlOutput::Borrowed(ValueRef::Integer(int)) => {
                    self.open.push(INT);
                    self.open.extend(int.to_be_bytes());
                }
                ToSqlOutput::Borrowed(ValueRef::Text(text)) => {
                    self.open.push(TEXT);
                    self.bytes(text);
                }
                ToSqlOutput::Borrowed(ValueRef::Blob(blob)) => {
                    self.open.push(BLOB);
                    self.bytes(blob);
                }
                _ => self.open.push(NULL),
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.open.extend((bytes.len() as u32).to_be_bytes());
        self.open.extend(bytes);
    }

    /// The group is committed.
    pub(super) fn commit(&mut self) -> io::Result<()> {
        self.open.push(COMMIT);
        self.out.write_all(&self.open)?;
        self.open.clear();
        self.out.flush()
    }
}
