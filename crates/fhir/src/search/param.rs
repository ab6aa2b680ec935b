//! The numbers by which index rows name their parameter. They are stored: `r4/numbers.tsv` only grows at its end.

use std::collections::HashMap;
use std::sync::OnceLock;

/// Stands for one parameter of one resource type in every row of the index; what is kept beside a parameter's own values has
/// a number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamNumber(i64);

/// Pairs before the numbers of what is kept beside the values.
const PARTS: i64 = 4;
const OF_TYPE: i64 = 1;
const TEXT: i64 = 2;
const TOGETHER: i64 = 3;

impl ParamNumber {
    /// The number of a type's parameter, by its name in a query.
    ///
    /// ```
    /// use hilum_fhir::search::param::ParamNumber;
    /// let number = ParamNumber::of("Patient", "birthdate").unwrap();
    /// assert_ne!(Some(number), ParamNumber::of("Person", "birthdate"));
    /// assert_eq!(ParamNumber::of("Patient", "birthDate"), None);
    /// ```
    pub fn of(resource_type: &str, code: &str) -> Option<Self> {
        let place = numbers().get(resource_type)?.get(code)?;
        Some(Self(place * PARTS))
    }

    /// Of identifiers: values with the type of the identifier in the place of its system (`:of-type`).
    #[must_use]
    pub const fn of_type(self) -> Self {
        Self(self.0 / PARTS * PARTS + OF_TYPE)
    }

    /// Of codes and identifiers: what they are called (`:text`).
    #[must_use]
    pub const fn text(self) -> Self {
        Self(self.0 / PARTS * PARTS + TEXT)
    }

    /// Of a compound that has this parameter (`crate::search::values::compound`).
    #[must_use]
    pub const fn together(self) -> Self {
        Self(self.0 / PARTS * PARTS + TOGETHER)
    }

    /// The parameter's own number, whatever stands beside its values.
    #[must_use]
    pub const fn itself(self) -> Self {
        Self(self.0 / PARTS * PARTS)
    }

    /// As it is stored.
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// The number of a resource type where a row names one: that of its `_id`.
pub fn type_number(resource_type: &str) -> Option<i64> {
    ParamNumber::of(resource_type, "_id").map(ParamNumber::get)
}

const NUMBERS: &str = include_str!("../../r4/numbers.tsv");

/// The place of each pair in the table, from 1.
fn numbers() -> &'static HashMap<&'static str, HashMap<&'static str, i64>> {
    static READ: OnceLock<HashMap<&'static str, HashMap<&'static str, i64>>> = OnceLock::new();
    READ.get_or_init(|| {
        let mut numbers: HashMap<&str, HashMap<&str, i64>> = HashMap::new();
        let lines = NUMBERS.lines().filter(|line| !line.starts_with('#'));
        for (line, place) in lines.zip(1..) {
            if let Some((resource_type, code)) = line.split_once('\t') {
                numbers.entry(resource_type).or_default().insert(code, place);
            }
        }
        numbers
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::r4::r4;

    #[test]
    fn every_parameter_of_every_type_has_a_number() {
        let mut count = 0;
        for resource_type in r4().resource_types() {
            assert!(type_number(resource_type).is_some(), "{resource_type}");
            for parameter in r4().parameters_of(resource_type) {
                assert!(
                    ParamNumber::of(resource_type, parameter.code).is_some(),
                    "{resource_type} {}",
                    parameter.id
                );
                count += 1;
            }
            // Had rows of its own in the first form of the index.
            count += usize::from(ParamNumber::of(resource_type, "_compartment").is_some());
        }
        assert_eq!(numbers().values().map(HashMap::len).sum::<usize>(), count, "and nothing else has one");
    }

    /// Stored rows hold them.
    #[test]
    fn numbers_never_change() {
        let released = NUMBERS.lines().filter(|line| !line.starts_with('#')).take(3_074);
        let mut hasher = blake3::Hasher::new();
        for line in released {
            hasher.update(line.as_bytes());
            hasher.update(b"\n");
        }
        assert_eq!(hasher.finalize().to_hex().get(..16).unwrap(), "69702ce91323f2d7");
        let number = ParamNumber::of("Account", "_compartment").unwrap();
        assert_eq!((number.get(), number.of_type().get()), (4, 5));
    }
}
