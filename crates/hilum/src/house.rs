//! Everything that is open while a data folder is held: log, tables, secrets, sources, the door.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, bail};
use hilum_adt::accept::{Door, DoorParts};
use hilum_adt::acks::AckTimes;
use hilum_adt::project::Adt;
use hilum_adt::sources::Sources;
use hilum_adt::{announce, import};
use hilum_chart::{ChartError, fits};
use hilum_core::{Clock, Entropy, InstallationKey};
use hilum_engines::log::Log;
use hilum_engines::log::embedded::{self, Embedded};
use hilum_engines::log::kafka::{Kafka, KafkaConfig};
use hilum_engines::tables::postgres::{Postgres, PostgresConfig};
use hilum_engines::tables::sqlite::{self, Sqlite};
use hilum_engines::tables::{Table, Tables, TablesError};
use serde_json::Value;

use crate::admin::Progress;
use crate::config::{Config, LogEngine, TablesEngine};
use crate::folder::Folder;
use crate::machine;
use crate::watch::Watch;

/// An open house.
pub struct House {
    /// Held for as long as the house is open.
    pub folder: Folder,
    /// As it applies.
    pub config: Config,
    /// The machine's clock.
    pub clock: Clock,
    /// The machine's randomness.
    pub entropy: Entropy,
    /// What ids are made with.
    pub key: InstallationKey,
    /// What came in.
    pub log: Log,
    /// Rows.
    pub tables: Tables,
    /// Who looked: a database of its own.
    pub audit: Tables,
    /// Where messages come from.
    pub sources: Arc<Sources>,
    /// Where they come in.
    pub door: Door,
    /// What they become.
    pub fold: Arc<Adt>,
    /// Why nothing may be accepted: log, tables and program do not belong together.
    pub unfit: Option<ChartError>,
    /// How it all does, once it runs.
    pub watch: OnceLock<Arc<Watch>>,
}

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
        hilum_adt::tables::TABLES,
        hilum_adt::tables::OWN,
    ];
    parts.into_iter().flatten().copied().collect()
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
    /// Opens everything that stands in `folder`.
    ///
    /// # Errors
    /// Names what cannot be opened.
    pub async fn open(folder: Folder, config: Config) -> anyhow::Result<Self> {
        let (clock, entropy) = (machine::clock(), machine::entropy());
        let key = folder.installation_key(&entropy)?;
        let configured = config
            .sources
            .iter()
            .map(|(name, source)| (name.clone(), source.rules.clone(), source.settings.clone()));
        let sources = Arc::new(Sources::new(configured, clock.now()).context("configuration")?);
        let (of_log, of_tables) = match (config.log.engine, config.tables.engine) {
            (LogEngine::Embedded, TablesEngine::Sqlite) => ("embedded", "sqlite"),
            (LogEngine::Embedded, TablesEngine::Postgres) => ("embedded", "postgres"),
            (LogEngine::Kafka, TablesEngine::Sqlite) => ("kafka", "sqlite"),
            (LogEngine::Kafka, TablesEngine::Postgres) => ("kafka", "postgres"),
        };
        check_engine(&folder, Port::Log, of_log)?;
        check_engine(&folder, Port::Tables, of_tables)?;
        let tables = open_tables(&folder, &config).await?;
        let audit = open_sqlite(&folder, "audit.sqlite", hilum_web::tables::AUDIT_ALL)?;
        let log = open_log(&folder, &config, &clock, &entropy, &key).await?;
        // Before anything is written into it, so that no offset is given twice.
        let unfit = match fits::check::<Adt>(&log, &tables).await {
            Ok(()) => None,
            Err(
                error @ (ChartError::LogBehind { .. }
                | ChartError::LogReplaced { .. }
                | ChartError::OtherForm { .. }
                | ChartError::Tables(TablesError::OtherLog { .. })),
            ) => Some(error),
            Err(error) => return Err(error.into()),
        };
        // Before a door opens: envelopes name settings by their digest.
        let known = announce::known(&log).await?;
        if unfit.is_none() {
            let announced =
                announce::announce(&sources, &known, &log, &tables, &clock, &entropy, &key).await?;
            if announced > 0 {
                tracing::info!(announced, "settings of sources written down");
            }
        }
        let acks = Arc::new(AckTimes::default());
        let remembered = Arc::clone(&acks);
        let fold = Adt::new(key.clone(), clock.clone()).acked_by(move |record| remembered.get(record));
        let fold = Arc::new(fold);
        for (sha, settings) in known {
            fold.know(sha, settings);
        }
        let door = Door::new(DoorParts {
            log: log.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            key: key.clone(),
            sources: Arc::clone(&sources),
            acks: Arc::clone(&acks),
            message_bytes_max: config.mllp.message_bytes_max,
        });
        Ok(Self {
            folder,
            config,
            clock,
            entropy,
            key,
            log,
            tables,
            audit,
            sources,
            door,
            fold,
            unfit,
            watch: OnceLock::new(),
        })
    }

    /// Writes out what waits, and closes.
    pub async fn close(&self) {
        self.log.close().await;
        self.tables.close().await;
        self.audit.close().await;
    }

    /// Refuses what would write where log, tables and program do not belong together.
    ///
    /// # Errors
    /// Why it does not, and the ways out.
    pub fn must_fit(&self) -> anyhow::Result<()> {
        match &self.unfit {
            None => Ok(()),
            Some(why) => bail!("{why}. {}", Self::way_out(why)),
        }
    }

    /// What to do about log, tables and program that do not belong together.
    pub const fn way_out(why: &ChartError) -> &'static str {
        if matches!(why, ChartError::OtherForm { .. }) {
            "Nothing is accepted until they are made anew: with the server stopped, `hilum rebuild census` computes them \
             from the log, which has everything. Or start the program that wrote them"
        } else if matches!(why, ChartError::Tables(_)) {
            "Nothing is accepted until they belong together. Restore the log.sqlite that these tables were made from. \
             If it is lost, move the tables away (tables.sqlite, or another tables.schema): they are made anew from \
             this log"
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
        let files = tokio::task::spawn_blocking(move || import::files(&paths)).await??;
        if files.is_empty() {
            bail!("no file to import: a folder gives its .hl7, .txt, .msg, .dat, .er7, .adt and .mllp files");
        }
        let state = self.folder.path().join("import");
        let show = |imported: &import::Imported| {
            // A reader that is slow misses a step, not the end.
            progress.try_send(serde_json::to_value(imported).unwrap_or_default()).ok();
        };
        let imported = import::run(&self.door, source, files, &state, show).await?;
        Ok(serde_json::to_value(imported)?)
    }
}

