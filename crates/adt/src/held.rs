//! The memory that messages hold between socket and disk, counted for all doors together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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

impl Total {
    /// Whether anybody counts in it besides its owner.
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What HTTP bodies hold. Each kind has a bound of its own, so that large bodies that come slowly keep no small message
/// out; none of them holds up the MLLP door.
#[derive(Debug, Clone, Default)]
struct Bodies {
    /// Their beginnings, up to [`limits::HTTP_SMALL_BYTES`] of each.
    small: Total,
    /// What they hold beyond that.
    large: Total,
}

/// What all doors hold.
#[derive(Debug, Default)]
pub struct Memory {
    /// Messages between read and durable.
    in_flight: Total,
    /// HTTP bodies of all keys.
    bodies: Bodies,
    /// Those of each key, by its name: one that sends bodies without an end shuts the door for itself alone. As many as
    /// keys that send at this moment.
    by_key: Mutex<HashMap<Box<str>, Bodies>>,
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

    /// Begins to count an HTTP body that came with the key of this name.
    #[must_use]
    pub fn body(&self, key: &str) -> HeldBody {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        by_key.retain(|name, bodies| **name == *key || bodies.small.is_used());
        let of_key = by_key.entry(key.into()).or_default();
        HeldBody { all: HeldKinds::of(&self.bodies), of_key: HeldKinds::of(of_key) }
    }
}

/// What one HTTP body holds of [`Bodies`].
#[derive(Debug)]
struct HeldKinds {
    small: Held,
    large: Held,
}

impl HeldKinds {
    fn of(bodies: &Bodies) -> Self {
        Self { small: Held::of(&bodies.small), large: Held::of(&bodies.large) }
    }

    fn set(&mut self, bytes: usize, small_max: usize, large_max: usize) -> bool {
        let small = bytes.min(limits::HTTP_SMALL_BYTES);
        let fits = self.small.set(small, small_max);
        self.large.set(bytes - small, large_max) && fits
    }
}

/// Bytes of one HTTP body: every one of them counts, for all bodies and for those of its key.
#[derive(Debug)]
pub struct HeldBody {
    all: HeldKinds,
    of_key: HeldKinds,
}

impl HeldBody {
    /// Counts `bytes` from now on. False when all bodies together, or those of the key, hold more than they may.
    #[must_use]
    pub fn set(&mut self, bytes: usize) -> bool {
        let of_key = self.of_key.set(bytes, limits::HTTP_SMALL_KEY_BYTES_MAX, limits::HTTP_KEY_BYTES_MAX);
        self.all.set(bytes, limits::HTTP_SMALL_BUFFER_BYTES_MAX, limits::HTTP_BUFFER_BYTES_MAX) && of_key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(bodies: &Bodies) -> (usize, usize) {
        (bodies.small.0.load(Ordering::Relaxed), bodies.large.0.load(Ordering::Relaxed))
    }

    #[test]
    fn every_byte_counts_and_is_given_back() {
        let memory = Memory::default();
        let mut bodies: Vec<HeldBody> = Vec::new();
        let most = limits::HTTP_SMALL_BUFFER_BYTES_MAX / limits::HTTP_SMALL_BYTES;
        for n in 0..most {
            let mut body = memory.body(&format!("key {}", n % 8));
            assert!(body.set(1) && body.set(limits::HTTP_SMALL_BYTES));
            bodies.push(body);
        }
        assert_eq!(held(&memory.bodies), (limits::HTTP_SMALL_BUFFER_BYTES_MAX, 0));
        let mut one_more = memory.body("a ninth key");
        assert!(!one_more.set(1), "small bodies have a bound too");
        drop(one_more);
        // Some that are there already grow among the large ones.
        let large = limits::HTTP_SMALL_BYTES + limits::HTTP_KEY_BYTES_MAX;
        assert!(bodies[0].set(large) && bodies[1].set(large));
        assert!(!bodies[2].set(limits::HTTP_SMALL_BYTES + 1));
        bodies.clear();
        assert_eq!(held(&memory.bodies), (0, 0));

        // Large ones leave the small ones their room.
        let (mut slow, mut quick) = (memory.body("a"), memory.body("a"));
        assert!(slow.set(large) && quick.set(limits::HTTP_SMALL_BYTES));
        assert!(quick.set(1), "less always goes");
        let message = memory.message(7);
        assert_eq!(memory.in_flight_bytes(), 7);
        drop(message);
        assert_eq!(memory.in_flight_bytes(), 0);
    }

    #[test]
    fn one_key_fills_its_own_share_alone() {
        let memory = Memory::default();
        let most = limits::HTTP_SMALL_KEY_BYTES_MAX / limits::HTTP_SMALL_BYTES;
        let mut bodies: Vec<HeldBody> = (0..most).map(|_| memory.body("a")).collect();
        assert!(bodies.iter_mut().all(|body| body.set(limits::HTTP_SMALL_BYTES)));
        assert!(!memory.body("a").set(1), "its share is full");
        assert!(memory.body("b").set(1), "the others' is not");
        assert!(bodies[0].set(limits::HTTP_SMALL_BYTES + limits::HTTP_KEY_BYTES_MAX));
        assert!(!bodies[1].set(limits::HTTP_SMALL_BYTES + 1));
        let mut other = memory.body("b");
        assert!(other.set(limits::HTTP_SMALL_BYTES + (32 << 20)), "the largest message as JSON");
        drop((bodies, other));
        assert!(memory.body("a").set(1));
        let by_key = memory.by_key.lock().expect("nobody panicked");
        assert_eq!(by_key.len(), 1, "keys that send nothing are forgotten");
        assert_eq!(held(&memory.bodies), (0, 0));
    }
}
