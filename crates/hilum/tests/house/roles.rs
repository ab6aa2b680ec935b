//! One binary, many processes: gateways, workers and readers over one Kafka and one PostgreSQL.

use hilum_testkit::kafka::Kafka;
use hilum_testkit::postgres::Postgres;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::confidence::listen;
use crate::many::{config, patients, send, sibling, state};
use crate::server::{Server, Session, Start, a01, field, request, run, wait};

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
    // An operator goes by how much waits.
    wait("the worker knows how much waits", 30, || {
        let told = request(worker.http.unwrap(), "GET", "/metrics", &[], b"").text();
        let lags = told.lines().filter(|line| line.starts_with("hilum_lag_records{stream=\"hl7.in\""));
        let sum: f64 = lags.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum();
        (sum >= 12.0).then_some(())
    });

    postgres.restart();
    wait("the reader shows again", 60, || (state(&reader).0 == 200).then_some(()));
    wait("the key is known", 30, || (post(a01("M14")).status == 200).then_some(()));
    // A database that is there and says nothing is no other.
    postgres.freeze();
    send(&gateway, 12..15);
    let refused = post(a01("M15"));
    assert_eq!(refused.status, 503, "{}", refused.text());
    postgres.thaw();
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

/// Workers are upgraded first, and make the schema theirs: a gateway of before that starts then takes what comes.
#[test]
fn a_gateway_starts_beside_newer_tables() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let config = config(kafka, postgres);
    let schema = config.rsplit_once("schema = \"").unwrap().1.trim().trim_matches('"');
    let first = tempdir().unwrap();
    let server = Server::start(&first, &Start { config: &config, ..Start::default() });
    let viewer = server.key("viewer", "viewer");
    postgres.rows(&format!("UPDATE {schema}.hilum_version SET version = version + 1"));
    let (folder, gateway) = part(&first, &config, "gateway");
    send(&gateway, 0..5);
    let (status, said) = state(&gateway);
    assert_eq!((status, said["state"].as_str()), (200, Some("ready")), "{said}");
    let log = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
    assert!(log.contains("the tables are not open yet") && log.contains("newer"), "{log}");
    wait("five on the board", 30, || (patients(&server, &viewer) == 5).then_some(()));
    // Who shows rows or works on them needs them.
    for roles in ["worker", "reader"] {
        let other = sibling(&first);
        let start = Start { config: &config, arguments: &["--roles", roles], ..Start::default() };
        assert!(Server::try_start(&other, &start).is_none(), "{roles}");
    }
    postgres.rows(&format!("UPDATE {schema}.hilum_version SET version = version - 1"));
    gateway.stop();
    server.stop();
}

/// A gateway that began without the database takes what comes. When it finds that the rows there are of another log, it
/// takes nothing any more: what it took would be passed over.
#[test]
fn a_gateway_shuts_its_doors_when_rows_and_log_do_not_belong_together() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::start(&[]));
    let of_these_rows = config(kafka, &postgres);
    let first = tempdir().unwrap();
    let all = Server::start(&first, &Start { config: &of_these_rows, ..Start::default() });
    let viewer = all.key("viewer", "viewer");
    send(&all, 0..3);
    wait("three on the board", 30, || (patients(&all, &viewer) == 3).then_some(()));
    all.stop();

    let schema = of_these_rows.rsplit_once("schema = ").unwrap().1;
    let (other, _) =
        config(kafka, &postgres).rsplit_once("schema = ").map(|(a, b)| (a.to_owned(), b.len())).unwrap();
    let of_another_log = format!("{other}schema = {schema}");
    postgres.kill();
    let (_folder, gateway) = part(&first, &of_another_log, "gateway");
    send(&gateway, 3..5);
    postgres.restart();
    let (status, said) = wait("the doors shut", 40, || {
        let (status, said) = state(&gateway);
        (said["state"] == "unfit").then_some((status, said))
    });
    assert_eq!(status, 503);
    assert!(said["why"].as_str().unwrap().contains("log epoch"), "{said}");
    let mut mllp = gateway.connect();
    mllp.send(&a01("M5"));
    assert_eq!(mllp.try_answer(), None, "nothing is acknowledged");
    gateway.stop();
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

fn json(server: &Server, path: &str, key: &str) -> Value {
    let answer = request(server.http.unwrap(), "GET", path, &[("x-api-key", key)], b"");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_str(&answer.text()).unwrap()
}

/// What each gateway says of the source `default`, by the gateway's door: whether it is there, and messages taken.
fn by_gateway(sources: &Value) -> Vec<(String, bool, u64)> {
    let processes = sources["processes"].as_array().unwrap().iter();
    let gateways = processes.filter(|process| process["roles"][0] == "gateway");
    gateways
        .map(|process| {
            let accepted = process["sources"][0]["accepted"].as_u64().unwrap();
            (process["mllp"].as_str().unwrap().to_owned(), process["there"].as_bool().unwrap(), accepted)
        })
        .collect()
}

