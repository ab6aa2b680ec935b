//! Batch and transaction (<https://hl7.org/fhir/R4/http.html#transaction>): `POST /fhir`.
//!
//! A transaction is one commit: all of it or nothing. Its entries are executed in the order DELETE, POST, PUT, PATCH, GET, so what
//! they refer to each other by (`fullUrl`) is known before anything is written. The entries of a batch know nothing of
//! each other, and one that fails keeps no other from being done.

mod transaction;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::to_bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hilum_chart::Stored;
use hilum_fhir::bundle::Answered;
use hilum_fhir::check::{Finding, check};
use hilum_fhir::exchange::{Entry, Exchange, Method, Request};
use hilum_fhir::json::Json;
use hilum_fhir::patch::Patch;
use hilum_fhir::{Bundle, BundleType, FhirId};
use hilum_web::visit::{Caller, Visit};
use serde_json::Value;

use super::answer::{self, Trouble};
use super::ask::{self, Expected, Place, Return};
use super::condition::{Condition, Met};
use super::write::{self, What};
use super::{capability, history, labels, operations, read, search};
use crate::Room;

/// What came of an entry.
struct Did {
    status: StatusCode,
    full_url: Option<String>,
    location: Option<String>,
    version: Option<(i64, String)>,
    body: Option<String>,
    outcome: Option<String>,
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
    // Of many the whole is sent only where the client says so.
    let returns = ask::wished(&headers)?.unwrap_or(Return::Minimal);
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
    if sent.entries.len() > room.policy.bundle_entries_max {
        return Err(Trouble::Entries(room.policy.bundle_entries_max));
    }
    let ask = Asking {
        room: &room,
        caller: &caller,
        base: answer::base(caller.shell(), &headers),
        headers: headers_within(&headers),
        returns,
        searches: AtomicUsize::new(0),
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
        let entry = format!("Bundle.entry[{at}]");
        // What the resource alone was asked for says its own path; what the Bundle was asked for, the whole.
        let within = |expression: &Value| match expression.as_str().unwrap_or_default() {
            whole if whole.starts_with(&entry) => whole.to_owned(),
            // A parameter or a header of its own request.
            asked if asked.starts_with("http.") => entry.clone(),
            own => own
                .split_once('.')
                .map_or_else(|| format!("{entry}.resource"), |(_, path)| format!("{entry}.resource.{path}")),
        };
        let of_resource = issue.get("expression").and_then(Value::as_array);
        let located = of_resource.map_or_else(|| vec![entry.clone()], |all| all.iter().map(within).collect());
        issue.insert("expression".to_owned(), Value::from(located));
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

/// What an entry that writes asks for.
enum Wanted {
    Create(&'static str, Option<Condition>),
    Patch(Place, Vec<u8>),
    PatchWhere(Condition, Vec<u8>),
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
    /// All that a request by itself may read beside these: the steps of its path, and its parameters.
    Beyond(Vec<&'a str>, Option<&'a str>),
}

fn target(url: &str) -> Result<Target<'_>, Trouble> {
    let path = url.strip_prefix('/').unwrap_or(url);
    let (path, criteria) =
        path.split_once('?').map_or((path, None), |(path, criteria)| (path, Some(criteria)));
    let steps: Vec<&str> = path.split('/').collect();
    let is_beyond = match steps.as_slice() {
        [.., last] if *last == "_history" || last.starts_with('$') => true,
        ["metadata"] | [_, _, _] => true,
        [""] | [_, _] | [_, _, _, _] => criteria.is_some(),
        _ => false,
    };
    if is_beyond {
        return Ok(Target::Beyond(steps, criteria));
    }
    if let Some(criteria) = criteria {
        return Ok(Target::Where(path, criteria));
    }
    match steps.as_slice() {
        [ty] if !ty.is_empty() => Ok(Target::Type(ty)),
        [ty, id] => Ok(Target::One(ty, id)),
        [ty, id, "_history", version] => Ok(Target::Version(ty, id, version)),
        _ => Err(Trouble::Address(
            "request.url is Type, Type/id or Type/id/_history/version, without the base",
        )),
    }
}

/// What of a Bundle's headers is said of each entry.
fn headers_within(headers: &HeaderMap) -> HeaderMap {
    let mut within = HeaderMap::from_iter([(header::CONTENT_TYPE, answer::FHIR_JSON)]);
    within.extend(headers.get(header::HOST).map(|host| (header::HOST, host.clone())));
    within
}

fn header_of(name: HeaderName, value: Option<&str>) -> Result<HeaderMap, Trouble> {
    let mut headers = HeaderMap::new();
    if let Some(value) = value {
        let value = HeaderValue::from_str(value).map_err(|_| Trouble::Header(name.clone()))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// `request.ifModifiedSince`: an instant, not a date of HTTP's.
fn instant(raw: &str) -> Result<jiff::Timestamp, Trouble> {
    raw.parse()
        .map_err(|_| Trouble::Address("request.ifModifiedSince is an instant: 2026-02-03T04:05:06.789Z"))
}

fn expected_by(request: &Request) -> Result<Expected, Trouble> {
    let mut headers = header_of(header::IF_MATCH, request.if_match.as_deref())?;
    // Of a reading it says what the client has.
    if request.method == Method::Put {
        headers.extend(header_of(header::IF_NONE_MATCH, request.if_none_match.as_deref())?);
    }
    Expected::of(&headers)
}

/// What a transaction does not read: that it cannot be answered would come behind the commit.
const BATCH_ALONE: Trouble = Trouble::Address(
    "a transaction reads resources and searches a type: send all else in a batch, or by itself",
);

/// What a batch does not do.
const ELSEWHERE: Trouble = Trouble::Address(
    "a batch reads and searches by GET, $meta and $everything, too, and takes $validate by POST: ask for all else by itself",
);

struct Asking<'a> {
    room: &'a Room,
    caller: &'a Caller,
    base: String,
    /// What an entry says that is asked as if it had come by itself: the host, and that its body is JSON.
    headers: HeaderMap,
    /// What is told of what is written.
    returns: Return,
    /// How many searches were made.
    searches: AtomicUsize,
}

impl Asking<'_> {
    /// That one more search is asked for.
    fn searches(&self) -> Result<(), Trouble> {
        let max = self.room.policy.bundle_searches_max;
        let made = self.searches.fetch_add(1, Ordering::Relaxed);
        if made < max { Ok(()) } else { Err(Trouble::Searches(max)) }
    }

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
                // What is sent to be checked is answered with what is found.
                Some(findings) if !is_check(entry) => Err(Trouble::Findings(findings)),
                _ => self.alone(entry).await,
            };
            say(&mut bundle, at, did).await;
        }
        Ok(bundle)
    }

    /// An entry of a batch: as if it had come by itself.
    async fn alone(&self, entry: &Entry<'_>) -> Result<Did, Trouble> {
        let (room, caller) = (self.room, self.caller);
        let request = entry.request.as_ref().ok_or(Trouble::Address("an entry has no request"))?;
        if let Target::Beyond(steps, query) = target(&request.url)? {
            return self.beyond(request, (&steps, query), entry.resource()).await;
        }
        if matches!(request.method, Method::Get | Method::Head) {
            self.can_read(request)?;
            return self.read(request).await;
        }
        let resource = entry.resource();
        let (place, status) = match self.wanted(entry, request)? {
            Wanted::Create(ty, None) => {
                let place = write::create_anew(room, caller, ty, resource.unwrap_or_default()).await?;
                (place, StatusCode::CREATED)
            }
            Wanted::Create(_, Some(condition)) => {
                let (place, is_new) =
                    write::create_where(room, caller, &condition, resource.unwrap_or_default()).await?;
                (place, if is_new { StatusCode::CREATED } else { StatusCode::OK })
            }
            Wanted::Update(place) => {
                let text = resource.unwrap_or_default();
                let what = What::Resource(text.into());
                let before = write::write(room, caller, &place, expected_by(request)?, &what).await?;
                (place, status_of(&what, before.as_ref()))
            }
            Wanted::UpdateWhere(condition) => {
                let text = resource.unwrap_or_default();
                write::put_where(room, caller, &condition, expected_by(request)?, text).await?
            }
            Wanted::Patch(place, patch) => self.patch(request, place, patch).await?,
            Wanted::PatchWhere(condition, patch) => {
                let place = condition.look(room, caller).await?.one()?;
                self.patch(request, place, patch).await?
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
        write::remove(self.room, self.caller, place, expected_by(request)?).await?;
        Ok(Did::of(StatusCode::NO_CONTENT))
    }

    async fn patch(
        &self,
        request: &Request,
        place: Place,
        patch: Vec<u8>,
    ) -> Result<(Place, StatusCode), Trouble> {
        let what = What::Patched(patch.into());
        write::write(self.room, self.caller, &place, expected_by(request)?, &what).await?;
        Ok((place, StatusCode::OK))
    }

    /// Refuses a reading that is none, before anything is written: what it finds, or that it finds nothing, is its own matter.
    fn can_read(&self, request: &Request) -> Result<(), Trouble> {
        if let Some(raw) = &request.if_modified_since {
            instant(raw)?;
        }
        ask::none_match(&header_of(header::IF_NONE_MATCH, request.if_none_match.as_deref())?)?;
        if matches!(target(&request.url)?, Target::Type(_) | Target::Where(..)) {
            self.searches()?;
        }
        match target(&request.url)? {
            Target::Type(ty) => ask::type_of(ty).map(drop),
            Target::Where(ty, criteria) => search::is_one((ty, criteria)),
            Target::One(ty, id) | Target::Version(ty, id, _) => Place::parse(self.room, (ty, id)).map(drop),
            Target::Beyond(..) => Err(BATCH_ALONE),
        }
    }

    /// Refuses a search that could not be answered, before anything is written.
    async fn can_be_answered(&self, request: &Request) -> Result<(), Trouble> {
        match target(&request.url)? {
            Target::Type(ty) => search::is_answered(self.room, self.caller, (ty, "")).await,
            Target::Where(ty, criteria) => search::is_answered(self.room, self.caller, (ty, criteria)).await,
            Target::One(..) | Target::Version(..) | Target::Beyond(..) => Ok(()),
        }
    }

    async fn read(&self, request: &Request) -> Result<Did, Trouble> {
        let did = self.found(request).await?;
        // What it would be answered with, without it.
        Ok(if request.method == Method::Head { Did { body: None, ..did } } else { did })
    }

    async fn found(&self, request: &Request) -> Result<Did, Trouble> {
        let (ty, id, version) = match target(&request.url)? {
            Target::Type(ty) => return self.search(ty, "").await,
            Target::Where(ty, criteria) => return self.search(ty, criteria).await,
            Target::One(ty, id) => (ty, id, None),
            Target::Version(ty, id, version) => (ty, id, Some(version)),
            Target::Beyond(..) => return Err(BATCH_ALONE),
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
        let headers = header_of(header::IF_NONE_MATCH, request.if_none_match.as_deref())?;
        let version = Some((stored.version, stored.updated.to_string()));
        let is_known = match request.if_modified_since.as_deref() {
            Some(since) if headers.is_empty() => stored.updated.to_jiff() <= instant(since)?,
            _ => read::is_known(self.room, caller, &headers, &stored).await?,
        };
        if is_known {
            return Ok(Did { version, ..Did::of(StatusCode::NOT_MODIFIED) });
        }
        let full_url = Some(format!("{}/{}/{}", self.base, place.resource_type, place.logical));
        Ok(Did { full_url, version, body: Some(body), ..Did::of(StatusCode::OK) })
    }

    /// What else is read, and what is only checked, as if it had come by itself; it counts as a search.
    async fn beyond(
        &self,
        request: &Request,
        (steps, query): (&[&str], Option<&str>),
        resource: Option<&str>,
    ) -> Result<Did, Trouble> {
        self.searches()?;
        let (room, caller) = (State(self.room.clone()), self.caller.clone());
        let (query, mut headers) = (RawQuery(query.map(str::to_owned)), self.headers.clone());
        headers.extend(header_of(header::IF_NONE_MATCH, request.if_none_match.as_deref())?);
        let is_head = request.method == Method::Head;
        let method = if is_head { Method::Get } else { request.method };
        let of_type = |ty: &str| Path(ty.to_owned());
        let of_one = |ty: &str, id: &str| Path((ty.to_owned(), id.to_owned()));
        let body = || Bytes::from(resource.unwrap_or_default().to_owned());
        let response = match (method, steps) {
            (Method::Get, [""]) => search::get_all(room, caller, query, headers).await,
            (Method::Get, ["metadata"]) => capability::metadata(Visit::clone(&caller), query, headers).await,
            (Method::Get, ["_history"]) => history::of_all(room, caller, query, headers).await,
            (Method::Get, [ty, "_history"]) => {
                history::of_type(room, caller, of_type(ty), query, headers).await
            }
            (Method::Get, [ty, id, "_history"]) => {
                history::of_one(room, caller, of_one(ty, id), query, headers).await
            }
            (Method::Get, ["Patient", id, "$everything"]) => {
                search::everything::begin(room, caller, of_type(id), query, headers).await
            }
            (Method::Get, ["$meta"]) => labels::of_all(room, caller, query, headers).await,
            (Method::Get, [ty, "$meta"]) => labels::of_type(room, caller, of_type(ty), query, headers).await,
            (Method::Get, [ty, id, "$meta"]) => {
                operations::meta(room, caller, of_one(ty, id), query, headers).await
            }
            (Method::Post, [ty, "$validate"]) => {
                operations::validate(of_type(ty), query, headers, body()).await
            }
            (Method::Post, [ty, id, "$validate"]) => {
                operations::validate_one(room, caller, of_one(ty, id), query, headers, body()).await
            }
            (Method::Get, [_, step] | [_, _, step]) if step.starts_with('$') => Err(ELSEWHERE),
            (Method::Get, [ty, id]) => read::read(room, caller, of_one(ty, id), query, headers).await,
            (Method::Get, [ty, id, "_history", version]) => {
                let version = Path(((*ty).to_owned(), (*id).to_owned(), (*version).to_owned()));
                read::vread(room, caller, version, query, headers).await
            }
            (Method::Get, [ty, id, of]) => {
                let of = Path(((*ty).to_owned(), (*id).to_owned(), (*of).to_owned()));
                search::get_within(room, caller, of, query, headers).await
            }
            _ => Err(ELSEWHERE),
        }?;
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await;
        let body = body.ok().and_then(|body| String::from_utf8(body.into()).ok());
        let body = body.ok_or_else(|| answer::broken("an answer of ours is no text"))?;
        Ok(Did { body: Some(body).filter(|body| !is_head && !body.is_empty()), ..Did::of(status) })
    }

    async fn search(&self, ty: &str, criteria: &str) -> Result<Did, Trouble> {
        let body = search::within(self.room, self.caller, &self.base, (ty, criteria)).await?;
        Ok(Did { body: Some(body), ..Did::of(StatusCode::OK) })
    }

    /// What an entry wants to write.
    fn wanted(&self, entry: &Entry<'_>, request: &Request) -> Result<Wanted, Trouble> {
        expected_by(request)?;
        if request.if_none_exist.is_some() || request.url.contains('?') {
            self.searches()?;
        }
        let resource = || entry.resource().ok_or(Trouble::Address("an entry that writes has no resource"));
        Ok(match (request.method, target(&request.url)?) {
            (Method::Post, Target::Type(ty)) => {
                let ty = ask::type_of(ty)?;
                must_be(resource()?, ty, None)?;
                let condition = request.if_none_exist.as_deref().map(|raw| Condition::parse_header(ty, raw));
                Wanted::Create(ty, condition.transpose()?)
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
            (Method::Patch, Target::One(ty, id)) => {
                Wanted::Patch(Place::parse(self.room, (ty, id))?, patch_of(resource()?)?)
            }
            (Method::Patch, Target::Where(ty, criteria)) => {
                Wanted::PatchWhere(Condition::parse(ask::type_of(ty)?, criteria)?, patch_of(resource()?)?)
            }
            _ => {
                return Err(Trouble::Address(
                    "POST goes to a type; PUT, PATCH and DELETE go to Type/id or Type?criteria",
                ));
            }
        })
    }

    async fn done(&self, status: StatusCode, place: &Place, stored: &Stored) -> Result<Did, Trouble> {
        let body = read::visible(self.room, self.caller, stored).await?;
        let body = body.map(|visible| visible.seen(self.caller));
        let full_url = format!("{}/{}/{}", self.base, place.resource_type, place.logical);
        Ok(Did {
            location: Some(format!("{full_url}/_history/{}", stored.version)),
            full_url: Some(full_url),
            version: Some((stored.version, stored.updated.to_string())),
            body: body.filter(|_| self.returns == Return::Representation),
            outcome: (self.returns == Return::Outcome).then(|| answer::written().to_json()),
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
            outcome: self.outcome.as_deref(),
        };
        bundle.answered(self.full_url.as_deref(), self.body.as_deref(), &answered);
    }

    const fn of(status: StatusCode) -> Self {
        Self { status, full_url: None, location: None, version: None, body: None, outcome: None }
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

fn status(status: StatusCode) -> String {
    format!("{} {}", status.as_str(), status.canonical_reason().unwrap_or_default())
}

fn status_of(what: &What<'_>, before: Option<&Stored>) -> StatusCode {
    match what {
        What::Gone => StatusCode::NO_CONTENT,
        _ if before.is_none_or(|before| before.deleted) => StatusCode::CREATED,
        _ => StatusCode::OK,
    }
}

/// The patch of an entry: a Binary around it (<https://hl7.org/fhir/R4/http.html#patch>).
fn patch_of(resource: &str) -> Result<Vec<u8>, Trouble> {
    let json = Json::parse(resource.as_bytes())?;
    let member = |name| json.get(name).and_then(Json::as_str);
    if member("resourceType") != Some("Binary") || !member("contentType").is_some_and(ask::is_json_patch) {
        return Err(Trouble::PatchType);
    }
    let wrong = || Trouble::Address("a patch is the data of its Binary, in base64");
    let data: String = member("data").ok_or_else(wrong)?.split_ascii_whitespace().collect();
    let patch = STANDARD.decode(data).map_err(|_| wrong())?;
    Patch::parse(&patch)?;
    Ok(patch)
}

/// Whether a resource is sent to be checked, and not to be kept.
fn is_check(entry: &Entry<'_>) -> bool {
    let target = entry.request.as_ref().and_then(|request| target(&request.url).ok());
    matches!(target, Some(Target::Beyond(steps, _)) if steps.last() == Some(&"$validate"))
}

/// That a resource is of this type and has this id.
fn must_be(resource: &str, resource_type: &str, id: Option<&FhirId>) -> Result<(), Trouble> {
    let json = Json::parse(resource.as_bytes())?;
    if json.get("resourceType").and_then(Json::as_str) != Some(resource_type) {
        return Err(Trouble::Address("resourceType of the resource is not the type in request.url"));
    }
    write::must_be_whole(&json)?;
    if id.is_some_and(|id| json.get("id").and_then(Json::as_str) != Some(id.as_str())) {
        return Err(Trouble::Address("id of the resource is not the id in request.url"));
    }
    Ok(())
}
