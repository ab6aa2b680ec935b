//! MSH-1 and MSH-2.

/// The delimiters that a message says in MSH-1 and MSH-2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delimiters {
    /// MSH-1.
    pub field: u8,
    /// First of MSH-2.
    pub component: u8,
    /// Second of MSH-2.
    pub repetition: Option<u8>,
    /// Third of MSH-2.
    pub escape: Option<u8>,
    /// Fourth of MSH-2.
    pub subcomponent: Option<u8>,
    /// Fifth of MSH-2: marks truncated text (v2.7).
    pub truncation: Option<u8>,
}

/// What is wrong with MSH-1 or MSH-2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DelimiterError {
    /// MSH-1 is missing, or a letter, digit, blank, control or non-ASCII byte.
    #[error("MSH-1 is no delimiter")]
    Field,
    /// MSH-2 is empty, too long, or has a letter, digit, blank, control or non-ASCII byte.
    #[error("MSH-2 must be 1 to 5 punctuation characters")]
    Encoding,
    /// Two delimiters are the same.
    #[error("MSH-1 and MSH-2 name a character twice")]
    Twice,
}

impl Delimiters {
    /// `|^~\&`, as recommended.
    pub const USUAL: Self = Self {
        field: b'|',
        component: b'^',
        repetition: Some(b'~'),
        escape: Some(b'\\'),
        subcomponent: Some(b'&'),
        truncation: None,
    };

    /// `|^~\&#`, as recommended since v2.7.
    pub const V27: Self = Self { truncation: Some(b'#'), ..Self::USUAL };

    /// Reads the delimiters from a header segment (MSH, FHS, BHS) that begins at `segment[0]`.
    ///
    /// # Errors
    /// [`DelimiterError`] says what is wrong.
    pub fn read(segment: &[u8]) -> Result<Self, DelimiterError> {
        let field = *segment.get(3).filter(|byte| is_delimiter(**byte)).ok_or(DelimiterError::Field)?;
        let rest = segment.get(4..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == field).unwrap_or(rest.len());
        let encoding = rest.get(..end).unwrap_or_default();
        if encoding.is_empty() || encoding.len() > 5 || !encoding.iter().copied().all(is_delimiter) {
            return Err(DelimiterError::Encoding);
        }
        for (at, byte) in encoding.iter().enumerate() {
            if encoding.iter().skip(at + 1).any(|other| other == byte) {
                return Err(DelimiterError::Twice);
            }
        }
        Ok(Self {
            field,
            component: *encoding.first().ok_or(DelimiterError::Encoding)?,
            repetition: encoding.get(1).copied(),
            escape: encoding.get(2).copied(),
            subcomponent: encoding.get(3).copied(),
            truncation: encoding.get(4).copied(),
        })
    }

    /// Whether `byte` is one of the five that structure a segment.
    pub fn structures(&self, byte: u8) -> bool {
        byte == self.field
            || byte == self.component
            || Some(byte) == self.repetition
            || Some(byte) == self.subcomponent
    }
}

/// Punctuation, and the control bytes that mark no line or frame. A letter would cut every text; `.`, `+`, `-` would
/// cut every number and time; `"` would leave no null.
const fn is_delimiter(byte: u8) -> bool {
    byte.is_ascii_punctuation() && !matches!(byte, b'"' | b'.' | b'+' | b'-')
        || matches!(byte, 0x01..=0x08 | 0x0E..=0x1A | 0x1D..=0x1F)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msh_1_and_2() {
        let cases: [(&str, &[u8], Result<Delimiters, DelimiterError>); 12] = [
            ("usual", b"MSH|^~\\&|A", Ok(Delimiters::USUAL)),
            ("v2.7", b"MSH|^~\\&#|A", Ok(Delimiters::V27)),
            (
                "own",
                b"MSH*:;!%*",
                Ok(Delimiters {
                    field: b'*',
                    component: b':',
                    repetition: Some(b';'),
                    escape: Some(b'!'),
                    subcomponent: Some(b'%'),
                    truncation: None,
                }),
            ),
            (
                "component only",
                b"MSH|^",
                Ok(Delimiters { repetition: None, escape: None, subcomponent: None, ..Delimiters::USUAL }),
            ),
            ("nothing", b"MSH", Err(DelimiterError::Field)),
            ("letter", b"MSHA^~\\&A", Err(DelimiterError::Field)),
            ("a point cuts every number", b"MSH.^~\\&.A", Err(DelimiterError::Field)),
            ("a sign cuts every offset", b"MSH|+~\\&|A", Err(DelimiterError::Encoding)),
            ("no MSH-2", b"MSH||A", Err(DelimiterError::Encoding)),
            ("too long", b"MSH|^~\\&#@|A", Err(DelimiterError::Encoding)),
            ("twice", b"MSH|^^\\&|A", Err(DelimiterError::Twice)),
            ("bytes beyond ASCII", b"MSH|^~\\\xC8|A", Err(DelimiterError::Encoding)),
        ];
        for (why, raw, want) in cases {
            assert_eq!(Delimiters::read(raw), want, "{why}");
        }
    }
}
