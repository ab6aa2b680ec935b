//! Searches that are kept for their pages: those that are linked by a name, and those that are too long for a link. What
//! is kept is unreadable without the link that was given out, and to anybody but whom it was given to.

use aws_lc_rs::aead::{AES_256_GCM_SIV, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hilum_core::{Entropy, Timestamp};
use hilum_engines::tables::{Batch, Read, Scan, Tables, TablesError, Value, Write};

use super::page::{Page, bound};
use crate::Room;
use crate::fhir::answer::{self, Trouble};
use crate::limits::{
    KEPT_GRACE_S, KEPT_PADDED_BYTES, KEPT_ROWS_MAX, KEPT_SWEPT_ROWS, KEPT_TRIES_MAX, LINKED_BYTES_MAX,
};
use crate::tables::KEPT;

const HANDLE_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// What a link says of a search that is kept: where it is, and the key to it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Ticket {
    handle: [u8; HANDLE_BYTES],
    key: [u8; KEY_BYTES],
}

impl Ticket {
    fn new(entropy: &Entropy) -> Self {
        Self { handle: entropy.bytes(), key: entropy.bytes() }
    }

    /// Reads what [`Ticket::text`] wrote.
    pub(super) fn parse(raw: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(raw).ok()?;
        let (handle, key) = bytes.split_first_chunk::<HANDLE_BYTES>()?;
        Some(Self { handle: *handle, key: key.try_into().ok()? })
    }

    /// As it stands in a link.
    pub(super) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode([self.handle.as_slice(), &self.key].concat())
    }

    fn sealing(&self) -> LessSafeKey {
        let unbound = UnboundKey::new(&AES_256_GCM_SIV, &self.key);
        LessSafeKey::new(unbound.expect("the key has its 32 bytes"))
    }
}

/// One key seals one row.
const fn nonce() -> [u8; NONCE_LEN] {
    [0; NONCE_LEN]
}

/// Keeps `state` for `principal`; absent where too much is kept already.
///
/// # Errors
/// The engine's.
pub(super) async fn keep(
    tables: &Tables,
    entropy: &Entropy,
    principal: &str,
    state: &[u8],
    until: Timestamp,
) -> Result<Option<Ticket>, Trouble> {
    let all = Scan::by_key(KEPT.name, Vec::new());
    if tables.count(&all, KEPT_ROWS_MAX).await.map_err(broken)? >= KEPT_ROWS_MAX {
        return Ok(None);
    }
    let ticket = Ticket::new(entropy);
    // A length tells what was asked.
    let mut state = state.to_vec();
    state.resize(state.len().next_multiple_of(KEPT_PADDED_BYTES), b' ');
    let sealed = ticket.sealing().seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce()),
        bound(principal),
        &mut state,
    );
    sealed.map_err(|_| answer::broken("a search that is to be kept cannot be sealed"))?;
    let values = vec![
        Value::Bytes(Bytes::copy_from_slice(&ticket.handle)),
        Value::Time(until),
        Value::Bytes(state.into()),
    ];
    let batch = Batch { writes: vec![Write::Put { table: KEPT.name, values }], ..Batch::default() };
    commit(tables, batch).await.map_err(broken)?;
    Ok(Some(ticket))
}

/// Keeps the search of a page that is too long for a link, whose links name it then. Says whether the links hold it now.
///
/// # Errors
/// The engine's.
pub(super) async fn keep_if_long(room: &Room, principal: &str, page: &mut Page) -> Result<bool, Trouble> {
    let size_bytes: usize = page.pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if page.kept.is_some() || size_bytes <= LINKED_BYTES_MAX {
        return Ok(true);
    }
    let state = serde_json::to_vec(&page.pairs);
    let state = state.map_err(|_| answer::broken("a search that is to be kept is no JSON"))?;
    let until = Timestamp::from_micros(page.until_us);
    let ticket = keep(room.chart.tables(), &room.entropy, principal, &state, until).await?;
    page.kept = ticket.map(|ticket| ticket.text());
    Ok(page.kept.is_some())
}

