//! Rows of the shell's tables, read and written.

use hilum_core::{Kind, Timestamp};
use hilum_engines::tables::{Batch, Expect, Key, Read, Row, Table, Tables, TablesError, Value, Write};

use crate::limits;

/// Why a text cannot be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPassword {
    /// Fewer than [`limits::PASSWORD_CHARS_MIN`] characters, or the account's name.
    #[error("must have at least {} characters and differ from the name", limits::PASSWORD_CHARS_MIN)]
    Weak,
    /// More than [`limits::PASSWORD_BYTES_MAX`] bytes.
    #[error("must have at most {} bytes", limits::PASSWORD_BYTES_MAX)]
    Long,
    /// Nobody sees anything of it.
    #[error("must not be of blanks alone")]
    Blank,
}

impl BadPassword {
    /// The key of its words.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Weak => "password.weak",
            Self::Long => "password.long",
            Self::Blank => "password.blank",
        }
    }
}

/// Why accounts, keys or sessions could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name is empty, too long or has a character that names may not have.
    #[error("name must have 1 to 64 letters, digits, '.', '_', '-' or '@'")]
    Name,
    /// There is one of this name.
    #[error("there is already one of this name")]
    Exists,
    /// There is none of this name.
    #[error("there is none of this name")]
    Absent,
    /// The password cannot be one.
    #[error("password {0}")]
    Password(BadPassword),
    /// argon2 refused.
    #[error("password hash: {0}")]
    Hash(String),
    /// A stored row has another shape than its table.
    #[error("stored row of {0} has another shape")]
    Shape(&'static str),
    /// The tables engine.
    #[error(transparent)]
    Tables(#[from] TablesError),
}

impl StoreError {
    /// What the caller may do.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Name | Self::Password(_) => Kind::Invalid,
            Self::Exists => Kind::Conflict,
            Self::Absent => Kind::NotFound,
            Self::Hash(_) | Self::Shape(_) => Kind::Internal,
            Self::Tables(error) => error.kind(),
        }
    }
}

impl From<StoreError> for crate::outcome::Fault {
    fn from(error: StoreError) -> Self {
        Self::because(error.kind(), &error)
    }
}

/// One row by key.
pub async fn get(tables: &Tables, table: &'static Table, key: Key) -> Result<Option<Row>, TablesError> {
    let answer = tables.read(&[Read::Get { table: table.name, key }]).await?;
    Ok(answer.into_iter().flatten().next())
}

/// Writes one row that was read as `was`: refused when it has changed meanwhile.
pub async fn put(
    tables: &Tables,
    table: &'static Table,
    was: Option<&Row>,
    values: Vec<Value>,
) -> Result<(), TablesError> {
    let key = values.iter().take(table.key_len).cloned().collect();
    let batch = Batch {
        expects: vec![Expect { table: table.name, key, t: was.map(|row| row.t) }],
        writes: vec![Write::Put { table: table.name, values }],
        ..Batch::default()
    };
    tables.commit(batch).await.map(drop)
}

/// Removes one row that was read as `was`: refused when it has changed meanwhile.
pub async fn delete(tables: &Tables, table: &'static Table, was: &Row) -> Result<(), TablesError> {
    let key: Key = was.values.iter().take(table.key_len).cloned().collect();
    let batch = Batch {
        expects: vec![Expect { table: table.name, key: key.clone(), t: Some(was.t) }],
        writes: vec![Write::Delete { table: table.name, key }],
        ..Batch::default()
    };
    tables.commit(batch).await.map(drop)
}

pub fn text(row: &Row, at: usize, table: &'static Table) -> Result<String, StoreError> {
    match row.values.get(at) {
        Some(Value::Text(text)) => Ok(text.clone()),
        _ => Err(StoreError::Shape(table.name)),
    }
}

pub fn text_opt(row: &Row, at: usize, table: &'static Table) -> Result<Option<String>, StoreError> {
    match row.values.get(at) {
        Some(Value::Text(text)) => Ok(Some(text.clone())),
        Some(Value::Null) => Ok(None),
        _ => Err(StoreError::Shape(table.name)),
    }
}

pub fn time(row: &Row, at: usize, table: &'static Table) -> Result<Timestamp, StoreError> {
    match row.values.get(at) {
        Some(Value::Time(time)) => Ok(*time),
        _ => Err(StoreError::Shape(table.name)),
    }
}

pub fn time_opt(row: &Row, at: usize, table: &'static Table) -> Result<Option<Timestamp>, StoreError> {
    match row.values.get(at) {
        Some(Value::Time(time)) => Ok(Some(*time)),
        Some(Value::Null) => Ok(None),
        _ => Err(StoreError::Shape(table.name)),
    }
}

pub fn flag(row: &Row, at: usize, table: &'static Table) -> Result<bool, StoreError> {
    match row.values.get(at) {
        Some(Value::Bool(flag)) => Ok(*flag),
        _ => Err(StoreError::Shape(table.name)),
    }
}

pub fn int(row: &Row, at: usize, table: &'static Table) -> Result<i64, StoreError> {
    match row.values.get(at) {
        Some(Value::Int(int)) => Ok(*int),
        _ => Err(StoreError::Shape(table.name)),
    }
}

pub fn bytes(row: &Row, at: usize, table: &'static Table) -> Result<bytes::Bytes, StoreError> {
    match row.values.get(at) {
        Some(Value::Bytes(bytes)) => Ok(bytes.clone()),
        _ => Err(StoreError::Shape(table.name)),
    }
}

/// `name` as accounts and keys may be called.
pub fn check_name(name: &str) -> Result<(), StoreError> {
    let fits = !name.is_empty()
        && name.len() <= crate::limits::NAME_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b));
    if fits { Ok(()) } else { Err(StoreError::Name) }
}
