//! A partition of the log whose newest records cannot be read keeps nobody else from the census.

use std::path::Path;

use hilum_core::Stream;
use hilum_engines::log::{Log, ReadMax};
use hilum_testkit::disk;
use tempfile::tempdir;

use crate::damage::{copy_log, doctor, names, now, open_log, ready, send};
use crate::server::{Server, Start, a01, field, request, run, wait};

const ALL: ReadMax = ReadMax { records: 1_000, bytes: usize::MAX };

/// The partition in which this patient's first message stands, and the id of its newest record.
fn place_of(log: &Log, id: &str) -> (u16, String) {
    for partition in 0..log.partitions(Stream::Hl7In) {
        let records = now(log.read(Stream::Hl7In, partition, 0, ALL)).unwrap();
        let has = |body: &[u8]| body.windows(id.len()).any(|part| part == id.as_bytes());
        if records.iter().any(|record| has(&record.envelope.body)) {
            return (partition, records.last().unwrap().envelope.id.to_string());
        }
    }
    panic!("{id} is in no partition")
}

/// Damages the end of the partition of `id`; returns it, and a patient of another one.
fn damage(data: &Path, id: &str, others: &[&'static str]) -> (u16, &'static str) {
    let log = open_log(data);
    let (partition, newest) = place_of(&log, id);
    let other = others.iter().find(|other| place_of(&log, other).0 != partition).unwrap();
    now(log.close());
    drop(log);
    disk::damage_log_page(&data.join("log.sqlite"), newest.as_bytes());
    (partition, other)
}

/// Another message of a patient.
fn again(id: &str, control: &str) -> String {
    a01(id).replace("ADT^A01", "ADT^A08").replace(&format!("|{id}|"), &format!("|{control}|"))
}

const PATIENTS: [&str; 6] = ["E1", "E2", "E3", "E4", "E5", "E6"];

#[test]
fn a_damaged_end_that_is_known_costs_no_standstill() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let key = server.key("reader", "operator");
    send(&server, &PATIENTS, &key, 6);
    let data = server.data.clone();
    server.stop();
    let (partition, _) = damage(&data, "E1", &PATIENTS[1..]);

    let server = Server::start(&folder, &Start::default());
    let said = wait("ready", 20, || Some(ready(&server)).filter(|(status, _)| *status == 200)).1;
    let note = said["notes"][0].as_str().expect("a note").to_owned();
    assert!(note.contains(&format!("hl7.in/{partition}")) && note.contains("--behind keep"), "{note}");
    assert_eq!(field(&server.connect().ask(&again("E1", "AGAIN")), "MSA", 1), "AA");
    let finding =
        doctor(&data).into_iter().find(|one| one.0 == "bad" && one.1 == "log").expect("doctor says so");
    assert!(finding.2.contains(&format!("hl7.in/{partition}")), "{finding:?}");
    assert_eq!(names(&server, &key).len(), 6);
    wait("what came is applied", 20, || {
        let path = "/api/messages?control_id=AGAIN";
        let answer = request(server.http.unwrap(), "GET", path, &[("x-api-key", &*key)], b"");
        answer.text().contains("applied").then_some(())
    });
    server.stop();
    let refused = run(&["rebuild", "chart", "--data", data.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1), "a rebuild would take out what they said");
}

