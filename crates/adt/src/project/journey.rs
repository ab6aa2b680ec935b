//! The row of one message: what became of it, in the making.

use hilum_chart::projection::{Changes, Rows};
use hilum_core::{Id, RecordId, Timestamp};
use hilum_engines::tables::{Table, Value};
use serde::{Deserialize, Serialize};

use super::Adt;
use crate::content::Finding;
use crate::facts::read::{Fault, Reading};
use crate::limits::CONTROL_ID_REUSE_H;
use crate::tables::{self, FRAMED, MESSAGE, SEEN};

pub(super) fn cell<'v>(table: &Table, values: &'v [Value], column: &str) -> Option<&'v Value> {
    table.column(column).and_then(|at| values.get(at))
}

pub(super) fn cell_id(table: &Table, values: &[Value], column: &str) -> Option<Id> {
    match cell(table, values, column) {
        Some(Value::Id(id)) => Some(*id),
        _ => None,
    }
}

pub(super) fn cell_text<'v>(table: &Table, values: &'v [Value], column: &str) -> &'v str {
    match cell(table, values, column) {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

pub(super) fn set(values: &mut [Value], column: &str, value: Value) {
    if let Some(cell) = MESSAGE.column(column).and_then(|at| values.get_mut(at)) {
        *cell = value;
    }
}

/// What came under one sender and MSH-10: message, record, when it was received, and whether an operator made it to
/// correct another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copy(pub(super) Id, pub(super) RecordId, pub(super) Timestamp, pub(super) bool);

/// What came under a sender's MSH-10 before; `None` if the row cannot be read.
pub(super) fn copies_of(have: &Rows, sender: Id) -> Option<Vec<Copy>> {
    let Some(row) = have.get(SEEN.name, &[Value::Id(sender)]) else { return Some(Vec::new()) };
    serde_json::from_str(cell_text(&SEEN, &row.values, "copies")).ok()
}

/// The same id with other bytes, close enough in time to be told. A correction keeps the id of what it corrects, and of
/// all copies of that: it is never told.
pub(super) fn is_reuse(reading: &Reading, copy: &Copy) -> bool {
    copy.0 != reading.message
        && !copy.3
        && reading.replaces.is_none()
        && copy.2.micros_since(reading.received).abs() <= CONTROL_ID_REUSE_H * 3_600 * 1_000_000
}

/// One message's row in the making.
#[derive(Debug, Clone)]
pub(super) struct Journey {
    pub(super) status: &'static str,
    pub(super) rule: Option<String>,
    pub(super) path: Option<String>,
    pub(super) findings: Vec<Finding>,
    pub(super) changed: Vec<String>,
    pub(super) patient: Option<Id>,
    pub(super) encounter: Option<Id>,
    pub(super) replaced_by: Option<Id>,
}

impl Journey {
    pub(super) fn new(reading: &Reading, status: &'static str) -> Self {
        Self {
            status,
            rule: None,
            path: None,
            findings: reading.findings.clone(),
            changed: Vec::new(),
            patient: None,
            encounter: None,
            replaced_by: None,
        }
    }

    pub(super) fn with_fault(mut self, fault: &Fault) -> Self {
        self.rule = Some(fault.rule.to_owned());
        self.path.clone_from(&fault.path);
        self.findings.push(Finding {
            rule: fault.rule.into(),
            path: fault.path.clone().unwrap_or_default(),
            text: fault.text.into(),
        });
        self
    }

    /// Writes the message's row, and by what else it is found.
    pub(super) fn put(&self, adt: &Adt, reading: &Reading, out: &mut Changes) {
        for control_id in &reading.further_control_ids {
            out.put(&FRAMED, vec![tables::indexed(control_id), Value::Id(reading.record.as_id())]);
        }
        out.put(&MESSAGE, self.row(adt, reading));
    }

    fn row(&self, adt: &Adt, reading: &Reading) -> Vec<Value> {
        let text = |text: &str| Value::Text(text.to_owned());
        let optional = |value: &Option<String>| value.clone().map_or(Value::Null, Value::Text);
        let id = |id: Option<Id>| id.map_or(Value::Null, Value::Id);
        let time = |at: Option<Timestamp>| at.map_or(Value::Null, Value::Time);
        let json = |value: serde_json::Result<String>| Value::Text(value.unwrap_or_default());
        vec![
            Value::Id(reading.record.as_id()),
            Value::Int(i64::from(reading.position.partition)),
            Value::Int(reading.position.offset as i64),
            text(&reading.source),
            Value::Time(reading.received),
            time(reading.durable),
            time((adt.acked)(reading.record)),
            Value::Time(adt.clock.now()),
            tables::indexed(&reading.control_id),
            tables::indexed(&reading.kind),
            text(self.status),
            optional(&self.rule),
            optional(&self.path),
            json(serde_json::to_string(&self.findings)),
            text(&reading.charset_rule),
            text(&reading.ack),
            json(serde_json::to_string(&self.changed)),
            id(self.patient),
            id(self.encounter),
            id(reading.replaces.map(|record| record.as_id())),
            id(self.replaced_by),
            Value::Int(reading.size_bytes as i64),
            Value::ThisCommit,
            Value::Id(reading.message),
        ]
    }
}

pub(super) fn add_finding(findings: &mut Vec<Finding>, finding: Finding) {
    if !findings.contains(&finding) {
        findings.push(finding);
    }
}

/// The finding of a message whose MSH-10 came with other bytes as well.
pub(super) fn reused() -> Finding {
    Finding {
        rule: "control-id.reused".into(),
        path: "MSH-10".to_owned(),
        text: "another message came under the same control id".into(),
    }
}
