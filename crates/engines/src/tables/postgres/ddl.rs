//! The schema: made, extended and checked when the tables are opened, under an advisory lock, in one transaction.
//!
//! What only adds (a table, an index, an optional column) is done here; whatever else differs is refused by name, so
//! that nobody loses data to a changed declaration, and an older program does not write rows without a newer one's
//! columns.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Transaction};

use super::super::{Column, Table, TablesError};
use super::engine;
use super::plan::{column_type, element_type, quote};
use crate::tables::shape::shape;

/// The version of what the engine itself keeps in a schema.
pub(super) const VERSION: i64 = 1;

/// The engine's own tables, version 1. All are in the schema of the rooms' tables.
fn own(schema: &str) -> String {
    let s = quote(schema);
    // The counter and its neighbours are one row updated at each commit: room in the page keeps those updates there.
    format!(
        "CREATE SCHEMA IF NOT EXISTS {s};
         CREATE TABLE IF NOT EXISTS {s}.hilum_version (one bool PRIMARY KEY CHECK (one), version int8 NOT NULL);
         CREATE TABLE IF NOT EXISTS {s}.hilum_counter (one bool PRIMARY KEY CHECK (one), t int8 NOT NULL)
             WITH (fillfactor = 10);
         INSERT INTO {s}.hilum_counter VALUES (true, 0) ON CONFLICT DO NOTHING;
         CREATE TABLE IF NOT EXISTS {s}.hilum_writer (writer uuid PRIMARY KEY, seq int8 NOT NULL, base int8,
             bad int4[], seen timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 10);
         CREATE TABLE IF NOT EXISTS {s}.hilum_offset (projection text COLLATE \"C\", stream text COLLATE \"C\",
             part int4, epoch uuid NOT NULL, next int8 NOT NULL, PRIMARY KEY (projection, stream, part))
             WITH (fillfactor = 50);
         CREATE TABLE IF NOT EXISTS {s}.hilum_outbox (t int8, n int8, topic text COLLATE \"C\" NOT NULL,
             key uuid NOT NULL, body bytea NOT NULL, PRIMARY KEY (t, n));
         CREATE TABLE IF NOT EXISTS {s}.hilum_window (one bool PRIMARY KEY CHECK (one), oldest int8 NOT NULL);
         INSERT INTO {s}.hilum_window VALUES (true, 0) ON CONFLICT DO NOTHING;
         CREATE TABLE IF NOT EXISTS {s}.hilum_lease (name text COLLATE \"C\" PRIMARY KEY,
             holder text COLLATE \"C\" NOT NULL, until int8 NOT NULL, token int8 NOT NULL);"
    )
}

/// Brings the schema to what this program and `tables` need.
pub(super) async fn migrate(
    client: &mut Client,
    schema: &str,
    tables: &[&'static Table],
) -> Result<(), TablesError> {
    let tx = client.transaction().await.map_err(|e| engine("migration", &e))?;
    migrate_in(&tx, schema, tables).await?;
    tx.commit().await.map_err(|e| engine("migration", &e))
}

async fn migrate_in(
    tx: &Transaction<'_>,
    schema: &str,
    tables: &[&'static Table],
) -> Result<(), TablesError> {
    let failed = |e: &tokio_postgres::Error| engine("migration", e);
    // Two programs that start at once migrate one after the other.
    tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 7466))", &[&format!("hilum {schema}")])
        .await
        .map_err(|e| failed(&e))?;
    // A newer program's schema is not touched, not even by what would change nothing.
    let version_table = format!("{}.hilum_version", quote(schema));
    let there = tx
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&version_table])
        .await
        .and_then(|row| row.try_get::<_, bool>(0))
        .map_err(|e| failed(&e))?;
    if there {
        let stored = tx
            .query_opt(&format!("SELECT version FROM {version_table}"), &[])
            .await
            .and_then(|row| row.map(|row| row.try_get::<_, i64>(0)).transpose())
            .map_err(|e| failed(&e))?;
        if let Some(stored) = stored
            && stored > VERSION
        {
            return Err(TablesError::Newer { stored, ours: VERSION });
        }
    }
    tx.batch_execute(&own(schema)).await.map_err(|e| failed(&e))?;
    tx.execute(
        &format!(
            "INSERT INTO {version_table} VALUES (true, {VERSION}) \
             ON CONFLICT (one) DO UPDATE SET version = excluded.version"
        ),
        &[],
    )
    .await
    .map_err(|e| failed(&e))?;
    for table in tables {
        let stored = stored_columns(tx, schema, table).await?;
        let new = stored.is_empty();
        let statements = if new { vec![create(schema, table)] } else { extend(schema, table, &stored)? };
        for sql in statements {
            tx.batch_execute(&sql).await.map_err(|e| failed(&e))?;
        }
        register(tx, schema, table, new).await?;
        indexes(tx, schema, table).await?;
    }
    Ok(())
}

