//! The topics of a log: their names, their making, and whether they keep what we promise.
//!
//! `{prefix}.hl7.in` and `{prefix}.decisions` hold the streams, `{prefix}.hl7.in.{source}` what comes from a source that
//! has a topic of its own. `{prefix}.log` says which life of the log this is, and which topics of sources it has: see
//! `list`. `{prefix}.chart.changes` is no part of the log: see `feed`.

use std::collections::BTreeMap;
use std::time::Duration;

use hilum_core::{Clock, Entropy, Epoch, Stream, Timestamp};
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{FutureProducer, Producer as _};
use tokio::time::Instant;

use super::client::{Settings, Watched, topic_bytes_max};
use super::list::{self, List};
use super::listing::{self, Listing};
use super::trouble;
use super::{Durability, KafkaConfig, LogError, blocking};
use crate::limits;

/// What a topic is called.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
    hl7_in: String,
    decisions: String,
    /// What stands in it: see `list`.
    pub(super) identity: String,
    pub(super) changes: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Result<Self, LogError> {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if prefix.is_empty() || prefix.len() > limits::KAFKA_PREFIX_BYTES_MAX || !prefix.bytes().all(is_name)
        {
            return Err(LogError::Engine(format!(
                "the topics' prefix must have 1 to {} letters, digits, `.`, `_` or `-`",
                limits::KAFKA_PREFIX_BYTES_MAX
            )));
        }
        let of = |stream: Stream| format!("{prefix}.{stream}");
        Ok(Self {
            prefix: prefix.to_owned(),
            hl7_in: of(Stream::Hl7In),
            decisions: of(Stream::Decisions),
            identity: format!("{prefix}.log"),
            changes: format!("{prefix}.chart.changes"),
        })
    }

    pub(super) fn topic(&self, stream: Stream) -> &str {
        match stream {
            Stream::Hl7In => &self.hl7_in,
            Stream::Decisions => &self.decisions,
        }
    }

    /// All of them, for people.
    pub(super) fn all(&self) -> String {
        format!("{}.*", self.prefix)
    }

    /// Which right is missing, when a broker does not let us: `right` on `topic`, or the one that every consumer needs.
    pub(super) fn denied(&self, code: Option<RDKafkaErrorCode>, right: &str, topic: &str) -> Option<String> {
        let of_group = format!("Describe on group {}", self.prefix);
        trouble::denied(code, &format!("{right} on topic {topic}"), &of_group)
    }

    /// The topic of a source that has one of its own.
    pub(super) fn of_source(&self, source: &str) -> String {
        format!("{}.{source}", self.hl7_in)
    }

    /// Whether a topic is called as one of a source.
    pub(super) fn is_of_source(&self, topic: &str) -> bool {
        let source = topic.strip_prefix(&self.hl7_in).and_then(|rest| rest.strip_prefix('.'));
        source.is_some_and(|source| !source.is_empty())
    }

    pub(super) fn of_streams(&self) -> impl Iterator<Item = &str> {
        Stream::ALL.into_iter().map(|stream| self.topic(stream))
    }
}

/// How topics are made, and what they must promise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Making {
    pub(super) copies: Option<u16>,
    pub(super) durability: Durability,
    /// Milliseconds for which records stay; -1: for ever.
    pub(super) kept_ms: i64,
}

impl Making {
    /// As the topics of the log are made.
    pub(super) const fn of_log(config: &KafkaConfig) -> Self {
        Self { copies: config.copies, durability: config.durability, kept_ms: -1 }
    }
}

/// A log that is there.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) listing: Listing,
    /// How far `{prefix}.log` is read.
    pub(super) list_end: i64,
    pub(super) epoch: Epoch,
    pub(super) made: Timestamp,
    /// As [`super::LogHealth`] shows it.
    pub(super) durability: &'static str,
    /// Brokers that must have a record before it is acknowledged.
    pub(super) in_sync: usize,
}

