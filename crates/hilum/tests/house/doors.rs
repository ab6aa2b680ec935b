//! Doors that do not hold each other up, answers that say what is wrong, and what is written down about it.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::tempdir;

use crate::server::{Answer, Server, Start, a01, add_account, field, hilum, request, run, wait};

const HL7: (&str, &str) = ("content-type", "application/hl7-v2");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("content-type", "application/json");

/// A JSON answer as somebody with `key` gets it.
fn get(server: &Server, key: &str, path: &str) -> Value {
    let answer = request(server.http.unwrap(), "GET", path, &[("x-api-key", key)], b"");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// Begins a body of `size` bytes with `key`, sends all of it but its end, and keeps it open. One beyond a bound is answered
/// and closed before it is whole.
fn unfinished(server: &Server, key: &str, size: usize) -> TcpStream {
    let http = server.http.unwrap();
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = format!(
        "POST /hl7v2 HTTP/1.1\r\nhost: {http}\r\nx-api-key: {key}\r\ncontent-type: application/hl7-v2\r\n\
         content-length: {size}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b'x'; size - (size >> 4)]).ok();
    stream
}

/// Sends a message of nearly `size` bytes with `key`.
fn send_large(server: &Server, key: &str, size: usize) -> Answer {
    let body = [a01("L").as_bytes(), &vec![b'x'; size - (size >> 4)]].concat();
    request(server.http.unwrap(), "POST", "/hl7v2", &[("x-api-key", key), HL7], &body)
}

/// Opens bodies of `size` with all of `keys`, until one message more of `asking` is not taken. However slow the machine
/// is, and however many of them the server has given up meanwhile: there are always new ones.
fn fill(server: &Server, keys: &[String], size: usize, asking: &str) -> (Vec<TcpStream>, Answer) {
    let mut open = Vec::new();
    let at_once = if size > 1 << 20 { 1 } else { 10 };
    let full = wait("the bound is reached", 60, || {
        for key in keys {
            open.extend((0..at_once).map(|_| unfinished(server, key, size)));
        }
        let answer = send_large(server, asking, size);
        (answer.status == 503).then_some(answer)
    });
    (open, full)
}

const SMALL: usize = 64 << 10;
const LARGE: usize = 15 << 20;

#[test]
fn bodies_that_never_end_hold_up_no_other_sender() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let (his, other) = (server.key("his", "feed"), server.key("other", "feed"));
    for size in [LARGE, SMALL] {
        let (open, full) = fill(&server, std::slice::from_ref(&his), size, &his);
        assert_eq!(full.header("retry-after").as_deref(), Some("5"));
        assert_eq!(field(&full.text(), "MSA", 1), "AE");
        // With another key messages of any size come in all the same.
        for size in [SMALL, LARGE] {
            let answer = send_large(&server, &other, size);
            assert_eq!((answer.status, field(&answer.text(), "MSA", 1)), (200, "AA".to_owned()));
        }
        // Whoever gives up gives its bytes back.
        drop(open);
        wait("room again", 30, || (send_large(&server, &his, size).status == 200).then_some(()));
    }
}

#[test]
fn large_bodies_of_all_keys_are_bounded_and_leave_small_messages_their_way() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let keys: Vec<String> = (0..3).map(|n| server.key(&format!("his-{n}"), "feed")).collect();
    let other = server.key("other", "feed");
    let (open, full) = fill(&server, &keys, LARGE, &other);
    assert_eq!(full.header("retry-after").as_deref(), Some("5"));

    // Small messages come in by both doors all the same.
    let from = Instant::now();
    let mut mllp = server.connect();
    for n in 0..16 {
        assert_eq!(field(&mllp.ask(&a01(&format!("M{n}"))), "MSA", 1), "AA");
    }
    let headers = [("x-api-key", other.as_str()), HL7];
    let answer = request(server.http.unwrap(), "POST", "/hl7v2", &headers, a01("H").as_bytes());
    assert_eq!((answer.status, field(&answer.text(), "MSA", 1)), (200, "AA".to_owned()));
    let took = from.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(open);
    wait("room again", 30, || (send_large(&server, &other, LARGE).status == 200).then_some(()));
}

