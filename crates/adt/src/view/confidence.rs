//! Who is withheld from pages and twins (clinical-rules 20, ADR 9): one answer for all of them, so that what the census
//! masks is not told by a search, a patient's page or a message.

use std::collections::{BTreeMap, BTreeSet};

use hilum_core::Id;
use hilum_engines::tables::{Read, Row, Scan, Table, Value};
use hilum_hl7v2::Message;
use serde_json::Value as Json;

use super::ViewError;
use super::journey::Sight;
use super::mention::{self, Mention};
use super::messages::Line;
use super::row::Columns;
use crate::content::{Content, Context, Identifier, NextOfKin, Usage, VisitContent};
use crate::fold::content::{GroupRegister, PersonRegister};
use crate::identity::{encounter_id, number_id, visit_numbers};
use crate::kin::Part;
use crate::limits::PATIENT_RECORDS_MAX;
use crate::settings::SourceSettings;
use crate::tables::{BOARD, CONTENT, ENCOUNTER, NUMBER};

/// The codes of `meta.security` that restrict a resource (<http://terminology.hl7.org/CodeSystem/v3-Confidentiality>).
pub const RESTRICTING: &[&str] = &["R", "V"];

/// Whether a resource's `meta.security` restricts it.
pub fn is_restricted(resource: &Json) -> bool {
    let security = resource.pointer("/meta/security").and_then(Json::as_array);
    security.is_some_and(|all| {
        all.iter().any(|one| {
            one.get("code").and_then(|code| code.as_str()).is_some_and(|code| RESTRICTING.contains(&code))
        })
    })
}

/// Whether a row of the board asks for confidence. One that does not say counts as one that does.
pub fn is_confidential_row(row: &Row) -> bool {
    Columns { table: &BOARD, row }.bool("confidential").unwrap_or(true)
}

/// Of those that were asked for, who and which stays are withheld.
#[derive(Debug, Default)]
pub struct Withheld {
    /// Patients.
    pub patients: BTreeSet<Id>,
    /// Encounters: the stay asks for it, or its patient is withheld.
    pub encounters: BTreeSet<Id>,
}

impl Withheld {
    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.patients.is_empty() && self.encounters.is_empty()
    }
}

fn first<'r>(rows: &'r [Row], table: &'static Table) -> Option<Columns<'r>> {
    rows.first().map(|row| Columns { table, row })
}

fn number_row(patient: Id) -> Read {
    Read::Scan(Scan { limit: 1, ..Scan::by_index(NUMBER.name, "by_number", vec![Value::Id(patient)]) })
}

/// The record at the end of a patient's chain of merges; the patient's own where there is none.
async fn survivor_of(sight: Sight<'_>, patient: Id) -> Result<Id, ViewError> {
    let rows = sight.tables.read(&[number_row(patient)]).await?;
    match rows.first().and_then(|rows| first(rows, &NUMBER)) {
        Some(columns) => columns.id("survivor"),
        None => Ok(patient),
    }
}

/// The records that end in this one, itself among them; none where it is merged itself.
fn numbers_of_survivor(survivor: Id) -> Read {
    let by_survivor = Scan::by_index(NUMBER.name, "by_survivor", vec![Value::Id(survivor)]);
    Read::Scan(Scan { limit: PATIENT_RECORDS_MAX, ..by_survivor })
}

