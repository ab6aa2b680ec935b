//! `hilum doctor` and the engines on other machines: each setting that breaks a promise is found, beside a running
//! server and without one.

use std::path::Path;
use std::time::{Duration, Instant};

use hilum_testkit::kafka::Kafka;
use hilum_testkit::postgres::Postgres;
use serde_json::Value;
use tempfile::tempdir;

use crate::many::{patients, send};
use crate::server::{Server, Start, run, wait};

/// Each engine is waited for on its own, and once.
const BOUND: Duration = Duration::from_secs(50);

/// Findings as (level, about, found, remedy), and the exit code.
fn doctor(data: &Path, config: &Path) -> (Vec<[String; 4]>, i32) {
    let (data, config) = (data.to_str().unwrap(), config.to_str().unwrap());
    let out = run(&["doctor", "--json", "--data", data, "--config", config]);
    let findings: Value = serde_json::from_slice(&out.stdout).unwrap();
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let of = |one: &Value| ["level", "about", "found", "remedy"].map(|key| text(one, key));
    (findings.as_array().unwrap().iter().map(of).collect(), out.status.code().unwrap())
}

/// The finding whose text holds `part`.
fn find<'a>(findings: &'a [[String; 4]], part: &str) -> &'a [String; 4] {
    let found = findings.iter().find(|[_, _, found, _]| found.contains(part));
    found.unwrap_or_else(|| panic!("nothing says `{part}`: {findings:#?}"))
}

fn bad(findings: &[[String; 4]]) -> Vec<&str> {
    findings.iter().filter(|one| one[0] == "bad").map(|one| one[2].as_str()).collect()
}

#[test]
fn each_setting_that_breaks_a_promise_is_found() {
    let (kafka, postgres) = (Kafka::start(2, &[]), Postgres::start(&[]));
    let (brokers, prefix) = (kafka.brokers(), kafka.fresh_prefix());
    let config = format!(
        "[log]\nengine = \"kafka\"\nbrokers = \"{brokers}\"\nprefix = \"{prefix}\"\ncopies = 2\n\
         durability = \"replicated\"\n[tables]\nengine = \"postgres\"\nurl = \"{}\"\nschema = \"{}\"\n",
        postgres.url(),
        postgres.fresh_schema()
    );
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start { config: &config, ..Start::default() });
    let viewer = server.key("viewer", "viewer");
    send(&server, 0..5);
    wait("five on the board", 30, || (patients(&server, &viewer) == 5).then_some(()));
    let (data, file) = (server.data.clone(), folder.path().join("hilum.toml"));

    // Some seconds go by until it is written down which partitions the process works at.
    let (well, code) =
        wait("all is well", 40, || Some(doctor(&data, &file)).filter(|(well, _)| bad(well).is_empty()));
    assert_eq!(code, 0, "{well:#?}");
    let topic = format!("{prefix}.hl7.in");
    let said = [
        ("ok", "postgresql", "the server is version"),
        ("ok", "postgresql", "synchronous_commit=on"),
        ("ok", "postgresql", "this program is for"),
        ("ok", "postgresql", "the clock of the server is"),
        ("ok", "postgresql", "connections are taken"),
        ("ok", "postgresql", "of these"),
        ("ok", "postgresql", "no standby"),
        ("ok", "kafka", "2 brokers"),
        ("ok", "kafka", "4.0 or newer"),
        ("ok", "kafka", "no clock that is wrong"),
        ("ok", "kafka", "free space of the brokers' disks"),
        ("warn", &format!("kafka {topic}"), "with one broker away it stops"),
        ("warn", &format!("kafka {prefix}.log"), "with one broker away it stops"),
    ];
    for (level, about, part) in said {
        let found = well.iter().find(|one| one[1] == about && one[2].contains(part));
        assert_eq!(found.map(|one| one[0].as_str()), Some(level), "{part}: {well:#?}");
    }

    // Whoever changes it under a running server is found out.
    postgres.rows("ALTER ROLE CURRENT_USER SET synchronous_commit = off");
    let planted =
        "min.insync.replicas=1,max.message.bytes=1000000,retention.ms=604800000,retention.bytes=1000";
    let alter = ["--alter", "--entity-type", "topics", "--entity-name", &topic, "--add-config", planted];
    kafka.tool("kafka.admin.ConfigCommand", &alter);
    let wanted = [
        ("synchronous_commit is off (said by: user)", "ALTER ROLE"),
        ("min.insync.replicas is 1", "min.insync.replicas=2"),
        ("max.message.bytes is 1000000", "max.message.bytes=17891328"),
        ("retention.ms is 604800000", "retention.ms=-1"),
        ("retention.bytes is 1000", "retention.bytes=-1"),
    ];
    let check = |why: &str, findings: &[[String; 4]], code: i32| {
        for (part, way_out) in wanted {
            let [level, _, _, remedy] = find(findings, part);
            assert!(level == "bad" && remedy.contains(way_out), "{why}, {part}: {remedy}");
        }
        assert_eq!(code, 1, "{why}");
    };
    let (sick, code) = doctor(&data, &file);
    check("running", &sick, code);

    // Commits that wait for a standby that nobody has.
    postgres.rows("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    postgres.rows("ALTER ROLE CURRENT_USER RESET synchronous_commit");
    postgres.rows("SELECT pg_reload_conf()::text");
    let (waits, _) = doctor(&data, &file);
    postgres.rows("ALTER SYSTEM RESET synchronous_standby_names");
    postgres.rows("SELECT pg_reload_conf()::text");
    assert_eq!(find(&waits, "every commit waits for a standby")[0], "bad");

    // One that is not let in by these settings can be looked at all the same.
    postgres.rows("ALTER ROLE CURRENT_USER SET synchronous_commit = off");
    server.stop();
    let (stopped, code) = doctor(&data, &file);
    check("stopped", &stopped, code);
    assert!(stopped.iter().any(|one| one[1] == "engines" && one[0] == "bad"), "{stopped:#?}");

    // Servers that do not answer are findings too, in bounded time.
    postgres.kill();
    drop(kafka);
    let begun = Instant::now();
    let (away, code) = doctor(&data, &file);
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    assert_eq!(code, 1);
    for about in ["postgresql", "kafka"] {
        assert!(away.iter().any(|one| one[1] == about && one[0] == "bad" && !one[3].is_empty()), "{away:#?}");
    }
    let password = postgres.url().split('@').next().unwrap().rsplit(':').next().unwrap().to_owned();
    for findings in [&well, &sick, &stopped, &away] {
        assert!(!format!("{findings:?}").contains(&password), "a password among the findings");
    }
}

