//! Values on PostgreSQL's wire, in its binary formats. Nothing here prints a value: the client library may log
//! parameters, and rows hold patients.

use std::error::Error;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use hilum_core::{Id, Seq, Timestamp};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type as PgType};

use super::super::{Column, TablesError, Type, Value};
use crate::limits;

/// Microseconds from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const PG_EPOCH_MICROS: i64 = 946_684_800_000_000;
/// PostgreSQL's first instant (4714-11-24 BC), in microseconds since 1970.
const PG_TIME_MIN: i64 = -211_813_488_000_000_000 + PG_EPOCH_MICROS;
/// One microsecond behind PostgreSQL's last instant (294276 AD), in microseconds since 1970.
const PG_TIME_END: i64 = 9_223_371_331_200_000_000;

/// Stands for [`Value::ThisCommit`] in an array of commits: no commit has this `t`.
pub(super) const THIS_COMMIT: i64 = i64::MIN;

/// Stands for [`Value::ThisMoment`] in an array of times: PostgreSQL's first instant, which no value may be.
pub(super) const THIS_MOMENT: &str = "4714-11-24 00:00:00+00 BC";

/// Whether `at` has a place in a `timestamptz`. The two ends stand for its infinities, so that order is kept.
pub(super) const fn time_fits(at: Timestamp) -> bool {
    let micros = at.as_micros();
    micros == i64::MIN || micros == i64::MAX || (micros > PG_TIME_MIN && micros < PG_TIME_END)
}

const fn time_to_pg(at: Timestamp) -> i64 {
    match at.as_micros() {
        i64::MIN => i64::MIN,
        i64::MAX => i64::MAX,
        micros => micros.saturating_sub(PG_EPOCH_MICROS),
    }
}

const fn time_from_pg(pg: i64) -> Timestamp {
    Timestamp::from_micros(match pg {
        i64::MIN => i64::MIN,
        i64::MAX => i64::MAX,
        pg => pg.saturating_add(PG_EPOCH_MICROS),
    })
}

/// One element of a parameter.
#[derive(Clone, Copy)]
pub(super) enum Item<'a> {
    Null,
    Bool(bool),
    Int4(i32),
    Int8(i64),
    Id([u8; 16]),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl Item<'_> {
    pub(super) const fn opt_int8(value: Option<i64>) -> Self {
        match value {
            Some(value) => Self::Int8(value),
            None => Self::Null,
        }
    }

    fn put(self, out: &mut BytesMut) {
        match self {
            Self::Null => {}
            Self::Bool(value) => out.put_u8(u8::from(value)),
            Self::Int4(value) => out.put_i32(value),
            Self::Int8(value) => out.put_i64(value),
            Self::Id(value) => out.put_slice(&value),
            Self::Text(value) => out.put_slice(value.as_bytes()),
            Self::Bytes(value) => out.put_slice(value),
        }
    }

    const fn size_bytes(self) -> usize {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Int4(_) => 4,
            Self::Int8(_) => 8,
            Self::Id(_) => 16,
            Self::Text(value) => value.len(),
            Self::Bytes(value) => value.len(),
        }
    }
}

impl<'a> From<&'a Value> for Item<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            // A query's statement says itself what it sees.
            Value::Null | Value::ThisSnapshot => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int8(*value),
            Value::Time(value) => Self::Int8(time_to_pg(*value)),
            Value::Seq(value) => Self::Int8(value.0),
            Value::Id(value) => Self::Id(*value.as_bytes()),
            Value::Text(value) => Self::Text(value),
            Value::Bytes(value) => Self::Bytes(value),
            Value::ThisCommit => Self::Int8(THIS_COMMIT),
            Value::ThisMoment => Self::Int8(time_to_pg(Timestamp::from_micros(PG_TIME_MIN))),
            Value::ThisCommitNth(n) => Self::Int8(limits::NTH_BEGIN + i64::from(*n)),
        }
    }
}

/// One parameter of a statement.
pub(super) enum Param<'a> {
    One(Item<'a>),
    /// A one-dimensional array; the statement casts it to its type.
    Many(Vec<Item<'a>>),
}

impl fmt::Debug for Param<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(_) => f.write_str("<value>"),
            Self::Many(items) => write!(f, "<{} values>", items.len()),
        }
    }
}

