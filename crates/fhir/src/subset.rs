//! Parts of resources: `_summary` (<https://hl7.org/fhir/R4/search.html#summary>) and `_elements`. What is shown so is marked
//! `SUBSETTED`, so that nobody takes it for the whole.

use std::borrow::Cow;

use crate::json::{Json, JsonError};
use crate::limits::ELEMENTS_MAX;
use crate::r4::{Field, Shape, r4};

/// Where the mark of a subset comes from.
pub const SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";
/// The mark of a subset.
pub const SUBSETTED: &str = "SUBSETTED";

/// Which part of a resource an answer shows. Elements that must be there, and those that change what others mean, always
/// are.
///
/// ```
/// use hilum_fhir::subset::Subset;
/// let birth = Subset::parse(None, Some("birthDate"), Some("Patient")).unwrap().unwrap();
/// let body = r#"{"resourceType":"Patient","id":"p","name":[{"family":"Kim"}],"birthDate":"1970"}"#;
/// assert_eq!(
///     birth.of(body).unwrap(),
///     concat!(
///         r#"{"resourceType":"Patient","id":"p","meta":{"tag":[{"system":"http://terminology.hl7.org/"#,
///         r#"CodeSystem/v3-ObservationValue","code":"SUBSETTED"}]},"birthDate":"1970"}"#
///     )
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subset {
    /// What the definitions mark as summary, at each level.
    Summary,
    /// The narrative, and what must be there or changes the meaning of the rest.
    Text,
    /// All but the narrative.
    Data,
    /// These elements of the resource itself, each of one type or of all.
    Elements(Vec<(Option<&'static str>, String)>),
}

/// Why parameters name no part of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubsetError {
    /// A value of `_summary` that R4 does not have.
    #[error("_summary is true, text, data, count or false")]
    Summary,
    /// `count`, where nothing is counted.
    #[error("_summary=count is of searches alone")]
    Count,
    /// A name that is no element.
    #[error(
        "_elements is a list of elements of the resource itself: at most {ELEMENTS_MAX} names, each as `name` or `Type.name`"
    )]
    Elements,
    /// Both of them.
    #[error("_summary and _elements exclude each other")]
    Both,
}

impl SubsetError {
    /// The parameter that is wrong.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Summary | Self::Count => "_summary",
            Self::Elements | Self::Both => "_elements",
        }
    }
}

impl Subset {
    /// Reads `_summary` and `_elements` for resources of a type, or of any. Absent where all is shown.
    ///
    /// # Errors
    /// [`SubsetError`].
    pub fn parse(
        summary: Option<&str>,
        elements: Option<&str>,
        resource_type: Option<&str>,
    ) -> Result<Option<Self>, SubsetError> {
        let summary = match summary {
            None | Some("false") => None,
            Some("true") => Some(Self::Summary),
            Some("text") => Some(Self::Text),
            Some("data") => Some(Self::Data),
            Some("count") => return Err(SubsetError::Count),
            Some(_) => return Err(SubsetError::Summary),
        };
        let Some(elements) = elements else { return Ok(summary) };
        if summary.is_some() {
            return Err(SubsetError::Both);
        }
        let names: Vec<&str> = elements.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        if names.is_empty() || names.len() > ELEMENTS_MAX {
            return Err(SubsetError::Elements);
        }
        let read = names.into_iter().map(|name| element(name, resource_type));
        read.collect::<Option<_>>().map(Self::Elements).map(Some).ok_or(SubsetError::Elements)
    }

    /// As parameters of an address.
    pub fn pair(&self) -> (&'static str, String) {
        match self {
            Self::Summary => ("_summary", "true".to_owned()),
            Self::Text => ("_summary", "text".to_owned()),
            Self::Data => ("_summary", "data".to_owned()),
            Self::Elements(elements) => {
                let name = |(ty, name): &(Option<&str>, String)| match ty {
                    Some(ty) => format!("{ty}.{name}"),
                    None => name.clone(),
                };
                ("_elements", elements.iter().map(name).collect::<Vec<_>>().join(","))
            }
        }
    }

    /// Whether it says anything of what only comes along with what was asked for: elements do, where they name its type.
    pub fn is_of_included(&self, resource_type: &str) -> bool {
        match self {
            Self::Summary | Self::Text | Self::Data => true,
            Self::Elements(elements) => elements.iter().any(|(ty, _)| *ty == Some(resource_type)),
        }
    }

