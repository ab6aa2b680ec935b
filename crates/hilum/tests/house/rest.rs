//! What of FHIR's REST goes beyond reading and writing whole resources: patches, histories, parts, operations.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::both::on_both_engines;
use crate::confidence::{OPEN, SECRET, all_applied, messages};
use crate::exchange::{bundle, entry, statuses};
use crate::fhir::{Client, code_of, said};
use crate::server::{Answer, Server, Start, field, wait};

const PATCH: (&str, &str) = ("content-type", "application/json-patch+json");

fn patch(client: &Client<'_>, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let headers: Vec<(&str, &str)> = headers.iter().copied().chain([PATCH]).collect();
    client.ask("PATCH", path, &headers, &body.to_string())
}

fn observation(id: &str, value: &str) -> String {
    format!(
        "{{\"resourceType\":\"Observation\",\"id\":\"{id}\",\"status\":\"final\",\"code\":{{\"text\":\"bp\"}},\
         \"valueQuantity\":{{\"value\":{value}}}}}"
    )
}

/// Follows `next` from `path` to the end; gives all entries.
fn walk(client: &Client<'_>, path: &str) -> Vec<Value> {
    let (mut path, mut all) = (path.to_owned(), Vec::new());
    loop {
        let page = client.get(&path);
        assert_eq!(page.status, 200, "{path}: {}", page.text());
        let page = said(&page);
        all.extend(page["entry"].as_array().into_iter().flatten().cloned());
        let next = page["link"].as_array().unwrap().iter().find(|link| link["relation"] == "next");
        let Some(next) = next else { return all };
        next["url"].as_str().unwrap().split_once("/fhir").unwrap().1.clone_into(&mut path);
    }
}

/// `Type/id@version` of each entry of a history.
fn versions(entries: &[Value]) -> Vec<String> {
    let one = |entry: &Value| {
        let etag = entry["response"]["etag"].as_str().unwrap();
        let version = etag.trim_start_matches("W/\"").trim_end_matches('"');
        format!("{}@{version}", entry["request"]["url"].as_str().unwrap())
    };
    entries.iter().map(one).collect()
}

#[test]
fn a_patch_changes_what_it_names_and_is_refused_with_the_way_out() {
    on_both_engines(patches);
}

