//! Queries over several tables: random ones, against what their definition says in plain words over all rows.

use std::collections::BTreeSet;

use hilum_core::Entropy;
use hilum_engines::tables::query::{Check, Found, Keep, Probe, Query, Sort, Source, Term, Test};
use hilum_engines::tables::{Row, Scan, Table, TablesError, Type, Value, Write};

use crate::checks::Outcome;
use crate::sample::*;
use crate::subject::Subject;

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+).into());
        }
    };
}

const KINDS: i64 = 3;
const PEOPLE: u64 = 24;
const VALUES: [&str; 6] = ["", "A", "a", "ab", "가", "😀"];

struct Dice(Entropy);

impl Dice {
    fn below(&self, n: u64) -> u64 {
        u64::from_be_bytes(self.0.bytes()) % n
    }

    fn of<T: Clone>(&self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }
}

/// All rows of the two tables.
struct World {
    facts: Vec<Row>,
    refers: Vec<Row>,
}

impl World {
    async fn make(subject: &Subject, dice: &Dice) -> Result<Self, TablesError> {
        let mut all: Vec<Write> = Vec::new();
        let mut keys = BTreeSet::new();
        for n in 0..260 {
            let (kind, who) = (dice.below(KINDS as u64) as i64, id(dice.below(PEOPLE)));
            if n % 3 == 0 {
                let row = vec![Value::Int(kind), who, id(dice.below(PEOPLE))];
                if keys.insert((REFERS.name, row.clone())) {
                    all.push(put(&REFERS, row));
                }
                continue;
            }
            let from = dice.below(9) as i64;
            let to =
                if dice.below(2) == 0 { Value::Null } else { Value::Int(from + 1 + dice.below(5) as i64) };
            let rank = if dice.below(4) == 0 { Value::Null } else { Value::Int(dice.below(5) as i64 - 2) };
            let key = vec![Value::Int(kind), text(dice.of(&VALUES)), who, Value::Int(from)];
            if keys.insert((FACT.name, key.clone())) {
                all.push(put(&FACT, [key, vec![to, rank]].concat()));
            }
        }
        subject.commit(writes(all)).await?;
        let facts = subject.scan(Scan::by_key(FACT.name, vec![])).await?;
        let refers = subject.scan(Scan::by_key(REFERS.name, vec![])).await?;
        Ok(Self { facts, refers })
    }

    fn rows(&self, table: &str) -> (&'static Table, &[Row]) {
        if table == FACT.name { (&FACT, &self.facts) } else { (&REFERS, &self.refers) }
    }

    fn value(&self, probe: &Probe, row: &Row, name: &str) -> Value {
        let (table, _) = self.rows(probe.table);
        row.values[table.column(name).expect("a column")].clone()
    }

    fn probed(&self, probe: &Probe, x: Option<&Value>) -> Vec<Row> {
        let (table, rows) = self.rows(probe.table);
        let index = |name| table.indexes.iter().find(|index| index.name == name).expect("an index");
        let mut names: Vec<&str> = probe.index.map_or(Vec::new(), |name| index(name).columns.to_vec());
        for column in &table.columns[..table.key_len] {
            if !names.contains(&column.name) {
                names.push(column.name);
            }
        }
        let fits = |row: &&Row| {
            let prefix = probe.prefix.iter().zip(&names).all(|(term, name)| {
                let value = self.value(probe, row, name);
                match term {
                    Term::Is(wanted) => value == *wanted,
                    Term::Subject => Some(&value) == x,
                }
            });
            let bounds = match names.get(probe.prefix.len()) {
                Some(name) if probe.from.is_some() || probe.to.is_some() => {
                    let value = self.value(probe, row, name);
                    value != Value::Null
                        && probe.from.as_ref().is_none_or(|from| value >= *from)
                        && probe.to.as_ref().is_none_or(|to| value < *to)
                }
                _ => true,
            };
            let kept = |keep: &Keep| passes(&keep.test, &self.value(probe, row, keep.column));
            prefix && bounds && probe.keep.iter().all(kept)
        };
        rows.iter().filter(fits).cloned().collect()
    }