    /// The part of a resource; what stands in it keeps its digits.
    ///
    /// # Errors
    /// [`JsonError`] for what is no JSON.
    pub fn of(&self, body: &str) -> Result<String, JsonError> {
        let json = Json::parse(body.as_bytes())?;
        let name = json.get("resourceType").and_then(Json::as_str).unwrap_or_default();
        let Some(shape) = r4().shape(name) else { return Ok(body.to_owned()) };
        let part = match self {
            Self::Summary => summary(&json, shape),
            Self::Text => {
                top(&json, shape, |field| field.is_required || field.is_modifier || field.element == "text")
            }
            Self::Data => top(&json, shape, |field| field.element != "text"),
            Self::Elements(elements) => top(&json, shape, |field| {
                let is_named = |(ty, name): &(Option<&str>, String)| {
                    ty.is_none_or(|ty| ty == shape.path) && (field.element == name || *field.name == **name)
                };
                field.is_required || field.is_modifier || elements.iter().any(is_named)
            }),
        };
        Ok(marked(part).to_text())
    }
}

/// An element as `_elements` names it.
fn element(raw: &str, resource_type: Option<&str>) -> Option<(Option<&'static str>, String)> {
    let (ty, name) = raw.split_once('.').map_or((None, raw), |(ty, name)| (Some(ty), name));
    let has = |shape: &Shape| shape.field(name).is_some() || shape.fields_of(name).next().is_some();
    let is_of = |ty: &str| r4().shape(ty).is_some_and(has);
    let known = match ty {
        Some(ty) => Some(r4().resource_types().find(|known| *known == ty)?),
        None => None,
    };
    let fits = match known.or(resource_type) {
        Some(ty) => is_of(ty),
        None => r4().resource_types().any(is_of),
    };
    fits.then(|| (known, name.to_owned()))
}

/// The field of a member, that of the primitive for what stands beside one (`_birthDate`).
fn field_of<'s>(shape: &'s Shape, name: &str) -> Option<&'s Field> {
    shape.field(name.strip_prefix('_').unwrap_or(name))
}

/// The members that are kept, whole.
fn top<'a>(json: &Json<'a>, shape: &Shape, keep: impl Fn(&Field) -> bool) -> Json<'a> {
    let is_kept = |name: &str| {
        let field = field_of(shape, name);
        matches!(name, "resourceType" | "id" | "meta") || field.is_some_and(&keep)
    };
    Json::Object(json.members().iter().filter(|(name, _)| is_kept(name)).cloned().collect())
}

/// What of an object is summary, at each level.
fn summary<'a>(json: &Json<'a>, shape: &Shape) -> Json<'a> {
    let mut kept = Vec::new();
    for (name, value) in json.members() {
        let field = field_of(shape, name);
        let is_kept = field.is_some_and(|field| field.is_summary || field.is_modifier || field.is_required);
        if name != "resourceType" && name != "id" && !is_kept {
            continue;
        }
        // What stands beside a primitive, and an extension that changes what is meant, are kept whole.
        let is_whole = |shape: &&Shape| shape.path == "Extension" || name.starts_with('_');
        let below = field.and_then(|field| r4().shape(field.ty)).filter(|shape| !is_whole(shape));
        let part = match below {
            Some(below) => summary_of(value, below),
            None => Some(value.clone()),
        };
        kept.extend(part.map(|part| (name.clone(), part)));
    }
    Json::Object(kept)
}

/// What of a member is summary; absent where nothing is.
fn summary_of<'a>(value: &Json<'a>, shape: &Shape) -> Option<Json<'a>> {
    match value {
        Json::Object(_) => Some(summary(value, shape)).filter(|part| !part.members().is_empty()),
        Json::Array(elements) => {
            let parts: Vec<Json<'a>> = elements.iter().filter_map(|one| summary_of(one, shape)).collect();
            (!parts.is_empty()).then_some(Json::Array(parts))
        }
        other => Some(other.clone()),
    }
}

