//! Small things that clients expect: operations by either verb, any version, what an error names.

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::both::on_both_engines;
use crate::exchange::{bundle, entry};
use crate::fhir::{Client, said};
use crate::server::{Server, Start, request};

fn put(client: &Client<'_>, body: &Value) {
    let path = format!("/{}/{}", body["resourceType"].as_str().unwrap(), body["id"].as_str().unwrap());
    let made = client.ask("PUT", &path, &[], &body.to_string());
    assert!([200, 201].contains(&made.status), "{path}: {}", made.text());
}

fn note(id: &str, value: f64) -> Value {
    json!({"resourceType": "Observation", "id": id, "status": "final", "code": {"text": "x"},
        "subject": {"reference": "Patient/p"}, "valueQuantity": {"value": value}})
}

#[test]
fn everything_is_answered_by_post_as_by_get() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    put(&client, &json!({"resourceType": "Patient", "id": "p"}));
    put(
        &client,
        &json!({"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "IMP"},
        "subject": {"reference": "Patient/p"}}),
    );
    for n in 0..3 {
        put(&client, &note(&format!("o{n}"), 1.0));
    }
    let viewer = Client::new(&server, "viewer", "viewer");
    let ids = |answer: &Value| -> Vec<String> {
        let entries = answer["entry"].as_array().unwrap().iter();
        entries.map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned()).collect()
    };
    let path = "/Patient/p/$everything";
    assert_eq!(ids(&said(&viewer.ask("POST", path, &[], ""))), ids(&said(&viewer.get(path))));
    let parameters = json!({"resourceType": "Parameters", "parameter": [
        {"name": "_type", "valueCode": "Observation"}, {"name": "_type", "valueCode": "Encounter"},
        {"name": "_count", "valueInteger": 2}, {"name": "_since", "valueInstant": "2020-01-01T00:00:00+09:00"}]});
    let posted = viewer.ask("POST", path, &[], &parameters.to_string());
    assert_eq!(posted.status, 200, "{}", posted.text());
    let posted = said(&posted);
    let got = said(&viewer.get(&format!("{path}?_type=Observation,Encounter&_count=2&_since=2020-01-01")));
    assert_eq!((ids(&posted).len(), ids(&posted)), (2, ids(&got)));
    assert!(posted["link"].as_array().unwrap().iter().any(|link| link["relation"] == "next"), "{posted}");
    for (why, body) in [
        ("no Parameters", note("x", 1.0)),
        (
            "unknown",
            json!({"resourceType": "Parameters", "parameter": [{"name": "CANARY", "valueCode": "x"}]}),
        ),
        (
            "no value",
            json!({"resourceType": "Parameters", "parameter": [{"name": "_type", "part": [{"name": "x", "valueCode": "x"}]}]}),
        ),
    ] {
        let refused = viewer.ask("POST", path, &[], &body.to_string());
        assert!(refused.status == 400 && !refused.text().contains("CANARY"), "{why}: {}", refused.text());
    }
    assert_eq!(viewer.ask("POST", "/Patient/none/$everything", &[], "").status, 404);
}

#[test]
fn if_match_of_any_version_wants_that_there_is_one() {
    on_both_engines(any_version);
}

fn any_version(server: &Server) {
    let client = Client::new(server, "operator", "operator");
    let any = [("if-match", "*"), ("content-type", "application/fhir+json")];
    let write = |method: &str, path: &str, value: f64| {
        client.ask(method, path, &any, &note("o", value).to_string()).status
    };
    assert_eq!(write("PUT", "/Observation/o", 1.0), 412, "nothing stands");
    assert_eq!(write("PUT", "/Observation?_id=o", 1.0), 412, "nothing meets it");
    put(&client, &note("o", 1.0));
    assert_eq!(write("PUT", "/Observation/o", 2.0), 200);
    assert_eq!(write("PUT", "/Observation?_id=o", 3.0), 200);
    let send = |value: f64| {
        let one = entry("PUT", "Observation/o", &json!({"resource": note("o", value), "ifMatch": "*"}));
        client.ask("POST", "", &[], &bundle("transaction", &[one])).status
    };
    assert_eq!(send(4.0), 200);
    assert_eq!(client.ask("DELETE", "/Observation/o", &any[..1], "").status, 204);
    assert_eq!((send(5.0), write("PUT", "/Observation/o", 5.0)), (412, 412), "it is deleted");
    assert_eq!(client.ask("DELETE", "/Observation/o", &any[..1], "").status, 412, "again");
}

