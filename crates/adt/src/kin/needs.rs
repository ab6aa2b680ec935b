//! Which rows folding what a batch says of one family will need: what is asked for depends on what was read before.
//!
//! Marks rest on rows of others: of whoever shares an identifier, is tied, or has a visit that a message names. So the
//! small tables of a family (ties, numbers, carriers) are read whole, and with them it is known whose records will be
//! looked at.

use std::collections::{BTreeMap, BTreeSet};

use hilum_chart::projection::Reads;
use hilum_core::Id;
use hilum_engines::tables::{Table, Value};

use super::rows::{
    MARKS, NumberRow, board_of, decided_all, fact_kind, fact_of, flag, for_visits, id, marks_of, number_of,
    speaks_for_visits, text,
};
use super::{Part, Sight, work_id};
use crate::facts::read::Person;
use crate::facts::{Fact, Kind};
use crate::fold::content::PersonRegister;
use crate::fold::stays;
use crate::fold::ties::Tie;
use crate::identity;
use crate::limits::DECIDED_ASKED_MAX;
use crate::state::Mark;
use crate::tables::{CARRIER, CONTENT, DECIDED, ENCOUNTER, FACT, NUMBER, OF_FAMILY, TIE};

/// What a batch says of one family.
#[derive(Default)]
pub struct Heard<'a> {
    persons: Vec<&'a Person>,
    ties: Vec<&'a Tie>,
    /// Numbers of which a mark is set or taken back: a message in quarantine, or its correction.
    marked: BTreeSet<Id>,
    /// What a message said is taken back.
    takes_back: bool,
}

impl<'a> Heard<'a> {
    /// What a message says of a patient.
    pub fn person(&mut self, person: &'a Person) {
        self.persons.push(person);
    }

    /// A merge, link, move or decision.
    pub fn tie(&mut self, tie: &'a Tie) {
        self.ties.push(tie);
    }

    /// A number that gets or loses a mark.
    pub fn mark(&mut self, number: Id) {
        self.marked.insert(number);
    }

    /// What a message said is taken back: all of the family is folded again.
    pub fn take_back(&mut self) {
        self.takes_back = true;
    }

    fn visits(&self) -> impl Iterator<Item = Id> {
        self.persons.iter().flat_map(|person| person.facts.iter().map(|(visit, _)| visit.id))
    }

    fn says_inferred(&self) -> bool {
        self.persons.iter().any(|person| person.facts.iter().any(|(visit, _)| visit.inferred))
    }

    fn deletes(&self) -> bool {
        self.persons.iter().any(|person| {
            person.deletes || person.facts.iter().any(|(_, fact)| fact.kind == Kind::DeleteVisit)
        })
    }
}

/// Asks for one family.
struct Asking<'s, 'a> {
    sight: &'s Sight<'a>,
    family: Id,
    heard: &'s Heard<'s>,
    reads: &'s mut Reads,
}

/// Names the rows that folding what was heard of a family will need. Called in each round.
pub fn needs(sight: &Sight<'_>, family: Id, heard: &Heard<'_>, reads: &mut Reads) {
    let mut asking = Asking { sight, family, heard, reads };
    asking.first();
    asking.next();
}

