//! The records room: the chart by FHIR's REST interface (<https://hl7.org/fhir/R4/http.html>), whoever wrote what stands
//! there. Strict: what it does not know is refused with the way out, never ignored.
//!
//! | module | what lives there |
//! |---|---|
//! | [`fhir`] | the routes under `/fhir` |
//! | `explore` | the search explorer: plan and pages of a search, in a browser |
//! | [`export`] | all resources as NDJSON |
//! | [`import`] | files of resources and Bundles |
//! | [`logical`] | ids of clients, and what stands for them in the chart |
//! | [`limits`] | every bound |
//! | [`tables`] | what is kept |

mod explore;
pub mod export;
pub mod fhir;
pub mod import;
pub mod limits;
pub mod logical;
pub mod tables;

use std::collections::BTreeSet;
use std::sync::Arc;

use hilum_chart::{Chart, Discretions};
use hilum_core::{Entropy, InstallationKey};
use hilum_web::route::Route;
use hilum_web::words::WordFile;

pub use fhir::Paging;

/// The room's words.
pub const WORDS: WordFile =
    WordFile { name: "records", en: include_str!("../words/en.toml"), ko: include_str!("../words/ko.toml") };

/// All routes of the room.
pub fn routes(room: &Room) -> Vec<Route> {
    let mut all = fhir::routes(room);
    all.extend(explore::routes(room));
    all
}

/// The door's name: it owns what clients write.
pub const DOOR: &str = "fhir";

/// What is done with a reference to nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum References {
    /// It is taken: what it leads to may come later.
    #[default]
    Any,
    /// It is refused.
    Exist,
}

/// What the window allows, by configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Entries of one batch or transaction, at most [`limits::ENTRIES_BOUND`].
    pub bundle_entries_max: usize,
    /// Searches of one batch or transaction: conditions, references by a search, entries that search.
    pub bundle_searches_max: usize,
    /// What is done with a reference to nothing.
    pub references: References,
    /// Types whose resources are changed by who names the version that they saw alone (`If-Match`).
    pub if_match: Arc<BTreeSet<String>>,
    /// Parameters that a search does not look at: what proxies add to addresses.
    pub ignored_parameters: Arc<BTreeSet<String>>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            bundle_entries_max: limits::ENTRIES_MAX,
            bundle_searches_max: limits::SEARCHES_MAX,
            references: References::Any,
            if_match: Arc::default(),
            ignored_parameters: Arc::default(),
        }
    }
}

/// What the room's handlers work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Room {
    /// The chart.
    pub chart: Chart,
    /// What of projections' resources is shown to whom.
    pub discretions: Discretions,
    /// Keys the ids of clients.
    pub key: InstallationKey,
    /// What is allowed.
    pub policy: Policy,
    /// Randomness for ids.
    pub entropy: Entropy,
    /// How pages of searches are made.
    pub paging: Paging,
}
