//! Queries over several tables: random ones, against what their definition says in plain words over all rows.

use std::collections::BTreeSet;

use std::time::Duration;

use hilum_core::{Entropy, Seq};
use hilum_engines::tables::query::{
    Answer, Bounds, Check, Found, Keep, Key, Probe, Query, Sort, Source, Term, Test,
};
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

/// All rows of the two tables, as of a commit.
struct World {
    t: Seq,
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
            let to = if dice.below(2) == 0 { Value::Null } else { seq(from + 1 + dice.below(5) as i64) };
            let rank = if dice.below(4) == 0 { Value::Null } else { Value::Int(dice.below(5) as i64 - 2) };
            let key = vec![Value::Int(kind), text(dice.of(&VALUES)), who, seq(from)];
            if keys.insert((FACT.name, key.clone())) {
                all.push(put(&FACT, [key, vec![to, rank]].concat()));
            }
        }
        // In six commits, so that now lies between what began and what is over.
        let mut t = Seq(0);
        for part in all.chunks(all.len().div_ceil(6)) {
            t = subject.commit(writes(part.to_vec())).await?;
        }
        let facts = subject.scan(Scan::by_key(FACT.name, vec![])).await?;
        let refers = subject.scan(Scan::by_key(REFERS.name, vec![])).await?;
        Ok(Self { t, facts, refers })
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
                    Term::In(wanted) => wanted.contains(&value),
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
            let kept = |keep: &Keep| self.passes(&keep.test, &self.value(probe, row, keep.column));
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

    /// How many rows drive.
    fn rows_of(&self, source: &Source) -> usize {
        match source {
            Source::These { values, .. } => values.len(),
            Source::Walk { probe, .. } => self.probed(probe, None).len(),
            Source::Any(all) => all.iter().map(|one| self.rows_of(one)).sum(),
            Source::Follow { of, probe, .. } => {
                let of = self.source(of);
                of.iter().map(|x| self.probed(probe, Some(x)).len()).sum()
            }
        }
    }

    fn passes(&self, test: &Test, value: &Value) -> bool {
        let is = *value != Value::Null;
        let now = Value::Seq(self.t);
        let meant = |other: &Value| if *other == Value::ThisSnapshot { now.clone() } else { other.clone() };
        match test {
            Test::Is(other) => is && *value == meant(other),
            Test::Not(other) => is && *value != meant(other),
            Test::In(others) => others.contains(value),
            Test::Below(other) => is && *value < meant(other),
            Test::AtLeast(other) => is && *value >= meant(other),
            Test::Contains(Value::Text(part)) => matches!(value, Value::Text(text) if text.contains(part)),
            Test::Contains(_) => false,
            Test::AtMost(other) => is && *value <= meant(other),
            Test::Above(other) => is && *value > meant(other),
            Test::AbsentOrAbove(other) => !is || *value > meant(other),
        }
    }

    fn holds(&self, check: &Check, x: &Value) -> bool {
        match check {
            Check::Is(test) => self.passes(test, x),
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

    fn key(&self, key: &Key, x: &Value, descending: bool) -> Value {
        let values: Vec<Value> = match key {
            Key::Of { probe, column } => {
                self.probed(probe, Some(x)).iter().map(|row| self.value(probe, row, column)).collect()
            }
            Key::Through { probe, subject, key } => {
                let next =
                    self.probed(probe, Some(x)).into_iter().map(|row| self.value(probe, &row, subject));
                next.map(|next| self.key(key, &next, descending)).collect()
            }
            Key::First(all) => {
                let all = all.iter().map(|key| self.key(key, x, descending));
                return all.into_iter().find(|value| *value != Value::Null).unwrap_or(Value::Null);
            }
        };
        let values = values.into_iter().filter(|value| *value != Value::Null);
        let best = if descending { values.max() } else { values.min() };
        best.unwrap_or(Value::Null)
    }

    /// All that there are, in order, without cursor and limit.
    fn all(&self, query: &Query) -> Vec<Found> {
        let subjects = self.source(&query.from).into_iter();
        let met = subjects.filter(|x| query.checks.iter().all(|check| self.holds(check, x)));
        let keys =
            |x: &Value| query.sort.iter().map(|sort| self.key(&sort.key, x, sort.descending)).collect();
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
        if query.reversed {
            found.reverse();
        }
        found
    }
}

fn kind(dice: &Dice) -> Term {
    let one = || Value::Int(dice.below(KINDS as u64) as i64);
    if dice.below(6) == 0 { Term::In((0..dice.below(4)).map(|_| one()).collect()) } else { Term::Is(one()) }
}

fn said(dice: &Dice) -> Term {
    let one = || text(dice.of(&VALUES));
    if dice.below(4) == 0 { Term::In((0..dice.below(5)).map(|_| one()).collect()) } else { Term::Is(one()) }
}

fn visible(dice: &Dice) -> Vec<Keep> {
    let t = if dice.below(3) == 0 { Value::ThisSnapshot } else { seq(dice.below(12) as i64) };
    match dice.below(6) {
        0 => vec![],
        1 => vec![Keep { column: "rank", test: Test::Not(Value::Int(0)) }],
        2 => {
            let rank = |test| Keep { column: "rank", test };
            let said = |test| Keep { column: "value", test };
            let list = Test::In((0..dice.below(3)).map(|n| Value::Int(n as i64)).collect());
            let between = [Test::AtLeast(text("A")), Test::Below(text("ab"))].map(said);
            dice.of(&[
                vec![rank(list)],
                vec![rank(Test::AtLeast(Value::Int(0))), rank(Test::Below(Value::Int(2)))],
                vec![said(Test::Contains(text(dice.of(&["", "a", "b", "가", "%", "_", "\\"]))))],
                between.to_vec(),
            ])
        }
        _ => vec![
            Keep { column: "from_t", test: Test::AtMost(t.clone()) },
            Keep { column: "to_t", test: Test::AbsentOrAbove(t) },
        ],
    }
}

/// Facts by value or rank, of anybody; some of them in the order of whom they are of.
fn walk(dice: &Dice) -> Probe {
    let probe = match dice.below(7) {
        0 | 5 => Probe::by_key(FACT.name, vec![kind(dice), said(dice)]),
        1 => Probe { from: Some(text(dice.of(&VALUES))), ..Probe::by_key(FACT.name, vec![kind(dice)]) },
        2 => Probe { to: Some(Value::Int(1)), ..Probe::by_index(FACT.name, "by_rank", vec![kind(dice)]) },
        3 => Probe::by_index(FACT.name, "by_who", vec![kind(dice)]),
        4 => Probe { from: Some(id(4)), ..Probe::by_index(FACT.name, "by_who", vec![kind(dice)]) },
        _ => Probe::by_index(FACT.name, "by_rank", vec![kind(dice), Term::Is(Value::Null)]),
    };
    Probe { keep: visible(dice), ..probe }
}

/// Facts of one.
fn of_one(dice: &Dice) -> Probe {
    let probe = Probe::by_index(FACT.name, "by_who", vec![kind(dice), Term::Subject]);
    let value = text(dice.of(&VALUES));
    let probe = match dice.below(6) {
        0 => Probe { from: Some(value), ..probe },
        1 => Probe { to: Some(value), ..probe },
        2 => Probe { prefix: [probe.prefix.clone(), vec![said(dice)]].concat(), ..probe },
        3 => Probe::by_key(FACT.name, vec![kind(dice), said(dice), Term::Subject]),
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
        0 if dice.below(2) == 0 => Check::Is(Test::In((0..dice.below(9)).map(|n| id(n * 2)).collect())),
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

fn key(dice: &Dice, column: &'static str, depth: u64) -> Key {
    match dice.below(if depth == 0 { 1 } else { 5 }) {
        0..=2 => {
            let probe = Probe::by_index(FACT.name, "by_who", vec![kind(dice), Term::Subject]);
            Key::Of { probe: Probe { keep: visible(dice), ..probe }, column }
        }
        3 => {
            let (probe, subject) = step(dice);
            Key::Through { probe, subject, key: Box::new(key(dice, column, depth - 1)) }
        }
        _ => Key::First((0..=dice.below(2)).map(|_| key(dice, column, depth - 1)).collect()),
    }
}

fn sort(dice: &Dice) -> Sort {
    let column = dice.of(&["value", "rank", "to_t"]);
    Sort { key: key(dice, column, 2), descending: dice.below(2) == 0 }
}

fn query(dice: &Dice) -> Query {
    Query {
        checks: (0..dice.below(4)).map(|_| check(dice, 3)).collect(),
        reversed: dice.below(3) == 0,
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
        let Answer { t, found: got } = subject.query(&query).await?;
        ensure!(got == want, "{n}: {query:?} gives\n{got:?}\nnot\n{want:?}");
        ensure!(t == world.t, "{n}: {query:?} saw {t}, not {}", world.t);
        let cap = 1 + dice.below(12);
        let (count, all) = (subject.tables.query_count(&query, cap).await?, want.len() as u64);
        ensure!(count == all.min(cap), "{n}: {query:?} counts {count} up to {cap}, there are {all}");
        if want.is_empty() { empty += 1 } else { matched += 1 }
    }
    ensure!(matched > 200 && empty > 20, "{matched} queries found something, {empty} nothing");
    Ok(())
}

/// Counts of several queries at once: exact up to the cap, unless more rows of what drives would have to be looked at; that the
/// cap is reached may be known sooner.
pub async fn counts_of_queries(subject: &mut Subject) -> Outcome {
    let dice = Dice(Entropy::seeded(7));
    let world = World::make(subject, &dice).await?;
    let (mut exact, mut wide, mut soon) = (0, 0, 0);
    for n in 0..150 {
        let queries: Vec<Query> = (0..dice.below(4)).map(|_| query(&dice)).collect();
        let bounds = Bounds { cap: 1 + dice.below(12), rows: Some(dice.below(40)), budget: None };
        let counted = subject.query_counts(&queries, bounds).await?;
        ensure!(counted.len() == queries.len(), "{n}: {} counts of {} queries", counted.len(), queries.len());
        for (query, counted) in queries.iter().zip(counted) {
            let (want, rows) = (world.all(query).len() as u64, world.rows_of(&query.from) as u64);
            let (is_narrow, is_capped) = (rows <= bounds.rows.unwrap_or(0), counted == Some(bounds.cap));
            let is_right = match counted {
                Some(counted) => counted == want.min(bounds.cap) && (is_narrow || is_capped),
                None => !is_narrow,
            };
            ensure!(is_right, "{n}: {query:?} counts {counted:?} in {bounds:?}, not {want} of {rows}");
            soon += usize::from(!is_narrow && is_capped);
            if is_narrow { exact += 1 } else { wide += 1 }
        }
    }
    ensure!(
        exact > 50 && wide > 50 && soon > 5,
        "{exact} counted, {wide} too wide, {soon} of them up to the cap"
    );
    Ok(())
}

/// A walk page by page gives each subject once, over keys that repeat and that are absent, and back again.
pub async fn queries_page_by_page(subject: &mut Subject) -> Outcome {
    let dice = Dice(Entropy::seeded(6));
    let world = World::make(subject, &dice).await?;
    let mut pages = 0;
    for n in 0..60 {
        let mut query = Query { limit: 1 + dice.below(4) as u32, ..query(&dice) };
        let want = world.all(&query);
        let mut got = Vec::new();
        loop {
            let page = subject.query(&query).await?.found;
            ensure!(page.len() <= query.limit as usize, "{n}: a page of {}", page.len());
            let Some(last) = page.last() else { break };
            query.after = Some(behind(last));
            got.extend(page);
            pages += 1;
            ensure!(got.len() <= want.len(), "{n}: {query:?} walks\n{got:?}\nnot\n{want:?}");
        }
        ensure!(got == want, "{n}: {query:?} walks\n{got:?}\nnot\n{want:?}");
        // What stands before the last is what stands behind it, seen from the other end.
        let Some((last, before)) = want.split_last() else { continue };
        query = Query { reversed: !query.reversed, after: Some(behind(last)), limit: 3, ..query };
        let back = subject.query(&query).await?.found;
        let want: Vec<Found> = before.iter().rev().take(3).cloned().collect();
        ensure!(back == want, "{n}: {query:?} goes back to\n{back:?}\nnot\n{want:?}");
    }
    ensure!(pages > 100, "{pages} pages");
    Ok(())
}

/// Thousands of values are one part: sought where they drive and where they are asked for first, else looked at.
pub async fn queries_of_thousands_of_values(subject: &mut Subject) -> Outcome {
    let value = |n: u64| text(&format!("v{n:05}"));
    let row = |n: u64| vec![Value::Int(1), value(n), id(n), seq(0), Value::Null, Value::Int(n as i64 % 7)];
    subject.commit(writes((0..4_000).map(|n| put(&FACT, row(n))).collect())).await?;
    let one = || Term::Is(Value::Int(1));
    let odd = || Term::In((0..3_000).map(|n| value(n * 2 + 1)).collect());
    let walk = |prefix| Source::Walk { probe: Probe::by_key(FACT.name, prefix), subject: "who" };
    let by_who = |prefix| Check::Has(Probe::by_index(FACT.name, "by_who", prefix));
    let fourth = Check::Is(Test::In((0..1_000).map(|n| id(n * 4 + 1)).collect()));
    let queries = [
        ("driving", walk(vec![one(), odd()]), vec![], 2_000),
        ("as subjects", walk(vec![one()]), vec![fourth.clone()], 1_000),
        (
            "sought",
            walk(vec![one(), odd()]),
            vec![fourth.clone(), Check::Has(Probe::by_key(FACT.name, vec![one(), odd(), Term::Subject]))],
            1_000,
        ),
        ("looked at", walk(vec![one()]), vec![by_who(vec![one(), Term::Subject, odd()])], 2_000),
    ];
    let kinds = Term::In((0..16).map(Value::Int).collect());
    let ranks = Keep { column: "rank", test: Test::In((0..3_000).map(Value::Int).collect()) };
    let kept = Probe { keep: vec![ranks], ..Probe::by_index(FACT.name, "by_who", vec![kinds]) };
    let kept = ("looked at in many walks", Source::Walk { probe: kept, subject: "who" }, vec![], 4_000);
    for (why, from, checks, want) in queries.into_iter().chain([kept]) {
        let query = Query { checks, ..Query::new(from) };
        ensure!(query.size().parts < 8 && query.size().values >= 1_000, "{why}: {:?}", query.size());
        let got = subject.query(&query).await?.found.len();
        ensure!(got == want, "{why}: {got} found, not {want}");
    }
    Ok(())
}

/// Rows, a query that finds all 40 of them, and one that would take years.
pub fn a_costly_one() -> (Vec<Write>, Query, Query) {
    // Everybody refers to everybody: a chain of seven steps is 40^7 rows.
    let all = (0..40).flat_map(|who| (0..40).map(move |whom| vec![Value::Int(9), id(who), id(whom)]));
    let nine = || Term::Is(Value::Int(9));
    let mut never = Check::Is(Test::Is(id(99)));
    for _ in 0..7 {
        let probe = Probe::by_key(REFERS.name, vec![nine(), Term::Subject]);
        never = Check::Each { probe, subject: "whom", check: Box::new(never) };
    }
    let walk = Source::Walk { probe: Probe::by_key(REFERS.name, vec![nine()]), subject: "who" };
    let cheap = Query::new(walk);
    let costly = Query { checks: vec![never], ..cheap.clone() };
    (all.map(|row| put(&REFERS, row)).collect(), cheap, costly)
}

/// A query that would take years ends at its budget, and one that nobody waits for ends at once: readers are free again.
pub async fn queries_that_cost_too_much(subject: &mut Subject) -> Outcome {
    let (rows, cheap, costly) = a_costly_one();
    subject.commit(writes(rows)).await?;
    let budget = Some(Duration::from_millis(200));

    let answer = subject.query(&Query { budget, ..costly.clone() }).await;
    ensure!(matches!(answer, Err(TablesError::TooCostly)), "{answer:?}");
    let queries = [cheap.clone(), costly.clone(), cheap.clone()];
    let bounds = Bounds { cap: 100, rows: Some(10_000), budget };
    let counted = subject.query_counts(&queries, bounds).await?;
    ensure!(counted.len() == 3 && counted.get(1) == Some(&None), "{counted:?}");

    let (plan, none) = (subject.tables.explain_query(&cheap), Query { budget, ..costly.clone() });
    let (plan, none) = (plan.await?, subject.tables.explain_query(&none).await);
    ensure!(plan.lines().count() > 1 && plan.contains("40"), "{plan}");
    ensure!(matches!(none, Err(TablesError::TooCostly)), "{none:?}");

    // More of them than there are connections to read with.
    for n in 0..8 {
        let dropped = tokio::time::timeout(Duration::from_millis(30), subject.query(&costly)).await;
        ensure!(dropped.is_err(), "{n}: {dropped:?}");
    }
    let answer = tokio::time::timeout(Duration::from_secs(10), subject.query(&cheap)).await;
    ensure!(
        matches!(&answer, Ok(Ok(answer)) if answer.found.len() == 40),
        "after the dropped ones: {answer:?}"
    );
    Ok(())
}

/// While others commit, what a query says that it saw is what it saw: all that was there then, nothing that came later.
pub async fn queries_say_what_they_saw(subject: &mut Subject) -> Outcome {
    let row = |n| vec![Value::Int(7), text("x"), id(n), Value::ThisCommit, Value::Null, Value::Null];
    let before = subject.commit(writes(vec![put(&FACT, row(0))])).await?;
    let tables = subject.tables.clone();
    let writing = tokio::spawn(async move {
        for n in 1..=60 {
            tables.commit(writes(vec![put(&FACT, row(n))])).await?;
        }
        Ok::<_, TablesError>(())
    });
    let keep = vec![Keep { column: "from_t", test: Test::AtMost(Value::ThisSnapshot) }];
    let said = Term::Is(text("x"));
    let probe = Probe { keep, ..Probe::by_key(FACT.name, vec![Term::Is(Value::Int(7)), said]) };
    let query = Query::new(Source::Walk { probe, subject: "who" });
    let mut seen = 0;
    while seen < 61 {
        let Answer { t, found } = subject.query(&query).await?;
        ensure!(t.0 - before.0 + 1 == found.len() as i64, "{} found as of {t}, behind {before}", found.len());
        seen = found.len();
    }
    writing.await.expect("no panic")?;
    Ok(())
}

/// A row whose subject is absent leads nowhere, wherever it stands.
pub async fn queries_through_absent_subjects(subject: &mut Subject) -> Outcome {
    let row = |n: i64, link: Value| put(&PAIR, vec![text("g"), Value::Int(n), text("x"), link]);
    let rows = vec![row(1, id(1)), row(2, Value::Null), row(3, id(1)), row(4, id(2))];
    subject.commit(writes(rows)).await?;
    let all = || Probe::by_key(PAIR.name, vec![Term::Is(text("g"))]);
    let walk = |probe| Source::Walk { probe, subject: "link" };
    let these = || Source::These { ty: Type::Id, values: vec![id(7)] };
    let each = |check| vec![Check::Each { probe: all(), subject: "link", check: Box::new(check) }];
    let is = |n| Check::Is(Test::Is(id(n)));
    let not = |check| Check::Not(Box::new(check));
    let queries = [
        ("walked", Query::new(walk(all())), 2),
        ("walked in its order", Query::new(walk(Probe::by_index(PAIR.name, "by_link", vec![]))), 2),
        ("followed", Query::new(Source::Follow { of: Box::new(these()), probe: all(), subject: "link" }), 2),
        ("asked", Query { checks: each(is(2)), ..Query::new(these()) }, 1),
        (
            "asked for others",
            Query { checks: each(not(Check::Any(vec![is(1), is(2)]))), ..Query::new(these()) },
            0,
        ),
    ];
    for (why, query, want) in queries {
        let got = subject.query(&query).await?.found;
        ensure!(got.len() == want, "{why}: {got:?}");
        let counted = subject.query_counts(&[query], Bounds { cap: 9, rows: None, budget: None }).await?;
        ensure!(counted == [Some(want as u64)], "{why}: {counted:?}");
    }
    Ok(())
}

/// What does not fit is refused by name, and no value stands in the error.
pub async fn queries_that_do_not_fit(subject: &mut Subject) -> Outcome {
    let facts = |prefix| Probe::by_key(FACT.name, prefix);
    let from = |probe| Query::new(Source::Walk { probe, subject: "who" });
    let has = |probe| Query { checks: vec![Check::Has(probe)], ..from(facts(vec![])) };
    let walk = |subject| Query::new(Source::Walk { probe: facts(vec![]), subject });
    let one = || Term::Is(Value::Int(1));
    let keeps = |column, value| {
        from(Probe { keep: vec![Keep { column, test: Test::AtMost(value) }], ..facts(vec![]) })
    };
    let kept = |column, test| from(Probe { keep: vec![Keep { column, test }], ..facts(vec![]) });
    let keeps_list = |column, values| kept(column, Test::In(values));
    let contains = |column, value| kept(column, Test::Contains(value));
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
        ("a snapshot that is no commit", keeps("rank", Value::ThisSnapshot)),
        ("a commit that is none yet", keeps("from_t", Value::ThisCommit)),
        ("any of nothing", Query::new(Source::Any(vec![]))),
        ("a cursor of another shape", Query { after: Some(vec![]), ..from(facts(vec![])) }),
        ("a cursor of another type", Query { after: Some(vec![text("CANARY")]), ..from(facts(vec![])) }),
        ("a list of another type", from(facts(vec![Term::In(vec![text("CANARY")])]))),
        ("an absent one in a list", from(facts(vec![Term::In(vec![Value::Null])]))),
        ("a list of snapshots", keeps_list("from_t", vec![Value::ThisSnapshot])),
        ("part of a number", contains("rank", Value::Int(1))),
        ("part of a text that is none", contains("value", Value::Int(1))),
        ("more values than fit", from(facts(vec![Term::In(vec![Value::Int(1); 10_001])]))),
        ("deep", Query { checks: vec![deep], ..from(facts(vec![])) }),
        ("wide", Query { checks: vec![Check::Any(vec![]); 1_001], ..from(facts(vec![])) }),
    ];
    for (why, query) in bad {
        let of_size = ["deep", "wide", "more values than fit"].contains(&why);
        ensure!(query.size().fits() != of_size, "{why}: {:?}", query.size());
        let answer = subject.query(&query).await;
        ensure!(matches!(answer, Err(TablesError::Shape { .. })), "{why}: {answer:?}");
        let said = answer.map_or_else(|error| error.to_string(), |_| String::new());
        ensure!(!said.contains("CANARY"), "{why}: {said}");
    }
    Ok(())
}
