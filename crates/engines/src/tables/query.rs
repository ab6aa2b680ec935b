//! Queries over several tables: which *subjects* (a patient's id, a resource's row) meet all of several criteria, in an
//! order that is asked for. The caller plans: what drives stands in [`Query::from`], what is asked of each subject after
//! that in [`Query::checks`], in the order in which it is asked. An engine executes that and chooses nothing, in one
//! statement.
//!
//! ```
//! use hilum_engines::tables::query::{Check, Keep, Probe, Query, Source, Term, Test};
//! use hilum_engines::tables::Value;
//!
//! // Rows of `code` say a code of a subject; who has A, and no B?
//! let says = |code: &str| Probe::by_index("code", "by_code", vec![Term::Is(Value::Text(code.to_owned()))]);
//! let no_b = Probe::by_index("code", "by_code", vec![Term::Is(Value::Text("B".to_owned())), Term::Subject]);
//! let query = Query {
//!     checks: vec![Check::Not(Box::new(Check::Has(no_b)))],
//!     ..Query::new(Source::Walk { probe: says("A"), subject: "who" })
//! };
//! assert_eq!(query.limit, hilum_engines::limits::SCAN_ROWS_MAX);
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use hilum_core::Seq;

use super::shape::{Schema, check_value, shape};
use super::{Column, Table, TablesError, Type, Value};
use crate::limits;

pub(crate) mod sql;

/// What a column is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// This value; [`Value::Null`]: absent.
    Is(Value),
    /// One of these, none of them absent; of none, no row.
    In(Vec<Value>),
    /// The subject that is asked about.
    Subject,
}

/// What a value is held to. One that is absent passes only where that is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// Equal.
    Is(Value),
    /// Another one.
    Not(Value),
    /// One of these.
    In(Vec<Value>),
    /// This or less.
    AtMost(Value),
    /// Less.
    Below(Value),
    /// This or greater.
    AtLeast(Value),
    /// Greater.
    Above(Value),
    /// Absent, or greater.
    AbsentOrAbove(Value),
    /// A text with this text in it, each character of which stands for itself.
    Contains(Value),
}

/// A test of a row's column beside the index: of its visibility, say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// The column.
    pub column: &'static str,
    /// What it must be; [`Value::ThisSnapshot`] stands for the newest commit that the query sees.
    pub test: Test,
}

/// Rows side by side in one index: as a [`super::Scan`], where one of the first columns may be the subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The table's name.
    pub table: &'static str,
    /// The index; absent = by key.
    pub index: Option<&'static str>,
    /// The first columns.
    pub prefix: Vec<Term>,
    /// Inclusive lower bound of the next column, never absent.
    pub from: Option<Value>,
    /// Exclusive upper bound of the next column, never absent.
    pub to: Option<Value>,
    /// What else holds of each row.
    pub keep: Vec<Keep>,
}

impl Probe {
    /// All rows under `prefix` of an index.
    pub const fn by_index(table: &'static str, index: &'static str, prefix: Vec<Term>) -> Self {
        Self { table, index: Some(index), prefix, from: None, to: None, keep: Vec::new() }
    }

    /// All rows under `prefix` of the key.
    pub const fn by_key(table: &'static str, prefix: Vec<Term>) -> Self {
        Self { table, index: None, prefix, from: None, to: None, keep: Vec::new() }
    }
}

/// Where subjects come from; each counts once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// These.
    These {
        /// Their type.
        ty: Type,
        /// The subjects.
        values: Vec<Value>,
    },
    /// A column of the rows of a range.
    Walk {
        /// The range, without a subject.
        probe: Probe,
        /// The column; a row where it is absent leads nowhere.
        subject: &'static str,
    },
    /// Any of these.
    Any(Vec<Source>),
    /// From each of these subjects to others: a column of the rows that are found with it.
    Follow {
        /// Where to start.
        of: Box<Source>,
        /// Rows that belong to one of them.
        probe: Probe,
        /// The column with the new subject; a row where it is absent leads nowhere.
        subject: &'static str,
    },
}

