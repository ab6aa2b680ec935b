//! Encounter, from PV1 and PV2 as the fold leaves them. Status comes from the fold alone (clinical-rules 11).

use std::borrow::Cow;

use hilum_core::{Id, InstallationKey};
use serde::Serialize;

use super::convert::{
    ALTERNATE_CODES, DATA_ABSENT, concept, identifier, location, meta, named, practitioner,
};
use super::element::{Coding, Concept, Extension, Identifier, Meta, Period, Reference, Value};
use super::vocabulary::{
    ADMISSION_TYPE, ADMIT_SOURCE, AMBULATORY_STATUS, ARRIVAL_MODE, DIAGNOSIS_TYPE, DIET,
    DISCHARGE_DISPOSITION, HOSPITAL_SERVICE, IDENTIFIER_TYPE, NO_TABLE, PATIENT_CLASS, PATIENT_TYPE,
    READMISSION, V3_PARTICIPATION, VIP, VISIT_PRIORITY, authority_system,
};
use super::{Mapped, Notes, ids, summary};
use crate::content::datatypes::{Coded, Place, Provider};
use crate::content::items::Diagnosis;
use crate::content::time::When;
use crate::content::visit::VisitContent;
use crate::state::{EncounterState, Item, Moment, Span, Standing, Status, VisitField};

/// The encounter that goes on where this one ended (A06, A07 with MRG; `valueReference`).
pub const CONTINUED_BY: &str = "urn:hilum:extension:continued-by";
/// An encounter that ended into this one (`valueReference`).
pub const CONTINUES: &str = "urn:hilum:extension:continues";
/// Where the patient is for a while, the bed held (PV1-11; `valueBoolean`).
pub const TEMPORARY: &str = "urn:hilum:extension:temporary-location";
/// When the patient is expected back from a leave of absence (PV2-47; `valueDateTime`).
pub const EXPECTED_RETURN: &str = "urn:hilum:extension:expected-return";
/// PV2-4 (`valueCodeableConcept`).
pub const TRANSFER_REASON: &str = "urn:hilum:extension:transfer-reason";
/// PV2-12 (`valueString`).
pub const DESCRIPTION: &str = "urn:hilum:extension:visit-description";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Encounter<'a> {
    resource_type: &'static str,
    id: Id,
    meta: Meta<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extension: Vec<Extension<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    identifier: Vec<Identifier<'a>>,
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    status_history: Vec<StatusHistory<'a>>,
    class: Coding<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    class_history: Vec<ClassHistory<'a>>,
    #[serde(rename = "type", skip_serializing_if = "Vec::is_empty")]
    kind: Vec<Concept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_type: Option<Concept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Concept<'a>>,
    subject: Reference<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    participant: Vec<Participant<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<Period<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reason_code: Vec<Concept<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    diagnosis: Vec<EncounterDiagnosis<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    account: Vec<Reference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hospitalization: Option<Hospitalization<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    location: Vec<EncounterLocation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_provider: Option<Reference<'a>>,
}

#[derive(Serialize)]
struct StatusHistory<'a> {
    status: &'static str,
    period: Period<'a>,
}

#[derive(Serialize)]
struct ClassHistory<'a> {
    class: Coding<'a>,
    period: Period<'a>,
}

#[derive(Serialize)]
struct Participant<'a> {
    #[serde(rename = "type")]
    kind: [Concept<'a>; 1],
    individual: Reference<'a>,
}

#[derive(Serialize)]
struct EncounterDiagnosis<'a> {
    condition: Reference<'a>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<Concept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<u32>,
}

#[derive(Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Hospitalization<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pre_admission_identifier: Option<Identifier<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admit_source: Option<Concept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    re_admission: Option<Concept<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    diet_preference: Vec<Concept<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    special_courtesy: Vec<Concept<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    special_arrangement: Vec<Concept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<Reference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    discharge_disposition: Option<Concept<'a>>,
}

#[derive(Serialize)]
struct EncounterLocation<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extension: Vec<Extension<'a>>,
    location: Reference<'a>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<Period<'a>>,
}

