//! Dates and times as FHIR writes them (<https://hl7.org/fhir/R4/datatypes.html#date>): from a year to a fraction of a
//! second, each a period as long as what it leaves out.

use hilum_core::Timestamp;
use jiff::tz::TimeZone;
use jiff::{ToSpan as _, civil};

/// A `date`, `dateTime` or `instant`, as exact as it was written.
///
/// ```
/// use hilum_fhir::date::{DateTime, Precision};
/// let month = DateTime::parse("2024-02").unwrap();
/// assert_eq!((month.precision(), month.has_zone()), (Precision::Month, false));
/// assert!(DateTime::parse("2023-02-29").is_none(), "no such day");
/// assert!(DateTime::parse("2024-02-29T10:00:00").is_none(), "a time has a zone");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime {
    year: u16,
    month: Option<u8>,
    day: Option<u8>,
    time: Option<Time>,
    /// Minutes east of UTC, of a time alone.
    offset_minutes: i16,
}

/// A time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    hour: u8,
    minute: u8,
    /// 60 in a leap second.
    second: u8,
    /// Of a second; finer digits are checked and left out.
    micros: u32,
    /// How many digits of the second's fraction were written.
    fraction_digits: usize,
}

/// How exact a date is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// A year.
    Year,
    /// A month.
    Month,
    /// A day.
    Day,
    /// A second, or a part of it.
    Second,
}

impl DateTime {
    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let mut parts = date.split('-');
        let year = digits(parts.next()?, 4)?;
        let month = parts.next().map(|month| digits(month, 2)).map_or(Some(None), |month| month.map(Some))?;
        let day = parts.next().map(|day| digits(day, 2)).map_or(Some(None), |day| day.map(Some))?;
        let fits = parts.next().is_none()
            && year > 0
            && month.is_none_or(|month| (1..=12).contains(&month))
            && day.is_none_or(|day| (1..=days_in(year, month.unwrap_or(1))).contains(&day));
        if !fits {
            return None;
        }
        let (time, offset_minutes) = match time {
            None => (None, 0),
            Some(_) if day.is_none() => return None,
            Some(time) => {
                let (time, offset_minutes) = zoned(time)?;
                (Some(Time::parse(time)?), offset_minutes)
            }
        };
        let (month, day) = (month.map(|month| month as u8), day.map(|day| day as u8));
        Some(Self { year: year as u16, month, day, time, offset_minutes })
    }

    /// How exact it is.
    pub const fn precision(&self) -> Precision {
        match (self.month, self.day, self.time) {
            (None, ..) => Precision::Year,
            (_, None, _) => Precision::Month,
            (.., None) => Precision::Day,
            (.., Some(_)) => Precision::Second,
        }
    }

    /// Its first and its last microsecond; what names no zone is of `zone`. A second lasts to its end, a part of a second for
    /// as long as its last digit says.
    pub fn bounds(&self, zone: &TimeZone) -> (Timestamp, Timestamp) {
        let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        let Ok(first) = civil::Date::new(self.year as i16, month as i8, day as i8) else {
            return (Timestamp::from_micros(i64::MIN), Timestamp::from_micros(i64::MAX)); // none that was parsed
        };
        if let Some(time) = self.time {
            let midnight = micros_of(first, &TimeZone::UTC).unwrap_or(i64::MIN);
            let seconds =
                (i64::from(time.hour) * 60 + i64::from(time.minute) - i64::from(self.offset_minutes)) * 60;
            let micros = (seconds + i64::from(time.second)) * 1_000_000 + i64::from(time.micros);
            let low = midnight.saturating_add(micros);
            let digits = time.fraction_digits.min(6) as u32;
            let lasts = 10_i64.pow(6 - digits);
            return (Timestamp::from_micros(low), Timestamp::from_micros(low.saturating_add(lasts - 1)));
        }
        let next = match self.precision() {
            Precision::Year => first.checked_add(1.year()),
            Precision::Month => first.checked_add(1.month()),
            Precision::Day | Precision::Second => first.checked_add(1.day()),
        };
        let low = micros_of(first, zone).unwrap_or(i64::MIN);
        let end = next.ok().and_then(|next| micros_of(next, zone));
        (Timestamp::from_micros(low), Timestamp::from_micros(end.map_or(i64::MAX, |end| end - 1)))
    }

    /// Whether it names an instant wherever it is read.
    pub const fn has_zone(&self) -> bool {
        self.time.is_some()
    }
}

impl Time {
    /// Reads `10:30:00.5`, the type `time`.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (text, None),
        };
        let mut parts = whole.split(':');
        let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
        let second = digits(parts.next()?, 2)?;
        if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let mut micros = 0;
        if let Some(fraction) = fraction {
            if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let kept = fraction.bytes().chain(std::iter::repeat(b'0')).take(6);
            micros = kept.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        }
        let fraction_digits = fraction.map_or(0, str::len);
        Some(Self { hour: hour as u8, minute: minute as u8, second: second as u8, micros, fraction_digits })
    }
}

