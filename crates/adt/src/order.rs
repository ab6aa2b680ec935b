//! The total order of messages, free of arrival (clinical-rules 2).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hilum_core::{Id, Timestamp};
use hilum_hl7v2::time::{self, Time};
use serde::{Deserialize, Serialize};

/// How precise a time is: the coarser sorts first at the same lower bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Precision {
    /// No time at all.
    None = 0,
    /// A year.
    Year = 1,
    /// A month.
    Month = 2,
    /// A day.
    Day = 3,
    /// An hour.
    Hour = 4,
    /// A minute.
    Minute = 5,
    /// A second.
    Second = 6,
    /// A tenth of a second or finer.
    Fraction = 7,
}

impl Precision {
    /// From its rank; what is greater than the finest is the finest.
    pub const fn from_rank(rank: u8) -> Self {
        match rank {
            0 => Self::None,
            1 => Self::Year,
            2 => Self::Month,
            3 => Self::Day,
            4 => Self::Hour,
            5 => Self::Minute,
            6 => Self::Second,
            _ => Self::Fraction,
        }
    }

    /// How many microseconds a time of this precision may mean, its first one included.
    pub const fn width_micros(self) -> i64 {
        const SECOND: i64 = 1_000_000;
        match self {
            Self::None => i64::MAX,
            Self::Year => 366 * 86_400 * SECOND,
            Self::Month => 31 * 86_400 * SECOND,
            Self::Day => 86_400 * SECOND,
            Self::Hour => 3_600 * SECOND,
            Self::Minute => 60 * SECOND,
            Self::Second => SECOND,
            Self::Fraction => 1,
        }
    }
}

/// A message's place in the total order of one clock: lower bound of the time, precision, MSH-13, numeric MSH-10 where
/// the source declares it monotone, the trigger's rank, and the message's id, which is a function of source and digest.
/// Compares as its bytes do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp([u8; Stamp::BYTES]);

/// What a [`Stamp`] is made of, beside the time.
#[derive(Debug, Clone, Copy)]
pub struct Tie {
    /// MSH-13; 0 = none.
    pub sequence: u64,
    /// MSH-10 as a number; 0 = none, or the source does not declare it monotone.
    pub control: u64,
    /// The trigger's rank.
    pub rank: u8,
    /// The message.
    pub message: Id,
}

impl Stamp {
    /// Its length in bytes.
    pub const BYTES: usize = 42;
    /// Where the trigger's rank stands; ranks leave its highest bit free.
    const RANK: usize = 25;
    const ASKS: u8 = 1 << 7;
    /// Before all others.
    pub const ZERO: Self = Self([0; Self::BYTES]);

    /// Puts a stamp together.
    pub fn new(time: Option<Instant>, tie: Tie) -> Self {
        let mut bytes = [0; Self::BYTES];
        let (at, precision) =
            time.map_or((i64::MIN, Precision::None), |time| (time.at.as_micros(), time.precision));
        // The sign bit turned round, so that bytes sort as numbers do.
        bytes[..8].copy_from_slice(&(at.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        bytes[8] = precision as u8;
        bytes[9..17].copy_from_slice(&tie.sequence.to_be_bytes());
        bytes[17..25].copy_from_slice(&tie.control.to_be_bytes());
        bytes[Self::RANK] = tie.rank & !Self::ASKS;
        bytes[26..].copy_from_slice(tie.message.as_bytes());
        Self(bytes)
    }

    /// Where a message that asks for confidentiality stands among those of the very same time, precision, MSH-13 and
    /// declared MSH-10: behind them all, whatever its trigger and digest. Nobody knows which of them was meant to be the
    /// last, and who is shown by mistake cannot be hidden again.
    #[must_use]
    pub const fn asking(mut self) -> Self {
        self.0[Self::RANK] |= Self::ASKS;
        self
    }

    /// Where the message itself stands: [`Stamp::asking`] taken back.
    #[must_use]
    pub const fn of_message(mut self) -> Self {
        self.0[Self::RANK] &= !Self::ASKS;
        self
    }

    /// Whether only the trigger's rank and the digest put one before the other.
    pub fn ties_with(&self, other: &Self) -> bool {
        self.0[..Self::RANK] == other.0[..Self::RANK]
    }

    /// From stored bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes, which sort as stamps do.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The first instant that its time may mean; absent when the message had no usable time.
    pub fn at(&self) -> Option<Timestamp> {
        let mut time = [0; 8];
        time.copy_from_slice(&self.0[..8]);
        let at = (u64::from_be_bytes(time) ^ (1 << 63)).cast_signed();
        (self.precision() != Precision::None).then_some(Timestamp::from_micros(at))
    }

    /// How precise the time is.
    pub const fn precision(&self) -> Precision {
        Precision::from_rank(self.0[8])
    }

    /// The message.
    pub fn message(&self) -> Id {
        let mut id = [0; 16];
        id.copy_from_slice(&self.0[26..]);
        Id::from_bytes(id)
    }

    /// Whether this one may be the earlier: it sorts before `other`, or within the time that `other` leaves open because it
    /// is less precise (a cancel to the minute of what was told to the second).
    pub fn may_precede(&self, other: &Self) -> bool {
        if self < other {
            return true;
        }
        let (Some(at), Some(from)) = (self.at(), other.at()) else { return false };
        let until = from.as_micros().saturating_add(other.precision().width_micros());
        other.precision() < self.precision() && at.as_micros() < until
    }

    /// Whether both may mean the same instant: their order is a convention then, and is marked. MSH-13 and declared
    /// monotone MSH-10 decide such ties.
    pub fn is_uncertain_against(&self, other: &Self) -> bool {
        let (Some(a), Some(b)) = (self.at(), other.at()) else { return true };
        let (early, late) = if a <= b { (self, b) } else { (other, a) };
        let early_at = if a <= b { a } else { b };
        let overlaps =
            late.as_micros() < early_at.as_micros().saturating_add(early.precision().width_micros());
        let decided = |from: usize, to: usize| {
            let (one, two) = (&self.0[from..to], &other.0[from..to]);
            let is_set = |bytes: &[u8]| bytes.iter().any(|byte| *byte != 0);
            is_set(one) && is_set(two) && one != two
        };
        overlaps && !(self.0[..9] == other.0[..9] && (decided(9, 17) || decided(17, 25)))
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stamp({:?} {})", self.at().map(Timestamp::as_micros), self.message())
    }
}

/// Base64 of the bytes: a third shorter than hexadecimal in each stored register.
impl Serialize for Stamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; Self::BYTES * 4 / 3];
        let written = URL_SAFE_NO_PAD.encode_slice(self.0, &mut text).map_err(serde::ser::Error::custom)?;
        let text = text.get(..written).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
        serializer.serialize_str(text)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Stamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a stamp")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Stamp, E> {
                let mut bytes = [0; Stamp::BYTES];
                match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
                    Ok(Stamp::BYTES) => Ok(Stamp(bytes)),
                    _ => Err(E::custom("not a stamp")),
                }
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// An HL7 time as an instant that sorts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// The first instant that it may mean.
    pub at: Timestamp,
    /// How precise it is.
    pub precision: Precision,
}

