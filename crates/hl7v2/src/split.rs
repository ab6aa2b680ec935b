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
pub(crate) fn find_any(pairs: Option<&'static Encoding>, needles: [u8; 3], hay: &[u8]) -> Option<usize> {
    let [a, b, c] = needles;
    match pairs {
        None => hay.iter().position(|byte| *byte == a || *byte == b || *byte == c),
        Some(encoding) => find_any_paired(encoding, &needles, hay),
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

/// Where the `n`th `needle` (from 0) stands in `hay`, byte by byte: eight at a time, since fields are so short that
/// starting a search for each costs more than the search.
fn nth_byte(needle: u8, mut n: u32, hay: &[u8]) -> Option<usize> {
    const LOW: u64 = 0x7F7F_7F7F_7F7F_7F7F;
    const ONES: u64 = 0x0101_0101_0101_0101;
    let pattern = ONES * u64::from(needle);
    let (chunks, tail) = hay.as_chunks::<8>();
    for (at, chunk) in chunks.iter().enumerate() {
        let differing = u64::from_le_bytes(*chunk) ^ pattern;
        // The high bit of each byte that equals the needle.
        let mut hits = !(((differing & LOW) + LOW) | differing | LOW);
        let count = ((hits >> 7).wrapping_mul(ONES) >> 56) as u32;
        if n < count {
            for _ in 0..n {
                hits &= hits - 1;
            }
            return Some(at * 8 + hits.trailing_zeros() as usize / 8);
        }
        n -= count;
    }
    let hits = tail.iter().enumerate().filter(|(_, byte)| **byte == needle);
    hits.map(|(at, _)| at + chunks.len() * 8).nth(n as usize)
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

    fn nth(&mut self, n: usize) -> Option<&'m [u8]> {
        let (Some(needle), None) = (self.needle, self.pairs) else {
            for _ in 0..n {
                self.next()?;
            }
            return self.next();
        };
        let mut hay = self.rest?;
        if n > 0 {
            let Some(at) = nth_byte(needle, n as u32 - 1, hay) else {
                self.rest = None;
                return None;
            };
            hay = hay.get(at + 1..)?;
        }
        let Some(end) = nth_byte(needle, 0, hay) else {
            self.rest = None;
            return Some(hay);
        };
        self.rest = hay.get(end + 1..);
        hay.get(..end)
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
    fn eight_at_a_time_finds_what_one_at_a_time_finds() {
        let hay: Vec<u8> =
            (0..200_u32).map(|n| if n * n % 7 < 2 { b'|' } else { (n * 37 % 256) as u8 }).collect();
        for start in 0..16 {
            let hay = &hay[start..hay.len() - start];
            let want: Vec<usize> = (0..hay.len()).filter(|at| hay[*at] == b'|').collect();
            for n in 0..want.len() + 2 {
                assert_eq!(nth_byte(b'|', n as u32, hay), want.get(n).copied(), "{start} {n}");
                let slow = hay.split(|byte| *byte == b'|').nth(n);
                assert_eq!(Pieces::new(None, Some(b'|'), Some(hay)).nth(n), slow, "{start} {n}");
            }
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
