//! A projection is a pure function between reads and one commit.
//!
//! The runner asks [`Projection::needs`] until it names nothing new (at most `NEEDS_ROUNDS_MAX` rounds), calls
//! [`Projection::apply`], and commits rows, resources, offset and outbox together. Every row that was read is
//! validated by that commit, absent ones too; a scan is validated through the head row that guards its table:
//! whoever reads or writes a row of a guarded table reads and writes that head (see [`crate::family`]).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::ready;
use std::sync::Arc;

use futures::future::BoxFuture;
use hilum_core::{Digest, Epoch, Id, Position, RecordId, Stream, Timestamp};
use hilum_engines::log::{Log, LogError, Record};
use hilum_engines::tables::{Key, Outgoing, Row, Scan, Table, Value};
use hilum_fhir::json::Json;

use crate::index::{Indexer, Unsearched};

/// What a projection wants to read: rows by key and ranges.
#[derive(Debug, Default)]
pub struct Reads {
    /// Rows by (table, key).
    pub gets: Vec<(&'static str, Key)>,
    /// Ranges. A range that decides something must lie under a head row that is also among `gets`. The runner pages
    /// through a range whose limit is larger than one scan's bound.
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

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.gets.is_empty() && self.scans.is_empty()
    }
}

/// What was read so far.
#[derive(Debug, Default)]
pub struct Rows {
    gets: HashMap<&'static str, HashMap<Key, Option<Row>>>,
    scans: HashMap<Scan, Vec<Row>>,
}

impl Rows {
    /// The row, if it was read and is there.
    pub fn get(&self, table: &'static str, key: &[Value]) -> Option<&Row> {
        self.gets.get(table)?.get(key)?.as_ref()
    }

    /// Whether the row was read (there or not).
    pub fn has_read(&self, table: &'static str, key: &[Value]) -> bool {
        self.gets.get(table).is_some_and(|rows| rows.contains_key(key))
    }

    /// The rows of a range that was read; `None` before it was.
    pub fn scan(&self, scan: &Scan) -> Option<&[Row]> {
        self.scans.get(scan).map(Vec::as_slice)
    }

    /// Puts in what a get found.
    pub fn put_get(&mut self, table: &'static str, key: Key, row: Option<Row>) {
        self.gets.entry(table).or_default().insert(key, row);
    }

    /// Puts in what a scan found.
    pub fn put_scan(&mut self, scan: Scan, rows: Vec<Row>) {
        self.scans.insert(scan, rows);
    }

    /// All rows that were read by key, for the commit's expectations.
    pub fn gets(&self) -> impl Iterator<Item = (&'static str, &Key, Option<&Row>)> {
        self.gets
            .iter()
            .flat_map(|(table, rows)| rows.iter().map(move |(key, row)| (*table, key, row.as_ref())))
    }
}

/// A FHIR resource that the fold owns, as it should now stand. The chart writes a new version only if the body
/// differs from the stored one.
#[derive(Clone, PartialEq, Eq)]
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

/// Prints no body.
impl fmt::Debug for ResourceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceChange")
            .field("resource_type", &self.resource_type)
            .field("id", &self.id)
            .field("deleted", &self.body.is_none())
            .finish_non_exhaustive()
    }
}

/// A resource that every partition may write (Practitioner, Location): the one with the greatest stamp stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterChange {
    /// Orders all writes of this resource, whoever makes them: time first, in an order-preserving form. The chart adds
    /// the body's digest, so that the order is total.
    pub stamp: Vec<u8>,
    /// What should stand.
    pub change: ResourceChange,
}

impl RegisterChange {
    /// The stamp with the body's digest behind it.
    pub fn total_stamp(&self) -> Vec<u8> {
        let mut stamp = self.stamp.clone();
        stamp.extend(Digest::of(self.change.body.as_deref().unwrap_or_default().as_bytes()).as_bytes());
        stamp
    }
}

