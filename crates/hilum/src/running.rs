//! The doors, and whatever else runs while a house is open.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hilum_adt::mllp::{self, Mllp};
use hilum_adt::routes::{self, Room};
use hilum_adt::sources::{DEFAULT, SourceHealth};
use hilum_chart::{Chart, PartitionHealth, Paused, Progress, ProjectionHealth, run_all};
use hilum_core::Seq;
use hilum_engines::limits;
use hilum_engines::tables::{Tables, TablesError};
use hilum_web::audit::Durability;
use hilum_web::session::SessionSecret;
use hilum_web::shell::{
    FeedHealth, FeedState, Mode, Parts, PausedPartition, Probes, Readiness, Settings, Shell,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::Socket;
use crate::house::House;
use crate::watch::Watch;

/// What runs.
#[derive(Debug)]
pub struct Running {
    /// Where MLLP is accepted; absent when the configuration has no `mllp.listen`.
    pub mllp: Option<SocketAddr>,
    /// Where HTTP is accepted.
    pub http: SocketAddr,
    house: Arc<House>,
    fold: hilum_chart::Running,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

fn address(key: &str, raw: &str) -> anyhow::Result<SocketAddr> {
    raw.parse().with_context(|| format!("{key}: `{raw}` is no address: write 127.0.0.1:2575"))
}

fn bind(key: &str, raw: &str) -> anyhow::Result<TcpListener> {
    mllp::bind(address(key, raw)?).with_context(|| {
        format!("{key}: {raw} cannot be bound: is another server there? Port 0 takes a free one")
    })
}

impl Running {
    /// Opens the doors. Returns when they accept.
    ///
    /// # Errors
    /// What could not be opened or bound, by name.
    pub async fn start(house: Arc<House>, metrics: PrometheusHandle, mode: Mode) -> anyhow::Result<Self> {
        house.must_fit()?;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();

        // Everything is bound before anything is served: a port that is taken is said before a message is.
        let http_listener = bind("http.listen", &house.config.http.listen)?;
        let http = http_listener.local_addr()?;
        let config = &house.config.mllp;
        let mut mllp_listeners = Vec::new();
        if !config.listen.is_empty() {
            mllp_listeners.push((DEFAULT.to_owned(), bind("mllp.listen", &config.listen)?));
        }
        for (name, raw) in &config.listeners {
            mllp_listeners.push((name.clone(), bind(&format!("mllp.listeners.{name}"), raw)?));
        }

        let fold = run_all(&house.fold, &house.log, &house.tables, &house.clock);
        let progress = fold.progress().clone();
        let watch = Arc::new(Watch::new(&house, progress.clone()));
        house.watch.set(Arc::clone(&watch)).map_err(|_| anyhow::anyhow!("the house runs already"))?;
        let shell = shell(&house, metrics, mode, &watch, stopped.clone()).await?;
        let room = Room {
            tables: house.tables.clone(),
            chart: Chart::open(house.tables.clone(), house.clock.clone()),
            log: house.log.clone(),
            clock: house.clock.clone(),
            entropy: house.entropy.clone(),
            key: house.key.clone(),
            sources: Arc::clone(&house.sources),
            progress,
            reconciler: Arc::clone(&watch.reconciler),
        };
        let mut rooms = vec![hilum_adt::http::route(house.door.clone())];
        rooms.extend(routes::routes(&room));
        let mounted = shell.mount(rooms);
        let socket = Socket::open(&house.folder)?;
        tasks.spawn(socket.serve(Arc::clone(&house), stopped.clone()));

        let door = Mllp::new(house.door.clone(), config.limits());
        let mut mllp = None;
        for (name, listener) in mllp_listeners {
            let local = listener.local_addr()?;
            tracing::info!(listener = name, address = %local, "MLLP door open");
            if name == DEFAULT {
                mllp = Some(local);
            }
            let (door, stopped) = (door.clone(), stopped.clone());
            tasks.spawn(async move { door.serve(listener, name, stopped).await });
        }
        tasks.spawn(watch.run(stopped.clone()));
        tasks.spawn(prune_outbox(house.tables.clone(), stopped.clone()));
        tracing::info!(address = %http, "HTTP door open");
        tasks.spawn({
            let (shell, mut stopped) = (shell.clone(), stopped);
            async move {
                let stop = async move {
                    // A sender that is gone means the same.
                    stopped.wait_for(|&stop| stop).await.map(drop).unwrap_or_default();
                };
                let served = hilum_web::listen::serve(http_listener, shell, mounted.router, stop).await;
                if let Err(error) = served {
                    tracing::error!(%error, "HTTP door closed");
                }
            }
        });
        Ok(Self { mllp, http, house, fold, stop, tasks })
    }

    /// Writes where the doors are, whole or not at all: whoever waits for the file may read it when it is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_ready_file(&self, path: &Path) -> anyhow::Result<()> {
        let text = json!({
            "http": self.http.to_string(),
            "mllp": self.mllp.map(|address| address.to_string()),
        });
        let temporary = path.with_extension(format!("{}.new", std::process::id()));
        // Addresses are no secret, and whoever waits for the file may be another user.
        std::fs::write(&temporary, text.to_string())
            .and_then(|()| std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o644)))
            .and_then(|()| std::fs::rename(&temporary, path))
            .with_context(|| format!("ready file {} cannot be written", path.display()))
    }

    /// Closes the doors, answers what was accepted, applies it, and waits for that for at most `drain`. What is not
    /// applied by then is at the next start.
    pub async fn stop(mut self, drain: Duration) {
        self.stop.send_replace(true);
        let until = tokio::time::Instant::now() + drain;
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout_at(until, all).await.is_err() {
            tracing::warn!("not every door was closed in time");
            self.tasks.shutdown().await;
        }
        let applied = async {
            let mut moved = self.fold.progress().moved();
            while !is_applied(&self.house, self.fold.progress()).await && moved.changed().await.is_ok() {}
        };
        if tokio::time::timeout_at(until, applied).await.is_err() {
            tracing::warn!("not everything is applied: it will be at the next start");
        }
        let until = until.max(tokio::time::Instant::now() + BATCH_ENDS);
        if tokio::time::timeout_at(until, self.fold.stop()).await.is_err() {
            tracing::warn!("a batch did not come to an end: it is begun anew at the next start");
        }
    }
}

