//! Quantities in the canonical unit of what they measure, as UCUM defines it (<https://ucum.org/ucum>): 5.4 mg is 0.0054 g.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::limits::{UNIT_BYTES_MAX, UNITS_MAX};
use crate::search::number::Decimal;

/// The system of UCUM's codes.
pub const UCUM: &str = "http://unitsofmeasure.org";
/// What the library's binary factors are off by, of themselves: 10 stands there as 9.999999999999996.
const FACTOR_OFF: f64 = 4e-15;
/// Digits of a factor that is taken for a decimal, or of its numerator for one: as many as leave little to chance.
const SHORT_DIGITS: usize = 12;
/// Digits that are kept of any other factor: more would be the library's own.
const FACTOR_DIGITS: usize = 14;
/// The greatest denominator that is looked for: behind the twos and fives a year has 39 447 (365.25 days).
const DENOMINATOR_MAX: u32 = 40_000;
/// The base units, in the order of the library's dimensions.
const BASE: [&str; 7] = ["m", "s", "g", "rad", "K", "C", "cd"];

/// What a unit is of the canonical one: a fraction, since a minute is no decimal of an hour nor a degree Fahrenheit of a kelvin,
/// and 100.4 [degF] has to be 38 Cel, not almost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical {
    /// `ucum:` and the base units with their powers: `ucum:m-3.g`; of a plain number `ucum:1`.
    pub unit: String,
    /// The factor's numerator.
    factor: Decimal,
    /// What is added, over the same denominator.
    offset: Option<Decimal>,
    denominator: NonZeroU32,
}

/// Whether UCUM knows a code.
pub fn is_unit(code: &str) -> bool {
    code.len() <= UNIT_BYTES_MAX && ucum::analyze(code).is_ok()
}

impl Canonical {
    /// What a UCUM code stands for; `None` where UCUM does not know it, or where it measures by a scale of its own (`[iU]`,
    /// `[pH]`): such quantities are compared by their code.
    ///
    /// ```
    /// use hilum_fhir::search::number::Decimal;
    /// use hilum_fhir::search::unit::Canonical;
    /// let (mg, g) = (Canonical::of("mg").unwrap(), Canonical::of("g").unwrap());
    /// let (one, two) = (Decimal::parse("5.4").unwrap(), Decimal::parse("0.0054").unwrap());
    /// assert_eq!((mg.unit.as_str(), mg.of_number(&one).ordered()), ("ucum:g", g.of_number(&two).ordered()));
    /// ```
    pub fn of(code: &str) -> Option<Self> {
        static KNOWN: OnceLock<Mutex<HashMap<Box<str>, Option<Canonical>>>> = OnceLock::new();
        if code.len() > UNIT_BYTES_MAX || !code.is_ascii() {
            return None;
        }
        let known = KNOWN.get_or_init(Mutex::default);
        if let Some(found) = known.lock().unwrap_or_else(PoisonError::into_inner).get(code) {
            return found.clone();
        }
        let found = Self::analyze(code);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= UNITS_MAX {
            known.clear();
        }
        known.insert(code.into(), found.clone());
        found
    }

    fn analyze(code: &str) -> Option<Self> {
        let unit = ucum::analyze(code).ok()?;
        let (factor, denominator) = fraction(unit.factor)?;
        let offset = if unit.is_special {
            // A scale with its zero elsewhere. One that has none is of no dimension that could be compared.
            if unit.offset == 0.0 || unit.is_dimensionless {
                return None;
            }
            Some(decimal(unit.offset * f64::from(denominator.get()), SHORT_DIGITS)?)
        } else {
            None
        };
        let mut name = "ucum:".to_owned();
        for (base, power) in BASE.iter().zip(unit.dimension.0).filter(|(_, power)| *power != 0) {
            let dot = if name.ends_with(':') { "" } else { "." };
            let written =
                if power == 1 { write!(name, "{dot}{base}") } else { write!(name, "{dot}{base}{power}") };
            written.ok()?;
        }
        if name.ends_with(':') {
            name.push('1');
        }
        Some(Self { unit: name, factor, offset, denominator })
    }

