//! A record that the log reads wrongly: waited for, passed over, and found when it can be read again.

use bytes::Bytes;
use hilum_core::{Digest, Entropy, Envelope, Stream, Timestamp};
use hilum_engines::log::ReadMax;
use hilum_testkit::disk;
use tempfile::tempdir;

use crate::damage::{doctor, json, names, now, open_log, ready, send};
use crate::server::{Server, Start, a01, request, run, wait};

#[test]
fn a_record_that_can_be_read_again_is_said_and_a_rebuild_brings_it_in() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let key = server.key("reader", "operator");
    send(&server, &["M1"], &key, 1);
    let data = server.data.clone();
    server.stop();
    // A second message behind the first, durable and not applied, and damaged.
    let log = open_log(&data);
    let partition = (0..log.partitions(Stream::Hl7In))
        .find(|&one| now(log.end(Stream::Hl7In, one)).unwrap() > 0)
        .unwrap();
    let one = ReadMax { records: 1, bytes: 0 };
    let first = now(log.read(Stream::Hl7In, partition, 0, one)).unwrap().remove(0);
    let body = Bytes::from(a01("M2"));
    let id = Entropy::seeded(2).record_id(Timestamp::from_micros(1_800_000_000_000_000));
    now(log.append(Envelope { id, digest: Digest::of(&body), body, ..(*first.envelope).clone() })).unwrap();
    now(log.close());
    drop(log);
    let file = data.join("log.sqlite");
    let places = disk::flip_bit(&file, id.to_string().as_bytes());

    let server = Server::start(&folder, &Start::default());
    // For some seconds it is tried again, and that is said.
    let (status, said) =
        wait("paused", 5, || Some(ready(&server)).filter(|(_, said)| said["state"] == "paused"));
    assert_eq!(status, 503);
    let paused = &said["partitions"][0];
    assert_eq!((&paused["cause"], &paused["lag"]), (&"unreadable".into(), &1.into()), "{said}");
    // Then it is passed over, and that is said too.
    let noted = |what: &str, seconds: u64, part: &str| {
        wait(what, seconds, || {
            let (status, said) = ready(&server);
            let has = said["notes"].as_array()?.iter().any(|note| note.as_str().unwrap().contains(part));
            (status == 200 && has).then_some(())
        });
    };
    noted("passed over", 20, "1 records of the log could not be read");
    assert!(!server.said().contains("can be read again"), "{}", server.said());

    // What read it wrongly has come to an end, beside the running server.
    disk::flip_bits_at(&file, &places);
    noted("readable again", 40, "1 of them can be read again");
    assert!(server.said().contains("can be read again"), "{}", server.said());
    let metrics = request(server.http.unwrap(), "GET", "/metrics", &[], b"").text();
    assert!(metrics.contains("hilum_log_readable_again_records 1"));
    let names_it = |found: &[(String, String, String, String)]| {
        found.iter().any(|one| one.2.contains("1 of 1 records") && one.3.contains("hilum rebuild chart"))
    };
    assert!(names_it(&doctor(&data)));
    server.stop();
    assert!(names_it(&doctor(&data)), "without a server too");
    let server = Server::start(&folder, &Start::default());
    wait("at the start", 10, || {
        let (_, said) = ready(&server);
        said["notes"].as_array()?.iter().find(|note| note.as_str().unwrap().contains("again")).map(drop)
    });
    assert_eq!(json(&server, "/api/census", &key)["encounters"].as_array().unwrap().len(), 1);
    server.stop();

    // The way out.
    let out = run(&["rebuild", "chart", "--data", data.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(3), "{}", String::from_utf8_lossy(&out.stderr));
    let server = Server::start(&folder, &Start::default());
    let said = wait("ready", 20, || Some(ready(&server)).filter(|(status, _)| *status == 200)).1;
    assert_eq!(said["notes"], serde_json::Value::Null, "{said}");
    assert_eq!(names(&server, &key), ["0M1", "0M2"]);
    assert!(!names_it(&doctor(&data)));
}
