//! The tables on PostgreSQL: a schema of a database, typed tables in it that an analyst can open.
//!
//! A commit is one flight: everything that it needs is prepared beforehand, then `BEGIN` … `COMMIT` leave in one
//! piece and come back in one. The first statement takes the counter row, so commits are serial in `t`, whoever makes
//! them, and each later statement sees all commits before. What the batches were based on is checked there, under the
//! counter, and the writes leave out the batches whose check failed: a batch that conflicts leaves its neighbours in
//! the group whole. A process has one flight in the air; what comes meanwhile makes the next group ([`writer`]).
//!
//! When the connection breaks in flight, nobody guesses: the process's row in `hilum_writer` tells whether the group
//! is committed, and asking makes sure that it never will be if it is not yet.
//!
//! Statements on the wire, beyond their preparation (counted by the contract suite; each operation is one turn, and none
//! grows with its rows):
//!
//! | operation | statements |
//! |---|---|
//! | `commit` | 4 (begin, counter, sign, commit), 1 for each table that is expected of and 1 for the gate, 1 for each table and kind of write (and columns that are set), 2 for an offset (and the gate), 1 for the outbox |
//! | `read` | 1 for all gets of a table, 1 for all scans that differ in their values alone, 1 for each other one |
//! | `changes` | 2; one more where the first commit alone is larger than the limit |
//! | `query`, `query_counts` (each), `count`, `applied`, `now`, `ready`, `lease`, `prune` | 1 |
//!
//! | file | what lives there |
//! |---|---|
//! | [`back`] | tables that are older than what was seen of them |
//! | [`checkup`] | what `hilum doctor` finds at the server |
//! | [`ddl`] | the schema: made, extended, checked |
//! | [`hold`] | who works on a schema, together or alone |
//! | [`open`] | the tables opened, at once or as soon as the server answers |
//! | [`patience`] | how long a server is waited for |
//! | [`plan`] | statements as text, scans as index ranges; pure |
//! | [`query`] | queries over several tables, one statement each |
//! | [`server`] | what a server promises, and whether that is enough |
//! | [`tape`] | what changed rows, written down for `hilum bench` |
//! | [`trouble`] | errors of the server, and the way out |
//! | [`wire`] | values in PostgreSQL's binary formats |
//! | [`writer`] | groups, flights, and the question after a broken one |

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use hilum_core::{Epoch, Id, RecordId, Seq, Stream, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, NoTls, Row as PgRow, Statement};
use uuid::Uuid;

use super::shape::{Ordered, Schema, shape};
use super::{Anew, Applied, Batch, Change, Key, Read, Row, Scan, Table, TablesError, Token, Value, WentBack};
use crate::limits;
use back::Behind;
use hold::Held;
pub use hold::Hold;
pub use open::check_schema;
pub use patience::Patience;
use patience::{silent, to_connect, within};
pub(crate) use plan::quote;
use plan::{Planned, Ranges};
use trouble::{engine, pool_error};
use wire::{Item, Param, Raw};

mod back;
pub mod checkup;
mod ddl;
mod hold;
mod open;
mod patience;
mod plan;
mod query;
mod server;
mod tape;
mod trouble;
mod wire;
mod writer;

/// What every connection of ours is set to. We choose the index and the order, so the planner has no choice left:
/// plans are made once, for any values; an index is walked in its order; nothing is sorted, hashed or read whole.
pub(crate) const SETTINGS: &str = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_bitmapscan=off \
     -c enable_sort=off -c enable_incremental_sort=off -c enable_hashjoin=off -c enable_mergejoin=off \
     -c enable_hashagg=off -c jit=off -c max_parallel_workers_per_gather=0 -c lock_timeout=30s \
     -c idle_in_transaction_session_timeout=60s -c client_min_messages=warning -c timezone=UTC";

