//! The change feed: what the outbox of the tables says, as records of `{prefix}.chart.changes` (`docs/EVENTS.md`).
//!
//! - One partition: the feed is one sequence, in commit order.
//! - **Whoever stands in the topic has all before it before it**, however many publishers there were: each begins behind
//!   what was acknowledged, sends in order, and leaves no hole. So what a late publisher adds are copies, and a reader
//!   that keeps the greatest `(t, n)` steps over them (ADR 19).

use std::sync::Arc;
use std::time::Duration;

use hilum_core::Id;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use super::client::{Settings, Watched};
use super::cluster::Cluster;
use super::names::Names;
use super::promise::{Holds, demands};
use super::topics::Making;
use super::{LogError, blocking};
use crate::limits;
use crate::tables::Change;

/// The header of a record of the feed in which its mark stands as JSON.
const MARK_HEADER: &str = "hilum-change";

/// What is known of an entry beside its key and content, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The version of this form.
    pub v: u8,
    /// Which life of the feed: another one begins anew, and counts `t` from elsewhere.
    pub life: Id,
    /// The publisher's lease: it grows with each publisher of a life.
    pub term: i64,
    /// The commit.
    pub t: i64,
    /// Its place within the commit, from 0.
    pub n: i64,
    /// What it is about (`chart.resource`).
    pub topic: String,
}

/// Where the feed ends, and what stands last in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The offset of what comes next.
    pub end: i64,
    /// What stands before it.
    pub last: Last,
}

/// Where what was published stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// Behind what stood there before; the last of it at this offset, absent while nothing was ever published.
    Behind(Option<i64>),
    /// Not behind it: the topic was made anew since. How much of it is there nobody knows.
    Anew,
}

/// What stands last in the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Last {
    /// Nothing was ever written.
    Empty,
    /// Something was, and is gone by age.
    Aged,
    /// This entry, and the subject's key.
    Entry(Mark, Id),
    /// A record that we did not write.
    Foreign,
}

/// The feed, open for publishing. What it still has to send when it is dropped is not sent, or not acknowledged.
pub struct Feed {
    settings: Arc<Settings>,
    names: Names,
    producer: FutureProducer<Watched>,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("topic", &self.names.changes).finish_non_exhaustive()
    }
}

impl Feed {
    pub(super) async fn open(
        settings: Arc<Settings>,
        names: &Names,
        making: Making,
    ) -> Result<Self, LogError> {
        let topic = names.changes.as_str();
        {
            let (cluster, mut there) = Cluster::of(&settings).await?;
            if there.partitions(topic).is_none() {
                let making = Making { kept_ms: limits::FEED_KEPT_H * 3_600_000, ..making };
                let wanted = [(topic, 1)];
                cluster.create(names, &wanted, making, there.brokers).await?;
                there = cluster.wait_for(&wanted).await?;
            }
            let has = there.partitions(topic).unwrap_or_default();
            if has != 1 {
                return Err(LogError::Engine(format!(
                    "topic {topic} has {has} partitions, or one of them has no leader: it must have one, for the feed \
                     is one sequence"
                )));
            }
            for topic in cluster.topics(names, &[topic]).await? {
                topic.must(&demands(Holds::Changes, making.durability))?;
            }
        }
        let producer = settings.sequencer()?;
        Ok(Self { settings, names: names.clone(), producer })
    }

    /// Publishes `changes` behind what stands there, of which the last known stands at the offset `acked`; all of them
    /// are acknowledged when it resolves to [`Placed::Behind`]. After an error nobody knows how many are there: the
    /// feed is to be opened anew, and all of them published again.
    ///
    /// # Errors
    /// [`LogError::Engine`], [`LogError::Unknown`] when the brokers do not answer in time, or not say where it stands.
    pub async fn publish(
        &self,
        life: Id,
        term: i64,
        acked: Option<i64>,
        changes: &[Change],
    ) -> Result<Placed, LogError> {
        let mut acked = acked;
        let limit = Duration::from_secs(limits::FEED_S_MAX);
        // A commit is given whole, however large: the producer's queue has a bound of its own.
        for part in changes.chunks(limits::FEED_IN_FLIGHT_MAX) {
            let sent = tokio::time::timeout(limit, self.send(life, term, acked, part)).await;
            let placed = sent.unwrap_or_else(|_| {
                let said = self.settings.watched.last_said();
                Err(LogError::Unknown(said.unwrap_or_else(|| {
                    format!(
                        "topic {}: the brokers did not acknowledge within {} s",
                        self.names.changes,
                        limit.as_secs()
                    )
                })))
            })?;
            match placed {
                Placed::Behind(last) => acked = last,
                Placed::Anew => return Ok(Placed::Anew),
            }
        }
        Ok(Placed::Behind(acked))
    }

