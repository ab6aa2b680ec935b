//! Files as a door: the messages of files go through the same [`Door`] as those of sockets.
//!
//! How far a file was read is kept beside the log, by the file's digest and the source, so that an import that was
//! interrupted goes on where it was, whatever the file is called then. A message between the last checkpoint and the
//! interruption is appended twice; the fold takes it once.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::stream::{FuturesOrdered, StreamExt as _};
use hilum_core::{ContentType, Digest};
use hilum_hl7v2::batch::{Part, Splitter, Summary};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::accept::{AcceptError, Door, Incoming};
use crate::limits;
use crate::sources::Source;

/// Endings of files that are taken from a folder; a file that is named itself may have any.
const ENDINGS: &[&str] = &["hl7", "hl7v2", "er7", "adt", "msg", "mllp", "dat", "txt"];
/// Messages between two checkpoints.
const CHECKPOINT_MESSAGES: u64 = 2_000;
/// Bytes of one read of a file.
const READ_BYTES: usize = 1 << 20;

/// Why an import ended early. What was read until then is kept; the same command goes on.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file or folder that cannot be read, or the state that cannot be written.
    #[error("{path}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// More than one import takes.
    #[error("{what}: at most {max}")]
    Bound {
        /// What there is too much of.
        what: String,
        /// The bound.
        max: u64,
    },
    /// The log does not take it now.
    #[error("stopped after {messages} messages: {error}; the same command goes on from there")]
    NotKept {
        /// How many of this file are in the log.
        messages: u64,
        /// Why.
        error: AcceptError,
    },
    /// The server stops.
    #[error("interrupted: the same command goes on from there")]
    Interrupted,
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> ImportError {
    let path = path.to_owned();
    move |error| ImportError::Io { path, error }
}

/// How far an import is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Imported {
    /// Files to read.
    pub files: u64,
    /// Files read to the end, now or earlier.
    pub files_done: u64,
    /// Files that an earlier import had read to the end.
    pub files_skipped: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of them read.
    pub bytes_done: u64,
    /// Messages appended now.
    pub messages: u64,
    /// Messages of them that were refused (and kept).
    pub refused: u64,
    /// Messages that were larger than the bound: not kept.
    pub too_large: u64,
    /// Bytes that belong to no message: not kept.
    pub stray_bytes: u64,
    /// Files in which no message was found: read to the end, and read again when they are named again.
    pub files_without_message: u64,
    /// The first of them.
    pub without_message: Vec<String>,
    /// What is no file (a pipe, a socket, a device, a link that leads nowhere, in a circle or into its own
    /// folder, or cannot be followed): not looked into.
    pub passed_over: u64,
    /// The first of it, each with what it is.
    pub passed_over_named: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Checkpoint {
    v: u8,
    digest: Digest,
    source: String,
    /// Everything before this byte is in the log.
    offset: u64,
    done: bool,
}

/// What paths name.
#[derive(Debug, Default)]
pub struct Found {
    /// Files and their sizes, in order.
    pub files: Vec<(PathBuf, u64)>,
    /// What is no file, and what it is.
    pub passed_over: Vec<(PathBuf, Cow<'static, str>)>,
}

/// What a thing is that has no end to read to, or that nobody has written.
fn no_file(kind: fs::FileType) -> &'static str {
    if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Whether a file of this name is taken from a folder.
fn is_ours(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ENDINGS.contains(&ending.to_ascii_lowercase().as_str())
}

/// A folder, whatever it is called.
type Folder = (u64, u64);

#[derive(Default)]
struct Walk {
    found: Found,
    /// Folders that we are in.
    open: Vec<Folder>,
    seen: BTreeSet<Folder>,
}

impl Walk {
    /// `is_named`: by somebody, and not by the folder that it stands in.
    fn walk(&mut self, path: &Path, is_named: bool) -> Result<(), ImportError> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if !is_named && path.is_symlink() => return self.broken_link(path, &error),
            Err(error) => return Err(io_error(path)(error)),
        };
        if metadata.is_dir() {
            return self.folder(path, (metadata.dev(), metadata.ino()));
        }
        if !is_named && !is_ours(path) {
            return Ok(());
        }
        // Opening one may wait for ever.
        if !metadata.is_file() {
            return self.pass_over(path, no_file(metadata.file_type()));
        }
        if metadata.len() > limits::IMPORT_FILE_BYTES_MAX {
            let what = format!("bytes of {}", path.display());
            return Err(ImportError::Bound { what, max: limits::IMPORT_FILE_BYTES_MAX });
        }
        self.has_room()?;
        self.found.files.push((path.to_owned(), metadata.len()));
        Ok(())
    }

    fn folder(&mut self, path: &Path, folder: Folder) -> Result<(), ImportError> {
        if self.open.contains(&folder) {
            return self.pass_over(path, "a link to a folder that it stands in");
        }
        // By another name: what is in it is here already.
        if !self.seen.insert(folder) {
            return Ok(());
        }
        let mut inside = fs::read_dir(path)
            .and_then(|entries| {
                entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()
            })
            .map_err(io_error(path))?;
        inside.sort();
        self.open.push(folder);
        inside.iter().try_for_each(|path| self.walk(path, false))?;
        self.open.pop();
        Ok(())
    }

    /// A link that leads nowhere is meant for us when it is called so, as a file is; one whose end cannot be looked at may
    /// be a folder of messages, whatever it is called.
    fn broken_link(&mut self, path: &Path, error: &io::Error) -> Result<(), ImportError> {
        let what = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "a link that leads nowhere",
            _ if Errno::from_io_error(error) == Some(Errno::LOOP) => "a link that leads in a circle",
            _ => return self.pass_over(path, format!("a link that cannot be followed: {error}")),
        };
        if is_ours(path) { self.pass_over(path, what) } else { Ok(()) }
    }

    fn pass_over(&mut self, path: &Path, what: impl Into<Cow<'static, str>>) -> Result<(), ImportError> {
        self.has_room()?;
        self.found.passed_over.push((path.to_owned(), what.into()));
        Ok(())
    }

    fn has_room(&self) -> Result<(), ImportError> {
        if self.found.files.len() + self.found.passed_over.len() < limits::IMPORT_FILES_MAX {
            return Ok(());
        }
        Err(ImportError::Bound { what: "files".to_owned(), max: limits::IMPORT_FILES_MAX as u64 })
    }
}

