//! From a log record to what it does: pure, and the same for each copy of the same bytes from one source.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use hilum_chart::family::Head;
use hilum_core::{ContentType, Envelope, Id, InstallationKey, Position, RecordId, Timestamp};
use hilum_engines::log::Record;
use hilum_hl7v2::ack::Problem;
use hilum_hl7v2::time::{self, Defaults};
use hilum_hl7v2::trigger::{self, Cancelled, Classified, Number as Names, Pending};
use hilum_hl7v2::{Effect, Flaw, Message, Path};

use crate::accept::{self, Judgement};

use super::{EventTime, Fact, FactBody, Kind, Target, peek};
use crate::content::{
    self, Allergy, Block, Content, Diagnosis, Finding, NextOfKin, PersonContent, Said, Usage, When, Zones,
};
use crate::decision::Decision;
use crate::fold::ties::{Tie, TieKind};
use crate::identity::{self, Number};
use crate::limits::{FINDINGS_MAX, TIME_AHEAD_S};
use crate::order::{Instant, Stamp, Tie as Break};
use crate::settings::{GroupMode, SourceSettings};
use crate::state::{Moment, VisitNumber};

/// A log record, read: everything that follows from its bytes and its source's settings.
#[derive(Debug)]
pub struct Reading {
    /// Where it stands in the log.
    pub position: Position,
    /// The record.
    pub record: RecordId,
    /// The record that it corrects.
    pub replaces: Option<RecordId>,
    /// When it came in.
    pub received: Timestamp,
    /// When it was durable.
    pub durable: Option<Timestamp>,
    /// Its source.
    pub source: String,
    /// Its size.
    pub size_bytes: usize,
    /// The message's id, one for all copies.
    pub message: Id,
    /// Hash of source, MSH-3, MSH-4 and MSH-10; absent where there is no MSH-10.
    pub sender: Option<Id>,
    /// MSH-10.
    pub control_id: String,
    /// `ADT^A01`.
    pub kind: String,
    /// The charset rule that fired.
    pub charset_rule: String,
    /// What it was answered: AA, CA, AR, CR; empty = nothing was asked.
    pub ack: String,
    /// What is odd.
    pub findings: Vec<Finding>,
    /// What it does.
    pub outcome: Outcome,
}

/// What a record does.
#[derive(Debug)]
pub enum Outcome {
    /// Kept, shown, and nothing else: a type or event without effect, or a training message (rule 11).
    Nothing {
        /// Why: `no-effect`, `training`.
        rule: &'static str,
    },
    /// The door said so to the sender.
    Refused(Fault),
    /// Acknowledged, and not in the fold.
    Quarantined {
        /// Why.
        fault: Fault,
        /// The patient whom it names as far as can be seen: the board says "1 message not applied".
        number: Option<Box<Number>>,
    },
    /// It says something.
    Says(Box<Says>),
    /// An operator's decision.
    Decides(Box<Decision>),
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The rule's id.
    pub rule: &'static str,
    /// Where.
    pub path: Option<String>,
    /// What, without patient data.
    pub text: &'static str,
}

impl Fault {
    const fn new(rule: &'static str, text: &'static str) -> Self {
        Self { rule, path: None, text }
    }

    fn at(rule: &'static str, path: &str, text: &'static str) -> Self {
        Self { rule, path: Some(path.to_owned()), text }
    }
}

/// What a message says, patient by patient.
#[derive(Debug, Clone, Default)]
pub struct Says {
    /// One per patient.
    pub persons: Vec<Person>,
    /// Merges, links, moves.
    pub ties: Vec<Tie>,
    /// Numbers that ties name and no person says anything of.
    pub named: Vec<Number>,
    /// Bed status (A20).
    pub beds: Vec<Bed>,
    /// Heads that belong to one family, group by group.
    pub heads: Vec<Vec<Head>>,
}

