//! Searches over the real socket: what clients wrote and what messages made, page by page, and who is found by nobody.

use std::collections::BTreeSet;

use hilum_testkit::kafka::Kafka;
use hilum_testkit::postgres::Postgres;
use serde_json::Value;
use tempfile::tempdir;

use crate::confidence::{OPEN, SECRET, all_applied, messages};
use crate::damage::ready;
use crate::server::{Answer, Server, Start, field, request, wait};

pub const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

pub struct Client<'s> {
    pub server: &'s Server,
    pub key: String,
}

impl<'s> Client<'s> {
    pub fn new(server: &'s Server, name: &str, role: &str) -> Self {
        Self { server, key: server.key(name, role) }
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut all = vec![("x-api-key", self.key.as_str())];
        all.extend_from_slice(headers);
        request(self.server.http.unwrap(), method, &format!("/fhir{path}"), &all, body.as_bytes())
    }

    pub fn put(&self, ty: &str, id: &str, rest: &str) {
        let body = format!("{{\"resourceType\":\"{ty}\",\"id\":\"{id}\"{rest}}}");
        let headers = [("content-type", "application/fhir+json")];
        let answer = self.ask("PUT", &format!("/{ty}/{id}"), &headers, &body);
        assert!([200, 201].contains(&answer.status), "{ty}/{id}: {}", answer.text());
    }

    /// A page that is there.
    pub fn page(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, &[], "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        said(&answer)
    }

    /// The ids of the matches, in their order, and the total.
    pub fn found(&self, path: &str) -> (Vec<String>, Option<u64>) {
        let page = self.page(path);
        (ids(&page, "match"), page["total"].as_u64())
    }

    /// All pages from this one on, by a link of each.
    pub fn walk(&self, path: &str, relation: &str) -> Vec<Value> {
        let mut pages = vec![self.page(path)];
        while let Some(next) = link(pages.last().unwrap(), relation) {
            assert!(pages.len() < 100, "a walk without an end");
            pages.push(self.page(&next));
        }
        pages
    }
}

pub fn said(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("no JSON: {}", answer.text()))
}

pub fn ids(page: &Value, mode: &str) -> Vec<String> {
    let entries = page["entry"].as_array().into_iter().flatten();
    let wanted = entries.filter(|entry| entry["search"]["mode"] == mode);
    wanted.map(|entry| entry["resource"]["id"].as_str().unwrap_or_default().to_owned()).collect()
}

/// A link's path below `/fhir`.
pub fn link(page: &Value, relation: &str) -> Option<String> {
    let links = page["link"].as_array().into_iter().flatten();
    let url = links.filter(|link| link["relation"] == relation).find_map(|link| link["url"].as_str());
    url.map(|url| url.split_once("/fhir").unwrap().1.to_owned())
}

pub fn code_of(answer: &Answer) -> String {
    said(answer)["issue"][0]["code"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn what_clients_wrote_is_found_page_by_page() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    found_page_by_page(&server);
}

/// The same on PostgreSQL, where each page is asked of another process than the one before.
#[test]
fn what_clients_wrote_is_found_page_by_page_on_postgresql() {
    let (kafka, postgres) = (Kafka::start(1, &[]), Postgres::shared());
    let config = crate::many::config(&kafka, postgres);
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start { config: &config, ..Start::default() });
    found_page_by_page(&server);
}

