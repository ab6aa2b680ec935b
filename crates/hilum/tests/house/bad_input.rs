//! Bad input at the FHIR window, case by case: it is refused with the way out, or bounded, and nothing of it is kept. What is
//! asked for by searches stands in `search.rs`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::exchange::{bundle, entry, statuses};
use crate::fhir::{Client, code_of, said};
use crate::server::{Server, Start, request};

const JSON: (&str, &str) = ("content-type", "application/fhir+json");

fn observation(id: &str, more: &str) -> String {
    format!(
        "{{\"resourceType\":\"Observation\",\"id\":\"{id}\",\"status\":\"final\",\"code\":{{\"text\":\"x\"}}{more}}}"
    )
}

/// Depth, members that stand twice, huge numbers, lone surrogates, what is no UTF-8: in each body that is taken.
#[test]
fn json_that_readers_take_differently_is_refused_wherever_it_comes() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    assert_eq!(client.ask("PUT", "/Observation/o", &[], &observation("o", "")).status, 201);
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let cases = [
        ("depth", deep),
        ("a member twice", "{\"CANARY\":1,\"CANARY\":2}".to_owned()),
        ("a member twice, once escaped", "{\"id\":1,\"\\u0069d\":2}".to_owned()),
        ("a huge number", format!("{{\"x\":{}}}", "9".repeat(1_000))),
        ("a huge exponent of many digits", format!("{{\"x\":1e{}}}", "9".repeat(100))),
        ("half a surrogate pair", "{\"x\":\"\\ud800\"}".to_owned()),
        ("the other half", "{\"x\":\"\\udc00CANARY\"}".to_owned()),
        ("two documents", "{}{}".to_owned()),
        ("a comment", "{/* CANARY */}".to_owned()),
        ("not a number", "{\"x\":NaN}".to_owned()),
    ];
    let patch = [("content-type", "application/json-patch+json")];
    for (why, body) in &cases {
        let ways: [(&str, &str, &[(&str, &str)], String); 6] = [
            ("PUT", "/Observation/o", &[], body.clone()),
            ("POST", "/Observation", &[], body.clone()),
            ("POST", "/Observation/$validate", &[], body.clone()),
            ("POST", "/Observation/o/$meta-add", &[], body.clone()),
            (
                "PATCH",
                "/Observation/o",
                &patch,
                format!("[{{\"op\":\"add\",\"path\":\"/x\",\"value\":{body}}}]"),
            ),
            (
                "POST",
                "",
                &[],
                format!(
                    "{{\"resourceType\":\"Bundle\",\"type\":\"batch\",\"entry\":[{{\"resource\":{body}}}]}}"
                ),
            ),
        ];
        for (method, path, headers, body) in ways {
            let refused = client.ask(method, path, headers, &body);
            assert_eq!(
                (refused.status, code_of(&refused).as_str()),
                (400, "structure"),
                "{why}: {method} {path}: {}",
                refused.text()
            );
            assert!(!refused.text().contains("CANARY"), "{why}: {}", refused.text());
        }
    }
    let key = server.key("raw", "operator");
    let headers = [("x-api-key", key.as_str()), JSON];
    let latin = request(server.http.unwrap(), "PUT", "/fhir/Observation/o", &headers, b"{\"x\":\"\xe9\"}");
    assert_eq!((latin.status, code_of(&latin).as_str()), (400, "structure"), "no UTF-8");
    // What a double holds is taken and comes back as it was written.
    for number in ["-123456789.012345678e-308", "1e308"] {
        let large = observation("o", &format!(",\"valueQuantity\":{{\"value\":{number}}}"));
        assert_eq!(client.ask("PUT", "/Observation/o", &[], &large).status, 200);
        assert!(client.get("/Observation/o").text().contains(number));
    }
    // What no program could be sure to hold is not, whatever it is said by.
    for number in ["1e400", "-1e400", "1E+309", "9e308", "-99999e304", "0e-99999999999999999999"] {
        let body = observation("o", &format!(",\"valueQuantity\":{{\"value\":{number}}}"));
        let patched =
            format!("[{{\"op\":\"replace\",\"path\":\"/valueQuantity/value\",\"value\":{number}}}]");
        let one =
            format!("{{\"request\":{{\"method\":\"PUT\",\"url\":\"Observation/o\"}},\"resource\":{body}}}");
        let all = format!("{{\"resourceType\":\"Bundle\",\"type\":\"transaction\",\"entry\":[{one}]}}");
        for (method, path, headers, body, at) in [
            ("PUT", "/Observation/o", &[][..], &body, ""),
            ("PATCH", "/Observation/o", &patch[..], &patched, ""),
            ("POST", "", &[][..], &all, "Bundle.entry[0].resource"),
        ] {
            let refused = client.ask(method, path, headers, body);
            assert_eq!((refused.status, code_of(&refused).as_str()), (400, "too-long"), "{number} {method}");
            let at = if at.is_empty() { "Observation" } else { at };
            let found = &said(&refused)["issue"][0]["expression"][0];
            assert_eq!(found.as_str(), Some(format!("{at}.value.value").as_str()), "{}", refused.text());
        }
    }
}

