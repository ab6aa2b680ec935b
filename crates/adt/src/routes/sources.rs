//! The sources: who speaks, how fast they are answered, what is not applied yet.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use futures::future::join_all;
use hilum_chart::PartitionHealth;
use hilum_chart::presence::{AtWork, Process, Seen};
use hilum_core::{Id, Timestamp};
use hilum_engines::log::Log;
use hilum_web::outcome::Fault;
use hilum_web::route::{Access, READERS, Route, Surface};
use hilum_web::ui::{Notice, NoticeKind, Spark, Tag, Tone};
use hilum_web::visit::Caller;
use hilum_web::words::Words;
use serde::Serialize;

use super::{MESSAGE_TOPIC, Room, took};
use crate::gateways::GATEWAY;
use crate::sources::{SourceHealth, SourceState, summed};
use crate::view::{Freshness, as_optional_text, as_text};

/// The routes of this file.
pub fn routes(room: &Room) -> Vec<Route> {
    let readers = Access::Roles(READERS);
    vec![
        Route::get("/sources", readers, Surface::Page, room.clone(), page).quiet().nav("nav.sources", 50),
        Route::get("/api/sources", readers, Surface::Api, room.clone(), api).quiet(),
    ]
}

/// How one partition is read.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct PartitionState {
    stream: &'static str,
    partition: u16,
    /// The topic in which it stands; absent where the log has none.
    topic: Option<String>,
    /// Which process works at it; absent where this one is alone, or where nobody does.
    worker: Option<String>,
    applied: u64,
    /// Absent where its topic is gone.
    end: Option<u64>,
    /// Absent where the log is not the one that was applied, or is not there.
    lag: Option<u64>,
    #[serde(serialize_with = "as_optional_text")]
    oldest_unapplied: Option<Timestamp>,
    paused: Option<String>,
    conflicts: u64,
    rejected: u64,
}

impl PartitionState {
    fn of(one: &PartitionHealth, end: Option<u64>, log: &Log, worker: Option<(&Process, &AtWork)>) -> Self {
        let elsewhere = worker.filter(|_| !one.is_here).map(|(_, said)| (said.conflicts, said.rejected));
        let (conflicts, rejected) = elsewhere.unwrap_or((one.conflicts, one.rejected));
        let lag = end.and_then(|end| one.lag_up_to(end));
        Self {
            stream: one.stream.as_str(),
            partition: one.partition,
            topic: log.topic(one.stream, one.partition).map(|topic| topic.to_string()),
            worker: worker.map(|(process, _)| process.place()),
            applied: one.applied,
            end,
            lag,
            // What was said some seconds ago may be applied since.
            oldest_unapplied: one.oldest_unapplied.filter(|_| lag != Some(0)),
            paused: one.paused().map(str::to_owned),
            conflicts,
            rejected,
        }
    }
}

/// One process of the installation.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState {
    id: Id,
    host: String,
    roles: Vec<String>,
    http: Option<String>,
    mllp: Option<String>,
    version: String,
    #[serde(serialize_with = "as_text")]
    started: Timestamp,
    /// Its last sign of life.
    #[serde(serialize_with = "as_text")]
    seen: Timestamp,
    /// Whether it still gives one.
    there: bool,
    /// What comes in by its doors; empty for one that has none.
    sources: Vec<SourceState>,
    #[serde(skip)]
    place: String,
}

