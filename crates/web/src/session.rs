//! Sessions and one-time sign-in links. The cookie carries a random token; its digest is what is stored. A session
//! ends by sign-out, idle or absolute expiry, and when its account is disabled or changed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hilum_core::{Clock, Digest, Entropy, Timestamp};
use hilum_engines::tables::{Batch, Read, Scan, Tables, TablesError, Value, Write};
use subtle::ConstantTimeEq;

use crate::limits;
use crate::store::{self, StoreError};
use crate::tables::{LINK, SESSION};
use crate::users::{self, Account};

/// The secret under `DIR/secrets/session.key`: keys CSRF tokens and the audit chain.
#[derive(Clone)]
pub struct SessionSecret([u8; 32]);

impl SessionSecret {
    /// From 32 secret bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A key for one purpose.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, purpose.as_bytes()).as_bytes()
    }
}

impl std::fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionSecret")
    }
}

/// A session that holds now.
#[derive(Debug, Clone)]
pub struct Session {
    /// The digest of its token.
    pub digest: Digest,
    /// Whose it is, as the account stands now.
    pub account: Account,
}

fn token(entropy: &Entropy) -> String {
    URL_SAFE_NO_PAD.encode(entropy.bytes::<32>())
}

fn key_of(digest: &Digest) -> Value {
    Value::Bytes(Bytes::copy_from_slice(digest.as_bytes()))
}

/// Begins a session and returns its token.
///
/// # Errors
/// [`StoreError::Tables`].
pub async fn begin(
    tables: &Tables,
    clock: &Clock,
    entropy: &Entropy,
    account: &str,
) -> Result<String, StoreError> {
    let token = token(entropy);
    let now = Value::Time(clock.now());
    let digest = Digest::of(token.as_bytes());
    let values = vec![key_of(&digest), Value::Text(account.to_owned()), now.clone(), now];
    store::put(tables, &SESSION, None, values).await?;
    Ok(token)
}

/// The session of a cookie's token, if it still holds.
///
/// # Errors
/// [`StoreError::Tables`].
pub async fn verify(tables: &Tables, clock: &Clock, token: &str) -> Result<Option<Session>, StoreError> {
    if token.len() != 43 {
        return Ok(None);
    }
    by_digest(tables, clock, Digest::of(token.as_bytes()), true).await
}

/// The session of this digest, if it still holds; `is_use` counts as a request of its owner.
///
/// # Errors
/// [`StoreError::Tables`].
pub(crate) async fn by_digest(
    tables: &Tables,
    clock: &Clock,
    digest: Digest,
    is_use: bool,
) -> Result<Option<Session>, StoreError> {
    let Some(row) = store::get(tables, &SESSION, vec![key_of(&digest)]).await? else { return Ok(None) };
    let stored = store::bytes(&row, 0, &SESSION)?;
    if !bool::from(stored.as_ref().ct_eq(digest.as_bytes())) {
        return Ok(None);
    }
    let name = store::text(&row, 1, &SESSION)?;
    let created = store::time(&row, 2, &SESSION)?;
    let seen = store::time(&row, 3, &SESSION)?;
    let now = clock.now();
    let over = now.micros_since(created) >= limits::SESSION_ABSOLUTE.as_micros() as i64
        || now.micros_since(seen) >= limits::SESSION_IDLE.as_micros() as i64;
    if over {
        return Ok(None);
    }
    let Some(account) = users::get(tables, &name).await? else { return Ok(None) };
    if account.disabled || account.changed > created {
        return Ok(None);
    }
    if is_use && now.micros_since(seen) >= limits::LAST_USE_EVERY.as_micros() as i64 {
        let values = vec![key_of(&digest), Value::Text(name), Value::Time(created), Value::Time(now)];
        // A lost race means that somebody else wrote a use of this minute, or signed out.
        if let Err(error) = store::put(tables, &SESSION, Some(&row), values).await {
            tracing::debug!(%error, "last use of a session not written");
        }
    }
    Ok(Some(Session { digest, account }))
}

/// Ends one session.
///
/// # Errors
/// [`StoreError::Tables`].
pub async fn end(tables: &Tables, digest: &Digest) -> Result<(), StoreError> {
    let write = Write::Delete { table: SESSION.name, key: vec![key_of(digest)] };
    tables.commit(Batch { writes: vec![write], ..Batch::default() }).await?;
    Ok(())
}