impl From<&Time> for Instant {
    fn from(time: &Time) -> Self {
        let precision = match time.precision {
            time::Precision::Year => Precision::Year,
            time::Precision::Month => Precision::Month,
            time::Precision::Day => Precision::Day,
            time::Precision::Hour => Precision::Hour,
            time::Precision::Minute => Precision::Minute,
            time::Precision::Second => Precision::Second,
            time::Precision::Fraction => Precision::Fraction,
        };
        Self { at: time.lower, precision }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tie(message: u8) -> Tie {
        Tie { sequence: 0, control: 0, rank: 0, message: Id::from_bytes([message; 16]) }
    }

    fn stamp(text: &str, tie: Tie) -> Stamp {
        let time = time::parse(text, &time::Defaults::zone(jiff::tz::TimeZone::UTC)).unwrap();
        Stamp::new(Some(Instant::from(&time)), tie)
    }

    #[test]
    fn order_is_time_precision_sequence_control_rank_message() {
        let base = tie(1);
        let rising = [
            ("no time sorts first", Stamp::new(None, base)),
            ("a day before", stamp("19690228", base)),
            ("coarse before fine", stamp("20260301", base)),
            ("fine", stamp("202603010000", base)),
            ("sequence", stamp("202603010000", Tie { sequence: 1, ..base })),
            ("control", stamp("202603010000", Tie { sequence: 1, control: 300, ..base })),
            ("rank", stamp("202603010000", Tie { sequence: 1, control: 300, rank: 1, ..base })),
            ("message", stamp("202603010000", Tie { sequence: 1, control: 300, rank: 1, ..tie(2) })),
            ("later", stamp("202603010001", base)),
        ];
        for pair in rising.windows(2) {
            assert!(pair[0].1 < pair[1].1, "{} < {}", pair[0].0, pair[1].0);
        }
        let last = rising.last().unwrap().1;
        assert_eq!(serde_json::from_str::<Stamp>(&serde_json::to_string(&last).unwrap()).unwrap(), last);
        assert_eq!(last.message(), Id::from_bytes([1; 16]));
    }

    #[test]
    fn what_is_less_precise_may_be_later() {
        let (one, two) = (tie(1), tie(2));
        let cases = [
            ("before", stamp("20260301115959", one), stamp("202603011200", two), true),
            ("within the minute", stamp("20260301120030", one), stamp("202603011200", two), true),
            ("behind the minute", stamp("20260301120100", one), stamp("202603011200", two), false),
            ("as precise: the order decides", stamp("202603011200", two), stamp("202603011200", one), false),
            ("more precise", stamp("202603011200", two), stamp("20260301120000", one), true),
            ("no time", stamp("202603011200", one), Stamp::new(None, two), false),
        ];
        for (why, a, b, want) in cases {
            assert_eq!(a.may_precede(&b), want, "{why}");
        }
    }

    #[test]
    fn overlap_is_marked() {
        let (one, two) = (tie(1), tie(2));
        let cases = [
            ("same minute", stamp("202603011200", one), stamp("202603011200", two), true),
            ("a second within that minute", stamp("202603011200", one), stamp("20260301120030", two), true),
            ("the next minute", stamp("202603011200", one), stamp("202603011201", two), false),
            ("a day against its noon", stamp("20260301", one), stamp("202603011200", two), true),
            (
                "MSH-13 decides",
                stamp("202603011200", Tie { sequence: 1, ..one }),
                stamp("202603011200", Tie { sequence: 2, ..two }),
                false,
            ),
            ("no time", Stamp::new(None, one), stamp("202603011200", two), true),
        ];
        for (why, a, b, want) in cases {
            assert_eq!(a.is_uncertain_against(&b), want, "{why}");
            assert_eq!(b.is_uncertain_against(&a), want, "{why}, turned round");
        }
    }
}
