//! An archive becomes an installation. It goes on where it was interrupted: how many files are in the log, and where
//! its partitions ended then, stands in the data folder; what came behind that is read back, and not appended again.
//!
//! Of one key one record is on its way at a time, so that the order within a key holds however many partitions the log
//! has, and whatever fails.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use futures::stream::{FuturesUnordered, StreamExt as _};
use hilum_adt::project::Adt;
use hilum_chart::index::mend;
use hilum_chart::{Chart, fits};
use hilum_core::{Authority, Digest, Id, InstallationKey, RecordId, Seq, Stream, failpoint};
use hilum_engines::log::{Log, ReadMax};
use hilum_engines::tables::Tables;
use hilum_engines::tables::postgres::Hold;
use serde::{Deserialize, Serialize};

use super::{Archive, Content, KEY, Show, fingerprint, rows, segment, write_whole};
use crate::config::Config;
use crate::folder::{Folder, SECRET_BYTES};
use crate::house::{Engines, House, OWNERS, open_engines};
use crate::limits::{
    ARCHIVE_IN_FLIGHT_BYTES_MAX, ARCHIVE_IN_FLIGHT_MAX, ARCHIVE_READ_BYTES, ARCHIVE_READ_RECORDS,
};
use crate::machine;

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Imported {
    /// Records of the archive that are in the log.
    pub records: u64,
    /// Of these, those that an interrupted import had brought in behind its last note.
    pub already: u64,
    /// Rows that no log gives back.
    pub rows: u64,
    /// The chart's canonical hash.
    pub canonical_hash: Digest,
    /// The archive's: another one only where records could not be exported that the old chart knew, or where a server took
    /// messages before the two were compared.
    pub archive_hash: Digest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Phase {
    /// Log and tables are looked at: nothing is appended yet.
    Opening,
    /// Records are appended: nothing else may be.
    Appending,
    /// All is there, and is applied: by this command, or by a server.
    Applying,
    /// The hash was the archive's.
    Done,
}

/// Where a partition ended.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct End {
    stream: Stream,
    partition: u16,
    offset: u64,
}

/// How far an import is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    archive: Digest,
    phase: Phase,
    /// Files of the manifest that are in the log whole.
    files: usize,
    /// Where the log's partitions ended then.
    ends: Vec<End>,
    records: u64,
    already: u64,
}

fn state_path(folder: &Folder) -> PathBuf {
    folder.path().join("import").join("archive.json")
}

impl State {
    fn begun(archive: &Archive) -> Self {
        let (phase, ends) = (Phase::Opening, Vec::new());
        Self { archive: archive.digest, phase, files: 0, ends, records: 0, already: 0 }
    }

    fn forget(folder: &Folder) -> anyhow::Result<()> {
        let path = state_path(folder);
        std::fs::remove_file(&path).with_context(|| format!("{}", path.display()))
    }

    fn read(folder: &Folder) -> anyhow::Result<Option<Self>> {
        let path = state_path(folder);
        match std::fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).with_context(|| format!("{}", path.display()))
            }
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(why).with_context(|| format!("{}", path.display())),
        }
    }

    fn write(&self, folder: &Folder) -> anyhow::Result<()> {
        write_whole(&state_path(folder), &serde_json::to_vec(self)?)
    }
}

/// Refuses a folder into which half an archive was brought: what came in now would stand before what came long ago.
///
/// # Errors
/// When it is one.
pub fn refuse_half_imported(folder: &Folder) -> anyhow::Result<()> {
    match State::read(folder)? {
        Some(State { phase: Phase::Opening | Phase::Appending, .. }) => bail!(
            "the import of an archive into {} was broken off: run `hilum import archive` again, which goes on",
            folder.path().display()
        ),
        _ => Ok(()),
    }
}

