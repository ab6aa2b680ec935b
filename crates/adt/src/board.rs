//! Rows of the board (clinical-rules 25): one per encounter that a census list shows.

use bytes::Bytes;
use hilum_core::Id;
use hilum_engines::tables::{Outgoing, Value};

use crate::map::summary::{self, PatientSummary};
use crate::state::{BoardDetail, BoardIdentifier, BoardPending, EncounterState, Mark, PatientState};
use crate::tables::{BOARD, indexed};

/// The topic of board changes.
pub const TOPIC: &str = "adt.board";

/// What others are told: ids, unit and operation only.
pub fn outgoing(encounter: Id, patient: Id, unit: &str, op: &str) -> Outgoing {
    let body = serde_json::json!({ "encounter": encounter.to_string(), "unit": unit, "op": op });
    Outgoing { topic: TOPIC, key: patient, body: Bytes::from(body.to_string()) }
}

/// The row of an encounter, if a list shows it.
pub fn row(state: &EncounterState, patient: Option<&PatientState>) -> Option<Vec<Value>> {
    let list = state.board_list()?;
    let place = state.place.clone().unwrap_or_default();
    let attending = state.content.attending.items().first();
    let optional = |text: &str| if text.is_empty() { Value::Null } else { Value::Text(text.to_owned()) };
    let place_part = |text: &str| if text.is_empty() { Value::Null } else { indexed(text) };
    let pending = state.pending.iter().map(|pending| BoardPending {
        what: pending.what,
        place: pending.place.as_ref().map(summary::place_text),
        expected: pending.expected.as_ref().map(|moment| moment.when.as_str().to_owned()),
    });
    let detail = BoardDetail {
        visit: state.visit.as_ref().map(|visit| visit.value.clone()),
        tracked: state.tracked.as_ref().map(|span| summary::place_text(&span.what)),
        pending: pending.collect(),
        attending_id: attending.and_then(|one| one.identifier.as_ref()).map(|one| one.value.clone()),
        encounter_marks: state.marks.iter().map(Mark::id).collect(),
        encounter_confidential: state.content.is_confidential(),
        ..BoardDetail::default()
    };
    let person = Person::of(patient);
    let mut values = vec![
        Value::Id(state.id),
        Value::Id(state.patient),
        Value::Text(list.as_str().to_owned()),
        indexed(&place.facility),
        indexed(&place.unit),
        place_part(&place.room),
        place_part(&place.bed),
        Value::Text(state.class.clone().unwrap_or_default()),
        Value::Text(state.status.as_str().to_owned()),
        state.since().map_or(Value::Null, |since| Value::Time(since.at)),
        attending.map_or(Value::Null, |one| optional(&summary::provider_name(one))),
        Value::Null, // confidential
        Value::Null, // marks
        Value::Null, // name
        Value::Null, // detail
        Value::Text(state.source.clone()),
        Value::Id(state.message),
        Value::ThisCommit,
    ];
    person.put(detail, &mut values);
    Some(values)
}

/// What becomes of a row when what is known of the person is put in anew.
pub enum Patched {
    /// It stays as it stands.
    Same,
    /// It says something else.
    Changed(Vec<Value>),
    /// What stands there cannot be read, so nothing can be put into it.
    Unreadable,
}

/// Puts in anew what is known of the person.
pub fn patched(row: &[Value], patient: &PatientState) -> Patched {
    let detail = match BOARD.column("detail").and_then(|at| row.get(at)) {
        Some(Value::Text(detail)) => serde_json::from_str(detail).ok(),
        _ => None,
    };
    let Some(detail) = detail else { return Patched::Unreadable };
    let mut values = row.to_vec();
    Person::of(Some(patient)).put(detail, &mut values);
    if values == row {
        return Patched::Same;
    }
    if let Some(from_t) = BOARD.column("from_t").and_then(|at| values.get_mut(at)) {
        *from_t = Value::ThisCommit;
    }
    Patched::Changed(values)
}

/// The row with one message more that was not applied, and nothing else changed; `None` when its marks cannot be read.
pub fn marked_once_more(row: &[Value]) -> Option<Vec<Value>> {
    let at = BOARD.column("marks")?;
    let Some(Value::Text(marks)) = row.get(at) else { return None };
    let mut marks: Vec<String> = serde_json::from_str(marks).ok()?;
    let before = marks.iter().find_map(|mark| Mark::not_applied_of(mark)).unwrap_or_default();
    marks.retain(|mark| Mark::not_applied_of(mark).is_none());
    marks.push(Mark::NotApplied(before.saturating_add(1)).id());
    marks.sort();
    let mut values = row.to_vec();
    *values.get_mut(at)? = Value::Text(serde_json::to_string(&marks).ok()?);
    *values.get_mut(BOARD.column("from_t")?)? = Value::ThisCommit;
    Some(values)
}

/// What a row shows of the person.
struct Person {
    summary: PatientSummary,
    died: Option<String>,
    marks: Vec<Mark>,
    confidential: bool,
}

impl Person {
    fn of(patient: Option<&PatientState>) -> Self {
        let person = patient.map(PatientState::whole).unwrap_or_default();
        let died = person.died.value().map(|died| died.as_str().to_owned());
        Self {
            summary: PatientSummary::of(&person),
            died: died.or_else(|| person.is_dead().then(|| "unknown".to_owned())),
            marks: patient.map(|patient| patient.marks.clone()).unwrap_or_default(),
            confidential: patient.is_some_and(|patient| patient.confidential),
        }
    }

    fn put(self, mut detail: BoardDetail, values: &mut [Value]) {
        let mut marks: Vec<String> = detail.encounter_marks.clone();
        marks.extend(self.marks.iter().map(Mark::id));
        marks.sort();
        marks.dedup();
        let confidential = self.confidential || detail.encounter_confidential;
        detail.birth_date = self.summary.birth_date;
        detail.gender = self.summary.gender.map(std::borrow::Cow::into_owned);
        detail.died = self.died;
        detail.identifiers = self.summary.identifiers.into_iter().map(BoardIdentifier::from).collect();
        let json = |value: serde_json::Result<String>| Value::Text(value.unwrap_or_default());
        for (name, value) in [
            ("confidential", Value::Bool(confidential)),
            ("marks", json(serde_json::to_string(&marks))),
            ("name", Value::Text(self.summary.name)),
            ("detail", json(serde_json::to_string(&detail))),
        ] {
            if let Some(cell) = BOARD.column(name).and_then(|at| values.get_mut(at)) {
                *cell = value;
            }
        }
    }
}
