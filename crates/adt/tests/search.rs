//! Who is there is found: by whatever number they came with, and however many others there are.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::House;
use hilum_adt::view::search::{Query, search};
use hilum_chart::Chart;
use hilum_core::{Authority, Role};

async fn names(house: &House, query: Query) -> (Vec<String>, bool) {
    let chart = Chart::open(house.tables.clone(), house.clock.clone());
    let authority = Authority::new("key:test", Role::Viewer);
    let sight = house.sight(&chart, &authority);
    let answer = search(sight, &Query { limit: 100, ..query }).await.unwrap();
    (answer.patients.into_iter().filter_map(|one| one.name).collect(), answer.truncated)
}

fn a28(n: usize, identifiers: &str) -> String {
    let (month, day) = (n % 12 + 1, n % 28 + 1);
    format!(
        "MSH|^~\\&|HIS|H|HILUM|H|20260102030405||ADT^A28^ADT_A05|S{n}|P|2.5\rEVN||20260102030405\r\
         PID|1||{identifiers}||Kim^Nr{n:05}||1950{month:02}{day:02}|M\r"
    )
}

#[tokio::test]
async fn a_further_number_finds_its_patient() {
    let house = House::new();
    house.send_all(&[a28(1, "X^^^H^MR~Y^^^H^PI"), a28(2, "Z^^^H^MR")]).await;
    house.run().await;
    let by = |identifier: &str, authority: Option<&str>| Query {
        identifier: Some(identifier.to_owned()),
        authority: authority.map(str::to_owned),
        ..Query::default()
    };
    let found = (vec!["Kim, Nr00001".to_owned()], false);
    for (identifier, authority) in [("X", None), ("Y", None), ("Y", Some("H"))] {
        assert_eq!(names(&house, by(identifier, authority)).await, found, "{identifier}");
    }
    for (identifier, authority) in [("Y", Some("G")), ("W", None)] {
        assert_eq!(names(&house, by(identifier, authority)).await, (vec![], false), "{identifier}");
    }
}

/// Beyond one page of the chart, and beyond what a search once looked at.
#[tokio::test]
async fn a_name_finds_its_patient_among_thousands() {
    const PATIENTS: usize = 5_100;
    let house = House::new();
    let messages: Vec<String> = (1..=PATIENTS).map(|n| a28(n, &format!("{n}^^^H^MR"))).collect();
    house.send_all(&messages).await;
    house.run().await;
    for n in (1..PATIENTS).step_by(850).chain([PATIENTS]) {
        let name = format!("Nr{n:05}");
        let query = Query { name: Some(name.clone()), ..Query::default() };
        assert_eq!(names(&house, query).await, (vec![format!("Kim, {name}")], false));
    }
    let nobody = Query { name: Some("Nobody".to_owned()), ..Query::default() };
    assert_eq!(names(&house, nobody).await, (vec![], false), "a clean answer that there is nobody");
    let many = Query { name: Some("Kim".to_owned()), ..Query::default() };
    let (found, truncated) = names(&house, many).await;
    assert_eq!((found.len(), truncated), (100, true));
}
