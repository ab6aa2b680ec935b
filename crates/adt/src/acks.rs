//! When each message was answered: kept in memory only, for the journey of a message. What was answered long ago, or
//! before a restart, is forgotten; that it was answered at all follows from the log.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hilum_core::{RecordId, Timestamp};

use crate::limits::ACK_TIMES_MAX;

const SHARDS: usize = 16;

/// Instants of the last [`ACK_TIMES_MAX`] acknowledgments.
#[derive(Debug)]
pub struct AckTimes {
    shards: [Mutex<Shard>; SHARDS],
    each_max: usize,
}

#[derive(Debug, Default)]
struct Shard {
    at: HashMap<RecordId, Timestamp>,
    order: VecDeque<RecordId>,
}

impl Default for AckTimes {
    fn default() -> Self {
        Self::with_capacity(ACK_TIMES_MAX)
    }
}

impl AckTimes {
    /// Remembers about `entries_max` instants.
    pub fn with_capacity(entries_max: usize) -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), each_max: (entries_max / SHARDS).max(1) }
    }

    fn shard(&self, record: RecordId) -> MutexGuard<'_, Shard> {
        let last = record.as_uuid().as_bytes()[15]; // random in a UUIDv7
        // A panic while the lock was held leaves a whole map: there is nothing to repair.
        self.shards[last as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `record` was answered at `at`.
    pub fn put(&self, record: RecordId, at: Timestamp) {
        let mut shard = self.shard(record);
        if shard.at.insert(record, at).is_none() {
            shard.order.push_back(record);
        }
        if shard.order.len() > self.each_max
            && let Some(oldest) = shard.order.pop_front()
        {
            shard.at.remove(&oldest);
        }
    }

    /// When `record` was answered, if that is remembered.
    pub fn get(&self, record: RecordId) -> Option<Timestamp> {
        self.shard(record).at.get(&record).copied()
    }
}

#[cfg(test)]
mod tests {
    use hilum_core::Entropy;

    use super::*;

    #[test]
    fn it_remembers_the_last_and_forgets_the_first() {
        let acks = AckTimes::with_capacity(160);
        let entropy = Entropy::seeded(7);
        let at = |n: i64| Timestamp::from_micros(n * 1_000);
        let records: Vec<_> = (0..2_000).map(|n| entropy.record_id(at(n))).collect();
        for (record, n) in records.iter().zip(0..) {
            acks.put(*record, at(n));
            assert_eq!(acks.get(*record), Some(at(n)));
        }
        let kept = records.iter().filter(|record| acks.get(**record).is_some()).count();
        assert_eq!(kept, 160);
        assert_eq!(acks.get(records[0]), None);
        acks.put(records[1_999], at(9_999));
        assert_eq!(acks.get(records[1_999]), Some(at(9_999)), "answered again");
    }
}
