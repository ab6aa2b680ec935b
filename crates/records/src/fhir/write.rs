//! Create, update, patch, delete (<https://hl7.org/fhir/R4/http.html#create>).

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hilum_chart::chart::Commit;
use hilum_chart::projection::{Changes, ResourceChange};
use hilum_chart::{ChartError, Stored};
use hilum_core::RecordId;
use hilum_fhir::IssueType;
use hilum_fhir::check::{Finding, check};
use hilum_fhir::json::Json;
use hilum_fhir::labels::Labels;
use hilum_fhir::patch::Patch;
use hilum_fhir::resource::{with_id, with_labels_of};
use hilum_fhir::subset::is_subset;
use hilum_web::visit::Caller;

use super::answer::{self, Trouble};
use super::ask::{self, Expected, Place, Return};
use super::condition::{Condition, Met};
use super::read;
use super::references::{Beside, local, must_lead};
use crate::limits::WRITE_TRIES_MAX;
use crate::{DOOR, Room, logical};

/// A body that has the structure of its type.
pub(super) fn checked<'b>(resource_type: &str, body: &'b Bytes) -> Result<(Json<'b>, &'b str), Trouble> {
    let json = Json::parse(body)?;
    let findings = check(&json);
    if !findings.is_empty() {
        return Err(Trouble::Findings(findings));
    }
    if json.get("resourceType").and_then(Json::as_str) != Some(resource_type) {
        return Err(Trouble::Address("resourceType of the body is not the type of the address"));
    }
    must_be_whole(&json)?;
    let text = std::str::from_utf8(body).map_err(|_| answer::broken("a body that was read is no text"))?;
    Ok((json, text))
}

/// That a resource is not marked as a part: in the place of the whole it would take the rest away.
pub(super) fn must_be_whole(resource: &Json<'_>) -> Result<(), Trouble> {
    part_of(resource).map_or(Ok(()), |finding| Err(Trouble::Findings(vec![finding])))
}

/// What to say of a resource that is marked as a part.
pub(crate) fn part_of(resource: &Json<'_>) -> Option<Finding> {
    if !is_subset(resource) {
        return None;
    }
    let ty = resource.get("resourceType").and_then(Json::as_str).unwrap_or_default();
    let text = "a part of a resource (SUBSETTED) does not replace the whole: read all of it, or send a patch";
    let (code, expression) = (IssueType::BusinessRule, format!("{ty}.meta.tag"));
    Some(Finding { code, expression, text: text.to_owned() })
}

/// What stands at a place, if it is what was asked for and a client's.
pub(super) fn ours<'s>(stored: Option<&'s Stored>, place: &Place) -> Result<Option<&'s Stored>, Trouble> {
    match stored {
        Some(stored) if stored.owner != DOOR => Err(Trouble::Owned(stored.owner.clone())),
        Some(stored) if !logical::is_of(stored, &place.logical) => {
            Err(Trouble::Address("this id stands for another resource"))
        }
        _ => Ok(stored),
    }
}

async fn standing(room: &Room, caller: &Caller, place: &Place) -> Result<Option<Stored>, Trouble> {
    let found = room.chart.read_all(&caller.authority, &[(place.resource_type, place.id)]).await?;
    let stored = found.into_iter().next().flatten();
    ours(stored.as_ref(), place)?;
    Ok(stored)
}

/// Commits one version on top of `current`, and nothing else: whoever was first in between makes it a
/// [`ChartError::Version`].
async fn commit(
    room: &Room,
    caller: &Caller,
    place: &Place,
    current: i64,
    body: Option<String>,
) -> Result<(), ChartError> {
    let key = (place.resource_type, place.id);
    let source = RecordId::new(caller.at(), room.entropy.bytes());
    let change = ResourceChange { resource_type: place.resource_type, id: place.id, body, source };
    let commit = Commit {
        door: DOOR,
        changes: Changes { resources: BTreeMap::from([(key, change)]), ..Changes::default() },
        if_versions: BTreeMap::from([(key, current)]),
        logical_ids: BTreeMap::from([(key, place.logical.clone())]),
        ..Commit::default()
    };
    room.chart.commit(&caller.authority, commit).await.map(drop)
}

