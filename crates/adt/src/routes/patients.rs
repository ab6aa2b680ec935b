//! A patient's page, the search for one, and undoing a merge.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::{Form, FromRequest as _, Json, Path, Request, State};
use axum::http::header;
use axum::response::Response;
use hilum_core::{Id, Kind};
use hilum_web::audit::Action;
use hilum_web::outcome::Fault;
use hilum_web::route::{Access, OPERATORS, READERS, Route, Surface};
use hilum_web::ui::{Allergies, Notice, NoticeKind, PatientBanner, Tag, Tone};
use hilum_web::visit::Caller;
use hilum_web::words::Words;
use serde::{Deserialize, Serialize};

use super::{BOARD_TOPIC, Room, when, word_of};
use crate::limits;
use crate::routes::census::mark_tag;
use crate::state::{BoardIdentifier, Standing};
use crate::view::patient::{self, EncounterLine, Patient, Record};
use crate::view::search::{self, Found};
use crate::view::{Freshness, ViewError};

/// The routes of this file.
pub fn routes(room: &Room) -> Vec<Route> {
    let readers = Access::Roles(READERS);
    vec![
        Route::get("/patients", readers, Surface::Page, room.clone(), search_page)
            .quiet()
            .nav("nav.patients", 15),
        // POST, because who is looked for must not stand in a URL.
        Route::post("/patients/search", readers, Surface::Page, room.clone(), search_rows)
            .audit(Action::Search),
        Route::get("/patients/{id}", readers, Surface::Page, room.clone(), page),
        Route::get("/patients/{id}/resources", readers, Surface::Api, room.clone(), resources),
        Route::post("/patients/{id}/unmerge", Access::Roles(OPERATORS), Surface::Page, room.clone(), unmerge),
        Route::get("/api/patients/{id}", readers, Surface::Api, room.clone(), read),
        Route::post("/api/patients/_search", readers, Surface::Api, room.clone(), search_api)
            .audit(Action::Search),
    ]
}

// ---- search

/// What is asked for, as JSON or as a form.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Asked {
    identifier: String,
    authority: String,
    name: String,
    birth_date: String,
    limit: Option<usize>,
}

impl Asked {
    fn query(&self) -> search::Query {
        let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        search::Query {
            identifier: some(&self.identifier),
            authority: some(&self.authority),
            name: some(&self.name),
            birth_date: some(&self.birth_date),
            limit: self.limit.unwrap_or(limits::SEARCH_PATIENTS_MAX),
        }
    }

    /// Whether the date of birth can be one. Nobody is born on another, and "nobody" would be believed.
    fn is_born_sometime(&self) -> bool {
        matches!(self.birth_date.trim(), "") || is_date(self.birth_date.trim())
    }

    fn is_empty(&self) -> bool {
        [&self.identifier, &self.name, &self.birth_date].into_iter().all(|text| text.trim().is_empty())
    }
}

/// Whether a text is a FHIR date: a year, a month of it, or a day.
fn is_date(text: &str) -> bool {
    let whole = match text.len() {
        4 => format!("{text}-01-01"),
        7 => format!("{text}-01"),
        _ => text.to_owned(),
    };
    whole.len() == 10
        && whole.bytes().all(|b| b.is_ascii_digit() || b == b'-')
        && whole.parse::<jiff::civil::Date>().is_ok()
}

#[derive(Serialize)]
struct SearchAnswer {
    #[serde(flatten)]
    answer: search::Answer,
    #[serde(flatten)]
    freshness: Freshness,
}

/// What a search's body takes.
const SEARCH_TAKES: &[&str] = &[
    "JSON or a form with identifier (with authority)",
    "name",
    "birthDate (YYYY, YYYY-MM or YYYY-MM-DD), at least one of them",
];

async fn search_api(State(room): State<Room>, caller: Caller, request: Request) -> Result<Response, Fault> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_form = kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    // The reason may quote the body: it goes nowhere.
    let invalid = Fault::body(SEARCH_TAKES);
    let asked: Asked = if is_form {
        Form::from_request(request, &()).await.map_err(|_| invalid.clone())?.0
    } else {
        Json::from_request(request, &()).await.map_err(|_| invalid.clone())?.0
    };
    if asked.is_empty() || !asked.is_born_sometime() {
        return Err(invalid);
    }
    let freshness = room.freshness().await?;
    let answer = search::search(room.sight(&caller.authority), &asked.query()).await?;
    audit_found(&caller, &answer.patients);
    caller.json(&SearchAnswer { answer, freshness })
}