/// Of these survivors, each with the rows of its records, those of whom what was said cannot be read: whether it asks
/// for confidence is not known.
async fn unreadable_among(
    sight: Sight<'_>,
    survivors: &BTreeSet<Id>,
    merged: &[Vec<Row>],
) -> Result<BTreeSet<Id>, ViewError> {
    let (mut whose, mut wanted) = (Vec::new(), Vec::new());
    for (survivor, rows) in survivors.iter().zip(merged) {
        for row in rows {
            let columns = Columns { table: &NUMBER, row };
            let (family, number) = (columns.id("family")?, columns.id("number")?);
            let part = Value::Text(Part::Person.as_str().to_owned());
            whose.push(*survivor);
            wanted.push(Read::Get {
                table: CONTENT.name,
                key: vec![Value::Id(family), Value::Id(number), part],
            });
        }
    }
    let mut unreadable = BTreeSet::new();
    for (survivor, rows) in whose.into_iter().zip(sight.tables.read(&wanted).await?) {
        let person = first(&rows, &CONTENT).map(|columns| columns.json::<PersonRegister>("body"));
        if person.is_some_and(|person| person.is_err()) {
            unreadable.insert(survivor);
        }
    }
    Ok(unreadable)
}

/// Who of these patients, and which of these stays, is withheld: the person asks for it, or the record that replaces
/// this one, or a stay that is open or expected; a stay also when it asks for it itself. So is a person of whom a record
/// cannot be read. One who is in no table is not. Four rounds of reading for all of them.
///
/// # Errors
/// The engines'.
pub async fn withheld_among(
    sight: Sight<'_>,
    patients: &BTreeSet<Id>,
    encounters: &BTreeSet<Id>,
) -> Result<Withheld, ViewError> {
    let by_encounter = |encounter: &Id| {
        let prefix = vec![Value::Id(*encounter)];
        Read::Scan(Scan { limit: 1, ..Scan::by_index(ENCOUNTER.name, "by_encounter", prefix) })
    };
    let reads: Vec<Read> =
        patients.iter().copied().map(number_row).chain(encounters.iter().map(by_encounter)).collect();
    if reads.is_empty() {
        return Ok(Withheld::default());
    }
    let found = sight.tables.read(&reads).await?;
    let (numbers, stays) = found.split_at(patients.len().min(found.len()));
    // The records that speak for each patient, and for whose each stay is.
    let mut persons: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
    for (patient, rows) in patients.iter().zip(numbers) {
        let survivor = first(rows, &NUMBER).map(|columns| columns.id("survivor")).transpose()?;
        persons.insert(*patient, survivor.into_iter().chain([*patient]).collect());
    }
    let mut owners: BTreeMap<Id, Id> = BTreeMap::new();
    for (encounter, rows) in encounters.iter().zip(stays) {
        if let Some(columns) = first(rows, &ENCOUNTER) {
            owners.insert(*encounter, columns.id("patient")?);
        }
    }
    let records: BTreeSet<Id> = persons.values().flatten().chain(owners.values()).copied().collect();

    let mut asking = BTreeSet::new();
    let on_board = records.iter().map(|id| Scan::by_index(BOARD.name, "by_patient", vec![Value::Id(*id)]));
    let reads: Vec<Read> =
        on_board.map(Read::Scan).chain(records.iter().map(|id| numbers_of_survivor(*id))).collect();
    let found = sight.tables.read(&reads).await?;
    let (on_board, merged) = found.split_at(records.len().min(found.len()));
    for (record, rows) in records.iter().zip(on_board) {
        if rows.iter().any(is_confidential_row) {
            asking.insert(*record);
        }
    }
    asking.extend(unreadable_among(sight, &records, merged).await?);
    let others = records.difference(&asking).map(|id| ("Patient", *id));
    let wanted: Vec<(&str, Id)> = others.chain(encounters.iter().map(|id| ("Encounter", *id))).collect();
    let mut restricted = BTreeSet::new();
    for some in wanted.chunks(hilum_chart::limits::READ_RESOURCES_MAX) {
        for stored in sight.chart.read_all(sight.authority, some).await?.into_iter().flatten() {
            if !stored.deleted && is_restricted(&serde_json::from_slice(&stored.body).unwrap_or_default()) {
                restricted.insert(stored.id);
            }
        }
    }
    asking.extend(&restricted);
    let is_theirs = |encounter: &Id| owners.get(encounter).is_some_and(|owner| asking.contains(owner));
    Ok(Withheld {
        patients: persons
            .into_iter()
            .filter(|(_, records)| !records.is_disjoint(&asking))
            .map(|(patient, _)| patient)
            .collect(),
        encounters: encounters
            .iter()
            .copied()
            .filter(|encounter| restricted.contains(encounter) || is_theirs(encounter))
            .collect(),
    })
}

