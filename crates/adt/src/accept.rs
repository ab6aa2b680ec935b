//! One way in for all doors: judge, append, acknowledge.
//!
//! What a message is answered is a pure function of its bytes and its source's settings ([`judge`]), so that the fold
//! can say again what was refused and why. Nothing but the log is touched here: an acknowledgment means that the
//! message is on disk, not that it is applied.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hilum_core::{
    Clock, ContentType, Digest, Entropy, Envelope, Id, InstallationKey, Kind, Position, RecordId, Stream,
    Timestamp, Tracer, failpoint,
};
use hilum_engines::log::{Log, LogError};
use hilum_hl7v2::ack::{Acknowledgment, Answer, Headers, Problem, acknowledge, check_decoded};
use hilum_hl7v2::batch::{self, Part};
use hilum_hl7v2::{CharsetSettings, Message, ParseError, Path};
use tracing::Instrument as _;

use crate::acks::AckTimes;
use crate::facts::read::ahead_s;
use crate::held::{HeldBody, Memory};
use crate::limits;
use crate::settings::{OnTransient, SourceSettings};
use crate::sources::{Source, Sources, Told};
use crate::traced::{Steps, Visit};

/// What is known of a message at the door, from its bytes and its source's settings alone.
#[derive(Debug)]
pub struct Judgement<'m> {
    /// Its header, which may be broken.
    pub headers: Headers<'m>,
    /// Why it is refused; absent = it is taken.
    pub refusal: Option<Problem>,
    /// The message, or why it cannot be read: taken all the same, and quarantined under that rule.
    pub parsed: Result<Message, ParseError>,
}

impl Judgement<'_> {
    /// The rule that decided the charset, as envelopes carry it: a rule of the ladder, or why it decided nothing.
    pub fn charset_rule(&self) -> Option<&'static str> {
        match &self.parsed {
            Ok(message) => Some(message.charset().rule().as_str()),
            Err(ParseError::Charset(error)) => Some(error.rule()),
            Err(_) => None,
        }
    }

    /// What the message is answered when it is on disk: `None` where the sender asks for no answer.
    pub fn acknowledgment(&self, record: RecordId, received: Timestamp) -> Option<Acknowledgment> {
        on_disk(&self.headers, self.refusal, record, received)
    }
}

fn on_disk(
    headers: &Headers<'_>,
    refusal: Option<Problem>,
    record: RecordId,
    received: Timestamp,
) -> Option<Acknowledgment> {
    let answer = refusal.map_or(Answer::Accept, Answer::Reject);
    acknowledge(headers, &answer, &ack_id(record), received)
}

/// The control id of our answer: a function of the record, so that the same record is always answered the same. The
/// random end of a UUIDv7, as hexadecimal digits: MSH-10 has 20 characters in older versions.
fn ack_id(record: RecordId) -> String {
    let mut id = record.as_uuid().simple().to_string();
    id.split_off(12)
}

/// How the charset of this source's messages is decided. Names that cannot be used were refused at the start.
pub fn charset_settings(settings: &SourceSettings, content_type: ContentType) -> CharsetSettings {
    let named = CharsetSettings::new(settings.charset.as_deref(), settings.charset_fallback.as_deref())
        .unwrap_or_default();
    match content_type {
        ContentType::Hl7v2Unicode => named.unicode(),
        ContentType::Hl7v2 | ContentType::Decision => named,
    }
}

/// Judges a message: pure, so that the door's answer can be had again from the log.
pub fn judge<'m>(body: &'m Bytes, content_type: ContentType, settings: &SourceSettings) -> Judgement<'m> {
    let headers = Headers::peek(body);
    let refusal = headers.check().err();
    failpoint::hit("judge");
    let parsed = Message::parse(body.clone(), &charset_settings(settings, content_type));
    let blank = || parsed.as_ref().ok().and_then(|message| check_decoded(message).err());
    let refusal = refusal.or_else(blank);
    Judgement { headers, refusal, parsed }
}

/// What is left of a message whose reading makes the program fail: it is taken and answered by its header all the same,
/// and quarantined. Where not even the header can be read, it is answered as one without.
pub fn judge_headers(body: &Bytes) -> Judgement<'_> {
    let peeked = catch_unwind(AssertUnwindSafe(|| {
        let headers = Headers::peek(body);
        let refusal = headers.check().err();
        (headers, refusal)
    }));
    let (headers, refusal) = peeked.unwrap_or_else(|_| (Headers::peek(b""), None));
    Judgement { headers, refusal, parsed: Err(ParseError::Failed) }
}