    /// A number of the unit as one of the canonical unit: divided last, so that what is no decimal is cut in one place, the same
    /// from whichever unit it came.
    #[must_use]
    pub fn of_number(&self, number: &Decimal) -> Decimal {
        let scaled = number.times(&self.factor);
        let scaled = self.offset.as_ref().map_or_else(|| scaled.clone(), |offset| scaled.plus(offset));
        if self.denominator == NonZeroU32::MIN { scaled } else { scaled.over(self.denominator) }
    }
}

/// The fraction that a binary factor stands for: that with the least denominator whose numerator is a short decimal. One that is
/// none (of pi) is a decimal as long as the library is right.
fn fraction(factor: f64) -> Option<(Decimal, NonZeroU32)> {
    let mantissa = format!("{factor:e}").split_once('e')?.0.parse::<f64>().ok()?;
    let is_short = |denominator: u32| {
        // The more denominators there are, the shorter a numerator has to be, or any number would have one.
        let digits =
            SHORT_DIGITS as i32 - 2 * denominator.ilog10() as i32 - if denominator == 1 { 1 } else { 2 };
        let numerator = mantissa * f64::from(denominator) * 10_f64.powi(digits);
        (numerator - numerator.round()).abs() <= numerator.abs() * FACTOR_OFF
    };
    // Twos and fives only move the point.
    let mut denominators = (1..DENOMINATOR_MAX).step_by(2).filter(|one| one % 5 != 0);
    match denominators.find(|denominator| is_short(*denominator)) {
        Some(denominator) => {
            let numerator = decimal(factor * f64::from(denominator), SHORT_DIGITS)?;
            Some((numerator, NonZeroU32::new(denominator)?))
        }
        None => Some((decimal(factor, FACTOR_DIGITS)?, NonZeroU32::MIN)),
    }
}

fn decimal(number: f64, digits: usize) -> Option<Decimal> {
    if !number.is_finite() {
        return None;
    }
    let written = format!("{number:.*e}", digits - 1);
    let (mantissa, exponent) = written.split_once('e')?;
    // Zeros that nobody wrote would take the place of digits.
    Decimal::parse(&format!("{}e{exponent}", mantissa.trim_end_matches('0')))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn units_of_one_measure_meet() {
        let same = [
            [("5.4", "mg"), ("0.0054", "g")],
            [("90", "mg/dL"), ("0.9", "g/L")],
            [("1", "[lb_av]"), ("453.59237", "g")],
            [("37", "Cel"), ("310.15", "K")],
            [("1", "mg{dry}"), ("1", "mg")],
            [("3", "10*3/uL"), ("3", "10*9/L")],
            [("50", "%"), ("0.5", "1")],
            [("1", "kJ"), ("1000", "N.m")],
            [("4", "{beats}/min"), ("4", "/min")],
            [("100.4", "[degF]"), ("38", "Cel")],
            [("98.6", "[degF]"), ("310.15", "K")],
            [("-459.67", "[degF]"), ("-273.15", "Cel")],
            [("-469.57", "[degF]"), ("-5.5", "K")],
            [("0", "[degR]"), ("0", "K")],
            [("60", "/min"), ("1", "Hz")],
            [("-7", "/d"), ("-49", "/wk")],
            [("487", "g/mo"), ("16", "g/d")],
            [("6", "g/a"), ("0.5", "g/mo")],
            [("3", "mol/d"), ("0.125", "mol/h")],
            [("16", "nkat"), ("0.96", "U")],
            [("1", "[dr_av]"), ("1.7718451953125", "g")],
            [("1", "[ft_us]"), ("12", "[in_us]")],
            [("1", "[Ch]"), ("0.3333333333333333333333333333333333333333", "mm")],
        ];
        for [(one, mine), (two, yours)] in same {
            let canonical = |number, unit| {
                let unit = Canonical::of(unit).unwrap();
                (unit.unit.clone(), unit.of_number(&Decimal::parse(number).unwrap()).ordered())
            };
            assert_eq!(canonical(one, mine), canonical(two, yours), "{one} {mine} = {two} {yours}");
        }
        for none in ["", "[iU]", "[pH]", "[iU]/L", "mmHg", "m g", "\u{b5}g", "(((", "m/", &"m.".repeat(40)] {
            assert_eq!(Canonical::of(none), None, "{none}");
        }
    }
}
