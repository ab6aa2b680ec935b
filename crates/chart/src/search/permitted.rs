//! What somebody may know who is limited to some patients: what lies in the compartment of one of them, and what speaks of
//! nobody. Asked of every resource that a search goes through, in the same statement, as things stand now.

use hilum_core::{Authority, Id, PatientList};
use hilum_engines::tables::query::{Check, Keep, Probe, Query, Source, Term, Test};
use hilum_engines::tables::{Type, Value};
use hilum_fhir::search::param::type_number;
use hilum_fhir::search::values::kept;

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

/// In R4's compartment of a Patient, and yet not the patient's to see: who looked.
const NEVER: &str = "AuditEvent";

/// Whether a patient, by the id, is one of these.
fn is_listed(list: &PatientList) -> Check {
    let ids = |ids: &std::collections::BTreeSet<Id>| ids.iter().copied().map(Value::Id).collect();
    let mut any = vec![Check::Is(Test::In(ids(&list.patients)))];
    let member = kept("Group", "member").map(|kept| kept.references).zip(type_number("Patient"));
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
    let list = authority.patients()?;
    if OF_NOBODY.contains(&resource_type) {
        return None;
    }
    let none = Check::Any(Vec::new());
    if resource_type == NEVER {
        return Some(none);
    }
    if resource_type == "Patient" {
        // A Patient that links to another one lies in R4's compartment of that, and is somebody else.
        let by_row = Probe::by_index(RESOURCE.name, "by_row", vec![Term::Subject]);
        return Some(Check::Each { probe: by_row, subject: "id", check: Box::new(is_listed(list)) });
    }
    Some(of_a_patient(resource_type, is_listed(list)).unwrap_or(none))
}

impl Chart {
    /// Whether a resource of this type, that lies in the compartments of these patients, may be known.
    ///
    /// # Errors
    /// [`ChartError::NotFound`] when `authority` may not read; the engine's.
    pub async fn permits(
        &self,
        authority: &Authority,
        resource_type: &str,
        patients: &[Id],
    ) -> Result<bool, ChartError> {
        may_read(authority)?;
        let Some(list) = authority.patients() else { return Ok(true) };
        if OF_NOBODY.contains(&resource_type) {
            return Ok(true);
        }
        if resource_type == NEVER {
            return Ok(false);
        }
        if patients.iter().any(|patient| list.patients.contains(patient)) {
            return Ok(true);
        }
        if list.groups.is_empty() || patients.is_empty() {
            return Ok(false);
        }
        let values = patients.iter().copied().map(Value::Id).collect();
        let from = Source::These { ty: Type::Id, values };
        let query = Query { checks: vec![is_listed(list)], limit: 1, ..Query::new(from) };
        Ok(!port::query(self.tables(), &query).await?.found.is_empty())
    }
}
