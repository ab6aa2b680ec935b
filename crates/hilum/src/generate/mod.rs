//! A simulated hospital that speaks HL7 v2: synthetic patients, real grammar. Deterministic by seed.
//!
//! [`Hospital`] lives one event at a time (`demo`), [`stream`] makes a whole day's feed in the order of arrival
//! (`bench`). Both write the same messages: [`message`] has their text.

pub mod hospital;
pub mod message;
pub mod names;
pub mod stream;

use hilum_core::Entropy;

/// A seeded die.
#[derive(Debug)]
pub struct Dice(Entropy);

impl Dice {
    /// A die that rolls the same for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(Entropy::seeded(seed))
    }

    /// A number below `n`, or 0 when `n` is 0.
    pub fn below(&self, n: usize) -> usize {
        let roll = u64::from_le_bytes(self.0.bytes());
        usize::try_from(roll % (n.max(1) as u64)).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&self, low: i64, high: i64) -> i64 {
        let span = usize::try_from(high.saturating_sub(low)).unwrap_or(0).saturating_add(1);
        low.saturating_add(self.below(span) as i64)
    }

    /// True in `per_mille` of 1,000 rolls.
    pub fn chance(&self, per_mille: usize) -> bool {
        self.below(1_000) < per_mille
    }

    /// One of `list`, which is not empty.
    pub fn pick<'a, T>(&self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}