fn patches(server: &Server) {
    let client = Client::new(server, "operator", "operator");
    assert_eq!(client.ask("PUT", "/Observation/o", &[], &observation("o", "1.500")).status, 201);
    let status = json!([{"op": "test", "path": "/meta/versionId", "value": "1"},
        {"op": "replace", "path": "/status", "value": "amended"}]);
    let patched = patch(&client, "/Observation/o", &[("if-match", "W/\"1\"")], &status);
    assert_eq!(
        (patched.status, patched.header("etag").as_deref()),
        (200, Some("W/\"2\"")),
        "{}",
        patched.text()
    );
    assert!(patched.text().contains("\"value\":1.500"), "digits stay: {}", patched.text());
    assert_eq!(said(&client.get("/Observation/o"))["status"], "amended");
    let nothing = patch(
        &client,
        "/Observation/o",
        &[],
        &json!([{"op": "test", "path": "/status", "value": "amended"}]),
    );
    assert_eq!(
        (nothing.status, nothing.header("etag").as_deref()),
        (200, Some("W/\"2\"")),
        "nothing is written"
    );

    let replace = |path: &str, value: Value| json!([{"op": "replace", "path": path, "value": value}]);
    let cases = [
        (
            "a test that fails",
            "/Observation/o",
            json!([{"op": "test", "path": "/status", "value": "CANARY"}]),
            422,
            "conflict",
        ),
        ("nowhere", "/Observation/o", replace("/CANARY", json!(1)), 422, "not-found"),
        ("no operation", "/Observation/o", json!([{"op": "CANARY", "path": ""}]), 400, "structure"),
        ("no patch", "/Observation/o", json!({"CANARY": 1}), 400, "structure"),
        ("a code that is none", "/Observation/o", replace("/status", json!("CANARY")), 422, "code-invalid"),
        ("what must be there", "/Observation/o", json!([{"op": "remove", "path": "/code"}]), 422, "required"),
        ("another id", "/Observation/o", replace("/id", json!("CANARY")), 400, "invalid"),
        ("another type", "/Observation/o", replace("/resourceType", json!("Basic")), 400, "invalid"),
        ("nothing there", "/Observation/none", replace("/status", json!("final")), 404, "not-found"),
        (
            "nothing meets it",
            "/Observation?code=CANARY",
            replace("/status", json!("final")),
            404,
            "not-found",
        ),
    ];
    for (why, path, body, status, code) in cases {
        let refused = patch(&client, path, &[], &body);
        assert_eq!((refused.status, code_of(&refused).as_str()), (status, code), "{why}: {}", refused.text());
        assert!(!refused.text().contains("CANARY"), "{why}: {}", refused.text());
    }
    let late = patch(&client, "/Observation/o", &[("if-match", "W/\"1\"")], &status);
    assert_eq!(late.status, 412);
    for media in ["application/fhir+json", "application/xml-patch+xml", "text/plain"] {
        let body = json!({"resourceType": "Parameters"}).to_string();
        let refused = client.ask("PATCH", "/Observation/o", &[("content-type", media)], &body);
        assert_eq!((refused.status, code_of(&refused).as_str()), (415, "not-supported"), "{media}");
        assert_eq!(refused.header("accept-patch").as_deref(), Some("application/json-patch+json"), "{media}");
    }
    let many = json!(vec![json!({"op": "test", "path": "/status", "value": "amended"}); 1_001]);
    let refused = patch(&client, "/Observation/o", &[], &many);
    assert_eq!((refused.status, code_of(&refused).as_str()), (422, "too-costly"));
    assert_eq!(said(&client.get("/Observation/o"))["meta"]["versionId"], "2");

    // By a condition; of several it is none of them.
    let tagged = patch(
        &client,
        "/Observation?_id=o",
        &[],
        &json!([{"op": "add", "path": "/meta/tag", "value": [{"code": "t"}]}]),
    );
    assert_eq!((tagged.status, &said(&tagged)["meta"]["tag"][0]["code"]), (200, &json!("t")));
    let untagged = patch(&client, "/Observation/o", &[], &json!([{"op": "remove", "path": "/meta/tag"}]));
    assert!(said(&untagged)["meta"].get("tag").is_none(), "a patch says what goes: {}", untagged.text());
    assert_eq!(client.ask("PUT", "/Observation/p", &[], &observation("p", "2")).status, 201);
    assert_eq!(patch(&client, "/Observation?_id=o,p", &[], &status).status, 412);
    assert_eq!(client.ask("DELETE", "/Observation/p", &[], "").status, 204);
    assert_eq!(patch(&client, "/Observation/p", &[], &status).status, 410);

    // In a Bundle, as a Binary.
    let binary = |patch: &Value, media: &str| json!({"resource": {"resourceType": "Binary", "contentType": media, "data": STANDARD.encode(patch.to_string())}});
    let final_again = replace("/status", json!("final"));
    let media = "application/json-patch+json";
    for (kind, url) in [("transaction", "Observation/o"), ("batch", "Observation?_id=o")] {
        let entries = [
            entry("PATCH", url, &binary(&final_again, media)),
            entry(
                "PUT",
                "Observation/q",
                &json!({"resource": serde_json::from_str::<Value>(&observation("q", "1")).unwrap()}),
            ),
        ];
        let done = client.ask("POST", "", &[], &bundle(kind, &entries));
        assert_eq!(done.status, 200, "{kind}: {}", done.text());
        assert_eq!(statuses(&said(&done))[0], "200 OK", "{kind}: {}", done.text());
        assert_eq!(said(&client.get("/Observation/o"))["status"], "final", "{kind}");
    }
    let before = said(&client.get("/Observation/q"))["meta"]["versionId"].clone();
    let fails = json!([{"op": "test", "path": "/status", "value": "CANARY"}]);
    let entries = [
        entry(
            "PUT",
            "Observation/q",
            &json!({"resource": serde_json::from_str::<Value>(&observation("q", "9")).unwrap()}),
        ),
        entry("PATCH", "Observation/o", &binary(&fails, media)),
    ];
    let refused = client.ask("POST", "", &[], &bundle("transaction", &entries));
    assert_eq!(
        (refused.status, &said(&refused)["issue"][0]["expression"][0]),
        (422, &json!("Bundle.entry[1]"))
    );
    assert_eq!(said(&client.get("/Observation/q"))["meta"]["versionId"], before, "nothing is written");
}

