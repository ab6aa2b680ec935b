//! `hilum config`

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::ConfigFile;
use crate::config::{self, Overrides};
use crate::out;

/// `hilum config`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hilum config --config hilum.toml\n  hilum config reference > hilum.toml",
    args_conflicts_with_subcommands = true
)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    #[command(subcommand)]
    command: Option<Sub>,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Print every key with its meaning and default, and every bound
    #[command(after_help = "Example:\n  hilum config reference > hilum.toml")]
    Reference,
}

/// Prints the effective configuration (secrets masked), or the reference.
///
/// # Errors
/// When the configuration is wrong.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let text = match arguments.command {
        Some(Sub::Reference) => config::reference(),
        None => arguments.file.load(&Overrides::default())?.to_toml(),
    };
    out::line(text.trim_end());
    Ok(ExitCode::SUCCESS)
}
