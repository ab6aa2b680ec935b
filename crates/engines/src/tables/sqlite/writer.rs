//! The writer thread: takes what waits, commits it as one group, answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hilum_core::{Seq, Timestamp, failpoint};
use rusqlite::{CachedStatement, Connection, ErrorCode, OptionalExtension, params};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::read::{offset_row, same_epoch};
use super::tape::Tape;
use super::value::{Stamp, as_sql, same};
use super::{Options, State};
use crate::limits;
use crate::sqlite_file::{Checkpoints, Fault, Owned, ask};
use crate::tables::shape::key_of;
use crate::tables::{Batch, Expect, OffsetMove, Outgoing, TablesError, Token, Value, Write};

type Reply<T> = oneshot::Sender<Result<T, TablesError>>;

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Job {
    /// To commit a batch that is checked and sorted.
    Commit { batch: Batch, size_bytes: usize, room: OwnedSemaphorePermit, reply: Reply<Seq> },
    /// To take or renew a lease.
    Lease { name: String, holder: String, now: Timestamp, until: Timestamp, reply: Reply<Option<Token>> },
    /// To remove some of the outbox.
    Prune { before: Seq, reply: Reply<Pruned> },
    /// To write out what waits and stop.
    Close(oneshot::Sender<()>),
}

/// One step of pruning.
#[derive(Debug)]
pub(super) struct Pruned {
    pub(super) removed: u64,
    pub(super) more: bool,
}

/// A job that was done inside the open transaction, and its answer once that is durable.
enum Done {
    Commit(Reply<Seq>, Result<Seq, TablesError>),
    Lease(Reply<Option<Token>>, Result<Option<Token>, TablesError>),
    Prune(Reply<Pruned>, Result<Pruned, TablesError>),
}

impl Done {
    const fn wrote(&self) -> bool {
        match self {
            Self::Commit(_, answer) => answer.is_ok(),
            Self::Lease(_, answer) => matches!(answer, Ok(Some(_))),
            Self::Prune(_, answer) => answer.is_ok(),
        }
    }

    /// Answers; whoever asked may be gone, what is committed is committed.
    fn answer(self) {
        match self {
            Self::Commit(reply, answer) => drop(reply.send(answer)),
            Self::Lease(reply, answer) => drop(reply.send(answer)),
            Self::Prune(reply, answer) => drop(reply.send(answer)),
        }
    }

    /// Answers that nothing of the group was committed; a job's own refusal stays.
    fn answer_failed(self, why: &TablesError) {
        match self {
            Self::Commit(reply, answer) => drop(reply.send(answer.and_then(|_| Err(why.clone())))),
            Self::Lease(reply, answer) => drop(reply.send(answer.and_then(|_| Err(why.clone())))),
            Self::Prune(reply, answer) => drop(reply.send(answer.and_then(|_| Err(why.clone())))),
        }
    }
}

/// Why a job was not done.
enum Failed {
    /// It alone: the group goes on without it.
    Job(TablesError),
    /// The engine: the group is lost.
    Engine(rusqlite::Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(why: rusqlite::Error) -> Self {
        match why.sqlite_error_code() {
            // Names table and column, never a value.
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
                Self::Job(TablesError::Shape { table: "(batch)".to_owned(), why: why.to_string() })
            }
            _ => Self::Engine(why),
        }
    }
}

impl From<TablesError> for Failed {
    fn from(why: TablesError) -> Self {
        Self::Job(why)
    }
}

/// The writer.
pub(super) struct Writer {
    state: Arc<State>,
    /// Before `owned`: the file is given up after it is closed.
    conn: Arc<Mutex<Connection>>,
    _owned: Option<Owned>,
    /// Of the newest commit.
    last: Stamp,
    in_file: bool,
    fault: Option<Fault>,
    checkpoints: Checkpoints,
    /// Update statements by table and changed columns.
    updates: HashMap<(usize, u64), Arc<str>>,
    tape: Option<Tape>,
}

/// A panic of the writer (a failpoint's, say) must not leave callers waiting in vain.
struct Alarm(Arc<State>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.turn_read_only("the writer panicked");
        }
    }
}

impl Writer {
    pub(super) fn new(
        state: Arc<State>,
        conn: Arc<Mutex<Connection>>,
        owned: Option<Owned>,
        (last, tape): (Stamp, Option<Tape>),
        in_file: bool,
        options: Options,
    ) -> Self {
        let checkpoints = Checkpoints::new(options.wal_pages_max);
        let updates = HashMap::new();
        Self { state, conn, _owned: owned, last, in_file, fault: options.fault, checkpoints, updates, tape }
    }

