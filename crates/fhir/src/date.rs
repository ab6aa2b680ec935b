//! Dates and times as FHIR writes them (<https://hl7.org/fhir/R4/datatypes.html#date>): from a year to a fraction of a
//! second, each a period as long as what it leaves out.

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
    use super::*;

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
}
