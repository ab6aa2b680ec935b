//! The log on Kafka: one topic a stream and one for each source that has its own, one partition for one of ours, the body
//! as value and the envelope in a header (`docs/EVENTS.md`).
//!
//! - `append` resolves when the brokers have acknowledged as `acks=all` means it; the producer is idempotent. A time-out
//!   says nothing about the record: [`LogError::Unknown`].
//! - Offsets are kept in the tables, beside the effects. Kafka's own offsets and transactions are not used.
//! - Which life of the log this is, and which topics it has, stands in a topic of its own (`list`); by which numbers their
//!   partitions are known, `listing` says.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hilum_core::{Clock, Digest, Entropy, Envelope, Epoch, Position, Stream, Timestamp, TraceContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use tokio::sync::{Semaphore, watch};

use self::client::{Settings, Watched};
pub use self::config::{Durability, KafkaConfig};
pub use self::feed::{Feed, Last, Mark, Placed, Tail};
use self::listing::{Listing, Spot};
use self::names::Names;
use self::reader::Reader;
use self::token::Tokens;
use self::topics::{Found, Making};
use super::{LogError, LogHealth, ReadMax, Record, Share, partition_of, stored};
use crate::limits;

pub mod checkup;
mod client;
mod cluster;
mod config;
mod feed;
mod list;
mod listing;
mod names;
mod promise;
mod reader;
mod share;
mod token;
mod topics;
mod trouble;
mod watching;

#[cfg(feature = "msk-iam")]
pub use token::MskIam;
pub use token::{Oauth, TokenSource};

/// The header of a record in which its envelope stands as JSON.
pub const ENVELOPE_HEADER: &str = "hilum-envelope";
/// The header in which its trace stands, as W3C Trace Context says it: for readers who know nothing of envelopes.
pub const TRACE_HEADER: &str = "traceparent";

/// The log on Kafka. Cheap to clone.
#[derive(Clone)]
pub struct Kafka {
    inner: Arc<Inner>,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka").field("names", &self.inner.names).finish_non_exhaustive()
    }
}

struct Inner {
    settings: Arc<Settings>,
    names: Names,
    making: Making,
    listing: Arc<Listing>,
    /// The numbers of the topics of sources that this process writes into them.
    own_topics: BTreeMap<String, u16>,
    /// How far `{prefix}.log` is read.
    list_end: AtomicI64,
    epoch: Epoch,
    made: Timestamp,
    durability: &'static str,
    /// Brokers that must have a record before it is acknowledged.
    in_sync: usize,
    /// Whoever asks how the log does may stand outside of it.
    runtime: tokio::runtime::Handle,
    queue_bytes_max: usize,
    /// One permit for each byte that may wait.
    queue: Arc<Semaphore>,
    producer: FutureProducer<Watched>,
    watched: Watched,
    reader: Arc<Reader>,
    appended: watch::Sender<u64>,
    closed: AtomicBool,
    /// Why nothing is accepted just now; somebody is looking whether it is over.
    down: Mutex<Option<String>>,
    /// Why nothing is accepted any more.
    broken: Mutex<Option<String>>,
}

