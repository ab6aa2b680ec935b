//! A projection small enough to be checked by eye: accounts that are noted, merged and unmerged. It uses everything
//! that a room uses: families with renames, rows under them, resources, registers, rejections.
//!
//! The oracle ([`oracle`]) computes what should stand from the set of events alone, with families found the slow way.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hilum_chart::family::{self, Head, Rank, Ties};
use hilum_chart::index::{self, Indexer};
use hilum_chart::projection::{Changes, Projection, Reads, Rejected, ResourceChange, Rows, Unreadable};
use hilum_chart::{Chart, resources};
use hilum_core::{
    Authority, Clock, Digest, Entropy, Envelope, Id, InstallationKey, Position, RecordId, Seq, Stream,
    Timestamp,
};
use hilum_engines::log::embedded::{self, Embedded};
use hilum_engines::log::{Log, Record};
use hilum_engines::sqlite_file::SyncMode;
use hilum_engines::tables::postgres::{Postgres, PostgresConfig};
use hilum_engines::tables::sqlite::{self, Place, Sqlite};
use hilum_engines::tables::{Column, Read, Row, Scan, Table, Tables, Type, Value};
use hilum_fhir::search::values::Settings;
use hilum_testkit::record;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// What is known about the accounts of a family, one row per event (by digest: a duplicate is the same row).
pub const FACT: Table = Table {
    name: "toy_fact",
    key_len: 2,
    columns: &[
        Column::new("family", Type::Id),
        Column::new("digest", Type::Bytes),
        Column::new("event", Type::Text),
        Column::new("arrival", Type::Int), // 0, unless arrival is planted as a fault
        Column::new("from_t", Type::Seq),
    ],
    indexes: &[],
    register: None,
};

/// Events that were rejected.
pub const REFUSED: Table = Table {
    name: "toy_refused",
    key_len: 1,
    columns: &[
        Column::new("message", Type::Id),
        Column::new("rule", Type::Text),
        Column::new("at", Type::Time), // when it was done: a rebuild does not compare it
    ],
    indexes: &[],
    register: None,
};

pub const TABLES: &[&Table] = &[&family::HEAD, &family::FAMILY, &FACT, &REFUSED];

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Message {
    /// Something is noted about an account; the visit is a head of its own.
    Note { account: u32, visit: u32, place: u32, value: u32, at: u32 },
    /// The old account becomes the new one.
    Merge { old: u32, new: u32, at: u32 },
    /// The merge of the two is undone.
    Unmerge { old: u32, new: u32, at: u32 },
    /// `apply` rejects it.
    Bad,
    /// `apply` panics on it.
    Panic { account: u32 },
    /// `needs` panics on it.
    PanicInNeeds,
    /// `apply` rejects it, and `reject` panics.
    PanicInReject,
    /// `decode` panics on it.
    PanicInDecode,
    /// Its row cannot be stored.
    Nul,
}

impl Message {
    fn at(&self) -> u32 {
        match self {
            Self::Note { at, .. } | Self::Merge { at, .. } | Self::Unmerge { at, .. } => *at,
            Self::Bad
            | Self::Panic { .. }
            | Self::PanicInNeeds
            | Self::PanicInReject
            | Self::PanicInDecode
            | Self::Nul => 0,
        }
    }

    fn heads(&self) -> Vec<Head> {
        match *self {
            Self::Note { account, visit, .. } => {
                vec![Head::patient(id("Account", account)), Head::encounter(id("Visit", visit))]
            }
            Self::Merge { old, new, .. } | Self::Unmerge { old, new, .. } => {
                vec![Head::patient(id("Account", old)), Head::patient(id("Account", new))]
            }
            Self::Panic { account } => vec![Head::patient(id("Account", account))],
            Self::Bad | Self::PanicInNeeds | Self::PanicInReject | Self::PanicInDecode | Self::Nul => {
                Vec::new()
            }
        }
    }

