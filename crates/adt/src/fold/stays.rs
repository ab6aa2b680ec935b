//! Visits without a number (rule 17): the facts of one person, cut into stays by class and begin.

use std::collections::BTreeSet;

use hilum_core::Timestamp;

use super::encounter::cancels;
use crate::facts::{Fact, Kind, Target};

/// The class that a fact says. A06 makes an inpatient and A07 an outpatient (rule 4: MSH-9.2 decides), also where PV1-2
/// is empty or still says what the patient was before: for A06 an outpatient, in the emergency department, or expected.
pub(super) fn class_of(fact: &Fact) -> &str {
    let said = fact.body.movement.class.value().map_or("", |class| class.code.as_str());
    match (said, fact.kind) {
        ("" | "O" | "R" | "AMB" | "E" | "EMER" | "P", Kind::ClassIn) => "I",
        ("" | "I" | "IMP", Kind::ClassOut) => "O",
        _ => said,
    }
}

/// Class and begin of a stay whose first fact this is: with the patient they make its id (rule 17).
pub(crate) fn named_by(fact: &Fact) -> (&str, &str) {
    let begin = match fact.body.movement.admitted.value() {
        Some(admitted) => admitted.as_str(),
        None => fact.body.when.as_ref().map_or("", |when| when.as_str()),
    };
    (class_of(fact), begin)
}

/// One stay in the making.
#[derive(Default)]
struct Stay<'a> {
    facts: Vec<&'a Fact>,
    /// Every class that it ever had: what comes late under an earlier one is still of this stay.
    classes: BTreeSet<&'a str>,
    class: &'a str,
    /// PV1-44, as it was ever said.
    begins: BTreeSet<Timestamp>,
    ended: bool,
}

impl<'a> Stay<'a> {
    fn may_be(&self, class: &str) -> bool {
        class.is_empty() || self.classes.is_empty() || self.classes.contains(class)
    }

    fn push(&mut self, fact: &'a Fact, is_taken_back: bool) {
        let class = class_of(fact);
        if !class.is_empty() {
            self.classes.insert(class);
            self.class = class;
        }
        self.begins.extend(fact.body.admitted);
        let is_end = matches!(fact.kind, Kind::Discharge | Kind::Continued | Kind::Cancel(Target::Visit));
        self.ended = is_end && !is_taken_back
            || self.ended && !begins(fact) && !matches!(fact.kind, Kind::Cancel(Target::Discharge));
        self.facts.push(fact);
    }
}

/// Whether the fact begins a stay, or announces one.
fn begins(fact: &Fact) -> bool {
    fact.kind.begins() || fact.kind.is_planned()
}

/// Cuts the facts of one person's visits without a number, in the order of movements, into stays. A class is a row of
/// stays of its own, for an inpatient may see a clinic. What begins after an end begins another one, unless it repeats
/// the begin (PV1-44) of an earlier one; a changed PV1-44 of an open stay makes no second one. A06 and A07 change the
/// class of an open stay.
pub(super) fn cut<'a>(sorted: &[&'a Fact]) -> Vec<Vec<&'a Fact>> {
    let taken_back = cancels(sorted, |cancel, target| {
        let (one, other) = (class_of(cancel), class_of(target));
        one.is_empty() || other.is_empty() || one == other
    });
    let mut stays: Vec<Stay<'_>> = Vec::new();
    for (at, &fact) in sorted.iter().enumerate() {
        let into = place_of(&stays, fact).unwrap_or_else(|| {
            stays.push(Stay::default());
            stays.len() - 1
        });
        if let Some(stay) = stays.get_mut(into) {
            stay.push(fact, taken_back.cancelled.contains(&at));
        }
    }
    stays.into_iter().map(|stay| stay.facts).collect()
}

/// The stay that a fact is of; `None` = another one.
fn place_of(stays: &[Stay<'_>], fact: &Fact) -> Option<usize> {
    let class = class_of(fact);
    let changes_class = matches!(fact.kind, Kind::ClassIn | Kind::ClassOut);
    if let Some(begin) = fact.body.admitted {
        let same = |stay: &Stay<'_>| stay.begins.contains(&begin) && (changes_class || stay.may_be(class));
        if let Some(stay) = stays.iter().position(same) {
            return Some(stay);
        }
    }
    if changes_class {
        let other = stays.iter().rposition(|stay| !stay.ended && stay.class != class);
        return other.or_else(|| stays.iter().rposition(|stay| !stay.ended));
    }
    let last = |is: &dyn Fn(&Stay<'_>) -> bool| stays.iter().rposition(is);
    let goes_on = |stay: &Stay<'_>| !stay.ended || !begins(fact);
    // One that says no class, or of which none is known, is taken for the open one.
    let is_vague = |stay: &Stay<'_>| class.is_empty() || stay.classes.is_empty();
    last(&|stay| !class.is_empty() && stay.class == class)
        .filter(|&at| stays.get(at).is_some_and(goes_on))
        .or_else(|| last(&|stay| !begins(fact) && stay.classes.contains(class)))
        .or_else(|| last(&|stay| !stay.ended && is_vague(stay)))
        .or_else(|| last(&|stay| !begins(fact) && is_vague(stay)))
}
