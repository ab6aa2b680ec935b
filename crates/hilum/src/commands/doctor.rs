//! `hilum doctor`

mod engines;
mod processes;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hilum_adt::view::reconcile::{Differs, Reconciler};
use hilum_chart::index::mend;
use hilum_chart::{Cause, Chart, Paused, RelayHealth};
use hilum_core::{Id, Kind, Stream, Timestamp};
use hilum_engines::log::LogError;
use hilum_engines::tables::TablesError;
use hilum_web::StoreError;
use hilum_web::{keys, users};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::timeout;

use super::{ConfigFile, DataFolder};
use crate::admin::{self, Ask};
use crate::config::{Config, LogEngine, Overrides};
use crate::folder;
use crate::house::{House, OWNERS};
use crate::watch::Watch;
use crate::{damaged_end, machine, out, passed_over, relay};

/// `hilum doctor`
#[derive(Debug, Args)]
#[command(
    after_help = "Works beside a running server and without one. Exit code 1 when something must be done.\n\n\
                        Examples:\n  hilum doctor --data /srv/hilum --config /etc/hilum.toml\n  hilum doctor --json --data /srv/hilum"
)]
pub struct Arguments {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataFolder,
    #[command(flatten)]
    config: ConfigFile,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Should be looked at.
    Warn,
    /// Must be mended.
    Bad,
}

/// One finding, with its remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at.
    pub about: String,
    /// What was found.
    pub found: String,
    /// What to do; empty when nothing is to be done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// What keeps a partition that stands still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

impl Finding {
    fn ok(about: &str, found: impl Into<String>) -> Self {
        Self::warn(about, found, "").level(Level::Ok)
    }

    fn warn(about: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (about, found, remedy) = (about.to_owned(), found.into(), remedy.into());
        Self { level: Level::Warn, about, found, remedy, cause: None }
    }

    fn bad(about: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::warn(about, found, remedy).level(Level::Bad)
    }

    const fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }
}

/// Looks, and says what it found.
///
/// # Errors
/// Only when the findings cannot be printed.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let path = &arguments.data.path;
    let mut findings = Vec::new();
    let config = match arguments.config.load(&Overrides::default()) {
        Ok(config) => {
            findings.push(Finding::ok("configuration", "can be read"));
            Some(config)
        }
        Err(error) => {
            let remedy = "mend the key that it names; `hilum config reference` lists all";
            findings.push(Finding::bad("configuration", format!("{error:#}"), remedy));
            None
        }
    };
    findings.push(clock_of_machine());
    if path.is_dir() {
        findings.extend(folder_itself(path));
        match folder::holder(path) {
            Ok(Some(who)) => findings.push(Finding::ok("server", format!("runs ({who})"))),
            Ok(None) => {
                findings.push(Finding::ok("server", "does not run"));
                findings.extend(config.iter().flat_map(ports));
            }
            Err(error) => findings.push(Finding::bad(
                "folder",
                format!("{error:#}"),
                "give the server's user the folder",
            )),
        }
        if let Some(config) = &config {
            findings.extend(limits_of_process(config));
        }
        // Open permissions or a port that is taken are findings of their own and hide nothing behind them.
        let is_shut = findings.iter().any(|one| one.level == Level::Bad && one.about == "folder");
        if config.is_none() || is_shut {
            findings.push(Finding::warn(
                "engines",
                "log and tables were not looked at",
                "mend the configuration and the folder first, then look again",
            ));
        } else {
            match admin::ask(&arguments.data, &arguments.config, "doctor", Ask::Doctor, |_| {}) {
                Ok(inside) => findings.extend(serde_json::from_value::<Vec<Finding>>(inside)?),
                Err(error) => {
                    findings.extend(config.iter().flat_map(|config| without_house(config, path)));
                    findings.push(Finding::bad(
                        "engines",
                        format!("{error:#}"),
                        "mend what it names, then look again",
                    ));
                }
            }
        }
    } else {
        // A path that was mistyped must not look like a server that is well.
        let (what, remedy) = if path.exists() {
            ("is no folder", "give the data folder".to_owned())
        } else {
            let makes =
                format!("give the right one; a new one is made by `hilum serve --data {}`", path.display());
            ("is not there", makes)
        };
        findings.push(Finding::bad("folder", format!("{} {what}", path.display()), remedy));
        // What it will stand on can be seen before there is anything.
        findings.extend(config.iter().flat_map(|config| without_house(config, path)));
    }
    show(&findings, arguments.json);
    let is_bad = findings.iter().any(|finding| finding.level == Level::Bad);
    Ok(if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What can be seen of the engines where the house cannot be opened.
fn without_house(config: &Config, path: &Path) -> Vec<Finding> {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return vec![Finding::warn("engines", why.to_string(), "look again")],
    };
    let findings = runtime.block_on(engines::look(config, path, &machine::clock()));
    // A broker that does not answer keeps a thread for seconds.
    runtime.shutdown_background();
    findings
}

