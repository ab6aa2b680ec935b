//! One message, folded by itself: what the mapping makes of it without any other message. Status is what the event
//! alone would leave; order, cancels and merges of several messages are the fold's tests.
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

use hilum_adt::content::{Block, Content, Context, Movement, When, Zones};
use hilum_adt::map::{self, Mapped};
use hilum_adt::order::Stamp;
use hilum_adt::settings::SourceSettings;
use hilum_adt::state::{
    EncounterState, Item, Moment, PatientState, Pending, PendingWhat, Span, Standing, Status, VisitField,
    VisitNumber,
};
use hilum_core::{Id, InstallationKey, Timestamp};
use hilum_hl7v2::{CharsetSettings, Message};

pub const KEY: [u8; 32] = [7; 32];

/// The message's record.
pub fn record() -> Id {
    Id::from_bytes([0x11; 16])
}

pub fn key() -> InstallationKey {
    InstallationKey::new(KEY)
}

pub struct Folded {
    pub event: String,
    pub content: Content,
    pub patients: Vec<PatientState>,
    pub encounters: Vec<EncounterState>,
}

pub fn parse(raw: &[u8]) -> Message {
    Message::parse(raw.to_vec().into(), &CharsetSettings::default()).unwrap()
}

pub fn moment(when: &When) -> Moment {
    let zones = Zones::of(None, "UTC");
    Moment { at: when.lower_bound(&zones).unwrap_or_default(), when: when.clone() }
}

pub fn patient_state(key: &InstallationKey, block: &Block) -> Option<PatientState> {
    let number = block.person.primary()?.clone();
    let (authority, value) = number.key();
    let id = key.id("Patient", &[authority.as_bytes(), value.as_bytes()]);
    Some(PatientState {
        id,
        number: Some(number),
        provisional_for: None,
        merged_into: None,
        survivor: id,
        replaces: Vec::new(),
        see_also: Vec::new(),
        person: block.person.clone(),
        filled: Vec::new(),
        confidential: block.person.is_confidential(),
        next_of_kin: items(block.next_of_kin.items(), id),
        allergies: items(block.allergies.items(), id)
            .into_iter()
            .chain(items(block.adverse_reactions.items(), id))
            .collect(),
        marks: Vec::new(),
        message: record(),
        last: Stamp::ZERO,
        source: "feed".to_owned(),
    })
}

pub fn items<T: hilum_adt::content::Item>(items: &[T], origin: Id) -> Vec<Item<T>> {
    let standing = |item: &T| match item.action() {
        Some(hilum_adt::content::Action::Delete) => Standing::Deleted,
        _ => Standing::Current,
    };
    items
        .iter()
        .map(|item| Item {
            key: item.key(),
            content: item.clone(),
            origin,
            source: "feed".to_owned(),
            message: record(),
            last_sent: Stamp::ZERO,
            standing: standing(item),
        })
        .collect()
}

fn status(event: &str) -> Status {
    match event {
        "A03" => Status::Finished,
        "A04" => Status::Arrived,
        "A05" | "A14" => Status::Planned,
        "A11" | "A27" | "A38" => Status::Cancelled,
        "A21" => Status::OnLeave,
        _ => Status::InProgress,
    }
}

fn pending(event: &str, movement: &Movement, block: &Block) -> Vec<Pending> {
    let what = match event {
        "A14" => PendingWhat::Admit,
        "A15" => PendingWhat::Transfer,
        "A16" => PendingWhat::Discharge,
        _ => return Vec::new(),
    };
    let expected = match what {
        PendingWhat::Admit => block.visit.as_ref().and_then(|visit| visit.expected_admit.value()),
        PendingWhat::Transfer => None,
        PendingWhat::Discharge => block.visit.as_ref().and_then(|visit| visit.expected_discharge.value()),
    };
    vec![Pending {
        what,
        place: movement.pending.value().cloned(),
        expected: expected.map(moment),
        message: record(),
    }]
}

