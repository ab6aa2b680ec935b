//! How resources are kept: the current version in `chart_resource`, the earlier ones in `chart_history`, both written
//! in the commit of whatever changed them. A version is written only when the body differs.
//!
//! Resources that every partition may write (registers: Practitioner, Location) have their stamp in `chart_register`,
//! apart from the body: an event that brings a newer stamp and the same body writes the stamp only, and only a real
//! change of the body makes writers conflict.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use hilum_core::{Digest, Id, RecordId, Seq, Timestamp};
use hilum_engines::tables::{
    Batch, Column, Expect, Index, Key, Outgoing, Read, Row, Table, Type, Value, Write,
};

use crate::body;
use crate::error::ChartError;
use crate::index::{self, Indexer, Standing, Unsearch, Unsearched};
use crate::projection::{Projection, RegisterChange, ResourceChange};

/// The current version of every resource.
pub const RESOURCE: Table = Table {
    name: "chart_resource",
    key_len: 2,
    columns: &[
        Column::new("type", Type::Text),
        Column::new("id", Type::Id),
        Column::new("version", Type::Int), // from 1
        Column::new("t_from", Type::Seq),
        Column::new("updated", Type::Time), // meta.lastUpdated
        Column::new("deleted", Type::Bool),
        Column::new("owner", Type::Text), // a projection's name, or the door that wrote it
        Column::new("source", Type::Id),  // the log record, or the request, that made this version
        Column::new("digest", Type::Bytes), // of the body in clear
        Column::new("body", Type::Bytes), // a format byte and the body; empty when deleted
        // Of the search index, absent where it is not indexed:
        Column::optional("row", Type::Int), // what its rows point to, the same for all versions
        Column::optional("form", Type::Int), // Indexer::form of its rows; 0 = of none that is known
        Column::optional("base", Type::Seq), // the commit since which its values stand,
        Column::optional("later", Type::Bytes), // but for these (crate::index::Standing)
    ],
    indexes: &[
        Index { name: "by_row", columns: &["row"] },
        Index { name: "by_form", columns: &["form"] }, // whether any is not indexed is one look
        Index { name: "by_updated", columns: &["type", "updated"] }, // histories of types: crate::versions
    ],
    register: None,
};

/// Earlier versions.
pub const HISTORY: Table = Table {
    name: "chart_history",
    key_len: 3,
    columns: &[
        Column::new("type", Type::Text),
        Column::new("id", Type::Id),
        Column::new("version", Type::Int),
        Column::new("t_from", Type::Seq),
        Column::new("t_to", Type::Seq), // the commit that made the next version
        Column::new("updated", Type::Time),
        Column::new("deleted", Type::Bool),
        Column::new("owner", Type::Text),
        Column::new("source", Type::Id),
        Column::new("body", Type::Bytes),
    ],
    indexes: &[Index { name: "by_updated", columns: &["type", "updated"] }],
    register: None,
};

/// The stamp of each resource that is a register.
pub const REGISTER: Table = Table {
    name: "chart_register",
    key_len: 2,
    columns: &[
        Column::new("type", Type::Text),
        Column::new("id", Type::Id),
        Column::new("stamp", Type::Bytes),
    ],
    indexes: &[],
    register: Some("stamp"),
};

/// All tables of the chart itself; a projection that uses families adds [`crate::family::TABLES`] to its own.
pub const TABLES: &[&Table] = &[
    &RESOURCE,
    &HISTORY,
    &REGISTER,
    &crate::fits::FORM,
    &crate::fits::LOG,
    &index::life::LIFE,
    &index::tables::TOKEN,
    &index::tables::REF,
    &index::tables::STRING,
    &index::tables::DATE,
    &index::tables::NUMBER,
    &index::tables::URI,
    &index::tables::PAIR,
];

/// The topic of the outbox entry that each new version makes.
pub const TOPIC: &str = "chart.resource";

/// One version as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    /// `Patient`, …
    pub resource_type: String,
    /// Its id.
    pub id: Id,
    /// From 1, by one.
    pub version: i64,
    /// The commit that made it.
    pub t_from: Seq,
    /// The commit that made the next version; absent for the current one.
    pub t_to: Option<Seq>,
    /// `meta.lastUpdated`.
    pub updated: Timestamp,
    /// Whether this version is a deletion.
    pub deleted: bool,
    /// The projection or door that owns it.
    pub owner: String,
    /// The log record or request that made it.
    pub source: RecordId,
    /// The body as accepted, in clear; empty when deleted.
    pub body: Bytes,
}

