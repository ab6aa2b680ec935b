//! Statements as text: what is fixed by a table's declaration, and the ranges of a scan. Pure.
//!
//! We plan, PostgreSQL executes: each range is one walk of one index in its order (see [`super::SETTINGS`]).

use super::super::shape::Ordered;
use super::super::{Column, Table, Type, Value};
use super::wire::{Item, Param, THIS_COMMIT, THIS_MOMENT};
use crate::limits;

/// Which batches of the group are refused so far. Computed once per statement; the outer cast makes it an array for
/// `ALL`, not a subquery.
pub(super) const BAD: &str = "(SELECT current_setting('hilum.bad')::int4[])::int4[]";
/// The counter before this group; batch `b` (from 1) commits as `BASE + b`.
pub(super) const BASE: &str = "(SELECT current_setting('hilum.base')::int8)";
/// The moment before this group, in microseconds since 1970; batch `b` (from 1) commits at `MOMENT + b`.
const MOMENT: &str = "(SELECT current_setting('hilum.moment')::int8)";

/// Quotes a name.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The SQL type of a column, with its collation.
pub(super) const fn column_type(ty: Type) -> &'static str {
    match ty {
        Type::Text => "text COLLATE \"C\"",
        other => element_type(other),
    }
}

/// The SQL type of a column as an array's element.
pub(super) const fn element_type(ty: Type) -> &'static str {
    match ty {
        Type::Id => "uuid",
        Type::Text => "text",
        Type::Int | Type::Seq => "int8",
        Type::Bool => "bool",
        Type::Time => "timestamptz",
        Type::Bytes => "bytea",
    }
}

/// Ends a check: `broken` holds the rows that do not hold, with their batch `b`; adds those batches to the refused
/// ones and answers `columns` of `broken`.
pub(super) fn tell(columns: &str) -> String {
    // `told` is evaluated only together with a row of `broken`: without one nothing changes.
    format!(
        "told AS MATERIALIZED (SELECT set_config('hilum.bad', (SELECT coalesce(array_agg(b), '{{}}')::text FROM \
         (SELECT unnest({BAD}) AS b UNION SELECT b FROM broken) AS all_bad), true)) \
         SELECT {columns} FROM broken CROSS JOIN told"
    )
}

/// A table with the statements that its declaration fixes.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) table: &'static Table,
    /// Schema and name, quoted.
    pub(super) name: String,
    /// All declared columns of `r` and `t_`.
    columns: String,
    pub(super) get: String,
    pub(super) expect: String,
    pub(super) put: String,
    pub(super) put_if_newer: Option<String>,
    pub(super) delete: String,
}

impl Planned {
    pub(super) fn new(schema: &str, table: &'static Table) -> Self {
        let name = format!("{}.{}", quote(schema), quote(table.name));
        let keys: Vec<&Column> = table.columns.iter().take(table.key_len).collect();
        let all: Vec<&Column> = table.columns.iter().collect();
        let columns = list(&all, |c| format!("r.{}", quote(c.name))) + ", r.t_";
        let same_key = |other: &str| same_key(&keys, other);
        let key_names = list(&keys, |c| quote(c.name));

        let get = format!(
            "SELECT e.n_, {columns} FROM {} JOIN {name} AS r ON {}",
            unnest("e", &["int4 n_"], &keys),
            same_key("e"),
        );
        let expect = format!(
            "WITH broken AS MATERIALIZED (SELECT e.b_ AS b, e.n_ AS n FROM {} LEFT JOIN {name} AS r ON {} \
             WHERE r.t_ IS DISTINCT FROM e.expected_), {}",
            unnest("e", &["int4 b_", "int4 n_", "int8 expected_"], &keys),
            same_key("e"),
            tell("b, n"),
        );

        let given = list(&all, given);
        let set = list(&all, |c| format!("{0} = excluded.{0}", quote(c.name)));
        let insert = |distinct: &str, order: &str, only: &str| {
            format!(
                "INSERT INTO {name} AS r ({}, t_) SELECT {distinct}{given}, {BASE} + u.b_ FROM {} \
                 WHERE u.b_ <> ALL ({BAD}){order} ON CONFLICT ({key_names}) \
                 DO UPDATE SET {set}, t_ = excluded.t_{only}",
                list(&all, |c| quote(c.name)),
                unnest("u", &["int4 b_"], &all),
            )
        };
        let put = insert("", "", "");
        let put_if_newer = table.register.map(|register| {
            let (register, of_u) = (quote(register), list(&keys, |c| format!("u.{}", quote(c.name))));
            insert(
                &format!("DISTINCT ON ({of_u}) "),
                &format!(" ORDER BY {of_u}, u.{register} DESC, u.b_"),
                &format!(" WHERE excluded.{register} > r.{register}"),
            )
        });
        let delete = format!(
            "DELETE FROM {name} AS r USING {} WHERE {} AND u.b_ <> ALL ({BAD})",
            unnest("u", &["int4 b_"], &keys),
            same_key("u"),
        );
        Self { table, name, columns, get, expect, put, put_if_newer, delete }
    }

