//! The configuration: defaults, then a TOML file, then `HILUM_*`, then the command line. One tree, each key with its
//! meaning in [`REFERENCE`]; a key that is not in the tree is refused with the nearest one that is.

mod keys;
mod log;
mod roles;
mod telemetry;
mod text;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::http::HeaderValue;
use figment::Figment;
use figment::providers::{Format as _, Serialized, Toml};
use hilum_adt::limits as adt;
use hilum_adt::settings::SourceSettings;
use hilum_adt::sources::{SourceMatch, Sources};
use hilum_core::{InstallationKey, PatientList, Timestamp};
use hilum_engines::tables::postgres::PostgresConfig;
use hilum_fhir::FhirId;
use hilum_fhir::r4::r4;
use hilum_records::fhir::Style;
use hilum_records::limits::ENTRIES_BOUND;
use hilum_records::logical::chart_id;
use hilum_records::{Paging, Policy};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use keys::{check_address, check_charset, check_keys, check_types, check_zone, nearest, says};
pub use log::{Log, LogEngine};
pub use roles::{ProcessRole, ProcessRoles};
pub use telemetry::Telemetry;
use text::write_table;
pub use text::{mask_url, reference};

/// The prefix of environment variables that are configuration: `HILUM_HTTP__LISTEN` is `http.listen`.
const ENV_PREFIX: &str = "HILUM_";
/// Variables with that prefix that are read by the command line or by tests.
const ENV_ELSEWHERE: &[&str] = &["data", "config", "log_format", "failpoint"];

/// Everything that an installation may set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// What the process is there for.
    pub roles: ProcessRoles,
    /// The HTTP door and window.
    pub http: Http,
    /// The FHIR window.
    pub fhir: Fhir,
    /// The MLLP door.
    pub mllp: Mllp,
    /// Where what comes in is kept.
    pub log: Log,
    /// Where rows are kept.
    pub tables: Tables,
    /// Who looked.
    pub audit: Audit,
    /// What the process says about itself.
    pub logging: Logging,
    /// Where traces of messages go.
    pub telemetry: Telemetry,
    /// How it stops.
    pub shutdown: Shutdown,
    /// Sources by name.
    pub sources: BTreeMap<String, Source>,
    /// `--allow-weak-log`: no key, so that nobody leaves it in a file.
    #[serde(skip)]
    pub allow_weak_log: bool,
    /// `--allow-weak-tables`, likewise.
    #[serde(skip)]
    pub allow_weak_tables: bool,
}

/// `[http]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Http {
    /// Address of the HTTP listener.
    pub listen: String,
    /// Whether browsers reach it by https.
    pub https: bool,
    /// Zone in which pages show times.
    pub zone: String,
    /// Origins whose pages may use the FHIR window.
    pub cors_origins: Vec<String>,
}

impl Http {
    /// The origins as a browser names them.
    ///
    /// # Errors
    /// What is no origin, by name.
    pub fn origins(&self) -> anyhow::Result<Vec<HeaderValue>> {
        let origin = |raw: &String| {
            let host = raw.strip_prefix("http://").or_else(|| raw.strip_prefix("https://"));
            let fits = |host: &str| {
                !host.is_empty() && !host.contains(['/', '*', ',']) && !host.contains(char::is_whitespace)
            };
            let value = HeaderValue::from_str(raw).ok().filter(|_| raw == "*" || host.is_some_and(fits));
            value.with_context(|| {
                format!("http.cors_origins: `{raw}` is no origin: write https://HOST[:PORT] without / at the end, or *")
            })
        };
        self.cors_origins.iter().map(origin).collect()
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            https: false,
            zone: "UTC".to_owned(),
            cors_origins: Vec::new(),
        }
    }
}

/// `[fhir]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Fhir {
    /// Whether resources can be searched.
    pub search: bool,
    /// Addresses under which clients know the window.
    pub bases: Vec<String>,
    /// How pages of searches are linked.
    pub paging: Style,
    /// The same for some accounts and API keys.
    pub paging_of: BTreeMap<String, Style>,
    /// Matches in a page where the client does not say.
    pub page_matches: u32,
    /// Matches in a page at most.
    pub page_matches_max: u32,
    /// Matches that are counted for a total that nobody asks for.
    pub totals_max: u64,
    /// Accounts and API keys that may know of some patients alone: `Patient/ID` and `Group/ID`.
    pub limited: BTreeMap<String, Vec<String>>,
    /// Entries of one batch or transaction.
    pub bundle_entries_max: usize,
    /// Searches of one batch or transaction.
    pub bundle_searches_max: usize,
    /// What is done with a reference to nothing.
    pub references: References,
    /// Types whose resources are changed with `If-Match` alone.
    pub if_match: Vec<String>,
    /// Parameters of searches that are not looked at.
    pub ignored_parameters: Vec<String>,
}

