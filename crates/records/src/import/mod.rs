//! Files become resources: Bundles, single resources, NDJSON, each also compressed. What is in them stands as if a client had
//! sent it by the door `fhir`, in commits of some ten thousand rows.
//!
//! Reading, finishing, checking and indexing go on beside the engine's writing; what is held at once is bounded. Ids are a
//! function of what is read, so that the same files again write nothing: that is how an import goes on that was broken off.
//! References by searches are looked up once. What one leads to may stand in a file further on: a document that has one
//! which finds nothing yet is read again at the end.
//!
//! | file | what stands there |
//! |---|---|
//! | `files` | which files, and the documents in them |
//! | `document` | what a document asks for: pure |
//! | `leads` | whether references lead to something, where they must |
//! | `resolve` | what conditions and references by searches lead to |
//! | `work` | documents become commits |

mod document;
pub mod files;
mod leads;
mod resolve;
mod work;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use hilum_chart::ChartError;
use hilum_core::Clock;
use serde::{Deserialize, Serialize};

use self::files::File;
use crate::Room;
use crate::limits::IMPORT_REFUSALS_NAMED;

/// Why an import ended early. What was committed until then stays; the same command goes on.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// More than one import takes.
    #[error("more than {max} {what}")]
    Bound {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// The chart or its engine.
    #[error("stopped: {0}; the same command goes on from there")]
    Chart(#[from] ChartError),
    /// A search failed.
    #[error("stopped: a search failed, the log says why; the same command goes on from there")]
    Search,
    /// A part of the pipeline ended.
    #[error("interrupted; the same command goes on from there")]
    Interrupted,
}

/// What is not taken, and why; no patient data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// The file's name.
    pub file: String,
    /// The line of NDJSON, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The entry of the Bundle, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<usize>,
    /// Its type, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<String>,
    /// Where in the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// What is wrong.
    pub text: String,
}

/// How far an import is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Imported {
    /// Files to read.
    pub files: u64,
    /// Files read to their end.
    pub files_done: u64,
    /// Bytes of all files, as they lie there.
    pub bytes: u64,
    /// Bytes of them read; those that are read again count once.
    pub bytes_done: u64,
    /// Versions written.
    pub written: u64,
    /// Resources that stood already as they came.
    pub unchanged: u64,
    /// Documents that were read again, since what they refer to came behind them.
    pub read_again: u64,
    /// Resources, and documents, that were not taken.
    pub refused: u64,
    /// The first of them.
    pub refused_named: Vec<Refused>,
    /// Commits.
    pub commits: u64,
    /// Rows of these, those of the index too.
    pub rows: u64,
    /// Bytes of the bodies written.
    pub body_bytes: u64,
}

/// A place in the input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    file: usize,
    line: Option<u64>,
    entry: Option<usize>,
}

/// What is not taken, before its file has a name.
#[derive(Debug)]
pub(crate) struct Refusal {
    at: At,
    resource_type: Option<&'static str>,
    expression: Option<String>,
    text: String,
}

impl At {
    fn refuse(self, text: impl Into<String>) -> Refusal {
        Refusal { at: self, resource_type: None, expression: None, text: text.into() }
    }

    fn refuse_in(self, resource_type: &'static str, text: impl Into<String>) -> Refusal {
        Refusal { resource_type: Some(resource_type), ..self.refuse(text) }
    }
}

/// Where refusals go.
struct Refusals {
    into: Option<(PathBuf, io::BufWriter<std::fs::File>)>,
}

impl Refusals {
    fn open(path: Option<&Path>) -> Result<Self, ImportError> {
        let into = match path {
            None => None,
            Some(path) => {
                let file = std::fs::File::create(path)
                    .map_err(|error| ImportError::Io { path: path.to_owned(), error })?;
                Some((path.to_owned(), io::BufWriter::new(file)))
            }
        };
        Ok(Self { into })
    }

    fn say(&mut self, refusal: Refusal, files: &[File], done: &mut Imported) -> Result<(), ImportError> {
        let Refusal { at, resource_type, expression, text } = refusal;
        let path = files.get(at.file).map_or(Path::new(""), |file| file.path.as_path());
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let resource_type = resource_type.map(str::to_owned);
        let refused = Refused { file: name, line: at.line, entry: at.entry, resource_type, expression, text };
        done.refused += 1;
        if let Some((path, into)) = &mut self.into {
            let line = serde_json::to_string(&refused).map_err(io::Error::from);
            let written = line.and_then(|line| writeln!(into, "{line}"));
            written.map_err(|error| ImportError::Io { path: path.clone(), error })?;
        }
        if done.refused_named.len() < IMPORT_REFUSALS_NAMED {
            done.refused_named.push(refused);
        }
        Ok(())
    }

    fn close(self) -> Result<(), ImportError> {
        let Some((path, mut into)) = self.into else { return Ok(()) };
        into.flush().map_err(|error| ImportError::Io { path, error })
    }
}

/// Brings in what `files` hold. What is refused goes into the file `refused`, a line of JSON each; `show` hears how far it is.
///
/// # Errors
/// A file or an engine that fails; what was committed until then stays.
pub async fn run(
    room: &Room,
    clock: &Clock,
    files: Vec<File>,
    refused: Option<&Path>,
    show: &(dyn Fn(&Imported) + Send + Sync),
) -> Result<Imported, ImportError> {
    let refusals = Refusals::open(refused)?;
    work::Work::new(room, clock, files, refusals, show).run().await
}
