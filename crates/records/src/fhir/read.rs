//! Read and vread, and what of a resource is shown to whom (<https://hl7.org/fhir/R4/http.html#read>).

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hilum_chart::Stored;
use hilum_chart::limits::READ_RESOURCES_MAX;
use hilum_core::Id;
use hilum_fhir::json::Json;
use hilum_fhir::path::{Found, Path as Walk, Resolved};
use hilum_fhir::r4::r4;
use hilum_web::visit::Caller;

use super::answer::{self, Trouble};
use super::ask::{self, Place};
use super::form::Form;
use crate::{DOOR, Room, logical};

/// What stands at a place, whoever may see it; also a deletion.
pub(super) async fn stands(room: &Room, caller: &Caller, place: &Place) -> Result<Stored, Trouble> {
    let found = room.chart.read_all(&caller.authority, &[(place.resource_type, place.id)]).await?;
    found.into_iter().next().flatten().ok_or(Trouble::NotFound)
}

/// What stands at many places, in their order.
pub(super) async fn standing(
    room: &Room,
    caller: &Caller,
    places: &[(&str, Id)],
) -> Result<Vec<Option<Stored>>, Trouble> {
    let mut all = Vec::with_capacity(places.len());
    for some in places.chunks(READ_RESOURCES_MAX) {
        all.extend(room.chart.read_all(&caller.authority, some).await?);
    }
    Ok(all)
}

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
    Ok(visible_all(room, caller, &[stored]).await?.pop().flatten())
}

/// The same of many, in their order: whoever is named by several is asked for once. A deletion, whose body is empty, goes as
/// what it deleted.
pub(super) async fn visible_all(
    room: &Room,
    caller: &Caller,
    all: &[&Stored],
) -> Result<Vec<Option<String>>, Trouble> {
    let authority = &caller.authority;
    let is_limited = authority.patients().is_some();
    let (mut bodies, mut named) = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
    for stored in all {
        let mut body = room.discretions.show(authority, stored).await?;
        let patients = match &body {
            Some(body) if is_limited || stored.owner == DOOR => named_in(room, caller, stored, body).await?,
            _ => BTreeSet::new(),
        };
        if is_limited && body.is_some() {
            // A Patient is themselves, whomever they link to.
            let is_patient = stored.resource_type == "Patient";
            let ids = if is_patient { vec![stored.id] } else { patients.iter().copied().collect() };
            let may = room.chart.permits(authority, &stored.resource_type, &ids).await?;
            body = body.filter(|_| may);
        }
        named.push(if stored.owner == DOOR { patients } else { BTreeSet::new() });
        bodies.push(body);
    }
    let asked: BTreeSet<Id> = named.iter().flatten().copied().collect();
    let asked: Vec<(&str, Id)> = asked.into_iter().map(|id| ("Patient", id)).collect();
    let mut withheld = BTreeSet::new();
    for some in asked.chunks(READ_RESOURCES_MAX) {
        for patient in room.chart.read_all(authority, some).await?.into_iter().flatten() {
            let is_others = patient.owner != DOOR && !patient.deleted;
            if is_others && room.discretions.show(authority, &patient).await?.is_none() {
                withheld.insert(patient.id);
            }
        }
    }
    let seen = bodies.into_iter().zip(named);
    Ok(seen.map(|(body, named)| body.filter(|_| named.is_disjoint(&withheld))).collect())
}

/// The Patients, by their ids in the chart, in whose compartments a client put a resource.
async fn named_in(
    room: &Room,
    caller: &Caller,
    stored: &Stored,
    body: &str,
) -> Result<BTreeSet<Id>, Trouble> {
    let patients = if stored.deleted && stored.version > 1 {
        let before = stored.version - 1;
        let before = room.chart.version(&caller.authority, &stored.resource_type, stored.id, before).await?;
        patients_of(before.text()?)
    } else {
        patients_of(body)
    };
    let places = patients.iter().filter_map(|id| Place::parse(room, ("Patient", id)).ok());
    Ok(places.map(|place| place.id).collect())
}

/// Tells the audit log in whose compartments a resource lies.
pub(super) fn saw(caller: &Caller, body: &str) {
    patients_of(body).iter().filter_map(|id| id.parse().ok()).for_each(|id| caller.saw(id));
}

/// Where resources of each type name the Patients in whose compartments they lie.
static NAMED: LazyLock<HashMap<&str, Vec<Resolved>>> = LazyLock::new(|| {
    let walks = |ty: &'static str| {
        let codes = r4().in_compartment("Patient", ty).iter();
        let walks = codes.filter_map(|code| Walk::of(r4().parameter(ty, code)?, ty).ok());
        let shape = r4().shape(ty);
        walks.filter_map(|walk| Some(walk.resolve(r4(), shape?))).collect()
    };
    r4().resource_types().map(|ty| (ty, walks(ty))).collect()
});

/// The ids of the Patients in whose compartments a resource lies; a Patient lies in their own.
fn patients_of(body: &str) -> BTreeSet<String> {
    let mut patients = BTreeSet::new();
    let Ok(json) = Json::parse(body.as_bytes()) else { return patients };
    let ty = json.get("resourceType").and_then(Json::as_str).unwrap_or_default();
    let mut patient = |id: Option<&str>| patients.extend(id.map(str::to_owned));
    if ty == "Patient" {
        patient(json.get("id").and_then(Json::as_str));
    }
    let mut found = Vec::new();
    NAMED.get(ty).into_iter().flatten().for_each(|walk| walk.walk(r4(), &json, &mut found));
    for found in found {
        let Found::Element(element, _) = found else { continue };
        let reference = element.get("reference").and_then(Json::as_str).unwrap_or_default();
        // Whatever the base: ours has several names, and an id of ours is nobody else's.
        patient(patient_in(reference));
    }
    patients
}

/// Whether a resource lies in the compartment of the Patient with this id.
pub(super) fn is_about(body: &str, patient: &str) -> bool {
    patients_of(body).contains(patient)
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
    let place = Place::parse(&room, (&ty, &id))?;
    let form = Form::of(query.as_deref(), &headers, Some(place.resource_type))?;
    let stored = stands(&room, &caller, &place).await?;
    let body = shown(&room, &caller, &place, &stored).await?;
    if ask::is_known(&headers, stored.version, stored.updated.to_jiff())? {
        return Ok((StatusCode::NOT_MODIFIED, answer::headers_of(&stored)).into_response());
    }
    Ok(answer::resource(StatusCode::OK, &stored, form.part(body)?, form.is_pretty))
}

pub(super) async fn vread(
    State(room): State<Room>,
    caller: Caller,
    Path((ty, id, version)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let place = Place::parse(&room, (&ty, &id))?;
    let form = Form::of(query.as_deref(), &headers, Some(place.resource_type))?;
    let version = version.parse().map_err(|_| Trouble::NotFound)?;
    let stored = room.chart.version(&caller.authority, place.resource_type, place.id, version).await?;
    let body = shown(&room, &caller, &place, &stored).await?;
    Ok(answer::resource(StatusCode::OK, &stored, form.part(body)?, form.is_pretty))
}
