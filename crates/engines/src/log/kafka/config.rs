//! Where a log on Kafka is, and how it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use hilum_core::Id;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use super::TokenSource;
use super::names::Names;
use crate::limits;
use crate::log::LogError;

/// What a cluster must promise before anything is acknowledged on its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// At least two brokers have each record in memory before it is acknowledged, and no other may lead.
    #[default]
    Replicated,
    /// The broker has each record on disk before it is acknowledged (`flush.messages=1`).
    Fsync,
    /// Whatever the cluster does: for a trial, never for patients.
    Any,
}

/// Where the log is, and how it is kept.
#[derive(Clone)]
pub struct KafkaConfig {
    /// `host:port`, several with commas between.
    pub brokers: String,
    /// What the names of the topics begin with.
    pub prefix: String,
    /// Partitions of each topic, when the topics are made.
    pub partitions: u16,
    /// The sources that this process writes into topics of their own.
    pub own_topics: BTreeSet<String>,
    /// Copies of each partition, when the topics are made; absent: as the cluster does by itself.
    pub copies: Option<u16>,
    /// What the cluster must promise.
    pub durability: Durability,
    /// Whose log it is: a topic set of another owner is refused. A keyed hash, and no secret.
    pub owner: Option<Id>,
    /// Behind the name of the group that deals the partitions out, where several tables are made from one log: processes
    /// that share a group share the work.
    pub group_suffix: Option<String>,
    /// Bytes of records that may wait for the brokers.
    pub queue_bytes_max: usize,
    /// Until then the brokers must have acknowledged a record.
    pub delivery_max: Duration,
    /// Further settings of the client by librdkafka's names (TLS, SASL).
    pub client: BTreeMap<String, String>,
    /// Where the tokens come from by which the brokers know us, if they do by tokens.
    pub token: Option<TokenSource>,
}

impl KafkaConfig {
    /// As a server runs.
    pub fn new(brokers: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            prefix: prefix.into(),
            partitions: limits::LOG_PARTITIONS,
            own_topics: BTreeSet::new(),
            copies: None,
            durability: Durability::default(),
            owner: None,
            group_suffix: None,
            queue_bytes_max: limits::LOG_QUEUE_BYTES_MAX,
            delivery_max: Duration::from_secs(limits::KAFKA_DELIVERY_S_MAX),
            client: BTreeMap::new(),
            token: None,
        }
    }

    /// Whether the topics may have that prefix, and the client knows the settings that it is given. Nobody is asked.
    ///
    /// # Errors
    /// [`LogError::Engine`] names the setting, never its value.
    pub fn check(&self) -> Result<(), LogError> {
        Names::new(&self.prefix)?;
        let mut client = ClientConfig::new();
        for (name, value) in &self.client {
            client.set(name, value);
        }
        client.create_native_config().map(drop).map_err(|why| match why {
            KafkaError::ClientConfig(_, why, name, _) => {
                LogError::Engine(format!("kafka setting `{name}`: {why}"))
            }
            other => LogError::Engine(format!("kafka client: {other}")),
        })
    }
}

/// Prints no setting of the client: passwords are among them.
impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("prefix", &self.prefix)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}
