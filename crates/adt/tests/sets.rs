//! What a patient's and a visit's marks, rows and work rest on is the set of messages: not what came last, not what was
//! read with it, not the cut into batches.
#![allow(clippy::unwrap_used)]

mod harness;

use std::fmt::Write as _;
use std::sync::Arc;

use harness::stream::{Dice, corrected, messages};
use harness::{House, Msg, how_many};
use hilum_adt::decision::Decision;
use hilum_adt::project::{Adt, Planted};
use hilum_adt::tables as adt;
use hilum_chart::projection::Projection as _;

fn msg(event: &'static str, control: &str, at: &str, patient: &str, visit: &str) -> Msg {
    Msg::new(event, control, at, patient, visit)
}

/// An MRG that pairs with nothing: quarantined, about patient `patient`.
fn set_aside(control: &str, at: &str, patient: &str) -> Msg {
    msg("A40", control, at, patient, "").with("MRG|9^^^X^MR").without_pv1()
}

/// Every order of few messages, each in a batch of its own and all in one, ends in one census; which is given.
async fn census_of(messages: &[Msg]) -> Vec<String> {
    let texts: Vec<String> = messages.iter().map(Msg::text).collect();
    let mut seen: Option<(String, Vec<String>)> = None;
    for order in orders(&(0..texts.len()).collect::<Vec<_>>()) {
        for records in [1, 500] {
            let house = House::new();
            for at in &order {
                house.send(&texts[*at]).await;
                if records == 1 {
                    house.run().await;
                }
            }
            house.run_in_batches_of(records).await;
            let now = (house.canonical().await, house.census().await);
            match &seen {
                Some(before) => assert_eq!(before.0, now.0, "order {order:?}, {records} a batch"),
                None => seen = Some(now),
            }
        }
    }
    seen.unwrap().1
}

fn orders(items: &[usize]) -> Vec<Vec<usize>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let with = |first: &usize| {
        let rest: Vec<usize> = items.iter().copied().filter(|one| one != first).collect();
        let first = *first;
        orders(&rest).into_iter().map(move |mut tail| {
            tail.insert(0, first);
            tail
        })
    };
    items.iter().flat_map(with).collect()
}

#[tokio::test]
async fn a_shared_identifier_stays_marked_whatever_comes_last() {
    let one = || msg("A01", "1", "010800", "1", "V1").at("W1^101^1^H").pid3("1^^^H^MR~77^^^B^PI");
    let two =
        || msg("A01", "2", "010900", "2", "V2").at("W2^201^1^H").pid3("2^^^H^MR~77^^^B^PI").name("Lee^Two");
    let cases: Vec<(&str, Vec<Msg>, &[&str])> = vec![
        (
            "a quarantined message about one of them",
            vec![one(), two(), set_aside("3", "011000", "1")],
            &[
                "inpatient W1-101-1 I in-progress Kim, Min not-applied:1,shared-identifier",
                "inpatient W2-201-1 I in-progress Lee, Two shared-identifier",
            ],
        ),
        (
            "a message of somebody else on a visit of one of them",
            vec![one(), two(), msg("A08", "3", "011000", "3", "V1").name("Park^Three")],
            &[
                "inpatient W1-101-1 I in-progress Park, Three patient-differs",
                "inpatient W2-201-1 I in-progress Lee, Two shared-identifier",
            ],
        ),
        (
            "a merge of others of the family",
            vec![
                one(),
                two(),
                msg("A40", "3", "011000", "4", "")
                    .pid3("4^^^H^MR~77^^^H^PI")
                    .with("MRG|5^^^H^MR")
                    .without_pv1(),
            ],
            &[
                "inpatient W1-101-1 I in-progress Kim, Min shared-identifier",
                "inpatient W2-201-1 I in-progress Lee, Two shared-identifier",
            ],
        ),
        (
            "a number that is somebody's primary one, not named any more",
            vec![
                msg("A01", "1", "010800", "1", "V1").at("W1^101^1^H").pid3("1^^^H^MR~22^^^B^MR"),
                msg("A01", "2", "010900", "2", "V2").at("W2^201^1^H").pid3("22^^^B^MR").name("Lee^Two"),
                msg("A08", "3", "011000", "1", "V1"),
            ],
            &[
                "inpatient W1-101-1 I in-progress Kim, Min shared-identifier",
                "inpatient W2-201-1 I in-progress Lee, Two shared-identifier",
            ],
        ),
    ];
    for (why, messages, want) in cases {
        assert_eq!(census_of(&messages).await, want, "{why}");
    }
}

