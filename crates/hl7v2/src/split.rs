//! Where delimiters are. Splitting is aware of charsets whose second bytes may equal a delimiter (rule 21).

use encoding_rs::Encoding;
use memchr::memchr;

/// How many bytes the character at the start of `rest` has, for a charset with low trail bytes. A lead byte whose
/// trail does not belong to it stands alone, as the decoder has it, so that it swallows no delimiter.
pub(crate) fn step(encoding: &'static Encoding, rest: &[u8]) -> usize {
    let (Some(&lead), Some(&trail)) = (rest.first(), rest.get(1)) else { return 1 };
    let single = lead < 0x81
        || lead == 0xFF
        || encoding == encoding_rs::SHIFT_JIS && matches!(lead, 0xA0..=0xDF | 0xFD..);
    if single || trail < 0x30 || trail == 0x7F || trail == 0xFF {
        return 1;
    }
    if trail.is_ascii() {
        if trail < 0x40 {
            // Only GB 18030 has them, in pairs of pairs; digits are never delimiters.
            return if encoding == encoding_rs::GB18030 && trail.is_ascii_digit() { 2 } else { 1 };
        }
        if trail.is_ascii_alphanumeric() {
            return 2;
        }
        let pair = [lead, trail];
        let (_, had_errors) = encoding.decode_without_bom_handling(&pair);
        return if had_errors { 1 } else { 2 };
    }
    2
}

/// The first `needle` in `hay`, not counting trail bytes.
pub(crate) fn find(pairs: Option<&'static Encoding>, needle: u8, hay: &[u8]) -> Option<usize> {
    match pairs {
        None => memchr(needle, hay),
        Some(encoding) => find_any_paired(encoding, &[needle], hay),
    }
}

/// The first of `needles` in `hay`, not counting trail bytes.
pub(crate) fn find_any(pairs: Option<&'static Encoding>, needles: &[u8], hay: &[u8]) -> Option<usize> {
    match pairs {
        None => hay.iter().position(|byte| needles.contains(byte)),
        Some(encoding) => find_any_paired(encoding, needles, hay),
    }
}

fn find_any_paired(encoding: &'static Encoding, needles: &[u8], hay: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(&byte) = hay.get(at) {
        if byte < 0x80 {
            if needles.contains(&byte) {
                return Some(at);
            }
            at += 1;
        } else {
            at += step(encoding, hay.get(at..)?);
        }
    }
    None
}

/// The pieces of `hay` between `needle`s: one more than there are needles.
#[derive(Clone)]
pub(crate) struct Pieces<'m> {
    rest: Option<&'m [u8]>,
    needle: Option<u8>,
    pairs: Option<&'static Encoding>,
}

impl<'m> Pieces<'m> {
    pub(crate) const fn new(
        pairs: Option<&'static Encoding>,
        needle: Option<u8>,
        hay: Option<&'m [u8]>,
    ) -> Self {
        Self { rest: hay, needle, pairs }
    }
}

impl<'m> Iterator for Pieces<'m> {
    type Item = &'m [u8];

    fn next(&mut self) -> Option<&'m [u8]> {
        let hay = self.rest?;
        match self.needle.and_then(|needle| find(self.pairs, needle, hay)) {
            Some(at) => {
                self.rest = hay.get(at + 1..);
                hay.get(..at)
            }
            None => self.rest.take(),
        }
    }
}

/// The `n`th piece of `hay` between `needle`s, from 0.
pub(crate) fn piece<'m>(
    pairs: Option<&'static Encoding>,
    needle: Option<u8>,
    n: usize,
    hay: &'m [u8],
) -> Option<&'m [u8]> {
    Pieces::new(pairs, needle, Some(hay)).nth(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use encoding_rs::{BIG5, GB18030, SHIFT_JIS};

    #[test]
    fn trail_bytes_are_no_delimiters() {
        let cases: [(&str, &'static Encoding, &[u8], Option<usize>); 8] = [
            ("Shift_JIS ポ has a | in it", SHIFT_JIS, b"\x83\x7C|", Some(2)),
            ("Shift_JIS half-width katakana is one byte", SHIFT_JIS, b"\xB1|", Some(1)),
            ("Big5 四 has a |", BIG5, b"\xA5\x7C|x", Some(2)),
            ("GBK 億 and friends have a |", GB18030, b"\x83\x7C|", Some(2)),
            ("GB 18030 in four bytes", GB18030, b"\x81\x30\x81\x30|", Some(4)),
            ("a lead byte that belongs to nothing", SHIFT_JIS, b"\xFD|", Some(1)),
            ("a lead byte at the end", BIG5, b"ab\xA5", None),
            ("an unassigned pair swallows no delimiter", BIG5, b"\x81\x7C|", Some(1)),
        ];
        for (why, encoding, hay, want) in cases {
            assert_eq!(find(Some(encoding), b'|', hay), want, "{why}");
        }
    }

    #[test]
    fn pieces_are_one_more_than_needles() {
        let all: Vec<&[u8]> = Pieces::new(None, Some(b'|'), Some(b"a||b|")).collect();
        assert_eq!(all, [&b"a"[..], b"", b"b", b""]);
        assert_eq!(piece(None, Some(b'|'), 2, b"a||b|"), Some(&b"b"[..]));
        assert_eq!(piece(None, Some(b'|'), 4, b"a||b|"), None);
        assert_eq!(piece(None, None, 0, b"a|b"), Some(&b"a|b"[..]));
    }
}
