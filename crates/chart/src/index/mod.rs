//! The search index: rows by value, each for as long as there are versions that have it, written in the commit that makes
//! the version. What stands of a resource's values is known without a read: the values are those of the body that is
//! replaced, and since when each stands is kept beside it ([`Standing`]).
//!
//! | module | what lives there |
//! |---|---|
//! | [`life`] | since when it stands |
//! | [`mend`] | whether all is indexed, and what makes it so |
//! | [`rows`] | the rows of a body |
//! | [`sweep`] | what removes rows that nobody asks for any more |
//! | [`tables`] | what is kept |

pub mod life;
pub mod mend;
pub mod rows;
pub mod sweep;
pub mod tables;

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut as _, Bytes, BytesMut};
use hilum_core::{InstallationKey, Seq};
use hilum_engines::tables::{Batch, Row, Value, Write};
use hilum_fhir::json::Json;
use hilum_fhir::search::values::Settings;

use self::rows::IndexRow;
use crate::error::ChartError;
use crate::resources::RESOURCE;

/// Raised whenever other rows are made of the same body and settings.
const FORM: u32 = 7;

/// What of a projection's resource no search may find, since a [`crate::Discretion`] may have to leave it out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unsearched {
    /// Everything may be found.
    #[default]
    Nothing,
    /// Not by these parameters.
    By(&'static [&'static str]),
    /// By none.
    All,
}

/// What is left out of a resource's values, as its projection says.
pub type Unsearch = fn(&Json<'_>) -> Unsearched;

/// Makes index rows of bodies.
#[derive(Debug, Clone)]
pub struct Indexer {
    key: InstallationKey,
    settings: Settings,
    form: i64,
}

impl Indexer {
    /// One with the installation's key, by which logical ids stand in the chart.
    pub fn new(key: InstallationKey, settings: Settings) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&FORM.to_be_bytes());
        hasher.update(settings.zone.iana_name().unwrap_or_default().as_bytes());
        for base in &settings.bases {
            hasher.update(b"\0");
            hasher.update(base.as_bytes());
        }
        let first: [u8; 8] =
            std::array::from_fn(|at| hasher.finalize().as_bytes().get(at).copied().unwrap_or_default());
        // Positive: 0 says that there are rows of no form that is known.
        let form = (i64::from_be_bytes(first) & i64::MAX).max(1);
        Self { key, settings, form }
    }

    /// What values depend on beside the body.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What tells rows made by this program and these settings from others.
    pub const fn form(&self) -> i64 {
        self.form
    }

    /// The rows of a body as it is stored; none of a deletion.
    pub fn rows(&self, body: Option<&str>, unsearch: Unsearch) -> Rows {
        let Some(Ok(resource)) = body.map(|body| Json::parse(body.as_bytes())) else {
            return Rows::default();
        };
        rows::of(&resource, &self.key, &self.settings, unsearch(&resource))
    }

    /// The rows of a body that a door writes and that was read already.
    pub fn rows_of(&self, resource: &Json<'_>) -> Rows {
        rows::of(resource, &self.key, &self.settings, Unsearched::Nothing)
    }
}

/// The rows of a body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// Each once.
    pub rows: BTreeSet<IndexRow>,
    /// That there would be more than a resource may have.
    pub too_many: bool,
}

/// What of the index stands beside a resource's current version: the last columns of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing<'a> {
    row: Option<i64>,
    form: Option<i64>,
    base: Option<Seq>,
    later: Option<&'a Bytes>,
    t_from: Seq,
}

/// Those columns for the next version: `row`, `form`, `base`, `later`.
pub(crate) type Columns = [Value; 4];

/// Digest and commit of a value that came after the base; 0 = with the version itself.
const LATER_BYTES: usize = 16;

impl<'a> Standing<'a> {
    /// Of a row of [`RESOURCE`].
    pub(crate) fn of(row: &'a Row) -> Result<Self, ChartError> {
        let at = |name: &str| RESOURCE.column(name).and_then(|at| row.values.get(at));
        let (number, form, base, later) = (at("row"), at("form"), at("base"), at("later"));
        let Some(Value::Seq(t_from)) = at("t_from") else { return Err(unreadable("t_from")) };
        Ok(Self {
            row: integer(number)?,
            form: integer(form)?,
            base: match base {
                Some(Value::Seq(seq)) => Some(*seq),
                Some(Value::Null) | None => None,
                Some(_) => return Err(unreadable("base")),
            },
            later: match later {
                Some(Value::Bytes(bytes)) => Some(bytes),
                Some(Value::Null) | None => None,
                Some(_) => return Err(unreadable("later")),
            },
            t_from: *t_from,
        })
    }