    fn source(&self, source: &Source) -> BTreeSet<Value> {
        match source {
            Source::These { values, .. } => values.iter().cloned().collect(),
            Source::Walk { probe, subject } => {
                self.probed(probe, None).iter().map(|row| self.value(probe, row, subject)).collect()
            }
            Source::Any(all) => all.iter().flat_map(|one| self.source(one)).collect(),
            Source::Follow { of, probe, subject } => {
                let of = self.source(of);
                let rows = of.iter().flat_map(|x| self.probed(probe, Some(x)));
                rows.map(|row| self.value(probe, &row, subject)).collect()
            }
        }
    }

    fn holds(&self, check: &Check, x: &Value) -> bool {
        match check {
            Check::Is(test) => passes(test, x),
            Check::Has(probe) => !self.probed(probe, Some(x)).is_empty(),
            Check::Each { probe, subject, check } => {
                let rows = self.probed(probe, Some(x));
                rows.iter().any(|row| self.holds(check, &self.value(probe, row, subject)))
            }
            Check::Not(check) => !self.holds(check, x),
            Check::Any(all) => all.iter().any(|check| self.holds(check, x)),
            Check::All(all) => all.iter().all(|check| self.holds(check, x)),
        }
    }

    fn key(&self, sort: &Sort, x: &Value) -> Value {
        let rows = self.probed(&sort.probe, Some(x));
        let values = rows.iter().map(|row| self.value(&sort.probe, row, sort.column));
        let values = values.filter(|value| *value != Value::Null);
        let best = if sort.descending { values.max() } else { values.min() };
        best.unwrap_or(Value::Null)
    }

    /// All that there are, in order, without cursor and limit.
    fn all(&self, query: &Query) -> Vec<Found> {
        let subjects = self.source(&query.from).into_iter();
        let met = subjects.filter(|x| query.checks.iter().all(|check| self.holds(check, x)));
        let keys = |x: &Value| query.sort.iter().map(|sort| self.key(sort, x)).collect();
        let mut found: Vec<Found> = met.map(|subject| Found { keys: keys(&subject), subject }).collect();
        found.sort_by(|a, b| {
            for ((one, other), sort) in a.keys.iter().zip(&b.keys).zip(&query.sort) {
                let order = match (*one == Value::Null, *other == Value::Null) {
                    (false, false) if sort.descending => other.cmp(one),
                    (false, false) => one.cmp(other),
                    (one, other) => one.cmp(&other),
                };
                if order.is_ne() {
                    return order;
                }
            }
            a.subject.cmp(&b.subject)
        });
        found
    }
}

fn passes(test: &Test, value: &Value) -> bool {
    let is = *value != Value::Null;
    match test {
        Test::Is(other) => is && value == other,
        Test::Not(other) => is && value != other,
        Test::AtMost(other) => is && value <= other,
        Test::Above(other) => is && value > other,
        Test::AbsentOrAbove(other) => !is || value > other,
    }
}

fn kind(dice: &Dice) -> Term {
    Term::Is(Value::Int(dice.below(KINDS as u64) as i64))
}

fn visible(dice: &Dice) -> Vec<Keep> {
    let t = Value::Int(dice.below(12) as i64);
    match dice.below(4) {
        0 => vec![],
        1 => vec![Keep { column: "rank", test: Test::Not(Value::Int(0)) }],
        _ => vec![
            Keep { column: "from_t", test: Test::AtMost(t.clone()) },
            Keep { column: "to_t", test: Test::AbsentOrAbove(t) },
        ],
    }
}

