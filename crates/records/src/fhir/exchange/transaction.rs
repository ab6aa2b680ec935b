//! A transaction: where each entry writes, what the entries call each other, and the one commit of all.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use hilum_chart::ChartError;
use hilum_chart::chart::Commit;
use hilum_chart::projection::ResourceChange;
use hilum_core::{Id, RecordId};
use hilum_fhir::exchange::{
    Entry, Exchange, Method, Request, attached, base_of, is_search, narrated, referring, relinked, resolved,
};
use hilum_fhir::json::{Json, JsonError};
use hilum_fhir::resource::with_id;
use hilum_fhir::{Bundle, BundleType};

use super::{Asking, Did, Wanted, expected_by, say, status_of};
use crate::DOOR;
use crate::fhir::answer::{self, Trouble};
use crate::fhir::ask::{self, Expected, Place};
use crate::fhir::condition::{Condition, Met};
use crate::fhir::read;
use crate::fhir::references::Beside;
use crate::fhir::write::{self, What};
use crate::limits::{BUNDLE_BYTES_MAX, WRITE_TRIES_MAX};

/// The types that say which codes `:in`, `:not-in`, `:above` and `:below` mean.
const TERMS: [&str; 2] = ["ValueSet", "CodeSystem"];

/// What went wrong, and with which entry.
type Located = (Option<usize>, Trouble);

/// An entry of a transaction that writes, once it is known where.
pub(super) struct Writes<'a> {
    at: usize,
    place: Place,
    what: What<'a>,
    /// What must stand at its place.
    expected: Expected,
    /// Whether the resource gets the id of its place.
    names: bool,
    /// Whether its condition is met already: nothing is written.
    stands: bool,
    /// Whether its condition is met by nothing: nothing may live at its place.
    creates: bool,
}

impl Writes<'_> {
    /// The resource as it came.
    fn resource(&self) -> Option<&str> {
        match &self.what {
            What::Resource(text) => Some(text),
            What::Gone | What::Patched(_) | What::Labelled(..) => None,
        }
    }
}

