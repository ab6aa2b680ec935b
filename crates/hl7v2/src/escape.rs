//! Escape sequences: chapter 2, "Use of escape sequences in text fields".

use std::borrow::Cow;

use crate::delimiters::Delimiters;
use crate::finding::{Flaw, Flaws};
use crate::limits::ESCAPE_REPEAT_MAX;
use crate::split;

/// Whether `raw` has an escape character at all.
pub(crate) fn has_escape(
    raw: &[u8],
    delimiters: &Delimiters,
    pairs: Option<&'static encoding_rs::Encoding>,
) -> bool {
    delimiters.escape.is_some_and(|escape| split::find(pairs, escape, raw).is_some())
}

/// Replaces escape sequences, in the message's charset. What is not understood stays as it is, with a flaw; so does
/// hexadecimal, where the caller found that the charset does not have those bytes.
pub(crate) fn unescape(
    raw: &[u8],
    delimiters: &Delimiters,
    pairs: Option<&'static encoding_rs::Encoding>,
    keep_hex: bool,
    flaws: &mut Flaws,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let Some(escape) = delimiters.escape else {
        out.extend_from_slice(raw);
        return out;
    };
    let mut rest = raw;
    while let Some(open) = split::find(pairs, escape, rest) {
        let (before, tail) = rest.split_at(open);
        out.extend_from_slice(before);
        let after_open = tail.get(1..).unwrap_or_default();
        let Some(len) = split::find(pairs, escape, after_open) else {
            flaws.insert(Flaw::EscapeOpen);
            out.extend_from_slice(tail);
            return out;
        };
        let (body, close) = after_open.split_at(len);
        match expand(body, delimiters, keep_hex, &mut out) {
            Ok(()) => rest = close.get(1..).unwrap_or_default(),
            Err(flaw) => {
                flaws.insert(flaw);
                out.push(escape);
                out.extend_from_slice(body);
                if flaw == Flaw::EscapeUnknown {
                    // The second character may open a sequence of its own: C:\dir\F\x.
                    rest = close;
                } else {
                    out.push(escape);
                    rest = close.get(1..).unwrap_or_default();
                }
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

fn expand(body: &[u8], delimiters: &Delimiters, keep_hex: bool, out: &mut Vec<u8>) -> Result<(), Flaw> {
    match body {
        b"F" => out.push(delimiters.field),
        b"S" => out.push(delimiters.component),
        b"T" => out.push(delimiters.subcomponent.unwrap_or(b'&')),
        b"R" => out.push(delimiters.repetition.unwrap_or(b'~')),
        b"E" => out.push(delimiters.escape.unwrap_or(b'\\')),
        b"P" => out.push(delimiters.truncation.unwrap_or(b'#')),
        // Highlighting on and off: the text is the same without.
        b"H" | b"N" => {}
        [b'X', ..] if keep_hex => return Err(Flaw::EscapeHex),
        [b'X', digits @ ..] => return expand_hex(digits, out),
        [b'Z', ..] => return Err(Flaw::EscapeLocal),
        [b'C', digits @ ..] if digits.len() == 4 && digits.iter().all(u8::is_ascii_hexdigit) => {
            return Err(Flaw::EscapeCharset);
        }
        [b'M', digits @ ..] if matches!(digits.len(), 4 | 6) && digits.iter().all(u8::is_ascii_hexdigit) => {
            return Err(Flaw::EscapeCharset);
        }
        [b'.', command @ ..] => return expand_formatting(command, out),
        _ => return Err(Flaw::EscapeUnknown),
    }
    Ok(())
}

fn expand_hex(digits: &[u8], out: &mut Vec<u8>) -> Result<(), Flaw> {
    let (pairs, odd) = digits.as_chunks::<2>();
    if pairs.is_empty() || !odd.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(Flaw::EscapeHex);
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit.to_ascii_lowercase() - b'a') + 10,
    };
    out.extend(pairs.iter().map(|[high, low]| nibble(*high) << 4 | nibble(*low)));
    Ok(())
}

/// Formatting commands of FT: line breaks and blanks are kept as such, margins are dropped.
fn expand_formatting(command: &[u8], out: &mut Vec<u8>) -> Result<(), Flaw> {
    let (name, argument) = command.split_at(command.len().min(2));
    let count = || -> Option<usize> {
        let digits = argument.trim_ascii().strip_prefix(b"+").unwrap_or(argument.trim_ascii());
        match digits {
            b"" => Some(1),
            _ => str::from_utf8(digits).ok()?.parse::<usize>().ok().map(|n| n.min(ESCAPE_REPEAT_MAX)),
        }
    };
    match name {
        b"br" | b"ce" if argument.is_empty() => out.push(b'\n'),
        b"fi" | b"nf" if argument.is_empty() => {}
        b"in" | b"ti" => {}
        b"sp" => out.extend(std::iter::repeat_n(b'\n', count().ok_or(Flaw::EscapeUnknown)?)),
        b"sk" => out.extend(std::iter::repeat_n(b' ', count().ok_or(Flaw::EscapeUnknown)?)),
        _ => return Err(Flaw::EscapeUnknown),
    }
    Ok(())
}

/// Escapes what is a delimiter or a line end in `text`.
pub(crate) fn escape<'t>(text: &'t str, delimiters: &Delimiters) -> Cow<'t, str> {
    let sequence = |c: char| -> Option<&'static str> {
        let byte = u8::try_from(c).ok().filter(u8::is_ascii)?;
        match byte {
            b'\r' => Some("X0D"),
            b'\n' => Some("X0A"),
            _ if byte == delimiters.field => Some("F"),
            _ if byte == delimiters.component => Some("S"),
            _ if Some(byte) == delimiters.subcomponent => Some("T"),
            _ if Some(byte) == delimiters.repetition => Some("R"),
            _ if Some(byte) == delimiters.escape => Some("E"),
            _ if Some(byte) == delimiters.truncation => Some("P"),
            _ => None,
        }
    };
    let Some(escape) = delimiters.escape.map(char::from) else {
        return Cow::Borrowed(text);
    };
    if !text.chars().any(|c| sequence(c).is_some()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match sequence(c) {
            None => out.push(c),
            Some(body) => {
                out.push(escape);
                out.push_str(body);
                out.push(escape);
            }
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(raw: &str) -> (String, Vec<Flaw>) {
        let mut flaws = Flaws::NONE;
        let out = unescape(raw.as_bytes(), &Delimiters::V27, None, false, &mut flaws);
        (String::from_utf8(out).unwrap(), flaws.iter().collect())
    }

    #[test]
    fn every_escape() {
        let cases: [(&str, &str, &str, &[Flaw]); 26] = [
            ("no escape", "plain", "plain", &[]),
            ("delimiters", r"\F\\S\\T\\R\\E\\P\", r"|^&~\#", &[]),
            ("between text", r"a\F\b", "a|b", &[]),
            ("highlighting", r"\H\bold\N\", "bold", &[]),
            ("hexadecimal", r"\X48 \", r"\X48 \", &[Flaw::EscapeHex]),
            ("hexadecimal bytes", r"\X4869\", "Hi", &[]),
            ("hexadecimal in two sequences makes one character", r"\XED95\\X9C\", "한", &[]),
            ("hexadecimal, odd", r"\X486\", r"\X486\", &[Flaw::EscapeHex]),
            ("hexadecimal, empty", r"\X\", r"\X\", &[Flaw::EscapeHex]),
            ("line break", r"a\.br\b", "a\nb", &[]),
            ("three blank lines", r"a\.sp3\b", "a\n\n\nb", &[]),
            ("plus sign", r"a\.sp+2\b", "a\n\nb", &[]),
            ("one blank line", r"a\.sp\b", "a\nb", &[]),
            ("blanks", r"a\.sk 3\b", "a   b", &[]),
            ("centred", r"\.ce\a", "\na", &[]),
            ("margins", r"\.in+4\\.ti-2\\.fi\\.nf\a", "a", &[]),
            ("unknown command", r"\.xx\a", r"\.xx\a", &[Flaw::EscapeUnknown, Flaw::EscapeOpen]),
            ("local", r"\Z01\a", r"\Z01\a", &[Flaw::EscapeLocal]),
            ("charset, one byte", r"\C2842\a", r"\C2842\a", &[Flaw::EscapeCharset]),
            ("charset, several bytes", r"\M244200\a", r"\M244200\a", &[Flaw::EscapeCharset]),
            ("open", r"a\b", r"a\b", &[Flaw::EscapeOpen]),
            ("a path of Windows", r"C:\dir\file", r"C:\dir\file", &[Flaw::EscapeUnknown, Flaw::EscapeOpen]),
            ("an escape after an unknown one", r"C:\dir\F\x", r"C:\dir|x", &[Flaw::EscapeUnknown]),
            ("empty", r"a\\b", r"a\\b", &[Flaw::EscapeUnknown, Flaw::EscapeOpen]),
            ("lower case is another sequence", r"\f\", r"\f\", &[Flaw::EscapeUnknown, Flaw::EscapeOpen]),
            ("alone", r"\", r"\", &[Flaw::EscapeOpen]),
        ];
        for (why, raw, text, flaws) in cases {
            assert_eq!(read(raw), (text.to_owned(), flaws.to_vec()), "{why}");
        }
    }

    #[test]
    fn repetition_is_bounded() {
        assert_eq!(read(r"\.sp99999999\").0.len(), ESCAPE_REPEAT_MAX);
        assert_eq!(read(r"\.sp99999999999999999999999\").1, [Flaw::EscapeUnknown, Flaw::EscapeOpen]);
    }

    #[test]
    fn escaping_is_undone_by_unescaping() {
        for text in ["plain", r"a|b^c&d~e\f#g", "two\r\nlines", "황호|천호"] {
            assert_eq!(read(&escape(text, &Delimiters::V27)), (text.to_owned(), Vec::new()));
        }
    }
}
