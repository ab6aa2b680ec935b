//! What is odd is said where it is looked for: of the message, of the patient, of the encounter.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{House, Msg};
use hilum_adt::decision::Decision;
use hilum_adt::settings::SourceSettings;
use hilum_adt::view::patient;
use hilum_chart::Chart;
use hilum_core::{Authority, Role};

fn merge(control: &str, at: &str, old: &str, new: &str) -> String {
    Msg::new("A40", control, at, new, "").with(&format!("MRG|{old}^^^H^MR")).without_pv1().text()
}

fn admission() -> Msg {
    Msg::new("A01", "1", "011100", "1", "V1").at("W1^101^1^H")
}

#[tokio::test]
async fn rule_16_a_self_merge_is_said_by_its_message() {
    let house = House::new();
    house.send(&admission().text()).await;
    let own = house.send(&merge("M1", "011200", "1", "1")).await;
    let other = house.send(&merge("M2", "011300", "2", "1")).await;
    house.run().await;
    let message = house.message(own).await;
    assert_eq!(message["status"], "findings");
    let finding = &message["findings"];
    assert!(finding.contains("merge.self") && finding.contains("MRG-1"), "{finding}");
    assert_eq!(house.message(other).await["status"], "applied");
    assert_eq!(house.work().await.len(), 1, "and it is work as before");
}

/// Which message closes a circle depends on the others: all who are in it are marked, and the work names all messages.
#[tokio::test]
async fn rule_16_a_circle_of_merges_marks_all_who_are_in_it_in_any_order() {
    let messages =
        [merge("M1", "011200", "B", "A"), merge("M2", "011300", "C", "B"), merge("M3", "011400", "A", "C")];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let house = House::new();
        house.send(&Msg::new("A01", "1", "010800", "A", "V1").at("W1^101^1^H").text()).await;
        house.send(&Msg::new("A01", "2", "010800", "Z", "V2").at("W1^101^2^H").text()).await;
        let mut records = Vec::new();
        for at in order {
            records.push(house.send(&messages[at]).await);
            house.run().await;
        }
        let census = house.census().await;
        assert!(census[0].ends_with("merge-cycle") && !census[1].contains("merge-cycle"), "{census:?}");
        for number in ["A", "B", "C"] {
            let patient = house.resource("Patient", house.patient_id(number)).await;
            assert!(patient["meta"]["tag"].to_string().contains("merge-cycle"), "{order:?} {number}");
        }
        let work = house.work().await;
        assert_eq!(work.len(), 1, "{order:?}");
        let named = format!("{} {}", work[0]["message"], work[0]["detail"]);
        for record in records {
            let message = house.message(record).await;
            assert!(named.contains(&message["effect"]), "{order:?}: {named}");
            assert_eq!(message["status"], "applied", "{order:?}");
        }
    }
}

/// A source that takes a merge back by sending it the other way round: an operator ends the mark, in whatever order the
/// decision and the messages are read.
#[tokio::test]
async fn rule_16_a_circle_that_was_settled_marks_nobody() {
    let messages = [merge("M1", "011200", "B", "A"), merge("M2", "011300", "A", "B")];
    let is_marked = async |house: &House, other: &str| {
        let board = house.census().await.join("\n").contains("merge-cycle");
        for number in ["A", other] {
            let patient = house.resource("Patient", house.patient_id(number)).await;
            assert_eq!(patient["meta"]["tag"].to_string().contains("merge-cycle"), board, "{number}");
        }
        board
    };
    let begun = async || {
        let house = House::new();
        house.send(&Msg::new("A01", "1", "010800", "A", "V1").at("W1^101^1^H").text()).await;
        house
    };
    let house = begun().await;
    house.send_all(&messages).await;
    house.run().await;
    assert!(is_marked(&house, "B").await, "until somebody has looked");
    let item = house.work().await[0]["id"].parse().unwrap();
    let settle = Decision::Settle { work: item, by: "kim".to_owned(), note: String::new() };
    house.decide(&settle).await;
    house.run().await;
    assert!(!is_marked(&house, "B").await, "and from then on at once");
    assert_eq!(house.work().await[0]["state"], "decided");
    let canonical = house.canonical().await;
    assert_eq!(house.rebuild().await.differing(), 0, "the decision is read first");
    assert_eq!(house.canonical().await, canonical);
    // Before there is anything to settle, between both merges.
    for before in [0, 1] {
        let other = begun().await;
        for (at, message) in messages.iter().enumerate() {
            if at == before {
                other.decide(&settle).await;
                other.run().await;
            }
            other.send(message).await;
            other.run().await;
        }
        assert!(!is_marked(&other, "B").await, "{before}");
    }
    // Another circle of the same patients is another item.
    house.send(&merge("M3", "011400", "C", "A")).await;
    house.send(&merge("M4", "011500", "A", "C")).await;
    house.run().await;
    assert!(is_marked(&house, "C").await, "what was not looked at");
    assert_eq!(house.rebuild().await.differing(), 0);
}

