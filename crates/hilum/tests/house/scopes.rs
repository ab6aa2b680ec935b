//! What is searched and by whom, over the real socket: compartments, all types, value sets; who may know of some patients
//! alone; what the plan says.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::search::{Client, FORM, code_of, ids, link, said};
use crate::server::{Server, Start, request};

fn write(client: &Client<'_>, resource: &Value) {
    let (ty, id) = (resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
    let headers = [("content-type", "application/fhir+json")];
    let answer = client.ask("PUT", &format!("/{ty}/{id}"), &headers, &resource.to_string());
    assert!([200, 201].contains(&answer.status), "{ty}/{id}: {}", answer.text());
}

/// Two patients; of each a stay, two observations; a group of one of them, a list of some.
fn two_patients(client: &Client<'_>) {
    write(client, &json!({ "resourceType": "Practitioner", "id": "dr", "name": [{ "family": "Lee" }] }));
    for who in ["a", "b"] {
        let subject = json!({ "reference": format!("Patient/{who}") });
        write(
            client,
            &json!({ "resourceType": "Patient", "id": who, "gender": "female", "name": [{ "family": format!("Kim{who}") }],
                "link": [{ "type": "seealso", "other": { "reference": if who == "a" { "Patient/b" } else { "Patient/a" } } }],
                "identifier": [{ "system": "urn:s", "value": "7", "type": { "coding": [{ "system": "urn:t", "code": "MR" }] } }] }),
        );
        write(
            client,
            &json!({ "resourceType": "Encounter", "id": format!("e{who}"), "status": "planned", "class": { "code": "IMP" },
                "subject": subject, "participant": [{ "individual": { "reference": "Practitioner/dr" } }] }),
        );
        for (n, code) in [(1, "8480-6"), (2, "8462-4")] {
            write(
                client,
                &json!({ "resourceType": "Observation", "id": format!("o{who}{n}"), "status": "final", "subject": subject,
                    "code": { "coding": [{ "system": "urn:loinc", "code": code }] },
                    "encounter": { "reference": format!("Encounter/e{who}") } }),
            );
        }
    }
    write(
        client,
        &json!({ "resourceType": "Group", "id": "g", "type": "person", "actual": true,
            "member": [{ "entity": { "reference": "Patient/b" } }] }),
    );
    write(
        client,
        &json!({ "resourceType": "List", "id": "l", "status": "current", "mode": "working",
            "entry": [{ "item": { "reference": "Observation/oa1" } }, { "item": { "reference": "Observation/ob2" } }] }),
    );
}

fn terms(client: &Client<'_>) {
    write(
        client,
        &json!({ "resourceType": "CodeSystem", "id": "cs", "url": "urn:loinc", "status": "active", "content": "complete",
            "concept": [{ "code": "bp", "concept": [{ "code": "8480-6" }, { "code": "8462-4" }] }] }),
    );
    let value_set = |id: &str, compose: Value| {
        json!({ "resourceType": "ValueSet", "id": id, "url": format!("http://h/vs/{id}"), "status": "active",
            "compose": compose })
    };
    let systolic = json!({ "include": [{ "system": "urn:loinc", "concept": [{ "code": "8480-6" }] }] });
    write(client, &value_set("systolic", systolic));
    let below =
        json!({ "system": "urn:loinc", "filter": [{ "property": "concept", "op": "is-a", "value": "bp" }] });
    write(
        client,
        &value_set(
            "but",
            json!({ "include": [below], "exclude": [{ "valueSet": ["http://h/vs/systolic"] }] }),
        ),
    );
    let by_property =
        json!({ "system": "urn:loinc", "filter": [{ "property": "x", "op": "=", "value": "y" }] });
    write(client, &value_set("odd", json!({ "include": [by_property] })));
}

#[test]
fn compartments_all_types_lists_and_value_sets_are_searched() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    two_patients(&client);
    terms(&client);
    let cases: &[(&str, &str, &[&str])] = &[
        ("in a compartment", "/Patient/a/Observation", &["oa1", "oa2"]),
        ("and by more", "/Patient/a/Observation?code=8480-6", &["oa1"]),
        ("all that is there, and who links to them", "/Patient/b/*", &["eb", "g", "ob1", "ob2", "a", "b"]),
        ("some of it", "/Patient/b/*?_type=Encounter,Observation", &["eb", "ob1", "ob2"]),
        ("of a stay", "/Encounter/ea/Observation", &["oa1", "oa2"]),
        ("nobody's", "/Patient/none/Observation", &[]),
        ("of two types", "?_type=Observation,Encounter&patient=a", &["ea", "oa1", "oa2"]),
        ("of all types", "?_id=a,oa1,dr", &["oa1", "a", "dr"]),
        ("in a list", "/Observation?_list=l", &["oa1", "ob2"]),
        ("in a list, of one", "/Observation?_list=l&patient=b", &["ob2"]),
        (
            "what a code implies",
            "/Patient?gender=http://hl7.org/fhir/administrative-gender%7Cfemale",
            &["a", "b"],
        ),
        ("another system", "/Patient?gender=urn:s%7Cfemale", &[]),
        ("by the type of an identifier", "/Patient?identifier:of-type=urn:t%7CMR%7C7", &["a", "b"]),
        ("of another type", "/Patient?identifier:of-type=urn:t%7CSS%7C7", &[]),
        ("in a value set", "/Observation?code:in=http://h/vs/systolic", &["oa1", "ob1"]),
        ("by its place", "/Observation?code:in=ValueSet/systolic&patient=a", &["oa1"]),
        ("not in it", "/Observation?code:not-in=http://h/vs/systolic", &["oa2", "ob2"]),
        ("a hierarchy without some", "/Observation?code:in=http://h/vs/but", &["oa2", "ob2"]),
        ("below a code", "/Observation?code:below=urn:loinc%7Cbp&patient=b", &["ob1", "ob2"]),
        ("above a code", "/Observation?code:above=urn:loinc%7C8480-6", &["oa1", "ob1"]),
        ("behind a reference", "/Patient?_has:Observation:patient:code:in=http://h/vs/but", &["a", "b"]),
        ("below an address", "/ValueSet?url:below=http://h/vs", &["systolic", "but", "odd"]),
        ("no part of an address", "/ValueSet?url:below=http://h/v", &[]),
        ("above an address", "/ValueSet?url:above=http://h/vs/but/1", &["but"]),
    ];
    for (why, path, want) in cases {
        let (found, total) = client.found(path);
        assert_eq!(found, *want, "{why}: {path}");
        assert_eq!(total, Some(want.len() as u64), "{why}");
        // The same in pages of one, and from behind.
        let sign = if path.contains('?') { '&' } else { '?' };
        for style in ["sealed", "offset", "getpages"] {
            let headers = [("prefer", format!("hilum-paging={style}"))];
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let first = said(&client.ask("GET", &format!("{path}{sign}_count=1"), &headers, ""));
            let mut paged = ids(&first, "match");
            let mut backward: Vec<String> = Vec::new();
            if let Some(next) = link(&first, "next") {
                paged.extend(client.walk(&next, "next").iter().flat_map(|page| ids(page, "match")));
                for page in client.walk(&link(&first, "last").unwrap(), "previous") {
                    backward.splice(0..0, ids(&page, "match"));
                }
                assert_eq!(backward, *want, "{why}, {style}: from behind");
            }
            assert_eq!(paged, *want, "{why}, {style}: page by page");
        }
    }
    let posted = client.ask("POST", "/_search", &[FORM], "_type=Encounter,Patient&_id=a,ea");
    let page = said(&posted);
    assert_eq!(
        (ids(&page, "match"), link(&page, "self").unwrap()),
        (vec!["ea".to_owned(), "a".to_owned()], "?_type=Encounter%2CPatient&_id=a%2Cea".to_owned())
    );
    let posted = client.ask("POST", "/Patient/a/Observation/_search", &[FORM], "code=8462-4");
    assert_eq!(ids(&said(&posted), "match"), ["oa2"], "{}", posted.text());
    for (path, text) in [
        ("?_type=Patient,CANARY", "_type"),
        ("?_type=Patient,Encounter&gender=male", "no such parameter"),
        ("?_type=Patient,Encounter&_sort=_id", "_sort"),
        ("/Patient/a/Practitioner", "lies in such a compartment"),
        ("/Observation/oa1/Patient", "compartments of Patient"),
        ("/Observation?code:in=http://h/CANARY", "no such value set"),
        ("/Observation?code:in=http://h/vs/odd", "expansion"),
        ("/Observation?code:below=urn:x%7CCANARY", "no such code system"),
        ("/Observation?code:below=CANARY", "system|code"),
        ("/ValueSet?url:below=urn:oid:1.2", "http://acme.org/fhir"),
        ("/Patient?_list=$current-problems", "List"),
    ] {
        let answer = client.ask("GET", path, &[], "");
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert!(
            answer.text().contains(text) && !answer.text().contains("CANARY"),
            "{path}: {}",
            answer.text()
        );
    }
}

