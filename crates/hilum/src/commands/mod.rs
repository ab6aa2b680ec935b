//! The commands, one file each. A command that does not work yet is not listed.

mod bench;
mod config;
mod demo;
pub mod doctor;
mod explain;
mod export;
mod import;
mod keys;
mod rebuild;
pub mod serve;
mod users;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde_json::Value;

use crate::config::{Config, Overrides};
use crate::{machine, out};

/// A hospital's HL7 v2 feed becomes a live chart: acknowledged when it is on disk, shown when it is folded.
#[derive(Debug, Parser)]
#[command(name = "hilum", version, propagate_version = true, max_term_width = 100)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What hilum can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure hilum on this machine, the raw engine beside it
    Bench(bench::Bench),
    /// Take messages in and show the chart
    Serve(serve::Arguments),
    /// Import files, or an archive
    Import(import::Arguments),
    /// Write all that this installation has into an archive, to move to other engines or another machine
    Export(export::Arguments),
    /// Make again from the log what was folded from it
    Rebuild(rebuild::Arguments),
    /// API keys
    Keys(keys::Arguments),
    /// Accounts
    Users(users::Arguments),
    /// Run the main job with a simulated hospital, and print the address to open
    Demo(demo::Arguments),
    /// Look for what is wrong, and say what to do
    Doctor(doctor::Arguments),
    /// Say how a search at /fhir is executed: what drives, what is asked of each resource, how long it takes
    Explain(explain::Arguments),
    /// Print the effective configuration, or a commented reference of all keys
    Config(config::Arguments),
}

/// Where the data is.
#[derive(Debug, Clone, Args)]
pub struct DataFolder {
    /// The data folder: log, tables, audit log, secrets
    #[arg(id = "data", long = "data", value_name = "DIR", env = "HILUM_DATA")]
    pub path: PathBuf,
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub struct ConfigFile {
    /// The configuration file (TOML); `hilum config reference` prints one to start from
    #[arg(id = "config", long = "config", value_name = "FILE", env = "HILUM_CONFIG")]
    pub path: Option<PathBuf>,
    /// Use a Kafka log whatever its topics promise: for a trial on one broker, never for patients
    #[arg(long)]
    allow_weak_log: bool,
    /// Use PostgreSQL whatever it loses in a crash (fsync off, say): for a trial, never for patients
    #[arg(long)]
    allow_weak_tables: bool,
}

impl ConfigFile {
    /// Reads it, with the environment and `overrides`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(&self, overrides: &Overrides) -> anyhow::Result<Config> {
        let config = Config::load(self.path.as_deref(), machine::environment(), overrides)?;
        let (allow_weak_log, allow_weak_tables) = (self.allow_weak_log, self.allow_weak_tables);
        Ok(Config { allow_weak_log, allow_weak_tables, ..config })
    }
}

/// Does it.
///
/// # Errors
/// What went wrong, naming the thing and the way out.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Bench(arguments) => bench::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Serve(arguments) => serve::run(arguments),
        Command::Import(arguments) => import::run(arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Rebuild(arguments) => rebuild::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Keys(arguments) => keys::run(arguments),
        Command::Users(arguments) => users::run(arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
    }
}

/// Prints an array of objects as columns.
fn table(rows: &Value, columns: &[&str]) {
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|name| (*name).to_owned()).collect()];
    for row in rows.as_array().into_iter().flatten() {
        lines.push(columns.iter().map(|name| text(row.get(name))).collect());
    }
    let width = |at: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(at))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out::line(cells.join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    #[test]
    fn an_export_is_an_archive_or_files_of_resources() {
        let parsed = |line: &str| super::CommandLine::try_parse_from(line.split(' ')).is_ok();
        assert!(parsed("hilum export /a --data /d"));
        assert!(parsed("hilum export fhir --out /a --data /d"));
        assert!(!parsed("hilum export --data /d"));
        assert!(!parsed("hilum export fhir --data /d"));
    }

    #[test]
    fn the_command_line_is_well_formed_and_every_command_has_an_example() {
        fn walk(command: &clap::Command) {
            for sub in command.get_subcommands() {
                let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("hilum "), "`{}` has no example in its --help", sub.get_name());
                walk(sub);
            }
        }
        let command = super::CommandLine::command();
        command.clone().debug_assert();
        walk(&command);
    }
}
