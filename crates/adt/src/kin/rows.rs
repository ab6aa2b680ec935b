//! The family's rows as values, and their loading.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use hilum_core::Id;
use hilum_engines::tables::{Scan, Table, Value};

use super::{Kin, Part, Sight};
use crate::content::{Allergy, Diagnosis, Identifier, NextOfKin, Said};
use crate::facts::read::Person;
use crate::facts::{Fact, FactBody, Kind};
use crate::fold::content::{GroupRegister, PersonRegister};
use crate::fold::ties::{Tie, TieKind};
use crate::order::Stamp;
use crate::tables::{BOARD, CARRIER, CONTENT, DECIDED, ENCOUNTER, FACT, NUMBER, TIE};

/// Where the marks of a row of [`ENCOUNTER`] stand.
pub(super) const MARKS: usize = 12;

/// A row of [`NUMBER`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct NumberRow {
    pub(super) identifier: Option<Identifier>,
    pub(super) visit: Option<Id>,
    pub(super) deleted: Option<Stamp>,
    pub(super) not_applied: BTreeSet<Id>,
    /// Further identifiers that it was ever named with.
    pub(super) carries: BTreeSet<Id>,
    pub(super) marks: Vec<String>,
    pub(super) survivor: Option<Id>,
}

impl NumberRow {
    /// Whether nothing is known of it, any more.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self { survivor: self.survivor, ..Self::default() }
    }
}

/// What of a row of [`ENCOUNTER`] the next fold needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EncounterRow {
    pub(super) visit: Id,
    pub(super) number: Id,
    pub(super) on_board: bool,
    pub(super) in_bed: bool,
    pub(super) marks: Vec<String>,
    /// The Conditions of an inferred visit: another cut of its stays takes them away.
    pub(super) conditions: BTreeSet<Id>,
}

