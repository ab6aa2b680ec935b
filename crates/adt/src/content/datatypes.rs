//! HL7 v2 data types as values: what was sent, cleaned of control characters, in the shape that registers keep.
//! An empty text means that the component was not valued. `Debug` prints no patient data.

use hilum_core::Id;
use serde::{Deserialize, Serialize};

use super::said::phi_debug;
use super::time::When;

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands over references
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// What an identifier may be used for (clinical-rules 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Usage {
    /// The source's primary identifier: it alone makes the patient. At most one of a list.
    #[serde(rename = "p")]
    Primary,
    /// Of an identifying type (MR, PI, what the source lists), and not the primary one.
    #[serde(rename = "i")]
    Identifying,
    /// An attribute only: account, visit, insurance, licence, national number.
    #[default]
    #[serde(rename = "a")]
    Attribute,
}

/// CX, EI or the identifier part of XCN and DLN.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Identifier {
    /// The value, byte-exact but for control characters, which show as their pictures (U+2400…). A national number
    /// stands here masked only (clinical-rules 19).
    #[serde(rename = "v")]
    pub value: String,
    /// The assigning authority after the source's alias table: universal id, else namespace id, else what the source
    /// assumes.
    #[serde(rename = "a", skip_serializing_if = "String::is_empty")]
    pub authority: String,
    /// The authority's namespace id as sent, where it is not `authority`.
    #[serde(rename = "n", skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Whether the message named no authority.
    #[serde(rename = "m", skip_serializing_if = "is_false")]
    pub authority_assumed: bool,
    /// Whether it is assumed and neither MSH-4 nor the source's settings name one: the source's own name stands for it.
    #[serde(rename = "g", skip_serializing_if = "is_false")]
    pub authority_guessed: bool,
    /// The type (table 0203); the source's `blank_type` where PID-3.5 was empty.
    #[serde(rename = "k", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// What it may be used for.
    #[serde(rename = "u")]
    pub usage: Usage,
    /// Keyed hash of a national number, without its separators: equal numbers have equal hashes.
    #[serde(rename = "h", skip_serializing_if = "Option::is_none")]
    pub hash: Option<Id>,
    /// Check digit (CX.2).
    #[serde(rename = "c", skip_serializing_if = "String::is_empty")]
    pub check: String,
    /// Check digit scheme (CX.3).
    #[serde(rename = "cs", skip_serializing_if = "String::is_empty")]
    pub check_scheme: String,
    /// Valid from (CX.7).
    #[serde(rename = "b", skip_serializing_if = "Option::is_none")]
    pub from: Option<When>,
    /// Valid to (CX.8, DLN.3).
    #[serde(rename = "e", skip_serializing_if = "Option::is_none")]
    pub to: Option<When>,
}

impl Identifier {
    /// What tells this identifier from others: authority, and the value or, for a national number, its hash.
    pub fn key(&self) -> (String, String) {
        (self.authority.clone(), self.hash.map_or_else(|| self.value.clone(), |hash| hash.to_string()))
    }

    /// Whether it is a national number: its value is masked.
    pub const fn is_national(&self) -> bool {
        self.hash.is_some()
    }
}

/// CWE (and CE, IS, ID): a code as sent.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Coded {
    /// CWE.1.
    #[serde(rename = "c", skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// CWE.2.
    #[serde(rename = "t", skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// CWE.3: the name of the coding system as sent (`HL70005`, `I10`).
    #[serde(rename = "s", skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// CWE.4.
    #[serde(rename = "ac", skip_serializing_if = "String::is_empty")]
    pub alternate_code: String,
    /// CWE.5.
    #[serde(rename = "at", skip_serializing_if = "String::is_empty")]
    pub alternate_text: String,
    /// CWE.6.
    #[serde(rename = "as", skip_serializing_if = "String::is_empty")]
    pub alternate_system: String,
    /// CWE.7.
    #[serde(rename = "v", skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// CWE.8.
    #[serde(rename = "av", skip_serializing_if = "String::is_empty")]
    pub alternate_version: String,
    /// CWE.9.
    #[serde(rename = "o", skip_serializing_if = "String::is_empty")]
    pub original: String,
}

impl Coded {
    /// The best words for it: original text, text, alternate text, code.
    pub fn words(&self) -> &str {
        [&self.original, &self.text, &self.alternate_text, &self.code]
            .into_iter()
            .find(|words| !words.is_empty())
            .map_or("", String::as_str)
    }
}

/// XPN.8: how a name is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Representation {
    /// In letters of an alphabet.
    #[serde(rename = "A")]
    Alphabetic,
    /// In ideographs (Kanji, Hanja).
    #[serde(rename = "I")]
    Ideographic,
    /// As it is spoken (Hangul, Kana).
    #[serde(rename = "P")]
    Phonetic,
}

