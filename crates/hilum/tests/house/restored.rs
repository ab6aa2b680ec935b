//! Engines that are not what they were: a database of yesterday, an empty one, another log in its place.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hilum_testkit::kafka::Kafka;
use hilum_testkit::postgres::Postgres;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::damage::doctor;
use crate::many::{config, send, sibling, state};
use crate::server::{Server, Session, Start, a01, field, request, run, wait};

fn schema(config: &str) -> String {
    config.rsplit_once("schema = \"").unwrap().1.trim().trim_end_matches('"').to_owned()
}

fn newest(postgres: &Postgres, schema: &str) -> i64 {
    postgres.rows(&format!("SELECT t FROM {schema}.hilum_counter"))[0][0].parse().unwrap()
}

/// How many are on the board; nobody while it is not shown.
fn patients(server: &Server, key: &str) -> usize {
    let answer = request(server.http.unwrap(), "GET", "/api/census", &[("x-api-key", key)], b"");
    let census: Value = serde_json::from_slice(&answer.body).unwrap();
    census["encounters"].as_array().map_or(0, Vec::len)
}

/// How often each message had an effect.
fn effects(server: &Server, key: &str, ids: std::ops::Range<u32>) -> Vec<usize> {
    let effects = |id: u32| {
        let path = format!("/api/messages?control_id=M{id}");
        let answer = request(server.http.unwrap(), "GET", &path, &[("x-api-key", key)], b"");
        let found: Value = serde_json::from_slice(&answer.body).unwrap();
        let messages = found["messages"].as_array().unwrap().clone();
        messages.iter().filter(|one| one["status"] != "duplicate").count()
    };
    ids.map(effects).collect()
}

/// With the server stopped: whether chart and rows are what the log gives.
fn is_as_the_log_says(folder: &TempDir) {
    let (data, config) = (folder.path().join("data"), folder.path().join("hilum.toml"));
    let out = run(&[
        "rebuild",
        "chart",
        "--json",
        "--data",
        data.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&out.stderr));
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["hashBefore"], report["hashLog"], "{report}");
}

