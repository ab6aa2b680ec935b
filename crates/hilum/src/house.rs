//! Everything that is open while a data folder is held: log, tables, secrets, sources, the door.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hilum_adt::accept::{Door, DoorParts};
use hilum_adt::acks::AckTimes;
use hilum_adt::project::Adt;
use hilum_adt::sources::Sources;
use hilum_adt::{announce, import};
use hilum_chart::index::{Indexer, Unsearched, mend};
use hilum_chart::projection::Projection as _;
use hilum_chart::{Cause, Chart, ChartError, Paused, fits, run_all, run_over_gaps};
use hilum_core::{Clock, Entropy, Id, InstallationKey, Seq, Tracer};
use hilum_engines::log::Log;
use hilum_engines::log::embedded::{self, Embedded};
use hilum_engines::log::kafka::{Kafka, KafkaConfig};
use hilum_engines::tables::postgres::{Hold, Postgres, PostgresConfig};
use hilum_engines::tables::sqlite::{self, Sqlite};
use hilum_engines::tables::{Anew, Batch, Table, Tables, TablesError};
use hilum_fhir::search::values::Settings;
use serde_json::Value;

use crate::admin::Progress;
use crate::archive;
use crate::config::{Config, LogEngine, ProcessRole, TablesEngine};
use crate::folder::Folder;
use crate::watch::Watch;
use crate::{machine, seen};

/// What the embedded log is kept in.
const LOG_FILE: &str = "log.sqlite";

/// An open house.
pub struct House {
    /// Held for as long as the house is open.
    pub folder: Folder,
    /// Which process of the installation this is.
    pub process: Id,
    /// As it applies.
    pub config: Config,
    /// The machine's clock.
    pub clock: Clock,
    /// The machine's randomness.
    pub entropy: Entropy,
    /// Takes what is told of messages; nothing before somebody asks for it.
    pub tracer: Tracer,
    /// What ids are made with.
    pub key: InstallationKey,
    /// What came in.
    pub log: Log,
    /// Rows.
    pub tables: Tables,
    /// Who looked: a database, or a schema, of its own.
    pub audit: Tables,
    /// Where messages come from.
    pub sources: Arc<Sources>,
    /// Where they come in.
    pub door: Door,
    /// What they become.
    pub fold: Arc<Adt>,
    /// What makes resources found by searches; absent where there are none.
    pub indexer: Option<Arc<Indexer>>,
    /// Whether log, tables and program belong together.
    pub fit: OnceLock<Fit>,
    /// How it all does, once it runs.
    pub watch: OnceLock<Arc<Watch>>,
}

/// Whether log, tables and program belong together; not known before the tables have answered.
#[derive(Debug)]
pub enum Fit {
    /// They do.
    Yes,
    /// Why nothing may be accepted.
    No(ChartError),
}

/// How long a process that can do without its tables waits for them at its start.
const TABLES_PATIENCE: Duration = Duration::from_secs(3);
/// How long until it asks again whether they belong to the log.
const FIT_AGAIN: Duration = Duration::from_secs(1);

impl std::fmt::Debug for House {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("House").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// All tables of the process.
pub fn schema() -> Vec<&'static Table> {
    let parts = [
        hilum_web::tables::ALL,
        hilum_chart::resources::TABLES,
        hilum_records::tables::ALL,
        &[&hilum_chart::presence::PROCESS, &hilum_chart::relay::RELAY],
        hilum_adt::tables::TABLES,
        hilum_adt::tables::OWN,
    ];
    parts.into_iter().flatten().copied().collect()
}

/// What of whose resources searches may find.
pub const OWNERS: mend::Owners<'static> =
    &[(Adt::NAME, Adt::unsearched), (hilum_records::DOOR, |_| Unsearched::Nothing)];

/// What makes resources found by searches.
fn indexer(config: &Config, key: &InstallationKey) -> anyhow::Result<Option<Arc<Indexer>>> {
    if !config.fhir.search {
        return Ok(None);
    }
    let zone = jiff::tz::TimeZone::get(&config.http.zone).context("http.zone")?;
    let settings = Settings { zone, bases: config.fhir.bases.clone() };
    Ok(Some(Arc::new(Indexer::new(key.clone(), settings))))
}

