//! Runs a projection over one partition of one stream: read → needs → apply → commit, again and again.
//!
//! - Rows, resources, offset and outbox go in one commit that validates every row that was read.
//! - A **conflict** repeats the batch from its reads on, half as large; so does a panic or a value that does not fit,
//!   until the one event stands alone that makes it: only that one is rejected. Batches grow again by an eighth with
//!   each commit.
//! - An **engine's error** is nobody's fault: the partition pauses with its offset unmoved and says why.
//! - A **record that the log cannot read** is tried three times, then passed over: its place is quarantined, what is
//!   behind it goes on (see [`crate::unreadable`]).
//! - [`Runner::step`] does one step at a time, so that a test can interleave several runners as it likes.

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use hilum_core::{Clock, Id, Position, RecordId, Seq, Stream, Timestamp, failpoint};
use hilum_engines::limits::{BATCH_WRITES_MAX, SCAN_ROWS_MAX};
use hilum_engines::log::{Log, LogError, ReadMax};
use hilum_engines::tables::{
    Batch, Expect, Key, OffsetMove, Read, Row, Scan, Table, Tables, TablesError, Value, Write,
};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::chart::expectations;
use crate::claims::{Claim, Claims};
use crate::error::ChartError;
use crate::family;
use crate::fits;
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, BATCHES_IN_FLIGHT_MAX, CONFLICT_BACKOFF, IDLE_POLL, NEEDS_ROUNDS_MAX,
    PAUSE_BACKOFF, RANGE_ROWS_MAX, UNREADABLE_TRIES, WAKE_COALESCE,
};
use crate::port;
use crate::progress::Progress;
use crate::projection::{Changes, Projection, Reads, Rejected, Rows};
use crate::resources::{self, Version, Writer};
use crate::unreadable;

/// What one step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stepped {
    /// Nothing to read.
    Idle,
    /// Records and all rows that they need are read.
    Read {
        /// How many records.
        records: usize,
    },
    /// What should stand is computed.
    Applied,
    /// The batch was cut in half because it cannot be applied as a whole.
    Halved,
    /// A sibling is at work on a family that the batch touches: the next step asks again.
    Waits,
    /// Another writer was first: the next step reads again.
    Conflict,
    /// Another worker moved the offset: the next step asks where it stands.
    Fenced,
    /// The batch is committed.
    Committed {
        /// The commit.
        t: Seq,
        /// Records in it.
        records: usize,
        /// Of these, rejected.
        rejected: usize,
    },
}

/// Why a batch cannot be applied as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Panic,
    Shape,
    Rounds,
    Range,
    Writes,
    Rows,
}

impl Fault {
    const fn rule(self) -> &'static str {
        match self {
            Self::Panic => "apply.panic",
            Self::Shape => "apply.shape",
            Self::Rounds => "apply.rounds",
            Self::Range => "apply.range",
            Self::Writes => "apply.writes",
            Self::Rows => "apply.rows",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Panic => "the program failed on it",
            Self::Shape => "a value cannot be stored",
            Self::Rounds => "it needs more rounds of reading than are allowed",
            Self::Range => "it needs more rows than are allowed",
            Self::Writes => "it writes more rows than are allowed",
            Self::Rows => "a stored row that it would change cannot be read",
        }
    }
}

/// A record that is decoded and not committed.
struct Item<E> {
    place: Place,
    event: E,
}

/// A record's place, and by what it is known again.
#[derive(Debug, Clone, Copy)]
struct Place {
    position: Position,
    received: Timestamp,
    record: RecordId,
}

/// A batch with what was read for it.
struct Taken<P: Projection> {
    events: Vec<P::Event>,
    places: Vec<Place>,
    rows: Rows,
    /// What the commit must find as it was read.
    expects: Vec<Expect>,
    /// Set when the one event that is left is to be rejected for it.
    fault: Option<Fault>,
    /// The families that it touches, where siblings are to keep off them.
    claim: Option<Claim>,
    /// Set when not even the rejection could be committed with what was read for it.
    is_bare: bool,
}

/// Nothing: for a record that cannot be read.
impl<P: Projection> Default for Taken<P> {
    fn default() -> Self {
        Self {
            events: Vec::new(),
            places: Vec::new(),
            rows: Rows::default(),
            expects: Vec::new(),
            fault: None,
            claim: None,
            is_bare: false,
        }
    }
}

