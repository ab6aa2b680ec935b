//! Which topics the log has, and which numbers their partitions have.
//!
//! `hl7.in` is one topic, and one more for each source that has its own. **A topic is a range of partition numbers**: with
//! P partitions each, `hl7.in` has `0..P`, the first source's topic `P..2P`, and so on, by the order of `{prefix}.log`.
//! Numbers never change and are never given again, so whatever is keyed by one stays true (ADR 20).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hilum_core::Stream;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::watch;

use super::names::Names;
use super::{LogError, lock};
use crate::limits;

/// What to do about `{prefix}.log` that is not what it was.
pub(super) const LIST_WAY_OUT: &str =
    "restore it from a mirror, or write its records again (docs/OPERATIONS.md, the list of topics is lost)";

/// A partition as Kafka knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Spot {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
}

/// The topics of a log. Shared by all that read and write it.
#[derive(Debug)]
pub(super) struct Listing {
    names: Names,
    /// Partitions of each topic.
    each: u16,
    decisions: Arc<str>,
    /// `{prefix}.log`.
    list: Arc<str>,
    /// Those of `hl7.in` by their numbers: its own, then those of sources.
    messages: watch::Sender<Arc<Vec<Arc<str>>>>,
    absent: Mutex<Absent>,
    /// Of each partition the offset behind what was acknowledged to this process: whatever is sent later comes to stand
    /// there or behind it, or the partition is another one.
    floors: Mutex<HashMap<Spot, u64>>,
}

/// Topics that the brokers do not know.
#[derive(Debug, Default)]
struct Absent {
    /// At the last look: a broker that has just started may not have heard of one yet.
    once: BTreeSet<Arc<str>>,
    /// At two looks in a row.
    gone: BTreeSet<Arc<str>>,
    /// Whether records of `{prefix}.log` were missing at the last look.
    list_cut_once: bool,
    /// And at two looks in a row: a broker that leads since a moment ago may not know all of them.
    list_cut: bool,
}

impl Listing {
    pub(super) fn new(names: &Names, each: u16, of_sources: &[String]) -> Self {
        let own = Arc::from(names.topic(Stream::Hl7In));
        let messages = std::iter::once(own).chain(of_sources.iter().map(|topic| Arc::from(topic.as_str())));
        Self {
            names: names.clone(),
            each,
            decisions: Arc::from(names.topic(Stream::Decisions)),
            list: Arc::from(names.identity.as_str()),
            messages: watch::Sender::new(Arc::new(messages.collect())),
            absent: Mutex::default(),
            floors: Mutex::default(),
        }
    }

    /// Partitions of each topic.
    pub(super) const fn each(&self) -> u16 {
        self.each
    }

    /// Partitions of a stream, over all its topics.
    pub(super) fn partitions(&self, stream: Stream) -> u16 {
        let topics = match stream {
            Stream::Hl7In => self.messages.borrow().len(),
            Stream::Decisions => 1,
        };
        u16::try_from(topics).unwrap_or(u16::MAX).saturating_mul(self.each)
    }

    /// Where a partition stands; absent when no topic that is known has it.
    pub(super) fn spot(&self, stream: Stream, partition: u16) -> Option<Spot> {
        let (number, within) = (partition.checked_div(self.each)?, partition.checked_rem(self.each)?);
        let topic = match (stream, number) {
            (Stream::Hl7In, number) => self.messages.borrow().get(usize::from(number))?.clone(),
            (Stream::Decisions, 0) => Arc::clone(&self.decisions),
            (Stream::Decisions, _) => return None,
        };
        Some(Spot { topic, partition: i32::from(within) })
    }

    /// What a partition of a topic is called here.
    pub(super) fn place(&self, topic: &str, partition: i32) -> Option<(Stream, u16)> {
        let within = u16::try_from(partition).ok().filter(|&within| within < self.each)?;
        if topic == &*self.decisions {
            return Some((Stream::Decisions, within));
        }
        Some((Stream::Hl7In, self.numbered(self.number_of(topic)?, within)?))
    }

    /// The number of a partition of the topic `number`.
    pub(super) fn numbered(&self, number: u16, within: u16) -> Option<u16> {
        number.checked_mul(self.each)?.checked_add(within)
    }

    /// The number of a topic of `hl7.in`.
    pub(super) fn number_of(&self, topic: &str) -> Option<u16> {
        let number = self.messages.borrow().iter().position(|one| &**one == topic)?;
        u16::try_from(number).ok()
    }

