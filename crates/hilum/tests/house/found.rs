//! Whatever is acknowledged is found by the control id that its acknowledgment names; what could not be is refused.

use std::fmt::Write;

use serde_json::Value;
use tempfile::tempdir;

use crate::server::{Server, Start, a01, field, request, wait};

fn percent(raw: &str) -> String {
    raw.bytes().fold(String::new(), |mut all, byte| {
        write!(all, "%{byte:02X}").unwrap();
        all
    })
}

fn messages(server: &Server, key: &str, control_id: &str) -> Vec<Value> {
    let path = format!("/api/messages?control_id={}", percent(control_id));
    let answer = request(server.http.unwrap(), "GET", &path, &[("x-api-key", key)], b"");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    let found: Value = serde_json::from_slice(&answer.body).unwrap();
    found["messages"].as_array().unwrap().clone()
}

#[test]
fn what_is_acknowledged_is_found_by_what_the_answer_names_it() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let key = server.key("all", "admin");
    let mut mllp = server.connect();
    let usual = "MSH|^~\\&|HIS|SEOUL|HILUM|HILUM|20260102030405||";
    let rest = a01("X").split_once('\r').unwrap().1.to_owned();
    let nothing = [
        ("ADT^A01|~", "a repetition that is empty"),
        ("ADT^A01|\\.br\\", "an escape that says nothing"),
        ("ADT^A01|\u{3000}", "a blank of Unicode"),
        ("ADT^A01|\u{200B}\u{A0}", "signs without width"),
        ("~ADT^A01|C1", "a type in the second repetition"),
        ("\u{3000}^A01|C1", "a type that is blank"),
        ("ADT^A01|C\0a", "NUL"),
    ];
    for (header, why) in nothing {
        let ack = mllp.ask(&format!("{usual}{header}|P|2.5\r{rest}"));
        assert_eq!(field(&ack, "MSA", 1), "AR", "{why}: {ack}");
    }
    let named = ["A\\F\\1", "R~2", "S^3", "T&4", " A5 ", "\u{3000}A6", "\\Z7\\", "A\\X41\\8", "가9", "-"];
    let mut bodies: Vec<String> =
        named.iter().map(|id| format!("{usual}ADT^A01|{id}|P|2.5\r{rest}")).collect();
    // Delimiters of their own, and a line feed inside.
    bodies
        .push(format!("MSH|:~\\&|HIS|SEOUL|||20260102030405||ADT:A01|B:1|P|2.5\r{}", rest.replace('^', ":")));
    bodies.push(format!("{usual}ADT^A01|B2\nrest|P|2.5\r{rest}"));
    for (at, body) in bodies.iter().enumerate() {
        // Each says something of its own, so that it is no copy.
        let ack = mllp.ask(&body.replace("0X^", &format!("0X{at}^")));
        let answered = field(&ack, "MSA", 2);
        assert_eq!(field(&ack, "MSA", 1), "AA", "{body}: {ack}");
        let found = wait("applied", 10, || {
            let found = messages(&server, &key, &answered);
            (!found.is_empty()).then_some(found)
        });
        assert_eq!(found.len(), 1, "{answered:?}: {found:?}");
        assert_eq!(found[0]["ack"], "AA", "{answered:?}: {found:?}");
    }
    server.stop();
}