/// Prints no body.
impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored")
            .field("resource_type", &self.resource_type)
            .field("id", &self.id)
            .field("version", &self.version)
            .field("deleted", &self.deleted)
            .finish_non_exhaustive()
    }
}

impl Stored {
    /// The body as text; empty when deleted.
    ///
    /// # Errors
    /// [`ChartError::Stored`].
    pub fn text(&self) -> Result<&str, ChartError> {
        std::str::from_utf8(&self.body).map_err(|_| unreadable("body", "not UTF-8"))
    }

    /// The body with `meta.versionId` and `meta.lastUpdated`, as it goes out.
    ///
    /// # Errors
    /// [`ChartError::Stored`].
    pub fn json(&self) -> Result<String, ChartError> {
        hilum_fhir::resource::with_meta(self.text()?, &self.version.to_string(), &self.updated.to_string())
            .map_err(|error| unreadable("body", error))
    }

    /// From a row of [`RESOURCE`].
    pub(crate) fn current(row: &Row) -> Result<Self, ChartError> {
        let mut cells = Cells { what: RESOURCE.name, values: row.values.iter() };
        let (resource_type, id, version) = (cells.text()?, cells.id()?, cells.int()?);
        let (t_from, updated, deleted) = (cells.seq()?, cells.time()?, cells.bool()?);
        let (owner, source, _digest) = (cells.text()?, cells.id()?, cells.bytes()?);
        let body = crate::body::decode(&cells.bytes()?)?;
        let source = RecordId::from_uuid(source.as_uuid());
        Ok(Self { resource_type, id, version, t_from, t_to: None, updated, deleted, owner, source, body })
    }

    /// From a row of [`HISTORY`].
    pub(crate) fn earlier(row: &Row) -> Result<Self, ChartError> {
        let mut cells = Cells { what: HISTORY.name, values: row.values.iter() };
        let (resource_type, id, version) = (cells.text()?, cells.id()?, cells.int()?);
        let (t_from, t_to, updated) = (cells.seq()?, Some(cells.seq()?), cells.time()?);
        let (deleted, owner, source) = (cells.bool()?, cells.text()?, cells.id()?);
        let body = crate::body::decode(&cells.bytes()?)?;
        let source = RecordId::from_uuid(source.as_uuid());
        Ok(Self { resource_type, id, version, t_from, t_to, updated, deleted, owner, source, body })
    }
}

fn unreadable(what: &'static str, why: impl fmt::Display) -> ChartError {
    ChartError::Stored { what, why: why.to_string() }
}

/// Reads the values of a row one after the other.
struct Cells<'a> {
    what: &'static str,
    values: std::slice::Iter<'a, Value>,
}

macro_rules! cell {
    ($name:ident, $variant:ident, $ty:ty) => {
        fn $name(&mut self) -> Result<$ty, ChartError> {
            match self.values.next() {
                Some(Value::$variant(value)) => Ok(value.clone()),
                _ => Err(unreadable(self.what, concat!("a ", stringify!($name), " is missing"))),
            }
        }
    };
}

impl Cells<'_> {
    cell!(text, Text, String);
    cell!(id, Id, Id);
    cell!(int, Int, i64);
    cell!(seq, Seq, Seq);
    cell!(time, Time, Timestamp);
    cell!(bool, Bool, bool);
    cell!(bytes, Bytes, Bytes);
}

/// The key of a resource in [`RESOURCE`] and [`REGISTER`].
pub(crate) fn key(resource_type: &str, id: Id) -> Key {
    vec![Value::Text(resource_type.to_owned()), Value::Id(id)]
}

/// Whether a row of [`RESOURCE`] is a version that `owner` made.
pub(crate) fn is_of(row: &Row, owner: &str) -> bool {
    let stored = RESOURCE.column("owner").and_then(|at| row.values.get(at));
    matches!(stored, Some(Value::Text(stored)) if stored == owner)
}

pub(crate) fn read_current(resource_type: &str, id: Id) -> Read {
    Read::Get { table: RESOURCE.name, key: key(resource_type, id) }
}

pub(crate) fn read_stamp(resource_type: &str, id: Id) -> Read {
    Read::Get { table: REGISTER.name, key: key(resource_type, id) }
}

