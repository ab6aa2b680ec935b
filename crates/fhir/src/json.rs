//! JSON as a tree that keeps what FHIR needs: numbers as they are written, members in their order, each once.

use std::borrow::Cow;
use std::fmt;

use jiter::{Jiter, JiterError, Peek};

use crate::limits::{NESTING_MAX, NUMBER_BYTES_MAX, RESOURCE_BYTES_MAX};

/// Why bytes are no JSON that is taken. Prints places, never content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// More bytes than [`RESOURCE_BYTES_MAX`].
    #[error("{size_bytes} bytes are more than {RESOURCE_BYTES_MAX}")]
    TooLarge {
        /// How many there are.
        size_bytes: usize,
    },
    /// Not UTF-8, not JSON, half a surrogate pair, or something behind the value.
    #[error("not JSON in UTF-8 at line {line}, column {column}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1; 0 where there is nothing.
        column: usize,
    },
    /// Objects and arrays within each other deeper than [`NESTING_MAX`].
    #[error("nested deeper than {NESTING_MAX} at line {line}")]
    Depth {
        /// From 1.
        line: usize,
    },
    /// A member of an object stands twice: readers differ in which of them they take.
    #[error("a member stands twice in the object that ends at line {line}, column {column}")]
    Duplicate {
        /// From 1.
        line: usize,
        /// From 1; 0 where there is nothing.
        column: usize,
    },
    /// A number of more than [`NUMBER_BYTES_MAX`] bytes.
    #[error("a number has more than {NUMBER_BYTES_MAX} bytes at line {line}, column {column}")]
    Number {
        /// From 1.
        line: usize,
        /// From 1; 0 where there is nothing.
        column: usize,
    },
}

/// A value. Texts are borrowed where they have no escape.
///
/// ```
/// use hilum_fhir::json::Json;
/// let json = Json::parse(br#"{"value":1.50,"unit":"m\u0067"}"#).unwrap();
/// assert_eq!(json.get("value"), Some(&Json::Number("1.50")));
/// assert_eq!(json.get("unit").and_then(Json::as_str), Some("mg"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub enum Json<'a> {
    /// `null`, which FHIR has only in arrays of primitives.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number, as it is written.
    Number(&'a str),
    /// A text, without its escapes.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object: its members in their order, no name twice.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Reads a whole document.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, JsonError> {
        if bytes.len() > RESOURCE_BYTES_MAX {
            return Err(JsonError::TooLarge { size_bytes: bytes.len() });
        }
        let mut reader = Reader { bytes, jiter: Jiter::new(bytes) };
        let first = reader.jiter.peek().map_err(|why| reader.syntax(&why))?;
        let value = reader.value(first, 1)?;
        reader.jiter.finish().map_err(|why| reader.syntax(&why))?;
        Ok(value)
    }

    /// A member of an object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.members().iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// The members of an object; none of anything else.
    pub fn members(&self) -> &[(Cow<'a, str>, Self)] {
        match self {
            Self::Object(members) => members,
            _ => &[],
        }
    }

    /// The elements of an array, or the value itself: FHIR writes what may repeat as an array, all else without.
    pub fn elements(&self) -> &[Self] {
        match self {
            Self::Array(elements) => elements,
            other => std::slice::from_ref(other),
        }
    }

    /// A text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// As JSON without blanks: numbers as they were written, texts with no escape but those that must be.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(text) => out.push_str(text),
            Self::String(text) => write_text(text, out),
            Self::Array(elements) => {
                out.push('[');
                for (at, element) in elements.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    element.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_text(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// What it is, for an error.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// Prints what it is, no content.
impl fmt::Debug for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

struct Reader<'a> {
    bytes: &'a [u8],
    jiter: Jiter<'a>,
}

impl<'a> Reader<'a> {
    fn syntax(&self, why: &JiterError) -> JsonError {
        let at = self.jiter.error_position(why.index);
        JsonError::Syntax { line: at.line, column: at.column }
    }

    fn value(&mut self, peek: Peek, depth: usize) -> Result<Json<'a>, JsonError> {
        match peek {
            Peek::Null => {
                self.jiter.known_null().map_err(|why| self.syntax(&why))?;
                Ok(Json::Null)
            }
            Peek::True | Peek::False => {
                self.jiter.known_bool(peek).map(Json::Bool).map_err(|why| self.syntax(&why))
            }
            Peek::String => {
                let text = self.jiter.known_str().map(|text| kept(self.bytes, text));
                text.map(Json::String).map_err(|why| self.syntax(&why))
            }
            Peek::Array => self.array(depth),
            Peek::Object => self.object(depth),
            number => self.number(number),
        }
    }

    fn number(&mut self, peek: Peek) -> Result<Json<'a>, JsonError> {
        let begin = self.jiter.current_index();
        self.jiter.known_number_bytes(peek).map(drop).map_err(|why| self.syntax(&why))?;
        let written = self.jiter.slice_to_current(begin);
        // Counted from the beginning of the document: for an error alone.
        let at = || self.jiter.error_position(begin);
        if written.len() > NUMBER_BYTES_MAX {
            return Err(JsonError::Number { line: at().line, column: at().column });
        }
        let syntax = |_| JsonError::Syntax { line: at().line, column: at().column };
        std::str::from_utf8(written).map(Json::Number).map_err(syntax)
    }

    fn array(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        self.bounded(depth)?;
        let mut elements = Vec::new();
        let mut next = self.jiter.known_array().map_err(|why| self.syntax(&why))?;
        while let Some(peek) = next {
            elements.push(self.value(peek, depth + 1)?);
            next = self.jiter.array_step().map_err(|why| self.syntax(&why))?;
        }
        Ok(Json::Array(elements))
    }

    fn object(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        self.bounded(depth)?;
        let mut members: Vec<(Cow<'a, str>, Json<'a>)> = Vec::new();
        let bytes = self.bytes;
        let first = self.jiter.known_object().map(|name| name.map(|name| kept(bytes, name)));
        let mut next = first.map_err(|why| self.syntax(&why))?;
        while let Some(name) = next {
            let peek = self.jiter.peek().map_err(|why| self.syntax(&why))?;
            members.push((name, self.value(peek, depth + 1)?));
            let step = self.jiter.next_key().map(|name| name.map(|name| kept(bytes, name)));
            next = step.map_err(|why| self.syntax(&why))?;
        }
        let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
            let at = self.jiter.current_position();
            return Err(JsonError::Duplicate { line: at.line, column: at.column });
        }
        Ok(Json::Object(members))
    }

    fn bounded(&self, depth: usize) -> Result<(), JsonError> {
        if depth > NESTING_MAX {
            return Err(JsonError::Depth { line: self.jiter.current_position().line });
        }
        Ok(())
    }
}

