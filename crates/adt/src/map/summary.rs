//! What pages, board and JSON twins show of a person, so that all show the same.

use std::borrow::Cow;
use std::fmt;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::vocabulary::SEX;
use crate::content::datatypes::{Identifier, Name, Place, Provider, Usage};
use crate::content::person::PersonContent;
use crate::content::time::When;

/// A name as people read it: family first; Hangul, Han and Kana whole and without a comma (clinical-rules 19), others
/// `FAMILY, Given Middle`. Case is as sent.
#[derive(Clone, Copy)]
pub struct NameDisplay<'a>(pub &'a Name);

impl fmt::Display for NameDisplay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0;
        let given = [&name.given, &name.middle].into_iter().filter(|part| !part.is_empty());
        if is_east_asian(name) {
            f.write_str(&name.family)?;
            for part in given {
                f.write_str(part)?;
            }
            return Ok(());
        }
        f.write_str(&name.family)?;
        let mut between = if name.family.is_empty() { "" } else { ", " };
        for part in given.chain([&name.suffix].into_iter().filter(|part| !part.is_empty())) {
            f.write_str(between)?;
            f.write_str(part)?;
            between = " ";
        }
        if name.family.is_empty() && name.given.is_empty() && name.middle.is_empty() {
            f.write_str(&name.called)?;
        }
        Ok(())
    }
}

/// Whether a name is written in Hangul, Han or Kana: family name first, no blank between.
pub fn is_east_asian(name: &Name) -> bool {
    name.family.chars().chain(name.given.chars()).any(is_east_asian_letter)
}

const fn is_hangul(letter: char) -> bool {
    matches!(letter, '\u{AC00}'..='\u{D7A3}' | '\u{1100}'..='\u{11FF}' | '\u{3130}'..='\u{318F}' | '\u{A960}'..='\u{A97F}')
}

const fn is_east_asian_letter(letter: char) -> bool {
    is_hangul(letter)
        || matches!(letter, '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}')
}

/// Whether a name is one whole: a full name in XPN.1 alone is never split (clinical-rules 19).
pub fn is_whole(name: &Name) -> bool {
    name.given.is_empty() && name.middle.is_empty() && name.family.chars().any(is_east_asian_letter)
}

/// The name to show: the first one that is in use, written in Hangul where the same name is sent that way too.
pub fn shown_name(names: &[Name]) -> Option<&Name> {
    let in_use = |name: &&Name| !matches!(name.kind.as_str(), "BAD" | "NOUSE" | "N" | "M" | "S" | "B");
    let first = names.iter().find(in_use).or_else(|| names.first())?;
    let hangul = names
        .iter()
        .filter(in_use)
        .filter(|name| name.kind == first.kind && name.representation.is_some())
        .find(|name| name.family.chars().chain(name.given.chars()).any(is_hangul));
    Some(match first.representation {
        Some(_) => hangul.unwrap_or(first),
        None => first,
    })
}

/// The name of a person as one text; absent when none is known.
pub fn person_name(person: &PersonContent) -> Option<String> {
    shown_name(person.names.items()).map(|name| NameDisplay(name).to_string())
}

/// The name of a provider as one text; the number where no name is known.
pub fn provider_name(provider: &Provider) -> String {
    let name = NameDisplay(&provider.name).to_string();
    if !name.is_empty() {
        return name;
    }
    provider.identifier.as_ref().map(|identifier| identifier.value.clone()).unwrap_or_default()
}

/// A place as one text: unit, room, bed; building or facility where there is no unit.
pub fn place_text(place: &Place) -> String {
    let spots = [&place.unit, &place.room, &place.bed];
    let named: Vec<&str> = spots.into_iter().filter(|spot| !spot.is_empty()).map(String::as_str).collect();
    if named.is_empty() {
        let wider = [&place.floor, &place.building, &place.facility];
        return wider.into_iter().find(|spot| !spot.is_empty()).cloned().unwrap_or_default();
    }
    named.join(" ")
}

/// FHIR's administrative gender of a sex code of table 0001; absent without a map (clinical-rules 13).
pub fn gender(code: &str) -> Option<&'static str> {
    SEX.target(code).map(|(_, gender, _)| gender)
}

/// An age. Of a birth date without a day or month it is what it is at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// Whole years.
    pub years: i16,
    /// Whole months beyond them.
    pub months: i8,
    /// Days beyond those.
    pub days: i8,
    /// Whether the birth date lacks its day or month.
    pub approximate: bool,
}

