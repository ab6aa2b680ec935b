//! The room's projection: log records in, chart and board out, in one commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use hilum_chart::family::{Families, Head, Ties};
use hilum_chart::projection::{Changes, Projection, Reads, Rejected, Rows, Unreadable};
use hilum_core::{Clock, Digest, Id, InstallationKey, RecordId, Stream, Timestamp};
use hilum_engines::log::Record;
use hilum_engines::tables::{Outgoing, Table, Value};
use serde::{Deserialize, Serialize};

use crate::content::Finding;
use crate::decision::Decision;
use crate::facts::read::{self, Fault, Outcome, Reading, Says};
use crate::fold::ties::{Tie, TieKind};
use crate::kin::{self, Heard, Kin, Sight};
use crate::limits::{CONTROL_ID_REUSE_H, SEEN_MAX, VISIT_FACTS_MAX};
use crate::order::{Instant, Precision, Stamp, Tie as Break};
use crate::render;
use crate::routes::MESSAGE_TOPIC;
use crate::settings::SourceSettings;
use crate::tables::{self, BED, DECIDED, MESSAGE, REPLACED, SEEN, SETTINGS, WORK};
use crate::unreadable;

/// The ADT projection.
pub struct Adt {
    key: InstallationKey,
    clock: Clock,
    acked: Box<dyn Fn(RecordId) -> Option<Timestamp> + Send + Sync>,
    /// Settings by digest: immutable, so that it does not matter when they were heard of.
    settings: RwLock<HashMap<Digest, Arc<SourceSettings>>>,
    planted: Option<Planted>,
}

/// A fault that a test plants, to see that it is caught.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// Of two messages of one time the one that came first counts as the earlier one.
    TiesByArrival,
    /// The program fails on the message of this MSH-10.
    FailsOn(&'static str),
    /// A visit keeps so many facts.
    FewFacts(usize),
}

impl Adt {
    /// A projection with the installation's key. `clock` tells when a message was applied: it has no part in what is
    /// folded.
    pub fn new(key: InstallationKey, clock: Clock) -> Self {
        let this = Self { key, clock, acked: Box::new(|_| None), settings: RwLock::default(), planted: None };
        this.know(SourceSettings::default());
        this
    }

    /// With a memory of when records were acknowledged, for their journeys.
    #[must_use]
    pub fn acked_by(mut self, acked: impl Fn(RecordId) -> Option<Timestamp> + Send + Sync + 'static) -> Self {
        self.acked = Box::new(acked);
        self
    }

    /// With a planted fault.
    #[doc(hidden)]
    #[must_use]
    pub fn planted(mut self, planted: Planted) -> Self {
        self.planted = Some(planted);
        self
    }

    /// Makes settings known that envelopes may name.
    pub fn know(&self, settings: SourceSettings) {
        let mut known = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(settings.sha(), Arc::new(settings));
    }

    fn facts_max(&self) -> usize {
        match self.planted {
            Some(Planted::FewFacts(few)) => few,
            Some(Planted::TiesByArrival | Planted::FailsOn(_)) | None => VISIT_FACTS_MAX,
        }
    }

    fn settings(&self, sha: &Digest) -> Option<Arc<SourceSettings>> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).get(sha).cloned()
    }

    fn read(&self, record: &Record, settings: &SourceSettings) -> Reading {
        let arrival = (self.planted == Some(Planted::TiesByArrival)).then_some(record.position);
        read::read(record, &read::Context { settings, key: &self.key, arrival })
    }

    /// The event's reading, once the settings are known that its envelope names.
    fn reading<'e>(&self, event: &'e Event, have: &Rows) -> Option<&'e Reading> {
        if let Some(reading) = event.reading.get() {
            return Some(reading);
        }
        let sha = &event.record.envelope.settings_sha;
        let settings = if let Some(settings) = self.settings(sha) {
            settings
        } else {
            let key = settings_key(sha);
            if !have.has_read(SETTINGS.name, &key) {
                return None;
            }
            let stored = have.get(SETTINGS.name, &key).and_then(|row| match row.values.get(1) {
                Some(Value::Text(body)) => serde_json::from_str::<SourceSettings>(body).ok(),
                _ => None,
            });
            if let Some(settings) = &stored {
                self.know(settings.clone());
            } else {
                tracing::warn!(position = %event.record.position, "settings are not known: defaults are taken");
            }
            Arc::new(stored.unwrap_or_default())
        };
        Some(event.reading.get_or_init(|| self.read(&event.record, &settings)))
    }
}

