//! The search explorer: what a search does, and how its pages are linked in each style, side by side.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use hilum_fhir::FhirId;
use hilum_web::audit::Action;
use hilum_web::outcome::Fault;
use hilum_web::params::{Given, Parameters, Takes};
use hilum_web::route::{Access, READERS, Route, Surface};
use hilum_web::ui::{Notice, NoticeKind, Spark};
use hilum_web::visit::Caller;
use hilum_web::words::Words;
use serde::Deserialize;

use crate::Room;
use crate::fhir::{Explained, Seen, Style, explain, pages};
use crate::limits::EXPLORED_PAGES_MAX;

/// The routes of this file.
pub(crate) fn routes(room: &Room) -> Vec<Route> {
    let readers = Access::Roles(READERS);
    vec![
        Route::get("/explore", readers, Surface::Page, room.clone(), page).nav("nav.explore", 60),
        // POST, because what is searched for may be a name.
        Route::post("/explore", readers, Surface::Page, room.clone(), page).audit(Action::Search),
    ]
}

/// What is asked: a search, typed, or of a patient whose page leads here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    search: String,
    patient: String,
}

impl Parameters for Asked {
    const NAMES: &'static [&'static str] = &["patient"];

    fn takes(_name: &str) -> Takes {
        Takes::Text
    }
}

/// An example that is not about anybody.
const EXAMPLE: &str = "Encounter?status=in-progress&_sort=-date&_count=5";

struct Step {
    does: String,
    criterion: String,
    rank: String,
}

struct PlanCard {
    explained: Explained,
    steps: Vec<Step>,
    rows: String,
    matches: String,
    took: String,
}

impl PlanCard {
    fn of(w: &Words, explained: Explained) -> Self {
        let counted =
            |count: Option<u64>| count.map_or_else(|| w.t("explore.many").to_owned(), |n| w.number(n));
        let steps = explained.steps.iter().map(|step| {
            let (does, criterion) = match step.does.as_str() {
                "drives" => (w.t("explore.drives"), step.criterion.as_str()),
                "guards" => (w.t("explore.guards"), w.t("explore.guarded")),
                "orders" => (w.t("explore.orders"), step.criterion.as_str()),
                _ => (w.t("explore.verifies"), step.criterion.as_str()),
            };
            let thought = match step.rank {
                _ if ["guards", "orders"].contains(&step.does.as_str()) => "",
                0 | 1 => w.t("explore.one"),
                2..=4 => w.t("explore.few"),
                5..=8 => w.t("explore.some"),
                _ => w.t("explore.all"),
            };
            Step { does: does.to_owned(), criterion: criterion.to_owned(), rank: thought.to_owned() }
        });
        Self {
            steps: steps.collect(),
            rows: counted(explained.driver_rows),
            matches: counted(explained.matches),
            took: millis(explained.took_us),
            explained,
        }
    }
}

fn millis(us: u64) -> String {
    format!("{:.1} ms", us as f64 / 1_000.0)
}

/// The beginning of a link of ours, and how long it is.
fn short(w: &Words, address: &str) -> String {
    let path = address.find("/fhir").and_then(|at| address.get(at..)).unwrap_or(address);
    match path.get(..ADDRESS_SHOWN) {
        Some(begin) if path.len() > ADDRESS_SHOWN => {
            format!("{begin}… {}", w.n("explore.long", path.len() as u64))
        }
        _ => path.to_owned(),
    }
}

/// Characters of an address that are shown.
const ADDRESS_SHOWN: usize = 28;

struct PageRow {
    n: usize,
    shown: String,
    with: String,
    total: Option<String>,
    bytes: String,
    took: String,
    links: String,
    next: Option<String>,
}

struct Column {
    style: &'static str,
    title: String,
    text: String,
    spark: Spark,
    pages: Vec<PageRow>,
    more: Option<String>,
}