/// Finds the topics, makes them when there are none, and checks what they promise.
pub(super) async fn open(
    settings: &Settings,
    names: &Names,
    config: &KafkaConfig,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<Found, LogError> {
    let (cluster, mut there) = Cluster::of(settings).await?;
    let mut list = List::default();
    if there.partitions(&names.identity).is_some() {
        list = list::read(settings, names).await?;
    }
    let missing: Vec<&str> = names.of_streams().filter(|topic| there.partitions(topic).is_none()).collect();
    if let Some(identity) = &list.identity
        && let Some(gone) = missing.iter().find(|gone| identity.topics.iter().any(|topic| topic == *gone))
    {
        return Err(LogError::Engine(format!(
            "topic {gone} is gone, though {} says that this log was made with it: restore it, or give a new log \
             another prefix",
            names.identity
        )));
    }
    if list.identity.is_none() {
        let mut wanted: Vec<_> = missing.into_iter().map(|topic| (topic, config.partitions)).collect();
        if there.partitions(&names.identity).is_none() {
            wanted.push((&names.identity, 1));
        }
        if !wanted.is_empty() {
            cluster.create(names, &wanted, Making::of_log(config), there.brokers).await?;
            there = cluster.wait_for(&wanted).await?;
        }
    }
    let mut partitions = None;
    for topic in names.of_streams() {
        let has = there.partitions(topic).unwrap_or_default();
        if has == 0 || partitions.is_some_and(|other| other != has) {
            return Err(LogError::Engine(format!(
                "topic {topic} has {has} partitions: all streams of a log have the same number, and it never changes"
            )));
        }
        partitions = Some(has);
    }
    let each = partitions.unwrap_or_default();
    if list.identity.is_none() {
        // Before anything is written: what promises too little is no log.
        cluster.promise(names, config.durability, names.of_streams()).await?;
        list = list::make_identity(settings, names, config.owner, clock, entropy).await?;
    }
    let owner = list.identity.as_ref().and_then(|identity| identity.owner);
    if owner.is_some() && config.owner.is_some() && owner != config.owner {
        return Err(LogError::Engine(format!(
            "the topics {}.* are another installation's: every process of one installation has the same installation \
             key (secrets/), another installation takes another prefix",
            config.prefix
        )));
    }
    if let Some(gone) = list.topics.iter().find(|topic| there.partitions(topic).is_none()) {
        return Err(listing::gone(names, gone, each));
    }
    for source in &config.own_topics {
        let topic = names.of_source(source);
        if !list.topics.contains(&topic) {
            (list, there) = add(&cluster, settings, names, config, there, (&topic, each)).await?;
        }
    }
    for topic in &list.topics {
        let has = there.partitions(topic).unwrap_or_default();
        if has != each {
            return Err(LogError::Engine(format!(
                "topic {topic} has {has} partitions (0: one of them has no leader): it must have {each}, as all of this \
                 log, and it never changes"
            )));
        }
    }
    let listing = Listing::new(names, each, &list.topics);
    let all = listing.all();
    let (durability, in_sync) =
        cluster.promise(names, config.durability, all.iter().map(|one| &**one)).await?;
    let List { identity: Some(list::Identity { epoch, made, .. }), end: list_end, .. } = list else {
        return Err(LogError::Engine(format!("topic {} says nothing", names.identity)));
    };
    Ok(Found { listing, list_end, epoch, made, durability, in_sync })
}

/// Makes the topic of a source, unless somebody has, and gives it its number. It is there, and keeps what is promised,
/// before it is listed: whoever finds it in the list may use it.
async fn add(
    cluster: &Cluster<'_>,
    settings: &Settings,
    names: &Names,
    config: &KafkaConfig,
    mut there: Present,
    wanted: (&str, u16),
) -> Result<(List, Present), LogError> {
    let (topic, each) = wanted;
    if there.partitions(topic).is_none() {
        cluster.create(names, &[wanted], Making::of_log(config), there.brokers).await?;
        there = cluster.wait_for(&[wanted]).await?;
    }
    let has = there.partitions(topic).unwrap_or_default();
    if has != each {
        return Err(LogError::Engine(format!(
            "topic {topic} has {has} partitions (0: one of them has no leader): it must have {each}, as all of this log"
        )));
    }
    cluster.promise(names, config.durability, [topic]).await?;
    let list = list::enlist(settings, names, topic).await?;
    tracing::info!(topic, "a source has a topic of its own");
    // Others may have added theirs meanwhile.
    let wanted: Vec<_> = list.topics.iter().map(|topic| (topic.as_str(), each)).collect();
    let there = cluster.wait_for(&wanted).await?;
    Ok((list, there))
}

/// What the cluster shows us.
pub(super) struct Present {
    pub(super) brokers: usize,
    topics: BTreeMap<String, usize>,
}

impl Present {
    pub(super) fn partitions(&self, topic: &str) -> Option<u16> {
        self.topics.get(topic).map(|&partitions| partitions as u16)
    }
}

pub(super) struct Cluster<'a> {
    admin: AdminClient<Watched>,
    asker: FutureProducer<Watched>,
    brokers: &'a str,
    watched: &'a Watched,
}

