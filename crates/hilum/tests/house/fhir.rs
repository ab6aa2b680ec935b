//! The FHIR window over the real socket: what clients write, what the fold owns, and who is named to whom.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::both::on_both_engines;
use crate::confidence::{OPEN, SECRET, all_applied, messages};
use crate::server::{Answer, Server, Start, a01, field, request, wait};

const FHIR: (&str, &str) = ("content-type", "application/fhir+json");

pub struct Client<'s> {
    server: &'s Server,
    key: String,
}

impl<'s> Client<'s> {
    pub fn new(server: &'s Server, name: &str, role: &str) -> Self {
        Self { server, key: server.key(name, role) }
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut all = vec![("x-api-key", self.key.as_str())];
        if ["POST", "PUT", "PATCH"].contains(&method) {
            all.push(FHIR);
        }
        all.retain(|(name, _)| headers.iter().all(|(other, _)| other != name));
        all.extend_from_slice(headers);
        request(self.server.http.unwrap(), method, &format!("/fhir{path}"), &all, body.as_bytes())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }
}

pub fn said(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("no JSON: {}", answer.text()))
}

pub fn code_of(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type").as_deref(), Some("application/fhir+json; charset=utf-8"));
    let outcome = said(answer);
    assert_eq!(outcome["resourceType"], "OperationOutcome", "{outcome}");
    outcome["issue"][0]["code"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_written_is_read_back_byte_for_byte_and_every_version_stays() {
    on_both_engines(written_and_read_back);
}

#[test]
fn what_is_written_is_there_after_a_restart() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    let body = r#"{"resourceType":"Observation","id":"bp.1","status":"final","code":{"text":"x"}}"#;
    assert_eq!(client.ask("PUT", "/Observation/bp.1", &[], body).status, 201);
    let before = client.get("/Observation/bp.1").text();
    let key = client.key.clone();
    server.stop();
    let server = Server::start(&folder, &Start::default());
    let client = Client { server: &server, key };
    assert_eq!(client.get("/Observation/bp.1").text(), before);
}

/// HTTP's dates have whole seconds: of one in which it changed nobody has a date that says which version they have.
#[test]
fn what_changed_within_the_second_is_given_again() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    let write = |n: u32| {
        let body = format!("{{\"resourceType\":\"Basic\",\"id\":\"b\",\"code\":{{\"text\":\"{n}\"}}}}");
        client.ask("PUT", "/Basic/b", &[], &body).header("last-modified").unwrap()
    };
    let known = |since: &str| client.ask("GET", "/Basic/b", &[("if-modified-since", since)], "").status;
    let first = write(0);
    assert_eq!(known(&first), 304, "it is the only one");
    let mut last = first;
    let within = (1..100).find_map(|n| {
        let before = std::mem::replace(&mut last, write(n));
        (before == last).then_some(before)
    });
    assert_eq!(known(&within.expect("two writes within one second")), 200);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(known(&write(100)), 304, "alone in its second");
    assert_eq!(client.get("/Basic/b").header("referrer-policy").as_deref(), Some("no-referrer"));
    for query in ["family=m%FCller", "fam%FCly=m"] {
        let refused = client.get(&format!("/Patient?{query}"));
        assert!(refused.status == 400 && refused.text().contains("UTF-8"), "{query}: {}", refused.text());
    }
}

