//! One family in one batch: its rows, loaded as they are asked for; what messages say, put in; what follows, folded and
//! written. Everything here is a function of the family's set of rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use hilum_chart::family::Families;
use hilum_chart::projection::{Changes, Reads, Rows};
use hilum_core::{Id, InstallationKey, Timestamp};
use hilum_engines::tables::{Scan, Table, Value};

use crate::board;
use crate::content::{Allergy, Diagnosis, Identifier, NextOfKin, Said, Words};
use crate::facts::read::{Person, Says, Visit};
use crate::facts::{Fact, FactBody, Kind};
use crate::fold::content::{GroupRegister, PersonRegister};
use crate::fold::encounter;
use crate::fold::ties::{Refusal, Survivors, Tie, TieKind};
use crate::identity;
use crate::limits::{CARRIED_MAX, CARRIERS_MAX};
use crate::order::Stamp;
use crate::state::{EncounterState, Mark, PatientState, Standing, Status};
use crate::tables::{BOARD, CARRIER, CONTENT, DECIDED, ENCOUNTER, FACT, NUMBER, TIE, WORK};

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

/// A row of [`NUMBER`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct NumberRow {
    identifier: Option<Identifier>,
    visit: Option<Id>,
    deleted: Option<Stamp>,
    not_applied: BTreeSet<Id>,
    /// Further identifiers that it was ever named with.
    carries: BTreeSet<Id>,
    marks: Vec<String>,
    survivor: Option<Id>,
}

/// What of a row of [`ENCOUNTER`] the next fold needs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EncounterRow {
    visit: Id,
    number: Id,
    on_board: bool,
    in_bed: bool,
    marks: Vec<String>,
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
    /// Encounter ids by the visit that their facts are kept under.
    pub of_visit: BTreeMap<Id, Vec<Id>>,
    /// Patients of `encounters` who are confidential.
    pub confidential: BTreeSet<Id>,
}

/// One family.
pub struct Kin<'a> {
    sight: Sight<'a>,
    id: Id,
    facts: BTreeMap<Id, BTreeMap<Stamp, Fact>>,
    /// Inferred visits, with the class that their facts were gathered by.
    classes: BTreeMap<Id, String>,
    persons: BTreeMap<Id, PersonRegister>,
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
    /// Ties were added, or a person was deleted: all of the family is folded again.
    whole: bool,
}

