//! Dates and times: DTM and TS (chapter 2A), clinical-rules 3.

use hilum_core::Timestamp;
use jiff::civil::{Date, DateTime, Time as CivilTime};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use crate::finding::{Finding, Flaw, Flaws};
use crate::message::{Message, Slot};
use crate::path::Path;

/// How much of a time was said. In order: what says less comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Precision {
    /// `2026`.
    Year,
    /// `202607`.
    Month,
    /// `20260714`.
    Day,
    /// `2026071409`.
    Hour,
    /// `202607140930`.
    Minute,
    /// `20260714093015`.
    Second,
    /// `20260714093015.1234`.
    Fraction,
}

/// Why a text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Nothing there.
    #[error("no time")]
    Empty,
    /// Not `YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]`.
    #[error("not in the form YYYYMMDDHHMMSS.SSSS+ZZZZ")]
    Form,
    /// A month, day, hour, minute, second or offset that does not exist.
    #[error("a date or time that does not exist")]
    Range,
}

/// A time as it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Its first instant: of a day the day's beginning in its zone.
    pub lower: Timestamp,
    /// How much was said.
    pub precision: Precision,
    /// Whether the field itself carried an offset.
    pub had_offset: bool,
    /// The civil date and time as written, whatever the zone.
    pub civil: DateTime,
    /// What was odd: [`Flaw::TimeGap`], [`Flaw::TimeOverlap`].
    pub flaws: Flaws,
}

impl Time {
    /// The instant after its last one: of a day the beginning of the next (24 hours later).
    pub fn upper(&self) -> Timestamp {
        let micros = match self.precision {
            Precision::Year => 366 * 86_400_000_000,
            Precision::Month => 31 * 86_400_000_000,
            Precision::Day => 86_400_000_000,
            Precision::Hour => 3_600_000_000,
            Precision::Minute => 60_000_000,
            Precision::Second => 1_000_000,
            Precision::Fraction => 1,
        };
        self.lower.plus_micros(micros)
    }

    /// Whether it and `other` may be the same instant.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.lower < other.upper() && other.lower < self.upper()
    }

    /// The date in FHIR's form, as precise as it was said: `2026`, `2026-07`, `2026-07-14`.
    pub fn fhir_date(&self) -> String {
        let date = self.civil.date();
        match self.precision {
            Precision::Year => format!("{:04}", date.year()),
            Precision::Month => format!("{:04}-{:02}", date.year(), date.month()),
            _ => date.to_string(),
        }
    }
}

/// What holds for a time that carries no offset.
#[derive(Debug, Clone)]
pub struct Defaults {
    message_offset: Option<Offset>,
    zone: TimeZone,
}

impl Defaults {
    /// The source's zone alone.
    pub const fn zone(zone: TimeZone) -> Self {
        Self { message_offset: None, zone }
    }

    /// For a message: the offset of its MSH-7, else the source's zone.
    pub fn of(message: &Message, zone: &TimeZone) -> Self {
        const MSH_7: Path = Path::of("MSH-7");
        let said = message.get(MSH_7).text();
        Self {
            message_offset: split_offset(said.trim()).ok().and_then(|(_, offset)| offset),
            zone: zone.clone(),
        }
    }
}

/// The IANA zone of a source's settings.
///
/// # Errors
/// [`TimeError::Form`] for a name that is not in the database.
pub fn zone(name: &str) -> Result<TimeZone, TimeError> {
    TimeZone::get(name).map_err(|_| TimeError::Form)
}

fn digits(raw: &[u8]) -> Option<i32> {
    raw.iter()
        .try_fold(0_i32, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i32::from(byte - b'0')))
}