/// Whether a register's stored stamp is as great. Stamps only grow: what is older now stays older, whatever else happens
/// until the commit.
fn is_older(new: &[u8], stamp: Option<&Row>) -> bool {
    match stamp.and_then(|row| row.values.get(2)) {
        Some(Value::Bytes(stored)) => stored.as_ref() >= new,
        _ => false,
    }
}

/// Whether a register will get a new version.
pub(crate) fn is_new(register: &RegisterChange, current: Option<&Row>, stamp: Option<&Row>) -> bool {
    !is_older(&register.total_stamp(), stamp)
        && !stands(current, register.change.body.as_deref().map(|body| digest_of(Some(body))))
}

/// Whether a body of this digest stands; absent: a deletion.
pub(crate) fn stands(current: Option<&Row>, digest: Option<Digest>) -> bool {
    match current {
        None => digest.is_none(),
        Some(row) => same(row, digest),
    }
}

fn expect(table: &'static str, key: Key, row: Option<&Row>) -> Expect {
    Expect { table, key, t: row.map(|row| row.t) }
}

/// What should stand, whoever says so.
#[derive(Clone, Copy)]
pub(crate) struct Version<'a> {
    pub resource_type: &'a str,
    pub id: Id,
    pub body: Option<&'a str>,
    pub source: RecordId,
    /// What was made of the body before; absent: it is made now.
    pub made: Option<Made<'a>>,
}

/// What the body of a version makes known without the engine.
#[derive(Clone, Copy)]
pub(crate) struct Made<'a> {
    pub digest: Digest,
    /// As it is stored.
    pub stored: &'a Bytes,
    pub rows: &'a index::Rows,
}

impl Version<'_> {
    fn digest(&self) -> Digest {
        self.made.map_or_else(|| digest_of(self.body), |made| made.digest)
    }

    /// The body as it is stored; empty of a deletion.
    fn stored(&self) -> Bytes {
        self.made.map_or_else(|| self.body.map(body::encode).unwrap_or_default(), |made| made.stored.clone())
    }
}

impl<'a> From<&'a ResourceChange> for Version<'a> {
    fn from(change: &'a ResourceChange) -> Self {
        Self {
            resource_type: change.resource_type,
            id: change.id,
            body: change.body.as_deref(),
            source: change.source,
            made: None,
        }
    }
}

/// Who writes a version, and when: `meta.lastUpdated` is the moment of the commit, by this clock.
#[derive(Debug, Clone)]
pub(crate) struct Writer<'a> {
    pub owner: &'a str,
    pub now: Timestamp,
    /// Absent where there is no search, and where the tables are thrown away.
    pub index: Option<Indexing>,
}

/// How versions are indexed.
#[derive(Debug, Clone)]
pub(crate) struct Indexing {
    pub indexer: Arc<Indexer>,
    pub unsearch: Unsearch,
    /// Whether a body with more values than there may be is refused. What comes from the log has to be taken: it is found by
    /// the first ones.
    pub is_strict: bool,
}

impl Indexing {
    /// Of a door that clients write by.
    pub(crate) fn of_door(indexer: &Arc<Indexer>) -> Self {
        Self { indexer: Arc::clone(indexer), unsearch: |_| Unsearched::Nothing, is_strict: true }
    }

    /// Of a projection.
    pub(crate) fn of<P: Projection>(projection: &P) -> Option<Self> {
        projection.indexer().map(|indexer| Self { indexer, unsearch: P::unsearched, is_strict: false })
    }
}