/// A batch that is ready to be committed.
struct Ready<P: Projection> {
    taken: Taken<P>,
    batch: Batch,
    rejected: usize,
}

enum Stage<P: Projection> {
    /// Read from the log.
    Start,
    /// Read rows for it (again).
    Gather(Taken<P>),
    /// Apply it.
    Apply(Taken<P>),
    /// Commit it.
    Commit(Box<Ready<P>>),
}

/// Runs one projection over one partition of one stream.
pub struct Runner<P: Projection> {
    projection: Arc<P>,
    log: Log,
    tables: Tables,
    clock: Clock,
    stream: Stream,
    partition: u16,
    progress: Progress,
    /// The offset behind the last commit; absent until asked.
    next: Option<u64>,
    /// Decoded records that come next.
    queue: VecDeque<Item<P::Event>>,
    /// Records in the next batch.
    size: usize,
    size_max: usize,
    /// Conflicts in a row.
    conflicts: u32,
    /// The offset that could not be read, and how often in a row.
    unreadable: Option<(u64, u32)>,
    /// Where siblings in this process say what they are at work on.
    claims: Option<Arc<Claims>>,
    stage: Stage<P>,
}

impl<P: Projection> Runner<P> {
    /// A runner that goes on where the tables say.
    pub fn new(
        projection: Arc<P>,
        log: Log,
        tables: Tables,
        clock: Clock,
        (stream, partition): (Stream, u16),
        progress: Progress,
    ) -> Self {
        Self {
            projection,
            log,
            tables,
            clock,
            stream,
            partition,
            progress,
            next: None,
            queue: VecDeque::new(),
            size: BATCH_RECORDS_MAX,
            size_max: BATCH_RECORDS_MAX,
            conflicts: 0,
            unreadable: None,
            claims: None,
            stage: Stage::Start,
        }
    }

    /// With smaller batches than [`BATCH_RECORDS_MAX`].
    #[must_use]
    pub fn batches_of(mut self, records_max: usize) -> Self {
        self.size_max = records_max.clamp(1, BATCH_RECORDS_MAX);
        self.size = self.size_max;
        self
    }

    /// Keeps off the families that siblings with the same `claims` are at work on.
    fn claiming(mut self, claims: Arc<Claims>) -> Self {
        self.claims = Some(claims);
        self
    }

    /// The batch that the next step commits, for a test that plants a fault.
    pub fn ready_mut(&mut self) -> Option<&mut Batch> {
        match &mut self.stage {
            Stage::Commit(ready) => Some(&mut ready.batch),
            Stage::Start | Stage::Gather(_) | Stage::Apply(_) => None,
        }
    }

    /// Does the next step. After an error it starts again from the log and the stored offset.
    ///
    /// # Errors
    /// Whatever log and tables fail at; nothing is lost, and the offset has not moved.
    pub async fn step(&mut self) -> Result<Stepped, ChartError> {
        let stepped = match std::mem::replace(&mut self.stage, Stage::Start) {
            Stage::Start => self.read().await,
            Stage::Gather(taken) => self.gather(taken).await,
            Stage::Apply(taken) => self.apply(taken).await,
            Stage::Commit(ready) => self.commit(*ready).await,
        };
        if stepped.is_err() {
            // A commit that failed may yet have happened: only the stored offset knows.
            self.forget();
        }
        stepped
    }

    fn forget(&mut self) {
        self.stage = Stage::Start;
        self.next = None;
        self.queue.clear();
    }

    async fn read(&mut self) -> Result<Stepped, ChartError> {
        let next = self.offset().await?;
        if self.queue.is_empty() {
            match self.fetch(next).await {
                Err(ChartError::Log(LogError::Corrupt { position, why })) if position.offset == next => {
                    return self.pass_over(position, why).await;
                }
                fetched => fetched?,
            }
            self.unreadable = None;
        }
        let count = self.size.min(self.queue.len());
        if count == 0 {
            return Ok(Stepped::Idle);
        }
        let (mut events, mut places) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for item in self.queue.drain(..count) {
            events.push(item.event);
            places.push(item.place);
        }
        self.gather(Taken { events, places, ..Taken::default() }).await
    }

