//! A masked row of the board cannot be tied to a person by who does not mend, and a number of somebody who is withheld is
//! shown by nobody else's message (clinical-rules 20, ADR 9).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::Value;
use tempfile::tempdir;

use crate::confidence::listen;
use crate::server::{Server, Start, field, request, wait};

const SEARCH: [(&str, &str); 1] = [("content-type", "application/json")];

/// What a message says: event, MSH-10, time of the day, what follows EVN.
fn text(event: &str, control: &str, time: &str, rest: &str) -> String {
    format!(
        "MSH|^~\\&|HIS|SEOUL|HILUM|HILUM|20260102{time}||ADT^{event}|{control}|P|2.5|||||KOR|UNICODE UTF-8\r\
         EVN||20260102{time}\r{rest}"
    )
}

struct Reader<'a> {
    http: SocketAddr,
    key: &'a str,
}

impl Reader<'_> {
    fn get(&self, path: &str) -> String {
        request(self.http, "GET", path, &[("x-api-key", self.key), ("accept", "text/html")], b"").text()
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path)).unwrap()
    }

    /// The patient of this number: found by it, by whoever knows it.
    fn patient(&self, number: &str) -> String {
        let headers = [("x-api-key", self.key), SEARCH[0]];
        let body = format!("{{\"identifier\":\"{number}\"}}");
        let found = request(self.http, "POST", "/api/patients/_search", &headers, body.as_bytes()).text();
        let found: Value = serde_json::from_str(&found).unwrap();
        found["patients"][0]["id"].as_str().unwrap_or_else(|| panic!("{number}: {found}")).to_owned()
    }

    fn messages(&self, query: &str) -> Vec<Value> {
        self.json(&format!("/api/messages{query}"))["messages"].as_array().unwrap().clone()
    }
}

/// Every id in a text.
fn ids(text: &str) -> BTreeSet<String> {
    let is_id = |part: &&str| part.len() == 36 && part.bytes().filter(|byte| *byte == b'-').count() == 4;
    let parts = text.split(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '-'));
    // `e-…` names a line of a page.
    parts.map(|part| part.strip_prefix("e-").unwrap_or(part)).filter(is_id).map(str::to_owned).collect()
}

