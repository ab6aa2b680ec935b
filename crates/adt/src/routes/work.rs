//! The work queue: identity, merges, closed visits, shared identifiers. What is decided is a logged input.

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::response::Response;
use hilum_core::{Id, Kind};
use hilum_web::outcome::Fault;
use hilum_web::params::{Parameters, Params, Takes};
use hilum_web::route::{Access, OPERATORS, Route, Surface};
use hilum_web::ui::{Notice, NoticeKind};
use hilum_web::visit::Caller;
use hilum_web::words::Words;
use serde::{Deserialize, Serialize};

use super::{BOARD_TOPIC, MESSAGE_TOPIC, Room, reason_of, when, word_of};
use crate::decision::Decision;
use crate::view::search::{self, Found};
use crate::view::work::{self, Item};
use crate::view::{Freshness, ViewError};

/// The routes of this file.
pub fn routes(room: &Room) -> Vec<Route> {
    let operators = Access::Roles(OPERATORS);
    vec![
        Route::get("/work", operators, Surface::Page, room.clone(), list).nav("nav.work", 40),
        Route::get("/work/{id}", operators, Surface::Page, room.clone(), one),
        // POST, because who is looked for must not stand in a URL.
        Route::post("/work/{id}/find", operators, Surface::Page, room.clone(), find)
            .audit(hilum_web::audit::Action::Search),
        Route::post("/work/{id}/decide", operators, Surface::Page, room.clone(), decide),
        Route::get("/api/work", operators, Surface::Api, room.clone(), api),
    ]
}

const KINDS: [&str; 4] = ["identity", "merge", "closed-visit", "shared-identifier"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    kind: String,
}

impl Parameters for Asked {
    const NAMES: &'static [&'static str] = &["kind"];

    fn takes(_: &str) -> Takes {
        Takes::OneOf(&KINDS)
    }
}

impl Asked {
    fn kind(&self) -> Option<&'static str> {
        KINDS.into_iter().find(|kind| *kind == self.kind)
    }
}

#[derive(Serialize)]
struct Answer {
    items: Vec<Item>,
    truncated: bool,
    #[serde(flatten)]
    freshness: Freshness,
}

async fn api(
    State(room): State<Room>,
    caller: Caller,
    Params(asked): Params<Asked>,
) -> Result<Response, Fault> {
    let freshness = room.freshness().await?;
    let (items, truncated) = work::open(room.sight(&caller.authority), asked.kind()).await?;
    saw(&caller, &items);
    caller.json(&Answer { items, truncated, freshness })
}

fn saw(caller: &Caller, items: &[Item]) {
    caller.saw_rows(items.len() as u64);
    for item in items {
        for one in item.left.iter().chain(&item.right) {
            caller.saw(one.id);
        }
    }
}

/// A record in one line.
fn shown(w: &Words, one: &Found) -> String {
    let name = match &one.name {
        _ if one.confidential => w.t("census.masked"),
        Some(name) => name.as_str(),
        None => w.t("word.not_known"),
    };
    match one.identifiers.first() {
        Some(id) => format!("{name} ({} {})", id.authority, id.value),
        None => name.to_owned(),
    }
}

struct Row {
    item: Item,
    kind: String,
    left: Option<String>,
    right: Vec<String>,
    why: Vec<String>,
    opened: String,
    age: String,
}

impl Row {
    fn new(w: &Words, item: Item, freshness: &Freshness) -> Self {
        let why = item.why.iter().map(|why| word_of(w, "doubt", why).to_owned());
        let why = why.chain(item.applied.filter(|applied| !applied).map(|_| w.t("work.not_done").to_owned()));
        Self {
            kind: word_of(w, "work_kind", &item.kind).to_owned(),
            left: item.left.as_ref().map(|one| shown(w, one)),
            right: item.right.iter().map(|one| shown(w, one)).collect(),
            why: why.collect(),
            opened: w.at(&item.opened),
            age: w.ago(&item.opened, &freshness.as_of),
            item,
        }
    }
}

