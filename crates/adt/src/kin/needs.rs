//! Which rows folding what a message says will need: what is asked for depends on what was read before.

use std::collections::BTreeSet;

use hilum_chart::projection::Reads;
use hilum_core::Id;
use hilum_engines::tables::Value;

use super::rows::{board_of, flag, id, ids_of, marks_of, text};
use super::say::{for_visits, speaks_for_visits};
use super::{Part, Sight, work_id};
use crate::facts::Kind;
use crate::facts::read::{Person, Says};
use crate::fold::content::PersonRegister;
use crate::identity;
use crate::state::Mark;
use crate::tables::{CARRIER, CONTENT, DECIDED, ENCOUNTER, FACT, NUMBER, TIE};

/// Names the rows that folding what a message says will need. Called in each round: what can be asked for depends on
/// what was read before.
pub fn needs(sight: &Sight<'_>, says: &Says, reads: &mut Reads) {
    let Sight { families, have, .. } = *sight;
    for person in &says.persons {
        let Some(family) = families.of(person.number) else { continue };
        families.want(&TIE, family, &[], reads);
        want_number(sight, family, person.number, reads);
        for (part, is_said) in parts_said(person) {
            if is_said {
                families.want_row(
                    &CONTENT,
                    family,
                    &[Value::Id(person.number), Value::Text(part.as_str().into())],
                    reads,
                );
            }
        }
        families.want(&CARRIER, family, &[], reads);
        reads.scan(board_of(person.number));
        for (visit, fact) in &person.facts {
            want_visit(sight, family, visit.id, visit.inferred_class.is_some(), reads);
            if fact.kind == Kind::DeleteVisit {
                reads.get(DECIDED.name, vec![Value::Id(work_id(sight.key, "closed-visit", &[visit.id]))]);
            }
        }
        let stored = [Value::Id(person.number), Value::Text(Part::Person.as_str().into())];
        let flips = speaks_for_visits(person)
            && families.row(&CONTENT, family, &stored, have).is_some_and(|row| {
                let before: PersonRegister = serde_json::from_str(text(row.get(3))).unwrap_or_default();
                let mut after = before.clone();
                after.say(person.said, "", person.unknown, &person.content);
                for_visits(&before) != for_visits(&after)
            });
        if person.deletes || flips {
            want_whole(sight, family, reads);
        }
        // Further rounds: what the rows of the ones before name.
        for row in families.rows(&ENCOUNTER, family, &[], have).unwrap_or_default() {
            let asked = marks_of(text(row.get(12))).contains(&Mark::DeleteAsked.id());
            if let Some(encounter) = id(row.get(1)).filter(|_| asked || person.deletes) {
                reads.get(DECIDED.name, vec![Value::Id(work_id(sight.key, "closed-visit", &[encounter]))]);
            }
        }
        for (visit, _) in &person.facts {
            let owners = families.rows(&FACT, family, &[Value::Id(visit.id)], have).unwrap_or_default();
            let mut mixed = BTreeSet::new();
            for row in &owners {
                mixed.insert(flag(row.get(6)));
                if let Some(owner) = id(row.get(5)).filter(|owner| *owner != person.number) {
                    want_number(sight, family, owner, reads);
                }
            }
            mixed.extend(person.facts.iter().map(|(_, fact)| fact.provisional));
            if mixed.len() == 2 {
                want_whole(sight, family, reads);
            }
        }
        // Who shares an identifier with this one may get a mark, or lose it.
        let row = families.row(&NUMBER, family, &[Value::Id(person.number)], have);
        let mut identifiers = row.map(|row| ids_of(text(row.get(8)))).unwrap_or_default();
        identifiers.extend(person.further.iter().chain([&person.number]));
        let carriers = families.rows(&CARRIER, family, &[], have).unwrap_or_default();
        for pair in carriers.iter().map(|row| [id(row.get(1)), id(row.get(2))]) {
            for number in pair.into_iter().flatten() {
                families.want_row(&NUMBER, family, &[Value::Id(number)], reads);
            }
            if pair[0].is_some_and(|identifier| identifiers.contains(&identifier)) {
                for other in pair.into_iter().flatten() {
                    want_number(sight, family, other, reads);
                    reads.scan(board_of(other));
                }
            }
        }
        for further in &person.further {
            want_number(sight, family, *further, reads);
            reads.scan(board_of(*further));
        }
        let ties = families.rows(&TIE, family, &[], have).unwrap_or_default();
        if !ties.is_empty() {
            for table in [&NUMBER, &CONTENT, &ENCOUNTER] {
                families.want(table, family, &[], reads);
            }
            for row in &ties {
                for number in [id(row.get(3)), id(row.get(4))].into_iter().flatten() {
                    reads.scan(board_of(number));
                    for class in person.facts.iter().filter_map(|(visit, _)| visit.inferred_class.as_deref())
                    {
                        let bucket = identity::inferred_visit_id(sight.key, number, class);
                        families.want(&FACT, family, &[Value::Id(bucket)], reads);
                    }
                }
                if let Some(tie) = id(row.get(1)) {
                    reads.get(DECIDED.name, vec![Value::Id(work_id(sight.key, "merge", &[tie]))]);
                }
            }
        }
    }
    for tie in &says.ties {
        if let Some(family) = families.of(tie.old) {
            want_whole(sight, family, reads);
            reads.get(DECIDED.name, vec![Value::Id(work_id(sight.key, "merge", &[tie.id]))]);
        }
    }
}

