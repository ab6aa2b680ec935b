//! A batch, applied: each message to its families, then what follows.

use std::collections::{BTreeMap, BTreeSet};

use hilum_chart::family::Families;
use hilum_chart::projection::{Changes, Rejected, Rows};
use hilum_core::{Id, RecordId};
use hilum_engines::tables::{Outgoing, Value};

use super::batch::{Work, of_settled_merge, replaced_by, was_applied};
use super::journey::{Copy, Journey, add_finding, cell_id, cell_text, copies_of, is_reuse, reused, set};
use super::{Adt, Planted, settings_key};
use crate::content::Finding;
use crate::decision::Decision;
use crate::facts::read::{Outcome, Reading, Says};
use crate::kin::{Kin, Sight};
use crate::limits::SEEN_MAX;
use crate::render;
use crate::routes::MESSAGE_TOPIC;
use crate::tables::{self, BED, DECIDED, MESSAGE, REPLACED, SEEN, SETTINGS, WORK};

pub(super) struct Apply<'a> {
    pub(super) adt: &'a Adt,
    pub(super) sight: Sight<'a>,
    pub(super) families: &'a Families,
    pub(super) have: &'a Rows,
    pub(super) kins: BTreeMap<Id, Box<Kin<'a>>>,
    pub(super) seen: BTreeMap<Id, Vec<Copy>>,
    /// Rows of messages that corrections of this batch replace.
    pub(super) replaced: BTreeMap<Id, Id>,
    /// Records whose MSH-10 came with other bytes as well.
    pub(super) reused: BTreeSet<RecordId>,
    pub(super) journeys: Vec<(&'a Reading, Journey, Vec<Id>)>,
    pub(super) rejected: Vec<Rejected>,
}