#[test]
fn a_masked_row_is_tied_to_nobody_by_who_does_not_mend() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let http = server.http.unwrap();
    let keys = ["viewer", "operator"].map(|role| server.key(role, role));
    let [viewer, operator] = keys.each_ref().map(|key| Reader { http, key });
    let mut mllp = server.connect();
    let secret = |vip: &str| {
        format!(
            "PID|||SEC1^^^H^MR||Secret^S||19580314|F\rPV1||I|W1^1^1||||D9^DOC^A|||||||||{vip}|||VS^^^H^VN\r\
             AL1|1||PEN^Penicillin\r"
        )
    };
    let open = "PID|||OPEN1^^^H^MR||Open^O||19600101|M\rPV1||I|W1^1^2||||||||||||||||VO^^^H^VN\r";
    let both = "PID|||OPEN1^^^H^MR||Open^O\rPV1||I|W1^1^1||||||||||||||||VO^^^H^VN\r\
                PID|||SEC1^^^H^MR||Secret^S\rPV1||I|W1^1^2||||||||||||||||VS^^^H^VN\r";
    for message in [
        text("A01", "S1", "030405", &secret("V")),
        text("A02", "S2", "040506", &secret("")),
        text("A01", "O1", "050607", open),
        // About both: the open one is named first.
        text("A17", "B1", "060708", both),
    ] {
        assert_eq!(field(&mllp.ask(&message), "MSA", 1), "AA");
    }
    wait("all applied", 10, || (viewer.messages("").len() == 4).then_some(()));

    let (person, open) = (viewer.patient("SEC1"), viewer.patient("OPEN1"));
    let row = |reader: &Reader<'_>, is_masked: bool| {
        let census = reader.json("/api/census");
        let all = census["encounters"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["confidential"] == is_masked).unwrap()
    };
    let stay = row(&operator, true)["encounter"].as_str().unwrap().to_owned();
    let since = row(&viewer, true)["since"].as_str().unwrap().to_owned();

    // Nothing that leads from the person stands on the board, by an id or by the time of coming.
    let pages = |reader: &Reader<'_>| {
        let of = |paths: &[String]| paths.iter().map(|path| reader.get(path)).collect::<String>();
        let board = of(&["/census".into(), "/api/census".into()]);
        let one = of(&[
            format!("/patients/{person}"),
            format!("/api/patients/{person}"),
            format!("/messages?patient={person}"),
            format!("/api/messages?patient={person}"),
        ]);
        (board, one)
    };
    let (board, one) = pages(&viewer);
    assert!(one.contains("Penicillin"), "what harms if it is not known stays");
    assert!(ids(&one).contains(&person) && !ids(&board).contains(&stay), "the walk sees ids");
    let tie: BTreeSet<String> = ids(&board).intersection(&ids(&one)).cloned().collect();
    assert!(tie.is_empty(), "{tie:?}");
    assert!(board.contains(&since) && !one.contains(since.get(..16).unwrap()), "{since}: {one}");
    let (board, one) = pages(&operator);
    assert!(ids(&board).intersection(&ids(&one)).any(|id| *id == stay), "who mends sees whose it is");

    // The line keeps its own id, which leads nowhere.
    let line = row(&viewer, true);
    let own = line["encounter"].as_str().unwrap();
    assert_eq!(Some(own), row(&viewer, true)["encounter"].as_str());
    assert!(line["message"].is_null() && viewer.messages(&format!("?encounter={own}")).is_empty());
    for query in [format!("?encounter={stay}"), format!("?patient={person}")] {
        assert!(viewer.messages(&query).is_empty(), "{query}");
        assert!(viewer.get(&format!("/messages{query}")).contains("No message"), "{query}");
        assert!(operator.messages(&query).len() >= 2, "{query}");
    }

    // No message says whom it is about; those about others do.
    for (reader, sees) in [(&viewer, false), (&operator, true)] {
        let all = reader.messages("");
        for message in &all {
            let (id, control) = (message["id"].as_str().unwrap(), message["control_id"].as_str());
            let control = control.or(message["controlId"].as_str()).unwrap();
            let whole = message.to_string() + &reader.get(&format!("/messages/{id}"));
            let whole = whole + &reader.get(&format!("/api/messages/{id}"));
            let told = whole.contains(&person) || whole.contains(&stay);
            assert_eq!(told, sees && control != "O1", "{control}: {whole}");
            assert_eq!(whole.contains(&open), control == "O1" || (sees && control == "B1"), "{control}");
        }
        assert_eq!(all.len(), 4);
    }

    // A change of the board is told, and of whom is not.
    for (key, hears) in [(&keys[0], false), (&keys[1], true)] {
        let control = if hears { "S4" } else { "S3" };
        let said = listen(http, key, || {
            let ack = server.connect().ask(&text("A08", control, "070809", &secret("V")));
            assert_eq!(field(&ack, "MSA", 1), "AA");
        });
        assert_eq!(ids(&said).contains(&person), hears, "{said}");
    }
}