/// A port whose engine is chosen by configuration.
#[derive(Clone, Copy)]
enum Port {
    Log,
    Tables,
}

/// Says which engine keeps what of this folder, so that a command that was given another configuration than the
/// server does not quietly begin anew.
fn check_engine(folder: &Folder, port: Port, name: &str) -> anyhow::Result<()> {
    let (file, what, anew) = match port {
        Port::Log => ("log.engine", "the log", "an empty one (what came in before stays where it is)"),
        Port::Tables => ("tables.engine", "the table space", "anew from the log"),
    };
    let place = folder.path().join(file);
    match std::fs::read_to_string(&place) {
        Ok(before) if before.trim() == name => Ok(()),
        Ok(before) => bail!(
            "{what} of {} is kept by `{}`, the configuration says `{name}`: give the server's --config, or delete {} \
             to begin {anew}",
            folder.path().display(),
            before.trim(),
            place.display()
        ),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            // A folder from before there was a choice.
            if matches!(port, Port::Log) && name != "embedded" && folder.path().join("log.sqlite").exists() {
                bail!(
                    "{} holds log.sqlite, the configuration says `{name}`: give the server's --config, or move that \
                     file away to begin {anew}",
                    folder.path().display()
                );
            }
            std::fs::write(&place, name).with_context(|| format!("{} cannot be written", place.display()))
        }
        Err(why) => Err(why).with_context(|| format!("{} cannot be read", place.display())),
    }
}

impl House {
    /// The chart, with what makes it found by searches.
    pub fn chart(&self) -> Chart {
        let chart = Chart::open(self.tables.clone(), self.clock.clone());
        match &self.indexer {
            Some(indexer) => chart.with_indexer(Arc::clone(indexer)),
            None => chart,
        }
    }

    /// Opens everything that stands in `folder`, beside other processes where the engines are shared with them.
    ///
    /// # Errors
    /// Names what cannot be opened.
    pub async fn open(folder: Folder, config: Config) -> anyhow::Result<Self> {
        Self::open_held(folder, config, Hold::Shared).await
    }

    /// The same for a rebuild: alone with the tables, refused while other processes work on them, as they are meanwhile.
    /// Tables of the fold that do not fit this program are made anew, empty.
    ///
    /// # Errors
    /// As [`House::open`], and who has them.
    pub async fn open_alone(folder: Folder, config: Config) -> anyhow::Result<Self> {
        Self::open_held(folder, config, Hold::Alone).await
    }

