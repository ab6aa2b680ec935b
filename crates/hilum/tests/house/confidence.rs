//! Confidential patients (clinical-rules 20): every page, fragment and twin that names people is walked with every role.
//! What is said of open patients proves that the walk comes there; what is said of the confidential ones may be nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tempfile::tempdir;

use crate::routes::lines;
use crate::server::{Server, Start, field, request, wait};

/// Stands in everything that is said of a confidential patient.
pub const SECRET: &str = "GEHEIM";
/// Stands in everything that is said of an open one.
pub const OPEN: &str = "OFFEN";

/// Where whoever mends sees a message as it came, whoever it is about; each look stands in the audit log.
const RAW: [&str; 4] =
    ["GET /messages/{id}", "GET /api/messages/{id}", "GET /quarantine/{id}", "POST /quarantine/{id}/diff"];

/// What a message says of somebody of whom `who` stands in every field.
struct Said<'a> {
    event: &'a str,
    control: &'a str,
    who: &'a str,
    number: &'a str,
    class: &'a str,
    /// After PID: PD1, MRG …
    after_pid: &'a str,
    vip: &'a str,
    /// After PV1: PV2, ARV …
    after_pv1: &'a str,
}

impl Said<'_> {
    fn text(&self) -> String {
        let Said { event, control, who, number, class, after_pid, vip, after_pv1 } = self;
        let pid3 = if number.is_empty() { String::new() } else { format!("{who}{number}^^^{who}H^MR") };
        let latin = format!("{who}NAME^{who}GIVEN");
        format!(
            "MSH|^~\\&|HIS|SEOUL|HILUM|HILUM|20260102030405||ADT^{event}|{control}|P|2.5|||||KOR|UNICODE UTF-8\r\
             EVN||20260102030405\r\
             PID|||{pid3}||{latin}^{number}||19580314|F||||{who}STREET^^{who}CITY||{who}PHONE\r{after_pid}\
             NK1|1|{who}KIN^{who}KIN|SPO\r\
             PV1||{class}|{who}WARD^{number}^1^{who}H||||D9^GARCIA^ANA|||||||||{vip}|||{who}V{control}\r{after_pv1}\
             DG1|1||I10^{who}DIAGNOSIS^I10||20260101|A\r"
        )
    }
}

const PLAIN: Said<'static> = Said {
    event: "A01",
    control: "",
    who: SECRET,
    number: "",
    class: "I",
    after_pid: "",
    vip: "",
    after_pv1: "",
};

