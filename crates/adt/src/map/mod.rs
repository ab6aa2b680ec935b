//! From folded state to what others read: FHIR R4 resources, one file per resource, and the summaries of pages. Pure:
//! state in, JSON text out, keys in the order of the standard; the same state gives the same bytes.
//!
//! | file | from | to |
//! |---|---|---|
//! | [`patient`] | [`PatientState`](crate::state::PatientState) | Patient |
//! | [`encounter`] | [`EncounterState`](crate::state::EncounterState) | Encounter, and which places and providers it names |
//! | [`location`] | [`Place`](crate::content::Place) | Location, one for each level |
//! | [`practitioner`] | [`Provider`](crate::content::Provider) | Practitioner |
//! | [`related_person`] | NK1 items | RelatedPerson |
//! | [`condition`] | DG1 items | Condition |
//! | [`allergy_intolerance`] | AL1 and IAM items | AllergyIntolerance |
//! | [`summary`] | content | names, ages, masked numbers, as board, pages and JSON twins show them |
//! | [`ids`] | what is referred to | ids that are functions of what they name |
//! | [`vocabulary`] | codes | codes: HL7's concept maps |
//! | `convert`, `element` | data types | FHIR's data types |
//!
//! Codes that no map knows keep their v2 coding and are counted ([`Unmapped`]); nothing is guessed. Location and
//! Practitioner carry no `meta.source`: many messages make them, and each would make a new version.

pub mod allergy_intolerance;
pub mod condition;
mod convert;
mod element;
pub mod encounter;
pub mod ids;
pub mod location;
pub mod patient;
pub mod practitioner;
pub mod related_person;
pub mod summary;
pub mod vocabulary;

use hilum_core::Id;
use serde::Serialize;

pub use convert::{ALTERNATE_CODES, MARK_SYSTEM, NATIONAL_HASH, ORIGIN, STANDING};

/// A resource.
#[derive(Clone, PartialEq, Eq)]
pub struct Mapped {
    /// Its id.
    pub id: Id,
    /// Its body: JSON without `meta.versionId` and `meta.lastUpdated`.
    pub body: String,
    /// Codes that no map knows, for the counters.
    pub unmapped: Vec<Unmapped>,
}

crate::content::said::phi_debug!(Mapped);

/// A code that no map knows: its table and the element, never the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unmapped {
    /// Four digits of HL7's table; `0396` = the coding system is unknown.
    pub table: &'static str,
    /// The element (`Patient.maritalStatus`).
    pub path: &'static str,
}

/// Collects what the map has no word for.
#[derive(Debug, Default)]
pub(crate) struct Notes(Vec<Unmapped>);

impl Notes {
    fn unmapped(&mut self, table: &'static str, path: &'static str) {
        self.0.push(Unmapped { table, path });
    }

    /// Writes the resource.
    fn finish(self, id: Id, resource: &impl Serialize) -> Mapped {
        let mut body = Vec::with_capacity(2048);
        serde_json::to_writer(&mut body, resource).expect("plain data with string keys serializes");
        let body = String::from_utf8(body).expect("JSON is UTF-8");
        Mapped { id, body, unmapped: self.0 }
    }
}
