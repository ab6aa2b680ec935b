//! Patient data in every field, on every path that ends in an error: none of it in logs, metrics or error texts.

use std::collections::BTreeSet;

use tempfile::tempdir;

use crate::server::{Server, Start, a01, request};

pub const CANARY: &str = "KANARIENVOGEL";

/// A message with a canary of its own in every field of every segment, but for MSH-1, 2, 9, 11 and 12. What an answer
/// must repeat (MSH-3 to 6 and 10) has one too.
pub fn sung(skip: &[&str]) -> String {
    let mut message = String::new();
    for (segment, fields) in
        [("MSH", 21), ("EVN", 7), ("PID", 39), ("NK1", 39), ("PV1", 52), ("AL1", 6), ("ZZZ", 9)]
    {
        message.push_str(segment);
        let from = if segment == "MSH" {
            message.push_str("|^~\\&");
            3
        } else {
            1
        };
        for at in from..=fields {
            let place = format!("{segment}-{at}");
            let value = match place.as_str() {
                _ if skip.contains(&place.as_str()) => String::new(),
                "MSH-9" => "ADT^A01^ADT_A01".to_owned(),
                "MSH-11" => "P".to_owned(),
                "MSH-12" => "2.5".to_owned(),
                "MSH-15" | "MSH-16" => String::new(),
                _ => format!("{CANARY}{segment}{at}^{CANARY}가나^^{CANARY}~{CANARY}2"),
            };
            message.push('|');
            message.push_str(&value);
        }
        message.push('\r');
    }
    message
}

#[test]
fn canaries_in_every_field_reach_no_log_no_metric_and_no_error_text() {
    let folder = tempdir().unwrap();
    let config = "[logging]\nlevel = \"trace,h2=off\"\n[mllp]\nmessage_bytes_max = 65536\nread_s = 1\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let http = server.http.unwrap();
    let key = server.key("his", "admin");
    let mut mllp = server.connect();
    let euc_kr = {
        // Bytes that no charset explains.
        let mut raw = sung(&["MSH-18"]).into_bytes();
        raw.extend_from_slice(b"NTE|1||\xb0\xa1\xff\xfe KANARIENVOGEL\r");
        raw
    };
    let mut bodies: Vec<Vec<u8>> = [
        sung(&[]),
        sung(&["MSH-9"]),
        sung(&["MSH-10"]),
        sung(&["MSH-18"]),
        sung(&["MSH-18", "PID-3"]),
        sung(&["MSH-18"]).replacen("MSH|^~\\&", "MSH|^^^^", 1),
        sung(&["MSH-18"]).replacen("ADT^A01^ADT_A01", &format!("{CANARY}^{CANARY}"), 1),
        sung(&["MSH-18"]).replacen("MSH|", "PID|", 1),
        format!("{}{}", sung(&["MSH-18"]), sung(&["MSH-18"])),
    ]
    .map(String::into_bytes)
    .to_vec();
    bodies.push(euc_kr);
    bodies.push(sung(&["MSH-18"]).repeat(40).into_bytes());
    let mut answers = String::new();
    for body in &bodies {
        mllp.write(&crate::server::frame(body));
        match mllp.try_answer() {
            Some(_) => {}
            None => mllp = server.connect(),
        }
        let headers = [("x-api-key", key.as_str()), ("content-type", "application/hl7-v2")];
        request(http, "POST", "/hl7v2", &headers, body);
        // Answers of our own making, where nothing of the message is to be repeated.
        let broken = [br#"{"message": "#, body.as_slice()].concat();
        let headers = [("x-api-key", key.as_str()), ("content-type", "application/json")];
        answers.push_str(&request(http, "POST", "/hl7v2", &headers, &broken).text());
        answers.push_str(&request(http, "POST", "/hl7v2", &[("x-api-key", CANARY)], body).text());
    }
    // Half a frame, and an import.
    server.connect().write(&[b"\x0b", bodies[0].as_slice()].concat());
    let file = folder.path().join("file.hl7");
    std::fs::write(&file, bodies.concat()).unwrap();
    let out = crate::server::run(&[
        "import",
        "hl7",
        file.to_str().unwrap(),
        "--data",
        server.data.to_str().unwrap(),
    ]);
    answers.push_str(&String::from_utf8_lossy(&out.stdout));
    answers.push_str(&String::from_utf8_lossy(&out.stderr));
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    for path in ["/metrics", "/readyz", "/healthz", "/nowhere/KANARIENVOGEL", "/api/census?q=KANARIENVOGEL"] {
        let headers = [("x-api-key", key.as_str())];
        answers.push_str(&request(http, "GET", path, &headers, b"").text());
    }
    server.connect().ask(&a01("LAST"));
    let said_path = server.stderr.clone();
    server.stop();
    let said = std::fs::read_to_string(said_path).unwrap();
    assert!(said.contains("message refused and kept"), "the log says something at all");
    for (place, text) in [("log", &said), ("answers", &answers)] {
        let sung: BTreeSet<&str> = text.lines().filter(|line| line.contains(CANARY)).collect();
        assert!(sung.is_empty(), "{place}: {sung:#?}");
    }
}
