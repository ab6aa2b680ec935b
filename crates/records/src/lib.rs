//! The records room: the chart by FHIR's REST interface (<https://hl7.org/fhir/R4/http.html>), whoever wrote what stands
//! there. Strict: what it does not know is refused with the way out, never ignored.
//!
//! | module | what lives there |
//! |---|---|
//! | [`fhir`] | the routes under `/fhir` |
//! | [`logical`] | ids of clients, and what stands for them in the chart |
//! | [`limits`] | every bound |

pub mod fhir;
pub mod limits;
pub mod logical;

use hilum_chart::{Chart, Discretions};
use hilum_core::{Entropy, InstallationKey};

/// The door's name: it owns what clients write.
pub const DOOR: &str = "fhir";

/// What the room's handlers work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Room {
    /// The chart.
    pub chart: Chart,
    /// What of projections' resources is shown to whom.
    pub discretions: Discretions,
    /// Keys the ids of clients.
    pub key: InstallationKey,
    /// Randomness for ids.
    pub entropy: Entropy,
}
