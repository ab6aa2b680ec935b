//! `hilum demo --cluster`, as somebody who tries it out does.

use std::path::Path;
use std::process::Stdio;

use tempfile::tempdir;

use crate::server::{hilum, request, wait};

/// The process that the demonstration names `name`.
fn pid_of(said: &str, name: &str) -> u32 {
    let line = said.lines().find(|line| line.trim_start().starts_with(&format!("{name} "))).expect("a line");
    line.split_whitespace().nth(2).unwrap().parse().unwrap()
}

fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn the_cluster_lives_through_a_kill_and_ends_with_all_that_it_started() {
    let folder = tempdir().unwrap();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let mut demo = hilum()
        .args([
            "demo",
            "--cluster",
            "--no-browser",
            "--pace",
            "0.2",
            "--patients",
            "10",
            "--http",
            "127.0.0.1:0",
        ])
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(&out).unwrap();
    let first = wait("it lives", 180, || {
        assert!(demo.try_wait().unwrap().is_none(), "{}", std::fs::read_to_string(&err).unwrap());
        Some(said()).filter(|said| said.contains("Now it lives"))
    });
    let names = ["gateway-1", "gateway-2", "worker-1", "worker-2", "worker-3", "reader-1", "reader-2"];
    let pids: Vec<u32> = names
        .iter()
        .chain(&["broker-1", "broker-2", "broker-3", "postgresql"])
        .map(|name| pid_of(&first, name))
        .collect();
    assert!(pids.iter().all(|&pid| runs(pid)));
    let (_, link) = first.split_once("http://").unwrap();
    let (address, path) = link.split_whitespace().next().unwrap().split_once('/').unwrap();
    let page = || request(address.parse().unwrap(), "GET", &format!("/{path}"), &[], b"");
    // Both readers, in turn.
    for _ in 0..2 {
        let page = page();
        assert!(page.status == 200 && page.text().contains("demo"), "{}", page.text());
    }

    for name in ["gateway-1", "reader-1"] {
        let killed =
            std::process::Command::new("kill").args(["-9", &pid_of(&first, name).to_string()]).status();
        assert!(killed.unwrap().success());
    }
    let again = ["gateway-1 runs, pid", "reader-1 runs, pid"];
    wait("both run again", 90, || again.iter().all(|line| said().contains(line)).then_some(()));
    assert_eq!(page().status, 200);
    let answered = said().matches("→ AA").count();
    wait("the hospital goes on", 60, || (said().matches("→ AA").count() > answered + 3).then_some(()));

    let place = first.lines().find_map(|line| line.trim().strip_prefix("Data ")).unwrap().trim().to_owned();
    let asked = std::process::Command::new("kill").args(["-INT", &demo.id().to_string()]).status();
    assert!(asked.unwrap().success());
    let status = wait("its end", 60, || demo.try_wait().unwrap());
    assert!(status.success(), "{status}: {}", std::fs::read_to_string(&err).unwrap());
    assert!(!Path::new(&place).exists(), "{place} is removed");
    let left: Vec<u32> = pids.into_iter().filter(|&pid| runs(pid)).collect();
    assert!(left.is_empty(), "{left:?} run on");
}
