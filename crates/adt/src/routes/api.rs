//! The JSON twins of the pages: the same readings, in a stable order, without relative times. Opened by API keys by
//! role; never with patient data in the URL (searches are POST).

use axum::extract::{Path, State};
use axum::response::Response;
use hilum_core::{Id, Timestamp};
use hilum_web::outcome::Fault;
use hilum_web::params::{Parameters, Params, Takes};
use hilum_web::route::{Access, READERS, Route, Surface};
use hilum_web::visit::Caller;
use serde::{Deserialize, Serialize};

use super::{Applied, ENCOUNTER_STATUSES, ID, LISTS, NUMBER, POSITION, Room, STATUSES};
use crate::limits;
use crate::state::BoardList;
use crate::view::confidence::hide;
use crate::view::{Freshness, census, journey, messages};

/// The routes of this file.
pub fn routes(room: &Room) -> Vec<Route> {
    let readers = Access::Roles(READERS);
    vec![
        Route::get("/api/census", readers, Surface::Api, room.clone(), read_census),
        Route::get("/api/messages", readers, Surface::Api, room.clone(), list_messages),
        Route::get("/api/messages/{id}", readers, Surface::Api, room.clone(), read_message),
    ]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CensusQuery {
    list: Option<BoardList>,
    facility: Option<String>,
    unit: Option<String>,
    class: Option<String>,
    status: Option<String>,
    #[serde(default)]
    marked: bool,
    applied: Option<String>,
}

impl Parameters for CensusQuery {
    const NAMES: &'static [&'static str] =
        &["list", "facility", "unit", "class", "status", "marked", "applied"];

    fn takes(name: &str) -> Takes {
        match name {
            "list" => Takes::OneOf(&LISTS),
            "status" => Takes::OneOf(&ENCOUNTER_STATUSES),
            "marked" => Takes::OneOf(&["true", "false"]),
            "applied" => POSITION,
            _ => Takes::Text,
        }
    }
}

async fn read_census(
    State(room): State<Room>,
    caller: Caller,
    Params(asked): Params<CensusQuery>,
) -> Result<Response, Fault> {
    room.wait_for(asked.applied.as_deref()).await?;
    let query = census::Query {
        list: asked.list,
        facility: asked.facility,
        unit: asked.unit,
        class: asked.class,
        status: asked.status,
        marked: asked.marked,
        q: None,
    };
    let freshness = room.freshness().await?;
    let found = room.reconciler.latest().await?;
    let census = census::read(room.sight(&caller.authority), &query, freshness, &found).await?;
    caller.saw_rows(census.encounters.len() as u64);
    caller.json(&census)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessagesQuery {
    control_id: Option<String>,
    status: Option<String>,
    rule: Option<String>,
    source: Option<String>,
    patient: Option<Id>,
    encounter: Option<Id>,
    kind: Option<String>,
    /// RFC 3339.
    before: Option<String>,
    /// The id of the last message of the page before.
    after: Option<Id>,
    limit: Option<u32>,
    applied: Option<String>,
}

impl Parameters for MessagesQuery {
    const NAMES: &'static [&'static str] = &[
        "control_id",
        "status",
        "rule",
        "source",
        "patient",
        "encounter",
        "kind",
        "before",
        "after",
        "limit",
        "applied",
    ];

    fn takes(name: &str) -> Takes {
        match name {
            "status" => Takes::OneOf(&STATUSES),
            "patient" | "encounter" | "after" => ID,
            "limit" => NUMBER,
            "applied" => POSITION,
            _ => Takes::Text,
        }
    }
}

#[derive(Debug, Serialize)]
struct Messages {
    messages: Vec<messages::Line>,
    #[serde(flatten)]
    freshness: Freshness,
}

#[derive(Debug, Serialize)]
struct Read {
    #[serde(flatten)]
    journey: journey::Journey,
    #[serde(flatten)]
    freshness: Freshness,
}

async fn list_messages(
    State(room): State<Room>,
    caller: Caller,
    Params(asked): Params<MessagesQuery>,
) -> Result<Response, Fault> {
    room.wait_for(asked.applied.as_deref()).await?;
    let query = messages::Query {
        control_id: asked.control_id,
        status: asked.status,
        rule: asked.rule,
        source: asked.source,
        patient: asked.patient,
        encounter: asked.encounter,
        kind: asked.kind,
        before: asked.before.as_deref().map(instant).transpose()?,
        after: asked.after,
        limit: asked.limit.unwrap_or(limits::LIST_ROWS).min(limits::LIST_ROWS_MAX),
    };
    answer_messages(&room, &caller, &query).await
}

async fn answer_messages(room: &Room, caller: &Caller, query: &messages::Query) -> Result<Response, Fault> {
    let freshness = room.freshness().await?;
    let sight = room.sight(&caller.authority);
    let mut messages = messages::find(sight, query).await?;
    hide(sight, &mut messages).await?;
    caller.saw_rows(messages.len() as u64);
    caller.json(&Messages { messages, freshness })
}

async fn read_message(
    State(room): State<Room>,
    caller: Caller,
    Path(id): Path<Id>,
    Params(asked): Params<Applied>,
) -> Result<Response, Fault> {
    let journey = super::messages::seen(&room, &caller, id, &asked).await?;
    let freshness = room.freshness().await?;
    caller.json(&Read { journey, freshness })
}

fn instant(raw: &str) -> Result<Timestamp, Fault> {
    raw.parse::<jiff::Timestamp>()
        .map(Timestamp::from_jiff)
        .map_err(|_| Fault::parameter("before", &["a time like 2026-03-12T14:07:00Z"]))
}
