//! Who takes messages in, and how the sources do over all of them: of this process alone, or of every gateway that
//! shares its tables.

use std::sync::Arc;

use hilum_chart::Presence;
use hilum_chart::presence::{Process, Seen};
use hilum_core::Timestamp;
use hilum_engines::tables::{Read, Row, Scan, Tables, TablesError, Value};

use crate::sources::{SourceReport, SourceState, Sources, summed};
use crate::tables::MESSAGE;
use crate::view::messages::DECISION_KIND;

/// What a process that is there for messages is called among its roles.
pub const GATEWAY: &str = "gateway";

/// One gateway, as it says of itself.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// The process.
    pub process: Process,
    /// Whether it still reports.
    pub is_there: bool,
    /// What it says of its sources; empty where that cannot be read.
    pub reports: Vec<SourceReport>,
}

/// The gateways of the installation, as this process sees them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateways {
    sources: Arc<Sources>,
    /// Whether this process is one.
    is_here: bool,
    presence: Option<Arc<Presence>>,
}

/// Rows of a source that are looked at for its newest message.
const REMEMBERED_ROWS: u32 = 200;

impl Gateways {
    /// This process is the only one.
    pub const fn alone(sources: Arc<Sources>) -> Self {
        Self { sources, is_here: true, presence: None }
    }

    /// Others are told of by `presence`; `is_here` = this one takes messages in too.
    pub const fn among(sources: Arc<Sources>, is_here: bool, presence: Arc<Presence>) -> Self {
        Self { sources, is_here, presence: Some(presence) }
    }

    /// Who is there; absent where this process is the only one.
    pub fn presence(&self) -> Option<&Arc<Presence>> {
        self.presence.as_ref()
    }

    /// What this process says of its own doors, as others read it.
    pub fn own_report(&self, now: Timestamp) -> String {
        let reports = if self.is_here { self.sources.reports(now) } else { Vec::new() };
        serde_json::to_string(&reports).unwrap_or_default()
    }

    /// Takes up what this process knew before it was started anew: when its sources last spoke.
    pub fn remember(&self, before: &Process) {
        for report in read(before) {
            if let (Some(source), Some(last)) = (self.sources.get(report.name.as_str()), report.last_received)
            {
                source.seed(last);
            }
        }
    }

    /// Takes up what the messages' rows tell of the time before this process: when each source last spoke. Without it a
    /// feed that died with the last process would not be seen to be silent.
    ///
    /// # Errors
    /// The tables'.
    pub async fn remember_rows(&self, tables: &Tables) -> Result<(), TablesError> {
        for source in self.sources.all().filter(|_| self.is_here) {
            let name = vec![Value::Text(source.name().to_string())];
            let by_source = Scan::by_index(MESSAGE.name, "by_source", name);
            let newest = Scan { descending: true, limit: REMEMBERED_ROWS, ..by_source };
            let rows = tables.read(&[Read::Scan(newest)]).await?;
            let cell = |row: &Row, column| row.values.get(MESSAGE.column(column)?).cloned();
            // What operators decide stands among them, and is no sign of the feed's life.
            let is_decision = Some(Value::Text(DECISION_KIND.to_owned()));
            let mut messages = rows.iter().flatten().filter(|row| cell(row, "kind") != is_decision);
            if let Some(Value::Time(last)) = messages.next().and_then(|row| cell(row, "received")) {
                source.seed(last);
            }
        }
        Ok(())
    }

    /// The gateways, by where they are; empty where this process is the only one.
    pub fn all(&self, now: Timestamp) -> Vec<Gateway> {
        self.presence.as_ref().map(|presence| self.of(&presence.seen(), now)).unwrap_or_default()
    }

    /// The gateways among those that a look saw.
    pub fn of(&self, seen: &Seen, now: Timestamp) -> Vec<Gateway> {
        let Some(presence) = &self.presence else { return Vec::new() };
        let gateways = seen.processes.iter().filter(|process| process.has_role(GATEWAY));
        let mut all: Vec<Gateway> = gateways
            .map(|process| {
                let is_own = process.id == presence.own();
                Gateway {
                    is_there: is_own || process.is_there(now),
                    reports: if is_own { self.sources.reports(now) } else { read(process) },
                    process: process.clone(),
                }
            })
            .collect();
        all.sort_by_key(|gateway| gateway.process.place());
        all
    }

    /// How the sources do, by name.
    pub fn states(&self, now: Timestamp) -> Vec<SourceState> {
        let seen = self.presence.as_ref().map(|presence| presence.seen()).unwrap_or_default();
        self.states_of(&seen, now)
    }

    /// How they do by what a look saw.
    pub fn states_of(&self, seen: &Seen, now: Timestamp) -> Vec<SourceState> {
        let Some(presence) = &self.presence else { return self.sources.states(now) };
        let all = self.of(seen, now);
        let own = self.sources.reports(now);
        // Before its own row is read it is one all the same.
        let is_unseen = self.is_here && all.iter().all(|gateway| gateway.process.id != presence.own());
        let said = all.iter().map(|gateway| (gateway.reports.as_slice(), gateway.is_there));
        let known = own.iter().map(|report| (report.name.clone(), report.configured));
        summed(said.chain(is_unseen.then_some((own.as_slice(), true))), known, now)
    }

    /// The gateways that give no sign of life.
    pub fn silent(&self, now: Timestamp) -> Vec<Gateway> {
        self.all(now).into_iter().filter(|gateway| !gateway.is_there).collect()
    }
}

fn read(process: &Process) -> Vec<SourceReport> {
    serde_json::from_str(&process.doors).unwrap_or_default()
}