/// How long a batch that was begun may take to come to its end when all the rest has ended.
const BATCH_ENDS: Duration = Duration::from_secs(1);

/// Keeps the outbox as long as a page may be away, and no longer.
async fn prune_outbox(tables: Tables, mut stopped: watch::Receiver<bool>) {
    let every = Duration::from_secs(limits::OUTBOX_PRUNE_EVERY_S);
    while tokio::time::timeout(every, stopped.wait_for(|&stop| stop)).await.is_err() {
        let pruned = match tables.now().await {
            Ok(now) => tables.prune(Seq(now.0 - limits::OUTBOX_KEEP_COMMITS)).await,
            Err(error) => Err(error),
        };
        match pruned {
            Ok(0) => {}
            Ok(entries) => tracing::debug!(entries, "outbox pruned"),
            Err(error) => tracing::warn!(%error, "outbox not pruned; it is tried again"),
        }
    }
}

/// Whether everything in the log is applied. A fold that stands still is not waited for.
async fn is_applied(house: &House, progress: &Progress) -> bool {
    for partition in progress.health().partitions {
        let Ok(end) = house.log.end(partition.stream, partition.partition).await else { return true };
        if partition.is_here && partition.applied < end && partition.paused.is_none() {
            return false;
        }
    }
    true
}

