//! A batch in two parts: what a sibling holds waits for its commit, the rest is read and computed meanwhile.
//!
//! Nearly every two batches have somebody in common (a merge ties patients of two partitions): if the later one waited
//! whole, batches would go one after the other. Both parts are committed together, as two batches one behind the other
//! would be: the second part may have read nothing that the first one writes, or the batch is computed anew in one piece.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use hilum_core::{Id, Position};
use hilum_engines::tables::{Expect, Key};

use super::gather::claimed_of;
use super::{Item, Runner, Taken, compute};
use crate::error::ChartError;
use crate::projection::{Changes, Projection, Reads, Rows};

/// What of a batch is computed while the rest waits.
pub(super) struct Part<P: Projection> {
    items: Vec<Item<P::Event>>,
    expects: Vec<Expect>,
    changes: Changes,
    rejected: Vec<(Position, &'static str)>,
}

/// What becomes of a batch of which a sibling holds something.
pub(super) enum HeldUp<P: Projection> {
    /// The part that nobody holds anything of.
    GoesOn(Taken<P>),
    /// It waits until something is given back.
    Waits(Taken<P>),
}

/// What is computed, beside what was computed before.
pub(super) enum Together<P: Projection> {
    /// All of the batch.
    Whole(Taken<P>, Changes, Vec<(Position, &'static str)>),
    /// Its second part is next.
    Next(Taken<P>),
    /// The parts do not go together: all of it, in one piece.
    Again(Taken<P>),
}

impl<P: Projection> Taken<P> {
    /// Takes the events that are its own now.
    fn items(&mut self) -> Vec<Item<P::Event>> {
        let (events, places) = (std::mem::take(&mut self.events), std::mem::take(&mut self.places));
        events.into_iter().zip(places).map(|(event, place)| Item { place, event }).collect()
    }

    fn put(&mut self, items: Vec<Item<P::Event>>) {
        (self.places, self.events) = items.into_iter().map(|item| (item.place, item.event)).unzip();
    }

    /// Makes one piece of the parts, of which nothing is read or computed. Nothing happens to a batch in one piece.
    pub(super) fn join(&mut self) {
        if self.done.is_none() && self.later.is_empty() {
            return;
        }
        let mut items = self.items();
        items.extend(self.done.take().map(|part| part.items).unwrap_or_default());
        items.append(&mut self.later);
        items.sort_unstable_by_key(|item| item.place.position.offset);
        self.put(items);
        (self.claim, self.rows) = (None, Rows::default());
    }
}

impl<P: Projection> Runner<P> {
    /// What to do with a batch that asks for `gets`, of which a sibling holds some.
    pub(super) async fn held_up(
        &self,
        gets: &[(&'static str, Key)],
        mut taken: Taken<P>,
    ) -> Result<HeldUp<P>, ChartError> {
        if taken.done.is_some() {
            let may_wait = taken.claim.as_ref().is_some_and(|claim| claim.may_wait_for(claimed_of(gets)));
            if !may_wait {
                taken.join();
            }
            return Ok(HeldUp::Waits(taken));
        }
        let can_part = taken.events.len() > 1 && taken.fault.is_none() && !taken.is_whole;
        if let (true, Some(claims)) = (can_part, &self.claims) {
            // Its own claims are given back: what is held now is held by siblings.
            taken.claim = None;
            let (projection, claims) = (Arc::clone(&self.projection), Arc::clone(claims));
            let part = move || {
                let wants: Option<Vec<Vec<Id>>> = taken
                    .events
                    .iter()
                    .map(|event| {
                        let mut reads = Reads::default();
                        let one = std::slice::from_ref(event);
                        let asked = AssertUnwindSafe(|| projection.needs(one, &taken.rows, &mut reads));
                        catch_unwind(asked).ok()?;
                        Some(claimed_of(&reads.gets).collect())
                    })
                    .collect();
                let held = claims.held_of(wants.iter().flatten().flatten().copied());
                (taken, wants.map(|wants| held_with(&wants, &held)))
            };
            let is_held;
            (taken, is_held) = compute(part).await?;
            let is_held = is_held.unwrap_or_default();
            if is_held.contains(&true) && is_held.contains(&false) {
                let items = taken.items();
                let mut free = Vec::new();
                for (item, is_held) in items.into_iter().zip(is_held) {
                    if is_held { &mut taken.later } else { &mut free }.push(item);
                }
                taken.put(free);
                taken.rows = Rows::default();
                return Ok(HeldUp::GoesOn(taken));
            }
        }
        // What it holds meanwhile would keep others waiting, and what it read is old by then.
        taken.join();
        (taken.claim, taken.rows) = (None, Rows::default());
        Ok(HeldUp::Waits(taken))
    }

    /// Puts what was computed beside what was computed of the batch before.
    pub(super) fn put_together(
        mut taken: Taken<P>,
        mut changes: Changes,
        mut rejected: Vec<(Position, &'static str)>,
    ) -> Together<P> {
        if !taken.later.is_empty() {
            let later = std::mem::take(&mut taken.later);
            let expects = std::mem::take(&mut taken.expects);
            let items = taken.items();
            taken.put(later);
            taken.done = Some(Box::new(Part { items, expects, changes, rejected }));
            taken.rows = Rows::default();
            return Together::Next(taken);
        }
        let Some(first) = taken.done.take() else { return Together::Whole(taken, changes, rejected) };
        if meet(&first.changes, &taken.expects, &changes) {
            taken.done = Some(first);
            taken.join();
            taken.is_whole = true;
            return Together::Again(taken);
        }
        let Part { items, mut expects, changes: before, rejected: set_aside } = *first;
        let known: HashSet<(&'static str, Key)> =
            expects.iter().map(|expect| (expect.table, expect.key.clone())).collect();
        let new = std::mem::take(&mut taken.expects).into_iter();
        expects.extend(new.filter(|expect| !known.contains(&(expect.table, expect.key.clone()))));
        taken.expects = expects;
        changes.join(before);
        rejected.extend(set_aside);
        let mut all = taken.items();
        all.extend(items);
        all.sort_unstable_by_key(|item| item.place.position.offset);
        taken.put(all);
        Together::Whole(taken, changes, rejected)
    }
}

/// Which events want something that is held, or want something together with one that does: those of one family go
/// together.
fn held_with(wants: &[Vec<Id>], held: &HashSet<Id>) -> Vec<bool> {
    let mut of: HashMap<Id, Vec<usize>> = HashMap::new();
    for (event, ids) in wants.iter().enumerate() {
        for id in ids {
            of.entry(*id).or_default().push(event);
        }
    }
    let mut is_held = vec![false; wants.len()];
    let mut open: Vec<Id> = held.iter().copied().collect();
    while let Some(id) = open.pop() {
        for event in of.remove(&id).unwrap_or_default() {
            if let (Some(is_held), Some(ids)) = (is_held.get_mut(event), wants.get(event))
                && !std::mem::replace(is_held, true)
            {
                open.extend(ids);
            }
        }
    }
    is_held
}

/// Whether the second part rests on what the first one changes, or changes the same.
fn meet(first: &Changes, reads: &[Expect], second: &Changes) -> bool {
    let writes = |table: &'static str, key: &Key| {
        let place = (table, key.clone());
        first.rows.contains_key(&place) || first.registers.contains_key(&place)
    };
    reads.iter().any(|read| writes(read.table, &read.key))
        || second.rows.keys().any(|(table, key)| writes(table, key))
        || second.registers.keys().any(|(table, key)| writes(table, key))
        || second.resources.keys().any(|place| first.resources.contains_key(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_share_anything_with_a_held_one_wait_with_it() {
        let id = |n: u8| Id::from_bytes([n; 16]);
        let wants = [vec![id(1)], vec![id(2), id(3)], vec![id(3), id(4)], vec![], vec![id(4)], vec![id(5)]];
        let held = |ids: &[u8]| held_with(&wants, &ids.iter().map(|n| id(*n)).collect());
        assert_eq!(held(&[2]), [false, true, true, false, true, false]);
        assert_eq!(held(&[1, 9]), [true, false, false, false, false, false]);
        assert_eq!(held(&[]), [false; 6]);
    }
}
