//! What a request says: its type and id, the headers that FHIR gives a meaning, its parameters. What is not understood is
//! refused by name.

use axum::http::{HeaderMap, HeaderName, header};
use hilum_chart::Stored;
use hilum_core::{Id, RecordId};
use hilum_fhir::FhirId;
use hilum_fhir::r4::r4;
use hilum_fhir::search::query::Handling;
use hilum_web::visit::Caller;

use super::answer::Trouble;
use super::search::Style;
use crate::Room;
use crate::limits::HEADER_BYTES_MAX;
use crate::logical::chart_id;

/// A resource's place.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) resource_type: &'static str,
    pub(crate) logical: FhirId,
    pub(crate) id: Id,
}

impl Place {
    pub(crate) fn parse(room: &Room, (resource_type, id): (&str, &str)) -> Result<Self, Trouble> {
        let resource_type = type_of(resource_type)?;
        let logical = FhirId::parse(id).map_err(|_| Trouble::NoId)?;
        let id = chart_id(&room.key, resource_type, &logical);
        Ok(Self { resource_type, logical, id })
    }

    /// One that nothing has yet.
    pub(super) fn anew(room: &Room, caller: &Caller, resource_type: &'static str) -> Self {
        let id = RecordId::new(caller.at(), room.entropy.bytes()).as_id();
        Self { resource_type, logical: FhirId::from(id), id }
    }

    /// `Type/id`.
    pub(super) fn address(&self) -> String {
        format!("{}/{}", self.resource_type, self.logical)
    }
}

/// The types that a parameter lists.
pub(super) fn types_of(name: &str, listed: &str) -> Result<Vec<&'static str>, Trouble> {
    let of = |wrong: &str| {
        let nearest = r4().nearest_type(wrong);
        let nearest = nearest.map_or_else(String::new, |near| format!("; the nearest is `{near}`"));
        Trouble::Parameter { known: format!("{name} (types of R4, with commas between them{nearest})") }
    };
    listed.split(',').map(|one| type_of(one).map_err(|_| of(one))).collect()
}

/// A resource type of R4, by its name.
pub(crate) fn type_of(name: &str) -> Result<&'static str, Trouble> {
    r4().resource_types().find(|known| *known == name).ok_or(Trouble::NoType)
}

/// The text of a header that may stand once; what is no text, or too long, is not understood.
fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Trouble> {
    let mut all = headers.get_all(name).iter();
    let Some(first) = all.next() else { return Ok(None) };
    let text = first.to_str().ok().filter(|text| text.len() <= HEADER_BYTES_MAX && all.next().is_none());
    text.map(|text| Some(text.trim())).ok_or_else(|| Trouble::Header(name.clone()))
}

/// The version in an ETag: `W/"3"`, also `"3"`, as some clients send it.
fn version_of(raw: &str) -> Option<i64> {
    let quoted = raw.strip_prefix("W/").unwrap_or(raw);
    let digits = quoted.strip_prefix('"')?.strip_suffix('"')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // One that is too large names no version that there is.
    is_number.then(|| digits.parse().unwrap_or(i64::MAX))
}

/// The versions in a list of ETags.
fn versions_of(raw: &str) -> Option<Vec<i64>> {
    raw.split(',').map(|one| version_of(one.trim())).collect()
}

/// What must stand for a write to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// Whatever stands.
    Any,
    /// `If-Match`: any of the versions that the client saw.
    Versions(Vec<i64>),
    /// `If-Match: *`: something.
    Something,
    /// `If-None-Match: *`: nothing.
    Nothing,
    /// Nothing: no condition was met, and what stands at the id that the resource says does not meet it.
    Free,
}

