//! `$everything` on a Patient (<https://hl7.org/fhir/R4/patient-operation-everything.html>): what lies in the patient's
//! compartment, the patient first and then type by type, and what that refers to. Page by page, each as it was when the walk
//! began.

use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use hilum_chart::search::{Compartment, From, PlanError};
use hilum_core::{Seq, Timestamp};
use hilum_engines::tables::Value;
use hilum_fhir::date::DateTime;
use hilum_fhir::json::Json;
use hilum_fhir::r4::r4;
use hilum_fhir::search::query::Include;
use hilum_fhir::search::values::{Settings, ties};
use hilum_fhir::{Bundle, BundleType};
use hilum_web::visit::Caller;

use super::page::{Cell, Kind, Page};
use super::settings;
use super::walk::{Ask, Shown};
use crate::Room;
use crate::fhir::answer::{self, Trouble};
use crate::fhir::ask::{self as asks, Place};
use crate::fhir::form::{Form, Pairs, pairs_of};
use crate::fhir::read::{is_about, shown, stands};
use crate::fhir::write::checked;
use crate::limits::{PAGE_ROUNDS_MAX, PAGE_TTL_S};

/// What R4 counts to a patient's compartment and nobody but who minds the log may see.
const NEVER: &str = "AuditEvent";

/// What is asked for.
struct Asked {
    place: Place,
    since: Option<Timestamp>,
    period: Option<(Timestamp, Timestamp)>,
    /// The types, in the order of the walk.
    types: Vec<&'static str>,
    /// Those that were named, also such as lie in no compartment: they come where something refers to them.
    named: Option<Vec<&'static str>>,
    /// As it was said.
    pairs: Pairs,
}

impl Asked {
    /// Reads the parameters; those of a page have the patient's id among them.
    fn parse(place: Place, settings: &Settings, pairs: Pairs) -> Result<Self, Trouble> {
        let wrong = || Trouble::Parameter {
            known: "_since (an instant), _type (types of R4), start, end (dates), _count (a number from 1)"
                .to_owned(),
        };
        let mut asked =
            Self { place, since: None, period: None, types: types(), named: None, pairs: Pairs::new() };
        let period = |raw: &str| {
            // A plus sign of an address is a blank when it is read.
            let date = DateTime::parse(&raw.replace(' ', "+")).ok_or_else(wrong)?;
            Ok::<_, Trouble>(date.bounds(&settings.zone))
        };
        let always = (Timestamp::from_micros(i64::MIN), Timestamp::from_micros(i64::MAX));
        for (name, value) in &pairs {
            match name.as_str() {
                "_since" => asked.since = Some(period(value)?.0),
                "start" => asked.period = Some((period(value)?.0, asked.period.unwrap_or(always).1)),
                "end" => asked.period = Some((asked.period.unwrap_or(always).0, period(value)?.1)),
                "_type" => {
                    let named = asks::types_of("_type", value)?;
                    asked.types.retain(|ty| named.contains(ty));
                    asked.named = Some(named);
                }
                _ => return Err(wrong()),
            }
        }
        asked.pairs = pairs;
        Ok(asked)
    }

    /// As the parameters of an address.
    fn again(&self, form: &Form, count: u32) -> String {
        let mut address = form_urlencoded::Serializer::new(String::new());
        address.extend_pairs(&self.pairs).extend_pairs(form.kept());
        address.append_pair("_count", &count.to_string()).finish()
    }

    /// Whether what a page refers to comes with it: nothing of the log, and nothing that comes by itself.
    fn brings(&self, shown: &Shown) -> bool {
        let is_named = self.named.as_ref().is_none_or(|named| named.contains(&shown.resource_type));
        is_named && shown.resource_type != NEVER && !is_about(&shown.body, self.place.logical.as_str())
    }
}

/// The types of a patient's compartment, the patient first.
fn types() -> Vec<&'static str> {
    let others = r4().resource_types().filter(|ty| ![NEVER, "Patient"].contains(ty));
    let others = others.filter(|ty| !ties(ty).is_empty());
    std::iter::once("Patient").chain(others).collect()
}

