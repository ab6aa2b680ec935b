//! The messages: the list, and one message's journey.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use hilum_core::{Id, Timestamp};
use hilum_web::audit::Action;
use hilum_web::outcome::Fault;
use hilum_web::params::{Given, Parameters, Params, Takes};
use hilum_web::route::{Access, READERS, Route, Surface};
use hilum_web::ui::{Notice, NoticeKind, Tag};
use hilum_web::visit::Caller;
use hilum_web::words::Words;
use serde::Deserialize;

use super::census::behind;
use super::{Applied, ID, MESSAGE_TOPIC, Room, STATUSES, status_tag, took};
use crate::limits;
use crate::view::confidence::hide;
use crate::view::journey::{self, Journey, Relative};
use crate::view::messages::{self, Line};

/// The routes of this file.
pub fn routes(room: &Room) -> Vec<Route> {
    let readers = Access::Roles(READERS);
    vec![
        Route::get("/messages", readers, Surface::Page, room.clone(), list).nav("nav.messages", 20),
        // POST, because whatever is typed may be a name.
        Route::post("/messages", readers, Surface::Page, room.clone(), list).audit(Action::Read),
        Route::get("/messages/{id}", readers, Surface::Page, room.clone(), one),
    ]
}

/// The filters. What is chosen lives in the URL, and so may what a link of ours names, a rule of ours among it; control
/// id and type are typed, and come by POST alone: they are no parameters of an address.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
struct Asked {
    status: String,
    source: String,
    kind: String,
    control_id: String,
    rule: String,
    patient: Option<Id>,
    encounter: Option<Id>,
    after: Option<Id>,
}

