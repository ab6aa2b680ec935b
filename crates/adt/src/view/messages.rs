//! Messages: the list, and what is known of one.

use hilum_core::{Authority, Id, Position, Stream, Timestamp};
use hilum_engines::tables::{Read, Row, Scan, Tables, Value};
use serde::Serialize;

use super::confidence::withheld_among;
use super::journey::Sight;
use super::row::Columns;
use super::{ViewError, as_optional_text, as_text};
use crate::content::Finding;
use crate::control_id;
use crate::tables::{FRAMED, MESSAGE, indexed};

/// What stands for the type of an operator's decision.
pub const DECISION_KIND: &str = "decision";

/// What of the messages is asked for, newest first. One of the indexed filters drives; the others filter what it finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// MSH-10, whole.
    pub control_id: Option<String>,
    /// `applied`, `findings`, `no-effect`, `duplicate`, `quarantined`, `refused`, `replaced`.
    pub status: Option<String>,
    /// The rule that set it aside.
    pub rule: Option<String>,
    /// The source.
    pub source: Option<String>,
    /// The patient.
    pub patient: Option<Id>,
    /// The encounter.
    pub encounter: Option<Id>,
    /// `ADT^A01`; [`DECISION_KIND`] for what operators decided.
    pub kind: Option<String>,
    /// Received before this instant.
    pub before: Option<Timestamp>,
    /// Behind this message: the next page.
    pub after: Option<Id>,
    /// At most so many.
    pub limit: u32,
}

/// One message as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The record.
    #[serde(serialize_with = "as_text")]
    pub id: Id,
    /// What `meta.source` of the resources names: one id for all copies of the same bytes.
    #[serde(serialize_with = "as_text")]
    pub effect: Id,
    /// Where it stands in the log.
    #[serde(serialize_with = "as_text")]
    pub position: Position,
    /// The source.
    pub source: String,
    /// When its last byte was here.
    #[serde(serialize_with = "as_text")]
    pub received: Timestamp,
    /// When its group was durable; absent when it was not recorded.
    #[serde(serialize_with = "as_optional_text")]
    pub durable: Option<Timestamp>,
    /// When the sender was told; absent when it was not recorded.
    #[serde(serialize_with = "as_optional_text")]
    pub acked: Option<Timestamp>,
    /// When the chart knew.
    #[serde(serialize_with = "as_text")]
    pub applied_at: Timestamp,
    /// MSH-10.
    pub control_id: String,
    /// `ADT^A01`.
    pub kind: String,
    /// What became of it.
    pub status: String,
    /// Why it was set aside.
    pub rule: Option<String>,
    /// Where.
    pub path: Option<String>,
    /// What is odd about it.
    pub findings: Vec<Finding>,
    /// How the charset was decided.
    pub charset_rule: String,
    /// The acknowledgment code.
    pub ack: String,
    /// The resources that it changed; these and whom it is about are left out by [`super::confidence::hide`].
    pub changed: Vec<String>,
    /// The patient.
    #[serde(serialize_with = "as_optional_text")]
    pub patient: Option<Id>,
    /// The encounter.
    #[serde(serialize_with = "as_optional_text")]
    pub encounter: Option<Id>,
    /// The record that it corrects.
    #[serde(serialize_with = "as_optional_text")]
    pub replaces: Option<Id>,
    /// The record that corrects it.
    #[serde(serialize_with = "as_optional_text")]
    pub replaced_by: Option<Id>,
    /// Its size.
    pub size_bytes: i64,
}

