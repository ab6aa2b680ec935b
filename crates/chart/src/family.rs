//! Heads and families: what makes many workers agree on who is who.
//!
//! Every identifier that a message names (each number of a patient, each encounter key) is a *head*. Heads that were
//! ever tied to each other, by standing in one message, by a merge, a link or a move, are a *family*. Whatever is
//! known about them is kept by family: tables whose first key column is `family`. So a chain of merges of any length
//! is one round of reading: head → family, then rows under the family.
//!
//! # The protocol
//! A batch collects what its events tie together ([`Ties`]). Then:
//! 1. It reads the head rows of all heads named ([`Ties::needs`], first round).
//! 2. It reads the `chart_family` row of every family found, and rows under it ([`Families::want`]). Families that
//!    this batch joins or renames are read whole.
//! 3. It writes ([`Families::write`]): absent heads; moved rows; and **the `chart_family` row of every family that
//!    it touches, changed or not, so that the row's `t` moves**.
//! 4. The commit validates all rows that were read by key: heads with their `t` or absent, families with their `t`.
//!
//! Whoever reads or writes a row under a family reads and writes its `chart_family` row, hence:
//!
//! - *Invariant.* Two commits that touch the same family are ordered: the second one read what the first one wrote,
//!   or it conflicts. Ranges under a family need no validation of their own.
//! - Two workers that found a family over a common head at once both expect that head to be absent: one conflicts.
//! - A worker that read a head before, and a family after, a join sees what does not fit together (a head whose
//!   family is gone); it may compute nonsense but cannot commit it, since the head's `t` has moved.
//!
//! # The name of a family
//! is its smallest head, by (rank, id). It is a function of the set of ties, not of who came first: a rebuild ends
//! with the same rows, byte for byte. Ids are keyed hashes, so the expected cost of renaming is that of rewriting the
//! smaller side: when families of a and b rows join, the larger name is on the side of a with chance a/(a+b), so
//! 2ab/(a+b) ≤ 2·min(a,b) rows move on average. An encounter ranks behind every patient's number, so an ordinary
//! new encounter renames nothing. Families only grow: an unmerge changes what is folded from a family, not what is
//! in it.

use std::collections::{BTreeMap, BTreeSet};

use hilum_core::Id;
use hilum_engines::tables::{Column, Index, Key, Row, Scan, Table, Type, Value};

use crate::projection::{Changes, Reads, Rows};

/// Which family a head belongs to.
pub const HEAD: Table = Table {
    name: "chart_head",
    key_len: 1,
    columns: &[
        Column::new("head", Type::Id),
        Column::new("family", Type::Id),
        Column::new("rank", Type::Int), // of the head that names the family
    ],
    indexes: &[Index { name: "by_family", columns: &["family"] }],
    register: None,
};

/// One row per family; whoever touches anything under the family puts it.
pub const FAMILY: Table = Table {
    name: "chart_family",
    key_len: 1,
    columns: &[Column::new("family", Type::Id), Column::new("heads", Type::Int)],
    indexes: &[],
    register: None,
};

/// The tables that a projection with families adds to its own.
pub const TABLES: &[&Table] = &[&HEAD, &FAMILY];

/// What a head stands for. The order is part of the stored form: it decides how families are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// A patient's number.
    Patient = 0,
    /// An encounter's key.
    Encounter = 1,
}

/// An identifier that a message names. The same id always comes with the same rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Head {
    /// What it stands for.
    pub rank: Rank,
    /// Its id, a function of what it names.
    pub id: Id,
}

impl Head {
    /// A patient's number.
    pub const fn patient(id: Id) -> Self {
        Self { rank: Rank::Patient, id }
    }

    /// An encounter's key.
    pub const fn encounter(id: Id) -> Self {
        Self { rank: Rank::Encounter, id }
    }
}

/// What the events of a batch tie together.
#[derive(Debug, Clone, Default)]
pub struct Ties {
    groups: Vec<Vec<Head>>,
}

impl Ties {
    /// Ties the heads that one event names. An event that will be rejected ties nothing: whether it is must not
    /// depend on what was read.
    pub fn tie(&mut self, heads: impl IntoIterator<Item = Head>) {
        let mut group: Vec<Head> = heads.into_iter().collect();
        group.sort_unstable();
        group.dedup();
        if !group.is_empty() {
            self.groups.push(group);
        }
    }