#[derive(Template)]
#[template(path = "adt/work.html")]
struct ListPage {
    w: Words,
    rows: Vec<Row>,
    kinds: Vec<(&'static str, String, bool)>,
    here: String,
    state: Option<Notice>,
    freshness: Freshness,
}

async fn list(
    State(room): State<Room>,
    caller: Caller,
    Params(asked): Params<Asked>,
) -> Result<Response, Fault> {
    let w = caller.words();
    let freshness = room.freshness().await?;
    let kind = asked.kind();
    let (items, truncated) = work::open(room.sight(&caller.authority), kind).await?;
    saw(&caller, &items);
    let state = if items.is_empty() {
        Some(Notice::new(NoticeKind::Empty, w.t("work.none"), w.t("work.none_text")))
    } else {
        truncated.then(|| Notice::new(NoticeKind::Partial, w.t("work.cut"), w.t("work.cut_text")))
    };
    let page = ListPage {
        rows: items.into_iter().map(|item| Row::new(&w, item, &freshness)).collect(),
        kinds: KINDS.map(|one| (one, word_of(&w, "work_kind", one).to_owned(), kind == Some(one))).into(),
        here: kind.map_or_else(|| "/work".to_owned(), |kind| format!("/work?kind={kind}")),
        state,
        freshness,
        w: w.clone(),
    };
    caller.page(w.t("work.title")).says_as_of().live(&[MESSAGE_TOPIC, BOARD_TOPIC]).body(&page)
}

/// One side's values, in the order of the heads; whether each differs from the left.
struct Side {
    id: Id,
    shown: String,
    cells: Vec<(String, bool)>,
    /// What is asked before this record is merged into the left one, and the left one into this.
    into_left: String,
    from_left: String,
}

#[derive(Template)]
#[template(path = "adt/work_one.html")]
struct OnePage {
    w: Words,
    csrf: String,
    row: Row,
    /// Head, the left value, the others with whether each differs.
    #[allow(
        clippy::type_complexity,
        reason = "a row of cells: word, title, values with whether they differ"
    )]
    cells: Vec<(&'static str, String, Vec<(String, bool)>)>,
    left: Option<Side>,
    right: Vec<Side>,
    unmerge_ask: Option<String>,
    is_open: bool,
    found: FoundPart,
}

#[derive(Template)]
#[template(path = "adt/work_found.html")]
struct FoundPart {
    w: Words,
    csrf: String,
    work: Id,
    rows: Vec<(Found, String, String)>,
    state: Option<Notice>,
}

impl askama::filters::HtmlSafe for FoundPart {}

const HEADS: [&str; 4] = ["patients.name_head", "banner.born", "banner.sex", "banner.identifier"];

fn cells(w: &Words, one: &Found) -> [String; 4] {
    let not_known = || w.t("word.not_known").to_owned();
    let name = if one.confidential { Some(w.t("census.masked").to_owned()) } else { one.name.clone() };
    let ids = one.identifiers.iter().map(|id| format!("{} {}", id.authority, id.value));
    [
        name.unwrap_or_else(not_known),
        one.birth_date.as_deref().map_or_else(not_known, |born| when(w, born)),
        one.gender.as_deref().map_or_else(not_known, |sex| word_of(w, "sex", sex).to_owned()),
        Some(ids.collect::<Vec<_>>().join(", ")).filter(|ids| !ids.is_empty()).unwrap_or_else(not_known),
    ]
}

fn side(w: &Words, one: &Found, left: Option<&Found>) -> Side {
    let beside = left.map(|left| cells(w, left));
    let own = cells(w, one);
    let differs = |at: usize| beside.as_ref().is_some_and(|beside| beside.get(at) != own.get(at));
    let other = left.map(|left| shown(w, left)).unwrap_or_default();
    let name = shown(w, one);
    Side {
        id: one.id,
        into_left: w.f2("work.merge_ask", "old", &name, "new", &other),
        from_left: w.f2("work.merge_ask", "old", &other, "new", &name),
        cells: own.iter().cloned().enumerate().map(|(at, cell)| (cell, differs(at))).collect(),
        shown: name,
    }
}

async fn one(State(room): State<Room>, caller: Caller, Path(id): Path<Id>) -> Result<Response, Fault> {
    let item = work::read(room.sight(&caller.authority), id).await?;
    saw(&caller, std::slice::from_ref(&item));
    let found =
        FoundPart { w: caller.words(), csrf: caller.csrf(), work: item.id, rows: Vec::new(), state: None };
    one_page(&caller, item, &room.freshness().await?, found)
}

