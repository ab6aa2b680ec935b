//! What a message says, patient by patient: events about two, merges, moves, beds.

use hilum_chart::family::Head;
use hilum_core::Id;
use hilum_hl7v2::trigger::{Classified, Number as Names};
use hilum_hl7v2::{Effect, Message, Path};

use super::clocks::Clocks;
use super::{Bed, Context, Fault, Person, Says};
use crate::content::{self, Block, Finding, PersonContent, Usage};
use crate::facts::Kind;
use crate::fold::ties::{Tie, TieKind};
use crate::identity::{self, Number};
use crate::settings::{GroupMode, SourceSettings};

/// A message being read.
pub(super) struct Reader<'a> {
    pub(super) context: Context<'a>,
    pub(super) source: &'a str,
    pub(super) clocks: Clocks,
    pub(super) findings: &'a mut Vec<Finding>,
    pub(super) effect: Effect,
    pub(super) says: Says,
}

pub(super) const UNPAIRED: &str = "merge.unpaired";
pub(super) const UNPAIRED_TEXT: &str = "no number of the kind and authority that PID-3 names";

pub(super) type Refusal = Box<(Fault, Option<Number>)>;

impl Reader<'_> {
    pub(super) fn find(&mut self, rule: &'static str, path: &'static str, text: &'static str) {
        self.findings.push(Finding { rule: rule.into(), path: path.to_owned(), text: text.into() });
    }

    /// Whether the message has an effect.
    pub(super) fn run(
        &mut self,
        message: &Message,
        blocks: Vec<Block>,
        classified: &Classified,
    ) -> Result<bool, Refusal> {
        match self.effect {
            Effect::Query
            | Effect::Merge(Names::Account | Names::Visit | Names::AlternateVisit)
            | Effect::Move(Names::Person | Names::Account | Names::AlternateVisit)
            | Effect::ChangeNumber(_) => return Ok(false),
            Effect::BedStatus => return Ok(self.beds(message)),
            Effect::Admit
            | Effect::Transfer
            | Effect::Discharge
            | Effect::Register
            | Effect::PreAdmit
            | Effect::ToInpatient
            | Effect::ToOutpatient
            | Effect::Update
            | Effect::Departing
            | Effect::Arriving
            | Effect::Pending(_)
            | Effect::Cancel(_)
            | Effect::Swap
            | Effect::Merge(Names::Person)
            | Effect::LeaveStart
            | Effect::LeaveReturn
            | Effect::DeleteVisit
            | Effect::Link
            | Effect::Unlink
            | Effect::Person
            | Effect::DeletePerson
            | Effect::Move(Names::Visit)
            | Effect::Attending
            | Effect::Allergies
            | Effect::Consulting => {}
        }
        if blocks.is_empty() {
            return Err(Box::new((Fault::at("identity.none", "PID", "no PID segment"), None)));
        }
        let wants_two = matches!(self.effect, Effect::Swap | Effect::Link | Effect::Unlink);
        if wants_two && blocks.len() != 2 {
            let number = self.number_of(blocks.first());
            let fault = Fault::at("identity.two-wanted", "PID", "the event is about two patients");
            return Err(Box::new((fault, number)));
        }
        let first = self.number_of(blocks.first());
        for block in blocks {
            self.block(block, classified)?;
        }
        // One group that pairs with nothing leaves the others of the message whole.
        if self.effect == Effect::Merge(Names::Person) && self.says.ties.is_empty() {
            self.findings.retain(|finding| finding.rule != UNPAIRED);
            return Err(Box::new((Fault::at(UNPAIRED, "MRG-1", UNPAIRED_TEXT), first)));
        }
        if matches!(self.effect, Effect::Link | Effect::Unlink) {
            let kind = if self.effect == Effect::Link { TieKind::Link } else { TieKind::Unlink };
            if let [one, two] = self.says.persons.as_slice() {
                let (old, new) = (one.number, two.number);
                self.tie(kind, old, new);
            }
        }
        Ok(true)
    }

    pub(super) fn number_of(&self, block: Option<&Block>) -> Option<Number> {
        block.and_then(|block| block.person.primary()).map(|primary| Number::of(self.context.key, primary))
    }

    pub(super) fn tie(&mut self, kind: TieKind, old: Id, new: Id) {
        let message = self.clocks.said.message();
        let id = self
            .context
            .key
            .id("Tie", &[message.as_bytes(), kind.as_str().as_bytes(), old.as_bytes(), new.as_bytes()]);
        self.says.heads.push(vec![Head::patient(old), Head::patient(new)]);
        self.says.ties.push(Tie {
            id,
            kind,
            old,
            new,
            moved: self.clocks.moved,
            said: self.clocks.said,
            source: self.source.to_owned(),
        });
    }

    pub(super) fn beds(&mut self, message: &Message) -> bool {
        let mut place = content::Place::default();
        let mut found = false;
        for npu in message.segments("NPU") {
            let text = |component: u16| npu.field(1).component(component).text().trim().to_owned();
            place.unit = text(1);
            place.room = text(2);
            place.bed = text(3);
            npu.field(1).component(4).text().trim().clone_into(&mut place.facility);
            if place.facility.is_empty() {
                place.facility = self.assumed_facility(message);
            }
            let status = npu.field(2).component(1).text().trim().to_owned();
            if place.bed.is_empty() || status.is_empty() {
                self.find("bed.none", "NPU-1", "no bed or no status");
                continue;
            }
            found = true;
            self.says.beds.push(Bed { place: place.clone(), status, said: self.clocks.said });
        }
        found
    }

    pub(super) fn assumed_facility(&self, message: &Message) -> String {
        let sent = message.get(Path::of("MSH-4.1")).text().trim().to_owned();
        if !sent.is_empty() {
            return sent;
        }
        self.context.settings.authority.clone().unwrap_or_else(|| self.source.to_owned())
    }

    pub(super) fn block(&mut self, block: Block, classified: &Classified) -> Result<(), Refusal> {
        let key = self.context.key;
        let settings = self.context.settings;
        let primary = self.number_of(Some(&block));
        let kind = self.kind();
        let numbers = self.visit_numbers(&block);
        let visit = self.visit(&block, kind, primary.as_ref(), &numbers);
        if kind.is_some_and(|kind| kind != Kind::Update) && visit.is_none() {
            let fault = Fault::at("visit.none", "PV1-19", "nothing names the visit that it is about");
            return Err(Box::new((fault, primary)));
        }
        let number = match (&primary, &visit) {
            (Some(primary), _) => primary.id,
            (None, Some(visit)) if self.may_be_provisional() => identity::provisional_id(key, visit.id),
            (None, _) => {
                let fault = Fault::at(
                    "identity.none",
                    "PID-3",
                    "no primary identifier, and no visit to stand for it",
                );
                return Err(Box::new((fault, None)));
            }
        };
        let further: Vec<Id> = block
            .person
            .identifiers
            .items()
            .iter()
            .filter(|one| one.usage == Usage::Identifying && !is_common(&one.value))
            .map(|one| identity::number_id(key, &one.authority, &one.value))
            .filter(|id| *id != number)
            .collect();
        let mut facts = Vec::with_capacity(1);
        if let (Some(kind), Some(visit)) = (kind, &visit) {
            self.visit_facts(&block, kind, visit, number, primary.is_none(), numbers, &mut facts);
        }
        let mut heads = vec![Head::patient(number)];
        heads.extend(further.iter().map(|id| Head::patient(*id)));
        heads.extend(facts.iter().map(|(visit, _)| Head::encounter(visit.id)));
        heads.extend(visit.iter().map(|visit| Head::encounter(visit.id)));
        self.says.heads.push(heads);
        if self.effect == Effect::Merge(Names::Person) {
            self.merges(&block, number);
        }
        if let (Effect::Move(Names::Visit), Some(prior)) = (self.effect, &block.prior)
            && let Some(old) = prior.identifiers.iter().find(|one| one.usage == Usage::Primary)
        {
            let old = Number::of(key, old);
            self.tie(TieKind::Move, old.id, number);
            self.says.named.push(old);
        }
        let unknown = is_unknown(&block.person, settings);
        if classified.event == "A29" {
            self.find("person.delete", "MSH-9", "the source asks to delete the person");
        }
        self.says.persons.reserve_exact(1);
        self.says.persons.push(Person {
            number,
            identifier: primary.map(|primary| primary.identifier),
            provisional_for: visit
                .as_ref()
                .filter(|_| facts.first().is_some_and(|(_, fact)| fact.provisional))
                .map(|visit| visit.id),
            further,
            said: self.clocks.said,
            unknown,
            next_of_kin: (self.mode("NK1"), block.next_of_kin),
            allergies: (self.mode("AL1"), block.allergies),
            reactions: (self.mode("IAM"), block.adverse_reactions),
            diagnoses: (self.mode("DG1"), block.diagnoses),
            content: block.person,
            visit,
            facts,
            deletes: self.effect == Effect::DeletePerson,
        });
        Ok(())
    }

    /// What a group of segments that was sent means for what was sent before.
    pub(super) fn mode(&self, segment: &str) -> GroupMode {
        self.context.settings.segments.get(segment).copied().unwrap_or(GroupMode::Replace)
    }

    /// MRG-1 against PID-3: pairs of one authority and type (rule 7). Only numbers that make a patient are merged.
    pub(super) fn merges(&mut self, block: &Block, number: Id) {
        let key = self.context.key;
        let old = block.prior.iter().flat_map(|prior| &prior.identifiers);
        let mut paired = false;
        for old in old {
            let new = block.person.identifiers.items().iter().find(|new| {
                new.authority == old.authority && new.kind == old.kind && new.usage != Usage::Attribute
            });
            let Some(new) = new else { continue };
            if new.usage != Usage::Primary {
                self.find("merge.further", "MRG-1", "a further identifier is merged: it makes no patient");
                continue;
            }
            paired = true;
            let old = Number::of(key, old);
            if old.id == number {
                self.find("merge.self", "MRG-1", "the number that is to be merged is the one that stays");
            }
            self.tie(TieKind::Merge, old.id, number);
            self.says.named.push(old);
        }
        if !paired {
            self.find(UNPAIRED, "MRG-1", UNPAIRED_TEXT);
        }
    }
}

/// Further values that are shared by many and identify nobody.
fn is_common(value: &str) -> bool {
    let value = value.trim();
    value.len() < 2 || value.bytes().all(|byte| matches!(byte, b'X' | b'x'))
}

/// Rule 18: PID-31, PID-32, the source's patterns, 1900-01-01.
fn is_unknown(person: &PersonContent, settings: &SourceSettings) -> bool {
    let said = person.identity_unknown.value() == Some(&true);
    let unsure = person.reliability.items().iter().any(|code| code.code == "UA" || code.code == "UD");
    let named = person.names.items().iter().any(|name| {
        let whole = if name.given.is_empty() {
            name.family.clone()
        } else {
            format!("{}^{}", name.family, name.given)
        };
        settings.unknown_names.iter().any(|pattern| pattern == whole.trim())
    });
    let born = person.birth.value().is_some_and(|birth| birth.as_str().starts_with("1900-01-01"));
    said || unsure || named || born
}
