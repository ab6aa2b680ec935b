//! Queries over several tables on SQLite (see [`crate::tables::query`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hilum_core::Seq;
use rusqlite::{CachedStatement, Connection, StatementStatus};

use super::State;
use super::read::{engine, in_snapshot};
use super::schema::index_name;
use super::value::{as_sql, decode};
use crate::limits;
use crate::tables::query::sql::{self, Dialect, Given, Statement, Walk};
use crate::tables::query::{Answer, Bounds, Found, Query};
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

    fn snapshot(&self) -> Option<&str> {
        // Read beside it, in the same snapshot.
        None
    }

    fn among(&self, _: usize, _: Type) -> Option<String> {
        None
    }

    fn these(&self, _: usize, _: Type) -> Option<String> {
        None
    }

    fn looked_at(&self, column: &str, among: &str) -> String {
        // What stands behind a plus is not sought in an index.
        format!("+{column} {among}")
    }

    fn contains(&self, column: &str, part: &str) -> String {
        format!("instr({column}, {part}) > 0")
    }

    fn hint(&self, table: &Table, index: Option<&str>) -> String {
        index.map_or_else(String::new, |index| format!(" INDEXED BY {}", index_name(table, index)))
    }

    fn orders(&self) -> bool {
        false
    }

    fn order(&self, _: bool, _: &[String]) -> String {
        String::new()
    }

    fn once(&self, _: bool, columns: &[String], _: &[String], descending: bool) -> (String, String) {
        // The index has that order; what is met in order is made distinct by a look at the row before.
        let subject = columns.last().map_or("", String::as_str);
        let way = if descending { "DESC" } else { "ASC" };
        (format!("SELECT DISTINCT {subject}"), format!(" ORDER BY {subject} {way}"))
    }

    fn merged(&self, _: bool, legs: &[(String, String)], descending: bool) -> (String, &'static str) {
        // Each leg is walked in that order, and they are merged; what stands around takes them out as they come.
        let legs: Vec<&str> = legs.iter().map(|(leg, _)| leg.as_str()).collect();
        let way = if descending { "DESC" } else { "ASC" };
        (format!("{} ORDER BY 1 {way}", legs.join(" UNION ")), "")
    }

    fn fence(&self) -> &'static str {
        // Two limits are not made one.
        " LIMIT -1"
    }

    fn least(&self, walk: &Walk, greatest: bool) -> String {
        let way = if greatest { "DESC" } else { "ASC" };
        format!("({} ORDER BY {} {way} LIMIT 1)", walk.select(), walk.subject)
    }

    fn each(&self, of: &str, from: &str, walk: &Walk) -> String {
        let Walk { subject, rows, conditions, .. } = walk;
        let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {conditions}") };
        // A cross join is run in the order in which it is written.
        format!("SELECT {subject} AS s FROM ({of}) AS {from} CROSS JOIN {rows}{filter}")
    }
}

/// A query's statement, ready to run.
fn prepare<'c>(
    conn: &'c Connection,
    statement: &Statement<'_>,
    t: Seq,
) -> Result<CachedStatement<'c>, TablesError> {
    let mut prepared = conn.prepare_cached(&statement.sql).map_err(engine)?;
    let values = statement.params.iter().flat_map(|given| match given {
        Given::One(value) => std::slice::from_ref(*value),
        Given::Many(values) => values,
    });
    for (at, value) in values.enumerate() {
        prepared.raw_bind_parameter(at + 1, as_sql(value, t.into())).map_err(engine)?;
    }
    Ok(prepared)
}

/// Runs a query's statement.
fn run<T>(
    conn: &Connection,
    statement: &Statement<'_>,
    t: Seq,
    mut each: impl FnMut(&rusqlite::Row<'_>) -> Result<T, TablesError>,
) -> Result<Vec<T>, TablesError> {
    let mut prepared = prepare(conn, statement, t)?;
    let mut rows = prepared.raw_query();
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(engine)? {
        found.push(each(row)?);
    }
    Ok(found)
}

/// The newest commit of the snapshot.
fn now(conn: &Connection) -> Result<Seq, TablesError> {
    conn.prepare_cached("SELECT value FROM hilum_state WHERE name = 't'")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map(Seq)
        .map_err(engine)
}

/// The subjects that a query asks for.
pub(super) fn find(state: &State, conn: &Connection, query: &Query) -> Result<Answer, TablesError> {
    let fitting = state.schema.check_query(query)?;
    let limit = query.limit.min(limits::SCAN_ROWS_MAX);
    let statement = sql::select(&state.schema, &Writing, &fitting, limit)?;
    let one = |row: &rusqlite::Row<'_>| {
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
    };
    in_snapshot(conn, || {
        let t = now(conn)?;
        Ok(Answer { t, found: run(conn, &statement, t, one)? })
    })
}

