//! Where the partitions end, as each group's row says it: sealed, because it is believed where a page is damaged.

/// The end of a partition of which nobody knows it: beyond all offsets.
pub(super) const UNKNOWN: u64 = i64::MAX as u64;

const SEAL_BYTES: usize = 8;

fn seal(group: i64, said: &[u8]) -> [u8; SEAL_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&group.to_le_bytes());
    hasher.update(said);
    let mut seal = [0; SEAL_BYTES];
    seal.copy_from_slice(&hasher.finalize().as_bytes()[..SEAL_BYTES]);
    seal
}

/// For each slot one more than its end, or 0 where it is not known, as LEB128; then the seal.
pub(super) fn encode(group: i64, ends: &[u64]) -> Vec<u8> {
    let mut said = Vec::with_capacity(ends.len() * 3 + SEAL_BYTES);
    for &end in ends {
        let mut rest = if end == UNKNOWN { 0 } else { end + 1 };
        while rest >= 0x80 {
            said.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        said.push(rest as u8);
    }
    let seal = seal(group, &said);
    said.extend(seal);
    said
}

/// Reads what [`encode`] wrote, for `slots` slots: those that came later are not known. `None` when it is not whole.
pub(super) fn decode(group: i64, stored: &[u8], slots: usize) -> Option<Vec<Option<u64>>> {
    let (said, sealed) = stored.split_at_checked(stored.len().checked_sub(SEAL_BYTES)?)?;
    if seal(group, said) != *sealed {
        return None;
    }
    let mut ends = Vec::with_capacity(slots);
    let (mut value, mut shift) = (0_u64, 0);
    for &byte in said {
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            ends.push(value.checked_sub(1));
            (value, shift) = (0, 0);
        }
    }
    ends.resize(slots, None);
    Some(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_no_flipped_bit_is() {
        let ends = [0, 1, 126, 127, 128, 1 << 40, UNKNOWN];
        let stored = encode(7, &ends);
        let read = decode(7, &stored, 8).expect("whole");
        let want: Vec<Option<u64>> =
            ends.iter().map(|&end| (end != UNKNOWN).then_some(end)).chain([None]).collect();
        assert_eq!(read, want);
        assert_eq!(decode(8, &stored, 8), None, "another group's");
        for at in 0..stored.len() {
            let mut flipped = stored.clone();
            flipped[at] ^= 1;
            assert_eq!(decode(7, &flipped, 8), None, "byte {at}");
        }
        assert_eq!(decode(7, b"short", 8), None);
    }
}