    /// The next offset, from the tables when it is not known.
    async fn offset(&mut self) -> Result<u64, ChartError> {
        if let Some(next) = self.next {
            return Ok(next);
        }
        let epoch = self.log.epoch();
        let next = fits::next_offset::<P>(&self.log, &self.tables, self.stream, self.partition).await?;
        if next == 0 {
            // A partition of which nothing was applied does not know its log: its siblings may.
            for &stream in P::STREAMS {
                for partition in 0..self.log.partitions() {
                    port::offset(&self.tables, P::NAME, stream, partition, epoch).await?;
                }
            }
        }
        self.progress.update(self.stream, self.partition, |slot| slot.applied = next);
        self.next = Some(next);
        Ok(next)
    }

    /// Reads and decodes records from `next` on into the queue.
    async fn fetch(&mut self, next: u64) -> Result<(), ChartError> {
        let end = port::end(&self.log, self.stream, self.partition).await?;
        if end < next {
            return Err(ChartError::LogBehind { stream: self.stream, partition: self.partition, end, next });
        }
        let max = ReadMax { records: self.size, bytes: BATCH_BYTES_MAX };
        let records = if end == next {
            Vec::new()
        } else {
            port::records(&self.log, (self.stream, self.partition), next, max).await?
        };
        self.progress.update(self.stream, self.partition, |slot| {
            slot.end = end;
            slot.target.get_or_insert(end);
            slot.oldest_unapplied = records.first().map(|record| record.envelope.received);
        });
        if records.is_empty() {
            return Ok(());
        }
        failpoint::hit("read");
        let projection = Arc::clone(&self.projection);
        let items: Result<Vec<_>, ChartError> = compute(move || {
            let decode = |record| {
                let record: &hilum_engines::log::Record = record;
                let event = catch_unwind(AssertUnwindSafe(|| projection.decode(record)))
                    .map_err(|_| ChartError::Undecodable(record.position))?;
                let place = Place {
                    position: record.position,
                    received: record.envelope.received,
                    record: record.envelope.id,
                };
                Ok(Item { place, event })
            };
            records.iter().map(decode).collect()
        })
        .await?;
        self.queue.extend(items?);
        Ok(())
    }

    /// Gives an error the first times, then makes a batch that moves the offset over the record and says so.
    async fn pass_over(&mut self, position: Position, why: String) -> Result<Stepped, ChartError> {
        let tries = match self.unreadable {
            Some((offset, tries)) if offset == position.offset => tries + 1,
            _ => 1,
        };
        self.unreadable = Some((position.offset, tries));
        if tries < UNREADABLE_TRIES {
            return Err(LogError::Corrupt { position, why }.into());
        }
        let changes = unreadable::changes(self.projection.as_ref(), &self.log, position, why).await?;
        let to = (position.offset + 1, None);
        self.prepare(Taken::default(), changes, position.offset, to, 1).await
    }

    /// Asks the projection what it needs and reads it, until it needs nothing more.
    async fn gather(&mut self, mut taken: Taken<P>) -> Result<Stepped, ChartError> {
        let mut rounds = 0;
        let fault = loop {
            let projection = Arc::clone(&self.projection);
            let (back, reads) = compute(move || {
                let mut reads = Reads::default();
                let asked = catch_unwind(AssertUnwindSafe(|| match taken.fault {
                    None => projection.needs(&taken.events, &taken.rows, &mut reads),
                    Some(_) => {
                        for event in &taken.events {
                            projection.needs_rejected(event, &taken.rows, &mut reads);
                        }
                    }
                }));
                (taken, asked.map(|()| reads))
            })
            .await?;
            taken = back;
            let Ok(reads) = reads else { break Some(Fault::Panic) };
            let (gets, scans) = only_new(reads, &taken.rows);
            if gets.is_empty() && scans.is_empty() {
                break None;
            }
            rounds += 1;
            if rounds > NEEDS_ROUNDS_MAX {
                break Some(Fault::Rounds);
            }
            if !self.claim(&gets, &mut taken) {
                // What it holds meanwhile would keep others waiting, and what it read is old by then.
                (taken.claim, taken.rows) = (None, Rows::default());
                self.stage = Stage::Gather(taken);
                return Ok(Stepped::Waits);
            }
            if !self.read_rows(gets, scans, &mut taken.rows).await? {
                break Some(Fault::Range);
            }
        };
        // A rejection goes without what cannot be read for it.
        if let Some(fault) = fault.filter(|_| taken.fault.is_none()) {
            return self.cut(taken, fault);
        }
        let records = taken.events.len();
        self.stage = Stage::Apply(taken);
        Ok(Stepped::Read { records })
    }

