//! Gets, scans, counts, the outbox and offsets.

use bytes::Bytes;
use hilum_core::{Epoch, Id, RecordId, Seq, Stream};
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::State;
use super::schema::{TableSql, index_name};
use super::value::{Stamp, as_sql, decode, sql_least};
use crate::limits;
use crate::tables::shape::Ordered;
use crate::tables::{Applied, Change, Read, Row, Scan, Table, TablesError, Value};

// By value, for `map_err`.
#[allow(clippy::needless_pass_by_value)]
pub(super) fn engine(why: rusqlite::Error) -> TablesError {
    TablesError::Engine(why.to_string())
}

/// Runs `read` in one snapshot.
pub(super) fn in_snapshot<T>(
    conn: &Connection,
    read: impl FnOnce() -> Result<T, TablesError>,
) -> Result<T, TablesError> {
    let run = |sql: &str| conn.prepare_cached(sql).and_then(|mut s| s.execute([])).map_err(engine);
    run("BEGIN")?;
    let answer = read();
    run("COMMIT")?;
    answer
}

/// Answers all reads from one snapshot.
pub(super) fn all(state: &State, conn: &Connection, reads: &[Read]) -> Result<Vec<Vec<Row>>, TablesError> {
    let one = |read: &Read| match read {
        Read::Get { table, key } => {
            state.schema.check_get(table, key)?;
            let at = state.schema.at(table)?;
            get(conn, state.schema.tables()[at], &state.sql[at], key).map(|row| row.into_iter().collect())
        }
        Read::Scan(asked) => scan(state, conn, asked),
    };
    match reads {
        [] => Ok(Vec::new()),
        [Read::Get { .. }] => reads.iter().map(one).collect(),
        _ => in_snapshot(conn, || reads.iter().map(one).collect()),
    }
}

fn get(conn: &Connection, table: &Table, sql: &TableSql, key: &[Value]) -> Result<Option<Row>, TablesError> {
    let mut statement = conn.prepare_cached(&sql.get).map_err(engine)?;
    for (at, value) in key.iter().enumerate() {
        statement.raw_bind_parameter(at + 1, as_sql(value, Stamp::default())).map_err(engine)?;
    }
    let mut rows = statement.raw_query();
    let row = rows.next().map_err(engine)?;
    row.map(|row| decode_row(table, row)).transpose()
}

fn decode_row(table: &Table, row: &rusqlite::Row<'_>) -> Result<Row, TablesError> {
    let mut values = Vec::with_capacity(table.columns.len());
    for (at, column) in table.columns.iter().enumerate() {
        let stored = row.get_ref(at).map_err(engine)?;
        values.push(decode(stored, column.ty).ok_or_else(|| TablesError::Shape {
            table: table.name.to_owned(),
            why: format!("column {}: what is stored is not of its type", column.name),
        })?);
    }
    Ok(Row { values, t: Seq(row.get(table.columns.len()).map_err(engine)?) })
}

/// One range of an index: the first columns are fixed, the next one is bounded, the rest is free.
struct Range<'a> {
    condition: String,
    params: Vec<&'a Value>,
    /// How many of the first columns are fixed.
    fixed: usize,
}

impl<'a> Range<'a> {
    fn and(&mut self, condition: &str) {
        if !self.condition.is_empty() {
            self.condition += " AND ";
        }
        self.condition += condition;
    }

    fn and_value(&mut self, column: &str, operator: &str, value: &'a Value) {
        self.and(&format!("\"{column}\" {operator} ?"));
        self.params.push(value);
    }

    /// Fixes the first columns.
    fn of(ordered: &Ordered<'a>, fixed: &[&'a Value]) -> Self {
        let mut range = Self { condition: String::new(), params: Vec::new(), fixed: fixed.len() };
        for (at, value) in fixed.iter().enumerate() {
            let column = name(ordered, at);
            if matches!(value, Value::Null) {
                range.and(&format!("\"{column}\" IS NULL"));
            } else {
                range.and_value(column, "=", value);
            }
        }
        let bounded = ordered.prefix.len();
        if let Some(from) = &ordered.scan.from {
            range.and_value(name(ordered, bounded), ">=", from);
        }
        if let Some(to) = &ordered.scan.to {
            range.and_value(name(ordered, bounded), "<", to);
        }
        range
    }
}

