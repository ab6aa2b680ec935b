//! Writes down which statements changed rows, for the floor of `hilum bench`. Off in a server.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use bytes::BytesMut;
use tokio_postgres::Statement;
use tokio_postgres::types::{IsNull, ToSql as _};

use super::Call;
use super::wire::Param;
use crate::bare::tape::{BLOB, COMMIT, NULL, ROWS, STATEMENT};

/// The tape of one schema; see [`crate::bare::tape`] for its form.
pub(super) struct Tape {
    out: BufWriter<File>,
    statements: HashMap<String, u32>,
}

impl Tape {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        Ok(Self { out, statements: HashMap::new() })
    }

    /// The calls of one commit that changed rows, each with its statement; `base` and `bad` are what they read.
    pub(super) fn commit<'c>(
        &mut self,
        calls: impl Iterator<Item = (&'c Call<'c>, &'c Statement)>,
        base: i64,
        bad: &str,
    ) -> io::Result<()> {
        for (call, statement) in calls {
            let next = self.statements.len() as u32;
            let number = if let Some(&known) = self.statements.get(&call.sql) {
                known
            } else {
                self.statements.insert(call.sql.clone(), next);
                self.out.write_all(&[STATEMENT])?;
                self.bytes(call.sql.as_bytes())?;
                next
            };
            let rows = call.params.first().map_or(0, |first| match first {
                Param::Many(items) => items.len(),
                Param::One(_) => 1,
            });
            self.out.write_all(&[ROWS])?;
            self.out.write_all(&number.to_be_bytes())?;
            self.out.write_all(&(rows as u32).to_be_bytes())?;
            self.out.write_all(&[call.params.len() as u8])?;
            for (param, ty) in call.params.iter().zip(statement.params()) {
                let mut encoded = BytesMut::new();
                match param.to_sql(ty, &mut encoded).map_err(io::Error::other)? {
                    IsNull::Yes => self.out.write_all(&[NULL])?,
                    IsNull::No => {
                        self.out.write_all(&[BLOB])?;
                        self.bytes(&encoded)?;
                    }
                }
            }
        }
        self.out.write_all(&[COMMIT])?;
        self.bytes(base.to_string().as_bytes())?;
        self.bytes(bad.as_bytes())?;
        self.out.flush()
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(&(bytes.len() as u32).to_be_bytes())?;
        self.out.write_all(bytes)
    }
}