/// Encounter as it stands; `confidential` = the patient is.
#[must_use]
pub fn resource(state: &EncounterState, confidential: bool, key: &InstallationKey) -> Mapped {
    let content = &state.content;
    let mut notes = Notes::default();
    let marks = named(&state.marks);
    let hospitalization = hospitalization(state, &mut notes);
    let encounter = Encounter {
        resource_type: "Encounter",
        id: state.id,
        meta: meta(Some(state.message), confidential || content.is_confidential(), &marks),
        extension: extensions(state, &mut notes),
        identifier: identifiers(state),
        status: state.status.as_str(),
        status_history: past(&state.statuses)
            .map(|span| StatusHistory { status: span.what.as_str(), period: span_period(span) })
            .collect(),
        class: class(state.class.as_deref(), &mut notes),
        class_history: past(&state.classes)
            .map(|span| ClassHistory {
                class: class(Some(&span.what), &mut Notes::default()),
                period: span_period(span),
            })
            .collect(),
        kind: kinds(content, &mut notes),
        service_type: content
            .service
            .value()
            .map(|coded| concept(coded, &HOSPITAL_SERVICE, "Encounter.serviceType", &mut notes)),
        priority: content
            .priority
            .value()
            .map(|coded| concept(coded, &VISIT_PRIORITY, "Encounter.priority", &mut notes)),
        subject: Reference::to("Patient", state.patient),
        participant: participants(content, key),
        period: Period::of(moment(state.start.as_ref()), moment(state.end.as_ref())),
        reason_code: content
            .reason
            .value()
            .map(|coded| concept(coded, &NO_TABLE, "Encounter.reasonCode", &mut notes))
            .into_iter()
            .collect(),
        diagnosis: diagnoses(&state.diagnoses, key, &mut notes),
        account: content
            .account
            .value()
            .map(|account| Reference {
                resource_type: Some("Account"),
                identifier: Some(Box::new(identifier(account))),
                ..Reference::default()
            })
            .into_iter()
            .collect(),
        hospitalization: (hospitalization != Hospitalization::default()).then_some(hospitalization),
        location: locations(state, key),
        service_provider: content
            .servicing_facility
            .value()
            .map(|facility| Reference::default().shown_as(facility.words())),
    };
    notes.finish(state.id, &encounter)
}

/// The places that an Encounter refers to, each once: what becomes Locations.
pub fn places(state: &EncounterState) -> Vec<&Place> {
    let mut places: Vec<&Place> = Vec::new();
    let stays = state.places.iter().map(|span| &span.what);
    let announced = state.pending.iter().filter_map(|pending| pending.place.as_ref());
    for place in stays.chain(&state.place).chain(state.tracked.iter().map(|span| &span.what)).chain(announced)
    {
        if !places.iter().any(|known| known.is_at(place)) {
            places.push(place);
        }
    }
    places
}

/// The providers that an Encounter and its Conditions refer to, each number once: what becomes Practitioners.
pub fn providers(state: &EncounterState) -> Vec<&Provider> {
    let roles = roles(&state.content).into_iter().flat_map(|(_, _, providers)| providers);
    let clinicians = state.diagnoses.iter().filter_map(|item| item.content.clinician.as_ref());
    let mut all: Vec<&Provider> = Vec::new();
    for provider in roles.chain(clinicians) {
        let Some(number) = &provider.identifier else { continue };
        let is_known =
            |known: &&Provider| known.identifier.as_ref().is_some_and(|known| known.key() == number.key());
        if !all.iter().any(is_known) {
            all.push(provider);
        }
    }
    all
}

fn moment(moment: Option<&Moment>) -> Option<&str> {
    moment.map(|moment| moment.when.as_str())
}

fn span_period<T>(span: &Span<T>) -> Period<'_> {
    Period { start: moment(span.start.as_ref()), end: moment(span.end.as_ref()) }
}

/// All spans where there was more than one: what stands now too, so that the history is whole.
fn past<T>(spans: &[Span<T>]) -> impl Iterator<Item = &Span<T>> {
    spans.iter().filter(move |_| spans.len() > 1)
}

/// PV1-2: FHIR's class first, the v2-0004 code kept beside it; what has no map is the v2-0004 code itself.
fn class<'a>(code: Option<&'a str>, notes: &mut Notes) -> Coding<'a> {
    let Some(code) = code.filter(|code| !code.is_empty()) else {
        let reason = Extension { url: DATA_ABSENT, value: Value::Code("unknown") };
        return Coding { extension: vec![reason], ..Coding::default() };
    };
    let sent = Coding { system: Some(Cow::Borrowed(PATIENT_CLASS.system)), code, ..Coding::default() };
    if let Some((system, mapped, display)) = PATIENT_CLASS.target(code) {
        let kept = Extension {
            url: ALTERNATE_CODES,
            value: Value::Concept(Concept { coding: vec![sent], text: "" }),
        };
        return Coding { extension: vec![kept], ..Coding::of(system, mapped, display) };
    }
    if PATIENT_CLASS.is_unmapped(code) {
        notes.unmapped(PATIENT_CLASS.number, "Encounter.class");
    }
    sent
}

