//! Every route that docs/SECURITY.md names, with every role, against the running server.

use std::path::Path;

use hilum_core::Role;
use serde_json::Value;
use tempfile::tempdir;

use crate::server::{Server, Session, Start, a01, field, request, wait};

/// A line of the tables.
pub struct Line {
    pub method: String,
    pub path: String,
    surface: String,
    /// Anybody, then the roles in the order of [`Role::ALL`].
    may: [String; 5],
}

/// The lines of all tables of routes in the document. That they are what the code says, other tests hold.
pub fn lines() -> Vec<Line> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/SECURITY.md");
    let text = std::fs::read_to_string(document).unwrap();
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some((method, path)) = cells[1].trim_matches('`').split_once(' ') else { continue };
        if !path.starts_with('/') {
            continue;
        }
        lines.push(Line {
            method: method.to_owned(),
            path: path.to_owned(),
            surface: cells[2].to_owned(),
            may: [3, 4, 5, 6, 7].map(|at| cells[at].to_owned()),
        });
    }
    lines
}

#[test]
fn every_route_answers_every_role_as_the_document_says() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let http = server.http.unwrap();
    let lines = lines();
    for room in ["/census", "/hl7v2", "/api/patients/_search", "/quarantine/{id}/release", "/admin"] {
        assert!(lines.iter().any(|line| line.path == room), "{room} is in no table");
    }
    let mut walked = 0;
    for (at, role) in std::iter::once(None).chain(Role::ALL.map(Some)).enumerate() {
        let key = role.map(|role| server.key(role.as_str(), role.as_str()));
        for line in &lines {
            let path = line
                .path
                .replace("{id}", "01a1fc11-791c-7f68-bc3c-c1d8bbd51639")
                .replace("{type}", "Patient")
                .replace("_history/{version}", "_history/1")
                .replace("{token}", "x")
                .replace("{version}/{name}", "x/hilum.css");
            // A proxy forwards: what loopback alone may is not given to whoever stands behind it.
            let mut headers = vec![("x-forwarded-for", "192.0.2.7")];
            headers.extend(key.as_deref().map(|key| ("x-api-key", key)));
            if line.surface == "live" && line.may[at] == "yes" {
                continue; // A stream that does not end; its own tests open it.
            }
            let status = request(http, &line.method, &path, &headers, b"").status;
            let name = format!("{} {} as {role:?}", line.method, line.path);
            let is_public = line.may[0] == "yes";
            if line.may[at] == "signed in" {
                assert_eq!(status, 403, "{name}: a key is no person");
            } else if line.may[at] == "yes" {
                // Signing in and changing a password refuse by what was sent, not by who asks.
                let is_own = ["/sign-in", "/password"].contains(&line.path.as_str());
                assert!(is_own || ![401, 403, 405].contains(&status), "{name}: {status}");
            } else if role.is_none() {
                assert_eq!(status, 401, "{name}");
            } else {
                assert!(!is_public && [403, 404].contains(&status), "{name}: {status}");
            }
            walked += 1;
        }
    }
    assert!(walked > 5 * 40, "walked {walked}");
    // What no table has is nowhere, for whoever asks and however.
    let admin = server.key("last", "admin");
    for (method, path) in
        [("GET", "/nowhere"), ("POST", "/nowhere"), ("POST", "/api/patients"), ("PUT", "/census/x")]
    {
        for headers in [&[][..], &[("x-api-key", admin.as_str())]] {
            assert_eq!(request(http, method, path, headers, b"{}").status, 404, "{method} {path}");
        }
    }
}

#[test]
fn every_route_answers_every_account_as_the_document_says() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let lines = lines();
    assert!(lines.iter().any(|line| line.may.iter().any(|may| may == "signed in")));
    for (at, role) in Role::ALL.iter().enumerate().filter(|(_, role)| **role != Role::Feed) {
        let session = Session::sign_in(&server, role.as_str(), role.as_str());
        for line in lines.iter().filter(|line| !["/sign-out", "/live"].contains(&line.path.as_str())) {
            let path = line
                .path
                .replace("{id}", "01a1fc11-791c-7f68-bc3c-c1d8bbd51639")
                .replace("{type}", "Patient")
                .replace("_history/{version}", "_history/1")
                .replace("{token}", "x")
                .replace("{version}/{name}", "x/hilum.css");
            let status = session.send(&server, &line.method, &path, "").status;
            let name = format!("{} {} by an account as {role:?}", line.method, line.path);
            if line.surface == "door" {
                assert_eq!(status, 401, "{name}: a door takes keys only");
            } else if ["yes", "signed in"].contains(&line.may[at + 1].as_str()) {
                let is_own = ["/sign-in", "/password"].contains(&line.path.as_str());
                assert!(is_own || ![401, 403, 405].contains(&status), "{name}: {status}");
            } else if line.may[0] != "loopback" {
                assert!([403, 404].contains(&status), "{name}: {status}");
            }
        }
    }
}

#[test]
fn what_waits_for_a_second_person_is_released_by_whom_the_document_names() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let http = server.http.unwrap();
    let line = lines().into_iter().find(|line| line.path == "/quarantine/{id}/release").unwrap();
    let boss = server.key("boss", "admin");
    let a40 = a01("T").replace("ADT^A01", "ADT^A40").replace("PV1|", "PD1|");
    assert_eq!(field(&server.connect().ask(&a40), "MSA", 1), "AA");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let id = wait("set aside", 10, || {
        let told = request(http, "GET", "/api/quarantine", &[("x-api-key", &boss)], b"").text();
        let told: Value = serde_json::from_str(&told).unwrap();
        told["messages"][0]["id"].as_str().map(str::to_owned)
    });
    let corrected = format!("{a40}MRG|0S^^^SEOUL^MR\r");
    let edit = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("text", corrected.as_str()), ("reason", "MRG was forgotten")])
        .finish();
    let replay = format!("/quarantine/{id}/replay");
    assert_eq!(request(http, "POST", &replay, &[("x-api-key", &boss), form], edit.as_bytes()).status, 303);
    let path = format!("/quarantine/{id}/release");
    for (at, role) in Role::ALL.iter().enumerate() {
        assert!(["", "signed in"].contains(&line.may[at + 1].as_str()), "{role:?}");
        let key = server.key(&format!("key-{}", role.as_str()), role.as_str());
        let answer = request(http, "POST", &path, &[("x-api-key", &key), form], b"");
        assert_eq!(answer.status, 403, "{role:?}");
        let is_named = answer.text().contains("an API key is no person");
        assert_eq!(is_named, line.may[at + 1] == "signed in", "{role:?}: {}", answer.text());
    }
    // Who wrote it is another one than who releases it, by name too.
    let same = Session::sign_in(&server, "boss", "admin").send(&server, "POST", &path, "");
    assert!(same.status == 403 && same.text().contains("cannot release it"), "{}", same.text());
    let viewer = Session::sign_in(&server, "nari", "viewer").send(&server, "POST", &path, "");
    assert_eq!(viewer.status, 403);
    let released = Session::sign_in(&server, "duri", "operator").send(&server, "POST", &path, "");
    assert_eq!(released.status, 303, "{}", released.text());
    assert!(released.header("location").unwrap().starts_with("/messages/"), "{}", released.head);
}