    /// Sets the columns of `changed` (a bit for each) where the row is there: the batches, then arrays of the key's columns,
    /// then of these.
    pub(super) fn set(&self, changed: u64) -> String {
        let keys: Vec<&Column> = self.table.columns.iter().take(self.table.key_len).collect();
        let new = self.table.columns.iter().enumerate().filter(|(at, _)| changed & (1 << at) != 0);
        let new: Vec<&Column> = new.map(|(_, column)| column).collect();
        let all: Vec<&Column> = keys.iter().chain(&new).copied().collect();
        format!(
            "UPDATE {} AS r SET {}, t_ = {BASE} + u.b_ FROM {} WHERE {} AND u.b_ <> ALL ({BAD})",
            self.name,
            list(&new, |c| format!("{} = {}", quote(c.name), given(c))),
            unnest("u", &["int4 b_"], &all),
            same_key(&keys, "u"),
        )
    }
}

/// What a column is given by `u`: what stands for the commit is resolved.
fn given(c: &Column) -> String {
    let column = quote(c.name);
    if c.ty == Type::Seq {
        format!("CASE WHEN u.{column} = '{THIS_COMMIT}'::int8 THEN {BASE} + u.b_ ELSE u.{column} END")
    } else if c.ty == Type::Int {
        let (begin, last, bits) =
            (limits::NTH_BEGIN, limits::NTH_BEGIN + i64::from(limits::NTH_END) - 1, limits::NTH_BITS);
        format!(
            "CASE WHEN u.{column} BETWEEN '{begin}'::int8 AND '{last}'::int8 THEN (({BASE} + u.b_) << {bits}) \
             + (u.{column} - '{begin}'::int8) ELSE u.{column} END"
        )
    } else if c.ty == Type::Time {
        format!(
            "CASE WHEN u.{column} = '{THIS_MOMENT}'::timestamptz THEN 'epoch'::timestamptz \
             + ({MOMENT} + u.b_) * '1 microsecond'::interval ELSE u.{column} END"
        )
    } else {
        format!("u.{column}")
    }
}

fn same_key(keys: &[&Column], other: &str) -> String {
    let each: Vec<String> = keys.iter().map(|c| format!("r.{0} = {other}.{0}", quote(c.name))).collect();
    each.join(" AND ")
}

fn list(columns: &[&Column], each: impl Fn(&Column) -> String) -> String {
    columns.iter().map(|column| each(column)).collect::<Vec<_>>().join(", ")
}

/// `unnest($1::…[], …) AS alias(…)`: first the engine's own columns (`type name`), then the table's.
fn unnest(alias: &str, own: &[&str], columns: &[&Column]) -> String {
    let own: Vec<(String, String)> = own
        .iter()
        .filter_map(|each| each.split_once(' '))
        .map(|(ty, name)| (ty.to_owned(), name.to_owned()))
        .collect();
    let table = columns.iter().map(|c| (element_type(c.ty).to_owned(), quote(c.name)));
    let (arrays, names): (Vec<String>, Vec<String>) = own
        .into_iter()
        .chain(table)
        .enumerate()
        .map(|(at, (ty, name))| (format!("${}::{ty}[]", at + 1), name))
        .unzip();
    format!("unnest({}) AS {alias}({})", arrays.join(", "), names.join(", "))
}

