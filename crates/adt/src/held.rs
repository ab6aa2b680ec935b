//! The memory that messages hold between socket and disk, counted for all doors together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits;

/// Bytes of one kind, over everybody who holds some.
#[derive(Debug, Clone, Default)]
struct Total(Arc<AtomicUsize>);

/// Bytes that one message or body holds of them, for as long as it lives.
#[derive(Debug)]
pub struct Held {
    total: Total,
    bytes: usize,
}

impl Held {
    fn of(total: &Total) -> Self {
        Self { total: total.clone(), bytes: 0 }
    }

    /// Counts `bytes` from now on. False when it wants more than before and all together would pass `bytes_max`: it is
    /// counted all the same until it is given up.
    fn set(&mut self, bytes: usize, bytes_max: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let before = self.total.0.fetch_add(more, Ordering::Relaxed);
        self.total.0.fetch_sub(self.bytes.saturating_sub(bytes), Ordering::Relaxed);
        self.bytes = bytes;
        more == 0 || before + more <= bytes_max
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What all doors hold.
#[derive(Debug, Default)]
pub struct Memory {
    /// Messages between read and durable.
    in_flight: Total,
    /// The beginnings of HTTP bodies, up to [`limits::HTTP_SMALL_BYTES`] of each.
    small: Total,
    /// What HTTP bodies hold beyond that. Each kind has a bound of its own, so that large bodies that come slowly keep
    /// no small message out; none of them holds up the MLLP door.
    large: Total,
}

impl Memory {
    /// Bytes between read and durable.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight.0.load(Ordering::Relaxed)
    }

    /// Counts a message of `bytes` among those in flight.
    #[must_use]
    pub fn message(&self, bytes: usize) -> Held {
        let mut held = Held::of(&self.in_flight);
        held.set(bytes, usize::MAX);
        held
    }

    /// Begins to count an HTTP body.
    #[must_use]
    pub fn body(&self) -> HeldBody {
        HeldBody { small: Held::of(&self.small), large: Held::of(&self.large) }
    }
}

/// Bytes of one HTTP body: every one of them counts.
#[derive(Debug)]
pub struct HeldBody {
    small: Held,
    large: Held,
}

impl HeldBody {
    /// Counts `bytes` from now on. False when all bodies together hold more than they may.
    #[must_use]
    pub fn set(&mut self, bytes: usize) -> bool {
        let small = bytes.min(limits::HTTP_SMALL_BYTES);
        let fits = self.small.set(small, limits::HTTP_SMALL_BUFFER_BYTES_MAX);
        self.large.set(bytes - small, limits::HTTP_BUFFER_BYTES_MAX) && fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts_and_is_given_back() {
        let memory = Memory::default();
        let held = || (memory.small.0.load(Ordering::Relaxed), memory.large.0.load(Ordering::Relaxed));
        let mut bodies: Vec<HeldBody> = Vec::new();
        let most = limits::HTTP_SMALL_BUFFER_BYTES_MAX / limits::HTTP_SMALL_BYTES;
        for _ in 0..most {
            let mut body = memory.body();
            assert!(body.set(1) && body.set(limits::HTTP_SMALL_BYTES));
            bodies.push(body);
        }
        assert_eq!(held(), (limits::HTTP_SMALL_BUFFER_BYTES_MAX, 0));
        let mut one_more = memory.body();
        assert!(!one_more.set(1), "small bodies have a bound too");
        drop(one_more);
        // One that is there already grows among the large ones.
        let large = limits::HTTP_SMALL_BYTES + limits::HTTP_BUFFER_BYTES_MAX;
        assert!(bodies[0].set(large));
        assert!(!bodies[1].set(limits::HTTP_SMALL_BYTES + 1));
        bodies.clear();
        assert_eq!(held(), (0, 0));

        // Large ones leave the small ones their room.
        let (mut slow, mut quick) = (memory.body(), memory.body());
        assert!(slow.set(large) && quick.set(limits::HTTP_SMALL_BYTES));
        assert!(quick.set(1), "less always goes");
        let message = memory.message(7);
        assert_eq!(memory.in_flight_bytes(), 7);
        drop(message);
        assert_eq!(memory.in_flight_bytes(), 0);
    }
}