    async fn open_held(folder: Folder, config: Config, hold: Hold) -> anyhow::Result<Self> {
        // Before a key is made: the archive's is to be the one.
        archive::refuse_half_imported(&folder)?;
        let (clock, entropy) = (machine::clock(), machine::entropy());
        let key = folder.installation_key(&entropy)?;
        let process = folder.process_id(&entropy)?;
        let configured = config
            .sources
            .iter()
            .map(|(name, source)| (name.clone(), source.rules.clone(), source.settings.clone()));
        let sources = Arc::new(Sources::new(configured, clock.now()).context("configuration")?);
        let engines = Box::pin(open_engines(&folder, &config, hold, &clock, &entropy, &key)).await?;
        let Engines { log, tables, audit } = engines;
        if hold == Hold::Alone && audit.is_shared() && audit.now().await? == Seq(0) {
            // Begun anew on purpose: not empty, then, to processes that have seen another one.
            audit.commit(Batch::default()).await?;
        }
        // Before anything is written into it, so that no offset is given twice.
        let fit = match (find_fit(&log, &tables, &config, hold).await, waits_for_tables(&config)) {
            (Ok(fit), _) => OnceLock::from(fit),
            (
                Err(ChartError::Tables(
                    TablesError::Engine(_)
                    | TablesError::InUse { .. }
                    | TablesError::Gone { .. }
                    // Workers are upgraded first: what comes in meanwhile goes into the log.
                    | TablesError::Newer { .. },
                )),
                true,
            ) => OnceLock::new(),
            (Err(error), _) => return Err(error.into()),
        };
        // Before a door opens: envelopes name settings by their digest.
        let mut known = announce::known(&log).await?;
        // A worker writes no envelope, and needs no right to.
        let has_doors = config.roles.has(ProcessRole::Gateway) || config.roles.has(ProcessRole::Reader);
        // Nor does a rebuild: what it wrote into the log the tables would not have, and differ by.
        let writes = has_doors && hold != Hold::Alone;
        if writes && !matches!(fit.get(), Some(Fit::No(_))) {
            let announced = announce::announce(&sources, &known, &log, &clock, &entropy, &key).await?;
            if announced.written > 0 {
                tracing::info!(announced = announced.written, "settings of sources written down");
            }
            announce::shut_unknown(announced.placeless, &tables).await?;
            known.extend(sources.all().map(|one| (one.settings_sha(), one.settings().clone())));
        }
        let acks = Arc::new(AckTimes::default());
        let remembered = Arc::clone(&acks);
        let indexer = indexer(&config, &key)?;
        let fold = Adt::new(key.clone(), clock.clone()).acked_by(move |record| remembered.get(record));
        let fold = match &indexer {
            Some(indexer) => fold.indexed_by(Arc::clone(indexer)),
            None => fold,
        };
        let fold = Arc::new(fold);
        for (sha, settings) in known {
            fold.know(sha, settings);
        }
        let telemetry = &config.telemetry;
        let tracer = if telemetry.is_on() {
            Tracer::new(telemetry.sampling(), entropy.clone())
        } else {
            Tracer::off()
        };
        let door = Door::new(DoorParts {
            log: log.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            key: key.clone(),
            sources: Arc::clone(&sources),
            acks: Arc::clone(&acks),
            message_bytes_max: config.mllp.message_bytes_max,
            tracer: tracer.clone(),
        });
        Ok(Self {
            folder,
            process,
            config,
            clock,
            entropy,
            tracer,
            key,
            log,
            tables,
            audit,
            sources,
            door,
            fold,
            indexer,
            fit,
            watch: OnceLock::new(),
        })
    }

    /// Where the end of a partition of the log is not known, gives up what cannot be read of it and opens again (alone), so
    /// that it goes on: behind what can be read, and behind what was applied.
    ///
    /// # Errors
    /// The engines'.
    pub async fn settled(self) -> anyhow::Result<Self> {
        let unsure = self.log.health().damaged.into_iter().filter(|end| end.before.is_none());
        let mut applied = BTreeMap::new();
        for end in unsure {
            let (stream, partition) = (end.stream, end.partition);
            let next = self.tables.offset(Adt::NAME, stream, partition, self.log.epoch()).await?;
            applied.insert((stream, partition), next);
        }
        if applied.is_empty() {
            return Ok(self);
        }
        self.close().await;
        let Self { folder, config, clock, entropy, log, door, .. } = self;
        drop((log, door));
        let path = folder.path().join(LOG_FILE);
        let of = |stream, partition| applied.get(&(stream, partition)).copied().unwrap_or_default();
        for place in Embedded::settle(&path, &clock, &entropy, &of)? {
            tracing::warn!(%place, "the partition goes on here: what came behind what can be read is given up");
        }
        Self::open_alone(folder, config).await
    }

    /// Applies what the log holds and the tables do not, over gaps of the log if that is said. `lag` hears how many records
    /// are left.
    ///
    /// # Errors
    /// Why a partition stands still.
    pub async fn fold_all(&self, over_gaps: bool, lag: &dyn Fn(u64)) -> anyhow::Result<()> {
        let run = if over_gaps { run_over_gaps } else { run_all };
        let fold = run(&self.fold, &self.log, &self.tables, &self.clock);
        let mut moved = fold.progress().moved();
        let done = loop {
            let health = fold.progress().health();
            if let Some(left) = health.lag_records() {
                lag(left);
            }
            if health.caught_up() {
                break Ok(());
            }
            let mut paused = health.partitions.iter().filter_map(|one| one.paused.as_ref());
            // One that cannot be read is tried for some seconds, and then passed over.
            if let Some(Paused { why, .. }) = paused.find(|paused| paused.cause != Cause::Unreadable) {
                break Err(anyhow::anyhow!("the log is not applied: {why}"));
            }
            // Partitions without records say where they are without moving.
            tokio::time::timeout(Duration::from_millis(100), moved.changed()).await.ok();
        };
        fold.stop().await;
        done
    }