/// Facts by value or rank, of anybody.
fn walk(dice: &Dice) -> Probe {
    let probe = match dice.below(4) {
        0 => Probe::by_key(FACT.name, vec![kind(dice), Term::Is(text(dice.of(&VALUES)))]),
        1 => Probe { from: Some(text(dice.of(&VALUES))), ..Probe::by_key(FACT.name, vec![kind(dice)]) },
        2 => Probe { to: Some(Value::Int(1)), ..Probe::by_index(FACT.name, "by_rank", vec![kind(dice)]) },
        _ => Probe::by_index(FACT.name, "by_rank", vec![kind(dice), Term::Is(Value::Null)]),
    };
    Probe { keep: visible(dice), ..probe }
}

/// Facts of one.
fn of_one(dice: &Dice) -> Probe {
    let probe = Probe::by_index(FACT.name, "by_who", vec![kind(dice), Term::Subject]);
    let value = text(dice.of(&VALUES));
    let probe = match dice.below(4) {
        0 => Probe { from: Some(value), ..probe },
        1 => Probe { to: Some(value), ..probe },
        2 => Probe { prefix: [probe.prefix.clone(), vec![Term::Is(value)]].concat(), ..probe },
        _ => probe,
    };
    Probe { keep: visible(dice), ..probe }
}

/// To another: whom one refers to, or who refers to one.
fn step(dice: &Dice) -> (Probe, &'static str) {
    if dice.below(2) == 0 {
        (Probe::by_key(REFERS.name, vec![kind(dice), Term::Subject]), "whom")
    } else {
        (Probe::by_index(REFERS.name, "by_whom", vec![kind(dice), Term::Subject]), "who")
    }
}

fn source(dice: &Dice, depth: u64) -> Source {
    match dice.below(if depth == 0 { 3 } else { 5 }) {
        0 => {
            let values = (0..dice.below(20)).map(|_| id(dice.below(PEOPLE))).collect();
            Source::These { ty: Type::Id, values }
        }
        1 | 2 => Source::Walk { probe: walk(dice), subject: "who" },
        3 => Source::Any((0..=dice.below(3)).map(|_| source(dice, depth - 1)).collect()),
        _ => {
            let (probe, subject) = step(dice);
            Source::Follow { of: Box::new(source(dice, depth - 1)), probe, subject }
        }
    }
}

fn check(dice: &Dice, depth: u64) -> Check {
    match dice.below(if depth == 0 { 3 } else { 8 }) {
        0 if dice.below(2) == 0 => Check::Is(Test::AtMost(id(18))),
        0 => Check::Is(Test::Not(id(dice.below(PEOPLE)))),
        1 | 2 => Check::Has(of_one(dice)),
        3 => Check::Not(Box::new(check(dice, depth - 1))),
        4 => Check::Any((0..dice.below(4)).map(|_| check(dice, depth - 1)).collect()),
        5 => Check::All((0..dice.below(4)).map(|_| check(dice, depth - 1)).collect()),
        _ => {
            let (probe, subject) = step(dice);
            Check::Each { probe, subject, check: Box::new(check(dice, depth - 1)) }
        }
    }
}

fn sort(dice: &Dice) -> Sort {
    let column = dice.of(&["value", "rank", "to_t"]);
    let probe = Probe::by_index(FACT.name, "by_who", vec![kind(dice), Term::Subject]);
    Sort { probe: Probe { keep: visible(dice), ..probe }, column, descending: dice.below(2) == 0 }
}

fn query(dice: &Dice) -> Query {
    Query {
        checks: (0..dice.below(4)).map(|_| check(dice, 3)).collect(),
        sort: (0..dice.below(3)).map(|_| sort(dice)).collect(),
        ..Query::new(source(dice, 3))
    }
}

fn behind(found: &Found) -> Vec<Value> {
    found.keys.iter().cloned().chain([found.subject.clone()]).collect()
}

