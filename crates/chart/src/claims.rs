//! Which families the batches of one process are at work on.
//!
//! Two batches that touch one family cannot both be committed: the second one would have to be read and applied
//! again. So a runner claims heads and families before it reads them, and waits when a sibling holds one. This saves
//! work and nothing else: what keeps the chart right is that a commit validates what it read, which also holds
//! against other processes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hilum_core::Id;
use tokio::sync::watch;

/// The claims of one process.
#[derive(Debug)]
pub(crate) struct Claims {
    held: Mutex<HashSet<Id>>,
    freed: watch::Sender<()>,
}

impl Claims {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { held: Mutex::default(), freed: watch::Sender::new(()) })
    }

    /// Told when somebody gives claims back.
    pub(crate) fn freed(&self) -> watch::Receiver<()> {
        self.freed.subscribe()
    }

    fn held(&self) -> MutexGuard<'_, HashSet<Id>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one batch holds; dropping it gives that back.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Arc<Claims>,
    mine: HashSet<Id>,
}

impl Claim {
    pub(crate) fn new(claims: &Arc<Claims>) -> Self {
        Self { claims: Arc::clone(claims), mine: HashSet::new() }
    }

    /// Claims `ids` too. False when somebody else holds one: then none of them was added.
    pub(crate) fn add(&mut self, ids: impl IntoIterator<Item = Id>) -> bool {
        let new: HashSet<Id> = ids.into_iter().filter(|id| !self.mine.contains(id)).collect();
        let mut held = self.claims.held();
        if new.iter().any(|id| held.contains(id)) {
            return false;
        }
        held.extend(&new);
        self.mine.extend(new);
        true
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.mine.is_empty() {
            return;
        }
        let mut held = self.claims.held();
        for id in &self.mine {
            held.remove(id);
        }
        drop(held);
        self.claims.freed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_holds_another_gets_when_it_is_given_back() {
        let id = |n: u8| Id::from_bytes([n; 16]);
        let claims = Claims::new();
        let freed = claims.freed();
        let (mut one, mut other) = (Claim::new(&claims), Claim::new(&claims));
        assert!(one.add([id(1), id(2)]));
        assert!(one.add([id(2), id(3)]), "its own");
        assert!(!other.add([id(4), id(3)]), "held");
        assert!(one.add([id(4)]), "what was refused left no trace");
        assert!(!freed.has_changed().unwrap());
        drop(one);
        assert!(freed.has_changed().unwrap());
        assert!(other.add([id(1), id(4)]));
    }
}
