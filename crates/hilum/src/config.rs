//! The configuration: defaults, then a TOML file, then `HILUM_*`, then the command line. One tree, each key with its
//! meaning in [`REFERENCE`]; a key that is not in the tree is refused with the nearest one that is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use figment::Figment;
use figment::providers::{Format as _, Serialized, Toml};
use hilum_adt::limits as adt;
use hilum_adt::settings::SourceSettings;
use hilum_adt::sources::{SourceMatch, Sources};
use hilum_core::Timestamp;
use hilum_engines::tables::postgres::PostgresConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The prefix of environment variables that are configuration: `HILUM_HTTP__LISTEN` is `http.listen`.
const ENV_PREFIX: &str = "HILUM_";
/// Variables with that prefix that are read by the command line or by tests.
const ENV_ELSEWHERE: &[&str] = &["data", "config", "log_format", "failpoint"];

/// Everything that an installation may set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The HTTP door and window.
    pub http: Http,
    /// The MLLP door.
    pub mllp: Mllp,
    /// Where rows are kept.
    pub tables: Tables,
    /// Who looked.
    pub audit: Audit,
    /// What the process says about itself.
    pub logging: Logging,
    /// How it stops.
    pub shutdown: Shutdown,
    /// Sources by name.
    pub sources: BTreeMap<String, Source>,
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
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8080".to_owned(), https: false, zone: "UTC".to_owned() }
    }
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
        if let Err(why) = config.check() {
            let by_hand = [
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
        check_address("http.listen", &self.http.listen)?;
        if !mllp.listen.is_empty() {
            check_address("mllp.listen", &mllp.listen)?;
        }
        for (name, raw) in &mllp.listeners {
            check_address(&format!("mllp.listeners.{name}"), raw)?;
        }
        check_zone("http.zone", &self.http.zone)?;
        for (name, source) in &self.sources {
            check_zone(&format!("sources.{name}.zone"), &source.settings.zone)?;
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
        if self.sources.len() > adt::SOURCES_MAX {
            bail!("sources: at most {}", adt::SOURCES_MAX);
        }
        if self.tables.engine == TablesEngine::Postgres && self.tables.url.is_empty() {
            bail!(
                "tables.url: engine `postgres` needs it (postgres://user@host/database, or HILUM_TABLES__URL)"
            );
        }
        if self.tables.engine == TablesEngine::Postgres {
            PostgresConfig::new(&self.tables.url, &self.tables.schema)
                .check()
                .map_err(|why| anyhow::anyhow!("tables.url: {why}"))?;
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

    /// The effective configuration as TOML, secrets masked.
    pub fn to_toml(&self) -> String {
        let mut tree = serde_json::to_value(self).unwrap_or_default();
        if let Some(url) = tree.pointer_mut("/tables/url") {
            *url = Value::String(mask_url(&self.tables.url));
        }
        let mut out = String::new();
        write_table(&mut out, "", &tree);
        out
    }
}

/// A URL with its password, and any `password=` parameter, replaced by `***`.
pub fn mask_url(url: &str) -> String {
    let mut masked = url.to_owned();
    if let Some((scheme, rest)) = url.split_once("://") {
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(authority_end);
        if let Some((user, host)) = authority.rsplit_once('@') {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            let had_password = authority.split_once('@').is_some_and(|(user, _)| user.contains(':'));
            let password = if had_password { ":***" } else { "" };
            masked = format!("{scheme}://{user}{password}@{host}{tail}");
        }
    }
    if let Some((before, after)) = masked.split_once("password=") {
        let tail = after.find(['&', ' ']).map_or("", |end| after.split_at(end).1);
        masked = format!("{before}password=***{tail}");
    }
    masked
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

/// The shape of the tree: known keys with their defaults. `*` stands for names that the installation gives.
fn shape() -> Value {
    let mut tree = serde_json::to_value(Config::default()).unwrap_or_default();
    let source = serde_json::to_value(Source::default()).unwrap_or_default();
    if let Some(sources) = tree.pointer_mut("/sources") {
        *sources = Value::Object(Map::from_iter([("*".to_owned(), source)]));
    }
    if let Some(listeners) = tree.pointer_mut("/mllp/listeners") {
        *listeners = Value::Object(Map::from_iter([("*".to_owned(), Value::Null)]));
    }
    tree
}

fn check_keys(tree: &Value, place: &str) -> anyhow::Result<()> {
    fn walk(given: &Value, known: &Value, path: &str, place: &str) -> anyhow::Result<()> {
        let (Value::Object(given), Value::Object(known)) = (given, known) else { return Ok(()) };
        // Maps that are data by default (aliases, segments) are empty in the shape: any key goes.
        if known.is_empty() {
            return Ok(());
        }
        for (key, value) in given {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match known.get(key).or_else(|| known.get("*")) {
                Some(known) => walk(value, known, &path, place)?,
                None => {
                    bail!("{place}: unknown key `{path}`{}", nearest(key, known.keys().map(String::as_str)))
                }
            }
        }
        Ok(())
    }
    walk(tree, &shape(), "", place)
}

/// Whether `tree` says something about `key`, or about a part of it.
fn says(tree: &Value, key: &str) -> bool {
    tree.pointer(&format!("/{}", key.replace('.', "/"))).is_some()
}

fn check_address(key: &str, raw: &str) -> anyhow::Result<()> {
    if raw.parse::<SocketAddr>().is_err() {
        bail!("{key}: `{raw}` is no address: write address and port, 127.0.0.1:2575");
    }
    Ok(())
}

fn check_zone(key: &str, zone: &str) -> anyhow::Result<()> {
    if jiff::tz::TimeZone::get(zone).is_ok() {
        return Ok(());
    }
    // Abbreviations are near each other and far from what is meant.
    let near = jiff::tz::db()
        .available()
        .map(|name| name.to_string())
        .filter(|_| zone.len() > 4)
        .map(|name| (strsim::damerau_levenshtein(&zone.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= 3)
        .min();
    let near = near
        .map_or_else(|| " (write Asia/Seoul)".to_owned(), |(_, name)| format!("; did you mean `{name}`?"));
    bail!("{key}: `{zone}` is no IANA time zone{near}")
}

/// Names the first key of `tree` whose value has another type than it takes, in our words and not the loader's.
fn check_types(tree: &Value, place: &str) -> anyhow::Result<()> {
    fn walk(given: &Value, known: &Value, path: &[&str], place: &str) -> anyhow::Result<()> {
        if let (Value::Object(given), Value::Object(known)) = (given, known)
            && !known.is_empty()
        {
            for (key, value) in given {
                let known = known.get(key).or_else(|| known.get("*")).unwrap_or(&Value::Null);
                walk(value, known, &[path, &[key.as_str()]].concat(), place)?;
            }
            return Ok(());
        }
        // This value alone, with defaults around it.
        let mut alone = given.clone();
        for key in path.iter().rev() {
            alone = Value::Object(Map::from_iter([((*key).to_owned(), alone)]));
        }
        match serde_json::from_value::<Config>(alone) {
            Ok(_) => Ok(()),
            Err(why) => bail!("{place}: {}: {}", path.join("."), in_words(&why.to_string())),
        }
    }
    walk(tree, &shape(), &[], place)
}

/// What serde says of a value, without the program's own type names.
fn in_words(why: &str) -> String {
    let mut text = why.strip_prefix("invalid type: ").unwrap_or(why).to_owned();
    text = text.replace("unknown variant ", "");
    let types = [
        ("expected usize", "a whole number is expected"),
        ("expected u64", "a whole number is expected"),
        ("expected u32", "a whole number is expected"),
        ("expected a boolean", "true or false is expected"),
        ("expected a string", "a text is expected"),
        ("expected a sequence", "a list is expected"),
        ("expected a map", "a table is expected"),
        ("expected one of", "one of these is expected:"),
        ("expected `", "what is expected: `"),
    ];
    for (theirs, ours) in types {
        text = text.replace(theirs, ours);
    }
    match text.split_once("expected struct ") {
        Some((before, _)) => format!("{before}a table is expected"),
        None => text,
    }
}

fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| *distance <= (name.len().max(wrong.len()) / 2).max(2))
        .min()
        .map_or_else(
            || "; `hilum config reference` lists all".to_owned(),
            |(_, name)| format!("; did you mean `{name}`?"),
        )
}

fn toml_value(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let fields: Vec<String> =
                map.iter().map(|(key, value)| format!("{} = {}", toml_key(key), toml_value(value))).collect();
            if fields.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", fields.join(", ")) }
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(toml_value).collect::<Vec<_>>().join(", "))
        }
        // A JSON string is a TOML basic string, but for DEL, which no key of ours can hold.
        Value::String(_) | Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::Null => "\"\"".to_owned(),
    }
}

fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { Value::String(key.to_owned()).to_string() }
}

