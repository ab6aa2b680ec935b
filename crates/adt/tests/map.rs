//! What only a folded state can hold: histories, standings, merges, several places.
#![allow(clippy::unwrap_used)]

mod common;

use hilum_adt::content::{Coded, PersonContent, Place, Said, When, Zones};
use hilum_adt::map::{self, ids};
use hilum_adt::settings::SourceSettings;
use hilum_adt::state::{
    EncounterState, Mark, Moment, PatientState, Span, Standing, Status, VisitField, VisitNumber,
};
use hilum_core::Id;
use serde_json::{Value, json};

const MESSAGE: &str = "MSH|^~\\&|HIS|SNUH|||20260301093000+0900||ADT^A01|1|P|2.5\r\
    PID|1||1001^^^SNUH^MR||KIM^MINSU||19800101|M\r\
    NK1|1|KIM^YOUNGHEE|SPO\r\
    AL1|1|DA|PCN^Penicillin^L|SV|RASH\r\
    DG1|1||I21.9^AMI^KCD8|||A\r\
    DG1|2||I10^HT^KCD8|||F\r\
    PV1|1|I|31W^3105^02^MAIN||||D1^LEE^A~D1^이^에이||||||||||||V1||||||||||||||||||||||||||20260301\r";

fn folded() -> (PatientState, EncounterState) {
    let mut folded = common::fold(MESSAGE.as_bytes(), &SourceSettings::default());
    (folded.patients.remove(0), folded.encounters.remove(0))
}

fn patient(state: &PatientState) -> Value {
    serde_json::from_str(&map::patient::resource(state, &common::key()).body).unwrap()
}

fn encounter(state: &EncounterState) -> Value {
    serde_json::from_str(&map::encounter::resource(state, false, &common::key()).body).unwrap()
}

fn at(raw: &str) -> Moment {
    common::moment(&When::read(raw, &Zones::of(None, "UTC")).unwrap().0)
}

fn span<T>(what: T, start: &str, end: Option<&str>) -> Span<T> {
    Span { what, start: Some(at(start)), end: end.map(at), message: common::record() }
}

fn place(unit: &str) -> Place {
    Place { facility: "MAIN".into(), unit: unit.into(), ..Place::default() }
}

fn id(n: u8) -> Id {
    Id::from_bytes([n; 16])
}

#[test]
fn status_comes_from_the_fold_alone() {
    let (_, mut state) = folded();
    let statuses = [
        Status::Planned,
        Status::Arrived,
        Status::InProgress,
        Status::OnLeave,
        Status::Finished,
        Status::Cancelled,
        Status::EnteredInError,
        Status::Unknown,
    ];
    for status in statuses {
        state.status = status;
        let resource = encounter(&state);
        assert_eq!(resource["status"], status.as_str());
        assert!(resource.get("statusHistory").is_none(), "one status is no history");
    }
}

#[test]
fn histories_stand_where_something_changed() {
    let (_, mut state) = folded();
    state.status = Status::InProgress;
    state.statuses = vec![
        span(Status::Arrived, "202603010900+0900", Some("202603011000+0900")),
        span(Status::InProgress, "202603011000+0900", None),
    ];
    state.class = Some("I".into());
    state.classes = vec![
        span("E".to_owned(), "202603010900+0900", Some("202603011000+0900")),
        span("I".to_owned(), "202603011000+0900", None),
    ];
    let resource = encounter(&state);
    assert_eq!(
        resource["statusHistory"],
        json!([
            {"status": "arrived", "period": {"start": "2026-03-01T09:00:00+09:00", "end": "2026-03-01T10:00:00+09:00"}},
            {"status": "in-progress", "period": {"start": "2026-03-01T10:00:00+09:00"}},
        ])
    );
    let classes: Vec<&str> = resource["classHistory"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["class"]["code"].as_str().unwrap())
        .collect();
    assert_eq!(classes, ["EMER", "IMP"]);
    assert_eq!(resource["class"]["code"], "IMP");
}

#[test]
fn the_last_place_is_where_the_patient_is() {
    let (_, mut state) = folded();
    state.places =
        vec![span(place("ED"), "20260301", Some("20260302")), span(place("31W"), "20260302", None)];
    state.tracked = Some(span(place("OR"), "20260303", None));
    let cases = [
        (Status::InProgress, ["completed", "active", "active"]),
        (Status::OnLeave, ["completed", "reserved", "active"]),
        (Status::Planned, ["completed", "planned", "active"]),
        (Status::Finished, ["completed", "completed", "completed"]),
        (Status::Cancelled, ["completed", "completed", "completed"]),
    ];
    for (status, want) in cases {
        state.status = status;
        let resource = encounter(&state);
        let got: Vec<&str> = resource["location"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["status"].as_str().unwrap())
            .collect();
        assert_eq!(got, want, "{status:?}");
    }
    let known: Vec<&str> = map::encounter::places(&state).iter().map(|place| place.unit.as_str()).collect();
    assert_eq!(known, ["ED", "31W", "31W", "OR"], "a unit and a bed in it are two places");
}

