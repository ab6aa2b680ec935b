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
use crate::content::{Content, Context, Usage, VisitContent};
use crate::fold::content::PersonRegister;
use crate::identity::{encounter_id, number_id, visit_numbers};
use crate::kin::Part;
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

/// Whether who a patient is is withheld: the person asks for it, or the record that replaces this one, or a stay that is
/// open or expected. One who is in no table is not.
///
/// # Errors
/// The engines'.
pub async fn is_withheld(sight: Sight<'_>, patient: Id) -> Result<bool, ViewError> {
    let by_number = Scan { limit: 1, ..Scan::by_index(NUMBER.name, "by_number", vec![Value::Id(patient)]) };
    let rows = sight.tables.read(&[Read::Scan(by_number)]).await?;
    let mut records = BTreeSet::from([patient]);
    if let Some(row) = rows.iter().flatten().next() {
        records.insert(Columns { table: &NUMBER, row }.id("survivor")?);
    }
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

/// Whether a patient's records name a mother who is withheld.
///
/// # Errors
/// The engines'.
pub async fn has_withheld_mother(sight: Sight<'_>, patient: Id) -> Result<bool, ViewError> {
    let records =
        Scan { limit: 1_000, ..Scan::by_index(NUMBER.name, "by_survivor", vec![Value::Id(patient)]) };
    let mut wanted = Vec::new();
    for row in sight.tables.read(&[Read::Scan(records)]).await?.iter().flatten() {
        let columns = Columns { table: &NUMBER, row };
        let (family, number) = (columns.id("family")?, columns.id("number")?);
        let part = Value::Text(Part::Person.as_str().to_owned());
        wanted.push(Read::Get { table: CONTENT.name, key: vec![Value::Id(family), Value::Id(number), part] });
    }
    let mut mothers = BTreeSet::new();
    for row in sight.tables.read(&wanted).await?.iter().flatten() {
        let person = Columns { table: &CONTENT, row }.json::<PersonRegister>("body")?.whole();
        mothers
            .extend(person.mother.items().iter().map(|one| number_id(sight.key, &one.authority, &one.value)));
    }
    for mother in mothers {
        if is_withheld(sight, mother).await? {
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
            for mother in block.person.mother.items() {
                self.patients.insert(number_id(sight.key, &mother.authority, &mother.value));
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
        for patient in &self.patients {
            if is_withheld(sight, *patient).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
