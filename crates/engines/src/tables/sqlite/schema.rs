//! From declarations to tables: made when they are not there, extended when that loses nothing, refused otherwise.

#![allow(clippy::format_push_string)] // written once, at opening

use std::collections::BTreeMap;

use hilum_core::Seq;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::value::sql_type;
use crate::tables::shape::Schema;
use crate::tables::{Table, TablesError, Type};

/// The layout of the tables that are ours (`hilum_…`) and the way how declarations become tables.
const VERSION: i64 = 1;
/// `htab` as the file's application id, so that no other database is taken for ours.
const APPLICATION_ID: i32 = 0x6874_6162;

const OURS: &str = "
    CREATE TABLE hilum_state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO hilum_state VALUES ('version', 1), ('t', 0), ('outbox_floor', 0);
    CREATE TABLE hilum_table (name TEXT PRIMARY KEY, declaration TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE hilum_offset (
        projection TEXT NOT NULL, stream TEXT NOT NULL, partition INTEGER NOT NULL,
        epoch TEXT NOT NULL, next INTEGER NOT NULL,
        PRIMARY KEY (projection, stream, partition)) STRICT, WITHOUT ROWID;
    CREATE TABLE hilum_outbox (
        t INTEGER NOT NULL, n INTEGER NOT NULL, topic TEXT NOT NULL, key BLOB NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (t, n)) STRICT, WITHOUT ROWID;
    CREATE TABLE hilum_lease (
        name TEXT PRIMARY KEY, holder TEXT NOT NULL, until INTEGER NOT NULL, token INTEGER NOT NULL)
        STRICT, WITHOUT ROWID;";

/// A declaration as it is stored, to compare the next program's with.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    key: Vec<String>,
    columns: BTreeMap<String, StoredColumn>,
    indexes: BTreeMap<String, Vec<String>>,
    register: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoredColumn {
    #[serde(rename = "type")]
    ty: String,
    optional: bool,
}

impl Stored {
    fn of(table: &Table) -> Self {
        let names = |columns: &[&str]| columns.iter().map(|&name| name.to_owned()).collect();
        Self {
            key: table.columns.iter().take(table.key_len).map(|column| column.name.to_owned()).collect(),
            columns: table
                .columns
                .iter()
                .map(|column| {
                    let stored =
                        StoredColumn { ty: type_name(column.ty).to_owned(), optional: column.optional };
                    (column.name.to_owned(), stored)
                })
                .collect(),
            indexes: table
                .indexes
                .iter()
                .map(|index| (index.name.to_owned(), names(index.columns)))
                .collect(),
            register: table.register.map(str::to_owned),
        }
    }
}

const fn type_name(ty: Type) -> &'static str {
    match ty {
        Type::Id => "id",
        Type::Text => "text",
        Type::Int => "int",
        Type::Bool => "bool",
        Type::Time => "time",
        Type::Seq => "seq",
        Type::Bytes => "bytes",
    }
}

/// Makes or extends what is stored, in one transaction, and gives the newest `t`.
pub(super) fn migrate(conn: &Connection, schema: &Schema) -> Result<Seq, TablesError> {
    let run = |sql: &str| conn.execute_batch(sql).map_err(engine);
    run("BEGIN IMMEDIATE")?;
    let migrated = migrate_inside(conn, schema);
    run(if migrated.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    migrated
}

// By value, for `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn engine(why: rusqlite::Error) -> TablesError {
    TablesError::Engine(why.to_string())
}

fn migrate_inside(conn: &Connection, schema: &Schema) -> Result<Seq, TablesError> {
    let application: i32 = conn.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(engine)?;
    let tables: i64 =
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(engine)?;
    if tables == 0 {
        conn.execute_batch(OURS).map_err(engine)?;
        conn.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}")).map_err(engine)?;
    } else if application != APPLICATION_ID {
        return Err(TablesError::Engine("the file is another database, not hilum's tables".to_owned()));
    }
    let state = |name: &str| {
        conn.query_row("SELECT value FROM hilum_state WHERE name = ?1", [name], |row| row.get::<_, i64>(0))
            .map_err(engine)
    };
    let stored = state("version")?;
    if stored > VERSION {
        return Err(TablesError::Newer { stored, ours: VERSION });
    }
    for table in schema.tables() {
        let stored: Option<String> = conn
            .query_row("SELECT declaration FROM hilum_table WHERE name = ?1", [table.name], |row| row.get(0))
            .optional()
            .map_err(engine)?;
        match stored {
            None => conn.execute_batch(&create(table)).map_err(engine)?,
            Some(stored) => extend(conn, table, &stored)?,
        }
        let declaration =
            serde_json::to_string(&Stored::of(table)).map_err(|why| TablesError::Engine(why.to_string()))?;
        conn.execute(
            "INSERT INTO hilum_table VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET declaration = excluded.declaration",
            params![table.name, declaration],
        )
        .map_err(engine)?;
    }
    Ok(Seq(state("t")?))
}

