//! The doors, and whatever else runs while a house is open.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hilum_adt::mllp::{self, Mllp};
use hilum_adt::project::Adt;
use hilum_adt::routes::{self, Room};
use hilum_adt::sources::DEFAULT;
use hilum_adt::view::window::Window;
use hilum_chart::projection::Projection as _;
use hilum_chart::{Chart, Discretions, Progress, follow_all, run_traced};
use hilum_engines::log::LogError;
use hilum_web::audit::{Durability, is_ours};
use hilum_web::session::SessionSecret;
use hilum_web::shell::{Mode, Parts, Probes, Settings, Shell};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::Socket;
use crate::commands::doctor::limited_nobodys;
use crate::company::Company;
use crate::config::ProcessRole;
use crate::house::House;
use crate::probes::{feed_health, gauges, readiness};
use crate::watch::Watch;
use crate::{relay, seen, sweep};

/// What runs.
#[derive(Debug)]
pub struct Running {
    /// Where MLLP is accepted; absent when the configuration has no `mllp.listen`.
    pub mllp: Option<SocketAddr>,
    /// Where the further listeners accept, by name.
    listeners: BTreeMap<String, SocketAddr>,
    /// Where HTTP is accepted.
    pub http: SocketAddr,
    house: Arc<House>,
    fold: hilum_chart::Running,
    stop: watch::Sender<bool>,
    refused: watch::Receiver<Option<String>>,
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

        let roles = house.config.roles;
        // Everything is bound before anything is served: a port that is taken is said before a message is.
        let http_listener = bind("http.listen", &house.config.http.listen)?;
        let http = http_listener.local_addr()?;
        let config = &house.config.mllp;
        let mllp_listeners =
            if roles.has(ProcessRole::Gateway) { bind_mllp(&house.config.mllp)? } else { Vec::new() };

        let fold = if roles.has(ProcessRole::Worker) {
            run_traced(&house.fold, &house.log, &house.tables, &house.clock, &house.tracer)
        } else {
            follow_all::<Adt>(&house.log, &house.tables, FOLLOW_EVERY)
        };
        let progress = fold.progress().clone();
        let watch = Arc::new(Watch::new(&house, progress.clone()));
        house.watch.set(Arc::clone(&watch)).map_err(|_| anyhow::anyhow!("the house runs already"))?;
        let shell = shell(&house, metrics, mode, &watch, stopped.clone()).await?;
        let mut rooms = Vec::new();
        if roles.has(ProcessRole::Gateway) {
            rooms.push(hilum_adt::http::route(house.door.clone()));
        }
        if roles.has(ProcessRole::Reader) {
            rooms.extend(routes::routes(&room(&house, &watch)));
            rooms.extend(hilum_records::routes(&records(&house)));
            tasks.spawn(sweep_searches(Arc::clone(&house), stopped.clone()));
        }
        let mounted = shell.mount(rooms);
        let socket = Socket::open(&house.folder)?;
        tasks.spawn(socket.serve(Arc::clone(&house), stopped.clone()));

