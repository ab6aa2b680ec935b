//! The cluster: what it shows of its topics, and what it makes.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{FutureProducer, Producer as _};
use tokio::time::Instant;

use super::client::{Settings, Watched, topic_bytes_max};
use super::listing::Listing;
use super::names::Names;
use super::promise::{self, Holds, Topic};
use super::topics::Making;
use super::{Durability, LogError, blocking};
use crate::limits;

/// What the cluster shows us.
pub(super) struct Present {
    pub(super) brokers: usize,
    topics: BTreeMap<String, usize>,
}

impl Present {
    /// Partitions of a topic that is there; 0 while one of them has no leader.
    pub(super) fn partitions(&self, topic: &str) -> Option<usize> {
        self.topics.get(topic).copied()
    }

    /// All topics, with their partitions.
    pub(super) fn topics(&self) -> impl Iterator<Item = (&str, usize)> {
        self.topics.iter().map(|(topic, &partitions)| (topic.as_str(), partitions))
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

    /// What it shows now.
    pub(super) async fn look(&self) -> Result<Present, LogError> {
        look(&self.asker, self.brokers, self.watched).await
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
            let there = self.look().await?;
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

    /// Whether `topics`, and the one that lists them, keep what is to be promised; gives the level of `topics`, and the
    /// brokers that must have a record.
    pub(super) async fn promise(
        &self,
        names: &Names,
        durability: Durability,
        topics: &[&str],
    ) -> Result<(&'static str, usize), LogError> {
        let of_list = promise::demands(Holds::List, durability);
        for list in self.topics(names, &[&names.identity]).await? {
            list.must(&of_list)?;
        }
        let topics = self.topics(names, topics).await?;
        let of_messages = promise::demands(Holds::Messages, durability);
        topics.iter().try_for_each(|topic| topic.must(&of_messages))?;
        Ok(promise::level(&topics))
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
