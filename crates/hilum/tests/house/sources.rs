//! How a source does, as people see it.

use serde_json::Value;
use tempfile::tempdir;

use crate::server::{Server, Start, a01, field, request, wait};

fn get(server: &Server, key: &str, path: &str) -> String {
    request(server.http.unwrap(), "GET", path, &[("x-api-key", key)], b"").text()
}

fn source(server: &Server, key: &str) -> Value {
    serde_json::from_str::<Value>(&get(server, key, "/api/sources")).unwrap()["sources"][0].clone()
}

#[test]
fn a_fast_clock_is_said_of_its_source() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let (viewer, admin) = (server.key("v", "viewer"), server.key("a", "admin"));
    assert_eq!(field(&server.connect().ask(&a01("RIGHT")), "MSA", 1), "AA");
    assert_eq!(source(&server, &viewer)["clockAheadS"], Value::Null);
    let mut segments: Vec<String> = a01("FAST").split('\r').map(str::to_owned).collect();
    let mut header: Vec<&str> = segments[0].split('|').collect();
    header[6] = "20991231120000";
    segments[0] = header.join("|");
    assert_eq!(field(&server.connect().ask(&segments.join("\r")), "MSA", 1), "AA", "it is kept all the same");
    assert!(source(&server, &viewer)["clockAheadS"].as_i64().unwrap() > 3_600);
    wait("said to whoever asks", 20, || get(&server, &viewer, "/readyz").contains("ahead").then_some(()));
    let metrics = get(&server, &admin, "/metrics");
    assert!(metrics.contains("hilum_source_clock_ahead_seconds{source=\"default\"}"), "{metrics}");
    let page = request(
        server.http.unwrap(),
        "GET",
        "/sources",
        &[("x-api-key", &viewer), ("accept", "text/html")],
        b"",
    );
    assert!(page.text().contains("ahead"), "{}", page.text());
}

#[test]
fn when_a_feed_last_spoke_outlives_the_process() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let viewer = server.key("v", "viewer");
    assert_eq!(source(&server, &viewer)["lastReceived"], Value::Null);
    assert_eq!(field(&server.connect().ask(&a01("M1")), "MSA", 1), "AA");
    let last = source(&server, &viewer)["lastReceived"].clone();
    server.stop();
    let server = Server::start(&folder, &Start::default());
    wait("what the rows know is taken up", 20, || {
        (source(&server, &viewer)["lastReceived"] == last).then_some(())
    });
}
