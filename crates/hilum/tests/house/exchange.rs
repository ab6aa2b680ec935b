//! Batches and transactions over the real socket.

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::both::on_both_engines;
use crate::confidence::{OPEN, SECRET, all_applied, messages};
use crate::fhir::{Client, said};
use crate::server::{Server, Start, field, wait};

pub fn entry(method: &str, url: &str, more: &Value) -> Value {
    let mut entry = json!({"request": {"method": method, "url": url}});
    for (name, value) in more.as_object().unwrap() {
        match name.as_str() {
            "ifMatch" | "ifNoneExist" | "ifModifiedSince" => entry["request"][name] = value.clone(),
            _ => entry[name] = value.clone(),
        }
    }
    entry
}

pub fn bundle(kind: &str, entries: &[Value]) -> String {
    json!({"resourceType": "Bundle", "type": kind, "entry": entries}).to_string()
}

fn note(id: &str) -> Value {
    json!({"resource": {"resourceType": "Observation", "id": id, "status": "final", "code": {"text": "CANARY"}}})
}

pub fn statuses(answer: &Value) -> Vec<&str> {
    let entries = answer["entry"].as_array().unwrap().iter();
    entries.map(|entry| entry["response"]["status"].as_str().unwrap()).collect()
}

#[test]
fn a_transaction_is_one_commit_and_its_entries_know_each_other() {
    on_both_engines(transaction);
}

fn transaction(server: &Server) {
    let client = Client::new(server, "operator", "operator");
    let made = client.ask("PUT", "/Observation/gone", &[], &note("gone")["resource"].to_string());
    assert_eq!(made.status, 201, "{}", made.text());
    // Each names the other: neither could come first.
    let patient = json!({"fullUrl": "urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-000000000001", "resource": {"resourceType": "Patient",
        "generalPractitioner": [{"reference": "urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-000000000002"}]}});
    let doctor = json!({"fullUrl": "urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-000000000002", "resource": {"resourceType": "Practitioner",
        "extension": [{"url": "http://example.org/of",
            "valueReference": {"reference": "urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-000000000001"}}]}});
    let observation = json!({"resource": {"resourceType": "Observation", "id": "bp", "status": "final",
        "code": {"text": "urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-000000000001"},
        "subject": {"reference": "urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-000000000001"}}});
    let entries = [
        entry("GET", "Observation/bp", &json!({})),
        entry("PUT", "Observation/bp", &observation),
        entry("POST", "Patient", &patient),
        entry("POST", "Practitioner", &doctor),
        entry("DELETE", "Observation/gone", &json!({})),
        entry("DELETE", "Observation/never", &json!({})),
        entry("GET", "Observation/gone", &json!({})),
    ];
    let done = client.ask("POST", "", &[], &bundle("transaction", &entries));
    assert_eq!(done.status, 200, "{}", done.text());
    let done = said(&done);
    assert_eq!(done["type"], "transaction-response");
    let want = [
        "200 OK",
        "201 Created",
        "201 Created",
        "201 Created",
        "204 No Content",
        "204 No Content",
        "410 Gone",
    ];
    assert_eq!(statuses(&done), want, "as they came, whatever the order in which they were done");
    let made = |at: usize| {
        let location = done["entry"][at]["response"]["location"].as_str().unwrap();
        let (_, path) = location.split_once("/fhir/").unwrap();
        path.split_once("/_history/").unwrap().0.to_owned()
    };
    let (patient, doctor) = (made(2), made(3));
    let read = |path: &str| said(&client.get(&format!("/{path}")));
    assert_eq!(read(&patient)["generalPractitioner"][0]["reference"], doctor);
    assert_eq!(read(&doctor)["extension"][0]["valueReference"]["reference"], patient);
    let observation = read("Observation/bp");
    assert_eq!(observation["subject"]["reference"], patient);
    assert_eq!(
        observation["code"]["text"], "urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-000000000001",
        "a text is no reference"
    );
    assert_eq!(done["entry"][0]["resource"], observation, "read behind what was written");
    assert!(done["entry"][1].get("resource").is_none(), "of many only where it is wanted");
    assert_eq!(client.get("/Observation/gone").status, 410);
    let wanted = client.ask(
        "POST",
        "",
        &[("prefer", "return=representation"), ("content-type", "application/fhir+json")],
        &bundle("transaction", &[entry("PUT", "Observation/bp", &note("bp"))]),
    );
    assert_eq!(said(&wanted)["entry"][0]["resource"]["meta"]["versionId"], "2");
}

