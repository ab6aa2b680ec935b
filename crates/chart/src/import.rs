//! Many resources by few commits: read, compared and indexed beside the engine, so that its writer has nothing to do but
//! write. One resource after the other, as a client sends them, is [`Chart::commit`]'s.
//!
//! A [`Draft`] is compared with what stands ([`Chart::compare`]), what differs is checked and indexed by whoever brings it
//! ([`Compared::made`]), and a good number of them are one commit ([`Chart::take_in`]).

use std::collections::BTreeMap;

use bytes::Bytes;
use hilum_core::{Authority, Digest, Id, RecordId, Seq};
use hilum_engines::tables::{Batch, Read, Row};
use hilum_fhir::resource::with_labels_of;
use hilum_fhir::{FhirId, ResourceBody};

use crate::body;
use crate::chart::{Chart, Commit, may_read};
use crate::error::ChartError;
use crate::index::Rows;
use crate::limits::COMPARE_RESOURCES;
use crate::port;
use crate::projection::{Changes, ResourceChange};
use crate::resources::{
    Indexing, Made, Stored, Version, Writer, digest_of, read_current, stands as stands_already,
};

/// A resource as it is to stand.
pub struct Draft {
    /// `Patient`, …
    pub resource_type: &'static str,
    /// Its id in the chart.
    pub id: Id,
    /// Its logical id, which `body` says.
    pub logical: FhirId,
    body: String,
    digest: Digest,
}

impl Draft {
    /// One whose body is without `meta.versionId` and `meta.lastUpdated`.
    pub fn new(resource_type: &'static str, id: Id, logical: FhirId, body: String) -> Self {
        let digest = digest_of(Some(&body));
        Self { resource_type, id, logical, body, digest }
    }

    /// The body as it comes.
    pub fn body(&self) -> &str {
        &self.body
    }
}

/// What stands at the place of a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stands {
    /// The same.
    Same,
    /// Nothing, or something that it replaces.
    Less,
    /// What somebody else made.
    Owned(String),
    /// A resource of another logical id.
    Foreign,
}

/// A draft beside what stands.
pub struct Compared {
    draft: Draft,
    current: Option<Row>,
    stands: Stands,
}

impl Compared {
    fn of(mut draft: Draft, current: Option<Row>, door: &str) -> Result<Self, ChartError> {
        let stands = match &current {
            None => Stands::Less,
            Some(row) => {
                let stored = Stored::current(row)?;
                if stored.owner != door {
                    Stands::Owned(stored.owner)
                } else if stands_already(Some(row), Some(draft.digest)) {
                    Stands::Same
                } else if stored.deleted {
                    Stands::Less
                } else if ResourceBody::parse(stored.body.clone())
                    .is_ok_and(|body| *body.id() != draft.logical)
                {
                    Stands::Foreign
                } else {
                    // As an update by a client: labels that it does not speak of stay.
                    let labelled = with_labels_of(&draft.body, stored.text()?);
                    let labelled = labelled.map_err(|why| ChartError::Body(why.to_string()))?.into_owned();
                    draft = Draft::new(draft.resource_type, draft.id, draft.logical, labelled);
                    if stands_already(Some(row), Some(draft.digest)) { Stands::Same } else { Stands::Less }
                }
            }
        };
        Ok(Self { draft, current, stands })
    }

    /// What stands at its place.
    pub const fn stands(&self) -> &Stands {
        &self.stands
    }

    /// Its type.
    pub const fn resource_type(&self) -> &'static str {
        self.draft.resource_type
    }

    /// The body as it will be stored.
    pub fn body(&self) -> &str {
        &self.draft.body
    }

    /// Back to a draft.
    pub fn into_draft(self) -> Draft {
        self.draft
    }

    /// The same with its index rows; none where nothing is indexed.
    pub fn made(self, rows: Rows) -> Ready {
        let Self { draft, current, .. } = self;
        let stored = body::encode(&draft.body);
        Ready { draft, current, stored, rows }
    }
}

/// A draft that is ready to be written.
pub struct Ready {
    draft: Draft,
    current: Option<Row>,
    /// The body as it will be stored.
    stored: Bytes,
    rows: Rows,
}

impl Ready {
    /// Its place.
    pub const fn place(&self) -> (&'static str, Id) {
        (self.draft.resource_type, self.draft.id)
    }

    /// How many rows its commit writes for it.
    pub fn writes(&self) -> usize {
        self.rows.rows.len() + 2
    }

    /// Bytes of its body.
    pub fn size_bytes(&self) -> usize {
        self.draft.body.len()
    }

    /// Back to a draft: what stands has changed since it was compared.
    pub fn into_draft(self) -> Draft {
        self.draft
    }
}

impl Chart {
    /// What stands at the places of `drafts`, in their order. Resources of other owners than `door` are not for it to write.
    ///
    /// # Errors
    /// [`ChartError::NotFound`] when `authority` may not read; the engine's.
    pub async fn compare(
        &self,
        authority: &Authority,
        door: &str,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Compared>, ChartError> {
        may_read(authority)?;
        let mut compared = Vec::with_capacity(drafts.len());
        let mut drafts = drafts.into_iter();
        loop {
            let some: Vec<Draft> = drafts.by_ref().take(COMPARE_RESOURCES).collect();
            if some.is_empty() {
                return Ok(compared);
            }
            let reads: Vec<Read> =
                some.iter().map(|draft| read_current(draft.resource_type, draft.id)).collect();
            let found = port::read(self.tables(), &reads).await?;
            for (draft, mut rows) in some.into_iter().zip(found) {
                compared.push(Compared::of(draft, rows.pop(), door)?);
            }
        }
    }

    /// Commits all of `ready`, no two of the same place, at once: durable when it resolves. Types that a room has a rule on
    /// go one by one, so that it is asked.
    ///
    /// # Errors
    /// [`TablesError::Conflict`](hilum_engines::tables::TablesError::Conflict) where another writer was first: compare anew.
    /// [`ChartError::Forbidden`], [`ChartError::Refused`], [`ChartError::Bound`]; the engine's.
    pub async fn take_in(
        &self,
        authority: &Authority,
        door: &'static str,
        source: RecordId,
        ready: &[Ready],
    ) -> Result<Seq, ChartError> {
        if !authority.decides() {
            return Err(ChartError::Forbidden);
        }
        let index = self.indexer.as_ref().map(Indexing::of_door);
        let writer = Writer { owner: door, now: self.clock.now(), index };
        let mut batch = Batch::default();
        for one in ready {
            let Ready { draft, current, stored, rows } = one;
            if self.rules.iter().any(|rule| rule.resource_type == draft.resource_type) {
                self.commit(authority, alone(door, source, draft)).await?;
                continue;
            }
            let version = Version {
                resource_type: draft.resource_type,
                id: draft.id,
                body: Some(&draft.body),
                source,
                made: Some(Made { digest: draft.digest, stored, rows }),
            };
            writer.write(&version, current.as_ref(), &mut batch)?;
        }
        Ok(port::commit(self.tables(), batch).await?)
    }
}

fn alone(door: &'static str, source: RecordId, draft: &Draft) -> Commit {
    let key = (draft.resource_type, draft.id);
    let body = Some(draft.body.clone());
    let change = ResourceChange { resource_type: key.0, id: key.1, body, source };
    Commit {
        door,
        changes: Changes { resources: BTreeMap::from([(key, change)]), ..Changes::default() },
        logical_ids: BTreeMap::from([(key, draft.logical.clone())]),
        ..Commit::default()
    }
}
