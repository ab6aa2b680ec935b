//! `hilum rebuild`

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use hilum_adt::project::Adt;
use hilum_chart::index::{Indexer, mend};
use hilum_chart::rebuild::{Damaged, Report, rebuild};
use hilum_chart::{ChartError, fits};
use hilum_engines::log::LogError;
use hilum_engines::sqlite_file::SyncMode;
use hilum_engines::tables::Tables;
use hilum_engines::tables::sqlite::{Options, Sqlite};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{ConfigFile, DataFolder, table};
use crate::config::{Config, Overrides, ProcessRoles};
use crate::folder::Folder;
use crate::house::{House, OWNERS, schema};
use crate::{damaged_end, logging, machine, out};

/// `hilum rebuild`
#[derive(Debug, Args)]
#[command(
    after_help = "Computes beside what the log gives, and writes only what differs, as new versions. The server must be \
                        stopped. Exit code 0: it is as the log says; 3: it was not, and now is.\n\n\
                        Examples:\n  hilum rebuild chart --data /srv/hilum\n  hilum rebuild census --json --data /srv/hilum\n  hilum rebuild index --data /srv/hilum"
)]
pub struct Arguments {
    /// What to make again from the log
    what: What,
    /// What to do when the log lacks what the tables know (a restore of one of the two; with --without-damaged, a gap)
    #[arg(long, value_name = "WHAT")]
    behind: Option<Behind>,
    /// Make the chart what the rest of the log says though records of it cannot be read: what they said goes
    #[arg(long)]
    without_damaged: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataFolder,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Patients, encounters and what belongs to them
    Chart,
    /// The board, the messages' journeys, the work queue
    Census,
    /// What searches at /fhir find: made from the resources, not from the log
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Behind {
    /// Apply the log once more on top of what stands: what only the tables know stays
    Keep,
    /// Make the tables what the log says: what only they know goes
    Drop,
}

impl What {
    /// One projection makes both, so that they never disagree: both are made again, and one is shown.
    fn shows(self, table: &str) -> bool {
        // The index is shown by itself.
        (self == Self::Chart) == table.starts_with("chart_")
    }
}

/// How many rows were not as the log says: not an error, and yet not nothing.
const DIFFERED: u8 = 3;

/// Does it.
///
/// # Errors
/// When the folder is held, or an engine fails.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = Config { roles: ProcessRoles::ALL, ..arguments.config.load(&Overrides::default())? };
    logging::start_quietly(&config.logging)?;
    if !arguments.data.path.is_dir() {
        bail!("data folder {} is not there", arguments.data.path.display());
    }
    let folder = Folder::take(&arguments.data.path, "rebuild")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let mut house = House::open_alone(folder, config).await?;
        if arguments.without_damaged {
            house = house.settled().await?;
        }
        if matches!(arguments.what, What::Index) {
            house.must_fit()?;
            let Some(indexer) = &house.indexer else {
                bail!("fhir.search is false: nothing is indexed, and searches say so");
            };
            let report = index(&house, indexer, arguments.json).await;
            house.close().await;
            return report.map(Made::Index);
        }
        let done = match (house.unfit(), arguments.behind) {
            // Rows of another form, and none, are what a plain rebuild is for; nothing can be applied on top of the first.
            (Some(ChartError::OtherForm { .. } | ChartError::NewTables { .. }), None) => {
                compute(&house, arguments).await.map(Some)
            }
            (Some(ChartError::Tables(_) | ChartError::OtherLog { .. }), _)
            | (Some(_), None)
            | (Some(ChartError::OtherForm { .. }), Some(Behind::Keep)) => house.must_fit().map(|()| None),
            (Some(_), Some(Behind::Keep)) => apply_again(&house, arguments).await.map(|()| None),
            (None, Some(Behind::Keep)) if arguments.without_damaged => {
                apply_again(&house, arguments).await.map(|()| None)
            }
            (None, _) | (Some(_), Some(Behind::Drop)) => compute(&house, arguments).await.map(Some),
        };
        // Rows of the index that belong to what was damaged are nobody's now.
        let differed = matches!(&done, Ok(Some(report)) if report.differing() > 0);
        if let Some(indexer) = house.indexer.as_ref().filter(|_| differed) {
            index(&house, indexer, arguments.json).await?;
        }
        house.close().await;
        done.map(Made::Chart)
    })?;
    let report = match report {
        Made::Chart(Some(report)) => report,
        Made::Chart(None) => return Ok(ExitCode::from(DIFFERED)),
        Made::Index(report) => {
            show_index(&report, arguments.json);
            return Ok(if report.indexed == 0 { ExitCode::SUCCESS } else { ExitCode::from(DIFFERED) });
        }
    };
    show(arguments.what, &report, arguments.json);
    Ok(if report.differing() == 0 { ExitCode::SUCCESS } else { ExitCode::from(DIFFERED) })
}