fn written_and_read_back(server: &Server) {
    let client = Client::new(server, "operator", "operator");
    let body = |value: &str| {
        format!(
            "{{\"resourceType\":\"Observation\",\"id\":\"bp.1\",\"status\":\"final\",\
             \"code\":{{\"text\":\"혈압 \\u00e9\"}},\"valueQuantity\":{{\"value\":{value},\"unit\":\"mmHg\"}}}}"
        )
    };
    let made = client.ask("PUT", "/Observation/bp.1", &[], &body("1.50"));
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.header("etag").as_deref(), Some("W/\"1\""));
    assert!(made.header("location").unwrap().ends_with("/fhir/Observation/bp.1/_history/1"));
    let read = client.get("/Observation/bp.1");
    let updated = said(&read)["meta"]["lastUpdated"].as_str().unwrap().to_owned();
    let meta = format!("\"id\":\"bp.1\",\"meta\":{{\"versionId\":\"1\",\"lastUpdated\":\"{updated}\"}}");
    assert_eq!(read.text(), body("1.50").replace("\"id\":\"bp.1\"", &meta), "all other bytes stay");
    assert_eq!(read.text(), made.text(), "a write answers with what a read gives");

    let known = client.ask("GET", "/Observation/bp.1", &[("if-none-match", "W/\"1\"")], "");
    assert_eq!((known.status, known.text().as_str()), (304, ""));
    let modified = read.header("last-modified").unwrap();
    assert_eq!(client.ask("GET", "/Observation/bp.1", &[("if-modified-since", &modified)], "").status, 304);
    assert_eq!(client.ask("HEAD", "/Observation/bp.1", &[], "").status, 200);

    let second = client.ask("PUT", "/Observation/bp.1", &[("if-match", "W/\"1\"")], &body("1.5"));
    assert_eq!((second.status, second.header("etag").as_deref()), (200, Some("W/\"2\"")));
    let late = client.ask("PUT", "/Observation/bp.1", &[("if-match", "W/\"1\"")], &body("2"));
    assert_eq!((late.status, code_of(&late).as_str()), (412, "conflict"));
    assert_eq!(client.ask("DELETE", "/Observation/bp.1", &[("if-match", "W/\"1\"")], "").status, 412);
    assert_eq!(client.ask("DELETE", "/Observation/bp.1", &[], "").status, 204);
    assert_eq!(client.ask("DELETE", "/Observation/bp.1", &[], "").status, 204, "again");
    let gone = client.get("/Observation/bp.1");
    assert_eq!((gone.status, code_of(&gone).as_str()), (410, "deleted"));
    let back = client.ask("PUT", "/Observation/bp.1", &[], &body("3"));
    assert_eq!((back.status, back.header("etag").as_deref()), (201, Some("W/\"4\"")));

    let first = client.get("/Observation/bp.1/_history/1");
    assert!(first.text().contains("\"value\":1.50"), "digits stay: {}", first.text());
    assert_eq!(client.get("/Observation/bp.1/_history/3").status, 410);
    assert_eq!(client.get("/Observation/bp.1/_history/9").status, 404);
    let mut path = "/Observation/bp.1/_history?_count=3".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = said(&client.get(&path));
        assert_eq!(page["type"], "history");
        for entry in page["entry"].as_array().into_iter().flatten() {
            let request = &entry["request"]["method"];
            seen.push(format!(
                "{} {}",
                request.as_str().unwrap(),
                entry["response"]["etag"].as_str().unwrap()
            ));
            assert_eq!(request == "DELETE", entry["resource"].is_null());
        }
        let next = page["link"].as_array().unwrap().iter().find(|link| link["relation"] == "next");
        let Some(next) = next else { break };
        next["url"].as_str().unwrap().split_once("/fhir").unwrap().1.clone_into(&mut path);
    }
    assert_eq!(seen, ["PUT W/\"4\"", "DELETE W/\"3\"", "PUT W/\"2\"", "PUT W/\"1\""]);

    // Labels that an update does not speak of stay; an id that a client gives with POST does not.
    let tagged = body("3").replace("\"status\"", "\"meta\":{\"tag\":[{\"code\":\"t\"}]},\"status\"");
    assert_eq!(client.ask("PUT", "/Observation/bp.1", &[], &tagged).status, 200);
    let kept = client.ask("PUT", "/Observation/bp.1", &[], &body("4"));
    assert_eq!(said(&kept)["meta"]["tag"][0]["code"], "t");
    let made = client.ask("POST", "/Observation", &[], &body("5"));
    assert_eq!(made.status, 201);
    let id = said(&made)["id"].as_str().unwrap().to_owned();
    assert!(id != "bp.1" && client.get(&format!("/Observation/{id}")).status == 200);
    for (prefer, want) in [("return=minimal", ""), ("return=OperationOutcome", "OperationOutcome")] {
        let answer = client.ask("POST", "/Observation", &[("prefer", prefer)], &body("5"));
        assert_eq!(answer.status, 201, "{prefer}");
        assert_eq!(answer.text().is_empty(), want.is_empty(), "{prefer}: {}", answer.text());
        assert!(answer.text().contains(want), "{prefer}");
    }
}