    /// Writes out what waits, and closes.
    pub async fn close(&self) {
        seen::note(self);
        // Beside each other: one that does not answer keeps nothing else waiting.
        futures::future::join3(self.log.close(), self.tables.close(), self.audit.close()).await;
    }

    /// Refuses what would write where log, tables and program do not belong together.
    ///
    /// # Errors
    /// Why it does not, and the ways out.
    pub fn must_fit(&self) -> anyhow::Result<()> {
        match self.unfit() {
            None => Ok(()),
            Some(why) => bail!("{why}. {}", Self::way_out(why)),
        }
    }

    /// Why nothing may be accepted, as far as is known.
    pub fn unfit(&self) -> Option<&ChartError> {
        match self.fit.get()? {
            Fit::Yes => None,
            Fit::No(why) => Some(why),
        }
    }

    /// Finds out whether log and tables belong together as soon as the tables answer. Doors that were opened before
    /// are shut when they do not: what they take would be passed over.
    pub async fn fits_later(&self) {
        if self.fit.get().is_some() {
            return;
        }
        self.tables.wait_open().await;
        let fit = loop {
            match find_fit(&self.log, &self.tables, &self.config, Hold::Shared).await {
                Ok(fit) => break fit,
                Err(error) => {
                    tracing::warn!(%error, "whether log and tables belong together is not known yet");
                    tokio::time::sleep(FIT_AGAIN).await;
                }
            }
        };
        if let Fit::No(why) = &fit {
            tracing::error!(%why, way_out = Self::way_out(why), "the doors are shut");
            self.door.shut(why.to_string());
        }
        self.fit.set(fit).unwrap_or_else(|_| tracing::debug!("asked twice"));
    }

    /// What to do about log, tables and program that do not belong together.
    pub const fn way_out(why: &ChartError) -> &'static str {
        if matches!(why, ChartError::OtherForm { .. }) {
            "Nothing is accepted until they are made anew: with the server stopped, `hilum rebuild census` computes them \
             from the log, which has everything. Or start the program that wrote them"
        } else if matches!(why, ChartError::NewTables { .. }) {
            "Nothing is accepted until it is known why. See that tables.url and tables.schema lead to the tables that were there, or restore \
             them. If they are lost, stop every process: `hilum rebuild chart` makes the chart anew from the log, which has \
             everything but accounts, keys and who looked; these are made anew by hand"
        } else if matches!(why, ChartError::Tables(_) | ChartError::OtherLog { .. }) {
            "Nothing is accepted until they belong together. Two installations take a tables.schema each. Else restore the \
             log that these tables were made from; if it is lost, move the tables away (tables.sqlite, or another \
             tables.schema): `hilum rebuild chart` makes them anew from this log"
        } else {
            "Nothing is accepted until they belong together. Best: restore the newest log.sqlite. If it is lost: \
             `hilum rebuild chart --behind keep` applies this log once more and keeps what only the tables know; \
             `--behind drop` makes them what this log says, and nothing more"
        }
    }

    /// Imports HL7 v2 files.
    ///
    /// # Errors
    /// When there is no such source or file, or the log does not take it.
    pub async fn import(
        &self,
        paths: Vec<PathBuf>,
        source: Option<String>,
        progress: &Progress,
    ) -> anyhow::Result<Value> {
        self.must_fit()?;
        let source = match source {
            Some(name) => {
                let known =
                    || self.sources.all().map(|source| source.name().as_str()).collect::<Vec<_>>().join(", ");
                self.sources
                    .get(&name)
                    .with_context(|| format!("no source `{name}`; there are: {}", known()))?
            }
            None => self.sources.default_source(),
        };
        let found = tokio::task::spawn_blocking(move || import::files(&paths)).await??;
        if found.files.is_empty() && found.passed_over.is_empty() {
            bail!("no file to import: a folder gives its .hl7, .txt, .msg, .dat, .er7, .adt and .mllp files");
        }
        let state = self.folder.path().join("import");
        let show = |imported: &import::Imported| {
            // A reader that is slow misses a step, not the end.
            progress.try_send(serde_json::to_value(imported).unwrap_or_default()).ok();
        };
        let imported = import::run(&self.door, source, found, &state, show).await?;
        Ok(serde_json::to_value(imported)?)
    }
}