    /// Runs until it is asked to close or nobody is left to ask.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let _alarm = Alarm(Arc::clone(&self.state));
        let conn = Arc::clone(&self.conn);
        let mut closing = None;
        while closing.is_none() {
            let Some(first) = jobs.blocking_recv() else { break };
            let mut group = Vec::new();
            closing = collect(first, &mut jobs, &mut group);
            if !group.is_empty() {
                let conn = conn.lock().unwrap_or_else(PoisonError::into_inner);
                self.group(&conn, group);
            }
        }
        jobs.close();
        if self.in_file && self.state.broken().is_none() {
            let conn = conn.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(why) = Checkpoints::finish(&conn, self.fault.as_ref()) {
                // Nothing is lost: all that was committed is in the write-ahead log.
                self.state.turn_read_only(&why);
            }
        }
        // What still waits is dropped, which answers that the tables are closed.
        drop(jobs);
        drop(conn);
        drop(self);
        if closing.is_some_and(|done| done.send(()).is_err()) {
            tracing::debug!("whoever closed the tables did not wait");
        }
    }

    /// Does all jobs in one transaction and answers them.
    fn group(&mut self, conn: &Connection, jobs: Vec<Job>) {
        if let Some(why) = self.state.broken() {
            let refused = TablesError::ReadOnly(why);
            refuse_all(jobs, &refused);
            return;
        }
        if let Err(why) = run(conn, "BEGIN IMMEDIATE") {
            // Somebody else's open write holds the file: nothing was written, the next group tries anew.
            let refused = TablesError::Engine(format!("begin: {why}"));
            refuse_all(jobs, &refused);
            return;
        }
        let before = self.last;
        let alone = jobs.len() == 1;
        let mut done = Vec::with_capacity(jobs.len());
        let mut broken = None;
        for job in jobs {
            if broken.is_some() {
                refuse(job, &TablesError::Engine("the group failed before".to_owned()));
                continue;
            }
            let (outcome, why) = self.job(conn, job, alone);
            done.extend(outcome);
            broken = why;
        }
        let ended = match broken {
            Some(why) => Err(why),
            None if done.iter().any(Done::wrote) => self.commit(conn),
            None => run(conn, "ROLLBACK").map_err(|why| why.to_string()),
        };
        match ended {
            Ok(()) => {
                if let Some(Err(why)) = self.tape.as_mut().map(Tape::commit) {
                    tracing::error!(%why, "the tape ends here");
                    self.tape = None;
                }
                if self.last.t != before.t {
                    self.state.committed.send_replace(self.last.t);
                }
                done.into_iter().for_each(Done::answer);
                // After the answers: they need not wait for it.
                if self.in_file
                    && let Err(why) = self.checkpoints.run_if_due(conn, self.fault.as_ref())
                {
                    self.state.turn_read_only(&why);
                }
            }
            Err(why) => {
                // The first error is the last write: there is no rollback to try and nothing to try again. What
                // reached the disk unacknowledged may be found there after a restart, which is allowed.
                self.last = before;
                self.state.turn_read_only(&why);
                let failed = TablesError::ReadOnly(why);
                for done in done {
                    done.answer_failed(&failed);
                }
                if !self.in_file && run(conn, "ROLLBACK").is_err() {
                    tracing::debug!("the tables in memory were not in a transaction");
                }
            }
        }
    }

    fn commit(&self, conn: &Connection) -> Result<(), String> {
        conn.prepare_cached(
            "UPDATE hilum_state SET value = iif(name = 't', ?1, ?2) WHERE name IN ('t', 'moment')",
        )
        .and_then(|mut statement| statement.execute([self.last.t.0, self.last.moment.as_micros()]))
        .map_err(|why| format!("write: {why}"))?;
        failpoint::hit("commit");
        ask(self.fault.as_ref(), "commit")?;
        run(conn, "COMMIT").map_err(|why| format!("commit: {why}"))
    }

    /// Does one job inside the open transaction. The second answer is an engine's error, which ends the group.
    fn job(&mut self, conn: &Connection, job: Job, alone: bool) -> (Option<Done>, Option<String>) {
        match job {
            Job::Commit { batch, room, reply, .. } => {
                let (answer, broken) = split(self.batch(conn, &batch, alone));
                drop((batch, room)); // it waits no more
                (Some(Done::Commit(reply, answer)), broken)
            }
            Job::Lease { name, holder, now, until, reply } => {
                let (answer, broken) = split(lease(conn, &name, &holder, now, until).map_err(Failed::from));
                (Some(Done::Lease(reply, answer)), broken)
            }
            Job::Prune { before, reply } => {
                let before = before.min(Seq(self.last.t.0.saturating_add(1)));
                let (answer, broken) = split(prune(conn, before).map_err(Failed::from));
                (Some(Done::Prune(reply, answer)), broken)
            }
            Job::Close(_) => (None, None), // never part of a group
        }
    }

    /// Validates and writes one batch. A refusal leaves no trace.
    fn batch(&mut self, conn: &Connection, batch: &Batch, alone: bool) -> Result<Seq, Failed> {
        let (t, last) = (Seq(self.last.t.0 + 1), self.last.moment);
        // Later than all before, also when a clock was set back.
        let next = Timestamp::from_micros(last.as_micros() + 1);
        let moment = batch.moment.map_or(next, |now| now.max(next));
        let stamp = Stamp { t, moment };
        if let Some(offset) = &batch.offset {
            check_offset(conn, offset)?;
        }
        for expect in &batch.expects {
            self.check_expect(conn, expect)?;
        }
        // Up to here nothing was written. Alone, a failure rolls the whole transaction back.
        if !alone {
            run(conn, "SAVEPOINT batch")?;
        }
        let written = self.write(conn, batch, stamp);
        match written {
            Ok(()) => {
                if !alone {
                    run(conn, "RELEASE batch")?;
                }
                self.last = stamp;
                Ok(t)
            }
            Err(Failed::Job(why)) => {
                if !alone {
                    run(conn, "ROLLBACK TO batch")?;
                    run(conn, "RELEASE batch")?;
                }
                Err(Failed::Job(why))
            }
            Err(why) => Err(why),
        }
    }

    fn check_expect(&self, conn: &Connection, expect: &Expect) -> Result<(), Failed> {
        let sql = &self.state.sql[self.state.schema.at(expect.table)?];
        let mut statement = conn.prepare_cached(&sql.get_t)?;
        bind(&mut statement, 1, &expect.key, Stamp::default())?;
        let mut rows = statement.raw_query();
        let stored = match rows.next()? {
            Some(row) => Some(Seq(row.get(0)?)),
            None => None,
        };
        if stored == expect.t {
            return Ok(());
        }
        let what = match (stored, expect.t) {
            (None, _) => "is gone",
            (Some(_), None) => "is there meanwhile",
            (Some(_), Some(_)) => "was written meanwhile",
        };
        Err(Failed::Job(TablesError::Conflict(format!("a row of {} {what}", expect.table))))
    }

    fn write(&mut self, conn: &Connection, batch: &Batch, stamp: Stamp) -> Result<(), Failed> {
        let mut expects = batch.expects.iter().peekable();
        for write in &batch.writes {
            let at = self.state.schema.at(write.table())?;
            let table = self.state.schema.tables()[at];
            match write {
                Write::Put { values, .. } => {
                    // Both are sorted by (table, key): what the row was based on says whether it is there.
                    let place = (table.name, key_of(table, write));
                    while expects.next_if(|e| (e.table, e.key.as_slice()) < place).is_some() {}
                    let there =
                        expects.peek().is_some_and(|e| (e.table, e.key.as_slice()) == place && e.t.is_some());
                    self.put(conn, at, values, stamp, there)?;
                }
                Write::PutIfNewer { values, .. } => {
                    let mut statement = conn.prepare_cached(&self.state.sql[at].put_if_newer)?;
                    bind(&mut statement, 1, values, stamp)?;
                    statement.raw_bind_parameter(values.len() + 1, stamp.t.0)?;
                    statement.raw_execute()?;
                    if let Some(tape) = &mut self.tape {
                        tape.row(
                            &self.state.sql[at].put_if_newer,
                            values.iter().chain([&Value::ThisCommit]),
                            stamp,
                        );
                    }
                }
                Write::Set { key, columns, .. } => {
                    let changed = columns.iter().filter_map(|(name, _)| table.column(name));
                    let changed = changed.fold(0, |changed, i| changed | (1 << i));
                    self.update(conn, at, changed, columns.iter().map(|(_, value)| value), key, stamp)?;
                }
                Write::Delete { key, .. } => {
                    let mut statement = conn.prepare_cached(&self.state.sql[at].delete)?;
                    bind(&mut statement, 1, key, stamp)?;
                    statement.raw_execute()?;
                    if let Some(tape) = &mut self.tape {
                        tape.row(&self.state.sql[at].delete, key, stamp);
                    }
                }
            }
        }
        if let Some(offset) = &batch.offset {
            write_offset(conn, offset)?;
        }
        write_outbox(conn, &batch.outbox, stamp.t)
    }

    /// Inserts, or updates the columns that differ: an index whose columns stay is not touched.
    fn put(
        &mut self,
        conn: &Connection,
        at: usize,
        values: &[Value],
        stamp: Stamp,
        there: bool,
    ) -> Result<(), Failed> {
        let state = Arc::clone(&self.state);
        let (table, sql) = (state.schema.tables()[at], &state.sql[at]);
        if !there {
            let mut statement = conn.prepare_cached(&sql.insert)?;
            bind(&mut statement, 1, values, stamp)?;
            statement.raw_bind_parameter(values.len() + 1, stamp.t.0)?;
            if statement.raw_execute()? > 0 {
                if let Some(tape) = &mut self.tape {
                    tape.row(&sql.insert, values.iter().chain([&Value::ThisCommit]), stamp);
                }
                return Ok(());
            }
        }
        let key = &values[..table.key_len];
        let mut changed = 0;
        {
            let mut statement = conn.prepare_cached(&sql.get)?;
            bind(&mut statement, 1, key, stamp)?;
            let mut rows = statement.raw_query();
            let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            for (i, value) in values.iter().enumerate().skip(table.key_len) {
                if !same(row.get_ref(i)?, value, stamp) {
                    changed |= 1 << i;
                }
            }
        }
        let new = values.iter().enumerate().filter(|(i, _)| changed & (1 << i) != 0).map(|(_, value)| value);
        self.update(conn, at, changed, new, key, stamp)
    }

    /// Writes the columns of `changed` (a bit for each), in the table's order, where the row is there.
    fn update<'v>(
        &mut self,
        conn: &Connection,
        at: usize,
        changed: u64,
        new: impl Iterator<Item = &'v Value> + Clone,
        key: &'v [Value],
        stamp: Stamp,
    ) -> Result<(), Failed> {
        if self.updates.len() > limits::SQLITE_UPDATES_MAX {
            self.updates.clear();
        }
        let state = Arc::clone(&self.state);
        let (table, sql) = (state.schema.tables()[at], &state.sql[at]);
        let update =
            self.updates.entry((at, changed)).or_insert_with(|| sql.update(table, changed).into()).clone();
        let mut statement = conn.prepare_cached(&update)?;
        statement.raw_bind_parameter(1, stamp.t.0)?;
        for (i, value) in new.clone().chain(key).enumerate() {
            statement.raw_bind_parameter(i + 2, as_sql(value, stamp))?;
        }
        statement.raw_execute()?;
        if let Some(tape) = &mut self.tape {
            tape.row(&update, [&Value::ThisCommit].into_iter().chain(new).chain(key), stamp);
        }
        Ok(())
    }
}