/// By its `url`, and by its `version` where the address says one.
fn what_a_canonical_names_is_included(client: &Client<'_>) {
    for (id, version) in [("c1", "1"), ("c2", "2")] {
        let named = format!(",\"status\":\"active\",\"url\":\"http://forms/c\",\"version\":\"{version}\"");
        client.put("Questionnaire", id, &named);
    }
    for (id, address) in
        [("any", "http://forms/c"), ("first", "http://forms/c|1"), ("gone", "http://forms/c|3")]
    {
        let filled = format!(",\"status\":\"completed\",\"questionnaire\":\"{address}\"");
        client.put("QuestionnaireResponse", id, &filled);
    }
    // By whichever type: this parameter names none.
    client.put("PlanDefinition", "plan", ",\"status\":\"active\",\"url\":\"http://forms/c\"");
    let follows =
        ",\"status\":\"active\",\"intent\":\"order\",\"instantiatesCanonical\":[\"http://forms/c|1\"]";
    client.put("RequestGroup", "group", follows);
    let include = "_include=QuestionnaireResponse:questionnaire";
    let reverse = "_revinclude=QuestionnaireResponse:questionnaire";
    for (wanted, want) in [
        (format!("QuestionnaireResponse?_id=any&{include}"), vec!["c1", "c2"]),
        (format!("QuestionnaireResponse?_id=first&{include}"), vec!["c1"]),
        (format!("QuestionnaireResponse?_id=first&{include}:Questionnaire"), vec!["c1"]),
        ("QuestionnaireResponse?_id=first&_include=*".to_owned(), vec!["c1"]),
        (format!("QuestionnaireResponse?_id=gone&{include}"), vec![]),
        ("RequestGroup?_include=RequestGroup:instantiates-canonical".to_owned(), vec!["c1"]),
        (format!("Questionnaire?_id=c1&{reverse}"), vec!["any", "first"]),
        (format!("Questionnaire?_id=c2&{reverse}"), vec!["any"]),
        ("Questionnaire?_id=c2&_revinclude=*".to_owned(), vec!["any"]),
    ] {
        let with: BTreeSet<String> =
            ids(&client.page(&format!("/{wanted}")), "include").into_iter().collect();
        assert_eq!(with, want.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), "{wanted}");
    }
}