fn audit_found(caller: &Caller, found: &[Found]) {
    caller.saw_rows(found.len() as u64);
    for one in found {
        caller.saw(one.id);
    }
}

struct FoundRow {
    found: Found,
    born: Option<String>,
    sex: Option<String>,
}

#[derive(Template)]
#[template(path = "adt/patients.html")]
struct SearchPage {
    w: Words,
    csrf: String,
    found: FoundList,
    asked: Asked,
}

#[derive(Template)]
#[template(path = "adt/patients_found.html")]
struct FoundList {
    w: Words,
    rows: Vec<FoundRow>,
    state: Option<Notice>,
}

impl askama::filters::HtmlSafe for FoundList {}

async fn search_page(State(_): State<Room>, caller: Caller) -> Result<Response, Fault> {
    let w = caller.words();
    let state = Notice::new(NoticeKind::Empty, w.t("patients.ask"), w.t("patients.ask_text"));
    let found = FoundList { w: w.clone(), rows: Vec::new(), state: Some(state) };
    let page = SearchPage { csrf: caller.csrf(), w: w.clone(), found, asked: Asked::default() };
    caller.page(w.t("patients.title")).body(&page)
}

async fn search_rows(
    State(room): State<Room>,
    caller: Caller,
    Form(asked): Form<Asked>,
) -> Result<Response, Fault> {
    let w = caller.words();
    let answer = search::search(room.sight(&caller.authority), &asked.query()).await?;
    audit_found(&caller, &answer.patients);
    let state = if answer.patients.is_empty() {
        Some(Notice::new(NoticeKind::Empty, w.t("patients.none"), w.t("patients.none_text")))
    } else if answer.truncated {
        Some(Notice::new(NoticeKind::Partial, w.t("patients.more"), w.t("patients.more_text")))
    } else {
        None
    };
    let rows = answer.patients.into_iter().map(|found| FoundRow {
        born: found.birth_date.as_deref().map(|born| when(&w, born)),
        sex: found.gender.as_deref().map(|sex| word_of(&w, "sex", sex).to_owned()),
        found,
    });
    let found = FoundList { w: w.clone(), rows: rows.collect(), state };
    if caller.is_htmx() {
        return caller.fragment(&found);
    }
    let page = SearchPage { csrf: caller.csrf(), w: w.clone(), found, asked };
    caller.page(w.t("patients.title")).under("/patients").body(&page)
}

// ---- one patient

#[derive(Serialize)]
struct ReadAnswer {
    #[serde(flatten)]
    patient: Patient,
    #[serde(flatten)]
    freshness: Freshness,
}

async fn read(State(room): State<Room>, caller: Caller, Path(id): Path<Id>) -> Result<Response, Fault> {
    let freshness = room.freshness().await?;
    let patient = patient::read(room.sight(&caller.authority), id).await?;
    caller.saw(id);
    caller.json(&ReadAnswer { patient, freshness })
}

async fn resources(State(room): State<Room>, caller: Caller, Path(id): Path<Id>) -> Result<Response, Fault> {
    let all = patient::raw(room.sight(&caller.authority), id).await?;
    caller.saw(id);
    caller.json(&all)
}