    fn heads(&self) -> BTreeSet<Head> {
        self.groups.iter().flatten().copied().collect()
    }

    /// Names the rows that the protocol needs: heads first; with them families, and all rows (in `tables`) of those
    /// that get another name.
    pub fn needs(&self, tables: &[&'static Table], have: &Rows, reads: &mut Reads) {
        let Some(families) = self.resolve(have) else {
            for head in self.heads() {
                reads.get(HEAD.name, vec![Value::Id(head.id)]);
            }
            return;
        };
        for family in &families.list {
            for &(_, stored) in &family.stored {
                reads.get(FAMILY.name, vec![Value::Id(stored)]);
                if stored != family.name.1 {
                    reads.scan(heads_of(stored));
                    for table in tables {
                        reads.scan(all_under(table, stored, &[]));
                    }
                }
            }
        }
    }

    /// The families as they stand after this batch; `None` until all heads are among the rows read.
    pub fn resolve(&self, have: &Rows) -> Option<Families> {
        let mut nodes = Nodes::default();
        let mut of_head: BTreeMap<Id, Node> = BTreeMap::new();
        for head in self.heads() {
            let key = [Value::Id(head.id)];
            if !have.has_read(HEAD.name, &key) {
                return None;
            }
            let node = match have.get(HEAD.name, &key).and_then(head_row) {
                Some((rank, family)) => Node { rank, id: family, stored: true },
                None => Node { rank: head.rank as i64, id: head.id, stored: false },
            };
            nodes.add(node);
            of_head.insert(head.id, node);
        }
        for group in &self.groups {
            let mut members = group.iter().filter_map(|head| of_head.get(&head.id));
            let Some(&first) = members.next() else { continue };
            for &other in members {
                nodes.join(first, other);
            }
        }
        let mut list: Vec<Family> = Vec::new();
        let mut places: BTreeMap<Node, usize> = BTreeMap::new();
        for node in nodes.all() {
            let place = *places.entry(nodes.root(node)).or_insert_with(|| {
                list.push(Family { name: (node.rank, node.id), stored: Vec::new(), founded: Vec::new() });
                list.len() - 1
            });
            let Some(family) = list.get_mut(place) else { continue };
            // Nodes come in the order of (rank, id): the first one of a family names it.
            if node.stored {
                family.stored.push((node.rank, node.id));
            } else {
                family.founded.push(node.id);
            }
        }
        let of_head = of_head
            .into_iter()
            .filter_map(|(head, node)| places.get(&nodes.root(node)).map(|&place| (head, place)))
            .collect();
        let of_name = list.iter().enumerate().map(|(place, family)| (family.name.1, place)).collect();
        Some(Families { list, of_head, of_name })
    }
}

fn head_row(row: &Row) -> Option<(i64, Id)> {
    match row.values.as_slice() {
        [_, Value::Id(family), Value::Int(rank)] => Some((*rank, *family)),
        _ => None,
    }
}

fn heads_of(family: Id) -> Scan {
    Scan { limit: u32::MAX, ..Scan::by_index(HEAD.name, "by_family", vec![Value::Id(family)]) }
}

fn all_under(table: &'static Table, family: Id, rest: &[Value]) -> Scan {
    Scan { limit: u32::MAX, ..Scan::by_key(table.name, under(family, rest)) }
}

fn under(family: Id, rest: &[Value]) -> Key {
    std::iter::once(Value::Id(family)).chain(rest.iter().cloned()).collect()
}

/// A family that is stored, or a head that is not yet. Ordered as names are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    rank: i64,
    id: Id,
    stored: bool,
}

/// Disjoint sets of nodes.
#[derive(Default)]
struct Nodes {
    parent: BTreeMap<Node, Node>,
}

impl Nodes {
    fn add(&mut self, node: Node) {
        self.parent.entry(node).or_insert(node);
    }

    fn root(&self, mut node: Node) -> Node {
        while let Some(&parent) = self.parent.get(&node).filter(|&&parent| parent != node) {
            node = parent;
        }
        node
    }

    fn join(&mut self, one: Node, other: Node) {
        let (one, other) = (self.root(one), self.root(other));
        self.parent.insert(one.max(other), one.min(other));
    }

    fn all(&self) -> impl Iterator<Item = Node> {
        self.parent.keys().copied()
    }
}