#[tokio::test]
async fn decided_work_stays_decided() {
    let house = House::new();
    house.send(&msg("A01", "1", "010800", "1", "V1").pid3("1^^^H^MR~77^^^B^PI").text()).await;
    house.send(&msg("A01", "2", "010900", "2", "V2").pid3("2^^^H^MR~77^^^B^PI").text()).await;
    house.run().await;
    for work in house.work().await {
        let (work, by, note) = (work["id"].parse().unwrap(), "kim".to_owned(), String::new());
        house.decide(&Decision::Settle { work, by, note }).await;
    }
    house.run().await;
    house.send(&msg("A08", "3", "011000", "1", "V1").text()).await;
    house.send(&set_aside("4", "011000", "2").text()).await;
    house.run().await;
    let states: Vec<String> = house.work().await.into_iter().map(|work| work["state"].clone()).collect();
    assert_eq!(states, ["decided", "decided"]);
}

#[tokio::test]
async fn work_that_is_decided_stays_so_in_the_batch_of_the_decision() {
    for records in [1, 500] {
        let house = House::new();
        for number in ["1", "2", "3"] {
            let pid3 = format!("{number}^^^H^MR~77^^^B^PI");
            house.send(&msg("A01", number, "010800", number, number).pid3(&pid3).text()).await;
        }
        house.run().await;
        let work = house.work().await[0]["id"].parse().unwrap();
        let (old, new, by) = (house.patient_id("1"), house.patient_id("2"), "kim".to_owned());
        let settle = Decision::Settle { work, by: by.clone(), note: String::new() };
        let link = Decision::Merge { old, new, by, reason: String::new() };
        let mut both = [house.decision(&settle), house.decision(&link)];
        both[1].key = both[0].key;
        house.append_all(&both).await;
        house.run_in_batches_of(records).await;
        let decided = house.work().await.into_iter().filter(|one| one["id"] == work.to_string());
        let states: Vec<String> = decided.map(|one| one["state"].clone()).collect();
        assert_eq!(states, ["decided"], "{records} a batch");
    }
}

#[tokio::test]
async fn flags_that_flip_in_one_batch_flip_as_in_two() {
    // Each of the later two alone leaves the person confidential.
    let messages = [
        msg("A01", "1", "010800", "1", "V1").with("PD1||||||||||||Y"),
        msg("A31", "2", "010900", "1", "").with("ARV|1|A|DEM").without_pv1(),
        msg("A31", "3", "011000", "1", "").with("PD1||||||||||||N").without_pv1(),
        msg("A31", "4", "011100", "1", "").with("ARV|1|D|DEM").without_pv1(),
    ];
    census_of(&messages).await;
    for first in [2, 3] {
        let house = House::new();
        for (at, message) in messages.iter().enumerate() {
            if at == first {
                house.run().await;
                let encounter = &house.resources("Encounter").await[0];
                assert_eq!(encounter["meta"]["security"][0]["code"], "R");
            }
            house.send(&message.text()).await;
        }
        house.run().await;
        let encounter = &house.resources("Encounter").await[0];
        assert!(encounter["meta"].get("security").is_none(), "{first}: {encounter}");
    }
}

fn inferred(event: &'static str, control: &str, at: &str) -> Msg {
    msg(event, control, at, "1", "").at("W1^101^1^H")
}

#[tokio::test]
async fn diagnoses_of_visits_without_a_number_belong_to_their_stay() {
    let stays = || {
        vec![
            inferred("A01", "1", "010800").with("DG1|1||J18^Pneumonia^I10|||A"),
            inferred("A03", "2", "010900"),
            inferred("A01", "3", "021000").with("DG1|1||I10^Hypertension^I10|||A"),
        ]
    };
    assert_eq!(census_of(&stays()).await, ["inpatient W1-101-1 I in-progress Kim, Min key-inferred"]);
    let house = House::new();
    for message in stays() {
        house.send(&message.text()).await;
        house.run().await;
    }
    let of = |conditions: Vec<serde_json::Value>| {
        let pair = |one: &serde_json::Value| {
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (text(&one["code"]["coding"][0]["code"]), text(&one["encounter"]["reference"]))
        };
        conditions.iter().map(pair).collect::<std::collections::BTreeMap<String, String>>()
    };
    let before = of(house.resources("Condition").await);
    assert_eq!(before.len(), 2);
    assert_ne!(before["J18"], before["I10"]);
    // With a merge both stays get other ids: no Condition of the old ones is left.
    house.send(&msg("A40", "4", "021100", "2", "").with("MRG|1^^^H^MR").without_pv1().text()).await;
    house.run().await;
    let after = of(house.resources("Condition").await);
    let encounters: Vec<String> = house
        .resources("Encounter")
        .await
        .iter()
        .map(|one| format!("Encounter/{}", one["id"].as_str().unwrap()))
        .collect();
    assert_eq!(house.resources("Condition").await.len(), 2);
    assert!(after.values().all(|encounter| encounters.contains(encounter)), "{after:?} {encounters:?}");
    assert_ne!(after["J18"], before["J18"]);
}