/// What a live page is told that comes back with the event `last` that it had seen.
fn told_after(http: SocketAddr, key: &str, last: i64) -> String {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let ask = format!(
        "GET /live?topics=adt.board HTTP/1.1\r\nhost: {http}\r\nx-api-key: {key}\r\nlast-event-id: {last}\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).unwrap();
    let (mut said, mut chunk) = (Vec::new(), [0; 4_096]);
    wait("a first event", 10, || {
        if let Ok(count) = stream.read(&mut chunk) {
            said.extend_from_slice(&chunk[..count]);
        }
        let text = String::from_utf8_lossy(&said).into_owned();
        text.contains("event: change").then_some(text)
    })
}

/// The rows are restored to yesterday, the log goes on: what came in since is applied again, once; nobody is told two
/// things under one number; who was signed out since is not signed in again.
#[test]
fn a_database_of_yesterday_catches_up_from_the_log() {
    let (kafka, postgres) = (Kafka::start(1, &[]), Postgres::start(&[]));
    let config = config(&kafka, &postgres).replace("durability", "relay = true\ndurability");
    let schema = schema(&config);
    let folder = tempdir().unwrap();
    let start = Start { config: &config, ..Start::default() };
    let server = Server::start(&folder, &start);
    let viewer = server.key("viewer", "viewer");
    let session = Session::sign_in(&server, "hana", "operator");
    let reader_folder = sibling(&folder);
    let arguments = ["--roles", "reader"];
    let reader =
        Server::start(&reader_folder, &Start { config: &config, arguments: &arguments, ..Start::default() });
    send(&server, 0..10);
    wait("ten on the board", 40, || (patients(&server, &viewer) == 10).then_some(()));
    postgres.save("yesterday");
    let saved = newest(&postgres, &schema);
    let marks = || {
        let records = hilum_testkit::kafka::read_all(&kafka.brokers(), &feed_of(&config)).into_iter();
        let mark = |record: hilum_testkit::kafka::Found| {
            serde_json::from_str::<Value>(&record.headers[0].1).unwrap()
        };
        records.map(mark).collect::<Vec<Value>>()
    };

    wait("ready again", 60, || (state(&server).0 == 200).then_some(()));
    send(&server, 10..25);
    wait("all on the board", 40, || (patients(&reader, &viewer) == 25).then_some(()));
    // What it has not published, the feed has no reason to take back.
    wait("the feed tells of today", 40, || {
        marks().iter().any(|mark| mark["t"].as_i64() > Some(saved)).then_some(())
    });
    session.send(&server, "POST", "/sign-out", "");
    let seen = newest(&postgres, &schema);

    postgres.put_back("yesterday");
    assert!(newest(&postgres, &schema) < seen);
    for server in [&server, &reader] {
        wait("all of it again", 90, || {
            (state(server).0 == 200 && patients(server, &viewer) == 25).then_some(())
        });
        wait("it is said", 20, || {
            state(server).1["notes"].to_string().contains("went back from commit").then_some(())
        });
    }
    assert!(newest(&postgres, &schema) > seen, "no number names two commits");
    assert_eq!(effects(&reader, &viewer, 0..25), [1; 25]);
    assert_ne!(session.send(&server, "GET", "/census", "").status, 200, "signed out then, signed out now");
    let told = told_after(reader.http.unwrap(), &viewer, seen);
    assert!(told.contains("\"adt.board\":null"), "a page of then reads all anew: {told}");
    let finding =
        doctor(&server.data).into_iter().find(|one| one.2.contains("went back")).expect("a finding");
    assert!(finding.3.contains("hilum keys list"), "{finding:?}");
    // And goes on.
    send(&server, 25..28);
    wait("what came since", 40, || (patients(&reader, &viewer) == 28).then_some(()));

    // Restored while nobody runs: what was noted in the folder says it.
    let seen = newest(&postgres, &schema);
    reader.stop();
    server.stop();
    postgres.put_back("yesterday");
    let server = Server::start(&folder, &start);
    wait("all of it once more", 90, || {
        (state(&server).0 == 200 && patients(&server, &viewer) == 28).then_some(())
    });
    assert!(newest(&postgres, &schema) > seen);
    assert!(server.said().contains("the tables went back"));
    // Each time the change feed begins another life.
    let lives = || marks().iter().map(|mark| mark["life"].to_string()).collect::<BTreeSet<String>>();
    wait("three lives of the feed", 40, || (lives().len() == 3).then_some(()));
    server.stop();
    is_as_the_log_says(&folder);
}

fn feed_of(config: &str) -> String {
    let prefix = config.split_once("prefix = \"").unwrap().1.split('"').next().unwrap();
    format!("{prefix}.chart.changes")
}

/// A fail-over to a server without the tables: nobody makes himself at home there. Doors go on, rows wait; with the right
/// server all goes on; with the tables lost, a rebuild makes the chart anew, and it alone.
#[test]
fn an_empty_server_in_the_place_of_the_right_one_is_refused() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::start(&[]));
    postgres.save("empty");
    let config = config(kafka, &postgres);
    let schema = schema(&config);
    let folder = tempdir().unwrap();
    let start = Start { config: &config, ..Start::default() };
    let server = Server::start(&folder, &start);
    let viewer = server.key("viewer", "viewer");
    send(&server, 0..5);
    wait("five on the board", 40, || (patients(&server, &viewer) == 5).then_some(()));
    postgres.save("right");
    wait("ready again", 60, || (state(&server).0 == 200).then_some(()));

    postgres.put_back("empty");
    let is_gone = || {
        let (status, said) = state(&server);
        (status == 503 && said["why"].to_string().contains("does not have the tables")).then_some(said)
    };
    let said = wait("it is said", 60, is_gone);
    assert!(said["why"].to_string().contains("tables.url"), "{said}");
    send(&server, 5..7);
    std::thread::sleep(Duration::from_secs(4));
    let there = format!("SELECT nspname FROM pg_namespace WHERE nspname LIKE '{schema}%'");
    assert!(postgres.rows(&there).is_empty(), "something was made there");
    // Nor by a process that begins: neither one that knows the tables, nor one that does not.
    let stranger = sibling(&folder);
    assert!(Server::try_start(&stranger, &start).is_none());
    let refused = std::fs::read_to_string(stranger.path().join("stderr")).unwrap();
    assert!(refused.contains("these tables are new") && refused.contains("rebuild chart"), "{refused}");
    wait("still refused", 60, is_gone);

    postgres.put_back("right");
    wait("all of it", 90, || (state(&server).0 == 200 && patients(&server, &viewer) == 7).then_some(()));
    server.stop();

    postgres.put_back("empty");
    assert!(Server::try_start(&folder, &start).is_none());
    let refused = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
    assert!(refused.contains("does not have the tables") && refused.contains("rebuild chart"), "{refused}");
    let (data, config_file) = (folder.path().join("data"), folder.path().join("hilum.toml"));
    let arguments = ["--data", data.to_str().unwrap(), "--config", config_file.to_str().unwrap()];
    let out = run(&[&["rebuild", "chart"][..], &arguments].concat());
    assert_eq!(out.status.code(), Some(3), "{}", String::from_utf8_lossy(&out.stderr));
    let server = Server::start(&folder, &start);
    let viewer = server.key("viewer", "viewer");
    wait("the chart", 60, || (state(&server).0 == 200 && patients(&server, &viewer) == 7).then_some(()));
    server.stop();
    is_as_the_log_says(&folder);
}

