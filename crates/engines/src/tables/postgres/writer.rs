//! The one writer of a process: takes what waits, sends it as one flight, answers each batch for itself.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use hilum_core::{Epoch, Seq};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row as PgRow, Statement};
use uuid::Uuid;

use super::super::shape::{key_of, shape};
use super::super::{Batch, Expect, OffsetMove, Outgoing, Table, TablesError, Value, Write};
use super::plan::{BAD, BASE, Planned, quote, tell};
use super::wire::{Item, Param, THIS_COMMIT, time_fits};
use super::{Call, Catalog, check_server, connect, engine, fly, heard, key_columns};
use crate::limits;

pub(super) type Reply = oneshot::Sender<Result<Seq, TablesError>>;

/// What callers ask of the writer.
pub(super) enum Order {
    Commit(Box<Checked>, Reply),
    Close(oneshot::Sender<()>),
}

/// What the writer works with.
pub(super) struct Setup {
    pub(super) client: tokio_postgres::Config,
    pub(super) allow_unsafe: bool,
    pub(super) schema: String,
    pub(super) tables: Arc<Catalog>,
    pub(super) committed: watch::Sender<Seq>,
}

/// Refuses a text that PostgreSQL cannot hold.
pub(super) fn no_nul(table: &str, text: &str) -> Result<(), TablesError> {
    if text.contains('\0') { Err(shape(table, "a name with NUL")) } else { Ok(()) }
}

/// A batch that fits the declarations, with what it touches.
pub(super) struct Checked {
    batch: Batch,
    /// Hashes of what it must see as its neighbours leave it: expected rows.
    reads: Vec<u64>,
    /// Hashes of the rows that it writes for good, and of its offset row.
    writes: Vec<u64>,
    /// Hashes of the registers that it offers: those of neighbours are merged.
    offers: Vec<u64>,
    size_bytes: usize,
}

fn hash(table: &str, key: &[Value]) -> u64 {
    let mut hasher = DefaultHasher::new();
    table.hash(&mut hasher);
    key.hash(&mut hasher);
    hasher.finish()
}

/// The size of a row, which PostgreSQL must be able to hold.
fn size_bytes(table: &Table, values: &[Value]) -> Result<usize, TablesError> {
    let mut size = 0;
    for (column, value) in table.columns.iter().zip(values) {
        let why = match value {
            Value::Time(at) if !time_fits(*at) => "outside 4713 BC to 294276 AD",
            Value::Seq(seq) if seq.0 == THIS_COMMIT => "no commit",
            _ => "",
        };
        if !why.is_empty() {
            return Err(shape(table.name, format!("column {}: {why}", column.name)));
        }
        size += match value {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            _ => 16,
        };
    }
    Ok(size)
}

impl Checked {
    pub(super) fn new(tables: &Catalog, mut batch: Batch) -> Result<Self, TablesError> {
        tables.schema.check_batch(&mut batch)?;
        let reads = batch.expects.iter().map(|expect| hash(expect.table, &expect.key)).collect();
        let (mut writes, mut offers, mut size) = (Vec::with_capacity(batch.writes.len()), Vec::new(), 0);
        for write in &batch.writes {
            let table = tables.schema.table(write.table())?;
            let key = hash(table.name, key_of(table, write));
            match write {
                Write::Put { values, .. } => {
                    writes.push(key);
                    size += size_bytes(table, values)?;
                }
                Write::PutIfNewer { values, .. } => {
                    offers.push(key);
                    size += size_bytes(table, values)?;
                }
                Write::Delete { .. } => writes.push(key),
            }
        }
        if let Some(moved) = &batch.offset {
            no_nul("(offset)", moved.projection)?;
            let mut hasher = DefaultHasher::new();
            (moved.projection, moved.stream.as_str(), moved.partition).hash(&mut hasher);
            writes.push(hasher.finish());
        }
        size += batch.outbox.iter().map(|outgoing| outgoing.body.len()).sum::<usize>();
        if size > limits::BATCH_BYTES_MAX {
            return Err(shape("(batch)", format!("more than {} bytes", limits::BATCH_BYTES_MAX)));
        }
        Ok(Self { batch, reads, writes, offers, size_bytes: size })
    }
}