/// As [`judge`], and [`judge_headers`] where that makes the program fail.
pub fn judge_caught<'m>(
    body: &'m Bytes,
    content_type: ContentType,
    settings: &SourceSettings,
) -> Judgement<'m> {
    catch_unwind(AssertUnwindSafe(|| judge(body, content_type, settings)))
        .unwrap_or_else(|_| judge_headers(body))
}

/// Judges a message, finds its partition, and by how much its sender's clock is ahead. A panic costs neither the message
/// nor its neighbours.
fn judge_and_place<'m>(
    body: &'m Bytes,
    content_type: ContentType,
    source: &Source,
    key: &InstallationKey,
    received: Timestamp,
) -> (Judgement<'m>, Id, Option<i64>) {
    let judged = catch_unwind(AssertUnwindSafe(|| {
        let judgement = judge(body, content_type, source.settings());
        let partition = partition_key(key, &judgement, source);
        let message = judgement.parsed.as_ref().ok();
        let ahead_s = message.and_then(|message| ahead_s(message, source.settings(), received));
        (judgement, partition, ahead_s)
    }));
    judged.unwrap_or_else(|_| {
        tracing::error!("the program failed on a message: it is kept, and quarantined");
        let digest = Digest::of(body);
        let parts: [&[u8]; 3] = [b"message", source.name().as_str().as_bytes(), digest.as_bytes()];
        (judge_headers(body), key.id("Partition", &parts), None)
    })
}

/// The partition key: keyed hash of facility and patient, or of the visit or message where no patient is named. It
/// spreads the work and brings one patient's messages to one worker; the fold does not rest on it.
fn partition_key(key: &InstallationKey, judgement: &Judgement<'_>, source: &Source) -> Id {
    let settings = source.settings();
    let headers = &judgement.headers;
    let alias = |raw: &[u8]| -> Vec<u8> {
        let text = String::from_utf8_lossy(raw);
        let name = text.split(['^', '&']).next().unwrap_or_default();
        let known = settings.authority_aliases.get(&*text).or_else(|| settings.authority_aliases.get(name));
        known.map_or_else(|| cut(name.as_bytes()).to_vec(), |known| known.clone().into_bytes())
    };
    let own = || match &settings.authority {
        Some(authority) => authority.clone().into_bytes(),
        None => match headers.sending_facility() {
            b"" => source.name().as_str().as_bytes().to_vec(),
            facility => alias(facility),
        },
    };
    for identifier in headers.identifiers() {
        let kind = if identifier.kind.is_empty() { settings.blank_type.as_bytes() } else { identifier.kind };
        let authority = if identifier.authority.is_empty() { own() } else { alias(identifier.authority) };
        let is_primary = kind == settings.primary_type.as_bytes()
            && settings.primary_authority.as_ref().is_none_or(|primary| primary.as_bytes() == authority);
        if is_primary && !identifier.value.is_empty() {
            return key.id("Partition", &[b"patient", &authority, cut(identifier.value)]);
        }
    }
    if let Ok(message) = &judgement.parsed {
        let visit = message.get(Path::of("PV1-19.1"));
        if !visit.raw().is_empty() {
            return key.id("Partition", &[b"visit", &own(), cut(visit.raw())]);
        }
    }
    key.id("Partition", &[b"message", &own(), headers.control_id()])
}

fn cut(raw: &[u8]) -> &[u8] {
    raw.get(..limits::KEY_PART_BYTES_MAX).unwrap_or(raw)
}

/// The messages of a body: itself, or those of an FHS/BHS batch, each one of its own.
pub fn messages(body: Bytes) -> Vec<Bytes> {
    let blank = body.iter().take_while(|byte| matches!(byte, b'\r' | b'\n' | b' ' | b'\t')).count();
    let start = body.get(blank..).unwrap_or_default();
    if !start.starts_with(b"FHS") && !start.starts_with(b"BHS") {
        return vec![body];
    }
    let (parts, _) = batch::split(&body);
    let found: Vec<Bytes> = parts
        .into_iter()
        .filter_map(|part| match part {
            Part::Message { bytes, .. } => Some(bytes),
            // No message of a body is larger than the body, which was within the bound.
            Part::TooLarge { .. } | Part::Stray { .. } => None,
        })
        .collect();
    // A batch of nothing is refused as what it is.
    if found.is_empty() { vec![body] } else { found }
}

/// A message as a door hands it over.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The bytes, without MLLP framing.
    pub body: Bytes,
    /// What they are.
    pub content_type: ContentType,
    /// Whom they came from.
    pub source: Arc<Source>,
    /// The peer's address, if there is one.
    pub peer: Option<String>,
    /// When the last byte was here.
    pub received: Timestamp,
    /// W3C trace context of the request.
    pub trace: Option<String>,
    /// The record that this one corrects.
    pub replaces: Option<RecordId>,
}

