//! Start, stop, and the commands beside a running server.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::tempdir;

use crate::server::{Mllp, Server, Start, a01, add_account, field, frame, hilum, records, request, run};

#[test]
fn a_second_server_is_refused_by_name() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let data = server.data.to_str().unwrap();
    let out = run(&["serve", "--data", data, "--http", "127.0.0.1:0", "--mllp", "127.0.0.1:0"]);
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success());
    assert!(said.contains(data) && said.contains(&format!("hilum serve, pid {}", server.pid())), "{said}");
    assert_eq!(field(&server.connect().ask(&a01("STILL")), "MSA", 1), "AA");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = folder.path().join("data");
    let out = run(&["serve", "--data", data.to_str().unwrap(), "--http", "127.0.0.1:0", "--mllp", &address]);
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success() && said.contains("mllp.listen") && said.contains(&address), "{said}");
}

#[test]
fn keys_and_users_are_made_while_it_runs_and_while_it_does_not() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let data = server.data.to_str().unwrap().to_owned();
    let key = server.key("running", "feed");
    assert!(key.starts_with("hlm_"), "{key}");
    let again = run(&["keys", "add", "running", "--role", "feed", "--data", &data]);
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && said.contains("`running`"), "{said}");
    add_account(&data, "hana", "operator");
    server.stop();

    let out = run(&["keys", "add", "stopped", "--role", "viewer", "--data", &data]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let out = run(&["keys", "list", "--json", "--data", &data]);
    let keys: Value = serde_json::from_slice(&out.stdout).unwrap();
    let mut names: Vec<_> =
        keys.as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["running", "stopped"]);
    let text = String::from_utf8(run(&["keys", "list", "--data", &data]).stdout).unwrap();
    assert!(!text.contains(&key), "a key is shown once");
    let users = run(&["users", "list", "--data", &data]);
    assert!(String::from_utf8(users.stdout).unwrap().contains("hana"));
    assert!(run(&["users", "disable", "hana", "--data", &data]).status.success());

    let server = Server::start(&folder, &Start::default());
    let headers = [("x-api-key", key.as_str()), ("content-type", "application/hl7-v2")];
    assert_eq!(request(server.http.unwrap(), "POST", "/hl7v2", &headers, a01("K").as_bytes()).status, 200);
}

#[test]
fn sigterm_answers_what_was_taken_and_ends() {
    let folder = tempdir().unwrap();
    let mut server = Server::start(&folder, &Start::default());
    let mut mllp = server.connect();
    let mut idle = server.connect();
    assert_eq!(field(&idle.ask(&a01("IDLE")), "MSA", 1), "AA");
    let count = 300;
    let all: Vec<u8> = (0..count).flat_map(|n| frame(a01(&format!("D{n}")).as_bytes())).collect();
    mllp.write(&all);
    let mut answered = vec![field(&mllp.answer(), "MSA", 2)];
    server.signal("TERM");
    while let Some(ack) = mllp.try_answer() {
        assert_eq!(field(&ack, "MSA", 1), "AA");
        answered.push(field(&ack, "MSA", 2));
    }
    assert_eq!(idle.try_answer(), None);
    let status = server.ended(20);
    assert!(status.success(), "{status}");
    let kept = records(&server.data);
    for id in &answered {
        assert!(kept.iter().any(|body| body == a01(id).as_bytes()), "{id} was answered");
    }
    assert!(kept.len() <= answered.len() + 1, "{} kept, {} answered", kept.len(), answered.len());
}

#[test]
fn files_are_imported_once_beside_a_server_and_without_one() {
    let folder = tempdir().unwrap();
    let inside = folder.path().join("files");
    std::fs::create_dir(&inside).unwrap();
    let many: String = (0..500).map(|n| a01(&format!("F{n}"))).collect();
    std::fs::write(inside.join("many.hl7"), &many).unwrap();
    std::fs::write(inside.join("lf.txt"), a01("LF").replace('\r', "\n")).unwrap();
    std::fs::write(inside.join("notes.md"), "no message").unwrap();
    let server = Server::start(&folder, &Start::default());
    let data = server.data.to_str().unwrap().to_owned();
    let import = |json: bool| {
        let mut arguments = vec!["import", "hl7", inside.to_str().unwrap(), "--data", &data];
        arguments.extend(json.then_some("--json"));
        let out = run(&arguments);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    };
    let first: Value = serde_json::from_slice(&import(true)).unwrap();
    assert_eq!((&first["messages"], &first["filesDone"]), (&501.into(), &2.into()), "{first}");
    server.stop();
    let again: Value = serde_json::from_slice(&import(true)).unwrap();
    assert_eq!((&again["messages"], &again["filesSkipped"]), (&0.into(), &2.into()), "{again}");
    std::fs::write(inside.join("more.er7"), a01("MORE")).unwrap();
    let more = String::from_utf8(import(false)).unwrap();
    assert!(more.contains("1 messages of 1 files"), "{more}");
    assert_eq!(records(std::path::Path::new(&data)).len(), 502);
    let out = run(&["import", "hl7", "/nowhere/at/all", "--data", &data]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("/nowhere/at/all"));
}

