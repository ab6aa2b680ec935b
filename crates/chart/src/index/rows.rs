//! The rows of a body, without who has them and since when.

use std::collections::BTreeSet;

use bytes::Bytes;
use hilum_core::InstallationKey;
use hilum_engines::tables::{Table, Value};
use hilum_fhir::json::Json;
use hilum_fhir::search::param::type_number;
use hilum_fhir::search::values::{self, Entry, Settings, System, values};

use super::tables::{DATE, NUMBER, PAIR, REF, STRING, TOKEN, URI};
use super::{Rows, Unsearched};
use crate::logical::chart_id;

/// A row of an index table, as far as it is of the value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexRow {
    place: u8,
    /// The columns before `subject`.
    head: Vec<Value>,
    /// Those between it and `from_t`.
    tail: Vec<Value>,
    /// Those behind `to_t`.
    beside: Vec<Value>,
}

impl IndexRow {
    /// Its table's name.
    pub fn table(&self) -> &'static str {
        super::tables::TABLES.get(usize::from(self.place)).map_or("", |table| table.name)
    }

    /// All columns of its table.
    pub fn values(&self, subject: &Value, from_t: Value, to_t: Value) -> Vec<Value> {
        let mut values = Vec::with_capacity(self.head.len() + self.tail.len() + self.beside.len() + 3);
        values.extend_from_slice(&self.head);
        values.push(subject.clone());
        values.extend_from_slice(&self.tail);
        values.extend([from_t, to_t]);
        values.extend_from_slice(&self.beside);
        values
    }

    /// The key of its row.
    pub fn key(&self, subject: &Value, from_t: Value) -> Vec<Value> {
        let mut key = Vec::with_capacity(self.head.len() + self.tail.len() + 2);
        key.extend_from_slice(&self.head);
        key.push(subject.clone());
        key.extend_from_slice(&self.tail);
        key.push(from_t);
        key
    }

    /// Of a row as it is stored; `None` where it has not the columns of `table`, or that is no table of the index.
    pub fn of_row(table: &Table, values: &[Value]) -> Option<Self> {
        let place = super::tables::TABLES.iter().position(|one| one.name == table.name)? as u8;
        let (subject, from_t) = (table.column("subject")?, table.column("from_t")?);
        let part = |from: usize, to: usize| values.get(from..to).map(<[Value]>::to_vec);
        Some(Self {
            place,
            head: part(0, subject)?,
            tail: part(subject + 1, from_t)?,
            beside: part(from_t + 2, table.columns.len())?,
        })
    }

    /// What tells it from the other rows of a resource.
    pub(super) fn digest(&self) -> [u8; 8] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[self.place]);
        for value in self.head.iter().chain(&self.tail).chain(&self.beside) {
            match value {
                Value::Int(int) => hasher.update(&int.to_be_bytes()),
                Value::Time(at) => hasher.update(&at.as_micros().to_be_bytes()),
                Value::Id(id) => hasher.update(id.as_bytes()),
                Value::Text(text) => {
                    hasher.update(&(text.len() as u64).to_be_bytes()).update(text.as_bytes())
                }
                Value::Bytes(bytes) => hasher.update(&(bytes.len() as u64).to_be_bytes()).update(bytes),
                _ => hasher.update(&[0]),
            };
        }
        std::array::from_fn(|at| hasher.finalize().as_bytes().get(at).copied().unwrap_or_default())
    }
}

pub(super) fn of(
    resource: &Json<'_>,
    key: &InstallationKey,
    settings: &Settings,
    unsearched: Unsearched,
) -> Rows {
    let without = match unsearched {
        Unsearched::Nothing => &[][..],
        Unsearched::By(codes) => codes,
        Unsearched::All => return Rows::default(),
    };
    let found = values(resource, settings, without);
    let rows = found.values.into_iter().filter_map(|entry| row(entry, key));
    Rows { rows: rows.collect::<BTreeSet<_>>(), too_many: found.too_many }
}

fn row(Entry { param, value }: Entry, key: &InstallationKey) -> Option<IndexRow> {
    let param = Value::Int(param.get());
    let (table, head, tail, beside): (&Table, _, _, _) = match value {
        values::Value::Token { code, system } => {
            let tail = vec![Value::Int(system.get())];
            (&TOKEN, vec![param, Value::Text(code)], tail, vec![Value::Null, Value::Null])
        }
        values::Value::System(system) => {
            let tail = vec![Value::Int(system.get())];
            (&TOKEN, vec![param, Value::Text(String::new())], tail, vec![Value::Null, Value::Null])
        }
        values::Value::There { id } => {
            let tail = vec![Value::Int(System::NONE.get())];
            let id = id.map_or(Value::Null, |id| Value::Text(id.to_string()));
            (&TOKEN, vec![param, Value::Text(String::new())], tail, vec![id.clone(), id])
        }
        values::Value::Reference { resource_type, id } => {
            let target = Value::Id(chart_id(key, resource_type, &id));
            (&REF, vec![param, Value::Int(type_number(resource_type)?), target], Vec::new(), Vec::new())
        }
        values::Value::Coded { code, patient } => {
            let target = Value::Id(chart_id(key, "Patient", &patient));
            (&REF, vec![param, Value::Int(code), target], Vec::new(), Vec::new())
        }
        values::Value::Uri(address) => (&URI, vec![param, Value::Text(address)], Vec::new(), Vec::new()),
        values::Value::String { folded, exact } => {
            (&STRING, vec![param, Value::Text(folded)], vec![Value::Int(exact)], Vec::new())
        }
        values::Value::Date { low, high } => {
            (&DATE, vec![param, Value::Time(low)], vec![Value::Time(high)], Vec::new())
        }
        values::Value::Number { unit, low, high, system, code } => {
            let (low, high) =
                (Bytes::copy_from_slice(low.as_bytes()), Bytes::copy_from_slice(high.as_bytes()));
            let tail = vec![Value::Bytes(high), Value::Int(system.get()), Value::Text(code)];
            (&NUMBER, vec![param, Value::Text(unit), Value::Bytes(low)], tail, Vec::new())
        }
        values::Value::Pair(pair) => {
            let bytes = |bytes: Vec<u8>| Value::Bytes(Bytes::from(bytes));
            let head = vec![param, Value::Text(pair.code), Value::Text(pair.second), bytes(pair.low)];
            let (system, of) = (Value::Int(pair.system.get()), Value::Int(pair.of));
            (&PAIR, head, vec![bytes(pair.high), system, of, bytes(pair.third)], Vec::new())
        }
    };
    let place = super::tables::TABLES.iter().position(|one| one.name == table.name)? as u8;
    Some(IndexRow { place, head, tail, beside })
}
