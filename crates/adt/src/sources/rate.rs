//! Figures that are counted without a lock: messages by second, times to the answer.

use std::sync::atomic::{AtomicU64, Ordering};

use hilum_core::Timestamp;

const SECONDS: usize = 64;
const COUNT_BITS: u32 = 24;

/// Messages by second of the last minute: each slot packs the second (40 bits) and its count (24 bits).
#[derive(Debug)]
pub(super) struct Rate([AtomicU64; SECONDS]);

impl Default for Rate {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

pub(super) fn second_of(at: Timestamp) -> u64 {
    at.as_micros().max(0).unsigned_abs() / 1_000_000
}

impl Rate {
    pub(super) fn count(&self, at: Timestamp) {
        let second = second_of(at);
        let slot = &self.0[second as usize % SECONDS];
        slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |packed| {
            let next = if packed >> COUNT_BITS == second { packed + 1 } else { (second << COUNT_BITS) | 1 };
            // A slot that is full stays full: 16 million messages in one second are not told apart.
            (next >> COUNT_BITS == second).then_some(next)
        })
        .ok();
    }

    pub(super) fn by_second(&self, now: Timestamp) -> Vec<u64> {
        let now = second_of(now);
        let of = |second: u64| {
            let packed = self.0[second as usize % SECONDS].load(Ordering::Relaxed);
            if packed >> COUNT_BITS == second { packed & ((1 << COUNT_BITS) - 1) } else { 0 }
        };
        (0..60).rev().map(|back| of(now.saturating_sub(back))).collect()
    }
}

const STEPS: usize = 4;
const BUCKETS: usize = 40 * STEPS;

/// Times in microseconds, four buckets to the octave: quantiles are right within 19 %.
#[derive(Debug)]
pub(super) struct AckHistogram([AtomicU64; BUCKETS]);

impl Default for AckHistogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl AckHistogram {
    fn bucket(micros: u64) -> usize {
        let micros = micros.max(1);
        let octave = micros.ilog2() as usize;
        let part = if octave >= 2 { (micros >> (octave - 2)) as usize & 3 } else { 0 };
        (octave * STEPS + part).min(BUCKETS - 1)
    }

    fn upper(bucket: usize) -> u64 {
        let (octave, part) = (bucket / STEPS, bucket % STEPS);
        let base = 1_u64 << octave;
        base + base * (part as u64 + 1) / STEPS as u64
    }

    pub(super) fn count(&self, micros: u64) {
        self.0[Self::bucket(micros)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn quantile(&self, share: f64) -> Option<u64> {
        let counts: Vec<u64> = self.0.iter().map(|slot| slot.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        let wanted = ((total as f64) * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Some(Self::upper(bucket));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn the_rate_forgets_after_a_minute() {
        let rate = Rate::default();
        for second in 0..200 {
            rate.count(at(second));
            rate.count(at(second));
        }
        let last_minute = |second| rate.by_second(at(second)).iter().sum::<u64>();
        assert_eq!(last_minute(199), 120);
        assert_eq!(last_minute(229), 60);
        assert_eq!(last_minute(1_000), 0);
    }
}
