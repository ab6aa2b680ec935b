//! Patient, from PID and PD1.

use std::borrow::Cow;

use hilum_core::{Id, InstallationKey};
use serde::Serialize;

use super::convert::{
    address, called, concept, contact_point, human_name, identifier, language_concept, meta, named, original,
    practitioner,
};
use super::element::{
    Address, Beside, Concept, ContactPoint, Extension, HumanName, Identifier, Meta, Reference, Value,
};
use super::vocabulary::{CITIZENSHIP, MARITAL_STATUS, NATIONALITY, RELIGION, SEX};
use super::{Mapped, Notes, summary};
use crate::content::Said;
use crate::content::person::PersonContent;
use crate::content::time::When;
use crate::state::PatientState;

/// What merged records filled in where this one says nothing: the record, and the elements (`valueCode`).
pub const FILLED: &str = "urn:hilum:extension:filled-from";
/// The mother's number (PID-21, `valueIdentifier`): two newborns of one mother are two patients.
pub const MOTHER: &str = "urn:hilum:extension:mother-identifier";
/// The mother's name before marriage (PID-6, `valueString`).
pub const MAIDEN_NAME: &str = "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName";
/// The sender says that it does not know who this is (PID-31, `valueBoolean`).
pub const IDENTITY_UNKNOWN: &str = "urn:hilum:extension:identity-unknown";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Patient<'a> {
    resource_type: &'static str,
    id: Id,
    meta: Meta<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extension: Vec<Extension<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    identifier: Vec<Identifier<'a>>,
    active: bool,
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
    #[serde(rename = "_birthDate", skip_serializing_if = "Option::is_none")]
    birth_date_beside: Option<Beside<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deceased_boolean: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deceased_date_time: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    address: Vec<Address<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    marital_status: Option<Concept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multiple_birth_boolean: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multiple_birth_integer: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    communication: Vec<Communication<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    general_practitioner: Vec<Reference<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    link: Vec<Link<'a>>,
}

#[derive(Serialize)]
struct Communication<'a> {
    language: Concept<'a>,
}

#[derive(Serialize)]
struct Link<'a> {
    other: Reference<'a>,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// Patient of a record as it stands. A merged one is not active and is replaced by the next of the chain; what merged
/// records fill in is marked by an extension (clinical-rules 7).
#[must_use]
pub fn resource(state: &PatientState, key: &InstallationKey) -> Mapped {
    let whole =
        if state.filled.is_empty() { Cow::Borrowed(&state.person) } else { Cow::Owned(state.whole()) };
    let person: &PersonContent = &whole;
    let mut notes = Notes::default();
    let marks = named(&state.marks);

    let (gender, gender_beside) = gender(person, &mut notes);
    let birth = person.birth.value();
    let (deceased_boolean, deceased_date_time) = deceased(person);
    let birth_order = person.birth_order.value().copied();
    let mut language =
        person.language.value().map(|coded| language_concept(coded, "Patient.communication", &mut notes));
    let patient = Patient {
        resource_type: "Patient",
        id: state.id,
        meta: meta(Some(state.message), state.confidential, &marks),
        extension: extensions(state, person, &mut notes),
        identifier: identifiers(state, person),
        active: state.is_active(),
        name: names(person, &mut notes),
        telecom: telecoms(person, &mut notes),
        gender,
        gender_beside,
        birth_date: birth.map(When::date),
        birth_date_beside: birth.filter(|birth| birth.has_time()).map(|birth| {
            let url = "http://hl7.org/fhir/StructureDefinition/patient-birthTime";
            Beside::one(url, Value::DateTime(birth.as_str()))
        }),
        deceased_boolean,
        deceased_date_time,
        address: person
            .addresses
            .items()
            .iter()
            .map(|sent| address(sent, "Patient.address", &mut notes))
            .collect(),
        marital_status: person
            .marital_status
            .value()
            .map(|coded| concept(coded, &MARITAL_STATUS, "Patient.maritalStatus", &mut notes)),
        multiple_birth_boolean: match birth_order {
            Some(_) => None,
            None => person.multiple_birth.value().copied(),
        },
        multiple_birth_integer: birth_order,
        communication: language.take().map(|language| Communication { language }).into_iter().collect(),
        general_practitioner: person
            .primary_care
            .items()
            .iter()
            .map(|provider| practitioner(key, provider))
            .collect(),
        link: links(state),
    };
    notes.finish(state.id, &patient)
}

/// PID-8: without a map it is omitted, and what was sent stands beside it (clinical-rules 13).
fn gender<'a>(person: &'a PersonContent, notes: &mut Notes) -> (Option<&'static str>, Option<Beside<'a>>) {
    let Some(sex) = person.sex.value() else { return (None, None) };
    match summary::gender(&sex.code) {
        // Ambiguous and not applicable are both "other" in FHIR: which one it was stands beside it.
        Some(gender) if matches!(sex.code.as_str(), "A" | "N") => {
            (Some(gender), Some(original(&sex.code, &sex.text, &SEX)))
        }
        Some(gender) => (Some(gender), None),
        None => {
            notes.unmapped(SEX.number, "Patient.gender");
            (None, Some(original(&sex.code, &sex.text, &SEX)))
        }
    }
}

