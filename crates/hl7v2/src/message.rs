//! One message: its bytes, where its segments are, and slots that are read when asked for.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use encoding_rs::Encoding;
use memchr::memchr2_iter;

use crate::charset::{self, Charset, CharsetError, CharsetSettings, Decision};
use crate::delimiters::{DelimiterError, Delimiters};
use crate::escape;
use crate::finding::{Finding, Flaw, Flaws};
use crate::limits::{MESSAGE_BYTES_MAX, SEGMENTS_MAX};
use crate::path::Path;
use crate::split::{self, Pieces};

/// Why bytes are no message that can be read. Each is a rule of quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing begins with `MSH`.
    #[error("no MSH segment")]
    NoHeader,
    /// MSH-1 or MSH-2 cannot delimit.
    #[error("wrong delimiters: {0}")]
    Delimiters(#[from] DelimiterError),
    /// The charset is not decided.
    #[error(transparent)]
    Charset(#[from] CharsetError),
    /// A second MSH: two messages in one, which would bleed into each other.
    #[error("a second MSH segment")]
    SecondHeader,
    /// More bytes than [`MESSAGE_BYTES_MAX`].
    #[error("message is larger than the cap")]
    TooLarge,
    /// More segments than [`SEGMENTS_MAX`].
    #[error("message has too many segments")]
    TooManySegments,
    /// The program failed on it: a fault of ours. Only callers that catch it give it.
    #[error("the program failed on it")]
    Failed,
}

impl ParseError {
    /// The rule's name, as quarantine lists it.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::NoHeader => "no-msh",
            Self::Delimiters(_) => "delimiters",
            Self::Charset(error) => error.rule(),
            Self::SecondHeader => "second-msh",
            Self::TooLarge => "too-large",
            Self::TooManySegments => "too-many-segments",
            Self::Failed => "read.panic",
        }
    }

    /// Where it is, if it is somewhere.
    pub const fn path(self) -> Option<Path> {
        match self {
            Self::NoHeader => Some(Path::of("MSH")),
            Self::Delimiters(DelimiterError::Field) => Some(Path::of("MSH-1")),
            Self::Delimiters(_) => Some(Path::of("MSH-2")),
            Self::Charset(_) => Some(Path::of("MSH-18")),
            Self::SecondHeader => Some(Path::of("MSH[2]")),
            Self::TooLarge | Self::TooManySegments | Self::Failed => None,
        }
    }

    /// What a caller may do about it.
    pub const fn kind(self) -> hilum_core::Kind {
        match self {
            Self::TooLarge | Self::TooManySegments => hilum_core::Kind::TooLarge,
            Self::NoHeader | Self::Delimiters(_) | Self::Charset(_) | Self::SecondHeader => {
                hilum_core::Kind::Invalid
            }
            Self::Failed => hilum_core::Kind::Internal,
        }
    }
}

/// What all slots of a message share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    pub(crate) delimiters: Delimiters,
    pub(crate) charset: Decision,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

/// One HL7 v2 message. It owns its bytes; parsing finds the segments and decides the charset, everything else is
/// read from the bytes when it is asked for.
///
/// ```
/// use hilum_hl7v2::{CharsetSettings, Message, Path, Presence};
/// let raw = "MSH|^~\\&|A|B|C|D|20260101||ADT^A01|1|P|2.5\rPID|1||007^^^SNUH^MR||홍길동||\"\"\r";
/// let message = Message::parse(raw.into(), &CharsetSettings::default())?;
/// assert_eq!(message.text("PID-3.4").as_deref(), Some("SNUH"));
/// assert_eq!(message.text("PID-5.1").as_deref(), Some("홍길동"));
/// assert_eq!(message.get(Path::of("PID-7")).presence(), Presence::Null);
/// assert_eq!(message.get(Path::of("PID-6")).presence(), Presence::Empty);
/// assert_eq!(message.get(Path::of("PID-8")).presence(), Presence::Absent);
/// # Ok::<(), hilum_hl7v2::ParseError>(())
/// ```
#[derive(Clone)]
pub struct Message {
    bytes: Bytes,
    segments: Vec<Span>,
    context: Context,
    settings: CharsetSettings,
}

