//! Clients of the cluster, and what they say on their own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::client::{Client, ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::FutureProducer;

use super::token::Tokens;
use super::trouble::{self, Trouble};
use super::{KafkaConfig, LogError, lock};
use crate::limits;

/// The mechanism that takes a token.
const BEARER: &str = "OAUTHBEARER";

/// What every client of one cluster is made with.
pub(super) struct Settings {
    base: ClientConfig,
    pub(super) brokers: String,
    group: String,
    group_suffix: Option<String>,
    queue_kib_max: usize,
    /// Shared by all clients of the log.
    pub(super) watched: Watched,
}

impl Settings {
    pub(super) fn new(config: &KafkaConfig, tokens: Option<Arc<Tokens>>) -> Result<Self, LogError> {
        let mut base = ClientConfig::new();
        base.set("client.id", "hilum")
            .set("reconnect.backoff.max.ms", "1000")
            .set("allow.auto.create.topics", "false")
            .set("message.max.bytes", topic_bytes_max().to_string());
        if tokens.is_some() {
            base.set("security.protocol", "SASL_SSL").set("sasl.mechanism", BEARER);
        }
        for (name, value) in &config.client {
            base.set(name, value);
        }
        // Two names of one setting.
        let mechanism =
            ["sasl.mechanism", "sasl.mechanisms"].iter().find_map(|name| config.client.get(*name));
        match (mechanism, &tokens) {
            (Some(other), Some(_)) if other != BEARER => {
                return Err(LogError::Engine(format!(
                    "log.client says sasl.mechanism = {other}, and log.token is for {BEARER}: leave one of them out"
                )));
            }
            (Some(mechanism), None) if mechanism == BEARER => {
                return Err(LogError::Engine(format!(
                    "log.client says sasl.mechanism = {BEARER}: where its tokens come from is said by log.token"
                )));
            }
            _ => {}
        }
        base.set("bootstrap.servers", &config.brokers);
        // Some of what stops us is said at that level only: see `Watched::log`.
        base.set_log_level(RDKafkaLogLevel::Info);
        Ok(Self {
            base,
            brokers: config.brokers.clone(),
            group: config.prefix.clone(),
            group_suffix: config.group_suffix.clone(),
            queue_kib_max: config.queue_bytes_max / 1024 + 1,
            watched: Watched { said: Arc::default(), tokens },
        })
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
        let admin: AdminClient<Watched> = self.create(&self.base)?;
        self.introduce(admin.inner())?;
        Ok(admin)
    }

    /// Gives a client its first token before it is asked anything: one for administration never asks for it, and a
    /// consumer only once it is polled.
    fn introduce<C: ClientContext>(&self, client: &Client<C>) -> Result<(), LogError> {
        let Some(tokens) = &self.watched.tokens else { return Ok(()) };
        let token = tokens.current().map_err(LogError::Engine)?;
        hilum_kafka_token::set_token(client, token)
            .map_err(|why| LogError::Engine(format!("kafka client: the token is not taken: {why}")))
    }

    /// A client that asks and writes nothing: it needs no right to write, and its own thread serves it.
    pub(super) fn asker(&self) -> Result<FutureProducer<Watched>, LogError> {
        self.create(&self.base)
    }

    pub(super) fn producer(&self, delivery_max: Duration) -> Result<FutureProducer<Watched>, LogError> {
        self.create(&self.producing(delivery_max))
    }

    /// The settings of whoever writes, without second names of what we set: of the two, librdkafka takes which it is given
    /// last, and nobody knows which.
    fn writing(&self) -> ClientConfig {
        let mut config = self.base.clone();
        for other_name in
            ["message.timeout.ms", "max.in.flight", "request.required.acks", "queue.buffering.max.ms"]
        {
            config.remove(other_name);
        }
        config
    }

    fn producing(&self, delivery_max: Duration) -> ClientConfig {
        let mut config = self.writing();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", "5")
            .set("delivery.timeout.ms", delivery_max.as_millis().to_string())
            .set("linger.ms", limits::KAFKA_LINGER_MS.to_string())
            .set("queue.buffering.max.messages", "1000000")
            // The headers and what librdkafka adds count too: our own bound comes first.
            .set("queue.buffering.max.kbytes", (2 * self.queue_kib_max).to_string());
        config
    }

    /// A producer of one sequence without holes: a record is given up never, or with all that come behind it.
    pub(super) fn sequencer(&self) -> Result<FutureProducer<Watched>, LogError> {
        self.create(&self.sequencing())
    }

    fn sequencing(&self) -> ClientConfig {
        let mut config = self.writing();
        config
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("acks", "all")
            // A broker that knows nothing of this producer (any more) takes whatever comes first: with two requests on their
            // way, the later one without the earlier.
            .set("max.in.flight.requests.per.connection", "1")
            // For ever: one that was given up for its age would be a hole, for those behind it would still be sent.
            .set("delivery.timeout.ms", "0")
            .set("linger.ms", limits::KAFKA_LINGER_MS.to_string())
            // All that is sent at a time has room, whatever the log's own clients are told.
            .set("queue.buffering.max.messages", (2 * limits::FEED_IN_FLIGHT_MAX).to_string())
            .set("queue.buffering.max.kbytes", limits::FEED_QUEUE_KIB_MAX.to_string());
        config
    }

    pub(super) fn consumer(&self) -> Result<BaseConsumer<Watched>, LogError> {
        self.consume(&self.consuming())
    }

    /// A consumer that says so when there is nothing more to read.
    pub(super) fn end_reader(&self) -> Result<BaseConsumer<Watched>, LogError> {
        self.consume(self.consuming().set("enable.partition.eof", "true"))
    }

