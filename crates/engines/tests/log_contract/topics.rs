//! Sources with topics of their own: which numbers their partitions have, who sees them and when, and what is said when one
//! is not there.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hilum_core::{Entropy, Envelope, Kind, Position, SourceName, Stream};
use hilum_engines::limits;
use hilum_engines::log::kafka::{Kafka, KafkaConfig};
use hilum_engines::log::{Log, LogError, ReadMax, Share, partition_of};
use hilum_testkit::kafka::{leave_a_gap, read_all};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::watch;

use crate::sample::{ALL, bodies, hl7, key, ticking};
use crate::subject::on_one_broker;

const P: u16 = limits::LOG_PARTITIONS;

/// `config` with topics of their own for these sources.
pub fn with_topics(config: &KafkaConfig, sources: &[&str]) -> KafkaConfig {
    let own_topics = sources.iter().map(|&source| source.to_owned()).collect();
    KafkaConfig { own_topics, ..config.clone() }
}

async fn try_open(config: &KafkaConfig, sources: &[&str]) -> Result<Log, LogError> {
    Kafka::open(with_topics(config, sources), &ticking(), &Entropy::seeded(1)).await.map(Log::Kafka)
}

async fn open(config: &KafkaConfig, sources: &[&str]) -> Log {
    with_patience(async || try_open(config, sources).await).await
}

