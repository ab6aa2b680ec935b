//! The processes that share the tables, and how the sources do over all gateways.

use std::sync::Arc;

use hilum_adt::gateways::Gateways;
use hilum_adt::sources::SourceHealth;
use hilum_chart::Presence;
use hilum_core::{Stream, Timestamp};

use super::Finding;
use crate::house::House;
use crate::watch::{WAY_OUT_TWIN, of_twin};

/// Microseconds by which another process's clock may be ahead.
const CLOCK_AHEAD_US: i64 = 5_000_000;

/// The gateways as the running process sees them; without one, as their rows say.
pub async fn gateways(house: &House) -> Gateways {
    if let Some(watch) = house.watch.get() {
        return watch.gateways.clone();
    }
    let sources = Arc::clone(&house.sources);
    if !house.tables.is_shared() {
        return Gateways::alone(sources);
    }
    let presence = Presence::new(house.process, house.tables.clone(), house.clock.clone());
    // That the tables do not answer is a finding of its own.
    presence.look().await.map(drop).unwrap_or_default();
    Gateways::among(sources, false, Arc::new(presence))
}

/// Who is there, who is not, and what nobody does. Where the log does not answer, nobody works at it, and that is said.
pub fn of_the_processes(
    house: &House,
    gateways: &Gateways,
    log_answers: bool,
    now: Timestamp,
) -> Vec<Finding> {
    let Some(presence) = gateways.presence() else { return Vec::new() };
    let seen = presence.seen();
    if !seen.is_fresh(now) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if let Some(watch) = house.watch.get() {
        findings.extend(watch.twin().map(|found| Finding::bad("process", found, WAY_OUT_TWIN)));
    } else if let Some(twin) = seen.processes.iter().find(|one| one.id == house.process && one.is_there(now))
    {
        // Nothing runs on this folder.
        let remedy = format!("was it killed a moment ago, look again in ten seconds; else {WAY_OUT_TWIN}");
        findings.push(Finding::warn("process", of_twin(twin), remedy));
    }
    for process in seen.processes.iter() {
        let about = format!("process {}", process.place());
        let (roles, version, last) = (&process.roles, &process.version, process.seen);
        findings.push(if last.micros_since(now) > CLOCK_AHEAD_US {
            let found = format!("says that it is {last}, here it is {now}");
            Finding::bad(&about, found, "keep the clocks of all machines by NTP")
        } else if !process.is_there(now) {
            let found = format!("{roles}: no sign of life since {last}");
            let remedy = "see whether it runs and reaches the database; if it was taken away, it is forgotten in an hour";
            Finding::bad(&about, found, remedy)
        } else if version != env!("CARGO_PKG_VERSION") {
            let found = format!("{roles}: is of version {version}, this is {}", env!("CARGO_PKG_VERSION"));
            Finding::warn(&about, found, "start all processes with one version")
        } else {
            Finding::ok(&about, format!("{roles}: there"))
        });
    }
    if !log_answers || seen.processes.iter().all(|process| !process.is_there(now)) {
        // Nothing runs: that nobody works is no news.
        return findings;
    }
    let workers = seen.workers(now);
    let idle: Vec<String> = house
        .log
        .places(&[Stream::Decisions, Stream::Hl7In])
        .into_iter()
        .filter(|place| !workers.contains_key(place))
        .map(|(stream, partition)| format!("{stream}/{partition}"))
        .collect();
    if !idle.is_empty() {
        let found = format!("nobody works at {}", idle.join(", "));
        findings.push(Finding::bad("fold", found, "start a process with the role worker"));
    }
    findings
}

/// How the sources do.
pub fn of_the_sources(gateways: &Gateways, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in gateways.states(now) {
        let about = format!("source {}", source.name);
        if let Some(ahead_s) = source.clock_ahead_s {
            findings.push(Finding::warn(
                &about,
                format!(
                    "its clock is {ahead_s} s ahead of ours: what it sent so sorts before what came later"
                ),
                "set the sender's clock, or `zone` of the source; look through its patients meanwhile",
            ));
        }
        match source.health {
            SourceHealth::Failing => findings.push(Finding::bad(
                &about,
                "the last message could not be kept",
                "see the log and the disk; the sender still has it unless it was answered AR or AE",
            )),
            SourceHealth::Silent => findings.push(Finding::warn(
                &about,
                format!("nothing for more than {} s", source.silence_alarm_s),
                "see whether the sender runs, or raise its silence_alarm_s",
            )),
            SourceHealth::Unknown => findings.push(Finding::warn(
                &about,
                "whether it speaks is not known: a gateway does not report",
                "see to the gateway first",
            )),
            SourceHealth::Live | SourceHealth::Unused => {}
        }
    }
    findings
}