/// Where the tables stand and how they are reached. Prints no password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresConfig {
    /// `postgresql://user:password@host:port/database`.
    pub url: String,
    /// The schema of all tables: lower-case letters, digits and `_`.
    pub schema: String,
    /// Connections for reads; one more is for commits, and one holds the schema.
    pub pool_size: usize,
    /// With whom the schema is shared.
    pub hold: Hold,
    /// Who holds it, for others to be told: at most 63 bytes.
    pub holder: String,
    /// What may be made anew where it does not fit its declaration.
    pub anew: Option<Anew>,
    /// Opens a server that may lose what it acknowledged (`fsync`, `full_page_writes` or `synchronous_commit` off).
    pub allow_weak: bool,
    /// The newest commit that was seen of this schema before, 0 for none: one that is not there any more is not made anew,
    /// and one that is older goes on behind it.
    pub seen: Seq,
    /// How long the server is waited for.
    pub patience: Patience,
    /// Where the statements that change rows are written down, for `hilum bench`; absent in a server.
    pub tape: Option<PathBuf>,
}

impl PostgresConfig {
    /// Eight connections, and only a server that keeps what it acknowledges.
    pub fn new(url: impl Into<String>, schema: impl Into<String>) -> Self {
        let holder = format!("hilum, pid {}", std::process::id());
        Self {
            url: url.into(),
            schema: schema.into(),
            pool_size: 8,
            hold: Hold::Shared,
            holder,
            anew: None,
            allow_weak: false,
            seen: Seq(0),
            patience: Patience::default(),
            tape: None,
        }
    }

    /// Whether the url is one, and does not send rows over a network in clear without saying so.
    ///
    /// # Errors
    /// What is wrong with it, without the url itself: it may hold a password.
    pub fn check(&self) -> Result<(), String> {
        parse(&self.url).map(drop)
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("schema", &self.schema)
            .field("pool_size", &self.pool_size)
            .field("hold", &self.hold)
            .field("allow_weak", &self.allow_weak)
            .finish_non_exhaustive()
    }
}

/// The tables on PostgreSQL. Cheap to clone.
#[derive(Clone)]
pub struct Postgres(Arc<Shared>);

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("schema", &self.0.schema).finish_non_exhaustive()
    }
}

struct Shared {
    schema: String,
    declared: Vec<&'static Table>,
    tables: Arc<Catalog>,
    client: tokio_postgres::Config,
    allow_weak: bool,
    pool: Pool,
    orders: mpsc::Sender<writer::Order>,
    behind: Arc<Behind>,
    patience: Patience,
    opened: watch::Sender<open::Opened>,
    hold: Hold,
    holder: String,
    anew: Option<Anew>,
    seen: Seq,
    /// Absent until the server has answered.
    held: OnceLock<Held>,
}

/// The declared tables, checked and planned.
struct Catalog {
    schema: Schema,
    planned: Vec<Planned>,
}

impl Catalog {
    fn get(&self, table: &str) -> Result<&Planned, TablesError> {
        // One plan for each declared table, in their order.
        self.planned.get(self.schema.at(table)?).ok_or_else(|| shape(table, "not declared"))
    }
}

/// The url, read. TLS is not built in: what would silently go in clear to another machine is refused, unless the url
/// says `sslmode=disable`.
fn parse(url: &str) -> Result<tokio_postgres::Config, String> {
    let client: tokio_postgres::Config = url
        .parse()
        .map_err(|_| "no connection url: write postgres://user:password@host/database".to_owned())?;
    let is_near = |host: &Host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    };
    match client.get_ssl_mode() {
        SslMode::Disable => Ok(client),
        SslMode::Require => Err("it asks for TLS, which is not built in yet: use a tunnel".to_owned()),
        _ if client.get_hosts().iter().all(is_near)
            && client.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback) =>
        {
            Ok(client)
        }
        _ => Err(
            "the host is another machine and TLS is not built in yet: rows and password would go in clear \
                  text. Use a tunnel, or say sslmode=disable to accept that"
                .to_owned(),
        ),
    }
}