/// What is asked of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// It is so itself.
    Is(Test),
    /// There is such a row.
    Has(Probe),
    /// There is such a row, and of the subject in this column the check holds.
    Each {
        /// Rows that belong to the subject.
        probe: Probe,
        /// The column with the next subject; a row where it is absent leads nowhere.
        subject: &'static str,
        /// What is asked of that.
        check: Box<Check>,
    },
    /// It is not so.
    Not(Box<Check>),
    /// One of these holds; of none, none does.
    Any(Vec<Check>),
    /// All of these hold, asked in this order.
    All(Vec<Check>),
}

/// What the answer is ordered by. Subjects without one come last, either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    /// The key of a subject.
    pub key: Key,
    /// Greatest first; of several values of one subject the greatest counts, else the least.
    pub descending: bool,
}

/// Where a key is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A column of the rows that belong to a subject.
    Of {
        /// The rows.
        probe: Probe,
        /// The column.
        column: &'static str,
    },
    /// The key of others, to which the rows that belong to a subject lead.
    Through {
        /// The rows.
        probe: Probe,
        /// The column with the next subject; a row where it is absent leads nowhere.
        subject: &'static str,
        /// The key of that.
        key: Box<Key>,
    },
    /// The first of these, at least one, that is there.
    First(Vec<Key>),
}

/// Subjects that meet all criteria, each once, ordered by `sort` and then by the subject itself, ascending.
///
/// One that drives from a walk whose first columns are all given, and whose next one is the subject, and that is ordered by
/// the subject alone, is answered from where it starts and stops at its limit; so is one that drives from any of a few such
/// walks, or has a few values for one of the columns (`limits::QUERY_LEGS_MAX`). Any other looks at all subjects first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// What drives.
    pub from: Source,
    /// What each of its subjects is asked, in this order; what fails is asked no more.
    pub checks: Vec<Check>,
    /// What orders them.
    pub sort: Vec<Sort>,
    /// The other way round, all of it: the last subject first, those that lack a key before those that have it.
    pub reversed: bool,
    /// Start behind this place, in the direction that is asked for: the keys, then the subject.
    pub after: Option<Vec<Value>>,
    /// At most this many, itself at most `limits::SCAN_ROWS_MAX`.
    pub limit: u32,
    /// How long it may take once it runs, itself at most `limits::QUERY_S_MAX`; absent: that long.
    pub budget: Option<Duration>,
}

impl Query {
    /// All subjects of `from`, by themselves, up to the bound.
    pub const fn new(from: Source) -> Self {
        Self {
            from,
            checks: Vec::new(),
            sort: Vec::new(),
            reversed: false,
            after: None,
            limit: limits::SCAN_ROWS_MAX,
            budget: None,
        }
    }
}

/// How large a query is. Who makes one of what somebody sent looks first: one that is larger than a bound is refused as an
/// error of the program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Sources, probes and checks, at most [`limits::QUERY_PARTS_MAX`]; values of which one is looked for are no parts.
    pub parts: usize,
    /// Checks and sources within each other, at most [`limits::QUERY_DEPTH_MAX`]; what lies deeper is not counted.
    pub depth: usize,
    /// Values in lists, at most [`limits::QUERY_VALUES_MAX`].
    pub values: usize,
}

impl Size {
    /// Whether an engine takes it.
    pub const fn fits(self) -> bool {
        self.parts <= limits::QUERY_PARTS_MAX
            && self.depth <= limits::QUERY_DEPTH_MAX
            && self.values <= limits::QUERY_VALUES_MAX
    }

    /// Whether what stands at `depth` is to be looked at.
    fn part(&mut self, depth: usize) -> bool {
        self.parts += 1;
        self.depth = self.depth.max(depth);
        depth <= limits::QUERY_DEPTH_MAX
    }

    fn source(&mut self, source: &Source, depth: usize) {
        if !self.part(depth) {
            return;
        }
        match source {
            Source::These { values, .. } => self.values += values.len(),
            Source::Walk { probe, .. } => self.probe(probe),
            Source::Any(all) => all.iter().for_each(|one| self.source(one, depth + 1)),
            Source::Follow { of, probe, .. } => {
                self.source(of, depth + 1);
                self.probe(probe);
            }
        }
    }

    fn check(&mut self, check: &Check, depth: usize) {
        if !self.part(depth) {
            return;
        }
        match check {
            Check::Is(test) => self.test(test),
            Check::Has(probe) => self.probe(probe),
            Check::Each { probe, check, .. } => {
                self.probe(probe);
                self.check(check, depth + 1);
            }
            Check::Not(check) => self.check(check, depth + 1),
            Check::Any(all) | Check::All(all) => all.iter().for_each(|check| self.check(check, depth + 1)),
        }
    }