    /// Since when a value stands.
    fn since(&self) -> Result<impl Fn(&IndexRow) -> Seq + use<>, ChartError> {
        let base = self.base.ok_or_else(|| unreadable("base"))?;
        let mut later: BTreeMap<[u8; 8], Seq> = BTreeMap::new();
        let (entries, rest) = self.later.map_or((&[][..], &[][..]), |bytes| bytes.as_chunks::<LATER_BYTES>());
        if !rest.is_empty() {
            return Err(unreadable("later"));
        }
        for entry in entries {
            let (digest, t) = entry.split_at(8);
            let (digest, t) = (<[u8; 8]>::try_from(digest), <[u8; 8]>::try_from(t));
            let (Ok(digest), Ok(t)) = (digest, t) else { return Err(unreadable("later")) };
            let t = match i64::from_be_bytes(t) {
                0 => self.t_from,
                t => Seq(t),
            };
            later.insert(digest, t);
        }
        Ok(
            move |row: &IndexRow| {
                if later.is_empty() { base } else { later.get(&row.digest()).copied().unwrap_or(base) }
            },
        )
    }
}

fn unreadable(column: &'static str) -> ChartError {
    ChartError::Stored { what: RESOURCE.name, why: format!("column {column}") }
}

fn integer(value: Option<&Value>) -> Result<Option<i64>, ChartError> {
    match value {
        Some(Value::Int(int)) => Ok(Some(*int)),
        Some(Value::Null) | None => Ok(None),
        Some(_) => Err(unreadable("row, form")),
    }
}

impl Standing<'_> {
    /// The same without rows: what is indexed next is all new.
    const fn anew(self) -> Self {
        Self { form: None, base: None, later: None, ..self }
    }
}

/// The columns of a version that is not indexed: what stands is of no form any more.
pub(crate) fn left_out(standing: Option<&Standing<'_>>) -> Columns {
    let Some(standing) = standing else { return [Value::Null, Value::Null, Value::Null, Value::Null] };
    let form = standing.form.map_or(Value::Null, |_| Value::Int(0));
    [standing.row.map_or(Value::Null, Value::Int), form, Value::Null, Value::Null]
}

/// Adds to `batch` what brings the index from the body that stands to the one that comes: rows of values that are gone are
/// closed, those of new ones opened. Returns the columns of the new version.
///
/// Rows of another form are left as they are: searches wait for `hilum rebuild index`, which makes all anew.
pub(crate) fn write(
    form: i64,
    standing: Option<&Standing<'_>>,
    (before, after): (BTreeSet<IndexRow>, &BTreeSet<IndexRow>),
    batch: &mut Batch,
) -> Result<Columns, ChartError> {
    let known = standing.filter(|standing| standing.form == Some(form));
    if known.is_none() && standing.is_some_and(|standing| standing.form.is_some()) {
        return Ok(left_out(standing));
    }
    let number = standing.and_then(|standing| standing.row);
    // No two writes of a batch have the same place in it.
    let subject = number.map_or_else(|| Value::ThisCommitNth(batch.writes.len() as u32), Value::Int);
    let mut stays = Vec::new();
    if let Some(known) = known {
        let since = known.since()?;
        for row in before {
            let t = since(&row);
            if after.contains(&row) {
                stays.push((row, t));
            } else {
                let (table, key) = (row.table(), row.key(&subject, Value::Seq(t)));
                let columns = vec![("to_t", Value::ThisCommit)];
                batch.writes.push(Write::Set { table, key, columns });
            }
        }
    }
    let base = known.and_then(|known| known.base).filter(|_| !stays.is_empty());
    let stay: BTreeMap<&IndexRow, Seq> = stays.iter().map(|(row, t)| (row, *t)).collect();
    let mut later = BytesMut::new();
    for row in after {
        let since = stay.get(row);
        if since.is_none() {
            let values = row.values(&subject, Value::ThisCommit, Value::Null);
            batch.writes.push(Write::Put { table: row.table(), values });
        }
        if base.is_some() && since.copied() != base {
            later.put_slice(&row.digest());
            later.put_i64(since.map_or(0, |since| since.0));
        }
    }
    let later = if later.is_empty() { Value::Null } else { Value::Bytes(later.freeze()) };
    Ok([subject, Value::Int(form), base.map_or(Value::ThisCommit, Value::Seq), later])
}
