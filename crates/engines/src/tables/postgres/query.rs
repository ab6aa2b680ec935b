//! Queries over several tables on PostgreSQL: one statement each (see [`crate::tables::query`]).

use std::time::Duration;

use deadpool_postgres::Object;
use hilum_core::Seq;
use tokio_postgres::{NoTls, Row as PgRow};

use super::patience::{silent, to_connect};
use super::wire::{self, Item, Param, Raw};
use super::{Call, Postgres, answers, engine, plan, pool_error, quote};
use crate::limits;
use crate::tables::query::sql::{self, Dialect, Given, Statement, Walk};
use crate::tables::query::{Answer, Bounds, Found, Query, budget as budget_of};
use crate::tables::{Column, Table, TablesError, Type, Value};

impl Postgres {
    /// See [`crate::tables::Tables::query`].
    ///
    /// # Errors
    /// As [`crate::tables::Tables::read`].
    pub async fn query(&self, query: &Query) -> Result<Answer, TablesError> {
        let schema = &self.0.tables.schema;
        let fitting = schema.check_query(query)?;
        let limit = query.limit.min(limits::SCAN_ROWS_MAX);
        let mut statement = sql::select(schema, &Writing::of(&self.0.schema), &fitting, limit)?;
        // The counter's one row is what drives, so what is found keeps its order, and nothing found has a `t` as well.
        statement.sql = format!(
            "SELECT n.t, a.* FROM {}.hilum_counter AS n LEFT JOIN LATERAL ({}) AS a ON true WHERE n.one",
            quote(&self.0.schema),
            statement.sql
        );
        let answers = self.ask_within(&[call_of("query", &statement)], query.budget).await?;
        let mut t = None;
        let mut found = Vec::new();
        for row in answers.iter().flatten() {
            t = Some(row.try_get(0).map_err(|e| engine("query", &e))?);
            let mut values = Vec::with_capacity(fitting.keys.len() + 1);
            for (at, ty) in fitting.keys.iter().chain([&fitting.subject]).enumerate() {
                let raw: Option<Raw<'_>> = row.try_get(at + 1).map_err(|e| engine("query", &e))?;
                values.push(wire::value("(query)", &Column::optional("s", *ty), raw.as_ref())?);
            }
            match values.pop() {
                None | Some(Value::Null) => {}
                Some(subject) => found.push(Found { subject, keys: values }),
            }
        }
        let gone = || TablesError::Engine("postgresql: the counter row is missing".to_owned());
        Ok(Answer { t: Seq(t.ok_or_else(gone)?), found })
    }

    /// See [`crate::tables::Tables::query_counts`]. When the time is over, none of them is counted.
    ///
    /// # Errors
    /// As [`crate::tables::Tables::read`].
    pub async fn query_counts(
        &self,
        queries: &[Query],
        bounds: Bounds,
    ) -> Result<Vec<Option<u64>>, TablesError> {
        let (schema, writing) = (&self.0.tables.schema, Writing::of(&self.0.schema));
        let mut calls = Vec::with_capacity(queries.len());
        for query in queries {
            let statement = sql::count(schema, &writing, &schema.check_query(query)?, bounds)?;
            calls.push(call_of("count", &statement));
        }
        let answers = match self.ask_within(&calls, bounds.budget).await {
            Err(TablesError::TooCostly) => return Ok(vec![None; queries.len()]),
            answers => answers?,
        };
        let number = |row: &PgRow, at: usize| row.try_get::<_, i64>(at).map_err(|e| engine("count", &e));
        let one = |rows: &Vec<PgRow>| match rows.first() {
            Some(row) => Ok(sql::counted(bounds, number(row, 0)?, number(row, 1)?)),
            None => Ok(None),
        };
        answers.iter().map(one).collect()
    }