fn create(schema: &str, table: &Table) -> String {
    let mut parts: Vec<String> = table.columns.iter().map(column_line).collect();
    parts.push("t_ int8 NOT NULL".to_owned());
    let key: Vec<String> = table.columns.iter().take(table.key_len).map(|c| quote(c.name)).collect();
    parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    format!("CREATE TABLE {}.{} ({})", quote(schema), quote(table.name), parts.join(", "))
}

fn column_line(column: &Column) -> String {
    let null = if column.optional { "" } else { " NOT NULL" };
    format!("{} {}{null}", quote(column.name), column_type(column.ty))
}

/// A column as the database has it.
#[derive(Debug, PartialEq, Eq)]
struct Stored {
    /// Its SQL type's internal name (`int8`).
    ty: String,
    binary: bool,
    required: bool,
    /// Its place in the primary key, from 1; 0 = not in it.
    key: i32,
}

async fn stored_columns(
    tx: &Transaction<'_>,
    schema: &str,
    table: &Table,
) -> Result<BTreeMap<String, Stored>, TablesError> {
    let rows = tx
        .query(
            "SELECT a.attname::text, t.typname::text, a.attnotnull, \
                    coalesce(array_position(i.indkey::int2[], a.attnum) + 1, 0)::int4, \
                    a.attcollation IN (0, (SELECT oid FROM pg_collation WHERE collname = 'C' \
                                           AND collnamespace = 'pg_catalog'::regnamespace)) \
             FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
             JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type t ON t.oid = a.atttypid \
             LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary \
             WHERE n.nspname = $1::text AND c.relname = $2::text AND a.attnum > 0 AND NOT a.attisdropped",
            &[&schema, &table.name],
        )
        .await
        .map_err(|e| engine("migration", &e))?;
    let mut columns = BTreeMap::new();
    for row in rows {
        let read = || -> Result<(String, Stored), tokio_postgres::Error> {
            let stored = Stored {
                ty: row.try_get(1)?,
                required: row.try_get(2)?,
                key: row.try_get(3)?,
                binary: row.try_get(4)?,
            };
            Ok((row.try_get(0)?, stored))
        };
        let (name, stored) = read().map_err(|e| engine("migration", &e))?;
        columns.insert(name, stored);
    }
    Ok(columns)
}

/// The statements that add what is new; whatever else differs is refused by name.
fn extend(
    schema: &str,
    table: &Table,
    stored: &BTreeMap<String, Stored>,
) -> Result<Vec<String>, TablesError> {
    let no = |why: String| Err(shape(table.name, why));
    if let Some(name) = stored.keys().find(|name| *name != "t_" && table.column(name).is_none()) {
        return no(format!("column {name}: stored, but not declared"));
    }
    let mut statements = Vec::new();
    for (at, column) in table.columns.iter().enumerate() {
        let key = if at < table.key_len { i32::try_from(at + 1).unwrap_or(0) } else { 0 };
        match stored.get(column.name) {
            Some(there) if there.key != key => {
                return no(format!(
                    "column {}: its place in the key differs from the stored one",
                    column.name
                ));
            }
            Some(there)
                if there.ty == element_type(column.ty)
                    && there.binary
                    && there.required != column.optional => {}
            Some(_) => return no(format!("column {}: differs from the stored one", column.name)),
            None if column.optional => statements.push(format!(
                "ALTER TABLE {}.{} ADD COLUMN {}",
                quote(schema),
                quote(table.name),
                column_line(column)
            )),
            None => return no(format!("column {}: new, so it must be optional", column.name)),
        }
    }
    Ok(statements)
}

