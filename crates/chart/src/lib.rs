//! One patient, one truth: what is known about a patient as FHIR resources, committed together with the rows, the
//! offset and the outbox of whatever made it; and the runner that feeds projections from the log.
//!
//! | module | what lives there |
//! |---|---|
//! | `body` | the stored form of a body |
//! | [`chart`] | the door out and the chart-first door in |
//! | [`claims`] | which families the batches of one process are at work on |
//! | [`discretion`] | what of a projection's resources is shown to whom |
//! | [`error`] | what the chart refuses or fails at |
//! | [`family`] | heads and families: what makes many workers agree on who is who |
//! | [`fits`] | whether log, tables and program belong together |
//! | [`import`] | many resources by few commits |
//! | [`index`] | rows by value, for searches |
//! | [`labels`] | which labels are in use |
//! | [`limits`] | the bounds of this crate |
//! | [`logical`] | what stands for a client's id |
//! | [`presence`] | which processes are there, as each says of itself |
//! | [`progress`] | how far a projection is |
//! | [`projection`] | the contract of a projection: a pure function between reads and one commit |
//! | [`rebuild`] | makes what a projection keeps again from the log, and commits only what differs |
//! | [`relay`] | how far the outbox is published, step by step |
//! | [`resources`] | how resources, their history and their registers are kept |
//! | [`search`] | criteria and who asks become one query over the index |
//! | [`runner`] | read → needs → apply → commit, for one partition or for all |
//! | [`versions`] | versions of many resources, newest first |

pub mod body;
pub mod chart;
pub mod claims;
pub mod discretion;
pub mod error;
pub mod family;
pub mod fits;
mod foresee;
pub mod import;
pub mod index;
pub mod labels;
pub mod limits;
pub mod logical;
mod port;
pub mod presence;
pub mod progress;
pub mod projection;
pub mod rebuild;
pub mod relay;
pub mod resources;
pub mod runner;
pub mod search;
mod unreadable;
pub mod versions;

pub use chart::Chart;
pub use discretion::{Discretion, Discretions};
pub use error::{Cause, ChartError};
pub use presence::Presence;
pub use progress::{PartitionHealth, Paused, Progress, ProjectionHealth};
pub use relay::{Relay, RelayHealth};
pub use resources::Stored;
pub use runner::{Runner, Running, follow_all, run_all, run_over_gaps, run_traced};
