//! What follows from the family's set of rows: ties, encounters, and what of them is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hilum_chart::projection::Changes;
use hilum_core::Id;
use hilum_engines::tables::Value;

use super::rows::{EncounterRow, for_visits, id};
use super::{Kin, Settled, work_id};
use crate::board;
use crate::facts::{Fact, Kind};
use crate::fold::encounter;
use crate::fold::ties::{Survivors, Tie, TieKind};
use crate::identity;
use crate::map::ids;
use crate::state::{EncounterState, Mark, PatientState, Status};
use crate::tables::{BOARD, ENCOUNTER, FACT, NUMBER, WORK};

impl Kin<'_> {
    /// Folds what changed and writes it. Nothing of it counts when the kin is [`Kin::unreadable`] then.
    pub fn settle(&mut self, out: &mut Changes) -> Settled {
        if self.unreadable().is_some() {
            return Settled::default();
        }
        self.imply_ties();
        let flags = std::mem::take(&mut self.flags);
        self.whole |= flags.into_iter().any(|(number, before)| for_visits(self.person(number)) != before);
        if self.whole {
            self.load_whole();
            self.imply_ties();
        }
        let ties: Vec<Tie> = self.ties.values().cloned().collect();
        let survivors = Survivors::fold(&ties);
        // A mark of one may rest on the other: a family with ties is small enough to look at each.
        self.said.extend(ties.iter().flat_map(|tie| [tie.old, tie.new]));
        let ends: Vec<Id> = self.said.iter().map(|number| survivors.survivor(*number)).collect();
        self.said.extend(ends);

        let mut settled = Settled::default();
        let mut states = Vec::new();
        let mut done = BTreeSet::new();
        for visit in self.visits.clone() {
            let visits = self.one_with(visit, &ties, &survivors);
            // The least of them stands for all: which one was touched now does not matter.
            let Some(&home) = visits.first().filter(|home| done.insert(**home)) else { continue };
            let mut folded = self.fold_visits(home, &visits, &survivors, &mut settled);
            for state in &mut folded {
                self.finish(state, &visits, &survivors);
                self.see_encounter(state, home, &mut settled);
            }
            for visit in &visits {
                settled.of_visit.insert(*visit, folded.iter().map(|state| state.id).collect());
            }
            states.extend(folded.into_iter().map(|state| (home, state)));
        }
        let folded: BTreeSet<Id> = states.iter().map(|(_, state)| state.id).collect();
        settled.gone.retain(|encounter| !folded.contains(encounter));
        for encounter in &settled.gone {
            self.encounters.insert(*encounter, None);
            out.delete(&ENCOUNTER, vec![Value::Id(self.id), Value::Id(*encounter)]);
            out.delete(&BOARD, vec![Value::Id(*encounter)]);
            out.delete(&WORK, vec![Value::Id(work_id(self.sight.key, "closed-visit", &[*encounter]))]);
            out.outbox.push(board::outgoing(*encounter, *encounter, "", "delete"));
        }
        let seen: BTreeSet<Id> = folded.iter().chain(&settled.gone).copied().collect();
        let circled = self.circled(&ties, &survivors);
        let mut patients: BTreeMap<Id, PatientState> = BTreeMap::new();
        let owners = states.iter().map(|(_, state)| state.patient);
        for number in self.said.iter().copied().chain(owners).collect::<BTreeSet<Id>>() {
            if let Some(patient) = self.patient(number, &ties, &survivors, &circled) {
                patients.insert(number, patient);
            }
        }
        for (visit, state) in &states {
            self.write_encounter(state, *visit, patients.get(&state.patient), out);
        }
        // Of the owners of visits nothing new was said: their records were looked at, no more.
        for patient in patients.values() {
            if !self.said.contains(&patient.id) {
                continue;
            }
            self.write_number(patient, out);
            if patient.survivor == patient.id {
                self.patch_board(patient, &seen, out);
            }
        }
        self.write_merge_work(&ties, &survivors, out);
        self.write_rows(out);
        let confidential = patients.values().filter(|patient| patient.confidential);
        settled.confidential = confidential.map(|patient| patient.id).collect();
        let said = &self.said;
        settled.patients = patients.into_values().filter(|patient| said.contains(&patient.id)).collect();
        settled.encounters = states.into_iter().map(|(_, state)| state).collect();
        settled
    }

    /// All rows of the family were read: every visit and number is folded again.
    pub(super) fn load_whole(&mut self) {
        let ids =
            |rows: Vec<Vec<Value>>| rows.iter().filter_map(|row| id(row.get(1))).collect::<BTreeSet<Id>>();
        let (numbers, visits) = (ids(self.rows(&NUMBER, &[])), ids(self.rows(&FACT, &[])));
        self.said.extend(numbers);
        self.said.extend(self.numbers.keys());
        for visit in visits {
            self.visit_facts(visit);
            self.visits.insert(visit);
        }
    }

    /// A visit whose messages named nobody at first and then somebody: the provisional patient is that person.
    fn imply_ties(&mut self) {
        for visit in self.visits.clone() {
            let facts = self.visit_facts(visit);
            // More than one where a visit goes on under another number (A06) and neither message named anybody.
            let provisional: BTreeSet<Id> =
                facts.values().filter(|fact| fact.provisional).map(|fact| fact.number).collect();
            let named = facts.values().filter(|fact| !fact.provisional).max_by_key(|fact| fact.said);
            let Some((new, said, source)) = named.map(|fact| (fact.number, fact.said, fact.source.clone()))
            else {
                continue;
            };
            for old in provisional {
                let id = self.sight.key.id("Tie implied", &[visit.as_bytes(), old.as_bytes()]);
                let source = source.clone();
                let tie = Tie { id, kind: TieKind::Implied, old, new, moved: said, said, source };
                if self.ties.get(&id) != Some(&tie) {
                    self.tie(&tie);
                }
            }
        }
    }

    /// The visits that are folded with this one: those without a number, of all numbers of one person.
    fn one_with(&mut self, visit: Id, ties: &[Tie], survivors: &Survivors) -> BTreeSet<Id> {
        let number = self.visit_facts(visit).values().next().map(|fact| fact.number);
        let mut visits = BTreeSet::from([visit]);
        if !self.inferred.contains(&visit) {
            return visits;
        }
        let Some(number) = number else { return visits };
        for member in survivors.members(survivors.survivor(number), ties) {
            let bucket = identity::inferred_visit_id(self.sight.key, member);
            if !self.visit_facts(bucket).is_empty() {
                visits.insert(bucket);
            }
        }
        visits
    }

    fn fold_visits(
        &mut self,
        home: Id,
        visits: &BTreeSet<Id>,
        survivors: &Survivors,
        settled: &mut Settled,
    ) -> Vec<EncounterState> {
        let key = self.sight.key;
        if !self.inferred.contains(&home) {
            let facts: Vec<Arc<Fact>> = self.visit_facts(home).values().cloned().collect();
            if facts.is_empty() && self.encounter_row(home).is_some() {
                settled.gone.push(home);
            }
            let mut states = encounter::fold(key, &encounter::Visit::Numbered(home), &facts);
            for state in &mut states {
                state.diagnoses = self.diagnosis_register(home).items(home);
            }
            return states;
        }
        let mut facts = BTreeMap::new();
        for visit in visits {
            facts.extend(self.visit_facts(*visit).clone());
        }
        let facts: Vec<Arc<Fact>> = facts.into_values().collect();
        let states = match facts.first() {
            Some(fact) => {
                let patient = survivors.survivor(fact.number);
                encounter::fold(key, &encounter::Visit::Inferred { patient }, &facts)
            }
            None => Vec::new(),
        };
        for (encounter, row) in &self.encounters {
            let is_of_these = row.as_ref().is_some_and(|row| visits.contains(&row.visit));
            if is_of_these && states.iter().all(|state| state.id != *encounter) {
                settled.gone.push(*encounter);
                settled.gone_conditions.extend(row.iter().flat_map(|row| &row.conditions));
            }
        }
        states
    }

    /// What the visit's own facts do not say: whose it is, and what the person's record adds.
    fn finish(&mut self, state: &mut EncounterState, visits: &BTreeSet<Id>, survivors: &Survivors) {
        state.patient = survivors.survivor(state.named);
        if survivors.merged_into(state.named).is_some() {
            state.marks.retain(|mark| *mark != Mark::IdentityUndecided);
        }
        let deleted = self.number(state.named).deleted;
        if deleted.is_some_and(|deleted| deleted > state.last) {
            match state.status {
                Status::Finished | Status::Cancelled => {
                    state.status = Status::EnteredInError;
                    state.marks.push(Mark::Withdrawn);
                }
                Status::EnteredInError => {}
                Status::Planned
                | Status::Arrived
                | Status::InProgress
                | Status::OnLeave
                | Status::Unknown => {
                    state.marks.push(Mark::DeleteAsked);
                }
            }
        }
        // Those of a visit without a number name one person by its making.
        if visits.contains(&state.id) {
            let facts = self.visit_facts(state.id);
            let is_moved = facts.values().any(|fact| fact.kind == Kind::MoveVisit);
            let named = facts.values().filter(|fact| !fact.provisional);
            let named: BTreeSet<Id> = named.map(|fact| survivors.survivor(fact.number)).collect();
            if named.len() > 1 && !is_moved {
                state.marks.push(Mark::PatientDiffers);
            }
        }
        let code = state.disposition.as_ref().map_or("", |disposition| disposition.code.as_str());
        if matches!(code, "20" | "40" | "41" | "42") && !self.person(state.named).whole().is_dead() {
            state.marks.push(Mark::ExpiredWithoutDeath);
        }
        state.marks.sort();
        state.marks.dedup();
    }

    /// The encounter's row as it will stand, for what looks over all encounters.
    fn see_encounter(&mut self, state: &EncounterState, home: Id, settled: &mut Settled) {
        let before = self.encounter_row(state.id);
        let in_bed =
            state.status.is_open() && state.place.as_ref().is_some_and(|place| !place.bed.is_empty());
        let mut conditions = BTreeSet::new();
        if self.inferred.contains(&home) {
            let key = self.sight.key;
            conditions = state.diagnoses.iter().map(|one| ids::condition(key, one.origin, one.key)).collect();
        }
        let (mut on_board, mut marks) = (false, Vec::new());
        if let Some(before) = before {
            settled.gone_conditions.extend(before.conditions.difference(&conditions));
            (on_board, marks) = (before.on_board, before.marks);
        }
        let row = EncounterRow { visit: home, number: state.named, on_board, in_bed, marks, conditions };
        self.encounters.insert(state.id, Some(row));
    }
}