    /// The topics of messages.
    pub(super) fn messages(&self) -> Vec<Arc<str>> {
        self.messages.borrow().to_vec()
    }

    /// All topics.
    pub(super) fn all(&self) -> Vec<Arc<str>> {
        let mut all = self.messages();
        all.push(Arc::clone(&self.decisions));
        all
    }

    /// Changes when there are more.
    pub(super) fn grown(&self) -> watch::Receiver<Arc<Vec<Arc<str>>>> {
        self.messages.subscribe()
    }

    /// Takes in what `{prefix}.log` says: what it said before stays as it was.
    pub(super) fn grow(&self, of_sources: &[String]) {
        self.messages.send_if_modified(|messages| {
            let known = messages.get(1..).unwrap_or_default();
            let is_longer = of_sources.len() > known.len();
            if known.iter().zip(of_sources).any(|(known, said)| **known != **said) {
                let list = &self.names.identity;
                tracing::error!(
                    list,
                    "the list of topics says something else than before: it is left as it was"
                );
                return false;
            }
            for topic in of_sources.iter().skip(known.len()) {
                tracing::info!(topic, "a source has a topic of its own");
                Arc::make_mut(messages).push(Arc::from(topic.as_str()));
            }
            is_longer
        });
    }

    /// The offset that what is sent from now on cannot come to stand before.
    pub(super) fn floor(&self, spot: &Spot) -> u64 {
        lock(&self.floors).get(spot).copied().unwrap_or_default()
    }

    /// Everything before `offset` is there.
    pub(super) fn raise_floor(&self, spot: &Spot, offset: u64) {
        let mut floors = lock(&self.floors);
        match floors.get_mut(spot) {
            Some(floor) => *floor = offset.max(*floor),
            None => drop(floors.insert(spot.clone(), offset)),
        }
    }

    /// Whether the brokers know the topic.
    ///
    /// # Errors
    /// [`LogError::Gone`].
    pub(super) fn is_there(&self, topic: &str) -> Result<(), LogError> {
        if lock(&self.absent).gone.contains(topic) { Err(self.gone(topic)) } else { Ok(()) }
    }

    /// What is to be said of those that are not there.
    pub(super) fn all_gone(&self) -> Vec<String> {
        let gone: Vec<_> =
            lock(&self.absent).gone.iter().filter(|topic| **topic != self.list).cloned().collect();
        let gone = gone.iter().map(|topic| self.gone(topic).to_string());
        gone.chain(self.list_lost()).collect()
    }

    /// What is to be said of `{prefix}.log`, if it is not what it was.
    pub(super) fn list_lost(&self) -> Option<String> {
        let absent = lock(&self.absent);
        let how = match () {
            () if absent.gone.contains(&self.list) => "is gone",
            () if absent.list_cut => "has lost records",
            () => return None,
        };
        Some(list_lost(&self.names, how).to_string())
    }

    /// Takes in where `{prefix}.log` begins and ends, of which everything before `known` was read.
    pub(super) fn look_at_list(&self, begin: i64, end: i64, known: i64) {
        let is_cut = begin > 0 || end < known;
        let mut absent = lock(&self.absent);
        absent.list_cut = is_cut && absent.list_cut_once;
        absent.list_cut_once = is_cut;
    }

    /// Whether the brokers did not know `{prefix}.log` at the last look.
    pub(super) fn is_list_absent(&self) -> bool {
        lock(&self.absent).once.contains(&self.list)
    }

    /// The topics of sources, by their numbers from 1.
    pub(super) fn of_sources(&self) -> Vec<Arc<str>> {
        self.messages.borrow().get(1..).unwrap_or_default().to_vec()
    }

    /// What is said of a topic that is listed and not there.
    pub(super) fn gone(&self, topic: &str) -> LogError {
        gone(&self.names, topic, self.each)
    }

