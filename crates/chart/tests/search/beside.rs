//! Composites of other parts than a code and a code, quantity or text, each by its meaning, on both engines.

use hilum_core::Seq;
use hilum_engines::tables::Tables;
use hilum_fhir::search::query::{Handling, Query};
use serde_json::{Value as Json, json};

use super::world::{World, authority, withheld};
use super::{in_memory, postgres};

fn docs() -> Vec<Json> {
    let sequence = |id: &str, name: &str, window: (i64, i64), variants: &[(i64, i64)]| {
        let variants: Vec<Json> =
            variants.iter().map(|(start, end)| json!({ "start": start, "end": end })).collect();
        json!({ "resourceType": "MolecularSequence", "id": id, "coordinateSystem": 0, "variant": variants,
            "referenceSeq": { "windowStart": window.0, "windowEnd": window.1,
                "chromosome": { "coding": [{ "system": "urn:c", "code": name }] },
                "referenceSeqId": { "coding": [{ "system": "urn:r", "code": format!("NC_{name}") }] } } })
    };
    let document = |id: &str, relates: &[(&str, Json)]| {
        let relates: Vec<Json> =
            relates.iter().map(|(code, target)| json!({ "code": code, "target": target })).collect();
        json!({ "resourceType": "DocumentReference", "id": id, "status": "current", "relatesTo": relates,
            "content": [{ "attachment": { "url": "urn:x" } }] })
    };
    let to = |reference: &str| json!({ "reference": reference });
    vec![
        sequence("s1", "1", (10, 20), &[(12, 13), (17, 19)]),
        sequence("s2", "1", (30, 40), &[(32, 39)]),
        sequence("s3", "2", (10, 20), &[(12, 19)]),
        document("d1", &[("replaces", to("DocumentReference/d0")), ("appends", to("DocumentReference/d2"))]),
        document("d2", &[("appends", to("https://hilum.example/fhir/DocumentReference/d0"))]),
        document("d3", &[("replaces", to("http://elsewhere/fhir/DocumentReference/d0"))]),
        document("d4", &[("replaces", json!({ "identifier": { "value": "DocumentReference/d0" } }))]),
    ]
}

const CASES: &[(&str, &str, &str, &str, &[&str])] = &[
    ("both ends", "MolecularSequence", "chromosome-window-coordinate", "1$10$20", &["s1"]),
    ("with the system", "MolecularSequence", "chromosome-window-coordinate", "urn:c|2$10$20", &["s3"]),
    ("another system", "MolecularSequence", "chromosome-window-coordinate", "urn:r|2$10$20", &[]),
    ("ranges", "MolecularSequence", "chromosome-window-coordinate", "1$ge10$le40", &["s1", "s2"]),
    ("of both only one", "MolecularSequence", "chromosome-window-coordinate", "1$gt10$lt40", &[]),
    ("not so", "MolecularSequence", "chromosome-window-coordinate", "1$10$ne20", &[]),
    ("either", "MolecularSequence", "chromosome-window-coordinate", "1$30$40,2$10$20", &["s2", "s3"]),
    ("one variant", "MolecularSequence", "chromosome-variant-coordinate", "1$12$13", &["s1"]),
    ("two variants are not one", "MolecularSequence", "chromosome-variant-coordinate", "1$12$19", &[]),
    ("none of two", "MolecularSequence", "chromosome-variant-coordinate", "1$lt20$ne13", &["s1"]),
    ("about", "MolecularSequence", "chromosome-variant-coordinate", "1$ap31$ap38", &["s2"]),
    ("by the reference", "MolecularSequence", "referenceseqid-window-coordinate", "NC_1$sa20$eb50", &["s2"]),
    ("its variants", "MolecularSequence", "referenceseqid-variant-coordinate", "NC_2$12$19", &["s3"]),
    ("a place and a code", "DocumentReference", "relationship", "DocumentReference/d0$replaces", &["d1"]),
    ("an id", "DocumentReference", "relationship", "d0$appends", &["d2"]),
    ("not the other's code", "DocumentReference", "relationship", "d2$replaces", &[]),
    (
        "our address",
        "DocumentReference",
        "relationship",
        "https://hilum.example/fhir/DocumentReference/d0$replaces",
        &["d1"],
    ),
    (
        "another's",
        "DocumentReference",
        "relationship",
        "http://elsewhere/fhir/DocumentReference/d0$replaces",
        &["d3"],
    ),
];

async fn found_beside(tables: Tables) {
    let mut world = World::new(tables, 1, 0).await;
    for doc in docs() {
        let ty = if doc["coordinateSystem"].is_null() { "DocumentReference" } else { "MolecularSequence" };
        let id = doc["id"].as_str().unwrap().to_owned();
        world.put((ty, id), Some(doc)).await;
    }
    let all = "s1,s2,s3,d1,d2,d3,d4";
    for (why, ty, name, value, want) in CASES {
        // By an index, and asked of each.
        for pairs in [vec![(*name, *value)], vec![(*name, *value), ("_id", all)]] {
            let (query, _) = Query::parse(ty, pairs, Handling::Strict).unwrap();
            let plan = World::plan(&authority(), &query, None, &withheld());
            let rows: Vec<i64> = world.walk(&plan, 5, false).await.into_iter().map(|(_, row)| row).collect();
            let matches = world.chart.matches(&authority(), &rows, Seq(i64::MAX)).await.unwrap();
            let bodies = matches.iter().flatten().map(|one| one.then.text().unwrap());
            let docs = bodies.map(|body| serde_json::from_str::<Json>(body).unwrap());
            let ids: Vec<String> = docs.map(|doc| doc["id"].as_str().unwrap().to_owned()).collect();
            assert_eq!(ids, *want, "{why}");
        }
    }
}

#[tokio::test]
async fn what_stands_side_by_side_is_found() {
    found_beside(in_memory()).await;
}

#[tokio::test]
async fn and_on_postgresql() {
    found_beside(postgres(hilum_testkit::postgres::Postgres::shared()).await).await;
}
