//! RelatedPerson, from NK1.

use hilum_core::{Id, InstallationKey};
use serde::Serialize;

use super::convert::{
    address, concept, contact_point, human_name, identifier, language_concept, meta, origin, original,
    period, standing,
};
use super::element::{
    Address, Beside, Concept, ContactPoint, Extension, HumanName, Identifier, Meta, Period, Reference, Value,
};
use super::vocabulary::{CONTACT_ROLE, RELATIONSHIP, SEX};
use super::{Mapped, Notes, ids, summary};
use crate::content::items::NextOfKin;
use crate::content::time::When;
use crate::state::{Item, PatientState, Standing};

/// The organization that is meant, where NK1 names one (NK1-13, `valueString`).
pub const ORGANIZATION: &str = "urn:hilum:extension:organization";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RelatedPerson<'a> {
    resource_type: &'static str,
    id: Id,
    meta: Meta<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extension: Vec<Extension<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    identifier: Vec<Identifier<'a>>,
    active: bool,
    patient: Reference<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    relationship: Vec<Concept<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    name: Vec<HumanName<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    telecom: Vec<ContactPoint<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gender: Option<&'static str>,
    #[serde(rename = "_gender", skip_serializing_if = "Option::is_none")]
    gender_beside: Option<Beside<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    birth_date: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    address: Vec<Address<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<Period<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    communication: Vec<Communication<'a>>,
}

#[derive(Serialize)]
struct Communication<'a> {
    language: Concept<'a>,
}

/// RelatedPerson of a next of kin. One that is no longer sent is not active.
#[must_use]
pub fn resource(item: &Item<NextOfKin>, patient: &PatientState, key: &InstallationKey) -> Mapped {
    let id = ids::related_person(key, item.origin, item.key);
    let kin = &item.content;
    let mut notes = Notes::default();

    let mut extension = Vec::new();
    extension.extend(standing(item.standing));
    extension.extend(origin(item.origin, patient.id));
    if !kin.organization.is_empty() {
        extension.push(Extension { url: ORGANIZATION, value: Value::Text(&kin.organization) });
    }
    let relationship = concept(&kin.relationship, &RELATIONSHIP, "RelatedPerson.relationship", &mut notes);
    let role = concept(&kin.role, &CONTACT_ROLE, "RelatedPerson.relationship", &mut notes);
    let (gender, gender_beside) = match summary::gender(&kin.sex.code) {
        None if !kin.sex.code.is_empty() => {
            notes.unmapped(SEX.number, "RelatedPerson.gender");
            (None, Some(original(&kin.sex.code, &kin.sex.text, &SEX)))
        }
        gender => (gender, None),
    };
    let language = (!kin.language.is_empty())
        .then(|| language_concept(&kin.language, "RelatedPerson.communication", &mut notes));
    let names = kin.names.iter().chain(&kin.contacts);
    let person = RelatedPerson {
        resource_type: "RelatedPerson",
        id,
        meta: meta(Some(item.message), patient.confidential, &[]),
        extension,
        identifier: kin.identifiers.iter().map(identifier).collect(),
        active: item.standing == Standing::Current,
        patient: Reference::to("Patient", patient.id),
        relationship: [relationship, role].into_iter().filter(|concept| !concept.is_empty()).collect(),
        name: names.map(|name| human_name(name, "RelatedPerson.name", &mut notes)).collect(),
        telecom: kin
            .telecoms
            .iter()
            .map(|sent| contact_point(sent, "RelatedPerson.telecom", &mut notes))
            .collect(),
        gender,
        gender_beside,
        birth_date: kin.birth.as_ref().map(When::date),
        address: kin
            .addresses
            .iter()
            .map(|sent| address(sent, "RelatedPerson.address", &mut notes))
            .collect(),
        period: period(kin.from.as_ref(), kin.to.as_ref()),
        communication: language.map(|language| Communication { language }).into_iter().collect(),
    };
    notes.finish(id, &person)
}
