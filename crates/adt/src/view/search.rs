//! Patients by identifier, part of a name or date of birth. What is asked for never stands in a URL; who is
//! confidential is found by an identifier alone, and then masked (clinical-rules 20).

use std::borrow::Cow;
use std::collections::BTreeSet;

use hilum_core::Id;
use hilum_engines::tables::{Read, Scan, Value};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::confidence::{is_restricted, is_withheld};
use super::journey::Sight;
use super::names::{tight, words};
use super::row::Columns;
use super::{ViewError, as_optional_text, as_text};
use crate::content::Identifier;
use crate::fold::content::PersonRegister;
use crate::kin::Part;
use crate::limits::{SEARCH_LOOKS_MAX, SEARCH_PATIENTS_MAX, SEARCH_ROWS_MAX};
use crate::map::summary::{PatientSummary, identifier_summary};
use crate::state::BoardIdentifier;
use crate::tables::{CONTENT, NUMBER, indexed};

/// What is asked for: all that is given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// An identifier's value, byte-exact.
    pub identifier: Option<String>,
    /// Its authority, as shown or as sent.
    pub authority: Option<String>,
    /// Words of the name, in any order and case.
    pub name: Option<String>,
    /// FHIR date, or its beginning (`1980-01`).
    pub birth_date: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// One patient that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The Patient resource.
    #[serde(serialize_with = "as_text")]
    pub id: Id,
    /// As a banner shows it; absent when withheld or not known.
    pub name: Option<String>,
    /// FHIR date.
    pub birth_date: Option<String>,
    /// FHIR gender.
    pub gender: Option<String>,
    /// Identifiers, national numbers masked.
    pub identifiers: Vec<BoardIdentifier>,
    /// The record that replaces it.
    #[serde(serialize_with = "as_optional_text")]
    pub merged_into: Option<Id>,
    /// Whether who it is is withheld.
    pub confidential: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// By id.
    pub patients: Vec<Found>,
    /// Whether there may be more than was looked at: give an identifier.
    pub truncated: bool,
}

/// Searches.
///
/// # Errors
/// [`ViewError::NotFound`] when the authority may not read charts, else the engine's.
pub async fn search(sight: Sight<'_>, query: &Query) -> Result<Answer, ViewError> {
    if !sight.authority.reads_charts() {
        return Err(ViewError::NotFound);
    }
    let limit = query.limit.clamp(1, SEARCH_PATIENTS_MAX);
    let (mut candidates, mut truncated) = (BTreeSet::new(), false);
    if let Some(value) = &query.identifier {
        (candidates, truncated) = by_identifier(sight, value, query.authority.as_deref()).await?;
    }
    // A further number makes no record of its own (clinical-rules 14): it stands in the records that carry it.
    if candidates.is_empty() {
        (candidates, truncated) = by_look(sight, query).await?;
    }
    let mut patients = Vec::new();
    for id in candidates {
        let Some(found) = found(sight, id).await? else { continue };
        let asks_name = query.name.is_some() || query.birth_date.is_some();
        let fits = if found.confidential {
            !asks_name
        } else {
            query
                .birth_date
                .as_deref()
                .is_none_or(|day| found.birth_date.as_deref().is_some_and(|birth| birth.starts_with(day)))
                && query.name.as_deref().is_none_or(|name| {
                    found.name.as_deref().is_some_and(|own| mentions(own, name)) || query.identifier.is_none()
                })
        };
        if !fits {
            continue;
        }
        if patients.len() >= limit {
            truncated = true;
            break;
        }
        patients.push(found);
    }
    Ok(Answer { patients, truncated })
}

/// Whether each word stands somewhere in the name, but for case, accents, blanks and punctuation.
fn mentions(name: &str, asked: &str) -> bool {
    let own = tight(name);
    let mut words = words(asked).peekable();
    words.peek().is_some() && words.all(|word| own.contains(&word))
}

async fn by_identifier(
    sight: Sight<'_>,
    value: &str,
    authority: Option<&str>,
) -> Result<(BTreeSet<Id>, bool), ViewError> {
    let limit = SEARCH_ROWS_MAX;
    let scan = Scan { limit, ..Scan::by_index(NUMBER.name, "by_value", vec![indexed(value)]) };
    let rows = sight.tables.read(&[Read::Scan(scan)]).await?.into_iter().next().unwrap_or_default();
    let mut ids = BTreeSet::new();
    for row in &rows {
        let columns = Columns { table: &NUMBER, row };
        let identifier: Option<Identifier> = serde_json::from_str(columns.text("identifier")?).ok();
        let fits = identifier.as_ref().is_some_and(|one| {
            authority.is_none_or(|asked| {
                one.authority == asked || one.namespace == asked || identifier_summary(one).authority == asked
            })
        });
        if fits {
            ids.insert(columns.id("number")?);
        }
    }
    Ok((ids, rows.len() >= limit as usize))
}

/// The chart, page by page: every patient is looked at, so that one who is there is found.
async fn by_look(sight: Sight<'_>, query: &Query) -> Result<(BTreeSet<Id>, bool), ViewError> {
    let mut ids = BTreeSet::new();
    if query.name.is_none() && query.birth_date.is_none() && query.identifier.is_none() {
        return Ok((ids, false));
    }
    let (mut after, mut seen) = (None, 0);
    loop {
        let (page, cursor) = sight.chart.page(sight.authority, "Patient", after, 1_000).await?;
        seen += page.len();
        for stored in &page {
            if looks_like(&stored.body, query) {
                ids.insert(stored.id);
            }
        }
        match cursor {
            None => return Ok((ids, false)),
            Some(_) if seen >= SEARCH_LOOKS_MAX || ids.len() > SEARCH_PATIENTS_MAX => {
                return Ok((ids, true));
            }
            next => after = next,
        }
    }
}

