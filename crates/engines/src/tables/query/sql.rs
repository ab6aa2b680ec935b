//! A query as one statement. Both engines take the same one but for names, parameters and how an order of joins is held.
//!
//! What keeps an engine from choosing: a check is a scalar subquery (no engine makes a join of one), checks stand in nested
//! `CASE`s, which are evaluated from the outside in, and a walk names its index (SQLite) or its order (PostgreSQL, where
//! sorting costs more than anything).

use std::fmt::Write as _;

use super::{Check, Fitting, Keep, Probe, Query, Sort, Source, Term, Test, columns};
use crate::tables::shape::Schema;
use crate::tables::{Table, TablesError, Type, Value};

/// What the engines do not share.
pub(crate) trait Dialect {
    /// A table's name in a statement.
    fn table(&self, table: &Table) -> String;
    /// `?3` or `$3::uuid`, for the parameter `n` from 1.
    fn parameter(&self, n: usize, ty: Type) -> String;
    /// Behind a table's alias: which index is walked.
    fn hint(&self, table: &Table, index: Option<&str>) -> String;
    /// At the end of a walk: in which order; empty where a hint says the index.
    fn order(&self, by_key: bool, columns: &[String]) -> String;
    /// Behind a subquery whose columns are computed once, and not wherever they are named.
    fn fence(&self) -> &'static str;
    /// From each of `of` to rows: `of` has the column `s`, `walk` selects a column `s` where `from` is the alias of `of`.
    fn each(&self, of: &str, from: &str, walk: &Walk) -> String;
}

/// A walk in its parts, where an engine joins differently.
pub(crate) struct Walk {
    /// What is selected.
    pub(crate) subject: String,
    /// Table, alias, hint.
    pub(crate) rows: String,
    /// `a = b AND …`, or empty.
    pub(crate) conditions: String,
    /// ` ORDER BY …`, or empty.
    pub(crate) order: String,
}

impl Walk {
    /// As a statement of its own.
    pub(crate) fn select(&self) -> String {
        let filter =
            if self.conditions.is_empty() { String::new() } else { format!(" WHERE {}", self.conditions) };
        format!("SELECT {} AS s FROM {}{filter}{}", self.subject, self.rows, self.order)
    }
}

/// A statement and its parameters.
pub(crate) struct Statement<'q> {
    pub(crate) sql: String,
    pub(crate) params: Vec<(&'q Value, Type)>,
}

/// The subjects, their keys first.
///
/// # Errors
/// [`TablesError::Shape`].
pub(crate) fn select<'q>(
    schema: &Schema,
    dialect: &impl Dialect,
    fitting: &Fitting<'q>,
    limit: u32,
) -> Result<Statement<'q>, TablesError> {
    let mut writer = Writer { schema, dialect, params: Vec::new(), aliases: 0 };
    let query = fitting.query;
    let mut keys = String::new();
    for (n, sort) in query.sort.iter().enumerate() {
        write!(keys, "{} AS k{n}, ", writer.key(sort, "c.s")?).unwrap_or_default();
    }
    let meets = writer.candidates(query, &keys)?;
    let after = writer.after(fitting);
    let mut order = String::new();
    let mut names = String::new();
    for (n, sort) in query.sort.iter().enumerate() {
        let way = if sort.descending { "DESC" } else { "ASC" };
        write!(order, "(q.k{n} IS NULL) ASC, q.k{n} {way}, ").unwrap_or_default();
        write!(names, "q.k{n}, ").unwrap_or_default();
    }
    let fence = if query.sort.is_empty() { "" } else { dialect.fence() };
    let sql =
        format!("SELECT {names}q.s FROM ({meets}{fence}) AS q{after} ORDER BY {order}q.s ASC LIMIT {limit}");
    Ok(Statement { sql, params: writer.params })
}

/// How many there are, up to `cap`, whatever `after` and `limit` say.
///
/// # Errors
/// [`TablesError::Shape`].
pub(crate) fn count<'q>(
    schema: &Schema,
    dialect: &impl Dialect,
    fitting: &Fitting<'q>,
    cap: u64,
) -> Result<Statement<'q>, TablesError> {
    let mut writer = Writer { schema, dialect, params: Vec::new(), aliases: 0 };
    let meets = writer.candidates(fitting.query, "")?;
    let cap = i64::try_from(cap).unwrap_or(i64::MAX);
    let sql = format!("SELECT count(*) FROM ({meets} LIMIT {cap}) AS q");
    Ok(Statement { sql, params: writer.params })
}

fn quote(name: &str) -> String {
    format!("\"{name}\"")
}

