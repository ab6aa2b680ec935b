//! One value of a criterion, as exact as it was written.

use std::fmt;

use hilum_core::Timestamp;
use jiff::tz::TimeZone;

use super::rules::{Modifier, Prefix, Rule};
use crate::date::{DateTime, Precision};
use crate::limits::{EXPONENT_MAX, QUERY_DIGITS_MAX};
use crate::r4::{Parameter, ParameterType, r4};
use crate::reference::Reference;
use crate::resource::FhirId;
use crate::search::fold::{CUT_BYTES, fold};
use crate::search::number::Decimal;

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// Of `:missing`: whether there is none.
    Missing(bool),
    /// A number.
    Number(Prefix, Number),
    /// A date.
    Date(Prefix, Moment),
    /// A text: of strings and uris.
    Text(String),
    /// A code, or an identifier.
    Token(Token),
    /// Of `:of-type`: an identifier by the code of its type.
    OfType {
        /// The type: a code and its system.
        ty: Token,
        /// The identifier.
        value: String,
    },
    /// Of `:in` and `:not-in`: a value set by its address.
    ValueSet(String),
    /// A resource.
    Reference(Target),
    /// A number with a unit.
    Quantity {
        /// How it is compared.
        prefix: Prefix,
        /// The number.
        number: Number,
        /// The system of the unit; absent or empty = any.
        system: String,
        /// The unit, a code or as it is shown; empty = any.
        code: String,
    },
    /// One value for each part of a composite.
    Parts(Vec<Operand>),
}

/// A code and where it is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Absent: any, or none; empty: none.
    pub system: Option<String>,
    /// Empty: any, of a system that is named.
    pub code: String,
}

/// Where a reference leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An id of any of the types that the parameter leads to.
    Id(FhirId),
    /// A resource here.
    Local {
        /// The type.
        resource_type: &'static str,
        /// The logical id.
        id: FhirId,
    },
    /// An address of elsewhere, a URN, a canonical: as it is written.
    Address(String),
}

/// A decimal number, with the precision that it was written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    text: String,
    decimal: Decimal,
}

impl Number {
    /// Reads `100`, `-1.50`, `1e2`, `1e+2`. A blank in the exponent was a plus sign that the address did not escape.
    pub fn parse(raw: &str) -> Option<Self> {
        let plain = raw.split_once(['e', 'E']).and_then(|(number, exponent)| {
            let exponent = exponent.strip_prefix(['+', ' '])?;
            (!exponent.starts_with('-')).then(|| format!("{number}e{exponent}"))
        });
        let raw = plain.as_deref().unwrap_or(raw);
        let (number, exponent) = match raw.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, Some(exponent)),
            None => (raw, None),
        };
        if let Some(raw) = exponent {
            let digits = raw.strip_prefix('-').unwrap_or(raw);
            if digits.len() > 3 || !is_digits(digits) {
                return None;
            }
            digits.parse::<u32>().ok().filter(|exponent| *exponent <= EXPONENT_MAX)?;
        }
        let unsigned = number.strip_prefix('-').unwrap_or(number);
        let (whole, fraction) = match unsigned.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return None,
            None => (unsigned, ""),
        };
        let fits = !whole.is_empty() && whole.len() + fraction.len() <= QUERY_DIGITS_MAX;
        if !fits || !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        Some(Self { text: raw.to_owned(), decimal: Decimal::parse(raw)? })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// As a number.
    pub const fn decimal(&self) -> &Decimal {
        &self.decimal
    }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A date of a query: a [`DateTime`] that may have minutes as its last digits, and a time without a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    text: String,
    has_zone: bool,
    has_seconds: bool,
}

