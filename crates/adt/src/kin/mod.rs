//! One family in one batch: its rows, loaded as they are asked for; what messages say, put in; what follows, folded and
//! written. Everything here is a function of the family's set of rows.

mod marks;
mod needs;
mod rows;
mod say;
mod settle;
mod write;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use hilum_chart::family::Families;
use hilum_chart::projection::Rows;
use hilum_core::{Id, InstallationKey};
use hilum_engines::tables::Value;

use crate::content::{Allergy, Diagnosis, NextOfKin};
use crate::facts::Fact;
use crate::fold::content::{GroupRegister, PersonRegister};
use crate::fold::ties::Tie;
use crate::order::Stamp;
use crate::state::{EncounterState, PatientState};

pub use needs::{Heard, needs};
pub(crate) use rows::tie_of;
use rows::{EncounterRow, ForVisits, NumberRow};
pub(crate) use write::mark_on_board;

/// What of a number or visit is kept as a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// PID, PD1, ARV.
    Person,
    /// NK1.
    NextOfKin,
    /// AL1.
    Allergies,
    /// IAM.
    Reactions,
    /// DG1, of a visit.
    Diagnoses,
}

impl Part {
    /// As the row holds it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::NextOfKin => "nk1",
            Self::Allergies => "al1",
            Self::Reactions => "iam",
            Self::Diagnoses => "dg1",
        }
    }
}

/// What the kin reads through.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// The installation's key.
    pub key: &'a InstallationKey,
    /// The families of the batch.
    pub families: &'a Families,
    /// The rows that were read.
    pub have: &'a Rows,
    /// Whether rows may be missing: a rejected event is marked with what there is, or not at all.
    pub lenient: bool,
    /// Work that operators decide about in this batch.
    pub decided: &'a BTreeSet<Id>,
    /// Facts that one visit keeps.
    pub facts_max: usize,
}

/// What happened to the resources: who renders FHIR hears it.
#[derive(Debug, Default)]
pub struct Settled {
    /// Patients whose record changed, with what of it was loaded.
    pub patients: Vec<PatientState>,
    /// Encounters that changed.
    pub encounters: Vec<EncounterState>,
    /// Encounters that are no more (inferred ones that got another id).
    pub gone: Vec<Id>,
    /// Conditions that are no more, with their encounters.
    pub gone_conditions: BTreeSet<Id>,
    /// Encounter ids by the visit that their facts are kept under.
    pub of_visit: BTreeMap<Id, Vec<Id>>,
    /// Patients of `encounters` who are confidential.
    pub confidential: BTreeSet<Id>,
}

/// One family. What is large is boxed: a tree's node has room for eleven, and most families have one.
pub struct Kin<'a> {
    sight: Sight<'a>,
    id: Id,
    facts: BTreeMap<Id, BTreeMap<Stamp, Arc<Fact>>>,
    /// Visits without a number: the facts of one patient number, of all its stays.
    inferred: BTreeSet<Id>,
    persons: BTreeMap<Id, Box<PersonRegister>>,
    relatives: BTreeMap<Id, GroupRegister<NextOfKin>>,
    allergies: BTreeMap<(Id, Part), GroupRegister<Allergy>>,
    diagnoses: BTreeMap<Id, GroupRegister<Diagnosis>>,
    ties: BTreeMap<Id, Tie>,
    numbers: BTreeMap<Id, NumberRow>,
    carriers: BTreeMap<Id, BTreeSet<Id>>,
    encounters: BTreeMap<Id, Option<EncounterRow>>,
    /// Tables of which all rows of the family were read, by the key behind the family.
    wholes: HashMap<&'static str, BTreeMap<Vec<Value>, Vec<Value>>>,
    /// Facts, ties and carriers to write.
    new_facts: BTreeSet<(Id, Stamp)>,
    new_ties: BTreeSet<Id>,
    new_carriers: BTreeSet<(Id, Id)>,
    gone_carriers: BTreeSet<(Id, Id)>,
    /// Facts and ties to take away: their message is replaced.
    gone_facts: BTreeSet<(Id, Stamp)>,
    gone_ties: BTreeSet<Id>,
    /// Visits with new facts or diagnoses.
    visits: BTreeSet<Id>,
    /// Numbers of whom something was said or that changed.
    said: BTreeSet<Id>,
    /// Registers to write.
    parts: BTreeSet<(Id, Part)>,
    /// Number rows to write.
    dirty_numbers: BTreeSet<Id>,
    /// What of persons shows in visits, as it stood before the batch.
    flags: BTreeMap<Id, ForVisits>,
    /// Ties were added, or a person was deleted: all of the family is folded again.
    whole: bool,
    /// Something was asked for that was not read: since a mark was begun, and ever.
    unread: Cell<bool>,
    has_missed: Cell<bool>,
    /// A table of which a row makes no sense.
    unreadable: Cell<Option<&'static str>>,
}

/// The id of a work item: a function of what it is about.
pub fn work_id(key: &InstallationKey, kind: &str, about: &[Id]) -> Id {
    let mut parts: Vec<&[u8]> = vec![kind.as_bytes()];
    parts.extend(about.iter().map(|id| id.as_bytes().as_slice()));
    key.id("Work", &parts)
}
