//! A query as one statement. Both engines take the same one but for names, parameters and how an order of joins is held.
//!
//! What keeps an engine from choosing: a check is a scalar subquery (no engine makes a join of one), checks stand in nested
//! `CASE`s, which are evaluated from the outside in, and a walk names its index (SQLite) or its order (PostgreSQL, where
//! sorting costs more than anything).

use std::fmt::Write as _;

use super::{Bounds, Check, Fitting, Keep, Key, Leg, Probe, Query, Source, Term, Test, columns};
use crate::tables::shape::Schema;
use crate::tables::{Table, TablesError, Type, Value};

/// What the engines do not share.
pub(crate) trait Dialect {
    /// A table's name in a statement.
    fn table(&self, table: &Table) -> String;
    /// `?3` or `$3::uuid`, for the parameter `n` from 1.
    fn parameter(&self, n: usize, ty: Type) -> String;
    /// The newest commit that the statement sees, as an expression; absent where it is a parameter as any.
    fn snapshot(&self) -> Option<&str>;
    /// `= ANY($3::uuid[])`: one of the values in the parameter `n`; absent where each of them is a parameter.
    fn among(&self, n: usize, ty: Type) -> Option<String>;
    /// What selects the values in the parameter `n` as `s`; absent where each of them is a parameter.
    fn these(&self, n: usize, ty: Type) -> Option<String>;
    /// That a column is one of several, so that it is looked at in a row and not sought.
    fn looked_at(&self, column: &str, among: &str) -> String;
    /// That a text has another in it.
    fn contains(&self, column: &str, part: &str) -> String;
    /// Behind a table's alias: which index is walked.
    fn hint(&self, table: &Table, index: Option<&str>) -> String;
    /// Whether a walk says its order.
    fn orders(&self) -> bool;
    /// At the end of a walk: in which order; empty where a hint says the index.
    fn order(&self, by_key: bool, columns: &[String]) -> String;
    /// Of a walk whose `columns` but the last are given: what selects the last one once for rows side by side, and the order
    /// of `all` columns, descending or not.
    fn once(&self, by_key: bool, columns: &[String], all: &[String], descending: bool) -> (String, String);
    /// Of several walks, each as it is and in its order with each subject once: all subjects in that order, each once, and the
    /// order in which they are taken out, where that has to be said.
    fn merged(&self, by_key: bool, legs: &[(String, String)], descending: bool) -> (String, &'static str);
    /// Behind a subquery whose columns are computed once, and not wherever they are named.
    fn fence(&self) -> &'static str;
    /// The least of what a walk gives, or the greatest, which is none if there is none: walked as it says, whatever else would
    /// give that order.
    fn least(&self, walk: &Walk, greatest: bool) -> String;
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
    /// Its columns in the index's order; none where that is not asked.
    columns: Vec<String>,
}

impl Walk {
    fn and(&mut self, condition: &str) {
        if !self.conditions.is_empty() {
            self.conditions.push_str(" AND ");
        }
        self.conditions.push_str(condition);
    }

