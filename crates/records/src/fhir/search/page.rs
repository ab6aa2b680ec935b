//! The sealed link to a page: all that it takes to go on, in the link itself, readable by us alone. Nothing is stored for
//! it, any process of the installation answers it, and it serves nobody but who was given it.
//!
//! `version (1) | bucket (4) | nonce (12) | AES-256-GCM-SIV of the padded state | tag (16)`, in base64 without padding.
//! The key of a bucket of hours is derived from the installation's; who may use it is bound as additional data.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hilum_core::{InstallationKey, Timestamp};
use hilum_engines::tables::Value;
use hilum_fhir::search::param::type_number;
use hilum_fhir::search::query::Query;
use serde::{Deserialize, Serialize};

use crate::limits::{
    LINKED_BYTES_MAX, OFFSET_MAX, PAGE_BUCKET_S, PAGE_MATCHES_MAX, PAGE_PADDED_BYTES, PAGE_TOKEN_BYTES_MAX,
};

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 4 + NONCE_LEN;

/// Why a link is not followed.
#[derive(Debug, PartialEq)]
pub(in crate::fhir) enum PageError {
    /// Not one of ours, or given to somebody else.
    Forged,
    /// It was good once: where it began.
    Expired(Box<Page>),
    /// The search does not fit into a link.
    TooLong,
}

/// What a walk goes through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::fhir) enum Kind {
    /// Matches of a search.
    #[default]
    #[serde(rename = "s")]
    Search,
    /// Versions of a type, or of all.
    #[serde(rename = "h")]
    History,
    /// What there is about a patient.
    #[serde(rename = "e")]
    Everything,
}

/// Where a walk stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::fhir) struct Page {
    /// What it goes through.
    #[serde(rename = "x", default)]
    pub(in crate::fhir) kind: Kind,
    /// The types that are searched for, with commas between them; empty: all that there are.
    #[serde(rename = "r")]
    pub(in crate::fhir) resource_type: String,
    /// In whose compartment, `Patient/123`.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub(in crate::fhir) within: Option<String>,
    /// The search, as `Query::pairs` says it.
    #[serde(rename = "q")]
    pub(in crate::fhir) pairs: Vec<(String, String)>,
    /// Where the search is kept that is too long for a link.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub(in crate::fhir) kept: Option<String>,
    /// Since which commit the index stands that is walked.
    #[serde(rename = "i", default)]
    pub(in crate::fhir) life: i64,
    /// The part of each resource that is shown, as `Form::kept` says it.
    #[serde(rename = "f", default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::fhir) form: Vec<(String, String)>,
    /// The commit whose state is walked; absent: that which is newest when it is followed.
    #[serde(default)]
    pub(in crate::fhir) t: Option<i64>,
    /// When the walk began, µs: what `ap` of a date goes by.
    #[serde(rename = "b")]
    pub(in crate::fhir) began_us: i64,
    /// The last match before this page: its type, keys, then the subject. Empty: from the beginning, or the end.
    #[serde(rename = "a", default)]
    pub(in crate::fhir) after: Vec<Cell>,
    /// Whether it goes towards the beginning.
    #[serde(rename = "v", default)]
    pub(in crate::fhir) reversed: bool,
    /// Matches in a page.
    #[serde(rename = "n")]
    pub(in crate::fhir) count: u32,
    /// The number of matches, where it was told.
    #[serde(rename = "m", default)]
    pub(in crate::fhir) total: Option<u64>,
    /// Until when it is good, µs.
    #[serde(rename = "e")]
    pub(in crate::fhir) until_us: i64,
    /// Where the page begins that the address names by a number.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(in crate::fhir) mark: Option<Mark>,
    /// How many matches lie before this page, where the address says it in the place of [`Page::after`].
    #[serde(skip)]
    pub(in crate::fhir) offset: Option<u32>,
}

