//! What clients send in one piece: Bundles of type batch and transaction (<https://hl7.org/fhir/R4/http.html#transaction>).
//! Bodies stay the bytes that came.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::reference::Reference;
use crate::resource::{FhirId, TypeName};

/// What an entry asks for, in the order in which a transaction is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Deletes.
    Delete,
    /// Creates.
    Post,
    /// Updates.
    Put,
    /// Changes parts.
    Patch,
    /// Reads, or searches.
    Get,
    /// The same without bodies.
    Head,
}

/// What an entry asks for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// How.
    pub method: Method,
    /// Where, relative to the base: `Patient`, `Patient/p1`, `Patient?identifier=…`.
    pub url: String,
    /// The version that must be current.
    pub if_match: Option<String>,
    /// The version that the client has.
    pub if_none_match: Option<String>,
    /// The time of what the client has.
    pub if_modified_since: Option<String>,
    /// Creates only where this search finds nothing.
    pub if_none_exist: Option<String>,
}

/// One entry.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry<'a> {
    /// What others of the Bundle call it by.
    pub full_url: Option<String>,
    /// The resource as it came.
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    /// What is asked for.
    pub request: Option<Request>,
    /// What a search says of it.
    search: Option<Searched>,
}

#[derive(Debug, Clone, Deserialize)]
struct Searched {
    mode: Option<String>,
}

impl<'a> Entry<'a> {
    /// The resource as it came.
    pub fn resource(&self) -> Option<&'a str> {
        self.resource.map(RawValue::get)
    }

    /// Whether it tells of a search, and is nothing that was found.
    pub fn is_outcome(&self) -> bool {
        self.search.as_ref().is_some_and(|search| search.mode.as_deref() == Some("outcome"))
    }
}

/// A batch or a transaction.
#[derive(Debug, Clone, Deserialize)]
pub struct Exchange<'a> {
    /// `batch` or `transaction`, or something else that a Bundle may be.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its entries.
    #[serde(borrow, default, rename = "entry")]
    pub entries: Vec<Entry<'a>>,
}

impl<'a> Exchange<'a> {
    /// Reads a Bundle whose structure was checked; absent when it is none.
    pub fn parse(body: &'a str) -> Option<Self> {
        serde_json::from_str(body).ok()
    }
}

/// Whether the member `name` holds an address: a reference, or a value of one of the types that do.
fn is_link(name: &str) -> bool {
    let value_of = |ty: &str| name.strip_prefix("value").is_some_and(|rest| rest == ty);
    name == "reference" || ["Uri", "Url", "Uuid", "Oid"].into_iter().any(value_of)
}

/// Whether a reference says what it is to by a search: `Practitioner?identifier=…`.
pub fn is_search(link: &str) -> bool {
    link.split_once('?')
        .is_some_and(|(ty, _)| !ty.is_empty() && ty.bytes().all(|byte| byte.is_ascii_alphabetic()))
}

/// `body` in which each reference, and each `value[x]` of a type of addresses but canonical ones
/// (<https://hl7.org/fhir/R4/http.html#trules>), is what `to` makes of it; what `to` knows nothing of, and everything else, keeps
/// its bytes.
///
/// ```
/// use hilum_fhir::exchange::relinked;
/// let body = r#"{"subject":{"reference":"urn:uuid:1"},"note":[{"text":"urn:uuid:1"}]}"#;
/// let to = |link: &str| (link == "urn:uuid:1").then(|| "Patient/p".to_owned());
/// assert_eq!(
///     relinked(body, to),
///     r#"{"subject":{"reference":"Patient/p"},"note":[{"text":"urn:uuid:1"}]}"#
/// );
/// ```
pub fn relinked(body: &str, to: impl Fn(&str) -> Option<String>) -> Cow<'_, str> {
    replaced(body, |name, _| is_link(name), to)
}

/// The same of references alone: a `value[x]` is what was said, whatever address it is.
pub fn referring(body: &str, to: impl Fn(&str) -> Option<String>) -> Cow<'_, str> {
    replaced(body, |name, _| name == "reference", to)
}

/// The same of what is attached: each `url` within a part of the resource. Its own `url`, which is what it is called, stays.
pub fn attached(body: &str, to: impl Fn(&str) -> Option<String>) -> Cow<'_, str> {
    replaced(body, |name, depth| depth > 1 && name == "url", to)
}

/// The same of narratives: each `href` and `src` in a `div`.
pub fn narrated(body: &str, to: impl Fn(&str) -> Option<String>) -> Cow<'_, str> {
    replaced(body, |name, _| name == "div", |div| narrative(div, &to))
}

