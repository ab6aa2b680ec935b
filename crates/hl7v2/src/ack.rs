//! Acknowledgments (chapter 2, message acknowledgment; clinical-rules 23 and 24): the one place that turns what
//! happened at a door into an answer.

use bytes::Bytes;
use encoding_rs::Encoding;
use hilum_core::{Timestamp, is_blank};

use crate::delimiters::{DelimiterError, Delimiters};
use crate::escape;
use crate::finding::Flaws;
use crate::limits::{HEADER_BYTES_MAX, HEADER_FIELD_BYTES_MAX, PEEK_IDENTIFIERS_MAX};
use crate::message::{self, Message, ParseError};
use crate::path::Path;
use crate::split::{self, Pieces};
use crate::time;

/// Table 0357.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// 100.
    SegmentSequence,
    /// 101.
    RequiredFieldMissing,
    /// 102.
    DataType,
    /// 103.
    TableValueNotFound,
    /// 104.
    ValueTooLong,
    /// 198.
    NonConformantCardinality,
    /// 199.
    Other,
    /// 200.
    UnsupportedMessageType,
    /// 201.
    UnsupportedEvent,
    /// 202.
    UnsupportedProcessingId,
    /// 203.
    UnsupportedVersion,
    /// 204.
    UnknownKey,
    /// 205.
    DuplicateKey,
    /// 206.
    RecordLocked,
    /// 207.
    Internal,
}

impl ErrorCode {
    /// The code and its text.
    pub const fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::SegmentSequence => ("100", "Segment sequence error"),
            Self::RequiredFieldMissing => ("101", "Required field missing"),
            Self::DataType => ("102", "Data type error"),
            Self::TableValueNotFound => ("103", "Table value not found"),
            Self::ValueTooLong => ("104", "Value too long"),
            Self::NonConformantCardinality => ("198", "Non-Conformant Cardinality"),
            Self::Other => ("199", "Other HL7 Error"),
            Self::UnsupportedMessageType => ("200", "Unsupported message type"),
            Self::UnsupportedEvent => ("201", "Unsupported event code"),
            Self::UnsupportedProcessingId => ("202", "Unsupported processing id"),
            Self::UnsupportedVersion => ("203", "Unsupported version id"),
            Self::UnknownKey => ("204", "Unknown key identifier"),
            Self::DuplicateKey => ("205", "Duplicate key identifier"),
            Self::RecordLocked => ("206", "Application record locked"),
            Self::Internal => ("207", "Application error"),
        }
    }
}

/// Table 0516.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// `E`.
    Error,
    /// `F`.
    Fatal,
    /// `I`.
    Information,
    /// `W`.
    Warning,
}

impl Severity {
    /// The code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "E",
            Self::Fatal => "F",
            Self::Information => "I",
            Self::Warning => "W",
        }
    }
}

/// What an ERR segment says. Its text is of the source code, so that no patient data can get into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    /// ERR-2.
    pub location: Option<Path>,
    /// ERR-3.
    pub code: ErrorCode,
    /// ERR-4.
    pub severity: Severity,
    /// ERR-8.
    pub text: &'static str,
}

impl Problem {
    /// An error at `location`.
    pub const fn at(location: Path, code: ErrorCode, text: &'static str) -> Self {
        Self { location: Some(location), code, severity: Severity::Error, text }
    }

    /// An error of the message as a whole.
    pub const fn whole(code: ErrorCode, text: &'static str) -> Self {
        Self { location: None, code, severity: Severity::Error, text }
    }

    /// A fault of ours: the same message may be sent again later (rule 24).
    pub const TRANSIENT: Self = Self::whole(ErrorCode::Internal, "not stored: send again later");

    /// MSH-9 is empty, or says nothing.
    pub const NO_TYPE: Self =
        Self::at(Path::of("MSH-9"), ErrorCode::RequiredFieldMissing, "message type is missing");

