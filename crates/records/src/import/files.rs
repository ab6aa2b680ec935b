//! The files of an import: which there are, and the documents in them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use hilum_fhir::r4::r4;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::ImportError;
use crate::limits::{
    IMPORT_DOCUMENT_BYTES_MAX, IMPORT_FILES_MAX, IMPORT_FOLDERS_DEEP_MAX, IMPORT_HELD_BYTES_MAX,
    IMPORT_LINES_BYTES, IMPORT_PEEK_BYTES,
};

/// Endings of files that are taken from a folder, each also with `.gz` behind it; a file that is named itself may have any.
const ENDINGS: [&str; 3] = [".json", ".ndjson", ".jsonl"];
/// Those of files with a document a line.
const OF_LINES: [&str; 2] = [".ndjson", ".jsonl"];
/// A gzip member's first bytes.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// One file.
#[derive(Debug, Clone)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// As it lies there.
    pub size_bytes: u64,
    /// A document a line.
    pub(super) is_lines: bool,
    /// `Patient.ndjson`, as bulk data has it: lines are resources, also where these are Bundles.
    pub(super) is_bulk: bool,
    /// Whether it seems to refer to resources by searches: it is read behind those that do not.
    pub(super) refers: bool,
}

/// Files that `paths` name, folders looked into, in the order of their names.
///
/// # Errors
/// What is not there or cannot be read, by name; more than [`IMPORT_FILES_MAX`].
pub fn files(paths: &[PathBuf]) -> Result<Vec<File>, ImportError> {
    let mut found = Vec::new();
    for path in paths {
        walk(path, 0, &mut found)?;
    }
    let mut seen = BTreeSet::new();
    found.retain(|file| seen.insert(file.path.clone()));
    Ok(found)
}

fn walk(path: &Path, depth: usize, found: &mut Vec<File>) -> Result<(), ImportError> {
    let fault = |error| ImportError::Io { path: path.to_owned(), error };
    let metadata = fs::metadata(path).map_err(fault)?;
    if metadata.is_dir() {
        if depth > IMPORT_FOLDERS_DEEP_MAX {
            return Err(ImportError::Bound {
                what: "folders within each other",
                max: IMPORT_FOLDERS_DEEP_MAX,
            });
        }
        let inside = fs::read_dir(path).and_then(|all| all.map(|one| one.map(|one| one.path())).collect());
        let mut inside: Vec<PathBuf> = inside.map_err(fault)?;
        inside.sort();
        return inside.iter().try_for_each(|path| walk(path, depth + 1, found));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    if !metadata.is_file() || depth > 0 && !ENDINGS.iter().any(|ending| plain.ends_with(ending)) {
        return Ok(());
    }
    if found.len() >= IMPORT_FILES_MAX {
        return Err(ImportError::Bound { what: "files", max: IMPORT_FILES_MAX });
    }
    let is_lines = OF_LINES.iter().any(|ending| plain.ends_with(ending));
    let ty = plain.split('.').next().unwrap_or_default();
    found.push(File {
        path: path.to_owned(),
        size_bytes: metadata.len(),
        is_lines,
        is_bulk: is_lines && r4().is_resource_type(ty),
        refers: refers(path).map_err(fault)?,
    });
    Ok(())
}

/// Whether there is a reference by a search among the first bytes of a file.
fn refers(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    open(path, &Arc::default())?.take(IMPORT_PEEK_BYTES as u64).read_to_end(&mut head).or_else(|why| {
        // What is damaged is told when it is read.
        if is_of_the_content(&why) { Ok(0) } else { Err(why) }
    })?;
    let head = String::from_utf8_lossy(&head);
    let mut values = head.split("\"reference\"").skip(1).filter_map(|rest| rest.split('"').nth(1));
    Ok(values.any(hilum_fhir::exchange::is_search))
}

/// Counts what is read of a file as it lies there.
struct Counted(fs::File, Arc<AtomicU64>);

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(into)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

fn open(path: &Path, bytes: &Arc<AtomicU64>) -> io::Result<Box<dyn BufRead + Send>> {
    let mut file = BufReader::with_capacity(256 << 10, Counted(fs::File::open(path)?, Arc::clone(bytes)));
    let is_gzip = file.fill_buf()?.starts_with(&GZIP);
    Ok(if is_gzip { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) })
}

/// Documents that are worked on together: one of a file that is one, or some lines.
pub(super) struct Unit {
    /// The file, by its place among all.
    pub file: usize,
    /// The documents: their number (the line, from 1) and where in the text they are.
    pub documents: Vec<(u64, std::ops::Range<usize>)>,
    /// The text.
    pub text: String,
    /// Its part of what may be held at once.
    _room: OwnedSemaphorePermit,
}

