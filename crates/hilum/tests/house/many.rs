//! The same house on engines that other machines share: Kafka keeps the log, PostgreSQL the rows.

use std::os::unix::fs::PermissionsExt as _;

use hilum_testkit::kafka::Kafka;
use hilum_testkit::postgres::Postgres;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::server::{Server, Start, a01, field, request, wait};

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

#[test]
fn a_folder_keeps_the_engine_that_it_has() {
    let folder = tempdir().unwrap();
    Server::start(&folder, &Start::default()).stop();
    let config = "[log]\nengine = \"kafka\"\nbrokers = \"127.0.0.1:9\"\n";
    assert!(Server::try_start(&folder, &Start { config, ..Start::default() }).is_none());
    let said = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
    assert!(said.contains("kept by `embedded`") && said.contains("log.engine"), "{said}");
}