/// What is kept, also for a while after its time; `None` when it is gone.
///
/// # Errors
/// [`Trouble::NotFound`] where it is somebody else's, or the key is none; the engine's.
pub(super) async fn kept(
    tables: &Tables,
    principal: &str,
    ticket: &Ticket,
) -> Result<Option<Vec<u8>>, Trouble> {
    let key = vec![Value::Bytes(Bytes::copy_from_slice(&ticket.handle))];
    let found = tables.read(&[Read::Get { table: KEPT.name, key }]).await.map_err(broken)?;
    let Some(row) = found.into_iter().flatten().next() else { return Ok(None) };
    let Some(Value::Bytes(sealed)) = row.values.get(2) else {
        return Err(answer::broken("a search that is kept has another shape"));
    };
    let mut sealed = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce());
    let state = ticket.sealing().open_in_place(nonce, bound(principal), &mut sealed);
    state.map(|state| Some(state.trim_ascii_end().to_vec())).map_err(|_| Trouble::NotFound)
}

/// Removes what is kept beyond its time. Returns how many rows.
///
/// # Errors
/// The engine's.
pub async fn sweep(tables: &Tables, now: Timestamp) -> Result<usize, TablesError> {
    let before = Timestamp::from_micros(now.as_micros().saturating_sub(KEPT_GRACE_S * 1_000_000));
    let mut swept = 0;
    loop {
        let over = Scan {
            to: Some(Value::Time(before)),
            limit: KEPT_SWEPT_ROWS,
            ..Scan::by_index(KEPT.name, "by_until", Vec::new())
        };
        let rows = tables.read(&[Read::Scan(over)]).await?.pop().unwrap_or_default();
        if rows.is_empty() {
            return Ok(swept);
        }
        swept += rows.len();
        let keys = rows.into_iter().map(|row| row.values.into_iter().take(KEPT.key_len).collect());
        let writes = keys.map(|key| Write::Delete { table: KEPT.name, key }).collect();
        commit(tables, Batch { writes, ..Batch::default() }).await?;
    }
}

async fn commit(tables: &Tables, batch: Batch) -> Result<(), TablesError> {
    for _ in 1..KEPT_TRIES_MAX {
        match tables.commit(batch.clone()).await {
            Err(TablesError::Conflict(_)) => {}
            other => return other.map(drop),
        }
    }
    tables.commit(batch).await.map(drop)
}

fn broken(error: TablesError) -> Trouble {
    hilum_chart::ChartError::Tables(error).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hilum_engines::tables::sqlite::{Options, Place, Sqlite};

    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_for_whom_it_was_kept_and_ends() {
        let sqlite = Sqlite::open(Place::Memory, crate::tables::ALL, Options::default()).unwrap();
        let (tables, entropy) = (Tables::Sqlite(sqlite), Entropy::seeded(7));
        let until = Timestamp::from_micros(1_795_000_000_000_000);
        let state = br#"{"name":"KANARIENVOGEL"}"#;
        let ticket = keep(&tables, &entropy, "kim", state, until).await.unwrap().unwrap();
        let again = Ticket::parse(&ticket.text()).unwrap();
        assert_eq!(kept(&tables, "kim", &again).await.unwrap().unwrap(), state);
        assert!(matches!(kept(&tables, "lee", &again).await, Err(Trouble::NotFound)), "somebody else's");
        let other_key = Ticket { key: [7; KEY_BYTES], ..again.clone() };
        assert!(matches!(kept(&tables, "kim", &other_key).await, Err(Trouble::NotFound)), "another key");
        let rows = tables.read(&[Read::Scan(Scan::by_key(KEPT.name, Vec::new()))]).await.unwrap();
        let Some(Value::Bytes(sealed)) = rows[0][0].values.get(2) else { panic!("{rows:?}") };
        assert_eq!(sealed.len(), KEPT_PADDED_BYTES + 16, "a size tells nothing");
        assert!(!sealed.windows(6).any(|window| window == b"KANARI"));
        let later = |s: i64| Timestamp::from_micros(until.as_micros() + s * 1_000_000);
        assert_eq!(sweep(&tables, later(KEPT_GRACE_S - 1)).await.unwrap(), 0, "whoever is late is led on");
        assert_eq!(sweep(&tables, later(KEPT_GRACE_S + 1)).await.unwrap(), 1);
        assert!(kept(&tables, "kim", &again).await.unwrap().is_none());
        for none in ["", "AA", &"A".repeat(100), "%%"] {
            assert!(Ticket::parse(none).is_none(), "{none}");
        }
    }
}
