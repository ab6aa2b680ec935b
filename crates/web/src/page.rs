//! The frame around every page, and the page that a failure becomes.

use askama::Template;
use axum::http::response::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hilum_core::{Id, Kind};
use hilum_fhir::{IssueType, OperationOutcome, Severity};
use serde_json::json;

use crate::assets::{URLS, Urls};
use crate::outcome::Fault;
use crate::route::{Access, READERS, Surface};
use crate::shell::FeedHealth;
use crate::visit::{Theme, Visit};
use crate::words::{Lang, Words};

/// One item of the top bar.
struct Item {
    href: &'static str,
    word: &'static str,
    is_here: bool,
}

#[derive(Template)]
#[template(path = "layout.html")]
struct Layout<'a> {
    w: Words,
    urls: &'static Urls,
    title: &'a str,
    theme: Theme,
    themes: [Theme; 3],
    items: Vec<Item>,
    user: Option<(String, &'static str)>,
    csrf: String,
    health: Option<FeedHealth>,
    is_demo: bool,
    /// Topics to listen to; `None` = this reader has no event stream.
    topics: Option<String>,
    /// Where the event stream begins: before anything that the page shows was read.
    from: i64,
    banner: Option<&'a str>,
    body: &'a str,
    is_wide: bool,
    is_bare: bool,
    printed: String,
    /// When it was made, for bodies that do not say so themselves: for machines and for people.
    as_of: Option<(String, String)>,
}

/// A page on its way out: [`Visit::page`] begins it, [`Page::body`] ends it.
#[derive(Debug)]
#[must_use]
pub struct Page {
    visit: Visit,
    title: String,
    here: Option<&'static str>,
    banner: Option<String>,
    topics: Vec<&'static str>,
    is_wide: bool,
    is_bare: bool,
    says_as_of: bool,
    status: StatusCode,
}

impl Page {
    pub(crate) fn new(visit: Visit, title: String) -> Self {
        let here = Some(visit.0.route.path);
        Self {
            visit,
            title,
            here,
            banner: None,
            topics: Vec::new(),
            is_wide: false,
            is_bare: false,
            says_as_of: false,
            status: StatusCode::OK,
        }
    }

    /// Belongs to the top bar's item of this path (a message's page to `/messages`).
    pub const fn under(mut self, path: &'static str) -> Self {
        self.here = Some(path);
        self
    }

    /// With a patient banner that never scrolls away.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the template fails.
    pub fn banner(mut self, banner: &impl Template) -> Result<Self, Fault> {
        self.banner = Some(banner.render().map_err(|error| Fault::because(Kind::Internal, &error))?);
        Ok(self)
    }

    /// Listens to these topics while it is visible; each change fires the event `change:<topic>` on `body`, for
    /// `hx-trigger="change:adt.board from:body"`.
    pub fn live(mut self, topics: &[&'static str]) -> Self {
        self.topics = topics.to_vec();
        self
    }

    /// Uses the whole width (boards, long tables).
    pub const fn wide(mut self) -> Self {
        self.is_wide = true;
        self
    }

    /// Without top bar (sign-in).
    pub const fn bare(mut self) -> Self {
        self.is_bare = true;
        self
    }

    /// Whose body says itself how old it is.
    pub const fn says_as_of(mut self) -> Self {
        self.says_as_of = true;
        self
    }

    /// With another status than 200.
    pub const fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The whole page around `body`.
    ///
    /// # Errors
    /// [`Kind::Internal`] when a template fails.
    pub fn body(self, body: &impl Template) -> Result<Response, Fault> {
        let fail = |error: askama::Error| Fault::because(Kind::Internal, &error);
        let body = body.render().map_err(fail)?;
        let inner = &self.visit.0;
        let role = inner.signed_in.as_ref().map(|who| who.authority.role());
        let items = inner
            .shell
            .nav()
            .iter()
            .filter(|(route, _)| route.allows(role) && route.access != Access::Public)
            .map(|(route, nav)| Item {
                href: route.path,
                word: nav.word,
                is_here: self.here == Some(route.path),
            })
            .collect();
        let user = inner
            .signed_in
            .as_ref()
            .map(|who| (who.authority.principal().to_owned(), who.authority.role().as_str()));
        let words = self.visit.words();
        let printed_by = user.as_ref().map_or("", |(name, _)| name.as_str());
        let printed = words.f("page.printed", &[("at", &words.at(&inner.at)), ("who", &printed_by)]);
        let page = Layout {
            urls: &URLS,
            title: &self.title,
            theme: inner.theme,
            themes: Theme::ALL,
            items,
            user,
            csrf: self.visit.csrf(),
            health: role.and_then(|_| inner.shell.feed_health()),
            is_demo: inner.shell.is_demo(),
            topics: role.filter(|role| READERS.contains(role)).map(|_| self.topics.join(",")),
            from: inner.from.0,
            banner: self.banner.as_deref(),
            body: &body,
            is_wide: self.is_wide,
            is_bare: self.is_bare,
            printed,
            as_of: (!self.says_as_of && !self.is_bare)
                .then(|| (words.machine(&inner.at), words.at_second(&inner.at))),
            w: words,
        };
        let html = page.render().map_err(fail)?;
        Ok((self.status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response())
    }
}

#[derive(Template)]
#[template(path = "failure.html")]
struct Failure {
    title: String,
    text: String,
    help: String,
    status: u16,
    request: Id,
    request_word: String,
    home: Option<&'static str>,
    home_word: String,
    is_now: bool,
    /// Whether the page asks again by itself: what an engine could not say just now.
    is_tried_again: bool,
}

/// Words of a failure with what they leave open: a parameter's name, how much the route takes.
fn filled(visit: &Visit, fault: &Fault, text: &str) -> String {
    let bytes = visit.0.route.body_bytes_max;
    let bound = if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) };
    fault.fill(text).replace("{bound}", &bound)
}

