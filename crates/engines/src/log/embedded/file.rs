//! The file's layout: for each (stream, partition) a table, so that every insert is the rightmost of its tree, and one
//! row for each group with its durable instant and where the partitions end.
//!
//! Version 2: a group's row says where the partitions end, so that an end is known though its page is damaged. The
//! partition then goes on in a further table ([`Piece`]): nothing is ever inserted into a damaged tree.

use hilum_core::{Clock, Entropy, Epoch, Stream, Timestamp};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _};
use uuid::Uuid;

use super::ends;
use super::layout::{Layout, Slot};
use crate::log::{DamagedEnd, new_epoch};

/// Four records of 1.7 kB in a page; a larger page makes a lone commit dearer.
pub(super) const PAGE_BYTES: u32 = 8_192;
/// `hlog` as the file's application id, so that no other database is taken for a log.
const APPLICATION_ID: i32 = 0x686c_6f67;
const VERSION: i32 = 2;
/// Numbers that are left out behind groups of which nobody knows how many there were.
const GROUPS_LEFT_OUT: i64 = 1 << 32;

/// What an opened file says.
pub(super) struct Opened {
    pub(super) epoch: Epoch,
    pub(super) created: Timestamp,
    pub(super) layout: Layout,
    /// The next offset of each slot; [`ends::UNKNOWN`] where that cannot be said.
    pub(super) ends: Vec<u64>,
    /// The newest group.
    pub(super) group: i64,
    /// Partitions whose newest records cannot be read.
    pub(super) damaged: Vec<DamagedEnd>,
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

/// Whether what was asked for stands on a damaged page.
fn is_damaged(why: &rusqlite::Error) -> bool {
    why.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt)
}

/// Reads the layout, or makes it in an empty file. Where a partition's end is damaged and yet known, it goes on in a
/// further table from then on.
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
    } else if version == 1 {
        conn.execute_batch(&format!(
            "BEGIN IMMEDIATE; ALTER TABLE groups ADD COLUMN ends BLOB; PRAGMA user_version = {VERSION}; COMMIT;"
        ))?;
    } else if version != VERSION {
        return Err(format!("log format {version} is not known: start the newer program").into());
    }
    let epoch: String = conn.query_row("SELECT epoch FROM log", [], |row| row.get(0))?;
    let epoch = Epoch(Uuid::try_parse(&epoch)?);
    let created: i64 = conn.query_row("SELECT created FROM log", [], |row| row.get(0))?;
    let partitions: u16 = conn.query_row("SELECT partitions FROM log", [], |row| row.get(0))?;
    let mut layout = Layout::new(partitions);
    // A stream that came with a newer program of the same format.
    conn.execute_batch(&layout.slots().iter().map(|slot| slot.last().declare()).collect::<String>())?;
    let names = conn
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?
        .query_map([], |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    layout.know_pieces(&names);

    let (mut group, known) = newest_group(conn, &names, layout.slots().len())?;
    let mut ends = Vec::with_capacity(layout.slots().len());
    let mut damaged = Vec::new();
    for (at, slot) in layout.slots_mut().iter_mut().enumerate() {
        let known = known.get(at).copied().flatten();
        let (end, newest) = end_of(conn, slot, known, &mut damaged)?;
        ends.push(end);
        group = group.max(newest);
    }
    Ok(Opened { epoch, created: Timestamp::from_micros(created), layout, ends, group, damaged })
}

/// The newest group's number, and where it says that the partitions end. A table of groups that is damaged itself is
/// put aside: it holds instants, and no record.
fn newest_group(
    conn: &Connection,
    names: &[String],
    slots: usize,
) -> rusqlite::Result<(i64, Vec<Option<u64>>)> {
    let newest = conn
        .query_row("SELECT \"group\", ends FROM groups ORDER BY \"group\" DESC LIMIT 1", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<Vec<u8>>>(1)?))
        })
        .optional();
    match newest {
        Ok(Some((group, said))) => {
            let known = said.and_then(|said| ends::decode(group, &said, slots));
            Ok((group, known.unwrap_or_else(|| vec![None; slots])))
        }
        Ok(None) => Ok((0, vec![None; slots])),
        Err(why) if is_damaged(&why) => {
            let aside = names.iter().filter(|name| name.starts_with("damaged_groups_")).count();
            tracing::error!("the log's table of groups is damaged and put aside: it costs no record");
            conn.execute_batch(&format!(
                "BEGIN IMMEDIATE; ALTER TABLE groups RENAME TO damaged_groups_{aside}; {GROUPS} COMMIT;"
            ))?;
            Ok((GROUPS_LEFT_OUT.saturating_mul(aside as i64 + 1), vec![None; slots]))
        }
        Err(why) => Err(why),
    }
}