/// Brings `archive` into `folder` and the engines that `config` names. Nothing else may write meanwhile.
///
/// # Errors
/// Before anything is written: a damaged file by its name, a folder or engines that hold something. Then the engines',
/// after which the same call goes on; and a chart that is not the archive's.
pub async fn import(
    archive: &Archive,
    folder: Folder,
    config: Config,
    show: &Show,
) -> anyhow::Result<Imported> {
    let before = State::read(&folder)?;
    if before.as_ref().is_some_and(|state| state.archive != archive.digest) {
        bail!("{} holds what came from another archive: take an empty --data", folder.path().display());
    }
    archive.verify(show)?;
    let key = key_of(archive)?;
    let mut state = match before {
        Some(state) if matches!(state.phase, Phase::Applying | Phase::Done) => state,
        before => {
            if before.is_none() {
                // From here on no server may begin here.
                State::begun(archive).write(&folder)?;
            }
            let brought = async {
                folder.adopt_installation_key(key)?;
                bring_in(archive, &folder, &config, &InstallationKey::new(key), before, show).await
            };
            let brought = brought.await;
            if brought.is_err() && State::read(&folder)?.is_some_and(|state| state.phase == Phase::Opening) {
                // Nothing was written: whoever runs here goes on.
                State::forget(&folder)?;
            }
            brought?
        }
    };
    let house = House::open_alone(folder, config).await?;
    let done = apply(archive, &house, &mut state, show).await;
    house.close().await;
    let canonical_hash = done?;
    let rows = archive.manifest.rows;
    let archive_hash = archive.manifest.canonical_hash;
    Ok(Imported { records: state.records, already: state.already, rows, canonical_hash, archive_hash })
}

/// The archive's key, which is the one that it says it has.
fn key_of(archive: &Archive) -> anyhow::Result<[u8; SECRET_BYTES]> {
    let file = archive.manifest.files.iter().find(|file| file.content == Content::Key);
    let bytes = archive.read(file.with_context(|| format!("the archive has no {KEY}"))?)?;
    let key = <[u8; SECRET_BYTES]>::try_from(bytes.as_slice())
        .with_context(|| format!("{KEY} of the archive has {} bytes", bytes.len()))?;
    if fingerprint(&InstallationKey::new(key)) != archive.manifest.installation {
        bail!("{KEY} of the archive is not that of the installation that it names");
    }
    Ok(key)
}

/// Appends the records and puts the rows.
async fn bring_in(
    archive: &Archive,
    folder: &Folder,
    config: &Config,
    key: &InstallationKey,
    before: Option<State>,
    show: &Show,
) -> anyhow::Result<State> {
    let (clock, entropy) = (machine::clock(), machine::entropy());
    let Engines { log, tables, audit } =
        open_engines(folder, config, Hold::Alone, &clock, &entropy, key).await?;
    let mut state = match before {
        Some(state) if state.phase != Phase::Opening => state,
        _ => begin(archive, folder, &log, &tables).await?,
    };
    // Written down, so that they are not taken for new ones that lost what they had.
    fits::check::<Adt>(&log, &tables).await?;
    let done = Bringing { archive, folder, log: &log, tables: &tables }.run(&mut state, show).await;
    log.close().await;
    tables.close().await;
    audit.close().await;
    done.map(|()| state)
}

/// Sees that nothing is there, and notes that an import has begun.
async fn begin(archive: &Archive, folder: &Folder, log: &Log, tables: &Tables) -> anyhow::Result<State> {
    let ends = ends(log).await?;
    if let Some(end) = ends.iter().find(|end| end.offset > 0) {
        bail!("the log holds records ({}/{}): an archive needs an empty one", end.stream, end.partition);
    }
    if tables.now().await? != Seq(0) {
        bail!(
            "the tables hold something already: an archive needs empty ones (another --data or tables.schema)"
        );
    }
    let state = State { phase: Phase::Appending, ends, ..State::begun(archive) };
    state.write(folder)?;
    Ok(state)
}

async fn ends(log: &Log) -> anyhow::Result<Vec<End>> {
    let mut ends = Vec::new();
    for (stream, partition) in log.places(&Stream::ALL) {
        ends.push(End { stream, partition, offset: log.end(stream, partition).await? });
    }
    Ok(ends)
}

struct Bringing<'a> {
    archive: &'a Archive,
    folder: &'a Folder,
    log: &'a Log,
    tables: &'a Tables,
}