        let door = Mllp::new(house.door.clone(), config.limits());
        let mut mllp = None;
        let mut listeners = BTreeMap::new();
        for (name, listener) in mllp_listeners {
            let local = listener.local_addr()?;
            tracing::info!(listener = name, address = %local, "MLLP door open");
            if name == DEFAULT {
                mllp = Some(local);
            } else {
                listeners.insert(name.clone(), local);
            }
            let (door, stopped) = (door.clone(), stopped.clone());
            tasks.spawn(async move { door.serve(listener, name, stopped).await });
        }
        let (refuses, refused) = watch::channel(None);
        if let Some(company) = Company::new(&house, &watch, http, mllp, refuses) {
            tasks.spawn(company.keep(stopped.clone()));
        }
        tasks.spawn(watch.run(stopped.clone()));
        if house.tables.is_shared() {
            tasks.spawn(seen::keep(Arc::clone(&house), stopped.clone()));
        }
        if roles.has(ProcessRole::Worker) {
            tasks.spawn(relay::cut_outbox(Arc::clone(&house), stopped.clone()));
            tasks.spawn(sweep::keep(Arc::clone(&house), stopped.clone()));
            if house.config.log.relay {
                tasks.spawn(relay::keep(Arc::clone(&house), stopped.clone(), refused.clone()));
            }
        }
        tasks.spawn({
            let (house, mut stopped) = (Arc::clone(&house), stopped.clone());
            async move {
                tokio::select! {
                    () = house.fits_later() => {}
                    _ = stopped.wait_for(|&stop| stop) => {}
                }
            }
        });
        tracing::info!(%roles, process = %house.process, "this process");
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
        Ok(Self { mllp, listeners, http, house, fold, stop, refused, tasks })
    }

    /// Writes where the doors are, whole or not at all: whoever waits for the file may read it when it is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_ready_file(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = json!({
            "http": self.http.to_string(),
            "mllp": self.mllp.map(|address| address.to_string()),
        });
        if !self.listeners.is_empty() {
            let listeners = self.listeners.iter().map(|(name, address)| (name.clone(), address.to_string()));
            text["listeners"] = listeners.collect::<BTreeMap<_, _>>().into_iter().collect();
        }
        let temporary = path.with_extension(format!("{}.new", std::process::id()));
        // Addresses are no secret, and whoever waits for the file may be another user.
        std::fs::write(&temporary, text.to_string())
            .and_then(|()| std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o644)))
            .and_then(|()| std::fs::rename(&temporary, path))
            .with_context(|| format!("ready file {} cannot be written", path.display()))
    }

    /// Waits until this process must not go on beside another one, and says why.
    pub async fn refused(&self) -> String {
        let mut refused = self.refused.clone();
        let why = refused.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        // Nobody is left to say so.
        let Some(why) = why else { return std::future::pending().await };
        why
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

/// How often a process that does not work at the fold looks how far it is.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

fn bind_mllp(config: &crate::config::Mllp) -> anyhow::Result<Vec<(String, TcpListener)>> {
    let mut listeners = Vec::new();
    if !config.listen.is_empty() {
        listeners.push((DEFAULT.to_owned(), bind("mllp.listen", &config.listen)?));
    }
    for (name, raw) in &config.listeners {
        listeners.push((name.clone(), bind(&format!("mllp.listeners.{name}"), raw)?));
    }
    Ok(listeners)
}

/// The records room over a house.
pub(crate) fn records(house: &House) -> hilum_records::Room {
    let chart = house.chart();
    let window = Window {
        tables: house.tables.clone(),
        log: house.log.clone(),
        chart: chart.clone(),
        key: house.key.clone(),
    };
    hilum_records::Room {
        chart,
        discretions: Discretions::default().of(Adt::NAME, Arc::new(window)).open_door(hilum_records::DOOR),
        policy: house.config.fhir.policy(),
        key: house.key.clone(),
        entropy: house.entropy.clone(),
        paging: house.config.fhir.paging(),
    }
}

/// Removes searches that were kept for their pages when their time is over, until the server stops.
async fn sweep_searches(house: Arc<House>, mut stopped: watch::Receiver<bool>) {
    let every = Duration::from_secs(hilum_records::limits::KEPT_SWEEP_EVERY_S);
    // The sender's end is the end too.
    while tokio::time::timeout(every, stopped.wait_for(|stopped| *stopped)).await.is_err() {
        match hilum_records::fhir::sweep(&house.tables, house.clock.now()).await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "searches that were kept for their pages are gone"),
            Err(error) => tracing::warn!(%error, "searches that were kept are not swept"),
        }
    }
}

fn room(house: &House, watch: &Watch) -> Room {
    Room {
        tables: house.tables.clone(),
        chart: Chart::open(house.tables.clone(), house.clock.clone()),
        log: house.log.clone(),
        clock: house.clock.clone(),
        entropy: house.entropy.clone(),
        key: house.key.clone(),
        sources: Arc::clone(&house.sources),
        gateways: watch.gateways.clone(),
        progress: watch.progress.clone(),
        reconciler: Arc::clone(&watch.reconciler),
    }
}

/// Whether everything in the log is applied. A fold that stands still is not waited for.
async fn is_applied(house: &House, progress: &Progress) -> bool {
    for partition in progress.health().partitions {
        let end = match house.log.end(partition.stream, partition.partition).await {
            Ok(end) => end,
            Err(LogError::Unsure { .. }) => continue,
            Err(_) => return true,
        };
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
    for name in limited_nobodys(house).await.unwrap_or_default() {
        tracing::warn!(name, "no account or API key has this name of fhir.limited: nobody is limited by it");
    }
    let settings = Settings {
        mode,
        https: config.http.https,
        zone: jiff::tz::TimeZone::get(&config.http.zone).with_context(|| {
            format!("http.zone: `{}` is no IANA time zone (write Asia/Seoul)", config.http.zone)
        })?,
        audit: if config.audit.at_once { Durability::AtOnce } else { Durability::WithinSecond },
        audit_fails_closed: config.audit.fails_closed,
        has_windows: config.roles.has(ProcessRole::Reader),
        fhir_bases: config.fhir.bases.clone(),
        limited: config.fhir.limited(&house.key)?,
        cors_origins: config.http.origins()?,
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
    let secret = SessionSecret::new(house.folder.session_key(&house.entropy)?);
    if house.tables.is_shared()
        && config.roles.has(ProcessRole::Reader)
        && !is_ours(&house.audit, &secret).await?
    {
        bail!(
            "the audit log in schema {} is sealed with another key than secrets/session.key, or its end was altered: \
             all processes of an installation need the same `secrets` folder",
            config.tables.audit_schema()
        );
    }
    let parts = Parts {
        clock: house.clock.clone(),
        entropy: house.entropy.clone(),
        tables: house.tables.clone(),
        audit: house.audit.clone(),
        secret,
        settings,
        words: vec![routes::WORDS, hilum_records::WORDS],
        topics: routes::TOPICS.to_vec(),
        probes,
    };
    Ok(Shell::start(parts).await?)
}
