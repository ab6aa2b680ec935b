//! The engines themselves: files of this folder, and servers on other machines, asked by connections of their own, so
//! that a server whose settings keep the house shut is looked at too.

use std::path::Path;

use hilum_core::{Clock, Position, Stream};
use hilum_engines::checkup::{Grade, Noted};
use hilum_engines::log::{LogError, kafka};
use hilum_engines::tables::postgres::{self, PostgresConfig};

use super::{Finding, Level};
use crate::config::{Config, LogEngine, TablesEngine};
use crate::folder;
use crate::house::House;

/// MiB of a write-ahead log beyond which somebody holds it.
const WAL_MIB_MAX: u64 = 512;
/// Microseconds by which a broker's clock may differ from a gateway's.
const BROKER_APART_US: i64 = 2_000_000;

/// Looks at what `config` names; `path` is the data folder.
pub async fn look(config: &Config, path: &Path, clock: &Clock) -> Vec<Finding> {
    let mut findings = files(path);
    let of_log = async {
        if config.log.engine != LogEngine::Kafka {
            return Vec::new();
        }
        let place = folder::settings(path)
            .and_then(|secrets| config.log.clone().with_secrets(secrets)?.kafka(config.allow_weak_log));
        match place {
            Ok(place) => kafka::checkup::look(place, clock).await.into_iter().map(finding).collect(),
            Err(why) => vec![Finding::bad("kafka", format!("{why:#}"), "mend what it names")],
        }
    };
    let of_tables = async {
        if config.tables.engine != TablesEngine::Postgres {
            return Vec::new();
        }
        let place = PostgresConfig::new(&config.tables.url, &config.tables.schema);
        let noted = postgres::checkup::look(&place, &config.tables.audit_schema(), clock).await;
        noted.into_iter().map(finding).collect()
    };
    let (of_log, of_tables) = futures::future::join(of_log, of_tables).await;
    findings.extend(of_log);
    findings.extend(of_tables);
    findings
}

fn finding(noted: Noted) -> Finding {
    let level = match noted.grade {
        Grade::Fine => Level::Ok,
        Grade::Look => Level::Warn,
        Grade::Mend => Level::Bad,
    };
    Finding::warn(&noted.about, noted.found, noted.remedy).level(level)
}

/// Files of engines in the folder: their sizes, and a write-ahead log that only grows.
fn files(path: &Path) -> Vec<Finding> {
    let mib = |name: &str| path.join(name).metadata().ok().map(|file| file.len() >> 20);
    let mut findings = Vec::new();
    for name in ["log.sqlite", "tables.sqlite", "audit.sqlite"] {
        let Some(size_mib) = mib(name) else { continue };
        let wal_mib = mib(&format!("{name}-wal")).unwrap_or_default();
        let found = format!("{name} has {size_mib} MiB, its write-ahead log {wal_mib} MiB");
        findings.push(if wal_mib > WAL_MIB_MAX {
            let remedy = "end what has it open and reads (a shell, a backup): it cannot be taken into the file meanwhile";
            Finding::warn("files", found, remedy)
        } else {
            Finding::ok("files", found)
        });
    }
    findings
}

/// What the newest records tell of the brokers' clocks: a record cannot be durable before it was received, nor later
/// than now. Less than that nobody can know without writing.
pub async fn clocks_of_brokers(house: &House) -> Option<Finding> {
    if house.config.log.engine != LogEngine::Kafka {
        return None;
    }
    let (mut behind_us, mut ahead_us, mut is_known) = (0, 0, false);
    for partition in 0..house.log.partitions(Stream::Hl7In) {
        // What cannot be read is said elsewhere; where the brokers do not answer, it would be waited for each time.
        let end = match house.log.end(Stream::Hl7In, partition).await {
            Ok(end) => end,
            Err(LogError::Engine(_)) => break,
            Err(_) => continue,
        };
        let Some(offset) = end.checked_sub(1) else { continue };
        let position = Position { stream: Stream::Hl7In, partition, offset };
        let record = match house.log.get(position).await {
            Ok(Some(record)) => record,
            Err(LogError::Engine(_)) => break,
            _ => continue,
        };
        let Some(durable) = record.durable else { continue };
        is_known = true;
        behind_us = behind_us.max(record.envelope.received.micros_since(durable));
        ahead_us = ahead_us.max(durable.micros_since(house.clock.now()));
    }
    let seconds = |us: i64| us as f64 / 1e6;
    let remedy = "keep the clocks of all machines by NTP";
    Some(if !is_known {
        Finding::ok("kafka", "how its clocks go is not known: no record says when it was durable")
    } else if behind_us > BROKER_APART_US {
        let found = format!(
            "a broker's clock is at least {:.1} s behind that of a gateway, by the newest records",
            seconds(behind_us)
        );
        Finding::warn("kafka", found, remedy)
    } else if ahead_us > BROKER_APART_US {
        let found =
            format!("a broker's clock is at least {:.1} s ahead of this machine's", seconds(ahead_us));
        Finding::warn("kafka", found, remedy)
    } else {
        Finding::ok("kafka", "the newest records tell of no clock that is wrong")
    })
}
