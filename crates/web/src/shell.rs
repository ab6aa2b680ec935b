//! The shell's state: everything that a route needs of the server, handed in by the wiring.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::http::{HeaderValue, Method};
use axum::middleware::from_fn_with_state;
use hilum_core::{Authority, Clock, Digest, Entropy, PatientList, Role};
use hilum_engines::tables::Tables;
use jiff::tz::TimeZone;
use tower_http::compression::CompressionLayer;

use crate::audit::{Audit, Durability};
use crate::guard::guard;
use crate::live::{Live, Topic};
use crate::outcome::Fault;
use crate::route::{Access, Nav, Route, RouteInfo, Surface};
use crate::session::{Csrf, SessionSecret};
use crate::sign_in::Failures;
use crate::store::StoreError;
use crate::users::PasswordCheck;
use crate::words::{Dictionary, WORDS, WordFile, WordsError};
use crate::{cors, limits, routes};

/// What the server is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `hilum demo`: invented patients, one-time sign-in link, the component gallery open to all roles.
    Demo,
    /// `hilum serve`.
    Serve,
}

/// What the wiring sets.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Demo or serve.
    pub mode: Mode,
    /// Whether browsers reach us by https (a proxy ends it): `__Host-` cookie with `Secure`, and HSTS.
    pub https: bool,
    /// The zone in which pages show times.
    pub zone: TimeZone,
    /// When an audit event must be on disk.
    pub audit: Durability,
    /// Whether an answer that cannot be audited is held back.
    pub audit_fails_closed: bool,
    /// Whether there is anything to look at. Without windows only `/healthz`, `/readyz`, `/metrics` and the rooms'
    /// routes that are mounted exist, nothing is asked of the tables but keys, and nothing follows the outbox.
    pub has_windows: bool,
    /// Addresses under which clients know the FHIR window; none = whatever they say.
    pub fhir_bases: Vec<String>,
    /// Who may know of some patients alone, by the name of the account or API key.
    pub limited: BTreeMap<String, Arc<PatientList>>,
    /// Origins whose pages may use the FHIR window; `*` = all.
    pub cors_origins: Vec<HeaderValue>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Serve,
            https: false,
            zone: TimeZone::UTC,
            audit: Durability::AtOnce,
            audit_fails_closed: true,
            has_windows: true,
            fhir_bases: Vec::new(),
            limited: BTreeMap::new(),
            cors_origins: Vec::new(),
        }
    }
}

/// A partition that stands still.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PausedPartition {
    /// Whose.
    pub projection: &'static str,
    /// Of which stream.
    pub stream: String,
    /// Which.
    pub partition: u16,
    /// Records that wait for it; absent where nobody knows.
    pub lag: Option<u64>,
    /// What kind of thing keeps it.
    pub cause: &'static str,
    /// Why, without patient data.
    pub why: String,
}

/// Whether the server can work, for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready {
        /// What somebody should see to all the same, without patient data.
        notes: Vec<String>,
    },
    /// Log, tables and program do not belong together: the doors are shut.
    Unfit {
        /// Why, and the way out, without patient data.
        why: String,
    },
    /// It is starting.
    Starting,
    /// What was in the log at the start is not applied yet.
    CatchingUp {
        /// Records applied.
        applied: u64,
        /// Records to apply.
        target: u64,
    },
    /// A partition stands still: what comes in is kept, and not applied.
    Paused {
        /// Which, and why.
        partitions: Vec<PausedPartition>,
    },
    /// The engine that keeps rows does not answer or takes nothing.
    TablesDown {
        /// Why, without patient data.
        why: String,
    },
    /// The disk or an engine failed: it reads and takes nothing.
    ReadOnly {
        /// Why, without patient data.
        why: String,
    },
    /// It was asked to end and finishes what is open.
    Draining,
}

/// How the feeds are, for the top bar of every page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedState {
    /// All sources speak.
    Ok,
    /// The fold lags behind the log.
    Late,
    /// A source is silent for longer than its alarm.
    Silent,
    /// A gateway gives no sign of life: what would come in by it is not known.
    Missing,
    /// What comes in is kept, and not applied: the tables take nothing, or a partition stands still.
    Held,
    /// Of a source a message could not be kept.
    Failing,
    /// Nothing is taken from any of them.
    Shut,
}

impl FeedState {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Late => "late",
            Self::Silent => "silent",
            Self::Missing => "missing",
            Self::Held => "held",
            Self::Failing => "failing",
            Self::Shut => "shut",
        }
    }

    /// Its word's key.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "feed.ok",
            Self::Late => "feed.late",
            Self::Silent => "feed.silent",
            Self::Missing => "feed.missing",
            Self::Held => "feed.held",
            Self::Failing => "feed.failing",
            Self::Shut => "feed.shut",
        }
    }
}

