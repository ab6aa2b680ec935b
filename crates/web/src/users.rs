//! Local accounts: name, role, argon2id password. Disabling one or changing its password ends its sessions.

use std::sync::Arc;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use hilum_core::{Clock, Entropy, Role, Timestamp, is_blank};
use hilum_engines::tables::{Read, Row, Scan, Tables, Value};
use tokio::sync::Semaphore;

use crate::limits;
use crate::store::{self, BadPassword, StoreError};
use crate::tables::ACCOUNT;

/// One account, without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Whether it has a password (a demo account signs in by link only).
    pub has_password: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When its password, role or state last changed: sessions from before are over.
    pub changed: Timestamp,
    /// Whether it may not sign in.
    pub disabled: bool,
}

pub(crate) fn decode(row: &Row) -> Result<Account, StoreError> {
    let table = &ACCOUNT;
    Ok(Account {
        name: store::text(row, 0, table)?,
        role: store::text(row, 1, table)?.parse().map_err(|_| StoreError::Shape(table.name))?,
        has_password: store::text_opt(row, 2, table)?.is_some(),
        created: store::time(row, 3, table)?,
        changed: store::time(row, 4, table)?,
        disabled: store::flag(row, 5, table)?,
    })
}

fn encode(account: &Account, password: Option<String>) -> Vec<Value> {
    vec![
        Value::Text(account.name.clone()),
        Value::Text(account.role.as_str().to_owned()),
        password.map_or(Value::Null, Value::Text),
        Value::Time(account.created),
        Value::Time(account.changed),
        Value::Bool(account.disabled),
    ]
}

