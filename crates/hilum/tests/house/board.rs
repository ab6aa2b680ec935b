//! A census of more rows than one page shows: nobody vanishes (clinical-rules 27).

use std::collections::BTreeSet;

use serde_json::Value;
use tempfile::tempdir;

use crate::server::{Server, Start, field, request, wait};

const PAGE_ROWS: usize = 500;
const PATIENTS: usize = 620;

fn admission(n: usize) -> String {
    // The last ones' place is withheld: no unit leads to them.
    let (unit, vip) = (n * 5 / PATIENTS, if n >= PATIENTS - 5 { "VIP" } else { "" });
    format!(
        "MSH|^~\\&|HIS|SEOUL|HILUM|HILUM|20260102030405||ADT^A01|C{n}|P|2.5|||||KOR|UNICODE UTF-8\r\
         EVN||20260102030405\rPID|||{n:05}^^^SEOUL^MR||FAMILY{n}^GIVEN||19800101|M\r\
         PV1||I|W{unit}^{n}^1^SEOUL||||D9^GARCIA^ANA|||||||||{vip}|||V{n}\r"
    )
}

/// The encounters of a page.
fn rows(page: &str) -> Vec<String> {
    page.split("<tr id=\"e-").skip(1).map(|row| row.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn a_page_shows_a_part_says_so_and_leads_to_everybody() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let http = server.http.unwrap();
    let key = server.key("reader", "viewer");
    let auth = ("x-api-key", key.as_str());
    let mut mllp = server.connect();
    for n in 0..PATIENTS {
        mllp.send(&admission(n));
    }
    for _ in 0..PATIENTS {
        let ack = mllp.answer();
        assert_eq!(field(&ack, "MSA", 1), "AA", "{ack}");
    }
    let twin = wait("all applied", 60, || {
        let answer = request(http, "GET", "/api/census", &[auth], b"");
        let census: Value = serde_json::from_slice(&answer.body).unwrap();
        (census["lag"] == 0 && census["count"]["open"] == PATIENTS).then_some(census)
    });
    assert_eq!(twin["encounters"].as_array().unwrap().len(), PATIENTS, "the twin gives all");

    let first = request(http, "GET", "/census", &[auth], b"").text();
    eprintln!("{} rows in {} bytes", rows(&first).len(), first.len());
    assert!(first.len() < 600_000, "{} bytes", first.len());
    for said in ["620 open encounters, 620 shown", "data-part=\"Rows 1–500 of 620\"", "120 more of this list"]
    {
        assert!(first.contains(said), "{said}");
    }
    // The unit that is cut leads to all of its own.
    assert!(first.contains("href=\"/census?list=inpatient&#38;unit=W4\">W4 (115)"), "W4 stands there");
    let unit = request(http, "GET", "/census?list=inpatient&unit=W4", &[auth], b"").text();
    assert_eq!(rows(&unit).len(), 119);
    assert!(!unit.contains("Rows 1–") && unit.contains("620 open encounters"), "all of it is there");

    // And going on leads to everybody, those whose place is withheld too.
    let form = ("content-type", "application/x-www-form-urlencoded");
    let on = |page: &str| format!("list=inpatient&go={}", encoded(&button(page, "Next rows")));
    let next = request(http, "POST", "/census", &[auth, form], on(&first).as_bytes()).text();
    assert!(
        next.contains("Rows 501–620 of 620") && next.contains("500 more of this list"),
        "{}",
        rows(&next).len()
    );
    let all: BTreeSet<String> = rows(&first).into_iter().chain(rows(&next)).collect();
    assert_eq!(
        (rows(&first).len(), rows(&next).len(), all.len()),
        (PAGE_ROWS, PATIENTS - PAGE_ROWS, PATIENTS)
    );
    // A piece that a change fetches stays where the page is, and its address says so without saying where that is.
    let live = [auth, form, ("hx-request", "true"), ("hilum-live", "1")];
    let behind = hidden(&next, "behind");
    let at = format!("list=inpatient&behind={}", encoded(&behind));
    let piece = request(http, "POST", "/census", &live, at.as_bytes());
    assert_eq!(rows(&piece.text()), rows(&next));
    let address = piece.header("hx-replace-url").unwrap();
    let token = address.strip_prefix("/census?list=inpatient&from=").unwrap().to_owned();
    assert!(
        token.len() == 36 && token.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()),
        "{token}"
    );
    assert_eq!(
        rows(&request(http, "GET", &address, &[auth], b"").text()),
        rows(&next),
        "the link leads there"
    );
    // Where fewer fit than stand before it, it is the first page.
    let fewer = request(http, "POST", "/census", &live, format!("{at}&q=FAMILY7").as_bytes());
    assert!(!rows(&fewer.text()).is_empty() && !fewer.text().contains("Rows "), "what is found is seen");

    // Whoever leaves while somebody reads takes nobody from both pages: one in the middle, then the last row itself.
    for (gone, left) in [(7, 619), (499, 618)] {
        let shown = request(http, "GET", "/census?list=inpatient", &[auth], b"").text();
        let before = rows(&shown);
        let leaver = visit_of(&twin, &before[gone]);
        mllp.send(
            &admission(leaver)
                .replace("A01", "A03")
                .replace(&format!("|C{leaver}|"), &format!("|D{leaver}|")),
        );
        assert_eq!(field(&mllp.answer(), "MSA", 1), "AA");
        wait("discharged", 30, || {
            let answer = request(http, "GET", "/api/census", &[auth], b"");
            let census: Value = serde_json::from_slice(&answer.body).unwrap();
            (census["lag"] == 0 && census["count"]["open"] == left).then_some(())
        });
        let next = request(http, "POST", "/census", &[auth, form], on(&shown).as_bytes()).text();
        let all: BTreeSet<String> = before.into_iter().chain(rows(&next)).collect();
        assert_eq!(all.len(), left + 1, "row {gone} left: nobody else is on neither page");
    }
}

/// The number of the patient whose encounter it is.
fn visit_of(twin: &Value, encounter: &str) -> usize {
    let all = twin["encounters"].as_array().unwrap();
    let line = all.iter().find(|line| line["encounter"] == encounter).unwrap();
    line["visit"].as_str().unwrap().trim_start_matches('V').parse().unwrap()
}

/// What a button of a page sends.
fn button(page: &str, word: &str) -> String {
    let until = page.split(&format!(">{word}</button>")).next().unwrap();
    value(until.rsplit("name=\"go\"").next().unwrap())
}

/// What a hidden field of a page sends.
fn hidden(page: &str, name: &str) -> String {
    value(page.split(&format!("name=\"{name}\"")).nth(1).unwrap())
}

fn value(tag: &str) -> String {
    let raw = tag.split("value=\"").nth(1).unwrap().split('"').next().unwrap();
    raw.replace("&#34;", "\"").replace("&#38;", "&")
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |all, byte| all + &format!("%{byte:02X}"))
}
