//! Traces: what a message's steps say of themselves to a collector outside. Nothing of a message's content fits into a
//! span: a value is a number, a word of ours, a configured name or a record's id.
//!
//! No I/O: finished spans wait in a bounded queue until the wiring takes them, and whoever finishes one never waits.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::Entropy;
use crate::envelope::{SourceName, Stream};
use crate::id::RecordId;
use crate::limits::{TRACE_BURST_S, TRACE_QUEUE_SPANS_MAX};
use crate::time::Timestamp;

/// The id of one span, never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which span of which trace, and whether it is told: `traceparent` of W3C Trace Context.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace, never all zeros.
    pub trace: [u8; 16],
    /// The span in it.
    pub span: SpanId,
    /// Whether whoever goes on should tell of it.
    pub is_sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent`; `None` for what is none. Of a version beyond 00 what this one knows is taken (W3C Trace
    /// Context, 4.3).
    pub fn parse(raw: &str) -> Option<Self> {
        let mut parts = raw.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let [version] = bytes_of(version)?;
        if version == 0xff || version == 0 && parts.next().is_some() {
            return None;
        }
        let (trace, span, [flags]) = (bytes_of(trace)?, bytes_of(span)?, bytes_of(flags)?);
        (trace != [0; 16] && span != [0; 8]).then_some(Self {
            trace,
            span: SpanId(span),
            is_sampled: flags & 1 == 1,
        })
    }

    /// Another span of the same trace.
    #[must_use]
    pub const fn at(self, span: SpanId) -> Self {
        Self { span, ..self }
    }
}

/// Lower-case hexadecimal digits alone.
fn bytes_of<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if hex.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = digit(*pair.first()?)? << 4 | digit(*pair.last()?)?;
    }
    Some(bytes)
}

/// As `traceparent` says it.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{}-{:02x}", self.span, u8::from(self.is_sampled))
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a step is to the one that it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Answers a request from outside.
    Server,
    /// A part of the step above.
    Internal,
    /// Puts a record into the log.
    Producer,
    /// Takes a record from the log.
    Consumer,
}

/// A value that a span may say. No text of a message is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A count, a size, an offset.
    Number(i64),
    /// A word of the program's own.
    Word(&'static str),
    /// A name of the configuration.
    Source(SourceName),
    /// A record's id.
    Record(RecordId),
    /// A stream of the log.
    Stream(Stream),
}

/// One step of one message, finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Which one.
    pub context: TraceContext,
    /// The step that it is a part of, or follows.
    pub parent: Option<SpanId>,
    /// What was done.
    pub name: &'static str,
    /// What it is to its parent.
    pub kind: SpanKind,
    /// When it began.
    pub start: Timestamp,
    /// When it ended; a clock that was set back meanwhile makes it `start`.
    pub end: Timestamp,
    /// What it says.
    pub says: Vec<(&'static str, Said)>,
    /// Why it failed, if it did.
    pub failed: Option<&'static str>,
}

/// Which traces are told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Of messages that nobody chose, this part: 0 to 1.
    pub ratio: f64,
    /// New traces in a second, whoever chose them.
    pub per_second_max: u32,
}

#[derive(Debug)]
struct Pace {
    left: f64,
    at: Timestamp,
}

#[derive(Debug)]
struct Inner {
    sampling: Sampling,
    entropy: Entropy,
    is_open: AtomicBool,
    pace: Mutex<Pace>,
    queue: Mutex<VecDeque<Span>>,
    dropped: AtomicU64,
}

/// Takes finished spans. Cheap to clone; one for a process. Tells nothing before [`Tracer::open`].
#[derive(Debug, Clone)]
pub struct Tracer(Arc<Inner>);

impl Tracer {
    /// One that tells what `sampling` says, once it is open.
    pub fn new(sampling: Sampling, entropy: Entropy) -> Self {
        let left = f64::from(sampling.per_second_max) * TRACE_BURST_S;
        Self(Arc::new(Inner {
            sampling,
            entropy,
            is_open: AtomicBool::new(false),
            pace: Mutex::new(Pace { left, at: Timestamp::default() }),
            queue: Mutex::default(),
            dropped: AtomicU64::new(0),
        }))
    }

    /// One that never tells anything.
    pub fn off() -> Self {
        Self::new(Sampling { ratio: 0.0, per_second_max: 0 }, Entropy::new(|_| {}))
    }

    /// Somebody takes what is finished from now on.
    pub fn open(&self) {
        self.0.is_open.store(true, Ordering::Release);
    }

    /// Whether somebody takes what is finished. Nothing else needs to be asked while nobody does.
    pub fn is_open(&self) -> bool {
        self.0.is_open.load(Ordering::Acquire)
    }

    /// A new span's id.
    pub fn span_id(&self) -> SpanId {
        let mut id: [u8; 8] = self.0.entropy.bytes();
        id[7] |= u8::from(id == [0; 8]);
        SpanId(id)
    }

    /// Where the trace of a message begins: in the sender's, if he said one, else in one that is named by the record.
    /// Told when the sender does, or the ratio says so, and there have not been too many.
    pub fn begin(&self, record: RecordId, sender: Option<TraceContext>, now: Timestamp) -> TraceContext {
        let trace = sender.map_or_else(|| record.as_uuid().into_bytes(), |sender| sender.trace);
        let is_chosen = sender.is_some_and(|sender| sender.is_sampled) || self.is_in_ratio(trace);
        TraceContext { trace, span: self.span_id(), is_sampled: is_chosen && self.may_begin(now) }
    }

    /// Whether one more trace may be told in this second.
    pub fn may_begin(&self, now: Timestamp) -> bool {
        let per_second = f64::from(self.0.sampling.per_second_max);
        let mut pace = lock(&self.0.pace);
        let passed_s = now.micros_since(pace.at).max(0) as f64 / 1e6;
        pace.left = (pace.left + passed_s * per_second).min(per_second * TRACE_BURST_S);
        pace.at = now;
        let may = pace.left >= 1.0;
        if may {
            pace.left -= 1.0;
        }
        may
    }

    /// By the last 56 bits of the trace's id, which are random in a record's id too: whoever else samples by them chooses
    /// the same ones (W3C Trace Context, level 2).
    fn is_in_ratio(&self, trace: [u8; 16]) -> bool {
        let random = trace.iter().skip(9).fold(0_u64, |so_far, &byte| so_far << 8 | u64::from(byte));
        (random as f64) < self.0.sampling.ratio * (1_u64 << 56) as f64
    }

    /// Takes a finished span; drops and counts it where too many wait.
    pub fn finish(&self, mut span: Span) {
        span.end = span.end.max(span.start);
        let mut queue = lock(&self.0.queue);
        if queue.len() < TRACE_QUEUE_SPANS_MAX {
            queue.push_back(span);
        } else {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The oldest finished spans, at most `max`.
    pub fn take(&self, max: usize) -> Vec<Span> {
        let mut queue = lock(&self.0.queue);
        let count = queue.len().min(max);
        queue.drain(..count).collect()
    }

    /// Spans that were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

/// A panic elsewhere leaves a queue that is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const W3C: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn tracer(ratio: f64, per_second_max: u32) -> Tracer {
        Tracer::new(Sampling { ratio, per_second_max }, Entropy::seeded(1))
    }

    #[test]
    fn only_a_traceparent_is_one() {
        let cases = [
            ("the standard's example", W3C, Some(true)),
            ("not sampled", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", Some(false)),
            ("other flags beside it", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", Some(true)),
            (
                "a later version, longer",
                "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
                Some(true),
            ),
            ("longer than its version is", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", None),
            ("the version that never is", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
            ("capitals", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None),
            ("no trace", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
            ("no span", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None),
            (
                "digits and dashes of the right length",
                "--------------------------------------------------------",
                None,
            ),
            ("cut", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", None),
            ("a letter of two bytes", "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01", None),
            ("nothing", "", None),
        ];
        for (why, raw, want) in cases {
            assert_eq!(TraceContext::parse(raw).map(|one| one.is_sampled), want, "{why}");
        }
        assert_eq!(TraceContext::parse(W3C).unwrap().to_string(), W3C, "there and back");
    }

    #[test]
    fn a_part_of_the_messages_begins_a_trace() {
        let (tracer, entropy) = (tracer(0.25, u32::MAX), Entropy::seeded(2));
        let chosen = (0..4_000)
            .filter(|ms| {
                let now = Timestamp::from_micros(1_800_000_000_000_000 + ms * 1_000);
                tracer.begin(entropy.record_id(now), None, now).is_sampled
            })
            .count();
        assert!((900..1_100).contains(&chosen), "{chosen}");
    }

    #[test]
    fn the_sender_chooses_and_the_pace_holds() {
        let tracer = tracer(0.0, 10);
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let record = Entropy::seeded(3).record_id(now);
        assert!(!tracer.begin(record, None, now).is_sampled);
        let sender = TraceContext::parse(W3C);
        let first = tracer.begin(record, sender, now);
        assert_eq!((first.trace, first.is_sampled), (sender.unwrap().trace, true));
        assert_ne!(first.span, sender.unwrap().span);
        let more = (0..100).filter(|_| tracer.begin(record, sender, now).is_sampled).count();
        assert!((9..=(10.0 * TRACE_BURST_S) as usize).contains(&more), "{more}");
        let later = Timestamp::from_micros(now.as_micros() + 100_000);
        assert!(tracer.begin(record, sender, later).is_sampled, "a tenth of a second, one more");
        assert!(!tracer.begin(record, sender, later).is_sampled);
        // A clock that was set back neither opens the gate nor shuts it for ever.
        assert!(!tracer.begin(record, sender, now).is_sampled);
        assert!(tracer.begin(record, sender, later).is_sampled);
    }

    #[test]
    fn what_nobody_takes_is_dropped_and_counted() {
        let tracer = tracer(1.0, 1);
        let span = Span {
            context: TraceContext::parse(W3C).unwrap(),
            parent: None,
            name: "receive",
            kind: SpanKind::Server,
            start: Timestamp::from_micros(2),
            end: Timestamp::from_micros(1),
            says: Vec::new(),
            failed: None,
        };
        for _ in 0..TRACE_QUEUE_SPANS_MAX + 3 {
            tracer.finish(span.clone());
        }
        assert_eq!(tracer.dropped(), 3);
        let taken = tracer.take(10);
        assert_eq!((taken.len(), taken[0].end), (10, span.start), "no step ends before it began");
        assert_eq!(tracer.take(usize::MAX).len(), TRACE_QUEUE_SPANS_MAX - 10);
    }
}