impl Kafka {
    /// Opens the log, and makes its topics when there are none.
    ///
    /// # Errors
    /// [`LogError::Engine`] names what is missing: a broker, a right, a topic of a log that is otherwise there, a
    /// setting that the promise needs.
    pub async fn open(config: KafkaConfig, clock: &Clock, entropy: &Entropy) -> Result<Self, LogError> {
        let names = Names::new(&config.prefix)?;
        let tokens = match config.token.clone() {
            Some(source) => Some(Tokens::start(source, clock.clone()).await?),
            None => None,
        };
        let settings = Arc::new(Settings::new(&config, tokens)?);
        let appended = watch::Sender::new(0);
        let found = topics::open(&settings, &names, &config, clock, entropy).await?;
        let Found { listing, list_end, epoch, made, durability, in_sync } = found;
        let listing = Arc::new(listing);
        let own_topics = config.own_topics.iter();
        let own_topics = own_topics
            .filter_map(|source| Some((source.clone(), listing.number_of(&names.of_source(source))?)))
            .collect();
        let producer = settings.producer(config.delivery_max)?;
        let watched = settings.watched.clone();
        let reader = Reader::start(
            Arc::clone(&settings),
            &names,
            Arc::clone(&listing),
            producer.clone(),
            appended.clone(),
        )?;
        let queue_bytes_max = config.queue_bytes_max.min(Semaphore::MAX_PERMITS);
        let inner = Inner {
            settings,
            names,
            making: Making::of_log(&config),
            listing,
            own_topics,
            list_end: AtomicI64::new(list_end),
            epoch,
            made,
            durability,
            in_sync,
            runtime: tokio::runtime::Handle::current(),
            queue_bytes_max,
            queue: Arc::new(Semaphore::new(queue_bytes_max)),
            producer,
            watched,
            reader,
            appended,
            closed: AtomicBool::new(false),
            down: Mutex::default(),
            broken: Mutex::default(),
        };
        let inner = Arc::new(inner);
        tokio::spawn(Inner::watch_topics(Arc::downgrade(&inner)));
        Ok(Self { inner })
    }

    /// See [`super::Log::append`].
    ///
    /// # Errors
    /// As there; [`LogError::TooLarge`] beyond the bound, [`LogError::Engine`] when the digest is not the body's.
    pub async fn append(&self, envelope: Envelope) -> Result<Position, LogError> {
        let number = match envelope.stream {
            Stream::Hl7In => self.inner.own_topics.get(envelope.source.as_str()).copied(),
            Stream::Decisions => None,
        };
        self.append_to(number.unwrap_or_default(), envelope).await
    }

    /// See [`super::Log::append_beside`].
    ///
    /// # Errors
    /// As [`Kafka::append`].
    pub async fn append_beside(&self, beside: Position, envelope: Envelope) -> Result<Position, LogError> {
        self.known(beside.stream, beside.partition).await?;
        let number = beside.partition.checked_div(self.inner.listing.each()).unwrap_or_default();
        self.append_to(if beside.stream == envelope.stream { number } else { 0 }, envelope).await
    }

    /// Appends to the topic `number` of the envelope's stream.
    async fn append_to(&self, number: u16, envelope: Envelope) -> Result<Position, LogError> {
        let inner = &self.inner;
        inner.accepting()?;
        let header = stored::header(&envelope).map_err(|why| LogError::Engine(format!("header: {why}")))?;
        let size_bytes = header.len() + envelope.body.len();
        inner.fits(size_bytes)?;
        // Durable but unreadable would be worse than refused.
        if Digest::of(&envelope.body) != envelope.digest {
            return Err(LogError::Engine("the digest is not the body's".to_owned()));
        }
        // Unconstrained: the runtime's budget would put off some of a connection's pipelined messages and so change
        // their order.
        let room = Arc::clone(&inner.queue).acquire_many_owned(size_bytes as u32);
        let permit =
            tokio::task::unconstrained(room).await.map_err(|_| LogError::ReadOnly("closed".to_owned()))?;
        let stream = envelope.stream;
        let each = inner.listing.each();
        let partition = inner.listing.numbered(number, partition_of(envelope.key, each));
        let partition = partition.ok_or_else(|| unknown(stream, number))?;
        let spot = inner.listing.spot(stream, partition).ok_or_else(|| unknown(stream, partition))?;
        inner.listing.is_there(&spot.topic)?;
        let key = envelope.key.to_string();
        let mut headers = OwnedHeaders::new_with_capacity(2)
            .insert(Header { key: ENVELOPE_HEADER, value: Some(header.as_slice()) });
        let trace = envelope.trace.as_deref().and_then(trace_header);
        if let Some(trace) = &trace {
            headers = headers.insert(Header { key: TRACE_HEADER, value: Some(trace.as_bytes()) });
        }
        let record = FutureRecord::to(&spot.topic)
            .partition(spot.partition)
            .key(&key)
            .payload(envelope.body.as_ref())
            .headers(headers);
        let before = inner.listing.floor(&spot);
        let sent = inner.producer.send_result(record).map_err(|(why, _)| inner.refused(&why, &spot))?;
        let delivered = sent.await.map_err(|_| LogError::Unknown("the producer was closed".to_owned()))?;
        drop(permit);
        match delivered {
            Ok(delivery) => {
                let offset = placed_at(delivery.offset)?;
                if offset < before {
                    return Err(inner.made_anew(&spot, before, offset));
                }
                inner.listing.raise_floor(&spot, offset + 1);
                inner.appended.send_modify(|groups| *groups += 1);
                Ok(Position { stream, partition, offset })
            }
            Err((why, _)) => Err(inner.failed(&why, &spot)),
        }
    }