fn micros_of(date: civil::Date, zone: &TimeZone) -> Option<i64> {
    let at = |date: civil::Date| {
        let begin = date.to_datetime(civil::Time::midnight());
        zone.to_timestamp(begin).ok().map(jiff::Timestamp::as_microsecond)
    };
    // 9999-12-31, which many write for no end, lies behind the last instant that the library knows.
    at(date).or_else(|| at(date.yesterday().ok()?)?.checked_add(86_400_000_000))
}

/// A time and its zone in minutes.
fn zoned(text: &str) -> Option<(&str, i16)> {
    if let Some(time) = text.strip_suffix('Z') {
        return Some((time, 0));
    }
    let at = text.rfind(['+', '-'])?;
    let (time, zone) = text.split_at_checked(at)?;
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    if hours > 14 || minutes > 59 || (hours == 14 && minutes > 0) {
        return None;
    }
    let total = i16::try_from(hours * 60 + minutes).ok()?;
    Some((time, if zone.starts_with('-') { -total } else { total }))
}

fn digits(text: &str, count: usize) -> Option<u32> {
    if text.len() != count || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

const fn days_in(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_date_is_a_period_in_the_zone_that_is_given() {
        let seoul = TimeZone::get("Asia/Seoul").unwrap();
        let cases = [
            ("a day in Seoul", "2024-05-01", "2024-04-30T15:00:00Z", "2024-05-01T14:59:59.999999Z"),
            ("a month", "2024-02", "2024-01-31T15:00:00Z", "2024-02-29T14:59:59.999999Z"),
            ("a year", "2023", "2022-12-31T15:00:00Z", "2023-12-31T14:59:59.999999Z"),
            (
                "its own zone",
                "2024-05-01T00:00:00-02:00",
                "2024-05-01T02:00:00Z",
                "2024-05-01T02:00:00.999999Z",
            ),
            ("a tenth", "2024-05-01T00:00:00.5Z", "2024-05-01T00:00:00.5Z", "2024-05-01T00:00:00.599999Z"),
            (
                "finer than kept",
                "2024-05-01T00:00:00.1234567Z",
                "2024-05-01T00:00:00.123456Z",
                "2024-05-01T00:00:00.123456Z",
            ),
            ("a leap second", "2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z", "2017-01-01T00:00:00.999999Z"),
        ];
        let micros = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_microsecond();
        for (why, text, low, high) in cases {
            let (first, last) = DateTime::parse(text).unwrap().bounds(&seoul);
            assert_eq!((first.as_micros(), last.as_micros()), (micros(low), micros(high)), "{why}");
        }
        let last = DateTime::parse("9999").unwrap().bounds(&seoul).1;
        assert_eq!(last.as_micros(), i64::MAX, "nothing comes behind");
    }

    #[test]
    fn takes_the_dates_that_there_are() {
        let cases = [
            ("a year", "2024", Some(Precision::Year)),
            ("a month", "2024-12", Some(Precision::Month)),
            ("a leap day", "2024-02-29", Some(Precision::Day)),
            ("no leap day in a century", "1900-02-29", None),
            ("but in the fourth", "2000-02-29", Some(Precision::Day)),
            ("a second", "2024-02-29T23:59:60Z", Some(Precision::Second)),
            ("with a fraction and a zone", "2015-02-07T13:28:17.239+02:00", Some(Precision::Second)),
            ("the last zone", "2015-02-07T13:28:17+14:00", Some(Precision::Second)),
            ("behind the last zone", "2015-02-07T13:28:17+14:01", None),
            ("a time without a zone", "2015-02-07T13:28:17", None),
            ("minutes alone", "2015-02-07T13:28Z", None),
            ("a time of a month", "2015-02T13:28:17Z", None),
            ("the year 0", "0000", None),
            ("month 13", "2015-13", None),
            ("day 0", "2015-01-00", None),
            ("two digits", "15", None),
            ("a sign", "+2015", None),
            ("other digits", "２０１５", None),
            ("something behind", "2015-01-01 ", None),
            ("an empty fraction", "2015-02-07T13:28:17.Z", None),
            ("nothing", "", None),
        ];
        for (why, text, want) in cases {
            assert_eq!(DateTime::parse(text).map(|date| date.precision()), want, "{why}");
        }
    }

    #[test]
    fn the_last_day_that_is_written_is_a_day_as_any_other() {
        let of = |raw: &str| DateTime::parse(raw).unwrap().bounds(&TimeZone::UTC);
        let ((_, before), (low, _)) = (of("9999-12-30"), of("9999-12-31"));
        assert_eq!(low.as_micros(), before.as_micros() + 1);
        let late = of("9999-12-31T23:59:59Z").0;
        assert_eq!(late.as_micros(), low.as_micros() + 86_399_000_000);
    }
}
