//! Searches that are kept for their pages: those that are linked by a name, and those that are too long for a link. What
//! is kept is unreadable without the link that was given out, and to anybody but whom it was given to.

use aws_lc_rs::aead::{AES_256_GCM_SIV, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hilum_core::{Entropy, InstallationKey, Timestamp};
use hilum_engines::tables::{Batch, Read, Scan, Tables, TablesError, Value, Write};

use super::page::{Cell, Page, bound};
use crate::Room;
use crate::fhir::answer::{self, Trouble};
use crate::limits::{
    KEPT_GRACE_S, KEPT_PADDED_BYTES, KEPT_ROWS_MAX, KEPT_ROWS_OF_ONE_MAX, KEPT_SWEPT_ROWS, KEPT_TRIES_MAX,
};
use crate::tables::KEPT;

const HANDLE_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
/// Of a handle, those that say for whom it is kept.
const OWNER_BYTES: usize = 6;
/// Of a handle, the last, by which we know it for one of ours when what it named is gone.
const CHECK_BYTES: usize = 4;

/// What a link says of a search that is kept: where it is, and the key to it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Ticket {
    handle: [u8; HANDLE_BYTES],
    key: [u8; KEY_BYTES],
}

/// For whom something is kept.
pub(super) struct Whose<'p> {
    key: &'p InstallationKey,
    principal: &'p str,
    /// What the handles of theirs begin with, which says to nobody else who they are.
    begins: [u8; OWNER_BYTES],
}

impl<'p> Whose<'p> {
    fn of(key: &'p InstallationKey, principal: &'p str) -> Self {
        let digest = key.digest("fhir-kept", &[principal.as_bytes()]);
        let begins = std::array::from_fn(|at| digest.as_bytes().get(at).copied().unwrap_or_default());
        Self { key, principal, begins }
    }

    /// What the last bytes of a handle are, by those before.
    fn check(&self, handle: &[u8; HANDLE_BYTES]) -> [u8; CHECK_BYTES] {
        let before = handle.split_last_chunk::<CHECK_BYTES>().map_or(&[][..], |(before, _)| before);
        let digest = self.key.digest("fhir-kept-handle", &[self.principal.as_bytes(), before]);
        std::array::from_fn(|at| digest.as_bytes().get(at).copied().unwrap_or_default())
    }

    /// All that is kept for them.
    fn all(&self) -> Scan {
        let from = self.begins.to_vec();
        // Longer than any handle, and greater than each that begins so.
        let to = [self.begins.as_slice(), &[u8::MAX; HANDLE_BYTES]].concat();
        Scan {
            from: Some(Value::Bytes(from.into())),
            to: Some(Value::Bytes(to.into())),
            ..Scan::by_key(KEPT.name, Vec::new())
        }
    }
}

impl Ticket {
    fn new(entropy: &Entropy, whose: &Whose<'_>) -> Self {
        let mut handle: [u8; HANDLE_BYTES] = entropy.bytes();
        handle.iter_mut().zip(whose.begins).for_each(|(byte, own)| *byte = own);
        let check = whose.check(&handle);
        handle.iter_mut().rev().zip(check.into_iter().rev()).for_each(|(byte, own)| *byte = own);
        Self { handle, key: entropy.bytes() }
    }

    /// Whether it was ever given to somebody.
    pub(super) fn was_given(&self, key: &InstallationKey, principal: &str) -> bool {
        self.handle.ends_with(&Whose::of(key, principal).check(&self.handle))
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

/// Keeps `state` for somebody; absent where too much is kept already, for them or for all.
///
/// # Errors
/// The engine's.
async fn keep(
    tables: &Tables,
    entropy: &Entropy,
    whose: &Whose<'_>,
    state: &[u8],
    until: Timestamp,
) -> Result<Option<Ticket>, Trouble> {
    let all = Scan::by_key(KEPT.name, Vec::new());
    for (kept, max) in [(whose.all(), KEPT_ROWS_OF_ONE_MAX), (all, KEPT_ROWS_MAX)] {
        if tables.count(&kept, max).await.map_err(broken)? >= max {
            return Ok(None);
        }
    }
    let ticket = Ticket::new(entropy, whose);
    // A length tells what was asked.
    let mut state = state.to_vec();
    state.resize(state.len().next_multiple_of(KEPT_PADDED_BYTES), b' ');
    let sealed = ticket.sealing().seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce()),
        bound(whose.principal),
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

/// Keeps the search of a page; the name that its links give it, absent where too much is kept.
///
/// # Errors
/// The engine's.
pub(super) async fn keep_page(room: &Room, principal: &str, page: &Page) -> Result<Option<String>, Trouble> {
    let state = page.to_keep().map_err(|_| answer::broken("a search that is to be kept is no JSON"))?;
    let until = Timestamp::from_micros(page.until_us);
    let whose = Whose::of(&room.key, principal);
    let ticket = keep(room.chart.tables(), &room.entropy, &whose, &state, until).await?;
    Ok(ticket.map(|ticket| ticket.text()))
}

/// Keeps the search of a page that is too long for a link to one of these places, or to its beginning; its links name it
/// then. Where too much is kept they hold it all, if it fits.
///
/// # Errors
/// The engine's.
pub(super) async fn keep_if_long(
    room: &Room,
    principal: &str,
    page: &mut Page,
    places: &[&[Cell]],
) -> Result<(), Trouble> {
    let mut links = places.iter().copied().chain([&[][..]]);
    if page.kept.is_none() && links.any(|after| page.is_long_behind(after)) {
        page.kept = keep_page(room, principal, page).await?;
    }
    Ok(())
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
        let key = InstallationKey::new([7; 32]);
        let kim = Whose::of(&key, "kim");
        let ticket = keep(&tables, &entropy, &kim, state, until).await.unwrap().unwrap();
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
        assert!(again.was_given(&key, "kim") && !again.was_given(&key, "lee"));
        for at in 0..HANDLE_BYTES {
            let mut made_up = again.clone();
            made_up.handle[at] ^= 1;
            assert!(!made_up.was_given(&key, "kim"), "{at}");
        }
        for none in ["", "AA", &"A".repeat(100), "%%"] {
            assert!(Ticket::parse(none).is_none(), "{none}");
        }
    }

    #[tokio::test]
    async fn who_keeps_too_much_takes_nobody_elses_place() {
        let sqlite = Sqlite::open(Place::Memory, crate::tables::ALL, Options::default()).unwrap();
        let (tables, entropy) = (Tables::Sqlite(sqlite), Entropy::seeded(7));
        let until = Timestamp::from_micros(1_795_000_000_000_000);
        let key = InstallationKey::new([7; 32]);
        let (kim, lee) = (Whose::of(&key, "kim"), Whose::of(&key, "lee"));
        let row = |_| {
            let handle = Value::Bytes(Ticket::new(&entropy, &kim).handle.to_vec().into());
            let values = vec![handle, Value::Time(until), Value::Bytes(Bytes::new())];
            Write::Put { table: KEPT.name, values }
        };
        for _ in 0..10 {
            let writes = (0..KEPT_ROWS_OF_ONE_MAX / 10).map(row).collect();
            tables.commit(Batch { writes, ..Batch::default() }).await.unwrap();
        }
        assert!(keep(&tables, &entropy, &kim, b"{}", until).await.unwrap().is_none());
        assert!(keep(&tables, &entropy, &lee, b"{}", until).await.unwrap().is_some());
    }
}