/// The same stories of open people and of confidential ones, whose flag stands in each of its places.
pub fn messages() -> Vec<String> {
    let mut all = Vec::new();
    let flags = [
        ("1", "", "VIP", ""),
        ("2", "PD1||||||||||||Y\r", "", ""),
        ("3", "", "", "PV2||||||||||||||||||||||Y\r"),
        ("4", "", "", "ARV|1|A|R^Restricted^L\r"),
    ];
    for (who, mark, is_secret) in [(SECRET, "S", true), (OPEN, "O", false)] {
        let flag = |at: usize| if is_secret { flags[at] } else { (flags[at].0, "", "", "") };
        for at in 0..flags.len() {
            let (number, after_pid, vip, after_pv1) = flag(at);
            let control = format!("{mark}{number}");
            let said = Said { control: &control, who, number, after_pid, vip, after_pv1, ..PLAIN };
            all.push(said.text());
            // What comes later does not say it again.
            all.push(
                said.text()
                    .replace("ADT^A01", "ADT^A08")
                    .replace("VIP", "")
                    .replace(&format!("|{control}|P|"), &format!("|{control}U|P|")),
            );
        }
        let vip = flag(0).2;
        // In the emergency department, as outpatient, expected, on leave.
        for (event, number, class) in [("A04", "5", "E"), ("A04", "6", "O"), ("A05", "7", "I")] {
            let control = format!("{mark}{number}");
            all.push(Said { event, control: &control, who, number, class, vip, ..PLAIN }.text());
        }
        // Nobody knows who this is; two records that are merged, both in beds; one that lacks MRG; one not legible.
        let control = format!("{mark}8");
        all.push(Said { control: &control, who, vip, ..PLAIN }.text());
        for number in ["9", "10"] {
            let control = format!("{mark}{number}");
            all.push(Said { control: &control, who, number, vip, ..PLAIN }.text());
        }
        let merge = |control: &str, number: &str, after_pid: &str| {
            format!(
                "MSH|^~\\&|HIS|SEOUL|HILUM|HILUM|20260102030505||ADT^A40|{control}|P|2.5\rEVN||20260102030505\r\
                 PID|||{who}{number}^^^{who}H^MR||{who}NAME^{who}GIVEN^{number}\r{after_pid}"
            )
        };
        all.push(merge(&format!("{mark}M1"), "9", &format!("MRG|{who}10^^^{who}H^MR\r")));
        all.push(merge(&format!("{mark}M2"), "1", ""));
        // Two records of one person of which one alone is flagged, and is not in the house: the one that is replaced, and
        // the one that replaces. The other one says that it asks for nothing.
        let (flagged, not) = ("PD1||||||||||||Y\r", "PD1||||||||||||N\r");
        let flagged = if is_secret { flagged } else { not };
        for (control, number, other, is_old) in [("M5", "11", "12", true), ("M6", "13", "14", false)] {
            let control = format!("{mark}{control}");
            let known = format!("{control}K");
            let said =
                Said { event: "A28", control: &known, who, number, after_pid: flagged, ..PLAIN }.text();
            let without_visit = |segment: &&str| !segment.starts_with("PV1") && !segment.starts_with("DG1");
            all.push(said.split_inclusive('\r').filter(without_visit).collect());
            let admitted = format!("{control}A");
            all.push(Said { control: &admitted, who, number: other, after_pid: not, ..PLAIN }.text());
            let (old, new) = if is_old { (number, other) } else { (other, number) };
            all.push(merge(&control, new, &format!("MRG|{who}{old}^^^{who}H^MR\r")));
        }
        // Two in one frame cannot be read, one of them of nobody knows whom.
        all.push(merge(&format!("{mark}M3"), "1", "").repeat(2));
        let control = format!("{mark}M4");
        all.push(Said { control: &control, who, vip, ..PLAIN }.text().repeat(2));
    }
    all.extend(newborns());
    // An open patient and a confidential one change beds: the message's first patient is the open one.
    let two = |who: &str, control: &str| {
        format!(
            "PID|||{who}1^^^{who}H^MR||{who}NAME^{who}GIVEN^1\rPV1||I|{who}WARD^11^1^{who}H||||||||||||||||{who}V{control}\r"
        )
    };
    all.push(format!(
        "MSH|^~\\&|HIS|SEOUL|HILUM|HILUM|20260102030705||ADT^A17|X1|P|2.5\rEVN||20260102030705\r{}{}",
        two(OPEN, "O1"),
        two(SECRET, "S1"),
    ));
    all
}

