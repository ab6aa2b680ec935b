//! Makes what a projection keeps again from the log: computes it beside, compares, and commits only what differs, as
//! new versions. What came chart-first is not touched; the outbox of the computation is thrown away, so nobody is
//! told twice: pages that were open meanwhile hear by one entry a commit that they must read again.
//!
//! Nothing else may write meanwhile: the command holds the data folder. Every commit validates what was compared, so
//! a writer that is there all the same is found out, and the rebuild ends with a conflict.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as Memory};

use futures::stream::{self, TryStreamExt};
use hilum_core::{Authority, Clock, Digest, Id};
use hilum_engines::log::Log;
use hilum_engines::tables::{
    Batch, Expect, OffsetMove, Outgoing, REREAD_TOPIC, Row, Scan, Table, Tables, Type, Value, Write,
};

use crate::chart::{Chart, page};
use crate::claims::Claims;
use crate::error::ChartError;
use crate::fits;
use crate::foresee::foresee_all;
use crate::limits::{BATCHES_IN_FLIGHT_MAX, REBUILD_WRITES_MAX, WALK_PAGE_ROWS};
use crate::port;
use crate::progress::Progress;
use crate::projection::Projection;
use crate::resources::{Indexing, REGISTER, RESOURCE, Stored, Version, Writer};
use crate::runner::Runner;

/// How one table came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableReport {
    /// The table.
    pub table: &'static str,
    /// Rows that were right.
    pub same: u64,
    /// Rows that were missing and are put.
    pub added: u64,
    /// Rows that said something else and are put anew.
    pub changed: u64,
    /// Rows that the log does not give and are removed.
    pub removed: u64,
}

impl TableReport {
    /// Rows that were not right.
    pub const fn differing(&self) -> u64 {
        self.added + self.changed + self.removed
    }
}

/// What a rebuild found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Records of the log.
    pub records: u64,
    /// The projection's tables, then `chart_resource` and `chart_register` as far as the projection owns them.
    pub tables: Vec<TableReport>,
    /// Canonical hash of what the projection owns, as it stood before.
    pub hash_before: Digest,
    /// The same of what the log gives.
    pub hash_log: Digest,
    /// The same as it stands now: that of the log, or the rebuild has failed.
    pub hash_after: Digest,
}

impl Report {
    /// Rows and resources that were not right.
    pub fn differing(&self) -> u64 {
        self.tables.iter().map(TableReport::differing).sum()
    }
}

/// What a rebuild does about records that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    /// Nothing is mended while there is one.
    Refuse,
    /// The chart becomes what the rest of the log says.
    PassOver,
}

