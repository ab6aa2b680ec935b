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

use super::shape::{Schema, check_value, shape};
use super::{Column, Table, TablesError, Type, Value};
use crate::limits;

pub(crate) mod sql;

/// What a column is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// This value; [`Value::Null`]: absent.
    Is(Value),
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
    /// This or less.
    AtMost(Value),
    /// Greater.
    Above(Value),
    /// Absent, or greater.
    AbsentOrAbove(Value),
}

/// A test of a row's column beside the index: of its visibility, say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// The column.
    pub column: &'static str,
    /// What it must be.
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
        /// The column, never absent.
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
        /// The column with the new subject, never absent.
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
        /// The column with the next subject, never absent.
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

/// A key that the answer is ordered by: the least value in a column of the rows that belong to a subject (descending: the
/// greatest). Subjects without one come last, either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    /// Rows that belong to a subject.
    pub probe: Probe,
    /// The column.
    pub column: &'static str,
    /// Greatest first.
    pub descending: bool,
}

/// Subjects that meet all criteria, each once, ordered by `sort` and then by the subject itself, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// What drives.
    pub from: Source,
    /// What each of its subjects is asked, in this order; what fails is asked no more.
    pub checks: Vec<Check>,
    /// What orders them.
    pub sort: Vec<Sort>,
    /// Start behind this place: the keys, then the subject.
    pub after: Option<Vec<Value>>,
    /// At most this many, itself at most `limits::SCAN_ROWS_MAX`.
    pub limit: u32,
}

impl Query {
    /// All subjects of `from`, by themselves, up to the bound.
    pub const fn new(from: Source) -> Self {
        Self { from, checks: Vec::new(), sort: Vec::new(), after: None, limit: limits::SCAN_ROWS_MAX }
    }
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
}

/// Counts what a query is made of, and finds what does not fit.
struct Fit<'s> {
    schema: &'s Schema,
    parts: usize,
}

impl Schema {
    /// Checks a query.
    ///
    /// # Errors
    /// [`TablesError::Shape`].
    pub(crate) fn check_query<'q>(&self, query: &'q Query) -> Result<Fitting<'q>, TablesError> {
        let mut fit = Fit { schema: self, parts: 0 };
        let subject = fit.source(&query.from, 0)?;
        for check in &query.checks {
            fit.check(check, subject, 0)?;
        }
        let mut keys = Vec::with_capacity(query.sort.len());
        for sort in &query.sort {
            let table = fit.probe(&sort.probe, Some(subject))?;
            keys.push(column(table, sort.column)?.ty);
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
        Ok(Fitting { query, keys, subject })
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
        Value::Null | Value::ThisCommit => false,
    };
    if fits { Ok(()) } else { Err(shape(table, format!("a value is not of type {ty:?}, or has NUL"))) }
}

impl Fit<'_> {
    fn part(&mut self, depth: usize) -> Result<(), TablesError> {
        self.parts += 1;
        if self.parts > limits::QUERY_PARTS_MAX || depth > limits::QUERY_DEPTH_MAX {
            let (parts, depth) = (limits::QUERY_PARTS_MAX, limits::QUERY_DEPTH_MAX);
            return Err(shape("(query)", format!("more than {parts} parts, or nested deeper than {depth}")));
        }
        Ok(())
    }

    /// The type of its subjects.
    fn source(&mut self, source: &Source, depth: usize) -> Result<Type, TablesError> {
        self.part(depth)?;
        match source {
            Source::These { ty, values } => {
                if values.len() > limits::QUERY_VALUES_MAX {
                    return Err(shape("(query)", format!("more than {} subjects", limits::QUERY_VALUES_MAX)));
                }
                values.iter().try_for_each(|value| typed("(query)", value, *ty))?;
                Ok(*ty)
            }
            Source::Walk { probe, subject } => {
                let table = self.probe(probe, None)?;
                subject_of(table, subject)
            }
            Source::Any(all) => {
                let mut types = all.iter().map(|one| self.source(one, depth + 1));
                let first = types.next().ok_or_else(|| shape("(query)", "any of nothing"))??;
                for ty in types {
                    if ty? != first {
                        return Err(shape("(query)", "subjects of several types"));
                    }
                }
                Ok(first)
            }
            Source::Follow { of, probe, subject } => {
                let of = self.source(of, depth + 1)?;
                let table = self.probe(probe, Some(of))?;
                subject_of(table, subject)
            }
        }
    }

    fn check(&mut self, check: &Check, subject: Type, depth: usize) -> Result<(), TablesError> {
        self.part(depth)?;
        match check {
            Check::Is(test) => typed("(query)", value_of(test), subject),
            Check::Has(probe) => self.probe(probe, Some(subject)).map(drop),
            Check::Each { probe, subject: column, check } => {
                let table = self.probe(probe, Some(subject))?;
                self.check(check, subject_of(table, column)?, depth + 1)
            }
            Check::Not(check) => self.check(check, subject, depth + 1),
            Check::Any(all) | Check::All(all) => {
                all.iter().try_for_each(|check| self.check(check, subject, depth + 1))
            }
        }
    }

    fn probe(&mut self, probe: &Probe, subject: Option<Type>) -> Result<&'static Table, TablesError> {
        self.part(0)?;
        let table = self.schema.table(probe.table)?;
        let columns = columns(table, probe.index)?;
        if probe.prefix.len() > columns.len() {
            return Err(shape(table.name, "query: prefix longer than the index"));
        }
        for (&at, term) in columns.iter().zip(&probe.prefix) {
            match (term, table.columns.get(at)) {
                (Term::Is(value), _) => check_value(table, at, value, false)?,
                (Term::Subject, Some(column)) if Some(column.ty) == subject => {}
                (Term::Subject, _) => return Err(shape(table.name, "query: no subject of this type here")),
            }
        }
        for bound in [&probe.from, &probe.to].into_iter().flatten() {
            let next = columns.get(probe.prefix.len()).and_then(|at| table.columns.get(*at));
            let next = next.ok_or_else(|| shape(table.name, "query: no column left for a bound"))?;
            typed(table.name, bound, next.ty)?;
        }
        for keep in &probe.keep {
            typed(table.name, value_of(&keep.test), column(table, keep.column)?.ty)?;
        }
        Ok(table)
    }
}

fn value_of(test: &Test) -> &Value {
    match test {
        Test::Is(value)
        | Test::Not(value)
        | Test::AtMost(value)
        | Test::Above(value)
        | Test::AbsentOrAbove(value) => value,
    }
}

fn subject_of(table: &'static Table, name: &str) -> Result<Type, TablesError> {
    let column = column(table, name)?;
    if column.optional {
        return Err(shape(table.name, format!("column {name}: a subject is never absent")));
    }
    Ok(column.ty)
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
