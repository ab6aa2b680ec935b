//! Compounds: parameters that are asked together so often that one row has the values of all of them, where each alone leads to
//! many resources (all that was ever measured of a patient, all who were born on a day). A row of a compound only leads to
//! resources: each value is asked of them as ever.

use hilum_core::Timestamp;

use super::{Entry, Kept, Value, digest, kept};
use crate::resource::FhirId;
use crate::search::fold::FOLDED_BYTES_MAX;
use crate::search::param::ParamNumber;

/// Of a type: a reference to a Patient, and a code of what is said of them.
const CODED: &[(&str, &str, &str)] =
    &[("Observation", "patient", "code"), ("DiagnosticReport", "patient", "code")];

/// Of a type: a day, a code, and the beginning of a text.
const NAMED: &[(&str, [&str; 3])] = &[("Patient", ["birthdate", "gender", "family"])];

const DAY_MICROS: i64 = 86_400_000_000;

/// Where the parameters of a compound of a reference and a code stand, and the number of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coded {
    /// The name of the reference.
    pub reference: &'static str,
    /// The name of the code.
    pub code: &'static str,
    /// Of its rows.
    pub number: ParamNumber,
    refers: Kept,
    codes: Kept,
}

/// Where the parameters of a compound of a day, a code and a text stand, and the number of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// The names of the day, the code and the text.
    pub codes: [&'static str; 3],
    /// Of its rows.
    pub number: ParamNumber,
    kept: [Kept; 3],
}

impl Coded {
    /// The one of a type.
    pub fn of(resource_type: &str) -> Option<Self> {
        let (ty, reference, code) = CODED.iter().find(|(ty, ..)| *ty == resource_type)?;
        let (refers, codes) = (kept(ty, reference)?, kept(ty, code)?);
        Some(Self { reference, code, number: codes.number.together(), refers, codes })
    }

    /// What stands for a code, as [`crate::search::fold::cut`] left it, whatever its system.
    pub fn code(code: &str) -> i64 {
        digest(code.as_bytes())
    }
}

impl Named {
    /// The one of a type.
    pub fn of(resource_type: &str) -> Option<Self> {
        let (ty, codes) = NAMED.iter().find(|(ty, _)| *ty == resource_type)?;
        let [day, code, text] = codes.map(|code| kept(ty, code));
        let kept = [day?, code?, text?];
        Some(Self { codes: *codes, number: kept[0].number.together(), kept })
    }

    /// What a row says, or begins with: a whole day in UTC, a code as [`crate::search::fold::cut`] left it, and a folded text or
    /// its beginning. Absent of a period that is no day: no row says it.
    pub fn text((low, high): (Timestamp, Timestamp), code: &str, folded: &str) -> Option<String> {
        let (low, high) = (low.as_micros(), high.as_micros());
        let is_day = low.rem_euclid(DAY_MICROS) == 0 && low.checked_add(DAY_MICROS - 1) == Some(high);
        is_day.then(|| {
            let mut text = format!("{}\u{1}{code}\u{1}{folded}", low.div_euclid(DAY_MICROS));
            text.truncate(text.floor_char_boundary(FOLDED_BYTES_MAX));
            text
        })
    }
}

/// The rows of a type's compounds, from the values of its parameters.
pub(super) fn of(resource_type: &str, values: &super::Values) -> Vec<Entry> {
    let of_param = |number: ParamNumber| {
        values.iter().filter(move |entry| entry.param == number).map(|entry| &entry.value)
    };
    let mut entries = Vec::new();
    if let Some(Coded { number, refers, codes, .. }) = Coded::of(resource_type) {
        let patients: Vec<&FhirId> = of_param(refers.references).filter_map(patient).collect();
        for code in of_param(codes.number).filter_map(code) {
            let of = |id: &&FhirId| Value::Coded { code: Coded::code(code), patient: (*id).clone() };
            entries.extend(patients.iter().map(|id| Entry { param: number, value: of(id) }));
        }
    }
    if let Some(Named { number, kept: [day, gender, text], .. }) = Named::of(resource_type) {
        for (low, high) in of_param(day.number).filter_map(day_of) {
            for code in of_param(gender.number).filter_map(code) {
                let mut texts: Vec<&str> = of_param(text.number).filter_map(folded).collect();
                if texts.is_empty() {
                    texts.push(""); // found by the others
                }
                let texts = texts.into_iter().filter_map(|text| Named::text((low, high), code, text));
                entries.extend(
                    texts.map(|folded| Entry { param: number, value: Value::String { folded, exact: 0 } }),
                );
            }
        }
    }
    entries
}

fn patient(value: &Value) -> Option<&FhirId> {
    match value {
        Value::Reference { resource_type: "Patient", id } => Some(id),
        _ => None,
    }
}

fn code(value: &Value) -> Option<&str> {
    match value {
        Value::Token { code, .. } => Some(code),
        _ => None,
    }
}

const fn day_of(value: &Value) -> Option<(Timestamp, Timestamp)> {
    match value {
        Value::Date { low, high } => Some((*low, *high)),
        _ => None,
    }
}

fn folded(value: &Value) -> Option<&str> {
    match value {
        Value::String { folded, .. } => Some(folded),
        _ => None,
    }
}
