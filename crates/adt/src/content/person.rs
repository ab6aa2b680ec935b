//! Who the patient is: PID and PD1.

use std::mem;

use super::datatypes::{Address, Coded, Identifier, Name, Provider, Telecom};
use super::said::{Said, phi_debug, words};
use super::time::When;
use serde::{Deserialize, Serialize};

words! {
    /// PID and PD1, field by field. It belongs to the patient, not to the encounter (clinical-rules 1).
    pub struct PersonContent {
        /// PID-3, and PID-2 and PID-4 where the source says so. At most one is the primary one.
        identifiers: Vec<Identifier> = "id",
        /// PID-19: a national number; masked, with its keyed hash.
        national: Identifier = "nn",
        /// PID-20.
        licence: Identifier = "dl",
        /// PID-5, all representations.
        names: Vec<Name> = "n",
        /// PID-9.
        aliases: Vec<Name> = "an",
        /// PID-6.
        mothers_maiden: Vec<Name> = "mm",
        /// PID-7.
        birth: When = "b",
        /// PID-8 (table 0001) as sent.
        sex: Coded = "s",
        /// PID-11; PID-12 is the district of the first one without one.
        addresses: Vec<Address> = "a",
        /// PID-13.
        home_phones: Vec<Telecom> = "th",
        /// PID-14.
        work_phones: Vec<Telecom> = "tw",
        /// PID-40.
        telecoms: Vec<Telecom> = "t",
        /// PID-15.
        language: Coded = "l",
        /// PID-16.
        marital_status: Coded = "ms",
        /// PID-17.
        religion: Coded = "r",
        /// PID-21.
        mother: Vec<Identifier> = "mo",
        /// PID-23.
        birth_place: String = "bp",
        /// PID-24: whether there were others at this birth.
        multiple_birth: bool = "mb",
        /// PID-25: 1 = born first.
        birth_order: u32 = "bo",
        /// PID-26.
        citizenships: Vec<Coded> = "c",
        /// PID-28.
        nationality: Coded = "na",
        /// PID-29.
        died: When = "d",
        /// PID-30.
        dead: bool = "dd",
        /// PID-31: the sender does not know who this is.
        identity_unknown: bool = "iu",
        /// PID-32 (table 0445).
        reliability: Vec<Coded> = "ir",
        /// PD1-4.
        primary_care: Vec<Provider> = "pc",
        /// PD1-12: the patient asked for protection.
        protected: bool = "p",
        /// ARV-3 of restrictions on the person that stand.
        restrictions: Vec<Coded> = "x",
    }
}

impl PersonContent {
    /// The source's primary identifier, which alone makes the patient (clinical-rules 14).
    pub fn primary(&self) -> Option<&Identifier> {
        self.identifiers.items().iter().find(|one| one.usage == super::Usage::Primary)
    }

    /// Whether what is known of the person asks for confidentiality (clinical-rules 20).
    pub fn is_confidential(&self) -> bool {
        self.protected.value() == Some(&true) || !self.restrictions.items().is_empty()
    }

    /// Takes out what [`PersonContent::is_confidential`] asks about.
    #[must_use]
    pub fn take_protection(&mut self) -> Self {
        let (protected, restrictions) = (mem::take(&mut self.protected), mem::take(&mut self.restrictions));
        Self { protected, restrictions, ..Self::default() }
    }

    /// Whether the person is known to be dead (PID-29 or PID-30).
    pub fn is_dead(&self) -> bool {
        self.dead.value() == Some(&true) || (self.died.value().is_some() && self.dead.value() != Some(&false))
    }
}

/// MRG: the numbers that a merge, move or change takes away.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Prior {
    /// MRG-1, and MRG-4 where the source reads PID-2.
    #[serde(rename = "i", skip_serializing_if = "Vec::is_empty")]
    pub identifiers: Vec<Identifier>,
    /// MRG-3.
    #[serde(rename = "a", skip_serializing_if = "Option::is_none")]
    pub account: Option<Identifier>,
    /// MRG-5.
    #[serde(rename = "v", skip_serializing_if = "Option::is_none")]
    pub visit: Option<Identifier>,
    /// MRG-6.
    #[serde(rename = "av", skip_serializing_if = "Option::is_none")]
    pub alternate_visit: Option<Identifier>,
    /// MRG-7.
    #[serde(rename = "n", skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Name>,
}

phi_debug!(Prior);