    /// Claims the heads and families among `gets` before they are read. False when a sibling holds one.
    fn claim(&self, gets: &[(&'static str, Key)], taken: &mut Taken<P>) -> bool {
        let Some(claims) = &self.claims else { return true };
        let is_family = |table: &str| family::TABLES.iter().any(|one| one.name == table);
        let ids =
            gets.iter().filter(|(table, _)| is_family(table)).filter_map(|(_, key)| match key.first() {
                Some(Value::Id(id)) => Some(*id),
                _ => None,
            });
        taken.claim.get_or_insert_with(|| Claim::new(claims)).add(ids)
    }

    /// One round trip, and further ones only for ranges that are longer than one scan gives. False when a range has
    /// more rows than are allowed.
    async fn read_rows(
        &self,
        gets: Vec<(&'static str, Key)>,
        scans: Vec<Scan>,
        rows: &mut Rows,
    ) -> Result<bool, ChartError> {
        let page = |scan: &Scan, after: Option<Vec<Value>>| {
            let mut page = scan.clone();
            page.limit = scan.limit.min(SCAN_ROWS_MAX);
            page.after = after.or(page.after);
            Read::Scan(page)
        };
        let mut reads: Vec<Read> =
            gets.iter().map(|(table, key)| Read::Get { table, key: key.clone() }).collect();
        reads.extend(scans.iter().map(|scan| page(scan, None)));
        let mut answers = port::read(&self.tables, &reads).await?.into_iter();
        for ((table, key), mut found) in gets.into_iter().zip(&mut answers) {
            rows.put_get(table, key, found.pop());
        }
        for (scan, mut found) in scans.into_iter().zip(answers) {
            let mut last = found.len();
            while last == SCAN_ROWS_MAX as usize && found.len() < scan.limit as usize {
                if found.len() >= RANGE_ROWS_MAX {
                    return Ok(false);
                }
                let Some(after) = found.last().and_then(|row| place_of::<P>(&scan, row)) else {
                    return Ok(false);
                };
                let more =
                    port::read(&self.tables, &[page(&scan, Some(after))]).await?.pop().unwrap_or_default();
                last = more.len();
                found.extend(more);
            }
            rows.put_scan(scan, found);
        }
        Ok(true)
    }

    /// Halves the batch, or turns its one event into a rejection.
    fn cut(&mut self, mut taken: Taken<P>, fault: Fault) -> Result<Stepped, ChartError> {
        let Some(&Place { position, .. }) = taken.places.first() else { return Ok(Stepped::Idle) };
        if taken.events.len() > 1 {
            self.halve(&mut taken);
            self.stage = Stage::Gather(taken);
            return Ok(Stepped::Halved);
        }
        let rule = fault.rule();
        if taken.fault.is_some() {
            if taken.is_bare {
                return Err(ChartError::Stuck { position, rule });
            }
            taken.is_bare = true;
            self.stage = Stage::Apply(taken);
            return Ok(Stepped::Halved);
        }
        tracing::error!(projection = P::NAME, %position, rule, "event rejected: it cannot be applied");
        taken.claim = None;
        taken.fault = Some(fault);
        self.stage = Stage::Gather(taken);
        Ok(Stepped::Halved)
    }

    /// Gives the second half of the batch back to the queue.
    fn halve(&mut self, taken: &mut Taken<P>) {
        // Half of the events touch other families and registers: what is claimed is claimed anew, all at once.
        (taken.claim, taken.rows) = (None, Rows::default());
        let keep = taken.events.len().div_ceil(2);
        let back = taken.events.split_off(keep).into_iter().zip(taken.places.split_off(keep));
        for (event, place) in back.rev() {
            self.queue.push_front(Item { place, event });
        }
        self.size = keep;
    }

    async fn apply(&mut self, taken: Taken<P>) -> Result<Stepped, ChartError> {
        failpoint::hit("apply");
        let projection = Arc::clone(&self.projection);
        let (taken, outcome) = compute(move || {
            let mut taken = taken;
            let outcome = catch_unwind(AssertUnwindSafe(|| changes_of(projection.as_ref(), &taken)));
            taken.expects = expectations(&taken.rows).collect();
            if taken.events.len() > 1 {
                // Nobody asks for them again: a batch that is refused is read anew. One event's rejection needs them.
                taken.rows = Rows::default();
            }
            (taken, outcome)
        })
        .await?;
        let Ok((changes, rejected)) = outcome else { return self.cut(taken, Fault::Panic) };
        if let Some(table) = changes.unreadable {
            if let ([place], None) = (taken.places.as_slice(), taken.fault) {
                tracing::error!(
                    projection = P::NAME, table, position = %place.position,
                    "a stored row cannot be read and stays as it is: what would change it is set aside until a rebuild"
                );
            }
            return self.cut(taken, Fault::Rows);
        }
        let Some((from, to)) = taken.places.first().zip(taken.places.last()) else {
            return Ok(Stepped::Idle);
        };
        let (from, to) = (from.position.offset, (to.position.offset + 1, Some(to.record)));
        self.prepare(taken, changes, from, to, rejected).await
    }

    /// Makes the commit that moves the offset `from`, `to`, behind a record.
    async fn prepare(
        &mut self,
        mut taken: Taken<P>,
        mut changes: Changes,
        from: u64,
        (to, last): (u64, Option<RecordId>),
        rejected: usize,
    ) -> Result<Stepped, ChartError> {
        let outbox = std::mem::take(&mut changes.outbox);
        let mut reads = resource_reads(&changes);
        reads.extend(register_reads(&changes));
        let mut stored = self.stored(&reads).await?;
        if self.claim_registers(&changes, &stored, &mut taken).await {
            stored.truncate(changes.resources.len());
            stored.extend(self.stored(&register_reads(&changes)).await?);
        }
        let writer = Writer { owner: P::NAME, now: self.clock.now() };
        let (taken, changes_batch) = compute(move || {
            let batch = build(writer, std::mem::take(&mut taken.expects), changes, stored, outbox);
            (taken, batch)
        })
        .await?;
        let mut batch = changes_batch?;
        if batch.writes.len() > BATCH_WRITES_MAX {
            return self.cut(taken, Fault::Writes);
        }
        batch.offset = Some(OffsetMove {
            projection: P::NAME,
            stream: self.stream,
            partition: self.partition,
            epoch: self.log.epoch(),
            from,
            to,
            last,
        });
        self.stage = Stage::Commit(Box::new(Ready { taken, batch, rejected }));
        Ok(Stepped::Applied)
    }

    /// Claims the registers that will get a new version. True when there are some: what is stored may have changed
    /// before they were this batch's. Nothing is claimed behind this, so waiting here cannot be for each other.
    async fn claim_registers(&self, changes: &Changes, stored: &[Option<Row>], taken: &mut Taken<P>) -> bool {
        let Some(claims) = &self.claims else { return false };
        let stored = stored.get(changes.resources.len()..).unwrap_or_default().chunks(2);
        let news = changes.register_resources.values().zip(stored);
        let news: Vec<Id> = news
            .filter(|(register, stored)| match stored {
                [current, stamp] => resources::is_new(register, current.as_ref(), stamp.as_ref()),
                _ => false,
            })
            .map(|(register, _)| register.change.id)
            .collect();
        if news.is_empty() {
            return false;
        }
        let mut freed = claims.freed();
        let claim = taken.claim.get_or_insert_with(|| Claim::new(claims));
        while !claim.add(news.iter().copied()) {
            if freed.changed().await.is_err() {
                break;
            }
        }
        true
    }

    /// The rows that tell whether resources differ, in the order of `reads`.
    async fn stored(&self, reads: &[Read]) -> Result<Vec<Option<Row>>, ChartError> {
        if reads.is_empty() {
            return Ok(Vec::new());
        }
        Ok(port::read(&self.tables, reads).await?.into_iter().map(|mut found| found.pop()).collect())
    }

    async fn commit(&mut self, ready: Ready<P>) -> Result<Stepped, ChartError> {
        let Ready { mut taken, batch, rejected } = ready;
        // None for a record that was passed over: it could not be read.
        let events = taken.events.len();
        let to = batch.offset.as_ref().map(|offset| offset.to);
        let records = events.max(1);
        match port::commit(&self.tables, batch).await {
            Ok(t) => {
                self.next = to;
                self.conflicts = 0;
                self.size = (self.size + self.size.div_ceil(8)).min(self.size_max);
                let oldest = self.queue.front().map(|item| item.place.received);
                self.progress.update(self.stream, self.partition, |slot| {
                    slot.applied = to.unwrap_or(slot.applied);
                    slot.end = slot.end.max(slot.applied);
                    slot.oldest_unapplied = oldest;
                    slot.paused = None;
                    slot.commits += 1;
                    slot.rejected += rejected as u64;
                    slot.unreadable += u64::from(events == 0);
                });
                Ok(Stepped::Committed { t, records, rejected })
            }
            Err(TablesError::Conflict(why)) => {
                tracing::debug!(projection = P::NAME, stream = %self.stream, partition = self.partition, why, "conflict");
                self.conflicts += 1;
                self.progress.update(self.stream, self.partition, |slot| slot.conflicts += 1);
                if events == 0 {
                    return Ok(Stepped::Conflict); // read again, with the tries that were made
                }
                if events > 1 {
                    self.halve(&mut taken);
                }
                (taken.claim, taken.rows) = (None, Rows::default());
                // What looked like poison may have been rows that did not fit together.
                taken.fault = None;
                taken.is_bare = false;
                self.stage = Stage::Gather(taken);
                Ok(Stepped::Conflict)
            }
            Err(TablesError::Fenced { .. }) => {
                self.forget();
                Ok(Stepped::Fenced)
            }
            Err(TablesError::Shape { table, why }) if events > 0 => {
                tracing::warn!(projection = P::NAME, table, why, "a batch does not fit");
                self.cut(taken, Fault::Shape)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Steps until the batch is committed, or has to be tried again, or there is nothing to read.
    async fn turn(&mut self) -> Result<Stepped, ChartError> {
        loop {
            match self.step().await? {
                Stepped::Read { .. } | Stepped::Applied | Stepped::Halved => {}
                done @ (Stepped::Idle
                | Stepped::Waits
                | Stepped::Fenced
                | Stepped::Conflict
                | Stepped::Committed { .. }) => return Ok(done),
            }
        }
    }

    /// Doubles with each conflict in a row; partitions wait for different times, so that they part.
    fn conflict_wait(&self) -> Duration {
        let (first, longest) = CONFLICT_BACKOFF;
        let wait = first.saturating_mul(1 << self.conflicts.saturating_sub(1).min(6)).min(longest);
        wait + wait.mul_f64(f64::from(self.partition % 8) / 8.0)
    }

    /// Whether a record that could not be read will be passed over if it is tried again.
    fn is_tried_again(&self) -> bool {
        self.unreadable.is_some_and(|(_, tries)| tries < UNREADABLE_TRIES)
    }

    /// Turns until everything before offset `end` is applied, `done` records at a time.
    ///
    /// # Errors
    /// As [`Runner::step`].
    pub async fn run_until(&mut self, end: u64, done: impl Fn(usize)) -> Result<(), ChartError> {
        loop {
            match self.turn().await {
                Ok(Stepped::Committed { records, .. }) => done(records),
                Ok(Stepped::Idle) => return Ok(()),
                Ok(
                    Stepped::Fenced
                    | Stepped::Read { .. }
                    | Stepped::Applied
                    | Stepped::Halved
                    | Stepped::Waits
                    | Stepped::Conflict,
                ) => {}
                Err(ChartError::Log(LogError::Corrupt { .. })) if self.is_tried_again() => {
                    tokio::time::sleep(PAUSE_BACKOFF.0).await;
                }
                Err(error) => return Err(error),
            }
            if self.next.is_some_and(|next| next >= end) {
                return Ok(());
            }
        }
    }

    /// Runs until `stop` says true; a batch that was begun is finished. `in_flight` bounds the batches that
    /// this process holds at once: what is decoded is many times what is in the log.
    async fn run(mut self, in_flight: Arc<Semaphore>, mut stop: watch::Receiver<bool>) {
        let mut appended = self.log.appended();
        let mut freed = self.claims.as_ref().map(|claims| claims.freed());
        let mut pause = PAUSE_BACKOFF.0;
        let mut held = None;
        while !*stop.borrow() {
            appended.borrow_and_update();
            if let Some(freed) = &mut freed {
                freed.borrow_and_update();
            }
            let kept = match held.take() {
                Some(kept) => Ok(kept),
                None => in_flight.acquire().await,
            };
            let Ok(kept) = kept else { return };
            let outcome = self.turn().await;
            // What is decoded is counted for as long as it is kept.
            let keeps = matches!(outcome, Ok(Stepped::Waits | Stepped::Conflict)) || !self.queue.is_empty();
            held = keeps.then_some(kept);
            let wait = match outcome {
                Ok(Stepped::Idle) => {
                    pause = PAUSE_BACKOFF.0;
                    self.progress.update(self.stream, self.partition, |slot| slot.paused = None);
                    tokio::select! {
                        _ = appended.changed() => WAKE_COALESCE,
                        () = tokio::time::sleep(IDLE_POLL) => Duration::ZERO,
                        _ = stop.changed() => Duration::ZERO,
                    }
                }
                Ok(Stepped::Waits) => {
                    let Some(freed) = &mut freed else { continue };
                    tokio::select! {
                        _ = freed.changed() => {}
                        _ = stop.changed() => {}
                    }
                    // What woke it may be what it gave back itself.
                    CONFLICT_BACKOFF.0
                }
                Ok(Stepped::Conflict) => self.conflict_wait(),
                Ok(_) => {
                    pause = PAUSE_BACKOFF.0;
                    Duration::ZERO
                }
                Err(error) => {
                    let why = error.to_string();
                    tracing::error!(
                        projection = P::NAME, stream = %self.stream, partition = self.partition, why,
                        "paused, the offset has not moved"
                    );
                    self.progress.update(self.stream, self.partition, |slot| slot.paused = Some(why));
                    let longer = (pause * 2).min(PAUSE_BACKOFF.1);
                    std::mem::replace(&mut pause, longer)
                }
            };
            if !wait.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = stop.changed() => {}
                }
            }
        }
    }
}

/// Runs CPU work beside the runtime, so that the doors' answers do not wait for a fold.
async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ChartError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ChartError::Stopped)
}

/// What was not read yet, each once.
fn only_new(reads: Reads, have: &Rows) -> (Vec<(&'static str, Key)>, Vec<Scan>) {
    let mut gets: Vec<_> = reads.gets.into_iter().filter(|(table, key)| !have.has_read(table, key)).collect();
    gets.sort_unstable();
    gets.dedup();
    let mut seen = HashSet::new();
    let mut scans = reads.scans;
    scans.retain(|scan| have.scan(scan).is_none() && seen.insert(scan.clone()));
    (gets, scans)
}

/// Where a range goes on behind `row`.
fn place_of<P: Projection>(scan: &Scan, row: &Row) -> Option<Vec<Value>> {
    let mut known = P::TABLES.iter().chain(family::TABLES).chain(resources::TABLES);
    let table: &Table = known.find(|table| table.name == scan.table)?;
    let mut after = Vec::new();
    if let Some(name) = scan.index {
        let index = table.indexes.iter().find(|index| index.name == name)?;
        for column in index.columns {
            after.push(row.values.get(table.column(column)?)?.clone());
        }
    }
    after.extend(row.values.get(..table.key_len)?.iter().cloned());
    Some(after)
}

/// What the projection makes of the batch; a rejection for a fault leaves nothing else.
fn changes_of<P: Projection>(projection: &P, taken: &Taken<P>) -> (Changes, usize) {
    let mut changes = Changes::default();
    let rejected = match (taken.fault, taken.places.first()) {
        (Some(fault), Some(&Place { position, .. })) => {
            vec![Rejected { position, rule: fault.rule(), path: None, text: fault.text().to_owned() }]
        }
        _ => projection.apply(&taken.events, &taken.rows, &mut changes),
    };
    for one in &rejected {
        let place = taken.places.iter().position(|place| place.position == one.position);
        let event = place.and_then(|place| taken.events.get(place));
        let event = event.expect("a rejection names an event of its batch");
        let nothing = Rows::default();
        let rows = if taken.is_bare { &nothing } else { &taken.rows };
        projection.reject(event, one, rows, &mut changes);
    }
    (changes, rejected.len())
}

/// The reads that tell whether resources differ: current versions.
fn resource_reads(changes: &Changes) -> Vec<Read> {
    changes.resources.keys().map(|&(ty, id)| resources::read_current(ty, id)).collect()
}

/// The reads that tell whether registers differ: current version and stamp, for each.
fn register_reads(changes: &Changes) -> Vec<Read> {
    let reads = |&(ty, id)| [resources::read_current(ty, id), resources::read_stamp(ty, id)];
    changes.register_resources.keys().flat_map(reads).collect()
}

/// Everything of a commit but the offset.
fn build(
    writer: Writer<'_>,
    expects: Vec<Expect>,
    changes: Changes,
    stored: Vec<Option<Row>>,
    outbox: Vec<hilum_engines::tables::Outgoing>,
) -> Result<Batch, ChartError> {
    let mut batch = Batch { expects, outbox, ..Batch::default() };
    batch.writes.extend(changes.rows.into_iter().map(|((table, key), values)| match values {
        Some(values) => Write::Put { table, values },
        None => Write::Delete { table, key },
    }));
    batch.writes.extend(
        changes.registers.into_iter().map(|((table, _), values)| Write::PutIfNewer { table, values }),
    );
    let mut stored = stored.into_iter();
    for change in changes.resources.into_values() {
        let current = stored.next().flatten();
        writer.write(&Version::from(&change), current.as_ref(), &mut batch)?;
    }
    for register in changes.register_resources.into_values() {
        let (current, stamp) = (stored.next().flatten(), stored.next().flatten());
        writer.write_register(&register, current.as_ref(), stamp.as_ref(), &mut batch)?;
    }
    Ok(batch)
}

/// The runners of one projection over all its streams and partitions.
#[derive(Debug)]
pub struct Running {
    progress: Progress,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Running {
    /// How far they are.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Lets each finish the batch that it is at, and waits for that.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Runs `projection` over all its streams and partitions until [`Running::stop`]; dropping what this returns ends
/// the runners where they are, which loses nothing.
pub fn run_all<P: Projection>(projection: &Arc<P>, log: &Log, tables: &Tables, clock: &Clock) -> Running {
    let progress = Progress::new(P::NAME, P::STREAMS, log.partitions());
    let (stop, stopped) = watch::channel(false);
    let in_flight = Arc::new(Semaphore::new(BATCHES_IN_FLIGHT_MAX));
    let claims = Claims::new();
    let mut tasks = JoinSet::new();
    for &stream in P::STREAMS {
        for partition in 0..log.partitions() {
            let (projection, log, tables, clock) =
                (Arc::clone(projection), log.clone(), tables.clone(), clock.clone());
            let (progress, in_flight, stopped) = (progress.clone(), Arc::clone(&in_flight), stopped.clone());
            let claims = Arc::clone(&claims);
            tasks.spawn(async move {
                let start = || {
                    Runner::new(
                        Arc::clone(&projection),
                        log.clone(),
                        tables.clone(),
                        clock.clone(),
                        (stream, partition),
                        progress.clone(),
                    )
                    .claiming(Arc::clone(&claims))
                    .run(Arc::clone(&in_flight), stopped.clone())
                };
                // A partition that dies in silence would look like an empty ward: it is seen, and tried again.
                let mut inner = JoinSet::new();
                loop {
                    inner.spawn(start());
                    match inner.join_next().await {
                        Some(Err(error)) if error.is_panic() => {
                            tracing::error!(projection = P::NAME, %stream, partition, "runner failed, started again");
                            progress.update(stream, partition, |slot| {
                                slot.paused = Some("runner failed, started again".to_owned());
                            });
                            tokio::time::sleep(PAUSE_BACKOFF.1).await;
                        }
                        _ => return,
                    }
                }
            });
        }
    }
    Running { progress, stop, tasks }
}