/// A message that is on disk.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Its record.
    pub record: RecordId,
    /// Its place in the log.
    pub position: Position,
    /// Why it was refused; absent = it was taken.
    pub refusal: Option<Problem>,
    /// Whether there was a message header at all.
    pub is_message: bool,
    /// What it is answered; absent where the sender asked for no answer.
    pub ack: Option<Bytes>,
}

/// Why a message is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It is larger than the bound.
    #[error("message is larger than {size_bytes_max} bytes")]
    TooLarge {
        /// The bound.
        size_bytes_max: usize,
        /// What it may be answered.
        ack: Bytes,
    },
    /// The log did not take it; the sender should send it again.
    #[error("{why}")]
    NotKept {
        /// What the log said.
        why: LogError,
        /// What it may be answered, where an answer is wanted.
        ack: Bytes,
    },
}

impl AcceptError {
    /// What the caller may do.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::TooLarge { .. } => Kind::TooLarge,
            Self::NotKept { .. } => Kind::Transient,
        }
    }
}

/// What a door is made of.
#[derive(Debug)]
pub struct DoorParts {
    /// What came in.
    pub log: Log,
    /// The time.
    pub clock: Clock,
    /// Randomness, for record ids.
    pub entropy: Entropy,
    /// What partition keys are made with.
    pub key: InstallationKey,
    /// Where messages come from.
    pub sources: Arc<Sources>,
    /// When they were answered.
    pub acks: Arc<AckTimes>,
    /// Largest message.
    pub message_bytes_max: usize,
    /// Takes what the steps of a message say of themselves.
    pub tracer: Tracer,
}

#[derive(Debug)]
struct Inner {
    parts: DoorParts,
    memory: Memory,
    /// Why nothing is taken any more.
    shut: OnceLock<String>,
    append_seconds: metrics::Histogram,
    ack_seconds: metrics::Histogram,
}

/// The way in for all doors. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Door(Arc<Inner>);

impl Door {
    /// The door in front of `parts.log`.
    pub fn new(parts: DoorParts) -> Self {
        Self(Arc::new(Inner {
            parts,
            memory: Memory::default(),
            shut: OnceLock::new(),
            append_seconds: metrics::histogram!("hilum_append_seconds"),
            ack_seconds: metrics::histogram!("hilum_ack_seconds"),
        }))
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.0.parts.clock.now()
    }

    /// Where messages come from.
    pub fn sources(&self) -> &Arc<Sources> {
        &self.0.parts.sources
    }

    /// When messages were answered.
    pub fn acks(&self) -> &Arc<AckTimes> {
        &self.0.parts.acks
    }

    /// Largest message, in bytes.
    pub fn message_bytes_max(&self) -> usize {
        self.0.parts.message_bytes_max
    }

    /// Whether a door should read on. A log that is read-only does not hold a door shut: each message is then
    /// answered as its source's `on_transient` says.
    pub fn is_open(&self, in_flight_bytes_max: usize) -> bool {
        self.in_flight_bytes() < in_flight_bytes_max
            && !matches!(self.0.parts.log.ready(0), Err(LogError::Full(_)))
    }

    /// Shuts the door until the process is started anew: each message is answered as its source's `on_transient` says.
    pub fn shut(&self, why: String) {
        self.0.shut.get_or_init(|| why);
    }

    /// Why nothing is taken any more; `None` while it is.
    pub fn is_shut(&self) -> Option<&str> {
        self.0.shut.get().map(String::as_str)
    }

    /// Bytes between read and durable, over all doors.
    pub fn in_flight_bytes(&self) -> usize {
        self.0.memory.in_flight_bytes()
    }

    /// Begins to count an HTTP body that came with the key of this name.
    pub fn body(&self, key: &str) -> HeldBody {
        self.0.memory.body(key)
    }

    /// Takes one message: resolves when it is on disk, with what it is answered.
    ///
    /// # Errors
    /// [`AcceptError`]: it is not on disk and must not be acknowledged as if it were.
    pub async fn accept(&self, incoming: Incoming) -> Result<Accepted, AcceptError> {
        let parts = &self.0.parts;
        let record = parts.entropy.record_id(incoming.received);
        let source = Arc::clone(&incoming.source);
        let span = tracing::info_span!("message", record = %record, source = %source.name());
        self.take(record, incoming).instrument(span).await
    }