async fn shell(
    house: &Arc<House>,
    metrics: PrometheusHandle,
    mode: Mode,
    watch: &Arc<Watch>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<Shell> {
    let config = &house.config;
    let settings = Settings {
        mode,
        https: config.http.https,
        zone: jiff::tz::TimeZone::get(&config.http.zone).with_context(|| {
            format!("http.zone: `{}` is no IANA time zone (write Asia/Seoul)", config.http.zone)
        })?,
        audit: if config.audit.at_once { Durability::AtOnce } else { Durability::WithinSecond },
        audit_fails_closed: config.audit.fails_closed,
    };
    let with = || (Arc::clone(house), Arc::clone(watch));
    let ((ready_house, ready), (feed_house, feed), (gauge_house, gauge)) = (with(), with(), with());
    let probes = Probes {
        ready: Box::new(move || readiness(&ready_house, &ready, *stopped.borrow())),
        metrics: Box::new(move || {
            gauges(&gauge_house, &gauge);
            gauge.gauges();
            metrics.render()
        }),
        feed_health: Box::new(move || Some(feed_health(&feed_house, &feed))),
    };
    let parts = Parts {
        clock: house.clock.clone(),
        entropy: house.entropy.clone(),
        tables: house.tables.clone(),
        audit: house.audit.clone(),
        secret: SessionSecret::new(house.folder.session_key(&house.entropy)?),
        settings,
        words: vec![routes::WORDS],
        topics: routes::TOPICS.to_vec(),
        probes,
    };
    Ok(Shell::start(parts).await?)
}

fn paused_partitions(fold: &ProjectionHealth) -> Vec<PausedPartition> {
    let paused = fold.partitions.iter().filter_map(|one| Some((one, one.paused.clone()?)));
    paused
        .map(|(one, Paused { cause, why })| PausedPartition {
            projection: fold.projection,
            stream: one.stream.to_string(),
            partition: one.partition,
            lag: one.lag_records(),
            cause: cause.as_str(),
            why,
        })
        .collect()
}

fn readiness(house: &House, watch: &Watch, is_stopping: bool) -> Readiness {
    let (log, seen) = (house.log.health(), watch.seen());
    let fold = watch.progress.health();
    let paused = paused_partitions(&fold);
    if is_stopping {
        Readiness::Draining
    } else if let Some(why) = log.read_only {
        Readiness::ReadOnly { why: format!("log: {why}") }
    } else if let Some(why) = log.full.or(log.held) {
        Readiness::ReadOnly { why }
    } else if let Some(why @ TablesError::ReadOnly(_)) = seen.tables_down {
        Readiness::ReadOnly { why: why.to_string() }
    } else if let Some(why) = seen.tables_down {
        Readiness::TablesDown { why: why.to_string() }
    } else if !paused.is_empty() {
        Readiness::Paused { partitions: paused }
    } else if fold.caught_up() {
        let mut notes = seen.passed_over.notes();
        let differing = watch.reconciler.seen().map_or(0, |found| found.differing.len());
        if differing > 0 {
            notes.push(format!(
                "{differing} open encounters are not on the census as the chart says: stop the server and run `hilum \
                 rebuild census`"
            ));
        }
        Readiness::Ready { notes }
    } else {
        let sum = |of: fn(&PartitionHealth) -> u64| fold.partitions.iter().map(of).sum();
        Readiness::CatchingUp {
            applied: sum(|one| one.applied.min(one.target.unwrap_or(one.end))),
            target: sum(|one| one.target.unwrap_or(one.end)),
        }
    }
}

/// How the fold lags when it is called late, in microseconds from receipt.
const LATE_US: i64 = 60_000_000;

fn feed_health(house: &House, watch: &Watch) -> FeedHealth {
    let now = house.clock.now();
    let states = house.sources.states(now);
    let is = |health| states.iter().any(|state| state.health == health);
    let (log, fold) = (house.log.health(), watch.progress.health());
    let is_late = fold.oldest_unapplied().is_some_and(|oldest| now.micros_since(oldest) > LATE_US);
    let log_takes_nothing = log.read_only.is_some() || log.full.is_some() || log.held.is_some();
    let takes_nothing = log_takes_nothing || watch.seen().tables_down.is_some();
    let state = if takes_nothing || is(SourceHealth::Failing) {
        FeedState::Failing
    } else if is_late || fold.paused().is_some() {
        FeedState::Late
    } else if is(SourceHealth::Silent) {
        FeedState::Silent
    } else {
        FeedState::Ok
    };
    FeedHealth { state, last: states.iter().filter_map(|state| state.last_received).max(), href: "/sources" }
}

/// What is read when it is asked for, rather than counted as it happens.
fn gauges(house: &House, watch: &Watch) {
    let log = house.log.health();
    let tables_read_only = matches!(watch.seen().tables_down, Some(TablesError::ReadOnly(_)));
    let read_only = log.read_only.or(log.full).or(log.held).is_some() || tables_read_only;
    metrics::gauge!("hilum_log_queue_bytes").set(log.queue_bytes as f64);
    metrics::gauge!("hilum_in_flight_bytes").set(house.door.in_flight_bytes() as f64);
    metrics::gauge!("hilum_read_only").set(if read_only { 1.0 } else { 0.0 });
    for one in watch.progress.health().partitions {
        let labels = [("stream", one.stream.to_string()), ("partition", one.partition.to_string())];
        metrics::gauge!("hilum_lag_records", &labels).set(one.lag_records() as f64);
        metrics::gauge!("hilum_paused", &labels).set(if one.paused.is_some() { 1.0 } else { 0.0 });
        metrics::counter!("hilum_commits_total", &labels).absolute(one.commits);
        metrics::counter!("hilum_conflicts_total", &labels).absolute(one.conflicts);
        metrics::counter!("hilum_rejected_total", &labels).absolute(one.rejected);
    }
    let now = house.clock.now();
    for state in house.sources.states(now) {
        let silence_s = state.last_received.map_or(f64::NAN, |last| now.micros_since(last) as f64 / 1e6);
        metrics::gauge!("hilum_source_silence_seconds", "source" => state.name.to_string()).set(silence_s);
    }
}
