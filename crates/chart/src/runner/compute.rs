//! From what was read to the commit: the projection's `apply`, and the batch that says what it wants.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use hilum_core::{Id, Position, RecordId, failpoint};
use hilum_engines::limits::BATCH_WRITES_MAX;
use hilum_engines::tables::{Batch, Expect, OffsetMove, Outgoing, Read, Row, Write};

use super::fault::Fault;
use super::parts::Together;
use super::{Place, Ready, Runner, Stage, Stepped, Taken, compute};
use crate::chart::expectations;
use crate::claims::Claim;
use crate::error::ChartError;
use crate::port;
use crate::projection::{Changes, Projection, Rejected, Rows};
use crate::resources::{self, Indexing, Version, Writer};

impl<P: Projection> Runner<P> {
    pub(super) async fn apply(&mut self, taken: Taken<P>) -> Result<Stepped, ChartError> {
        failpoint::hit("apply");
        let projection = Arc::clone(&self.projection);
        let (taken, outcome) = compute(move || {
            let mut taken = taken;
            let outcome = catch_unwind(AssertUnwindSafe(|| changes_of(projection.as_ref(), &taken)));
            taken.expects = expectations(&taken.rows).collect();
            if taken.events.len() > 1 {
                // Nobody asks for them again: a batch that is refused is read anew. One event's rejection needs them.
                taken.rows = Rows::default();
            }
            (taken, outcome)
        })
        .await?;
        let Ok((changes, rejected)) = outcome else { return self.cut(taken, Fault::Panic) };
        if let Some(table) = changes.unreadable {
            if let ([place], None) = (taken.places.as_slice(), taken.fault) {
                tracing::error!(
                    projection = P::NAME, table, position = %place.position,
                    "a stored row cannot be read and stays as it is: what would change it is set aside until a rebuild"
                );
            }
            return self.cut(taken, Fault::Rows);
        }
        let (taken, changes, rejected) = match Self::put_together(taken, changes, rejected) {
            Together::Whole(taken, changes, rejected) => (taken, changes, rejected),
            Together::Next(taken) => {
                self.stage = Stage::Gather(taken);
                return Ok(Stepped::Parted);
            }
            Together::Again(taken) => {
                self.stage = Stage::Gather(taken);
                return Ok(Stepped::Waits);
            }
        };
        let Some((from, to)) = taken.places.first().zip(taken.places.last()) else {
            return Ok(Stepped::Idle);
        };
        let (from, to) = (from.position.offset, (to.position.offset + 1, Some(to.record)));
        self.prepare(taken, changes, from, to, rejected).await
    }

