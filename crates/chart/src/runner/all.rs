//! The runners of one projection over all its streams and partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use hilum_core::{Clock, Stream, Tracer};
use hilum_engines::log::{Log, Share};
use hilum_engines::tables::Tables;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Runner;
use crate::claims::Claims;
use crate::error::{Cause, ChartError};
use crate::fits::{check_form, refuse_new};
use crate::foresee::{foresee, places};
use crate::limits::{BATCHES_IN_FLIGHT_MAX, FORESEE_WAIT, OTHERS_POLL, PAUSE_BACKOFF};
use crate::port;
use crate::progress::{Paused, Progress};
use crate::projection::Projection;

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

/// What the runners of one process share.
struct Crew<P: Projection> {
    projection: Arc<P>,
    log: Log,
    tables: Tables,
    clock: Clock,
    progress: Progress,
    tracer: Tracer,
    in_flight: Arc<Semaphore>,
    claims: Arc<Claims>,
    /// The partitions that were looked through.
    foreseen: watch::Sender<BTreeSet<(Stream, u16)>>,
    started: Instant,
    steps_over_gaps: bool,
}

impl<P: Projection> Crew<P> {
    /// Does `work` for a partition until it has ended by itself, or `stop` says true. A panic in it (a record that nobody
    /// can look through, say) would leave the partition where it is without a word: it is said, and tried again.
    async fn until_done<W: Future<Output = ()>>(
        self: Arc<Self>,
        (stream, partition): (Stream, u16),
        mut stop: watch::Receiver<bool>,
        work: impl Fn(Arc<Self>) -> W,
    ) {
        let mut pause = PAUSE_BACKOFF.0;
        while AssertUnwindSafe(work(Arc::clone(&self))).catch_unwind().await.is_err() {
            tracing::error!(projection = P::NAME, %stream, partition, "a partition failed, begun again");
            self.progress.update(stream, partition, |slot| {
                let why = "it failed before it was begun, and is tried again".to_owned();
                slot.paused = Some(Paused { cause: Cause::Program, why });
            });
            if tokio::time::timeout(pause, stop.wait_for(|&stop| stop)).await.is_ok() {
                return;
            }
            pause = (pause * 2).min(PAUSE_BACKOFF.1);
        }
    }