struct Waiting {
    checked: Box<Checked>,
    reply: Reply,
}

/// Starts the writer; it ends when all senders are gone or it is told to close.
pub(super) fn start(setup: Setup) -> mpsc::Sender<Order> {
    let (sender, orders) = mpsc::channel(limits::TABLES_QUEUE_MAX);
    let writer = Writer { sql: Sql::new(&setup.schema), setup, link: None, identity: None };
    tokio::spawn(writer.run(orders));
    sender
}

/// Takes from the front of `waiting` what may stand in one group: batches that do not touch each other. What does
/// not fit waits for the next group and is then checked against what this one left behind.
fn take_group(waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let mut group: Vec<Waiting> = Vec::new();
    let mut later: VecDeque<Waiting> = VecDeque::new();
    let (mut written, mut offered): (HashSet<u64>, HashSet<u64>) = (HashSet::new(), HashSet::new());
    let (mut rows, mut bytes) = (0, 0);
    while let Some(next) = waiting.pop_front() {
        if next.reply.is_closed() {
            continue; // nobody waits for it any more
        }
        let Checked { reads, writes, offers, size_bytes, .. } = &*next.checked;
        let full = group.len() >= limits::TABLES_GROUP_BATCHES_MAX
            || rows + writes.len() + offers.len() > limits::TABLES_GROUP_WRITES_MAX
            || bytes + size_bytes > limits::TABLES_GROUP_BYTES_MAX;
        if full && !group.is_empty() {
            later.push_back(next);
            break;
        }
        let touched = reads.iter().any(|row| written.contains(row) || offered.contains(row))
            || writes.iter().any(|row| written.contains(row) || offered.contains(row))
            || offers.iter().any(|row| written.contains(row));
        if touched {
            later.push_back(next);
            continue;
        }
        rows += writes.len() + offers.len();
        bytes += size_bytes;
        written.extend(writes);
        offered.extend(offers);
        group.push(next);
    }
    later.append(waiting);
    *waiting = later;
    group
}

/// The writer's own statements.
struct Sql {
    take: String,
    offsets: String,
    move_offsets: String,
    outbox: String,
    sign: String,
    register: String,
    unregister: String,
    fence: String,
    ask: String,
}

/// Refused batches end the group only when no batch is left: the division fails then, and with it the transaction.
const GATE: &str = "SELECT 1 / ($1::int4 - cardinality(current_setting('hilum.bad')::int4[]))";