fn open_sqlite(folder: &Folder, name: &str, schema: &[&'static Table]) -> anyhow::Result<Tables> {
    let path = folder.path().join(name);
    Sqlite::open(path.as_path(), schema, sqlite::Options::default())
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
            let path = folder.path().join("log.sqlite");
            Embedded::open(&path, clock.clone(), entropy.clone(), embedded::Options::default())
                .map(Log::Embedded)
                .with_context(|| format!("{}", path.display()))
        }
        LogEngine::Kafka => {
            let place = KafkaConfig {
                owner: Some(key.id("Installation", &[])),
                ..config.log.kafka(config.allow_weak_log)
            };
            Kafka::open(place, clock, entropy).await.map(Log::Kafka).with_context(|| {
                format!(
                    "log in topics {}.* (log.durability, or for a trial --allow-weak-log)",
                    config.log.prefix
                )
            })
        }
    }
}

async fn open_tables(folder: &Folder, config: &Config) -> anyhow::Result<Tables> {
    match config.tables.engine {
        TablesEngine::Sqlite => open_sqlite(folder, "tables.sqlite", &schema()),
        TablesEngine::Postgres => {
            let place = PostgresConfig::new(&config.tables.url, &config.tables.schema);
            let shown = crate::config::mask_url(&config.tables.url);
            Postgres::open(place, &schema())
                .await
                .map(Tables::Postgres)
                .with_context(|| format!("tables in {shown}, schema {}", config.tables.schema))
        }
    }
}
