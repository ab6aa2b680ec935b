//! Trigger events: one row per ADT event of chapter 3, and the other message types by name (table 0076).
//!
//! A new event is a row here; a new [`Effect`] makes the fold not compile until it says what it does.

use crate::finding::{Finding, Flaw};
use crate::message::Message;
use crate::path::Path;

/// What is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pending {
    /// A14.
    Admit,
    /// A15.
    Transfer,
    /// A16.
    Discharge,
}

/// What a cancel undoes (clinical-rules 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cancelled {
    /// A11 undoes an admission or registration.
    Admit,
    /// A12 undoes a transfer.
    Transfer,
    /// A13 undoes a discharge.
    Discharge,
    /// A25, A26, A27 undo what was pending.
    Pending(Pending),
    /// A32 undoes an arrival (tracking).
    Arriving,
    /// A33 undoes a departure (tracking).
    Departing,
    /// A38 undoes a pre-admission.
    PreAdmit,
    /// A52 undoes the start of a leave.
    LeaveStart,
    /// A53 undoes the return from a leave.
    LeaveReturn,
    /// A55 undoes a change of attending doctor.
    Attending,
    /// A62 undoes a change of consulting doctor.
    Consulting,
}

impl Cancelled {
    /// The events that it undoes.
    pub const fn events(self) -> &'static [&'static str] {
        match self {
            Self::Admit => &["A01", "A04"],
            Self::Transfer => &["A02"],
            Self::Discharge => &["A03"],
            Self::Pending(Pending::Admit) => &["A14"],
            Self::Pending(Pending::Transfer) => &["A15"],
            Self::Pending(Pending::Discharge) => &["A16"],
            Self::Arriving => &["A10"],
            Self::Departing => &["A09"],
            Self::PreAdmit => &["A05"],
            Self::LeaveStart => &["A21"],
            Self::LeaveReturn => &["A22"],
            Self::Attending => &["A54"],
            Self::Consulting => &["A61"],
        }
    }
}

/// What a number names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Number {
    /// A person or patient (PID-3, PID-2, PID-4).
    Person,
    /// An account (PID-18).
    Account,
    /// A visit (PV1-19).
    Visit,
    /// A visit's other number (PV1-50).
    AlternateVisit,
}

/// What an event does to the chart. Closed: the fold matches on it without `_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// A01: an inpatient stay (or another visit with a bed) begins.
    Admit,
    /// A02: another assigned place.
    Transfer,
    /// A03: the visit ends.
    Discharge,
    /// A04: an outpatient or emergency visit begins.
    Register,
    /// A05: a visit is planned.
    PreAdmit,
    /// A06: an outpatient becomes an inpatient (rule 10).
    ToInpatient,
    /// A07: an inpatient becomes an outpatient (rule 10).
    ToOutpatient,
    /// A08: content alone.
    Update,
    /// A09: left for a place that is tracked (PV1-11); the bed stays (rule 6).
    Departing,
    /// A10: arrived at a place that is tracked (PV1-11); the bed stays (rule 6).
    Arriving,
    /// A14, A15, A16: announced, not done.
    Pending(Pending),
    /// A11–A13, A25–A27, A32, A33, A38, A52, A53, A55, A62: undoes an event (rule 5).
    Cancel(Cancelled),
    /// A17: two patients change places.
    Swap,
    /// A18, A30, A34–A36, A39–A42: one number goes on as another (rule 7).
    Merge(Number),
    /// A19: a query; nothing.
    Query,
    /// A20: a bed's status (NPU), no patient.
    BedStatus,
    /// A21: leave of absence begins; the bed is held.
    LeaveStart,
    /// A22: leave of absence ends.
    LeaveReturn,
    /// A23: the visit was an error (rule 9).
    DeleteVisit,
    /// A24: two records are of one person; nothing moves (rule 7).
    Link,
    /// A37: undoes a link.
    Unlink,
    /// A28, A31: a person's content, without a visit.
    Person,
    /// A29: the person's record was an error (rule 9).
    DeletePerson,
    /// A43, A44, A45: what hangs on one number hangs on another from now on.
    Move(Number),
    /// A46–A51: the same thing has another number.
    ChangeNumber(Number),
    /// A54: another attending doctor.
    Attending,
    /// A60: allergies and adverse reactions.
    Allergies,
    /// A61: another consulting doctor.
    Consulting,
}