#[derive(Debug, Clone)]
struct Family {
    /// (rank, id) of its smallest head.
    name: (i64, Id),
    /// The stored families that it is made of, under their stored names.
    stored: Vec<(i64, Id)>,
    /// Heads that are not stored yet.
    founded: Vec<Id>,
}

/// The families that a batch touches, as they stand after it.
#[derive(Debug, Clone)]
pub struct Families {
    list: Vec<Family>,
    of_head: BTreeMap<Id, usize>,
    of_name: BTreeMap<Id, usize>,
}

impl Families {
    /// The family of a head that the batch names.
    pub fn of(&self, head: Id) -> Option<Id> {
        self.of_head.get(&head).and_then(|&place| self.list.get(place)).map(|family| family.name.1)
    }

    /// All families that the batch touches, each once.
    pub fn touched(&self) -> impl Iterator<Item = Id> {
        self.list.iter().map(|family| family.name.1)
    }

    fn stored(&self, family: Id) -> impl Iterator<Item = Id> {
        let family = self.of_name.get(&family).and_then(|&place| self.list.get(place));
        family.into_iter().flat_map(|family| family.stored.iter().map(|&(_, id)| id))
    }

    /// Wants all rows of `table` under the family whose next key columns are `rest`. Needs no second round: it asks
    /// under the names that are stored.
    pub fn want(&self, table: &'static Table, family: Id, rest: &[Value], reads: &mut Reads) {
        for stored in self.stored(family) {
            reads.scan(all_under(table, stored, rest));
        }
    }

    /// What [`Families::want`] asked for, with the family's name after this batch; `None` before it was read.
    pub fn rows(
        &self,
        table: &'static Table,
        family: Id,
        rest: &[Value],
        have: &Rows,
    ) -> Option<Vec<Vec<Value>>> {
        let mut out = Vec::new();
        for stored in self.stored(family) {
            out.extend(have.scan(&all_under(table, stored, rest))?.iter().map(|row| renamed(row, family)));
        }
        Some(out)
    }

    /// The same as they are stored, without a copy: their first column may be another name of the family.
    pub fn stored_rows<'h>(
        &self,
        table: &'static Table,
        family: Id,
        rest: &[Value],
        have: &'h Rows,
    ) -> Option<Vec<&'h [Value]>> {
        let mut out = Vec::new();
        for stored in self.stored(family) {
            out.extend(have.scan(&all_under(table, stored, rest))?.iter().map(|row| row.values.as_slice()));
        }
        Some(out)
    }

    /// Wants the one row of `table` whose key is the family and `rest`.
    pub fn want_row(&self, table: &'static Table, family: Id, rest: &[Value], reads: &mut Reads) {
        for stored in self.stored(family) {
            reads.get(table.name, under(stored, rest));
        }
    }

    /// What [`Families::want_row`] asked for, with the family's name after this batch.
    pub fn row(&self, table: &'static Table, family: Id, rest: &[Value], have: &Rows) -> Option<Vec<Value>> {
        let row = self.stored(family).find_map(|stored| have.get(table.name, &under(stored, rest)));
        row.map(|row| renamed(row, family))
    }

    /// Whether what [`Families::want_row`] asked for was read: a row that was not is no absent one.
    pub fn has_read_row(&self, table: &'static Table, family: Id, rest: &[Value], have: &Rows) -> bool {
        self.stored(family).all(|stored| have.has_read(table.name, &under(stored, rest)))
    }

    /// Writes heads, families, and the rows of families that got another name. Comes before the projection's own
    /// puts and deletes, which name families as they stand after the batch; `tables` are those of [`Ties::needs`].
    /// The rest of a key must be unique across families (an id of what the row is about).
    pub fn write(&self, tables: &[&'static Table], have: &Rows, out: &mut Changes) {
        for family in &self.list {
            let (rank, name) = family.name;
            let mut count = family.founded.len() as i64;
            let put_head = |out: &mut Changes, head: Id| {
                out.put(&HEAD, vec![Value::Id(head), Value::Id(name), Value::Int(rank)]);
            };
            for &head in &family.founded {
                put_head(out, head);
            }
            for &(_, stored) in &family.stored {
                let row = have.get(FAMILY.name, &[Value::Id(stored)]);
                count += match row.and_then(|row| row.values.get(1)) {
                    Some(Value::Int(heads)) => *heads,
                    _ => 0, // torn read: the commit will conflict
                };
                if stored == name {
                    continue;
                }
                for row in have.scan(&heads_of(stored)).expect(MOVED) {
                    if let Some(&Value::Id(head)) = row.values.first() {
                        put_head(out, head);
                    }
                }
                for table in tables {
                    for row in have.scan(&all_under(table, stored, &[])).expect(MOVED) {
                        out.delete(table, row.values.iter().take(table.key_len).cloned().collect());
                        out.put(table, renamed(row, name));
                    }
                }
                out.delete(&FAMILY, vec![Value::Id(stored)]);
            }
            out.put(&FAMILY, vec![Value::Id(name), Value::Int(count)]);
        }
    }
}