/// With the mark in `meta.tag`.
fn marked(json: Json<'_>) -> Json<'_> {
    let Json::Object(mut members) = json else { return json };
    let text = |raw: &'static str| Json::String(Cow::Borrowed(raw));
    let mark = Json::Object(vec![("system".into(), text(SYSTEM)), ("code".into(), text(SUBSETTED))]);
    let standing = members.iter().position(|(name, _)| name == "meta");
    let behind = members.iter().rposition(|(name, _)| name == "id" || name == "resourceType");
    let meta = standing.unwrap_or_else(|| behind.map_or(0, |at| at + 1));
    if standing.is_none() {
        members.insert(meta, ("meta".into(), Json::Object(Vec::new())));
    }
    if let Some((_, Json::Object(meta))) = members.get_mut(meta) {
        match meta.iter_mut().find(|(name, _)| name == "tag") {
            Some((_, Json::Array(tags))) if tags.iter().any(is_mark) => {}
            Some((_, Json::Array(tags))) => tags.push(mark),
            _ => meta.push(("tag".into(), Json::Array(vec![mark]))),
        }
    }
    Json::Object(members)
}

/// Whether a tag is the mark of a subset.
fn is_mark(tag: &Json<'_>) -> bool {
    let member = |name| tag.get(name).and_then(Json::as_str);
    member("system") == Some(SYSTEM) && member("code") == Some(SUBSETTED)
}

/// Whether a resource says of itself that it is a part.
pub fn is_subset(resource: &Json<'_>) -> bool {
    let tags = resource.get("meta").and_then(|meta| meta.get("tag"));
    tags.map_or(&[][..], Json::elements).iter().any(is_mark)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MARK: &str =
        r#"{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}"#;

    fn of(summary: Option<&str>, elements: Option<&str>, body: &str) -> String {
        Subset::parse(summary, elements, None).unwrap().unwrap().of(body).unwrap()
    }

    #[test]
    fn each_part_has_what_r4_says() {
        let body = r#"{"resourceType":"Observation","id":"o","meta":{"versionId":"1","tag":[{"code":"t"}]},"implicitRules":"http://r","text":{"status":"generated","div":"<div/>"},"modifierExtension":[{"url":"u","valueCode":"x"}],"status":"final","_status":{"id":"s"},"category":[{"text":"c"}],"code":{"text":"bp","extension":[{"url":"u"}]},"valueQuantity":{"value":1.50},"note":[{"text":"n"}]}"#;
        let meta = format!(r#"{{"versionId":"1","tag":[{{"code":"t"}},{MARK}]}}"#);
        let head = format!(r#"{{"resourceType":"Observation","id":"o","meta":{meta}"#);
        let rules = r#","implicitRules":"http://r""#;
        let text = r#","text":{"status":"generated","div":"<div/>"}"#;
        let extension = r#","modifierExtension":[{"url":"u","valueCode":"x"}]"#;
        let status = r#","status":"final","_status":{"id":"s"}"#;
        let code = r#","code":{"text":"bp","extension":[{"url":"u"}]}"#;
        let value = r#","valueQuantity":{"value":1.50}"#;
        let cases = [
            (
                "summary",
                Some("true"),
                None,
                format!(r#"{head}{rules}{extension}{status},"code":{{"text":"bp"}}{value}}}"#),
            ),
            ("text", Some("text"), None, format!("{head}{rules}{text}{extension}{status}{code}}}")),
            (
                "data",
                Some("data"),
                None,
                format!(
                    r#"{head}{rules}{extension}{status},"category":[{{"text":"c"}}]{code}{value},"note":[{{"text":"n"}}]}}"#
                ),
            ),
            (
                "elements, the choice by its element",
                None,
                Some("value,note"),
                format!(r#"{head}{rules}{extension}{status}{code}{value},"note":[{{"text":"n"}}]}}"#),
            ),
            (
                "of another type",
                None,
                Some("Patient.name"),
                format!("{head}{rules}{extension}{status}{code}}}"),
            ),
        ];
        for (why, summary, elements, want) in cases {
            assert_eq!(of(summary, elements, body), want, "{why}");
        }
        let twice = of(Some("true"), None, &of(Some("data"), None, body));
        assert_eq!(twice.matches(SUBSETTED).count(), 1, "marked once");
    }

    #[test]
    fn summaries_leave_out_what_is_below_too() {
        let attached = r#"{"resourceType":"DocumentReference","id":"d","status":"current","content":[{"attachment":{"contentType":"text/plain","data":"QQ==","title":"t"}}]}"#;
        let summary = of(Some("true"), None, attached);
        assert!(summary.contains(r#""attachment":{"contentType":"text/plain","title":"t"}"#), "{summary}");
        let bare = of(Some("true"), None, r#"{"resourceType":"Patient","id":"p","photo":[{"data":"QQ=="}]}"#);
        assert!(!bare.contains("photo"), "{bare}");
    }

    #[test]
    fn what_names_no_part_is_refused() {
        let parse = Subset::parse;
        assert_eq!(parse(None, None, None), Ok(None));
        assert_eq!(parse(Some("false"), None, None), Ok(None));
        assert_eq!(parse(Some("some"), None, None), Err(SubsetError::Summary));
        assert_eq!(parse(Some("count"), None, None), Err(SubsetError::Count));
        assert_eq!(parse(Some("true"), Some("name"), None), Err(SubsetError::Both));
        let cases = [
            ("an element", Some("Patient"), "name", true),
            ("none", Some("Patient"), "nmae", false),
            ("of another type", Some("Patient"), "code", false),
            ("of any type", None, "code", true),
            ("below an element", Some("Patient"), "name.family", false),
            ("with its type", Some("Patient"), "Observation.code", true),
            ("nothing", Some("Patient"), ",", false),
        ];
        for (why, ty, elements, fits) in cases {
            assert_eq!(parse(None, Some(elements), ty).is_ok(), fits, "{why}");
        }
        let elements = parse(None, Some("name,Patient.gender"), None).unwrap().unwrap();
        let (name, again) = elements.pair();
        assert_eq!(parse(None, Some(&again), None).unwrap().unwrap(), elements, "{name}={again}");
    }
}