/// Cuts the offset off.
fn split_offset(raw: &str) -> Result<(&str, Option<Offset>), TimeError> {
    let Some(at) = raw.find(['+', '-']) else { return Ok((raw, None)) };
    let (time, offset) = raw.split_at(at);
    let [sign, hour @ .., m1, m2] = offset.as_bytes() else { return Err(TimeError::Form) };
    if hour.len() != 2 {
        return Err(TimeError::Form);
    }
    let hours = digits(hour).ok_or(TimeError::Form)?;
    let minutes = digits(&[*m1, *m2]).ok_or(TimeError::Form)?;
    if hours > 15 || minutes > 59 {
        return Err(TimeError::Range);
    }
    let seconds = (hours * 60 + minutes) * 60 * if *sign == b'-' { -1 } else { 1 };
    Offset::from_seconds(seconds).map(|offset| (time, Some(offset))).map_err(|_| TimeError::Range)
}

/// Reads a DTM or the first component of a TS. Blanks around it are ignored.
///
/// # Errors
/// [`TimeError`] for everything that is no time; never a panic.
///
/// ```
/// use hilum_hl7v2::time::{self, Defaults, Precision};
/// let seoul = Defaults::zone(time::zone("Asia/Seoul")?);
/// let said = time::parse("202607140930", &seoul)?;
/// assert_eq!(said.lower.to_string(), "2026-07-14T00:30:00.000000Z");
/// assert_eq!(said.precision, Precision::Minute);
/// assert!(time::parse("20260230", &seoul).is_err());
/// # Ok::<(), time::TimeError>(())
/// ```
pub fn parse(raw: &str, defaults: &Defaults) -> Result<Time, TimeError> {
    let raw = raw.trim();
    if raw.is_empty() {
        return Err(TimeError::Empty);
    }
    let (said, offset) = split_offset(raw)?;
    let (whole, fraction) = match said.split_once('.') {
        Some((whole, fraction)) => (whole.as_bytes(), Some(fraction.as_bytes())),
        None => (said.as_bytes(), None),
    };
    if fraction.is_some_and(|fraction| whole.len() != 14 || fraction.is_empty() || fraction.len() > 9) {
        return Err(TimeError::Form);
    }
    let precision = match (whole.len(), fraction) {
        (4, _) => Precision::Year,
        (6, _) => Precision::Month,
        (8, _) => Precision::Day,
        (10, _) => Precision::Hour,
        (12, _) => Precision::Minute,
        (14, None) => Precision::Second,
        (14, Some(_)) => Precision::Fraction,
        _ => return Err(TimeError::Form),
    };
    let part = |from: usize, len: usize, default: i32| match whole.get(from..from + len) {
        Some(raw) => digits(raw).ok_or(TimeError::Form),
        None => Ok(default),
    };
    let mut nanos = digits(fraction.unwrap_or_default()).ok_or(TimeError::Form)?;
    for _ in fraction.unwrap_or_default().len()..9 {
        nanos = nanos.saturating_mul(10);
    }
    let date = Date::new(part(0, 4, 0)? as i16, part(4, 2, 1)? as i8, part(6, 2, 1)? as i8)
        .map_err(|_| TimeError::Range)?;
    if date.year() < 1 {
        return Err(TimeError::Range);
    }
    let clock = CivilTime::new(part(8, 2, 0)? as i8, part(10, 2, 0)? as i8, part(12, 2, 0)? as i8, nanos)
        .map_err(|_| TimeError::Range)?;
    let civil = date.to_datetime(clock);
    let mut flaws = Flaws::NONE;
    let offset_used = match offset.or(defaults.message_offset) {
        Some(offset) => offset,
        None => match defaults.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            // A day that begins in a gap (midnight skipped) is nobody's mistake.
            AmbiguousOffset::Gap { before, .. } => {
                if precision >= Precision::Hour {
                    flaws.insert(Flaw::TimeGap);
                }
                before
            }
            AmbiguousOffset::Fold { before, .. } => {
                if precision >= Precision::Hour {
                    flaws.insert(Flaw::TimeOverlap);
                }
                before
            }
        },
    };
    let lower = offset_used.to_timestamp(civil).map_err(|_| TimeError::Range)?;
    Ok(Time { lower: Timestamp::from_jiff(lower), precision, had_offset: offset.is_some(), civil, flaws })
}

