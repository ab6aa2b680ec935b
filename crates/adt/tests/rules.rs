//! The clinical rules, each as messages in and board, encounters and work out, through the whole projection.
#![allow(clippy::unwrap_used, clippy::string_slice)]

mod harness;

use harness::{House, Msg};

fn msg(event: &'static str, control: &str, at: &str, patient: &str, visit: &str) -> Msg {
    Msg::new(event, control, at, patient, visit)
}

/// Sends the messages, once in order and once turned round, and gives the census of both.
async fn census_of(messages: &[String]) -> Vec<String> {
    let forward = House::new();
    for message in messages {
        forward.send(message).await;
        forward.run().await;
    }
    let backward = House::new();
    for message in messages.iter().rev() {
        backward.send(message).await;
        backward.run().await;
    }
    assert_eq!(forward.canonical().await, backward.canonical().await, "the order of arrival has a part");
    forward.census().await
}

#[tokio::test]
async fn an_admission_stands_on_the_board() {
    let census = census_of(&[msg("A01", "1", "010800", "1", "V1").at("W1^101^1^H").text()]).await;
    assert_eq!(census, ["inpatient W1-101-1 I in-progress Kim, Min"]);
}

/// (why, messages, census)
type Case = (&'static str, Vec<Msg>, &'static [&'static str]);

async fn check(cases: Vec<Case>) {
    for (why, messages, want) in cases {
        let messages: Vec<String> = messages.iter().map(Msg::text).collect();
        assert_eq!(census_of(&messages).await, want, "{why}");
    }
}

fn a01() -> Msg {
    msg("A01", "1", "010800", "1", "V1").at("W1^101^1^H")
}

#[tokio::test]
async fn rule_1_movements_and_content_have_clocks_of_their_own() {
    check(vec![
        (
            "a transfer told late and dated back does not undo the one after it",
            vec![
                a01(),
                msg("A02", "2", "011200", "1", "V1").at("W3^301^1^H"),
                msg("A02", "3", "011300", "1", "V1").at("W2^201^1^H").event_time("011000"),
            ],
            &["inpatient W3-301-1 I in-progress Kim, Min"],
        ),
        (
            "a back-dated admission typed today carries today's demographics",
            vec![
                msg("A04", "1", "010700", "1", "V0").class("O").name("Kim^Old"),
                msg("A01", "2", "020900", "1", "V1").at("W1^101^1^H").event_time("010800").name("Kim^New"),
            ],
            &["inpatient W1-101-1 I in-progress Kim, New", "outpatient -- O arrived Kim, New"],
        ),
        (
            "an older name that comes late does not replace the newer one",
            vec![a01().name("Kim^New"), msg("A31", "2", "010600", "1", "").name("Kim^Old").without_pv1()],
            &["inpatient W1-101-1 I in-progress Kim, New"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn rule_2_ties_are_decided_and_marked() {
    check(vec![
        (
            "two transfers in one minute: decided by a convention, and said so",
            vec![
                a01(),
                msg("A02", "2", "011200", "1", "V1").at("W2^201^1^H").event_time("202603011200"),
                msg("A03", "3", "011201", "1", "V1").event_time("202603011200"),
            ],
            &[],
        ),
        (
            "an admission and a transfer of the same second",
            vec![a01(), msg("A02", "2", "010800", "1", "V1").at("W2^201^1^H")],
            &["inpatient W2-201-1 I in-progress Kim, Min order-uncertain"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn rule_3_a_time_far_ahead_does_not_sort() {
    let ahead = msg("A02", "2", "011000", "1", "V1").at("W2^201^1^H").recorded("20290301100000");
    let later = msg("A02", "3", "011200", "1", "V1").at("W3^301^1^H");
    check(vec![("EVN-2 in 2029", vec![a01(), ahead, later], &["inpatient W3-301-1 I in-progress Kim, Min"])])
        .await;
    let house = House::new();
    let record = house
        .send(&msg("A02", "2", "011000", "1", "V1").at("W2^201^1^H").recorded("20290301100000").text())
        .await;
    house.run().await;
    let message = house.message(record).await;
    assert_eq!(message["status"], "findings");
    assert!(message["findings"].contains("time-ahead"), "{}", message["findings"]);
}

#[tokio::test]
async fn rule_3_a_fast_clock_is_a_finding() {
    let house = House::new();
    let right = house.send(&a01().text()).await;
    // It sorts, whatever the clock says: what came later with a right one stands before it.
    let fast = house
        .send(&msg("A02", "2", "011000", "1", "V1").at("W2^201^1^H").text().replace("20260301", "20290301"))
        .await;
    house.send(&msg("A02", "3", "011200", "1", "V1").at("W3^301^1^H").text()).await;
    house.run().await;
    assert_eq!(house.census().await, ["inpatient W2-201-1 I in-progress Kim, Min"]);
    assert_eq!(house.message(right).await["status"], "applied");
    let message = house.message(fast).await;
    assert_eq!(message["status"], "findings");
    assert!(message["findings"].contains("source-clock"), "{}", message["findings"]);
}

#[tokio::test]
async fn rule_4_msh_9_decides() {
    let house = House::new();
    let text = a01().text().replace("EVN||", "EVN|A08|");
    let record = house.send(&text).await;
    house.run().await;
    assert!(house.message(record).await["findings"].contains("event-differs"));
    assert_eq!(house.census().await, ["inpatient W1-101-1 I in-progress Kim, Min"]);
}

#[tokio::test]
async fn rule_5_cancels() {
    let transfer = || msg("A02", "2", "011000", "1", "V1").at("W2^201^1^H");
    check(vec![
        (
            "A12 takes the transfer back",
            vec![
                a01(),
                transfer(),
                msg("A12", "3", "011100", "1", "V1").at("W1^101^1^H").event_time("011000"),
            ],
            &["inpatient W1-101-1 I in-progress Kim, Min"],
        ),
        (
            "A12 with another place: the message's place stands, and the board says so",
            vec![
                a01(),
                transfer(),
                msg("A12", "3", "011100", "1", "V1").at("W1^102^1^H").event_time("011000"),
            ],
            &["inpatient W1-102-1 I in-progress Kim, Min place-disagrees"],
        ),
        (
            "A12 of the first of two transfers leaves the second",
            vec![
                a01(),
                transfer(),
                msg("A02", "4", "011030", "1", "V1").at("W3^301^1^H"),
                msg("A12", "3", "011100", "1", "V1").at("W3^301^1^H").event_time("011000"),
            ],
            &["inpatient W3-301-1 I in-progress Kim, Min"],
        ),
        (
            "A12 without EVN-6: the latest before it",
            vec![a01(), transfer(), msg("A12", "3", "011100", "1", "V1").at("W1^101^1^H")],
            &["inpatient W1-101-1 I in-progress Kim, Min"],
        ),
        (
            "A13 without its A03: the message's own place, flagged",
            vec![msg("A13", "3", "011100", "1", "V1").at("W1^101^1^H").event_time("011000")],
            &["inpatient W1-101-1 I in-progress Kim, Min admission-unseen,cancel-unmatched"],
        ),
        (
            "A13 with its A03: as if never discharged",
            vec![
                a01(),
                msg("A03", "2", "011000", "1", "V1").at("W1^101^1^H"),
                msg("A13", "3", "011100", "1", "V1").at("W1^101^1^H").event_time("011000"),
            ],
            &["inpatient W1-101-1 I in-progress Kim, Min"],
        ),
        (
            "A13 to the minute of an A03 to the second",
            vec![
                a01(),
                msg("A03", "2", "20260301110030", "1", "V1").at("W1^101^1^H"),
                msg("A13", "3", "202603011100", "1", "V1").at("W1^101^1^H"),
            ],
            &["inpatient W1-101-1 I in-progress Kim, Min"],
        ),
        ("A03 ends it", vec![a01(), msg("A03", "2", "011000", "1", "V1").at("W1^101^1^H")], &[]),
        (
            "A11 takes the admission back, and with it what moved in between",
            vec![a01(), transfer(), msg("A11", "3", "011100", "1", "V1").event_time("010800")],
            &[],
        ),
        (
            "A11 and then admitted again on the same number",
            vec![
                a01(),
                msg("A11", "3", "011100", "1", "V1").event_time("010800"),
                msg("A01", "4", "011200", "1", "V1").at("W4^401^1^H"),
            ],
            &["inpatient W4-401-1 I in-progress Kim, Min"],
        ),
        (
            "A11 of one that was pre-admitted: expected again",
            vec![
                msg("A05", "0", "010700", "1", "V1").at("W1^101^1^H"),
                a01(),
                msg("A11", "3", "011100", "1", "V1").event_time("010800"),
            ],
            &["expected W1-101-1 I planned Kim, Min"],
        ),
        (
            "A38 takes the pre-admission back",
            vec![msg("A05", "0", "010700", "1", "V1").at("W1^101^1^H"), msg("A38", "3", "011100", "1", "V1")],
            &[],
        ),
    ])
    .await;
}

#[tokio::test]
async fn rule_6_tracking_and_leave_hold_the_bed() {
    check(vec![
        (
            "A09 and A10 change the tracked place only",
            vec![
                a01(),
                msg("A09", "2", "011000", "1", "V1").pv1(11, "XRAY^^^H"),
                msg("A10", "3", "011010", "1", "V1").pv1(11, "XRAY^R1^^H").at("XRAY^R1^^H"),
            ],
            &["inpatient W1-101-1 I in-progress Kim, Min"],
        ),
        (
            "A21: on leave, the bed is held",
            vec![a01(), msg("A21", "2", "011000", "1", "V1")],
            &["leave W1-101-1 I onleave Kim, Min"],
        ),
        (
            "A22: back",
            vec![
                a01(),
                msg("A21", "2", "011000", "1", "V1"),
                msg("A22", "3", "011100", "1", "V1").at("W1^101^1^H"),
            ],
            &["inpatient W1-101-1 I in-progress Kim, Min"],
        ),
        (
            "A52 takes the leave back",
            vec![
                a01(),
                msg("A21", "2", "011000", "1", "V1"),
                msg("A52", "3", "011100", "1", "V1").event_time("011000"),
            ],
            &["inpatient W1-101-1 I in-progress Kim, Min"],
        ),
        (
            "A53 takes the return back",
            vec![
                a01(),
                msg("A21", "2", "011000", "1", "V1"),
                msg("A22", "3", "011100", "1", "V1"),
                msg("A53", "4", "011110", "1", "V1").event_time("011100"),
            ],
            &["leave W1-101-1 I onleave Kim, Min"],
        ),
    ])
    .await;
    let house = House::new();
    let bed = "MSH|^~\\&|A|H|B|H|20260301100000||ADT^A20|9|P|2.5\rEVN||20260301100000\rNPU|W1^101^1^H|K\r";
    house.send(bed).await;
    house.run().await;
    let beds = house.table(&hilum_adt::tables::BED).await;
    assert_eq!((beds[0]["bed"].as_str(), beds[0]["status"].as_str()), ("1", "K"));
}

fn merge(event: &'static str, control: &str, at: &str, old: &str, new: &str) -> Msg {
    msg(event, control, at, new, "").with(&format!("MRG|{old}^^^H^MR")).without_pv1()
}

#[tokio::test]
async fn rule_7_merges() {
    for event in ["A18", "A30", "A34", "A36", "A39", "A40"] {
        check(vec![(
            "the old number's visit is the survivor's",
            vec![
                a01().name("Kim^Old").pid(13, "010-1111"),
                msg("A04", "2", "010900", "2", "V2").class("O").name("Kim^New"),
                merge(event, "3", "011000", "1", "2").name("Kim^New"),
                msg("A02", "4", "011100", "1", "V1").at("W2^201^1^H").name("Kim^Old"),
            ],
            &["inpatient W2-201-1 I in-progress Kim, New", "outpatient -- O arrived Kim, New"],
        )])
        .await;
    }
    let house = House::new();
    for message in [
        a01().name("Kim^Old").pid(13, "010-1111"),
        msg("A04", "2", "010900", "2", "V2").class("O").name("Kim^New"),
        merge("A40", "3", "011000", "1", "2").name("Kim^New"),
    ] {
        house.send(&message.text()).await;
    }
    house.run().await;
    let (old, new) = (house.patient_id("1"), house.patient_id("2"));
    let patient = house.resource("Patient", old).await;
    assert_eq!(patient["active"], false);
    assert_eq!(patient["link"][0]["type"], "replaced-by");
    assert_eq!(patient["link"][0]["other"]["reference"], format!("Patient/{new}"));
    let patient = house.resource("Patient", new).await;
    assert_eq!(patient["active"], true);
    assert_eq!(patient["name"][0]["given"][0], "New");
    assert_eq!(patient["telecom"][0]["value"], "010-1111", "the old record fills what is absent");
    assert!(house.work().await.is_empty(), "{:?}", house.work().await);
}

#[tokio::test]
async fn rule_7_what_cannot_be_merged_is_work() {
    let cases = [
        ("already merged", vec![("1", "2"), ("1", "3")], "already-merged"),
        ("a cycle", vec![("1", "2"), ("2", "1")], "cycle"),
        ("itself", vec![("1", "1")], "self-merge"),
    ];
    for (why, pairs, want) in cases {
        let mut works = Vec::new();
        for turned in [false, true] {
            let house = House::new();
            house.send(&a01().text()).await;
            let mut messages: Vec<String> = pairs
                .iter()
                .enumerate()
                .map(|(at, (old, new))| {
                    merge("A40", &format!("m{at}"), ["011000", "011100"][at], old, new).text()
                })
                .collect();
            if turned {
                messages.reverse();
            }
            for message in &messages {
                house.send(message).await;
                house.run().await;
            }
            works.push(house.work().await);
        }
        assert_eq!(works[0], works[1], "{why}");
        assert_eq!(works[0].len(), 1, "{why}");
        assert_eq!(works[0][0]["kind"], "merge", "{why}");
        assert!(works[0][0]["detail"].contains(want), "{why}: {}", works[0][0]["detail"]);
    }
}

#[tokio::test]
async fn rule_7_links_move_nothing() {
    let link = |event, control: &str, at: &str| {
        let two = msg(event, control, at, "2", "").without_pv1().name("Lee^Two");
        msg(event, control, at, "1", "").without_pv1().with_second(Some(&two))
    };
    let house = House::new();
    house.send(&a01().text()).await;
    house.send(&link("A24", "2", "011000")).await;
    house.run().await;
    let (one, two) = (house.patient_id("1"), house.patient_id("2"));
    let patient = house.resource("Patient", one).await;
    assert_eq!(patient["active"], true);
    assert_eq!(patient["link"][0]["type"], "seealso");
    assert_eq!(patient["link"][0]["other"]["reference"], format!("Patient/{two}"));
    assert_eq!(house.encounter("V1").await["patient"], one.to_string());
    house.send(&link("A37", "3", "011100")).await;
    house.run().await;
    assert!(house.resource("Patient", one).await.get("link").is_none());
}

#[tokio::test]
async fn rule_8_a_swap_moves_both_at_once() {
    let two = msg("A17", "3", "011000", "2", "V2").at("W1^101^1^H").name("Lee^Two");
    let swap = msg("A17", "3", "011000", "1", "V1").at("W2^201^1^H").with_second(Some(&two));
    let other = msg("A01", "2", "010900", "2", "V2").at("W2^201^1^H").name("Lee^Two").text();
    let census = census_of(&[a01().text(), other, swap]).await;
    assert_eq!(
        census,
        ["inpatient W1-101-1 I in-progress Lee, Two", "inpatient W2-201-1 I in-progress Kim, Min"]
    );
}

#[tokio::test]
async fn rule_9_nothing_is_deleted() {
    let census = census_of(&[a01().text(), msg("A23", "2", "011000", "1", "V1").text()]).await;
    assert_eq!(
        census,
        ["inpatient W1-101-1 I in-progress Kim, Min delete-asked"],
        "an open visit stays, and asks"
    );
    for (event, visit) in [("A23", "V1"), ("A29", "")] {
        let house = House::new();
        house.send(&a01().text()).await;
        house.send(&msg("A03", "2", "011000", "1", "V1").text()).await;
        house.send(&msg(event, "3", "011100", "1", visit).text()).await;
        house.run().await;
        let encounter = house.encounter("V1").await;
        assert_eq!(encounter["status"], "entered-in-error", "{event}");
        assert!(encounter["marks"].contains("withdrawn"), "{event}");
    }
    let house = House::new();
    house.send(&a01().text()).await;
    house.send(&msg("A29", "2", "011000", "1", "").without_pv1().text()).await;
    house.run().await;
    assert_eq!(house.census().await.len(), 1, "A29 leaves the row of an open visit");
    let work = house.work().await;
    assert_eq!(
        (work.len(), work[0]["kind"].as_str(), work[0]["state"].as_str()),
        (1, "closed-visit", "open")
    );
    let decision = hilum_adt::decision::Decision::Settle {
        work: work[0]["id"].parse().unwrap(),
        by: "kim".into(),
        note: "still here".into(),
    };
    house.decide(&decision).await;
    house.run().await;
    house.send(&msg("A08", "3", "011200", "2", "V2").class("O").text()).await;
    house.send(&msg("A29", "4", "011210", "1", "").without_pv1().text()).await;
    house.run().await;
    assert_eq!(house.work().await[0]["state"], "decided", "a decision holds");
}

#[tokio::test]
async fn rule_10_class_changes() {
    check(vec![
        (
            "A06 on one number: the class changes",
            vec![
                msg("A04", "1", "010800", "1", "V1").class("E").at("ED^1^^H"),
                msg("A06", "2", "011000", "1", "V1").class("I").at("W1^101^1^H"),
            ],
            &["inpatient W1-101-1 I in-progress Kim, Min"],
        ),
        (
            "A07 back",
            vec![a01(), msg("A07", "2", "011000", "1", "V1").class("O").at("CLINIC^^^H")],
            &["outpatient CLINIC-- O in-progress Kim, Min"],
        ),
        (
            "A06 with MRG-5: goes on under the new number",
            vec![
                msg("A04", "1", "010800", "1", "V1").class("E").at("ED^1^^H"),
                msg("A06", "2", "011000", "1", "V2")
                    .class("I")
                    .at("W1^101^1^H")
                    .with("MRG|1^^^H^MR||||V1^^^H^VN"),
            ],
            &["inpatient W1-101-1 I in-progress Kim, Min"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn rule_11_status_and_training() {
    check(vec![
        (
            "A04 has arrived",
            vec![msg("A04", "1", "010800", "1", "V1").class("E").at("ED^1^^H")],
            &["emergency ED-1- E arrived Kim, Min"],
        ),
        (
            "A05 is planned",
            vec![msg("A05", "1", "010800", "1", "V1").at("W1^^^H")],
            &["expected W1-- I planned Kim, Min"],
        ),
        (
            "A14 is planned",
            vec![msg("A14", "1", "010800", "1", "V1").at("W1^^^H")],
            &["expected W1-- I planned Kim, Min"],
        ),
        (
            "A08 alone: the visit is there, its admission was not seen",
            vec![msg("A08", "1", "010800", "1", "V1").at("W1^^^H")],
            &["inpatient W1-- I in-progress Kim, Min admission-unseen"],
        ),
    ])
    .await;
    let house = House::new();
    let record = house.send(&a01().text().replace("|P|2.5", "|T|2.5")).await;
    house.run().await;
    let message = house.message(record).await;
    assert_eq!((message["status"].as_str(), message["rule"].as_str()), ("no-effect", "training"));
    assert!(house.census().await.is_empty());
}

#[tokio::test]
async fn rule_12_groups() {
    let with = |control: &str, at: &str, segments: &[&str]| {
        let mut one = msg("A08", control, at, "1", "V1");
        for segment in segments {
            one = one.with(segment);
        }
        one.text()
    };
    let (penicillin, latex) = ("AL1|1|DA|PEN^Penicillin|SV", "AL1|2|MA|LAT^Latex|MO");
    #[allow(clippy::type_complexity, reason = "a table of cases: why, messages, what stands")]
    let cases: &[(&str, Vec<String>, &[(&str, &str)])] = &[
        (
            "an A02 without AL1 erases nothing",
            vec![
                with("2", "010900", &[penicillin]),
                msg("A02", "3", "011000", "1", "V1").at("W2^201^1^H").text(),
            ],
            &[("PEN", "active")],
        ),
        (
            "what drops out of the set is no longer sent",
            vec![with("2", "010900", &[penicillin, latex]), with("3", "011000", &[latex])],
            &[("LAT", "active"), ("PEN", "inactive")],
        ),
        (
            "a set of \"\" empties the group",
            vec![with("2", "010900", &[penicillin]), with("3", "011000", &["AL1|\"\"|\"\"|\"\"|\"\""])],
            &[("PEN", "inactive")],
        ),
    ];
    for (why, messages, want) in cases {
        let mut seen = Vec::new();
        for turned in [false, true] {
            let house = House::new();
            let mut messages = messages.clone();
            if turned {
                messages.reverse();
            }
            for message in &messages {
                house.send(message).await;
                house.run().await;
            }
            let mut allergies: Vec<(String, String)> = house
                .resources("AllergyIntolerance")
                .await
                .iter()
                .map(|one| {
                    let code = one["code"]["coding"][0]["code"].as_str().unwrap_or_default().to_owned();
                    let status =
                        one["clinicalStatus"]["coding"][0]["code"].as_str().unwrap_or_default().to_owned();
                    (code, status)
                })
                .collect();
            allergies.sort();
            seen.push(allergies);
        }
        assert_eq!(seen[0], seen[1], "{why}");
        let want: Vec<(String, String)> =
            want.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(seen[0], want, "{why}");
    }
    let add = hilum_adt::settings::SourceSettings {
        segments: [("AL1".to_owned(), hilum_adt::settings::GroupMode::Add)].into(),
        ..hilum_adt::settings::SourceSettings::default()
    };
    let house = House::with_settings(add);
    house.send(&with("2", "010900", &[penicillin])).await;
    house.send(&with("3", "011000", &[latex])).await;
    house.run().await;
    for allergy in house.resources("AllergyIntolerance").await {
        assert_eq!(allergy["clinicalStatus"]["coding"][0]["code"], "active", "the source adds");
    }
}

#[tokio::test]
async fn rule_12_a_field_of_two_quotes_deletes() {
    let house = House::new();
    house.send(&a01().pid(13, "010-1111").text()).await;
    house.send(&msg("A31", "2", "010900", "1", "").pid(13, "").text()).await;
    house.run().await;
    let patient = house.patient_id("1");
    assert_eq!(
        house.resource("Patient", patient).await["telecom"][0]["value"],
        "010-1111",
        "empty says nothing"
    );
    house.send(&msg("A31", "3", "011000", "1", "").pid(13, "\"\"").text()).await;
    house.run().await;
    assert!(house.resource("Patient", patient).await.get("telecom").is_none(), "\"\" deletes");
}

#[tokio::test]
async fn rule_14_a_shared_identifier_marks_both_in_any_order() {
    let one = a01().pid3("1^^^H^MR~77^^^B^PI").text();
    let two = msg("A01", "2", "010900", "2", "V2")
        .at("W2^201^1^H")
        .pid3("2^^^H^MR~77^^^B^PI")
        .name("Lee^Two")
        .text();
    let census = census_of(&[one, two]).await;
    assert_eq!(
        census,
        [
            "inpatient W1-101-1 I in-progress Kim, Min shared-identifier",
            "inpatient W2-201-1 I in-progress Lee, Two shared-identifier"
        ]
    );
    let ssn = [
        a01().pid3("1^^^H^MR~77^^^B^SS").text(),
        msg("A01", "2", "010900", "2", "V2").at("W2^201^1^H").pid3("2^^^H^MR~77^^^B^SS").text(),
    ];
    for line in census_of(&ssn).await {
        assert!(!line.contains("shared"), "families share some: {line}");
    }
}

#[tokio::test]
async fn rule_15_nobody_named_stands_on_the_board_at_once() {
    check(vec![
        (
            "no identifier: a provisional patient",
            vec![a01().pid3("").name("Unknown^Man")],
            &["inpatient W1-101-1 I in-progress Unknown, Man identity-undecided"],
        ),
        (
            "named later: the same visit, and nothing is undecided",
            vec![a01().pid3("").name("Unknown^Man"), msg("A08", "2", "010900", "1", "V1").name("Kim^Min")],
            &["inpatient W1-101-1 I in-progress Kim, Min"],
        ),
    ])
    .await;
    let house = House::new();
    house.send(&a01().pid3("").name("Unknown^Man").with("AL1|1|DA|PEN^Penicillin|SV").text()).await;
    house.send(&msg("A31", "2", "010700", "9", "").without_pv1().name("Park^Known").text()).await;
    house.run().await;
    let before = house.canonical().await;
    let work = house.work().await;
    assert_eq!((work.len(), work[0]["kind"].as_str(), work[0]["state"].as_str()), (1, "identity", "open"));
    let provisional = work[0]["left_patient"].parse().unwrap();
    let number = house.patient_id("9");
    let identify = hilum_adt::decision::Decision::Identify {
        provisional,
        number,
        by: "kim".into(),
        reason: String::new(),
    };
    house.decide(&identify).await;
    house.run().await;
    assert_eq!(house.census().await, ["inpatient W1-101-1 I in-progress Park, Known"]);
    assert_eq!(house.work().await[0]["state"], "decided");
    let allergy = &house.resources("AllergyIntolerance").await[0];
    assert_eq!(allergy["patient"]["reference"], format!("Patient/{number}"), "allergies are united");
    let undo = hilum_adt::decision::Decision::Unmerge {
        until: None,
        old: provisional,
        new: number,
        by: "kim".into(),
        reason: String::new(),
    };
    house.decide(&undo).await;
    house.run().await;
    assert_eq!(without_ties(&house.canonical().await), without_ties(&before), "reversibly");
}

fn without_ties(canonical: &str) -> Vec<&str> {
    let kept =
        |line: &&str| !["adt_tie", "adt_number", "adt_carrier"].iter().any(|table| line.starts_with(table));
    canonical.lines().filter(kept).map(|line| line.split("\"family\"").next().unwrap()).collect()
}

#[tokio::test]
async fn rule_16_implausible_merges_are_done_and_marked_and_unmerge_gives_the_fold_back() {
    let house = House::new();
    house.send(&a01().with("AL1|1|DA|PEN^Penicillin|SV").text()).await;
    house
        .send(&msg("A01", "2", "010900", "2", "V2").at("W2^201^1^H").name("Lee^Two").born("19990909").text())
        .await;
    house.run().await;
    let before = house.canonical().await;
    let record =
        house.send(&merge("A40", "3", "011000", "1", "2").name("Lee^Two").born("19990909").text()).await;
    house.run().await;
    for line in house.census().await {
        assert!(line.ends_with("Lee, Two merge-implausible"), "{line}");
    }
    let work = house.work().await;
    assert_eq!(work.len(), 1);
    for why in ["birth-date-differs", "both-in-bed"] {
        assert!(work[0]["detail"].contains(why), "{}", work[0]["detail"]);
    }
    let (old, new) = (house.patient_id("1"), house.patient_id("2"));
    let allergy = &house.resources("AllergyIntolerance").await[0];
    assert_eq!(allergy["patient"]["reference"], format!("Patient/{new}"));
    let until = hilum_adt::decision::unmerge_until(&house.tables, old, new).await.unwrap();
    let undo = hilum_adt::decision::Decision::Unmerge {
        old,
        new,
        by: "kim".into(),
        reason: "two people".into(),
        until,
    };
    house.decide(&undo).await;
    house.run().await;
    assert_eq!(house.message(record).await["status"], "applied");
    let census = house.census().await;
    assert_eq!(
        census,
        ["inpatient W1-101-1 I in-progress Kim, Min", "inpatient W2-201-1 I in-progress Lee, Two"]
    );
    let lines = |text: &str| -> Vec<String> {
        without_ties(text)
            .into_iter()
            .filter(|line| line.starts_with("adt_board") || line.starts_with("adt_work"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(lines(&house.canonical().await), lines(&before));
}

#[tokio::test]
async fn rule_17_visits_without_a_number() {
    let inferred = |event, control: &str, at: &str, begin: &str| {
        msg(event, control, at, "1", "").at("W1^101^1^H").pv1(44, begin)
    };
    check(vec![
        (
            "patient, class and PV1-44 name it",
            vec![
                inferred("A01", "1", "010800", "202603010800"),
                inferred("A02", "2", "010900", "202603010800").at("W2^201^1^H"),
            ],
            &["inpatient W2-201-1 I in-progress Kim, Min key-inferred"],
        ),
        (
            "a changed PV1-44 makes no second encounter",
            vec![
                inferred("A01", "1", "010800", "202603010800"),
                inferred("A08", "2", "010900", "202603010730"),
            ],
            &["inpatient W1-101-1 I in-progress Kim, Min key-inferred"],
        ),
        (
            "a stay after a stay is another one",
            vec![
                inferred("A01", "1", "010800", "202603010800"),
                inferred("A03", "2", "010900", "202603010800"),
                inferred("A01", "3", "021000", "202603021000").at("W3^301^1^H"),
            ],
            &["inpatient W3-301-1 I in-progress Kim, Min key-inferred"],
        ),
    ])
    .await;
    let house = House::new();
    for message in [
        inferred("A01", "1", "010800", "202603010800"),
        inferred("A03", "2", "010900", "202603010800"),
        inferred("A01", "3", "021000", "202603021000"),
    ] {
        house.send(&message.text()).await;
    }
    house.run().await;
    assert_eq!(house.encounters().await.len(), 2);
    house.send(&merge("A40", "4", "021100", "1", "2").text()).await;
    house.run().await;
    let encounters = house.encounters().await;
    assert_eq!(encounters.len(), 2, "re-keyed with the merge, none left behind");
    assert!(encounters.iter().all(|one| one["patient"] == house.patient_id("2").to_string()));
    assert_eq!(house.resources("Encounter").await.len(), 2);
}

#[tokio::test]
async fn rule_18_unknown_and_dead() {
    check(vec![
        (
            "the source's pattern",
            vec![a01().name("무명남")],
            &["inpatient W1-101-1 I in-progress 무명남 unknown-person"],
        ),
        (
            "1900-01-01",
            vec![a01().born("19000101")],
            &["inpatient W1-101-1 I in-progress Kim, Min unknown-person"],
        ),
        ("PID-31", vec![a01().pid(31, "Y")], &["inpatient W1-101-1 I in-progress Kim, Min unknown-person"]),
    ])
    .await;
    let house = House::new();
    house.send(&a01().text()).await;
    house.send(&msg("A03", "2", "011000", "1", "V1").pv1(36, "20").text()).await;
    house.run().await;
    assert!(house.encounter("V1").await["marks"].contains("expired-without-death"));
    house.send(&msg("A31", "3", "011010", "1", "").pid(30, "Y").without_pv1().text()).await;
    house.run().await;
    assert!(!house.encounter("V1").await["marks"].contains("expired-without-death"), "known now");
}

#[tokio::test]
async fn copies_have_one_effect_and_reused_ids_are_flagged() {
    let house = House::new();
    let first = house.send(&a01().text()).await;
    let copy = house.send(&a01().text()).await;
    let other = house.send(&msg("A02", "1", "010900", "1", "V1").at("W2^201^1^H").text()).await;
    house.run().await;
    assert_eq!(house.message(first).await["status"], "findings");
    assert_eq!(house.message(copy).await["status"], "duplicate");
    for record in [first, other] {
        assert!(house.message(record).await["findings"].contains("control-id.reused"));
    }
    assert_eq!(house.census().await, ["inpatient W2-201-1 I in-progress Kim, Min"]);
}

#[tokio::test]
async fn a_quarantined_message_marks_the_patient_and_its_correction_gives_the_same_chart() {
    // A40 whose MRG-1 has another authority than PID-3: nothing pairs.
    let wrong = msg("A40", "2", "011000", "1", "").with("MRG|9^^^X^MR").without_pv1().text();
    let right = merge("A40", "2", "011000", "9", "1").text();
    let house = House::new();
    house.send(&a01().text()).await;
    let record = house.send(&wrong).await;
    house.run().await;
    let message = house.message(record).await;
    assert_eq!((message["status"].as_str(), message["rule"].as_str()), ("quarantined", "merge.unpaired"));
    assert_eq!(house.census().await, ["inpatient W1-101-1 I in-progress Kim, Min not-applied:1"]);
    let correction = house.send_as("default", right.as_bytes(), Some(record)).await;
    house.run().await;
    let message = house.message(record).await;
    assert_eq!((message["status"].as_str(), &message["replaced_by"]), ("replaced", &correction.to_string()));
    assert_eq!(house.message(correction).await["replaces"], record.to_string());
    let at_once = House::new();
    at_once.send(&a01().text()).await;
    at_once.send(&right).await;
    at_once.run().await;
    assert_eq!(house.census().await, at_once.census().await);
    let hash = |text: String| text.lines().next().unwrap().to_owned();
    assert_eq!(hash(house.canonical().await), hash(at_once.canonical().await));
}

#[tokio::test]
async fn what_cannot_be_placed_is_quarantined_and_what_was_refused_says_so() {
    let house = House::new();
    let event = |kind: &str, control: &str| {
        let text = a01().text().replace("ADT^A01", kind).replace("|1|P", &format!("|{control}|P"));
        text.replace("EVN|A01", "EVN|")
    };
    let cases = [
        (
            "no patient at all",
            "MSH|^~\\&|A|H|B|H|20260301||ADT^A01|1|P|2.5\rEVN||20260301\r".to_owned(),
            "quarantined",
            "identity.none",
        ),
        ("no visit", msg("A03", "2", "010800", "", "").without_pv1().text(), "quarantined", "visit.none"),
        ("no MSH-10", a01().text().replace("|ADT^A01|1|", "|ADT^A01||"), "refused", "control-id.missing"),
        (
            "NUL in MSH-10",
            a01().text().replace("|ADT^A01|1|", "|ADT^A01|C\u{0}1|"),
            "refused",
            "control-id.bytes",
        ),
        (
            "MSH-10 without end",
            a01().text().replace("|ADT^A01|1|", &format!("|ADT^A01|{}|", "9".repeat(5_000))),
            "refused",
            "control-id.too-long",
        ),
        (
            "an event without effect yet",
            msg("A43", "4", "010800", "1", "").without_pv1().text(),
            "no-effect",
            "",
        ),
        ("another type", a01().text().replace("ADT^A01", "ORU^R01").replace("|1|P", "|5|P"), "no-effect", ""),
        ("no event", event("ADT", "6"), "quarantined", "event.unknown"),
        ("an event in small letters", event("ADT^a01", "7"), "quarantined", "event.unknown"),
        ("one word", event("ADT_A01", "8"), "quarantined", "event.unknown"),
        ("an event of one's own", event("ADT^Z01", "9"), "no-effect", ""),
    ];
    for (why, text, status, rule) in cases {
        let record = house.send(&text).await;
        house.run().await;
        let message = house.message(record).await;
        assert_eq!((message["status"].as_str(), message["rule"].as_str()), (status, rule), "{why}");
    }
    assert!(house.census().await.is_empty());
}

#[tokio::test]
async fn a45_moves_a_visit_to_another_patient() {
    let moved = msg("A45", "3", "011000", "2", "").with("MRG|1^^^H^MR||||V1^^^H^VN").name("Lee^Two").text();
    let census = census_of(&[a01().text(), moved]).await;
    assert_eq!(census, ["inpatient W1-101-1 I in-progress Lee, Two"]);
}

#[tokio::test]
async fn interleaved_patients_of_one_bed_each_stand_once() {
    // Rule 25.
    let messages = vec![
        a01().text(),
        msg("A01", "2", "010900", "2", "V2").at("W1^101^1^H").name("Lee^Two").text(),
        msg("A03", "3", "011000", "1", "V1").text(),
        msg("A02", "4", "011100", "3", "V3").at("W1^101^1^H").name("Park^Three").text(),
    ];
    assert_eq!(
        census_of(&messages).await,
        [
            "inpatient W1-101-1 I in-progress Lee, Two",
            "inpatient W1-101-1 I in-progress Park, Three admission-unseen"
        ]
    );
}

/// Of two messages of one second nobody knows which was meant to be the last: the one that asks for confidentiality
/// counts, whatever the digests say, until a later one takes it back.
#[tokio::test]
async fn rule_20_at_one_time_who_asks_for_confidentiality_is_heard() {
    fn segment(text: &str, field: usize, is: bool) -> String {
        let bars = text.bytes().filter(|&byte| byte == b'|').count();
        format!("{text}{}{}", "|".repeat(field - bars), if is { "Y" } else { "N" })
    }
    type Says = fn(Msg, bool) -> Msg;
    let cases: [(&str, Says, &str); 5] = [
        ("PD1-12", |msg, is| msg.with(&segment("PD1", 12, is)), "Patient"),
        ("PV1-16", |msg, is| msg.pv1(16, if is { "VIP" } else { "N" }), "Encounter"),
        ("PV2-22", |msg, is| msg.with(&segment("PV2", 22, is)), "Encounter"),
        (
            "PD1-12 by a trigger of a lower rank",
            |msg, is| if is { msg.event("A31") } else { msg }.with(&segment("PD1", 12, is)),
            "Patient",
        ),
        ("DG1-18", |msg, is| msg.with(&segment("DG1|1||I10^Hypertension", 18, is)), "Condition"),
    ];
    for (why, says, kind) in cases {
        let house = House::new();
        let is_restricted = async |last: &str| {
            house.run().await;
            let found = house.resources(kind).await;
            assert!(!found.is_empty(), "{why}: {last}");
            found.iter().map(|one| one["meta"]["security"][0]["code"] == "R").collect::<Vec<_>>()
        };
        // Eight patients: of either order of digests some.
        let each = (0..8).map(|n| (format!("P{n}"), format!("V{n}")));
        for (patient, visit) in each.clone() {
            let of = |event, control: &str, at| {
                msg(event, &format!("{control}{patient}"), at, &patient, &visit).at("W1^101^1^H")
            };
            house.send(&of("A01", "1", "010800").text()).await;
            house.send(&says(of("A08", "2", "011000"), false).text()).await;
            house.send(&says(of("A08", "3", "011000"), true).text()).await;
        }
        assert_eq!(is_restricted("asked").await, [true; 8], "{why}");
        for (patient, visit) in each.clone() {
            let again = says(msg("A08", &format!("4{patient}"), "011000", &patient, &visit), false);
            house.send(&again.text()).await;
        }
        assert_eq!(is_restricted("and once more not").await, [true; 8], "{why}");
        for (patient, visit) in each {
            let later = says(msg("A08", &format!("5{patient}"), "011001", &patient, &visit), false);
            house.send(&later.text()).await;
        }
        assert_eq!(is_restricted("taken back later").await, [false; 8], "{why}");
    }
    // Each source tells its diagnoses by itself: one of them asks.
    let house = House::new();
    for n in 0..8 {
        for (source, asks) in [("his", false), ("ris", true)] {
            let diagnosis = segment("DG1|1||I10^Hypertension^I10", 18, asks);
            let told = msg("A08", &format!("{source}{n}"), "011000", &format!("P{n}"), &format!("V{n}"));
            house.send_as(source, told.with(&diagnosis).text().as_bytes(), None).await;
        }
    }
    house.run().await;
    let found = house.resources("Condition").await;
    let restricted = found.iter().filter(|one| one["meta"]["security"][0]["code"] == "R").count();
    assert_eq!((found.len(), restricted), (8, 8), "{found:#?}");
}