impl ToSql for Param<'_> {
    fn to_sql(&self, ty: &PgType, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::One(Item::Null) => Ok(IsNull::Yes),
            Self::One(item) => {
                item.put(out);
                Ok(IsNull::No)
            }
            Self::Many(items) => {
                let tokio_postgres::types::Kind::Array(element) = ty.kind() else {
                    return Err("an array is given where the statement takes one value".into());
                };
                out.reserve(20 + items.iter().map(|item| 4 + item.size_bytes()).sum::<usize>());
                let nulls = items.iter().any(|item| matches!(item, Item::Null));
                out.put_i32(i32::from(!items.is_empty())); // dimensions
                out.put_i32(i32::from(nulls));
                out.put_u32(element.oid());
                if !items.is_empty() {
                    out.put_i32(i32::try_from(items.len())?);
                    out.put_i32(1); // lower bound
                }
                for item in items {
                    if matches!(item, Item::Null) {
                        out.put_i32(-1);
                    } else {
                        out.put_i32(i32::try_from(item.size_bytes())?);
                        item.put(out);
                    }
                }
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &PgType) -> bool {
        true // values are checked against the declaration before they come here
    }

    fn to_sql_checked(
        &self,
        ty: &PgType,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.to_sql(ty, out)
    }
}

/// The bytes of one column of a row.
pub(super) struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &PgType, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &PgType) -> bool {
        true
    }
}

/// Reads a value of a declared column.
pub(super) fn value(table: &str, column: &Column, raw: Option<&Raw<'_>>) -> Result<Value, TablesError> {
    let Some(Raw(raw)) = raw else { return Ok(Value::Null) };
    decode(column.ty, raw).ok_or_else(|| {
        TablesError::Engine(format!(
            "column {} of {table} does not hold what it is declared to hold",
            column.name
        ))
    })
}

fn decode(ty: Type, raw: &[u8]) -> Option<Value> {
    let int8 = |raw: &[u8]| raw.try_into().ok().map(i64::from_be_bytes);
    Some(match ty {
        Type::Id => Value::Id(Id::from_bytes(raw.try_into().ok()?)),
        Type::Text => Value::Text(std::str::from_utf8(raw).ok()?.to_owned()),
        Type::Int => Value::Int(int8(raw)?),
        Type::Bool => Value::Bool(*raw.first()? != 0),
        Type::Time => Value::Time(time_from_pg(int8(raw)?)),
        Type::Seq => Value::Seq(Seq(int8(raw)?)),
        Type::Bytes => Value::Bytes(Bytes::copy_from_slice(raw)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_order_and_come_back() {
        let cases = [
            ("epoch", 0),
            ("before PostgreSQL's epoch", -1),
            ("PostgreSQL's first but one", PG_TIME_MIN + 1),
            ("PostgreSQL's last", PG_TIME_END - 1),
            ("minus infinity", i64::MIN),
            ("infinity", i64::MAX),
        ];
        for (why, micros) in cases {
            let at = Timestamp::from_micros(micros);
            assert!(time_fits(at), "{why}");
            assert_eq!(time_from_pg(time_to_pg(at)), at, "{why}");
        }
        assert!(!time_fits(Timestamp::from_micros(PG_TIME_MIN)));
        assert!(!time_fits(Timestamp::from_micros(PG_TIME_END)));
    }

    #[test]
    fn parameters_do_not_print_values() {
        let text = Value::Text("홍길동".to_owned());
        assert_eq!(format!("{:?}", Param::One(Item::from(&text))), "<value>");
        assert_eq!(format!("{:?}", Param::Many(vec![Item::from(&text)])), "<1 values>");
    }

    #[test]
    fn an_array_is_laid_out_as_the_protocol_says() {
        let mut out = BytesMut::new();
        Param::Many(vec![Item::Null, Item::Int8(7)]).to_sql(&PgType::INT8_ARRAY, &mut out).expect("array");
        let mut want = vec![0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0, 0, 1];
        want.extend([255, 255, 255, 255, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(out, want);
    }
}