/// Removes sessions and links that are over, so that the tables stay small.
///
/// # Errors
/// [`StoreError::Tables`].
pub async fn sweep(tables: &Tables, clock: &Clock) -> Result<usize, StoreError> {
    let before = clock.now().plus_micros(-(limits::SESSION_IDLE.as_micros() as i64));
    let mut scan = Scan::by_index(SESSION.name, "by_seen", Vec::new());
    scan.to = Some(Value::Time(before));
    let rows: Vec<_> = tables.read(&[Read::Scan(scan)]).await?.into_iter().flatten().collect();
    let links = tables.read(&[Read::Scan(Scan::by_key(LINK.name, Vec::new()))]).await?;
    let now = clock.now();
    let links = links
        .iter()
        .flatten()
        .filter(|row| matches!(row.values.get(2), Some(Value::Time(until)) if *until <= now));
    let sessions = rows.iter().map(|row| (SESSION.name, row));
    let writes: Vec<_> = sessions
        .chain(links.map(|row| (LINK.name, row)))
        .filter_map(|(table, row)| Some((table, row.values.first()?)))
        .map(|(table, digest)| Write::Delete { table, key: vec![digest.clone()] })
        .collect();
    let count = writes.len();
    if count > 0 {
        tables.commit(Batch { writes, ..Batch::default() }).await?;
    }
    Ok(count)
}

/// Ends all sessions and takes back all links: of tables from a backup, nobody knows which of them had ended. Returns how
/// many.
///
/// # Errors
/// [`StoreError::Tables`].
pub async fn end_all(tables: &Tables) -> Result<usize, StoreError> {
    let mut count = 0;
    for table in [&SESSION, &LINK] {
        loop {
            let rows = tables.read(&[Read::Scan(Scan::by_key(table.name, Vec::new()))]).await?;
            let keys = rows.iter().flatten().filter_map(|row| row.values.first().cloned());
            let writes: Vec<_> =
                keys.map(|digest| Write::Delete { table: table.name, key: vec![digest] }).collect();
            if writes.is_empty() {
                break;
            }
            count += writes.len();
            tables.commit(Batch { writes, ..Batch::default() }).await?;
        }
    }
    Ok(count)
}

/// Makes a one-time sign-in link's token for `account`.
///
/// # Errors
/// [`StoreError::Absent`] when there is no such account.
pub async fn link(
    tables: &Tables,
    clock: &Clock,
    entropy: &Entropy,
    account: &str,
) -> Result<String, StoreError> {
    users::get(tables, account).await?.ok_or(StoreError::Absent)?;
    let token = token(entropy);
    let until = clock.now().plus_micros(limits::LINK_LIFE.as_micros() as i64);
    let digest = Digest::of(token.as_bytes());
    let values = vec![key_of(&digest), Value::Text(account.to_owned()), Value::Time(until)];
    store::put(tables, &LINK, None, values).await?;
    Ok(token)
}

/// The account that a link's token would sign in now; the link stays.
///
/// # Errors
/// [`StoreError::Tables`].
pub async fn link_account(tables: &Tables, clock: &Clock, token: &str) -> Result<Option<String>, StoreError> {
    let digest = Digest::of(token.as_bytes());
    let Some(row) = store::get(tables, &LINK, vec![key_of(&digest)]).await? else { return Ok(None) };
    if clock.now() >= store::time(&row, 2, &LINK)? {
        return Ok(None);
    }
    store::text(&row, 1, &LINK).map(Some)
}

/// Uses up a link's token: the account that it signs in, once.
///
/// # Errors
/// [`StoreError::Tables`].
pub async fn redeem(tables: &Tables, clock: &Clock, token: &str) -> Result<Option<Account>, StoreError> {
    if token.len() != 43 {
        return Ok(None);
    }
    let digest = Digest::of(token.as_bytes());
    let Some(row) = store::get(tables, &LINK, vec![key_of(&digest)]).await? else { return Ok(None) };
    match store::delete(tables, &LINK, &row).await {
        Ok(()) => {}
        Err(TablesError::Conflict(_)) => return Ok(None), // somebody else was first
        Err(error) => return Err(error.into()),
    }
    let until: Timestamp = store::time(&row, 2, &LINK)?;
    if clock.now() >= until {
        return Ok(None);
    }
    let account = users::get(tables, &store::text(&row, 1, &LINK)?).await?;
    Ok(account.filter(|account| !account.disabled))
}

/// CSRF tokens: the session's digest under the shell's key, masked anew in each page so that compression tells
/// nothing about it (BREACH).
#[derive(Debug, Clone)]
pub(crate) struct Csrf([u8; 32]);

impl Csrf {
    pub fn new(secret: &SessionSecret) -> Self {
        Self(secret.derive("hilum csrf 1"))
    }

    pub fn token(&self, session: &Digest, entropy: &Entropy) -> String {
        let mask = entropy.bytes::<32>();
        let mac = blake3::keyed_hash(&self.0, session.as_bytes());
        let masked = mac.as_bytes().iter().zip(mask).map(|(mac, mask)| mac ^ mask);
        let bytes: Vec<u8> = mask.into_iter().chain(masked).collect();
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub fn holds(&self, session: &Digest, token: &str) -> bool {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(token) else { return false };
        if bytes.len() != 64 {
            return false;
        }
        let (mask, masked) = bytes.split_at(32);
        let given: Vec<u8> = mask.iter().zip(masked).map(|(a, b)| a ^ b).collect();
        given.ct_eq(blake3::keyed_hash(&self.0, session.as_bytes()).as_bytes()).into()
    }
}