/// The top bar's indicator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedHealth {
    /// How they are.
    pub state: FeedState,
    /// When anything last came in.
    pub last: Option<hilum_core::Timestamp>,
    /// Where more is said (`/sources`).
    pub href: &'static str,
}

type Asked<T> = Box<dyn Fn() -> T + Send + Sync>;

/// What the shell asks the wiring while it runs.
pub struct Probes {
    /// For `/readyz`.
    pub ready: Asked<Readiness>,
    /// For `/metrics`: Prometheus text.
    pub metrics: Asked<String>,
    /// For the top bar; `None` = there is nothing to say.
    pub feed_health: Asked<Option<FeedHealth>>,
}

impl Default for Probes {
    /// Ready, no metrics, nothing to say.
    fn default() -> Self {
        Self {
            ready: Box::new(|| Readiness::Ready { notes: Vec::new() }),
            metrics: Box::new(String::new),
            feed_health: Box::new(|| None),
        }
    }
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probes")
    }
}

/// What a shell is made of.
#[derive(Debug)]
pub struct Parts {
    /// The time.
    pub clock: Clock,
    /// Randomness for secrets.
    pub entropy: Entropy,
    /// Holds [`crate::tables::ALL`] and the outbox that live pages follow.
    pub tables: Tables,
    /// Holds [`crate::tables::AUDIT_ALL`]; a database of its own.
    pub audit: Tables,
    /// `DIR/secrets/session.key`.
    pub secret: SessionSecret,
    /// What the wiring sets.
    pub settings: Settings,
    /// The rooms' words.
    pub words: Vec<WordFile>,
    /// The rooms' live topics.
    pub topics: Vec<Topic>,
    /// What the shell asks while it runs.
    pub probes: Probes,
}

/// Why a shell could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// A word file.
    #[error(transparent)]
    Words(#[from] WordsError),
    /// Accounts.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tables engine.
    #[error(transparent)]
    Tables(#[from] hilum_engines::tables::TablesError),
}

struct Inner {
    clock: Clock,
    entropy: Entropy,
    tables: Tables,
    audit: Audit,
    settings: Settings,
    dictionary: Arc<Dictionary>,
    csrf: Csrf,
    passwords: PasswordCheck,
    failures: Failures,
    live: Live,
    probes: Probes,
    nav: OnceLock<Vec<(&'static RouteInfo, Nav)>>,
}

/// The server's shell. Cheap to clone.
#[derive(Clone)]
pub struct Shell(Arc<Inner>);

impl fmt::Debug for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shell")
    }
}

/// The router with the table of what is in it.
#[derive(Debug)]
pub struct Mounted {
    /// To be served by [`crate::listen::serve`].
    pub router: Router,
    /// Every route, in the order of mounting.
    pub table: Vec<&'static RouteInfo>,
}

/// What stands for a path that no route has.
const NOWHERE: &RouteInfo = &RouteInfo {
    method: Method::GET,
    path: "(no route)",
    access: Access::Public,
    surface: Surface::Page,
    audit: None,
    is_secret: false,
    // Nothing reads a body: "there is no such page" comes before "that is too large".
    body_bytes_max: usize::MAX,
    timeout: limits::REQUEST_TIMEOUT,
    nav: None,
};

/// Sweeps sessions and links that are over until the tables are closed.
async fn sweep(tables: Tables, clock: Clock) {
    let mut committed = tables.committed();
    loop {
        // The engine's end is the end of its channel.
        let closed = async { while committed.changed().await.is_ok() {} };
        if tokio::time::timeout(limits::SESSION_SWEEP_EVERY, closed).await.is_ok() {
            return;
        }
        match crate::session::sweep(&tables, &clock).await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "sessions and links that were over are gone"),
            Err(error) => tracing::warn!(%error, "sessions not swept"),
        }
    }
}

impl Shell {
    /// Makes the shell and starts its audit writer and its live hub.
    ///
    /// # Errors
    /// [`ShellError`] when a word file or the tables cannot be read.
    pub async fn start(parts: Parts) -> Result<Self, ShellError> {
        let mut words = vec![WORDS];
        words.extend(parts.words);
        let passwords = PasswordCheck::new(&parts.entropy).await?;
        let live = if parts.settings.has_windows {
            tokio::spawn(sweep(parts.tables.clone(), parts.clock.clone()));
            Live::start(parts.tables.clone(), parts.topics).await?
        } else {
            Live::idle(parts.tables.clone())
        };
        Ok(Self(Arc::new(Inner {
            csrf: Csrf::new(&parts.secret),
            audit: Audit::start(parts.audit, &parts.secret, parts.settings.audit),
            dictionary: Arc::new(Dictionary::new(&words)?),
            clock: parts.clock,
            entropy: parts.entropy,
            tables: parts.tables,
            settings: parts.settings,
            passwords,
            failures: Failures::default(),
            live,
            probes: parts.probes,
            nav: OnceLock::new(),
        })))
    }