/// Messages, newest first.
///
/// # Errors
/// [`ViewError::NotFound`] when the authority may not read charts, else the engine's.
pub async fn read(tables: &Tables, authority: &Authority, query: &Query) -> Result<Vec<Line>, ViewError> {
    if !authority.reads_charts() {
        return Err(ViewError::NotFound);
    }
    let text = |text: &String| indexed(text);
    let (index, prefix) = match query {
        Query { control_id: Some(control_id), .. } => ("by_control_id", vec![indexed(control_id)]),
        Query { encounter: Some(encounter), .. } => ("by_encounter", vec![Value::Id(*encounter)]),
        Query { patient: Some(patient), .. } => ("by_patient", vec![Value::Id(*patient)]),
        Query { rule: Some(rule), .. } => ("by_rule", vec![text(rule)]),
        Query { status: Some(status), .. } => ("by_status", vec![text(status)]),
        Query { source: Some(source), .. } => ("by_source", vec![text(source)]),
        _ => ("by_received", Vec::new()),
    };
    let mut scan = Scan {
        to: query.before.map(Value::Time),
        descending: true,
        ..Scan::by_index(MESSAGE.name, index, prefix)
    };
    if let Some(after) = query.after {
        let rows = tables.read(&[get(after)]).await?;
        let last = rows.first().and_then(|rows| rows.first()).ok_or(ViewError::NotFound)?;
        let mut place = place_in_index(index, last);
        // What became of it since must not move the place that the page before ended at.
        for (cell, value) in place.iter_mut().zip(&scan.prefix) {
            cell.clone_from(value);
        }
        scan.after = Some(place);
    }
    let wanted = query.limit.max(1) as usize;
    let mut found = Vec::new();
    // A filter that no index serves looks at so many rows and no more.
    for _ in 0..crate::limits::MESSAGE_PAGES_MAX {
        scan.limit = crate::limits::MESSAGE_PAGE_ROWS;
        let rows = tables.read(&[Read::Scan(scan.clone())]).await?.into_iter().next().unwrap_or_default();
        let more = rows.len() >= scan.limit as usize;
        for row in &rows {
            let line = line(row)?;
            if admits(query, &line) {
                found.push(line);
                if found.len() == wanted {
                    return Ok(found);
                }
            }
        }
        let Some(last) = rows.last().filter(|_| more) else { break };
        scan.after = Some(place_in_index(index, last));
    }
    Ok(found)
}

/// As [`read`]; where no message has the control id that is asked for, those that hold it behind their first header, or
/// that were answered by it. None of a patient or a stay that is withheld, unless who asks mends.
///
/// # Errors
/// As [`read`].
pub async fn find(sight: Sight<'_>, query: &Query) -> Result<Vec<Line>, ViewError> {
    // Whose messages are asked for is what these say: for who may not know that there are none.
    if !sight.authority.decides() {
        let (patients, encounters) =
            (query.patient.into_iter().collect(), query.encounter.into_iter().collect());
        if !withheld_among(sight, &patients, &encounters).await?.is_empty() {
            return Ok(Vec::new());
        }
    }
    let mut found = read(sight.tables, sight.authority, query).await?;
    if let (Some(asked), true) = (&query.control_id, found.is_empty()) {
        // As an answer repeats it: with delimiters, escapes and blanks that are no part of what it names.
        let named = control_id::as_named(asked);
        if named != *asked {
            found = read(sight.tables, sight.authority, &Query { control_id: Some(named), ..query.clone() })
                .await?;
        }
    }
    match &query.control_id {
        Some(asked) if found.is_empty() && query.after.is_none() => {
            let mut inside = in_frames(sight.tables, asked).await?;
            let rest = Query { control_id: None, ..query.clone() };
            inside.retain(|line| admits(&rest, line));
            inside.truncate(query.limit.max(1) as usize);
            Ok(inside)
        }
        _ => Ok(found),
    }
}

/// Messages that hold another one of this control id behind their first header (such a frame is quarantined under the first
/// one's id), or that were answered by this one. Newest first.
async fn in_frames(tables: &Tables, control_id: &str) -> Result<Vec<Line>, ViewError> {
    let scan = Scan {
        limit: crate::limits::FRAMES_SHOWN_MAX,
        ..Scan::by_key(FRAMED.name, vec![indexed(control_id)])
    };
    let rows = tables.read(&[Read::Scan(scan)]).await?;
    let records = rows.iter().flatten().map(|row| Columns { table: &FRAMED, row }.id("record"));
    let wanted = records.map(|record| Ok(get(record?))).collect::<Result<Vec<Read>, ViewError>>()?;
    let rows = tables.read(&wanted).await?;
    let mut found = rows.iter().flatten().map(line).collect::<Result<Vec<Line>, ViewError>>()?;
    found.sort_by_key(|line| std::cmp::Reverse((line.received, line.id)));
    Ok(found)
}

fn get(id: Id) -> Read {
    Read::Get { table: MESSAGE.name, key: vec![Value::Id(id)] }
}

/// One message by its record, or by the id that `meta.source` names (then the first of its copies).
///
/// # Errors
/// As [`read`]; [`ViewError::NotFound`] when there is none of this id.
pub async fn read_one(tables: &Tables, authority: &Authority, id: Id) -> Result<Line, ViewError> {
    if !authority.reads_charts() {
        return Err(ViewError::NotFound);
    }
    let by_effect = Scan { limit: 1, ..Scan::by_index(MESSAGE.name, "by_effect", vec![Value::Id(id)]) };
    let found = tables.read(&[get(id), Read::Scan(by_effect)]).await?;
    found.iter().flatten().next().map_or(Err(ViewError::NotFound), line)
}