fn found_page_by_page(server: &Server) {
    let client = Client::new(server, "operator", "operator");
    for n in 0..7 {
        let gender = if n % 2 == 0 { "female" } else { "male" };
        client.put(
            "Patient",
            &format!("p{n}"),
            &format!(
                ",\"identifier\":[{{\"system\":\"urn:s\",\"value\":\"{n}\"}}],\"name\":[{{\"family\":\"김{n}\"}}],\
                 \"gender\":\"{gender}\",\"birthDate\":\"197{n}-05-01\""
            ),
        );
        client.put(
            "Encounter",
            &format!("e{n}"),
            &format!(
                ",\"status\":\"in-progress\",\"class\":{{\"code\":\"IMP\"}},\"subject\":{{\"reference\":\"Patient/p{n}\"}}"
            ),
        );
        client.put(
            "Observation",
            &format!("o{n}"),
            &format!(
                ",\"status\":\"final\",\"code\":{{\"coding\":[{{\"system\":\"urn:c\",\"code\":\"bp\"}}]}},\
                 \"subject\":{{\"reference\":\"Patient/p{}\"}},\"encounter\":{{\"reference\":\"Encounter/e{n}\"}},\
                 \"effectiveDateTime\":\"2026-01-0{}\",\"valueQuantity\":{{\"value\":{n}.5,\"unit\":\"mg\",\
                 \"system\":\"http://unitsofmeasure.org\",\"code\":\"mg\"}}",
                n % 3,
                n + 1
            ),
        );
    }
    let cases: &[(&str, &str, &[&str])] = &[
        ("by identifier", "/Patient?identifier=urn:s%7C3", &["p3"]),
        ("any of several", "/Patient?identifier=3,4", &["p3", "p4"]),
        ("both", "/Patient?gender=female&birthdate=gt1973", &["p4", "p6"]),
        ("a beginning of a name", "/Patient?family=%EA%B9%802", &["p2"]),
        ("by id", "/Patient?_id=p5,p1,nobody", &["p1", "p5"]),
        ("of a patient", "/Encounter?status=in-progress&patient=p2", &["e2"]),
        ("by the whole reference", "/Encounter?subject=Patient/p2", &["e2"]),
        ("a chain", "/Observation?patient.family=%EA%B9%801", &["o1", "o4"]),
        ("over two steps", "/Observation?encounter.patient.identifier=6", &["o6"]),
        ("reversed", "/Patient?_has:Observation:patient:value-quantity=gt5.9", &["p0"]),
        ("in another unit", "/Observation?value-quantity=0.0035%7Chttp://unitsofmeasure.org%7Cg", &["o3"]),
        ("the newest first", "/Observation?date=ge2026-01-05&_sort=-date", &["o6", "o5", "o4"]),
        ("none of these", "/Patient?gender:not=female", &["p1", "p3", "p5"]),
        ("without", "/Patient?death-date:missing=true&_id:not=p0&gender=female", &["p2", "p4", "p6"]),
        ("nothing", "/Patient?identifier=nobody", &[]),
    ];
    for (why, path, want) in cases {
        let (found, total) = client.found(path);
        // Without an order of its own a walk goes by age of the resources.
        assert_eq!(found, *want, "{why}: {path}");
        assert_eq!(total, Some(want.len() as u64), "{why}");
        let (_, total) = client.found(&format!("{path}&_summary=count"));
        assert_eq!(total, Some(want.len() as u64), "{why}: counted");
    }
    // The same by a form.
    let posted = client.ask("POST", "/Patient/_search?_count=5", &[FORM], "gender=female&birthdate=gt1973");
    assert_eq!(ids(&said(&posted), "match"), ["p4", "p6"], "{}", posted.text());
    let page = said(&posted);
    assert_eq!(link(&page, "self").as_deref(), Some("/Patient?gender=female&birthdate=gt1973&_count=5"));
    let included = client
        .page("/Observation?_id=o4&_include=Observation:subject&_include:iterate=Observation:encounter");
    assert_eq!(ids(&included, "match"), ["o4"]);
    assert_eq!(
        ids(&included, "include").into_iter().collect::<BTreeSet<_>>(),
        BTreeSet::from(["p1".to_owned(), "e4".to_owned()])
    );
    // By a canonical that says an address here, too.
    client.put("Questionnaire", "q", ",\"status\":\"active\"");
    client.put(
        "QuestionnaireResponse",
        "qr",
        ",\"status\":\"completed\",\"questionnaire\":\"Questionnaire/q\"",
    );
    let included = client.page("/QuestionnaireResponse?_id=qr&_include=QuestionnaireResponse:questionnaire");
    assert_eq!(ids(&included, "include"), ["q"]);
    what_a_canonical_names_is_included(&client);
    let included = client.page("/Patient?_id=p1&_revinclude=Observation:patient");
    assert_eq!(ids(&included, "include"), ["o1", "o4"]);
    // By whatever refers, of a type and of any; and by all that is referred to.
    for (wanted, want) in [
        ("Patient?_id=p1&_revinclude=Observation:*", vec!["o1", "o4"]),
        ("Patient?_id=p1&_revinclude=*", vec!["e1", "o1", "o4"]),
        ("Encounter?_id=e1&_revinclude=*&_include=*", vec!["o1", "p1"]),
        ("Observation?_id=o4&_include=*", vec!["e4", "p1"]),
        ("Patient?_id=p6&_revinclude=*&_revinclude:iterate=*", vec!["e6", "o6"]),
    ] {
        let page = client.page(&format!("/{wanted}"));
        let with: BTreeSet<String> = ids(&page, "include").into_iter().collect();
        assert_eq!(with, want.iter().map(|id| (*id).to_owned()).collect(), "{wanted}");
        let own = link(&page, "self").unwrap();
        assert_eq!(ids(&client.page(&own), "include").len(), want.len(), "{own}");
    }

    // A walk: what is written meanwhile is not in it, and nothing comes twice.
    for (order, forward) in [
        ("", vec!["o0", "o1", "o2", "o3", "o4", "o5", "o6"]),
        ("&_sort=-date", vec!["o6", "o5", "o4", "o3", "o2", "o1", "o0"]),
        ("&_sort=_lastUpdated", vec!["o0", "o1", "o2", "o3", "o4", "o5", "o6"]),
        ("&_sort=status,-_lastUpdated", vec!["o6", "o5", "o4", "o3", "o2", "o1", "o0"]),
    ] {
        let first = client.page(&format!("/Observation?status=final{order}&_count=2"));
        assert_eq!((&first["total"], link(&first, "previous")), (&Value::from(7), None));
        client.put(
            "Observation",
            "late",
            ",\"status\":\"final\",\"code\":{\"text\":\"late\"},\"effectiveDateTime\":\"2026-01-03\"",
        );
        let mut found = ids(&first, "match");
        let rest = client.walk(&link(&first, "next").unwrap(), "next");
        found.extend(rest.iter().flat_map(|page| ids(page, "match")));
        assert_eq!(found, forward, "{order}");
        assert!(rest.iter().all(|page| page["total"] == 7), "as it was told");
        let mut backward: Vec<String> = Vec::new();
        for page in client.walk(&link(&first, "last").unwrap(), "previous") {
            backward.splice(0..0, ids(&page, "match"));
        }
        assert_eq!(backward, forward, "{order}: from behind");
        let again = client.page(&link(rest.last().unwrap(), "first").unwrap());
        assert_eq!(ids(&again, "match"), forward[..2]);
        // What is deleted meanwhile is shown no more.
        assert_eq!(client.ask("DELETE", "/Observation/late", &[], "").status, 204);
    }
    let first = client.page("/Patient?gender=female&_count=1");
    let next = link(&first, "next").unwrap();
    assert_eq!(client.ask("DELETE", "/Patient/p2", &[], "").status, 204);
    assert_eq!(ids(&client.page(&next), "match"), ["p4"], "p2 was deleted behind the first page");
    client.put("Patient", "p4", ",\"gender\":\"male\",\"name\":[{\"family\":\"other\"}]");
    let kept = client.page(&next);
    assert_eq!(kept["entry"][0]["resource"]["gender"], "female", "as it was when the walk began");
    assert_eq!(client.found("/Patient?gender=female").0, ["p0", "p6"]);

    // A link is of whom it was given to; one that was changed is none.
    let other = Client::new(server, "other", "admin");
    assert_eq!(other.ask("GET", &next, &[], "").status, 404);
    let cut = next.get(..next.len() - 2).unwrap();
    for forged in [cut.to_owned(), format!("{cut}AA"), "/_page/x".to_owned()] {
        let answer = client.ask("GET", &forged, &[], "");
        assert_eq!((answer.status, code_of(&answer).as_str()), (404, "not-found"), "{forged}");
    }
    assert!(!next.contains("female") && !next.contains("Patient"), "{next}");
    assert_eq!(client.ask("GET", &next, &[], "").header("cache-control").as_deref(), Some("no-store"));

    let refused: &[(&str, &str, &str)] = &[
        ("/Patient?birthdat=2024", "not-supported", "nearest is `birthdate`"),
        ("/Patient?nmae=", "not-supported", "nearest is `name`"),
        ("/Observation?value-quantity=5%7Chttp://unitsofmeasure.org%7CCANARY", "value", "UCUM"),
        ("/Patient?birthdate=CANARY", "value", "2024-02-29"),
        ("/Patient?name:above=CANARY", "not-supported", ":missing, :exact, :contains"),
        ("/Patient?_elements=CANARY", "value", "_elements"),
        ("/Observation?subject.CANARY=1", "not-supported", "no such parameter"),
    ];
    for (path, code, text) in refused {
        let answer = client.ask("GET", path, &[], "");
        assert_eq!((answer.status, code_of(&answer).as_str()), (400, *code), "{path}: {}", answer.text());
        assert!(
            answer.text().contains(text) && !answer.text().contains("CANARY"),
            "{path}: {}",
            answer.text()
        );
    }
    let lenient = client.ask("GET", "/Patient?birthdat=2024&_id=p1", &[("prefer", "handling=lenient")], "");
    let page = said(&lenient);
    assert_eq!((ids(&page, "match"), ids(&page, "outcome").len()), (vec!["p1".to_owned()], 1), "{page}");
    assert_eq!(link(&page, "self").as_deref(), Some("/Patient?_id=p1"));
    let huge = format!("/Patient?identifier={}", vec!["x"; 1_001].join(","));
    assert_eq!(code_of(&client.ask("GET", &huge, &[], "")), "too-costly");
    for literal in ["%25", "_", "'%20OR%201=1--", "%5C", ".*"] {
        assert_eq!(client.found(&format!("/Patient?name={literal}")).0, Vec::<String>::new(), "{literal}");
    }
    let feed = Client::new(server, "feed", "feed");
    assert_eq!(feed.ask("GET", "/Patient?gender=male", &[], "").status, 403);
}

