//! One patient: who, where, since when, allergic to what, and from which message each of these facts comes.
//!
//! The resources are read from the chart on behalf of who asks; what they hang on (records of one person, items of
//! groups) from the room's tables. A confidential person's name, identifiers, places, relatives and diagnoses are
//! withheld on every page and twin alike (clinical-rules 20); what may harm if it is not known stays: allergies.

use std::collections::BTreeMap;

use hilum_chart::limits::READ_RESOURCES_MAX;
use hilum_core::Id;
use hilum_engines::tables::{Read, Row, Scan, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::confidence::{is_restricted, is_withheld};
use super::journey::Sight;
use super::row::Columns;
use super::{ViewError, as_optional_text, as_text};
use crate::content::{Allergy, Coded, Identifier, NextOfKin, PersonContent, Representation, Words as _};
use crate::fold::content::{GroupRegister, PersonRegister};
use crate::fold::ties::Survivors;
use crate::kin::{Part, tie_of};
use crate::limits::{PATIENT_ENCOUNTERS_MAX, PATIENT_RECORDS_MAX};
use crate::map::ids;
use crate::map::summary::{NameDisplay, PatientSummary, identifier_summary, shown_name};
use crate::state::{BoardIdentifier, Item, Standing};
use crate::tables::{CONTENT, ENCOUNTER, NUMBER, TIE};

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
    /// Encounters, newest first.
    pub encounters: Vec<EncounterLine>,
    /// Next of kin.
    pub next_of_kin: Vec<KinLine>,
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
    /// The message that first said exactly this.
    #[serde(serialize_with = "as_text")]
    pub message: Id,
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
    /// The attending.
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

/// What stands in a text of a resource.
fn text<'a>(resource: &'a Json, pointer: &str) -> Option<&'a str> {
    resource.pointer(pointer).and_then(Json::as_str).filter(|text| !text.is_empty())
}

fn owned(resource: &Json, pointer: &str) -> Option<String> {
    text(resource, pointer).map(str::to_owned)
}

fn items<'a>(resource: &'a Json, pointer: &str) -> &'a [Json] {
    resource.pointer(pointer).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

/// The id behind `urn:uuid:` of `meta.source`.
fn source_of(resource: &Json) -> Option<Id> {
    text(resource, "/meta/source")?.strip_prefix("urn:uuid:")?.parse().ok()
}

fn referred(reference: &Json, kind: &str) -> Option<Id> {
    text(reference, "/reference")?.strip_prefix(kind)?.strip_prefix('/')?.parse().ok()
}

fn extension<'a>(resource: &'a Json, url: &str) -> Option<&'a Json> {
    items(resource, "/extension").iter().find(|one| text(one, "/url") == Some(url))
}

/// A concept in words: its text, else the best display, else its code.
fn concept(concept: &Json) -> Option<String> {
    let codings = items(concept, "/coding");
    let display = codings.iter().rev().find_map(|coding| text(coding, "/display"));
    let code = codings.iter().rev().find_map(|coding| text(coding, "/code"));
    text(concept, "/text").or(display).or(code).map(str::to_owned)
}

/// The code as it was sent: the last coding, where what a map adds comes first.
fn code_of(concept: &Json) -> Option<String> {
    items(concept, "/coding").iter().rev().find_map(|coding| owned(coding, "/code"))
}

/// v2-0004 where it was kept, else what stands.
fn class_of(class: &Json) -> Option<String> {
    let kept = items(class, "/extension").iter().find_map(|one| {
        items(one, "/valueCodeableConcept/coding").iter().find_map(|coding| owned(coding, "/code"))
    });
    kept.or_else(|| owned(class, "/code"))
}

fn marks_of(resource: &Json) -> Vec<String> {
    let tags = items(resource, "/meta/tag").iter();
    tags.filter(|tag| text(tag, "/system") == Some(crate::map::MARK_SYSTEM))
        .filter_map(|tag| owned(tag, "/code"))
        .collect()
}

/// A row of [`NUMBER`].
struct Number {
    family: Id,
    number: Id,
    survivor: Id,
    identifier: Option<Identifier>,
    marks: Vec<String>,
}

impl Number {
    fn of(row: &Row) -> Result<Self, ViewError> {
        let columns = Columns { table: &NUMBER, row };
        Ok(Self {
            family: columns.id("family")?,
            number: columns.id("number")?,
            survivor: columns.id("survivor")?,
            identifier: serde_json::from_str(columns.text("identifier")?).ok(),
            marks: columns.json("marks")?,
        })
    }
}

