//! `hilum users`

use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use hilum_core::Role;

use super::{ConfigFile, DataFolder, table};
use crate::admin::{self, Ask, Secret};
use crate::{machine, out};

/// `hilum users`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hilum users add hana --role operator --data /srv/hilum < password\n  \
                        hilum users list --data /srv/hilum\n  hilum users disable hana --data /srv/hilum")]
pub struct Arguments {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Make an account; its password is the first line of standard input
    #[command(after_help = "Example:\n  hilum users add hana --role operator --data /srv/hilum < password")]
    Add {
        /// What the account is called
        name: String,
        /// What it may do: viewer, operator or admin
        #[arg(long)]
        role: Role,
        #[command(flatten)]
        data: DataFolder,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// List the accounts
    #[command(after_help = "Example:\n  hilum users list --data /srv/hilum")]
    List {
        #[command(flatten)]
        data: DataFolder,
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End an account: its sessions are over at their next request
    #[command(after_help = "Examples:\n  hilum users disable hana --data /srv/hilum\n  \
                      hilum users disable hana --undo --data /srv/hilum")]
    Disable {
        /// What the account is called
        name: String,
        /// Let it in again
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        data: DataFolder,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Give an account another password, the first line of standard input
    #[command(after_help = "Example:\n  hilum users password hana --data /srv/hilum < password")]
    Password {
        /// What the account is called
        name: String,
        #[command(flatten)]
        data: DataFolder,
        #[command(flatten)]
        config: ConfigFile,
    },
}

/// The first line of standard input. Never an argument: those stand in the list of processes.
fn password() -> anyhow::Result<Secret> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        machine::complain("password (at least 12 characters, shown as you type; better: < file):");
    }
    let mut line = String::new();
    stdin.lock().read_line(&mut line).context("standard input")?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("no password: it is the first line of standard input");
    }
    Ok(Secret(password.to_owned()))
}

/// Does it.
///
/// # Errors
/// What went wrong, naming the account.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let ask =
        |data: &DataFolder, config: &ConfigFile, ask: Ask| admin::ask(data, config, "users", ask, |_| {});
    match arguments.command {
        Sub::Add { name, role, data, config } => {
            ask(&data, &config, Ask::UsersAdd { name: name.clone(), role, password: password()? })?;
            out::line(&format!("account `{name}` ({role}) may sign in"));
        }
        Sub::List { data, config, json } => {
            let accounts = ask(&data, &config, Ask::UsersList)?;
            if json {
                out::line(&accounts.to_string());
            } else {
                table(&accounts, &["name", "role", "disabled", "created", "changed"]);
            }
        }
        Sub::Disable { name, undo, data, config } => {
            ask(&data, &config, Ask::UsersDisable { name: name.clone(), disabled: !undo })?;
            let state = if undo { "may sign in again" } else { "is disabled; its sessions are over" };
            out::line(&format!("account `{name}` {state}"));
        }
        Sub::Password { name, data, config } => {
            ask(&data, &config, Ask::UsersPassword { name: name.clone(), password: password()? })?;
            out::line(&format!("account `{name}` has another password; its sessions are over"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