    /// MSH-10 is empty, or says nothing.
    pub const NO_CONTROL_ID: Self =
        Self::at(Path::of("MSH-10"), ErrorCode::RequiredFieldMissing, "message control id is missing");

    /// The frame was larger than the cap.
    pub const TOO_LARGE: Self = Self::whole(ErrorCode::ValueTooLong, "message is larger than the cap");
}

impl From<ParseError> for Problem {
    fn from(error: ParseError) -> Self {
        let (code, text) = match error {
            ParseError::NoHeader => (ErrorCode::SegmentSequence, "no MSH segment"),
            ParseError::SecondHeader => (ErrorCode::SegmentSequence, "a second MSH segment in one message"),
            ParseError::Delimiters(DelimiterError::Field) => (ErrorCode::DataType, "MSH-1 is no delimiter"),
            ParseError::Delimiters(_) => (ErrorCode::DataType, "MSH-2 does not name the encoding characters"),
            ParseError::Charset(_) => {
                (ErrorCode::TableValueNotFound, "charset is not supported or not decided")
            }
            ParseError::TooLarge => (ErrorCode::ValueTooLong, "message is larger than the cap"),
            ParseError::TooManySegments => (ErrorCode::NonConformantCardinality, "too many segments"),
            ParseError::Failed => (ErrorCode::Internal, "the program failed on it"),
        };
        Self { location: error.path(), code, severity: Severity::Error, text }
    }
}

/// What a door decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Durable, not applied.
    Accept,
    /// Not taken for now, or in part.
    Error(Problem),
    /// Not taken; sending it again changes nothing.
    Reject(Problem),
}

/// MSA-1 (table 0008).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AckCode {
    /// Original mode, accept.
    Aa,
    /// Original mode, error.
    Ae,
    /// Original mode, reject.
    Ar,
    /// Enhanced mode, accept.
    Ca,
    /// Enhanced mode, error.
    Ce,
    /// Enhanced mode, reject.
    Cr,
}

impl AckCode {
    /// The code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aa => "AA",
            Self::Ae => "AE",
            Self::Ar => "AR",
            Self::Ca => "CA",
            Self::Ce => "CE",
            Self::Cr => "CR",
        }
    }

    /// Whether it says that the message is kept.
    pub const fn is_positive(self) -> bool {
        matches!(self, Self::Aa | Self::Ca)
    }
}

/// When an acknowledgment is asked for (table 0155).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// `AL`.
    Always,
    /// `NE`, and in enhanced mode an empty field.
    Never,
    /// `ER`: on error or reject.
    Error,
    /// `SU`: on success.
    Success,
}

impl Condition {
    /// What is unknown is answered always: too many answers harm less than none.
    fn read(raw: &[u8]) -> Self {
        match raw {
            b"" | b"NE" | b"\"\"" => Self::Never,
            b"ER" => Self::Error,
            b"SU" => Self::Success,
            _ => Self::Always,
        }
    }

    const fn asks(self, positive: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Error => !positive,
            Self::Success => positive,
        }
    }
}

/// How a sender wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// MSH-15 and MSH-16 are empty: AA, AE or AR.
    Original,
    /// One of them is not: CA, CE or CR as MSH-15 asks; the application's own answer (MSH-16) is another message.
    Enhanced {
        /// MSH-15.
        accept: Condition,
        /// MSH-16.
        application: Condition,
    },
}

/// The header of a message, looked at without reading the rest; works on messages that cannot be parsed.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'m> {
    header: Option<&'m [u8]>,
    body: &'m [u8],
    delimiters: Result<Delimiters, DelimiterError>,
    pairs: Option<&'static Encoding>,
}

/// One repetition of PID-3, in the bytes that were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeekedIdentifier<'m> {
    /// PID-3.1.
    pub value: &'m [u8],
    /// PID-3.4, whole.
    pub authority: &'m [u8],
    /// PID-3.5.
    pub kind: &'m [u8],
}

fn first_line(bytes: &[u8]) -> &[u8] {
    let end = memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or_default()
}

