//! Routes as data: what is not in the table does not exist, and the table says who may.
//!
//! ```
//! use hilum_web::route::{Access, Route, Surface, READERS};
//! use hilum_web::visit::Caller;
//!
//! async fn hello(caller: Caller) -> String {
//!     format!("hello {}", caller.authority.principal())
//! }
//! let route = Route::get("/hello", Access::Roles(READERS), Surface::Page, (), hello);
//! assert_eq!(route.info().path, "/hello");
//! ```

use std::path::Path;
use std::time::Duration;

use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};
use hilum_core::Role;

use crate::audit::Action;
use crate::limits;

/// Who reads charts.
pub const READERS: &[Role] = &[Role::Viewer, Role::Operator, Role::Admin];
/// Who mends: quarantine, work queue, merges.
pub const OPERATORS: &[Role] = &[Role::Operator, Role::Admin];
/// Who minds accounts, keys and the audit log.
pub const ADMINS: &[Role] = &[Role::Admin];
/// Who sends messages in.
pub const FEEDS: &[Role] = &[Role::Feed, Role::Admin];
/// Everyone who proved who they are.
pub const EVERYONE: &[Role] = &Role::ALL;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Public,
    /// These roles.
    Roles(&'static [Role]),
    /// These roles, and a peer on loopback that no proxy forwards for (a metrics scraper).
    LoopbackOr(&'static [Role]),
    /// These roles, by a person who is signed in: an API key is no person.
    People(&'static [Role]),
}

/// What kind of answer a route gives; decides how a failure looks and which credentials count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// A page or a piece of one.
    Page,
    /// JSON.
    Api,
    /// Messages in: API keys only, answers of its own form.
    Door,
    /// A stream of events.
    Live,
    /// The FHIR window: failures are OperationOutcomes.
    Fhir,
}

impl Surface {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Api => "api",
            Self::Door => "door",
            Self::Live => "live",
            Self::Fhir => "fhir",
        }
    }
}

/// A place in the top bar: shown to whoever may open the route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nav {
    /// The word's key (`nav.census`).
    pub word: &'static str,
    /// Smaller is further left.
    pub order: u8,
}

/// One line of the route table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteInfo {
    /// The method.
    pub method: Method,
    /// The template (`/patients/{id}`).
    pub path: &'static str,
    /// Who may.
    pub access: Access,
    /// What kind of answer.
    pub surface: Surface,
    /// What the audit log calls it; absent = it shows nothing about anybody.
    pub audit: Option<Action>,
    /// Whether that it exists is a secret: 404 instead of 403.
    pub is_secret: bool,
    /// Body bytes.
    pub body_bytes_max: usize,
    /// Time for request and answer.
    pub timeout: Duration,
    /// Its place in the top bar.
    pub nav: Option<Nav>,
}

impl RouteInfo {
    /// Whether `role` may use it (`None` = nobody proved who they are); [`Access::People`] asks for a session besides.
    pub fn allows(&self, role: Option<Role>) -> bool {
        match self.access {
            Access::Public => true,
            Access::Roles(roles) | Access::LoopbackOr(roles) | Access::People(roles) => {
                role.is_some_and(|role| roles.contains(&role))
            }
        }
    }

    /// `GET /patients/{id}`.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// One route with its handler.
pub struct Route {
    info: RouteInfo,
    pub(crate) handler: MethodRouter,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.info.fmt(f)
    }
}

