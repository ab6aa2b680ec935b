//! What the runner does when something goes wrong: poison, engine errors, other workers, another log.

#![allow(clippy::unwrap_used)]

mod toy;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use hilum_chart::projection::Projection;
use hilum_chart::rebuild::{Damaged, rebuild};
use hilum_chart::runner::Stepped;
use hilum_chart::{Cause, Chart, Paused, Progress, Runner, Running, family, resources, run_all};
use hilum_core::{Authority, Clock, Digest, Entropy, Id, Position, Stream, Timestamp};
use hilum_engines::log::partition_of;
use hilum_engines::log::{Log, ReadMax};
use hilum_engines::tables::sqlite::{self, Sqlite};
use hilum_engines::tables::{Batch, Row, Scan, Table, Tables, Value, Write};
use hilum_testkit::disk;
use toy::{
    FACT, Message, REFUSED, Toy, all, append, clock, envelope, id, open_log, open_postgres, open_tables,
    oracle, standing,
};

const PATIENCE: Duration = Duration::from_mins(1);

fn note(n: u32) -> Message {
    Message::Note { account: n % 7, visit: n, place: n % 3, value: n, at: n / 2 }
}

async fn caught_up(running: &Running) {
    let mut moved = running.progress().moved();
    let wait = async {
        while !running.progress().health().caught_up() {
            // Partitions without records say where they are without moving.
            tokio::time::timeout(Duration::from_millis(20), moved.changed()).await.ok();
        }
    };
    let health = || running.progress().health();
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not caught up: {:?}", health()));
}