/// What was made.
enum Made {
    Chart(Option<Report>),
    Index(mend::Report),
}

/// Indexes what is not, or not as it should be.
async fn index(house: &House, indexer: &Indexer, json: bool) -> anyhow::Result<mend::Report> {
    let hidden = json || !machine::is_terminal();
    let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    let style = ProgressStyle::with_template("{spinner} {pos} resources · {per_sec}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let report = mend::rebuild(&house.tables, indexer, OWNERS, &|count| bar.set_position(count)).await;
    bar.finish_and_clear();
    Ok(report?)
}

fn show_index(report: &mend::Report, json: bool) {
    let mend::Report { resources, indexed, rows, removed } = *report;
    if json {
        let whole = json!({ "resources": resources, "indexed": indexed, "rows": rows, "removed": removed });
        return out::line(&whole.to_string());
    }
    out::line(&format!("{resources} resources, {rows} values that they are found by"));
    match indexed {
        0 => out::line("all of them are indexed as they should be"),
        count => out::line(&format!("{count} resources were not indexed as they should be, and now are")),
    }
}

/// Applies the whole log on top of what stands.
async fn apply_again(house: &House, arguments: &Arguments) -> anyhow::Result<()> {
    let records = fits::go_back::<Adt>(&house.log, &house.tables).await?;
    house.fold_all(arguments.without_damaged, &|_| ()).await?;
    if arguments.json {
        out::line(&json!({ "appliedAgain": records }).to_string());
    } else {
        out::line(&format!(
            "{records} records of the log are applied once more; nothing that stood was removed"
        ));
        out::line(
            "what only the tables know stays until the next plain rebuild, which makes them what the log says",
        );
    }
    Ok(())
}

async fn compute(house: &House, arguments: &Arguments) -> anyhow::Result<Report> {
    let json = arguments.json;
    let damaged = if arguments.without_damaged { Damaged::PassOver } else { Damaged::Refuse };
    let bar = if json || !machine::is_terminal() { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} records · {per_sec} · {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    // A file of its own: what a hospital has does not fit into memory. Nothing of it is kept.
    let beside_folder = house.folder.path().join("rebuild");
    std::fs::remove_dir_all(&beside_folder).or_else(|why| match why.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(why),
    })?;
    std::fs::create_dir(&beside_folder).with_context(|| format!("{}", beside_folder.display()))?;
    let path = beside_folder.join("tables.sqlite");
    let options = Options { sync: SyncMode::Off, ..Options::default() };
    let beside = Tables::Sqlite(Sqlite::open(path.as_path(), &schema(), options)?);
    let shown = AtomicU64::new(0);
    let done = |applied: u64, total: u64| {
        shown.fetch_max(applied, Ordering::Relaxed);
        bar.set_length(total);
        bar.set_position(shown.load(Ordering::Relaxed));
    };
    let report = rebuild(&house.fold, &house.log, &house.tables, &beside, &house.clock, damaged, &done).await;
    bar.finish_and_clear();
    beside.close().await;
    std::fs::remove_dir_all(&beside_folder).ok();
    let report = report.map_err(|why| match why {
        ChartError::LogDamaged { .. } => anyhow::anyhow!(
            "{why}: nothing was changed. Restore the log from a backup, or take --without-damaged"
        ),
        ChartError::Log(LogError::Missing { .. }) => anyhow::anyhow!(
            "{why}. Nothing was changed: what they said would go. `--behind keep --without-damaged` keeps it and applies what \
             there is; `--without-damaged` alone makes the chart what the rest of the log says"
        ),
        ChartError::Log(LogError::Unsure { .. }) => {
            anyhow::anyhow!("{why}. Nothing was changed: {}", damaged_end::WAY_OUT_UNSURE)
        }
        why => why.into(),
    })?;
    if report.hash_after != report.hash_log {
        bail!(
            "after the rebuild the chart is still not what the log gives: nothing else may write meanwhile"
        );
    }
    Ok(report)
}

fn show(what: What, report: &Report, json: bool) {
    let rows: Vec<Value> = report
        .tables
        .iter()
        .filter(|table| what.shows(table.table))
        .map(|table| {
            json!({
                "table": table.table, "same": table.same, "added": table.added,
                "changed": table.changed, "removed": table.removed,
            })
        })
        .collect();
    if json {
        let whole = json!({
            "records": report.records,
            "differing": report.differing(),
            "tables": rows,
            "hashBefore": report.hash_before.to_string(),
            "hashLog": report.hash_log.to_string(),
            "hashAfter": report.hash_after.to_string(),
        });
        out::line(&whole.to_string());
        return;
    }
    table(&Value::Array(rows), &["table", "same", "added", "changed", "removed"]);
    out::line(&format!("chart of {} records: {}", report.records, report.hash_after));
    match report.differing() {
        0 => out::line("nothing differs from the log"),
        count => out::line(&format!("{count} rows were not as the log says; they are made anew")),
    }
}