/// Open newborns of a confidential mother, who is named by her number once; whatever else is said of her and of whom she
/// lives with comes beside, later, and of a record that is replaced.
fn newborns() -> Vec<String> {
    let of = |event: &str, control: &str, number: &str, mother: &str, after_pid: &str| {
        format!(
            "MSH|^~\\&|HIS|SEOUL|HILUM|HILUM|20260102030805||ADT^{event}|{control}|P|2.5\rEVN||20260102030805\r\
             PID|||{OPEN}{number}^^^{OPEN}H^MR||{OPEN}NAME^{OPEN}GIVEN^{number}|{SECRET}MAIDEN|20260102|F|||\
             {SECRET}STREET^^{SECRET}CITY||{SECRET}PHONE||||||||{mother}\r{after_pid}"
        )
    };
    let mother = format!("{SECRET}1^^^{SECRET}H^MR");
    let bed = |number: &str| format!("PV1||I|{OPEN}WARD^{number}^1^{OPEN}H\r");
    let kin = |number: &str| {
        format!(
            "NK1|1|{SECRET}NAME^{SECRET}GIVEN|MTH||{SECRET}PHONE\r\
             NK1|2|{SECRET}FATHER^{SECRET}GIVEN|FTH|{SECRET}STREET\r{}",
            bed(number)
        )
    };
    // Whoever names her as next of kin by her number.
    let spouse = format!("NK1|1|{SECRET}NAME|SPO{}{mother}\r{}", "|".repeat(30), bed("18"));
    vec![
        of("A01", "OB1", "15", &mother, &bed("15")),
        of("A08", "OB2", "15", "", &kin("15")),
        // The number of the first hours is merged into the one that stays, and the other way about.
        of("A01", "OB3", "16", &mother, &kin("16")),
        of("A28", "OB4", "17", "", ""),
        of("A40", "OB5", "17", "", &format!("MRG|{OPEN}16^^^{OPEN}H^MR\r")),
        of("A28", "OB6", "19", &mother, ""),
        of("A28", "OB7", "20", "", &kin("20")),
        of("A40", "OB8", "19", "", &format!("MRG|{OPEN}20^^^{OPEN}H^MR\r")),
        of("A01", "OB9", "18", "", &spouse),
    ]
}

/// A path with ids and choices put aside: the line of the table that it belongs to.
fn template(method: &str, path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let is_id = |part: &str| part.len() == 36 && part.bytes().filter(|byte| *byte == b'-').count() == 4;
    let parts: Vec<&str> = path.split('/').map(|part| if is_id(part) { "{id}" } else { part }).collect();
    format!("{method} {}", parts.join("/"))
}

/// What stands in quotes behind `before`.
fn quoted<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split('"').next())
}

/// What one role saw.
#[derive(Default)]
struct Walk {
    /// Templates that were answered.
    visited: BTreeSet<String>,
    /// Templates that say something of open people.
    open: BTreeSet<String>,
    /// Templates that say that something is confidential.
    masked: BTreeSet<String>,
    /// Templates that say something of confidential people, with the path and the place.
    secret: BTreeMap<String, String>,
}

impl Walk {
    fn look(&mut self, method: &str, path: &str, text: &str) {
        let name = template(method, path);
        self.visited.insert(name.clone());
        if text.contains(OPEN) {
            self.open.insert(name.clone());
        }
        if ["Confidential", "\"confidential\":true", "\"withheld\":true", "is withheld"]
            .iter()
            .any(|word| text.contains(word))
        {
            self.masked.insert(name.clone());
        }
        for url in ["href=\"", "action=\"", "hx-get=\"", "hx-post=\"", "src=\""] {
            for url in quoted(text, url) {
                assert!(!url.contains(SECRET) && !url.contains("NAME"), "{name} makes the address {url}");
            }
        }
        if let Some((before, _)) = text.split_once(SECRET) {
            let near: String = before.chars().skip(before.chars().count().saturating_sub(120)).collect();
            self.secret.entry(name).or_insert(format!("{path}: …{near}{SECRET}"));
        }
    }
}

