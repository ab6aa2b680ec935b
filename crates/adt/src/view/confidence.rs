//! Who is withheld from pages and twins (clinical-rules 20, ADR 9): one answer for all of them, so that what the census
//! masks is not told by a search, a patient's page or a message.

use std::collections::BTreeSet;

use hilum_core::Id;
use hilum_engines::tables::{Read, Row, Scan, Value};
use hilum_hl7v2::Message;
use serde_json::Value as Json;

use super::ViewError;
use super::journey::Sight;
use super::row::Columns;
use crate::content::{Content, Context, Identifier, NextOfKin, Usage, VisitContent};
use crate::fold::content::{GroupRegister, PersonRegister};
use crate::identity::{encounter_id, number_id, visit_numbers};
use crate::kin::Part;
use crate::limits::PATIENT_RECORDS_MAX;
use crate::settings::SourceSettings;
use crate::tables::{BOARD, CONTENT, NUMBER};

/// Whether a resource's `meta.security` restricts it.
pub fn is_restricted(resource: &Json) -> bool {
    let security = resource.pointer("/meta/security").and_then(Json::as_array);
    security.is_some_and(|all| {
        all.iter().any(|one| matches!(one.get("code").and_then(|code| code.as_str()), Some("R" | "V")))
    })
}

/// Whether a row of the board asks for confidence. One that does not say counts as one that does.
pub fn is_confidential_row(row: &Row) -> bool {
    Columns { table: &BOARD, row }.bool("confidential").unwrap_or(true)
}

/// The record at the end of a patient's chain of merges; the patient's own where there is none.
async fn survivor_of(sight: Sight<'_>, patient: Id) -> Result<Id, ViewError> {
    let by_number = Scan { limit: 1, ..Scan::by_index(NUMBER.name, "by_number", vec![Value::Id(patient)]) };
    let rows = sight.tables.read(&[Read::Scan(by_number)]).await?;
    match rows.iter().flatten().next() {
        Some(row) => Columns { table: &NUMBER, row }.id("survivor"),
        None => Ok(patient),
    }
}

/// Whether who a patient is is withheld: the person asks for it, or the record that replaces this one, or a stay that is
/// open or expected. One who is in no table is not.
///
/// # Errors
/// The engines'.
pub async fn is_withheld(sight: Sight<'_>, patient: Id) -> Result<bool, ViewError> {
    let records = BTreeSet::from([patient, survivor_of(sight, patient).await?]);
    let on_board =
        records.iter().map(|id| Read::Scan(Scan::by_index(BOARD.name, "by_patient", vec![Value::Id(*id)])));
    for row in sight.tables.read(&on_board.collect::<Vec<_>>()).await?.iter().flatten() {
        if is_confidential_row(row) {
            return Ok(true);
        }
    }
    is_any_restricted(sight, "Patient", &records).await
}

async fn is_any_restricted(
    sight: Sight<'_>,
    kind: &'static str,
    ids: &BTreeSet<Id>,
) -> Result<bool, ViewError> {
    let ids: Vec<Id> = ids.iter().copied().collect();
    for some in ids.chunks(hilum_chart::limits::READ_RESOURCES_MAX) {
        let wanted: Vec<(&str, Id)> = some.iter().map(|id| (kind, *id)).collect();
        for stored in sight.chart.read_all(sight.authority, &wanted).await?.into_iter().flatten() {
            if !stored.deleted && is_restricted(&serde_json::from_slice(&stored.body).unwrap_or_default()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether any record of this person names somebody who is withheld as mother or next of kin, by number. Then whoever
/// else is kin to the person is withheld with them: they share a name, a telephone, an address.
///
/// # Errors
/// The engines'.
pub async fn has_withheld_kin(sight: Sight<'_>, patient: Id) -> Result<bool, ViewError> {
    // All records of the person, whichever is asked for: they fill each other in.
    let survivor = survivor_of(sight, patient).await?;
    let by_survivor = Scan::by_index(NUMBER.name, "by_survivor", vec![Value::Id(survivor)]);
    let records = Scan { limit: PATIENT_RECORDS_MAX, ..by_survivor };
    let rows = sight.tables.read(&[Read::Scan(records)]).await?.into_iter().next().unwrap_or_default();
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
        let Some(named) = kin_named_in(&Columns { table: &CONTENT, row }, sight)? else { return Ok(true) };
        kin.extend(named);
    }
    is_any_withheld(sight, &kin).await
}

/// Whom a row of content names as kin by number; `None` when it cannot be read.
fn kin_named_in(columns: &Columns<'_>, sight: Sight<'_>) -> Result<Option<BTreeSet<Id>>, ViewError> {
    if columns.text("part")? == Part::Person.as_str() {
        let person = columns.json::<PersonRegister>("body").ok();
        return Ok(person.map(|person| numbers_of(person.whole().mother.items(), sight)));
    }
    let group = columns.json::<GroupRegister<NextOfKin>>("body").ok();
    let owner = columns.id("owner")?;
    Ok(group.map(|group| {
        let items = group.items(owner);
        items.iter().flat_map(|item| numbers_of(&item.content.identifiers, sight)).collect()
    }))
}

/// The patients that these numbers are; a national one is kept as its hash alone and makes none.
fn numbers_of(identifiers: &[Identifier], sight: Sight<'_>) -> BTreeSet<Id> {
    let numbers = identifiers.iter().filter(|one| !one.is_national() && !one.value.is_empty());
    numbers.map(|one| number_id(sight.key, &one.authority, &one.value)).collect()
}

async fn is_any_withheld(sight: Sight<'_>, patients: &BTreeSet<Id>) -> Result<bool, ViewError> {
    for patient in patients {
        if is_withheld(sight, *patient).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whom a message is about, by its row and by its text.
#[derive(Debug, Default)]
pub struct About {
    /// Patients.
    pub patients: BTreeSet<Id>,
    /// Encounters.
    pub encounters: BTreeSet<Id>,
    /// Whom it names by number as kin of a patient.
    pub kin: BTreeSet<Id>,
    /// Whether the text itself asks for confidence, applied or not.
    pub asks: bool,
}

impl About {
    /// Adds all persons and visits that the text names, each of several.
    pub fn read(&mut self, message: &Message, settings: &SourceSettings, sight: Sight<'_>, source: &str) {
        let content = Content::read(message, &Context { settings, source, key: sight.key });
        for block in &content.blocks {
            self.asks |= block.person.is_confidential()
                || block.visit.as_ref().is_some_and(VisitContent::is_confidential);
            let priors = block.prior.iter().flat_map(|prior| &prior.identifiers);
            // A newborn's message names the mother by her number.
            self.kin.extend(numbers_of(block.person.mother.items(), sight));
            for kin in block.next_of_kin.items() {
                self.kin.extend(numbers_of(&kin.identifiers, sight));
            }
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
        if self.asks || is_any_restricted(sight, "Encounter", &self.encounters).await? {
            return Ok(true);
        }
        if is_any_withheld(sight, &self.patients).await? || is_any_withheld(sight, &self.kin).await? {
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