impl Bringing<'_> {
    async fn run(&self, state: &mut State, show: &Show) -> anyhow::Result<()> {
        show.begin("records", self.archive.manifest.records);
        show.more(state.records);
        // What an interrupted import brought in behind its last note: no more than one file holds.
        let mut there = self.behind(&state.ends).await?;
        for (number, file) in self.archive.manifest.files.iter().enumerate().skip(state.files) {
            let bytes = self.archive.read(file)?;
            match &file.content {
                Content::Records { stream, records, .. } => {
                    let appended = self
                        .append(*stream, bytes, &mut there, show)
                        .await
                        .with_context(|| format!("{}", file.path.display()))?;
                    state.records += records;
                    state.already += records - appended;
                    state.ends = ends(self.log).await?;
                    there = HashSet::new();
                }
                Content::Rows { table, .. } => {
                    let written = rows::write(self.tables, table, &bytes).await;
                    written.with_context(|| format!("{}", file.path.display()))?;
                }
                Content::Audit { .. } | Content::Key => {}
            }
            state.files = number + 1;
            state.write(self.folder)?;
        }
        state.phase = Phase::Applying;
        state.write(self.folder)
    }

    /// The ids of all records behind `ends`.
    async fn behind(&self, ends: &[End]) -> anyhow::Result<HashSet<RecordId>> {
        let mut ids = HashSet::new();
        for (stream, partition) in self.log.places(&Stream::ALL) {
            // A topic of a source that is new since: all of it.
            let noted = ends.iter().find(|end| (end.stream, end.partition) == (stream, partition));
            let offset = noted.map_or(0, |end| end.offset);
            let end = self.log.end(stream, partition).await?;
            let mut at = offset;
            while at < end {
                let max = ReadMax { records: ARCHIVE_READ_RECORDS, bytes: ARCHIVE_READ_BYTES };
                let records = self.log.read(stream, partition, at, max).await?;
                let Some(last) = records.last() else {
                    bail!("{stream}/{partition}/{at} of the log does not come: run the command again");
                };
                at = last.position.offset + 1;
                ids.extend(records.iter().map(|record| record.envelope.id));
            }
        }
        Ok(ids)
    }

    /// Appends the records of a file that are not `there`, and returns how many.
    async fn append(
        &self,
        stream: Stream,
        file: Vec<u8>,
        there: &mut HashSet<RecordId>,
        show: &Show,
    ) -> anyhow::Result<u64> {
        let (mut appended, mut bytes) = (0, 0);
        // The keys whose record is on its way, with its size.
        let mut keys: HashMap<Id, usize> = HashMap::new();
        let mut on_way = FuturesUnordered::new();
        for envelope in segment::Records::new(stream, file.into())? {
            let envelope = envelope?;
            show.more(1);
            if !there.insert(envelope.id) {
                continue;
            }
            let (key, size) = (envelope.key, envelope.body.len());
            while keys.contains_key(&key)
                || keys.len() >= ARCHIVE_IN_FLIGHT_MAX
                || (bytes > 0 && bytes + size > ARCHIVE_IN_FLIGHT_BYTES_MAX)
            {
                let Some((key, kept)) = on_way.next().await else { break };
                bytes -= keys.remove(&key).unwrap_or_default();
                kept?;
            }
            keys.insert(key, size);
            bytes += size;
            appended += 1;
            on_way.push(async move {
                let kept = self.log.append(envelope).await;
                failpoint::hit("import");
                (key, kept)
            });
        }
        while let Some((_, kept)) = on_way.next().await {
            kept?;
        }
        Ok(appended)
    }
}

/// Applies what was brought in, and compares.
async fn apply(archive: &Archive, house: &House, state: &mut State, show: &Show) -> anyhow::Result<Digest> {
    show.begin("log applied", 0);
    house.must_fit()?;
    house.fold_all(false, &|left| show.lag(left)).await?;
    // What came as rows is found only once it is indexed.
    if let Some(indexer) = &house.indexer
        && !mend::is_whole(&house.tables, indexer).await?
    {
        show.begin("index", 0);
        mend::rebuild(&house.tables, indexer, OWNERS, &|_| {}).await?;
    }
    let chart = Chart::open(house.tables.clone(), house.clock.clone());
    let hash = chart.canonical_hash(&Authority::system("import"), &[]).await?;
    let said = archive.manifest.canonical_hash;
    // A server has begun before this was compared: its messages are on the chart, too.
    let has_grown = ends(&house.log).await?.iter().any(|end| {
        let noted = state.ends.iter().find(|one| (one.stream, one.partition) == (end.stream, end.partition));
        noted.is_none_or(|noted| end.offset > noted.offset)
    });
    if state.phase == Phase::Done || hash == said || archive.manifest.unreadable > 0 || has_grown {
        state.phase = Phase::Done;
        state.write(&house.folder)?;
        return Ok(hash);
    }
    let ours = env!("CARGO_PKG_VERSION");
    bail!(
        "all {} records are in the log, but the chart's hash is {hash}, the archive's {said}. The archive is of hilum \
         {}, this is {ours}: another version may fold otherwise",
        state.records,
        archive.manifest.program
    )
}