/// `GET /fhir/Patient/id/$everything`.
pub(in crate::fhir) async fn begin(
    State(room): State<Room>,
    caller: Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let pairs = pairs_of(query.unwrap_or_default().as_bytes());
    first((&room, &caller), &id, pairs, &headers).await
}

/// `POST /fhir/Patient/id/$everything`: the same, with Parameters or without a body.
pub(in crate::fhir) async fn post(
    State(room): State<Room>,
    caller: Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Trouble> {
    let mut pairs = pairs_of(query.unwrap_or_default().as_bytes());
    if !body.is_empty() {
        asks::brings_json(&headers)?;
        let (parameters, _) = checked("Parameters", &body)?;
        pairs.extend(pairs_in(&parameters)?);
    }
    first((&room, &caller), &id, pairs, &headers).await
}

/// Parameters as an address would say them; what stands several times as one list.
fn pairs_in(parameters: &Json<'_>) -> Result<Pairs, Trouble> {
    let mut pairs = Pairs::new();
    for parameter in parameters.get("parameter").map_or(&[][..], Json::elements) {
        let name = parameter.get("name").and_then(Json::as_str).unwrap_or_default();
        let Json::Object(members) = parameter else { continue };
        let value = members.iter().find(|(name, _)| name.starts_with("value")).map(|(_, value)| value);
        let value = value.ok_or(Trouble::Address("each parameter of $everything has a value"))?;
        let value = value.as_str().map_or_else(|| value.to_text(), str::to_owned);
        match pairs.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.extend([",", &value]),
            None => pairs.push((name.to_owned(), value)),
        }
    }
    Ok(pairs)
}

async fn first(
    (room, caller): (&Room, &Caller),
    id: &str,
    mut pairs: Pairs,
    headers: &HeaderMap,
) -> Result<Response, Trouble> {
    let place = Place::parse(room, ("Patient", id))?;
    let form = Form::take(&mut pairs, headers, None)?;
    pairs.retain(|(_, value)| !value.is_empty());
    let count =
        pairs.extract_if(.., |(name, _)| name == "_count").last().map(|(_, value)| value.parse::<u32>());
    let wrong = || Trouble::Parameter { known: "_count (a number from 1)".to_owned() };
    let count = count.transpose().map_err(|_| wrong())?;
    if count == Some(0) {
        return Err(wrong());
    }
    let settings = settings(room).await?;
    let asked = Asked::parse(place, settings, pairs)?;
    let stored = stands(room, caller, &asked.place).await?;
    shown(room, caller, &asked.place, &stored).await?;
    let base = answer::base(caller.shell(), headers);
    let began_us = caller.at().as_micros();
    let mut kept = asked.pairs.clone();
    kept.push(("patient".to_owned(), asked.place.logical.to_string()));
    let page = Page {
        kind: Kind::Everything,
        resource_type: "Patient".to_owned(),
        pairs: kept,
        form: form.kept(),
        t: None,
        life: room.chart.indexed_since().await?.0,
        began_us,
        count: count.unwrap_or(room.paging.matches).clamp(1, room.paging.matches_max),
        until_us: began_us.saturating_add(PAGE_TTL_S * 1_000_000),
        ..Page::default()
    };
    let to = format!("{base}/{}/$everything?{}", asked.place.address(), asked.again(&form, page.count));
    let bundle = Bundle::new(BundleType::Searchset).link("self", &to);
    walk(room, caller, &base, (settings, &asked, &form), (bundle, page)).await
}