impl ProcessState {
    fn of(process: &Process, there: bool, sources: Vec<SourceState>) -> Self {
        Self {
            id: process.id,
            host: process.host.clone(),
            roles: process.roles.split(',').map(str::to_owned).collect(),
            http: process.http.clone(),
            mllp: process.mllp.clone(),
            version: process.version.clone(),
            started: process.started,
            seen: process.seen,
            there,
            sources,
            place: process.place(),
        }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    sources: Vec<SourceState>,
    /// The processes that share the tables; empty where this one is alone.
    processes: Vec<ProcessState>,
    partitions: Vec<PartitionState>,
    /// The log's engine and durability.
    log: String,
    /// Why the log takes nothing.
    log_problem: Option<String>,
    /// The tables' engine and durability.
    tables: String,
    #[serde(flatten)]
    freshness: Freshness,
}

fn processes(room: &Room, seen: &Seen, at: Timestamp) -> Vec<ProcessState> {
    let mut gateways: BTreeMap<Id, _> =
        room.gateways.of(seen, at).into_iter().map(|gateway| (gateway.process.id, gateway)).collect();
    let mut all: Vec<ProcessState> = seen
        .processes
        .iter()
        .map(|process| {
            let gateway = gateways.remove(&process.id);
            let said =
                gateway.map(|gateway| summed([(gateway.reports.as_slice(), gateway.is_there)], [], at));
            ProcessState::of(process, process.is_there(at), said.unwrap_or_default())
        })
        .collect();
    all.sort_by(|a, b| (&a.place, a.id).cmp(&(&b.place, b.id)));
    all
}

async fn gather(room: &Room) -> Result<Answer, Fault> {
    let freshness = room.freshness().await?;
    let at = freshness.as_of;
    let health = room.progress.health().partitions;
    let ends = join_all(health.iter().map(|one| room.end(one))).await;
    // Behind all that is waited for: what is said of all sources and of each process is then of the same moment.
    let seen = room.gateways.presence().map(|presence| presence.seen()).unwrap_or_default();
    let workers = seen.workers(at);
    let partitions = health.iter().zip(ends).map(|(one, end)| {
        let worker = workers.get(&(one.stream, one.partition)).copied();
        PartitionState::of(one, end, &room.log, worker)
    });
    let partitions = partitions.collect();
    let log = room.log.health();
    Ok(Answer {
        sources: room.gateways.states_of(&seen, at),
        processes: processes(room, &seen, at),
        partitions,
        log: room.log.describe(),
        log_problem: log.read_only.or(log.full).or(log.held),
        tables: room.tables.describe(),
        freshness,
    })
}

async fn api(State(room): State<Room>, caller: Caller) -> Result<Response, Fault> {
    caller.json(&gather(&room).await?)
}

struct Row {
    source: SourceState,
    health: Tag,
    last: Option<(String, String, String)>,
    fault: Option<String>,
    p50: Option<String>,
    p99: Option<String>,
    alarm: String,
    clock: Option<Tag>,
    spark: Spark,
}

impl Row {
    fn of(w: &Words, source: &SourceState, at: Timestamp) -> Self {
        let (tone, word) = match source.health {
            SourceHealth::Live => (Tone::Ok, "source.live"),
            SourceHealth::Silent => (Tone::Warn, "source.silent"),
            SourceHealth::Failing => (Tone::Act, "source.failing"),
            SourceHealth::Unknown => (Tone::Warn, "source.unknown"),
            SourceHealth::Unused => (Tone::Neutral, "source.unused"),
        };
        let top = source.by_second.iter().copied().max().unwrap_or(0);
        let values: Vec<f64> = source.by_second.iter().map(|n| *n as f64).collect();
        let micros = |us: Option<u64>| us.map(|us| took(w, i64::try_from(us).unwrap_or(i64::MAX)));
        Self {
            health: Tag::new(tone, w.t(word)),
            last: source
                .last_received
                .as_ref()
                .map(|last| (w.machine(last), w.at_second(last), w.ago(last, &at))),
            fault: source.last_fault.as_ref().map(|last| w.at_second(last)),
            p50: micros(source.ack_p50_us),
            p99: micros(source.ack_p99_us),
            alarm: match source.silence_alarm_s {
                0 => w.t("sources.no_alarm").to_owned(),
                seconds => w.span(u64::from(seconds)),
            },
            clock: source.clock_ahead_s.map(|ahead| {
                let ahead = w.span(ahead.unsigned_abs());
                Tag::new(Tone::Act, w.f1("sources.clock_ahead", "ahead", ahead))
            }),
            spark: Spark::new(w.t("sources.spark"), w.n("sources.per_second", top), &values),
            source: source.clone(),
        }
    }
}

/// A process with its sign of life, and its sources where it has doors.
struct ProcessRow {
    process: ProcessState,
    sign: Tag,
    seen: (String, String),
    roles: String,
    rows: Vec<Row>,
}

impl ProcessRow {
    fn of(w: &Words, process: &ProcessState, at: Timestamp) -> Self {
        let sign = if process.there {
            Tag::new(Tone::Ok, w.t("sources.there"))
        } else {
            Tag::new(Tone::Act, w.t("sources.missing"))
        };
        let rows = process.sources.iter().map(|source| {
            let row = Row::of(w, source, at);
            // What it said last says nothing of now.
            let health = if process.there { row.health } else { sign.clone() };
            Row { health, ..row }
        });
        Self {
            seen: (w.machine(&process.seen), w.at_second(&process.seen)),
            roles: process.roles.join(", "),
            rows: rows.collect(),
            sign,
            process: process.clone(),
        }
    }
}

struct PartitionRow {
    state: PartitionState,
    oldest: Option<String>,
    /// The topic, where a source has it to itself.
    topic: Option<String>,
}

#[derive(Template)]
#[template(path = "adt/sources.html")]
struct SourcesPage {
    w: Words,
    rows: Vec<Row>,
    processes: Vec<ProcessRow>,
    partitions: Vec<PartitionRow>,
    answer: Answer,
    notices: Vec<Notice>,
    lag: Option<String>,
    as_of: Timestamp,
}

fn notices(w: &Words, answer: &Answer) -> Vec<Notice> {
    let mut notices = Vec::new();
    if let Some(why) = &answer.log_problem {
        let text = w.f1("sources.log_text", "why", why);
        notices.push(Notice::new(NoticeKind::Error, w.t("sources.log_title"), text));
    }
    if let Some(why) = answer.partitions.iter().find_map(|one| one.paused.as_ref()) {
        let text = w.f1("census.paused.text", "why", why);
        notices.push(Notice::new(NoticeKind::Error, w.t("census.paused.title"), text));
    }
    let mut gateways = answer.processes.iter().filter(|one| one.roles.iter().any(|role| role == GATEWAY));
    if let Some(missing) = gateways.clone().find(|one| !one.there) {
        let text = w.f2("census.missing.text", "name", &missing.place, "at", w.at_second(&missing.seen));
        notices.push(Notice::new(NoticeKind::Stale, w.t("census.missing.title"), text));
    }
    if !answer.processes.is_empty() && gateways.next().is_none() {
        let text = w.t("sources.no_gateway_text");
        notices.push(Notice::new(NoticeKind::Stale, w.t("sources.no_gateway_title"), text));
    }
    notices
}

async fn page(State(room): State<Room>, caller: Caller) -> Result<Response, Fault> {
    let w = caller.words();
    let answer = gather(&room).await?;
    let at = answer.freshness.as_of;
    let streams: Vec<_> =
        answer.partitions.iter().filter(|one| one.partition == 0).map(|one| &one.topic).collect();
    let partitions = answer.partitions.iter().map(|state| PartitionRow {
        topic: state.topic.clone().filter(|_| !streams.contains(&&state.topic)),
        oldest: state.oldest_unapplied.as_ref().map(|oldest| w.ago(oldest, &at)),
        state: state.clone(),
    });
    let page = SourcesPage {
        rows: answer.sources.iter().map(|source| Row::of(&w, source, at)).collect(),
        processes: answer.processes.iter().map(|process| ProcessRow::of(&w, process, at)).collect(),
        partitions: partitions.collect(),
        notices: notices(&w, &answer),
        lag: answer.freshness.lag.map(|lag| w.number(lag)),
        as_of: at,
        answer,
        w: w.clone(),
    };
    caller.page(w.t("sources.title")).wide().says_as_of().live(&[MESSAGE_TOPIC]).body(&page)
}