async fn until_paused(running: &Running) -> Paused {
    let wait = async {
        loop {
            let health = running.progress().health();
            if let Some(paused) = health.partitions.into_iter().find_map(|one| one.paused) {
                return paused;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_poison_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let (log, tables, random) = (open_log(folder.path()), open_tables(), Entropy::seeded(1));
    let mut messages: Vec<Message> = (0..120).map(note).collect();
    messages.insert(20, Message::Panic { account: 0 });
    messages.insert(21, Message::Panic { account: 0 });
    messages.insert(50, Message::PanicInNeeds);
    messages.insert(51, Message::Bad);
    messages.insert(52, Message::Nul);
    append(&log, &messages, &random).await;
    let running = run_all(&toy::toy(), &log, &tables, &clock());
    caught_up(&running).await;
    assert_eq!(running.progress().health().paused(), None);
    running.stop().await;
    assert_eq!(standing(&tables).await, oracle(&messages));
    let mut rules: BTreeMap<String, usize> = BTreeMap::new();
    for row in all(&tables, &REFUSED).await {
        let Value::Text(rule) = &row.values[1] else { panic!("a rule") };
        *rules.entry(rule.clone()).or_default() += 1;
    }
    let want = [("apply.panic", 3), ("apply.shape", 1), ("toy.bad", 1)];
    assert_eq!(rules, want.into_iter().map(|(rule, count)| (rule.to_owned(), count)).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_neither_applied_nor_rejected_pauses_its_partition_alone() {
    for (poison, want) in
        [(Message::PanicInReject, "neither applied nor rejected"), (Message::PanicInDecode, "decoded")]
    {
        let folder = tempfile::tempdir().unwrap();
        let (log, tables, random) = (open_log(folder.path()), open_tables(), Entropy::seeded(9));
        append(&log, std::slice::from_ref(&poison), &random).await;
        let stuck = partition_of(envelope(&poison, &random).key, log.partitions(Stream::Hl7In));
        let others: Vec<Message> = (0..40)
            .map(note)
            .filter(|note| partition_of(envelope(note, &random).key, log.partitions(Stream::Hl7In)) != stuck)
            .collect();
        append(&log, &others, &random).await;
        let running = run_all(&toy::toy(), &log, &tables, &clock());
        let Paused { cause, why } = until_paused(&running).await;
        assert!(cause == Cause::Program && why.contains(want), "{cause:?} {why}");
        while running.progress().health().lag_records() != Some(1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.stop().await;
        assert_eq!(standing(&tables).await, oracle(&others));
        assert!(all(&tables, &REFUSED).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_all_want_one_family_come_to_an_end() {
    // One chain of merges makes one family of all accounts; every partition has notes about it.
    let mut messages: Vec<Message> = (1..40).map(|n| Message::Merge { old: n, new: n - 1, at: n }).collect();
    messages.extend((0..300).map(|n| Message::Note { account: n % 40, visit: 0, place: 0, value: n, at: n }));
    // Runners of one process keep off each other's families; those of two meet.
    for processes in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let (log, tables, random) = (open_log(folder.path()), open_tables(), Entropy::seeded(2));
        append(&log, &messages, &random).await;
        let mut running = Vec::new();
        for _ in 0..processes {
            running.push(run_all(&toy::toy(), &log, &tables, &clock()));
        }
        let mut met = 0;
        for running in running {
            caught_up(&running).await;
            let health = running.progress().health();
            met += health.partitions.iter().map(|one| one.conflicts).sum::<u64>();
            running.stop().await;
        }
        assert_eq!(met > 0, processes > 1, "{processes} processes met {met} times");
        assert_eq!(standing(&tables).await, oracle(&messages));
        assert!(all(&tables, &REFUSED).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_record_is_passed_over_and_what_is_behind_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (log, tables, random) = (open_log(folder.path()), open_tables(), Entropy::seeded(12));
    let messages: Vec<Message> = (0..60).map(note).collect();
    append(&log, &messages, &random).await;
    let partitions = log.partitions(Stream::Hl7In);
    let of = |message: &Message| partition_of(envelope(message, &random).key, partitions);
    let stuck = of(&messages[0]);
    let there: Vec<usize> = (0..messages.len()).filter(|&at| of(&messages[at]) == stuck).collect();
    // The first, two in a row, and the last.
    let last = there.len() - 1;
    let damaged = [0, 3, 4, last];
    let whole = ReadMax { records: 100, bytes: usize::MAX };
    let records = log.read(Stream::Hl7In, stuck, 0, whole).await.unwrap();
    assert_eq!(records.len(), there.len());
    log.close().await;
    drop(log);
    let file = folder.path().join("log.sqlite");
    let flip = |at: usize| disk::flip_bit(&file, records[at].envelope.id.to_string().as_bytes());
    let flipped: Vec<usize> = damaged.into_iter().flat_map(flip).collect();
    let log = open_log(folder.path());
    let readable: Vec<Message> = (0..messages.len())
        .filter(|at| !damaged.iter().any(|&one| there[one] == *at))
        .map(|at| messages[at].clone())
        .collect();

    let running = run_all(&toy::toy(), &log, &tables, &clock());
    caught_up(&running).await;
    let health = running.progress().health();
    running.stop().await;
    assert_eq!(health.paused(), None);
    assert_eq!(health.partitions.iter().map(|one| one.unreadable).sum::<u64>(), 4, "the alarm");
    assert_eq!(standing(&tables).await, oracle(&readable));
    assert_eq!(all(&tables, &REFUSED).await.len(), 4);

    // A rebuild does the same, and finds nothing that differs.
    let beside = open_tables();
    let report =
        rebuild(&toy::toy(), &log, &tables, &beside, &clock(), Damaged::PassOver, &|_, _| {}).await.unwrap();
    assert_eq!((report.differing(), report.records), (0, 60), "{report:?}");

    // The log is mended: a rebuild reads the records themselves, and what stood for them goes.
    log.close().await;
    drop(log);
    disk::flip_bits_at(&file, &flipped);
    let log = open_log(folder.path());
    let report = rebuild(&toy::toy(), &log, &tables, &open_tables(), &clock(), Damaged::PassOver, &|_, _| {})
        .await
        .unwrap();
    assert!(report.differing() > 0);
    assert_eq!(standing(&tables).await, oracle(&messages));
    assert!(all(&tables, &REFUSED).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_partition_that_cannot_be_looked_through_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (log, tables, random) = (open_log(folder.path()), open_tables(), Entropy::seeded(21));
    let messages: Vec<Message> = (0..7).map(note).collect();
    let mut places = Vec::new();
    for message in &messages {
        places.push(log.append(envelope(message, &random)).await.unwrap());
    }
    let (stuck, is_free) = (places[0].partition, Arc::new(AtomicBool::new(false)));
    let others: Vec<Position> = places.iter().copied().filter(|one| one.partition != stuck).collect();
    assert!(!others.is_empty());
    let toy = Toy { stuck: Some((stuck, Arc::clone(&is_free))), ..Toy::default() };
    let running = run_all(&Arc::new(toy), &log, &tables, &clock());
    for position in others {
        assert!(running.progress().wait_applied(position, Duration::from_secs(20)).await, "{position}");
    }
    assert!(!running.progress().applied(places[0]), "what stands behind may correct it");
    is_free.store(true, Ordering::Relaxed);
    caught_up(&running).await;
    running.stop().await;
    assert_eq!(standing(&tables).await, oracle(&messages));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_partition_whose_look_ahead_panics_says_so_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let (log, tables, random) = (open_log(folder.path()), open_tables(), Entropy::seeded(22));
    let messages: Vec<Message> = (0..7).map(note).collect();
    let mut places = Vec::new();
    for message in &messages {
        places.push(log.append(envelope(message, &random)).await.unwrap());
    }
    let is_free = Arc::new(AtomicBool::new(false));
    let toy = Toy { breaks: Some((places[0].partition, Arc::clone(&is_free))), ..Toy::default() };
    let running = run_all(&Arc::new(toy), &log, &tables, &clock());
    let paused = until_paused(&running).await;
    assert!(paused.cause == Cause::Program && paused.why.contains("tried again"), "{paused:?}");
    assert!(!running.progress().applied(places[0]), "nothing of it is applied before");
    is_free.store(true, Ordering::Relaxed);
    caught_up(&running).await;
    running.stop().await;
    assert_eq!(standing(&tables).await, oracle(&messages));
}

/// Three notes on one account, the record at `at` of them damaged in the file; where, to mend it.
async fn three_with_one_damaged(folder: &Path, at: usize) -> (Vec<Message>, u16, Vec<usize>) {
    let random = Entropy::seeded(14);
    let messages: Vec<Message> = (0..3).map(|n| note(n * 7)).collect();
    let log = open_log(folder);
    let partition = partition_of(envelope(&messages[0], &random).key, log.partitions(Stream::Hl7In));
    append(&log, &messages, &random).await;
    let whole = ReadMax { records: 100, bytes: usize::MAX };
    let records = log.read(Stream::Hl7In, partition, 0, whole).await.unwrap();
    assert_eq!(records.len(), 3);
    log.close().await;
    let id = records[at].envelope.id.to_string();
    (messages, partition, disk::flip_bit(&folder.join("log.sqlite"), id.as_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_misread_for_a_second_is_not_lost() {
    let (folder, tables) = (tempfile::tempdir().unwrap(), open_tables());
    let (messages, partition, places) = three_with_one_damaged(folder.path(), 1).await;
    let log = open_log(folder.path());
    let running = run_all(&toy::toy(), &log, &tables, &clock());
    let Paused { cause, why } = until_paused(&running).await;
    assert!(cause == Cause::Unreadable && why.contains(&format!("hl7.in/{partition}/1")), "{cause:?} {why}");
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let health = running.progress().health();
    assert_eq!(health.lag_records(), Some(2), "what waits is seen: {health:?}");
    disk::flip_bits_at(&folder.path().join("log.sqlite"), &places);
    caught_up(&running).await;
    let health = running.progress().health();
    running.stop().await;
    assert_eq!((health.paused(), health.lag_records()), (None, Some(0)));
    assert_eq!(health.partitions.iter().map(|one| one.unreadable).sum::<u64>(), 0);
    assert_eq!(standing(&tables).await, oracle(&messages));
    assert!(all(&tables, &REFUSED).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_for_a_damaged_record_is_the_same_in_a_rebuild_whatever_came_behind_it() {
    let (folder, tables) = (tempfile::tempdir().unwrap(), open_tables());
    let random = Entropy::seeded(15);
    let log = open_log(folder.path());
    let position = log.append(envelope(&note(0), &random)).await.unwrap();
    let alone = ReadMax { records: 1, bytes: 0 };
    let record = log.read(position.stream, position.partition, 0, alone).await.unwrap().remove(0);
    log.close().await;
    drop(log);
    disk::flip_bit(&folder.path().join("log.sqlite"), record.envelope.id.to_string().as_bytes());

    let log = open_log(folder.path());
    let running = run_all(&toy::toy(), &log, &tables, &clock());
    caught_up(&running).await;
    running.stop().await;
    append(&log, &[note(7), note(14)], &random).await;
    let running = run_all(&toy::toy(), &log, &tables, &clock());
    caught_up(&running).await;
    running.stop().await;
    let beside = open_tables();
    rebuild(&toy::toy(), &log, &tables, &beside, &clock(), Damaged::PassOver, &|_, _| {}).await.unwrap();
    let rows = |rows: Vec<Row>| rows.into_iter().map(|row| row.values).collect::<Vec<_>>();
    let (live, again) = (rows(all(&tables, &REFUSED).await), rows(all(&beside, &REFUSED).await));
    assert_eq!((live.len(), &live), (1, &again));
    assert_eq!(live[0][2], Value::Time(log.created()), "nothing before it can be read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_a_newer_program_pauses_its_partition_and_waits_for_that_program() {
    let folder = tempfile::tempdir().unwrap();
    let (log, tables, random) = (open_log(folder.path()), open_tables(), Entropy::seeded(13));
    let newer = hilum_core::Envelope { v: 9, ..envelope(&note(0), &random) };
    let position = log.append(newer).await.unwrap();
    let running = run_all(&toy::toy(), &log, &tables, &clock());
    let Paused { cause, why } = until_paused(&running).await;
    assert!(why.contains("envelope version 9") && why.contains(&position.to_string()), "{why}");
    assert_eq!(cause, Cause::NewerProgram);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!running.progress().applied(position), "it is not passed over");
    running.stop().await;
    assert!(all(&tables, &REFUSED).await.is_empty());
}

fn schema() -> Vec<&'static Table> {
    resources::TABLES.iter().chain(toy::TABLES).copied().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_error_pauses_and_nothing_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let (log, random) = (open_log(folder.path()), Entropy::seeded(3));
    let place = folder.path().join("tables.sqlite");
    let broken = Arc::new(AtomicBool::new(false));
    let fault =
        {
            let broken = Arc::clone(&broken);
            Arc::new(move |_: &str| {
                if broken.load(Ordering::Relaxed) { Err(std::io::Error::other("planted")) } else { Ok(()) }
            })
        };
    let options = sqlite::Options { fault: Some(fault), ..Default::default() };
    let tables = Tables::Sqlite(Sqlite::open(place.as_path(), &schema(), options).unwrap());
    let messages: Vec<Message> = (0..50).map(note).collect();
    append(&log, &messages[..25], &random).await;
    let running = run_all(&toy::toy(), &log, &tables, &clock());
    caught_up(&running).await;

    broken.store(true, Ordering::Relaxed);
    append(&log, &messages[25..], &random).await;
    let Paused { cause, why } = until_paused(&running).await;
    assert!(cause == Cause::ReadOnly && why.contains("tables are read-only"), "{cause:?} {why}");
    assert!(running.progress().health().lag_records() > Some(0), "what waits is seen");
    assert!(running.progress().health().oldest_unapplied().is_some());
    running.stop().await;
    tables.close().await;

    let tables =
        Tables::Sqlite(Sqlite::open(place.as_path(), &schema(), sqlite::Options::default()).unwrap());
    assert!(all(&tables, &REFUSED).await.is_empty());
    let running = run_all(&toy::toy(), &log, &tables, &clock());
    caught_up(&running).await;
    assert_eq!(running.progress().health().paused(), None);
    running.stop().await;
    assert_eq!(standing(&tables).await, oracle(&messages));
    assert!(all(&tables, &REFUSED).await.is_empty(), "nothing was quarantined for the engine's fault");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_comes_back_is_gone_on_with() {
    let server = hilum_testkit::postgres::Postgres::start(&["fsync=off"]);
    let folder = tempfile::tempdir().unwrap();
    let (log, random) = (open_log(folder.path()), Entropy::seeded(8));
    let tables = open_postgres(&server, &server.url()).await;
    let messages: Vec<Message> = (0..60).map(note).collect();
    // Tables that others share begin with their log.
    hilum_chart::fits::check::<Toy>(&log, &tables).await.unwrap();
    append(&log, &messages[..30], &random).await;
    let running = run_all(&toy::toy(), &log, &tables, &clock());
    caught_up(&running).await;

    server.kill();
    let mut last = None;
    for message in &messages[30..] {
        last = Some(log.append(envelope(message, &random)).await.unwrap());
    }
    assert_eq!(until_paused(&running).await.cause, Cause::Engine);
    server.restart();
    assert!(running.progress().wait_applied(last.unwrap(), PATIENCE).await);
    // A partition for which nothing came is tried again in its own time.
    let goes_on = async {
        while running.progress().health().lag_records() != Some(0)
            || running.progress().health().paused().is_some()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, goes_on).await.unwrap();
    running.stop().await;
    assert_eq!(standing(&tables).await, oracle(&messages));
    assert!(all(&tables, &REFUSED).await.is_empty());
    tables.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_log_is_refused_by_name() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let tables = open_tables();
    let random = Entropy::seeded(4);
    let first = open_log(folders[0].path());
    append(&first, &[note(1)], &random).await;
    let running = run_all(&toy::toy(), &first, &tables, &clock());
    caught_up(&running).await;
    running.stop().await;
    let before = standing(&tables).await;

    // Its ids are drawn from another seed, so its epoch is another.
    let other = hilum_engines::log::embedded::Embedded::open(
        &folders[1].path().join("log.sqlite"),
        clock(),
        Entropy::seeded(99),
        hilum_engines::log::embedded::Options { disk_reserve_ratio: 0.0, ..Default::default() },
    );
    let other = Log::Embedded(other.unwrap());
    append(&other, &[note(1), note(2), note(8)], &random).await;
    let running = run_all(&toy::toy(), &other, &tables, &clock());
    let Paused { cause, why } = until_paused(&running).await;
    assert!(cause == Cause::OtherLog && why.contains("epoch"), "{cause:?} {why}");
    running.stop().await;
    assert_eq!(standing(&tables).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_for_a_position() {
    let folder = tempfile::tempdir().unwrap();
    let (log, tables, random) = (open_log(folder.path()), open_tables(), Entropy::seeded(5));
    let running = run_all(&toy::toy(), &log, &tables, &clock());
    caught_up(&running).await;
    let never = Position { stream: Stream::Hl7In, partition: 0, offset: 1_000 };
    assert!(!running.progress().wait_applied(never, Duration::from_millis(30)).await);
    for n in 0..10 {
        let position = log.append(envelope(&note(n), &random)).await.unwrap();
        assert!(running.progress().wait_applied(position, PATIENCE).await, "woken by the log: {n}");
    }
    running.stop().await;
    assert_eq!(standing(&tables).await, oracle(&(0..10).map(note).collect::<Vec<_>>()));
}

#[tokio::test]
async fn a_range_longer_than_one_scan_is_read_and_moved_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (log, tables, random) = (open_log(folder.path()), open_tables(), Entropy::seeded(6));
    // Account 0 has more facts than one scan gives; it joins account 1 under whichever name is smaller.
    let (zero, one) = (id("Account", 0), id("Account", 1));
    let (many, name) = if zero < one { (1, one) } else { (0, zero) };
    let notes: Vec<Message> =
        (0..10_050).map(|n| Message::Note { account: many, visit: 5, place: 0, value: n, at: n }).collect();
    let family = Value::Id(name);
    let mut writes: Vec<Write> = notes
        .iter()
        .map(|note| {
            let text = serde_json::to_string(note).unwrap();
            let digest = Digest::of(text.as_bytes()).as_bytes().to_vec();
            let values = vec![
                family.clone(),
                Value::Bytes(digest.into()),
                Value::Text(text),
                Value::Int(0),
                Value::ThisCommit,
            ];
            Write::Put { table: FACT.name, values }
        })
        .collect();
    for head in [name, id("Visit", 5)] {
        let values = vec![Value::Id(head), family.clone(), Value::Int(0)];
        writes.push(Write::Put { table: family::HEAD.name, values });
    }
    writes.push(Write::Put { table: family::FAMILY.name, values: vec![family, Value::Int(2)] });
    tables.commit(Batch { writes, ..Batch::default() }).await.unwrap();

    let merge = Message::Merge { old: many, new: 1 - many, at: 1 };
    append(&log, std::slice::from_ref(&merge), &random).await;
    let running = run_all(&toy::toy(), &log, &tables, &clock());
    caught_up(&running).await;
    running.stop().await;
    let new = if name == zero { one } else { zero };
    let under = |family: Id| {
        let (tables, scan) = (tables.clone(), Scan::by_key(FACT.name, vec![Value::Id(family)]));
        async move { tables.count(&scan, 100_000).await.unwrap() }
    };
    assert_eq!((under(name).await, under(new).await), (0, 10_051), "all facts moved, and the merge");
    let heads = all(&tables, &family::HEAD).await;
    assert_eq!(heads.len(), 3);
    assert!(heads.iter().all(|row| row.values[1] == Value::Id(new)));
    assert_eq!(all(&tables, &family::FAMILY).await[0].values, [Value::Id(new), Value::Int(3)]);
    let chart = Chart::open(tables.clone(), clock());
    let survivor = chart.read(&Authority::system("test"), "Account", new).await.unwrap();
    assert_eq!(survivor.text().unwrap().matches(',').count(), 4 + 10_049, "all notes were folded");
}

#[tokio::test]
async fn a_commit_that_is_fenced_or_conflicts_has_no_effect() {
    let folder = tempfile::tempdir().unwrap();
    let (log, tables, random) = (open_log(folder.path()), open_tables(), Entropy::seeded(7));
    let position = log.append(envelope(&note(1), &random)).await.unwrap();
    let place = (position.stream, position.partition);
    let progress = Progress::new(Toy::NAME, log.places(Toy::STREAMS));
    let runner = || Runner::new(toy::toy(), log.clone(), tables.clone(), clock(), place, progress.clone());
    let (mut one, mut other) = (runner(), runner());
    for runner in [&mut one, &mut other] {
        assert_eq!(runner.step().await.unwrap(), Stepped::Read { records: 1 });
        assert_eq!(runner.step().await.unwrap(), Stepped::Applied);
    }
    let committed = one.step().await.unwrap();
    let Stepped::Committed { t, records: 1, rejected: 0 } = committed else { panic!("{committed:?}") };
    let lost = other.step().await.unwrap();
    assert!(matches!(lost, Stepped::Fenced | Stepped::Conflict), "{lost:?}");
    assert_eq!(tables.now().await.unwrap(), t, "nothing was committed");
    for _ in 0..4 {
        other.step().await.unwrap();
    }
    assert_eq!(other.step().await.unwrap(), Stepped::Idle, "it asked where the offset stands");
    assert_eq!(tables.now().await.unwrap(), t);
}

/// Where the log ends is asked once a second while there is something to read: on a log of many machines each question
/// is a round trip. What is shown is so old at most, and the end of what there is to read is asked for every time.
#[tokio::test]
async fn a_runner_that_reads_on_asks_once_a_second_where_the_log_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (log, tables, random) = (open_log(folder.path()), open_tables(), Entropy::seeded(6));
    let message = note(1);
    append(&log, &vec![message.clone(); 7], &random).await;
    let partition = partition_of(envelope(&message, &random).key, log.partitions(Stream::Hl7In));
    let place = (Stream::Hl7In, partition);
    let now = Arc::new(AtomicI64::new(1_700_000_000_000_000));
    let read_clock = Arc::clone(&now);
    let clock = Clock::new(move || Timestamp::from_micros(read_clock.load(Ordering::Relaxed)));
    let progress = Progress::new(Toy::NAME, log.places(Toy::STREAMS));
    let runner = Runner::new(toy::toy(), log.clone(), tables.clone(), clock, place, progress.clone());
    let mut runner = runner.batches_of(2);
    let end = || {
        let partitions = progress.health().partitions;
        partitions.iter().find(|one| (one.stream, one.partition) == place).unwrap().end
    };
    let mut batch = async || {
        loop {
            match runner.step().await.unwrap() {
                Stepped::Committed { records, .. } => return records,
                Stepped::Idle => return 0,
                _ => {}
            }
        }
    };
    assert_eq!((batch().await, end()), (2, 7), "the first time");
    append(&log, &vec![message.clone(); 3], &random).await;
    assert_eq!((batch().await, end()), (2, 7), "not within the second");
    now.fetch_add(1_000_000, Ordering::Relaxed);
    assert_eq!((batch().await, end()), (2, 10), "a second later");
    append(&log, std::slice::from_ref(&message), &random).await;
    now.fetch_sub(3_600_000_000, Ordering::Relaxed);
    assert_eq!((batch().await, end()), (2, 11), "the clock was set back");
    append(&log, std::slice::from_ref(&message), &random).await;
    assert_eq!((batch().await, end()), (2, 11), "not within that second");
    assert_eq!((batch().await, end()), (2, 12), "what was read is known to be there");
    append(&log, std::slice::from_ref(&message), &random).await;
    assert_eq!((batch().await, end()), (1, 13));
    assert_eq!((batch().await, end()), (0, 13), "at the end");
}