impl Parameters for Asked {
    const NAMES: &'static [&'static str] = &["status", "source", "rule", "patient", "encounter", "after"];

    fn takes(name: &str) -> Takes {
        match name {
            "status" => Takes::OneOf(&STATUSES),
            "patient" | "encounter" | "after" => ID,
            _ => Takes::Text,
        }
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

impl Asked {
    fn query(&self) -> messages::Query {
        messages::Query {
            control_id: some(&self.control_id),
            status: some(&self.status),
            rule: some(&self.rule),
            source: some(&self.source),
            patient: self.patient,
            encounter: self.encounter,
            kind: some(&self.kind).map(|kind| match kind.to_lowercase() {
                kind if kind == messages::DECISION_KIND => kind,
                _ => kind.to_uppercase(),
            }),
            before: None,
            after: self.after,
            limit: limits::LIST_ROWS + 1,
        }
    }

    fn is_filtered(&self) -> bool {
        [&self.status, &self.source, &self.kind, &self.control_id, &self.rule]
            .into_iter()
            .any(|text| !text.trim().is_empty())
            || self.patient.is_some()
            || self.encounter.is_some()
    }

    /// The page's address with what was chosen, and without what was typed: a rule is one of ours.
    fn address(&self, w: &Words) -> String {
        let id = |id: Option<Id>| id.map(|id| id.to_string()).unwrap_or_default();
        let is_rule = |rule: &str| w.get(&format!("rule.{rule}")).is_some();
        let rule = Some(self.rule.trim()).filter(|rule| is_rule(rule)).unwrap_or_default();
        let ids = [id(self.patient), id(self.encounter), id(self.after)];
        let [patient, encounter, after] = ids.each_ref().map(String::as_str);
        let (status, source) = (self.status.trim(), self.source.trim());
        let query = [
            ("status", status),
            ("source", source),
            ("rule", rule),
            ("patient", patient),
            ("encounter", encounter),
            ("after", after),
        ];
        super::address("/messages", &query)
    }
}

struct Row {
    line: Line,
    status: Tag,
    received: String,
    ago: String,
    took: String,
    findings: Option<String>,
}

#[derive(Template)]
#[template(path = "adt/messages.html")]
struct ListPage {
    w: Words,
    csrf: String,
    list: List,
    asked: Asked,
    statuses: [&'static str; 7],
    sources: Vec<String>,
}

#[derive(Template)]
#[template(path = "adt/messages_list.html")]
struct List {
    w: Words,
    rows: Vec<Row>,
    /// Behind which message this page begins; absent on the first.
    after: Option<Id>,
    /// Behind which message the next page begins.
    older: Option<Id>,
    as_of: Timestamp,
    lag: Option<String>,
    quarantined: Option<String>,
    refused: Option<String>,
    counted: String,
    state: Option<Notice>,
}

impl askama::filters::HtmlSafe for List {}

/// Counts stop there.
const COUNT_CAP: u64 = 1_000;

async fn list(
    State(room): State<Room>,
    caller: Caller,
    Given(asked): Given<Asked>,
) -> Result<Response, Fault> {
    let w = caller.words();
    let freshness = room.freshness().await?;
    let mut lines = messages::find(room.sight(&caller.authority), &asked.query()).await?;
    let is_more = lines.len() > limits::LIST_ROWS as usize;
    lines.truncate(limits::LIST_ROWS as usize);
    caller.saw_rows(lines.len() as u64);
    if [&asked.control_id, &asked.kind, &asked.rule].into_iter().any(|text| !text.trim().is_empty()) {
        caller.typed(&[asked.control_id.trim(), asked.kind.trim(), asked.rule.trim()].join("\n"));
    }
    let count = |status| messages::count(&room.tables, &caller.authority, status, COUNT_CAP);
    let (quarantined, refused) = (count("quarantined").await?, count("refused").await?);
    let older = lines.last().filter(|_| is_more).map(|last| last.id);
    let state = room.progress.health().paused().map(|why| {
        Notice::new(NoticeKind::Error, w.t("census.paused.title"), w.f1("census.paused.text", "why", why))
    });
    let state = state.or_else(|| {
        lines.is_empty().then(|| {
            let (title, text) = if asked.is_filtered() {
                ("messages.none_match", "messages.none_match_text")
            } else {
                ("messages.none", "messages.none_text")
            };
            Notice::new(NoticeKind::Empty, w.t(title), w.t(text))
        })
    });
    let rows = lines.into_iter().map(|line| Row {
        status: status_tag(&w, &line.status),
        received: w.at_second(&line.received),
        ago: w.ago(&line.received, &freshness.as_of),
        took: took(&w, line.applied_at.micros_since(line.received)),
        findings: (!line.findings.is_empty()).then(|| w.n("messages.findings", line.findings.len() as u64)),
        line,
    });
    let rows: Vec<Row> = rows.collect();
    let some_of = |key: &str, n: u64| (n > 0).then(|| w.n(key, n));
    let list = List {
        counted: w.n("messages.rows", rows.len() as u64),
        rows,
        after: asked.after,
        older,
        as_of: freshness.as_of,
        lag: behind(&w, freshness.lag),
        quarantined: some_of("messages.quarantined", quarantined),
        refused: some_of("messages.refused", refused),
        state,
        w: w.clone(),
    };
    if caller.is_htmx() {
        return caller.fragment_at(&asked.address(&w), &list);
    }
    let sources = room.sources.all().map(|source| source.name().to_string()).collect();
    let title = w.t("messages.title").to_owned();
    let page = ListPage { w, csrf: caller.csrf(), list, asked, statuses: STATUSES, sources };
    caller.page(title).wide().says_as_of().live(&[MESSAGE_TOPIC]).body(&page)
}

struct Step {
    word: String,
    at: Option<(String, String)>,
    /// Why it says no time.
    when: &'static str,
    took: Option<String>,
    class: &'static str,
    note: Option<String>,
}

#[derive(Template)]
#[template(path = "adt/message.html")]
struct MessagePage {
    w: Words,
    journey: Journey,
    /// What its event is called; whether that is English all the same.
    event: Option<(String, bool)>,
    status: Tag,
    steps: Vec<Step>,
    copies: Vec<Related>,
    corrects: Vec<Related>,
    corrected_by: Vec<Related>,
    changed: Vec<(String, Option<String>)>,
    /// Whether the asker may mend it here.
    mends: bool,
    segments: String,
}

/// The title of a message's event: an ADT event's in the reader's language, another message type's as the standard has it.
fn event_of(w: &Words, line: &Line, name: Option<&str>) -> Option<(String, bool)> {
    let event = line.kind.strip_prefix("ADT^").map(str::to_lowercase);
    match event.and_then(|event| w.get(&format!("trigger.{event}"))) {
        Some(title) => Some((title.to_owned(), false)),
        None => name.map(|name| (name.to_owned(), !w.is_en())),
    }
}

struct Related {
    id: Id,
    received: String,
    status: Tag,
}

fn related(w: &Words, all: &[Relative], not: Option<Id>) -> Vec<Related> {
    let all = all.iter().filter(|one| Some(one.id) != not);
    all.map(|one| Related {
        id: one.id,
        received: w.at_second(&one.received),
        status: status_tag(w, &one.status),
    })
    .collect()
}

fn step(w: &Words, step: &journey::Step, line: &Line) -> Step {
    let key = format!("step.{}", step.what);
    let is_status = w.get(&key).is_none();
    let word = if is_status { super::word_of(w, "message_status", &step.what) } else { w.t(&key) };
    let class = match step.what.as_str() {
        "quarantined" | "unreadable" => "is-act",
        "refused" => "is-warn",
        "duplicate" | "no-effect" | "replaced" => "is-off",
        _ if step.at.is_some() || step.what == "parsed" => "is-done",
        _ => "is-off",
    };
    let note = match step.what.as_str() {
        "received" => Some(w.f2(
            "step.received_note",
            "source",
            &line.source,
            "n",
            w.number(line.size_bytes.unsigned_abs()),
        )),
        "durable" => Some(line.position.to_string()),
        "acknowledged" => Some(line.ack.clone()),
        "parsed" | "unreadable" => Some(super::word_of(w, "charset_rule", &line.charset_rule).to_owned()),
        _ => line.rule.clone(),
    };
    Step {
        word: word.to_owned(),
        at: step.at.as_ref().map(|at| (w.machine(at), w.at_second(at))),
        when: match step.what.as_str() {
            "parsed" | "unreadable" => "step.with_next",
            _ => "message.not_recorded",
        },
        took: step.took_us.map(|micros| took(w, micros)),
        class,
        note: note.filter(|note| !note.is_empty()),
    }
}

/// A message's journey, once what is waited for is applied; whose it is was looked at.
pub(super) async fn seen(room: &Room, caller: &Caller, id: Id, asked: &Applied) -> Result<Journey, Fault> {
    room.wait_for(asked.applied.as_deref()).await?;
    let sight = room.sight(&caller.authority);
    let mut journey = journey::read(sight, id).await?;
    // The audit log knows whose it is, also where the answer does not say.
    if let Some(patient) = journey.message.patient {
        caller.saw(patient);
    }
    hide(sight, std::slice::from_mut(&mut journey.message)).await?;
    Ok(journey)
}

async fn one(
    State(room): State<Room>,
    caller: Caller,
    Path(id): Path<Id>,
    Params(asked): Params<Applied>,
) -> Result<Response, Fault> {
    let journey = seen(&room, &caller, id, &asked).await?;
    let w = caller.words();
    let line = &journey.message;
    let changed = line.changed.iter().map(|reference| {
        let link = reference.split_once('/').and_then(|(kind, id)| match kind {
            "Patient" => Some(format!("/patients/{id}")),
            "Encounter" => line.patient.map(|patient| format!("/patients/{patient}#e-{id}")),
            _ => None,
        });
        (reference.clone(), link)
    });
    let way = &journey.journey;
    let page = MessagePage {
        event: event_of(&w, line, way.event),
        status: status_tag(&w, &line.status),
        steps: way.steps.iter().map(|one| step(&w, one, line)).collect(),
        copies: related(&w, &way.copies, Some(line.id)),
        corrects: related(&w, &way.corrects, None),
        corrected_by: related(&w, &way.corrected_by, None),
        changed: changed.collect(),
        segments: w.n("message.segments_n", way.segments.len() as u64),
        mends: caller.authority.decides() && matches!(line.status.as_str(), "quarantined" | "refused"),
        w: w.clone(),
        journey,
    };
    let title = format!("{} {}", page.journey.message.kind, page.journey.message.control_id);
    caller.page(title).under("/messages").body(&page)
}