impl<'m> Headers<'m> {
    /// Looks at the first [`HEADER_BYTES_MAX`] bytes.
    pub fn peek(bytes: &'m [u8]) -> Self {
        let bytes = bytes.get(..HEADER_BYTES_MAX).unwrap_or(bytes);
        let Some(start) = message::header_start(bytes) else {
            return Self { header: None, body: b"", delimiters: Err(DelimiterError::Field), pairs: None };
        };
        let body = bytes.get(start..).unwrap_or_default();
        let header = first_line(body);
        let delimiters = Delimiters::read(header);
        let pairs = delimiters.ok().and_then(|delimiters| message::header_pairs(header, &delimiters));
        Self { header: Some(header), body, delimiters, pairs }
    }

    /// The headers of a message that was parsed.
    pub fn of(message: &'m Message) -> Self {
        let pairs = message.charset().pairs();
        Self { pairs, ..Self::peek(message.bytes()) }
    }

    /// MSH-`n` in the bytes that were sent; empty where it is absent. `n` from 2.
    pub fn field(&self, n: usize) -> &'m [u8] {
        let (Some(header), Ok(delimiters)) = (self.header, self.delimiters) else { return b"" };
        split::piece(self.pairs, Some(delimiters.field), n.saturating_sub(1), header).unwrap_or_default()
    }

    /// A component of the first repetition of MSH-`n`: what a message is read by.
    fn component(&self, n: usize, component: usize) -> &'m [u8] {
        let Ok(delimiters) = self.delimiters else { return b"" };
        let first = match delimiters.repetition {
            Some(repetition) => split::piece(self.pairs, Some(repetition), 0, self.field(n)),
            None => Some(self.field(n)),
        };
        split::piece(self.pairs, Some(delimiters.component), component, first.unwrap_or_default())
            .unwrap_or_default()
    }

    /// Whether a component of the first repetition of MSH-`n` says something, as far as its bytes show without the
    /// message's charset: not where it is blank, the null of HL7 (`""`), or of escapes that leave nothing.
    fn says(&self, n: usize, component: usize) -> bool {
        let Ok(delimiters) = self.delimiters else { return false };
        let raw = self.component(n, component);
        let leaf = match delimiters.subcomponent {
            Some(subcomponent) => split::piece(self.pairs, Some(subcomponent), 0, raw).unwrap_or_default(),
            None => raw,
        };
        if leaf.trim_ascii() == b"\"\"" {
            return false;
        }
        let mut flaws = Flaws::NONE;
        let text = escape::unescape(leaf, &delimiters, self.pairs, false, &mut flaws);
        !is_blank(&String::from_utf8_lossy(&text))
    }

    /// Whether there is an MSH.
    pub const fn is_message(&self) -> bool {
        self.header.is_some()
    }

    /// MSH-3.
    pub fn sending_application(&self) -> &'m [u8] {
        self.field(3)
    }

    /// MSH-4.
    pub fn sending_facility(&self) -> &'m [u8] {
        self.field(4)
    }

    /// MSH-9.1.
    pub fn message_code(&self) -> &'m [u8] {
        self.component(9, 0)
    }

    /// MSH-9.2.
    pub fn event(&self) -> &'m [u8] {
        self.component(9, 1)
    }

    /// MSH-10.
    pub fn control_id(&self) -> &'m [u8] {
        self.field(10)
    }

    /// MSH-11.1.
    pub fn processing_id(&self) -> &'m [u8] {
        self.component(11, 0)
    }

    /// MSH-12.1.
    pub fn version(&self) -> &'m [u8] {
        self.component(12, 0)
    }

    /// MSH-18.
    pub fn charset(&self) -> &'m [u8] {
        self.field(18)
    }

    /// How the sender wants to be answered (MSH-15, MSH-16).
    pub fn mode(&self) -> Mode {
        let (accept, application) = (self.field(15), self.field(16));
        if accept.is_empty() && application.is_empty() {
            return Mode::Original;
        }
        Mode::Enhanced { accept: Condition::read(accept), application: Condition::read(application) }
    }

    /// What makes a message unacceptable at the door: no MSH, wrong delimiters, no MSH-9, no MSH-10.
    ///
    /// # Errors
    /// The problem to reject it with.
    pub fn check(&self) -> Result<(), Problem> {
        if self.header.is_none() {
            return Err(ParseError::NoHeader.into());
        }
        if let Err(error) = self.delimiters {
            return Err(ParseError::Delimiters(error).into());
        }
        if !self.says(9, 0) {
            return Err(Problem::NO_TYPE);
        }
        // Found again by its first component.
        if !self.says(10, 0) {
            return Err(Problem::NO_CONTROL_ID);
        }
        // No answer repeats the second and third, and nobody can ask for the first.
        if self.control_id().iter().any(|byte| matches!(byte, 0 | 0x0B | 0x1C)) {
            return Err(Problem::at(
                Path::of("MSH-10"),
                ErrorCode::DataType,
                "message control id holds NUL or a byte of the frame",
            ));
        }
        if self.control_id().len() > HEADER_FIELD_BYTES_MAX {
            return Err(Problem::at(
                Path::of("MSH-10"),
                ErrorCode::ValueTooLong,
                "message control id is too long",
            ));
        }
        Ok(())
    }

    /// The repetitions of PID-3 of the first PID, in the bytes that were sent: enough to route by.
    pub fn identifiers(&self) -> impl Iterator<Item = PeekedIdentifier<'m>> + 'm {
        let delimiters = self.delimiters.unwrap_or(Delimiters::USUAL);
        let pairs = self.pairs;
        let pid = self.segment(*b"PID", delimiters.field);
        let list = pid.and_then(|pid| split::piece(pairs, Some(delimiters.field), 3, pid));
        let repetitions = Pieces::new(pairs, delimiters.repetition, list).take(PEEK_IDENTIFIERS_MAX);
        repetitions.map(move |repetition| {
            let part = |n| split::piece(pairs, Some(delimiters.component), n, repetition).unwrap_or_default();
            PeekedIdentifier { value: part(0), authority: part(3), kind: part(4) }
        })
    }

    fn segment(&self, name: [u8; 3], field: u8) -> Option<&'m [u8]> {
        let mut rest = self.body;
        loop {
            if rest.first_chunk() == Some(&name) && rest.get(3) == Some(&field) {
                return Some(first_line(rest));
            }
            let end = memchr::memchr2(b'\r', b'\n', rest)?;
            rest = rest.get(end + 1..)?;
        }
    }

    /// A field to be repeated in an answer: without what is too long or would end our segment or frame.
    fn echo(&self, n: usize) -> &'m [u8] {
        let raw = self.field(n);
        let harmless = raw.len() <= HEADER_FIELD_BYTES_MAX
            && !raw.iter().any(|byte| matches!(byte, 0x0B | 0x1C | b'\r' | b'\n'));
        if harmless { raw } else { b"" }
    }
}