fn show(findings: &[Finding], json: bool) {
    if json {
        out::line(&serde_json::to_value(findings).unwrap_or(Value::Null).to_string());
        return;
    }
    for finding in findings {
        let mark = match finding.level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Bad => "BAD ",
        };
        out::line(&format!("{mark}  {}: {}", finding.about, finding.found));
        if !finding.remedy.is_empty() {
            out::line(&format!("      → {}", finding.remedy));
        }
    }
}

/// Before this program was written no clock can be right: 2026-01-01.
const EARLIEST_MICROS: i64 = 1_767_225_600_000_000;

fn clock_of_machine() -> Finding {
    let now = machine::clock().now();
    if now.as_micros() < EARLIEST_MICROS {
        let remedy = "set the clock and keep it by NTP: times of receipt and record ids come from it";
        return Finding::bad("clock", format!("says {now}, which cannot be"), remedy);
    }
    Finding::ok("clock", format!("says {now}"))
}

fn folder_itself(path: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let probe = path.join(".doctor");
    match OpenOptions::new().write(true).create(true).truncate(true).open(&probe) {
        Ok(_) => {
            std::fs::remove_file(&probe).ok();
            findings.push(Finding::ok("folder", format!("{} can be written", path.display())));
        }
        Err(why) => findings.push(Finding::bad(
            "folder",
            format!("{} cannot be written: {why}", path.display()),
            "run as the user that owns it, or chown it",
        )),
    }
    for (place, mode) in folder::open_to_others(path) {
        let remedy = format!("chmod go= {}", place.display());
        findings.push(Finding::bad(
            "permissions",
            format!("{} is open to others ({mode:o})", place.display()),
            remedy,
        ));
    }
    for (key, why, is_made_anew) in folder::keys_unread(path) {
        let found = format!("{} cannot be read: {why}", key.display());
        findings.push(if is_made_anew {
            Finding::warn("keys", found, "the next start makes it anew: everybody signs in again")
        } else {
            Finding::bad("keys", found, "restore it from the backup: no process starts with it")
        });
    }
    if let Ok(volume) = rustix::fs::statvfs(path) {
        let (free, size) = (volume.f_bavail * volume.f_frsize, volume.f_blocks * volume.f_frsize);
        let reserve = (size as f64 * hilum_engines::limits::DISK_RESERVE_RATIO) as u64;
        let found =
            format!("{} MiB free of {} MiB, {} MiB are reserved", free >> 20, size >> 20, reserve >> 20);
        findings.push(if free < reserve {
            Finding::bad("disk", found, "make room: nothing is accepted until there is")
        } else if free < 2 * reserve {
            Finding::warn("disk", found, "make room soon: below the reserve nothing is accepted")
        } else {
            Finding::ok("disk", found)
        });
    }
    let owner = path.metadata().map(|metadata| metadata.uid()).unwrap_or_default();
    let me = rustix::process::geteuid().as_raw();
    if owner != me {
        let found = format!("{} belongs to user {owner}, this is user {me}", path.display());
        findings.push(Finding::warn("folder", found, "run hilum as one user"));
    }
    findings
}

