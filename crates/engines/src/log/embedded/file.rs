//! The file's layout, version 1: one table for each (stream, partition), so that every insert is the rightmost of
//! its tree, and one row for each group with its durable instant.

use hilum_core::{Clock, Entropy, Epoch, Stream, Timestamp};
use rusqlite::{Connection, ErrorCode};
use uuid::Uuid;

use crate::log::{LogError, new_epoch};

/// Four records of 1.7 kB in a page; a larger page makes a lone commit dearer.
pub(super) const PAGE_BYTES: u32 = 8_192;
/// `hlog` as the file's application id, so that no other database is taken for a log.
const APPLICATION_ID: i32 = 0x686c_6f67;
const VERSION: i32 = 1;

/// The statements of one (stream, partition).
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) stream: Stream,
    pub(super) partition: u16,
    /// Offset, group, seal, header, body.
    pub(super) insert: String,
    /// From offset, before offset, rows: offset, group, durable, seal, header, body.
    pub(super) read: String,
    /// The same without the group's instant: for when the groups' table is damaged.
    pub(super) read_alone: String,
}

/// All slots, partitions of one stream together.
#[derive(Debug)]
pub(super) struct Layout {
    partitions: u16,
    slots: Vec<Slot>,
}

const fn stream_at(stream: Stream) -> usize {
    match stream {
        Stream::Hl7In => 0,
        Stream::Decisions => 1,
    }
}

fn table_of(stream: Stream, partition: u16) -> String {
    format!("record_{}_{partition}", stream.as_str().replace('.', "_"))
}

impl Layout {
    fn new(partitions: u16) -> Self {
        let mut streams = Stream::ALL;
        streams.sort_by_key(|stream| stream_at(*stream));
        let slots = streams
            .into_iter()
            .flat_map(|stream| (0..partitions).map(move |partition| (stream, partition)))
            .map(|(stream, partition)| {
                let table = table_of(stream, partition);
                Slot {
                    stream,
                    partition,
                    insert: format!(
                        "INSERT INTO {table} (\"offset\", \"group\", seal, header, body) VALUES (?1, ?2, ?3, ?4, ?5)"
                    ),
                    read_alone: format!(
                        "SELECT \"offset\", \"group\", NULL, seal, header, body FROM {table} \
                         WHERE \"offset\" >= ?1 AND \"offset\" < ?2 ORDER BY \"offset\" LIMIT ?3"
                    ),
                    read: format!(
                        "SELECT r.\"offset\", r.\"group\", g.durable, r.seal, r.header, r.body \
                         FROM {table} r LEFT JOIN groups g ON g.\"group\" = r.\"group\" \
                         WHERE r.\"offset\" >= ?1 AND r.\"offset\" < ?2 ORDER BY r.\"offset\" LIMIT ?3"
                    ),
                }
            })
            .collect();
        Self { partitions, slots }
    }

    pub(super) const fn partitions(&self) -> u16 {
        self.partitions
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The slot of a partition that exists.
    pub(super) fn slot(&self, stream: Stream, partition: u16) -> usize {
        stream_at(stream) * usize::from(self.partitions) + usize::from(partition)
    }

    /// The slot of a partition that a caller names.
    pub(super) fn known_slot(&self, stream: Stream, partition: u16) -> Result<usize, LogError> {
        if partition < self.partitions {
            Ok(self.slot(stream, partition))
        } else {
            Err(LogError::Engine(format!(
                "{stream} has {} partitions, not a partition {partition}",
                self.partitions
            )))
        }
    }
}

/// What an opened file says.
pub(super) struct Opened {
    pub(super) epoch: Epoch,
    pub(super) created: Timestamp,
    pub(super) layout: Layout,
    /// The next offset of each slot.
    pub(super) ends: Vec<u64>,
    /// The newest group.
    pub(super) group: i64,
}

/// Eight bytes of BLAKE3 over place and header: with the body's digest in the header, no bit of a record flips unseen.
pub(super) fn seal(partition: u16, offset: u64, header: &[u8]) -> i64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&partition.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(header);
    let digest = hasher.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    i64::from_le_bytes(first)
}