pub(super) fn text(value: Option<&Value>) -> &str {
    match value {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

pub(super) fn id(value: Option<&Value>) -> Option<Id> {
    match value {
        Some(Value::Id(id)) => Some(*id),
        _ => None,
    }
}

pub(super) fn stamp(value: Option<&Value>) -> Option<Stamp> {
    match value {
        Some(Value::Bytes(bytes)) => Stamp::from_slice(bytes),
        _ => None,
    }
}

pub(super) fn flag(value: Option<&Value>) -> bool {
    matches!(value, Some(Value::Bool(true)))
}

fn is_absent(value: Option<&Value>) -> bool {
    matches!(value, Some(Value::Null))
}

/// A row of [`NUMBER`]; `None`, as everywhere here, if it cannot be read.
pub(super) fn number_of(row: &[Value]) -> Option<NumberRow> {
    let identifier = text(row.get(3));
    Some(NumberRow {
        identifier: if identifier.is_empty() { None } else { Some(serde_json::from_str(identifier).ok()?) },
        visit: if is_absent(row.get(4)) { None } else { Some(id(row.get(4))?) },
        deleted: if is_absent(row.get(5)) { None } else { Some(stamp(row.get(5))?) },
        not_applied: ids_of(text(row.get(6)))?,
        marks: marks_of(text(row.get(7)))?,
        carries: ids_of(text(row.get(8)))?,
        survivor: Some(id(row.get(9))?),
    })
}

pub(super) fn encounter_of(row: &[Value]) -> Option<EncounterRow> {
    let conditions = row.get(3);
    Some(EncounterRow {
        visit: id(row.get(2))?,
        number: id(row.get(4))?,
        on_board: flag(row.get(7)),
        in_bed: flag(row.get(8)),
        marks: marks_of(text(row.get(MARKS)))?,
        conditions: if is_absent(conditions) { BTreeSet::new() } else { ids_of(text(conditions))? },
    })
}

/// The identifier that stands is the one with the least text: which message named it first does not matter.
pub(super) fn set_identifier(row: &mut NumberRow, identifier: &Identifier) {
    let weight = |one: &Identifier| serde_json::to_string(one).unwrap_or_default();
    let stands =
        row.identifier.as_ref().is_some_and(|old| old == identifier || weight(old) <= weight(identifier));
    if !stands {
        row.identifier = Some(identifier.clone());
    }
}

pub(super) fn stamp_value(stamp: &Stamp) -> Value {
    Value::Bytes(Bytes::copy_from_slice(stamp.as_bytes()))
}

pub(super) fn ids_json<'a>(ids: impl IntoIterator<Item = &'a Id>) -> Value {
    let ids: Vec<String> = ids.into_iter().map(Id::to_string).collect();
    Value::Text(serde_json::to_string(&ids).unwrap_or_default())
}

fn ids_of(text: &str) -> Option<BTreeSet<Id>> {
    let ids: Vec<String> = serde_json::from_str(text).ok()?;
    ids.iter().map(|id| id.parse().ok()).collect()
}

pub(super) fn marks_of(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// The board rows of a patient: read where a name may change without a fold of each visit.
pub(super) fn board_of(patient: Id) -> Scan {
    Scan::by_index(BOARD.name, "by_patient", vec![Value::Id(patient)])
}

/// All that operators decided without changing the fold.
pub(super) fn decided_all() -> Scan {
    Scan { limit: u32::MAX, ..Scan::by_key(DECIDED.name, Vec::new()) }
}

/// What a stored fact does.
pub(super) fn fact_kind(row: &[Value]) -> Option<Kind> {
    Kind::parse(text(row.get(3)))
}

/// What of a person's record shows in resources of visits: a change of it folds all of them again. Field by field and
/// with what is not said, for a merged record fills in what the survivor's does not speak about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ForVisits {
    protected: Said<bool>,
    restricted: Said<bool>,
    is_dead: bool,
}

/// See [`ForVisits`].
pub(super) fn for_visits(register: &PersonRegister) -> ForVisits {
    let whole = register.whole();
    ForVisits {
        is_dead: whole.is_dead(),
        protected: whole.protected,
        restricted: whole.restrictions.map(|restrictions| !restrictions.is_empty()),
    }
}

/// Whether a message may change that.
pub(super) fn speaks_for_visits(person: &Person) -> bool {
    let content = &person.content;
    content.protected.is_said()
        || content.restrictions.is_said()
        || content.died.is_said()
        || content.dead.is_said()
}

pub(super) fn fact_of(row: &[Value]) -> Option<Fact> {
    let [_, _, moved, kind, said, number, provisional, source, body] = row else { return None };
    Some(Fact {
        kind: Kind::parse(text(Some(kind)))?,
        moved: stamp(Some(moved))?,
        said: stamp(Some(said))?,
        number: id(Some(number))?,
        provisional: flag(Some(provisional)),
        source: text(Some(source)).to_owned(),
        body: serde_json::from_str::<FactBody>(text(Some(body))).ok()?,
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
            inferred: BTreeSet::new(),
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
            gone_carriers: BTreeSet::new(),
            gone_facts: BTreeSet::new(),
            gone_ties: BTreeSet::new(),
            visits: BTreeSet::new(),
            said: BTreeSet::new(),
            parts: BTreeSet::new(),
            dirty_numbers: BTreeSet::new(),
            flags: BTreeMap::new(),
            whole: false,
            unread: Cell::new(false),
            has_missed: Cell::new(false),
            unreadable: Cell::new(None),
        };
        let ties = kin.rows(&TIE, &[]);
        let ties = ties.iter().filter_map(|row| kin.can_read(&TIE, tie_of(row)));
        kin.ties = ties.map(|tie| (tie.id, tie)).collect();
        let known = kin.wholes.get(ENCOUNTER.name).into_iter().flat_map(BTreeMap::values);
        let known = known.filter_map(|row| {
            kin.can_read(&ENCOUNTER, Some((self::id(row.get(1))?, Some(encounter_of(row)?))))
        });
        kin.encounters = known.collect();
        kin
    }

    /// A row that was not read is no absent row. Tests die of the difference; elsewhere what rests on it stays as it
    /// stood.
    pub(super) fn not_read(&self, table: &'static str) {
        // A row that cannot be read does not say what else to ask for.
        let may = self.sight.lenient || self.unreadable.get().is_some();
        debug_assert!(may, "{table}: a row that was not asked for");
        if !may {
            tracing::error!(table, "a row was not read: marks stay as they stood");
        }
        self.unread.set(true);
        self.has_missed.set(true);
    }

    /// Whether nothing was asked for that was not read.
    pub fn has_read_all(&self) -> bool {
        !self.has_missed.get()
    }

    /// A table of which a row that was read makes no sense: nothing of the family may be written. What stands there may
    /// be an allergy list, and an empty one in its stead would look as good.
    pub fn unreadable(&self) -> Option<&'static str> {
        self.unreadable.get()
    }

    pub(super) fn is_unreadable(&self, table: &'static Table) {
        self.unreadable.set(Some(table.name));
    }

    fn can_read<T>(&self, table: &'static Table, parsed: Option<T>) -> Option<T> {
        if parsed.is_none() {
            self.is_unreadable(table);
        }
        parsed
    }

    pub(super) fn rows(&self, table: &'static Table, rest: &[Value]) -> Vec<Vec<Value>> {
        if let Some(rows) = self.wholes.get(table.name) {
            let from = rows.range(rest.to_vec()..);
            return from.take_while(|(key, _)| key.starts_with(rest)).map(|(_, row)| row.clone()).collect();
        }
        let rows = self.sight.families.rows(table, self.id, rest, self.sight.have);
        rows.unwrap_or_else(|| {
            self.not_read(table.name);
            Vec::new()
        })
    }

    pub(super) fn row(&self, table: &'static Table, rest: &[Value]) -> Option<Vec<Value>> {
        if let Some(rows) = self.wholes.get(table.name) {
            return rows.get(rest).cloned();
        }
        if !self.sight.families.has_read_row(table, self.id, rest, self.sight.have) {
            self.not_read(table.name);
        }
        self.sight.families.row(table, self.id, rest, self.sight.have)
    }

    /// Whether an operator decided about an item of work.
    pub(super) fn is_decided(&self, work: Id) -> bool {
        let key = [Value::Id(work)];
        if self.sight.decided.contains(&work) {
            return true;
        }
        let have = self.sight.have;
        if have.has_read(DECIDED.name, &key) {
            return have.get(DECIDED.name, &key).is_some();
        }
        if let Some(rows) = have.scan(&decided_all()) {
            return rows.iter().any(|row| id(row.values.first()) == Some(work));
        }
        self.not_read(DECIDED.name);
        false
    }

    pub(super) fn visit_facts(&mut self, visit: Id) -> &mut BTreeMap<Stamp, Arc<Fact>> {
        if !self.facts.contains_key(&visit) {
            let rows = self.rows(&FACT, &[Value::Id(visit)]);
            let facts = rows.iter().filter_map(|row| self.can_read(&FACT, fact_of(row)));
            let facts: BTreeMap<Stamp, Arc<Fact>> = facts.map(|fact| (fact.moved, Arc::new(fact))).collect();
            if facts.values().any(|fact| fact.body.inferred) {
                self.inferred.insert(visit);
            }
            self.facts.insert(visit, facts);
        }
        self.facts.entry(visit).or_default()
    }

    pub(super) fn register<T: serde::de::DeserializeOwned + Default>(&self, owner: Id, part: Part) -> T {
        let row = self.row(&CONTENT, &[Value::Id(owner), Value::Text(part.as_str().to_owned())]);
        let read = |row: Vec<Value>| self.can_read(&CONTENT, serde_json::from_str(text(row.get(3))).ok());
        row.and_then(read).unwrap_or_default()
    }

    pub(super) fn person(&mut self, number: Id) -> &mut PersonRegister {
        if !self.persons.contains_key(&number) {
            let register = Box::new(self.register(number, Part::Person));
            self.persons.insert(number, register);
        }
        self.persons.entry(number).or_default()
    }

    pub(super) fn kin_register(&mut self, number: Id) -> &mut GroupRegister<NextOfKin> {
        if !self.relatives.contains_key(&number) {
            let register = self.register(number, Part::NextOfKin);
            self.relatives.insert(number, register);
        }
        self.relatives.entry(number).or_default()
    }

    pub(super) fn allergy_register(&mut self, number: Id, part: Part) -> &mut GroupRegister<Allergy> {
        if !self.allergies.contains_key(&(number, part)) {
            let register = self.register(number, part);
            self.allergies.insert((number, part), register);
        }
        self.allergies.entry((number, part)).or_default()
    }

    pub(super) fn diagnosis_register(&mut self, visit: Id) -> &mut GroupRegister<Diagnosis> {
        if !self.diagnoses.contains_key(&visit) {
            let register = self.register(visit, Part::Diagnoses);
            self.diagnoses.insert(visit, register);
        }
        self.diagnoses.entry(visit).or_default()
    }

    pub(super) fn number(&mut self, number: Id) -> &mut NumberRow {
        if !self.numbers.contains_key(&number) {
            let row = self.row(&NUMBER, &[Value::Id(number)]);
            let row = row.and_then(|row| self.can_read(&NUMBER, number_of(&row))).unwrap_or_default();
            self.numbers.insert(number, row);
        }
        self.numbers.entry(number).or_default()
    }

    pub(super) fn carriers(&mut self, identifier: Id) -> &mut BTreeSet<Id> {
        if !self.carriers.contains_key(&identifier) {
            let rows = self.rows(&CARRIER, &[Value::Id(identifier)]);
            let carriers = rows.iter().filter_map(|row| self.can_read(&CARRIER, id(row.get(2)))).collect();
            self.carriers.insert(identifier, carriers);
        }
        self.carriers.entry(identifier).or_default()
    }

    pub(super) fn encounter_row(&mut self, encounter: Id) -> Option<EncounterRow> {
        if !self.encounters.contains_key(&encounter) {
            let row = self.row(&ENCOUNTER, &[Value::Id(encounter)]);
            let row = row.and_then(|row| self.can_read(&ENCOUNTER, encounter_of(&row)));
            self.encounters.insert(encounter, row);
        }
        self.encounters.get(&encounter).cloned().flatten()
    }
}
