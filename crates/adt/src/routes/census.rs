//! The census page: who is in the house, and where, as of now.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use hilum_core::{Id, InstallationKey, Timestamp};
use hilum_web::audit::Action;
use hilum_web::outcome::Fault;
use hilum_web::params::{Given, Parameters, Takes};
use hilum_web::route::{Access, READERS, Route, Surface};
use hilum_web::ui::{Notice, NoticeKind, Tag, Tone};
use hilum_web::visit::Caller;
use hilum_web::words::Words;
use serde::Deserialize;

use super::{BOARD_TOPIC, ID, LISTS, Room, word_of};
use crate::limits::CENSUS_PAGE_ROWS;
use crate::sources::SourceHealth;
use crate::state::BoardList;
use crate::view::census::{self, Census, Line};
use crate::view::place::Place;

/// The routes of this file.
pub fn routes(room: &Room) -> Vec<Route> {
    let readers = Access::Roles(READERS);
    vec![
        Route::get("/census", readers, Surface::Page, room.clone(), page).nav("nav.census", 10),
        // POST, because a search for a name must not stand in a URL, with scripts or without.
        Route::post("/census", readers, Surface::Page, room.clone(), page).audit(Action::Read),
    ]
}

/// The filters: all but `q` live in the page's URL. `q` comes by POST alone: it is no parameter of an address. So does
/// the place that a page begins behind: the address has a name for it that tells nothing.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
struct Asked {
    list: Option<BoardList>,
    unit: String,
    marked: String,
    q: String,
    /// The place that this page begins behind, by its [`Place::token`]; absent on the first.
    from: Option<Id>,
    /// The same as [`Place::to_text`] has it: right also when nobody stands there any more.
    behind: String,
    /// The same, where a button says so.
    go: Option<String>,
    /// How many rows stand before this page's: found, never asked.
    #[serde(skip)]
    before: usize,
}

impl Parameters for Asked {
    const NAMES: &'static [&'static str] = &["list", "unit", "marked", "from"];

    fn takes(name: &str) -> Takes {
        match name {
            "list" => Takes::OneOf(&LISTS),
            "from" => ID,
            _ => Takes::Text,
        }
    }
}

impl Asked {
    fn list(&self) -> BoardList {
        self.list.unwrap_or(BoardList::Inpatient)
    }

    /// The page's address with its choices, and without what was typed.
    fn address(&self) -> String {
        let list = self.list().as_str();
        let from = self.from.map(|from| from.to_string()).unwrap_or_default();
        let (unit, marked) = (self.unit.trim(), self.marked.as_str());
        super::address("/census", &[("list", list), ("unit", unit), ("marked", marked), ("from", &from)])
    }

    /// With the page that is asked for, if anybody stands on it; else the first. An address whose place is no more
    /// leads to the first too: rather somebody twice than somebody on no page.
    fn within(mut self, lines: &[Line], key: &InstallationKey) -> Self {
        let from = self.from.take().filter(|_| self.go.is_none() && self.behind.is_empty());
        let behind = self.go.take().unwrap_or(std::mem::take(&mut self.behind));
        let before = match (Place::parse(&behind), from) {
            (Some(behind), _) => lines.partition_point(|line| Place::of(line) <= behind),
            (None, Some(from)) => {
                let at = lines.iter().position(|line| Place::of(line).token(key) == from);
                at.map_or(0, |at| at + 1)
            }
            (None, None) => 0,
        };
        self.before = if before < lines.len() { before } else { 0 };
        if let Some(last) = self.before.checked_sub(1).and_then(|at| lines.get(at)).map(Place::of) {
            (self.from, self.behind) = (Some(last.token(key)), last.to_text());
        }
        self
    }

    fn query(&self) -> census::Query {
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        census::Query {
            list: Some(self.list()),
            unit: text(&self.unit),
            marked: !self.marked.is_empty(),
            q: text(&self.q),
            ..census::Query::default()
        }
    }
}

/// The page, and the piece of it that changes by itself.
#[derive(Template)]
#[template(path = "adt/census.html")]
struct CensusPage {
    w: Words,
    csrf: String,
    rows: Rows,
    asked: Asked,
}