fn name(ordered: &Ordered<'_>, at: usize) -> &'static str {
    ordered.table.columns[ordered.columns[at]].name
}

/// The ranges whose rows, one range after the other, are those of the scan in its order.
///
/// Without `after` it is one. Behind a row `(a, b, c)` come first those with the same `a, b` and a greater `c`, then
/// those with the same `a` and a greater `b`, and so on: each is one seek in the index, also where values are absent,
/// while the one condition that says it all would be no seek.
fn ranges<'a>(ordered: &Ordered<'a>) -> Vec<Range<'a>> {
    let prefix: Vec<&Value> = ordered.prefix.iter().collect();
    let Some(after) = &ordered.after else {
        return vec![Range::of(ordered, &prefix)];
    };
    let mut ranges = Vec::new();
    for at in (prefix.len()..ordered.columns.len()).rev() {
        let column = &ordered.table.columns[ordered.columns[at]];
        let bounded = at == prefix.len() && (ordered.scan.from.is_some() || ordered.scan.to.is_some());
        let mut range = Range::of(ordered, &after[..at]);
        match (after[at], ordered.scan.descending) {
            (Value::Null, false) => range.and(&format!("\"{}\" >= {}", column.name, sql_least(column.ty))),
            (Value::Null, true) => continue, // nothing is less than absent
            (value, false) => range.and_value(column.name, ">", value),
            (value, true) => range.and_value(column.name, "<", value),
        }
        ranges.push(range);
        if ordered.scan.descending && column.optional && !bounded {
            let mut absent = Range::of(ordered, &after[..at]);
            absent.and(&format!("\"{}\" IS NULL", column.name));
            ranges.push(absent);
        }
    }
    ranges
}

/// `FROM … WHERE …` of one range.
fn from_where(ordered: &Ordered<'_>, range: &Range<'_>) -> String {
    let indexed = ordered
        .scan
        .index
        .map_or_else(String::new, |index| format!(" INDEXED BY {}", index_name(ordered.table, index)));
    let mut text = format!(" FROM \"{}\"{indexed}", ordered.table.name);
    if !range.condition.is_empty() {
        text += " WHERE ";
        text += &range.condition;
    }
    text
}

fn select(ordered: &Ordered<'_>, sql: &TableSql, range: &Range<'_>) -> String {
    let direction = if ordered.scan.descending { " DESC" } else { "" };
    let order: Vec<String> = (range.fixed..ordered.columns.len())
        .map(|at| format!("\"{}\"{direction}", name(ordered, at)))
        .collect();
    let order = if order.is_empty() { String::new() } else { format!(" ORDER BY {}", order.join(", ")) };
    format!("SELECT {}{}{order} LIMIT ?", sql.columns, from_where(ordered, range))
}

fn scan(state: &State, conn: &Connection, scan: &Scan) -> Result<Vec<Row>, TablesError> {
    let ordered = state.schema.check_scan(scan)?;
    let sql = &state.sql[state.schema.at(scan.table)?];
    let limit = scan.limit.min(limits::SCAN_ROWS_MAX) as usize;
    let mut found = Vec::new();
    for range in ranges(&ordered) {
        if found.len() >= limit {
            break;
        }
        let mut statement = conn.prepare_cached(&select(&ordered, sql, &range)).map_err(engine)?;
        bind(&mut statement, &range.params, (limit - found.len()) as i64)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(engine)? {
            found.push(decode_row(ordered.table, row)?);
        }
    }
    Ok(found)
}

fn bind(statement: &mut rusqlite::Statement<'_>, values: &[&Value], limit: i64) -> Result<(), TablesError> {
    for (at, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(at + 1, as_sql(value, Stamp::default())).map_err(engine)?;
    }
    statement.raw_bind_parameter(values.len() + 1, limit).map_err(engine)
}

/// How many rows the scan has, exact up to `cap`.
pub(super) fn count(state: &State, conn: &Connection, scan: &Scan, cap: u64) -> Result<u64, TablesError> {
    let ordered = state.schema.check_scan(scan)?;
    in_snapshot(conn, || {
        let mut found = 0;
        for range in ranges(&ordered) {
            if found >= cap {
                break;
            }
            let text = format!("SELECT count(*) FROM (SELECT 1{} LIMIT ?)", from_where(&ordered, &range));
            let mut statement = conn.prepare_cached(&text).map_err(engine)?;
            bind(&mut statement, &range.params, i64::try_from(cap - found).unwrap_or(i64::MAX))?;
            let mut rows = statement.raw_query();
            if let Some(row) = rows.next().map_err(engine)? {
                found += row.get::<_, i64>(0).map_err(engine)?.unsigned_abs();
            }
        }
        Ok(found)
    })
}

