//! The records of `{prefix}.log`: which life of the log this is, and which topics it has beside those of its streams.
//!
//! The first record is the identity. Behind it stands a record for each topic of a source, in the order of their numbers:
//! of two processes that add one at the same moment, the first that stands there counts, and the other takes the next
//! number. Nothing is ever taken back (ADR 20).

use std::sync::Arc;
use std::time::Duration;

use hilum_core::{Clock, Entropy, Epoch, Id, Stream, Timestamp};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::FutureRecord;
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::client::{Settings, Watched};
use super::listing::list_lost;
use super::names::Names;
use super::{LogError, blocking, trouble};
use crate::limits;
use crate::log::new_epoch;

/// The first record, version 1.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    v: u8,
    pub(super) epoch: Epoch,
    /// Whose it is: see [`KafkaConfig::owner`](super::KafkaConfig::owner).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<Id>,
    /// The topics that it was made with.
    pub(super) topics: Vec<String>,
    pub(super) made: Timestamp,
}

/// A further topic of a stream, version 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Further {
    v: u8,
    stream: Stream,
    topic: String,
    /// From 1: that of the stream itself is 0.
    number: u16,
}

/// What every record says.
#[derive(Deserialize)]
struct Version {
    v: u64,
}

/// What stands there.
#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) identity: Option<Identity>,
    /// The topics of sources, by their numbers from 1.
    pub(super) topics: Vec<String>,
    /// Where it ends.
    pub(super) end: i64,
}

impl List {
    /// Takes in a further record, in their order.
    fn take(&mut self, names: &Names, payload: &[u8]) -> Result<(), String> {
        if self.identity.is_none() {
            let none_of_ours = "its first record is none of ours: is the prefix another program's?";
            let identity = serde_json::from_slice(payload).map_err(|_| none_of_ours.to_owned())?;
            self.identity = Some(identity);
            return Ok(());
        }
        let what = "one of its records is none of ours: who else writes there?";
        let Version { v } = serde_json::from_slice(payload).map_err(|_| what.to_owned())?;
        match v {
            // Of a process that made the topics at the same moment as the first.
            1 => Ok(()),
            2 => {
                let further: Further = serde_json::from_slice(payload).map_err(|_| what.to_owned())?;
                // Beyond the bound nobody of ours numbers one.
                let next = self.topics.len() + 1;
                let is_next = usize::from(further.number) == next && next <= limits::LOG_TOPICS_MAX;
                if is_next && names.is_of_source(&further.topic) && !self.topics.contains(&further.topic) {
                    self.topics.push(further.topic);
                }
                Ok(())
            }
            // It may number topics in another way: to guess would put records where nobody looks for them.
            _ => Err(format!("it has a record of version {v}: that takes the newer program")),
        }
    }
}

/// Reads all of it.
pub(super) async fn read(settings: &Settings, names: &Names) -> Result<List, LogError> {
    let consumer = settings.end_reader()?;
    let names = names.clone();
    blocking(move || read_by(&consumer, &names)).await
}

/// The same from the caller's own thread.
pub(super) fn read_by(consumer: &BaseConsumer<Watched>, names: &Names) -> Result<List, LogError> {
    let topic = names.identity.as_str();
    let wait = Duration::from_secs(limits::KAFKA_START_S_MAX);
    let fails =
        |why: &dyn std::fmt::Display| LogError::Engine(format!("topic {topic} cannot be read: {why}"));
    let refused = |why: &KafkaError| {
        let denied = names.denied(why.rdkafka_error_code(), "Read", topic);
        fails(&denied.unwrap_or_else(|| why.to_string()))
    };
    let (begin, end) = marks(consumer, names, (topic, 0), "Read")?;
    let mut list = List { end, ..List::default() };
    if end == 0 {
        return Ok(list);
    }
    if begin > 0 {
        return Err(list_lost(names, "has lost its first records (it must keep all: retention.ms=-1)"));
    }
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(topic, 0, Offset::Beginning).map_err(|why| fails(&why))?;
    consumer.assign(&place).map_err(|why| fails(&why))?;
    loop {
        match consumer.poll(wait) {
            None => return Err(fails(&"no answer")),
            // What came since is read as well.
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(list),
            Some(Err(why)) => return Err(refused(&why)),
            Some(Ok(message)) => {
                list.take(names, message.payload().unwrap_or_default()).map_err(|why| fails(&why))?;
                list.end = list.end.max(message.offset() + 1);
            }
        }
    }
}

