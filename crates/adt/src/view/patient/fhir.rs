//! Looking into resources: their bodies are JSON, read by place.

use hilum_core::Id;
use serde_json::Value as Json;

/// What stands in a text of a resource.
pub(super) fn text<'a>(resource: &'a Json, pointer: &str) -> Option<&'a str> {
    resource.pointer(pointer).and_then(Json::as_str).filter(|text| !text.is_empty())
}

pub(super) fn owned(resource: &Json, pointer: &str) -> Option<String> {
    text(resource, pointer).map(str::to_owned)
}

pub(super) fn items<'a>(resource: &'a Json, pointer: &str) -> &'a [Json] {
    resource.pointer(pointer).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

/// The id behind `urn:uuid:` of `meta.source`.
pub(super) fn source_of(resource: &Json) -> Option<Id> {
    text(resource, "/meta/source")?.strip_prefix("urn:uuid:")?.parse().ok()
}

pub(in crate::view) fn referred(reference: &Json, kind: &str) -> Option<Id> {
    text(reference, "/reference")?.strip_prefix(kind)?.strip_prefix('/')?.parse().ok()
}

pub(super) fn extension<'a>(resource: &'a Json, url: &str) -> Option<&'a Json> {
    items(resource, "/extension").iter().find(|one| text(one, "/url") == Some(url))
}

/// A concept in words: its text, else the best display, else its code.
pub(super) fn concept(concept: &Json) -> Option<String> {
    let codings = items(concept, "/coding");
    let display = codings.iter().rev().find_map(|coding| text(coding, "/display"));
    let code = codings.iter().rev().find_map(|coding| text(coding, "/code"));
    text(concept, "/text").or(display).or(code).map(str::to_owned)
}

/// The code as it was sent: the last coding, where what a map adds comes first.
pub(super) fn code_of(concept: &Json) -> Option<String> {
    items(concept, "/coding").iter().rev().find_map(|coding| owned(coding, "/code"))
}

/// v2-0004 where it was kept, else what stands.
pub(super) fn class_of(class: &Json) -> Option<String> {
    let kept = items(class, "/extension").iter().find_map(|one| {
        items(one, "/valueCodeableConcept/coding").iter().find_map(|coding| owned(coding, "/code"))
    });
    kept.or_else(|| owned(class, "/code"))
}

pub(super) fn marks_of(resource: &Json) -> Vec<String> {
    let tags = items(resource, "/meta/tag").iter();
    tags.filter(|tag| text(tag, "/system") == Some(crate::map::MARK_SYSTEM))
        .filter_map(|tag| owned(tag, "/code"))
        .collect()
}

/// A date of FHIR as a civil day, where it is one.
pub fn day_of(raw: &str) -> Option<jiff::civil::Date> {
    raw.get(..10)?.parse().ok()
}
