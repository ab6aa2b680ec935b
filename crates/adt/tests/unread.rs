//! A message that cannot be read is found by what its acknowledgment called it, and by its patient.
#![allow(clippy::unwrap_used)]

mod harness;

use bytes::Bytes;
use harness::{House, Msg};
use hilum_adt::accept;
use hilum_adt::view::journey::Sight;
use hilum_adt::view::messages::{self, Query};
use hilum_chart::Chart;
use hilum_core::{Authority, ContentType, RecordId, Role};

fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|one| u8::try_from(u32::from(one)).unwrap()).collect()
}

/// (why, rule, bytes)
fn cases() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let one = |control: &str| Msg::new("A08", control, "010900", "1", "V1");
    // 김 in CP949.
    let name = "\u{B1}\u{E8}";
    let header =
        |charset: &str| one("C1").name(name).text().replace("|P|2.5", &format!("|P|2.5||||||{charset}"));
    let mut many = one("C1").text().into_bytes();
    many.extend(b"ZZZ|1\r".repeat(100_001));
    let two = one("C1").text() + &one("C2").text();
    vec![
        ("two messages in one frame", "second-msh", two.into_bytes()),
        ("more segments than are read", "too-many-segments", many),
        ("no charset named, and no UTF-8", "charset-undecided", latin(&one("C1").name(name).text())),
        ("a charset that is not read", "charset-unsupported", latin(&header("ISO IR87"))),
    ]
}

#[tokio::test]
async fn it_carries_what_the_acknowledgment_named() {
    for (why, rule, bytes) in cases() {
        let house = House::new();
        house.send(&Msg::new("A01", "0", "010800", "1", "V1").at("W1^101^1^H").text()).await;
        let record: RecordId = house.send_as("default", &bytes, None).await;
        house.run_to_the_end().await;
        let message = house.message(record).await;
        assert_eq!(message["status"], "quarantined", "{why}: {message:?}");
        assert_eq!(message["rule"], rule, "{why}");
        let bytes = Bytes::from(bytes);
        let judgement = accept::judge(&bytes, ContentType::Hl7v2, &house.settings);
        let told = judgement.acknowledgment(record, house.clock.now()).unwrap();
        let named = String::from_utf8_lossy(&told.bytes).into_owned();
        assert!(named.contains(&format!("MSA|AA|{}", message["control_id"])), "{why}: {named}");
        assert_eq!(
            [&message["control_id"], &message["kind"], &message["source"], &message["ack"]],
            ["C1", "ADT^A08", "default", "AA"],
            "{why}"
        );
        assert_eq!(message["patient"], house.patient_id("1").to_string(), "{why}");
        assert_eq!(
            house.census().await,
            ["inpatient W1-101-1 I in-progress Kim, Min not-applied:1"],
            "{why}"
        );
    }
}

#[tokio::test]
async fn it_is_found_by_each_control_id_of_its_frame_however_many_came_behind_it() {
    let house = House::new();
    let one = |control: String| Msg::new("A08", &control, "010900", "1", "V1").text();
    let frames: Vec<String> = (0..210).map(|at| one(format!("F{at}")) + &one(format!("S{at}"))).collect();
    let first = house.send(&frames[0]).await;
    house.send_all(&frames[1..]).await;
    house.run_to_the_end().await;
    let chart = Chart::open(house.tables.clone(), house.clock.clone());
    let authority = Authority::new("key:test", Role::Viewer);
    let (tables, log, key) = (&house.tables, &house.log, &house.key);
    let sight = Sight { tables, log, chart: &chart, key, authority: &authority };
    let found = |control: &'static str, status: Option<&str>| {
        let (control_id, status) = (Some(control.to_owned()), status.map(str::to_owned));
        let query = Query { control_id, status, limit: 50, ..Query::default() };
        async move {
            let lines = messages::find(sight, &query).await.unwrap();
            lines.into_iter().map(|line| line.id).collect::<Vec<_>>()
        }
    };
    let wanted = [first.as_id()];
    assert_eq!(found("F0", None).await, wanted);
    assert_eq!(found("S0", None).await, wanted, "the second one, of the oldest of many frames");
    assert_eq!(found("S0", Some("applied")).await, []);
    assert_eq!(found("S210", None).await, []);
    house.rebuild().await;
    assert_eq!(found("S0", None).await, wanted, "after a rebuild too");
}
