//! What the fold ends in: patients and encounters as they stand, each a function of the *set* of messages. Mapping
//! and pages read these and nothing else; nothing here knows of rows, arrival or FHIR.

use hilum_core::{Id, Timestamp};
use serde::{Deserialize, Serialize};

use crate::content::{
    Allergy, Coded, Diagnosis, DischargeTo, Identifier, NextOfKin, PersonContent, Place, VisitContent, When,
};
use crate::map::summary::IdentifierSummary;
use crate::order::Stamp;

/// A point in time as it was sent, with the instant that it sorts by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The first instant that it may mean.
    pub at: Timestamp,
    /// As precise as it was sent, in FHIR's form.
    pub when: When,
}

/// Something that held for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span<T> {
    /// What held.
    pub what: T,
    /// Since when; absent = not known.
    pub start: Option<Moment>,
    /// Until when; absent = still, or not known.
    pub end: Option<Moment>,
    /// The message that began it.
    pub message: Id,
}

/// One item of a segment group (a next of kin, an allergy, a diagnosis).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<T> {
    /// What tells it from the others of its group ([`crate::content::Item::key`]).
    pub key: Id,
    /// As it was sent last.
    pub content: T,
    /// The patient number (or, for a diagnosis, the encounter) that it was sent for: after a merge, its origin.
    pub origin: Id,
    /// The source that sent it.
    pub source: String,
    /// The message that first said exactly this: `meta.source`.
    pub message: Id,
    /// When it was last sent.
    pub last_sent: Stamp,
    /// Whether it still counts.
    pub standing: Standing,
}

/// Whether an item still counts (clinical-rules 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It does.
    Current,
    /// A later message of its source sent the set without it: history, never an erasure.
    NoLongerSent,
    /// A later message deleted it (action code D, or the group emptied with `""`).
    Deleted,
}

/// One patient number's record. Each number that is some source's primary identifier has one, also after a merge: then
/// it is not active and `merged_into` names the next of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientState {
    /// The Patient resource's id, a function of the number.
    pub id: Id,
    /// The primary identifier; absent for a provisional patient.
    pub number: Option<Identifier>,
    /// A provisional patient's encounter (clinical-rules 15).
    pub provisional_for: Option<Id>,
    /// The record that replaces this one (`Patient.link` `replaced-by`).
    pub merged_into: Option<Id>,
    /// The record at the end of the chain; `id` itself when it is not merged.
    pub survivor: Id,
    /// The records that were merged into this one directly (`Patient.link` `replaces`), in order of id.
    pub replaces: Vec<Id>,
    /// The records that a source linked without merging (A24; `Patient.link` `seealso`), in order of id.
    pub see_also: Vec<Id>,
    /// What messages that name this number say, field by field the latest.
    pub person: PersonContent,
    /// What merged records fill in where this one says nothing, nearest first: the number, and only the fields that it
    /// gives. To be marked as such.
    pub filled: Vec<(Id, PersonContent)>,
    /// Whether any record of the person asks for confidentiality: they name each other, and fill each other in
    /// (clinical-rules 20).
    pub confidential: bool,
    /// Next of kin, those of merged records among them, nearest record first, then in order of key. Empty also where
    /// nothing was said of them now (an item never goes, it is no longer sent), and in a merged record: they are the
    /// survivor's.
    pub next_of_kin: Vec<Item<NextOfKin>>,
    /// Allergies (AL1, IAM), those of merged records among them (clinical-rules 16), likewise.
    pub allergies: Vec<Item<Allergy>>,
    /// What a person should know.
    pub marks: Vec<Mark>,
    /// The message that first said exactly what `person` says: `meta.source`.
    pub message: Id,
    /// The order of what was said last.
    pub last: Stamp,
    /// The source that spoke last.
    pub source: String,
}

impl PatientState {
    /// Whether the record is the one to use.
    pub fn is_active(&self) -> bool {
        self.merged_into.is_none() && !self.marks.contains(&Mark::Withdrawn)
    }

    /// What is known of the person: own words, then what merged records fill in.
    pub fn whole(&self) -> PersonContent {
        use crate::content::Words;
        let mut whole = self.person.clone();
        for (_, content) in &self.filled {
            whole.fill(content);
        }
        whole
    }
}