fn settings_key(sha: &Digest) -> Vec<Value> {
    vec![Value::Bytes(bytes::Bytes::copy_from_slice(sha.as_bytes()))]
}

/// A log record, read as soon as its source's settings are known.
pub struct Event {
    record: Record,
    reading: OnceLock<Reading>,
}

/// What came under one sender and MSH-10.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Copy(Id, RecordId, Timestamp);

fn copies_of(have: &Rows, sender: Id) -> Vec<Copy> {
    let row = have.get(SEEN.name, &[Value::Id(sender)]);
    match row.and_then(|row| row.values.get(1)) {
        Some(Value::Text(copies)) => serde_json::from_str(copies).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn cell<'v>(table: &Table, values: &'v [Value], column: &str) -> Option<&'v Value> {
    table.column(column).and_then(|at| values.get(at))
}

fn cell_id(table: &Table, values: &[Value], column: &str) -> Option<Id> {
    match cell(table, values, column) {
        Some(Value::Id(id)) => Some(*id),
        _ => None,
    }
}

fn cell_text<'v>(table: &Table, values: &'v [Value], column: &str) -> &'v str {
    match cell(table, values, column) {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

/// What an operator decided, as what it says.
fn decided(key: &InstallationKey, decision: &Decision, message: Id, at: Timestamp) -> Says {
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

/// The events of a batch with what is known of them.
struct Work<'a> {
    reading: &'a Reading,
    says: Option<std::borrow::Cow<'a, Says>>,
}

impl Adt {
    fn says<'a>(&self, reading: &'a Reading) -> Option<std::borrow::Cow<'a, Says>> {
        match &reading.outcome {
            Outcome::Says(says) => Some(std::borrow::Cow::Borrowed(says)),
            Outcome::Decides(decision) => {
                Some(std::borrow::Cow::Owned(decided(&self.key, decision, reading.message, reading.received)))
            }
            Outcome::Nothing { .. } | Outcome::Refused(_) | Outcome::Quarantined { .. } => None,
        }
    }

    /// Patient and board with the mark of a message that could not be applied; `None` if rows are missing for that.
    fn marked(&self, number: Id, message: Id, have: &Rows) -> Option<Changes> {
        let families = alone(number).resolve(have)?;
        let family = families.of(number)?;
        let mut out = Changes::default();
        families.write(tables::OF_FAMILY, have, &mut out);
        let sight =
            Sight { key: &self.key, families: &families, have, lenient: true, facts_max: self.facts_max() };
        let mut kin = Kin::new(sight, family);
        kin.not_applied(number, message, true);
        let settled = kin.settle(&mut out);
        render::settled(&self.key, &settled, &mut out);
        kin.has_read_all().then_some(out)
    }

    fn works<'a>(&self, events: &'a [Event], have: &Rows) -> Vec<Work<'a>> {
        let read = |event: &'a Event| {
            let reading = self.reading(event, have)?;
            Some(Work { reading, says: self.says(reading) })
        };
        events.iter().filter_map(read).collect()
    }
}

/// The patient whom a message names first: who is marked when it is not applied.
fn named(reading: &Reading) -> Option<Id> {
    match &reading.outcome {
        Outcome::Says(says) => says.persons.first().map(|person| person.number),
        Outcome::Quarantined { number, .. } => number.as_ref().map(|number| number.id),
        Outcome::Nothing { .. } | Outcome::Refused(_) | Outcome::Decides(_) => None,
    }
}

/// A number by itself: what is rejected ties nothing.
fn alone(number: Id) -> Ties {
    let mut ties = Ties::default();
    ties.tie([Head::patient(number)]);
    ties
}