impl Column {
    fn of(w: &Words, style: Style, seen: &[Seen]) -> Self {
        let (title, text) = match style {
            Style::Sealed => ("explore.sealed", "explore.sealed_text"),
            Style::Offset => ("explore.offset", "explore.offset_text"),
            Style::GetPages => ("explore.getpages", "explore.getpages_text"),
        };
        let relation = |name: &str| match name {
            "first" => w.t("explore.first").to_owned(),
            "previous" => w.t("explore.previous").to_owned(),
            "next" => w.t("explore.next").to_owned(),
            "last" => w.t("explore.last").to_owned(),
            _ => String::new(),
        };
        let rows = seen.iter().zip(1..).map(|(page, n)| {
            let links = page.links.iter().map(|name| relation(name)).filter(|word| !word.is_empty());
            PageRow {
                n,
                shown: w.number(page.matches),
                with: w.number(page.included),
                total: page.total.map(|total| w.number(total)),
                bytes: w.number(page.bytes),
                took: millis(page.took_us),
                links: links.collect::<Vec<_>>().join(" · "),
                next: page.next.as_deref().map(|address| short(w, address)),
            }
        });
        let values: Vec<f64> = seen.iter().map(|page| page.took_us as f64).collect();
        let top = seen.iter().map(|page| page.took_us).max().unwrap_or_default();
        let is_more = seen.last().is_some_and(|page| page.next.is_some());
        Self {
            style: style.as_str(),
            title: w.t(title).to_owned(),
            text: w.t(text).to_owned(),
            spark: Spark::new(w.t("explore.time"), millis(top), &values),
            pages: rows.collect(),
            more: is_more.then(|| w.n("explore.more", seen.len() as u64)),
        }
    }
}

#[derive(Template)]
#[template(path = "records/explored.html")]
struct ExploredPart {
    w: Words,
    notice: Option<Notice>,
    plans: Vec<PlanCard>,
    columns: Vec<Column>,
}

impl askama::filters::HtmlSafe for ExploredPart {}

#[derive(Template)]
#[template(path = "records/explore.html")]
struct ExplorePage {
    w: Words,
    csrf: String,
    search: String,
    explored: ExploredPart,
}

async fn page(
    State(room): State<Room>,
    caller: Caller,
    Given(asked): Given<Asked>,
) -> Result<Response, Fault> {
    let w = caller.words();
    let typed = asked.search.trim().to_owned();
    let search = if typed.is_empty() && !asked.patient.is_empty() {
        let patient = FhirId::parse(&asked.patient);
        let patient = patient.map_err(|_| Fault::parameter("patient", &["the id of a Patient"]))?;
        format!("Encounter?patient={patient}&_sort=-date&_count=5")
    } else {
        typed
    };
    if !asked.search.trim().is_empty() {
        caller.typed(&search);
    }
    let explored = explored(&room, &caller, &w, &search).await;
    if caller.is_htmx() {
        return caller.fragment(&explored);
    }
    let title = w.t("explore.title").to_owned();
    let page = ExplorePage { w, csrf: caller.csrf(), search, explored };
    caller.page(title).wide().body(&page)
}

async fn explored(room: &Room, caller: &Caller, w: &Words, search: &str) -> ExploredPart {
    let mut part = ExploredPart { w: w.clone(), notice: None, plans: Vec::new(), columns: Vec::new() };
    if search.is_empty() {
        let text = w.f1("explore.none_text", "example", EXAMPLE);
        part.notice = Some(Notice::new(NoticeKind::Empty, w.t("explore.none"), text));
        return part;
    }
    let walked = async {
        let plans = explain(room, &caller.authority, caller.shell().clock(), search).await?;
        let mut columns = Vec::new();
        for style in Style::ALL {
            let seen = pages(room, caller, search, style, EXPLORED_PAGES_MAX).await?;
            caller.saw_rows(seen.iter().map(|page| page.matches).sum());
            columns.push(Column::of(w, style, &seen));
        }
        Ok::<_, String>((plans, columns))
    };
    match walked.await {
        Ok((plans, columns)) => {
            part.plans = plans.into_iter().map(|explained| PlanCard::of(w, explained)).collect();
            part.columns = columns;
        }
        Err(why) => part.notice = Some(Notice::new(NoticeKind::Error, w.t("explore.refused"), why)),
    }
    part
}