/// Who may know of some patients alone finds nothing else, by nothing, and has no other window.
#[test]
fn who_is_limited_to_some_patients_knows_of_no_others() {
    let folder = tempdir().unwrap();
    let config = "[fhir.limited]\none = [\"Patient/a\"]\nmany = [\"Group/g\"]\nnone = []\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let operator = Client::new(&server, "operator", "operator");
    two_patients(&operator);
    for (name, role, own, other) in [("one", "viewer", "a", "b"), ("many", "admin", "b", "a")] {
        let client = Client::new(&server, name, role);
        let (own_stay, other_stay) = (format!("e{own}"), format!("e{other}"));
        for path in [
            "/Patient?gender=female".to_owned(),
            "/Patient".to_owned(),
            "/Patient?_has:Observation:patient:code=8480-6".to_owned(),
            "/Patient?_has:Encounter:patient:participant:Practitioner.name=lee".to_owned(),
            "/Patient?_sort=-family".to_owned(),
            format!("/Patient?_id={own},{other}"),
        ] {
            let (found, total) = client.found(&path);
            assert_eq!((found, total), (vec![own.to_owned()], Some(1)), "{name}: {path}");
            assert_eq!(
                client
                    .found(&format!("{path}{}_summary=count", if path.contains('?') { '&' } else { '?' }))
                    .1,
                Some(1)
            );
        }
        assert_eq!(client.found(&format!("/Encounter?patient={other}")), (vec![], Some(0)), "{name}");
        assert_eq!(
            client.found("/Encounter?patient.family=kim").0,
            std::slice::from_ref(&own_stay),
            "{name}: through a chain"
        );
        let of_other = client.found(&format!("/Patient/{other}/*"));
        assert_eq!(of_other, (vec![own.to_owned()], Some(1)), "{name}: who links to them is themselves");
        let page = client.page(
            "/Practitioner?_revinclude=Encounter:participant&_revinclude:iterate=Observation:encounter",
        );
        let with: BTreeSet<String> = ids(&page, "include").into_iter().collect();
        let want = [own_stay.clone(), format!("o{own}1"), format!("o{own}2")];
        assert_eq!(
            (ids(&page, "match"), with),
            (vec!["dr".to_owned()], want.into()),
            "{name}: what comes along"
        );
        for (path, status) in [
            (format!("/Patient/{own}"), 200),
            (format!("/Patient/{own}/_history"), 200),
            (format!("/Encounter/{own_stay}/_history/1"), 200),
            ("/Practitioner/dr".to_owned(), 200),
            (format!("/Patient/{other}"), 404),
            (format!("/Patient/{other}/_history"), 404),
            (format!("/Patient/{other}/_history/1"), 404),
            (format!("/Encounter/{other_stay}"), 404),
            ("/List/l".to_owned(), 404),
        ] {
            assert_eq!(client.ask("GET", &path, &[], "").status, status, "{name}: {path}");
        }
        // Nor do histories and what belongs to a patient tell of anybody else.
        assert_eq!(
            client.ask("GET", &format!("/Patient/{other}/$everything"), &[], "").status,
            404,
            "{name}"
        );
        for path in
            [format!("/Patient/{own}/$everything"), "/_history".to_owned(), "/Encounter/_history".to_owned()]
        {
            let pages = client.walk(&path, "next");
            let said: String = pages.iter().map(Value::to_string).collect();
            let is_there = |place: &str| said.contains(&format!("/fhir/{place}\""));
            assert!(is_there(&format!("Encounter/{own_stay}")), "{name}: {path}: {said}");
            for place in [format!("Encounter/{other_stay}"), format!("Patient/{other}")] {
                assert!(!is_there(&place), "{name}: {path} tells of {place}: {said}");
            }
        }
        // It reads, by FHIR alone.
        let headers = [("content-type", "application/fhir+json")];
        let body = json!({ "resourceType": "Patient", "id": own }).to_string();
        assert_eq!(client.ask("PUT", &format!("/Patient/{own}"), &headers, &body).status, 403, "{name}");
        for path in ["/api/census", "/census", "/audit"] {
            let answer = request(server.http.unwrap(), "GET", path, &[("x-api-key", &client.key)], b"");
            assert_eq!(answer.status, 403, "{name}: {path}");
        }
    }
    // Who is in the group is asked each time.
    let many = Client { server: &server, key: server.key("many-2", "viewer") };
    assert_eq!(many.found("/Patient").0.len(), 2, "another name is not limited");
    let none = Client::new(&server, "none", "admin");
    assert_eq!(none.found("/Patient"), (vec![], Some(0)));
}