fn one_page(caller: &Caller, item: Item, freshness: &Freshness, found: FoundPart) -> Result<Response, Fault> {
    let w = caller.words();
    let left = item.left.clone();
    let right: Vec<Side> = item.right.iter().map(|one| side(&w, one, left.as_ref())).collect();
    let unmerge = left.as_ref().zip(item.right.first()).filter(|_| item.applied == Some(true));
    let own = left.as_ref().map(|left| self::cells(&w, left)).unwrap_or_default();
    let cells = HEADS.iter().zip(own).enumerate().map(|(at, (head, own))| {
        let others = right.iter().filter_map(|one| one.cells.get(at).cloned()).collect();
        (*head, own, others)
    });
    let page = OnePage {
        csrf: caller.csrf(),
        cells: cells.collect(),
        left: left.as_ref().map(|left| side(&w, left, None)),
        right,
        unmerge_ask: unmerge
            .map(|(old, new)| w.f2("patient.unmerge_ask", "old", shown(&w, old), "new", shown(&w, new))),
        is_open: item.state == "open",
        found,
        row: Row::new(&w, item, freshness),
        w: w.clone(),
    };
    caller.page(page.row.kind.clone()).under("/work").body(&page)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Find {
    identifier: String,
    name: String,
}

async fn find(
    State(room): State<Room>,
    caller: Caller,
    Path(id): Path<Id>,
    Form(asked): Form<Find>,
) -> Result<Response, Fault> {
    let w = caller.words();
    let sight = room.sight(&caller.authority);
    let item = work::read(sight, id).await?;
    let left = item.left.clone().ok_or(ViewError::NotFound)?;
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let query = search::Query {
        identifier: some(&asked.identifier),
        name: some(&asked.name),
        limit: 20,
        ..search::Query::default()
    };
    let answer = search::search(sight, &query).await?;
    caller.saw_rows(answer.patients.len() as u64);
    let rows: Vec<_> = answer
        .patients
        .into_iter()
        .filter(|one| one.id != left.id && one.merged_into.is_none())
        .map(|one| {
            caller.saw(one.id);
            let ask = w.f2("work.identify_ask", "old", shown(&w, &left), "new", shown(&w, &one));
            let text = shown(&w, &one);
            (one, text, ask)
        })
        .collect();
    let state = rows
        .is_empty()
        .then(|| Notice::new(NoticeKind::Empty, w.t("patients.none"), w.t("patients.none_text")));
    let part = FoundPart { csrf: caller.csrf(), w, work: id, rows, state };
    if caller.is_htmx() {
        return caller.fragment(&part);
    }
    one_page(&caller, item, &room.freshness().await?, part)
}

#[derive(Debug, Deserialize)]
struct Decide {
    what: String,
    old: Option<Id>,
    new: Option<Id>,
    #[serde(default)]
    note: String,
}

async fn decide(
    State(room): State<Room>,
    caller: Caller,
    Path(id): Path<Id>,
    Form(asked): Form<Decide>,
) -> Result<Response, Fault> {
    let item = work::read(room.sight(&caller.authority), id).await?;
    let by = caller.authority.principal().to_owned();
    let reason = reason_of(&asked.note);
    let two = || asked.old.zip(asked.new).filter(|(old, new)| old != new).ok_or(Fault::new(Kind::Invalid));
    let sides: Vec<Id> = item.left.iter().chain(&item.right).map(|one| one.id).collect();
    let position = match asked.what.as_str() {
        "settle" => room.decide(&Decision::Settle { work: id, by, note: reason }).await?,
        "merge" => {
            let (old, new) = two()?;
            if !(sides.contains(&old) && sides.contains(&new)) {
                return Err(Fault::new(Kind::Invalid));
            }
            room.decide(&Decision::Merge { old, new, by, reason }).await?
        }
        "unmerge" => {
            let (Some(left), Some(right)) = (&item.left, item.right.first()) else {
                return Err(Fault::new(Kind::Conflict));
            };
            room.unmerge(left.id, right.id, by, reason).await?
        }
        "identify" if item.kind == "identity" => {
            let left = item.left.as_ref().ok_or(ViewError::NotFound)?;
            let number = asked.new.ok_or(Fault::new(Kind::Invalid))?;
            if search::found(room.sight(&caller.authority), number).await?.is_none() {
                return Err(Fault::new(Kind::NotFound));
            }
            room.decide(&Decision::Identify { provisional: left.id, number, by, reason }).await?
        }
        _ => return Err(Fault::new(Kind::Invalid)),
    };
    for side in sides.into_iter().chain(asked.new) {
        caller.saw(side);
    }
    caller.detail(format!("{} {id} {position}", asked.what));
    Ok(caller.go(&format!("/work/{id}")))
}