#[test]
fn a_damaged_end_that_nobody_knows_stops_its_partition_alone_until_it_is_mended() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let key = server.key("reader", "operator");
    let feed = server.key("feed", "feed");
    send(&server, &PATIENTS[..5], &key, 5);
    let data = server.data.clone();
    server.stop();
    let copy = tempdir().unwrap();
    copy_log(&data, copy.path());
    let server = Server::start(&folder, &Start::default());
    send(&server, &PATIENTS[5..], &key, 6);
    server.stop();
    let (partition, other) = damage(&data, "E1", &PATIENTS[1..]);
    disk::damage_log_table(&data.join("log.sqlite"), "groups");
    let twin = tempdir().unwrap();
    let copied = std::process::Command::new("cp").arg("-a").arg(&data).arg(twin.path()).status().unwrap();
    assert!(copied.success());

    let server = Server::start(&folder, &Start::default());
    let (status, said) =
        wait("paused", 20, || Some(ready(&server)).filter(|(_, said)| said["state"] == "paused"));
    let one = &said["partitions"][0];
    assert_eq!((status, &one["cause"]), (503, &"damaged-end".into()), "{said}");
    assert_eq!((&one["stream"], &one["partition"]), (&"hl7.in".into(), &partition.into()), "{said}");
    let finding = doctor(&data).into_iter().find(|one| one.2.contains("its end is damaged")).unwrap();
    assert!(finding.0 == "bad" && finding.3.contains("--without-damaged"), "{finding:?}");
    // Nothing of its patients is acknowledged; who sends keeps it. Others go on.
    let mut mllp = server.connect();
    mllp.send(&again("E1", "REFUSED"));
    assert_eq!(mllp.try_answer(), None, "no answer, and the connection is closed");
    let headers = [("x-api-key", &*feed), ("content-type", "application/hl7-v2")];
    let post = |body: &str| request(server.http.unwrap(), "POST", "/hl7v2", &headers, body.as_bytes()).status;
    assert_eq!(post(&again("E1", "REFUSED")), 503);
    assert_eq!(post(&again(other, "TAKEN")), 200);
    assert_eq!(names(&server, &key).len(), 6);
    wait("what others sent is applied", 20, || {
        let path = "/api/messages?control_id=TAKEN";
        let answer = request(server.http.unwrap(), "GET", path, &[("x-api-key", &*key)], b"");
        answer.text().contains("applied").then_some(())
    });
    server.stop();

    // Without a copy.
    let path = data.to_str().unwrap();
    let refused = run(&["rebuild", "chart", "--data", path]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("--without-damaged") && said.contains("Nothing was changed"), "{said}");
    // What was applied stays, though it cannot be read any more.
    let kept = run(&["rebuild", "chart", "--behind", "keep", "--without-damaged", "--data", path]);
    assert_eq!(kept.status.code(), Some(3), "{}", String::from_utf8_lossy(&kept.stderr));
    let server = Server::start(&folder, &Start::default());
    wait("ready", 20, || (ready(&server).0 == 200).then_some(()));
    assert_eq!(names(&server, &key).len(), 6);
    server.stop();
    let given_up = run(&["rebuild", "chart", "--without-damaged", "--data", path]);
    assert_eq!(given_up.status.code(), Some(3), "{}", String::from_utf8_lossy(&given_up.stderr));
    let server = Server::start(&folder, &Start::default());
    wait("ready", 20, || (ready(&server).0 == 200).then_some(()));
    assert!(!names(&server, &key).contains(&"0E1".to_owned()), "what it said is gone");
    let quarantined = crate::damage::json(&server, "/api/quarantine", &key);
    assert_eq!(quarantined["messages"][0]["rule"], "log.corrupt", "{quarantined}");
    assert_eq!(field(&server.connect().ask(&a01("E1")), "MSA", 1), "AA");
    wait("sent again", 20, || names(&server, &key).contains(&"0E1".to_owned()).then_some(()));
    server.stop();

    // With a copy, from the damaged file: what came since the copy is kept by the tables.
    let data = twin.path().join("data");
    copy_log(copy.path(), &data);
    let keep = run(&["rebuild", "chart", "--behind", "keep", "--data", data.to_str().unwrap()]);
    assert_eq!(keep.status.code(), Some(3), "{}", String::from_utf8_lossy(&keep.stderr));
    let server = Server::start(&twin, &Start::default());
    wait("ready", 20, || (ready(&server).0 == 200).then_some(()));
    assert_eq!(names(&server, &key).len(), 6);
    assert_eq!(field(&server.connect().ask(&again("E1", "AFTER")), "MSA", 1), "AA");
}

#[test]
fn a_damaged_end_of_decisions_keeps_no_server_from_starting() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let key = server.key("reader", "operator");
    send(&server, &PATIENTS[..3], &key, 3);
    let data = server.data.clone();
    server.stop();
    let log = open_log(&data);
    let decisions = |partition| now(log.read(Stream::Decisions, partition, 0, ALL)).unwrap().pop();
    let newest =
        (0..log.partitions(Stream::Hl7In)).find_map(decisions).expect("the settings of the default source");
    now(log.close());
    drop(log);
    let path = data.join("log.sqlite");
    disk::damage_log_page(&path, newest.envelope.id.to_string().as_bytes());
    disk::damage_log_table(&path, "groups");
    let place = format!("decisions/{}", newest.position.partition);
    let paused = |server: &Server| {
        let said = wait("paused", 20, || Some(ready(server).1).filter(|said| said["state"] == "paused"));
        let one = &said["partitions"][0];
        assert_eq!((&one["stream"], &one["cause"]), (&"decisions".into(), &"damaged-end".into()), "{said}");
    };

    // The tables know its settings: nothing stands still but decisions.
    let server = Server::start(&folder, &Start::default());
    paused(&server);
    assert_eq!(field(&server.connect().ask(&again("E1", "TAKEN")), "MSA", 1), "AA");
    send(&server, &PATIENTS[3..4], &key, 4);
    let finding = doctor(&data).into_iter().find(|one| one.2.contains(&place)).expect("doctor says so");
    assert!(finding.0 == "bad" && finding.3.contains("--without-damaged"), "{finding:?}");
    server.stop();

    // Settings that nobody has written down: what came with them could not be read again.
    let config = "[sources.default]\nzone = \"Asia/Tokyo\"\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    paused(&server);
    let mut mllp = server.connect();
    mllp.send(&again("E1", "REFUSED"));
    assert_eq!(mllp.try_answer(), None, "no answer, and the connection is closed");
    assert_eq!(names(&server, &key).len(), 4);
    server.stop();

    let at = data.to_str().unwrap();
    let refused = run(&["rebuild", "chart", "--data", at]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&place) && said.contains("--without-damaged"), "{said}");
    let kept = run(&["rebuild", "chart", "--behind", "keep", "--without-damaged", "--data", at]);
    assert_eq!(kept.status.code(), Some(3), "{}", String::from_utf8_lossy(&kept.stderr));
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    wait("ready", 20, || (ready(&server).0 == 200).then_some(()));
    send(&server, &PATIENTS[4..5], &key, 5);
    server.stop();
    // The settings stand in the log again: what came with them is read as it was.
    let rebuilt = run(&["rebuild", "chart", "--without-damaged", "--data", at]);
    assert_eq!(rebuilt.status.code(), Some(3), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    let server = Server::start(&folder, &Start::default());
    assert_eq!(names(&server, &key).len(), 5);
}
