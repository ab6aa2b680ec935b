//! The test that decides: three workers over eight partitions of two streams, their steps interleaved by a seeded
//! scheduler, partitions taken from one worker by another in between. Every schedule ends in what the sequential
//! oracle says. Planted faults must not.

#![allow(clippy::unwrap_used)]

mod toy;

use std::sync::Arc;

use hilum_chart::claims::Claims;
use hilum_chart::projection::Projection;
use hilum_chart::runner::Stepped;
use hilum_chart::{Progress, Runner};
use hilum_core::{Entropy, Stream};
use hilum_engines::log::Log;
use hilum_engines::log::partition_of;
use hilum_engines::tables::{Tables, Value, Write};
use hilum_testkit::workers::{Plant, interleave, nothing};
use toy::{
    Message, Toy, append, below, clock, day, envelope, open_log, open_postgres, open_tables, oracle, standing,
};

/// Runs one schedule to the end of the log. Returns how often workers were in each other's way.
async fn schedule(toy: &Arc<Toy>, log: &Log, tables: &Tables, seed: u64, plant: Plant) -> usize {
    let start =
        |place, progress| Runner::new(Arc::clone(toy), log.clone(), tables.clone(), clock(), place, progress);
    interleave(log, seed, plant, start).await
}

/// How many of the schedules end elsewhere than the oracle, and how often workers met.
async fn wrong(toy: Toy, days: u64, orders: u64, plant: Plant) -> (Vec<(u64, u64)>, usize) {
    wrong_days(toy, day, days, orders, plant).await
}

async fn wrong_days(
    toy: Toy,
    day: fn(&Entropy, u32) -> Vec<Message>,
    days: u64,
    orders: u64,
    plant: Plant,
) -> (Vec<(u64, u64)>, usize) {
    let toy = Arc::new(toy);
    let (mut wrong, mut in_the_way) = (Vec::new(), 0);
    for seed in 0..days {
        let random = Entropy::seeded(seed);
        let messages = day(&random, 60 + below(&random, 60));
        let want = oracle(&messages);
        let folder = tempfile::tempdir().unwrap();
        let log = open_log(folder.path());
        append(&log, &shuffled(messages, &random), &random).await;
        for order in 0..orders {
            let tables = open_tables();
            in_the_way += schedule(&toy, &log, &tables, seed * 1_000 + order, plant).await;
            if standing(&tables).await != want {
                wrong.push((seed, order));
            }
            tables.close().await;
        }
        log.close().await;
    }
    (wrong, in_the_way)
}

fn shuffled(mut messages: Vec<Message>, random: &Entropy) -> Vec<Message> {
    let count = messages.len();
    for at in 0..count {
        messages.swap(at, below(random, count as u32) as usize);
    }
    messages
}

#[tokio::test]
async fn every_schedule_ends_as_the_oracle_says() {
    let (wrong, in_the_way) = wrong(Toy::default(), 8, 4, nothing).await;
    assert_eq!(wrong, [], "(day, order)");
    assert!(in_the_way > 100, "the workers must have met, or nothing was tested: {in_the_way}");
}

#[tokio::test]
async fn without_expectations_it_is_red() {
    let (wrong, _) = wrong(Toy::default(), 3, 3, |batch| batch.expects.clear()).await;
    assert!(!wrong.is_empty());
}

#[tokio::test]
async fn without_the_check_of_heads_and_families_it_is_red() {
    let plant: Plant = |batch| batch.expects.retain(|expect| !expect.table.starts_with("chart_"));
    let (wrong, _) = wrong(Toy::default(), 3, 3, plant).await;
    assert!(!wrong.is_empty());
}

#[tokio::test]
async fn without_the_bump_of_families_it_is_red() {
    // Only new families are put: whoever adds a fact under one that stands does not say so.
    let plant: Plant = |batch| {
        let expected: Vec<_> = batch
            .expects
            .iter()
            .filter(|expect| expect.t.is_some())
            .map(|expect| expect.key.clone())
            .collect();
        batch.expects.retain(|expect| expect.table != "chart_resource");
        batch.writes.retain(|write| {
            !matches!(write, Write::Put { table: "chart_family", values } if expected.iter().any(|key| values.starts_with(key)))
        });
    };
    let (wrong, _) = wrong(Toy::default(), 3, 3, plant).await;
    assert!(!wrong.is_empty());
}

