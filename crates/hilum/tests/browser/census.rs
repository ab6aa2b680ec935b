//! The census as it lives.

use std::time::{Duration, Instant};

use hilum_testkit::postgres::Postgres;
use serde_json::Value;
use tempfile::tempdir;

use crate::chromium::Browser;
use crate::server::{Server, Start, field, request};

/// Bound of a change's way from the sender to an open page (issue 9.2).
const SEEN_WITHIN: Duration = Duration::from_secs(2);

/// An inpatient message about visit `V{id}`.
fn message(trigger: &str, id: &str, minute: u8, name: &str, place: &str, vip: &str) -> String {
    format!(
        "MSH|^~\\&|HIS|SEOUL|HILUM|HILUM|202601020304{minute:02}||ADT^{trigger}|{trigger}{id}|P|2.5|||||KOR|UNICODE UTF-8\r\
         EVN||202601020304{minute:02}\r\
         PID|||{id}^^^SEOUL^MR||{name}||19800101|M\r\
         PV1||I|{place}|||||||||||||{vip}|||V{id}\r"
    )
}

/// A census that shows changes from now on: the live connection speaks.
async fn open_census(browser: &Browser, server: &Server) {
    browser.open(server, "/census").await;
    browser
        .run("window.__mark = 1; document.body.addEventListener('hilum:beat', () => { window.__beat = 1; })")
        .await;
    browser.wait("live connection", 15, "return window.__beat === 1").await;
}

