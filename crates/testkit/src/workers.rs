//! Workers that get in each other's way: runners over all partitions of a log, their steps interleaved by a seed,
//! partitions taken from one worker by another in between.

use hilum_chart::projection::Projection;
use hilum_chart::runner::Stepped;
use hilum_chart::{Progress, Runner};
use hilum_core::{Entropy, Position, Stream};
use hilum_engines::log::Log;
use hilum_engines::tables::Batch;

/// Workers at the same time.
const WORKERS: u32 = 3;
/// Steps after which a schedule that has no end is given up.
const STEPS_MAX: u32 = 200_000;

/// A stream and a partition of it.
pub type Place = (Stream, u16);

/// What is taken out of a batch before it is committed.
pub type Plant = fn(&mut Batch);

/// Plants nothing.
pub fn nothing(_: &mut Batch) {}

/// Runs one schedule to the end of the log, each worker a runner that `start` makes. Returns how often workers were in
/// each other's way.
///
/// # Panics
/// When log or tables fail, or the schedule does not end.
pub async fn interleave<P: Projection>(
    log: &Log,
    seed: u64,
    plant: Plant,
    start: impl Fn(Place, Progress) -> Runner<P>,
) -> usize {
    let random = Entropy::seeded(seed);
    let below = |n: usize| u32::from_le_bytes(random.bytes()) as usize % n;
    let progress = Progress::new(P::NAME, log.places(P::STREAMS));
    let mut left: Vec<Place> = Vec::new();
    for (stream, partition) in log.places(P::STREAMS) {
        if log.end(stream, partition).await.expect("an end") > 0 {
            left.push((stream, partition));
        }
    }
    let mut workers: Vec<Option<(Place, Runner<P>)>> = (0..WORKERS).map(|_| None).collect();
    let mut in_the_way = 0;
    for _ in 0..STEPS_MAX {
        if left.is_empty() {
            return in_the_way;
        }
        let worker = &mut workers[below(WORKERS as usize)];
        let Some((place, runner)) = worker else {
            // Any partition, also one that another worker has: the offset decides who was right.
            let place = left[below(left.len())];
            *worker = Some((place, start(place, progress.clone()).batches_of(1 + below(6))));
            continue;
        };
        if let Some(batch) = runner.ready_mut() {
            plant(batch);
        }
        match runner.step().await.expect("a step") {
            Stepped::Read { .. } | Stepped::Applied | Stepped::Halved | Stepped::Waits => {}
            Stepped::Conflict | Stepped::Parted => in_the_way += 1,
            Stepped::Fenced => {
                in_the_way += 1;
                *worker = None;
            }
            Stepped::Committed { .. } => {
                let (stream, partition) = *place;
                let end = log.end(stream, partition).await.expect("an end");
                if progress.applied(Position { stream, partition, offset: end - 1 }) {
                    left.retain(|one| one != place);
                }
                if below(2) == 0 {
                    *worker = None;
                }
            }
            Stepped::Idle => *worker = None,
        }
    }
    panic!("seed {seed}: the schedule does not end");
}