#[test]
fn of_two_writers_who_saw_the_same_version_one_wins() {
    on_both_engines(two_writers);
}

fn two_writers(server: &Server) {
    let client = Client::new(server, "admin", "admin");
    let body =
        |n: usize| format!("{{\"resourceType\":\"Basic\",\"id\":\"b\",\"code\":{{\"text\":\"{n}\"}}}}");
    assert_eq!(client.ask("PUT", "/Basic/b", &[], &body(0)).status, 201);
    let race = |header: Option<(&str, &str)>| -> Vec<u16> {
        std::thread::scope(|scope| {
            let write = |n: usize| {
                let headers: Vec<(&str, &str)> = header.into_iter().collect();
                client.ask("PUT", "/Basic/b", &headers, &body(n)).status
            };
            let all: Vec<_> = (1..=8).map(|n| scope.spawn(move || write(n))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        })
    };
    let mut named = race(Some(("if-match", "W/\"1\"")));
    named.sort_unstable();
    assert_eq!(named, [200, 412, 412, 412, 412, 412, 412, 412]);
    // Who names no version has it as it is then: all of them, one behind the other.
    let unnamed = race(None);
    assert!(unnamed.iter().all(|status| [200, 409].contains(status)), "{unnamed:?}");
    let versions = 2 + unnamed.iter().filter(|status| **status == 200).count();
    let now = said(&client.get("/Basic/b"))["meta"]["versionId"].as_str().unwrap().parse::<usize>().unwrap();
    assert!(now <= versions && now > 2, "version {now} after {unnamed:?}");
    // Who wants it to be new: what stands stays, what is deleted is nobody's, and of many one creates.
    let is_new = Some(("if-none-match", "*"));
    assert_eq!(race(is_new), [412; 8]);
    let entry = json!({"resource": {"resourceType": "Basic", "id": "b", "code": {"text": "x"}},
        "request": {"method": "PUT", "url": "Basic/b", "ifNoneMatch": "*"}});
    let sent = json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry]}).to_string();
    assert_eq!(client.ask("POST", "", &[], &sent).status, 412);
    assert_eq!(client.ask("DELETE", "/Basic/b", &[], "").status, 204);
    let mut created = race(is_new);
    created.sort_unstable();
    assert_eq!(created, [201, 412, 412, 412, 412, 412, 412, 412]);
}

