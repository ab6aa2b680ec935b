//! What a correction leaves of the message that it corrects, in whatever batches the two are read.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{House, Msg};

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
