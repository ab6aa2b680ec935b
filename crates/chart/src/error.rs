//! What the chart refuses or fails at.

use hilum_core::{Kind, Position, Stream};
use hilum_engines::log::LogError;
use hilum_engines::tables::TablesError;
use serde::{Deserialize, Serialize};

/// What the chart refuses or fails at. Texts name types, rules and places, never patients.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChartError {
    /// There is none, or who asks may not know that there is.
    #[error("no such resource")]
    NotFound,
    /// It was deleted, and who asks may know.
    #[error("resource is deleted since version {version}")]
    Gone {
        /// The version that deleted it.
        version: i64,
    },
    /// The role does not write.
    #[error("not allowed")]
    Forbidden,
    /// The current version is not the one that was named (`If-Match`).
    #[error("version {given} was given, {current} is current")]
    Version {
        /// Named by the caller; 0 = it should not exist.
        given: i64,
        /// 0 = there is none.
        current: i64,
    },
    /// Another part of the house owns the resource.
    #[error("resource belongs to `{owner}`")]
    Owned {
        /// The owner: a projection's name or a door's.
        owner: String,
    },
    /// A commit rule refuses it.
    #[error("rule `{rule}`: {text}")]
    Refused {
        /// The rule.
        rule: &'static str,
        /// Why, without patient data.
        text: String,
    },
    /// The body is no resource, or not the one that was named.
    #[error("body: {0}")]
    Body(String),
    /// More was asked for than one call gives.
    #[error("{asked} {what} asked for, at most {max} at once")]
    Bound {
        /// What was asked for.
        what: &'static str,
        /// How many.
        asked: usize,
        /// How many are given.
        max: usize,
    },
    /// A stored row or body cannot be read.
    #[error("stored {what} cannot be read: {why}")]
    Stored {
        /// The table or form.
        what: &'static str,
        /// What is wrong, without content.
        why: String,
    },
    /// A record of the log made the decoder panic, and the projection has no event for that.
    #[error("record {0} cannot be decoded")]
    Undecodable(Position),
    /// A batch cannot be applied, not even to reject its one event.
    #[error("record {position} can be neither applied nor rejected ({rule})")]
    Stuck {
        /// The event.
        position: Position,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// The log ends before what was applied from it: an older copy of it was put in its place.
    #[error(
        "log {stream}/{partition} ends at {end}, but {next} records of it are applied: restore the log or rebuild"
    )]
    LogBehind {
        /// The stream.
        stream: Stream,
        /// The partition.
        partition: u16,
        /// The end of the log.
        end: u64,
        /// The next offset to apply.
        next: u64,
    },
    /// The record that was applied last is another one in the log: an older copy of it was put in its place, and has
    /// grown since.
    #[error(
        "log {stream}/{partition} holds another record at {offset} than the one that was last applied: restore the \
         log or rebuild"
    )]
    LogReplaced {
        /// The stream.
        stream: Stream,
        /// The partition.
        partition: u16,
        /// Where the two differ at the latest.
        offset: u64,
    },
    /// What is kept was written by a program that keeps it in another form.
    #[error(
        "the rows of `{projection}` are of form {stored}, this program's are of form {ours}: they would be misread"
    )]
    OtherForm {
        /// The projection.
        projection: &'static str,
        /// The form that is stored; 0 = from before forms were counted.
        stored: i64,
        /// The form of this program.
        ours: i64,
    },
    /// What is kept was folded from another log.
    #[error("these tables were made from log epoch {stored}, this is log epoch {ours}")]
    OtherLog {
        /// The epoch that is stored, and where that log is.
        stored: String,
        /// The log's own.
        ours: String,
    },
    /// Nothing is kept yet, though the log is not new: these may not be the tables that were there.
    #[error("these tables are new, and the log holds {records} records already")]
    NewTables {
        /// How many.
        records: u64,
    },
    /// A rebuild would take out of the chart what records said that cannot be read any more.
    #[error("{records} records of the log cannot be read, and what they said would go from the chart")]
    LogDamaged {
        /// How many.
        records: u64,
    },
    /// The runtime is shutting down.
    #[error("stopped")]
    Stopped,
    /// The tables.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl ChartError {
    /// What the caller may do.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NotFound | Self::Gone { .. } => Kind::NotFound,
            Self::Forbidden => Kind::Forbidden,
            Self::Version { .. } | Self::Owned { .. } => Kind::Conflict,
            Self::Refused { .. } | Self::Body(_) => Kind::Invalid,
            Self::Bound { .. } => Kind::TooLarge,
            Self::Stored { .. }
            | Self::Undecodable(_)
            | Self::Stuck { .. }
            | Self::LogBehind { .. }
            | Self::LogReplaced { .. }
            | Self::OtherForm { .. }
            | Self::OtherLog { .. }
            | Self::NewTables { .. }
            | Self::LogDamaged { .. } => Kind::Internal,
            Self::Stopped => Kind::Transient,
            Self::Tables(error) => error.kind(),
            Self::Log(error) => error.kind(),
        }
    }
    /// What it means for a partition that cannot go on because of it.
    pub const fn cause(&self) -> Cause {
        match self {
            Self::Tables(TablesError::ReadOnly(_)) | Self::Log(LogError::ReadOnly(_)) => Cause::ReadOnly,
            Self::Log(LogError::Corrupt { .. }) => Cause::Unreadable,
            Self::Log(LogError::Unsure { .. }) => Cause::DamagedEnd,
            Self::Log(LogError::Missing { .. }) => Cause::Missing,
            Self::Log(LogError::Gone { .. }) => Cause::Gone,
            Self::Tables(TablesError::Newer { .. }) | Self::Log(LogError::Newer { .. }) => {
                Cause::NewerProgram
            }
            Self::LogBehind { .. }
            | Self::LogReplaced { .. }
            | Self::OtherForm { .. }
            | Self::OtherLog { .. }
            | Self::NewTables { .. }
            | Self::Tables(TablesError::OtherLog { .. }) => Cause::OtherLog,
            Self::Stored { .. } => Cause::DamagedRow,
            Self::Stopped
            | Self::Tables(
                TablesError::Engine(_)
                | TablesError::InUse { .. }
                | TablesError::Gone { .. }
                | TablesError::Conflict(_)
                | TablesError::Fenced { .. }
                | TablesError::TooCostly
                | TablesError::Pruned { .. },
            )
            | Self::Log(
                LogError::Engine(_) | LogError::Full(_) | LogError::Unknown(_) | LogError::InUse { .. },
            ) => Cause::Engine,
            Self::NotFound
            | Self::Gone { .. }
            | Self::Forbidden
            | Self::Version { .. }
            | Self::Owned { .. }
            | Self::Refused { .. }
            | Self::Body(_)
            | Self::Bound { .. }
            | Self::Undecodable(_)
            | Self::Stuck { .. }
            | Self::LogDamaged { .. }
            | Self::Tables(TablesError::Shape { .. })
            | Self::Log(LogError::TooLarge { .. }) => Cause::Program,
        }
    }
}

/// What keeps a partition from going on, as far as the way out of it differs. Travels by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// An engine does not answer or does not accept: it goes on by itself when the engine does.
    Engine,
    /// A disk error made log or tables read-only until a restart.
    ReadOnly,
    /// A record cannot be read: it is tried again, then passed over.
    Unreadable,
    /// The end of the partition in the log is damaged, and where it was is not known.
    DamagedEnd,
    /// Records are gone from the log, or something else stood there.
    Missing,
    /// A topic of the log is not there.
    Gone,
    /// A newer program wrote a record or the tables.
    NewerProgram,
    /// Log and tables do not belong together.
    OtherLog,
    /// No process works at the partition.
    NoWorker,
    /// A stored row cannot be read.
    DamagedRow,
    /// A fault of this program.
    Program,
}

impl Cause {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::ReadOnly => "read-only",
            Self::Unreadable => "unreadable",
            Self::DamagedEnd => "damaged-end",
            Self::Missing => "missing",
            Self::Gone => "gone",
            Self::NewerProgram => "newer-program",
            Self::OtherLog => "other-log",
            Self::NoWorker => "no-worker",
            Self::DamagedRow => "damaged-row",
            Self::Program => "program",
        }
    }
}
