//! What a message says: PID, PD1, MRG, PV1, PV2, ARV, NK1, AL1, IAM and DG1 as values that the fold keeps as
//! registers. Presence is kept where clinical-rules 12 needs it ([`Said`]), texts are free of control characters,
//! national numbers are masked and hashed before they get here, and what is odd is a [`Finding`], never an error.

pub mod datatypes;
pub mod items;
pub mod person;
pub mod read;
pub(crate) mod said;
pub mod time;
pub mod visit;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use datatypes::{
    Action, Address, Coded, DischargeTo, Identifier, Name, Place, Provider, Representation, Telecom, Usage,
};
pub use items::{Allergy, Diagnosis, Item, NextOfKin};
pub use person::{PersonContent, Prior};
pub use read::{Context, national_hash};
pub use said::{Said, Words};
pub use time::{When, Zones};
pub use visit::{Movement, VisitContent};

/// What is odd about a message, without patient data: it is kept with the message and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule's id (`time-invalid`, `repetitions-too-many`).
    pub rule: Cow<'static, str>,
    /// Where (`PID-7`, `DG1[3]-5`).
    pub path: String,
    /// What is odd.
    pub text: Cow<'static, str>,
}

/// All that a message says: one block per patient, in the order of the message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// One per PID.
    pub blocks: Vec<Block>,
    /// What is odd, in the order of the message, at most [`crate::limits::FINDINGS_MAX`].
    pub findings: Vec<Finding>,
}

/// What a message says about one patient: a PID and what follows it up to the next PID.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Block {
    /// PID, PD1, ARV.
    #[serde(rename = "p")]
    pub person: PersonContent,
    /// MRG.
    #[serde(rename = "pr", skip_serializing_if = "Option::is_none")]
    pub prior: Option<Prior>,
    /// The movement side of PV1 and PV2; absent without PV1.
    #[serde(rename = "m", skip_serializing_if = "Option::is_none")]
    pub movement: Option<Movement>,
    /// The content side of PV1 and PV2; absent without PV1.
    #[serde(rename = "v", skip_serializing_if = "Option::is_none")]
    pub visit: Option<VisitContent>,
    /// NK1: nothing = no segment, deleted = one segment with `""` in all its fields.
    #[serde(rename = "nk", skip_serializing_if = "Said::is_nothing")]
    pub next_of_kin: Said<Vec<NextOfKin>>,
    /// AL1.
    #[serde(rename = "al", skip_serializing_if = "Said::is_nothing")]
    pub allergies: Said<Vec<Allergy>>,
    /// IAM: a list of its own beside AL1's; one item may have an action code, another none.
    #[serde(rename = "ia", skip_serializing_if = "Said::is_nothing")]
    pub adverse_reactions: Said<Vec<Allergy>>,
    /// DG1.
    #[serde(rename = "dg", skip_serializing_if = "Said::is_nothing")]
    pub diagnoses: Said<Vec<Diagnosis>>,
}