/// The files that `paths` name, folders walked in order of names, each once; and what stands there and is no file.
///
/// # Errors
/// [`ImportError::Io`] names what cannot be read, [`ImportError::Bound`] too many or too large files.
pub fn files(paths: &[PathBuf]) -> Result<Found, ImportError> {
    let mut walk = Walk::default();
    for path in paths {
        walk.walk(path, true)?;
    }
    Ok(walk.found)
}

/// Appends the messages of the files in `found` for `source`. `state` is the folder of checkpoints; `show` is told how far it is.
///
/// # Errors
/// [`ImportError`]; what was appended until then stays.
pub async fn run(
    door: &Door,
    source: &Arc<Source>,
    found: Found,
    state: &Path,
    mut show: impl FnMut(&Imported),
) -> Result<Imported, ImportError> {
    fs::create_dir_all(state).map_err(io_error(state))?;
    let Found { files, passed_over } = found;
    let named = passed_over.iter().take(limits::IMPORT_FILES_NAMED_MAX);
    let mut imported = Imported {
        files: files.len() as u64,
        bytes: files.iter().map(|(_, bytes)| bytes).sum(),
        passed_over: passed_over.len() as u64,
        passed_over_named: named.map(|(path, what)| format!("{}: {what}", path.display())).collect(),
        ..Imported::default()
    };
    show(&imported);
    for (path, bytes) in files {
        let before = imported.bytes_done;
        one(door, source, &path, bytes, state, &mut imported, &mut show).await?;
        imported.files_done += 1;
        imported.bytes_done = before + bytes;
        show(&imported);
    }
    Ok(imported)
}

async fn one(
    door: &Door,
    source: &Arc<Source>,
    path: &Path,
    bytes: u64,
    state: &Path,
    imported: &mut Imported,
    show: &mut impl FnMut(&Imported),
) -> Result<(), ImportError> {
    let digest = {
        let path = path.to_owned();
        blocking(move || digest_of(&path)).await?
    };
    let place = state.join(format!("{digest}-{}.json", source.name()));
    let mut checkpoint = fs::read(&place)
        .ok()
        .and_then(|text| serde_json::from_slice::<Checkpoint>(&text).ok())
        .filter(|found| found.digest == digest && found.offset <= bytes)
        .unwrap_or_else(|| Checkpoint {
            v: 1,
            digest,
            source: source.name().to_string(),
            offset: 0,
            done: false,
        });
    if checkpoint.done {
        imported.files_skipped += 1;
        return Ok(());
    }
    let base = imported.bytes_done;
    let (sender, mut cut) = mpsc::channel::<Piece>(limits::IMPORT_WINDOW_MESSAGES);
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (path, from, stop) = (path.to_owned(), checkpoint.offset, Arc::clone(&stop));
        tokio::task::spawn_blocking(move || read(&path, from, &sender, &stop))
    };
    let _stop_reader = SetOnDrop(stop);
    let mut waiting = FuturesOrdered::new();
    let mut since_checkpoint = 0;
    let mut in_log = 0;
    let mut is_read = false;
    loop {
        tokio::select! {
            biased;
            Some((end, accepted)) = waiting.next(), if !waiting.is_empty() => {
                match accepted {
                    Ok(is_refused) => {
                        imported.messages += 1;
                        imported.refused += u64::from(is_refused);
                        in_log += 1;
                    }
                    Err(error) => return Err(ImportError::NotKept { messages: in_log, error }),
                }
                checkpoint.offset = end;
                imported.bytes_done = base + end;
                since_checkpoint += 1;
                if since_checkpoint == CHECKPOINT_MESSAGES {
                    since_checkpoint = 0;
                    save(&place, &checkpoint)?;
                    show(imported);
                }
            }
            piece = cut.recv(), if !is_read && waiting.len() < limits::IMPORT_WINDOW_MESSAGES => match piece {
                Some(Piece::Message { body, end }) => waiting.push_back(append(door, source, body, end)),
                Some(Piece::TooLarge) => imported.too_large += 1,
                Some(Piece::Stray(bytes)) => imported.stray_bytes += bytes,
                None => is_read = true,
            },
            else => break,
        }
        if is_read && waiting.is_empty() {
            break;
        }
    }
    let summary = reader.await.map_err(|_| ImportError::Interrupted)?.map_err(io_error(path))?;
    // A batch may hold nothing; a file that is no batch and holds nothing is not what somebody meant to name.
    let is_batch = summary.batches + summary.file_marks > 0;
    if checkpoint.offset == 0 && summary.messages == 0 && !is_batch {
        imported.files_without_message += 1;
        if imported.without_message.len() < limits::IMPORT_FILES_NAMED_MAX {
            imported.without_message.push(path.display().to_string());
        }
        return Ok(());
    }
    checkpoint.offset = bytes;
    checkpoint.done = true;
    save(&place, &checkpoint)
}