/// What a message says of one patient.
#[derive(Debug, Clone)]
pub struct Person {
    /// Who: the primary number's id, or a provisional one.
    pub number: Id,
    /// The primary number; absent for a provisional patient.
    pub identifier: Option<content::Identifier>,
    /// A provisional patient's visit.
    pub provisional_for: Option<Id>,
    /// Further identifying numbers.
    pub further: Vec<Id>,
    /// The order of what it says.
    pub said: Stamp,
    /// PID, PD1, ARV.
    pub content: PersonContent,
    /// Whether this is an unknown person (rule 18).
    pub unknown: bool,
    /// NK1, with the source's mode.
    pub next_of_kin: (GroupMode, Said<Vec<NextOfKin>>),
    /// AL1.
    pub allergies: (GroupMode, Said<Vec<Allergy>>),
    /// IAM.
    pub reactions: (GroupMode, Said<Vec<Allergy>>),
    /// DG1, of `visit`.
    pub diagnoses: (GroupMode, Said<Vec<Diagnosis>>),
    /// The visit that it is about.
    pub visit: Option<Visit>,
    /// What it says of visits: the first one of `visit`.
    pub facts: Vec<(Visit, Arc<Fact>)>,
    /// A29.
    pub deletes: bool,
}

/// Whose facts: the key of rows, and by what the visit is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// The key of its facts.
    pub id: Id,
    /// Whether it has no number: the key is the patient number's, and the fold cuts stays.
    pub inferred: bool,
}

/// A bed's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bed {
    /// Where.
    pub place: content::Place,
    /// Table 0116.
    pub status: String,
    /// The order of what was said.
    pub said: Stamp,
}

/// What reading needs beside the record.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The settings that the envelope names.
    pub settings: &'a SourceSettings,
    /// The installation's key.
    pub key: &'a InstallationKey,
    /// A planted fault: the place in the log decides between messages of one time.
    pub arrival: Option<Position>,
}

/// Reads a record. One that makes the program fail is quarantined as what its header says, so that those behind it go
/// on.
pub fn read(record: &Record, context: &Context<'_>) -> Reading {
    catch_unwind(AssertUnwindSafe(|| whole(record, context))).unwrap_or_else(|_| {
        tracing::error!(position = %record.position, "the program failed on a record: it is quarantined");
        failed(record, context)
    })
}

/// What the envelope alone says.
fn of_envelope(record: &Record, context: &Context<'_>) -> Reading {
    let envelope = &record.envelope;
    let is_decision = envelope.content_type == ContentType::Decision;
    Reading {
        position: record.position,
        record: envelope.id,
        replaces: envelope.replaces,
        received: envelope.received,
        durable: record.durable,
        source: envelope.source.as_str().to_owned(),
        size_bytes: envelope.body.len(),
        // Two decisions of the same words are two decisions.
        message: if is_decision {
            envelope.id.as_id()
        } else {
            identity::message_id(context.key, envelope.source.as_str(), envelope.digest.as_bytes())
        },
        sender: None,
        control_id: String::new(),
        kind: if is_decision { "decision".to_owned() } else { String::new() },
        charset_rule: envelope.charset_rule.clone().unwrap_or_default(),
        ack: String::new(),
        findings: Vec::new(),
        outcome: Outcome::Nothing { rule: "no-effect" },
    }
}

/// The reading of a record on which the program failed.
fn failed(record: &Record, context: &Context<'_>) -> Reading {
    let mut reading = of_envelope(record, context);
    let fault = Fault::new("read.panic", "the program failed on it");
    reading.outcome = Outcome::Quarantined { fault, number: None };
    if record.envelope.content_type != ContentType::Decision {
        let header = catch_unwind(AssertUnwindSafe(|| {
            let judgement = accept::judge_headers(&record.envelope.body);
            let mut named = of_envelope(record, context);
            name(&mut named, &judgement, &record.envelope);
            named
        }));
        if let Ok(named) = header {
            reading = Reading { outcome: reading.outcome, ..named };
        }
    }
    reading
}

