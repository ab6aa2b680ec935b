//! What is searched and by whom, over the real socket: compartments, all types, value sets; who may know of some patients
//! alone; what the plan says.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::damage::json as json_of;
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
            "member": [{ "entity": { "reference": "Patient/b" } }, { "entity": { "reference": "Patient/a" }, "inactive": true }] }),
    );
    write(
        client,
        &json!({ "resourceType": "List", "id": "l", "status": "current", "mode": "working",
            "entry": [{ "item": { "reference": "Observation/oa1" } }, { "item": { "reference": "Observation/ob2" } },
                { "deleted": true, "item": { "reference": "Observation/oa2" } }] }),
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
    // Each of what the one before it says, twice.
    for n in 0..36 {
        let before = if n == 0 { "systolic".to_owned() } else { format!("twice{}", n - 1) };
        let before = format!("http://h/vs/{before}");
        write(
            client,
            &value_set(&format!("twice{n}"), json!({ "include": [{ "valueSet": [before, before] }] })),
        );
    }
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
        (
            "of two types in one order",
            "?_type=Patient,Encounter,Observation&_sort=_id",
            &["a", "b", "ea", "eb", "oa1", "oa2", "ob1", "ob2"],
        ),
        (
            "the other way",
            "?_type=Patient,Encounter,Observation&_sort=-_id",
            &["ob2", "ob1", "oa2", "oa1", "eb", "ea", "b", "a"],
        ),
        (
            "as they were written",
            "?_type=Patient,Encounter,Observation,Practitioner&_sort=_lastUpdated",
            &["dr", "a", "ea", "oa1", "oa2", "b", "eb", "ob1", "ob2"],
        ),
        (
            "the newest first",
            "/Patient/b/*?_sort=-_lastUpdated&_id:not=l",
            &["g", "ob2", "ob1", "eb", "b", "a"],
        ),
        ("of one type", "/Observation?_sort=-_lastUpdated", &["ob2", "ob1", "oa2", "oa1"]),
        ("by several keys", "/Observation?_sort=code,-_lastUpdated", &["ob2", "oa2", "ob1", "oa1"]),
        (
            "those without one last",
            "?_type=Encounter,Observation&_sort=-date,-_id",
            &["ob2", "ob1", "oa2", "oa1", "eb", "ea"],
        ),
        ("in a list", "/Observation?_list=l", &["oa1", "ob2"]),
        ("struck off it", "/List?item=Observation/oa2", &["l"]),
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
        ("sets of sets", "/Observation?code:in=http://h/vs/twice35", &["oa1", "ob1"]),
        ("behind a reference", "/Patient?_has:Observation:patient:code:in=http://h/vs/but", &["a", "b"]),
        (
            "below an address",
            "/ValueSet?url:below=http://h/vs&_id=systolic,but,odd",
            &["systolic", "but", "odd"],
        ),
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
    // The first resource of a type that was searched and of which there was none comes between the pages.
    for sort in ["", "&_sort=-_lastUpdated"] {
        let path = format!("?_type=Communication,DetectedIssue,Encounter,Observation&_count=3{sort}");
        let first = client.page(&path);
        let ty = if sort.is_empty() { "DetectedIssue" } else { "Communication" };
        write(&client, &json!({ "resourceType": ty, "id": ty, "status": "unknown" }));
        let mut all = ids(&first, "match");
        let pages = client.walk(&link(&first, "next").unwrap(), "next");
        all.extend(pages.iter().flat_map(|page| ids(page, "match")));
        let once: BTreeSet<&String> = all.iter().collect();
        assert!(
            all.len() >= 6 && once.len() == all.len() && !all.contains(&ty.to_owned()),
            "{path}: {all:?}"
        );
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
        ("?_type=Patient,Observation&_sort=code", "no such parameter"),
        ("?_type=Encounter,ResearchStudy&_sort=type", "no such parameter"),
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

/// A condition goes by value sets and by what lies above and below as a search does.
#[test]
fn conditions_go_by_value_sets() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    two_patients(&client);
    terms(&client);
    let json_headers = ("content-type", "application/fhir+json");
    let body = json!({ "resourceType": "Observation", "status": "final", "subject": { "reference": "Patient/a" },
        "code": { "coding": [{ "system": "urn:loinc", "code": "8480-6" }] } });
    for (condition, status) in [
        ("code:in=http://h/vs/systolic&patient=a", 200),
        ("code:not-in=http://h/vs/systolic&patient=a", 200),
        ("code:below=urn:loinc|bp&patient=a", 412),
        ("code:above=urn:loinc|8480-6&patient=a", 200),
        ("code:in=http://h/vs/none", 400),
        ("code:in=http://h/vs/systolic&patient=nobody", 201),
    ] {
        let headers = [("if-none-exist", condition), json_headers];
        let answer = client.ask("POST", "/Observation", &headers, &body.to_string());
        assert_eq!(answer.status, status, "{condition}: {}", answer.text());
    }
    let named = |id: &str| json!({ "resourceType": "Observation", "id": id, "status": "amended", "code": { "text": "x" } });
    let path = "/Observation?code:in=ValueSet/systolic&patient=b";
    assert_eq!(client.ask("PUT", path, &[json_headers], &named("ob1").to_string()).status, 200);
    let path = "/Observation?code:not-in=http://h/vs/systolic&patient=b";
    let patch = r#"[{"op":"replace","path":"/status","value":"amended"}]"#;
    let patched = client.ask("PATCH", path, &[("content-type", "application/json-patch+json")], patch);
    assert_eq!(patched.status, 200, "{}", patched.text());
    assert_eq!(client.found("/Observation?status=amended").0, ["ob1", "ob2"]);
    assert_eq!(client.ask("DELETE", path, &[], "").status, 204);
    let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [
        { "request": { "method": "DELETE", "url": "Observation?code:below=urn:loinc%7C8462-4&patient=a" } },
        { "resource": body, "request": { "method": "POST", "url": "Observation",
            "ifNoneExist": "code:in=http://h/vs/systolic&patient=nobody" } },
    ] });
    let answer = client.ask("POST", "", &[json_headers], &bundle.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said = said(&answer);
    let status = |n: usize| said["entry"][n]["response"]["status"].as_str().unwrap_or_default();
    assert!(status(0).starts_with("204") && status(1).starts_with("201"), "{said}");
    assert_eq!(client.ask("GET", "/Observation/oa2", &[], "").status, 410);
}