/// What a broker that has no time now, beside those of all other tests, answers a moment later.
async fn with_patience<T>(ask: impl AsyncFn() -> Result<T, LogError>) -> T {
    let begun = Instant::now();
    loop {
        let answer = ask().await;
        let is_later = matches!(answer, Err(LogError::Full(_) | LogError::Engine(_)));
        if !is_later || begun.elapsed() > Duration::from_mins(1) {
            return answer.expect("answers");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn append(log: &Log, message: Envelope) -> Position {
    with_patience(async || log.append(message.clone()).await).await
}

/// A message of `source`, of the patient `n`.
pub fn of(source: &str, n: u64) -> Envelope {
    Envelope { source: SourceName::parse(source).expect("a name"), ..hl7(n) }
}

fn admin(config: &KafkaConfig) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &config.brokers).create().expect("a client")
}

async fn make(config: &KafkaConfig, topic: &str, partitions: u16, settings: &[(&str, &str)]) {
    let new = NewTopic::new(topic, i32::from(partitions), TopicReplication::Fixed(1));
    let kept = [("retention.ms", "-1"), ("max.message.bytes", "20000000")];
    let new = kept.iter().chain(settings).fold(new, |new, (name, value)| new.set(name, value));
    let begun = Instant::now();
    loop {
        let made = admin(config).create_topics([&new], &AdminOptions::new()).await.expect("asks");
        if made.iter().all(Result::is_ok) {
            return;
        }
        // One that is being deleted is there for a moment.
        assert!(begun.elapsed() < Duration::from_secs(20), "{made:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until `is` is so.
async fn wait<T>(what: &str, mut is: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = is().await {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(40), "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_with_a_topic_has_partitions_behind_those_of_the_others() {
    let config = on_one_broker();
    let log = open(&config, &["ed"]).await;
    let own = format!("{}.hl7.in.ed", config.prefix);
    assert_eq!((log.partitions(Stream::Hl7In), log.partitions(Stream::Decisions)), (2 * P, P));
    assert_eq!(log.topic(Stream::Hl7In, P).as_deref(), Some(&*own));
    assert_eq!(log.topic(Stream::Hl7In, 0).as_deref(), Some(&*format!("{}.hl7.in", config.prefix)));
    let within = partition_of(key(1), P);
    let mut places = Vec::new();
    for source in ["ed", "lab", "ed"] {
        let Position { partition, offset, .. } = append(&log, of(source, 1)).await;
        places.push((partition, offset));
    }
    assert_eq!(places, [(P + within, 0), (within, 0), (P + within, 1)], "offsets of its own");
    let decision = Envelope { stream: Stream::Decisions, ..of("ed", 1) };
    assert_eq!(log.append(decision).await.expect("appends").partition, within, "decisions are in one topic");
    for (partition, want) in [(within, 1), (P + within, 2)] {
        assert_eq!(log.end(Stream::Hl7In, partition).await.expect("an end"), want);
        assert_eq!(bodies(&log, Stream::Hl7In, partition).await.len(), want as usize);
    }
    let second = Position { stream: Stream::Hl7In, partition: P + within, offset: 1 };
    let found = log.get(second).await.expect("reads").expect("is there");
    assert_eq!((found.position, found.envelope.source.as_str()), (second, "ed"));
    let none = log.read(Stream::Hl7In, 2 * P, 0, ALL).await.expect_err("no such partition").to_string();
    assert!(none.contains("there is no partition 16 of hl7.in"), "{none}");

    // Turned off: its topic and numbers stay, what comes then goes to the others'. A correction of what stands there
    // stands there too.
    let epoch = log.epoch();
    log.close().await;
    let log = open(&config, &[]).await;
    assert_eq!((log.epoch(), log.partitions(Stream::Hl7In)), (epoch, 2 * P));
    assert_eq!(bodies(&log, Stream::Hl7In, P + within).await.len(), 2);
    assert_eq!(append(&log, of("ed", 1)).await.partition, within);
    let beside = log.append_beside(second, of("ed", 1)).await.expect("appends");
    assert_eq!(beside, Position { offset: 2, ..second });

    // And on again: the same numbers, and what stood in the others' is corrected there.
    let log = open(&config, &["lab", "ed"]).await;
    assert_eq!(log.topic(Stream::Hl7In, P).as_deref(), Some(&*own));
    assert_eq!(append(&log, of("ed", 1)).await.partition, P + within);
    assert_eq!(append(&log, of("lab", 1)).await.partition, 2 * P + within);
    let first = Position { stream: Stream::Hl7In, partition: within, offset: 0 };
    assert_eq!(log.append_beside(first, of("ed", 1)).await.expect("appends").partition, within);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_add_topics_at_the_same_moment_give_different_numbers() {
    let config = on_one_broker();
    // Also on a log that begins at that moment.
    for round in 0..2 {
        let names: Vec<String> = (0..4).map(|n| format!("s{round}{n}")).collect();
        let sources: Vec<[&str; 2]> = names.iter().map(|one| [one.as_str(), "shared"]).collect();
        let opened = futures::future::join_all(sources.iter().map(|sources| open(&config, sources))).await;
        let all = 1 + 4 * (round + 1) + 1;
        let mut seen = Vec::new();
        for log in &opened {
            wait("every process knows all", async || {
                (log.partitions(Stream::Hl7In) == all * P).then_some(())
            })
            .await;
            let topics = (0..all).filter_map(|number| log.topic(Stream::Hl7In, number * P));
            seen.push(topics.collect::<Vec<_>>());
        }
        assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
        let different: BTreeSet<_> = seen[0].iter().collect();
        assert_eq!(different.len(), usize::from(all), "{seen:?}");
        for (log, [own, _]) in opened.iter().zip(&sources) {
            let position = append(log, of(own, 7)).await;
            let topic = log.topic(Stream::Hl7In, position.partition);
            assert_eq!(topic.as_deref(), Some(&*format!("{}.hl7.in.{own}", config.prefix)));
            let read = opened[0].get(position).await.expect("reads").expect("is there");
            assert_eq!(read.envelope.source.as_str(), *own);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_does_not_know_a_topic_yet_asks_before_it_says_that_there_is_none() {
    let config = on_one_broker();
    let before = open(&config, &[]).await;
    let known = before.places(&Stream::ALL).len();
    let log = open(&config, &["ed"]).await;
    let position = append(&log, of("ed", 1)).await;
    // At once: before it has looked by itself.
    let read = before.read(Stream::Hl7In, position.partition, 0, ALL).await.expect("reads");
    assert_eq!(read.len(), 1);
    tokio::time::timeout(Duration::from_secs(10), before.grown(known)).await.expect("it says so");
    assert_eq!(before.places(&Stream::ALL).len(), known + usize::from(P));

    // And by itself, with nobody asking.
    let known = before.places(&Stream::ALL).len();
    open(&config, &["lab"]).await;
    tokio::time::timeout(Duration::from_secs(10), before.grown(known)).await.expect("it says so");

    // Whoever reads on is woken by what others append there.
    let mut appended = before.appended();
    let at_end = before.read(Stream::Hl7In, position.partition, 1, ALL).await.expect("reads");
    assert!(at_end.is_empty());
    appended.borrow_and_update();
    append(&log, of("ed", 1)).await;
    tokio::time::timeout(Duration::from_secs(10), appended.changed()).await.expect("wakes").expect("is open");
    let one = ReadMax { records: 1, bytes: 0 };
    let next = wait("it comes", async || {
        before.read(Stream::Hl7In, position.partition, 1, one).await.expect("reads").pop()
    });
    assert_eq!(next.await.position.offset, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_take_up_a_new_topic_without_a_restart() {
    let config = on_one_broker();
    let (one, other) = (open(&config, &[]).await, open(&config, &[]).await);
    let mut shares = [one.share("adt").expect("joins"), other.share("adt").expect("joins")];
    let all = async |shares: &mut [watch::Receiver<Share>; 2], want: usize| {
        wait("every partition has one worker", async || {
            let [one, other] = shares.each_ref().map(|share| share.borrow().clone());
            let is_dealt = one.len() + other.len() == want && one.is_disjoint(&other);
            (is_dealt && !one.is_empty() && !other.is_empty()).then_some(())
        })
        .await;
    };
    all(&mut shares, 2 * usize::from(P)).await;
    // Messages are the work, and dealt out evenly; decisions are few, and with one of the two.
    for share in &shares {
        let of_messages = share.borrow().range(..(Stream::Decisions, 0)).count();
        assert_eq!(of_messages, usize::from(P) / 2);
        assert!([0, usize::from(P)].contains(&(share.borrow().len() - of_messages)));
    }
    let log = open(&config, &["ed"]).await;
    all(&mut shares, 3 * usize::from(P)).await;
    let of_ed = |share: &watch::Receiver<Share>| share.borrow().range((Stream::Hl7In, P)..).count();
    assert_eq!(shares.iter().map(|share| share.borrow().len()).sum::<usize>(), 3 * usize::from(P));
    assert!(shares.iter().map(of_ed).sum::<usize>() >= usize::from(P), "under the numbers that all know");
    let position = append(&log, of("ed", 1)).await;
    assert!(shares.iter().any(|share| share.borrow().contains(&(Stream::Hl7In, position.partition))));
    // One leaves: the other has all of it.
    let [share, mut last] = shares;
    drop(share);
    last.wait_for(|share| share.len() == 3 * usize::from(P)).await.expect("takes over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_a_sources_topic_is_named_by_its_number() {
    let config = on_one_broker();
    let log = open(&config, &["ed"]).await;
    let Position { partition, .. } = append(&log, of("ed", 1)).await;
    leave_a_gap(&config.brokers, &format!("{}.hl7.in.ed", config.prefix), partition - P);
    append(&log, of("ed", 1)).await;
    assert_eq!(log.read(Stream::Hl7In, partition, 0, ALL).await.expect("reads").len(), 1);
    let gap = log.read(Stream::Hl7In, partition, 1, ALL).await.expect_err("a gap");
    let LogError::Missing { stream: Stream::Hl7In, partition: at, from: 1, to: 3 } = gap else {
        panic!("{gap}")
    };
    assert_eq!(at, partition);
}

/// Deleted while all run: nothing is acknowledged for it and nothing of it is taken for read, the others go on. Made
/// again, it is as empty as it is: its end says so to whoever was further.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_somebody_deletes_is_said_to_be_gone_and_the_others_go_on() {
    let config = on_one_broker();
    let log = open(&config, &["ed"]).await;
    let Position { partition, .. } = append(&log, of("ed", 1)).await;
    let own = format!("{}.hl7.in.ed", config.prefix);
    assert_eq!(bodies(&log, Stream::Hl7In, partition).await.len(), 1, "who reads on is at its end");
    admin(&config).delete_topics(&[&own], &AdminOptions::new()).await.expect("deletes");
    let gone = wait("it is seen", async || {
        log.append(of("lab", 1)).await.expect("others go on");
        match log.append(of("ed", 1)).await {
            Err(why @ LogError::Gone { .. }) => Some(why),
            // Until then it may be kept, or not: what is acknowledged was taken before the deletion was whole.
            _ => None,
        }
    })
    .await;
    assert_eq!(gone.kind(), Kind::Transient);
    let said = gone.to_string();
    for want in [&*own, &format!("{}.log names it", config.prefix), "8 partitions"] {
        assert!(said.contains(want), "{said}");
    }
    let end = log.end(Stream::Hl7In, partition).await.expect_err("nobody knows");
    let read = log.read(Stream::Hl7In, partition, 1, ALL).await.expect_err("nothing is there");
    let get = log.get(Position { stream: Stream::Hl7In, partition, offset: 0 }).await.expect_err("nor that");
    for why in [end, read, get] {
        assert!(matches!(why, LogError::Gone { .. }), "{why}");
    }
    log.append(of("lab", 1)).await.expect("others go on");
    log.ready(1).expect("the log takes what goes elsewhere");
    assert_eq!(log.health().gone, [said], "whoever asks how it does hears of it");
    let refused = try_open(&config, &[]).await.expect_err("nor does a process begin without it");
    assert!(refused.to_string().contains(&own), "{refused}");

    make(&config, &own, P, &[]).await;
    let end = wait("it is seen", async || log.end(Stream::Hl7In, partition).await.ok()).await;
    assert_eq!(end, 0, "another one of that name");
    wait("and taken", async || log.append(of("ed", 1)).await.ok()).await;
    assert!(log.health().gone.is_empty());
    let read = async || log.read(Stream::Hl7In, partition, 0, ALL).await.ok().filter(|read| !read.is_empty());
    let read = wait("and read again by who read the other one", read).await;
    assert_eq!(read[0].position.offset, 0);
}

fn topics_of(config: &KafkaConfig) -> BTreeSet<String> {
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &config.brokers).create().unwrap();
    let metadata = client.fetch_metadata(None, Duration::from_secs(10)).expect("answers");
    let topics = metadata.topics().iter().map(|topic| topic.name().to_owned());
    topics.filter(|topic| topic.starts_with(&format!("{}.", config.prefix))).collect()
}

async fn write(config: &KafkaConfig, topic: &str, records: &[String]) {
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", &config.brokers).create().expect("a client");
    for record in records {
        let record = FutureRecord::<(), _>::to(topic).partition(0).payload(record);
        producer.send(record, Duration::from_secs(10)).await.expect("writes");
    }
}

/// `{prefix}.log` deleted while all run: it is said, what comes in is kept as before and the other topics are watched
/// still; no process makes another one beside topics in which records stand, for its sources' topics might have other
/// numbers. With its records written again, as the manual says, all is as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_somebody_deletes_is_said_to_be_lost_and_nobody_makes_another() {
    let config = on_one_broker();
    let log = open(&config, &["ed", "lab"]).await;
    let position = append(&log, of("lab", 1)).await;
    append(&log, of("ed", 1)).await;
    let list = format!("{}.log", config.prefix);
    let own = format!("{}.hl7.in.ed", config.prefix);
    let records: Vec<_> = read_all(&config.brokers, &list).into_iter().map(|record| record.value).collect();
    assert_eq!(records.len(), 3, "{records:?}");
    admin(&config).delete_topics(&[&list], &AdminOptions::new()).await.expect("deletes");
    let said = wait("it is seen", async || log.health().gone.pop()).await;
    for want in [&*format!("topic {list} is gone"), "docs/OPERATIONS.md", "another prefix"] {
        assert!(said.contains(want), "{said}");
    }
    log.append(of("ed", 2)).await.expect("what comes in is kept");
    log.append_beside(position, of("lab", 1)).await.expect("and beside what stands");
    assert_eq!(bodies(&log, Stream::Hl7In, position.partition).await.len(), 2, "and read");

    let before = topics_of(&config);
    let refused = try_open(&config, &["ed"]).await.expect_err("nobody begins another").to_string();
    for want in [&*list, "though records stand in", "docs/OPERATIONS.md"] {
        assert!(refused.contains(want), "{refused}");
    }
    assert_eq!(topics_of(&config), before, "nothing is made");

    // Made by somebody, and empty: no log of its own either.
    make(&config, &list, 1, &[]).await;
    let refused = try_open(&config, &["ed"]).await.expect_err("nor in an empty one").to_string();
    assert!(refused.contains(&format!("topic {list} is empty, though records stand in")), "{refused}");
    wait("it is seen", async || {
        log.health().gone.iter().any(|said| said.contains("has lost records")).then_some(())
    })
    .await;

    // The others are looked at all the while.
    admin(&config).delete_topics(&[&own], &AdminOptions::new()).await.expect("deletes");
    wait("the loss of another one is seen", async || {
        log.health().gone.iter().any(|said| said.contains(&own)).then_some(())
    })
    .await;
    make(&config, &own, P, &[]).await;

    write(&config, &list, &records).await;
    wait("all is as it was", async || log.health().gone.is_empty().then_some(())).await;
    let again = open(&config, &["ed", "lab"]).await;
    assert_eq!((again.epoch(), again.partitions(Stream::Hl7In)), (log.epoch(), 3 * P));
    assert_eq!(append(&again, of("lab", 1)).await.partition, position.partition);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_somebody_else_made_must_be_as_ours() {
    let config = on_one_broker();
    open(&config, &[]).await;
    let topic = |source: &str| format!("{}.hl7.in.{source}", config.prefix);
    make(&config, &topic("fine"), P, &[]).await;
    append(&open(&config, &["fine"]).await, of("fine", 1)).await;
    make(&config, &topic("few"), P - 1, &[]).await;
    make(&config, &topic("forgets"), P, &[("retention.ms", "60000")]).await;
    for (source, want) in [("few", "has 7 partitions"), ("forgets", "retention.ms=60000")] {
        let refused = try_open(&config, &[source]).await.expect_err(source).to_string();
        assert!(refused.contains(&topic(source)) && refused.contains(want), "{refused}");
    }
    // Nothing of it is listed: whoever does not ask for it is not held up.
    assert_eq!(open(&config, &[]).await.partitions(Stream::Hl7In), 2 * P);
}
