//! The writer thread: takes what waits, commits it as one group, tells everybody.

use std::sync::Arc;

use bytes::Bytes;
use hilum_core::{Position, Timestamp, failpoint};
use rusqlite::{Connection, ErrorCode, params};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::State;
use super::ends;
use super::file::seal;
use crate::log::LogError;
use crate::sqlite_file::{Checkpoints, Owned, ask};

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Command {
    /// To make a record durable.
    Append(Entry),
    /// To see whether it could.
    Look(oneshot::Sender<()>),
    /// To write out what waits and stop.
    Close(oneshot::Sender<()>),
}

/// One record that waits.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) slot: usize,
    pub(super) header: Vec<u8>,
    pub(super) body: Bytes,
    /// The bytes that it takes in the queue, given back when it is answered.
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) reply: oneshot::Sender<Result<Position, LogError>>,
}

impl Entry {
    fn size_bytes(&self) -> usize {
        self.header.len() + self.body.len()
    }

    /// Gives the bytes back, then answers. Whoever asked may be gone: a record is durable all the same.
    fn answer(self, answer: Result<Position, LogError>) {
        drop(self.permit);
        drop(self.reply.send(answer));
    }
}

/// The writer.
pub(super) struct Writer {
    state: Arc<State>,
    /// Before `owned`: the file is given up after it is closed.
    conn: Connection,
    _owned: Owned,
    /// The next offset of each slot.
    ends: Vec<u64>,
    /// The newest group.
    group: i64,
    /// The newest group's instant, which no row says yet.
    unwritten: Option<(i64, Timestamp)>,
    checkpoints: Checkpoints,
    /// A commit or a checkpoint failed: nothing is written any more.
    broken: Option<String>,
}

/// Why a group is not on disk.
enum Unwritten {
    /// Another process writes to the file, and nothing of the group was begun: it passes.
    Busy(String),
    /// The disk failed.
    Broken(String),
}

/// A panic of the writer (a failpoint's, say) must not leave callers believing.
struct Alarm(Arc<State>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.turn_read_only("the writer panicked");
        }
    }
}

impl Writer {
    pub(super) fn new(state: Arc<State>, conn: Connection, owned: Owned, ends: Vec<u64>, group: i64) -> Self {
        let checkpoints = Checkpoints::new(state.options.wal_pages_max);
        // A group of its own, without records: from the first commit on the file says where the partitions end. The
        // number before it may be that of a last group of which no record can be read any more.
        let group = group + 2;
        let unwritten = Some((group, state.clock.now()));
        Self { state, conn, _owned: owned, ends, group, unwritten, checkpoints, broken: None }
    }