impl Effect {
    /// The last but one criterion of the order of events (rule 2): of events at the very same time, what opens a
    /// visit comes before what moves it, that before what closes it, and what undoes comes last.
    pub const fn rank(self) -> u8 {
        match self {
            Self::Query | Self::BedStatus => 0,
            Self::Person | Self::ChangeNumber(_) => 10,
            Self::PreAdmit | Self::Pending(Pending::Admit) => 20,
            Self::Register => 30,
            Self::Admit => 31,
            Self::ToInpatient | Self::ToOutpatient => 40,
            Self::Pending(Pending::Transfer) => 45,
            Self::Transfer | Self::Swap => 50,
            Self::Departing => 55,
            Self::Arriving => 56,
            Self::LeaveStart => 60,
            Self::LeaveReturn => 61,
            Self::Attending | Self::Consulting | Self::Update | Self::Allergies => 65,
            Self::Pending(Pending::Discharge) => 70,
            Self::Discharge => 75,
            Self::Cancel(_) => 80,
            Self::Link => 85,
            Self::Unlink => 86,
            Self::Move(_) => 90,
            Self::Merge(_) => 91,
            Self::DeleteVisit => 95,
            Self::DeletePerson => 96,
        }
    }
}

/// Whom a message of this event names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Names {
    /// One patient: PID.
    One,
    /// Two numbers: PID and MRG. The events with repeating groups (A39–A42, A43, A44, A46–A51) may name more pairs.
    PidAndMrg,
    /// Two patients: two PID, each with its own PV1 or without.
    TwoPids,
    /// Nobody.
    Nobody,
}

/// One ADT event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trigger {
    /// Table 0003: `A01`.
    pub event: &'static str,
    /// What the standard calls it.
    pub name: &'static str,
    /// Where the standard describes it (chapter 3, v2.5.1 to v2.8).
    pub clause: &'static str,
    /// What it does.
    pub effect: Effect,
    /// Whether it says something about place, class or status, and is ordered by EVN-6 (rule 1); if not, it is
    /// content, ordered by EVN-2.
    pub movement: bool,
    /// Whom it names.
    pub names: Names,
}

const MOVE: bool = true;
const CONTENT: bool = false;

const fn row(
    event: &'static str,
    clause: &'static str,
    effect: Effect,
    movement: bool,
    names: Names,
    name: &'static str,
) -> Trigger {
    Trigger { event, name, clause, effect, movement, names }
}

