//! Patient data in every part of a request that fails: none of it in a log line or an error text.

use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use hilum_core::Role;

use crate::bench::{Bench, request};

const CANARY: &str = "KANARIENVOGEL";

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_of_a_request_is_logged_or_told_back() {
    // For the whole process: what other tests log at the same time is looked through as well.
    let captured = Captured::default();
    let sink = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || sink.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let bench = Bench::new().await;
    bench.account("ada", Role::Admin, None).await;
    let cookie = bench.sign_in("ada").await;
    let key = bench.key(Role::Admin).await;
    let mut requests = 0;
    for auth in [("x-api-key", key.as_str()), ("cookie", &cookie), ("x-api-key", CANARY), ("accept", CANARY)]
    {
        for accept in ["application/json", "text/html"] {
            for info in &bench.table {
                if info.path == "/live" {
                    continue; // a stream has no end to wait for; its failures are walked below
                }
                let path = ["{id}", "{token}", "{version}", "{name}"]
                    .iter()
                    .fold(info.path.to_owned(), |path, hole| path.replace(hole, CANARY));
                for path in [path.clone(), format!("{path}?before={CANARY}&patient={CANARY}&q={CANARY}")] {
                    for (kind, body) in [
                        ("application/json", format!("{{\"name\":\"{CANARY}\"}}")),
                        ("application/json", format!("[\"{CANARY}\"")),
                        (
                            "application/x-www-form-urlencoded",
                            format!("role={CANARY}&state={CANARY}&lang={CANARY}&_csrf={CANARY}"),
                        ),
                        (CANARY, CANARY.repeat(1_000)),
                    ] {
                        let headers = [
                            auth,
                            ("accept", accept),
                            ("content-type", kind),
                            ("referer", CANARY),
                            ("x-request-id", CANARY),
                        ];
                        let answer =
                            bench.ask(request(info.method.as_str(), &path, &headers, Body::from(body))).await;
                        requests += 1;
                        if answer.status.as_u16() >= 400 || !answer.header("location").is_empty() {
                            assert!(!answer.body.contains(CANARY), "{} {path}: {}", info.method, answer.body);
                            assert!(
                                !format!("{:?}", answer.headers).contains(CANARY),
                                "{path}: {:?}",
                                answer.headers
                            );
                        }
                    }
                }
            }
        }
    }
    for path in [
        format!("/{CANARY}"),
        format!("/live?topics={CANARY}"),
        format!("/live?topics=adt.board&from={CANARY}"),
    ] {
        for accept in ["application/json", "text/html"] {
            let answer = bench.get(&path, &[("x-api-key", &key), ("accept", accept)]).await;
            assert!(
                answer.status.is_client_error() && !answer.body.contains(CANARY),
                "{path}: {}",
                answer.body
            );
        }
    }
    // A panic and a failure of ours, too.
    for body in ["[1]", "[]"] {
        let headers = [("x-api-key", key.as_str()), ("content-type", "application/json")];
        let answer = bench.post("/api/search", &headers, body).await;
        assert_eq!(answer.status.as_u16(), 500);
        assert!(answer.body.contains("\"request\":\""), "{}", answer.body);
    }
    let log = String::from_utf8_lossy(&captured.0.lock().unwrap()).into_owned();
    assert!(requests > 700, "{requests}");
    assert!(log.contains("planted") && log.contains("/api/search"), "the capture works");
    assert!(!log.contains(CANARY), "{}", log.lines().find(|line| line.contains(CANARY)).unwrap_or_default());
    assert!(!log.contains(&key), "a key is in the log");
}

#[tokio::test]
async fn bounds_hold() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Viewer).await;
    let headers = [("x-api-key", key.as_str()), ("content-type", "application/json")];
    let answer = bench.post("/api/search", &headers, &"[1,".repeat(4_096)).await;
    assert_eq!(answer.status.as_u16(), 413, "{}", answer.body);
    let stream = futures::stream::iter((0..64).map(|_| Ok::<_, std::io::Error>("[1,".repeat(100))));
    let answer = bench.ask(request("POST", "/api/search", &headers, Body::from_stream(stream))).await;
    assert_eq!(answer.status.as_u16(), 413, "without a length: {}", answer.body);
    let answer = bench.get("/slow", &[("x-api-key", &key)]).await;
    assert_eq!(answer.status.as_u16(), 408, "{}", answer.body);
}
