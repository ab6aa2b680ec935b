//! What breaks is said: damaged records, partitions that stand still, tables that do not answer, people who vanish.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hilum_core::{Clock, Digest, Entropy, Envelope, Id, Stream, Timestamp};
use hilum_engines::log::Log;
use hilum_engines::log::embedded::{Embedded, Options};
use hilum_engines::tables::{Batch, Read, Row, Scan, Table, Tables, Write, sqlite};
use hilum_testkit::{disk, postgres::Postgres, record};
use serde_json::Value;
use tempfile::tempdir;

use crate::both::kept_by;
use crate::server::{Answer, Server, Start, a01, field, records, request, run, wait};

fn get(server: &Server, path: &str, key: &str) -> Answer {
    request(server.http.unwrap(), "GET", path, &[("x-api-key", key)], b"")
}

pub fn json(server: &Server, path: &str, key: &str) -> Value {
    let answer = get(server, path, key);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_str(&answer.text()).unwrap()
}

pub fn ready(server: &Server) -> (u16, Value) {
    let answer = request(server.http.unwrap(), "GET", "/readyz", &[], b"");
    (answer.status, serde_json::from_str(&answer.text()).unwrap())
}

/// Sends them one after the other, and waits until the census has so many.
pub fn send(server: &Server, ids: &[&str], key: &str, on_board: usize) {
    let mut mllp = server.connect();
    for id in ids {
        assert_eq!(field(&mllp.ask(&a01(id)), "MSA", 1), "AA");
    }
    wait("the census", 20, || {
        let census = json(server, "/api/census", key);
        (census["encounters"].as_array().unwrap().len() == on_board).then_some(())
    });
}

pub fn doctor(data: &Path) -> Vec<(String, String, String, String)> {
    let out = run(&["doctor", "--json", "--data", data.to_str().unwrap()]);
    let findings: Value = serde_json::from_slice(&out.stdout).unwrap();
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let findings = findings.as_array().unwrap().iter();
    findings
        .map(|one| (text(one, "level"), text(one, "about"), text(one, "found"), text(one, "remedy")))
        .collect()
}

pub fn now<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

pub fn open_log(data: &Path) -> Log {
    let (clock, entropy) = (Clock::fixed(Timestamp::from_micros(0)), Entropy::seeded(1));
    Log::Embedded(Embedded::open(&data.join("log.sqlite"), clock, entropy, Options::default()).unwrap())
}

pub fn open_tables(data: &Path) -> Tables {
    let parts = [
        hilum_web::tables::ALL,
        hilum_chart::resources::TABLES,
        hilum_adt::tables::TABLES,
        hilum_adt::tables::OWN,
    ];
    let schema: Vec<&'static Table> = parts.into_iter().flatten().copied().collect();
    let place = data.join("tables.sqlite");
    Tables::Sqlite(sqlite::Sqlite::open(place.as_path(), &schema, sqlite::Options::default()).unwrap())
}

fn board(tables: &Tables) -> Vec<Row> {
    let scan = Scan::by_key(hilum_adt::tables::BOARD.name, Vec::new());
    now(tables.read(&[Read::Scan(scan)])).unwrap().pop().unwrap()
}