/// Where a partition of a topic that is there begins and ends. Who may not is told that `right` is missing.
pub(super) fn marks(
    consumer: &BaseConsumer<Watched>,
    names: &Names,
    (topic, partition): (&str, i32),
    right: &str,
) -> Result<(i64, i64), LogError> {
    let fails = |why: String| LogError::Engine(format!("topic {topic} cannot be read: {why}"));
    let wait = Duration::from_secs(limits::KAFKA_START_S_MAX);
    // Another process may have made it this moment: then its leader is not known everywhere.
    let until = Instant::now() + wait;
    loop {
        match consumer.fetch_watermarks(topic, partition, wait) {
            Ok(marks) => return Ok(marks),
            Err(why) if why.rdkafka_error_code().is_some_and(trouble::is_denied) => {
                let denied = names.denied(why.rdkafka_error_code(), right, topic);
                return Err(fails(denied.unwrap_or_else(|| why.to_string())));
            }
            Err(why) if Instant::now() > until => return Err(fails(why.to_string())),
            Err(_) => std::thread::sleep(Duration::from_millis(limits::KAFKA_RETRY_MS)),
        }
    }
}

/// The records of a list, as they would be written again.
pub(super) fn lines(names: &Names, epoch: Epoch, made: Timestamp, of_sources: &[Arc<str>]) -> Vec<String> {
    let topics = names.of_streams().map(str::to_owned).collect();
    let identity = Identity { v: 1, epoch, owner: None, topics, made };
    let further = of_sources.iter().zip(1..).map(|(topic, number)| {
        serde_json::to_string(&Further { v: 2, stream: Stream::Hl7In, topic: topic.to_string(), number })
    });
    // Neither has a value that cannot be written.
    std::iter::once(serde_json::to_string(&identity)).chain(further).filter_map(Result::ok).collect()
}

