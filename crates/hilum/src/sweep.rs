//! Removes rows of the search index that no link can ask for any more. Of several processes one does it, slowly.

use std::collections::VecDeque;
use std::sync::Arc;

use hilum_chart::ChartError;
use hilum_chart::index::sweep::Sweep;
use hilum_core::Seq;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::house::House;
use crate::limits::{SWEEP_KEEP_S, SWEEP_LOOK_EVERY, SWEEP_REST};

/// The lease of whoever sweeps.
const LEASE: &str = "index.sweep";

/// Sweeps until `stopped` is true.
pub async fn keep(house: Arc<House>, mut stopped: watch::Receiver<bool>) {
    let sweeping = async {
        let (mut marks, mut sweep) = (Marks::default(), Sweep::default());
        loop {
            tokio::time::sleep(SWEEP_LOOK_EVERY).await;
            if let Err(why) = sweep_once(&house, &mut marks, &mut sweep).await {
                tracing::debug!(%why, "the search index is swept later");
            }
        }
    };
    tokio::select! {
        () = sweeping => {}
        _ = stopped.wait_for(|&stop| stop) => {}
    }
}

/// Goes through the index once, if nobody else does, until it is time to look at the clock again.
async fn sweep_once(house: &House, marks: &mut Marks, sweep: &mut Sweep) -> Result<(), ChartError> {
    let now = house.clock.now();
    let Some(until) = marks.note(Instant::now(), house.tables.now().await?) else { return Ok(()) };
    let lease_until = now.plus_micros(3 * SWEEP_LOOK_EVERY.as_micros() as i64);
    if house.tables.lease(LEASE, &house.process.to_string(), now, lease_until).await?.is_none() {
        return Ok(());
    }
    let (begun, mut removed) = (Instant::now(), 0);
    while begun.elapsed() < SWEEP_LOOK_EVERY {
        let before = Instant::now();
        let step = sweep.step(&house.tables, until).await?;
        removed += step.removed;
        if step.is_round {
            break;
        }
        tokio::time::sleep(before.elapsed() * SWEEP_REST).await;
    }
    tracing::debug!(removed, "rows of the search index that are gone");
    Ok(())
}

/// Which commit was the newest when, by the time that has passed: a clock that jumps makes nothing old.
#[derive(Debug, Default)]
struct Marks(VecDeque<(Instant, Seq)>);

impl Marks {
    /// Notes the newest commit; gives the newest one that is old enough. After the tables went back, nothing is.
    fn note(&mut self, now: Instant, t: Seq) -> Option<Seq> {
        if self.0.back().is_some_and(|(_, newest)| *newest > t) {
            self.0.clear();
        }
        self.0.push_back((now, t));
        let is_old = |at: &Instant| now.duration_since(*at).as_secs() >= SWEEP_KEEP_S;
        while self.0.get(1).is_some_and(|(at, _)| is_old(at)) {
            self.0.pop_front();
        }
        self.0.front().filter(|(at, _)| is_old(at)).map(|(_, t)| *t)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_was_there_long_ago_is_old() {
        let began = Instant::now();
        let at = |minutes: u64| began + Duration::from_secs(minutes * 60);
        let mut marks = Marks::default();
        let minutes = SWEEP_KEEP_S / 60;
        for (minute, t) in (0..minutes).zip(10..) {
            assert_eq!(marks.note(at(minute), Seq(t)), None, "{minute}");
        }
        assert_eq!(marks.note(at(minutes), Seq(500)), Some(Seq(10)));
        assert_eq!(marks.note(at(minutes + 2), Seq(500)), Some(Seq(12)));
        assert_eq!(marks.note(at(minutes + 3), Seq(400)), None, "the tables went back");
        assert_eq!(marks.note(at(2 * minutes + 3), Seq(401)), Some(Seq(400)));
    }
}