/// Six processes are one house: whatever comes in by any door is seen through any window.
#[test]
fn six_processes_are_one_house() {
    let (kafka, postgres) = (Kafka::start(1, &[]), Postgres::shared());
    let config = config(&kafka, postgres);
    let first = tempdir().unwrap();
    let start = Start { config: &config, arguments: &["--roles", "reader"], ..Start::default() };
    let reader = Server::start(&first, &start);
    let (_b, other_reader) = part(&first, &config, "reader");
    let workers = [part(&first, &config, "worker"), part(&first, &config, "worker")];
    let (_c, gateway) = part(&first, &config, "gateway");
    let (_d, other_gateway) = part(&first, &config, "gateway");
    let viewer = reader.key("viewer", "viewer");

    std::thread::scope(|scope| {
        scope.spawn(|| send(&gateway, 0..30));
        scope.spawn(|| send(&other_gateway, 30..50));
    });
    for reader in [&reader, &other_reader] {
        wait("fifty on each board", 60, || (patients(reader, &viewer) == 50).then_some(()));
    }
    let boards = [&reader, &other_reader].map(|one| json(one, "/api/census", &viewer)["encounters"].clone());
    assert_eq!(boards[0], boards[1], "one board");

    // A page that is open on one reader hears of what comes in by another process.
    let text = listen(reader.http.unwrap(), &viewer, || {
        assert_eq!(field(&other_gateway.connect().ask(&a01("M50")), "MSA", 1), "AA");
    });
    assert!(text.contains("event: change"), "{text}");

    // Who signed in here is known there, and the forms of one are taken by the other.
    let session = Session::sign_in(&reader, "hana", "operator");
    assert_eq!(session.send(&other_reader, "GET", "/census", "").status, 200);
    let changed = session.send(&other_reader, "POST", "/preferences", "theme=dark");
    assert!(changed.status < 400, "{}", changed.text());
    let out = session.send(&other_reader, "POST", "/sign-out", "");
    assert!(out.status < 400, "{}", out.text());
    assert_ne!(session.send(&reader, "GET", "/census", "").status, 200, "and is signed out here as well");

    // One audit log, whole, whoever wrote into it.
    let admin = other_reader.key("admin", "admin");
    let audit = json(&other_reader, "/api/audit?verify=1", &admin);
    assert!(audit["verdict"]["whole"]["rows"].as_u64().unwrap() > 5, "{audit}");
    let of_hana = json(&reader, "/api/audit?principal=hana", &admin);
    let routes: Vec<&str> =
        of_hana["events"].as_array().unwrap().iter().map(|one| one["route"].as_str().unwrap()).collect();
    assert!(routes.contains(&"POST /sign-in") && routes.contains(&"POST /sign-out"), "{routes:?}");

    // The sources are those of all doors, each gateway by its name.
    let sources = wait("both gateways have reported", 30, || {
        let sources = json(&other_reader, "/api/sources", &viewer);
        (sources["sources"][0]["accepted"] == 51).then_some(sources)
    });
    let mut doors = by_gateway(&sources);
    let mut want = vec![(gateway.mllp.to_string(), true, 30), (other_gateway.mllp.to_string(), true, 21)];
    doors.sort();
    want.sort();
    assert_eq!(doors, want, "{sources}");
    assert_eq!(sources["processes"].as_array().unwrap().len(), 6, "{sources}");
    wait("each partition has its worker", 30, || {
        let sources = json(&reader, "/api/sources", &viewer);
        sources["partitions"].as_array().unwrap().iter().all(|one| one["worker"].is_string()).then_some(())
    });
    let page = request(
        reader.http.unwrap(),
        "GET",
        "/sources",
        &[("x-api-key", &viewer), ("accept", "text/html")],
        b"",
    );
    // By their machine and port: an address may be 0.0.0.0.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let name = |server: &Server| format!("{}:{}", host.trim(), server.mllp.port());
    assert!(page.text().contains(&name(&other_gateway)), "{}", page.text());

    // One gateway is gone: it is shown as such, and nobody says that its sources are fine, or silent.
    gateway.signal("KILL");
    wait("it gives no sign of life", 40, || {
        let doors = by_gateway(&json(&reader, "/api/sources", &viewer));
        doors.contains(&(gateway.mllp.to_string(), false, 30)).then_some(())
    });
    let said = state(&reader).1.to_string();
    assert!(said.contains(&name(&gateway)) && said.contains("no sign of life"), "{said}");
    let out = run(&["doctor", "--json", "--data", other_reader.data.to_str().unwrap()]);
    let findings = String::from_utf8(out.stdout).unwrap();
    assert!(findings.contains(&format!("process {}", name(&gateway))), "{findings}");
    // Who stops in good order leaves nothing behind.
    let door = other_gateway.mllp.to_string();
    other_gateway.stop();
    wait("it is forgotten", 20, || {
        let doors = by_gateway(&json(&reader, "/api/sources", &viewer));
        doors.iter().all(|(place, ..)| *place != door).then_some(())
    });
    for (_, worker) in workers {
        worker.stop();
    }
    other_reader.stop();
    reader.stop();
}

/// A process with another session key would sign people out, and break the audit log: it is not let in.
#[test]
fn a_reader_without_the_others_secrets_is_refused() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let config = config(kafka, postgres);
    let first = tempdir().unwrap();
    let start = Start { config: &config, arguments: &["--roles", "reader"], ..Start::default() };
    let reader = Server::start(&first, &start);
    let viewer = reader.key("viewer", "viewer");
    assert_eq!(patients(&reader, &viewer), 0);
    let folder = sibling(&first);
    std::fs::remove_file(folder.path().join("data/secrets/session.key")).unwrap();
    assert!(Server::try_start(&folder, &start).is_none());
    let said = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
    assert!(said.contains("session.key") && said.contains("same `secrets` folder"), "{said}");
    reader.stop();
}
