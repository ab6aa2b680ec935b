//! What a message says of a visit: what its event does, by what the visit is known, and the facts.

use std::sync::Arc;

use hilum_core::Id;
use hilum_hl7v2::Effect;
use hilum_hl7v2::trigger::{Cancelled, Number as Names, Pending};

use super::Visit;
use super::reader::Reader;
use crate::content::{Block, When};
use crate::facts::{Fact, FactBody, Kind, Target};
use crate::identity::{self, Number};
use crate::state::{Moment, VisitNumber};

impl Reader<'_> {
    /// What the event does to a visit; absent for what is about persons alone.
    pub(super) fn kind(&self) -> Option<Kind> {
        Some(match self.effect {
            Effect::Admit => Kind::Admit,
            Effect::Transfer => Kind::Transfer,
            Effect::Discharge => Kind::Discharge,
            Effect::Register => Kind::Register,
            Effect::PreAdmit => Kind::PreAdmit,
            Effect::ToInpatient => Kind::ClassIn,
            Effect::ToOutpatient => Kind::ClassOut,
            Effect::Update | Effect::Attending | Effect::Consulting | Effect::Allergies => Kind::Update,
            Effect::Departing => Kind::Depart,
            Effect::Arriving => Kind::Arrive,
            Effect::Pending(Pending::Admit) => Kind::PendAdmit,
            Effect::Pending(Pending::Transfer) => Kind::PendTransfer,
            Effect::Pending(Pending::Discharge) => Kind::PendDischarge,
            Effect::Cancel(cancelled) => match cancelled {
                Cancelled::Admit => Kind::Cancel(Target::Visit),
                Cancelled::Transfer => Kind::Cancel(Target::Transfer),
                Cancelled::Discharge => Kind::Cancel(Target::Discharge),
                Cancelled::Pending(Pending::Admit) => Kind::Cancel(Target::PendAdmit),
                Cancelled::Pending(Pending::Transfer) => Kind::Cancel(Target::PendTransfer),
                Cancelled::Pending(Pending::Discharge) => Kind::Cancel(Target::PendDischarge),
                Cancelled::Arriving => Kind::Cancel(Target::Arrive),
                Cancelled::Departing => Kind::Cancel(Target::Depart),
                Cancelled::PreAdmit => Kind::Cancel(Target::PreAdmit),
                Cancelled::LeaveStart => Kind::Cancel(Target::Leave),
                Cancelled::LeaveReturn => Kind::Cancel(Target::Return),
                // The message's own PV1 says who it is now.
                Cancelled::Attending | Cancelled::Consulting => Kind::Update,
            },
            Effect::Swap => Kind::Swap,
            Effect::LeaveStart => Kind::Leave,
            Effect::LeaveReturn => Kind::Return,
            Effect::DeleteVisit => Kind::DeleteVisit,
            Effect::Move(Names::Visit) => Kind::MoveVisit,
            Effect::Query
            | Effect::BedStatus
            | Effect::Merge(_)
            | Effect::Link
            | Effect::Unlink
            | Effect::Person
            | Effect::DeletePerson
            | Effect::Move(_)
            | Effect::ChangeNumber(_) => return None,
        })
    }

    /// Events about persons need one.
    pub(super) fn may_be_provisional(&self) -> bool {
        self.kind().is_some() && self.effect != Effect::Move(Names::Visit)
    }

    pub(super) fn visit_numbers(&self, block: &Block) -> Vec<VisitNumber> {
        let mut numbers = identity::visit_numbers(block, self.context.settings);
        // A45 is about MRG-5, whatever PV1 says.
        if let (Effect::Move(Names::Visit), Some(prior)) = (self.effect, &block.prior) {
            let moved = prior.visit.as_ref().or(prior.alternate_visit.as_ref());
            if let Some(moved) = moved.filter(|moved| !moved.value.is_empty()) {
                numbers = vec![VisitNumber {
                    authority: moved.authority.clone(),
                    value: moved.value.clone(),
                    field: crate::state::VisitField::Visit,
                }];
            }
        }
        numbers
    }

    pub(super) fn visit(
        &mut self,
        block: &Block,
        kind: Option<Kind>,
        primary: Option<&Number>,
        numbers: &[VisitNumber],
    ) -> Option<Visit> {
        let kind = kind?;
        let key = self.context.key;
        if let Some(number) = numbers.first() {
            let id = identity::encounter_id(key, &number.authority, &number.value);
            return Some(Visit { id, inferred: false });
        }
        let movement = block.movement.as_ref()?;
        let class = movement.class.value().map_or("", |class| class.code.as_str());
        // An update without a visit number is about the person, unless it says a class and a begin.
        let says_visit =
            kind != Kind::Update || movement.admitted.value().is_some() && !matches!(class, "" | "N");
        let primary = primary.filter(|_| says_visit && kind != Kind::MoveVisit)?;
        self.find("visit.inferred", "PV1-19", "no visit number: inferred from patient, class and admission");
        Some(Visit { id: identity::inferred_visit_id(key, primary.id), inferred: true })
    }

    #[allow(clippy::too_many_arguments)] // one call
    pub(super) fn visit_facts(
        &mut self,
        block: &Block,
        kind: Kind,
        visit: &Visit,
        number: Id,
        provisional: bool,
        numbers: Vec<VisitNumber>,
        facts: &mut Vec<(Visit, Arc<Fact>)>,
    ) {
        let settings = self.context.settings;
        let movement = block.movement.clone().unwrap_or_default();
        let content = block.visit.clone().unwrap_or_default();
        if kind.begins() {
            for path in self.clocks.impossible_begins(movement.admitted.value()) {
                self.find("admission-time", path, "before 1900, or more than a day after its receipt");
            }
        }
        let instant = |when: Option<&When>| when.and_then(|when| when.lower_bound(&self.clocks.zones));
        let expected = match kind {
            Kind::PreAdmit | Kind::PendAdmit => content.expected_admit.value(),
            Kind::PendDischarge => content.expected_discharge.value(),
            _ => None,
        };
        let expected =
            expected.and_then(|when| Some(Moment { at: instant(Some(when))?, when: when.clone() }));
        let emergency =
            movement.place.value().is_some_and(|place| settings.emergency_units.contains(&place.unit));
        let mut fact = Fact {
            kind,
            moved: self.clocks.moved,
            said: self.clocks.said,
            number,
            provisional,
            source: self.source.to_owned(),
            body: FactBody {
                when: self.clocks.when.clone(),
                event: self.clocks.event.filter(|_| matches!(kind, Kind::Cancel(_))),
                numbers,
                admitted: instant(movement.admitted.value()),
                discharged: instant(movement.discharged.value()),
                expected: expected.or_else(|| self.clocks.expected.clone()),
                emergency,
                inferred: visit.inferred,
                diagnoses: None,
                other: None,
                movement,
                visit: content,
            },
        };
        if visit.inferred && block.diagnoses.is_said() {
            fact.body.diagnoses = Some((self.mode("DG1"), block.diagnoses.clone()));
        }
        let prior = self.prior_visit(block).filter(|old| *old != visit.id);
        if let (Kind::ClassIn | Kind::ClassOut, Some(old)) = (kind, prior) {
            fact.body.other = Some(old);
            let ended = Fact {
                kind: Kind::Continued,
                body: FactBody { when: fact.body.when.clone(), other: Some(visit.id), ..FactBody::default() },
                ..fact.clone()
            };
            facts.push((visit.clone(), Arc::new(fact)));
            facts.push((Visit { id: old, inferred: false }, Arc::new(ended)));
        } else {
            facts.push((visit.clone(), Arc::new(fact)));
        }
    }

    /// The visit that A06 or A07 goes on from (rule 10): MRG-5, or MRG-3 where the account names the visit.
    pub(super) fn prior_visit(&self, block: &Block) -> Option<Id> {
        let prior = block.prior.as_ref()?;
        let account = prior.account.as_ref().filter(|_| self.context.settings.account_is_visit);
        let number = prior.visit.as_ref().or(account).filter(|number| !number.value.is_empty())?;
        Some(identity::encounter_id(self.context.key, &number.authority, &number.value))
    }
}
