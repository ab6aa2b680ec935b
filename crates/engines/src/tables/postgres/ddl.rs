//! The schema: made, extended and checked when the tables are opened, under an advisory lock, in one transaction.
//!
//! What only adds (a table, an index, an optional column, a column that may now be absent) is done here; what does
//! not is refused by name, so that nobody loses data to a changed declaration.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Transaction};

use super::super::{Anew, Column, Table, TablesError};
use super::engine;
use super::plan::{column_type, quote};
use crate::tables::shape::shape;

/// The version of what the engine itself keeps in a schema.
///
/// 2: an offset row names the record that was read last.
pub(super) const VERSION: i64 = 2;

/// Adds a column that an earlier version did not have. Where it is there nothing is locked: `IF NOT EXISTS` would wait for all who
/// read the table, and all who come later for that.
fn column(schema: &str, table: &str, name: &str, ty: &str) -> String {
    format!(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = '{schema}.{table}'::regclass \
         AND attname = '{name}' AND NOT attisdropped) THEN ALTER TABLE {schema}.{table} ADD COLUMN {name} {ty}; \
         END IF; END $$;"
    )
}

/// The engine's own tables. All are in the schema of the rooms' tables.
fn own(schema: &str) -> String {
    let s = quote(schema);
    let moment = column(&s, "hilum_counter", "moment", "int8 NOT NULL DEFAULT 0");
    let last = column(&s, "hilum_offset", "last", "uuid");
    let [back_from, back_to] =
        ["back_from", "back_to"].map(|name| column(&s, "hilum_window", name, "int8 NOT NULL DEFAULT 0"));
    // The counter and its neighbours are one row updated at each commit: room in the page keeps those updates there.
    format!(
        "CREATE SCHEMA IF NOT EXISTS {s};
         CREATE TABLE IF NOT EXISTS {s}.hilum_version (one bool PRIMARY KEY CHECK (one), version int8 NOT NULL);
         CREATE TABLE IF NOT EXISTS {s}.hilum_counter (one bool PRIMARY KEY CHECK (one), t int8 NOT NULL)
             WITH (fillfactor = 10);
         {moment}
         INSERT INTO {s}.hilum_counter (one, t) VALUES (true, 0) ON CONFLICT DO NOTHING;
         CREATE TABLE IF NOT EXISTS {s}.hilum_writer (writer uuid PRIMARY KEY, seq int8 NOT NULL, base int8,
             bad int4[], seen timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 10);
         CREATE TABLE IF NOT EXISTS {s}.hilum_offset (projection text COLLATE \"C\", stream text COLLATE \"C\",
             part int4, epoch uuid NOT NULL, next int8 NOT NULL, PRIMARY KEY (projection, stream, part))
             WITH (fillfactor = 50);
         {last}
         CREATE TABLE IF NOT EXISTS {s}.hilum_outbox (t int8, n int8, topic text COLLATE \"C\" NOT NULL,
             key uuid NOT NULL, body bytea NOT NULL, PRIMARY KEY (t, n));
         CREATE TABLE IF NOT EXISTS {s}.hilum_window (one bool PRIMARY KEY CHECK (one), oldest int8 NOT NULL);
         INSERT INTO {s}.hilum_window (one, oldest) VALUES (true, 0) ON CONFLICT DO NOTHING;
         {back_from}
         {back_to}
         CREATE TABLE IF NOT EXISTS {s}.hilum_lease (name text COLLATE \"C\" PRIMARY KEY,
             holder text COLLATE \"C\" NOT NULL, until int8 NOT NULL, token int8 NOT NULL);"
    )
}

/// What a schema is to be.
pub(super) struct Wanted<'a> {
    pub(super) tables: &'a [&'static Table],
    pub(super) anew: Option<Anew>,
    /// It was seen before: on a server without it nothing is made.
    pub(super) must_be_there: bool,
}

/// Brings the schema to what this program and `wanted` need.
pub(super) async fn migrate(
    client: &mut Client,
    schema: &str,
    wanted: &Wanted<'_>,
) -> Result<(), TablesError> {
    let tx = client.transaction().await.map_err(|e| engine("migration", &e))?;
    migrate_in(&tx, schema, wanted).await?;
    tx.commit().await.map_err(|e| engine("migration", &e))
}

async fn migrate_in(tx: &Transaction<'_>, schema: &str, wanted: &Wanted<'_>) -> Result<(), TablesError> {
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
    } else if wanted.must_be_there {
        return Err(TablesError::Gone { what: format!("schema {schema}") });
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
    match (migrate_tables(tx, schema, wanted.tables).await, wanted.anew) {
        (Err(why), Some(anew)) if anew.mends(&why) => {
            empty(tx, schema, anew).await?;
            migrate_tables(tx, schema, wanted.tables).await
        }
        (migrated, _) => migrated,
    }
}

/// Takes away the tables of a projection, and how far it was.
async fn empty(tx: &Transaction<'_>, schema: &str, anew: Anew) -> Result<(), TablesError> {
    let failed = |e: &tokio_postgres::Error| engine("migration", e);
    let schema = quote(schema);
    for table in anew.tables {
        let drop = format!("DROP TABLE IF EXISTS {schema}.{}", quote(table.name));
        tx.batch_execute(&drop).await.map_err(|e| failed(&e))?;
    }
    let forget = format!("DELETE FROM {schema}.hilum_offset WHERE projection = $1");
    tx.execute(&forget, &[&anew.projection]).await.map(drop).map_err(|e| failed(&e))
}