pub fn encounter_state(
    key: &InstallationKey,
    event: &str,
    block: &Block,
    patient: Id,
) -> Option<EncounterState> {
    let (movement, visit) = (block.movement.as_ref()?, block.visit.as_ref()?);
    let status = status(event);
    let is_over = matches!(status, Status::Finished | Status::Cancelled);
    let number = visit.number.value().map(|number| VisitNumber {
        authority: number.authority.clone(),
        value: number.value.clone(),
        field: VisitField::Visit,
    });
    let name = number.as_ref().map_or_else(String::new, |number| number.value.clone());
    let id = key.id("Encounter", &[patient.as_bytes(), name.as_bytes()]);
    let start = movement.admitted.value().map(moment);
    let end = movement.discharged.value().map(moment).filter(|_| is_over);
    let span = |what| Span { what, start: start.clone(), end: end.clone(), message: record() };
    let class = movement.class.value().map(|class| class.code.clone());
    Some(EncounterState {
        id,
        visit: number,
        also_known_as: Vec::new(),
        patient,
        named: patient,
        status,
        statuses: vec![Span { what: status, start: start.clone(), end: end.clone(), message: record() }],
        classes: class
            .iter()
            .map(|class| Span {
                what: class.clone(),
                start: start.clone(),
                end: end.clone(),
                message: record(),
            })
            .collect(),
        class,
        place: movement.place.value().cloned(),
        places: movement.place.value().cloned().map(span).into_iter().collect(),
        tracked: movement.temporary.value().cloned().map(|what| Span {
            what,
            start: None,
            end: None,
            message: record(),
        }),
        pending: pending(event, movement, block),
        start,
        end,
        disposition: movement.disposition.value().filter(|_| is_over).cloned(),
        discharged_to: movement.discharged_to.value().filter(|_| is_over).cloned(),
        expected_return: movement.expected_return.value().cloned(),
        bed_status: movement.bed_status.value().cloned(),
        content: visit.clone(),
        diagnoses: items(block.diagnoses.items(), id),
        continued_by: None,
        continues: Vec::new(),
        emergency_place: false,
        marks: Vec::new(),
        message: record(),
        last: Stamp::ZERO,
        source: "feed".to_owned(),
    })
}

/// Reads a message and folds it by itself.
pub fn fold(raw: &[u8], settings: &SourceSettings) -> Folded {
    let message = parse(raw);
    let key = key();
    let content = Content::read(&message, &Context { settings, source: "feed", key: &key });
    let event = message.text("MSH-9.2").or_else(|| message.text("EVN-1")).unwrap_or_default();
    let mut patients: Vec<PatientState> = Vec::new();
    let mut encounters = Vec::new();
    for block in &content.blocks {
        let Some(mut patient) = patient_state(&key, block) else { continue };
        for old in block.prior.iter().flat_map(|prior| &prior.identifiers) {
            if event == "A40" && old.usage == hilum_adt::content::Usage::Primary {
                let (authority, value) = old.key();
                let id = key.id("Patient", &[authority.as_bytes(), value.as_bytes()]);
                patient.replaces.push(id);
                let mut merged = patient.clone();
                merged.id = id;
                merged.number = Some(old.clone());
                merged.person = hilum_adt::content::PersonContent::default();
                merged.replaces.clear();
                merged.next_of_kin.clear();
                merged.allergies.clear();
                merged.merged_into = Some(patient.id);
                merged.survivor = patient.id;
                patients.push(merged);
            }
        }
        encounters.extend(encounter_state(&key, &event, block, patient.id));
        patients.push(patient);
    }
    if matches!(event.as_str(), "A24") && patients.len() == 2 {
        let ids = [patients[0].id, patients[1].id];
        patients[0].see_also.push(ids[1]);
        patients[1].see_also.push(ids[0]);
    }
    Folded { event, content, patients, encounters }
}

/// All resources of a folded message, each once, in a fixed order.
pub fn resources(folded: &Folded) -> Vec<Mapped> {
    let key = key();
    let mut all: Vec<Mapped> = Vec::new();
    for patient in &folded.patients {
        all.push(map::patient::resource(patient, &key));
        all.extend(patient.next_of_kin.iter().map(|item| map::related_person::resource(item, patient, &key)));
        all.extend(
            patient.allergies.iter().map(|item| map::allergy_intolerance::resource(item, patient, &key)),
        );
        all.extend(
            patient
                .person
                .primary_care
                .items()
                .iter()
                .filter_map(|one| map::practitioner::resource(one, &key)),
        );
    }
    for encounter in &folded.encounters {
        let confidential = folded
            .patients
            .iter()
            .any(|patient| patient.id == encounter.patient && patient.person.is_confidential());
        all.push(map::encounter::resource(encounter, confidential, &key));
        let diagnoses = encounter.diagnoses.iter();
        all.extend(diagnoses.map(|item| map::condition::resource(item, encounter, confidential, &key)));
        let providers = map::encounter::providers(encounter);
        all.extend(providers.into_iter().filter_map(|one| map::practitioner::resource(one, &key)));
        for place in map::encounter::places(encounter) {
            all.extend(map::location::resources(place, &key));
        }
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|mapped| seen.insert((mapped.id, mapped.body.clone())));
    all
}

pub fn no_time() -> Timestamp {
    Timestamp::default()
}
