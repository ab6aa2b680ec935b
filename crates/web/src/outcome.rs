//! The one place that turns an error into an HTTP answer.
//!
//! A handler returns a [`Fault`]; the shell's outermost layer renders it: a page for a browser, a fragment for
//! htmx, problem JSON for everyone else. Whatever other error answer comes out of the stack (a rejected extractor,
//! say, whose text may quote the request) is replaced by the same forms. A door that answers errors in a form of its
//! own marks them with [`own`].

use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hilum_core::Kind;
use hilum_engines::tables::TablesError;

/// A failure on its way to an answer: what the caller may do, and which words say it. Holds no patient data.
#[derive(Debug, Clone)]
pub struct Fault {
    kind: Kind,
    /// Key under `fault.`: `fault.<word>.title`, `.text`, `.help`.
    word: &'static str,
    status: Option<StatusCode>,
    retry_after_s: Option<u32>,
    /// The parameter that is wrong, and what it takes: words of ours, never what was sent.
    parameter: Option<(&'static str, &'static [&'static str])>,
}

impl Fault {
    /// A failure of `kind` in its general words.
    pub const fn new(kind: Kind) -> Self {
        let word = match kind {
            Kind::Invalid => "invalid",
            Kind::Unauthenticated => "unauthenticated",
            Kind::Forbidden => "forbidden",
            Kind::NotFound => "not_found",
            Kind::TooLarge => "too_large",
            Kind::Conflict => "conflict",
            Kind::Transient => "transient",
            Kind::Internal => "internal",
        };
        Self { kind, word, status: None, retry_after_s: None, parameter: None }
    }

    /// A failure of `kind` in words of its own: `fault.<word>.title`, `.text` and `.help` of a word file.
    pub const fn worded(kind: Kind, word: &'static str) -> Self {
        Self { word, ..Self::new(kind) }
    }

    /// A parameter of an address that is not one of what it takes (`takes`: values, or words for them).
    pub const fn parameter(name: &'static str, takes: &'static [&'static str]) -> Self {
        Self { parameter: Some((name, takes)), ..Self::worded(Kind::Invalid, "parameter") }
    }

    /// A body that is not what the route takes (`takes`: words for it).
    pub const fn body(takes: &'static [&'static str]) -> Self {
        Self { parameter: Some(("", takes)), ..Self::worded(Kind::Invalid, "body") }
    }

    /// A query parameter that the route does not have; `known` are those that it has.
    pub const fn unknown_parameter(known: &'static [&'static str]) -> Self {
        Self { parameter: Some(("", known)), ..Self::worded(Kind::Invalid, "parameter_unknown") }
    }

    /// A failure of `kind` whose cause goes to the log (and nowhere else). `cause` must hold no patient data:
    /// the error enums of the house do not.
    pub fn because(kind: Kind, cause: &(dyn fmt::Display + '_)) -> Self {
        match kind {
            Kind::Internal => tracing::error!(%cause, "request failed"),
            Kind::Transient => tracing::warn!(%cause, "request failed for now"),
            _ => tracing::debug!(%cause, ?kind, "request refused"),
        }
        Self::new(kind)
    }

    /// With a status of its own where the kind's is too coarse (405, 408).
    #[must_use]
    pub const fn status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// With `Retry-After`.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// What the caller may do.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The word's key without `fault.`.
    pub const fn word(&self) -> &'static str {
        self.word
    }

    /// The HTTP status.
    pub fn status_code(&self) -> StatusCode {
        self.status.unwrap_or(match self.kind {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Transient => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        })
    }

    /// `text` with the parameter's name and what it takes.
    pub(crate) fn fill(&self, text: &str) -> String {
        let Some((name, takes)) = self.parameter else { return text.to_owned() };
        text.replace("{name}", name).replace("{takes}", &takes.join(", "))
    }

    /// The kind's name on the wire.
    pub const fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Invalid => "invalid",
            Kind::Unauthenticated => "unauthenticated",
            Kind::Forbidden => "forbidden",
            Kind::NotFound => "not-found",
            Kind::TooLarge => "too-large",
            Kind::Conflict => "conflict",
            Kind::Transient => "transient",
            Kind::Internal => "internal",
        }
    }

    /// What a status that nobody worded means.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::new(Kind::Unauthenticated),
            StatusCode::FORBIDDEN => Self::new(Kind::Forbidden),
            StatusCode::NOT_FOUND => Self::new(Kind::NotFound),
            StatusCode::METHOD_NOT_ALLOWED => Self::worded(Kind::Invalid, "method").status(status),
            StatusCode::REQUEST_TIMEOUT => Self::worded(Kind::Transient, "timeout").status(status),
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(Kind::TooLarge),
            StatusCode::CONFLICT => Self::new(Kind::Conflict),
            StatusCode::SERVICE_UNAVAILABLE => Self::new(Kind::Transient),
            _ if status.is_client_error() => Self::new(Kind::Invalid).status(status),
            _ => Self::new(Kind::Internal),
        }
    }
}

impl From<TablesError> for Fault {
    fn from(error: TablesError) -> Self {
        Self::because(error.kind(), &error)
    }
}

impl IntoResponse for Fault {
    /// Bare: the shell's layer writes the body, in the reader's language and form.
    fn into_response(self) -> Response {
        let mut response = self.status_code().into_response();
        if let Some(seconds) = self.retry_after_s.or((self.kind == Kind::Transient).then_some(2)) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == Kind::Unauthenticated {
            let challenge = HeaderValue::from_static("Bearer realm=\"hilum\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Marks an error answer whose body is the door's own (an HL7 acknowledgment, a form with its findings): the shell
/// leaves it as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own;

/// Marks `response` as the handler's own, so that the shell does not replace its body though its status is an error.
pub fn own(mut response: Response) -> Response {
    response.extensions_mut().insert(Own);
    response
}
