//! Values that are not believed as they stand: numbers that stand for "none", times that lie ahead, texts beyond the
//! bounds of a key, one group of a message that says nothing usable.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{House, Msg};
use hilum_adt::order::Stamp;
use hilum_adt::tables as adt;
use hilum_engines::tables::Value;
use hilum_hl7v2::trigger;

fn msg(event: &'static str, control: &str, at: &str, patient: &str, visit: &str) -> Msg {
    Msg::new(event, control, at, patient, visit)
}

#[tokio::test]
async fn what_stands_for_none_names_nobody() {
    for none in ["0", "000", "-", "N/A", "none", "UNKNOWN", "--/--"] {
        let house = House::new();
        let one = msg("A01", "1", "010800", "1", none).at("W1^101^1^H");
        let two = msg("A01", "2", "010900", "2", none).at("W2^201^1^H").name("Lee^Two");
        let record = house.send(&one.text()).await;
        house.send(&two.text()).await;
        let nobody = msg("A01", "3", "011000", none, "V3").at("W3^301^1^H").name("Park^Three");
        house.send(&nobody.text()).await;
        let nobody_else = msg("A01", "4", "011100", none, "V4").at("W4^401^1^H").name("Choi^Four");
        house.send(&nobody_else.text()).await;
        house.run().await;
        assert_eq!(
            house.census().await,
            [
                "inpatient W1-101-1 I in-progress Kim, Min key-inferred",
                "inpatient W2-201-1 I in-progress Lee, Two key-inferred",
                "inpatient W3-301-1 I in-progress Park, Three identity-undecided",
                "inpatient W4-401-1 I in-progress Choi, Four identity-undecided",
            ],
            "{none}: each stands once"
        );
        let message = house.message(record).await;
        assert!(message["findings"].contains("identifier-placeholder"), "{none}: {}", message["findings"]);
    }
}

#[tokio::test]
async fn a_source_says_what_else_stands_for_none() {
    let settings = hilum_adt::settings::SourceSettings {
        placeholder_values: vec!["9999999".to_owned()],
        ..hilum_adt::settings::SourceSettings::default()
    };
    let house = House::with_settings(settings);
    house.send(&msg("A01", "1", "010800", "1", "9999999").at("W1^101^1^H").text()).await;
    house.send(&msg("A01", "2", "010900", "2", "9999999").at("W2^201^1^H").name("Lee^Two").text()).await;
    house.run().await;
    assert_eq!(house.census().await.len(), 2);
}

/// No event's own time may put it behind what comes later, were it EVN-2 or EVN-6 that lies ahead; what is announced
/// sorts by when it was said.
#[tokio::test]
async fn a_time_ahead_sorts_in_no_event() {
    let latest = hilum_core::Timestamp::from_micros(1_772_323_200_000_000 + 86_400_000_000);
    let mut with_facts = 0;
    for row in trigger::TRIGGERS {
        for ahead in ["EVN-2", "EVN-6"] {
            let house = House::new();
            let one =
                msg(row.event, "1", "010800", "1", "V1").at("W1^101^1^H").with("MRG|2^^^H^MR||||V1^^^H^VN");
            let one = if ahead == "EVN-2" { one.recorded("20290301") } else { one.event_time("20290301") };
            let two = msg(row.event, "1", "010800", "3", "V3");
            let text = if matches!(row.event, "A17" | "A24" | "A37") {
                one.with_second(Some(&two))
            } else {
                one.text()
            };
            house.send(&text).await;
            house.run().await;
            for fact in house.rows(&adt::FACT).await {
                with_facts += 1;
                for column in ["moved", "said"] {
                    let at = adt::FACT.column(column).unwrap();
                    let Value::Bytes(bytes) = &fact.values[at] else { panic!("a stamp") };
                    let stamp = Stamp::from_slice(bytes).unwrap();
                    assert!(stamp.at().unwrap() < latest, "{} sorts by {ahead} as {column}", row.event);
                }
            }
        }
    }
    assert!(with_facts > 60, "{with_facts}");
}

#[tokio::test]
async fn back_from_a_leave_that_was_to_begin_later() {
    let house = House::new();
    for message in [
        msg("A01", "1", "010800", "1", "V1").at("W1^101^1^H"),
        msg("A21", "2", "011000", "1", "V1").event_time("021000"),
        msg("A22", "3", "011200", "1", "V1").at("W1^101^1^H"),
    ] {
        house.send(&message.text()).await;
    }
    house.run().await;
    assert_eq!(house.census().await, ["inpatient W1-101-1 I in-progress Kim, Min"]);
}

#[tokio::test]
async fn one_group_of_a_merge_that_pairs_with_nothing_leaves_the_others() {
    let house = House::new();
    house.send(&msg("A01", "1", "010800", "1", "V1").at("W1^101^1^H").text()).await;
    house.send(&msg("A01", "2", "010800", "5", "V5").at("W5^501^1^H").name("Lee^Five").text()).await;
    let text = "MSH|^~\\&|APP|H|HILUM|H|20260301110000||ADT^A40|3|P|2.5\rEVN||20260301110000\r\
        PID|1||2^^^H^MR||Kim^New\rMRG|1^^^H^MR\r\
        PID|2||4^^^H^MR||Park^Four\rMRG|3^^^X^MR\r\
        PID|3||6^^^H^MR||Lee^Six\rMRG|5^^^H^MR\r";
    let record = house.send(text).await;
    house.run().await;
    assert_eq!(
        house.census().await,
        ["inpatient W1-101-1 I in-progress Kim, New", "inpatient W5-501-1 I in-progress Lee, Six"]
    );
    let message = house.message(record).await;
    assert_eq!(message["status"], "findings");
    assert!(message["findings"].contains("merge.unpaired"), "{}", message["findings"]);
}

#[tokio::test]
async fn no_text_of_a_message_is_too_long_for_a_key() {
    let house = House::new();
    // One byte each on the wire, three in the chart.
    let control = "\u{1}".repeat(400);
    let long = "W".repeat(3_000);
    let messages = [
        msg("A01", "1", "010800", &control, "V1").at("W1^101^1^H").text(),
        msg("A01", "2", "010800", "2", &control).at("W2^201^1^H").text(),
        msg("A01", "3", "010800", "3", "V3").pid3(&format!("3^^^H^MR~{control}^^^B^PI")).text(),
        format!(
            "MSH|^~\\&|A|H|B|H|20260301100000||ADT^A20|4|P|2.5\rEVN||20260301100000\r\
             NPU|{long}^{long}^\u{0}{long}^{long}|{long}\r"
        ),
    ];
    for text in &messages {
        house.send(text).await;
    }
    house.run_to_the_end().await;
    for message in house.messages().await {
        assert!(!message["rule"].starts_with("apply."), "{message:?}");
    }
    assert_eq!(house.table(&adt::BED).await.len(), 1);
    assert_eq!(house.census().await.len(), 3);
}
