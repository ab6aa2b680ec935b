//! The room's projection: log records in, chart and board out, in one commit.

mod apply;
mod batch;
mod journey;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use futures::future::BoxFuture;
use hilum_chart::family::Families;
use hilum_chart::index::{Indexer, Unsearched};
use hilum_chart::projection::{Changes, Projection, Reads, Rejected, Rows, Unreadable};
use hilum_core::{Clock, ContentType, Digest, Id, InstallationKey, RecordId, Stream, Timestamp};
use hilum_engines::log::{Log, LogError, Record};
use hilum_engines::tables::{Table, Value};
use hilum_fhir::json::Json;

use self::apply::Apply;
use self::batch::{Work, alone, decided, decided_in, heard, named, replaced_in, ties};
use self::journey::{Journey, copies_of, is_reuse};
use crate::announce;
use crate::decision::Decision;
use crate::facts::read::{self, Fault, Outcome, Reading, Says};
use crate::kin::{self, Heard, Kin, Sight};
use crate::limits::{LOST_SETTINGS_MAX, VISIT_FACTS_MAX};
use crate::render;
use crate::settings::SourceSettings;
use crate::tables::{self, MESSAGE, REPLACED, SEEN, SETTINGS, WORK};
use crate::unreadable;

/// The ADT projection.
pub struct Adt {
    key: InstallationKey,
    clock: Clock,
    acked: Box<dyn Fn(RecordId) -> Option<Timestamp> + Send + Sync>,
    /// Settings by digest: immutable, so that it does not matter when they were heard of.
    settings: RwLock<HashMap<Digest, Arc<SourceSettings>>>,
    /// Digests of settings that the log does not hold, though it was looked through for them.
    lost: Mutex<HashSet<Digest>>,
    indexer: Option<Arc<Indexer>>,
    planted: Option<Planted>,
}

/// What a search may not find of a Patient: what is left out where the mother or a next of kin is withheld. That is known of
/// her own record alone, which no commit of this one reads.
pub(crate) const PATIENT_UNSEARCHED: &[&str] = &[
    "_source",
    "address",
    "address-city",
    "address-country",
    "address-postalcode",
    "address-state",
    "address-use",
    "email",
    "link",
    "phone",
    "telecom",
];

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
        let (settings, lost) = (RwLock::default(), Mutex::default());
        let this =
            Self { key, clock, acked: Box::new(|_| None), settings, lost, indexer: None, planted: None };
        let settings = SourceSettings::default();
        this.know(settings.sha(), settings);
        this
    }

    /// With a memory of when records were acknowledged, for their journeys.
    #[must_use]
    pub fn acked_by(mut self, acked: impl Fn(RecordId) -> Option<Timestamp> + Send + Sync + 'static) -> Self {
        self.acked = Box::new(acked);
        self
    }

    /// With what makes its resources found by searches.
    #[must_use]
    pub fn indexed_by(mut self, indexer: Arc<Indexer>) -> Self {
        self.indexer = Some(indexer);
        self
    }

    /// With a planted fault.
    #[doc(hidden)]
    #[must_use]
    pub fn planted(mut self, planted: Planted) -> Self {
        self.planted = Some(planted);
        self
    }

    /// Makes settings known that envelopes name by `sha`: the digest of what was written down at their time, which is
    /// not that of what this program would write.
    pub fn know(&self, sha: Digest, settings: SourceSettings) {
        let mut known = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(sha, Arc::new(settings));
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
            match stored {
                Some(settings) => {
                    self.know(*sha, settings.clone());
                    Arc::new(settings)
                }
                // A decision needs none.
                None if event.record.envelope.content_type == ContentType::Decision => Arc::default(),
                None => {
                    tracing::error!(position = %event.record.position, "the settings of its source are not known");
                    let settings = SourceSettings::default();
                    let context = read::Context { settings: &settings, key: &self.key, arrival: None };
                    let fault =
                        Fault::new("settings.unknown", "its source's settings of that time are not known");
                    return Some(
                        event.reading.get_or_init(|| read::set_aside(&event.record, &context, fault)),
                    );
                }
            }
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

    fn sight<'a>(
        &'a self,
        families: &'a Families,
        have: &'a Rows,
        decided: &'a BTreeSet<Id>,
        lenient: bool,
    ) -> Sight<'a> {
        Sight { key: &self.key, families, have, lenient, decided, facts_max: self.facts_max() }
    }

    /// Patient and board with the mark of a message that could not be applied; `None` if rows are missing for that.
    fn marked(&self, number: Id, message: Id, have: &Rows) -> Option<Changes> {
        let (families, decided) = (alone(number).resolve(have)?, BTreeSet::new());
        let family = families.of(number)?;
        let mut out = Changes::default();
        families.write(tables::OF_FAMILY, have, &mut out);
        let sight = self.sight(&families, have, &decided, true);
        let mut kin = Kin::new(sight, family);
        kin.not_applied(number, message, true);
        let settled = kin.settle(&mut out);
        render::settled(&self.key, &settled, &mut out);
        (kin.has_read_all() && kin.unreadable().is_none()).then_some(out)
    }

    /// As [`Adt::marked`] where a row is broken that the mark rests on: on the board alone, for whoever looks there.
    /// A rebuild makes the broken row anew, and the board with it.
    fn marked_on_board(&self, number: Id, have: &Rows) -> Option<Changes> {
        let (families, decided) = (alone(number).resolve(have)?, BTreeSet::new());
        let family = families.of(number)?;
        let mut out = Changes::default();
        families.write(tables::OF_FAMILY, have, &mut out);
        kin::mark_on_board(&self.sight(&families, have, &decided, true), family, number, &mut out);
        Some(out)
    }

    fn works<'a>(&self, events: &'a [Event], have: &Rows) -> Vec<Work<'a>> {
        let read = |event: &'a Event| {
            let reading = self.reading(event, have)?;
            Some(Work { reading, says: self.says(reading) })
        };
        events.iter().filter_map(read).collect()
    }
}

