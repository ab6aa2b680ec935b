//! All resources as NDJSON, a file a type, as bulk data has it (<https://hl7.org/fhir/uv/bulkdata/>): as they were at one
//! commit, whoever made them and whoever is withheld. For whoever runs the installation.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use hilum_chart::ChartError;
use hilum_core::{Authority, Timestamp};
use hilum_fhir::r4::r4;
use hilum_fhir::resource::compact;
use serde::{Deserialize, Serialize};

use crate::Room;
use crate::limits::{EXPORT_FILE_BYTES, EXPORT_PAGE_RESOURCES};

/// What is wanted of an export.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wanted {
    /// Where the files go: an absolute path, nothing in it yet.
    pub out: PathBuf,
    /// Of these types; empty = all.
    pub types: Vec<String>,
    /// Only what was written at or after this instant.
    pub since: Option<Timestamp>,
    /// Whether files are compressed.
    pub gzip: bool,
}

impl Wanted {
    /// The types, for people.
    pub fn types_said(&self) -> String {
        if self.types.is_empty() { "all".to_owned() } else { self.types.join(",") }
    }
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file cannot be written.
    #[error("{path}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Something lies there.
    #[error("{0} is not empty: name a folder that is new or empty")]
    NotEmpty(PathBuf),
    /// No type of R4.
    #[error("`{0}` is no resource type of R4")]
    Type(String),
    /// The chart or its engine.
    #[error(transparent)]
    Chart(#[from] ChartError),
}

/// One file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// The type of what is in it.
    #[serde(rename = "type")]
    pub resource_type: String,
    /// Its name.
    pub file: String,
    /// Resources, a line each.
    pub count: u64,
}

/// How far an export is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exported {
    /// The commit that it shows.
    pub t: i64,
    /// Resources written.
    pub resources: u64,
    /// Bytes of them, without compression.
    pub bytes: u64,
    /// Types looked through, and how many there are to look through.
    pub types_done: u64,
    /// See there.
    pub types: u64,
    /// The files.
    pub output: Vec<Part>,
}

/// Writes what is `wanted`; `show` hears how far it is.
///
/// # Errors
/// A folder that is not empty, a type that there is not; files and engines that fail.
pub async fn run(
    room: &Room,
    wanted: &Wanted,
    show: &(dyn Fn(&Exported) + Send + Sync),
) -> Result<Exported, ExportError> {
    let types = types_of(wanted)?;
    prepare(&wanted.out)?;
    let authority = Authority::system("export");
    let t = room.chart.tables().now().await.map_err(ChartError::from)?;
    let mut done = Exported { t: t.0, types: types.len() as u64, ..Exported::default() };
    for resource_type in types {
        let mut parts = Parts { wanted, resource_type, number: 0, open: None };
        let mut after = None;
        loop {
            let (page, next) =
                room.chart.page_at(&authority, resource_type, t, after, EXPORT_PAGE_RESOURCES).await?;
            for stored in page.iter().filter(|one| wanted.since.is_none_or(|since| one.updated >= since)) {
                let json = stored.json()?;
                parts.line(&compact(&json), &mut done)?;
            }
            show(&done);
            after = next;
            if after.is_none() {
                break;
            }
        }
        parts.close(&mut done)?;
        done.types_done += 1;
    }
    sync_folder(&wanted.out)?;
    show(&done);
    Ok(done)
}

fn types_of(wanted: &Wanted) -> Result<Vec<&'static str>, ExportError> {
    if let Some(unknown) = wanted.types.iter().find(|ty| !r4().is_resource_type(ty)) {
        return Err(ExportError::Type(unknown.clone()));
    }
    let is_wanted = |ty: &&str| wanted.types.is_empty() || wanted.types.iter().any(|one| one == ty);
    Ok(r4().resource_types().filter(is_wanted).collect())
}

fn fault(path: &Path) -> impl Fn(io::Error) -> ExportError + '_ {
    |error| ExportError::Io { path: path.to_owned(), error }
}

fn prepare(out: &Path) -> Result<(), ExportError> {
    std::fs::create_dir_all(out).map_err(fault(out))?;
    match std::fs::read_dir(out).map_err(fault(out))?.next() {
        Some(_) => Err(ExportError::NotEmpty(out.to_owned())),
        None => Ok(()),
    }
}

fn sync_folder(out: &Path) -> Result<(), ExportError> {
    File::open(out).and_then(|folder| folder.sync_all()).map_err(fault(out))
}

/// Where lines go.
enum Lines {
    Plain(BufWriter<File>),
    Gzip(Box<GzEncoder<BufWriter<File>>>),
}

impl Lines {
    fn line(&mut self, json: &str) -> io::Result<()> {
        let into: &mut dyn Write = match self {
            Self::Plain(into) => into,
            Self::Gzip(into) => into,
        };
        into.write_all(json.as_bytes())?;
        into.write_all(b"\n")
    }

    fn close(self) -> io::Result<()> {
        let buffered = match self {
            Self::Plain(into) => into,
            Self::Gzip(into) => into.finish()?,
        };
        buffered.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

/// A file that is being written.
struct Open {
    path: PathBuf,
    name: String,
    lines: Lines,
    count: u64,
    bytes: u64,
}

/// The files of one type: `Patient.ndjson`, `Patient.2.ndjson`, …
struct Parts<'a> {
    wanted: &'a Wanted,
    resource_type: &'static str,
    number: u32,
    open: Option<Open>,
}

impl Parts<'_> {
    fn line(&mut self, json: &str, done: &mut Exported) -> Result<(), ExportError> {
        if self.open.as_ref().is_some_and(|open| open.bytes >= EXPORT_FILE_BYTES) {
            self.close(done)?;
        }
        let open = if let Some(open) = &mut self.open {
            open
        } else {
            self.number += 1;
            self.open.insert(open(self.wanted, self.resource_type, self.number)?)
        };
        open.lines.line(json).map_err(fault(&open.path))?;
        let size = json.len() as u64 + 1;
        open.bytes += size;
        open.count += 1;
        done.bytes += size;
        done.resources += 1;
        Ok(())
    }

    /// Whole and durable, or not there.
    fn close(&mut self, done: &mut Exported) -> Result<(), ExportError> {
        let Some(Open { path, name, lines, count, .. }) = self.open.take() else { return Ok(()) };
        lines.close().map_err(fault(&path))?;
        std::fs::rename(&path, self.wanted.out.join(&name)).map_err(fault(&path))?;
        done.output.push(Part { resource_type: self.resource_type.to_owned(), file: name, count });
        Ok(())
    }
}

fn open(wanted: &Wanted, resource_type: &str, number: u32) -> Result<Open, ExportError> {
    let number = if number > 1 { format!(".{number}") } else { String::new() };
    let ending = if wanted.gzip { ".gz" } else { "" };
    let name = format!("{resource_type}{number}.ndjson{ending}");
    let path = wanted.out.join(format!("{name}.part"));
    let file = BufWriter::with_capacity(256 << 10, create(&path).map_err(fault(&path))?);
    let lines = if wanted.gzip {
        Lines::Gzip(Box::new(GzEncoder::new(file, Compression::fast())))
    } else {
        Lines::Plain(file)
    };
    Ok(Open { path, name, lines, count: 0, bytes: 0 })
}

/// A new file for its owner alone: it holds patients.
fn create(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().write(true).create_new(true).mode(0o600).open(path)
}
