//! What somebody may know who is limited to some patients: what lies in the compartments of these and of nobody else, and what
//! speaks of nobody. Asked of every resource that a search goes through, in the same statement, as things stand now.

use std::collections::BTreeSet;

use hilum_core::{Authority, Id, PatientList, Role};
use hilum_engines::tables::query::{Check, Keep, Probe, Query, Source, Term, Test};
use hilum_engines::tables::{Type, Value};
use hilum_fhir::search::param::type_number;
use hilum_fhir::search::values::members;

use super::withheld::{of_a_patient, visible_now};
use crate::chart::{Chart, may_read};
use crate::error::ChartError;
use crate::index::tables::REF;
use crate::port;
use crate::resources::RESOURCE;

/// Types that speak of no patient: of who works where, of what there is to take, of how things are called and asked. What is in
/// no compartment and not among them (Group, List, Task …) may name patients, and is not shown to who is limited.
pub const OF_NOBODY: &[&str] = &[
    "CapabilityStatement",
    "CodeSystem",
    "ConceptMap",
    "HealthcareService",
    "Location",
    "Medication",
    "MedicationKnowledge",
    "NamingSystem",
    "ObservationDefinition",
    "OperationDefinition",
    "Organization",
    "OrganizationAffiliation",
    "Practitioner",
    "PractitionerRole",
    "Questionnaire",
    "SearchParameter",
    "StructureDefinition",
    "Substance",
    "ValueSet",
];

/// Who looked: for who minds the log, whomever it is about.
const LOG: &str = "AuditEvent";

/// In R4's compartment of a Patient, and yet not theirs to see: a Group names its other members, by reference or by text.
const NEVER: &[&str] = &[LOG, "Group"];

/// Whether a resource of this type is for somebody of another role, whoever it is about.
fn is_of_other_role(resource_type: &str, authority: &Authority) -> bool {
    resource_type == LOG && authority.role() != Role::Admin
}

/// Whether a patient, by the id, is one of these.
fn is_listed(list: &PatientList) -> Check {
    let ids = |ids: &BTreeSet<Id>| ids.iter().copied().map(Value::Id).collect();
    let mut any = vec![Check::Is(Test::In(ids(&list.patients)))];
    let member = members("Group").zip(type_number("Patient"));
    if let Some((member, patient)) = member.filter(|_| !list.groups.is_empty()) {
        let prefix = vec![Term::Is(Value::Int(member.get())), Term::Is(Value::Int(patient)), Term::Subject];
        let one_of = Keep { column: "id", test: Test::In(ids(&list.groups)) };
        let group = Probe::by_index(RESOURCE.name, "by_row", vec![Term::Subject]);
        any.push(Check::Each {
            probe: Probe { keep: visible_now(), ..Probe::by_key(REF.name, prefix) },
            subject: "subject",
            check: Box::new(Check::Has(Probe { keep: vec![one_of], ..group })),
        });
    }
    Check::Any(any)
}

/// Whether a resource of this type, by its row, may be known; absent where it may whichever it is.
pub(super) fn is_permitted(resource_type: &str, authority: &Authority) -> Option<Check> {
    if is_of_other_role(resource_type, authority) {
        return Some(Check::Any(Vec::new()));
    }
    let list = authority.patients()?;
    if OF_NOBODY.contains(&resource_type) {
        return None;
    }
    let none = Check::Any(Vec::new());
    if NEVER.contains(&resource_type) {
        return Some(none);
    }
    if resource_type == "Patient" {
        // A Patient that links to another one lies in R4's compartment of that, and is somebody else.
        let by_row = Probe::by_index(RESOURCE.name, "by_row", vec![Term::Subject]);
        return Some(Check::Each { probe: by_row, subject: "id", check: Box::new(is_listed(list)) });
    }
    // In R4's compartment of a patient lies also what they only wrote, paid or told of somebody else: of all must it be known.
    let other = Check::Not(Box::new(is_listed(list)));
    let both = of_a_patient(resource_type, is_listed(list)).zip(of_a_patient(resource_type, other));
    Some(both.map_or(none, |(permitted, other)| Check::All(vec![permitted, Check::Not(Box::new(other))])))
}

impl Chart {
    /// Whether a resource of this type may be known that lies in the compartments of these patients, and of others of
    /// whom the chart knows nothing, or not.
    ///
    /// # Errors
    /// [`ChartError::NotFound`] when `authority` may not read; the engine's.
    pub async fn permits(
        &self,
        authority: &Authority,
        resource_type: &str,
        (patients, is_of_others): (&BTreeSet<Id>, bool),
    ) -> Result<bool, ChartError> {
        may_read(authority)?;
        if is_of_other_role(resource_type, authority) {
            return Ok(false);
        }
        let Some(list) = authority.patients() else { return Ok(true) };
        if OF_NOBODY.contains(&resource_type) {
            return Ok(true);
        }
        if NEVER.contains(&resource_type) || patients.is_empty() || is_of_others {
            return Ok(false);
        }
        let unlisted = patients.difference(&list.patients).copied().map(Value::Id);
        let values: Vec<Value> = unlisted.collect();
        if values.is_empty() || list.groups.is_empty() {
            return Ok(values.is_empty());
        }
        let wanted = values.len();
        let from = Source::These { ty: Type::Id, values };
        let query = Query { checks: vec![is_listed(list)], limit: wanted as u32, ..Query::new(from) };
        Ok(port::query(self.tables(), &query).await?.found.len() == wanted)
    }
}