/// Says which life of the log this is, unless another process was first.
pub(super) async fn make_identity(
    settings: &Settings,
    names: &Names,
    owner: Option<Id>,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<List, LogError> {
    let identity = Identity {
        v: 1,
        epoch: new_epoch(entropy),
        owner,
        topics: names.of_streams().map(str::to_owned).collect(),
        made: clock.now(),
    };
    write(settings, names, &identity).await?;
    let list = read(settings, names).await?;
    if list.identity.is_none() {
        return Err(LogError::Engine(format!("topic {}: what was written is not there", names.identity)));
    }
    Ok(list)
}

/// Gives `topic` of `hl7.in` a number, unless it has one.
pub(super) async fn enlist(settings: &Settings, names: &Names, topic: &str) -> Result<List, LogError> {
    // Each round another topic was first.
    for _ in 0..=limits::LOG_TOPICS_MAX {
        let list = read(settings, names).await?;
        if list.topics.iter().any(|one| one == topic) {
            return Ok(list);
        }
        let number = list.topics.len() + 1;
        if number > limits::LOG_TOPICS_MAX {
            return Err(LogError::Engine(format!(
                "topic {topic} cannot be added: a log has at most {} topics of sources, and none is ever taken back",
                limits::LOG_TOPICS_MAX
            )));
        }
        let (topic, number) = (topic.to_owned(), u16::try_from(number).unwrap_or(u16::MAX));
        write(settings, names, &Further { v: 2, stream: Stream::Hl7In, topic, number }).await?;
    }
    Err(LogError::Engine(format!("topic {topic} gets no number: who else writes to {}?", names.identity)))
}

async fn write(settings: &Settings, names: &Names, record: &impl Serialize) -> Result<(), LogError> {
    let body = serde_json::to_vec(record).map_err(|why| LogError::Engine(why.to_string()))?;
    let producer = settings.producer(Duration::from_secs(limits::KAFKA_START_S_MAX))?;
    let fails = |why: &dyn std::fmt::Display| LogError::Engine(format!("topic {}: {why}", names.identity));
    let refused = |why: &KafkaError| {
        let fatal = rdkafka::producer::Producer::client(&producer).fatal_error();
        let codes = [why.rdkafka_error_code(), fatal.map(|(code, _)| code)];
        let denied = codes.into_iter().find_map(|code| names.denied(code, "Write", &names.identity));
        fails(&denied.unwrap_or_else(|| why.to_string()))
    };
    let record = FutureRecord::<(), _>::to(&names.identity).partition(0).payload(&body);
    let sent = producer.send_result(record).map_err(|(why, _)| refused(&why))?;
    let sent = sent.await.map_err(|why| fails(&why))?;
    sent.map(drop).map_err(|(why, _)| refused(&why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn further(topic: &str, number: u16) -> Vec<u8> {
        let further = Further { v: 2, stream: Stream::Hl7In, topic: topic.to_owned(), number };
        serde_json::to_vec(&further).unwrap()
    }

    #[test]
    fn a_further_topic_is_as_its_golden_file() {
        let golden = include_str!("../../../tests/golden/log-topic-v2.json").trim_end();
        assert_eq!(String::from_utf8(further("hilum.hl7.in.ed", 1)).unwrap(), golden);
    }

    #[test]
    fn a_list_that_is_written_again_says_the_same() {
        let names = Names::new("p").unwrap();
        let epoch = new_epoch(&Entropy::seeded(1));
        let of_sources = ["p.hl7.in.ed", "p.hl7.in.lab"].map(Arc::from);
        let mut list = List::default();
        for line in lines(&names, epoch, Timestamp::from_micros(7), &of_sources) {
            list.take(&names, line.as_bytes()).unwrap();
        }
        let identity = list.identity.unwrap();
        assert_eq!((identity.epoch, identity.made), (epoch, Timestamp::from_micros(7)));
        assert_eq!(identity.topics, ["p.hl7.in", "p.decisions"]);
        assert_eq!(list.topics, ["p.hl7.in.ed", "p.hl7.in.lab"]);
    }

    #[test]
    fn the_first_record_of_a_number_counts_for_every_reader() {
        let names = Names::new("p").unwrap();
        let identity = br#"{"v":1,"epoch":"018bcfe5-0000-7000-8000-000000000000","topics":[],"made":0}"#;
        let records = [
            ("the second life of a race", identity.to_vec()),
            ("the first", further("p.hl7.in.ed", 1)),
            ("another that took the same number", further("p.hl7.in.lab", 1)),
            ("the same a second time", further("p.hl7.in.ed", 2)),
            ("it has taken the next one", further("p.hl7.in.lab", 2)),
            ("a number that is not the next", further("p.hl7.in.icu", 7)),
            ("no topic of a source", further("p.decisions", 3)),
            ("nor of this log", further("q.hl7.in.ed", 3)),
        ];
        let mut list = List::default();
        list.take(&names, identity).unwrap();
        for (why, record) in records {
            list.take(&names, &record).unwrap_or_else(|said| panic!("{why}: {said}"));
        }
        assert_eq!(list.topics, ["p.hl7.in.ed", "p.hl7.in.lab"]);
        let newer = list.take(&names, br#"{"v":3}"#).unwrap_err();
        assert!(newer.contains("version 3"), "{newer}");
        assert!(list.take(&names, b"Kim").unwrap_err().contains("none of ours"));
        assert!(List::default().take(&names, b"Kim").unwrap_err().contains("first record"));
    }
}