/// Reads the layout, or makes it in an empty file.
pub(super) fn open(
    conn: &Connection,
    clock: &Clock,
    entropy: &Entropy,
    partitions: u16,
) -> Result<Opened, Box<dyn std::error::Error>> {
    let application: i32 = conn.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version: i32 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 && version == 0 {
        create(conn, clock, entropy, partitions.max(1))?;
    } else if application != APPLICATION_ID {
        return Err("is another database, no log".into());
    } else if version != VERSION {
        return Err(format!("log format {version} is not known: start the newer program").into());
    }
    let epoch: String = conn.query_row("SELECT epoch FROM log", [], |row| row.get(0))?;
    let epoch = Epoch(Uuid::try_parse(&epoch)?);
    let created: i64 = conn.query_row("SELECT created FROM log", [], |row| row.get(0))?;
    let partitions: u16 = conn.query_row("SELECT partitions FROM log", [], |row| row.get(0))?;
    let layout = Layout::new(partitions);
    // A stream that came with a newer program of the same format.
    conn.execute_batch(&layout.slots.iter().map(declare).collect::<String>())?;

    let mut group: i64 =
        conn.query_row("SELECT coalesce(max(\"group\"), 0) FROM groups", [], |row| row.get(0))?;
    let mut ends = Vec::with_capacity(layout.slots.len());
    for slot in &layout.slots {
        let table = table_of(slot.stream, slot.partition);
        let newest = conn.query_row(
            &format!("SELECT \"offset\", \"group\" FROM {table} ORDER BY \"offset\" DESC LIMIT 1"),
            [],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        );
        match newest {
            Ok((offset, newest)) => {
                ends.push(offset as u64 + 1);
                group = group.max(newest);
            }
            Err(rusqlite::Error::QueryReturnedNoRows) => ends.push(0),
            // Where it ends is not known, so nothing may be appended: an offset would be given twice.
            Err(why) if why.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                let Slot { stream, partition, .. } = slot;
                return Err(format!(
                    "the end of {stream}/{partition} is damaged: restore the log from a copy, then run \
                     `hilum rebuild chart --behind keep`, which keeps what was applied since"
                )
                .into());
            }
            Err(why) => return Err(why.into()),
        }
    }
    Ok(Opened { epoch, created: Timestamp::from_micros(created), layout, ends, group })
}

fn declare(slot: &Slot) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (\"offset\" INTEGER PRIMARY KEY, \"group\" INTEGER NOT NULL, \
         seal INTEGER NOT NULL, header TEXT NOT NULL, body BLOB NOT NULL) STRICT;",
        table_of(slot.stream, slot.partition)
    )
}

fn create(conn: &Connection, clock: &Clock, entropy: &Entropy, partitions: u16) -> rusqlite::Result<()> {
    let Epoch(epoch) = new_epoch(entropy);
    let declared: String = Layout::new(partitions).slots.iter().map(declare).collect();
    conn.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         CREATE TABLE log (epoch TEXT NOT NULL, partitions INTEGER NOT NULL, created INTEGER NOT NULL) STRICT;
         CREATE TABLE groups (\"group\" INTEGER PRIMARY KEY, durable INTEGER NOT NULL) STRICT;
         {declared}
         INSERT INTO log VALUES ('{epoch}', {partitions}, {});
         PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {VERSION};
         COMMIT;",
        clock.now().as_micros()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_stand_where_they_say() {
        let layout = Layout::new(3);
        for (at, slot) in layout.slots().iter().enumerate() {
            assert_eq!(layout.slot(slot.stream, slot.partition), at);
        }
        assert_eq!(layout.slots().len(), 3 * Stream::ALL.len());
        assert!(layout.known_slot(Stream::Hl7In, 3).is_err());
    }
}