/// Sections of the tree are TOML tables; everything under a section is a value.
fn write_table(out: &mut String, path: &str, tree: &Value) {
    let Value::Object(map) = tree else { return };
    let is_section = |key: &str| path.is_empty() || path == "sources" && !key.is_empty();
    for (key, value) in map {
        if is_section(key) && value.is_object() {
            let path = if path.is_empty() { toml_key(key) } else { format!("{path}.{}", toml_key(key)) };
            if path != "sources" {
                writeln!(out, "{}[{path}]", if out.is_empty() { "" } else { "\n" }).ok();
            }
            write_table(out, &path, value);
        } else if value.is_null() {
            // TOML has no null: an absent setting is a comment.
            writeln!(out, "# {} is not set", toml_key(key)).ok();
        } else {
            writeln!(out, "{} = {}", toml_key(key), toml_value(value)).ok();
        }
    }
}

/// What each key means; a test holds that this is the tree, no more and no less.
pub const REFERENCE: &[(&str, &str)] = &[
    ("http.listen", "Address of the HTTP door and of the pages. Port 0 takes a free one."),
    ("http.https", "Whether a proxy in front of it ends https: cookies are then for https alone."),
    ("http.zone", "IANA zone in which pages show times."),
    (
        "mllp.listen",
        "Address of the MLLP door that everybody has; its listener is called `default`. Empty = none.",
    ),
    (
        "mllp.listeners",
        "Further MLLP listeners, name = address; a source names them in match.listeners.\n\
         Example: listeners = { ed = \"127.0.0.1:2576\" }",
    ),
    (
        "mllp.message_bytes_max",
        "Largest message in bytes, for all doors. A larger one is answered AR and the connection closes.",
    ),
    ("mllp.connections_max", "MLLP connections at the same time; further ones wait in the kernel's queue."),
    (
        "mllp.window_messages",
        "Messages of one connection between read and answered; beyond it the socket is not read.",
    ),
    (
        "mllp.buffer_bytes_max",
        "Bytes of messages that are not durable yet, over all connections; beyond it sockets are not read.",
    ),
    ("mllp.idle_s", "Seconds without a byte after which a connection is closed."),
    ("mllp.read_s", "Seconds from a frame's first byte to its last."),
    ("mllp.write_s", "Seconds that a peer may take to read an answer."),
    ("mllp.keepalive_s", "Seconds of silence before TCP asks whether the peer is still there; 0 = never."),
    ("tables.engine", "Where rows are kept: `sqlite` (a file in the data folder) or `postgres`."),
    (
        "tables.url",
        "For `postgres`: postgres://user:password@host/database. Rather in the environment: HILUM_TABLES__URL.",
    ),
    ("tables.schema", "For `postgres`: the schema, one for each installation."),
    ("audit.at_once", "Whether it is on disk who looked before they see; else within a second."),
    ("audit.fails_closed", "Whether what cannot be written down is not shown."),
    ("logging.format", "`human` or `json`, one line an event, on standard error."),
    (
        "logging.level",
        "`error`, `warn`, `info`, `debug`, or by module: `info,hilum_adt=debug`. Never any patient data.",
    ),
    (
        "shutdown.drain_s",
        "Seconds that a stopping server gives to what it has accepted: to be answered, and applied.",
    ),
    (
        "sources.*.match",
        "By what a source is known: { listeners = [], keys = [], peers = [] }; keys are names of API keys,\npeers addresses or networks. The first of listener, key, peer that matches decides, else `default`.",
    ),
    ("sources.*.zone", "IANA zone of times without an offset in a message without one."),
    ("sources.*.charset", "Charset that holds whatever MSH-18 says."),
    ("sources.*.charset_fallback", "Charset of bytes that MSH-18 does not explain and that are not UTF-8."),
    (
        "sources.*.authority",
        "Authority of identifiers that carry none; not set = MSH-4, else the source's name (marked).",
    ),
    ("sources.*.authority_aliases", "Authorities by other names: { \"SNUH^1.2.3^ISO\" = \"SNUH\" }."),
    ("sources.*.primary_type", "Type (PID-3.5) of the identifier that alone makes the patient."),
    (
        "sources.*.primary_authority",
        "Authority of that identifier; not set = any, the first one of the type.",
    ),
    ("sources.*.identifying_types", "Types that identify beside the primary one."),
    ("sources.*.blank_type", "The type of an identifier whose PID-3.5 is empty."),
    ("sources.*.use_pid2_pid4", "Whether PID-2 and PID-4 are read as identifiers."),
    ("sources.*.account_is_visit", "Whether PID-18 (account) names the visit."),
    ("sources.*.monotone_control_ids", "Whether MSH-10 is a number that only grows."),
    (
        "sources.*.segments",
        "What a repeated segment group means: { AL1 = \"add\", DG1 = \"replace\" }; replace unless named.",
    ),
    ("sources.*.component_null_deletes", "Whether \"\" in a component deletes that component."),
    (
        "sources.*.unknown_names",
        "Names that stand for an unknown person; never matched by name or birth date.",
    ),
    (
        "sources.*.placeholder_values",
        "Values of PID-3, PV1-19 and the like that stand for none, beside zeros and punctuation alone.",
    ),
    ("sources.*.emergency_units", "Unit codes (PV1-3.1) that are emergency places; class E counts anywhere."),
    (
        "sources.*.on_transient",
        "When a message cannot be kept for a reason of ours: `close` (no answer), `AR` or `AE`.\nMany senders drop a message that was answered AR or AE.",
    ),
    ("sources.*.accept_training", "Whether MSH-11 T and D are charted. Never on a production server."),
    ("sources.*.silence_alarm_s", "Seconds of silence after which the source is shown as silent; 0 = never."),
];

