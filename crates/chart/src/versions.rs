//! Versions of many resources, newest first: the history of a type, and of all. Each type is walked by when its versions
//! were written, current and earlier ones side by side, and the types are joined: a page costs as much as it shows,
//! however many versions there are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hilum_core::{Authority, Id, Seq, Timestamp};
use hilum_engines::tables::{Read, Scan, TablesError, Value};

use crate::chart::{Chart, may_read};
use crate::error::ChartError;
use crate::limits::{HELD_PAGES_MAX, HISTORY_ROUNDS_MAX, HISTORY_VERSIONS_MAX};
use crate::port;
use crate::resources::{HISTORY, RESOURCE, Stored, key};

/// Where a version stands among all: greater is newer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VersionPlace {
    /// When it was written.
    pub updated: Timestamp,
    /// Its type.
    pub resource_type: String,
    /// Its id.
    pub id: Id,
    /// Its number.
    pub version: i64,
}

impl VersionPlace {
    /// Of a version.
    pub fn of(stored: &Stored) -> Self {
        let Stored { updated, id, version, .. } = *stored;
        Self { updated, resource_type: stored.resource_type.clone(), id, version }
    }
}

/// Which versions are asked for.
#[derive(Debug, Clone)]
pub struct Versions<'a> {
    /// Of these types.
    pub types: &'a [&'a str],
    /// Written then or later.
    pub since: Option<Timestamp>,
    /// Written before then.
    pub before: Option<Timestamp>,
    /// Made by no later commit.
    pub t: Seq,
    /// Older than this one.
    pub behind: Option<VersionPlace>,
    /// At most so many, and at most [`HISTORY_VERSIONS_MAX`] and one, which says that there are more.
    pub limit: u32,
}

/// The versions of one type, as far as they were read.
struct Walk<'a> {
    resource_type: &'a str,
    ready: VecDeque<Stored>,
    behind: Option<VersionPlace>,
    is_done: bool,
}

impl Chart {
    /// Versions, deletions among them, newest first.
    ///
    /// # Errors
    /// [`ChartError::NotFound`] when `authority` may not read; the engine's.
    pub async fn versions(
        &self,
        authority: &Authority,
        asked: &Versions<'_>,
    ) -> Result<Vec<Stored>, ChartError> {
        may_read(authority)?;
        let limit = asked.limit.min(HISTORY_VERSIONS_MAX + 1) as usize;
        let mut walks: Vec<Walk<'_>> = asked.types.iter().map(|ty| Walk::new(ty, asked)).collect();
        let mut out = Vec::new();
        // Of many types few have something new: their rows are read as they are needed.
        let mut rows = if walks.len() == 1 { limit } else { 1 };
        while out.len() < limit {
            self.refill(&mut walks, asked, (rows, HELD_PAGES_MAX * limit)).await?;
            rows = (rows * 4).min(limit);
            if walks.is_empty() {
                break;
            }
            // As long as each walk says what comes next in it.
            while out.len() < limit && walks.iter().all(|walk| !walk.ready.is_empty()) {
                let newest = walks.iter_mut().max_by_key(|walk| walk.ready.front().map(VersionPlace::of));
                out.extend(newest.and_then(|walk| walk.ready.pop_front()));
                walks.retain(|walk| !walk.ready.is_empty() || !walk.is_done);
                if walks.is_empty() {
                    break;
                }
            }
        }
        Ok(out)
    }

    /// Reads on where a walk has nothing left, so many of each as `rows` says, fewer where all walks together hold more than
    /// `held_max`. Walks that are at their end go.
    async fn refill(
        &self,
        walks: &mut Vec<Walk<'_>>,
        asked: &Versions<'_>,
        (rows, held_max): (usize, usize),
    ) -> Result<(), ChartError> {
        // What no walk keeps, since it came later than what is asked for, is read in ever larger steps.
        let mut rows_min = 1;
        for _ in 0..HISTORY_ROUNDS_MAX {
            let dry = walks.iter().filter(|walk| walk.ready.is_empty()).count();
            if dry == 0 {
                return Ok(());
            }
            let held: usize = walks.iter().map(|walk| walk.ready.len()).sum();
            let limit = rows.min(held_max.saturating_sub(held) / dry).max(rows_min);
            rows_min = (rows_min * 4).min(HISTORY_VERSIONS_MAX as usize);
            let mut reads = Vec::new();
            for walk in walks.iter().filter(|walk| walk.ready.is_empty()) {
                // The current ones first: a version that is replaced meanwhile is then seen twice, never not at all.
                reads.push(Read::Scan(walk.scan(asked, false, limit as u32)));
                reads.push(Read::Scan(walk.scan(asked, true, limit as u32)));
            }
            let mut found = port::read(self.tables(), &reads).await?.into_iter();
            for walk in walks.iter_mut().filter(|walk| walk.ready.is_empty()) {
                let (current, earlier) = (found.next().unwrap_or_default(), found.next().unwrap_or_default());
                let current = current.iter().map(Stored::current);
                let all = current.chain(earlier.iter().map(Stored::earlier)).collect::<Result<_, _>>()?;
                walk.take(all, asked.t, limit);
            }
            walks.retain(|walk| !walk.ready.is_empty() || !walk.is_done);
        }
        Err(TablesError::TooCostly.into())
    }

