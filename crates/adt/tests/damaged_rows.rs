//! A stored row that cannot be read stays as it is: what would change it is set aside, and a rebuild brings it in.
#![allow(clippy::unwrap_used)]

mod harness;

use std::collections::BTreeSet;

use bytes::Bytes;
use harness::{House, Msg};
use hilum_adt::identity::encounter_id;
use hilum_adt::tables::{BOARD, CONTENT, ENCOUNTER, FACT, NUMBER, SEEN, TIE};
use hilum_adt::view::search::{Query, search};
use hilum_adt::view::{ViewError, confidence, patient};
use hilum_chart::Chart;
use hilum_core::{Authority, Role};
use hilum_engines::tables::{Batch, Row, Table, Value, Write};

fn text(of: &str) -> Value {
    Value::Text(of.to_owned())
}

/// Overwrites one cell of the rows that hold `with` somewhere.
async fn damage(house: &House, table: &'static Table, with: &str, column: &str, value: &Value) {
    let at = table.column(column).unwrap();
    let mut writes = Vec::new();
    for row in house.rows(table).await {
        let mut values = row.values;
        if with.is_empty() || values.contains(&text(with)) {
            values[at] = value.clone();
            writes.push(Write::Put { table: table.name, values });
        }
    }
    assert!(!writes.is_empty(), "{}: no row with `{with}`", table.name);
    house.tables.commit(Batch { writes, ..Batch::default() }).await.unwrap();
}

fn values(rows: Vec<Row>) -> Vec<Vec<Value>> {
    rows.into_iter().map(|row| row.values).collect()
}

/// The marks of a patient's rows of the board.
async fn marks_of(house: &House, patient: &str) -> Vec<String> {
    let patient = house.patient_id(patient).to_string();
    let rows = house.board().await;
    rows.iter().filter(|row| row["patient"].contains(&patient)).map(|row| row["marks"].clone()).collect()
}