/// A narrative with its links replaced; absent where none is.
fn narrative(div: &str, to: &impl Fn(&str) -> Option<String>) -> Option<String> {
    let (mut out, mut copied) = (String::new(), 0);
    for (at, name) in
        ["href=", "src="].into_iter().flat_map(|name| div.match_indices(name)).collect::<BTreeMap<_, _>>()
    {
        let begin = at + name.len();
        let quote =
            div.get(begin..).and_then(|rest| rest.chars().next()).filter(|sign| ['"', '\''].contains(sign));
        let is_name = div.get(..at).is_some_and(|before| before.ends_with(char::is_whitespace));
        let Some(rest) = quote.filter(|_| is_name).and_then(|_| div.get(begin + 1..)) else { continue };
        let Some((link, _)) = quote.and_then(|quote| rest.split_once(quote)) else { continue };
        if let Some(link_to) = to(link).filter(|_| begin >= copied) {
            out.push_str(div.get(copied..=begin)?);
            out.push_str(&link_to);
            copied = begin + 1 + link.len();
        }
    }
    (copied > 0).then(|| format!("{out}{}", div.get(copied..).unwrap_or_default()))
}

/// What a relative reference in an entry is to, without its version: in a Bundle it is relative to where its resource stands,
/// which the [`base_of`] its `fullUrl` says (<https://hl7.org/fhir/R4/bundle.html#references>). Absent of other references.
///
/// ```
/// use hilum_fhir::exchange::{base_of, resolved};
/// let base = base_of("http://a.example/fhir/Observation/9").unwrap();
/// assert_eq!(resolved(base, "Patient/1").as_deref(), Some("http://a.example/fhir/Patient/1"));
/// assert_eq!(resolved(base, "urn:uuid:1"), None);
/// ```
pub fn resolved(base: &str, link: &str) -> Option<String> {
    let Ok(Reference::Relative { resource_type, id, .. }) = link.parse() else { return None };
    Some(format!("{base}/{resource_type}/{id}"))
}

/// The base in the address of a resource: `http://a.example/fhir` of `http://a.example/fhir/Patient/1`.
pub fn base_of(full_url: &str) -> Option<&str> {
    let Ok(Reference::Absolute(_)) = full_url.parse() else { return None };
    let (rest, id) = full_url.rsplit_once('/')?;
    let (base, ty) = rest.rsplit_once('/')?;
    (TypeName::parse(ty).is_ok() && FhirId::parse(id).is_ok()).then_some(base)
}

