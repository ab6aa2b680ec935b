//! Search: criteria and who asks become one query over the index (ADR 24), the same on every engine.
//!
//! | module | what lives there |
//! |---|---|
//! | [`beside`] | composites |
//! | [`compartment`] | what there is about a patient |
//! | [`explain`] | a plan in words |
//! | [`filter`] | criteria of a resource itself |
//! | [`order`] | what an answer is ordered by |
//! | [`permitted`] | what somebody may know who is limited to some patients |
//! | [`plan`] | what drives, and what is asked of each subject: pure |
//! | [`rows`] | index rows: as a range that is walked, and of one subject |
//! | [`through`] | criteria that go through references |
//! | [`together`] | criteria that one row has together |
//! | [`updated`] | when a version was written |
//! | [`value`] | the rows of one value, by what it is |
//! | [`withheld`] | whom no search may find, nor go through |

pub mod beside;
pub mod compartment;
pub mod explain;
pub mod filter;
pub mod order;
pub mod permitted;
pub mod plan;
pub mod rows;
pub mod through;
pub mod together;
pub mod updated;
pub mod value;
pub mod withheld;

use hilum_core::{Authority, Id, Seq};
use hilum_engines::tables::query::{Answer, Bounds, Query};
use hilum_engines::tables::{Read, Scan, Value};

pub use compartment::Compartment;
pub use explain::Step;
pub use plan::{Asked, Plan, PlanError, plan};
pub use withheld::{Unfound, Withheld, unfound};

use crate::chart::{Chart, may_read};
use crate::error::ChartError;
use crate::limits::{HISTORY_VERSIONS_MAX, READ_RESOURCES_MAX};
use crate::port;
use crate::resources::{HISTORY, RESOURCE, Stored, key};

/// Where a page begins, and which way it goes.
#[derive(Debug, Clone, Default)]
pub struct From {
    /// Behind this place: keys, then the subject.
    pub after: Option<Vec<Value>>,
    /// Towards the beginning.
    pub reversed: bool,
    /// At most so many.
    pub limit: u32,
}

/// A match: the version that was there when the walk began, and the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// What matched.
    pub then: Stored,
    /// What stands now, where it is another version; whether `then` may be shown is asked of this one too.
    pub now: Option<Stored>,
}

impl Chart {
    /// What matches, in the plan's order.
    ///
    /// # Errors
    /// [`ChartError::NotFound`] when `authority` may not read; the engine's.
    pub async fn search(&self, authority: &Authority, plan: &Plan, from: From) -> Result<Answer, ChartError> {
        may_read(authority)?;
        let mut query = plan.query.clone();
        (query.after, query.reversed, query.limit) = (from.after, from.reversed, from.limit);
        Ok(port::query(self.tables(), &query).await?)
    }

    /// How many match, up to `cap`; absent where that is not found within `rows` of what drives.
    ///
    /// # Errors
    /// As [`Chart::search`].
    pub async fn search_count(
        &self,
        authority: &Authority,
        plan: &Plan,
        cap: u64,
        rows: Option<u64>,
    ) -> Result<Option<u64>, ChartError> {
        let counted = self.search_counts(authority, std::slice::from_ref(plan), cap, rows).await?;
        Ok(counted.first().copied().flatten())
    }

    /// How many match each of several searches, `cap` and `rows` for each; all together take no longer than one may.
    ///
    /// # Errors
    /// As [`Chart::search`].
    pub async fn search_counts(
        &self,
        authority: &Authority,
        plans: &[Plan],
        cap: u64,
        rows: Option<u64>,
    ) -> Result<Vec<Option<u64>>, ChartError> {
        may_read(authority)?;
        let queries: Vec<Query> = plans.iter().map(|plan| plan.query.clone()).collect();
        let bounds = Bounds { cap, rows, budget: None };
        Ok(port::query_counts(self.tables(), &queries, bounds).await?)
    }

    /// Of each type whether there is, or ever was, a resource.
    ///
    /// # Errors
    /// As [`Chart::search`].
    pub async fn types_there(&self, authority: &Authority, types: &[&str]) -> Result<Vec<bool>, ChartError> {
        may_read(authority)?;
        let any = |ty: &&str| {
            let scan = Scan::by_key(RESOURCE.name, vec![Value::Text((*ty).to_owned())]);
            Read::Scan(Scan { limit: 1, ..scan })
        };
        let reads: Vec<Read> = types.iter().map(any).collect();
        Ok(port::read(self.tables(), &reads).await?.iter().map(|found| !found.is_empty()).collect())
    }

    /// The resources of these rows as they were at `t`, in their order; absent where one is deleted now.
    ///
    /// # Errors
    /// [`ChartError::Bound`] for more than [`READ_RESOURCES_MAX`]; as [`Chart::search`].
    pub async fn matches(
        &self,
        authority: &Authority,
        rows: &[i64],
        t: Seq,
    ) -> Result<Vec<Option<Match>>, ChartError> {
        may_read(authority)?;
        if rows.len() > READ_RESOURCES_MAX {
            return Err(ChartError::Bound { what: "resources", asked: rows.len(), max: READ_RESOURCES_MAX });
        }
        let by_row = |row: &i64| {
            let scan = Scan::by_index(RESOURCE.name, "by_row", vec![Value::Int(*row)]);
            Read::Scan(Scan { limit: 1, ..scan })
        };
        let reads: Vec<Read> = rows.iter().map(by_row).collect();
        let mut matches = Vec::with_capacity(rows.len());
        for found in port::read(self.tables(), &reads).await? {
            let current = found.first().map(Stored::current).transpose()?.filter(|stored| !stored.deleted);
            matches.push(match current {
                Some(now) if now.t_from > t => self
                    .version_at(&now.resource_type, now.id, t)
                    .await?
                    .map(|then| Match { then, now: Some(now) }),
                current => current.map(|then| Match { then, now: None }),
            });
        }
        Ok(matches)
    }

    /// The version of a changed resource that stood at `t`.
    pub(crate) async fn version_at(
        &self,
        resource_type: &str,
        id: Id,
        t: Seq,
    ) -> Result<Option<Stored>, ChartError> {
        let mut before = None;
        loop {
            let scan = Scan {
                to: before.map(Value::Int),
                limit: HISTORY_VERSIONS_MAX,
                descending: true,
                ..Scan::by_key(HISTORY.name, key(resource_type, id))
            };
            let rows = port::read(self.tables(), &[Read::Scan(scan)]).await?.pop().unwrap_or_default();
            for row in &rows {
                let stored = Stored::earlier(row)?;
                if stored.t_from <= t {
                    return Ok(Some(stored).filter(|stored| !stored.deleted));
                }
                before = Some(stored.version);
            }
            if rows.len() < HISTORY_VERSIONS_MAX as usize {
                return Ok(None);
            }
        }
    }
}