/// All ADT events, by number: A01–A55 and A60–A62 (A56–A59 do not exist).
#[rustfmt::skip]
pub const TRIGGERS: &[Trigger] = &[
    row("A01", "3.3.1", Effect::Admit, MOVE, Names::One, "Admit/visit notification"),
    row("A02", "3.3.2", Effect::Transfer, MOVE, Names::One, "Transfer a patient"),
    row("A03", "3.3.3", Effect::Discharge, MOVE, Names::One, "Discharge/end visit"),
    row("A04", "3.3.4", Effect::Register, MOVE, Names::One, "Register a patient"),
    row("A05", "3.3.5", Effect::PreAdmit, MOVE, Names::One, "Pre-admit a patient"),
    row("A06", "3.3.6", Effect::ToInpatient, MOVE, Names::One, "Change an outpatient to an inpatient"),
    row("A07", "3.3.7", Effect::ToOutpatient, MOVE, Names::One, "Change an inpatient to an outpatient"),
    row("A08", "3.3.8", Effect::Update, CONTENT, Names::One, "Update patient information"),
    row("A09", "3.3.9", Effect::Departing, MOVE, Names::One, "Patient departing - tracking"),
    row("A10", "3.3.10", Effect::Arriving, MOVE, Names::One, "Patient arriving - tracking"),
    row("A11", "3.3.11", Effect::Cancel(Cancelled::Admit), MOVE, Names::One, "Cancel admit/visit notification"),
    row("A12", "3.3.12", Effect::Cancel(Cancelled::Transfer), MOVE, Names::One, "Cancel transfer"),
    row("A13", "3.3.13", Effect::Cancel(Cancelled::Discharge), MOVE, Names::One, "Cancel discharge/end visit"),
    row("A14", "3.3.14", Effect::Pending(Pending::Admit), MOVE, Names::One, "Pending admit"),
    row("A15", "3.3.15", Effect::Pending(Pending::Transfer), MOVE, Names::One, "Pending transfer"),
    row("A16", "3.3.16", Effect::Pending(Pending::Discharge), MOVE, Names::One, "Pending discharge"),
    row("A17", "3.3.17", Effect::Swap, MOVE, Names::TwoPids, "Swap patients"),
    row("A18", "3.3.18", Effect::Merge(Number::Person), CONTENT, Names::PidAndMrg, "Merge patient information"),
    row("A19", "3.3.19", Effect::Query, CONTENT, Names::Nobody, "Patient query"),
    row("A20", "3.3.20", Effect::BedStatus, CONTENT, Names::Nobody, "Bed status update"),
    row("A21", "3.3.21", Effect::LeaveStart, MOVE, Names::One, "Patient goes on a leave of absence"),
    row("A22", "3.3.22", Effect::LeaveReturn, MOVE, Names::One, "Patient returns from a leave of absence"),
    row("A23", "3.3.23", Effect::DeleteVisit, MOVE, Names::One, "Delete a patient record"),
    row("A24", "3.3.24", Effect::Link, CONTENT, Names::TwoPids, "Link patient information"),
    row("A25", "3.3.25", Effect::Cancel(Cancelled::Pending(Pending::Discharge)), MOVE, Names::One, "Cancel pending discharge"),
    row("A26", "3.3.26", Effect::Cancel(Cancelled::Pending(Pending::Transfer)), MOVE, Names::One, "Cancel pending transfer"),
    row("A27", "3.3.27", Effect::Cancel(Cancelled::Pending(Pending::Admit)), MOVE, Names::One, "Cancel pending admit"),
    row("A28", "3.3.28", Effect::Person, CONTENT, Names::One, "Add person or patient information"),
    row("A29", "3.3.29", Effect::DeletePerson, CONTENT, Names::One, "Delete person information"),
    row("A30", "3.3.30", Effect::Merge(Number::Person), CONTENT, Names::PidAndMrg, "Merge person information"),
    row("A31", "3.3.31", Effect::Person, CONTENT, Names::One, "Update person information"),
    row("A32", "3.3.32", Effect::Cancel(Cancelled::Arriving), MOVE, Names::One, "Cancel patient arriving - tracking"),
    row("A33", "3.3.33", Effect::Cancel(Cancelled::Departing), MOVE, Names::One, "Cancel patient departing - tracking"),
    row("A34", "3.3.34", Effect::Merge(Number::Person), CONTENT, Names::PidAndMrg, "Merge patient information - patient ID only"),
    row("A35", "3.3.35", Effect::Merge(Number::Account), CONTENT, Names::PidAndMrg, "Merge patient information - account number only"),
    row("A36", "3.3.36", Effect::Merge(Number::Person), CONTENT, Names::PidAndMrg, "Merge patient information - patient ID and account number"),
    row("A37", "3.3.37", Effect::Unlink, CONTENT, Names::TwoPids, "Unlink patient information"),
    row("A38", "3.3.38", Effect::Cancel(Cancelled::PreAdmit), MOVE, Names::One, "Cancel pre-admit"),
    row("A39", "3.3.39", Effect::Merge(Number::Person), CONTENT, Names::PidAndMrg, "Merge person - patient ID"),
    row("A40", "3.3.40", Effect::Merge(Number::Person), CONTENT, Names::PidAndMrg, "Merge patient - patient identifier list"),
    row("A41", "3.3.41", Effect::Merge(Number::Account), CONTENT, Names::PidAndMrg, "Merge account - patient account number"),
    row("A42", "3.3.42", Effect::Merge(Number::Visit), CONTENT, Names::PidAndMrg, "Merge visit - visit number"),
    row("A43", "3.3.43", Effect::Move(Number::Person), CONTENT, Names::PidAndMrg, "Move patient information - patient identifier list"),
    row("A44", "3.3.44", Effect::Move(Number::Account), CONTENT, Names::PidAndMrg, "Move account information - patient account number"),
    row("A45", "3.3.45", Effect::Move(Number::Visit), CONTENT, Names::PidAndMrg, "Move visit information - visit number"),
    row("A46", "3.3.46", Effect::ChangeNumber(Number::Person), CONTENT, Names::PidAndMrg, "Change patient ID"),
    row("A47", "3.3.47", Effect::ChangeNumber(Number::Person), CONTENT, Names::PidAndMrg, "Change patient identifier list"),
    row("A48", "3.3.48", Effect::ChangeNumber(Number::Person), CONTENT, Names::PidAndMrg, "Change alternate patient ID"),
    row("A49", "3.3.49", Effect::ChangeNumber(Number::Account), CONTENT, Names::PidAndMrg, "Change patient account number"),
    row("A50", "3.3.50", Effect::ChangeNumber(Number::Visit), CONTENT, Names::PidAndMrg, "Change visit number"),
    row("A51", "3.3.51", Effect::ChangeNumber(Number::AlternateVisit), CONTENT, Names::PidAndMrg, "Change alternate visit ID"),
    row("A52", "3.3.52", Effect::Cancel(Cancelled::LeaveStart), MOVE, Names::One, "Cancel leave of absence for a patient"),
    row("A53", "3.3.53", Effect::Cancel(Cancelled::LeaveReturn), MOVE, Names::One, "Cancel patient returns from a leave of absence"),
    row("A54", "3.3.54", Effect::Attending, CONTENT, Names::One, "Change attending doctor"),
    row("A55", "3.3.55", Effect::Cancel(Cancelled::Attending), CONTENT, Names::One, "Cancel change attending doctor"),
    row("A60", "3.3.60", Effect::Allergies, CONTENT, Names::One, "Update allergy information"),
    row("A61", "3.3.61", Effect::Consulting, CONTENT, Names::One, "Change consulting doctor"),
    row("A62", "3.3.62", Effect::Cancel(Cancelled::Consulting), CONTENT, Names::One, "Cancel change consulting doctor"),
];