/// What the batch ties together. The patient whom a replaced message names is among them.
fn ties(works: &[Work<'_>], have: &Rows) -> Ties {
    let mut ties = Ties::default();
    for work in works {
        for heads in work.says.iter().flat_map(|says| &says.heads) {
            ties.tie(heads.iter().copied());
        }
        if let Outcome::Quarantined { number: Some(number), .. } = &work.reading.outcome {
            ties.tie([Head::patient(number.id)]);
        }
        if let Some(number) = replaced(work.reading, have).and_then(|row| cell_id(&MESSAGE, row, "patient")) {
            ties.tie([Head::patient(number)]);
        }
    }
    ties
}

/// Records of the log that corrections of this batch replace, and by which.
fn replaced_in(works: &[Work<'_>]) -> BTreeMap<Id, Id> {
    let pair = |work: &Work<'_>| Some((work.reading.replaces?.as_id(), work.reading.record.as_id()));
    works.iter().filter_map(pair).collect()
}

/// What replaces a record, as far as it is known.
fn replaced_by(reading: &Reading, in_batch: &BTreeMap<Id, Id>, have: &Rows) -> Option<Id> {
    let record = reading.record.as_id();
    in_batch.get(&record).copied().or_else(|| {
        let row = have.get(REPLACED.name, &[Value::Id(record)])?;
        cell_id(&REPLACED, &row.values, "by")
    })
}

/// What the batch says, family by family.
fn heard<'w>(works: &'w [Work<'_>], families: &Families, have: &Rows) -> BTreeMap<Id, Heard<'w>> {
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
        let is_replaced = replaced_by(work.reading, &in_batch, have).is_some();
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
fn was_applied(row: &[Value]) -> bool {
    !matches!(cell_text(&MESSAGE, row, "status"), "quarantined" | "refused" | "replaced")
}

/// The row of the message that this one corrects, if it came before.
fn replaced<'h>(reading: &Reading, have: &'h Rows) -> Option<&'h [Value]> {
    let record = reading.replaces?;
    have.get(MESSAGE.name, &[Value::Id(record.as_id())]).map(|row| row.values.as_slice())
}

impl Projection for Adt {
    const NAME: &'static str = "adt";
    const STREAMS: &'static [Stream] = &[Stream::Decisions, Stream::Hl7In];
    const TABLES: &'static [&'static Table] = tables::TABLES;
    // A journey tells what happened when: a visit without a number of its own has another id before a merge than
    // after it, and what a message changed is what it changed then.
    const NOT_COMPARED: &'static [(&'static str, &'static str)] = &[
        ("adt_message", "acked"),
        ("adt_message", "applied_at"),
        ("adt_message", "durable"),
        ("adt_message", "changed"),
        ("adt_message", "encounter"),
    ];
    type Event = Event;

    fn decode(&self, record: &Record) -> Event {
        let reading = OnceLock::new();
        if let Some(settings) = self.settings(&record.envelope.settings_sha) {
            reading.get_or_init(|| self.read(record, &settings));
        }
        Event { record: record.clone(), reading }
    }

    fn needs(&self, events: &[Event], have: &Rows, reads: &mut Reads) {
        for event in events {
            if self.reading(event, have).is_none() {
                reads.get(SETTINGS.name, settings_key(&event.record.envelope.settings_sha));
            }
        }
        let works = self.works(events, have);
        for work in &works {
            let reading = work.reading;
            if let Some(sender) = reading.sender {
                reads.get(SEEN.name, vec![Value::Id(sender)]);
                for copy in copies_of(have, sender) {
                    if is_reuse(reading, &copy) {
                        reads.get(MESSAGE.name, vec![Value::Id(copy.1.as_id())]);
                    }
                }
            }
            reads.get(REPLACED.name, vec![Value::Id(reading.record.as_id())]);
            if let Some(record) = reading.replaces {
                reads.get(MESSAGE.name, vec![Value::Id(record.as_id())]);
                reads.get(REPLACED.name, vec![Value::Id(record.as_id())]);
            }
            if let Outcome::Decides(decision) = &reading.outcome
                && let Decision::Settle { work, .. } = decision.as_ref()
            {
                reads.get(WORK.name, vec![Value::Id(*work)]);
            }
        }
        let tied = ties(&works, have);
        tied.needs(tables::OF_FAMILY, have, reads);
        let Some(families) = tied.resolve(have) else { return };
        let sight =
            Sight { key: &self.key, families: &families, have, lenient: false, facts_max: self.facts_max() };
        for (family, heard) in &heard(&works, &families, have) {
            kin::needs(&sight, *family, heard, reads);
        }
    }

    fn apply(&self, events: &[Event], have: &Rows, out: &mut Changes) -> Vec<Rejected> {
        let works = self.works(events, have);
        let Some(families) = ties(&works, have).resolve(have) else { return Vec::new() };
        families.write(tables::OF_FAMILY, have, out);
        let sight =
            Sight { key: &self.key, families: &families, have, lenient: false, facts_max: self.facts_max() };
        let mut batch = Apply {
            adt: self,
            sight,
            families: &families,
            have,
            kins: BTreeMap::new(),
            seen: BTreeMap::new(),
            replaced: replaced_in(&works),
            journeys: Vec::new(),
            rejected: Vec::new(),
        };
        for work in &works {
            batch.event(work, out);
        }
        batch.finish(out);
        batch.rejected
    }

    fn needs_rejected(&self, event: &Event, have: &Rows, reads: &mut Reads) {
        let Some(number) = self.reading(event, have).and_then(named) else { return };
        let tied = alone(number);
        tied.needs(tables::OF_FAMILY, have, reads);
        let Some(families) = tied.resolve(have) else { return };
        let sight =
            Sight { key: &self.key, families: &families, have, lenient: true, facts_max: self.facts_max() };
        if let Some(family) = families.of(number) {
            let mut heard = Heard::default();
            heard.mark(number);
            kin::needs(&sight, family, &heard, reads);
        }
    }

    fn reject(&self, event: &Event, rejected: &Rejected, have: &Rows, out: &mut Changes) {
        let fresh;
        let reading = if let Some(reading) = self.reading(event, have) {
            reading
        } else {
            fresh = self.read(&event.record, &SourceSettings::default());
            &fresh
        };
        let key = (MESSAGE.name, vec![Value::Id(reading.record.as_id())]);
        if out.rows.get(&key).is_some_and(Option::is_some) {
            return; // apply has told its journey already
        }
        let fault =
            Fault { rule: rejected.rule, path: rejected.path.clone(), text: "it could not be applied" };
        let patient = named(reading);
        let journey = Journey { patient, ..Journey::new(reading, "quarantined").with_fault(&fault) };
        if let Some(marked) = patient.and_then(|number| self.marked(number, reading.message, have)) {
            out.rows.extend(marked.rows);
            out.resources.extend(marked.resources);
            out.outbox.extend(marked.outbox);
        }
        out.put(&MESSAGE, journey.row(self, reading));
    }

    fn unreadable(&self, record: &Unreadable, out: &mut Changes) {
        unreadable::write(&self.key, &self.clock, record, out);
    }
}