/// Puts what waits into `group`, up to the bounds of one group.
fn collect(first: Job, jobs: &mut mpsc::Receiver<Job>, group: &mut Vec<Job>) -> Option<oneshot::Sender<()>> {
    let (mut writes, mut bytes) = (0, 0);
    let mut next = Some(first);
    loop {
        match next {
            None => return None,
            Some(Job::Close(done)) => return Some(done),
            Some(job) => {
                if let Job::Commit { batch, size_bytes, .. } = &job {
                    writes += batch.writes.len() + batch.expects.len();
                    bytes += size_bytes;
                }
                group.push(job);
            }
        }
        if group.len() >= limits::TABLES_GROUP_BATCHES_MAX
            || writes >= limits::TABLES_GROUP_WRITES_MAX
            || bytes >= limits::TABLES_GROUP_BYTES_MAX
        {
            return None;
        }
        next = jobs.try_recv().ok();
    }
}

fn refuse_all(jobs: Vec<Job>, why: &TablesError) {
    for job in jobs {
        refuse(job, why);
    }
}

fn refuse(job: Job, why: &TablesError) {
    match job {
        Job::Commit { reply, .. } => Done::Commit(reply, Err(why.clone())).answer(),
        Job::Lease { reply, .. } => Done::Lease(reply, Err(why.clone())).answer(),
        Job::Prune { reply, .. } => Done::Prune(reply, Err(why.clone())).answer(),
        Job::Close(_) => {}
    }
}