#[test]
fn a_flipped_bit_on_the_disk_is_quarantined_shown_and_rebuilt() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let key = server.key("reader", "operator");
    send(&server, &["B1", "B2", "B3"], &key, 3);
    let messages = json(&server, "/api/messages?control_id=B2", &key);
    let record = messages["messages"][0]["id"].as_str().unwrap().to_owned();
    let data = server.data.clone();
    server.stop();
    disk::flip_bit(&data.join("log.sqlite"), record.as_bytes());

    // The applied ones stay; the damaged one cannot be made again.
    let refused = run(&["rebuild", "census", "--data", data.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("1 records of the log cannot be read") && said.contains("--without-damaged"),
        "{said}"
    );
    let out = run(&["rebuild", "census", "--without-damaged", "--json", "--data", data.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(3), "{said}");
    let server = Server::start(&folder, &Start::default());
    let census = json(&server, "/api/census", &key);
    assert_eq!(census["encounters"].as_array().unwrap().len(), 2);
    let quarantine = json(&server, "/api/quarantine", &key);
    let one = &quarantine["messages"][0];
    assert_eq!((&one["rule"], &one["status"]), (&"log.corrupt".into(), &"quarantined".into()));
    assert!(one["path"].as_str().unwrap().starts_with("hl7.in/"), "{one}");
    let id = one["id"].as_str().unwrap();
    for path in ["/quarantine".to_owned(), format!("/messages/{id}"), "/messages".to_owned()] {
        let page = get(&server, &path, &key);
        assert_eq!(page.status, 200, "{path}");
        assert!(page.text().contains("log.corrupt"), "{path}");
    }
    assert_eq!(get(&server, &format!("/quarantine/{id}"), &key).status, 303, "there is nothing to edit");
    wait("the alarm", 10, || {
        let metrics = request(server.http.unwrap(), "GET", "/metrics", &[], b"").text();
        metrics.contains("hilum_log_unreadable_records 1").then_some(())
    });
    let findings = doctor(&data);
    assert!(
        findings.iter().any(|one| one.0 == "bad" && one.2.contains("1 records could not be read")),
        "{findings:?}"
    );
    assert_eq!(field(&server.connect().ask(&a01("B4")), "MSA", 1), "AA");
    send(&server, &[], &key, 3);
}

#[test]
fn somebody_who_is_not_on_the_board_is_red() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let key = server.key("reader", "operator");
    send(&server, &["N1", "N2", "N3"], &key, 3);
    let count = json(&server, "/api/census", &key)["count"].clone();
    assert_eq!((&count["open"], &count["shown"]), (&3.into(), &3.into()), "{count}");
    assert!(!get(&server, "/census", &key).text().contains("tag-act\">3 open"));
    let data = server.data.clone();
    server.stop();

    let tables = open_tables(&data);
    let lost = board(&tables).remove(0).values.remove(0);
    let writes = vec![Write::Delete { table: hilum_adt::tables::BOARD.name, key: vec![lost] }];
    now(tables.commit(Batch { writes, ..Batch::default() })).unwrap();
    now(tables.close());
    drop(tables);

    let server = Server::start(&folder, &Start::default());
    let count = json(&server, "/api/census", &key)["count"].clone();
    assert_eq!(
        (&count["open"], &count["shown"], &count["notShown"]),
        (&3.into(), &2.into(), &1.into()),
        "{count}"
    );
    let page = get(&server, "/census", &key).text();
    assert!(page.contains("class=\"tag tag-act\">3 open encounters, 2 shown"), "{page}");
    assert!(page.contains("class=\"tag tag-act\">1 is here and on no list"), "{page}");
    wait("the alarm", 10, || {
        let metrics = request(server.http.unwrap(), "GET", "/metrics", &[], b"").text();
        metrics.contains("hilum_census_difference{kind=\"not_shown\"} 1").then_some(())
    });
    assert!(doctor(&data).iter().any(|one| one.0 == "bad" && one.1 == "census"));
    let said = wait("a note", 10, || Some(ready(&server).1).filter(|said| said["notes"].is_array()));
    assert!(said["notes"][0].as_str().is_some_and(|note| note.contains("rebuild census")), "{said}");
}

#[test]
fn a_partition_that_stands_still_is_not_ready_and_is_named_with_its_way_out() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let data = server.data.clone();
    server.stop();
    let log = open_log(&data);
    let newer = Envelope { v: 9, ..record::envelope(Stream::Hl7In, "MSH|") };
    now(log.append(newer)).unwrap();
    now(log.close());
    drop(log);

    let server = Server::start(&folder, &Start::default());
    let (status, said) =
        wait("paused", 20, || Some(ready(&server)).filter(|(_, said)| said["state"] == "paused"));
    assert_eq!(status, 503);
    let one = &said["partitions"][0];
    assert_eq!((&one["stream"], &one["partition"]), (&"hl7.in".into(), &0.into()), "{said}");
    assert!(one["why"].as_str().unwrap().contains("envelope version 9"), "{said}");
    assert_eq!(one["cause"], "newer-program", "{said}");
    assert_eq!(request(server.http.unwrap(), "GET", "/healthz", &[], b"").status, 200);
    let findings = doctor(&data);
    let named = findings.iter().find(|one| one.1 == "partition hl7.in/0").expect("it is named");
    assert_eq!(named.0, "bad");
    assert!(named.2.contains("envelope version 9") && named.3.contains("newer program"), "{named:?}");
}