/// The same id with other bytes, close enough in time to be told.
fn is_reuse(reading: &Reading, copy: &Copy) -> bool {
    copy.0 != reading.message
        && copy.2.micros_since(reading.received).abs() <= CONTROL_ID_REUSE_H * 3_600 * 1_000_000
}

/// One message's row in the making.
#[derive(Debug, Clone)]
struct Journey {
    status: &'static str,
    rule: Option<String>,
    path: Option<String>,
    findings: Vec<Finding>,
    changed: Vec<String>,
    patient: Option<Id>,
    encounter: Option<Id>,
    replaced_by: Option<Id>,
}

impl Journey {
    fn new(reading: &Reading, status: &'static str) -> Self {
        Self {
            status,
            rule: None,
            path: None,
            findings: reading.findings.clone(),
            changed: Vec::new(),
            patient: None,
            encounter: None,
            replaced_by: None,
        }
    }

    fn with_fault(mut self, fault: &Fault) -> Self {
        self.rule = Some(fault.rule.to_owned());
        self.path.clone_from(&fault.path);
        self.findings.push(Finding {
            rule: fault.rule.into(),
            path: fault.path.clone().unwrap_or_default(),
            text: fault.text.into(),
        });
        self
    }

    fn row(&self, adt: &Adt, reading: &Reading) -> Vec<Value> {
        let text = |text: &str| Value::Text(text.to_owned());
        let optional = |value: &Option<String>| value.clone().map_or(Value::Null, Value::Text);
        let id = |id: Option<Id>| id.map_or(Value::Null, Value::Id);
        let time = |at: Option<Timestamp>| at.map_or(Value::Null, Value::Time);
        let json = |value: serde_json::Result<String>| Value::Text(value.unwrap_or_default());
        vec![
            Value::Id(reading.record.as_id()),
            Value::Int(i64::from(reading.position.partition)),
            Value::Int(reading.position.offset as i64),
            text(&reading.source),
            Value::Time(reading.received),
            time(reading.durable),
            time((adt.acked)(reading.record)),
            Value::Time(adt.clock.now()),
            tables::indexed(&reading.control_id),
            tables::indexed(&reading.kind),
            text(self.status),
            optional(&self.rule),
            optional(&self.path),
            json(serde_json::to_string(&self.findings)),
            text(&reading.charset_rule),
            text(&reading.ack),
            json(serde_json::to_string(&self.changed)),
            id(self.patient),
            id(self.encounter),
            id(reading.replaces.map(|record| record.as_id())),
            id(self.replaced_by),
            Value::Int(reading.size_bytes as i64),
            Value::ThisCommit,
            Value::Id(reading.message),
        ]
    }
}