/// Adds what is new; whatever else differs is refused by name.
fn extend(conn: &Connection, table: &Table, stored: &str) -> Result<(), TablesError> {
    let no = |why: String| Err(TablesError::Shape { table: table.name.to_owned(), why });
    let Ok(stored) = serde_json::from_str::<Stored>(stored) else {
        return no("the stored declaration cannot be read".to_owned());
    };
    let declared = Stored::of(table);
    if stored.key != declared.key {
        return no("the key differs from the stored one".to_owned());
    }
    if stored.register != declared.register {
        return no("the register differs from the stored one".to_owned());
    }
    if let Some(name) = stored.columns.keys().find(|name| !declared.columns.contains_key(*name)) {
        return no(format!("column {name}: stored, but not declared"));
    }
    if let Some(name) = stored.indexes.keys().find(|name| !declared.indexes.contains_key(*name)) {
        return no(format!("index {name}: stored, but not declared"));
    }
    let mut sql = String::new();
    for column in table.columns {
        match stored.columns.get(column.name) {
            Some(stored) if Some(stored) == declared.columns.get(column.name) => {}
            Some(_) => return no(format!("column {}: differs from the stored one", column.name)),
            None if column.optional => {
                sql += &format!(
                    "ALTER TABLE \"{}\" ADD COLUMN \"{}\" {};",
                    table.name,
                    column.name,
                    sql_type(column.ty)
                );
            }
            None => return no(format!("column {}: new, so it must be optional", column.name)),
        }
    }
    for index in table.indexes {
        match stored.indexes.get(index.name) {
            Some(stored) if stored == index.columns => {}
            Some(_) => return no(format!("index {}: differs from the stored one", index.name)),
            None => sql += &create_index(table, index.name, index.columns),
        }
    }
    conn.execute_batch(&sql).map_err(engine)
}

/// Whether rows stand in the tree of the key itself: right for small rows, while large ones would spread over many
/// pages that random keys then dirty one by one.
fn is_clustered(table: &Table) -> bool {
    let bytes: usize = table
        .columns
        .iter()
        .map(|column| match column.ty {
            Type::Bool => 1,
            Type::Int | Type::Time | Type::Seq => 6,
            Type::Id => 17,
            Type::Text => 24,
            Type::Bytes => 64,
        })
        .sum();
    bytes <= 140
}

fn create(table: &Table) -> String {
    let mut sql = format!("CREATE TABLE \"{}\" (", table.name);
    for column in table.columns {
        let absent = if column.optional { "" } else { " NOT NULL" };
        sql += &format!("\"{}\" {}{absent}, ", column.name, sql_type(column.ty));
    }
    let key = quoted(table.columns.iter().take(table.key_len).map(|column| column.name));
    let clustered = if is_clustered(table) { ", WITHOUT ROWID" } else { "" };
    sql += &format!("\"t_\" INTEGER NOT NULL, PRIMARY KEY ({key})) STRICT{clustered};");
    for index in table.indexes {
        sql += &create_index(table, index.name, index.columns);
    }
    sql
}

/// The key's columns follow the index's own, so that the index alone orders a scan.
fn create_index(table: &Table, name: &str, columns: &[&str]) -> String {
    let key = table.columns.iter().take(table.key_len).map(|column| column.name);
    let all = quoted(columns.iter().copied().chain(key.filter(|name| !columns.contains(name))));
    format!("CREATE INDEX {} ON \"{}\" ({all});", index_name(table, name), table.name)
}

/// Index names share one space in SQLite.
pub(super) fn index_name(table: &Table, index: &str) -> String {
    format!("\"{}__{index}\"", table.name)
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// The statements of one table.
#[derive(Debug)]
pub(super) struct TableSql {
    /// All columns and `t_`, for a select.
    pub(super) columns: String,
    /// By key: all columns and `t_`.
    pub(super) get: String,
    /// By key: `t_`.
    pub(super) get_t: String,
    /// All columns and `t_`, unless the key is there.
    pub(super) insert: String,
    /// All columns and `t_`, unless the register says otherwise.
    pub(super) put_if_newer: String,
    /// By key.
    pub(super) delete: String,
    /// `INDEXED BY …` for a scan by key.
    pub(super) by_key: &'static str,
    /// `"k1" = ? AND …`, without numbers.
    key_is: String,
}

impl TableSql {
    /// Sets `t_` and the columns of `changed` (a bit for each column), then the key: all bound in that order.
    pub(super) fn update(&self, table: &Table, changed: u64) -> String {
        let mut set = "\"t_\" = ?".to_owned();
        for (at, column) in table.columns.iter().enumerate() {
            if changed & (1 << at) != 0 {
                set += &format!(", \"{}\" = ?", column.name);
            }
        }
        format!("UPDATE \"{}\" SET {set} WHERE {}", table.name, self.key_is)
    }
}

/// Writes the statements of all tables.
pub(super) fn statements(schema: &Schema) -> Vec<TableSql> {
    schema.tables().iter().map(|table| statements_of(table)).collect()
}

fn statements_of(table: &Table) -> TableSql {
    let name = table.name;
    let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
    let (key, rest) = names.split_at(table.key_len);
    let columns = quoted(names.iter().copied().chain(["t_"]));
    let key_list = quoted(key.iter().copied());
    let key_is = key.iter().map(|k| format!("\"{k}\" = ?")).collect::<Vec<_>>().join(" AND ");
    let marks = vec!["?"; names.len() + 1].join(", ");
    let insert = format!("INSERT INTO \"{name}\" ({columns}) VALUES ({marks}) ON CONFLICT ({key_list}) DO");
    let set: Vec<String> =
        rest.iter().chain(&["t_"]).map(|column| format!("\"{column}\" = excluded.\"{column}\"")).collect();
    let put_if_newer = table.register.map_or_else(String::new, |register| {
        format!(
            "{insert} UPDATE SET {} WHERE excluded.\"{register}\" > \"{name}\".\"{register}\" \
             OR (\"{name}\".\"{register}\" IS NULL AND excluded.\"{register}\" IS NOT NULL)",
            set.join(", ")
        )
    });
    TableSql {
        get: format!("SELECT {columns} FROM \"{name}\" WHERE {key_is}"),
        get_t: format!("SELECT \"t_\" FROM \"{name}\" WHERE {key_is}"),
        insert: format!("{insert} NOTHING"),
        put_if_newer,
        delete: format!("DELETE FROM \"{name}\" WHERE {key_is}"),
        by_key: "",
        columns,
        key_is,
    }
}
