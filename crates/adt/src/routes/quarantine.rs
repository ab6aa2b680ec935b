//! The quarantine: what was set aside, by rule; one message's editor; replay, with a second person where it matters.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::response::Response;
use hilum_core::{Id, Kind, Timestamp};
use hilum_engines::log::LogError;
use hilum_web::outcome::Fault;
use hilum_web::params::{Parameters, Params, Takes};
use hilum_web::route::{Access, OPERATORS, READERS, Route, Surface};
use hilum_web::ui::{Diff, Notice, NoticeKind, Tag};
use hilum_web::visit::{Caller, Via};
use hilum_web::words::Words;
use serde::{Deserialize, Serialize};

use super::{ID, MESSAGE_TOPIC, NUMBER, POSITION, Room, reason_of, status_tag};
use crate::correction::{self, Asked, Correction, Original, Problem};
use crate::limits;
use crate::view::confidence::hide;
use crate::view::messages::{self, Line};
use crate::view::{Freshness, ViewError, as_text, journey};

/// The routes of this file.
pub fn routes(room: &Room) -> Vec<Route> {
    let (readers, operators) = (Access::Roles(READERS), Access::Roles(OPERATORS));
    // The second one of four eyes is a person's.
    let second = Access::People(OPERATORS);
    vec![
        Route::get("/quarantine", operators, Surface::Page, room.clone(), list).nav("nav.quarantine", 30),
        Route::get("/quarantine/{id}", operators, Surface::Page, room.clone(), editor),
        Route::post("/quarantine/{id}/diff", operators, Surface::Page, room.clone(), diff)
            .quiet()
            .body_bytes_max(EDIT_BYTES_MAX),
        Route::post("/quarantine/{id}/replay", operators, Surface::Page, room.clone(), replay)
            .body_bytes_max(EDIT_BYTES_MAX),
        Route::post("/quarantine/{id}/release", second, Surface::Page, room.clone(), release),
        Route::post("/quarantine/{id}/discard", operators, Surface::Page, room.clone(), discard),
        Route::get("/api/quarantine", readers, Surface::Api, room.clone(), api),
    ]
}

/// Bytes of an edited message as a form.
const EDIT_BYTES_MAX: usize = 3 * limits::MESSAGE_BYTES_MAX;

/// One rule's messages.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    rule: String,
    /// `quarantined` or `refused`.
    status: &'static str,
    count: usize,
    /// Where in the message, the commonest first.
    paths: Vec<String>,
    sources: Vec<String>,
    #[serde(serialize_with = "as_text")]
    oldest: Timestamp,
    #[serde(serialize_with = "as_text")]
    newest: Timestamp,
}

/// The groups of what was looked at; whether there is more.
async fn groups(room: &Room, caller: &Caller) -> Result<(Vec<Group>, bool), Fault> {
    let mut all = Vec::new();
    let mut is_cut = false;
    for status in ["quarantined", "refused"] {
        let query = messages::Query {
            status: Some(status.to_owned()),
            limit: limits::LIST_ROWS_MAX,
            ..messages::Query::default()
        };
        let lines = messages::read(&room.tables, &caller.authority, &query).await?;
        is_cut |= lines.len() >= limits::LIST_ROWS_MAX as usize;
        let mut by_rule: BTreeMap<String, Vec<&Line>> = BTreeMap::new();
        for line in &lines {
            by_rule.entry(line.rule.clone().unwrap_or_default()).or_default().push(line);
        }
        for (rule, lines) in by_rule {
            let often = |of: fn(&Line) -> Option<&str>| {
                let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
                for one in lines.iter().filter_map(|line| of(line)) {
                    *counts.entry(one).or_insert(0) += 1;
                }
                let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
                counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
                counts.into_iter().map(|(one, _)| one.to_owned()).take(5).collect::<Vec<String>>()
            };
            let received = || lines.iter().map(|line| line.received);
            all.push(Group {
                status,
                count: lines.len(),
                paths: often(|line| line.path.as_deref()),
                sources: often(|line| Some(line.source.as_str())),
                oldest: received().min().unwrap_or_default(),
                newest: received().max().unwrap_or_default(),
                rule,
            });
        }
    }
    Ok((all, is_cut))
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
struct ListQuery {
    rule: Option<String>,
    source: Option<String>,
    after: Option<Id>,
    limit: Option<u32>,
    applied: Option<String>,
}

impl Parameters for ListQuery {
    const NAMES: &'static [&'static str] = &["rule", "source", "after", "limit", "applied"];

    fn takes(name: &str) -> Takes {
        match name {
            "after" => ID,
            "limit" => NUMBER,
            "applied" => POSITION,
            _ => Takes::Text,
        }
    }
}