/// Outbox entries behind `after`: whole commits, at least one, then up to `limit`.
pub(super) fn changes(conn: &Connection, after: Seq, limit: u32) -> Result<Vec<Change>, TablesError> {
    in_snapshot(conn, || {
        let floor: i64 = conn
            .prepare_cached("SELECT value FROM hilum_state WHERE name = 'outbox_floor'")
            .and_then(|mut s| s.query_row([], |row| row.get(0)))
            .map_err(engine)?;
        if after.0.saturating_add(1) < floor {
            return Err(TablesError::Pruned { oldest: Seq(floor) });
        }
        let mut statement = conn
            .prepare_cached("SELECT t, n, topic, key, body FROM hilum_outbox WHERE t > ?1 ORDER BY t, n")
            .map_err(engine)?;
        let mut rows = statement.query([after.0]).map_err(engine)?;
        let mut found: Vec<Change> = Vec::new();
        // Where the newest commit among `found` begins.
        let mut commit = 0;
        while let Some(row) = rows.next().map_err(engine)? {
            let change = decode_change(row).map_err(engine)?;
            // A damaged tree may lead in a circle.
            if found.last().is_some_and(|last| (last.t, last.n) >= (change.t, change.n)) || change.t <= after
            {
                return Err(TablesError::Engine(
                    "the outbox is damaged: its entries are out of order".to_owned(),
                ));
            }
            if found.last().is_some_and(|last| last.t != change.t) {
                if found.len() >= limit as usize {
                    break;
                }
                commit = found.len();
            }
            found.push(change);
            if found.len() > limit as usize && commit > 0 {
                found.truncate(commit);
                break;
            }
        }
        Ok(found)
    })
}

fn decode_change(row: &rusqlite::Row<'_>) -> rusqlite::Result<Change> {
    Ok(Change {
        t: Seq(row.get(0)?),
        n: row.get(1)?,
        topic: row.get(2)?,
        key: Id::from_bytes(row.get(3)?),
        body: Bytes::from(row.get::<_, Vec<u8>>(4)?),
    })
}

/// A stored offset row: epoch, next offset, last record.
pub(super) type OffsetRow = (String, i64, Option<[u8; 16]>);

/// The offset row of one partition.
pub(super) fn offset_row(
    conn: &Connection,
    projection: &str,
    stream: Stream,
    partition: u16,
) -> rusqlite::Result<Option<OffsetRow>> {
    conn.prepare_cached(
        "SELECT epoch, next, last FROM hilum_offset WHERE projection = ?1 AND stream = ?2 AND partition = ?3",
    )?
    .query_row(params![projection, stream.as_str(), partition], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })
    .optional()
}

/// How far a projection is, 0 at first.
pub(super) fn applied(
    conn: &Connection,
    projection: &str,
    stream: Stream,
    partition: u16,
    epoch: Epoch,
) -> Result<Applied, TablesError> {
    match offset_row(conn, projection, stream, partition).map_err(engine)? {
        None => Ok(Applied::default()),
        Some((stored, next, last)) => {
            same_epoch(&stored, epoch)?;
            let last = last.map(|bytes| RecordId::from_uuid(Uuid::from_bytes(bytes)));
            Ok(Applied { next: next.unsigned_abs(), last })
        }
    }
}