impl Sql {
    fn new(schema: &str) -> Self {
        let s = quote(schema);
        Self {
            take: format!(
                "WITH taken AS (UPDATE {s}.hilum_counter SET t = t + $1::int4 RETURNING t - $1::int4 AS base) \
                 SELECT base, set_config('hilum.base', base::text, true), set_config('hilum.bad', '{{}}', true) \
                 FROM taken"
            ),
            offsets: format!(
                "WITH broken AS MATERIALIZED (SELECT m.b, CASE WHEN o.epoch <> m.epoch THEN o.epoch END AS other FROM unnest($1::int4[], $2::text[], \
                 $3::text[], $4::int4[], $5::uuid[], $6::int8[]) AS m(b, projection, stream, part, epoch, here) \
                 LEFT JOIN {s}.hilum_offset AS o ON o.projection = m.projection AND o.stream = m.stream \
                 AND o.part = m.part \
                 WHERE coalesce(o.epoch, m.epoch) <> m.epoch OR coalesce(o.next, 0) <> m.here), {}",
                tell("b, other")
            ),
            move_offsets: format!(
                "INSERT INTO {s}.hilum_offset (projection, stream, part, epoch, next, last) \
                 SELECT m.projection, m.stream, m.part, m.epoch, m.next, m.last FROM unnest($1::int4[], $2::text[], \
                 $3::text[], $4::int4[], $5::uuid[], $6::int8[], $7::uuid[]) \
                 AS m(b, projection, stream, part, epoch, next, last) \
                 WHERE m.b <> ALL ({BAD}) ON CONFLICT (projection, stream, part) \
                 DO UPDATE SET epoch = excluded.epoch, next = excluded.next, last = excluded.last"
            ),
            outbox: format!(
                "INSERT INTO {s}.hilum_outbox (t, n, topic, key, body) \
                 SELECT {BASE} + o.b, o.n, o.topic, o.key, o.body FROM unnest($1::int4[], $2::int8[], \
                 $3::text[], $4::uuid[], $5::bytea[]) AS o(b, n, topic, key, body) WHERE o.b <> ALL ({BAD})"
            ),
            // No row = this flight was given up: the division fails and the late flight with it.
            sign: format!(
                "WITH signed AS (UPDATE {s}.hilum_writer SET seq = $2::int8, base = {BASE}, bad = {BAD}, \
                 seen = now() WHERE writer = $1::uuid AND seq = $2::int8 - 1 RETURNING 1) \
                 SELECT 1 / count(*) FROM signed"
            ),
            register: format!(
                "WITH old AS (DELETE FROM {s}.hilum_writer WHERE seen < now() - interval '30 days') \
                 INSERT INTO {s}.hilum_writer (writer, seq) VALUES (gen_random_uuid(), 0) RETURNING writer"
            ),
            unregister: format!("DELETE FROM {s}.hilum_writer WHERE writer = $1::uuid"),
            fence: format!(
                "UPDATE {s}.hilum_writer SET seq = $2::int8, base = NULL, bad = NULL, seen = now() \
                 WHERE writer = $1::uuid AND seq = $2::int8 - 1 RETURNING seq"
            ),
            ask: format!("SELECT seq, base, bad FROM {s}.hilum_writer WHERE writer = $1::uuid"),
        }
    }
}

/// A connection with the statements prepared on it.
struct Link {
    client: Client,
    statements: HashMap<String, Statement>,
}

/// This process's row in `hilum_writer`: `seq` counts its flights.
#[derive(Clone, Copy)]
struct Identity {
    writer: Uuid,
    seq: i64,
    /// A flight under `seq + 1` may still be in the air.
    unknown: bool,
}

struct Writer {
    setup: Setup,
    sql: Sql,
    link: Option<Link>,
    identity: Option<Identity>,
}

/// What the checks under the counter found.
#[derive(Debug, Clone)]
enum Verdict {
    Changed {
        table: &'static str,
    },
    Fenced,
    OtherLog {
        stored: Epoch,
    },
    /// Refused, as the writer's row tells; the reason went down with the connection.
    Refused,
}

/// How a flight ended.
enum Landing {
    /// Committed, without the refused batches; batch `n` (from 1) at `base + n`.
    Committed { base: i64, refused: BTreeMap<usize, Verdict> },
    /// Rolled back: every batch was refused.
    AllRefused(BTreeMap<usize, Verdict>),
    /// Rolled back by an error of the server: one of the batches, or its state.
    RolledBack(TablesError),
    /// Not sent, or given up for good.
    Failed(TablesError),
    /// Rolled back: this process's row is not as it was left.
    Unsigned,
    /// The connection broke; the flight may have landed.
    Unknown,
}