#[test]
fn a_withheld_number_is_shown_by_nobody_elses_message() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let http = server.http.unwrap();
    let keys = ["viewer", "operator"].map(|role| server.key(role, role));
    let [viewer, operator] = keys.each_ref().map(|key| Reader { http, key });
    let mut mllp = server.connect();
    let pid = |number: &str, two: &str, four: &str, mother: &str| {
        format!("PID||{two}|{number}^^^H^MR|{four}|Name^N||20260101|F|||||||||||||{mother}\r")
    };
    let plain = pid("7001", "", "", "");
    let account = format!("{plain}MRG|7002^^^H^MR||MOM9^^^H^AN\r");
    // Why, what the message says, whether it names her.
    let cases: Vec<(&str, &str, String, bool)> = vec![
        ("guarantor", "A28", format!("{plain}GT1|1|MOM9^^^H^MR|Secret^Mother\r"), true),
        (
            "insured",
            "A28",
            format!("{plain}IN1|1|P|C{}Secret^Mother{}MOM9^^^H^MR\r", "|".repeat(13), "|".repeat(33)),
            true,
        ),
        ("PID-2", "A28", pid("7003", "MOM9^^^H^MR", "", ""), true),
        ("PID-4, authority in small letters", "A28", pid("7004", "", "MOM9^^^h^MR", ""), true),
        ("a second repetition", "A28", pid("7005", "", "1^^^X^PI~MOM9^^^h^MR", ""), true),
        ("mother, authority in small letters", "A28", pid("7006", "", "", "MOM9^^^h^MR"), true),
        ("an account of another event", "A35", account, true),
        ("a segment of the source's own", "A28", format!("{plain}ZPD|1|x^MOM-90001\r"), true),
        ("a number alone, in a text", "A28", format!("{plain}ZPD|1|mother 90001, see there\r"), true),
        ("a number of signs, in a text", "A28", format!("{plain}ZPD|1|mother 90-00177, see\r"), true),
        ("a name in place of an authority", "A28", format!("{plain}ZPD|1|90001^Secret^F^19580314\r"), true),
        ("with blanks", "A28", format!("{plain}GT1|1|90003    ^^^H^MR|Secret^Mother\r"), true),
        ("a further number of hers", "A28", format!("{plain}GT1|1|FUR7^^^N^PI\r"), true),
        ("another authority", "A28", format!("{plain}GT1|1|MOM9^^^OTHER^MR\r"), false),
        ("a short one alone", "A28", format!("{plain}ZPD|1|MOM9\r"), false),
        ("somebody else's", "A28", format!("{plain}GT1|1|7001^^^H^MR\r"), false),
    ];
    let mut all = vec![
        text(
            "A01",
            "M1",
            "030405",
            "PID|||MOM9^^^H^MR~FUR7^^^N^PI||Secret^Mother\rPV1||I|W^1^1|||||||||||||V|||V1^^^H^VN\r",
        ),
        text("A28", "M2", "030406", "PID|||90001^^^H^MR||Secret^Mother\rPD1||||||||||||Y\r"),
        text("A28", "M3", "030407", "PID|||90-00177^^^H^MR||Secret^Mother\rPD1||||||||||||Y\r"),
        text("A28", "M4", "030408", "PID|||90003    ^^^H^MR||Secret^Mother\rPD1||||||||||||Y\r"),
    ];
    for (at, (_, event, rest, _)) in cases.iter().enumerate() {
        all.push(text(event, &format!("C{at}"), "040000", rest));
    }
    for message in &all {
        assert_eq!(field(&mllp.ask(message), "MSA", 1), "AA");
    }
    wait("all applied", 10, || (viewer.messages("").len() == all.len()).then_some(()));
    for (at, (why, _, _, names)) in cases.iter().enumerate() {
        let id = viewer.messages(&format!("?control_id=C{at}"))[0]["id"].as_str().unwrap().to_owned();
        for (reader, is_withheld) in [(&viewer, *names), (&operator, false)] {
            let twin = reader.json(&format!("/api/messages/{id}"));
            assert_eq!(twin["journey"]["withheld"], is_withheld, "{why}");
            let whole = twin.to_string() + &reader.get(&format!("/messages/{id}"));
            let told =
                ["MOM9", "90001", "FUR7", "90-00177", "90003"].iter().any(|number| whole.contains(number));
            let says = why.contains("another authority") || why.contains("short");
            assert_eq!(told, (!is_withheld && *names) || says, "{why}: {whole}");
        }
    }
    // A number alone stands for her too, whoever numbered; and a record that a source linked is the same person.
    let alone = pid("7010", "", "", "90001") + "NK1|1|Ida^Fern|MTH|Weg 9|010-7777\r";
    let linked = plain.replace("7001", "7011") + "PID|||90001^^^H^MR\r";
    assert_eq!(field(&mllp.ask(&text("A28", "N1", "040001", &alone)), "MSA", 1), "AA");
    assert_eq!(field(&mllp.ask(&text("A24", "N2", "040002", &linked)), "MSA", 1), "AA");
    wait("both applied", 10, || (viewer.messages("").len() == all.len() + 2).then_some(()));
    let whole = |reader: &Reader<'_>, id: &str| {
        let paths =
            [format!("/patients/{id}"), format!("/api/patients/{id}"), format!("/patients/{id}/resources")];
        paths.iter().map(|path| reader.get(path)).collect::<String>()
    };
    let [baby, other, mother] = ["7010", "7011", "90001"].map(|number| viewer.patient(number));
    for (reader, sees) in [(&viewer, false), (&operator, true)] {
        assert_eq!(reader.json(&format!("/api/patients/{other}"))["seeAlso"] != serde_json::json!([]), sees);
        assert_eq!(whole(reader, &other).contains(&mother), sees, "{}", whole(reader, &other));
        assert_eq!(whole(reader, &mother).contains(&other), sees);
    }
    let said = whole(&viewer, &baby);
    assert!(said.contains("7010") && said.contains("\"kinWithheld\":true"), "{said}");
    assert!(!["Fern", "010-7777", "Weg 9", "90001"].iter().any(|secret| said.contains(secret)), "{said}");
    // What is withheld is said to be so, not to be unknown.
    let page = viewer.get(&format!("/patients/{mother}"));
    assert!(page.contains("Withheld") && !page.contains("Not admitted"), "{page}");

    // Nor by the newborn's record.
    let baby = viewer.patient("7006");
    let raw = viewer.get(&format!("/patients/{baby}/resources"));
    assert!(raw.contains("7006") && !raw.contains("MOM9"), "{raw}");
}