fn split<T>(outcome: Result<T, Failed>) -> (Result<T, TablesError>, Option<String>) {
    match outcome {
        Ok(answer) => (Ok(answer), None),
        Err(Failed::Job(why)) => (Err(why), None),
        Err(Failed::Engine(why)) => {
            let why = format!("write: {why}");
            (Err(TablesError::ReadOnly(why.clone())), Some(why))
        }
    }
}

fn run(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute([]).map(|_| ())
}

fn bind(
    statement: &mut CachedStatement<'_>,
    first: usize,
    values: &[Value],
    stamp: Stamp,
) -> rusqlite::Result<()> {
    for (at, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(first + at, as_sql(value, stamp))?;
    }
    Ok(())
}

fn check_offset(conn: &Connection, offset: &OffsetMove) -> Result<(), Failed> {
    let stored = match offset_row(conn, offset.projection, offset.stream, offset.partition)? {
        None => 0,
        Some((epoch, next, _)) => {
            same_epoch(&epoch, offset.epoch)?;
            next
        }
    };
    if stored.unsigned_abs() == offset.from {
        return Ok(());
    }
    Err(Failed::Job(TablesError::Fenced {
        projection: offset.projection.to_owned(),
        stream: offset.stream,
        partition: offset.partition,
    }))
}