/// XPN, and the name part of XCN.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Name {
    /// XPN.1.1, else own prefix and surname; a full name that was sent here stays whole.
    #[serde(rename = "f", skip_serializing_if = "String::is_empty")]
    pub family: String,
    /// XPN.2.
    #[serde(rename = "g", skip_serializing_if = "String::is_empty")]
    pub given: String,
    /// XPN.3.
    #[serde(rename = "m", skip_serializing_if = "String::is_empty")]
    pub middle: String,
    /// XPN.4.
    #[serde(rename = "s", skip_serializing_if = "String::is_empty")]
    pub suffix: String,
    /// XPN.5.
    #[serde(rename = "p", skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// XPN.6.
    #[serde(rename = "d", skip_serializing_if = "String::is_empty")]
    pub degree: String,
    /// XPN.7 (table 0200).
    #[serde(rename = "t", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// XPN.8.
    #[serde(rename = "r", skip_serializing_if = "Option::is_none")]
    pub representation: Option<Representation>,
    /// XPN.11 (table 0444).
    #[serde(rename = "o", skip_serializing_if = "String::is_empty")]
    pub assembly: String,
    /// XPN.14.
    #[serde(rename = "ps", skip_serializing_if = "String::is_empty")]
    pub professional: String,
    /// XPN.15.
    #[serde(rename = "c", skip_serializing_if = "String::is_empty")]
    pub called: String,
    /// XPN.12.
    #[serde(rename = "b", skip_serializing_if = "Option::is_none")]
    pub from: Option<When>,
    /// XPN.13.
    #[serde(rename = "e", skip_serializing_if = "Option::is_none")]
    pub to: Option<When>,
}

/// XAD.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Address {
    /// Lines in order: street (number and name), other designation, addressee.
    #[serde(rename = "l", skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// XAD.3.
    #[serde(rename = "c", skip_serializing_if = "String::is_empty")]
    pub city: String,
    /// XAD.4.
    #[serde(rename = "s", skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// XAD.5.
    #[serde(rename = "p", skip_serializing_if = "String::is_empty")]
    pub postal_code: String,
    /// XAD.6.
    #[serde(rename = "n", skip_serializing_if = "String::is_empty")]
    pub country: String,
    /// XAD.9.
    #[serde(rename = "d", skip_serializing_if = "String::is_empty")]
    pub district: String,
    /// XAD.7 (table 0190).
    #[serde(rename = "k", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// XAD.12.1 or XAD.13.
    #[serde(rename = "b", skip_serializing_if = "Option::is_none")]
    pub from: Option<When>,
    /// XAD.12.2 or XAD.14.
    #[serde(rename = "e", skip_serializing_if = "Option::is_none")]
    pub to: Option<When>,
}

/// XTN.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Telecom {
    /// The number as one would dial it, or the mail address.
    #[serde(rename = "v")]
    pub value: String,
    /// XTN.2 (table 0201); `PRN` for PID-13 and `WPN` for PID-14 where nothing was sent.
    #[serde(rename = "u", skip_serializing_if = "String::is_empty")]
    pub usage: String,
    /// XTN.3 (table 0202).
    #[serde(rename = "k", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// XTN.8.
    #[serde(rename = "x", skip_serializing_if = "String::is_empty")]
    pub extension: String,
    /// XTN.18, 1 first.
    #[serde(rename = "r", skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// XTN.13.
    #[serde(rename = "b", skip_serializing_if = "Option::is_none")]
    pub from: Option<When>,
    /// XTN.14.
    #[serde(rename = "e", skip_serializing_if = "Option::is_none")]
    pub to: Option<When>,
}

/// XCN: a person who does something for the patient.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Provider {
    /// The number; absent where only a name was sent.
    #[serde(rename = "i", skip_serializing_if = "Option::is_none")]
    pub identifier: Option<Identifier>,
    /// The name; all empty where only a number was sent.
    #[serde(rename = "n")]
    pub name: Name,
}

/// PL: a place in a hospital.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// PL.4, else MSH-4, else the source's authority, else the source's name.
    #[serde(rename = "f", skip_serializing_if = "String::is_empty")]
    pub facility: String,
    /// Whether PL.4 was not valued.
    #[serde(rename = "m", skip_serializing_if = "is_false")]
    pub facility_assumed: bool,
    /// PL.1.
    #[serde(rename = "u", skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// PL.2.
    #[serde(rename = "r", skip_serializing_if = "String::is_empty")]
    pub room: String,
    /// PL.3.
    #[serde(rename = "b", skip_serializing_if = "String::is_empty")]
    pub bed: String,
    /// PL.7.
    #[serde(rename = "g", skip_serializing_if = "String::is_empty")]
    pub building: String,
    /// PL.8.
    #[serde(rename = "l", skip_serializing_if = "String::is_empty")]
    pub floor: String,
    /// PL.5.
    #[serde(rename = "s", skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// PL.6 (table 0305).
    #[serde(rename = "k", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// PL.9.
    #[serde(rename = "d", skip_serializing_if = "String::is_empty")]
    pub description: String,
}

impl Place {
    /// Whether both name the same spot; description and status do not count.
    pub fn is_at(&self, other: &Self) -> bool {
        self.facility == other.facility
            && self.unit == other.unit
            && self.room == other.room
            && self.bed == other.bed
            && self.building == other.building
            && self.floor == other.floor
    }
}

/// DLD: where somebody was discharged to.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DischargeTo {
    /// DLD.1.
    #[serde(rename = "p", skip_serializing_if = "Coded::is_empty")]
    pub place: Coded,
    /// DLD.2.
    #[serde(rename = "a", skip_serializing_if = "Option::is_none")]
    pub at: Option<When>,
}

impl Coded {
    /// Whether nothing was valued.
    pub fn is_empty(&self) -> bool {
        self.words().is_empty() && self.alternate_code.is_empty()
    }
}

/// What an item's action code (table 0206, 0323) asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// A: the item is new.
    #[serde(rename = "A")]
    Add,
    /// D: the item is gone.
    #[serde(rename = "D")]
    Delete,
    /// U: the item changed.
    #[serde(rename = "U")]
    Update,
    /// X: the item is unchanged.
    #[serde(rename = "X")]
    Keep,
}

phi_debug!(Identifier, Coded, Name, Address, Telecom, Provider, Place, DischargeTo);
