//! Reading back: one consumer that is told what to read, a queue for each partition.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hilum_core::{Position, Stream, Timestamp};
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::producer::{FutureProducer, Producer as _};
use rdkafka::{Offset, Timestamp as BrokerTime, TopicPartitionList};
use tokio::sync::watch;
use tokio::time::Instant;

use super::client::{Settings, Watched};
use super::listing::{Listing, Spot};
use super::names::Names;
use super::{ENVELOPE_HEADER, LogError, lock};
use crate::limits;
use crate::log::stored::{self, Unreadable};
use crate::log::{ReadMax, Record};

/// How long a broker may take.
const WAIT: Duration = Duration::from_secs(limits::KAFKA_READ_S_MAX);

/// Reads every partition that is asked for, ahead of the one who asks.
pub(super) struct Reader {
    names: Names,
    listing: Arc<Listing>,
    /// Asks where partitions end: on a connection on which no fetch waits.
    producer: FutureProducer<Watched>,
    /// Runs of records.
    consumer: Arc<BaseConsumer<Watched>>,
    tails: Mutex<BTreeMap<(Stream, u16), Slot>>,
    /// Single records, so that looking one up does not throw away what was read ahead.
    single: Mutex<Option<BaseConsumer<Watched>>>,
    settings: Arc<Settings>,
    appended: watch::Sender<u64>,
    closed: AtomicBool,
}

/// A partition that is read or not; one at a time reads it.
type Slot = Arc<Mutex<Option<Tail>>>;

/// What comes next of one partition.
struct Tail {
    queue: PartitionQueue<Watched>,
    /// The offset from which the queue goes on; absent after an error.
    next: Option<u64>,
    /// A record that was taken from the queue and did not fit any more.
    held: Option<Record>,
}

impl Tail {
    /// What comes at `position` or behind it, if it comes within `wait`.
    fn next_record(
        &mut self,
        names: &Names,
        topic: &str,
        position: Position,
        wait: Duration,
    ) -> Result<Option<Record>, LogError> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        let until = Instant::now() + wait;
        loop {
            return match self.queue.poll(until.saturating_duration_since(Instant::now())) {
                None => Ok(None),
                // Left from before the place was changed.
                Some(Ok(message))
                    if u64::try_from(message.offset()).unwrap_or_default() < position.offset =>
                {
                    continue;
                }
                // Whatever it was that stood between: it is not stepped over unseen.
                Some(Ok(message))
                    if u64::try_from(message.offset()).is_ok_and(|offset| offset > position.offset) =>
                {
                    Err(missing(position, u64::try_from(message.offset()).unwrap_or_default()))
                }
                Some(Ok(message)) => record(position.stream, position.partition, &message).map(Some),
                Some(Err(why)) => Err(fault(position, names, topic, &why)),
            };
        }
    }
}