/// Whether who a patient is is withheld: see [`withheld_among`].
///
/// # Errors
/// The engines'.
pub async fn is_withheld(sight: Sight<'_>, patient: Id) -> Result<bool, ViewError> {
    is_any_withheld(sight, &BTreeSet::from([patient])).await
}

async fn is_any_withheld(sight: Sight<'_>, patients: &BTreeSet<Id>) -> Result<bool, ViewError> {
    Ok(!withheld_among(sight, patients, &BTreeSet::new()).await?.is_empty())
}

/// The id that a line of a list names, of this type.
fn referred(reference: &str, kind: &str) -> Option<Id> {
    reference.strip_prefix(kind)?.strip_prefix('/')?.parse().ok()
}

/// Takes from messages' lines whom they are about, where that is withheld and who asks does not mend: a line that names
/// its patient would tell when that one came, and a masked row of the board says since when it is there.
///
/// # Errors
/// The engines'.
pub async fn hide(sight: Sight<'_>, lines: &mut [Line]) -> Result<(), ViewError> {
    if sight.authority.decides() {
        return Ok(());
    }
    let patients_of = |line: &Line| {
        let changed = line.changed.iter().filter_map(|one| referred(one, "Patient"));
        changed.chain(line.patient).collect::<Vec<Id>>()
    };
    let encounters_of = |line: &Line| {
        let changed = line.changed.iter().filter_map(|one| referred(one, "Encounter"));
        changed.chain(line.encounter).collect::<Vec<Id>>()
    };
    let patients = lines.iter().flat_map(patients_of).collect();
    let encounters = lines.iter().flat_map(encounters_of).collect();
    let withheld = withheld_among(sight, &patients, &encounters).await?;
    for line in lines {
        if patients_of(line).iter().any(|id| withheld.patients.contains(id))
            || encounters_of(line).iter().any(|id| withheld.encounters.contains(id))
        {
            (line.patient, line.encounter) = (None, None);
            line.changed.clear();
        }
    }
    Ok(())
}

/// Whether any record of this person names somebody who is withheld as mother or next of kin, by number. Then whoever
/// else is kin to the person is withheld with them: they share a name, a telephone, an address.
///
/// # Errors
/// The engines'.
pub async fn has_withheld_kin(sight: Sight<'_>, patient: Id) -> Result<bool, ViewError> {
    // All records of the person, whichever is asked for: they fill each other in.
    let survivor = survivor_of(sight, patient).await?;
    let rows = sight.tables.read(&[numbers_of_survivor(survivor)]).await?;
    let rows = rows.into_iter().next().unwrap_or_default();
    // One that is not looked at may name somebody.
    if rows.len() >= PATIENT_RECORDS_MAX as usize {
        return Ok(true);
    }
    let mut wanted = Vec::new();
    for row in &rows {
        let columns = Columns { table: &NUMBER, row };
        let (family, number) = (columns.id("family")?, columns.id("number")?);
        for part in [Part::Person, Part::NextOfKin] {
            let key = vec![Value::Id(family), Value::Id(number), Value::Text(part.as_str().to_owned())];
            wanted.push(Read::Get { table: CONTENT.name, key });
        }
    }
    let mut kin = BTreeSet::new();
    for row in sight.tables.read(&wanted).await?.iter().flatten() {
        // Whom a row names that cannot be read is not known: it may be somebody who is withheld.
        let Some(named) = kin_named_in(&Columns { table: &CONTENT, row })? else { return Ok(true) };
        kin.extend(named);
    }
    // So many that not all are looked at: one may be withheld.
    let Some(kin) = mention::named(sight, &kin).await? else { return Ok(true) };
    is_any_withheld(sight, &kin).await
}

