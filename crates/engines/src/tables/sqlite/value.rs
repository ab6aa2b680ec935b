//! Values to SQLite and back.

use bytes::Bytes;
use hilum_core::{Id, Seq, Timestamp};
use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::tables::{Type, Value, nth};

/// The column type of a strict table.
pub(super) const fn sql_type(ty: Type) -> &'static str {
    match ty {
        Type::Id | Type::Bytes => "BLOB",
        Type::Text => "TEXT",
        Type::Int | Type::Bool | Type::Time | Type::Seq => "INTEGER",
    }
}

/// The least value of a type, as a literal: what is present is at least that.
pub(super) const fn sql_least(ty: Type) -> &'static str {
    match ty {
        Type::Id | Type::Bytes => "x''",
        Type::Text => "''",
        Type::Int | Type::Bool | Type::Time | Type::Seq => "-9223372036854775808",
    }
}

/// What a value stands for that is of the commit itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stamp {
    /// Of [`Value::ThisCommit`] and [`Value::ThisSnapshot`].
    pub(super) t: Seq,
    /// Of [`Value::ThisMoment`].
    pub(super) moment: Timestamp,
}

impl From<Seq> for Stamp {
    fn from(t: Seq) -> Self {
        Self { t, ..Self::default() }
    }
}

/// The value as SQLite takes it.
pub(super) fn as_sql(value: &Value, stamp: Stamp) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(as_ref(value, stamp))
}

fn as_ref(value: &Value, stamp: Stamp) -> ValueRef<'_> {
    match value {
        Value::Null => ValueRef::Null,
        Value::Bool(truth) => ValueRef::Integer(i64::from(*truth)),
        Value::Int(int) => ValueRef::Integer(*int),
        Value::Time(at) => ValueRef::Integer(at.as_micros()),
        Value::Seq(seq) => ValueRef::Integer(seq.0),
        Value::ThisCommit | Value::ThisSnapshot => ValueRef::Integer(stamp.t.0),
        Value::ThisCommitNth(n) => ValueRef::Integer(nth(stamp.t, *n)),
        Value::ThisMoment => ValueRef::Integer(stamp.moment.as_micros()),
        Value::Id(id) => ValueRef::Blob(id.as_bytes()),
        Value::Text(text) => ValueRef::Text(text.as_bytes()),
        Value::Bytes(bytes) => ValueRef::Blob(bytes),
    }
}

/// Whether the stored value is this one.
pub(super) fn same(stored: ValueRef<'_>, value: &Value, stamp: Stamp) -> bool {
    stored == as_ref(value, stamp)
}

/// The stored value; `None` when it is not of the column's type.
pub(super) fn decode(stored: ValueRef<'_>, ty: Type) -> Option<Value> {
    Some(match (stored, ty) {
        (ValueRef::Null, _) => Value::Null,
        (ValueRef::Integer(int), Type::Bool) => Value::Bool(int != 0),
        (ValueRef::Integer(int), Type::Int) => Value::Int(int),
        (ValueRef::Integer(int), Type::Time) => Value::Time(Timestamp::from_micros(int)),
        (ValueRef::Integer(int), Type::Seq) => Value::Seq(Seq(int)),
        (ValueRef::Blob(blob), Type::Id) => Value::Id(Id::from_bytes(blob.try_into().ok()?)),
        (ValueRef::Blob(blob), Type::Bytes) => Value::Bytes(Bytes::copy_from_slice(blob)),
        (ValueRef::Text(text), Type::Text) => Value::Text(std::str::from_utf8(text).ok()?.to_owned()),
        _ => return None,
    })
}