/// By what an encounter is known (clinical-rules 17).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisitNumber {
    /// The authority, else the facility.
    pub authority: String,
    /// The number, byte-exact.
    pub value: String,
    /// Where it stood.
    pub field: VisitField,
}

/// Where a visit number stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VisitField {
    /// Visit Number.
    #[serde(rename = "PV1-19")]
    Visit,
    /// Alternate Visit ID.
    #[serde(rename = "PV1-50")]
    Alternate,
    /// Patient Account Number, at sources where it names the visit.
    #[serde(rename = "PID-18")]
    Account,
}

/// `Encounter.status`, as the fold alone decides it (clinical-rules 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Expected: pre-admitted or pending.
    Planned,
    /// Registered as outpatient or in the emergency department (A04).
    Arrived,
    /// Admitted.
    InProgress,
    /// On leave of absence; the bed is held.
    #[serde(rename = "onleave")]
    OnLeave,
    /// Discharged, or continued under another number.
    Finished,
    /// The event that made it was cancelled.
    Cancelled,
    /// Withdrawn by the source after it was closed (A23, A29; clinical-rules 9).
    EnteredInError,
    /// Only named so far.
    Unknown,
}

impl Status {
    /// All.
    pub const ALL: [Self; 8] = [
        Self::Planned,
        Self::Arrived,
        Self::InProgress,
        Self::OnLeave,
        Self::Finished,
        Self::Cancelled,
        Self::EnteredInError,
        Self::Unknown,
    ];

    /// The FHIR code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Arrived => "arrived",
            Self::InProgress => "in-progress",
            Self::OnLeave => "onleave",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
            Self::EnteredInError => "entered-in-error",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the patient is in the house or expected back: the encounter stands on the board.
    pub const fn is_open(self) -> bool {
        match self {
            Self::Arrived | Self::InProgress | Self::OnLeave | Self::Unknown => true,
            Self::Planned | Self::Finished | Self::Cancelled | Self::EnteredInError => false,
        }
    }
}

/// What is announced and has not happened (A14, A15, A16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// What will happen.
    pub what: PendingWhat,
    /// Where to (PV1-42, else PV1-3 of the message).
    pub place: Option<Place>,
    /// When it is expected (PV2-8, PV2-9, else EVN-3).
    pub expected: Option<Moment>,
    /// The message that announced it.
    pub message: Id,
}

/// What is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PendingWhat {
    /// A14.
    Admit,
    /// A15.
    Transfer,
    /// A16.
    Discharge,
}

/// One encounter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncounterState {
    /// The Encounter resource's id, a function of its visit number, or of patient, class and PV1-44.
    pub id: Id,
    /// Its number; absent where it was inferred.
    pub visit: Option<VisitNumber>,
    /// Further numbers of the visit that messages gave, in order.
    pub also_known_as: Vec<VisitNumber>,
    /// The Patient whose it is: the survivor.
    pub patient: Id,
    /// The number that messages name; differs from `patient` after a merge.
    pub named: Id,
    /// Its status.
    pub status: Status,
    /// All statuses, oldest first; the last one is `status`.
    pub statuses: Vec<Span<Status>>,
    /// PV1-2 as the movements leave it (v2-0004 code as sent).
    pub class: Option<String>,
    /// All classes, oldest first; the last one is `class`.
    pub classes: Vec<Span<String>>,
    /// Where the patient's bed is (PV1-3 as the movements leave it), leave included; the last place when finished.
    pub place: Option<Place>,
    /// All places, oldest first.
    pub places: Vec<Span<Place>>,
    /// Where the patient is just now, the bed held (A09, A10: PV1-11).
    pub tracked: Option<Span<Place>>,
    /// What is announced.
    pub pending: Vec<Pending>,
    /// Begin: PV1-44, else the admitting movement's time.
    pub start: Option<Moment>,
    /// End: PV1-45, else the ending movement's time.
    pub end: Option<Moment>,
    /// PV1-36, once finished.
    pub disposition: Option<Coded>,
    /// PV1-37, once finished.
    pub discharged_to: Option<DischargeTo>,
    /// PV2-47, while on leave.
    pub expected_return: Option<When>,
    /// PV1-40 as the movements leave it (table 0116).
    pub bed_status: Option<Coded>,
    /// What messages say of the visit, field by field the latest.
    pub content: VisitContent,
    /// Diagnoses in order of key.
    pub diagnoses: Vec<Item<Diagnosis>>,
    /// The encounter that goes on where this one ended (A06/A07 with MRG).
    pub continued_by: Option<Id>,
    /// The encounters that ended into this one, in order of id.
    pub continues: Vec<Id>,
    /// Whether its place counts as an emergency department for the source that said it.
    pub emergency_place: bool,
    /// What a person should know.
    pub marks: Vec<Mark>,
    /// The message that made it what it is: the latest that had a part, `meta.source`.
    pub message: Id,
    /// The order of what was said last.
    pub last: Stamp,
    /// The source that spoke last.
    pub source: String,
}