/// Rebuilds what `projection` keeps in `live` from the whole `log`. `beside` is an empty engine with the same tables,
/// thrown away afterwards. `done` hears (records applied, records in all) while the log is gone through.
///
/// # Errors
/// [`LogError::Missing`](hilum_engines::log::LogError::Missing) or [`ChartError::LogDamaged`] if a record is gone or cannot be read and `damaged` says so: nothing was written. Whatever log and
/// tables fail at; [`hilum_engines::tables::TablesError::Conflict`] when somebody else writes.
/// Starting again is safe.
pub async fn rebuild<P: Projection>(
    projection: &Arc<P>,
    log: &Log,
    live: &Tables,
    beside: &Tables,
    clock: &Clock,
    damaged: Damaged,
    done: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<Report, ChartError> {
    let (ends, unreadable) = replay(projection, log, beside, clock, damaged, done).await?;
    if unreadable > 0 && damaged == Damaged::Refuse {
        return Err(ChartError::LogDamaged { records: unreadable });
    }
    let authority = Authority::system("rebuild");
    let hash = |tables: &Tables| {
        let (chart, authority) = (Chart::open(tables.clone(), clock.clone()), authority.clone());
        async move { chart.canonical_hash_of(&authority, P::NAME).await }
    };
    let (hash_before, hash_log) = (hash(live).await?, hash(beside).await?);
    let mut mend = Mend { live, batch: Batch::default() };
    let mut tables = Vec::new();
    for &table in P::TABLES {
        tables.push(compare_table::<P>(table, beside, &mut mend).await?);
    }
    tables.push(compare_resources(projection.as_ref(), beside, clock, &mut mend).await?);
    tables.push(compare_registers::<P>(beside, &mut mend).await?);
    mend.flush().await?;
    for end in &ends {
        let stands = port::applied(live, P::NAME, end.stream, end.partition, end.epoch).await?;
        if (stands.next, stands.last) != (end.to, end.last) {
            let offset = Some(OffsetMove { from: stands.next, ..end.clone() });
            port::commit(live, Batch { offset, ..Batch::default() }).await?;
        }
    }
    // Last: a rebuild that was broken off leaves rows of both forms.
    fits::write_form::<P>(live).await?;
    Ok(Report {
        records: ends.iter().map(|end| end.to).sum(),
        tables,
        hash_before,
        hash_log,
        hash_after: hash(live).await?,
    })
}

/// Applies the whole log to `beside`: streams one after the other, partitions side by side. Returns where each ended,
/// and how many records could not be read.
async fn replay<P: Projection>(
    projection: &Arc<P>,
    log: &Log,
    beside: &Tables,
    clock: &Clock,
    damaged: Damaged,
    done: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<(Vec<OffsetMove>, u64), ChartError> {
    let epoch = log.epoch();
    let mut ends = Vec::new();
    for (stream, partition) in log.places(P::STREAMS) {
        let to = port::end(log, stream, partition).await?;
        ends.push(OffsetMove { projection: P::NAME, stream, partition, epoch, from: 0, to, last: None });
    }
    let total = ends.iter().map(|end| end.to).sum();
    let applied = AtomicU64::new(0);
    let count = &|records: usize| {
        let records = records as u64;
        done(applied.fetch_add(records, Memory::Relaxed) + records, total);
    };
    done(0, total);
    let progress = Progress::new(P::NAME, log.places(P::STREAMS));
    foresee_all(projection.as_ref(), log, beside).await?;
    // Partitions that meet in one family would else refuse each other's commits, down to batches of one.
    let claims = Claims::new();
    for &stream in P::STREAMS {
        let of_stream = ends.iter().filter(|end| end.stream == stream && end.to > 0).map(Ok::<_, ChartError>);
        stream::iter(of_stream)
            .try_for_each_concurrent(BATCHES_IN_FLIGHT_MAX, |end| {
                let (projection, log, beside, clock) =
                    (Arc::clone(projection), log.clone(), beside.clone(), clock.clone());
                let place = (stream, end.partition);
                let runner = Runner::new(projection, log, beside, clock, place, progress.clone());
                let mut runner = runner
                    .claiming(Arc::clone(&claims))
                    .unindexed()
                    .stepping_over_gaps(damaged == Damaged::PassOver);
                async move { runner.run_until(end.to, count).await }
            })
            .await?;
    }
    for end in &mut ends {
        let applied = port::applied(beside, P::NAME, end.stream, end.partition, epoch).await?;
        (end.to, end.last) = (applied.next, applied.last);
    }
    let unreadable = progress.health().partitions.iter().map(|partition| partition.unreadable).sum();
    Ok((ends, unreadable))
}

/// Collects what is to be mended and commits it in pieces.
struct Mend<'a> {
    live: &'a Tables,
    batch: Batch,
}

impl Mend<'_> {
    async fn flush(&mut self) -> Result<(), ChartError> {
        let mut batch = std::mem::take(&mut self.batch);
        if !batch.writes.is_empty() {
            let (key, body) = (Id::from_bytes([0; 16]), bytes::Bytes::from_static(b"{}"));
            batch.outbox = vec![Outgoing { topic: REREAD_TOPIC, key, body }];
            port::commit(self.live, batch).await?;
        }
        Ok(())
    }

    async fn flush_if_full(&mut self) -> Result<(), ChartError> {
        if self.batch.writes.len() >= REBUILD_WRITES_MAX { self.flush().await } else { Ok(()) }
    }

    fn expect(&mut self, table: &'static Table, key: Vec<Value>, row: Option<&Row>) {
        self.batch.expects.push(Expect { table: table.name, key, t: row.map(|row| row.t) });
    }
}

