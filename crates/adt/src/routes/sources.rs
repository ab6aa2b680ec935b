//! The sources: who speaks, how fast they are answered, what is not applied yet.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use hilum_chart::PartitionHealth;
use hilum_core::Timestamp;
use hilum_web::outcome::Fault;
use hilum_web::route::{Access, READERS, Route, Surface};
use hilum_web::ui::{Notice, NoticeKind, Spark, Tag, Tone};
use hilum_web::visit::Caller;
use hilum_web::words::Words;
use serde::Serialize;

use super::{MESSAGE_TOPIC, Room, took};
use crate::sources::{SourceHealth, SourceState};
use crate::view::Freshness;

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
    applied: u64,
    end: u64,
    lag: u64,
    paused: Option<String>,
    conflicts: u64,
    rejected: u64,
}

impl PartitionState {
    fn of(one: &PartitionHealth, end: u64) -> Self {
        Self {
            stream: one.stream.as_str(),
            partition: one.partition,
            applied: one.applied,
            end,
            lag: end.saturating_sub(one.applied),
            paused: one.paused().map(str::to_owned),
            conflicts: one.conflicts,
            rejected: one.rejected,
        }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    sources: Vec<SourceState>,
    partitions: Vec<PartitionState>,
    /// Durability of the log: `fsync` or `replicated`.
    log: &'static str,
    /// Why the log takes nothing.
    log_problem: Option<String>,
    /// The tables' engine and durability.
    tables: String,
    #[serde(flatten)]
    freshness: Freshness,
}

async fn gather(room: &Room) -> Result<Answer, Fault> {
    let freshness = room.freshness().await?;
    let mut partitions = Vec::new();
    for one in &room.progress.health().partitions {
        // A log that does not answer says so by its health.
        let end = room.log.end(one.stream, one.partition).await.unwrap_or(one.end);
        partitions.push(PartitionState::of(one, end));
    }
    let log = room.log.health();
    Ok(Answer {
        sources: room.sources.states(freshness.as_of),
        partitions,
        log: log.durability,
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
    spark: Spark,
}

#[derive(Template)]
#[template(path = "adt/sources.html")]
struct SourcesPage {
    w: Words,
    rows: Vec<Row>,
    answer: Answer,
    notices: Vec<Notice>,
    lag: String,
    as_of: Timestamp,
}

async fn page(State(room): State<Room>, caller: Caller) -> Result<Response, Fault> {
    let w = caller.words();
    let answer = gather(&room).await?;
    let at = answer.freshness.as_of;
    let rows = answer.sources.iter().map(|source| {
        let (tone, word) = match source.health {
            SourceHealth::Live => (Tone::Ok, "source.live"),
            SourceHealth::Silent => (Tone::Warn, "source.silent"),
            SourceHealth::Failing => (Tone::Act, "source.failing"),
            SourceHealth::Unused => (Tone::Neutral, "source.unused"),
        };
        let seconds = room.sources.get(source.name.as_str()).map(|one| one.by_second(at)).unwrap_or_default();
        let top = seconds.iter().copied().max().unwrap_or(0);
        let values: Vec<f64> = seconds.iter().map(|n| *n as f64).collect();
        let micros = |us: Option<u64>| us.map(|us| took(&w, i64::try_from(us).unwrap_or(i64::MAX)));
        Row {
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
            spark: Spark::new(w.t("sources.spark"), w.n("sources.per_second", top), &values),
            source: source.clone(),
        }
    });
    let mut notices = Vec::new();
    if let Some(why) = &answer.log_problem {
        let text = w.f1("sources.log_text", "why", why);
        notices.push(Notice::new(NoticeKind::Error, w.t("sources.log_title"), text));
    }
    if let Some(why) = answer.partitions.iter().find_map(|one| one.paused.as_ref()) {
        let text = w.f1("census.paused.text", "why", why);
        notices.push(Notice::new(NoticeKind::Error, w.t("census.paused.title"), text));
    }
    let page = SourcesPage {
        rows: rows.collect(),
        notices,
        lag: w.number(answer.freshness.lag),
        as_of: at,
        answer,
        w: w.clone(),
    };
    caller.page(w.t("sources.title")).wide().says_as_of().live(&[MESSAGE_TOPIC]).body(&page)
}
