//! From declarations to tables: made when they are not there, changed when no row is lost or read otherwise, refused
//! by name when one would be.

use std::collections::BTreeMap;

use hilum_core::{Seq, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::value::{Stamp, sql_type};
use crate::tables::shape::Schema;
use crate::tables::{Anew, Column, Table, TablesError, Type};

/// The layout of the tables that are ours (`hilum_…`) and the way how declarations become tables.
/// 2: an offset row names the record that was read last.
const VERSION: i64 = 2;
/// `htab` as the file's application id, so that no other database is taken for ours.
const APPLICATION_ID: i32 = 0x6874_6162;

const OURS: &str = "
    CREATE TABLE hilum_state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO hilum_state VALUES ('t', 0), ('outbox_floor', 0);
    CREATE TABLE hilum_table (name TEXT PRIMARY KEY, declaration TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE hilum_offset (
        projection TEXT NOT NULL, stream TEXT NOT NULL, partition INTEGER NOT NULL,
        epoch TEXT NOT NULL, next INTEGER NOT NULL, last BLOB,
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

/// Makes or extends what is stored, in one transaction, and gives the newest commit.
pub(super) fn migrate(conn: &Connection, schema: &Schema, anew: Option<Anew>) -> Result<Stamp, TablesError> {
    let run = |sql: &str| conn.execute_batch(sql).map_err(engine);
    run("BEGIN IMMEDIATE")?;
    let migrated = migrate_inside(conn, schema, anew);
    run(if migrated.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    migrated
}

// By value, for `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn engine(why: rusqlite::Error) -> TablesError {
    TablesError::Engine(why.to_string())
}

fn migrate_inside(conn: &Connection, schema: &Schema, anew: Option<Anew>) -> Result<Stamp, TablesError> {
    let pragma = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(engine);
    if pragma("SELECT count(*) FROM sqlite_schema")? == 0 {
        conn.execute_batch(OURS).map_err(engine)?;
        conn.execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
        ))
        .map_err(engine)?;
    } else if pragma("PRAGMA application_id")? != i64::from(APPLICATION_ID) {
        return Err(TablesError::Engine("the file is another database, not hilum's tables".to_owned()));
    }
    // A newer program's tables are not touched, not even by what would change nothing.
    let stored = pragma("PRAGMA user_version")?;
    if stored > VERSION {
        return Err(TablesError::Newer { stored, ours: VERSION });
    }
    if stored == 1 {
        conn.execute_batch(&format!(
            "ALTER TABLE hilum_offset ADD COLUMN last BLOB; PRAGMA user_version = {VERSION};"
        ))
        .map_err(engine)?;
    }
    match (migrate_tables(conn, schema), anew) {
        (Err(why), Some(anew)) if anew.mends(&why) => {
            empty(conn, anew)?;
            migrate_tables(conn, schema)?;
        }
        (migrated, _) => migrated?,
    }
    conn.execute("INSERT OR IGNORE INTO hilum_state VALUES ('moment', 0)", []).map_err(engine)?;
    let state = |name: &str| {
        conn.query_row("SELECT value FROM hilum_state WHERE name = ?1", [name], |row| row.get::<_, i64>(0))
            .map_err(engine)
    };
    Ok(Stamp { t: Seq(state("t")?), moment: Timestamp::from_micros(state("moment")?) })
}

/// Takes away the tables of a projection, and how far it was.
fn empty(conn: &Connection, anew: Anew) -> Result<(), TablesError> {
    for table in anew.tables {
        conn.execute_batch(&format!("DROP TABLE IF EXISTS \"{}\"", table.name)).map_err(engine)?;
        conn.execute("DELETE FROM hilum_table WHERE name = ?1", [table.name]).map_err(engine)?;
    }
    conn.execute("DELETE FROM hilum_offset WHERE projection = ?1", [anew.projection])
        .map(drop)
        .map_err(engine)
}

fn migrate_tables(conn: &Connection, schema: &Schema) -> Result<(), TablesError> {
    for table in schema.tables() {
        let stored: Option<String> = conn
            .query_row("SELECT declaration FROM hilum_table WHERE name = ?1", [table.name], |row| row.get(0))
            .optional()
            .map_err(engine)?;
        let declared = Stored::of(table);
        let now = match stored {
            None => {
                conn.execute_batch(&create(table)).map_err(engine)?;
                declared
            }
            Some(stored) => change(conn, table, declared, &stored)?,
        };
        let declaration = serde_json::to_string(&now).map_err(|why| TablesError::Engine(why.to_string()))?;
        conn.execute(
            "INSERT INTO hilum_table VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET declaration = excluded.declaration",
            params![table.name, declaration],
        )
        .map_err(engine)?;
    }
    Ok(())
}

/// Brings a table to its declaration and gives what stands then: columns that nobody declares any more stay, and
/// rows without them are welcome.
fn change(
    conn: &Connection,
    table: &Table,
    mut declared: Stored,
    stored: &str,
) -> Result<Stored, TablesError> {
    let no = |why: String| Err(TablesError::Shape { table: table.name.to_owned(), why });
    let Ok(stored) = serde_json::from_str::<Stored>(stored) else {
        return no("the stored declaration cannot be read".to_owned());
    };
    if stored == declared {
        return Ok(declared);
    }
    if stored.key != declared.key {
        return no("the key differs from the stored one".to_owned());
    }
    let name = table.name;
    let mut sql = String::new();
    // What rows that are there may not have.
    let mut demands = None;
    for column in table.columns {
        match stored.columns.get(column.name) {
            Some(there) if there.ty != type_name(column.ty) => {
                return no(format!("column {}: is stored as {}", column.name, there.ty));
            }
            Some(there) if there.optional == column.optional => {}
            Some(_) if column.optional => sql += &drop_not_null(name, column.name),
            None if column.optional => sql += &add_column(name, column),
            Some(_) | None => demands = Some(column.name),
        }
    }
    if let Some(column) = demands {
        let rows: bool = conn
            .query_row(&format!("SELECT EXISTS (SELECT 1 FROM \"{name}\")"), [], |row| row.get(0))
            .map_err(engine)?;
        if rows {
            return no(format!("column {column}: is required now, but there are rows"));
        }
        conn.execute_batch(&format!("DROP TABLE \"{name}\"; {}", create(table))).map_err(engine)?;
        return Ok(declared);
    }
    for (column, mut there) in stored.columns {
        if declared.columns.contains_key(&column) {
            continue;
        }
        if !there.optional {
            sql += &drop_not_null(name, &column);
            there.optional = true;
        }
        declared.columns.insert(column, there);
    }
    for (index, columns) in &stored.indexes {
        if declared.indexes.get(index) != Some(columns) {
            sql += &drop_index(table, index);
        }
    }
    for index in table.indexes {
        if stored.indexes.get(index.name).is_none_or(|columns| columns != index.columns) {
            sql += &create_index(table, index.name, index.columns);
        }
    }
    conn.execute_batch(&sql).map_err(engine)?;
    Ok(declared)
}

fn drop_not_null(table: &str, column: &str) -> String {
    format!("ALTER TABLE \"{table}\" ALTER COLUMN \"{column}\" DROP NOT NULL;")
}

/// Whether rows stand in the tree of the key itself: right for small rows, while large ones would spread over many
/// pages that random keys then dirty one by one; and right where there is hardly more than the key, which would stand
/// twice.
fn is_clustered(table: &Table) -> bool {
    let bytes = |column: &Column| match column.ty {
        Type::Bool => 1,
        Type::Int | Type::Time | Type::Seq => 6,
        Type::Id => 17,
        Type::Text => 24,
        Type::Bytes => 64,
    };
    let (key, beside) = table.columns.split_at(table.key_len.min(table.columns.len()));
    let beside: usize = beside.iter().map(bytes).sum();
    beside <= 6 || key.iter().map(bytes).sum::<usize>() + beside <= 140
}

fn add_column(table: &str, column: &Column) -> String {
    format!("ALTER TABLE \"{table}\" ADD COLUMN \"{}\" {};", column.name, sql_type(column.ty))
}

fn drop_index(table: &Table, index: &str) -> String {
    format!("DROP INDEX {};", index_name(table, index))
}

fn create(table: &Table) -> String {
    let column = |column: &Column| {
        let absent = if column.optional { "" } else { " NOT NULL" };
        format!("\"{}\" {}{absent}", column.name, sql_type(column.ty))
    };
    let columns = table.columns.iter().map(column).collect::<Vec<_>>().join(", ");
    let key = quoted(table.columns.iter().take(table.key_len).map(|column| column.name));
    let clustered = if is_clustered(table) { ", WITHOUT ROWID" } else { "" };
    let mut sql = format!(
        "CREATE TABLE \"{}\" ({columns}, \"t_\" INTEGER NOT NULL, PRIMARY KEY ({key})) STRICT{clustered};",
        table.name
    );
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
    /// `"k1" = ? AND …`, without numbers.
    key_is: String,
}

impl TableSql {
    /// Sets `t_` and the columns of `changed` (a bit for each column), then the key: all bound in that order.
    pub(super) fn update(&self, table: &Table, changed: u64) -> String {
        let columns = table.columns.iter().enumerate().filter(|(at, _)| changed & (1 << at) != 0);
        let names = std::iter::once("t_").chain(columns.map(|(_, column)| column.name));
        let set = names.map(|name| format!("\"{name}\" = ?")).collect::<Vec<_>>().join(", ");
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
        columns,
        key_is,
    }
}