#[test]
fn of_a_transaction_that_fails_nothing_is_written_and_the_entry_is_named() {
    on_both_engines(failing_transactions);
}

fn failing_transactions(server: &Server) {
    let client = Client::new(server, "operator", "operator");
    let many: Vec<Value> =
        (0..1_001).map(|n| entry("DELETE", &format!("Observation/{n}"), &json!({}))).collect();
    let with = |more: Value| {
        let mut all = note("second");
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let refers = json!({"resource": {"resourceType": "Observation", "id": "second", "status": "final", "code": {"text": "x"},
        "subject": {"reference": "urn:uuid:CANARY"}}});
    let searches = json!({"resource": {"resourceType": "Observation", "id": "second", "status": "final", "code": {"text": "x"},
        "subject": {"reference": "Patient?identifier=CANARY"}}});
    let broken =
        json!({"resource": {"resourceType": "Observation", "id": "second", "status": "CANARY", "code": {}}});
    type Case = (&'static str, Vec<Value>, u16, &'static str, &'static str);
    let second = |method: &str, url: &str, more: Value| vec![entry(method, url, &more)];
    let cases: Vec<Case> = vec![
        (
            "another version",
            second("PUT", "Observation/second", with(json!({"ifMatch": "W/\"9\""}))),
            412,
            "conflict",
            "Bundle.entry[1]",
        ),
        (
            "no such type",
            second("POST", "Observatoin", note("second")),
            404,
            "not-supported",
            "Bundle.entry[1]",
        ),
        ("another type", second("POST", "Patient", note("second")), 400, "invalid", "Bundle.entry[1]"),
        ("another id", second("PUT", "Observation/third", note("second")), 400, "invalid", "Bundle.entry[1]"),
        ("twice", second("PUT", "Observation/first", note("first")), 400, "invalid", "Bundle.entry[1]"),
        ("to nobody", second("PUT", "Observation/second", refers), 400, "invalid", "Bundle.entry[1]"),
        ("by a search", second("PUT", "Observation/second", searches), 412, "not-found", "Bundle.entry[1]"),
        (
            "a code that is none",
            second("PUT", "Observation/second", broken),
            422,
            "code-invalid",
            "Bundle.entry[1].resource.status",
        ),
        (
            "conditional",
            second("POST", "Observation", with(json!({"ifNoneExist": "coode=CANARY"}))),
            400,
            "not-supported",
            "Bundle.entry[1]",
        ),
        (
            "a patch that is none",
            second("PATCH", "Observation/second", note("second")),
            415,
            "not-supported",
            "Bundle.entry[1]",
        ),
        ("too many", many, 413, "too-long", ""),
    ];
    for (why, more, status, code, expression) in cases {
        let mut entries = vec![entry("PUT", "Observation/first", &note("first"))];
        entries.extend(more);
        let refused = client.ask("POST", "", &[], &bundle("transaction", &entries));
        assert_eq!(refused.status, status, "{why}: {}", refused.text());
        let outcome = said(&refused);
        assert_eq!(outcome["issue"][0]["code"], code, "{why}: {outcome}");
        assert_eq!(
            outcome["issue"][0]["expression"][0].as_str().unwrap_or_default(),
            expression,
            "{why}: {outcome}"
        );
        assert!(!refused.text().contains("CANARY"), "{why}: {outcome}");
        let first = client.get("/Observation/first").status;
        assert_eq!(first, 404, "{why}");
    }
    let one = entry("POST", "Observation", &with(json!({"fullUrl": "urn:uuid:1"})));
    let two = [one.clone(), one];
    let refused = client.ask("POST", "", &[], &bundle("transaction", &two));
    assert!(refused.text().contains("same fullUrl"), "{}", refused.text());
    let refused = client.ask("POST", "", &[], &note("x")["resource"].to_string());
    assert!(refused.status == 400 && refused.text().contains("goes to its type"), "{}", refused.text());
    let refused = client.ask("POST", "", &[], &bundle("collection", &[]));
    assert!(refused.status == 400 && refused.text().contains("batch or transaction"), "{}", refused.text());
    let reader = Client::new(server, "viewer", "viewer");
    assert_eq!(reader.ask("POST", "", &[], &bundle("batch", &[])).status, 403);
}

/// `Patient/1` of a resource that stands elsewhere is not our `Patient/1`: what is said of one must not come to another.
#[test]
fn a_relative_reference_leads_to_where_its_entry_stands() {
    on_both_engines(relative);
}

fn relative(server: &Server) {
    let client = Client::new(server, "operator", "operator");
    let somebody = r#"{"resourceType":"Patient","id":"123","name":[{"family":"Somebody"}]}"#;
    assert_eq!(client.ask("PUT", "/Patient/123", &[], somebody).status, 201);
    let person = json!({"fullUrl": "http://src.example/fhir/Patient/123", "resource": {"resourceType": "Patient", "id": "123",
        "name": [{"family": "Imported"}]}});
    let observed = |full_url: &str, id: &str, subject: &str| {
        json!({"fullUrl": full_url, "resource": {"resourceType": "Observation", "id": id, "status": "final",
            "code": {"text": "x"}, "subject": {"reference": subject}}})
    };
    let base = format!("http://{}/fhir", server.http.unwrap());
    let src = "http://src.example/fhir/Observation";
    let put = |id: &str, more: &Value| entry("PUT", &format!("Observation/{id}"), more);
    let file =
        json!({"fullUrl": "urn:uuid:f", "resource": {"resourceType": "Binary", "contentType": "text/plain"}});
    let document = json!({"fullUrl": "urn:uuid:d", "resource": {"resourceType": "DocumentReference", "status": "current",
        "content": [{"attachment": {"url": "urn:uuid:f"}}]}});
    let kept = json!({"resourceType": "Bundle", "id": "kept", "type": "collection", "entry": [
        {"fullUrl": "http://other.example/fhir/Observation/1", "resource": {"resourceType": "Observation", "status": "final",
            "code": {"text": "x"}, "subject": {"reference": "Patient/123"}, "focus": [{"reference": "urn:uuid:f"}]}}]});
    let entries = [
        entry("POST", "Patient", &person),
        put("beside", &observed(&format!("{src}/1"), "beside", "Patient/123")),
        put("version", &observed(&format!("{src}/3"), "version", "Patient/123/_history/2")),
        put("elsewhere", &observed(&format!("{src}/2"), "elsewhere", "Patient/124")),
        entry(
            "PUT",
            "Bundle/kept",
            &json!({"fullUrl": "http://src.example/fhir/Bundle/kept", "resource": kept}),
        ),
        put("ours", &observed(&format!("{base}/Observation/ours"), "ours", "Patient/123")),
        put("uuid", &observed("urn:uuid:3", "uuid", "Patient/123")),
        entry("POST", "Binary", &file),
        entry("POST", "DocumentReference", &document),
    ];
    let done = client.ask("POST", "", &[], &bundle("transaction", &entries));
    assert_eq!(done.status, 200, "{}", done.text());
    let done = said(&done);
    let made = |at: usize| {
        let location = done["entry"][at]["response"]["location"].as_str().unwrap();
        let (_, path) = location.split_once("/fhir/").unwrap();
        path.split_once("/_history/").unwrap().0.to_owned()
    };
    let subject = |id: &str| said(&client.get(&format!("/Observation/{id}")))["subject"]["reference"].clone();
    let cases = [
        ("beside", made(0)),
        ("version", made(0)),
        // Whose population it is, nobody says: it stays as it came.
        ("elsewhere", "Patient/124".to_owned()),
        ("ours", "Patient/123".to_owned()),
        ("uuid", "Patient/123".to_owned()),
    ];
    for (id, want) in cases {
        assert_eq!(subject(id), want, "{id}");
    }
    let document = said(&client.get(&format!("/{}", made(8))));
    assert_eq!(document["content"][0]["attachment"]["url"], made(7));
    let inner = &said(&client.get("/Bundle/kept"))["entry"][0]["resource"];
    assert_eq!(inner["subject"]["reference"], "Patient/123", "a Bundle says what it says to itself");
    assert_eq!(inner["focus"][0]["reference"], "urn:uuid:f");

    // Where the base is ours, who is found by a condition is meant as well.
    let known =
        json!({"resourceType": "Patient", "id": "77", "identifier": [{"system": "urn:s", "value": "77"}]});
    assert_eq!(client.ask("PUT", "/Patient/77", &[], &known.to_string()).status, 201);
    let found = json!({"fullUrl": format!("{base}/Patient/123"), "ifNoneExist": "identifier=urn:s|77",
        "resource": known});
    let of_found = observed(&format!("{base}/Observation/of"), "of", "Patient/123");
    let entries = [entry("POST", "Patient", &found), put("of", &of_found)];
    let done = client.ask("POST", "", &[], &bundle("transaction", &entries));
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(subject("of"), "Patient/77");
}

/// What cannot be read as it is asked keeps the whole from being written; that there is nothing is an answer.
#[test]
fn a_transaction_with_a_reading_that_is_none_writes_nothing() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    let send = |reading: Value| {
        let entries = [entry("PUT", "Observation/o", &note("o")), reading];
        client.ask("POST", "", &[], &bundle("transaction", &entries))
    };
    let since = |at: &str| entry("GET", "Observation/o", &json!({"ifModifiedSince": at}));
    for (why, reading) in [
        ("a parameter that is none", entry("GET", "Patient?foo=1", &json!({}))),
        ("no type", entry("GET", "metadata", &json!({}))),
        (
            "a value set that is not here",
            entry("GET", "Observation?code:in=http://example.org/vs", &json!({})),
        ),
        ("nor is this one", entry("GET", "Observation?code:not-in=ValueSet/vs", &json!({}))),
        ("a code system that is not here", entry("GET", "Observation?code:below=urn:c|x", &json!({}))),
        ("no instant", since("Sun, 06 Nov 1994 08:49:37 GMT")),
        ("no version", json!({"request": {"method": "GET", "url": "Observation/o", "ifNoneMatch": "abc"}})),
    ] {
        let refused = send(reading);
        assert!([400, 404, 422].contains(&refused.status), "{why}: {}", refused.text());
        assert!(refused.text().contains("Bundle.entry[1]"), "{why}: {}", refused.text());
        assert_eq!(client.get("/Observation/o").status, 404, "{why}");
    }
    let statuses_of = |reading| statuses(&said(&send(reading))).last().unwrap().to_string();
    assert_eq!(statuses_of(since("2030-01-01T00:00:00Z")), "304 Not Modified");
    assert_eq!(statuses_of(since("2020-01-01T00:00:00.123+09:00")), "200 OK");
    assert_eq!(statuses_of(entry("GET", "Patient/nobody", &json!({}))), "404 Not Found");
    // What the same transaction brings is there.
    let value_set = json!({"resourceType": "ValueSet", "id": "vs", "status": "active",
        "compose": {"include": [{"system": "urn:c", "concept": [{"code": "x"}]}]}});
    let entries = [
        entry("PUT", "ValueSet/vs", &json!({"resource": value_set})),
        entry("GET", "Observation?code:in=ValueSet/vs", &json!({})),
    ];
    let done = client.ask("POST", "", &[], &bundle("transaction", &entries));
    assert_eq!(statuses(&said(&done)), ["201 Created", "200 OK"], "{}", done.text());
}

#[test]
fn of_a_batch_each_entry_stands_alone() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    let broken =
        json!({"resource": {"resourceType": "Observation", "id": "b", "status": "CANARY", "code": {}}});
    let entries = [
        entry("PUT", "Observation/a", &note("a")),
        entry("PUT", "Observation/b", &broken),
        entry("PUT", "Observation/c", &note("d")),
        entry("GET", "Observation/a", &json!({})),
        entry("GET", "Observation/a/_history/1", &json!({})),
        entry("POST", "Observation", &note("given by the server")),
        entry("DELETE", "Observation/a", &json!({})),
        entry("GET", "Observation/a", &json!({})),
    ];
    let done = client.ask("POST", "", &[], &bundle("batch", &entries));
    assert_eq!(done.status, 200, "{}", done.text());
    let done = said(&done);
    assert_eq!(done["type"], "batch-response");
    let want = [
        "201 Created",
        "422 Unprocessable Entity",
        "400 Bad Request",
        "200 OK",
        "200 OK",
        "201 Created",
        "204 No Content",
        "410 Gone",
    ];
    assert_eq!(statuses(&done), want);
    let outcome = &done["entry"][1]["response"]["outcome"]["issue"][0];
    assert_eq!(outcome["expression"][0], "Bundle.entry[1].resource.status");
    assert_eq!(done["entry"][2]["response"]["outcome"]["issue"][0]["expression"][0], "Bundle.entry[2]");
    assert_eq!(done["entry"][3]["resource"]["code"]["text"], "CANARY");
    assert_eq!(done["entry"][3], done["entry"][4].clone(), "the version is the same");
}

