//! Batch and transaction (<https://hl7.org/fhir/R4/http.html#transaction>): `POST /fhir`.
//!
//! A transaction is one commit: all of it or nothing. Its entries are executed in the order DELETE, POST, PUT, GET, so what
//! they refer to each other by (`fullUrl`) is known before anything is written. The entries of a batch know nothing of
//! each other, and one that fails keeps no other from being done.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};

use axum::body::to_bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hilum_chart::chart::Commit;
use hilum_chart::projection::ResourceChange;
use hilum_chart::{ChartError, Stored};
use hilum_core::{Id, RecordId};
use hilum_fhir::bundle::Answered;
use hilum_fhir::check::{Finding, check};
use hilum_fhir::exchange::{Entry, Exchange, Method, Request, relinked};
use hilum_fhir::json::Json;
use hilum_fhir::resource::with_id;
use hilum_fhir::{Bundle, BundleType, FhirId};
use hilum_web::visit::Caller;
use serde_json::Value;

use super::answer::{self, Trouble};
use super::ask::{self, Place};
use super::condition::{Condition, Met};
use super::{read, search, write};
use crate::limits::{ENTRIES_MAX, WRITE_TRIES_MAX};
use crate::{DOOR, Room};

/// What came of an entry.
struct Did {
    status: StatusCode,
    full_url: Option<String>,
    location: Option<String>,
    version: Option<(i64, String)>,
    body: Option<String>,
}

pub(super) async fn take(
    State(room): State<Room>,
    caller: Caller,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Trouble> {
    let pretty = ask::form(query.as_deref(), &headers)?;
    ask::brings_json(&headers)?;
    ask::wants(&headers)?;
    let json = Json::parse(&body)?;
    if json.get("resourceType").and_then(Json::as_str) != Some("Bundle") {
        return Err(Trouble::Address(
            "a Bundle of type batch or transaction belongs here; a resource goes to its type",
        ));
    }
    let findings = check(&json);
    drop(json);
    let text = std::str::from_utf8(&body).map_err(|_| answer::broken("a body that was read is no text"))?;
    let sent = match Exchange::parse(text) {
        Some(sent) => sent,
        None if findings.is_empty() => {
            return Err(answer::broken("a Bundle that was checked cannot be read"));
        }
        None => return Err(Trouble::Findings(findings)),
    };
    if sent.entries.len() > ENTRIES_MAX {
        return Err(Trouble::Entries(ENTRIES_MAX));
    }
    let ask = Asking {
        room: &room,
        caller: &caller,
        base: answer::base(caller.shell(), &headers),
        is_full: is_full(&headers),
    };
    match sent.kind.as_str() {
        "transaction" if !findings.is_empty() => Err(Trouble::Findings(findings)),
        "transaction" => {
            let bundle = ask.transaction(&sent).await;
            match bundle {
                Ok(bundle) => Ok(answer::json(bundle.finish(), pretty)),
                Err((at, trouble)) => Ok(located(at, trouble).await),
            }
        }
        "batch" => Ok(answer::json(ask.batch(&sent, findings).await?.finish(), pretty)),
        _ => Err(Trouble::Address("Bundle.type is batch or transaction here")),
    }
}

/// Whether resources are wanted in the answer: of many, only where the client says so.
fn is_full(headers: &HeaderMap) -> bool {
    let said = headers.get_all(HeaderName::from_static("prefer")).iter();
    said.filter_map(|value| value.to_str().ok()).any(|value| value.contains("return=representation"))
}

/// An error of one entry: the outcome says which.
async fn located(at: Option<usize>, trouble: Trouble) -> Response {
    let Some(at) = at else { return trouble.into_response() };
    let (mut parts, body) = trouble.into_response().into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let body = outcome_at(&body, at).unwrap_or(body);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, body.into())
}