/// What [`Headers::check`] cannot see: a type or a control id that is blank in the message's charset (U+3000 has other
/// bytes in each).
///
/// # Errors
/// The problem to reject it with.
pub fn check_decoded(message: &Message) -> Result<(), Problem> {
    let says = |path: &'static str| !is_blank(&message.get(Path::of(path)).text());
    if !says("MSH-9.1") {
        return Err(Problem::NO_TYPE);
    }
    if says("MSH-10.1") { Ok(()) } else { Err(Problem::NO_CONTROL_ID) }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgment {
    /// MSA-1.
    pub code: AckCode,
    /// The message, to be framed.
    pub bytes: Bytes,
}

/// The answer to a message, in its own delimiters, version and charset, sender and receiver swapped; `None` where
/// the sender asks for none, and for what is an acknowledgment itself: two ends would answer each other for ever. `id`
/// becomes MSH-10 of the answer.
pub fn acknowledge(
    headers: &Headers<'_>,
    answer: &Answer,
    id: &str,
    now: Timestamp,
) -> Option<Acknowledgment> {
    let positive = matches!(answer, Answer::Accept);
    if headers.message_code() == b"ACK" {
        return None;
    }
    let enhanced = match headers.mode() {
        Mode::Original => false,
        Mode::Enhanced { accept, .. } if accept.asks(positive) => true,
        Mode::Enhanced { .. } => return None,
    };
    let (code, problem) = match (answer, enhanced) {
        (Answer::Accept, false) => (AckCode::Aa, None),
        (Answer::Accept, true) => (AckCode::Ca, None),
        (Answer::Error(problem), false) => (AckCode::Ae, Some(problem)),
        (Answer::Error(problem), true) => (AckCode::Ce, Some(problem)),
        (Answer::Reject(problem), false) => (AckCode::Ar, Some(problem)),
        (Answer::Reject(problem), true) => (AckCode::Cr, Some(problem)),
    };
    let delimiters = headers.delimiters.unwrap_or(Delimiters::USUAL);
    let encoding_characters = match headers.delimiters {
        Ok(_) => headers.field(2),
        Err(_) => b"^~\\&",
    };
    let or = |raw: &'static [u8], field: usize| match headers.echo(field) {
        b"" => raw,
        said => said,
    };
    let event = headers.event();
    let mut kind = b"ACK".to_vec();
    if event.len() == 3 && event.iter().all(u8::is_ascii_alphanumeric) {
        for part in [event, b"ACK"] {
            kind.push(delimiters.component);
            kind.extend_from_slice(part);
        }
    }
    let now = time::format_utc(now);
    let id = escape::escape(id, &delimiters);
    let mut out = Writer { out: Vec::with_capacity(256), delimiters };
    out.segment(
        "MSH",
        &[
            encoding_characters,
            headers.echo(5),
            headers.echo(6),
            headers.echo(3),
            headers.echo(4),
            now.as_bytes(),
            b"",
            &kind,
            id.as_bytes(),
            or(b"P", 11),
            or(b"2.5", 12),
            b"",
            b"",
            b"",
            b"",
            b"",
            headers.echo(18),
        ],
    );
    out.segment("MSA", &[code.as_str().as_bytes(), headers.echo(10)]);
    if let Some(problem) = problem {
        out.problem(problem);
    }
    Some(Acknowledgment { code, bytes: out.out.into() })
}