    /// See [`super::Log::ready`].
    ///
    /// # Errors
    /// As there.
    pub fn ready(&self, size_bytes: usize) -> Result<(), LogError> {
        let inner = &self.inner;
        inner.accepting()?;
        inner.fits(size_bytes)?;
        if inner.queue.available_permits() < size_bytes {
            return Err(LogError::Full(format!("{} bytes wait for the brokers", inner.queue_bytes())));
        }
        Ok(())
    }

    /// See [`super::Log::read`]. What stands before an unreadable record is given back; the next read names it.
    ///
    /// # Errors
    /// As there.
    pub async fn read(
        &self,
        stream: Stream,
        partition: u16,
        from: u64,
        max: ReadMax,
    ) -> Result<Vec<Record>, LogError> {
        self.known(stream, partition).await?;
        let reader = Arc::clone(&self.inner.reader);
        blocking(move || reader.read(stream, partition, from, max)).await
    }

    /// See [`super::Log::get`].
    ///
    /// # Errors
    /// As there.
    pub async fn get(&self, position: Position) -> Result<Option<Record>, LogError> {
        self.known(position.stream, position.partition).await?;
        let reader = Arc::clone(&self.inner.reader);
        blocking(move || reader.get(position)).await
    }

    /// See [`super::Log::end`].
    ///
    /// # Errors
    /// [`LogError::Engine`] when there is no such partition, or no broker answers.
    pub async fn end(&self, stream: Stream, partition: u16) -> Result<u64, LogError> {
        self.known(stream, partition).await?;
        let reader = Arc::clone(&self.inner.reader);
        blocking(move || reader.end(stream, partition)).await
    }

