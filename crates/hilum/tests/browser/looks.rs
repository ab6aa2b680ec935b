//! Every page, as wide and in each of the ways that it may be looked at.

use serde_json::Value;
use tempfile::tempdir;

use crate::chromium::Browser;
use crate::server::{Server, Start, field};

/// Somebody of everything: a long name, two in one bed, a secret, one in the emergency department, one expected, a
/// merge in doubt, an unknown person, a message in quarantine, a refused one.
fn ward(server: &Server) {
    let mut mllp = server.connect();
    let long = "WOLFESCHLEGELSTEINHAUSENBERGERDORFF-FEATHERSTONEHAUGH^MAXIMILIANA WILHELMINA";
    let rows = [
        ("A01", "1", "7001", "HONG^GILDONG", "I", "ICU^101^1", ""),
        ("A01", "2", "7002", "남궁^민수", "I", "ICU^101^1", ""),
        ("A01", "3", "7003", long, "I", "ICU^102^1", ""),
        ("A01", "4", "7004", "SECRET^ONE", "I", "ICU^103^1", "VIP"),
        ("A04", "5", "7005", "KIM^YUSIN", "E", "ED^1^1", ""),
        ("A14", "6", "7006", "PARK^MUNSU", "I", "ICU^104^1", ""),
        ("A01", "7", "", "NO^NUMBER", "I", "ICU^105^1", ""),
    ];
    for (trigger, id, patient, name, class, place, vip) in rows {
        let pid3 = if patient.is_empty() { String::new() } else { format!("{patient}^^^SEOUL^MR") };
        let ack = mllp.ask(&format!(
            "MSH|^~\\&|HIS|SEOUL|HILUM|HILUM|2026010203040{id}||ADT^{trigger}|C{id}|P|2.5|||||KOR|UNICODE UTF-8\r\
             EVN||2026010203040{id}\r\
             PID|||{pid3}||{name}||19800101|M\r\
             PV1||{class}|{place}||||D9^GARCIA^ANA|||||||||{vip}|||V{id}\r\
             AL1|1|DA|PEN^Penicillin^L|SV|Anaphylaxis\r\
             DG1|1||I10^Essential hypertension^I10||20260101|A\r"
        ));
        assert_eq!(field(&ack, "MSA", 1), "AA", "{ack}");
    }
    let merges = [("8", "7003", "MRG|7001^^^SEOUL^MR\r"), ("9", "7002", "")];
    for (id, patient, rest) in merges {
        let ack = mllp.ask(&format!(
            "MSH|^~\\&|HIS|SEOUL|HILUM|HILUM|2026010203041{id}||ADT^A40|C{id}|P|2.5\rPID|||{patient}^^^SEOUL^MR\r{rest}"
        ));
        assert_eq!(field(&ack, "MSA", 1), "AA", "{ack}");
    }
    let ack = mllp.ask("MSH|^~\\&|HIS|SEOUL|HILUM|HILUM|20260102030500||ADT^A01||P|2.5\r");
    assert_eq!(field(&ack, "MSA", 1), "AR", "{ack}");
}