#[test]
fn who_is_confidential_is_found_by_nobody() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let mut mllp = server.connect();
    for message in messages() {
        assert_eq!(field(&mllp.ask(&message), "MSA", 1), "AA");
    }
    let admin = Client::new(&server, "admin", "admin");
    all_applied(server.http.unwrap(), &admin.key);
    // By whatever is said of them: what finds those who are open finds none of these, and tells of none.
    let asked = |who: &str| {
        [
            format!("/Patient?family={who}"),
            format!("/Patient?name:contains={who}"),
            format!("/Patient?identifier={who}"),
            format!("/Encounter?patient.family={who}"),
            format!("/Condition?patient.family={who}"),
            format!("/Patient?_has:Encounter:patient:status=in-progress&family={who}"),
            format!("/Patient?_has:Condition:patient:code=I10&family={who}"),
            format!("/Patient?family={who}&_sort=family&_revinclude=Encounter:patient"),
        ]
    };
    for role in ["viewer", "operator", "admin"] {
        let client = Client::new(&server, &format!("again-{role}"), role);
        for (secret, open) in asked(SECRET).iter().zip(asked(OPEN)) {
            if open.contains("identifier") {
                continue; // a number of its own each
            }
            let shown = client.page(&open);
            assert!(shown["total"].as_u64().is_some_and(|total| total > 0), "{role}: {open}: {shown}");
            let answer = client.ask("GET", &format!("{secret}&_total=accurate"), &[], "");
            let page = said(&answer);
            let count = client.found(&format!("{secret}&_summary=count")).1;
            assert_eq!((&page["total"], count), (&Value::from(0), Some(0)), "{role}: {secret}: {page}");
            assert!(
                ids(&page, "match").is_empty() && ids(&page, "include").is_empty(),
                "{role}: {secret}: {page}"
            );
        }
        // All of a type, page by page: nothing of them anywhere.
        for ty in ["Patient", "Encounter", "Condition", "RelatedPerson", "AllergyIntolerance"] {
            for page in client.walk(&format!("/{ty}?_count=7"), "next") {
                let text = page.to_string();
                assert!(!text.contains(SECRET), "{role}: {ty}: {text}");
            }
        }
        let all_types = "?_type=Patient,Encounter,Condition,RelatedPerson,AllergyIntolerance&_count=7";
        for page in client.walk(all_types, "next") {
            assert!(!page.to_string().contains(SECRET), "{role}: all types: {page}");
        }
        // In the order of what the answer shows, and nothing of them between.
        let mut written: Vec<String> = Vec::new();
        for page in client.walk(&format!("{all_types}&_sort=-_lastUpdated"), "next") {
            assert!(!page.to_string().contains(SECRET), "{role}: in the order of versions: {page}");
            let entries = page["entry"].as_array().unwrap().iter();
            let said = |entry: &Value| entry["resource"]["meta"]["lastUpdated"].as_str().unwrap().to_owned();
            written.extend(entries.map(said));
        }
        assert!(written.len() > 20 && written.is_sorted_by(|one, other| one >= other), "{role}: {written:?}");
        let open = client.page("/Patient?_count=1000");
        assert!(open.to_string().contains(OPEN));
        for id in ids(&open, "match") {
            for page in client.walk(&format!("/Patient/{id}/*?_count=7"), "next") {
                let text = page.to_string();
                assert!(text.contains(&id) && !text.contains(SECRET), "{role}: compartment of {id}: {text}");
            }
        }
        // Nor by what is said of how a search is executed: one who is withheld is as one who never was.
        let counts = |identifier: &str| {
            let headers = [("x-api-key", client.key.as_str()), ("hx-request", "true"), FORM];
            let body = format!("search=Patient%3Fidentifier%3D{identifier}");
            let said = request(server.http.unwrap(), "POST", "/explore", &headers, body.as_bytes()).text();
            let counts = said.split("<dd>").skip(1).take(2).filter_map(|count| count.split('<').next());
            counts.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(counts(&format!("{SECRET}1")), counts("NOBODY1"), "{role}: explored");
        assert_eq!(counts(&format!("{OPEN}1")), ["1", "1"], "{role}: explored");
        // What is not indexed of them is not said to be missing.
        for path in ["/Patient?phone:missing=true", "/Patient?email:not=x", "/Encounter?_source:missing=true"]
        {
            let answer = client.ask("GET", path, &[], "");
            assert!(answer.status == 400 && answer.text().contains("made"), "{path}: {}", answer.text());
        }
    }
}