fn walk(http: SocketAddr, key: &str, role: &str) -> Walk {
    let mut seen = Walk::default();
    let auth = ("x-api-key", key);
    let html = ("accept", "text/html");
    let mut open: Vec<String> = [
        "/census",
        "/patients",
        "/messages",
        "/quarantine",
        "/work",
        "/sources",
        "/explore",
        "/audit",
        "/admin",
        "/password",
        "/api/census",
        "/api/messages?limit=200",
        "/api/quarantine",
        "/api/work",
        "/api/sources",
        "/api/audit",
    ]
    .map(str::to_owned)
    .to_vec();
    let lists = ["inpatient", "emergency", "outpatient", "leave", "expected"];
    open.extend(lists.map(|list| format!("/census?list={list}")));
    // Nothing leads a viewer to somebody who is withheld: whoever knows the number gets there.
    for number in ["GEHEIM1", "GEHEIM2"] {
        let body = format!("{{\"identifier\":\"{number}\"}}");
        let form = ("content-type", "application/json");
        let text = request(http, "POST", "/api/patients/_search", &[auth, form], body.as_bytes()).text();
        for id in quoted(&text, "\"id\":\"").filter(|id| id.len() == 36) {
            let kinds =
                ["/patients/{}", "/api/patients/{}", "/patients/{}/resources", "/messages?patient={}"];
            open.extend(kinds.map(|kind| kind.replace("{}", id)));
        }
    }
    let mut known: BTreeSet<String> = open.iter().cloned().collect();
    let mut found = |text: &str, open: &mut Vec<String>| {
        let mut next: Vec<String> = Vec::new();
        for link in quoted(text, "href=\"/") {
            next.push(format!("/{}", link.split('#').next().unwrap_or_default().replace("&amp;", "&")));
        }
        // Whoever has an id may ask for all that can be asked of it: pages and twins, masked or not.
        for (field, kinds) in [
            ("\"patient\":\"", &["/patients/{}", "/api/patients/{}", "/patients/{}/resources"][..]),
            ("\"patientId\":\"", &["/patients/{}", "/api/patients/{}", "/patients/{}/resources"]),
            ("\"survivor\":\"", &["/patients/{}", "/api/patients/{}", "/patients/{}/resources"]),
            ("\"mergedInto\":\"", &["/patients/{}"]),
            ("\"message\":\"", &["/messages/{}", "/api/messages/{}"]),
            ("{\"id\":\"", &["/messages/{}", "/api/messages/{}"]),
        ] {
            let ids = quoted(text, field).filter(|id| id.len() == 36);
            next.extend(ids.flat_map(|id| kinds.iter().map(move |kind| kind.replace("{}", id))));
        }
        for link in quoted(text, "href=\"/patients/").filter(|id| id.len() == 36) {
            next.extend([format!("/api/patients/{link}"), format!("/patients/{link}/resources")]);
        }
        for link in quoted(text, "href=\"/messages/").filter(|id| id.len() == 36) {
            next.push(format!("/api/messages/{link}"));
        }
        next.retain(|path| !path.starts_with("/assets") && !path.starts_with("/live"));
        open.extend(next.into_iter().filter(|path| known.insert(path.clone())));
    };
    while let Some(path) = open.pop() {
        let answer = request(http, "GET", &path, &[auth, html], b"");
        let text = answer.text();
        seen.look("GET", &path, &text);
        found(&text, &mut open);
    }
    // Searches: the page, the piece that typing fetches, the piece that a change fetches; and the twins.
    let form = ("content-type", "application/x-www-form-urlencoded");
    let (htmx, live) = (("hx-request", "true"), ("hilum-live", "1"));
    let mut post = |path: &str, headers: &[(&str, &str)], body: &str| {
        let headers: Vec<_> = [auth, html].into_iter().chain(headers.iter().copied()).collect();
        let text = request(http, "POST", path, &headers, body.as_bytes()).text();
        seen.look("POST", path, &text);
    };
    for list in lists {
        // Asked for in small letters, so that what a form repeats is told from what was found.
        for q in ["", "geheim", "offen"] {
            let body = format!("list={list}&q={q}");
            for headers in [&[form][..], &[form, htmx], &[form, htmx, live]] {
                post("/census", headers, &body);
            }
        }
    }
    for body in
        ["name=geheim", "name=offen", "birthDate=1958-03-14", "identifier=GEHEIM1", "identifier=OFFEN1"]
    {
        post("/patients/search", &[form, htmx], body);
        post("/api/patients/_search", &[form], body);
    }
    for body in ["control_id=S1", "control_id=O1", "kind=ADT%5EA01", "status=quarantined"] {
        post("/messages", &[form, htmx], body);
    }
    for search in ["Patient%3Fname%3Dgeheim", "Patient%3F_count%3D1000", "Encounter%3F_include%3D*"] {
        post("/explore", &[form, htmx], &format!("search={search}"));
    }
    for path in known.iter().filter(|path| path.starts_with("/work/")) {
        for body in ["name=geheim", "name=offen", "identifier=GEHEIM1"] {
            post(&format!("{path}/find"), &[form, htmx], body);
        }
    }
    for path in known.iter().filter(|path| path.starts_with("/quarantine/")) {
        post(&format!("{path}/diff"), &[form, htmx], "text=");
    }
    assert!(known.len() > 40, "{role} came to {} addresses", known.len());
    seen
}