fn outcome_at(outcome: &[u8], at: usize) -> Option<Bytes> {
    let mut outcome: Value = serde_json::from_slice(outcome).ok()?;
    for issue in outcome.get_mut("issue")?.as_array_mut()? {
        let issue = issue.as_object_mut()?;
        issue.entry("expression").or_insert_with(|| Value::from(vec![format!("Bundle.entry[{at}]")]));
    }
    Some(outcome.to_string().into())
}

/// The entry that a finding of the Bundle is about: one within its resource.
fn entry_of(finding: &Finding) -> Option<usize> {
    let rest = finding.expression.strip_prefix("Bundle.entry[")?;
    let (number, rest) = rest.split_once(']')?;
    rest.starts_with(".resource").then_some(())?;
    number.parse().ok()
}

/// An entry of a transaction that writes, once it is known where.
struct Writes<'a> {
    at: usize,
    place: Place,
    /// The resource; absent where it is deleted.
    resource: Option<&'a str>,
    /// The version that must be current; a create has none.
    if_match: Option<i64>,
    /// Whether the resource gets the id of its place.
    names: bool,
    /// Whether its condition is met already: nothing is written.
    stands: bool,
    /// Whether its condition is met by nothing: nothing may live at its place.
    creates: bool,
}

/// What an entry that writes asks for.
enum Wanted {
    Create(Option<Condition>),
    Update(Place),
    UpdateWhere(Condition),
    Delete(Place),
    DeleteWhere(Condition),
}

/// What an address within a Bundle names.
enum Target<'a> {
    Type(&'a str),
    One(&'a str, &'a str),
    Version(&'a str, &'a str, &'a str),
    Where(&'a str, &'a str),
}

fn target(url: &str) -> Result<Target<'_>, Trouble> {
    let path = url.strip_prefix('/').unwrap_or(url);
    if let Some((ty, criteria)) = path.split_once('?') {
        return Ok(Target::Where(ty, criteria));
    }
    match path.split('/').collect::<Vec<_>>().as_slice() {
        [ty] if !ty.is_empty() => Ok(Target::Type(ty)),
        [ty, id] => Ok(Target::One(ty, id)),
        [ty, id, "_history", version] => Ok(Target::Version(ty, id, version)),
        _ => Err(Trouble::Address(
            "request.url is Type, Type/id or Type/id/_history/version, without the base",
        )),
    }
}