/// Reads the time in a slot: `None` where there is no value, a finding at `path` where it is none.
///
/// # Errors
/// The finding, ready to be kept.
pub fn read(slot: &Slot<'_>, path: Path, defaults: &Defaults) -> Result<Option<Time>, Finding> {
    match slot.value() {
        None => Ok(None),
        Some(text) => parse(&text, defaults).map(Some).map_err(|_| Finding::at(Flaw::TimeInvalid, path)),
    }
}

/// Writes a time as DTM in UTC with milliseconds: `20260714003000.000+0000`.
pub fn format_utc(at: Timestamp) -> String {
    let civil = Offset::UTC.to_datetime(at.to_jiff());
    let year = civil.year().clamp(0, 9999);
    format!(
        "{year:04}{:02}{:02}{:02}{:02}{:02}.{:03}+0000",
        civil.month(),
        civil.day(),
        civil.hour(),
        civil.minute(),
        civil.second(),
        civil.millisecond()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::CharsetSettings;

    fn defaults(zone_name: &str) -> Defaults {
        Defaults::zone(zone(zone_name).unwrap())
    }

    #[test]
    fn what_a_time_says() {
        let seoul = defaults("Asia/Seoul");
        let cases = [
            ("year", "2026", "2025-12-31T15:00:00.000000Z", Precision::Year, false),
            ("month", "202607", "2026-06-30T15:00:00.000000Z", Precision::Month, false),
            ("day", "20260714", "2026-07-13T15:00:00.000000Z", Precision::Day, false),
            ("hour", "2026071409", "2026-07-14T00:00:00.000000Z", Precision::Hour, false),
            ("minute", "202607140930", "2026-07-14T00:30:00.000000Z", Precision::Minute, false),
            ("second", "20260714093015", "2026-07-14T00:30:15.000000Z", Precision::Second, false),
            ("fraction", "20260714093015.1234", "2026-07-14T00:30:15.123400Z", Precision::Fraction, false),
            ("offset", "202607140930+0000", "2026-07-14T09:30:00.000000Z", Precision::Minute, true),
            ("offset west", "202607140930-0500", "2026-07-14T14:30:00.000000Z", Precision::Minute, true),
            ("odd offset", "198908181126+0215", "1989-08-18T09:11:00.000000Z", Precision::Minute, true),
            ("offset on a day", "20260714-0500", "2026-07-14T05:00:00.000000Z", Precision::Day, true),
            ("blanks around", " 20260714 ", "2026-07-13T15:00:00.000000Z", Precision::Day, false),
            ("leap day", "20240229", "2024-02-28T15:00:00.000000Z", Precision::Day, false),
            ("long ago", "19000101", "1899-12-31T15:32:08.000000Z", Precision::Day, false),
            ("far ahead", "9999", "9998-12-31T15:00:00.000000Z", Precision::Year, false),
        ];
        for (why, raw, lower, precision, had_offset) in cases {
            let time = parse(raw, &seoul).unwrap();
            assert_eq!(
                (time.lower.to_string().as_str(), time.precision, time.had_offset),
                (lower, precision, had_offset),
                "{why}"
            );
            assert!(time.flaws.is_empty(), "{why}");
        }
    }

    #[test]
    fn what_is_no_time() {
        let utc = defaults("UTC");
        let cases = [
            ("empty", "", TimeError::Empty),
            ("blanks", "  ", TimeError::Empty),
            ("letters", "today", TimeError::Form),
            ("odd length", "2026071", TimeError::Form),
            ("ISO form", "2026-07-14", TimeError::Form),
            ("ISO form with time", "2026-07-14T09:30:00Z", TimeError::Form),
            ("30 February", "20260230", TimeError::Range),
            ("month 13", "202613", TimeError::Range),
            ("month 0", "20260014", TimeError::Range),
            ("zeros", "00000000", TimeError::Range),
            ("hour 24", "2026071424", TimeError::Range),
            ("minute 60", "202607140960", TimeError::Range),
            ("second 60", "20260714093060", TimeError::Range),
            ("fraction of a minute", "202607140930.5", TimeError::Form),
            ("empty fraction", "20260714093015.", TimeError::Form),
            ("fraction with letters", "20260714093015.1x", TimeError::Form),
            ("offset too short", "202607140930+09", TimeError::Form),
            ("offset too large", "202607140930+1600", TimeError::Range),
            ("offset minutes", "202607140930+0960", TimeError::Range),
            ("offset alone", "+0900", TimeError::Form),
            ("two offsets", "20260714+0900+0900", TimeError::Form),
            ("digits of another script", "２０２６", TimeError::Form),
            ("before the calendar", "00000101", TimeError::Range),
            ("the last instant in a zone behind", "99991231235959-1200", TimeError::Range),
        ];
        for (why, raw, want) in cases {
            assert_eq!(parse(raw, &utc), Err(want), "{why}");
        }
    }

    #[test]
    fn gaps_and_overlaps_take_the_earlier_offset() {
        let berlin = defaults("Europe/Berlin");
        let cases = [
            ("before the gap", "202603290159", "2026-03-29T00:59:00.000000Z", None),
            ("in the gap", "202603290230", "2026-03-29T01:30:00.000000Z", Some(Flaw::TimeGap)),
            ("after the gap", "202603290300", "2026-03-29T01:00:00.000000Z", None),
            ("overlap", "202610250230", "2026-10-25T00:30:00.000000Z", Some(Flaw::TimeOverlap)),
            ("overlap with offset", "202610250230+0100", "2026-10-25T01:30:00.000000Z", None),
        ];
        for (why, raw, lower, flaw) in cases {
            let time = parse(raw, &berlin).unwrap();
            assert_eq!((time.lower.to_string().as_str(), time.flaws.iter().next()), (lower, flaw), "{why}");
        }
        // Midnight is skipped in Santiago; the day is a day all the same.
        assert!(parse("20240908", &defaults("America/Santiago")).unwrap().flaws.is_empty());
    }

    #[test]
    fn the_offset_of_msh_7_is_the_default_of_the_message() {
        let seoul = zone("Asia/Seoul").unwrap();
        for (msh_7, want) in [
            ("20260714093000-0500", "2026-07-14T14:00:00.000000Z"),
            ("20260714093000", "2026-07-14T00:00:00.000000Z"),
            ("nonsense", "2026-07-14T00:00:00.000000Z"),
            ("", "2026-07-14T00:00:00.000000Z"),
        ] {
            let raw = format!("MSH|^~\\&|A|B|C|D|{msh_7}||ADT^A01|1|P|2.5\rEVN||2026071409|x|||20260299\r");
            let message = Message::parse(raw.into(), &CharsetSettings::default()).unwrap();
            let defaults = Defaults::of(&message, &seoul);
            let at = |path| read(&message.get(path), path, &defaults);
            assert_eq!(at(Path::of("EVN-2")).unwrap().unwrap().lower.to_string(), want, "{msh_7}");
            assert_eq!(at(Path::of("EVN-4")), Ok(None));
            assert_eq!(at(Path::of("EVN-6")), Err(Finding::at(Flaw::TimeInvalid, Path::of("EVN-6"))));
        }
    }

    #[test]
    fn intervals() {
        let utc = defaults("UTC");
        let time = |raw| parse(raw, &utc).unwrap();
        assert!(time("20260714").overlaps(&time("202607142359")));
        assert!(!time("20260714").overlaps(&time("20260715")));
        assert!(time("2026").overlaps(&time("20261231")));
        assert_eq!(time("202607").fhir_date(), "2026-07");
        assert_eq!(time("2026").fhir_date(), "2026");
        assert_eq!(time("19800101120000+0900").fhir_date(), "1980-01-01");
    }

    #[test]
    fn written_in_utc() {
        assert_eq!(format_utc(Timestamp::from_micros(0)), "19700101000000.000+0000");
        assert_eq!(format_utc(Timestamp::from_micros(i64::MIN)).len(), 23);
        assert_eq!(format_utc(Timestamp::from_micros(i64::MAX)).len(), 23);
    }
}