fn kinds<'a>(content: &'a VisitContent, notes: &mut Notes) -> Vec<Concept<'a>> {
    let admission =
        content.admission_type.value().map(|coded| concept(coded, &ADMISSION_TYPE, "Encounter.type", notes));
    let patient =
        content.patient_type.value().map(|coded| concept(coded, &PATIENT_TYPE, "Encounter.type", notes));
    admission.into_iter().chain(patient).collect()
}

/// What messages say of the visit's numbers; by which the encounter is known, also where it was inferred from another
/// field; each once.
fn identifiers(state: &EncounterState) -> Vec<Identifier<'_>> {
    let content = &state.content;
    let sent = [content.number.value(), content.alternate_number.value()];
    let mut all: Vec<Identifier<'_>> = sent.into_iter().flatten().map(identifier).collect();
    for number in state.visit.iter().chain(&state.also_known_as) {
        let system = (!number.authority.is_empty()).then(|| Cow::Owned(authority_system(&number.authority)));
        if all.iter().any(|known| known.value == number.value && known.system == system) {
            continue;
        }
        let kind = match number.field {
            VisitField::Visit | VisitField::Alternate => "VN",
            VisitField::Account => "AN",
        };
        let kind = Some(Concept::of(IDENTIFIER_TYPE.system, kind, ""));
        all.push(Identifier { kind, system, value: &number.value, ..Identifier::default() });
    }
    all
}

fn roles(content: &VisitContent) -> [(&'static str, &'static str, &[Provider]); 6] {
    [
        ("ATND", "attender", content.attending.items()),
        ("REF", "referrer", content.referring.items()),
        ("CON", "consultant", content.consulting.items()),
        ("ADM", "admitter", content.admitting.items()),
        ("REF", "referrer", content.referral_source.items()),
        ("PART", "Participation", content.other_providers.items()),
    ]
}

/// A provider once for each role: a second name form of the same number is the same person.
fn participants<'a>(content: &'a VisitContent, key: &InstallationKey) -> Vec<Participant<'a>> {
    let mut all: Vec<Participant<'a>> = Vec::new();
    for (code, display, providers) in roles(content) {
        for provider in providers {
            let individual = practitioner(key, provider);
            let kind = [Concept::of(V3_PARTICIPATION, code, display)];
            let is_known = |known: &Participant<'_>| {
                known.kind == kind
                    && known.individual.target.is_some()
                    && known.individual.target == individual.target
            };
            if !all.iter().any(is_known) {
                all.push(Participant { kind, individual });
            }
        }
    }
    all
}

/// The diagnoses that still count, the ranked ones first.
fn diagnoses<'a>(
    items: &'a [Item<Diagnosis>],
    key: &InstallationKey,
    notes: &mut Notes,
) -> Vec<EncounterDiagnosis<'a>> {
    let mut current: Vec<&Item<Diagnosis>> =
        items.iter().filter(|item| item.standing == Standing::Current).collect();
    let rank = |item: &Item<Diagnosis>| item.content.rank.filter(|&rank| rank > 0);
    current.sort_by_key(|item| {
        (rank(item).unwrap_or(u32::MAX), item.content.place.unwrap_or(u32::MAX), item.key)
    });
    current
        .into_iter()
        .map(|item| {
            let kind = &item.content.kind;
            let usage =
                (!kind.is_empty()).then(|| concept(kind, &DIAGNOSIS_TYPE, "Encounter.diagnosis.use", notes));
            let condition = Reference::to("Condition", ids::condition(key, item.origin, item.key));
            EncounterDiagnosis { condition, usage, rank: rank(item) }
        })
        .collect()
}

fn hospitalization<'a>(state: &'a EncounterState, notes: &mut Notes) -> Hospitalization<'a> {
    let content = &state.content;
    let coded = |coded: Option<&'a Coded>, table, path, notes: &mut Notes| {
        coded.map(|coded| concept(coded, table, path, notes))
    };
    Hospitalization {
        pre_admission_identifier: content.preadmit_number.value().map(identifier),
        admit_source: coded(
            content.admit_source.value(),
            &ADMIT_SOURCE,
            "Encounter.hospitalization.admitSource",
            notes,
        ),
        re_admission: coded(
            content.readmission.value(),
            &READMISSION,
            "Encounter.hospitalization.reAdmission",
            notes,
        ),
        diet_preference: coded(
            content.diet.value(),
            &DIET,
            "Encounter.hospitalization.dietPreference",
            notes,
        )
        .into_iter()
        .collect(),
        special_courtesy: coded(
            content.vip.value(),
            &VIP,
            "Encounter.hospitalization.specialCourtesy",
            notes,
        )
        .into_iter()
        .collect(),
        special_arrangement: content
            .ambulatory
            .items()
            .iter()
            .map(|one| {
                concept(one, &AMBULATORY_STATUS, "Encounter.hospitalization.specialArrangement", notes)
            })
            .collect(),
        destination: state
            .discharged_to
            .as_ref()
            .filter(|to| !to.place.is_empty())
            .map(|to| Reference::default().shown_as(to.place.words())),
        discharge_disposition: coded(
            state.disposition.as_ref(),
            &DISCHARGE_DISPOSITION,
            "Encounter.hospitalization.dischargeDisposition",
            notes,
        ),
    }
}

