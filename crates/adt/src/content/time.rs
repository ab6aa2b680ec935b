//! HL7 date and time (DT, DTM, TS) as FHIR writes it.

use std::fmt;
use std::fmt::Write as _;

use hilum_core::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use serde::{Deserialize, Serialize};

/// Widest offset from UTC that FHIR allows.
const OFFSET_SECONDS_MAX: i32 = 14 * 3600;

/// A date or an instant as precise as it was sent, in the form of FHIR's `dateTime`: `1961`, `1961-06`, `1961-06-15` or
/// `1961-06-15T10:30:00+09:00` (fractions kept as sent). Hours without minutes and minutes without seconds are filled
/// with zeros, as FHIR asks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct When(Box<str>);

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("When(<phi>)")
    }
}

/// The zones of one message's times (clinical-rules 3): a field's own offset, else MSH-7's, else the source's zone.
#[derive(Debug, Clone)]
pub struct Zones {
    /// The offset that MSH-7 carries.
    pub message: Option<Offset>,
    /// The source's zone.
    pub source: TimeZone,
}

impl Zones {
    /// The zones of a message whose MSH-7 is `msh7`, from a source in `zone` (IANA name; an unknown one is UTC).
    pub fn of(msh7: Option<&str>, zone: &str) -> Self {
        let source = if zone == "UTC" { TimeZone::UTC } else { TimeZone::get(zone).unwrap_or(TimeZone::UTC) };
        let message = msh7.and_then(|raw| split_offset(raw.trim()).ok()).and_then(|(_, offset)| offset);
        Self { message, source }
    }

    /// The offset at a local time, and whether the clock was turned over it: then it is the earlier offset.
    fn offset_at(&self, local: DateTime) -> (Offset, bool) {
        if let Some(offset) = self.message {
            return (offset, false);
        }
        match self.source.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => (offset, false),
            AmbiguousOffset::Gap { before, .. } | AmbiguousOffset::Fold { before, .. } => (before, true),
        }
    }
}

/// A text that is no HL7 date or time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a date or time")]
pub struct BadTime;