impl Expected {
    /// Reads both headers.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Trouble> {
        if let Some(raw) = text(headers, &header::IF_MATCH)? {
            if raw == "*" {
                return Ok(Self::Something);
            }
            return versions_of(raw).map(Self::Versions).ok_or(Trouble::Header(header::IF_MATCH));
        }
        match text(headers, &header::IF_NONE_MATCH)? {
            None => Ok(Self::Any),
            Some("*") => Ok(Self::Nothing),
            Some(_) => Err(Trouble::Unsupported("If-None-Match of what is written is *")),
        }
    }

    /// Refuses what does not stand so, and who names no version where one has to be named.
    pub(super) fn must_be(&self, room: &Room, before: Option<&Stored>) -> Result<(), Trouble> {
        let lives = before.is_some_and(|stored| !stored.deleted);
        let is_named = |stored: &Stored| room.policy.if_match.contains(&stored.resource_type);
        match self {
            Self::Any if lives && before.is_some_and(is_named) => Err(Trouble::Required),
            Self::Versions(versions) if before.is_none_or(|stored| !versions.contains(&stored.version)) => {
                Err(if lives { Trouble::Version } else { Trouble::Missing })
            }
            Self::Something if !lives => Err(Trouble::Missing),
            Self::Nothing if lives => Err(Trouble::Exists),
            Self::Free if lives => Err(Trouble::Taken),
            Self::Any | Self::Versions(_) | Self::Something | Self::Nothing | Self::Free => Ok(()),
        }
    }

    /// Whether it is met only where something stands, or stood.
    pub(super) const fn is_of_something(&self) -> bool {
        matches!(self, Self::Versions(_) | Self::Something)
    }
}

/// `If-None-Exist`: a search.
pub(super) fn if_none_exist(headers: &HeaderMap) -> Result<Option<&str>, Trouble> {
    text(headers, &HeaderName::from_static("if-none-exist"))
}

/// Whether a client has a version already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    No,
    Yes,
    /// One of the second in which it was written.
    BySecond,
}

impl From<bool> for Known {
    fn from(is_known: bool) -> Self {
        if is_known { Self::Yes } else { Self::No }
    }
}

/// `If-None-Match` of a reading.
pub(super) enum NoneMatch {
    All,
    Versions(Vec<i64>),
}

/// Reads it.
pub(super) fn none_match(headers: &HeaderMap) -> Result<Option<NoneMatch>, Trouble> {
    let Some(raw) = text(headers, &header::IF_NONE_MATCH)? else { return Ok(None) };
    if raw == "*" {
        return Ok(Some(NoneMatch::All));
    }
    // A tag that is none of ours is no version that there is; a cache sends what it has.
    let is_tag = |one: &str| {
        let text = one.strip_prefix("W/").unwrap_or(one);
        text.len() > 1 && text.starts_with('"') && text.ends_with('"')
    };
    let tags: Vec<&str> = raw.split(',').map(str::trim).collect();
    if !tags.iter().all(|one| is_tag(one)) {
        return Err(Trouble::Header(header::IF_NONE_MATCH));
    }
    Ok(Some(NoneMatch::Versions(tags.into_iter().filter_map(version_of).collect())))
}

/// What a client has already: `If-None-Match` says by which version, else `If-Modified-Since` by when.
pub(super) fn known(headers: &HeaderMap, stored: &Stored) -> Result<Known, Trouble> {
    match none_match(headers)? {
        Some(NoneMatch::All) => return Ok(Known::Yes),
        Some(NoneMatch::Versions(known)) => return Ok(known.contains(&stored.version).into()),
        None => {}
    }
    let Some(raw) = text(headers, &header::IF_MODIFIED_SINCE)? else { return Ok(Known::No) };
    let since = jiff::fmt::rfc2822::parse(raw).map_err(|_| Trouble::Header(header::IF_MODIFIED_SINCE))?;
    let (updated, since) = (stored.updated.to_jiff().as_second(), since.timestamp().as_second());
    Ok(if updated == since { Known::BySecond } else { (updated < since).into() })
}

/// `Prefer: handling=…`.
pub(super) fn handling(headers: &HeaderMap) -> Result<Handling, Trouble> {
    let mut handling = Handling::Strict;
    for one in preferences(headers)? {
        match one {
            "handling=lenient" => handling = Handling::Lenient,
            "handling=strict" => handling = Handling::Strict,
            _ => {}
        }
    }
    Ok(handling)
}

