//! A message's facts: what it says of one encounter, small enough to be kept one by one and folded again and again.

mod peek;
pub mod read;

use hilum_core::{Id, Timestamp};
use serde::{Deserialize, Serialize};

use crate::content::{Diagnosis, Movement, Said, VisitContent, When};
use crate::order::{Instant, Precision, Stamp};
use crate::settings::GroupMode;
use crate::state::{Moment, VisitNumber};

/// What a fact does to its encounter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A05.
    PreAdmit,
    /// A14.
    PendAdmit,
    /// A15.
    PendTransfer,
    /// A16.
    PendDischarge,
    /// A04.
    Register,
    /// A01.
    Admit,
    /// A06: an outpatient becomes an inpatient.
    ClassIn,
    /// A07: an inpatient becomes an outpatient.
    ClassOut,
    /// A02.
    Transfer,
    /// A17, for each of both.
    Swap,
    /// A09.
    Depart,
    /// A10.
    Arrive,
    /// A21.
    Leave,
    /// A22.
    Return,
    /// A06, A07 with MRG: the visit goes on under another number.
    Continued,
    /// A03.
    Discharge,
    /// A08, A54 and what else only says something.
    Update,
    /// A45: from now on the visit is the named patient's.
    MoveVisit,
    /// A23.
    DeleteVisit,
    /// The event's own opposite: takes the latest of its target back.
    Cancel(Target),
}

/// What a cancel takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A11 takes back A01 and A04.
    Visit,
    /// A38 takes back A05.
    PreAdmit,
    /// A12 takes back A02.
    Transfer,
    /// A13 takes back A03.
    Discharge,
    /// A52 takes back A21.
    Leave,
    /// A53 takes back A22.
    Return,
    /// A33 takes back A09.
    Depart,
    /// A32 takes back A10.
    Arrive,
    /// A27 takes back A14.
    PendAdmit,
    /// A26 takes back A15.
    PendTransfer,
    /// A25 takes back A16.
    PendDischarge,
}

impl Target {
    /// Whether a fact of `kind` is such a target.
    pub const fn is(self, kind: Kind) -> bool {
        matches!(
            (self, kind),
            (Self::Visit, Kind::Admit | Kind::Register)
                | (Self::PreAdmit, Kind::PreAdmit)
                | (Self::Transfer, Kind::Transfer)
                | (Self::Discharge, Kind::Discharge)
                | (Self::Leave, Kind::Leave)
                | (Self::Return, Kind::Return)
                | (Self::Depart, Kind::Depart)
                | (Self::Arrive, Kind::Arrive)
                | (Self::PendAdmit, Kind::PendAdmit)
                | (Self::PendTransfer, Kind::PendTransfer)
                | (Self::PendDischarge, Kind::PendDischarge)
        )
    }
}

const KINDS: &[(Kind, &str)] = &[
    (Kind::PreAdmit, "pre-admit"),
    (Kind::PendAdmit, "pend-admit"),
    (Kind::PendTransfer, "pend-transfer"),
    (Kind::PendDischarge, "pend-discharge"),
    (Kind::Register, "register"),
    (Kind::Admit, "admit"),
    (Kind::ClassIn, "class-in"),
    (Kind::ClassOut, "class-out"),
    (Kind::Transfer, "transfer"),
    (Kind::Swap, "swap"),
    (Kind::Depart, "depart"),
    (Kind::Arrive, "arrive"),
    (Kind::Leave, "leave"),
    (Kind::Return, "return"),
    (Kind::Continued, "continued"),
    (Kind::Discharge, "discharge"),
    (Kind::Update, "update"),
    (Kind::MoveVisit, "move-visit"),
    (Kind::DeleteVisit, "delete-visit"),
    (Kind::Cancel(Target::Visit), "cancel-visit"),
    (Kind::Cancel(Target::PreAdmit), "cancel-pre-admit"),
    (Kind::Cancel(Target::Transfer), "cancel-transfer"),
    (Kind::Cancel(Target::Discharge), "cancel-discharge"),
    (Kind::Cancel(Target::Leave), "cancel-leave"),
    (Kind::Cancel(Target::Return), "cancel-return"),
    (Kind::Cancel(Target::Depart), "cancel-depart"),
    (Kind::Cancel(Target::Arrive), "cancel-arrive"),
    (Kind::Cancel(Target::PendAdmit), "cancel-pend-admit"),
    (Kind::Cancel(Target::PendTransfer), "cancel-pend-transfer"),
    (Kind::Cancel(Target::PendDischarge), "cancel-pend-discharge"),
];

impl Kind {
    /// As the row holds it.
    pub fn as_str(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("update", |(_, name)| name)
    }

    /// From the row.
    pub fn parse(raw: &str) -> Option<Self> {
        KINDS.iter().find(|(_, name)| *name == raw).map(|(kind, _)| *kind)
    }