fn whole(record: &Record, context: &Context<'_>) -> Reading {
    let envelope = &record.envelope;
    let mut reading = of_envelope(record, context);
    reading.outcome = match envelope.content_type {
        ContentType::Decision => match Decision::parse(&envelope.body) {
            Ok(decision) => Outcome::Decides(Box::new(decision)),
            Err(_) => Outcome::Quarantined {
                fault: Fault::new("decision.unreadable", "not a decision that this program knows"),
                number: None,
            },
        },
        ContentType::Hl7v2 | ContentType::Hl7v2Unicode => message(&mut reading, envelope, context),
    };
    reading.findings.truncate(FINDINGS_MAX);
    reading
}

/// The rule by which the door refused.
fn refusal(problem: Problem) -> Fault {
    let path = problem.location.map(|path| path.to_string());
    let rule = match path.as_deref() {
        Some("MSH") => "no-msh",
        Some("MSH-1" | "MSH-2") => "delimiters",
        Some("MSH-9") => "message-type.missing",
        Some("MSH-10") => "control-id.missing",
        _ => "refused",
    };
    Fault { rule, path, text: problem.text }
}

/// What the header calls the message, and what it was answered.
fn name(reading: &mut Reading, judgement: &Judgement<'_>, envelope: &Envelope) {
    let answer = judgement.acknowledgment(envelope.id, envelope.received);
    reading.ack = answer.map_or_else(String::new, |answer| answer.code.as_str().to_owned());
    // Also of a message that cannot be read, so that it is found by what its sender calls it.
    reading.control_id = String::from_utf8_lossy(judgement.headers.control_id()).into_owned();
    let (code, event) = (judgement.headers.message_code(), judgement.headers.event());
    reading.kind = String::from_utf8_lossy(code).into_owned();
    if !event.is_empty() {
        reading.kind = format!("{}^{}", reading.kind, String::from_utf8_lossy(event));
    }
}

fn message(reading: &mut Reading, envelope: &Envelope, context: &Context<'_>) -> Outcome {
    let settings = context.settings;
    let judgement = accept::judge(&envelope.body, envelope.content_type, settings);
    name(reading, &judgement, envelope);
    if let Some(problem) = judgement.refusal {
        return Outcome::Refused(refusal(problem));
    }
    let message = match judgement.parsed {
        Ok(message) => message,
        Err(error) => {
            let path = error.path().map(|path| path.to_string());
            let fault = Fault { rule: error.rule(), path, text: "the bytes cannot be read as a message" };
            let number = peek::number(&envelope.body, &reading.source, context).map(Box::new);
            return Outcome::Quarantined { fault, number };
        }
    };
    let said = |path: Path| message.get(path).text().trim().to_owned();
    reading.control_id = said(Path::of("MSH-10.1"));
    message.charset().rule().as_str().clone_into(&mut reading.charset_rule);
    let classified = trigger::classify(&message);
    reading.kind = classified.kind();
    if !reading.control_id.is_empty() {
        let (application, facility) = (message.get(Path::of("MSH-3")), message.get(Path::of("MSH-4")));
        let parts = [
            envelope.source.as_str().as_bytes(),
            application.raw(),
            facility.raw(),
            reading.control_id.as_bytes(),
        ];
        reading.sender = Some(context.key.id("Sender", &parts));
    }
    for finding in message.findings().into_iter().chain(classified.finding) {
        reading.findings.push(Finding {
            rule: finding.flaw.as_str().into(),
            path: finding.path.map(|path| path.to_string()).unwrap_or_default(),
            text: finding.flaw.text().into(),
        });
    }
    let Some(row) = classified.trigger else { return Outcome::Nothing { rule: "no-effect" } };
    let processing = said(Path::of("MSH-11.1"));
    if matches!(processing.as_str(), "T" | "D") && !settings.accept_training {
        return Outcome::Nothing { rule: "training" };
    }
    let reader = content::Context { settings, source: envelope.source.as_str(), key: context.key };
    let content = Content::read(&message, &reader);
    reading.findings.extend(content.findings);
    if message.charset().flaws().contains(Flaw::CharsetUndecodable) {
        let number = content.blocks.first().and_then(|block| block.person.primary());
        return Outcome::Quarantined {
            fault: Fault {
                rule: Flaw::CharsetUndecodable.as_str(),
                path: message
                    .charset()
                    .broken_at()
                    .and_then(|at| message.path_at(at))
                    .map(|path| path.to_string()),
                text: Flaw::CharsetUndecodable.text(),
            },
            number: number.map(|number| Box::new(Number::of(context.key, number))),
        };
    }
    let mut reader = Reader {
        context: *context,
        source: &reading.source,
        clocks: Clocks::of(&message, context, row.effect, reading.message, &mut reading.findings),
        findings: &mut reading.findings,
        effect: row.effect,
        says: Says::default(),
    };
    match reader.run(&message, content.blocks, &classified) {
        Ok(true) => Outcome::Says(Box::new(reader.says)),
        Ok(false) => Outcome::Nothing { rule: "no-effect" },
        Err(refusal) => {
            let (fault, number) = *refusal;
            Outcome::Quarantined { fault, number: number.map(Box::new) }
        }
    }
}