/// The client's configuration with our settings.
fn client_config(config: &PostgresConfig) -> Result<tokio_postgres::Config, TablesError> {
    let mut client = parse(&config.url).map_err(|why| TablesError::Engine(format!("postgresql: {why}")))?;
    let options = match client.get_options() {
        Some(given) => format!("{given} {SETTINGS}"),
        None => SETTINGS.to_owned(),
    };
    client
        .options(options)
        .application_name("hilum")
        .keepalives_idle(Duration::from_secs(10))
        .tcp_user_timeout(Duration::from_secs(limits::ENGINE_SILENCE_S_MAX));
    if client.get_connect_timeout().is_none() {
        client.connect_timeout(Duration::from_secs(limits::ENGINE_CONNECT_S_MAX));
    }
    Ok(client)
}

async fn connect(config: &tokio_postgres::Config) -> Result<Client, TablesError> {
    let asked = async { config.connect(NoTls).await.map_err(|e| engine(trouble::CONNECT, &e)) };
    let (client, connection) = within("connect", to_connect(config), asked).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            // The caller of the broken call gets the error; here is nobody to tell.
            tracing::debug!(closed = error.is_closed(), "a connection to postgresql ended");
        }
    });
    Ok(client)
}

/// One statement of a flight, with what it is for.
struct Call<'a> {
    step: &'static str,
    sql: String,
    params: Vec<Param<'a>>,
}

impl Call<'_> {
    /// Whether it writes what a batch holds.
    fn is_write(&self) -> bool {
        matches!(self.step, "delete" | "put" | "put if newer" | "set" | "outbox")
    }

    /// Whether it may take as long as a commit: it removes as many rows as there are.
    fn is_long(&self) -> bool {
        self.step == "prune"
    }
}

