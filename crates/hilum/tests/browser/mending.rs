//! What an operator mends: a quarantined message, a merge, the work queue; and a feed that is silent.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::chromium::Browser;
use crate::server::{Server, Start, field, request, run, wait};

/// A message about `patient` in `visit`; `rest` follows PID.
fn message(trigger: &str, control: &str, minute: u8, pid3: &str, name: &str, rest: &str) -> String {
    format!(
        "MSH|^~\\&|HIS|SEOUL|HILUM|HILUM|202601020304{minute:02}||ADT^{trigger}|{control}|P|2.5|||||KOR|UNICODE UTF-8\r\
         EVN||202601020304{minute:02}\r\
         PID|||{pid3}||{name}||19800101|M\r{rest}"
    )
}

fn admission(control: &str, minute: u8, patient: &str, name: &str, bed: u8) -> String {
    let visit = format!("PV1||I|ICU^101^{bed}||||||||||||||||V{control}\r");
    let pid3 = if patient.is_empty() { String::new() } else { format!("{patient}^^^SEOUL^MR") };
    message("A01", control, minute, &pid3, name, &visit)
}

fn send(server: &Server, messages: &[String]) {
    let mut mllp = server.connect();
    for message in messages {
        let ack = mllp.ask(message);
        assert_eq!(field(&ack, "MSA", 1), "AA", "{ack}");
    }
}

/// What a program reads of the census, by name: where they are.
fn census(server: &Server, key: &str) -> Vec<(String, String)> {
    let answer = request(server.http.unwrap(), "GET", "/api/census", &[("x-api-key", key)], b"");
    let census: Value = serde_json::from_slice(&answer.body).unwrap();
    let text = |line: &Value, path: &str| line.pointer(path).and_then(Value::as_str).unwrap_or("").to_owned();
    let lines = census["encounters"].as_array().unwrap().iter();
    lines.map(|line| (text(line, "/patient/name"), text(line, "/bed"))).collect()
}