/// A gzip bomb is not unpacked, a body of 100 MB not read, and what is no JSON not guessed at.
#[test]
fn bodies_that_are_not_what_they_should_be_are_refused_unread() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    let key = server.key("raw", "operator");
    let before = server.resident_bytes();
    // Ten megabytes that would be ten gigabytes: what it says alone is enough.
    let bomb = vec![0_u8; 10 << 20];
    for coding in ["gzip", "deflate", "br", "identity, gzip", "x-unknown"] {
        for (method, path) in
            [("PUT", "/fhir/Observation/o"), ("POST", "/fhir"), ("PATCH", "/fhir/Observation/o")]
        {
            let headers = [("x-api-key", key.as_str()), JSON, ("content-encoding", coding)];
            let refused = request(server.http.unwrap(), method, path, &headers, &bomb);
            assert_eq!(refused.status, 415, "{coding} {method}: {}", refused.text());
            assert_eq!(refused.header("accept-encoding").as_deref(), Some("identity"), "{coding} {method}");
        }
    }
    let large = vec![b' '; 100 << 20];
    for (method, path) in [("PUT", "/fhir/Observation/o"), ("POST", "/fhir"), ("POST", "/fhir/Observation")] {
        let refused =
            request(server.http.unwrap(), method, path, &[("x-api-key", key.as_str()), JSON], &large);
        assert_eq!((refused.status, code_of(&refused).as_str()), (413, "too-long"), "{method} {path}");
    }
    // The same without saying how long it is.
    let mut stream = TcpStream::connect(server.http.unwrap()).unwrap();
    let head = format!(
        "PUT /fhir/Observation/o HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-type: application/fhir+json\r\n\
         transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"100000\r\n".as_slice(), &large[..1 << 20], b"\r\n"].concat();
    for _ in 0..100 {
        if stream.write_all(&chunk).is_err() {
            break; // it does not listen any more
        }
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 200 << 20, "{grown} bytes more");

    for media in [
        "application/fhir+xml",
        "text/xml",
        "application/xml",
        "text/plain",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
    ] {
        let refused = client.ask("PUT", "/Observation/o", &[("content-type", media)], &observation("o", ""));
        assert_eq!((refused.status, code_of(&refused).as_str()), (415, "not-supported"), "{media}");
        assert!(refused.text().contains("application/fhir+json"), "the way out: {}", refused.text());
    }
    for accept in ["application/fhir+xml", "text/xml", "text/turtle"] {
        for path in ["/Observation/o", "/Observation", "/_history", "/metadata"] {
            let refused = client.ask("GET", path, &[("accept", accept)], "");
            assert_eq!(
                (refused.status, code_of(&refused).as_str()),
                (406, "not-supported"),
                "{accept} {path}"
            );
        }
    }
    assert_eq!(client.get("/Observation/o").status, 404, "nothing of all that is kept");
}