impl Projection for Adt {
    const NAME: &'static str = "adt";
    const FORM: i64 = tables::FORM;
    const FORESEES: bool = true;
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

    fn indexer(&self) -> Option<Arc<Indexer>> {
        self.indexer.clone()
    }

    /// What a reader may not see depends on others; it cannot be found then either. `_source` is a column of the chart.
    fn unsearched(resource: &Json<'_>) -> Unsearched {
        match resource.get("resourceType").and_then(Json::as_str) {
            Some("Patient") => Unsearched::By(PATIENT_UNSEARCHED),
            Some("RelatedPerson") => Unsearched::All,
            _ => Unsearched::By(&["_source"]),
        }
    }

    /// The settings that a door of another process wrote down since this one started.
    fn prepare<'a>(&'a self, log: &'a Log, records: &'a [Record]) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(async move {
            let is_unknown = |sha: &Digest| {
                self.settings(sha).is_none()
                    && !self.lost.lock().unwrap_or_else(PoisonError::into_inner).contains(sha)
            };
            let messages =
                records.iter().filter(|record| record.envelope.content_type != ContentType::Decision);
            let unknown: BTreeSet<Digest> =
                messages.map(|record| record.envelope.settings_sha).filter(is_unknown).collect();
            if unknown.is_empty() {
                return Ok(());
            }
            for (sha, settings) in announce::known(log).await? {
                self.know(sha, settings);
            }
            let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
            if lost.len() < LOST_SETTINGS_MAX {
                lost.extend(unknown.into_iter().filter(|sha| self.settings(sha).is_none()));
            }
            Ok(())
        })
    }

    fn decode(&self, record: &Record) -> Event {
        let reading = OnceLock::new();
        if let Some(settings) = self.settings(&record.envelope.settings_sha) {
            reading.get_or_init(|| self.read(record, &settings));
        }
        Event { record: record.clone(), reading }
    }

    fn foresee(&self, record: &Record, out: &mut Changes) {
        let Some(replaced) = record.envelope.replaces else { return };
        let (replaced, by) = (Value::Id(replaced.as_id()), Value::Id(record.envelope.id.as_id()));
        // Of several the least, as `correct` keeps it.
        let other = out.rows.get(&(REPLACED.name, vec![replaced.clone()])).and_then(Option::as_ref);
        if other.and_then(|row| row.get(1)).is_none_or(|other| by < *other) {
            out.put(&REPLACED, vec![replaced, by]);
        }
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
                for copy in copies_of(have, sender).unwrap_or_default() {
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
        let decided = BTreeSet::new();
        let sight = self.sight(&families, have, &decided, false);
        for (family, heard) in &heard(&works, &families, have) {
            kin::needs(&sight, *family, heard, reads);
        }
    }

    fn apply(&self, events: &[Event], have: &Rows, out: &mut Changes) -> Vec<Rejected> {
        let works = self.works(events, have);
        let Some(families) = ties(&works, have).resolve(have) else { return Vec::new() };
        families.write(tables::OF_FAMILY, have, out);
        let decided = decided_in(&works);
        let sight = self.sight(&families, have, &decided, false);
        let mut batch = Apply {
            adt: self,
            sight,
            families: &families,
            have,
            kins: BTreeMap::new(),
            seen: BTreeMap::new(),
            replaced: replaced_in(&works),
            reused: BTreeSet::new(),
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
        let decided = BTreeSet::new();
        let sight = self.sight(&families, have, &decided, true);
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
        let marked = patient.and_then(|number| {
            self.marked(number, reading.message, have).or_else(|| self.marked_on_board(number, have))
        });
        if let Some(marked) = marked {
            out.rows.extend(marked.rows);
            out.resources.extend(marked.resources);
            out.outbox.extend(marked.outbox);
        }
        journey.put(self, reading, out);
    }

    fn unreadable(&self, record: &Unreadable, out: &mut Changes) {
        unreadable::write(&self.key, &self.clock, record, out);
    }
}