struct Apply<'a> {
    adt: &'a Adt,
    sight: Sight<'a>,
    families: &'a Families,
    have: &'a Rows,
    kins: BTreeMap<Id, Box<Kin<'a>>>,
    seen: BTreeMap<Id, Vec<Copy>>,
    /// Rows of messages that corrections of this batch replace.
    replaced: BTreeMap<Id, Id>,
    journeys: Vec<(&'a Reading, Journey, Vec<Id>)>,
    rejected: Vec<Rejected>,
}

impl<'a> Apply<'a> {
    fn kin(&mut self, head: Id) -> Option<&mut Kin<'a>> {
        let family = self.families.of(head)?;
        let sight = self.sight;
        Some(self.kins.entry(family).or_insert_with(|| Box::new(Kin::new(sight, family))))
    }

    fn event(&mut self, work: &Work<'a>, out: &mut Changes) {
        let reading = work.reading;
        if let Some(Planted::FailsOn(control)) = self.adt.planted {
            assert!(control != reading.control_id, "planted");
        }
        let replaced_by = replaced_by(reading, &self.replaced, self.have);
        let is_copy = self.see(reading, replaced_by, out);
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
    fn see(&mut self, reading: &'a Reading, replaced_by: Option<Id>, out: &mut Changes) -> bool {
        let Some(sender) = reading.sender else { return false };
        let have = self.have;
        let copies = self.seen.entry(sender).or_insert_with(|| copies_of(have, sender));
        if let Some(copy) = copies.iter().find(|copy| copy.0 == reading.message) {
            return copy.1 != reading.record;
        }
        // A correction keeps the id of what it corrects: that is no reuse.
        let is_correction =
            |copy: &Copy| reading.replaces == Some(copy.1) || replaced_by == Some(copy.1.as_id());
        let is_reuse = |copy: &&Copy| is_reuse(reading, copy) && !is_correction(copy);
        let reused: Vec<Copy> = copies.iter().filter(is_reuse).cloned().collect();
        copies.push(Copy(reading.message, reading.record, reading.received));
        copies.sort_by_key(|copy| (copy.2, copy.1));
        if copies.len() > SEEN_MAX {
            copies.remove(0);
        }
        let text = serde_json::to_string(&copies).unwrap_or_default();
        out.put(&SEEN, vec![Value::Id(sender), Value::Text(text)]);
        for copy in reused {
            self.flag_reuse(reading, &copy, out);
        }
        false
    }

    /// Both messages say that their id was used twice, whichever was read first.
    fn flag_reuse(&mut self, reading: &'a Reading, copy: &Copy, out: &mut Changes) {
        let finding = || Finding {
            rule: "control-id.reused".into(),
            path: "MSH-10".to_owned(),
            text: "another message came under the same control id".into(),
        };
        self.journeys.push((
            reading,
            Journey { findings: vec![finding()], ..Journey::new(reading, "reused") },
            Vec::new(),
        ));
        let earlier = self
            .journeys
            .iter_mut()
            .find(|(other, journey, _)| other.record == copy.1 && journey.status != "reused");
        if let Some((_, journey, _)) = earlier {
            add_finding(&mut journey.findings, finding());
            if journey.status == "applied" {
                journey.status = "findings";
            }
            return;
        }
        let Some(row) = self.have.get(MESSAGE.name, &[Value::Id(copy.1.as_id())]) else { return };
        let mut values = row.values.clone();
        let mut findings: Vec<Finding> =
            serde_json::from_str(cell_text(&MESSAGE, &values, "findings")).unwrap_or_default();
        add_finding(&mut findings, finding());
        let status = cell_text(&MESSAGE, &values, "status");
        let status = if status == "applied" { "findings" } else { status }.to_owned();
        set(&mut values, "findings", Value::Text(serde_json::to_string(&findings).unwrap_or_default()));
        set(&mut values, "status", Value::Text(status));
        out.put(&MESSAGE, values);
    }

    /// What this record replaces is marked, and has no effect any more.
    fn correct(&mut self, reading: &'a Reading, out: &mut Changes) {
        let Some(record) = reading.replaces else { return };
        let record = record.as_id();
        out.put(&REPLACED, vec![Value::Id(record), Value::Id(reading.record.as_id())]);
        // One of this batch is not said at all.
        let Some(row) = self.have.get(MESSAGE.name, &[Value::Id(record)]) else { return };
        let mut values = row.values.clone();
        let (number, message) = (cell_id(&MESSAGE, &values, "patient"), cell_id(&MESSAGE, &values, "effect"));
        let was_applied = was_applied(&values);
        set(&mut values, "status", Value::Text("replaced".to_owned()));
        set(&mut values, "replaced_by", Value::Id(reading.record.as_id()));
        out.put(&MESSAGE, values);
        if let (Some(number), Some(message)) = (number, message)
            && let Some(kin) = self.kin(number)
        {
            kin.not_applied(number, message, false);
            if was_applied {
                kin.take_back(message);
            }
        }
    }

    fn decide(&mut self, reading: &Reading, decision: &Decision, out: &mut Changes) {
        match decision {
            Decision::Settings { settings, .. } => {
                let mut values = settings_key(&settings.sha());
                values.push(Value::Text(settings.canonical()));
                out.put(&SETTINGS, values);
                self.adt.know(settings.as_ref().clone());
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

    fn finish(&mut self, out: &mut Changes) {
        let mut of_visit: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
        for kin in self.kins.values_mut() {
            let settled = kin.settle(out);
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
        let mut reused: BTreeSet<RecordId> = BTreeSet::new();
        for (reading, journey, _) in &self.journeys {
            if journey.status == "reused" {
                reused.insert(reading.record);
            }
        }
        for (reading, journey, visits) in std::mem::take(&mut self.journeys) {
            if journey.status == "reused" {
                continue;
            }
            let mut journey = journey;
            if reused.contains(&reading.record) {
                add_finding(
                    &mut journey.findings,
                    Finding {
                        rule: "control-id.reused".into(),
                        path: "MSH-10".to_owned(),
                        text: "another message came under the same control id".into(),
                    },
                );
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
            out.put(&MESSAGE, journey.row(self.adt, reading));
        }
    }
}

fn add_finding(findings: &mut Vec<Finding>, finding: Finding) {
    if !findings.contains(&finding) {
        findings.push(finding);
    }
}

fn set(values: &mut [Value], column: &str, value: Value) {
    if let Some(cell) = MESSAGE.column(column).and_then(|at| values.get_mut(at)) {
        *cell = value;
    }
}