/// What a search reads of a Patient.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Look<'a> {
    #[serde(borrow)]
    birth_date: Cow<'a, str>,
    #[serde(borrow)]
    name: Vec<LookName<'a>>,
    #[serde(borrow)]
    identifier: Vec<LookIdentifier<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LookName<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(borrow)]
    family: Cow<'a, str>,
    #[serde(borrow)]
    given: Vec<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LookIdentifier<'a> {
    #[serde(borrow)]
    value: Cow<'a, str>,
    #[serde(borrow)]
    system: Cow<'a, str>,
    #[serde(borrow)]
    assigner: LookAssigner<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LookAssigner<'a> {
    #[serde(borrow)]
    display: Cow<'a, str>,
}

impl LookIdentifier<'_> {
    fn is(&self, value: &str, authority: Option<&str>) -> bool {
        self.value == value
            && authority.is_none_or(|asked| {
                self.assigner.display == asked
                    || self.system == asked
                    || self.system.ends_with(&format!(":{asked}"))
            })
    }
}

fn looks_like(body: &[u8], query: &Query) -> bool {
    let look: Look<'_> = serde_json::from_slice(body).unwrap_or_default();
    if let Some(value) = &query.identifier {
        return look.identifier.iter().any(|one| one.is(value, query.authority.as_deref()));
    }
    let is_born = query.birth_date.as_deref().is_none_or(|day| look.birth_date.starts_with(day));
    let is_named = query.name.as_deref().is_none_or(|asked| {
        look.name
            .iter()
            .any(|name| mentions(&format!("{} {} {}", name.text, name.family, name.given.join(" ")), asked))
    });
    // Last, for it reads the whole: who is restricted is found by a number alone.
    is_born && is_named && !is_restricted(&serde_json::from_slice::<Json>(body).unwrap_or_default())
}

/// One number's record in short; `None` where it makes no patient.
///
/// # Errors
/// The engine's.
pub async fn found(sight: Sight<'_>, id: Id) -> Result<Option<Found>, ViewError> {
    let by_number = Scan { limit: 1, ..Scan::by_index(NUMBER.name, "by_number", vec![Value::Id(id)]) };
    let rows = sight.tables.read(&[Read::Scan(by_number)]).await?;
    let Some(row) = rows.iter().flatten().next() else { return Ok(None) };
    let columns = Columns { table: &NUMBER, row };
    let survivor = columns.id("survivor")?;
    let family = columns.id("family")?;
    let own: Option<Identifier> = serde_json::from_str(columns.text("identifier")?).ok();
    let key = vec![Value::Id(family), Value::Id(id), Value::Text(Part::Person.as_str().to_owned())];
    let rows = sight.tables.read(&[Read::Get { table: CONTENT.name, key }]).await?;
    let person = match rows.iter().flatten().next() {
        Some(row) => Columns { table: &CONTENT, row }.json::<PersonRegister>("body").ok(),
        None => Some(PersonRegister::default()),
    };
    // Whether one asks for confidence whose row cannot be read is not known.
    let is_unreadable = person.is_none();
    let person = person.unwrap_or_default().whole();
    let confidential = is_unreadable || person.is_confidential() || is_withheld(sight, id).await?;
    let mut found = Found {
        id,
        name: None,
        birth_date: None,
        gender: None,
        identifiers: Vec::new(),
        merged_into: (survivor != id).then_some(survivor),
        confidential,
    };
    if !confidential {
        let summary = PatientSummary::of(&person);
        found.name = Some(summary.name).filter(|name| !name.is_empty());
        found.birth_date = summary.birth_date;
        found.gender = summary.gender.map(std::borrow::Cow::into_owned);
        let mut identifiers = summary.identifiers;
        if let Some(own) = own.filter(|_| identifiers.is_empty()) {
            identifiers.push(identifier_summary(&own));
        }
        found.identifiers = identifiers.into_iter().map(BoardIdentifier::from).collect();
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_their_parts() {
        let cases = [
            ("whole", "홍길동", "홍길동", true),
            ("part", "홍길동", "길동", true),
            ("case", "EVERYMAN, Adam A", "adam everyman", true),
            ("blank in a name that is whole", "홍길동", "홍 길동", true),
            ("as it is shown", "Garcia-Lopez, Ana María", "Garcia-Lopez, Ana María", true),
            ("without accents", "Garcia-Lopez, Ana María", "ana maria", true),
            ("with accents", "Muller, Jorg", "Müller, Jörg", true),
            ("two letters for one", "Strauß, Øyvind Łukasz", "strauss oyvind lukasz", true),
            ("an apostrophe of print", "O'Brien, Seán", "O’Brien sean", true),
            ("a comma and no blank", "남궁, 민수", "남궁,민수", true),
            ("half-width for full-width", "Ｄｏｅ, Ｊａｎｅ", "doe", true),
            ("a syllable is no part of another", "강민수", "가", false),
            ("another", "홍길동", "김", false),
            ("nothing asked", "홍길동", "  ", false),
        ];
        for (why, name, words, want) in cases {
            assert_eq!(mentions(name, words), want, "{why}");
        }
    }
}