    fn probe(&mut self, probe: &Probe) {
        self.parts += 1;
        for term in &probe.prefix {
            if let Term::In(values) = term {
                self.values += values.len();
            }
        }
        probe.keep.iter().for_each(|keep| self.test(&keep.test));
    }

    fn key(&mut self, key: &Key, depth: usize) {
        if !self.part(depth) {
            return;
        }
        match key {
            Key::Of { probe, .. } => self.probe(probe),
            Key::Through { probe, key, .. } => {
                self.probe(probe);
                self.key(key, depth + 1);
            }
            Key::First(all) => all.iter().for_each(|key| self.key(key, depth + 1)),
        }
    }

    fn test(&mut self, test: &Test) {
        if let Test::In(values) = test {
            self.values += values.len();
        }
    }
}

impl Query {
    /// How large it is.
    pub fn size(&self) -> Size {
        let mut size = Size::default();
        size.source(&self.from, 0);
        self.checks.iter().for_each(|check| size.check(check, 0));
        self.sort.iter().for_each(|sort| size.key(&sort.key, 0));
        size
    }
}

/// What counting may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// As far as it counts.
    pub cap: u64,
    /// As many rows of what drives are looked at, whatever the load; a query that has more, and less than `cap` among these, is
    /// not counted. Absent: all.
    pub rows: Option<u64>,
    /// How long it may take for all queries together, as in [`Query::budget`].
    pub budget: Option<Duration>,
}

/// How long a query may take.
pub(crate) fn budget(asked: Option<Duration>) -> Duration {
    let most = Duration::from_secs(limits::QUERY_S_MAX);
    asked.map_or(most, |asked| asked.min(most))
}

/// What a query finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The newest commit that it saw: asked for with this `t`, rows with a visibility answer the same later.
    pub t: Seq,
    /// The subjects, in the order asked for.
    pub found: Vec<Found>,
}

/// One subject of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The subject.
    pub subject: Value,
    /// Its keys, in the order of [`Query::sort`]; [`Value::Null`] where it has none.
    pub keys: Vec<Value>,
}

/// A query that fits: the types of what it answers, keys first, then the subject.
#[derive(Debug)]
pub(crate) struct Fitting<'q> {
    pub(crate) query: &'q Query,
    pub(crate) keys: Vec<Type>,
    pub(crate) subject: Type,
    /// What it drives from, where each gives its subjects in the order that is asked for; else none.
    pub(crate) legs: Vec<Leg<'q>>,
}

/// A walk that meets its subjects in their order, rows of one side by side: all columns before it are given.
#[derive(Debug)]
pub(crate) struct Leg<'q> {
    pub(crate) probe: &'q Probe,
    pub(crate) subject: &'static str,
    /// Which value of a list it walks, and where in the prefix.
    pub(crate) value: Option<(usize, &'q Value)>,
}

/// Finds what does not fit.
struct Fit<'s> {
    schema: &'s Schema,
}

