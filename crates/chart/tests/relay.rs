//! The relay under any schedule: publishers without any lease between them, killed between any two steps, and what they
//! had sent arriving whenever it likes. A reader that keeps the greatest `(t, n)` sees each entry, in order.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use bytes::Bytes;
use hilum_chart::relay::{RELAY, Relay};
use hilum_core::{Clock, Entropy, Id, Seq, Timestamp};
use hilum_engines::log::{Last, Mark, Tail};
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
    /// Where the last of them stands that is acknowledged.
    acked: Option<i64>,
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

fn tail_of(topic: &[Record]) -> Tail {
    let last = topic.last().map_or(Last::Empty, |Record { life, change }| {
        let Change { t, n, topic, key, .. } = change.clone();
        Last::Entry(Mark { v: 1, life: *life, term: 0, t: t.0, n, topic }, key)
    });
    Tail { end: end_of(topic), last }
}

fn end_of(topic: &[Record]) -> i64 {
    i64::try_from(topic.len()).unwrap()
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
    relay.align(&tail_of(topic), random).await?;
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
            pipe.acked = Some(end_of(topic) - 1);
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
                changes if changes.is_empty() => match relay.confirmed(&[], None).await {
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
                    match relay.confirmed(&changes, pipe.acked).await {
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
        relay.confirmed(&changes, Some(end_of(topic) - 1)).await.unwrap();
        if changes.is_empty() {
            return;
        }
    }
}

/// A feed of three entries, and a fourth that was published and is not known to have been.
async fn published(random: &Entropy) -> (Tables, Vec<Record>) {
    let (tables, mut topic) = (sqlite(), Vec::new());
    commit(&tables, random, 2).await;
    let mut relay = take(&tables, random, &topic).await.unwrap();
    drain(&mut relay, &mut topic).await;
    let life = relay.life();
    commit(&tables, random, 1).await;
    let mut again = take(&tables, random, &topic).await.unwrap();
    drain(&mut again, &mut topic).await;
    assert_eq!((again.life(), topic.len()), (life, 3), "the same life goes on");
    commit(&tables, random, 1).await;
    let mut dies = take(&tables, random, &topic).await.unwrap();
    let sent = dies.next().await.unwrap();
    topic.extend(sent.into_iter().map(|change| Record { life, change }));
    assert_eq!(topic.len(), 4);
    (tables, topic)
}

/// Tables that were restored count from before what was published: readers are told, for else they would take what comes
/// for copies. So they are when the feed was made anew.
#[tokio::test]
async fn another_life_begins_where_feed_and_tables_do_not_belong_together() {
    let random = Entropy::seeded(5);
    let other = |topic: &[Record], t: i64| {
        let mut topic = topic.to_vec();
        let last = topic.last_mut().unwrap();
        last.change.t = Seq(last.change.t.0 + t);
        last.change.key = Id::from_bytes([9; 16]);
        tail_of(&topic)
    };
    type Found<'a> = &'a dyn Fn(&[Record]) -> Tail;
    let cases: [(&str, bool, Found<'_>); 10] = [
        ("published, and not known to have been: it is of these tables", true, &tail_of),
        ("a copy came late", true, &|topic| {
            tail_of(&topic.iter().chain(&topic[..1]).cloned().collect::<Vec<_>>())
        }),
        ("a quiet week", true, &|_| Tail { end: 3, last: Last::Aged }),
        ("gone by age, and more than these tables know of", false, &|_| Tail { end: 4, last: Last::Aged }),
        ("ahead of these tables", false, &|topic| other(topic, 7)),
        ("another entry of that commit", false, &|topic| other(topic, 0)),
        ("the feed was made anew", false, &|_| Tail { end: 0, last: Last::Empty }),
        ("and somebody published into it", false, &|topic| Tail { end: 1, ..tail_of(topic) }),
        ("or it was emptied after that", false, &|_| Tail { end: 2, last: Last::Aged }),
        ("somebody else wrote into it", false, &|_| Tail { end: 5, last: Last::Foreign }),
    ];
    for (why, is_same, found) in cases {
        let (tables, topic) = published(&random).await;
        let process = Id::from_bytes([1; 16]);
        let mut relay = Relay::take(&tables, &clock(), &random, process, Token(2)).await.unwrap();
        relay.align(&found(&topic), &random).await.unwrap();
        assert_eq!(relay.life() == topic[0].life, is_same, "{why}");
        let first = relay.next().await.unwrap();
        assert_eq!((first.len(), first[0].topic == REREAD_TOPIC), (1, !is_same), "{why}");
        tables.close().await;
    }
    // Tables that have never published know nothing of what is gone by age.
    let tables = sqlite();
    let mut relay = Relay::take(&tables, &clock(), &random, Id::from_bytes([1; 16]), Token(1)).await.unwrap();
    relay.align(&Tail { end: 5, last: Last::Aged }, &random).await.unwrap();
    assert_eq!(relay.next().await.unwrap()[0].topic, REREAD_TOPIC);
    tables.close().await;
}

/// Who publishes sees by an offset that the topic is another one: all that is not known to be read comes in a new life.
#[tokio::test]
async fn a_topic_that_is_made_anew_under_its_publisher_begins_another_life() {
    let random = Entropy::seeded(7);
    let (tables, old) = published(&random).await;
    let mut relay = take(&tables, &random, &old).await.unwrap();
    assert_eq!(relay.acked(), Some(2));
    let sent = relay.next().await.unwrap();
    let mut topic: Vec<Record> =
        sent.iter().map(|change| Record { life: relay.life(), change: change.clone() }).collect();
    relay.begin_anew(&random).await.unwrap();
    assert_eq!(relay.acked(), None, "of the other topic");
    drain(&mut relay, &mut topic).await;
    let news: Vec<&Record> = topic.iter().filter(|one| one.life == relay.life()).collect();
    assert_eq!((news[0].change.topic.as_str(), &news[1].change), (REREAD_TOPIC, &sent[0]));
    assert_eq!(news.len(), 2);
    assert_eq!(take(&tables, &random, &topic).await.unwrap().life(), relay.life(), "and goes on in it");
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