    /// Makes the commit that moves the offset `from`, `to`, behind a record.
    pub(super) async fn prepare(
        &mut self,
        mut taken: Taken<P>,
        mut changes: Changes,
        from: u64,
        (to, last): (u64, Option<RecordId>),
        rejected: Vec<(Position, &'static str)>,
    ) -> Result<Stepped, ChartError> {
        let outbox = std::mem::take(&mut changes.outbox);
        let mut reads = resource_reads(&changes);
        reads.extend(register_reads(&changes));
        let mut stored = self.stored(&reads).await?;
        if self.claim_registers(&changes, &stored, &mut taken).await {
            stored.truncate(changes.resources.len());
            stored.extend(self.stored(&register_reads(&changes)).await?);
        }
        let index = Indexing::of(self.projection.as_ref()).filter(|_| self.is_indexed);
        let writer = Writer { owner: P::NAME, now: self.clock.now(), index };
        let (taken, changes_batch) = compute(move || {
            let batch = build(&writer, std::mem::take(&mut taken.expects), changes, stored, outbox);
            (taken, batch)
        })
        .await?;
        let mut batch = changes_batch?;
        if batch.writes.len() > BATCH_WRITES_MAX {
            return self.cut(taken, Fault::Writes);
        }
        batch.offset = Some(OffsetMove {
            projection: P::NAME,
            stream: self.stream,
            partition: self.partition,
            epoch: self.log.epoch(),
            from,
            to,
            last,
        });
        self.stage = Stage::Commit(Box::new(Ready { taken, batch, rejected }));
        Ok(Stepped::Applied)
    }

    /// Claims the registers that will get a new version. True when there are some: what is stored may have changed
    /// before they were this batch's. Nothing is claimed behind this, so waiting here cannot be for each other.
    async fn claim_registers(&self, changes: &Changes, stored: &[Option<Row>], taken: &mut Taken<P>) -> bool {
        let Some(claims) = &self.claims else { return false };
        let stored = stored.get(changes.resources.len()..).unwrap_or_default().chunks(2);
        let news = changes.register_resources.values().zip(stored);
        let news: Vec<Id> = news
            .filter(|(register, stored)| match stored {
                [current, stamp] => resources::is_new(register, current.as_ref(), stamp.as_ref()),
                _ => false,
            })
            .map(|(register, _)| register.change.id)
            .collect();
        if news.is_empty() {
            return false;
        }
        let mut freed = claims.freed();
        let claim = taken.claim.get_or_insert_with(|| Claim::new(claims));
        while !claim.add(news.iter().copied()) {
            if freed.changed().await.is_err() {
                break;
            }
        }
        true
    }

    /// The rows that tell whether resources differ, in the order of `reads`.
    async fn stored(&self, reads: &[Read]) -> Result<Vec<Option<Row>>, ChartError> {
        if reads.is_empty() {
            return Ok(Vec::new());
        }
        Ok(port::read(&self.tables, reads).await?.into_iter().map(|mut found| found.pop()).collect())
    }
}

/// What the projection makes of the batch; a rejection for a fault leaves nothing else.
fn changes_of<P: Projection>(projection: &P, taken: &Taken<P>) -> (Changes, Vec<(Position, &'static str)>) {
    let mut changes = Changes::default();
    let rejected = match (taken.fault, taken.places.first()) {
        (Some(fault), Some(&Place { position, .. })) => {
            vec![Rejected { position, rule: fault.rule(), path: None, text: fault.text().to_owned() }]
        }
        _ => projection.apply(&taken.events, &taken.rows, &mut changes),
    };
    for one in &rejected {
        let place = taken.places.iter().position(|place| place.position == one.position);
        let event = place.and_then(|place| taken.events.get(place));
        let event = event.expect("a rejection names an event of its batch");
        let nothing = Rows::default();
        let rows = if taken.is_bare { &nothing } else { &taken.rows };
        projection.reject(event, one, rows, &mut changes);
    }
    (changes, rejected.iter().map(|one| (one.position, one.rule)).collect())
}

/// The reads that tell whether resources differ: current versions.
fn resource_reads(changes: &Changes) -> Vec<Read> {
    changes.resources.keys().map(|&(ty, id)| resources::read_current(ty, id)).collect()
}

/// The reads that tell whether registers differ: current version and stamp, for each.
fn register_reads(changes: &Changes) -> Vec<Read> {
    let reads = |&(ty, id)| [resources::read_current(ty, id), resources::read_stamp(ty, id)];
    changes.register_resources.keys().flat_map(reads).collect()
}

/// Everything of a commit but the offset.
fn build(
    writer: &Writer<'_>,
    expects: Vec<Expect>,
    changes: Changes,
    stored: Vec<Option<Row>>,
    outbox: Vec<Outgoing>,
) -> Result<Batch, ChartError> {
    let mut batch = Batch { expects, outbox, ..Batch::default() };
    batch.writes.extend(changes.rows.into_iter().map(|((table, key), values)| match values {
        Some(values) => Write::Put { table, values },
        None => Write::Delete { table, key },
    }));
    batch.writes.extend(
        changes.registers.into_iter().map(|((table, _), values)| Write::PutIfNewer { table, values }),
    );
    let mut stored = stored.into_iter();
    for change in changes.resources.into_values() {
        let current = stored.next().flatten();
        writer.write(&Version::from(&change), current.as_ref(), &mut batch)?;
    }
    for register in changes.register_resources.into_values() {
        let (current, stamp) = (stored.next().flatten(), stored.next().flatten());
        writer.write_register(&register, current.as_ref(), stamp.as_ref(), &mut batch)?;
    }
    Ok(batch)
}