/// Entries in a circle are one commit; a fullUrl that stands twice, a reference to nothing and too many of anything are
/// refused whole.
#[test]
fn transactions_in_a_circle_are_taken_and_those_that_say_nothing_clear_are_not() {
    let folder = tempdir().unwrap();
    let config = "[fhir]\nbundle_entries_max = 5\nbundle_searches_max = 2\nreferences = \"exist\"\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let client = Client::new(&server, "operator", "operator");
    let urn = |n: usize| format!("urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-00000000000{n}");
    let link = |n: usize, to: usize| {
        let resource = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
            "hasMember": [{"reference": urn(to)}, {"reference": urn(n)}]});
        entry("POST", "Observation", &json!({"fullUrl": urn(n), "resource": resource}))
    };
    // Each refers to the next one and to itself, the last one to the first.
    let circle: Vec<Value> = (0..5).map(|n| link(n, (n + 1) % 5)).collect();
    let made = client.ask("POST", "", &[], &bundle("transaction", &circle));
    assert_eq!(made.status, 200, "{}", made.text());
    assert_eq!(statuses(&said(&made)), ["201 Created"; 5]);

    let put = |id: &str, to: &str| {
        let resource = json!({"resourceType": "Observation", "id": id, "status": "final", "code": {"text": "x"},
            "subject": {"reference": to}});
        entry("PUT", &format!("Observation/{id}"), &json!({"resource": resource}))
    };
    assert_eq!(
        client.ask("PUT", "/Patient/p", &[], "{\"resourceType\":\"Patient\",\"id\":\"p\"}").status,
        201
    );
    let twice = [link(1, 2), link(2, 1), link(1, 1)];
    let six: Vec<Value> = (0..6).map(|n| put(&format!("o{n}"), "Patient/p")).collect();
    let searches: Vec<Value> =
        (0..3).map(|n| put(&format!("o{n}"), &format!("Patient?_id=p&_id=p,{n}"))).collect();
    let reads = |url: &str| entry("GET", url, &json!({}));
    let readings = [
        reads("Patient?_id=p"),
        put("o1", "Patient/p"),
        reads("Observation"),
        put("o2", "Patient/p"),
        reads("Patient?_id=q"),
    ];
    let nothing = |at: usize| format!("Bundle.entry[{at}]");
    let cases: [(&str, &[Value], u16, &str, String); 6] = [
        ("a fullUrl twice", &twice, 400, "invalid", nothing(2)),
        ("too many entries", &six, 413, "too-long", String::new()),
        ("too many searches", &searches, 413, "too-costly", nothing(2)),
        ("too many readings that search", &readings, 413, "too-costly", nothing(4)),
        (
            "to nothing",
            &[put("o1", "Patient/p"), put("o2", "Patient/CANARY")],
            422,
            "not-found",
            format!("{}.resource.subject", nothing(1)),
        ),
        (
            "to what goes",
            &[put("o1", "Patient/p"), entry("DELETE", "Patient/p", &json!({}))],
            422,
            "not-found",
            format!("{}.resource.subject", nothing(0)),
        ),
    ];
    for (why, entries, status, code, expression) in cases {
        let refused = client.ask("POST", "", &[], &bundle("transaction", entries));
        assert_eq!((refused.status, code_of(&refused).as_str()), (status, code), "{why}: {}", refused.text());
        assert_eq!(
            said(&refused)["issue"][0]["expression"][0].as_str().unwrap_or_default(),
            expression,
            "{why}"
        );
        assert!(!refused.text().contains("CANARY"), "{why}");
        for id in ["o0", "o1", "o2"] {
            assert_eq!(client.get(&format!("/Observation/{id}")).status, 404, "{why}: {id}");
        }
    }

    // By itself, by a condition and by a patch the same holds; what leads elsewhere or stays within is not asked for.
    let to = |reference: &str| observation("o", &format!(",\"subject\":{{\"reference\":\"{reference}\"}}"));
    for (reference, status) in [
        ("Patient/none", 422),
        ("Group/p", 422),
        ("nonsense", 422),
        ("Patient/p", 201),
        ("Patient/p/_history/1", 200),
        ("Observation/o", 200),
        ("https://example.org/fhir/Patient/1", 200),
        ("urn:oid:1.2.3", 200),
    ] {
        let answer = client.ask("PUT", "/Observation/o", &[], &to(reference));
        assert_eq!(answer.status, status, "{reference}: {}", answer.text());
    }
    assert_eq!(client.ask("POST", "/Observation", &[], &to("Patient/none")).status, 422);
    let patch = r#"[{"op":"replace","path":"/subject/reference","value":"Patient/none"}]"#;
    let media = [("content-type", "application/json-patch+json")];
    assert_eq!(client.ask("PATCH", "/Observation/o", &media, patch).status, 422);
    assert_eq!(client.ask("DELETE", "/Patient/p", &[], "").status, 204);
    assert_eq!(
        client.ask("PUT", "/Observation/o", &[], &to("Patient/p")).status,
        422,
        "what is deleted is nothing"
    );
}

