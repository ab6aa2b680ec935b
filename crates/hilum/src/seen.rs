//! The newest commit that this process has seen of each schema, noted in its data folder (`tables.seen`): what a server
//! says of itself cannot tell that it was restored from a backup, or is another one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hilum_core::Seq;
use hilum_engines::tables::Tables;
use tokio::sync::watch;

use crate::folder::Folder;
use crate::house::House;

/// Seconds between two notes: what is committed in between is not missed when the tables lose it.
const NOTE_EVERY: Duration = Duration::from_secs(5);

/// By schema.
pub type Seen = BTreeMap<String, i64>;

fn place(folder: &Path) -> PathBuf {
    folder.join("tables.seen")
}

/// What was noted; nothing of a folder that never had such tables, nor of a note that cannot be read: it would only warn.
pub fn read(folder: &Folder) -> Seen {
    let text = std::fs::read_to_string(place(folder.path())).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// The newest commit noted of a schema.
pub fn of(seen: &Seen, schema: &str) -> Seq {
    Seq(seen.get(schema).copied().unwrap_or_default())
}

/// Notes what is seen by now.
pub fn note(house: &House) {
    if !house.tables.is_shared() {
        return;
    }
    let before = read(&house.folder);
    let mut seen = before.clone();
    let audit = house.config.tables.audit_schema();
    for (schema, tables) in [(&house.config.tables.schema, &house.tables), (&audit, &house.audit)] {
        let newest = newest(tables);
        if newest > 0 {
            seen.insert(schema.clone(), newest);
        }
    }
    if seen == before {
        return;
    }
    let (path, text) = (place(house.folder.path()), serde_json::to_string(&seen).unwrap_or_default());
    let temporary = path.with_extension("seen.new");
    // Whole or not at all; a note that a power cut takes back says less, and nothing wrong.
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, &path));
    if let Err(why) = written {
        tracing::warn!(%why, place = %path.display(), "the newest commit is not noted");
    }
}

fn newest(tables: &Tables) -> i64 {
    tables.committed().borrow().0
}

/// Notes until `stop` is true.
pub async fn keep(house: Arc<House>, mut stop: watch::Receiver<bool>) {
    loop {
        note(&house);
        if tokio::time::timeout(NOTE_EVERY, stop.wait_for(|&stop| stop)).await.is_ok() {
            return;
        }
    }
}