    /// Looks whether the brokers know all topics.
    pub(super) fn look<C: ClientContext>(&self, client: &Client<C>) -> Result<(), LogError> {
        let mut absent = BTreeSet::new();
        for topic in self.all().into_iter().chain([Arc::clone(&self.list)]) {
            let wait = Duration::from_secs(limits::ENGINE_CONNECT_S_MAX);
            let metadata = client
                .fetch_metadata(Some(&topic), wait)
                .map_err(|why| LogError::Engine(format!("the brokers do not answer: {why}")))?;
            let is_unknown = |code: RDKafkaErrorCode| {
                matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)
            };
            let errors = metadata.topics().iter().filter_map(rdkafka::metadata::MetadataTopic::error);
            if errors.map(RDKafkaErrorCode::from).any(is_unknown) {
                absent.insert(topic);
            }
        }
        let mut known = lock(&self.absent);
        let gone: BTreeSet<_> = absent.intersection(&known.once).cloned().collect();
        // What is to be said of the list takes what stood in it: see `watching`.
        for topic in gone.difference(&known.gone).filter(|topic| **topic != self.list) {
            tracing::error!(why = %self.gone(topic), "nothing is read of it, and nothing accepted for it");
        }
        for topic in known.gone.difference(&gone) {
            tracing::warn!(%topic, "a topic that was gone is there again");
            // A source's own, said to be gone to whoever asked: somebody made it again, as that said. The log's first topics are
            // more than one source's, and are looked at before a process goes on.
            if self.number_of(topic).is_some_and(|number| number > 0) {
                lock(&self.floors).retain(|spot, _| spot.topic != *topic);
            }
        }
        (known.once, known.gone) = (absent, gone);
        Ok(())
    }
}

/// What is said of a topic that is listed and not there.
pub(super) fn gone(names: &Names, topic: &str, partitions: u16) -> LogError {
    LogError::Gone { topic: topic.to_owned(), list: names.identity.clone(), partitions }
}

/// What is said of `{prefix}.log` when it is not what it was.
pub(super) fn list_lost(names: &Names, how: &str) -> LogError {
    let list = &names.identity;
    LogError::Engine(format!(
        "topic {list} {how}: it says which log this is and which topics it has, and no process starts without it: \
         {LIST_WAY_OUT}; a new log takes another prefix"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(of_sources: &[&str]) -> Listing {
        let of_sources: Vec<String> = of_sources.iter().map(|&topic| topic.to_owned()).collect();
        Listing::new(&Names::new("p").unwrap(), 8, &of_sources)
    }

    #[test]
    fn a_topic_is_a_range_of_numbers() {
        let listing = listing(&["p.hl7.in.ed", "p.hl7.in.lab"]);
        let cases = [
            ("the stream's own", Stream::Hl7In, 7, Some(("p.hl7.in", 7))),
            ("the first of a source", Stream::Hl7In, 8, Some(("p.hl7.in.ed", 0))),
            ("the last of it", Stream::Hl7In, 15, Some(("p.hl7.in.ed", 7))),
            ("the next source's", Stream::Hl7In, 16, Some(("p.hl7.in.lab", 0))),
            ("nobody's", Stream::Hl7In, 24, None),
            ("decisions have no sources", Stream::Decisions, 7, Some(("p.decisions", 7))),
            ("nor further topics", Stream::Decisions, 8, None),
        ];
        for (why, stream, partition, want) in cases {
            let spot = listing.spot(stream, partition);
            assert_eq!(spot.as_ref().map(|spot| (&*spot.topic, spot.partition)), want, "{why}");
            if let Some(Spot { topic, partition: within }) = spot {
                assert_eq!(listing.place(&topic, within), Some((stream, partition)), "{why}: and back");
            }
        }
        assert_eq!(listing.place("p.hl7.in", 8), None, "no topic has as many: it is not the next one's");
        assert_eq!(listing.place("p.hl7.in.icu", 0), None);
        assert_eq!((listing.partitions(Stream::Hl7In), listing.partitions(Stream::Decisions)), (24, 8));
    }

    #[test]
    fn the_list_grows_and_says_nothing_else() {
        let listing = listing(&["p.hl7.in.ed"]);
        let mut grown = listing.grown();
        let grow = |topics: &[&str]| {
            listing.grow(&topics.iter().map(|&topic| topic.to_owned()).collect::<Vec<_>>());
            (listing.partitions(Stream::Hl7In), listing.number_of("p.hl7.in.lab"))
        };
        assert_eq!(grow(&["p.hl7.in.ed"]), (16, None));
        assert!(!grown.has_changed().unwrap(), "nothing new wakes nobody");
        assert_eq!(grow(&["p.hl7.in.ed", "p.hl7.in.lab"]), (24, Some(2)));
        assert!(grown.has_changed().unwrap());
        grown.mark_unchanged();
        let others: [&[&str]; 3] = [&[], &["p.hl7.in.lab"], &["p.hl7.in.lab", "p.hl7.in.ed", "p.hl7.in.icu"]];
        for other in others {
            assert_eq!(grow(other), (24, Some(2)), "{other:?}");
        }
        assert!(!grown.has_changed().unwrap());
    }
}