#[test]
fn the_history_of_a_type_and_of_all_is_walked_newest_first() {
    on_both_engines(histories);
}

fn histories(server: &Server) {
    let client = Client::new(server, "operator", "operator");
    let mut want = Vec::new();
    for n in 0..3 {
        for id in ["a", "b"] {
            assert!(
                [200, 201].contains(
                    &client
                        .ask("PUT", &format!("/Observation/{id}"), &[], &observation(id, &format!("{n}.50")))
                        .status
                )
            );
            want.push(format!("Observation/{id}@{}", n + 1));
        }
        let basic = format!("{{\"resourceType\":\"Basic\",\"id\":\"c\",\"code\":{{\"text\":\"{n}\"}}}}");
        assert!([200, 201].contains(&client.ask("PUT", "/Basic/c", &[], &basic).status));
        want.push(format!("Basic/c@{}", n + 1));
    }
    assert_eq!(client.ask("DELETE", "/Observation/a", &[], "").status, 204);
    want.push("Observation/a@4".to_owned());
    want.reverse();
    let of_type: Vec<String> = want.iter().filter(|one| one.starts_with("Observation")).cloned().collect();
    for count in [1, 2, 3, 100] {
        assert_eq!(versions(&walk(&client, &format!("/_history?_count={count}"))), want, "{count}");
        assert_eq!(
            versions(&walk(&client, &format!("/Observation/_history?_count={count}"))),
            of_type,
            "{count}"
        );
    }
    let all = walk(&client, "/Observation/_history");
    assert!(all[0].get("resource").is_none() && all[0]["request"]["method"] == "DELETE", "{}", all[0]);
    assert_eq!(all[1]["resource"]["id"], "b");
    assert!(client.get("/Observation/_history").text().contains("\"value\":0.50"), "digits stay");

    // A walk goes on in what its first page saw.
    let first = said(&client.get("/_history?_count=2"));
    let next = first["link"].as_array().unwrap().iter().find(|link| link["relation"] == "next").unwrap();
    let next = next["url"].as_str().unwrap().split_once("/fhir").unwrap().1.to_owned();
    assert_eq!(client.ask("PUT", "/Observation/b", &[], &observation("b", "7")).status, 200);
    let mut rest = versions(first["entry"].as_array().unwrap());
    rest.extend(versions(&walk(&client, &next)));
    assert_eq!(rest, want);
    let other = Client::new(server, "other", "operator");
    assert_eq!(other.get(&next).status, 404, "somebody else's link");

    // Narrowed by time.
    let of = |n: usize| {
        let entry = &walk(&client, "/_history?_count=100")[n];
        entry["response"]["lastModified"].as_str().unwrap().to_owned()
    };
    let since = of(3);
    assert_eq!(walk(&client, &format!("/_history?_since={since}&_count=1")).len(), 4);
    assert_eq!(walk(&client, "/_history?_since=2100-01-01").len(), 0);
    let stood = |path: &str, at: &str| versions(&walk(&client, &format!("{path}_history?_at={at}&_count=2")));
    assert_eq!(
        stood("/", &since),
        ["Observation/b@3", "Observation/a@3", "Basic/c@2"].map(str::to_owned).as_slice(),
        "{since}"
    );
    assert_eq!(stood("/Observation/b/", &since), ["Observation/b@3"]);
    assert!(stood("/", "1999").is_empty());
    assert_eq!(stood("/", "2020-01-01T00:00:00Z").len(), 0);
    let one = versions(&walk(&client, &format!("/Observation/b/_history?_since={since}&_count=1")));
    assert_eq!(one, ["Observation/b@4", "Observation/b@3"]);
    for refused in [
        "/_history?_since=CANARY",
        "/_history?_sort=date",
        "/Observation/_history?_before=3",
        "/_history?_summary=count",
    ] {
        let refused = client.get(refused);
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(!refused.text().contains("CANARY"));
    }
    assert_eq!(client.get("/Obesrvation/_history").status, 404);
}