/// The place that a number stood for when it was given out: whoever is withheld, or let in, since then moves no page of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::fhir) struct Mark {
    /// The number.
    #[serde(rename = "o")]
    pub(in crate::fhir) offset: u32,
    /// Matches of the page, in its direction.
    #[serde(rename = "n")]
    pub(in crate::fhir) matches: u32,
    /// As [`Page::after`].
    #[serde(rename = "a")]
    pub(in crate::fhir) after: Vec<Cell>,
    /// As [`Page::reversed`].
    #[serde(rename = "v")]
    pub(in crate::fhir) reversed: bool,
}

/// A value of a cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::fhir) enum Cell {
    #[serde(rename = "0")]
    Null,
    #[serde(rename = "i")]
    Int(i64),
    #[serde(rename = "d")]
    Time(i64),
    #[serde(rename = "t")]
    Text(String),
    #[serde(rename = "b")]
    Bytes(Vec<u8>),
}

impl Cell {
    /// Which of the types a match is of: by the type's own number, since the first resource of another one may come meanwhile.
    pub(in crate::fhir) fn of_type(query: &Query) -> Self {
        Self::Int(type_number(query.resource_type).unwrap_or_default())
    }

    /// Absent where no key of a search is of this type.
    pub(in crate::fhir) fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Int(int) => Self::Int(*int),
            Value::Time(time) => Self::Time(time.as_micros()),
            Value::Text(text) => Self::Text(text.clone()),
            Value::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            _ => return None,
        })
    }

    pub(in crate::fhir) fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Int(int) => Value::Int(*int),
            Self::Time(micros) => Value::Time(Timestamp::from_micros(*micros)),
            Self::Text(text) => Value::Text(text.clone()),
            Self::Bytes(bytes) => Value::Bytes(bytes.clone().into()),
        }
    }
}

impl Page {
    /// As a link's last part, for this principal alone.
    ///
    /// # Errors
    /// [`PageError::TooLong`].
    pub(in crate::fhir) fn seal(
        &self,
        key: &InstallationKey,
        principal: &str,
        nonce: [u8; NONCE_LEN],
    ) -> Result<String, PageError> {
        let bucket = bucket_of(self.until_us);
        let mut state = self.linked()?;
        // A size tells what was asked: there are few sizes.
        let size =
            PAGE_PADDED_BYTES.into_iter().find(|size| *size >= state.len()).ok_or(PageError::TooLong)?;
        state.resize(size, b' ');
        let mut token = vec![VERSION];
        token.extend_from_slice(&bucket.to_be_bytes());
        token.extend_from_slice(&nonce);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = sealing(key, bucket).seal_in_place_append_tag(nonce, bound(principal), &mut state);
        sealed.map_err(|_| PageError::TooLong)?;
        token.extend_from_slice(&state);
        Ok(URL_SAFE_NO_PAD.encode(token))
    }

    /// The page by its number: from the place that the link carries, where it was given out with this number; by the
    /// number where a client made it.
    pub(in crate::fhir) fn numbered(self, offset: u32, count: u32) -> Self {
        let is_given = |mark: &Mark| mark.offset == offset && (!mark.reversed || self.count == count);
        match self.mark.clone().filter(is_given) {
            Some(mark) => {
                let (after, reversed) = (mark.after.clone(), mark.reversed);
                Self { offset: Some(offset), count, after, reversed, mark: Some(mark), ..self }
            }
            None => Self { offset: Some(offset), count, mark: None, ..self },
        }
    }

    /// Matches to step over.
    pub(in crate::fhir) fn skipped(&self) -> u32 {
        if self.mark.is_some() { 0 } else { self.offset.unwrap_or_default() }
    }

    /// Matches that are wanted of it.
    pub(in crate::fhir) fn wanted(&self) -> u32 {
        let reversed = self.mark.as_ref().filter(|mark| mark.reversed);
        reversed.map_or(self.count, |mark| mark.matches).max(1)
    }

    /// What a link holds of it: where the search is kept, how far it went alone.
    fn linked(&self) -> Result<Vec<u8>, PageError> {
        let linked = match &self.kept {
            None => serde_json::to_vec(self),
            Some(_) => serde_json::to_vec(&Self {
                resource_type: String::new(),
                within: None,
                pairs: Vec::new(),
                form: Vec::new(),
                ..self.clone()
            }),
        };
        linked.map_err(|_| PageError::TooLong)
    }