/// Whom a row of content names as kin by number; `None` when it cannot be read.
fn kin_named_in(columns: &Columns<'_>) -> Result<Option<BTreeSet<Mention>>, ViewError> {
    if columns.text("part")? == Part::Person.as_str() {
        let person = columns.json::<PersonRegister>("body").ok();
        return Ok(person.map(|person| numbers_of(person.whole().mother.items()).collect()));
    }
    let group = columns.json::<GroupRegister<NextOfKin>>("body").ok();
    let owner = columns.id("owner")?;
    Ok(group.map(|group| {
        let items = group.items(owner);
        items.iter().flat_map(|item| numbers_of(&item.content.identifiers)).collect()
    }))
}

/// What these numbers mention; a national one is kept as its hash alone and makes no patient.
fn numbers_of(identifiers: &[Identifier]) -> impl Iterator<Item = Mention> {
    let numbers = identifiers.iter().filter(|one| !one.is_national() && !one.value.is_empty());
    numbers.flat_map(|one| std::iter::once(Mention::of(one)).chain(Mention::alone(one)))
}

/// Whom a message is about, by its row and by its text.
#[derive(Debug, Default)]
pub struct About {
    /// Patients.
    pub patients: BTreeSet<Id>,
    /// Encounters.
    pub encounters: BTreeSet<Id>,
    /// Numbers anywhere in it, of which one may be somebody's who is withheld.
    pub mentioned: BTreeSet<Mention>,
    /// Whether the text itself asks for confidence, applied or not.
    pub asks: bool,
}

impl About {
    /// Adds all persons and visits that the text names, each of several.
    pub fn read(&mut self, message: &Message, settings: &SourceSettings, sight: Sight<'_>, source: &str) {
        let content = Content::read(message, &Context { settings, source, key: sight.key });
        // The mother's of a newborn, a guarantor's, an insured person's …; more than are looked up may be anybody's.
        match mention::mentions(message, settings) {
            Some(mentioned) => self.mentioned.extend(mentioned),
            None => self.asks = true,
        }
        for block in &content.blocks {
            self.asks |= block.person.is_confidential()
                || block.visit.as_ref().is_some_and(VisitContent::is_confidential);
            let priors = block.prior.iter().flat_map(|prior| &prior.identifiers);
            for one in block.person.identifiers.items().iter().chain(priors) {
                if matches!(one.usage, Usage::Primary | Usage::Identifying) {
                    self.patients.insert(number_id(sight.key, &one.authority, &one.value));
                }
            }
            let prior_visit = block.prior.iter().filter_map(|prior| prior.visit.as_ref());
            let prior_visit = prior_visit.map(|one| encounter_id(sight.key, &one.authority, &one.value));
            self.encounters.extend(prior_visit);
            for visit in visit_numbers(block, settings) {
                self.encounters.insert(encounter_id(sight.key, &visit.authority, &visit.value));
            }
        }
    }

    /// Whether what a message says is withheld: from who reads charts and does not mend them.
    ///
    /// # Errors
    /// The engines'.
    pub async fn is_withheld(&self, sight: Sight<'_>) -> Result<bool, ViewError> {
        if self.asks || !withheld_among(sight, &self.patients, &self.encounters).await?.is_empty() {
            return Ok(true);
        }
        // Its own patients were looked at.
        let Some(mut others) = mention::named(sight, &self.mentioned).await? else { return Ok(true) };
        others.retain(|patient| !self.patients.contains(patient));
        if is_any_withheld(sight, &others).await? {
            return Ok(true);
        }
        // A later message of a newborn may tell of the mother and not say her number again.
        for patient in &self.patients {
            if has_withheld_kin(sight, *patient).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
