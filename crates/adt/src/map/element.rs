//! The FHIR R4 elements that our resources are made of, borrowed from the state, fields in the order of the standard.

use std::borrow::Cow;

use hilum_core::Id;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// `Coding`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Coding<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extension: Vec<Extension<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub code: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub display: &'a str,
}

impl<'a> Coding<'a> {
    /// A code of a known system.
    pub const fn of(system: &'a str, code: &'a str, display: &'a str) -> Self {
        Self { extension: Vec::new(), system: Some(Cow::Borrowed(system)), version: "", code, display }
    }
}

/// `CodeableConcept`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Concept<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub coding: Vec<Coding<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub text: &'a str,
}

impl<'a> Concept<'a> {
    /// One code of a known system.
    pub fn of(system: &'a str, code: &'a str, display: &'a str) -> Self {
        Self { coding: vec![Coding::of(system, code, display)], text: "" }
    }

    /// Words without a code.
    pub const fn text(text: &'a str) -> Self {
        Self { coding: Vec::new(), text }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.coding.is_empty() && self.text.is_empty()
    }
}

/// A literal reference: `Patient/0190…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub resource_type: &'static str,
    pub id: Id,
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/{}", self.resource_type, self.id))
    }
}

/// `Reference`: literal, logical, or by words alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reference<'a> {
    #[serde(rename = "reference", skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identifier: Option<Box<Identifier<'a>>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub display: Cow<'a, str>,
}

impl<'a> Reference<'a> {
    /// A literal reference.
    pub fn to(resource_type: &'static str, id: Id) -> Self {
        Self { target: Some(Target { resource_type, id }), ..Self::default() }
    }

    /// The same with words for people.
    #[must_use]
    pub fn shown_as(mut self, display: impl Into<Cow<'a, str>>) -> Self {
        self.display = display.into();
        self
    }
}

/// `Period`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Period<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<&'a str>,
}

impl<'a> Period<'a> {
    /// The period, if one end is known.
    pub fn of(start: Option<&'a str>, end: Option<&'a str>) -> Option<Self> {
        (start.is_some() || end.is_some()).then_some(Self { start, end })
    }
}

/// `Identifier`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Identifier<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extension: Vec<Extension<'a>>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<&'static str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Concept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub value: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<Period<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assigner: Option<Reference<'a>>,
}

/// What stands beside a primitive (`_gender`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Beside<'a> {
    pub extension: Vec<Extension<'a>>,
}

impl<'a> Beside<'a> {
    /// One extension beside a primitive.
    pub fn one(url: &'static str, value: Value<'a>) -> Self {
        Self { extension: vec![Extension { url, value }] }
    }
}

/// `HumanName`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HumanName<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extension: Vec<Extension<'a>>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<&'static str>,
    #[serde(rename = "_use", skip_serializing_if = "Option::is_none")]
    pub usage_beside: Option<Beside<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub text: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub family: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefix: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suffix: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<Period<'a>>,
}

/// `ContactPoint`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ContactPoint<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extension: Vec<Extension<'a>>,
    pub system: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub value: &'a str,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<&'static str>,
    #[serde(rename = "_use", skip_serializing_if = "Option::is_none")]
    pub usage_beside: Option<Beside<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<Period<'a>>,
}

/// `Address`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Address<'a> {
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<&'static str>,
    #[serde(rename = "_use", skip_serializing_if = "Option::is_none")]
    pub usage_beside: Option<Beside<'a>>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub text: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub line: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    pub city: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub district: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub state: &'a str,
    #[serde(rename = "postalCode", skip_serializing_if = "str::is_empty")]
    pub postal_code: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub country: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<Period<'a>>,
}

/// `Extension`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension<'a> {
    pub url: &'static str,
    pub value: Value<'a>,
}

/// The value of an extension, of the types that we use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    Text(&'a str),
    Code(&'a str),
    DateTime(&'a str),
    Uuid(Id),
    Boolean(bool),
    Coding(Coding<'a>),
    Concept(Concept<'a>),
    Address(Box<Address<'a>>),
    Identifier(Box<Identifier<'a>>),
    Reference(Reference<'a>),
    Nested(Vec<Extension<'a>>),
}

impl Serialize for Extension<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        if let Value::Nested(parts) = &self.value {
            map.serialize_entry("extension", parts)?;
        }
        map.serialize_entry("url", self.url)?;
        match &self.value {
            Value::Text(value) => map.serialize_entry("valueString", value)?,
            Value::Code(value) => map.serialize_entry("valueCode", value)?,
            Value::DateTime(value) => map.serialize_entry("valueDateTime", value)?,
            Value::Uuid(value) => map.serialize_entry("valueUuid", &Urn(*value))?,
            Value::Boolean(value) => map.serialize_entry("valueBoolean", value)?,
            Value::Coding(value) => map.serialize_entry("valueCoding", value)?,
            Value::Concept(value) => map.serialize_entry("valueCodeableConcept", value)?,
            Value::Address(value) => map.serialize_entry("valueAddress", value)?,
            Value::Identifier(value) => map.serialize_entry("valueIdentifier", value)?,
            Value::Reference(value) => map.serialize_entry("valueReference", value)?,
            Value::Nested(_) => {}
        }
        map.end()
    }
}

/// An id as `urn:uuid:…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Urn(pub Id);

impl Serialize for Urn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("urn:uuid:{}", self.0))
    }
}

/// `Meta`; the chart adds `versionId` and `lastUpdated`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Meta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Urn>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security: Vec<Coding<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag: Vec<Coding<'a>>,
}
