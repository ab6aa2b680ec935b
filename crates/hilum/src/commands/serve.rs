//! `hilum serve`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hilum_web::shell::Mode;
use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigFile, DataFolder};
use crate::config::{Config, LogFormat, Overrides, ProcessRoles};
use crate::folder::Folder;
use crate::house::House;
use crate::running::Running;
use crate::watch::WAY_OUT_TWIN;
use crate::{failpoints, logging, machine, metrics, telemetry};

/// `hilum serve`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hilum serve --data /srv/hilum\n  \
                        hilum serve --data /srv/hilum --config /etc/hilum.toml --log-format json\n  \
                        hilum serve --data /tmp/try --http 127.0.0.1:0 --mllp 127.0.0.1:0 --ready-file /tmp/ready")]
pub struct Arguments {
    #[command(flatten)]
    data: DataFolder,
    #[command(flatten)]
    config: ConfigFile,
    /// Address of the HTTP door and the pages; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Address of the MLLP door; port 0 takes a free one [default: 127.0.0.1:2575]
    #[arg(long, value_name = "ADDR")]
    mllp: Option<String>,
    /// What this process is there for, with Kafka and PostgreSQL: some of gateway,worker,reader [default: all]
    #[arg(long, value_name = "ROLES")]
    roles: Option<ProcessRoles>,
    /// Write {"http":"ADDR","mllp":"ADDR"} to this file when the doors accept
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Say on every page that the patients are invented, as `demo` does
    #[arg(long, hide = true)]
    invented: bool,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", env = "HILUM_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

/// Ends by this where another process of its id was there first (`EX_CONFIG` of sysexits.h): starting it again changes nothing.
const REFUSED: u8 = 78;

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// What could not be opened, by name.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let overrides = Overrides {
        http: arguments.http,
        mllp: arguments.mllp,
        log_format: arguments.log_format,
        roles: arguments.roles,
    };
    let config = arguments.config.load(&overrides)?;
    failpoints::install(machine::variable("HILUM_FAILPOINT").as_deref())?;
    logging::start(&config.logging)?;
    let folder = Folder::take(&arguments.data.path, "serve")?;
    folder.warn_of_others();
    machine::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mode = if arguments.invented { Mode::Demo } else { Mode::Serve };
    let served = runtime.block_on(serve(folder, config, mode, arguments.ready_file.as_deref()));
    // Brokers that do not answer keep a thread for seconds, and nothing that it does is waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(served?.map_or(ExitCode::SUCCESS, |why| {
        machine::complain(&format!("hilum: {why}. It was there first: {WAY_OUT_TWIN}"));
        ExitCode::from(REFUSED)
    }))
}

/// Why it was refused, where it was.
async fn serve(
    folder: Folder,
    config: Config,
    mode: Mode,
    ready_file: Option<&Path>,
) -> anyhow::Result<Option<String>> {
    // Before anything is open, so that an early signal is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let metrics = metrics::start()?;
    let house = Arc::new(House::open(folder, config).await?);
    let exporter = telemetry::start(&house)?;
    let running = Running::start(Arc::clone(&house), metrics, mode).await?;
    if let Some(path) = ready_file {
        running.write_ready_file(path)?;
    }
    let refused = tokio::select! {
        _ = terminate.recv() => {
            tracing::info!("SIGTERM: finishing what was accepted");
            None
        }
        _ = interrupt.recv() => {
            tracing::info!("SIGINT: finishing what was accepted");
            None
        }
        why = running.refused() => Some(why),
    };
    let drain = Duration::from_secs(house.config.shutdown.drain_s);
    tokio::select! {
        () = running.stop(drain) => {}
        // Whoever asks twice means now: what was acknowledged is on disk.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    house.close().await;
    if let Some(exporter) = exporter {
        exporter.stop().await;
    }
    tracing::info!("stopped");
    Ok(refused)
}
