//! Operations on one resource: its labels (`$meta`, `$meta-add`, `$meta-delete`), and whether it would be taken
//! (`$validate`, also of a type).

use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use hilum_chart::Stored;
use hilum_fhir::IssueType;
use hilum_fhir::check::{Finding, check};
use hilum_fhir::json::Json;
use hilum_fhir::labels::Labels;
use hilum_web::visit::Caller;

use super::answer::{self, Trouble};
use super::ask::{self, Expected, Place};
use super::read::{shown, stands};
use super::write::{What, checked, write};
use crate::{DOOR, Room};

/// `GET` or `POST /fhir/Type/id/$meta`: the resource's `meta`.
pub(super) async fn meta(
    State(room): State<Room>,
    caller: Caller,
    Path((ty, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let is_pretty = ask::form(query.as_deref(), &headers)?;
    let place = Place::parse(&room, (&ty, &id))?;
    Ok(answer::json(meta_of(&room, &caller, &place).await?, is_pretty))
}

/// `POST /fhir/Type/id/$meta-add`.
pub(super) async fn add(
    state: State<Room>,
    caller: Caller,
    path: Path<(String, String)>,
    query: RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Trouble> {
    label(Labels::Added, (state, caller, path, query), &headers, &body).await
}

/// `POST /fhir/Type/id/$meta-delete`.
pub(super) async fn delete(
    state: State<Room>,
    caller: Caller,
    path: Path<(String, String)>,
    query: RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Trouble> {
    label(Labels::Removed, (state, caller, path, query), &headers, &body).await
}

async fn label(
    labels: Labels,
    (State(room), caller, Path((ty, id)), RawQuery(query)): (
        State<Room>,
        Caller,
        Path<(String, String)>,
        RawQuery,
    ),
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Trouble> {
    let is_pretty = ask::form(query.as_deref(), headers)?;
    let place = Place::parse(&room, (&ty, &id))?;
    ask::brings_json(headers)?;
    let expected = Expected::of(headers)?;
    let (parameters, _) = checked("Parameters", body)?;
    let meta = parameter(&parameters, "meta").and_then(|meta| meta.get("valueMeta")).map(Json::to_text);
    let meta =
        meta.ok_or(Trouble::Address("the body is Parameters with one named `meta` and its valueMeta"))?;
    write(&room, &caller, &place, expected, &What::Labelled(labels, &meta)).await?;
    Ok(answer::json(meta_of(&room, &caller, &place).await?, is_pretty))
}

/// The Parameters that answer with what `meta` is now.
async fn meta_of(room: &Room, caller: &Caller, place: &Place) -> Result<String, Trouble> {
    let stored = stands(room, caller, place).await?;
    let body = shown(room, caller, place, &stored).await?;
    let json = Json::parse(body.as_bytes())?;
    let meta = json.get("meta").map_or_else(|| "{}".to_owned(), Json::to_text);
    Ok(format!(
        "{{\"resourceType\":\"Parameters\",\"parameter\":[{{\"name\":\"return\",\"valueMeta\":{meta}}}]}}"
    ))
}

fn parameter<'p, 'a>(parameters: &'p Json<'a>, name: &str) -> Option<&'p Json<'a>> {
    let all = parameters.get("parameter").map_or(&[][..], Json::elements);
    all.iter().find(|one| one.get("name").and_then(Json::as_str) == Some(name))
}

/// What would be done (<http://hl7.org/fhir/resource-validation-mode>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Create,
    Update,
    Delete,
}

impl Mode {
    fn parse(raw: &str) -> Result<Self, Trouble> {
        match raw {
            "create" => Ok(Self::Create),
            "update" => Ok(Self::Update),
            "delete" => Ok(Self::Delete),
            _ => Err(Trouble::Parameter { known: "mode (create, update or delete)".to_owned() }),
        }
    }
}

/// A body that is to be checked: a resource, or Parameters around it.
struct Sent {
    /// As JSON; absent where there is none.
    resource: Option<String>,
    mode: Option<Mode>,
    is_pretty: bool,
}

impl Sent {
    fn read(
        resource_type: &str,
        (query, headers): (Option<&str>, &HeaderMap),
        body: &Bytes,
    ) -> Result<Self, Trouble> {
        let [format, pretty, mode] = ask::parameters(query, ["_format", "_pretty", "mode"])?;
        ask::takes_json(headers, format.as_deref())?;
        let is_pretty = ask::is_pretty(pretty.as_deref())?;
        let mode = mode.as_deref().map(Mode::parse).transpose()?;
        if body.is_empty() && mode == Some(Mode::Delete) {
            return Ok(Self { resource: None, mode, is_pretty });
        }
        ask::brings_json(headers)?;
        let json = Json::parse(body)?;
        let is_wrapped = resource_type != "Parameters"
            && json.get("resourceType").and_then(Json::as_str) == Some("Parameters");
        if !is_wrapped {
            return Ok(Self { resource: Some(json.to_text()), mode, is_pretty });
        }
        if parameter(&json, "profile").is_some() {
            return Err(Trouble::Address("profiles are not checked here: leave `profile` out"));
        }
        let said = parameter(&json, "mode").and_then(|mode| mode.get("valueCode")).and_then(Json::as_str);
        let said = said.map(Mode::parse).transpose()?;
        let resource = parameter(&json, "resource").and_then(|one| one.get("resource")).map(Json::to_text);
        let mode = mode.or(said);
        if resource.is_none() && mode != Some(Mode::Delete) {
            return Err(Trouble::Address("Parameters to check have one named `resource` with a resource"));
        }
        Ok(Self { resource, mode, is_pretty })
    }

    /// What is wrong with its structure.
    fn findings(&self, resource_type: &str) -> Result<Vec<Finding>, Trouble> {
        let Some(text) = &self.resource else { return Ok(Vec::new()) };
        let json = Json::parse(text.as_bytes())?;
        if json.get("resourceType").and_then(Json::as_str).is_some_and(|named| named != resource_type) {
            return Err(Trouble::Address("resourceType of the body is not the type of the address"));
        }
        Ok(check(&json))
    }
}

/// `POST /fhir/Type/$validate`: 200 with what was found. Nothing is read or kept.
pub(super) async fn validate(
    Path(ty): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Trouble> {
    let resource_type = ask::type_of(&ty)?;
    let sent = Sent::read(resource_type, (query.as_deref(), &headers), &body)?;
    if matches!(sent.mode, Some(Mode::Update | Mode::Delete)) {
        return Err(Trouble::Address("update and delete are of one resource: POST to Type/id/$validate"));
    }
    let found = sent.findings(resource_type)?;
    Ok(answer::json(answer::outcome_of(&found).to_json(), sent.is_pretty))
}

/// `POST /fhir/Type/id/$validate`: also whether what stands there could be changed by a client.
pub(super) async fn validate_one(
    State(room): State<Room>,
    caller: Caller,
    Path((ty, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Trouble> {
    let place = Place::parse(&room, (&ty, &id))?;
    let sent = Sent::read(place.resource_type, (query.as_deref(), &headers), &body)?;
    let mut found = sent.findings(place.resource_type)?;
    let stored = stands(&room, &caller, &place).await?;
    shown(&room, &caller, &place, &stored).await?;
    found.extend(unchangeable(&place, &sent, &stored)?);
    Ok(answer::json(answer::outcome_of(&found).to_json(), sent.is_pretty))
}

/// What keeps a resource from being written at a place where another stands.
fn unchangeable(place: &Place, sent: &Sent, stored: &Stored) -> Result<Vec<Finding>, Trouble> {
    let mut found = Vec::new();
    let mut find = |code, expression: &str, text: String| {
        found.push(Finding { code, expression: expression.to_owned(), text });
    };
    let ty = place.resource_type;
    if sent.mode == Some(Mode::Create) {
        find(
            IssueType::BusinessRule,
            ty,
            "a create goes to the type, and the server gives the id".to_owned(),
        );
    }
    if stored.owner != DOOR {
        let text =
            format!("the resource is made from messages by `{}` and changed by messages alone", stored.owner);
        find(IssueType::BusinessRule, ty, text);
    }
    let json = sent.resource.as_deref().map(|text| Json::parse(text.as_bytes())).transpose()?;
    let given = json.as_ref().map(|json| json.get("id").and_then(Json::as_str));
    if given.is_some_and(|given| given != Some(place.logical.as_str())) {
        find(IssueType::Invalid, &format!("{ty}.id"), "the id is not that of the address".to_owned());
    }
    Ok(found)
}
