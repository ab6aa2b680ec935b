//! Looks at what can only be seen by asking: whether log and tables take anything, whether somebody has vanished from the
//! census, whether the log has records that nobody can read. What it saw is read by `/readyz`, `/metrics` and
//! `doctor`, so that none of them waits for an engine that does not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hilum_adt::gateways::Gateways;
use hilum_adt::view::reconcile::{Differs, Reconciler};
use hilum_chart::index::{Indexer, mend};
use hilum_chart::presence::Process;
use hilum_chart::{Chart, ChartError, Presence, Progress, RelayHealth};
use hilum_core::Clock;
use hilum_engines::log::Log;
use hilum_engines::tables::{Tables, TablesError, WentBack};
use hilum_web::session;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::ProcessRole;
use crate::house::House;
use crate::passed_over::{self, PassedOver, READ_AGAIN_EVERY};

/// How often the engines are asked.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// How long the tables may take to answer until they count as down.
const TABLES_ANSWER: Duration = Duration::from_secs(5);

/// What runs beside an open house, for whoever asks how it does.
#[derive(Debug)]
pub struct Watch {
    /// How far the fold is.
    pub progress: Progress,
    /// Whether somebody has vanished.
    pub reconciler: Arc<Reconciler>,
    /// Who takes messages in.
    pub gateways: Gateways,
    log: Log,
    tables: Tables,
    /// Whether the chart is this process's concern: a gateway looks whether the tables answer, and no further.
    minds_chart: bool,
    /// Whether there is to be a change feed.
    minds_feed: bool,
    clock: Clock,
    /// What makes resources found by searches, where there are any.
    indexer: Option<Arc<Indexer>>,
    /// Whether what the tables know of the sources was taken up.
    remembers: AtomicBool,
    /// Where the tables went back to, once everybody was signed out for it.
    signed_out_for: Mutex<Option<WentBack>>,
    seen: Mutex<Seen>,
    /// Processes that the metrics named last, by place and roles.
    named: Mutex<BTreeSet<[String; 2]>>,
    /// Another process with the id of this one.
    twin: Mutex<Option<Process>>,
}

/// What the last look saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Why the tables take nothing; absent while they do.
    pub tables_down: Option<TablesError>,
    /// What is not in the chart because something stored cannot be read.
    pub passed_over: PassedOver,
    /// How the change feed does; absent where there is none.
    pub feed: Option<RelayHealth>,
    /// That the tables went back while this process ran, or before.
    pub went_back: Option<WentBack>,
    /// That searches wait, since not all is indexed as this process would.
    pub searches_wait: bool,
}

/// What to do about two processes of one id.
pub const WAY_OUT_TWIN: &str = "its data folder is a copy of the other one's, or `process.id` in it is: stop that one of the two which was copied, \
                                remove `process.id` from its data folder and start it again, which makes another";

/// What to say of another process with the id of this one, which is `process`.
pub fn of_twin(process: &Process) -> String {
    format!(
        "another process has the id {} of this one: {}, started {}; each hides the other, and both may do what one must",
        process.id,
        process.place(),
        process.started
    )
}

/// What there is to say while not all is indexed as the program and its configuration would.
pub const SEARCHES_WAIT: &str = "FHIR searches are answered 503: resources are not indexed as this program and its configuration (fhir.bases, http.zone) do it; stop \
     the server and run `hilum rebuild index`";

