//! AllergyIntolerance, from AL1 and IAM.

use std::borrow::Cow;

use hilum_core::{Id, InstallationKey};
use serde::Serialize;

use super::convert::{concept, identifier, meta, origin, required, standing, words_or_concept};
use super::element::{Beside, Coding, Concept, Extension, Identifier, Meta, Reference, Value};
use super::vocabulary::{
    ALLERGEN_TYPE, ALLERGY_CLINICAL, ALLERGY_CRITICALITY, ALLERGY_STATUS, ALLERGY_VERIFICATION, NO_TABLE,
    REACTION_SEVERITY,
};
use super::{Mapped, Notes, ids};
use crate::content::datatypes::Action;
use crate::content::items::Allergy;
use crate::content::time::When;
use crate::state::{Item, PatientState, Standing};

/// The allergen type as sent, where FHIR has no category for it (`valueCoding`).
pub const ALLERGEN_TYPE_SENT: &str = "urn:hilum:extension:allergen-type";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AllergyIntolerance<'a> {
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
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    category: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    criticality: Option<&'static str>,
    #[serde(rename = "_criticality", skip_serializing_if = "Option::is_none")]
    criticality_beside: Option<Beside<'a>>,
    code: Concept<'a>,
    patient: Reference<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    onset_date_time: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    onset_string: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_date: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reaction: Vec<Reaction<'a>>,
}

#[derive(Serialize)]
struct Reaction<'a> {
    manifestation: Vec<Concept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<&'static str>,
}

/// AllergyIntolerance of an allergy. One that is no longer sent is inactive and says so: it is never erased
/// (clinical-rules 12). One that was united by a merge names its origin (clinical-rules 16).
#[must_use]
pub fn resource(item: &Item<Allergy>, patient: &PatientState, key: &InstallationKey) -> Mapped {
    let id = ids::allergy_intolerance(key, item.origin, item.key);
    let allergy = &item.content;
    let mut notes = Notes::default();

    let mut extension = Vec::new();
    extension.extend(standing(item.standing));
    extension.extend(origin(item.origin, patient.id));
    let category = category(&allergy.kind.code, &mut extension, &mut notes);
    let (criticality, criticality_beside) =
        required(&allergy.severity.code, &ALLERGY_CRITICALITY, "AllergyIntolerance.criticality", &mut notes);
    let (clinical_status, verification_status) = status(item, &mut notes);
    let manifestation: Vec<Concept<'_>> = allergy
        .reactions
        .iter()
        .map(|coded| words_or_concept(coded, &NO_TABLE, "AllergyIntolerance.reaction", &mut notes))
        .collect();
    let severity =
        if allergy.reaction_severity.is_empty() { &allergy.severity } else { &allergy.reaction_severity };
    let severity = REACTION_SEVERITY.target(&severity.code).map(|(_, severity, _)| severity);
    let resource = AllergyIntolerance {
        resource_type: "AllergyIntolerance",
        id,
        meta: meta(Some(item.message), patient.confidential, &[]),
        extension,
        identifier: allergy.identifier.iter().map(identifier).collect(),
        clinical_status,
        verification_status,
        kind: matches!(allergy.kind.code.as_str(), "DA" | "FA" | "MA" | "EA" | "AA" | "PA" | "LA")
            .then_some("allergy"),
        category: category.into_iter().collect(),
        criticality,
        criticality_beside,
        code: words_or_concept(&allergy.code, &NO_TABLE, "AllergyIntolerance.code", &mut notes),
        patient: Reference::to("Patient", patient.id),
        onset_date_time: allergy.onset.as_ref().map(When::as_str),
        onset_string: (allergy.onset.is_none() && !allergy.onset_text.is_empty())
            .then_some(allergy.onset_text.as_str()),
        recorded_date: allergy.reported.as_ref().map(When::as_str),
        reaction: if manifestation.is_empty() {
            Vec::new()
        } else {
            vec![Reaction { manifestation, severity }]
        },
    };
    notes.finish(id, &resource)
}

/// Table 0127: what FHIR has no category for stands in an extension.
fn category<'a>(
    code: &'a str,
    extension: &mut Vec<Extension<'a>>,
    notes: &mut Notes,
) -> Option<&'static str> {
    if code.is_empty() {
        return None;
    }
    if let Some((_, category, _)) = ALLERGEN_TYPE.target(code) {
        return Some(category);
    }
    if ALLERGEN_TYPE.is_unmapped(code) {
        notes.unmapped(ALLERGEN_TYPE.number, "AllergyIntolerance.category");
    }
    let sent = Coding { system: Some(Cow::Borrowed(ALLERGEN_TYPE.system)), code, ..Coding::default() };
    extension.push(Extension { url: ALLERGEN_TYPE_SENT, value: Value::Coding(sent) });
    None
}

/// Clinical and verification status. Entered in error has no clinical status (ait-2); all others have one (ait-1).
fn status<'a>(item: &'a Item<Allergy>, notes: &mut Notes) -> (Option<Concept<'a>>, Option<Concept<'a>>) {
    let allergy = &item.content;
    let sent = &allergy.status;
    let verification = ALLERGY_STATUS.target(&sent.code);
    let is_deleted = item.standing == Standing::Deleted && allergy.action == Some(Action::Delete);
    if is_deleted || verification.is_some_and(|(_, code, _)| code == "entered-in-error") {
        return (None, Some(Concept::of(ALLERGY_VERIFICATION, "entered-in-error", "Entered in Error")));
    }
    let is_inactive = item.standing != Standing::Current || sent.code == "I";
    let clinical = if is_inactive {
        Concept::of(ALLERGY_CLINICAL, "inactive", "Inactive")
    } else {
        Concept::of(ALLERGY_CLINICAL, "active", "Active")
    };
    let verification = (!sent.is_empty())
        .then(|| concept(sent, &ALLERGY_STATUS, "AllergyIntolerance.verificationStatus", notes));
    (Some(clinical), verification)
}
