//! From a log record to what it does: pure, and the same for each copy of the same bytes from one source.

mod clocks;
mod reader;
mod visits;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use hilum_chart::family::Head;
use hilum_core::{ContentType, Digest, Envelope, Id, InstallationKey, Position, RecordId, Timestamp};
use hilum_engines::log::Record;
use hilum_hl7v2::ack::{ErrorCode, Headers, Problem};
use hilum_hl7v2::trigger::{self, Classified};
use hilum_hl7v2::{Flaw, Path};

use self::clocks::Clocks;
pub use self::clocks::ahead_s;
use self::reader::Reader;
use super::{Fact, peek};
use crate::accept::{self, Judgement};
use crate::content::{self, Allergy, Content, Diagnosis, Finding, NextOfKin, PersonContent, Said};
use crate::control_id;
use crate::decision::Decision;
use crate::fold::ties::Tie;
use crate::identity::{self, Number};
use crate::limits::{FINDINGS_MAX, FRAME_CONTROL_IDS_MAX};
use crate::order::Stamp;
use crate::settings::{GroupMode, SourceSettings};

/// A log record, read: everything that follows from its bytes and its source's settings.
#[derive(Debug)]
pub struct Reading {
    /// Where it stands in the log.
    pub position: Position,
    /// The record.
    pub record: RecordId,
    /// The record that it corrects.
    pub replaces: Option<RecordId>,
    /// The source's settings that applied.
    pub settings_sha: Digest,
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
    /// By what else it is found: MSH-10 of the headers behind the first one, where there are several in one frame; what
    /// its answer names, where that is another.
    pub further_control_ids: BTreeSet<String>,
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
    /// A fault of the message as a whole.
    pub const fn new(rule: &'static str, text: &'static str) -> Self {
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
        set_aside(record, context, Fault::new("read.panic", "the program failed on it"))
    })
}

/// The rule that quarantines a frame with several headers.
const SECOND_HEADER_RULE: &str = "second-msh";

/// What the envelope alone says.
fn of_envelope(record: &Record, context: &Context<'_>) -> Reading {
    let envelope = &record.envelope;
    let is_decision = envelope.content_type == ContentType::Decision;
    Reading {
        position: record.position,
        record: envelope.id,
        replaces: envelope.replaces,
        settings_sha: envelope.settings_sha,
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
        further_control_ids: BTreeSet::new(),
        kind: if is_decision { "decision".to_owned() } else { String::new() },
        charset_rule: envelope.charset_rule.clone().unwrap_or_default(),
        ack: String::new(),
        findings: Vec::new(),
        outcome: Outcome::Nothing { rule: "no-effect" },
    }
}

/// Whether it was meant as an ADT message of an event that cannot be made out. An event of a right form that is not in
/// the table (`Z01`) is somebody's own, and has no effect.
fn is_garbled(classified: &Classified) -> bool {
    let is_event = |event: &str| {
        let bytes = event.as_bytes();
        bytes.len() == 3 && bytes[0].is_ascii_uppercase() && bytes[1..].iter().all(u8::is_ascii_digit)
    };
    match classified.code.as_str() {
        "ADT" => !is_event(&classified.event),
        code => code.starts_with("ADT") || code.eq_ignore_ascii_case("ADT"),
    }
}

/// The reading of a record that is not to be read: what its header says, and why.
pub fn set_aside(record: &Record, context: &Context<'_>, fault: Fault) -> Reading {
    let mut reading = of_envelope(record, context);
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
    if let Outcome::Quarantined { fault, .. } = &reading.outcome
        && fault.rule == SECOND_HEADER_RULE
    {
        reading.further_control_ids = further_control_ids(&envelope.body);
    }
    reading.findings.truncate(FINDINGS_MAX);
    reading
}

/// MSH-10 of each header but the first, as far as so many are kept.
fn further_control_ids(body: &[u8]) -> BTreeSet<String> {
    let segments = body.split(|byte| matches!(byte, b'\r' | b'\n'));
    let headers = segments.filter(|segment| segment.starts_with(b"MSH")).skip(1);
    headers
        .map(|header| String::from_utf8_lossy(Headers::peek(header).control_id()).into_owned())
        .filter(|control_id| !control_id.is_empty())
        .take(FRAME_CONTROL_IDS_MAX)
        .collect()
}

/// The rule by which the door refused.
fn refusal(problem: Problem) -> Fault {
    let path = problem.location.map(|path| path.to_string());
    let rule = match path.as_deref() {
        Some("MSH") => "no-msh",
        Some("MSH-1" | "MSH-2") => "delimiters",
        Some("MSH-9") => "message-type.missing",
        Some("MSH-10") => match problem.code {
            ErrorCode::ValueTooLong => "control-id.too-long",
            ErrorCode::DataType => "control-id.bytes",
            _ => "control-id.missing",
        },
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

/// What a finding says of bytes that are no message; its rule says why.
pub(crate) const UNREAD: &str = "the bytes cannot be read as a message";

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
            let fault = Fault { rule: error.rule(), path, text: UNREAD };
            let number = peek::number(&envelope.body, &reading.source, context).map(Box::new);
            return Outcome::Quarantined { fault, number };
        }
    };
    let said = |path: Path| message.get(path).text().trim().to_owned();
    reading.control_id = control_id::of(&message);
    reading.further_control_ids.extend(control_id::answered_otherwise(&message));
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
    let Some(row) = classified.trigger else {
        if !is_garbled(&classified) {
            return Outcome::Nothing { rule: "no-effect" };
        }
        let fault = Fault {
            rule: "event.unknown",
            path: Some("MSH-9".to_owned()),
            text: "it is an ADT message, and which one is not said",
        };
        let number = peek::number(&envelope.body, &reading.source, context).map(Box::new);
        return Outcome::Quarantined { fault, number };
    };
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
        clocks: Clocks::of(
            &message,
            context,
            row.effect,
            reading.message,
            reading.received,
            &mut reading.findings,
        ),
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