struct Encounter {
    line: EncounterLine,
    class: Option<String>,
    status: Tag,
    start: Option<String>,
    end: Option<String>,
    /// What happened, oldest first: when, what, until when.
    events: Vec<(Option<String>, String, Option<String>, &'static str)>,
    marks: Vec<Tag>,
    diagnoses: Vec<(patient::DiagnosisLine, Option<String>)>,
    is_open: bool,
}

struct AllergyRow {
    line: patient::AllergyLine,
    standing: Option<Tag>,
    severity: Option<String>,
    kind: Option<String>,
    origin: Option<String>,
}

struct RecordRow {
    record: Record,
    shown: String,
    ask: String,
}

#[derive(Template)]
#[template(path = "adt/patient.html")]
struct PatientPage {
    w: Words,
    csrf: String,
    patient: Patient,
    encounters: Vec<Encounter>,
    allergies: Vec<AllergyRow>,
    kin: Vec<(patient::KinLine, Option<Tag>)>,
    records: Vec<RecordRow>,
    decides: bool,
    freshness: Freshness,
}

fn standing_tag(w: &Words, standing: Standing) -> Option<Tag> {
    match standing {
        Standing::Current => None,
        Standing::NoLongerSent => Some(Tag::new(Tone::Neutral, w.t("patient.no_longer_sent"))),
        Standing::Deleted => Some(Tag::new(Tone::Neutral, w.t("patient.deleted"))),
    }
}

impl Encounter {
    fn new(w: &Words, line: EncounterLine) -> Self {
        let at = |raw: &Option<String>| raw.as_deref().map(|raw| when(w, raw));
        let is_open = matches!(line.status.as_str(), "arrived" | "in-progress" | "onleave" | "unknown");
        let tone = match line.status.as_str() {
            "entered-in-error" | "cancelled" => Tone::Warn,
            _ if is_open => Tone::Ok,
            _ => Tone::Neutral,
        };
        let mut events = Vec::new();
        for stay in &line.places {
            let class = match stay.status.as_str() {
                "active" | "reserved" => "is-done",
                "planned" => "is-off",
                _ => "",
            };
            let place = match stay.status.as_str() {
                _ if stay.temporary => w.f1("patient.temporary", "place", &stay.place),
                "planned" => w.f1("patient.planned", "place", &stay.place),
                _ => stay.place.clone(),
            };
            events.push((stay.start.clone(), at(&stay.start), place, at(&stay.end), class));
        }
        for phase in &line.statuses {
            let what = word_of(w, "status", &phase.what).to_owned();
            events.push((phase.start.clone(), at(&phase.start), what, at(&phase.end), ""));
        }
        for phase in &line.classes {
            let what = w.f1("patient.class_became", "class", word_of(w, "class", &phase.what));
            events.push((phase.start.clone(), at(&phase.start), what, at(&phase.end), ""));
        }
        // By instant where both have one: offsets may differ.
        let instant = |raw: &Option<String>| {
            raw.as_deref().and_then(|raw| {
                raw.parse::<jiff::Timestamp>().ok().or_else(|| {
                    let day = patient::day_of(raw)?;
                    day.to_zoned(w.zone().clone()).ok().map(|zoned| zoned.timestamp())
                })
            })
        };
        events.sort_by_key(|(start, ..)| instant(start));
        Self {
            class: line.class.as_deref().map(|class| word_of(w, "class", class).to_owned()),
            status: Tag::new(tone, word_of(w, "status", &line.status)),
            start: at(&line.start),
            end: at(&line.end),
            events: events
                .into_iter()
                .map(|(_, start, what, end, class)| (start, what, end, class))
                .collect(),
            marks: line.marks.iter().map(|mark| mark_tag(w, mark)).collect(),
            diagnoses: line.diagnoses.iter().map(|one| (one.clone(), at(&one.at))).collect(),
            is_open,
            line,
        }
    }
}

fn age_of(w: &Words, patient: &Patient, today: jiff::civil::Date) -> Option<String> {
    let born = patient.birth_date.as_deref().and_then(patient::day_of)?;
    let on = patient.died.as_deref().and_then(patient::day_of).unwrap_or(today);
    let years = Words::age_years(born, on)?;
    if years >= 3 {
        return Some(w.f1("census.age", "n", years));
    }
    // An infant's age in years says nothing.
    let span = born.until((jiff::Unit::Month, on)).ok()?;
    Some(if span.get_months() >= 2 {
        w.f1("patient.age_months", "n", span.get_months())
    } else {
        w.f1("patient.age_days", "n", born.until(on).ok()?.get_days())
    })
}

/// Who issued an identifier, else its type; said to be a guess where it is one.
fn authority_of(w: &Words, one: &BoardIdentifier) -> String {
    match (one.authority.as_str(), one.authority_guessed) {
        ("", _) => one.kind.clone(),
        (authority, false) => authority.to_owned(),
        (authority, true) => w.f1("patient.authority_guessed", "name", authority),
    }
}

/// The banner of a patient, as every page about one shows it.
pub(crate) fn banner(
    w: &Words,
    patient: &Patient,
    into: Option<(String, String)>,
    today: jiff::civil::Date,
) -> PatientBanner {
    let not_known = || w.t("word.not_known").to_owned();
    let listed = patient.allergies.iter().filter(|one| one.standing == Standing::Current);
    let mut listed: Vec<String> = listed.map(|one| one.what.clone()).collect();
    // Merged records say the same twice: the list has both with their origin, the banner each once.
    let mut seen = BTreeSet::new();
    listed.retain(|what| seen.insert(what.to_lowercase()));
    let mut marks: Vec<Tag> = patient.marks.iter().map(|mark| mark_tag(w, mark)).collect();
    if patient.confidential {
        marks.insert(0, Tag::new(Tone::Warn, w.t("patient.confidential")));
    }
    let identifiers = patient.identifiers.iter().map(|one| (authority_of(w, one), one.value.clone()));
    let mut identifiers: Vec<(String, String)> = identifiers.collect();
    // Withheld is not the same as not known, nor as not there.
    let withheld = || w.t("patient.withheld").to_owned();
    let mut born = patient.birth_date.as_deref().map(|born| when(w, born));
    let mut sex = patient.gender.as_deref().map_or_else(not_known, |sex| word_of(w, "sex", sex).to_owned());
    let mut location = patient.location.clone();
    if patient.confidential {
        (born, sex) = (Some(withheld()), withheld());
        identifiers = vec![(w.t("banner.identifier").to_owned(), withheld())];
    }
    if patient.encounters_withheld {
        location = Some(withheld());
    }
    PatientBanner {
        name: match &patient.name {
            _ if patient.confidential => w.t("census.masked").to_owned(),
            Some(name) => name.clone(),
            None => not_known(),
        },
        name_beside: patient.name_beside.clone(),
        born,
        age: age_of(w, patient, today),
        sex,
        identifiers,
        location,
        allergies: match patient.allergies_known {
            "listed" => Allergies::Listed(listed),
            "none" => Allergies::None,
            _ => Allergies::NotKnown,
        },
        deceased: patient.died.as_deref().map(|died| {
            if died == "unknown" { w.t("patient.died_unknown").to_owned() } else { when(w, died) }
        }),
        merged_into: into,
        marks,
        w: w.clone(),
    }
}

async fn page(State(room): State<Room>, caller: Caller, Path(id): Path<Id>) -> Result<Response, Fault> {
    let w = caller.words();
    let freshness = room.freshness().await?;
    let sight = room.sight(&caller.authority);
    let patient = patient::read(sight, id).await?;
    caller.saw(id);
    let shown = |record: &Record| {
        let name = match &record.name {
            _ if patient.confidential => w.t("census.masked"),
            Some(name) => name.as_str(),
            None => w.t("word.not_known"),
        };
        match &record.identifier {
            Some(one) => format!("{name} ({} {})", authority_of(&w, one), one.value),
            None => name.to_owned(),
        }
    };
    let find = |id: Id| patient.records.iter().find(|record| record.id == id).map(shown);
    let into = (patient.survivor != id).then(|| {
        let name = find(patient.survivor).unwrap_or_else(|| patient.survivor.to_string());
        (format!("/patients/{}", patient.survivor), name)
    });
    let today = freshness.as_of.to_jiff().to_zoned(w.zone().clone()).date();
    let banner = banner(&w, &patient, into, today);
    let records = patient.records.iter().map(|record| {
        let own = shown(record);
        let other = record.merged_into.and_then(find).unwrap_or_default();
        RecordRow {
            ask: w.f2("patient.unmerge_ask", "old", &own, "new", &other),
            shown: own,
            record: record.clone(),
        }
    });
    let allergies = patient.allergies.iter().map(|line| AllergyRow {
        standing: standing_tag(&w, line.standing),
        severity: line.severity.as_deref().map(|code| word_of(&w, "severity", code).to_owned()),
        kind: line.kind.as_deref().map(|code| word_of(&w, "allergen", code).to_owned()),
        origin: line.origin.and_then(find),
        line: line.clone(),
    });
    let page = PatientPage {
        csrf: caller.csrf(),
        encounters: patient.encounters.iter().map(|line| Encounter::new(&w, line.clone())).collect(),
        allergies: allergies.collect(),
        kin: patient.next_of_kin.iter().map(|one| (one.clone(), standing_tag(&w, one.standing))).collect(),
        records: records.collect(),
        decides: caller.authority.decides(),
        freshness,
        w: w.clone(),
        patient,
    };
    let title = w.t("patient.title").to_owned();
    caller.page(title).under("/patients").says_as_of().live(&[BOARD_TOPIC]).banner(&banner)?.body(&page)
}

#[derive(Debug, Deserialize)]
struct Unmerge {
    old: Id,
    #[serde(default)]
    reason: String,
}

async fn unmerge(
    State(room): State<Room>,
    caller: Caller,
    Path(id): Path<Id>,
    Form(asked): Form<Unmerge>,
) -> Result<Response, Fault> {
    let patient = patient::read(room.sight(&caller.authority), id).await?;
    let record = patient.records.iter().find(|record| record.id == asked.old).ok_or(ViewError::NotFound)?;
    let new = record.merged_into.ok_or(Fault::new(Kind::Conflict))?;
    let by = caller.authority.principal().to_owned();
    let position = room.unmerge(asked.old, new, by, asked.reason).await?;
    caller.saw(asked.old);
    caller.saw(new);
    caller.detail(format!("unmerge {position}"));
    Ok(caller.go(&format!("/patients/{id}")))
}
