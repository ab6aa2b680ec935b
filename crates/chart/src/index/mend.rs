//! Whether all that stands is indexed, and what makes it so. A resource that is not, or is in another form, says so in its
//! row: no other place has to be kept in step with them.

use std::collections::BTreeSet;

use bytes::Bytes;
use hilum_core::{Digest, Id};
use hilum_engines::tables::{Batch, Expect, Outgoing, REREAD_TOPIC, Read, Row, Scan, Tables, Value, Write};
use hilum_fhir::r4::r4;

use super::rows::IndexRow;
use super::tables::TABLES;
use super::{Columns, Indexer, Standing, Unsearch, Unsearched, life, write};
use crate::chart::page;
use crate::error::ChartError;
use crate::limits::{REBUILD_WRITES_MAX, SAMPLE_RESOURCES, WALK_PAGE_ROWS};
use crate::port;
use crate::resources::{RESOURCE, Stored};

/// What each owner lets be found of its resources; of owners that are not named, nothing is.
pub type Owners<'a> = &'a [(&'a str, Unsearch)];

/// Where the index's own columns begin in a row of [`RESOURCE`].
const OF_INDEX: usize = 10;

/// Whether every resource is indexed in the form of `indexer`: before that, a search would not find them all.
///
/// # Errors
/// The engine's.
pub async fn is_whole(tables: &Tables, indexer: &Indexer) -> Result<bool, ChartError> {
    let by_form = |prefix, from, to| {
        Read::Scan(Scan { from, to, limit: 1, ..Scan::by_index(RESOURCE.name, "by_form", prefix) })
    };
    let (form, next) = (Value::Int(indexer.form()), Value::Int(indexer.form().saturating_add(1)));
    let others = [
        by_form(vec![Value::Null], None, None),
        by_form(Vec::new(), Some(Value::Int(0)), Some(form)),
        by_form(Vec::new(), Some(next), None),
    ];
    Ok(port::read(tables, &others).await?.iter().all(Vec::is_empty))
}

/// What a rebuild of the index found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Resources that there are, deleted ones too.
    pub resources: u64,
    /// Of these, those that were not indexed, or not as they should be.
    pub indexed: u64,
    /// Rows that stand for current values.
    pub rows: u64,
    /// Rows that were removed, since it was not known what they stand for.
    pub removed: u64,
}

/// Indexes what is not. Rows of another form, and rows that are not those of the resources, make all of it anew. Nothing else
/// may write meanwhile; breaking off and starting again is safe. `done` hears how many resources were looked at.
///
/// # Errors
/// The engine's; [`ChartError::Stored`].
pub async fn rebuild(
    tables: &Tables,
    indexer: &Indexer,
    owners: Owners<'_>,
    done: &(dyn Fn(u64) + Send + Sync),
) -> Result<Report, ChartError> {
    let mut report = Report::default();
    let ours = Some(Value::Int(indexer.form()));
    let (mut wanted, mut is_foreign) = (Sum::default(), false);
    let mut walk = Walk::default();
    while let Some(rows) = walk.next(tables, RESOURCE.name).await? {
        for row in &rows {
            let form = row.values.get(OF_INDEX + 1);
            is_foreign |= form != ours.as_ref() && form.is_some_and(|form| *form != Value::Null);
            if form == ours.as_ref() {
                let standing = Standing::of(row)?;
                let since = standing.since()?;
                let subject = Value::Int(standing.row.unwrap_or_default());
                for one in rows_of(indexer, owners, row)? {
                    let t = Value::Seq(since(&one));
                    wanted.add(one.table(), &one.values(&subject, t, Value::Null));
                }
            }
            report.resources += 1;
        }
        done(report.resources);
    }
    if is_foreign || wanted != stored(tables).await? {
        report.removed = clear(tables).await?;
    }
    let mut walk = Walk::default();
    let mut mend = Mend { tables, batch: Batch::default() };
    let mut looked_at = 0;
    while let Some(rows) = walk.next(tables, RESOURCE.name).await? {
        for row in &rows {
            let after = rows_of(indexer, owners, row)?;
            report.rows += after.len() as u64;
            looked_at += 1;
            if row.values.get(OF_INDEX + 1) == ours.as_ref() {
                continue;
            }
            report.indexed += 1;
            let standing = Standing::of(row)?.anew();
            let columns = write(indexer.form(), Some(&standing), (BTreeSet::new(), &after), &mut mend.batch)?;
            mend.put(row, columns);
            mend.flush_if(REBUILD_WRITES_MAX).await?;
        }
        done(looked_at);
    }
    mend.flush_if(1).await?;
    Ok(report)
}

fn rows_of(indexer: &Indexer, owners: Owners<'_>, row: &Row) -> Result<BTreeSet<IndexRow>, ChartError> {
    let stored = Stored::current(row)?;
    if stored.deleted {
        return Ok(BTreeSet::new());
    }
    let owner = owners.iter().find(|(name, _)| *name == stored.owner);
    let unsearch = owner.map_or((|_| Unsearched::All) as Unsearch, |(_, unsearch)| *unsearch);
    Ok(indexer.rows(Some(stored.text()?), unsearch).rows)
}

/// What a look at some resources found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Resources that were looked at.
    pub resources: u64,
    /// Rows that should be there.
    pub rows: u64,
    /// Those that are not.
    pub missing: u64,
}