fn argon2() -> Result<Argon2<'static>, StoreError> {
    let params = Params::new(limits::ARGON2_MEMORY_KIB, limits::ARGON2_PASSES, limits::ARGON2_LANES, None)
        .map_err(|error| StoreError::Hash(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// What a password must be: long, and not the name. No rules about kinds of characters (NIST 800-63B), but that there
/// are some: a prompt that was answered with the space bar is no password.
fn check_password(name: &str, password: &str) -> Result<(), StoreError> {
    let wrong = if password.len() > limits::PASSWORD_BYTES_MAX {
        BadPassword::Long
    } else if !password.is_empty() && is_blank(password) {
        BadPassword::Blank
    } else if password.chars().count() < limits::PASSWORD_CHARS_MIN || password.eq_ignore_ascii_case(name) {
        BadPassword::Weak
    } else {
        return Ok(());
    };
    Err(StoreError::Password(wrong))
}

async fn hash(entropy: &Entropy, password: &str) -> Result<String, StoreError> {
    let salt = entropy.bytes::<16>();
    let password = password.to_owned();
    let work = move || {
        let salt = SaltString::encode_b64(&salt).map_err(|error| StoreError::Hash(error.to_string()))?;
        let hash = argon2()?
            .hash_password(password.as_bytes(), &salt)
            .map_err(|error| StoreError::Hash(error.to_string()))?;
        Ok(hash.to_string())
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Hash(error.to_string()))?
}

async fn row_of(tables: &Tables, name: &str) -> Result<Option<Row>, StoreError> {
    Ok(store::get(tables, &ACCOUNT, vec![Value::Text(name.to_owned())]).await?)
}

/// Makes an account. Without a password it signs in by one-time link only.
///
/// # Errors
/// [`StoreError::Name`], [`StoreError::Password`], [`StoreError::Exists`].
pub async fn add(
    tables: &Tables,
    clock: &Clock,
    entropy: &Entropy,
    name: &str,
    role: Role,
    password: Option<&str>,
) -> Result<(), StoreError> {
    store::check_name(name)?;
    if row_of(tables, name).await?.is_some() {
        return Err(StoreError::Exists);
    }
    let hashed = match password {
        Some(password) => {
            check_password(name, password)?;
            Some(hash(entropy, password).await?)
        }
        None => None,
    };
    let now = clock.now();
    let account = Account {
        name: name.to_owned(),
        role,
        has_password: hashed.is_some(),
        created: now,
        changed: now,
        disabled: false,
    };
    store::put(tables, &ACCOUNT, None, encode(&account, hashed)).await?;
    Ok(())
}

/// Disables or enables an account. Its sessions end at their next request.
///
/// # Errors
/// [`StoreError::Absent`].
pub async fn set_disabled(
    tables: &Tables,
    clock: &Clock,
    name: &str,
    disabled: bool,
) -> Result<(), StoreError> {
    let row = row_of(tables, name).await?.ok_or(StoreError::Absent)?;
    let account = Account { disabled, changed: clock.now(), ..decode(&row)? };
    let password = store::text_opt(&row, 2, &ACCOUNT)?;
    store::put(tables, &ACCOUNT, Some(&row), encode(&account, password)).await?;
    Ok(())
}

/// Gives an account another password. Its sessions end at their next request.
///
/// # Errors
/// [`StoreError::Absent`], [`StoreError::Password`].
pub async fn set_password(
    tables: &Tables,
    clock: &Clock,
    entropy: &Entropy,
    name: &str,
    password: &str,
) -> Result<(), StoreError> {
    let row = row_of(tables, name).await?.ok_or(StoreError::Absent)?;
    check_password(name, password)?;
    let hashed = hash(entropy, password).await?;
    let account = Account { has_password: true, changed: clock.now(), ..decode(&row)? };
    store::put(tables, &ACCOUNT, Some(&row), encode(&account, Some(hashed))).await?;
    Ok(())
}

/// All accounts by name.
///
/// # Errors
/// [`StoreError::Tables`].
pub async fn list(tables: &Tables) -> Result<Vec<Account>, StoreError> {
    let answer = tables.read(&[Read::Scan(Scan::by_key(ACCOUNT.name, Vec::new()))]).await?;
    answer.iter().flatten().map(decode).collect()
}

/// One account.
///
/// # Errors
/// [`StoreError::Tables`].
pub async fn get(tables: &Tables, name: &str) -> Result<Option<Account>, StoreError> {
    row_of(tables, name).await?.as_ref().map(decode).transpose()
}

/// Checks passwords, few at once.
#[derive(Debug, Clone)]
pub struct PasswordCheck {
    permits: Arc<Semaphore>,
    /// A hash of a password that nobody has: what an unknown name is checked against, so that it takes as long.
    decoy: Arc<str>,
}

impl PasswordCheck {
    /// Prepares the decoy.
    ///
    /// # Errors
    /// [`StoreError::Hash`].
    pub async fn new(entropy: &Entropy) -> Result<Self, StoreError> {
        let nobody = blake3::Hash::from(entropy.bytes::<32>()).to_hex().to_string();
        let decoy = hash(entropy, &nobody).await?;
        Ok(Self { permits: Arc::new(Semaphore::new(limits::PASSWORD_CHECKS_AT_ONCE)), decoy: decoy.into() })
    }

    /// The account, if the password is its own and it may sign in. Takes the same time for an unknown name.
    ///
    /// # Errors
    /// [`StoreError::Tables`], [`StoreError::Hash`].
    pub async fn verify(
        &self,
        tables: &Tables,
        name: &str,
        password: &str,
    ) -> Result<Option<Account>, StoreError> {
        let row = if store::check_name(name).is_ok() { row_of(tables, name).await? } else { None };
        let stored = match &row {
            Some(row) => store::text_opt(row, 2, &ACCOUNT)?,
            None => None,
        };
        let against: Arc<str> = stored.as_deref().map_or_else(|| Arc::clone(&self.decoy), Arc::from);
        let fits = self.check(against, password).await?;
        let account = row.as_ref().map(decode).transpose()?;
        Ok(account.filter(|account| fits && account.has_password && !account.disabled))
    }

    async fn check(&self, against: Arc<str>, password: &str) -> Result<bool, StoreError> {
        if password.len() > limits::PASSWORD_BYTES_MAX {
            return Ok(false);
        }
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|error| StoreError::Hash(error.to_string()))?;
        let password = password.to_owned();
        let work = move || {
            let _permit = permit;
            let parsed = PasswordHash::new(&against).map_err(|error| StoreError::Hash(error.to_string()))?;
            Ok(argon2()?.verify_password(password.as_bytes(), &parsed).is_ok())
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Hash(error.to_string()))?
    }
}