/// All rows of a table by key, a page at a time.
struct Walk<'a> {
    tables: &'a Tables,
    table: &'static Table,
    page: VecDeque<Row>,
    after: Option<Vec<Value>>,
    ended: bool,
}

impl<'a> Walk<'a> {
    fn new(tables: &'a Tables, table: &'static Table) -> Self {
        Self { tables, table, page: VecDeque::new(), after: None, ended: false }
    }

    /// Makes sure that the next row is there, if there is one.
    async fn fill(&mut self) -> Result<(), ChartError> {
        if !self.page.is_empty() || self.ended {
            return Ok(());
        }
        let scan = Scan {
            after: self.after.take(),
            limit: WALK_PAGE_ROWS,
            ..Scan::by_key(self.table.name, Vec::new())
        };
        self.page = page(self.tables, scan).await?.into();
        self.ended = self.page.len() < WALK_PAGE_ROWS as usize;
        self.after = self.page.back().map(|row| key(self.table, row));
        Ok(())
    }
}

fn key(table: &Table, row: &Row) -> Vec<Value> {
    row.values.iter().take(table.key_len).cloned().collect()
}

/// Walks through two tables at once.
struct Pairs<'a> {
    live: Walk<'a>,
    beside: Walk<'a>,
}

impl Pairs<'_> {
    /// The next key's rows: (live, beside); at least one is there.
    async fn next(&mut self) -> Result<Option<(Option<Row>, Option<Row>)>, ChartError> {
        self.live.fill().await?;
        self.beside.fill().await?;
        let table = self.live.table;
        let order = match (self.live.page.front(), self.beside.page.front()) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(live), Some(beside)) => {
                live.values.get(..table.key_len).cmp(&beside.values.get(..table.key_len))
            }
        };
        let live = order.is_le().then(|| self.live.page.pop_front()).flatten();
        let beside = order.is_ge().then(|| self.beside.page.pop_front()).flatten();
        Ok(Some((live, beside)))
    }
}

fn pairs<'a>(live: &'a Tables, beside: &'a Tables, table: &'static Table) -> Pairs<'a> {
    Pairs { live: Walk::new(live, table), beside: Walk::new(beside, table) }
}

async fn compare_table<P: Projection>(
    table: &'static Table,
    beside: &Tables,
    mend: &mut Mend<'_>,
) -> Result<TableReport, ChartError> {
    let mut report = TableReport { table: table.name, same: 0, added: 0, changed: 0, removed: 0 };
    let not_compared = |column: &str| P::NOT_COMPARED.contains(&(table.name, column));
    let mut pairs = pairs(mend.live, beside, table);
    while let Some((live, beside)) = pairs.next().await? {
        let Some(some) = live.as_ref().or(beside.as_ref()) else { continue };
        let at = key(table, some);
        let Some(beside) = beside else {
            report.removed += 1;
            mend.expect(table, at.clone(), live.as_ref());
            mend.batch.writes.push(Write::Delete { table: table.name, key: at });
            mend.flush_if_full().await?;
            continue;
        };
        let mut differs = false;
        let mut values = beside.values;
        for (place, column) in table.columns.iter().enumerate() {
            let (Some(new), old) =
                (values.get_mut(place), live.as_ref().and_then(|row| row.values.get(place)))
            else {
                continue;
            };
            if not_compared(column.name) {
                if let Some(old) = old {
                    *new = old.clone();
                }
            } else if column.ty == Type::Seq {
                // The other engine's commits mean nothing here.
                if *new != Value::Null {
                    *new = Value::ThisCommit;
                }
            } else {
                differs |= old != Some(new);
            }
        }
        match (&live, differs) {
            (Some(_), false) => {
                report.same += 1;
                continue;
            }
            (Some(_), true) => report.changed += 1,
            (None, _) => report.added += 1,
        }
        mend.expect(table, at, live.as_ref());
        mend.batch.writes.push(Write::Put { table: table.name, values });
        mend.flush_if_full().await?;
    }
    Ok(report)
}

