//! Merges, links and decisions of one family, folded in rule 7's order: who survives whom. A function of the set of ties.

use std::collections::{BTreeMap, BTreeSet};

use hilum_core::Id;
use serde::{Deserialize, Serialize};

use crate::order::Stamp;

/// What ties two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TieKind {
    /// An operator decided who a provisional patient is.
    Identity,
    /// A source or an operator merged two records.
    Merge,
    /// Messages of one encounter named nobody at first, and then somebody: computed from its facts.
    Implied,
    /// A24: see also.
    Link,
    /// A37: no longer see also.
    Unlink,
    /// An operator undid what was merged before.
    Unmerge,
    /// A visit moved from one to the other (A45): the visit's own facts say so; the tie keeps both in one family.
    Move,
}

impl TieKind {
    /// As the row holds it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Merge => "merge",
            Self::Implied => "implied",
            Self::Link => "link",
            Self::Unlink => "unlink",
            Self::Unmerge => "unmerge",
            Self::Move => "move",
        }
    }

    /// From the row.
    pub fn parse(raw: &str) -> Option<Self> {
        [Self::Identity, Self::Merge, Self::Implied, Self::Link, Self::Unlink, Self::Unmerge, Self::Move]
            .into_iter()
            .find(|kind| kind.as_str() == raw)
    }
}

/// One tie. Ordered as rule 7 folds them within a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tie {
    /// Its id: a function of what made it.
    pub id: Id,
    /// What it does.
    pub kind: TieKind,
    /// The number that ends, or one of both of a link.
    pub old: Id,
    /// The number that stays, or the other one.
    pub new: Id,
    /// (EVN-6 else EVN-2, …, message).
    pub moved: Stamp,
    /// When it was said: an unmerge voids what was said before it.
    pub said: Stamp,
    /// The source that said it; `operator` for a decision.
    pub source: String,
}

/// Why a merge was not applied: a work item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Old and new are the same number.
    SelfMerge,
    /// The old number is already merged into another one.
    AlreadyMerged,
    /// The new number is merged into the old one.
    Cycle,
}

/// A family's ties, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survivors {
    /// Merged number → the number that replaces it, and the tie that said so.
    into: BTreeMap<Id, (Id, usize)>,
    /// Pairs that see each other, the lesser id first.
    links: BTreeSet<(Id, Id)>,
    /// Merges that were not applied, by their place in the list that was folded.
    pub refused: Vec<(usize, Refusal)>,
}

impl Survivors {
    /// Folds `ties`, in any order.
    pub fn fold(ties: &[Tie]) -> Self {
        let mut order: Vec<usize> = (0..ties.len()).collect();
        order.sort_by_key(|&at| (ties[at].kind, ties[at].moved, ties[at].said, ties[at].id));
        let mut this = Self::default();
        for at in order {
            let tie = &ties[at];
            match tie.kind {
                TieKind::Identity | TieKind::Merge | TieKind::Implied => this.merge(ties, at),
                TieKind::Link => {
                    let undone = |other: &Tie| {
                        other.kind == TieKind::Unlink && pair(other) == pair(tie) && other.said > tie.said
                    };
                    if tie.old != tie.new && !ties.iter().any(undone) {
                        this.links.insert(pair(tie));
                    }
                }
                TieKind::Unlink | TieKind::Unmerge | TieKind::Move => {}
            }
        }
        this
    }

    fn merge(&mut self, ties: &[Tie], at: usize) {
        let tie = &ties[at];
        let undone = |other: &Tie| {
            other.kind == TieKind::Unmerge
                && other.old == tie.old
                && other.new == tie.new
                && other.said > tie.said
        };
        if ties.iter().any(undone) {
            return;
        }
        let refusal = if tie.old == tie.new {
            Refusal::SelfMerge
        } else if self.into.contains_key(&tie.old) {
            if self.survivor(tie.old) == self.survivor(tie.new) {
                return; // said twice: nothing new
            }
            Refusal::AlreadyMerged
        } else if self.survivor(tie.new) == tie.old {
            Refusal::Cycle
        } else {
            self.into.insert(tie.old, (tie.new, at));
            return;
        };
        if tie.kind != TieKind::Implied {
            self.refused.push((at, refusal));
        }
    }

    /// The record at the end of the chain: `number` itself when it is not merged.
    pub fn survivor(&self, number: Id) -> Id {
        let mut number = number;
        // No cycle is ever inserted, so the chain ends.
        while let Some((next, _)) = self.into.get(&number) {
            number = *next;
        }
        number
    }

    /// The record that replaces `number` directly.
    pub fn merged_into(&self, number: Id) -> Option<Id> {
        self.into.get(&number).map(|(next, _)| *next)
    }

    /// The records that `number` replaces directly, in order of id.
    pub fn replaces(&self, number: Id) -> Vec<Id> {
        self.into.iter().filter(|(_, (next, _))| *next == number).map(|(old, _)| *old).collect()
    }

    /// All records that end in `survivor`, itself first, nearest first, then in order of the merges.
    pub fn members(&self, survivor: Id, ties: &[Tie]) -> Vec<Id> {
        let mut members = vec![survivor];
        let mut at = 0;
        while let Some(number) = members.get(at).copied() {
            let mut next: Vec<(Stamp, Id)> = self
                .into
                .iter()
                .filter(|(_, (next, _))| *next == number)
                .map(|(old, (_, tie))| (ties[*tie].moved, *old))
                .collect();
            next.sort_unstable();
            members.extend(next.into_iter().map(|(_, old)| old));
            at += 1;
        }
        members
    }