async fn assert_not_reloaded(browser: &Browser) {
    assert_eq!(browser.run("return window.__mark").await, Value::from(1), "the page was loaded anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_census_follows_messages_without_reload() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let browser = Browser::start().await;
    // The log is first shown to catch a planted fault: an inline script, which the content policy forbids.
    browser.open(&server, "/sign-in").await;
    browser
        .run("const s = document.createElement('script'); s.textContent = '1'; document.body.append(s)")
        .await;
    let planted = browser.log();
    assert!(planted.iter().any(|line| line.contains("Content Security Policy")), "{planted:?}");

    browser.sign_in(&server, "operator").await;
    open_census(&browser, &server).await;
    assert!(!browser.text().await.contains("HONG"));

    let mut mllp = server.connect();
    let steps = [
        ("admitted", message("A01", "7001", 1, "HONG^GILDONG", "ICU^101^1", ""), "101"),
        ("transferred", message("A02", "7001", 2, "HONG^GILDONG", "7WEST^712^3", ""), "712"),
    ];
    for (what, message, room) in steps {
        let sent = Instant::now();
        let ack = mllp.ask(&message);
        assert_eq!(field(&ack, "MSA", 1), "AA", "{ack}");
        let shown = format!(
            "return [...document.querySelectorAll('#census tr[data-v]')].some(row => \
             row.innerText.includes('HONG') && row.cells[0].innerText.includes('{room}'))"
        );
        browser.wait(what, 10, &shown).await;
        let took = sent.elapsed();
        eprintln!("{what}: on the open page after {took:?}");
        assert!(took < SEEN_WITHIN, "{what}: on the open page after {took:?}");
        assert_not_reloaded(&browser).await;
    }
    let text = browser.text().await;
    assert!(text.contains("7WEST") && !text.contains("ICU"), "in one place alone: {text}");

    // A very important person is on the list, and nobody reads who it is or where.
    let secret = message("A01", "9091", 3, "SECRETFAMILY^SECRETGIVEN", "PSYHIDDEN^909^9", "VIP");
    let sent = Instant::now();
    let ack = mllp.ask(&secret);
    assert_eq!(field(&ack, "MSA", 1), "AA", "{ack}");
    let rows = "return document.querySelectorAll('#census tr[data-v]').length === 2";
    browser.wait("confidential", 10, rows).await;
    let took = sent.elapsed();
    assert!(took < SEEN_WITHIN, "confidential: on the open page after {took:?}");
    assert_not_reloaded(&browser).await;
    for reload in [false, true] {
        if reload {
            open_census(&browser, &server).await;
        }
        let source = browser.client.source().await.unwrap();
        assert!(source.contains("HONG"), "it is the census, signed in");
        for told in ["SECRETFAMILY", "SECRETGIVEN", "PSYHIDDEN", "9091"] {
            assert!(!source.contains(told), "{told} stands in the page, reload = {reload}");
        }
    }

    let log = browser.log();
    assert!(log.is_empty(), "the browser complains: {log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_language_and_a_silent_source() {
    let folder = tempdir().unwrap();
    let config = "[sources.default]\nsilence_alarm_s = 1\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let mut mllp = server.connect();
    for (id, minute, name) in [("7001", 1, "HONG^GILDONG"), ("7002", 2, "KIM^YUSIN")] {
        let ack = mllp.ask(&message("A01", id, minute, name, &format!("ICU^10{minute}^1"), ""));
        assert_eq!(field(&ack, "MSA", 1), "AA", "{ack}");
    }
    let browser = Browser::start().await;
    browser.sign_in(&server, "viewer").await;
    browser.open(&server, "/census").await;
    let rows = "return document.querySelectorAll('#census tr[data-v]').length === 2";
    browser.wait("both patients", 10, rows).await;

    // More than a second passed since the last message.
    let notice = browser.run("return document.querySelector('#census .notice').innerText").await;
    assert!(notice.as_str().is_some_and(|text| text.contains("silent")), "{notice}");

    browser.type_into("body", "j").await;
    let here = "return [...document.querySelectorAll('#census tr[data-v]')]\
                .findIndex(row => row.classList.contains('is-here') && row === document.activeElement)";
    assert_eq!(browser.run(here).await, Value::from(0), "j goes to the first row");
    browser.type_into("tr.is-here", "j").await;
    assert_eq!(browser.run(here).await, Value::from(1), "and to the next");
    browser.type_into("tr.is-here", "k").await;
    assert_eq!(browser.run(here).await, Value::from(0), "k goes back");
    browser.type_into("tr.is-here", "/").await;
    let found = browser.run("return [document.activeElement.id, document.activeElement.value]").await;
    assert_eq!(found, serde_json::json!(["census-q", ""]), "the slash goes to the search and is not typed");
    browser.type_into("#census-q", "KIM").await;
    let found = "const rows = document.querySelectorAll('#census tr[data-v]'); \
                 return rows.length === 1 && rows[0].innerText.includes('KIM')";
    browser.wait("search", 10, found).await;
    assert!(!browser.client.current_url().await.unwrap().as_str().contains("KIM"), "no name in a URL");
    // Three letters are one search, and one look at whom it found.
    let key = server.key("reader", "admin");
    let admin = [("x-api-key", key.as_str())];
    let events = || {
        let answer = request(server.http.unwrap(), "GET", "/api/audit", &admin, b"");
        let audit: Value = serde_json::from_slice(&answer.body).unwrap();
        let events = audit["events"].as_array().unwrap().iter();
        events.filter(|event| event["action"] == "search" && event["patient"].is_string()).count()
    };
    assert_eq!(events(), 1);
    browser.type_into("#census-q", " Y").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    browser.wait("search", 10, found).await;
    assert_eq!(events(), 1, "it grew");

    // Left open, the page polls: a refresh of its own, and no search.
    browser
        .run(
            "window.__live = []; \
             document.body.addEventListener('htmx:configRequest', event => window.__live.push(event.detail.headers['Hilum-Live'])); \
             const form = document.getElementById('census-form'); \
             form.setAttribute('hx-trigger', 'every 300ms'); htmx.process(form)",
        )
        .await;
    browser.wait("polls", 10, "return window.__live.length >= 3").await;
    assert_eq!(browser.run("return window.__live.every(live => live === '1')").await, true, "they say so");
    assert_eq!(events(), 1, "nobody searched again");

    // A copy of a part says that it is one.
    let copied = browser
        .run(
            "navigator.clipboard.writeText = text => { window.__copied = text; return Promise.resolve(); }; \
             const copy = () => { document.querySelector('[data-copy-csv]').click(); return window.__copied.split('\\r\\n')[0]; }; \
             document.getElementById('census-form').setAttribute('hx-trigger', 'submit'); \
             htmx.process(document.getElementById('census-form')); \
             const whole = copy(); \
             document.getElementById('census-table').dataset.part = 'Rows 1–500 of 1,234'; \
             return [whole.startsWith('Room'), copy()]",
        )
        .await;
    assert_eq!(copied, serde_json::json!([true, "\"Rows 1–500 of 1,234\""]));

    assert_eq!(browser.run("return document.documentElement.lang").await, "en");
    assert!(browser.text().await.contains("Census"));
    browser.click("details.menu summary").await;
    browser.click("button[name='lang'][value='ko']").await;
    browser.wait("Korean", 10, "return document.documentElement.lang === 'ko'").await;
    browser.open(&server, "/census").await;
    let text = browser.run("return document.querySelector('main').innerText").await;
    let text = text.as_str().unwrap();
    assert!(text.contains("재원") && !text.contains("Census"), "{text}");

    let log = browser.log_but_of_leaving();
    assert!(log.is_empty(), "the browser complains: {log:#?}");
}

/// While the database is away the rows stay, and say since when they are not live; when it is back, so are they.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_census_outlives_the_database() {
    let postgres = Postgres::start(&[]);
    let config = format!(
        "[tables]\nengine = \"postgres\"\nurl = \"{}\"\nschema = \"{}\"\n",
        postgres.url(),
        postgres.fresh_schema()
    );
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start { config: &config, ..Start::default() });
    let browser = Browser::start().await;
    browser.sign_in(&server, "viewer").await;
    let mut mllp = server.connect();
    let admit = |id: &str, name: &str| message("A01", id, 1, name, "ICU^101^1", "");
    assert_eq!(field(&mllp.ask(&admit("7001", "HONG^GILDONG")), "MSA", 1), "AA");
    open_census(&browser, &server).await;
    browser.wait("admitted", 15, "return document.body.innerText.includes('HONG')").await;

    tokio::task::block_in_place(|| postgres.kill());
    browser.wait("not live", 30, "return document.body.classList.contains('is-not-live')").await;
    assert_eq!(field(&mllp.ask(&admit("7002", "KIM^YUSIN")), "MSA", 1), "AA");
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let text = browser.text().await;
        assert!(text.contains("HONG") && text.contains("Not live since"), "{text}");
    }
    tokio::task::block_in_place(|| postgres.restart());
    let all = "return document.body.innerText.includes('HONG') && document.body.innerText.includes('KIM') \
               && !document.body.classList.contains('is-not-live')";
    browser.wait("live again", 60, all).await;
}