/// Asks the cluster for its brokers and topics.
async fn look(
    asker: &FutureProducer<Watched>,
    brokers: &str,
    watched: &Watched,
) -> Result<Present, LogError> {
    let (asker, watched) = (asker.clone(), watched.clone());
    let wait = Duration::from_secs(limits::KAFKA_START_S_MAX);
    let asked = blocking(move || {
        let begun = Instant::now();
        // A cluster of thousands of topics, or one that is far away, takes longer than one that is not there is waited
        // for at first.
        let mut patience = Duration::from_millis(limits::KAFKA_RETRY_MS);
        let metadata = loop {
            // Of all topics: to ask for one by its name may make it.
            match asker.client().fetch_metadata(None, patience) {
                Ok(metadata) => break metadata,
                Err(why) => {
                    let is_refused = watched.is_refused()
                        && begun.elapsed() > Duration::from_millis(limits::KAFKA_REFUSED_MS_MAX);
                    if is_refused || begun.elapsed() > wait {
                        let said = watched.last_said().unwrap_or_else(|| why.to_string());
                        return Err(LogError::Engine(said));
                    }
                    patience = (patience * 2).min(Duration::from_millis(limits::KAFKA_ANSWER_MS_MAX));
                }
            }
        };
        let topics = metadata.topics().iter().map(|topic| {
            let is_whole = topic.error().is_none()
                && topic.partitions().iter().all(|one| one.error().is_none() && one.leader() >= 0);
            (topic.name().to_owned(), if is_whole { topic.partitions().len() } else { 0 })
        });
        Ok(Present { brokers: metadata.brokers().len(), topics: topics.collect() })
    });
    asked.await.map_err(|why| LogError::Engine(format!("kafka at {brokers} does not answer us: {why}")))
}

impl<'a> Cluster<'a> {
    /// The cluster that `settings` name, and what it shows.
    pub(super) async fn of(settings: &'a Settings) -> Result<(Self, Present), LogError> {
        let asker = settings.asker()?;
        let brokers = &settings.brokers;
        // Only who answers is asked for more: an administrator's client says nothing of what goes wrong.
        let there = look(&asker, brokers, &settings.watched).await?;
        let cluster = Self { admin: settings.admin()?, asker, brokers, watched: &settings.watched };
        Ok((cluster, there))
    }

