//! Queries whose parameters are known by name: what is wrong in one is said by its name and what it takes, never by
//! what was sent.
//!
//! ```
//! use hilum_web::params::{Parameters, Takes};
//!
//! #[derive(serde::Deserialize)]
//! struct Asked {
//!     status: Option<String>,
//!     limit: Option<u32>,
//! }
//!
//! impl Parameters for Asked {
//!     const NAMES: &'static [&'static str] = &["status", "limit"];
//!
//!     fn takes(name: &str) -> Takes {
//!         match name {
//!             "status" => Takes::OneOf(&["open", "closed"]),
//!             _ => Takes::Words(&["a number"]),
//!         }
//!     }
//! }
//! ```

use axum::extract::{Form, FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{Method, Uri};
use hilum_core::Kind;
use serde::de::DeserializeOwned;

use crate::outcome::Fault;

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Any text.
    Text,
    /// One of these values.
    OneOf(&'static [&'static str]),
    /// What these words say; its type checks it.
    Words(&'static [&'static str]),
}

/// What a query may ask.
pub trait Parameters: DeserializeOwned {
    /// All parameters that the route has.
    const NAMES: &'static [&'static str];

    /// What the parameter of this name takes.
    fn takes(name: &str) -> Takes;
}

/// A query, checked. An empty value counts as absent, as forms send it.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<T: Parameters> Params<T> {
    /// Reads a query string.
    ///
    /// # Errors
    /// Names the parameter that is wrong.
    pub fn parse(query: &str) -> Result<T, Fault> {
        let mut pairs = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let Some(name) = T::NAMES.iter().copied().find(|known| *known == name) else {
                return Err(Fault::unknown_parameter(T::NAMES));
            };
            if value.is_empty() {
                continue;
            }
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(Fault::parameter(name, &["one value"]));
            }
            match T::takes(name) {
                Takes::OneOf(values) if !values.contains(&value.as_ref()) => {
                    return Err(Fault::parameter(name, values));
                }
                // No text of ours holds one, and no engine compares it.
                _ if value.contains('\0') => return Err(Fault::parameter(name, &["text without NUL"])),
                _ => pairs.push((name, value)),
            }
        }
        let read = |pairs: &[(&'static str, std::borrow::Cow<'_, str>)]| {
            let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
            let uri: Uri = format!("/?{query}").parse().ok()?;
            Query::<T>::try_from_uri(&uri).ok().map(|Query(asked)| asked)
        };
        if let Some(asked) = read(&pairs) {
            return Ok(asked);
        }
        // Each alone: the one that does not go is the one that is wrong.
        let wrong = pairs.iter().find(|pair| read(std::slice::from_ref(*pair)).is_none());
        Err(match wrong.map(|(name, _)| (*name, T::takes(name))) {
            Some((name, Takes::OneOf(takes) | Takes::Words(takes))) => Fault::parameter(name, takes),
            Some((_, Takes::Text)) | None => Fault::new(Kind::Invalid),
        })
    }
}

impl<S: Sync, T: Parameters> FromRequestParts<S> for Params<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        Self::parse(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// What a page is asked for: by its address, checked as [`Params`] does, or by the form on it, where what is typed
/// comes by POST. One handler for both.
#[derive(Debug)]
pub struct Given<T>(pub T);

impl<S: Send + Sync, T: Parameters> FromRequest<S> for Given<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        if request.method() == Method::POST {
            // The reason may quote what was typed: it goes nowhere.
            let form =
                Form::<T>::from_request(request, state).await.map_err(|_| Fault::new(Kind::Invalid))?;
            return Ok(Self(form.0));
        }
        Params::parse(request.uri().query().unwrap_or_default()).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Asked {
        status: Option<String>,
        rule: Option<String>,
        limit: Option<u32>,
    }

    impl Parameters for Asked {
        const NAMES: &'static [&'static str] = &["status", "rule", "limit"];

        fn takes(name: &str) -> Takes {
            match name {
                "status" => Takes::OneOf(&["open", "closed"]),
                "limit" => Takes::Words(&["a number"]),
                _ => Takes::Text,
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_us_and_never_quoted() {
        let asked =
            |status: Option<&str>, limit| Asked { status: status.map(str::to_owned), rule: None, limit };
        assert_eq!(
            Params::<Asked>::parse("status=open&limit=7&rule=").ok(),
            Some(asked(Some("open"), Some(7)))
        );
        assert_eq!(Params::<Asked>::parse("").ok(), Some(asked(None, None)));
        let cases = [
            ("another value", "status=x", "status takes: open, closed."),
            ("another type", "status=open&limit=Kim", "limit takes: a number."),
            ("NUL", "rule=%00", "rule takes: text without NUL."),
            ("twice", "rule=a&rule=b", "rule takes: one value."),
            ("no such parameter", "Kim=1", " has: status, rule, limit."),
        ];
        for (why, query, want) in cases {
            let fault = Params::<Asked>::parse(query).err();
            let said = fault.map(|fault| match fault.word() {
                "parameter" => fault.fill("{name} takes: {takes}."),
                _ => fault.fill("{name} has: {takes}."),
            });
            assert_eq!(said.as_deref(), Some(want), "{why}");
        }
    }
}