/// What is to stand at a place.
#[derive(Debug, Clone)]
pub(super) enum What<'a> {
    /// Nothing any more.
    Gone,
    /// This resource.
    Resource(Cow<'a, str>),
    /// What stands there, changed by this JSON Patch.
    Patched(Cow<'a, [u8]>),
    /// What stands there, with labels added or taken away.
    Labelled(Labels, &'a str),
}

impl What<'_> {
    /// Refuses a body of a client's that refers to nothing, where that is the policy.
    pub(super) async fn must_lead(
        &self,
        room: &Room,
        caller: &Caller,
        body: Option<&str>,
        beside: &Beside,
    ) -> Result<(), Trouble> {
        match (self, body) {
            (Self::Resource(_) | Self::Patched(_), Some(body)) => must_lead(room, caller, body, beside).await,
            _ => Ok(()),
        }
    }

    /// The body that comes on top of what stands; absent where nothing is to stand.
    pub(super) async fn on(
        &self,
        room: &Room,
        caller: &Caller,
        place: &Place,
        before: Option<&Stored>,
    ) -> Result<Option<String>, Trouble> {
        match self {
            Self::Gone | Self::Resource(_) => {
                // What is withheld is not to be written over blindly.
                if let Some(before) = before.filter(|before| !before.deleted) {
                    read::visible(room, caller, before).await?.ok_or(Trouble::NotFound)?;
                }
                match self {
                    Self::Resource(text) => body_of(&local(caller, text, ""), before).map(Some),
                    _ => Ok(None),
                }
            }
            Self::Labelled(labels, meta) => {
                let before = before.ok_or(Trouble::NotFound)?;
                read::shown(room, caller, place, before).await?;
                let after = labels.of(before.text()?, meta);
                after.map(Some).map_err(|_| answer::broken("meta cannot be joined"))
            }
            Self::Patched(patch) => {
                let before = before.ok_or(Trouble::NotFound)?;
                // A test would tell what is withheld.
                let body = read::shown(room, caller, place, before).await?;
                let after = patched(place, &body, patch)?;
                let after = after.map(|after| local(caller, &after, &body).into_owned());
                Ok(Some(after.map_or_else(|| before.text().map(str::to_owned), Ok)?))
            }
        }
    }
}

/// A resource with a patch applied, whose structure is checked as that of any that is sent; absent where it stays as it is.
fn patched(place: &Place, body: &str, patch: &[u8]) -> Result<Option<String>, Trouble> {
    let json = Json::parse(body.as_bytes())?;
    let after = Patch::parse(patch)?.apply(json.clone())?;
    if after == json {
        return Ok(None);
    }
    let is = |name, wanted: &str| after.get(name).and_then(Json::as_str) == Some(wanted);
    if !is("resourceType", place.resource_type) || !is("id", place.logical.as_str()) {
        return Err(Trouble::Address("a patch leaves id and resourceType as they are"));
    }
    let text = Bytes::from(after.to_text());
    Ok(Some(checked(place.resource_type, &text)?.0.to_text()))
}

/// Refuses what does not stand as it is expected to. Who may not know of it is not told how it stands.
pub(super) async fn must_be(
    room: &Room,
    caller: &Caller,
    expected: &Expected,
    before: Option<&Stored>,
) -> Result<(), Trouble> {
    let Err(refused) = expected.must_be(room, before) else { return Ok(()) };
    if let Some(before) = before.filter(|before| !before.deleted) {
        read::visible(room, caller, before).await?.ok_or(Trouble::NotFound)?;
    }
    Err(refused)
}

/// Writes what is to stand, at the version named or, where none is, at whichever is current. Gives what stood before.
pub(super) async fn write(
    room: &Room,
    caller: &Caller,
    place: &Place,
    expected: Expected,
    what: &What<'_>,
) -> Result<Option<Stored>, Trouble> {
    for _ in 0..WRITE_TRIES_MAX {
        let before = standing(room, caller, place).await?;
        let current = before.as_ref().map_or(0, |stored| stored.version);
        must_be(room, caller, &expected, before.as_ref()).await?;
        let body = what.on(room, caller, place, before.as_ref()).await?;
        what.must_lead(room, caller, body.as_deref(), &Beside::of(place)).await?;
        match commit(room, caller, place, current, body).await {
            Ok(()) => return Ok(before),
            // Whoever named a version is told by what stands now.
            Err(ChartError::Version { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Trouble::Busy)
}

/// Deletes what stands at a place, if anything does. The audit log learns whom it was about.
pub(super) async fn remove(
    room: &Room,
    caller: &Caller,
    place: &Place,
    expected: Expected,
) -> Result<(), Trouble> {
    let before = write(room, caller, place, expected, &What::Gone).await?;
    if let Some(before) = before.filter(|before| !before.deleted) {
        read::saw(room, caller, &before);
    }
    Ok(())
}

/// What stands now, and the answer that the client wants of it.
async fn done(
    room: &Room,
    caller: &Caller,
    place: &Place,
    status: StatusCode,
    (headers, pretty): (&HeaderMap, bool),
) -> Result<Response, Trouble> {
    let stored = room.chart.read(&caller.authority, place.resource_type, place.id).await?;
    // What meets a condition may be withheld in part, or whole.
    let body = read::visible(room, caller, &stored).await?.map(|visible| visible.seen(caller));
    let mut response = match (ask::wants(headers)?, body) {
        (Return::Representation, Some(body)) => answer::resource(status, &stored, body, pretty),
        (Return::Minimal | Return::Representation, _) => {
            let mut headers = answer::headers_of(&stored);
            headers.remove(header::CONTENT_TYPE);
            (status, headers).into_response()
        }
        (Return::Outcome, _) => {
            (status, answer::headers_of(&stored), answer::written().to_json()).into_response()
        }
    };
    let base = answer::base(caller.shell(), headers);
    let at = format!("{base}/{}/{}/_history/{}", place.resource_type, place.logical, stored.version);
    if let Ok(at) = HeaderValue::from_str(&at) {
        response.headers_mut().insert(header::LOCATION, at);
    }
    Ok(response)
}

/// The version on top of which something may be created at a place; absent where something lives.
pub(super) fn free_at(stood: Option<&Stored>) -> Option<i64> {
    stood.map_or(Some(0), |stood| (stood.deleted && stood.owner == DOOR).then_some(stood.version))
}

/// What is made where a condition meets nothing; what meets it already, as a place, and whether it was made.
pub(super) async fn create_where(
    room: &Room,
    caller: &Caller,
    condition: &Condition,
    text: &str,
) -> Result<(Place, bool), Trouble> {
    for tried in 0..WRITE_TRIES_MAX {
        match condition.look_before(room, caller).await? {
            Met::Several => return Err(Trouble::Several),
            Met::One(place) => return Ok((place, false)),
            Met::Nothing => {}
        }
        let place = condition.place(room, caller, tried);
        let text = with_id(&local(caller, text, ""), &place.logical)
            .map_err(|_| answer::broken("a body that was read has no members"))?;
        let stood = room.chart.read_all(&caller.authority, &[(place.resource_type, place.id)]).await?;
        let stood = stood.into_iter().next().flatten();
        must_lead(room, caller, &text, &Beside::of(&place)).await?;
        // What was deleted comes again; what lives there does not meet the condition any more.
        let Some(current) = free_at(stood.as_ref()) else { continue };
        match commit(room, caller, &place, current, Some(text)).await {
            Ok(()) => return Ok((place, true)),
            // Another one was first, with the same or with something that has changed since.
            Err(ChartError::Version { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Trouble::Busy)
}

/// Creates what gets its id from us.
pub(super) async fn create_anew(
    room: &Room,
    caller: &Caller,
    resource_type: &'static str,
    text: &str,
) -> Result<Place, Trouble> {
    let place = Place::anew(room, caller, resource_type);
    let text = with_id(&local(caller, text, ""), &place.logical)
        .map_err(|_| answer::broken("a body that was read has no members"))?;
    must_lead(room, caller, &text, &Beside::of(&place)).await?;
    commit(room, caller, &place, 0, Some(text)).await?;
    Ok(place)
}

/// What stands where a body is to stand, with the labels that are kept.
pub(super) fn body_of(resource: &str, before: Option<&Stored>) -> Result<String, Trouble> {
    let kept = before.filter(|before| !before.deleted).map(Stored::text).transpose()?;
    let labelled = kept.map_or(Ok(resource.into()), |kept| with_labels_of(resource, kept));
    labelled.map(Cow::into_owned).map_err(|_| answer::broken("meta cannot be joined"))
}

pub(super) async fn create(
    State(room): State<Room>,
    caller: Caller,
    Path(ty): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Trouble> {
    let pretty = ask::form(query.as_deref(), &headers)?;
    let resource_type = ask::type_of(&ty)?;
    ask::brings_json(&headers)?;
    ask::wants(&headers)?;
    let condition =
        ask::if_none_exist(&headers)?.map(|raw| Condition::parse_header(resource_type, raw)).transpose()?;
    let (_, text) = checked(resource_type, &body)?;
    if let Some(condition) = condition {
        let (place, is_new) = create_where(&room, &caller, &condition, text).await?;
        let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        return done(&room, &caller, &place, status, (&headers, pretty)).await;
    }
    let place = create_anew(&room, &caller, resource_type, text).await?;
    done(&room, &caller, &place, StatusCode::CREATED, (&headers, pretty)).await
}

pub(super) async fn update(
    State(room): State<Room>,
    caller: Caller,
    Path((ty, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Trouble> {
    let pretty = ask::form(query.as_deref(), &headers)?;
    let place = Place::parse(&room, (&ty, &id))?;
    ask::brings_json(&headers)?;
    ask::wants(&headers)?;
    let expected = Expected::of(&headers)?;
    let (json, text) = checked(place.resource_type, &body)?;
    if json.get("id").and_then(Json::as_str) != Some(place.logical.as_str()) {
        return Err(Trouble::Address("id of the body is not the id of the address"));
    }
    let before = write(&room, &caller, &place, expected, &What::Resource(text.into())).await?;
    let is_new = before.is_none_or(|before| before.deleted);
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    done(&room, &caller, &place, status, (&headers, pretty)).await
}

/// `PUT /fhir/Type?…`: updates the one that meets it, or creates.
pub(super) async fn update_where(
    State(room): State<Room>,
    caller: Caller,
    Path(ty): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Trouble> {
    ask::takes_json(&headers, None)?;
    let resource_type = ask::type_of(&ty)?;
    ask::brings_json(&headers)?;
    ask::wants(&headers)?;
    let expected = Expected::of(&headers)?;
    let condition = Condition::parse(resource_type, query.as_deref().unwrap_or_default())?;
    let (_, text) = checked(resource_type, &body)?;
    let (place, status) = put_where(&room, &caller, &condition, expected, text).await?;
    done(&room, &caller, &place, status, (&headers, false)).await
}

/// Writes `text` to the one that meets a condition, or where nothing does.
pub(super) async fn put_where(
    room: &Room,
    caller: &Caller,
    condition: &Condition,
    expected: Expected,
    text: &str,
) -> Result<(Place, StatusCode), Trouble> {
    let json = Json::parse(text.as_bytes())?;
    let given = json.get("id").and_then(Json::as_str);
    let mut expected = expected;
    let place = match condition.look_before(room, caller).await? {
        Met::Several => return Err(Trouble::Several),
        Met::One(place) if given.is_some_and(|given| given != place.logical.as_str()) => {
            return Err(Trouble::Address("what meets the condition has another id than the body"));
        }
        Met::One(place) => place,
        Met::Nothing => match given {
            _ if expected.is_of_something() => return Err(Trouble::Missing),
            Some(given) => {
                expected = Expected::Free;
                Place::parse(room, (condition.resource_type(), given))?
            }
            None => {
                let (place, is_new) = create_where(room, caller, condition, text).await?;
                // Whoever was first has written it a moment ago: what is sent goes on top.
                if is_new {
                    return Ok((place, StatusCode::CREATED));
                }
                place
            }
        },
    };
    let text =
        with_id(text, &place.logical).map_err(|_| answer::broken("a body that was read has no members"))?;
    let before = write(room, caller, &place, expected, &What::Resource(text.into())).await?;
    let is_new = before.is_none_or(|before| before.deleted);
    Ok((place, if is_new { StatusCode::CREATED } else { StatusCode::OK }))
}

/// `DELETE /fhir/Type?…`: deletes the one that meets it.
pub(super) async fn delete_where(
    State(room): State<Room>,
    caller: Caller,
    Path(ty): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let expected = Expected::of(&headers)?;
    let condition = Condition::parse(ask::type_of(&ty)?, query.as_deref().unwrap_or_default())?;
    match condition.look(&room, &caller).await? {
        Met::Several => Err(Trouble::Several),
        Met::Nothing => Ok(StatusCode::NO_CONTENT.into_response()),
        Met::One(place) => {
            remove(&room, &caller, &place, expected).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
    }
}

pub(super) async fn delete(
    State(room): State<Room>,
    caller: Caller,
    Path((ty, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let [] = ask::parameters(query.as_deref(), [])?;
    let place = Place::parse(&room, (&ty, &id))?;
    let expected = Expected::of(&headers)?;
    remove(&room, &caller, &place, expected).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `PATCH /fhir/Type/id`.
pub(super) async fn patch(
    State(room): State<Room>,
    caller: Caller,
    Path((ty, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Trouble> {
    let pretty = ask::form(query.as_deref(), &headers)?;
    let place = Place::parse(&room, (&ty, &id))?;
    patch_at(&room, &caller, &place, (&headers, pretty), &body).await
}

/// `PATCH /fhir/Type?…`: patches the one that meets it.
pub(super) async fn patch_where(
    State(room): State<Room>,
    caller: Caller,
    Path(ty): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Trouble> {
    ask::takes_json(&headers, None)?;
    let condition = Condition::parse(ask::type_of(&ty)?, query.as_deref().unwrap_or_default())?;
    let place = condition.look(&room, &caller).await?.one()?;
    patch_at(&room, &caller, &place, (&headers, false), &body).await
}

async fn patch_at(
    room: &Room,
    caller: &Caller,
    place: &Place,
    (headers, pretty): (&HeaderMap, bool),
    body: &Bytes,
) -> Result<Response, Trouble> {
    ask::brings_patch(headers)?;
    ask::wants(headers)?;
    let expected = Expected::of(headers)?;
    write(room, caller, place, expected, &What::Patched(body.as_ref().into())).await?;
    done(room, caller, place, StatusCode::OK, (headers, pretty)).await
}
