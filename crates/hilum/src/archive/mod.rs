//! Moving house: an installation as a folder of files, which another installation of any engines becomes.
//!
//! | file of an archive | what |
//! |---|---|
//! | `manifest.json`, `manifest.b3` | what belongs to it, with the BLAKE3 of each file; the BLAKE3 of that. Written last |
//! | `installation.key` | what every id is made with: a secret |
//! | `log/STREAM/PARTITION/OFFSET.records` | what came in ([`segment`]) |
//! | `rows/TABLE-N.jsonl` | what no log gives back ([`rows`]) |
//! | `audit/TABLE-N.jsonl` | who looked: for reading, no import takes it |
//! | `progress.jsonl` | only while an export is under way: the files that are whole |

mod export;
mod import;
mod rows;
mod segment;

use std::fs::File;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use hilum_core::{Digest, Epoch, Id, InstallationKey, Stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

pub use self::export::{Damaged, export};
pub use self::import::{import, refuse_half_imported};
use crate::machine;

/// The version of the form.
const VERSION: u64 = 1;
const MANIFEST: &str = "manifest.json";
const MANIFEST_DIGEST: &str = "manifest.b3";
const KEY: &str = "installation.key";

/// By what an installation is known without its key.
fn fingerprint(key: &InstallationKey) -> Id {
    key.id("Installation", &[])
}

/// What stands in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "camelCase", deny_unknown_fields)]
enum Content {
    /// Records of one partition.
    Records {
        stream: Stream,
        partition: u16,
        /// The first offset that it covers.
        from: u64,
        /// The offset behind the last one.
        to: u64,
        /// How many: fewer than offsets where some could not be read.
        records: u64,
    },
    /// Rows that an import puts.
    Rows { table: String, rows: u64 },
    /// Rows of the audit log.
    Audit { table: String, rows: u64 },
    /// The installation's key.
    Key,
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileEntry {
    /// Within the archive.
    path: PathBuf,
    size_bytes: u64,
    digest: Digest,
    content: Content,
}

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The version of this form.
    archive: u64,
    /// The program that made it.
    program: String,
    /// Whose it is: the fingerprint of the installation key.
    installation: Id,
    /// The life of the log that it was made of.
    epoch: Epoch,
    /// Partitions of each stream of that log, of `hl7.in` without the topics of sources.
    partitions: u16,
    /// Records, of all streams.
    pub records: u64,
    /// Records that could not be read and are not in it.
    pub unreadable: u64,
    /// Rows that no log gives back.
    pub rows: u64,
    /// Rows of the audit log.
    pub audit_rows: u64,
    /// The chart's canonical hash.
    pub canonical_hash: Digest,
    files: Vec<FileEntry>,
}

impl Manifest {
    /// Bytes of all files.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}

/// A whole archive.
#[derive(Debug)]
pub struct Archive {
    folder: PathBuf,
    /// What it holds.
    pub manifest: Manifest,
    /// Of the manifest: the archive's name for whoever goes on with it.
    digest: Digest,
}

impl Archive {
    /// Reads what belongs to the archive in `folder`.
    ///
    /// # Errors
    /// When it is none, is not whole, or is of a version beyond ours.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            archive: u64,
        }
        let path = folder.join(MANIFEST);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(why)
                if why.kind() == std::io::ErrorKind::NotFound && folder.join(export::PROGRESS).exists() =>
            {
                bail!("{} is half an archive: run `hilum export` again, which goes on", folder.display())
            }
            Err(why) => return Err(why).with_context(|| format!("{} is no archive", folder.display())),
        };
        let digest = Digest::of(&text);
        let said = std::fs::read_to_string(folder.join(MANIFEST_DIGEST)).unwrap_or_default();
        if said.trim() != digest.to_string() {
            bail!("{} is damaged: its BLAKE3 is not that in {MANIFEST_DIGEST}", path.display());
        }
        let shown = || format!("{}", path.display());
        let Version { archive } = serde_json::from_slice(&text).with_context(shown)?;
        if archive > VERSION {
            bail!("{} is of form {archive}, this program reads up to {VERSION}: take the newer one", shown());
        }
        let manifest: Manifest = serde_json::from_slice(&text).with_context(shown)?;
        let plain = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
        if let Some(file) = manifest.files.iter().find(|file| !plain(&file.path)) {
            bail!("{} names {}, which is not in the archive", shown(), file.path.display());
        }
        Ok(Self { folder: folder.to_owned(), manifest, digest })
    }

    /// The bytes of a file, once they are seen to be those that were written.
    fn read(&self, file: &FileEntry) -> anyhow::Result<Vec<u8>> {
        let path = self.folder.join(&file.path);
        let bytes = std::fs::read(&path).with_context(|| format!("{}", path.display()))?;
        if Digest::of(&bytes) != file.digest {
            bail!("{} is damaged: its BLAKE3 is not the manifest's", path.display());
        }
        Ok(bytes)
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// Names the first file that is missing or damaged.
    pub fn verify(&self, show: &Show) -> anyhow::Result<()> {
        show.begin("archive read", self.manifest.size_bytes());
        for file in &self.manifest.files {
            self.read(file)?;
            show.more(file.size_bytes);
        }
        Ok(())
    }
}

/// Writes a file, whole or not at all, and durable.
fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let written = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let temporary = path.with_extension("part");
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    };
    written().with_context(|| format!("{} cannot be written", path.display()))
}

/// How far it is, for people.
#[derive(Debug)]
pub struct Show(ProgressBar);

impl Show {
    /// A bar on a terminal, unless a program reads.
    pub fn new(json: bool) -> Self {
        let bar = if json || !machine::is_terminal() { ProgressBar::hidden() } else { ProgressBar::new(0) };
        let style = ProgressStyle::with_template("{msg}: {bar:30} {percent} % · {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    fn begin(&self, what: &'static str, length: u64) {
        self.0.reset();
        self.0.set_length(length);
        self.0.set_message(what);
    }

    fn more(&self, count: u64) {
        self.0.inc(count);
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }

    /// Shows how far records are applied, by how many are left.
    fn lag(&self, left: u64) {
        let all = self.0.length().unwrap_or_default().max(left);
        self.0.set_length(all);
        self.0.set_position(all - left);
    }
}