    /// As a statement of its own.
    pub(crate) fn select(&self) -> String {
        let filter =
            if self.conditions.is_empty() { String::new() } else { format!(" WHERE {}", self.conditions) };
        format!("SELECT {} AS s FROM {}{filter}{}", self.subject, self.rows, self.order)
    }
}

/// What a parameter is given.
pub(crate) enum Given<'q> {
    One(&'q Value),
    Many(&'q [Value]),
}

/// A statement and its parameters.
pub(crate) struct Statement<'q> {
    pub(crate) sql: String,
    pub(crate) params: Vec<Given<'q>>,
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
    if !fitting.legs.is_empty() {
        let after = query.after.as_ref().and_then(|after| after.last());
        let sql = writer.ordered(fitting, after)?;
        return Ok(Statement { sql: format!("{sql} LIMIT {limit}"), params: writer.params });
    }
    let mut keys = String::new();
    for (n, sort) in query.sort.iter().enumerate() {
        write!(keys, "{} AS k{n}, ", writer.key(&sort.key, "c.s", sort.descending)?).unwrap_or_default();
    }
    let meets = writer.candidates(query, &keys)?;
    let after = writer.after(fitting);
    let mut order = String::new();
    let mut names = String::new();
    for (n, sort) in query.sort.iter().enumerate() {
        let absent = way(query.reversed);
        let way = way(sort.descending != query.reversed);
        write!(order, "(q.k{n} IS NULL) {absent}, q.k{n} {way}, ").unwrap_or_default();
        write!(names, "q.k{n}, ").unwrap_or_default();
    }
    let fence = if query.sort.is_empty() { "" } else { dialect.fence() };
    let way = way(query.reversed);
    let sql = format!(
        "SELECT {names}q.s FROM ({meets}{fence}) AS q{after} ORDER BY {order}q.s {way} LIMIT {limit}"
    );
    Ok(Statement { sql, params: writer.params })
}

/// How many there are up to the cap, and, where they are less, how many rows of what drives there are, one more than may be
/// where there are more: whatever `after` and `limit` say.
///
/// # Errors
/// [`TablesError::Shape`].
pub(crate) fn count<'q>(
    schema: &Schema,
    dialect: &impl Dialect,
    fitting: &Fitting<'q>,
    bounds: Bounds,
) -> Result<Statement<'q>, TablesError> {
    let mut writer = Writer { schema, dialect, params: Vec::new(), aliases: 0 };
    let query = fitting.query;
    let bound = |bound: u64| i64::try_from(bound).unwrap_or(i64::MAX);
    let cap = bound(bounds.cap);
    let sql = if let Some(rows) = bounds.rows {
        let (from, rows) = (writer.source(&query.from)?, bound(rows).saturating_add(1));
        let checks = writer.all(&query.checks, "c.s")?;
        let some = format!("SELECT d.s FROM ({from}) AS d LIMIT {rows}");
        // Counted as they come: a search that reaches the cap soon is not walked to its end.
        format!(
            "SELECT n.c, CASE WHEN n.c >= {cap} THEN 0 ELSE (SELECT count(*) FROM ({some}) AS f) END FROM (SELECT count(*) AS c \
             FROM (SELECT c.s FROM (SELECT DISTINCT f.s FROM ({some}) AS f) AS c WHERE {checks} LIMIT {cap}) AS q) AS n"
        )
    } else {
        let meets = if fitting.legs.is_empty() {
            writer.candidates(query, "")?
        } else {
            writer.ordered(fitting, None)?
        };
        format!("SELECT count(*), count(*) FROM ({meets} LIMIT {cap}) AS q")
    };
    Ok(Statement { sql, params: writer.params })
}

/// What such a count says.
pub(crate) fn counted(bounds: Bounds, count: i64, looked_at: i64) -> Option<u64> {
    bounds.rows.is_none_or(|rows| looked_at.unsigned_abs() <= rows).then_some(count.unsigned_abs())
}

const ABSENT: &Value = &Value::Null;

/// Room for the checks of a query as most are.
const CHECKS_BYTES: usize = 4_096;

const fn way(descending: bool) -> &'static str {
    if descending { "DESC" } else { "ASC" }
}

struct Writer<'s, 'q, D> {
    schema: &'s Schema,
    dialect: &'s D,
    params: Vec<Given<'q>>,
    aliases: usize,
}

