//! The same house on engines that other machines share: Kafka keeps the log, PostgreSQL the rows.

use std::os::unix::fs::PermissionsExt as _;

use hilum_testkit::kafka::{Kafka, leave_a_gap};
use hilum_testkit::postgres::Postgres;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::damage::{doctor, json};
use crate::server::{Server, Start, a01, field, request, run, wait};

pub fn config(kafka: &Kafka, postgres: &Postgres) -> String {
    format!(
        "[log]\nengine = \"kafka\"\nbrokers = \"{}\"\nprefix = \"{}\"\ndurability = \"fsync\"\n\n\
         [tables]\nengine = \"postgres\"\nurl = \"{}\"\nschema = \"{}\"\n",
        kafka.brokers(),
        kafka.fresh_prefix(),
        postgres.url(),
        postgres.fresh_schema()
    )
}

pub fn patients(server: &Server, key: &str) -> usize {
    let answer = request(server.http.unwrap(), "GET", "/api/census", &[("x-api-key", key)], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let census: Value = serde_json::from_str(&answer.text()).unwrap();
    census["encounters"].as_array().unwrap().len()
}

pub fn send(server: &Server, ids: std::ops::Range<u32>) {
    let mut mllp = server.connect();
    for id in ids {
        assert_eq!(field(&mllp.ask(&a01(&format!("M{id}"))), "MSA", 1), "AA");
    }
}

pub fn state(server: &Server) -> (u16, Value) {
    let answer = request(server.http.unwrap(), "GET", "/readyz", &[], b"");
    (answer.status, serde_json::from_str(&answer.text()).unwrap())
}

#[test]
fn what_kafka_keeps_postgresql_shows() {
    let (kafka, postgres) = (Kafka::start(1, &[]), Postgres::shared());
    let folder = tempdir().unwrap();
    let config = config(&kafka, postgres);
    let start = Start { config: &config, ..Start::default() };
    let server = Server::start(&folder, &start);
    let viewer = server.key("viewer", "viewer");
    let feed = server.key("feed", "feed");
    send(&server, 0..5);
    wait("five on the board", 20, || (patients(&server, &viewer) == 5).then_some(()));
    server.signal("KILL");
    drop(server);

    let server = Server::start(&folder, &start);
    send(&server, 3..8);
    wait("eight on the board", 20, || (patients(&server, &viewer) == 8).then_some(()));

    // No broker: nothing is acknowledged, whoever sends is told to come again, and it is seen.
    kafka.kill(1);
    wait("not ready", 30, || (state(&server).0 == 503).then_some(()));
    let post = || {
        let headers = [("x-api-key", &*feed), ("content-type", "application/hl7-v2")];
        request(server.http.unwrap(), "POST", "/hl7v2", &headers, a01("M8").as_bytes())
    };
    let refused = post();
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(patients(&server, &viewer), 8, "the chart is read all the same");
    kafka.restart(1);
    wait("ready again", 60, || (state(&server).0 == 200).then_some(()));
    assert_eq!(post().status, 200);
    wait("nine on the board", 20, || (patients(&server, &viewer) == 9).then_some(()));
    server.stop();
}

/// A second process of the same installation: the same secrets, a folder of its own.
pub fn sibling(of: &TempDir) -> TempDir {
    let folder = tempdir().unwrap();
    let secrets = folder.path().join("data/secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    for path in [secrets.parent().unwrap(), &*secrets] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    for file in std::fs::read_dir(of.path().join("data/secrets")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), secrets.join(file.file_name())).unwrap();
    }
    folder
}

/// Two processes share the work; one is killed, and the other takes over all of it. Settings that one of them alone was
/// started with are known to the other.
#[test]
fn two_processes_share_the_work_and_one_takes_over() {
    let (kafka, postgres) = (Kafka::start(1, &[]), Postgres::shared());
    let config = config(&kafka, postgres);
    let folder = tempdir().unwrap();
    let one = Server::start(&folder, &Start { config: &config, ..Start::default() });
    let other = sibling(&folder);
    let settings = format!("{config}\n[sources.default]\nzone = \"Asia/Seoul\"\n");
    let two = Server::start(&other, &Start { config: &settings, ..Start::default() });
    let viewer = one.key("viewer", "viewer");
    let has_share = |server: &Server| server.said().contains("partitions come to this process");
    wait("both have a share", 30, || (has_share(&one) && has_share(&two)).then_some(()));
    std::thread::scope(|scope| {
        scope.spawn(|| send(&one, 0..40));
        scope.spawn(|| send(&two, 40..80));
    });
    for server in [&one, &two] {
        wait("eighty on each board", 40, || (patients(server, &viewer) == 80).then_some(()));
        wait("ready", 20, || (state(server).0 == 200).then_some(()));
    }
    one.signal("KILL");
    send(&two, 80..120);
    wait("what was the other's is taken over", 60, || (patients(&two, &viewer) == 120).then_some(()));
    two.stop();

    // Another installation is not let in.
    let stranger = tempdir().unwrap();
    assert!(Server::try_start(&stranger, &Start { config: &config, ..Start::default() }).is_none());
    let said = std::fs::read_to_string(stranger.path().join("stderr")).unwrap();
    assert!(said.contains("another installation's"), "{said}");
}

/// Offsets without records (here an aborted transaction of somebody else, as after a deletion): nothing is stepped over
/// until somebody says so, and nothing that stands goes.
#[test]
fn a_gap_in_the_log_stops_its_partition_by_name() {
    let kafka = Kafka::start(1, &[]);
    let prefix = kafka.fresh_prefix();
    let brokers = kafka.brokers();
    let config = format!(
        "[log]\nengine = \"kafka\"\nbrokers = \"{brokers}\"\nprefix = \"{prefix}\"\ndurability = \"fsync\"\n"
    );
    let folder = tempdir().unwrap();
    let start = Start { config: &config, ..Start::default() };
    let server = Server::start(&folder, &start);
    let key = server.key("reader", "operator");
    send(&server, 0..1);
    wait("one on the board", 20, || (patients(&server, &key) == 1).then_some(()));
    let place = json(&server, "/api/messages?control_id=M0", &key)["messages"][0]["position"].to_string();
    let partition: u16 = place.trim_matches('"').split('/').nth(1).unwrap().parse().unwrap();
    leave_a_gap(&brokers, &format!("{prefix}.hl7.in"), partition);
    // Of the same patient, so of the same partition.
    let again = a01("M0").replace("ADT^A01", "ADT^A03").replace("|M0|", "|M1|");
    assert_eq!(field(&server.connect().ask(&again), "MSA", 1), "AA");
    let (status, said) = wait("paused", 30, || {
        Some(state(&server)).filter(|(_, said)| said["partitions"][0]["cause"] == "missing")
    });
    assert_eq!(status, 503);
    let why = said["partitions"][0]["why"].as_str().unwrap();
    assert!(why.contains(&format!("hl7.in/{partition} holds no records from 1 to before 3")), "{why}");
    let data = server.data.clone();
    let finding = doctor(&data).into_iter().find(|one| one.2.contains("holds no records")).unwrap();
    assert!(finding.3.contains("--behind keep --without-damaged"), "{finding:?}");
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert_eq!(patients(&server, &key), 1, "not stepped over, however long it takes");
    assert!(json(&server, "/api/quarantine", &key)["messages"].as_array().unwrap().is_empty());
    server.stop();

    let config_file = folder.path().join("hilum.toml");
    let arguments = ["--data", data.to_str().unwrap(), "--config", config_file.to_str().unwrap()];
    let refused = run(&[&["rebuild", "chart"][..], &arguments].concat());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("Nothing was changed"), "{said}");
    let over =
        run(&[&["rebuild", "chart", "--behind", "keep", "--without-damaged"][..], &arguments].concat());
    assert_eq!(over.status.code(), Some(3), "{}", String::from_utf8_lossy(&over.stderr));
    let server = Server::start(&folder, &start);
    wait("ready", 30, || (state(&server).0 == 200).then_some(()));
    assert_eq!(patients(&server, &key), 0, "what stood behind the gap is applied");
    server.stop();
}

