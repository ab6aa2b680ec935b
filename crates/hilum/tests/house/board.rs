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
    for said in ["620 open encounters, 620 shown", "Rows 1–500 of 620", "120 more of this list"] {
        assert!(first.contains(said), "{said}");
    }
    // The unit that is cut leads to all of its own.
    assert!(first.contains("href=\"/census?list=inpatient&#38;unit=W4\">W4 (115)"), "W4 stands there");
    let unit = request(http, "GET", "/census?list=inpatient&unit=W4", &[auth], b"").text();
    assert_eq!(rows(&unit).len(), 119);
    assert!(!unit.contains("Rows 1–") && unit.contains("620 open encounters"), "all of it is there");

    // And going on leads to everybody, those whose place is withheld too.
    let form = ("content-type", "application/x-www-form-urlencoded");
    let next = request(http, "POST", "/census", &[auth, form], b"list=inpatient&from=0&go=500").text();
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
    // A piece that a change fetches stays where the page is, and its address says so.
    let live = [auth, form, ("hx-request", "true"), ("hilum-live", "1")];
    let piece = request(http, "POST", "/census", &live, b"list=inpatient&from=500");
    assert_eq!(rows(&piece.text()), rows(&next));
    assert_eq!(piece.header("hx-replace-url").as_deref(), Some("/census?list=inpatient&from=500"));
    // Where fewer fit than stand before it, it is the first page.
    let fewer = request(http, "POST", "/census", &live, b"list=inpatient&from=500&q=FAMILY7");
    assert!(!rows(&fewer.text()).is_empty() && !fewer.text().contains("Rows "), "what is found is seen");
}