/// A reference that names a version brings that one, beside others of the same resource, under what may be known now.
#[test]
fn a_reference_to_a_version_includes_that_version() {
    let folder = tempdir().unwrap();
    let config = "[fhir.limited]\none = [\"Patient/a\"]\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let client = Client::new(&server, "operator", "operator");
    two_patients(&client);
    let named =
        |family: &str| json!({ "resourceType": "Practitioner", "id": "dr", "name": [{ "family": family }] });
    write(&client, &named("Park"));
    let focus = |id: &str, to: &[&str]| {
        let to: Vec<Value> = to.iter().map(|to| json!({ "reference": to })).collect();
        json!({ "resourceType": "Observation", "id": id, "status": "final", "code": { "text": "x" },
            "subject": { "reference": "Patient/a" }, "focus": to })
    };
    let dr = |n: u32| format!("Practitioner/dr/_history/{n}");
    write(&client, &focus("one", &[&dr(1)]));
    write(
        &client,
        &focus("both", &[&dr(1), "Practitioner/dr", &dr(2), &dr(9), "Practitioner/dr/_history/x"]),
    );
    write(&client, &focus("other", &["Patient/b/_history/1"]));
    let included = |client: &Client<'_>, path: &str| {
        let page = client.page(path);
        let entries = page["entry"].as_array().unwrap().iter();
        let mut all: Vec<(String, String)> = entries
            .filter(|entry| entry["search"]["mode"] == "include")
            .map(|entry| {
                let resource = &entry["resource"];
                (resource["name"][0]["family"].to_string(), resource["meta"]["versionId"].to_string())
            })
            .collect();
        all.sort();
        all
    };
    let version = |name: &str, n: u32| (format!("\"{name}\""), format!("\"{n}\""));
    let include = |id: &str| format!("/Observation?_id={id}&_include=Observation:focus");
    assert_eq!(included(&client, &include("one")), [version("Lee", 1)]);
    assert_eq!(included(&client, &include("both")), [version("Lee", 1), version("Park", 2)]);
    assert_eq!(included(&client, &include("other")), [version("Kimb", 1)]);
    // A match is not included once more, another version of it is.
    let own = focus("self", &["Observation/self/_history/1", "Observation/self/_history/2"]);
    write(&client, &focus("self", &["Patient/a"]));
    write(&client, &own);
    assert_eq!(included(&client, &include("self")), [("null".to_owned(), "\"1\"".to_owned())]);
    // Who may not know of the resource gets none of its versions, and what is deleted has none.
    let limited = Client::new(&server, "one", "viewer");
    assert_eq!(limited.found("/Observation?_id=other").0, ["other"]);
    assert_eq!(included(&limited, &include("other")), []);
    assert_eq!(client.ask("DELETE", "/Practitioner/dr", &[], "").status, 204);
    assert_eq!(included(&client, &include("one")), []);
}