impl Writer<'_> {
    /// Adds to `batch` what makes `change` current: nothing but an expectation when it is already, else the version,
    /// the earlier one's history and an outbox entry. Returns the new version.
    pub(crate) fn write(
        &self,
        change: &Version<'_>,
        current: Option<&Row>,
        batch: &mut Batch,
    ) -> Result<Option<i64>, ChartError> {
        let key = key(change.resource_type, change.id);
        batch.expects.push(expect(RESOURCE.name, key, current));
        self.put(change, current, batch)
    }

    /// The same for a register: `stamp` is what is stored as its stamp.
    pub(crate) fn write_register(
        &self,
        register: &RegisterChange,
        current: Option<&Row>,
        stamp: Option<&Row>,
        batch: &mut Batch,
    ) -> Result<Option<i64>, ChartError> {
        let change = &Version::from(&register.change);
        let (new, key) = (register.total_stamp(), key(change.resource_type, change.id));
        if is_older(&new, stamp) {
            return Ok(None);
        }
        batch.expects.push(expect(RESOURCE.name, key.clone(), current));
        let version = self.put(change, current, batch)?;
        if version.is_some() {
            // The body changes because nobody has a newer stamp: that must still hold at the commit. A stamp alone
            // needs no such check, so writers of the same body do not meet.
            batch.expects.push(expect(REGISTER.name, key.clone(), stamp));
        }
        let mut values = key;
        values.push(Value::Bytes(new.into()));
        batch.writes.push(Write::PutIfNewer { table: REGISTER.name, values });
        Ok(version)
    }

    fn put(
        &self,
        change: &Version<'_>,
        current: Option<&Row>,
        batch: &mut Batch,
    ) -> Result<Option<i64>, ChartError> {
        let digest = change.digest();
        if stands(current, change.body.map(|_| digest)) {
            return Ok(None);
        }
        let version = match current {
            None => 1,
            Some(row) => {
                batch.writes.push(Write::Put { table: HISTORY.name, values: history_of(row)? });
                Stored::current(row)?.version + 1
            }
        };
        let body = change.body;
        let of_index = self.index(current, change, batch)?;
        let mut values = vec![
            Value::Text(change.resource_type.to_owned()),
            Value::Id(change.id),
            Value::Int(version),
            Value::ThisCommit,
            Value::ThisMoment,
            Value::Bool(body.is_none()),
            Value::Text(self.owner.to_owned()),
            Value::Id(change.source.as_id()),
            Value::Bytes(Bytes::copy_from_slice(digest.as_bytes())),
            Value::Bytes(change.stored()),
        ];
        values.extend(of_index);
        batch.writes.push(Write::Put { table: RESOURCE.name, values });
        batch.moment = batch.moment.max(Some(self.now));
        batch.outbox.push(Outgoing {
            topic: TOPIC,
            key: change.id,
            body: format!(
                "{{\"type\":\"{}\",\"id\":\"{}\",\"version\":{version}}}",
                change.resource_type, change.id
            )
            .into(),
        });
        Ok(Some(version))
    }
}

impl Writer<'_> {
    /// Brings the index to the body of `change`; gives the columns that say so.
    fn index(
        &self,
        current: Option<&Row>,
        change: &Version<'_>,
        batch: &mut Batch,
    ) -> Result<index::Columns, ChartError> {
        let standing = current.map(Standing::of).transpose()?;
        let Some(Indexing { indexer, unsearch, is_strict }) = &self.index else {
            return Ok(index::left_out(standing.as_ref()));
        };
        let after = match change.made {
            Some(made) => Cow::Borrowed(made.rows),
            None => Cow::Owned(indexer.rows(change.body, *unsearch)),
        };
        if after.too_many && *is_strict {
            let max = hilum_fhir::limits::INDEX_ROWS_MAX;
            return Err(ChartError::Bound { what: "values to be found by", asked: max + 1, max });
        }
        let stored = current.map(Stored::current).transpose()?;
        let before = match &stored {
            Some(stored) if !stored.deleted => indexer.rows(Some(stored.text()?), *unsearch),
            _ => index::Rows::default(),
        };
        index::write(indexer.form(), standing.as_ref(), (before.rows, &after.rows), batch)
    }
}

pub(crate) fn digest_of(body: Option<&str>) -> Digest {
    Digest::of(body.unwrap_or_default().as_bytes())
}

/// Whether the stored version is of a body of this digest.
fn same(row: &Row, wanted: Option<Digest>) -> bool {
    let deleted = row.values.get(5) == Some(&Value::Bool(true));
    let digest = match row.values.get(8) {
        Some(Value::Bytes(digest)) => digest.as_ref(),
        _ => &[],
    };
    match wanted {
        None => deleted,
        Some(wanted) => !deleted && digest == wanted.as_bytes(),
    }
}