fn owned<P: Projection>(row: Option<Row>) -> Result<Option<(Row, Stored)>, ChartError> {
    let Some(row) = row else { return Ok(None) };
    let stored = Stored::current(&row)?;
    Ok((stored.owner == P::NAME).then_some((row, stored)))
}

async fn compare_resources<P: Projection>(
    projection: &P,
    beside: &Tables,
    clock: &Clock,
    mend: &mut Mend<'_>,
) -> Result<TableReport, ChartError> {
    let mut report = TableReport { table: RESOURCE.name, same: 0, added: 0, changed: 0, removed: 0 };
    let writer = Writer { owner: P::NAME, now: clock.now(), index: Indexing::of(projection) };
    let mut pairs = pairs(mend.live, beside, &RESOURCE);
    while let Some((live, beside)) = pairs.next().await? {
        let foreign = live.is_some();
        let (live, beside) = (owned::<P>(live)?, owned::<P>(beside)?);
        if foreign && live.is_none() {
            continue; // chart-first, or another projection's: left alone
        }
        let body = match &beside {
            Some((_, stored)) if !stored.deleted => Some(stored.text()?),
            _ => None,
        };
        let Some((_, some)) = beside.as_ref().or(live.as_ref()) else { continue };
        let version = Version {
            resource_type: &some.resource_type,
            id: some.id,
            body,
            source: some.source,
            made: None,
        };
        let current = live.as_ref().map(|(row, _)| row);
        let was_there = live.as_ref().is_some_and(|(_, stored)| !stored.deleted);
        let expects = mend.batch.expects.len();
        if writer.write(&version, current, &mut mend.batch)?.is_none() {
            mend.batch.expects.truncate(expects);
            report.same += 1;
            continue;
        }
        match (was_there, body.is_some()) {
            (true, true) => report.changed += 1,
            (true, false) => report.removed += 1,
            (false, _) => report.added += 1,
        }
        mend.flush_if_full().await?;
    }
    Ok(report)
}

async fn compare_registers<P: Projection>(
    beside: &Tables,
    mend: &mut Mend<'_>,
) -> Result<TableReport, ChartError> {
    let mut report = TableReport { table: REGISTER.name, same: 0, added: 0, changed: 0, removed: 0 };
    let mut pairs = pairs(mend.live, beside, &REGISTER);
    while let Some((live, beside)) = pairs.next().await? {
        match (&live, beside) {
            (Some(live), Some(beside)) if live.values == beside.values => report.same += 1,
            (_, Some(beside)) => {
                let count = if live.is_some() { &mut report.changed } else { &mut report.added };
                *count += 1;
                mend.expect(&REGISTER, key(&REGISTER, &beside), live.as_ref());
                mend.batch.writes.push(Write::Put { table: REGISTER.name, values: beside.values });
            }
            (Some(live), None) => {
                let [Value::Text(resource_type), Value::Id(id), ..] = live.values.as_slice() else {
                    continue;
                };
                if owner_of(mend.live, resource_type, *id).await?.as_deref() != Some(P::NAME) {
                    continue;
                }
                report.removed += 1;
                mend.expect(&REGISTER, key(&REGISTER, live), Some(live));
                mend.batch.writes.push(Write::Delete { table: REGISTER.name, key: key(&REGISTER, live) });
            }
            (None, None) => {}
        }
        mend.flush_if_full().await?;
    }
    Ok(report)
}

async fn owner_of(tables: &Tables, resource_type: &str, id: Id) -> Result<Option<String>, ChartError> {
    let read = crate::resources::read_current(resource_type, id);
    let found = port::read(tables, &[read]).await?.pop().unwrap_or_default();
    Ok(found.first().map(Stored::current).transpose()?.map(|stored| stored.owner))
}
