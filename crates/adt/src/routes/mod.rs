//! The room's pages and JSON twins. One file per page: decode, call, encode.

pub mod api;
pub mod census;
pub mod messages;
pub mod patients;
pub mod quarantine;
pub mod sources;
pub mod work;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use hilum_chart::{Chart, PartitionHealth, Progress};
use hilum_core::{
    Authority, Clock, Entropy, Id, InstallationKey, Kind, Position, Role, SourceName, Timestamp,
};
use hilum_engines::log::{Log, LogError};
use hilum_engines::tables::Tables;
use hilum_web::live::Topic;
use hilum_web::outcome::Fault;
use hilum_web::params::{Parameters, Takes};
use hilum_web::route::{OPERATORS, READERS, Route};
use hilum_web::ui::{Tag, Tone};
use hilum_web::words::{WordFile, Words};
use serde::Deserialize;

use crate::announce;
use crate::decision::{Decision, unmerge_until};
use crate::facts::read::UNREAD;
use crate::gateways::Gateways;
use crate::limits::{APPLIED_WAIT_S, REASON_CHARS_MAX};
use crate::settings::SourceSettings;
use crate::sources::Sources;
use crate::state::{BoardList, Status};
use crate::view::journey::Sight;
use crate::view::reconcile::Reconciler;
use crate::view::{Freshness, ViewError};

/// The outbox topic that the board's changes go out by: ids of patients.
pub const BOARD_TOPIC: &str = "adt.board";

/// The outbox topic that says that messages were applied or set aside: the last record of the commit.
pub const MESSAGE_TOPIC: &str = "adt.message";

/// The source that decisions stand under.
pub const OPERATOR: &str = "operator";

/// The room's words.
pub const WORDS: WordFile = WordFile {
    name: "adt",
    en: include_str!("../../words/en.toml"),
    ko: include_str!("../../words/ko.toml"),
};

/// The topics that the room's pages listen to. The board's ids are patients: who may not know whose a masked row is
/// hears that something changed, and no more (ADR 9).
pub const TOPICS: [Topic; 2] = [
    Topic { name: BOARD_TOPIC, roles: READERS, ids: OPERATORS },
    Topic { name: MESSAGE_TOPIC, roles: READERS, ids: READERS },
];

/// Roles that the room's pages are made for.
pub const ROLES: [Role; 4] = Role::ALL;

/// What becomes of a message, in the order of the filter.
pub(crate) const STATUSES: [&str; 7] =
    ["applied", "findings", "no-effect", "duplicate", "quarantined", "refused", "replaced"];
/// The census's lists, by name.
pub(crate) const LISTS: [&str; BoardList::ALL.len()] = {
    let mut names = [""; BoardList::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = BoardList::ALL[at].as_str();
        at += 1;
    }
    names
};
/// FHIR Encounter.status, as the fold gives it.
pub(crate) const ENCOUNTER_STATUSES: [&str; Status::ALL.len()] = {
    let mut names = [""; Status::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = Status::ALL[at].as_str();
        at += 1;
    }
    names
};
pub(crate) const POSITION: Takes =
    Takes::Words(&["a place in the log as the header Hilum-Position gives it: hl7.in/3/42"]);
pub(crate) const ID: Takes = Takes::Words(&["an id like 0190a7c2-5b7e-8f31-9c0d-2a41f3b7e655"]);
pub(crate) const NUMBER: Takes = Takes::Words(&["a number"]);

/// `?applied=stream/partition/offset` waits until that record is applied, at most [`APPLIED_WAIT_S`].
#[derive(Debug, Deserialize)]
pub(crate) struct Applied {
    pub(crate) applied: Option<String>,
}

impl Parameters for Applied {
    const NAMES: &'static [&'static str] = &["applied"];

    fn takes(_: &str) -> Takes {
        POSITION
    }
}

/// What the room's handlers work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Room {
    /// The room's tables.
    pub tables: Tables,
    /// The chart.
    pub chart: Chart,
    /// The log.
    pub log: Log,
    /// The time.
    pub clock: Clock,
    /// Randomness for record ids.
    pub entropy: Entropy,
    /// Keys every id.
    pub key: InstallationKey,
    /// Who speaks, by this process's configuration.
    pub sources: Arc<Sources>,
    /// How they do, over all gateways.
    pub gateways: Gateways,
    /// How far the fold is.
    pub progress: Progress,
    /// Whether somebody has vanished.
    pub reconciler: Arc<Reconciler>,
}

impl Room {
    /// How fresh an answer of now is.
    ///
    /// # Errors
    /// The engines'.
    pub async fn freshness(&self) -> Result<Freshness, ViewError> {
        let partitions = self.progress.health().partitions;
        let lags = partitions.iter().map(async |one| one.lag_up_to(self.end(one).await?));
        let lag = futures::future::join_all(lags).await.into_iter().sum();
        Ok(Freshness { as_of: self.clock.now(), applied: self.tables.now().await?, lag })
    }

    /// Where a partition ends; absent where its topic is gone. A log that does not answer says so by its health, and what
    /// was seen last is shown.
    async fn end(&self, one: &PartitionHealth) -> Option<u64> {
        match self.log.end(one.stream, one.partition).await {
            Ok(end) => Some(end),
            Err(LogError::Gone { .. }) => None,
            Err(_) => Some(one.end),
        }
    }