fn write_offset(conn: &Connection, offset: &OffsetMove) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO hilum_offset (projection, stream, partition, epoch, next, last) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT (projection, stream, partition) DO UPDATE SET next = excluded.next, last = excluded.last",
    )?
    .execute(params![
        offset.projection,
        offset.stream.as_str(),
        offset.partition,
        offset.epoch.to_string(),
        offset.to as i64,
        offset.last.map(|last| *last.as_id().as_bytes())
    ])
    .map(|_| ())
}

fn write_outbox(conn: &Connection, outbox: &[Outgoing], t: Seq) -> Result<(), Failed> {
    if outbox.is_empty() {
        return Ok(());
    }
    let mut statement =
        conn.prepare_cached("INSERT INTO hilum_outbox (t, n, topic, key, body) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (n, outgoing) in outbox.iter().enumerate() {
        let Outgoing { topic, key, body } = outgoing;
        statement.execute(params![t.0, n as i64, topic, key.as_bytes(), body.as_ref()])?;
    }
    Ok(())
}

fn lease(
    conn: &Connection,
    name: &str,
    holder: &str,
    now: Timestamp,
    until: Timestamp,
) -> rusqlite::Result<Option<Token>> {
    let stored = conn
        .prepare_cached("SELECT holder, until, token FROM hilum_lease WHERE name = ?1")?
        .query_row([name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
        .optional()?;
    let token = match stored {
        None => 1,
        Some((_, ends, token)) if ends <= now.as_micros() => token + 1,
        Some((owner, _, token)) if owner == holder => token,
        Some(_) => return Ok(None),
    };
    conn.prepare_cached(
        "INSERT INTO hilum_lease (name, holder, until, token) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until, token = excluded.token",
    )?
    .execute(params![name, holder, until.as_micros(), token])?;
    Ok(Some(Token(token)))
}

/// Removes whole commits before `before`, about [`limits::PRUNE_ROWS_MAX`] entries.
fn prune(conn: &Connection, before: Seq) -> rusqlite::Result<Pruned> {
    let last: Option<i64> = conn
        .prepare_cached("SELECT t FROM hilum_outbox WHERE t < ?1 ORDER BY t, n LIMIT 1 OFFSET ?2")?
        .query_row(params![before.0, limits::PRUNE_ROWS_MAX - 1], |row| row.get(0))
        .optional()?;
    let floor = last.map_or(before.0, |last| last + 1);
    let removed = conn.prepare_cached("DELETE FROM hilum_outbox WHERE t < ?1")?.execute([floor])?;
    conn.prepare_cached("UPDATE hilum_state SET value = max(value, ?1) WHERE name = 'outbox_floor'")?
        .execute([floor])?;
    Ok(Pruned { removed: removed as u64, more: last.is_some() })
}