impl Moment {
    /// Reads one. A blank before the zone was a plus sign that the address did not escape.
    pub fn parse(raw: &str) -> Option<Self> {
        let text = raw.replace(' ', "+");
        let Some((day, time)) = text.split_once('T') else {
            DateTime::parse(&text)?;
            return Some(Self { text, has_zone: false, has_seconds: false });
        };
        let (clock, zone) = match time.find(['Z', '+', '-']) {
            Some(at) => time.split_at_checked(at)?,
            None => (time, ""),
        };
        let has_seconds = clock.len() > 5;
        let moment = Self { has_zone: !zone.is_empty(), has_seconds, text: format!("{day}T{clock}{zone}") };
        moment.first_in("Z").map(|_| moment)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it says its own zone.
    pub const fn has_zone(&self) -> bool {
        self.has_zone
    }

    /// Whether it is a time of which the seconds are left open.
    pub fn is_minute(&self) -> bool {
        !self.has_seconds && self.text.contains('T')
    }

    /// It, or its first second, with `zone` (`+09:00`) where it says none and is a time.
    pub fn first_in(&self, zone: &str) -> Option<DateTime> {
        let mut text = self.text.clone();
        if let Some((before, time)) = self.text.split_once('T') {
            let seconds = if self.has_seconds { "" } else { ":00" };
            let at = time.find(['Z', '+', '-']).unwrap_or(time.len());
            let (clock, own) = time.split_at_checked(at)?;
            let zone = if self.has_zone { own } else { zone };
            text = format!("{before}T{clock}{seconds}{zone}");
        }
        DateTime::parse(&text).filter(|date| date.precision() == Precision::Second || !text.contains('T'))
    }

    /// Its first and its last microsecond; what names no zone is of `zone`.
    pub fn bounds(&self, zone: &TimeZone) -> (Timestamp, Timestamp) {
        let Some(date) = self.first_in("Z") else {
            return (Timestamp::from_micros(i64::MIN), Timestamp::from_micros(i64::MAX)); // none that was parsed
        };
        let (low, high) = date.bounds(zone);
        let high =
            if self.is_minute() { high.as_micros().saturating_add(59_000_000) } else { high.as_micros() };
        // A time without a zone was read as if it were UTC.
        let shift = if self.has_zone || !self.text.contains('T') {
            0
        } else {
            let local = TimeZone::UTC.to_datetime(low.to_jiff());
            let there = zone.to_timestamp(local).map(jiff::Timestamp::as_microsecond);
            there.map_or(0, |there| there - low.as_micros())
        };
        let shifted = |micros: i64| Timestamp::from_micros(micros.saturating_add(shift));
        (shifted(low.as_micros()), shifted(high))
    }
}

impl Operand {
    /// Reads a value that its commas no longer are in; absent where it is none.
    pub(super) fn parse(
        parameter: &Parameter,
        modifier: Option<Modifier>,
        of_type: Option<&'static str>,
        raw: &str,
    ) -> Option<Self> {
        match modifier {
            Some(Modifier::Missing) => return raw.parse().ok().map(Self::Missing),
            Some(Modifier::Identifier) => return token(raw).map(Self::Token),
            Some(Modifier::OfType) => return of_type_of(raw),
            Some(Modifier::Text) => return Some(Self::Text(unescape(raw))),
            Some(Modifier::In | Modifier::NotIn) => return Some(Self::ValueSet(unescape(raw))),
            // What is above and below stands in a system that is known.
            Some(Modifier::Above | Modifier::Below) if parameter.ty == ParameterType::Token => {
                let token = token(raw).filter(|token| !token.code.is_empty())?;
                let has_system = token.system.as_deref().is_some_and(|system| !system.is_empty());
                return has_system.then_some(Self::Token(token));
            }
            // An OID or a UUID has no parts that lie within each other.
            Some(Modifier::Above | Modifier::Below) => {
                let is_path = |raw: &String| raw.contains("://") && raw.len() < CUT_BYTES;
                return Some(unescape(raw)).filter(is_path).map(Self::Text);
            }
            _ => {}
        }
        match parameter.ty {
            ParameterType::Number => {
                let (prefix, raw) = Prefix::split(raw);
                Some(Self::Number(prefix, Number::parse(raw)?))
            }
            ParameterType::Date => {
                let (prefix, raw) = Prefix::split(raw);
                Some(Self::Date(prefix, Moment::parse(raw)?))
            }
            // Blanks alone would be the beginning of every text.
            ParameterType::String => Some(unescape(raw)).filter(|raw| !fold(raw).is_empty()).map(Self::Text),
            ParameterType::Uri | ParameterType::Special => Some(Self::Text(unescape(raw))),
            ParameterType::Token => token(raw).map(Self::Token),
            ParameterType::Reference => target(&unescape(raw), of_type).map(Self::Reference),
            ParameterType::Quantity => quantity(raw),
            ParameterType::Composite => {
                let raws = split(raw, '$');
                if raws.len() != parameter.components.len() {
                    return None;
                }
                let parts = parameter
                    .components
                    .iter()
                    .zip(raws)
                    .map(|((id, _), raw)| Self::parse(r4().by_id(id)?, None, None, raw));
                parts.collect::<Option<Vec<_>>>().map(Self::Parts)
            }
        }
    }
}

fn token(raw: &str) -> Option<Token> {
    let parts: Vec<String> = split(raw, '|').into_iter().map(unescape).collect();
    let (system, code) = match parts.as_slice() {
        [code] => (None, code.clone()),
        [system, code] => (Some(system.clone()), code.clone()),
        _ => return None,
    };
    if code.is_empty() && system.as_deref().is_none_or(str::is_empty) {
        return None;
    }
    Some(Token { system, code })
}

/// `system|code|value`.
fn of_type_of(raw: &str) -> Option<Operand> {
    let parts: Vec<String> = split(raw, '|').into_iter().map(unescape).collect();
    let [system, code, value] = parts.as_slice() else { return None };
    let is_whole = !code.is_empty() && !value.is_empty();
    let system = Some(system.clone()).filter(|system| !system.is_empty());
    is_whole.then(|| Operand::OfType { ty: Token { system, code: code.clone() }, value: value.clone() })
}

fn quantity(raw: &str) -> Option<Operand> {
    let parts: Vec<String> = split(raw, '|').into_iter().map(unescape).collect();
    let (number, system, code) = match parts.as_slice() {
        [number] => (number, String::new(), String::new()),
        [number, system, code] => (number, system.clone(), code.clone()),
        _ => return None,
    };
    let (prefix, number) = Prefix::split(number);
    Some(Operand::Quantity { prefix, number: Number::parse(number)?, system, code })
}

fn target(raw: &str, of_type: Option<&'static str>) -> Option<Target> {
    if let Ok(id) = FhirId::parse(raw) {
        return Some(match of_type {
            Some(resource_type) => Target::Local { resource_type, id },
            None => Target::Id(id),
        });
    }
    let fits = |found: &str| of_type.is_none_or(|wanted| wanted == found);
    let is_address = raw.starts_with("https://") || raw.starts_with("http://");
    let reference = match raw.parse::<Reference>() {
        Ok(reference) => reference,
        // To what is no resource: found as it was written.
        Err(_) if is_address => return Some(Target::Address(raw.to_owned())),
        Err(_) => return None,
    };
    match reference {
        Reference::Relative { resource_type, id, .. } => {
            let known = r4().resource_types().find(|known| *known == resource_type.as_str());
            known.filter(|known| fits(known)).map(|resource_type| Target::Local { resource_type, id })
        }
        Reference::Contained(_) => None,
        Reference::Urn(address) | Reference::Absolute(address) => Some(Target::Address(address)),
    }
}

/// Parts between a sign that no backslash stands before.
pub(super) fn split(raw: &str, sign: char) -> Vec<&str> {
    let mut escaped = false;
    raw.split(|letter: char| {
        let is_between = letter == sign && !escaped;
        escaped = letter == '\\' && !escaped;
        is_between
    })
    .collect()
}

const ESCAPED: [char; 4] = [',', '$', '|', '\\'];

fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut letters = raw.chars().peekable();
    while let Some(letter) = letters.next() {
        let next = letters.next_if(|next| letter == '\\' && ESCAPED.contains(next));
        out.push(next.unwrap_or(letter));
    }
    out
}

