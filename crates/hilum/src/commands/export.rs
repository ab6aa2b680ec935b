//! `hilum export`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::{ConfigFile, DataFolder};
use crate::archive::{self, Damaged, Show};
use crate::config::{Config, Overrides, ProcessRoles};
use crate::folder::Folder;
use crate::house::House;
use crate::{failpoints, logging, machine, out};

/// `hilum export`
#[derive(Debug, Args)]
#[command(
    after_help = "Every process of the installation must be stopped. The same command goes on where it was interrupted. \
                        What it writes is all that the installation knows, its key with it: keep it as you keep the data \
                        folder, and destroy it when it is not needed.\n\n\
                        Example:\n  hilum export /mnt/move --data /srv/hilum"
)]
pub struct Arguments {
    /// Where to write the archive: an empty folder, or one where an export was interrupted
    #[arg(value_name = "DIR")]
    archive: PathBuf,
    /// Leave out records that cannot be read
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

/// Does it.
///
/// # Errors
/// When the folder is held, or an engine fails.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = Config { roles: ProcessRoles::ALL, ..arguments.config.load(&Overrides::default())? };
    failpoints::install(machine::variable("HILUM_FAILPOINT").as_deref())?;
    logging::start_quietly(&config.logging)?;
    if !arguments.data.path.is_dir() {
        bail!("data folder {} is not there", arguments.data.path.display());
    }
    let folder = Folder::take(&arguments.data.path, "export")?;
    let damaged = if arguments.without_damaged { Damaged::LeaveOut } else { Damaged::Refuse };
    let show = Show::new(arguments.json);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let house = House::open_alone(folder, config).await?;
        let done = match house.must_fit() {
            Ok(()) => archive::export(&house, &arguments.archive, damaged, &show).await,
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
        arguments.archive.display()
    ));
    Ok(ExitCode::SUCCESS)
}