/// What keeps a data folder's data.
pub struct Engines {
    /// What came in.
    pub log: Log,
    /// Rows.
    pub tables: Tables,
    /// Who looked.
    pub audit: Tables,
}

/// Opens the engines that `config` names. Nothing is said into them.
///
/// # Errors
/// Names what cannot be opened.
pub async fn open_engines(
    folder: &Folder,
    config: &Config,
    hold: Hold,
    clock: &Clock,
    entropy: &Entropy,
    key: &InstallationKey,
) -> anyhow::Result<Engines> {
    let (of_log, of_tables) = match (config.log.engine, config.tables.engine) {
        (LogEngine::Embedded, TablesEngine::Sqlite) => ("embedded", "sqlite"),
        (LogEngine::Embedded, TablesEngine::Postgres) => ("embedded", "postgres"),
        (LogEngine::Kafka, TablesEngine::Sqlite) => ("kafka", "sqlite"),
        (LogEngine::Kafka, TablesEngine::Postgres) => ("kafka", "postgres"),
    };
    check_engine(folder, Port::Log, of_log)?;
    check_engine(folder, Port::Tables, of_tables)?;
    let (tables, audit) = Box::pin(open_tables(folder, config, hold)).await.map_err(with_way_out)?;
    let log = Box::pin(open_log(folder, config, clock, entropy, key)).await?;
    Ok(Engines { log, tables, audit })
}

/// Whether they fit; an error says that it cannot be known now.
async fn find_fit(log: &Log, tables: &Tables, config: &Config, hold: Hold) -> Result<Fit, ChartError> {
    let reads_rows = config.roles.has(ProcessRole::Worker) || config.roles.has(ProcessRole::Reader);
    match fits::refuse_new::<Adt>(log, tables).await {
        // Nothing is written into them: whoever works on them says what they are.
        Err(error @ ChartError::NewTables { .. }) if !reads_rows && hold == Hold::Shared => {
            tracing::warn!(%error, "what comes in is kept for the tables that were there");
            return Ok(Fit::Yes);
        }
        Err(error @ ChartError::NewTables { .. }) => return Ok(Fit::No(error)),
        other => other?,
    }
    match fits::check::<Adt>(log, tables).await {
        Ok(()) => Ok(Fit::Yes),
        // A door has no use for the rows: while workers are upgraded, what comes in goes on into the log.
        Err(error @ ChartError::OtherForm { .. }) if !reads_rows => {
            tracing::warn!(%error, "the rows are another program's: what comes in is kept for it");
            Ok(Fit::Yes)
        }
        Err(
            error @ (ChartError::LogBehind { .. }
            | ChartError::LogReplaced { .. }
            | ChartError::OtherForm { .. }
            | ChartError::OtherLog { .. }
            | ChartError::Tables(TablesError::OtherLog { .. })),
        ) => Ok(Fit::No(error)),
        Err(error) => Err(error),
    }
}

/// Whether the process starts without its tables: a gateway needs the log alone, unless somebody is to look through it.
const fn waits_for_tables(config: &Config) -> bool {
    config.roles.has(ProcessRole::Gateway) && !config.roles.has(ProcessRole::Reader)
}