/// Histories and operations are answered in a batch as by themselves; a transaction refuses them before it writes.
#[test]
fn a_batch_reads_histories_and_operations() {
    let folder = tempdir().unwrap();
    let config = "[fhir]\nbundle_searches_max = 14\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let client = Client::new(&server, "operator", "operator");
    let person =
        json!({"resourceType": "Patient", "id": "p", "meta": {"tag": [{"system": "urn:t", "code": "t"}]}});
    assert_eq!(client.ask("PUT", "/Patient/p", &[], &person.to_string()).status, 201);
    let broken =
        json!({"resource": {"resourceType": "Observation", "status": "CANARY", "code": {"text": "x"}}});
    let read = |url: &str| entry("GET", url, &json!({}));
    let asked = [
        "Patient/p/_history",
        "Patient/_history?_count=5",
        "_history",
        "Patient/p/$everything?_count=5",
        "Patient/p/$meta",
        "Patient/$meta",
        "$meta",
        "Patient/p?_elements=id",
        "Patient/p/_history/1?_summary=true",
        "Patient/p/Observation?_count=5",
        "Patient/p/*",
        "?_type=Patient&_id=p",
        "metadata",
    ];
    let mut entries: Vec<Value> = asked.iter().map(|url| read(url)).collect();
    entries.push(entry("POST", "Observation/$validate", &broken));
    let done = client.ask("POST", "", &[], &bundle("batch", &entries));
    assert_eq!(done.status, 200, "{}", done.text());
    let done = said(&done);
    assert_eq!(statuses(&done), ["200 OK"; 14]);
    for (url, entry) in asked.iter().zip(done["entry"].as_array().unwrap()) {
        let mut alone = said(&client.get(&format!("/{url}")));
        let mut within = entry["resource"].clone();
        // No two links are alike.
        for one in [&mut alone, &mut within] {
            one.as_object_mut().unwrap().remove("link");
        }
        assert_eq!(within, alone, "{url}");
    }
    let outcome = &done["entry"][13]["resource"];
    assert_eq!(
        (&outcome["resourceType"], &outcome["issue"][0]["code"]),
        (&json!("OperationOutcome"), &json!("code-invalid"))
    );
    assert_eq!(outcome["issue"][0]["expression"][0], "Observation.status");

    let refused = [
        read("Patient/none/_history"),
        read("Patient/p/_history?_count=0"),
        read("Patient/p/$none"),
        read("Observation/p/$everything"),
        entry("POST", "Patient/p/$meta-add", &json!({"resource": {"resourceType": "Parameters"}})),
        entry("POST", "Patient/_search", &json!({})),
        read("metadata/x/y"),
    ];
    let done = said(&client.ask("POST", "", &[], &bundle("batch", &refused)));
    let want = [
        "404 Not Found",
        "400 Bad Request",
        "400 Bad Request",
        "400 Bad Request",
        "400 Bad Request",
        "400 Bad Request",
        "404 Not Found",
    ];
    assert_eq!(statuses(&done), want, "{done}");
    for (at, entry) in done["entry"].as_array().unwrap().iter().enumerate() {
        let found = entry["response"]["outcome"]["issue"][0]["expression"][0].as_str().unwrap();
        assert!(found.starts_with(&format!("Bundle.entry[{at}]")), "{entry}");
    }
    let many: Vec<Value> = (0..15).map(|_| read("_history")).collect();
    let done = said(&client.ask("POST", "", &[], &bundle("batch", &many)));
    assert_eq!(statuses(&done)[13..], ["200 OK", "413 Payload Too Large"]);

    // What HEAD asks for is told without a body.
    let heads =
        ["Patient/p", "Patient/p?_elements=id", "Patient?_id=p"].map(|url| entry("HEAD", url, &json!({})));
    let done = said(&client.ask("POST", "", &[], &bundle("batch", &heads)));
    assert_eq!(statuses(&done), ["200 OK"; 3]);
    assert!(done["entry"].as_array().unwrap().iter().all(|entry| entry.get("resource").is_none()), "{done}");

    for reading in
        [read("Patient/p/_history"), read("$meta"), entry("POST", "Observation/$validate", &note("x"))]
    {
        let entries = [entry("PUT", "Observation/first", &note("first")), reading];
        let refused = client.ask("POST", "", &[], &bundle("transaction", &entries));
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert_eq!(client.get("/Observation/first").status, 404);
    }
}

