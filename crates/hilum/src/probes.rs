//! What the process says of itself when it is asked: `/readyz`, the top bar, `/metrics`.

use hilum_adt::sources::SourceHealth;
use hilum_chart::{Cause, PartitionHealth, Paused, ProjectionHealth};
use hilum_engines::tables::TablesError;
use hilum_web::shell::{FeedHealth, FeedState, PausedPartition, Readiness};

use crate::config::ProcessRole;
use crate::damaged_end;
use crate::house::House;
use crate::relay;
use crate::watch::{SEARCHES_WAIT, WAY_OUT_TWIN, Watch};

fn paused_partitions(fold: &ProjectionHealth) -> Vec<PausedPartition> {
    // A partition whose topic is gone is given to nobody: every worker says so.
    let is_gone = |one: &PartitionHealth| one.paused.as_ref().is_some_and(|one| one.cause == Cause::Gone);
    let ours = fold.partitions.iter().filter(|one| one.is_here || is_gone(one));
    let paused = ours.filter_map(|one| Some((one, one.paused.clone()?)));
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

/// Whether the process can do what it is there for; what others do, or it does without, is a note.
pub fn readiness(house: &House, watch: &Watch, is_stopping: bool) -> Readiness {
    let roles = house.config.roles;
    if is_stopping {
        return Readiness::Draining;
    }
    if let Some(why) = house.unfit() {
        return Readiness::Unfit { why: format!("{why}. {}", House::way_out(why)) };
    }
    let mut notes = Vec::new();
    let log = house.log.health();
    let log_down = log.read_only.map(|why| format!("log: {why}")).or(log.full).or(log.held);
    match log_down {
        // The chart is shown all the same.
        Some(why) if !roles.has(ProcessRole::Gateway) && !roles.has(ProcessRole::Worker) => {
            notes.push(format!("nothing can be decided: {why}"));
        }
        Some(why) => return Readiness::ReadOnly { why },
        None => {}
    }
    let seen = watch.seen();
    let is_door = !roles.has(ProcessRole::Worker) && !roles.has(ProcessRole::Reader);
    match seen.tables_down {
        Some(why) if is_door => notes.push(format!(
            "what comes in is kept and is not applied now; POST /hl7v2 is 503, for API keys cannot be looked up: {why}"
        )),
        Some(why @ TablesError::ReadOnly(_)) => return Readiness::ReadOnly { why: why.to_string() },
        Some(why) => return Readiness::TablesDown { why: why.to_string() },
        None => {}
    }
    if roles.has(ProcessRole::Worker)
        && let Some(behind) = not_applied(&watch.progress.health())
    {
        return behind;
    }
    notes.extend(log.damaged.iter().map(damaged_end::note));
    notes.extend(watch.went_back());
    notes.extend(log.gone);
    notes.extend(watch.twin().map(|found| format!("{found}: {WAY_OUT_TWIN}")));
    notes.extend(of_others(house, watch));
    notes.extend(watch.gateways.states(house.clock.now()).iter().filter_map(|source| {
        let ahead_s = source.clock_ahead_s?;
        Some(format!(
            "the clock of source {} is {ahead_s} s ahead: what it sent so stands before what came later, until messages \
             of that time have passed; set its clock or `zone`",
            source.name
        ))
    }));
    notes.extend(seen.feed.as_ref().and_then(|feed| relay::note(feed, house.clock.now())));
    notes.extend(seen.passed_over.notes());
    notes.extend(seen.searches_wait.then(|| SEARCHES_WAIT.to_owned()));
    let differing = watch.reconciler.seen().map_or(0, |found| found.differing.len());
    if differing > 0 {
        notes.push(format!(
            "{differing} open encounters are not on the census as the chart says: stop the server and run `hilum \
             rebuild census`"
        ));
    }
    Readiness::Ready { notes }
}

/// What is to be seen to in other processes.
fn of_others(house: &House, watch: &Watch) -> Vec<String> {
    let Some(presence) = watch.gateways.presence() else { return Vec::new() };
    let (now, seen) = (house.clock.now(), presence.seen());
    if !seen.is_fresh(now) {
        return Vec::new();
    }
    let mut notes: Vec<String> = Vec::new();
    for process in seen.processes.iter().filter(|process| !process.is_there(now)) {
        notes.push(format!(
            "process {} ({}) gives no sign of life since {}",
            process.place(),
            process.roles,
            process.seen
        ));
    }
    let workers = seen.workers(now);
    let partitions = watch.progress.health().partitions;
    let idle = partitions.iter().filter(|one| !workers.contains_key(&(one.stream, one.partition))).count();
    if idle > 0 {
        notes.push(format!("no worker is at {idle} of {} partitions", partitions.len()));
    }
    notes
}

/// What keeps the fold from being where the log was at the start.
fn not_applied(fold: &ProjectionHealth) -> Option<Readiness> {
    let partitions = paused_partitions(fold);
    if !partitions.is_empty() {
        return Some(Readiness::Paused { partitions });
    }
    if fold.caught_up() {
        return None;
    }
    let sum = |of: fn(&PartitionHealth) -> u64| fold.partitions.iter().map(of).sum();
    Some(Readiness::CatchingUp {
        applied: sum(|one| one.applied.min(one.target.unwrap_or(one.end))),
        target: sum(|one| one.target.unwrap_or(one.end)),
    })
}

/// How the fold lags when it is called late, in microseconds from receipt.
const LATE_US: i64 = 60_000_000;

pub fn feed_health(house: &House, watch: &Watch) -> FeedHealth {
    let now = house.clock.now();
    let states = watch.gateways.states(now);
    let (log, fold) = (house.log.health(), watch.progress.health());
    let are_tables_down = watch.seen().tables_down.is_some();
    let seen = FeedSigns {
        log_takes_nothing: log.read_only.is_some() || log.full.is_some() || log.held.is_some(),
        is_held: are_tables_down || fold.paused().is_some(),
        is_late: fold.oldest_unapplied().is_some_and(|oldest| now.micros_since(oldest) > LATE_US),
        // Others give their signs of life by the tables: while these take none, nobody is known to be missing.
        lacks_gateway: !are_tables_down && !watch.gateways.silent(now).is_empty(),
        sources: states.iter().map(|state| state.health).collect(),
    };
    let last = states.iter().filter_map(|state| state.last_received).max();
    FeedHealth { state: seen.state(last.is_some()), last, href: "/sources" }
}

/// What the top bar's word goes by.
struct FeedSigns {
    log_takes_nothing: bool,
    /// What comes in is kept, and nothing of it, or of a partition, is applied.
    is_held: bool,
    is_late: bool,
    lacks_gateway: bool,
    sources: Vec<SourceHealth>,
}

impl FeedSigns {
    /// The worst of it. Each word says what is so: no feed is called failing, or live, because of something else.
    fn state(&self, anything_came: bool) -> FeedState {
        let is = |health| self.sources.contains(&health);
        if self.log_takes_nothing {
            FeedState::Shut
        } else if is(SourceHealth::Failing) {
            FeedState::Failing
        } else if self.is_held {
            FeedState::Held
        } else if self.lacks_gateway || is(SourceHealth::Unknown) {
            FeedState::Missing
        } else if self.is_late {
            FeedState::Late
        } else if is(SourceHealth::Silent) || !anything_came {
            // Before anything came nothing is live.
            FeedState::Silent
        } else {
            FeedState::Ok
        }
    }
}

/// What is read when it is asked for, rather than counted as it happens.
pub fn gauges(house: &House, watch: &Watch) {
    let log = house.log.health();
    let tables_read_only = matches!(watch.seen().tables_down, Some(TablesError::ReadOnly(_)));
    let read_only = log.read_only.or(log.full).or(log.held).is_some() || tables_read_only;
    metrics::gauge!("hilum_log_queue_bytes").set(log.queue_bytes as f64);
    metrics::gauge!("hilum_in_flight_bytes").set(house.door.in_flight_bytes() as f64);
    metrics::gauge!("hilum_read_only").set(if read_only { 1.0 } else { 0.0 });
    let now = house.clock.now();
    for one in watch.progress.health().partitions {
        // What is not known is no number: neither 0 nor what was seen last.
        let lag = one.lag_records().map_or(f64::NAN, |lag| lag as f64);
        let age_s = one.oldest_unapplied.map(|oldest| now.micros_since(oldest) as f64 / 1e6);
        let age_s = age_s.unwrap_or(if lag.is_nan() { f64::NAN } else { 0.0 });
        let labels = [("stream", one.stream.to_string()), ("partition", one.partition.to_string())];
        metrics::gauge!("hilum_lag_records", &labels).set(lag);
        metrics::gauge!("hilum_oldest_unapplied_seconds", &labels).set(age_s);
        metrics::gauge!("hilum_paused", &labels).set(if one.paused.is_some() { 1.0 } else { 0.0 });
        metrics::counter!("hilum_commits_total", &labels).absolute(one.commits);
        metrics::counter!("hilum_conflicts_total", &labels).absolute(one.conflicts);
        metrics::counter!("hilum_rejected_total", &labels).absolute(one.rejected);
    }
    for state in watch.gateways.states(now) {
        let silence_s = state.last_received.map_or(f64::NAN, |last| now.micros_since(last) as f64 / 1e6);
        let source = state.name.to_string();
        metrics::gauge!("hilum_source_silence_seconds", "source" => source.clone()).set(silence_s);
        let ahead_s = state.clock_ahead_s.unwrap_or_default() as f64;
        metrics::gauge!("hilum_source_clock_ahead_seconds", "source" => source).set(ahead_s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_bar_calls_no_feed_failing_that_is_live() {
        use SourceHealth::{Failing, Live, Silent, Unknown, Unused};
        let good = || FeedSigns {
            log_takes_nothing: false,
            is_held: false,
            is_late: false,
            lacks_gateway: false,
            sources: vec![Live, Unused],
        };
        let held = || FeedSigns { is_held: true, is_late: true, ..good() };
        let cases = [
            ("all is well", good(), FeedState::Ok),
            (
                "a gateway is gone, another one hears it",
                FeedSigns { lacks_gateway: true, ..good() },
                FeedState::Missing,
            ),
            ("nobody can say", FeedSigns { sources: vec![Live, Unknown], ..good() }, FeedState::Missing),
            ("it is late", FeedSigns { is_late: true, ..good() }, FeedState::Late),
            ("the tables are down, or a partition stands still", held(), FeedState::Held),
            (
                "that is not hidden by a gateway that was taken away",
                FeedSigns { lacks_gateway: true, sources: vec![Live, Unknown], ..held() },
                FeedState::Held,
            ),
            ("the log takes nothing", FeedSigns { log_takes_nothing: true, ..good() }, FeedState::Shut),
            (
                "one fails",
                FeedSigns { lacks_gateway: true, sources: vec![Live, Failing], ..good() },
                FeedState::Failing,
            ),
            ("one is silent", FeedSigns { sources: vec![Live, Silent], ..good() }, FeedState::Silent),
        ];
        for (why, signs, want) in cases {
            assert_eq!(signs.state(true), want, "{why}");
        }
        assert_eq!(good().state(false), FeedState::Silent, "nothing came yet");
    }
}
