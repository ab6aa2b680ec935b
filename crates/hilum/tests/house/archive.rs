//! Moving house: from files to Kafka and PostgreSQL and back, with the power cut on the way, and archives that are
//! broken, foreign or of a newer form.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hilum_testkit::disk;
use hilum_testkit::kafka::Kafka;
use hilum_testkit::postgres::Postgres;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::damage::json;
use crate::many;
use crate::server::{Server, Session, Start, a01, field, hilum, request, run, wait};

const MESSAGES: &str = "3000";

/// A place with a data folder of its own and the configuration of its engines, as `Server::start` takes them.
struct Place {
    folder: TempDir,
    config: String,
}

impl Place {
    fn new(config: &str) -> Self {
        let folder = tempdir().unwrap();
        std::fs::write(folder.path().join("hilum.toml"), config).unwrap();
        Self { folder, config: config.to_owned() }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn start(&self) -> Server {
        Server::start(&self.folder, &Start { config: &self.config, ..Start::default() })
    }

    /// Runs a command about `archive` here; gives its standard output, or its standard error.
    fn run(&self, command: &[&str], archive: &Path, failpoint: Option<&str>) -> Result<Value, String> {
        let mut asked = hilum();
        asked.args(command).arg(archive).arg("--json").arg("--data").arg(self.data());
        asked.arg("--config").arg(self.folder.path().join("hilum.toml"));
        if let Some(plan) = failpoint {
            asked.env("HILUM_FAILPOINT", plan);
        }
        let out = asked.output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        if out.status.success() { Ok(serde_json::from_slice(&out.stdout).unwrap()) } else { Err(said) }
    }

    fn export(&self, archive: &Path) -> Value {
        self.run(&["export"], archive, None).unwrap()
    }

    fn import(&self, archive: &Path) -> Result<Value, String> {
        self.run(&["import", "archive"], archive, None)
    }

    /// Runs it with the power cut at the place of `plan`.
    fn cut(&self, command: &[&str], archive: &Path, plan: &str) {
        let said = self.run(command, archive, Some(plan)).unwrap_err();
        let (name, _) = plan.split_once(':').unwrap();
        assert!(said.contains(&format!("failpoint {name} fired")), "{said}");
    }
}

/// What a program sees, a line each: the census, and what is set aside. Without where in the log it stands, and when it
/// was written and applied: that is each house's own.
fn seen(server: &Server, key: &str) -> Vec<String> {
    let census = wait("all applied", 240, || {
        let census = json(server, "/api/census", key);
        (census["lag"] == 0).then_some(census)
    });
    let quarantine = json(server, "/api/quarantine", key);
    let lines = [&census["encounters"], &quarantine["messages"]].map(|lines| lines.as_array().unwrap());
    let seen = lines.into_iter().flatten().map(|line| {
        let mut line = line.as_object().unwrap().clone();
        for own in ["t", "position", "durable", "acked", "appliedAt"] {
            line.remove(own);
        }
        Value::Object(line).to_string()
    });
    seen.collect()
}

fn assert_same(now: &[String], before: &[String]) {
    assert_eq!(now.len(), before.len());
    for (now, before) in now.iter().zip(before) {
        assert_eq!(now, before);
    }
}

pub fn a40(control: &str, new: &str, mrg: &str) -> String {
    let message = a01(control).replace("ADT^A01", "ADT^A40").replace("PV1|", "PD1|");
    message.replace(&format!("0{control}^^^SEOUL"), &format!("0{new}^^^SEOUL")) + mrg
}

/// Merges, an unmerge, a correction that two people made, one that waits for the second, messages that stay set aside.
fn operators(server: &Server, key: &str) {
    let http = server.http.unwrap();
    let mut mllp = server.connect();
    let messages = [
        a01("X1"),
        a01("X2"),
        a01("X3"),
        a01("X4"),
        a40("M1", "X1", "MRG|0X2^^^SEOUL^MR\r"),
        a40("Q1", "X3", ""),
        a40("Q2", "X4", ""),
        a40("Q3", "X4", ""),
    ];
    for message in &messages {
        assert_eq!(field(&mllp.ask(message), "MSA", 1), "AA");
    }
    seen(server, key);
    let form = ("content-type", "application/x-www-form-urlencoded");
    let found = b"identifier=0X2&authority=SEOUL";
    let found = request(http, "POST", "/api/patients/_search", &[("x-api-key", key), form], found).text();
    let found: Value = serde_json::from_str(&found).unwrap();
    let records = found["patients"].as_array().unwrap();
    let old = records.iter().find(|one| one["mergedInto"].is_string()).unwrap_or_else(|| panic!("{found}"));
    let (id, into) = (old["id"].as_str().unwrap(), old["mergedInto"].as_str().unwrap());
    let post = |session: &Session, path: &str, body: &str| {
        let answer = session.send(server, "POST", path, body);
        assert_eq!(answer.status, 303, "{path}: {}", answer.text());
    };
    let (one, two) =
        (Session::sign_in(server, "one", "operator"), Session::sign_in(server, "two", "operator"));
    post(&one, &format!("/patients/{into}/unmerge"), &format!("old={id}"));
    for (control, patient, other, is_released) in [("Q1", "X3", "X4", true), ("Q2", "X4", "X1", false)] {
        let found = json(server, &format!("/api/messages?control_id={control}"), key);
        let id = found["messages"][0]["id"].as_str().unwrap();
        let text = a40(control, patient, &format!("MRG|0{other}^^^SEOUL^MR\r"));
        let edit = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("text", text.as_str()), ("reason", "MRG was forgotten")])
            .finish();
        post(&one, &format!("/quarantine/{id}/replay"), &edit);
        if is_released {
            post(&two, &format!("/quarantine/{id}/release"), "");
        }
    }
}