fn patient(number: &str, more: &Value) -> Value {
    let mut patient =
        json!({"resourceType": "Patient", "identifier": [{"system": "urn:ward", "value": number}]});
    patient.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    patient
}

#[test]
fn a_condition_is_met_by_one_or_by_nothing() {
    on_both_engines(conditions);
}

fn conditions(server: &Server) {
    let client = Client::new(server, "operator", "operator");
    let create = |number: &str| {
        let condition = format!("identifier=urn:ward|{number}");
        let headers = [("if-none-exist", condition.as_str()), ("content-type", "application/fhir+json")];
        client.ask("POST", "/Patient", &headers, &patient(number, &json!({})).to_string())
    };
    // Of many at once one creates, and all are told the same.
    let all: Vec<(u16, Value)> = std::thread::scope(|scope| {
        let made: Vec<_> = (0..8).map(|_| scope.spawn(|| create("7"))).collect();
        made.into_iter()
            .map(|one| one.join().unwrap())
            .map(|one| (one.status, said(&one)["id"].take()))
            .collect()
    });
    assert_eq!(all.iter().filter(|(status, _)| *status == 201).count(), 1, "{all:?}");
    assert!(all.iter().all(|(status, id)| [200, 201].contains(status) && *id == all[0].1), "{all:?}");
    assert_eq!(said(&client.get("/Patient?identifier=urn:ward|7"))["total"], 1);

    let put = |criteria: &str, body: &Value| {
        client.ask("PUT", &format!("/Patient?{criteria}"), &[], &body.to_string())
    };
    let male = json!({"gender": "male"});
    let updated = put("identifier=urn:ward|7", &patient("7", &male));
    assert_eq!(
        (updated.status, said(&updated)["meta"]["versionId"].as_str()),
        (200, Some("2")),
        "{}",
        updated.text()
    );
    assert_eq!(said(&updated)["id"], all[0].1);
    let other = put("identifier=urn:ward|7", &patient("7", &json!({"id": "other"})));
    assert!(other.status == 400 && other.text().contains("another id"), "{}", other.text());
    let made = put("identifier=urn:ward|8", &patient("8", &json!({"id": "eight"})));
    assert_eq!((made.status, said(&made)["id"].as_str()), (201, Some("eight")), "{}", made.text());
    let made = put("identifier=urn:ward|9", &patient("9", &json!({})));
    assert_eq!(made.status, 201, "{}", made.text());
    // Whose id it says does not meet the condition: somebody else would be written over.
    let eleven = patient("11", &json!({"id": "eight"}));
    let taken = put("identifier=urn:ward|11", &eleven);
    assert_eq!(
        (taken.status, said(&taken)["issue"][0]["code"].as_str()),
        (409, Some("conflict")),
        "{}",
        taken.text()
    );
    let within = entry("PUT", "Patient?identifier=urn:ward|11", &json!({"resource": eleven}));
    let taken = client.ask("POST", "", &[], &bundle("transaction", &[within]));
    assert_eq!(taken.status, 409, "{}", taken.text());
    assert_eq!(said(&client.get("/Patient/eight"))["identifier"][0]["value"], "8");
    for (why, answer) in [
        ("update", put("identifier:missing=false", &patient("7", &json!({})))),
        ("delete", client.ask("DELETE", "/Patient?identifier:missing=false", &[], "")),
    ] {
        assert_eq!(
            (answer.status, said(&answer)["issue"][0]["code"].as_str()),
            (412, Some("multiple-matches")),
            "{why}"
        );
    }
    for (why, criteria) in [
        ("nothing", ""),
        ("no criteria", "_count=1"),
        ("an empty one beside another", "identifier=7&family="),
        ("an order", "identifier=7&_sort=birthdate"),
    ] {
        assert_eq!(put(criteria, &patient("7", &json!({}))).status, 400, "{why}");
        assert_eq!(client.ask("DELETE", &format!("/Patient?{criteria}"), &[], "").status, 400, "{why}");
    }
    for _ in 0..2 {
        assert_eq!(client.ask("DELETE", "/Patient?identifier=urn:ward|7", &[], "").status, 204);
    }
    let anew = create("7");
    assert_eq!(anew.status, 201, "{}", anew.text());
    let version = &said(&anew)["meta"]["versionId"];
    assert_eq!((&said(&anew)["id"], version.as_str()), (&all[0].1, Some("4")), "again, behind its deletion");
    let headers = [("if-none-exist", "Basic?code=7"), ("content-type", "application/fhir+json")];
    assert_eq!(client.ask("POST", "/Patient", &headers, &patient("7", &json!({})).to_string()).status, 400);
    // What is made so and does not meet the condition keeps nobody from making another one.
    let headers =
        [("if-none-exist", "identifier=urn:ward|nobody"), ("content-type", "application/fhir+json")];
    for _ in 0..6 {
        let other = client.ask("POST", "/Patient", &headers, &patient("somebody", &json!({})).to_string());
        assert_eq!(other.status, 201, "{}", other.text());
    }

    // In a transaction: who is there already is referred to, by fullUrl and by a search.
    let note = |id: &str, subject: &str| {
        json!({"resource": {"resourceType": "Observation", "id": id, "status": "final", "code": {"text": "x"},
            "subject": {"reference": subject}}})
    };
    let person = |number: &str, full_url: &str| {
        let condition = format!("identifier=urn:ward|{number}");
        let more =
            json!({"fullUrl": full_url, "resource": patient(number, &json!({})), "ifNoneExist": condition});
        entry("POST", "Patient", &more)
    };
    let entries = [
        person("8", "urn:uuid:8"),
        person("10", "urn:uuid:10"),
        entry("PUT", "Observation/of-8", &note("of-8", "urn:uuid:8")),
        entry("PUT", "Observation/of-9", &note("of-9", "Patient?identifier=urn:ward|9")),
        entry("PUT", "Observation/of-10", &note("of-10", "urn:uuid:10")),
        entry("DELETE", "Patient?identifier=urn:ward|7", &json!({})),
        entry("GET", "Observation?subject:Patient.identifier=urn:ward|8", &json!({})),
    ];
    for round in [1, 2] {
        let done = client.ask("POST", "", &[], &bundle("transaction", &entries));
        assert_eq!(done.status, 200, "{}", done.text());
        let done = said(&done);
        let made = if round == 1 { "201 Created" } else { "200 OK" };
        let want = ["200 OK", made, made, made, made, "204 No Content", "200 OK"];
        assert_eq!(statuses(&done), want);
        assert_eq!(done["entry"][6]["resource"]["total"], 1, "what it wrote it finds");
    }
    let subject = |id: &str| said(&client.get(&format!("/Observation/{id}")))["subject"]["reference"].clone();
    assert_eq!(subject("of-8"), "Patient/eight");
    let nine = said(&client.get("/Patient?identifier=urn:ward|9"));
    assert_eq!(subject("of-9"), format!("Patient/{}", nine["entry"][0]["resource"]["id"].as_str().unwrap()));
    assert_eq!(said(&client.get("/Patient?identifier=urn:ward|10"))["total"], 1, "once, in two rounds");
}