impl Asking<'_> {
    /// Where an entry of a transaction writes, by what stands now; absent where there is nothing to delete.
    async fn writes<'e>(
        &self,
        (at, tried): (usize, u32),
        entry: &Entry<'e>,
        request: &Request,
    ) -> Result<Option<Writes<'e>>, Trouble> {
        let (room, caller, expected) = (self.room, self.caller, expected_by(request)?);
        let resource = entry.resource();
        let what = resource.map_or(What::Gone, |text| What::Resource(text.into()));
        let by_place = |place| Writes {
            at,
            place,
            what: what.clone(),
            expected: expected.clone(),
            names: false,
            stands: false,
            creates: false,
        };
        let by_condition = |place| Writes { names: true, ..by_place(place) };
        Ok(Some(match self.wanted(entry, request)? {
            Wanted::Create(ty, None) => {
                Writes { expected: Expected::Any, ..by_condition(Place::anew(room, caller, ty)) }
            }
            Wanted::Create(_, Some(condition)) => match condition.look_before(room, caller).await? {
                Met::Several => return Err(Trouble::Several),
                Met::One(place) => Writes { stands: true, ..by_place(place) },
                Met::Nothing => {
                    Writes { creates: true, ..by_condition(condition.place(room, caller, tried)) }
                }
            },
            Wanted::Update(place) => by_place(place),
            Wanted::UpdateWhere(condition) => {
                let json = resource.map(|text| Json::parse(text.as_bytes())).transpose()?;
                let given = json.as_ref().and_then(|json| json.get("id")).and_then(Json::as_str);
                match (condition.look_before(room, caller).await?, given) {
                    (Met::Several, _) => return Err(Trouble::Several),
                    (Met::One(place), Some(given)) if given != place.logical.as_str() => {
                        return Err(Trouble::Address(
                            "what meets the condition has another id than the resource",
                        ));
                    }
                    (Met::One(place), _) => by_condition(place),
                    (Met::Nothing, _) if expected.is_of_something() => return Err(Trouble::Missing),
                    (Met::Nothing, Some(given)) => {
                        let place = Place::parse(room, (condition.resource_type(), given))?;
                        Writes { expected: Expected::Free, ..by_place(place) }
                    }
                    (Met::Nothing, None) => {
                        Writes { creates: true, ..by_condition(condition.place(room, caller, tried)) }
                    }
                }
            }
            Wanted::Delete(place) => Writes { what: What::Gone, ..by_place(place) },
            Wanted::Patch(place, patch) => Writes { what: What::Patched(patch.into()), ..by_place(place) },
            Wanted::PatchWhere(condition, patch) => {
                let place = condition.look(room, caller).await?.one()?;
                Writes { what: What::Patched(patch.into()), ..by_place(place) }
            }
            Wanted::DeleteWhere(condition) => match condition.look(room, caller).await? {
                Met::Several => return Err(Trouble::Several),
                Met::Nothing => return Ok(None),
                Met::One(place) => Writes { what: What::Gone, ..by_place(place) },
            },
        }))
    }

    /// The bodies as they are written: with their ids, referring to each other, and to what was `found`, by these.
    fn linked(
        sent: &Exchange<'_>,
        writes: &[Writes<'_>],
        found: &HashMap<String, String>,
    ) -> Result<Vec<Option<String>>, Located> {
        let names = names(sent, writes, found)?;
        let mut bodies = Vec::with_capacity(writes.len());
        let mut size_bytes = 0;
        for one in writes {
            let here = |trouble| (Some(one.at), trouble);
            let full_url = sent.entries.get(one.at).and_then(|entry| entry.full_url.as_deref());
            let body = match one.resource().filter(|_| !one.stands) {
                // What a Bundle that is kept says, it says to itself.
                Some(text) if one.place.resource_type == "Bundle" => Some(text.to_owned()),
                Some(text) => Some(body(text, full_url, &names, found).map_err(here)?),
                None => None,
            };
            let named =
                body.map(|body| if one.names { with_id(&body, &one.place.logical) } else { Ok(body) });
            let broken = |_| here(answer::broken("a body that was read has no members"));
            let body = named.transpose().map_err(broken)?;
            size_bytes += body.as_ref().map_or(0, String::len);
            if size_bytes > BUNDLE_BYTES_MAX {
                return Err((None, JsonError::TooLarge { size_bytes }.into()));
            }
            bodies.push(body);
        }
        Ok(bodies)
    }

    pub(super) async fn transaction(&self, sent: &Exchange<'_>) -> Result<Bundle, Located> {
        for tried in 0..WRITE_TRIES_MAX {
            self.searches.store(0, Ordering::Relaxed);
            let (mut writes, mut reads) = (Vec::new(), Vec::new());
            let mut did = BTreeMap::new();
            for (at, entry) in sent.entries.iter().enumerate() {
                let here = |trouble| (Some(at), trouble);
                let request = entry.request.as_ref().ok_or(Trouble::Address("an entry has no request"));
                let request = request.map_err(here)?;
                if matches!(request.method, Method::Get | Method::Head) {
                    self.can_read(request).map_err(here)?;
                    reads.push((at, request));
                } else if let Some(one) = self.writes((at, tried), entry, request).await.map_err(here)? {
                    writes.push(one);
                } else {
                    did.insert(at, Ok(Did::of(StatusCode::NO_CONTENT)));
                }
            }
            // A reading may go by what the transaction itself brings.
            let brings = |ty: &&str| {
                let is_kept = |one: &&Writes<'_>| !matches!(one.what, What::Gone);
                writes.iter().filter(is_kept).any(|one| one.place.resource_type == *ty)
            };
            if !TERMS.iter().any(brings) {
                for (at, request) in &reads {
                    self.can_be_answered(request).await.map_err(|trouble| (Some(*at), trouble))?;
                }
            }
            let found = self.found_by_search(&writes).await?;
            let bodies = Self::linked(sent, &writes, &found)?;
            let Some(done) = self.commit(&writes, &bodies).await? else { continue };
            did.extend(done);
            for (at, request) in reads {
                // What is written is written: that there is nothing to read is the answer to this entry alone.
                did.insert(at, self.read(request).await);
            }
            let mut bundle = Bundle::new(BundleType::TransactionResponse);
            for (at, did) in did {
                say(&mut bundle, at, did).await;
            }
            return Ok(bundle);
        }
        Err((None, Trouble::Busy))
    }

    /// The one resource that each reference by a search is to: `Patient?identifier=…`.
    async fn found_by_search(&self, writes: &[Writes<'_>]) -> Result<HashMap<String, String>, Located> {
        let mut found = HashMap::new();
        for one in writes {
            let asked = RefCell::new(BTreeSet::new());
            let is_kept = one.place.resource_type == "Bundle";
            relinked(one.resource().filter(|_| !is_kept).unwrap_or_default(), |link| {
                if is_search(link) {
                    asked.borrow_mut().insert(link.to_owned());
                }
                None
            });
            for link in asked.into_inner() {
                if found.contains_key(&link) {
                    continue;
                }
                let here = |trouble| (Some(one.at), trouble);
                self.searches().map_err(here)?;
                let (ty, criteria) = link.split_once('?').unwrap_or_default();
                let condition =
                    ask::type_of(ty).and_then(|ty| Condition::parse(ty, criteria)).map_err(here)?;
                match condition.look(self.room, self.caller).await.map_err(here)? {
                    Met::One(place) => {
                        found.insert(link, format!("{}/{}", place.resource_type, place.logical));
                    }
                    Met::Several => return Err(here(Trouble::Several)),
                    Met::Nothing => return Err(here(Trouble::Nothing)),
                }
            }
        }
        Ok(found)
    }

    /// One commit of all, on top of what stands; absent when another writer was first.
    async fn commit(
        &self,
        writes: &[Writes<'_>],
        bodies: &[Option<String>],
    ) -> Result<Option<BTreeMap<usize, Result<Did, Trouble>>>, Located> {
        let (room, caller) = (self.room, self.caller);
        let places: Vec<(&str, Id)> =
            writes.iter().map(|one| (one.place.resource_type, one.place.id)).collect();
        let standing = read::standing(room, caller, &places).await.map_err(all)?;
        let beside = beside(writes);
        let mut commit = Commit { door: DOOR, ..Commit::default() };
        let mut statuses = Vec::new();
        for ((one, body), before) in writes.iter().zip(bodies).zip(&standing) {
            let here = |trouble| (Some(one.at), trouble);
            if one.stands {
                statuses.push(StatusCode::OK);
                continue;
            }
            let before = write::ours(before.as_ref(), &one.place).map_err(here)?;
            let current = before.map_or(0, |stored| stored.version);
            if one.creates {
                // What a condition would create stands there since, or once did.
                if write::free_at(before) != Some(current) {
                    return Ok(None);
                }
            } else {
                write::must_be(room, caller, &one.expected, before).await.map_err(here)?;
            }
            let key = (one.place.resource_type, one.place.id);
            let what = body.as_deref().map(|body| What::Resource(body.into()));
            let what = what.as_ref().unwrap_or(&one.what);
            let body = what.on(room, caller, &one.place, before).await.map_err(here)?;
            what.must_lead(room, caller, body.as_deref(), &beside).await.map_err(here)?;
            let source = RecordId::new(caller.at(), room.entropy.bytes());
            let change = ResourceChange { resource_type: key.0, id: key.1, body, source };
            commit.changes.resources.insert(key, change);
            commit.if_versions.insert(key, current);
            commit.logical_ids.insert(key, one.place.logical.clone());
            if let (What::Gone, Some(before)) = (&one.what, before.filter(|before| !before.deleted)) {
                read::saw(room, caller, before);
            }
            statuses.push(status_of(&one.what, before));
        }
        match room.chart.commit(&caller.authority, commit).await {
            Ok(_) => self.done_all(writes, statuses, &places).await.map(Some),
            Err(ChartError::Version { .. }) => Ok(None),
            Err(error) => Err(all(error.into())),
        }
    }

    async fn done_all(
        &self,
        writes: &[Writes<'_>],
        statuses: Vec<StatusCode>,
        places: &[(&str, Id)],
    ) -> Result<BTreeMap<usize, Result<Did, Trouble>>, Located> {
        let stored = read::standing(self.room, self.caller, places).await.map_err(all)?;
        let mut did = BTreeMap::new();
        for ((one, status), stored) in writes.iter().zip(statuses).zip(stored) {
            let done = match stored.filter(|stored| !stored.deleted) {
                Some(stored) => self.done(status, &one.place, &stored).await,
                None => Ok(Did::of(status)),
            };
            did.insert(one.at, done);
        }
        Ok(did)
    }
}

const fn all(trouble: Trouble) -> Located {
    (None, trouble)
}

/// What comes and what goes with the same commit.
fn beside(writes: &[Writes<'_>]) -> Beside {
    let mut beside = Beside::default();
    for one in writes.iter().filter(|one| !one.stands) {
        let target = (one.place.resource_type, one.place.id);
        match one.what {
            What::Gone => beside.deleted.insert(target),
            _ => beside.written.insert(target),
        };
    }
    beside
}

/// What the entries call each other: the address of each by its `fullUrl`.
fn names<'s>(
    sent: &'s Exchange<'_>,
    writes: &[Writes<'_>],
    found: &HashMap<String, String>,
) -> Result<HashMap<&'s str, String>, Located> {
    let mut seen = BTreeSet::new();
    let mut names: HashMap<&str, String> = HashMap::new();
    let gone = writes.iter().filter(|one| matches!(one.what, What::Gone));
    let gone: BTreeSet<String> = gone.map(|one| one.place.address()).collect();
    if found.values().any(|to| gone.contains(to)) {
        return Err((
            None,
            Trouble::Address("a reference by a search leads to what the transaction deletes"),
        ));
    }
    for one in writes {
        let here = |trouble| (Some(one.at), trouble);
        let (ty, logical) = (one.place.resource_type, &one.place.logical);
        if one.stands && gone.contains(&one.place.address()) {
            return Err(here(Trouble::Address(
                "another entry of the transaction deletes what meets the condition",
            )));
        }
        if !seen.insert((ty, one.place.id)) && !one.stands {
            return Err(here(Trouble::Address(
                "another entry of the transaction is about the same resource",
            )));
        }
        let full_url = sent.entries.get(one.at).and_then(|entry| entry.full_url.as_deref());
        if let Some(full_url) = full_url.filter(|_| one.resource().is_some())
            && names.insert(full_url, format!("{ty}/{logical}")).is_some()
        {
            return Err(here(Trouble::Address("another entry of the transaction has the same fullUrl")));
        }
    }
    Ok(names)
}

/// The resource of an entry, with its links leading to what they name.
fn body(
    resource: &str,
    full_url: Option<&str>,
    names: &HashMap<&str, String>,
    found: &HashMap<String, String>,
) -> Result<String, Trouble> {
    // `Patient/1` beside a resource that came from elsewhere is another one than ours; what comes with neither is ours.
    let base = full_url.and_then(base_of);
    let beside = |link: &str| names.get(resolved(base?, link)?.as_str()).cloned();
    let resource = referring(resource, beside);
    let is_lost = Cell::new(false);
    let text = relinked(&resource, |link| {
        let known = names.get(link).or_else(|| found.get(link)).cloned();
        is_lost.set(is_lost.get() || known.is_none() && link.starts_with("urn:uuid:"));
        known
    });
    if is_lost.get() {
        return Err(Trouble::Address("a reference by urn:uuid names no entry of the transaction"));
    }
    let by_urn = |link: &str| names.get(link).filter(|_| link.starts_with("urn:")).cloned();
    Ok(narrated(&attached(&text, by_urn), by_urn).into_owned())
}
