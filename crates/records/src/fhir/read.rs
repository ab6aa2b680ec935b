//! Read and vread, and what of a resource is shown to whom (<https://hl7.org/fhir/R4/http.html#read>).

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hilum_chart::Stored;
use hilum_chart::limits::READ_RESOURCES_MAX;
use hilum_core::Id;
use hilum_fhir::FhirId;
use hilum_fhir::json::Json;
use hilum_fhir::path::{Found, Path as Walk, Resolved};
use hilum_fhir::r4::{Parameter, r4};
use hilum_web::visit::Caller;

use super::answer::{self, Trouble};
use super::ask::{self, Known, Place};
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
    let visible = visible(room, caller, stored).await?.ok_or(Trouble::NotFound)?;
    if stored.deleted {
        return Err(Trouble::Gone(stored.version));
    }
    Ok(visible.seen(caller))
}

/// A version as who asks may see it.
#[derive(Debug)]
pub(super) struct Visible {
    /// As it goes out; empty of a deletion.
    pub(super) body: String,
    /// The id by which clients know it; absent of a deletion.
    pub(super) logical: Option<FhirId>,
    /// In whose compartments it lies.
    patients: BTreeSet<Id>,
    /// Whom else it names.
    others: BTreeSet<Id>,
}

impl Visible {
    /// The body; the audit log learns whom it is about.
    pub(super) fn seen(self, caller: &Caller) -> String {
        self.is_seen(caller);
        self.body
    }

    /// The audit log learns whom it is about.
    pub(super) fn is_seen(&self, caller: &Caller) {
        self.patients.union(&self.others).for_each(|patient| caller.saw(*patient));
    }
}

/// A version's body, unless it is withheld: by its own room, or with somebody in whose compartment a client put it.
pub(super) async fn visible(
    room: &Room,
    caller: &Caller,
    stored: &Stored,
) -> Result<Option<Visible>, Trouble> {
    Ok(visible_all(room, caller, &[stored]).await?.pop().flatten())
}

/// The same of many, in their order: whoever is named by several is asked for once. A deletion, whose body is empty, goes as
/// what it deleted.
pub(super) async fn visible_all(
    room: &Room,
    caller: &Caller,
    all: &[&Stored],
) -> Result<Vec<Option<Visible>>, Trouble> {
    let authority = &caller.authority;
    let mut seen = Vec::with_capacity(all.len());
    for stored in all {
        seen.push(alone(room, caller, stored).await?);
    }
    let written = all.iter().zip(&seen).filter(|(stored, _)| stored.owner == DOOR);
    let asked: BTreeSet<Id> =
        written.filter_map(|(_, seen)| seen.as_ref()).flat_map(|seen| &seen.patients).copied().collect();
    let asked: Vec<(&str, Id)> = asked.into_iter().map(|id| ("Patient", id)).collect();
    let mut withheld = BTreeSet::new();
    for some in asked.chunks(READ_RESOURCES_MAX) {
        for patient in room.chart.of_others(authority, DOOR, some).await? {
            if room.discretions.show(authority, &patient).await?.is_none() {
                withheld.insert(patient.id);
            }
        }
    }
    for (_, one) in all.iter().zip(&mut seen).filter(|(stored, _)| stored.owner == DOOR) {
        one.take_if(|one| !one.patients.is_disjoint(&withheld));
    }
    Ok(seen)
}

/// A version as who asks may see it by itself, whoever is named in it.
async fn alone(room: &Room, caller: &Caller, stored: &Stored) -> Result<Option<Visible>, Trouble> {
    let before = before_deletion(room, caller, stored).await?;
    let Some(body) = told(room, caller, (stored, before.as_ref())).await? else { return Ok(None) };
    let Named { all, ours, elsewhere, others, logical } =
        named_in(room, caller, before.as_ref().unwrap_or(stored));
    // A Patient is themselves, whomever they link to.
    let is_patient = stored.resource_type == "Patient";
    let ids = if is_patient { BTreeSet::from([stored.id]) } else { ours };
    let is_of_others = !is_patient && elsewhere;
    let may = room.chart.permits(&caller.authority, &stored.resource_type, (&ids, is_of_others)).await?;
    let logical = logical.filter(|_| !stored.deleted);
    Ok(may.then_some(Visible { body, logical, patients: all, others }))
}

/// What a deletion deleted; absent of any other version.
async fn before_deletion(room: &Room, caller: &Caller, stored: &Stored) -> Result<Option<Stored>, Trouble> {
    if !stored.deleted || stored.version <= 1 {
        return Ok(None);
    }
    let (ty, before) = (&stored.resource_type, stored.version - 1);
    Ok(Some(room.chart.version(&caller.authority, ty, stored.id, before).await?))
}

/// What the room says that owns it. A deletion does not say whose it was: it is told to who may see what it deleted.
async fn told(
    room: &Room,
    caller: &Caller,
    (stored, before): (&Stored, Option<&Stored>),
) -> Result<Option<String>, Trouble> {
    let body = room.discretions.show(&caller.authority, stored).await?;
    let Some(before) = before.filter(|_| body.is_some() && stored.owner != DOOR) else { return Ok(body) };
    let is_shown = room.discretions.show(&caller.authority, before).await?.is_some();
    Ok(body.filter(|_| is_shown))
}