fn failure_of(visit: &Visit, fault: &Fault) -> Failure {
    let words = visit.words();
    let word = |part: &str| {
        let own = format!("fault.{}.{part}", fault.word());
        filled(visit, fault, words.get(&own).unwrap_or_else(|| words.t("fault.internal.text")))
    };
    let role = visit.signed_in().map(|who| who.authority.role());
    let home = visit.shell().home(role);
    Failure {
        title: word("title"),
        text: word("text"),
        help: word("help"),
        status: fault.status_code().as_u16(),
        request: visit.request(),
        request_word: words.t("fault.request").to_owned(),
        home: (fault.kind() != Kind::Unauthenticated).then_some(home),
        home_word: words.t("fault.home").to_owned(),
        is_now: matches!(fault.kind(), Kind::Internal | Kind::Transient),
        is_tried_again: fault.kind() == Kind::Transient && visit.0.route.method == axum::http::Method::GET,
    }
}

/// What a failure becomes: a page, a fragment, or JSON; for a browser that is not signed in, the way there.
pub(crate) fn failure(visit: &Visit, fault: &Fault, bare: Response) -> Response {
    let (mut parts, _) = bare.into_parts();
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    if visit.0.wants_html && fault.kind() == Kind::Unauthenticated && fault.word() == "unauthenticated" {
        return visit.go(&sign_in_path(visit));
    }
    let failure = failure_of(visit, fault);
    let body = if !visit.0.wants_html {
        let english = Words::new(visit.shell().dictionary(), Lang::En, visit.shell().zone().clone());
        let word = |part: &str| {
            filled(visit, fault, english.get(&format!("fault.{}.{part}", fault.word())).unwrap_or_default())
        };
        if is_fhir(visit) {
            let text = format!("{} {}", word("text"), word("help"));
            let outcome = OperationOutcome::one(Severity::Error, issue_of(fault.kind()), text.trim_end());
            let body = ([(header::CONTENT_TYPE, FHIR_JSON)], outcome.to_json()).into_response();
            return joined(parts, body);
        }
        let error = json!({"error": {
            "kind": fault.kind_name(),
            "message": word("text"),
            "help": word("help"),
            "request": visit.request().to_string(),
        }});
        ([(header::CONTENT_TYPE, "application/json")], error.to_string()).into_response()
    } else if visit.is_htmx() {
        visit.fragment(&failure).unwrap_or_else(|_| parts.status.into_response())
    } else {
        let page = visit.page(failure.title.clone()).says_as_of();
        let page = if visit.signed_in().is_none() { page.bare() } else { page };
        page.body(&failure).unwrap_or_else(|_| parts.status.into_response())
    };
    joined(parts, body)
}

/// The body's headers and the body under the answer's own.
fn joined(mut parts: Parts, body: Response) -> Response {
    let (own, body) = body.into_parts();
    parts.headers.extend(own.headers);
    Response::from_parts(parts, body)
}

/// Whether a client of the FHIR window asked, also for what is not there.
fn is_fhir(visit: &Visit) -> bool {
    let path = visit.0.target.split('?').next().unwrap_or_default();
    visit.0.route.surface == Surface::Fhir || path == "/fhir" || path.starts_with("/fhir/")
}

/// The media type of FHIR as JSON.
const FHIR_JSON: &str = "application/fhir+json; charset=utf-8";

const fn issue_of(kind: Kind) -> IssueType {
    match kind {
        Kind::Invalid => IssueType::Invalid,
        Kind::Unauthenticated => IssueType::Login,
        Kind::Forbidden => IssueType::Forbidden,
        Kind::NotFound => IssueType::NotFound,
        Kind::TooLarge => IssueType::TooLong,
        Kind::Conflict => IssueType::Conflict,
        Kind::Transient => IssueType::Transient,
        Kind::Internal => IssueType::Exception,
    }
}

/// Where to sign in, and where to come back to: only paths that hold nothing but our own words and ids.
fn sign_in_path(visit: &Visit) -> String {
    let route = visit.0.route;
    let path = visit.0.target.split('?').next().unwrap_or("/");
    let is_ours = route.surface == Surface::Page
        && route.method == axum::http::Method::GET
        && path.split('/').zip(route.path.split('/')).all(|(part, template)| {
            part == template || (template.starts_with('{') && part.parse::<Id>().is_ok())
        });
    if is_ours && path != "/" { format!("/sign-in?to={path}") } else { "/sign-in".to_owned() }
}
