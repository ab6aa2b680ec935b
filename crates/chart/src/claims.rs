//! Which families the batches of one process are at work on.
//!
//! Two batches that touch one family cannot both be committed: the second one would have to be read and applied
//! again. So a runner claims heads and families before it reads them, and waits when a sibling holds one. This saves
//! work and nothing else: what keeps the chart right is that a commit validates what it read, which also holds
//! against other processes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hilum_core::Id;
use tokio::sync::watch;

/// The claims of one process.
#[derive(Debug)]
pub struct Claims {
    state: Mutex<State>,
    freed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Who holds what.
    held: HashMap<Id, u64>,
    /// Who waits while it holds something.
    waiting: HashSet<u64>,
    last: u64,
}

impl Claims {
    /// Nobody holds anything.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), freed: watch::Sender::new(()) })
    }

    /// Told when somebody gives claims back.
    pub(crate) fn freed(&self) -> watch::Receiver<()> {
        self.freed.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which of `ids` are held.
    pub(crate) fn held_of(&self, ids: impl IntoIterator<Item = Id>) -> HashSet<Id> {
        let state = self.state();
        ids.into_iter().filter(|id| state.held.contains_key(id)).collect()
    }
}

/// What one batch holds; dropping it gives that back.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Arc<Claims>,
    number: u64,
    mine: HashSet<Id>,
}

impl Claim {
    pub(crate) fn new(claims: &Arc<Claims>) -> Self {
        let mut state = claims.state();
        state.last += 1;
        Self { claims: Arc::clone(claims), number: state.last, mine: HashSet::new() }
    }

    /// Claims `ids` too. False when somebody else holds one: then none of them was added.
    pub(crate) fn add(&mut self, ids: impl IntoIterator<Item = Id>) -> bool {
        let new: HashSet<Id> = ids.into_iter().filter(|id| !self.mine.contains(id)).collect();
        let mut state = self.claims.state();
        if new.iter().any(|id| state.held.contains_key(id)) {
            return false;
        }
        state.waiting.remove(&self.number);
        state.held.extend(new.iter().map(|id| (*id, self.number)));
        self.mine.extend(new);
        true
    }

    /// Whether this may wait for `ids` with what it holds. Not while one of their holders waits itself: nobody waits for
    /// somebody who waits, so nobody waits in a circle.
    pub(crate) fn may_wait_for(&self, ids: impl IntoIterator<Item = Id>) -> bool {
        let mut state = self.claims.state();
        let waits = |holder: &u64| *holder != self.number && state.waiting.contains(holder);
        let may = !ids.into_iter().filter_map(|id| state.held.get(&id)).any(waits);
        if may {
            state.waiting.insert(self.number);
        }
        may
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.claims.state();
        state.waiting.remove(&self.number);
        if self.mine.is_empty() {
            return;
        }
        for id in &self.mine {
            state.held.remove(id);
        }
        drop(state);
        self.claims.freed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(n: u8) -> Id {
        Id::from_bytes([n; 16])
    }

    #[test]
    fn what_one_holds_another_gets_when_it_is_given_back() {
        let claims = Claims::new();
        let freed = claims.freed();
        let (mut one, mut other) = (Claim::new(&claims), Claim::new(&claims));
        assert!(one.add([id(1), id(2)]));
        assert!(one.add([id(2), id(3)]), "its own");
        assert!(!other.add([id(4), id(3)]), "held");
        assert!(one.add([id(4)]), "what was refused left no trace");
        assert_eq!(claims.held_of([id(4), id(5)]), HashSet::from([id(4)]));
        assert!(!freed.has_changed().unwrap());
        drop(one);
        assert!(freed.has_changed().unwrap());
        assert!(other.add([id(1), id(4)]));
    }

    #[test]
    fn nobody_waits_with_what_it_holds_for_somebody_who_waits() {
        let claims = Claims::new();
        let holding = |n| {
            let mut claim = Claim::new(&claims);
            assert!(claim.add([id(n)]));
            claim
        };
        let (mut one, mut two, three) = (holding(1), holding(2), holding(3));
        assert!(one.may_wait_for([id(2)]));
        assert!(one.may_wait_for([id(2)]), "asked again");
        assert!(!two.may_wait_for([id(1)]), "a circle of two");
        assert!(two.may_wait_for([id(3)]), "a chain");
        assert!(!three.may_wait_for([id(1)]), "a circle of three");
        drop(three);
        assert!(two.add([id(3)]), "waits no more");
        assert!(!two.may_wait_for([id(1)]));
        drop(two);
        assert!(one.add([id(2), id(3)]));
    }
}
