//! What a batch says: which heads it ties together, and what is heard of each family.

use std::collections::{BTreeMap, BTreeSet};

use hilum_chart::family::{Families, Head, Ties};
use hilum_chart::projection::Rows;
use hilum_core::{Id, InstallationKey, RecordId, Timestamp};
use hilum_engines::tables::Value;

use super::journey::{cell_id, cell_text};
use crate::decision::Decision;
use crate::facts::read::{Outcome, Reading, Says};
use crate::fold::ties::{Tie, TieKind};
use crate::kin::Heard;
use crate::order::{Instant, Precision, Stamp, Tie as Break};
use crate::tables::{MESSAGE, REPLACED, WORK};

/// The events of a batch with what is known of them.
pub(super) struct Work<'a> {
    pub(super) reading: &'a Reading,
    pub(super) says: Option<std::borrow::Cow<'a, Says>>,
}

/// What an operator decided, as what it says.
pub(super) fn decided(key: &InstallationKey, decision: &Decision, message: Id, at: Timestamp) -> Says {
    let (kind, old, new, at) = match decision {
        Decision::Merge { old, new, .. } => (TieKind::Merge, *old, *new, at),
        Decision::Unmerge { old, new, until, .. } => {
            // Behind the newest merge that it undoes.
            let behind = until.map_or(at, |until| at.max(until.plus_micros(1)));
            (TieKind::Unmerge, *old, *new, behind)
        }
        Decision::Identify { provisional, number, .. } => (TieKind::Identity, *provisional, *number, at),
        Decision::Settle { .. } | Decision::Settings { .. } => return Says::default(),
    };
    let time = Instant { at, precision: Precision::Fraction };
    let stamp = Stamp::new(Some(time), Break { sequence: 0, control: 0, rank: 91, message });
    let id = key.id("Tie", &[message.as_bytes()]);
    let tie = Tie { id, kind, old, new, moved: stamp, said: stamp, source: "operator".to_owned() };
    Says { ties: vec![tie], heads: vec![vec![Head::patient(old), Head::patient(new)]], ..Says::default() }
}

/// The patient whom a message names first: who is marked when it is not applied.
pub(super) fn named(reading: &Reading) -> Option<Id> {
    match &reading.outcome {
        Outcome::Says(says) => says.persons.first().map(|person| person.number),
        Outcome::Quarantined { number, .. } => number.as_ref().map(|number| number.id),
        Outcome::Nothing { .. } | Outcome::Refused(_) | Outcome::Decides(_) => None,
    }
}

/// A number by itself: what is rejected ties nothing.
pub(super) fn alone(number: Id) -> Ties {
    let mut ties = Ties::default();
    ties.tie([Head::patient(number)]);
    ties
}

