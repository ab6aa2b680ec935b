//! Index rows by the kind of their value. All have: `param`, the number of a type's parameter
//! ([`ParamNumber`](hilum_fhir::search::param::ParamNumber)); `subject`, the `row` of `chart_resource`; `from_t`, the
//! commit that brought the value, last in the key; `to_t`, the commit that took it away. A row is visible at t where
//! `from_t` ≤ t and `to_t` is absent or greater. What each column says is told at
//! [`Value`](hilum_fhir::search::values::Value).
//!
//! Behind an equal prefix up to `subject` rows are in the order of their subjects.

use hilum_engines::tables::{Column, Index, Table, Type};

const PARAM: Column = Column::new("param", Type::Int);
const SUBJECT: Column = Column::new("subject", Type::Int);
const FROM_T: Column = Column::new("from_t", Type::Seq);
const TO_T: Column = Column::optional("to_t", Type::Seq);
const BY_SUBJECT: Index = Index { name: "by_subject", columns: &["param", "subject"] };

/// Codes and their systems (0: none). An empty code says that a system stands without one; under the parameter `_id`, that
/// the resource is there, with its id as `low` and `high`: all of a type are walked by it.
pub const TOKEN: Table = Table {
    name: "chart_x_token",
    key_len: 5,
    columns: &[
        PARAM,
        Column::new("code", Type::Text),
        SUBJECT,
        Column::new("system", Type::Int),
        FROM_T,
        TO_T,
        Column::optional("low", Type::Text),
        Column::optional("high", Type::Text),
    ],
    indexes: &[BY_SUBJECT],
    register: None,
};

/// References to resources of this server. Of a compound of a code and a Patient: the code's number stands for the type.
pub const REF: Table = Table {
    name: "chart_x_ref",
    key_len: 5,
    columns: &[
        PARAM,
        Column::new("type", Type::Int), // hilum_fhir::search::param::type_number
        Column::new("target", Type::Id),
        SUBJECT,
        FROM_T,
        TO_T,
    ],
    indexes: &[BY_SUBJECT],
    register: None,
};

/// Texts, folded; also what codes are called, under a number of its own.
pub const STRING: Table = Table {
    name: "chart_x_string",
    key_len: 5,
    columns: &[
        PARAM,
        Column::new("folded", Type::Text),
        SUBJECT,
        Column::new("exact", Type::Int), // hilum_fhir::search::fold::exact of the text as written
        FROM_T,
        TO_T,
    ],
    indexes: &[BY_SUBJECT],
    register: None,
};

/// Periods, both ends within them; an open end is the type's own (`i64::MIN`, `i64::MAX` µs).
pub const DATE: Table = Table {
    name: "chart_x_date",
    key_len: 5,
    columns: &[PARAM, Column::new("low", Type::Time), SUBJECT, Column::new("high", Type::Time), FROM_T, TO_T],
    indexes: &[BY_SUBJECT, Index { name: "by_high", columns: &["param", "high"] }],
    register: None,
};

/// Numbers and quantities: as written (`unit` empty), and where UCUM knows the unit in its canonical one (`ucum:g`).
pub const NUMBER: Table = Table {
    name: "chart_x_number",
    key_len: 8,
    columns: &[
        PARAM,
        Column::new("unit", Type::Text),
        Column::new("low", Type::Bytes), // hilum_fhir::search::number::Ordered
        SUBJECT,
        Column::new("high", Type::Bytes),
        Column::new("system", Type::Int),
        Column::new("code", Type::Text),
        FROM_T,
        TO_T,
    ],
    indexes: &[Index { name: "by_subject", columns: &["param", "subject", "unit"] }],
    register: None,
};

/// Addresses.
pub const URI: Table = Table {
    name: "chart_x_uri",
    key_len: 4,
    columns: &[PARAM, Column::new("value", Type::Text), SUBJECT, FROM_T, TO_T],
    indexes: &[BY_SUBJECT],
    register: None,
};

/// Values of several parameters that one element has; what each column says is told at
/// [`Pair`](hilum_fhir::search::values::Pair).
pub const PAIR: Table = Table {
    name: "chart_x_pair",
    key_len: 10,
    columns: &[
        PARAM,
        Column::new("code", Type::Text),
        Column::new("second", Type::Text),
        Column::new("low", Type::Bytes),
        SUBJECT,
        Column::new("high", Type::Bytes),
        Column::new("system", Type::Int),
        Column::new("of", Type::Int),
        Column::new("third", Type::Bytes),
        FROM_T,
        TO_T,
    ],
    indexes: &[BY_SUBJECT],
    register: None,
};

/// All of them.
pub const TABLES: &[&Table] = &[&TOKEN, &REF, &STRING, &DATE, &NUMBER, &URI, &PAIR];