    /// Whether a link that goes on behind this place is longer than passes every proxy.
    pub(in crate::fhir) fn is_long_behind(&self, after: &[Cell]) -> bool {
        let number = self.offset.map(|_| Mark {
            offset: OFFSET_MAX,
            matches: PAGE_MATCHES_MAX,
            after: Vec::new(),
            reversed: true,
        });
        let there = Self { after: after.to_vec(), reversed: true, mark: number, ..self.clone() };
        there.linked().map_or(true, |state| state.len() > LINKED_BYTES_MAX)
    }

    /// What is kept of it where it is too long for a link: all that is the same on each page.
    pub(in crate::fhir) fn to_keep(&self) -> Result<Vec<u8>, PageError> {
        let whole = Self { after: Vec::new(), reversed: false, kept: None, mark: None, ..self.clone() };
        serde_json::to_vec(&whole).map_err(|_| PageError::TooLong)
    }

    /// The page of a link, with what is kept for it.
    pub(in crate::fhir) fn with_kept(self, state: &[u8]) -> Option<Self> {
        let Self { resource_type, within, pairs, form, .. } = serde_json::from_slice(state).ok()?;
        Some(Self { resource_type, within, pairs, form, ..self })
    }

    /// What a link's last part says, to this principal.
    ///
    /// # Errors
    /// [`PageError::Forged`], [`PageError::Expired`].
    pub(in crate::fhir) fn open(
        token: &str,
        key: &InstallationKey,
        principal: &str,
        now: Timestamp,
    ) -> Result<Self, PageError> {
        if token.len() > PAGE_TOKEN_BYTES_MAX {
            return Err(PageError::Forged);
        }
        let mut token = URL_SAFE_NO_PAD.decode(token).map_err(|_| PageError::Forged)?;
        let (head, sealed) = token.split_at_mut_checked(HEAD_BYTES).ok_or(PageError::Forged)?;
        let Some((&[VERSION, a, b, c, d], nonce)) = head.split_first_chunk::<5>() else {
            return Err(PageError::Forged);
        };
        let bucket = u32::from_be_bytes([a, b, c, d]);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| PageError::Forged)?;
        let state = sealing(key, bucket).open_in_place(nonce, bound(principal), sealed);
        let state = state.map_err(|_| PageError::Forged)?;
        let page: Self = serde_json::from_slice(state).map_err(|_| PageError::Forged)?;
        if bucket_of(page.until_us) != bucket {
            return Err(PageError::Forged);
        }
        if page.until_us <= now.as_micros() { Err(PageError::Expired(Box::new(page))) } else { Ok(page) }
    }
}

fn bucket_of(until_us: i64) -> u32 {
    u32::try_from(until_us / 1_000_000 / PAGE_BUCKET_S).unwrap_or_default()
}

fn sealing(key: &InstallationKey, bucket: u32) -> LessSafeKey {
    let digest = key.digest("fhir-page", &[&[VERSION], &bucket.to_be_bytes()]);
    let unbound = UnboundKey::new(&AES_256_GCM_SIV, digest.as_bytes());
    LessSafeKey::new(unbound.expect("a digest has the 32 bytes of the key"))
}