/// What reading gives: documents, or why one is none.
pub(super) enum Step {
    Unit(Unit),
    Refused {
        file: usize,
        line: Option<u64>,
        text: String,
    },
    /// A file is read to its end.
    Ended,
}

/// Which documents of a file are wanted; absent: all.
pub(super) type Only = Option<BTreeSet<u64>>;

/// Reads files on the thread that calls, and hands their documents on as far as there is room.
pub(super) struct Reader {
    pub files: Arc<Vec<File>>,
    pub bytes: Arc<AtomicU64>,
    pub room: Arc<Semaphore>,
    pub steps: mpsc::Sender<Step>,
    pub runtime: tokio::runtime::Handle,
}

/// KiB that may be held at once.
pub(super) const ROOM_KIB: usize = IMPORT_HELD_BYTES_MAX >> 10;

/// That nobody wants the rest, or a file cannot be read.
pub(super) enum End {
    Dropped,
    Io(PathBuf, io::Error),
}

impl Reader {
    pub(super) fn run(self, wanted: &[(usize, Only)]) -> Result<(), End> {
        for (file, only) in wanted {
            let Some(one) = self.files.get(*file) else { continue };
            let read = if one.is_lines { self.lines(*file, one, only) } else { self.whole(*file, one) };
            match read {
                Ok(()) => {}
                Err(End::Io(_, why)) if is_of_the_content(&why) => {
                    let text = format!("cannot be read: {why}");
                    self.say(Step::Refused { file: *file, line: None, text })?;
                }
                Err(other) => return Err(other),
            }
            self.say(Step::Ended)?;
        }
        Ok(())
    }

    fn say(&self, step: Step) -> Result<(), End> {
        self.steps.blocking_send(step).map_err(|_| End::Dropped)
    }

    fn unit(
        &self,
        file: usize,
        documents: Vec<(u64, std::ops::Range<usize>)>,
        text: String,
    ) -> Result<(), End> {
        let kib = (text.len() >> 10).clamp(1, ROOM_KIB) as u32;
        let room = self.runtime.block_on(Arc::clone(&self.room).acquire_many_owned(kib));
        let room = room.map_err(|_| End::Dropped)?;
        self.say(Step::Unit(Unit { file, documents, text, _room: room }))
    }

    fn whole(&self, file: usize, one: &File) -> Result<(), End> {
        let fault = |why| End::Io(one.path.clone(), why);
        let reader = open(&one.path, &self.bytes).map_err(fault)?;
        let mut text = Vec::new();
        reader.take(IMPORT_DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(fault)?;
        if text.len() > IMPORT_DOCUMENT_BYTES_MAX {
            let text = format!(
                "larger than {IMPORT_DOCUMENT_BYTES_MAX} bytes: write it as NDJSON, a resource a line"
            );
            return self.say(Step::Refused { file, line: None, text });
        }
        match String::from_utf8(text) {
            Ok(text) => self.unit(file, vec![(0, 0..text.len())], text),
            Err(_) => self.say(Step::Refused { file, line: None, text: "not UTF-8".to_owned() }),
        }
    }

    fn lines(&self, file: usize, one: &File, only: &Only) -> Result<(), End> {
        let fault = |why| End::Io(one.path.clone(), why);
        let mut reader = open(&one.path, &self.bytes).map_err(fault)?;
        let (mut documents, mut text, mut line, mut number) = (Vec::new(), String::new(), Vec::new(), 0);
        let mut damaged = None;
        loop {
            line.clear();
            let max = IMPORT_DOCUMENT_BYTES_MAX as u64 + 1;
            match (&mut reader).take(max).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => number += 1,
                Err(why) => {
                    // Whole lines before the damage are taken.
                    damaged = Some(fault(why));
                    break;
                }
            }
            let refused = |text: &str| Step::Refused { file, line: Some(number), text: text.to_owned() };
            if line.len() > IMPORT_DOCUMENT_BYTES_MAX {
                self.say(refused(
                    "the line is longer than an import takes: the rest of the file is not read",
                ))?;
                break;
            }
            if line.trim_ascii().is_empty() || only.as_ref().is_some_and(|only| !only.contains(&number)) {
                continue;
            }
            let Ok(one) = std::str::from_utf8(&line) else {
                self.say(refused("not UTF-8"))?;
                continue;
            };
            if !text.is_empty() && text.len() + one.len() > IMPORT_LINES_BYTES {
                self.unit(file, std::mem::take(&mut documents), std::mem::take(&mut text))?;
            }
            let begin = text.len();
            text.push_str(one);
            documents.push((number, begin..text.len()));
        }
        if !documents.is_empty() {
            self.unit(file, documents, text)?;
        }
        damaged.map_or(Ok(()), Err)
    }
}

/// Whether it is the file's content that cannot be read, and not the file.
fn is_of_the_content(why: &io::Error) -> bool {
    matches!(
        why.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}