    /// Makes topics. Another process may do the same now: then they are there.
    pub(super) async fn create(
        &self,
        names: &Names,
        wanted: &[(&str, u16)],
        making: Making,
        brokers: usize,
    ) -> Result<(), LogError> {
        if making.durability == Durability::Replicated && brokers < 2 {
            return Err(LogError::Engine(format!(
                "the log is to be `replicated`, and there is {brokers} broker: an acknowledged record would stand on \
                 one machine alone"
            )));
        }
        let (bytes, kept_ms) = (topic_bytes_max().to_string(), making.kept_ms.to_string());
        let topics = wanted.iter().map(|&(topic, partitions)| {
            let copies = making.copies.map_or(-1, i32::from);
            let new = NewTopic::new(topic, i32::from(partitions), TopicReplication::Fixed(copies))
                .set("cleanup.policy", "delete")
                .set("retention.ms", &kept_ms)
                .set("retention.bytes", "-1")
                .set("message.timestamp.type", "LogAppendTime")
                .set("unclean.leader.election.enable", "false")
                .set("max.message.bytes", &bytes);
            match making.durability {
                Durability::Replicated => new.set("min.insync.replicas", "2"),
                Durability::Fsync => new.set("flush.messages", "1"),
                Durability::Any => new,
            }
        });
        let topics: Vec<_> = topics.collect();
        let made = self.admin.create_topics(&topics, &options()).await;
        for one in made.map_err(|why| LogError::Engine(format!("topics cannot be made: {why}")))? {
            match one {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, why)) => {
                    let denied = names.denied(Some(why), "Create", &topic);
                    let why = denied.map_or_else(
                        || why.to_string(),
                        // Who may not know of it does not hear whether it is there.
                        |denied| format!("{denied}, nor Describe on it if it is there"),
                    );
                    return Err(LogError::Engine(format!("topic {topic} cannot be made: {why}")));
                }
            }
        }
        Ok(())
    }

    /// Waits until topics that were made have leaders.
    pub(super) async fn wait_for(&self, wanted: &[(&str, u16)]) -> Result<Present, LogError> {
        let rounds = limits::KAFKA_START_S_MAX * 1_000 / limits::KAFKA_RETRY_MS;
        for _ in 0..rounds {
            let there = look(&self.asker, self.brokers, self.watched).await?;
            if wanted.iter().all(|(topic, _)| there.partitions(topic).is_some_and(|has| has > 0)) {
                return Ok(there);
            }
            tokio::time::sleep(Duration::from_millis(limits::KAFKA_RETRY_MS)).await;
        }
        Err(LogError::Engine("topics that were made have no leader yet: is the cluster whole?".to_owned()))
    }

    /// The settings of the topics. A broker that has not heard of a new topic yet knows none.
    async fn described(
        &self,
        topics: &[&str],
    ) -> Result<Vec<Result<ConfigResource, RDKafkaErrorCode>>, LogError> {
        let specifiers: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let until = Instant::now() + Duration::from_secs(limits::KAFKA_START_S_MAX);
        loop {
            let described = self.admin.describe_configs(&specifiers, &options()).await;
            let described =
                described.map_err(|why| LogError::Engine(format!("topics cannot be described: {why}")))?;
            let is_heard_of = |one: &Result<ConfigResource, RDKafkaErrorCode>| match one {
                Ok(found) => !found.entries.is_empty(),
                Err(why) => *why != RDKafkaErrorCode::UnknownTopicOrPartition,
            };
            if described.iter().all(is_heard_of) || Instant::now() > until {
                return Ok(described);
            }
            tokio::time::sleep(Duration::from_millis(limits::KAFKA_RETRY_MS)).await;
        }
    }

    /// Topics with their settings.
    pub(super) async fn topics<'t>(
        &self,
        names: &Names,
        topics: &[&'t str],
    ) -> Result<Vec<Topic<'t>>, LogError> {
        let described = self.described(topics).await?;
        let found = topics.iter().zip(described).map(|(&name, found)| match found {
            Ok(found) => Ok(Topic { name, found }),
            Err(why) => {
                let denied = names.denied(Some(why), "DescribeConfigs", name);
                let why = denied.unwrap_or_else(|| why.to_string());
                Err(LogError::Engine(format!("topic {name} cannot be described: {why}")))
            }
        });
        found.collect()
    }

    /// Whether `topics` keep what is to be promised; gives the level, and the brokers that must have a record.
    async fn promise<'t>(
        &self,
        names: &Names,
        durability: Durability,
        topics: impl IntoIterator<Item = &'t str>,
    ) -> Result<(&'static str, usize), LogError> {
        let (mut is_replicated, mut is_fsync, mut in_sync) = (true, true, 1);
        for topic in self.topics(names, &topics.into_iter().collect::<Vec<_>>()).await? {
            topic
                .must("cleanup.policy", "`delete`: what came in is the record", |value| value == "delete")?;
            topic.must("retention.ms", "-1: what came in is never dropped", |value| value == "-1")?;
            topic.must("retention.bytes", "-1: what came in is never dropped", |value| value == "-1")?;
            let bytes = topic_bytes_max();
            let why = format!("at least {bytes}, or a large message could not be kept");
            topic.must("max.message.bytes", &why, |value| {
                value.parse().is_ok_and(|has: usize| has >= bytes)
            })?;
            in_sync = in_sync.max(topic.in_sync());
            is_replicated &= topic.in_sync() >= 2 && topic.is_clean();
            is_fsync &= topic.value("flush.messages") == "1";
            topic.must_acknowledge(durability)?;
        }
        let level = match (is_replicated, is_fsync) {
            (true, _) => "replicated",
            (false, true) => "fsync",
            (false, false) => "one broker's memory",
        };
        Ok((level, in_sync))
    }
}