fn deceased(person: &PersonContent) -> (Option<bool>, Option<&str>) {
    if !person.is_dead() {
        return (person.dead.value().copied(), None);
    }
    match person.died.value() {
        Some(died) => (None, Some(died.as_str())),
        None => (Some(true), None),
    }
}

/// The number itself, then what messages list, then PID-19 and PID-20.
fn identifiers<'a>(state: &'a PatientState, person: &'a PersonContent) -> Vec<Identifier<'a>> {
    let listed = person.identifiers.items();
    let own = state.number.iter().filter(|own| !listed.iter().any(|one| one.key() == own.key()));
    let national = person
        .national
        .value()
        .into_iter()
        .filter(|national| !listed.iter().any(|one| one.hash == national.hash));
    own.chain(listed).chain(national).chain(person.licence.value()).map(identifier).collect()
}

fn names<'a>(person: &'a PersonContent, notes: &mut Notes) -> Vec<HumanName<'a>> {
    let sent = person.names.items().iter().chain(person.aliases.items());
    let mut names = Vec::new();
    for name in sent {
        let is_only_called = name.family.is_empty() && name.given.is_empty() && name.middle.is_empty();
        if !is_only_called {
            names.push(human_name(name, "Patient.name", notes));
        }
        names.extend(called(name));
    }
    names
}

fn telecoms<'a>(person: &'a PersonContent, notes: &mut Notes) -> Vec<ContactPoint<'a>> {
    let fields = [&person.home_phones, &person.work_phones, &person.telecoms];
    let sent = fields.into_iter().flat_map(Said::items);
    sent.map(|telecom| contact_point(telecom, "Patient.telecom", notes)).collect()
}

fn extensions<'a>(state: &PatientState, person: &'a PersonContent, notes: &mut Notes) -> Vec<Extension<'a>> {
    let mut extension = Vec::new();
    if let Some(maiden) = person.mothers_maiden.items().first()
        && !maiden.family.is_empty()
    {
        extension.push(Extension { url: MAIDEN_NAME, value: Value::Text(&maiden.family) });
    }
    if let Some(religion) = person.religion.value() {
        let url = "http://hl7.org/fhir/StructureDefinition/patient-religion";
        let religion = concept(religion, &RELIGION, "Patient.extension(religion)", notes);
        extension.push(Extension { url, value: Value::Concept(religion) });
    }
    if let Some(place) = person.birth_place.value() {
        let url = "http://hl7.org/fhir/StructureDefinition/patient-birthPlace";
        extension.push(Extension {
            url,
            value: Value::Address(Box::new(Address { text: place, ..Address::default() })),
        });
    }
    let mut coded = |url, coded, table, path| {
        let code = Extension { url: "code", value: Value::Concept(concept(coded, table, path, notes)) };
        extension.push(Extension { url, value: Value::Nested(vec![code]) });
    };
    for citizenship in person.citizenships.items() {
        let url = "http://hl7.org/fhir/StructureDefinition/patient-citizenship";
        coded(url, citizenship, &CITIZENSHIP, "Patient.extension(citizenship)");
    }
    if let Some(nationality) = person.nationality.value() {
        let url = "http://hl7.org/fhir/StructureDefinition/patient-nationality";
        coded(url, nationality, &NATIONALITY, "Patient.extension(nationality)");
    }
    for mother in person.mother.items() {
        extension.push(Extension { url: MOTHER, value: Value::Identifier(Box::new(identifier(mother))) });
    }
    if person.identity_unknown.value() == Some(&true) {
        extension.push(Extension { url: IDENTITY_UNKNOWN, value: Value::Boolean(true) });
    }
    // What a nearer record fills in, a further one does not.
    let mut said = state.person.clone();
    for (from, content) in &state.filled {
        use crate::content::Words;
        let mut gives = content.clone();
        gives.forget(&said);
        said.fill(content);
        let fields = gives.said();
        if fields.is_empty() {
            continue;
        }
        let record = Extension { url: "record", value: Value::Reference(Reference::to("Patient", *from)) };
        let fields = fields.into_iter().map(|field| Extension { url: "field", value: Value::Code(field) });
        let parts = std::iter::once(record).chain(fields).collect();
        extension.push(Extension { url: FILLED, value: Value::Nested(parts) });
    }
    extension
}

fn links(state: &PatientState) -> Vec<Link<'_>> {
    let link = |id: &Id, kind| Link { other: Reference::to("Patient", *id), kind };
    let replaced_by = state.merged_into.iter().map(|id| link(id, "replaced-by"));
    let replaces = state.replaces.iter().map(|id| link(id, "replaces"));
    let see_also = state.see_also.iter().map(|id| link(id, "seealso"));
    replaced_by.chain(replaces).chain(see_also).collect()
}
