//! The system that a code implies: an element of type `code` has none of its own, it follows from the value set that is
//! required there.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::path::Path;
use crate::r4::{Parameter, r4};

const SYSTEMS: &str = include_str!("../../r4/systems.tsv");

/// By the value set's name.
fn systems() -> &'static HashMap<&'static str, &'static str> {
    static READ: OnceLock<HashMap<&'static str, &'static str>> = OnceLock::new();
    READ.get_or_init(|| {
        let lines = SYSTEMS.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.split_once('\t')).collect()
    })
}

/// The system of all values of a parameter that are codes alone.
///
/// ```
/// use hilum_fhir::r4::r4;
/// use hilum_fhir::search::implied::system_of;
/// let of = |ty: &str, code: &str| system_of(ty, r4().parameter(ty, code).unwrap());
/// assert_eq!(of("Patient", "gender"), Some("http://hl7.org/fhir/administrative-gender"));
/// assert_eq!(of("Observation", "code"), None);
/// ```
pub fn system_of(resource_type: &str, parameter: &Parameter) -> Option<&'static str> {
    let shape = r4().shape(resource_type)?;
    let bindings = Path::of(parameter, resource_type).ok()?.bindings(r4(), shape)?;
    let mut all = bindings.iter().map(|codes| systems().get(codes.value_set).copied());
    let first = all.next()??;
    all.all(|other| other == Some(first)).then_some(first)
}