/// One tab.
struct Tab {
    list: BoardList,
    word: String,
    count: String,
    is_here: bool,
}

/// One unit with its lines.
struct Unit {
    /// Its code; absent = no place, or withheld.
    name: Option<String>,
    is_withheld: bool,
    lines: Vec<Row>,
}

/// One line in words.
struct Row {
    line: Line,
    place: String,
    class: String,
    status: String,
    age: Option<String>,
    born: Option<String>,
    sex: Option<String>,
    since: Option<(String, String, String)>,
    marks: Vec<Tag>,
    pending: Vec<String>,
    version: String,
}

/// What of a list stands on other pages: nobody vanishes.
struct Cut {
    /// "Rows 1–500 of 5,000"
    shown: String,
    more: String,
    /// Units that do not stand here whole: name, address, rows on other pages.
    units: Vec<(String, String, String)>,
    is_first: bool,
    /// The place that the next page begins behind.
    next: Option<String>,
}

impl Cut {
    /// Takes from `lines` what stands on other pages; absent = nothing does.
    fn of(w: &Words, asked: &Asked, lines: &mut Vec<Line>) -> Option<Self> {
        let all = lines.len();
        if all <= CENSUS_PAGE_ROWS {
            return None;
        }
        let end = all.min(asked.before + CENSUS_PAGE_ROWS);
        let behind = lines.split_off(end);
        let mine = lines.split_off(asked.before);
        let before = std::mem::replace(lines, mine);
        let mut elsewhere: BTreeMap<&str, u64> = BTreeMap::new();
        for unit in before.iter().chain(&behind).filter_map(|line| line.unit.as_deref()) {
            *elsewhere.entry(unit).or_default() += 1;
        }
        let unit = |(unit, rows): (&str, u64)| {
            let asked = Asked { unit: unit.to_owned(), from: None, ..asked.clone() };
            (unit.to_owned(), asked.address(), w.number(rows))
        };
        let number = |n: usize| w.number(n as u64);
        let (from, to, of) = (number(asked.before + 1), number(end), number(all));
        Some(Self {
            shown: w.f("census.part", &[("from", &from), ("to", &to), ("all", &of)]),
            more: w.n("census.elsewhere", (before.len() + behind.len()) as u64),
            units: elsewhere.into_iter().map(unit).collect(),
            is_first: asked.before == 0,
            next: lines.last().filter(|_| !behind.is_empty()).map(|last| Place::of(last).to_text()),
        })
    }
}

#[derive(Template)]
#[template(path = "adt/census_rows.html")]
struct Rows {
    w: Words,
    behind: String,
    tabs: Vec<Tab>,
    cut: Option<Cut>,
    units: Vec<Unit>,
    unit_names: Vec<(String, usize)>,
    state: Option<Notice>,
    /// Inpatients and those in the emergency department: who is here now. Outpatients are not.
    in_house: String,
    /// "214 open, 214 shown"; a difference must be acted on.
    counted: String,
    is_different: bool,
    /// How, in words.
    differs: Vec<String>,
    without_bed: Option<String>,
    undecided: Option<String>,
    as_of: Timestamp,
    lag: Option<String>,
}

impl askama::filters::HtmlSafe for Rows {}