/// A rebuild makes rows what the log says: not beside a process that goes on writing them. Nor does one begin beside it.
#[test]
fn a_rebuild_is_alone_with_its_schema() {
    let postgres = Postgres::start(&[]);
    let (url, schema) = (postgres.url(), postgres.fresh_schema());
    let config = format!("[tables]\nengine = \"postgres\"\nurl = \"{url}\"\nschema = \"{schema}\"\n");
    let folder = tempdir().unwrap();
    let start = Start { config: &config, ..Start::default() };
    let server = Server::start(&folder, &start);
    send(&server, 0..3);
    let viewer = server.key("viewer", "viewer");
    wait("three on the board", 20, || (patients(&server, &viewer) == 3).then_some(()));

    // Another folder of the same installation: its own lock says nothing of the server.
    let other = sibling(&folder);
    let config_file = other.path().join("hilum.toml");
    std::fs::write(&config_file, &config).unwrap();
    let (data, config_file) = (other.path().join("data"), config_file.to_str().unwrap().to_owned());
    std::fs::copy(folder.path().join("data/tables.engine"), data.join("tables.engine")).unwrap();
    let rebuild = || run(&["rebuild", "chart", "--data", data.to_str().unwrap(), "--config", &config_file]);
    let refused = rebuild();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    let who = format!("hilum serve, pid {}", server.pid());
    assert!(said.contains(&who) && said.contains("stop them first") && said.contains(&schema), "{said}");
    assert_eq!(patients(&server, &viewer), 3);

    // The server loses its hold: it commits nothing, says so, and takes it again.
    let cut =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{who}'");
    let held = postgres.hold_alone(&format!("hilum processes of {schema}"), &cut);
    wait("not ready", 20, || (state(&server).0 == 503).then_some(()));
    send(&server, 3..4);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(patients(&server, &viewer), 3, "kept by the log, not yet in the tables");
    assert!(Server::try_start(&other, &start).is_none(), "nor does another begin");
    let said = std::fs::read_to_string(other.path().join("stderr")).unwrap();
    assert!(said.contains("a rebuild of the test") && said.contains("wait for its end"), "{said}");
    drop(held);
    wait("applied", 30, || (patients(&server, &viewer) == 4).then_some(()));
    server.stop();
    let out = run(&[
        "rebuild",
        "chart",
        "--data",
        folder.path().join("data").to_str().unwrap(),
        "--config",
        &config_file,
    ]);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn a_folder_keeps_the_engine_that_it_has() {
    let folder = tempdir().unwrap();
    Server::start(&folder, &Start::default()).stop();
    let config = "[log]\nengine = \"kafka\"\nbrokers = \"127.0.0.1:9\"\n";
    assert!(Server::try_start(&folder, &Start { config, ..Start::default() }).is_none());
    let said = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
    assert!(said.contains("kept by `embedded`") && said.contains("log.engine"), "{said}");
}
