//! A client that others wrote, let loose on both engines.

use std::process::Command;

use hilum_testkit::kafka::Kafka;
use hilum_testkit::postgres::Postgres;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::server::{Server, Start};

/// What `fhir-kit-client` (MIT, npm) saw.
fn walk(server: &Server) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/clients/walk.cjs");
    let base = format!("http://{}/fhir", server.http.unwrap());
    let out = Command::new("node")
        .args([script, &base, &server.key("client", "operator")])
        .env("NODE_PATH", hilum_testkit::installed("fhir-kit-client-1.9.2").join("node_modules"))
        .output()
        .expect("node is installed: run scripts/install-tools");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn sees_what_it_should(server: &Server) {
    let mut said = walk(server);
    let types = said.as_object_mut().unwrap().remove("types");
    assert!(types.unwrap().as_u64() > Some(140));
    let want = json!({
        "fhirVersion": "4.0.1",
        "versions": ["1", "2"],
        "gender": "male",
        "before": "none",
        "history": 2,
        "transaction": vec!["201"; 23],
        "total": 23,
        "pages": [5, 5, 5, 5, 3],
        "distinct": 23,
        "back": true,
        "posted": 2,
        "deleted": 410,
        "unknown": 400,
        "nobody": 401,
    });
    assert_eq!(said, want);
}

#[test]
fn fhir_kit_client_writes_searches_and_walks_pages() {
    let folder = tempdir().unwrap();
    sees_what_it_should(&Server::start(&folder, &Start::default()));
}

#[test]
fn fhir_kit_client_writes_searches_and_walks_pages_on_postgresql() {
    let config = crate::many::config(Kafka::shared(), Postgres::shared());
    let folder = tempdir().unwrap();
    sees_what_it_should(&Server::start(&folder, &Start { config: &config, ..Start::default() }));
}
