//! Read, vread and the history of a resource (<https://hl7.org/fhir/R4/http.html#read>).

use std::collections::BTreeSet;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hilum_chart::Stored;
use hilum_chart::limits::READ_RESOURCES_MAX;
use hilum_fhir::bundle::Done;
use hilum_fhir::json::Json;
use hilum_fhir::path::{Found, Path as Walk};
use hilum_fhir::r4::r4;
use hilum_fhir::{Bundle, BundleType};
use hilum_web::visit::Caller;

use super::answer::{self, Trouble};
use super::ask::{self, Place};
use crate::limits::{HISTORY_VERSIONS, HISTORY_VERSIONS_MAX};
use crate::{DOOR, Room, logical};

/// A version as who asks may see it; a deletion is `Gone`. The audit log learns whom it is about.
pub(super) async fn shown(
    room: &Room,
    caller: &Caller,
    place: &Place,
    stored: &Stored,
) -> Result<String, Trouble> {
    if !logical::is_of(stored, &place.logical) {
        return Err(Trouble::NotFound);
    }
    let body = visible(room, caller, stored).await?.ok_or(Trouble::NotFound)?;
    if stored.deleted {
        return Err(Trouble::Gone(stored.version));
    }
    saw(caller, &body);
    Ok(body)
}

/// A version's body, unless it is withheld: by its own room, or with somebody in whose compartment a client put it.
pub(super) async fn visible(
    room: &Room,
    caller: &Caller,
    stored: &Stored,
) -> Result<Option<String>, Trouble> {
    let authority = &caller.authority;
    let Some(body) = room.discretions.show(authority, stored).await? else { return Ok(None) };
    if stored.owner != DOOR {
        return Ok(Some(body));
    }
    let mut places = Vec::new();
    for id in patients_of(&body) {
        places.extend(Place::parse(room, ("Patient", &id)).ok().map(|place| ("Patient", place.id)));
    }
    for some in places.chunks(READ_RESOURCES_MAX) {
        for patient in room.chart.read_all(authority, some).await?.into_iter().flatten() {
            let is_others = patient.owner != DOOR && !patient.deleted;
            if is_others && room.discretions.show(authority, &patient).await?.is_none() {
                return Ok(None);
            }
        }
    }
    Ok(Some(body))
}

/// Tells the audit log in whose compartments a resource lies.
pub(super) fn saw(caller: &Caller, body: &str) {
    patients_of(body).iter().filter_map(|id| id.parse().ok()).for_each(|id| caller.saw(id));
}

/// The ids of the Patients in whose compartments a resource lies; a Patient lies in their own.
fn patients_of(body: &str) -> BTreeSet<String> {
    let mut patients = BTreeSet::new();
    let Ok(json) = Json::parse(body.as_bytes()) else { return patients };
    let ty = json.get("resourceType").and_then(Json::as_str).unwrap_or_default();
    let Some(shape) = r4().shape(ty) else { return patients };
    let mut patient = |id: Option<&str>| patients.extend(id.map(str::to_owned));
    if ty == "Patient" {
        patient(json.get("id").and_then(Json::as_str));
    }
    for code in r4().in_compartment("Patient", ty) {
        let walk = r4().parameter(ty, code).and_then(|parameter| Walk::of(parameter, ty).ok());
        for found in walk.iter().flat_map(|walk| walk.walk(r4(), &json, shape)) {
            let Found::Element(element, _) = found else { continue };
            let reference = element.get("reference").and_then(Json::as_str).unwrap_or_default();
            // Whatever the base: ours has several names, and an id of ours is nobody else's.
            patient(patient_in(reference));
        }
    }
    patients
}

/// The id in a reference to a Patient.
fn patient_in(reference: &str) -> Option<&str> {
    let path = reference.split_once("/_history/").map_or(reference, |(path, _)| path);
    let (before, id) = path.rsplit_once('/')?;
    (before == "Patient" || before.ends_with("/Patient")).then_some(id)
}

