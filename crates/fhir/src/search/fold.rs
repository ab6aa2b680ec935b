//! Texts as they are compared.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use crate::search::values::digest;

/// Bytes of a folded text that are kept: a longer text is found by its beginning.
pub const FOLDED_BYTES_MAX: usize = 200;
/// Bytes of a code or an address that stand in a key as they are: what was cut is not cut again.
pub const CODE_BYTES_MAX: usize = CUT_BYTES + 32;
/// Of a longer one, the bytes before its digest.
pub(crate) const CUT_BYTES: usize = 160;

/// A text without case, accents and what white space is beyond one space: `José  ÁLVAREZ` is `jose alvarez`. Hangul stays in
/// syllables, so that `기` is no beginning of `김`.
///
/// ```
/// use hilum_fhir::search::fold::fold;
/// assert_eq!(fold(" José\tÁLVAREZ "), "jose alvarez");
/// assert!(!fold("김").starts_with(&fold("기")));
/// ```
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return gathered(text.chars().map(|sign| sign.to_ascii_lowercase()), text.len());
    }
    by_tables(text)
}

fn by_tables(text: &str) -> String {
    // What capitals write by two letters is two.
    let small = text.nfkd().flat_map(char::to_lowercase).flat_map(|sign| {
        let (first, second) = if sign == 'ß' { ('s', Some('s')) } else { (sign, None) };
        std::iter::once(first).chain(second)
    });
    let plain = small.nfkd();
    gathered(plain.filter(|sign| !is_combining_mark(*sign)).nfc(), text.len())
}

fn gathered(signs: impl Iterator<Item = char>, bytes: usize) -> String {
    let mut out = String::with_capacity(bytes.min(FOLDED_BYTES_MAX));
    for sign in signs {
        let sign = match sign {
            'ς' => 'σ', // a final sigma is none in the middle of a longer text
            '\0' => continue,
            space if space.is_whitespace() => ' ',
            other => other,
        };
        if sign == ' ' && (out.is_empty() || out.ends_with(' ')) {
            continue;
        }
        if out.len() + sign.len_utf8() > FOLDED_BYTES_MAX {
            break;
        }
        out.push(sign);
    }
    out.truncate(out.trim_end().len());
    out
}

/// What tells a text from others that are folded alike (`:exact`).
pub fn exact(text: &str) -> i64 {
    digest(text.as_bytes())
}

/// A code or an address as it stands in a key: itself, or its beginning and a digest of all of it where it is longer than
/// [`CODE_BYTES_MAX`] or holds what no key may.
pub fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= CODE_BYTES_MAX && !text.contains('\0') {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(CUT_BYTES);
    let (begin, _) = text.split_at_checked(end).unwrap_or_default();
    let hash = blake3::hash(text.as_bytes()).to_hex();
    let begin = begin.replace('\0', "");
    Cow::Owned(format!("{begin}{}", hash.get(..32).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_folded_to_what_is_compared() {
        let cases = [
            ("accents", "José Ångström", "jose angstrom"),
            ("an accent of its own", "e\u{301}", "e"),
            ("a letter that is two", "Straße STRAẞE STRASSE", "strasse strasse strasse"),
            ("a final sigma", "ΟΔΟΣ", "οδοσ"),
            ("wide letters", "ＡＢＣ", "abc"),
            ("Hangul, as letters too", "\u{1100}\u{1175}\u{11b7}", "김"),
            ("white space", "\u{3000} a \n b\u{a0}", "a b"),
            ("nothing", " ", ""),
            ("NUL", "a\0b", "ab"),
            ("nothing but plain letters", "\t O'Neil \u{b} ANN\u{1c}_1 ", "o'neil ann\u{1c}_1"),
        ];
        for (why, text, want) in cases {
            assert_eq!(fold(text), want, "{why}");
            assert_eq!(fold(want), want, "{why}: again");
        }
        let all: String = (0..128).map(char::from).collect();
        assert_eq!(fold(&all), by_tables(&all), "plain letters fold alike either way");
        let long = "서울특별시립의료원".repeat(20);
        let folded = fold(&long);
        assert!(folded.len() <= FOLDED_BYTES_MAX && long.starts_with(&folded));
        assert_eq!(fold(&folded), folded);
    }

    #[test]
    fn what_is_too_long_for_a_key_is_cut_and_told_apart() {
        let long = "가".repeat(400);
        let other = format!("{long}나");
        assert_eq!(cut("a|b"), "a|b");
        assert!(cut(&long).len() <= 192 && cut(&long) != cut(&other));
        assert!(!cut("a\0b").contains('\0'));
        assert_ne!(cut("a\0b"), cut("ab\0"));
    }
}