    fn consuming(&self) -> ClientConfig {
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
        config
    }

    fn consume(&self, config: &ClientConfig) -> Result<BaseConsumer<Watched>, LogError> {
        let consumer: BaseConsumer<Watched> = self.create(config)?;
        self.introduce(consumer.client())?;
        Ok(consumer)
    }

    /// What the group `name` is called at the brokers.
    pub(super) fn group_of(&self, name: &str) -> String {
        let suffix = self.group_suffix.as_ref().map(|suffix| format!(".{suffix}")).unwrap_or_default();
        format!("{}.{name}{suffix}", self.group)
    }

    /// A member of the group `{prefix}.{name}`, which deals out partitions.
    pub(super) fn member<C: ConsumerContext>(
        &self,
        name: &str,
        context: C,
    ) -> Result<BaseConsumer<C>, LogError> {
        let mut config = self.base.clone();
        config
            .set("group.id", self.group_of(name))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", (limits::KAFKA_MEMBER_S_MAX * 1_000).to_string())
            // A topic that was gone, and is there again, is dealt out again.
            .set("topic.metadata.refresh.interval.ms", (limits::KAFKA_TOPICS_S * 1_000).to_string())
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

/// Remembers what clients say outside of any call, and gives them their tokens.
#[derive(Clone)]
pub(super) struct Watched {
    said: Arc<Mutex<Said>>,
    tokens: Option<Arc<Tokens>>,
}

#[derive(Default)]
struct Said {
    last: Option<String>,
    /// What of it does not pass by itself.
    trouble: Option<Trouble>,
    all_down: bool,
}

impl Watched {
    /// Why no broker can be reached, if so.
    pub(super) fn all_down(&self) -> Option<String> {
        let all_down = lock(&self.said).all_down;
        let why = || self.last_said().unwrap_or_else(|| "no broker can be reached".to_owned());
        all_down.then(why)
    }

    /// The last thing that went wrong: that there is no token before what brokers say to those who have none.
    pub(super) fn last_said(&self) -> Option<String> {
        let no_token = self.tokens.as_ref().and_then(|tokens| tokens.current().err());
        no_token.or_else(|| lock(&self.said).text())
    }

    /// Whether the brokers have said something that does not pass by itself.
    pub(super) fn is_refused(&self) -> bool {
        lock(&self.said).trouble.is_some()
    }

    /// It is over.
    pub(super) fn forget(&self) {
        *lock(&self.said) = Said::default();
    }
}

impl Said {
    fn text(&self) -> Option<String> {
        let trouble = self.trouble.as_ref().map(ToString::to_string);
        trouble.or_else(|| self.last.clone())
    }
}

impl ClientContext for Watched {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        // That all is read is nothing that went wrong.
        if code == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        let mut said = lock(&self.said);
        if code == Some(RDKafkaErrorCode::AllBrokersDown) {
            said.all_down = true;
            return;
        }
        let trouble = code.and_then(|code| trouble::of(code, reason));
        // Every connection of every client says the same, again and again: once is enough.
        if said.last.is_none() || (trouble.is_some() && said.trouble.is_none()) {
            let way_out = trouble.as_ref().map(|trouble| trouble.way_out);
            tracing::warn!(%error, reason, way_out, "kafka");
        }
        said.last = Some(reason.to_owned());
        said.trouble = trouble.or(said.trouble.take());
    }

    /// That a broker hangs up is a line of its log to librdkafka, and no error.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let reason = text.split_once("]: ").map_or(text, |(_, reason)| reason);
        let trouble = trouble::of(RDKafkaErrorCode::BrokerTransportFailure, reason);
        if facility == "FAIL" && trouble.is_some() {
            self.error(KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), reason);
        }
        tracing::debug!(?level, facility, text, "kafka's client");
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens = self.tokens.as_ref().ok_or("log.token says nowhere where tokens come from")?;
        Ok(tokens.current()?)
    }
}

impl ConsumerContext for Watched {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_setting_of_the_clients_makes_holes_in_a_sequence() {
        let mut config = KafkaConfig::new("127.0.0.1:9", "x");
        let theirs = [
            ("message.timeout.ms", "5000"),
            ("max.in.flight", "1000"),
            ("request.required.acks", "1"),
            ("queue.buffering.max.messages", "10"),
            ("queue.buffering.max.kbytes", "16"),
            ("enable.gapless.guarantee", "false"),
        ];
        for (name, value) in theirs {
            config.client.insert(name.to_owned(), value.to_owned());
        }
        let settings = Settings::new(&config, None).unwrap();
        let native = settings.sequencing().create_native_config().unwrap();
        let ours = [
            ("message.timeout.ms", "0"),
            ("max.in.flight.requests.per.connection", "1"),
            ("acks", "-1"),
            ("queue.buffering.max.messages", "20000"),
            ("queue.buffering.max.kbytes", "1048576"),
            ("enable.gapless.guarantee", "true"),
            ("enable.idempotence", "true"),
        ];
        for (name, value) in ours {
            assert_eq!(native.get(name).unwrap().trim_end_matches('\0'), value, "{name}");
        }
        // Nor of the log an acknowledgment by one broker alone.
        let native = settings.producing(Duration::from_secs(9)).create_native_config().unwrap();
        for (name, value) in
            [("message.timeout.ms", "9000"), ("max.in.flight.requests.per.connection", "5"), ("acks", "-1")]
        {
            assert_eq!(native.get(name).unwrap().trim_end_matches('\0'), value, "{name}");
        }
    }
}