/// Sends all calls in their order, then waits for all answers: one round trip.
async fn fly(
    client: &Client,
    statements: &[Statement],
    calls: &[Call<'_>],
) -> Vec<Result<Vec<PgRow>, tokio_postgres::Error>> {
    use futures::future::maybe_done;
    use futures::{FutureExt, TryStreamExt};
    let mut flying: Vec<_> = statements
        .iter()
        .zip(calls)
        .map(|(statement, call)| {
            Box::pin(maybe_done(async move {
                client.query_raw(statement, call.params.iter()).await?.try_collect::<Vec<PgRow>>().await
            }))
        })
        .collect();
    // A call is written to the connection when it is first polled, so this is the order on the wire.
    futures::future::poll_fn(|cx| {
        let answered =
            flying.iter_mut().filter_map(|call| call.poll_unpin(cx).is_ready().then_some(())).count();
        std::task::Poll::Ready(answered)
    })
    .await;
    let mut answers = Vec::with_capacity(flying.len());
    for mut call in flying {
        call.as_mut().await;
        answers.extend(call.as_mut().take_output());
    }
    answers
}

impl Postgres {
    /// Whether this process holds the schema; waits a moment where its connection is being made anew.
    async fn is_held(&self) -> Result<(), TablesError> {
        match self.0.held.get() {
            Some(held) => held.wait().await,
            None => Ok(()),
        }
    }

    /// Commits a batch: see [`super::Tables::commit`]. A call that is dropped before its group is sent is not made.
    ///
    /// # Errors
    /// As [`super::Tables::commit`].
    pub async fn commit(&self, batch: Batch) -> Result<Seq, TablesError> {
        let closed = || TablesError::Engine("postgresql: the tables are closed".to_owned());
        self.is_open()?;
        self.is_held().await?;
        let checked = writer::Checked::new(&self.0.tables, batch)?;
        let (reply, answer) = oneshot::channel();
        self.0.orders.send(writer::Order::Commit(Box::new(checked), reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Answers reads: see [`super::Tables::read`].
    ///
    /// # Errors
    /// As [`super::Tables::read`].
    pub async fn read(&self, reads: &[Read]) -> Result<Vec<Vec<Row>>, TablesError> {
        let tables = &self.0.tables;
        let mut gets: BTreeMap<&str, Vec<(usize, &Key)>> = BTreeMap::new();
        let mut scans = Vec::new();
        for (at, read) in reads.iter().enumerate() {
            match read {
                Read::Get { table, key } => {
                    tables.schema.check_get(table, key)?;
                    gets.entry(table).or_default().push((at, key));
                }
                Read::Scan(scan) => {
                    scans.push((at, tables.get(scan.table)?, tables.schema.check_scan(scan)?));
                }
            }
        }
        let (mut calls, mut places) = (Vec::new(), Vec::new());
        for (table, wanted) in &gets {
            let planned = tables.get(table)?;
            let mut params = vec![Param::Many(
                wanted.iter().map(|(at, _)| Item::Int4(i32::try_from(*at).unwrap_or(i32::MAX))).collect(),
            )];
            params.extend(key_columns(planned.table, wanted.iter().map(|(_, key)| *key)));
            calls.push(Call { step: "get", sql: planned.get.clone(), params });
            places.push((None, planned));
        }
        for (call, place) in scan_calls(&scans) {
            calls.push(call);
            places.push(place);
        }
        let mut rows: Vec<Vec<Row>> = vec![Vec::new(); reads.len()];
        for (answer, (scan, planned)) in self.ask(&calls).await?.into_iter().zip(places) {
            for found in answer {
                // What answers several reads begins with the place of each.
                let at = match scan {
                    Some(at) => at,
                    None => found
                        .try_get::<_, i32>(0)
                        .map(|at| usize::try_from(at).unwrap_or(usize::MAX))
                        .map_err(|e| engine("read", &e))?,
                };
                let row = row(planned.table, &found, usize::from(scan.is_none()))?;
                if let Some(answer) = rows.get_mut(at) {
                    answer.push(row);
                }
            }
        }
        Ok(rows)
    }

    /// Counts: see [`super::Tables::count`].
    ///
    /// # Errors
    /// As [`super::Tables::read`].
    pub async fn count(&self, scan: &Scan, cap: u64) -> Result<u64, TablesError> {
        let ordered = self.0.tables.schema.check_scan(scan)?;
        let ranges = plan::ranges(self.0.tables.get(scan.table)?, &ordered);
        if ranges.is_empty() {
            return Ok(0);
        }
        let (sql, params) = ranges.count(cap);
        let count = self.ask_value::<i64>(Call { step: "count", sql, params }).await?;
        Ok(count.unwrap_or_default().unsigned_abs())
    }

    /// The outbox behind `after`: see [`super::Tables::changes`].
    ///
    /// # Errors
    /// As [`super::Tables::changes`].
    pub async fn changes(&self, after: Seq, limit: u32) -> Result<Vec<Change>, TablesError> {
        let outbox = format!(
            "SELECT t, n, topic, key, body FROM {}.hilum_outbox WHERE t > $1::int8 AND t <= $2::int8 \
             ORDER BY t, n LIMIT $3::int8",
            quote(&self.0.schema)
        );
        let range = |first: i64, last: i64, limit: i64| Call {
            step: "changes",
            sql: outbox.clone(),
            params: [first, last, limit].map(|n| Param::One(Item::Int8(n))).into(),
        };
        // The window is read behind the entries: what was pruned in between is seen as pruned, never skipped.
        let window = Call {
            step: "changes",
            sql: format!("SELECT oldest FROM {}.hilum_window", quote(&self.0.schema)),
            params: Vec::new(),
        };
        let limit = i64::from(limit.max(1));
        let answers = self.ask(&[range(after.0, i64::MAX, limit + 1), window]).await?;
        let [entries, window] = answers.as_slice() else { return Ok(Vec::new()) };
        let oldest = first_value::<i64>(window, "changes")?.unwrap_or_default();
        if after.0.saturating_add(1) < oldest {
            return Err(TablesError::Pruned { oldest: Seq(oldest) });
        }
        let mut changes = entries.iter().map(change).collect::<Result<Vec<_>, _>>()?;
        if changes.len() as i64 > limit
            && let (Some(first), Some(last)) = (changes.first().map(|c| c.t), changes.last().map(|c| c.t))
        {
            changes.retain(|change| change.t < last);
            if changes.is_empty() {
                // The first commit alone is larger than the limit: it is given whole.
                let answers = self.ask(&[range(first.0 - 1, first.0, i64::MAX)]).await?;
                for entry in answers.iter().flatten() {
                    changes.push(change(entry)?);
                }
            }
        }
        if let Some(last) = changes.last() {
            heard(&self.0.behind.committed, last.t);
        }
        Ok(changes)
    }

    /// Shortens the outbox: see [`super::Tables::prune`].
    ///
    /// # Errors
    /// As [`super::Tables::commit`].
    pub async fn prune(&self, before: Seq) -> Result<u64, TablesError> {
        self.is_held().await?;
        let s = quote(&self.0.schema);
        // Never ahead of the counter: a commit that is to come is not pruned.
        let sql = format!(
            "WITH bound AS MATERIALIZED (SELECT least($1::int8, t + 1) AS t FROM {s}.hilum_counter), \
             moved AS (UPDATE {s}.hilum_window SET oldest = greatest(oldest, bound.t) FROM bound), \
             gone AS (DELETE FROM {s}.hilum_outbox AS o USING bound WHERE o.t < bound.t RETURNING 1) \
             SELECT count(*) FROM gone"
        );
        let call = Call { step: "prune", sql, params: vec![Param::One(Item::Int8(before.0))] };
        Ok(self.ask_value::<i64>(call).await?.unwrap_or_default().unsigned_abs())
    }

    /// How far a projection has read: see [`super::Tables::applied`].
    ///
    /// # Errors
    /// As [`super::Tables::applied`].
    pub async fn applied(
        &self,
        projection: &str,
        stream: Stream,
        partition: u16,
        epoch: Epoch,
    ) -> Result<Applied, TablesError> {
        writer::no_nul("hilum_offset", projection)?;
        let call = Call {
            step: "offset",
            sql: format!(
                "SELECT epoch, next, last FROM {}.hilum_offset \
                 WHERE projection = $1::text AND stream = $2::text AND part = $3::int4",
                quote(&self.0.schema)
            ),
            params: vec![
                Param::One(Item::Text(projection)),
                Param::One(Item::Text(stream.as_str())),
                Param::One(Item::Int4(i32::from(partition))),
            ],
        };
        let failed = |e: &tokio_postgres::Error| engine("offset", e);
        let Some(row) = self.ask(&[call]).await?.into_iter().flatten().next() else {
            return Ok(Applied::default());
        };
        let stored = Epoch(row.try_get(0).map_err(|e| failed(&e))?);
        if stored != epoch {
            return Err(TablesError::OtherLog { stored, given: epoch });
        }
        let next = row.try_get::<_, i64>(1).map_err(|e| failed(&e))?.unsigned_abs();
        let last = row.try_get::<_, Option<Uuid>>(2).map_err(|e| failed(&e))?;
        Ok(Applied { next, last: last.map(RecordId::from_uuid) })
    }

    /// Whether the server answers: see [`super::Tables::ready`].
    ///
    /// # Errors
    /// As there.
    pub async fn ready(&self) -> Result<(), TablesError> {
        self.0.held.get().map_or(Ok(()), Held::check)?;
        self.now().await.map(drop)
    }

    /// The newest commit: see [`super::Tables::now`].
    ///
    /// # Errors
    /// As [`super::Tables::read`].
    pub async fn now(&self) -> Result<Seq, TablesError> {
        let behind = &self.0.behind;
        // Before it is asked: what is seen meanwhile is newer than the answer.
        let seen = *behind.committed.borrow();
        let call = Call { step: "now", sql: behind.question(), params: Vec::new() };
        let answer = self.ask(&[call]).await?;
        let row = answer.iter().flatten().next();
        let row =
            row.ok_or_else(|| TablesError::Engine("postgresql: the counter row is missing".to_owned()))?;
        if let Some(t) = behind.take(row, seen)? {
            return Ok(t);
        }
        self.is_held().await?;
        let client: Object = self.0.pool.get().await.map_err(|e| pool_error(&e))?;
        let limit = self.0.patience.answer;
        match tokio::time::timeout(limit, behind.look(&client)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.give_up(client, "counter", limit)),
        }
    }

    /// See [`super::Tables::went_back`].
    pub fn went_back(&self) -> watch::Receiver<Option<WentBack>> {
        self.0.behind.said.subscribe()
    }

    /// Takes or renews a lease: see [`super::Tables::lease`].
    ///
    /// # Errors
    /// As [`super::Tables::read`].
    pub async fn lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Token>, TablesError> {
        self.is_held().await?;
        writer::no_nul("hilum_lease", name)?;
        writer::no_nul("hilum_lease", holder)?;
        // By the server's clock: a process whose own is an hour off neither keeps a lease for longer nor takes another's.
        // One that runs for far longer than any is given was given before the server's clock went back; one that is set by a
        // moment, as NTP does, makes a lease run for a moment more than it was given for, and frees none.
        let sql = format!(
            "INSERT INTO {}.hilum_lease AS l \
             VALUES ($1::text, $2::text, (extract(epoch FROM clock_timestamp()) * 1000000)::int8 + $3::int8, 1) \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until, \
             token = CASE WHEN l.holder = $2::text AND excluded.until - $3::int8 < l.until \
                 THEN l.token ELSE l.token + 1 END \
             WHERE l.holder = $2::text OR l.until <= excluded.until - $3::int8 \
                 OR ($3::int8 > 0 AND l.until > excluded.until - $3::int8 + {}) RETURNING token",
            quote(&self.0.schema),
            2 * limits::LEASE_S_MAX * 1_000_000
        );
        let params = vec![
            Param::One(Item::Text(name)),
            Param::One(Item::Text(holder)),
            Param::One(Item::Int8(until.micros_since(now).max(0))),
        ];
        Ok(self.ask_value::<i64>(Call { step: "lease", sql, params }).await?.map(Token))
    }

    /// The newest commit that this process made or saw.
    pub fn committed(&self) -> watch::Receiver<Seq> {
        self.0.behind.committed.subscribe()
    }

    /// The schema's name.
    pub fn schema(&self) -> &str {
        &self.0.schema
    }

    /// `postgresql` and how durable its commits are.
    pub fn describe(&self) -> String {
        match &*self.0.opened.borrow() {
            Ok(described) => described.clone(),
            Err(_) => "postgresql, not open yet".to_owned(),
        }
    }

    /// Commits what waits and closes all connections. Later calls fail. A server that does not answer is not waited
    /// for: what it was sent it may still commit.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        let closing = async {
            if self.0.orders.send(writer::Order::Close(done)).await.is_ok() {
                // An error says that the writer is gone already.
                closed.await.unwrap_or_default();
            }
        };
        let limit = Duration::from_secs(limits::ENGINE_CLOSE_S_MAX);
        if tokio::time::timeout(limit, closing).await.is_err() {
            tracing::warn!("postgresql does not answer: its connections are given up");
        }
        if let Some(held) = self.0.held.get() {
            held.give_up();
        }
        self.0.pool.close();
    }

    /// PostgreSQL's plans for scans that are read at once, for operators and tests: what it runs, on the values' types alone.
    ///
    /// # Errors
    /// As [`super::Tables::read`].
    pub async fn explain(&self, scans: &[Scan]) -> Result<String, TablesError> {
        let tables = &self.0.tables;
        let checked = scans.iter().enumerate();
        let checked = checked
            .map(|(at, scan)| Ok((at, tables.get(scan.table)?, tables.schema.check_scan(scan)?)))
            .collect::<Result<Vec<_>, TablesError>>()?;
        let mut calls = Vec::new();
        for (call, _) in scan_calls(&checked) {
            let sql = format!("EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) {}", call.sql);
            calls.push(Call { step: "explain", sql, ..call });
        }
        if calls.is_empty() {
            return Ok("no rows can match".to_owned());
        }
        let mut lines = Vec::new();
        for row in self.ask(&calls).await?.into_iter().flatten() {
            lines.push(row.try_get::<_, String>(0).map_err(|e| engine("explain", &e))?);
        }
        // Conditions quote no values: they stand as $n in a generic plan.
        Ok(lines.join("\n"))
    }

    /// Makes all calls on one pooled connection, in one round trip once their statements are prepared there.
    async fn ask(&self, calls: &[Call<'_>]) -> Result<Vec<Vec<PgRow>>, TablesError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        self.is_open()?;
        let client: Object = self.0.pool.get().await.map_err(|e| pool_error(&e))?;
        let is_long = calls.iter().any(Call::is_long);
        let limit = if is_long { self.0.patience.commit } else { self.0.patience.answer };
        if let Ok(answers) = tokio::time::timeout(limit, answers(&client, calls)).await {
            return answers;
        }
        // What removes rows may go on: it would never come to its end.
        if !is_long {
            self.call_off(&client);
        }
        Err(self.give_up(client, calls.first().map_or("read", |call| call.step), limit))
    }

    /// Tells a server that is only slow not to go on with what nobody waits for. One that cannot be told goes on.
    fn call_off(&self, client: &Object) {
        let (question, limit) = (client.cancel_token(), to_connect(&self.0.client));
        tokio::spawn(async move {
            tokio::time::timeout(limit, question.cancel_query(NoTls)).await.map(drop).ok();
        });
    }

    /// Drops a connection on which there was no answer, and with it all that wait for their next question: they lead to
    /// the same server, and whoever took its place is found by a new one. The error says what was asked.
    fn give_up(&self, client: Object, step: &str, limit: Duration) -> TablesError {
        drop(Object::take(client));
        self.0.pool.retain(|_, _| false);
        silent(step, limit)
    }

    async fn ask_value<T>(&self, call: Call<'_>) -> Result<Option<T>, TablesError>
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        let step = call.step;
        match self.ask(&[call]).await?.first() {
            Some(rows) => first_value(rows, step),
            None => Ok(None),
        }
    }
}

/// Makes all calls on `client`: one round trip, once their statements are prepared there.
async fn answers(client: &Object, calls: &[Call<'_>]) -> Result<Vec<Vec<PgRow>>, TablesError> {
    let statements = futures::future::try_join_all(calls.iter().map(|call| client.prepare_cached(&call.sql)))
        .await
        .map_err(|e| engine("prepare", &e))?;
    let mut rows = Vec::with_capacity(calls.len());
    for (answer, call) in fly(client, &statements, calls).await.into_iter().zip(calls) {
        rows.push(answer.map_err(|e| engine(call.step, &e))?);
    }
    Ok(rows)
}

fn first_value<T>(rows: &[PgRow], step: &str) -> Result<Option<T>, TablesError>
where
    T: for<'a> tokio_postgres::types::FromSql<'a>,
{
    rows.first().map(|row| row.try_get::<_, T>(0).map_err(|e| engine(step, &e))).transpose()
}

/// Lets who waits for commits know of one.
fn heard(committed: &watch::Sender<Seq>, t: Seq) {
    committed.send_if_modified(|newest| {
        let newer = t > *newest;
        if newer {
            *newest = t;
        }
        newer
    });
}

/// One array per key column.
fn key_columns<'a>(
    table: &Table,
    keys: impl Iterator<Item = &'a Key> + Clone,
) -> impl Iterator<Item = Param<'a>> {
    (0..table.key_len).map(move |at| {
        Param::Many(keys.clone().map(|key| key.get(at).map_or(Item::Null, Item::from)).collect())
    })
}

/// Of a statement's rows, of which read they are (absent: each says it itself), and of which table.
type Place<'a> = (Option<usize>, &'a Planned);

