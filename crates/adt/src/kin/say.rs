//! What messages say, put into the family.

use hilum_core::Id;
use std::sync::Arc;

use super::rows::{NumberRow, for_visits, set_identifier, speaks_for_visits};
use super::{Kin, Part};
use crate::content::Identifier;
use crate::facts::Fact;
use crate::facts::read::{Person, Visit};
use crate::fold::ties::Tie;
use crate::limits::{CARRIED_MAX, CARRIERS_MAX, NOT_APPLIED_MAX};
use crate::order::Stamp;

impl Kin<'_> {
    /// Takes in what a message says of a patient of this family.
    pub fn say(&mut self, person: &Person, source: &str) {
        let number = person.number;
        let said = person.said;
        self.said.insert(number);
        let register = self.person(number);
        let before = speaks_for_visits(person).then(|| for_visits(register));
        register.say(said, source, person.unknown, &person.content);
        if let Some(before) = before {
            self.flags.entry(number).or_insert(before);
        }
        self.parts.insert((number, Part::Person));
        if person.next_of_kin.1.is_said() {
            let (mode, group) = &person.next_of_kin;
            self.kin_register(number).say(said, source, *mode, group);
            self.parts.insert((number, Part::NextOfKin));
        }
        for (part, (mode, group)) in
            [(Part::Allergies, &person.allergies), (Part::Reactions, &person.reactions)]
        {
            if group.is_said() {
                self.allergy_register(number, part).say(said, source, *mode, group);
                self.parts.insert((number, part));
            }
        }
        let (mode, group) = &person.diagnoses;
        // Those of a visit without a number are in its facts: they belong to one of its stays.
        let visit = person.facts.first().filter(|(visit, _)| group.is_said() && !visit.inferred);
        if let Some((visit, _)) = visit {
            self.diagnosis_register(visit.id).say(said, source, *mode, group);
            self.parts.insert((visit.id, Part::Diagnoses));
        }
        let row = self.number(number);
        let before = row.clone();
        if let Some(identifier) = &person.identifier {
            set_identifier(row, identifier);
        }
        row.visit = row.visit.or(person.provisional_for);
        if person.deletes {
            row.deleted = row.deleted.max(Some(said));
        }
        row.carries.extend(&person.further);
        while row.carries.len() > CARRIED_MAX {
            row.carries.pop_last();
        }
        if *row != before {
            self.dirty_numbers.insert(number);
        }
        self.whole |= person.deletes;
        for further in &person.further {
            // One that is somebody's primary number is shared with that patient; two carriers share it.
            if self.number(*further).identifier.is_some() {
                self.said.insert(*further);
            }
            self.carry(*further, number);
        }
        if before == NumberRow::default() {
            let carriers: Vec<Id> = self.carriers(number).iter().copied().take(2).collect();
            self.said.extend(carriers);
        }
        for (visit, fact) in &person.facts {
            self.put_fact(visit, fact);
        }
    }

    /// One more carrier of an identifier. Those with the least ids are kept: which came first does not matter, and two
    /// are enough to say that it is shared.
    fn carry(&mut self, identifier: Id, number: Id) {
        let carriers = self.carriers(identifier);
        if !carriers.insert(number) {
            return;
        }
        let others: Vec<Id> = carriers.iter().copied().take(3).collect();
        let gone = if carriers.len() > CARRIERS_MAX { carriers.pop_last() } else { None };
        if others.len() == 2 {
            self.said.extend(others);
        }
        if gone == Some(number) {
            return;
        }
        self.new_carriers.insert((identifier, number));
        if let Some(gone) = gone
            && !self.new_carriers.remove(&(identifier, gone))
        {
            self.gone_carriers.insert((identifier, gone));
        }
    }

    fn put_fact(&mut self, visit: &Visit, fact: &Arc<Fact>) {
        self.visits.insert(visit.id);
        if visit.inferred {
            self.inferred.insert(visit.id);
        }
        let facts_max = self.sight.facts_max;
        let facts = self.visit_facts(visit.id);
        let is_new = facts.insert(fact.moved, Arc::clone(fact)).is_none();
        let gone = if facts.len() > facts_max { facts.pop_first() } else { None };
        if is_new {
            self.new_facts.insert((visit.id, fact.moved));
        }
        if let Some((moved, _)) = gone
            && !self.new_facts.remove(&(visit.id, moved))
        {
            self.gone_facts.insert((visit.id, moved));
        }
    }

    /// Takes in a merge, link, move or decision.
    pub fn tie(&mut self, tie: &Tie) {
        self.whole = true;
        self.said.insert(tie.old);
        self.said.insert(tie.new);
        if self.ties.insert(tie.id, tie.clone()).as_ref() != Some(tie) {
            self.new_ties.insert(tie.id);
        }
    }

    /// Takes in a number that a tie names.
    pub fn name(&mut self, number: Id, identifier: &Identifier) {
        let row = self.number(number);
        let before = row.clone();
        set_identifier(row, identifier);
        if *row != before {
            self.dirty_numbers.insert(number);
        }
        self.said.insert(number);
    }

    /// Marks a number for a message in quarantine, or takes the mark back.
    pub fn not_applied(&mut self, number: Id, message: Id, is_out: bool) {
        let row = self.number(number);
        let changed = if is_out { row.not_applied.insert(message) } else { row.not_applied.remove(&message) };
        if row.not_applied.len() > NOT_APPLIED_MAX {
            row.not_applied.pop_last();
        }
        if changed {
            self.dirty_numbers.insert(number);
        }
        self.said.insert(number);
    }

    /// An operator settled a merge: the marks of whoever is tied with this number rest on it.
    pub fn look_again(&mut self, number: Id) {
        self.said.insert(number);
    }

    /// Takes back what a message said of visits and ties: a correction replaces it.
    pub fn take_back(&mut self, message: Id) {
        self.whole = true;
        self.load_whole();
        for (visit, facts) in &mut self.facts {
            let gone: Vec<Stamp> = facts.keys().copied().filter(|stamp| stamp.message() == message).collect();
            for stamp in gone {
                facts.remove(&stamp);
                if !self.new_facts.remove(&(*visit, stamp)) {
                    self.gone_facts.insert((*visit, stamp));
                }
            }
        }
        let gone: Vec<Id> =
            self.ties.values().filter(|tie| tie.said.message() == message).map(|tie| tie.id).collect();
        for tie in gone {
            self.ties.remove(&tie);
            if !self.new_ties.remove(&tie) {
                self.gone_ties.insert(tie);
            }
        }
    }
}
