//! How far a projection is, for whoever waits, watches or asks whether all is well.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hilum_core::{Position, Stream, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::error::Cause;
use crate::presence::Seen;

/// Why a partition stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// What kind of thing it is.
    pub cause: Cause,
    /// What it says, without patient data.
    pub why: String,
}

/// How one partition does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionHealth {
    /// The stream.
    pub stream: Stream,
    /// The partition.
    pub partition: u16,
    /// Whether this process works at it.
    pub is_here: bool,
    /// The next offset to apply: all before it are applied (or rejected).
    pub applied: u64,
    /// The end of the log as last seen.
    pub end: u64,
    /// When the oldest record that is read but not applied was received; absent when there is none.
    pub oldest_unapplied: Option<Timestamp>,
    /// Why it stands still; absent when all is well.
    pub paused: Option<Paused>,
    /// The end of the log at the start of this process; absent until it was seen.
    pub target: Option<u64>,
    /// Commits since the start.
    pub commits: u64,
    /// Commits that were tried again because another writer was first.
    pub conflicts: u64,
    /// Events rejected since the start.
    pub rejected: u64,
    /// Records passed over since the start because the log could not read them.
    pub unreadable: u64,
}

impl PartitionHealth {
    const fn new(stream: Stream, partition: u16) -> Self {
        Self {
            stream,
            partition,
            is_here: false,
            applied: 0,
            end: 0,
            oldest_unapplied: None,
            paused: None,
            target: None,
            commits: 0,
            conflicts: 0,
            rejected: 0,
            unreadable: 0,
        }
    }

    /// Records in the log that are not applied; absent where the log is not the one that was applied, or is not there:
    /// what was seen of it last says nothing of now.
    pub fn lag_records(&self) -> Option<u64> {
        self.lag_up_to(self.end)
    }

    /// The same, of a partition that is found to end at `end`.
    pub fn lag_up_to(&self, end: u64) -> Option<u64> {
        let is_lost = |one: &Paused| matches!(one.cause, Cause::Gone | Cause::OtherLog);
        if self.paused.as_ref().is_some_and(is_lost) { None } else { end.checked_sub(self.applied) }
    }

    /// Where less is applied than before (the tables went back), it catches up with all that is there now.
    pub(crate) fn forget_target_behind(&mut self, applied: u64) {
        if applied < self.applied {
            self.target = None;
        }
    }

    /// Why it stands still, for people.
    pub fn paused(&self) -> Option<&str> {
        self.paused.as_ref().map(|paused| paused.why.as_str())
    }
}

/// How a projection does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionHealth {
    /// Its name.
    pub projection: &'static str,
    /// By stream and partition.
    pub partitions: Vec<PartitionHealth>,
}

impl ProjectionHealth {
    /// Records in the log that are not applied; absent where that is not known of a partition.
    pub fn lag_records(&self) -> Option<u64> {
        self.partitions.iter().map(PartitionHealth::lag_records).sum()
    }

    /// When the oldest record that is not applied was received.
    pub fn oldest_unapplied(&self) -> Option<Timestamp> {
        self.partitions.iter().filter_map(|partition| partition.oldest_unapplied).min()
    }

    /// Why it stands still, of the first partition that does.
    pub fn paused(&self) -> Option<&str> {
        self.partitions.iter().find_map(PartitionHealth::paused)
    }

    /// Whether everything that was in the log at the start is applied (`/readyz`).
    pub fn caught_up(&self) -> bool {
        self.partitions.iter().all(|one| one.target.is_some_and(|target| one.applied >= target))
    }
}

/// Shared by the runners of one projection and by whoever watches them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    projection: &'static str,
    slots: Mutex<Vec<PartitionHealth>>,
    moved: watch::Sender<u64>,
}

impl Progress {
    /// Of a projection that reads the partitions `places` ([`Log::places`](hilum_engines::log::Log::places)).
    pub fn new(projection: &'static str, places: Vec<(Stream, u16)>) -> Self {
        let slots = places.into_iter().map(|(stream, partition)| PartitionHealth::new(stream, partition));
        Self(Arc::new(Inner { projection, slots: Mutex::new(slots.collect()), moved: watch::Sender::new(0) }))
    }

