//! The row batches of tables on PostgreSQL, run again by the bare client: the same statements with the same parameters in
//! the same transactions, without what checks, counts and signs them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type};
use tokio_postgres::{NoTls, Statement};

use super::{BareError, Reader, Replayed, cut_off, tape};
use crate::tables::postgres::{PostgresConfig, SETTINGS, quote};

/// A parameter as it goes over the wire; none = absent.
#[derive(Debug)]
struct Encoded(Option<Vec<u8>>);

impl ToSql for Encoded {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Some(bytes) = &self.0 else { return Ok(IsNull::Yes) };
        out.put_slice(bytes);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true // the statement is the one that it was encoded for
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.to_sql(ty, out)
    }
}

/// Runs the statements of a tape that was recorded on `config.schema` in the new schema `onto` of the same database, with
/// its tables and indexes. A commit is one round trip, as ours are. `elapsed` is a clock that only grows.
///
/// # Errors
/// [`BareError`] when the server does not take it, or the tape cannot be read.
pub async fn replay(
    config: &PostgresConfig,
    onto: &str,
    recorded: &Path,
    elapsed: impl Fn() -> Duration,
) -> Result<Replayed, BareError> {
    let mut client: tokio_postgres::Config = config.url.parse()?;
    let (client, connection) = client.options(SETTINGS).connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    let (from, to) = (quote(&config.schema), quote(onto));
    client.batch_execute(&format!("CREATE SCHEMA {to}")).await?;
    // What else is the engine's own is not on the tape: the counter, who writes, leases.
    let named = "SELECT tablename FROM pg_tables WHERE schemaname = $1 AND (tablename NOT LIKE 'hilum\\_%' \
                 OR tablename IN ('hilum_offset', 'hilum_outbox'))";
    let mut tables = Vec::new();
    for row in client.query(named, &[&config.schema]).await? {
        let table = quote(&row.try_get::<_, String>(0)?);
        client
            .batch_execute(&format!("CREATE TABLE {to}.{table} (LIKE {from}.{table} INCLUDING ALL)"))
            .await?;
        tables.push(table);
    }
    let begin = client.prepare("BEGIN").await?;
    let set = client
        .prepare("SELECT set_config('hilum.base', $1, true), set_config('hilum.moment', $1, true), set_config('hilum.bad', $2, true)")
        .await?;
    let commit = client.prepare("COMMIT").await?;

    let mut tape = Reader(BufReader::with_capacity(1 << 20, File::open(recorded)?));
    let (mut texts, mut known): (Vec<String>, HashMap<u32, Statement>) = (Vec::new(), HashMap::new());
    let mut calls: Vec<(u32, Vec<Encoded>)> = Vec::new();
    let mut done = Replayed::default();
    while let Some(what) = tape.next()? {
        match what {
            tape::STATEMENT => texts.push(tape.text()?.replace(&from, &to)),
            tape::ROWS => {
                let number = u32::from_be_bytes(tape.array()?);
                done.rows += u64::from(u32::from_be_bytes(tape.array()?));
                let [count] = tape.array()?;
                let values = (0..count).map(|_| encoded(&mut tape)).collect::<Result<_, _>>()?;
                if let Entry::Vacant(new) = known.entry(number) {
                    let text = texts.get(number as usize).ok_or_else(cut_off)?;
                    new.insert(client.prepare(text).await?);
                }
                calls.push((number, values));
            }
            tape::COMMIT => {
                let (base, bad) = (tape.text()?, tape.text()?);
                let begun = elapsed();
                let none: [&(dyn ToSql + Sync); 0] = [];
                let settings: [&(dyn ToSql + Sync); 2] = [&base, &bad];
                let run = |statement| client.execute_raw(statement, none);
                let rows = calls.iter().map(|(number, values)| {
                    let statement = known.get(number).unwrap_or(&commit);
                    client.execute_raw(statement, values)
                });
                // Each is written when it is first polled: one flight, in this order.
                let (begun_at, set_at, rows, committed) = futures::future::join4(
                    run(&begin),
                    client.execute_raw(&set, settings),
                    futures::future::join_all(rows),
                    run(&commit),
                )
                .await;
                done.time += elapsed().saturating_sub(begun);
                for answer in [begun_at, set_at].into_iter().chain(rows).chain([committed]) {
                    answer?;
                }
                done.commits += 1;
                calls.clear();
            }
            _ => return Err(cut_off().into()),
        }
    }
    // What it left is what was recorded, or the time is of something else.
    for table in &tables {
        let count = |schema: &str| format!("(SELECT count(*) FROM {schema}.{table})");
        let row = client.query_one(&format!("SELECT {}, {}", count(&from), count(&to)), &[]).await?;
        let (recorded, replayed): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        if recorded != replayed {
            return Err(BareError::Postgres(format!(
                "{table}: {recorded} rows, and {replayed} after the replay"
            )));
        }
    }
    drop(client);
    connection.abort();
    Ok(done)
}

fn encoded(tape: &mut Reader) -> std::io::Result<Encoded> {
    match tape.array()? {
        [tape::NULL] => Ok(Encoded(None)),
        [tape::BLOB] => tape.bytes().map(|bytes| Encoded(Some(bytes))),
        _ => Err(cut_off()),
    }
}