fn open_sqlite(
    folder: &Folder,
    name: &str,
    schema: &[&'static Table],
    anew: Option<Anew>,
) -> anyhow::Result<Tables> {
    let path = folder.path().join(name);
    Sqlite::open(path.as_path(), schema, sqlite::Options { anew, ..sqlite::Options::default() })
        .map(Tables::Sqlite)
        .with_context(|| format!("{}", path.display()))
}

async fn open_log(
    folder: &Folder,
    config: &Config,
    clock: &Clock,
    entropy: &Entropy,
    key: &InstallationKey,
) -> anyhow::Result<Log> {
    match config.log.engine {
        LogEngine::Embedded => {
            let path = folder.path().join(LOG_FILE);
            Embedded::open(&path, clock.clone(), entropy.clone(), embedded::Options::default())
                .map(Log::Embedded)
                .with_context(|| format!("{}", path.display()))
        }
        LogEngine::Kafka => {
            // Who has no door for messages makes no topic for them, and needs no right to.
            let has_door = config.roles.has(ProcessRole::Gateway);
            let own_topics = config.sources.iter().filter(|(_, source)| source.topic && has_door);
            let place = KafkaConfig {
                owner: Some(key.id("Installation", &[])),
                group_suffix: group_suffix(config),
                own_topics: own_topics.map(|(name, _)| name.clone()).collect(),
                ..config.log.clone().with_secrets(folder.settings()?)?.kafka(config.allow_weak_log)?
            };
            let topics = || format!("log in topics {}.*", config.log.prefix);
            Kafka::open(place, clock, entropy).await.map(Log::Kafka).with_context(topics)
        }
    }
}

/// Workers of one table space share the partitions. Those of another one, made from the same log, need all of them too; the
/// space that is called as it is by default has the group's plain name.
fn group_suffix(config: &Config) -> Option<String> {
    let own = &config.tables.schema;
    let is_plain =
        config.tables.engine == TablesEngine::Sqlite || *own == crate::config::Tables::default().schema;
    (!is_plain).then(|| own.clone())
}

/// Says what to do where tables of the fold do not fit this program.
fn with_way_out(why: anyhow::Error) -> anyhow::Error {
    match why.downcast_ref::<TablesError>() {
        Some(TablesError::Shape { table, .. }) if Adt::TABLES.iter().any(|one| one.name == table) => why.context(
            "the tables do not fit this program: with the server stopped, `hilum rebuild census` makes them anew from the log, which has everything. Or start the program that wrote them",
        ),
        _ => why,
    }
}

/// The rows, and who looked: two files, or two schemas of one database, so that every process writes into one audit log.
async fn open_tables(folder: &Folder, config: &Config, hold: Hold) -> anyhow::Result<(Tables, Tables)> {
    let audit = hilum_web::tables::AUDIT_ALL;
    let anew = (hold == Hold::Alone).then_some(Anew { projection: Adt::NAME, tables: Adt::TABLES });
    match config.tables.engine {
        TablesEngine::Sqlite => {
            let tables = open_sqlite(folder, "tables.sqlite", &schema(), anew)?;
            Ok((tables, open_sqlite(folder, "audit.sqlite", audit, None)?))
        }
        TablesEngine::Postgres => {
            let of_audit = config.tables.audit_schema();
            // What is made anew on purpose need not be there.
            let noted = if hold == Hold::Alone { seen::Seen::new() } else { seen::read(folder) };
            let place = |schema: &str| PostgresConfig {
                holder: folder.who().to_owned(),
                allow_weak: config.allow_weak_tables,
                seen: seen::of(&noted, schema),
                ..PostgresConfig::new(&config.tables.url, schema)
            };
            let of_rows = PostgresConfig { hold, anew, ..place(&config.tables.schema) };
            let tables = open_postgres(config, of_rows, &schema()).await?;
            let place = PostgresConfig { pool_size: AUDIT_CONNECTIONS, ..place(&of_audit) };
            Ok((tables, open_postgres(config, place, audit).await?))
        }
    }
}

/// Connections for reading who looked: it is read seldom.
const AUDIT_CONNECTIONS: usize = 2;

async fn open_postgres(
    config: &Config,
    place: PostgresConfig,
    tables: &[&'static Table],
) -> anyhow::Result<Tables> {
    let schema = place.schema.clone();
    let opened = if waits_for_tables(config) {
        Postgres::open_later(place, tables, TABLES_PATIENCE).await
    } else {
        Postgres::open(place, tables).await
    };
    let shown = crate::config::mask_url(&config.tables.url);
    opened.map(Tables::Postgres).with_context(|| format!("tables in {shown}, schema {schema}"))
}