#[test]
fn an_error_names_what_is_wrong_and_what_is_near() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    for (path, named) in [
        ("/Patient?_sort=brithdate", ["in `_sort`", "the nearest is `birthdate`"]),
        ("/Patient?_sort=-nmae,_id", ["in `_sort`", "the nearest is `name`"]),
        ("/Encounter?_include=Encounter:subjet", ["in `_include`", "the nearest is `subject`"]),
        ("/Patient?_revinclude=Encounter:subjet", ["in `_revinclude`", "the nearest is `subject`"]),
    ] {
        let refused = client.get(path);
        let text = said(&refused)["issue"][0]["details"]["text"].to_string() + &refused.text();
        assert!(refused.status == 400 && named.iter().all(|one| text.contains(one)), "{path}: {text}");
    }
    let declared = [("content-length", "99999999")];
    let refused = client.ask("PUT", "/Observation/o", &declared, "");
    assert!(refused.status == 413 && refused.text().contains("MiB that are taken"), "{}", refused.text());

    put(&client, &note("hundred", 100.0));
    for number in ["1e2", "1e+2", "1E%2B2", "gt9e+1"] {
        let found = said(&client.get(&format!("/Observation?value-quantity={number}")));
        assert_eq!(found["total"], 1, "{number}: {found}");
    }
    for number in ["1e+-2", "1e++2", "1e+"] {
        assert_eq!(client.get(&format!("/Observation?value-quantity={number}")).status, 400, "{number}");
    }
    let key = server.key("looks", "operator");
    for (id, status) in [("p.1-a", 200), ("7f1d0a52-8b0e-4c1f-9d0e-000000000001", 200), ("a%20b", 400)] {
        let path = format!("/explore?patient={id}");
        let page = request(server.http.unwrap(), "GET", &path, &[("x-api-key", &key)], b"");
        assert_eq!(page.status, status, "{id}");
        assert_eq!(page.text().contains(&format!("patient={id}")), status == 200, "{id}");
    }
}

/// Who wrote over what they had not seen, of types for which that is not taken.
#[test]
fn where_a_version_has_to_be_named_nobody_writes_without() {
    let folder = tempdir().unwrap();
    let config = "[fhir]\nif_match = [\"Observation\"]\nignored_parameters = [\"_dc\"]\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let client = Client::new(&server, "operator", "operator");
    let body =
        "{\"resourceType\":\"Observation\",\"id\":\"o\",\"status\":\"final\",\"code\":{\"text\":\"x\"}}";
    assert_eq!(client.ask("PUT", "/Observation/o", &[], body).status, 201, "nothing stood there");
    let again = body.replace("\"x\"", "\"y\"");
    let resource: Value = serde_json::from_str(&again).unwrap();
    let entry = entry("PUT", "Observation/o", &json!({"resource": resource}));
    let within = bundle("transaction", &[entry]);
    for (why, method, path, sent) in [
        ("an update", "PUT", "/Observation/o", again.as_str()),
        ("by a condition", "PUT", "/Observation?_id=o", &again),
        ("a deletion", "DELETE", "/Observation/o", ""),
        ("in a transaction", "POST", "", &within),
    ] {
        let refused = client.ask(method, path, &[], sent);
        assert_eq!(refused.status, 428, "{why}: {}", refused.text());
        assert!(refused.text().contains("If-Match"), "{why}: {}", refused.text());
    }
    let named = [("if-match", "W/\"1\""), ("content-type", "application/fhir+json")];
    assert_eq!(client.ask("PUT", "/Observation/o", &named, &again).status, 200);
    let basic = "{\"resourceType\":\"Basic\",\"id\":\"b\",\"code\":{\"text\":\"x\"}}";
    for status in [201, 200] {
        assert_eq!(client.ask("PUT", "/Basic/b", &[], basic).status, status, "another type");
    }
    // What a proxy adds is not looked at; what nobody named is, as ever.
    assert_eq!(client.get("/Observation?_id=o&_dc=1734").status, 200);
    assert_eq!(client.get("/Observation?_id=o&_dd=1734").status, 400);
    assert_eq!(client.ask("PUT", "/Basic/c", &[], &basic.replace("\"b\"", "\"c\"")).status, 201);
    let page = said(&client.get("/Basic?_count=1&_dc=2"));
    let next = page["link"].as_array().unwrap().iter().find(|link| link["relation"] == "next").unwrap();
    let (_, path) = next["url"].as_str().unwrap().split_once("/fhir").unwrap();
    let later = client.get(&format!("{path}?_dc=3"));
    assert_eq!(later.status, 200, "{}", later.text());
}

