//! An installation becomes an archive. It goes on where it was interrupted: files that are whole stand, one to a line,
//! in `progress.jsonl`, and what was exported of a log is never changed in it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hilum_chart::Chart;
use hilum_core::{Authority, Digest, Epoch, Id, Position, Stream, failpoint};
use hilum_engines::log::{LogError, ReadMax, Record};
use hilum_engines::tables::{Table, Tables};
use serde::{Deserialize, Serialize};

use super::{
    Archive, Content, FileEntry, KEY, MANIFEST, MANIFEST_DIGEST, Manifest, Show, VERSION, fingerprint, rows,
    segment, write_whole,
};
use crate::house::House;
use crate::limits::{ARCHIVE_FILE_BYTES, ARCHIVE_READ_BYTES, ARCHIVE_READ_RECORDS, ARCHIVE_READ_S_MAX};

/// Which files are whole while an export is under way.
pub const PROGRESS: &str = "progress.jsonl";

/// What an export does about records that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    /// Ends.
    Refuse,
    /// Leaves them out, and counts them.
    LeaveOut,
}

/// The first line of the progress: what the archive is made of.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    archive: u64,
    installation: Id,
    epoch: Epoch,
}

/// The end of a partition.
struct End {
    stream: Stream,
    partition: u16,
    offset: u64,
}

/// Writes all that `house` has into `folder`. Nothing else may write meanwhile.
///
/// # Errors
/// When the folder holds something else, a record cannot be read, something came in meanwhile; the engines'.
pub async fn export(house: &House, folder: &Path, damaged: Damaged, show: &Show) -> anyhow::Result<Manifest> {
    let begun = Begun { archive: VERSION, installation: fingerprint(&house.key), epoch: house.log.epoch() };
    show.begin("log applied", 0);
    house.fold_all(damaged == Damaged::LeaveOut, &|left| show.lag(left)).await?;
    let ends = ends(house).await?;
    if folder.join(MANIFEST).exists() {
        return is_done(folder, &begun, &ends);
    }
    let mut export = Export { house, damaged, folder, out: Progress::open(folder, &begun)? };
    let there: u64 = ends.iter().map(|end| end.offset).sum();
    show.begin("records", there);
    for end in &ends {
        export.partition(end, show).await?;
    }
    for &table in rows::CARRIED.iter().chain(rows::BY_DOORS) {
        export.rows(&house.tables, table, "rows").await?;
    }
    for &table in hilum_web::tables::AUDIT_ALL {
        export.rows(&house.audit, table, "audit").await?;
    }
    let key = house.folder.installation_key_bytes(&house.entropy)?;
    export.out.write(folder, PathBuf::from(KEY), &key, Content::Key)?;
    let chart = Chart::open(house.tables.clone(), house.clock.clone());
    let canonical_hash = chart.canonical_hash(&Authority::system("export"), &[]).await?;
    if there != self::ends(house).await?.iter().map(|end| end.offset).sum::<u64>() {
        bail!(
            "something came in meanwhile: stop every process of this installation, and run the command again, which \
             goes on"
        );
    }
    let manifest = export.manifest(&begun, canonical_hash);
    let text = serde_json::to_vec_pretty(&manifest)?;
    write_whole(&folder.join(MANIFEST_DIGEST), format!("{}\n", Digest::of(&text)).as_bytes())?;
    write_whole(&folder.join(MANIFEST), &text)?;
    std::fs::remove_file(folder.join(PROGRESS))?;
    Ok(manifest)
}

/// What stands in the folder already, if it is what would be written.
fn is_done(folder: &Path, begun: &Begun, ends: &[End]) -> anyhow::Result<Manifest> {
    let manifest = Archive::open(folder)?.manifest;
    let there = ends.iter().map(|end| end.offset).sum::<u64>();
    if (manifest.installation, manifest.epoch) != (begun.installation, begun.epoch)
        || manifest.records + manifest.unreadable != there
    {
        bail!("{} holds an archive, of another log or state: take another folder", folder.display());
    }
    Ok(manifest)
}

async fn ends(house: &House) -> anyhow::Result<Vec<End>> {
    let mut ends = Vec::new();
    for (stream, partition) in house.log.places(&Stream::ALL) {
        let offset = house.log.end(stream, partition).await?;
        ends.push(End { stream, partition, offset });
    }
    Ok(ends)
}

struct Export<'a> {
    house: &'a House,
    damaged: Damaged,
    folder: &'a Path,
    out: Progress,
}