#[test]
fn parts_are_marked_and_the_whole_keeps_its_bytes() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    let patient = r#"{"resourceType":"Patient","id":"p","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>"},"identifier":[{"value":"7"}],"active":true,"name":[{"family":"Kim"}],"maritalStatus":{"text":"m"},"multipleBirthInteger":2}"#;
    assert_eq!(client.ask("PUT", "/Patient/p", &[], patient).status, 201);
    let members = |resource: &Value| -> Vec<String> {
        let names = resource.as_object().unwrap().keys();
        names.filter(|name| !["resourceType", "id", "meta"].contains(&name.as_str())).cloned().collect()
    };
    let cases: [(&str, &[&str]); 5] = [
        ("_summary=true", &["identifier", "active", "name"]),
        ("_summary=text", &["text", "active"]),
        ("_summary=data", &["identifier", "active", "name", "maritalStatus", "multipleBirthInteger"]),
        ("_elements=maritalStatus,multipleBirth", &["active", "maritalStatus", "multipleBirthInteger"]),
        ("_elements=Patient.name", &["active", "name"]),
    ];
    for (asked, want) in cases {
        let of = |resource: &Value| {
            assert_eq!(resource["meta"]["tag"][0]["code"], "SUBSETTED", "{asked}: {resource}");
            members(resource)
        };
        assert_eq!(of(&said(&client.get(&format!("/Patient/p?{asked}")))), want, "read, {asked}");
        assert_eq!(of(&said(&client.get(&format!("/Patient/p/_history/1?{asked}")))), want, "vread, {asked}");
        let found = said(&client.get(&format!("/Patient?identifier=7&{asked}")));
        assert_eq!(of(&found["entry"][0]["resource"]), want, "search, {asked}");
        assert!(
            found["link"][0]["url"].as_str().unwrap().contains(asked.split_once('=').unwrap().0),
            "{found}"
        );
        for path in ["/Patient/p/_history", "/Patient/_history", "/_history"] {
            let listed = said(&client.get(&format!("{path}?{asked}")));
            assert_eq!(of(&listed["entry"][0]["resource"]), want, "{path}, {asked}");
        }
    }
    // Who sends a part back would lose the rest.
    let part = client.get("/Patient/p?_summary=true").text();
    let back = client.ask("PUT", "/Patient/p", &[], &part);
    assert_eq!((back.status, code_of(&back).as_str()), (422, "business-rule"), "{}", back.text());
    let entries =
        [entry("PUT", "Patient/p", &json!({"resource": serde_json::from_str::<Value>(&part).unwrap()}))];
    assert_eq!(client.ask("POST", "", &[], &bundle("transaction", &entries)).status, 422);
    let whole = said(&client.get("/Patient?identifier=7&_summary=false"));
    assert!(whole["entry"][0]["resource"]["meta"].get("tag").is_none(), "{whole}");
    let counted = said(&client.get("/Patient?_summary=count"));
    assert_eq!((&counted["total"], counted.get("entry")), (&json!(1), None));
    let pretty = client.get("/Patient/p?_summary=true&_pretty=true&_format=json").text();
    assert!(pretty.contains("\n  \"id\": \"p\""), "{pretty}");
    for refused in [
        "_summary=some",
        "_elements=nmae",
        "_summary=true&_elements=name",
        "_summary=count",
        "_elements=name.family",
    ] {
        let refused = client.get(&format!("/Patient/p?{refused}"));
        assert_eq!((refused.status, code_of(&refused).as_str()), (400, "value"), "{}", refused.text());
    }

    // Later pages show the same part; what comes along is whole, where its type is not named.
    for n in 0..3 {
        let note = json!({"resourceType": "Observation", "id": format!("o{n}"), "status": "final", "code": {"text": "x"},
            "subject": {"reference": "Patient/p"}, "note": [{"text": "n"}]});
        assert_eq!(client.ask("PUT", &format!("/Observation/o{n}"), &[], &note.to_string()).status, 201);
    }
    let all = walk(&client, "/Observation?_elements=code&_include=Observation:subject&_count=1");
    assert_eq!(all.len(), 6, "three pages of two");
    for entry in all {
        let is_part = entry["resource"]["resourceType"] == "Observation";
        assert_eq!(entry["resource"]["meta"].get("tag").is_some(), is_part, "{entry}");
        assert!(entry["resource"].get("note").is_none());
    }
    assert_eq!(client.get("/Observation?_summary=text&_include=Observation:subject").status, 400);
}