    /// The stream that it comes by, and what its partition is chosen by.
    fn route(&self) -> (Stream, u32) {
        match *self {
            Self::Note { account, .. } | Self::Panic { account } => (Stream::Hl7In, account),
            Self::Merge { new, .. } => (Stream::Hl7In, new),
            Self::Unmerge { old, .. } => (Stream::Decisions, old),
            Self::Bad | Self::PanicInNeeds | Self::PanicInReject | Self::PanicInDecode | Self::Nul => {
                (Stream::Hl7In, 0)
            }
        }
    }
}

pub fn id(kind: &str, n: u32) -> Id {
    InstallationKey::new([5; 32]).id(kind, &[&n.to_le_bytes()])
}

/// What stands for the message in `meta.source`: the same for all its duplicates.
fn source(digest: &Digest) -> RecordId {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    RecordId::from_uuid(Id::from_bytes(bytes).as_uuid())
}

pub struct Event {
    position: Position,
    record: RecordId,
    received: Timestamp,
    digest: Digest,
    message: Message,
}

/// The toy; `by_arrival` plants the fault that ties are decided by who came first.
#[derive(Default)]
pub struct Toy {
    pub by_arrival: bool,
    /// A partition of `hl7.in` that is not looked through before this is let go.
    pub stuck: Option<(u16, Arc<AtomicBool>)>,
    /// A partition of `hl7.in` that cannot be looked through without a panic before this is let go.
    pub breaks: Option<(u16, Arc<AtomicBool>)>,
}

/// A fact as it is folded: time, then digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Fact {
    at: u32,
    arrival: i64,
    digest: Vec<u8>,
    message: Message,
}

/// What the accounts of one family are, by the facts of that family.
fn fold(facts: &BTreeSet<Fact>) -> BTreeMap<u32, (String, RecordId)> {
    let mut accounts = BTreeSet::new();
    let mut merges: Vec<(u32, u32, &Fact)> = Vec::new();
    for fact in facts {
        match fact.message {
            Message::Note { account, .. } => {
                accounts.insert(account);
            }
            Message::Merge { old, new, .. } => {
                accounts.extend([old, new]);
                let cycle = survivor(&merges, new) == old;
                if !cycle && survivor(&merges, old) == old {
                    merges.push((old, new, fact));
                }
            }
            Message::Unmerge { old, new, .. } => {
                accounts.extend([old, new]);
                merges.retain(|&(o, n, _)| (o, n) != (old, new));
            }
            Message::Bad
            | Message::Panic { .. }
            | Message::PanicInNeeds
            | Message::PanicInReject
            | Message::PanicInDecode
            | Message::Nul => {}
        }
    }
    let mut out = BTreeMap::new();
    for account in accounts {
        let into = survivor(&merges, account);
        let notes: Vec<(u32, &Fact)> = facts
            .iter()
            .filter_map(|fact| match fact.message {
                Message::Note { account: noted, value, .. }
                    if into == account && survivor(&merges, noted) == account =>
                {
                    Some((value, fact))
                }
                _ => None,
            })
            .collect();
        let merged = merges.iter().find(|merge| merge.0 == account).map(|merge| merge.2);
        let last = merged.or(notes.last().map(|note| note.1)).or(facts.last()).unwrap();
        let digest = Digest::from_bytes(last.digest.as_slice().try_into().unwrap());
        let values: Vec<String> = notes.iter().map(|(value, _)| value.to_string()).collect();
        let body = format!(
            r#"{{"resourceType":"Account","id":"{}","meta":{{"source":"urn:uuid:{}"}},"into":{into},"values":[{}]}}"#,
            id("Account", account),
            source(&digest),
            values.join(",")
        );
        out.insert(account, (body, source(&digest)));
    }
    out
}

fn survivor(merges: &[(u32, u32, &Fact)], mut account: u32) -> u32 {
    while let Some(&(_, new, _)) = merges.iter().find(|merge| merge.0 == account) {
        account = new;
    }
    account
}