/// What comes by the FHIR door: two versions of one resource, and one that is deleted.
fn write_by_the_door(server: &Server, key: &str) {
    let send = |method: &str, path: &str, value: &str| {
        let body = format!(
            r#"{{"resourceType":"Observation","id":"{path}","status":"final","code":{{"text":"{value}"}}}}"#
        );
        let headers = [("x-api-key", key), ("content-type", "application/fhir+json")];
        let body = if method == "DELETE" { String::new() } else { body };
        let path = format!("/fhir/Observation/{path}");
        let answer = request(server.http.unwrap(), method, &path, &headers, body.as_bytes());
        assert!((200..300).contains(&answer.status), "{}", answer.text());
    };
    send("PUT", "moved", "first");
    send("PUT", "moved", "second");
    send("PUT", "gone", "first");
    send("DELETE", "gone", "");
}

/// All of that, as it is read: versions and times too.
fn by_the_door(server: &Server, key: &str) -> Vec<Value> {
    let read = |path: &str| {
        let path = format!("/fhir/Observation/{path}").replace("/?", "?");
        request(server.http.unwrap(), "GET", &path, &[("x-api-key", key)], b"")
    };
    let history = |path: &str| {
        let mut bundle: Value = serde_json::from_str(&read(&format!("{path}/_history")).text()).unwrap();
        for entry in bundle["entry"].as_array_mut().unwrap() {
            entry.as_object_mut().unwrap().remove("fullUrl"); // under the port of each server
        }
        bundle["entry"].take()
    };
    assert_eq!(read("gone").status, 410);
    let found: Value = serde_json::from_str(&read("?status=final").text()).unwrap();
    assert_eq!(found["total"], 1, "and found: {found}");
    vec![serde_json::from_str(&read("moved").text()).unwrap(), history("moved"), history("gone")]
}

fn hash(report: &Value) -> &str {
    report["canonicalHash"].as_str().unwrap()
}

