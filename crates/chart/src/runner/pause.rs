//! One step after the other: when to go on, when to wait, and for what.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::{Runner, Stepped};
use crate::error::{Cause, ChartError};
use crate::limits::{CONFLICT_BACKOFF, IDLE_POLL, PAUSE_BACKOFF, UNREADABLE_RETRY, WAKE_COALESCE};
use crate::progress::Paused;
use crate::projection::Projection;
use crate::unreadable::Unread;

impl<P: Projection> Runner<P> {
    /// Turns until everything before offset `end` is applied, `done` records at a time.
    ///
    /// # Errors
    /// As [`Runner::step`].
    pub async fn run_until(&mut self, end: u64, done: impl Fn(usize)) -> Result<(), ChartError> {
        let mut freed = self.claims.as_ref().map(|claims| claims.freed());
        loop {
            if let Some(freed) = &mut freed {
                freed.borrow_and_update();
            }
            match self.turn().await {
                Ok(Stepped::Committed { records, .. }) => done(records),
                Ok(Stepped::Idle) => return Ok(()),
                Ok(Stepped::Waits) => {
                    if let Some(freed) = &mut freed {
                        freed.changed().await.ok();
                    }
                    // What woke it may be what it gave back itself.
                    tokio::time::sleep(CONFLICT_BACKOFF.0).await;
                }
                Ok(Stepped::Conflict) => tokio::time::sleep(self.conflict_wait()).await,
                Ok(Stepped::Fenced) => tokio::time::sleep(CONFLICT_BACKOFF.1).await,
                Ok(Stepped::Read { .. } | Stepped::Applied | Stepped::Parted | Stepped::Halved) => {}
                Err(error) if error.cause() == Cause::Unreadable && self.is_tried_again() => {
                    tokio::time::sleep(UNREADABLE_RETRY).await;
                }
                Err(error) => return Err(error),
            }
            if self.next.is_some_and(|next| next >= end) {
                return Ok(());
            }
        }
    }

    /// Runs until `stop` says true; a batch that was begun is finished. `in_flight` bounds the batches that
    /// this process holds at once: what is decoded is many times what is in the log.
    pub(super) async fn run(mut self, in_flight: Arc<Semaphore>, mut stop: watch::Receiver<bool>) {
        let mut appended = self.log.appended();
        let mut back = self.tables.went_back();
        // Tables of one process alone never do.
        let mut may_go_back = self.tables.is_shared();
        let mut freed = self.claims.as_ref().map(|claims| claims.freed());
        let mut pause = PAUSE_BACKOFF.0;
        let mut held = None;
        while !*stop.borrow() {
            appended.borrow_and_update();
            if let Some(freed) = &mut freed {
                freed.borrow_and_update();
            }
            if back.has_changed().unwrap_or(false) {
                // The offset went with them, and nothing that was read of them holds.
                back.mark_unchanged();
                self.forget();
            }
            let kept = match held.take() {
                Some(kept) => Ok(kept),
                None => in_flight.acquire().await,
            };
            let Ok(kept) = kept else { return };
            let outcome = self.turn().await;
            // What is decoded is counted for as long as it is kept.
            let keeps = matches!(outcome, Ok(Stepped::Waits | Stepped::Conflict)) || !self.queue.is_empty();
            held = keeps.then_some(kept);
            let wait = match outcome {
                Ok(Stepped::Idle) => {
                    pause = PAUSE_BACKOFF.0;
                    self.stood = None;
                    self.progress.update(self.stream, self.partition, |slot| slot.paused = None);
                    tokio::select! {
                        _ = appended.changed() => WAKE_COALESCE,
                        changed = back.changed(), if may_go_back => {
                            may_go_back = changed.is_ok();
                            self.forget();
                            Duration::ZERO
                        }
                        () = tokio::time::sleep(IDLE_POLL) => Duration::ZERO,
                        _ = stop.changed() => Duration::ZERO,
                    }
                }
                Ok(Stepped::Waits) => {
                    let Some(freed) = &mut freed else { continue };
                    tokio::select! {
                        _ = freed.changed() => {}
                        _ = stop.changed() => {}
                    }
                    // What woke it may be what it gave back itself.
                    CONFLICT_BACKOFF.0
                }
                Ok(Stepped::Conflict) => self.conflict_wait(),
                // Whoever moved the offset is at work on this partition too.
                Ok(Stepped::Fenced) => CONFLICT_BACKOFF.1,
                Ok(_) => {
                    pause = PAUSE_BACKOFF.0;
                    Duration::ZERO
                }
                Err(error) => {
                    let wait = self.pause(&error, &mut pause);
                    if matches!(error, ChartError::Tables(_)) {
                        self.look_how_far().await;
                    }
                    wait
                }
            };
            if !wait.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = stop.changed() => {}
                }
            }
        }
    }

    /// What comes in while the partition stands still waits too: an operator goes by how much that is.
    async fn look_how_far(&self) {
        if let Ok(end) = self.log.end(self.stream, self.partition).await {
            self.progress.update(self.stream, self.partition, |slot| slot.end = slot.end.max(end));
        }
    }

    /// Says why the partition stands still, and gives the wait until it is tried again.
    fn pause(&mut self, error: &ChartError, pause: &mut Duration) -> Duration {
        let paused = Paused { cause: error.cause(), why: error.to_string() };
        self.tell_paused(paused.cause);
        let (cause, why) = (paused.cause, &paused.why);
        let is_known = self.unreadable.is_some_and(|one| one.tries > 1);
        if cause == Cause::Unreadable && is_known {
            tracing::debug!(projection = P::NAME, why, "still not readable");
        } else {
            tracing::error!(
                projection = P::NAME, stream = %self.stream, partition = self.partition, cause = cause.as_str(), why,
                "paused, the offset has not moved"
            );
        }
        self.progress.update(self.stream, self.partition, |slot| slot.paused = Some(paused));
        if cause == Cause::Unreadable {
            return UNREADABLE_RETRY;
        }
        let longer = (*pause * 2).min(PAUSE_BACKOFF.1);
        std::mem::replace(pause, longer)
    }

    /// Doubles with each conflict in a row; partitions wait for different times, so that they part.
    fn conflict_wait(&self) -> Duration {
        let (first, longest) = CONFLICT_BACKOFF;
        let wait = first.saturating_mul(1 << self.conflicts.saturating_sub(1).min(6)).min(longest);
        wait + wait.mul_f64(f64::from(self.partition % 8) / 8.0)
    }

    /// Whether a record that could not be read will be passed over if it is tried again.
    fn is_tried_again(&self) -> bool {
        self.unreadable.is_some_and(Unread::is_tried_again)
    }
}