/// What a condition finds, and the same transaction deletes, would be neither there nor made.
#[test]
fn what_a_transaction_deletes_meets_none_of_its_conditions() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    assert_eq!(
        client.ask("PUT", "/Patient/nine", &[], &patient("9", &json!({"id": "nine"})).to_string()).status,
        201
    );
    let condition = json!({"ifNoneExist": "identifier=urn:ward|9", "resource": patient("9", &json!({}))});
    let note = json!({"resource": {"resourceType": "Observation", "status": "final", "code": {"text": "x"},
        "subject": {"reference": "Patient?identifier=urn:ward|9"}}});
    for other in [entry("POST", "Patient", &condition), entry("POST", "Observation", &note)] {
        for gone in ["Patient/nine", "Patient?identifier=urn:ward|9"] {
            let entries = [entry("DELETE", gone, &json!({})), other.clone()];
            let done = client.ask("POST", "", &[], &bundle("transaction", &entries));
            assert_eq!(done.status, 400, "{}", done.text());
            assert!(
                done.text().contains("the transaction deletes")
                    || done.text().contains("transaction deletes what")
            );
            assert_eq!(client.get("/Patient/nine").status, 200, "nothing is done");
        }
    }
    // A text that is longer than what is compared meets nothing: it would meet what begins alike.
    let long = format!("/Patient?family={}NOBODY", "z".repeat(200));
    assert_eq!(client.ask("DELETE", &long, &[], "").status, 400);
    assert_eq!(client.get(&long.replace("family", "family:exact")).status, 200);
}

