//! What follows, written: rows, work items, board lines.

use std::collections::{BTreeMap, BTreeSet};

use hilum_chart::projection::Changes;
use hilum_core::{Id, Timestamp};
use hilum_engines::tables::Value;

use super::rows::{board_of, id, ids_json, stamp_value, text};
use super::{Kin, Part, Sight, work_id};
use crate::board::{self, Patched};
use crate::fold::ties::{Refusal, Survivors, Tie, TieKind};
use crate::state::{EncounterState, Mark, PatientState};
use crate::tables::{BOARD, CARRIER, CONTENT, ENCOUNTER, FACT, NUMBER, TIE, WORK};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkState {
    Open,
    Decided,
    Gone,
}

impl WorkState {
    const fn open_while(holds: bool) -> Self {
        if holds { Self::Open } else { Self::Gone }
    }
}

/// An item of the work queue.
struct Work<'s> {
    id: Id,
    kind: &'static str,
    state: WorkState,
    at: Option<Timestamp>,
    source: &'s str,
    left: Option<Id>,
    right: Option<Id>,
    encounter: Option<Id>,
    message: Option<Id>,
    detail: String,
}

/// One message more that was not applied, on the rows of the board that a number or who replaced it has. No other row is
/// looked into but for the number's survivor.
pub(crate) fn mark_on_board(sight: &Sight<'_>, family: Id, number: Id, out: &mut Changes) {
    let numbers = sight.families.rows(&NUMBER, family, &[], sight.have).unwrap_or_default();
    let own = numbers.iter().find(|row| id(row.get(1)) == Some(number));
    let survivor = own.and_then(|row| id(row.get(NUMBER.column("survivor")?)));
    let patients: BTreeSet<Id> = [number].into_iter().chain(survivor).collect();
    for patient in patients {
        for row in sight.have.scan(&board_of(patient)).unwrap_or_default() {
            let Some(encounter) = id(row.values.first()) else { continue };
            if let Some(values) = board::marked_once_more(&row.values) {
                out.put(&BOARD, values);
                out.outbox.push(board::outgoing(encounter, patient, text(row.values.get(4)), "put"));
            }
        }
    }
}