fn ports(config: &Config) -> Vec<Finding> {
    let mut asked = vec![("http.listen".to_owned(), &config.http.listen)];
    if !config.mllp.listen.is_empty() {
        asked.push(("mllp.listen".to_owned(), &config.mllp.listen));
    }
    asked.extend(config.mllp.listeners.iter().map(|(name, raw)| (format!("mllp.listeners.{name}"), raw)));
    asked
        .into_iter()
        .map(|(key, raw)| match std::net::TcpListener::bind(raw.as_str()) {
            Ok(_) => Finding::ok("ports", format!("{key} {raw} is free")),
            Err(why) => Finding::bad(
                "ports",
                format!("{key} {raw} cannot be bound: {why}"),
                format!("stop what listens there, or set {key}"),
            ),
        })
        .collect()
}

fn limits_of_process(config: &Config) -> Option<Finding> {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum?;
    let wanted = config.mllp.connections_max as u64 + 1_024;
    (files < wanted).then(|| {
        Finding::warn(
            "open files",
            format!("{files} are allowed, mllp.connections_max asks for {wanted}"),
            "raise LimitNOFILE, or lower mllp.connections_max",
        )
    })
}

/// What only whoever holds the folder can see.
pub async fn inside(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    // What it finds not to answer, it says itself.
    timeout(CHECKUP_MAX, house.log.look()).await.ok();
    let (log, is_kafka) = (house.log.health(), house.config.log.engine == LogEngine::Kafka);
    findings.push(match (&log.read_only, &log.full, &log.held) {
        (Some(why), ..) if is_kafka => {
            Finding::bad("log", format!("read-only: {why}"), "mend what it names, then restart")
        }
        (Some(why), ..) => Finding::bad(
            "log",
            format!("read-only: {why}"),
            "mend the disk, then restart: an fsync is never retried",
        ),
        (_, Some(why), _) => {
            let remedy = if is_kafka { BROKERS_AWAY } else { "make room on the volume" };
            Finding::bad("log", format!("does not accept: {why}"), remedy)
        }
        (_, _, Some(why)) => Finding::bad(
            "log",
            format!("does not accept: {why}"),
            "end what has log.sqlite open for writing (a shell, a backup): it goes on by itself then",
        ),
        _ => Finding::ok("log", format!("accepts, durable by {}", log.durability)),
    });
    for end in &log.damaged {
        findings.push(Finding::bad("log", damaged_end::found(end), damaged_end::way_out(end)));
    }
    let t = timeout(CHECKUP_MAX, house.tables.now()).await;
    match &t {
        Ok(Ok(t)) => {
            findings.push(Finding::ok("tables", format!("{}, at commit {t}", house.tables.describe())));
        }
        Ok(Err(error)) => {
            let remedy = if matches!(error, TablesError::Gone { .. }) { "as it says" } else { TABLES_AWAY };
            findings.push(Finding::bad("tables", error.to_string(), remedy));
        }
        Err(_) => findings.push(Finding::bad("tables", silent(), TABLES_AWAY)),
    }
    if let Some(why) = house.unfit() {
        findings.push(Finding::bad("log", why.to_string(), House::way_out(why)));
    }
    if let Some(watch) = house.watch.get() {
        findings.extend(of_the_fold(watch));
        findings.extend(watch.went_back().map(|found| Finding::warn("tables", found, WAY_OUT_BACK)));
    }
    // That the tables do not answer is said above: each question would only wait for that once more.
    let answers = matches!(t, Ok(Ok(_)));
    if answers {
        findings.extend(of_the_rows(house).await);
    }
    let of_engines = engines::look(&house.config, house.folder.path(), &house.clock);
    let (of_records, of_engines) =
        futures::future::join(timeout(CHECKUP_MAX, of_the_records(house)), of_engines).await;
    let of_records = of_records.unwrap_or_else(|_| vec![Finding::bad("log", silent(), LOG_AWAY)]);
    let log_answers = of_records.iter().all(|one| one.remedy != LOG_AWAY);
    findings.extend(of_records);
    findings.extend(of_engines);
    if answers || house.watch.get().is_some() {
        let gateways = processes::gateways(house).await;
        // Asked only now: what was looked at may have taken long, and others went on meanwhile.
        let now = house.clock.now();
        findings.extend(processes::of_the_processes(house, &gateways, log_answers, now));
        findings.extend(processes::of_the_sources(&gateways, now));
    }
    findings
}