#[test]
fn what_cannot_be_done_is_said_with_the_way_out() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    let patient = r#"{"resourceType":"Patient","id":"p","active":true}"#;
    let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    let large =
        format!("{{\"resourceType\":\"Patient\",\"id\":\"p\",\"x\":\"{}\"}}", "CANARY".repeat(1_500_000));
    type Case<'c> = (&'c str, &'c str, &'c str, &'c [(&'c str, &'c str)], &'c str, u16, &'c str);
    let cases: &[Case<'_>] = &[
        ("no type of R4", "GET", "/Paitent/p", &[], "", 404, "not-supported"),
        ("no id", "GET", "/Patient/a%20b", &[], "", 404, "not-found"),
        ("nothing there", "GET", "/Patient/p", &[], "", 404, "not-found"),
        ("no such address", "GET", "/Patient/p/_history/1/2", &[], "", 404, "not-found"),
        ("an unknown parameter", "GET", "/Patient/p?CANARY=1", &[], "", 400, "not-supported"),
        ("xml wanted", "GET", "/Patient/p", &[("accept", "application/fhir+xml")], "", 406, "not-supported"),
        (
            "xml sent",
            "PUT",
            "/Patient/p",
            &[("content-type", "application/fhir+xml")],
            "<CANARY/>",
            415,
            "not-supported",
        ),
        ("compressed", "PUT", "/Patient/p", &[("content-encoding", "gzip")], patient, 415, "invalid"),
        ("no JSON", "PUT", "/Patient/p", &[], "{\"CANARY\"", 400, "structure"),
        ("empty", "PUT", "/Patient/p", &[], "", 400, "structure"),
        (
            "a member twice",
            "PUT",
            "/Patient/p",
            &[],
            r#"{"resourceType":"Patient","id":"p","id":"CANARY"}"#,
            400,
            "structure",
        ),
        (
            "half a surrogate pair",
            "PUT",
            "/Patient/p",
            &[],
            r#"{"resourceType":"Patient","id":"p","language":"\ud800"}"#,
            400,
            "structure",
        ),
        ("deep", "PUT", "/Patient/p", &[], &deep, 400, "structure"),
        ("large", "PUT", "/Patient/p", &[], &large, 413, "too-long"),
        (
            "an unknown element",
            "PUT",
            "/Patient/p",
            &[],
            r#"{"resourceType":"Patient","id":"p","CANARY":1}"#,
            422,
            "structure",
        ),
        (
            "a code that is none",
            "PUT",
            "/Patient/p",
            &[],
            r#"{"resourceType":"Patient","id":"p","gender":"CANARY"}"#,
            422,
            "code-invalid",
        ),
        ("another type", "PUT", "/Basic/p", &[], patient, 400, "invalid"),
        ("another id", "PUT", "/Patient/q", &[], patient, 400, "invalid"),
        ("an ETag that is none", "PUT", "/Patient/p", &[("if-match", "CANARY")], patient, 400, "value"),
        ("a version that is not", "PUT", "/Patient/p", &[("if-match", "W/\"3\"")], patient, 412, "conflict"),
        (
            "conditional create",
            "POST",
            "/Patient",
            &[("if-none-exist", "identifer=CANARY")],
            patient,
            400,
            "not-supported",
        ),
    ];
    for (why, method, path, headers, body, status, code) in cases {
        let answer = client.ask(method, path, headers, body);
        assert_eq!(answer.status, *status, "{why}: {}", answer.text());
        assert_eq!(code_of(&answer), *code, "{why}: {}", answer.text());
        assert!(
            !answer.text().contains("CANARY") || *why == "an unknown element",
            "{why}: {}",
            answer.text()
        );
    }
    let conditional = client.ask("POST", "/Patient", &[("if-none-exist", "_count=1")], patient);
    assert!(conditional.text().contains("at least one"), "{}", conditional.text());
    let nobody = request(server.http.unwrap(), "GET", "/fhir/Patient/p", &[], b"");
    assert_eq!((nobody.status, code_of(&nobody).as_str()), (401, "login"));
    for (role, read, write) in [("viewer", 404, 403), ("feed", 403, 403), ("admin", 404, 201)] {
        let other = Client::new(&server, role, role);
        assert_eq!(other.get("/Patient/p").status, read, "{role}");
        assert_eq!(other.ask("PUT", "/Patient/p", &[], patient).status, write, "{role}");
    }
    let metadata = request(server.http.unwrap(), "GET", "/fhir/metadata", &[], b"");
    assert_eq!(said(&metadata)["fhirVersion"], "4.0.1");
    let checked = client.ask("POST", "/Patient/$validate", &[], r#"{"resourceType":"Patient","gender":"x"}"#);
    assert_eq!(
        (checked.status, &said(&checked)["issue"][0]["expression"]),
        (200, &json!(["Patient.gender"]))
    );
    let pretty = client.get("/Patient/p?_pretty=true").text();
    assert!(pretty.contains("\n  \"id\": \"p\""), "{pretty}");
}