fn text(value: Option<&Value>) -> &str {
    match value {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

fn id(value: Option<&Value>) -> Option<Id> {
    match value {
        Some(Value::Id(id)) => Some(*id),
        _ => None,
    }
}

fn stamp(value: Option<&Value>) -> Option<Stamp> {
    match value {
        Some(Value::Bytes(bytes)) => Stamp::from_slice(bytes),
        _ => None,
    }
}

fn flag(value: Option<&Value>) -> bool {
    matches!(value, Some(Value::Bool(true)))
}

fn number_of(row: &[Value]) -> NumberRow {
    NumberRow {
        identifier: serde_json::from_str(text(row.get(3))).ok(),
        visit: id(row.get(4)),
        deleted: stamp(row.get(5)),
        not_applied: ids_of(text(row.get(6))),
        marks: marks_of(text(row.get(7))),
        carries: ids_of(text(row.get(8))),
        survivor: id(row.get(9)),
    }
}

fn encounter_of(row: &[Value]) -> Option<EncounterRow> {
    Some(EncounterRow {
        visit: id(row.get(2))?,
        number: id(row.get(4))?,
        on_board: flag(row.get(7)),
        in_bed: flag(row.get(8)),
        marks: marks_of(text(row.get(12))),
    })
}

/// The identifier that stands is the one with the least text: which message named it first does not matter.
fn set_identifier(row: &mut NumberRow, identifier: &Identifier) {
    let weight = |one: &Identifier| serde_json::to_string(one).unwrap_or_default();
    let stands =
        row.identifier.as_ref().is_some_and(|old| old == identifier || weight(old) <= weight(identifier));
    if !stands {
        row.identifier = Some(identifier.clone());
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkState {
    Open,
    Decided,
    Gone,
}

impl WorkState {
    const fn open_while(holds: bool) -> Self {
        if holds { Self::Open } else { Self::Gone }
    }
}

/// An item of the work queue.
struct Work<'s> {
    id: Id,
    kind: &'static str,
    state: WorkState,
    at: Option<Timestamp>,
    source: &'s str,
    left: Option<Id>,
    right: Option<Id>,
    encounter: Option<Id>,
    message: Option<Id>,
    detail: String,
}

fn stamp_value(stamp: &Stamp) -> Value {
    Value::Bytes(Bytes::copy_from_slice(stamp.as_bytes()))
}

fn ids_json<'a>(ids: impl IntoIterator<Item = &'a Id>) -> Value {
    let ids: Vec<String> = ids.into_iter().map(Id::to_string).collect();
    Value::Text(serde_json::to_string(&ids).unwrap_or_default())
}

fn ids_of(text: &str) -> BTreeSet<Id> {
    serde_json::from_str::<Vec<String>>(text)
        .unwrap_or_default()
        .iter()
        .filter_map(|id| id.parse().ok())
        .collect()
}

fn marks_of(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_default()
}

/// The board rows of a patient: read where a name may change without a fold of each visit.
fn board_of(patient: Id) -> Scan {
    Scan::by_index(BOARD.name, "by_patient", vec![Value::Id(patient)])
}

fn fact_of(row: &[Value]) -> Option<Fact> {
    let [_, _, moved, kind, said, number, provisional, source, body] = row else { return None };
    Some(Fact {
        kind: Kind::parse(text(Some(kind)))?,
        moved: stamp(Some(moved))?,
        said: stamp(Some(said))?,
        number: id(Some(number))?,
        provisional: flag(Some(provisional)),
        source: text(Some(source)).to_owned(),
        body: serde_json::from_str::<FactBody>(text(Some(body))).unwrap_or_default(),
    })
}

/// A row of [`TIE`].
pub(crate) fn tie_of(row: &[Value]) -> Option<Tie> {
    let [_, tie, kind, old, new, moved, said, source] = row else { return None };
    Some(Tie {
        id: id(Some(tie))?,
        kind: TieKind::parse(text(Some(kind)))?,
        old: id(Some(old))?,
        new: id(Some(new))?,
        moved: stamp(Some(moved))?,
        said: stamp(Some(said))?,
        source: text(Some(source)).to_owned(),
    })
}

/// Names the rows that folding what a message says will need. Called in each round: what can be asked for depends on
/// what was read before.
pub fn needs(sight: &Sight<'_>, says: &Says, reads: &mut Reads) {
    let Sight { families, have, .. } = *sight;
    for person in &says.persons {
        let Some(family) = families.of(person.number) else { continue };
        families.want(&TIE, family, &[], reads);
        want_number(sight, family, person.number, reads);
        for (part, is_said) in parts_said(person) {
            if is_said {
                families.want_row(
                    &CONTENT,
                    family,
                    &[Value::Id(person.number), Value::Text(part.as_str().into())],
                    reads,
                );
            }
        }
        families.want(&CARRIER, family, &[], reads);
        reads.scan(board_of(person.number));
        for (visit, fact) in &person.facts {
            want_visit(sight, family, visit.id, visit.inferred_class.is_some(), reads);
            if fact.kind == Kind::DeleteVisit {
                reads.get(DECIDED.name, vec![Value::Id(work_id(sight.key, "closed-visit", &[visit.id]))]);
            }
        }
        let stored = [Value::Id(person.number), Value::Text(Part::Person.as_str().into())];
        let flips = speaks_for_visits(person)
            && families.row(&CONTENT, family, &stored, have).is_some_and(|row| {
                let before: PersonRegister = serde_json::from_str(text(row.get(3))).unwrap_or_default();
                let mut after = before.clone();
                after.say(person.said, "", person.unknown, &person.content);
                for_visits(&before) != for_visits(&after)
            });
        if person.deletes || flips {
            want_whole(sight, family, reads);
        }
        // Further rounds: what the rows of the ones before name.
        for row in families.rows(&ENCOUNTER, family, &[], have).unwrap_or_default() {
            let asked = marks_of(text(row.get(12))).contains(&Mark::DeleteAsked.id());
            if let Some(encounter) = id(row.get(1)).filter(|_| asked || person.deletes) {
                reads.get(DECIDED.name, vec![Value::Id(work_id(sight.key, "closed-visit", &[encounter]))]);
            }
        }
        for (visit, _) in &person.facts {
            let owners = families.rows(&FACT, family, &[Value::Id(visit.id)], have).unwrap_or_default();
            let mut mixed = BTreeSet::new();
            for row in &owners {
                mixed.insert(flag(row.get(6)));
                if let Some(owner) = id(row.get(5)).filter(|owner| *owner != person.number) {
                    want_number(sight, family, owner, reads);
                }
            }
            mixed.extend(person.facts.iter().map(|(_, fact)| fact.provisional));
            if mixed.len() == 2 {
                want_whole(sight, family, reads);
            }
        }
        // Who shares an identifier with this one may get a mark, or lose it.
        let row = families.row(&NUMBER, family, &[Value::Id(person.number)], have);
        let mut identifiers = row.map(|row| ids_of(text(row.get(8)))).unwrap_or_default();
        identifiers.extend(person.further.iter().chain([&person.number]));
        let carriers = families.rows(&CARRIER, family, &[], have).unwrap_or_default();
        for pair in carriers.iter().map(|row| [id(row.get(1)), id(row.get(2))]) {
            for number in pair.into_iter().flatten() {
                families.want_row(&NUMBER, family, &[Value::Id(number)], reads);
            }
            if pair[0].is_some_and(|identifier| identifiers.contains(&identifier)) {
                for other in pair.into_iter().flatten() {
                    want_number(sight, family, other, reads);
                    reads.scan(board_of(other));
                }
            }
        }
        for further in &person.further {
            want_number(sight, family, *further, reads);
            reads.scan(board_of(*further));
        }
        let ties = families.rows(&TIE, family, &[], have).unwrap_or_default();
        if !ties.is_empty() {
            for table in [&NUMBER, &CONTENT, &ENCOUNTER] {
                families.want(table, family, &[], reads);
            }
            for row in &ties {
                for number in [id(row.get(3)), id(row.get(4))].into_iter().flatten() {
                    reads.scan(board_of(number));
                    for class in person.facts.iter().filter_map(|(visit, _)| visit.inferred_class.as_deref())
                    {
                        let bucket = identity::inferred_visit_id(sight.key, number, class);
                        families.want(&FACT, family, &[Value::Id(bucket)], reads);
                    }
                }
                if let Some(tie) = id(row.get(1)) {
                    reads.get(DECIDED.name, vec![Value::Id(work_id(sight.key, "merge", &[tie]))]);
                }
            }
        }
    }
    for tie in &says.ties {
        if let Some(family) = families.of(tie.old) {
            want_whole(sight, family, reads);
            reads.get(DECIDED.name, vec![Value::Id(work_id(sight.key, "merge", &[tie.id]))]);
        }
    }
}

/// Wants all of the family of a number.
pub fn needs_whole(sight: &Sight<'_>, number: Id, reads: &mut Reads) {
    if let Some(family) = sight.families.of(number) {
        want_whole(sight, family, reads);
    }
}

/// Wants what a mark on a number needs: a quarantined message, or one that is replaced.
pub fn needs_mark(sight: &Sight<'_>, number: Id, reads: &mut Reads) {
    let Some(family) = sight.families.of(number) else { return };
    want_number(sight, family, number, reads);
    reads.scan(board_of(number));
    sight.families.want(&TIE, family, &[], reads);
    sight.families.want(&CARRIER, family, &[], reads);
    let carriers = sight.families.rows(&CARRIER, family, &[], sight.have).unwrap_or_default();
    for other in carriers.iter().flat_map(|row| [id(row.get(1)), id(row.get(2))]).flatten() {
        sight.families.want_row(&NUMBER, family, &[Value::Id(other)], reads);
    }
    let ties = sight.families.rows(&TIE, family, &[], sight.have).unwrap_or_default();
    if !ties.is_empty() {
        for table in [&NUMBER, &CONTENT, &ENCOUNTER] {
            sight.families.want(table, family, &[], reads);
        }
        for number in ties.iter().flat_map(|row| [id(row.get(3)), id(row.get(4))]).flatten() {
            reads.scan(board_of(number));
        }
    }
}

fn want_number(sight: &Sight<'_>, family: Id, number: Id, reads: &mut Reads) {
    sight.families.want_row(&NUMBER, family, &[Value::Id(number)], reads);
    let person = [Value::Id(number), Value::Text(Part::Person.as_str().into())];
    sight.families.want_row(&CONTENT, family, &person, reads);
}

fn want_visit(sight: &Sight<'_>, family: Id, visit: Id, inferred: bool, reads: &mut Reads) {
    sight.families.want(&FACT, family, &[Value::Id(visit)], reads);
    let diagnoses = [Value::Id(visit), Value::Text(Part::Diagnoses.as_str().into())];
    sight.families.want_row(&CONTENT, family, &diagnoses, reads);
    if inferred {
        sight.families.want(&ENCOUNTER, family, &[], reads);
    } else {
        sight.families.want_row(&ENCOUNTER, family, &[Value::Id(visit)], reads);
        let row = sight.families.row(&ENCOUNTER, family, &[Value::Id(visit)], sight.have);
        if row.is_some_and(|row| marks_of(text(row.get(12))).contains(&Mark::DeleteAsked.id())) {
            reads.get(DECIDED.name, vec![Value::Id(work_id(sight.key, "closed-visit", &[visit]))]);
        }
    }
}

fn want_whole(sight: &Sight<'_>, family: Id, reads: &mut Reads) {
    for table in crate::tables::OF_FAMILY {
        sight.families.want(table, family, &[], reads);
    }
}

/// What of a person's record shows in resources of visits: a change of it folds all of them again.
fn for_visits(register: &PersonRegister) -> (bool, bool) {
    let whole = register.whole();
    (whole.is_confidential(), whole.is_dead())
}

/// Whether a message may change that.
fn speaks_for_visits(person: &Person) -> bool {
    let content = &person.content;
    content.protected.is_said()
        || content.restrictions.is_said()
        || content.died.is_said()
        || content.dead.is_said()
}

fn parts_said(person: &Person) -> [(Part, bool); 4] {
    [
        (Part::Person, true),
        (Part::NextOfKin, person.next_of_kin.1.is_said()),
        (Part::Allergies, person.allergies.1.is_said() || person.reactions.1.is_said()),
        (Part::Reactions, person.allergies.1.is_said() || person.reactions.1.is_said()),
    ]
}

/// The id of a work item: a function of what it is about.
pub fn work_id(key: &InstallationKey, kind: &str, about: &[Id]) -> Id {
    let mut parts: Vec<&[u8]> = vec![kind.as_bytes()];
    parts.extend(about.iter().map(|id| id.as_bytes().as_slice()));
    key.id("Work", &parts)
}

impl<'a> Kin<'a> {
    /// A family of the batch.
    pub fn new(sight: Sight<'a>, id: Id) -> Self {
        let mut wholes = HashMap::new();
        for table in crate::tables::OF_FAMILY {
            if let Some(rows) = sight.families.rows(table, id, &[], sight.have) {
                let keyed =
                    rows.into_iter().map(|row| (row.get(1..table.key_len).unwrap_or_default().to_vec(), row));
                wholes.insert(table.name, keyed.collect());
            }
        }
        let mut kin = Self {
            sight,
            id,
            wholes,
            facts: BTreeMap::new(),
            classes: BTreeMap::new(),
            persons: BTreeMap::new(),
            relatives: BTreeMap::new(),
            allergies: BTreeMap::new(),
            diagnoses: BTreeMap::new(),
            ties: BTreeMap::new(),
            numbers: BTreeMap::new(),
            carriers: BTreeMap::new(),
            encounters: BTreeMap::new(),
            new_facts: BTreeSet::new(),
            new_ties: BTreeSet::new(),
            new_carriers: BTreeSet::new(),
            gone_facts: BTreeSet::new(),
            gone_ties: BTreeSet::new(),
            visits: BTreeSet::new(),
            said: BTreeSet::new(),
            parts: BTreeSet::new(),
            dirty_numbers: BTreeSet::new(),
            whole: false,
        };
        let ties = kin.rows(&TIE, &[]);
        kin.ties = ties.iter().filter_map(|row| tie_of(row)).map(|tie| (tie.id, tie)).collect();
        for row in kin.rows(&ENCOUNTER, &[]) {
            if let (Some(encounter), Some(row)) = (self::id(row.get(1)), encounter_of(&row)) {
                kin.encounters.insert(encounter, Some(row));
            }
        }
        kin
    }

    fn rows(&self, table: &'static Table, rest: &[Value]) -> Vec<Vec<Value>> {
        if let Some(rows) = self.wholes.get(table.name) {
            let from = rows.range(rest.to_vec()..);
            return from.take_while(|(key, _)| key.starts_with(rest)).map(|(_, row)| row.clone()).collect();
        }
        self.sight.families.rows(table, self.id, rest, self.sight.have).unwrap_or_default()
    }

    fn row(&self, table: &'static Table, rest: &[Value]) -> Option<Vec<Value>> {
        let row = self.sight.families.row(table, self.id, rest, self.sight.have);
        row.or_else(|| self.wholes.get(table.name)?.get(rest).cloned())
    }

    // ---- loading

    fn visit_facts(&mut self, visit: Id) -> &mut BTreeMap<Stamp, Fact> {
        if !self.facts.contains_key(&visit) {
            let rows = self.rows(&FACT, &[Value::Id(visit)]);
            let facts: BTreeMap<Stamp, Fact> =
                rows.iter().filter_map(|row| fact_of(row)).map(|fact| (fact.moved, fact)).collect();
            if let Some(class) = facts.values().find_map(|fact| fact.body.inferred_class.clone()) {
                self.classes.insert(visit, class);
            }
            self.facts.insert(visit, facts);
        }
        self.facts.entry(visit).or_default()
    }

    fn register<T: serde::de::DeserializeOwned + Default>(&self, owner: Id, part: Part) -> T {
        let row = self.row(&CONTENT, &[Value::Id(owner), Value::Text(part.as_str().to_owned())]);
        row.and_then(|row| serde_json::from_str(text(row.get(3))).ok()).unwrap_or_default()
    }

    fn person(&mut self, number: Id) -> &mut PersonRegister {
        if !self.persons.contains_key(&number) {
            let register = self.register(number, Part::Person);
            self.persons.insert(number, register);
        }
        self.persons.entry(number).or_default()
    }

    fn kin_register(&mut self, number: Id) -> &mut GroupRegister<NextOfKin> {
        if !self.relatives.contains_key(&number) {
            let register = self.register(number, Part::NextOfKin);
            self.relatives.insert(number, register);
        }
        self.relatives.entry(number).or_default()
    }

    fn allergy_register(&mut self, number: Id, part: Part) -> &mut GroupRegister<Allergy> {
        if !self.allergies.contains_key(&(number, part)) {
            let register = self.register(number, part);
            self.allergies.insert((number, part), register);
        }
        self.allergies.entry((number, part)).or_default()
    }

    fn diagnosis_register(&mut self, visit: Id) -> &mut GroupRegister<Diagnosis> {
        if !self.diagnoses.contains_key(&visit) {
            let register = self.register(visit, Part::Diagnoses);
            self.diagnoses.insert(visit, register);
        }
        self.diagnoses.entry(visit).or_default()
    }

    fn number(&mut self, number: Id) -> &mut NumberRow {
        if !self.numbers.contains_key(&number) {
            let row = self.row(&NUMBER, &[Value::Id(number)]).map(|row| number_of(&row)).unwrap_or_default();
            self.numbers.insert(number, row);
        }
        self.numbers.entry(number).or_default()
    }

    fn carriers(&mut self, identifier: Id) -> &mut BTreeSet<Id> {
        if !self.carriers.contains_key(&identifier) {
            let rows = self.rows(&CARRIER, &[Value::Id(identifier)]);
            self.carriers.insert(identifier, rows.iter().filter_map(|row| id(row.get(2))).collect());
        }
        self.carriers.entry(identifier).or_default()
    }

    fn encounter_row(&mut self, encounter: Id) -> Option<EncounterRow> {
        if !self.encounters.contains_key(&encounter) {
            let row = self.row(&ENCOUNTER, &[Value::Id(encounter)]).and_then(|row| encounter_of(&row));
            self.encounters.insert(encounter, row);
        }
        self.encounters.get(&encounter).cloned().flatten()
    }

    // ---- what messages say

    /// Takes in what a message says of a patient of this family.
    pub fn say(&mut self, person: &Person, source: &str) {
        let number = person.number;
        let said = person.said;
        self.said.insert(number);
        let register = self.person(number);
        let before = speaks_for_visits(person).then(|| for_visits(register));
        register.say(said, source, person.unknown, &person.content);
        let after = before.map(|_| for_visits(register));
        self.whole |= before != after && self.wholes.contains_key(FACT.name);
        self.parts.insert((number, Part::Person));
        if person.next_of_kin.1.is_said() {
            let (mode, group) = &person.next_of_kin;
            self.kin_register(number).say(said, source, *mode, group);
            self.parts.insert((number, Part::NextOfKin));
        }
        for (part, (mode, group)) in
            [(Part::Allergies, &person.allergies), (Part::Reactions, &person.reactions)]
        {
            if group.is_said() {
                self.allergy_register(number, part).say(said, source, *mode, group);
                self.parts.insert((number, part));
            }
        }
        let (mode, group) = &person.diagnoses;
        if let Some((visit, _)) = person.facts.first().filter(|_| group.is_said()) {
            self.diagnosis_register(visit.id).say(said, source, *mode, group);
            self.parts.insert((visit.id, Part::Diagnoses));
        }
        let row = self.number(number);
        let before = row.clone();
        if let Some(identifier) = &person.identifier {
            set_identifier(row, identifier);
        }
        row.visit = row.visit.or(person.provisional_for);
        if person.deletes {
            row.deleted = row.deleted.max(Some(said));
        }
        row.carries.extend(&person.further);
        while row.carries.len() > CARRIED_MAX {
            row.carries.pop_last();
        }
        if *row != before {
            self.dirty_numbers.insert(number);
        }
        self.whole |= person.deletes;
        for further in &person.further {
            // One that is somebody's primary number is shared with that patient; two carriers share it.
            if self.number(*further).identifier.is_some() {
                self.said.insert(*further);
            }
            let carriers = self.carriers(*further);
            if carriers.len() < CARRIERS_MAX && carriers.insert(number) {
                let first_two: Vec<Id> = carriers.iter().copied().take(3).collect();
                if first_two.len() == 2 {
                    self.said.extend(first_two);
                }
                self.new_carriers.insert((*further, number));
            }
        }
        if before == NumberRow::default() {
            let carriers: Vec<Id> = self.carriers(number).iter().copied().take(2).collect();
            self.said.extend(carriers);
        }
        for (visit, fact) in &person.facts {
            self.put_fact(visit, fact);
        }
    }

    fn put_fact(&mut self, visit: &Visit, fact: &Fact) {
        self.visits.insert(visit.id);
        if let Some(class) = &visit.inferred_class {
            self.classes.insert(visit.id, class.clone());
        }
        if self.visit_facts(visit.id).insert(fact.moved, fact.clone()).is_none() {
            self.new_facts.insert((visit.id, fact.moved));
        }
    }

    /// Takes in a merge, link, move or decision.
    pub fn tie(&mut self, tie: &Tie) {
        self.whole = true;
        self.said.insert(tie.old);
        self.said.insert(tie.new);
        if self.ties.insert(tie.id, tie.clone()).as_ref() != Some(tie) {
            self.new_ties.insert(tie.id);
        }
    }

    /// Takes in a number that a tie names.
    pub fn name(&mut self, number: Id, identifier: &Identifier) {
        let row = self.number(number);
        let before = row.clone();
        set_identifier(row, identifier);
        if *row != before {
            self.dirty_numbers.insert(number);
        }
        self.said.insert(number);
    }

    /// Marks a number for a message in quarantine, or takes the mark back.
    pub fn not_applied(&mut self, number: Id, message: Id, is_out: bool) {
        let row = self.number(number);
        let changed = if is_out { row.not_applied.insert(message) } else { row.not_applied.remove(&message) };
        if changed {
            self.dirty_numbers.insert(number);
        }
        self.said.insert(number);
    }

    /// Takes back what a message said of visits and ties: a correction replaces it.
    pub fn take_back(&mut self, message: Id) {
        self.whole = true;
        self.load_whole();
        for (visit, facts) in &mut self.facts {
            let gone: Vec<Stamp> = facts.keys().copied().filter(|stamp| stamp.message() == message).collect();
            for stamp in gone {
                facts.remove(&stamp);
                if !self.new_facts.remove(&(*visit, stamp)) {
                    self.gone_facts.insert((*visit, stamp));
                }
            }
        }
        let gone: Vec<Id> =
            self.ties.values().filter(|tie| tie.said.message() == message).map(|tie| tie.id).collect();
        for tie in gone {
            self.ties.remove(&tie);
            if !self.new_ties.remove(&tie) {
                self.gone_ties.insert(tie);
            }
        }
    }

    // ---- what follows

    /// Folds what changed and writes it.
    pub fn settle(&mut self, out: &mut Changes) -> Settled {
        self.imply_ties();
        if self.whole {
            self.load_whole();
            self.imply_ties();
        }
        let ties: Vec<Tie> = self.ties.values().cloned().collect();
        let survivors = Survivors::fold(&ties);
        // A mark of one may rest on the other: a family with ties is small enough to look at each.
        self.said.extend(ties.iter().flat_map(|tie| [tie.old, tie.new]));
        let ends: Vec<Id> = self.said.iter().map(|number| survivors.survivor(*number)).collect();
        self.said.extend(ends);

        let mut settled = Settled::default();
        let mut states = Vec::new();
        for visit in self.visits.clone() {
            let (visits, folded) = self.fold_visit(visit, &ties, &survivors, &mut settled);
            let last = folded.len().saturating_sub(1);
            for (at, mut state) in folded.into_iter().enumerate() {
                // Diagnoses name no stay of an inferred visit: they are the last one's.
                if at == last {
                    state.diagnoses = visits
                        .iter()
                        .flat_map(|&visit| self.diagnosis_register(visit).items(visit))
                        .collect();
                }
                self.finish(&mut state, visit, &survivors);
                for visit in &visits {
                    settled.of_visit.entry(*visit).or_default().push(state.id);
                }
                // The least visit that has facts stands for all: which one was folded now does not matter.
                let visit = visits.first().copied().unwrap_or(visit);
                self.see_encounter(&state, visit);
                states.push((visit, state));
            }
        }
        let folded: BTreeSet<Id> = states.iter().map(|(_, state)| state.id).collect();
        settled.gone.retain(|encounter| !folded.contains(encounter));
        for encounter in &settled.gone {
            out.delete(&ENCOUNTER, vec![Value::Id(self.id), Value::Id(*encounter)]);
            out.delete(&BOARD, vec![Value::Id(*encounter)]);
            out.delete(&WORK, vec![Value::Id(work_id(self.sight.key, "closed-visit", &[*encounter]))]);
            out.outbox.push(board::outgoing(*encounter, *encounter, "", "delete"));
        }
        let seen: BTreeSet<Id> = folded.iter().chain(&settled.gone).copied().collect();
        let mut patients: BTreeMap<Id, PatientState> = BTreeMap::new();
        let owners = states.iter().map(|(_, state)| state.patient);
        for number in self.said.iter().copied().chain(owners).collect::<BTreeSet<Id>>() {
            if let Some(patient) = self.patient(number, &ties, &survivors) {
                patients.insert(number, patient);
            }
        }
        for (visit, state) in &states {
            self.write_encounter(state, *visit, patients.get(&state.patient), out);
        }
        for patient in patients.values() {
            self.write_number(patient, out);
            if patient.survivor == patient.id {
                self.patch_board(patient, &seen, out);
            }
        }
        self.write_merge_work(&ties, &survivors, out);
        self.write_rows(out);
        let is_confidential = |patient: &&PatientState| patient.whole().is_confidential();
        settled.confidential = patients.values().filter(is_confidential).map(|patient| patient.id).collect();
        let said = &self.said;
        settled.patients = patients.into_values().filter(|patient| said.contains(&patient.id)).collect();
        settled.encounters = states.into_iter().map(|(_, state)| state).collect();
        settled
    }

    /// All rows of the family were read: every visit and number is folded again.
    fn load_whole(&mut self) {
        let ids =
            |rows: Vec<Vec<Value>>| rows.iter().filter_map(|row| id(row.get(1))).collect::<BTreeSet<Id>>();
        let (numbers, visits) = (ids(self.rows(&NUMBER, &[])), ids(self.rows(&FACT, &[])));
        self.said.extend(numbers);
        self.said.extend(self.numbers.keys());
        for visit in visits {
            self.visit_facts(visit);
            self.visits.insert(visit);
        }
    }

    /// A visit whose messages named nobody at first and then somebody: the provisional patient is that person.
    fn imply_ties(&mut self) {
        for visit in self.visits.clone() {
            let facts = self.visit_facts(visit);
            // More than one where a visit goes on under another number (A06) and neither message named anybody.
            let provisional: BTreeSet<Id> =
                facts.values().filter(|fact| fact.provisional).map(|fact| fact.number).collect();
            let named = facts.values().filter(|fact| !fact.provisional).max_by_key(|fact| fact.said);
            let Some((new, said, source)) = named.map(|fact| (fact.number, fact.said, fact.source.clone()))
            else {
                continue;
            };
            for old in provisional {
                let id = self.sight.key.id("Tie implied", &[visit.as_bytes(), old.as_bytes()]);
                let source = source.clone();
                let tie = Tie { id, kind: TieKind::Implied, old, new, moved: said, said, source };
                if self.ties.get(&id) != Some(&tie) {
                    self.tie(&tie);
                }
            }
        }
    }

    fn fold_visit(
        &mut self,
        visit: Id,
        ties: &[Tie],
        survivors: &Survivors,
        settled: &mut Settled,
    ) -> (BTreeSet<Id>, Vec<EncounterState>) {
        let key = self.sight.key;
        let number = self.visit_facts(visit).values().next().map(|fact| fact.number);
        let Some(class) = self.classes.get(&visit).cloned() else {
            let facts: Vec<Fact> = self.visit_facts(visit).values().cloned().collect();
            if facts.is_empty() && self.encounter_row(visit).is_some() {
                settled.gone.push(visit);
            }
            let states = encounter::fold(key, &encounter::Visit::Numbered(visit), &facts);
            return (BTreeSet::from([visit]), states);
        };
        // The visits of all numbers of one person and one class are one row of stays, folded once.
        let Some(number) = number else { return (BTreeSet::new(), Vec::new()) };
        let patient = survivors.survivor(number);
        let mut facts = BTreeMap::new();
        let mut visits = BTreeSet::from([visit]);
        for member in survivors.members(patient, ties) {
            let bucket = identity::inferred_visit_id(key, member, &class);
            let own = self.visit_facts(bucket);
            if !own.is_empty() {
                visits.insert(bucket);
            }
            facts.extend(own.clone());
        }
        if visits.iter().find(|other| self.visits.contains(other)) != Some(&visit) {
            return (BTreeSet::new(), Vec::new());
        }
        let facts: Vec<Fact> = facts.into_values().collect();
        let states = encounter::fold(key, &encounter::Visit::Inferred { patient, class }, &facts);
        for (encounter, row) in &self.encounters {
            let is_of_these = row.as_ref().is_some_and(|row| visits.contains(&row.visit));
            if is_of_these && states.iter().all(|state| state.id != *encounter) {
                settled.gone.push(*encounter);
            }
        }
        (visits, states)
    }

    /// What the visit's own facts do not say: whose it is, and what the person's record adds.
    fn finish(&mut self, state: &mut EncounterState, visit: Id, survivors: &Survivors) {
        state.patient = survivors.survivor(state.named);
        if survivors.merged_into(state.named).is_some() {
            state.marks.retain(|mark| *mark != Mark::IdentityUndecided);
        }
        let deleted = self.number(state.named).deleted;
        if deleted.is_some_and(|deleted| deleted > state.last) {
            match state.status {
                Status::Finished | Status::Cancelled => {
                    state.status = Status::EnteredInError;
                    state.marks.push(Mark::Withdrawn);
                }
                Status::EnteredInError => {}
                Status::Planned
                | Status::Arrived
                | Status::InProgress
                | Status::OnLeave
                | Status::Unknown => {
                    state.marks.push(Mark::DeleteAsked);
                }
            }
        }
        let facts = self.visit_facts(visit);
        let is_moved = facts.values().any(|fact| fact.kind == Kind::MoveVisit);
        let named =
            facts.values().filter(|fact| !fact.provisional).map(|fact| survivors.survivor(fact.number));
        let named: BTreeSet<Id> = named.collect();
        if named.len() > 1 && !is_moved && visit == state.id {
            state.marks.push(Mark::PatientDiffers);
        }
        let code = state.disposition.as_ref().map_or("", |disposition| disposition.code.as_str());
        if matches!(code, "20" | "40" | "41" | "42") && !self.person(state.named).whole().is_dead() {
            state.marks.push(Mark::ExpiredWithoutDeath);
        }
        state.marks.sort();
        state.marks.dedup();
    }

    /// The encounter's row as it will stand, for what looks over all encounters.
    fn see_encounter(&mut self, state: &EncounterState, visit: Id) {
        let before = self.encounter_row(state.id);
        let in_bed =
            state.status.is_open() && state.place.as_ref().is_some_and(|place| !place.bed.is_empty());
        let (on_board, marks) = before.map_or((false, Vec::new()), |before| (before.on_board, before.marks));
        let row = EncounterRow { visit, number: state.named, on_board, in_bed, marks };
        self.encounters.insert(state.id, Some(row));
    }

    /// A number's record; `None` for an identifier that makes no patient.
    fn patient(&mut self, number: Id, ties: &[Tie], survivors: &Survivors) -> Option<PatientState> {
        let row = self.number(number).clone();
        let register = self.person(number).clone();
        if row.identifier.is_none() && row.visit.is_none() {
            return None;
        }
        let survivor = survivors.survivor(number);
        let person = register.whole();
        let newest = register.newest().map(|(message, last, source)| (message, last, source.to_owned()));
        let (message, last, source) = newest.unwrap_or_else(|| {
            // Named by ties alone: the first of them.
            let first =
                ties.iter().filter(|tie| tie.old == number || tie.new == number).min_by_key(|tie| tie.said);
            let first = first.map(|tie| (tie.said.message(), tie.said, tie.source.clone()));
            first.unwrap_or((number, Stamp::ZERO, String::new()))
        });
        // A merged record stands alone: what it has goes to the survivor.
        let members = if survivor == number { survivors.members(number, ties) } else { vec![number] };
        let mut known = person.clone();
        let mut filled = Vec::new();
        for &member in members.iter().skip(1) {
            let mut more = self.person(member).whole();
            more.forget(&known);
            known.fill(&more);
            if !more.is_silent() {
                filled.push((member, more));
            }
        }
        let is_read = |kin: &Self, parts: &[Part]| {
            kin.whole
                || members.iter().any(|member| parts.iter().any(|part| kin.parts.contains(&(*member, *part))))
        };
        let (mut next_of_kin, mut allergies) = (Vec::new(), Vec::new());
        if survivor == number && is_read(self, &[Part::NextOfKin]) {
            let items = members.iter().flat_map(|&member| self.kin_register(member).items(member));
            next_of_kin.extend(items);
        }
        if survivor == number && is_read(self, &[Part::Allergies, Part::Reactions]) {
            for &member in &members {
                let mut own = self.allergy_register(member, Part::Allergies).items(member);
                own.extend(self.allergy_register(member, Part::Reactions).items(member));
                // AL1 and IAM may tell of one thing: what still counts stands, then what was sent last.
                own.sort_by_key(|item| {
                    (item.key, std::cmp::Reverse((item.standing == Standing::Current, item.last_sent)))
                });
                own.dedup_by_key(|item| item.key);
                allergies.extend(own);
            }
        }
        let mut marks = BTreeSet::new();
        if row.identifier.is_none() && survivor == number {
            marks.insert(Mark::IdentityUndecided);
        }
        if register.is_unknown() {
            marks.insert(Mark::UnknownPerson);
        }
        if row.deleted.is_some_and(|deleted| deleted >= last) {
            marks.insert(Mark::Withdrawn);
        }
        let not_applied: usize = members.iter().map(|member| self.number(*member).not_applied.len()).sum();
        if not_applied > 0 {
            marks.insert(Mark::NotApplied(u32::try_from(not_applied).unwrap_or(u32::MAX)));
        }
        if self.is_shared(&members, survivors) {
            marks.insert(Mark::SharedIdentifier);
        }
        let merges: Vec<usize> = survivors
            .applied()
            .filter(|(at, old, new)| ties[*at].kind == TieKind::Merge && (*new == number || *old == number))
            .map(|(at, _, _)| at)
            .collect();
        if merges.into_iter().any(|at| !self.doubts(&ties[at]).is_empty()) {
            marks.insert(Mark::MergeImplausible);
        }
        Some(PatientState {
            id: number,
            number: row.identifier,
            provisional_for: row.visit,
            merged_into: survivors.merged_into(number),
            survivor,
            replaces: survivors.replaces(number),
            see_also: survivors.see_also(number),
            person,
            filled,
            next_of_kin,
            allergies,
            marks: marks.into_iter().collect(),
            message,
            last,
            source,
        })
    }

    /// Whether another person carries an identifying number of this one, whose records are `members` (rule 14).
    fn is_shared(&mut self, members: &[Id], survivors: &Survivors) -> bool {
        let mut identifiers: BTreeSet<Id> = members.iter().copied().collect();
        for member in members {
            let carries = self.number(*member).carries.clone();
            identifiers.extend(carries);
        }
        let own = members.first().map(|number| survivors.survivor(*number));
        identifiers.into_iter().any(|identifier| {
            let is_primary = self.number(identifier).identifier.is_some();
            let carriers = self.carriers(identifier).clone();
            let mut others = carriers.into_iter().chain(is_primary.then_some(identifier));
            others.any(|other| Some(survivors.survivor(other)) != own)
        })
    }

    /// What speaks against a merge (rule 16).
    fn doubts(&mut self, tie: &Tie) -> Vec<&'static str> {
        let mut doubts = Vec::new();
        let (old, new) = (self.person(tie.old).whole(), self.person(tie.new).whole());
        if let (Said::Value(old), Said::Value(new)) = (&old.birth, &new.birth)
            && old.date() != new.date()
        {
            doubts.push("birth-date-differs");
        }
        let is_known = |code: &str| !matches!(code, "" | "U");
        if let (Said::Value(old), Said::Value(new)) = (&old.sex, &new.sex)
            && old.code != new.code
            && is_known(&old.code)
            && is_known(&new.code)
        {
            doubts.push("sex-differs");
        }
        let in_bed =
            |number: Id| self.encounters.values().flatten().any(|row| row.number == number && row.in_bed);
        if in_bed(tie.old) && in_bed(tie.new) {
            doubts.push("both-in-bed");
        }
        doubts
    }

    // ---- writing

    fn write_encounter(
        &mut self,
        state: &EncounterState,
        visit: Id,
        patient: Option<&PatientState>,
        out: &mut Changes,
    ) {
        let Some(mut row) = self.encounter_row(state.id) else { return };
        let line = board::row(state, patient);
        let unit = state.place.as_ref().map_or("", |place| place.unit.as_str());
        let was_on_board = row.on_board;
        row.on_board = line.is_some();
        if let Some(line) = line {
            out.put(&BOARD, line);
            out.outbox.push(board::outgoing(state.id, state.patient, unit, "put"));
        } else if was_on_board {
            out.delete(&BOARD, vec![Value::Id(state.id)]);
            out.outbox.push(board::outgoing(state.id, state.patient, unit, "delete"));
        }
        let asked = Mark::DeleteAsked.id();
        let was_asked = row.marks.contains(&asked);
        row.marks = state.marks.iter().map(Mark::id).collect();
        if row.marks.contains(&asked) || was_asked {
            let item = Work {
                id: work_id(self.sight.key, "closed-visit", &[state.id]),
                kind: "closed-visit",
                state: WorkState::open_while(row.marks.contains(&asked)),
                at: state.last.at(),
                source: &state.source,
                left: Some(state.patient),
                right: None,
                encounter: Some(state.id),
                message: Some(state.message),
                detail: "{}".to_owned(),
            };
            self.write_work(item, out);
        }
        out.put(
            &ENCOUNTER,
            vec![
                Value::Id(self.id),
                Value::Id(state.id),
                Value::Id(visit),
                self.classes.get(&visit).cloned().map_or(Value::Null, Value::Text),
                Value::Id(state.named),
                Value::Id(state.patient),
                Value::Text(state.status.as_str().to_owned()),
                Value::Bool(row.on_board),
                Value::Bool(row.in_bed),
                state.start.as_ref().map_or(Value::Null, |start| Value::Time(start.at)),
                state.end.as_ref().map_or(Value::Null, |end| Value::Time(end.at)),
                Value::Text(state.visit.as_ref().map_or_else(String::new, |visit| visit.value.clone())),
                Value::Text(serde_json::to_string(&row.marks).unwrap_or_default()),
            ],
        );
        self.encounters.insert(state.id, Some(row));
    }

    fn write_number(&mut self, state: &PatientState, out: &mut Changes) {
        let marks: Vec<String> = state.marks.iter().map(Mark::id).collect();
        let row = self.number(state.id);
        let was = std::mem::replace(&mut row.marks, marks.clone());
        let (visit, is_provisional) = (row.visit, row.identifier.is_none());
        if was != marks || row.survivor != Some(state.survivor) {
            row.survivor = Some(state.survivor);
            self.dirty_numbers.insert(state.id);
        }
        let item = |kind: &'static str, work: WorkState| Work {
            id: work_id(self.sight.key, kind, &[state.id]),
            kind,
            state: work,
            at: state.last.at(),
            source: &state.source,
            left: Some(state.id),
            right: (state.survivor != state.id).then_some(state.survivor),
            encounter: visit,
            message: Some(state.message),
            detail: "{}".to_owned(),
        };
        let shared = Mark::SharedIdentifier.id();
        if marks.contains(&shared) || was.contains(&shared) {
            self.write_work(item("shared-identifier", WorkState::open_while(marks.contains(&shared))), out);
        }
        if visit.is_some() && is_provisional {
            let undecided = state.survivor == state.id;
            let work = if undecided { WorkState::Open } else { WorkState::Decided };
            self.write_work(item("identity", work), out);
        }
    }

    /// Board rows of other visits of the patient, whose names and marks may have changed.
    fn patch_board(&mut self, state: &PatientState, seen: &BTreeSet<Id>, out: &mut Changes) {
        let Some(rows) = self.sight.have.scan(&board_of(state.id)) else { return };
        for row in rows {
            let Some(encounter) = id(row.values.first()).filter(|encounter| !seen.contains(encounter)) else {
                continue;
            };
            if let Some(values) = board::patched(&row.values, state) {
                out.put(&BOARD, values);
                out.outbox.push(board::outgoing(encounter, state.id, text(row.values.get(4)), "put"));
            }
        }
    }

    /// Merges that were not applied, or against which something speaks: an operator should look.
    fn write_merge_work(&mut self, ties: &[Tie], survivors: &Survivors, out: &mut Changes) {
        let refused: BTreeMap<usize, Refusal> = survivors.refused.iter().copied().collect();
        let applied: BTreeSet<usize> = survivors.applied().map(|(at, _, _)| at).collect();
        for (at, tie) in ties.iter().enumerate().filter(|(_, tie)| tie.kind == TieKind::Merge) {
            let why = match refused.get(&at) {
                Some(Refusal::SelfMerge) => vec!["self-merge"],
                Some(Refusal::AlreadyMerged) => vec!["already-merged"],
                Some(Refusal::Cycle) => vec!["cycle"],
                None if applied.contains(&at) => self.doubts(tie),
                None => Vec::new(),
            };
            let work = work_id(self.sight.key, "merge", &[tie.id]);
            if why.is_empty() {
                out.delete(&WORK, vec![Value::Id(work)]);
                continue;
            }
            let detail = serde_json::json!({ "applied": applied.contains(&at), "why": why });
            let item = Work {
                id: work,
                kind: "merge",
                state: WorkState::Open,
                at: tie.said.at(),
                source: &tie.source,
                left: Some(tie.old),
                right: Some(tie.new),
                encounter: None,
                message: Some(tie.said.message()),
                detail: detail.to_string(),
            };
            self.write_work(item, out);
        }
    }

    /// An item whose reason is gone goes with it; one that was settled stays, for the record.
    fn write_work(&self, item: Work<'_>, out: &mut Changes) {
        if item.state == WorkState::Gone {
            out.delete(&WORK, vec![Value::Id(item.id)]);
            return;
        }
        let decided = self.sight.have.get(DECIDED.name, &[Value::Id(item.id)]).is_some();
        let optional = |id: Option<Id>| id.map_or(Value::Null, Value::Id);
        out.put(
            &WORK,
            vec![
                Value::Id(item.id),
                Value::Text(item.kind.to_owned()),
                Value::Text(
                    if item.state == WorkState::Open && !decided { "open" } else { "decided" }.to_owned(),
                ),
                Value::Time(item.at.unwrap_or_default()),
                Value::Text(item.source.to_owned()),
                optional(item.left),
                optional(item.right),
                optional(item.encounter),
                optional(item.message),
                Value::Text(item.detail),
                Value::ThisCommit,
            ],
        );
    }

    fn write_rows(&mut self, out: &mut Changes) {
        let family = Value::Id(self.id);
        for (visit, moved) in &self.gone_facts {
            out.delete(&FACT, vec![family.clone(), Value::Id(*visit), stamp_value(moved)]);
        }
        for (visit, moved) in &self.new_facts {
            let Some(fact) = self.facts.get(visit).and_then(|facts| facts.get(moved)) else { continue };
            out.put(
                &FACT,
                vec![
                    family.clone(),
                    Value::Id(*visit),
                    stamp_value(moved),
                    Value::Text(fact.kind.as_str().to_owned()),
                    stamp_value(&fact.said),
                    Value::Id(fact.number),
                    Value::Bool(fact.provisional),
                    Value::Text(fact.source.clone()),
                    Value::Text(serde_json::to_string(&fact.body).unwrap_or_default()),
                ],
            );
        }
        for &(owner, part) in &self.parts {
            let body = match part {
                Part::Person => self.persons.get(&owner).map(serde_json::to_string),
                Part::NextOfKin => self.relatives.get(&owner).map(serde_json::to_string),
                Part::Allergies | Part::Reactions => {
                    self.allergies.get(&(owner, part)).map(serde_json::to_string)
                }
                Part::Diagnoses => self.diagnoses.get(&owner).map(serde_json::to_string),
            };
            let Some(Ok(body)) = body else { continue };
            let part = Value::Text(part.as_str().to_owned());
            out.put(&CONTENT, vec![family.clone(), Value::Id(owner), part, Value::Text(body)]);
        }
        for tie in &self.gone_ties {
            out.delete(&TIE, vec![family.clone(), Value::Id(*tie)]);
        }
        for tie in self.new_ties.iter().filter_map(|tie| self.ties.get(tie)) {
            out.put(
                &TIE,
                vec![
                    family.clone(),
                    Value::Id(tie.id),
                    Value::Text(tie.kind.as_str().to_owned()),
                    Value::Id(tie.old),
                    Value::Id(tie.new),
                    stamp_value(&tie.moved),
                    stamp_value(&tie.said),
                    Value::Text(tie.source.clone()),
                ],
            );
        }
        for number in &self.dirty_numbers {
            let Some(row) = self.numbers.get(number) else { continue };
            let identifier = row.identifier.as_ref().and_then(|one| serde_json::to_string(one).ok());
            out.put(
                &NUMBER,
                vec![
                    family.clone(),
                    Value::Id(*number),
                    Value::Text(row.identifier.as_ref().map_or_else(String::new, |one| one.value.clone())),
                    Value::Text(identifier.unwrap_or_default()),
                    row.visit.map_or(Value::Null, Value::Id),
                    row.deleted.as_ref().map_or(Value::Null, stamp_value),
                    ids_json(&row.not_applied),
                    Value::Text(serde_json::to_string(&row.marks).unwrap_or_default()),
                    ids_json(&row.carries),
                    Value::Id(row.survivor.unwrap_or(*number)),
                ],
            );
        }
        for (identifier, number) in &self.new_carriers {
            out.put(&CARRIER, vec![family.clone(), Value::Id(*identifier), Value::Id(*number)]);
        }
    }
}