impl Schema {
    /// Checks a query.
    ///
    /// # Errors
    /// [`TablesError::Shape`].
    pub(crate) fn check_query<'q>(&self, query: &'q Query) -> Result<Fitting<'q>, TablesError> {
        if !query.size().fits() {
            let (parts, depth) = (limits::QUERY_PARTS_MAX, limits::QUERY_DEPTH_MAX);
            let values = limits::QUERY_VALUES_MAX;
            let why = format!("more than {parts} parts or {values} values, or nested deeper than {depth}");
            return Err(shape("(query)", why));
        }
        let fit = Fit { schema: self };
        let subject = fit.source(&query.from)?;
        for check in &query.checks {
            fit.check(check, subject)?;
        }
        let mut keys = Vec::with_capacity(query.sort.len());
        for sort in &query.sort {
            keys.push(fit.key(&sort.key, subject)?);
        }
        if let Some(after) = &query.after {
            let Some((last, given)) = after.split_last().filter(|(_, given)| given.len() == keys.len())
            else {
                return Err(shape(
                    "(query)",
                    "after has another number of values than there are keys and a subject",
                ));
            };
            for (value, ty) in given.iter().zip(&keys).filter(|(value, _)| **value != Value::Null) {
                typed("(query)", value, *ty)?;
            }
            typed("(query)", last, subject)?;
        }
        let mut legs = Vec::new();
        if !query.sort.is_empty() || !self.legs(&query.from, &mut legs)? {
            legs.clear();
        }
        // A key's order and an index's are two to PostgreSQL: they differ where absent values stand.
        let by_key = legs.iter().filter(|leg| leg.probe.index.is_none()).count();
        // What is kept is asked in each of them.
        let mut size = Size::default();
        for leg in &legs {
            size.probe(leg.probe);
        }
        let is_large = legs.len() > limits::QUERY_LEGS_MAX || size.values > limits::QUERY_VALUES_MAX;
        if is_large || (by_key > 0 && by_key < legs.len()) {
            legs.clear();
        }
        Ok(Fitting { query, keys, subject, legs })
    }

    /// Finds the legs of a source; whether it is made of nothing else.
    fn legs<'q>(&self, source: &'q Source, legs: &mut Vec<Leg<'q>>) -> Result<bool, TablesError> {
        let (probe, subject) = match source {
            Source::Walk { probe, subject } => (probe, *subject),
            Source::Any(all) => {
                for one in all {
                    if legs.len() > limits::QUERY_LEGS_MAX || !self.legs(one, legs)? {
                        return Ok(false);
                    }
                }
                return Ok(true);
            }
            Source::These { .. } | Source::Follow { .. } => return Ok(false),
        };
        let table = self.table(probe.table)?;
        let next = columns(table, probe.index)?.get(probe.prefix.len()).copied();
        if next.is_none() || next != table.column(subject) || probe.prefix.contains(&Term::Subject) {
            return Ok(false);
        }
        let lists = probe.prefix.iter().enumerate().filter_map(|(at, term)| match term {
            Term::In(values) => Some((at, values)),
            Term::Is(_) | Term::Subject => None,
        });
        match lists.collect::<Vec<_>>().as_slice() {
            [] => legs.push(Leg { probe, subject, value: None }),
            [(at, values)] if (1..=limits::QUERY_LEGS_MAX).contains(&values.len()) => {
                let once: BTreeSet<&Value> = values.iter().collect();
                legs.extend(once.into_iter().map(|value| Leg { probe, subject, value: Some((*at, value)) }));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn column(table: &'static Table, name: &str) -> Result<&'static Column, TablesError> {
    let found = table.column(name).and_then(|at| table.columns.get(at));
    found.ok_or_else(|| shape(table.name, format!("column {name}: not declared")))
}

fn typed(table: &str, value: &Value, ty: Type) -> Result<(), TablesError> {
    let fits = match value {
        Value::Bool(_) => ty == Type::Bool,
        Value::Int(_) => ty == Type::Int,
        Value::Time(_) => ty == Type::Time,
        Value::Seq(_) => ty == Type::Seq,
        Value::Id(_) => ty == Type::Id,
        Value::Bytes(_) => ty == Type::Bytes,
        Value::Text(text) => ty == Type::Text && !text.contains('\0'),
        Value::Null
        | Value::ThisCommit
        | Value::ThisCommitNth(_)
        | Value::ThisMoment
        | Value::ThisSnapshot => false,
    };
    if fits { Ok(()) } else { Err(shape(table, format!("a value is not of type {ty:?}, or has NUL"))) }
}

impl Fit<'_> {
    /// The type of its subjects.
    fn source(&self, source: &Source) -> Result<Type, TablesError> {
        match source {
            Source::These { ty, values } => {
                values.iter().try_for_each(|value| typed("(query)", value, *ty))?;
                Ok(*ty)
            }
            Source::Walk { probe, subject } => {
                let table = self.probe(probe, None)?;
                subject_of(table, subject)
            }
            Source::Any(all) => one_type(all.iter().map(|one| self.source(one)), "subjects of several types"),
            Source::Follow { of, probe, subject } => {
                let of = self.source(of)?;
                let table = self.probe(probe, Some(of))?;
                subject_of(table, subject)
            }
        }
    }

    fn check(&self, check: &Check, subject: Type) -> Result<(), TablesError> {
        match check {
            Check::Is(test) => tested("(query)", test, subject),
            Check::Has(probe) => self.probe(probe, Some(subject)).map(drop),
            Check::Each { probe, subject: column, check } => {
                let table = self.probe(probe, Some(subject))?;
                self.check(check, subject_of(table, column)?)
            }
            Check::Not(check) => self.check(check, subject),
            Check::Any(all) | Check::All(all) => all.iter().try_for_each(|check| self.check(check, subject)),
        }
    }

    /// The type of a key.
    fn key(&self, key: &Key, subject: Type) -> Result<Type, TablesError> {
        match key {
            Key::Of { probe, column: name } => Ok(column(self.probe(probe, Some(subject))?, name)?.ty),
            Key::Through { probe, subject: name, key } => {
                let table = self.probe(probe, Some(subject))?;
                self.key(key, subject_of(table, name)?)
            }
            Key::First(all) => {
                one_type(all.iter().map(|key| self.key(key, subject)), "keys of several types")
            }
        }
    }

    fn probe(&self, probe: &Probe, subject: Option<Type>) -> Result<&'static Table, TablesError> {
        let table = self.schema.table(probe.table)?;
        let columns = columns(table, probe.index)?;
        if probe.prefix.len() > columns.len() {
            return Err(shape(table.name, "query: prefix longer than the index"));
        }
        for (&at, term) in columns.iter().zip(&probe.prefix) {
            match (term, table.columns.get(at)) {
                (Term::Is(value), _) => check_value(table, at, value, false)?,
                (Term::In(values), Some(column)) => {
                    values.iter().try_for_each(|value| typed(table.name, value, column.ty))?;
                }
                (Term::Subject, Some(column)) if Some(column.ty) == subject => {}
                (Term::Subject | Term::In(_), _) => {
                    return Err(shape(table.name, "query: no subject of this type here"));
                }
            }
        }
        for bound in [&probe.from, &probe.to].into_iter().flatten() {
            let next = columns.get(probe.prefix.len()).and_then(|at| table.columns.get(*at));
            let next = next.ok_or_else(|| shape(table.name, "query: no column left for a bound"))?;
            typed(table.name, bound, next.ty)?;
        }
        for keep in &probe.keep {
            let ty = column(table, keep.column)?.ty;
            let is_list = matches!(keep.test, Test::In(_));
            if is_list || ty != Type::Seq || values_of(&keep.test) != [Value::ThisSnapshot] {
                tested(table.name, &keep.test, ty)?;
            }
        }
        Ok(table)
    }
}

/// The type that all of these have.
fn one_type(
    mut types: impl Iterator<Item = Result<Type, TablesError>>,
    several: &str,
) -> Result<Type, TablesError> {
    let first = types.next().ok_or_else(|| shape("(query)", "any of nothing"))??;
    for ty in types {
        if ty? != first {
            return Err(shape("(query)", several));
        }
    }
    Ok(first)
}

fn values_of(test: &Test) -> &[Value] {
    match test {
        Test::Is(value)
        | Test::Not(value)
        | Test::AtMost(value)
        | Test::Below(value)
        | Test::AtLeast(value)
        | Test::Above(value)
        | Test::AbsentOrAbove(value)
        | Test::Contains(value) => std::slice::from_ref(value),
        Test::In(values) => values,
    }
}

fn tested(table: &str, test: &Test, ty: Type) -> Result<(), TablesError> {
    if matches!(test, Test::Contains(_)) && ty != Type::Text {
        return Err(shape(table, "query: no text to look for a text in"));
    }
    values_of(test).iter().try_for_each(|value| typed(table, value, ty))
}

fn subject_of(table: &'static Table, name: &str) -> Result<Type, TablesError> {
    Ok(column(table, name)?.ty)
}

/// The columns that order an index, as in a scan: its own, then those of the key that it lacks.
fn columns(table: &'static Table, index: Option<&str>) -> Result<Vec<usize>, TablesError> {
    let mut columns = Vec::new();
    if let Some(name) = index {
        let found = table.indexes.iter().find(|index| index.name == name);
        let index = found.ok_or_else(|| shape(table.name, format!("index {name}: not declared")))?;
        columns.extend(index.columns.iter().filter_map(|column| table.column(column)));
    }
    for at in 0..table.key_len {
        if !columns.contains(&at) {
            columns.push(at);
        }
    }
    Ok(columns)
}