#[test]
fn without_its_database_a_server_is_not_ready_and_comes_back() {
    let folder = tempdir().unwrap();
    let postgres = Postgres::start(&[]);
    let server = Server::start(&folder, &Start { config: &kept_by(&postgres), ..Start::default() });
    wait("ready", 20, || (ready(&server).0 == 200).then_some(()));
    let key = server.key("reader", "operator");
    postgres.kill();
    let (status, said) =
        wait("down", 20, || Some(ready(&server)).filter(|(_, said)| said["state"] == "tables-down"));
    assert_eq!(status, 503);
    assert!(said["why"].as_str().is_some_and(|why| !why.is_empty()), "{said}");
    assert_eq!(request(server.http.unwrap(), "GET", "/healthz", &[], b"").status, 200);
    assert_eq!(field(&server.connect().ask(&a01("DOWN")), "MSA", 1), "AA", "the log takes it all the same");
    postgres.restart();
    wait("ready again", 40, || (ready(&server).0 == 200).then_some(()));
    send(&server, &[], &key, 1);
    assert_eq!(names(&server, &key), ["0DOWN"], "what was acknowledged meanwhile is applied");
}

#[test]
fn a_stop_does_not_wait_for_a_database_that_does_not_answer() {
    let folder = tempdir().unwrap();
    let postgres = Postgres::start(&[]);
    let config = kept_by(&postgres);
    let mut server = Server::start(&folder, &Start { config: &config, ..Start::default() });
    wait("ready", 20, || (ready(&server).0 == 200).then_some(()));
    postgres.freeze();
    wait("down", 20, || (ready(&server).1["state"] == "tables-down").then_some(()));
    // The next look has begun by then, and would take five seconds.
    std::thread::sleep(Duration::from_millis(2_500));
    let asked = Instant::now();
    server.signal("TERM");
    assert!(server.ended(30).success());
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    postgres.thaw();

    // Neither when there is something to apply.
    let quick = format!("{config}[shutdown]\ndrain_s = 2\n");
    let mut server = Server::start(&folder, &Start { config: &quick, ..Start::default() });
    wait("ready", 20, || (ready(&server).0 == 200).then_some(()));
    let key = server.key("reader", "operator");
    postgres.freeze();
    assert_eq!(field(&server.connect().ask(&a01("COLD")), "MSA", 1), "AA");
    server.signal("TERM");
    assert!(server.ended(30).success());
    postgres.thaw();
    let server = Server::start(&folder, &Start { config: &config, ..Start::default() });
    send(&server, &[], &key, 1);
    assert_eq!(names(&server, &key), ["0COLD"]);
}

#[test]
fn a_folder_that_is_open_to_others_hides_no_other_finding() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let data = server.data.clone();
    server.stop();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let findings = doctor(&data);
    let has = |about: &str, part: &str| findings.iter().any(|one| one.1 == about && one.2.contains(part));
    assert!(has("permissions", "(755)"), "{findings:?}");
    for (about, part) in [("log", "accepts"), ("tables", "at commit"), ("census", "on the board")] {
        assert!(has(about, part), "{about}: {findings:?}");
    }
}

#[test]
fn a_log_that_another_process_writes_to_is_not_ready_and_comes_back() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let key = server.key("feed", "feed");
    wait("ready", 20, || (ready(&server).0 == 200).then_some(()));
    let held = disk::hold(&server.data.join("log.sqlite"));
    // Nobody sends anything: it is seen all the same.
    let (status, said) =
        wait("held", 20, || Some(ready(&server)).filter(|(_, said)| said["state"] == "read-only"));
    assert_eq!(status, 503);
    assert!(said["why"].as_str().unwrap().contains("another process holds"), "{said}");
    let finding = doctor(&server.data).into_iter().find(|one| one.0 == "bad" && one.1 == "log").unwrap();
    assert!(finding.2.contains("another process holds") && finding.3.contains("log.sqlite"), "{finding:?}");
    let headers = [("x-api-key", &*key), ("content-type", "application/hl7-v2")];
    let post = || request(server.http.unwrap(), "POST", "/hl7v2", &headers, a01("HELD").as_bytes()).status;
    assert_eq!(post(), 503);
    drop(held);
    wait("ready again", 20, || (ready(&server).0 == 200).then_some(()));
    assert_eq!(post(), 200);
}