/// What SQLite does to answer, each part behind what it is part of.
pub(super) fn explain(state: &State, conn: &Connection, query: &Query) -> Result<String, TablesError> {
    let fitting = state.schema.check_query(query)?;
    let limit = query.limit.min(limits::SCAN_ROWS_MAX);
    let statement = sql::select(&state.schema, &Writing, &fitting, limit)?;
    let mut lines = Vec::new();
    let (found, steps) = in_snapshot(conn, || {
        let mut prepared = prepare(conn, &statement, now(conn)?)?;
        prepared.reset_status(StatementStatus::VmStep);
        let (mut rows, mut found) = (prepared.raw_query(), 0);
        while rows.next().map_err(engine)?.is_some() {
            found += 1;
        }
        drop(rows);
        Ok((found, prepared.get_status(StatementStatus::VmStep)))
    })?;
    let mut explained = conn.prepare(&format!("EXPLAIN QUERY PLAN {}", statement.sql)).map_err(engine)?;
    let mut rows = explained.raw_query();
    let mut depths: HashMap<i64, usize> = HashMap::new();
    while let Some(row) = rows.next().map_err(engine)? {
        let line = || Ok((row.get(0)?, row.get(1)?, row.get(3)?));
        let (id, parent, what): (i64, i64, String) = line().map_err(engine)?;
        let depth = depths.get(&parent).map_or(0, |depth| depth + 1);
        depths.insert(id, depth);
        lines.push(format!("{}{what}", "  ".repeat(depth)));
    }
    lines.push(format!("{steps} steps, {found} found"));
    Ok(lines.join("\n"))
}

/// How many they are, for each query; absent where more rows would have to be looked at, or nobody waits any more.
pub(super) fn counts(
    state: &State,
    conn: &Connection,
    queries: &[Query],
    bounds: Bounds,
    stop: &Stop,
) -> Result<Vec<Option<u64>>, TablesError> {
    let mut all = Vec::with_capacity(queries.len());
    for query in queries {
        all.push(match count(state, conn, query, bounds) {
            Err(TablesError::Engine(_)) if stop.is_set() => None,
            counted => counted?,
        });
    }
    Ok(all)
}

fn count(
    state: &State,
    conn: &Connection,
    query: &Query,
    bounds: Bounds,
) -> Result<Option<u64>, TablesError> {
    let fitting = state.schema.check_query(query)?;
    let statement = sql::count(&state.schema, &Writing, &fitting, bounds)?;
    let one = |row: &rusqlite::Row<'_>| {
        Ok(sql::counted(bounds, row.get(0).map_err(engine)?, row.get(1).map_err(engine)?))
    };
    let counted = in_snapshot(conn, || run(conn, &statement, now(conn)?, one))?;
    Ok(counted.first().copied().flatten())
}

/// Somebody who waits for a query; gone, the query stops.
#[derive(Debug, Default)]
pub(super) struct Waiting(Stop);

