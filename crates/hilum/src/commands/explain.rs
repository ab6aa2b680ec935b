//! `hilum explain`

use std::process::ExitCode;

use clap::Args;
use hilum_records::fhir::Explained;
use serde_json::Value;

use super::{ConfigFile, DataFolder, table};
use crate::admin::{self, Ask};
use crate::out;

/// `hilum explain`
#[derive(Debug, Args)]
#[command(
    after_help = "What drives comes first: an index leads to these resources, and each of them is asked the rest. Works beside a \
                  running server and without one; nothing is written.\n\n\
                  Examples:\n  hilum explain 'Observation?patient=p1&code=8480-6&_sort=-date' --data /srv/hilum\n  \
                  hilum explain 'Patient/p1/*?_lastUpdated=ge2026' --data /srv/hilum --json"
)]
pub struct Arguments {
    /// The search, as it stands behind /fhir/
    search: String,
    /// Also what the engine says of it; that may quote what was asked for
    #[arg(long)]
    engine: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataFolder,
    #[command(flatten)]
    config: ConfigFile,
}

/// Does it.
///
/// # Errors
/// Why the search is refused.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let ask = Ask::Explain { search: arguments.search.clone() };
    let mut said = admin::ask(&arguments.data, &arguments.config, "explain", ask, |_| {})?;
    if arguments.json {
        for one in said.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            one.retain(|name, _| name != "engine" || arguments.engine);
        }
        out::line(&said.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    let all: Vec<Explained> = serde_json::from_value(said)?;
    if all.is_empty() {
        out::line("there is no resource of these types");
    }
    for one in &all {
        show(one, arguments.engine);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(one: &Explained, with_engine: bool) {
    out::line(&one.resource_type);
    let steps = one.steps.iter().map(|step| {
        let criterion = if step.criterion.is_empty() { "all of the type" } else { &step.criterion };
        serde_json::json!({ "does": step.does, "by": criterion, "rank": step.rank, "thought": step.thought })
    });
    table(&Value::Array(steps.collect()), &["does", "by", "rank", "thought"]);
    let many =
        |count: Option<u64>| count.map_or_else(|| "more than is counted".to_owned(), |n| n.to_string());
    out::line(&format!(
        "{} driven · {} match · first page {:.1} ms",
        many(one.driver_rows),
        many(one.matches),
        one.took_us as f64 / 1_000.0
    ));
    if with_engine {
        out::line(one.engine.trim_end());
    }
    out::line("");
}
