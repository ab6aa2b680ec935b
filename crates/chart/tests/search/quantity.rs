//! Quantities at a threshold that is written in another unit, as index rows and as queries have them, on both engines.

use hilum_core::Seq;
use hilum_engines::tables::Tables;
use hilum_fhir::search::query::{Handling, Query};
use hilum_fhir::search::unit::UCUM;
use serde_json::{Value as Json, json};

use super::world::{World, authority, withheld};
use super::{in_memory, postgres};

/// Two quantities that are the same.
type Same = (&'static str, (&'static str, &'static str), (&'static str, &'static str));

const SAME: &[Same] = &[
    ("fever in an adult", ("100.4", "[degF]"), ("38", "Cel")),
    ("high fever", ("101.3", "[degF]"), ("38.5", "Cel")),
    ("higher", ("102.2", "[degF]"), ("39", "Cel")),
    ("very high", ("104", "[degF]"), ("40", "Cel")),
    ("raised", ("99.5", "[degF]"), ("37.5", "Cel")),
    ("hypothermia", ("95", "[degF]"), ("35", "Cel")),
    ("ice", ("32", "[degF]"), ("0", "Cel")),
    ("both scales meet below zero", ("-40", "[degF]"), ("-40", "Cel")),
    ("to kelvin", ("100.4", "[degF]"), ("311.15", "K")),
    ("a third of a minute's sixtieth", ("60", "/min"), ("1", "Hz")),
    ("what a minute leaves over", ("100", "/min"), ("6000", "/h")),
    ("days", ("24", "mg/h"), ("576", "mg/d")),
    ("weeks", ("1", "mg/d"), ("7", "mg/wk")),
    ("years", ("1461", "mg/a"), ("4", "mg/d")),
    ("enzymes", ("60", "U/L"), ("1", "ukat/L")),
    ("a filtration rate", ("90", "mL/min"), ("1.5", "mL/s")),
    ("spoons", ("3", "[tsp_us]"), ("1", "[tbs_us]")),
    ("a catheter", ("24", "[Ch]"), ("8", "mm")),
    ("pounds", ("1", "[lb_av]"), ("453.59237", "g")),
    ("pressure", ("1", "kPa"), ("1000", "Pa")),
];

/// Which prefixes find what equals the threshold.
const PREFIXES: [(&str, bool); 8] = [
    ("", true),
    ("ne", false),
    ("ge", true),
    ("le", true),
    ("gt", false),
    ("lt", false),
    ("sa", false),
    ("eb", false),
];

/// As it is written, every digit.
fn observation(id: &str, (value, unit): (&str, &str)) -> Json {
    let value: Json = serde_json::from_str(value).unwrap();
    json!({ "resourceType": "Observation", "id": id, "status": "final",
        "code": { "coding": [{ "system": "urn:c", "code": "c" }] },
        "valueQuantity": { "value": value, "system": UCUM, "code": unit } })
}

async fn ids(world: &World, pairs: &[(&str, &str)]) -> Vec<String> {
    let (query, _) = Query::parse("Observation", pairs.iter().copied(), Handling::Strict).unwrap();
    let plan = World::plan(&authority(), &query, None, &withheld());
    let rows: Vec<i64> = world.walk(&plan, 2, false).await.into_iter().map(|(_, row)| row).collect();
    let matches = world.chart.matches(&authority(), &rows, Seq(i64::MAX)).await.unwrap();
    let bodies = matches.iter().flatten().map(|one| one.then.text().unwrap());
    let docs = bodies.map(|body| serde_json::from_str::<Json>(body).unwrap());
    docs.map(|doc| doc["id"].as_str().unwrap().to_owned()).collect()
}

async fn meet_at_the_threshold(tables: Tables) {
    let mut world = World::new(tables, 1, 0).await;
    let mut wrong = Vec::new();
    for (at, (why, one, two)) in SAME.iter().enumerate() {
        for (way, stored, asked) in [("a", one, two), ("b", two, one)] {
            let id = format!("{way}{at}");
            world.put(("Observation", id.clone()), Some(observation(&id, *stored))).await;
            for (prefix, is_found) in PREFIXES {
                let value = format!("{prefix}{}|{UCUM}|{}", asked.0, asked.1);
                let beside = format!("c${value}");
                // By the index, asked of one, and beside a code.
                for pairs in [
                    vec![("value-quantity", value.as_str())],
                    vec![("value-quantity", value.as_str()), ("_id", id.as_str())],
                    vec![("code-value-quantity", beside.as_str())],
                ] {
                    if ids(&world, &pairs).await.contains(&id) != is_found {
                        wrong.push(format!("{why}: {stored:?} by {pairs:?}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// From the least to the greatest; their numbers as they are written are in another order.
const RISING: &[(&str, &str, (&str, &str))] = &[
    ("least", "a milligram", ("0.001", "g")),
    ("second", "more, in a lesser unit", ("5", "mg")),
    ("third", "a lesser number of a greater unit", ("0.0005", "kg")),
    ("fourth", "of the canonical unit", ("2", "g")),
    ("greatest", "what UCUM has no scale for goes by its number", ("3", "[iU]")),
];

async fn stand_in_order(tables: Tables) {
    let mut world = World::new(tables, 1, 0).await;
    // Not in the order that is asked for.
    for (id, _, quantity) in RISING.iter().rev() {
        world.put(("Observation", (*id).to_owned()), Some(observation(id, *quantity))).await;
    }
    let mut rising: Vec<&str> = RISING.iter().map(|(id, ..)| *id).collect();
    assert_eq!(ids(&world, &[("_sort", "value-quantity")]).await, rising, "{RISING:?}");
    rising.reverse();
    assert_eq!(ids(&world, &[("_sort", "-value-quantity")]).await, rising, "{RISING:?}");
}

#[tokio::test]
async fn an_order_goes_by_how_much_it_is() {
    stand_in_order(in_memory()).await;
}

#[tokio::test]
async fn and_goes_so_on_postgresql() {
    stand_in_order(postgres(hilum_testkit::postgres::Postgres::shared()).await).await;
}

#[tokio::test]
async fn the_same_in_another_unit_is_at_the_threshold() {
    meet_at_the_threshold(in_memory()).await;
}

#[tokio::test]
async fn and_on_postgresql() {
    meet_at_the_threshold(postgres(hilum_testkit::postgres::Postgres::shared()).await).await;
}