struct Writer {
    out: Vec<u8>,
    delimiters: Delimiters,
}

impl Writer {
    /// Writes a segment; empty fields at its end are left out.
    fn segment(&mut self, name: &'static str, fields: &[&[u8]]) {
        self.out.extend_from_slice(name.as_bytes());
        let last = fields.iter().rposition(|field| !field.is_empty()).map_or(0, |last| last + 1);
        for field in fields.iter().take(last) {
            self.out.push(self.delimiters.field);
            self.out.extend_from_slice(field);
        }
        self.out.push(b'\r');
    }

    /// ERR: location (ERL), code (table 0357), severity, text for the user.
    fn problem(&mut self, problem: &Problem) {
        let component = char::from(self.delimiters.component).to_string();
        let location = problem.location.map(|path| {
            let mut parts = vec![path.segment().to_owned(), path.occurrence().to_string()];
            let numbers = [
                path.field(),
                if path.field() > 0 { path.repetition().max(1) } else { 0 },
                path.component(),
                path.subcomponent(),
            ];
            parts.extend(numbers.iter().take_while(|number| **number > 0).map(ToString::to_string));
            parts.join(&component)
        });
        let (code, name) = problem.code.row();
        let code = [code, &escape::escape(name, &self.delimiters), "HL70357"].join(&component);
        let text = escape::escape(problem.text, &self.delimiters).into_owned();
        self.segment(
            "ERR",
            &[
                b"",
                location.unwrap_or_default().as_bytes(),
                code.as_bytes(),
                problem.severity.as_str().as_bytes(),
                b"",
                b"",
                b"",
                text.as_bytes(),
            ],
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::CharsetSettings;

    const NOW: Timestamp = Timestamp::from_micros(1_784_000_000_123_456);
    const MISSING: Problem =
        Problem::at(Path::of("PID-3[2].1"), ErrorCode::RequiredFieldMissing, "no primary identifier");

    fn answer(raw: &[u8], answer: &Answer) -> Option<String> {
        let ack = acknowledge(&Headers::peek(raw), answer, "ID1", NOW)?;
        Some(String::from_utf8_lossy(&ack.bytes).replace('\r', "\n"))
    }

    #[test]
    fn original_mode() {
        let raw = b"MSH|^~\\&|APP|FAC|HIS|HOSP|20260714||ADT^A01^ADT_A01|C1|P^T|2.3.1||||||8859/1\rPID|1\r";
        assert_eq!(
            answer(raw, &Answer::Accept).unwrap(),
            "MSH|^~\\&|HIS|HOSP|APP|FAC|20260714033320.123+0000||ACK^A01^ACK|ID1|P^T|2.3.1||||||8859/1\n\
             MSA|AA|C1\n"
        );
        assert_eq!(
            answer(raw, &Answer::Error(MISSING)).unwrap().lines().skip(1).collect::<Vec<_>>(),
            ["MSA|AE|C1", "ERR||PID^1^3^2^1|101^Required field missing^HL70357|E||||no primary identifier"]
        );
        assert_eq!(
            answer(raw, &Answer::Reject(Problem::TRANSIENT)).unwrap().lines().skip(1).collect::<Vec<_>>(),
            ["MSA|AR|C1", "ERR|||207^Application error^HL70357|E||||not stored: send again later"]
        );
    }

    #[test]
    fn as_msh_15_and_16_ask() {
        let cases = [
            ("original", "", "", Some("AA"), Some("AE"), Some("AR")),
            ("always", "AL", "NE", Some("CA"), Some("CE"), Some("CR")),
            ("never", "NE", "NE", None, None, None),
            ("on error", "ER", "AL", None, Some("CE"), Some("CR")),
            ("on success", "SU", "", Some("CA"), None, None),
            ("MSH-15 empty is NE", "", "AL", None, None, None),
            ("what nobody knows is answered", "XX", "", Some("CA"), Some("CE"), Some("CR")),
        ];
        for (why, accept, application, on_accept, on_error, on_reject) in cases {
            let raw = format!("MSH|^~\\&|A|B|C|D|1||ADT^A01|C1|P|2.5|||{accept}|{application}\r");
            let code = |given: &Answer| {
                acknowledge(&Headers::peek(raw.as_bytes()), given, "I", NOW).map(|ack| ack.code.as_str())
            };
            assert_eq!(code(&Answer::Accept), on_accept, "{why}");
            assert_eq!(code(&Answer::Error(MISSING)), on_error, "{why}");
            assert_eq!(code(&Answer::Reject(MISSING)), on_reject, "{why}");
        }
    }

    #[test]
    fn what_is_broken_is_answered_too() {
        let minimal = "MSH|^~\\&|||||20260714033320.123+0000||ACK|ID1|P|2.5\nMSA|AR\n";
        let cases: [(&str, &[u8], &str, &str); 7] = [
            ("nothing", b"", minimal, "ERR||MSH^1|100^Segment sequence error^HL70357|E||||no MSH segment\n"),
            (
                "no MSH",
                b"PID|1\r",
                minimal,
                "ERR||MSH^1|100^Segment sequence error^HL70357|E||||no MSH segment\n",
            ),
            (
                "MSH alone",
                b"MSH",
                minimal,
                "ERR||MSH^1^1^1|102^Data type error^HL70357|E||||MSH-1 is no delimiter\n",
            ),
            (
                "MSH-2 twice",
                b"MSH|^^\\&|A|B\r",
                minimal,
                "ERR||MSH^1^2^1|102^Data type error^HL70357|E||||MSH-2 does not name the encoding characters\n",
            ),
            (
                "no MSH-9",
                b"MSH|^~\\&|A\r",
                "MSH|^~\\&|||A||20260714033320.123+0000||ACK|ID1|P|2.5\nMSA|AR\n",
                "ERR||MSH^1^9^1|101^Required field missing^HL70357|E||||message type is missing\n",
            ),
            (
                "no MSH-10",
                b"MSH|^~\\&|A||||||ADT^A01\r",
                "MSH|^~\\&|||A||20260714033320.123+0000||ACK^A01^ACK|ID1|P|2.5\nMSA|AR\n",
                "ERR||MSH^1^10^1|101^Required field missing^HL70357|E||||message control id is missing\n",
            ),
            (
                "own delimiters",
                b"MSH*:;!%*A*B*C*D***ADT:A01**P*2.5\r",
                "MSH*:;!%*C*D*A*B*20260714033320.123+0000**ACK:A01:ACK*ID1*P*2.5\nMSA*AR\n",
                "ERR**MSH:1:10:1*101:Required field missing:HL70357*E****message control id is missing\n",
            ),
        ];
        for (why, raw, msh_msa, err) in cases {
            let problem = Headers::peek(raw).check().unwrap_err();
            assert_eq!(answer(raw, &Answer::Reject(problem)).unwrap(), format!("{msh_msa}{err}"), "{why}");
        }
    }

    #[test]
    fn blanks_and_nulls_are_no_type_and_no_control_id() {
        for (field, path) in [
            ("|  |C1|", "MSH-9"),
            ("|\"\"|C1|", "MSH-9"),
            ("|^A01|C1|", "MSH-9"),
            ("|ADT^A01|  |", "MSH-10"),
            ("|ADT^A01|\"\"|", "MSH-10"),
            ("|ADT^A01|^b|", "MSH-10"),
            ("|~ADT^A01|C1|", "MSH-9"),
            ("|\u{3000}^A01|C1|", "MSH-9"),
            ("|&ADT^A01|C1|", "MSH-9"),
            ("|ADT^A01|~|", "MSH-10"),
            ("|ADT^A01|~b|", "MSH-10"),
            ("|ADT^A01|&b|", "MSH-10"),
            ("|ADT^A01|\\.br\\|", "MSH-10"),
            ("|ADT^A01|\\X0D0A\\ \\H\\|", "MSH-10"),
            ("|ADT^A01|\u{3000}\u{A0}\u{2009}|", "MSH-10"),
            ("|ADT^A01|\u{200B}\u{FEFF}|", "MSH-10"),
            ("|ADT^A01|C\0a|", "MSH-10"),
            ("|ADT^A01|C\x1C1|", "MSH-10"),
        ] {
            let raw = format!("MSH|^~\\&|A|B|C|D|1|{field}P|2.5\r");
            let problem = Headers::peek(raw.as_bytes()).check().unwrap_err();
            assert_eq!(problem.location.map(|path| path.to_string()).as_deref(), Some(path), "{field}");
        }
        for named in [" C1", "C1~", "\\F\\", "\u{3000}1", "C1^", "C1&", "\\Z1\\", "-"] {
            let raw = format!("MSH|^~\\&|A|B|C|D|1||ADT^A01|{named}|P|2.5\r");
            assert_eq!(Headers::peek(raw.as_bytes()).check(), Ok(()), "{named}");
            let message = Message::parse(raw.into(), &CharsetSettings::default()).unwrap();
            assert_eq!(check_decoded(&message), Ok(()), "{named}");
        }
    }

    #[test]
    fn blanks_of_other_charsets_are_no_type_and_no_control_id() {
        for (declared, blank) in [
            ("SHIFT_JIS", &b"\x81\x40"[..]),
            ("KS X 1001", b"\xA1\xA1"),
            ("BIG-5", b"\xA1\x40"),
            ("8859/1", b"\xA0"),
        ] {
            for (before, after, problem) in
                [(&b"|"[..], &b"^A01|C1"[..], Problem::NO_TYPE), (b"|ADT^A01|", b"", Problem::NO_CONTROL_ID)]
            {
                let head = &b"MSH|^~\\&|A|B|C|D|1|"[..];
                let tail = format!("|P|2.5||||||{declared}\rPID|1\r").into_bytes();
                let raw = [head, before, blank, after, &tail].concat();
                let message = Message::parse(raw.into(), &CharsetSettings::default()).unwrap();
                assert_eq!(check_decoded(&message), Err(problem), "{declared}");
            }
        }
    }

    #[test]
    fn an_acknowledgment_is_not_acknowledged() {
        let raw = b"MSH|^~\\&|A|B|C|D|1||ACK^A01^ACK|C1|P|2.5\rMSA|AA|X\r";
        assert_eq!(acknowledge(&Headers::peek(raw), &Answer::Accept, "I", NOW), None);
    }

    #[test]
    fn an_answer_never_ends_its_own_frame() {
        let raw = b"MSH|^~\\&|A\x1C|B\x0B|C|D|1||ADT^A01|C1\x1C\rPID|1\r";
        let ack = acknowledge(&Headers::peek(raw), &Answer::Accept, "I", NOW).unwrap();
        assert!(!ack.bytes.iter().any(|byte| matches!(byte, 0x0B | 0x1C)));
        let long = [&b"MSH|^~\\&|"[..], &vec![b'A'; 60_000], b"|B|C|D|1||ADT^A01|C1\r"].concat();
        let ack = acknowledge(&Headers::peek(&long), &Answer::Accept, "I", NOW).unwrap();
        assert!(ack.bytes.len() < 200 && ack.bytes.ends_with(b"MSA|AA|C1\r"));
    }

    #[test]
    fn an_answer_can_be_parsed() {
        let raw = b"MSH|^~\\&#|A|B|C|D|1||ADT^A01|C1|P|2.8\r";
        let ack = acknowledge(&Headers::peek(raw), &Answer::Error(MISSING), "a|b", NOW).unwrap();
        let message = Message::parse(ack.bytes, &CharsetSettings::default()).unwrap();
        assert_eq!(message.text("MSH-10").as_deref(), Some("a|b"));
        assert_eq!(message.text("ERR-8").as_deref(), Some("no primary identifier"));
        assert_eq!(Headers::of(&message).check(), Ok(()));
    }

    #[test]
    fn trail_bytes_in_the_header_shift_no_field() {
        // A sender whose name in Shift_JIS (ポ = 83 7C) holds the field delimiter.
        let raw = b"MSH|^~\\&|\x83\x7C|B|C|D|1||ADT^A01|C1|P|2.5||||||SHIFT_JIS\rPID|1||9^^^\x83\x7C^MR\r";
        let headers = Headers::peek(raw);
        assert_eq!(headers.control_id(), b"C1");
        assert_eq!(headers.identifiers().next().unwrap().kind, b"MR");
    }

    #[test]
    fn identifiers_are_peeked() {
        let raw = b"MSH|^~\\&|A|B|C|D|1||ADT^A01|C1\nEVN|A01\nPID|1||7^^^X&1.2&ISO^MR~8^^^Y^SS||Kim\n";
        let all: Vec<_> = Headers::peek(raw).identifiers().collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].value, all[0].authority, all[0].kind), (&b"7"[..], &b"X&1.2&ISO"[..], &b"MR"[..]));
        assert_eq!((all[1].value, all[1].authority, all[1].kind), (&b"8"[..], &b"Y"[..], &b"SS"[..]));
        assert_eq!(Headers::peek(b"MSH|^~\\&|A\rNK1|1\r").identifiers().count(), 0);
        assert_eq!(Headers::peek(b"nothing").identifiers().count(), 0);
    }
}