/// All keys with meaning and default, and the bounds that nobody may move, as a TOML file to start from.
pub fn reference() -> String {
    let tree = shape();
    let mut out = String::from(
        "# hilum configuration: every key, its meaning, its default.\n\
         # In the environment: HILUM_ and the key in capitals, two underscores for the dot (HILUM_HTTP__LISTEN).\n",
    );
    let mut section = String::new();
    for (key, meaning) in REFERENCE {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        if section != table {
            table.clone_into(&mut section);
            write!(out, "\n[{}]\n", table.replace('*', "NAME")).ok();
        }
        for line in meaning.lines() {
            writeln!(out, "# {line}").ok();
        }
        match tree.pointer(&format!("/{}", key.replace('.', "/"))) {
            Some(Value::Null) | None => writeln!(out, "# {name} = \"…\" (not set)").ok(),
            Some(Value::Object(map)) if map.contains_key("*") => writeln!(out, "# {name} = {{}}").ok(),
            Some(value) => writeln!(out, "# {name} = {}", toml_value(value)).ok(),
        };
    }
    out.push_str("\n# Bounds that nobody moves (limits.rs of each crate):\n");
    for bound in crate::bounds::all() {
        writeln!(out, "#   {}::{} = {}  # {}", bound.part, bound.name, bound.value, bound.meaning).ok();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str, environment: &[(&str, &str)]) -> anyhow::Result<Config> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("hilum.toml");
        std::fs::write(&file, toml).expect("written");
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::load(Some(&file), environment, &Overrides::default())
    }

    #[test]
    fn file_then_environment_then_command_line() {
        let config = load(
            "[http]\nlisten = \"127.0.0.1:1\"\n[mllp]\nidle_s = 7\nlisteners = { ed = \"127.0.0.1:2\" }\n\
             [sources.ed]\nmatch = { listeners = [\"ed\"], peers = [\"10.0.0.0/8\"] }\nzone = \"Asia/Seoul\"\n\
             segments = { AL1 = \"add\" }\n",
            &[
                ("HILUM_HTTP__LISTEN", "127.0.0.1:3"),
                ("HILUM_MLLP__READ_S", "9"),
                ("HILUM_SOURCES__ED__SILENCE_ALARM_S", "5"),
                ("HILUM_DATA", "/elsewhere"),
                ("PATH", "/bin"),
            ],
        )
        .expect("valid");
        assert_eq!(config.http.listen, "127.0.0.1:3");
        assert_eq!((config.mllp.idle_s, config.mllp.read_s), (7, 9));
        let ed = &config.sources["ed"];
        assert_eq!((ed.settings.zone.as_str(), ed.settings.silence_alarm_s), ("Asia/Seoul", 5));
        assert_eq!(ed.rules.peers, ["10.0.0.0/8"]);
        assert_eq!(ed.settings.primary_type, "MR", "what is not named keeps its default");
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_name() {
        let cases = [
            ("section", "[htpp]\nlisten = \"x\"", "unknown key `htpp`; did you mean `http`?"),
            ("key", "[mllp]\nidle_sec = 1", "unknown key `mllp.idle_sec`; did you mean `idle_s`?"),
            ("source", "[sources.ed]\nzon = \"UTC\"", "unknown key `sources.ed.zon`; did you mean `zone`?"),
            (
                "match",
                "[sources.ed]\nmatch = { peer = [] }",
                "unknown key `sources.ed.match.peer`; did you mean `peers`?",
            ),
            ("nothing near", "[http]\nxyzzy_plugh_quux = 1", "`hilum config reference` lists all"),
            ("type", "[mllp]\nidle_s = \"soon\"", "idle_s"),
            ("zero", "[mllp]\nwindow_messages = 0", "mllp.window_messages: at least 1"),
            ("no such listener", "[sources.a]\nmatch = { listeners = [\"x\"] }", "there is no listener `x`"),
            ("postgres without url", "[tables]\nengine = \"postgres\"", "tables.url"),
        ];
        for (why, toml, want) in cases {
            let error = format!("{:#}", load(toml, &[]).expect_err(why));
            assert!(error.contains(want), "{why}: {error}");
        }
    }

    #[test]
    fn what_a_start_would_refuse_is_refused_by_key_and_file() {
        let postgres = "[tables]\nengine = \"postgres\"\nurl = ";
        let cases = [
            (
                "address",
                "[mllp]\nlisten = \"nonsense\"".to_owned(),
                "hilum.toml: mllp.listen: `nonsense` is no address",
            ),
            (
                "listener",
                "[mllp]\nlisteners = { ed = \"localhost:1\" }".to_owned(),
                "hilum.toml: mllp.listeners.ed: `localhost:1` is no address",
            ),
            (
                "zone",
                "[http]\nzone = \"Asia/Soul\"".to_owned(),
                "hilum.toml: http.zone: `Asia/Soul` is no IANA time zone; did you mean `Asia/Seoul`?",
            ),
            (
                "abbreviation",
                "[sources.a]\nzone = \"KST\"".to_owned(),
                "hilum.toml: sources.a.zone: `KST` is no IANA time zone (write Asia/Seoul)",
            ),
            ("charset", "[sources.a]\ncharset = \"klingon\"".to_owned(), "hilum.toml: sources.a.charset: "),
            (
                "fallback",
                "[sources.a]\ncharset_fallback = \"klingon\"".to_owned(),
                "hilum.toml: sources.a.charset_fallback: ",
            ),
            ("name", "[sources.\"a b/../x\"]".to_owned(), "sources.a b/../x: a name has"),
            (
                "peer",
                "[sources.a]\nmatch = { peers = [\"300.1.1.1\"] }".to_owned(),
                "hilum.toml: sources.a.match.peers: `300.1.1.1` is no address and no network",
            ),
            (
                "level",
                "[logging]\nlevel = \"hilum=loud\"".to_owned(),
                "hilum.toml: logging.level: `hilum=loud`",
            ),
            (
                "number",
                "[mllp]\nidle_s = \"soon\"".to_owned(),
                "hilum.toml: mllp.idle_s: string \"soon\", a whole number is expected",
            ),
            (
                "truth",
                "[http]\nhttps = 1".to_owned(),
                "hilum.toml: http.https: integer `1`, true or false is expected",
            ),
            (
                "choice",
                "[sources.a]\non_transient = \"drop\"".to_owned(),
                "hilum.toml: sources.a.on_transient: `drop`, one of these is expected: `close`, `AR`, `AE`",
            ),
            (
                "list",
                "[sources.a]\nmatch = { peers = \"10.0.0.1\" }".to_owned(),
                "hilum.toml: sources.a.match.peers: string \"10.0.0.1\", a list is expected",
            ),
            ("section", "http = 3".to_owned(), "hilum.toml: http: integer `3`, a table is expected"),
            ("syntax", "[http".to_owned(), "hilum.toml: TOML parse error at line 1"),
            ("in clear", format!("{postgres}\"postgres://h@db.example/hilum\""), "hilum.toml: tables.url: "),
            (
                "in clear, preferred otherwise",
                format!("{postgres}\"postgres://h@db.example/hilum?sslmode=prefer\""),
                "sslmode=disable",
            ),
            ("TLS", format!("{postgres}\"postgres://h@db.example/hilum?sslmode=require\""), "TLS"),
            ("no url", format!("{postgres}\"::\""), "tables.url: "),
        ];
        for (why, toml, want) in &cases {
            let error = format!("{:#}", load(toml, &[]).expect_err(why));
            assert!(error.contains(want), "{why}: {error}");
            for theirs in ["Value", "default.", "global.", ".rs", "u64", "struct", "figment"] {
                assert!(!error.contains(theirs), "{why}: {error}");
            }
        }
        for url in [
            "postgres://h@db.example/hilum?sslmode=disable",
            "postgres://h@127.0.0.1/hilum",
            "host=/run/postgresql user=h",
        ] {
            load(&format!("{postgres}\"{url}\""), &[]).expect(url);
        }
        let error = load("", &[("HILUM_HTTP__ZONE", "Mars/X")]).expect_err("variable").to_string();
        assert!(error.starts_with("environment (HILUM_") && error.contains("http.zone"), "{error}");
        let by_hand = Overrides { mllp: Some("2575".to_owned()), ..Overrides::default() };
        let error = Config::load(None, [], &by_hand).expect_err("option").to_string();
        assert!(error.starts_with("--mllp: mllp.listen: `2575`"), "{error}");
    }

    #[test]
    fn variables_are_refused_with_the_nearest_name() {
        let error = load("", &[("HILUM_MLLP__IDEL_S", "3")]).expect_err("variable").to_string();
        assert!(error.contains("`mllp.idel_s`; did you mean `idle_s`?"), "{error}");
    }

    #[test]
    fn passwords_are_masked() {
        let cases = [
            ("password", "postgres://h:geheim@db/hilum?x=1", "postgres://h:***@db/hilum?x=1"),
            ("no password", "postgres://h@db/hilum", "postgres://h@db/hilum"),
            ("at sign in it", "postgres://h:ge@heim@db/hilum", "postgres://h:***@db/hilum"),
            ("parameter", "postgres://db/hilum?password=geheim&x=1", "postgres://db/hilum?password=***&x=1"),
            ("words", "host=db password=geheim user=h", "host=db password=*** user=h"),
            ("none", "", ""),
        ];
        for (why, url, want) in cases {
            assert_eq!(mask_url(url), want, "{why}");
        }
        let mut config = Config::default();
        config.tables.url = "postgres://h:geheim@db/hilum".to_owned();
        assert!(!config.to_toml().contains("geheim"));
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        let config = load("[sources.ed]\nauthority_aliases = { \"A^1.2^ISO\" = \"A\" }\n[mllp]\nlisteners = { b = \"127.0.0.1:0\" }", &[])
            .expect("valid");
        let printed = config.to_toml();
        let again = load(&printed, &[]).expect("what we print is valid");
        assert_eq!(printed, again.to_toml());
    }

    #[test]
    fn the_reference_names_every_key_once() {
        fn leaves(tree: &Value, path: &str, out: &mut Vec<String>) {
            match tree {
                Value::Object(map)
                    if !map.is_empty() && path != "sources.*.match" && path != "mllp.listeners" =>
                {
                    for (key, value) in map {
                        leaves(
                            value,
                            &if path.is_empty() { key.clone() } else { format!("{path}.{key}") },
                            out,
                        );
                    }
                }
                _ => out.push(path.to_owned()),
            }
        }
        let mut known = Vec::new();
        leaves(&shape(), "", &mut known);
        let mut told: Vec<_> = REFERENCE.iter().map(|(key, _)| (*key).to_owned()).collect();
        known.sort();
        told.sort();
        assert_eq!(known, told);
    }

    #[test]
    fn the_reference_is_valid_once_its_defaults_are_uncommented() {
        let mut toml = String::new();
        for line in reference().replace("[sources.NAME]", "[sources.name]").lines() {
            let is_default = line.strip_prefix("# ").is_some_and(|rest| {
                rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
                    && !rest.ends_with("(not set)")
            });
            let example = line.starts_with("# Example");
            toml.push_str(if is_default && !example { line.trim_start_matches("# ") } else { line });
            toml.push('\n');
        }
        let config = load(&toml, &[]).expect("valid");
        let mut want = Config::default();
        want.sources.insert("name".to_owned(), Source::default());
        assert_eq!(config.to_toml(), want.to_toml());
    }
}
