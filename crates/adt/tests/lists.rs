//! Which list of the board a row stands in follows from its class, and from the place of who waits for a bed
//! (clinical-rules 26).
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{House, Msg};
use hilum_adt::view::Freshness;
use hilum_adt::view::census::{self, Query};
use hilum_adt::view::reconcile::Reconciler;
use hilum_chart::Chart;
use hilum_core::{Authority, Role};

fn msg(event: &'static str, control: &str, at: &str, class: &str, place: &str) -> String {
    Msg::new(event, control, at, "1", "V1").class(class).at(place).text()
}

#[tokio::test]
async fn the_class_says_which_list() {
    let (bed, clinic, ward) = ("W1^101^1^H", "CLINIC^^^H", "inpatient W1-101-1 I in-progress Kim, Min");
    let admitted = || msg("A01", "C1", "010800", "I", bed);
    let registered = || msg("A04", "C1", "010800", "O", clinic);
    let out = "outpatient W1-101-1 O in-progress Kim, Min";
    let cases = [
        ("A07, the bed not taken away", vec![admitted(), msg("A07", "C2", "010900", "O", bed)], out),
        ("A07 without a class", vec![admitted(), msg("A07", "C2", "010900", "", bed)], out),
        ("A07 with the class before it", vec![admitted(), msg("A07", "C2", "010900", "I", bed)], out),
        ("A06", vec![registered(), msg("A06", "C2", "010900", "I", bed)], ward),
        ("A06 without a class", vec![registered(), msg("A06", "C2", "010900", "", bed)], ward),
        ("A06 with the class before it", vec![registered(), msg("A06", "C2", "010900", "O", bed)], ward),
        (
            "A06 of who waited in the emergency department, with the class before it",
            vec![msg("A04", "C1", "010800", "E", "ER^3^^H"), msg("A06", "C2", "010900", "E", bed)],
            ward,
        ),
        (
            "the same in FHIR's words",
            vec![msg("A04", "C1", "010800", "EMER", "ER^3^^H"), msg("A06", "C2", "010900", "EMER", bed)],
            ward,
        ),
        (
            "A06 of who was expected, with the class before it",
            vec![registered(), msg("A06", "C2", "010900", "P", bed)],
            ward,
        ),
        (
            "A06 to obstetrics says which ward",
            vec![registered(), msg("A06", "C2", "010900", "B", bed)],
            "inpatient W1-101-1 B in-progress Kim, Min",
        ),
        (
            "A07 and A06 again",
            vec![admitted(), msg("A07", "C2", "010900", "O", bed), msg("A06", "C3", "011000", "I", bed)],
            ward,
        ),
        (
            "who comes again and again, in a dialysis chair",
            vec![msg("A04", "C1", "010800", "R", "DIAL^1^7^H")],
            "outpatient DIAL-1-7 R arrived Kim, Min",
        ),
        (
            "obstetrics is a ward where there is a bed",
            vec![msg("A01", "C1", "010800", "B", bed)],
            "inpatient W1-101-1 B in-progress Kim, Min",
        ),
    ];
    for (why, messages, want) in cases {
        let house = House::new();
        house.send_all(&messages).await;
        house.run().await;
        assert_eq!(house.census().await, [want], "{why}");

        // The page and its twin read the same lines.
        let chart = Chart::open(house.tables.clone(), house.clock.clone());
        let found =
            Reconciler::new(house.tables.clone(), chart.clone(), house.clock.clone()).look().await.unwrap();
        let freshness = Freshness { as_of: house.clock.now(), applied: house.now().await, lag: Some(0) };
        let authority = Authority::new("key:test", Role::Viewer);
        let query = Query::default();
        let sight = house.sight(&chart, &authority);
        let read = census::read(sight, &query, freshness, &found).await.unwrap();
        let shown: Vec<(&str, &str)> =
            read.encounters.iter().map(|line| (&*line.list, &*line.class)).collect();
        let mut words = want.split(' ');
        let list = words.next().unwrap();
        assert_eq!(shown, [(list, words.nth(1).unwrap())], "{why}");
        assert!(!read.count.is_different(), "{why}");
    }
}
