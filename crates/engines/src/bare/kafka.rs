//! A bare producer: the floor of a log on Kafka.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};

use super::BareError;
use crate::limits;

/// How long the cluster may take for what is left at the end.
const PATIENCE: Duration = Duration::from_mins(2);

/// Makes `topic` with as many partitions, copied as the cluster does by itself, and produces `bodies` into it with the
/// settings of our own producer and never more than `in_flight` unanswered. Gives the time from the first record to the
/// last acknowledgment. `elapsed` is a clock that only grows.
///
/// # Errors
/// [`BareError::Kafka`] when the cluster does not take all of it.
pub async fn produce(
    brokers: &str,
    topic: &str,
    partitions: u16,
    bodies: &[Vec<u8>],
    in_flight: i32,
    elapsed: impl Fn() -> Duration,
) -> Result<Duration, BareError> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let wanted = NewTopic::new(topic, i32::from(partitions), TopicReplication::Fixed(-1));
    for made in admin.create_topics(&[wanted], &AdminOptions::new()).await? {
        made.map_err(|(_, why)| rdkafka::error::KafkaError::AdminOp(why))?;
    }
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("max.in.flight.requests.per.connection", "5")
        .set("linger.ms", limits::KAFKA_LINGER_MS.to_string())
        .set("queue.buffering.max.messages", "1000000");
    let producer: BaseProducer<DefaultProducerContext> = config.create()?;
    // The topic's leaders are known before the clock counts.
    producer.client().fetch_metadata(Some(topic), PATIENCE)?;
    let begun = elapsed();
    for (n, body) in bodies.iter().enumerate() {
        while producer.in_flight_count() >= in_flight {
            producer.poll(Duration::from_millis(1));
        }
        let partition = i32::try_from(n % usize::from(partitions)).unwrap_or(0);
        let record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(body);
        producer.send(record).map_err(|(why, _)| why)?;
    }
    producer.flush(PATIENCE)?;
    Ok(elapsed().saturating_sub(begun))
}