#[test]
fn a_house_moves_to_other_engines_and_back() {
    let (kafka, postgres) = (Kafka::start(1, &[]), Postgres::shared());
    let archives = tempdir().unwrap();
    let archive = |name: &str| archives.path().join(name);
    let old = Place::new("[sources.ed]\n");
    let feed = archives.path().join("feed.hl7");
    let made =
        run(&["bench", "generate", "--messages", MESSAGES, "--seed", "7", "--out", feed.to_str().unwrap()]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let server = old.start();
    let key = server.key("mover", "operator");
    let data = old.data();
    let data = data.to_str().unwrap();
    let taken = run(&["import", "hl7", feed.to_str().unwrap(), "--source", "ed", "--data", data]);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    operators(&server, &key);
    write_by_the_door(&server, &key);
    let written = by_the_door(&server, &key);
    assert_eq!(written[0]["meta"]["versionId"], "2");
    let before = seen(&server, &key);
    assert!(before.len() > 50, "{before:?}");
    assert!(before.iter().filter(|line| line.contains("merge.unpaired")).count() == 2, "{before:?}");
    // A server that runs has the folder.
    let refused = old.run(&["export"], &archive("one"), None).unwrap_err();
    assert!(refused.contains("in use by hilum serve"), "{refused}");
    server.stop();

    let one = archive("one");
    old.cut(&["export"], &one, "export:5");
    let half = old.import(&one).unwrap_err();
    assert!(half.contains("half an archive"), "{half}");
    let exported = old.export(&one);
    assert_eq!(exported["unreadable"], 0);
    assert!(exported["auditRows"].as_u64().unwrap() > 5, "{exported}");
    assert_eq!(old.export(&one), exported, "done is done");
    let mode = |path: &str| one.join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!([mode("installation.key"), mode("manifest.json"), mode("rows")], [0o600, 0o600, 0o700]);

    // Fewer partitions, so that each holds several of the old ones, and a topic that was none.
    let shared = many::config(&kafka, postgres).replace("[tables]", "partitions = 3\n[tables]");
    let shared = format!("{shared}\n[sources.ed]\ntopic = true\n");
    let new = Place::new(&shared);
    new.cut(&["import", "archive"], &one, "import:1600");
    let start = Start { config: &shared, ..Start::default() };
    assert!(Server::try_start(&new.folder, &start).is_none(), "half an installation is none");
    let said = std::fs::read_to_string(new.folder.path().join("stderr")).unwrap();
    assert!(said.contains("broken off") && said.contains("import archive"), "{said}");
    let imported = new.import(&one).unwrap();
    assert_eq!(hash(&imported), hash(&exported));
    assert_eq!(imported["records"], exported["records"]);
    assert!(imported["already"].as_u64().unwrap() > 0, "cut in the middle of a file: {imported}");
    assert_eq!(new.import(&one).unwrap(), imported, "done is done");
    let server = new.start();
    // The key holds, and shows the same.
    assert_same(&seen(&server, &key), &before);
    assert_eq!(by_the_door(&server, &key), written);
    // The old password holds, and the correction that waited waits.
    let form = ("content-type", "application/x-www-form-urlencoded");
    let body = b"name=two&password=a+long+enough+password";
    let entered = request(server.http.unwrap(), "POST", "/sign-in", &[form], body);
    assert!(entered.header("set-cookie").is_some(), "{}", entered.text());
    let waiting = json(&server, "/api/messages?control_id=Q2", &key);
    let id = waiting["messages"][0]["id"].as_str().unwrap();
    let page =
        request(server.http.unwrap(), "GET", &format!("/quarantine/{id}"), &[("x-api-key", &key)], b"");
    assert!(page.text().contains("MRG was forgotten"), "{}", page.text());
    server.stop();

    let two = archive("two");
    new.cut(&["export"], &two, "export:2");
    let exported_again = new.export(&two);
    assert_eq!(hash(&exported_again), hash(&exported));
    assert_eq!(exported_again["records"], exported["records"], "each record once");
    let has = |partition: u16| two.join(format!("log/hl7.in/{partition:03}")).is_dir();
    assert!((0..3).any(has) && (3..6).all(has), "the stream's own topic, and that of a source");
    let back = Place::new("");
    back.cut(&["import", "archive"], &two, "import:2000");
    let imported = back.import(&two).unwrap();
    assert_eq!(hash(&imported), hash(&exported));
    let server = back.start();
    assert_same(&seen(&server, &key), &before);
    assert_eq!(by_the_door(&server, &key), written);
    server.stop();
    let rebuilt = run(&["rebuild", "chart", "--json", "--data", back.data().to_str().unwrap()]);
    assert_eq!(rebuilt.status.code(), Some(0), "{}", String::from_utf8_lossy(&rebuilt.stdout));

    // Killed when all was in the log: a server may begin, and what it takes is no fault of the archive's.
    let note = |place: &Place| place.data().join("import/archive.json");
    let done = std::fs::read_to_string(note(&back)).unwrap();
    std::fs::write(note(&back), done.replace("\"done\"", "\"applying\"")).unwrap();
    let server = back.start();
    assert_eq!(field(&server.connect().ask(&a01("SINCE")), "MSA", 1), "AA");
    server.stop();
    let imported = back.import(&two).unwrap();
    assert_ne!(hash(&imported), hash(&exported), "one patient more");
    // Killed before anything was: no server begins, and the same command goes on.
    let early = Place::new("");
    std::fs::create_dir_all(early.data().join("import")).unwrap();
    let opening = serde_json::json!({ "archive": serde_json::from_str::<Value>(&done).unwrap()["archive"], "phase": "opening",
        "files": 0, "ends": [], "records": 0, "already": 0 });
    std::fs::write(note(&early), opening.to_string()).unwrap();
    let start = Start { config: "", ..Start::default() };
    assert!(Server::try_start(&early.folder, &start).is_none(), "an installation that is about to be made");
    assert_eq!(hash(&early.import(&two).unwrap()), hash(&exported));
    // Refused for what is there already: who runs there goes on.
    let taken = Place::new("");
    taken.start().stop();
    let refused = taken.import(&two).unwrap_err();
    assert!(refused.contains("holds another installation"), "{refused}");
    taken.start().stop();
}

#[test]
fn an_archive_that_is_broken_foreign_or_newer_is_refused_before_anything_is_written() {
    let old = Place::new("");
    let server = old.start();
    many::send(&server, 0..5);
    server.stop();
    let archives = tempdir().unwrap();
    let archive = archives.path().join("archive");
    old.export(&archive);

    let target = Place::new("");
    let refused = |want: &[&str]| {
        let said = target.import(&archive).unwrap_err();
        for want in want {
            assert!(said.contains(want), "{want}: {said}");
        }
        assert!(!target.data().join("log.sqlite").exists(), "{said}");
    };
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(archive.join("manifest.json")).unwrap()).unwrap();
    let files = manifest["files"].as_array().unwrap().iter();
    let path = |file: &Value| file["path"].as_str().unwrap().to_owned();
    let first = files.clone().map(path).find(|path| path.starts_with("log/hl7.in/")).unwrap();
    for name in [first.as_str(), "installation.key", "manifest.json"] {
        let bytes = std::fs::read(archive.join(name)).unwrap();
        let places = [bytes.len() / 2];
        disk::flip_bits_at(&archive.join(name), &places);
        refused(&["damaged", name]);
        disk::flip_bits_at(&archive.join(name), &places);
    }
    let aside = archives.path().join("aside");
    std::fs::rename(archive.join(&first), &aside).unwrap();
    refused(&["No such file", &first]);
    std::fs::rename(&aside, archive.join(&first)).unwrap();

    let text = std::fs::read_to_string(archive.join("manifest.json")).unwrap();
    let write = |text: &str| {
        std::fs::write(archive.join("manifest.json"), text).unwrap();
        let digest = hilum_core::Digest::of(text.as_bytes()).to_string();
        std::fs::write(archive.join("manifest.b3"), digest).unwrap();
    };
    write(&text.replace("\"archive\": 1", "\"archive\": 2"));
    refused(&["of form 2", "up to 1"]);
    write(&text.replace("installation.key", "../installation.key"));
    refused(&["not in the archive"]);
    write(&text);

    // Somebody lives there already: another installation, or this one with what came in since.
    let other = Place::new("");
    other.start().stop();
    let said = other.import(&archive).unwrap_err();
    assert!(said.contains("holds another installation"), "{said}");
    let said = old.import(&archive).unwrap_err();
    assert!(said.contains("the log holds records"), "{said}");
    let said = other.run(&["export"], &archive, None).unwrap_err();
    assert!(said.contains("take another folder"), "{said}");
    target.import(&archive).unwrap();
}

#[test]
fn what_cannot_be_read_is_left_out_only_when_told() {
    let old = Place::new("");
    let server = old.start();
    let key = server.key("reader", "operator");
    many::send(&server, 0..5);
    seen(&server, &key);
    let messages = json(&server, "/api/messages?control_id=M2", &key);
    let record = messages["messages"][0]["id"].as_str().unwrap().to_owned();
    server.stop();
    disk::flip_bit(&old.data().join("log.sqlite"), record.as_bytes());
    let archives = tempdir().unwrap();
    let archive = archives.path().join("archive");
    let said = old.run(&["export"], &archive, None).unwrap_err();
    assert!(said.contains("hl7.in/") && said.contains("--without-damaged"), "{said}");
    let exported = old.run(&["export", "--without-damaged"], &archive, None).unwrap();
    assert_eq!((&exported["unreadable"], &exported["records"]), (&1.into(), &5.into()), "{exported}");
    let new = Place::new("");
    let imported = new.import(&archive).unwrap();
    assert_ne!(hash(&imported), hash(&exported), "the old chart knew what it said");
    assert_eq!(imported["archiveHash"], exported["canonicalHash"]);
}
