//! The runners of one projection over all its streams and partitions.

use std::sync::Arc;

use hilum_core::Clock;
use hilum_engines::log::Log;
use hilum_engines::tables::Tables;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::Runner;
use crate::claims::Claims;
use crate::error::Cause;
use crate::foresee::foresee;
use crate::limits::{BATCHES_IN_FLIGHT_MAX, PAUSE_BACKOFF};
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

/// Looks through what is not applied yet, until it has been possible.
async fn look_ahead<P: Projection>(projection: &P, log: &Log, tables: &Tables, progress: &Progress) {
    let mut pause = PAUSE_BACKOFF.0;
    while let Err(error) = foresee(projection, log, tables).await {
        let paused = Paused { cause: error.cause(), why: error.to_string() };
        tracing::error!(
            projection = P::NAME,
            cause = paused.cause.as_str(),
            why = paused.why,
            "nothing is applied before the log was looked through"
        );
        for &stream in P::STREAMS {
            for partition in 0..log.partitions() {
                progress.update(stream, partition, |slot| slot.paused = Some(paused.clone()));
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_BACKOFF.1);
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
    let (tell, foreseen) = watch::channel(false);
    tasks.spawn({
        let (projection, log, tables) = (Arc::clone(projection), log.clone(), tables.clone());
        let (progress, mut stopped) = (progress.clone(), stopped.clone());
        async move {
            tokio::select! {
                () = look_ahead(projection.as_ref(), &log, &tables, &progress) => { tell.send_replace(true); }
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        }
    });
    for &stream in P::STREAMS {
        for partition in 0..log.partitions() {
            let (projection, log, tables, clock) =
                (Arc::clone(projection), log.clone(), tables.clone(), clock.clone());
            let (progress, in_flight, stopped) = (progress.clone(), Arc::clone(&in_flight), stopped.clone());
            let (claims, mut foreseen) = (Arc::clone(&claims), foreseen.clone());
            tasks.spawn(async move {
                if foreseen.wait_for(|done| *done).await.is_err() {
                    return; // stopped before
                }
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
                                let why = "runner failed, started again".to_owned();
                                slot.paused = Some(Paused { cause: Cause::Program, why });
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