/// Who may know of some patients alone finds nothing else, by nothing, and has no other window.
#[test]
fn who_is_limited_to_some_patients_knows_of_no_others() {
    let folder = tempdir().unwrap();
    let config = "[fhir]\nbases = [\"https://hilum.example/fhir\"]\n\
                  [fhir.limited]\none = [\"Patient/a\"]\nmany = [\"Group/g\"]\nnone = []\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let operator = Client::new(&server, "operator", "operator");
    two_patients(&operator);
    for who in ["b", "a", "b", "a"] {
        let moved = json!({ "resourceType": "Observation", "id": "moved", "status": "final", "code": { "text": "x" },
            "subject": { "reference": format!("Patient/{who}") } });
        write(&operator, &moved);
    }
    // Of patients of this server, and of another server's with the same ids; with one of them, and with both.
    for who in ["a", "b"] {
        for (id, base) in [("ours", "https://hilum.example/fhir"), ("theirs", "https://other.example/fhir")] {
            let subject = json!({ "reference": format!("{base}/Patient/{who}") });
            let said = json!({ "resourceType": "Observation", "id": format!("{id}-{who}"), "status": "final",
                "code": { "text": "x" }, "subject": subject });
            write(&operator, &said);
        }
    }
    for (id, all) in [("with-a", &["a"][..]), ("with-b", &["b"]), ("with-both", &["a", "b"])] {
        let actor =
            |who: &&str| json!({ "actor": { "reference": format!("Patient/{who}") }, "status": "accepted" });
        let all: Vec<Value> = all.iter().map(actor).collect();
        write(
            &operator,
            &json!({ "resourceType": "Appointment", "id": id, "status": "booked", "participant": all }),
        );
    }
    // Of the one, and asserted by the other: it lies in both compartments, and speaks of the one alone.
    for (who, by) in [("a", "b"), ("b", "a")] {
        let [subject, asserter] = [who, by].map(|one| json!({ "reference": format!("Patient/{one}") }));
        let told = json!({ "resourceType": "Condition", "id": format!("told-{who}"), "code": { "text": "x" },
            "subject": subject, "asserter": asserter });
        write(&operator, &told);
    }
    for (name, role, own, other) in [("one", "viewer", "a", "b"), ("many", "admin", "b", "a")] {
        let client = Client::new(&server, name, role);
        for who in ["a", "b"] {
            assert_eq!(client.ask("GET", &format!("/Condition/told-{who}"), &[], "").status, 404, "{name}");
        }
        assert_eq!(client.found("/Condition"), (vec![], Some(0)), "{name}");
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
            // As of what never was: neither versions nor a link to them.
            (format!("/Patient/{other}/_history?_before=99999&_count=1"), 404),
            (format!("/Encounter/{other_stay}/_history?_before=2"), 404),
            (format!("/Patient/{own}/_history?_before=1"), 200),
            (format!("/Encounter/{other_stay}"), 404),
            ("/List/l".to_owned(), 404),
        ] {
            assert_eq!(client.ask("GET", &path, &[], "").status, status, "{name}: {path}");
        }
        let found = client.found("/Observation?_id=ours-a,ours-b,theirs-a,theirs-b");
        assert_eq!(found, (vec![format!("ours-{own}")], Some(1)), "{name}: another server's");
        for path in [format!("/Observation/theirs-{own}"), format!("/Observation/theirs-{own}/_history")] {
            assert_eq!(client.ask("GET", &path, &[], "").status, 404, "{name}: {path}");
        }
        assert_eq!(client.ask("GET", &format!("/Observation/ours-{own}"), &[], "").status, 200, "{name}");
        // What names another one beside them: an appointment of both, a group.
        assert_eq!(client.found("/Appointment"), (vec![format!("with-{own}")], Some(1)), "{name}");
        assert_eq!(client.found("/Group"), (vec![], Some(0)), "{name}");
        assert_eq!(client.found("/Patient?_has:Group:member:_id=g"), (vec![], Some(0)), "{name}");
        for path in
            ["/Appointment/with-both", "/Appointment/with-both/_history", "/Group/g", "/Group/g/_history/1"]
        {
            assert_eq!(client.ask("GET", path, &[], "").status, 404, "{name}: {path}");
        }
        let page = client.page("/Patient?_revinclude=Group:member&_revinclude=Appointment:patient");
        assert_eq!(ids(&page, "include"), [format!("with-{own}")], "{name}");
        // Of what was once about another one, the versions of their own alone, each page as full as it is asked for.
        let of_moved = |entry: &Value| entry["resource"]["subject"]["reference"].clone();
        let pages = client.walk("/Observation/moved/_history?_count=1", "next");
        let whose: Vec<Vec<Value>> = pages
            .iter()
            .map(|page| page["entry"].as_array().into_iter().flatten().map(of_moved).collect())
            .collect();
        assert_eq!(whose, vec![vec![json!(format!("Patient/{own}"))]; 2], "{name}");
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
            let others = ["Appointment/with-both", "Group/g"].map(str::to_owned);
            for place in
                others.into_iter().chain([format!("Encounter/{other_stay}"), format!("Patient/{other}")])
            {
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

/// What is shown to a read is found by a search: a label that a client writes withholds nobody from the one and not the other.
#[test]
fn who_a_client_labels_is_found_as_they_are_read() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    let label = json!({ "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R" });
    write(
        &client,
        &json!({ "resourceType": "Patient", "id": "r", "meta": { "security": [label] },
            "identifier": [{ "system": "urn:s", "value": "1" }] }),
    );
    write(
        &client,
        &json!({ "resourceType": "Observation", "id": "o", "status": "final", "code": { "text": "x" },
            "subject": { "reference": "Patient/r" } }),
    );
    let viewer = Client::new(&server, "viewer", "viewer");
    for path in ["/Patient/r", "/Observation/o"] {
        assert_eq!(viewer.ask("GET", path, &[], "").status, 200, "{path}");
    }
    for (path, want) in [
        ("/Patient?identifier=urn:s%7C1", &["r"][..]),
        ("/Patient?_security=R", &["r"]),
        ("/Observation?patient=r", &["o"]),
        ("/Patient/r/$everything", &["r", "o"]),
    ] {
        assert_eq!(viewer.found(path).0, want, "{path}");
    }
    // So none is made a second time.
    let again = json!({ "resourceType": "Patient", "identifier": [{ "system": "urn:s", "value": "1" }] });
    let headers = [("content-type", "application/fhir+json"), ("if-none-exist", "_security=R")];
    assert_eq!(client.ask("POST", "/Patient", &headers, &again.to_string()).status, 200);
}

#[test]
fn what_is_within_the_resource_is_not_missing() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    let order = |id: &str, medication: Value| {
        let mut order = json!({ "resourceType": "MedicationRequest", "id": id, "status": "active", "intent": "order",
            "subject": { "reference": "Patient/a" },
            "contained": [{ "resourceType": "Medication", "id": "m" }] });
        order.as_object_mut().unwrap().extend(medication.as_object().unwrap().clone());
        write(&client, &order);
    };
    order("within", json!({ "medicationReference": { "reference": "#m" } }));
    order("coded", json!({ "medicationCodeableConcept": { "text": "x" } }));
    assert_eq!(client.found("/MedicationRequest?medication:missing=false").0, ["within"]);
    assert_eq!(client.found("/MedicationRequest?medication:missing=true").0, ["coded"]);
}