/// The status of an answer, if one came.
fn tried(address: SocketAddr, key: &str, body: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    let head = format!(
        "POST /fhir HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-type: application/fhir+json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// Ten resources in one transaction, and one that stands already in another version.
fn ten(n: usize) -> String {
    let one = |at: usize| {
        let id = format!("t{n}-{at}");
        let resource: Value = serde_json::from_str(&observation(&id, "")).unwrap();
        entry("PUT", &format!("Observation/{id}"), &json!({"resource": resource}))
    };
    let mut entries: Vec<Value> = (0..10).map(one).collect();
    let basic = json!({"resourceType": "Basic", "id": "last", "code": {"text": n.to_string()}});
    entries.push(entry("PUT", "Basic/last", &json!({"resource": basic})));
    bundle("transaction", &entries)
}

/// After an end without warning each transaction is there whole or not at all, and what was answered is there.
fn whole_or_not_at_all(folder: &TempDir, key: &str, answered: usize) {
    let server = Server::start(folder, &Start::default());
    let get = |path: &str| {
        request(server.http.unwrap(), "GET", &format!("/fhir/{path}"), &[("x-api-key", key)], b"")
    };
    let mut whole = 0;
    for n in 0..=answered {
        let there = (0..10).filter(|at| get(&format!("Observation/t{n}-{at}")).status == 200).count();
        assert!(
            there == 10 || (there == 0 && n == answered),
            "{there} of transaction {n}, {answered} were answered"
        );
        whole += usize::from(there == 10);
    }
    if whole > 0 {
        let last = said(&get("Basic/last"));
        assert_eq!(last["code"]["text"], (whole - 1).to_string());
        assert_eq!(last["meta"]["versionId"], whole.to_string());
        // Found by a search as it is read: rows and resources are one commit.
        assert_eq!(said(&get("Observation?_summary=count"))["total"], whole * 10);
    }
    server.stop();
}

#[test]
fn killed_within_a_transaction_all_of_it_is_there_or_nothing() {
    let prepared = || {
        let folder = tempdir().unwrap();
        let server = Server::start(&folder, &Start::default());
        let key = server.key("writer", "operator");
        server.stop();
        (folder, key)
    };
    // Between what is written and what is durable, at several commits.
    for count in [12, 13, 16, 25] {
        let (folder, key) = prepared();
        let plan = format!("commit:{count}");
        let environment = [("HILUM_FAILPOINT", plan.as_str())];
        let start = Start { environment: &environment, ..Start::default() };
        let Some(mut server) = Server::try_start(&folder, &start) else { continue };
        let answered =
            (0..100).take_while(|n| tried(server.http.unwrap(), &key, &ten(*n)) == Some(200)).count();
        assert!(!server.ended(20).success(), "{count}");
        drop(server);
        whole_or_not_at_all(&folder, &key, answered);
    }
    // By kill -9, whenever.
    let (folder, key) = prepared();
    let server = Server::start(&folder, &Start::default());
    let (address, writer) = (server.http.unwrap(), key.clone());
    let answered = std::thread::spawn(move || {
        (0..100_000).take_while(|n| tried(address, &writer, &ten(*n)) == Some(200)).count()
    });
    crate::server::wait("some transactions", 30, || {
        let read = request(address, "GET", "/fhir/Observation/t5-0", &[("x-api-key", &key)], b"");
        (read.status == 200).then_some(())
    });
    drop(server);
    whole_or_not_at_all(&folder, &key, answered.join().unwrap());
}
