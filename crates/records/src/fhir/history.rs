//! Histories (<https://hl7.org/fhir/R4/http.html#history>): of a resource, of a type, and of all; newest first, each version
//! as it was, deletions as entries without a resource. What may not be seen stands in none.

use std::collections::BTreeMap;

use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use hilum_chart::versions::{VersionPlace, Versions};
use hilum_chart::{ChartError, Stored};
use hilum_core::{Id, Seq, Timestamp};
use hilum_fhir::bundle::Done;
use hilum_fhir::date::DateTime;
use hilum_fhir::r4::r4;
use hilum_fhir::search::query::Handling;
use hilum_fhir::{Bundle, BundleType, ResourceBody};
use hilum_web::visit::Caller;
use jiff::tz::TimeZone;

use super::answer::{self, Trouble};
use super::ask::{self, Place};
use super::form::{Form, Pairs, pairs_of};
use super::read::{Visible, shown, stands, visible_all};
use super::search::page::{Cell, Kind, Page};
use crate::Room;
use crate::limits::{
    HISTORY_LOOKED_AT_ONCE, HISTORY_LOOKED_MAX, HISTORY_VERSIONS, HISTORY_VERSIONS_MAX, PAGE_TTL_S,
};

/// What a history is narrowed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Window {
    /// `_since`: written then or later.
    since: Option<Timestamp>,
    /// `_at`: current at some time of this period.
    at: Option<(Timestamp, Timestamp)>,
    /// As it was said.
    pairs: Pairs,
}

/// How a history was asked for.
struct Asked {
    window: Window,
    count: u32,
    /// The version that the page of a resource's history ends before.
    before: Option<i64>,
    form: Form,
}

impl Asked {
    fn parse(
        room: &Room,
        query: Option<&str>,
        headers: &HeaderMap,
        resource_type: Option<&str>,
    ) -> Result<Self, Trouble> {
        let mut pairs = pairs_of(query.unwrap_or_default().as_bytes());
        let form = Form::take(&mut pairs, headers, resource_type)?;
        if ask::handling(headers)? == Handling::Lenient {
            pairs.retain(|(name, _)| ["_count", "_before", "_since", "_at"].contains(&name.as_str()));
        }
        let left = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let [count, before, since, at] =
            ask::parameters(Some(&left), ["_count", "_before", "_since", "_at"])?;
        let known = "_count (a number from 1), _since (an instant), _at (a date or time), _before (a version, of one resource)";
        let wrong = || Trouble::Parameter { known: known.to_owned() };
        let number = |raw: Option<String>| raw.map(|raw| raw.parse::<u32>().map_err(|_| wrong())).transpose();
        let count = number(count)?.unwrap_or(HISTORY_VERSIONS).min(HISTORY_VERSIONS_MAX);
        // None is what a search may ask for, which counts.
        if count == 0 {
            return Err(wrong());
        }
        let before = number(before)?.map(i64::from);
        let window = Window::parse(&zone(room), since, at).ok_or_else(wrong)?;
        Ok(Self { window, count, before, form })
    }
}

impl Window {
    fn parse(zone: &TimeZone, since: Option<String>, at: Option<String>) -> Option<Self> {
        let mut window = Self::default();
        // A plus sign of an address is a blank when it is read.
        let period = |raw: &str| DateTime::parse(&raw.replace(' ', "+")).map(|date| date.bounds(zone));
        if let Some(raw) = since {
            window.since = Some(period(&raw)?.0);
            window.pairs.push(("_since".to_owned(), raw));
        }
        if let Some(raw) = at {
            window.at = Some(period(&raw)?);
            window.pairs.push(("_at".to_owned(), raw));
        }
        Some(window)
    }

    /// The same of a page whose link keeps it.
    fn again(room: &Room, pairs: &Pairs) -> Result<Self, Trouble> {
        let value =
            |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        Self::parse(&zone(room), value("_since"), value("_at")).ok_or(Trouble::NotFound)
    }

    /// Whether a version is of it, that was replaced then.
    fn has(&self, stored: &Stored, replaced: Option<Timestamp>) -> bool {
        let is_since = self.since.is_none_or(|since| stored.updated >= since);
        let stood = |(low, high): (Timestamp, Timestamp)| {
            stored.updated <= high && replaced.is_none_or(|replaced| replaced > low)
        };
        is_since && self.at.is_none_or(stood)
    }

    /// As the rest of an address behind its `_count`.
    fn rest(&self, form: &Form) -> String {
        let mut rest = form_urlencoded::Serializer::new(String::new());
        rest.extend_pairs(&self.pairs).extend_pairs(form.kept());
        let rest = rest.finish();
        if rest.is_empty() { rest } else { format!("&{rest}") }
    }
}