#[tokio::test]
async fn a_class_that_changes_without_a_visit_number_leaves_one_row() {
    let emergency = || inferred("A04", "1", "010800").class("E").at("ED^1^^H");
    let cases: Vec<(&str, Vec<Msg>, &[&str])> = vec![
        (
            "A06",
            vec![emergency(), inferred("A06", "2", "011000").class("I")],
            &["inpatient W1-101-1 I in-progress Kim, Min key-inferred"],
        ),
        (
            "A06 without a class",
            vec![emergency(), inferred("A06", "2", "011000").class("")],
            &["inpatient W1-101-1 I in-progress Kim, Min key-inferred"],
        ),
        (
            "A06 and then A03: nobody is left",
            vec![emergency(), inferred("A06", "2", "011000"), inferred("A03", "3", "021000")],
            &[],
        ),
        (
            "A07 and what comes late under the old class",
            vec![
                inferred("A01", "1", "010800"),
                inferred("A07", "2", "011000").class("O").at("CLINIC^^^H"),
                inferred("A08", "3", "011100").pv1(44, "202603010800"),
            ],
            &["outpatient CLINIC-- O in-progress Kim, Min key-inferred"],
        ),
        (
            "an inpatient who sees a clinic keeps the bed",
            vec![inferred("A01", "1", "010800"), inferred("A04", "2", "011000").class("O").at("CLINIC^^^H")],
            &[
                "inpatient W1-101-1 I in-progress Kim, Min key-inferred",
                "outpatient CLINIC-- O arrived Kim, Min key-inferred",
            ],
        ),
        (
            "back in the emergency department after the stay that began there",
            vec![
                emergency(),
                inferred("A06", "2", "011000"),
                inferred("A03", "3", "021000"),
                inferred("A04", "4", "030800").class("E").at("ED^2^^H"),
            ],
            &["emergency ED-2- E arrived Kim, Min key-inferred"],
        ),
    ];
    for (why, messages, want) in cases {
        assert_eq!(census_of(&messages).await, want, "{why}");
    }
}

#[tokio::test]
async fn what_the_program_fails_on_marks_patient_and_board() {
    let mut house = House::new();
    let projection = Adt::new(house.key.clone(), house.clock.clone()).planted(Planted::FailsOn("2"));
    house.projection = Arc::new(projection);
    house.send(&msg("A01", "1", "010800", "1", "V1").at("W1^101^1^H").text()).await;
    let wrong = msg("A02", "2", "010900", "1", "V1").at("W2^201^1^H").text();
    let record = house.send(&wrong).await;
    house.send(&msg("A08", "3", "011000", "1", "V1").name("Kim^New").text()).await;
    house.run_to_the_end().await;
    let message = house.message(record).await;
    assert_eq!((message["status"].as_str(), message["rule"].as_str()), ("quarantined", "apply.panic"));
    assert_eq!(message["patient"], house.patient_id("1").to_string(), "it is found by its patient");
    assert_eq!(house.census().await, ["inpatient W1-101-1 I in-progress Kim, New not-applied:1"]);
    house.send_as("default", wrong.replace("|2|P", "|4|P").as_bytes(), Some(record)).await;
    house.run_to_the_end().await;
    assert_eq!(house.census().await, ["inpatient W2-201-1 I in-progress Kim, New"]);
}

/// All tables of the room, without the columns that tell when something was done.
async fn all_rows(house: &House) -> String {
    let mut text = String::new();
    for table in adt::TABLES {
        for mut row in house.table(table).await {
            row.retain(|column, _| !Adt::NOT_COMPARED.contains(&(table.name, *column)));
            writeln!(text, "{} {row:?}", table.name).unwrap();
        }
    }
    text
}

