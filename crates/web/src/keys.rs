//! API keys: `hlm_` and 32 random bytes in base64url. Shown once; kept as a BLAKE3 digest, which needs no slow hash
//! because 256 random bits cannot be guessed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hilum_core::{Clock, Digest, Entropy, Role, Timestamp};
use hilum_engines::tables::{Read, Row, Scan, Tables, Value};
use subtle::ConstantTimeEq;

use crate::limits;
use crate::store::{self, StoreError};
use crate::tables::KEY;

/// What every key begins with, so that scanners of leaked secrets know it.
pub const PREFIX: &str = "hlm_";

/// One key, without the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Its first characters.
    pub hint: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub used: Option<Timestamp>,
}

fn decode(row: &Row) -> Result<ApiKey, StoreError> {
    let table = &KEY;
    Ok(ApiKey {
        name: store::text(row, 1, table)?,
        role: store::text(row, 2, table)?.parse().map_err(|_| StoreError::Shape(table.name))?,
        hint: store::text(row, 3, table)?,
        created: store::time(row, 4, table)?,
        revoked: store::time_opt(row, 5, table)?,
        used: store::time_opt(row, 6, table)?,
    })
}

fn with(row: &Row, at: usize, value: Value) -> Vec<Value> {
    let mut values = row.values.clone();
    if let Some(slot) = values.get_mut(at) {
        *slot = value;
    }
    values
}

/// Makes a key and returns it: the only time that it is seen.
///
/// # Errors
/// [`StoreError::Name`]; [`StoreError::Exists`] while an unrevoked key has the name.
pub async fn add(
    tables: &Tables,
    clock: &Clock,
    entropy: &Entropy,
    name: &str,
    role: Role,
) -> Result<String, StoreError> {
    store::check_name(name)?;
    if rows_of(tables, name).await?.iter().any(|row| matches!(row.values.get(5), Some(Value::Null))) {
        return Err(StoreError::Exists);
    }
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(entropy.bytes::<32>()));
    let digest = Digest::of(key.as_bytes());
    let hint: String = key.chars().take(PREFIX.len() + 4).collect();
    let values = vec![
        Value::Bytes(Bytes::copy_from_slice(digest.as_bytes())),
        Value::Text(name.to_owned()),
        Value::Text(role.as_str().to_owned()),
        Value::Text(hint),
        Value::Time(clock.now()),
        Value::Null,
        Value::Null,
    ];
    store::put(tables, &KEY, None, values).await?;
    Ok(key)
}

/// Revokes every key of this name: the next request with it is answered 401.
///
/// # Errors
/// [`StoreError::Absent`] when no unrevoked key has the name.
pub async fn revoke(tables: &Tables, clock: &Clock, name: &str) -> Result<(), StoreError> {
    let mut found = false;
    for row in rows_of(tables, name).await? {
        if matches!(row.values.get(5), Some(Value::Null)) {
            let values = with(&row, 5, Value::Time(clock.now()));
            store::put(tables, &KEY, Some(&row), values).await?;
            found = true;
        }
    }
    if found { Ok(()) } else { Err(StoreError::Absent) }
}

/// All keys, newest first.
///
/// # Errors
/// [`StoreError::Tables`].
pub async fn list(tables: &Tables) -> Result<Vec<ApiKey>, StoreError> {
    let answer = tables.read(&[Read::Scan(Scan::by_key(KEY.name, Vec::new()))]).await?;
    let mut keys = answer.iter().flatten().map(decode).collect::<Result<Vec<_>, _>>()?;
    keys.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.name.cmp(&b.name)));
    Ok(keys)
}

async fn rows_of(tables: &Tables, name: &str) -> Result<Vec<Row>, StoreError> {
    let prefix = vec![Value::Text(name.to_owned())];
    let answer = tables.read(&[Read::Scan(Scan::by_index(KEY.name, "by_name", prefix))]).await?;
    Ok(answer.into_iter().flatten().collect())
}

/// Whose key this is; `None` for a wrong or revoked one. The look-up is by digest, so its time says nothing about
/// any other key.
///
/// # Errors
/// [`StoreError::Tables`].
pub async fn verify(tables: &Tables, clock: &Clock, key: &str) -> Result<Option<ApiKey>, StoreError> {
    if !key.starts_with(PREFIX) || key.len() > limits::NAME_BYTES_MAX {
        return Ok(None);
    }
    let digest = Digest::of(key.as_bytes());
    let id = Value::Bytes(Bytes::copy_from_slice(digest.as_bytes()));
    let Some(row) = store::get(tables, &KEY, vec![id]).await? else { return Ok(None) };
    let stored = store::bytes(&row, 0, &KEY)?;
    if !bool::from(stored.as_ref().ct_eq(digest.as_bytes())) {
        return Ok(None);
    }
    let found = decode(&row)?;
    if found.revoked.is_some() {
        return Ok(None);
    }
    let now = clock.now();
    let every = limits::LAST_USE_EVERY.as_micros() as i64;
    if found.used.is_none_or(|used| now.micros_since(used) >= every) {
        // A lost race means that somebody else wrote a use of this minute, or revoked: the next request sees it.
        if let Err(error) = store::put(tables, &KEY, Some(&row), with(&row, 6, Value::Time(now))).await {
            tracing::debug!(%error, "last use of a key not written");
        }
    }
    Ok(Some(found))
}

/// The role of the key with this digest, `None` when it is revoked or gone.
pub(crate) async fn role_of(tables: &Tables, digest: Digest) -> Result<Option<Role>, StoreError> {
    let id = Value::Bytes(Bytes::copy_from_slice(digest.as_bytes()));
    let row = store::get(tables, &KEY, vec![id]).await?;
    let key = row.as_ref().map(decode).transpose()?;
    Ok(key.filter(|key| key.revoked.is_none()).map(|key| key.role))
}