    /// Looks through what of one partition is not applied yet, until it has been possible.
    async fn look_ahead(self: Arc<Self>, place: (Stream, u16)) {
        // What waits is seen meanwhile.
        look_where::<P>(&self.log, &self.tables, &self.progress, place).await;
        let mut pause = PAUSE_BACKOFF.0;
        while let Err(error) = foresee(self.projection.as_ref(), &self.log, &self.tables, place).await {
            let (cause, (stream, partition)) = (error.cause(), place);
            let why = format!("it is not looked through yet, and applied only then: {error}");
            tracing::error!(projection = P::NAME, %stream, partition, cause = cause.as_str(), why);
            self.progress.update(stream, partition, |slot| slot.paused = Some(Paused { cause, why }));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_BACKOFF.1);
        }
        self.foreseen.send_modify(|done| {
            done.insert(place);
        });
    }

    /// Waits until a partition was looked through, and for a while for the others. One that its engine does not give
    /// must not keep the others from the board: a correction stands in the partition of what it corrects.
    async fn foreseen(&self, place: (Stream, u16)) {
        let mut foreseen = self.foreseen.subscribe();
        let count = places::<P>(&self.log).len();
        let all = foreseen.wait_for(|done| done.len() >= count);
        // Whether they all were says less than the next look.
        tokio::time::timeout_at(self.started + FORESEE_WAIT, all).await.map(drop).ok();
        if P::FORESEES {
            foreseen.wait_for(|done| done.contains(&place)).await.map(drop).ok();
        }
    }

    /// Waits until the rows are known to be of the form that this program reads: tables may have opened only after it
    /// started, and rows of another form may be read without an error and mean something else.
    async fn is_of_form(&self, (stream, partition): (Stream, u16)) {
        let mut pause = PAUSE_BACKOFF.0;
        let is_of_form = async || {
            refuse_new::<P>(&self.log, &self.tables).await?;
            check_form::<P>(&self.log, &self.tables).await
        };
        while let Err(error) = is_of_form().await {
            let (cause, why) = (error.cause(), error.to_string());
            tracing::error!(projection = P::NAME, %stream, partition, cause = cause.as_str(), why, "not begun");
            self.progress.update(stream, partition, |slot| slot.paused = Some(Paused { cause, why }));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_BACKOFF.1);
        }
    }

    /// Runs one partition until `stop` says true. One that dies in silence would look like an empty ward: it is seen,
    /// and tried again.
    async fn run_one(self: Arc<Self>, place: (Stream, u16), mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = async {
                self.is_of_form(place).await;
                self.foreseen(place).await;
            } => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let (stream, partition) = place;
        let mut inner = JoinSet::new();
        loop {
            let runner = Runner::new(
                Arc::clone(&self.projection),
                self.log.clone(),
                self.tables.clone(),
                self.clock.clone(),
                place,
                self.progress.clone(),
            );
            inner.spawn(
                runner
                    .claiming(Arc::clone(&self.claims))
                    .traced(self.tracer.clone())
                    .stepping_over_gaps(self.steps_over_gaps)
                    .run(Arc::clone(&self.in_flight), stop.clone()),
            );
            match inner.join_next().await {
                Some(Err(error)) if error.is_panic() => {
                    tracing::error!(projection = P::NAME, %stream, partition, "runner failed, started again");
                    self.progress.update(stream, partition, |slot| {
                        let why = "runner failed, started again".to_owned();
                        slot.paused = Some(Paused { cause: Cause::Program, why });
                    });
                    tokio::time::sleep(PAUSE_BACKOFF.1).await;
                }
                _ => return,
            }
        }
    }

    /// The share of this process, when it can be asked for.
    async fn share(&self) -> watch::Receiver<Share> {
        let mut pause = PAUSE_BACKOFF.0;
        loop {
            match self.log.share(P::NAME) {
                Ok(share) => return share,
                Err(why) => {
                    tracing::error!(projection = P::NAME, %why, "this process has no share of the work yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_BACKOFF.1);
                }
            }
        }
    }

    /// Runs what falls to this process, as it comes and goes, and looks how far the others are.
    async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        // Ends with this.
        let mut looking = JoinSet::new();
        let stopping = stop.clone();
        let look_ahead = |place| {
            let look_ahead = move |crew: Arc<Self>| crew.look_ahead(place);
            Arc::clone(&self).until_done(place, stopping.clone(), look_ahead)
        };
        for place in places::<P>(&self.log) {
            looking.spawn(look_ahead(place));
        }
        let mut share = tokio::select! {
            share = self.share() => share,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        // Each with its stop; one that is told to stop is here until it has.
        let mut here: BTreeMap<(Stream, u16), watch::Sender<bool>> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        let mut is_dealt_out = false;
        while !*stop.borrow() {
            let wanted = Arc::clone(&share.borrow_and_update());
            // A source has a topic of its own since: its partitions are as those that were there from the start. Asked
            // behind the share, which has none that the log does not name.
            let known = self.log.places(&Stream::ALL).len();
            for place in self.progress.add(self.log.places(P::STREAMS)) {
                if P::FORESEES {
                    looking.spawn(look_ahead(place));
                }
            }
            for (place, stop) in &here {
                stop.send_replace(!wanted.contains(place));
            }
            for &place in wanted.iter().filter(|(stream, _)| P::STREAMS.contains(stream)) {
                here.entry(place).or_insert_with(|| {
                    let (stop, stopped) = watch::channel(false);
                    let crew = Arc::clone(&self);
                    tasks.spawn(async move {
                        let run = |crew: Arc<Self>| crew.run_one(place, stopped.clone());
                        crew.until_done(place, stopped.clone(), run).await;
                        place
                    });
                    stop
                });
            }
            let others = self.progress.set_here(&wanted);
            tokio::select! {
                changed = share.changed(), if !is_dealt_out => is_dealt_out = changed.is_err(),
                Some(Ok(place)) = tasks.join_next() => drop(here.remove(&place)),
                () = self.look_at(&others), if !others.is_empty() => {}
                () = self.log.grown(known) => {}
                _ = stop.changed() => {}
            }
        }
        for stop in here.values() {
            stop.send_replace(true);
        }
        while tasks.join_next().await.is_some() {}
    }

    /// How far the processes are that have the other partitions.
    async fn look_at(&self, others: &[(Stream, u16)]) {
        tokio::time::sleep(OTHERS_POLL).await;
        for &place in others {
            look_where::<P>(&self.log, &self.tables, &self.progress, place).await;
        }
    }
}