/// `fhir.references`
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum References {
    /// It is taken.
    Any,
    /// It is refused.
    Exist,
}

impl Default for Fhir {
    fn default() -> Self {
        let Paging { style, of, matches, matches_max, totals_max } = Paging::default();
        let Policy { bundle_entries_max, bundle_searches_max, .. } = Policy::default();
        Self {
            search: true,
            bases: Vec::new(),
            paging: style,
            paging_of: of,
            page_matches: matches,
            page_matches_max: matches_max,
            totals_max,
            limited: BTreeMap::new(),
            bundle_entries_max,
            bundle_searches_max,
            references: References::Any,
            if_match: Vec::new(),
            ignored_parameters: Vec::new(),
        }
    }
}

impl Fhir {
    /// What the window allows.
    pub fn policy(&self) -> Policy {
        let references = match self.references {
            References::Any => hilum_records::References::Any,
            References::Exist => hilum_records::References::Exist,
        };
        let Self { bundle_entries_max, bundle_searches_max, .. } = *self;
        let set = |names: &[String]| Arc::new(names.iter().cloned().collect());
        let (if_match, ignored_parameters) = (set(&self.if_match), set(&self.ignored_parameters));
        Policy { bundle_entries_max, bundle_searches_max, references, if_match, ignored_parameters }
    }

    fn check(&self) -> anyhow::Result<()> {
        if !(1..=ENTRIES_BOUND).contains(&self.bundle_entries_max) {
            bail!("fhir.bundle_entries_max: 1 to {ENTRIES_BOUND}, since a transaction is one commit");
        }
        for base in &self.bases {
            let host = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://"));
            let fits = host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace));
            if !fits || base.ends_with('/') {
                bail!("fhir.bases: `{base}` is no address: write https://HOST/fhir, without / at the end");
            }
        }
        for name in &self.if_match {
            if !r4().resource_types().any(|known| known == name) {
                bail!("fhir.if_match: `{name}` is no resource type of R4");
            }
        }
        for name in &self.ignored_parameters {
            // What narrows a search is not to be let go in silence.
            if name.is_empty() || hilum_records::fhir::is_parameter(name) {
                bail!("fhir.ignored_parameters: `{name}` means something in a search");
            }
        }
        let most = hilum_records::limits::PAGE_MATCHES_MAX;
        if !(1..=most).contains(&self.page_matches_max) {
            bail!("fhir.page_matches_max: {} is not from 1 to {most}", self.page_matches_max);
        }
        if !(1..=self.page_matches_max).contains(&self.page_matches) {
            bail!("fhir.page_matches: {} is not from 1 to fhir.page_matches_max", self.page_matches);
        }
        let most = hilum_records::limits::TOTALS_BOUND;
        if self.totals_max > most {
            bail!("fhir.totals_max: {} is more than {most}", self.totals_max);
        }
        for (name, all) in &self.limited {
            if all.len() > LIMITED_MAX {
                bail!("fhir.limited.{name}: more than {LIMITED_MAX}: make a Group of them");
            }
            // The name of a patient is no text for a log.
            for (at, raw) in all.iter().enumerate() {
                listed(raw).with_context(|| {
                    format!("fhir.limited.{name}: the {}. is neither Patient/ID nor Group/ID", at + 1)
                })?;
            }
        }
        Ok(())
    }

    /// How pages of searches are made.
    pub fn paging(&self) -> Paging {
        Paging {
            style: self.paging,
            of: self.paging_of.clone(),
            matches: self.page_matches,
            matches_max: self.page_matches_max,
            totals_max: self.totals_max,
        }
    }

    /// Who may know of some patients alone, by their ids in the chart.
    ///
    /// # Errors
    /// A text that names neither a patient nor a group.
    pub fn limited(&self, key: &InstallationKey) -> anyhow::Result<BTreeMap<String, Arc<PatientList>>> {
        let mut limited = BTreeMap::new();
        for (name, all) in &self.limited {
            let mut list = PatientList::default();
            for raw in all {
                let (resource_type, id) = listed(raw)?;
                let ids = if resource_type == "Patient" { &mut list.patients } else { &mut list.groups };
                ids.insert(chart_id(key, resource_type, &id));
            }
            limited.insert(name.clone(), Arc::new(list));
        }
        Ok(limited)
    }
}

/// Patients and groups that one account or key is limited to: they stand in every search.
const LIMITED_MAX: usize = 200;