/// `Prefer: hilum-paging=…`.
pub(super) fn paging(headers: &HeaderMap) -> Result<Option<Style>, Trouble> {
    let mut style = None;
    for raw in preferences(headers)?.into_iter().filter_map(|one| one.strip_prefix("hilum-paging=")) {
        style = Some(
            Style::parse(raw)
                .ok_or(Trouble::Unsupported("Prefer: hilum-paging is sealed, offset or getpages"))?,
        );
    }
    Ok(style)
}

fn preferences(headers: &HeaderMap) -> Result<Vec<&str>, Trouble> {
    let name = HeaderName::from_static("prefer");
    let mut all = Vec::new();
    for value in headers.get_all(&name) {
        let text = value.to_str().ok().filter(|text| text.len() <= HEADER_BYTES_MAX);
        let text = text.ok_or_else(|| Trouble::Header(name.clone()))?;
        all.extend(text.split([',', ';']).map(str::trim));
    }
    Ok(all)
}

/// What a write answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Return {
    Minimal,
    Representation,
    Outcome,
}

/// `Prefer: return=…`, else the whole.
pub(super) fn wants(headers: &HeaderMap) -> Result<Return, Trouble> {
    Ok(wished(headers)?.unwrap_or(Return::Representation))
}

/// `Prefer: return=…`. Other preferences are wishes: what is not known of them is let go.
pub(super) fn wished(headers: &HeaderMap) -> Result<Option<Return>, Trouble> {
    let mut wanted = None;
    for one in preferences(headers)? {
        match one {
            "return=minimal" => wanted = Some(Return::Minimal),
            "return=representation" => wanted = Some(Return::Representation),
            "return=OperationOutcome" => wanted = Some(Return::Outcome),
            _ => {}
        }
    }
    Ok(wanted)
}

/// Whether a media type is JSON of this version of FHIR.
fn is_json(media: &str) -> bool {
    let essence = media.split(';').next().unwrap_or_default().trim();
    let is_known = ["application/fhir+json", "application/json", "application/json+fhir", "text/json"]
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known));
    is_known && is_r4(media)
}

/// Whether a media type asks for no other version (<https://hl7.org/fhir/R4/http.html#version-parameter>).
fn is_r4(media: &str) -> bool {
    let versions = media.split(';').skip(1).filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("fhirVersion").then(|| value.trim().trim_matches('"'))
    });
    versions.into_iter().all(|version| ["4.0", "4.0.1"].contains(&version))
}

/// Whether the client takes JSON; it says so by `_format`, else by `Accept`.
pub(super) fn takes_json(headers: &HeaderMap, format: Option<&str>) -> Result<(), Trouble> {
    if let Some(format) = format {
        // A plus sign of an address is a blank when it is read.
        let (essence, rest) = format.split_once(';').unwrap_or((format, ""));
        let format = format!("{};{rest}", essence.trim().replace(' ', "+"));
        return if essence == "json" || is_json(&format) { Ok(()) } else { Err(Trouble::NotAcceptable) };
    }
    let mut said = false;
    for value in headers.get_all(header::ACCEPT) {
        for one in value.to_str().unwrap_or_default().split(',') {
            let essence = one.split(';').next().unwrap_or_default().trim();
            if is_json(one) || ["*/*", "application/*"].contains(&essence) && is_r4(one) {
                return Ok(());
            }
            said = said || !essence.is_empty();
        }
    }
    if said { Err(Trouble::NotAcceptable) } else { Ok(()) }
}

/// The form of the answer, where nothing else is asked: whether JSON is laid out.
pub(super) fn form(query: Option<&str>, headers: &HeaderMap) -> Result<bool, Trouble> {
    let [format, pretty] = parameters(query, ["_format", "_pretty"])?;
    takes_json(headers, format.as_deref())?;
    is_pretty(pretty.as_deref())
}

