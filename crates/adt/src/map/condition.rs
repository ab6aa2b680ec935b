//! Condition, from DG1.

use hilum_core::{Id, InstallationKey};
use serde::Serialize;

use super::convert::{concept, identifier, meta, practitioner, standing};
use super::element::{Concept, Extension, Identifier, Meta, Reference, Value};
use super::vocabulary::{CONDITION_CATEGORY, CONDITION_CLINICAL, CONDITION_VERIFICATION, DIAGNOSIS_CODE};
use super::{Mapped, Notes, ids};
use crate::content::datatypes::Action;
use crate::content::items::Diagnosis;
use crate::content::time::When;
use crate::state::{EncounterState, Item, Standing};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Condition<'a> {
    resource_type: &'static str,
    id: Id,
    meta: Meta<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extension: Vec<Extension<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    identifier: Vec<Identifier<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clinical_status: Option<Concept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification_status: Option<Concept<'a>>,
    category: [Concept<'a>; 1],
    code: Concept<'a>,
    subject: Reference<'a>,
    encounter: Reference<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    onset_date_time: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asserter: Option<Reference<'a>>,
}

/// Condition of a diagnosis of an encounter; `confidential` = the patient is. One that the sender deleted by action
/// code is entered in error; one that is no longer sent is inactive; of the others DG1 tells no clinical status, and
/// none is guessed.
#[must_use]
pub fn resource(
    item: &Item<Diagnosis>,
    encounter: &EncounterState,
    confidential: bool,
    key: &InstallationKey,
) -> Mapped {
    let id = ids::condition(key, item.origin, item.key);
    let diagnosis = &item.content;
    let mut notes = Notes::default();

    let mut extension = Vec::new();
    extension.extend(standing(item.standing));
    if let Some(attested) = &diagnosis.attested {
        let url = "http://hl7.org/fhir/StructureDefinition/condition-assertedDate";
        extension.push(Extension { url, value: Value::DateTime(attested.as_str()) });
    }
    let is_error = item.standing == Standing::Deleted && diagnosis.action == Some(Action::Delete);
    let is_inactive = item.standing != Standing::Current && !is_error;
    let mut code = concept(&diagnosis.code, &DIAGNOSIS_CODE, "Condition.code", &mut notes);
    if !diagnosis.description.is_empty() {
        code.text = &diagnosis.description;
    }
    let condition = Condition {
        resource_type: "Condition",
        id,
        meta: meta(
            Some(item.message),
            confidential || diagnosis.confidential || encounter.content.is_confidential(),
            &[],
        ),
        extension,
        identifier: diagnosis.identifier.iter().map(identifier).collect(),
        clinical_status: is_inactive.then(|| Concept::of(CONDITION_CLINICAL, "inactive", "Inactive")),
        verification_status: is_error
            .then(|| Concept::of(CONDITION_VERIFICATION, "entered-in-error", "Entered in Error")),
        category: [Concept::of(CONDITION_CATEGORY, "encounter-diagnosis", "Encounter Diagnosis")],
        code,
        subject: Reference::to("Patient", encounter.patient),
        encounter: Reference::to("Encounter", encounter.id),
        onset_date_time: diagnosis.at.as_ref().map(When::as_str),
        asserter: diagnosis.clinician.as_ref().map(|provider| practitioner(key, provider)),
    };
    notes.finish(id, &condition)
}