/// `body` in which the texts of members that are links, by name and depth, are what `to` makes of them.
fn replaced(
    body: &str,
    is_link: impl Fn(&str, usize) -> bool,
    to: impl Fn(&str) -> Option<String>,
) -> Cow<'_, str> {
    let mut out = String::new();
    // Up to where `body` is in `out`, and whether the last member's name is that of an address.
    let (mut copied, mut at, mut links, mut depth) = (0, 0, false, 0_usize);
    while let Some(open) = body.get(at..).and_then(|rest| rest.find('"')).map(|found| at + found) {
        for byte in body.get(at..open).unwrap_or_default().bytes() {
            match byte {
                b'{' => depth += 1,
                b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        let close = end_of_text(body, open);
        let Some(text) = body.get(open..close) else { break };
        at = close;
        let is_name = body.get(close..).is_some_and(|rest| rest.trim_start().starts_with(':'));
        if is_name {
            links = if text.contains('\\') {
                serde_json::from_str::<String>(text).is_ok_and(|name| is_link(&name, depth))
            } else {
                is_link(text.trim_matches('"'), depth)
            };
        } else if links
            && let Ok(link) = serde_json::from_str::<String>(text)
            && let Some(link) = to(&link)
        {
            out.push_str(body.get(copied..open).unwrap_or_default());
            out.push_str(&serde_json::Value::from(link).to_string());
            copied = close;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(body);
    }
    out.push_str(body.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// Behind the quotation mark that ends the text which begins at `open`.
fn end_of_text(body: &str, open: usize) -> usize {
    let mut escaped = false;
    let bytes = body.as_bytes().iter().enumerate().skip(open + 1);
    for (at, byte) in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    body.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn entries_keep_their_bodies_as_they_came() {
        let body = r#"{"resourceType":"Bundle","type":"transaction","entry":[
            {"fullUrl":"urn:uuid:1","resource":{"resourceType" : "Patient", "x":1.50},"request":{"method":"POST","url":"Patient"}},
            {"request":{"method":"DELETE","url":"Patient/2","ifMatch":"W/\"3\""}}]}"#;
        let sent = Exchange::parse(body).unwrap();
        assert_eq!((sent.kind.as_str(), sent.entries.len()), ("transaction", 2));
        assert_eq!(sent.entries[0].resource(), Some(r#"{"resourceType" : "Patient", "x":1.50}"#));
        let asked: Vec<Method> =
            sent.entries.iter().map(|entry| entry.request.as_ref().unwrap().method).collect();
        assert_eq!(asked, [Method::Post, Method::Delete]);
        assert!(Method::Delete < Method::Post && Method::Patch < Method::Get, "the order of a transaction");
        assert_eq!(sent.entries[1].request.as_ref().unwrap().if_match.as_deref(), Some("W/\"3\""));
    }

    #[test]
    fn links_alone_are_rewritten() {
        let to = |link: &str| match link {
            "urn:uuid:1" => Some("Patient/\"p".to_owned()),
            _ => None,
        };
        let cases = [
            ("nothing to do", r#"{"a":"b"}"#, r#"{"a":"b"}"#),
            ("a reference", r#"{"reference" : "urn:uuid:1"}"#, r#"{"reference" : "Patient/\"p"}"#),
            ("escaped otherwise", r#"{"reference":"urn\u003auuid:1"}"#, r#"{"reference":"Patient/\"p"}"#),
            ("an extension's", r#"{"valueUri":"urn:uuid:1"}"#, r#"{"valueUri":"Patient/\"p"}"#),
            ("a canonical", r#"{"valueCanonical":"urn:uuid:1"}"#, r#"{"valueCanonical":"urn:uuid:1"}"#),
            ("a text", r#"{"valueString":"urn:uuid:1"}"#, r#"{"valueString":"urn:uuid:1"}"#),
            ("an identifier", r#"{"value":"urn:uuid:1"}"#, r#"{"value":"urn:uuid:1"}"#),
            ("a name", r#"{"urn:uuid:1":{"reference":"x"}}"#, r#"{"urn:uuid:1":{"reference":"x"}}"#),
            (
                "a mark within a text",
                r#"{"d":"\"reference\":\"urn:uuid:1\"","reference":"urn:uuid:1"}"#,
                r#"{"d":"\"reference\":\"urn:uuid:1\"","reference":"Patient/\"p"}"#,
            ),
            ("what is no JSON ends", r#"{"reference":"urn"#, r#"{"reference":"urn"#),
        ];
        for (why, body, want) in cases {
            assert_eq!(relinked(body, to), want, "{why}");
        }
    }

    #[test]
    fn links_of_a_narrative_lead_to_what_they_name() {
        let to = |link: &str| (link == "urn:uuid:1").then(|| "Binary/1".to_owned());
        for (why, div, want) in [
            (
                "both kinds",
                "<a href='urn:uuid:1'>x</a><img src=\"urn:uuid:1\"/>",
                Some("<a href='Binary/1'>x</a><img src=\"Binary/1\"/>"),
            ),
            ("a text", "<p>href=urn:uuid:1 urn:uuid:1</p>", None),
            ("another one", "<a href=\"urn:uuid:2\">x</a>", None),
            ("another attribute", "<a data-href=\"urn:uuid:1\">x</a>", None),
            ("cut off", "<a href=\"urn:uuid:1", None),
        ] {
            let body = |div: &str| format!("{{\"text\":{{\"div\":{}}}}}", serde_json::Value::from(div));
            assert_eq!(narrated(&body(div), to), body(want.unwrap_or(div)), "{why}");
        }
    }

    #[test]
    fn what_is_attached_is_rewritten_and_what_a_thing_is_called_is_not() {
        let to = |link: &str| (link == "urn:uuid:1").then(|| "Binary/1".to_owned());
        let cases = [
            (
                "an attachment",
                r#"{"content":[{"attachment":{"title":"}","url":"urn:uuid:1"}}]}"#,
                r#"{"content":[{"attachment":{"title":"}","url":"Binary/1"}}]}"#,
            ),
            ("behind it", r#"{"a":{"b":"c"},"url":"urn:uuid:1"}"#, r#"{"a":{"b":"c"},"url":"urn:uuid:1"}"#),
            ("its own name", r#"{"url":"urn:uuid:1"}"#, r#"{"url":"urn:uuid:1"}"#),
            ("another member", r#"{"a":{"system":"urn:uuid:1"}}"#, r#"{"a":{"system":"urn:uuid:1"}}"#),
        ];
        for (why, body, want) in cases {
            assert_eq!(attached(body, to), want, "{why}");
        }
    }

    #[test]
    fn relative_references_are_relative_to_where_their_resource_stands() {
        let full_url = "https://a.example/fhir/Observation/9";
        let cases = [
            ("relative", full_url, "Patient/1", Some("https://a.example/fhir/Patient/1")),
            ("a version", full_url, "Patient/1/_history/2", Some("https://a.example/fhir/Patient/1")),
            ("absolute", full_url, "http://b.example/fhir/Patient/1", None),
            ("contained", full_url, "#1", None),
            ("by uuid", full_url, "urn:uuid:1", None),
            ("by a search", full_url, "Patient?identifier=1", None),
            ("in what has no address", "urn:uuid:1", "Patient/1", None),
            ("in what has another one", "https://a.example/x", "Patient/1", None),
        ];
        for (why, full_url, link, want) in cases {
            let found = base_of(full_url).and_then(|base| resolved(base, link));
            assert_eq!(found.as_deref(), want, "{why}");
        }
    }
}