/// Beside a server that runs the doctor asks what that has open: brokers or a database that are away cost their bound once,
/// however many partitions there are.
#[test]
fn engines_that_are_away_from_a_running_server_cost_their_bound_once() {
    let (kafka, postgres) = (Kafka::start(1, &[]), Postgres::start(&[]));
    let config = crate::many::config(&kafka, &postgres).replacen("[log]\n", "[log]\npartitions = 24\n", 1);
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start { config: &config, ..Start::default() });
    send(&server, 0..30);
    let (data, file) = (server.data.clone(), folder.path().join("hilum.toml"));
    drop(kafka);
    for (why, about) in [("brokers away", "kafka"), ("and a database that says nothing", "postgresql")] {
        if about == "postgresql" {
            postgres.freeze();
        }
        let begun = Instant::now();
        let (away, code) = doctor(&data, &file);
        let took = begun.elapsed();
        assert!(took < BOUND, "{why}: {took:?}");
        assert_eq!(code, 1, "{why}");
        for about in ["log", about] {
            let said = away.iter().find(|one| one[1] == about && one[0] == "bad");
            assert!(said.is_some_and(|one| !one[3].is_empty()), "{why}, {about}: {away:#?}");
        }
    }
    postgres.thaw();
    server.signal("KILL");
}

/// A name that nobody has limits nobody: that is said at the start, and looked for.
#[test]
fn a_name_that_limits_nobody_is_found() {
    let folder = tempdir().unwrap();
    let config = "[fhir.limited]\nstudy = []\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    assert!(server.said().contains("nobody is limited by it"), "{}", server.said());
    let file = folder.path().join("hilum.toml");
    let (findings, _) = doctor(&server.data, &file);
    let [level, about, ..] = find(&findings, "is called study");
    assert_eq!((level.as_str(), about.as_str()), ("warn", "fhir.limited"));
    server.key("study", "viewer");
    let (findings, _) = doctor(&server.data, &file);
    assert_eq!(find(&findings, "each name is")[0], "ok");
}