/// Prints no byte of the message.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("size_bytes", &self.bytes.len())
            .field("segments", &self.segments.len())
            .field("charset_rule", &self.context.charset.rule().as_str())
            .finish_non_exhaustive()
    }
}

/// Where `MSH` begins: a byte order mark, line ends, blanks and a stray start-of-block byte may stand before it.
pub(crate) fn header_start(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..)?;
        if rest.starts_with(b"MSH") {
            return Some(at);
        }
        if rest.starts_with(b"\xEF\xBB\xBF") {
            at += 3;
        } else if rest.first().is_some_and(|byte| matches!(byte, b'\r' | b'\n' | b' ' | b'\t' | 0x0B)) {
            at += 1;
        } else {
            return None;
        }
    }
}

/// Whether a line that begins like this is a segment: three letters or digits, then the delimiter or the end.
fn begins_segment(line: &[u8], field: u8) -> bool {
    let [a, b, c, after @ ..] = line else { return false };
    a.is_ascii_uppercase()
        && [b, c].iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        && after.first().is_none_or(|next| *next == field || matches!(next, b'\r' | b'\n'))
}

/// The segments of `bytes` from `start`. CR ends a segment; so does LF where lines end with LF from the start or
/// where a segment follows: a line feed inside a text of a CR message is text.
fn find_segments(bytes: &[u8], start: usize, field: u8) -> Result<Vec<Span>, ParseError> {
    let mut segments = Vec::with_capacity(16);
    let mut line = start;
    let mut lf_ends = None;
    let body = bytes.get(start..).unwrap_or_default();
    for at in memchr2_iter(b'\r', b'\n', body).map(|at| at + start) {
        let is_lf = bytes.get(at) == Some(&b'\n');
        let lf_ends = *lf_ends.get_or_insert(is_lf);
        if is_lf && !lf_ends && at > line {
            let after = bytes.get(at + 1..).unwrap_or_default();
            if !after.is_empty() && !begins_segment(after, field) {
                continue;
            }
        }
        push_segment(&mut segments, bytes, line, at, field)?;
        line = at + 1;
    }
    push_segment(&mut segments, bytes, line, bytes.len(), field)?;
    Ok(segments)
}

fn push_segment(
    segments: &mut Vec<Span>,
    bytes: &[u8],
    start: usize,
    end: usize,
    field: u8,
) -> Result<(), ParseError> {
    let line = bytes.get(start..end).unwrap_or_default();
    if line.is_empty() || line == b"\x1C" {
        return Ok(());
    }
    if line.starts_with(b"MSH") && line.get(3) == Some(&field) && !segments.is_empty() {
        return Err(ParseError::SecondHeader);
    }
    if segments.len() == SEGMENTS_MAX {
        return Err(ParseError::TooManySegments);
    }
    segments.push(Span { start: start as u32, end: end as u32 });
    Ok(())
}

/// The encoding to split a header by: a name in front of MSH-18 may hold a trail byte that looks like a delimiter,
/// so the encoding that finds itself named there, splitting its own way, is the one. `None` = byte by byte.
pub(crate) fn header_pairs(header: &[u8], delimiters: &Delimiters) -> Option<&'static Encoding> {
    if header.is_ascii() {
        return None;
    }
    let names_itself = |encoding: &&'static Encoding| {
        let raw = split::piece(Some(*encoding), Some(delimiters.field), 17, header);
        Pieces::new(None, delimiters.repetition, raw)
            .filter_map(|name| Charset::parse(str::from_utf8(name).ok()?).ok())
            .any(|charset| charset.encoding() == *encoding)
    };
    [encoding_rs::SHIFT_JIS, encoding_rs::GB18030, encoding_rs::BIG5].into_iter().find(names_itself)
}