#[test]
fn everything_about_a_patient_comes_page_by_page() {
    on_both_engines(everything_by_page);
}

fn everything_by_page(server: &Server) {
    let client = Client::new(server, "operator", "operator");
    let put = |body: Value| {
        let path = format!("/{}/{}", body["resourceType"].as_str().unwrap(), body["id"].as_str().unwrap());
        let made = client.ask("PUT", &path, &[], &body.to_string());
        assert!([200, 201].contains(&made.status), "{path}: {}", made.text());
    };
    put(json!({"resourceType": "Organization", "id": "h", "name": "H"}));
    put(json!({"resourceType": "Practitioner", "id": "d"}));
    for id in ["p", "q"] {
        put(
            json!({"resourceType": "Patient", "id": id, "managingOrganization": {"reference": "Organization/h"}}),
        );
        put(
            json!({"resourceType": "Encounter", "id": format!("e-{id}"), "status": "finished", "class": {"code": "IMP"},
            "subject": {"reference": format!("Patient/{id}")}, "period": {"start": "2020-01-01", "end": "2020-01-05"}}),
        );
        for n in 0..5 {
            put(
                json!({"resourceType": "Observation", "id": format!("o{n}-{id}"), "status": "final", "code": {"text": "x"},
                "subject": {"reference": format!("Patient/{id}")}, "encounter": {"reference": format!("Encounter/e-{id}")},
                "performer": [{"reference": "Practitioner/d"}], "effectiveDateTime": format!("202{n}-06-01")}),
            );
        }
        put(
            json!({"resourceType": "AuditEvent", "id": format!("a-{id}"), "type": {"code": "rest"}, "recorded": "2020-01-01T00:00:00Z",
            "agent": [{"requestor": true, "who": {"reference": format!("Patient/{id}")}}],
            "source": {"observer": {"display": "x"}}}),
        );
    }
    let of = |asked: &str| -> (Vec<String>, Vec<String>) {
        let (mut matches, mut included) = (Vec::new(), Vec::new());
        for entry in walk(&client, &format!("/Patient/p/$everything?{asked}")) {
            let resource = &entry["resource"];
            let place = format!(
                "{}/{}",
                resource["resourceType"].as_str().unwrap(),
                resource["id"].as_str().unwrap()
            );
            if entry["search"]["mode"] == "match" { matches.push(place) } else { included.push(place) }
        }
        included.sort();
        included.dedup();
        (matches, included)
    };
    let notes: Vec<String> = (0..5).map(|n| format!("Observation/o{n}-p")).collect();
    let mut want = vec!["Patient/p".to_owned(), "Encounter/e-p".to_owned()];
    want.extend(notes.clone());
    for asked in ["", "_count=1", "_count=2", "_count=3&_type="] {
        assert_eq!(
            of(asked),
            (want.clone(), vec!["Organization/h".to_owned(), "Practitioner/d".to_owned()]),
            "{asked}"
        );
    }
    assert_eq!(of("_type=Observation"), (notes.clone(), Vec::new()));
    assert_eq!(of("_type=AuditEvent").0, Vec::<String>::new());
    let (dated, _) = of("start=2021-01-01&end=2022-12-31&_type=Observation,Encounter");
    assert_eq!(dated, ["Observation/o1-p", "Observation/o2-p"]);
    let updated = said(&client.get("/Observation/o4-p"))["meta"]["lastUpdated"].as_str().unwrap().to_owned();
    assert_eq!(of(&format!("_since={updated}")).0, ["Observation/o4-p"]);
    assert_eq!(client.get("/Patient/none/$everything").status, 404);
    assert_eq!(client.get("/Patient/p/$everything?CANARY=1").status, 400);
    assert!([400, 404].contains(&client.get("/Observation/o0-p/$everything").status), "of Patients alone");
    assert_eq!(client.ask("DELETE", "/Patient/q", &[], "").status, 204);
    assert_eq!(client.get("/Patient/q/$everything").status, 410);
    let viewer = Client::new(server, "viewer", "viewer");
    assert_eq!(viewer.get("/Patient/p/$everything?_summary=true").status, 200);
}