/// A scan with its place among what is read, cut into ranges, and the parameters of its own statement.
type Cut<'a> = (usize, Ranges<'a>, Vec<Param<'a>>);

/// The statements that answer scans: one for all that differ in their values alone.
fn scan_calls<'a>(scans: &'a [(usize, &'a Planned, Ordered<'a>)]) -> Vec<(Call<'a>, Place<'a>)> {
    let mut calls = Vec::new();
    let mut alike: BTreeMap<(String, u32), Vec<Cut<'a>>> = BTreeMap::new();
    for (at, planned, ordered) in scans {
        let limit = ordered.scan.limit.min(limits::SCAN_ROWS_MAX);
        let ranges = plan::ranges(planned, ordered);
        if !ranges.is_empty() && limit > 0 {
            let (sql, params) = ranges.select(limit);
            alike.entry((sql, limit)).or_default().push((*at, ranges, params));
        }
    }
    for ((sql, _), same) in alike {
        let together = same.first().filter(|_| same.len() > 1);
        if let Some((sql, planned)) = together.and_then(|(_, ranges, _)| ranges.select_alike()) {
            let params = side_by_side(same.into_iter().map(|(at, _, params)| (at, params)));
            calls.push((Call { step: "scans", sql, params }, (None, planned)));
            continue;
        }
        for (at, ranges, params) in same {
            calls.push((Call { step: "scan", sql: sql.clone(), params }, (Some(at), ranges.planned())));
        }
    }
    calls
}

