//! One patient: who, where, since when, allergic to what, and from which message each of these facts comes.
//!
//! The resources are read from the chart on behalf of who asks; what they hang on (records of one person, items of
//! groups) from the room's tables. A confidential person's name, identifiers, places, relatives and diagnoses are
//! withheld on every page and twin alike (clinical-rules 20); what may harm if it is not known stays: allergies. From who
//! does not mend, encounters and messages are withheld as well: they would tell which masked row of the board is theirs.

mod encounters;
mod fhir;
mod items;
mod person;
mod records;

use std::collections::BTreeSet;

use hilum_chart::limits::READ_RESOURCES_MAX;
use hilum_core::Id;
use serde::Serialize;
use serde_json::Value as Json;

pub use fhir::day_of;
pub(super) use fhir::referred;
use fhir::source_of;
use items::says_none;
use person::Person;

use super::confidence::{has_withheld_kin, is_restricted, is_withheld, withheld_among};
use super::journey::Sight;
use super::{ViewError, as_optional_text, as_text};
use crate::content::Representation;
use crate::map::patient::{MAIDEN_NAME, MOTHER};
use crate::map::summary::{NameDisplay, PatientSummary, shown_name};
use crate::state::{BoardIdentifier, Standing};

/// A patient as the page and the twin show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Patient {
    /// The Patient resource.
    #[serde(serialize_with = "as_text")]
    pub id: Id,
    /// The record at the end of the chain of merges; `id` itself when it is not merged.
    #[serde(serialize_with = "as_text")]
    pub survivor: Id,
    /// Whether who it is and where is withheld.
    pub confidential: bool,
    /// As a banner shows it; absent when withheld or not known.
    pub name: Option<String>,
    /// The same name in letters of an alphabet, where it is sent too.
    pub name_beside: Option<String>,
    /// FHIR date.
    pub birth_date: Option<String>,
    /// FHIR gender; the code as sent where it has no map.
    pub gender: Option<String>,
    /// Identifiers, national numbers masked, the primary one first.
    pub identifiers: Vec<BoardIdentifier>,
    /// Died at (FHIR), or `unknown`; absent = not known to be dead.
    pub died: Option<String>,
    /// Where the patient is now; absent when withheld, not known or not in the house.
    pub location: Option<String>,
    /// Mark ids.
    pub marks: Vec<String>,
    /// What is known of allergies: `listed`, `none` (somebody recorded that there are none), `not-known`.
    pub allergies_known: &'static str,
    /// Allergies: those that stand, then those that are no longer sent or were deleted.
    pub allergies: Vec<AllergyLine>,
    /// Encounters, newest first; empty when withheld.
    pub encounters: Vec<EncounterLine>,
    /// Whether encounters and messages are withheld: when somebody came tells which masked row of the board is theirs.
    pub encounters_withheld: bool,
    /// Next of kin; empty when withheld.
    pub next_of_kin: Vec<KinLine>,
    /// Whether kin, and what tells who and where they are, is withheld: one of them is.
    pub kin_withheld: bool,
    /// The records of this person, the surviving one first. One alone is not merged.
    pub records: Vec<Record>,
    /// Records that a source linked without merging.
    pub see_also: Vec<Record>,
    /// The message that `meta.source` names.
    #[serde(serialize_with = "as_optional_text")]
    pub message: Option<Id>,
    /// Whether there are more encounters or records than one answer holds.
    pub truncated: bool,
}

/// One allergy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AllergyLine {
    /// The AllergyIntolerance.
    #[serde(serialize_with = "as_text")]
    pub id: Id,
    /// To what.
    pub what: String,
    /// Its code as sent, where there is one beside the words.
    pub code: Option<String>,
    /// Table 0127 as sent.
    pub kind: Option<String>,
    /// Table 0128 as sent.
    pub severity: Option<String>,
    /// How it showed.
    pub reactions: Vec<String>,
    /// `current`, `no-longer-sent`, `deleted`.
    pub standing: Standing,
    /// The record that it was sent for, when that is another one of this person.
    #[serde(serialize_with = "as_optional_text")]
    pub origin: Option<Id>,
    /// The source.
    pub source: String,
    /// The message that first said exactly this; absent where [`Patient::encounters_withheld`].
    #[serde(serialize_with = "as_optional_text")]
    pub message: Option<Id>,
}

/// One next of kin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KinLine {
    /// The RelatedPerson.
    #[serde(serialize_with = "as_text")]
    pub id: Id,
    /// As a banner shows it; the organization where there is no name.
    pub name: Option<String>,
    /// In the words that were sent.
    pub relationship: Option<String>,
    /// Numbers and addresses.
    pub telecoms: Vec<String>,
    /// `current`, `no-longer-sent`, `deleted`.
    pub standing: Standing,
    /// As [`AllergyLine::origin`].
    #[serde(serialize_with = "as_optional_text")]
    pub origin: Option<Id>,
    /// The message that first said exactly this.
    #[serde(serialize_with = "as_text")]
    pub message: Id,
}