#[test]
fn many_small_bodies_that_never_end_are_bounded_too() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let keys: Vec<String> = (0..5).map(|n| server.key(&format!("his-{n}"), "feed")).collect();
    let other = server.key("other", "feed");
    let (open, full) = fill(&server, &keys, SMALL, &other);
    assert!(open.len() > 500, "32 MiB are {} of them", open.len());
    assert_eq!(full.header("retry-after").as_deref(), Some("5"));
    assert_eq!(field(&full.text(), "MSA", 1), "AE");
    assert_eq!(field(&server.connect().ask(&a01("M")), "MSA", 1), "AA", "the other door is open");
    drop(open);
    wait("room again", 30, || (send_large(&server, &other, SMALL).status == 200).then_some(()));
}

#[test]
fn what_is_wrong_with_a_request_is_said_by_name() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let http = server.http.unwrap();
    let key = server.key("all", "admin");
    let key = ("x-api-key", key.as_str());
    let text = ("content-type", "text/plain");
    let gzip = ("content-encoding", "gzip");
    let cases: &[(&str, &str, &str, &[(&str, &str)], &[u8], u16, &[&str])] = &[
        (
            "status",
            "GET",
            "/api/messages?status=x",
            &[key],
            b"",
            400,
            &["status takes: applied, ", "quarantined"],
        ),
        ("number", "GET", "/api/messages?limit=abc", &[key], b"", 400, &["limit takes: a number"]),
        ("id", "GET", "/api/messages?patient=Kim", &[key], b"", 400, &["patient takes: an id"]),
        ("time", "GET", "/api/messages?before=Kim", &[key], b"", 400, &["before takes: a time"]),
        ("NUL", "GET", "/api/messages?rule=%00", &[key], b"", 400, &["rule takes: text"]),
        ("name", "GET", "/api/messages?statsu=applied", &[key], b"", 400, &["It has: control_id, status"]),
        ("list", "GET", "/api/census?list=x", &[key], b"", 400, &["list takes: inpatient, emergency"]),
        ("encounter status", "GET", "/api/census?status=x", &[key], b"", 400, &["status takes: planned"]),
        (
            "position",
            "GET",
            "/api/census?applied=x",
            &[key],
            b"",
            400,
            &["applied takes: a place in the log"],
        ),
        ("kind of work", "GET", "/api/work?kind=x", &[key], b"", 400, &["kind takes: identity, merge"]),
        ("page", "GET", "/messages?status=x", &[key], b"", 400, &["status takes: applied"]),
        ("typed control id", "GET", "/messages?control_id=Kim", &[key], b"", 400, &["status, source, rule"]),
        ("typed type", "GET", "/messages?kind=Kim", &[key], b"", 400, &["status, source, rule"]),
        (
            "search",
            "POST",
            "/api/patients/_search",
            &[key, JSON],
            b"{}",
            400,
            &["identifier", "birthDate", "body of the request"],
        ),
        (
            "no JSON",
            "POST",
            "/api/patients/_search",
            &[key, JSON],
            b"[",
            400,
            &["identifier", "birthDate", "body of the request"],
        ),
        (
            "no form",
            "POST",
            "/api/patients/_search",
            &[key, FORM],
            b"Kim=1",
            400,
            &["identifier", "body of the request"],
        ),
        ("type", "POST", "/hl7v2", &[key, text], b"Kim", 415, &["application/hl7-v2", "application/json"]),
        ("form", "POST", "/hl7v2", &[key, JSON], b"{\"Kim\":1}", 400, &["one key, message"]),
        ("compressed", "POST", "/hl7v2", &[key, HL7, gzip], b"Kim", 415, &["Content-Encoding identity"]),
        (
            "compressed twice",
            "POST",
            "/api/patients/_search",
            &[key, JSON, ("content-encoding", "identity, br")],
            b"{\"name\":\"Kim\"}",
            415,
            &["Content-Encoding identity"],
        ),
        ("nowhere", "POST", "/api/nowhere", &[key, JSON], b"{}", 404, &["not-found"]),
    ];
    for (why, method, path, headers, body, status, told) in cases {
        let answer = request(http, method, path, headers, body);
        assert_eq!(answer.status, *status, "{why}: {}", answer.text());
        for told in *told {
            assert!(answer.text().contains(told), "{why}: {}", answer.text());
        }
        assert!(!answer.text().contains("Kim"), "{why}: {}", answer.text());
        // Where the value stands is where it is to be corrected.
        let is_sent = *method == "POST";
        assert!(!(is_sent && answer.text().contains("in the address")), "{why}: {}", answer.text());
        assert!(is_sent || answer.text().contains("in the address"), "{why}: {}", answer.text());
    }
    // Nothing of it was kept; and what says that it is itself is taken.
    let plain = ("content-encoding", "identity");
    assert_eq!(request(http, "POST", "/hl7v2", &[key, HL7, plain], a01("P").as_bytes()).status, 200);
    let refused = request(http, "POST", "/hl7v2", &[key, HL7, gzip], b"");
    assert_eq!(refused.header("accept-encoding").as_deref(), Some("identity"));
    server.stop();
    assert_eq!(crate::server::records(&folder.path().join("data")).len(), 1, "that one alone");
}

