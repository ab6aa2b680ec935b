//! What the log on Kafka promises beyond the contract: which clusters it takes, and what it says when they fail.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hilum_core::{Entropy, Id, Kind, Position, Seq, Stream};
use hilum_engines::limits;
use hilum_engines::log::kafka::{Durability, Kafka, KafkaConfig};
use hilum_engines::log::{Last, Log, LogError, Placed, ReadMax, Tail, partition_of};
use hilum_engines::tables::Change;
use hilum_testkit::kafka::{Kafka as Cluster, read_all};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};

use crate::sample::{ALL, bodies, envelope, hl7, key, ticking};
use crate::subject::on_one_broker;

async fn open_seeded(config: &KafkaConfig, seed: u64) -> Result<Log, LogError> {
    Kafka::open(config.clone(), &ticking(), &Entropy::seeded(seed)).await.map(Log::Kafka)
}

async fn open(config: &KafkaConfig) -> Result<Log, LogError> {
    open_seeded(config, 1).await
}

fn admin(config: &KafkaConfig) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &config.brokers).create().expect("a client")
}

async fn make_topics(config: &KafkaConfig, partitions: [i32; 2], settings: &BTreeMap<&str, &str>) {
    let names = [format!("{}.hl7.in", config.prefix), format!("{}.decisions", config.prefix)];
    let topics: Vec<NewTopic<'_>> = names
        .iter()
        .zip(partitions)
        .map(|(name, partitions)| {
            let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
            settings.iter().fold(new, |new, (name, value)| new.set(name, value))
        })
        .collect();
    make(config, &topics).await;
}