    /// Takes in the partitions of `places` that there were not yet, and gives them: each behind those of its stream. At the
    /// start of this process nothing stood in them.
    pub(crate) fn add(&self, places: Vec<(Stream, u16)>) -> Vec<(Stream, u16)> {
        let mut slots = self.slots();
        let mut added = Vec::new();
        for (stream, partition) in places {
            if slots.iter().any(|one| (one.stream, one.partition) == (stream, partition)) {
                continue;
            }
            let behind = slots.iter().rposition(|one| one.stream == stream).map_or(slots.len(), |at| at + 1);
            let slot = PartitionHealth { target: Some(0), ..PartitionHealth::new(stream, partition) };
            slots.insert(behind, slot);
            added.push((stream, partition));
        }
        added
    }

    fn slots(&self) -> MutexGuard<'_, Vec<PartitionHealth>> {
        // A slot is plain data: whatever a panicking writer left is still a fair report.
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn update(&self, stream: Stream, partition: u16, change: impl FnOnce(&mut PartitionHealth)) {
        let mut slots = self.slots();
        let Some(slot) = slots.iter_mut().find(|one| one.stream == stream && one.partition == partition)
        else {
            return;
        };
        let before = slot.applied;
        change(slot);
        let moved = slot.applied != before;
        drop(slots);
        if moved {
            self.0.moved.send_modify(|count| *count += 1);
        }
    }

    /// Says at which partitions this process works; gives the others.
    pub(crate) fn set_here(&self, here: &BTreeSet<(Stream, u16)>) -> Vec<(Stream, u16)> {
        let mut slots = self.slots();
        for slot in slots.iter_mut() {
            let is_here = here.contains(&(slot.stream, slot.partition));
            if slot.is_here && !is_here {
                (slot.oldest_unapplied, slot.paused) = (None, None);
            }
            slot.is_here = is_here;
        }
        slots.iter().filter(|slot| !slot.is_here).map(|slot| (slot.stream, slot.partition)).collect()
    }

    /// Takes over what other processes say of the partitions that are theirs. One at which nobody works, and which has
    /// something to apply, stands still: a chart that grows old must not look like a quiet day.
    pub fn hear(&self, seen: &Seen, now: Timestamp) {
        let workers = seen.workers(now);
        for slot in self.slots().iter_mut().filter(|slot| !slot.is_here) {
            if let Some((_, said)) = workers.get(&(slot.stream, slot.partition)) {
                slot.oldest_unapplied = said.oldest_unapplied;
                slot.paused.clone_from(&said.paused);
            } else if slot.paused.as_ref().is_none_or(|paused| paused.cause != Cause::Gone) {
                let why = || Paused { cause: Cause::NoWorker, why: "no process works at it".to_owned() };
                slot.oldest_unapplied = None;
                slot.paused = (slot.lag_records() != Some(0)).then(why);
            }
        }
    }

    /// How it does now.
    pub fn health(&self) -> ProjectionHealth {
        ProjectionHealth { projection: self.0.projection, partitions: self.slots().clone() }
    }

    /// Whether the record at `position` is applied (or rejected). A stream that the projection does not read never
    /// is.
    pub fn applied(&self, position: Position) -> bool {
        self.slots().iter().any(|one| {
            one.stream == position.stream
                && one.partition == position.partition
                && one.applied > position.offset
        })
    }

    /// Waits until the record at `position` is applied, at most `timeout`; whether it is.
    pub async fn wait_applied(&self, position: Position, timeout: Duration) -> bool {
        let mut moved = self.0.moved.subscribe();
        let wait = async {
            while !self.applied(position) {
                if moved.changed().await.is_err() {
                    return;
                }
            }
        };
        // Whether time ran out says less than another look.
        tokio::time::timeout(timeout, wait).await.ok();
        self.applied(position)
    }

    /// Changes whenever a partition moves on: for whoever waits for more than one position.
    pub fn moved(&self) -> watch::Receiver<u64> {
        self.0.moved.subscribe()
    }
}