/// Two installations in one schema: the second one is told whose it is, before it has written anything, also when
/// nothing has come in yet. One log under two schemas is two whole charts.
#[test]
fn two_logs_in_one_schema_are_refused_and_one_log_in_two_is_whole_in_both() {
    let (kafka, postgres) = (Kafka::start(1, &[]), Postgres::shared());
    let of_one = config(&kafka, postgres);
    let first = tempdir().unwrap();
    let start = Start { config: &of_one, ..Start::default() };
    let server = Server::start(&first, &start);
    let other = config(&kafka, postgres);
    let (other_log, own_schema) = (other.rsplit_once("schema = ").unwrap().0, schema(&of_one));
    let mixed = format!("{other_log}schema = \"{own_schema}\"\n");
    let counted = newest(postgres, &own_schema);
    for roles in ["worker", "reader", "gateway,worker,reader"] {
        let second = sibling(&first);
        let start = Start { config: &mixed, arguments: &["--roles", roles], ..Start::default() };
        assert!(Server::try_start(&second, &start).is_none(), "{roles}");
        let said = std::fs::read_to_string(second.path().join("stderr")).unwrap();
        assert!(
            said.contains("these tables were made from log epoch") && said.contains("tables.schema"),
            "{said}"
        );
        for name in [&of_one, &other].map(|config| feed_of(config).replace("chart.changes", "*")) {
            assert!(said.contains(&format!("topics {name} at")), "{name}: {said}");
        }
    }
    // The first one's signs of life alone.
    assert!(newest(postgres, &own_schema) - counted < 60);

    let viewer = server.key("viewer", "viewer");
    let beside = sibling(&first);
    let (own_log, other_schema) = (of_one.rsplit_once("schema = ").unwrap().0, schema(&other));
    let beside_config = format!("{own_log}schema = \"{other_schema}\"\n");
    // Tables that are new beside a log which is not are made on purpose, by a rebuild.
    let start = Start { config: &beside_config, ..Start::default() };
    assert!(Server::try_start(&beside, &start).is_none());
    let (data, file) = (beside.path().join("data"), beside.path().join("hilum.toml"));
    let out =
        run(&["rebuild", "chart", "--data", data.to_str().unwrap(), "--config", file.to_str().unwrap()]);
    assert!(out.status.code().is_some_and(|code| code != 1), "{}", String::from_utf8_lossy(&out.stderr));
    let beside_server = Server::start(&beside, &Start { config: &beside_config, ..Start::default() });
    let beside_viewer = beside_server.key("viewer", "viewer");
    std::thread::scope(|scope| {
        scope.spawn(|| send(&server, 0..20));
        scope.spawn(|| send(&beside_server, 20..40));
    });
    for (server, key) in [(&server, &viewer), (&beside_server, &beside_viewer)] {
        wait("forty on each board", 60, || (patients(server, key) == 40).then_some(()));
    }
    beside_server.stop();
    server.stop();
    is_as_the_log_says(&first);
    is_as_the_log_says(&beside);
}