impl Kin<'_> {
    pub(super) fn write_encounter(
        &mut self,
        state: &EncounterState,
        visit: Id,
        patient: Option<&PatientState>,
        out: &mut Changes,
    ) {
        let Some(mut row) = self.encounter_row(state.id) else { return };
        let line = board::row(state, patient);
        let unit = state.place.as_ref().map_or("", |place| place.unit.as_str());
        let was_on_board = row.on_board;
        row.on_board = line.is_some();
        if let Some(line) = line {
            out.put(&BOARD, line);
            out.outbox.push(board::outgoing(state.id, state.patient, unit, "put"));
        } else if was_on_board {
            out.delete(&BOARD, vec![Value::Id(state.id)]);
            out.outbox.push(board::outgoing(state.id, state.patient, unit, "delete"));
        }
        let asked = Mark::DeleteAsked.id();
        let was_asked = row.marks.contains(&asked);
        row.marks = state.marks.iter().map(Mark::id).collect();
        if row.marks.contains(&asked) || was_asked {
            let item = Work {
                id: work_id(self.sight.key, "closed-visit", &[state.id]),
                kind: "closed-visit",
                state: WorkState::open_while(row.marks.contains(&asked)),
                at: state.last.at(),
                source: &state.source,
                left: Some(state.patient),
                right: None,
                encounter: Some(state.id),
                message: Some(state.message),
                detail: "{}".to_owned(),
            };
            self.write_work(item, out);
        }
        out.put(
            &ENCOUNTER,
            vec![
                Value::Id(self.id),
                Value::Id(state.id),
                Value::Id(visit),
                if row.conditions.is_empty() { Value::Null } else { ids_json(&row.conditions) },
                Value::Id(state.named),
                Value::Id(state.patient),
                Value::Text(state.status.as_str().to_owned()),
                Value::Bool(row.on_board),
                Value::Bool(row.in_bed),
                state.start.as_ref().map_or(Value::Null, |start| Value::Time(start.at)),
                state.end.as_ref().map_or(Value::Null, |end| Value::Time(end.at)),
                Value::Text(state.visit.as_ref().map_or_else(String::new, |visit| visit.value.clone())),
                Value::Text(serde_json::to_string(&row.marks).unwrap_or_default()),
            ],
        );
        self.encounters.insert(state.id, Some(row));
    }

    pub(super) fn write_number(&mut self, state: &PatientState, out: &mut Changes) {
        let marks: Vec<String> = state.marks.iter().map(Mark::id).collect();
        let row = self.number(state.id);
        let was = std::mem::replace(&mut row.marks, marks.clone());
        let (visit, is_provisional) = (row.visit, row.identifier.is_none());
        if was != marks || row.survivor != Some(state.survivor) {
            row.survivor = Some(state.survivor);
            self.dirty_numbers.insert(state.id);
        }
        let item = |kind: &'static str, work: WorkState| Work {
            id: work_id(self.sight.key, kind, &[state.id]),
            kind,
            state: work,
            at: state.last.at(),
            source: &state.source,
            left: Some(state.id),
            right: (state.survivor != state.id).then_some(state.survivor),
            encounter: visit,
            message: Some(state.message),
            detail: "{}".to_owned(),
        };
        let shared = Mark::SharedIdentifier.id();
        if marks.contains(&shared) || was.contains(&shared) {
            self.write_work(item("shared-identifier", WorkState::open_while(marks.contains(&shared))), out);
        }
        if visit.is_some() && is_provisional {
            let undecided = state.survivor == state.id;
            let work = if undecided { WorkState::Open } else { WorkState::Decided };
            self.write_work(item("identity", work), out);
        }
    }

    /// Board rows of other visits of the patient, whose names and marks may have changed.
    pub(super) fn patch_board(&mut self, state: &PatientState, seen: &BTreeSet<Id>, out: &mut Changes) {
        let Some(rows) = self.sight.have.scan(&board_of(state.id)) else {
            self.not_read(BOARD.name);
            return;
        };
        for row in rows {
            let Some(encounter) = id(row.values.first()).filter(|encounter| !seen.contains(encounter)) else {
                continue;
            };
            match board::patched(&row.values, state) {
                Patched::Same => {}
                Patched::Changed(values) => {
                    out.put(&BOARD, values);
                    out.outbox.push(board::outgoing(encounter, state.id, text(row.values.get(4)), "put"));
                }
                // Left out it would go on saying what is no longer so, a person's confidence among it.
                Patched::Unreadable => self.is_unreadable(&BOARD),
            }
        }
    }

    /// Merges that were not applied, or against which something speaks: an operator should look.
    pub(super) fn write_merge_work(&mut self, ties: &[Tie], survivors: &Survivors, out: &mut Changes) {
        let refused: BTreeMap<usize, Refusal> = survivors.refused.iter().copied().collect();
        let applied: BTreeSet<usize> = survivors.applied().map(|(at, _, _)| at).collect();
        for (at, tie) in ties.iter().enumerate().filter(|(_, tie)| tie.kind == TieKind::Merge) {
            let why = match refused.get(&at) {
                Some(Refusal::SelfMerge) => vec!["self-merge"],
                Some(Refusal::AlreadyMerged) => vec!["already-merged"],
                Some(Refusal::Cycle) => vec!["cycle"],
                None if applied.contains(&at) => self.doubts(tie),
                None => Vec::new(),
            };
            let work = work_id(self.sight.key, "merge", &[tie.id]);
            if why.is_empty() {
                out.delete(&WORK, vec![Value::Id(work)]);
                continue;
            }
            let mut detail = serde_json::json!({ "applied": applied.contains(&at), "why": why });
            if refused.get(&at) == Some(&Refusal::Cycle) {
                let others = survivors.circle(tie).1.into_iter();
                let others: Vec<String> =
                    others.map(|other| ties[other].said.message().to_string()).collect();
                detail["others"] = others.into();
            }
            let item = Work {
                id: work,
                kind: "merge",
                state: WorkState::Open,
                at: tie.said.at(),
                source: &tie.source,
                left: Some(tie.old),
                right: Some(tie.new),
                encounter: None,
                message: Some(tie.said.message()),
                detail: detail.to_string(),
            };
            self.write_work(item, out);
        }
    }

    /// An item whose reason is gone goes with it; one that was settled stays, for the record.
    fn write_work(&self, item: Work<'_>, out: &mut Changes) {
        if item.state == WorkState::Gone {
            out.delete(&WORK, vec![Value::Id(item.id)]);
            return;
        }
        let decided = item.state == WorkState::Open && self.is_decided(item.id);
        let optional = |id: Option<Id>| id.map_or(Value::Null, Value::Id);
        out.put(
            &WORK,
            vec![
                Value::Id(item.id),
                Value::Text(item.kind.to_owned()),
                Value::Text(
                    if item.state == WorkState::Open && !decided { "open" } else { "decided" }.to_owned(),
                ),
                Value::Time(item.at.unwrap_or_default()),
                Value::Text(item.source.to_owned()),
                optional(item.left),
                optional(item.right),
                optional(item.encounter),
                optional(item.message),
                Value::Text(item.detail),
                Value::ThisCommit,
            ],
        );
    }

    pub(super) fn write_rows(&mut self, out: &mut Changes) {
        let family = Value::Id(self.id);
        for (visit, moved) in &self.gone_facts {
            out.delete(&FACT, vec![family.clone(), Value::Id(*visit), stamp_value(moved)]);
        }
        for (visit, moved) in &self.new_facts {
            let Some(fact) = self.facts.get(visit).and_then(|facts| facts.get(moved)) else { continue };
            out.put(
                &FACT,
                vec![
                    family.clone(),
                    Value::Id(*visit),
                    stamp_value(moved),
                    Value::Text(fact.kind.as_str().to_owned()),
                    stamp_value(&fact.said),
                    Value::Id(fact.number),
                    Value::Bool(fact.provisional),
                    Value::Text(fact.source.clone()),
                    Value::Text(serde_json::to_string(&fact.body).unwrap_or_default()),
                ],
            );
        }
        for &(owner, part) in &self.parts {
            let body = match part {
                Part::Person => self.persons.get(&owner).map(serde_json::to_string),
                Part::NextOfKin => self.relatives.get(&owner).map(serde_json::to_string),
                Part::Allergies | Part::Reactions => {
                    self.allergies.get(&(owner, part)).map(serde_json::to_string)
                }
                Part::Diagnoses => self.diagnoses.get(&owner).map(serde_json::to_string),
            };
            let Some(Ok(body)) = body else { continue };
            let part = Value::Text(part.as_str().to_owned());
            out.put(&CONTENT, vec![family.clone(), Value::Id(owner), part, Value::Text(body)]);
        }
        for tie in &self.gone_ties {
            out.delete(&TIE, vec![family.clone(), Value::Id(*tie)]);
        }
        for tie in self.new_ties.iter().filter_map(|tie| self.ties.get(tie)) {
            out.put(
                &TIE,
                vec![
                    family.clone(),
                    Value::Id(tie.id),
                    Value::Text(tie.kind.as_str().to_owned()),
                    Value::Id(tie.old),
                    Value::Id(tie.new),
                    stamp_value(&tie.moved),
                    stamp_value(&tie.said),
                    Value::Text(tie.source.clone()),
                ],
            );
        }
        for number in &self.dirty_numbers {
            let Some(row) = self.numbers.get(number) else { continue };
            if row.is_empty() {
                out.delete(&NUMBER, vec![family.clone(), Value::Id(*number)]);
                continue;
            }
            let identifier = row.identifier.as_ref().and_then(|one| serde_json::to_string(one).ok());
            out.put(
                &NUMBER,
                vec![
                    family.clone(),
                    Value::Id(*number),
                    Value::Text(row.identifier.as_ref().map_or_else(String::new, |one| one.value.clone())),
                    Value::Text(identifier.unwrap_or_default()),
                    row.visit.map_or(Value::Null, Value::Id),
                    row.deleted.as_ref().map_or(Value::Null, stamp_value),
                    ids_json(&row.not_applied),
                    Value::Text(serde_json::to_string(&row.marks).unwrap_or_default()),
                    ids_json(&row.carries),
                    Value::Id(row.survivor.unwrap_or(*number)),
                ],
            );
        }
        for (identifier, number) in &self.gone_carriers {
            out.delete(&CARRIER, vec![family.clone(), Value::Id(*identifier), Value::Id(*number)]);
        }
        for (identifier, number) in &self.new_carriers {
            out.put(&CARRIER, vec![family.clone(), Value::Id(*identifier), Value::Id(*number)]);
        }
    }
}