/// Where a partition ends, and the newest group in it, as far as it can be read.
fn end_of(
    conn: &Connection,
    slot: &mut Slot,
    known: Option<u64>,
    damaged: &mut Vec<DamagedEnd>,
) -> rusqlite::Result<(u64, i64)> {
    let (stream, partition) = (slot.stream, slot.partition);
    for (piece, before) in slot.ended_pieces() {
        // Until a copy is restored that has them.
        let is_whole = piece.newest(conn).is_ok_and(|newest| newest.is_some_and(|(at, _)| at + 1 >= before));
        if !is_whole && before > piece.from {
            damaged.push(DamagedEnd { stream, partition, before: Some(before) });
        }
    }
    let last = slot.last();
    match last.newest(conn) {
        Ok(newest) => {
            let (end, group) = newest.map_or((last.from, 0), |(offset, group)| (offset + 1, group));
            let known = known.unwrap_or(end);
            if known > end {
                // A page that stands there as it once was: no offset is given twice.
                tracing::error!(%stream, partition, end, known, "the log's newest records are not there");
                damaged.push(DamagedEnd { stream, partition, before: Some(known) });
                // Each later start finds the gap there and says so again; and a tree that is not as it was written
                // gets no more records.
                slot.go_on(conn, known)?;
            }
            Ok((end.max(known), group))
        }
        Err(why) if is_damaged(&why) => {
            if let Some(end) = known.filter(|known| *known >= last.from) {
                tracing::error!(%stream, partition, end, "the end of the partition is damaged: it goes on behind it");
                damaged.push(DamagedEnd { stream, partition, before: Some(end) });
                slot.go_on(conn, end)?;
                return Ok((end, 0));
            }
            tracing::error!(%stream, partition, "the end of the partition is damaged and not known: it takes nothing");
            damaged.push(DamagedEnd { stream, partition, before: None });
            slot.is_unsure = true;
            Ok((ends::UNKNOWN, 0))
        }
        Err(why) => Err(why),
    }
}

/// Lets the partitions whose end is not known go on: behind all that can be read of them, and behind what was applied.
/// Returns where each of them goes on.
pub(super) fn settle(
    conn: &Connection,
    layout: &mut Layout,
    applied: &dyn Fn(Stream, u16) -> u64,
) -> rusqlite::Result<Vec<(Stream, u16, u64)>> {
    let mut settled = Vec::new();
    for slot in layout.slots_mut().iter_mut().filter(|slot| slot.is_unsure) {
        let from = slot.last().from;
        let end = slot.last().readable_end(conn, applied(slot.stream, slot.partition).max(from))?;
        slot.go_on(conn, end)?;
        slot.is_unsure = false;
        settled.push((slot.stream, slot.partition, end));
    }
    Ok(settled)
}

const GROUPS: &str =
    "CREATE TABLE groups (\"group\" INTEGER PRIMARY KEY, durable INTEGER NOT NULL, ends BLOB) STRICT;";

fn create(conn: &Connection, clock: &Clock, entropy: &Entropy, partitions: u16) -> rusqlite::Result<()> {
    let Epoch(epoch) = new_epoch(entropy);
    let layout = Layout::new(partitions);
    let declared: String = layout.slots().iter().map(|slot| slot.last().declare()).collect();
    conn.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         CREATE TABLE log (epoch TEXT NOT NULL, partitions INTEGER NOT NULL, created INTEGER NOT NULL) STRICT;
         {GROUPS}
         {declared}
         INSERT INTO log VALUES ('{epoch}', {partitions}, {});
         PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {VERSION};
         COMMIT;",
        clock.now().as_micros()
    ))
}