#[test]
fn who_may_not_be_found_is_not_made_a_second_time() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    for message in messages() {
        assert_eq!(field(&server.connect().ask(&message), "MSA", 1), "AA");
    }
    let patient = r#"{"resourceType":"Patient"}"#;
    let of = |number: &str| {
        let condition = format!("identifier={number}");
        let headers = [("if-none-exist", condition.as_str()), ("content-type", "application/fhir+json")];
        client.ask("POST", "/Patient", &headers, patient)
    };
    all_applied(server.http.unwrap(), &server.key("viewer", "viewer"));
    let open = said(&client.get(&format!("/Patient?identifier={OPEN}1")));
    assert_eq!(open["total"], 1);
    let stands = of(&format!("{OPEN}1"));
    assert_eq!((stands.status, &said(&stands)["id"]), (200, &open["entry"][0]["resource"]["id"]));
    assert_eq!(said(&client.get(&format!("/Patient?identifier={SECRET}1")))["total"], 0);
    assert_eq!(of(&format!("{SECRET}1")).status, 412);
    // A newborn of hers is found, and told without what would name her, whoever asks how.
    let born = wait("the newborn stands", 20, || {
        let born = of(&format!("{OPEN}16"));
        (born.status == 200).then_some(born)
    });
    assert!(born.text().contains(OPEN) && !born.text().contains(SECRET), "{}", born.text());
    let note =
        json!({"ifNoneExist": format!("identifier={OPEN}16"), "resource": {"resourceType": "Patient"}});
    let wanted = [("prefer", "return=representation"), ("content-type", "application/fhir+json")];
    for kind in ["batch", "transaction"] {
        let told = client.ask("POST", "", &wanted, &bundle(kind, &[entry("POST", "Patient", &note)]));
        assert!(told.text().contains(OPEN) && !told.text().contains(SECRET), "{}", told.text());
    }
    // By anything but a number a condition tells no more than a search.
    let condition = [("if-none-exist", "family=GEHEIMNAME"), ("content-type", "application/fhir+json")];
    assert_eq!(client.ask("POST", "/Patient", &condition, patient).status, 201);
    assert_eq!(client.ask("DELETE", &format!("/Patient?identifier={SECRET}1"), &[], "").status, 204);
}