    /// See [`super::Log::appended`]: of this process, and of what others append to partitions that this one reads.
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.inner.appended.subscribe()
    }

    /// See [`super::Log::share`].
    ///
    /// # Errors
    /// [`LogError::Engine`] when the group cannot be asked for.
    pub fn share(&self, name: &str) -> Result<watch::Receiver<Share>, LogError> {
        share::join(&self.inner.settings, &self.inner.listing, name)
    }

    /// See [`super::Log::feed`].
    ///
    /// # Errors
    /// As there.
    pub async fn feed(&self) -> Result<Feed, LogError> {
        let inner = &self.inner;
        Feed::open(Arc::clone(&inner.settings), &inner.names, inner.making).await
    }

    /// See [`super::Log::partitions`].
    pub fn partitions(&self, stream: Stream) -> u16 {
        self.inner.listing.partitions(stream)
    }

    /// See [`super::Log::grown`].
    pub async fn grown(&self, known: usize) {
        let listing = &self.inner.listing;
        let each = usize::from(listing.each());
        let mut topics = listing.grown();
        // One more for the decisions. It ends with the log.
        topics.wait_for(|messages| (messages.len() + 1) * each > known).await.map(drop).unwrap_or_default();
    }

    /// See [`super::Log::topic`].
    pub fn topic(&self, stream: Stream, partition: u16) -> Option<Arc<str>> {
        self.inner.listing.spot(stream, partition).map(|spot| spot.topic)
    }

    /// See [`super::Log::epoch`].
    pub fn epoch(&self) -> Epoch {
        self.inner.epoch
    }

    /// See [`super::Log::place`].
    pub fn place(&self) -> String {
        format!("topics {} at {}", self.inner.names.all(), self.inner.settings.brokers)
    }

    /// See [`super::Log::created`].
    pub fn created(&self) -> Timestamp {
        self.inner.made
    }

    /// See [`super::Log::health`].
    pub fn health(&self) -> LogHealth {
        let inner = &self.inner;
        inner.notice();
        LogHealth {
            read_only: lock(&inner.broken).clone(),
            full: lock(&inner.down).clone(),
            held: None,
            damaged: Vec::new(),
            gone: inner.listing.all_gone(),
            queue_bytes: inner.queue_bytes(),
            durability: inner.durability,
        }
    }

    /// See [`super::Log::look`]: asked now and then, so that an outage is not first heard of when it has passed.
    pub fn notice(&self) {
        self.inner.notice();
    }

    /// Whether there is such a partition: a topic that another process has added since the last look is one.
    async fn known(&self, stream: Stream, partition: u16) -> Result<(), LogError> {
        let inner = &self.inner;
        if inner.listing.spot(stream, partition).is_some() {
            return Ok(());
        }
        inner.read_list().await?;
        inner.listing.spot(stream, partition).map(drop).ok_or_else(|| unknown(stream, partition))
    }

    /// See [`super::Log::close`].
    pub async fn close(&self) {
        let inner = Arc::clone(&self.inner);
        inner.closed.store(true, Ordering::Release);
        let flushed = blocking(move || {
            inner.reader.close();
            let wait = Duration::from_secs(limits::KAFKA_DELIVERY_S_MAX);
            inner.producer.flush(wait).map_err(|why| LogError::Engine(why.to_string()))
        });
        if let Err(why) = flushed.await {
            tracing::warn!(%why, "not everything that waited was written out: it was not acknowledged either");
        }
    }
}

impl Inner {
    fn queue_bytes(&self) -> usize {
        self.queue_bytes_max.saturating_sub(self.queue.available_permits())
    }

    fn fits(&self, size_bytes: usize) -> Result<(), LogError> {
        let size_bytes_max = limits::LOG_RECORD_BYTES_MAX.min(self.queue_bytes_max);
        if size_bytes > size_bytes_max {
            return Err(LogError::TooLarge { size_bytes, size_bytes_max });
        }
        Ok(())
    }