fn zone(room: &Room) -> TimeZone {
    room.chart.indexer().map_or(TimeZone::UTC, |indexer| indexer.settings().zone.clone())
}

/// A version as an entry.
fn entry(
    bundle: &mut Bundle,
    base: &str,
    (address, stored, is_made): (&str, &Stored, bool),
    (body, form): (Option<String>, &Form),
) -> Result<(), Trouble> {
    let (method, status) = match &body {
        None => ("DELETE", "204"),
        Some(_) if is_made => ("PUT", "201"),
        Some(_) => ("PUT", "200"),
    };
    let body = body.map(|body| form.part(body)).transpose()?;
    let updated = stored.updated.to_string();
    let done = Done { method, url: address, status, version: stored.version, updated: &updated };
    bundle.version(&format!("{base}/{address}"), body.as_deref(), &done);
    Ok(())
}

/// `GET /fhir/Type/id/_history`. `next` goes on before the last version of the page.
pub(super) async fn of_one(
    State(room): State<Room>,
    caller: Caller,
    Path((ty, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let place = Place::parse(&room, (&ty, &id))?;
    let asked = Asked::parse(&room, query.as_deref(), &headers, Some(place.resource_type))?;
    let Asked { window, count, before, form } = &asked;
    let base = answer::base(caller.shell(), &headers);
    let address = place.address();
    let to = format!("{base}/{address}/_history?_count={count}{}", window.rest(form));
    let own = before.map_or_else(|| to.clone(), |before| format!("{to}&_before={before}"));
    let mut bundle = Bundle::new(BundleType::History).link("self", &own);
    if before.is_some() {
        bundle = bundle.link("first", &to);
    }
    let told = told_of_one(&room, &caller, &place, (*before, *count)).await?;
    if told.all.is_empty() && !is_known(&room, &caller, &place).await? {
        return Err(Trouble::NotFound);
    }
    let last = told.all.last().map(|told| told.stored.version);
    let all: Vec<&Stored> = told.all.iter().map(|told| &told.stored).collect();
    let made = room.chart.made(&caller.authority, &all).await?;
    for Told { stored, body, replaced } in told.all {
        if window.has(&stored, replaced) {
            let is_made = made.contains(&VersionPlace::of(&stored));
            entry(&mut bundle, &base, (&address, &stored, is_made), (body, form))?;
        }
    }
    if let Some(last) = last.filter(|_| told.is_more) {
        bundle = bundle.link("next", &format!("{to}&_before={last}"));
    }
    Ok(answer::json(bundle.finish(), form.is_pretty))
}

/// A version that may be shown, a deletion without a body, and when it was replaced.
struct Told {
    stored: Stored,
    body: Option<String>,
    replaced: Option<Timestamp>,
}

/// Versions of one resource.
struct ToldOfOne {
    all: Vec<Told>,
    /// Whether one behind them may be shown, as far as was looked.
    is_more: bool,
}

/// The next versions of a resource that may be shown, newest first: one that may not stands in no history, nor does it tell
/// of itself by a page that is shorter, or by a link; what is behind it may.
async fn told_of_one(
    room: &Room,
    caller: &Caller,
    place: &Place,
    (before, count): (Option<i64>, u32),
) -> Result<ToldOfOne, Trouble> {
    let (ty, authority) = (place.resource_type, &caller.authority);
    let mut replaced = match before {
        Some(before) => {
            room.chart.version(authority, ty, place.id, before).await.ok().map(|next| next.updated)
        }
        None => None,
    };
    let (mut before, mut all) = (before, Vec::new());
    let (mut looked, mut limit) = (0, count + 1);
    while looked < HISTORY_LOOKED_MAX {
        let versions = room.chart.history(authority, ty, place.id, before, limit).await?;
        let is_end = versions.last().is_none_or(|oldest| oldest.version <= 1);
        looked += versions.len();
        limit = more_at_once(limit);
        for stored in versions {
            before = Some(stored.version);
            let until = replaced.replace(stored.updated);
            let body = match shown(room, caller, place, &stored).await {
                Ok(body) => Some(body),
                Err(Trouble::Gone(_)) => None,
                Err(Trouble::NotFound) => continue,
                Err(other) => return Err(other),
            };
            if all.len() == count as usize {
                return Ok(ToldOfOne { all, is_more: true });
            }
            all.push(Told { stored, body, replaced: until });
        }
        if is_end {
            return Ok(ToldOfOne { all, is_more: false });
        }
    }
    let is_more = !all.is_empty();
    Ok(ToldOfOne { all, is_more })
}

/// How many are looked at next, where those before were not enough.
const fn more_at_once(limit: u32) -> u32 {
    let more = limit.saturating_mul(4);
    if more < HISTORY_LOOKED_AT_ONCE { more } else { HISTORY_LOOKED_AT_ONCE }
}

/// Whether who asks may know that there is, or was, such a resource.
async fn is_known(room: &Room, caller: &Caller, place: &Place) -> Result<bool, Trouble> {
    let stored = stands(room, caller, place).await?;
    match shown(room, caller, place, &stored).await {
        Ok(_) | Err(Trouble::Gone(_)) => Ok(true),
        Err(Trouble::NotFound) => Ok(false),
        Err(other) => Err(other),
    }
}

/// `GET /fhir/Type/_history`.
pub(super) async fn of_type(
    State(room): State<Room>,
    caller: Caller,
    Path(ty): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    begin(&room, &caller, ask::type_of(&ty)?, (query.as_deref(), &headers)).await
}

/// `GET /fhir/_history`.
pub(super) async fn of_all(
    State(room): State<Room>,
    caller: Caller,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    begin(&room, &caller, "", (query.as_deref(), &headers)).await
}

/// The first page of a type's versions, or of all.
async fn begin(
    room: &Room,
    caller: &Caller,
    resource_type: &'static str,
    (query, headers): (Option<&str>, &HeaderMap),
) -> Result<Response, Trouble> {
    let of = Some(resource_type).filter(|ty| !ty.is_empty());
    let Asked { window, count, before, form } = Asked::parse(room, query, headers, of)?;
    if before.is_some() {
        return Err(Trouble::Parameter { known: "_count, _since, _at".to_owned() });
    }
    let began_us = caller.at().as_micros();
    let page = Page {
        kind: Kind::History,
        resource_type: resource_type.to_owned(),
        pairs: window.pairs.clone(),
        form: form.kept(),
        t: Some(room.chart.tables().now().await.map_err(ChartError::from)?.0),
        began_us,
        count,
        until_us: began_us.saturating_add(PAGE_TTL_S * 1_000_000),
        ..Page::default()
    };
    let base = answer::base(caller.shell(), headers);
    let at = if resource_type.is_empty() { base.clone() } else { format!("{base}/{resource_type}") };
    let to = format!("{at}/_history?_count={count}{}", window.rest(&form));
    let bundle = Bundle::new(BundleType::History).link("self", &to);
    finish(room, caller, &base, (bundle, &page), (&window, &form)).await
}

/// A later page, by its link.
pub(super) async fn go_on(
    room: &Room,
    caller: &Caller,
    base: &str,
    (page, token): (&Page, &str),
    form: Form,
) -> Result<Response, Trouble> {
    let window = Window::again(room, &page.pairs)?;
    // A link to begin anew has none: it sees what is there when it is followed.
    let t = match page.t {
        Some(t) => t,
        None => room.chart.tables().now().await.map_err(ChartError::from)?.0,
    };
    let page = &Page { t: Some(t), ..page.clone() };
    let bundle = Bundle::new(BundleType::History).link("self", &format!("{base}/_page/{token}"));
    finish(room, caller, base, (bundle, page), (&window, &form.again(&page.form))).await
}

/// So many versions as the page has, and the links to what is behind them.
async fn finish(
    room: &Room,
    caller: &Caller,
    base: &str,
    (mut bundle, page): (Bundle, &Page),
    (window, form): (&Window, &Form),
) -> Result<Response, Trouble> {
    let ToldOfMany { all: told, behind } = told_of_many(room, caller, page, window).await?;
    let all: Vec<&Stored> = told.iter().map(|(stored, _)| stored).collect();
    let made = room.chart.made(&caller.authority, &all).await?;
    caller.saw_rows(told.len() as u64);
    for (stored, body) in told {
        let logical = match body.as_deref() {
            Some(body) => id_of(body)?,
            None => id_of_deleted(room, caller, &stored).await?,
        };
        let address = format!("{}/{logical}", stored.resource_type);
        let is_made = made.contains(&VersionPlace::of(&stored));
        entry(&mut bundle, base, (&address, &stored, is_made), (body, form))?;
    }
    if let Some(behind) = behind {
        let link = |after: Vec<Cell>| -> Result<String, Trouble> {
            let there = Page { after, ..page.clone() };
            let token = there.seal(&room.key, caller.authority.principal(), room.entropy.bytes());
            Ok(format!("{base}/_page/{}", token.map_err(|_| Trouble::TooLongForPages)?))
        };
        bundle = bundle.link("first", &link(Vec::new())?).link("next", &link(cells_of(&behind))?);
    }
    Ok(answer::json(bundle.finish(), form.is_pretty))
}

/// Versions of a type, or of all, a deletion without a body.
struct ToldOfMany {
    all: Vec<(Stored, Option<String>)>,
    /// Behind which one there is another that may be shown, as far as was looked.
    behind: Option<VersionPlace>,
}

/// The next versions that may be shown, newest first. Those that may not tell nothing of themselves: neither by a page that is
/// shorter, nor by a link to nothing, unless there are as many as one page looks at.
async fn told_of_many(
    room: &Room,
    caller: &Caller,
    page: &Page,
    window: &Window,
) -> Result<ToldOfMany, Trouble> {
    let wanted = page.count.max(1);
    let (mut behind, mut all) = (place_of(&page.after), Vec::<(Stored, Option<String>)>::new());
    let (mut looked, mut limit) = (0, wanted + 1);
    while looked < HISTORY_LOOKED_MAX {
        let found = versions(room, caller, page, window, (behind.clone(), limit)).await?;
        let is_end = found.len() < limit as usize;
        looked += found.len();
        limit = more_at_once(limit);
        behind = found.last().map(VersionPlace::of).or(behind);
        for (stored, visible) in told(room, caller, window, &found).await? {
            if all.len() == wanted as usize {
                let behind = all.last().map(|(stored, _)| VersionPlace::of(stored));
                return Ok(ToldOfMany { all, behind });
            }
            let body = if stored.deleted { None } else { Some(visible.seen(caller)) };
            all.push((stored.clone(), body));
        }
        if is_end {
            return Ok(ToldOfMany { all, behind: None });
        }
    }
    Ok(ToldOfMany { all, behind })
}

async fn versions(
    room: &Room,
    caller: &Caller,
    page: &Page,
    window: &Window,
    (behind, limit): (Option<VersionPlace>, u32),
) -> Result<Vec<Stored>, Trouble> {
    let all: Vec<&str> = if page.resource_type.is_empty() {
        r4().resource_types().collect()
    } else {
        vec![ask::type_of(&page.resource_type)?]
    };
    let asked = Versions {
        types: &all,
        since: window.since,
        before: window.at.map(|(_, high)| Timestamp::from_micros(high.as_micros().saturating_add(1))),
        t: page.t.map(Seq).unwrap_or_default(),
        behind,
        limit,
    };
    Ok(room.chart.versions(&caller.authority, &asked).await?)
}

/// Those of the versions that are asked for and may be seen.
async fn told<'s>(
    room: &Room,
    caller: &Caller,
    window: &Window,
    found: &'s [Stored],
) -> Result<Vec<(&'s Stored, Visible)>, Trouble> {
    let replaced = match window.at {
        // What was written within the period stood in it.
        Some((low, _)) => {
            let older: Vec<&Stored> = found.iter().filter(|stored| stored.updated < low).collect();
            room.chart.replaced(&caller.authority, &older).await?
        }
        None => BTreeMap::new(),
    };
    let of_window = |stored: &&Stored| window.has(stored, replaced.get(&VersionPlace::of(stored)).copied());
    let found: Vec<&Stored> = found.iter().filter(of_window).collect();
    let visible = visible_all(room, caller, &found).await?;
    Ok(found.into_iter().zip(visible).filter_map(|(stored, visible)| Some((stored, visible?))).collect())
}

fn id_of(body: &str) -> Result<String, Trouble> {
    let body = ResourceBody::parse(body.to_owned().into());
    Ok(body.map_err(|_| answer::broken("a stored body is no resource"))?.id().to_string())
}

/// The id by which clients know what is deleted: that of what was.
async fn id_of_deleted(room: &Room, caller: &Caller, stored: &Stored) -> Result<String, Trouble> {
    let before = stored.version - 1;
    let before = room.chart.version(&caller.authority, &stored.resource_type, stored.id, before).await?;
    id_of(before.text()?)
}

/// Where a page ends, as its link holds it.
fn cells_of(place: &VersionPlace) -> Vec<Cell> {
    vec![
        Cell::Time(place.updated.as_micros()),
        Cell::Text(place.resource_type.clone()),
        Cell::Bytes(place.id.as_bytes().to_vec()),
        Cell::Int(place.version),
    ]
}

fn place_of(cells: &[Cell]) -> Option<VersionPlace> {
    let [Cell::Time(updated), Cell::Text(resource_type), Cell::Bytes(id), Cell::Int(version)] = cells else {
        return None;
    };
    let id = Id::from_bytes(id.as_slice().try_into().ok()?);
    let resource_type = resource_type.clone();
    Some(VersionPlace { updated: Timestamp::from_micros(*updated), resource_type, id, version: *version })
}