/// Looks whether the rows of some resources are there: of each type [`SAMPLE_RESOURCES`] behind `from`, beside whoever writes.
///
/// # Errors
/// The engine's; [`ChartError::Stored`].
pub async fn sample(
    tables: &Tables,
    indexer: &Indexer,
    owners: Owners<'_>,
    from: Id,
) -> Result<Sample, ChartError> {
    let mut sample = Sample::default();
    for resource_type in r4().resource_types() {
        let prefix = vec![Value::Text(resource_type.to_owned())];
        let scan = Scan {
            from: Some(Value::Id(from)),
            limit: SAMPLE_RESOURCES,
            ..Scan::by_key(RESOURCE.name, prefix)
        };
        for row in page(tables, scan).await? {
            if row.values.get(OF_INDEX + 1) != Some(&Value::Int(indexer.form())) {
                continue;
            }
            let standing = Standing::of(&row)?;
            let (since, subject) = (standing.since()?, Value::Int(standing.row.unwrap_or_default()));
            let mut reads: Vec<Read> = Vec::new();
            for one in rows_of(indexer, owners, &row)? {
                let key = one.key(&subject, Value::Seq(since(&one)));
                reads.push(Read::Get { table: one.table(), key });
            }
            let rows = reads.len();
            let key = row.values.iter().take(RESOURCE.key_len).cloned().collect();
            reads.push(Read::Get { table: RESOURCE.name, key });
            let mut found = port::read(tables, &reads).await?;
            let again = found.pop().unwrap_or_default();
            if again.first().is_none_or(|again| again.t != row.t) {
                continue; // written meanwhile
            }
            sample.resources += 1;
            sample.rows += rows as u64;
            sample.missing += found.iter().filter(|found| found.is_empty()).count() as u64;
        }
    }
    Ok(sample)
}

/// Removes all index rows, after every resource says that its own are not to be trusted.
async fn clear(tables: &Tables) -> Result<u64, ChartError> {
    let mut mend = Mend { tables, batch: Batch::default() };
    mend.batch.writes.push(life::begin());
    let mut walk = Walk::default();
    while let Some(rows) = walk.next(tables, RESOURCE.name).await? {
        for row in &rows {
            let form = row.values.get(OF_INDEX + 1);
            if form.is_some_and(|form| !matches!(form, Value::Null | Value::Int(0))) {
                let number = row.values.get(OF_INDEX).cloned().unwrap_or(Value::Null);
                mend.put(row, [number, Value::Int(0), Value::Null, Value::Null]);
                mend.flush_if(REBUILD_WRITES_MAX).await?;
            }
        }
    }
    mend.flush_if(1).await?;
    let mut removed = 0;
    for table in TABLES {
        let mut walk = Walk::default();
        while let Some(rows) = walk.next(tables, table.name).await? {
            removed += rows.len() as u64;
            let keys = rows.into_iter().map(|row| row.values.into_iter().take(table.key_len).collect());
            mend.batch.writes.extend(keys.map(|key| Write::Delete { table: table.name, key }));
            mend.flush_if(REBUILD_WRITES_MAX).await?;
        }
        mend.flush_if(1).await?;
    }
    Ok(removed)
}

/// All rows of a table by key, a page at a time.
#[derive(Default)]
struct Walk {
    after: Option<Vec<Value>>,
    ended: bool,
}

impl Walk {
    async fn next(&mut self, tables: &Tables, table: &'static str) -> Result<Option<Vec<Row>>, ChartError> {
        if self.ended {
            return Ok(None);
        }
        let scan =
            Scan { after: self.after.take(), limit: WALK_PAGE_ROWS, ..Scan::by_key(table, Vec::new()) };
        let rows = page(tables, scan).await?;
        let key_len = if table == RESOURCE.name {
            RESOURCE.key_len
        } else {
            TABLES.iter().find(|one| one.name == table).map_or(0, |one| one.key_len)
        };
        self.ended = rows.len() < WALK_PAGE_ROWS as usize;
        self.after = rows.last().and_then(|row| row.values.get(..key_len)).map(<[Value]>::to_vec);
        Ok(Some(rows))
    }
}

/// How many rows there are, and what they say, whatever their order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    digests: u128,
}

impl Sum {
    fn add(&mut self, table: &str, values: &[Value]) {
        // What a value looks like to people tells it from all others of its column.
        let digest = Digest::of(format!("{table} {values:?}").as_bytes());
        let half: [u8; 16] = std::array::from_fn(|at| digest.as_bytes().get(at).copied().unwrap_or_default());
        self.rows += 1;
        self.digests = self.digests.wrapping_add(u128::from_be_bytes(half));
    }
}

/// The rows that stand for current values.
async fn stored(tables: &Tables) -> Result<Sum, ChartError> {
    let mut sum = Sum::default();
    for table in TABLES {
        let to_t = table.column("to_t").unwrap_or_default();
        let mut walk = Walk::default();
        while let Some(rows) = walk.next(tables, table.name).await? {
            for row in rows.iter().filter(|row| row.values.get(to_t) == Some(&Value::Null)) {
                sum.add(table.name, &row.values);
            }
        }
    }
    Ok(sum)
}

/// Collects what is to be written and commits it in pieces.
struct Mend<'a> {
    tables: &'a Tables,
    batch: Batch,
}

impl Mend<'_> {
    /// The same resource with other columns of the index.
    fn put(&mut self, row: &Row, columns: Columns) {
        let mut values = row.values.clone();
        values.truncate(OF_INDEX);
        values.extend(columns);
        let key = values.iter().take(RESOURCE.key_len).cloned().collect();
        self.batch.expects.push(Expect { table: RESOURCE.name, key, t: Some(row.t) });
        self.batch.writes.push(Write::Put { table: RESOURCE.name, values });
    }

    async fn flush_if(&mut self, writes: usize) -> Result<(), ChartError> {
        if self.batch.writes.len() < writes {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.batch);
        let (key, body) = (Id::from_bytes([0; 16]), Bytes::from_static(b"{}"));
        batch.outbox = vec![Outgoing { topic: REREAD_TOPIC, key, body }];
        port::commit(self.tables, batch).await?;
        Ok(())
    }
}