/// The numbers of one person with everything that was said of them.
struct Person {
    own: Number,
    /// Surviving one first, then in the order in which they fill in.
    members: Vec<Number>,
    registers: BTreeMap<(Id, &'static str), String>,
    is_cut: bool,
}

impl Person {
    async fn read(sight: Sight<'_>, id: Id) -> Result<Self, ViewError> {
        let scan = |index, id| {
            let limit = PATIENT_RECORDS_MAX;
            Read::Scan(Scan { limit, ..Scan::by_index(NUMBER.name, index, vec![Value::Id(id)]) })
        };
        let found = sight.tables.read(&[scan("by_number", id)]).await?;
        let own = found.iter().flatten().next().map(Number::of).ok_or(ViewError::NotFound)??;
        let ties = Scan::by_key(TIE.name, vec![Value::Id(own.family)]);
        let found = sight.tables.read(&[scan("by_survivor", own.survivor), Read::Scan(ties)]).await?;
        let [numbers, ties] = found.as_slice() else { return Err(ViewError::NotFound) };
        let is_cut = numbers.len() >= PATIENT_RECORDS_MAX as usize;
        let mut members: Vec<Number> = numbers.iter().map(Number::of).collect::<Result<_, _>>()?;
        let ties: Vec<_> = ties.iter().filter_map(|row| tie_of(&row.values)).collect();
        let order = Survivors::fold(&ties).members(own.survivor, &ties);
        members.sort_by_key(|member| order.iter().position(|id| *id == member.number).unwrap_or(usize::MAX));
        let parts = [Part::Person, Part::NextOfKin, Part::Allergies, Part::Reactions];
        let wanted: Vec<(Id, &'static str)> = members
            .iter()
            .flat_map(|member| parts.iter().map(|part| (member.number, part.as_str())))
            .collect();
        let family = own.family;
        let reads: Vec<Read> = wanted
            .iter()
            .map(|(owner, part)| Read::Get {
                table: CONTENT.name,
                key: vec![Value::Id(family), Value::Id(*owner), Value::Text((*part).to_owned())],
            })
            .collect();
        let mut registers = BTreeMap::new();
        for (key, rows) in wanted.into_iter().zip(sight.tables.read(&reads).await?) {
            if let Some(row) = rows.first() {
                registers.insert(key, Columns { table: &CONTENT, row }.text("body")?.to_owned());
            }
        }
        Ok(Self { own, members, registers, is_cut })
    }

    fn register<T: DeserializeOwned + Default>(&self, owner: Id, part: Part) -> Result<T, ViewError> {
        let Some(body) = self.registers.get(&(owner, part.as_str())) else { return Ok(T::default()) };
        serde_json::from_str(body).map_err(|_| ViewError::Row { table: CONTENT.name, column: "body" })
    }

    fn said_of(&self, number: Id) -> Result<PersonContent, ViewError> {
        Ok(self.register::<PersonRegister>(number, Part::Person)?.whole())
    }

    /// What is known of the person: own words, then what merged records fill in. A merged record stands alone.
    fn whole(&self) -> Result<PersonContent, ViewError> {
        let mut whole = self.said_of(self.own.number)?;
        if self.own.number == self.own.survivor {
            for member in self.members.iter().filter(|member| member.number != self.own.number) {
                whole.fill(&self.said_of(member.number)?);
            }
        }
        Ok(whole)
    }

    fn allergies(&self) -> Result<(Vec<Item<Allergy>>, bool), ViewError> {
        let (mut all, mut is_said) = (Vec::new(), false);
        for member in &self.members {
            let mut own = Vec::new();
            for part in [Part::Allergies, Part::Reactions] {
                is_said |= self.registers.contains_key(&(member.number, part.as_str()));
                own.extend(
                    self.register::<GroupRegister<Allergy>>(member.number, part)?.items(member.number),
                );
            }
            // AL1 and IAM may tell of one thing: what still counts stands, then what was sent last.
            own.sort_by_key(|item| {
                (item.key, std::cmp::Reverse((item.standing == Standing::Current, item.last_sent)))
            });
            own.dedup_by_key(|item| item.key);
            all.extend(own);
        }
        all.sort_by_key(|item| (item.standing != Standing::Current, item.standing == Standing::Deleted));
        Ok((all, is_said))
    }

    fn next_of_kin(&self) -> Result<Vec<Item<NextOfKin>>, ViewError> {
        let mut all = Vec::new();
        for member in &self.members {
            let register: GroupRegister<NextOfKin> = self.register(member.number, Part::NextOfKin)?;
            all.extend(register.items(member.number));
        }
        all.sort_by_key(|item| item.standing != Standing::Current);
        Ok(all)
    }
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
    let confidential = whole.is_confidential() || is_restricted(&resource) || is_withheld(sight, id).await?;
    let open = |text: String| (!confidential && !text.is_empty()).then_some(text);
    let summary = PatientSummary::of(&whole);
    let names = whole.names.items();
    let beside = shown_name(names).and_then(|shown| {
        let latin = names.iter().find(|name| name.representation == Some(Representation::Alphabetic))?;
        (latin != shown).then(|| NameDisplay(latin).to_string())
    });
    let sex = whole.sex.value().map(|sex| sex.code.clone());
    let is_survivor = id == survivor;
    let (encounters, is_cut) =
        if is_survivor { encounters(sight, id, confidential).await? } else { (Vec::new(), false) };
    let (allergies, is_said) = person.allergies()?;
    let lines: Vec<AllergyLine> = allergies.iter().map(|item| AllergyLine::of(item, id, sight)).collect();
    let stands =
        allergies.iter().any(|item| item.standing == Standing::Current && !says_none(&item.content.code));
    let allergies_known = if stands {
        "listed"
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
    let next_of_kin = if confidential || !is_survivor { Vec::new() } else { person.next_of_kin()? };
    let (records, see_also) = records(sight, &person, &resource, confidential).await?;
    let own_marks = person.own.marks.clone();
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
            summary.identifiers.into_iter().map(board_identifier).collect()
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
        next_of_kin: next_of_kin.iter().map(|item| KinLine::of(item, id, sight)).collect(),
        records,
        see_also,
        message: source_of(&resource),
        truncated: is_cut || person.is_cut,
    })
}

/// Whether an allergy's code says that there is none.
fn says_none(code: &Coded) -> bool {
    let words = code.words().trim().to_uppercase();
    matches!(
        words.as_str(),
        "NKA"
            | "NKDA"
            | "NONE"
            | "NO KNOWN ALLERGIES"
            | "NO KNOWN ALLERGY"
            | "NO KNOWN DRUG ALLERGIES"
            | "없음"
    ) || matches!(code.code.as_str(), "716186003" | "409137002" | "NKA" | "NKDA")
}

fn board_identifier(one: crate::map::summary::IdentifierSummary) -> BoardIdentifier {
    BoardIdentifier { kind: one.kind, authority: one.authority, value: one.value }
}

fn words(coded: &Coded) -> Option<String> {
    Some(coded.words().to_owned()).filter(|words| !words.is_empty())
}

impl AllergyLine {
    fn of(item: &Item<Allergy>, patient: Id, sight: Sight<'_>) -> Self {
        let allergy = &item.content;
        let what = words(&allergy.code).unwrap_or_default();
        let severity =
            if allergy.reaction_severity.is_empty() { &allergy.severity } else { &allergy.reaction_severity };
        Self {
            id: ids::allergy_intolerance(sight.key, item.origin, item.key),
            code: Some(allergy.code.code.clone()).filter(|code| !code.is_empty() && *code != what),
            what,
            kind: Some(allergy.kind.code.clone()).filter(|code| !code.is_empty()),
            severity: Some(severity.code.clone()).filter(|code| !code.is_empty()),
            reactions: allergy.reactions.iter().filter_map(words).collect(),
            standing: item.standing,
            origin: Some(item.origin).filter(|origin| *origin != patient),
            source: item.source.clone(),
            message: item.message,
        }
    }
}

impl KinLine {
    fn of(item: &Item<NextOfKin>, patient: Id, sight: Sight<'_>) -> Self {
        let kin = &item.content;
        let name = shown_name(&kin.names).map(|name| NameDisplay(name).to_string());
        let organization = Some(kin.organization.clone());
        Self {
            id: ids::related_person(sight.key, item.origin, item.key),
            name: name.or(organization).filter(|name| !name.is_empty()),
            relationship: words(&kin.relationship).or_else(|| words(&kin.role)),
            telecoms: kin.telecoms.iter().map(|telecom| telecom.value.clone()).collect(),
            standing: item.standing,
            origin: Some(item.origin).filter(|origin| *origin != patient),
            message: item.message,
        }
    }
}

async fn resources(sight: Sight<'_>, kind: &'static str, ids: &[Id]) -> Result<Vec<(Id, Json)>, ViewError> {
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

async fn encounters(
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
            attending: attending.and_then(|one| owned(one, "/individual/display")),
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

async fn records(
    sight: Sight<'_>,
    person: &Person,
    own: &Json,
    confidential: bool,
) -> Result<(Vec<Record>, Vec<Record>), ViewError> {
    let linked = |resource: &Json, kind: &str| {
        let links = items(resource, "/link").iter();
        let links = links.filter(|link| text(link, "/type") == Some(kind));
        links.filter_map(|link| referred(link.get("other")?, "Patient")).collect::<Vec<Id>>()
    };
    let ids: Vec<Id> = person.members.iter().map(|member| member.number).collect();
    let found: BTreeMap<Id, Json> = resources(sight, "Patient", &ids).await?.into_iter().collect();
    let mut all = Vec::new();
    for member in &person.members {
        let Some(resource) = found.get(&member.number) else { continue };
        let said = person.said_of(member.number)?;
        let name = shown_name(said.names.items()).map(|name| NameDisplay(name).to_string());
        let identifier = member.identifier.as_ref().map(|one| board_identifier(identifier_summary(one)));
        all.push(Record {
            id: member.number,
            identifier: identifier.filter(|_| !confidential),
            name: name.filter(|_| !confidential),
            merged_into: linked(resource, "replaced-by").first().copied(),
            message: source_of(resource),
        });
    }
    let see_also = linked(own, "seealso").into_iter().map(|id| Record {
        id,
        identifier: None,
        name: None,
        merged_into: None,
        message: None,
    });
    Ok((all, see_also.collect()))
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
                all.extend(serde_json::value::RawValue::from_string(stored.json()?).ok());
            }
        }
    }
    Ok(all)
}

/// A date of FHIR as a civil day, where it is one.
pub fn day_of(raw: &str) -> Option<jiff::civil::Date> {
    raw.get(..10)?.parse().ok()
}