/// What messages made: type and id of every resource, as an administrator's list names them.
fn made_by_messages(server: &Server, key: &str) -> BTreeSet<String> {
    let headers = [("x-api-key", key)];
    let listed = request(server.http.unwrap(), "GET", "/api/messages?limit=200", &headers, b"");
    let all = said(&listed);
    let changed =
        all["messages"].as_array().unwrap().iter().flat_map(|line| line["changed"].as_array().unwrap());
    changed.map(|one| one.as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_messages_make_is_read_here_and_changed_by_messages_alone() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "admin", "admin");
    assert_eq!(field(&server.connect().ask(&a01("F1")), "MSA", 1), "AA");
    let made = wait("applied", 10, || {
        let made = made_by_messages(&server, &client.key);
        (made.len() >= 2).then_some(made)
    });
    let mut types = BTreeSet::new();
    for place in &made {
        let read = client.get(&format!("/{place}"));
        assert_eq!(read.status, 200, "{place}: {}", read.text());
        let resource = said(&read);
        types.insert(resource["resourceType"].as_str().unwrap().to_owned());
        assert_eq!(
            *place,
            format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap())
        );
        for (method, body) in [("PUT", read.text()), ("DELETE", String::new())] {
            let refused = client.ask(method, &format!("/{place}"), &[], &body);
            assert_eq!(refused.status, 409, "{method} {place}: {}", refused.text());
            assert!(refused.text().contains("`adt`"), "{}", refused.text());
        }
        // What goes out is what R4 allows.
        let ty = place.split_once('/').unwrap().0;
        let checked = said(&client.ask("POST", &format!("/{ty}/$validate"), &[], &read.text()));
        assert_eq!(checked["issue"][0]["severity"], "information", "{place}: {checked}");
    }
    assert!(types.contains("Patient") && types.contains("Encounter"), "{types:?}");
    // What a client wrote is no matter of the fold, and stays when all of that is made anew.
    let goal = r#"{"resourceType":"Basic","id":"mine","code":{"text":"x"}}"#;
    assert_eq!(client.ask("PUT", "/Basic/mine", &[], goal).status, 201);
    let (data, key) = (server.data.clone(), client.key.clone());
    server.stop();
    let rebuilt = crate::server::run(&["rebuild", "chart", "--data", data.to_str().unwrap()]);
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    let server = Server::start(&folder, &Start::default());
    let client = Client { server: &server, key };
    assert_eq!(client.get("/Basic/mine").header("etag").as_deref(), Some("W/\"1\""));
}

/// Type and id of every resource in a data folder that no process holds.
fn stored(data: &std::path::Path) -> BTreeSet<String> {
    use hilum_chart::resources::RESOURCE;
    use hilum_engines::tables::{Read, Scan, Value};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tables = crate::damage::open_tables(data);
        let found = tables.read(&[Read::Scan(Scan::by_key(RESOURCE.name, Vec::new()))]).await.unwrap();
        tables.close().await;
        let place = |values: &[Value]| match values {
            [Value::Text(ty), Value::Id(id), ..] => format!("{ty}/{id}"),
            _ => panic!("another table"),
        };
        found.concat().iter().map(|row| place(&row.values)).collect()
    })
}