/// By which parameters messages' Patients are not found is said, and no number told that leaves them out.
#[test]
fn what_a_search_does_not_find_is_said() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let client = Client::new(&server, "operator", "operator");
    client.put("Patient", "p", ",\"address\":[{\"city\":\"Brno\"}]");
    let by_city = "/Patient?address-city=brno";
    let page = client.page(by_city);
    assert_eq!((ids(&page, "match"), ids(&page, "outcome").len()), (vec!["p".to_owned()], 0), "{page}");
    assert_eq!(client.found(&format!("{by_city}&_summary=count")).1, Some(1));

    let message = "MSH|^~\\&|A|B|C|D|20260101080000||ADT^A01^ADT_A01|m1|P|2.5\rEVN|A01|20260101080000\r\
        PID|1||77^^^H^MR||Unfound^Ann||19700101|F|||Main 1^^Brno^^60200||+420777\rPV1|1|I|W^1^1\r";
    assert_eq!(field(&server.connect().ask(message), "MSA", 1), "AA");
    wait("applied", 60, || (client.found("/Patient?family=unfound").1 == Some(1)).then_some(()));
    for (search, code) in [
        (by_city, "address-city"),
        ("/Encounter?patient.phone=%2B420777", "phone"),
        ("/Patient?_source=urn:x", "_source"),
    ] {
        let page = client.page(search);
        let text = page["entry"][0]["resource"]["issue"][0]["diagnostics"].as_str().unwrap_or_default();
        assert!(text.contains(&format!("`{code}`")), "{search}: {page}");
        assert_eq!(page["total"], Value::Null, "{search}: {page}");
        for counted in ["_total=accurate", "_summary=count"] {
            let refused = client.ask("GET", &format!("{search}&{counted}"), &[], "");
            assert_eq!(
                (refused.status, code_of(&refused)),
                (400, "not-supported".to_owned()),
                "{search}&{counted}"
            );
        }
    }
    assert_eq!(ids(&client.page(by_city), "match"), ["p"]);
    let page = client.page("/Patient?family=unfound");
    assert_eq!((&page["total"], ids(&page, "outcome").len()), (&Value::from(1), 0), "{page}");
    // A second one would be made beside the first.
    let body = "{\"resourceType\":\"Patient\",\"telecom\":[{\"system\":\"phone\",\"value\":\"+420777\"}]}";
    let created = client.ask(
        "POST",
        "/Patient",
        &[("if-none-exist", "phone=%2B420777"), ("content-type", "application/fhir+json")],
        body,
    );
    assert_eq!((created.status, code_of(&created)), (400, "not-supported".to_owned()), "{}", created.text());
    // Nor by a walk that begins anew behind a link that has ended.
    client.put("Patient", "q", ",\"address\":[{\"city\":\"Brno\"}]");
    let next = link(&client.page(&format!("{by_city}&_count=1")), "next").unwrap();
    let (data, key) = (server.data.clone(), client.key.clone());
    server.stop();
    let (config, file) = ("[http]\nzone = \"Asia/Seoul\"\n", folder.path().join("zone.toml"));
    std::fs::write(&file, config).unwrap();
    let (data, file) = (data.to_str().unwrap(), file.to_str().unwrap());
    crate::server::run(&["rebuild", "index", "--data", data, "--config", file]);
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let client = Client { server: &server, key };
    let ended = client.ask("GET", &next, &[], "");
    assert_eq!(ended.status, 410, "{}", ended.text());
    let again = ended.header("link").unwrap();
    let first = again.split_once("/fhir").unwrap().1.split_once('>').unwrap().0;
    let page = client.page(first);
    assert_eq!((ids(&page, "outcome").len(), &page["total"]), (1, &Value::Null), "{page}");
    assert_eq!(ids(&page, "match"), ["p"], "{page}");
}