/// The clocks of one message (rules 1–3).
struct Clocks {
    /// EVN-6 else EVN-2 else MSH-7; of what is announced and of cancels EVN-2 else MSH-7.
    moved: Stamp,
    /// EVN-2 else MSH-7.
    said: Stamp,
    /// The movement's time as sent.
    when: Option<When>,
    /// EVN-6.
    event: Option<EventTime>,
    /// EVN-3, EVN-6 of what is announced.
    expected: Option<Moment>,
    zones: Zones,
}

impl Clocks {
    fn of(
        message: &Message,
        context: &Context<'_>,
        effect: Effect,
        id: Id,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let settings = context.settings;
        let zone = time::zone(&settings.zone).unwrap_or(jiff::tz::TimeZone::UTC);
        let defaults = Defaults::of(message, &zone);
        let text = |path: &str| {
            let path = Path::parse(path).ok()?;
            let text = message.get(path).value()?.trim().to_owned();
            (!text.is_empty()).then_some(text)
        };
        let zones = Zones::of(text("MSH-7.1").as_deref(), &settings.zone);
        let announced = matches!(effect, Effect::PreAdmit | Effect::Pending(_));
        let is_cancel = matches!(effect, Effect::Cancel(_));
        let mut instant = |path: &str| {
            let text = text(path)?;
            if let Ok(time) = time::parse(&text, &defaults) {
                let when = When::read(&text, &zones).ok().map(|(when, _)| when);
                return Some((Instant::from(&time), when));
            }
            findings.push(Finding {
                rule: Flaw::TimeInvalid.as_str().into(),
                path: path.trim_end_matches(".1").to_owned(),
                text: Flaw::TimeInvalid.text().into(),
            });
            None
        };
        let msh7 = instant("MSH-7.1");
        let evn2 = instant("EVN-2.1");
        let evn3 = instant("EVN-3.1");
        let evn6 = instant("EVN-6.1");
        let mut sorts = |time: &Option<(Instant, Option<When>)>, path: &str, planned: bool| {
            let (Some((time, _)), Some((sent, _))) = (time, &msh7) else { return true };
            let ahead = time.at.micros_since(sent.at) > TIME_AHEAD_S * 1_000_000;
            if ahead && !planned {
                findings.push(Finding {
                    rule: "time-ahead".into(),
                    path: path.to_owned(),
                    text: "more than 15 min ahead of the message's own time: does not sort".into(),
                });
            }
            !ahead || planned
        };
        let evn2_sorts = sorts(&evn2, "EVN-2", false);
        let evn6_sorts = sorts(&evn6, "EVN-6", announced || is_cancel);
        let said = evn2.as_ref().filter(|_| evn2_sorts).or(msh7.as_ref());
        let moved = if announced || is_cancel { said } else { evn6.as_ref().filter(|_| evn6_sorts).or(said) };
        let break_by = Break {
            sequence: match context.arrival {
                Some(arrival) => arrival.offset + 1,
                None => text("MSH-13").and_then(|text| text.parse().ok()).unwrap_or(0),
            },
            control: if settings.monotone_control_ids {
                text("MSH-10.1").and_then(|text| text.parse().ok()).unwrap_or(0)
            } else {
                0
            },
            rank: effect.rank(),
            message: id,
        };
        let moment = |time: &(Instant, Option<When>)| Some(Moment { at: time.0.at, when: time.1.clone()? });
        Self {
            moved: Stamp::new(moved.map(|(time, _)| *time), break_by),
            said: Stamp::new(said.map(|(time, _)| *time), break_by),
            when: moved.and_then(|(_, when)| when.clone()),
            event: evn6.as_ref().map(|(time, _)| EventTime::from(*time)),
            expected: evn3.as_ref().or(evn6.as_ref()).filter(|_| announced).and_then(moment),
            zones,
        }
    }
}