/// Whom a resource names is looked at, in R4's compartment or not.
#[test]
fn who_is_named_outside_of_compartments_stands_in_the_audit_log() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    let patient = json!({ "reference": "Patient/p" });
    write(
        &client,
        &json!({ "resourceType": "Task", "id": "t", "status": "ready", "intent": "order", "for": patient }),
    );
    write(&client, &json!({ "resourceType": "Device", "id": "d", "patient": patient }));
    let admin = server.key("admin", "admin");
    let viewer = Client::new(&server, "viewer", "viewer");
    for path in ["/Task/t", "/Device/d", "/Device?_id=d"] {
        viewer.ask("GET", path, &[], "");
        let log = json_of(&server, "/api/audit", &admin);
        let newest =
            log["events"].as_array().unwrap().iter().find(|event| event["principal"] == "viewer").unwrap();
        assert!(newest["patient"].is_string(), "{path}: {newest}");
    }
}

/// What an include looks through and leaves out was shown to nobody.
#[test]
fn what_an_include_leaves_out_is_not_in_the_audit_log() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    let form = json!({ "resourceType": "Questionnaire", "id": "q", "status": "active", "url": "http://f/c", "version": "2" });
    write(&client, &form);
    for (id, address) in [("of-1", "http://f/c|1"), ("of-2", "http://f/c|2")] {
        let subject = json!({ "reference": format!("Patient/{id}") });
        write(
            &client,
            &json!({ "resourceType": "QuestionnaireResponse", "id": id, "status": "completed",
                "questionnaire": address, "subject": subject }),
        );
    }
    let viewer = Client::new(&server, "viewer", "viewer");
    let page = viewer.page("/Questionnaire?_revinclude=QuestionnaireResponse:questionnaire");
    assert_eq!(ids(&page, "include"), ["of-2"]);
    let log = json_of(&server, "/api/audit", &server.key("admin", "admin"));
    let looks = log["events"].as_array().unwrap().iter().filter(|event| event["principal"] == "viewer");
    assert_eq!(looks.count(), 1, "{log}");
}

