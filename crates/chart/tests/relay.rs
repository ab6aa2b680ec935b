//! The relay under any schedule: publishers without any lease between them, killed between any two steps, and what they
//! had sent arriving whenever it likes. A reader that keeps the greatest `(t, n)` sees each entry, in order.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use bytes::Bytes;
use hilum_chart::relay::{RELAY, Relay};
use hilum_core::{Clock, Entropy, Id, Seq, Timestamp};
use hilum_engines::log::{Last, Mark};
use hilum_engines::tables::postgres::{Postgres, PostgresConfig};
use hilum_engines::tables::sqlite::{Options, Place, Sqlite};
use hilum_engines::tables::{Batch, Change, Outgoing, REREAD_TOPIC, Tables, TablesError, Token};

const WORKERS: usize = 3;
const TOPICS: [&str; 2] = ["adt.board", "chart.resource"];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    life: Id,
    change: Change,
}

/// A producer: it sends in order, and leaves no hole.
#[derive(Default)]
struct Pipe {
    waiting: VecDeque<Record>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plant {
    Nothing,
    /// The cursor is moved before what it covers is acknowledged.
    MovesFirst,
    /// A record is given up, and those behind it are sent.
    LeavesHoles,
    /// Readers take what comes.
    ReadsAll,
}

enum Worker {
    Idle,
    Has(Relay, Pipe),
    /// Has sent these, and waits for their acknowledgment.
    Sends(Relay, Pipe, Vec<Change>),
}

fn clock() -> Clock {
    Clock::fixed(Timestamp::from_micros(1_000_000))
}

fn sqlite() -> Tables {
    Tables::Sqlite(Sqlite::open(Place::Memory, &[&RELAY], Options::default()).unwrap())
}

async fn postgres() -> Tables {
    let server = hilum_testkit::postgres::Postgres::shared();
    let place = PostgresConfig::new(server.url(), server.fresh_schema());
    Tables::Postgres(Postgres::open(place, &[&RELAY]).await.unwrap())
}

fn last_of(topic: &[Record]) -> Last {
    topic.last().map_or(Last::Empty, |Record { life, change }| {
        let Change { t, n, topic, key, .. } = change.clone();
        Last::Entry(Mark { v: 1, life: *life, term: 0, t: t.0, n, topic }, key)
    })
}

async fn commit(tables: &Tables, random: &Entropy, entries: usize) {
    let outbox = (0..entries).map(|n| Outgoing {
        topic: TOPICS[n % 2],
        key: Id::from_bytes(random.bytes()),
        body: Bytes::from(format!("{{\"n\":{n}}}")),
    });
    tables.commit(Batch { outbox: outbox.collect(), ..Batch::default() }).await.unwrap();
}

/// Takes the cursor as a process does.
async fn take(tables: &Tables, random: &Entropy, topic: &[Record]) -> Result<Relay, TablesError> {
    let mut relay = Relay::take(tables, &clock(), random, Id::from_bytes([1; 16]), Token(1)).await?;
    relay.align(&last_of(topic), random).await?;
    Ok(relay)
}

/// One schedule. Gives what the outbox said and what a reader saw.
async fn schedule(tables: &Tables, seed: u64, plant: Plant) -> (Vec<Change>, Vec<Change>) {
    let random = Entropy::seeded(seed);
    let below = |n: usize| u32::from_le_bytes(random.bytes()) as usize % n;
    let mut topic: Vec<Record> = Vec::new();
    let mut ghosts: Vec<Pipe> = Vec::new();
    let mut workers: Vec<Worker> = (0..WORKERS).map(|_| Worker::Idle).collect();
    let deliver = |pipe: &mut Pipe, topic: &mut Vec<Record>, records: usize| {
        for record in pipe.waiting.drain(..records.min(pipe.waiting.len())) {
            let is_lost = plant == Plant::LeavesHoles && below(12) == 0;
            if !is_lost {
                topic.push(record);
            }
        }
    };
    for _ in 0..250 {
        if below(3) == 0 {
            commit(tables, &random, below(4)).await;
        }
        if let Some(ghost) = ghosts.get_mut(below(4)) {
            deliver(ghost, &mut topic, below(3));
        }
        let worker = &mut workers[below(WORKERS)];
        *worker = match std::mem::replace(worker, Worker::Idle) {
            Worker::Has(_, pipe) | Worker::Sends(_, pipe, _) if below(10) == 0 => {
                // Killed: what is on its way may come to stand there yet, up to some record.
                let mut ghost = pipe;
                ghost.waiting.truncate(below(ghost.waiting.len() + 1));
                ghosts.push(ghost);
                Worker::Idle
            }
            Worker::Idle => take(tables, &random, &topic)
                .await
                .map_or(Worker::Idle, |relay| Worker::Has(relay, Pipe::default())),
            Worker::Has(mut relay, mut pipe) => match relay.next().await.unwrap() {
                changes if changes.is_empty() => match relay.confirmed(&[]).await {
                    Ok(()) => Worker::Has(relay, pipe),
                    Err(_) => Worker::Idle,
                },
                changes => {
                    let life = relay.life();
                    pipe.waiting.extend(changes.iter().map(|change| Record { life, change: change.clone() }));
                    Worker::Sends(relay, pipe, changes)
                }
            },
            Worker::Sends(mut relay, mut pipe, changes) => {
                let is_first = plant == Plant::MovesFirst;
                if !is_first {
                    deliver(&mut pipe, &mut topic, 1 + below(4));
                }
                if is_first || pipe.waiting.is_empty() {
                    match relay.confirmed(&changes).await {
                        Ok(()) if is_first => Worker::Sends(relay, pipe, Vec::new()),
                        Ok(()) => Worker::Has(relay, pipe),
                        Err(TablesError::Conflict(_)) => {
                            ghosts.push(pipe);
                            Worker::Idle
                        }
                        Err(error) => panic!("{error}"),
                    }
                } else {
                    Worker::Sends(relay, pipe, changes)
                }
            }
        };
        // What was moved first is sent behind it.
        if plant == Plant::MovesFirst {
            for worker in &mut workers {
                if let Worker::Sends(_, pipe, changes) = worker
                    && changes.is_empty()
                {
                    deliver(pipe, &mut topic, 1 + below(4));
                    if pipe.waiting.is_empty() {
                        *worker = Worker::Idle;
                    }
                }
            }
        }
    }
    // At last all is quiet, and somebody takes over.
    let mut relay = take(tables, &random, &topic).await.unwrap();
    drain(&mut relay, &mut topic).await;
    let said = tables.changes(Seq(0), 10_000).await.unwrap();
    (said, read(&topic, plant))
}

/// What a reader takes that keeps the greatest `(t, n)` of the life that it is in.
fn read(topic: &[Record], plant: Plant) -> Vec<Change> {
    let mut greatest: Option<(Seq, i64)> = None;
    let mut taken = Vec::new();
    for Record { change, .. } in topic {
        let at = (change.t, change.n);
        if plant != Plant::ReadsAll && greatest.is_some_and(|greatest| at <= greatest) {
            continue;
        }
        greatest = Some(at);
        taken.push(change.clone());
    }
    taken
}

async fn wrong(schedules: u64, plant: Plant) -> usize {
    let mut wrong = 0;
    for seed in 0..schedules {
        let tables = sqlite();
        let (said, seen) = schedule(&tables, seed, plant).await;
        if said != seen {
            wrong += 1;
            assert!(plant != Plant::Nothing, "seed {seed}: {} entries, {} seen", said.len(), seen.len());
        }
        tables.close().await;
    }
    wrong
}

#[tokio::test]
async fn each_entry_is_seen_once_and_in_order_under_any_schedule() {
    wrong(150, Plant::Nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_on_postgresql() {
    for seed in 0..3 {
        let tables = postgres().await;
        let (said, seen) = schedule(&tables, seed, Plant::Nothing).await;
        assert!(!said.is_empty());
        assert!(said == seen, "seed {seed}: {} entries, {} seen", said.len(), seen.len());
        tables.close().await;
    }
}

#[tokio::test]
async fn planted_faults_are_found() {
    for plant in [Plant::MovesFirst, Plant::LeavesHoles, Plant::ReadsAll] {
        assert!(wrong(30, plant).await > 0);
    }
}

/// All that is to be published, as somebody else's relay would.
async fn drain(relay: &mut Relay, topic: &mut Vec<Record>) {
    loop {
        let changes = relay.next().await.unwrap();
        let life = relay.life();
        topic.extend(changes.iter().map(|change| Record { life, change: change.clone() }));
        relay.confirmed(&changes).await.unwrap();
        if changes.is_empty() {
            return;
        }
    }
}

/// Tables that were restored count from before what was published: readers are told, for else they would take what comes
/// for copies. So they are when the feed was made anew.
#[tokio::test]
async fn another_life_begins_where_feed_and_tables_do_not_belong_together() {
    let random = Entropy::seeded(5);
    let tables = sqlite();
    let mut topic = Vec::new();
    commit(&tables, &random, 2).await;
    let mut relay = take(&tables, &random, &topic).await.unwrap();
    drain(&mut relay, &mut topic).await;
    let life = relay.life();
    commit(&tables, &random, 1).await;
    let mut again = take(&tables, &random, &topic).await.unwrap();
    drain(&mut again, &mut topic).await;
    assert_eq!((again.life(), topic.len()), (life, 3), "the same life goes on");

    // Published, and not known to have been: it is of these tables, and the life goes on.
    commit(&tables, &random, 1).await;
    let mut dies = take(&tables, &random, &topic).await.unwrap();
    let sent = dies.next().await.unwrap();
    topic.extend(sent.into_iter().map(|change| Record { life, change }));
    assert_eq!(take(&tables, &random, &topic).await.unwrap().life(), life);

    let newest = tables.now().await.unwrap();
    let elsewhere = |t: i64| {
        let change = Change {
            t: Seq(t),
            n: 0,
            topic: TOPICS[0].to_owned(),
            key: Id::from_bytes([9; 16]),
            body: Bytes::new(),
        };
        vec![Record { life, change }]
    };
    let cases = [
        ("ahead of these tables", last_of(&elsewhere(newest.0 + 7))),
        ("another entry of that commit", last_of(&elsewhere(topic.last().unwrap().change.t.0))),
        ("the feed was made anew", Last::Empty),
        ("somebody else wrote into it", Last::Foreign),
    ];
    for (why, last) in cases {
        let mut relay =
            Relay::take(&tables, &clock(), &random, Id::from_bytes([1; 16]), Token(2)).await.unwrap();
        let before = relay.life();
        relay.align(&last, &random).await.unwrap();
        assert_ne!(relay.life(), before, "{why}");
        let first = relay.next().await.unwrap();
        assert_eq!((first.len(), first[0].topic.as_str()), (1, REREAD_TOPIC), "{why}");
    }
    let relay = Relay::take(&tables, &clock(), &random, Id::from_bytes([1; 16]), Token(3)).await.unwrap();
    let mut aged = relay;
    let before = aged.life();
    aged.align(&Last::Aged, &random).await.unwrap();
    assert_eq!(aged.life(), before, "a quiet week is no other life");
    tables.close().await;
}

/// What was cut from the outbox before it was published is said to be missing; what is behind it comes.
#[tokio::test]
async fn a_cut_is_said() {
    let random = Entropy::seeded(6);
    let tables = sqlite();
    let mut topic = Vec::new();
    commit(&tables, &random, 2).await;
    let mut relay = take(&tables, &random, &topic).await.unwrap();
    for _ in 0..3 {
        commit(&tables, &random, 1).await;
    }
    let newest = tables.now().await.unwrap();
    tables.prune(newest).await.unwrap();
    drain(&mut relay, &mut topic).await;
    let seen: Vec<(i64, &str)> =
        topic.iter().map(|one| (one.change.t.0, one.change.topic.as_str())).collect();
    assert_eq!(seen, [(newest.0 - 1, REREAD_TOPIC), (newest.0, TOPICS[0])]);
    tables.close().await;
}