/// What an event stream says within a second while `during` happens.
pub fn listen(http: SocketAddr, key: &str, during: impl FnOnce()) -> String {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let ask = format!(
        "GET /live?topics=adt.board,adt.message HTTP/1.1\r\nhost: {http}\r\nx-api-key: {key}\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).unwrap();
    let mut said = Vec::new();
    let mut chunk = [0; 4_096];
    let mut during = Some(during);
    wait("a change", 10, || {
        if let Ok(count) = stream.read(&mut chunk) {
            said.extend_from_slice(&chunk[..count]);
        }
        let text = String::from_utf8_lossy(&said);
        if text.contains("event: beat")
            && let Some(during) = during.take()
        {
            during();
        }
        (text.contains("adt.board") && text.contains("adt.message")).then_some(())
    });
    String::from_utf8(said).unwrap()
}

/// Waits until nothing of [`messages`] is to be applied any more. Patients are on partitions of their own: that one of them
/// stands says nothing of the others.
pub fn all_applied(http: SocketAddr, key: &str) {
    wait("all applied", 60, || {
        let answer = request(http, "GET", "/api/census", &[("x-api-key", key)], b"");
        let census: Value = serde_json::from_slice(&answer.body).unwrap();
        (census["lag"] == 0 && census["encounters"].as_array().is_some_and(|all| all.len() >= 20))
            .then_some(())
    });
}

#[test]
fn who_is_confidential_is_named_nowhere_but_in_what_is_mended() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let http = server.http.unwrap();
    let mut mllp = server.connect();
    let messages = messages();
    for message in &messages {
        let ack = mllp.ask(message);
        assert_eq!(field(&ack, "MSA", 1), "AA", "{ack}");
    }
    let key = |role: &str| server.key(role, role);
    let keys = ["viewer", "operator", "admin"].map(|role| (role, key(role)));
    all_applied(http, &keys[0].1);

    // What tells who somebody is, by who may mend.
    let reads = [
        "GET /census",
        "POST /census",
        "GET /api/census",
        "POST /patients/search",
        "POST /api/patients/_search",
        "GET /patients/{id}",
        "GET /api/patients/{id}",
        "GET /messages/{id}",
        "GET /api/messages/{id}",
    ];
    let mends =
        ["GET /work", "GET /api/work", "GET /work/{id}", "POST /work/{id}/find", "GET /quarantine/{id}"];
    for (role, key) in &keys {
        let seen = walk(http, key, role);
        let decides = *role != "viewer";
        let told: BTreeMap<&String, &String> =
            seen.secret.iter().filter(|(name, _)| !decides || !RAW.contains(&name.as_str())).collect();
        assert!(told.is_empty(), "{role} is told who is confidential: {told:#?}");
        // The walk came to everybody, so that it would have seen a mask that is missing.
        for name in reads.iter().chain(mends.iter().filter(|_| decides)) {
            assert!(seen.open.contains(*name), "{role}: no open patient at {name}: {:#?}", seen.open);
            let is_found_by_name = *name == "POST /work/{id}/find";
            let is_raw = decides && RAW.contains(name);
            assert!(
                seen.masked.contains(*name) || is_found_by_name || is_raw,
                "{role}: nobody is confidential at {name}: {:#?}",
                seen.masked
            );
        }
        assert!(seen.open.contains("GET /patients/{id}/resources"), "{role}: {:#?}", seen.open);
        assert_eq!(seen.secret.contains_key("GET /messages/{id}"), decides, "{role} mends, or does not");
        // Every address of the rooms that shows anything is among them.
        for line in lines() {
            let name = format!("{} {}", line.method, line.path);
            let changes =
                ["/decide", "/unmerge", "/replay", "/release", "/discard", "/hl7v2", "/admin/", "/password"];
            let is_own = [
                "/sign",
                "/assets",
                "/favicon.ico",
                "/healthz",
                "/readyz",
                "/metrics",
                "/live",
                "/preferences",
                // With a walk of its own.
                "/fhir",
            ];
            let is_other = changes.iter().any(|end| line.path.contains(end) && line.method == "POST")
                || is_own.iter().any(|start| line.path.starts_with(start))
                || ["/", "/gallery", "/audit"].contains(&line.path.as_str());
            let is_mine = decides || !(line.path.contains("/work/") || line.path.contains("/quarantine/"));
            assert!(is_other || !is_mine || seen.visited.contains(&name), "{role} was not at {name}");
        }
        let again = messages[0].replace("|S1|P|", &format!("|S1{role}|P|"));
        let said = listen(http, key, || {
            let ack = server.connect().ask(&again);
            assert_eq!(field(&ack, "MSA", 1), "AA", "{ack}");
        });
        assert!(!said.contains(SECRET), "{role} hears who is confidential: {said}");
    }
}