impl When {
    /// Reads `YYYY[MM[DD[HH[MM[SS[.S…]]]]]][±ZZZZ]`. The flag says that a change of the clock made the offset ambiguous.
    ///
    /// # Errors
    /// [`BadTime`] for anything else, and for days and hours that do not exist.
    pub fn read(raw: &str, zones: &Zones) -> Result<(Self, bool), BadTime> {
        let (digits, offset) = split_offset(raw.trim())?;
        let (digits, fraction) = match digits.split_once('.') {
            Some((digits, fraction)) => (digits, Some(fraction)),
            None => (digits, None),
        };
        let whole = matches!(digits.len(), 4 | 6 | 8 | 10 | 12 | 14)
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !whole {
            return Err(BadTime);
        }
        if let Some(fraction) = fraction {
            let fits = digits.len() == 14
                && matches!(fraction.len(), 1..=9)
                && fraction.bytes().all(|byte| byte.is_ascii_digit());
            if !fits {
                return Err(BadTime);
            }
        }
        let pair = |at: usize| digits.get(at..at + 2).and_then(|pair| pair.parse::<i8>().ok());
        let year = digits
            .get(..4)
            .and_then(|year| year.parse::<i16>().ok())
            .filter(|&year| year > 0)
            .ok_or(BadTime)?;
        let date = Date::new(year, pair(4).unwrap_or(1), pair(6).unwrap_or(1)).map_err(|_| BadTime)?;

        let mut text = String::with_capacity(32);
        let written = match digits.len() {
            4 => write!(text, "{year:04}"),
            6 => write!(text, "{year:04}-{:02}", date.month()),
            _ => write!(text, "{year:04}-{:02}-{:02}", date.month(), date.day()),
        };
        written.expect("a String takes every write");
        if digits.len() <= 8 {
            return Ok((Self(text.into()), false));
        }

        let time = Time::new(pair(8).unwrap_or(0), pair(10).unwrap_or(0), pair(12).unwrap_or(0), 0)
            .map_err(|_| BadTime)?;
        let (offset, ambiguous) = match offset {
            Some(offset) => (offset, false),
            None => zones.offset_at(date.to_datetime(time)),
        };
        write!(text, "T{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())
            .expect("a String takes every write");
        if let Some(fraction) = fraction {
            text.push('.');
            text.push_str(fraction);
        }
        let minutes = offset.seconds() / 60;
        let sign = if minutes < 0 { '-' } else { '+' };
        write!(text, "{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
            .expect("a String takes every write");
        Ok((Self(text.into()), ambiguous))
    }

    /// The FHIR text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The date part: `1961`, `1961-06` or `1961-06-15`.
    pub fn date(&self) -> &str {
        self.0.split_once('T').map_or(&*self.0, |(date, _)| date)
    }

    /// Whether there is a time of day.
    pub fn has_time(&self) -> bool {
        self.0.contains('T')
    }

    /// The first day that it may mean.
    pub fn first_day(&self) -> Option<Date> {
        let mut parts = self.date().split('-');
        let year = parts.next()?.parse().ok()?;
        let month = parts.next().map_or(Some(1), |month| month.parse().ok())?;
        let day = parts.next().map_or(Some(1), |day| day.parse().ok())?;
        Date::new(year, month, day).ok()
    }

    /// The first instant that it may mean; a date begins at midnight of `zones`.
    pub fn lower_bound(&self, zones: &Zones) -> Option<Timestamp> {
        if self.has_time() {
            return self.0.parse::<jiff::Timestamp>().ok().map(Timestamp::from_jiff);
        }
        let midnight = self.first_day()?.to_datetime(Time::midnight());
        zones.offset_at(midnight).0.to_timestamp(midnight).ok().map(Timestamp::from_jiff)
    }
}

/// Takes `±ZZZZ` off the end.
fn split_offset(raw: &str) -> Result<(&str, Option<Offset>), BadTime> {
    let Some(at) = raw.find(['+', '-']) else { return Ok((raw, None)) };
    let (digits, zone) = (raw.get(..at).ok_or(BadTime)?, raw.get(at + 1..).ok_or(BadTime)?);
    if zone.len() != 4 || !zone.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadTime);
    }
    let number: i32 = zone.parse().map_err(|_| BadTime)?;
    let (hours, minutes) = (number / 100, number % 100);
    let seconds = hours * 3600 + minutes * 60;
    if minutes > 59 || seconds > OFFSET_SECONDS_MAX {
        return Err(BadTime);
    }
    let sign = if raw.as_bytes().get(at) == Some(&b'-') { -1 } else { 1 };
    Offset::from_seconds(sign * seconds).map(|offset| (digits, Some(offset))).map_err(|_| BadTime)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_hl7_writes() {
        let zones = Zones::of(None, "Asia/Seoul");
        let cases = [
            ("year", "1961", Some("1961")),
            ("month", "196106", Some("1961-06")),
            ("day", "19610615", Some("1961-06-15")),
            ("spaces around", " 19610615 ", Some("1961-06-15")),
            ("hour, filled with zeros", "2024010109", Some("2024-01-01T09:00:00+09:00")),
            ("minute", "202401010930", Some("2024-01-01T09:30:00+09:00")),
            ("second", "20240101093015", Some("2024-01-01T09:30:15+09:00")),
            ("fraction as sent", "20240101093015.1230", Some("2024-01-01T09:30:15.1230+09:00")),
            ("own offset", "20080825111630+0115", Some("2008-08-25T11:16:30+01:15")),
            ("negative offset", "200808251116-0530", Some("2008-08-25T11:16:00-05:30")),
            ("a date with an offset stays a date", "20080825+0900", Some("2008-08-25")),
            ("30 February", "20240230", None),
            ("month 13", "20241301", None),
            ("hour 24", "2024010124", None),
            ("minute 60", "202401010960", None),
            ("letters", "UNKNOWN", None),
            ("ISO 8601 is not HL7", "2024-01-01", None),
            ("odd length", "2024010", None),
            ("zeros", "00000000", None),
            ("empty", "", None),
            ("offset beyond FHIR's range", "20240101093015+1500", None),
            ("offset with 60 minutes", "20240101093015+0860", None),
            ("two offsets", "20240101093015+0900+0900", None),
            ("fraction of a minute", "202401010930.5", None),
            ("wide digits", "２０２４", None),
        ];
        for (why, raw, want) in cases {
            let got = When::read(raw, &zones).ok();
            assert_eq!(got.as_ref().map(|(when, _)| when.as_str()), want, "{why}");
        }
    }

    #[test]
    fn zone_is_the_fields_then_msh7s_then_the_sources() {
        let cases = [
            (
                "the field's own",
                "20240701120000+0200",
                Some("20240701120000-0500"),
                "2024-07-01T12:00:00+02:00",
                false,
            ),
            ("MSH-7's", "20240701120000", Some("20240701120000-0500"), "2024-07-01T12:00:00-05:00", false),
            (
                "the source's, summer",
                "20240701120000",
                Some("20240701120000"),
                "2024-07-01T12:00:00+02:00",
                false,
            ),
            ("the source's, winter", "20240101120000", None, "2024-01-01T12:00:00+01:00", false),
            ("overlap: the earlier offset", "20241027023000", None, "2024-10-27T02:30:00+02:00", true),
            ("gap: the earlier offset", "20240331023000", None, "2024-03-31T02:30:00+01:00", true),
        ];
        for (why, raw, msh7, want, turned) in cases {
            let (when, ambiguous) = When::read(raw, &Zones::of(msh7, "Europe/Berlin")).unwrap();
            assert_eq!((when.as_str(), ambiguous), (want, turned), "{why}");
        }
    }

    #[test]
    fn lower_bound_is_the_first_instant() {
        let zones = Zones::of(None, "Asia/Seoul");
        let cases = [
            ("2024", "2023-12-31T15:00:00.000000Z"),
            ("202403", "2024-02-29T15:00:00.000000Z"),
            ("20240301", "2024-02-29T15:00:00.000000Z"),
            ("202403010930", "2024-03-01T00:30:00.000000Z"),
            ("20240301093000.25+0000", "2024-03-01T09:30:00.250000Z"),
        ];
        for (raw, want) in cases {
            let (when, _) = When::read(raw, &zones).unwrap();
            assert_eq!(when.lower_bound(&zones).unwrap().to_string(), want, "{raw}");
        }
    }
}