    /// What views read through on behalf of `authority`.
    pub fn sight<'a>(&'a self, authority: &'a Authority) -> Sight<'a> {
        let Self { tables, log, chart, key, .. } = self;
        Sight { tables, log, chart, key, authority }
    }

    /// Waits for what `?applied=stream/partition/offset` names, at most [`APPLIED_WAIT_S`].
    ///
    /// # Errors
    /// [`Kind::Invalid`] for what is no position.
    pub async fn wait_for(&self, applied: Option<&str>) -> Result<(), Fault> {
        let Some(raw) = applied else { return Ok(()) };
        let Takes::Words(takes) = POSITION else { return Err(Fault::new(Kind::Invalid)) };
        let position: Position = raw.parse().map_err(|_| Fault::parameter("applied", takes))?;
        self.wait_applied(position, Duration::from_secs(APPLIED_WAIT_S)).await;
        Ok(())
    }

    /// Logs an operator's decision, and waits a little for what follows from it.
    ///
    /// # Errors
    /// The log's: then nothing was decided.
    pub async fn decide(&self, decision: &Decision) -> Result<Position, ViewError> {
        let settings_sha = SourceSettings::default().sha();
        let source = SourceName::parse(OPERATOR).expect("a constant that keeps the rule");
        let envelope =
            announce::envelope(decision, &source, settings_sha, &self.clock, &self.entropy, &self.key);
        let position = self.log.append(envelope).await?;
        self.wait_applied(position, Duration::from_secs(APPLIED_WAIT_S)).await;
        Ok(position)
    }

    /// Undoes all merges of `old` into `new` that are known.
    ///
    /// # Errors
    /// As [`Room::decide`]; the tables'.
    pub async fn unmerge(&self, old: Id, new: Id, by: String, reason: String) -> Result<Position, ViewError> {
        let until = unmerge_until(&self.tables, old, new).await?;
        self.decide(&Decision::Unmerge { old, new, by, reason: reason_of(&reason), until }).await
    }

    /// Waits until the record at `position` is applied, no longer than `timeout`; the answer's `lag` says the rest.
    pub async fn wait_applied(&self, position: Position, timeout: Duration) {
        let _applied_in_time = self.progress.wait_applied(position, timeout).await;
    }
}

/// All routes of the room but its door.
pub fn routes(room: &Room) -> Vec<Route> {
    let mut routes = census::routes(room);
    routes.extend(patients::routes(room));
    routes.extend(messages::routes(room));
    routes.extend(quarantine::routes(room));
    routes.extend(work::routes(room));
    routes.extend(sources::routes(room));
    routes.extend(api::routes(room));
    routes
}

/// The word of a code that data names (`class.I`), else the code itself: unmapped codes stay visible.
pub(crate) fn word_of<'a>(w: &'a Words, group: &str, code: &'a str) -> &'a str {
    let key = format!("{group}.{}", code.to_lowercase());
    w.get(&key).unwrap_or(code)
}

/// An address of ours: `path` with what is not empty, percent-encoded.
pub(crate) fn address(path: &str, query: &[(&str, &str)]) -> String {
    let mut out = path.to_owned();
    let given = query.iter().filter(|(_, value)| !value.is_empty());
    for (at, (name, value)) in given.enumerate() {
        out.push(if at == 0 { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
                out.push(char::from(byte));
            } else {
                write!(out, "%{byte:02X}").expect("a String takes every write");
            }
        }
    }
    out
}

/// What is odd, in the reader's language: as it was said, or the rule's words where that is English only. Whether it is
/// English all the same.
pub(crate) fn odd<'a>(w: &'a Words, finding: &'a crate::content::Finding) -> (&'a str, bool) {
    // What says less than the rule's own words gives way to them.
    let by_rule = !w.is_en() || finding.text == UNREAD;
    match w.get(&format!("rule.{}", finding.rule)).filter(|_| by_rule) {
        Some(words) => (words, false),
        None => (&finding.text, true),
    }
}

/// How a status of a message sounds.
pub(crate) fn status_tag(w: &Words, status: &str) -> Tag {
    let tone = match status {
        "applied" => Tone::Ok,
        "findings" => Tone::Info,
        "quarantined" => Tone::Act,
        "refused" => Tone::Warn,
        _ => Tone::Neutral,
    };
    Tag::new(tone, word_of(w, "message_status", status))
}

/// A length of time as exact as it matters: `0.8 ms`, `12 ms`, `3.2 s`, else coarse.
pub(crate) fn took(w: &Words, micros: i64) -> String {
    let micros = micros.max(0).unsigned_abs();
    match micros {
        0..10_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        10_000..1_000_000 => format!("{} ms", micros / 1_000),
        1_000_000..60_000_000 => format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
        _ => w.span(micros / 1_000_000),
    }
}

/// A FHIR date or dateTime, as precise as it is: an instant in the reader's zone, a day, or what was sent.
pub(crate) fn when(w: &Words, raw: &str) -> String {
    if raw.contains('T')
        && let Ok(at) = raw.parse::<jiff::Timestamp>()
    {
        return w.at(&Timestamp::from_jiff(at));
    }
    raw.parse::<jiff::civil::Date>().map_or_else(|_| raw.to_owned(), |day| w.date(day))
}

/// An operator's words, within their bound.
pub(crate) fn reason_of(raw: &str) -> String {
    raw.trim().chars().filter(|sign| *sign != '\0').take(REASON_CHARS_MAX).collect()
}
