//! What a correction leaves of the message that it corrects, in whatever batches the two are read.
#![allow(clippy::unwrap_used)]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use harness::{House, Msg};
use hilum_adt::project::{Adt, Planted};
use hilum_adt::settings::SourceSettings;
use hilum_chart::run_all;

#[tokio::test]
async fn a_corrected_message_keeps_why_it_was_set_aside_and_its_id_is_not_reused() {
    let mut shown = Vec::new();
    for (why, batches) in [("each alone", 1), ("in one batch", usize::MAX)] {
        let house = House::new();
        for (control, minute, patient) in [("C1", "010800", "1"), ("C2", "010801", "2")] {
            house.send(&Msg::new("A01", control, minute, patient, control).at("W1^101^1^H").text()).await;
        }
        let admitted = Msg::new("A01", "C3", "010802", "1", "").text();
        let head: String = admitted.split_inclusive('\r').take(3).collect();
        let faulty = head.replace("ADT^A01", "ADT^A40");
        let right = format!("{faulty}MRG|2^^^H^MR\r");
        let wrong = house.send(&faulty).await;
        let correction = house.send_as("default", right.as_bytes(), Some(wrong)).await;
        house.run_in_batches_of(batches).await;

        let (wrong, correction) = (house.message(wrong).await, house.message(correction).await);
        assert_eq!(wrong["status"], "replaced", "{why}: {wrong:?}");
        assert_eq!(wrong["rule"], "merge.unpaired", "{why}: {wrong:?}");
        assert!(wrong["findings"].contains("merge.unpaired"), "{why}: {wrong:?}");
        for row in [&wrong, &correction] {
            assert!(!row["findings"].contains("control-id.reused"), "{why}: {row:?}");
        }
        assert_eq!(correction["status"], "applied", "{why}: {correction:?}");
        let told = ["status", "rule", "path", "findings", "patient", "control_id", "kind"];
        shown.push(told.map(|column| wrong[column].clone()));
    }
    assert_eq!(shown[0], shown[1]);
}

/// What the fault of a program set aside, with the correction that an operator made of it.
fn wrong_and_right() -> Vec<(&'static str, String, String)> {
    let admission = |control: &str, patient: &str, visit: &str| {
        Msg::new("A01", control, "010800", patient, visit)
            .at("W7^701^1^H")
            .name("Wrong^Name")
            .pid3(&format!("{patient}^^^H^MR~S{patient}^^^Z^PI"))
            .pv1(7, "777^Nobody^Such^^^^^^H")
            .with("PD1||||888^Neither^Nor^^^^^^H")
            .with("NK1|1|Wrong^Mother")
            .with("AL1|1|DA|WRONG^Wrong")
            .with("DG1|1||X99^Wrong^I10")
    };
    let right = |visit: &str| Msg::new("A01", "C9", "010800", "1", visit).at("W1^101^1^H").text();
    let beds = |bed: &str| {
        format!(
            "MSH|^~\\&|APP|H|HILUM|H|20260301080000||ADT^A20|C{bed}|P|2.5\rEVN||20260301080000\rNPU|{bed}|C\r"
        )
    };
    let deleted = Msg::new("A29", "C1", "010900", "1", "").without_pv1().text();
    let merged = Msg::new("A40", "C1", "010900", "1", "").without_pv1().with("MRG|2^^^H^MR").text();
    vec![
        ("of another patient", admission("C1", "2", "V2").text(), right("V1")),
        ("of the same", admission("C1", "1", "V1").text(), right("V1")),
        ("no visit number", admission("C1", "1", "").text(), right("")),
        ("a bed", beds("1^1^1"), beds("2^2^2")),
        ("a deletion", deleted, right("V1")),
        ("a merge", merged, right("V1")),
    ]
}