/// What a search does is said in words, beside the running server; what was asked for is not.
#[test]
fn a_search_is_explained() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    two_patients(&client);
    let explain = |arguments: &[&str]| {
        let data = server.data.to_str().unwrap();
        let out = crate::server::run(&[&["explain", "--data", data], arguments].concat());
        (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let (code, text, _) = explain(&["Observation?patient=a&code=8480-6&_sort=-date"]);
    assert_eq!(code, Some(0), "{text}");
    for want in ["drives", "patient", "guards", "verifies", "orders", "2 driven · 1 match"] {
        assert!(text.contains(want), "{want}: {text}");
    }
    assert!(!text.contains("8480-6"), "{text}");
    let (_, text, _) = explain(&["Patient/a/*?_type=Observation,Encounter", "--json"]);
    let said: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&said[0]["resourceType"], &said[1]["matches"]), (&json!("Encounter"), &json!(2)), "{said}");
    let (code, _, why) = explain(&["Patient?birthdat=2024"]);
    assert!(code != Some(0) && why.contains("nearest is `birthdate`"), "{why}");
}

/// What somebody types is a text, whatever it means to a database; what asks for too much is refused before it costs.
#[test]
fn signs_of_other_languages_are_texts_and_too_much_is_refused() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    two_patients(&client);
    let names = [
        "/Patient?name=",
        "/Patient?name:exact=",
        "/Patient?name:contains=",
        "/Patient?identifier=",
        "/Patient?gender=",
        "/Patient?organization:identifier=",
        "/Patient?_profile=",
        "/Observation?value-string=",
        "/Observation?code-value-string=x%24",
        "/ValueSet?url=",
        "/Observation?patient.name=",
        "/Patient?_has:Observation:patient:value-string=",
    ];
    let signs = [
        "%25",
        "_",
        "%27",
        "%27%20OR%201%3D1--",
        "%22",
        "%5C",
        ".*",
        "%3B%20DROP%20TABLE%20x",
        "%28%3F1",
        "%5C%24%7Bx%7D",
    ];
    for name in names {
        for sign in signs {
            let path = format!("{name}{sign}");
            let answer = client.ask("GET", &path, &[], "");
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert_eq!(said(&answer)["total"], 0, "{path}");
        }
    }
    let chain = format!("/Encounter?{}status=planned", "part-of:Encounter.".repeat(20));
    let many = format!("/Patient?identifier={}", vec!["x"; 2_000].join(","));
    let includes = format!("/Patient?{}", vec!["_revinclude=Observation:patient"; 21].join("&"));
    let nots =
        format!("/Patient?{}", (0..64).map(|n| format!("gender:not=x{n}")).collect::<Vec<_>>().join("&"));
    for (why, path) in
        [("20 steps", chain), ("2,000 values", many), ("21 includes", includes), ("64 times no", nots)]
    {
        let answer = client.ask("GET", &path, &[], "");
        assert_eq!(
            (answer.status, code_of(&answer).as_str()),
            (400, "too-costly"),
            "{why}: {}",
            answer.text()
        );
    }
    let within =
        format!("/Patient?identifier={}", (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    assert_eq!(client.found(&format!("{within}&_count=1")).0.len(), 1, "as many values as may be");
}