    /// Which of these versions made what was not there: first ones, and those behind a deletion.
    ///
    /// # Errors
    /// As [`Chart::versions`].
    pub async fn made(
        &self,
        authority: &Authority,
        versions: &[&Stored],
    ) -> Result<BTreeSet<VersionPlace>, ChartError> {
        may_read(authority)?;
        let (first, later): (Vec<&Stored>, Vec<&Stored>) =
            versions.iter().partition(|stored| stored.version <= 1);
        let before = |stored: &&Stored| {
            let mut before = key(&stored.resource_type, stored.id);
            before.push(Value::Int(stored.version - 1));
            Read::Get { table: HISTORY.name, key: before }
        };
        let reads: Vec<Read> = later.iter().map(before).collect();
        let mut made: BTreeSet<VersionPlace> = first.into_iter().map(VersionPlace::of).collect();
        for (stored, before) in later.into_iter().zip(port::read(self.tables(), &reads).await?) {
            if before.first().map(Stored::earlier).transpose()?.is_some_and(|before| before.deleted) {
                made.insert(VersionPlace::of(stored));
            }
        }
        Ok(made)
    }

    /// When each of these versions was replaced; of one that is current nothing is said.
    ///
    /// # Errors
    /// As [`Chart::versions`].
    pub async fn replaced(
        &self,
        authority: &Authority,
        versions: &[&Stored],
    ) -> Result<BTreeMap<VersionPlace, Timestamp>, ChartError> {
        may_read(authority)?;
        let mut reads = Vec::new();
        for stored in versions {
            let mut next = key(&stored.resource_type, stored.id);
            reads.push(Read::Get { table: RESOURCE.name, key: next.clone() });
            next.push(Value::Int(stored.version + 1));
            reads.push(Read::Get { table: HISTORY.name, key: next });
        }
        let mut found = port::read(self.tables(), &reads).await?.into_iter();
        let mut replaced = BTreeMap::new();
        for stored in versions {
            let current = found.next().unwrap_or_default().first().map(Stored::current).transpose()?;
            let earlier = found.next().unwrap_or_default().first().map(Stored::earlier).transpose()?;
            let next = earlier.or(current.filter(|current| current.version == stored.version + 1));
            replaced.extend(next.map(|next| (VersionPlace::of(stored), next.updated)));
        }
        Ok(replaced)
    }
}

impl<'a> Walk<'a> {
    fn new(resource_type: &'a str, asked: &Versions<'_>) -> Self {
        Self { resource_type, ready: VecDeque::new(), behind: asked.behind.clone(), is_done: false }
    }

    fn scan(&self, asked: &Versions<'_>, is_earlier: bool, limit: u32) -> Scan {
        let table = if is_earlier { &HISTORY } else { &RESOURCE };
        let resource_type = Value::Text(self.resource_type.to_owned());
        let scan = Scan::by_index(table.name, "by_updated", vec![resource_type]);
        let (mut to, mut after) = (asked.before, None);
        if let Some(behind) = &self.behind {
            let end = match self.resource_type.cmp(behind.resource_type.as_str()) {
                std::cmp::Ordering::Less => Timestamp::from_micros(behind.updated.as_micros() + 1),
                std::cmp::Ordering::Greater => behind.updated,
                std::cmp::Ordering::Equal => {
                    let mut place =
                        vec![Value::Text(behind.resource_type.clone()), Value::Time(behind.updated)];
                    place.extend(key(&behind.resource_type, behind.id));
                    place.extend(is_earlier.then_some(Value::Int(behind.version)));
                    after = Some(place);
                    Timestamp::from_micros(behind.updated.as_micros() + 1)
                }
            };
            to = Some(to.map_or(end, |to| to.min(end)));
        }
        Scan {
            from: asked.since.map(Value::Time),
            to: to.map(Value::Time),
            after,
            limit,
            descending: true,
            ..scan
        }
    }

    /// Takes what was read, so many at most from each table: the newest of them are the newest that there are.
    fn take(&mut self, mut all: Vec<Stored>, t: Seq, limit: usize) {
        self.is_done = all.len() < limit;
        all.sort_by_cached_key(|stored| std::cmp::Reverse(VersionPlace::of(stored)));
        all.dedup_by_key(|stored| VersionPlace::of(stored));
        all.truncate(limit);
        if let Some(last) = all.last() {
            self.behind = Some(VersionPlace::of(last));
        }
        self.ready.extend(all.into_iter().filter(|stored| stored.t_from <= t));
    }
}