/// How far a partition is at which this process does not work (yet).
async fn look_where<P: Projection>(
    log: &Log,
    tables: &Tables,
    progress: &Progress,
    (stream, partition): (Stream, u16),
) {
    let applied = port::offset(tables, P::NAME, stream, partition, log.epoch()).await;
    let end = port::known_end(log, stream, partition).await.map_err(ChartError::from);
    let gone = end.as_ref().err().filter(|error| error.cause() == Cause::Gone);
    // Nobody is given a partition whose topic is gone, so nobody else says so.
    let gone = gone.map(|error| Paused { cause: Cause::Gone, why: error.to_string() });
    progress.update(stream, partition, |slot| {
        let was_gone = slot.paused.as_ref().is_some_and(|paused| paused.cause == Cause::Gone);
        if !slot.is_here && (gone.is_some() || was_gone) {
            slot.paused = gone;
        }
    });
    if let (Ok(applied), Ok(end)) = (applied, end) {
        let end = end.unwrap_or(applied);
        progress.update(stream, partition, |slot| {
            slot.forget_target_behind(applied);
            (slot.applied, slot.end) = (applied, end);
            slot.target.get_or_insert(end);
        });
    }
}

/// Looks how far `P` is, each `every`, in a process that does not work at it: what tables and log say is all that it
/// knows. Ends with [`Running::stop`].
pub fn follow_all<P: Projection>(log: &Log, tables: &Tables, every: Duration) -> Running {
    let progress = Progress::new(P::NAME, log.places(P::STREAMS));
    let (stop, mut stopped) = watch::channel(false);
    let (log, tables, seen) = (log.clone(), tables.clone(), progress.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let looking = async {
            loop {
                let places = log.places(P::STREAMS);
                seen.add(places.clone());
                let all = places.into_iter().map(|place| look_where::<P>(&log, &tables, &seen, place));
                futures::future::join_all(all).await;
                tokio::time::sleep(every).await;
            }
        };
        tokio::select! {
            () = looking => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    });
    Running { progress, stop, tasks }
}

/// Runs `projection` over what falls to this process of its streams and partitions until [`Running::stop`]; dropping
/// what this returns ends the runners where they are, which loses nothing.
pub fn run_all<P: Projection>(projection: &Arc<P>, log: &Log, tables: &Tables, clock: &Clock) -> Running {
    run(projection, log, tables, clock, &Tracer::off(), false)
}

/// As [`run_all`], telling `tracer` of messages.
pub fn run_traced<P: Projection>(
    projection: &Arc<P>,
    log: &Log,
    tables: &Tables,
    clock: &Clock,
    tracer: &Tracer,
) -> Running {
    run(projection, log, tables, clock, tracer, false)
}

/// The same, going over offsets at which nothing stands: for whoever decided that.
pub fn run_over_gaps<P: Projection>(
    projection: &Arc<P>,
    log: &Log,
    tables: &Tables,
    clock: &Clock,
) -> Running {
    run(projection, log, tables, clock, &Tracer::off(), true)
}

fn run<P: Projection>(
    projection: &Arc<P>,
    log: &Log,
    tables: &Tables,
    clock: &Clock,
    tracer: &Tracer,
    steps_over_gaps: bool,
) -> Running {
    let progress = Progress::new(P::NAME, log.places(P::STREAMS));
    let (stop, stopped) = watch::channel(false);
    let crew = Crew {
        projection: Arc::clone(projection),
        log: log.clone(),
        tables: tables.clone(),
        clock: clock.clone(),
        progress: progress.clone(),
        tracer: tracer.clone(),
        in_flight: Arc::new(Semaphore::new(BATCHES_IN_FLIGHT_MAX)),
        claims: Claims::new(),
        foreseen: watch::Sender::new(BTreeSet::new()),
        started: Instant::now(),
        steps_over_gaps,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::new(crew).run(stopped));
    Running { progress, stop, tasks }
}
