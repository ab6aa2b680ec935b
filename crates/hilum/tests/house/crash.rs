//! Ends without warning: at each failpoint, by kill -9 at random, and a disk that takes nothing more.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::server::{Mllp, Server, Start, a01, field, records, request, run, wait};

/// Sends messages of its own over `connections` connections, one after the other, until each connection is gone or
/// `per_connection` are answered. Returns the control ids that were answered AA.
fn send(server: &Server, run: &str, connections: usize, per_connection: usize) -> BTreeSet<String> {
    let acked = Arc::new(Mutex::new(BTreeSet::new()));
    std::thread::scope(|scope| {
        for connection in 0..connections {
            let acked = Arc::clone(&acked);
            let address = server.mllp;
            scope.spawn(move || {
                let Ok(stream) = std::net::TcpStream::connect(address) else { return };
                let mut mllp = Mllp::over(stream);
                for n in 0..per_connection {
                    let id = format!("{run}.{connection}.{n}");
                    if !mllp.try_send(&a01(&id)) {
                        return;
                    }
                    let Some(ack) = mllp.try_answer() else { return };
                    assert_eq!((field(&ack, "MSA", 1), field(&ack, "MSA", 2)), ("AA".to_owned(), id.clone()));
                    acked.lock().unwrap().insert(id);
                }
            });
        }
    });
    Arc::try_unwrap(acked).unwrap().into_inner().unwrap()
}

/// An A01 with so many bytes more, in a segment that nobody reads.
fn padded(id: &str, bytes: usize) -> String {
    format!("{}ZZZ|{}\r", a01(id), "x".repeat(bytes))
}

/// How often each control id stands in the log.
fn kept(folder: &TempDir) -> BTreeMap<String, usize> {
    let mut kept = BTreeMap::new();
    for body in records(&folder.path().join("data")) {
        let body = String::from_utf8(body).unwrap();
        *kept.entry(field(&body, "MSH", 9)).or_default() += 1;
    }
    kept
}

/// How often the fold has applied each control id, once it has read all there is.
fn applied(server: &Server, key: &str, ids: &BTreeSet<String>) -> BTreeMap<String, usize> {
    let http = server.http.unwrap();
    wait("the fold to catch up", 60, || {
        let census = request(http, "GET", "/api/census", &[("x-api-key", key)], b"");
        let census: Value = serde_json::from_slice(&census.body).ok()?;
        (census["lag"] == 0).then_some(())
    });
    let mut applied = BTreeMap::new();
    for id in ids {
        let path = format!("/api/messages?control_id={id}");
        let answer = request(http, "GET", &path, &[("x-api-key", key)], b"");
        let found: Value = serde_json::from_slice(&answer.body).unwrap();
        let effects = found["messages"]
            .as_array()
            .unwrap_or_else(|| panic!("{found}"))
            .iter()
            .filter(|message| matches!(message["status"].as_str(), Some("applied" | "findings")))
            .count();
        applied.insert(id.clone(), effects);
    }
    applied
}

/// After a crash: everything that was answered is there once; sent again as a sender does, it has one effect.
fn check(folder: &TempDir, acked: &BTreeSet<String>, sent: &BTreeSet<String>, key: &str) {
    let before = kept(folder);
    for id in acked {
        assert_eq!(before.get(id), Some(&1), "{id} was acknowledged");
    }
    let server = Server::start(folder, &Start::default());
    let mut mllp = server.connect();
    for id in sent.difference(acked) {
        assert_eq!(field(&mllp.ask(&a01(id)), "MSA", 1), "AA");
    }
    for (id, effects) in applied(&server, key, sent) {
        assert_eq!(effects, 1, "{id} is applied once");
    }
    server.stop();
}

#[test]
fn at_each_failpoint_nothing_acknowledged_is_lost_and_nothing_is_applied_twice() {
    // At the start the doors' own rows are committed: `commit` is hit later than that.
    for (name, count) in
        [("accept", 41), ("append", 23), ("ack", 37), ("read", 9), ("apply", 7), ("commit", 14)]
    {
        let folder = tempdir().unwrap();
        let key = {
            let server = Server::start(&folder, &Start::default());
            let key = server.key("reader", "admin");
            server.stop();
            key
        };
        let plan = format!("{name}:{count}");
        let environment = [("HILUM_FAILPOINT", plan.as_str())];
        let mut server = Server::start(&folder, &Start { environment: &environment, ..Start::default() });
        let acked = send(&server, name, 4, 200);
        let status = server.ended(20);
        let said = server.said();
        drop(server);
        assert!(
            !status.success() && said.contains(&format!("failpoint {name} fired")),
            "{name}: {status} {said}"
        );
        let sent: BTreeSet<String> = (0..4)
            .flat_map(|c| (0..10).map(move |n| format!("{name}.{c}.{n}")))
            .chain(acked.clone())
            .collect();
        check(&folder, &acked, &sent, &key);
    }
}

