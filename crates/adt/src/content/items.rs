//! What comes in groups of segments: next of kin, allergies, diagnoses.

use hilum_core::Id;
use serde::{Deserialize, Serialize};

use super::datatypes::{Action, Address, Coded, Identifier, Name, Provider, Telecom};
use super::said::phi_debug;
use super::time::When;

/// An item of a group, known again by its key.
pub trait Item: Clone {
    /// The same for the same thing in every message of the source: a keyed hash of its identifier, else of its code or
    /// name; the set id is no part of it.
    fn key(&self) -> Id;
    /// What its action code asks for; absent = the group is a snapshot.
    fn action(&self) -> Option<Action>;

    /// Whether it asks for confidentiality of its own.
    fn is_confidential(&self) -> bool {
        false
    }

    /// Makes it ask.
    fn protect(&mut self) {}
}

/// NK1.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextOfKin {
    /// See [`Item::key`].
    #[serde(rename = "k")]
    pub key: Id,
    /// NK1-2.
    #[serde(rename = "n", default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Name>,
    /// NK1-3 (table 0063).
    #[serde(rename = "r", default, skip_serializing_if = "Coded::is_empty")]
    pub relationship: Coded,
    /// NK1-7 (table 0131).
    #[serde(rename = "cr", default, skip_serializing_if = "Coded::is_empty")]
    pub role: Coded,
    /// NK1-4, NK1-32.
    #[serde(rename = "a", default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// NK1-5, NK1-6, NK1-40, NK1-31.
    #[serde(rename = "t", default, skip_serializing_if = "Vec::is_empty")]
    pub telecoms: Vec<Telecom>,
    /// NK1-8.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub from: Option<When>,
    /// NK1-9.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub to: Option<When>,
    /// NK1-12, NK1-33, NK1-37 (masked).
    #[serde(rename = "i", default, skip_serializing_if = "Vec::is_empty")]
    pub identifiers: Vec<Identifier>,
    /// NK1-13.
    #[serde(rename = "o", default, skip_serializing_if = "String::is_empty")]
    pub organization: String,
    /// NK1-15 (table 0001).
    #[serde(rename = "s", default, skip_serializing_if = "Coded::is_empty")]
    pub sex: Coded,
    /// NK1-16.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub birth: Option<When>,
    /// NK1-20.
    #[serde(rename = "l", default, skip_serializing_if = "Coded::is_empty")]
    pub language: Coded,
    /// NK1-30: whom to call at an organization.
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<Name>,
}

/// AL1 and IAM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allergy {
    /// See [`Item::key`]. AL1 and IAM of one code have one key, unless IAM-7 names it.
    #[serde(rename = "k")]
    pub key: Id,
    /// IAM-6 (table 0323).
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// IAM-7.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<Identifier>,
    /// AL1-2, IAM-2 (table 0127).
    #[serde(rename = "t", default, skip_serializing_if = "Coded::is_empty")]
    pub kind: Coded,
    /// AL1-3, IAM-3.
    #[serde(rename = "c", default, skip_serializing_if = "Coded::is_empty")]
    pub code: Coded,
    /// AL1-4, IAM-4 (table 0128).
    #[serde(rename = "s", default, skip_serializing_if = "Coded::is_empty")]
    pub severity: Coded,
    /// AL1-5, IAM-5, IAR-1.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<Coded>,
    /// IAR-2 of the first reaction that has one (table 0128).
    #[serde(rename = "rs", default, skip_serializing_if = "Coded::is_empty")]
    pub reaction_severity: Coded,
    /// AL1-6, IAM-11.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub onset: Option<When>,
    /// IAM-12.
    #[serde(rename = "ot", default, skip_serializing_if = "String::is_empty")]
    pub onset_text: String,
    /// IAM-13.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<When>,
    /// IAM-17 (table 0438).
    #[serde(rename = "cs", default, skip_serializing_if = "Coded::is_empty")]
    pub status: Coded,
}

/// DG1.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// See [`Item::key`].
    #[serde(rename = "k")]
    pub key: Id,
    /// DG1-21 (table 0206).
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// DG1-20.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<Identifier>,
    /// DG1-1: its place in the message.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub place: Option<u32>,
    /// DG1-3; where it names no system, DG1-2 does.
    #[serde(rename = "c", default, skip_serializing_if = "Coded::is_empty")]
    pub code: Coded,
    /// DG1-4.
    #[serde(rename = "d", default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// DG1-5.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub at: Option<When>,
    /// DG1-6 (table 0052).
    #[serde(rename = "t", default, skip_serializing_if = "Coded::is_empty")]
    pub kind: Coded,
    /// DG1-15: 0 or absent = not ranked, 1 = the primary one.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// DG1-16.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub clinician: Option<Provider>,
    /// DG1-18.
    #[serde(rename = "cf", default)]
    pub confidential: bool,
    /// DG1-19.
    #[serde(rename = "at", default, skip_serializing_if = "Option::is_none")]
    pub attested: Option<When>,
}

impl Item for NextOfKin {
    fn key(&self) -> Id {
        self.key
    }

    fn action(&self) -> Option<Action> {
        None
    }
}

impl Item for Allergy {
    fn key(&self) -> Id {
        self.key
    }

    fn action(&self) -> Option<Action> {
        self.action
    }
}

impl Item for Diagnosis {
    fn key(&self) -> Id {
        self.key
    }

    fn action(&self) -> Option<Action> {
        self.action
    }

    fn is_confidential(&self) -> bool {
        self.confidential
    }

    fn protect(&mut self) {
        self.confidential = true;
    }
}

phi_debug!(NextOfKin, Allergy, Diagnosis);
