//! Brokers that are gone or full: nothing is acknowledged that they do not keep, and it goes on by itself.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hilum_testkit::kafka::Kafka;
use hilum_testkit::postgres::Postgres;
use serde_json::Value;
use tempfile::tempdir;

use crate::many::{config, patients, send, state};
use crate::server::{Server, Start, a01, field, request, wait};

/// Sends `ids` as a sender does whose queue keeps what is not acknowledged, until all of them are.
fn insist(server: &Server, ids: std::ops::Range<u32>) -> BTreeSet<u32> {
    let mut acknowledged = BTreeSet::new();
    let until = Instant::now() + Duration::from_mins(2);
    for id in ids {
        loop {
            assert!(Instant::now() < until, "M{id} is not acknowledged; {acknowledged:?} are");
            let mut mllp = server.connect();
            let is_sent = mllp.try_send(&a01(&format!("M{id}")));
            if let Some(ack) = is_sent.then(|| mllp.try_answer()).flatten() {
                assert_eq!(field(&ack, "MSA", 1), "AA", "{ack}");
                acknowledged.insert(id);
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    acknowledged
}

/// How often each message had an effect.
fn effects(server: &Server, key: &str, ids: impl Iterator<Item = u32>) -> Vec<(u32, usize)> {
    let effects = |id: u32| {
        let path = format!("/api/messages?control_id=M{id}");
        let answer = request(server.http.unwrap(), "GET", &path, &[("x-api-key", key)], b"");
        let found: Value = serde_json::from_slice(&answer.body).unwrap();
        let messages = found["messages"].as_array().unwrap().clone();
        (id, messages.iter().filter(|one| one["status"] != "duplicate").count())
    };
    ids.map(effects).collect()
}

fn none_is_lost(server: &Server, key: &str, acknowledged: &BTreeSet<u32>) {
    let wrong: Vec<_> =
        effects(server, key, acknowledged.iter().copied()).into_iter().filter(|(_, n)| *n != 1).collect();
    assert!(wrong.is_empty(), "each acknowledged one has one effect: {wrong:?}");
}

/// One of three brokers gone: nobody notices. Two: a record would stand on one machine alone, so nothing is acknowledged,
/// the connection closes, HTTP is 503, the chart is shown. Back: it goes on, each message once.
#[test]
fn two_of_three_brokers_gone_shut_the_doors_until_they_are_back() {
    let (kafka, postgres) = (Kafka::start(3, &[]), Postgres::shared());
    let config = config(&kafka, postgres).replace("\"fsync\"", "\"replicated\"");
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start { config: &config, ..Start::default() });
    let (viewer, feed) = (server.key("viewer", "viewer"), server.key("feed", "feed"));
    send(&server, 0..5);
    kafka.kill(3);
    // At the first try: nobody notices.
    send(&server, 5..10);
    wait("ten are shown", 60, || (patients(&server, &viewer) == 10).then_some(()));

    kafka.kill(2);
    let mut mllp = server.connect();
    mllp.send(&a01("M10"));
    assert_eq!(mllp.try_answer(), None, "neither AA nor anything else");
    let post = || {
        let headers = [("x-api-key", &*feed), ("content-type", "application/hl7-v2")];
        request(server.http.unwrap(), "POST", "/hl7v2", &headers, a01("M11").as_bytes())
    };
    let refused = post();
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some(), "{}", refused.head);
    let (status, said) = wait("it is said", 40, || Some(state(&server)).filter(|(status, _)| *status == 503));
    assert_eq!((status, said["state"].as_str()), (503, Some("read-only")), "{said}");
    assert!(patients(&server, &viewer) >= 10, "the chart is shown");

    kafka.restart(2);
    wait("ready again", 90, || (state(&server).0 == 200).then_some(()));
    let acknowledged = insist(&server, 10..15);
    kafka.restart(3);
    assert_eq!(post().status, 200);
    wait("all fifteen", 60, || (patients(&server, &viewer) == 15).then_some(()));
    none_is_lost(&server, &viewer, &(0..10).chain(acknowledged).collect());
    server.stop();
}

/// Runs a command that takes root, by `sudo` where we are not.
fn as_root(command: &[&str]) -> Result<(), String> {
    let mut said = Vec::new();
    for by in [&[][..], &["sudo", "-n"]] {
        let whole = [by, command].concat();
        match Command::new(whole[0]).args(&whole[1..]).output() {
            Ok(done) if done.status.success() => return Ok(()),
            Ok(done) => said.push(String::from_utf8_lossy(&done.stderr).into_owned()),
            Err(why) => said.push(format!("{}: {why}", whole[0])),
        }
    }
    Err(said.join("; "))
}

/// A small volume of its own. A machine that lets nobody mount one has not what this takes: that is no success.
struct Volume(tempfile::TempDir);

impl Volume {
    fn mount(size: &str) -> Self {
        let folder = tempdir().unwrap();
        let place = folder.path().display().to_string();
        let mount = ["mount", "-t", "tmpfs", "-o", &format!("size={size}"), "none", &place];
        as_root(&mount)
            .unwrap_or_else(|said| panic!("a volume for a broker's full disk needs root, or sudo: {said}"));
        Self(folder)
    }

    fn free_kib(&self) -> usize {
        let out = Command::new("df").args(["--output=avail", "-k"]).arg(self.path()).output().unwrap();
        String::from_utf8(out.stdout).unwrap().lines().nth(1).unwrap().trim().parse().unwrap()
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        as_root(&["umount", "-l", &self.path().display().to_string()]).ok();
    }
}

/// A broker whose disk is full stops: nothing is acknowledged that it does not keep; with room, and the broker started
/// again, it goes on, and whatever was acknowledged is there once.
#[test]
fn a_broker_whose_disk_is_full_keeps_what_was_acknowledged() {
    let volume = Volume::mount("160m");
    let dirs = format!("log.dirs={}", volume.path().join("data").display());
    let (kafka, postgres) = (Kafka::start(1, &[&dirs]), Postgres::shared());
    let config = config(&kafka, postgres);
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start { config: &config, ..Start::default() });
    let viewer = server.key("viewer", "viewer");
    send(&server, 0..5);
    let ballast = volume.path().join("ballast");
    std::fs::write(&ballast, vec![0_u8; volume.free_kib().saturating_sub(64) << 10]).unwrap();
    // Large ones, until one is not acknowledged.
    let mut acknowledged: BTreeSet<u32> = (0..5).collect();
    let refused = (5..60).find(|id| {
        let mut mllp = server.connect();
        let large = format!("{}ZZZ|{}\r", a01(&format!("M{id}")), "x".repeat(200_000));
        mllp.send(&large);
        let answer = mllp.try_answer();
        if let Some(ack) = &answer {
            assert_eq!(field(ack, "MSA", 1), "AA", "{ack}");
            acknowledged.insert(*id);
        }
        answer.is_none()
    });
    let refused = refused.expect("the broker's disk took 11 MB of 64 KiB");
    let (status, said) = wait("it is said", 60, || Some(state(&server)).filter(|(status, _)| *status == 503));
    assert_eq!((status, said["state"].as_str()), (503, Some("read-only")), "{said}");

    std::fs::remove_file(&ballast).unwrap();
    // It has ended by itself, or an operator ends it.
    if !kafka.running().is_empty() {
        kafka.kill(1);
    }
    kafka.restart(1);
    wait("ready again", 90, || (state(&server).0 == 200).then_some(()));
    acknowledged.extend(insist(&server, refused..refused + 3));
    wait("all of them", 60, || (patients(&server, &viewer) >= acknowledged.len()).then_some(()));
    none_is_lost(&server, &viewer, &acknowledged);
    server.stop();
}