/// Losing rows in silence would be worse than a panic.
const MOVED: &str = "what moves was read by Ties::needs with the same tables";

fn renamed(row: &Row, family: Id) -> Vec<Value> {
    std::iter::once(Value::Id(family)).chain(row.values.iter().skip(1).cloned()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hilum_core::{Entropy, Seq};

    use super::*;

    /// Facts by family: what a projection would keep.
    const FACT: Table = Table {
        name: "toy_fact",
        key_len: 2,
        columns: &[Column::new("family", Type::Id), Column::new("fact", Type::Int)],
        indexes: &[],
        register: None,
    };

    type Kept = BTreeMap<(&'static str, Key), Vec<Value>>;

    fn row(values: &[Value]) -> Row {
        Row { values: values.to_vec(), t: Seq(1) }
    }

    /// Answers reads from a map, as an engine would.
    fn answer(kept: &Kept, reads: Reads, have: &mut Rows) -> bool {
        let mut added = false;
        for (table, key) in reads.gets {
            if !have.has_read(table, &key) {
                let found = kept.get(&(table, key.clone())).map(|values| row(values));
                have.put_get(table, key, found);
                added = true;
            }
        }
        for scan in reads.scans {
            if have.scan(&scan).is_none() {
                let column = usize::from(scan.index.is_some());
                let of_table = kept.iter().filter(|((table, _), _)| *table == scan.table);
                let found =
                    of_table.filter(|(_, values)| values.get(column..).unwrap().starts_with(&scan.prefix));
                let found = found.map(|(_, values)| row(values)).collect();
                have.put_scan(scan, found);
                added = true;
            }
        }
        added
    }

    fn keep(kept: &mut Kept, changes: Changes) {
        for (key, values) in changes.rows {
            match values {
                Some(values) => kept.insert(key, values),
                None => kept.remove(&key),
            };
        }
    }

    /// One batch: ties, and a fact under the family of each group's first head. Returns the rounds it took.
    fn commit(kept: &mut Kept, groups: &[(Vec<Head>, i64)]) -> usize {
        let mut ties = Ties::default();
        for (group, _) in groups {
            ties.tie(group.iter().copied());
        }
        let mut have = Rows::default();
        let mut rounds = 0;
        loop {
            let mut reads = Reads::default();
            ties.needs(&[&FACT], &have, &mut reads);
            if !answer(kept, reads, &mut have) {
                break;
            }
            rounds += 1;
        }
        let families = ties.resolve(&have).unwrap();
        let mut out = Changes::default();
        families.write(&[&FACT], &have, &mut out);
        for (group, fact) in groups {
            let family = families.of(group.first().unwrap().id).unwrap();
            out.put(&FACT, vec![Value::Id(family), Value::Int(*fact)]);
        }
        keep(kept, out);
        rounds
    }

    /// Connected groups named by their smallest head, computed the slow way.
    fn oracle(groups: &[(Vec<Head>, i64)]) -> Kept {
        let mut sets: Vec<(BTreeSet<Head>, BTreeSet<i64>)> = Vec::new();
        for (group, fact) in groups {
            let mut new = (group.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([*fact]));
            let (touching, rest) = sets.into_iter().partition(|(heads, _)| !heads.is_disjoint(&new.0));
            sets = rest;
            for (heads, facts) in touching {
                new.0.extend(heads);
                new.1.extend(facts);
            }
            sets.push(new);
        }
        let mut kept = Kept::new();
        for (heads, facts) in sets {
            let name = heads.first().unwrap();
            let family = Value::Id(name.id);
            kept.insert(
                (FAMILY.name, vec![family.clone()]),
                vec![family.clone(), Value::Int(heads.len() as i64)],
            );
            for head in &heads {
                let values = vec![Value::Id(head.id), family.clone(), Value::Int(name.rank as i64)];
                kept.insert((HEAD.name, vec![Value::Id(head.id)]), values);
            }
            for fact in facts {
                let values = vec![family.clone(), Value::Int(fact)];
                kept.insert((FACT.name, values.clone()), values);
            }
        }
        kept
    }

    #[test]
    fn any_cut_and_any_order_of_the_same_ties_ends_in_the_same_rows() {
        for seed in 0..60 {
            let random = Entropy::seeded(seed);
            let below = |n: usize| usize::from(random.bytes::<1>()[0]) % n;
            let heads: Vec<Head> = (0..24)
                .map(|n| {
                    let id = Id::from_bytes(random.bytes());
                    if n % 3 == 0 { Head::patient(id) } else { Head::encounter(id) }
                })
                .collect();
            let mut groups: Vec<(Vec<Head>, i64)> = (0..40)
                .map(|fact| ((0..=below(3)).map(|_| heads[below(heads.len())]).collect(), fact))
                .collect();
            let want = oracle(&groups);
            for _ in 0..4 {
                let mut kept = Kept::new();
                let mut rest = groups.as_slice();
                while !rest.is_empty() {
                    let (batch, later) = rest.split_at((1 + below(5)).min(rest.len()));
                    let rounds = commit(&mut kept, batch);
                    assert!(rounds <= 2, "heads, then families and what moves: {rounds} rounds");
                    rest = later;
                }
                assert_eq!(kept, want, "seed {seed}");
                let swap = groups.len();
                for at in 0..swap {
                    groups.swap(at, below(swap));
                }
            }
        }
    }

    #[test]
    fn an_ordinary_encounter_renames_nothing_and_bumps_the_family() {
        let [patient, low, high] = [7, 1, 9].map(|n| Id::from_bytes([n; 16]));
        let mut kept = Kept::new();
        commit(&mut kept, &[(vec![Head::patient(patient), Head::encounter(high)], 1)]);
        commit(&mut kept, &[(vec![Head::patient(patient), Head::encounter(low)], 2)]);
        assert_eq!(
            kept.get(&(FAMILY.name, vec![Value::Id(patient)])),
            Some(&vec![Value::Id(patient), Value::Int(3)])
        );
        // A batch that changes nothing under the family writes its row all the same.
        let mut ties = Ties::default();
        ties.tie([Head::encounter(low)]);
        let (mut have, mut reads) = (Rows::default(), Reads::default());
        ties.needs(&[&FACT], &have, &mut reads);
        answer(&kept, reads, &mut have);
        let mut out = Changes::default();
        ties.resolve(&have).unwrap().write(&[&FACT], &have, &mut out);
        assert!(out.rows.contains_key(&(FAMILY.name, vec![Value::Id(patient)])));
    }

    #[test]
    fn rows_are_found_under_stored_names_and_come_with_the_new_one() {
        let [a, b] = [3, 2].map(|n| Id::from_bytes([n; 16]));
        let mut kept = Kept::new();
        commit(&mut kept, &[(vec![Head::patient(a)], 1), (vec![Head::patient(b)], 2)]);
        let mut ties = Ties::default();
        ties.tie([Head::patient(a), Head::patient(b)]);
        let mut have = Rows::default();
        for _ in 0..2 {
            let mut reads = Reads::default();
            ties.needs(&[&FACT], &have, &mut reads);
            if let Some(families) = ties.resolve(&have) {
                for family in families.touched() {
                    families.want(&FACT, family, &[], &mut reads);
                    families.want_row(&FACT, family, &[Value::Int(1)], &mut reads);
                }
            }
            answer(&kept, reads, &mut have);
        }
        let families = ties.resolve(&have).unwrap();
        assert_eq!((families.of(a), families.of(b)), (Some(b), Some(b)));
        let rows = families.rows(&FACT, b, &[], &have).unwrap();
        assert_eq!(rows, [[Value::Id(b), Value::Int(2)], [Value::Id(b), Value::Int(1)]]);
        assert_eq!(families.row(&FACT, b, &[Value::Int(1)], &have).unwrap()[0], Value::Id(b));
    }
}