/// What the batch ties together. The patient whom a replaced message names is among them.
pub(super) fn ties(works: &[Work<'_>], have: &Rows) -> Ties {
    let mut ties = Ties::default();
    let in_batch = replaced_in(works);
    for work in works {
        if let Some(number) = named(work.reading).filter(|_| {
            // Whatever it says, by whatever program: as if it had been set aside.
            replaced_by(work.reading.record, &in_batch, have).is_some()
        }) {
            ties.tie([Head::patient(number)]);
            continue;
        }
        for heads in work.says.iter().flat_map(|says| &says.heads) {
            ties.tie(heads.iter().copied());
        }
        if let Outcome::Quarantined { number: Some(number), .. } = &work.reading.outcome {
            ties.tie([Head::patient(number.id)]);
        }
        if let Some(number) = replaced(work.reading, have).and_then(|row| cell_id(&MESSAGE, row, "patient")) {
            ties.tie([Head::patient(number)]);
        }
        if let Some(number) = of_settled_merge(work.reading, have) {
            ties.tie([Head::patient(number)]);
        }
    }
    ties
}

/// A patient of the merge that an operator settles, where it is an item of work already: the family is folded again, for
/// its marks rest on what was decided. One that is none yet, as in a rebuild, is folded behind the decision.
pub(super) fn of_settled_merge(reading: &Reading, have: &Rows) -> Option<Id> {
    let Outcome::Decides(decision) = &reading.outcome else { return None };
    let Decision::Settle { work, .. } = decision.as_ref() else { return None };
    let row = &have.get(WORK.name, &[Value::Id(*work)])?.values;
    cell_id(&WORK, row, "left_patient").filter(|_| cell_text(&WORK, row, "kind") == "merge")
}

/// Records of the log that corrections of this batch replace, and by which.
pub(super) fn replaced_in(works: &[Work<'_>]) -> BTreeMap<Id, Id> {
    let mut replaced: BTreeMap<Id, Id> = BTreeMap::new();
    for reading in works.iter().map(|work| work.reading) {
        if let Some(record) = reading.replaces {
            let by = replaced.entry(record.as_id()).or_insert(reading.record.as_id());
            *by = (*by).min(reading.record.as_id());
        }
    }
    replaced
}

/// Work that operators decide about in this batch: what is folded in it knows.
pub(super) fn decided_in(works: &[Work<'_>]) -> BTreeSet<Id> {
    let about = |work: &Work<'_>| match &work.reading.outcome {
        Outcome::Decides(decision) => match decision.as_ref() {
            Decision::Settle { work, .. } => Some(*work),
            Decision::Merge { .. }
            | Decision::Unmerge { .. }
            | Decision::Identify { .. }
            | Decision::Settings { .. } => None,
        },
        Outcome::Nothing { .. } | Outcome::Refused(_) | Outcome::Quarantined { .. } | Outcome::Says(_) => {
            None
        }
    };
    works.iter().filter_map(about).collect()
}

/// What replaces a record, as far as it is known: of several the least.
pub(super) fn replaced_by(record: RecordId, in_batch: &BTreeMap<Id, Id>, have: &Rows) -> Option<Id> {
    let record = record.as_id();
    let row = have.get(REPLACED.name, &[Value::Id(record)]);
    let stored = row.and_then(|row| cell_id(&REPLACED, &row.values, "by"));
    stored.into_iter().chain(in_batch.get(&record).copied()).min()
}

/// What the batch says, family by family.
pub(super) fn heard<'w>(works: &'w [Work<'_>], families: &Families, have: &Rows) -> BTreeMap<Id, Heard<'w>> {
    let in_batch = replaced_in(works);
    let mut heard: BTreeMap<Id, Heard<'w>> = BTreeMap::new();
    for work in works {
        if let Outcome::Quarantined { number: Some(number), .. } = &work.reading.outcome
            && let Some(family) = families.of(number.id)
        {
            heard.entry(family).or_default().mark(number.id);
        }
        if let Some(row) = replaced(work.reading, have)
            && let Some(number) = cell_id(&MESSAGE, row, "patient")
            && let Some(family) = families.of(number)
        {
            let heard = heard.entry(family).or_default();
            heard.mark(number);
            if was_applied(row) {
                heard.take_back();
            }
        }
        if let Some(number) = of_settled_merge(work.reading, have)
            && let Some(family) = families.of(number)
        {
            heard.entry(family).or_default().mark(number);
        }
        let is_replaced = replaced_by(work.reading.record, &in_batch, have).is_some();
        let Some(says) = work.says.as_deref().filter(|_| !is_replaced) else { continue };
        for person in &says.persons {
            if let Some(family) = families.of(person.number) {
                heard.entry(family).or_default().person(person);
            }
        }
        for tie in &says.ties {
            if let Some(family) = families.of(tie.old) {
                heard.entry(family).or_default().tie(tie);
            }
        }
    }
    heard
}

/// Whether the message of a row had an effect: only what was set aside is corrected, but the log may say otherwise.
pub(super) fn was_applied(row: &[Value]) -> bool {
    !matches!(cell_text(&MESSAGE, row, "status"), "quarantined" | "refused" | "replaced")
}

/// The row of the message that this one corrects, if it came before.
pub(super) fn replaced<'h>(reading: &Reading, have: &'h Rows) -> Option<&'h [Value]> {
    let record = reading.replaces?;
    have.get(MESSAGE.name, &[Value::Id(record.as_id())]).map(|row| row.values.as_slice())
}