/// `_pretty`.
pub(super) fn is_pretty(pretty: Option<&str>) -> Result<bool, Trouble> {
    match pretty {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Trouble::Parameter { known: "_pretty (true or false)".to_owned() }),
    }
}

/// Whether the body says that it is JSON.
pub(super) fn brings_json(headers: &HeaderMap) -> Result<(), Trouble> {
    match headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default()) {
        Some(media) if is_json(media) => Ok(()),
        _ => Err(Trouble::MediaType),
    }
}

/// The media type of JSON Patch (RFC 6902).
pub(super) const JSON_PATCH: &str = "application/json-patch+json";

/// Whether the body says that it is a JSON Patch.
pub(super) fn brings_patch(headers: &HeaderMap) -> Result<(), Trouble> {
    let said = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    if is_json_patch(said.unwrap_or_default()) { Ok(()) } else { Err(Trouble::PatchType) }
}

/// Whether a media type is that of JSON Patch.
pub(super) fn is_json_patch(media: &str) -> bool {
    media.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(JSON_PATCH)
}

/// Whether the body says that it is a form; an empty one need not.
pub(super) fn brings_form(headers: &HeaderMap, is_empty: bool) -> Result<(), Trouble> {
    let said = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let essence = said.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") || (said.is_none() && is_empty) {
        return Ok(());
    }
    Err(Trouble::NoForm)
}

/// The parameters of an address, those of `known` alone, each once. An empty one counts as absent.
pub(super) fn parameters<const N: usize>(
    query: Option<&str>,
    known: [&'static str; N],
) -> Result<[Option<String>; N], Trouble> {
    let mut found = [const { None }; N];
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if value.is_empty() {
            continue;
        }
        let at = known.iter().position(|known| *known == name);
        let slot =
            at.and_then(|at| found.get_mut(at)).ok_or(Trouble::Parameter { known: known.join(", ") })?;
        if slot.is_some() {
            return Err(Trouble::Parameter { known: known.join(", ") });
        }
        *slot = Some(value.into_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_are_read_from_etags_and_nothing_else() {
        let cases = [
            ("weak", r#"W/"3""#, Some(3)),
            ("strong, as some send it", r#""12""#, Some(12)),
            ("bare", "3", None),
            ("a star", "*", None),
            ("a sign", r#"W/"+3""#, None),
            ("empty", r#"W/"""#, None),
            ("larger than any", r#"W/"99999999999999999999""#, Some(i64::MAX)),
        ];
        for (why, raw, want) in cases {
            assert_eq!(version_of(raw), want, "{why}");
        }
    }

    #[test]
    fn json_is_all_there_is() {
        let cases = [
            ("nothing said", None, None, true),
            ("anything", Some("*/*"), None, true),
            ("a browser", Some("text/html,application/xhtml+xml,*/*;q=0.8"), None, true),
            ("ours", Some("application/fhir+json; fhirVersion=4.0"), None, true),
            ("ours, quoted", Some("application/fhir+json;fhirversion=\"4.0.1\""), None, true),
            ("another version", Some("application/fhir+json; fhirVersion=5.0"), None, false),
            (
                "another one rather",
                Some("application/fhir+json; fhirVersion=3.0, application/fhir+json"),
                None,
                true,
            ),
            ("another one of anything", Some("*/*; fhirVersion=1.0"), None, false),
            ("another one by address", None, Some("application/fhir+json; fhirVersion=4.3"), false),
            ("xml", Some("application/fhir+xml"), None, false),
            ("the address before the header", Some("application/fhir+xml"), Some("json"), true),
            ("a plus sign became a blank", None, Some("application/fhir json"), true),
            ("xml by address", Some("*/*"), Some("xml"), false),
        ];
        for (why, accept, format, ok) in cases {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            assert_eq!(takes_json(&headers, format).is_ok(), ok, "{why}");
        }
    }
}