    /// Gathers the shell's own routes and the rooms' into one router, each behind its guard. To be called once.
    pub fn mount(&self, rooms: Vec<Route>) -> Mounted {
        let mut router = Router::new();
        let mut table = Vec::new();
        let cors = cors::layer(&self.0.settings.cors_origins);
        for route in routes::all(self).into_iter().chain(rooms) {
            let (info, handler) = route.into_parts();
            // A route lives as long as the process.
            let info: &'static RouteInfo = Box::leak(Box::new(info));
            let body = axum::extract::DefaultBodyLimit::max(info.body_bytes_max);
            let layered = handler.layer(body).layer(from_fn_with_state((self.clone(), info), guard));
            // Outside of the guard: a browser asks what it may before it shows any key.
            let layered = match &cors {
                Some(cors) if info.surface == Surface::Fhir => layered.layer(cors.clone()),
                _ => layered,
            };
            router = router.route(info.path, layered);
            table.push(info);
        }
        let mut nav: Vec<_> =
            table.iter().filter_map(|info: &&'static RouteInfo| Some((*info, info.nav?))).collect();
        nav.sort_by_key(|(_, nav)| nav.order);
        self.0.nav.get_or_init(|| nav);
        let nowhere = axum::routing::any(|| async { Fault::new(hilum_core::Kind::NotFound) });
        let nowhere: axum::routing::MethodRouter =
            nowhere.layer(from_fn_with_state((self.clone(), NOWHERE), guard));
        let router = router.fallback_service(nowhere).layer(CompressionLayer::new());
        Mounted { router, table }
    }

    /// The time.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Randomness.
    pub fn entropy(&self) -> &Entropy {
        &self.0.entropy
    }

    /// The tables with accounts, keys and sessions.
    pub fn tables(&self) -> &Tables {
        &self.0.tables
    }

    /// The audit log.
    pub fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// The hub of live pages.
    pub fn live(&self) -> &Live {
        &self.0.live
    }

    /// What the shell asks the wiring.
    pub(crate) fn probes(&self) -> &Probes {
        &self.0.probes
    }

    /// The top bar's indicator.
    pub fn feed_health(&self) -> Option<FeedHealth> {
        (self.0.probes.feed_health)()
    }

    /// All words.
    pub fn dictionary(&self) -> Arc<Dictionary> {
        Arc::clone(&self.0.dictionary)
    }

    /// The zone in which pages show times.
    pub fn zone(&self) -> &TimeZone {
        &self.0.settings.zone
    }

    /// Whether there is anything to look at.
    pub(crate) fn has_windows(&self) -> bool {
        self.0.settings.has_windows
    }

    /// Whether this is `hilum demo`.
    pub fn is_demo(&self) -> bool {
        self.0.settings.mode == Mode::Demo
    }

    /// Addresses under which clients know the FHIR window; none = whatever they say.
    pub fn fhir_bases(&self) -> &[String] {
        &self.0.settings.fhir_bases
    }

    /// On whose behalf an account or key of this name and role asks.
    pub(crate) fn authority(&self, name: String, role: Role) -> Authority {
        let limited = self.0.settings.limited.get(&name).cloned();
        let authority = Authority::new(name, role);
        match limited {
            Some(patients) => authority.limited_to(patients),
            None => authority,
        }
    }

    /// Whether browsers reach us by https.
    pub fn is_https(&self) -> bool {
        self.0.settings.https
    }

    /// Whether an answer that cannot be audited is held back.
    pub fn audit_fails_closed(&self) -> bool {
        self.0.settings.audit_fails_closed
    }

    /// The session cookie's name.
    pub fn cookie_name(&self) -> &'static str {
        if self.is_https() { "__Host-hilum" } else { "hilum" }
    }

    /// The first page that `role` may open.
    pub fn home(&self, role: Option<Role>) -> &'static str {
        let Some(role) = role else { return "/sign-in" };
        let first = self.nav().iter().find(|(route, _)| route.allows(Some(role)));
        first.map_or("/password", |(route, _)| route.path)
    }

    pub(crate) fn nav(&self) -> &[(&'static RouteInfo, Nav)] {
        self.0.nav.get().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn passwords(&self) -> &PasswordCheck {
        &self.0.passwords
    }

    pub(crate) fn failures(&self) -> &Failures {
        &self.0.failures
    }

    pub(crate) fn csrf_token(&self, session: &Digest) -> String {
        self.0.csrf.token(session, self.entropy())
    }

    pub(crate) fn csrf_holds(&self, session: &Digest, token: &str) -> bool {
        self.0.csrf.holds(session, token)
    }
}