#[test]
fn what_is_done_beside_the_server_and_who_is_looked_for_is_audited() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let data = server.data.to_str().unwrap().to_owned();
    let admin = server.key("boss", "admin");
    let mut mllp = server.connect();
    for id in ["71", "72"] {
        assert_eq!(field(&mllp.ask(&a01(id).replace("홍^길동", &format!("FAMILY{id}^G"))), "MSA", 1), "AA");
    }
    let found = wait("both on the board", 10, || {
        let census = get(&server, &admin, "/api/census");
        (census["encounters"].as_array().unwrap().len() == 2).then_some(census)
    });
    let of = |name: &str| {
        let lines = found["encounters"].as_array().unwrap();
        let line =
            lines.iter().find(|line| line["patient"]["name"].as_str().unwrap().contains(name)).unwrap();
        line["patientId"].as_str().unwrap().to_owned()
    };
    let form = ("content-type", "application/x-www-form-urlencoded");
    let headers = [("x-api-key", admin.as_str()), form];
    // Without scripts too: the whole page comes by POST, and an address that names somebody is none.
    let answer = request(server.http.unwrap(), "POST", "/census", &headers, b"q=FAMILY71");
    assert_eq!(answer.status, 200);
    let page = answer.text();
    assert!(page.starts_with("<!doctype html>") && page.contains("FAMILY71") && !page.contains("FAMILY72"));
    let answer = request(server.http.unwrap(), "GET", "/census?q=FAMILY71", &headers, b"");
    assert!(answer.status == 400 && !answer.text().contains("FAMILY71"), "{}", answer.text());
    let events = |patient: &str| {
        let audit = get(&server, &admin, &format!("/api/audit?patient={patient}"));
        let events = audit["events"].as_array().unwrap().clone();
        events.iter().filter(|event| event["action"] == "search").count()
    };
    assert_eq!((events(&of("FAMILY71")), events(&of("FAMILY72"))), (1, 0), "who was found, and nobody else");

    // While it runs, and while it does not.
    assert!(run(&["keys", "revoke", "boss", "--data", &data]).status.success());
    server.stop();
    assert!(run(&["keys", "add", "later", "--role", "admin", "--data", &data]).status.success());
    add_account(&data, "hana", "operator");
    let server = Server::start(&folder, &Start::default());
    let admin = server.key("last", "admin");
    let audit = get(&server, &admin, "/api/audit?verify=1");
    let told: Vec<String> = audit["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["action"] == "admin" && event["route"].as_str().unwrap().starts_with("hilum "))
        .map(|event| {
            assert!(event["principal"].as_str().unwrap().starts_with("uid "), "{event}");
            format!("{} {}", event["route"].as_str().unwrap(), event["detail"].as_str().unwrap())
        })
        .collect();
    let want = [
        "hilum keys add key=last role=admin",
        "hilum users add account=hana role=operator",
        "hilum keys add key=later role=admin",
        "hilum keys revoke key=boss revoked",
        "hilum keys add key=boss role=admin",
    ];
    assert_eq!(told, want);
    assert!(audit["verdict"].to_string().contains("whole"), "{}", audit["verdict"]);
}

