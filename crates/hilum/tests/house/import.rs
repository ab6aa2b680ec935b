//! `hilum import fhir` and `hilum export fhir`: files become resources, and resources files, on both engines.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use hilum_testkit::postgres::Postgres;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::fhir::{Client, said};
use crate::server::{Server, Start, a01, field, hilum, wait};

/// A house that commands and servers open in turn.
struct House {
    folder: TempDir,
    config: String,
}

impl House {
    fn new(config: &str) -> Self {
        let folder = tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        std::fs::write(folder.path().join("hilum.toml"), config).unwrap();
        Self { folder, config: config.to_owned() }
    }

    fn both() -> [Self; 2] {
        let postgres = Postgres::shared();
        let (url, schema) = (postgres.url(), postgres.fresh_schema());
        let config = format!("[tables]\nengine = \"postgres\"\nurl = \"{url}\"\nschema = \"{schema}\"\n");
        [Self::new(""), Self::new(&config)]
    }

    fn start(&self) -> Server {
        Server::start(&self.folder, &Start { config: &self.config, ..Start::default() })
    }

    /// What a command says, and its exit code.
    fn run(&self, command: &[&str], failpoint: Option<&str>) -> (i32, Value, String) {
        let mut asked = hilum();
        asked.args(command).arg("--json").arg("--data").arg(self.folder.path().join("data"));
        asked.arg("--config").arg(self.folder.path().join("hilum.toml"));
        if let Some(plan) = failpoint {
            asked.env("HILUM_FAILPOINT", plan);
        }
        let out = asked.output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.status.code().unwrap_or(-1), serde_json::from_slice(&out.stdout).unwrap_or(Value::Null), said)
    }

    fn import(&self, paths: &[&Path], more: &[&str]) -> (i32, Value) {
        let mut command = vec!["import", "fhir"];
        command.extend(paths.iter().map(|path| path.to_str().unwrap()));
        command.extend(more);
        let (code, done, said) = self.run(&command, None);
        assert!(!done.is_null(), "{said}");
        (code, done)
    }

    /// All resources as lines by file name.
    fn export(&self, more: &[&str]) -> BTreeMap<String, Vec<u8>> {
        let out = tempdir().unwrap();
        let mut command = vec!["export", "fhir", "--out", out.path().to_str().unwrap()];
        command.extend(more);
        let (code, _, said) = self.run(&command, None);
        assert_eq!(code, 0, "{said}");
        let files = std::fs::read_dir(out.path()).unwrap().map(|file| file.unwrap().path());
        files.map(|path| (name_of(&path), std::fs::read(&path).unwrap())).collect()
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Lines without what the server sets.
fn lines(files: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let mut all = Vec::new();
    for bytes in files.values() {
        for line in std::str::from_utf8(bytes).unwrap().lines() {
            let line = hilum_fhir::resource::without_server_meta(line).unwrap().into_owned();
            all.push(line);
        }
    }
    all.sort();
    all
}

fn gzip(path: &Path, text: &str) {
    let mut file = GzEncoder::new(std::fs::File::create(path).unwrap(), Compression::fast());
    file.write_all(text.as_bytes()).unwrap();
    file.finish().unwrap();
}

fn observation(id: &str, more: &str) -> String {
    format!(
        r#"{{"resourceType":"Observation","id":"{id}","status":"final","code":{{"text":"CANARY"}}{more}}}"#
    )
}

/// Files of every kind; the one that is referred to stands last.
fn write_files(folder: &Path) -> PathBuf {
    let patient = "7f1d0a52-8b0e-4c1f-9d0e-000000000001";
    let entry = |url: &str, resource: &Value, request: &Value| json!({"fullUrl": url, "resource": resource, "request": request});
    let visits = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        entry("urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-000000000002", &json!({"resourceType": "Encounter", "status": "finished",
            "class": {"code": "AMB"}, "subject": {"reference": format!("urn:uuid:{patient}")},
            "participant": [{"individual": {"reference": "Practitioner?identifier=urn:npi|17"}}]}),
            &json!({"method": "POST", "url": "Encounter"})),
        entry(&format!("urn:uuid:{patient}"), &json!({"resourceType": "Patient", "name": [{"family": "CANARY"}]}),
            &json!({"method": "POST", "url": "Patient"})),
        entry("urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-000000000003", &json!({"resourceType": "Observation", "status": "CANARY",
            "code": {"text": "x"}}), &json!({"method": "POST", "url": "Observation"})),
        entry("urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-000000000004", &json!({"resourceType": "Goal", "lifecycleStatus": "active",
            "description": {"text": "x"}, "subject": {"reference": "Patient?identifier=urn:s|CANARY"}}),
            &json!({"method": "POST", "url": "Goal"})),
        json!({"request": {"method": "DELETE", "url": "Patient/CANARY"}}),
    ]});
    let doctors = json!({"resourceType": "Bundle", "type": "batch", "entry": [
        entry("urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-000000000005", &json!({"resourceType": "Practitioner", "id": "d17",
            "identifier": [{"system": "urn:npi", "value": "17"}]}),
            &json!({"method": "POST", "url": "Practitioner", "ifNoneExist": "identifier=urn:npi|17"})),
        entry("urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-000000000006", &json!({"resourceType": "Practitioner", "id": "twin",
            "identifier": [{"system": "urn:npi", "value": "17"}]}),
            &json!({"method": "POST", "url": "Practitioner", "ifNoneExist": "identifier=urn:npi|17"})),
    ]});
    let found = json!({"resourceType": "Bundle", "type": "searchset", "entry": [
        {"fullUrl": "http://elsewhere/fhir/Location/l1", "resource": {"resourceType": "Location", "id": "l1"}, "search": {"mode": "match"}},
        {"resource": {"resourceType": "OperationOutcome", "issue": []}, "search": {"mode": "outcome"}},
        {"resource": {"resourceType": "Device", "id": "dev", "location": {"reference": "http://elsewhere/fhir/Location/l1"}}},
    ]});
    let inner = folder.join("inner");
    std::fs::create_dir(&inner).unwrap();
    let write = |name: &str, text: &str| std::fs::write(inner.join(name), text).unwrap();
    write("a-visits.json", &serde_json::to_string_pretty(&visits).unwrap());
    gzip(&inner.join("z-doctors.json.gz"), &doctors.to_string());
    write("found.json", &found.to_string());
    write("one.json", &observation("one", r#", "valueQuantity" : {"value": 1.50}"#));
    write("broken.json", r#"{"resourceType":"Patient","id":"CANARY"#);
    let notes =
        [observation("two", ""), String::new(), "no JSON CANARY".to_owned(), observation("three", "")];
    write("notes.ndjson", &notes.join("\n"));
    write(
        "Bundle.ndjson",
        r#"{"resourceType":"Bundle","id":"b","type":"collection","entry":[{"resource":{"resourceType":"Basic","id":"in","code":{"text":"x"}}}]}"#,
    );
    write("readme.txt", "no resource");
    inner
}

#[test]
fn files_become_resources_once_and_what_is_refused_is_named() {
    for house in House::both() {
        let folder = tempdir().unwrap();
        let files = write_files(folder.path());
        let rejected = folder.path().join("rejected.ndjson");
        let (code, done) = house.import(&[&files], &["--rejected", rejected.to_str().unwrap()]);
        assert_eq!(code, 3, "{done}");
        let names: Vec<Value> = std::fs::read_to_string(&rejected)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(!std::fs::read_to_string(&rejected).unwrap().contains("CANARY"));
        assert!(!done.to_string().contains("CANARY"), "{done}");
        let named = |file: &str, at: &str, n: u64, expression: &str| {
            names.iter().any(|one| {
                one["file"] == file
                    && one[at] == n
                    && (expression.is_empty() || one["expression"] == expression)
            })
        };
        assert!(named("a-visits.json", "entry", 2, "Observation.status"), "{names:?}");
        assert!(named("a-visits.json", "entry", 3, ""), "a reference by a search to nothing: {names:?}");
        assert!(named("a-visits.json", "entry", 4, ""), "a deletion: {names:?}");
        assert!(named("notes.ndjson", "line", 3, ""), "{names:?}");
        assert!(names.iter().any(|one| one["file"] == "broken.json"), "{names:?}");
        assert_eq!((names.len(), &done["refused"]), (5, &json!(5)), "{names:?}");
        assert_eq!(done["written"], 9, "{done}");
        assert_eq!(done["filesDone"], 7, "{done}");

        let server = house.start();
        let client = Client::new(&server, "viewer", "viewer");
        let read = |path: &str| said(&client.get(path));
        let visit = read("/Encounter/7f1d0a52-8b0e-4c1f-9d0e-000000000002");
        assert_eq!(visit["subject"]["reference"], "Patient/7f1d0a52-8b0e-4c1f-9d0e-000000000001");
        assert_eq!(visit["participant"][0]["individual"]["reference"], "Practitioner/d17");
        assert_eq!(visit["meta"]["versionId"], "1");
        assert_eq!(client.get("/Practitioner/twin").status, 404, "one that meets its condition is there");
        assert_eq!(read("/Device/dev")["location"]["reference"], "Location/l1");
        assert_eq!(read("/Bundle/b")["type"], "collection", "a resource of bulk data");
        assert_eq!(client.get("/Basic/in").status, 404);
        let one = client.get("/Observation/one").text();
        assert!(one.contains(r#""valueQuantity":{"value":1.50}"#), "in one line, digits stay: {one}");
        let found = read("/Encounter?patient=7f1d0a52-8b0e-4c1f-9d0e-000000000001");
        assert_eq!(found["total"], 1, "it is indexed: {found}");

        // Beside the server, and again: all stands already.
        let (code, again) = house.import(&[&files], &[]);
        assert_eq!((code, &again["written"], &again["refused"]), (3, &json!(0), &json!(5)), "{again}");
        // The twin is met by its condition: it is no resource of its own.
        assert_eq!(again["unchanged"], 9, "{again}");
        // A label that an import does not speak of stays, as with any update.
        let labelled = observation("one", r#","meta":{"tag":[{"code":"kept"}]}"#);
        let operator = Client::new(&server, "operator", "operator");
        assert_eq!(operator.ask("PUT", "/Observation/one", &[], &labelled).status, 200);
        let (_, changed) = house.import(&[&files.join("one.json")], &[]);
        assert_eq!(changed["written"], 1, "{changed}");
        let one = read("/Observation/one");
        assert_eq!(
            (&one["meta"]["versionId"], &one["meta"]["tag"][0]["code"]),
            (&json!("3"), &json!("kept"))
        );
        server.stop();
    }
}

#[test]
fn the_last_line_of_a_resource_is_what_stands() {
    let folder = tempdir().unwrap();
    let version = |n: u32| observation("x", &format!(r#","note":[{{"text":"{n}"}}]"#));
    // What lies between takes several commits: the first version is long on disk when the last one comes.
    let large =
        |n: u32| observation(&format!("l{n}"), &format!(r#","note":[{{"text":"{}"}}]"#, "x".repeat(1 << 20)));
    let mut lines = vec![version(1), version(2), version(3)];
    lines.extend((0..40).map(large));
    lines.push(version(4));
    let file = folder.path().join("many.ndjson");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let house = House::new("");
    let (code, done) = house.import(&[&file], &[]);
    assert_eq!((code, &done["written"]), (0, &json!(44)), "{done}");
    let server = house.start();
    let found = said(&Client::new(&server, "viewer", "viewer").get("/Observation/x"));
    assert_eq!(
        (&found["note"][0]["text"], &found["meta"]["versionId"]),
        (&json!("4"), &json!("4")),
        "{found}"
    );
    server.stop();
}

#[test]
fn what_is_refused_takes_nothing_else_with_it() {
    let folder = tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let doctor = |id: &str, gender: &str| {
        let resource = json!({"resourceType": "Practitioner", "id": id, "gender": gender,
            "identifier": [{"system": "urn:npi", "value": "17"}]});
        let request =
            json!({"method": "POST", "url": "Practitioner", "ifNoneExist": "identifier=urn:npi|17"});
        json!({"resourceType": "Bundle", "type": "batch", "entry": [{"resource": resource, "request": request}]})
    };
    write("a.json", &doctor("none", "CANARY").to_string());
    write("b.json", &doctor("good", "female").to_string());
    let resource = json!({"resourceType": "Practitioner", "gender": "male",
        "identifier": [{"system": "urn:npi", "value": "17"}]});
    let request = json!({"method": "PUT", "url": "Practitioner?identifier=urn:npi|17"});
    let update = json!({"resourceType": "Bundle", "type": "batch", "entry": [{"resource": resource, "request": request}]});
    let part = observation(
        "part",
        r#","meta":{"tag":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}]}"#,
    );
    write("part.json", &part);
    // Two that are called the same stay two: the second one is refused.
    let born = |family: &str| {
        json!({"fullUrl": "urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-00000000000a",
        "resource": {"resourceType": "Patient", "name": [{"family": family}]}, "request": {"method": "POST", "url": "Patient"}})
    };
    let twins =
        json!({"resourceType": "Bundle", "type": "transaction", "entry": [born("Anna"), born("Berta")]});
    write("twins.json", &twins.to_string());
    // Cut off: the lines before the damage are taken.
    let lines: Vec<String> = (0..3_000).map(|n| observation(&format!("o{n}"), "")).collect();
    gzip(&folder.path().join("cut.ndjson.gz"), &lines.join("\n"));
    let cut = folder.path().join("cut.ndjson.gz");
    let whole = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &whole[..whole.len() * 9 / 10]).unwrap();

    let house = House::new("");
    let (code, done) = house.import(&[folder.path()], &[]);
    assert_eq!((code, &done["refused"]), (3, &json!(4)), "{done}");
    assert!(done["written"].as_u64().unwrap() > 1_000, "{done}");
    let again = folder.path().join("again.json");
    std::fs::write(&again, update.to_string()).unwrap();
    let (code, done) = house.import(&[&again], &[]);
    assert_eq!((code, &done["written"]), (0, &json!(1)), "{done}");
    let server = house.start();
    let client = Client::new(&server, "viewer", "viewer");
    assert_eq!(client.get("/Practitioner/none").status, 404);
    let good = said(&client.get("/Practitioner/good"));
    assert_eq!((&good["gender"], &good["meta"]["versionId"]), (&json!("male"), &json!("2")), "{good}");
    assert_eq!(client.get("/Observation/part").status, 404, "a part is not taken for the whole");
    assert_eq!(client.get("/Observation/o0").status, 200);
    let anna = said(&client.get("/Patient/7f1d0a52-8b0e-4c1f-9d0e-00000000000a"));
    assert_eq!(anna["name"][0]["family"], "Anna");
    server.stop();
}

/// Files whose resources refer to what comes further on, to each other, and to nothing.
fn write_referring_files(folder: &Path) {
    let about = |ty: &str, id: &str, subject: &str, more: Value| {
        let mut one = json!({"resourceType": ty, "id": id, "subject": {"reference": subject}});
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        one
    };
    let note = |id: &str, subject: &str, more: Value| {
        let mut one = about("Observation", id, subject, more);
        (one["status"], one["code"]) = (json!("final"), json!({"text": "x"}));
        one
    };
    let patient = |id: &str| json!({"resourceType": "Patient", "id": id});
    let stay = json!({"status": "finished", "class": {"code": "IMP"},
        "diagnosis": [{"condition": {"reference": "Condition/c"}}]});
    let write = |name: &str, all: &[Value]| {
        let lines: Vec<String> = all.iter().map(Value::to_string).collect();
        std::fs::write(folder.join(name), lines.join("\n")).unwrap();
    };
    write(
        "Condition.ndjson",
        &[about("Condition", "c", "Patient/p", json!({"encounter": {"reference": "Encounter/e"}}))],
    );
    write("Encounter.ndjson", &[about("Encounter", "e", "Patient/p", stay)]);
    write(
        "Observation.ndjson",
        &[
            note("o1", "Patient/p", json!({"encounter": {"reference": "Encounter/e"}})),
            note("o2", "Patient/none", json!({})),
            note("o3", "urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-00000000000c", json!({})),
            note("o4", "Patient/p", json!({"hasMember": [{"reference": "Observation/o2"}]})),
            note("o5", "http://elsewhere.example/fhir/Patient/p", json!({})),
        ],
    );
    write("Patient.ndjson", &[patient("p")]);
    let of = |resource: Value, url: &str| {
        let ty = resource["resourceType"].clone();
        json!({"fullUrl": url, "resource": resource, "request": {"method": "POST", "url": ty}})
    };
    let (born, nobody) =
        ("urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-00000000000d", "urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-00000000000e");
    let entries = [
        of(note("b1", born, json!({})), "urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-000000000001"),
        of(note("b2", nobody, json!({})), "urn:uuid:7f1d0a52-8b0e-4c1f-9d0e-000000000002"),
        of(patient("born"), born),
    ];
    write("z.json", &[json!({"resourceType": "Bundle", "type": "batch", "entry": entries})]);
}

#[test]
fn an_import_takes_no_reference_to_nothing_where_there_may_be_none() {
    let folder = tempdir().unwrap();
    write_referring_files(folder.path());
    let [embedded, shared] = House::both();
    for house in [embedded, shared] {
        let strict = House::new(&format!("{}[fhir]\nreferences = \"exist\"\n", house.config));
        let mut named = Vec::new();
        for (round, written) in [(1, 7), (2, 0)] {
            let (code, done) = strict.import(&[folder.path()], &[]);
            assert_eq!((code, &done["written"]), (3, &json!(written)), "round {round}: {done}");
            named = done["refusedNamed"].as_array().unwrap().clone();
            let mut places: Vec<String> = named
                .iter()
                .map(|one| format!("{} {} {}", one["file"], one["line"], one["expression"]).replace('"', ""))
                .collect();
            places.sort();
            let want = [
                "Observation.ndjson 2 Observation.subject",
                "Observation.ndjson 3 Observation.subject",
                "Observation.ndjson 4 Observation.hasMember[0]",
                "z.json null Observation.subject",
            ];
            assert_eq!(places, want, "round {round}: {done}");
        }
        assert!(
            named.iter().all(|one| one["text"].as_str().unwrap().contains("leads to nothing here")),
            "{named:?}"
        );
        let server = strict.start();
        let client = Client::new(&server, "viewer", "viewer");
        for (path, status) in
            [("o1", 200), ("o2", 404), ("o3", 404), ("o4", 404), ("o5", 200), ("b1", 200), ("b2", 404)]
        {
            assert_eq!(client.get(&format!("/Observation/{path}")).status, status, "{path}");
        }
        assert_eq!(said(&client.get("/Observation/b1"))["subject"]["reference"], "Patient/born");
        assert_eq!(said(&client.get("/Encounter?diagnosis=Condition/c"))["total"], 1);
        server.stop();
    }
    let (code, done) = House::new("").import(&[folder.path()], &[]);
    assert_eq!((code, &done["written"]), (0, &json!(11)), "by default they are taken: {done}");
}

/// What waits for what it refers to holds up what comes behind it: or the older one would stand.
#[test]
fn of_one_that_waits_the_later_line_stands() {
    let folder = tempdir().unwrap();
    let observation = |status: &str, more: Value| {
        let mut made =
            json!({"resourceType": "Observation", "id": "o", "status": status, "code": {"text": "x"}});
        made.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        made.to_string()
    };
    let waits = observation("preliminary", json!({"subject": {"reference": "Patient/late"}}));
    let lines = format!("{waits}\n{}\n", observation("final", json!({})));
    std::fs::write(folder.path().join("Observation.ndjson"), lines).unwrap();
    std::fs::write(folder.path().join("Patient.ndjson"), r#"{"resourceType":"Patient","id":"late"}"#)
        .unwrap();
    let house = House::new("[fhir]\nreferences = \"exist\"\n");
    for round in [1, 2] {
        let (code, done) = house.import(&[folder.path()], &[]);
        assert_eq!(code, 0, "round {round}: {done}");
        let server = house.start();
        let client = Client::new(&server, &format!("viewer-{round}"), "viewer");
        assert_eq!(said(&client.get("/Observation/o"))["status"], "final", "round {round}");
        server.stop();
    }
}

/// Who is there already, under another id, is whom the others of the Bundle refer to, by relative references too.
#[test]
fn relative_references_lead_to_who_was_found() {
    let folder = tempdir().unwrap();
    let person = |id: &str| json!({"resourceType": "Patient", "id": id, "identifier": [{"system": "urn:s", "value": "1"}]});
    std::fs::write(folder.path().join("1.ndjson"), person("ours").to_string()).unwrap();
    let house = House::new("");
    assert_eq!(house.import(&[&folder.path().join("1.ndjson")], &[]).0, 0);
    let asked = json!({"method": "POST", "url": "Patient", "ifNoneExist": "identifier=urn:s|1"});
    let entries = [
        json!({"fullUrl": "http://src.example/fhir/Patient/9", "resource": person("9"), "request": asked}),
        json!({"fullUrl": "http://src.example/fhir/Observation/o",
            "resource": {"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"},
                "subject": {"reference": "Patient/9"}},
            "request": {"method": "PUT", "url": "Observation/o"}}),
    ];
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
    let path = folder.path().join("2.json");
    std::fs::write(&path, bundle.to_string()).unwrap();
    let (code, done) = house.import(&[&path], &[]);
    assert_eq!(code, 0, "{done}");
    let server = house.start();
    let client = Client::new(&server, "viewer", "viewer");
    assert_eq!(said(&client.get("/Observation/o"))["subject"]["reference"], "Patient/ours");
}

/// What comes in a document that waits for a search is no reference to nothing, whichever is refused of that document.
#[test]
fn what_comes_in_a_document_that_waits_is_there() {
    let folder = tempdir().unwrap();
    let put = |resource: Value| {
        let url =
            format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
        json!({"resource": resource, "request": {"method": "PUT", "url": url}})
    };
    let of = |id: &str, subject: &str| {
        json!({"resourceType": "Observation", "id": id, "status": "final", "code": {"text": "x"},
            "subject": {"reference": subject}})
    };
    let entries =
        [put(json!({"resourceType": "Patient", "id": "p"})), put(of("lost", "Patient?identifier=nobody"))];
    let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": entries});
    std::fs::write(folder.path().join("z.json"), bundle.to_string()).unwrap();
    std::fs::write(folder.path().join("a.ndjson"), of("on", "Patient/p").to_string()).unwrap();
    let house = House::new("[fhir]\nreferences = \"exist\"\n");
    let (code, done) = house.import(&[folder.path()], &[]);
    assert_eq!((code, &done["written"], &done["refused"]), (3, &json!(2), &json!(1)), "{done}");
    let server = house.start();
    let client = Client::new(&server, "viewer", "viewer");
    assert_eq!(client.get("/Observation/on").status, 200);
    assert_eq!(client.get("/Observation/lost").status, 404);
}

#[test]
fn what_messages_made_is_not_written_by_an_import() {
    let house = House::new("");
    let server = house.start();
    let mut mllp = server.connect();
    assert_eq!(field(&mllp.ask(&a01("CANARY1")), "MSA", 1), "AA");
    let client = Client::new(&server, "viewer", "viewer");
    let id = wait("the patient", 30, || {
        let found = said(&client.get("/Patient?_count=1"));
        found["entry"][0]["resource"]["id"].as_str().map(str::to_owned)
    });
    let folder = tempdir().unwrap();
    let lines = format!(
        "{{\"resourceType\":\"Patient\",\"id\":\"{id}\"}}\n{{\"resourceType\":\"Basic\",\"id\":\"b\",\"code\":{{\"text\":\"x\"}},\"subject\":{{\"reference\":\"Patient/{id}\"}}}}\n"
    );
    std::fs::write(folder.path().join("p.ndjson"), lines).unwrap();
    let (code, done) = house.import(&[folder.path()], &[]);
    assert_eq!((code, &done["written"], &done["refused"]), (3, &json!(1), &json!(1)), "{done}");
    let text = done["refusedNamed"][0]["text"].as_str().unwrap();
    assert!(text.contains("made from messages by"), "{text}");
    assert_eq!(client.get("/Basic/b").status, 200);
}

/// Writes by every door, deletes, and moves all that stands into an empty house by files.
#[test]
fn an_export_brought_into_an_empty_house_is_the_same() {
    for (house, empty) in House::both().into_iter().zip(House::both()) {
        let server = house.start();
        let mut mllp = server.connect();
        for n in 0..3 {
            assert_eq!(field(&mllp.ask(&a01(&format!("E{n}"))), "MSA", 1), "AA");
        }
        let client = Client::new(&server, "operator", "operator");
        wait("the patients", 30, || {
            (said(&client.get("/Patient?_summary=count"))["total"] == 3).then_some(())
        });
        for n in 0..250 {
            let body =
                observation(&format!("o{n}"), &format!(",\n  \"valueQuantity\": {{\"value\": {n}.50}}"));
            assert_eq!(client.ask("PUT", &format!("/Observation/o{n}"), &[], &body).status, 201);
        }
        assert_eq!(client.ask("DELETE", "/Observation/o7", &[], "").status, 204);
        let files = house.export(&[]);
        server.stop();
        let ours = lines(&files);
        assert_eq!(ours.iter().filter(|line| line.contains("\"Observation\"")).count(), 249);
        assert!(files.contains_key("Patient.ndjson") && files.contains_key("Encounter.ndjson"));

        let moved = tempdir().unwrap();
        for (name, bytes) in &files {
            std::fs::write(moved.path().join(name), bytes).unwrap();
        }
        let (code, done) = empty.import(&[moved.path()], &[]);
        assert_eq!((code, &done["refused"]), (0, &json!(0)), "{done}");
        assert_eq!(lines(&empty.export(&[])), ours);

        let one = empty.export(&["--type", "Patient", "--gzip"]);
        assert_eq!(one.keys().collect::<Vec<_>>(), ["Patient.ndjson.gz"]);
        assert!(empty.export(&["--since", "2999-01-01T00:00:00Z"]).is_empty());
        let full = moved.path().to_str().unwrap();
        let (code, _, said) = empty.run(&["export", "fhir", "--out", full], None);
        assert!(code == 1 && said.contains("not empty"), "{said}");
    }
}

#[test]
fn an_import_that_is_cut_off_goes_on_and_writes_nothing_twice() {
    let folder = tempdir().unwrap();
    let codes: Vec<String> = (0..20).map(|n| format!(r#"{{"system":"urn:c","code":"{n}"}}"#)).collect();
    let category = format!(r#","category":[{{"coding":[{}]}}]"#, codes.join(","));
    let many: Vec<String> = (0..3_000).map(|n| observation(&format!("o{n}"), &category)).collect();
    std::fs::write(folder.path().join("many.ndjson"), many.join("\n")).unwrap();
    let path = folder.path().to_str().unwrap();
    // Which commit is the import's second one depends on what is written before it.
    let (house, done) = (3..12)
        .find_map(|n| {
            let house = House::new("");
            let (_, _, said) = house.run(&["import", "fhir", path], Some(&format!("commit:{n}")));
            assert!(said.contains("fired"), "commit {n}: {said}");
            let (_, done) = house.import(&[folder.path()], &[]);
            let is_within = done["unchanged"] != 0 && done["written"] != 0;
            is_within.then_some((house, done))
        })
        .expect("no commit of many was cut off");
    assert_eq!(done["written"].as_u64().unwrap() + done["unchanged"].as_u64().unwrap(), 3_000, "{done}");
    let (code, again) = house.import(&[folder.path()], &[]);
    assert_eq!((code, &again["written"], &again["unchanged"]), (0, &json!(0), &json!(3_000)), "{again}");
}
