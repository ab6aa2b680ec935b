//! Who is there: the processes of one installation, each as it says of itself every few seconds in a row that all read.
//!
//! A row that is not renewed is that of a process that is gone, or that cannot reach the tables: which of the two, nobody
//! can say, so it is shown as one that gives no sign of life. After [`PROCESS_KEPT_S`] the others remove it. Who stops in
//! good order takes its row along.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hilum_core::{Clock, Id, Stream, Timestamp};
use hilum_engines::tables::{Batch, Column, Read, Row, Scan, Table, Tables, TablesError, Type, Value, Write};
use serde::{Deserialize, Serialize};

use crate::limits::{PROCESS_KEPT_S, PROCESS_SILENT_S, TWIN_SIGNS};
use crate::progress::{PartitionHealth, Paused, Progress};

/// The processes.
pub const PROCESS: Table = Table {
    name: "chart_process",
    key_len: 1,
    columns: &[
        Column::new("id", Type::Id),
        Column::new("host", Type::Text),       // the machine's own name
        Column::new("roles", Type::Text),      // gateway,worker
        Column::optional("http", Type::Text),  // address
        Column::optional("mllp", Type::Text),  // address; absent = no such door
        Column::new("version", Type::Text),    // of the program
        Column::new("started", Type::Time),    // by its own clock, as all of its times
        Column::new("seen", Type::Time),       // its last sign of life
        Column::new("partitions", Type::Text), // JSON: at which it works, and how it does
        Column::new("doors", Type::Text),      // JSON of the rooms: what comes in by its doors
    ],
    indexes: &[],
    register: None,
};

/// A partition in the words of whoever works at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AtWork {
    /// The stream.
    pub stream: Stream,
    /// The partition.
    pub partition: u16,
    /// When the oldest record that is read but not applied was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_unapplied: Option<Timestamp>,
    /// Why it stands still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// Commits since that process started.
    pub commits: u64,
    /// Commits that were tried again.
    pub conflicts: u64,
    /// Events rejected since that process started.
    pub rejected: u64,
}

impl AtWork {
    fn of(one: &PartitionHealth) -> Self {
        Self {
            stream: one.stream,
            partition: one.partition,
            oldest_unapplied: one.oldest_unapplied,
            paused: one.paused.clone(),
            commits: one.commits,
            conflicts: one.conflicts,
            rejected: one.rejected,
        }
    }
}

/// One process, as it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Which: the same over its restarts.
    pub id: Id,
    /// The name of its machine.
    pub host: String,
    /// What it is there for: `gateway,worker`.
    pub roles: String,
    /// Where it answers HTTP.
    pub http: Option<String>,
    /// Where it accepts MLLP.
    pub mllp: Option<String>,
    /// Of the program.
    pub version: String,
    /// When it was started.
    pub started: Timestamp,
    /// Its last sign of life, by its own clock.
    pub seen: Timestamp,
    /// The same by the clock of who looks. Not in the row.
    pub heard: Timestamp,
    /// When who looks first saw it say so. Not in the row.
    pub first_seen: Timestamp,
    /// At which partitions it works.
    pub partitions: Vec<AtWork>,
    /// What comes in by its doors, as JSON in the rooms' form.
    pub doors: String,
}

impl Process {
    /// Whether it gave a sign of life lately.
    pub fn is_there(&self, now: Timestamp) -> bool {
        now.micros_since(self.heard) <= PROCESS_SILENT_S * 1_000_000
    }

    /// Whether it is there for `role`.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.split(',').any(|one| one == role)
    }

    /// A name that people can tell from others: its machine, and the port of its door. An address may be `0.0.0.0`.
    pub fn place(&self) -> String {
        let door = self.mllp.as_ref().or(self.http.as_ref());
        let port = door.and_then(|address| address.rsplit_once(':')).map(|(_, port)| port);
        port.map_or_else(|| format!("{} {}", self.host, self.id), |port| format!("{}:{port}", self.host))
    }

    fn row(&self) -> Vec<Value> {
        let text = |text: &Option<String>| text.clone().map_or(Value::Null, Value::Text);
        vec![
            Value::Id(self.id),
            Value::Text(self.host.clone()),
            Value::Text(self.roles.clone()),
            text(&self.http),
            text(&self.mllp),
            Value::Text(self.version.clone()),
            Value::Time(self.started),
            Value::Time(self.seen),
            Value::Text(serde_json::to_string(&self.partitions).unwrap_or_default()),
            Value::Text(self.doors.clone()),
        ]
    }

    /// A row of ours, or of another version: what cannot be read of it is left out.
    fn read(row: &Row) -> Option<Self> {
        let mut values = row.values.iter().cloned();
        let text = |value: Option<Value>| match value {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        };
        let Some(Value::Id(id)) = values.next() else { return None };
        let (host, roles) = (text(values.next())?, text(values.next())?);
        let (http, mllp) = (text(values.next()), text(values.next()));
        let version = text(values.next())?;
        let (Some(Value::Time(started)), Some(Value::Time(seen))) = (values.next(), values.next()) else {
            return None;
        };
        let partitions = serde_json::from_str(&text(values.next())?).unwrap_or_default();
        let doors = text(values.next()).unwrap_or_default();
        Some(Self {
            id,
            host,
            roles,
            http,
            mllp,
            version,
            started,
            seen,
            heard: seen,
            first_seen: seen,
            partitions,
            doors,
        })
    }
}