    /// As [`Postgres::ask`], for no longer than `budget`; when nobody waits for the answer any more, the server is told.
    async fn ask_within(
        &self,
        calls: &[Call<'_>],
        budget: Option<Duration>,
    ) -> Result<Vec<Vec<PgRow>>, TablesError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        self.is_open()?;
        let client = self.0.pool.get().await.map_err(|e| pool_error(&e))?;
        if client.statement_cache.size() > limits::QUERY_STATEMENTS_MAX {
            client.statement_cache.clear();
        }
        let (budget, patience) = (budget_of(budget), self.0.patience.answer);
        let mut asked = Asked { postgres: self, client: Some(client) };
        let answer = match &asked.client {
            Some(client) => tokio::time::timeout(budget.min(patience), answers(client, calls)).await,
            None => return Err(TablesError::Engine("postgresql: no connection".to_owned())),
        };
        match (answer, asked.client.take()) {
            (Ok(answers), client) => {
                drop(client); // back to its pool
                answers
            }
            (Err(_), client) if budget < patience => {
                asked.client = client; // the server is told when this is dropped
                Err(TablesError::TooCostly)
            }
            (Err(_), Some(client)) => {
                let step = calls.first().map_or("query", |call| call.step);
                self.call_off(&client);
                Err(self.give_up(client, step, patience))
            }
            (Err(_), None) => Err(silent("query", patience)),
        }
    }

    /// See [`crate::tables::Tables::explain_query`]; as [`Postgres::explain`], for a query.
    ///
    /// # Errors
    /// As [`crate::tables::Tables::read`].
    pub async fn explain_query(&self, query: &Query) -> Result<String, TablesError> {
        let schema = &self.0.tables.schema;
        let fitting = schema.check_query(query)?;
        let limit = query.limit.min(limits::SCAN_ROWS_MAX);
        let statement = sql::select(schema, &Writing::of(&self.0.schema), &fitting, limit)?;
        let call = call_of("explain", &statement);
        let call = Call { sql: format!("EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) {}", call.sql), ..call };
        let mut lines = Vec::new();
        for row in self.ask_within(&[call], query.budget).await?.into_iter().flatten() {
            lines.push(row.try_get::<_, String>(0).map_err(|e| engine("explain", &e))?);
        }
        Ok(lines.join("\n"))
    }
}

/// A question on its way. Dropped before it is answered, its server is told not to go on, and its connection is closed: a
/// word that comes late would hit the next question on it.
struct Asked<'p> {
    postgres: &'p Postgres,
    client: Option<Object>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            drop(Object::take(client));
            return;
        };
        let (question, limit) = (client.cancel_token(), to_connect(&self.postgres.0.client));
        runtime.spawn(async move {
            tokio::time::timeout(limit, question.cancel_query(NoTls)).await.map(drop).ok();
            // Until here its place in the pool is taken: no more connections than were allowed.
            drop(Object::take(client));
        });
    }
}

/// How a query is written for PostgreSQL.
struct Writing<'s> {
    schema: &'s str,
    snapshot: String,
}

impl<'s> Writing<'s> {
    fn of(schema: &'s str) -> Self {
        Self {
            schema,
            snapshot: format!("(SELECT n.t FROM {}.hilum_counter AS n WHERE n.one)", quote(schema)),
        }
    }
}