#[derive(Serialize)]
struct ApiAnswer {
    rules: Vec<Group>,
    messages: Vec<Line>,
    #[serde(flatten)]
    freshness: Freshness,
}

async fn api(
    State(room): State<Room>,
    caller: Caller,
    Params(asked): Params<ListQuery>,
) -> Result<Response, Fault> {
    room.wait_for(asked.applied.as_deref()).await?;
    let query = messages::Query {
        status: Some("quarantined".to_owned()),
        rule: asked.rule,
        source: asked.source,
        after: asked.after,
        limit: asked.limit.unwrap_or(limits::LIST_ROWS).min(limits::LIST_ROWS_MAX),
        ..messages::Query::default()
    };
    let freshness = room.freshness().await?;
    let (rules, _) = groups(&room, &caller).await?;
    let mut messages = messages::read(&room.tables, &caller.authority, &query).await?;
    hide(room.sight(&caller.authority), &mut messages).await?;
    caller.saw_rows(messages.len() as u64);
    caller.json(&ApiAnswer { rules, messages, freshness })
}

struct GroupRow {
    group: Group,
    status: Tag,
    oldest: String,
    newest: String,
    age: String,
    lines: Vec<LineRow>,
    href: String,
}

struct LineRow {
    line: Line,
    received: String,
    age: String,
    waits: bool,
}

#[derive(Template)]
#[template(path = "adt/quarantine.html")]
struct ListPage {
    w: Words,
    groups: Vec<GroupRow>,
    pending: Vec<(Correction, String)>,
    state: Option<Notice>,
    freshness: Freshness,
}

async fn list(
    State(room): State<Room>,
    caller: Caller,
    Params(asked): Params<ListQuery>,
) -> Result<Response, Fault> {
    let w = caller.words();
    let freshness = room.freshness().await?;
    let (found, is_cut) = groups(&room, &caller).await?;
    let pending = correction::pending(&room.tables, limits::LIST_ROWS).await?;
    let mut rows = Vec::new();
    for group in found {
        let query = messages::Query {
            status: Some(group.status.to_owned()),
            rule: Some(group.rule.clone()).filter(|rule| !rule.is_empty()),
            limit: if asked.rule.as_ref() == Some(&group.rule) { limits::LIST_ROWS } else { LINES_AT_FIRST },
            ..messages::Query::default()
        };
        let lines = messages::read(&room.tables, &caller.authority, &query).await?;
        let lines = lines.into_iter().map(|line| LineRow {
            received: w.at_second(&line.received),
            age: w.ago(&line.received, &freshness.as_of),
            waits: pending.iter().any(|one| one.message == line.id),
            line,
        });
        rows.push(GroupRow {
            status: status_tag(&w, group.status),
            oldest: w.at(&group.oldest),
            newest: w.at(&group.newest),
            age: w.ago(&group.oldest, &freshness.as_of),
            lines: lines.collect(),
            href: format!("/messages?status={}&rule={}", group.status, group.rule),
            group,
        });
    }
    caller.saw_rows(rows.iter().map(|row| row.lines.len() as u64).sum());
    let state = if rows.is_empty() {
        Some(Notice::new(NoticeKind::Empty, w.t("quarantine.none"), w.t("quarantine.none_text")))
    } else {
        is_cut.then(|| Notice::new(NoticeKind::Partial, w.t("quarantine.cut"), w.t("quarantine.cut_text")))
    };
    let pending = pending.into_iter().map(|one| (w.at(&one.created), one)).map(|(at, one)| (one, at));
    let page = ListPage { pending: pending.collect(), groups: rows, state, freshness, w: w.clone() };
    caller.page(w.t("quarantine.title")).says_as_of().live(&[MESSAGE_TOPIC]).body(&page)
}

/// Messages of a rule that the list shows before it is asked for more.
const LINES_AT_FIRST: u32 = 10;

// ---- one message

#[derive(Template)]
#[template(path = "adt/quarantine_diff.html")]
struct DiffPart {
    w: Words,
    diff: Option<Diff>,
    problem: Option<Notice>,
    watched: Option<String>,
}

impl askama::filters::HtmlSafe for DiffPart {}