impl<'q, D: Dialect> Writer<'_, 'q, D> {
    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("p{}", self.aliases)
    }

    fn bind(&mut self, value: &'q Value, ty: Type) -> String {
        if *value == Value::ThisSnapshot
            && let Some(snapshot) = self.dialect.snapshot()
        {
            return snapshot.to_owned();
        }
        self.params.push(Given::One(value));
        self.dialect.parameter(self.params.len(), ty)
    }

    /// What a column is compared with to be one of `values`, which are some.
    fn among(&mut self, values: &'q [Value], ty: Type) -> String {
        if let Some(among) = self.dialect.among(self.params.len() + 1, ty) {
            self.params.push(Given::Many(values));
            return among;
        }
        // The last one again: absent ones would make what is no member neither true nor false.
        let fill = values.last().unwrap_or(ABSENT);
        let all = self.each(values.iter(), fill, ty);
        format!("IN ({})", all.join(", "))
    }

    /// A parameter for each value, and `fill` up to a power of two: few texts of statements, so that they are prepared once.
    fn each(
        &mut self,
        values: impl ExactSizeIterator<Item = &'q Value>,
        fill: &'q Value,
        ty: Type,
    ) -> Vec<String> {
        let count = values.len().next_power_of_two();
        values.chain(std::iter::repeat(fill)).take(count).map(|value| self.bind(value, ty)).collect()
    }

    /// That a column is sought for each of `values`: what is walked before it, and the condition.
    fn sought(&mut self, column: &str, values: &'q [Value], ty: Type) -> (String, String) {
        if let Some(among) = self.dialect.among(self.params.len() + 1, ty) {
            self.params.push(Given::Many(values));
            return (String::new(), format!("{column} {among}"));
        }
        // Not a list behind IN: whether one is sought or looked at, the engine would choose.
        let alias = self.alias().replace('p', "v");
        // Each once, or its rows would come twice; nothing equals an absent one.
        let mut once: Vec<&'q Value> = values.iter().collect();
        once.sort_unstable();
        once.dedup();
        let all = self.each(once.into_iter(), ABSENT, ty).join("), (");
        let before = format!("(VALUES ({all})) AS {alias} CROSS JOIN ");
        (before, format!("{column} = {alias}.column1"))
    }

    fn candidates(&mut self, query: &'q Query, keys: &str) -> Result<String, TablesError> {
        let from = self.source(&query.from)?;
        let checks = self.all(&query.checks, "c.s")?;
        Ok(format!("SELECT {keys}c.s AS s FROM (SELECT DISTINCT d.s FROM ({from}) AS d) AS c WHERE {checks}"))
    }

    /// The subjects of walks that meet them in order, behind `after`: nothing is gathered first, so a limit stops it.
    fn ordered(&mut self, fitting: &Fitting<'q>, after: Option<&'q Value>) -> Result<String, TablesError> {
        let (query, descending) = (fitting.query, fitting.query.reversed);
        let is_one = fitting.legs.len() == 1;
        let (mut by_key, mut legs) = (true, Vec::with_capacity(fitting.legs.len()));
        for Leg { probe, subject, value } in &fitting.legs {
            by_key = probe.index.is_none();
            let mut walk = self.walk_of(probe, subject, None, (true, *value))?;
            if let Some(after) = after {
                let operator = if descending { "<" } else { ">" };
                let after = self.bind(after, fitting.subject);
                walk.and(&format!("{} {operator} {after}", walk.subject));
            }
            if is_one {
                let checks = self.all(&query.checks, &walk.subject.clone())?;
                walk.and(&checks);
            }
            let once: Vec<String> = walk.columns.iter().take(probe.prefix.len() + 1).cloned().collect();
            let (select, order) = self.dialect.once(by_key, &once, &walk.columns, descending);
            let filter = if walk.conditions.is_empty() { "true" } else { &walk.conditions };
            let rows = format!("FROM {} WHERE {filter}", walk.rows);
            legs.push((
                format!("SELECT {} AS s {rows}", walk.subject),
                format!("{select} AS s {rows}{order}"),
            ));
        }
        if is_one {
            return Ok(legs.pop().map(|(_, once)| once).unwrap_or_default());
        }
        let checks = self.all(&query.checks, "c.s")?;
        let (merged, order) = self.dialect.merged(by_key, &legs, descending);
        Ok(format!("SELECT c.s FROM ({merged}) AS c WHERE {checks}{order}"))
    }

    fn source(&mut self, source: &'q Source) -> Result<String, TablesError> {
        Ok(match source {
            Source::These { ty, values } => {
                if let Some(these) = self.dialect.these(self.params.len() + 1, *ty) {
                    self.params.push(Given::Many(values));
                    return Ok(these);
                }
                let all: Vec<String> =
                    values.iter().map(|value| format!("({})", self.bind(value, *ty))).collect();
                if all.is_empty() {
                    return Ok("SELECT NULL AS s WHERE false".to_owned());
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

    /// The walk of a probe, with `x` as the subject.
    fn walk(&mut self, probe: &'q Probe, subject: &str, x: Option<&str>) -> Result<Walk, TablesError> {
        self.walk_of(probe, subject, x, (true, None))
    }

    /// The same; `seeks`: one of several values is sought before the subject is, else it is only looked at; `leg`: for the
    /// list at this place in the prefix, this one.
    fn walk_of(
        &mut self,
        probe: &'q Probe,
        subject: &str,
        x: Option<&str>,
        (mut seeks, leg): (bool, Option<(usize, &'q Value)>),
    ) -> Result<Walk, TablesError> {
        let table = self.schema.table(probe.table)?;
        let alias = self.alias();
        let columns = columns(table, probe.index)?;
        let of = |name: &str| format!("{alias}.\"{name}\"");
        let name = |at: usize| {
            columns.get(at).and_then(|at| table.columns.get(*at)).map(|column| (of(column.name), column.ty))
        };
        let mut conditions: Vec<String> = Vec::with_capacity(probe.prefix.len() + probe.keep.len() + 3);
        let (mut before, mut is_ordered) = (String::new(), true);
        for (at, term) in probe.prefix.iter().enumerate() {
            let Some((column, ty)) = name(at) else { continue };
            conditions.push(match (term, x) {
                (Term::Is(Value::Null), _) => format!("{column} IS NULL"),
                (Term::Is(value), _) => format!("{column} = {}", self.bind(value, ty)),
                (Term::In(_), _) if leg.is_some_and(|(place, _)| place == at) => {
                    let value = leg.map_or(ABSENT, |(_, value)| value);
                    format!("{column} = {}", self.bind(value, ty))
                }
                (Term::In(values), _) if values.is_empty() => "false".to_owned(),
                (Term::In(values), _) if seeks => {
                    is_ordered = false;
                    let (first, condition) = self.sought(&column, values, ty);
                    before.push_str(&first);
                    condition
                }
                (Term::In(values), _) => {
                    let among = self.among(values, ty);
                    self.dialect.looked_at(&column, &among)
                }
                (Term::Subject, Some(x)) => {
                    // Few rows belong to a subject: looked at, that is less than a search for each value.
                    seeks = false;
                    format!("{column} = {x}")
                }
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
            conditions.push(self.test(&of(column), test, ty));
        }
        if !subject.is_empty() && super::column(table, subject)?.optional {
            conditions.push(format!("{} IS NOT NULL", of(subject)));
        }
        // Of many small walks only their conditions are wanted.
        let is_told = x.is_none() || self.dialect.orders();
        let told = if is_told { columns.len() } else { 0 };
        let ordered: Vec<String> = (0..told).filter_map(|at| name(at).map(|(name, _)| name)).collect();
        Ok(Walk {
            subject: if subject.is_empty() { "1".to_owned() } else { of(subject) },
            rows: format!(
                "{before}{} AS {alias}{}",
                self.dialect.table(table),
                self.dialect.hint(table, probe.index)
            ),
            conditions: conditions.join(" AND "),
            order: if is_ordered {
                self.dialect.order(probe.index.is_none(), &ordered)
            } else {
                String::new()
            },
            columns: ordered,
        })
    }

    fn test(&mut self, column: &str, test: &'q Test, ty: Type) -> String {
        match test {
            Test::Is(value) => format!("{column} = {}", self.bind(value, ty)),
            Test::Not(value) => format!("{column} <> {}", self.bind(value, ty)),
            Test::In(values) if values.is_empty() => "false".to_owned(),
            Test::In(values) => {
                let among = self.among(values, ty);
                self.dialect.looked_at(column, &among)
            }
            Test::Below(value) => format!("{column} < {}", self.bind(value, ty)),
            Test::AtLeast(value) => format!("{column} >= {}", self.bind(value, ty)),
            Test::Contains(value) => {
                let part = self.bind(value, ty);
                self.dialect.contains(column, &part)
            }
            Test::AtMost(value) => format!("{column} <= {}", self.bind(value, ty)),
            Test::Above(value) => format!("{column} > {}", self.bind(value, ty)),
            Test::AbsentOrAbove(value) => {
                format!("({column} IS NULL OR {column} > {})", self.bind(value, ty))
            }
        }
    }

    /// All of them, the first one first.
    fn all(&mut self, checks: &'q [Check], x: &str) -> Result<String, TablesError> {
        let mut sql = String::with_capacity(CHECKS_BYTES);
        self.write_all(&mut sql, checks, x)?;
        Ok(sql)
    }

    fn write_all(&mut self, sql: &mut String, checks: &'q [Check], x: &str) -> Result<(), TablesError> {
        for check in checks {
            sql.push_str("CASE WHEN ");
            self.check(sql, check, x)?;
            sql.push_str(" THEN ");
        }
        sql.push_str("true");
        for _ in checks {
            sql.push_str(" ELSE false END");
        }
        Ok(())
    }

    /// Writes what asks it of `x`. Into one text: a check that is deep in others would be copied at each step.
    fn check(&mut self, sql: &mut String, check: &'q Check, x: &str) -> Result<(), TablesError> {
        match check {
            Check::Is(test) => {
                let ty = type_of(test);
                sql.push_str(&self.test(x, test, ty));
            }
            Check::Has(probe) => {
                let walk = self.walk(probe, "", Some(x))?;
                begin_exists(sql, &walk);
                end_exists(sql, &walk);
            }
            Check::Each { probe, subject, check } => {
                let walk = self.walk(probe, subject, Some(x))?;
                begin_exists(sql, &walk);
                sql.push_str(if walk.conditions.is_empty() { " WHERE " } else { " AND " });
                self.check(sql, check, &walk.subject)?;
                end_exists(sql, &walk);
            }
            Check::Not(check) => {
                sql.push_str("NOT (");
                self.check(sql, check, x)?;
                sql.push(')');
            }
            Check::Any(all) if all.is_empty() => sql.push_str("false"),
            Check::Any(all) => {
                for (at, check) in all.iter().enumerate() {
                    sql.push_str(if at == 0 { "((" } else { ") OR (" });
                    self.check(sql, check, x)?;
                }
                sql.push_str("))");
            }
            Check::All(all) => self.write_all(sql, all, x)?,
        }
        Ok(())
    }

    fn key(&mut self, key: &'q Key, x: &str, descending: bool) -> Result<String, TablesError> {
        Ok(match key {
            Key::Of { probe, column } => {
                let mut walk = self.walk_of(probe, column, Some(x), (false, None))?;
                walk.and(&format!("{} IS NOT NULL", walk.subject));
                self.dialect.least(&walk, descending)
            }
            Key::Through { probe, subject, key } => {
                let walk = self.walk_of(probe, subject, Some(x), (false, None))?;
                let next = self.key(key, &walk.subject.clone(), descending)?;
                let each = Walk { subject: next, ..walk }.select();
                let (fence, way) = (self.dialect.fence(), way(descending));
                format!(
                    "(SELECT x.s FROM ({each}{fence}) AS x WHERE x.s IS NOT NULL ORDER BY x.s {way} LIMIT 1)"
                )
            }
            Key::First(all) => {
                let each: Result<Vec<String>, TablesError> =
                    all.iter().map(|key| self.key(key, x, descending)).collect();
                format!("COALESCE({}, NULL)", each?.join(", "))
            }
        })
    }

    fn after(&mut self, fitting: &Fitting<'q>) -> String {
        let (query, reversed) = (fitting.query, fitting.query.reversed);
        let Some(after) = &query.after else { return String::new() };
        let mut same = String::new();
        let mut behind: Vec<String> = Vec::new();
        let keys = query.sort.iter().zip(&fitting.keys).zip(after).enumerate();
        for (n, ((sort, ty), value)) in keys {
            let key = format!("q.k{n}");
            if *value == Value::Null {
                // What lacks the key stands at the end: behind it is what lacks it too, and reversed all that have it.
                if reversed {
                    behind.push(format!("({same}{key} IS NOT NULL)"));
                }
                write!(same, "{key} IS NULL AND ").unwrap_or_default();
                continue;
            }
            let operator = if sort.descending == reversed { ">" } else { "<" };
            let value = self.bind(value, *ty);
            let absent = if reversed { String::new() } else { format!("{key} IS NULL OR ") };
            behind.push(format!("({same}({absent}{key} {operator} {value}))"));
            write!(same, "{key} = {value} AND ").unwrap_or_default();
        }
        let Some(subject) = after.last() else { return String::new() };
        let operator = if reversed { "<" } else { ">" };
        let subject = self.bind(subject, fitting.subject);
        behind.push(format!("({same}q.s {operator} {subject})"));
        format!(" WHERE {}", behind.join(" OR "))
    }
}

/// Whether a walk finds a row: a scalar, of which no engine makes a join. More conditions may stand between the two.
fn begin_exists(sql: &mut String, walk: &Walk) {
    sql.push_str("(SELECT 1 FROM ");
    sql.push_str(&walk.rows);
    if !walk.conditions.is_empty() {
        sql.push_str(" WHERE ");
        sql.push_str(&walk.conditions);
    }
}

fn end_exists(sql: &mut String, walk: &Walk) {
    sql.push_str(&walk.order);
    sql.push_str(" LIMIT 1) IS NOT NULL");
}

fn type_of(test: &Test) -> Type {
    match super::values_of(test).first() {
        Some(Value::Bool(_)) => Type::Bool,
        Some(Value::Time(_)) => Type::Time,
        Some(Value::Seq(_)) => Type::Seq,
        Some(Value::Id(_)) => Type::Id,
        Some(Value::Text(_)) => Type::Text,
        Some(Value::Bytes(_)) => Type::Bytes,
        None
        | Some(
            Value::Int(_)
            | Value::Null
            | Value::ThisCommit
            | Value::ThisCommitNth(_)
            | Value::ThisMoment
            | Value::ThisSnapshot,
        ) => Type::Int,
    }
}
