//! Reading back: every record is checked against its seal and its digest.

use std::sync::Arc;

use bytes::Bytes;
use hilum_core::{Position, Stream, Timestamp};
use rusqlite::{Connection, ErrorCode, Row, params};

use super::State;
use super::file::seal;
use crate::log::stored::{self, Unreadable};
use crate::log::{LogError, ReadMax, Record};
use crate::sqlite_file::Reader;

/// A range of one partition, as far as it was durable when it was asked for.
pub(super) struct Wanted {
    slot: usize,
    from: u64,
    to: u64,
    bytes_max: usize,
    /// The newest group and its instant, which no row says yet.
    last: Option<(i64, Timestamp)>,
}

impl Wanted {
    pub(super) fn new(
        state: &State,
        stream: Stream,
        partition: u16,
        from: u64,
        max: ReadMax,
    ) -> Result<Self, LogError> {
        let slot = state.layout.known_slot(stream, partition)?;
        let (_, before) = state.layout.slots()[slot].piece_of(from);
        // Before the file is read: every group up to `last` is either it or has its instant in the file.
        let published = state.published();
        let to = published.ends[slot].min(from.saturating_add(max.records as u64)).min(before);
        Ok(Self { slot, from, to, bytes_max: max.bytes, last: published.last })
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.from >= self.to
    }

    pub(super) const fn records(&self) -> u64 {
        self.to.saturating_sub(self.from)
    }

    /// As [`Wanted::read`], and gives up a connection that read something damaged: what it has in its cache it would
    /// say again, though the file may say something else by then.
    pub(super) fn read_with(&self, state: &State, reader: Reader) -> Result<Vec<Record>, LogError> {
        let read = self.read(state, reader.conn());
        let Err(LogError::Corrupt { position, .. }) = &read else { return read };
        reader.discard();
        if state.layout.slots()[self.slot].is_unsure {
            // Nobody can say whether there is one.
            return Err(LogError::Unsure { stream: position.stream, partition: position.partition });
        }
        read
    }

    /// Reads the range, up to its bytes but at least one record.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] or [`LogError::Newer`] when the first record cannot be read; a later one ends what is
    /// returned.
    fn read(&self, state: &State, conn: &Connection) -> Result<Vec<Record>, LogError> {
        let (piece, _) = state.layout.slots()[self.slot].piece_of(self.from);
        match self.read_by(&piece.read, state, conn) {
            // Perhaps only the table of groups is damaged, which costs no record.
            Err(LogError::Corrupt { .. }) => {
                let alone = Self { to: self.from + 1, ..*self };
                alone.read_by(&piece.read_alone, state, conn)
            }
            read => read,
        }
    }

    fn read_by(&self, sql: &str, state: &State, conn: &Connection) -> Result<Vec<Record>, LogError> {
        let slot = &state.layout.slots()[self.slot];
        let engine = |why: rusqlite::Error| LogError::Engine(why.to_string());
        let mut statement = conn.prepare_cached(sql).map_err(engine)?;
        let mut rows = statement
            .query(params![self.from as i64, self.to as i64, self.records() as i64])
            .map_err(engine)?;
        let mut records = Vec::new();
        let mut bytes = 0;
        for offset in self.from..self.to {
            let position = Position { stream: slot.stream, partition: slot.partition, offset };
            let record = match rows.next() {
                Ok(Some(row)) => self.decode(row, position),
                Ok(None) => Err(Bad::Corrupt("is missing".to_owned())),
                Err(why) => Err(why.into()),
            };
            let record = match record {
                Ok(record) => record,
                Err(_) if !records.is_empty() => break,
                Err(Bad::Corrupt(why)) => return Err(LogError::Corrupt { position, why }),
                Err(Bad::Newer(version)) => return Err(LogError::Newer { position, version }),
                Err(Bad::Engine(why)) => return Err(LogError::Engine(why)),
            };
            bytes += record.envelope.body.len();
            if bytes > self.bytes_max && !records.is_empty() {
                break;
            }
            records.push(record);
        }
        Ok(records)
    }

    fn decode(&self, row: &Row<'_>, position: Position) -> Result<Record, Bad> {
        let corrupt = |why: &str| Bad::Corrupt(why.to_owned());
        if row.get_ref(0)?.as_i64().ok() != i64::try_from(position.offset).ok() {
            return Err(corrupt("is missing"));
        }
        let group: i64 = row.get(1)?;
        let durable: Option<i64> = row.get(2)?;
        let sealed: i64 = row.get(3)?;
        let header = row.get_ref(4)?.as_bytes().map_err(|_| corrupt("the header is no text"))?;
        let body = row.get_ref(5)?.as_bytes().map_err(|_| corrupt("the body is no blob"))?;
        if seal(position.partition, position.offset, header) != sealed {
            return Err(corrupt("the header does not fit its seal"));
        }
        let envelope = stored::envelope(position.stream, header, Bytes::copy_from_slice(body))?;
        let durable = match self.last {
            Some((last, at)) if last == group => Some(at),
            _ => durable.map(Timestamp::from_micros),
        };
        Ok(Record { position, durable, envelope: Arc::new(envelope) })
    }
}

enum Bad {
    Corrupt(String),
    Newer(u64),
    Engine(String),
}

impl From<Unreadable> for Bad {
    fn from(why: Unreadable) -> Self {
        match why {
            Unreadable::Corrupt(why) => Self::Corrupt(why.to_owned()),
            Unreadable::Newer(version) => Self::Newer(version),
        }
    }
}

impl From<rusqlite::Error> for Bad {
    fn from(why: rusqlite::Error) -> Self {
        match why.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt) => Self::Corrupt("its page in the file is damaged".to_owned()),
            Some(_) => Self::Engine(why.to_string()),
            None => Self::Corrupt("a column has another type".to_owned()),
        }
    }
}