/// Makes topics, and waits until the broker shows them: who does not see them yet would make them.
async fn make(config: &KafkaConfig, topics: &[NewTopic<'_>]) {
    let admin = admin(config);
    for made in admin.create_topics(topics, &AdminOptions::new()).await.expect("asks") {
        made.expect("makes");
    }
    let begun = Instant::now();
    loop {
        let shown = admin.inner().fetch_metadata(None, Duration::from_secs(10)).expect("answers");
        let is_shown = |new: &NewTopic<'_>| {
            let found = shown.topics().iter().find(|topic| topic.name() == new.name);
            found.is_some_and(|topic| topic.partitions().iter().all(|one| one.leader() >= 0))
        };
        if topics.iter().all(is_shown) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "they are not shown");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_broker_there_is_said_with_its_address() {
    let config = KafkaConfig::new("127.0.0.1:9", "nobody");
    let refused = open(&config).await.expect_err("nobody there").to_string();
    assert!(refused.contains("127.0.0.1:9") && refused.contains("does not answer"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_that_is_none_is_named_and_its_value_is_not() {
    let mut config = on_one_broker();
    config.client.insert("sasl.passwort".to_owned(), "geheim".to_owned());
    let refused = open(&config).await.expect_err("no such setting").to_string();
    assert!(refused.contains("sasl.passwort") && !refused.contains("geheim"), "{refused}");
    let refused = open(&KafkaConfig { prefix: "a/b".to_owned(), ..on_one_broker() }).await;
    assert!(refused.expect_err("no name").to_string().contains("prefix"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broker_is_not_replicated() {
    let config = KafkaConfig { durability: Durability::Replicated, ..on_one_broker() };
    let refused = open(&config).await.expect_err("one broker").to_string();
    assert!(refused.contains("replicated"), "{refused}");
    let fsync = KafkaConfig { durability: Durability::Fsync, ..config };
    let log = open(&fsync).await.expect("on one broker's disk");
    assert_eq!(log.health().durability, "fsync");
    let log = open(&KafkaConfig { durability: Durability::Any, ..on_one_broker() }).await.expect("whatever");
    assert_eq!(log.health().durability, "one broker's memory");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_do_not_keep_what_is_promised_are_refused_by_name() {
    let good = BTreeMap::from([
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
        ("max.message.bytes", "20000000"),
        ("flush.messages", "1"),
        ("cleanup.policy", "delete"),
    ]);
    let config = KafkaConfig { durability: Durability::Fsync, ..on_one_broker() };
    make_topics(&config, [8, 8], &good).await;
    open(&config).await.expect("as promised");
    let cases = [
        ("retention.ms", "604800000"),
        ("retention.bytes", "1000000"),
        ("max.message.bytes", "1048588"),
        ("flush.messages", "10000"),
        ("cleanup.policy", "compact"),
    ];
    for (setting, value) in cases {
        let config = KafkaConfig { durability: Durability::Fsync, ..on_one_broker() };
        let mut settings = good.clone();
        settings.insert(setting, value);
        make_topics(&config, [8, 8], &settings).await;
        let refused = open(&config).await.expect_err(setting).to_string();
        assert!(refused.contains(setting) && refused.contains(&config.prefix), "{setting}: {refused}");
    }
    let config = on_one_broker();
    make_topics(&config, [8, 6], &good).await;
    let refused = open(&config).await.expect_err("other partitions").to_string();
    assert!(refused.contains("decisions has 6 partitions"), "{refused}");
}

/// `{prefix}.log` made by somebody else, or changed since: without what stands in it no process starts, so it must be kept
/// as the messages are. One of its records that is lost would give a topic's number twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_topic_that_lists_the_others_must_keep_what_they_keep() {
    let (fsync, replicated) = (Durability::Fsync, Durability::Replicated);
    let promised = |durability| {
        let further: &[_] = match durability {
            Durability::Replicated => {
                &[("min.insync.replicas", "2"), ("unclean.leader.election.enable", "false")]
            }
            _ => &[("flush.messages", "1")],
        };
        let kept = [("retention.ms", "-1"), ("max.message.bytes", "20000000")];
        kept.iter().chain(further).copied().collect::<BTreeMap<_, _>>()
    };
    let cases = [
        (fsync, "retention.ms", "604800000"),
        (fsync, "retention.bytes", "1000000"),
        (fsync, "cleanup.policy", "compact"),
        (fsync, "flush.messages", "10000"),
        (replicated, "min.insync.replicas", "1"),
        (replicated, "unclean.leader.election.enable", "true"),
    ];
    for (durability, setting, value) in cases {
        let config = KafkaConfig { durability, ..on_one_broker() };
        make_topics(&config, [8, 8], &promised(durability)).await;
        let list = format!("{}.log", config.prefix);
        let mut settings = promised(durability);
        settings.insert(setting, value);
        let new = NewTopic::new(&list, 1, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
        make(&config, &[new]).await;
        let refused = open(&config).await.expect_err(setting).to_string();
        assert!(refused.contains(&format!("{list} has {setting}={value}")), "{setting}: {refused}");
        assert!(read_all(&config.brokers, &list).is_empty(), "{setting}: no log is begun");
    }

    let config = KafkaConfig { durability: fsync, ..on_one_broker() };
    let log = open(&config).await.expect("makes it as it must be");
    let list = format!("{}.log", config.prefix);
    let wanted = ["--alter", "--entity-type", "topics", "--entity-name", &list, "--add-config"];
    Cluster::shared().tool("kafka.admin.ConfigCommand", &[&wanted[..], &["retention.ms=604800000"]].concat());
    let begun = Instant::now();
    let refused = loop {
        // Each broker hears of it within a moment.
        match open(&config).await {
            Err(why) => break why.to_string(),
            Ok(_) => assert!(begun.elapsed() < Duration::from_secs(20), "in a week it would be gone"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(refused.contains(&format!("{list} has retention.ms=604800000")), "{refused}");
    log.append(hl7(1)).await.expect("who runs goes on");
}

/// As many partitions as the bound are a log, more are not: their numbers would run into those of the next topic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_of_more_partitions_than_the_bound_are_refused_by_name() {
    let config = on_one_broker();
    let kept = BTreeMap::from([("retention.ms", "-1"), ("max.message.bytes", "20000000")]);
    make_topics(&config, [257, 257], &kept).await;
    let refused = open(&config).await.expect_err("too many").to_string();
    let topics = [format!("{}.hl7.in", config.prefix), format!("{}.decisions", config.prefix)];
    let want = format!("topic {} has 257 partitions: a topic of a log has at most 256", topics[0]);
    assert!(refused.contains(&want), "{refused}");
    let topics = topics.each_ref().map(String::as_str);
    admin(&config).delete_topics(&topics, &AdminOptions::new()).await.expect("deletes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_opens_first_makes_the_log_and_all_see_the_same() {
    let config = on_one_broker();
    let opened = futures::future::join_all((0..4).map(|seed| open_seeded(&config, seed))).await;
    let epochs: Vec<_> = opened.into_iter().map(|log| log.expect("opens").epoch()).collect();
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_gone_is_not_made_anew() {
    let config = on_one_broker();
    open(&config).await.expect("opens").append(hl7(1)).await.expect("appends");
    let gone = format!("{}.hl7.in", config.prefix);
    admin(&config).delete_topics(&[&gone], &AdminOptions::new()).await.expect("deletes");
    let begun = Instant::now();
    let refused = loop {
        // The cluster forgets it within a moment.
        match open(&config).await {
            Err(why) if why.to_string().contains("is gone") => break why.to_string(),
            other => assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", other.err()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(refused.contains(&gone), "{refused}");
}

async fn make_anew(config: &KafkaConfig, topic: &str) {
    let admin = admin(config);
    admin.delete_topics(&[topic], &AdminOptions::new()).await.expect("deletes");
    let settings = [("retention.ms", "-1"), ("max.message.bytes", "20000000")];
    let new = NewTopic::new(topic, 8, TopicReplication::Fixed(1));
    let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
    let begun = Instant::now();
    while admin.create_topics([&new], &AdminOptions::new()).await.expect("asks").iter().any(Result::is_err) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{topic} is not made anew");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A topic that is deleted and made anew under a door that goes on: nothing is acknowledged into it, for what was
/// acknowledged before is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_into_a_topic_that_was_made_anew() {
    let config = on_one_broker();
    let log = open(&config).await.expect("opens");
    for _ in 0..5 {
        log.append(hl7(1)).await.expect("appends");
    }
    let topic = format!("{}.hl7.in", config.prefix);
    make_anew(&config, &topic).await;
    let begun = Instant::now();
    let refused = loop {
        match log.append(hl7(1)).await {
            Ok(position) => panic!("acknowledged at {position}"),
            Err(why @ LogError::ReadOnly(_)) => break why.to_string(),
            // The client has not heard of the new one yet.
            Err(why) => assert_eq!(why.kind(), Kind::Transient, "{why}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(40), "not noticed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(
        refused.contains(&topic) && refused.contains("made anew") && refused.contains("--behind keep"),
        "{refused}"
    );
    assert!(log.health().read_only.is_some() && log.ready(1).is_err());
    // The other stream's partitions stand as they were, but one log is one log.
    assert!(matches!(
        log.append(envelope(Stream::Decisions, 1, b"x".to_vec())).await,
        Err(LogError::ReadOnly(_))
    ));
}

/// What is deleted from a topic is said to be missing, from where to where; what is behind it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_records_are_missing_by_name() {
    let config = on_one_broker();
    let log = open(&config).await.expect("opens");
    let mut last = log.append(hl7(1)).await.expect("appends");
    for _ in 0..9 {
        last = log.append(hl7(1)).await.expect("appends");
    }
    let (stream, partition) = (last.stream, last.partition);
    let few = ReadMax { records: 2, bytes: usize::MAX };
    assert_eq!(log.read(stream, partition, 0, few).await.expect("reads").len(), 2);
    let mut until = TopicPartitionList::new();
    let topic = format!("{}.hl7.in", config.prefix);
    until.add_partition_offset(&topic, i32::from(partition), Offset::Offset(7)).expect("a place");
    admin(&config).delete_records(&until, &AdminOptions::new()).await.expect("deletes");
    let is_missing = |why: &LogError, at| matches!(why, LogError::Missing { from, to: 7, .. } if *from == at);
    let first = log.get(Position { stream, partition, offset: 3 }).await.expect_err("deleted");
    assert!(is_missing(&first, 3), "{first:?}");
    for opened in ["the one that was reading", "another process"] {
        let log = if opened == "another process" { open(&config).await.expect("opens") } else { log.clone() };
        for from in [0, 6] {
            let why = log.read(stream, partition, from, ALL).await.expect_err("deleted");
            assert!(is_missing(&why, from), "{opened}: {why:?}");
            assert!(why.to_string().contains(&format!("from {from} to before 7")), "{why}");
        }
        assert_eq!(log.read(stream, partition, 7, ALL).await.expect("is there").len(), 3, "{opened}");
        assert_eq!(log.end(stream, partition).await.expect("end"), 10, "{opened}");
    }
    // Deleted under one who reads on: it has fetched some of them already, and gives no later one as the next.
    let reading = log.read(stream, partition, 7, few).await.expect("reads");
    assert_eq!(reading.len(), 2);
    let mut until = TopicPartitionList::new();
    until.add_partition_offset(&topic, i32::from(partition), Offset::End).expect("a place");
    admin(&config).delete_records(&until, &AdminOptions::new()).await.expect("deletes");
    log.append(hl7(1)).await.expect("appends");
    match log.read(stream, partition, 9, ALL).await {
        Ok(records) => assert_eq!(records[0].position.offset, 9, "had it already"),
        Err(why) => assert!(matches!(why, LogError::Missing { from: 9, to: 10, .. }), "{why:?}"),
    }
}

/// An aborted transaction of somebody else leaves offsets without records: a gap like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_aborted_transaction_leaves_is_not_stepped_over() {
    let config = on_one_broker();
    let log = open(&config).await.expect("opens");
    let before = log.append(hl7(1)).await.expect("appends");
    let topic = format!("{}.hl7.in", config.prefix);
    hilum_testkit::kafka::leave_a_gap(&config.brokers, &topic, before.partition);
    let behind = log.append(hl7(1)).await.expect("appends");
    assert!(behind.offset > before.offset + 1, "{behind}");
    let there = log.read(Stream::Hl7In, before.partition, 0, ALL).await.expect("what is before it");
    assert_eq!(there.len(), 1);
    for _ in 0..2 {
        let why = log.read(Stream::Hl7In, before.partition, 1, ALL).await.expect_err("a gap");
        assert!(matches!(why, LogError::Missing { from: 1, to, .. } if to == behind.offset), "{why:?}");
    }
    let one = log.read(Stream::Hl7In, behind.partition, behind.offset, ALL).await.expect("what is behind it");
    assert_eq!(one.len(), 1);
}

/// What a broker does not acknowledge in time may be kept: nothing is said to be, and nothing more is taken until the
/// broker is back, without a restart of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_silent_leaves_it_unknown_and_pushes_back_until_it_answers() {
    let cluster = Cluster::start(1, &[]);
    let mut config = KafkaConfig::new(cluster.brokers(), "silent");
    config.durability = Durability::Any;
    config.delivery_max = Duration::from_secs(2);
    let log = open(&config).await.expect("opens");
    log.append(hl7(1)).await.expect("appends");

    cluster.pause(1);
    let unknown = log.append(hl7(1)).await.expect_err("no answer");
    assert!(matches!(unknown, LogError::Unknown(_)) && unknown.kind() == Kind::Transient, "{unknown:?}");
    assert!(matches!(log.ready(1), Err(LogError::Full(_))), "{:?}", log.health());
    assert!(matches!(log.append(hl7(1)).await, Err(LogError::Full(_))), "refused at once");
    let partition = partition_of(key(1), log.partitions(Stream::Hl7In));
    let read = log.read(Stream::Hl7In, partition, 0, crate::sample::ALL).await;
    assert!(matches!(read, Err(LogError::Engine(_))), "{read:?}");

    cluster.resume(1);
    wait_until_ready(&log).await;
    log.append(hl7(1)).await.expect("accepts again");
    let kept = bodies(&log, Stream::Hl7In, partition).await.len();
    assert!((2..=3).contains(&kept), "{kept}: two were acknowledged, one is unknown");

    cluster.kill(1);
    let begun = Instant::now();
    // Asked from a thread outside of the runtime, as a probe may be.
    let accepts = |log: Log| std::thread::spawn(move || log.ready(1).is_ok()).join().expect("an answer");
    while accepts(log.clone()) {
        // Nobody appends: the client itself says that there is no broker.
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", log.health());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.restart(1);
    wait_until_ready(&log).await;
    log.append(hl7(1)).await.expect("accepts after a restart of the broker");
    assert_eq!(bodies(&log, Stream::Hl7In, partition).await.len(), kept + 1);
}

/// Who looks a record up after a broker was away is given it at once: what was told meanwhile, while nobody asked, is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_keeps_no_record_from_who_looks_it_up() {
    let cluster = Cluster::start(1, &[]);
    let mut config = KafkaConfig::new(cluster.brokers(), "over");
    config.durability = Durability::Any;
    let log = open(&config).await.expect("opens");
    let position = log.append(hl7(1)).await.expect("appends");
    assert!(log.get(position).await.expect("a broker that is there").is_some());
    cluster.kill(1);
    tokio::time::sleep(Duration::from_secs(12)).await;
    cluster.restart(1);
    wait_until_ready(&log).await;
    log.append(hl7(2)).await.expect("accepts again");
    for _ in 0..3 {
        let found = log.get(position).await;
        assert!(matches!(found, Ok(Some(_))), "{found:?}");
    }
    log.close().await;
}

async fn wait_until_ready(log: &Log) {
    let begun = Instant::now();
    while let Err(why) = log.ready(1) {
        assert!(begun.elapsed() < Duration::from_mins(1), "{why}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Three brokers, each killed in turn under load: whatever was acknowledged is there, in its order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_brokers_lose_nothing_that_was_acknowledged() {
    let cluster = Cluster::start(3, &[]);
    let config = KafkaConfig { copies: Some(3), ..KafkaConfig::new(cluster.brokers(), "three") };
    let log = open(&config).await.expect("opens");
    assert_eq!(log.health().durability, "replicated");
    let writing = |who: u64| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            let mut n = 0;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(20) {
                match log.append(envelope(Stream::Hl7In, who, format!("{who}/{n}").into_bytes())).await {
                    Ok(position) => acknowledged.push((position, format!("{who}/{n}"))),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
                n += 1;
            }
            acknowledged
        })
    };
    let writers: Vec<_> = (0..8).map(writing).collect();
    for id in [1, 2] {
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.kill(id);
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.restart(id);
    }
    let written = futures::future::join_all(writers).await;
    let mut there = Vec::new();
    for partition in 0..log.partitions(Stream::Hl7In) {
        there.push(bodies(&log, Stream::Hl7In, partition).await);
    }
    let mut acknowledged = 0;
    for writer in written {
        for (position, body) in writer.expect("writes") {
            acknowledged += 1;
            let found = there[usize::from(position.partition)].get(position.offset as usize);
            assert_eq!(found, Some(&body), "{position}");
        }
    }
    assert!(acknowledged > 100, "{acknowledged}");
}

fn changed(t: i64) -> Change {
    Change {
        t: Seq(t),
        n: 0,
        topic: "adt.board".to_owned(),
        key: key(1),
        body: format!("{{\"t\":{t}}}").into(),
    }
}

/// How many entries of the feed a reader takes who keeps the greatest `t`; none may be missing before any.
fn without_holes(cluster: &Cluster, config: &KafkaConfig) -> i64 {
    let (topic, begun) = (format!("{}.chart.changes", config.prefix), Instant::now());
    // A broker that has just begun does not know it for a moment.
    let records = loop {
        let records = read_all(&cluster.brokers(), &topic);
        if !records.is_empty() || begun.elapsed() > Duration::from_secs(20) {
            break records;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let mut greatest = 0;
    for record in records {
        let mark: serde_json::Value = serde_json::from_str(&record.headers[0].1).expect("JSON");
        let t = mark["t"].as_i64().expect("a number");
        assert!(t <= greatest + 1, "{t} stands behind {greatest}");
        greatest = greatest.max(t);
    }
    greatest
}

/// More than a producer's queue takes, a broker that is away for longer than a record of the log may wait, and one that
/// is killed while it is sent to: nothing stands in the feed that has not all before it before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_has_no_holes_though_its_broker_stops_and_dies() {
    let cluster = Cluster::start(1, &[]);
    let config = KafkaConfig {
        durability: Durability::Any,
        ..KafkaConfig::new(cluster.brokers(), cluster.fresh_prefix())
    };
    let log = open(&config).await.expect("opens");
    let life = Id::from_bytes([5; 16]);
    let some = |from: i64, to: i64| (from..to).map(changed).collect::<Vec<_>>();
    let feed = log.feed().await.expect("a feed");
    feed.publish(life, 1, None, &some(1, 120_001)).await.expect("a large commit");

    // The second waits for less long than the first: it must not be there without it.
    cluster.kill(1);
    let (first, second) = (some(120_001, 120_101), some(120_101, 120_201));
    let later = async {
        tokio::time::sleep(Duration::from_secs(limits::KAFKA_DELIVERY_S_MAX - 2)).await;
        let (sent, ()) = tokio::join!(feed.publish(life, 1, None, &second), async {
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            tokio::task::block_in_place(|| cluster.restart(1));
        });
        sent
    };
    let (sent, later) = tokio::join!(feed.publish(life, 1, None, &first), later);
    sent.and(later).expect("it waits");
    assert_eq!(without_holes(&cluster, &config), 120_200);

    // Stopped while it is sent to, and killed before it goes on.
    let third = some(120_201, 125_001);
    let (sent, ()) = tokio::join!(feed.publish(life, 1, None, &third), async {
        tokio::time::sleep(Duration::from_millis(2)).await;
        cluster.pause(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.kill(1);
        cluster.restart(1);
    });
    feed.close().await;
    // Either it has gone on by itself, or it was given up and is done anew.
    if sent.is_err() {
        let feed = log.feed().await.expect("a feed");
        feed.publish(life, 2, None, &third).await.expect("publishes");
        feed.close().await;
    }
    assert_eq!(without_holes(&cluster, &config), 125_000);
}

/// Another topic under the feed's name is noticed by where its records stand, also by a producer that goes on as if
/// nothing had been; and what stands last is told from what is gone, and from what is somebody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_knows_its_end_and_notices_another_topic_of_its_name() {
    let config = on_one_broker();
    let topic = format!("{}.chart.changes", config.prefix);
    let log = open(&config).await.expect("opens");
    let feed = log.feed().await.expect("a feed");
    assert_eq!(feed.tail().await.expect("reads"), Tail { end: 0, last: Last::Empty });
    let life = Id::from_bytes([5; 16]);
    let some = |from: i64, to: i64| (from..to).map(changed).collect::<Vec<_>>();
    let placed = feed.publish(life, 1, None, &some(1, 21)).await.expect("publishes");
    assert_eq!(placed, Placed::Behind(Some(19)));
    assert_eq!(feed.publish(life, 1, Some(19), &[]).await.expect("nothing"), placed);
    let Tail { end: 20, last: Last::Entry(mark, _) } = feed.tail().await.expect("reads") else {
        panic!("an entry")
    };
    assert_eq!(mark.t, 20);

    hilum_testkit::kafka::leave_a_gap(&config.brokers, &topic, 0);
    assert_eq!(feed.tail().await.expect("reads").last, Last::Foreign);
    let mut until = TopicPartitionList::new();
    until.add_partition_offset(&topic, 0, Offset::End).expect("a place");
    admin(&config).delete_records(&until, &AdminOptions::new()).await.expect("deletes");
    assert_eq!(feed.tail().await.expect("reads").last, Last::Aged);

    admin(&config).delete_topics(&[&topic], &AdminOptions::new()).await.expect("deletes");
    let begun = Instant::now();
    loop {
        let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
        let made = admin(&config).create_topics(&[new], &AdminOptions::new()).await.expect("asks");
        if made.iter().all(Result::is_ok) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{made:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    match feed.publish(life, 1, Some(19), &some(21, 23)).await {
        Ok(placed) => assert_eq!(placed, Placed::Anew),
        Err(why) => {
            // It may also say that the topic is gone: who opens the feed anew sees where it ends.
            let again = log.feed().await.expect("a feed");
            let tail = again.tail().await.expect("reads");
            assert!(tail.end < 20, "{why}: {tail:?}");
            again.close().await;
        }
    }
    feed.close().await;
}