/// For how long each engine is waited for.
const CHECKUP_MAX: Duration = Duration::from_secs(hilum_engines::limits::CHECKUP_S_MAX);
const TABLES_AWAY: &str = "see that the database runs and tables.url is right";
const BROKERS_AWAY: &str = "see that the brokers answer and have room: it goes on by itself when they do";
const LOG_AWAY: &str = "see that the brokers (or the disk) answer, then look again";

fn silent() -> String {
    format!("gives no answer within {} s", CHECKUP_MAX.as_secs())
}

/// What the tables tell.
async fn of_the_rows(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    let records = passed_over::count(&house.tables).await.unwrap_or_default();
    if records > 0 {
        findings.push(Finding::bad(
            "log",
            format!(
                "{records} records could not be read and were passed over (quarantine, rule log.corrupt)"
            ),
            passed_over::WAY_OUT,
        ));
        let readable = timeout(CHECKUP_MAX, passed_over::readable(&house.log, &house.tables)).await;
        let readable = readable.map(Result::unwrap_or_default).unwrap_or_default();
        if readable > 0 {
            let found = format!("{readable} of {records} records that were passed over can be read again");
            findings.push(Finding::bad("log", found, passed_over::WAY_OUT_READABLE));
        }
    }
    let on_rows = passed_over::count_on_rows(&house.tables).await.unwrap_or_default();
    if on_rows > 0 {
        findings.push(Finding::bad("tables", passed_over::of_rows(on_rows), passed_over::WAY_OUT_ROWS));
    }
    findings.extend(of_the_census(house).await);
    findings.extend(of_the_index(house).await);
    findings.extend(of_the_limited(house).await);
    findings.extend(of_the_feed(house).await);
    findings
}

/// What the newest records tell.
async fn of_the_records(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    let last = last_received(house).await;
    let now = house.clock.now();
    match last {
        Ok(Some(last)) if last.micros_since(now) > 60_000_000 => findings.push(Finding::bad(
            "clock",
            format!("the log holds a record of {last}, now it is {now}"),
            "the clock went back: keep it by NTP",
        )),
        Ok(Some(last)) => findings.push(Finding::ok("log", format!("last record at {last}"))),
        Ok(None) => findings.push(Finding::ok("log", "holds nothing yet")),
        // Its own text says the way out.
        Err(error @ LogError::Gone { .. }) => {
            findings.push(Finding::bad("log", error.to_string(), "as it says"));
        }
        // Each further one would wait for the same.
        Err(error) if error.kind() == Kind::Transient => {
            findings.push(Finding::bad("log", error.to_string(), LOG_AWAY));
            return findings;
        }
        Err(error) => {
            findings.push(Finding::bad("log", error.to_string(), "restore the log from the backup"));
        }
    }
    findings.extend(engines::clocks_of_brokers(house).await);
    findings
}

/// What to do about tables that went back.
const WAY_OUT_BACK: &str = "look through `hilum users list` and `hilum keys list`: what was revoked or changed since holds \
                            again, what was made since is gone; the audit log lacks who looked since. Restart to end this note";

