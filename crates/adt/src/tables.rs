//! What the room keeps. All of it is folded from the log: `hilum rebuild` makes it again.

use hilum_engines::tables::{Column, Index, Table, Type, Value};

/// A sender's text for a column that an index orders by: without NUL, and short enough for every engine, so that no
/// message can make a commit impossible.
pub(crate) fn indexed(text: &str) -> Value {
    let mut end = text.len().min(crate::limits::INDEXED_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Value::Text(text.get(..end).unwrap_or_default().replace('\0', "\u{2400}"))
}

const fn req(name: &'static str, ty: Type) -> Column {
    Column::new(name, ty)
}

const fn opt(name: &'static str, ty: Type) -> Column {
    Column::optional(name, ty)
}

/// The board: one row per encounter that a census list may show (clinical-rules 25–27). Place is a non-unique
/// index: two in one bed is a fact to show.
pub const BOARD: Table = Table {
    name: "adt_board",
    key_len: 1,
    columns: &[
        req("encounter", Type::Id),
        req("patient", Type::Id),
        req("list", Type::Text), // inpatient | emergency | outpatient | expected | leave
        req("facility", Type::Text),
        req("unit", Type::Text), // empty = no unit
        opt("room", Type::Text),
        opt("bed", Type::Text),
        req("class", Type::Text),  // v2-0004 code or FHIR ActCode
        req("status", Type::Text), // FHIR Encounter.status
        opt("since", Type::Time),
        opt("attending", Type::Text),
        req("confidential", Type::Bool),
        req("marks", Type::Text), // JSON array of mark ids (identity-undecided, not-applied:2, …)
        req("name", Type::Text),  // for the board's search; masked when shown if confidential
        req("detail", Type::Text), // JSON: what the row shows beside (birth date, gender, identifiers, visit number)
        req("source", Type::Text), // the source that spoke last
        req("message", Type::Id),  // the message that made the row what it is
        req("from_t", Type::Seq),
    ],
    indexes: &[
        Index { name: "by_place", columns: &["list", "facility", "unit", "room", "bed"] },
        Index { name: "by_patient", columns: &["patient"] },
        Index { name: "by_t", columns: &["from_t"] },
    ],
    register: None,
};

/// One row per log record of `hl7.in`: the journey of a message.
pub const MESSAGE: Table = Table {
    name: "adt_message",
    key_len: 1,
    columns: &[
        req("id", Type::Id),
        req("partition", Type::Int),
        req("offset", Type::Int),
        req("source", Type::Text),
        req("received", Type::Time),
        opt("durable", Type::Time),
        opt("acked", Type::Time),
        req("applied_at", Type::Time),
        req("control_id", Type::Text), // MSH-10, empty if there is none
        req("kind", Type::Text),       // ADT^A01, empty if there is none
        req("status", Type::Text), // applied | findings | no-effect | duplicate | quarantined | refused | replaced
        opt("rule", Type::Text),   // why it was quarantined or refused
        opt("path", Type::Text),   // where (PID-3)
        req("findings", Type::Text), // JSON array of {rule, path, text}
        req("charset_rule", Type::Text),
        req("ack", Type::Text),     // AA CA AR CR, empty = none asked
        req("changed", Type::Text), // JSON array of references that it changed (Patient/…, Encounter/…)
        opt("patient", Type::Id),
        opt("encounter", Type::Id),
        opt("replaces", Type::Id),
        opt("replaced_by", Type::Id),
        req("size_bytes", Type::Int),
        req("t", Type::Seq),
        req("effect", Type::Id), // what `meta.source` names: one id for all copies (identity::message_id)
    ],
    indexes: &[
        Index { name: "by_received", columns: &["received"] },
        Index { name: "by_control_id", columns: &["control_id", "received"] },
        Index { name: "by_status", columns: &["status", "received"] },
        Index { name: "by_rule", columns: &["rule", "received"] },
        Index { name: "by_patient", columns: &["patient", "received"] },
        Index { name: "by_encounter", columns: &["encounter", "received"] },
        Index { name: "by_source", columns: &["source", "received"] },
        Index { name: "by_effect", columns: &["effect"] },
    ],
    register: None,
};

/// What an operator should look at: identity, merges, closed visits, shared identifiers.
pub const WORK: Table = Table {
    name: "adt_work",
    key_len: 1,
    columns: &[
        req("id", Type::Id),      // a function of what it is about
        req("kind", Type::Text),  // identity | merge | closed-visit | shared-identifier
        req("state", Type::Text), // open | decided
        req("opened", Type::Time),
        req("source", Type::Text),
        opt("left_patient", Type::Id),
        opt("right_patient", Type::Id),
        opt("encounter", Type::Id),
        opt("message", Type::Id),
        req("detail", Type::Text), // JSON
        req("t", Type::Seq),
    ],
    indexes: &[
        Index { name: "by_state", columns: &["state", "kind", "opened"] },
        Index { name: "by_left", columns: &["left_patient"] },
    ],
    register: None,
};

/// What came under one (source, MSH-3, MSH-4, MSH-10): a copy has one effect, other bytes under the same id both apply.
pub const SEEN: Table = Table {
    name: "adt_seen",
    key_len: 1,
    columns: &[
        req("sender", Type::Id),   // hash of source, MSH-3, MSH-4, MSH-10
        req("copies", Type::Text), // JSON: [[effect, first record, received µs], …], newest last
    ],
    indexes: &[],
    register: None,
};

/// By what else a message is found than by the control id of its journey: those of a frame with several headers but for
/// the first one's, and the one that its answer names where that is another.
pub const FRAMED: Table = Table {
    name: "adt_framed",
    key_len: 2,
    columns: &[
        req("control_id", Type::Text), // MSH-10 of a further header, or MSA-2 of the answer
        req("record", Type::Id),
    ],
    indexes: &[],
    register: None,
};

/// Records that a correction replaces, whether they were read before it or come behind it.
pub const REPLACED: Table = Table {
    name: "adt_replaced",
    key_len: 1,
    columns: &[req("record", Type::Id), req("by", Type::Id)],
    indexes: &[],
    register: None,
};

/// Bed status as A20 told it last; no patient.
pub const BED: Table = Table {
    name: "adt_bed",
    key_len: 4,
    columns: &[
        req("facility", Type::Text),
        req("unit", Type::Text),
        req("room", Type::Text),
        req("bed", Type::Text),
        req("status", Type::Text), // table 0116
        req("said", Type::Bytes),
        req("message", Type::Id),
    ],
    indexes: &[],
    register: Some("said"),
};

/// What each message says of an encounter: the fold of a visit is a function of the set of its rows.
pub const FACT: Table = Table {
    name: "adt_fact",
    key_len: 3,
    columns: &[
        req("family", Type::Id),
        req("visit", Type::Id),
        req("moved", Type::Bytes), // order::Stamp of the movement clock
        req("kind", Type::Text),
        req("said", Type::Bytes), // order::Stamp of the content clock
        req("number", Type::Id),  // the patient number that it names
        req("provisional", Type::Bool),
        req("source", Type::Text),
        req("body", Type::Text), // facts::FactBody
    ],
    indexes: &[],
    register: None,
};

/// What was said of a person, of a group of items: registers of `fold::content`.
pub const CONTENT: Table = Table {
    name: "adt_content",
    key_len: 3,
    columns: &[
        req("family", Type::Id),
        req("owner", Type::Id),  // a number; for diagnoses a visit
        req("part", Type::Text), // person | nk1 | al1 | iam | dg1
        req("body", Type::Text),
    ],
    indexes: &[],
    register: None,
};

/// Merges, links, moves, decisions.
pub const TIE: Table = Table {
    name: "adt_tie",
    key_len: 2,
    columns: &[
        req("family", Type::Id),
        req("id", Type::Id),
        req("kind", Type::Text), // fold::ties::TieKind
        req("old", Type::Id),
        req("new", Type::Id),
        req("moved", Type::Bytes),
        req("said", Type::Bytes),
        req("source", Type::Text),
    ],
    indexes: &[],
    register: None,
};

/// Numbers that make a patient: each has a Patient resource of the same id.
pub const NUMBER: Table = Table {
    name: "adt_number",
    key_len: 2,
    columns: &[
        req("family", Type::Id),
        req("number", Type::Id),
        req("value", Type::Text),       // empty for a provisional patient
        req("identifier", Type::Text),  // JSON of content::Identifier; empty for a provisional patient
        opt("visit", Type::Id),         // of a provisional patient
        opt("deleted", Type::Bytes),    // the newest A29's stamp
        req("not_applied", Type::Text), // JSON array: messages in quarantine that name it
        req("marks", Type::Text),       // JSON array of mark ids
        req("carries", Type::Text),     // JSON array: further identifying numbers that it was ever named with
        req("survivor", Type::Id),
    ],
    indexes: &[
        Index { name: "by_value", columns: &["value"] },
        Index { name: "by_number", columns: &["number"] },
        Index { name: "by_survivor", columns: &["survivor"] },
    ],
    register: None,
};

/// Which patient numbers came with a further identifying number (rule 14): two of them share it.
pub const CARRIER: Table = Table {
    name: "adt_carrier",
    key_len: 3,
    columns: &[req("family", Type::Id), req("identifier", Type::Id), req("number", Type::Id)],
    indexes: &[],
    register: None,
};

/// The encounters as they stand.
pub const ENCOUNTER: Table = Table {
    name: "adt_encounter",
    key_len: 2,
    columns: &[
        req("family", Type::Id),
        req("encounter", Type::Id),
        req("visit", Type::Id), // the key of its facts; differs where the number was inferred
        opt("conditions", Type::Text), // inferred: JSON array of its Conditions; another cut takes them away
        req("number", Type::Id), // the patient number that messages name
        req("patient", Type::Id), // its survivor
        req("status", Type::Text),
        req("on_board", Type::Bool),
        req("in_bed", Type::Bool),
        opt("start", Type::Time),
        opt("end", Type::Time),
        req("visit_number", Type::Text), // empty where it was inferred
        req("marks", Type::Text),        // JSON array of mark ids
    ],
    indexes: &[
        Index { name: "by_patient", columns: &["patient", "start"] },
        Index { name: "by_encounter", columns: &["encounter"] },
        Index { name: "by_status", columns: &["status"] },
        Index { name: "by_visit_number", columns: &["visit_number"] },
    ],
    register: None,
};

/// Work of which an operator said that nothing more is needed. Of the fold it changes a mark alone: that of a circle.
pub const DECIDED: Table = Table {
    name: "adt_decided",
    key_len: 1,
    columns: &[req("work", Type::Id), req("by", Type::Text), req("at", Type::Time), req("note", Type::Text)],
    indexes: &[],
    register: None,
};

/// The settings of a source as they applied: an envelope names them by digest, and a rebuild needs them.
pub const SETTINGS: Table = Table {
    name: "adt_settings",
    key_len: 1,
    columns: &[req("sha", Type::Bytes), req("body", Type::Text)],
    indexes: &[],
    register: None,
};

/// The tables that move with their family (`chart::family`): whoever reads or writes one of their rows reads and
/// writes the family's own row.
pub const OF_FAMILY: &[&Table] = &[&FACT, &CONTENT, &TIE, &NUMBER, &CARRIER, &ENCOUNTER];

/// The form of these rows. To be raised when what a cell holds is written or read differently; `tests/form.rs` sees it.
pub const FORM: i64 = 3;

/// All tables of the projection.
pub const TABLES: &[&Table] = &[
    &BOARD,
    &MESSAGE,
    &WORK,
    &SEEN,
    &FRAMED,
    &REPLACED,
    &BED,
    &FACT,
    &CONTENT,
    &TIE,
    &NUMBER,
    &CARRIER,
    &ENCOUNTER,
    &DECIDED,
    &SETTINGS,
    &hilum_chart::family::HEAD,
    &hilum_chart::family::FAMILY,
];

/// A correction on its way: what an operator wrote, until it is in the log or dropped. It is no projection: the log
/// holds corrections that were made, this holds those that wait for a second person.
pub const CORRECTION: Table = Table {
    name: "adt_correction",
    key_len: 1,
    columns: &[
        req("message", Type::Id),  // the record to be corrected
        req("state", Type::Text),  // pending | released
        req("draft", Type::Bytes), // the text as written, UTF-8
        req("reason", Type::Text),
        req("editor", Type::Text),
        req("created", Type::Time),
        opt("released_by", Type::Text),
        opt("record", Type::Id), // the correction in the log
    ],
    indexes: &[Index { name: "by_state", columns: &["state", "created"] }],
    register: None,
};

/// What the room keeps that is not folded from the log: a rebuild leaves it alone.
pub const OWN: &[&Table] = &[&CORRECTION];