#[test]
fn every_reference_has_its_resource() {
    let (patient_state, mut state) = folded();
    state.tracked = Some(span(place("OR"), "20260303", None));
    let key = common::key();
    let mut known: Vec<String> = Vec::new();
    let mut add = |kind: &str, id: Id| known.push(format!("{kind}/{id}"));
    add("Patient", patient_state.id);
    add("Encounter", state.id);
    for item in &state.diagnoses {
        add("Condition", map::condition::resource(item, &state, false, &key).id);
    }
    for place in map::encounter::places(&state) {
        for location in map::location::resources(place, &key) {
            add("Location", location.id);
        }
    }
    for provider in map::encounter::providers(&state) {
        add("Practitioner", map::practitioner::resource(provider, &key).unwrap().id);
    }
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    match (name.as_str(), field) {
                        ("reference", Value::String(target)) => found.push(target.clone()),
                        _ => references(field, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(&encounter(&state), &mut found);
    for item in &state.diagnoses {
        references(
            &serde_json::from_str(&map::condition::resource(item, &state, false, &key).body).unwrap(),
            &mut found,
        );
    }
    assert!(found.len() >= 7, "{found:?}");
    for reference in found {
        assert!(known.contains(&reference), "{reference} points to nothing");
    }
}

#[test]
fn a_provider_of_two_name_forms_is_one_participant() {
    let (_, state) = folded();
    assert_eq!(state.content.attending.items().len(), 2);
    assert_eq!(encounter(&state)["participant"].as_array().unwrap().len(), 1);
    assert_eq!(map::encounter::providers(&state).len(), 1);
    assert_eq!(map::encounter::attending(&state).as_deref(), Some("LEE, A"));
}

#[test]
fn what_is_no_longer_sent_is_inactive_and_never_gone() {
    let (patient_state, mut state) = folded();
    let key = common::key();
    let allergy = |standing| {
        let mut item = patient_state.allergies[0].clone();
        item.standing = standing;
        let body = map::allergy_intolerance::resource(&item, &patient_state, &key).body;
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let current = allergy(Standing::Current);
    assert_eq!(current["clinicalStatus"]["coding"][0]["code"], "active");
    assert!(current.get("extension").is_none());
    let gone = allergy(Standing::NoLongerSent);
    assert_eq!(gone["clinicalStatus"]["coding"][0]["code"], "inactive");
    assert_eq!(gone["extension"], json!([{"url": map::STANDING, "valueCode": "no-longer-sent"}]));
    assert_eq!(
        allergy(Standing::Deleted)["clinicalStatus"]["coding"][0]["code"],
        "inactive",
        "an emptied group is no error"
    );

    let mut kin = patient_state.next_of_kin[0].clone();
    kin.standing = Standing::NoLongerSent;
    let body = map::related_person::resource(&kin, &patient_state, &key).body;
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["active"], false);

    state.diagnoses[0].standing = Standing::NoLongerSent;
    let left = state.diagnoses[1].key;
    let resource = encounter(&state);
    assert_eq!(resource["diagnosis"].as_array().unwrap().len(), 1, "the encounter lists what counts");
    let want = format!("Condition/{}", ids::condition(&key, state.id, left));
    assert_eq!(resource["diagnosis"][0]["condition"]["reference"], want);
    let body = map::condition::resource(&state.diagnoses[0], &state, false, &key).body;
    let condition: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(condition["clinicalStatus"]["coding"][0]["code"], "inactive");
}

#[test]
fn merged_records_say_by_whom_they_are_replaced() {
    let (mut state, _) = folded();
    let old = id(9);
    state.replaces = vec![old];
    let mut gives = PersonContent { birth: state.person.birth.clone(), ..PersonContent::default() };
    gives.marital_status = Said::of(Coded { code: "S".into(), ..Coded::default() });
    state.filled = vec![(old, gives.clone()), (id(8), gives)];
    let mut other = state.allergies[0].clone();
    other.origin = old;
    state.allergies.push(other);
    let resource = patient(&state);
    assert_eq!(resource["active"], true);
    assert_eq!(
        resource["link"],
        json!([{"other": {"reference": format!("Patient/{old}")}, "type": "replaces"}])
    );
    assert_eq!(resource["maritalStatus"]["coding"][0]["code"], "S", "filled in");
    assert_eq!(
        resource["extension"],
        json!([{
            "extension": [
                {"url": "record", "valueReference": {"reference": format!("Patient/{old}")}},
                {"url": "field", "valueCode": "marital_status"},
            ],
            "url": map::patient::FILLED,
        }]),
        "only what it gave, and only by the nearest"
    );
    let key = common::key();
    let united = map::allergy_intolerance::resource(&state.allergies[1], &state, &key);
    assert!(united.body.contains(map::ORIGIN));
    assert_ne!(united.id, map::allergy_intolerance::resource(&state.allergies[0], &state, &key).id);

    let mut merged = state.clone();
    merged.merged_into = Some(id(7));
    merged.replaces.clear();
    let resource = patient(&merged);
    assert_eq!(resource["active"], false);
    assert_eq!(resource["link"][0]["type"], "replaced-by");
}

#[test]
fn what_a_merged_record_keeps_confidential_stays_so() {
    let (mut state, _) = folded();
    let key = common::key();
    let is_restricted = |state: &PatientState| {
        let bodies = [
            map::patient::resource(state, &key).body,
            map::related_person::resource(&state.next_of_kin[0], state, &key).body,
            map::allergy_intolerance::resource(&state.allergies[0], state, &key).body,
        ];
        bodies.map(|body| body.contains("v3-Confidentiality"))
    };
    assert_eq!(is_restricted(&state), [false; 3]);
    state.confidential = true;
    assert_eq!(is_restricted(&state), [true; 3]);
}

#[test]
fn marks_are_tags_but_for_those_that_change_without_the_chart() {
    let (mut state, _) = folded();
    state.marks = vec![Mark::UnknownPerson, Mark::NotApplied(2), Mark::IdentityUndecided];
    let tags = patient(&state)["meta"]["tag"].clone();
    assert_eq!(
        tags,
        json!([
            {"system": map::MARK_SYSTEM, "code": "identity-undecided"},
            {"system": map::MARK_SYSTEM, "code": "unknown-person"},
        ])
    );
}

#[test]
fn an_encounter_known_by_its_account_says_so() {
    let (_, mut state) = folded();
    state.content.number = Said::Nothing;
    let number = VisitNumber { authority: "SNUH".into(), value: "A77".into(), field: VisitField::Account };
    state.visit = Some(number.clone());
    state.also_known_as = vec![number];
    let resource = encounter(&state);
    assert_eq!(
        resource["identifier"],
        json!([{
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "AN"}]},
            "system": "urn:id:SNUH",
            "value": "A77",
        }])
    );
}

