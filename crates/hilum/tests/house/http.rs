//! The HTTP door: its table of answers.

use tempfile::tempdir;

use crate::server::{Server, Start, a01, field, records, request, run};

const HL7: (&str, &str) = ("content-type", "application/hl7-v2");
const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn each_outcome_has_its_status_and_its_acknowledgment() {
    let folder = tempdir().unwrap();
    let config = "[mllp]\nmessage_bytes_max = 65536\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let http = server.http.unwrap();
    let key = server.key("his", "feed");
    let key = ("x-api-key", key.as_str());
    let large = a01("H4").replace("ICU", &"x".repeat(70_000));
    let json = serde_json::json!({ "message": a01("H5").replacen("|P|2.5\r", "|P|2.5||||||KS X 1001\r", 1) })
        .to_string();
    let plain = a01("H1");
    let no_id = a01("");
    let enhanced = a01("H6").replacen("|P|2.5\r", "|P|2.5|||AL|NE\r", 1);
    let none = a01("H7").replacen("|P|2.5\r", "|P|2.5|||NE|NE\r", 1);
    let cases: &[(&str, (&str, &str), &[u8], u16, &str)] = &[
        ("taken", HL7, plain.as_bytes(), 200, "AA"),
        ("taken, enhanced", HL7, enhanced.as_bytes(), 200, "CA"),
        ("taken, no answer asked", HL7, none.as_bytes(), 200, ""),
        ("as JSON, MSH-18 ignored", JSON, json.as_bytes(), 200, "AA"),
        ("refused", HL7, no_id.as_bytes(), 422, "AR"),
        ("no MSH", HL7, b"PID|1\r", 400, "AR"),
        ("too large", HL7, large.as_bytes(), 413, "AR"),
        ("no JSON", JSON, b"{\"message\": 1}", 400, ""),
        ("another type", ("content-type", "text/plain"), b"hello", 415, ""),
    ];
    for (why, kind, body, status, code) in cases {
        let answer = request(http, "POST", "/hl7v2", &[key, *kind], body);
        assert_eq!(answer.status, *status, "{why}: {}", answer.text());
        assert_eq!(field(&answer.text(), "MSA", 1), *code, "{why}: {}", answer.text());
        if !code.is_empty() {
            assert_eq!(answer.header("content-type").as_deref(), Some("application/hl7-v2"), "{why}");
        }
        let is_kept = matches!(status, 200 | 422) || *why == "no MSH";
        let position = answer.header("hilum-position");
        assert_eq!(position.is_some(), is_kept, "{why}: {position:?}");
        if let Some(position) = position {
            position.parse::<hilum_core::Position>().unwrap();
        }
    }
    let data = server.data.clone();
    server.stop();
    let kept = records(&data);
    assert_eq!(kept.len(), 6);
    assert!(
        kept.iter().any(|body| body.windows(9).any(|part| part == "홍^길동".as_bytes().get(..9).unwrap()))
    );
}

#[test]
fn without_a_key_that_holds_nothing_is_kept() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let http = server.http.unwrap();
    let good = server.key("good", "feed");
    let gone = server.key("gone", "feed");
    let viewer = server.key("board", "viewer");
    let out = run(&["keys", "revoke", "gone", "--data", server.data.to_str().unwrap()]);
    assert!(out.status.success());
    let body = a01("K1");
    let bearer = format!("Bearer {gone}");
    let cases: &[(&str, &[(&str, &str)], u16)] = &[
        ("no key", &[HL7], 401),
        ("wrong key", &[HL7, ("x-api-key", "hlm_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")], 401),
        ("revoked key", &[HL7, ("x-api-key", &gone)], 401),
        ("revoked key as bearer", &[HL7, ("authorization", &bearer)], 401),
        ("a role that sends nothing", &[HL7, ("x-api-key", &viewer)], 403),
    ];
    for (why, headers, status) in cases {
        let answer = request(http, "POST", "/hl7v2", headers, body.as_bytes());
        assert_eq!(answer.status, *status, "{why}");
        assert!(!answer.text().contains("K1"), "{why}");
    }
    let bearer = format!("Bearer {good}");
    assert_eq!(
        request(http, "POST", "/hl7v2", &[HL7, ("authorization", &bearer)], body.as_bytes()).status,
        200
    );
    let data = server.data.clone();
    server.stop();
    assert_eq!(records(&data).len(), 1);
}

#[test]
fn a_date_of_birth_that_is_none_is_refused() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let viewer = server.key("v", "viewer");
    let headers = [("x-api-key", viewer.as_str()), ("content-type", "application/json")];
    let born = |date: &str| {
        let body = serde_json::json!({ "birthDate": date }).to_string();
        let path = "/api/patients/_search";
        request(server.http.unwrap(), "POST", path, &headers, body.as_bytes()).status
    };
    for date in ["1980-01-01", "1980-01", "1980"] {
        assert_eq!(born(date), 200, "{date}");
    }
    for date in
        ["01.01.1980", "19800101", "1980/01/01", "1980-13-01", "1980-02-30", "1980-1", "CANARY", "198"]
    {
        assert_eq!(born(date), 400, "{date}");
    }
}