impl EncounterState {
    /// Since when the patient has been in the unit; the encounter's start where no place is known.
    pub fn since(&self) -> Option<&Moment> {
        let Some(place) = &self.place else { return self.start.as_ref() };
        let in_unit = self
            .places
            .iter()
            .rev()
            .take_while(|span| span.what.unit == place.unit && span.what.facility == place.facility);
        in_unit.last().and_then(|span| span.start.as_ref()).or(self.start.as_ref())
    }

    /// Which list of the board shows it; `None` = none (finished, cancelled, withdrawn).
    pub fn board_list(&self) -> Option<BoardList> {
        match self.status {
            Status::Finished | Status::Cancelled | Status::EnteredInError => None,
            Status::Planned => Some(BoardList::Expected),
            Status::OnLeave => Some(BoardList::Leave),
            Status::Arrived | Status::InProgress | Status::Unknown => Some(match self.class.as_deref() {
                Some("E" | "EMER") => BoardList::Emergency,
                _ if self.emergency_place => BoardList::Emergency,
                // An outpatient in a bed is one: a dialysis chair, or a bed that is kept for an hour after an A07.
                Some("O" | "R" | "AMB") => BoardList::Outpatient,
                // These say how a stay is paid for, or which ward: the bed tells.
                Some("P" | "B" | "C" | "N") if self.place.as_ref().is_none_or(|p| p.bed.is_empty()) => {
                    BoardList::Outpatient
                }
                _ => BoardList::Inpatient,
            }),
        }
    }
}

/// A list of the board (clinical-rules 26).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoardList {
    /// In a bed, or admitted without one.
    Inpatient,
    /// Class E, or in an emergency place.
    Emergency,
    /// Class O, in a bed or not; or registered without one.
    Outpatient,
    /// Planned.
    Expected,
    /// On leave of absence.
    Leave,
}

impl BoardList {
    /// All, in the order of the page.
    pub const ALL: [Self; 5] =
        [Self::Inpatient, Self::Emergency, Self::Outpatient, Self::Leave, Self::Expected];

    /// As the board row holds it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inpatient => "inpatient",
            Self::Emergency => "emergency",
            Self::Outpatient => "outpatient",
            Self::Expected => "expected",
            Self::Leave => "leave",
        }
    }
}

/// What a person should know about a patient or an encounter. The board shows [`Mark::id`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// No primary identifier has been said yet (rule 15).
    IdentityUndecided,
    /// Another patient carries the same further identifier (rules 14, 15).
    SharedIdentifier,
    /// A merge with different birth date or sex, or with both in beds (rule 16).
    MergeImplausible,
    /// Merges that would replace numbers by each other in a circle: the one that closes it was not done (rule 16).
    MergeCycle,
    /// Messages name two patients for this encounter, and nobody has merged them.
    PatientDiffers,
    /// The visit number was inferred (rule 17).
    KeyInferred,
    /// Two movements' times overlap: the order between them is a convention (rule 2).
    OrderUncertain,
    /// A cancel's target has not been seen (rule 5).
    CancelUnmatched,
    /// After a cancel, the message's place is not the one that the fold gives back (rule 5).
    PlaceDisagrees,
    /// No admission was seen: the status comes from an update or a movement alone.
    AdmissionUnseen,
    /// In the house although a discharge is dated before the admission: a clock is wrong, or the patient has gone.
    DischargeBeforeAdmission,
    /// A movement after the end, without a cancel of the end: it changes nothing.
    MovementAfterEnd,
    /// The source asked to delete an open visit (rule 9).
    DeleteAsked,
    /// Withdrawn by the source (rule 9).
    Withdrawn,
    /// "Expired" without a time of death (rule 18).
    ExpiredWithoutDeath,
    /// An unknown person: never matched on name or birth date (rule 18).
    UnknownPerson,
    /// So many messages of the patient were quarantined and are not in here (rule 23).
    NotApplied(u32),
}