/// One encounter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EncounterLine {
    /// The Encounter.
    #[serde(serialize_with = "as_text")]
    pub id: Id,
    /// The visit number; absent when withheld or inferred.
    pub visit: Option<String>,
    /// Class code as the source sent it.
    pub class: Option<String>,
    /// FHIR Encounter.status.
    pub status: String,
    /// FHIR dateTimes.
    pub start: Option<String>,
    /// FHIR dateTime; absent = still, or not known.
    pub end: Option<String>,
    /// The attending; absent where the stay is confidential.
    pub attending: Option<String>,
    /// Places, oldest first; empty when withheld.
    pub places: Vec<Stay>,
    /// Statuses, oldest first; empty where there was one alone.
    pub statuses: Vec<Phase>,
    /// Classes, oldest first; empty where there was one alone.
    pub classes: Vec<Phase>,
    /// Diagnoses in the order of the encounter; empty when withheld.
    pub diagnoses: Vec<DiagnosisLine>,
    /// Mark ids.
    pub marks: Vec<String>,
    /// Whether the place and what else tells who or why is withheld.
    pub confidential: bool,
    /// The message that made it what it is.
    #[serde(serialize_with = "as_optional_text")]
    pub message: Option<Id>,
}

/// A time at a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stay {
    /// Unit, room, bed as one text.
    pub place: String,
    /// FHIR dateTime.
    pub start: Option<String>,
    /// FHIR dateTime.
    pub end: Option<String>,
    /// `active`, `reserved`, `planned`, `completed`.
    pub status: String,
    /// Whether the bed elsewhere is held meanwhile.
    pub temporary: bool,
}

/// A time in a status or class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// The code.
    pub what: String,
    /// FHIR dateTime.
    pub start: Option<String>,
    /// FHIR dateTime.
    pub end: Option<String>,
}

/// A diagnosis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiagnosisLine {
    /// The Condition.
    #[serde(serialize_with = "as_text")]
    pub id: Id,
    /// In words.
    pub what: String,
    /// The code.
    pub code: Option<String>,
    /// Admitting, working, final: in words.
    pub usage: Option<String>,
    /// FHIR dateTime.
    pub at: Option<String>,
    /// The message that first said exactly this.
    #[serde(serialize_with = "as_optional_text")]
    pub message: Option<Id>,
}

/// One record of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The Patient resource.
    #[serde(serialize_with = "as_text")]
    pub id: Id,
    /// The number that makes it; absent for a provisional patient, or when withheld.
    pub identifier: Option<BoardIdentifier>,
    /// The name that its own messages give; absent when withheld or not known.
    pub name: Option<String>,
    /// What replaces it; absent = it stands.
    #[serde(serialize_with = "as_optional_text")]
    pub merged_into: Option<Id>,
    /// The message that `meta.source` names.
    #[serde(serialize_with = "as_optional_text")]
    pub message: Option<Id>,
}