/// Partitions that stand still, each with its cause and the way out.
fn of_the_fold(watch: &Watch) -> Vec<Finding> {
    let fold = watch.progress.health();
    let mut findings: Vec<Finding> = fold
        .partitions
        .iter()
        .filter_map(|one| {
            let Paused { cause, why } = one.paused.as_ref()?;
            let about = format!("partition {}/{}", one.stream, one.partition);
            let left = one.lag_records().map_or_else(
                || {
                    format!(
                        "how much there is to apply is not known (its end was {} when last seen)",
                        one.end
                    )
                },
                |lag| format!("{lag} to apply"),
            );
            let found = format!("stands still at {}, {left}: {why}", one.applied);
            Some(Finding { cause: Some(*cause), ..Finding::bad(&about, found, way_out(*cause)) })
        })
        .collect();
    if findings.is_empty() {
        let left = fold.lag_records().map(|lag| format!("{lag} records to apply"));
        let left = left.unwrap_or_else(|| "the end of the log is not known yet".to_owned());
        findings.push(Finding::ok("fold", format!("goes on, {left}")));
    }
    findings
}

/// What to do about a cause of standing still. It is tried again all the time: what is mended goes on by itself.
const fn way_out(cause: Cause) -> &'static str {
    match cause {
        Cause::Engine => "see that the database or disk answers: it goes on by itself when it does",
        Cause::ReadOnly => "mend the disk, then restart: what is acknowledged waits in the log",
        Cause::Unreadable => "it is tried for some seconds and then passed over by itself: look again",
        Cause::Missing => {
            "stop every process. Restore the topic from a mirror if there is one. Else `hilum rebuild chart --behind keep \
             --without-damaged` goes over the gap and keeps all that stands; ask the senders for what is missing. See that \
             retention.ms is -1 and that nobody else writes to the topic"
        }
        Cause::Gone => {
            "restore the topic from a mirror: it goes on by itself. If it is lost, stop every process, make the topic again, \
             empty, with as many partitions and the same settings, and run `hilum rebuild chart --behind keep`, which \
             keeps all that was applied; ask the senders for what was not"
        }
        Cause::DamagedEnd => damaged_end::WAY_OUT_UNSURE,
        Cause::NewerProgram => {
            "start the newer program on this folder: nothing is lost, the record waits for it"
        }
        Cause::OtherLog => {
            "log and tables do not belong together: stop the server, restore the matching log, or run `hilum rebuild \
             chart`, which says what it would do"
        }
        Cause::NoWorker => "start a process with the role worker: what came in waits in the log",
        Cause::DamagedRow => {
            "a row of the tables is damaged: stop the server, look at the disk, restore the tables from the backup; \
             what came since is applied from the log"
        }
        Cause::Program => {
            "a fault of the program: keep the folder and the log line, start a version that mends it, or tell us; what \
             is behind the record waits"
        }
    }
}

/// Whether somebody has vanished (clinical-rules 27).
async fn of_the_census(house: &House) -> Option<Finding> {
    let found = if let Some(watch) = house.watch.get() {
        watch.reconciler.look().await
    } else {
        let chart = Chart::open(house.tables.clone(), house.clock.clone());
        Reconciler::new(house.tables.clone(), chart, house.clock.clone()).look().await
    };
    let found = found.ok()?;
    let [not_shown, not_open, not_in_chart, unreadable] = Differs::ALL.map(|one| found.count(one));
    let text = format!("{} in the house, {} on the board", found.open, found.on_board);
    Some(if found.differing.is_empty() {
        Finding::ok("census", text)
    } else {
        Finding::bad(
            "census",
            format!(
                "{text}: {not_shown} on no list, {not_open} on a list and not here, {not_in_chart} not in the chart, {unreadable} not readable"
            ),
            "stop the server and run `hilum rebuild census`",
        )
    })
}