/// A random query gives what its definition says, in its order; a count is exact up to its bound.
pub async fn queries(subject: &mut Subject) -> Outcome {
    let dice = Dice(Entropy::seeded(5));
    let world = World::make(subject, &dice).await?;
    let (mut matched, mut empty) = (0, 0);
    for n in 0..600 {
        let query = query(&dice);
        let want = world.all(&query);
        let got = subject.query(&query).await?;
        ensure!(got == want, "{n}: {query:?} gives\n{got:?}\nnot\n{want:?}");
        let cap = 1 + dice.below(12);
        let (count, all) = (subject.tables.query_count(&query, cap).await?, want.len() as u64);
        ensure!(count == all.min(cap), "{n}: {query:?} counts {count} up to {cap}, there are {all}");
        if want.is_empty() { empty += 1 } else { matched += 1 }
    }
    ensure!(matched > 200 && empty > 20, "{matched} queries found something, {empty} nothing");
    Ok(())
}

/// A walk page by page gives each subject once, over keys that repeat and that are absent.
pub async fn queries_page_by_page(subject: &mut Subject) -> Outcome {
    let dice = Dice(Entropy::seeded(6));
    let world = World::make(subject, &dice).await?;
    let mut pages = 0;
    for n in 0..60 {
        let mut query = Query { limit: 1 + dice.below(4) as u32, ..query(&dice) };
        let want = world.all(&query);
        let mut got = Vec::new();
        loop {
            let page = subject.query(&query).await?;
            ensure!(page.len() <= query.limit as usize, "{n}: a page of {}", page.len());
            let Some(last) = page.last() else { break };
            query.after = Some(behind(last));
            got.extend(page);
            pages += 1;
            ensure!(got.len() <= want.len(), "{n}: {query:?} walks\n{got:?}\nnot\n{want:?}");
        }
        ensure!(got == want, "{n}: {query:?} walks\n{got:?}\nnot\n{want:?}");
    }
    ensure!(pages > 100, "{pages} pages");
    Ok(())
}

/// What does not fit is refused by name, and no value stands in the error.
pub async fn queries_that_do_not_fit(subject: &mut Subject) -> Outcome {
    let facts = |prefix| Probe::by_key(FACT.name, prefix);
    let from = |probe| Query::new(Source::Walk { probe, subject: "who" });
    let has = |probe| Query { checks: vec![Check::Has(probe)], ..from(facts(vec![])) };
    let walk = |subject| Query::new(Source::Walk { probe: facts(vec![]), subject });
    let one = || Term::Is(Value::Int(1));
    let mut deep = Check::Any(vec![]);
    for _ in 0..40 {
        deep = Check::Not(Box::new(deep));
    }
    let bad = [
        ("no such table", from(Probe::by_key("nowhere", vec![]))),
        ("no such index", from(Probe::by_index(FACT.name, "by_nothing", vec![]))),
        ("another type", from(facts(vec![Term::Is(text("CANARY"))]))),
        ("a subject where there is none", from(facts(vec![one(), Term::Is(text("x")), Term::Subject]))),
        ("a subject of another type", has(facts(vec![Term::Subject]))),
        ("an absent bound", has(Probe { from: Some(Value::Null), ..facts(vec![]) })),
        ("NUL", from(facts(vec![one(), Term::Is(text("CANARY\0"))]))),
        ("no such column", walk("nothing")),
        ("a subject that may be absent", walk("rank")),
        ("any of nothing", Query::new(Source::Any(vec![]))),
        ("a cursor of another shape", Query { after: Some(vec![]), ..from(facts(vec![])) }),
        ("a cursor of another type", Query { after: Some(vec![text("CANARY")]), ..from(facts(vec![])) }),
        ("deep", Query { checks: vec![deep], ..from(facts(vec![])) }),
        ("wide", Query { checks: vec![Check::Any(vec![]); 1_001], ..from(facts(vec![])) }),
    ];
    for (why, query) in bad {
        let answer = subject.query(&query).await;
        ensure!(matches!(answer, Err(TablesError::Shape { .. })), "{why}: {answer:?}");
        let said = answer.map_or_else(|error| error.to_string(), |_| String::new());
        ensure!(!said.contains("CANARY"), "{why}: {said}");
    }
    Ok(())
}