impl Waiting {
    /// What the query looks at.
    pub(super) fn stop(&self) -> Stop {
        self.0.clone()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Whether nobody waits for a query any more.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Reads until it is set.
    pub(super) fn watch<T>(
        &self,
        conn: &mut Connection,
        read: impl FnOnce(&Connection) -> Result<T, TablesError>,
    ) -> Result<T, TablesError> {
        if self.is_set() {
            return Err(TablesError::TooCostly);
        }
        let stop = self.clone();
        conn.progress_handler(limits::QUERY_STEPS_UNWATCHED, Some(move || stop.is_set())).map_err(engine)?;
        let watched = Watched(conn);
        let answer = read(watched.0);
        drop(watched);
        match answer {
            Err(TablesError::Engine(_)) if self.is_set() => Err(TablesError::TooCostly),
            answer => answer,
        }
    }
}

/// A connection that is watched; given back unwatched and outside of any snapshot, also when the read panics, or the next
/// read on it would be stopped.
struct Watched<'c>(&'c mut Connection);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let freed = self.0.progress_handler(0, None::<fn() -> bool>);
        // What ends a snapshot may have been stopped, too.
        let ended = if self.0.is_autocommit() { Ok(()) } else { self.0.execute_batch("ROLLBACK") };
        if let Err(why) = freed.and(ended) {
            tracing::error!(%why, "a reader of the tables stays as a query left it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::query::{Check, Key, Probe, Sort, Source, Term};
    use crate::tables::sqlite::{Options, Place, Source as Conns, Sqlite};
    use crate::tables::{Batch, Column, Index, Write};
    use hilum_core::Id;

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

    /// However a read ends, the next one on its connection is nobody's to stop.
    #[test]
    fn a_connection_is_given_back_unwatched() {
        const LONG: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) \
                            SELECT count(*) FROM n";
        let long = |conn: &Connection| conn.query_row(LONG, [], |row| row.get::<_, i64>(0)).map_err(engine);
        let mut conn = Connection::open_in_memory().expect("opens");
        let waiting = Waiting::default();
        let stop = waiting.stop();
        assert_eq!(stop.watch(&mut conn, long).expect("somebody waits"), 50_000);
        let panics = std::panic::AssertUnwindSafe(|| {
            stop.watch(&mut conn, |conn| -> Result<(), TablesError> {
                conn.execute_batch("BEGIN").map_err(engine)?;
                panic!("in mid read");
            })
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        drop(waiting);
        assert!(conn.is_autocommit(), "a snapshot is left open");
        assert_eq!(long(&conn).expect("nobody stops it"), 50_000);

        let waiting = Waiting::default();
        let stopped = waiting.stop().watch(&mut conn, |conn| {
            drop(waiting);
            long(conn)
        });
        assert!(matches!(stopped, Err(TablesError::TooCostly)), "{stopped:?}");
        assert_eq!(long(&conn).expect("nobody stops it"), 50_000);
    }

    fn whose(n: u64) -> Id {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&n.to_be_bytes());
        Id::from_bytes(bytes)
    }

    /// Of many subjects that are met in their order, a page costs what a page has, wherever it begins.
    #[tokio::test]
    async fn a_page_of_many_stops_at_its_end() {
        const MANY: u64 = 20_000;
        let tables = Sqlite::open(Place::Memory, &[&FACT], Options::default()).expect("opens");
        let put = |n: u64| Write::Put {
            table: "fact",
            values: vec![
                Value::Int(1),
                Value::Text("7".to_owned()),
                Value::Id(whose(n)),
                Value::Id(whose(n)),
            ],
        };
        let writes = (0..MANY).map(put).collect();
        tables.commit(Batch { writes, ..Batch::default() }).await.expect("commits");
        let seven = vec![Term::Is(Value::Int(1)), Term::Is(Value::Text("7".to_owned()))];
        let of_one = Probe::by_index("fact", "by_who", vec![Term::Is(Value::Int(1)), Term::Subject]);
        let query = Query {
            checks: vec![Check::Has(of_one)],
            limit: 20,
            ..Query::new(Source::Walk { probe: Probe::by_key("fact", seven), subject: "who" })
        };
        let middle = Some(vec![Value::Id(whose(MANY / 2))]);
        let both = Term::In(["7", "8"].map(|value| Value::Text(value.to_owned())).to_vec());
        let both = Probe::by_key("fact", vec![Term::Is(Value::Int(1)), both]);
        let two = || Source::Walk { probe: both.clone(), subject: "who" };
        let cases = [
            ("the first page", query.clone(), 0),
            ("the last page", Query { reversed: true, ..query.clone() }, MANY - 1),
            ("a page in the middle", Query { after: middle.clone(), ..query.clone() }, MANY / 2 + 1),
            (
                "the one before",
                Query { after: middle.clone(), reversed: true, ..query.clone() },
                MANY / 2 - 1,
            ),
            ("of two values", Query { from: two(), after: middle, ..query.clone() }, MANY / 2 + 1),
            ("of two, the last page", Query { from: two(), reversed: true, ..query.clone() }, MANY - 1),
        ];
        let state = tables.state();
        let Conns::Shared(conn) = &state.source else { panic!("in memory") };
        let conn = conn.lock().expect("not poisoned");
        for (why, query, first) in cases {
            let Answer { found, .. } = find(state, &conn, &query).expect(why);
            assert_eq!((found.len(), &found[0].subject), (20, &Value::Id(whose(first))), "{why}");
            let fitting = state.schema.check_query(&query).expect(why);
            let statement = sql::select(&state.schema, &Writing, &fitting, query.limit).expect(why);
            let prepared = conn.prepare_cached(&statement.sql).expect(why);
            let steps = prepared.get_status(rusqlite::StatementStatus::VmStep);
            assert!(steps > 0 && steps < 2_000, "{why}: {steps} steps");
        }
    }

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
        let both = "kind=? AND value=? AND who=?";
        let values = || Term::In(["7", "8", "9"].map(|value| Value::Text(value.to_owned())).to_vec());
        let several = Source::Walk { probe: Probe::by_key("fact", vec![kind(), values()]), subject: "who" };
        let first = Check::Has(Probe::by_key("fact", vec![kind(), values(), Term::Subject]));
        let last = Check::Has(Probe::by_index("fact", "by_who", vec![kind(), Term::Subject, values()]));
        let cases = [
            ("one", Query::new(walk()), vec![driver]),
            ("two", Query { checks: vec![has()], ..Query::new(walk()) }, vec![driver, one]),
            (
                "the page before",
                Query { reversed: true, after: Some(vec![Value::Id(whose(7))]), ..Query::new(walk()) },
                vec!["kind=? AND value=? AND who<?"],
            ),
            (
                "one of several",
                Query { from: several.clone(), checks: vec![has()], ..Query::new(walk()) },
                vec![driver, driver, driver, one],
            ),
            (
                "one of several, sorted",
                Query {
                    from: several.clone(),
                    sort: vec![Sort { key: Key::Of { probe: of_one(), column: "value" }, descending: true }],
                    ..Query::new(walk())
                },
                vec![driver, one],
            ),
            (
                "any of them, the page before",
                Query {
                    from: Source::Any(vec![several, walk()]),
                    reversed: true,
                    after: Some(vec![Value::Id(whose(7))]),
                    ..Query::new(walk())
                },
                vec!["kind=? AND value=? AND who<?"; 4],
            ),
            (
                "who has one of several",
                Query { checks: vec![first], ..Query::new(walk()) },
                vec![driver, both],
            ),
            (
                "who, and one of several",
                Query { checks: vec![last], ..Query::new(walk()) },
                vec![driver, one],
            ),
            ("a chain", Query { checks: vec![each], ..Query::new(walk()) }, vec![driver, other, one]),
            (
                "driven through",
                Query::new(Source::Follow { of: Box::new(walk()), probe: back(), subject: "who" }),
                vec![driver, other],
            ),
            (
                "sorted",
                Query {
                    sort: vec![Sort { key: Key::Of { probe: of_one(), column: "value" }, descending: true }],
                    ..Query::new(walk())
                },
                vec![driver, one],
            ),
            (
                "sorted by what they refer to",
                Query {
                    sort: vec![Sort {
                        key: Key::Through {
                            probe: back(),
                            subject: "who",
                            key: Box::new(Key::Of { probe: of_one(), column: "value" }),
                        },
                        descending: true,
                    }],
                    ..Query::new(walk())
                },
                vec![driver, other, one],
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
            let (mut sought, mut plan) = (Vec::new(), Vec::<String>::new());
            while let Some(row) = rows.next().expect(why) {
                let line = row.get::<_, String>(3).expect("a text");
                let by = line.strip_prefix("SEARCH p").and_then(|line| line.split_once(" ("));
                sought.extend(by.map(|(_, by)| by.trim_end_matches(')').to_owned()));
                assert!(!line.starts_with("SCAN p"), "{why}: {line}");
                plan.push(line);
            }
            let gathers = plan.iter().any(|line| line.contains("TEMP B-TREE"));
            assert_eq!(gathers, fitting.legs.is_empty(), "{why}: {plan:#?}\n{}", statement.sql);
            sought.sort();
            let mut want = want;
            want.sort_unstable();
            assert_eq!(sought, want, "{why}: {plan:#?}\n{}", statement.sql);
        }
    }
}