fn admission(control: &str, patient: &str, visit: &str) -> Msg {
    Msg::new("A01", control, "010800", patient, visit)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_read_is_never_overwritten() {
    let short = Value::Bytes(Bytes::from_static(b"short"));
    let cases = [
        ("a fact's body", &FACT, "", "body", text("{\"n\":")),
        ("a fact's kind", &FACT, "", "kind", text("teleport")),
        ("a fact's stamp", &FACT, "", "said", short.clone()),
        ("a person", &CONTENT, "person", "body", text("[]")),
        ("allergies", &CONTENT, "al1", "body", text("")),
        ("reactions, which are shown with them", &CONTENT, "iam", "body", text("{\"default\":1}")),
        ("next of kin", &CONTENT, "nk1", "body", text("null")),
        ("diagnoses", &CONTENT, "dg1", "body", text("{")),
        ("a tie's kind", &TIE, "", "kind", text("sibling")),
        ("a tie's stamp", &TIE, "", "moved", short.clone()),
        ("a number's identifier", &NUMBER, "1", "identifier", text("[1")),
        ("a number's quarantine", &NUMBER, "1", "not_applied", text("[\"x\"]")),
        ("a number's further numbers", &NUMBER, "1", "carries", text("")),
        ("a number's marks", &NUMBER, "1", "marks", text("none")),
        ("a number's deletion", &NUMBER, "1", "deleted", short),
        ("an encounter's marks", &ENCOUNTER, "", "marks", text("[1]")),
        ("an encounter's conditions", &ENCOUNTER, "", "conditions", text("?")),
        ("what came under an MSH-10", &SEEN, "", "copies", text("[[]]")),
    ];
    for (why, table, with, column, value) in cases {
        let house = House::new();
        let first = admission("C1", "1", "V1")
            .with("NK1|1|Kim^Su")
            .with("AL1|1|DA|PEN^Penicillin")
            .with("IAM|1|DA|NUT^Nuts")
            .with("DG1|1||I10^Hypertension^I10");
        house.send(&first.text()).await;
        if table.name == TIE.name {
            house
                .send(&Msg::new("A40", "C2", "010801", "1", "").with("MRG|9^^^H^MR").without_pv1().text())
                .await;
        }
        house.run().await;
        damage(&house, table, with, column, &value).await;
        let before = values(house.rows(table).await);

        let update = admission("C1", "1", "V1")
            .event("A08")
            .recorded("010900")
            .with("NK1|1|Kim^Jo")
            .with("AL1|1|DA|LAT^Latex")
            .with("IAM|1|DA|EGG^Eggs")
            .with("DG1|1||E11^Diabetes^I10");
        let mut records = Vec::new();
        for raw in [admission("C3", "3", "V3").text(), update.text(), admission("C4", "4", "V4").text()] {
            let mut envelope = house.envelopes(&[raw]).remove(0);
            envelope.key = house.patient_id("the same partition");
            records.push(envelope.id);
            house.append_all(&[envelope]).await;
        }
        house.run_to_the_end().await;

        let after = values(house.rows(table).await);
        assert!(before.iter().all(|row| after.contains(row)), "{why}: it stands untouched");
        let mut told = Vec::new();
        for record in &records {
            let row = house.message(*record).await;
            told.push((row["status"].clone(), row["rule"].clone()));
        }
        let told: Vec<(&str, &str)> = told.iter().map(|(status, rule)| (&**status, &**rule)).collect();
        assert_eq!(told, [("applied", ""), ("quarantined", "apply.rows"), ("applied", "")], "{why}");

        // Who is looked for on the board is told that something is missing, whichever row it is that is broken.
        assert_eq!(marks_of(&house, "1").await, [r#"["not-applied:1"]"#], "{why}: marked");
        assert_eq!(marks_of(&house, "3").await, ["[]"], "{why}: nobody else");

        house.rebuild().await;
        assert_eq!(marks_of(&house, "1").await, ["[]"], "{why}: applied");
        assert_eq!(house.message(records[1]).await["rule"], "", "{why}: a rebuild brings it in");
        let mut allergies: Vec<String> = house
            .resources("AllergyIntolerance")
            .await
            .iter()
            .map(|one| one["code"]["coding"][0]["code"].as_str().unwrap().to_owned())
            .collect();
        allergies.sort();
        assert_eq!(allergies, ["EGG", "LAT", "NUT", "PEN"], "{why}");
        assert_eq!(house.rebuild().await.differing(), 0, "{why}");
    }
}

#[tokio::test]
async fn who_is_discharged_in_vain_is_marked_under_each_number_and_each_time() {
    let house = House::new();
    house.send(&admission("C1", "1", "V1").text()).await;
    house.send(&admission("C2", "9", "V9").born("19010203").text()).await;
    house.send(&Msg::new("A40", "C3", "010801", "1", "").with("MRG|9^^^H^MR").without_pv1().text()).await;
    house.run().await;
    let before = marks_of(&house, "1").await;
    assert_eq!(before, [r#"["merge-implausible"]"#; 2], "both stays are the survivor's");
    damage(&house, &NUMBER, "9", "marks", &text("none")).await;
    for (control, visit, times) in [("C4", "V9", 1), ("C5", "V1", 2)] {
        let discharged = Msg::new("A03", control, "010900", "9", visit).text();
        let record = house.send(&discharged).await;
        house.run().await;
        assert_eq!(house.message(record).await["rule"], "apply.rows");
        let marks = marks_of(&house, "1").await;
        assert!(marks.iter().all(|marks| marks.contains(&format!("not-applied:{times}"))), "{marks:?}");
        let others = |marks: &String| marks.replace(&format!(",\"not-applied:{times}\""), "");
        assert_eq!(marks.iter().map(others).collect::<Vec<_>>(), before, "the other marks stand");
    }
}

#[tokio::test]
async fn a_row_of_the_board_that_cannot_be_read_is_not_passed_over_in_silence() {
    let house = House::new();
    house.send(&admission("C1", "1", "V1").text()).await;
    house.run().await;
    damage(&house, &BOARD, "", "detail", &text("[1")).await;
    // Another stay: what it says of the person would be put into the row of the first one too.
    let record = house.send(&admission("C2", "1", "V2").name("Lee^Jo").text()).await;
    house.run().await;
    let told = house.message(record).await;
    assert_eq!((&*told["status"], &*told["rule"]), ("quarantined", "apply.rows"));
    assert_eq!(marks_of(&house, "1").await, [r#"["not-applied:1"]"#], "who looks there is told");
    house.rebuild().await;
    assert_eq!(house.message(record).await["rule"], "", "a rebuild brings it in");
    assert_eq!(marks_of(&house, "1").await.len(), 2);
}

#[tokio::test]
async fn a_page_says_what_of_a_patient_cannot_be_read_and_withholds_what_it_may_ask_for() {
    let cases = [
        ("a person", "person", "[]", true, "listed"),
        ("next of kin", "nk1", "null", false, "listed"),
        ("allergies", "al1", "", false, "not-known"),
    ];
    for (why, part, body, is_withheld, allergies) in cases {
        let house = House::new();
        let said = admission("C1", "1", "V1").with("NK1|1|Kim^Su|SPO").with("AL1|1|DA|PEN^Penicillin");
        house.send(&said.text()).await;
        house.run().await;
        damage(&house, &CONTENT, part, "body", &text(body)).await;
        let (chart, authority) = (
            Chart::open(house.tables.clone(), house.clock.clone()),
            Authority::new("key:test", Role::Viewer),
        );
        let sight = house.sight(&chart, &authority);
        let id = house.patient_id("1");
        let page = patient::read(sight, id).await.unwrap();
        assert_eq!((page.confidential, page.name.is_none()), (is_withheld, is_withheld), "{why}");
        assert_eq!((page.marks[0].as_str(), page.allergies_known), ("row-unreadable", allergies), "{why}");
        assert_eq!(
            (page.kin_withheld, page.next_of_kin.len()),
            if part == "al1" { (false, 1) } else { (true, 0) }
        );
        match patient::raw(sight, id).await {
            Err(ViewError::NotFound) => assert!(is_withheld, "{why}"),
            all => assert!(!all.unwrap().is_empty() && !is_withheld, "{why}"),
        }
        let query = Query { identifier: Some("1".to_owned()), limit: 10, ..Query::default() };
        let found = search(sight, &query).await.unwrap().patients.remove(0);
        assert_eq!((found.confidential, found.name.is_none()), (is_withheld, is_withheld), "{why}");
        // What names nobody else's page asks the same.
        assert_eq!(confidence::is_withheld(sight, id).await.unwrap(), is_withheld, "{why}");
        let stay = BTreeSet::from([encounter_id(&house.key, "H", "V1")]);
        let stays = confidence::withheld_among(sight, &BTreeSet::new(), &stay).await.unwrap().encounters;
        assert_eq!(stays.len(), usize::from(is_withheld), "{why}");
    }
}

/// What a merged record asked for holds for the one that replaces it, so what cannot be read of it does.
#[tokio::test]
async fn who_replaces_a_record_that_cannot_be_read_is_withheld_with_it() {
    let house = House::new();
    house.send(&admission("C1", "1", "V1").text()).await;
    house.send(&admission("C2", "9", "V9").text()).await;
    house.send(&Msg::new("A40", "C3", "010801", "1", "").with("MRG|9^^^H^MR").without_pv1().text()).await;
    house.run().await;
    let (merged, survivor) = (house.patient_id("9"), house.patient_id("1"));
    let mut values = house.rows(&CONTENT).await.into_iter().map(|row| row.values);
    let mut values = values.find(|row| row[1] == Value::Id(merged) && row[2] == text("person")).unwrap();
    values[3] = text("[]");
    let writes = vec![Write::Put { table: CONTENT.name, values }];
    house.tables.commit(Batch { writes, ..Batch::default() }).await.unwrap();
    let (chart, authority) =
        (Chart::open(house.tables.clone(), house.clock.clone()), Authority::new("key:test", Role::Viewer));
    let sight = house.sight(&chart, &authority);
    for id in [merged, survivor] {
        assert!(patient::read(sight, id).await.unwrap().confidential);
        assert!(confidence::is_withheld(sight, id).await.unwrap(), "as on the page");
    }
}