/// All records of the same bytes from the same source, oldest first.
///
/// # Errors
/// As [`read`].
pub async fn copies(tables: &Tables, authority: &Authority, effect: Id) -> Result<Vec<Line>, ViewError> {
    if !authority.reads_charts() {
        return Err(ViewError::NotFound);
    }
    let scan = Scan {
        limit: crate::limits::COPIES_SHOWN_MAX,
        ..Scan::by_index(MESSAGE.name, "by_effect", vec![Value::Id(effect)])
    };
    let rows = tables.read(&[Read::Scan(scan)]).await?;
    let mut lines = rows.iter().flatten().map(line).collect::<Result<Vec<_>, _>>()?;
    lines.sort_by_key(|line| (line.received, line.id));
    Ok(lines)
}

/// How many messages have a status, exact up to `cap`.
///
/// # Errors
/// As [`read`].
pub async fn count(tables: &Tables, authority: &Authority, status: &str, cap: u64) -> Result<u64, ViewError> {
    if !authority.reads_charts() {
        return Err(ViewError::NotFound);
    }
    let scan = Scan::by_index(MESSAGE.name, "by_status", vec![Value::Text(status.to_owned())]);
    Ok(tables.count(&scan, cap).await?)
}

/// The index columns of a row and its key: where the next page begins.
fn place_in_index(index: &str, row: &Row) -> Vec<Value> {
    let columns = MESSAGE.indexes.iter().find(|i| i.name == index).map_or(&[][..], |i| i.columns);
    columns
        .iter()
        .copied()
        .chain(MESSAGE.columns.iter().take(MESSAGE.key_len).map(|column| column.name))
        .filter_map(|name| MESSAGE.column(name).and_then(|at| row.values.get(at)).cloned())
        .collect()
}

fn admits(query: &Query, line: &Line) -> bool {
    let same =
        |asked: &Option<String>, is: Option<&str>| asked.as_deref().is_none_or(|asked| is == Some(asked));
    // An operator's decision and a source's settings are no messages: shown where they are asked for, and in the
    // story of whom they are about.
    let is_message = line.kind != DECISION_KIND
        || query.kind.as_deref() == Some(DECISION_KIND)
        || query.patient.is_some()
        || query.encounter.is_some();
    is_message
        && query.control_id.as_deref().is_none_or(|asked| indexed(asked) == indexed(&line.control_id))
        && same(&query.status, Some(&line.status))
        && same(&query.rule, line.rule.as_deref())
        && same(&query.source, Some(&line.source))
        && same(&query.kind, Some(&line.kind))
        && query.patient.is_none_or(|id| line.patient == Some(id))
        && query.encounter.is_none_or(|id| line.encounter == Some(id))
}

fn line(row: &Row) -> Result<Line, ViewError> {
    let columns = Columns { table: &MESSAGE, row };
    let number = |name: &'static str| {
        columns.int(name)?.try_into().map_err(|_| ViewError::Row { table: MESSAGE.name, column: name })
    };
    let partition: u64 = number("partition")?;
    // Operators' decisions have a journey too, in a stream of their own.
    let stream = if columns.text("kind")? == DECISION_KIND { Stream::Decisions } else { Stream::Hl7In };
    Ok(Line {
        id: columns.id("id")?,
        effect: columns.id("effect")?,
        position: Position { stream, partition: partition as u16, offset: number("offset")? },
        source: columns.text("source")?.to_owned(),
        received: columns.time("received")?,
        durable: columns.optional_time("durable")?,
        acked: columns.optional_time("acked")?,
        applied_at: columns.time("applied_at")?,
        control_id: columns.text("control_id")?.to_owned(),
        kind: columns.text("kind")?.to_owned(),
        status: columns.text("status")?.to_owned(),
        rule: columns.optional_text("rule")?.map(str::to_owned),
        path: columns.optional_text("path")?.map(str::to_owned),
        findings: columns.json("findings")?,
        charset_rule: columns.text("charset_rule")?.to_owned(),
        ack: columns.text("ack")?.to_owned(),
        changed: columns.json("changed")?,
        patient: columns.optional_id("patient")?,
        encounter: columns.optional_id("encounter")?,
        replaces: columns.optional_id("replaces")?,
        replaced_by: columns.optional_id("replaced_by")?,
        size_bytes: columns.int("size_bytes")?,
    })
}
