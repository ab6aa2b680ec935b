//! The fold's resources as a window that does not know their meaning may show them: one reading of who is withheld with the
//! room's own pages (ADR 9). A confidential person's, or stay's, are as if there were none, to every role.

use std::collections::BTreeSet;

use hilum_chart::discretion::Shown;
use hilum_chart::projection::Projection as _;
use hilum_chart::search::Withheld;
use hilum_chart::search::withheld::is_patient_labelled;
use hilum_chart::{Chart, ChartError, Discretion, Stored};
use hilum_core::{Authority, Id, InstallationKey};
use hilum_engines::log::Log;
use hilum_engines::tables::query::{Check, Keep, Probe, Term, Test};
use hilum_engines::tables::{Scan, Tables, Value};
use serde_json::Value as Json;

use super::ViewError;
use super::confidence::{RESTRICTING, has_withheld_kin, is_restricted, withheld_among};
use super::journey::Sight;
use super::patient::{referred, without_kin};
use crate::project::{Adt, PATIENT_UNSEARCHED};
use crate::tables::{BOARD, NUMBER};

/// What the window reads through.
#[derive(Debug, Clone)]
pub struct Window {
    /// The room's tables.
    pub tables: Tables,
    /// The log.
    pub log: Log,
    /// The chart.
    pub chart: Chart,
    /// Keys every id.
    pub key: InstallationKey,
}

impl Discretion for Window {
    fn show<'a>(&'a self, authority: &'a Authority, stored: &'a Stored) -> Shown<'a> {
        let Self { tables, log, chart, key } = self;
        let sight = Sight { tables, log, chart, key, authority };
        Box::pin(async move { show(sight, stored).await.map_err(chart_error) })
    }

    fn withheld(&self) -> Withheld {
        // The person asks for it, or a stay that is open or expected: as `withheld_among` reads it, of this record and of
        // the one that replaces it. What only reading shows (a row that cannot be read, kin) stays with `show`.
        let confidential = Keep { column: "confidential", test: Test::Is(Value::Bool(true)) };
        let on_board = Probe {
            keep: vec![confidential],
            ..Probe::by_index(BOARD.name, "by_patient", vec![Term::Subject])
        };
        let asks = Check::Any(vec![Check::Has(on_board), is_patient_labelled(Adt::NAME, RESTRICTING)]);
        let survivor = Check::Each {
            probe: Probe::by_index(NUMBER.name, "by_number", vec![Term::Subject]),
            subject: "survivor",
            check: Box::new(asks.clone()),
        };
        Withheld {
            owner: Adt::NAME,
            patient: Check::Any(vec![asks, survivor]),
            labels: RESTRICTING,
            through: &[("Condition", "encounter")],
            unsearched: UNSEARCHED,
            unfound: &["RelatedPerson"],
            made: Some(Scan::by_key(NUMBER.name, Vec::new())),
        }
    }
}

/// By which parameters what the fold makes is not indexed: `_source` is a column of the chart.
const UNSEARCHED: &[(&str, &[&str])] = &[
    ("Patient", PATIENT_UNSEARCHED),
    ("Encounter", &["_source"]),
    ("Condition", &["_source"]),
    ("AllergyIntolerance", &["_source"]),
    ("Location", &["_source"]),
    ("Practitioner", &["_source"]),
    ("Organization", &["_source"]),
];

fn chart_error(error: ViewError) -> ChartError {
    match error {
        ViewError::Tables(error) => error.into(),
        ViewError::Log(error) => error.into(),
        ViewError::Chart(error) => error,
        ViewError::Row { table, column } => {
            ChartError::Stored { what: table, why: format!("column {column} is not what it should be") }
        }
        ViewError::NotFound => ChartError::NotFound,
    }
}

/// Whom a resource is about, and which stay.
#[derive(Debug, Default)]
struct About {
    patient: Option<Id>,
    encounter: Option<Id>,
}

/// `None` for a type that the fold does not make, and for one whose reference cannot be read.
fn about(stored: &Stored, resource: &Json) -> Option<About> {
    let of = |element: &str, kind: &str| resource.get(element).and_then(|one| referred(one, kind));
    Some(match stored.resource_type.as_str() {
        "Patient" => About { patient: Some(stored.id), ..About::default() },
        "Encounter" => About { patient: Some(of("subject", "Patient")?), encounter: Some(stored.id) },
        "Condition" => {
            About { patient: Some(of("subject", "Patient")?), encounter: of("encounter", "Encounter") }
        }
        "AllergyIntolerance" | "RelatedPerson" => {
            About { patient: Some(of("patient", "Patient")?), ..About::default() }
        }
        "Location" | "Practitioner" | "Organization" => About::default(),
        _ => return None,
    })
}

async fn show(sight: Sight<'_>, stored: &Stored) -> Result<Option<String>, ViewError> {
    let resource: Json = serde_json::from_slice(&stored.body).unwrap_or_default();
    let Some(About { patient, encounter }) = about(stored, &resource).filter(|_| !is_restricted(&resource))
    else {
        return Ok(None);
    };
    let (patients, encounters) = (patient.into_iter().collect(), encounter.into_iter().collect());
    if !withheld_among(sight, &patients, &encounters).await?.is_empty() {
        return Ok(None);
    }
    let json = stored.json()?;
    let Some(patient) = patient else { return Ok(Some(json)) };
    match stored.resource_type.as_str() {
        "RelatedPerson" if has_withheld_kin(sight, patient).await? => Ok(None),
        "Patient" => {
            let json = if has_withheld_kin(sight, patient).await? { without_kin(&json) } else { json };
            without_withheld_links(sight, json, &resource).await.map(Some)
        }
        _ => Ok(Some(json)),
    }
}

/// A Patient without links to records of the same person that are withheld from who asks: the one would name the other.
async fn without_withheld_links(
    sight: Sight<'_>,
    json: String,
    resource: &Json,
) -> Result<String, ViewError> {
    let links = resource.get("link").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let other = |link: &Json| link.get("other").and_then(|other| referred(other, "Patient"));
    let linked: BTreeSet<Id> = links.iter().filter_map(other).collect();
    let withheld = withheld_among(sight, &linked, &BTreeSet::new()).await?.patients;
    if withheld.is_empty() {
        return Ok(json);
    }
    let mut shown: Json = serde_json::from_str(&json).unwrap_or_default();
    if let Some(links) = shown.get_mut("link").and_then(Json::as_array_mut) {
        links.retain(|link| other(link).is_some_and(|other| !withheld.contains(&other)));
    }
    Ok(shown.to_string())
}
