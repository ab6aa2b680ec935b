//! What the process says about itself: one line an event, on standard error, never any patient data.

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Logging};

/// Starts logging for a command that has an output of its own: warnings only, unless more is configured than that.
///
/// # Errors
/// When the level cannot be read.
pub fn start_quietly(logging: &Logging) -> anyhow::Result<()> {
    let level = if logging.level == Logging::default().level { "warn" } else { &logging.level };
    start(&Logging { format: logging.format, level: level.to_owned() })
}

/// Whether the level can be read.
///
/// # Errors
/// As `key: why`.
pub fn check(logging: &Logging) -> anyhow::Result<()> {
    // The filter takes a word that is no level for a module's name, and then says nothing at all.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| word.contains(['=', '[']) || levels.contains(&word.to_lowercase().as_str());
    let all = logging.level.split(',').map(str::trim).all(is_level);
    if all && EnvFilter::try_new(&logging.level).is_ok() {
        return Ok(());
    }
    anyhow::bail!(
        "logging.level: `{}` is no level: write error, warn, info, debug, or by module info,hilum_adt=debug",
        logging.level
    )
}

/// Starts logging as configured.
///
/// # Errors
/// When the level cannot be read.
pub fn start(logging: &Logging) -> anyhow::Result<()> {
    check(logging)?;
    let filter = EnvFilter::try_new(&logging.level).context("logging.level")?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match logging.format {
        LogFormat::Human => lines.with_ansi(crate::machine::is_terminal()).with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
