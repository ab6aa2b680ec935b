//! What the room keeps. All of it is folded from the log: `hilum rebuild` makes it again.

use hilum_engines::tables::{Column, Index, Table, Type};

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
    ],
    indexes: &[
        Index { name: "by_received", columns: &["received"] },
        Index { name: "by_control_id", columns: &["control_id", "received"] },
        Index { name: "by_status", columns: &["status", "received"] },
        Index { name: "by_rule", columns: &["rule", "received"] },
        Index { name: "by_patient", columns: &["patient", "received"] },
        Index { name: "by_encounter", columns: &["encounter", "received"] },
        Index { name: "by_source", columns: &["source", "received"] },
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

/// One effect per (source, MSH-3, MSH-4, MSH-10, digest).
pub const SEEN: Table = Table {
    name: "adt_seen",
    key_len: 2,
    columns: &[
        req("sender", Type::Id), // hash of source, MSH-3, MSH-4, MSH-10
        req("digest", Type::Bytes),
        req("message", Type::Id),
        req("received", Type::Time),
    ],
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