/// Where nothing is indexed, or not all of it yet, a search says so, and the way out; it never finds a part in silence.
#[test]
fn what_is_not_indexed_is_said() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start { config: "[fhir]\nsearch = false\n", ..Start::default() });
    let client = Client::new(&server, "operator", "operator");
    client.put("Patient", "p", ",\"gender\":\"female\"");
    let ask = |client: &Client<'_>| client.ask("GET", "/Patient?gender=female", &[], "");
    let answer = ask(&client);
    assert_eq!((answer.status, code_of(&answer).as_str()), (501, "not-supported"));
    assert!(answer.text().contains("fhir.search = true"), "{}", answer.text());
    let (data, key) = (server.data.clone(), client.key.clone());
    server.stop();

    let server = Server::start(&folder, &Start::default());
    let client = Client { server: &server, key: key.clone() };
    let answer = ask(&client);
    assert_eq!((answer.status, code_of(&answer).as_str()), (503, "transient"));
    assert!(answer.text().contains("hilum rebuild index"), "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    let noted = |server: &Server| ready(server).1["notes"].to_string().contains("searches are answered 503");
    wait("it is said", 20, || noted(&server).then_some(()));
    server.stop();

    let rebuilt = crate::server::run(&["rebuild", "index", "--data", data.to_str().unwrap()]);
    assert_eq!(rebuilt.status.code(), Some(3), "mended: {}", String::from_utf8_lossy(&rebuilt.stderr));
    let server = Server::start(&folder, &Start::default());
    let client = Client { server: &server, key: key.clone() };
    assert_eq!(client.found("/Patient?gender=female"), (vec!["p".to_owned()], Some(1)));
    assert!(!noted(&server), "{}", ready(&server).1);
    server.stop();

    // A base that is ours makes other values of what stands.
    let config = "[fhir]\nbases = [\"https://hilum.example/fhir\"]\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let client = Client { server: &server, key };
    assert_eq!(ask(&client).status, 503);
    wait("it is said of another base", 20, || noted(&server).then_some(()));
    assert!(server.said().contains("hilum rebuild index"), "{}", server.said());
}
