//! Clients of the cluster, and what they say on their own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::FutureProducer;

use super::{KafkaConfig, LogError, lock};
use crate::limits;

/// What every client of one cluster is made with.
pub(super) struct Settings {
    base: ClientConfig,
    pub(super) brokers: String,
    group: String,
    queue_kib_max: usize,
    /// Shared by all clients of the log.
    pub(super) watched: Watched,
}

impl Settings {
    pub(super) fn new(config: &KafkaConfig) -> Self {
        let mut base = ClientConfig::new();
        base.set("client.id", "hilum")
            .set("reconnect.backoff.max.ms", "1000")
            .set("allow.auto.create.topics", "false")
            .set("message.max.bytes", topic_bytes_max().to_string());
        for (name, value) in &config.client {
            base.set(name, value);
        }
        base.set("bootstrap.servers", &config.brokers);
        base.set_log_level(RDKafkaLogLevel::Warning);
        Self {
            base,
            brokers: config.brokers.clone(),
            group: config.prefix.clone(),
            queue_kib_max: config.queue_bytes_max / 1024 + 1,
            watched: Watched::default(),
        }
    }

    fn create<T: FromClientConfigAndContext<Watched>>(&self, config: &ClientConfig) -> Result<T, LogError> {
        Self::create_with(config, self.watched.clone())
    }

    fn create_with<C: ClientContext, T: FromClientConfigAndContext<C>>(
        config: &ClientConfig,
        context: C,
    ) -> Result<T, LogError> {
        // The message names a setting, never its value.
        config.create_with_context(context).map_err(|why| match why {
            KafkaError::ClientConfig(_, why, name, _) => {
                LogError::Engine(format!("kafka setting `{name}`: {why}"))
            }
            other => LogError::Engine(format!("kafka client: {other}")),
        })
    }

    pub(super) fn admin(&self) -> Result<AdminClient<Watched>, LogError> {
        self.create(&self.base)
    }

    pub(super) fn producer(&self, delivery_max: Duration) -> Result<FutureProducer<Watched>, LogError> {
        let mut config = self.base.clone();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", "5")
            .set("delivery.timeout.ms", delivery_max.as_millis().to_string())
            .set("linger.ms", limits::KAFKA_LINGER_MS.to_string())
            .set("queue.buffering.max.messages", "1000000")
            // The headers and what librdkafka adds count too: our own bound comes first.
            .set("queue.buffering.max.kbytes", (2 * self.queue_kib_max).to_string());
        self.create(&config)
    }

    pub(super) fn consumer(&self) -> Result<BaseConsumer<Watched>, LogError> {
        let mut config = self.base.clone();
        config
            // librdkafka wants a group's name; nobody joins it, and no offset is kept there.
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("queued.max.messages.kbytes", limits::KAFKA_FETCH_KIB_MAX.to_string())
            // A broker answers a connection's requests in their order: what is asked next waits for this.
            .set("fetch.wait.max.ms", "50")
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.error.backoff.ms", "100");
        self.create(&config)
    }

    /// A member of the group `{prefix}.{name}`, which deals out partitions.
    pub(super) fn member<C: ConsumerContext>(
        &self,
        name: &str,
        context: C,
    ) -> Result<BaseConsumer<C>, LogError> {
        let mut config = self.base.clone();
        config
            .set("group.id", format!("{}.{name}", self.group))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", (limits::KAFKA_MEMBER_S_MAX * 1_000).to_string())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "latest");
        Self::create_with(&config, context)
    }
}

/// `max.message.bytes` of our topics: the largest record and what Kafka puts around it.
pub(super) const fn topic_bytes_max() -> usize {
    limits::LOG_RECORD_BYTES_MAX + (64 << 10)
}

/// Remembers what clients say outside of any call.
#[derive(Clone, Default)]
pub(super) struct Watched {
    said: Arc<Mutex<Said>>,
}

#[derive(Default)]
struct Said {
    last: Option<String>,
    all_down: bool,
}

impl Watched {
    /// Why no broker can be reached, if so.
    pub(super) fn all_down(&self) -> Option<String> {
        let said = lock(&self.said);
        said.all_down.then(|| said.last.clone().unwrap_or_else(|| "no broker can be reached".to_owned()))
    }

    /// The last thing that went wrong.
    pub(super) fn last_said(&self) -> Option<String> {
        lock(&self.said).last.clone()
    }

    /// It is over.
    pub(super) fn forget(&self) {
        *lock(&self.said) = Said::default();
    }
}

impl ClientContext for Watched {
    fn error(&self, error: KafkaError, reason: &str) {
        let mut said = lock(&self.said);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            said.all_down = true;
            return;
        }
        // Every connection of every client says the same, again and again: once is enough.
        if said.last.is_none() {
            tracing::warn!(%error, reason, "kafka");
        }
        said.last = Some(reason.to_owned());
    }
}

impl ConsumerContext for Watched {}