impl Rows {
    fn new(w: &Words, asked: &Asked, mut census: Census, room: &Room, at: Timestamp) -> Self {
        let tabs = BoardList::ALL.map(|list| Tab {
            list,
            word: word_of(w, "census.list", list.as_str()).to_owned(),
            count: w.number(census.lists.get(list.as_str()).copied().unwrap_or(0) as u64),
            is_here: list == asked.list(),
        });
        let here = [BoardList::Inpatient, BoardList::Emergency];
        let in_house: usize = here.iter().filter_map(|list| census.lists.get(list.as_str())).sum();
        let some = |key: &'static str, n: u64| (n > 0).then(|| w.n(key, n));
        let state = state_of(w, asked, &census, room, at);
        let cut = Cut::of(w, asked, &mut census.encounters);
        let mut units: Vec<Unit> = Vec::new();
        for line in census.encounters {
            let same = units
                .last()
                .is_some_and(|unit| unit.is_withheld == line.confidential && unit.name == line.unit);
            if !same {
                units.push(Unit {
                    name: line.unit.clone(),
                    is_withheld: line.confidential,
                    lines: Vec::new(),
                });
            }
            if let Some(unit) = units.last_mut() {
                unit.lines.push(Row::new(w, line, at));
            }
        }
        Self {
            w: w.clone(),
            behind: asked.behind.clone(),
            tabs: tabs.into(),
            cut,
            units,
            unit_names: census.units.into_iter().collect(),
            state,
            in_house: w.n("census.in_house", in_house as u64),
            counted: w.f2(
                "census.count",
                "open",
                w.number(census.count.open as u64),
                "shown",
                w.number(census.count.shown as u64),
            ),
            is_different: census.count.is_different(),
            differs: [
                some("census.not_shown", census.count.not_shown as u64),
                some("census.not_open", census.count.not_open as u64),
                some("census.not_in_chart", census.count.not_in_chart as u64),
                some("census.unreadable", census.count.unreadable as u64),
            ]
            .into_iter()
            .flatten()
            .collect(),
            without_bed: some("census.without_bed", census.count.without_bed as u64),
            undecided: some("census.undecided", census.count.identity_undecided as u64),
            as_of: census.freshness.as_of,
            lag: behind(w, census.freshness.lag),
        }
    }
}

/// What is on disk and not in a list yet, for people; absent where that is nothing.
pub(super) fn behind(w: &Words, lag: Option<u64>) -> Option<String> {
    match lag {
        Some(0) => None,
        Some(lag) => Some(w.n("census.lag", lag)),
        None => Some(w.t("census.lag_unknown").to_owned()),
    }
}

/// Why the list may be empty or old: an outage never looks like an empty ward.
fn state_of(w: &Words, asked: &Asked, census: &Census, room: &Room, at: Timestamp) -> Option<Notice> {
    if let Some(why) = room.progress.health().paused() {
        return Some(Notice::new(
            NoticeKind::Error,
            w.t("census.paused.title"),
            w.f1("census.paused.text", "why", why),
        ));
    }
    let oldest = room.progress.health().oldest_unapplied();
    if let Some(oldest) = oldest.filter(|oldest| at.micros_since(*oldest) > 10_000_000) {
        // One is known to wait.
        let text =
            w.n("census.late.text", census.freshness.lag.unwrap_or(1)).replace("{at}", &w.at_second(&oldest));
        return Some(Notice::new(NoticeKind::Stale, w.t("census.late.title"), text));
    }
    let missing = room.gateways.silent(at);
    if let Some(gateway) = missing.first() {
        let text = w.f2(
            "census.missing.text",
            "name",
            gateway.process.place(),
            "at",
            w.at_second(&gateway.process.seen),
        );
        return Some(
            Notice::new(NoticeKind::Stale, w.t("census.missing.title"), text)
                .action("/sources", w.t("nav.sources")),
        );
    }
    let troubled = room
        .gateways
        .states(at)
        .into_iter()
        .filter(|source| matches!(source.health, SourceHealth::Silent | SourceHealth::Failing))
        .map(|source| match &source.last_received {
            Some(last) => w.f2("census.silent.since", "name", &source.name, "at", w.at_second(last)),
            None => w.f1("census.silent.never", "name", &source.name),
        });
    let troubled: Vec<String> = troubled.collect();
    if !troubled.is_empty() {
        let text = w.f1("census.silent.text", "names", troubled.join(", "));
        return Some(
            Notice::new(NoticeKind::Stale, w.t("census.silent.title"), text)
                .action("/sources", w.t("nav.sources")),
        );
    }
    if census.truncated {
        return Some(Notice::new(
            NoticeKind::Partial,
            w.t("census.truncated.title"),
            w.t("census.truncated.text"),
        ));
    }
    if census.encounters.is_empty() {
        let is_filtered = !asked.unit.is_empty() || !asked.marked.is_empty() || !asked.q.is_empty();
        let (title, text) = if is_filtered {
            ("census.none_match.title", "census.none_match.text")
        } else {
            ("census.none.title", "census.none.text")
        };
        return Some(Notice::new(NoticeKind::Empty, w.t(title), w.t(text)));
    }
    None
}