/// `Patient/ID` or `Group/ID`.
fn listed(raw: &str) -> anyhow::Result<(&'static str, FhirId)> {
    let (resource_type, id) = raw.split_once('/').context("no /")?;
    let resource_type = ["Patient", "Group"].into_iter().find(|known| *known == resource_type);
    Ok((resource_type.context("another type")?, FhirId::parse(id)?))
}

/// `[mllp]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Mllp {
    /// Address of the listener that everybody has.
    pub listen: String,
    /// Further listeners by name.
    pub listeners: BTreeMap<String, String>,
    /// Largest message.
    pub message_bytes_max: usize,
    /// Connections at the same time.
    pub connections_max: usize,
    /// Messages of one connection that wait for their answer.
    pub window_messages: usize,
    /// Bytes of messages that are not durable yet, over all connections.
    pub buffer_bytes_max: usize,
    /// Seconds without a byte after which a connection is closed.
    pub idle_s: u64,
    /// Seconds from a frame's first byte to its last.
    pub read_s: u64,
    /// Seconds that a peer may take to read an answer.
    pub write_s: u64,
    /// Seconds of silence before TCP asks whether the peer is there.
    pub keepalive_s: u64,
}

impl Default for Mllp {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:2575".to_owned(),
            listeners: BTreeMap::new(),
            message_bytes_max: adt::MESSAGE_BYTES_MAX,
            connections_max: adt::MLLP_CONNECTIONS_MAX,
            window_messages: adt::MLLP_WINDOW_MESSAGES,
            buffer_bytes_max: adt::MLLP_BUFFER_BYTES_MAX,
            idle_s: adt::MLLP_IDLE_S,
            read_s: adt::MLLP_READ_S,
            write_s: adt::MLLP_WRITE_S,
            keepalive_s: adt::MLLP_KEEPALIVE_S,
        }
    }
}

impl Mllp {
    /// The bounds as the door takes them.
    pub fn limits(&self) -> hilum_adt::mllp::Limits {
        hilum_adt::mllp::Limits {
            message_bytes_max: self.message_bytes_max,
            connections_max: self.connections_max,
            window_messages: self.window_messages,
            buffer_bytes_max: self.buffer_bytes_max,
            idle: Duration::from_secs(self.idle_s),
            read: Duration::from_secs(self.read_s),
            write: Duration::from_secs(self.write_s),
            keepalive: Duration::from_secs(self.keepalive_s),
        }
    }
}

/// Which engine keeps rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TablesEngine {
    /// One file in the data folder.
    Sqlite,
    /// A schema of a PostgreSQL database.
    Postgres,
}

/// `[tables]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Tables {
    /// The engine.
    pub engine: TablesEngine,
    /// Where it is, for `postgres`.
    pub url: String,
    /// Which schema of it, for `postgres`.
    pub schema: String,
}

impl Default for Tables {
    fn default() -> Self {
        Self { engine: TablesEngine::Sqlite, url: String::new(), schema: "hilum".to_owned() }
    }
}

impl Tables {
    /// The schema of the audit log, for `postgres`.
    pub fn audit_schema(&self) -> String {
        format!("{}_audit", self.schema)
    }
}

/// `[audit]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Audit {
    /// Whether an event is on disk before the answer goes out; else within a second.
    pub at_once: bool,
    /// Whether an answer that cannot be written down is held back.
    pub fails_closed: bool,
}

impl Default for Audit {
    fn default() -> Self {
        Self { at_once: true, fails_closed: true }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// `[logging]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// How a line looks.
    pub format: LogFormat,
    /// What is said: `info`, or by module (`info,hilum_adt=debug`).
    pub level: String,
}

impl Default for Logging {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".to_owned() }
    }
}

/// `[shutdown]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Shutdown {
    /// Seconds that what was accepted has to be answered and applied.
    pub drain_s: u64,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { drain_s: 20 }
    }
}

/// `[sources.NAME]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Source {
    /// By what it is known.
    #[serde(rename = "match")]
    pub rules: SourceMatch,
    /// Whether what comes from it has a topic of its own. Not one of its settings: no message means anything else by it.
    pub topic: bool,
    /// What is particular to it.
    #[serde(flatten)]
    pub settings: SourceSettings,
}

/// What the command line says over everything else.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--http`
    pub http: Option<String>,
    /// `--mllp`
    pub mllp: Option<String>,
    /// `--log-format`
    pub log_format: Option<LogFormat>,
    /// `--roles`
    pub roles: Option<ProcessRoles>,
}