    async fn send(
        &self,
        life: Id,
        term: i64,
        acked: Option<i64>,
        changes: &[Change],
    ) -> Result<Placed, LogError> {
        let mut waiting = Vec::with_capacity(changes.len());
        for change in changes {
            let mark = Mark { v: 1, life, term, t: change.t.0, n: change.n, topic: change.topic.clone() };
            let mark = serde_json::to_vec(&mark).map_err(|why| LogError::Engine(why.to_string()))?;
            let key = change.key.to_string();
            let headers = OwnedHeaders::new_with_capacity(1)
                .insert(Header { key: MARK_HEADER, value: Some(mark.as_slice()) });
            let record = FutureRecord::to(&self.names.changes)
                .partition(0)
                .key(&key)
                .payload(change.body.as_ref())
                .headers(headers);
            waiting.push(self.producer.send_result(record).map_err(|(why, _)| self.failed(&why))?);
        }
        let mut acked = acked;
        for one in waiting {
            let delivered = one.await.map_err(|_| LogError::Unknown("the producer was closed".to_owned()))?;
            let offset = delivered.map_err(|(why, _)| self.failed(&why))?.offset;
            match placed(acked, offset) {
                Some(Placed::Behind(last)) => acked = last,
                Some(Placed::Anew) => return Ok(Placed::Anew),
                None => {
                    let topic = &self.names.changes;
                    let why = format!("topic {topic}: a record was acknowledged without its place");
                    return Err(LogError::Unknown(why));
                }
            }
        }
        Ok(Placed::Behind(acked))
    }

    fn failed(&self, why: &KafkaError) -> LogError {
        let topic = &self.names.changes;
        let fatal = self.producer.client().fatal_error();
        let codes = [why.rdkafka_error_code(), fatal.as_ref().map(|(code, _)| *code)];
        let denied = codes.into_iter().find_map(|code| self.names.denied(code, "Write", topic));
        let why = denied.or_else(|| fatal.map(|(_, why)| why)).unwrap_or_else(|| why.to_string());
        LogError::Engine(format!("topic {topic}: {why}"))
    }

    /// Where it ends, and what stands last.
    ///
    /// # Errors
    /// [`LogError::Engine`].
    pub async fn tail(&self) -> Result<Tail, LogError> {
        let consumer = self.settings.end_reader()?;
        let names = self.names.clone();
        blocking(move || {
            let topic = &names.changes;
            let fails = |why: &KafkaError| {
                let denied = names.denied(why.rdkafka_error_code(), "Read", topic);
                let why = denied.unwrap_or_else(|| why.to_string());
                LogError::Engine(format!("topic {topic} cannot be read: {why}"))
            };
            let wait = Duration::from_secs(limits::KAFKA_START_S_MAX);
            let (first, end) = consumer.fetch_watermarks(topic, 0, wait).map_err(|why| fails(&why))?;
            let is = |last| Ok(Tail { end, last });
            if end == 0 {
                return is(Last::Empty);
            }
            if first == end {
                return is(Last::Aged);
            }
            let mut place = TopicPartitionList::new();
            place
                .add_partition_offset(topic, 0, Offset::Offset(end - 1))
                .and_then(|()| consumer.assign(&place))
                .map_err(|why| fails(&why))?;
            match consumer.poll(wait) {
                // What is slow is not somebody else's.
                None => {
                    let why =
                        format!("topic {topic}: its last record was not given within {} s", wait.as_secs());
                    Err(LogError::Engine(why))
                }
                // An offset without a record is a transaction's: none of ours.
                Some(Err(KafkaError::PartitionEOF(_))) => is(Last::Foreign),
                Some(Err(why)) => Err(fails(&why)),
                Some(Ok(message)) => {
                    let header =
                        message.headers().and_then(|all| all.iter().find(|one| one.key == MARK_HEADER));
                    let mark = header.and_then(|one| serde_json::from_slice(one.value?).ok());
                    let key = message.key().and_then(|key| std::str::from_utf8(key).ok()?.parse().ok());
                    is(match (mark, key) {
                        (Some(mark), Some(key)) => Last::Entry(mark, key),
                        _ => Last::Foreign,
                    })
                }
            }
        })
        .await
    }

    /// Ends it. What is not acknowledged is not sent any more.
    pub async fn close(self) {
        // Its end waits for a thread of its own.
        let ended = tokio::task::spawn_blocking(move || drop(self)).await;
        if let Err(why) = ended {
            tracing::warn!(%why, "the producer of the change feed ended early");
        }
    }
}

/// Where a record stands that was acknowledged at `offset`, what was before it at `acked`. Absent where the brokers did not
/// say: librdkafka takes a record for kept when one that it sent later is, and that may not be so.
fn placed(acked: Option<i64>, offset: i64) -> Option<Placed> {
    if offset < 0 {
        return None;
    }
    let is_behind = acked.is_none_or(|acked| offset > acked);
    Some(if is_behind { Placed::Behind(Some(offset)) } else { Placed::Anew })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgment_says_where_it_stands() {
        let cases = [
            ("the first that is known", None, 0, Some(Placed::Behind(Some(0)))),
            ("behind it", Some(7), 8, Some(Placed::Behind(Some(8)))),
            ("what others put between does not matter", Some(7), 90, Some(Placed::Behind(Some(90)))),
            ("before it: another topic of the same name", Some(7), 0, Some(Placed::Anew)),
            ("in its place: the same", Some(7), 7, Some(Placed::Anew)),
            ("nobody says where", Some(7), -1, None),
            ("nor in librdkafka's own way", None, -1001, None),
        ];
        for (why, acked, offset, want) in cases {
            assert_eq!(placed(acked, offset), want, "{why}");
        }
    }

    #[test]
    fn the_mark_is_as_its_golden_file() {
        let mark = Mark {
            v: 1,
            life: Id::from_bytes([7; 16]),
            term: 3,
            t: 4711,
            n: 2,
            topic: "chart.resource".to_owned(),
        };
        let golden = include_str!("../../../tests/golden/change-v1.json").trim_end();
        assert_eq!(serde_json::to_string(&mark).unwrap(), golden);
        assert_eq!(serde_json::from_str::<Mark>(golden).unwrap(), mark);
    }
}
