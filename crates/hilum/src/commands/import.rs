//! `hilum import`

mod fhir;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use hilum_adt::import::Imported;
use indicatif::{ProgressBar, ProgressStyle};

use super::{ConfigFile, DataFolder};
use crate::admin::{self, Ask};
use crate::archive::{self, Archive, Show};
use crate::config::{Config, Overrides, ProcessRoles};
use crate::folder::Folder;
use crate::{failpoints, logging, machine, out};

/// `hilum import`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hilum import hl7 backlog/ --source his --data /srv/hilum\n  \
                        hilum import fhir synthea/fhir --data /srv/hilum\n  \
                        hilum import archive /mnt/move --data /srv/hilum")]
pub struct Arguments {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Import HL7 v2 files: single messages, many in a file, FHS/BHS batches, MLLP captures
    #[command(
        after_help = "The same command goes on where an import was interrupted, and does nothing once it is done.\n\n\
                            Examples:\n  hilum import hl7 2026-01.hl7 --data /srv/hilum\n  \
                            hilum import hl7 backlog/ more.txt --source his --json --data /srv/hilum"
    )]
    Hl7 {
        /// Files, or folders of .hl7, .txt, .msg, .dat, .er7, .adt and .mllp files
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// The source that the messages count for; `default` unless named
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataFolder,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Import FHIR R4: Bundles, resources, NDJSON, each also with .gz
    Fhir(fhir::Arguments),
    /// Move in: make this installation what an archive of `hilum export` says, on the engines of the configuration
    #[command(
        after_help = "The data folder, log and tables must be empty, and nothing else may write. The same command goes \
                            on where an import was interrupted.\n\n\
                            Example:\n  hilum import archive /mnt/move --data /srv/hilum --config /etc/hilum.toml"
    )]
    Archive {
        /// The archive
        #[arg(value_name = "DIR")]
        archive: PathBuf,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataFolder,
        #[command(flatten)]
        config: ConfigFile,
    },
}

/// Does it.
///
/// # Errors
/// What went wrong, naming the file.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Sub::Hl7 { paths, source, json, data, config } => hl7(&paths, source, json, &data, &config),
        Sub::Fhir(arguments) => fhir::run(&arguments),
        Sub::Archive { archive, json, data, config } => move_in(&archive, json, &data, &config),
    }
}

fn move_in(dir: &Path, json: bool, data: &DataFolder, config: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = Config { roles: ProcessRoles::ALL, ..config.load(&Overrides::default())? };
    failpoints::install(machine::variable("HILUM_FAILPOINT").as_deref())?;
    logging::start_quietly(&config.logging)?;
    let archive = Archive::open(dir)?;
    let folder = Folder::take(&data.path, "import archive")?;
    let show = Show::new(json);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(archive::import(&archive, folder, config, &show));
    show.end();
    let done = done?;
    if json {
        out::line(&serde_json::to_string(&done)?);
        return Ok(ExitCode::SUCCESS);
    }
    out::line(&format!(
        "{} records and {} rows of accounts, keys and waiting corrections are here",
        done.records, done.rows
    ));
    out::line(&format!("chart: {}", done.canonical_hash));
    if done.canonical_hash != done.archive_hash {
        out::line(&format!(
            "the archive's was {}: it lacks records that could not be read, or messages have come in since",
            done.archive_hash
        ));
    }
    out::line(
        "whoever was signed in signs in again; the audit log begins anew, the old one stays in the archive",
    );
    Ok(ExitCode::SUCCESS)
}

fn hl7(
    paths: &[PathBuf],
    source: Option<String>,
    json: bool,
    data: &DataFolder,
    config: &ConfigFile,
) -> anyhow::Result<ExitCode> {
    // Whoever holds the folder reads the files, and stands elsewhere.
    let paths = paths
        .iter()
        .map(|path| path.canonicalize().with_context(|| format!("{}", path.display())))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let bar = if json || !machine::is_terminal() { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} · {msg} · {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let done = admin::ask(data, config, "import", Ask::Import { paths, source }, |step| {
        let Ok(step) = serde_json::from_value::<Imported>(step.clone()) else { return };
        bar.set_length(step.bytes);
        bar.set_position(step.bytes_done);
        bar.set_message(format!("{} messages, {} of {} files", step.messages, step.files_done, step.files));
    });
    bar.finish_and_clear();
    let told = done?;
    let done: Imported = serde_json::from_value(told.clone())?;
    if json {
        out::line(&told.to_string());
    } else {
        out::line(&format!(
            "{} messages of {} files are in the log, {} of them refused (and kept)",
            done.messages,
            done.files_done - done.files_skipped - done.files_without_message,
            done.refused
        ));
        if done.files_skipped > 0 {
            out::line(&format!("{} files were there already", done.files_skipped));
        }
        if done.too_large > 0 {
            out::line(&format!("{} messages were larger than the bound: not kept", done.too_large));
        }
        if done.stray_bytes > 0 {
            out::line(&format!("{} bytes belong to no message: not kept", done.stray_bytes));
        }
    }
    let left = [without_message(&done), passed_over(&done)];
    let left: Vec<String> = left.into_iter().flatten().collect();
    if !left.is_empty() {
        bail!("{}. What the other files hold is in the log", left.join(".\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The first names of `count`, one a line, and how many more there are.
fn listed(names: &[String], count: u64) -> String {
    let more = count.saturating_sub(names.len() as u64);
    let more = (more > 0).then(|| format!("and {more} more"));
    names.iter().cloned().chain(more).collect::<Vec<_>>().join("\n  ")
}

/// Which files held nothing, what was expected of them, and the way out.
fn without_message(done: &Imported) -> Option<String> {
    let count = done.files_without_message;
    (count > 0).then(|| {
        format!(
            "no HL7 v2 message in {count} of {} files:\n  {}\nA message begins with a line `MSH|^~\\&|…`. A file that is \
             compressed, encrypted or of another format (XML, CSV, JSON) is brought into that form first; one that is \
             named by mistake is left out",
            done.files,
            listed(&done.without_message, count)
        )
    })
}

/// What is no file, and the way out.
fn passed_over(done: &Imported) -> Option<String> {
    let count = done.passed_over;
    (count > 0).then(|| {
        format!(
            "passed over, as no file:\n  {}\nName the file that a link was meant for; write what comes by a pipe into a file \
             first",
            listed(&done.passed_over_named, count)
        )
    })
}