impl Watch {
    /// Over an open house.
    pub fn new(house: &House, progress: Progress) -> Self {
        let chart = Chart::open(house.tables.clone(), house.clock.clone());
        let reconciler = Arc::new(Reconciler::new(house.tables.clone(), chart, house.clock.clone()));
        let (log, tables) = (house.log.clone(), house.tables.clone());
        let minds_chart =
            house.config.roles.has(ProcessRole::Worker) || house.config.roles.has(ProcessRole::Reader);
        let (minds_feed, clock) = (minds_chart && house.config.log.relay, house.clock.clone());
        let sources = Arc::clone(&house.sources);
        let gateways = if tables.is_shared() {
            let presence = Presence::new(house.process, tables.clone(), house.clock.clone());
            let is_here = house.config.roles.has(ProcessRole::Gateway);
            Gateways::among(sources, is_here, Arc::new(presence))
        } else {
            Gateways::alone(sources)
        };
        let remembers = AtomicBool::new(false);
        Self {
            progress,
            reconciler,
            gateways,
            log,
            tables,
            minds_chart,
            minds_feed,
            clock,
            indexer: house.indexer.clone(),
            remembers,
            signed_out_for: Mutex::default(),
            seen: Mutex::default(),
            named: Mutex::default(),
            twin: Mutex::default(),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last look saw.
    pub fn seen(&self) -> Seen {
        self.slot().clone()
    }

    /// Looks until `stop` is true; an engine that does not answer is then not waited for.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let looking = async {
            let mut read_again_at = Instant::now();
            loop {
                let is_due = Instant::now() >= read_again_at;
                self.look(is_due).await;
                if is_due {
                    read_again_at = Instant::now() + READ_AGAIN_EVERY;
                }
                tokio::time::sleep(WATCH_EVERY).await;
            }
        };
        // Beside it: whoever holds the log's file lets the look at it wait for seconds.
        let looking_at_log = async {
            loop {
                self.log.look().await;
                tokio::time::sleep(WATCH_EVERY).await;
            }
        };
        tokio::select! {
            () = looking => {}
            () = looking_at_log => {}
            _ = stop.wait_for(|&stop| stop) => {}
        }
    }

    async fn look(&self, reads_again: bool) {
        let down = match tokio::time::timeout(TABLES_ANSWER, self.tables.ready()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(TablesError::Engine(format!("no answer within {} s", TABLES_ANSWER.as_secs()))),
        };
        let was_down = std::mem::replace(&mut self.slot().tables_down, down.clone()).is_some();
        match &down {
            Some(why) if !was_down => tracing::error!(%why, "the tables take nothing"),
            None if was_down => tracing::info!("the tables take commits again"),
            _ => {}
        }
        if down.is_some() {
            return;
        }
        tokio::select! {
            () = self.ask(reads_again) => {}
            // What is asked waits longer for an answer than an outage that begins meanwhile may stay unseen.
            () = self.until_silent() => {}
        }
    }