/// However many types share the rows that are looked at, as many as may be told are counted of each.
#[test]
fn a_total_over_all_types_is_told_as_far_as_configured() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start { config: "[fhir]\ntotals_max = 3\n", ..Start::default() });
    let client = Client::new(&server, "operator", "operator");
    let others = [
        "Organization",
        "Practitioner",
        "Location",
        "PractitionerRole",
        "Medication",
        "Device",
        "HealthcareService",
        "InsurancePlan",
        "OrganizationAffiliation",
        "Person",
        "BiologicallyDerivedProduct",
        "DeviceDefinition",
    ];
    for ty in others {
        write(&client, &json!({ "resourceType": ty, "id": "x" }));
    }
    for id in ["a", "b", "c"] {
        write(&client, &json!({ "resourceType": "Patient", "id": id }));
    }
    assert_eq!(client.found("?_id=a,b,c&_count=1").1, Some(3));
    assert_eq!(client.found("?_id=a,b,c,x&_count=1").1, None, "more than are counted");
}

/// What was read to see whether there is more was shown to nobody.
#[test]
fn a_page_of_a_history_names_whom_it_shows_alone() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    for who in ["a", "b", "c"] {
        write(&client, &json!({ "resourceType": "Patient", "id": who }));
    }
    let viewer = Client::new(&server, "viewer", "viewer");
    for path in ["/Patient/_history?_count=1", "/_history?_count=1", "/Patient?_count=1"] {
        viewer.ask("GET", path, &[], "");
    }
    let log = json_of(&server, "/api/audit", &server.key("admin", "admin"));
    let looks = log["events"].as_array().unwrap().iter().filter(|event| event["principal"] == "viewer");
    assert_eq!(looks.count(), 3, "{log}");
}

/// Neither empty pages nor a link to nothing count what is hidden.
#[test]
fn a_history_does_not_count_the_versions_that_are_hidden() {
    let folder = tempdir().unwrap();
    let config = "[fhir.limited]\none = [\"Patient/a\"]\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let operator = Client::new(&server, "operator", "operator");
    let given = |id: &str, who: &str| {
        json!({ "resourceType": "Immunization", "id": id, "status": "completed", "occurrenceString": "x",
            "vaccineCode": { "text": "x" }, "patient": { "reference": format!("Patient/{who}") } })
    };
    for who in ["a", "b"] {
        write(&operator, &json!({ "resourceType": "Patient", "id": who }));
    }
    // Hidden ones behind, between and before those of their own.
    let mut n = 0;
    for hidden in [30, 30, 1, 30] {
        for _ in 0..hidden {
            n += 1;
            write(&operator, &given(&format!("of-b{n}"), "b"));
        }
        if n < 91 {
            write(&operator, &given(&format!("of-a{n}"), "a"));
        }
    }
    let one = Client::new(&server, "one", "viewer");
    let own = ["Immunization/of-a61", "Immunization/of-a60", "Immunization/of-a30"];
    for (path, want) in [
        ("/Immunization/_history", &own[..]),
        ("/_history?_since=2000", &[&own[..], &["Patient/a"]].concat()),
        ("/Encounter/_history", &[]),
    ] {
        for count in [1, 2, 3, 20] {
            let sign = if path.contains('?') { '&' } else { '?' };
            let pages = one.walk(&format!("{path}{sign}_count={count}"), "next");
            let of_page = |page: &Value| -> Vec<String> {
                let entries = page["entry"].as_array().into_iter().flatten();
                entries.map(|entry| entry["request"]["url"].as_str().unwrap().to_owned()).collect()
            };
            let pages: Vec<Vec<String>> = pages.iter().map(of_page).collect();
            let full: Vec<Vec<String>> =
                want.chunks(count).map(|page| page.iter().map(|&one| one.to_owned()).collect()).collect();
            let full = if full.is_empty() { vec![vec![]] } else { full };
            assert_eq!(pages, full, "{path}: {count}");
        }
    }
    assert_eq!(operator.walk("/Immunization/_history?_count=1", "next").len(), 94);
}

