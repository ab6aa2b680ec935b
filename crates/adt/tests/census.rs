//! Nobody vanishes (clinical-rules 27): open and shown are two counts, and a difference is red.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{House, Msg};
use hilum_adt::tables::BOARD;
use hilum_adt::view::Freshness;
use hilum_adt::view::census::{self, Census, Count};
use hilum_adt::view::reconcile::{Differs, Reconciler};
use hilum_chart::{Chart, resources};
use hilum_core::{Authority, Role};
use hilum_engines::tables::{Batch, Value, Write};

async fn count(house: &House) -> Count {
    shown(house).await.count
}

async fn shown(house: &House) -> Census {
    let chart = Chart::open(house.tables.clone(), house.clock.clone());
    let found =
        Reconciler::new(house.tables.clone(), chart.clone(), house.clock.clone()).look().await.unwrap();
    let freshness = Freshness { as_of: house.clock.now(), applied: house.now().await, lag: Some(0) };
    let authority = Authority::new("key:test", Role::Operator);
    let query = census::Query::default();
    let sight = house.sight(&chart, &authority);
    census::read(sight, &query, freshness, &found).await.unwrap()
}

async fn filled() -> House {
    let house = House::new();
    for n in 1..=5 {
        let (control, patient, visit) = (format!("C{n}"), n.to_string(), format!("V{n}"));
        let admission = Msg::new("A01", &control, "010800", &patient, &visit);
        house.send(&admission.at(&format!("W1^101^{n}^H")).text()).await;
    }
    house.send(&Msg::new("A03", "C6", "010900", "5", "V5").at("W1^101^5^H").text()).await; // gone home
    house.send(&Msg::new("A05", "C7", "010900", "7", "V7").text()).await; // expected
    house.send(&Msg::new("A21", "C8", "010900", "4", "V4").at("W1^101^4^H").text()).await; // on leave
    house.run().await;
    house
}

async fn write(house: &House, write: Write) {
    house.tables.commit(Batch { writes: vec![write], ..Batch::default() }).await.unwrap();
}

#[tokio::test]
async fn whoever_is_open_is_counted_apart_from_whoever_is_shown() {
    let house = filled().await;
    let whole = count(&house).await;
    assert_eq!((whole.open, whole.on_board, whole.shown), (4, 4, 4), "{whole:?}");
    assert!(!whole.is_different());

    // A row of the board is lost.
    let lost = house.rows(&BOARD).await.into_iter().find(|row| row.values[2] == text("inpatient")).unwrap();
    write(&house, Write::Delete { table: BOARD.name, key: vec![lost.values[0].clone()] }).await;
    let less = count(&house).await;
    assert_eq!((less.open, less.shown, less.not_shown, less.not_open), (4, 3, 1, 0));
    assert!(less.is_different());

    // Another one comes up: the sums agree, the sets do not.
    let finished = house.encounters().await.into_iter().find(|row| row["status"] == "finished").unwrap();
    let mut ghost = lost.values.clone();
    ghost[0] = Value::Id(finished["encounter"].parse().unwrap());
    write(&house, Write::Put { table: BOARD.name, values: ghost }).await;
    let swapped = count(&house).await;
    assert_eq!((swapped.open, swapped.shown, swapped.not_shown, swapped.not_open), (4, 4, 1, 1));
    assert!(swapped.is_different());
}

#[tokio::test]
async fn an_encounter_that_the_chart_has_lost_is_a_difference() {
    let house = filled().await;
    let open = house.encounters().await.into_iter().find(|row| row["status"] == "in-progress").unwrap();
    let key = vec![text("Encounter"), Value::Id(open["encounter"].parse().unwrap())];
    write(&house, Write::Delete { table: resources::RESOURCE.name, key }).await;
    let count = count(&house).await;
    assert_eq!((count.open, count.shown, count.not_in_chart), (4, 4, 1));
    assert!(count.is_different());
}

#[tokio::test]
async fn a_row_of_no_list_is_not_shown() {
    let house = filled().await;
    let row = house.rows(&BOARD).await.into_iter().find(|row| row.values[2] == text("inpatient")).unwrap();
    let mut values = row.values;
    values[2] = text("nowhere");
    write(&house, Write::Put { table: BOARD.name, values }).await;
    let count = count(&house).await;
    assert_eq!((count.open, count.on_board, count.shown), (4, 4, 3));
    assert!(count.is_different());
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_a_line_without_a_name_and_takes_nobody_away() {
    let cases = [
        ("half a detail", "detail", "[1", "inpatient"),
        ("marks that are none", "marks", "none", "inpatient"),
        ("somebody on leave", "detail", "{\"identifiers\":7}", "leave"),
        ("somebody who is expected", "marks", "{", "expected"),
    ];
    for (why, column, broken, list) in cases {
        let house = filled().await;
        let before = shown(&house).await;
        let row = house.rows(&BOARD).await.into_iter().find(|row| row.values[2] == text(list)).unwrap();
        let mut values = row.values.clone();
        values[BOARD.column(column).unwrap()] = text(broken);
        write(&house, Write::Put { table: BOARD.name, values }).await;

        let after = shown(&house).await;
        assert_eq!(after.lists, before.lists, "{why}: all are there");
        let (broken, whole): (Vec<_>, Vec<_>) =
            after.encounters.into_iter().partition(|line| line.marks.contains(&"row-unreadable".to_owned()));
        let [line] = broken.as_slice() else { panic!("{why}: {broken:?}") };
        assert_eq!(Value::Id(line.encounter), row.values[0], "{why}");
        assert_eq!((line.list.as_str(), line.confidential), (list, true), "{why}");
        assert_eq!((line.patient_id, &line.patient.name, &line.unit, &line.bed), (None, &None, &None, &None));
        let others: Vec<_> =
            before.encounters.into_iter().filter(|other| other.encounter != line.encounter).collect();
        assert_eq!(whole, others, "{why}: the others stay as they are");
        assert_eq!((after.count.open, after.count.shown, after.count.unreadable), (4, 4, 1), "{why}");
        assert!(after.count.is_different(), "{why}: it is red");

        let chart = Chart::open(house.tables.clone(), house.clock.clone());
        let found =
            Reconciler::new(house.tables.clone(), chart.clone(), house.clock.clone()).look().await.unwrap();
        let differing: Vec<_> = found.differing.clone().into_iter().collect();
        assert_eq!(differing, [(line.encounter, Differs::Unreadable)], "{why}: doctor and metrics say so");

        house.rebuild().await;
        assert!(!count(&house).await.is_different(), "{why}: a rebuild mends it");
    }
}

fn text(raw: &str) -> Value {
    Value::Text(raw.to_owned())
}
