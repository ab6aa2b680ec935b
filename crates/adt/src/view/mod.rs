//! What pages and JSON twins show, read from the room's tables: one reading of the data for both, so that they cannot
//! disagree. Nothing here renders; everything here masks.

pub mod census;
pub mod confidence;
pub mod journey;
pub mod mention;
pub mod messages;
mod names;
pub mod patient;
pub mod place;
pub mod reconcile;
mod row;
pub mod search;
pub mod window;
pub mod work;

use hilum_core::{Kind, Seq, Timestamp};
use hilum_engines::tables::TablesError;
use serde::Serialize;

/// How fresh an answer is: part of every answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Freshness {
    /// When it was read.
    #[serde(serialize_with = "as_text")]
    pub as_of: Timestamp,
    /// The newest commit that it shows.
    pub applied: Seq,
    /// Records that are durable and not yet applied; absent where a part of the log is lost.
    pub lag: Option<u64>,
}

pub(crate) fn as_text<S: serde::Serializer>(
    value: &impl std::fmt::Display,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

#[allow(clippy::ref_option, reason = "serde hands in a reference to the field")]
pub(crate) fn as_optional_text<S: serde::Serializer, T: std::fmt::Display>(
    value: &Option<T>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The engine.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// The log.
    #[error(transparent)]
    Log(#[from] hilum_engines::log::LogError),
    /// The chart.
    #[error(transparent)]
    Chart(#[from] hilum_chart::ChartError),
    /// A stored row is not what this program writes.
    #[error("table {table}: column {column} is not what it should be")]
    Row {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// There is no such thing, or it may not be seen.
    #[error("not found")]
    NotFound,
}

impl ViewError {
    /// What the caller may do.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Tables(fault) => fault.kind(),
            Self::Log(fault) => fault.kind(),
            Self::Chart(fault) => fault.kind(),
            Self::Row { .. } => Kind::Internal,
            Self::NotFound => Kind::NotFound,
        }
    }
}

impl From<ViewError> for hilum_web::Fault {
    fn from(error: ViewError) -> Self {
        Self::because(error.kind(), &error)
    }
}