impl Config {
    /// Reads the configuration: defaults, `file`, `environment` (name and value pairs), `overrides`.
    ///
    /// # Errors
    /// Names the key and the file or variable that is wrong, and the nearest key for one that is unknown.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: &Overrides,
    ) -> anyhow::Result<Self> {
        let mut given = Figment::new();
        let mut places = Vec::new();
        if let Some(file) = file {
            if !file.is_file() {
                bail!("configuration file {} is not there", file.display());
            }
            let toml = Figment::from(Toml::file_exact(file));
            // The first line of a syntax error says where; what follows is a picture of the file.
            let syntax = |why: figment::Error| anyhow::anyhow!("{}: {}", file.display(), why.kind);
            let tree: Value = toml.extract().map_err(syntax)?;
            check_keys(&tree, &file.display().to_string())?;
            check_types(&tree, &file.display().to_string())?;
            given = given.merge(toml);
            places.push((file.display().to_string(), tree));
        }
        let from_environment = environment_tree(environment)?;
        let place = "environment (HILUM_…, two underscores between the parts of a key)";
        check_keys(&from_environment, place)?;
        check_types(&from_environment, place)?;
        given = given.merge(Serialized::globals(&from_environment));
        places.push((place.to_owned(), from_environment));
        let mut config: Self = Figment::from(Serialized::defaults(Self::default()))
            .merge(given)
            .extract()
            .map_err(|why| anyhow::anyhow!("configuration: {}", why.kind))?;
        if let Some(http) = &overrides.http {
            config.http.listen.clone_from(http);
        }
        if let Some(mllp) = &overrides.mllp {
            config.mllp.listen.clone_from(mllp);
        }
        if let Some(format) = overrides.log_format {
            config.logging.format = format;
        }
        if let Some(roles) = overrides.roles {
            config.roles = roles;
        }
        if let Err(why) = config.check() {
            let by_hand = [
                ("roles", overrides.roles.is_some(), "--roles"),
                ("http.listen", overrides.http.is_some(), "--http"),
                ("mllp.listen", overrides.mllp.is_some(), "--mllp"),
            ];
            let text = format!("{why:#}");
            if let Some((.., option)) =
                by_hand.iter().find(|(key, is_given, _)| *is_given && text.starts_with(&format!("{key}:")))
            {
                bail!("{option}: {text}");
            }
            // The last place that says anything about the key is the one that holds.
            let said_there = |tree: &Value| text.split_once(':').is_some_and(|(key, _)| says(tree, key));
            match places.iter().rev().find(|(_, tree)| said_there(tree)) {
                Some((place, _)) => bail!("{place}: {text}"),
                None => bail!("configuration: {text}"),
            }
        }
        Ok(config)
    }

    /// Everything that a start would refuse, as `key: why`.
    fn check(&self) -> anyhow::Result<()> {
        let mllp = &self.mllp;
        let mut taken: BTreeMap<SocketAddr, String> = BTreeMap::new();
        let listeners = mllp.listeners.iter().map(|(name, raw)| (format!("mllp.listeners.{name}"), raw));
        let own = [("http.listen".to_owned(), &self.http.listen), ("mllp.listen".to_owned(), &mllp.listen)];
        for (key, raw) in own.into_iter().chain(listeners) {
            if key == "mllp.listen" && raw.is_empty() {
                continue;
            }
            let address = check_address(&key, raw)?;
            // Port 0 is another one each time.
            if let Some(other) = taken.insert(address, key.clone()).filter(|_| address.port() != 0) {
                bail!("{key}: {other} listens on {address} already");
            }
        }
        check_zone("http.zone", &self.http.zone)?;
        self.fhir.check()?;
        self.http.origins()?;
        for (name, source) in &self.sources {
            let groups = hilum_adt::settings::GROUPS;
            let mut segments = source.settings.segments.keys();
            if let Some(segment) = segments.find(|one| !groups.contains(&one.as_str())) {
                bail!(
                    "sources.{name}.segments: `{segment}` is no group of segments; there are {}",
                    groups.join(", ")
                );
            }
            if source.topic && self.log.engine != LogEngine::Kafka {
                bail!("sources.{name}.topic: a log in a file has no topics: it needs log.engine = \"kafka\"");
            }
            check_zone(&format!("sources.{name}.zone"), &source.settings.zone)?;
            check_charset(&format!("sources.{name}.charset"), source.settings.charset.as_deref())?;
            let fallback = source.settings.charset_fallback.as_deref();
            check_charset(&format!("sources.{name}.charset_fallback"), fallback)?;
        }
        crate::logging::check(&self.logging)?;
        if mllp.message_bytes_max > adt::MESSAGE_BYTES_MAX || mllp.message_bytes_max < 1_024 {
            bail!("mllp.message_bytes_max: take 1024 to {}", adt::MESSAGE_BYTES_MAX);
        }
        if mllp.buffer_bytes_max < mllp.message_bytes_max {
            bail!("mllp.buffer_bytes_max: at least mllp.message_bytes_max ({})", mllp.message_bytes_max);
        }
        for (key, value) in
            [("connections_max", mllp.connections_max), ("window_messages", mllp.window_messages)]
        {
            if value == 0 {
                bail!("mllp.{key}: at least 1");
            }
        }
        for (key, value) in [("read_s", mllp.read_s), ("write_s", mllp.write_s), ("idle_s", mllp.idle_s)] {
            if value == 0 {
                bail!("mllp.{key}: at least 1 second");
            }
        }
        if mllp.listeners.contains_key(hilum_adt::sources::DEFAULT) {
            bail!("mllp.listeners.default: that is mllp.listen; take another name");
        }
        let own_topics = self.sources.values().filter(|source| source.topic).count();
        if own_topics > hilum_engines::limits::LOG_TOPICS_MAX {
            bail!("sources: at most {} with `topic = true`", hilum_engines::limits::LOG_TOPICS_MAX);
        }
        if self.sources.len() > adt::SOURCES_MAX {
            bail!("sources: at most {}", adt::SOURCES_MAX);
        }
        self.check_roles()?;
        self.log.check()?;
        self.telemetry.check()?;
        if self.tables.engine == TablesEngine::Postgres && self.tables.url.is_empty() {
            bail!(
                "tables.url: engine `postgres` needs it (postgres://user@host/database, or HILUM_TABLES__URL)"
            );
        }
        if self.tables.engine == TablesEngine::Postgres {
            PostgresConfig::new(&self.tables.url, &self.tables.schema)
                .check()
                .map_err(|why| anyhow::anyhow!("tables.url: {why}"))?;
            hilum_engines::tables::postgres::check_schema(&self.tables.schema)
                .map_err(|why| anyhow::anyhow!("tables.schema: {why}"))?;
        }
        let configured = self
            .sources
            .iter()
            .map(|(name, source)| (name.clone(), source.rules.clone(), source.settings.clone()));
        Sources::new(configured, Timestamp::default())?;
        for (name, source) in &self.sources {
            for listener in &source.rules.listeners {
                if listener != hilum_adt::sources::DEFAULT && !mllp.listeners.contains_key(listener) {
                    bail!(
                        "sources.{name}.match.listeners: there is no listener `{listener}`{}",
                        nearest(listener, mllp.listeners.keys().map(String::as_str))
                    );
                }
            }
        }
        Ok(())
    }

    /// A process that does a part meets the others in engines that they can reach.
    fn check_roles(&self) -> anyhow::Result<()> {
        if self.roles.is_all() {
            return Ok(());
        }
        let own = match (self.log.engine, self.tables.engine) {
            (LogEngine::Kafka, TablesEngine::Postgres) => return Ok(()),
            (LogEngine::Embedded, _) => "log.engine = \"kafka\"",
            (LogEngine::Kafka, TablesEngine::Sqlite) => "tables.engine = \"postgres\"",
        };
        bail!(
            "roles: a process that is {} alone shares log and tables with other processes, and files in a data folder \
             are one process's own: set {own}, or leave roles away",
            self.roles
        )
    }

    /// The effective configuration as TOML, secrets masked.
    pub fn to_toml(&self) -> String {
        let mut tree = serde_json::to_value(self).unwrap_or_default();
        if let Some(url) = tree.pointer_mut("/tables/url") {
            *url = Value::String(mask_url(&self.tables.url));
        }
        log::mask(&mut tree);
        telemetry::mask(&mut tree);
        let mut out = String::new();
        write_table(&mut out, "", &tree);
        out
    }
}

fn environment_tree(environment: impl IntoIterator<Item = (String, String)>) -> anyhow::Result<Value> {
    let mut tree = Figment::new();
    for (name, value) in environment {
        let Some(key) = name.strip_prefix(ENV_PREFIX) else { continue };
        let key = key.to_ascii_lowercase();
        if ENV_ELSEWHERE.contains(&key.as_str()) || key.starts_with("test_") {
            continue;
        }
        let path = key.replace("__", ".");
        // Figment reads the value as TOML where it can: numbers, booleans, arrays, tables, else text.
        let value: figment::value::Value = value.parse().unwrap_or_else(|never| match never {});
        tree = tree.merge(Serialized::global(&path, value));
    }
    tree.extract().context("environment")
}

#[cfg(test)]
mod tests;