impl<'a> Apply<'a> {
    fn kin(&mut self, head: Id) -> Option<&mut Kin<'a>> {
        let family = self.families.of(head)?;
        let sight = self.sight;
        Some(self.kins.entry(family).or_insert_with(|| Box::new(Kin::new(sight, family))))
    }

    pub(super) fn event(&mut self, work: &Work<'a>, out: &mut Changes) {
        let reading = work.reading;
        if let Some(Planted::FailsOn(control)) = self.adt.planted {
            assert!(control != reading.control_id, "planted");
        }
        let replaced_by = replaced_by(reading.record, &self.replaced, self.have);
        let is_copy = self.see(reading, out);
        self.correct(reading, out);
        let mut visits = Vec::new();
        let mut journey = match &reading.outcome {
            outcome if replaced_by.is_some() => {
                // A copy of it may have come before, and set the mark.
                if let Outcome::Quarantined { number: Some(number), .. } = outcome
                    && let Some(kin) = self.kin(number.id)
                {
                    kin.not_applied(number.id, reading.message, false);
                }
                // Why it was set aside stands in its row, whether its correction came with it or later.
                let journey = Journey { replaced_by, ..Journey::new(reading, "replaced") };
                match outcome {
                    Outcome::Refused(fault) => journey.with_fault(fault),
                    Outcome::Quarantined { fault, number } => {
                        let patient = number.as_ref().map(|number| number.id);
                        Journey { patient, ..journey.with_fault(fault) }
                    }
                    Outcome::Nothing { .. } | Outcome::Says(_) | Outcome::Decides(_) => journey,
                }
            }
            Outcome::Refused(fault) => Journey::new(reading, "refused").with_fault(fault),
            Outcome::Quarantined { fault, number } => {
                if let Some(number) = number.as_ref().filter(|_| !is_copy)
                    && let Some(kin) = self.kin(number.id)
                {
                    kin.not_applied(number.id, reading.message, true);
                }
                self.rejected.push(Rejected {
                    position: reading.position,
                    rule: fault.rule,
                    path: fault.path.clone(),
                    text: fault.text.to_owned(),
                });
                let patient = number.as_ref().map(|number| number.id);
                Journey { patient, ..Journey::new(reading, "quarantined").with_fault(fault) }
            }
            Outcome::Nothing { rule } => Journey {
                rule: (*rule != "no-effect").then(|| (*rule).to_owned()),
                ..Journey::new(reading, "no-effect")
            },
            Outcome::Says(_) | Outcome::Decides(_) => {
                let status = if reading.findings.is_empty() { "applied" } else { "findings" };
                let mut journey = Journey::new(reading, status);
                if let Outcome::Decides(decision) = &reading.outcome {
                    self.decide(reading, decision, out);
                }
                if let Some(says) = &work.says {
                    self.say(reading, says, is_copy, &mut journey, &mut visits, out);
                }
                journey
            }
        };
        if is_copy && journey.status != "replaced" {
            journey.status = "duplicate";
        }
        self.journeys.push((reading, journey, visits));
    }

    /// Whether this is a copy of what came before; tells the same id with other bytes.
    fn see(&mut self, reading: &'a Reading, out: &mut Changes) -> bool {
        let Some(sender) = reading.sender else { return false };
        let have = self.have;
        let copies = self.seen.entry(sender).or_insert_with(|| {
            copies_of(have, sender).unwrap_or_else(|| {
                out.unreadable = Some(SEEN.name);
                Vec::new()
            })
        });
        if let Some(copy) = copies.iter().find(|copy| copy.0 == reading.message) {
            // An operator who replays a message as it was wants the effect that it did not have.
            return copy.1 != reading.record && reading.replaces.is_none();
        }
        let reused: Vec<Copy> = copies.iter().filter(|copy| is_reuse(reading, copy)).cloned().collect();
        copies.push(Copy(reading.message, reading.record, reading.received, reading.replaces.is_some()));
        copies.sort_by_key(|copy| (copy.2, copy.1));
        if copies.len() > SEEN_MAX {
            copies.remove(0);
        }
        let text = serde_json::to_string(&copies).unwrap_or_default();
        out.put(&SEEN, vec![Value::Id(sender), Value::Text(text)]);
        for copy in reused {
            self.reused.extend([reading.record, copy.1]);
            self.flag_stored(&copy, out);
        }
        false
    }

    /// The row of a message that was applied before, with what this batch changed of it.
    fn stored(&self, record: Id, out: &Changes) -> Option<Vec<Value>> {
        let key = vec![Value::Id(record)];
        let row = self.have.get(MESSAGE.name, &key)?;
        let changed = out.rows.get(&(MESSAGE.name, key)).and_then(Option::as_ref);
        Some(changed.unwrap_or(&row.values).clone())
    }

    /// A message that was applied before says as well that its id was used twice.
    fn flag_stored(&self, copy: &Copy, out: &mut Changes) {
        let Some(mut values) = self.stored(copy.1.as_id(), out) else { return };
        let findings = serde_json::from_str(cell_text(&MESSAGE, &values, "findings"));
        let Ok::<Vec<Finding>, _>(mut findings) = findings else { return };
        add_finding(&mut findings, reused());
        let status = cell_text(&MESSAGE, &values, "status");
        let status = if status == "applied" { "findings" } else { status }.to_owned();
        set(&mut values, "findings", Value::Text(serde_json::to_string(&findings).unwrap_or_default()));
        set(&mut values, "status", Value::Text(status));
        out.put(&MESSAGE, values);
    }

    /// What this record replaces is marked, and has no effect any more.
    fn correct(&mut self, reading: &'a Reading, out: &mut Changes) {
        let Some(record) = reading.replaces else { return };
        // Of two corrections the least record is named, whichever was read first.
        let Some(by) = replaced_by(record, &self.replaced, self.have) else { return };
        let record = record.as_id();
        out.put(&REPLACED, vec![Value::Id(record), Value::Id(by)]);
        // One of this batch is not said at all.
        let Some(mut values) = self.stored(record, out) else { return };
        let (number, message) = (cell_id(&MESSAGE, &values, "patient"), cell_id(&MESSAGE, &values, "effect"));
        let was_applied = was_applied(&values);
        set(&mut values, "status", Value::Text("replaced".to_owned()));
        set(&mut values, "replaced_by", Value::Id(by));
        out.put(&MESSAGE, values);
        if let (Some(number), Some(message)) = (number, message)
            && let Some(kin) = self.kin(number)
        {
            kin.not_applied(number, message, false);
            if was_applied {
                // No door makes such a correction, and `foresee` keeps it from a fold that begins anew. What stands in
                // registers cannot be taken out of them here.
                tracing::error!(position = %reading.position, "it corrects a message that was applied: rebuild the census");
                kin.take_back(message);
            }
        }
    }

    fn decide(&mut self, reading: &Reading, decision: &Decision, out: &mut Changes) {
        match decision {
            Decision::Settings { settings, .. } => {
                let mut values = settings_key(&reading.settings_sha);
                values.push(Value::Text(settings.canonical()));
                out.put(&SETTINGS, values);
                self.adt.know(reading.settings_sha, settings.as_ref().clone());
            }
            Decision::Settle { work, by, note } => {
                let at = Value::Time(reading.received);
                out.put(
                    &DECIDED,
                    vec![Value::Id(*work), Value::Text(by.clone()), at, Value::Text(note.clone())],
                );
                if let Some(row) = self.have.get(WORK.name, &[Value::Id(*work)]) {
                    let mut values = row.values.clone();
                    for (column, value) in
                        [("state", Value::Text("decided".to_owned())), ("t", Value::ThisCommit)]
                    {
                        if let Some(cell) = WORK.column(column).and_then(|at| values.get_mut(at)) {
                            *cell = value;
                        }
                    }
                    out.put(&WORK, values);
                }
                if let Some(number) = of_settled_merge(reading, self.have)
                    && let Some(kin) = self.kin(number)
                {
                    kin.look_again(number);
                }
            }
            Decision::Merge { .. } | Decision::Unmerge { .. } | Decision::Identify { .. } => {}
        }
    }

    fn say(
        &mut self,
        reading: &'a Reading,
        says: &Says,
        is_copy: bool,
        journey: &mut Journey,
        visits: &mut Vec<Id>,
        out: &mut Changes,
    ) {
        journey.patient =
            says.persons.first().map(|person| person.number).or(says.ties.first().map(|tie| tie.new));
        visits.extend(says.persons.iter().flat_map(|person| person.facts.iter().map(|(visit, _)| visit.id)));
        if is_copy {
            return;
        }
        for person in &says.persons {
            render::named(&self.adt.key, person, reading.message, out);
            journey.changed.push(format!("Patient/{}", person.number));
            if let Some(kin) = self.kin(person.number) {
                kin.say(person, &reading.source);
            }
        }
        for number in &says.named {
            journey.changed.push(format!("Patient/{}", number.id));
            if let Some(kin) = self.kin(number.id) {
                kin.name(number.id, &number.identifier);
            }
        }
        for tie in &says.ties {
            if let Some(kin) = self.kin(tie.old) {
                kin.tie(tie);
            }
        }
        for bed in &says.beds {
            let place = &bed.place;
            out.register(
                &BED,
                vec![
                    tables::indexed(&place.facility),
                    tables::indexed(&place.unit),
                    tables::indexed(&place.room),
                    tables::indexed(&place.bed),
                    tables::indexed(&bed.status),
                    Value::Bytes(bytes::Bytes::copy_from_slice(bed.said.as_bytes())),
                    Value::Id(reading.message),
                ],
            );
        }
    }

    pub(super) fn finish(&mut self, out: &mut Changes) {
        let mut of_visit: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
        // One by one: a family that is settled needs no memory any more.
        while let Some((_, mut kin)) = self.kins.pop_first() {
            let settled = kin.settle(out);
            if let Some(table) = kin.unreadable() {
                out.unreadable = Some(table);
                return;
            }
            of_visit.extend(settled.of_visit.clone());
            render::settled(&self.adt.key, &settled, out);
        }
        // One entry a commit: who watches the list of messages reads it again.
        if let Some((reading, _, _)) = self.journeys.last() {
            out.outbox.push(Outgoing {
                topic: MESSAGE_TOPIC,
                key: reading.record.as_id(),
                body: bytes::Bytes::from_static(b"{}"),
            });
        }
        for (reading, mut journey, visits) in std::mem::take(&mut self.journeys) {
            if self.reused.contains(&reading.record) {
                add_finding(&mut journey.findings, reused());
                if journey.status == "applied" {
                    journey.status = "findings";
                }
            }
            let encounters: Vec<Id> = visits
                .iter()
                .flat_map(|visit| of_visit.get(visit).cloned().unwrap_or_else(|| vec![*visit]))
                .collect();
            journey.encounter =
                encounters.last().copied().filter(|_| visits.len() == 1).or(encounters.first().copied());
            if journey.status != "duplicate" {
                journey.changed.extend(encounters.iter().map(|encounter| format!("Encounter/{encounter}")));
            }
            journey.put(self.adt, reading, out);
        }
    }
}