#[test]
fn a_version_may_be_one_of_several() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    put(&client, &note("o", 1.0));
    put(&client, &note("o", 2.0));
    let write = |tags: &str, value: f64| {
        let headers = [("if-match", tags), ("content-type", "application/fhir+json")];
        client.ask("PUT", "/Observation/o", &headers, &note("o", value).to_string())
    };
    for (value, (tags, status)) in (3_u8..).map(f64::from).zip([
        ("W/\"1\"", 412),
        ("W/\"1\", W/\"2\"", 200),
        ("\"2\",\"1\"", 412),
        ("\"3\"", 200),
        ("W/\"9\", \"4\"", 200),
        ("W/\"5\", *", 400),
        ("W/\"5\",", 400),
    ]) {
        let answer = write(tags, value);
        assert_eq!(answer.status, status, "{tags}: {}", answer.text());
        if status == 400 {
            assert_eq!(said(&answer)["issue"][0]["expression"][0], "http.if-match");
        }
    }
    let one =
        entry("PUT", "Observation/o", &json!({"resource": note("o", 60.0), "ifMatch": "W/\"1\", W/\"5\""}));
    for status in [200, 412] {
        let sent = client.ask("POST", "", &[], &bundle("transaction", std::slice::from_ref(&one)));
        assert_eq!(sent.status, status, "{}", sent.text());
    }
    let none = [("if-match", "W/\"0\""), ("content-type", "application/fhir+json")];
    let body = note("new", 1.0).to_string();
    assert_eq!(client.ask("PUT", "/Observation/new", &none, &body).status, 412, "no version is none");
}

#[test]
fn entries_of_a_bundle_tell_what_is_preferred() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    for kind in ["batch", "transaction"] {
        let one = entry("PUT", "Observation/o", &json!({"resource": note("o", 1.0)}));
        let prefer = |wish: &'static str| {
            let headers = [("prefer", wish), ("content-type", "application/fhir+json")];
            said(&client.ask("POST", "", &headers, &bundle(kind, std::slice::from_ref(&one))))["entry"][0]
                .take()
        };
        let told = prefer("return=OperationOutcome");
        assert_eq!(told["response"]["outcome"]["issue"][0]["severity"], "information", "{kind}: {told}");
        assert!(told.get("resource").is_none() && told["response"]["location"].is_string(), "{kind}: {told}");
        let told = prefer("return=representation");
        assert!(told["resource"].is_object() && told["response"].get("outcome").is_none(), "{kind}: {told}");
        let told = prefer("return=minimal");
        assert!(
            told.get("resource").is_none() && told["response"].get("outcome").is_none(),
            "{kind}: {told}"
        );
    }
}