#[tokio::test]
async fn ties_decided_by_arrival_are_red() {
    let (wrong, _) = wrong(Toy { by_arrival: true, ..Toy::default() }, 2, 2, nothing).await;
    assert!(!wrong.is_empty());
}

/// Notes of as many accounts as there are notes, about thirty places: workers meet at the places alone.
fn places_day(random: &Entropy, count: u32) -> Vec<Message> {
    (0..count)
        .map(|n| Message::Note {
            account: n,
            visit: n,
            place: below(random, 30),
            value: below(random, 2),
            at: below(random, count),
        })
        .collect()
}

#[tokio::test]
async fn registers_keep_the_newest_in_every_schedule() {
    let (wrong, in_the_way) = wrong_days(Toy::default(), places_day, 6, 4, nothing).await;
    assert_eq!(wrong, [], "(day, order)");
    assert!(in_the_way > 10, "{in_the_way}");
}

/// Accounts that are merged and unmerged: everything is tied to something, and nothing is a register.
fn ties_day(random: &Entropy, count: u32) -> Vec<Message> {
    let one = |at| {
        let (old, new) = (below(random, 24), below(random, 24));
        match below(random, 8) {
            0 => Message::Bad,
            1 => Message::Unmerge { old, new, at },
            _ => Message::Merge { old, new, at },
        }
    };
    (0..count).map(one).collect()
}

#[tokio::test]
async fn siblings_that_compute_what_is_free_end_as_the_oracle_says() {
    let toy = toy::toy();
    let mut parted = 0;
    for seed in 0..30 {
        let random = Entropy::seeded(seed);
        let messages = ties_day(&random, 40);
        let want = oracle(&messages);
        let folder = tempfile::tempdir().unwrap();
        let log = open_log(folder.path());
        append(&log, &messages, &random).await;
        let (tables, claims) = (open_tables(), Claims::new());
        let start = |place, progress| {
            Runner::new(Arc::clone(&toy), log.clone(), tables.clone(), clock(), place, progress)
                .claiming(Arc::clone(&claims))
        };
        parted += interleave(&log, seed, nothing, start).await;
        assert_eq!(standing(&tables).await, want, "seed {seed}");
        tables.close().await;
        log.close().await;
    }
    assert!(parted > 100, "batches must have been computed in parts, or nothing was tested: {parted}");
}

#[tokio::test]
async fn what_nobody_holds_is_computed_while_the_rest_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (log, tables, random) = (open_log(folder.path()), open_tables(), Entropy::seeded(1));
    let progress = Progress::new(Toy::NAME, log.places(Toy::STREAMS));
    let partition =
        |message: &Message| partition_of(envelope(message, &random).key, log.partitions(Stream::Hl7In));
    // One partition merges account 0 with one of another partition, which has that merged once more, and much else.
    let tie = Message::Merge { old: 1, new: 0, at: 1 };
    let here = partition(&tie);
    let others: Vec<u32> =
        (2..200).filter(|n| partition(&Message::Merge { old: 0, new: *n, at: 0 }) != here).collect();
    let there = partition(&Message::Merge { old: 0, new: others[0], at: 0 });
    let there: Vec<u32> = others
        .into_iter()
        .filter(|n| partition(&Message::Merge { old: 0, new: *n, at: 0 }) == there)
        .collect();
    let mut messages = vec![tie, Message::Merge { old: 1, new: there[0], at: 2 }];
    messages.extend(there[1..8].iter().map(|&new| Message::Merge { old: new + 1_000, new, at: 3 }));
    append(&log, &messages, &random).await;
    let claims = Claims::new();
    let runner = |message: &Message| {
        let place = (Stream::Hl7In, partition(message));
        Runner::new(toy::toy(), log.clone(), tables.clone(), clock(), place, progress.clone())
            .claiming(Arc::clone(&claims))
    };
    let (mut one, mut other) = (runner(&messages[0]), runner(&messages[1]));
    while one.ready_mut().is_none() {
        one.step().await.unwrap();
    }
    let mut steps = Vec::new();
    while steps.last() != Some(&Stepped::Waits) {
        steps.push(other.step().await.unwrap());
    }
    assert_eq!(steps, [Stepped::Read { records: 7 }, Stepped::Parted, Stepped::Waits]);
    assert_eq!(other.step().await.unwrap(), Stepped::Waits, "still held");
    assert!(matches!(one.step().await.unwrap(), Stepped::Committed { records: 1, .. }));
    assert_eq!(other.step().await.unwrap(), Stepped::Read { records: 1 }, "the one that had to wait, alone");
    assert_eq!(other.step().await.unwrap(), Stepped::Applied);
    assert!(
        matches!(other.step().await.unwrap(), Stepped::Committed { records: 8, .. }),
        "both parts in one"
    );
    assert_eq!(standing(&tables).await, oracle(&messages));
}

