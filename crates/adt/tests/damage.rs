//! A record that is damaged on the disk is quarantined by its place, and holds nothing up (promises.md, fault 4).
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{House, Msg};
use hilum_adt::view::{journey, messages};
use hilum_chart::Chart;
use hilum_chart::rebuild::{Damaged, rebuild};
use hilum_core::{Authority, Role};

fn admission(control: &str, visit: &str, bed: u32) -> String {
    Msg::new("A01", control, "010800", "1", visit).at(&format!("W1^101^{bed}^H")).text()
}

fn sight<'a>(house: &'a House, chart: &'a Chart, authority: &'a Authority) -> journey::Sight<'a> {
    journey::Sight { tables: &house.tables, log: &house.log, chart, key: &house.key, authority }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_costs_its_message_alone_and_is_shown() {
    let mut house = House::new();
    house.send(&admission("C1", "V1", 1)).await;
    let damaged = house.send(&admission("C2", "V2", 2)).await;
    house.send(&admission("C3", "V3", 3)).await;
    house.flip_a_bit(damaged).await;
    house.run_to_the_end().await;

    assert_eq!(
        house.census().await,
        ["inpatient W1-101-1 I in-progress Kim, Min", "inpatient W1-101-3 I in-progress Kim, Min"],
        "what is behind it is applied"
    );
    let authority = Authority::new("key:test", Role::Operator);
    let query = messages::Query { status: Some("quarantined".to_owned()), limit: 10, ..Default::default() };
    let lines = messages::read(&house.tables, &authority, &query).await.unwrap();
    let [line] = lines.as_slice() else { panic!("one: {lines:?}") };
    assert_eq!(line.rule.as_deref(), Some("log.corrupt"));
    assert_eq!(line.path.as_deref(), Some(&*line.position.to_string()));
    assert_eq!((line.position.offset, line.size_bytes), (1, 0));
    let first = house.messages().await.into_iter().find(|row| row["control_id"] == "C1").unwrap();
    assert_eq!(line.received.to_string(), first["received"], "its neighbour's");

    let chart = Chart::open(house.tables.clone(), house.clock.clone());
    let sight = sight(&house, &chart, &authority);
    let shown = journey::read(sight, line.id).await.unwrap();
    assert!(shown.journey.damaged && shown.journey.text.is_none() && shown.journey.segments.is_empty());

    let beside = harness::sqlite_tables();
    let done = |_: u64, _: u64| {};
    let report = rebuild(
        &house.projection,
        &house.log,
        &house.tables,
        &beside,
        &house.clock,
        Damaged::PassOver,
        &done,
    )
    .await
    .unwrap();
    assert_eq!(report.differing(), 0, "{report:?}");
}

#[tokio::test]
async fn a_bit_that_flips_after_the_message_was_applied_costs_its_text_alone() {
    let mut house = House::new();
    let record = house.send(&admission("C1", "V1", 1)).await;
    house.run_to_the_end().await;
    house.flip_a_bit(record).await;
    let authority = Authority::new("key:test", Role::Operator);
    let chart = Chart::open(house.tables.clone(), house.clock.clone());
    let sight = sight(&house, &chart, &authority);
    let shown = journey::read(sight, record.as_id()).await.unwrap();
    assert_eq!(shown.message.control_id, "C1");
    assert!(shown.journey.damaged);
}