/// All pages that somebody can come to from the top bar, and one of each kind behind them.
async fn pages(browser: &Browser, server: &Server) -> Vec<String> {
    let mut pages: Vec<String> = [
        "/census",
        "/census?list=emergency",
        "/census?list=leave",
        "/census?list=expected",
        "/patients",
        "/messages",
        "/messages?status=quarantined",
        "/messages?rule=nothing.such",
        "/quarantine",
        "/work",
        "/sources",
        "/audit",
        "/admin",
        "/password",
    ]
    .map(str::to_owned)
    .to_vec();
    for (list, what) in [
        ("/census", "row.dataset.href.startsWith('/patients/')"),
        ("/messages", "row.innerText.includes('C3')"),
        ("/messages", "row.innerText.includes('C9')"),
        ("/quarantine", "row.innerText.includes('C9')"),
        ("/work", "row.innerText.includes('Merge')"),
        ("/work", "row.innerText.includes('Identity')"),
    ] {
        browser.open(server, list).await;
        let rows = "[...document.querySelectorAll('main tr[data-href]')]";
        browser.wait(what, 10, &format!("return {rows}.some(row => {what})")).await;
        let href = browser.run(&format!("return {rows}.find(row => {what}).dataset.href")).await;
        pages.push(href.as_str().unwrap().to_owned());
    }
    pages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_is_wider_than_its_window_and_each_says_as_of_when() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    ward(&server);
    let browser = Browser::start().await;
    browser.sign_in(&server, "admin").await;
    let pages = pages(&browser, &server).await;

    // The measure is first shown to catch a planted fault.
    browser.size(390, 844);
    browser.open(&server, "/password").await;
    browser.run("const b = document.createElement('b'); b.textContent = 'x'.repeat(200); document.querySelector('main').append(b)").await;
    let too_wide = "return document.documentElement.scrollWidth > window.innerWidth";
    assert_eq!(browser.run(too_wide).await, Value::Bool(true), "the measure sees nothing");

    for (width, theme, lang) in
        [(390, "light", "en"), (390, "dark", "ko"), (1024, "light", "ko"), (1440, "dark", "en")]
    {
        browser.size(width, 844);
        browser.cookie("hilum_theme", theme).await;
        browser.cookie("hilum_lang", lang).await;
        for page in &pages {
            browser.open(&server, page).await;
            let how = format!("{page} at {width} px, {theme}, {lang}");
            let seen = browser
                .run(
                    "const root = document.documentElement; \
                     const right = (el) => el.getBoundingClientRect().right; \
                     const wide = [...document.querySelectorAll('main *, header *, .banner *')] \
                       .filter(el => right(el) > window.innerWidth + 1 \
                         && !el.closest('.table-scroll, .nav, .segments, pre, .diff, .visually-hidden')); \
                     const typed = [...document.forms].filter(form => form.method === 'get' \
                       && [...form.elements].some(el => el.matches('textarea, input:not([type=hidden], \
                         [type=checkbox], [type=radio], [type=submit], [type=button])'))); \
                     return [root.scrollWidth - window.innerWidth, root.lang, root.dataset.theme, \
                       document.body.innerText, wide.slice(0, 3).map(el => el.outerHTML.slice(0, 90)), typed.length]",
                )
                .await;
            assert_eq!(seen[5], Value::from(0), "{how}: what is typed goes into the URL");
            assert!(seen[0].as_i64().unwrap() <= 0, "{how}: {} px too wide: {}", seen[0], seen[4]);
            assert_eq!(seen[4], Value::Array(Vec::new()), "{how}: reaches beyond the window");
            assert_eq!((seen[1].as_str(), seen[2].as_str()), (Some(lang), Some(theme)), "{how}");
            let text = seen[3].as_str().unwrap();
            let as_of = if lang == "ko" { "기준 시각" } else { "As of" };
            assert!(text.contains(as_of), "{how} does not say as of when: {text}");
            // A key that no word file has would stand there as it is.
            for key in [
                "census.",
                "messages.",
                "message.",
                "patient.",
                "quarantine.",
                "work.",
                "sources.",
                "page.",
                "mark.",
                "fault.",
            ] {
                let is_key = |word: &str| {
                    word.strip_prefix(key).is_some_and(|rest| {
                        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                    })
                };
                assert!(!text.split_whitespace().any(is_key), "{how} shows a key of {key}: {text}");
            }
        }
    }
    let log = browser.log();
    assert!(log.is_empty(), "the browser complains: {log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_nurse_must_see_is_marked() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    ward(&server);
    let browser = Browser::start().await;
    browser.sign_in(&server, "viewer").await;
    browser.open(&server, "/census").await;
    let rows = "[...document.querySelectorAll('#census tr[data-v]')]";
    browser.wait("all inpatients", 10, &format!("return {rows}.length === 5")).await;
    let shared = browser
        .run(&format!("return {rows}.filter(row => row.innerText.includes('Not alone in this bed')).map(row => row.cells[0].innerText)"))
        .await;
    assert_eq!(shared, serde_json::json!(["101 · 1", "101 · 1"]));
    // Five inpatients and one in the emergency department; who is expected is not here.
    let text = browser.text().await;
    assert!(text.contains("6 in the house") && text.contains("6 open encounters, 6 shown"), "{text}");
    assert!(text.contains("1 message not applied") && text.contains("Identity undecided"), "{text}");
    assert!(!text.contains("SECRET"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keyboard_reaches_everything_and_shows_where_it_is() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    ward(&server);
    let browser = Browser::start().await;
    browser.sign_in(&server, "operator").await;
    for page in ["/census", "/messages", "/quarantine", "/work", "/sources", "/patients"] {
        browser.open(&server, page).await;
        // The first stop leads past the bar, and is in sight while it is there.
        browser.key('\u{E004}').await;
        let skip = "const el = document.activeElement; \
                    return el.className === 'skip' && el.getAttribute('href') === '#main'";
        assert_eq!(browser.run(skip).await, Value::Bool(true), "{page}: the first stop is the skip link");
        let in_sight = "return document.activeElement.getBoundingClientRect().top >= 0";
        browser.wait("skip link in sight", 5, in_sight).await;
        browser.key('\u{E007}').await;
        browser.wait("past the bar", 5, "return document.activeElement.id === 'main'").await;
        // Each stop behind it shows that it is one.
        let mut seen = 0;
        for _ in 0..12 {
            browser.key('\u{E004}').await;
            let stop = browser
                .run(
                    "const el = document.activeElement; if (el === document.body) return null; \
                     const style = getComputedStyle(el); const box = el.getBoundingClientRect(); \
                     return [el.outerHTML.slice(0, 90), style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2, \
                       box.bottom > 0 && box.top < window.innerHeight, \
                       (el.innerText || el.getAttribute('aria-label') || el.placeholder || (el.labels && el.labels[0] || {}).innerText || '').trim() !== '']",
                )
                .await;
            if stop.is_null() {
                break;
            }
            assert_eq!(stop[1], Value::Bool(true), "{page}: no focus to be seen on {}", stop[0]);
            assert_eq!(stop[2], Value::Bool(true), "{page}: out of sight: {}", stop[0]);
            assert_eq!(stop[3], Value::Bool(true), "{page}: has no name: {}", stop[0]);
            seen += 1;
        }
        assert!(seen > 0, "{page}: nothing to go to");
    }
    let log = browser.log();
    assert!(log.is_empty(), "the browser complains: {log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_table_says_stands_whole_and_once() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    ward(&server);
    let johab = "MSH|^~\\&|HIS|SEOUL|HILUM|HILUM|20260102030600||ADT^A01|C10|P|2.5|||||KOR|Johab\rPID|||7010||\u{88}\r";
    assert_eq!(field(&server.connect().ask(johab), "MSA", 1), "AA");
    let browser = Browser::start().await;
    browser.sign_in(&server, "operator").await;
    let pages = pages(&browser, &server).await;
    // How many lines the texts take of what `chosen` chooses.
    let lines = |chosen: &str| {
        format!(
            "return [...document.querySelectorAll('main td, main dd')].filter(one => {chosen}).map(one => {{ \
             const range = document.createRange(); range.selectNodeContents(one); \
             return new Set([...range.getClientRects()].map(box => Math.round(box.bottom))).size; }})"
        )
    };
    let one_line = |found: Value| {
        found.as_array().unwrap().iter().all(|lines| lines == 1) && found != Value::Array(vec![])
    };

    // A word is not taken apart to make room for another column.
    browser.size(1024, 844);
    browser.cookie("hilum_lang", "ko").await;
    browser.open(&server, "/work").await;
    let source = browser.run(&lines("one.innerText === 'default'")).await;
    assert!(one_line(source.clone()), "{source}");

    // On a phone too: sides beside each other have room for a date, no list stands behind an edge.
    browser.size(390, 844);
    let merge = pages.iter().rfind(|page| page.starts_with("/work/")).unwrap();
    let mut dates = Vec::new();
    for page in pages.iter().filter(|page| page.starts_with("/work/")) {
        browser.open(&server, page).await;
        dates.push(browser.run(&lines("one.innerText === '1980-01-01'")).await);
    }
    assert!(dates.iter().all(|found| one_line(found.clone())), "{merge}: {dates:?}");
    browser.open(&server, "/sources").await;
    // With who works at it, as a house of many processes says.
    let fits = "const of = document.querySelector('#partitions'); \
                for (const row of of.tBodies[0].rows) { \
                  const worker = row.lastElementChild.cloneNode(); \
                  worker.className = 'nowrap'; worker.textContent = 'worker-2.hospital.example:2575'; \
                  row.append(worker); } \
                return of.rows.length > 3 && of.scrollWidth <= of.parentElement.clientWidth";
    assert_eq!(browser.run(fits).await, Value::Bool(true), "a partition's figures stand behind an edge");
    browser.cookie("hilum_lang", "en").await;
    browser.open(&server, "/census").await;
    let hidden =
        "return [...document.querySelectorAll('.segments')].some(one => one.scrollWidth > one.clientWidth)";
    assert_eq!(browser.run(hidden).await, Value::Bool(false));
    // Nobody's number is an empty place; what two records say is said once; what is wrong is said by name.
    let nobody = "return [...document.querySelectorAll('main tr[data-href]')].find(row => \
                  row.innerText.includes('NO, NUMBER')).querySelector('[data-label=Identifier]').innerText";
    let nobody = browser.run(nobody).await;
    assert!(nobody.as_str().unwrap().contains("Not known"), "{nobody}");
    browser.open(&server, "/census").await;
    let long = "return [...document.querySelectorAll('main tr[data-href]')].find(row => \
                row.innerText.includes('MAXIMILIANA')).dataset.href";
    let long = browser.run(long).await;
    browser.open(&server, long.as_str().unwrap()).await;
    let banner = browser.run("return document.querySelector('.banner').innerText").await;
    assert_eq!(banner.as_str().unwrap().matches("Penicillin").count(), 1, "{banner}");
    browser.open(&server, "/quarantine").await;
    let find =
        "[...document.querySelectorAll('main tr[data-href]')].find(row => row.innerText.includes('C10'))";
    browser.wait("set aside", 10, &format!("return !!{find}")).await;
    let one = browser.run(&format!("return {find}.dataset.href")).await;
    browser.open(&server, one.as_str().unwrap()).await;
    let text = browser.text().await;
    assert!(text.contains("Charset that is not supported") && !text.contains("cannot be read as"), "{text}");
}
