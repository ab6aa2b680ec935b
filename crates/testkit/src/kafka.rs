//! A real Kafka for tests: one broker or several, gone when the test's process is gone, however it ended.

use std::fs;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use hilum_launch::kafka::Shape;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::tls::Authority;
use crate::{cache, folder};

mod secured;

pub use secured::{Issuer, Secured};

/// A running cluster. What else it can do is [`hilum_launch::Kafka`]'s.
#[derive(Debug)]
pub struct Kafka {
    cluster: hilum_launch::Kafka,
    authority: Option<Authority>,
}

static SHARED: Mutex<Option<&'static Kafka>> = Mutex::new(None);
static PREFIXES: AtomicU32 = AtomicU32::new(0);

impl Deref for Kafka {
    type Target = hilum_launch::Kafka;

    fn deref(&self) -> &Self::Target {
        &self.cluster
    }
}

impl Kafka {
    /// The one broker that all tests of this process share; the first caller starts it.
    ///
    /// # Panics
    /// As [`Kafka::start`].
    pub fn shared() -> &'static Self {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        // Never dropped: its watcher stops it when this process ends.
        shared.get_or_insert_with(|| Box::leak(Box::new(Self::start(1, &[]))))
    }

    /// A cluster of the caller's own, with broker settings (`message.max.bytes=…`) beyond the usual ones.
    ///
    /// # Panics
    /// When Kafka is not installed (the message names the command) or does not start (with its log).
    pub fn start(brokers: usize, settings: &[&str]) -> Self {
        let started = folder("hilum-kafka-").and_then(|dir| {
            let shape = Shape { brokers, settings, ..Shape::default() };
            hilum_launch::Kafka::start(&cache(), &dir, &shape)
        });
        match started {
            Ok(cluster) => Self { cluster, authority: None },
            Err(error) => panic!("kafka for tests: {error}"),
        }
    }

    /// A broker of the caller's own that lets clients in by TLS and SASL, and asks whether they may.
    ///
    /// # Panics
    /// As [`Kafka::start`].
    pub fn secured(secured: &Secured<'_>) -> Self {
        match Self::try_secured(secured) {
            Ok(cluster) => cluster,
            Err(error) => panic!("kafka for tests: {error}"),
        }
    }

    fn try_secured(secured: &Secured<'_>) -> io::Result<Self> {
        let dir = folder("hilum-kafka-")?;
        let authority = Authority::new("brokers of a test")?;
        fs::write(dir.join("ca.pem"), authority.certificate())?;
        let settings = |home: &Path| secured.settings(home, &authority);
        let door = hilum_launch::kafka::SecuredDoor {
            settings: &settings,
            formatted: secured.formatted(),
            flags: secured.flags(),
        };
        let shape = Shape { secured: Some(&door), ..Shape::default() };
        let cluster = hilum_launch::Kafka::start(&cache(), &dir, &shape)?;
        Ok(Self { cluster, authority: Some(authority) })
    }

    /// `bootstrap.servers` for who comes by TLS and SASL.
    ///
    /// # Panics
    /// When the cluster is none of [`Kafka::secured`].
    pub fn secured_brokers(&self) -> String {
        self.cluster.secured_brokers().expect("a secured cluster")
    }

    /// The file with the certificate of whoever signed the brokers' certificates.
    ///
    /// # Panics
    /// When the cluster is none of [`Kafka::secured`].
    pub fn ca_file(&self) -> PathBuf {
        assert!(self.authority.is_some(), "a secured cluster");
        self.cluster.dir().join("ca.pem")
    }

    /// Runs one of Kafka's own tools as the administrator: its class, and what comes behind `--bootstrap-server …`.
    ///
    /// # Panics
    /// When it fails, with what it said.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> String {
        self.cluster.tool(class, arguments).expect("the tool does it")
    }

    /// A prefix of topics that no other test of this cluster has.
    pub fn fresh_prefix(&self) -> String {
        format!("test{}", PREFIXES.fetch_add(1, Ordering::Relaxed))
    }

    /// Kills broker `id` (from 1) with SIGKILL, and waits until its port is closed.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&self, id: usize) {
        self.cluster.kill(id).expect("a running broker");
    }

    /// Stops broker `id` in its tracks (SIGSTOP): it holds its sockets and answers nothing.
    ///
    /// # Panics
    /// When it is not running.
    pub fn pause(&self, id: usize) {
        self.cluster.pause(id).expect("a running broker");
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it is not running.
    pub fn resume(&self, id: usize) {
        self.cluster.resume(id).expect("a running broker");
    }

    /// Starts broker `id` again after [`Kafka::kill`], on the same folder and port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&self, id: usize) {
        self.cluster.restart(id).expect("kafka starts again");
    }
}

/// A record as any reader finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its key, as text.
    pub key: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its value, as text.
    pub value: String,
}

/// All records of partition 0 of a topic, in order; none while there is no such topic.
///
/// # Panics
/// When the cluster does not give them.
pub fn read_all(brokers: &str, topic: &str) -> Vec<Found> {
    let wait = Duration::from_secs(20);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "reads-all")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let Ok((first, end)) = consumer.fetch_watermarks(topic, 0, wait) else { return Vec::new() };
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(topic, 0, Offset::Beginning).expect("a place");
    consumer.assign(&place).expect("assigns");
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let read = (first..end).map(|_| {
        let message = consumer.poll(wait).expect("a record").expect("can be read");
        let headers = message.headers().into_iter().flat_map(|all| {
            let pairs = all.iter().map(|one| (one.key.to_owned(), text(one.value)));
            pairs.collect::<Vec<_>>()
        });
        Found { key: text(message.key()), headers: headers.collect(), value: text(message.payload()) }
    });
    read.collect()
}

/// Writes into a partition within a transaction that is then aborted: offsets at which nobody finds a record.
///
/// # Panics
/// When the cluster does not do it.
pub fn leave_a_gap(brokers: &str, topic: &str, partition: u16) {
    let wait = Duration::from_secs(20);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("transactional.id", topic)
        .create()
        .expect("a producer");
    let end = || {
        let bounds = producer.client().fetch_watermarks(topic, i32::from(partition), wait);
        bounds.expect("the partition").1
    };
    let before = end();
    producer.init_transactions(wait).expect("transactions");
    producer.begin_transaction().expect("begins");
    let record: BaseRecord<'_, (), str> =
        BaseRecord::to(topic).partition(i32::from(partition)).payload("gone");
    producer.send(record).map_err(|(why, _)| why).expect("sends");
    producer.flush(wait).expect("is there");
    producer.abort_transaction(wait).expect("is not");
    // The record, and what says that it does not count: that is written a moment after the answer.
    let begun = Instant::now();
    while end() < before + 2 {
        assert!(begun.elapsed() < wait, "the transaction leaves its marker");
        sleep(Duration::from_millis(20));
    }
}