/// Looks whether another process has the id of this one: a data folder that was copied takes its `process.id` along, and
/// two that live then write one row and hold one lease. Whoever was killed and is started anew finds its old row too,
/// which nobody renews.
#[derive(Debug, Default)]
pub struct Twins {
    has_looked: bool,
    /// The start of whoever stood in the row when this one came.
    first: Option<Timestamp>,
    /// The last sign of life that was another's.
    heard: Option<(Timestamp, Timestamp)>,
    /// Such signs in a row, each behind a sign of our own. One may have been under way when its process was killed.
    signs: u8,
}

/// A process with the id of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twin {
    /// The other one.
    pub process: Process,
    /// Whether that one was there when this one came, or, where they came at once, was started first.
    pub was_first: bool,
}

impl Twins {
    /// Takes in the row of the own id, as it stands before the process that was `started` then writes its own.
    pub fn look(&mut self, row: Option<&Process>, started: Timestamp) -> Option<Twin> {
        let other = row.filter(|row| row.started != started);
        let sign = other.map(|other| (other.started, other.seen));
        if !self.has_looked {
            (self.has_looked, self.first, self.heard) = (true, other.map(|other| other.started), sign);
            return None;
        }
        let Some(other) = other else {
            self.signs = 0;
            return None;
        };
        if sign != self.heard {
            (self.signs, self.heard) = (self.signs.saturating_add(1), sign);
        }
        // Of two that came at once neither stood there: the later one is second, once a first one would have made it end.
        let came_at_once = self.signs > TWIN_SIGNS && other.started < started;
        let was_first = self.first == Some(other.started) || came_at_once;
        (self.signs > 1).then(|| Twin { process: other.clone(), was_first })
    }
}

/// What the last look saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// When it was; absent before the first.
    pub at: Option<Timestamp>,
    /// All rows, by id.
    pub processes: Arc<Vec<Process>>,
}

impl Seen {
    /// Whether it tells how things are at `now`.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.at.is_some_and(|at| now.micros_since(at) <= PROCESS_SILENT_S * 1_000_000)
    }

    /// Who works at which partition, of those that are there.
    pub fn workers(&self, now: Timestamp) -> BTreeMap<(Stream, u16), (&Process, &AtWork)> {
        let there = self.processes.iter().filter(|process| process.is_there(now));
        there
            .flat_map(|process| {
                process.partitions.iter().map(move |one| ((one.stream, one.partition), (process, one)))
            })
            .collect()
    }
}

/// The processes as one of them sees them. Shared by whoever asks.
#[derive(Debug)]
pub struct Presence {
    own: Id,
    tables: Tables,
    clock: Clock,
    seen: Mutex<Seen>,
}

impl Presence {
    /// As the process `own` sees it.
    pub fn new(own: Id, tables: Tables, clock: Clock) -> Self {
        Self { own, tables, clock, seen: Mutex::default() }
    }