/// The age on a day: on the day of death for who died earlier. Absent for a birth in the future.
pub fn age(birth: &When, died: Option<&When>, today: Date) -> Option<Age> {
    let born = birth.first_day()?;
    let on = died.and_then(When::first_day).map_or(today, |death| death.min(today));
    if born > on {
        return None;
    }
    let span = born.until((jiff::Unit::Year, on)).ok()?;
    Some(Age {
        years: span.get_years(),
        months: i8::try_from(span.get_months()).ok()?,
        days: i8::try_from(span.get_days()).ok()?,
        approximate: birth.date().len() < 10,
    })
}

/// Whether a number has the form of a Korean resident registration number: six digits that are a date, a digit, six
/// digits.
pub fn is_korean_number(value: &str) -> bool {
    let digits: Vec<u8> = value.bytes().filter(u8::is_ascii_digit).collect();
    let plain = value.bytes().filter(|byte| !byte.is_ascii_digit()).count() <= 1;
    let pair = |at: usize| match digits.get(at..at + 2) {
        Some([tens, ones]) => (tens - b'0') * 10 + (ones - b'0'),
        _ => 0,
    };
    let form = digits.len() == 13 && plain && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    form && (1..=12).contains(&pair(2)) && (1..=31).contains(&pair(4))
}

/// A national number as it may be shown (clinical-rules 19): `800101-1******`; other countries' show their last four
/// signs, and nothing if they have fewer than eight.
///
/// ```
/// use hilum_adt::map::summary::mask_national;
/// assert_eq!(mask_national("8001011234567"), "800101-1******");
/// assert_eq!(mask_national("123-45-6789"), "***-**-6789");
/// assert_eq!(mask_national("12345"), "*****");
/// ```
pub fn mask_national(value: &str) -> String {
    if is_korean_number(value) {
        let digits: String = value.chars().filter(char::is_ascii_digit).take(7).collect();
        let (date, sex) = digits.split_at(6);
        return format!("{date}-{sex}******");
    }
    let signs = value.chars().filter(|sign| sign.is_alphanumeric()).count();
    let hidden = if signs >= 8 { signs - 4 } else { signs };
    let mut seen = 0;
    let mask = |sign: char| {
        if !sign.is_alphanumeric() {
            return sign;
        }
        seen += 1;
        if seen <= hidden { '*' } else { sign }
    };
    value.chars().map(mask).collect()
}

/// One identifier as board and JSON twins show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentifierSummary {
    /// Table 0203.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its authority as people know it: the namespace id where one was sent.
    pub authority: String,
    /// Its value, a national number masked.
    pub value: String,
    /// Whether the authority is no more than the name of the source: nobody said one.
    #[serde(default, rename = "authorityGuessed", skip_serializing_if = "std::ops::Not::not")]
    pub authority_guessed: bool,
}

/// What board and JSON twins show of a patient.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PatientSummary {
    /// As [`NameDisplay`]; empty when none is known.
    pub name: String,
    /// FHIR date, as precise as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birth_date: Option<String>,
    /// FHIR administrative gender, absent without a map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gender: Option<Cow<'static, str>>,
    /// Primary first, then as sent; the national number last, masked.
    pub identifiers: Vec<IdentifierSummary>,
}

crate::content::said::phi_debug!(IdentifierSummary, PatientSummary);

impl PatientSummary {
    /// The summary of what is known of a person.
    pub fn of(person: &PersonContent) -> Self {
        let primary_first = |wanted: bool| {
            person.identifiers.items().iter().filter(move |one| (one.usage == Usage::Primary) == wanted)
        };
        let mut identifiers: Vec<IdentifierSummary> =
            primary_first(true).chain(primary_first(false)).map(identifier_summary).collect();
        let is_new = |national: &&Identifier| {
            person.identifiers.items().iter().all(|known| known.hash != national.hash)
        };
        identifiers.extend(person.national.value().filter(is_new).map(identifier_summary));
        Self {
            name: person_name(person).unwrap_or_default(),
            birth_date: person.birth.value().map(|birth| birth.date().to_owned()),
            gender: person.sex.value().and_then(|sex| gender(&sex.code)).map(Cow::Borrowed),
            identifiers,
        }
    }
}

