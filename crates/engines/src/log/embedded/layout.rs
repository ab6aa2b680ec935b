//! Which table holds which records, and the statements for each.

use hilum_core::Stream;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _};

use crate::limits;
use crate::log::LogError;

/// A table with the records of one partition from an offset on.
#[derive(Debug)]
pub(super) struct Piece {
    /// The first offset that stands in it.
    pub(super) from: u64,
    table: String,
    /// Offset, group, seal, header, body.
    pub(super) insert: String,
    /// From offset, before offset, rows: offset, group, durable, seal, header, body.
    pub(super) read: String,
    /// The same without the group's instant: for when the groups' table is damaged.
    pub(super) read_alone: String,
}

impl Piece {
    fn new(table: String, from: u64) -> Self {
        Self {
            from,
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
            table,
        }
    }

    pub(super) fn declare(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\"offset\" INTEGER PRIMARY KEY, \"group\" INTEGER NOT NULL, \
             seal INTEGER NOT NULL, header TEXT NOT NULL, body BLOB NOT NULL) STRICT;",
            self.table
        )
    }

    /// Offset and group of its newest record.
    pub(super) fn newest(&self, conn: &Connection) -> rusqlite::Result<Option<(u64, i64)>> {
        conn.query_row(
            &format!("SELECT \"offset\", \"group\" FROM {} ORDER BY \"offset\" DESC LIMIT 1", self.table),
            [],
            |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)),
        )
        .optional()
    }

    /// The offset behind the last record that can be read, `from` at least. A damaged page in between is looked over.
    pub(super) fn readable_end(&self, conn: &Connection, from: u64) -> rusqlite::Result<u64> {
        let sql = format!("SELECT 1 FROM {} WHERE \"offset\" = ?1", self.table);
        let mut statement = conn.prepare(&sql)?;
        let (mut end, mut at) = (from, from);
        while at - end < limits::LOG_DAMAGED_RECORDS_MAX {
            match statement.exists([at as i64]) {
                Ok(true) => end = at + 1,
                Ok(false) => {}
                Err(why) if why.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {}
                Err(why) => return Err(why),
            }
            at += 1;
        }
        Ok(end)
    }
}

/// One (stream, partition).
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) stream: Stream,
    pub(super) partition: u16,
    /// Its end is damaged and not known: nothing may be appended, or an offset would be given twice.
    pub(super) is_unsure: bool,
    first: Piece,
    /// What goes on behind a damaged end, oldest first.
    further: Vec<Piece>,
}

impl Slot {
    fn new(stream: Stream, partition: u16) -> Self {
        let first = Piece::new(table_of(stream, partition), 0);
        Self { stream, partition, is_unsure: false, first, further: Vec::new() }
    }

    /// Where what is appended stands.
    pub(super) fn last(&self) -> &Piece {
        self.further.last().unwrap_or(&self.first)
    }

    /// Those before the last, each with the offset before which it ends.
    pub(super) fn ended_pieces(&self) -> impl Iterator<Item = (&Piece, u64)> {
        std::iter::once(&self.first).chain(&self.further).zip(self.further.iter().map(|next| next.from))
    }

    /// Where `offset` stands, and before which offset that ends.
    pub(super) fn piece_of(&self, offset: u64) -> (&Piece, u64) {
        let ended = self.ended_pieces().find(|(_, before)| offset < *before);
        ended.unwrap_or_else(|| (self.last(), u64::MAX))
    }

    /// Makes the table in which the partition goes on at `from`.
    pub(super) fn go_on(&mut self, conn: &Connection, from: u64) -> rusqlite::Result<()> {
        let number = self.further.len() + 1;
        let table = format!("{}_{number}{FROM}{from}", table_of(self.stream, self.partition));
        let piece = Piece::new(table, from);
        conn.execute_batch(&piece.declare())?;
        self.further.push(piece);
        Ok(())
    }

    fn know_pieces(&mut self, names: &[String]) {
        let prefix = format!("{}_", table_of(self.stream, self.partition));
        let piece = |name: &String| {
            let (number, from) = name.strip_prefix(&prefix)?.split_once(FROM)?;
            Some((number.parse::<u32>().ok()?, Piece::new(name.clone(), from.parse().ok()?)))
        };
        let mut pieces: Vec<(u32, Piece)> = names.iter().filter_map(piece).collect();
        pieces.sort_by_key(|(number, _)| *number);
        self.further = pieces.into_iter().map(|(_, piece)| piece).collect();
    }
}

/// Before the offset in the name of a further table.
const FROM: &str = "_from_";

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
    pub(super) fn new(partitions: u16) -> Self {
        let mut streams = Stream::ALL;
        streams.sort_by_key(|stream| stream_at(*stream));
        let places =
            streams.into_iter().flat_map(|stream| (0..partitions).map(move |partition| (stream, partition)));
        Self { partitions, slots: places.map(|(stream, partition)| Slot::new(stream, partition)).collect() }
    }

    /// Finds the tables in which partitions go on among all tables of the file.
    pub(super) fn know_pieces(&mut self, names: &[String]) {
        for slot in &mut self.slots {
            slot.know_pieces(names);
        }
    }

    pub(super) const fn partitions(&self) -> u16 {
        self.partitions
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(super) fn slots_mut(&mut self) -> &mut [Slot] {
        &mut self.slots
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

    #[test]
    fn an_offset_stands_in_one_table() {
        let mut layout = Layout::new(12);
        let names =
            ["record_hl7_in_1_2_from_70", "record_hl7_in_1_1_from_50", "record_hl7_in_11_1_from_3", "groups"];
        layout.know_pieces(&names.map(str::to_owned));
        let slot = &layout.slots()[layout.slot(Stream::Hl7In, 1)];
        let cases = [
            (0, "record_hl7_in_1", 50),
            (49, "record_hl7_in_1", 50),
            (50, "record_hl7_in_1_1_from_50", 70),
            (70, "record_hl7_in_1_2_from_70", u64::MAX),
        ];
        for (offset, table, before) in cases {
            let (piece, until) = slot.piece_of(offset);
            assert_eq!((&*piece.table, until), (table, before), "{offset}");
        }
    }
}
