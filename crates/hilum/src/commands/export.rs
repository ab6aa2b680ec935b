//! `hilum export`

mod fhir;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::json;

use super::ConfigFile;
use crate::archive::{self, Damaged, Show};
use crate::config::{Config, Overrides, ProcessRoles};
use crate::folder::Folder;
use crate::house::House;
use crate::{failpoints, logging, machine, out};

/// `hilum export`
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Every process of the installation must be stopped. The same command goes on where it was interrupted. \
                        What it writes is all that the installation knows, its key with it: keep it as you keep the data \
                        folder, and destroy it when it is not needed.\n\n\
                        Examples:\n  hilum export /mnt/move --data /srv/hilum\n  \
                        hilum export fhir --out /mnt/fhir --data /srv/hilum"
)]
pub struct Arguments {
    #[command(subcommand)]
    sub: Option<Sub>,
    /// Where to write the archive: an empty folder, or one where an export was interrupted
    #[arg(value_name = "DIR", required = true)]
    archive: Option<PathBuf>,
    /// Leave out records that cannot be read
    #[arg(long)]
    without_damaged: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// The data folder: log, tables, audit log, secrets
    #[arg(long, value_name = "DIR", env = "HILUM_DATA", required = true)]
    data: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Write all FHIR resources as NDJSON, a file a type
    Fhir(fhir::Arguments),
}

/// Does it.
///
/// # Errors
/// When the folder is held, or an engine fails.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (archive, data) = match (&arguments.sub, &arguments.archive, &arguments.data) {
        (Some(Sub::Fhir(arguments)), ..) => return fhir::run(arguments),
        (None, Some(archive), Some(data)) => (archive, data),
        _ => bail!("say where to: hilum export DIR --data DIR, or hilum export fhir --out DIR --data DIR"),
    };
    let config = Config { roles: ProcessRoles::ALL, ..arguments.config.load(&Overrides::default())? };
    failpoints::install(machine::variable("HILUM_FAILPOINT").as_deref())?;
    logging::start_quietly(&config.logging)?;
    if !data.is_dir() {
        bail!("data folder {} is not there", data.display());
    }
    let folder = Folder::take(data, "export")?;
    let damaged = if arguments.without_damaged { Damaged::LeaveOut } else { Damaged::Refuse };
    let show = Show::new(arguments.json);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let house = House::open_alone(folder, config).await?;
        let done = match house.must_fit() {
            Ok(()) => archive::export(&house, archive, damaged, &show).await,
            Err(why) => Err(why),
        };
        house.close().await;
        done
    });
    show.end();
    let done = done?;
    if arguments.json {
        let whole = json!({
            "records": done.records,
            "unreadable": done.unreadable,
            "rows": done.rows,
            "auditRows": done.audit_rows,
            "sizeBytes": done.size_bytes(),
            "canonicalHash": done.canonical_hash.to_string(),
        });
        out::line(&whole.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    out::line(&format!(
        "{} records, {} rows of accounts, keys and waiting corrections, {} rows of the audit log: {} bytes",
        done.records,
        done.rows,
        done.audit_rows,
        done.size_bytes()
    ));
    if done.unreadable > 0 {
        out::line(&format!("{} records could not be read and are not in it", done.unreadable));
    }
    out::line(&format!("chart: {}", done.canonical_hash));
    out::line(&format!(
        "{} holds every patient and the installation key in clear: keep it as you keep the data folder",
        archive.display()
    ));
    Ok(ExitCode::SUCCESS)
}
