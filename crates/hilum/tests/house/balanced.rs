//! Three of us behind a real load balancer that asks one after the other, while others write and each of the three is killed
//! once: what was there throughout appears exactly once in each walk, and nothing of what was asked is written anywhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use hilum_testkit::kafka::Kafka;
use hilum_testkit::nginx::Nginx;
use hilum_testkit::postgres::Postgres;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::many::{config, sibling};
use crate::server::{Server, Start, wait};

/// Patients who are there from the beginning to the end.
const STEADY: u32 = 45;
const WALKERS: usize = 3;
/// What is asked for, and nowhere said but in questions.
const CANARY: &str = "KANARIENSUCHE";
const JSON: &str = "application/fhir+json";
const FORM: &str = "application/x-www-form-urlencoded";

/// A client behind the load balancer. What fails meanwhile is asked again: a connection that broke, 502, 503.
struct Client<'a> {
    agent: ureq::Agent,
    base: String,
    key: &'a str,
    prefer: &'a str,
}

impl<'a> Client<'a> {
    fn new(to: SocketAddr, key: &'a str, prefer: &'a str) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build();
        Self { agent: agent.into(), base: format!("http://{to}/fhir"), key, prefer }
    }

    fn ask(&self, method: &str, path: &str, (content_type, body): (&str, &str)) -> (u16, Value) {
        wait(path, 90, || {
            let request = ureq::http::Request::builder()
                .method(method)
                .uri(format!("{}{path}", self.base))
                .header("x-api-key", self.key)
                .header("prefer", self.prefer)
                .header("content-type", content_type)
                .body(body.to_owned())
                .unwrap();
            let mut answer = self.agent.run(request).ok()?;
            let status = answer.status().as_u16();
            let text = answer.body_mut().read_to_string().ok()?;
            let is_away = [502, 503, 504].contains(&status);
            (!is_away).then(|| (status, serde_json::from_str(&text).unwrap_or(Value::Null)))
        })
    }

    fn put(&self, id: &str, day: u32, rest: &str) -> u16 {
        let body = format!(
            "{{\"resourceType\":\"Patient\",\"id\":\"{id}\",\"meta\":{{\"tag\":[{{\"code\":\"walk\"}}]}},\
             \"birthDate\":\"1974-12-{day:02}\"{rest}}}"
        );
        self.ask("PUT", &format!("/Patient/{id}"), (JSON, &body)).0
    }

    /// A walk's pages, from the first link on; `keep` sees each `next`.
    fn walk(&self, mut keep: impl FnMut(&str)) -> Vec<String> {
        let form = format!("_tag=walk&identifier:not=urn:x%7C{CANARY}&_sort=birthdate&_count=7");
        let (mut status, mut page) = self.ask("POST", "/Patient/_search", (FORM, &form));
        let mut all = Vec::new();
        loop {
            assert_eq!(status, 200, "{page}");
            all.extend(ids(&page));
            let Some(next) = next(&page) else { return all };
            keep(&next);
            (status, page) = self.ask("GET", &next, (JSON, ""));
        }
    }
}

fn ids(page: &Value) -> impl Iterator<Item = String> {
    let entries = page["entry"].as_array().into_iter().flatten();
    entries.map(|entry| entry["resource"]["id"].as_str().unwrap_or_default().to_owned())
}

fn next(page: &Value) -> Option<String> {
    let links = page["link"].as_array().into_iter().flatten();
    let url = links.filter(|link| link["relation"] == "next").find_map(|link| link["url"].as_str());
    url.map(|url| url.split_once("/fhir").unwrap().1.to_owned())
}

/// Changes of whoever comes and goes, and of those who stay but for what they are ordered by.
fn write(client: &Client<'_>, stop: &AtomicBool) {
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let (passing, day) = (format!("w{}", n % 9), n % 28 + 1);
        if n % 3 == 0 {
            client.ask("DELETE", &format!("/Patient/{passing}"), (JSON, ""));
        } else {
            client.put(&passing, day, "");
        }
        let steady = n % STEADY;
        client.put(&format!("s{steady}"), steady % 5 + 1, &format!(",\"name\":[{{\"text\":\"{n}\"}}]"));
    }
}

/// Whoever fails lets nobody wait.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The server goes before its folder.
struct Node {
    server: Option<Server>,
    folder: TempDir,
}