    /// Returns when the tables do not answer any more.
    async fn until_silent(&self) {
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            if !matches!(tokio::time::timeout(TABLES_ANSWER, self.tables.ready()).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    async fn ask(&self, reads_again: bool) {
        self.sign_out_if_back().await;
        if !self.remembers.load(Ordering::Relaxed) {
            match self.gateways.remember_rows(&self.tables).await {
                Ok(()) => self.remembers.store(true, Ordering::Relaxed),
                Err(error) => tracing::debug!(%error, "when the sources last spoke is not known yet"),
            }
        }
        if !self.minds_chart {
            return;
        }
        let asked = async {
            if self.minds_feed {
                let before = self.seen().feed;
                match RelayHealth::look(&self.tables, before.as_ref(), self.clock.now()).await {
                    Ok(feed) => self.slot().feed = feed,
                    Err(error) => tracing::debug!(%error, "how the change feed does is not known"),
                }
            }
            if reads_again && let Err(error) = self.look_at_index().await {
                tracing::debug!(%error, "whether all is indexed is not known");
            }
            if let Err(error) = self.look_at_passed_over(reads_again).await {
                tracing::debug!(%error, "records that were passed over not counted");
            }
            if let Err(error) = self.reconciler.look().await {
                tracing::warn!(%error, "census not reconciled");
            }
        };
        tokio::time::timeout(Duration::from_mins(1), asked).await.ok();
    }

    /// Which sessions had ended is not known of tables that went back: all end.
    async fn sign_out_if_back(&self) {
        let back = *self.tables.went_back().borrow();
        self.slot().went_back = back;
        let done = *self.signed_out_for.lock().unwrap_or_else(PoisonError::into_inner);
        if back.is_none() || back == done {
            return;
        }
        match session::end_all(&self.tables).await {
            Ok(sessions) => {
                tracing::warn!(sessions, "everybody is signed out: the tables went back");
                *self.signed_out_for.lock().unwrap_or_else(PoisonError::into_inner) = back;
            }
            Err(error) => tracing::warn!(%error, "sessions from before are not ended yet"),
        }
    }

    async fn look_at_passed_over(&self, reads_again: bool) -> Result<(), TablesError> {
        let records = passed_over::count(&self.tables).await?;
        let before = self.seen().passed_over;
        // What was just passed over is read again at once: its seconds are over, perhaps the trouble too.
        let readable = if records > 0 && (reads_again || records != before.records) {
            passed_over::readable(&self.log, &self.tables).await?
        } else {
            before.readable.min(records)
        };
        if readable > before.readable {
            tracing::warn!(
                records = readable,
                "records that were passed over can be read again: `hilum rebuild chart` brings them into the chart"
            );
        }
        let on_rows = passed_over::count_on_rows(&self.tables).await?;
        if on_rows > before.on_rows {
            tracing::error!(
                messages = on_rows,
                "messages would change rows that cannot be read: `hilum doctor`"
            );
        }
        self.slot().passed_over = PassedOver { records, readable, on_rows };
        Ok(())
    }

    async fn look_at_index(&self) -> Result<(), ChartError> {
        let Some(indexer) = &self.indexer else { return Ok(()) };
        let wait = !mend::is_whole(&self.tables, indexer).await?;
        let did = std::mem::replace(&mut self.slot().searches_wait, wait);
        if wait && !did {
            tracing::warn!("{SEARCHES_WAIT}");
        }
        Ok(())
    }

    fn processes(&self) {
        let Some(presence) = self.gateways.presence() else { return };
        let now = self.clock.now();
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        // Whose row is gone is neither there nor away: an alert must not stay for it.
        let mut states: BTreeMap<[String; 2], f64> =
            std::mem::take(&mut *named).into_iter().map(|labels| (labels, f64::NAN)).collect();
        for process in presence.seen().processes.iter() {
            let is_there = if process.is_there(now) { 1.0 } else { 0.0 };
            states.insert([process.place(), process.roles.clone()], is_there);
        }
        for ([process, roles], state) in &states {
            let labels = [("process", process.clone()), ("roles", roles.clone())];
            metrics::gauge!("hilum_process_there", &labels).set(*state);
        }
        // What is said to be gone stays said.
        states.retain(|_, state| !state.is_nan());
        named.extend(states.into_keys());
    }

    /// Takes in whether another process has the id of this one.
    pub fn set_twin(&self, twin: Option<Process>) {
        let mut slot = self.twin.lock().unwrap_or_else(PoisonError::into_inner);
        match (&twin, &*slot) {
            (Some(twin), None) => tracing::error!(way_out = WAY_OUT_TWIN, "{}", of_twin(twin)),
            (None, Some(_)) => tracing::info!("this process has its id to itself again"),
            _ => {}
        }
        *slot = twin;
    }

    /// What to say of another process with the id of this one; `None` where there is none.
    pub fn twin(&self) -> Option<String> {
        self.twin.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(of_twin)
    }

    /// What to say of tables that went back; `None` where they did not.
    pub fn went_back(&self) -> Option<String> {
        let WentBack { from, to } = self.seen().went_back?;
        Some(format!(
            "the tables went back from commit {from} to {to}: restored from a backup, or a server without the last commits. \
             What came in since is applied again from the log; accounts and keys are as they were then"
        ))
    }

    /// As metrics.
    pub fn gauges(&self) {
        self.processes();
        let seen = self.seen();
        metrics::gauge!("hilum_tables_down").set(if seen.tables_down.is_some() { 1.0 } else { 0.0 });
        metrics::gauge!("hilum_log_unreadable_records").set(seen.passed_over.records as f64);
        metrics::gauge!("hilum_log_readable_again_records").set(seen.passed_over.readable as f64);
        metrics::gauge!("hilum_unreadable_rows_messages").set(seen.passed_over.on_rows as f64);
        if let Some(feed) = seen.feed {
            let now = self.clock.now();
            metrics::gauge!("hilum_relay_lag_commits").set(feed.lag_commits as f64);
            metrics::gauge!("hilum_relay_silence_seconds").set(now.micros_since(feed.heard) as f64 / 1e6);
            metrics::gauge!("hilum_relay_stuck").set(if feed.is_stuck(now) { 1.0 } else { 0.0 });
        }
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