/// The Patients, by their ids in the chart, in whose compartments a client put a resource.
#[derive(Debug, Default)]
struct Named {
    /// Whatever the base: ours has several names, and an id of ours is nobody else's.
    all: BTreeSet<Id>,
    /// Those that are of this server: who may know of `Patient/1` may not know of another server's.
    ours: BTreeSet<Id>,
    /// Whether there are others.
    elsewhere: bool,
    /// Patients whom it names outside of R4's compartments (`Task.for`, `Device.patient`, `List.entry.item`): known to the audit
    /// log alone.
    others: BTreeSet<Id>,
    /// The id of the resource itself.
    logical: Option<FhirId>,
}

fn named_in(room: &Room, caller: &Caller, stored: &Stored) -> Named {
    let Ok(json) = Json::parse(&stored.body) else { return Named::default() };
    let logical = json.get("id").and_then(Json::as_str).and_then(|id| FhirId::parse(id).ok());
    let mut named = Named { logical, ..Named::default() };
    let bases = caller.shell().fhir_bases();
    for (_, id) in references_of(&json, &BESIDE) {
        named.others.extend(Place::parse(room, ("Patient", &id)).ok().map(|place| place.id));
    }
    for (base, id) in references_of(&json, &NAMED) {
        let Ok(place) = Place::parse(room, ("Patient", &id)) else { continue };
        named.all.insert(place.id);
        let is_ours = base.is_empty()
            || bases.iter().any(|ours| base.strip_suffix('/').is_some_and(|base| base == ours));
        if is_ours {
            named.ours.insert(place.id);
        }
        named.elsewhere |= !is_ours;
    }
    named
}

/// Tells the audit log whom a resource is about.
pub(super) fn saw(room: &Room, caller: &Caller, stored: &Stored) {
    let named = named_in(room, caller, stored);
    named.all.union(&named.others).for_each(|patient| caller.saw(*patient));
}

/// Ways through a resource, by its type.
type Walks = LazyLock<HashMap<&'static str, Vec<Resolved>>>;

/// Where resources of each type name the Patients in whose compartments they lie.
static NAMED: Walks = LazyLock::new(|| walks(puts_into_compartment));

/// Where they name others.
static BESIDE: Walks = LazyLock::new(|| {
    walks(|ty, parameter| parameter.leads_to("Patient") && !puts_into_compartment(ty, parameter))
});

fn puts_into_compartment(ty: &str, parameter: &Parameter) -> bool {
    r4().in_compartment("Patient", ty).contains(&parameter.code)
}

fn walks(is_meant: impl Fn(&str, &Parameter) -> bool) -> HashMap<&'static str, Vec<Resolved>> {
    let of_type = |ty: &'static str| {
        let meant = r4().parameters_of(ty).filter(|parameter| is_meant(ty, parameter));
        let walks = meant.filter_map(|parameter| Walk::of(parameter, ty).ok());
        let shape = r4().shape(ty);
        walks.filter_map(|walk| Some(walk.resolve(r4(), shape?))).collect()
    };
    r4().resource_types().map(|ty| (ty, of_type(ty))).collect()
}

/// The Patients whom a resource names there, by base (empty: relative) and id; a Patient lies in their own compartment.
fn references_of(json: &Json<'_>, walks: &Walks) -> BTreeSet<(String, String)> {
    let mut patients = BTreeSet::new();
    let ty = json.get("resourceType").and_then(Json::as_str).unwrap_or_default();
    let mut patient = |base: &str, id: &str| patients.insert((base.to_owned(), id.to_owned()));
    if ty == "Patient" {
        json.get("id").and_then(Json::as_str).map(|id| patient("", id));
    }
    let mut found = Vec::new();
    walks.get(ty).into_iter().flatten().for_each(|walk| walk.walk(r4(), json, &mut found));
    for found in found {
        let Found::Element(element, _) = found else { continue };
        let reference = element.get("reference").and_then(Json::as_str).unwrap_or_default();
        patient_in(reference).map(|(base, id)| patient(base, id));
    }
    patients
}

/// Whether a resource lies in the compartment of the Patient with this id.
pub(super) fn is_about(body: &str, patient: &str) -> bool {
    Json::parse(body.as_bytes())
        .is_ok_and(|json| references_of(&json, &NAMED).iter().any(|(_, id)| id.as_str() == patient))
}

/// The base and the id in a reference to a Patient.
fn patient_in(reference: &str) -> Option<(&str, &str)> {
    let path = reference.split_once("/_history/").map_or(reference, |(path, _)| path);
    let (before, id) = path.rsplit_once('/')?;
    let base = before.strip_suffix("Patient")?;
    (base.is_empty() || base.ends_with('/')).then_some((base, id))
}

/// Whether a client has this version already. HTTP's dates have whole seconds: of two versions of one second none is known by
/// it.
pub(super) async fn is_known(
    room: &Room,
    caller: &Caller,
    headers: &HeaderMap,
    stored: &Stored,
) -> Result<bool, Trouble> {
    match ask::known(headers, stored)? {
        Known::No => Ok(false),
        Known::Yes => Ok(true),
        Known::BySecond if stored.version <= 1 => Ok(true),
        Known::BySecond => {
            let (ty, before) = (&stored.resource_type, stored.version - 1);
            let before = room.chart.version(&caller.authority, ty, stored.id, before).await?;
            Ok(before.updated.to_jiff().as_second() < stored.updated.to_jiff().as_second())
        }
    }
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
    if is_known(&room, &caller, &headers, &stored).await? {
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