/// Stays oldest first, then where the patient is just now, then what is announced. While on leave the bed is reserved.
fn locations<'a>(state: &'a EncounterState, key: &InstallationKey) -> Vec<EncounterLocation<'a>> {
    let is_over = !state.status.is_open() && state.status != Status::Planned;
    let now = match state.status {
        Status::OnLeave => "reserved",
        Status::Planned => "planned",
        _ => "active",
    };
    let last = state.places.len();
    let stay = |(at, span): (usize, &'a Span<Place>)| {
        let is_now = at + 1 == last && span.end.is_none() && !is_over;
        EncounterLocation {
            extension: Vec::new(),
            location: location(key, &span.what),
            status: if is_now { now } else { "completed" },
            period: Some(span_period(span)).filter(|period| *period != Period::default()),
        }
    };
    let stays = state.places.iter().enumerate().map(stay);
    let tracked = state.tracked.iter().map(|span| EncounterLocation {
        extension: vec![Extension { url: TEMPORARY, value: Value::Boolean(true) }],
        location: location(key, &span.what),
        status: if is_over || span.end.is_some() { "completed" } else { "active" },
        period: Some(span_period(span)).filter(|period| *period != Period::default()),
    });
    let announced = state.pending.iter().filter_map(|pending| {
        let place = pending.place.as_ref()?;
        let start = moment(pending.expected.as_ref());
        Some(EncounterLocation {
            extension: Vec::new(),
            location: location(key, place),
            status: "planned",
            period: Period::of(start, None),
        })
    });
    stays.chain(tracked).chain(announced).collect()
}

fn extensions<'a>(state: &'a EncounterState, notes: &mut Notes) -> Vec<Extension<'a>> {
    let content = &state.content;
    let mut extension = Vec::new();
    let dates: [(&'static str, Option<&'a When>); 3] = [
        (
            "http://hl7.org/fhir/5.0/StructureDefinition/extension-Encounter.plannedStartDate",
            content.expected_admit.value(),
        ),
        (
            "http://hl7.org/fhir/5.0/StructureDefinition/extension-Encounter.plannedEndDate",
            content.expected_discharge.value(),
        ),
        (EXPECTED_RETURN, state.expected_return.as_ref()),
    ];
    for (url, when) in dates {
        if let Some(when) = when {
            extension.push(Extension { url, value: Value::DateTime(when.as_str()) });
        }
    }
    if let Some(mode) = content.arrival_mode.value() {
        let url = "http://hl7.org/fhir/StructureDefinition/encounter-modeOfArrival";
        let mut mode = concept(mode, &ARRIVAL_MODE, "Encounter.extension(modeOfArrival)", notes);
        if let Some(coding) = mode.coding.drain(..).next() {
            extension.push(Extension { url, value: Value::Coding(coding) });
        }
    }
    if let Some(reason) = content.transfer_reason.value() {
        let reason = concept(reason, &NO_TABLE, "Encounter.extension(transferReason)", notes);
        extension.push(Extension { url: TRANSFER_REASON, value: Value::Concept(reason) });
    }
    if let Some(description) = content.description.value() {
        extension.push(Extension { url: DESCRIPTION, value: Value::Text(description) });
    }
    let mut refer = |url, id: Id| {
        extension.push(Extension { url, value: Value::Reference(Reference::to("Encounter", id)) });
    };
    if let Some(next) = state.continued_by {
        refer(CONTINUED_BY, next);
    }
    for previous in &state.continues {
        refer(CONTINUES, *previous);
    }
    extension
}

/// The class of an encounter as board and JSON twins show it: FHIR's code, else the v2-0004 code.
pub fn shown_class(code: &str) -> &str {
    PATIENT_CLASS.target(code).map_or(code, |(_, mapped, _)| mapped)
}

/// The attending's name as board and JSON twins show it.
pub fn attending(state: &EncounterState) -> Option<String> {
    state.content.attending.items().first().map(summary::provider_name)
}