struct Reader<'a> {
    context: Context<'a>,
    source: &'a str,
    clocks: Clocks,
    findings: &'a mut Vec<Finding>,
    effect: Effect,
    says: Says,
}

const UNPAIRED: &str = "merge.unpaired";
const UNPAIRED_TEXT: &str = "no number of the kind and authority that PID-3 names";

type Refusal = Box<(Fault, Option<Number>)>;

impl Reader<'_> {
    fn find(&mut self, rule: &'static str, path: &'static str, text: &'static str) {
        self.findings.push(Finding { rule: rule.into(), path: path.to_owned(), text: text.into() });
    }

    /// Whether the message has an effect.
    fn run(
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

    fn number_of(&self, block: Option<&Block>) -> Option<Number> {
        block.and_then(|block| block.person.primary()).map(|primary| Number::of(self.context.key, primary))
    }

    fn tie(&mut self, kind: TieKind, old: Id, new: Id) {
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

    fn beds(&mut self, message: &Message) -> bool {
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

    fn assumed_facility(&self, message: &Message) -> String {
        let sent = message.get(Path::of("MSH-4.1")).text().trim().to_owned();
        if !sent.is_empty() {
            return sent;
        }
        self.context.settings.authority.clone().unwrap_or_else(|| self.source.to_owned())
    }

    fn block(&mut self, block: Block, classified: &Classified) -> Result<(), Refusal> {
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
    fn mode(&self, segment: &str) -> GroupMode {
        self.context.settings.segments.get(segment).copied().unwrap_or(GroupMode::Replace)
    }

    /// What the event does to a visit; absent for what is about persons alone.
    fn kind(&self) -> Option<Kind> {
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
    fn may_be_provisional(&self) -> bool {
        self.kind().is_some() && self.effect != Effect::Move(Names::Visit)
    }

    fn visit_numbers(&self, block: &Block) -> Vec<VisitNumber> {
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

    fn visit(
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
    fn visit_facts(
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
    fn prior_visit(&self, block: &Block) -> Option<Id> {
        let prior = block.prior.as_ref()?;
        let account = prior.account.as_ref().filter(|_| self.context.settings.account_is_visit);
        let number = prior.visit.as_ref().or(account).filter(|number| !number.value.is_empty())?;
        Some(identity::encounter_id(self.context.key, &number.authority, &number.value))
    }

    /// MRG-1 against PID-3: pairs of one authority and type (rule 7). Only numbers that make a patient are merged.
    fn merges(&mut self, block: &Block, number: Id) {
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
