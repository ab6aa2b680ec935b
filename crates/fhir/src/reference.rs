//! References (<https://hl7.org/fhir/R4/references.html#literal>).

use std::fmt;
use std::str::FromStr;

use crate::limits::REFERENCE_BYTES_MAX;
use crate::resource::{FhirId, TypeName};

/// A text that is no reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a reference: take Type/id, Type/id/_history/version, #id, urn:… or an absolute URL")]
pub struct ReferenceError;

/// A literal reference.
///
/// ```
/// use hilum_fhir::Reference;
/// let one: Reference = "Patient/p1/_history/3".parse().unwrap();
/// assert!(matches!(&one, Reference::Relative { version: Some(v), .. } if v.as_str() == "3"));
/// assert_eq!(one.to_string(), "Patient/p1/_history/3");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// `Type/id` or `Type/id/_history/version` on this server.
    Relative {
        /// The type.
        resource_type: TypeName,
        /// The logical id.
        id: FhirId,
        /// The version, if one is named.
        version: Option<FhirId>,
    },
    /// `#id`: within the same resource; empty = the resource itself.
    Contained(String),
    /// `urn:uuid:…`, `urn:oid:…`.
    Urn(String),
    /// An absolute `http` or `https` URL, as it came.
    Absolute(String),
}

impl Reference {
    /// `Type/id` of a resource of the chart.
    ///
    /// # Errors
    /// [`ReferenceError`] when `resource_type` is no type name.
    pub fn to(resource_type: &str, id: hilum_core::Id) -> Result<Self, ReferenceError> {
        let resource_type = TypeName::parse(resource_type).map_err(|_| ReferenceError)?;
        Ok(Self::Relative { resource_type, id: id.into(), version: None })
    }

    /// Type and id, of a relative reference only.
    pub fn target(&self) -> Option<(&TypeName, &FhirId)> {
        match self {
            Self::Relative { resource_type, id, .. } => Some((resource_type, id)),
            Self::Contained(_) | Self::Urn(_) | Self::Absolute(_) => None,
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(raw: &str) -> Result<Self, ReferenceError> {
        if raw.len() > REFERENCE_BYTES_MAX || raw.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(ReferenceError);
        }
        if let Some(id) = raw.strip_prefix('#') {
            return Ok(Self::Contained(id.to_owned()));
        }
        let after = |scheme: &str| raw.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty());
        if after("urn:") {
            return Ok(Self::Urn(raw.to_owned()));
        }
        if after("http://") || after("https://") {
            return Ok(Self::Absolute(raw.to_owned()));
        }
        let parts: Vec<&str> = raw.split('/').collect();
        let (resource_type, id, version) = match parts.as_slice() {
            [resource_type, id] => (resource_type, id, None),
            [resource_type, id, "_history", version] => (resource_type, id, Some(version)),
            _ => return Err(ReferenceError),
        };
        Ok(Self::Relative {
            resource_type: TypeName::parse(resource_type).map_err(|_| ReferenceError)?,
            id: FhirId::parse(id).map_err(|_| ReferenceError)?,
            version: version.map(|version| FhirId::parse(version)).transpose().map_err(|_| ReferenceError)?,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relative { resource_type, id, version: None } => write!(f, "{resource_type}/{id}"),
            Self::Relative { resource_type, id, version: Some(version) } => {
                write!(f, "{resource_type}/{id}/_history/{version}")
            }
            Self::Contained(id) => write!(f, "#{id}"),
            Self::Urn(raw) | Self::Absolute(raw) => f.write_str(raw),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        let cases = [
            ("relative", "Patient/p-1", true),
            ("versioned", "Patient/p-1/_history/12", true),
            ("contained", "#p", true),
            ("the resource itself", "#", true),
            ("urn", "urn:uuid:0194d0a5-0000-7000-8000-000000000000", true),
            ("absolute", "https://example.org/fhir/Patient/1", true),
            ("type alone", "Patient", false),
            ("no id", "Patient/", false),
            ("lower case type", "patient/1", false),
            ("too many parts", "Patient/1/2", false),
            ("empty", "", false),
            ("space", "Patient/ 1", false),
            ("scheme alone", "http://", false),
            ("another scheme", "file:///etc/passwd", false),
        ];
        for (why, raw, ok) in cases {
            let got = raw.parse::<Reference>();
            assert_eq!(got.is_ok(), ok, "{why}");
            if let Ok(reference) = got {
                assert_eq!(reference.to_string(), raw, "{why}");
            }
        }
    }
}