#[test]
fn who_is_confidential_is_as_if_there_were_none() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let mut mllp = server.connect();
    for message in messages() {
        assert_eq!(field(&mllp.ask(&message), "MSA", 1), "AA");
    }
    let admin = Client::new(&server, "admin", "admin").key;
    all_applied(server.http.unwrap(), &admin);
    let data = server.data.clone();
    server.stop();
    let made = stored(&data);
    assert!(made.len() > 100, "{}", made.len());
    let server = Server::start(&folder, &Start::default());
    // What a client writes about somebody goes as they do.
    let writer = Client::new(&server, "writer", "operator");
    let patients: Vec<&str> = made.iter().filter_map(|place| place.strip_prefix("Patient/")).collect();
    for patient in &patients {
        let note = json!({"resourceType": "Observation", "id": patient, "status": "final", "code": {"text": "x"},
            "subject": {"reference": format!("Patient/{patient}")}});
        assert_eq!(writer.ask("PUT", &format!("/Observation/{patient}"), &[], &note.to_string()).status, 201);
    }
    for role in ["viewer", "operator", "admin"] {
        let client = Client::new(&server, &format!("again-{role}"), role);
        let mut seen = [0, 0];
        for patient in &patients {
            let is_shown = client.get(&format!("/Patient/{patient}")).status == 200;
            for path in ["", "/_history", "/_history/1"] {
                let note = client.get(&format!("/Observation/{patient}{path}")).status;
                assert_eq!(note, if is_shown { 200 } else { 404 }, "{role}: {path}");
            }
            let found = said(&client.get(&format!("/Observation?subject=Patient/{patient}")));
            assert_eq!(found["total"], u32::from(is_shown), "{role}: {found}");
            seen[usize::from(is_shown)] += 1;
        }
        assert!(seen.iter().all(|seen| *seen > 2), "{role}: {seen:?}");
        let (mut shown, mut withheld) = (BTreeSet::new(), BTreeSet::new());
        for place in &made {
            for path in [format!("/{place}"), format!("/{place}/_history/1"), format!("/{place}/_history")] {
                let answer = client.get(&path);
                let ty = place.split_once('/').unwrap().0;
                match answer.status {
                    200 => shown.insert(ty),
                    404 => withheld.insert(ty),
                    410 if role != "viewer" => false,
                    other => panic!("{role}: {path}: {other}"),
                };
                let text = answer.text();
                // A ward or a doctor is nobody's secret: who lies there is.
                let is_register = ["Location", "Practitioner"].contains(&ty);
                assert!(
                    is_register || !text.contains(SECRET),
                    "{role}: {path} names who is confidential: {text}"
                );
                if ty == "Patient" && answer.status == 200 {
                    assert!(text.contains(OPEN), "{role}: {path}: {text}");
                }
            }
        }
        for ty in ["Patient", "Encounter", "Condition", "RelatedPerson"] {
            assert!(shown.contains(ty) && withheld.contains(ty), "{role}: {ty}: {shown:?} {withheld:?}");
        }
    }
}

/// What the index holds of fold-made and client-written resources is what their bodies give: a rebuild computes it anew and
/// finds nothing. It makes up for a time without an index.
#[test]
fn every_version_is_indexed_as_it_is_written() {
    let folder = tempdir().unwrap();
    let patient = |family: &str| {
        format!("{{\"resourceType\":\"Patient\",\"id\":\"p.1\",\"name\":[{{\"family\":\"{family}\"}}]}}")
    };
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "admin", "admin");
    let mut line = server.connect();
    for body in messages() {
        assert_eq!(field(&line.ask(&body), "MSA", 1), "AA");
    }
    wait("applied", 10, || (made_by_messages(&server, &client.key).len() >= 4).then_some(()));
    assert_eq!(client.ask("PUT", "/Patient/p.1", &[], &patient("Kim")).status, 201);
    assert_eq!(client.ask("PUT", "/Patient/p.1", &[], &patient("Lee")).status, 200);
    let (data, key) = (server.data.clone(), client.key.clone());
    server.stop();
    let rebuild = || {
        let out = crate::server::run(&["rebuild", "index", "--json", "--data", data.to_str().unwrap()]);
        let said: Value = serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)));
        assert_eq!(out.status.code(), Some(if said["indexed"] == 0 { 0 } else { 3 }), "{said}");
        said
    };
    let whole = rebuild();
    assert!(whole["resources"].as_u64().unwrap() >= 5 && whole["rows"].as_u64().unwrap() > 30, "{whole}");
    assert_eq!((&whole["indexed"], &whole["removed"]), (&json!(0), &json!(0)), "{whole}");

    let without = Start { config: "[fhir]\nsearch = false\n", ..Start::default() };
    let server = Server::start(&folder, &without);
    let client = Client { server: &server, key };
    assert_eq!(client.ask("PUT", "/Patient/p.1", &[], &patient("Park")).status, 200);
    server.stop();
    let mended = rebuild();
    assert_eq!((&mended["resources"], &mended["rows"]), (&whole["resources"], &whole["rows"]), "{mended}");
    assert_eq!(mended["indexed"], mended["resources"], "{mended}");
    assert_eq!(rebuild()["indexed"], 0);
}