fn same(why: &str, found: &str, want: &str) {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let (found, want) = (lines(found), lines(want));
    let (more, less): (Vec<_>, Vec<_>) =
        (found.difference(&want).collect(), want.difference(&found).collect());
    assert!(more.is_empty() && less.is_empty(), "{why}: too much {more:#?}, missing {less:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_correction_replaces_has_no_effect_whatever_program_reads_it() {
    for (why, wrong, right) in wrong_and_right() {
        let mut house = House::new();
        let before = Msg::new("A01", "C0", "010700", "1", "V1").at("W1^101^1^H").text();
        let control = "C1";
        let key = house.key.clone();
        // It fails on it, and is mended later.
        let failing = Adt::new(key.clone(), house.clock.clone()).planted(Planted::FailsOn(control));
        house.projection = Arc::new(failing);
        let envelopes = house.envelopes(&[before, wrong]);
        let correction = house.correction_of(&envelopes[1], &right);
        house.append_all(&envelopes).await;
        house.run().await;
        let set_aside = house.message(envelopes[1].id).await;
        assert_eq!((&*set_aside["status"], &*set_aside["rule"]), ("quarantined", "apply.panic"), "{why}");
        house.append_all(std::slice::from_ref(&correction)).await;
        house.run().await;
        assert_eq!(house.message(envelopes[1].id).await["status"], "replaced", "{why}");
        let canonical = house.canonical().await;
        assert!(!canonical.contains("Wrong") && !canonical.contains("Nobody"), "{why}: {canonical}");

        // A program that can read it makes all rows anew.
        house.projection = Arc::new(Adt::new(key.clone(), house.clock.clone()));
        house.projection.know(house.settings.sha(), house.settings.clone());
        house.rebuild().await;
        same(&format!("{why}: rebuilt"), &house.canonical().await, &canonical);

        // And one that begins with empty tables, wherever the correction stands.
        let mut elsewhere = correction.clone();
        elsewhere.key = key.id("Partition", &[why.as_bytes()]);
        for correction in [correction, elsewhere] {
            let anew = House::new();
            anew.append_all(&envelopes).await;
            anew.append_all(&[correction]).await;
            let running = run_all(&anew.projection, &anew.log, &anew.tables, &anew.clock);
            while !running.progress().health().caught_up() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            running.stop().await;
            same(&format!("{why}: begun anew"), &anew.canonical().await, &canonical);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_correction_that_is_misread_for_a_second_is_foreseen_all_the_same() {
    let (why, wrong, right) = wrong_and_right().remove(0);
    let whole = House::new();
    let envelopes = whole.envelopes(&[wrong]);
    let correction = whole.correction_of(&envelopes[0], &right);
    let both = [envelopes[0].clone(), correction.clone()];
    let mut house = House::new();
    house.append_all(&both).await;
    let places = house.flip_a_bit(correction.id).await;
    let running = run_all(&house.projection, &house.log, &house.tables, &house.clock);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    house.flip_back(&places);
    while !running.progress().health().caught_up() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.stop().await;
    whole.append_all(&both).await;
    let running = run_all(&whole.projection, &whole.log, &whole.tables, &whole.clock);
    while !running.progress().health().caught_up() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.stop().await;
    assert_eq!(house.message(envelopes[0].id).await["status"], "replaced");
    same(why, &house.canonical().await, &whole.canonical().await);
}

#[tokio::test]
async fn what_is_replayed_as_it_was_has_the_effect_that_it_did_not_have() {
    let house = House::new();
    let settings = SourceSettings { charset: Some("UTF-8".into()), ..SourceSettings::default() };
    house.projection.know(settings.sha(), settings.clone());
    let mut raw =
        Msg::new("A01", "C1", "010800", "1", "V1").at("W1^101^1^H").name("Hong").text().into_bytes();
    let at = raw.windows(4).position(|bytes| bytes == b"Hong").unwrap();
    raw.splice(at..at + 4, *b"\xB1\xE8"); // 김 in CP949
    let mut wrong = house.envelopes(&[String::new()]).remove(0);
    (wrong.digest, wrong.body) = (hilum_core::Digest::of(&raw), bytes::Bytes::from(raw));
    wrong.settings_sha = settings.sha();
    let settings = SourceSettings { charset: Some("EUC-KR".into()), ..settings };
    house.projection.know(settings.sha(), settings.clone());
    let mut replayed = house.copy_of(&wrong);
    (replayed.settings_sha, replayed.replaces) = (settings.sha(), Some(wrong.id));
    house.append_all(std::slice::from_ref(&wrong)).await;
    house.run().await;
    assert_eq!(house.message(wrong.id).await["status"], "quarantined");
    house.append_all(std::slice::from_ref(&replayed)).await;
    house.run().await;
    assert_eq!(house.message(replayed.id).await["status"], "applied");
    assert_eq!(house.census().await, ["inpatient W1-101-1 I in-progress 김"]);
}
