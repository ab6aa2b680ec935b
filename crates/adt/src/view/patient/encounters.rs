//! A patient's encounters, from the chart.

use std::collections::BTreeMap;

use hilum_chart::limits::READ_RESOURCES_MAX;
use hilum_core::Id;
use hilum_engines::tables::{Read, Scan, Value};
use serde_json::Value as Json;

use super::fhir::{class_of, code_of, concept, extension, items, marks_of, owned, referred, source_of};
use super::{DiagnosisLine, EncounterLine, Phase, Stay};
use crate::limits::PATIENT_ENCOUNTERS_MAX;
use crate::tables::ENCOUNTER;
use crate::view::ViewError;
use crate::view::confidence::is_restricted;
use crate::view::journey::Sight;
use crate::view::row::Columns;

pub(super) async fn resources(
    sight: Sight<'_>,
    kind: &'static str,
    ids: &[Id],
) -> Result<Vec<(Id, Json)>, ViewError> {
    let mut all = Vec::with_capacity(ids.len());
    for some in ids.chunks(READ_RESOURCES_MAX) {
        let wanted: Vec<(&str, Id)> = some.iter().map(|id| (kind, *id)).collect();
        for stored in sight.chart.read_all(sight.authority, &wanted).await?.into_iter().flatten() {
            if !stored.deleted {
                all.push((stored.id, serde_json::from_slice(&stored.body).unwrap_or_default()));
            }
        }
    }
    Ok(all)
}

pub(super) async fn encounters(
    sight: Sight<'_>,
    patient: Id,
    confidential: bool,
) -> Result<(Vec<EncounterLine>, bool), ViewError> {
    let scan = Scan {
        limit: PATIENT_ENCOUNTERS_MAX,
        descending: true,
        ..Scan::by_index(ENCOUNTER.name, "by_patient", vec![Value::Id(patient)])
    };
    let rows = sight.tables.read(&[Read::Scan(scan)]).await?.into_iter().next().unwrap_or_default();
    let is_cut = rows.len() >= PATIENT_ENCOUNTERS_MAX as usize;
    let ids: Vec<Id> = rows
        .iter()
        .map(|row| Columns { table: &ENCOUNTER, row }.id("encounter"))
        .collect::<Result<_, _>>()?;
    let found = resources(sight, "Encounter", &ids).await?;
    let conditions: Vec<Id> = found
        .iter()
        .flat_map(|(_, encounter)| items(encounter, "/diagnosis"))
        .filter_map(|diagnosis| referred(diagnosis.get("condition")?, "Condition"))
        .collect();
    let conditions: BTreeMap<Id, Json> =
        resources(sight, "Condition", &conditions).await?.into_iter().collect();
    let lines =
        found.iter().map(|(id, encounter)| EncounterLine::of(*id, encounter, &conditions, confidential));
    Ok((lines.collect(), is_cut))
}

impl EncounterLine {
    fn of(id: Id, encounter: &Json, conditions: &BTreeMap<Id, Json>, confidential: bool) -> Self {
        let confidential = confidential || is_restricted(encounter);
        let period = |one: &Json| (owned(one, "/period/start"), owned(one, "/period/end"));
        let phases = |pointer: &str, what: fn(&Json) -> Option<String>| {
            let all = items(encounter, pointer).iter();
            let all = all.filter_map(|one| {
                let (start, end) = period(one);
                Some(Phase { what: what(one)?, start, end })
            });
            all.collect::<Vec<_>>()
        };
        let stay = |one: &Json| {
            let (start, end) = period(one);
            Some(Stay {
                place: owned(one, "/location/display")?,
                start,
                end,
                status: owned(one, "/status").unwrap_or_default(),
                temporary: extension(one, crate::map::encounter::TEMPORARY).is_some(),
            })
        };
        let diagnosis = |one: &Json| {
            let id = referred(one.get("condition")?, "Condition")?;
            let condition = conditions.get(&id)?;
            Some(DiagnosisLine {
                id,
                what: condition.get("code").and_then(concept)?,
                code: condition.get("code").and_then(code_of),
                usage: one.get("use").and_then(concept),
                at: owned(condition, "/onsetDateTime"),
                message: source_of(condition),
            })
        };
        let attending = items(encounter, "/participant")
            .iter()
            .find(|one| items(one, "/type").iter().any(|kind| code_of(kind).as_deref() == Some("ATND")));
        let visit = items(encounter, "/identifier").iter().find_map(|one| owned(one, "/value"));
        let withheld = |list: &'static str| if confidential { &[][..] } else { items(encounter, list) };
        let (start, end) = period(encounter);
        Self {
            id,
            visit: visit.filter(|_| !confidential),
            class: encounter.get("class").and_then(class_of),
            status: owned(encounter, "/status").unwrap_or_default(),
            start,
            end,
            // Who treats tells the place, and what for: beside a name it is as good as a diagnosis.
            attending: attending.filter(|_| !confidential).and_then(|one| owned(one, "/individual/display")),
            places: withheld("/location").iter().filter_map(stay).collect(),
            statuses: phases("/statusHistory", |one| owned(one, "/status")),
            classes: phases("/classHistory", |one| one.get("class").and_then(class_of)),
            diagnoses: withheld("/diagnosis").iter().filter_map(diagnosis).collect(),
            marks: marks_of(encounter),
            confidential,
            message: source_of(encounter),
        }
    }
}
