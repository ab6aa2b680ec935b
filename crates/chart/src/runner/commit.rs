//! The commit, and what its answer means for the batch.

use hilum_engines::tables::TablesError;
use tokio::time::Instant;

use super::fault::Fault;
use super::traced::Done;
use super::{Ready, Runner, Stage, Stepped};
use crate::error::ChartError;
use crate::port;
use crate::projection::{Projection, Rows};

impl<P: Projection> Runner<P> {
    pub(super) async fn commit(&mut self, ready: Ready<P>) -> Result<Stepped, ChartError> {
        let Ready { mut taken, batch, rejected } = ready;
        // None for a record that was passed over: it could not be read.
        let events = taken.events.len();
        let to = batch.offset.as_ref().map(|offset| offset.to);
        let records = events.max(1);
        let (begun, commits) = (Instant::now(), self.clock.now());
        match port::commit(&self.tables, batch).await {
            Ok(t) => {
                metrics::histogram!("hilum_commit_seconds").record(begun.elapsed());
                let (places, rejected) = (taken.places.as_slice(), rejected.as_slice());
                self.tell(&Done { places, rejected, taken: self.taken, commits, t });
                let rejected = rejected.len();
                self.next = to;
                self.at = None;
                self.conflicts = 0;
                self.size = (self.size + self.size.div_ceil(8)).min(self.size_max);
                let oldest = self.queue.front().map(|item| item.place.received);
                self.progress.update(self.stream, self.partition, |slot| {
                    slot.applied = to.unwrap_or(slot.applied);
                    slot.end = slot.end.max(slot.applied);
                    slot.oldest_unapplied = oldest;
                    slot.paused = None;
                    slot.commits += 1;
                    slot.rejected += rejected as u64;
                    slot.unreadable += u64::from(events == 0);
                });
                Ok(Stepped::Committed { t, records, rejected })
            }
            Err(TablesError::Conflict(why)) => {
                tracing::debug!(projection = P::NAME, stream = %self.stream, partition = self.partition, why, "conflict");
                self.conflicts += 1;
                self.progress.update(self.stream, self.partition, |slot| slot.conflicts += 1);
                if events == 0 {
                    return Ok(Stepped::Conflict); // read again, with the tries that were made
                }
                if events > 1 {
                    self.halve(&mut taken);
                }
                (taken.claim, taken.rows) = (None, Rows::default());
                // What looked like poison may have been rows that did not fit together.
                taken.fault = None;
                taken.is_bare = false;
                self.stage = Stage::Gather(taken);
                Ok(Stepped::Conflict)
            }
            Err(TablesError::Fenced { .. }) => {
                self.forget();
                Ok(Stepped::Fenced)
            }
            Err(TablesError::Shape { table, why }) if events > 0 => {
                tracing::warn!(projection = P::NAME, table, why, "a batch does not fit");
                self.cut(taken, Fault::Shape)
            }
            Err(error) => Err(error.into()),
        }
    }
}
