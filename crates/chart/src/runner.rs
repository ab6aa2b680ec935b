//! Runs a projection over one partition of one stream: read → needs → apply → commit, again and again.
//!
//! - Rows, resources, offset and outbox go in one commit that validates every row that was read.
//! - A **conflict** repeats the batch from its reads on, half as large; so does a panic or a value that does not fit,
//!   until the one event stands alone that makes it: only that one is rejected. Batches grow again by an eighth with
//!   each commit.
//! - An **engine's error** is nobody's fault: the partition pauses with its offset unmoved and says why.
//! - A **record that the log cannot read** is tried for some seconds, then passed over: its place is quarantined, what
//!   is behind it goes on (see [`crate::unreadable`]).
//!
//! | file | what stands there |
//! |---|---|
//! | `fetch` | from the log into the queue |
//! | `gather` | what the batch needs is read |
//! | `parts` | what a sibling holds waits, the rest is computed meanwhile |
//! | `compute` | what should stand is computed, and made a commit |
//! | `commit` | the commit, and what its answer means |
//! | `fault` | a batch that cannot be applied is cut |
//! | `pause` | one step after the other, and the waits between them |
//! | `traced` | what a batch says of messages whose traces are told |
//! | `all` | the runners of all partitions |
//!
//! [`Runner::step`] does one step at a time, so that a test can interleave several runners as it likes.

use std::collections::VecDeque;
use std::sync::Arc;

use hilum_core::{Clock, Position, RecordId, Seq, Stream, Timestamp, TraceContext, Tracer};
use hilum_engines::log::Log;
use hilum_engines::tables::{Batch, Expect, Tables};

use self::fault::Fault;
use self::parts::Part;
use self::traced::Stood;
use crate::claims::{Claim, Claims};
use crate::error::ChartError;
use crate::limits::BATCH_RECORDS_MAX;
use crate::progress::Progress;
use crate::projection::{Projection, Rows};
use crate::unreadable::Unread;

mod all;
mod commit;
mod compute;
mod fault;
mod fetch;
mod gather;
mod parts;
mod pause;
mod traced;

pub use self::all::{Running, follow_all, run_all, run_over_gaps, run_traced};

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
    /// That of a part of the batch is: a sibling is at work on families that the rest touches.
    Parted,
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
    /// What its header says, where traces are told.
    trace: Option<TraceContext>,
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
    /// Whose families a sibling holds: their turn comes behind the others.
    later: Vec<Item<P::Event>>,
    /// What is computed of the batch already.
    done: Option<Box<Part<P>>>,
    /// Set when it has to be computed in one piece.
    is_whole: bool,
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
            later: Vec::new(),
            done: None,
            is_whole: false,
        }
    }
}

/// A batch that is ready to be committed.
struct Ready<P: Projection> {
    taken: Taken<P>,
    batch: Batch,
    /// What of it is set aside, and by which rule.
    rejected: Vec<(Position, &'static str)>,
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
    /// When the log was asked where it ends.
    end_asked: Option<Timestamp>,
    /// Decoded records that come next.
    queue: VecDeque<Item<P::Event>>,
    /// Records in the next batch.
    size: usize,
    size_max: usize,
    /// Conflicts in a row.
    conflicts: u32,
    /// What could not be read, until something is read again.
    unreadable: Option<Unread>,
    /// Goes over offsets at which nothing stands: somebody decided that.
    steps_over_gaps: bool,
    /// Whether what it writes is found by searches.
    is_indexed: bool,
    /// Where siblings in this process say what they are at work on.
    claims: Option<Arc<Claims>>,
    /// Takes what is told of messages.
    tracer: Tracer,
    /// The first record of the batch that is at work.
    at: Option<Place>,
    /// When that batch was taken from the queue.
    taken: Timestamp,
    /// Set while the partition stands still.
    stood: Option<Stood>,
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
            end_asked: None,
            queue: VecDeque::new(),
            size: BATCH_RECORDS_MAX,
            size_max: BATCH_RECORDS_MAX,
            conflicts: 0,
            unreadable: None,
            steps_over_gaps: false,
            is_indexed: true,
            claims: None,
            tracer: Tracer::off(),
            at: None,
            taken: Timestamp::default(),
            stood: None,
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
    #[must_use]
    pub fn claiming(mut self, claims: Arc<Claims>) -> Self {
        self.claims = Some(claims);
        self
    }

    /// Goes over offsets at which nothing stands ([`LogError::Missing`](hilum_engines::log::LogError::Missing)), in the
    /// place of pausing there.
    pub(crate) fn stepping_over_gaps(mut self, steps: bool) -> Self {
        self.steps_over_gaps = steps;
        self
    }

    /// Leaves the search index out: its tables are thrown away.
    pub(crate) fn unindexed(mut self) -> Self {
        self.is_indexed = false;
        self
    }

    /// Tells `tracer` of messages.
    #[must_use]
    pub fn traced(mut self, tracer: Tracer) -> Self {
        self.tracer = tracer;
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

    /// Steps until the batch is committed, or has to be tried again, or there is nothing to read.
    async fn turn(&mut self) -> Result<Stepped, ChartError> {
        loop {
            match self.step().await? {
                Stepped::Read { .. } | Stepped::Applied | Stepped::Parted | Stepped::Halved => {}
                done @ (Stepped::Idle
                | Stepped::Waits
                | Stepped::Fenced
                | Stepped::Conflict
                | Stepped::Committed { .. }) => return Ok(done),
            }
        }
    }

    fn forget(&mut self) {
        self.stage = Stage::Start;
        self.next = None;
        self.end_asked = None;
        self.queue.clear();
    }
}

/// Runs CPU work beside the runtime, so that the doors' answers do not wait for a fold.
pub(crate) async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ChartError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ChartError::Stopped)
}
