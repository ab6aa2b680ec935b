//! Editing a message: only the bytes of the edited place change.

use bytes::Bytes;
use encoding_rs::Encoding;

use crate::charset::Rule;
use crate::delimiters::Delimiters;
use crate::escape;
use crate::message::{Message, ParseError, Presence};
use crate::path::Path;
use crate::split::Pieces;

/// What to put at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Nothing.
    Empty,
    /// `""`: delete what you have.
    Null,
    /// A text: delimiters in it are escaped.
    Text(&'a str),
    /// Text whose delimiters stand for themselves (`Kim^Chulsoo`); no line ends and no field delimiter.
    Raw(&'a str),
}

/// An empty text is [`Value::Empty`], `""` is [`Value::Null`], anything else is a text.
impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        match text {
            "" => Self::Empty,
            "\"\"" => Self::Null,
            _ => Self::Text(text),
        }
    }
}

/// Why an edit is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The message has no such segment.
    #[error("the message has no segment at this path")]
    NoSegment,
    /// MSH-1, MSH-2, or a path without a field.
    #[error("this place cannot be edited")]
    NotAField,
    /// The value does not fit the message's charset or delimiters.
    #[error("the value cannot be written in this message's charset and delimiters")]
    NotRepresentable,
    /// What came out is no message any more.
    #[error("the edited message cannot be read")]
    Broken(#[from] ParseError),
}

fn encode(text: &str, encoding: &'static Encoding) -> Option<Vec<u8>> {
    let (bytes, _, unmappable) = encoding.encode(text);
    (!unmappable).then(|| bytes.into_owned())
}

/// `hay` with its `n`th piece (from 0) made by `make`; delimiters are added where it does not reach that far.
fn replace_piece(
    pairs: Option<&'static Encoding>,
    needle: Option<u8>,
    n: usize,
    hay: &[u8],
    make: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let Some(needle) = needle else {
        return if n == 0 { make(hay) } else { None };
    };
    let mut out = Vec::with_capacity(hay.len() + 16);
    let mut pieces = Pieces::new(pairs, Some(needle), Some(hay));
    for at in 0..n {
        out.extend_from_slice(pieces.next().unwrap_or_default());
        out.push(needle);
        debug_assert!(at < n);
    }
    out.extend(make(pieces.next().unwrap_or_default())?);
    for piece in pieces {
        out.push(needle);
        out.extend_from_slice(piece);
    }
    Some(out)
}

fn one_based(n: u16) -> usize {
    usize::from(n).saturating_sub(1)
}