/// The row of [`HISTORY`] that a current version becomes.
fn history_of(row: &Row) -> Result<Vec<Value>, ChartError> {
    let [ty, id, version, t_from, updated, deleted, owner, source, _digest, body, ..] = row.values.as_slice()
    else {
        return Err(unreadable(RESOURCE.name, "a column is missing"));
    };
    Ok([ty, id, version, t_from, &Value::ThisCommit, updated, deleted, owner, source, body]
        .into_iter()
        .cloned()
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const WRITER: Writer<'static> = Writer { owner: "toy", now: Timestamp::from_micros(7), index: None };

    fn change(body: Option<&str>) -> ResourceChange {
        ResourceChange {
            resource_type: "Patient",
            id: Id::from_bytes([1; 16]),
            body: body.map(str::to_owned),
            source: RecordId::new(Timestamp::from_micros(1), [0; 10]),
        }
    }

    /// The row as the engine would keep it.
    fn stored(batch: &Batch, table: &'static str, t: i64) -> Option<Row> {
        batch.writes.iter().find_map(|write| match write {
            Write::Put { table: found, values } | Write::PutIfNewer { table: found, values }
                if *found == table =>
            {
                let values = values.iter().map(|value| match value {
                    Value::ThisCommit => Value::Seq(Seq(t)),
                    Value::ThisMoment => Value::Time(batch.moment.unwrap()),
                    other => other.clone(),
                });
                Some(Row { values: values.collect(), t: Seq(t) })
            }
            _ => None,
        })
    }

    #[test]
    fn a_version_is_written_only_when_the_body_differs() {
        let mut first = Batch::default();
        assert_eq!(WRITER.write(&Version::from(&change(Some("{}"))), None, &mut first).unwrap(), Some(1));
        let row = stored(&first, "chart_resource", 5).unwrap();
        let kept = Stored::current(&row).unwrap();
        assert_eq!((kept.version, kept.t_from, kept.text().unwrap()), (1, Seq(5), "{}"));

        let mut same = Batch::default();
        assert_eq!(WRITER.write(&Version::from(&change(Some("{}"))), Some(&row), &mut same).unwrap(), None);
        assert_eq!(same.writes, []);
        assert_eq!(same.expects.first().unwrap().t, Some(Seq(5)), "that it is the same is validated too");

        let mut gone = Batch::default();
        assert_eq!(WRITER.write(&Version::from(&change(None)), Some(&row), &mut gone).unwrap(), Some(2));
        let history = Stored::earlier(&stored(&gone, "chart_history", 6).unwrap()).unwrap();
        assert_eq!((history.version, history.t_from, history.t_to), (1, Seq(5), Some(Seq(6))));
        assert_eq!(history.text().unwrap(), "{}");
        let deleted = stored(&gone, "chart_resource", 6).unwrap();
        assert!(Stored::current(&deleted).unwrap().deleted);

        let mut again = Batch::default();
        assert_eq!(WRITER.write(&Version::from(&change(None)), Some(&deleted), &mut again).unwrap(), None);
        assert_eq!(
            WRITER.write(&Version::from(&change(Some("{}"))), Some(&deleted), &mut again).unwrap(),
            Some(3),
            "comes back"
        );
        assert_eq!(
            WRITER.write(&Version::from(&change(None)), None, &mut Batch::default()).unwrap(),
            None,
            "never was"
        );
    }

    #[test]
    fn a_register_keeps_the_newest_and_touches_the_body_only_when_it_differs() {
        let register =
            |stamp: u8, body: &str| RegisterChange { stamp: vec![stamp], change: change(Some(body)) };
        let mut first = Batch::default();
        assert_eq!(WRITER.write_register(&register(2, "{}"), None, None, &mut first).unwrap(), Some(1));
        assert_eq!(first.expects.len(), 2, "body and stamp were absent");
        let (row, stamp) = (stored(&first, "chart_resource", 1), stored(&first, "chart_register", 1));

        let mut older = Batch::default();
        WRITER.write_register(&register(1, "{\"a\":1}"), row.as_ref(), stamp.as_ref(), &mut older).unwrap();
        assert_eq!(older, Batch::default(), "older: nothing, and nothing to validate");

        let mut newer = Batch::default();
        WRITER.write_register(&register(3, "{}"), row.as_ref(), stamp.as_ref(), &mut newer).unwrap();
        assert_eq!((newer.writes.len(), newer.expects.len()), (1, 1), "the same body: the stamp only");
        assert!(matches!(newer.writes.first(), Some(Write::PutIfNewer { .. })));

        let mut differs = Batch::default();
        WRITER.write_register(&register(3, "{\"a\":1}"), row.as_ref(), stamp.as_ref(), &mut differs).unwrap();
        assert_eq!((differs.writes.len(), differs.expects.len()), (3, 2), "history, body, stamp");
    }
}