/// One bound of a range's rows.
#[derive(Debug, Clone, PartialEq)]
struct Condition<'a> {
    column: usize,
    test: Test<'a>,
}

#[derive(Debug, Clone, PartialEq)]
enum Test<'a> {
    Is(&'a Value),
    Above(&'a Value),
    AtLeast(&'a Value),
    Below(&'a Value),
    Present,
}

/// Rows that stand side by side in the index.
type Segment<'a> = Vec<Condition<'a>>;

/// A scan, checked, as disjoint segments in the order of the answer.
pub(super) struct Ranges<'a> {
    planned: &'a Planned,
    /// The columns that order the answer: the index's, then the key columns that it lacks.
    order: &'a [usize],
    /// Whether the walk is along the key itself.
    by_key: bool,
    descending: bool,
    segments: Vec<Segment<'a>>,
}

/// Cuts a scan into ranges.
pub(super) fn ranges<'a>(planned: &'a Planned, ordered: &'a Ordered<'a>) -> Ranges<'a> {
    let Ordered { table, columns, prefix, after, scan } = ordered;
    let column = |at: usize| -> Option<(usize, &'static Column)> {
        let column = *columns.get(at)?;
        Some((column, table.columns.get(column)?))
    };
    let answer = |segments| Ranges {
        planned,
        order: columns,
        by_key: scan.index.is_none(),
        descending: scan.descending,
        segments,
    };
    let base: Segment<'a> = columns
        .iter()
        .zip(prefix.iter())
        .map(|(column, value)| Condition { column: *column, test: Test::Is(value) })
        .collect();
    let first = prefix.len(); // place of the column that the bounds are on
    let mut whole = base.clone(); // the range without its `after`
    if let Some((column, _)) = column(first) {
        whole.extend(scan.from.iter().map(|from| Condition { column, test: Test::AtLeast(from) }));
        whole.extend(scan.to.iter().map(|to| Condition { column, test: Test::Below(to) }));
    }
    let Some(cursor) = after else { return answer(vec![whole]) };
    let Some(&at_first) = cursor.get(first) else { return answer(Vec::new()) };

    let bounded = scan.from.is_some() || scan.to.is_some();
    let below =
        (bounded && *at_first == Value::Null) || scan.from.as_ref().is_some_and(|from| at_first < from);
    let above = scan.to.as_ref().is_some_and(|to| at_first >= to);
    if (below && !scan.descending) || (above && scan.descending) {
        return answer(vec![whole]); // the walk has not come to the range yet
    }
    if below || above {
        return answer(Vec::new()); // it is behind it
    }
    let mut segments: Vec<Segment<'a>> = Vec::new();
    // Deepest first: what shares most columns with the cursor stands nearest to it.
    for depth in (first..cursor.len()).rev() {
        let (Some((column, declared)), Some(&value)) = (column(depth), cursor.get(depth)) else { continue };
        let shared = columns.iter().zip(cursor).take(depth).skip(first);
        let mut outer = base.clone();
        outer.extend(shared.map(|(column, value)| Condition { column: *column, test: Test::Is(value) }));
        let end =
            |bound: Option<Test<'a>>| bound.filter(|_| depth == first).map(|test| Condition { column, test });
        let mut push = |test: Test<'a>, end: Option<Condition<'a>>| {
            let mut segment = outer.clone();
            segment.push(Condition { column, test });
            segment.extend(end);
            segments.push(segment);
        };
        match (scan.descending, *value == Value::Null) {
            (false, true) => push(Test::Present, end(scan.to.as_ref().map(Test::Below))),
            (false, false) => push(Test::Above(value), end(scan.to.as_ref().map(Test::Below))),
            (true, true) => {} // nothing stands before an absent value
            (true, false) => {
                push(Test::Below(value), end(scan.from.as_ref().map(Test::AtLeast)));
                if declared.optional && !(bounded && depth == first) {
                    push(Test::Is(&Value::Null), None);
                }
            }
        }
    }
    answer(segments)
}

