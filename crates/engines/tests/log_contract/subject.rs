//! The engines under test, and planted faults that the suite must find.

use std::collections::BTreeMap;
use std::sync::Mutex;

use hilum_core::{Entropy, Envelope, Position, Stream};
use hilum_engines::log::embedded::{Embedded, Options};
use hilum_engines::log::kafka::{Durability, ENVELOPE_HEADER, Kafka, KafkaConfig};
use hilum_engines::log::{Log, LogError, ReadMax, Record};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::sample::ticking;

/// Every engine that the suite runs on. A new one makes the matches below incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineUnderTest {
    Embedded,
    Kafka,
    /// By TLS and a password.
    KafkaOverTls,
}

/// A way for an engine to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Says that a record is kept, and forgets it.
    LosesARecord,
    /// Keeps a record twice.
    KeepsTwice,
    /// Gives the newest first.
    TurnsTheOrder,
    /// Reads on beyond what was asked for.
    IgnoresTheBound,
    /// Gives what stands at the start wherever it is asked to begin.
    IgnoresFrom,
    /// Puts every record of a key into the next partition.
    Scatters,
}

/// One engine with a place of its own to keep things.
pub struct Subject {
    pub log: Log,
    place: Place,
    fault: Option<Fault>,
    scattered: Mutex<BTreeMap<Position, u16>>,
}

enum Place {
    Dir(tempfile::TempDir),
    Topics(Box<KafkaConfig>),
}

/// The cluster of the tests, as a server on one broker: what it promises is tested apart.
pub fn on_one_broker() -> KafkaConfig {
    let server = hilum_testkit::kafka::Kafka::shared();
    KafkaConfig { durability: Durability::Any, ..KafkaConfig::new(server.brokers(), server.fresh_prefix()) }
}

/// The same on a broker that lets nobody in without TLS and a password; we come as its administrator.
pub fn on_a_secured_broker() -> KafkaConfig {
    let config = crate::secured::config("admin", "admin-secret");
    KafkaConfig { prefix: crate::secured::broker().fresh_prefix(), ..config }
}

async fn open(place: &Place, seed: u64) -> Result<Log, LogError> {
    match place {
        Place::Dir(dir) => {
            let options = Options { disk_reserve_ratio: 0.0, ..Options::default() };
            Embedded::open(&dir.path().join("log.sqlite"), ticking(), Entropy::seeded(seed), options)
                .map(Log::Embedded)
        }
        Place::Topics(config) => {
            Kafka::open(config.as_ref().clone(), &ticking(), &Entropy::seeded(seed)).await.map(Log::Kafka)
        }
    }
}

impl Subject {
    pub async fn new(engine: EngineUnderTest) -> Self {
        let place = match engine {
            EngineUnderTest::Embedded => Place::Dir(tempfile::tempdir().expect("a folder")),
            EngineUnderTest::Kafka => Place::Topics(Box::new(on_one_broker())),
            EngineUnderTest::KafkaOverTls => Place::Topics(Box::new(on_a_secured_broker())),
        };
        let log = open(&place, 1).await.expect("the engine opens");
        Self { log, place, fault: None, scattered: Mutex::default() }
    }

    pub async fn planted(engine: EngineUnderTest, fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::new(engine).await }
    }

    /// Closes and opens again, as another process would.
    pub async fn reopen(&mut self) {
        self.log.close().await;
        self.log = open(&self.place, 2).await.expect("opens again");
    }

    /// Another process on the same log where the engine allows it.
    pub async fn other_process(&self) -> Option<Log> {
        match &self.place {
            Place::Dir(_) => None,
            Place::Topics(_) => Some(open(&self.place, 3).await.expect("a second process opens")),
        }
    }

    /// Another log.
    pub async fn elsewhere(&self) -> Log {
        let place = match &self.place {
            Place::Dir(_) => Place::Dir(tempfile::tempdir().expect("a folder")),
            Place::Topics(_) => Place::Topics(Box::new(on_one_broker())),
        };
        open(&place, 4).await.expect("another log opens")
    }

    pub async fn append(&self, envelope: Envelope) -> Result<Position, LogError> {
        match self.fault {
            Some(Fault::LosesARecord) if envelope.body.ends_with(b"7") => {
                let stream = envelope.stream;
                let partition =
                    hilum_engines::log::partition_of(envelope.key, self.log.partitions(Stream::Hl7In));
                let offset = self.log.end(stream, partition).await?;
                return Ok(Position { stream, partition, offset });
            }
            Some(Fault::KeepsTwice) => drop(self.log.append(envelope.clone()).await?),
            _ => {}
        }
        let mut position = self.log.append(envelope).await?;
        if self.fault == Some(Fault::Scatters) {
            position.partition =
                (position.partition + position.offset as u16) % self.log.partitions(Stream::Hl7In);
            self.scattered.lock().expect("whole").insert(position, position.partition);
        }
        Ok(position)
    }

    pub async fn read(
        &self,
        stream: Stream,
        partition: u16,
        from: u64,
        max: ReadMax,
    ) -> Result<Vec<Record>, LogError> {
        let (from, max) = match self.fault {
            Some(Fault::IgnoresFrom) => (0, max),
            Some(Fault::IgnoresTheBound) => (from, crate::sample::ALL),
            _ => (from, max),
        };
        let mut records = self.log.read(stream, partition, from, max).await?;
        if self.fault == Some(Fault::TurnsTheOrder) {
            records.reverse();
        }
        Ok(records)
    }

    /// Puts something into the log that is none of our records, and gives its place.
    pub async fn plant(&self, partition: u16) -> Position {
        let stream = Stream::Hl7In;
        match &self.place {
            Place::Dir(dir) => {
                let key = crate::sample::key(u64::from(partition));
                let hl7 = Envelope { key, ..crate::sample::hl7(0) };
                let position = self.log.append(hl7).await.expect("appends");
                let sql = format!("UPDATE record_hl7_in_{partition} SET header = 'Kim' WHERE \"offset\" = ?");
                let changed = rusqlite::Connection::open(dir.path().join("log.sqlite"))
                    .and_then(|c| c.execute(&sql, [position.offset as i64]))
                    .expect("damages");
                assert_eq!(changed, 1);
                position
            }
            Place::Topics(config) => {
                let mut client = ClientConfig::new();
                client.extend(config.client.clone());
                client.set("bootstrap.servers", &config.brokers);
                let producer: FutureProducer = client.create().expect("a client");
                let topic = format!("{}.{stream}", config.prefix);
                let headers = OwnedHeaders::new().insert(Header { key: ENVELOPE_HEADER, value: Some("Kim") });
                let record: FutureRecord<'_, (), str> =
                    FutureRecord::to(&topic).partition(i32::from(partition)).payload("Kim").headers(headers);
                let sent = producer.send_result(record).expect("takes").await.expect("is open");
                let offset = u64::try_from(sent.expect("is delivered").offset).expect("an offset");
                Position { stream, partition, offset }
            }
        }
    }
}