impl Trigger {
    /// The row of `event` (`A01`).
    pub fn find(event: &str) -> Option<&'static Self> {
        TRIGGERS.binary_search_by(|row| row.event.cmp(event)).ok().and_then(|at| TRIGGERS.get(at))
    }
}

/// Message types beside ADT (table 0076) that are kept, shown and have no effect on the chart.
#[rustfmt::skip]
pub const MESSAGE_TYPES: &[(&str, &str)] = &[
    ("ACK", "General acknowledgment"),
    ("ADR", "ADT response"),
    ("ADT", "Admit, discharge, transfer"),
    ("BAR", "Add/change billing account"),
    ("BPS", "Blood product dispense status"),
    ("BRP", "Blood product dispense status acknowledgment"),
    ("BRT", "Blood product transfusion/disposition acknowledgment"),
    ("BTS", "Blood product transfusion/disposition"),
    ("CCF", "Collaborative care fetch"),
    ("CCI", "Collaborative care information"),
    ("CCM", "Collaborative care message"),
    ("CCQ", "Collaborative care referral"),
    ("CCR", "Collaborative care referral"),
    ("CCU", "Collaborative care referral"),
    ("CQU", "Collaborative care referral"),
    ("CRM", "Clinical study registration"),
    ("CSU", "Unsolicited study data"),
    ("DBC", "Donor record create"),
    ("DBU", "Donor record update"),
    ("DEL", "Donor eligibility"),
    ("DEO", "Donor eligibility observation"),
    ("DER", "Donor eligibility request"),
    ("DFT", "Detail financial transactions"),
    ("DOC", "Document response"),
    ("DPR", "Donation procedure"),
    ("DRC", "Donor request to collect"),
    ("DRG", "Donor registration"),
    ("DSR", "Display response"),
    ("EAC", "Automated equipment command"),
    ("EAN", "Automated equipment notification"),
    ("EAR", "Automated equipment response"),
    ("EHC", "Health care invoice"),
    ("ESR", "Automated equipment status request"),
    ("ESU", "Automated equipment status update"),
    ("INR", "Automated equipment inventory request"),
    ("INU", "Automated equipment inventory update"),
    ("LSR", "Automated equipment log/service request"),
    ("LSU", "Automated equipment log/service update"),
    ("MCF", "Delayed acknowledgment"),
    ("MDM", "Medical document management"),
    ("MFD", "Master files delayed application acknowledgment"),
    ("MFK", "Master files application acknowledgment"),
    ("MFN", "Master files notification"),
    ("MFQ", "Master files query"),
    ("MFR", "Master files response"),
    ("NMD", "Application management data"),
    ("NMQ", "Application management query"),
    ("NMR", "Application management response"),
    ("OMB", "Blood product order"),
    ("OMD", "Dietary order"),
    ("OMG", "General clinical order"),
    ("OMI", "Imaging order"),
    ("OML", "Laboratory order"),
    ("OMN", "Non-stock requisition order"),
    ("OMP", "Pharmacy/treatment order"),
    ("OMQ", "General order with document payload"),
    ("OMS", "Stock requisition order"),
    ("OPL", "Population/location-based laboratory order"),
    ("OPR", "Population/location-based laboratory order acknowledgment"),
    ("OPU", "Unsolicited population/location-based laboratory observation"),
    ("ORA", "Observation report acknowledgment"),
    ("ORB", "Blood product order acknowledgment"),
    ("ORD", "Dietary order acknowledgment"),
    ("ORF", "Query for results of observation"),
    ("ORG", "General clinical order acknowledgment"),
    ("ORI", "Imaging order acknowledgment"),
    ("ORL", "Laboratory order acknowledgment"),
    ("ORM", "Pharmacy/treatment order"),
    ("ORN", "Non-stock requisition acknowledgment"),
    ("ORP", "Pharmacy/treatment order acknowledgment"),
    ("ORR", "General order response"),
    ("ORS", "Stock requisition acknowledgment"),
    ("ORU", "Unsolicited observation result"),
    ("ORX", "General order acknowledgment with document payload"),
    ("OSM", "Specimen shipment"),
    ("OSQ", "Query response for order status"),
    ("OSR", "Query response for order status"),
    ("OUL", "Unsolicited laboratory observation"),
    ("PEX", "Product experience"),
    ("PGL", "Patient goal"),
    ("PIN", "Patient insurance information"),
    ("PMU", "Add personnel record"),
    ("PPG", "Patient pathway, goal-oriented"),
    ("PPP", "Patient pathway, problem-oriented"),
    ("PPR", "Patient problem"),
    ("PPT", "Patient pathway goal-oriented response"),
    ("PPV", "Patient goal response"),
    ("PRR", "Patient problem response"),
    ("PTR", "Patient pathway problem-oriented response"),
    ("QBP", "Query by parameter"),
    ("QCK", "Deferred query"),
    ("QCN", "Cancel query"),
    ("QRY", "Query"),
    ("QSB", "Create subscription"),
    ("QSX", "Cancel subscription/acknowledge message"),
    ("QVR", "Query for previous events"),
    ("RAR", "Pharmacy/treatment administration information"),
    ("RAS", "Pharmacy/treatment administration"),
    ("RCI", "Return clinical information"),
    ("RCL", "Return clinical list"),
    ("RDE", "Pharmacy/treatment encoded order"),
    ("RDR", "Pharmacy/treatment dispense information"),
    ("RDS", "Pharmacy/treatment dispense"),
    ("RDY", "Display based response"),
    ("REF", "Patient referral"),
    ("RER", "Pharmacy/treatment encoded order information"),
    ("RGR", "Pharmacy/treatment dose information"),
    ("RGV", "Pharmacy/treatment give"),
    ("ROR", "Pharmacy/treatment order response"),
    ("RPA", "Return patient authorization"),
    ("RPI", "Return patient information"),
    ("RPL", "Return patient display list"),
    ("RPR", "Return patient list"),
    ("RQA", "Request patient authorization"),
    ("RQC", "Request clinical information"),
    ("RQI", "Request patient information"),
    ("RQP", "Request patient demographics"),
    ("RRA", "Pharmacy/treatment administration acknowledgment"),
    ("RRD", "Pharmacy/treatment dispense acknowledgment"),
    ("RRE", "Pharmacy/treatment encoded order acknowledgment"),
    ("RRG", "Pharmacy/treatment give acknowledgment"),
    ("RRI", "Return referral information"),
    ("RSP", "Segment pattern response"),
    ("RTB", "Tabular response"),
    ("SCN", "Notification of anti-microbial device cycle data"),
    ("SDN", "Notification of anti-microbial device data"),
    ("SDR", "Sterilization anti-microbial device data request"),
    ("SIU", "Schedule information unsolicited"),
    ("SLN", "Notification of new sterilization lot"),
    ("SLR", "Sterilization lot request"),
    ("SMD", "Sterilization anti-microbial device cycle data request"),
    ("SQM", "Schedule query"),
    ("SQR", "Schedule query response"),
    ("SRM", "Schedule request"),
    ("SRR", "Scheduled request response"),
    ("SSR", "Specimen status request"),
    ("SSU", "Specimen status update"),
    ("STC", "Notification of sterilization configuration"),
    ("STI", "Sterilization item request"),
    ("SUR", "Summary product experience report"),
    ("TCR", "Automated equipment test code settings request"),
    ("TCU", "Automated equipment test code settings update"),
    ("UDM", "Unsolicited display update"),
    ("VXQ", "Query for vaccination record"),
    ("VXR", "Vaccination record response"),
    ("VXU", "Unsolicited vaccination record update"),
    ("VXX", "Response for vaccination query with multiple matches"),
];