    /// Its rank among events of one instant (rule 2): what begins before what moves before what ends.
    pub fn rank(self) -> u8 {
        let place = KINDS.iter().position(|(kind, _)| *kind == self).unwrap_or_default();
        u8::try_from(place + 1).unwrap_or(u8::MAX)
    }

    /// Whether its time may lie ahead (rule 3).
    pub const fn is_planned(self) -> bool {
        matches!(self, Self::PreAdmit | Self::PendAdmit | Self::PendTransfer | Self::PendDischarge)
    }

    /// Whether it begins a stay.
    pub const fn begins(self) -> bool {
        matches!(self, Self::Admit | Self::Register | Self::ClassIn | Self::ClassOut)
    }

    /// Whether the order between it and another such one decides place, class or status.
    pub const fn is_ordered(self) -> bool {
        matches!(
            self,
            Self::Admit
                | Self::Register
                | Self::ClassIn
                | Self::ClassOut
                | Self::Transfer
                | Self::Swap
                | Self::Leave
                | Self::Return
                | Self::Discharge
        )
    }
}

/// What a message says of one encounter. The columns of its row that are not in `body` come first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What it does.
    pub kind: Kind,
    /// Its place by the movement clock; of a cancel, by the content clock, for its EVN-6 is the target's time.
    pub moved: Stamp,
    /// Its place by the content clock.
    pub said: Stamp,
    /// The patient number that it names; a provisional one if it names none.
    pub number: Id,
    /// Whether `number` is provisional.
    pub provisional: bool,
    /// The source.
    pub source: String,
    /// The rest.
    pub body: FactBody,
}

/// What a fact's row holds as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FactBody {
    /// The movement's time as sent.
    #[serde(rename = "w", skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// EVN-6: on a cancel the time of its target.
    #[serde(rename = "e", skip_serializing_if = "Option::is_none")]
    pub event: Option<EventTime>,
    /// The visit's numbers, the naming one first.
    #[serde(rename = "n", skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<VisitNumber>,
    /// The movement side of PV1 and PV2.
    #[serde(rename = "m", skip_serializing_if = "is_silent")]
    pub movement: Movement,
    /// The content side of PV1 and PV2.
    #[serde(rename = "v", skip_serializing_if = "is_silent")]
    pub visit: VisitContent,
    /// PV1-44 as an instant.
    #[serde(rename = "a", skip_serializing_if = "Option::is_none")]
    pub admitted: Option<Timestamp>,
    /// PV1-45 as an instant.
    #[serde(rename = "d", skip_serializing_if = "Option::is_none")]
    pub discharged: Option<Timestamp>,
    /// When an announced event is expected (PV2-8, PV2-9, EVN-3).
    #[serde(rename = "x", skip_serializing_if = "Option::is_none")]
    pub expected: Option<Moment>,
    /// PV1-3 is an emergency place for the source.
    #[serde(rename = "ed", skip_serializing_if = "std::ops::Not::not")]
    pub emergency: bool,
    /// The visit has no number: the fold says which stay of the patient it is.
    #[serde(rename = "i", skip_serializing_if = "std::ops::Not::not")]
    pub inferred: bool,
    /// DG1 of an inferred visit, with the source's mode: they belong to the stay.
    #[serde(rename = "g", skip_serializing_if = "Option::is_none")]
    pub diagnoses: Option<(GroupMode, Said<Vec<Diagnosis>>)>,
    /// The visit that this one goes on from, or goes on as.
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    pub other: Option<Id>,
}

fn is_silent<W: crate::content::Words>(words: &W) -> bool {
    words.is_silent()
}

/// An HL7 time that is compared, not sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTime {
    /// The first instant that it may mean.
    #[serde(rename = "t")]
    pub at: Timestamp,
    /// Its precision's rank.
    #[serde(rename = "p")]
    pub precision: u8,
}

impl EventTime {
    /// Whether both may mean the same instant.
    pub fn may_be(self, at: Timestamp, precision: Precision) -> bool {
        let (one, two) = ((self.at, Precision::from_rank(self.precision)), (at, precision));
        let (coarse, fine) = if one.1 <= two.1 { (one, two) } else { (two, one) };
        let from = coarse.0.as_micros();
        (from..from.saturating_add(coarse.1.width_micros())).contains(&fine.0.as_micros())
    }
}

impl From<Instant> for EventTime {
    fn from(time: Instant) -> Self {
        Self { at: time.at, precision: time.precision as u8 }
    }
}

impl Fact {
    /// The movement's time.
    pub fn moment(&self) -> Option<Moment> {
        let at = self.moved.at()?;
        Some(Moment { at, when: self.body.when.clone()? })
    }

    /// The message.
    pub fn message(&self) -> Id {
        self.moved.message()
    }
}