impl Writer {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut waiting: VecDeque<Waiting> = VecDeque::new();
        let mut closing: Option<oneshot::Sender<()>> = None;
        loop {
            if waiting.is_empty() {
                if closing.is_some() {
                    break;
                }
                match orders.recv().await {
                    Some(Order::Commit(checked, reply)) => waiting.push_back(Waiting { checked, reply }),
                    Some(Order::Close(done)) => closing = Some(done),
                    None => break,
                }
            }
            // Callers whose commit has just been answered are about to come with their next: without this turn the first
            // of them would fly alone, and the others behind it.
            tokio::task::yield_now().await;
            let mut bytes: usize = waiting.iter().map(|waiting| waiting.checked.size_bytes).sum();
            while closing.is_none()
                && waiting.len() < limits::TABLES_GROUP_BATCHES_MAX * 2
                && bytes < limits::TABLES_GROUP_BYTES_MAX * 2
                && let Ok(order) = orders.try_recv()
            {
                match order {
                    Order::Commit(checked, reply) => {
                        bytes += checked.size_bytes;
                        waiting.push_back(Waiting { checked, reply });
                    }
                    Order::Close(done) => closing = Some(done),
                }
            }
            let group = take_group(&mut waiting);
            if !group.is_empty() {
                self.commit(group).await;
            }
        }
        drop(orders); // who still waits to send, learns that the tables are closed
        if let (Some(link), Some(identity)) = (self.link.take(), self.identity)
            && !identity.unknown
            && let Err(error) = link.client.execute(&self.sql.unregister, &[&identity.writer]).await
        {
            tracing::debug!(closed = error.is_closed(), "the row of this process stays behind");
        }
        if let Some(done) = closing {
            // Whoever asked to close may have stopped waiting.
            done.send(()).unwrap_or_default();
        }
    }

    async fn commit(&mut self, group: Vec<Waiting>) {
        let landing = self.attempt(&group).await;
        if matches!(landing, Landing::RolledBack(_)) && group.len() > 1 {
            // One of them is what the server cannot take: its neighbours must not fall with it.
            for waiting in group {
                let alone = vec![waiting];
                let landing = self.attempt(&alone).await;
                self.answer(alone, &landing);
            }
            return;
        }
        self.answer(group, &landing);
    }

    async fn attempt(&mut self, group: &[Waiting]) -> Landing {
        match self.fly(group).await {
            Ok(Landing::Unknown) => self.resolve().await,
            Ok(landing) => landing,
            Err(error) => Landing::Failed(error),
        }
    }

    fn answer(&self, group: Vec<Waiting>, landing: &Landing) {
        if let Landing::Committed { base, .. } = landing {
            heard(&self.setup.committed, Seq(base + group.len() as i64));
        }
        for (at, Waiting { checked, reply }) in group.into_iter().enumerate() {
            let n = at + 1;
            let answer = match landing {
                Landing::Committed { base, refused } => match refused.get(&n) {
                    None => Ok(Seq(base + n as i64)),
                    Some(verdict) => Err(refusal(verdict, &checked.batch)),
                },
                Landing::AllRefused(refused) => {
                    Err(refusal(refused.get(&n).unwrap_or(&Verdict::Refused), &checked.batch))
                }
                Landing::RolledBack(error) | Landing::Failed(error) => Err(error.clone()),
                Landing::Unsigned => Err(TablesError::Engine(
                    "postgresql, commit: the row of this process is gone; nothing was written".to_owned(),
                )),
                Landing::Unknown => Err(TablesError::Engine(
                    "postgresql, commit: the connection broke and the server cannot be asked what became of it"
                        .to_owned(),
                )),
            };
            // Whoever asked may have stopped waiting; the commit stands all the same.
            reply.send(answer).unwrap_or_default();
        }
    }

    /// Connects if need be, and makes sure that this process has its row and no flight of unknown end.
    async fn ready(&mut self) -> Result<Identity, TablesError> {
        if self.link.as_ref().is_some_and(|link| link.client.is_closed()) {
            self.link = None;
        }
        let fresh = self.link.is_none();
        if fresh {
            let client = connect(&self.setup.client).await?;
            // Also after a restart: the server may have come back with other settings.
            check_server(&client, self.setup.allow_unsafe).await?;
            self.link = Some(Link { client, statements: HashMap::new() });
        }
        if let Some(identity) = self.identity
            && identity.unknown
        {
            self.ask(identity).await?;
        }
        let Some(Link { client, .. }) = &self.link else {
            return Err(TablesError::Engine("postgresql: no connection".to_owned()));
        };
        if let Some(identity) = self.identity {
            return Ok(identity);
        }
        let writer = client
            .query_one(&self.sql.register, &[])
            .await
            .and_then(|row| row.try_get::<_, Uuid>(0))
            .map_err(|e| engine("register writer", &e))?;
        let identity = Identity { writer, seq: 0, unknown: false };
        self.identity = Some(identity);
        Ok(identity)
    }

    /// Sends a group and says how it landed. An error means that nothing was sent.
    async fn fly(&mut self, group: &[Waiting]) -> Result<Landing, TablesError> {
        let identity = self.ready().await?;
        let batches: Vec<&Batch> = group.iter().map(|waiting| &waiting.checked.batch).collect();
        let flight = Flight::new(&self.setup.tables, &self.sql, &batches, identity)?;
        let Some(link) = &mut self.link else {
            return Err(TablesError::Engine("postgresql: no connection".to_owned()));
        };
        let statements = link.prepare(&flight.calls).await?;
        hilum_core::failpoint::hit("commit");
        let limit = Duration::from_secs(limits::COMMIT_S_MAX);
        let answers = tokio::time::timeout(limit, fly(&link.client, &statements, &flight.calls)).await;
        let landing = match answers {
            Ok(answers) => flight.land(answers),
            Err(_) => Landing::Unknown,
        };
        match &landing {
            Landing::Committed { .. } => self.identity = Some(Identity { seq: identity.seq + 1, ..identity }),
            Landing::Unknown => {
                self.identity = Some(Identity { unknown: true, ..identity });
                self.link = None;
            }
            // The transaction is over, the connection is as good as before.
            Landing::AllRefused(_) | Landing::RolledBack(_) => {}
            Landing::Failed(_) => self.link = None,
            Landing::Unsigned => self.identity = None,
        }
        Ok(landing)
    }

    /// Finds out what became of a flight whose connection broke, for as long as the server may need to come back.
    async fn resolve(&mut self) -> Landing {
        let Some(identity) = self.identity else { return Landing::Unknown };
        let until = tokio::time::Instant::now() + Duration::from_secs(limits::COMMIT_ASK_S_MAX);
        let mut pause = Duration::from_millis(50);
        loop {
            let asked = match connect(&self.setup.client).await {
                Ok(client) => {
                    self.link = Some(Link { client, statements: HashMap::new() });
                    self.ask(identity).await
                }
                Err(error) => Err(error),
            };
            match asked {
                Ok(landing) => return landing,
                Err(error) => {
                    self.link = None;
                    tracing::warn!(%error, "the end of a commit is not known yet");
                }
            }
            if tokio::time::Instant::now() + pause > until {
                return Landing::Unknown;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Asks once. Either the flight has signed, or this makes its signature impossible: there is no third.
    async fn ask(&mut self, identity: Identity) -> Result<Landing, TablesError> {
        let failed = |e: &tokio_postgres::Error| engine("ask for a commit", e);
        let Some(Link { client, .. }) = &self.link else {
            return Err(TablesError::Engine("postgresql: no connection".to_owned()));
        };
        let asked = identity.seq + 1;
        let known = Identity { seq: asked, unknown: false, ..identity };
        let fenced =
            client.query_opt(&self.sql.fence, &[&identity.writer, &asked]).await.map_err(|e| failed(&e))?;
        let given_up = || {
            Landing::Failed(TablesError::Engine(
                "postgresql, commit: the connection broke before it was committed; nothing was written"
                    .to_owned(),
            ))
        };
        if fenced.is_some() {
            self.identity = Some(known);
            return Ok(given_up());
        }
        let row = client.query_opt(&self.sql.ask, &[&identity.writer]).await.map_err(|e| failed(&e))?;
        let Some(row) = row else {
            self.identity = None; // the row is gone, and so is all that it could tell
            return Ok(Landing::Unknown);
        };
        let seq: i64 = row.try_get(0).map_err(|e| failed(&e))?;
        let base: Option<i64> = row.try_get(1).map_err(|e| failed(&e))?;
        let bad: Option<Vec<i32>> = row.try_get(2).map_err(|e| failed(&e))?;
        self.identity = Some(Identity { seq, ..known });
        Ok(match base {
            Some(base) if seq == asked => Landing::Committed { base, refused: refused_by(bad.as_deref()) },
            _ => given_up(),
        })
    }
}

fn refused_by(bad: Option<&[i32]>) -> BTreeMap<usize, Verdict> {
    bad.unwrap_or_default()
        .iter()
        .filter_map(|n| Some((usize::try_from(*n).ok()?, Verdict::Refused)))
        .collect()
}

/// The error for a batch that was refused.
fn refusal(verdict: &Verdict, batch: &Batch) -> TablesError {
    match (verdict, &batch.offset) {
        (Verdict::Fenced, Some(moved)) => TablesError::Fenced {
            projection: moved.projection.to_owned(),
            stream: moved.stream,
            partition: moved.partition,
        },
        (Verdict::OtherLog { stored }, Some(moved)) => {
            TablesError::OtherLog { stored: *stored, given: moved.epoch }
        }
        (Verdict::Changed { table }, _) => TablesError::Conflict(format!("a row of {table} has changed")),
        _ => TablesError::Conflict("something that the batch was based on has changed".to_owned()),
    }
}

impl Link {
    /// The calls' statements, prepared in one round trip where they are new.
    async fn prepare(&mut self, calls: &[Call<'_>]) -> Result<Vec<Statement>, TablesError> {
        let mut new: Vec<&str> = Vec::new();
        for call in calls {
            if !self.statements.contains_key(&call.sql) && !new.contains(&call.sql.as_str()) {
                new.push(&call.sql);
            }
        }
        let prepared = futures::future::try_join_all(new.iter().map(|sql| self.client.prepare(sql)))
            .await
            .map_err(|e| engine("prepare", &e))?;
        for (sql, statement) in new.into_iter().zip(prepared) {
            self.statements.insert(sql.to_owned(), statement);
        }
        Ok(calls.iter().filter_map(|call| self.statements.get(&call.sql).cloned()).collect())
    }
}

/// What a call's answer is good for.
enum Part {
    /// Nothing but its success.
    Done,
    Take,
    /// Rows of (batch, place in the list) whose row is not as it was.
    Expects(&'static str),
    /// Rows of (batch, the other log's epoch if that is why).
    Offsets,
    Gate,
    Sign,
}

/// A group as the statements of one transaction.
struct Flight<'a> {
    calls: Vec<Call<'a>>,
    parts: Vec<Part>,
}

fn int4(n: usize) -> Item<'static> {
    Item::Int4(i32::try_from(n).unwrap_or(i32::MAX))
}

impl<'a> Flight<'a> {
    fn new(
        tables: &'a Catalog,
        sql: &Sql,
        batches: &[&'a Batch],
        identity: Identity,
    ) -> Result<Self, TablesError> {
        let mut flight = Self { calls: Vec::new(), parts: Vec::new() };
        let batch_count = Param::One(int4(batches.len()));
        flight.push("begin", Part::Done, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE".into(), vec![]);
        flight.push("counter", Part::Take, sql.take.clone(), vec![batch_count]);
        let numbered = || batches.iter().enumerate().map(|(at, batch)| (at + 1, *batch));

        let mut expects: BTreeMap<&'static str, Vec<(usize, &'a Expect)>> = BTreeMap::new();
        let mut writes: BTreeMap<(&'static str, u8), Rows<'a>> = BTreeMap::new();
        let mut offsets: Vec<(usize, &'a OffsetMove)> = Vec::new();
        let mut outbox: Vec<(usize, usize, &'a Outgoing)> = Vec::new();
        for (n, batch) in numbered() {
            for expect in &batch.expects {
                expects.entry(expect.table).or_default().push((n, expect));
            }
            for write in &batch.writes {
                let (entry, row) = match write {
                    Write::Delete { table, key } => ((*table, 0), key),
                    Write::Put { table, values } => ((*table, 1), values),
                    Write::PutIfNewer { table, values } => ((*table, 2), values),
                };
                writes.entry(entry).or_default().push((n, row));
            }
            offsets.extend(batch.offset.as_ref().map(|moved| (n, moved)));
            outbox.extend(batch.outbox.iter().enumerate().map(|(at, outgoing)| (n, at, outgoing)));
        }

        for (table, expects) in &expects {
            let planned = tables.get(table)?;
            let mut params = vec![
                Param::Many(expects.iter().map(|(n, _)| int4(*n)).collect()),
                Param::Many((0..expects.len()).map(int4).collect()),
                Param::Many(expects.iter().map(|(_, e)| Item::opt_int8(e.t.map(|t| t.0))).collect()),
            ];
            params.extend(key_columns(planned.table, expects.iter().map(|(_, expect)| &expect.key)));
            flight.push("expectations", Part::Expects(table), planned.expect.clone(), params);
        }
        if !offsets.is_empty() {
            let params = offset_params(&offsets, |moved| moved.from);
            flight.push("offsets", Part::Offsets, sql.offsets.clone(), params);
        }
        if !expects.is_empty() || !offsets.is_empty() {
            flight.push("gate", Part::Gate, GATE.to_owned(), vec![Param::One(int4(batches.len()))]);
        }
        for ((table, kind), rows) in &writes {
            let planned = tables.get(table)?;
            flight.push_writes(planned, *kind, rows);
        }
        if !offsets.is_empty() {
            let mut params = offset_params(&offsets, |moved| moved.to);
            let last =
                |moved: &OffsetMove| moved.last.map_or(Item::Null, |last| Item::Id(*last.as_id().as_bytes()));
            params.push(Param::Many(offsets.iter().map(|(_, moved)| last(moved)).collect()));
            flight.push("offsets", Part::Done, sql.move_offsets.clone(), params);
        }
        if !outbox.is_empty() {
            let params = vec![
                Param::Many(outbox.iter().map(|(n, _, _)| int4(*n)).collect()),
                Param::Many(outbox.iter().map(|(_, at, _)| Item::Int8(*at as i64)).collect()),
                Param::Many(outbox.iter().map(|(_, _, o)| Item::Text(o.topic)).collect()),
                Param::Many(outbox.iter().map(|(_, _, o)| Item::Id(*o.key.as_bytes())).collect()),
                Param::Many(outbox.iter().map(|(_, _, o)| Item::Bytes(&o.body)).collect()),
            ];
            flight.push("outbox", Part::Done, sql.outbox.clone(), params);
        }
        let writer = Param::One(Item::Id(*identity.writer.as_bytes()));
        let next = Param::One(Item::Int8(identity.seq + 1));
        flight.push("sign", Part::Sign, sql.sign.clone(), vec![writer, next]);
        flight.push("commit", Part::Done, "COMMIT".into(), vec![]);
        Ok(flight)
    }

    fn push(&mut self, step: &'static str, part: Part, sql: String, params: Vec<Param<'a>>) {
        self.calls.push(Call { step, sql, params });
        self.parts.push(part);
    }

    fn push_writes(&mut self, planned: &Planned, kind: u8, rows: &[(usize, &'a Vec<Value>)]) {
        let batch = Param::Many(rows.iter().map(|(n, _)| int4(*n)).collect());
        let mut params = vec![batch];
        let width = if kind == 0 { planned.table.key_len } else { planned.table.columns.len() };
        for at in 0..width {
            params.push(Param::Many(
                rows.iter().map(|(_, row)| row.get(at).map_or(Item::Null, Item::from)).collect(),
            ));
        }
        let (step, sql) = match (kind, &planned.put_if_newer) {
            (0, _) => ("delete", planned.delete.clone()),
            (2, Some(put_if_newer)) => ("put if newer", put_if_newer.clone()),
            _ => ("put", planned.put.clone()),
        };
        self.push(step, Part::Done, sql, params);
    }

    /// Reads the answers.
    fn land(&self, answers: Vec<Result<Vec<PgRow>, tokio_postgres::Error>>) -> Landing {
        let mut refused: BTreeMap<usize, Verdict> = BTreeMap::new();
        let mut base = None;
        for ((answer, part), call) in answers.into_iter().zip(&self.parts).zip(&self.calls) {
            let rows = match answer {
                Ok(rows) => rows,
                Err(error) if ends_the_connection(&error) => return Landing::Unknown,
                Err(error) => {
                    let none_left = error.code() == Some(&SqlState::DIVISION_BY_ZERO);
                    return match part {
                        Part::Gate if none_left => Landing::AllRefused(refused),
                        Part::Sign if none_left => Landing::Unsigned,
                        Part::Done if call.is_write() && refuses_the_data(&error) => {
                            Landing::RolledBack(refused_data(call.step, &error))
                        }
                        _ => Landing::RolledBack(engine(call.step, &error)),
                    };
                }
            };
            if let Err(error) = read_part(part, &rows, &mut base, &mut refused) {
                return Landing::Failed(engine(call.step, &error));
            }
        }
        match base {
            Some(base) => Landing::Committed { base, refused },
            None => Landing::Unknown,
        }
    }
}

/// Whether the server says that the rows are at fault, not it: a value out of its type's range, a constraint, a row too
/// large for an index. It would say so again.
fn refuses_the_data(error: &tokio_postgres::Error) -> bool {
    let class = error.code().and_then(|code| code.code().get(..2));
    matches!(class, Some("22" | "23" | "54"))
}

fn refused_data(step: &str, error: &tokio_postgres::Error) -> TablesError {
    let code = error.code().map_or("", SqlState::code);
    shape("(batch)", format!("postgresql, {step}: sqlstate {code}"))
}

/// Whether nothing follows from an error about the transaction: the connection is lost, or the server has ended it
/// (which it may do behind a commit that waits for a standby).
fn ends_the_connection(error: &tokio_postgres::Error) -> bool {
    use tokio_postgres::error::Severity;
    error.as_db_error().is_none_or(|said| {
        matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
            || said.severity() == "FATAL"
    })
}

type Rows<'a> = Vec<(usize, &'a Vec<Value>)>;

fn offset_params<'a>(
    offsets: &[(usize, &'a OffsetMove)],
    place: impl Fn(&OffsetMove) -> u64,
) -> Vec<Param<'a>> {
    vec![
        Param::Many(offsets.iter().map(|(n, _)| int4(*n)).collect()),
        Param::Many(offsets.iter().map(|(_, m)| Item::Text(m.projection)).collect()),
        Param::Many(offsets.iter().map(|(_, m)| Item::Text(m.stream.as_str())).collect()),
        Param::Many(offsets.iter().map(|(_, m)| Item::Int4(i32::from(m.partition))).collect()),
        Param::Many(offsets.iter().map(|(_, m)| Item::Id(*m.epoch.0.as_bytes())).collect()),
        Param::Many(offsets.iter().map(|(_, m)| Item::Int8(place(m) as i64)).collect()),
    ]
}

fn read_part(
    part: &Part,
    rows: &[PgRow],
    base: &mut Option<i64>,
    refused: &mut BTreeMap<usize, Verdict>,
) -> Result<(), tokio_postgres::Error> {
    match part {
        Part::Take => *base = rows.first().map(|row| row.try_get(0)).transpose()?,
        Part::Expects(table) => {
            for row in rows {
                let n = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or_default();
                refused.entry(n).or_insert(Verdict::Changed { table });
            }
        }
        Part::Offsets => {
            for row in rows {
                let n = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or_default();
                let other: Option<Uuid> = row.try_get(1)?;
                // The offset tells more than a changed row: a fenced worker must not simply read again.
                refused.insert(
                    n,
                    other.map_or(Verdict::Fenced, |other| Verdict::OtherLog { stored: Epoch(other) }),
                );
            }
        }
        Part::Done | Part::Gate | Part::Sign => {}
    }
    Ok(())
}