    /// The records that `number` sees without being merged, in order of id.
    pub fn see_also(&self, number: Id) -> Vec<Id> {
        let other = |(a, b): &(Id, Id)| match number {
            n if n == *a => Some(*b),
            n if n == *b => Some(*a),
            _ => None,
        };
        let mut seen: Vec<Id> = self.links.iter().filter_map(other).collect();
        seen.sort_unstable();
        seen
    }

    /// The circle that a refused merge would have closed: its numbers, and the places in the list of the merges that
    /// it would have closed it with.
    pub fn circle(&self, refused: &Tie) -> (BTreeSet<Id>, Vec<usize>) {
        let (mut numbers, mut merges) = (BTreeSet::from([refused.old, refused.new]), Vec::new());
        let mut number = refused.new;
        while let Some((next, at)) = self.into.get(&number).filter(|_| number != refused.old) {
            numbers.insert(*next);
            merges.push(*at);
            number = *next;
        }
        (numbers, merges)
    }

    /// The merges that were applied: (place in the list, old, new).
    pub fn applied(&self) -> impl Iterator<Item = (usize, Id, Id)> {
        self.into.iter().map(|(old, (new, at))| (*at, *old, *new))
    }
}

fn pair(tie: &Tie) -> (Id, Id) {
    (tie.old.min(tie.new), tie.old.max(tie.new))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::order::{Instant, Tie as Break};
    use hilum_core::Timestamp;

    fn id(n: u8) -> Id {
        Id::from_bytes([n; 16])
    }

    fn at(minute: i64, n: u8) -> Stamp {
        let at = Timestamp::from_micros(minute * 60_000_000);
        let time = Instant { at, precision: crate::order::Precision::Second };
        Stamp::new(Some(time), Break { sequence: 0, control: 0, rank: 0, message: id(n) })
    }

    fn tie(kind: TieKind, old: u8, new: u8, minute: i64) -> Tie {
        let stamp = at(minute, old * 16 + new);
        Tie {
            id: id(100 + old * 8 + new),
            kind,
            old: id(old),
            new: id(new),
            moved: stamp,
            said: stamp,
            source: String::new(),
        }
    }

    /// Every order of `items`.
    fn orders<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
        if items.is_empty() {
            return vec![Vec::new()];
        }
        (0..items.len())
            .flat_map(|first| {
                let mut rest = items.to_vec();
                let head = rest.remove(first);
                orders(&rest).into_iter().map(move |mut tail| {
                    tail.insert(0, head.clone());
                    tail
                })
            })
            .collect()
    }

    #[test]
    fn any_order_gives_one_answer() {
        use TieKind::{Implied, Link, Merge, Unlink, Unmerge};
        type Case<'a> = (&'a str, &'a [Tie], &'a [(u8, u8)], &'a [Refusal]);
        let cases: &[Case] = &[
            ("one merge", &[tie(Merge, 1, 2, 1)], &[(1, 2), (2, 2)], &[]),
            ("a chain", &[tie(Merge, 1, 2, 1), tie(Merge, 2, 3, 2)], &[(1, 3), (2, 3)], &[]),
            (
                "already merged: the earlier one holds",
                &[tie(Merge, 1, 2, 1), tie(Merge, 1, 3, 2)],
                &[(1, 2), (3, 3)],
                &[Refusal::AlreadyMerged],
            ),
            ("a cycle", &[tie(Merge, 1, 2, 1), tie(Merge, 2, 1, 2)], &[(1, 2), (2, 2)], &[Refusal::Cycle]),
            ("a self merge", &[tie(Merge, 1, 1, 1)], &[(1, 1)], &[Refusal::SelfMerge]),
            ("unmerge gives it back", &[tie(Merge, 1, 2, 1), tie(Unmerge, 1, 2, 5)], &[(1, 1)], &[]),
            (
                "merged again after the unmerge",
                &[tie(Merge, 1, 2, 1), tie(Unmerge, 1, 2, 5), tie(Merge, 1, 2, 7)],
                &[(1, 2)],
                &[],
            ),
            (
                "a source's merge goes before what facts imply",
                &[tie(Implied, 1, 2, 1), tie(Merge, 1, 3, 2)],
                &[(1, 3), (2, 2)],
                &[],
            ),
            ("a link moves nothing", &[tie(Link, 1, 2, 1), tie(Unlink, 3, 2, 2)], &[(1, 1), (2, 2)], &[]),
        ];
        for (why, ties, survivors, refused) in cases {
            for order in orders(ties) {
                let folded = Survivors::fold(&order);
                for (number, survivor) in *survivors {
                    assert_eq!(folded.survivor(id(*number)), id(*survivor), "{why}: {number}");
                }
                let got: Vec<Refusal> = folded.refused.iter().map(|(_, refusal)| *refusal).collect();
                assert_eq!(got, *refused, "{why}");
            }
        }
    }

    #[test]
    fn links_are_undone_by_a_later_unlink_only() {
        let linked = |ties: &[Tie]| Survivors::fold(ties).see_also(id(1));
        assert_eq!(linked(&[tie(TieKind::Link, 1, 2, 1)]), [id(2)]);
        assert_eq!(linked(&[tie(TieKind::Link, 1, 2, 1), tie(TieKind::Unlink, 2, 1, 2)]), []);
        assert_eq!(linked(&[tie(TieKind::Link, 1, 2, 3), tie(TieKind::Unlink, 2, 1, 2)]), [id(2)]);
    }
}