#[test]
fn continued_visits_point_to_each_other() {
    let (_, mut state) = folded();
    state.continued_by = Some(id(1));
    state.continues = vec![id(2), id(3)];
    let resource = encounter(&state);
    let urls: Vec<&str> =
        resource["extension"].as_array().unwrap().iter().map(|one| one["url"].as_str().unwrap()).collect();
    assert_eq!(urls, [map::encounter::CONTINUED_BY, map::encounter::CONTINUES, map::encounter::CONTINUES]);
}

#[test]
fn a_bed_is_the_same_bed_whatever_building_is_said() {
    let key = common::key();
    let short = Place { room: "3105".into(), bed: "02".into(), ..place("31W") };
    let long = Place { building: "B".into(), floor: "3".into(), ..short.clone() };
    assert_eq!(ids::location(&key, &short, ids::Level::Bed), ids::location(&key, &long, ids::Level::Bed));
    let elsewhere = Place { facility: "OTHER".into(), ..short.clone() };
    assert_ne!(
        ids::location(&key, &short, ids::Level::Bed),
        ids::location(&key, &elsewhere, ids::Level::Bed)
    );
    assert_eq!(map::location::resources(&short, &key).len(), 4);
    assert_eq!(map::location::resources(&long, &key).len(), 6);
    assert!(map::location::resources(&Place::default(), &key).is_empty());
}

#[test]
fn a_resource_takes_no_more_than_30_microseconds_by_far() {
    // Not a benchmark: a guard against a tree on the hot path. Unoptimized code may take 30 times as long.
    let (patient_state, state) = folded();
    let key = common::key();
    let rounds = 200;
    let began = std::time::Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(map::patient::resource(&patient_state, &key));
        std::hint::black_box(map::encounter::resource(&state, false, &key));
    }
    let each = began.elapsed() / (rounds * 2);
    println!("{each:?} a resource");
    assert!(each.as_micros() < 2_000, "{each:?} a resource");
}
