//! A resource kept as the bytes that were accepted (<https://hl7.org/fhir/R4/resource.html>): checked once, never
//! built into a tree on the way out, so that decimals keep their precision and unknown members their place.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::limits::{ID_BYTES_MAX, NESTING_MAX, RESOURCE_BYTES_MAX, TYPE_BYTES_MAX};

/// Why bytes are no resource. Prints names of members only, never their content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// More bytes than [`RESOURCE_BYTES_MAX`].
    #[error("resource of {size_bytes} bytes is larger than {RESOURCE_BYTES_MAX}")]
    TooLarge {
        /// How many there are.
        size_bytes: usize,
    },
    /// Objects and arrays within each other deeper than [`NESTING_MAX`].
    #[error("nested deeper than {NESTING_MAX}")]
    Depth,
    /// Not UTF-8, not JSON, or no object.
    #[error("not a JSON object at line {line}, column {column}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// A member of the resource stands twice.
    #[error("member `{0}` stands twice")]
    Duplicate(&'static str),
    /// A member that must be there is not, or is no text.
    #[error("member `{0}` is missing or not a string")]
    Missing(&'static str),
    /// `resourceType` is no type name.
    #[error("resourceType is not a type name")]
    Type,
    /// `id` breaks `[A-Za-z0-9\-\.]{{1,64}}`.
    #[error("id must have 1 to 64 characters of A-Z a-z 0-9 - .")]
    Id,
    /// `meta` is no object.
    #[error("meta is not an object")]
    Meta,
}

/// A resource type's name: `[A-Z][A-Za-z]*`. Whether R4 defines it is not asked here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeName(Box<str>);

impl TypeName {
    /// Checks `raw`.
    ///
    /// # Errors
    /// [`ResourceError::Type`] when it is empty, too long, or has another letter.
    pub fn parse(raw: &str) -> Result<Self, ResourceError> {
        let bytes = raw.as_bytes();
        let fits = bytes.first().is_some_and(u8::is_ascii_uppercase)
            && bytes.len() <= TYPE_BYTES_MAX
            && bytes.iter().all(u8::is_ascii_alphabetic);
        if fits { Ok(Self(raw.into())) } else { Err(ResourceError::Type) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A logical id (<https://hl7.org/fhir/R4/datatypes.html#id>): `[A-Za-z0-9\-\.]{1,64}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FhirId(Box<str>);

impl FhirId {
    /// Checks `raw`.
    ///
    /// # Errors
    /// [`ResourceError::Id`].
    pub fn parse(raw: &str) -> Result<Self, ResourceError> {
        let fits = !raw.is_empty()
            && raw.len() <= ID_BYTES_MAX
            && raw.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        if fits { Ok(Self(raw.into())) } else { Err(ResourceError::Id) }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as 16 bytes, if it is a UUID, as those of the chart are.
    pub fn as_id(&self) -> Option<hilum_core::Id> {
        self.0.parse().ok()
    }
}

impl From<hilum_core::Id> for FhirId {
    fn from(id: hilum_core::Id) -> Self {
        Self(id.to_string().into())
    }
}

impl fmt::Display for FhirId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A resource as the bytes that were accepted: a JSON object in UTF-8 with `resourceType` and `id`.
///
/// ```
/// use hilum_fhir::ResourceBody;
/// let body = ResourceBody::parse(r#"{"resourceType":"Patient","id":"p1","x":1.50}"#.into()).unwrap();
/// assert_eq!((body.resource_type().as_str(), body.id().as_str()), ("Patient", "p1"));
/// assert_eq!(
///     body.with_meta("2", "2026-01-02T03:04:05.000006Z").unwrap(),
///     r#"{"resourceType":"Patient","id":"p1","meta":{"versionId":"2","lastUpdated":"2026-01-02T03:04:05.000006Z"},"x":1.50}"#
/// );
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ResourceBody {
    resource_type: TypeName,
    id: FhirId,
    bytes: Bytes,
}

impl ResourceBody {
    /// Checks `bytes`.
    ///
    /// # Errors
    /// [`ResourceError`] says what is wrong, never with the content.
    pub fn parse(bytes: Bytes) -> Result<Self, ResourceError> {
        let text = check_text(&bytes)?;
        let members = members(text)?;
        check_depth(text)?;
        let resource_type = TypeName::parse(&text_member(&members, "resourceType")?)?;
        let id = FhirId::parse(&text_member(&members, "id")?)?;
        if let Some(meta) = find(&members, "meta") {
            self::members(meta).map_err(|_| ResourceError::Meta)?;
        }
        Ok(Self { resource_type, id, bytes })
    }

    /// Its type.
    pub fn resource_type(&self) -> &TypeName {
        &self.resource_type
    }

    /// Its logical id.
    pub fn id(&self) -> &FhirId {
        &self.id
    }

    /// The bytes as they were accepted.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The body with the server's `meta.versionId` and `meta.lastUpdated` in it, all else byte for byte.
    ///
    /// # Errors
    /// None for a checked body.
    pub fn with_meta(&self, version_id: &str, last_updated: &str) -> Result<String, ResourceError> {
        with_meta(check_text(&self.bytes)?, version_id, last_updated)
    }
}

/// Prints type and size, no content and no id.
impl fmt::Debug for ResourceBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceBody")
            .field("resource_type", &self.resource_type.as_str())
            .field("size_bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// `body` with `meta.versionId` and `meta.lastUpdated` set; everything else keeps its bytes and its order, `meta`
/// comes behind `id` where there was none.
///
/// # Errors
/// [`ResourceError::Json`], [`ResourceError::Meta`].
pub fn with_meta(body: &str, version_id: &str, last_updated: &str) -> Result<String, ResourceError> {
    let server = format!(
        "\"versionId\":{},\"lastUpdated\":{}",
        serde_json::Value::from(version_id),
        serde_json::Value::from(last_updated)
    );
    rewrite_meta(body, &server)
}

/// `body` without `meta.versionId` and `meta.lastUpdated`: the form that is kept and compared. An empty `meta` that
/// this leaves is removed. The same bytes when there is nothing to remove.
///
/// # Errors
/// [`ResourceError::Json`], [`ResourceError::Meta`].
pub fn without_server_meta(body: &str) -> Result<Cow<'_, str>, ResourceError> {
    let all = members(body)?;
    let Some(meta) = find(&all, "meta") else { return Ok(Cow::Borrowed(body)) };
    let meta = members(meta).map_err(|_| ResourceError::Meta)?;
    if meta.iter().all(|(name, _)| !is_server_meta(name)) {
        return Ok(Cow::Borrowed(body));
    }
    rewrite_meta(body, "").map(Cow::Owned)
}

/// `json` without blanks between its parts: one line, whatever laid it out.
///
/// ```
/// use hilum_fhir::resource::compact;
/// assert_eq!(compact("{\n  \"a\" : [1.50, \"b c\"]\n}"), r#"{"a":[1.50,"b c"]}"#);
/// ```
pub fn compact(json: &str) -> Cow<'_, str> {
    let is_blank = |byte: u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
    let (mut out, mut copied) = (String::new(), 0);
    let (mut in_text, mut escaped) = (false, false);
    for (at, byte) in json.bytes().enumerate() {
        if in_text {
            (in_text, escaped) = (escaped || byte != b'"', byte == b'\\' && !escaped);
        } else if byte == b'"' {
            in_text = true;
        } else if is_blank(byte) {
            out.push_str(json.get(copied..at).unwrap_or_default());
            copied = at + 1;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    out.push_str(json.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// `body` with this `id`, behind `resourceType` where it had none; everything else keeps its bytes and its order.
///
/// # Errors
/// [`ResourceError::Json`].
pub fn with_id(body: &str, id: &FhirId) -> Result<String, ResourceError> {
    let all = members(body)?;
    let id = serde_json::Value::from(id.as_str()).to_string();
    let mut out = String::with_capacity(body.len() + id.len() + 8);
    out.push('{');
    let has_id = find(&all, "id").is_some();
    for (name, value) in &all {
        write_member(&mut out, name, if name == "id" { &id } else { value });
        if name == "resourceType" && !has_id {
            write_member(&mut out, "id", &id);
        }
    }
    out.push('}');
    Ok(out)
}

/// `body` with the `meta.security` and `meta.tag` of `before`, each where it has none itself: an update that does not
/// speak of them does not take them away (<https://hl7.org/fhir/R4/resource.html#Meta>).
///
/// # Errors
/// [`ResourceError::Json`], [`ResourceError::Meta`].
pub fn with_labels_of<'a>(body: &'a str, before: &str) -> Result<Cow<'a, str>, ResourceError> {
    let (all, old) = (members(body)?, members(before)?);
    let meta_of = |members: &[(Cow<'_, str>, &'_ str)]| find(members, "meta").map(str::to_owned);
    let (new_meta, old_meta) = (meta_of(&all), meta_of(&old));
    let Some(old_meta) = old_meta else { return Ok(Cow::Borrowed(body)) };
    let new_meta = new_meta.unwrap_or_else(|| "{}".to_owned());
    let read = |meta: &str| -> Result<Vec<(String, String)>, ResourceError> {
        let members = members(meta).map_err(|_| ResourceError::Meta)?;
        Ok(members.into_iter().map(|(name, value)| (name.into_owned(), value.to_owned())).collect())
    };
    let (mut meta, kept) = (read(&new_meta)?, read(&old_meta)?);
    let is_label = |name: &str| name == "security" || name == "tag";
    let before = meta.len();
    for (name, value) in kept {
        if is_label(&name) && meta.iter().all(|(has, _)| *has != name) {
            meta.push((name, value));
        }
    }
    if meta.len() == before {
        return Ok(Cow::Borrowed(body));
    }
    let mut text = String::from("{");
    for (name, value) in &meta {
        write_member(&mut text, name, value);
    }
    text.push('}');
    let mut out = String::with_capacity(body.len() + text.len());
    out.push('{');
    let mut has_meta = find(&all, "meta").is_some();
    for (name, value) in &all {
        write_member(&mut out, name, if name == "meta" { &text } else { value });
        if name == "id" && !has_meta {
            write_member(&mut out, "meta", &text);
            has_meta = true;
        }
    }
    out.push('}');
    Ok(Cow::Owned(out))
}

/// `body` with this `meta`, behind `id` where it had none, or without any; everything else keeps its bytes and its order.
///
/// # Errors
/// [`ResourceError::Json`].
pub fn with_whole_meta(body: &str, meta: Option<&str>) -> Result<String, ResourceError> {
    let all = members(body)?;
    let mut out = String::with_capacity(body.len() + meta.map_or(0, str::len) + 8);
    out.push('{');
    let has_meta = find(&all, "meta").is_some();
    for (name, value) in &all {
        match (name.as_ref(), meta) {
            ("meta", Some(meta)) => write_member(&mut out, name, meta),
            ("meta", None) => {}
            _ => write_member(&mut out, name, value),
        }
        if let (false, "id", Some(meta)) = (has_meta, name.as_ref(), meta) {
            write_member(&mut out, "meta", meta);
        }
    }
    out.push('}');
    Ok(out)
}

fn is_server_meta(name: &str) -> bool {
    name == "versionId" || name == "lastUpdated"
}

/// Writes the object anew with `server` as the first members of `meta`.
fn rewrite_meta(body: &str, server: &str) -> Result<String, ResourceError> {
    let all = members(body)?;
    let mut out = String::with_capacity(body.len() + server.len() + 16);
    out.push('{');
    let mut has_meta = find(&all, "meta").is_some();
    for (name, value) in &all {
        if name == "meta" {
            let kept = members(value).map_err(|_| ResourceError::Meta)?;
            write_meta(&mut out, server, &kept);
            continue;
        }
        write_member(&mut out, name, value);
        if name == "id" && !has_meta {
            write_meta(&mut out, server, &[]);
            has_meta = true;
        }
    }
    if !has_meta {
        write_meta(&mut out, server, &[]);
    }
    out.push('}');
    Ok(out)
}

fn write_meta(out: &mut String, server: &str, kept: &[(Cow<'_, str>, &str)]) {
    let mut meta = String::from("{");
    meta.push_str(server);
    for (name, value) in kept.iter().filter(|(name, _)| !is_server_meta(name)) {
        write_member(&mut meta, name, value);
    }
    meta.push('}');
    if meta.len() > 2 {
        write_member(out, "meta", &meta);
    }
}

fn write_member(out: &mut String, name: &str, value: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    out.push_str(&serde_json::Value::from(name).to_string());
    out.push(':');
    out.push_str(value);
}

fn check_text(bytes: &[u8]) -> Result<&str, ResourceError> {
    if bytes.len() > RESOURCE_BYTES_MAX {
        return Err(ResourceError::TooLarge { size_bytes: bytes.len() });
    }
    std::str::from_utf8(bytes).map_err(|_| ResourceError::Json { line: 1, column: 1 })
}

/// Bounds the nesting of what is JSON already: whoever builds a tree of it later recurses.
fn check_depth(json: &str) -> Result<(), ResourceError> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth -= 1,
            _ => {}
        }
        if depth > NESTING_MAX {
            return Err(ResourceError::Depth);
        }
    }
    Ok(())
}

fn find<'a>(members: &[(Cow<'_, str>, &'a str)], name: &str) -> Option<&'a str> {
    members.iter().find(|(found, _)| found == name).map(|(_, value)| *value)
}

fn text_member(members: &[(Cow<'_, str>, &str)], name: &'static str) -> Result<String, ResourceError> {
    let raw = find(members, name).ok_or(ResourceError::Missing(name))?;
    serde_json::from_str(raw).map_err(|_| ResourceError::Missing(name))
}

/// The members of an object in their order, values as their own bytes. `resourceType`, `id` and `meta` may stand
/// once only; the values are checked as JSON.
fn members(text: &str) -> Result<Vec<(Cow<'_, str>, &str)>, ResourceError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let found = deserializer
        .deserialize_map(Members)
        .and_then(|found| deserializer.end().map(|()| found))
        .map_err(|error| ResourceError::Json { line: error.line(), column: error.column() })?;
    for once in ["resourceType", "id", "meta"] {
        if found.iter().filter(|(name, _)| name == once).count() > 1 {
            return Err(ResourceError::Duplicate(once));
        }
    }
    Ok(found)
}

/// A member's name, borrowed where it has no escape.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut out = Vec::with_capacity(16);
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            let value: &'de RawValue = map.next_value()?;
            out.push((name, value.get()));
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(raw: &str) -> Result<ResourceBody, ResourceError> {
        ResourceBody::parse(Bytes::copy_from_slice(raw.as_bytes()))
    }

    #[test]
    fn checks_what_it_takes() {
        let deep =
            format!(r#"{{"resourceType":"Patient","id":"a","x":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
        let cases: &[(&str, &str, Option<ResourceError>)] = &[
            ("plain", r#"{"resourceType":"Patient","id":"a-1.B"}"#, None),
            ("escaped member name", r#"{"resource\u0054ype":"Patient","id":"a"}"#, None),
            ("no object", "[]", Some(ResourceError::Json { line: 1, column: 0 })),
            (
                "text behind",
                r#"{"resourceType":"Patient","id":"a"} x"#,
                Some(ResourceError::Json { line: 1, column: 37 }),
            ),
            ("no type", r#"{"id":"a"}"#, Some(ResourceError::Missing("resourceType"))),
            (
                "type is a number",
                r#"{"resourceType":1,"id":"a"}"#,
                Some(ResourceError::Missing("resourceType")),
            ),
            ("type with a slash", r#"{"resourceType":"Pat/ient","id":"a"}"#, Some(ResourceError::Type)),
            ("no id", r#"{"resourceType":"Patient"}"#, Some(ResourceError::Missing("id"))),
            ("id with a space", r#"{"resourceType":"Patient","id":"a b"}"#, Some(ResourceError::Id)),
            (
                "two ids",
                r#"{"resourceType":"Patient","id":"a","id":"b"}"#,
                Some(ResourceError::Duplicate("id")),
            ),
            ("meta is a list", r#"{"resourceType":"Patient","id":"a","meta":[]}"#, Some(ResourceError::Meta)),
            (
                "cut off",
                r#"{"resourceType":"Patient","id":"a""#,
                Some(ResourceError::Json { line: 1, column: 34 }),
            ),
        ];
        for (why, raw, want) in cases {
            assert_eq!(parse(raw).err(), *want, "{why}");
        }
        assert_eq!(parse(&deep).err(), Some(ResourceError::Depth), "nested too deep");
        let brackets = format!(r#"{{"resourceType":"Patient","id":"a","x":"\"{}"}}"#, "[".repeat(500));
        assert_eq!(parse(&brackets).err(), None, "brackets within text do not count");
        assert!(
            ResourceBody::parse(Bytes::from_static(b"{\"resourceType\":\"\xff\"}")).is_err(),
            "not UTF-8"
        );
        assert!(matches!(
            ResourceBody::parse(Bytes::from(vec![b' '; RESOURCE_BYTES_MAX + 1])),
            Err(ResourceError::TooLarge { .. })
        ));
    }

    #[test]
    fn an_id_is_set_and_labels_stay() {
        let id = FhirId::parse("b").unwrap();
        let cases = [
            ("none", r#"{"resourceType":"P","d":1.10}"#, r#"{"resourceType":"P","id":"b","d":1.10}"#),
            ("another", r#"{"id":"a","resourceType":"P"}"#, r#"{"id":"b","resourceType":"P"}"#),
        ];
        for (why, body, want) in cases {
            assert_eq!(with_id(body, &id).unwrap(), want, "{why}");
        }
        let before =
            r#"{"resourceType":"P","id":"a","meta":{"profile":["p"],"tag":[{"code":"t"}],"security":[]}}"#;
        let cases = [
            (
                "no meta",
                r#"{"resourceType":"P","id":"a","d":1.10}"#,
                r#"{"resourceType":"P","id":"a","meta":{"tag":[{"code":"t"}],"security":[]},"d":1.10}"#,
            ),
            (
                "another tag",
                r#"{"resourceType":"P","id":"a","meta":{"tag":[{"code":"u"}]}}"#,
                r#"{"resourceType":"P","id":"a","meta":{"tag":[{"code":"u"}],"security":[]}}"#,
            ),
        ];
        for (why, body, want) in cases {
            assert_eq!(with_labels_of(body, before).unwrap(), want, "{why}");
        }
        let plain = r#"{"resourceType":"P","id":"a"}"#;
        assert_eq!(with_labels_of(plain, plain).unwrap(), plain);
    }

    #[test]
    fn meta_goes_in_and_out_and_nothing_else_moves() {
        let cases = [
            (
                "none before",
                r#"{"resourceType":"P","id":"a","d":1.10}"#,
                r#"{"resourceType":"P","id":"a","meta":{"versionId":"3","lastUpdated":"T"},"d":1.10}"#,
                r#"{"resourceType":"P","id":"a","d":1.10}"#,
            ),
            (
                "kept members stay",
                r#"{"resourceType":"P","id":"a","meta":{"source":"s","versionId":"1","tag":[ ]},"n":"\u00e9"}"#,
                r#"{"resourceType":"P","id":"a","meta":{"versionId":"3","lastUpdated":"T","source":"s","tag":[ ]},"n":"\u00e9"}"#,
                r#"{"resourceType":"P","id":"a","meta":{"source":"s","tag":[ ]},"n":"\u00e9"}"#,
            ),
        ];
        for (why, body, with, without) in cases {
            let got = with_meta(body, "3", "T").unwrap();
            assert_eq!(got, with, "{why}");
            assert_eq!(without_server_meta(&got).unwrap(), without, "{why}: back");
        }
    }

    #[test]
    fn debug_shows_no_content() {
        let body = parse(r#"{"resourceType":"Patient","id":"secret-id","name":"CANARY"}"#).unwrap();
        let shown = format!("{body:?}");
        assert!(!shown.contains("CANARY") && !shown.contains("secret-id"), "{shown}");
    }
}