fn header_of(name: HeaderName, value: Option<&str>) -> Result<HeaderMap, Trouble> {
    let mut headers = HeaderMap::new();
    if let Some(value) = value {
        let value = HeaderValue::from_str(value).map_err(|_| Trouble::Header(name.clone()))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn version_of(request: &Request) -> Result<Option<i64>, Trouble> {
    ask::if_match(&header_of(header::IF_MATCH, request.if_match.as_deref())?)
}

struct Asking<'a> {
    room: &'a Room,
    caller: &'a Caller,
    base: String,
    is_full: bool,
}

type Located = (Option<usize>, Trouble);

impl Asking<'_> {
    async fn batch(&self, sent: &Exchange<'_>, findings: Vec<Finding>) -> Result<Bundle, Trouble> {
        let mut of_entries: BTreeMap<usize, Vec<Finding>> = BTreeMap::new();
        let mut of_bundle = Vec::new();
        for finding in findings {
            match entry_of(&finding) {
                Some(at) => of_entries.entry(at).or_default().push(finding),
                None => of_bundle.push(finding),
            }
        }
        if !of_bundle.is_empty() {
            return Err(Trouble::Findings(of_bundle));
        }
        let mut bundle = Bundle::new(BundleType::BatchResponse);
        for (at, entry) in sent.entries.iter().enumerate() {
            let did = match of_entries.remove(&at) {
                Some(findings) => Err(Trouble::Findings(findings)),
                None => self.alone(entry).await,
            };
            say(&mut bundle, at, did).await;
        }
        Ok(bundle)
    }

    /// An entry of a batch: as if it had come by itself.
    async fn alone(&self, entry: &Entry<'_>) -> Result<Did, Trouble> {
        let (room, caller) = (self.room, self.caller);
        let request = entry.request.as_ref().ok_or(Trouble::Address("an entry has no request"))?;
        if matches!(request.method, Method::Get | Method::Head) {
            return self.read(request).await;
        }
        let resource = entry.resource();
        let (place, status) = match self.wanted(entry, request)? {
            Wanted::Create(None) => {
                let place = self.new_place(request)?;
                let text = with_id(resource.unwrap_or_default(), &place.logical);
                let text = text.map_err(|_| answer::broken("a body that was read has no members"))?;
                write::commit(room, caller, &place, 0, Some(text)).await?;
                (place, StatusCode::CREATED)
            }
            Wanted::Create(Some(condition)) => {
                let (place, is_new) =
                    write::create_where(room, caller, &condition, resource.unwrap_or_default()).await?;
                (place, if is_new { StatusCode::CREATED } else { StatusCode::OK })
            }
            Wanted::Update(place) => {
                let text = resource.unwrap_or_default();
                let on_top = |before: Option<&Stored>| write::body_of(text, before).map(Some);
                let before = write::write(room, caller, &place, version_of(request)?, on_top).await?;
                (place, status_of(resource, before.as_ref()))
            }
            Wanted::UpdateWhere(condition) => {
                let text = resource.unwrap_or_default();
                write::put_where(room, caller, &condition, version_of(request)?, text).await?
            }
            Wanted::Delete(place) => return self.gone(request, &place).await,
            Wanted::DeleteWhere(condition) => match condition.look(room, caller).await? {
                Met::Several => return Err(Trouble::Several),
                Met::Nothing => return Ok(Did::of(StatusCode::NO_CONTENT)),
                Met::One(place) => return self.gone(request, &place).await,
            },
        };
        let stored = room.chart.read(&caller.authority, place.resource_type, place.id).await?;
        self.done(status, &place, &stored).await
    }

    async fn gone(&self, request: &Request, place: &Place) -> Result<Did, Trouble> {
        let before = write::write(self.room, self.caller, place, version_of(request)?, |_| Ok(None)).await?;
        if let Some(before) = before.filter(|before| !before.deleted) {
            read::saw(self.caller, before.text()?);
        }
        Ok(Did::of(StatusCode::NO_CONTENT))
    }

    async fn read(&self, request: &Request) -> Result<Did, Trouble> {
        let (ty, id, version) = match target(&request.url)? {
            Target::Type(ty) => return self.search(ty, "").await,
            Target::Where(ty, criteria) => return self.search(ty, criteria).await,
            Target::One(ty, id) => (ty, id, None),
            Target::Version(ty, id, version) => (ty, id, Some(version)),
        };
        let (place, caller) = (Place::parse(self.room, (ty, id))?, self.caller);
        let stored = match version {
            None => {
                let found =
                    self.room.chart.read_all(&caller.authority, &[(place.resource_type, place.id)]).await?;
                found.into_iter().next().flatten().ok_or(Trouble::NotFound)?
            }
            Some(version) => {
                let version = version.parse().map_err(|_| Trouble::NotFound)?;
                self.room.chart.version(&caller.authority, place.resource_type, place.id, version).await?
            }
        };
        let body = read::shown(self.room, caller, &place, &stored).await?;
        let mut headers = header_of(header::IF_NONE_MATCH, request.if_none_match.as_deref())?;
        headers.extend(header_of(header::IF_MODIFIED_SINCE, request.if_modified_since.as_deref())?);
        let version = Some((stored.version, stored.updated.to_string()));
        if ask::is_known(&headers, stored.version, stored.updated.to_jiff())? {
            return Ok(Did { version, ..Did::of(StatusCode::NOT_MODIFIED) });
        }
        let full_url = Some(format!("{}/{}/{}", self.base, place.resource_type, place.logical));
        Ok(Did { full_url, version, body: Some(body), ..Did::of(StatusCode::OK) })
    }

    async fn search(&self, ty: &str, criteria: &str) -> Result<Did, Trouble> {
        let body = search::within(self.room, self.caller, &self.base, (ty, criteria)).await?;
        Ok(Did { body: Some(body), ..Did::of(StatusCode::OK) })
    }

    /// What an entry wants to write.
    fn wanted(&self, entry: &Entry<'_>, request: &Request) -> Result<Wanted, Trouble> {
        version_of(request)?;
        let resource = || entry.resource().ok_or(Trouble::Address("an entry that writes has no resource"));
        Ok(match (request.method, target(&request.url)?) {
            (Method::Post, Target::Type(ty)) => {
                let ty = ask::type_of(ty)?;
                must_be(resource()?, ty, None)?;
                let condition = request.if_none_exist.as_deref().map(|raw| Condition::parse_header(ty, raw));
                Wanted::Create(condition.transpose()?)
            }
            (Method::Put, Target::One(ty, id)) => {
                let place = Place::parse(self.room, (ty, id))?;
                must_be(resource()?, place.resource_type, Some(&place.logical))?;
                Wanted::Update(place)
            }
            (Method::Put, Target::Where(ty, criteria)) => {
                let ty = ask::type_of(ty)?;
                must_be(resource()?, ty, None)?;
                Wanted::UpdateWhere(Condition::parse(ty, criteria)?)
            }
            (Method::Delete, Target::One(ty, id)) => Wanted::Delete(Place::parse(self.room, (ty, id))?),
            (Method::Delete, Target::Where(ty, criteria)) => {
                Wanted::DeleteWhere(Condition::parse(ask::type_of(ty)?, criteria)?)
            }
            (Method::Patch, _) => {
                return Err(Trouble::Unsupported("PATCH is not there yet: send the whole resource by PUT"));
            }
            _ => {
                return Err(Trouble::Address(
                    "POST goes to a type; PUT and DELETE go to Type/id or Type?criteria",
                ));
            }
        })
    }

    /// Where a resource stands that gets its id from us.
    fn new_place(&self, request: &Request) -> Result<Place, Trouble> {
        let Target::Type(ty) = target(&request.url)? else {
            return Err(answer::broken("what creates names a type"));
        };
        let id = RecordId::new(self.caller.at(), self.room.entropy.bytes()).as_id();
        Ok(Place { resource_type: ask::type_of(ty)?, logical: FhirId::from(id), id })
    }

    /// Where an entry of a transaction writes, by what stands now; absent where there is nothing to delete.
    async fn writes<'e>(
        &self,
        (at, tried): (usize, u32),
        entry: &Entry<'e>,
        request: &Request,
    ) -> Result<Option<Writes<'e>>, Trouble> {
        let (room, caller, if_match) = (self.room, self.caller, version_of(request)?);
        let resource = entry.resource();
        let by_place =
            |place| Writes { at, place, resource, if_match, names: false, stands: false, creates: false };
        let by_condition = |place| Writes { names: true, ..by_place(place) };
        Ok(Some(match self.wanted(entry, request)? {
            Wanted::Create(None) => Writes { if_match: None, ..by_condition(self.new_place(request)?) },
            Wanted::Create(Some(condition)) => match condition.look_before(room, caller).await? {
                Met::Several => return Err(Trouble::Several),
                Met::One(place) => Writes { stands: true, ..by_place(place) },
                Met::Nothing => Writes { creates: true, ..by_condition(condition.place(room, tried)) },
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
                    (Met::Nothing, Some(given)) => {
                        by_place(Place::parse(room, (condition.resource_type(), given))?)
                    }
                    (Met::Nothing, None) if if_match.is_some() => return Err(Trouble::Version),
                    (Met::Nothing, None) => {
                        Writes { creates: true, ..by_condition(condition.place(room, tried)) }
                    }
                }
            }
            Wanted::Delete(place) => Writes { resource: None, ..by_place(place) },
            Wanted::DeleteWhere(condition) => match condition.look(room, caller).await? {
                Met::Several => return Err(Trouble::Several),
                Met::Nothing => return Ok(None),
                Met::One(place) => Writes { resource: None, ..by_place(place) },
            },
        }))
    }

    async fn transaction(&self, sent: &Exchange<'_>) -> Result<Bundle, Located> {
        for tried in 0..WRITE_TRIES_MAX {
            let (mut writes, mut reads) = (Vec::new(), Vec::new());
            let mut did = BTreeMap::new();
            for (at, entry) in sent.entries.iter().enumerate() {
                let here = |trouble| (Some(at), trouble);
                let request = entry.request.as_ref().ok_or(Trouble::Address("an entry has no request"));
                let request = request.map_err(here)?;
                if matches!(request.method, Method::Get | Method::Head) {
                    target(&request.url).map_err(here)?;
                    reads.push((at, request));
                } else if let Some(one) = self.writes((at, tried), entry, request).await.map_err(here)? {
                    writes.push(one);
                } else {
                    did.insert(at, Ok(Did::of(StatusCode::NO_CONTENT)));
                }
            }
            let found = self.found_by_search(&writes).await?;
            let bodies = linked(sent, &writes, &found)?;
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
            relinked(one.resource.unwrap_or_default(), |link| {
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
        let standing = room.chart.read_all(&caller.authority, &places).await.map_err(all)?;
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
            } else if one.if_match.is_some_and(|wanted| wanted != current) {
                return Err(here(Trouble::Version));
            }
            let key = (one.place.resource_type, one.place.id);
            let body = body.as_deref().map(|body| write::body_of(body, before)).transpose().map_err(here)?;
            let source = RecordId::new(caller.at(), room.entropy.bytes());
            let change = ResourceChange { resource_type: key.0, id: key.1, body, source };
            commit.changes.resources.insert(key, change);
            commit.if_versions.insert(key, current);
            commit.logical_ids.insert(key, one.place.logical.clone());
            if let (None, Some(before)) = (one.resource, before.filter(|before| !before.deleted)) {
                read::saw(caller, before.text().map_err(|why| here(why.into()))?);
            }
            statuses.push(status_of(one.resource, before));
        }
        match room.chart.commit(&caller.authority, commit).await {
            Ok(_) => self.done_all(writes, statuses, &places).await.map(Some),
            Err(ChartError::Version { .. }) => Ok(None),
            Err(error) => Err(all(error)),
        }
    }

    async fn done_all(
        &self,
        writes: &[Writes<'_>],
        statuses: Vec<StatusCode>,
        places: &[(&str, Id)],
    ) -> Result<BTreeMap<usize, Result<Did, Trouble>>, Located> {
        let stored = self.room.chart.read_all(&self.caller.authority, places).await.map_err(all)?;
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

    async fn done(&self, status: StatusCode, place: &Place, stored: &Stored) -> Result<Did, Trouble> {
        let body = read::visible(self.room, self.caller, stored).await?;
        if let Some(body) = &body {
            read::saw(self.caller, body);
        }
        let full_url = format!("{}/{}/{}", self.base, place.resource_type, place.logical);
        Ok(Did {
            location: Some(format!("{full_url}/_history/{}", stored.version)),
            full_url: Some(full_url),
            version: Some((stored.version, stored.updated.to_string())),
            body: body.filter(|_| self.is_full),
            ..Did::of(status)
        })
    }
}

impl Did {
    fn say(&self, bundle: &mut Bundle) {
        let status = status(self.status);
        let answered = Answered {
            status: &status,
            location: self.location.as_deref(),
            version: self.version.as_ref().map(|(version, updated)| (*version, updated.as_str())),
            outcome: None,
        };
        bundle.answered(self.full_url.as_deref(), self.body.as_deref(), &answered);
    }

    const fn of(status: StatusCode) -> Self {
        Self { status, full_url: None, location: None, version: None, body: None }
    }
}

/// Says what came of the entry `at`.
async fn say(bundle: &mut Bundle, at: usize, did: Result<Did, Trouble>) {
    match did {
        Ok(did) => did.say(bundle),
        Err(trouble) => {
            let response = located(Some(at), trouble).await;
            let status = status(response.status());
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default();
            let outcome = std::str::from_utf8(&body).ok().filter(|body| body.starts_with('{'));
            bundle.answered(None, None, &Answered { status: &status, outcome, ..Answered::default() });
        }
    }
}

fn all(error: ChartError) -> Located {
    (None, error.into())
}

fn status(status: StatusCode) -> String {
    format!("{} {}", status.as_str(), status.canonical_reason().unwrap_or_default())
}

fn status_of(resource: Option<&str>, before: Option<&Stored>) -> StatusCode {
    match resource {
        None => StatusCode::NO_CONTENT,
        Some(_) if before.is_none_or(|before| before.deleted) => StatusCode::CREATED,
        Some(_) => StatusCode::OK,
    }
}

/// That a resource is of this type and has this id.
fn must_be(resource: &str, resource_type: &str, id: Option<&FhirId>) -> Result<(), Trouble> {
    let json = Json::parse(resource.as_bytes())?;
    if json.get("resourceType").and_then(Json::as_str) != Some(resource_type) {
        return Err(Trouble::Address("resourceType of the resource is not the type in request.url"));
    }
    if id.is_some_and(|id| json.get("id").and_then(Json::as_str) != Some(id.as_str())) {
        return Err(Trouble::Address("id of the resource is not the id in request.url"));
    }
    Ok(())
}

/// Whether a reference says what it is to by a search.
fn is_search(link: &str) -> bool {
    link.split_once('?').is_some_and(|(ty, _)| ty.bytes().all(|byte| byte.is_ascii_alphabetic()))
}

/// The bodies as they are written: with their ids, referring to each other, and to what was `found`, by these.
fn linked(
    sent: &Exchange<'_>,
    writes: &[Writes<'_>],
    found: &HashMap<String, String>,
) -> Result<Vec<Option<String>>, Located> {
    let mut seen = BTreeSet::new();
    let mut names: HashMap<&str, String> = HashMap::new();
    for one in writes {
        let here = |trouble| (Some(one.at), trouble);
        let (ty, logical) = (one.place.resource_type, &one.place.logical);
        if !seen.insert((ty, one.place.id)) && !one.stands {
            return Err(here(Trouble::Address(
                "another entry of the transaction is about the same resource",
            )));
        }
        let full_url = sent.entries.get(one.at).and_then(|entry| entry.full_url.as_deref());
        if let Some(full_url) = full_url.filter(|_| one.resource.is_some())
            && names.insert(full_url, format!("{ty}/{logical}")).is_some()
        {
            return Err(here(Trouble::Address("another entry of the transaction has the same fullUrl")));
        }
    }
    let link = |one: &Writes<'_>| {
        let Some(resource) = one.resource.filter(|_| !one.stands) else { return Ok(None) };
        let is_lost = Cell::new(false);
        let text = relinked(resource, |link| {
            let known = names.get(link).or_else(|| found.get(link)).cloned();
            is_lost.set(is_lost.get() || known.is_none() && link.starts_with("urn:uuid:"));
            known
        });
        if is_lost.get() {
            let text = "a reference by urn:uuid names no entry of the transaction";
            return Err((Some(one.at), Trouble::Address(text)));
        }
        if !one.names {
            return Ok(Some(text.into_owned()));
        }
        let text = with_id(&text, &one.place.logical);
        let broken = |_| (Some(one.at), answer::broken("a body that was read has no members"));
        text.map(Some).map_err(broken)
    };
    writes.iter().map(link).collect()
}
