//! What may stand in one group: batches that fit the declarations and do not touch each other.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};

use super::Reply;
use crate::limits;
use crate::tables::postgres::Catalog;
use crate::tables::postgres::wire::{THIS_COMMIT, time_fits};
use crate::tables::shape::{key_of, shape};
use crate::tables::{Batch, Column, Table, TablesError, Value, Write};

/// Refuses a text that PostgreSQL cannot hold.
pub(in crate::tables::postgres) fn no_nul(table: &str, text: &str) -> Result<(), TablesError> {
    if text.contains('\0') { Err(shape(table, "a name with NUL")) } else { Ok(()) }
}

/// A batch that fits the declarations, with what it touches.
pub(in crate::tables::postgres) struct Checked {
    pub(super) batch: Batch,
    /// Hashes of what it must see as its neighbours leave it: expected rows.
    reads: Vec<u64>,
    /// Hashes of the rows that it writes for good, and of its offset row.
    writes: Vec<u64>,
    /// Hashes of the registers that it offers: those of neighbours are merged.
    offers: Vec<u64>,
    pub(super) size_bytes: usize,
    /// Rows that it writes, offers and removes.
    rows: usize,
}

fn hash(table: &str, key: &[Value]) -> u64 {
    let mut hasher = DefaultHasher::new();
    table.hash(&mut hasher);
    key.hash(&mut hasher);
    hasher.finish()
}

/// Whether a key is of the commit that writes it, so that no neighbour can have it: two batches that say the same mean two
/// rows.
fn is_new(key: &[Value]) -> bool {
    key.iter().any(|value| matches!(value, Value::ThisCommit | Value::ThisCommitNth(_)))
}

/// The size of a row, which PostgreSQL must be able to hold.
fn size_bytes<'v>(
    table: &Table,
    values: impl Iterator<Item = (&'v Column, &'v Value)>,
) -> Result<usize, TablesError> {
    let mut size = 0;
    for (column, value) in values {
        let why = match value {
            Value::Time(at) if !time_fits(*at) => "outside 4713 BC to 294276 AD",
            Value::Seq(seq) if seq.0 == THIS_COMMIT => "no commit",
            _ => "",
        };
        if !why.is_empty() {
            return Err(shape(table.name, format!("column {}: {why}", column.name)));
        }
        size += match value {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            _ => 16,
        };
    }
    Ok(size)
}

impl Checked {
    pub(in crate::tables::postgres) fn new(tables: &Catalog, mut batch: Batch) -> Result<Self, TablesError> {
        tables.schema.check_batch(&mut batch)?;
        let reads = batch.expects.iter().map(|expect| hash(expect.table, &expect.key)).collect();
        let (mut writes, mut offers, mut size) = (Vec::with_capacity(batch.writes.len()), Vec::new(), 0);
        for write in &batch.writes {
            let table = tables.schema.table(write.table())?;
            let key = key_of(table, write);
            let (is_new, key) = (is_new(key), hash(table.name, key));
            match write {
                Write::Put { values, .. } => {
                    if !is_new {
                        writes.push(key);
                    }
                    size += size_bytes(table, table.columns.iter().zip(values))?;
                }
                Write::PutIfNewer { values, .. } => {
                    offers.push(key);
                    size += size_bytes(table, table.columns.iter().zip(values))?;
                }
                Write::Set { columns, .. } => {
                    writes.push(key);
                    let set = columns
                        .iter()
                        .filter_map(|(name, value)| Some((table.columns.get(table.column(name)?)?, value)));
                    size += size_bytes(table, set)?;
                }
                Write::Delete { .. } => writes.push(key),
            }
        }
        if let Some(moved) = &batch.offset {
            no_nul("(offset)", moved.projection)?;
            let mut hasher = DefaultHasher::new();
            (moved.projection, moved.stream.as_str(), moved.partition).hash(&mut hasher);
            writes.push(hasher.finish());
        }
        size += batch.outbox.iter().map(|outgoing| outgoing.body.len()).sum::<usize>();
        if size > limits::BATCH_BYTES_MAX {
            return Err(shape("(batch)", format!("more than {} bytes", limits::BATCH_BYTES_MAX)));
        }
        let rows = batch.writes.len() + usize::from(batch.offset.is_some());
        Ok(Self { batch, reads, writes, offers, size_bytes: size, rows })
    }
}

/// A batch whose caller waits.
pub(super) struct Waiting {
    pub(super) checked: Box<Checked>,
    pub(super) reply: Reply,
}

/// Takes from the front of `waiting` what may stand in one group: batches that do not touch each other. What does
/// not fit waits for the next group and is then checked against what this one left behind.
pub(super) fn take_group(waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let mut group: Vec<Waiting> = Vec::new();
    let mut later: VecDeque<Waiting> = VecDeque::new();
    let (mut written, mut offered): (HashSet<u64>, HashSet<u64>) = (HashSet::new(), HashSet::new());
    let (mut rows, mut bytes) = (0, 0);
    while let Some(next) = waiting.pop_front() {
        if next.reply.is_closed() {
            continue; // nobody waits for it any more
        }
        let Checked { reads, writes, offers, size_bytes, rows: own, .. } = &*next.checked;
        let full = group.len() >= limits::TABLES_GROUP_BATCHES_MAX
            || rows + own > limits::TABLES_GROUP_WRITES_MAX
            || bytes + size_bytes > limits::TABLES_GROUP_BYTES_MAX;
        if full && !group.is_empty() {
            later.push_back(next);
            break;
        }
        let touched = reads.iter().any(|row| written.contains(row) || offered.contains(row))
            || writes.iter().any(|row| written.contains(row) || offered.contains(row))
            || offers.iter().any(|row| written.contains(row));
        if touched {
            later.push_back(next);
            continue;
        }
        rows += own;
        bytes += size_bytes;
        written.extend(writes);
        offered.extend(offers);
        group.push(next);
    }
    later.append(waiting);
    *waiting = later;
    group
}