    /// Whether a record would be taken at all just now.
    fn accepting(self: &Arc<Self>) -> Result<(), LogError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(LogError::ReadOnly("closed".to_owned()));
        }
        self.notice();
        if let Some(why) = &*lock(&self.broken) {
            return Err(LogError::ReadOnly(why.clone()));
        }
        lock(&self.down).as_ref().map_or(Ok(()), |why| Err(LogError::Full(why.clone())))
    }

    /// Takes in what the client has said on its own.
    fn notice(self: &Arc<Self>) {
        if let Some(why) = self.watched.all_down() {
            self.turn_down(why);
        }
    }

    /// The producer did not take it.
    fn refused(self: &Arc<Self>, why: &KafkaError, spot: &Spot) -> LogError {
        match why {
            KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => {
                LogError::Full("the producer's queue is full".to_owned())
            }
            other => self.failed(other, spot),
        }
    }

    /// The brokers did not acknowledge it.
    fn failed(self: &Arc<Self>, why: &KafkaError, Spot { topic, .. }: &Spot) -> LogError {
        let denied = |code| self.names.denied(code, "Write", topic);
        if let Some((code, fatal)) = self.producer.client().fatal_error() {
            // Without any topic to write to there is not even a producer.
            let why = denied(Some(code)).unwrap_or_else(|| format!("the producer failed for good: {fatal}"));
            tracing::error!(why, "the log is read-only until a restart");
            lock(&self.broken).get_or_insert_with(|| why.clone());
            return LogError::ReadOnly(why);
        }
        // It waited for a topic that is not there: no reason to refuse what goes elsewhere.
        if let Err(gone) = self.listing.is_there(topic) {
            return gone;
        }
        let code = why.rdkafka_error_code();
        match code {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => LogError::Engine(
                "the topic's max.message.bytes is smaller than what it was opened with".to_owned(),
            ),
            Some(
                RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition,
            ) => self.listing.gone(topic),
            // It may stand in the log, or come to stand there.
            Some(
                RDKafkaErrorCode::MessageTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::NotEnoughReplicasAfterAppend
                | RDKafkaErrorCode::PurgeInflight,
            ) => {
                let said = self.watched.last_said();
                let why = said.unwrap_or_else(|| "the brokers did not acknowledge in time".to_owned());
                self.turn_down(why.clone());
                LogError::Unknown(why)
            }
            _ => LogError::Engine(denied(code).unwrap_or_else(|| why.to_string())),
        }
    }

    /// A record stands before one that was acknowledged before it was sent: what that one stood in is gone.
    fn made_anew(&self, Spot { topic, partition }: &Spot, before: u64, offset: u64) -> LogError {
        let why = format!(
            "topic {topic} was made anew: partition {partition} keeps a record at {offset}, where {before} were kept before. \
             What was acknowledged is not in it: stop every process, restore the topic from a mirror; else `hilum rebuild \
             chart --behind keep` goes on with this one and keeps what stands"
        );
        tracing::error!(why, "the log is read-only until a restart");
        lock(&self.broken).get_or_insert_with(|| why.clone());
        LogError::ReadOnly(why)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unknown(stream: Stream, partition: u16) -> LogError {
    LogError::Engine(format!("there is no partition {partition} of {stream}"))
}

/// librdkafka waits in its caller's thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(work).await.map_err(|why| LogError::Engine(why.to_string()))?
}

/// What stands in [`TRACE_HEADER`]. What came from elsewhere (an archive, say) may be anything; our own is as it must be.
fn trace_header(raw: &str) -> Option<Cow<'_, str>> {
    let trace = TraceContext::parse(raw)?;
    // Of a later version there may be more than we know.
    Some(if raw.starts_with("00-") { Cow::Borrowed(raw) } else { Cow::Owned(trace.to_string()) })
}

/// Where a broker says that it keeps a record. The client acknowledges by itself, without a place, what it sent before
/// something that was taken; a broker that knows nothing of the sender yet takes a later request while it still refuses
/// an earlier one, and then keeps nothing of that.
fn placed_at(offset: i64) -> Result<u64, LogError> {
    u64::try_from(offset).map_err(|_| LogError::Unknown("the broker named no offset".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_told_in_the_form_that_everybody_reads() {
        let ours = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let cases = [
            ("ours", ours.to_owned(), Some(ours)),
            ("of a later version", format!("{}-Kim", ours.replacen("00", "01", 1)), Some(ours)),
            ("with more than the form has", format!("{ours}-Kim"), None),
            ("no trace", "Kim".to_owned(), None),
        ];
        for (why, raw, want) in cases {
            assert_eq!(trace_header(&raw).as_deref(), want, "{why}");
        }
    }

    #[test]
    fn an_acknowledgment_without_a_place_is_none() {
        assert!(matches!(placed_at(0), Ok(0)));
        // RD_KAFKA_OFFSET_INVALID, and what a broker answers that does not say.
        for nowhere in [-1_001, -1] {
            assert!(matches!(placed_at(nowhere), Err(LogError::Unknown(_))), "{nowhere}");
        }
    }
}