#[test]
fn walks_go_on_behind_a_load_balancer_whoever_is_killed() {
    let (kafka, postgres) = (Kafka::start(1, &[]), Postgres::start(&[]));
    let config = format!("{}\n[logging]\nlevel = \"debug\"\n", config(&kafka, &postgres));
    let start = Start { config: &config, ..Start::default() };
    let first = tempdir().unwrap();
    let server = Server::start(&first, &start);
    let key = server.key("client", "operator");
    let mut nodes = vec![Node { server: Some(server), folder: first }];
    for _ in 1..3 {
        let folder = sibling(&nodes[0].folder);
        let server = Some(Server::start(&folder, &start));
        nodes.push(Node { server, folder });
    }
    let addresses = |nodes: &[Node]| -> Vec<SocketAddr> {
        nodes.iter().filter_map(|node| node.server.as_ref()?.http).collect()
    };
    let mut nginx = Nginx::start(&addresses(&nodes));
    let to = nginx.address();
    let client = Client::new(to, &key, "handling=strict");
    for n in 0..STEADY {
        assert_eq!(client.put(&format!("s{n}"), n % 5 + 1, ""), 201);
    }
    // A link of before all of it.
    let mut old = None;
    client.walk(|next| {
        old.get_or_insert(next.to_owned());
    });
    let old = old.unwrap();
    let before: Vec<String> = ids(&client.ask("GET", &old, (JSON, "")).1).collect();
    assert_eq!(before.len(), 7);

    let (stop, walks) = (AtomicBool::new(false), [const { AtomicU32::new(0) }; WALKERS]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| write(&Client::new(to, &key, ""), &stop));
        }
        for (walker, walks) in walks.iter().enumerate() {
            let (key, stop) = (&key, &stop);
            scope.spawn(move || {
                let _ends = Ends(stop);
                let client = Client::new(to, key, STYLES[walker]);
                while !stop.load(Ordering::Relaxed) {
                    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
                    client.walk(|_| {}).into_iter().for_each(|id| *seen.entry(id).or_default() += 1);
                    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
                    assert!(twice.is_empty(), "{}: twice {twice:?}", STYLES[walker]);
                    for n in 0..STEADY {
                        assert!(seen.contains_key(&format!("s{n}")), "{}: s{n} is skipped", STYLES[walker]);
                    }
                    walks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _ends = Ends(&stop);
        let went_on = || {
            let before: Vec<u32> = walks.iter().map(|count| count.load(Ordering::Relaxed)).collect();
            wait("two walks of each", 120, || {
                let now = walks.iter().map(|count| count.load(Ordering::Relaxed));
                now.zip(&before).all(|(now, before)| now >= before + 2).then_some(())
            });
        };
        went_on();
        for at in 0..nodes.len() {
            nodes[at].server = None; // kill -9
            went_on();
            nodes[at].server = Some(Server::start(&nodes[at].folder, &start));
            nginx.go_on_with(&addresses(&nodes));
            went_on();
        }
    });
    let (status, page) = client.ask("GET", &old, (JSON, ""));
    assert_eq!(status, 200, "{page}");
    assert_eq!(
        ids(&page).collect::<Vec<_>>(),
        before,
        "the same page, from processes that never saw the question"
    );

    // What would be written as it is, is seen.
    postgres.rows(&format!("CREATE TABLE public.planted AS SELECT convert_to('{CANARY}', 'UTF8') AS sealed"));
    assert!(says_what_was_asked(&dump(&postgres.url())), "a canary in a column of bytes is not seen");
    postgres.rows("DROP TABLE public.planted");
    let logs = nodes.iter().filter_map(|node| node.server.as_ref().map(Server::said));
    let mut written: Vec<(&str, String)> = logs.map(|log| ("a log", log)).collect();
    written.push(("the tables", dump(&postgres.url())));
    written.push(("the access log", nginx.said("access.log")));
    written.push(("nginx's error log", nginx.said("error.log")));
    for (place, text) in written {
        assert!(!says_what_was_asked(&text), "{place} says what was asked");
    }
    assert!(nginx.said("access.log").lines().count() > 200);
}

fn dump(url: &str) -> String {
    let dump = Command::new("pg_dump").arg(url).output().expect("pg_dump is PostgreSQL's");
    assert!(
        dump.status.success() && dump.stdout.len() > 100_000,
        "{}",
        String::from_utf8_lossy(&dump.stderr)
    );
    String::from_utf8_lossy(&dump.stdout).into_owned()
}

/// As a text, or as a dump writes bytes.
fn says_what_was_asked(text: &str) -> bool {
    let hex = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    text.contains(CANARY) || text.contains(&hex)
}

/// How each walker wants its links.
const STYLES: [&str; WALKERS] = ["hilum-paging=sealed", "hilum-paging=offset", "hilum-paging=getpages"];