    async fn take(&self, record: RecordId, incoming: Incoming) -> Result<Accepted, AcceptError> {
        let Incoming { body, content_type, source, peer, received, trace, replaces } = incoming;
        let parts = &self.0.parts;
        if body.len() > parts.message_bytes_max {
            return Err(AcceptError::TooLarge {
                size_bytes_max: parts.message_bytes_max,
                ack: self.too_large(&source, &body),
            });
        }
        let _held = self.0.memory.message(body.len());
        let (judgement, key, ahead_s) = judge_and_place(&body, content_type, &source, &parts.key, received);
        let of_sender = (trace.as_deref(), received);
        let visit = Visit::begin(&parts.tracer, &parts.clock, record, of_sender, &judgement, body.len());
        let trace = visit.as_ref().map(Visit::carried).or(trace);
        let envelope = Envelope {
            v: Envelope::VERSION,
            id: record,
            stream: Stream::Hl7In,
            source: source.name().clone(),
            settings_sha: source.settings_sha(),
            received,
            peer,
            digest: Digest::of(&body),
            key,
            content_type,
            charset_rule: judgement.charset_rule().map(str::to_owned),
            replaces,
            cipher_key: None,
            trace,
            body: body.clone(),
        };
        // What was parsed is not needed while the disk works.
        let Judgement { headers, refusal, .. } = judgement;
        failpoint::hit("accept");
        let appending = parts.clock.now();
        let appended = match self.is_shut().or_else(|| source.is_shut()) {
            None => parts.log.append(envelope).await,
            Some(why) => Err(LogError::Full(why.to_owned())),
        };
        let position = match appended {
            Ok(position) => position,
            Err(why) => {
                let now = parts.clock.now();
                source.failed(now);
                tracing::warn!(error = %why, "message not kept");
                if let Some(visit) = visit {
                    visit.not_kept(&parts.tracer, source.name(), (appending, now));
                }
                let ack = not_kept(&headers, &source, record, received);
                return Err(AcceptError::NotKept { why, ack });
            }
        };
        let durable = parts.clock.now();
        self.0.append_seconds.record(durable.micros_since(appending).max(0) as f64 / 1e6);
        failpoint::hit("ack");
        let ack = on_disk(&headers, refusal, record, received).map(|ack| ack.bytes);
        let acked = parts.clock.now();
        parts.acks.put(record, acked);
        let told = if refusal.is_some() { Told::Refused } else { Told::Accepted };
        source.told(told, received, acked);
        if let Some(ahead_s) = ahead_s {
            source.clock_ahead(ahead_s, received);
        }
        self.0.ack_seconds.record(acked.micros_since(received).max(0) as f64 / 1e6);
        if let Some(visit) = visit {
            let steps = Steps { appending, durable, acked };
            visit.kept(&parts.tracer, source.name(), steps, refusal.is_some());
        }
        if let Some(problem) = &refusal {
            tracing::warn!(why = problem.text, "message refused and kept");
        } else {
            tracing::debug!("message on disk");
        }
        Ok(Accepted { record, position, refusal, is_message: headers.is_message(), ack })
    }

    /// What a message is answered that was larger than the bound; `head` is its beginning.
    pub fn too_large(&self, source: &Source, head: &[u8]) -> Bytes {
        source.refused_unread();
        let received = self.now();
        let record = self.0.parts.entropy.record_id(received);
        forced(&Headers::peek(head), &Answer::Reject(Problem::TOO_LARGE), record, received)
    }

    /// What a message is answered that is not even read, because nothing is taken now.
    pub fn not_now(&self, source: &Source) -> Bytes {
        let received = self.now();
        source.failed(received);
        not_kept(&Headers::peek(b""), source, self.0.parts.entropy.record_id(received), received)
    }
}

/// The answer to a message that could not be kept for a reason of ours.
fn not_kept(headers: &Headers<'_>, source: &Source, record: RecordId, received: Timestamp) -> Bytes {
    let answer = match source.settings().on_transient {
        OnTransient::Reject => Answer::Reject(Problem::TRANSIENT),
        OnTransient::Close | OnTransient::Error => Answer::Error(Problem::TRANSIENT),
    };
    forced(headers, &answer, record, received)
}

/// An answer also where the sender asked for none: what went wrong below the message is said to whoever is there.
fn forced(headers: &Headers<'_>, answer: &Answer, record: RecordId, received: Timestamp) -> Bytes {
    acknowledge(headers, answer, &ack_id(record), received)
        .or_else(|| acknowledge(&Headers::peek(b""), answer, &ack_id(record), received))
        .map_or_else(Bytes::new, |ack| ack.bytes)
}
