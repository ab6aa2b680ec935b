//! Queries over several tables on SQLite (see [`crate::tables::query`]).

use hilum_core::Seq;
use rusqlite::Connection;

use super::State;
use super::read::engine;
use super::schema::index_name;
use super::value::{as_sql, decode};
use crate::limits;
use crate::tables::query::sql::{self, Dialect, Statement, Walk};
use crate::tables::query::{Found, Query};
use crate::tables::{Table, TablesError, Type, Value};

/// How a query is written for SQLite.
struct Writing;

impl Dialect for Writing {
    fn table(&self, table: &Table) -> String {
        format!("\"{}\"", table.name)
    }

    fn parameter(&self, n: usize, _: Type) -> String {
        format!("?{n}")
    }

    fn hint(&self, table: &Table, index: Option<&str>) -> String {
        index.map_or_else(String::new, |index| format!(" INDEXED BY {}", index_name(table, index)))
    }

    fn order(&self, _: bool, _: &[String]) -> String {
        String::new()
    }

    fn fence(&self) -> &'static str {
        // Two limits are not made one.
        " LIMIT -1"
    }

    fn each(&self, of: &str, from: &str, walk: &Walk) -> String {
        let Walk { subject, rows, conditions, .. } = walk;
        let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {conditions}") };
        // A cross join is run in the order in which it is written.
        format!("SELECT {subject} AS s FROM ({of}) AS {from} CROSS JOIN {rows}{filter}")
    }
}

/// Runs a query's statement.
fn run<T>(
    conn: &Connection,
    statement: &Statement<'_>,
    mut each: impl FnMut(&rusqlite::Row<'_>) -> Result<T, TablesError>,
) -> Result<Vec<T>, TablesError> {
    let mut prepared = conn.prepare_cached(&statement.sql).map_err(engine)?;
    for (at, (value, _)) in statement.params.iter().enumerate() {
        prepared.raw_bind_parameter(at + 1, as_sql(value, Seq(0))).map_err(engine)?;
    }
    let mut rows = prepared.raw_query();
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(engine)? {
        found.push(each(row)?);
    }
    Ok(found)
}

/// The subjects that a query asks for.
pub(super) fn find(state: &State, conn: &Connection, query: &Query) -> Result<Vec<Found>, TablesError> {
    let fitting = state.schema.check_query(query)?;
    let limit = query.limit.min(limits::SCAN_ROWS_MAX);
    let statement = sql::select(&state.schema, &Writing, &fitting, limit)?;
    run(conn, &statement, |row| {
        let mut values = Vec::with_capacity(fitting.keys.len() + 1);
        for (at, ty) in fitting.keys.iter().chain([&fitting.subject]).enumerate() {
            let stored = row.get_ref(at).map_err(engine)?;
            values.push(decode(stored, *ty).ok_or_else(|| TablesError::Shape {
                table: "(query)".to_owned(),
                why: "what is stored is not of its type".to_owned(),
            })?);
        }
        let subject = values.pop().unwrap_or(Value::Null);
        Ok(Found { subject, keys: values })
    })
}

/// How many they are, exact up to `cap`.
pub(super) fn count(state: &State, conn: &Connection, query: &Query, cap: u64) -> Result<u64, TablesError> {
    let fitting = state.schema.check_query(query)?;
    let statement = sql::count(&state.schema, &Writing, &fitting, cap)?;
    let counted = run(conn, &statement, |row| row.get::<_, i64>(0).map_err(engine))?;
    Ok(counted.first().copied().unwrap_or_default().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::query::{Check, Probe, Sort, Source, Term};
    use crate::tables::sqlite::{Options, Place, Source as Conns, Sqlite};
    use crate::tables::{Column, Index};

    static FACT: Table = Table {
        name: "fact",
        key_len: 3,
        columns: &[
            Column::new("kind", Type::Int),
            Column::new("value", Type::Text),
            Column::new("who", Type::Id),
            Column::new("whom", Type::Id),
        ],
        indexes: &[
            Index { name: "by_who", columns: &["kind", "who", "value"] },
            Index { name: "by_whom", columns: &["kind", "whom"] },
        ],
        register: None,
    };

    /// Each table is sought by what is given, in the order that was said; nothing is read whole.
    #[test]
    fn queries_seek_in_the_order_that_is_said() {
        let kind = || Term::Is(Value::Int(1));
        let seven = Probe::by_key("fact", vec![kind(), Term::Is(Value::Text("7".to_owned()))]);
        let walk = || Source::Walk { probe: seven.clone(), subject: "who" };
        let of_one = || Probe::by_index("fact", "by_who", vec![kind(), Term::Subject]);
        let back = || Probe::by_index("fact", "by_whom", vec![kind(), Term::Subject]);
        let has = || Check::Has(of_one());
        let each = Check::Each { probe: back(), subject: "who", check: Box::new(has()) };
        let (driver, one, other) = ("kind=? AND value=?", "kind=? AND who=?", "kind=? AND whom=?");
        let cases = [
            ("one", Query::new(walk()), vec![driver]),
            ("two", Query { checks: vec![has()], ..Query::new(walk()) }, vec![driver, one]),
            ("a chain", Query { checks: vec![each], ..Query::new(walk()) }, vec![driver, other, one]),
            (
                "driven through",
                Query::new(Source::Follow { of: Box::new(walk()), probe: back(), subject: "who" }),
                vec![driver, other],
            ),
            (
                "sorted",
                Query {
                    sort: vec![Sort { probe: of_one(), column: "value", descending: true }],
                    ..Query::new(walk())
                },
                vec![driver, one],
            ),
        ];
        let tables = Sqlite::open(Place::Memory, &[&FACT], Options::default()).expect("opens");
        let state = tables.state();
        let Conns::Shared(conn) = &state.source else { panic!("in memory") };
        let conn = conn.lock().expect("not poisoned");
        for (why, query, want) in cases {
            let fitting = state.schema.check_query(&query).expect(why);
            let statement = sql::select(&state.schema, &Writing, &fitting, 20).expect(why);
            let mut explained = conn.prepare(&format!("EXPLAIN QUERY PLAN {}", statement.sql)).expect(why);
            let mut rows = explained.raw_query();
            let (mut sought, mut plan) = (Vec::new(), Vec::new());
            while let Some(row) = rows.next().expect(why) {
                let line = row.get::<_, String>(3).expect("a text");
                let by = line.strip_prefix("SEARCH p").and_then(|line| line.split_once(" ("));
                sought.extend(by.map(|(_, by)| by.trim_end_matches(')').to_owned()));
                assert!(!line.starts_with("SCAN p"), "{why}: {line}");
                plan.push(line);
            }
            sought.sort();
            let mut want = want;
            want.sort_unstable();
            assert_eq!(sought, want, "{why}: {plan:#?}\n{}", statement.sql);
        }
    }
}