#[derive(Template)]
#[template(path = "adt/quarantine_one.html")]
struct EditorPage {
    w: Words,
    csrf: String,
    line: Line,
    status: Tag,
    received: String,
    text: String,
    is_refused: bool,
    is_open: bool,
    waits: Option<Waits>,
    part: DiffPart,
    said: Option<Notice>,
    reason: String,
}

/// A correction that waits for a second person.
struct Waits {
    editor: String,
    created: String,
    reason: String,
    /// Whether the asker is that second person.
    releases: bool,
}

/// How long a correction that was made may take until it is seen.
const MADE_WAIT_US: i64 = 60_000_000;

struct Opened {
    at: Timestamp,
    line: Line,
    original: Original,
    correction: Option<Correction>,
}

async fn open(room: &Room, caller: &Caller, id: Id) -> Result<Opened, Fault> {
    let line = messages::read_one(&room.tables, &caller.authority, id).await?;
    let record = match journey::record(&room.log, line.position).await {
        Err(ViewError::Log(
            LogError::Corrupt { .. } | LogError::Missing { .. } | LogError::Unsure { .. },
        )) => {
            return Err(Fault::new(Kind::Conflict));
        }
        record => record?,
    };
    // A correction that is made in another charset than the source's would be kept for good.
    let settings = journey::settings(&room.tables, &room.log, &record.envelope.settings_sha).await?;
    let settings = settings.ok_or_else(|| Fault::new(Kind::Conflict))?;
    let correction = correction::find(&room.tables, line.id).await?;
    if let Some(patient) = line.patient {
        caller.saw(patient);
    }
    Ok(Opened { at: room.clock.now(), original: Original::of(record, settings), correction, line })
}

impl Opened {
    /// Whether it can be corrected at all: only what had no effect, once. A correction that was made a moment ago may
    /// not be read yet; one that a crash kept out of the log may be made again.
    fn is_open(&self) -> bool {
        let is_made = self
            .correction
            .as_ref()
            .is_some_and(|one| one.is_released && self.at.micros_since(one.created) < MADE_WAIT_US);
        matches!(self.line.status.as_str(), "quarantined" | "refused")
            && self.line.replaced_by.is_none()
            && !is_made
    }

    fn waiting(&self) -> Option<&Correction> {
        self.correction.as_ref().filter(|one| !one.is_released && self.is_open())
    }
}

fn part(w: &Words, original: &Original, text: &str) -> DiffPart {
    let after = journey::lines_of(text);
    let is_same = after == original.text;
    let problem = original.edited(text).err().map(|problem| {
        let text = match problem {
            Problem::Empty => w.t("quarantine.empty").to_owned(),
            Problem::Undecoded => w.t("quarantine.undecoded").to_owned(),
            Problem::Unreadable(rule) => w.f1("quarantine.unreadable", "rule", rule),
        };
        Notice::new(NoticeKind::Error, w.t("quarantine.cannot"), text)
    });
    let watched = original.watched(text);
    let (before, after): (Vec<&str>, Vec<&str>) = (original.text.lines().collect(), after.lines().collect());
    let diff = Diff::of(&before, &after);
    DiffPart {
        w: w.clone(),
        diff: (!is_same).then_some(diff),
        problem,
        watched: (!watched.is_empty()).then(|| w.f1("quarantine.watched", "segments", watched.join(", "))),
    }
}

fn editor_page(
    caller: &Caller,
    opened: Opened,
    text: Option<String>,
    reason: String,
    said: Option<Notice>,
) -> Result<Response, Fault> {
    let w = caller.words();
    let is_open = opened.is_open();
    let waits = opened.waiting().map(|one| Waits {
        editor: one.editor.clone(),
        created: w.at(&one.created),
        reason: one.reason.clone(),
        releases: is_second(caller, one),
    });
    let draft = opened.waiting().map(|one| journey::lines_of(&one.draft));
    let text = text.or(draft).unwrap_or_else(|| opened.original.text.clone());
    let page = EditorPage {
        csrf: caller.csrf(),
        status: status_tag(&w, &opened.line.status),
        received: w.at_second(&opened.line.received),
        is_refused: opened.line.status == "refused",
        is_open,
        waits,
        part: part(&w, &opened.original, &text),
        said,
        reason,
        text,
        line: opened.line,
        w: w.clone(),
    };
    caller.page(w.t("quarantine.one")).under("/quarantine").body(&page)
}