impl Row {
    fn new(w: &Words, line: Line, at: Timestamp) -> Self {
        let place = [&line.room, &line.bed].into_iter().flatten().cloned().collect::<Vec<_>>().join(" · ");
        let birth = line.patient.birth_date.as_deref();
        let day = birth.and_then(|date| date.parse::<jiff::civil::Date>().ok());
        let today = at.to_jiff().to_zoned(w.zone().clone()).date();
        let age =
            day.and_then(|day| Words::age_years(day, today)).map(|years| w.f1("census.age", "n", years));
        let marks = line.marks.iter().map(|mark| mark_tag(w, mark)).collect();
        let pending = line.pending.iter().map(|pending| {
            let what = format!("pending.{}", pending_word(pending.what));
            let mut text = w.t(&what).to_owned();
            for more in [&pending.place, &pending.expected].into_iter().flatten() {
                text.push(' ');
                text.push_str(more);
            }
            text
        });
        Self {
            place,
            class: word_of(w, "class", &line.class).to_owned(),
            status: word_of(w, "status", &line.status).to_owned(),
            born: day.map(|day| w.date(day)).or_else(|| birth.map(str::to_owned)),
            age,
            sex: line.patient.gender.as_deref().map(|code| word_of(w, "sex", code).to_owned()),
            since: line.since.as_ref().map(|since| (w.machine(since), w.at(since), w.ago(since, &at))),
            marks,
            pending: pending.collect(),
            version: line.t.to_string(),
            line,
        }
    }
}

const fn pending_word(what: crate::state::PendingWhat) -> &'static str {
    match what {
        crate::state::PendingWhat::Admit => "admit",
        crate::state::PendingWhat::Transfer => "transfer",
        crate::state::PendingWhat::Discharge => "discharge",
    }
}

/// A mark in words: what must be acted on is said so, the rest is a warning.
pub(crate) fn mark_tag(w: &Words, mark: &str) -> Tag {
    let (id, count) =
        mark.split_once(':').map_or((mark, None), |(id, count)| (id, count.parse::<u64>().ok()));
    let key = format!("mark.{id}");
    let text = match count {
        Some(count) => w.n(&key, count),
        None => w.get(&key).unwrap_or(id).to_owned(),
    };
    let tone = match id {
        "not-applied" | "merge-implausible" | "patient-differs" | "bed-shared" | "row-unreadable" => {
            Tone::Act
        }
        "key-inferred" | "admission-unseen" | "unknown-person" => Tone::Info,
        _ => Tone::Warn,
    };
    Tag::new(tone, text)
}

async fn gather(room: &Room, caller: &Caller, asked: Asked) -> Result<(Asked, Rows), Fault> {
    let freshness = room.freshness().await?;
    let found = room.reconciler.latest().await?;
    let census = census::read(room.sight(&caller.authority), &asked.query(), freshness, &found).await?;
    let asked = asked.within(&census.encounters, &room.key);
    let rows = Rows::new(&caller.words(), &asked, census, room, freshness.as_of);
    caller.saw_rows(rows.units.iter().map(|unit| unit.lines.len() as u64).sum());
    Ok((asked, rows))
}

async fn page(
    State(room): State<Room>,
    caller: Caller,
    Given(asked): Given<Asked>,
) -> Result<Response, Fault> {
    let (asked, rows) = gather(&room, &caller, asked).await?;
    // Who is looked for by name or number was looked at: each one found stands in the audit log.
    if !asked.q.trim().is_empty() {
        caller.acted(Action::Search);
        caller.typed(asked.q.trim());
        for patient in rows.units.iter().flat_map(|unit| &unit.lines).filter_map(|row| row.line.patient_id) {
            caller.saw(patient);
        }
    }
    if caller.is_htmx() {
        return caller.fragment_at(&asked.address(), &rows);
    }
    let w = caller.words();
    let page = CensusPage { csrf: caller.csrf(), w: w.clone(), rows, asked };
    caller.page(w.t("census.title")).wide().says_as_of().live(&[BOARD_TOPIC]).body(&page)
}