impl Export<'_> {
    /// What is not there yet of a partition.
    async fn partition(&mut self, end: &End, show: &Show) -> anyhow::Result<()> {
        let mut at = self.out.exported(end);
        show.more(at);
        while at < end.offset {
            let from = at;
            let (mut bytes, mut records) = (segment::MAGIC.to_vec(), 0);
            while at < end.offset && bytes.len() < ARCHIVE_FILE_BYTES {
                let position = Position { stream: end.stream, partition: end.partition, offset: at };
                match self.read(position, end.offset).await {
                    Ok(read) => {
                        for record in &read {
                            segment::put(&mut bytes, &record.envelope, record.durable)?;
                            at = record.position.offset + 1;
                            records += 1;
                        }
                    }
                    Err(LogError::Corrupt { position, .. }) if self.damaged == Damaged::LeaveOut => {
                        at = position.offset + 1;
                    }
                    Err(LogError::Missing { to, .. }) if self.damaged == Damaged::LeaveOut => {
                        at = to.min(end.offset);
                    }
                    Err(why @ (LogError::Corrupt { .. } | LogError::Missing { .. })) => bail!(
                        "{why}. Restore the log from a backup, or leave out what it lacks with --without-damaged"
                    ),
                    Err(why) => return Err(why.into()),
                }
            }
            let path = format!("log/{}/{:03}/{from:020}.records", end.stream, end.partition);
            let content =
                Content::Records { stream: end.stream, partition: end.partition, from, to: at, records };
            self.out.write(self.folder, PathBuf::from(path), &bytes, content)?;
            failpoint::hit("export");
            show.more(at - from);
        }
        Ok(())
    }

    /// Some records from `position` on, at least one, none behind `end`.
    async fn read(&self, position: Position, end: u64) -> Result<Vec<Record>, LogError> {
        let Position { stream, partition, offset } = position;
        let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let max = ReadMax { records: left.min(ARCHIVE_READ_RECORDS), bytes: ARCHIVE_READ_BYTES };
        let wait = async {
            loop {
                let read = self.house.log.read(stream, partition, offset, max).await?;
                if !read.is_empty() {
                    return Ok(read);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(ARCHIVE_READ_S_MAX), wait)
            .await
            .unwrap_or_else(|_| Err(LogError::Engine(format!("record {position} does not come"))))
    }

    async fn rows(&mut self, tables: &Tables, table: &'static Table, folder: &str) -> anyhow::Result<()> {
        let mut walk = rows::Walk::new(tables, table);
        let mut number = 0;
        while let Some((bytes, rows)) = walk.next().await? {
            number += 1;
            let name = table.name.to_owned();
            let content = match folder {
                "audit" => Content::Audit { table: name, rows },
                _ => Content::Rows { table: name, rows },
            };
            let path = PathBuf::from(format!("{folder}/{}-{number:06}.jsonl", table.name));
            self.out.write(self.folder, path, &bytes, content)?;
        }
        Ok(())
    }

    fn manifest(self, begun: &Begun, canonical_hash: Digest) -> Manifest {
        let files = self.out.files;
        let mut manifest = Manifest {
            archive: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            installation: begun.installation,
            epoch: begun.epoch,
            partitions: self.house.log.partitions(Stream::Decisions),
            records: 0,
            unreadable: 0,
            rows: 0,
            audit_rows: 0,
            canonical_hash,
            files: Vec::new(),
        };
        for file in &files {
            match &file.content {
                Content::Records { from, to, records, .. } => {
                    manifest.records += records;
                    manifest.unreadable += to - from - records;
                }
                Content::Rows { rows, .. } => manifest.rows += rows,
                Content::Audit { rows, .. } => manifest.audit_rows += rows,
                Content::Key => {}
            }
        }
        Manifest { files, ..manifest }
    }
}

/// Which files are whole.
struct Progress {
    file: File,
    files: Vec<FileEntry>,
}

impl Progress {
    /// Begins in `folder`, or goes on there. Files of records stay; the rest is small, or changes, and is made anew.
    fn open(folder: &Path, begun: &Begun) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let path = folder.join(PROGRESS);
        let shown = || format!("{}", path.display());
        let mut files = Vec::new();
        if let Ok(text) = std::fs::read_to_string(&path) {
            // A last line that was cut says nothing: its file is written again.
            let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            let first = lines.next().map(serde_json::from_str::<Begun>).transpose().with_context(shown)?;
            if first.is_some_and(|first| first != *begun) {
                bail!("{} holds half an archive of another log: take another folder", folder.display());
            }
            for line in lines {
                let entry: FileEntry = serde_json::from_str(line).with_context(shown)?;
                if matches!(entry.content, Content::Records { .. }) {
                    files.push(entry);
                }
            }
        } else if std::fs::read_dir(folder)?.next().is_some() {
            bail!("{} is not empty: take another folder", folder.display());
        }
        let mut text = serde_json::to_string(begun)? + "\n";
        for entry in &files {
            text += &(serde_json::to_string(entry)? + "\n");
        }
        write_whole(&path, text.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path).with_context(shown)?;
        Ok(Self { file, files })
    }

    /// How far a partition is exported.
    fn exported(&self, end: &End) -> u64 {
        let of_it = self.files.iter().filter_map(|file| match file.content {
            Content::Records { stream, partition, to, .. }
                if (stream, partition) == (end.stream, end.partition) =>
            {
                Some(to)
            }
            _ => None,
        });
        of_it.max().unwrap_or_default()
    }

    fn write(&mut self, folder: &Path, path: PathBuf, bytes: &[u8], content: Content) -> anyhow::Result<()> {
        write_whole(&folder.join(&path), bytes)?;
        let entry = FileEntry { path, size_bytes: bytes.len() as u64, digest: Digest::of(bytes), content };
        self.file.write_all((serde_json::to_string(&entry)? + "\n").as_bytes())?;
        self.file.sync_data()?;
        self.files.push(entry);
        Ok(())
    }
}