/// A text with its escapes, as a value of a search has it.
///
/// ```
/// use hilum_fhir::search::query::Escaped;
/// assert_eq!(Escaped("a|b,c").to_string(), r"a\|b\,c");
/// ```
pub struct Escaped<'t>(pub &'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            if ESCAPED.contains(&letter) {
                f.write_str("\\")?;
            }
            write!(f, "{letter}")?;
        }
        Ok(())
    }
}

fn prefixed(f: &mut fmt::Formatter<'_>, prefix: Prefix, value: &str) -> fmt::Result {
    match prefix {
        Prefix::Equal => f.write_str(value),
        _ => write!(f, "{}{value}", prefix.as_str()),
    }
}

/// As it is written in a query.
impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(is_missing) => write!(f, "{is_missing}"),
            Self::Number(prefix, number) => prefixed(f, *prefix, number.as_str()),
            Self::Date(prefix, moment) => prefixed(f, *prefix, moment.as_str()),
            Self::Text(text) => write!(f, "{}", Escaped(text)),
            Self::Token(Token { system: None, code }) => write!(f, "{}", Escaped(code)),
            Self::Token(Token { system: Some(system), code }) => {
                write!(f, "{}|{}", Escaped(system), Escaped(code))
            }
            Self::OfType { ty, value } => {
                let system = ty.system.as_deref().unwrap_or_default();
                write!(f, "{}|{}|{}", Escaped(system), Escaped(&ty.code), Escaped(value))
            }
            Self::Reference(Target::Id(id)) => write!(f, "{id}"),
            Self::Reference(Target::Local { resource_type, id }) => write!(f, "{resource_type}/{id}"),
            Self::ValueSet(address) | Self::Reference(Target::Address(address)) => {
                write!(f, "{}", Escaped(address))
            }
            Self::Quantity { prefix, number, system, code } => {
                prefixed(f, *prefix, number.as_str())?;
                if system.is_empty() && code.is_empty() {
                    return Ok(());
                }
                write!(f, "|{}|{}", Escaped(system), Escaped(code))
            }
            Self::Parts(parts) => {
                for (at, part) in parts.iter().enumerate() {
                    write!(f, "{}{part}", if at == 0 { "" } else { "$" })?;
                }
                Ok(())
            }
        }
    }
}

/// What a value of a parameter looks like, for a refusal.
pub(super) fn wants(parameter: &Parameter, modifier: Option<Modifier>) -> &'static str {
    match modifier {
        Some(Modifier::Missing) => "true or false",
        Some(Modifier::Identifier) => "value, system|value, |value or system|",
        Some(Modifier::OfType) => {
            "system|code|value: the type of the identifier by its system and code, and the value"
        }
        Some(Modifier::Text) => "the beginning of what the code is called",
        Some(Modifier::In | Modifier::NotIn) => "the address of a value set that is here, or ValueSet/id",
        Some(Modifier::Above | Modifier::Below) if parameter.ty == ParameterType::Token => {
            "system|code, of a code system that is here"
        }
        Some(Modifier::Above | Modifier::Below) => {
            "an address like http://acme.org/fhir; of URNs none is above another"
        }
        _ => Rule::of(parameter.ty).wants,
    }
}
