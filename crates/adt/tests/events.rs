//! A golden message for each row of the trigger table: `tests/golden/<event>/in.hl7` holds the messages that set the
//! scene, then the event itself, an empty line between them; `out.json` what the fold says of it and what stands then.
//! `BLESS=1` writes them anew.
#![allow(clippy::unwrap_used)]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use harness::House;
use hilum_adt::tables as adt;
use hilum_hl7v2::trigger::{TRIGGERS, Trigger};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The environment is the test's own argument: whether to write the golden files anew.
#[allow(clippy::disallowed_methods)]
fn blessing() -> bool {
    std::env::var_os("BLESS").is_some()
}

type Row = BTreeMap<&'static str, String>;

/// Ids as what they name, so that the file tells something.
struct Names(BTreeMap<String, String>);

impl Names {
    async fn of(house: &House) -> Self {
        let mut names = BTreeMap::new();
        for row in house.table(&adt::NUMBER).await {
            names.insert(row["number"].clone(), format!("patient {}", row["value"]));
        }
        for row in house.encounters().await {
            names.insert(row["encounter"].clone(), format!("visit {}", row["visit_number"]));
        }
        Self(names)
    }

    fn put_in(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (id, name)| text.replace(id, name))
    }

    fn cells(&self, row: &Row, columns: &[&'static str]) -> Value {
        let cell = |column: &&'static str| {
            let text = self.put_in(&row[column]);
            (*column, serde_json::from_str(&text).ok().filter(Value::is_array).unwrap_or(Value::String(text)))
        };
        Value::Object(columns.iter().map(cell).map(|(column, cell)| (column.to_owned(), cell)).collect())
    }

    fn rows(&self, rows: &[Row], columns: &[&'static str]) -> Vec<Value> {
        let mut all: Vec<Value> = rows.iter().map(|row| self.cells(row, columns)).collect();
        all.sort_by_key(Value::to_string);
        all
    }
}

async fn told(trigger: &Trigger, text: &str) -> Value {
    let house = House::new();
    let mut last = None;
    for message in text.split("\n\n") {
        last = Some(house.send(message).await);
        house.run().await;
    }
    let message = house.message(last.unwrap()).await;
    assert_eq!(message["kind"], format!("ADT^{}", trigger.event), "the last message is the event");
    let names = Names::of(&house).await;
    let findings: Vec<Value> = serde_json::from_str(&message["findings"]).unwrap();
    let findings: Vec<String> = findings
        .iter()
        .map(|one| format!("{} {}", one["rule"].as_str().unwrap(), one["path"].as_str().unwrap()))
        .collect();
    let encounters = house.resources("Encounter").await;
    let patients: Vec<Value> = house
        .resources("Patient")
        .await
        .iter()
        .map(|one| {
            let links = one["link"].as_array().cloned().unwrap_or_default();
            let links: Vec<String> = links
                .iter()
                .map(|link| format!("{} {}", link["type"], link["other"]["reference"]))
                .map(|link| names.put_in(&link).replace('"', ""))
                .collect();
            let name = &one["name"][0];
            json!({
                "number": one["identifier"][0]["value"],
                "active": one["active"],
                "family": name["family"].as_str().or(name["text"].as_str()),
                "links": links,
            })
        })
        .collect();
    let announced: Vec<Value> = house
        .board()
        .await
        .iter()
        .map(|row| {
            let detail: Value = serde_json::from_str(&row["detail"]).unwrap();
            json!([row["attending"], detail["tracked"], detail["pending"]])
        })
        .collect();
    let attending: Vec<usize> =
        encounters.iter().map(|one| one["participant"].as_array().map_or(0, Vec::len)).collect();
    let allergies = house.resources("AllergyIntolerance").await;
    let allergies: Vec<&Value> = allergies.iter().map(|one| &one["code"]["coding"][0]["code"]).collect();
    json!({
        "effect": format!("{:?}", trigger.effect),
        "message": {
            "status": message["status"],
            "rule": message["rule"],
            "findings": findings,
            "changed": names.cells(&message, &["changed"])["changed"],
            "patient": names.put_in(&message["patient"]),
            "encounter": names.put_in(&message["encounter"]),
        },
        "board": house.census().await,
        "announced": announced,
        "encounters": names.rows(
            &house.encounters().await,
            &["visit_number", "number", "patient", "status", "on_board", "in_bed", "start", "end", "marks"],
        ),
        "participants": attending,
        "patients": patients,
        "allergies": allergies,
        "conditions": house.resources("Condition").await.len(),
        "relatives": house.resources("RelatedPerson").await.len(),
        "beds": names.rows(&house.table(&adt::BED).await, &["unit", "room", "bed", "status"]),
        "work": names.rows(&house.work().await, &["kind", "state", "left_patient", "right_patient", "encounter"]),
    })
}

#[tokio::test]
async fn each_event_has_a_golden_message() {
    let folders: BTreeSet<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    let mut wrong = Vec::new();
    for trigger in TRIGGERS {
        if !folders.contains(trigger.event) {
            wrong.push(format!("{}: no golden message", trigger.event));
            continue;
        }
        let folder = root().join(trigger.event);
        let files: BTreeSet<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        let known: BTreeSet<String> = ["in.hl7", "out.json"].map(str::to_owned).into();
        assert!(files.is_subset(&known), "{}: a file that nothing reads", trigger.event);
        let text = fs::read_to_string(folder.join("in.hl7")).unwrap();
        let got = format!("{:#}\n", told(trigger, &text).await);
        let out = folder.join("out.json");
        if blessing() {
            fs::write(&out, &got).unwrap();
            continue;
        }
        let want = fs::read_to_string(&out).unwrap_or_default();
        if want != got {
            let line = want.lines().zip(got.lines()).position(|(a, b)| a != b).unwrap_or(0);
            wrong.push(format!("{}, line {}: {:?}", trigger.event, line + 1, got.lines().nth(line)));
        }
    }
    // What looks like an event and is none would be read by nobody.
    let looks_like_one = |name: &&String| name.len() == 3 && name.starts_with('A');
    for name in folders.iter().filter(looks_like_one).filter(|name| Trigger::find(name).is_none()) {
        wrong.push(format!("{name}: no row of the trigger table"));
    }
    assert!(wrong.is_empty(), "BLESS=1 writes them anew:\n{}", wrong.join("\n"));
}
