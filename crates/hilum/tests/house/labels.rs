//! `$meta` of a type and of all: which labels are in use, among what the asker may see.

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::both::on_both_engines;
use crate::fhir::{Client, said};
use crate::server::{Server, Start};

fn put(client: &Client<'_>, ty: &str, id: &str, more: &Value) {
    let mut body = json!({"resourceType": ty, "id": id});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    if ty == "Observation" {
        (body["status"], body["code"]) = (json!("final"), json!({"text": "x"}));
    }
    let made = client.ask("PUT", &format!("/{ty}/{id}"), &[], &body.to_string());
    assert!([200, 201].contains(&made.status), "{ty}/{id}: {}", made.text());
}

fn tag(system: &str, code: &str) -> Value {
    json!({"system": system, "code": code})
}

/// `meta` of an answer, each list as `system|code`.
fn used(client: &Client<'_>, method: &str, path: &str) -> [Vec<String>; 3] {
    let answer = client.ask(method, path, &[], "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    let answer = said(&answer);
    let meta = &answer["parameter"][0]["valueMeta"];
    let one = |label: &Value| match label.as_str() {
        Some(profile) => profile.to_owned(),
        None => {
            format!("{}|{}", label["system"].as_str().unwrap_or_default(), label["code"].as_str().unwrap())
        }
    };
    ["profile", "security", "tag"].map(|name| meta[name].as_array().into_iter().flatten().map(one).collect())
}

#[test]
fn labels_in_use_are_told_of_a_type_and_of_all() {
    on_both_engines(labels_in_use);
}

fn labels_in_use(server: &Server) {
    let client = Client::new(server, "operator", "operator");
    let none: [Vec<String>; 3] = [vec![], vec![], vec![]];
    assert_eq!(used(&client, "GET", "/$meta"), none);
    let nothing = json!([{"name": "return", "valueMeta": {}}]);
    assert_eq!(said(&client.get("/Basic/$meta"))["parameter"], nothing, "`return` is 1..1");
    let meta = |meta: Value| json!({"meta": meta});
    put(
        &client,
        "Observation",
        "a",
        &meta(json!({"tag": [tag("urn:x", "t")], "profile": ["http://example.org/one"]})),
    );
    // The same code of another system, and one that must be marked.
    put(&client, "Observation", "b", &meta(json!({"tag": [tag("urn:y", "t"), tag("urn:x", "a,b|c$d\\e")]})));
    put(&client, "Observation", "c", &meta(json!({"tag": [tag("urn:x", "t"), tag("urn:x", "u")]})));
    put(&client, "Patient", "p", &meta(json!({"security": [tag("urn:s", "N")], "tag": [tag("urn:p", "t")]})));
    // What was once, and what is gone.
    put(&client, "Observation", "d", &meta(json!({"tag": [tag("urn:x", "once")]})));
    let once = json!({"resourceType": "Parameters",
        "parameter": [{"name": "meta", "valueMeta": {"tag": [tag("urn:x", "once")]}}]});
    assert_eq!(client.ask("POST", "/Observation/d/$meta-delete", &[], &once.to_string()).status, 200);
    put(&client, "Observation", "e", &meta(json!({"profile": ["http://example.org/gone"]})));
    assert_eq!(client.ask("DELETE", "/Observation/e", &[], "").status, 204);

    let all = |said: &[&str]| said.iter().map(|one| (*one).to_owned()).collect::<Vec<String>>();
    let tags = ["urn:x|a,b|c$d\\e", "urn:x|t", "urn:x|u", "urn:y|t"];
    let viewer = Client::new(server, "viewer", "viewer");
    for method in ["GET", "POST"] {
        let of_type = [all(&["http://example.org/one"]), vec![], all(&tags)];
        assert_eq!(used(&viewer, method, "/Observation/$meta"), of_type, "{method}");
        let mut every = vec!["urn:p|t"];
        every.extend(tags);
        let of_all = [all(&["http://example.org/one"]), all(&["urn:s|N"]), all(&every)];
        assert_eq!(used(&viewer, method, "/$meta"), of_all, "{method}");
    }
    assert_eq!(used(&viewer, "GET", "/Basic/$meta"), none);
    assert_eq!(viewer.get("/Obsevation/$meta").status, 404);
    assert_eq!(viewer.get("/Observation/$meta?CANARY=1").status, 400);

    let many: Vec<Value> = (0..501).map(|n| tag("urn:many", &format!("m{n}"))).collect();
    put(&client, "Basic", "many", &json!({"code": {"text": "x"}, "meta": {"tag": many}}));
    for path in ["/Basic/$meta", "/$meta"] {
        let refused = client.get(path);
        assert!(refused.status == 400 && refused.text().contains("at most 500 labels"), "{}", refused.text());
    }
    // Of so many systems no more would be looked for: rather none than some.
    let many: Vec<Value> = (0..33).map(|n| tag(&format!("urn:many:{n}"), "same")).collect();
    put(&client, "Device", "many", &json!({"meta": {"tag": many[..32]}}));
    assert_eq!(used(&viewer, "GET", "/Device/$meta")[2].len(), 32);
    put(&client, "Device", "more", &json!({"meta": {"tag": [many[32]]}}));
    let refused = client.get("/Device/$meta");
    assert!(refused.status == 400 && refused.text().contains("at most 32 systems"), "{}", refused.text());
    assert_eq!(used(&viewer, "GET", "/Patient/$meta")[1], ["urn:s|N"], "of another type there are few");
}

#[test]
fn of_labels_no_more_is_told_than_of_what_has_them() {
    let folder = tempdir().unwrap();
    let config = "[fhir]\nlimited = { study = [\"Patient/p\"] }\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let client = Client::new(&server, "operator", "operator");
    for id in ["p", "q"] {
        put(&client, "Patient", id, &json!({"meta": {"tag": [tag("urn:t", id)]}}));
        let labels = json!({"tag": [tag("urn:t", "both"), tag(&format!("urn:{id}"), "note")], "profile": [format!("http://example.org/{id}")]});
        let subject = json!({"reference": format!("Patient/{id}")});
        put(&client, "Observation", id, &json!({"meta": labels, "subject": subject}));
    }
    let limited = Client::new(&server, "study", "viewer");
    let want = [
        vec!["http://example.org/p".to_owned()],
        vec![],
        ["urn:p|note", "urn:t|both", "urn:t|p"].map(str::to_owned).to_vec(),
    ];
    assert_eq!(used(&limited, "GET", "/$meta"), want);
    assert_eq!(used(&client, "GET", "/$meta")[2].len(), 5);
    let statement = said(&client.get("/metadata"));
    assert_eq!(statement["rest"][0]["operation"][0]["name"], "meta");
}
