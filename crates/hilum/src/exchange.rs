//! Resources as files, in and out, over an open house.

use std::path::PathBuf;

use anyhow::bail;
use hilum_records::export::{self, Exported, Wanted};
use hilum_records::import::{self, Imported, files};
use serde_json::Value;

use crate::admin::Progress;
use crate::house::House;
use crate::running::records;

/// Brings in what the files at `paths` hold.
///
/// # Errors
/// A path that is not there, an engine that fails; what was committed until then stays.
pub async fn import(
    house: &House,
    paths: Vec<PathBuf>,
    rejected: Option<PathBuf>,
    progress: &Progress,
) -> anyhow::Result<Value> {
    house.must_fit()?;
    let found = tokio::task::spawn_blocking(move || files::files(&paths)).await??;
    if found.is_empty() {
        bail!("no file to import: a folder gives its .json, .ndjson and .jsonl files, each also with .gz");
    }
    let show = |imported: &Imported| {
        // A reader that is slow misses a step, not the end.
        progress.try_send(serde_json::to_value(imported).unwrap_or_default()).ok();
    };
    let imported = import::run(&records(house), &house.clock, found, rejected.as_deref(), &show).await?;
    Ok(serde_json::to_value(imported)?)
}

/// Writes resources into files.
///
/// # Errors
/// A folder that is not empty, a file or an engine that fails.
pub async fn export(house: &House, wanted: &Wanted, progress: &Progress) -> anyhow::Result<Value> {
    house.must_fit()?;
    let show = |exported: &Exported| {
        progress.try_send(serde_json::to_value(exported).unwrap_or_default()).ok();
    };
    Ok(serde_json::to_value(export::run(&records(house), wanted, &show).await?)?)
}