/// MSH-18 as it stands.
fn declared_charset<'m>(header: &'m [u8], delimiters: &Delimiters) -> Option<&'m [u8]> {
    split::piece(header_pairs(header, delimiters), Some(delimiters.field), 17, header)
}

impl Message {
    /// Reads a message: O(bytes), one allocation.
    ///
    /// # Errors
    /// [`ParseError`]: the bytes are to be quarantined under its rule.
    pub fn parse(bytes: Bytes, settings: &CharsetSettings) -> Result<Self, ParseError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(ParseError::TooLarge);
        }
        charset::refuse_wide(&bytes)?;
        let start = header_start(&bytes).ok_or(ParseError::NoHeader)?;
        let from_header = bytes.get(start..).unwrap_or_default();
        let first_line_end = memchr::memchr2(b'\r', b'\n', from_header).unwrap_or(from_header.len());
        let header = from_header.get(..first_line_end).unwrap_or_default();
        let delimiters = Delimiters::read(header)?;
        let declared = Pieces::new(None, delimiters.repetition, declared_charset(header, &delimiters));
        let charset = charset::decide(&bytes, declared, settings)?;
        let segments = find_segments(&bytes, start, delimiters.field)?;
        Ok(Self { bytes, segments, context: Context { delimiters, charset }, settings: *settings })
    }

    /// The bytes as they came in.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// MSH-1 and MSH-2.
    pub const fn delimiters(&self) -> &Delimiters {
        &self.context.delimiters
    }

    /// What was decided about the charset.
    pub const fn charset(&self) -> &Decision {
        &self.context.charset
    }

    /// How many segments there are.
    pub const fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// The segment at `index` in the message, from 0.
    pub fn segment_at(&self, index: usize) -> Option<Segment<'_>> {
        let span = self.segments.get(index)?;
        let raw = self.bytes.get(span.start as usize..span.end as usize)?;
        Some(Segment { raw, index, context: &self.context })
    }

    /// All segments, in order.
    pub fn all_segments(&self) -> impl DoubleEndedIterator<Item = Segment<'_>> + '_ {
        (0..self.segments.len()).filter_map(|index| self.segment_at(index))
    }

    /// All segments, in order, each with its place; absent for a line that is no segment. One pass.
    pub fn segments_with_paths(&self) -> impl Iterator<Item = (Option<Path>, Segment<'_>)> + '_ {
        let mut seen = std::collections::HashMap::new();
        self.all_segments().map(move |segment| {
            let path = segment.name_bytes().map(|name| {
                let count = seen.entry(name).or_insert(0_u32);
                *count += 1;
                Path::segment_only(name).with_occurrence(*count)
            });
            (path, segment)
        })
    }

    /// The segments called `name`, in order.
    pub fn segments<'m>(&'m self, name: &'m str) -> impl Iterator<Item = Segment<'m>> + 'm {
        self.all_segments().filter(move |segment| segment.is(name))
    }

    /// The first segment called `name`.
    pub fn segment<'m>(&'m self, name: &'m str) -> Option<Segment<'m>> {
        self.segments(name).next()
    }

    /// The slot at `path`; absent where the message does not reach.
    pub fn get(&self, path: Path) -> Slot<'_> {
        let nth = (path.occurrence() as usize).saturating_sub(1);
        let name = path.segment_bytes();
        let found = self.all_segments().filter(|segment| segment.is_bytes(name)).nth(nth);
        match found {
            Some(segment) => segment.get(path),
            None => Slot::absent(Level::Field, &self.context),
        }
    }

    /// The text at a path that is written in the source: absent, empty and `""` are `None`. A wrong path is a bug
    /// of the caller; use [`Path::parse`] and [`Message::get`] for paths that come from outside.
    pub fn text(&self, path: &'static str) -> Option<String> {
        let path = Path::parse(path);
        debug_assert!(path.is_ok(), "not a path");
        self.get(path.ok()?).value().map(Cow::into_owned)
    }

    /// The place of a segment, as a path with its occurrence; absent for a line that is no segment. Counts the
    /// segments before it: for all of them take [`Message::segments_with_paths`].
    pub fn path_of(&self, segment: &Segment<'_>) -> Option<Path> {
        let name = segment.name_bytes()?;
        let before = self.all_segments().take(segment.index).filter(|other| other.is_bytes(name)).count();
        Some(Path::segment_only(name).with_occurrence(before as u32 + 1))
    }

    /// The place of the byte at `offset`: segment, field, repetition, component.
    pub fn path_at(&self, offset: usize) -> Option<Path> {
        let index = self.segments.partition_point(|span| span.end as usize <= offset);
        let segment = self.segment_at(index)?;
        let path = self.path_of(&segment)?;
        let start = self.segments.get(index)?.start as usize;
        let pairs = self.context.charset.pairs();
        let delimiters = &self.context.delimiters;
        let mut rest = segment.raw.get(..offset.checked_sub(start)?)?;
        let mut last_and_count = |needle: Option<u8>| {
            let (mut count, mut last) = (0_u16, rest);
            for piece in Pieces::new(pairs, needle, Some(rest)) {
                (count, last) = (count.saturating_add(1), piece);
            }
            rest = last;
            count
        };
        let field = last_and_count(Some(delimiters.field)).saturating_sub(1) + u16::from(segment.is_header());
        if field == 0 || segment.is_header() && field <= 2 {
            return Some(path.with_field(field));
        }
        let repetition = last_and_count(delimiters.repetition);
        let component = last_and_count(Some(delimiters.component));
        let path = path.with_field(field).with_repetition(if repetition > 1 { repetition } else { 0 });
        Some(if component > 1 { path.with_component(component) } else { path })
    }

    /// What is odd about the message as such: its charset, and lines that are no segments. Each kind once.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let broken = self.context.charset.broken_at().and_then(|at| self.path_at(at));
        for flaw in self.context.charset.flaws().iter() {
            let path = match flaw {
                Flaw::CharsetUndecodable | Flaw::ReplacementSent => broken,
                _ => Some(Path::of("MSH-18")),
            };
            findings.push(Finding { flaw, path });
        }
        if self.all_segments().any(|segment| segment.name_bytes().is_none()) {
            findings.push(Finding::whole(Flaw::SegmentName));
        }
        findings
    }

    /// Builds the bytes again from segments, fields, repetitions, components and subcomponents. Always equal to
    /// [`Message::bytes`]: the law that holds the splitting.
    pub fn render(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len());
        let mut done = 0;
        for (segment, span) in self.all_segments().zip(&self.segments) {
            out.extend_from_slice(self.bytes.get(done..span.start as usize).unwrap_or_default());
            segment.render(&mut out);
            done = span.end as usize;
        }
        out.extend_from_slice(self.bytes.get(done..).unwrap_or_default());
        out
    }

    /// The whole message as text, for an editor: charset decoded, escapes as they stand.
    pub fn to_text(&self) -> Decoded<'_> {
        decode_charset(&self.bytes, &self.context)
    }

    pub(crate) const fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) const fn settings(&self) -> &CharsetSettings {
        &self.settings
    }

    /// The byte range of the segment that `path` names.
    pub(crate) fn range_of(&self, path: Path) -> Option<std::ops::Range<usize>> {
        let nth = (path.occurrence() as usize).saturating_sub(1);
        let name = path.segment_bytes();
        let segment = self.all_segments().filter(|segment| segment.is_bytes(name)).nth(nth)?;
        let span = self.segments.get(segment.index)?;
        Some(span.start as usize..span.end as usize)
    }
}