/// An identifier as board and JSON twins show it.
pub fn identifier_summary(identifier: &Identifier) -> IdentifierSummary {
    let authority =
        if identifier.namespace.is_empty() { &identifier.authority } else { &identifier.namespace };
    IdentifierSummary {
        kind: identifier.kind.clone(),
        authority: authority.clone(),
        value: identifier.value.clone(),
        authority_guessed: identifier.authority_guessed,
    }
}

/// What stands for a confidential patient's name on board, search and live updates (clinical-rules 20).
pub const MASKED_NAME: &str = "***";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::content::Representation;
    use crate::content::time::Zones;

    fn name(family: &str, given: &str, middle: &str) -> Name {
        Name { family: family.into(), given: given.into(), middle: middle.into(), ..Name::default() }
    }

    #[test]
    fn family_comes_first() {
        let cases = [
            ("whole in XPN.1", name("홍길동", "", ""), "홍길동"),
            ("never split", name("남궁민수", "", ""), "남궁민수"),
            ("sent in parts", name("황보", "관", ""), "황보관"),
            ("Han", name("山田", "太郎", ""), "山田太郎"),
            ("Latin", name("EVERYMAN", "Adam", "A"), "EVERYMAN, Adam A"),
            ("family alone", name("EVERYMAN", "", ""), "EVERYMAN"),
            ("given alone", name("", "Adam", ""), "Adam"),
            ("nothing", name("", "", ""), ""),
        ];
        for (why, name, want) in cases {
            assert_eq!(NameDisplay(&name).to_string(), want, "{why}");
        }
        let junior = Name { suffix: "III".into(), ..name("EVERYMAN", "ADAM", "A") };
        assert_eq!(NameDisplay(&junior).to_string(), "EVERYMAN, ADAM A III");
    }

    #[test]
    fn the_name_in_use_is_shown() {
        let with = |family: &str, kind: &str, representation| Name {
            kind: kind.into(),
            representation,
            ..name(family, "", "")
        };
        let (a, i, p) = (
            Some(Representation::Alphabetic),
            Some(Representation::Ideographic),
            Some(Representation::Phonetic),
        );
        let cases = [
            ("the first", vec![with("김", "L", None), with("이", "L", None)], "김"),
            ("not a nickname", vec![with("Bob", "N", None), with("Smith", "L", None)], "Smith"),
            (
                "Hangul of three representations",
                vec![with("Hong", "L", a), with("洪", "L", i), with("홍", "L", p)],
                "홍",
            ),
            ("Han where there is no Hangul", vec![with("山田", "L", i), with("Yamada", "L", a)], "山田"),
            ("a nickname where there is nothing else", vec![with("Bob", "N", None)], "Bob"),
        ];
        for (why, names, want) in cases {
            assert_eq!(shown_name(&names).map(|name| name.family.as_str()), Some(want), "{why}");
        }
        assert!(shown_name(&[]).is_none());
    }

    #[test]
    fn national_numbers_are_masked() {
        let cases = [
            ("with a dash", "800101-1234567", "800101-1******"),
            ("without", "8001011234567", "800101-1******"),
            ("no date in it: not Korean", "8099011234567", "*********4567"),
            ("US", "123-45-6789", "***-**-6789"),
            ("nine digits", "123456789", "*****6789"),
            ("short", "12345", "*****"),
            ("letters", "가나다라마바사아자", "*****바사아자"),
            ("empty", "", ""),
        ];
        for (why, value, want) in cases {
            assert_eq!(mask_national(value), want, "{why}");
        }
    }

    #[test]
    fn ages() {
        let zones = Zones::of(None, "UTC");
        let when = |raw: &str| When::read(raw, &zones).unwrap().0;
        let today = Date::constant(2026, 3, 1);
        let age_of =
            |birth: &str| age(&when(birth), None, today).map(|age| (age.years, age.months, age.days));
        assert_eq!(age_of("19610615"), Some((64, 8, 14)));
        assert_eq!(age_of("20260301"), Some((0, 0, 0)), "born today");
        assert_eq!(age_of("20240229"), Some((2, 0, 1)), "born on a leap day");
        assert_eq!(age_of("20260302"), None, "born tomorrow");
        assert!(age(&when("1961"), None, today).unwrap().approximate);
        let died = age(&when("19610615"), Some(&when("20200615")), today).unwrap();
        assert_eq!((died.years, died.months, died.days), (59, 0, 0), "age stops at death");
    }
}