/// Reads a patient.
///
/// # Errors
/// [`ViewError::NotFound`] when there is none of this id or the authority may not read charts.
pub async fn read(sight: Sight<'_>, id: Id) -> Result<Patient, ViewError> {
    let resource = sight.chart.read(sight.authority, "Patient", id).await?;
    let resource: Json = serde_json::from_slice(&resource.body).unwrap_or_default();
    let person = Person::read(sight, id).await?;
    let survivor = person.own.survivor;
    let whole = person.whole()?;
    // Whether one asks for confidence of whom a row cannot be read is not known.
    let confidential = person.is_unreadable()
        || whole.is_confidential()
        || is_restricted(&resource)
        || is_withheld(sight, id).await?;
    let open = |text: String| (!confidential && !text.is_empty()).then_some(text);
    let summary = PatientSummary::of(&whole);
    let names = whole.names.items();
    let beside = shown_name(names).and_then(|shown| {
        let latin = names.iter().find(|name| name.representation == Some(Representation::Alphabetic))?;
        (latin != shown).then(|| NameDisplay(latin).to_string())
    });
    let sex = whole.sex.value().map(|sex| sex.code.clone());
    let is_survivor = id == survivor;
    let encounters_withheld = confidential && !sight.authority.decides();
    let (encounters, is_cut) = if is_survivor && !encounters_withheld {
        encounters::encounters(sight, id, confidential).await?
    } else {
        (Vec::new(), false)
    };
    let (allergies, is_said) = person.allergies()?;
    let mut lines: Vec<AllergyLine> = allergies.iter().map(|item| AllergyLine::of(item, id, sight)).collect();
    let stands =
        allergies.iter().any(|item| item.standing == Standing::Current && !says_none(&item.content.code));
    let allergies_known = if stands {
        "listed"
    } else if person.lacks_allergies() {
        "not-known"
    } else if allergies.iter().any(|item| item.standing != Standing::NoLongerSent)
        || (is_said && allergies.is_empty())
    {
        "none"
    } else {
        "not-known"
    };
    let location = encounters.iter().find_map(|one| {
        let now = |stay: &&Stay| matches!(stay.status.as_str(), "active" | "reserved") && !stay.temporary;
        one.places.iter().find(now).map(|stay| stay.place.clone())
    });
    let kin_withheld = confidential || has_withheld_kin(sight, id).await?;
    let next_of_kin = if kin_withheld || !is_survivor { Vec::new() } else { person.next_of_kin()? };
    let (mut records, mut see_also) = records::records(sight, &person, &resource, confidential).await?;
    if !sight.authority.decides() {
        // Who is linked is the same person: the one would name the other.
        let linked: BTreeSet<Id> = see_also.iter().map(|record| record.id).collect();
        let withheld = withheld_among(sight, &linked, &BTreeSet::new()).await?.patients;
        see_also.retain(|record| !confidential && !withheld.contains(&record.id));
    }
    if encounters_withheld {
        for line in &mut lines {
            line.message = None;
        }
        for record in &mut records {
            record.message = None;
        }
    }
    let own_marks = person.marks();
    Ok(Patient {
        id,
        survivor,
        confidential,
        name: open(summary.name),
        name_beside: beside.and_then(open),
        birth_date: summary.birth_date.filter(|_| !confidential),
        gender: summary.gender.map(std::borrow::Cow::into_owned).or(sex).filter(|_| !confidential),
        identifiers: if confidential {
            Vec::new()
        } else {
            summary.identifiers.into_iter().map(BoardIdentifier::from).collect()
        },
        died: whole
            .died
            .value()
            .map(|died| died.as_str().to_owned())
            .or_else(|| whole.is_dead().then(|| "unknown".to_owned()))
            .filter(|_| whole.is_dead()),
        location,
        marks: own_marks,
        allergies_known,
        allergies: lines,
        encounters,
        encounters_withheld,
        next_of_kin: next_of_kin.iter().map(|item| KinLine::of(item, id, sight)).collect(),
        kin_withheld,
        records,
        see_also,
        message: source_of(&resource).filter(|_| !encounters_withheld),
        truncated: is_cut || person.is_cut,
    })
}

/// The resources of a patient as they go out, pretty enough to read: Patient, Encounters, Conditions, allergies and
/// relatives.
///
/// # Errors
/// As [`read`]; [`ViewError::NotFound`] for a confidential patient, whose resources are withheld.
pub async fn raw(sight: Sight<'_>, id: Id) -> Result<Vec<Box<serde_json::value::RawValue>>, ViewError> {
    let patient = read(sight, id).await?;
    if patient.confidential {
        return Err(ViewError::NotFound);
    }
    let mut wanted = vec![("Patient", id)];
    for encounter in &patient.encounters {
        if encounter.confidential {
            continue;
        }
        wanted.push(("Encounter", encounter.id));
        wanted.extend(encounter.diagnoses.iter().map(|diagnosis| ("Condition", diagnosis.id)));
    }
    wanted.extend(patient.allergies.iter().map(|allergy| ("AllergyIntolerance", allergy.id)));
    wanted.extend(patient.next_of_kin.iter().map(|kin| ("RelatedPerson", kin.id)));
    let mut all = Vec::new();
    for some in wanted.chunks(READ_RESOURCES_MAX) {
        for stored in sight.chart.read_all(sight.authority, some).await?.into_iter().flatten() {
            if !stored.deleted {
                let json = stored.json()?;
                let json = if patient.kin_withheld { without_kin(&json) } else { json };
                let json =
                    if sight.authority.decides() { json } else { without_others(&json, &patient.see_also) };
                all.extend(serde_json::value::RawValue::from_string(json).ok());
            }
        }
    }
    Ok(all)
}

/// A resource without links to records that are not to be seen also.
fn without_others(json: &str, see_also: &[Record]) -> String {
    let mut resource: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    if let Some(links) = resource.get_mut("link").and_then(serde_json::Value::as_array_mut) {
        links.retain(|link| {
            let other = link.get("other").and_then(|other| fhir::referred(other, "Patient"));
            fhir::text(link, "/type") != Some("seealso")
                || other.is_some_and(|other| see_also.iter().any(|record| record.id == other))
        });
    }
    resource.to_string()
}

/// A resource without what tells who a patient's mother is, and where she lives: a newborn's address is hers.
pub(super) fn without_kin(json: &str) -> String {
    let mut resource: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    if let Some(extensions) = resource.get_mut("extension").and_then(serde_json::Value::as_array_mut) {
        extensions.retain(|one| {
            let url = one.get("url").and_then(|url| url.as_str());
            !matches!(url, Some(MOTHER | MAIDEN_NAME))
        });
    }
    if let Some(patient) = resource.as_object_mut() {
        for element in ["address", "telecom", "contact"] {
            patient.remove(element);
        }
    }
    resource.to_string()
}