/// One segment of a message.
#[derive(Clone, Copy)]
pub struct Segment<'m> {
    raw: &'m [u8],
    index: usize,
    context: &'m Context,
}

/// Prints the name alone.
impl fmt::Debug for Segment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Segment").field(&self.name()).finish()
    }
}

impl<'m> Segment<'m> {
    /// The segment's bytes, without its line end.
    pub const fn raw(&self) -> &'m [u8] {
        self.raw
    }

    /// Its place in the message, from 0.
    pub const fn index(&self) -> usize {
        self.index
    }

    fn name_bytes(&self) -> Option<[u8; 3]> {
        let name: [u8; 3] = *self.raw.first_chunk()?;
        begins_segment(self.raw, self.context.delimiters.field).then_some(name)
    }

    /// Its name (`PID`); empty for a line that is no segment.
    pub fn name(&self) -> &'m str {
        match self.name_bytes() {
            Some(_) => self.raw.get(..3).and_then(|name| str::from_utf8(name).ok()).unwrap_or_default(),
            None => "",
        }
    }

    fn is_bytes(&self, name: [u8; 3]) -> bool {
        self.raw.first_chunk() == Some(&name)
            && self.raw.get(3).is_none_or(|next| *next == self.context.delimiters.field)
    }

    /// Whether it is called `name`.
    pub fn is(&self, name: &str) -> bool {
        name.as_bytes().try_into().is_ok_and(|name| self.is_bytes(name))
    }

    /// MSH, FHS and BHS: their first field is the delimiter itself.
    fn is_header(&self) -> bool {
        matches!(self.raw.first_chunk(), Some(b"MSH" | b"FHS" | b"BHS"))
            && self.raw.get(3) == Some(&self.context.delimiters.field)
    }

    /// The `n`th field, from 1.
    pub fn field(&self, n: u16) -> Slot<'m> {
        let pairs = self.context.charset.pairs();
        let delimiter = self.context.delimiters.field;
        if self.is_header() && n <= 2 {
            let raw = match n {
                1 => self.raw.get(3..4),
                2 => split::piece(pairs, Some(delimiter), 1, self.raw),
                _ => None,
            };
            return Slot { raw, level: Level::Literal, context: self.context };
        }
        let index = usize::from(n) - usize::from(self.is_header() && n > 0);
        let raw = if n == 0 { None } else { split::piece(pairs, Some(delimiter), index, self.raw) };
        Slot { raw, level: Level::Field, context: self.context }
    }

    /// All fields with their numbers, from 1, in one pass.
    pub fn fields(&self) -> impl Iterator<Item = (u16, Slot<'m>)> + 'm {
        let context = self.context;
        let header = self.is_header();
        let first = header.then(|| (1, Slot { raw: self.raw.get(3..4), level: Level::Literal, context }));
        let pieces = Pieces::new(context.charset.pairs(), Some(context.delimiters.field), Some(self.raw));
        let rest = pieces.skip(1).enumerate().map(move |(at, raw)| {
            let number = u16::try_from(at + 1 + usize::from(header)).unwrap_or(u16::MAX);
            let level = if header && number == 2 { Level::Literal } else { Level::Field };
            (number, Slot { raw: Some(raw), level, context })
        });
        first.into_iter().chain(rest)
    }

    /// The fields of these numbers, in one pass. `numbers` must grow; what does not is absent.
    pub fn pick<const N: usize>(&self, numbers: [u16; N]) -> [Slot<'m>; N] {
        let mut picked = [Slot::absent(Level::Field, self.context); N];
        if self.is_header() {
            return numbers.map(|number| self.field(number));
        }
        let pairs = self.context.charset.pairs();
        let mut fields = Pieces::new(pairs, Some(self.context.delimiters.field), Some(self.raw));
        let mut next = 0;
        for (slot, number) in picked.iter_mut().zip(numbers) {
            let Some(skip) = number.checked_sub(next).filter(|_| number > 0) else { continue };
            let Some(raw) = fields.nth(usize::from(skip)) else { break };
            slot.raw = Some(raw);
            next = number.saturating_add(1);
        }
        picked
    }

    /// The slot at `path` in this segment, whatever segment `path` names.
    pub fn get(&self, path: Path) -> Slot<'m> {
        let field = self.field(path.field());
        if field.level == Level::Literal {
            return field;
        }
        let slot = match (path.repetition(), path.component()) {
            (0, 0) => return field,
            (0, _) => field.repetition(1),
            (n, _) => field.repetition(n),
        };
        let slot = match path.component() {
            0 => return slot,
            n => slot.component(n),
        };
        match path.subcomponent() {
            0 => slot,
            n => slot.subcomponent(n),
        }
    }

    /// The text at a field and component (both from 1), where there is a value: the shape that mappings use most.
    pub fn value(&self, field: u16, component: u16) -> Option<Cow<'m, str>> {
        self.field(field).component(component).value()
    }

    fn render(&self, out: &mut Vec<u8>) {
        let delimiters = &self.context.delimiters;
        let pairs = self.context.charset.pairs();
        if self.is_header() {
            out.extend_from_slice(self.raw.get(..3).unwrap_or_default());
        } else {
            let name = split::find(pairs, delimiters.field, self.raw).unwrap_or(self.raw.len());
            out.extend_from_slice(self.raw.get(..name).unwrap_or_default());
        }
        let skip_delimiter = u16::from(self.is_header()) * 2;
        for (number, field) in self.fields() {
            if number == 1 && self.is_header() {
                out.extend_from_slice(field.raw());
                continue;
            }
            if number != skip_delimiter {
                out.push(delimiters.field);
            }
            if field.level == Level::Literal {
                out.extend_from_slice(field.raw());
                continue;
            }
            for (at, repetition) in field.repetitions().enumerate() {
                out.extend(delimiters.repetition.filter(|_| at > 0));
                for (at, component) in repetition.components().enumerate() {
                    out.extend((at > 0).then_some(delimiters.component));
                    for (at, subcomponent) in component.subcomponents().enumerate() {
                        out.extend(delimiters.subcomponent.filter(|_| at > 0));
                        out.extend_from_slice(subcomponent.raw());
                    }
                }
            }
        }
    }
}