/// Tells the reading thread that nobody takes what it reads.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn append(
    door: &Door,
    source: &Arc<Source>,
    body: Bytes,
    end: u64,
) -> (u64, Result<bool, AcceptError>) {
    let incoming = Incoming {
        body,
        content_type: ContentType::Hl7v2,
        source: Arc::clone(source),
        peer: None,
        received: door.now(),
        trace: None,
        replaces: None,
    };
    (end, door.accept(incoming).await.map(|accepted| accepted.refusal.is_some()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImportError> + Send + 'static,
) -> Result<T, ImportError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ImportError::Interrupted)?
}

fn digest_of(path: &Path) -> Result<Digest, ImportError> {
    let mut file = File::open(path).map_err(io_error(path))?;
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; READ_BYTES];
    loop {
        match file.read(&mut chunk).map_err(io_error(path))? {
            0 => return Ok(Digest::from_bytes(*hasher.finalize().as_bytes())),
            read => hasher.update(chunk.get(..read).unwrap_or_default()),
        };
    }
}

fn save(place: &Path, checkpoint: &Checkpoint) -> Result<(), ImportError> {
    let temporary = place.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(checkpoint)?)?;
        file.sync_all()?;
        fs::rename(&temporary, place)
    };
    write().map_err(io_error(place))
}

enum Piece {
    /// A message, and the byte behind it.
    Message { body: Bytes, end: u64 },
    /// A message beyond the bound was skipped.
    TooLarge,
    /// So many bytes belong to no message.
    Stray(u64),
}

/// Cuts the file from byte `from` on and hands the pieces over; blocks while nobody takes them. Says what it found.
fn read(path: &Path, from: u64, pieces: &mpsc::Sender<Piece>, stop: &AtomicBool) -> io::Result<Summary> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut splitter = Splitter::new(limits::MESSAGE_BYTES_MAX);
    let mut chunk = vec![0; READ_BYTES];
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            splitter.finish();
        }
        splitter.push(chunk.get(..count).unwrap_or_default());
        while let Some(part) = splitter.next_part() {
            let piece = match part {
                Part::Message { bytes, offset } => {
                    Piece::Message { end: from + offset + bytes.len() as u64, body: bytes }
                }
                Part::TooLarge { .. } => Piece::TooLarge,
                Part::Stray { size_bytes, .. } => Piece::Stray(size_bytes),
            };
            if stop.load(Ordering::Relaxed) || pieces.blocking_send(piece).is_err() {
                return Ok(splitter.summary());
            }
        }
        if count == 0 {
            return Ok(splitter.summary());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_that_does_not_lead_to_a_file_is_named_by_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs::write(place("good.hl7"), "MSH").unwrap();
        let (nowhere, circle) = (Some("a link that leads nowhere"), Some("a link that leads in a circle"));
        // Whoever runs the tests may read everything: a name that no file can have stands for what may not be read.
        let long = "x".repeat(300);
        let unseen = Some("a link that cannot be followed: ");
        let cases = [
            ("nothing there", "1.hl7", "nothing", nowhere),
            ("nothing there, and not called like ours", ".#lock", "user@host.1:2", None),
            ("below a file", "2.HL7", "good.hl7/x", nowhere),
            ("below a file, called otherwise", "2", "good.hl7/x", None),
            ("itself", "3.hl7", "3.hl7", circle),
            ("itself, called otherwise", "3", "3", None),
            ("not to be looked at", "4.hl7", &long, unseen),
            ("a folder perhaps", "4", &long, unseen),
        ];
        for (_, name, target, _) in cases {
            symlink(target, place(name)).unwrap();
        }
        let found = files(&[folder.path().to_owned()]).unwrap();
        assert_eq!(found.files.len(), 1);
        for (why, name, _, want) in cases {
            let what = found.passed_over.iter().find(|(path, _)| *path == place(name)).map(|(_, what)| what);
            match want {
                Some(want) => assert!(what.is_some_and(|what| what.starts_with(want)), "{why}: {what:?}"),
                None => assert_eq!(what, None, "{why}"),
            }
        }
    }
}