/// The parameters of scans that differ in their values alone: their limit, their places, an array of each value.
fn side_by_side<'a>(all: impl Iterator<Item = (usize, Vec<Param<'a>>)>) -> Vec<Param<'a>> {
    let (mut places, mut limit, mut arrays) = (Vec::new(), None, Vec::<Vec<Item<'a>>>::new());
    for (at, params) in all {
        places.push(Item::Int4(i32::try_from(at).unwrap_or(i32::MAX)));
        let mut params = params.into_iter();
        limit = params.next().or(limit);
        for (n, param) in params.enumerate() {
            let Param::One(item) = param else { continue };
            match arrays.get_mut(n) {
                Some(array) => array.push(item),
                None => arrays.push(vec![item]),
            }
        }
    }
    limit.into_iter().chain([Param::Many(places)]).chain(arrays.into_iter().map(Param::Many)).collect()
}

/// A declared table's row, its columns from `at` on.
fn row(table: &Table, found: &PgRow, at: usize) -> Result<Row, TablesError> {
    let mut values: Vec<Value> = Vec::with_capacity(table.columns.len());
    for (n, column) in table.columns.iter().enumerate() {
        let raw: Option<Raw<'_>> = found.try_get(at + n).map_err(|e| engine("row", &e))?;
        values.push(wire::value(table.name, column, raw.as_ref())?);
    }
    let t = found.try_get(at + table.columns.len()).map_err(|e| engine("row", &e))?;
    Ok(Row { values, t: Seq(t) })
}

fn change(row: &PgRow) -> Result<Change, TablesError> {
    let read = || -> Result<Change, tokio_postgres::Error> {
        Ok(Change {
            t: Seq(row.try_get(0)?),
            n: row.try_get(1)?,
            topic: row.try_get(2)?,
            key: Id::from(row.try_get::<_, uuid::Uuid>(3)?),
            body: row.try_get::<_, Vec<u8>>(4)?.into(),
        })
    };
    read().map_err(|e| engine("changes", &e))
}