/// What an index or a table says of itself in its comment: the part of the declaration that the catalog does not
/// hold in a form to compare.
const OURS: &str = "hilum: ";

async fn comment(tx: &Transaction<'_>, of: &str, says: &str) -> Result<(), TablesError> {
    // Names of columns only: nothing in it needs a quote.
    let sql = format!("COMMENT ON {of} IS '{OURS}{says}'");
    tx.batch_execute(&sql).await.map_err(|e| engine("migration", &e))
}

/// Holds the register to the stored one, or notes it down for a table that is new.
async fn register(tx: &Transaction<'_>, schema: &str, table: &Table, new: bool) -> Result<(), TablesError> {
    let name = format!("{}.{}", quote(schema), quote(table.name));
    let says = table.register.map_or_else(|| "no register".to_owned(), |column| format!("register {column}"));
    if new {
        return comment(tx, &format!("TABLE {name}"), &says).await;
    }
    let stored = tx
        .query_one("SELECT coalesce(obj_description($1::text::regclass, 'pg_class'), '')", &[&name])
        .await
        .and_then(|row| row.try_get::<_, String>(0))
        .map_err(|e| engine("migration", &e))?;
    match stored.strip_prefix(OURS) {
        Some(stored) if stored != says => Err(shape(table.name, "the register differs from the stored one")),
        _ => Ok(()),
    }
}

/// Makes new indexes; one that differs, or that nobody declares any more, is refused. Indexes that somebody else put
/// on the table carry no comment of ours and are left alone.
async fn indexes(tx: &Transaction<'_>, schema: &str, table: &Table) -> Result<(), TablesError> {
    let failed = |e: &tokio_postgres::Error| engine("migration", e);
    let rows = tx
        .query(
            "SELECT ic.relname::text, coalesce(obj_description(ic.oid, 'pg_class'), '') FROM pg_index i \
             JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1::text AND c.relname = $2::text AND NOT i.indisprimary",
            &[&schema, &table.name],
        )
        .await
        .map_err(|e| failed(&e))?;
    let mut stored: BTreeMap<String, String> = BTreeMap::new();
    for row in rows {
        stored.insert(row.try_get(0).map_err(|e| failed(&e))?, row.try_get(1).map_err(|e| failed(&e))?);
    }
    for index in table.indexes {
        let name = index_name(table, index.name);
        let mut columns: Vec<&str> = index.columns.to_vec();
        for key in table.columns.iter().take(table.key_len) {
            if !columns.contains(&key.name) {
                columns.push(key.name);
            }
        }
        let says = columns.join(", ");
        if let Some(there) = stored.remove(&name) {
            if there.strip_prefix(OURS) == Some(says.as_str()) {
                continue;
            }
            return Err(shape(table.name, format!("index {}: differs from the stored one", index.name)));
        }
        let order: Vec<String> = columns.iter().map(|c| format!("{} ASC NULLS FIRST", quote(c))).collect();
        let sql = format!(
            "CREATE INDEX {} ON {}.{} ({})",
            quote(&name),
            quote(schema),
            quote(table.name),
            order.join(", ")
        );
        tx.batch_execute(&sql).await.map_err(|e| failed(&e))?;
        comment(tx, &format!("INDEX {}.{}", quote(schema), quote(&name)), &says).await?;
    }
    match stored.iter().find(|(_, comment)| comment.starts_with(OURS)) {
        Some((name, _)) => Err(shape(table.name, format!("index {name}: stored, but not declared"))),
        None => Ok(()),
    }
}

/// The name of an index in the schema: PostgreSQL names indexes beside tables, in 63 bytes.
fn index_name(table: &Table, index: &str) -> String {
    let name = format!("{}_{index}", table.name);
    if name.len() <= 63 {
        return name;
    }
    let digest = blake3::hash(name.as_bytes()).to_hex();
    format!("{}_{}", table.name, digest.chars().take(16).collect::<String>())
}