#[tokio::test]
async fn rule_14_a_guessed_authority_is_said_to_be_one() {
    let named = SourceSettings { authority: Some("SEOUL".to_owned()), ..SourceSettings::default() };
    let cases = [
        ("neither CX.4 nor MSH-4", SourceSettings::default(), "1^^^^MR", false, "default", true),
        ("MSH-4", SourceSettings::default(), "1^^^^MR", true, "HOSP", false),
        ("the source's settings", named, "1^^^^MR", false, "SEOUL", false),
        ("said", SourceSettings::default(), "1^^^H^MR", false, "H", false),
    ];
    for (why, settings, pid3, has_facility, authority, is_guessed) in cases {
        let house = House::with_settings(settings);
        let text = admission().pid3(pid3).text();
        let mut header: Vec<&str> = text.split('\r').next().unwrap().split('|').collect();
        header[3] = if has_facility { "HOSP" } else { "" };
        let rest = text.split_once('\r').unwrap().1;
        house.send(&format!("{}\r{rest}", header.join("|"))).await;
        house.run().await;
        let chart = Chart::open(house.tables.clone(), house.clock.clone());
        let viewer = Authority::new("key:test", Role::Viewer);
        let sight = house.sight(&chart, &viewer);
        let id = hilum_adt::identity::number_id(&house.key, authority, "1");
        let page = patient::read(sight, id).await.unwrap_or_else(|error| panic!("{why}: {error}"));
        assert_eq!(page.identifiers[0].authority_guessed, is_guessed, "{why}");
        assert_eq!(page.records[0].identifier.as_ref().unwrap().authority_guessed, is_guessed, "{why}");
        let twin = serde_json::to_string(&page).unwrap();
        assert_eq!(twin.contains("\"authorityGuessed\":true"), is_guessed, "{why}: {twin}");
        let board = house.board().await;
        assert_eq!(board[0]["detail"].contains("authorityGuessed"), is_guessed, "{why}");
    }
}

/// Attack report 5, no. 1: an admission by a fast clock holds somebody in the house who has gone.
#[tokio::test]
async fn a_discharge_before_its_admission_is_marked() {
    let discharge = |control: &str, at: &str| Msg::new("A03", control, at, "1", "V1").at("W1^101^1^H");
    let mark = "discharge-before-admission";
    let cases = [
        ("a fast clock admits", vec![discharge("2", "011030").text()], true),
        (
            "a move of the right clock beside it",
            vec![
                Msg::new("A02", "2", "010900", "1", "V1").at("W2^1^1^H").text(),
                discharge("3", "011030").text(),
            ],
            true,
        ),
        ("in order: gone", vec![discharge("2", "011130").text()], false),
        (
            "taken back",
            vec![
                discharge("2", "011030").text(),
                Msg::new("A13", "3", "011230", "1", "V1").at("W1^101^1^H").text(),
            ],
            false,
        ),
        (
            "a visit of which the begin was not seen, and then the next one on its number: it may be either",
            vec![discharge("2", "010900").text()],
            true,
        ),
        (
            "the one after that",
            vec![
                discharge("2", "010900").text(),
                discharge("3", "011130").text(),
                Msg::new("A01", "4", "011200", "1", "V1").at("W1^101^1^H").text(),
            ],
            false,
        ),
        (
            "admitted once more after a stay",
            vec![
                Msg::new("A01", "2", "010800", "1", "V1").at("W1^101^1^H").text(),
                discharge("3", "010900").text(),
            ],
            false,
        ),
    ];
    for (why, messages, is_marked) in cases {
        for turned in [false, true] {
            let house = House::new();
            let mut all: Vec<String> = [admission().text()].into_iter().chain(messages.clone()).collect();
            if turned {
                all.reverse();
            }
            house.send_all(&all).await;
            house.run().await;
            let census = house.census().await.join("\n");
            assert_eq!(census.contains(mark), is_marked, "{why}: {census}");
            let encounter = house.resources("Encounter").await;
            assert_eq!(encounter[0]["meta"]["tag"].to_string().contains(mark), is_marked, "{why}");
        }
    }
}

#[tokio::test]
async fn an_admission_time_that_cannot_be_is_a_finding() {
    let cases = [
        ("as usual", admission().pv1(44, "20260301110000"), None),
        ("year 1 as begin", admission().pv1(44, "00010101"), Some("PV1-44")),
        ("the year before 1900", admission().pv1(44, "18991231"), Some("PV1-44")),
        ("1900", admission().pv1(44, "19000102"), None),
        ("two days after its receipt", admission().pv1(44, "20260403000001"), Some("PV1-44")),
        ("the evening of its receipt", admission().pv1(44, "20260401200000"), None),
        ("recorded in year 1", admission().recorded("00010101"), Some("EVN-2")),
        ("happened in 1899", admission().event_time("18990101"), Some("EVN-6")),
    ];
    for (why, message, path) in cases {
        let house = House::new();
        let record = house.send(&message.text()).await;
        house.run().await;
        let findings = house.message(record).await["findings"].clone();
        let want = path.map(|path| format!("\"path\":\"{path}\""));
        assert_eq!(findings.contains("admission-time"), path.is_some(), "{why}: {findings}");
        assert!(want.is_none_or(|want| findings.contains(&want)), "{why}: {findings}");
    }
    // The local date counts: midnight in Seoul is the day before in UTC.
    let cases = [
        ("1900 in Seoul", admission().pv1(44, "19000101"), false),
        ("the year before", admission().pv1(44, "18991231235959"), true),
        ("recorded in Seoul's 1900", admission().recorded("19000101080000"), false),
        ("1899 where it was said, 1900 in UTC", admission().pv1(44, "18991231230000-0500"), true),
    ];
    for (why, message, is_found) in cases {
        let zone = "Asia/Seoul".to_owned();
        let house = House::with_settings(SourceSettings { zone, ..SourceSettings::default() });
        let record = house.send(&message.text()).await;
        house.run().await;
        let findings = house.message(record).await["findings"].clone();
        assert_eq!(findings.contains("admission-time"), is_found, "{why}: {findings}");
    }
    // A clock that is ahead says so by itself.
    let house = House::new();
    let text = admission().pv1(44, "20290301110000").text().replace("20260301", "20290301");
    let record = house.send(&text).await;
    house.run().await;
    let findings = house.message(record).await["findings"].clone();
    assert!(findings.contains("source-clock") && !findings.contains("admission-time"), "{findings}");
}
