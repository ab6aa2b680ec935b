//! `hilum demo --cluster`: the same hospital on three brokers, PostgreSQL, and seven processes of this program.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use hilum_core::Role;
use hilum_engines::tables::Tables;
use hilum_engines::tables::postgres::Postgres;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{ACCOUNT, Arguments, example, lines_of_standard_input, new_link, open_browser, speak};
use crate::cluster::{Behind, Engines, Guard, Part, Place, Size, forward, secrets};
use crate::generate::hospital::Hospital;
use crate::house::schema;
use crate::{machine, out};

const PARTS: [(&str, usize); 3] = [("gateway", 2), ("worker", 3), ("reader", 2)];

/// Runs it until Ctrl-C.
pub(super) async fn live(arguments: &Arguments, http: &str, mllp: &str) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (http, mllp) = (bind(http).await?, bind(mllp).await?);
    let (at_http, at_mllp) = (http.local_addr()?, mllp.local_addr()?);
    let place = Place::make(std::env::temp_dir().join(format!("hilum-demo-{}", std::process::id())))?;
    out::line("");
    out::line("  Starting three brokers, PostgreSQL and seven processes: half a minute");
    let (place, given_up) = (Arc::new(place), Arc::new(AtomicBool::new(false)));
    let mut starting = tokio::task::spawn_blocking({
        let (place, given_up) = (Arc::clone(&place), Arc::clone(&given_up));
        move || start(&place, &given_up)
    });
    let started = tokio::select! {
        started = &mut starting => Some(started??),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    let Some(Some((engines, parts))) = started else {
        out::line("  Ending: as soon as what is starting can be ended.");
        given_up.store(true, Ordering::Relaxed);
        if !starting.is_finished() {
            drop(starting.await??);
        }
        return Ok(());
    };
    let listed = list(&engines, &parts);
    let (clock, entropy) = (machine::clock(), machine::entropy());
    let tables = Tables::Postgres(Postgres::open(engines.tables(), &schema()).await?);
    hilum_web::users::add(&tables, &clock, &entropy, ACCOUNT, Role::Admin, None).await?;
    let link = new_link(&tables, &clock, &entropy, at_http).await?;
    let (gateways, readers) = (Behind::default(), Behind::default());
    let guard = Guard::start(engines, parts, gateways.clone(), readers.clone())?;
    tokio::spawn(forward(mllp, gateways));
    tokio::spawn(forward(http, readers));
    out::line("");
    out::line("  hilum · a simulated hospital, live, in many processes");
    out::line("");
    out::line(&format!("  Open    {link}"));
    out::line("          (signs in once; press Enter here for another link)");
    out::line(&format!("  MLLP    {at_mllp}     send it HL7 v2 of your own:"));
    out::line(&format!("          {}", example(at_mllp, clock.now())));
    out::line(
        "          Both addresses are the demonstration's: they pass connections on to whoever is there of",
    );
    for line in listed {
        out::line(&format!("          {line}"));
    }
    out::line(
        "          End any of them (kill -9 PID): what was acknowledged is shown all the same, and after some",
    );
    out::line("          seconds it is started again, as a service manager would.");
    out::line(&format!("  Data    {}", place.path().display()));
    out::line("  Ctrl-C ends all of it. Every patient is invented.");
    out::line("");
    if !arguments.no_browser {
        open_browser(&link);
    }
    let mut hospital = Hospital::new(arguments.seed, "HILUM");
    let pace = Duration::from_secs_f64(arguments.pace);
    let feed = async { speak(&mut hospital, at_mllp, &clock, pace, arguments.patients).await };
    let mut enter = lines_of_standard_input();
    tokio::pin!(feed);
    loop {
        tokio::select! {
            () = &mut feed => {}
            Some(()) = enter.recv() => match new_link(&tables, &clock, &entropy, at_http).await {
                Ok(link) => out::line(&format!("  Open    {link}")),
                Err(fault) => out::line(&format!("  Open    no link now: {fault:#}")),
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    out::line("");
    out::line("  Ending: what was accepted is finished.");
    tables.close().await;
    tokio::task::block_in_place(|| drop(guard));
    Ok(())
}

async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{address} cannot be bound"))
}

/// Starts all, and waits until each process is open; the first one alone, since it makes topics and tables. `None` when
/// it is given up meanwhile.
fn start(place: &Place, given_up: &AtomicBool) -> anyhow::Result<Option<(Engines, Vec<Part>)>> {
    let engines = Engines::start(place, Size { brokers: 3, postgres: &[] })?;
    let further = "[http]\nzone = \"Asia/Seoul\"\n\n[logging]\nformat = \"human\"\n";
    let config = engines.write_config(&place.path().join("hilum.toml"), further)?;
    let secrets = secrets(place)?;
    let mut parts: Vec<Part> = Vec::new();
    for (role, count) in PARTS {
        for n in 1..=count {
            if given_up.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let name = format!("{role}-{n}");
            let arguments = ["--roles", role, "--invented"];
            let mut part = Part::start(place.path(), &name, &secrets, &config, &arguments)?;
            if parts.is_empty() {
                part.wait_open()?;
            }
            parts.push(part);
        }
    }
    for part in &mut parts {
        part.wait_open()?;
    }
    Ok(Some((engines, parts)))
}

/// A line for each process.
fn list(engines: &Engines, parts: &[Part]) -> Vec<String> {
    let line = |name: &str, pid: u32, place: &str| format!("  {name:<11} pid {pid:<8} {place}");
    let door = |name: &str, address: Option<SocketAddr>| address.map(|address| format!("{name} {address}"));
    let mut lines = Vec::new();
    for part in parts {
        let Some(doors) = part.doors() else { continue };
        let places: Vec<String> =
            [door("MLLP", doors.mllp), door("HTTP", Some(doors.http))].into_iter().flatten().collect();
        lines.push(line(&part.name, part.pid(), &places.join("  ")));
    }
    for (name, pid, place) in engines.running() {
        lines.push(line(&name, pid, &place));
    }
    lines
}