/// `text` as part of `bytes` where it is one: then it had no escape.
fn kept<'a>(bytes: &'a [u8], text: &str) -> Cow<'a, str> {
    let begin = text.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
    let part = begin.checked_add(text.len()).and_then(|end| bytes.get(begin..end));
    match part.map(std::str::from_utf8) {
        Some(Ok(part)) if std::ptr::eq(part, text) => Cow::Borrowed(part),
        _ => Cow::Owned(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn takes_what_fhir_may_hold_and_nothing_that_readers_take_differently() {
        let cases: &[(&str, &str, Option<JsonError>)] = &[
            ("plain", r#"{"a":[1,-0.10,1e3,true,null,"x"]}"#, None),
            ("Korean, and an escaped pair", r#"{"이름":"홍\ud83d\ude00"}"#, None),
            ("white space around", " {} \n", None),
            ("nothing", "", Some(JsonError::Syntax { line: 1, column: 0 })),
            ("half a pair", r#"["\ud83d"]"#, Some(JsonError::Syntax { line: 1, column: 9 })),
            ("twice", r#"{"a":1,"b":2,"a":3}"#, Some(JsonError::Duplicate { line: 1, column: 19 })),
            (
                "twice, once escaped",
                r#"{"a":1,"\u0061":3}"#,
                Some(JsonError::Duplicate { line: 1, column: 18 }),
            ),
            ("something behind", "{} x", Some(JsonError::Syntax { line: 1, column: 4 })),
            ("cut off", r#"{"a":"#, Some(JsonError::Syntax { line: 1, column: 5 })),
            ("no number", "[NaN]", Some(JsonError::Syntax { line: 1, column: 2 })),
            ("a leading zero", "[01]", Some(JsonError::Syntax { line: 1, column: 3 })),
        ];
        for (why, raw, want) in cases {
            assert_eq!(Json::parse(raw.as_bytes()).err().as_ref(), want.as_ref(), "{why}");
        }
        assert!(matches!(Json::parse(b"[\"\xff\"]"), Err(JsonError::Syntax { .. })), "not UTF-8");
    }

    #[test]
    fn everything_has_a_bound() {
        let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(Json::parse(nested(NESTING_MAX).as_bytes()).is_ok());
        assert_eq!(Json::parse(nested(NESTING_MAX + 1).as_bytes()).err(), Some(JsonError::Depth { line: 1 }));
        assert!(Json::parse(nested(200_000).as_bytes()).is_err(), "no stack is overrun");
        assert!(Json::parse("9".repeat(NUMBER_BYTES_MAX).as_bytes()).is_ok());
        let long = format!("[{}]", "9".repeat(NUMBER_BYTES_MAX + 1));
        assert_eq!(Json::parse(long.as_bytes()).err(), Some(JsonError::Number { line: 1, column: 2 }));
        let large = vec![b' '; RESOURCE_BYTES_MAX + 1];
        assert!(matches!(Json::parse(&large), Err(JsonError::TooLarge { .. })));
    }

    /// Where each number stands was once counted from the beginning of the document.
    #[test]
    fn a_large_document_is_read_in_one_pass() {
        let numbers = format!("[{}1]", "12345678,\n".repeat(400_000));
        let begun = std::time::Instant::now();
        assert!(Json::parse(numbers.as_bytes()).is_ok());
        assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    }

    #[test]
    fn numbers_keep_their_digits_and_texts_are_borrowed() {
        let json = Json::parse(br#"{"a":0.100,"b":"plain","c":"esc\n"}"#).unwrap();
        assert_eq!(json.get("a"), Some(&Json::Number("0.100")));
        assert!(matches!(json.get("b"), Some(Json::String(Cow::Borrowed("plain")))));
        assert!(matches!(json.get("c"), Some(Json::String(Cow::Owned(text))) if text == "esc\n"));
        assert!(json.members().iter().all(|(name, _)| matches!(name, Cow::Borrowed(_))));
        assert_eq!(format!("{:?}", json.get("b").unwrap()), "a string");
    }
}
