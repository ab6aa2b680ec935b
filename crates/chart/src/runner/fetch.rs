//! From the log into the queue: where the partition stands, what comes next, and what cannot be read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use hilum_core::{Position, failpoint};
use hilum_engines::log::{LogError, ReadMax, Record};

use super::traced::of_header;
use super::{Item, Place, Runner, Stepped, Taken, compute};
use crate::error::ChartError;
use crate::limits::{BATCH_BYTES_MAX, END_ASKED_US};
use crate::projection::{Changes, Projection};
use crate::unreadable::{self, Unread};
use crate::{fits, port};

impl<P: Projection> Runner<P> {
    pub(super) async fn read(&mut self) -> Result<Stepped, ChartError> {
        let next = self.offset().await?;
        if self.queue.is_empty() {
            match self.fetch(next).await {
                Err(ChartError::Log(LogError::Corrupt { position, why })) if position.offset == next => {
                    return self.pass_over(position, why).await;
                }
                Err(ChartError::Log(LogError::Missing { from, to, .. }))
                    if self.steps_over_gaps && from == next =>
                {
                    return self
                        .prepare(Taken::default(), Changes::default(), next, (to, None), Vec::new())
                        .await;
                }
                fetched => fetched?,
            }
            if let Some(Unread { tries, .. }) = self.unreadable.take().filter(|one| one.offset == next) {
                let (stream, partition) = (self.stream, self.partition);
                tracing::info!(%stream, partition, offset = next, tries, "record is read after all");
            }
        }
        let count = self.size.min(self.queue.len());
        if count == 0 {
            return Ok(Stepped::Idle);
        }
        let (mut events, mut places) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for item in self.queue.drain(..count) {
            events.push(item.event);
            places.push(item.place);
        }
        (self.at, self.taken) = (places.first().copied(), self.clock.now());
        self.gather(Taken { events, places, ..Taken::default() }).await
    }

    /// The next offset, from the tables when it is not known.
    async fn offset(&mut self) -> Result<u64, ChartError> {
        if let Some(next) = self.next {
            return Ok(next);
        }
        let epoch = self.log.epoch();
        let next = fits::next_offset::<P>(&self.log, &self.tables, self.stream, self.partition).await?;
        if next == 0 {
            // A partition of which nothing was applied does not know its log: its siblings may.
            for (stream, partition) in self.log.places(P::STREAMS) {
                port::offset(&self.tables, P::NAME, stream, partition, epoch).await?;
            }
        }
        self.progress.update(self.stream, self.partition, |slot| {
            slot.forget_target_behind(next);
            slot.applied = next;
        });
        self.next = Some(next);
        Ok(next)
    }

    /// Reads and decodes records from `next` on into the queue.
    async fn fetch(&mut self, next: u64) -> Result<(), ChartError> {
        let max = ReadMax { records: self.size, bytes: BATCH_BYTES_MAX };
        // Also when there is nothing: a log of many processes then knows who waits for what comes.
        let read = port::records(&self.log, (self.stream, self.partition), next, max).await;
        // Also when it failed: a partition that cannot read on shows how far behind it is.
        self.see_end(next, read.as_ref().map_or(0, Vec::len)).await?;
        let records = read?;
        self.progress.update(self.stream, self.partition, |slot| {
            slot.oldest_unapplied = records.first().map(|record| record.envelope.received);
        });
        if records.is_empty() {
            return Ok(());
        }
        self.projection.prepare(&self.log, &records).await?;
        failpoint::hit("read");
        let projection = Arc::clone(&self.projection);
        let tracer = self.tracer.clone();
        let items: Result<Vec<_>, ChartError> = compute(move || {
            let decode = |record| {
                let record: &Record = record;
                let event = catch_unwind(AssertUnwindSafe(|| projection.decode(record)))
                    .map_err(|_| ChartError::Undecodable(record.position))?;
                let place = Place {
                    position: record.position,
                    received: record.envelope.received,
                    record: record.envelope.id,
                    trace: of_header(&tracer, &record.envelope),
                };
                Ok(Item { place, event })
            };
            records.iter().map(decode).collect()
        })
        .await?;
        self.queue.extend(items?);
        Ok(())
    }

    /// Takes in where the partition ends, of which `read` records were read from `next` on. Whoever gave some is not behind
    /// the offset, so the log is asked now and then only: it may be another machine that answers.
    async fn see_end(&mut self, next: u64, read: usize) -> Result<(), ChartError> {
        let (now, behind) = (self.clock.now(), next + read as u64);
        let is_known =
            self.end_asked.is_some_and(|asked| (0..END_ASKED_US).contains(&now.micros_since(asked)));
        if read > 0 && is_known {
            self.progress.update(self.stream, self.partition, |slot| slot.end = slot.end.max(behind));
            return Ok(());
        }
        let end = port::known_end(&self.log, self.stream, self.partition).await?.unwrap_or(behind);
        if end < next {
            self.progress.update(self.stream, self.partition, |slot| slot.end = end);
            return Err(ChartError::LogBehind { stream: self.stream, partition: self.partition, end, next });
        }
        self.end_asked = Some(now);
        self.progress.update(self.stream, self.partition, |slot| {
            slot.end = end;
            slot.target.get_or_insert(end);
        });
        Ok(())
    }

    /// Gives an error the first times, then makes a batch that moves the offset over the record and says so.
    async fn pass_over(&mut self, position: Position, why: String) -> Result<Stepped, ChartError> {
        let mut unread = Unread::again(self.unreadable, position.offset);
        self.unreadable = Some(unread);
        if unread.is_tried_again() {
            return Err(LogError::Corrupt { position, why }.into());
        }
        let projection = self.projection.as_ref();
        let changes = unreadable::changes(projection, &self.log, &mut unread, position, why).await?;
        self.unreadable = Some(unread);
        let to = (position.offset + 1, None);
        let unread = vec![(position, "log.corrupt")];
        self.prepare(Taken::default(), changes, position.offset, to, unread).await
    }
}