#[test]
fn another_version_of_fhir_is_refused_with_ours() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    let of = |version: &str| format!("application/fhir+json; fhirVersion={version}");
    for (version, read, written) in [("4.0", 200, 201), ("3.0", 406, 415), ("5.0", 406, 415)] {
        let answer = client.ask("GET", "/Patient", &[("accept", &of(version))], "");
        assert_eq!(answer.status, read, "{version}: {}", answer.text());
        assert!(read == 200 || answer.text().contains("fhirVersion=4.0"), "{}", answer.text());
        let body = note("o", 1.0).to_string();
        let answer = client.ask("PUT", "/Observation/o", &[("content-type", &of(version))], &body);
        assert_eq!(answer.status, written, "{version}: {}", answer.text());
    }
}

#[test]
fn what_is_wrong_with_a_request_is_named_as_fhir_names_it() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    put(&client, &json!({"resourceType": "Patient", "id": "p"}));
    for (path, name) in [
        ("/Patient?birthdate=CANARY", "http.birthdate"),
        ("/Patient?gender:contains=x", "http.gender"),
        ("/Patient?_sort=CANARY", "http._sort"),
        ("/Patient?_count=1&_count=2", "http._count"),
        ("/Patient/p?_summary=CANARY", "http._summary"),
        ("/Patient?_elements=CANARY", "http._elements"),
    ] {
        let refused = client.get(path);
        assert_eq!(
            (refused.status, &said(&refused)["issue"][0]["expression"][0]),
            (400, &json!(name)),
            "{path}"
        );
        assert!(!refused.text().contains("CANARY"), "{path}");
    }
    let refused = client.get("/Patient/p/$everything?_type=Encounter,Observaton");
    assert!(
        refused.status == 400 && refused.text().contains("the nearest is `Observation`"),
        "{}",
        refused.text()
    );
}

#[test]
fn a_history_says_what_was_made_again() {
    on_both_engines(made_again);
}

fn made_again(server: &Server) {
    let client = Client::new(server, "operator", "operator");
    put(&client, &note("o", 1.0));
    put(&client, &note("o", 2.0));
    assert_eq!(client.ask("DELETE", "/Observation/o", &[], "").status, 204);
    put(&client, &note("o", 3.0));
    put(&client, &note("o", 4.0));
    let statuses = |path: &str| -> Vec<String> {
        let answer = said(&client.get(path));
        let entries = answer["entry"].as_array().unwrap().iter();
        entries.map(|entry| entry["response"]["status"].as_str().unwrap().to_owned()).collect()
    };
    let want = ["200", "201", "204", "200", "201"];
    for path in ["/Observation/o/_history", "/Observation/_history", "/_history"] {
        assert_eq!(statuses(path), want, "{path}");
    }
    assert_eq!(statuses("/Observation/o/_history?_count=2"), want[..2], "the one behind is on no page");

    // A parameter that is none is left out where that is preferred.
    let lenient = [("prefer", "handling=lenient")];
    for path in ["/Observation/o/_history?nonsense=1&_count=2", "/Observation/_history?nonsense=1&_count=2"] {
        assert_eq!(client.get(path).status, 400, "{path}");
        let answer = client.ask("GET", path, &lenient, "");
        assert_eq!((answer.status, said(&answer)["entry"].as_array().unwrap().len()), (200, 2), "{path}");
        assert!(!answer.text().contains("nonsense"), "{}", answer.text());
    }
    let link = |page: &Value, wanted: &str| {
        let mut links = page["link"].as_array().unwrap().iter();
        let found = links.find(|link| link["relation"] == wanted).map(|link| link["url"].as_str().unwrap());
        found.map(|url| url.split_once("/fhir").unwrap().1.to_owned())
    };
    let first = said(&client.get("/Observation/o/_history?_count=2"));
    let second = said(&client.get(&link(&first, "next").unwrap()));
    let again = said(&client.get(&link(&second, "first").unwrap()));
    assert_eq!((again["entry"].clone(), link(&first, "first")), (first["entry"].clone(), None));
}
