//! Rows that no log gives back, as lines of JSON: one object a row, by the columns' names; what is absent is left out.

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hilum_adt::project::Adt;
use hilum_chart::projection::Projection as _;
use hilum_chart::resources;
use hilum_core::{Id, Seq, Timestamp};
use hilum_engines::tables::{Batch, Column, Read, Row, Scan, Table, Tables, Type, Value, Write};
use serde_json::{Map, Value as Json};

use crate::limits::{ARCHIVE_FILE_BYTES, ARCHIVE_ROWS};

/// Tables that an archive carries as they are: accounts, keys, corrections that wait for a second person.
pub const CARRIED: &[&Table] =
    &[&hilum_web::tables::ACCOUNT, &hilum_web::tables::KEY, &hilum_adt::tables::CORRECTION];

/// Tables of which an archive carries the rows that no projection made: resources that came by a door, with all their
/// versions. What the chart notes of a row for itself (columns that may be absent) is its own; versions that were made before
/// the move were so, in the new house, from the moment of the move on.
pub const BY_DOORS: &[&Table] = &[&resources::RESOURCE, &resources::HISTORY];

fn is_by_door(table: &Table) -> bool {
    BY_DOORS.iter().any(|one| one.name == table.name)
}

/// Whether a row goes along.
fn is_carried(table: &Table, row: &Row) -> bool {
    let owner = || table.column("owner").and_then(|at| row.values.get(at));
    !is_by_door(table) || owner() != Some(&Value::Text(Adt::NAME.to_owned()))
}

/// Tables that end with the old house: who is signed in signs in again, who walks through pages begins anew, which processes there were is of no use, and the
/// change feed of another house counts anew.
#[cfg(test)]
const LEFT: &[&Table] = &[
    &hilum_web::tables::SESSION,
    &hilum_web::tables::LINK,
    &hilum_records::tables::KEPT,
    &hilum_chart::presence::PROCESS,
    &hilum_chart::relay::RELAY,
];

fn to_json(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Null
        | Value::ThisCommit
        | Value::ThisCommitNth(_)
        | Value::ThisMoment
        | Value::ThisSnapshot => return None,
        Value::Bool(it) => Json::from(*it),
        Value::Int(it) => Json::from(*it),
        Value::Time(it) => Json::from(it.as_micros()),
        Value::Seq(it) => Json::from(it.0),
        Value::Id(it) => Json::from(it.to_string()),
        Value::Text(it) => Json::from(it.as_str()),
        Value::Bytes(it) => Json::from(STANDARD.encode(it)),
    })
}

fn from_json(column: &Column, json: Option<Json>) -> anyhow::Result<Value> {
    let Some(json) = json else {
        if column.optional {
            return Ok(Value::Null);
        }
        bail!("column {} is missing", column.name);
    };
    let value = match (column.ty, &json) {
        (Type::Bool, Json::Bool(it)) => Some(Value::Bool(*it)),
        (Type::Int, Json::Number(it)) => it.as_i64().map(Value::Int),
        (Type::Time, Json::Number(it)) => it.as_i64().map(|it| Value::Time(Timestamp::from_micros(it))),
        (Type::Seq, Json::Number(it)) => it.as_i64().map(|it| Value::Seq(Seq(it))),
        (Type::Id, Json::String(it)) => it.parse::<Id>().ok().map(Value::Id),
        (Type::Text, Json::String(it)) => Some(Value::Text(it.clone())),
        (Type::Bytes, Json::String(it)) => STANDARD.decode(it).ok().map(|it| Value::Bytes(it.into())),
        _ => None,
    };
    value.ok_or_else(|| anyhow!("column {} is of another form", column.name))
}

/// Rows of a table by key, in files of bounded size.
#[derive(Debug)]
pub struct Walk<'a> {
    tables: &'a Tables,
    table: &'static Table,
    after: Option<Vec<Value>>,
    ended: bool,
}

impl<'a> Walk<'a> {
    /// From the first row on.
    pub const fn new(tables: &'a Tables, table: &'static Table) -> Self {
        Self { tables, table, after: None, ended: false }
    }

    /// The next file's lines and how many they are; absent behind the last row.
    ///
    /// # Errors
    /// The tables'.
    pub async fn next(&mut self) -> anyhow::Result<Option<(Vec<u8>, u64)>> {
        let (mut out, mut count) = (Vec::new(), 0);
        while !self.ended && out.len() < ARCHIVE_FILE_BYTES {
            let scan = Scan {
                after: self.after.take(),
                limit: ARCHIVE_ROWS,
                ..Scan::by_key(self.table.name, Vec::new())
            };
            let rows = self.tables.read(&[Read::Scan(scan)]).await?.pop().unwrap_or_default();
            self.ended = rows.len() < ARCHIVE_ROWS as usize;
            self.after = rows.last().map(|row| row.values.iter().take(self.table.key_len).cloned().collect());
            for row in rows.iter().filter(|row| is_carried(self.table, row)) {
                put(&mut out, self.table, row)?;
                count += 1;
            }
        }
        Ok((count > 0).then_some((out, count)))
    }
}

fn put(out: &mut Vec<u8>, table: &Table, row: &Row) -> anyhow::Result<()> {
    let is_own = |column: &Column| column.optional && is_by_door(table);
    let columns = table.columns.iter().zip(&row.values).filter(|(column, _)| !is_own(column));
    let line: Map<String, Json> =
        columns.filter_map(|(column, value)| Some((column.name.to_owned(), to_json(value)?))).collect();
    serde_json::to_writer(&mut *out, &line)?;
    out.push(b'\n');
    Ok(())
}