#[test]
fn a_plan_that_names_no_place_is_refused() {
    let folder = tempdir().unwrap();
    let environment = [("HILUM_FAILPOINT", "appendix:1")];
    assert!(Server::try_start(&folder, &Start { environment: &environment, ..Start::default() }).is_none());
    let said = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
    assert!(said.contains("appendix") && said.contains("accept, append, ack"), "{said}");
}

#[test]
fn killed_at_random_nothing_acknowledged_is_lost() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let key = server.key("reader", "admin");
    server.stop();
    let mut acked = BTreeSet::new();
    let mut sent = BTreeSet::new();
    for round in 0..6_u64 {
        let mut server = Server::start(&folder, &Start::default());
        let pid = server.pid().to_string();
        let kill = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(40 + 97 * round % 211));
            Command::new("kill").args(["-9", &pid]).status().unwrap();
        });
        let run = format!("R{round}");
        let now = send(&server, &run, 8, 500);
        kill.join().unwrap();
        server.ended(10);
        sent.extend(now.iter().cloned());
        acked.extend(now);
    }
    assert!(acked.len() > 20, "only {} were acknowledged in all rounds", acked.len());
    // A hundred of them are asked for one by one.
    let step = (sent.len() / 100).max(1);
    let some: BTreeSet<String> = sent.iter().step_by(step).cloned().collect();
    let before = kept(&folder);
    for id in &acked {
        assert_eq!(before.get(id), Some(&1), "{id} was acknowledged");
    }
    check(&folder, &some, &some, &key);
}

#[test]
fn a_disk_that_takes_nothing_more_is_never_answered_aa() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let key = server.key("his", "feed");
    let reader = server.key("reader", "admin");
    server.stop();
    // The largest file that this server may write: the log meets it first. The signal is ignored, so that the write
    // fails as on a full disk.
    let start = Start { file_kib_max: Some(1_536), ..Start::default() };
    let server = Server::start(&folder, &start);
    let mut acked = BTreeSet::new();
    let mut refused = None;
    let mut mllp = server.connect();
    for n in 0..2_000 {
        let id = format!("full.{n}");
        let body = padded(&id, 4_000);
        mllp.send(&body);
        if let Some(ack) = mllp.try_answer() {
            assert_eq!(field(&ack, "MSA", 1), "AA");
            acked.insert(id);
        } else {
            refused = Some(body);
            break;
        }
    }
    let refused = refused.expect("the disk took 8 MB");
    assert!(acked.len() > 10, "{} before it was full", acked.len());
    // Closed without an answer, again and again; over HTTP 503 and when to try again.
    let mut again = server.connect();
    again.send(&refused);
    assert_eq!(again.try_answer(), None);
    let http = server.http.unwrap();
    let headers = [("x-api-key", key.as_str()), ("content-type", "application/hl7-v2")];
    let answer = request(http, "POST", "/hl7v2", &headers, refused.as_bytes());
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert_eq!(field(&answer.text(), "MSA", 1), "AE");
    assert!(field(&answer.text(), "ERR", 3).starts_with("207"));
    let ready = request(http, "GET", "/readyz", &[], b"");
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(ready.text().contains("read-only"), "{}", ready.text());
    drop(server);

    // With room again, after a restart.
    let before = kept(&folder);
    for id in &acked {
        assert_eq!(before.get(id), Some(&1), "{id} was acknowledged");
    }
    let server = Server::start(&folder, &Start::default());
    assert_eq!(field(&server.connect().ask(&refused), "MSA", 1), "AA");
    let last: BTreeSet<String> = acked.iter().next_back().cloned().into_iter().collect();
    for (id, effects) in applied(&server, &reader, &last) {
        assert_eq!(effects, 1, "{id}");
    }
}