#[test]
fn the_ready_file_comes_when_the_doors_accept() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    assert_ne!(server.mllp.port(), 0);
    let answer = request(server.http.unwrap(), "GET", "/healthz", &[], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    crate::server::wait("readiness", 20, || {
        (request(server.http.unwrap(), "GET", "/readyz", &[], b"").status == 200).then_some(())
    });
    std::thread::sleep(Duration::from_millis(10));
}

#[test]
fn the_ready_file_names_every_listener() {
    let folder = tempdir().unwrap();
    let config = "[mllp]\nlisteners = { ed = \"127.0.0.1:0\", icu = \"127.0.0.1:0\" }\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let text = std::fs::read(folder.path().join("ready")).unwrap();
    let ready: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(ready["listeners"].as_object().unwrap().len(), 2, "{ready}");
    for name in ["ed", "icu"] {
        let address = ready["listeners"][name].as_str().unwrap().parse().unwrap();
        assert_eq!(field(&Mllp::new(address).ask(&a01(name)), "MSA", 1), "AA", "{ready}");
    }
    server.stop();
}

#[test]
fn a_data_folder_that_is_not_there_is_not_well() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (path, what) in [(folder.path().join("typo"), "is not there"), (file, "is no folder")] {
        let out = run(&["doctor", "--json", "--data", path.to_str().unwrap()]);
        assert_eq!(out.status.code(), Some(1), "{what}");
        let findings: Value = serde_json::from_slice(&out.stdout).unwrap();
        let bad = findings.as_array().unwrap().iter().find(|one| one["level"] == "bad").unwrap();
        assert!(bad["found"].as_str().unwrap().ends_with(what), "{bad}");
    }
    assert!(!folder.path().join("typo").exists());
}

#[test]
fn of_nothing_there_is_no_figure() {
    for arguments in [&["bench", "parse", "--messages", "0"][..], &["bench", "send", "--connections", "0"]] {
        let out = run(arguments);
        assert_eq!(out.status.code(), Some(2));
        let error = String::from_utf8(out.stderr).unwrap();
        assert!(error.contains(arguments[2]) && error.contains("at least 1"), "{error}");
    }
}

#[test]
fn a_password_that_is_refused_says_why() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let data = server.data.to_str().unwrap();
    for (password, why) in [
        ("short".to_owned(), "at least 12 characters"),
        ("x".repeat(1_025), "at most 1024 bytes"),
        (" ".repeat(12), "blanks alone"),
        ("\u{3000}\u{200B}".repeat(7), "blanks alone"),
    ] {
        let mut add = hilum()
            .args(["users", "add", "hana", "--role", "viewer", "--data", data])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        add.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
        let out = add.wait_with_output().unwrap();
        let error = String::from_utf8(out.stderr).unwrap();
        assert!(!out.status.success() && error.contains(why), "{why}: {error}");
    }
    add_account(data, "hana", "viewer");
    server.stop();
}

#[test]
fn a_file_without_a_message_is_an_error_that_names_it_and_holds_up_no_other() {
    let folder = tempdir().unwrap();
    let files = folder.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let write = |name: &str, text: &str| {
        let path = files.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let no_message = write("1-letter.txt", "Dear Kim,");
    let empty = write("2-empty.hl7", "");
    write("3-good.hl7", &a01("GOOD"));
    write("4-batch.hl7", "FHS|^~\\&\rBHS|^~\\&\rBTS|0\rFTS|1\r");
    let file_alone = write("5-file.hl7", "FHS|^~\\&\rFTS|0\r");
    let data = folder.path().join("data").to_str().unwrap().to_owned();
    let server = Server::start(&folder, &Start::default());
    let import = |paths: &[&str], more: &[&str]| {
        let out = run(&[&["import", "hl7"], paths, more, &["--data", &data]].concat());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (out.status.code(), text(out.stdout), text(out.stderr))
    };
    let all = files.to_str().unwrap();
    let (code, said, error) = import(&[all], &["--json"]);
    assert_eq!(code, Some(1), "{said} {error}");
    let done: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&done["messages"], &done["filesWithoutMessage"]), (&1.into(), &2.into()), "{done}");
    for told in ["2 of 5 files", no_message.as_str(), empty.as_str(), "MSH|^~\\&|", "compressed"] {
        assert!(error.contains(told), "{told}: {error}");
    }
    // What was in the others is there, an empty batch is no mistake; and asking again says it again.
    assert!(!error.contains("good") && !error.contains("batch.hl7") && !error.contains("Kim"), "{error}");
    let (code, said, error) = import(&[all], &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.starts_with("0 messages of 0 files") && said.contains("3 files were there already"),
        "{said}"
    );
    assert!(said.contains("9 bytes belong to no message") && error.contains(&no_message), "{said} {error}");
    assert_eq!(import(&[&file_alone], &[]).0, Some(0));
    server.stop();
    assert_eq!(import(&[&empty], &[]).0, Some(1), "without a server too");
}
