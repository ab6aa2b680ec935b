//! A projection is a pure function between reads and one commit.
//!
//! The runner asks [`Projection::needs`] until it names nothing new (at most `NEEDS_ROUNDS_MAX` rounds), calls
//! [`Projection::apply`], and commits rows, resources, offset and outbox together. Every row that was read is
//! validated by that commit, absent ones too; a scan is validated through the head row that guards its table:
//! whoever reads or writes a row of a guarded table reads and writes that head.

use std::collections::{BTreeMap, HashMap};

use hilum_core::{Id, Position, RecordId};
use hilum_engines::log::Record;
use hilum_engines::tables::{Key, Outgoing, Row, Scan, Value};

/// What a projection wants to read: rows by key and ranges.
#[derive(Debug, Default)]
pub struct Reads {
    /// Rows by (table, key).
    pub gets: Vec<(&'static str, Key)>,
    /// Ranges. A range that decides something must lie under a head row that is also among `gets`.
    pub scans: Vec<Scan>,
}

impl Reads {
    /// Wants one row.
    pub fn get(&mut self, table: &'static str, key: Key) {
        self.gets.push((table, key));
    }

    /// Wants a range.
    pub fn scan(&mut self, scan: Scan) {
        self.scans.push(scan);
    }
}

/// What was read so far.
#[derive(Debug, Default)]
pub struct Rows {
    gets: HashMap<(&'static str, Key), Option<Row>>,
    scans: HashMap<Scan, Vec<Row>>,
}

impl Rows {
    /// The row, if it was read and is there.
    pub fn get(&self, table: &'static str, key: &[Value]) -> Option<&Row> {
        // A borrowed tuple key would need a wrapper type; keys are short.
        self.gets.get(&(table, key.to_vec())).and_then(Option::as_ref)
    }

    /// Whether the row was read (there or not).
    pub fn has_read(&self, table: &'static str, key: &[Value]) -> bool {
        self.gets.contains_key(&(table, key.to_vec()))
    }

    /// The rows of a range that was read; `None` before it was.
    pub fn scan(&self, scan: &Scan) -> Option<&[Row]> {
        self.scans.get(scan).map(Vec::as_slice)
    }

    /// Puts in what a get found.
    pub fn put_get(&mut self, table: &'static str, key: Key, row: Option<Row>) {
        self.gets.insert((table, key), row);
    }

    /// Puts in what a scan found.
    pub fn put_scan(&mut self, scan: Scan, rows: Vec<Row>) {
        self.scans.insert(scan, rows);
    }

    /// All rows that were read by key, for the commit's expectations.
    pub fn gets(&self) -> impl Iterator<Item = (&'static str, &Key, Option<&Row>)> {
        self.gets.iter().map(|((table, key), row)| (*table, key, row.as_ref()))
    }
}

/// A FHIR resource that the fold owns, as it should now stand. The chart writes a new version only if the body
/// differs from the stored one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceChange {
    /// `Patient`, `Encounter`, …
    pub resource_type: &'static str,
    /// Its id, a function of what it names.
    pub id: Id,
    /// Its body without `meta.versionId` and `meta.lastUpdated`, keys in a fixed order; absent = deleted.
    pub body: Option<String>,
    /// The message that made this version (`meta.source`).
    pub source: RecordId,
}

/// What a projection wants to write.
#[derive(Debug, Default)]
pub struct Changes {
    /// Rows to put (`Some`, all columns) or delete (`None`), by table and key: the last word counts.
    pub rows: BTreeMap<(&'static str, Key), Option<Vec<Value>>>,
    /// Registers that every partition writes: kept when newer.
    pub registers: Vec<(&'static str, Vec<Value>)>,
    /// Resources that the fold owns.
    pub resources: BTreeMap<(&'static str, Id), ResourceChange>,
    /// Resources that every partition may write (Practitioner, Location): kept when `stamp` is newer.
    pub register_resources: BTreeMap<(&'static str, Id), (Vec<u8>, ResourceChange)>,
    /// What others are told.
    pub outbox: Vec<Outgoing>,
}

impl Changes {
    /// Puts a row: the first `key_len` values are its key.
    pub fn put(&mut self, table: &'static hilum_engines::tables::Table, values: Vec<Value>) {
        let key = values.iter().take(table.key_len).cloned().collect();
        self.rows.insert((table.name, key), Some(values));
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: &'static hilum_engines::tables::Table, key: Key) {
        self.rows.insert((table.name, key), None);
    }

    /// Puts a resource.
    pub fn resource(&mut self, change: ResourceChange) {
        self.resources.insert((change.resource_type, change.id), change);
    }
}

/// Why an event has no effect; it is quarantined, its neighbours are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The event.
    pub position: Position,
    /// The rule's id (`charset.unsupported`, `apply.panic`).
    pub rule: &'static str,
    /// Where in the message (`PID-3`), if one place is at fault.
    pub path: Option<String>,
    /// What is wrong, without patient data.
    pub text: String,
}

/// A pure function from events and what is known to what should stand.
pub trait Projection: Send + Sync + 'static {
    /// Names its offset row.
    const NAME: &'static str;
    /// What a record of the log is to it, decoded once per batch.
    type Event: Send + Sync;

    /// Decodes a record. Never fails: what cannot be decoded is an event too, one that `apply` rejects.
    fn decode(&self, record: &Record) -> Self::Event;

    /// Names the rows that `apply` will need beyond `have`. Asked until it adds nothing.
    fn needs(&self, events: &[Self::Event], have: &Rows, reads: &mut Reads);

    /// Computes what should stand. Pure; per fold unit: a rejection leaves no half effect.
    fn apply(&self, events: &[Self::Event], have: &Rows, out: &mut Changes) -> Vec<Rejected>;

    /// Writes down that an event was rejected (its quarantine row, its journey).
    fn reject(&self, event: &Self::Event, rejected: &Rejected, have: &Rows, out: &mut Changes);
}