    fn slot(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last look saw.
    pub fn seen(&self) -> Seen {
        self.slot().clone()
    }

    /// Which process asks.
    pub const fn own(&self) -> Id {
        self.own
    }

    /// What `progress` tells of the partitions at which this process works.
    pub fn at_work(progress: &Progress) -> Vec<AtWork> {
        progress.health().partitions.iter().filter(|one| one.is_here).map(AtWork::of).collect()
    }

    /// Reads who is there.
    ///
    /// # Errors
    /// The tables'.
    pub async fn look(&self) -> Result<Seen, TablesError> {
        let rows = self.tables.read(&[Read::Scan(Scan::by_key(PROCESS.name, Vec::new()))]).await?;
        let mut processes: Vec<Process> = rows.iter().flatten().filter_map(Process::read).collect();
        let now = self.clock.now();
        let mut slot = self.slot();
        for process in &mut processes {
            let before = slot.processes.iter().find(|before| before.id == process.id);
            (process.heard, process.first_seen) = heard(process, before, now);
        }
        *slot = Seen { at: Some(now), processes: Arc::new(processes) };
        Ok(slot.clone())
    }

    /// Gives a sign of life, and removes those that gave none for long.
    ///
    /// # Errors
    /// The tables'.
    pub async fn say(&self, process: &Process) -> Result<(), TablesError> {
        let now = self.clock.now();
        let gone = self.seen();
        let gone = gone.processes.iter().filter(|other| {
            other.id != process.id && now.micros_since(other.first_seen) > PROCESS_KEPT_S * 1_000_000
        });
        let mut writes: Vec<Write> = gone.map(|other| remove(other.id)).collect();
        writes.push(Write::Put { table: PROCESS.name, values: process.row() });
        self.tables.commit(Batch { writes, ..Batch::default() }).await.map(drop)
    }

    /// Takes the own row along.
    ///
    /// # Errors
    /// The tables'.
    pub async fn leave(&self) -> Result<(), TablesError> {
        let writes = vec![remove(self.own)];
        self.tables.commit(Batch { writes, ..Batch::default() }).await.map(drop)
    }
}

/// When it gave its last sign of life by our clock: a row that changes between two looks is one, whatever its own clock
/// says. At the first look there is only its word, which cannot be later than now. And since when the row is as it is, as
/// far as we saw: whom a first look finds with an old date may be alive all the same.
fn heard(process: &Process, before: Option<&Process>, now: Timestamp) -> (Timestamp, Timestamp) {
    match before {
        Some(before) if before.seen == process.seen => (before.heard, before.first_seen),
        Some(_) => (now, now),
        None => (process.seen.min(now), now),
    }
}

fn remove(id: Id) -> Write {
    Write::Delete { table: PROCESS.name, key: vec![Value::Id(id)] }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use hilum_engines::tables::sqlite::{Options, Place, Sqlite};

    use super::*;
    use crate::error::Cause;

    fn process(n: u8, seen: Timestamp) -> Process {
        let paused = Paused { cause: Cause::Engine, why: "no answer".to_owned() };
        let partition = AtWork {
            stream: Stream::Hl7In,
            partition: u16::from(n),
            oldest_unapplied: Some(seen),
            paused: Some(paused),
            commits: 3,
            conflicts: 1,
            rejected: 0,
        };
        Process {
            id: Id::from_bytes([n; 16]),
            host: "gw".to_owned(),
            roles: "gateway,worker".to_owned(),
            http: Some("127.0.0.1:1".to_owned()),
            mllp: None,
            version: "1".to_owned(),
            started: Timestamp::from_micros(1),
            seen,
            heard: seen,
            first_seen: seen,
            partitions: vec![partition],
            doors: "[]".to_owned(),
        }
    }

    fn at(s: i64) -> Timestamp {
        Timestamp::from_micros(s * 1_000_000)
    }

    /// A process that looks, and the seconds of its clock.
    fn looker(tables: &Tables, n: u8) -> (Presence, Arc<AtomicI64>) {
        let clock = Arc::new(AtomicI64::new(0));
        let read = Arc::clone(&clock);
        let clock_of = Clock::new(move || at(read.load(Ordering::Relaxed)));
        (Presence::new(Id::from_bytes([n; 16]), tables.clone(), clock_of), clock)
    }

    fn tables() -> Tables {
        Tables::Sqlite(Sqlite::open(Place::Memory, &[&PROCESS], Options::default()).unwrap())
    }

    fn ids(seen: &Seen) -> Vec<u8> {
        seen.processes.iter().map(|process| process.id.as_bytes()[0]).collect()
    }

    #[tokio::test]
    async fn a_process_is_there_until_it_is_silent_and_forgotten_at_last() {
        let (presence, clock) = looker(&tables(), 1);
        let (one, other) = (process(1, at(100)), process(2, at(100)));
        presence.say(&one).await.unwrap();
        presence.say(&other).await.unwrap();
        clock.store(101, Ordering::Relaxed);
        let seen = presence.look().await.unwrap();
        let first_seen = at(101);
        let expected = [&one, &other].map(|said| Process { first_seen, ..said.clone() });
        assert_eq!(*seen.processes, expected, "as they said");
        assert!(seen.is_fresh(at(105)) && !seen.is_fresh(at(102 + PROCESS_SILENT_S)));
        assert_eq!(seen.workers(at(101)).len(), 2);
        assert!(seen.workers(at(101 + PROCESS_SILENT_S)).is_empty(), "nobody who is silent works");
        assert!(one.is_there(at(105)) && !one.is_there(at(101 + PROCESS_SILENT_S)));
        assert!(one.has_role("worker") && !one.has_role("reader"));
        assert_eq!(one.place(), "gw:1");

        // What nobody works at stands still as soon as it has something to apply.
        let progress = Progress::new("test", (0..3).map(|one| (Stream::Hl7In, one)).collect());
        progress.update(Stream::Hl7In, 0, |slot| slot.end = 5);
        progress.hear(&seen, at(101));
        let health = progress.health().partitions;
        let cause = |n: usize| health[n].paused.as_ref().map(|paused| paused.cause);
        assert_eq!([cause(0), cause(1)], [Some(Cause::NoWorker), Some(Cause::Engine)]);
        progress.update(Stream::Hl7In, 0, |slot| slot.applied = 5);
        progress.hear(&seen, at(101));
        assert_eq!(progress.health().partitions[0].paused, None, "nothing is left to do");

        // The other one gives no sign of life any more.
        for (later, left) in [(101 + PROCESS_KEPT_S, vec![1, 2]), (102 + PROCESS_KEPT_S, vec![1])] {
            clock.store(later, Ordering::Relaxed);
            presence.look().await.unwrap();
            presence.say(&Process { seen: at(later), ..one.clone() }).await.unwrap();
            assert_eq!(ids(&presence.look().await.unwrap()), left, "{later}");
        }
        presence.leave().await.unwrap();
        assert!(presence.look().await.unwrap().processes.is_empty());
    }

    #[tokio::test]
    async fn who_has_just_come_removes_nobody_for_an_old_clock() {
        let tables = tables();
        let (presence, clock) = looker(&tables, 1);
        for tick in 0..5 {
            // It lives, and its clock is a day behind.
            let behind = process(2, at(2 * tick));
            looker(&tables, 2).0.say(&behind).await.unwrap();
            clock.store(86_400 + 2 * tick, Ordering::Relaxed);
            let seen = presence.look().await.unwrap();
            let is_there =
                seen.processes.iter().any(|one| one.id == behind.id && one.is_there(presence.clock.now()));
            assert_eq!(is_there, tick > 0, "from the second look on");
            presence.say(&process(1, presence.clock.now())).await.unwrap();
            assert_eq!(ids(&presence.look().await.unwrap()), [1, 2], "{tick}");
        }
    }

    #[test]
    fn two_of_one_id_are_told_from_one_that_was_started_anew() {
        let row = |started: i64, seen: i64| Some(Process { started: at(started), ..process(1, at(seen)) });
        // Looks of a process that was started at 100, each with what is found.
        let cases = [
            ("the first ever", vec![(None, None), (row(100, 100), None), (row(100, 102), None)]),
            (
                "killed and started anew",
                vec![(row(50, 99), None), (row(100, 100), None), (row(100, 102), None)],
            ),
            (
                "what was under way when it was killed comes late",
                vec![(row(50, 99), None), (row(50, 101), None), (row(100, 102), None), (row(100, 104), None)],
            ),
            (
                "our own sign was not taken: nobody renews the old one",
                vec![(row(50, 99), None), (row(50, 99), None), (row(50, 99), None)],
            ),
            (
                "another one was there first",
                vec![(row(50, 99), None), (row(50, 101), None), (row(50, 103), Some(true))],
            ),
            (
                "another one comes, and goes",
                vec![
                    (None, None),
                    (row(100, 100), None),
                    (row(103, 103), None),
                    (row(103, 105), Some(false)),
                    (row(100, 106), None),
                    (row(103, 107), None),
                ],
            ),
            (
                "two come at once, the other a moment before",
                vec![
                    (None, None),
                    (row(99, 102), None),
                    (row(99, 104), Some(false)),
                    (row(99, 106), Some(false)),
                    (row(99, 108), Some(false)),
                    (row(99, 110), Some(false)),
                    (row(99, 112), Some(true)),
                ],
            ),
            (
                "both find the row of before, the other comes a moment later",
                (0..9)
                    .map(|n| (row(if n == 0 { 50 } else { 101 }, 102 + n), (n > 1).then_some(false)))
                    .collect(),
            ),
        ];
        for (why, looks) in cases {
            let mut twins = Twins::default();
            for (n, (row, want)) in looks.into_iter().enumerate() {
                let got = twins.look(row.as_ref(), at(100)).map(|twin| twin.was_first);
                assert_eq!(got, want, "{why}: look {n}");
            }
        }
    }

    #[test]
    fn a_sign_of_life_is_a_row_that_changes_whatever_its_clock_says() {
        let (now, later) = (at(10_000), at(10_002));
        let looked = |process: Process, before: Option<&Process>, now| {
            let (heard, first_seen) = heard(&process, before, now);
            Process { heard, first_seen, ..process }
        };
        for clock in [-3_600, -11, 0, 3_600] {
            let first = looked(process(2, at(10_000 + clock)), None, now);
            let renewed = looked(process(2, at(10_002 + clock)), Some(&first), later);
            assert!(renewed.is_there(at(10_005)), "its clock is {clock} s ahead, and it lives");
            let same = looked(renewed.clone(), Some(&renewed), at(10_020));
            assert!(!same.is_there(at(10_020)), "its clock is {clock} s ahead, and it said nothing since");
        }
    }
}