#[test]
fn settings_and_decisions_are_no_messages() {
    let folder = tempdir().unwrap();
    let config = "[sources.ed]\nmatch = { peers = [\"192.0.2.1\"] }\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let key = server.key("reader", "viewer");
    let count = |path: &str| get(&server, &key, path)["messages"].as_array().unwrap().len();
    // Every time is one that a program reads without knowing ours.
    let mut mllp = server.connect();
    assert_eq!(field(&mllp.ask(&a01("T").replace("ADT^A01", "ADT^A40")), "MSA", 1), "AA");
    let rules = wait("set aside", 10, || {
        let quarantine = get(&server, &key, "/api/quarantine");
        quarantine["rules"].get(0).cloned()
    });
    for time in [
        &rules["oldest"],
        &rules["newest"],
        &get(&server, &key, "/api/sources")["sources"][0]["lastReceived"],
    ] {
        assert!(time.as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')), "{time}");
    }
    // The settings of `default` and `ed` were written to the log at the start.
    wait("settings applied", 10, || (count("/api/messages?kind=decision") == 2).then_some(()));
    assert_eq!(count("/api/messages"), 1);
    assert_eq!(count("/api/messages?status=applied"), 0);
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_made_is_for_one_user_alone() {
    let folder = tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = folder.path().join("one.hl7");
    std::fs::write(&file, a01("F1")).unwrap();
    let server = Server::start(&folder, &Start::default());
    let data = server.data.clone();
    let told = data.to_str().unwrap().to_owned();
    assert!(!server.said().contains("others may read it"), "{}", server.said());
    assert!(run(&["import", "hl7", file.to_str().unwrap(), "--data", &told]).status.success());
    let mut open = vec![data.clone()];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        seen += 1;
        assert_eq!(mode(&path) & 0o077, 0, "{}: {:o}", path.display(), mode(&path));
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    assert!(seen > 10, "looked at {seen}");
    server.stop();
    // A folder that somebody opened is named at the start.
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o750)).unwrap();
    let server = Server::start(&folder, &Start::default());
    let said = server.said();
    assert!(said.contains("others may read it") && said.contains(&told) && said.contains("750"), "{said}");
}

#[test]
fn a_configuration_is_checked_without_a_server() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("hilum.toml");
    std::fs::write(&file, "[sources.ed]\nzone = \"Asia/Soul\"\n").unwrap();
    let out = run(&["config", "--config", file.to_str().unwrap()]);
    let said = String::from_utf8(out.stderr).unwrap();
    let want = "hilum.toml: sources.ed.zone: `Asia/Soul` is no IANA time zone; did you mean `Asia/Seoul`?";
    assert!(!out.status.success() && said.contains(want), "{said}");
    // Whom a message comes from must not hang on the order in which two sources are read.
    let two =
        "[sources.ed.match]\npeers = [\"10.1.0.0/16\"]\n[sources.his.match]\npeers = [\"10.1.2.3/16\"]\n";
    std::fs::write(&file, two).unwrap();
    let data = folder.path().join("data");
    for command in [&["config"][..], &["serve", "--data", data.to_str().unwrap()]] {
        let out = run(&[command, &["--config", file.to_str().unwrap()]].concat());
        let said = String::from_utf8(out.stderr).unwrap();
        let want = "sources.his.match.peers: source `ed` matches peer `10.1.2.3/16` too: only one can";
        assert!(!out.status.success() && said.contains(want), "{said}");
    }
}