/// Every file of the log and nothing else.
pub fn copy_log(from: &Path, to: &Path) {
    for name in ["log.sqlite", "log.sqlite-wal", "log.sqlite-shm"] {
        std::fs::remove_file(to.join(name)).ok();
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

pub fn names(server: &Server, key: &str) -> Vec<String> {
    let census = json(server, "/api/census", key);
    let of = |one: &Value| one["patient"]["identifiers"][0]["value"].as_str().unwrap().to_owned();
    let mut names: Vec<String> = census["encounters"].as_array().unwrap().iter().map(of).collect();
    names.sort();
    names
}

#[test]
fn an_older_log_beside_newer_tables_is_refused_by_name_and_nothing_is_lost() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let key = server.key("reader", "operator");
    send(&server, &["O1"], &key, 1);
    let data = server.data.clone();
    server.stop();
    let older = tempdir().unwrap();
    copy_log(&data, older.path());
    let server = Server::start(&folder, &Start::default());
    send(&server, &["O2", "O3"], &key, 3);
    server.stop();
    copy_log(older.path(), &data);

    // Refused by name, with the ways out, before any door opens.
    assert!(Server::try_start(&folder, &Start::default()).is_none());
    let said = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
    assert!(said.contains("are applied") && said.contains("rebuild chart --behind keep"), "{said}");
    let findings = doctor(&data).into_iter();
    let finding = findings.filter(|one| one.1 == "log").find(|one| one.0 == "bad").expect("a finding");
    assert!(finding.2.contains("are applied") && finding.3.contains("--behind"), "{finding:?}");
    // An import is an acknowledgment too.
    let file = folder.path().join("one.hl7");
    std::fs::write(&file, a01("O4")).unwrap();
    let import = run(&["import", "hl7", file.to_str().unwrap(), "--data", data.to_str().unwrap()]);
    assert!(!import.status.success());
    assert_eq!(records(&data).len(), 1, "nothing was written into it");
    let plain = run(&["rebuild", "chart", "--data", data.to_str().unwrap()]);
    assert!(!plain.status.success() && plain.status.code() != Some(3));
    assert!(String::from_utf8_lossy(&plain.stderr).contains("--behind"));

    // What an older program would have done: it took O4 and O5 under offsets that are passed.
    let log = open_log(&data);
    let first = {
        let partition = (0..log.partitions(Stream::Hl7In))
            .find(|&one| now(log.end(Stream::Hl7In, one)).unwrap() > 0)
            .unwrap();
        let max = hilum_engines::log::ReadMax { records: 1, bytes: usize::MAX };
        now(log.read(Stream::Hl7In, partition, 0, max)).unwrap().remove(0)
    };
    for id in ["O4", "O5"] {
        // Each into the partition that a message of this patient was in before.
        let like = if id == "O4" { "O2" } else { "O3" };
        let body = bytes::Bytes::from(a01(id));
        let envelope = Envelope {
            id: Entropy::seeded(u64::from(id.as_bytes()[1]))
                .record_id(Timestamp::from_micros(1_800_000_000_000_000)),
            digest: Digest::of(&body),
            key: partition_key(&data, like),
            body,
            ..(*first.envelope).clone()
        };
        now(log.append(envelope)).unwrap();
    }
    now(log.close());
    drop(log);
    assert!(
        Server::try_start(&folder, &Start::default()).is_none(),
        "it has grown past the offsets and is refused"
    );

    // The way out that loses nothing: neither what only the tables know, nor what only the log knows.
    let keep = run(&["rebuild", "chart", "--behind", "keep", "--data", data.to_str().unwrap()]);
    assert_eq!(keep.status.code(), Some(3), "{}", String::from_utf8_lossy(&keep.stderr));
    let server = Server::start(&folder, &Start::default());
    assert_eq!(names(&server, &key), ["0O1", "0O2", "0O3", "0O4", "0O5"]);
    send(&server, &["O6"], &key, 6);
    server.stop();

    // The other one: the tables become what the log says.
    let drop = run(&["rebuild", "chart", "--behind", "drop", "--data", data.to_str().unwrap()]);
    assert_eq!(drop.status.code(), Some(3), "{}", String::from_utf8_lossy(&drop.stderr));
    let server = Server::start(&folder, &Start::default());
    assert_eq!(names(&server, &key), ["0O1", "0O4", "0O5", "0O6"]);
}

/// The key of a message as the door would make it: of the installation, its facility and patient.
fn partition_key(data: &Path, id: &str) -> Id {
    let tables = open_tables(data);
    let scan = Scan::by_index(
        hilum_adt::tables::MESSAGE.name,
        "by_control_id",
        vec![hilum_engines::tables::Value::Text(id.to_owned())],
    );
    let row = now(tables.read(&[Read::Scan(scan)])).unwrap().pop().unwrap().remove(0);
    now(tables.close());
    let hilum_engines::tables::Value::Int(partition) = row.values[1] else { panic!("a partition") };
    let mut key = [0; 16];
    key[15] = u8::try_from(partition).unwrap();
    Id::from_bytes(key)
}
