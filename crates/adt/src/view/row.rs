//! Columns of a row by name, typed.

use hilum_core::{Id, Seq, Timestamp};
use hilum_engines::tables::{Row, Table, Value};

use super::ViewError;

/// A row with its table.
pub(super) struct Columns<'a> {
    pub table: &'static Table,
    pub row: &'a Row,
}

impl<'a> Columns<'a> {
    fn value(&self, name: &str) -> Option<&'a Value> {
        self.table.column(name).and_then(|at| self.row.values.get(at))
    }

    fn fault(&self, column: &'static str) -> ViewError {
        ViewError::Row { table: self.table.name, column }
    }

    pub fn id(&self, name: &'static str) -> Result<Id, ViewError> {
        self.optional_id(name)?.ok_or_else(|| self.fault(name))
    }

    pub fn optional_id(&self, name: &'static str) -> Result<Option<Id>, ViewError> {
        match self.value(name) {
            Some(Value::Id(id)) => Ok(Some(*id)),
            Some(Value::Null) => Ok(None),
            _ => Err(self.fault(name)),
        }
    }

    pub fn text(&self, name: &'static str) -> Result<&'a str, ViewError> {
        self.optional_text(name)?.ok_or_else(|| self.fault(name))
    }

    pub fn optional_text(&self, name: &'static str) -> Result<Option<&'a str>, ViewError> {
        match self.value(name) {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            _ => Err(self.fault(name)),
        }
    }

    pub fn time(&self, name: &'static str) -> Result<Timestamp, ViewError> {
        self.optional_time(name)?.ok_or_else(|| self.fault(name))
    }

    pub fn optional_time(&self, name: &'static str) -> Result<Option<Timestamp>, ViewError> {
        match self.value(name) {
            Some(Value::Time(at)) => Ok(Some(*at)),
            Some(Value::Null) => Ok(None),
            _ => Err(self.fault(name)),
        }
    }

    pub fn int(&self, name: &'static str) -> Result<i64, ViewError> {
        match self.value(name) {
            Some(Value::Int(n)) => Ok(*n),
            _ => Err(self.fault(name)),
        }
    }

    pub fn bool(&self, name: &'static str) -> Result<bool, ViewError> {
        match self.value(name) {
            Some(Value::Bool(b)) => Ok(*b),
            _ => Err(self.fault(name)),
        }
    }

    pub fn seq(&self, name: &'static str) -> Result<Seq, ViewError> {
        match self.value(name) {
            Some(Value::Seq(seq)) => Ok(*seq),
            _ => Err(self.fault(name)),
        }
    }

    /// A column that holds JSON of `T`.
    pub fn json<T: serde::de::DeserializeOwned>(&self, name: &'static str) -> Result<T, ViewError> {
        serde_json::from_str(self.text(name)?).map_err(|_| self.fault(name))
    }
}
