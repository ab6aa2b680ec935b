//! The work queue: what an operator should look at, both sides beside each other.

use hilum_core::{Id, Timestamp};
use hilum_engines::tables::{Read, Row, Scan, Value};
use serde::Serialize;

use super::journey::Sight;
use super::row::Columns;
use super::search::{Found, found};
use super::{ViewError, as_optional_text, as_text};
use crate::limits::WORK_ROWS_MAX;
use crate::tables::{CARRIER, NUMBER, WORK};

/// One item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// A function of what it is about.
    #[serde(serialize_with = "as_text")]
    pub id: Id,
    /// `identity`, `merge`, `closed-visit`, `shared-identifier`.
    pub kind: String,
    /// `open` or `decided`.
    pub state: String,
    /// When what it is about was said.
    #[serde(serialize_with = "as_text")]
    pub opened: Timestamp,
    /// The source.
    pub source: String,
    /// One side.
    pub left: Option<Found>,
    /// The other sides.
    pub right: Vec<Found>,
    /// The encounter.
    #[serde(serialize_with = "as_optional_text")]
    pub encounter: Option<Id>,
    /// The message.
    #[serde(serialize_with = "as_optional_text")]
    pub message: Option<Id>,
    /// Of a merge that would close a circle: the messages of the others in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_messages: Vec<String>,
    /// Whether a merge was done; absent for other kinds.
    pub applied: Option<bool>,
    /// Why it is doubted or was not done.
    pub why: Vec<String>,
}

/// The open items, oldest first, up to a bound.
///
/// # Errors
/// [`ViewError::NotFound`] when the authority may not decide, else the engine's.
pub async fn open(sight: Sight<'_>, kind: Option<&str>) -> Result<(Vec<Item>, bool), ViewError> {
    if !sight.authority.decides() {
        return Err(ViewError::NotFound);
    }
    let mut prefix = vec![Value::Text("open".to_owned())];
    prefix.extend(kind.map(|kind| Value::Text(kind.to_owned())));
    let scan = Scan { limit: WORK_ROWS_MAX, ..Scan::by_index(WORK.name, "by_state", prefix) };
    let rows = sight.tables.read(&[Read::Scan(scan)]).await?.into_iter().next().unwrap_or_default();
    let mut all = Vec::with_capacity(rows.len());
    for row in &rows {
        all.push(item(sight, row).await?);
    }
    Ok((all, rows.len() >= WORK_ROWS_MAX as usize))
}

/// One item.
///
/// # Errors
/// As [`open`].
pub async fn read(sight: Sight<'_>, id: Id) -> Result<Item, ViewError> {
    if !sight.authority.decides() {
        return Err(ViewError::NotFound);
    }
    let rows = sight.tables.read(&[Read::Get { table: WORK.name, key: vec![Value::Id(id)] }]).await?;
    let row = rows.iter().flatten().next().ok_or(ViewError::NotFound)?;
    item(sight, row).await
}

async fn item(sight: Sight<'_>, row: &Row) -> Result<Item, ViewError> {
    let columns = Columns { table: &WORK, row };
    let kind = columns.text("kind")?.to_owned();
    let detail: serde_json::Value = columns.json("detail")?;
    let left = columns.optional_id("left_patient")?;
    let mut others: Vec<Id> = columns.optional_id("right_patient")?.into_iter().collect();
    if kind == "shared-identifier"
        && let Some(left) = left
    {
        others = sharers(sight, left).await?;
    }
    let mut right = Vec::new();
    for id in others {
        right.extend(found(sight, id).await?);
    }
    let left = match left {
        Some(left) => found(sight, left).await?,
        None => None,
    };
    let texts = |name: &str| -> Vec<String> {
        let all = detail.get(name).and_then(serde_json::Value::as_array).map_or(&[][..], Vec::as_slice);
        all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    Ok(Item {
        id: columns.id("id")?,
        kind,
        state: columns.text("state")?.to_owned(),
        opened: columns.time("opened")?,
        source: columns.text("source")?.to_owned(),
        left,
        right,
        encounter: columns.optional_id("encounter")?,
        message: columns.optional_id("message")?,
        other_messages: texts("others"),
        applied: detail.get("applied").and_then(serde_json::Value::as_bool),
        why: texts("why"),
    })
}

/// Other numbers that come with an identifier of this one.
async fn sharers(sight: Sight<'_>, number: Id) -> Result<Vec<Id>, ViewError> {
    let by_number = Scan { limit: 1, ..Scan::by_index(NUMBER.name, "by_number", vec![Value::Id(number)]) };
    let rows = sight.tables.read(&[Read::Scan(by_number)]).await?;
    let Some(row) = rows.iter().flatten().next() else { return Ok(Vec::new()) };
    let columns = Columns { table: &NUMBER, row };
    let family = columns.id("family")?;
    let mut identifiers: Vec<Id> =
        columns.json::<Vec<String>>("carries")?.iter().filter_map(|id| id.parse().ok()).collect();
    identifiers.push(number);
    let scans = identifiers.iter().map(|identifier| {
        let prefix = vec![Value::Id(family), Value::Id(*identifier)];
        Read::Scan(Scan { limit: WORK_ROWS_MAX, ..Scan::by_key(CARRIER.name, prefix) })
    });
    let found = sight.tables.read(&scans.collect::<Vec<_>>()).await?;
    let mut others = Vec::new();
    for row in found.iter().flatten() {
        others.push(Columns { table: &CARRIER, row }.id("number")?);
    }
    // The identifier may be somebody's own number.
    others.extend(&identifiers);
    others.retain(|other| *other != number);
    others.sort();
    others.dedup();
    others.truncate(8);
    Ok(others)
}