/// The name of a message type (`ORU` → `Unsolicited observation result`).
pub fn message_type_name(code: &str) -> Option<&'static str> {
    let at = MESSAGE_TYPES.binary_search_by(|row| row.0.cmp(code)).ok()?;
    MESSAGE_TYPES.get(at).map(|row| row.1)
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classified {
    /// MSH-9.1, empty if there is none.
    pub code: String,
    /// MSH-9.2, else EVN-1; empty if there is neither.
    pub event: String,
    /// The row of an ADT event; absent for other types and for events that do not exist.
    pub trigger: Option<&'static Trigger>,
    /// EVN-1 differs, or had to do.
    pub finding: Option<Finding>,
}

impl Classified {
    /// `ADT^A01`, or `ADT` where no event is said.
    pub fn kind(&self) -> String {
        if self.event.is_empty() { self.code.clone() } else { format!("{}^{}", self.code, self.event) }
    }

    /// The name of the event, else of the message type.
    pub fn name(&self) -> Option<&'static str> {
        self.trigger.map(|trigger| trigger.name).or_else(|| message_type_name(&self.code))
    }
}

/// Reads MSH-9 and EVN-1 (rule 4: MSH-9.2 decides).
pub fn classify(message: &Message) -> Classified {
    const CODE: Path = Path::of("MSH-9.1");
    const EVENT: Path = Path::of("MSH-9.2");
    const EVN_1: Path = Path::of("EVN-1");
    let code = message.get(CODE).text().trim().to_owned();
    let said = message.get(EVENT).text();
    let said = said.trim();
    let recorded = message.get(EVN_1).text();
    let recorded = recorded.trim();
    let (event, finding) = match (said, recorded) {
        ("", "") => ("", None),
        ("", recorded) => (recorded, Some(Finding::at(Flaw::EventFromEvn, EVN_1))),
        (said, recorded) if recorded.is_empty() || recorded == said => (said, None),
        (said, _) => (said, Some(Finding::at(Flaw::EventDiffers, EVN_1))),
    };
    let trigger = if code == "ADT" { Trigger::find(event) } else { None };
    Classified { event: event.to_owned(), code, trigger, finding }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_its_row_and_no_other() {
        let want: Vec<String> = (1..=55).chain(60..=62).map(|n| format!("A{n:02}")).collect();
        let have: Vec<&str> = TRIGGERS.iter().map(|row| row.event).collect();
        assert_eq!(have, want);
        for row in TRIGGERS {
            let number: u32 = row.event.trim_start_matches('A').parse().expect("a number");
            assert_eq!(row.clause, format!("3.3.{number}"));
            assert_eq!(Trigger::find(row.event), Some(row));
        }
        for absent in ["", "A00", "A56", "A59", "A63", "a01", "A1", "P01"] {
            assert_eq!(Trigger::find(absent), None, "{absent}");
        }
    }

    #[test]
    fn a_cancel_names_events_that_exist_and_what_it_undoes() {
        for row in TRIGGERS {
            let Effect::Cancel(cancelled) = row.effect else { continue };
            assert!(row.name.starts_with("Cancel"), "{}", row.event);
            for target in cancelled.events() {
                let target = Trigger::find(target).expect("a row");
                assert!(target.effect.rank() < row.effect.rank(), "{}", row.event);
                assert_eq!(target.movement, row.movement, "{}", row.event);
            }
        }
        let cancels = TRIGGERS.iter().filter(|row| row.name.starts_with("Cancel")).count();
        let effects = TRIGGERS.iter().filter(|row| matches!(row.effect, Effect::Cancel(_))).count();
        assert_eq!((cancels, effects), (13, 13));
    }

    #[test]
    fn events_on_two_name_two() {
        let two: Vec<&str> =
            TRIGGERS.iter().filter(|row| matches!(row.names, Names::TwoPids)).map(|row| row.event).collect();
        assert_eq!(two, ["A17", "A24", "A37"]);
        for row in TRIGGERS {
            let pairs = matches!(row.effect, Effect::Merge(_) | Effect::Move(_) | Effect::ChangeNumber(_));
            assert_eq!(row.names == Names::PidAndMrg, pairs, "{}", row.event);
        }
    }

    #[test]
    fn message_types_are_sorted() {
        assert!(MESSAGE_TYPES.is_sorted_by(|a, b| a.0 < b.0));
        for known in ["ORU", "ORM", "SIU", "MDM", "DFT", "BAR", "VXU", "ADT", "ACK", "ZZZ"] {
            assert_eq!(message_type_name(known).is_some(), known != "ZZZ", "{known}");
        }
    }

    #[test]
    fn msh_9_decides() {
        let cases = [
            ("both", "ADT^A01^ADT_A01", "A01", "ADT^A01", Some(Effect::Admit), None),
            ("EVN-1 differs", "ADT^A08", "A01", "ADT^A08", Some(Effect::Update), Some(Flaw::EventDiffers)),
            ("no MSH-9.2", "ADT", "A03", "ADT^A03", Some(Effect::Discharge), Some(Flaw::EventFromEvn)),
            ("neither", "ADT", "", "ADT", None, None),
            ("another type", "ORU^R01", "R01", "ORU^R01", None, None),
            ("an event that does not exist", "ADT^A56", "A56", "ADT^A56", None, None),
        ];
        for (why, msh_9, evn_1, kind, effect, flaw) in cases {
            let raw = format!("MSH|^~\\&|||||||{msh_9}|1|P|2.5\rEVN|{evn_1}\r");
            let message = Message::parse(raw.into(), &crate::CharsetSettings::default()).expect("parses");
            let classified = classify(&message);
            assert_eq!(classified.kind(), kind, "{why}");
            assert_eq!(classified.trigger.map(|row| row.effect), effect, "{why}");
            assert_eq!(classified.finding.map(|finding| finding.flaw), flaw, "{why}");
        }
    }
}
