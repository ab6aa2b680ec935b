//! `hilum import fhir`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use hilum_records::import::{Imported, Refused};
use indicatif::{ProgressBar, ProgressStyle};

use crate::admin::{self, Ask};
use crate::commands::{ConfigFile, DataFolder};
use crate::{failpoints, machine, out};

/// `hilum import fhir`
#[derive(Debug, Args)]
#[command(
    after_help = "Bundles of type transaction, batch, collection and searchset, single resources, and NDJSON; a folder gives its \
                        .json, .ndjson and .jsonl files, each also with .gz. Works beside a running server, or alone.\n\n\
                        A resource keeps its id; one without gets that of its urn:uuid:, or one made of what it says. References \
                        within a Bundle lead to what they name, Practitioner?identifier=… to the one that is found, whichever file \
                        it is in. What stands already as it comes is left as it is: the same command goes on where an import was \
                        broken off. A transaction is not all or nothing here: what is refused is left out and named, the rest is \
                        taken.\n\n\
                        Exit code 0: all is in; 3: some was refused.\n\n\
                        Examples:\n  hilum import fhir synthea/output/fhir --data /srv/hilum\n  \
                        hilum import fhir Patient.ndjson.gz Observation.ndjson.gz --rejected refused.ndjson --data /srv/hilum"
)]
pub struct Arguments {
    /// Files or folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Write what is refused here: file, line, entry, place and reason, a line of JSON each, no patient data
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataFolder,
    #[command(flatten)]
    config: ConfigFile,
}

/// Some was refused: not an error, and yet not all.
const REFUSED: u8 = 3;

/// Does it.
///
/// # Errors
/// A path that is not there, an engine that fails.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    failpoints::install(machine::variable("HILUM_FAILPOINT").as_deref())?;
    // Whoever holds the folder reads and writes the files, and stands elsewhere.
    let paths = arguments
        .paths
        .iter()
        .map(|path| path.canonicalize().with_context(|| format!("{}", path.display())))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let rejected = arguments.rejected.as_deref().map(std::path::absolute).transpose()?;
    let ask = Ask::ImportFhir { paths, rejected };
    let bar = bar(arguments.json);
    let begun = Instant::now();
    let told = admin::ask(&arguments.data, &arguments.config, "import fhir", ask, |step| {
        let Ok(step) = serde_json::from_value::<Imported>(step.clone()) else { return };
        show(&bar, &step, begun.elapsed().as_secs_f64());
    });
    bar.finish_and_clear();
    let told = told?;
    let done: Imported = serde_json::from_value(told.clone())?;
    if arguments.json {
        out::line(&told.to_string());
    } else {
        say(&done, begun.elapsed().as_secs_f64());
    }
    Ok(if done.refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

fn bar(json: bool) -> ProgressBar {
    let bar = if json || !machine::is_terminal() { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} · {msg} · {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn show(bar: &ProgressBar, step: &Imported, seconds: f64) {
    let resources = step.written + step.unchanged;
    bar.set_length(step.bytes);
    bar.set_position(step.bytes_done);
    bar.set_message(format!(
        "{resources} resources ({:.0}/s), {} of {} files",
        resources as f64 / seconds.max(0.001),
        step.files_done,
        step.files
    ));
}

fn say(done: &Imported, seconds: f64) {
    out::line(&format!(
        "{} resources of {} files are written, {} stood already, {} are refused ({seconds:.1} s, {:.0} resources/s)",
        done.written,
        done.files_done,
        done.unchanged,
        done.refused,
        (done.written + done.unchanged) as f64 / seconds.max(0.001)
    ));
    for refused in &done.refused_named {
        out::line(&format!("  {}", named(refused)));
    }
    let more = done.refused.saturating_sub(done.refused_named.len() as u64);
    if more > 0 {
        out::line(&format!("  and {more} more: --rejected FILE names all"));
    }
}

fn named(refused: &Refused) -> String {
    let line = refused.line.map(|line| format!("line {line}"));
    let entry = refused.entry.map(|entry| format!("entry {entry}"));
    let place: Vec<String> = [Some(refused.file.clone()), line, entry].into_iter().flatten().collect();
    let what = refused.expression.as_ref().or(refused.resource_type.as_ref());
    let what = what.map(|what| format!("{what}: ")).unwrap_or_default();
    format!("{}: {what}{}", place.join(", "), refused.text)
}