/// What ties a seal to somebody.
pub(super) fn bound(principal: &str) -> Aad<Vec<u8>> {
    Aad::from([b"hilum fhir page ".as_slice(), principal.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW_US: i64 = 1_795_000_000_000_000;

    fn key() -> InstallationKey {
        InstallationKey::new([7; 32])
    }

    fn page() -> Page {
        Page {
            kind: Kind::Search,
            form: Vec::new(),
            resource_type: "Patient".to_owned(),
            pairs: vec![("name".to_owned(), "김".to_owned())],
            t: Some(42),
            began_us: NOW_US,
            after: vec![
                Cell::Null,
                Cell::Text("a\"\\b".to_owned()),
                Cell::Time(i64::MIN),
                Cell::Bytes(vec![0, 255]),
                Cell::Int(7),
            ],
            reversed: true,
            count: 20,
            total: Some(3),
            until_us: NOW_US + 1_800_000_000,
            ..Page::default()
        }
    }

    fn open(token: &str, principal: &str) -> Result<Page, PageError> {
        Page::open(token, &key(), principal, Timestamp::from_micros(NOW_US))
    }

    #[test]
    fn a_link_serves_whom_it_was_given_to_and_nobody_else() {
        let token = page().seal(&key(), "kim", [3; NONCE_LEN]).unwrap();
        assert_eq!(open(&token, "kim"), Ok(page()));
        assert_eq!(open(&token, "lee"), Err(PageError::Forged));
        let other = Page::open(&token, &InstallationKey::new([8; 32]), "kim", Timestamp::from_micros(NOW_US));
        assert_eq!(other, Err(PageError::Forged), "of another installation");
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    }

    #[test]
    fn every_bit_counts() {
        let token = page().seal(&key(), "kim", [3; NONCE_LEN]).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for at in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[at / 8] ^= 1 << (at % 8);
            assert_eq!(open(&URL_SAFE_NO_PAD.encode(&changed), "kim"), Err(PageError::Forged), "bit {at}");
        }
        for end in 0..token.len() {
            assert_eq!(open(token.get(..end).unwrap(), "kim"), Err(PageError::Forged), "cut at {end}");
        }
        for none in ["", "A", "한", "AQ==", "%00", &"A".repeat(100_000)] {
            assert_eq!(open(none, "kim"), Err(PageError::Forged), "{none:.8}");
        }
    }

    #[test]
    fn one_that_is_over_says_where_it_began() {
        let token = page().seal(&key(), "kim", [3; NONCE_LEN]).unwrap();
        let at = |us: i64| Page::open(&token, &key(), "kim", Timestamp::from_micros(us));
        assert_eq!(at(page().until_us - 1), Ok(page()));
        assert_eq!(at(page().until_us), Err(PageError::Expired(Box::new(page()))));
        assert_eq!(at(i64::MAX), Err(PageError::Expired(Box::new(page()))));
        assert_eq!(at(0), Ok(page()), "a clock that is set back takes no link away");
    }

    #[test]
    fn a_number_that_was_given_out_is_a_place() {
        let mark = |reversed: bool| Mark { offset: 40, matches: 7, after: vec![Cell::Int(5)], reversed };
        let at = |mark: Option<Mark>, (offset, count): (u32, u32)| {
            let page = Page { mark, after: Vec::new(), reversed: false, ..page() }.numbered(offset, count);
            (page.after.len(), page.skipped(), page.wanted())
        };
        let cases = [
            ("of none", None, (40, 20), (0, 40, 20)),
            ("the next page", Some(mark(false)), (40, 20), (1, 0, 20)),
            ("more of it", Some(mark(false)), (40, 50), (1, 0, 50)),
            ("another number", Some(mark(false)), (41, 20), (0, 41, 20)),
            ("the page before", Some(mark(true)), (40, 20), (1, 0, 7)),
            ("more of that, which began elsewhere", Some(mark(true)), (40, 50), (0, 40, 50)),
        ];
        for (why, mark, number, want) in cases {
            assert_eq!(at(mark, number), want, "{why}");
        }
    }

    #[test]
    fn sizes_tell_little_and_end_somewhere() {
        let size = |name_bytes: usize| {
            let pairs = vec![("name".to_owned(), "x".repeat(name_bytes))];
            Page { pairs, ..page() }.seal(&key(), "kim", [3; NONCE_LEN]).map(|token| token.len())
        };
        assert_eq!(size(1), size(60));
        let sizes: std::collections::BTreeSet<usize> =
            (0..5_000).step_by(7).filter_map(|n| size(n).ok()).collect();
        assert!(sizes.len() <= PAGE_PADDED_BYTES.len());
        assert!(sizes.iter().all(|size| *size <= PAGE_TOKEN_BYTES_MAX));
        assert_eq!(size(10_000), Err(PageError::TooLong));
    }
}