/// A topic of the log is deleted and made anew. Under running processes: the door shuts with the first record that it keeps
/// before one that it had acknowledged, and workers stand still. While they are stopped: the start is refused. What
/// was in the chart stays, and goes on with the new topic when somebody says so.
#[test]
fn a_log_whose_topic_was_made_anew_is_refused_running_and_at_the_start() {
    let (kafka, postgres) = (Kafka::start(1, &[]), Postgres::shared());
    let config = config(&kafka, postgres);
    let topic = feed_of(&config).replace("chart.changes", "hl7.in");
    let folder = tempdir().unwrap();
    let start = Start { config: &config, ..Start::default() };
    let server = Server::start(&folder, &start);
    let viewer = server.key("viewer", "viewer");
    send(&server, 0..30);
    wait("thirty on the board", 60, || (patients(&server, &viewer) == 30).then_some(()));

    make_anew(&kafka, &topic);
    // Whatever has come in since stands where others stood: not one of these is acknowledged. Sent until that is seen: while
    // the topic is not there nothing is taken for it, and nothing found out.
    let mut ids = (0..30).cycle();
    let (status, said) = wait("the doors are shut", 60, || {
        let mut mllp = server.connect();
        if mllp.try_send(&a01(&format!("M{}", ids.next()?)))
            && let Some(ack) = mllp.try_answer()
        {
            assert_ne!(field(&ack, "MSA", 1), "AA", "{ack}");
        }
        Some(state(&server))
            .filter(|(_, said)| said["state"] == "read-only" && said.to_string().contains("made anew"))
    });
    assert_eq!(status, 503);
    assert!(said.to_string().contains(&topic) && said.to_string().contains("--behind keep"), "{said}");
    wait("the fold stands still", 30, || server.said().contains("cause=\"other-log\"").then_some(()));
    assert_eq!(patients(&server, &viewer), 30, "what stands is shown");
    assert!(field_of_quarantine(&server).is_empty(), "nothing is poison");
    server.signal("KILL");
    drop(server);

    assert!(Server::try_start(&folder, &start).is_none(), "nor at the start");
    let refused = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
    assert!(
        refused.contains("records of it are applied") || refused.contains("holds another record"),
        "{refused}"
    );
    let (data, config_file) = (folder.path().join("data"), folder.path().join("hilum.toml"));
    let arguments = ["--data", data.to_str().unwrap(), "--config", config_file.to_str().unwrap()];
    let out = run(&[&["rebuild", "chart", "--behind", "keep"][..], &arguments].concat());
    assert_eq!(out.status.code(), Some(3), "{}", String::from_utf8_lossy(&out.stderr));
    let server = Server::start(&folder, &start);
    send(&server, 30..33);
    wait("old and new", 60, || (patients(&server, &viewer) == 33).then_some(()));
    server.stop();
}

fn field_of_quarantine(server: &Server) -> Vec<Value> {
    let key = server.key("operator", "operator");
    let answer = request(server.http.unwrap(), "GET", "/api/quarantine", &[("x-api-key", &key)], b"");
    let found: Value = serde_json::from_slice(&answer.body).unwrap();
    found["messages"].as_array().unwrap().clone()
}

fn make_anew(kafka: &Kafka, topic: &str) {
    let class = "org.apache.kafka.tools.TopicCommand";
    kafka.tool(class, &["--delete", "--topic", topic]);
    let make = ["--create", "--topic", topic, "--partitions", "8", "--replication-factor", "1"];
    let settings =
        ["retention.ms=-1", "retention.bytes=-1", "max.message.bytes=20000000", "flush.messages=1"];
    let settings = settings.iter().flat_map(|setting| ["--config", setting]);
    let arguments: Vec<&str> = make.into_iter().chain(settings).collect();
    kafka.tool(class, &arguments);
}