pub(super) async fn read(
    State(room): State<Room>,
    caller: Caller,
    Path((ty, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let pretty = ask::form(query.as_deref(), &headers)?;
    let place = Place::parse(&room, (&ty, &id))?;
    let found = room.chart.read_all(&caller.authority, &[(place.resource_type, place.id)]).await?;
    let stored = found.into_iter().next().flatten().ok_or(Trouble::NotFound)?;
    let body = shown(&room, &caller, &place, &stored).await?;
    if ask::is_known(&headers, stored.version, stored.updated.to_jiff())? {
        return Ok((StatusCode::NOT_MODIFIED, answer::headers_of(&stored)).into_response());
    }
    Ok(answer::resource(StatusCode::OK, &stored, body, pretty))
}

pub(super) async fn vread(
    State(room): State<Room>,
    caller: Caller,
    Path((ty, id, version)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let pretty = ask::form(query.as_deref(), &headers)?;
    let place = Place::parse(&room, (&ty, &id))?;
    let version = version.parse().map_err(|_| Trouble::NotFound)?;
    let stored = room.chart.version(&caller.authority, place.resource_type, place.id, version).await?;
    let body = shown(&room, &caller, &place, &stored).await?;
    Ok(answer::resource(StatusCode::OK, &stored, body, pretty))
}

/// Newest first. `next` goes on before the last version of the page.
pub(super) async fn history(
    State(room): State<Room>,
    caller: Caller,
    Path((ty, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let known = ["_count", "_before", "_format", "_pretty"];
    let [count, before, format, pretty] = ask::parameters(query.as_deref(), known)?;
    ask::takes_json(&headers, format.as_deref())?;
    let pretty = ask::is_pretty(pretty.as_deref())?;
    let place = Place::parse(&room, (&ty, &id))?;
    let wrong = || Trouble::Parameter { known: "_count (a number), _before (a version)".to_owned() };
    let number = |raw: Option<String>| raw.map(|raw| raw.parse::<u32>().map_err(|_| wrong())).transpose();
    let count = number(count)?.unwrap_or(HISTORY_VERSIONS).clamp(1, HISTORY_VERSIONS_MAX);
    let before = number(before)?.map(i64::from);
    let ty = place.resource_type;
    let versions = room.chart.history(&caller.authority, ty, place.id, before, count).await?;
    let base = answer::base(caller.shell(), &headers);
    let address = format!("{ty}/{}", place.logical);
    let full_url = format!("{base}/{address}");
    let mut bundle =
        Bundle::new(BundleType::History).link("self", &format!("{full_url}/_history?_count={count}"));
    let mut entries = Vec::new();
    for stored in &versions {
        match shown(&room, &caller, &place, stored).await {
            Ok(body) => entries.push((stored, Some(body))),
            Err(Trouble::Gone(_)) => entries.push((stored, None)),
            // One that may not be seen stands in no history; what is behind it may.
            Err(Trouble::NotFound) => {}
            Err(other) => return Err(other),
        }
    }
    if entries.is_empty() && before.is_none() {
        return Err(Trouble::NotFound);
    }
    if let Some(last) = versions.last().filter(|last| last.version > 1 && versions.len() == count as usize) {
        let next = format!("{full_url}/_history?_count={count}&_before={}", last.version);
        bundle = bundle.link("next", &next);
    }
    for (stored, body) in &entries {
        let (method, status) = match (stored.version, body) {
            (_, None) => ("DELETE", "204"),
            (1, Some(_)) => ("PUT", "201"),
            (_, Some(_)) => ("PUT", "200"),
        };
        let updated = stored.updated.to_string();
        let done = Done { method, url: &address, status, version: stored.version, updated: &updated };
        bundle.version(&full_url, body.as_deref(), &done);
    }
    Ok(answer::json(bundle.finish(), pretty))
}
