//! One binary, many processes: gateways, workers and readers over one Kafka and one PostgreSQL.

use hilum_testkit::kafka::Kafka;
use hilum_testkit::postgres::Postgres;
use tempfile::{TempDir, tempdir};

use crate::many::{config, patients, send, sibling, state};
use crate::server::{Server, Start, a01, request, wait};

/// A server that does one part of the work, in a folder of its own.
fn part(of: &TempDir, config: &str, roles: &str) -> (TempDir, Server) {
    let folder = sibling(of);
    let server =
        Server::start(&folder, &Start { config, arguments: &["--roles", roles], ..Start::default() });
    (folder, server)
}

/// A gateway is there for messages, and needs the log alone: it starts without the database, it goes on without it, and
/// what it has acknowledged is applied once when there is one again.
#[test]
fn a_gateway_acknowledges_without_the_database() {
    let (kafka, postgres) = (Kafka::start(1, &[]), Postgres::start(&[]));
    let config = config(&kafka, &postgres);
    let first = tempdir().unwrap();
    // The first process of the installation makes its secrets; then it is a worker like another.
    let worker = Server::start(
        &first,
        &Start { config: &config, arguments: &["--roles", "worker"], ..Start::default() },
    );
    let (_folder, reader) = part(&first, &config, "reader");
    let viewer = reader.key("viewer", "viewer");
    let feed = worker.key("feed", "feed");
    let (_gateway_folder, gateway) = part(&first, &config, "gateway");
    send(&gateway, 0..5);
    wait("five on the board", 30, || (patients(&reader, &viewer) == 5).then_some(()));

    postgres.kill();
    send(&gateway, 5..10);
    // One that begins now.
    let (_late_folder, late) = part(&first, &config, "gateway");
    send(&late, 8..15);
    let (status, said) = state(&late);
    assert_eq!((status, said["state"].as_str()), (200, Some("ready")), "{said}");
    wait("its notes say so", 20, || state(&late).1["notes"][0].as_str().map(drop));
    // Whose key it is cannot be asked: nobody is told that it does not hold.
    let post = |body: String| {
        let headers = [("x-api-key", &*feed), ("content-type", "application/hl7-v2")];
        request(late.http.unwrap(), "POST", "/hl7v2", &headers, body.as_bytes())
    };
    let refused = post(a01("M15"));
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some(), "{}", refused.head);
    wait("the reader cannot show", 20, || (state(&reader).0 == 503).then_some(()));

    postgres.restart();
    wait("all of them, each once", 60, || {
        let answer = request(reader.http.unwrap(), "GET", "/api/census", &[("x-api-key", &viewer)], b"");
        (answer.status == 200 && patients(&reader, &viewer) == 15).then_some(())
    });
    wait("HTTP takes messages again", 30, || (post(a01("M15")).status == 200).then_some(()));
    wait("and it is applied", 30, || (patients(&reader, &viewer) == 16).then_some(()));
    wait("nothing to note", 30, || state(&late).1["notes"].is_null().then_some(()));

    // Each answers for its part alone.
    for (server, path, status) in [
        (&gateway, "/census", 404),
        (&worker, "/api/census", 404),
        (&worker, "/healthz", 200),
        (&gateway, "/metrics", 200),
    ] {
        let answer = request(server.http.unwrap(), "GET", path, &[("x-api-key", &viewer)], b"");
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    let headers = [("x-api-key", &*feed), ("content-type", "application/hl7-v2")];
    let elsewhere = request(reader.http.unwrap(), "POST", "/hl7v2", &headers, a01("M16").as_bytes());
    assert_eq!(elsewhere.status, 404, "{}", elsewhere.text());
    for server in [gateway, late, worker, reader] {
        server.stop();
    }
}

#[test]
fn a_part_of_the_work_needs_engines_that_others_reach() {
    let kafka = "[log]\nengine = \"kafka\"\nbrokers = \"127.0.0.1:9\"\n";
    let cases =
        [("files", "", "log.engine = \"kafka\""), ("rows in a file", kafka, "tables.engine = \"postgres\"")];
    for (why, config, want) in cases {
        let folder = tempdir().unwrap();
        let start = Start { config, arguments: &["--roles", "gateway,reader"], ..Start::default() };
        assert!(Server::try_start(&folder, &start).is_none(), "{why}");
        let said = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
        assert!(said.contains("--roles: roles: a process that is gateway,reader alone"), "{why}: {said}");
        assert!(said.contains(want), "{why}: {said}");
    }
}