struct Writer<'s, 'q, D> {
    schema: &'s Schema,
    dialect: &'s D,
    params: Vec<(&'q Value, Type)>,
    aliases: usize,
}

impl<'q, D: Dialect> Writer<'_, 'q, D> {
    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("p{}", self.aliases)
    }

    fn bind(&mut self, value: &'q Value, ty: Type) -> String {
        self.params.push((value, ty));
        self.dialect.parameter(self.params.len(), ty)
    }

    fn candidates(&mut self, query: &'q Query, keys: &str) -> Result<String, TablesError> {
        let from = self.source(&query.from)?;
        let checks = self.all(&query.checks, "c.s")?;
        Ok(format!("SELECT {keys}c.s AS s FROM (SELECT DISTINCT d.s FROM ({from}) AS d) AS c WHERE {checks}"))
    }

    fn source(&mut self, source: &'q Source) -> Result<String, TablesError> {
        Ok(match source {
            Source::These { ty, values } => {
                let all: Vec<String> =
                    values.iter().map(|value| format!("({})", self.bind(value, *ty))).collect();
                if all.is_empty() {
                    // No value of that type, and of the type all the same.
                    return Ok(format!("SELECT s FROM ({}) AS v WHERE false", self.nothing(*ty)));
                }
                format!("SELECT v.column1 AS s FROM (VALUES {}) AS v", all.join(", "))
            }
            Source::Walk { probe, subject } => self.walk(probe, subject, None)?.select(),
            Source::Any(all) => {
                let parts: Result<Vec<String>, TablesError> = all
                    .iter()
                    .map(|one| Ok(format!("SELECT u.s FROM ({}) AS u", self.source(one)?)))
                    .collect();
                parts?.join(" UNION ALL ")
            }
            Source::Follow { of, probe, subject } => {
                let of = format!("SELECT DISTINCT d.s FROM ({}) AS d", self.source(of)?);
                let from = self.alias().replace('p', "o");
                let walk = self.walk(probe, subject, Some(&format!("{from}.s")))?;
                self.dialect.each(&of, &from, &walk)
            }
        })
    }

    fn nothing(&self, ty: Type) -> String {
        let typed = match ty {
            Type::Id => "'00000000-0000-0000-0000-000000000000'",
            Type::Text | Type::Bytes => "''",
            Type::Int | Type::Seq => "0",
            Type::Bool => "false",
            Type::Time => "'epoch'",
        };
        // Cast as a parameter of that type is.
        let cast = self.dialect.parameter(0, ty);
        let cast = cast.split_once("::").map(|(_, ty)| format!("::{ty}")).unwrap_or_default();
        format!("SELECT {typed}{cast} AS s")
    }

    /// The walk of a probe, with `x` as the subject.
    fn walk(&mut self, probe: &'q Probe, subject: &str, x: Option<&str>) -> Result<Walk, TablesError> {
        let table = self.schema.table(probe.table)?;
        let alias = self.alias();
        let columns = columns(table, probe.index)?;
        let name = |at: usize| {
            columns
                .get(at)
                .and_then(|at| table.columns.get(*at))
                .map(|column| (format!("{alias}.{}", quote(column.name)), column.ty))
        };
        let mut conditions: Vec<String> = Vec::new();
        for (at, term) in probe.prefix.iter().enumerate() {
            let Some((column, ty)) = name(at) else { continue };
            conditions.push(match (term, x) {
                (Term::Is(Value::Null), _) => format!("{column} IS NULL"),
                (Term::Is(value), _) => format!("{column} = {}", self.bind(value, ty)),
                (Term::Subject, Some(x)) => format!("{column} = {x}"),
                (Term::Subject, None) => "false".to_owned(),
            });
        }
        for (bound, operator) in [(&probe.from, ">="), (&probe.to, "<")] {
            if let (Some(bound), Some((column, ty))) = (bound, name(probe.prefix.len())) {
                conditions.push(format!("{column} {operator} {}", self.bind(bound, ty)));
            }
        }
        for Keep { column, test } in &probe.keep {
            let ty = super::column(table, column)?.ty;
            conditions.push(self.test(&format!("{alias}.{}", quote(column)), test, ty));
        }
        let ordered: Vec<String> =
            (0..columns.len()).filter_map(|at| name(at).map(|(name, _)| name)).collect();
        Ok(Walk {
            subject: if subject.is_empty() { "1".to_owned() } else { format!("{alias}.{}", quote(subject)) },
            rows: format!(
                "{} AS {alias}{}",
                self.dialect.table(table),
                self.dialect.hint(table, probe.index)
            ),
            conditions: conditions.join(" AND "),
            order: self.dialect.order(probe.index.is_none(), &ordered),
        })
    }

    fn test(&mut self, column: &str, test: &'q Test, ty: Type) -> String {
        match test {
            Test::Is(value) => format!("{column} = {}", self.bind(value, ty)),
            Test::Not(value) => format!("{column} <> {}", self.bind(value, ty)),
            Test::AtMost(value) => format!("{column} <= {}", self.bind(value, ty)),
            Test::Above(value) => format!("{column} > {}", self.bind(value, ty)),
            Test::AbsentOrAbove(value) => {
                format!("({column} IS NULL OR {column} > {})", self.bind(value, ty))
            }
        }
    }

    /// All of them, the first one first.
    fn all(&mut self, checks: &'q [Check], x: &str) -> Result<String, TablesError> {
        let mut sql = String::new();
        for check in checks {
            write!(sql, "CASE WHEN {} THEN ", self.check(check, x)?).unwrap_or_default();
        }
        sql.push_str("true");
        sql.push_str(&" ELSE false END".repeat(checks.len()));
        Ok(sql)
    }

    fn check(&mut self, check: &'q Check, x: &str) -> Result<String, TablesError> {
        Ok(match check {
            Check::Is(test) => {
                let ty = type_of(test);
                self.test(x, test, ty)
            }
            Check::Has(probe) => exists(&self.walk(probe, "", Some(x))?, ""),
            Check::Each { probe, subject, check } => {
                let walk = self.walk(probe, subject, Some(x))?;
                let next = self.check(check, &walk.subject.clone())?;
                exists(&walk, &next)
            }
            Check::Not(check) => format!("NOT ({})", self.check(check, x)?),
            Check::Any(all) => {
                let each: Result<Vec<String>, TablesError> =
                    all.iter().map(|check| Ok(format!("({})", self.check(check, x)?))).collect();
                let each = each?;
                if each.is_empty() { "false".to_owned() } else { format!("({})", each.join(" OR ")) }
            }
            Check::All(all) => self.all(all, x)?,
        })
    }

    fn key(&mut self, sort: &'q Sort, x: &str) -> Result<String, TablesError> {
        let mut walk = self.walk(&sort.probe, sort.column, Some(x))?;
        let present = format!("{} IS NOT NULL", walk.subject);
        walk.conditions =
            if walk.conditions.is_empty() { present } else { format!("{} AND {present}", walk.conditions) };
        // As our indexes are ordered; nothing absent is left.
        let way = if sort.descending { "DESC NULLS LAST" } else { "ASC NULLS FIRST" };
        walk.order = format!(" ORDER BY {} {way}", walk.subject);
        Ok(format!("({} LIMIT 1)", walk.select()))
    }

    fn after(&mut self, fitting: &Fitting<'q>) -> String {
        let Some(after) = &fitting.query.after else { return String::new() };
        let mut same = String::new();
        let mut behind: Vec<String> = Vec::new();
        let keys = fitting.query.sort.iter().zip(&fitting.keys).zip(after).enumerate();
        for (n, ((sort, ty), value)) in keys {
            let key = format!("q.k{n}");
            if *value == Value::Null {
                // Nothing stands behind what lacks the key but what lacks it too.
                write!(same, "{key} IS NULL AND ").unwrap_or_default();
                continue;
            }
            let operator = if sort.descending { "<" } else { ">" };
            let value = self.bind(value, *ty);
            behind.push(format!("({same}({key} IS NULL OR {key} {operator} {value}))"));
            write!(same, "{key} = {value} AND ").unwrap_or_default();
        }
        let Some(subject) = after.last() else { return String::new() };
        let subject = self.bind(subject, fitting.subject);
        behind.push(format!("({same}q.s > {subject})"));
        format!(" WHERE {}", behind.join(" OR "))
    }
}

/// Whether a walk finds a row (of which `and` holds): a scalar, of which no engine makes a join.
fn exists(walk: &Walk, and: &str) -> String {
    let conditions: Vec<&str> =
        [walk.conditions.as_str(), and].into_iter().filter(|part| !part.is_empty()).collect();
    let filter =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    format!("(SELECT 1 FROM {}{filter}{} LIMIT 1) IS NOT NULL", walk.rows, walk.order)
}

fn type_of(test: &Test) -> Type {
    match super::value_of(test) {
        Value::Bool(_) => Type::Bool,
        Value::Time(_) => Type::Time,
        Value::Seq(_) => Type::Seq,
        Value::Id(_) => Type::Id,
        Value::Text(_) => Type::Text,
        Value::Bytes(_) => Type::Bytes,
        Value::Int(_) | Value::Null | Value::ThisCommit => Type::Int,
    }
}