/// What is named comes along, whatever else a page refers to; a walk by time goes by what stood when it began.
#[test]
fn everything_brings_what_is_named_and_goes_on_as_it_began() {
    on_both_engines(everything_named);
}

fn everything_named(server: &Server) {
    let client = Client::new(server, "operator", "operator");
    let put = |body: Value| {
        let path = format!("/{}/{}", body["resourceType"].as_str().unwrap(), body["id"].as_str().unwrap());
        let made = client.ask("PUT", &path, &[], &body.to_string());
        assert!([200, 201].contains(&made.status), "{path}: {}", made.text());
    };
    let of = |id: &str| {
        json!({"resourceType": "Observation", "id": id, "status": "final", "code": {"text": "x"},
            "subject": {"reference": "Patient/p"}})
    };
    put(json!({"resourceType": "Patient", "id": "p"}));
    put(json!({"resourceType": "Practitioner", "id": "d"}));
    // One that refers to more of the same patient's than a page brings.
    let parts: Vec<Value> = (0..950).map(|n| json!({"reference": format!("Observation/n{n}")})).collect();
    let mut big = of("big");
    big["hasMember"] = Value::Array(parts);
    big["performer"] = json!([{"reference": "Practitioner/d"}]);
    put(big);
    let all: Vec<Value> = (0..950)
        .map(|n| {
            let resource = of(&format!("n{n}"));
            json!({"resource": resource, "request": {"method": "PUT", "url": format!("Observation/n{n}")}})
        })
        .collect();
    let all = json!({"resourceType": "Bundle", "type": "transaction", "entry": all});
    let done = client.ask("POST", "", &[], &all.to_string());
    assert_eq!(done.status, 200, "{}", done.text());
    let page = said(&client.get("/Patient/p/$everything?_type=Observation,Practitioner&_count=1"));
    let places: Vec<(&Value, &Value)> = page["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (&entry["resource"]["id"], &entry["search"]["mode"]))
        .collect();
    assert_eq!(places, [(&json!("big"), &json!("match")), (&json!("d"), &json!("include"))]);

    put(json!({"resourceType": "Patient", "id": "q"}));
    let of = |id: &str| {
        let mut one = of(id);
        one["subject"] = json!({"reference": "Patient/q"});
        one
    };
    for id in ["a", "b", "c"] {
        put(of(id));
    }
    let again = |id: &str| {
        let mut one = of(id);
        one["code"] = json!({"text": "again"});
        put(one);
    };
    again("a");
    let since = said(&client.get("/Observation/a"))["meta"]["lastUpdated"].as_str().unwrap().to_owned();
    again("c");
    let first =
        said(&client.get(&format!("/Patient/q/$everything?_type=Observation&_count=1&_since={since}")));
    again("b");
    let next = first["link"].as_array().unwrap().iter().find(|link| link["relation"] == "next").unwrap();
    let next = next["url"].as_str().unwrap().split_once("/fhir").unwrap().1;
    let mut found = first["entry"].as_array().unwrap().clone();
    found.extend(walk(&client, next));
    let found: Vec<&Value> = found.iter().map(|entry| &entry["resource"]["id"]).collect();
    assert_eq!(found, ["a", "c"]);
}

#[test]
fn labels_come_and_go_one_by_one_and_a_check_says_what_would_be_refused() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    assert_eq!(client.ask("PUT", "/Observation/o", &[], &observation("o", "1.50")).status, 201);
    let meta = |meta: Value| {
        json!({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": meta}]}).to_string()
    };
    let tags = |answer: &Answer| said(answer)["parameter"][0]["valueMeta"].clone();
    let tag = meta(json!({"tag": [{"system": "x", "code": "t"}], "profile": ["http://example.org/p"]}));
    for _ in 0..2 {
        let added = client.ask("POST", "/Observation/o/$meta-add", &[], &tag);
        assert_eq!(added.status, 200, "{}", added.text());
        assert_eq!(tags(&added)["tag"], json!([{"system": "x", "code": "t"}]));
        assert_eq!(tags(&added)["versionId"], "2", "once");
    }
    assert!(client.get("/Observation/o").text().contains("\"value\":1.50"), "all other bytes stay");
    for method in ["GET", "POST"] {
        assert_eq!(
            tags(&client.ask(method, "/Observation/o/$meta", &[], ""))["profile"][0],
            "http://example.org/p",
            "{method}"
        );
    }
    let removed = client.ask("POST", "/Observation/o/$meta-delete", &[("if-match", "W/\"2\"")], &tag);
    assert_eq!((removed.status, tags(&removed).get("tag")), (200, None), "{}", removed.text());
    assert_eq!(
        client.ask("POST", "/Observation/o/$meta-delete", &[("if-match", "W/\"2\"")], &tag).status,
        412
    );
    assert_eq!(
        client.ask("POST", "/Observation/o/$meta-add", &[], "{\"resourceType\":\"Parameters\"}").status,
        400
    );
    assert_eq!(client.get("/Observation/none/$meta").status, 404);
    let viewer = Client::new(&server, "viewer", "viewer");
    assert_eq!(viewer.get("/Observation/o/$meta").status, 200);
    assert_eq!(viewer.ask("POST", "/Observation/o/$meta-add", &[], &tag).status, 403);

    let checked = |path: &str, body: &str| {
        let answer = client.ask("POST", path, &[], body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let issue = &said(&answer)["issue"][0];
        (issue["severity"].as_str().unwrap().to_owned(), issue["code"].as_str().unwrap().to_owned())
    };
    let fine = ("information".to_owned(), "informational".to_owned());
    let wrong = |code: &str| ("error".to_owned(), code.to_owned());
    let body = observation("o", "1");
    assert_eq!(checked("/Observation/$validate?mode=create", &body), fine);
    assert_eq!(checked("/Observation/o/$validate?mode=update", &body), fine);
    assert_eq!(checked("/Observation/o/$validate?mode=delete", ""), fine);
    assert_eq!(checked("/Observation/o/$validate", &observation("other", "1")), wrong("invalid"));
    assert_eq!(checked("/Observation/o/$validate?mode=create", &body), wrong("business-rule"));
    let wrapped = json!({"resourceType": "Parameters", "parameter": [{"name": "mode", "valueCode": "update"},
        {"name": "resource", "resource": {"resourceType": "Observation", "id": "o", "status": "x", "code": {"text": "c"}}}]});
    assert_eq!(checked("/Observation/o/$validate", &wrapped.to_string()), wrong("code-invalid"));
    assert_eq!(client.ask("POST", "/Observation/none/$validate", &[], &observation("none", "1")).status, 404);
    assert_eq!(client.ask("POST", "/Observation/$validate?mode=delete", &[], "").status, 400);
    assert_eq!(client.ask("POST", "/Observation/o/$validate?mode=CANARY", &[], &body).status, 400);
}

/// Whom nobody may see is in no history, no `$everything`, and no patch tells of them.
#[test]
fn who_is_confidential_is_in_no_history_and_in_nothing_that_there_is() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let mut line = server.connect();
    for message in messages() {
        assert_eq!(field(&line.ask(&message), "MSA", 1), "AA");
    }
    let admin = Client::new(&server, "admin", "admin");
    let admin_key = server.key("census", "admin");
    all_applied(server.http.unwrap(), &admin_key);
    let open = said(&admin.get(&format!("/Patient?identifier={OPEN}1")));
    let open = open["entry"][0]["resource"]["id"].as_str().unwrap().to_owned();
    let all = walk(&admin, "/_history?_count=50");
    assert!(all.len() > 30, "{}", all.len());
    for role in ["viewer", "operator", "admin"] {
        let client = Client::new(&server, &format!("again-{role}"), role);
        for path in [
            "/_history?_count=7",
            "/Patient/_history",
            "/Encounter/_history?_at=2026",
            "/Condition/_history?_count=3",
        ] {
            for entry in walk(&client, path) {
                let text = entry.to_string();
                let is_register = ["Location", "Practitioner"]
                    .contains(&entry["resource"]["resourceType"].as_str().unwrap_or_default());
                assert!(is_register || !text.contains(SECRET), "{role} {path}: {text}");
            }
        }
        let everything = walk(&client, &format!("/Patient/{open}/$everything?_count=2"));
        assert!(
            everything.iter().any(|entry| entry["resource"]["resourceType"] == "Encounter"),
            "{everything:?}"
        );
        for entry in everything {
            let is_register =
                ["Location", "Practitioner"].contains(&entry["resource"]["resourceType"].as_str().unwrap());
            assert!(is_register || !entry.to_string().contains(SECRET), "{role}: {entry}");
        }
    }
    // A note about somebody who becomes confidential goes with them, its deletion too.
    let note = json!({"resourceType": "Observation", "id": "about", "status": "final", "code": {"text": "NOTE"},
        "subject": {"reference": format!("Patient/{open}")}});
    let gone = note.to_string().replace("\"about\"", "\"gone\"");
    assert_eq!(admin.ask("PUT", "/Observation/about", &[], &note.to_string()).status, 201);
    assert_eq!(admin.ask("PUT", "/Observation/gone", &[], &gone).status, 201);
    assert_eq!(admin.ask("DELETE", "/Observation/gone", &[], "").status, 204);
    assert_eq!(admin.get("/Observation/gone").status, 410);
    assert_eq!(walk(&admin, "/Observation/_history").len(), 3);
    let flagged =
        messages()[0].replace(SECRET, OPEN).replace("|S1|P|", "|O1V|P|").replace("ADT^A01", "ADT^A08");
    assert_eq!(field(&line.ask(&flagged), "MSA", 1), "AA");
    wait("withheld", 20, || (admin.get(&format!("/Patient/{open}")).status == 404).then_some(()));
    assert_eq!(walk(&admin, "/Observation/_history"), Vec::<Value>::new(), "{open}");
    assert_eq!(
        admin.get("/Observation/gone").status,
        404,
        "who may not know that it was is not told that it is gone"
    );
    assert_eq!(admin.get(&format!("/Patient/{open}/$everything")).status, 404);
    for path in ["/Observation/about", "/Observation?_id=about"] {
        let test = patch(&admin, path, &[], &json!([{"op": "test", "path": "/code/text", "value": "NOTE"}]));
        assert_eq!(test.status, 404, "{path}: {}", test.text());
    }
    for path in ["/Observation/about/$meta", "/Observation/about/_history"] {
        assert_eq!(admin.get(path).status, 404, "{path}");
    }
}

/// That messages took something back says whose it was: it is told to who may see what it was.
#[test]
fn what_messages_take_back_is_told_to_who_may_see_what_it_was() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let mut line = server.connect();
    let operator = Client::new(&server, "operator", "operator");
    let mut say = |event: &str, n: &str, number: &str, rest: &str| {
        let message = format!(
            "MSH|^~\\&|HIS|SEOUL|HILUM|HILUM|2026010203040{n}||ADT^{event}|C{n}|P|2.5\rEVN||2026010203040{n}\r\
             PID|||{number}^^^H^MR||KIM^G||19580314|F\r{rest}\r"
        );
        assert_eq!(field(&line.ask(&message), "MSA", 1), "AA");
    };
    // Two stays without a number of their own, of two records of one person.
    say("A01", "1", "1", "PV1||I|W^1^1");
    say("A01", "2", "2", "PV1||I|W^1^2");
    let patient = wait("applied", 20, || {
        let found = [1, 2].map(|n| said(&operator.get(&format!("/Patient?identifier={n}"))));
        let id = found[0]["entry"][0]["resource"]["id"].as_str().map(str::to_owned);
        id.filter(|_| found[1]["total"] == 1)
    });
    say("A40", "3", "1", "MRG|2^^^H^MR");
    let deleted = || {
        let all = walk(&operator, "/Encounter/_history");
        let all = all.into_iter().filter(|entry| entry["request"]["method"] == "DELETE");
        all.map(|entry| entry["request"]["url"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let gone = wait("taken back", 20, || deleted().pop());
    assert_eq!(operator.get(&format!("/{gone}")).status, 410);
    say("A08", "4", "1", "PD1||||||||||||Y\rPV1||I|W^1^1");
    wait("withheld", 20, || (operator.get(&format!("/Patient/{patient}")).status == 404).then_some(()));
    assert_eq!(deleted(), Vec::<String>::new());
    assert_eq!(operator.get(&format!("/{gone}")).status, 404);
}