impl Dialect for Writing<'_> {
    fn table(&self, table: &Table) -> String {
        format!("{}.{}", quote(self.schema), quote(table.name))
    }

    fn parameter(&self, n: usize, ty: Type) -> String {
        format!("${n}::{}", plan::element_type(ty))
    }

    fn snapshot(&self) -> Option<&str> {
        Some(&self.snapshot)
    }

    fn among(&self, n: usize, ty: Type) -> Option<String> {
        Some(format!("= ANY(${n}::{}[])", plan::element_type(ty)))
    }

    fn these(&self, n: usize, ty: Type) -> Option<String> {
        let collation = if ty == Type::Text { " COLLATE \"C\"" } else { "" };
        let element = plan::element_type(ty);
        Some(format!("SELECT v.s{collation} AS s FROM unnest(${n}::{element}[]) AS v(s)"))
    }

    fn looked_at(&self, column: &str, among: &str) -> String {
        // What stands in a case is not sought in an index.
        format!("CASE WHEN {column} {among} THEN true ELSE false END")
    }

    fn contains(&self, column: &str, part: &str) -> String {
        format!("strpos({column}, {part}) > 0")
    }

    fn hint(&self, _: &Table, _: Option<&str>) -> String {
        String::new()
    }

    fn orders(&self) -> bool {
        true
    }

    fn order(&self, by_key: bool, columns: &[String]) -> String {
        order_by(by_key, columns, false)
    }

    fn once(&self, by_key: bool, columns: &[String], all: &[String], descending: bool) -> (String, String) {
        // Which are distinct must be which are ordered by first; those that are given cost nothing.
        let last = columns.last().map_or("", String::as_str);
        let select = format!("SELECT DISTINCT ON ({}) {last}", columns.join(", "));
        (select, order_by(by_key, all, descending))
    }

    fn merged(&self, by_key: bool, legs: &[(String, String)], descending: bool) -> (String, &'static str) {
        let order = match (by_key, descending) {
            (true, false) => " ORDER BY c.s ASC",
            (true, true) => " ORDER BY c.s DESC",
            (false, false) => " ORDER BY c.s ASC NULLS FIRST",
            (false, true) => " ORDER BY c.s DESC NULLS LAST",
        };
        let all: Vec<String> = legs.iter().map(|(_, once)| format!("({once})")).collect();
        let all = all.join(" UNION ALL ");
        // The same order thrice, so that it is merged and never sorted.
        (format!("SELECT DISTINCT c.s FROM ({all}) AS c{order}"), order)
    }

    fn fence(&self) -> &'static str {
        " OFFSET 0"
    }

    fn least(&self, walk: &Walk, greatest: bool) -> String {
        // Behind an offset: an index that has this order would be read for all subjects to find the one.
        let way = if greatest { "DESC" } else { "ASC" };
        format!("(SELECT x.s FROM ({} OFFSET 0) AS x ORDER BY x.s {way} LIMIT 1)", walk.select())
    }

    fn each(&self, of: &str, from: &str, walk: &Walk) -> String {
        // What has an offset is not made one with what stands around it.
        format!("SELECT l.s FROM ({of}) AS {from} CROSS JOIN LATERAL ({} OFFSET 0) AS l", walk.select())
    }
}

/// The index's own order, which no other one has without a sort.
fn order_by(by_key: bool, columns: &[String], descending: bool) -> String {
    let way = match (by_key, descending) {
        (true, false) => "ASC",
        (true, true) => "DESC",
        (false, false) => "ASC NULLS FIRST",
        (false, true) => "DESC NULLS LAST",
    };
    let columns: Vec<String> = columns.iter().map(|column| format!("{column} {way}")).collect();
    format!(" ORDER BY {}", columns.join(", "))
}

fn param<'q>(given: &Given<'q>) -> Param<'q> {
    match given {
        Given::One(value) => Param::One(Item::from(*value)),
        Given::Many(values) => Param::Many(values.iter().map(Item::from).collect()),
    }
}

fn call_of<'q>(step: &'static str, statement: &Statement<'q>) -> Call<'q> {
    let params = statement.params.iter().map(param).collect();
    Call { step, sql: statement.sql.clone(), params }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Index;
    use crate::tables::postgres::PostgresConfig;
    use crate::tables::query::{Probe, Source, Term};

    static FACT: Table = Table {
        name: "fact",
        key_len: 2,
        columns: &[Column::new("kind", Type::Int), Column::new("who", Type::Id)],
        indexes: &[Index { name: "by_who", columns: &["who"] }],
        register: None,
    };

    /// Whatever is asked, a connection keeps a bounded number of statements, here and at the server.
    #[tokio::test]
    async fn statements_of_queries_are_bounded() {
        let server = hilum_testkit::postgres::Postgres::shared();
        let mut config = PostgresConfig::new(server.url(), server.fresh_schema());
        config.pool_size = 1;
        let tables = Postgres::open(config, &[&FACT]).await.expect("opens");
        let probe = Probe::by_key("fact", vec![Term::Is(Value::Int(1))]);
        let query = Query::new(Source::Walk { probe, subject: "who" });
        let mut most = 0;
        for limit in 1..=700 {
            tables.query(&Query { limit, ..query.clone() }).await.expect("answers");
            if limit % 50 == 0 {
                let client = tables.0.pool.get().await.expect("a connection");
                let kept = client.query_one("SELECT count(*) FROM pg_prepared_statements", &[]).await;
                most = most.max(kept.expect("counts").get::<_, i64>(0));
            }
        }
        assert!(most > 100, "nothing is kept: {most}");
        assert!(most <= limits::QUERY_STATEMENTS_MAX as i64 + 10, "{most} statements are kept");
    }
}