impl Mark {
    /// Of how many messages an id tells that they were not applied; `None` for another mark.
    pub fn not_applied_of(id: &str) -> Option<u32> {
        id.strip_prefix("not-applied:").and_then(|count| count.parse().ok())
    }

    /// The mark as the board row and the JSON twins hold it: `identity-undecided`, `not-applied:2`.
    pub fn id(&self) -> String {
        match self {
            Self::IdentityUndecided => "identity-undecided".to_owned(),
            Self::SharedIdentifier => "shared-identifier".to_owned(),
            Self::MergeImplausible => "merge-implausible".to_owned(),
            Self::MergeCycle => "merge-cycle".to_owned(),
            Self::PatientDiffers => "patient-differs".to_owned(),
            Self::KeyInferred => "key-inferred".to_owned(),
            Self::OrderUncertain => "order-uncertain".to_owned(),
            Self::CancelUnmatched => "cancel-unmatched".to_owned(),
            Self::PlaceDisagrees => "place-disagrees".to_owned(),
            Self::AdmissionUnseen => "admission-unseen".to_owned(),
            Self::DischargeBeforeAdmission => "discharge-before-admission".to_owned(),
            Self::MovementAfterEnd => "movement-after-end".to_owned(),
            Self::DeleteAsked => "delete-asked".to_owned(),
            Self::Withdrawn => "withdrawn".to_owned(),
            Self::ExpiredWithoutDeath => "expired-without-death".to_owned(),
            Self::UnknownPerson => "unknown-person".to_owned(),
            Self::NotApplied(count) => format!("not-applied:{count}"),
        }
    }
}

/// What the board row's `detail` holds: what a row shows beside its columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BoardDetail {
    /// FHIR date, as precise as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birth_date: Option<String>,
    /// FHIR administrative gender, absent without a map (rule 13).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gender: Option<String>,
    /// Identifiers to show, national numbers masked: primary first.
    pub identifiers: Vec<BoardIdentifier>,
    /// The visit number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visit: Option<String>,
    /// Where the patient is just now, the bed held: unit, room, bed as one text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracked: Option<String>,
    /// What is announced: `admit`, `transfer`, `discharge`, with place and time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<BoardPending>,
    /// Died at, or `unknown` when only that is known (rule 18).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub died: Option<String>,
    /// The attending's number, for filters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attending_id: Option<String>,
    /// The marks of the encounter alone: the row's `marks` are these and the patient's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub encounter_marks: Vec<String>,
    /// Whether the encounter alone asks for confidentiality.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub encounter_confidential: bool,
}

/// One identifier of a board row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardIdentifier {
    /// Table 0203.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its authority.
    pub authority: String,
    /// Its value, a national number masked.
    pub value: String,
    /// Whether the authority is no more than the name of the source: nobody said one.
    #[serde(default, rename = "authorityGuessed", skip_serializing_if = "std::ops::Not::not")]
    pub authority_guessed: bool,
}

impl From<IdentifierSummary> for BoardIdentifier {
    fn from(one: IdentifierSummary) -> Self {
        let IdentifierSummary { kind, authority, value, authority_guessed } = one;
        Self { kind, authority, value, authority_guessed }
    }
}

/// One announced event of a board row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardPending {
    /// `admit`, `transfer`, `discharge`.
    pub what: PendingWhat,
    /// Where to, as one text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// When, in FHIR's form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}