#[test]
fn what_is_withheld_is_not_written_over_blindly() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    let admits = messages().into_iter().find(|message| message.contains("|O2|P|")).unwrap();
    assert_eq!(field(&server.connect().ask(&admits), "MSA", 1), "AA");
    let number = format!("/Patient?identifier={OPEN}2");
    let found = wait("she is found", 60, || {
        let found = said(&client.get(&number));
        (found["total"] == 1).then_some(found)
    });
    let about = format!("Patient/{}", found["entry"][0]["resource"]["id"].as_str().unwrap());
    let note = |text: &str| {
        json!({"resourceType": "Basic", "id": "about", "code": {"text": text}, "subject": {"reference": about}})
            .to_string()
    };
    assert_eq!(client.ask("PUT", "/Basic/about", &[], &note("first")).status, 201);
    assert_eq!(client.ask("PUT", "/Basic/about", &[], &note("second")).status, 200);
    let asks = admits
        .replace("ADT^A01", "ADT^A08")
        .replace("|O2|P|", "|O2C|P|")
        .replace("PV1|", "PD1||||||||||||Y\rPV1|");
    assert_eq!(field(&server.connect().ask(&asks), "MSA", 1), "AA");
    wait("she asks for confidence", 60, || (client.get(&format!("/{about}")).status == 404).then_some(()));

    let other = json!({"resourceType": "Basic", "id": "about", "code": {"text": "blind"}}).to_string();
    assert_eq!(client.get("/Basic/about").status, 404);
    assert_eq!(client.ask("PUT", "/Basic/about", &[], &other).status, 404);
    assert_eq!(client.ask("DELETE", "/Basic/about", &[], "").status, 404);
    // Nor does a condition tell how it stands.
    let patch = json!([{"op": "test", "path": "/code/text", "value": "second"}]).to_string();
    for condition in
        [("if-match", "W/\"1\""), ("if-match", "W/\"2\""), ("if-match", "*"), ("if-none-match", "*")]
    {
        let put = [condition, ("content-type", "application/fhir+json")];
        let patched = [condition, ("content-type", "application/json-patch+json")];
        for answer in [
            client.ask("PUT", "/Basic/about", &put, &other),
            client.ask("PATCH", "/Basic/about", &patched, &patch),
            client.ask("DELETE", "/Basic/about", &put[..1], ""),
        ] {
            assert_eq!(answer.status, 404, "{condition:?}: {}", answer.text());
            assert!(!answer.text().contains("version"), "{condition:?}: {}", answer.text());
        }
    }
    let resource: Value = serde_json::from_str(&other).unwrap();
    let entry = json!({"resource": resource, "request": {"method": "PUT", "url": "Basic/about"}});
    for (kind, status) in [("transaction", 404), ("batch", 200)] {
        let sent = json!({"resourceType": "Bundle", "type": kind, "entry": [entry]}).to_string();
        let told = client.ask("POST", "", &[], &sent);
        assert_eq!(told.status, status, "{}", told.text());
        assert!(told.text().contains("not-found"), "{}", told.text());
    }
    // Nor does a batch read what stands of her.
    let everything = format!("{about}/$everything");
    for url in ["Basic/about", "Basic/about/_history", "Basic/about/$meta", &about, &everything] {
        let entry = json!({"request": {"method": "GET", "url": url}});
        let sent = json!({"resourceType": "Bundle", "type": "batch", "entry": [entry]}).to_string();
        let told = said(&client.ask("POST", "", &[], &sent));
        let status = told["entry"][0]["response"]["status"].as_str().unwrap();
        assert!(status.starts_with("404"), "{url}: {told}");
    }
}