    /// Runs until it is asked to close or nobody is left to ask.
    pub(super) fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let _alarm = Alarm(Arc::clone(&self.state));
        let mut closing = None;
        let mut group = Vec::new();
        while closing.is_none() {
            let Some(first) = commands.blocking_recv() else { break };
            closing = self.collect(first, &mut commands, &mut group);
            self.write(&mut group);
        }
        self.finish();
        commands.close();
        while let Ok(command) = commands.try_recv() {
            match command {
                Command::Append(entry) => entry.answer(Err(LogError::ReadOnly("closed".to_owned()))),
                Command::Look(_) | Command::Close(_) => {}
            }
        }
        drop(self);
        if closing.is_some_and(|done| done.send(()).is_err()) {
            tracing::debug!("whoever closed the log did not wait");
        }
    }

    /// Puts what waits into `group`, up to the bounds of one group.
    fn collect(
        &self,
        first: Command,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        group: &mut Vec<Entry>,
    ) -> Option<oneshot::Sender<()>> {
        let mut bytes = 0;
        let mut next = Some(first);
        loop {
            match next {
                None => return None,
                Some(Command::Close(done)) => return Some(done),
                Some(Command::Look(done)) => {
                    self.look();
                    // Who asked may not have waited.
                    done.send(()).ok();
                }
                Some(Command::Append(entry)) => {
                    bytes += entry.size_bytes();
                    group.push(entry);
                }
            }
            let options = &self.state.options;
            if group.len() >= options.group_records_max || bytes >= options.group_bytes_max {
                return None;
            }
            next = commands.try_recv().ok();
        }
    }

    /// Makes a group durable and answers it; after an error only refuses.
    fn write(&mut self, group: &mut Vec<Entry>) {
        if group.is_empty() {
            return;
        }
        let outcome = match &self.broken {
            Some(why) => Err(Unwritten::Broken(why.clone())),
            None => self.begin().and_then(|()| self.commit(group).map_err(Unwritten::Broken)),
        };
        match outcome {
            Ok(positions) => {
                for (entry, position) in group.drain(..).zip(positions) {
                    entry.answer(Ok(position));
                }
                // After the answers: they need not wait for it.
                let fault = self.state.options.fault.clone();
                if let Err(why) = self.checkpoints.run_if_due(&self.conn, fault.as_ref()) {
                    self.fail(&why);
                }
            }
            Err(Unwritten::Busy(why)) => {
                // Somebody else's open write holds the file: nothing was written, the next group tries anew.
                tracing::warn!(why, "a group was not written");
                for entry in group.drain(..) {
                    entry.answer(Err(LogError::Engine(why.clone())));
                }
            }
            Err(Unwritten::Broken(why)) => {
                self.fail(&why);
                for entry in group.drain(..) {
                    entry.answer(Err(LogError::ReadOnly(why.clone())));
                }
            }
        }
    }

    /// The first error is the last write. There is no rollback to try and nothing to try again: what reached the
    /// disk unacknowledged may be found there after a restart, which is allowed.
    fn fail(&mut self, why: &str) {
        self.state.turn_read_only(why);
        self.broken.get_or_insert_with(|| why.to_owned());
    }

    fn begin(&self) -> Result<(), Unwritten> {
        let begun = run(&self.conn, "BEGIN IMMEDIATE").map_err(|error| {
            let why = format!("begin: {error}");
            match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Unwritten::Busy(why),
                _ => Unwritten::Broken(why),
            }
        });
        self.state.set_held(matches!(begun, Err(Unwritten::Busy(_))));
        begun
    }

    /// Sees whether a group could be begun, and writes nothing.
    fn look(&self) {
        if self.broken.is_none() && self.begin().is_ok() {
            run(&self.conn, "ROLLBACK").map_err(|why| self.state.turn_read_only(&why.to_string())).ok();
        }
    }

    /// Writes and commits what [`Self::begin`] began.
    fn commit(&mut self, group: &[Entry]) -> Result<Vec<Position>, String> {
        let number = self.group + 1;
        let mut ends = self.ends.clone();
        let positions = self.insert(number, group, &mut ends).map_err(|why| format!("insert: {why}"))?;
        failpoint::hit("append");
        ask(self.state.options.fault.as_ref(), "commit")?;
        run(&self.conn, "COMMIT").map_err(|why| format!("commit: {why}"))?;

        let durable = self.state.clock.now();
        self.group = number;
        self.unwritten = Some((number, durable));
        {
            let mut published = self.state.published();
            published.ends.clone_from(&ends);
            published.last = Some((number, durable));
        }
        self.ends = ends;
        self.state.appended.send_modify(|groups| *groups += 1);
        Ok(positions)
    }

    fn insert(&self, number: i64, group: &[Entry], ends: &mut [u64]) -> rusqlite::Result<Vec<Position>> {
        let slots = self.state.layout.slots();
        let mut positions = Vec::with_capacity(group.len());
        for entry in group {
            let slot = &slots[entry.slot];
            let (stream, partition) = (slot.stream, slot.partition);
            let offset = ends[entry.slot];
            ends[entry.slot] = offset + 1;
            // The header is JSON that we wrote: UTF-8.
            let header =
                rusqlite::types::ToSqlOutput::Borrowed(rusqlite::types::ValueRef::Text(&entry.header));
            self.conn.prepare_cached(&slot.last().insert)?.execute(params![
                offset as i64,
                number,
                seal(partition, offset, &entry.header),
                header,
                entry.body.as_ref()
            ])?;
            positions.push(Position { stream, partition, offset });
        }
        self.insert_durable(ends)?;
        Ok(positions)
    }

    /// Writes down the newest group's instant, and where the partitions end with what is committed with it.
    fn insert_durable(&self, ends: &[u64]) -> rusqlite::Result<()> {
        let Some((number, durable)) = self.unwritten else { return Ok(()) };
        self.conn
            .prepare_cached("INSERT INTO groups (\"group\", durable, ends) VALUES (?1, ?2, ?3)")?
            .execute(params![number, durable.as_micros(), ends::encode(number, ends)])
            .map(|_| ())
    }

    /// Writes down the newest group's instant and empties the write-ahead log, unless the disk has failed.
    fn finish(&self) {
        if self.broken.is_some() {
            return;
        }
        let fault = self.state.options.fault.as_ref();
        let finished = self
            .insert_durable(&self.ends)
            .map_err(|why| why.to_string())
            .and_then(|()| Checkpoints::finish(&self.conn, fault));
        if let Err(why) = finished {
            // Nothing is lost: all that was acknowledged is in the write-ahead log.
            self.state.turn_read_only(&why);
        }
    }
}

fn run(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute([]).map(|_| ())
}