impl<'a> Asking<'_, 'a> {
    fn row(&mut self, table: &'static Table, rest: &[Value]) {
        self.sight.families.want_row(table, self.family, rest, self.reads);
    }

    fn range(&mut self, table: &'static Table, rest: &[Value]) {
        self.sight.families.want(table, self.family, rest, self.reads);
    }

    fn content(&mut self, owner: Id, part: Part) {
        self.row(&CONTENT, &[Value::Id(owner), Value::Text(part.as_str().into())]);
    }

    fn decided(&mut self, kind: &str, about: Id) {
        self.reads.get(DECIDED.name, vec![Value::Id(work_id(self.sight.key, kind, &[about]))]);
    }

    fn whole(&mut self) {
        for table in OF_FAMILY {
            self.range(table, &[]);
        }
    }

    /// What needs nothing read before.
    fn first(&mut self) {
        for table in [&TIE, &NUMBER, &CARRIER] {
            self.range(table, &[]);
        }
        let heard = self.heard;
        for person in &heard.persons {
            for (part, is_said) in parts_said(person) {
                if is_said {
                    self.content(person.number, part);
                }
            }
            self.reads.scan(board_of(person.number));
            for (visit, _) in &person.facts {
                self.range(&FACT, &[Value::Id(visit.id)]);
                if visit.inferred {
                    self.range(&ENCOUNTER, &[]);
                } else {
                    self.content(visit.id, Part::Diagnoses);
                    self.row(&ENCOUNTER, &[Value::Id(visit.id)]);
                }
            }
        }
        for tie in &heard.ties {
            self.decided("merge", tie.id);
        }
        if !heard.ties.is_empty() || heard.takes_back || heard.persons.iter().any(|person| person.deletes) {
            self.whole();
        }
    }

    fn rows(&self, table: &'static Table, rest: &[Value]) -> Option<Vec<&'a [Value]>> {
        self.sight.families.stored_rows(table, self.family, rest, self.sight.have)
    }

    /// What the rows that were read name.
    fn next(&mut self) {
        let (Some(numbers), Some(carriers), Some(ties)) =
            (self.rows(&NUMBER, &[]), self.rows(&CARRIER, &[]), self.rows(&TIE, &[]))
        else {
            return;
        };
        let heard = self.heard;
        // One that cannot be read names nobody: nothing that would rest on it is written.
        let numbers: BTreeMap<Id, NumberRow> = numbers
            .iter()
            .filter_map(|row| Some((id(row.get(1))?, number_of(row).unwrap_or_default())))
            .collect();
        let carriers: Vec<(Id, Id)> =
            carriers.iter().filter_map(|row| Some((id(row.get(1))?, id(row.get(2))?))).collect();
        if self.flips() {
            self.whole();
        }

        let mut concerned: BTreeSet<Id> = heard.persons.iter().map(|person| person.number).collect();
        concerned.extend(&heard.marked);
        let mut identifiers = concerned.clone();
        identifiers
            .extend(concerned.iter().filter_map(|number| numbers.get(number)).flat_map(|row| &row.carries));
        identifiers.extend(heard.persons.iter().flat_map(|person| &person.further));
        concerned.extend(&identifiers);
        for (identifier, number) in &carriers {
            if identifiers.contains(identifier) {
                concerned.extend([identifier, number]);
            }
        }
        concerned.extend(self.owners());
        let mut ends: BTreeSet<Id> = heard.ties.iter().flat_map(|tie| [tie.old, tie.new]).collect();
        for row in &ties {
            ends.extend([id(row.get(3)), id(row.get(4))].into_iter().flatten());
            if let Some(tie) = id(row.get(1)) {
                self.decided("merge", tie);
            }
        }
        concerned.extend(&ends);
        // An identifier that makes no patient has no record.
        let named: BTreeSet<Id> = heard.persons.iter().map(|person| person.number).collect();
        concerned.retain(|number| {
            numbers.contains_key(number) || named.contains(number) || heard.marked.contains(number)
        });
        concerned.extend(heard.ties.iter().flat_map(|tie| [tie.old, tie.new]));
        if !ties.is_empty() {
            for table in [&CONTENT, &ENCOUNTER] {
                self.range(table, &[]);
            }
            for visit in self.with_tied(&ties) {
                self.range(&FACT, &[Value::Id(visit)]);
            }
        }

        let may_share = !carriers.is_empty() || heard.persons.iter().any(|person| !person.further.is_empty());
        let is_provisional = |number: &Id| {
            numbers.get(number).is_some_and(|row| row.visit.is_some())
                || heard
                    .persons
                    .iter()
                    .any(|person| person.number == *number && person.provisional_for.is_some())
        };
        if self.rows(&FACT, &[]).is_some() {
            concerned.extend(numbers.keys());
        }
        for number in concerned {
            self.content(number, Part::Person);
            self.reads.scan(board_of(number));
            if may_share {
                self.decided("shared-identifier", number);
            }
            if is_provisional(&number) {
                self.decided("identity", number);
            }
        }
        let visits = self.with_tied(&ties);
        if heard.deletes() || numbers.values().any(|row| row.deleted.is_some()) || self.has_deletions(&visits)
        {
            let patients = numbers.keys().copied().chain(ends).chain(named).collect();
            self.deletions(&visits, &patients);
        }
    }

    /// The visits that will be folded: those that the batch speaks of, and with one that has no number those of all
    /// numbers that are tied.
    fn with_tied(&self, ties: &[&[Value]]) -> BTreeSet<Id> {
        let mut visits: BTreeSet<Id> = self.heard.visits().collect();
        if self.heard.says_inferred() {
            let numbers = ties.iter().flat_map(|row| [id(row.get(3)), id(row.get(4))]).flatten();
            visits.extend(numbers.map(|number| identity::inferred_visit_id(self.sight.key, number)));
        }
        visits
    }

    /// Whose visits the batch speaks of, by the messages before it.
    fn owners(&mut self) -> BTreeSet<Id> {
        let mut owners = BTreeSet::new();
        let mut provisional: BTreeMap<Id, BTreeSet<bool>> = BTreeMap::new();
        for (visit, fact) in self.heard.persons.iter().flat_map(|person| &person.facts) {
            provisional.entry(visit.id).or_default().insert(fact.provisional);
        }
        for visit in self.heard.visits() {
            for row in self.rows(&FACT, &[Value::Id(visit)]).unwrap_or_default() {
                owners.extend(id(row.get(5)));
                provisional.entry(visit).or_default().insert(flag(row.get(6)));
            }
        }
        // Named at last: who was provisional is that person now.
        if provisional.values().any(|both| both.len() == 2) {
            self.whole();
        }
        owners
    }

    /// Whether what the batch says changes what a person's record shows in resources of visits: then all of them are
    /// folded again.
    fn flips(&self) -> bool {
        let mut after: BTreeMap<Id, (PersonRegister, PersonRegister)> = BTreeMap::new();
        for person in self.heard.persons.iter().filter(|person| speaks_for_visits(person)) {
            let key = [Value::Id(person.number), Value::Text(Part::Person.as_str().into())];
            let (_, after) = after.entry(person.number).or_insert_with(|| {
                let row = self.sight.families.row(&CONTENT, self.family, &key, self.sight.have);
                let before: PersonRegister =
                    row.and_then(|row| serde_json::from_str(text(row.get(3))).ok()).unwrap_or_default();
                (before.clone(), before)
            });
            after.say(person.said, "", person.unknown, &person.content);
        }
        after.values().any(|(before, after)| for_visits(before) != for_visits(after))
    }

    /// Whether a visit that will be folded was ever asked to be deleted.
    fn has_deletions(&self, visits: &BTreeSet<Id>) -> bool {
        let whole = self.rows(&FACT, &[]);
        let rows = whole.unwrap_or_else(|| {
            visits.iter().filter_map(|visit| self.rows(&FACT, &[Value::Id(*visit)])).flatten().collect()
        });
        rows.iter().any(|row| fact_kind(row) == Some(Kind::DeleteVisit))
    }

    /// What was decided about deletions that a source asked for. `patients` are all who can be the patient of a visit.
    fn deletions(&mut self, visits: &BTreeSet<Id>, patients: &BTreeSet<Id>) {
        for visit in visits {
            self.decided("closed-visit", *visit);
        }
        for row in self.rows(&FACT, &[]).unwrap_or_default() {
            if let Some(visit) = id(row.get(1)) {
                self.decided("closed-visit", visit);
            }
        }
        for row in self.rows(&ENCOUNTER, &[]).unwrap_or_default() {
            let marks = marks_of(text(row.get(MARKS))).unwrap_or_default();
            let asked = marks.contains(&Mark::DeleteAsked.id());
            if let Some(encounter) = id(row.get(1)).filter(|_| asked) {
                self.decided("closed-visit", encounter);
            }
        }
        // The id of an inferred visit follows from the fold, and one that has no row yet can have been decided in a
        // rebuild, which reads the decisions first: whatever fact may be the first of a stay names one.
        let begins = self.begins(visits);
        if begins.len().saturating_mul(patients.len()) > DECIDED_ASKED_MAX {
            self.reads.scan(decided_all());
            return;
        }
        for (patient, (class, begin)) in
            patients.iter().flat_map(|id| begins.iter().map(move |one| (id, one)))
        {
            let encounter = identity::inferred_encounter_id(self.sight.key, *patient, class, begin);
            self.decided("closed-visit", encounter);
        }
    }

    /// What may name a stay of the visits without a number.
    fn begins(&self, visits: &BTreeSet<Id>) -> BTreeSet<(String, String)> {
        let named_by = |fact: &Fact| {
            let (class, begin) = stays::named_by(fact);
            (class.to_owned(), begin.to_owned())
        };
        let heard = self.heard.persons.iter().flat_map(|person| &person.facts);
        let heard = heard.filter(|(visit, _)| visit.inferred).map(|(_, fact)| named_by(fact));
        let stored = self.rows(&FACT, &[]).unwrap_or_else(|| {
            visits.iter().filter_map(|visit| self.rows(&FACT, &[Value::Id(*visit)])).flatten().collect()
        });
        let stored = stored.into_iter().filter_map(fact_of).filter(|fact| fact.body.inferred);
        heard.chain(stored.map(|fact| named_by(&fact))).collect()
    }
}

fn parts_said(person: &Person) -> [(Part, bool); 4] {
    [
        (Part::Person, true),
        (Part::NextOfKin, person.next_of_kin.1.is_said()),
        (Part::Allergies, person.allergies.1.is_said() || person.reactions.1.is_said()),
        (Part::Reactions, person.allergies.1.is_said() || person.reactions.1.is_said()),
    ]
}