impl<'a> Ranges<'a> {
    /// Whose rows they are.
    pub(super) fn planned(&self) -> &'a Planned {
        self.planned
    }

    /// Whether no row can be in it.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The statement that answers the rows, and its parameters.
    pub(super) fn select(&self, limit: u32) -> (String, Vec<Param<'a>>) {
        self.statement(&self.planned.columns, true, i64::from(limit.min(limits::SCAN_ROWS_MAX)))
    }

    /// The statement that answers several scans that differ in their values alone, each row behind its scan's place: `$1` is
    /// their limit, `$2` an array of their places, then one of each value. Absent for a scan of several segments.
    pub(super) fn select_alike(&self) -> Option<(String, &'a Planned)> {
        let [segment] = self.segments.as_slice() else { return None };
        let (mut names, mut arrays) = (vec!["n_".to_owned()], vec!["$2::int4[]".to_owned()]);
        let tests = self.tests(segment, |_, ty| {
            arrays.push(format!("${}::{ty}[]", arrays.len() + 2));
            names.push(format!("v{}", names.len()));
            format!("e.v{}", names.len() - 1)
        });
        let filter = if tests.is_empty() { String::new() } else { format!(" WHERE {tests}") };
        // Each scan is a walk of its own in the index's order, as it is alone: a nested loop keeps that, which is the only join
        // that our settings leave.
        let sql = format!(
            "SELECT e.n_, s.* FROM unnest({}) AS e({}) CROSS JOIN LATERAL \
             (SELECT {} FROM {} AS r{filter}{} LIMIT $1::int8) AS s",
            arrays.join(", "),
            names.join(", "),
            self.planned.columns,
            self.planned.name,
            self.order_by(),
        );
        Some((sql, self.planned))
    }

    /// The statement that counts the rows up to `cap`, and its parameters.
    pub(super) fn count(&self, cap: u64) -> (String, Vec<Param<'a>>) {
        let (inner, params) = self.statement("1", false, i64::try_from(cap).unwrap_or(i64::MAX));
        (format!("SELECT count(*) FROM ({inner}) AS counted"), params)
    }

    fn statement(&self, columns: &str, ordered: bool, limit: i64) -> (String, Vec<Param<'a>>) {
        let mut params: Vec<Param<'a>> = vec![Param::One(Item::Int8(limit))];
        let order = if ordered { self.order_by() } else { String::new() };
        let parts: Vec<String> = self
            .segments
            .iter()
            .map(|segment| {
                let tests = self.conditions(segment, &mut params);
                let filter = if tests.is_empty() { String::new() } else { format!(" WHERE {tests}") };
                format!("SELECT {columns} FROM {} AS r{filter}{order} LIMIT $1::int8", self.planned.name)
            })
            .collect();
        match parts.as_slice() {
            [one] => (one.clone(), params),
            // An append node runs its parts one after the other and stops at the limit.
            many => (format!("({}) LIMIT $1::int8", many.join(") UNION ALL (")), params),
        }
    }

    fn conditions(&self, segment: &Segment<'a>, params: &mut Vec<Param<'a>>) -> String {
        self.tests(segment, |value, ty| {
            params.push(Param::One(Item::from(value)));
            format!("${}::{ty}", params.len())
        })
    }

    /// What a row of a segment is held to; `value` says where a value of a type stands.
    fn tests(
        &self,
        segment: &Segment<'a>,
        mut value: impl FnMut(&'a Value, &'static str) -> String,
    ) -> String {
        let mut sql = String::new();
        for Condition { column, test } in segment {
            let Some(declared) = self.planned.table.columns.get(*column) else { continue };
            if !sql.is_empty() {
                sql.push_str(" AND ");
            }
            let (operator, given) = match test {
                Test::Is(Value::Null) => (" IS NULL", None),
                Test::Present => (" IS NOT NULL", None),
                Test::Is(value) => (" = ", Some(*value)),
                Test::Above(value) => (" > ", Some(*value)),
                Test::AtLeast(value) => (" >= ", Some(*value)),
                Test::Below(value) => (" < ", Some(*value)),
            };
            sql.push_str("r.");
            sql.push_str(&quote(declared.name));
            sql.push_str(operator);
            if let Some(given) = given {
                sql.push_str(&value(given, element_type(declared.ty)));
            }
        }
        sql
    }

    /// The index's own order, so that no sort stands in the plan: the key's index has PostgreSQL's default order,
    /// ours put absent values first.
    fn order_by(&self) -> String {
        let way = match (self.by_key, self.descending) {
            (true, false) => "ASC",
            (true, true) => "DESC",
            (false, false) => "ASC NULLS FIRST",
            (false, true) => "DESC NULLS LAST",
        };
        let columns: Vec<String> = self
            .order
            .iter()
            .filter_map(|at| self.planned.table.columns.get(*at))
            .map(|column| format!("r.{} {way}", quote(column.name)))
            .collect();
        format!(" ORDER BY {}", columns.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::shape::Schema;
    use super::super::super::{Index, Scan};
    use super::*;

    static PLACE: Table = Table {
        name: "place",
        key_len: 1,
        columns: &[
            Column::new("id", Type::Int),
            Column::new("unit", Type::Text),
            Column::optional("bed", Type::Text),
            Column::new("from_t", Type::Seq),
        ],
        indexes: &[Index { name: "by_place", columns: &["unit", "bed"] }],
        register: None,
    };

    fn filters(scan: &Scan) -> Vec<String> {
        let schema = Schema::new(&[&PLACE]).expect("a declaration that fits");
        let planned = Planned::new("s", &PLACE);
        let ordered = schema.check_scan(scan).expect("a scan that fits");
        let ranges = ranges(&planned, &ordered);
        ranges.segments.iter().map(|segment| ranges.conditions(segment, &mut Vec::new())).collect()
    }

    fn text(raw: &str) -> Value {
        Value::Text(raw.to_owned())
    }

    #[test]
    fn a_cursor_cuts_the_range_at_each_column() {
        let all = Scan::by_index("place", "by_place", vec![]);
        let bed = |bed: Value| Some(vec![text("3W"), bed, Value::Int(7)]);
        let unit = "r.\"unit\" = $1::text";
        let cases = [
            ("no cursor", all.clone(), vec![String::new()]),
            (
                "ascending behind a bed",
                Scan { after: bed(text("B")), ..all.clone() },
                vec![
                    format!("{unit} AND r.\"bed\" = $2::text AND r.\"id\" > $3::int8"),
                    format!("{unit} AND r.\"bed\" > $2::text"),
                    "r.\"unit\" > $1::text".to_owned(),
                ],
            ),
            (
                "ascending behind an absent bed: all that have one follow",
                Scan { after: bed(Value::Null), ..all.clone() },
                vec![
                    format!("{unit} AND r.\"bed\" IS NULL AND r.\"id\" > $2::int8"),
                    format!("{unit} AND r.\"bed\" IS NOT NULL"),
                    "r.\"unit\" > $1::text".to_owned(),
                ],
            ),
            (
                "descending: absent beds come last",
                Scan { after: bed(text("B")), descending: true, ..all.clone() },
                vec![
                    format!("{unit} AND r.\"bed\" = $2::text AND r.\"id\" < $3::int8"),
                    format!("{unit} AND r.\"bed\" < $2::text"),
                    format!("{unit} AND r.\"bed\" IS NULL"),
                    "r.\"unit\" < $1::text".to_owned(),
                ],
            ),
            (
                "descending behind the last: nothing follows in its unit",
                Scan { after: bed(Value::Null), descending: true, prefix: vec![text("3W")], ..all.clone() },
                vec![format!("{unit} AND r.\"bed\" IS NULL AND r.\"id\" < $2::int8")],
            ),
            (
                "a cursor before the range",
                Scan { after: bed(text("B")), from: Some(text("4A")), ..all.clone() },
                vec!["r.\"unit\" >= $1::text".to_owned()],
            ),
            (
                "a cursor behind the range",
                Scan { after: bed(text("B")), to: Some(text("3A")), ..all.clone() },
                vec![],
            ),
            (
                "a cursor in the range keeps its end",
                Scan {
                    prefix: vec![text("3W")],
                    after: bed(text("B")),
                    from: Some(text("A")),
                    to: Some(text("C")),
                    ..all
                },
                vec![
                    format!("{unit} AND r.\"bed\" = $2::text AND r.\"id\" > $3::int8"),
                    format!("{unit} AND r.\"bed\" > $2::text AND r.\"bed\" < $3::text"),
                ],
            ),
        ];
        for (why, scan, want) in cases {
            assert_eq!(filters(&scan), want, "{why}");
        }
    }
}