/// Puts the rows of a file of the table called `name`. Again is the same.
///
/// # Errors
/// When they are not of a form that this program knows; the tables'.
pub async fn write(tables: &Tables, name: &str, file: &[u8]) -> anyhow::Result<u64> {
    let table = CARRIED.iter().chain(BY_DOORS).find(|table| table.name == name);
    let table =
        table.with_context(|| format!("a table {name} is not known here: start the newer program"))?;
    let lines: Vec<&[u8]> = file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    for chunk in lines.chunks(ARCHIVE_ROWS as usize) {
        let writes = chunk.iter().map(|line| take(table, line)).collect::<anyhow::Result<Vec<_>>>()?;
        tables.commit(Batch { writes, ..Batch::default() }).await?;
    }
    Ok(lines.len() as u64)
}

fn take(table: &'static Table, line: &[u8]) -> anyhow::Result<Write> {
    // The parser's words may quote what it read.
    let mut line: Map<String, Json> =
        serde_json::from_slice(line).map_err(|_| anyhow!("a row of {} is no JSON object", table.name))?;
    let values = table.columns.iter().map(|column| from_json(column, line.remove(column.name)));
    let mut values = values.collect::<anyhow::Result<Vec<_>>>().context(table.name)?;
    if is_by_door(table) {
        // Commits are of the old house.
        for value in values.iter_mut().filter(|value| matches!(value, Value::Seq(_))) {
            *value = Value::ThisCommit;
        }
    }
    if let Some(name) = line.keys().next() {
        bail!("{} has a column {name} that is not known here: start the newer program", table.name);
    }
    Ok(Write::Put { table: table.name, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_folded_carried_or_left_on_purpose() {
        let folded = [Adt::TABLES, resources::TABLES].concat();
        for table in crate::house::schema() {
            let ways = [folded.as_slice(), CARRIED, LEFT];
            let count = ways.iter().filter(|way| way.iter().any(|one| one.name == table.name)).count();
            assert_eq!(count, 1, "{}: say in archive/rows.rs what an archive does with it", table.name);
        }
    }

    #[test]
    fn of_the_chart_what_came_by_a_door_goes_along_and_is_of_the_new_houses_commits() {
        let of = |owner: &str| {
            let values = resources::RESOURCE.columns.iter().map(|column| match (column.name, column.ty) {
                _ if column.optional => Value::Null,
                ("owner", _) => Value::Text(owner.to_owned()),
                (_, Type::Bool) => Value::Bool(false),
                (_, Type::Int) => Value::Int(3),
                (_, Type::Time) => Value::Time(Timestamp::from_micros(5)),
                (_, Type::Seq) => Value::Seq(Seq(900)),
                (_, Type::Id) => Value::Id(Id::from_bytes([7; 16])),
                (_, Type::Text) => Value::Text("Observation".to_owned()),
                (_, Type::Bytes) => Value::Bytes(vec![1].into()),
            });
            Row { values: values.collect(), t: Seq(900) }
        };
        let table = &resources::RESOURCE;
        assert!(!is_carried(table, &of(Adt::NAME)), "made anew from the log");
        assert!(is_carried(table, &of("fhir")));
        let mut out = Vec::new();
        put(&mut out, table, &of("fhir")).expect("written");
        let Write::Put { values, .. } = take(table, &out).expect("read") else { panic!("a row") };
        let commits = values.iter().filter(|value| matches!(value, Value::ThisCommit)).count();
        assert_eq!(commits, 1);
        assert!(!values.iter().any(|value| matches!(value, Value::Seq(_))));
    }

    #[test]
    fn a_row_comes_back_and_another_form_is_refused() {
        static TABLE: Table = Table {
            name: "t",
            key_len: 1,
            columns: &[
                Column::new("a", Type::Bytes),
                Column::new("b", Type::Text),
                Column::new("c", Type::Id),
                Column::new("d", Type::Time),
                Column::new("e", Type::Bool),
                Column::new("f", Type::Int),
                Column::optional("g", Type::Text),
            ],
            indexes: &[],
            register: None,
        };
        let values = vec![
            Value::Bytes(vec![0, 255].into()),
            Value::Text("\u{d64d}\n\"".to_owned()),
            Value::Id(Id::from_bytes([7; 16])),
            Value::Time(Timestamp::from_micros(-1)),
            Value::Bool(true),
            Value::Int(i64::MAX),
            Value::Null,
        ];
        let mut out = Vec::new();
        put(&mut out, &TABLE, &Row { values: values.clone(), t: Seq(1) }).expect("written");
        assert_eq!(take(&TABLE, &out).expect("read"), Write::Put { table: "t", values });
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(text.lines().count(), 1, "{text}");
        for (why, line, want) in [
            ("newer", text.replace("\"b\"", "\"z\":1,\"b\""), "column z"),
            ("less", text.replace("\"f\"", "\"g\""), "f is missing"),
            ("else", text.replace("true", "1"), "e is of another form"),
            ("cut", text.chars().take(9).collect(), "no JSON object"),
        ] {
            let said = format!("{:#}", take(&TABLE, line.as_bytes()).expect_err(why));
            assert!(said.contains(want), "{why}: {said}");
        }
    }
}