/// Another account, by a session: a key is no person.
fn is_second(caller: &Caller, correction: &Correction) -> bool {
    let is_person = caller.signed_in().is_some_and(|who| matches!(who.via, Via::Session(_)));
    is_person && caller.authority.principal() != correction.editor
}

async fn editor(State(room): State<Room>, caller: Caller, Path(id): Path<Id>) -> Result<Response, Fault> {
    let line = messages::read_one(&room.tables, &caller.authority, id).await?;
    if matches!(
        journey::record(&room.log, line.position).await,
        Err(ViewError::Log(LogError::Corrupt { .. } | LogError::Missing { .. } | LogError::Unsure { .. }))
    ) {
        // There is nothing to edit: its page says so, and what to do.
        return Ok(caller.go(&format!("/messages/{id}")));
    }
    let opened = open(&room, &caller, id).await?;
    editor_page(&caller, opened, None, String::new(), None)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Edit {
    text: Option<String>,
    reason: String,
}

async fn diff(
    State(room): State<Room>,
    caller: Caller,
    Path(id): Path<Id>,
    Form(edit): Form<Edit>,
) -> Result<Response, Fault> {
    let opened = open(&room, &caller, id).await?;
    caller.fragment(&part(&caller.words(), &opened.original, edit.text.as_deref().unwrap_or_default()))
}

/// Replays: without `text` as it is, with it edited.
async fn replay(
    State(room): State<Room>,
    caller: Caller,
    Path(id): Path<Id>,
    Form(edit): Form<Edit>,
) -> Result<Response, Fault> {
    let w = caller.words();
    let opened = open(&room, &caller, id).await?;
    if !opened.is_open() {
        return Err(Fault::new(Kind::Conflict));
    }
    let text = edit.text.clone().unwrap_or_else(|| opened.original.text.clone());
    let Ok(bytes) = opened.original.edited(&text) else {
        return editor_page(&caller, opened, Some(text), edit.reason, None);
    };
    let reason = reason_of(&edit.reason);
    let watched = opened.original.watched(&text);
    let asked = Asked {
        draft: journey::lines_of(&text),
        reason: reason.clone(),
        by: caller.authority.principal().to_owned(),
        at: room.clock.now(),
    };
    if !watched.is_empty() {
        if reason.is_empty() {
            let said = Notice::new(
                NoticeKind::Partial,
                w.t("quarantine.reason_needed"),
                w.t("quarantine.reason_text"),
            );
            return editor_page(&caller, opened, Some(text), reason, Some(said));
        }
        correction::keep(&room.tables, opened.line.id, opened.correction.as_ref(), asked).await?;
        caller.detail(format!("correction of {} waits", opened.line.id));
        return Ok(caller.go(&format!("/quarantine/{}", opened.line.id)));
    }
    make(&room, &caller, &opened, asked, bytes).await
}

async fn make(
    room: &Room,
    caller: &Caller,
    opened: &Opened,
    asked: Asked,
    bytes: (bytes::Bytes, hilum_core::ContentType),
) -> Result<Response, Fault> {
    let before = opened.correction.as_ref();
    let (record, position) = correction::make(room, &opened.original, before, asked, bytes).await?;
    caller.detail(format!("replay of {} as {record}", opened.line.id));
    Ok(caller.go(&format!("/messages/{record}?applied={position}")))
}

async fn release(State(room): State<Room>, caller: Caller, Path(id): Path<Id>) -> Result<Response, Fault> {
    let opened = open(&room, &caller, id).await?;
    let Some(waiting) = opened.waiting().cloned() else { return Err(Fault::new(Kind::Conflict)) };
    if !is_second(&caller, &waiting) {
        return Err(Fault::worded(Kind::Forbidden, "second"));
    }
    let Ok(bytes) = opened.original.edited(&waiting.draft) else {
        return editor_page(&caller, opened, None, waiting.reason, None);
    };
    let asked = Asked {
        draft: waiting.draft,
        reason: waiting.reason,
        by: caller.authority.principal().to_owned(),
        at: room.clock.now(),
    };
    make(&room, &caller, &opened, asked, bytes).await
}

async fn discard(State(room): State<Room>, caller: Caller, Path(id): Path<Id>) -> Result<Response, Fault> {
    let opened = open(&room, &caller, id).await?;
    let Some(waiting) = opened.waiting() else { return Err(ViewError::NotFound.into()) };
    correction::drop_pending(&room.tables, waiting).await?;
    caller.detail(format!("correction of {} dropped", opened.line.id));
    Ok(caller.go(&format!("/quarantine/{}", opened.line.id)))
}
