//! PostgreSQL with a standby that every commit waits for: what is on the board is on two disks, and a fail-over loses nothing.

use std::path::Path;

use hilum_testkit::kafka::Kafka;
use hilum_testkit::postgres::Postgres;
use serde_json::Value;
use tempfile::tempdir;

use crate::many::{config, send, state};
use crate::server::{Server, Start, request, run, wait};

/// What `hilum doctor` finds about PostgreSQL: (level, text).
fn doctor(data: &Path, config: &Path) -> Vec<(String, String)> {
    let (data, config) = (data.to_str().unwrap(), config.to_str().unwrap());
    let out = run(&["doctor", "--json", "--data", data, "--config", config]);
    let findings: Value = serde_json::from_slice(&out.stdout).unwrap();
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let of_postgres = findings.as_array().unwrap().iter().filter(|one| one["about"] == "postgresql");
    of_postgres.map(|one| (text(one, "level"), text(one, "found"))).collect()
}

/// How many are on the board; nobody while it is not shown.
fn patients(server: &Server, key: &str) -> usize {
    let answer = request(server.http.unwrap(), "GET", "/api/census", &[("x-api-key", key)], b"");
    let census: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    census["encounters"].as_array().map_or(0, Vec::len)
}

fn level(findings: &[(String, String)], part: &str) -> Option<String> {
    findings.iter().find(|(_, found)| found.contains(part)).map(|(level, _)| level.clone())
}

#[test]
fn a_fail_over_to_a_standby_that_was_waited_for_loses_nothing() {
    let (kafka, primary) = (Kafka::shared(), Postgres::start(&[]));
    let standby = primary.standby("second");
    primary.rows("ALTER SYSTEM SET synchronous_standby_names = 'second'");
    primary.rows("SELECT pg_reload_conf()::text");
    // Both are named; whoever takes commits is asked.
    let (one, both) = (
        format!("127.0.0.1:{}/postgres", primary.port()),
        format!(
            "127.0.0.1:{},127.0.0.1:{}/postgres?target_session_attrs=read-write",
            primary.port(),
            standby.port()
        ),
    );
    let config = config(kafka, &primary).replace(&one, &both);
    assert!(config.contains("target_session_attrs"));
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start { config: &config, ..Start::default() });
    let viewer = server.key("viewer", "viewer");
    send(&server, 0..10);
    wait("ten on the board", 40, || (patients(&server, &viewer) == 10).then_some(()));
    assert!(server.said().contains("fsync, replicated"), "{}", server.said());
    let (data, file) = (server.data.clone(), folder.path().join("hilum.toml"));
    wait("the standby is seen", 20, || {
        (level(&doctor(&data, &file), "standby `second`: streaming, sync").as_deref() == Some("ok"))
            .then_some(())
    });

    // Without the standby the doors go on, and rows wait: nothing is shown that is on one disk alone.
    standby.kill();
    send(&server, 10..15);
    wait("it is said", 30, || {
        (level(&doctor(&data, &file), "every commit waits for a standby").as_deref() == Some("bad"))
            .then_some(())
    });
    standby.restart();
    wait("fifteen", 60, || (state(&server).0 == 200 && patients(&server, &viewer) == 15).then_some(()));

    primary.kill();
    send(&server, 15..20);
    standby.rows("SELECT pg_promote()::text");
    wait("twenty, from the other server", 90, || {
        (state(&server).0 == 200 && patients(&server, &viewer) == 20).then_some(())
    });
    send(&server, 20..22);
    wait("and on", 40, || (patients(&server, &viewer) == 22).then_some(()));
    assert!(!server.said().contains("the tables went back"), "{}", server.said());
    server.stop();
}
