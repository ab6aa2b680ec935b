//! Quantities in the canonical unit of what they measure, as UCUM defines it (<https://ucum.org/ucum>): 5.4 mg is 0.0054 g.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::limits::{UNIT_BYTES_MAX, UNITS_MAX};
use crate::search::number::Decimal;

/// The system of UCUM's codes.
pub const UCUM: &str = "http://unitsofmeasure.org";
/// Significant digits of a factor that are kept: the library counts in binary, and 10 stands there as 9.999999999999996.
const FACTOR_DIGITS: usize = 12;
/// The base units, in the order of the library's dimensions.
const BASE: [&str; 7] = ["m", "s", "g", "rad", "K", "C", "cd"];

/// What a unit is of the canonical one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical {
    /// `ucum:` and the base units with their powers: `ucum:m-3.g`; of a plain number `ucum:1`.
    pub unit: String,
    factor: Decimal,
    offset: Option<Decimal>,
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
        let factor = decimal(unit.factor)?;
        let offset = if unit.is_special {
            // A scale with its zero elsewhere. One that has none is of no dimension that could be compared.
            Some(decimal(unit.offset).filter(|_| unit.offset != 0.0 && !unit.is_dimensionless)?)
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
        Some(Self { unit: name, factor, offset })
    }

    /// A number of the unit as one of the canonical unit.
    #[must_use]
    pub fn of_number(&self, number: &Decimal) -> Decimal {
        let scaled = number.times(&self.factor);
        self.offset.as_ref().map_or_else(|| scaled.clone(), |offset| scaled.plus(offset))
    }
}

fn decimal(number: f64) -> Option<Decimal> {
    if !number.is_finite() {
        return None;
    }
    Decimal::parse(&format!("{number:.*e}", FACTOR_DIGITS - 1))
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