/// Refuses an offset row of another log.
pub(super) fn same_epoch(stored: &str, given: Epoch) -> Result<(), TablesError> {
    let stored =
        Uuid::try_parse(stored).map_err(|_| TablesError::Engine("an offset row has no epoch".to_owned()))?;
    if stored == given.0 { Ok(()) } else { Err(TablesError::OtherLog { stored: Epoch(stored), given }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::sqlite::{Options, Place, Source, Sqlite};
    use crate::tables::{Column, Index, Type};

    const COLUMNS: &[Column] = &[
        Column::new("a", Type::Text),
        Column::new("b", Type::Int),
        Column::optional("c", Type::Text),
        Column::optional("d", Type::Time),
    ];
    const INDEXES: &[Index] =
        &[Index { name: "by_c_d", columns: &["c", "d"] }, Index { name: "by_a_d", columns: &["a", "d"] }];
    static SMALL: Table =
        Table { name: "small", key_len: 2, columns: COLUMNS, indexes: INDEXES, register: None };
    static LARGE: Table = Table {
        name: "large",
        key_len: 2,
        columns: &[
            COLUMNS[0],
            COLUMNS[1],
            COLUMNS[2],
            COLUMNS[3],
            Column::new("e", Type::Bytes),
            Column::new("f", Type::Bytes),
        ],
        indexes: INDEXES,
        register: None,
    };

    fn text(raw: &str) -> Value {
        Value::Text(raw.to_owned())
    }

    /// Every scan walks one index in its order: no row is sorted, none is looked at to be thrown away.
    #[test]
    fn scans_are_walks_in_an_index() {
        let time = |micros| Value::Time(hilum_core::Timestamp::from_micros(micros));
        let by_c = |prefix| Scan::by_index("", "by_c_d", prefix);
        let by_key = |prefix| Scan::by_key("", prefix);
        let key = || vec![text("x"), Value::Int(1)];
        let after = |mut index: Vec<Value>| {
            index.extend(key());
            Some(index)
        };
        // What of the conditions the index seeks by; the rest of a condition would be a filter.
        let cases = [
            ("all by key", by_key(vec![]), ""),
            ("prefix of the key", by_key(vec![text("x")]), "a=?"),
            (
                "bounds in the key",
                Scan { from: Some(Value::Int(1)), to: Some(Value::Int(9)), ..by_key(vec![text("x")]) },
                "a=? AND b>? AND b<?",
            ),
            ("behind a key", Scan { after: after(vec![]), ..by_key(vec![text("x")]) }, "a=? AND b>?"),
            ("all by index", by_c(vec![]), ""),
            ("prefix", by_c(vec![text("x")]), "c=?"),
            ("absent prefix", by_c(vec![Value::Null]), "c=?"),
            ("bounds", Scan { from: Some(time(1)), ..by_c(vec![Value::Null]) }, "c=? AND d>?"),
            (
                "behind a row",
                Scan { after: after(vec![text("x"), time(1)]), ..by_c(vec![]) },
                "c=? AND d=? AND a=? AND b>? | c=? AND d=? AND a>? | c=? AND d>? | c>?",
            ),
            (
                "behind a row that lacks both",
                Scan { after: after(vec![Value::Null, Value::Null]), ..by_c(vec![]) },
                "c=? AND d=? AND a=? AND b>? | c=? AND d=? AND a>? | c=? AND d>? | c>?",
            ),
            (
                "behind a row, descending",
                Scan { after: after(vec![text("x"), time(1)]), descending: true, ..by_c(vec![]) },
                "c=? AND d=? AND a=? AND b<? | c=? AND d=? AND a<? | c=? AND d<? | c=? AND d=? | c<? | c=?",
            ),
            (
                "an index that holds a key column",
                Scan {
                    after: after(vec![text("x"), time(1)]),
                    ..Scan::by_index("", "by_a_d", vec![text("x")])
                },
                "a=? AND d=? AND b>? | a=? AND d>?",
            ),
        ];
        let tables = Sqlite::open(Place::Memory, &[&SMALL, &LARGE], Options::default()).expect("opens");
        let state = tables.state();
        let Source::Shared(conn) = &state.source else { panic!("in memory") };
        let conn = conn.lock().expect("not poisoned");
        for table in [&SMALL, &LARGE] {
            for (why, scan, want) in &cases {
                let scan = Scan { table: table.name, ..scan.clone() };
                let ordered = state.schema.check_scan(&scan).expect(why);
                let sql = &state.sql[state.schema.at(table.name).expect("declared")];
                let mut sought = Vec::new();
                for range in ranges(&ordered) {
                    let explain = format!("EXPLAIN QUERY PLAN {}", select(&ordered, sql, &range));
                    let mut statement = conn.prepare(&explain).expect(why);
                    let mut rows = statement.raw_query();
                    let mut plan = Vec::new();
                    while let Some(row) = rows.next().expect(why) {
                        plan.push(row.get::<_, String>(3).expect("a text"));
                    }
                    assert_eq!(plan.len(), 1, "{} {why}: {plan:?}", table.name);
                    if let Some(index) = scan.index {
                        assert!(plan[0].contains(&format!("{}__{index}", table.name)), "{why}: {plan:?}");
                    }
                    sought.push(
                        plan[0].split_once(" (").map_or("", |(_, by)| by.trim_end_matches(')')).to_owned(),
                    );
                }
                assert_eq!(sought.join(" | "), *want, "{} {why}", table.name);
            }
        }
    }
}