/// Whether there is something in a slot. The four mean different things (rule 12): absent and empty change
/// nothing, `""` deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Presence {
    /// The segment does not reach that far.
    Absent,
    /// It is there and empty (delimiters alone included).
    Empty,
    /// It is `""`; for a field: its first repetition is.
    Null,
    /// It has a value.
    Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// MSH-1 and MSH-2: as they stand.
    Literal,
    Field,
    Repetition,
    Component,
    Subcomponent,
}

/// A field, repetition, component or subcomponent.
///
/// A slot that has finer parts reads as its first one ([`Slot::text`]): a receiver that expects a simple value
/// takes the first component (chapter 2, on extending data types). [`Slot::whole`] gives all of it.
#[derive(Clone, Copy)]
pub struct Slot<'m> {
    raw: Option<&'m [u8]>,
    level: Level,
    context: &'m Context,
}

/// Prints no value.
impl fmt::Debug for Slot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.level).field(&self.presence()).finish()
    }
}

/// Decoded text and what was odd about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded<'m> {
    /// The text.
    pub text: Cow<'m, str>,
    /// Undecodable bytes, escapes that were not understood.
    pub flaws: Flaws,
}

fn decode_charset<'m>(raw: &'m [u8], context: &Context) -> Decoded<'m> {
    let mut flaws = Flaws::NONE;
    let text = match str::from_utf8(raw) {
        Ok(text) if context.charset.encoding() == encoding_rs::UTF_8 || text.is_ascii() => {
            if !context.charset.is_ascii() && text.contains('\u{fffd}') {
                flaws.insert(Flaw::ReplacementSent);
            }
            Cow::Borrowed(text)
        }
        _ => {
            let (text, had_errors) = context.charset.encoding().decode_without_bom_handling(raw);
            if had_errors {
                flaws.insert(Flaw::CharsetUndecodable);
            }
            text
        }
    };
    Decoded { text, flaws }
}