/// Whether searches find what there is: all is indexed, and of some resources each row is there.
async fn of_the_index(house: &House) -> Option<Finding> {
    let indexer = house.indexer.as_ref()?;
    let whole = mend::is_whole(&house.tables, indexer).await.ok()?;
    let remedy = "stop the server and run `hilum rebuild index`";
    if !whole {
        let found = "resources are not indexed as the configuration says: searches wait";
        return Some(Finding::warn("search index", found, remedy));
    }
    // Others each time.
    let mut from = [0; 16];
    house.entropy.fill(&mut from);
    let sample = mend::sample(&house.tables, indexer, OWNERS, Id::from_bytes(from)).await.ok()?;
    let text = format!("{} rows of {} resources looked at", sample.rows, sample.resources);
    Some(match sample.missing {
        0 => Finding::ok("search index", text),
        missing => Finding::bad("search index", format!("{text}: {missing} are not there"), remedy),
    })
}

/// Whether each name that is limited to some patients is somebody's: one that is misspelt limits nobody.
async fn of_the_limited(house: &House) -> Option<Finding> {
    if house.config.fhir.limited.is_empty() {
        return None;
    }
    let nobodys = limited_nobodys(house).await.ok()?;
    if nobodys.is_empty() {
        return Some(Finding::ok("fhir.limited", "each name is an account's or an API key's"));
    }
    let found = format!("no account or API key is called {}: nobody is limited by that", nobodys.join(", "));
    let remedy = "write the names as `hilum keys list` and `hilum users list` say them";
    Some(Finding::warn("fhir.limited", found, remedy))
}

/// The names in `fhir.limited` that no account has, nor an API key that is not revoked.
///
/// # Errors
/// The engine's.
pub async fn limited_nobodys(house: &House) -> Result<Vec<String>, StoreError> {
    let (keys, accounts) = (keys::list(&house.tables).await?, users::list(&house.tables).await?);
    let keys = keys.iter().filter(|key| key.revoked.is_none()).map(|key| key.name.as_str());
    let known: BTreeSet<&str> = keys.chain(accounts.iter().map(|account| account.name.as_str())).collect();
    let names = house.config.fhir.limited.keys();
    Ok(names.filter(|name| !known.contains(name.as_str())).cloned().collect())
}

/// Whether what changes is published, where it is to be.
async fn of_the_feed(house: &House) -> Option<Finding> {
    if !house.config.log.relay {
        return None;
    }
    // That the tables do not answer is a finding of its own.
    let before = house.watch.get().and_then(|watch| watch.seen().feed);
    let feed = RelayHealth::look(&house.tables, before.as_ref(), house.clock.now()).await.ok()?;
    let Some(feed) = feed else {
        return Some(Finding::warn("change feed", "nothing was ever published", relay::WAY_OUT));
    };
    Some(match relay::note(&feed, house.clock.now()) {
        Some(note) if house.watch.get().is_some() => Finding::bad("change feed", note, relay::WAY_OUT),
        // Nothing runs: that nobody publishes is no news.
        Some(note) => Finding::warn("change feed", note, relay::WAY_OUT),
        None => Finding::ok("change feed", format!("published up to commit {}", feed.sent)),
    })
}

/// Whether it is said of this partition already that its newest records cannot be read.
fn log_is_damaged(house: &House, stream: Stream, partition: u16) -> bool {
    house.log.health().damaged.iter().any(|end| (end.stream, end.partition) == (stream, partition))
}

async fn last_received(house: &House) -> Result<Option<Timestamp>, LogError> {
    let mut last = None;
    for (stream, partition) in house.log.places(&hilum_core::Stream::ALL) {
        let end = match house.log.end(stream, partition).await {
            Err(LogError::Unsure { .. }) => continue, // it is named above
            end => end?,
        };
        let Some(offset) = end.checked_sub(1) else { continue };
        let read = match house.log.get(hilum_core::Position { stream, partition, offset }).await {
            Err(LogError::Missing { .. }) => continue, // all of it is deleted; whoever needs it says so
            Err(LogError::Corrupt { .. }) if log_is_damaged(house, stream, partition) => continue,
            read => read?,
        };
        last = last.max(read.map(|record| record.envelope.received));
    }
    Ok(last)
}