/// A later page, by its link.
pub(super) async fn go_on(
    room: &Room,
    caller: &Caller,
    base: &str,
    (mut page, token): (Page, &str),
    form: Form,
) -> Result<Response, Trouble> {
    let settings = settings(room).await?;
    let mut pairs = page.pairs.clone();
    let id = pairs.extract_if(.., |(name, _)| name == "patient").last().map(|(_, id)| id).unwrap_or_default();
    let asked = Asked::parse(Place::parse(room, ("Patient", &id))?, settings, pairs)?;
    let form = form.again(&page.form);
    let bundle = Bundle::new(BundleType::Searchset).link("self", &format!("{base}/_page/{token}"));
    page.reversed = false;
    walk(room, caller, base, (settings, &asked, &form), (bundle, page)).await
}

/// So many resources as the page has, with what they refer to.
async fn walk(
    room: &Room,
    caller: &Caller,
    base: &str,
    (settings, asked, form): (&Settings, &Asked, &Form),
    (mut bundle, mut page): (Bundle, Page),
) -> Result<Response, Trouble> {
    let ask = Ask { room, settings, caller, base };
    let wanted = page.count as usize;
    let withheld = room.discretions.withheld();
    let (ty, mut after) = match page.after.as_slice() {
        [Cell::Text(ty), Cell::Int(row)] => (ty.as_str(), Some(*row)),
        [Cell::Text(ty), ..] => (ty.as_str(), None),
        _ => ("", None),
    };
    let mut all: Vec<Shown> = Vec::new();
    let mut at = asked.types.iter().position(|known| *known == ty).unwrap_or_default();
    let mut rounds = 0;
    while let Some(&ty) = asked.types.get(at) {
        if all.len() == wanted || rounds == PAGE_ROUNDS_MAX {
            break;
        }
        let compartment = Compartment {
            authority: &caller.authority,
            patient: asked.place.id,
            t: page.t.map(Seq),
            since: asked.since,
            period: asked.period,
            withheld: &withheld,
        };
        let plan = compartment.of_type(ty).map_err(Trouble::Plan)?;
        let plan = plan.ok_or(Trouble::Plan(PlanError::TooComplex))?;
        let missing = wanted - all.len();
        let behind = after.map(|row| vec![Value::Int(row)]);
        let from = From { after: behind, limit: missing as u32 + 1, ..From::default() };
        let answer = room.chart.search(&caller.authority, &plan, from).await?;
        // A walk goes on in what its first page saw.
        let t = page.t.map_or(answer.t, Seq);
        page.t = Some(t.0);
        let found = answer.found.get(..missing.min(answer.found.len())).unwrap_or_default();
        let resolved = ask.resolved(ty, (found, t), &|_| true).await?;
        let resolved: Vec<Shown> = resolved.into_iter().flatten().collect();
        // What is withheld behind the plan makes another round, not a short page.
        rounds += u32::from(resolved.len() < found.len());
        all.extend(resolved);
        let last = found.last().map(|last| &last.subject);
        if let (true, Some(Value::Int(row))) = (answer.found.len() > found.len(), last) {
            after = Some(*row);
        } else {
            (at, after) = (at + 1, None);
        }
    }
    let t = page.t.map(Seq).unwrap_or_default();
    if let Some(ty) = asked.types.get(at) {
        let link = |after: Vec<Cell>| -> Result<String, Trouble> {
            let there = Page { after, ..page.clone() };
            let token = there.seal(&room.key, caller.authority.principal(), room.entropy.bytes());
            Ok(format!("{base}/_page/{}", token.map_err(|_| Trouble::TooLongForPages)?))
        };
        let next = vec![Cell::Text((*ty).to_owned()), after.map_or(Cell::Null, Cell::Int)];
        bundle = bundle.link("first", &link(Vec::new())?).link("next", &link(next)?);
    }
    let refers = Include { is_reverse: false, iterates: false, source: None, parameter: None, target: None };
    let began = Timestamp::from_micros(page.began_us);
    let included = ask.included(&[refers], (&all, t, began), &|one| asked.brings(one)).await?;
    caller.saw_rows(all.len() as u64);
    ask.entries(form, &mut bundle, &all, &included)?;
    Ok(answer::json(bundle.finish(), form.is_pretty))
}