/// A slot's text with its escapes as they stand.
pub(crate) fn decode_raw<'m>(slot: &Slot<'m>) -> Cow<'m, str> {
    decode_charset(slot.raw(), slot.context).text
}

fn decode<'m>(raw: &'m [u8], level: Level, context: &Context) -> Decoded<'m> {
    let pairs = context.charset.pairs();
    if level == Level::Literal || !escape::has_escape(raw, &context.delimiters, pairs) {
        return decode_charset(raw, context);
    }
    let unescaped = |keep_hex| {
        let mut flaws = Flaws::NONE;
        let bytes = escape::unescape(raw, &context.delimiters, pairs, keep_hex, &mut flaws);
        let decoded = decode_charset(&bytes, context);
        flaws.extend(decoded.flaws);
        Decoded { text: Cow::Owned(decoded.text.into_owned()), flaws }
    };
    let decoded = unescaped(false);
    if decoded.flaws.contains(Flaw::CharsetUndecodable) {
        // Hexadecimal that is no text must not become U+FFFD.
        return unescaped(true);
    }
    decoded
}

impl<'m> Slot<'m> {
    const fn absent(level: Level, context: &'m Context) -> Self {
        Self { raw: None, level, context }
    }

    fn pairs(&self) -> Option<&'static Encoding> {
        self.context.charset.pairs()
    }

    /// Its bytes as they stand; empty where it is absent.
    pub fn raw(&self) -> &'m [u8] {
        self.raw.unwrap_or_default()
    }

    /// Whether there is something.
    pub fn presence(&self) -> Presence {
        let Some(raw) = self.raw else { return Presence::Absent };
        let Some(first) = raw.first() else { return Presence::Empty };
        if self.level == Level::Literal {
            return Presence::Value;
        }
        let delimiters = &self.context.delimiters;
        if *first == b'"' {
            let is_null = match self.level {
                Level::Field => {
                    raw.starts_with(b"\"\"")
                        && (raw.len() == 2 || raw.get(2).copied() == delimiters.repetition)
                }
                _ => raw == b"\"\"",
            };
            return if is_null { Presence::Null } else { Presence::Value };
        }
        if raw.iter().all(|byte| delimiters.structures(*byte)) { Presence::Empty } else { Presence::Value }
    }

    /// Whether there is a value: not absent, not empty, not `""`.
    pub fn has_value(&self) -> bool {
        self.presence() == Presence::Value
    }

    /// Its text where there is a value; the first part of a slot that has parts. `None` where that part is empty.
    pub fn value(&self) -> Option<Cow<'m, str>> {
        let leaf = self.leaf();
        match leaf {
            b"" | b"\"\"" => None,
            _ => Some(decode(leaf, self.level, self.context).text),
        }
    }

    /// Its text, charset and escapes decoded; the first part of a slot that has parts; empty for `""`.
    pub fn text(&self) -> Cow<'m, str> {
        self.value().unwrap_or_default()
    }

    /// Its text with what was odd about it.
    pub fn decode(&self) -> Decoded<'m> {
        match self.leaf() {
            b"" | b"\"\"" => Decoded { text: Cow::Borrowed(""), flaws: Flaws::NONE },
            leaf => decode(leaf, self.level, self.context),
        }
    }

    /// All of it as it was sent: charset decoded, escapes as they stand.
    pub fn raw_text(&self) -> Cow<'m, str> {
        decode_raw(self)
    }

    /// All of it as text, delimiters of its parts included: for showing, and for free text with an unescaped `&`.
    pub fn whole(&self) -> Decoded<'m> {
        decode(self.raw(), self.level, self.context)
    }

    /// The first subcomponent of the first component of the first repetition, as bytes.
    fn leaf(&self) -> &'m [u8] {
        let raw = self.raw();
        let delimiters = &self.context.delimiters;
        // A delimiter that does not exist is replaced by one that is searched anyway.
        let component = delimiters.component;
        let subcomponent = delimiters.subcomponent.unwrap_or(component);
        let needles = match self.level {
            Level::Literal | Level::Subcomponent => return raw,
            Level::Field => [delimiters.repetition.unwrap_or(component), component, subcomponent],
            Level::Repetition => [component, component, subcomponent],
            Level::Component => match delimiters.subcomponent {
                Some(subcomponent) => [subcomponent; 3],
                None => return raw,
            },
        };
        split::find_any(self.pairs(), needles, raw).and_then(|end| raw.get(..end)).unwrap_or(raw)
    }

    fn parts(&self, needle: Option<u8>, level: Level) -> Parts<'m> {
        Parts { pieces: Pieces::new(self.pairs(), needle, self.raw), level, context: self.context }
    }

    fn part(&self, n: u16, needle: Option<u8>, level: Level) -> Self {
        let index = usize::from(n).checked_sub(1);
        let raw = index.and_then(|index| split::piece(self.pairs(), needle, index, self.raw?));
        Self { raw, level, context: self.context }
    }

    /// The repetitions of a field, in order; none where it is absent, one empty one where it is empty. Of a finer
    /// slot: itself.
    pub fn repetitions(&self) -> Parts<'m> {
        match self.level {
            Level::Field => self.parts(self.context.delimiters.repetition, Level::Repetition),
            _ => self.parts(None, self.level),
        }
    }

    /// The `n`th repetition, from 1.
    #[must_use]
    pub fn repetition(&self, n: u16) -> Self {
        match self.level {
            Level::Field => self.part(n, self.context.delimiters.repetition, Level::Repetition),
            _ => self.part(n, None, self.level),
        }
    }

    /// The components, in order; those of the first repetition where the slot is a field.
    pub fn components(&self) -> Parts<'m> {
        match self.level {
            Level::Field => self.repetition(1).components(),
            Level::Repetition => self.parts(Some(self.context.delimiters.component), Level::Component),
            Level::Literal | Level::Component | Level::Subcomponent => self.parts(None, self.level),
        }
    }

    /// The `n`th component, from 1; of the first repetition where the slot is a field.
    #[must_use]
    pub fn component(&self, n: u16) -> Self {
        match self.level {
            Level::Field => self.repetition(1).component(n),
            Level::Repetition => self.part(n, Some(self.context.delimiters.component), Level::Component),
            Level::Literal | Level::Component | Level::Subcomponent => self.part(n, None, self.level),
        }
    }

    /// The subcomponents, in order; those of the first component where the slot is coarser.
    pub fn subcomponents(&self) -> Parts<'m> {
        match self.level {
            Level::Field | Level::Repetition => self.component(1).subcomponents(),
            Level::Component => self.parts(self.context.delimiters.subcomponent, Level::Subcomponent),
            Level::Literal | Level::Subcomponent => self.parts(None, self.level),
        }
    }

    /// The `n`th subcomponent, from 1; of the first component where the slot is coarser.
    #[must_use]
    pub fn subcomponent(&self, n: u16) -> Self {
        match self.level {
            Level::Field | Level::Repetition => self.component(1).subcomponent(n),
            Level::Component => self.part(n, self.context.delimiters.subcomponent, Level::Subcomponent),
            Level::Literal | Level::Subcomponent => self.part(n, None, self.level),
        }
    }
}

/// The parts of a slot, in order.
#[derive(Clone)]
pub struct Parts<'m> {
    pieces: Pieces<'m>,
    level: Level,
    context: &'m Context,
}

impl<'m> Iterator for Parts<'m> {
    type Item = Slot<'m>;

    fn next(&mut self) -> Option<Slot<'m>> {
        let raw = self.pieces.next()?;
        Some(Slot { raw: Some(raw), level: self.level, context: self.context })
    }
}
