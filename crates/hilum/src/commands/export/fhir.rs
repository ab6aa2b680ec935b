//! `hilum export fhir`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use hilum_core::Timestamp;
use hilum_records::export::{Exported, Wanted};
use indicatif::{ProgressBar, ProgressStyle};

use crate::admin::{self, Ask};
use crate::commands::{ConfigFile, DataFolder};
use crate::{machine, out};

/// `hilum export fhir`
#[derive(Debug, Args)]
#[command(
    after_help = "A file a type (Patient.ndjson, Patient.2.ndjson, …), a resource a line, as all of them were at one instant; works \
                        beside a running server, or alone. It writes every patient in clear, confidential ones too: keep the files as \
                        you keep the data folder, and destroy them when they are not needed. Deletions, earlier versions, accounts \
                        and the log are not in it: that is `hilum export DIR`.\n\n\
                        Examples:\n  hilum export fhir --out /mnt/fhir --data /srv/hilum\n  \
                        hilum export fhir --type Patient --type Encounter --since 2026-01-01T00:00:00Z --gzip --out /mnt/fhir --data /srv/hilum"
)]
pub struct Arguments {
    /// Where the files go: a folder that is new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Only this type; may stand several times
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only what was written at or after this instant
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    since: Option<Timestamp>,
    /// Compress the files
    #[arg(long)]
    gzip: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataFolder,
    #[command(flatten)]
    config: ConfigFile,
}

fn instant(raw: &str) -> Result<Timestamp, String> {
    let at: jiff::Timestamp = raw.parse().map_err(|_| "write it like 2026-01-01T00:00:00Z".to_owned())?;
    Ok(Timestamp::from_jiff(at))
}

/// Does it.
///
/// # Errors
/// A folder that is not empty, a type that there is not, an engine that fails.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let out = std::path::absolute(&arguments.out).with_context(|| format!("{}", arguments.out.display()))?;
    let wanted = Wanted { out, types: arguments.types.clone(), since: arguments.since, gzip: arguments.gzip };
    let bar =
        if arguments.json || !machine::is_terminal() { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let style = ProgressStyle::with_template("{bar:30} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let told =
        admin::ask(&arguments.data, &arguments.config, "export fhir", Ask::ExportFhir(wanted), |step| {
            let Ok(step) = serde_json::from_value::<Exported>(step.clone()) else { return };
            bar.set_length(step.types);
            bar.set_position(step.types_done);
            bar.set_message(format!(
                "{} resources, {} of {} types",
                step.resources, step.types_done, step.types
            ));
        });
    bar.finish_and_clear();
    let told = told?;
    if arguments.json {
        out::line(&told.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    let done: Exported = serde_json::from_value(told)?;
    for part in &done.output {
        out::line(&format!("{}: {}", part.file, part.count));
    }
    out::line(&format!(
        "{} resources as of commit {}; {} holds every patient in clear: keep it as you keep the data folder",
        done.resources,
        done.t,
        arguments.out.display()
    ));
    Ok(ExitCode::SUCCESS)
}