impl Route {
    fn new<H, T, S>(
        method: Method,
        path: &'static str,
        access: Access,
        surface: Surface,
        state: S,
        handler: H,
    ) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        let (filter, changes) = match method {
            Method::POST => (MethodFilter::POST, true),
            Method::PUT => (MethodFilter::PUT, true),
            Method::PATCH => (MethodFilter::PATCH, true),
            Method::DELETE => (MethodFilter::DELETE, true),
            _ => (MethodFilter::GET, false),
        };
        let audit = match (access, surface, changes) {
            // What comes in by a door is in the log itself, with who sent it.
            (Access::Public | Access::LoopbackOr(_), _, _) | (_, Surface::Live | Surface::Door, _) => None,
            (_, _, true) => Some(Action::Decide),
            (_, _, false) => Some(Action::Read),
        };
        let info = RouteInfo {
            method,
            path,
            access,
            surface,
            audit,
            is_secret: false,
            body_bytes_max: limits::BODY_BYTES_MAX,
            timeout: limits::REQUEST_TIMEOUT,
            nav: None,
        };
        Self { info, handler: on(filter, handler).with_state(state) }
    }

    /// A `GET` route; audited as a read unless it is public.
    pub fn get<H, T, S>(path: &'static str, access: Access, surface: Surface, state: S, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        Self::new(Method::GET, path, access, surface, state, handler)
    }

    /// A `POST` route; audited as a decision unless it is public or a door.
    pub fn post<H, T, S>(path: &'static str, access: Access, surface: Surface, state: S, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        Self::new(Method::POST, path, access, surface, state, handler)
    }

    /// A `PUT` route; audited as a decision unless it is public.
    pub fn put<H, T, S>(path: &'static str, access: Access, surface: Surface, state: S, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        Self::new(Method::PUT, path, access, surface, state, handler)
    }

    /// A `PATCH` route; audited as a decision unless it is public.
    pub fn patch<H, T, S>(path: &'static str, access: Access, surface: Surface, state: S, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        Self::new(Method::PATCH, path, access, surface, state, handler)
    }

    /// A `DELETE` route; audited as a decision unless it is public.
    pub fn delete<H, T, S>(path: &'static str, access: Access, surface: Surface, state: S, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        Self::new(Method::DELETE, path, access, surface, state, handler)
    }

    /// With another action for the audit log.
    #[must_use]
    pub const fn audit(mut self, action: Action) -> Self {
        self.info.audit = Some(action);
        self
    }

    /// Without audit: it shows nothing about anybody.
    #[must_use]
    pub const fn quiet(mut self) -> Self {
        self.info.audit = None;
        self
    }

    /// With 404 instead of 403 for who may not.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.info.is_secret = true;
        self
    }

    /// With another bound on the body.
    #[must_use]
    pub const fn body_bytes_max(mut self, bytes: usize) -> Self {
        self.info.body_bytes_max = bytes;
        self
    }

    /// With another time limit.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.info.timeout = timeout;
        self
    }

    /// With a place in the top bar.
    #[must_use]
    pub const fn nav(mut self, word: &'static str, order: u8) -> Self {
        self.info.nav = Some(Nav { word, order });
        self
    }

    /// Its line of the table.
    pub const fn info(&self) -> &RouteInfo {
        &self.info
    }

    pub(crate) fn into_parts(self) -> (RouteInfo, MethodRouter) {
        (self.info, self.handler)
    }
}

/// The table as `docs/SECURITY.md` shows it.
pub fn markdown<'a>(routes: impl IntoIterator<Item = &'a RouteInfo>) -> String {
    let mut lines: Vec<_> = routes.into_iter().collect();
    lines.sort_by(|a, b| (a.path, a.method.as_str()).cmp(&(b.path, b.method.as_str())));
    let mut out = String::from(
        "| route | kind | anybody | feed | viewer | operator | admin | audited as |\n|---|---|---|---|---|---|---|---|\n",
    );
    for info in lines {
        let anybody = match info.access {
            Access::Public => "yes",
            Access::LoopbackOr(_) => "loopback",
            Access::Roles(_) | Access::People(_) => "",
        };
        let yes = if matches!(info.access, Access::People(_)) { " signed in |" } else { " yes |" };
        let mut line = format!("| `{}` | {} | {anybody} |", info.name(), info.surface.as_str());
        for role in Role::ALL {
            line.push_str(if info.allows(Some(role)) { yes } else { " |" });
        }
        let audit = info.audit.map_or("", Action::as_str);
        for part in [line.as_str(), " ", audit, " |\n"] {
            out.push_str(part);
        }
    }
    out
}

/// Compares the table between `<!-- routes:NAME -->` and `<!-- /routes:NAME -->` in a document with `routes`;
/// with `bless` it writes it there. Gives the reason when they differ.
///
/// # Errors
/// What is wrong, for the test that calls it.
pub fn check_document<'a>(
    document: &Path,
    name: &str,
    routes: impl IntoIterator<Item = &'a RouteInfo>,
    bless: bool,
) -> Result<(), String> {
    let text = std::fs::read_to_string(document).map_err(|error| error.to_string())?;
    let (begin, end) = (format!("<!-- routes:{name} -->\n"), format!("<!-- /routes:{name} -->"));
    let (before, rest) = text.split_once(&begin).ok_or_else(|| format!("no {begin}"))?;
    let (table, after) = rest.split_once(&end).ok_or_else(|| format!("no {end}"))?;
    let want = markdown(routes);
    if table == want {
        return Ok(());
    }
    if bless {
        let text = format!("{before}{begin}{want}{end}{after}");
        return std::fs::write(document, text).map_err(|error| error.to_string());
    }
    Err(format!("{} is not what the routes say: run the test again with BLESS=1", document.display()))
}