/// Three notes about one place: the first one's body and the newest one's are the same, the one between differs.
/// `first` of the two later ones is committed while the other is on its way. Returns whether the newest stands.
async fn newest_stands(newest_first: bool, plant: Plant) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (log, tables, random) = (open_log(folder.path()), open_tables(), Entropy::seeded(1));
    let progress = Progress::new(Toy::NAME, log.places(Toy::STREAMS));
    let mut runners = Vec::new();
    let mut taken = Vec::new();
    for (value, at) in [(0, 1), (1, 2), (0, 3)] {
        // Accounts until one lies in a partition of its own.
        let (note, place) = (0..)
            .find_map(|account| {
                let note = Message::Note { account, visit: account, place: 7, value, at };
                let partition = partition_of(envelope(&note, &random).key, log.partitions(Stream::Hl7In));
                (!taken.contains(&partition)).then_some((note, (Stream::Hl7In, partition)))
            })
            .unwrap();
        taken.push(place.1);
        append(&log, &[note], &random).await;
        runners.push(Runner::new(toy::toy(), log.clone(), tables.clone(), clock(), place, progress.clone()));
    }
    let [first, between, newest] = runners.as_mut_slice() else { panic!("three") };
    to_the_end(first, nothing).await;
    let (one, other) = if newest_first { (newest, between) } else { (between, newest) };
    for runner in [&mut *one, &mut *other] {
        while runner.ready_mut().is_none() {
            runner.step().await.unwrap();
        }
    }
    to_the_end(one, plant).await;
    to_the_end(other, plant).await;
    let standing = standing(&tables).await;
    standing.bodies.values().any(|body| body.contains("Location") && body.contains("\"value\":0"))
}

async fn to_the_end(runner: &mut Runner<Toy>, plant: Plant) {
    loop {
        if let Some(batch) = runner.ready_mut() {
            plant(batch);
        }
        if matches!(runner.step().await.unwrap(), Stepped::Committed { .. }) {
            return;
        }
    }
}

#[tokio::test]
async fn a_register_checks_body_and_stamp() {
    let without_body: Plant = |batch| {
        let location = Value::Text("Location".to_owned());
        batch
            .expects
            .retain(|expect| expect.table != "chart_resource" || expect.key.first() != Some(&location));
    };
    let without_stamp: Plant = |batch| batch.expects.retain(|expect| expect.table != "chart_register");
    for newest_first in [false, true] {
        assert!(newest_stands(newest_first, nothing).await, "newest first: {newest_first}");
    }
    assert!(
        !newest_stands(false, without_body).await,
        "the newest brings no body: the one that stands must be checked"
    );
    assert!(!newest_stands(true, without_stamp).await, "an older body comes late: the stamp must be checked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_it_ends_alike() {
    let server = hilum_testkit::postgres::Postgres::shared();
    let toy = toy::toy();
    for seed in 0..2 {
        let random = Entropy::seeded(seed);
        let messages = day(&random, 60);
        let want = oracle(&messages);
        let folder = tempfile::tempdir().unwrap();
        let log = open_log(folder.path());
        append(&log, &shuffled(messages, &random), &random).await;
        let tables = open_postgres(server, &server.url()).await;
        schedule(&toy, &log, &tables, seed, nothing).await;
        assert_eq!(standing(&tables).await, want, "seed {seed}");
        tables.close().await;
    }
}