#[test]
fn a_disk_that_takes_no_more_rows_is_not_ready_and_says_so() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let reader = server.key("reader", "admin");
    let data = server.data.clone();
    server.stop();
    // One at a time, small messages: the tables write more than the log, and their file meets the bound first.
    let server = Server::start(&folder, &Start { file_kib_max: Some(1_536), ..Start::default() });
    let http = server.http.unwrap();
    let ready = || {
        let answer = request(http, "GET", "/readyz", &[], b"");
        (answer.status, serde_json::from_slice::<Value>(&answer.body).unwrap())
    };
    let mut mllp = server.connect();
    let mut acked = BTreeSet::new();
    let said = (0..2_000).find_map(|n| {
        let id = format!("rows.{n}");
        assert_eq!(field(&mllp.ask(&a01(&id)), "MSA", 1), "AA", "the log takes it all the same");
        acked.insert(id);
        std::thread::sleep(Duration::from_millis(20));
        Some(ready())
            .filter(|(status, said)| *status == 503 && said["state"] == "read-only")
            .map(|(_, said)| said)
    });
    let said = said.expect("the disk took 1.5 MB of rows");
    assert!(said["why"].as_str().unwrap().starts_with("tables are read-only after a disk error"), "{said}");
    let metrics = request(http, "GET", "/metrics", &[], b"").text();
    assert!(metrics.contains("hilum_read_only 1"), "{metrics}");
    let doctor = run(&["doctor", "--json", "--data", data.to_str().unwrap()]);
    assert_eq!(doctor.status.code(), Some(1));
    let findings: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let of = |cause: &str| findings.as_array().unwrap().iter().find(|one| one["cause"] == cause).cloned();
    let paused = of("read-only").unwrap_or_else(|| panic!("{findings}"));
    assert!(paused["remedy"].as_str().unwrap().contains("mend the disk, then restart"), "{paused}");
    drop((mllp, server));

    // With room again, after a restart: all of it.
    let server = Server::start(&folder, &Start::default());
    for (id, effects) in applied(&server, &reader, &acked) {
        assert_eq!(effects, 1, "{id}");
    }
}

#[test]
fn on_transient_says_what_a_fault_of_ours_is_answered() {
    for (setting, code) in [("AR", "AR"), ("AE", "AE")] {
        let folder = tempdir().unwrap();
        let config = format!("[sources.default]\non_transient = \"{setting}\"\n");
        let server =
            Server::start(&folder, &Start { config: &config, file_kib_max: Some(1_024), ..Start::default() });
        let mut mllp = server.connect();
        let answered = (0..2_000).find_map(|n| {
            let ack = mllp.ask(&padded(&format!("T{n}"), 4_000));
            (field(&ack, "MSA", 1) != "AA").then_some(ack)
        });
        let ack = answered.expect("the disk took 8 MB");
        assert_eq!(field(&ack, "MSA", 1), code);
        assert!(field(&ack, "ERR", 3).starts_with("207"), "{ack}");
        assert_eq!(field(&mllp.ask(&a01("NEXT")), "MSA", 1), code, "the connection stays");
    }
}

static MOUNTS: AtomicUsize = AtomicUsize::new(0);

/// A small volume of its own, where this machine lets us mount one.
struct Volume(TempDir);

impl Volume {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempdir().unwrap();
        MOUNTS.fetch_add(1, Ordering::Relaxed);
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(folder.path())
            .output()
            .ok()?;
        done.status.success().then(|| Self(folder))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

#[test]
fn in_the_disk_reserve_nothing_is_read_until_there_is_room() {
    let Some(volume) = Volume::mount("64m") else {
        eprintln!("no volume can be mounted here: the disk reserve is held by the log's own tests");
        return;
    };
    let server = Server::start(&volume.0, &Start::default());
    let http = server.http.unwrap();
    let key = server.key("his", "feed");
    let headers = [("x-api-key", key.as_str()), ("content-type", "application/hl7-v2")];
    assert_eq!(field(&server.connect().ask(&a01("BEFORE")), "MSA", 1), "AA");
    let ballast = volume.0.path().join("ballast");
    let free_kib = || {
        let out = Command::new("df").args(["--output=avail", "-k"]).arg(volume.0.path()).output().unwrap();
        String::from_utf8(out.stdout).unwrap().lines().nth(1).unwrap().trim().parse::<usize>().unwrap()
    };
    std::fs::write(&ballast, vec![0_u8; (free_kib() - 2_500) << 10]).unwrap();
    wait("the log to notice", 10, || (request(http, "GET", "/readyz", &[], b"").status == 503).then_some(()));
    let mut mllp = server.connect();
    mllp.send(&a01("HELD"));
    mllp.stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(std::io::Read::read(&mut mllp.stream, &mut [0; 1]).is_err(), "neither answered nor closed");
    let answer = request(http, "POST", "/hl7v2", &headers, a01("HTTP").as_bytes());
    assert_eq!(answer.status, 503, "{}", answer.text());
    std::fs::remove_file(&ballast).unwrap();
    mllp.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(field(&mllp.answer(), "MSA", 2), "HELD", "read when there was room");
    let data = server.data.clone();
    server.stop();
    assert_eq!(records(&data).len(), 2);
}