impl Reader {
    pub(super) fn start(
        settings: Arc<Settings>,
        names: &Names,
        listing: Arc<Listing>,
        producer: FutureProducer<Watched>,
        appended: watch::Sender<u64>,
    ) -> Result<Arc<Self>, LogError> {
        let reader = Arc::new(Self {
            names: names.clone(),
            listing,
            producer,
            consumer: Arc::new(settings.consumer()?),
            tails: Mutex::default(),
            single: Mutex::default(),
            settings,
            appended,
            closed: AtomicBool::new(false),
        });
        // What is not a record (errors, tokens that run out) is served by a poll of the consumer itself.
        let weak = Arc::downgrade(&reader);
        let serve = move || {
            while let Some(reader) = weak.upgrade().filter(|reader| !reader.closed.load(Ordering::Acquire)) {
                // What goes wrong is said to `Watched` too.
                drop(reader.consumer.poll(Duration::from_millis(limits::KAFKA_RETRY_MS)));
            }
        };
        std::thread::Builder::new()
            .name("log-reader".to_owned())
            .spawn(serve)
            .map_err(|why| LogError::Engine(why.to_string()))?;
        Ok(reader)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// What comes next of a partition, for whoever reads it: one at a time.
    fn tail(&self, stream: Stream, partition: u16) -> Slot {
        Arc::clone(lock(&self.tails).entry((stream, partition)).or_default())
    }

    /// Where a partition stands.
    ///
    /// # Errors
    /// [`LogError::Gone`] while its topic is not there, [`LogError::Engine`] when no topic has it.
    fn spot(&self, stream: Stream, partition: u16) -> Result<Spot, LogError> {
        let spot = self.listing.spot(stream, partition);
        let spot =
            spot.ok_or_else(|| LogError::Engine(format!("there is no partition {partition} of {stream}")))?;
        self.listing.is_there(&spot.topic).map(|()| spot)
    }

    /// The offset that the next record will get.
    pub(super) fn end(&self, stream: Stream, partition: u16) -> Result<u64, LogError> {
        self.bounds(stream, partition).map(|(_, end)| end)
    }

    /// The offset before which all is deleted, and the one that the next record will get.
    fn bounds(&self, stream: Stream, partition: u16) -> Result<(u64, u64), LogError> {
        let Spot { topic, partition: within } = self.spot(stream, partition)?;
        let topic = &*topic;
        let client = self.producer.client();
        let until = Instant::now() + WAIT;
        loop {
            match client.fetch_watermarks(topic, within, WAIT) {
                Ok((begin, end)) => {
                    return Ok((
                        u64::try_from(begin).unwrap_or_default(),
                        u64::try_from(end).unwrap_or_default(),
                    ));
                }
                // Another broker leads since a moment ago: asked who, and then that one.
                Err(why) if has_moved(&why) && Instant::now() < until => {
                    client.fetch_metadata(Some(topic), WAIT).map(drop).unwrap_or_default();
                    std::thread::sleep(Duration::from_millis(limits::KAFKA_MOVED_MS));
                }
                Err(why) => {
                    // It may have been found to be gone meanwhile.
                    self.listing.is_there(topic)?;
                    let denied = self.names.denied(why.rdkafka_error_code(), "Describe", topic);
                    let why = denied.unwrap_or_else(|| why.to_string());
                    return Err(LogError::Engine(format!("{topic}/{within}: {why}")));
                }
            }
        }
    }

    /// As [`crate::log::Log::read`].
    pub(super) fn read(
        &self,
        stream: Stream,
        partition: u16,
        from: u64,
        max: ReadMax,
    ) -> Result<Vec<Record>, LogError> {
        let tail = self.tail(stream, partition);
        let mut tail = lock(&tail);
        let spot =
            self.spot(stream, partition).inspect_err(|_| self.end_tail(&mut tail, stream, partition))?;
        let mut end = None;
        if tail.as_ref().is_none_or(|tail| tail.next != Some(from)) {
            let (begin, known) = self.bounds(stream, partition)?;
            if from < begin {
                return Err(missing(Position { stream, partition, offset: from }, begin));
            }
            end = Some(known);
        }
        // Also when there is nothing: from now on whatever comes wakes who waits.
        let at = from.min(end.unwrap_or(from));
        if self.at(&mut tail, &spot, at).is_err() {
            // The client may have given it up: once more from the beginning.
            self.end_tail(&mut tail, stream, partition);
        }
        let tail = self.at(&mut tail, &spot, at)?;
        let mut records: Vec<Record> = Vec::new();
        let (mut bytes, mut at) = (0, from);
        while records.len() < max.records && end.is_none_or(|end| at < end) {
            let position = Position { stream, partition, offset: at };
            let wait = if end.is_some() && records.is_empty() { WAIT } else { Duration::ZERO };
            let next = match tail.next_record(&self.names, &spot.topic, position, wait) {
                Ok(Some(next)) => next,
                Ok(None) if !records.is_empty() => break,
                Ok(None) if end.is_none() => {
                    end = Some(self.end(stream, partition)?);
                    continue;
                }
                Ok(None) => {
                    tail.next = None;
                    return Err(self.why_not(position, LogError::Engine(format!("{position}: {NOT_GIVEN}"))));
                }
                Err(why) => {
                    tail.next = None;
                    if records.is_empty() {
                        return Err(self.why_not(position, why));
                    }
                    break;
                }
            };
            bytes += next.envelope.body.len();
            if bytes > max.bytes && !records.is_empty() {
                tail.held = Some(next);
                break;
            }
            at = next.position.offset + 1;
            tail.next = Some(at);
            records.push(next);
        }
        Ok(records)
    }

    /// What `why` means for what should stand at `position`: it may have been deleted since it was asked for.
    fn why_not(&self, position: Position, why: LogError) -> LogError {
        match (&why, self.bounds(position.stream, position.partition)) {
            (LogError::Engine(_), Ok((begin, _))) if position.offset < begin => missing(position, begin),
            _ => why,
        }
    }

    /// The partition's queue, going on at `from`.
    fn at<'a>(
        &self,
        tail: &'a mut Option<Tail>,
        Spot { topic, partition }: &Spot,
        from: u64,
    ) -> Result<&'a mut Tail, LogError> {
        let partition = *partition;
        let fails = |why: &dyn std::fmt::Display| LogError::Engine(format!("{topic}/{partition}: {why}"));
        let offset = Offset::Offset(i64::try_from(from).map_err(|why| fails(&why))?);
        if tail.is_none() {
            // First split, then read: nothing may get into the common queue.
            let queue = self.consumer.split_partition_queue(topic, partition);
            let mut queue = queue.ok_or_else(|| fails(&"no such partition"))?;
            let appended = self.appended.clone();
            queue.set_nonempty_callback(move || appended.send_modify(|groups| *groups += 1));
            let mut place = TopicPartitionList::new();
            place.add_partition_offset(topic, partition, offset).map_err(|why| fails(&why))?;
            self.consumer.incremental_assign(&place).map_err(|why| fails(&why))?;
            *tail = Some(Tail { queue, next: Some(from), held: None });
        }
        let tail = tail.as_mut().ok_or_else(|| fails(&"no such partition"))?;
        if tail.next != Some(from) {
            tail.held = None;
            tail.next = None;
            self.consumer.seek(topic, partition, offset, WAIT).map_err(|why| fails(&why))?;
            tail.next = Some(from);
        }
        Ok(tail)
    }

    /// Ends reading what is not there: the client has given such a partition up. If it comes again, it is taken up anew.
    fn end_tail(&self, tail: &mut Option<Tail>, stream: Stream, partition: u16) {
        if tail.take().is_none() {
            return;
        }
        let Some(Spot { topic, partition: within }) = self.listing.spot(stream, partition) else { return };
        let mut place = TopicPartitionList::new();
        place.add_partition(&topic, within);
        if let Err(why) = self.consumer.incremental_unassign(&place) {
            tracing::debug!(%why, %topic, "a partition that is gone was not read any more");
        }
    }

    /// As [`crate::log::Log::get`].
    pub(super) fn get(&self, position: Position) -> Result<Option<Record>, LogError> {
        let Position { stream, partition, offset } = position;
        let (begin, end) = self.bounds(stream, partition)?;
        if offset >= end {
            return Ok(None);
        }
        if offset < begin {
            return Err(missing(position, begin));
        }
        let mut single = lock(&self.single);
        let consumer = match single.take() {
            Some(consumer) => consumer,
            None => self.settings.consumer()?,
        };
        let Spot { topic, partition: within } = self.spot(stream, partition)?;
        let fails = |why: KafkaError| LogError::Engine(format!("{position}: {why}"));
        let mut place = TopicPartitionList::new();
        let at = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        place.add_partition_offset(&topic, within, at).map_err(fails)?;
        consumer.assign(&place).map_err(fails)?;
        let until = Instant::now() + WAIT;
        let found = loop {
            break match consumer.poll(until.saturating_duration_since(Instant::now())) {
                None => Err(self.why_not(position, LogError::Engine(format!("{position}: {NOT_GIVEN}")))),
                // What is told here may be long over: of brokers that were away while nobody asked.
                Some(Err(why)) if has_passed(&why) && Instant::now() < until => continue,
                Some(Err(why)) => Err(fault(position, &self.names, &topic, &why)),
                Some(Ok(message)) if message.offset() != i64::try_from(offset).unwrap_or(i64::MAX) => {
                    Err(missing(position, u64::try_from(message.offset()).unwrap_or_default()))
                }
                Some(Ok(message)) => record(stream, partition, &message).map(Some),
            };
        };
        // It reads on otherwise.
        consumer.assign(&TopicPartitionList::new()).map_err(fails)?;
        *single = Some(consumer);
        found
    }
}

