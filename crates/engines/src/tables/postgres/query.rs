//! Queries over several tables on PostgreSQL: one statement each (see [`crate::tables::query`]).

use super::wire::{self, Item, Param, Raw};
use super::{Call, Postgres, engine, plan, quote};
use crate::limits;
use crate::tables::query::sql::{self, Dialect, Statement, Walk};
use crate::tables::query::{Found, Query};
use crate::tables::{Column, Table, TablesError, Type, Value};

impl Postgres {
    /// See [`crate::tables::Tables::query`].
    ///
    /// # Errors
    /// As [`crate::tables::Tables::read`].
    pub async fn query(&self, query: &Query) -> Result<Vec<Found>, TablesError> {
        let schema = &self.0.tables.schema;
        let fitting = schema.check_query(query)?;
        let limit = query.limit.min(limits::SCAN_ROWS_MAX);
        let statement = sql::select(schema, &Writing { schema: &self.0.schema }, &fitting, limit)?;
        let answers = self.ask(&[call_of("query", &statement)]).await?;
        let mut found = Vec::new();
        for row in answers.iter().flatten() {
            let mut values = Vec::with_capacity(fitting.keys.len() + 1);
            for (at, ty) in fitting.keys.iter().chain([&fitting.subject]).enumerate() {
                let raw: Option<Raw<'_>> = row.try_get(at).map_err(|e| engine("query", &e))?;
                values.push(wire::value("(query)", &Column::optional("s", *ty), raw.as_ref())?);
            }
            let subject = values.pop().unwrap_or(Value::Null);
            found.push(Found { subject, keys: values });
        }
        Ok(found)
    }

    /// See [`crate::tables::Tables::query_count`].
    ///
    /// # Errors
    /// As [`crate::tables::Tables::read`].
    pub async fn query_count(&self, query: &Query, cap: u64) -> Result<u64, TablesError> {
        let schema = &self.0.tables.schema;
        let fitting = schema.check_query(query)?;
        let statement = sql::count(schema, &Writing { schema: &self.0.schema }, &fitting, cap)?;
        let counted = self.ask_value::<i64>(call_of("query", &statement)).await?;
        Ok(counted.unwrap_or_default().unsigned_abs())
    }

    /// As [`Postgres::explain`], for a query.
    ///
    /// # Errors
    /// As [`crate::tables::Tables::read`].
    pub async fn explain_query(&self, query: &Query) -> Result<String, TablesError> {
        let schema = &self.0.tables.schema;
        let fitting = schema.check_query(query)?;
        let limit = query.limit.min(limits::SCAN_ROWS_MAX);
        let statement = sql::select(schema, &Writing { schema: &self.0.schema }, &fitting, limit)?;
        let call = call_of("explain", &statement);
        let call = Call { sql: format!("EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) {}", call.sql), ..call };
        let mut lines = Vec::new();
        for row in self.ask(&[call]).await?.into_iter().flatten() {
            lines.push(row.try_get::<_, String>(0).map_err(|e| engine("explain", &e))?);
        }
        Ok(lines.join("\n"))
    }
}

/// How a query is written for PostgreSQL.
struct Writing<'s> {
    schema: &'s str,
}

impl Dialect for Writing<'_> {
    fn table(&self, table: &Table) -> String {
        format!("{}.{}", quote(self.schema), quote(table.name))
    }

    fn parameter(&self, n: usize, ty: Type) -> String {
        format!("${n}::{}", plan::element_type(ty))
    }

    fn hint(&self, _: &Table, _: Option<&str>) -> String {
        String::new()
    }

    fn order(&self, by_key: bool, columns: &[String]) -> String {
        // The index's own order, which no other one has without a sort.
        let way = if by_key { "ASC" } else { "ASC NULLS FIRST" };
        let columns: Vec<String> = columns.iter().map(|column| format!("{column} {way}")).collect();
        format!(" ORDER BY {}", columns.join(", "))
    }

    fn fence(&self) -> &'static str {
        " OFFSET 0"
    }

    fn each(&self, of: &str, from: &str, walk: &Walk) -> String {
        // What has an offset is not made one with what stands around it.
        format!("SELECT l.s FROM ({of}) AS {from} CROSS JOIN LATERAL ({} OFFSET 0) AS l", walk.select())
    }
}

fn call_of<'q>(step: &'static str, statement: &Statement<'q>) -> Call<'q> {
    let params = statement.params.iter().map(|(value, _)| Param::One(Item::from(*value))).collect();
    Call { step, sql: statement.sql.clone(), params }
}
