//! Looks at what can only be seen by asking: whether the tables take commits, whether somebody has vanished from the
//! census, whether the log has records that nobody can read. What it saw is read by `/readyz`, `/metrics` and
//! `doctor`, so that none of them waits for an engine that does not answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hilum_adt::tables::MESSAGE;
use hilum_adt::unreadable;
use hilum_adt::view::reconcile::{Differs, Reconciler};
use hilum_chart::{Chart, Progress};
use hilum_engines::tables::{Scan, Tables, Value};
use tokio::sync::watch;

use crate::house::House;

/// How often the engines are asked.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// How long the tables may take to answer until they count as down.
const TABLES_ANSWER: Duration = Duration::from_secs(5);
/// Unreadable records are counted up to here.
const UNREADABLE_COUNT_CAP: u64 = 10_000;

/// What runs beside an open house, for whoever asks how it does.
#[derive(Debug)]
pub struct Watch {
    /// How far the fold is.
    pub progress: Progress,
    /// Whether somebody has vanished.
    pub reconciler: Arc<Reconciler>,
    tables: Tables,
    seen: Mutex<Seen>,
}

/// What the last look saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Why the tables take nothing; absent while they do.
    pub tables_down: Option<String>,
    /// Records of the log that were passed over because they cannot be read.
    pub unreadable: u64,
}

impl Watch {
    /// Over an open house.
    pub fn new(house: &House, progress: Progress) -> Self {
        let chart = Chart::open(house.tables.clone(), house.clock.clone());
        let reconciler = Arc::new(Reconciler::new(house.tables.clone(), chart, house.clock.clone()));
        Self { progress, reconciler, tables: house.tables.clone(), seen: Mutex::default() }
    }

    fn slot(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last look saw.
    pub fn seen(&self) -> Seen {
        self.slot().clone()
    }

    /// Looks until `stop` is true.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            self.look().await;
            let waited = tokio::time::timeout(WATCH_EVERY, stop.wait_for(|&stop| stop)).await;
            if waited.is_ok() {
                return;
            }
        }
    }

    async fn look(&self) {
        let down = match tokio::time::timeout(TABLES_ANSWER, self.tables.ready()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", TABLES_ANSWER.as_secs())),
        };
        let was_down = std::mem::replace(&mut self.slot().tables_down, down.clone()).is_some();
        match &down {
            Some(why) if !was_down => tracing::error!(why, "the tables take nothing"),
            None if was_down => tracing::info!("the tables take commits again"),
            _ => {}
        }
        if down.is_some() {
            return;
        }
        let asked = async {
            let prefix = vec![Value::Text(unreadable::RULE.to_owned())];
            let scan = Scan::by_index(MESSAGE.name, "by_rule", prefix);
            match self.tables.count(&scan, UNREADABLE_COUNT_CAP).await {
                Ok(count) => self.slot().unreadable = count,
                Err(error) => tracing::debug!(%error, "unreadable records not counted"),
            }
            if let Err(error) = self.reconciler.look().await {
                tracing::warn!(%error, "census not reconciled");
            }
        };
        tokio::time::timeout(Duration::from_mins(1), asked).await.ok();
    }

    /// As metrics.
    pub fn gauges(&self) {
        let seen = self.seen();
        metrics::gauge!("hilum_tables_down").set(if seen.tables_down.is_some() { 1.0 } else { 0.0 });
        metrics::gauge!("hilum_log_unreadable_records").set(seen.unreadable as f64);
        if let Some(found) = self.reconciler.seen() {
            metrics::gauge!("hilum_census_open").set(found.open as f64);
            metrics::gauge!("hilum_census_on_board").set(found.on_board as f64);
            for differs in Differs::ALL {
                metrics::gauge!("hilum_census_difference", "kind" => differs.as_str())
                    .set(found.count(differs) as f64);
            }
        }
    }
}