#[tokio::test]
async fn the_cut_into_batches_leaves_no_trace_in_any_table() {
    let closed = ["A29", "A26", "A27"];
    let closed = closed.iter().enumerate().map(|(at, event)| {
        let one = msg(event, &at.to_string(), "010800", "1", "V1").at("W1^101^1^H");
        if *event == "A29" { one.without_pv1().text() } else { one.text() }
    });
    let mut streams: Vec<Vec<String>> = vec![closed.collect()];
    streams.extend((0..how_many("HILUM_BATCH_SEEDS", 6)).map(|seed| messages(1_000 + seed, 60)));
    for (at, stream) in streams.iter().enumerate() {
        let (maker, dice) = (House::new(), Dice::new(at as u64));
        let mut all = maker.envelopes(stream);
        let corrections = stream
            .iter()
            .zip(&all)
            .filter_map(|(raw, envelope)| corrected(raw).map(|right| maker.correction_of(envelope, &right)));
        let corrections: Vec<_> = corrections.collect();
        let copies: Vec<_> = all.iter().filter(|_| dice.one_in(6)).map(|one| maker.copy_of(one)).collect();
        all.extend(corrections);
        all.extend(copies);
        let mut want: Option<String> = None;
        for records in [1, 7, 500] {
            let house = House::new();
            house.pass_time(10 * 86_400);
            house.append_all(&all).await;
            house.run_in_batches_of(records).await;
            let got = all_rows(&house).await;
            match &want {
                Some(want) => assert!(*want == got, "stream {at}: {}", difference(want, &got)),
                None => want = Some(got),
            }
        }
    }
}

fn difference(one: &str, two: &str) -> String {
    let only = |these: &str, those: &str| -> Vec<String> {
        these.lines().filter(|line| !those.contains(line)).take(3).map(str::to_owned).collect()
    };
    format!("{:#?}\n{:#?}", only(one, two), only(two, one))
}

/// One run of the messages in an order given by `seed`, in batches of `records`.
async fn shuffled(all: &[hilum_core::Envelope], seed: u64, records: usize, few: Option<usize>) -> String {
    let mut house = House::new();
    house.pass_time(10 * 86_400);
    if let Some(few) = few {
        let projection = Adt::new(house.key.clone(), house.clock.clone()).planted(Planted::FewFacts(few));
        house.projection = Arc::new(projection);
    }
    let mut order = all.to_vec();
    if seed > 0 {
        Dice::new(seed).shuffle(&mut order);
    }
    house.append_all(&order).await;
    house.run_in_batches_of(records).await;
    house.canonical().await
}

#[tokio::test]
async fn at_the_bounds_the_set_decides() {
    // More patients than are remembered of one identifier.
    let shared: Vec<String> = (0..80)
        .map(|n| {
            let number = format!("{}", 100 + n);
            let pid3 = format!("{number}^^^H^MR~77^^^B^PI");
            msg("A01", &number, "010800", &number, &format!("V{n}")).pid3(&pid3).text()
        })
        .collect();
    // More facts than are kept of one visit.
    let mut many: Vec<String> = vec![msg("A01", "0", "010800", "1", "V1").at("W1^101^1^H").text()];
    many.extend((0..30).map(|n| {
        let place = format!("W{n}^1^1^H");
        msg("A02", &format!("{n}"), &format!("0109{n:02}"), "1", "V1").at(&place).text()
    }));
    for (messages, few) in [(shared, None), (many, Some(8))] {
        let all = House::new().envelopes(&messages);
        let want = shuffled(&all, 0, 500, few).await;
        for (seed, records) in [(1, 1), (2, 7), (3, 500)] {
            let got = shuffled(&all, seed, records, few).await;
            assert!(want == got, "seed {seed}: {}", difference(&want, &got));
        }
        if few.is_none() {
            assert_eq!(want.lines().filter(|line| line.starts_with("adt_carrier")).count(), 64);
            let marked = |line: &&str| line.starts_with("adt_board") && line.contains("shared-identifier");
            assert_eq!(want.lines().filter(marked).count(), 80, "also those who are not remembered");
        } else {
            assert_eq!(want.lines().filter(|line| line.starts_with("adt_fact")).count(), 8);
        }
    }
}

#[tokio::test]
async fn a_feed_that_cannot_be_read_costs_its_patient_one_bounded_row() {
    let house = House::new();
    house.send(&msg("A01", "0", "010800", "1", "V1").at("W1^101^1^H").text()).await;
    let wrong: Vec<String> = (0..1_020).map(|n| set_aside(&format!("{n}"), "010900", "1").text()).collect();
    house.send_all(&wrong).await;
    house.run().await;
    assert_eq!(house.census().await, ["inpatient W1-101-1 I in-progress Kim, Min not-applied:1000"]);
}