#[test]
fn the_demonstration_says_how_to_reach_it_and_ends_when_asked() {
    let folder = tempdir().unwrap();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let mut demo = hilum()
        .args([
            "demo",
            "--no-browser",
            "--pace",
            "0.1",
            "--patients",
            "20",
            "--http",
            "127.0.0.1:0",
            "--data",
        ])
        .arg(folder.path().join("data"))
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let said = wait("it lives", 30, || {
        let said = std::fs::read_to_string(&out).unwrap();
        said.contains("Now it lives").then_some(said)
    });
    for told in ["/sign-in/link/", "MLLP    127.0.0.1:", "Ctrl-C"] {
        assert!(said.contains(told), "{told}: {said}");
    }
    // The command that it shows goes as it stands.
    let (_, after) = said.split_once("bash -c").unwrap();
    let (command, _) = after.split_once("'\\n'\"").unwrap();
    let command = format!("bash -c{command}'\\n'\"");
    let sent = std::process::Command::new("bash").args(["-c", &command]).output().unwrap();
    let answer = String::from_utf8(sent.stdout).unwrap();
    assert!(answer.contains("MSA|AA|MINE-1"), "{command}: {answer}");
    let asked = Instant::now();
    let interrupted = std::process::Command::new("kill").args(["-INT", &demo.id().to_string()]).status();
    assert!(interrupted.unwrap().success());
    let status = wait("its end", 15, || demo.try_wait().unwrap());
    assert!(status.success() && asked.elapsed() < Duration::from_secs(10), "{status} {:?}", asked.elapsed());
    // A good end is nothing to warn of.
    let said = std::fs::read_to_string(&err).unwrap();
    assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
}

#[test]
fn what_came_in_one_frame_is_found_and_its_way_says_no_time_that_nobody_took() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let key = server.key("reader", "viewer");
    let mut mllp = server.connect();
    let ack = mllp.ask(&format!("{}{}", a01("FIRST"), a01("SECOND")));
    // The answer is one, and names the first.
    assert_eq!((field(&ack, "MSA", 1).as_str(), field(&ack, "MSA", 2).as_str()), ("AA", "FIRST"), "{ack}");
    assert!(!ack.contains("SECOND"), "{ack}");
    mllp.ask(&a01("OTHER"));
    let messages = |query: &str| get(&server, &key, &format!("/api/messages?{query}"))["messages"].clone();
    wait("applied", 10, || (messages("").as_array().unwrap().len() == 2).then_some(()));
    let first = messages("control_id=FIRST");
    assert_eq!(first[0]["rule"], "second-msh");
    assert_eq!(messages("control_id=SECOND"), first, "the second one is found where it is");
    assert_eq!(messages("control_id=SECOND&status=applied").as_array().unwrap().len(), 0);
    assert_eq!(messages("control_id=THIRD").as_array().unwrap().len(), 0);
    let form = [("x-api-key", key.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let page = request(server.http.unwrap(), "POST", "/messages", &form, b"control_id=SECOND").text();
    assert!(page.contains(first[0]["id"].as_str().unwrap()), "{page}");

    let other = messages("control_id=OTHER")[0]["id"].as_str().unwrap().to_owned();
    let way = get(&server, &key, &format!("/api/messages/{other}"));
    let steps = way["journey"]["steps"].as_array().unwrap();
    let whats: Vec<&str> = steps.iter().map(|step| step["what"].as_str().unwrap()).collect();
    assert_eq!(whats.split_last().unwrap().1, ["received", "durable", "acknowledged", "parsed"]);
    for step in steps {
        let is_own = step["what"] != "parsed";
        assert_eq!(step.get("at").is_some(), is_own, "{step}");
        assert!(step.as_object().unwrap().values().all(|value| !value.is_null()), "{step}");
    }
    let page = request(server.http.unwrap(), "GET", &format!("/messages/{other}"), &form, b"").text();
    assert!(page.contains("with what follows") && page.contains("Admit/visit notification"), "{page}");
    let korean = [form[0], ("cookie", "hilum_lang=ko")];
    let page = request(server.http.unwrap(), "GET", &format!("/messages/{other}"), &korean, b"").text();
    assert!(page.contains("입원·내원 통보") && !page.contains("Admit/visit"), "{page}");
}