/// What a projection wants to write.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Rows to put (`Some`, all columns) or delete (`None`), by table and key: the last word counts.
    pub rows: BTreeMap<(&'static str, Key), Option<Vec<Value>>>,
    /// Registers that every partition writes: kept when newer. Within a batch the newest stands.
    pub registers: BTreeMap<(&'static str, Key), Vec<Value>>,
    /// Resources that the fold owns.
    pub resources: BTreeMap<(&'static str, Id), ResourceChange>,
    /// Resources that every partition may write (Practitioner, Location): kept when `stamp` is newer.
    pub register_resources: BTreeMap<(&'static str, Id), RegisterChange>,
    /// What others are told.
    pub outbox: Vec<Outgoing>,
    /// A table of which a stored row that this rests on cannot be read: nothing of this may be committed, or the row
    /// would be overwritten by what was made up in its stead.
    pub unreadable: Option<&'static str>,
}

fn key_of(table: &'static Table, values: &[Value]) -> Key {
    values.iter().take(table.key_len).cloned().collect()
}

impl Changes {
    /// Puts a row: the first `key_len` values are its key.
    pub fn put(&mut self, table: &'static Table, values: Vec<Value>) {
        self.rows.insert((table.name, key_of(table, &values)), Some(values));
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: &'static Table, key: Key) {
        self.rows.insert((table.name, key), None);
    }

    /// Puts a row of a register: it is kept when its register column is greater than the stored one.
    pub fn register(&mut self, table: &'static Table, values: Vec<Value>) {
        let place = table.register.and_then(|name| table.column(name));
        let key = (table.name, key_of(table, &values));
        let stands = self
            .registers
            .get(&key)
            .zip(place)
            .is_some_and(|(old, place)| old.get(place) >= values.get(place));
        if !stands {
            self.registers.insert(key, values);
        }
    }

    /// Puts a resource.
    pub fn resource(&mut self, change: ResourceChange) {
        self.resources.insert((change.resource_type, change.id), change);
    }

    /// Puts a resource that every partition may write. Bodies and stamps are a function of the message alone; the
    /// greatest stamp stands, in whatever order they come.
    pub fn register_resource(&mut self, stamp: Vec<u8>, change: ResourceChange) {
        let key = (change.resource_type, change.id);
        let new = RegisterChange { stamp, change };
        let stands =
            self.register_resources.get(&key).is_some_and(|old| old.total_stamp() >= new.total_stamp());
        if !stands {
            self.register_resources.insert(key, new);
        }
    }
}

impl Changes {
    /// Adds what other events change: rows and resources of other families, registers of anybody.
    pub(crate) fn join(&mut self, other: Self) {
        let Self { rows, registers, resources, register_resources, outbox, unreadable } = other;
        self.rows.extend(rows);
        self.resources.extend(resources);
        self.outbox.extend(outbox);
        self.unreadable = self.unreadable.or(unreadable);
        for new in register_resources.into_values() {
            self.register_resource(new.stamp, new.change);
        }
        // `meet` has seen that none of them is written by both.
        self.registers.extend(registers);
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

/// A record of the log that cannot be read back. Nothing of it is known but its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its place.
    pub position: Position,
    /// The log's life.
    pub epoch: Epoch,
    /// When the nearest readable record before it was received, or when the log began.
    pub received: Timestamp,
    /// What the log says of it, without its content.
    pub why: String,
}

/// A pure function from events and what is known to what should stand.
///
/// The state that it keeps is a function of the *set* of events, never of their order: the runner cuts the log into
/// batches as it likes, repeats a batch after a conflict, and runs partitions side by side.
pub trait Projection: Send + Sync + 'static {
    /// Names its offset row, and the resources that it owns.
    const NAME: &'static str;
    /// The streams that it reads, in the order in which a rebuild goes through them.
    const STREAMS: &'static [Stream] = &Stream::ALL;
    /// All tables that it keeps (the family tables too, if it uses them), and that nothing else writes: what a
    /// rebuild compares and mends.
    const TABLES: &'static [&'static Table] = &[];
    /// (table, column) that a rebuild neither compares nor mends because they tell when something was done, not what
    /// is known. Columns of type `Seq` never are compared.
    const NOT_COMPARED: &'static [(&'static str, &'static str)] = &[];
    /// The form of its rows: raised whenever a stored cell is written or read differently. Rows of another form are
    /// refused at the start, and made anew by a rebuild.
    const FORM: i64 = 1;
    /// Whether [`Projection::foresee`] has to be asked: it costs a look through what is not applied yet.
    const FORESEES: bool = false;
    /// What a record of the log is to it, decoded once per batch.
    type Event: Send + Sync + 'static;

    /// What makes its resources found by searches; absent where there are none.
    fn indexer(&self) -> Option<Arc<Indexer>> {
        None
    }

    /// What of a resource that it made no search may find.
    fn unsearched(_resource: &Json<'_>) -> Unsearched {
        Unsearched::Nothing
    }

    /// Learns from the log what `records` need to be decoded: another process may have written it a moment ago.
    ///
    /// # Errors
    /// The log's: the partition pauses.
    fn prepare<'a>(&'a self, _log: &'a Log, _records: &'a [Record]) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(ready(Ok(())))
    }

    /// Decodes a record. Never fails: what cannot be decoded is an event too, one that `apply` rejects.
    fn decode(&self, record: &Record) -> Self::Event;

    /// Names rows that have to stand before any record is applied, wherever in the log the record is that says so; they
    /// are put where there is no row yet. To be what `apply` makes of that record in its turn.
    fn foresee(&self, _record: &Record, _out: &mut Changes) {}

    /// Names the rows that `apply` will need beyond `have`. Asked until it adds nothing.
    fn needs(&self, events: &[Self::Event], have: &Rows, reads: &mut Reads);

    /// Computes what should stand. Pure; per fold unit: a rejection leaves no half effect. What was read by several
    /// reads may not fit together (the commit will find that out): do not rely on it, a panic costs time.
    fn apply(&self, events: &[Self::Event], have: &Rows, out: &mut Changes) -> Vec<Rejected>;

    /// Names the rows that [`Projection::reject`] would like to have beyond `have`. Asked until it adds nothing; it may
    /// go without them.
    fn needs_rejected(&self, _event: &Self::Event, _have: &Rows, _reads: &mut Reads) {}

    /// Writes down that an event was rejected (its quarantine row, its journey). Called behind `apply`, also for an
    /// event whose `needs` or `apply` panicked: `have` may then lack rows, and is empty where what was written with
    /// them could not be committed either.
    fn reject(&self, event: &Self::Event, rejected: &Rejected, have: &Rows, out: &mut Changes);

    /// Writes down that a record cannot be read and was passed over. A function of the place and its neighbours: a
    /// rebuild comes to the same row, and one from a mended log to the record's own.
    fn unreadable(&self, record: &Unreadable, out: &mut Changes);
}