/// A broker that is away, or a transaction that is open or ends the partition: nobody says which.
const NOT_GIVEN: &str = "the brokers do not give it";

fn missing(position: Position, to: u64) -> LogError {
    let Position { stream, partition, offset } = position;
    LogError::Missing { stream, partition, from: offset, to }
}

/// Whether the broker that was asked does not lead the partition (any more, or yet).
fn has_moved(why: &KafkaError) -> bool {
    matches!(
        why.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition
        )
    )
}

/// Whether an error is one of connections, which the client makes again by itself.
fn has_passed(why: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve};
    matches!(
        why.rdkafka_error_code(),
        Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut | Resolve)
    )
}

fn fault(position: Position, names: &Names, topic: &str, why: &KafkaError) -> LogError {
    match why.rdkafka_error_code() {
        Some(RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::InvalidMessage) => {
            LogError::Corrupt { position, why: "it does not fit its checksum".to_owned() }
        }
        code => {
            let denied = names.denied(code, "Read", topic);
            LogError::Engine(format!("{position}: {}", denied.unwrap_or_else(|| why.to_string())))
        }
    }
}

fn record(stream: Stream, partition: u16, message: &BorrowedMessage<'_>) -> Result<Record, LogError> {
    let offset = u64::try_from(message.offset()).unwrap_or_default();
    let position = Position { stream, partition, offset };
    let corrupt = |why: &str| LogError::Corrupt { position, why: why.to_owned() };
    let headers = message.headers().ok_or_else(|| corrupt("it has no headers: who wrote it?"))?;
    let header = headers.iter().find(|header| header.key == ENVELOPE_HEADER).and_then(|header| header.value);
    let header = header.ok_or_else(|| corrupt("it has no envelope: who wrote it?"))?;
    let body = Bytes::copy_from_slice(message.payload().unwrap_or_default());
    let envelope = stored::envelope(stream, header, body).map_err(|why| match why {
        Unreadable::Corrupt(why) => corrupt(why),
        Unreadable::Newer(version) => LogError::Newer { position, version },
    })?;
    let durable = match message.timestamp() {
        BrokerTime::LogAppendTime(millis) => Some(Timestamp::from_micros(millis.saturating_mul(1_000))),
        BrokerTime::NotAvailable | BrokerTime::CreateTime(_) => None,
    };
    Ok(Record { position, durable, envelope: Arc::new(envelope) })
}