/// Wants all of the family of a number.
pub fn needs_whole(sight: &Sight<'_>, number: Id, reads: &mut Reads) {
    if let Some(family) = sight.families.of(number) {
        want_whole(sight, family, reads);
    }
}

/// Wants what a mark on a number needs: a quarantined message, or one that is replaced.
pub fn needs_mark(sight: &Sight<'_>, number: Id, reads: &mut Reads) {
    let Some(family) = sight.families.of(number) else { return };
    want_number(sight, family, number, reads);
    reads.scan(board_of(number));
    sight.families.want(&TIE, family, &[], reads);
    sight.families.want(&CARRIER, family, &[], reads);
    let carriers = sight.families.rows(&CARRIER, family, &[], sight.have).unwrap_or_default();
    for other in carriers.iter().flat_map(|row| [id(row.get(1)), id(row.get(2))]).flatten() {
        sight.families.want_row(&NUMBER, family, &[Value::Id(other)], reads);
    }
    let ties = sight.families.rows(&TIE, family, &[], sight.have).unwrap_or_default();
    if !ties.is_empty() {
        for table in [&NUMBER, &CONTENT, &ENCOUNTER] {
            sight.families.want(table, family, &[], reads);
        }
        for number in ties.iter().flat_map(|row| [id(row.get(3)), id(row.get(4))]).flatten() {
            reads.scan(board_of(number));
        }
    }
}

fn want_number(sight: &Sight<'_>, family: Id, number: Id, reads: &mut Reads) {
    sight.families.want_row(&NUMBER, family, &[Value::Id(number)], reads);
    let person = [Value::Id(number), Value::Text(Part::Person.as_str().into())];
    sight.families.want_row(&CONTENT, family, &person, reads);
}

fn want_visit(sight: &Sight<'_>, family: Id, visit: Id, inferred: bool, reads: &mut Reads) {
    sight.families.want(&FACT, family, &[Value::Id(visit)], reads);
    let diagnoses = [Value::Id(visit), Value::Text(Part::Diagnoses.as_str().into())];
    sight.families.want_row(&CONTENT, family, &diagnoses, reads);
    if inferred {
        sight.families.want(&ENCOUNTER, family, &[], reads);
    } else {
        sight.families.want_row(&ENCOUNTER, family, &[Value::Id(visit)], reads);
        let row = sight.families.row(&ENCOUNTER, family, &[Value::Id(visit)], sight.have);
        if row.is_some_and(|row| marks_of(text(row.get(12))).contains(&Mark::DeleteAsked.id())) {
            reads.get(DECIDED.name, vec![Value::Id(work_id(sight.key, "closed-visit", &[visit]))]);
        }
    }
}

fn want_whole(sight: &Sight<'_>, family: Id, reads: &mut Reads) {
    for table in crate::tables::OF_FAMILY {
        sight.families.want(table, family, &[], reads);
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