#[test]
fn a_confidential_stay_that_ended_tells_neither_where_nor_by_whom_nor_why() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let http = server.http.unwrap();
    let viewer = server.key("reader", "viewer");
    let mut mllp = server.connect();
    let stay = |event: &str, control: &str, time: &str, vip: &str| {
        format!(
            "MSH|^~\\&|HIS|SEOUL|HILUM|HILUM|{time}||ADT^{event}|{control}|P|2.5\rEVN||{time}\r\
             PID|||1^^^H^MR||{OPEN}NAME^G||19580314|F\r\
             PV1||I|{SECRET}WARD^1^1||||D9^{SECRET}DOCTOR^ANA|||||||||{vip}|||{SECRET}VISIT\r\
             DG1|1||I10^{SECRET}DIAGNOSIS^I10||20260101|A\r"
        )
    };
    for (event, control, time, vip) in
        [("A01", "M1", "20260102030405", "VIP"), ("A03", "M2", "20260103030405", "")]
    {
        assert_eq!(field(&mllp.ask(&stay(event, control, time, vip)), "MSA", 1), "AA");
    }
    let headers = [("x-api-key", viewer.as_str()), ("content-type", "application/json")];
    let get = |path: &str| request(http, "GET", path, &headers, b"").text();
    // The person can be looked up again for a next admission.
    let patient = wait("found by name", 10, || {
        let body = format!("{{\"name\":\"{OPEN}NAME\"}}");
        let found = request(http, "POST", "/api/patients/_search", &headers, body.as_bytes()).text();
        let found: Value = serde_json::from_str(&found).unwrap();
        found["patients"][0]["id"].as_str().map(str::to_owned)
    });
    let mut pages = vec![
        format!("/patients/{patient}"),
        format!("/api/patients/{patient}"),
        format!("/patients/{patient}/resources"),
    ];
    assert!(pages.iter().all(|page| get(page).contains(&format!("{OPEN}NAME"))));
    let messages: Value = serde_json::from_str(&get("/api/messages")).unwrap();
    for message in messages["messages"].as_array().unwrap() {
        let id = message["id"].as_str().unwrap();
        pages.extend([format!("/messages/{id}"), format!("/api/messages/{id}")]);
    }
    assert_eq!(pages.len(), 3 + 2 * 2);
    pages.extend(["/census", "/api/census", "/messages", "/api/messages"].map(str::to_owned));
    for page in pages {
        assert!(!get(&page).contains(SECRET), "{page}: {}", get(&page));
    }
}