async fn migrate_tables(
    tx: &Transaction<'_>,
    schema: &str,
    tables: &[&'static Table],
) -> Result<(), TablesError> {
    let failed = |e: &tokio_postgres::Error| engine("migration", e);
    for table in tables {
        let stored = stored_columns(tx, schema, table).await?;
        let statements = if stored.is_empty() {
            vec![create(schema, table)]
        } else {
            extend(tx, schema, table, &stored).await?
        };
        for sql in statements {
            tx.batch_execute(&sql).await.map_err(|e| failed(&e))?;
        }
        indexes(tx, schema, table).await?;
    }
    Ok(())
}

fn create(schema: &str, table: &Table) -> String {
    let mut parts: Vec<String> = table.columns.iter().map(|column| column_line(column, true)).collect();
    parts.push("t_ int8 NOT NULL".to_owned());
    let key: Vec<String> = table.columns.iter().take(table.key_len).map(|c| quote(c.name)).collect();
    parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    format!("CREATE TABLE {}.{} ({})", quote(schema), quote(table.name), parts.join(", "))
}

fn column_line(column: &Column, required: bool) -> String {
    let null = if column.optional || !required { "" } else { " NOT NULL" };
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

/// The statements that bring a table to its declaration, or why there are none.
async fn extend(
    tx: &Transaction<'_>,
    schema: &str,
    table: &Table,
    stored: &BTreeMap<String, Stored>,
) -> Result<Vec<String>, TablesError> {
    let refuse = |why: String| shape(table.name, why);
    let name = format!("{}.{}", quote(schema), quote(table.name));
    let has_rows = tx
        .query_one(&format!("SELECT EXISTS (SELECT 1 FROM {name})"), &[])
        .await
        .and_then(|row| row.try_get::<_, bool>(0))
        .map_err(|e| engine("migration", &e))?;
    let mut statements = Vec::new();
    for (at, column) in table.columns.iter().enumerate() {
        let want_key = if at < table.key_len { i32::try_from(at + 1).unwrap_or(0) } else { 0 };
        let Some(there) = stored.get(column.name) else {
            if want_key > 0 {
                return Err(refuse(format!("key column {} is new: the key cannot change", column.name)));
            }
            if !column.optional && has_rows {
                return Err(refuse(format!(
                    "new column {} is required, but there are rows: declare it optional",
                    column.name
                )));
            }
            statements.push(format!("ALTER TABLE {name} ADD COLUMN {}", column_line(column, true)));
            continue;
        };
        let want_type = super::plan::element_type(column.ty);
        if there.ty != want_type || !there.binary {
            return Err(refuse(format!("column {} is stored as {}, not {want_type}", column.name, there.ty)));
        }
        if there.key != want_key {
            return Err(refuse(format!("column {} has another place in the key", column.name)));
        }
        if there.required && column.optional {
            statements.push(format!("ALTER TABLE {name} ALTER COLUMN {} DROP NOT NULL", quote(column.name)));
        } else if !there.required && !column.optional {
            if has_rows {
                return Err(refuse(format!("column {} is required now, but there are rows", column.name)));
            }
            statements.push(format!("ALTER TABLE {name} ALTER COLUMN {} SET NOT NULL", quote(column.name)));
        }
    }
    for (column, there) in stored {
        if column == "t_" || table.column(column).is_some() {
            continue;
        }
        if there.key > 0 {
            return Err(refuse(format!("stored key column {column} is not declared: the key cannot change")));
        }
        // A column that nobody declares any more stays, and rows without it are welcome.
        if there.required {
            statements.push(format!("ALTER TABLE {name} ALTER COLUMN {} DROP NOT NULL", quote(column)));
        }
    }
    Ok(statements)
}

/// Makes declared indexes, anew where their columns have changed, and drops those of this table that nobody declares.
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
        // The comment says what the index was made of; only indexes that carry one are ours to drop.
        let comment = format!("hilum: {}", columns.join(", "));
        let full = format!("{}.{}", quote(schema), quote(&name));
        match stored.remove(&name) {
            Some(there) if there == comment => continue,
            Some(_) => tx.batch_execute(&format!("DROP INDEX {full}")).await.map_err(|e| failed(&e))?,
            None => {}
        }
        let order: Vec<String> = columns.iter().map(|c| format!("{} ASC NULLS FIRST", quote(c))).collect();
        tx.batch_execute(&format!(
            "CREATE INDEX {} ON {}.{} ({}); COMMENT ON INDEX {full} IS '{comment}'",
            quote(&name),
            quote(schema),
            quote(table.name),
            order.join(", ")
        ))
        .await
        .map_err(|e| failed(&e))?;
    }
    for (name, comment) in stored {
        if comment.starts_with("hilum: ") {
            tx.batch_execute(&format!("DROP INDEX {}.{}", quote(schema), quote(&name)))
                .await
                .map_err(|e| failed(&e))?;
        }
    }
    Ok(())
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