pub(super) struct Topic<'a> {
    name: &'a str,
    found: ConfigResource,
}

impl Topic<'_> {
    pub(super) fn value(&self, setting: &str) -> &str {
        self.found.get(setting).and_then(|entry| entry.value.as_deref()).unwrap_or_default()
    }

    /// Brokers that must have a record before it is acknowledged.
    fn in_sync(&self) -> usize {
        self.value("min.insync.replicas").parse().unwrap_or(1)
    }

    fn is_clean(&self) -> bool {
        self.value("unclean.leader.election.enable") != "true"
    }

    /// An acknowledgment must mean what `durability` says.
    pub(super) fn must_acknowledge(&self, durability: Durability) -> Result<(), LogError> {
        match durability {
            Durability::Replicated => {
                let why = "at least 2: an acknowledged record would stand on one machine alone";
                self.must("min.insync.replicas", why, |_| self.in_sync() >= 2)?;
                let why = "`false`: a broker that lacks acknowledged records could lead";
                self.must("unclean.leader.election.enable", why, |_| self.is_clean())
            }
            Durability::Fsync => {
                let why = "1: an acknowledged record would stand in memory alone";
                self.must("flush.messages", why, |value| value == "1")
            }
            Durability::Any => Ok(()),
        }
    }

    pub(super) fn must(
        &self,
        setting: &str,
        wanted: &str,
        holds: impl Fn(&str) -> bool,
    ) -> Result<(), LogError> {
        let value = self.value(setting);
        if holds(value) {
            return Ok(());
        }
        Err(LogError::Engine(format!("topic {} has {setting}={value}; it must be {wanted}", self.name)))
    }
}

pub(super) fn options() -> AdminOptions {
    let wait = Duration::from_secs(limits::KAFKA_START_S_MAX);
    AdminOptions::new().request_timeout(Some(wait)).operation_timeout(Some(wait))
}

/// Whether every partition has a leader and brokers enough.
pub(super) fn all_lead<C: ClientContext>(
    client: &Client<C>,
    listing: &Listing,
    in_sync: usize,
    wait: Duration,
) -> Result<(), LogError> {
    for topic in listing.all() {
        let metadata = client
            .fetch_metadata(Some(&topic), wait)
            .map_err(|why| LogError::Engine(format!("the brokers do not answer: {why}")))?;
        for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
            if partition.leader() < 0 || partition.isr().len() < in_sync {
                return Err(LogError::Engine(format!(
                    "partition {} of {topic} has {} of the {in_sync} brokers that a record needs",
                    partition.id(),
                    partition.isr().len()
                )));
            }
        }
    }
    Ok(())
}