fn place_body(place: u32, value: u32) -> String {
    format!(r#"{{"resourceType":"Location","id":"{}","value":{}}}"#, id("Place", place), value % 3)
}

fn ties(events: &[Event]) -> Ties {
    let mut ties = Ties::default();
    for event in events {
        ties.tie(event.message.heads());
    }
    ties
}

impl Projection for Toy {
    const NAME: &'static str = "toy";
    const FORESEES: bool = true;
    const TABLES: &'static [&'static Table] = TABLES;
    const NOT_COMPARED: &'static [(&'static str, &'static str)] = &[("toy_refused", "at")];
    type Event = Event;

    fn indexer(&self) -> Option<Arc<Indexer>> {
        Some(indexer())
    }

    fn decode(&self, record: &Record) -> Event {
        let message = serde_json::from_slice(&record.envelope.body).unwrap_or(Message::Bad);
        assert!(message != Message::PanicInDecode, "planted");
        Event {
            position: record.position,
            record: record.envelope.id,
            received: record.envelope.received,
            digest: record.envelope.digest,
            message,
        }
    }

    fn foresee(&self, record: &Record, _out: &mut Changes) {
        if let Some((partition, is_free)) = &self.breaks
            && (record.position.stream, record.position.partition) == (Stream::Hl7In, *partition)
        {
            assert!(is_free.load(Ordering::Relaxed), "planted");
        }
        if let Some((partition, is_free)) = &self.stuck
            && (record.position.stream, record.position.partition) == (Stream::Hl7In, *partition)
        {
            while !is_free.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn needs(&self, events: &[Event], have: &Rows, reads: &mut Reads) {
        assert!(!events.iter().any(|event| event.message == Message::PanicInNeeds), "planted");
        let ties = ties(events);
        ties.needs(&[&FACT], have, reads);
        if let Some(families) = ties.resolve(have) {
            for family in families.touched() {
                families.want(&FACT, family, &[], reads);
            }
        }
    }

    fn apply(&self, events: &[Event], have: &Rows, out: &mut Changes) -> Vec<Rejected> {
        let families = ties(events).resolve(have).unwrap();
        families.write(&[&FACT], have, out);
        let mut facts: BTreeMap<Id, BTreeSet<Fact>> = BTreeMap::new();
        for family in families.touched() {
            let rows = families.rows(&FACT, family, &[], have).unwrap();
            facts.insert(family, rows.iter().map(|values| fact_of(values)).collect());
        }
        let mut rejected = Vec::new();
        for event in events {
            match &event.message {
                Message::Bad | Message::PanicInReject => rejected.push(Rejected {
                    position: event.position,
                    rule: "toy.bad",
                    path: None,
                    text: "bad".to_owned(),
                }),
                Message::Panic { .. } => panic!("planted"),
                Message::Nul => {
                    let digest = Value::Bytes(event.digest.as_bytes().to_vec().into());
                    let family = Value::Id(id("Nul", 0));
                    let text = Value::Text("a\0b".to_owned());
                    out.put(&FACT, vec![family, digest, text, Value::Int(0), Value::ThisCommit]);
                }
                message @ (Message::Note { .. } | Message::Merge { .. } | Message::Unmerge { .. }) => {
                    let family = families.of(message.heads()[0].id).unwrap();
                    let of_family = facts.get_mut(&family).unwrap();
                    let digest = event.digest.as_bytes().to_vec();
                    if of_family.iter().any(|fact| fact.digest == digest) {
                        continue;
                    }
                    let arrival = if self.by_arrival { 1 + of_family.len() as i64 } else { 0 };
                    of_family.insert(Fact {
                        at: message.at(),
                        arrival,
                        digest: digest.clone(),
                        message: message.clone(),
                    });
                    out.put(
                        &FACT,
                        vec![
                            Value::Id(family),
                            Value::Bytes(digest.into()),
                            Value::Text(serde_json::to_string(message).unwrap()),
                            Value::Int(arrival),
                            Value::ThisCommit,
                        ],
                    );
                    if let Message::Note { place, value, at, .. } = *message {
                        out.register_resource(
                            at.to_be_bytes().to_vec(),
                            ResourceChange {
                                resource_type: "Location",
                                id: id("Place", place),
                                body: Some(place_body(place, value)),
                                source: source(&event.digest),
                            },
                        );
                    }
                }
                Message::PanicInNeeds | Message::PanicInDecode => {}
            }
        }
        for facts in facts.values() {
            for (account, (body, source)) in fold(facts) {
                out.resource(ResourceChange {
                    resource_type: "Account",
                    id: id("Account", account),
                    body: Some(body),
                    source,
                });
            }
        }
        rejected
    }

    fn reject(&self, event: &Event, rejected: &Rejected, _have: &Rows, out: &mut Changes) {
        assert!(event.message != Message::PanicInReject, "planted");
        let rule = Value::Text(rejected.rule.to_owned());
        out.put(&REFUSED, vec![Value::Id(event.record.as_id()), rule, Value::Time(event.received)]);
    }

    fn unreadable(&self, record: &Unreadable, out: &mut Changes) {
        let rule = Value::Text("log.corrupt".to_owned());
        let at = id("Unreadable", record.position.offset as u32);
        out.put(&REFUSED, vec![Value::Id(at), rule, Value::Time(record.received)]);
    }
}

fn fact_of(values: &[Value]) -> Fact {
    let [_, Value::Bytes(digest), Value::Text(event), Value::Int(arrival), _] = values else {
        panic!("a fact has five columns")
    };
    let message: Message = serde_json::from_str(event).unwrap();
    Fact { at: message.at(), arrival: *arrival, digest: digest.to_vec(), message }
}

/// What should stand: bodies by (type, id), and rows of heads, families and facts, `t` left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Where the search index is not what the bodies say.
    pub index_fault: Option<String>,
    pub bodies: BTreeMap<(String, Id), String>,
    pub rows: BTreeMap<&'static str, Vec<Vec<Value>>>,
}

/// Computes it from the set of messages: the sequential oracle.
pub fn oracle(messages: &[Message]) -> Standing {
    let set: BTreeSet<Message> = messages.iter().cloned().collect();
    let mut families: Vec<(BTreeSet<Head>, BTreeSet<Fact>)> = Vec::new();
    let mut places: BTreeMap<u32, (u32, Vec<u8>, u32)> = BTreeMap::new();
    for message in set {
        let mut heads: BTreeSet<Head> = message.heads().into_iter().collect();
        if heads.is_empty() || matches!(message, Message::Panic { .. }) {
            continue;
        }
        if let Message::Note { place, value, at, .. } = message {
            let body = Digest::of(place_body(place, value).as_bytes()).as_bytes().to_vec();
            let new = (at, body, value);
            let stands = places.get(&place).is_some_and(|old| (old.0, &old.1) >= (new.0, &new.1));
            if !stands {
                places.insert(place, new);
            }
        }
        let body = serde_json::to_string(&message).unwrap();
        let digest = Digest::of(body.as_bytes()).as_bytes().to_vec();
        let mut facts = BTreeSet::from([Fact { at: message.at(), arrival: 0, digest, message }]);
        let (touching, rest) =
            families.into_iter().partition(|(others, _): &(BTreeSet<Head>, _)| !others.is_disjoint(&heads));
        families = rest;
        for (other_heads, other_facts) in touching {
            heads.extend(other_heads);
            facts.extend(other_facts);
        }
        families.push((heads, facts));
    }
    let mut standing = Standing::default();
    for (place, (_, _, value)) in places {
        let key = ("Location".to_owned(), id("Place", place));
        standing.bodies.insert(key, place_body(place, value));
    }
    let (mut head_rows, mut family_rows, mut fact_rows) = (Vec::new(), Vec::new(), Vec::new());
    for (heads, facts) in families {
        let name = *heads.first().unwrap();
        let rank = match name.rank {
            Rank::Patient => 0,
            Rank::Encounter => 1,
        };
        family_rows.push(vec![Value::Id(name.id), Value::Int(heads.len() as i64)]);
        for head in heads {
            head_rows.push(vec![Value::Id(head.id), Value::Id(name.id), Value::Int(rank)]);
        }
        for fact in &facts {
            fact_rows.push(vec![
                Value::Id(name.id),
                Value::Bytes(fact.digest.clone().into()),
                Value::Text(serde_json::to_string(&fact.message).unwrap()),
                Value::Int(0),
            ]);
        }
        for (account, (body, _)) in fold(&facts) {
            standing.bodies.insert(("Account".to_owned(), id("Account", account)), body);
        }
    }
    for (name, mut rows) in
        [(family::HEAD.name, head_rows), (family::FAMILY.name, family_rows), (FACT.name, fact_rows)]
    {
        rows.sort_unstable();
        standing.rows.insert(name, rows);
    }
    standing
}

/// What stands in the tables.
pub async fn standing(tables: &Tables) -> Standing {
    let chart = Chart::open(tables.clone(), clock());
    let authority = Authority::system("test");
    let mut standing = Standing { index_fault: check_index(tables).await.err(), ..Standing::default() };
    for resource_type in ["Account", "Location"] {
        let mut after = None;
        loop {
            let (page, next) = chart.page(&authority, resource_type, after, 100).await.unwrap();
            for stored in page {
                let body = stored.text().unwrap().to_owned();
                standing.bodies.insert((stored.resource_type, stored.id), body);
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
    }
    for table in [&family::HEAD, &family::FAMILY, &FACT] {
        let mut rows: Vec<Vec<Value>> = all(tables, table).await.into_iter().map(|row| row.values).collect();
        for values in &mut rows {
            values.retain(|value| !matches!(value, Value::Seq(_)));
        }
        standing.rows.insert(table.name, rows);
    }
    standing
}

/// All rows of a small table.
pub async fn all(tables: &Tables, table: &'static Table) -> Vec<Row> {
    tables.read(&[Read::Scan(Scan::by_key(table.name, Vec::new()))]).await.unwrap().pop().unwrap()
}

/// A clock that moves on by a millisecond with each look.
pub fn clock() -> Clock {
    let ticks = std::sync::atomic::AtomicI64::new(1_700_000_000_000_000);
    Clock::new(move || Timestamp::from_micros(ticks.fetch_add(1_000, std::sync::atomic::Ordering::Relaxed)))
}

pub fn open_log(folder: &Path) -> Log {
    let options = embedded::Options { sync: SyncMode::Off, disk_reserve_ratio: 0.0, ..Default::default() };
    Log::Embedded(Embedded::open(&folder.join("log.sqlite"), clock(), Entropy::seeded(1), options).unwrap())
}

/// Empty tables in memory.
pub fn open_tables() -> Tables {
    let schema: Vec<&'static Table> = resources::TABLES.iter().chain(TABLES).copied().collect();
    Tables::Sqlite(Sqlite::open(Place::Memory, &schema, sqlite::Options::default()).unwrap())
}

/// Empty tables in a schema of their own.
pub async fn open_postgres(server: &hilum_testkit::postgres::Postgres, url: &str) -> Tables {
    let schema: Vec<&'static Table> = resources::TABLES.iter().chain(TABLES).copied().collect();
    let config = PostgresConfig { allow_weak: true, ..PostgresConfig::new(url, server.fresh_schema()) };
    Tables::Postgres(Postgres::open(config, &schema).await.unwrap())
}

pub fn envelope(message: &Message, random: &Entropy) -> Envelope {
    let body = serde_json::to_vec(message).unwrap();
    let (stream, by) = message.route();
    Envelope {
        id: random.record_id(record::RECEIVED),
        key: id("Route", by),
        ..record::envelope(stream, body)
    }
}

/// Appends all at once; each partition has them in this order.
pub async fn append(log: &Log, messages: &[Message], random: &Entropy) {
    let appends = messages.iter().map(|message| log.append(envelope(message, random)));
    for outcome in futures::future::join_all(appends).await {
        outcome.unwrap();
    }
}

/// A seeded choice below `n`.
pub fn below(random: &Entropy, n: u32) -> u32 {
    u32::from_le_bytes(random.bytes()) % n
}

/// A day: notes, merges in chains and circles, unmerges, late and duplicate events.
pub fn day(random: &Entropy, count: u32) -> Vec<Message> {
    let mut day: Vec<Message> = Vec::new();
    for n in 0..count {
        let at = below(random, count / 2); // many ties
        let (one, other) = (below(random, 12), below(random, 12));
        day.push(match below(random, 10) {
            0 | 1 if one != other => Message::Merge { old: one, new: other, at },
            2 if one != other => Message::Unmerge { old: one, new: other, at },
            3 if n > 0 => day[below(random, n) as usize].clone(),
            _ => Message::Note {
                account: one,
                visit: one * 100 + below(random, 3),
                place: below(random, 4),
                value: n,
                at,
            },
        });
    }
    day
}

pub fn toy() -> Arc<Toy> {
    Arc::new(Toy::default())
}

/// What the index of these tests is made with.
pub fn index_settings() -> (InstallationKey, Settings) {
    (InstallationKey::new([7; 32]), Settings { zone: TimeZone::UTC, bases: Vec::new() })
}

/// What makes index rows in these tests.
pub fn indexer() -> Arc<Indexer> {
    static INDEXER: OnceLock<Arc<Indexer>> = OnceLock::new();
    Arc::clone(INDEXER.get_or_init(|| {
        let (key, settings) = index_settings();
        Arc::new(Indexer::new(key, settings))
    }))
}

/// Every row of the index that is visible at `t`: type and id of its resource, the row as the indexer would say it.
pub async fn visible(tables: &Tables, t: Seq) -> BTreeSet<(String, Id, String)> {
    let mut of_row = BTreeMap::new();
    for row in all(tables, &resources::RESOURCE).await {
        if let [Value::Text(ty), Value::Id(id), ..] = row.values.as_slice() {
            of_row.insert(row.values[10].clone(), (ty.clone(), *id));
        }
    }
    let mut found = BTreeSet::new();
    for table in index::tables::TABLES {
        let (subject, from_t) = (table.column("subject").unwrap(), table.column("from_t").unwrap());
        for row in all(tables, table).await {
            let begins = matches!(row.values[from_t], Value::Seq(from) if from <= t);
            let ended = matches!(row.values[from_t + 1], Value::Seq(to) if to <= t);
            if begins && !ended {
                let value = index::rows::IndexRow::of_row(table, &row.values).unwrap();
                let (ty, id) =
                    of_row.get(&row.values[subject]).cloned().unwrap_or_else(|| (String::new(), id("", 0)));
                let mut one = (ty, id, format!("{value:?}"));
                while !found.insert(one.clone()) {
                    one.2.push_str(" once more");
                }
            }
        }
    }
    found
}

/// Whether the index says what the bodies say that stand.
pub async fn check_index(tables: &Tables) -> Result<(), String> {
    let mut want = BTreeSet::new();
    for row in all(tables, &resources::RESOURCE).await {
        let [Value::Text(ty), Value::Id(id), ..] = row.values.as_slice() else { continue };
        let [.., Value::Bytes(body), _, form, _, _] = row.values.as_slice() else { continue };
        if *form == Value::Int(indexer().form()) && !body.is_empty() {
            let body = hilum_chart::body::decode(body).unwrap();
            let text = std::str::from_utf8(&body).unwrap();
            let rows = indexer().rows(Some(text), |_| index::Unsearched::Nothing).rows;
            want.extend(rows.into_iter().map(|row| (ty.clone(), *id, format!("{row:?}"))));
        }
    }
    let found = visible(tables, tables.now().await.unwrap()).await;
    if found == want {
        return Ok(());
    }
    let (more, less): (Vec<_>, Vec<_>) =
        (found.difference(&want).collect(), want.difference(&found).collect());
    Err(format!("too many: {more:?}\nmissing: {less:?}"))
}