impl Message {
    /// The message with `value` at `path`. All other bytes are as they were; missing delimiters in front of the
    /// place are added. The value is written in the message's charset.
    ///
    /// # Errors
    /// [`EditError`]: nothing is changed.
    pub fn edit<'a>(&self, path: Path, value: impl Into<Value<'a>>) -> Result<Self, EditError> {
        let value = value.into();
        let is_header = matches!(&path.segment_bytes(), b"MSH" | b"FHS" | b"BHS");
        if path.field() == 0 || is_header && path.field() <= 2 {
            return Err(EditError::NotAField);
        }
        let range = self.range_of(path).ok_or(EditError::NoSegment)?;
        let before = self.bytes().get(..range.start).unwrap_or_default();
        let segment = self.bytes().get(range.clone()).unwrap_or_default();
        let after = self.bytes().get(range.end..).unwrap_or_default();
        for encoding in self.encodings() {
            let Some(raw) = raw_value(value, self.delimiters(), encoding) else { continue };
            let Some(edited) = self.splice(segment, path, is_header, &raw) else { continue };
            let bytes: Bytes = [before, &edited, after].concat().into();
            let message = Self::parse(bytes, self.settings())?;
            if message.holds(path, value)
                && self.differs_at_most_in(path, &message)
                && (self.charset().is_ascii() || message.charset().encoding() == self.charset().encoding())
            {
                return Ok(message);
            }
        }
        Err(EditError::NotRepresentable)
    }

    /// The message with its whole text replaced, as an editor gives it back: line ends become the message's own,
    /// the text is written in the message's charset.
    ///
    /// # Errors
    /// [`EditError`]: nothing is changed.
    pub fn with_text(&self, text: &str) -> Result<Self, EditError> {
        let line_end = self.line_end();
        let mut text = text.replace("\r\n", "\r").replace('\n', "\r");
        if !text.ends_with('\r') && self.bytes().ends_with(line_end.as_bytes()) {
            text.push('\r');
        }
        let text = text.replace('\r', line_end);
        for encoding in self.encodings() {
            let Some(bytes) = encode(&text, encoding) else { continue };
            let message = Self::parse(bytes.into(), self.settings())?;
            if message.to_text().text == text {
                return Ok(message);
            }
        }
        Err(EditError::NotRepresentable)
    }

    /// Whether all fields but that of `path` are the same in `edited`. Half a character at the end of a field would take the
    /// separator that is written behind it for its other half.
    fn differs_at_most_in(&self, path: Path, edited: &Self) -> bool {
        let mut segments = self.all_segments().zip(edited.all_segments());
        self.segment_count() == edited.segment_count()
            && segments.all(|(before, after)| {
                let mut fields = before.fields();
                before.raw() == after.raw()
                    || fields.all(|(number, field)| {
                        number == path.field() || field.raw() == after.field(number).raw()
                    })
            })
    }

    /// The first line end of the message: CR, LF or CRLF.
    fn line_end(&self) -> &'static str {
        match memchr::memchr2(b'\r', b'\n', self.bytes()) {
            Some(at) if self.bytes().get(at) == Some(&b'\n') => "\n",
            Some(at) if self.bytes().get(at + 1) == Some(&b'\n') => "\r\n",
            _ => "\r",
        }
    }

    /// The encodings that the message may be written in: its own; for an ASCII message that declares none, also
    /// UTF-8, where it proves itself.
    fn encodings(&self) -> impl Iterator<Item = &'static Encoding> {
        let open = self.charset().is_ascii() && self.charset().rule() == Rule::Utf8Valid;
        [self.charset().encoding()].into_iter().chain(open.then_some(encoding_rs::UTF_8))
    }

    fn splice(&self, segment: &[u8], path: Path, is_header: bool, raw: &[u8]) -> Option<Vec<u8>> {
        let pairs = self.context().charset.pairs();
        let delimiters = self.delimiters();
        let field = usize::from(path.field()) - usize::from(is_header);
        replace_piece(pairs, Some(delimiters.field), field, segment, |field| {
            if path.repetition() == 0 && path.component() == 0 {
                return Some(raw.to_vec());
            }
            replace_piece(pairs, delimiters.repetition, one_based(path.repetition()), field, |repetition| {
                if path.component() == 0 {
                    return Some(raw.to_vec());
                }
                let component = one_based(path.component());
                replace_piece(pairs, Some(delimiters.component), component, repetition, |component| {
                    if path.subcomponent() == 0 {
                        return Some(raw.to_vec());
                    }
                    let subcomponent = one_based(path.subcomponent());
                    replace_piece(pairs, delimiters.subcomponent, subcomponent, component, |_| {
                        Some(raw.to_vec())
                    })
                })
            })
        })
    }

    /// Whether the slot at `path` reads as `value`.
    fn holds(&self, path: Path, value: Value<'_>) -> bool {
        let slot = self.get(path);
        match value {
            Value::Empty => matches!(slot.presence(), Presence::Empty | Presence::Absent),
            Value::Null => slot.presence() == Presence::Null,
            Value::Text(text) => {
                let decoded = slot.decode();
                decoded.text == text && decoded.flaws.is_empty()
            }
            Value::Raw(text) => crate::message::decode_raw(&slot) == text,
        }
    }
}

fn raw_value(value: Value<'_>, delimiters: &Delimiters, encoding: &'static Encoding) -> Option<Vec<u8>> {
    match value {
        Value::Empty => Some(Vec::new()),
        Value::Null => Some(b"\"\"".to_vec()),
        Value::Text(text) => encode(&escape::escape(text, delimiters), encoding),
        Value::Raw(text) => {
            let breaks = |c: char| matches!(c, '\r' | '\n') || c == char::from(delimiters.field);
            if text.contains(breaks) { None } else { encode(text, encoding) }
        }
    }
}
