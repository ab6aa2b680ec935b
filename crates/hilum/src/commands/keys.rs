//! `hilum keys`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use hilum_core::Role;
use serde_json::Value;

use super::{ConfigFile, DataFolder, table};
use crate::admin::{self, Ask};
use crate::out;

/// `hilum keys`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hilum keys add ward-board --role viewer --data /srv/hilum\n  \
                        hilum keys list --data /srv/hilum\n  hilum keys revoke ward-board --data /srv/hilum")]
pub struct Arguments {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Make an API key and print it, once, alone on the last line
    #[command(after_help = "Example:\n  hilum keys add his --role feed --data /srv/hilum")]
    Add {
        /// What the key is called
        name: String,
        /// What it may do: feed, viewer, operator or admin
        #[arg(long)]
        role: Role,
        #[command(flatten)]
        data: DataFolder,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// List the keys (not the keys themselves)
    #[command(after_help = "Example:\n  hilum keys list --data /srv/hilum")]
    List {
        #[command(flatten)]
        data: DataFolder,
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key: the next request with it is answered 401
    #[command(after_help = "Example:\n  hilum keys revoke his --data /srv/hilum")]
    Revoke {
        /// What the key is called
        name: String,
        #[command(flatten)]
        data: DataFolder,
        #[command(flatten)]
        config: ConfigFile,
    },
}

/// Does it.
///
/// # Errors
/// What went wrong, naming the key.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let ask =
        |data: &DataFolder, config: &ConfigFile, ask: Ask| admin::ask(data, config, "keys", ask, |_| {});
    match arguments.command {
        Sub::Add { name, role, data, config } => {
            let made = ask(&data, &config, Ask::KeysAdd { name: name.clone(), role })?;
            let key = made.get("key").and_then(Value::as_str).unwrap_or_default();
            out::line(&format!("API key `{name}` ({role}), shown this once:"));
            out::line(key);
        }
        Sub::List { data, config, json } => {
            let keys = ask(&data, &config, Ask::KeysList)?;
            if json {
                out::line(&keys.to_string());
            } else {
                table(&keys, &["name", "role", "hint", "created", "used", "revoked"]);
            }
        }
        Sub::Revoke { name, data, config } => {
            ask(&data, &config, Ask::KeysRevoke { name: name.clone() })?;
            out::line(&format!("API key `{name}` is revoked"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