/// The chart's canonical hash of a folder that no process holds; it is what the log gives.
fn hash(data: &Path) -> String {
    let out = run(&["rebuild", "chart", "--json", "--data", data.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    let census = run(&["rebuild", "census", "--json", "--data", data.to_str().unwrap()]);
    assert!(
        out.status.success() && census.status.success(),
        "{report} {}",
        String::from_utf8_lossy(&census.stdout)
    );
    assert_eq!(report["hashBefore"], report["hashLog"], "{report}");
    report["hashAfter"].as_str().unwrap().to_owned()
}

/// A data folder with the installation key of another one, so that ids are the same.
fn sibling(of: &Path) -> TempDir {
    let folder = tempdir().unwrap();
    let secrets = folder.path().join("data/secrets");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&secrets).unwrap();
    let key = std::fs::read(of.join("secrets/installation.key")).unwrap();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(secrets.join("installation.key"))
        .unwrap();
    file.write_all(&key).unwrap();
    folder
}

/// Opens the first row of a list.
async fn open_first(browser: &Browser, server: &Server, list: &str) {
    browser.open(server, list).await;
    let row = "return document.querySelector('main tr[data-href]') !== null";
    browser.wait("a row", 10, row).await;
    let href = browser.run("return document.querySelector('main tr[data-href]').dataset.href").await;
    browser.open(server, href.as_str().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_mended_and_replayed_gives_the_chart_of_the_message_sent_right_at_first() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let admissions =
        [admission("1", 1, "7001", "HONG^GILDONG", 1), admission("2", 2, "7002", "HONG^GILDONG", 2)];
    let faulty = message("A40", "3", 3, "7001^^^SEOUL^MR", "HONG^GILDONG", "");
    let missing = "MRG|7002^^^SEOUL^MR";
    send(&server, &admissions);
    send(&server, std::slice::from_ref(&faulty));

    let browser = Browser::start().await;
    browser.sign_in_as(&server, "hana", "operator").await;
    open_first(&browser, &server, "/quarantine").await;
    assert!(browser.text().await.contains("merge.unpaired"), "{}", browser.text().await);
    let edit = format!(
        "const text = document.querySelector('#text'); text.value = text.value.trimEnd() + '\\n{missing}\\n'; \
         text.dispatchEvent(new Event('input', {{ bubbles: true }}))"
    );
    browser.run(&edit).await;
    let added = format!(
        "const added = [...document.querySelectorAll('#diff .diff-added code')]; \
         return added.length === 1 && added[0].textContent === '{missing}' && \
         document.querySelector('#diff .diff-removed') === null"
    );
    browser.wait("the difference", 10, &added).await;
    assert!(browser.text().await.contains("A second person is needed"));

    // MRG needs a reason and another person: the one who wrote it cannot release it.
    browser.click("form[action$='/replay'] button").await;
    browser
        .wait("asked for a reason", 10, "return document.body.innerText.includes('A reason is missing')")
        .await;
    browser.type_into("#reason", "the clerk forgot MRG").await;
    browser.click("form[action$='/replay'] button").await;
    browser.wait("waits", 10, "return document.body.innerText.includes('Waits for a second person')").await;
    assert_eq!(browser.run("return document.querySelector(\"form[action$='/release']\")").await, Value::Null);
    let place = browser.client.current_url().await.unwrap();

    browser.client.delete_all_cookies().await.unwrap();
    browser.sign_in_as(&server, "duri", "operator").await;
    browser.open(&server, place.path()).await;
    assert!(browser.text().await.contains("the clerk forgot MRG"), "{}", browser.text().await);
    browser.click("form[action$='/release'] button").await;
    browser.wait("replayed", 10, "return location.pathname.startsWith('/messages/')").await;
    let text = browser.text().await;
    assert!(text.contains("ADT^A40") && text.contains("Applied") && text.contains("Corrects"), "{text}");
    browser.open(&server, "/quarantine").await;
    assert!(browser.text().await.contains("Nothing is set aside"), "{}", browser.text().await);
    let log = browser.log();
    assert!(log.is_empty(), "the browser complains: {log:#?}");

    // Another installation with the same key, to which it was sent right at first.
    let right = sibling(&server.data);
    let other = Server::start(&right, &Start::default());
    send(&other, &admissions);
    send(&other, &[format!("{faulty}{missing}\r")]);
    let data = [server.data.clone(), other.data.clone()];
    server.stop();
    other.stop();
    assert_eq!(hash(&data[0]), hash(&data[1]));

    // And one to which it was never sent, so that an equal hash says something.
    let never = sibling(&data[0]);
    let third = Server::start(&never, &Start::default());
    send(&third, &admissions);
    let third_data = third.data.clone();
    third.stop();
    assert_ne!(hash(&data[0]), hash(&third_data));
}

/// A server with two patients who are merged, both in beds: done, and in doubt. And the key of a program that reads.
fn merged() -> (TempDir, Server, String) {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let key = server.key("reader", "viewer");
    let admissions =
        [admission("1", 1, "7001", "HONG^GILDONG", 1), admission("2", 2, "7002", "KIM^YUSIN", 2)];
    send(&server, &admissions);
    send(&server, &[message("A40", "3", 3, "7001^^^SEOUL^MR", "HONG^GILDONG", "MRG|7002^^^SEOUL^MR\r")]);
    (folder, server, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_undoes_a_merge_on_the_patients_page() {
    let (_folder, server, key) = merged();
    let names = |name: &str| census(&server, &key).iter().filter(|(one, _)| one.contains(name)).count();
    wait("merged", 10, || (names("HONG") == 2).then_some(()));

    let browser = Browser::start().await;
    browser.sign_in(&server, "operator").await;
    open_first(&browser, &server, "/census").await;
    let banner = browser.run("return document.querySelector('.banner').innerText").await;
    assert!(banner.as_str().unwrap().contains("7001"), "{banner}");
    let text = browser.text().await;
    assert!(text.contains("One person, several records") && text.contains("KIM"), "{text}");
    browser.click("form[action$='/unmerge'] button").await;
    // It asks with the names of both.
    let asked = browser.client.get_alert_text().await.unwrap();
    assert!(asked.contains("KIM") && asked.contains("HONG"), "{asked}");
    browser.client.accept_alert().await.unwrap();
    let apart = "return document.querySelector(\"form[action$='/unmerge']\") === null";
    browser.wait("apart", 10, apart).await;
    wait("two again", 10, || (names("HONG") == 1 && names("KIM") == 1).then_some(()));

    // A viewer reads the page, and has nothing to undo.
    // What was said after the decision counts anew.
    let again = message("A40", "4", 4, "7001^^^SEOUL^MR", "HONG^GILDONG", "MRG|7002^^^SEOUL^MR\r");
    send(&server, &[again.replace("20260102", "20990102")]);
    wait("merged again", 10, || (names("HONG") == 2).then_some(()));
    browser.client.delete_all_cookies().await.unwrap();
    browser.sign_in(&server, "viewer").await;
    open_first(&browser, &server, "/census").await;
    let text = browser.text().await;
    assert!(text.contains("One person, several records") && !text.contains("Undo merge"), "{text}");
    let log = browser.log();
    assert!(log.is_empty(), "the browser complains: {log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_work_queue_is_worked_off() {
    let (_folder, server, key) = merged();
    send(
        &server,
        &[
            admission("4", 4, "7003", "PARK^MUNSU", 3),
            // Nobody knows who this is.
            admission("5", 5, "", "PARK^M", 4),
        ],
    );
    let browser = Browser::start().await;
    browser.sign_in(&server, "operator").await;
    browser.open(&server, "/work").await;
    let two = "return document.querySelectorAll('main tr[data-href]').length === 2";
    browser.wait("two items", 10, two).await;
    let text = browser.text().await;
    assert!(text.contains("Identity undecided") && text.contains("Merge in doubt"), "{text}");

    open_first(&browser, &server, "/work?kind=merge").await;
    let text = browser.text().await;
    assert!(text.contains("both are in beds") && text.contains("differs"), "{text}");
    browser.type_into("#note", "seen at both beds").await;
    browser.click("form[action$='/decide'] input[value='settle'] ~ .row button").await;
    browser.wait("decided", 10, "return document.querySelector('h1').innerText.includes('Decided')").await;

    open_first(&browser, &server, "/work?kind=identity").await;
    browser.type_into("input[name='identifier']", "7003").await;
    browser.click("form[hx-post$='/find'] button").await;
    let found = "return document.querySelector('#found form') !== null";
    browser.wait("found", 10, found).await;
    let url = browser.client.current_url().await.unwrap();
    assert!(!url.as_str().contains("7003"), "no number in a URL: {url}");
    browser.click("#found form button").await;
    let asked = browser.client.get_alert_text().await.unwrap();
    assert!(asked.contains("PARK, M is PARK, MUNSU"), "{asked}");
    browser.client.accept_alert().await.unwrap();
    browser.wait("decided", 10, "return document.querySelector('h1').innerText.includes('Decided')").await;
    wait("known", 10, || {
        let beds = census(&server, &key);
        let has = |bed: &str| beds.iter().any(|(name, at)| name.contains("MUNSU") && at == bed);
        (has("3") && has("4")).then_some(())
    });
    browser.open(&server, "/work").await;
    assert!(browser.text().await.contains("Nothing to decide"), "{}", browser.text().await);
    let log = browser.log();
    assert!(log.is_empty(), "the browser complains: {log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_source_is_seen_on_every_page() {
    let folder = tempdir().unwrap();
    let config =
        "[sources.default]\nsilence_alarm_s = 1\n[sources.ed]\nmatch = { peers = [\"192.0.2.1\"] }\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    send(&server, &[admission("1", 1, "7001", "HONG^GILDONG", 1)]);
    let browser = Browser::start().await;
    browser.sign_in(&server, "viewer").await;
    browser.open(&server, "/sources").await;
    let silent = "const row = [...document.querySelectorAll('tr[data-href]')]\
                  .find(row => row.innerText.startsWith('default')); \
                  return row !== undefined && row.innerText.includes('Silent')";
    browser.wait("silent", 20, silent).await;
    let text = browser.text().await;
    assert!(text.contains("As of") && text.contains("ed"), "{text}");
    for page in ["/sources", "/census", "/messages", "/patients"] {
        browser.open(&server, page).await;
        let pill = browser.run("return document.querySelector('#health').innerText").await;
        assert!(pill.as_str().unwrap().to_lowercase().contains("silent"), "{page}: {pill}");
    }
    // It speaks again.
    send(&server, &[admission("2", 2, "7002", "KIM^YUSIN", 2)]);
    let log = browser.log();
    assert!(log.is_empty(), "the browser complains: {log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_account_comes_in_by_its_link() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let browser = Browser::start().await;
    browser.sign_in(&server, "admin").await;
    browser.open(&server, "/admin").await;
    browser.type_into("form[action='/admin/users'] input[name='name']", "grace").await;
    browser.click("form[action='/admin/users'] button").await;
    browser.wait("the link", 10, "return document.querySelector('.once') !== null").await;
    let link = browser.run("return document.querySelector('.once').innerText").await;
    let link = link.as_str().unwrap().to_owned();

    browser.client.delete_all_cookies().await.unwrap();
    browser.open(&server, &link).await;
    assert!(browser.text().await.contains("Sign in as grace"), "{}", browser.text().await);
    browser.click("main button").await;
    browser.wait("in", 10, "return location.pathname === '/census'").await;
    assert!(browser.text().await.contains("grace"), "{}", browser.text().await);
    let log = browser.log();
    assert!(log.is_empty(), "the browser complains: {log:#?}");
}