/// Who looked is for who minds the log: nobody else reads, finds or counts it.
#[test]
fn audit_events_are_for_admins() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let operator = Client::new(&server, "writer", "operator");
    write(&operator, &json!({ "resourceType": "Patient", "id": "p" }));
    write(
        &operator,
        &json!({ "resourceType": "AuditEvent", "id": "a", "type": { "code": "rest" }, "recorded": "2020-01-01T00:00:00Z",
            "agent": [{ "requestor": true, "who": { "reference": "Patient/p" } }],
            "source": { "observer": { "display": "x" } } }),
    );
    for (role, may) in [("viewer", false), ("operator", false), ("admin", true)] {
        let client = Client::new(&server, &format!("again-{role}"), role);
        for path in ["/AuditEvent/a", "/AuditEvent/a/_history", "/AuditEvent/a/_history/1"] {
            assert_eq!(
                client.ask("GET", path, &[], "").status,
                if may { 200 } else { 404 },
                "{role}: {path}"
            );
        }
        let (found, total) = if may { (vec!["a".to_owned()], Some(1)) } else { (vec![], Some(0)) };
        assert_eq!(client.found("/AuditEvent?_id=a"), (found, total), "{role}");
        assert_eq!(client.found("/AuditEvent?_summary=count").1, total, "{role}");
        assert_eq!(client.found("/Patient?_has:AuditEvent:patient:_id=a").1, total, "{role}");
        assert_eq!(
            client.found("?_type=AuditEvent,Patient&_id=a,p").1,
            total.map(|total| total + 1),
            "{role}"
        );
        let with = ids(&client.page("/Patient?_revinclude=AuditEvent:patient"), "include");
        assert_eq!(with.len(), usize::from(may), "{role}");
        let with = ids(&client.page("/Patient?_revinclude=*"), "include");
        assert_eq!(with.contains(&"a".to_owned()), may, "{role}");
        let history = client.page("/AuditEvent/_history");
        assert_eq!(history["entry"].as_array().map_or(0, Vec::len), usize::from(may), "{role}");
    }
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
    for want in ["drives", "patient + code", "guards", "verifies", "orders", "1 driven · 1 match"] {
        assert!(text.contains(want), "{want}: {text}");
    }
    assert!(!text.contains("8480-6"), "{text}");
    let admin = server.key("admin", "admin");
    let audit = request(server.http.unwrap(), "GET", "/api/audit", &[("x-api-key", &admin)], b"").text();
    assert!(audit.contains("hilum explain") && audit.contains("type=Observation"), "{audit}");
    assert!(!audit.contains("8480-6"), "{audit}");
    let (_, text, _) = explain(&["Patient/a/*?_type=Observation,Encounter", "--json"]);
    let said: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&said[0]["resourceType"], &said[1]["matches"]), (&json!("Encounter"), &json!(2)), "{said}");
    terms(&client);
    let (code, text, why) = explain(&["Observation?code:in=http://h/vs/systolic&patient=a"]);
    assert!(code == Some(0) && text.contains("1 match"), "{text}{why}");
    let (code, _, why) = explain(&["Observation?code:below=urn:other%7CCANARY"]);
    assert!(code != Some(0) && why.contains("no such code system") && !why.contains("CANARY"), "{why}");
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
