//! One request as its handler sees it: who asks, in which language, and what the audit log will say about it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use hilum_core::{Authority, Digest, Id, Kind, Phi, Role, Seq, Timestamp};
use serde::Serialize;

use crate::audit::Action;
use crate::limits;
use crate::outcome::Fault;
use crate::page::Page;
use crate::route::RouteInfo;
use crate::shell::Shell;
use crate::words::{Lang, Words};

/// Light, dark, or as the machine is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// As the machine is set.
    Auto,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

impl Theme {
    /// All themes.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Light, Self::Dark];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// Its word's key.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "theme.auto",
            Self::Light => "theme.light",
            Self::Dark => "theme.dark",
        }
    }

    /// By its name.
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|theme| theme.as_str() == raw)
    }
}

/// How somebody proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// By a session's cookie; the digest of its token.
    Session(Digest),
    /// By an API key; the digest of it.
    Key(Digest),
}

impl Via {
    pub(crate) const fn digest(&self) -> &Digest {
        match self {
            Self::Session(digest) | Self::Key(digest) => digest,
        }
    }
}

/// Somebody who proved who they are.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// Name and role.
    pub authority: Authority,
    /// How.
    pub via: Via,
}

/// What the audit log will say beside who, when and where.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub action: Option<Action>,
    pub patients: BTreeSet<Id>,
    /// Whether there were more than a request names.
    pub is_more_patients: bool,
    pub rows: Option<u64>,
    pub details: Vec<String>,
    /// What was typed so far, of a search that is answered letter by letter.
    pub typed: Option<Phi<String>>,
    /// Who it was, where the request itself found that out (sign-in).
    pub principal: Option<(String, Option<Role>)>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub shell: Shell,
    pub route: &'static RouteInfo,
    pub request: Id,
    pub at: Timestamp,
    /// The newest commit that was known before anything was read: where a live page goes on from.
    pub from: Seq,
    pub words: Words,
    pub theme: Theme,
    pub signed_in: Option<SignedIn>,
    pub peer: Option<IpAddr>,
    /// Path and query as they came: to come back to. Never logged.
    pub target: String,
    /// By which name we were asked. Anybody may write anything there.
    pub host: Option<String>,
    pub is_htmx: bool,
    /// Whether a proxy says that it forwards for somebody.
    pub is_forwarded: bool,
    pub is_live: bool,
    pub wants_html: bool,
    pub notes: Mutex<Notes>,
}

/// One request. Every handler can extract it, also of a public route.
#[derive(Debug, Clone)]
pub struct Visit(pub(crate) Arc<Inner>);

impl Visit {
    /// The header `Host` as it came: what somebody said, not what is so.
    pub fn host(&self) -> Option<&str> {
        self.0.host.as_deref()
    }

    /// Words in the reader's language.
    pub fn words(&self) -> Words {
        self.0.words.clone()
    }

    /// The reader's language.
    pub fn lang(&self) -> Lang {
        self.0.words.lang()
    }

    /// When the request came in, by the shell's clock.
    pub fn at(&self) -> Timestamp {
        self.0.at
    }

    /// The shell.
    pub fn shell(&self) -> &Shell {
        &self.0.shell
    }

    /// The request's id, as answered in `X-Request-Id`.
    pub fn request(&self) -> Id {
        self.0.request
    }

    /// Who asks, if they proved it.
    pub fn signed_in(&self) -> Option<&SignedIn> {
        self.0.signed_in.as_ref()
    }

    /// Whether the asker is one of `roles`: for what a page shows only to some.
    pub fn is(&self, roles: &[Role]) -> bool {
        self.0.signed_in.as_ref().is_some_and(|who| roles.contains(&who.authority.role()))
    }

    /// Whether htmx asks: answer with a fragment.
    pub fn is_htmx(&self) -> bool {
        self.0.is_htmx
    }

    /// The token that forms carry as `_csrf`. Empty without a session.
    pub fn csrf(&self) -> String {
        match &self.0.signed_in {
            Some(SignedIn { via: Via::Session(digest), .. }) => self.0.shell.csrf_token(digest),
            _ => String::new(),
        }
    }

    /// Writes down that the answer shows this patient.
    pub fn saw(&self, patient: Id) {
        let mut notes = self.notes();
        if notes.patients.len() < limits::AUDIT_PATIENTS_MAX {
            notes.patients.insert(patient);
        } else {
            notes.is_more_patients |= !notes.patients.contains(&patient);
        }
    }

    /// Writes down how many rows the answer shows.
    pub fn saw_rows(&self, rows: u64) {
        self.notes().rows = Some(rows);
    }

    /// Writes down another action than the route's own (a page that is printed or exported).
    pub fn acted(&self, action: Action) {
        self.notes().action = Some(action);
    }

    /// Writes down an id or a count. No patient data.
    pub fn detail(&self, detail: impl Into<String>) {
        self.notes().details.push(detail.into());
    }

    /// Says what was typed so far, where a page searches while somebody types: the audit log names each patient that a
    /// growing search shows once, not once a letter. It is not kept.
    pub fn typed(&self, text: &str) {
        self.notes().typed = Some(Phi::new(text.to_owned()));
    }

    pub(crate) fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page with the house's frame around it.
    pub fn page(&self, title: impl Into<String>) -> Page {
        Page::new(self.clone(), title.into())
    }

    /// A bare piece of a page, for htmx.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the template fails.
    pub fn fragment(&self, template: &impl askama::Template) -> Result<Response, Fault> {
        let html = template.render().map_err(|error| Fault::because(Kind::Internal, &error))?;
        Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response())
    }

    /// As [`Visit::fragment`], and the page's address becomes `path`, so that its choices survive a reload. Nothing that
    /// was typed may stand in it.
    ///
    /// # Errors
    /// As [`Visit::fragment`].
    pub fn fragment_at(&self, path: &str, template: &impl askama::Template) -> Result<Response, Fault> {
        let mut response = self.fragment(template)?;
        let path = HeaderValue::from_str(path).map_err(|error| Fault::because(Kind::Internal, &error))?;
        response.headers_mut().insert("hx-replace-url", path);
        Ok(response)
    }

    /// A JSON answer.
    ///
    /// # Errors
    /// [`Kind::Internal`] when `value` does not serialize.
    pub fn json(&self, value: &impl Serialize) -> Result<Response, Fault> {
        // The error names a type and a place, never a value of ours: keys are strings.
        let body = serde_json::to_vec(value).map_err(|error| Fault::because(Kind::Internal, &error))?;
        Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
    }

    /// A redirect after a form: `303 See Other`, or by htmx's header where htmx asked.
    pub fn go(&self, path: &str) -> Response {
        if self.0.is_htmx {
            return ([("HX-Redirect", path.to_owned())], axum::http::StatusCode::NO_CONTENT).into_response();
        }
        axum::response::Redirect::to(path).into_response()
    }
}

impl<S: Sync> FromRequestParts<S> for Visit {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        // Absent only where a handler was mounted past the shell.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Fault::new(Kind::Internal))
    }
}

/// A visit by somebody who proved who they are.
#[derive(Debug, Clone)]
pub struct Caller {
    visit: Visit,
    /// On whose behalf everything is read and done.
    pub authority: Authority,
}

impl Deref for Caller {
    type Target = Visit;

    fn deref(&self) -> &Visit {
        &self.visit
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let visit = Visit::from_request_parts(parts, state).await?;
        let authority = match &visit.0.signed_in {
            Some(who) => who.authority.clone(),
            None => return Err(Fault::new(Kind::Unauthenticated)),
        };
        Ok(Self { visit, authority })
    }
}

/// The value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}
