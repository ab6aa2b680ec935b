//! Rows of another form are refused by name, and a rebuild makes them anew.
#![allow(clippy::unwrap_used)]

mod harness;

use std::fmt::Write as _;
use std::time::Duration;

use harness::{House, Msg};
use hilum_adt::project::Adt;
use hilum_adt::tables::{BOARD, CONTENT, FRAMED, SEEN};
use hilum_chart::{Cause, ChartError, fits, run_all};
use hilum_engines::tables::{Batch, Tables, Value, Write};

async fn write(tables: &Tables, write: Write) {
    tables.commit(Batch { writes: vec![write], ..Batch::default() }).await.unwrap();
}

async fn refused(house: &House) -> Option<(i64, i64)> {
    match fits::check::<Adt>(&house.log, &house.tables).await {
        Ok(()) => None,
        Err(ChartError::OtherForm { stored, ours, .. }) => Some((stored, ours)),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_another_form_are_refused_until_a_rebuild_has_made_them_anew() {
    let ours = hilum_adt::tables::FORM;
    let name = || Value::Text("adt".to_owned());
    for (why, stored) in [("an older one", Some(ours - 1)), ("a newer one", Some(ours + 1)), ("none", None)] {
        let house = House::new();
        assert_eq!(refused(&house).await, None, "{why}: tables that are new");
        house.send(&Msg::new("A01", "C1", "010800", "1", "V1").with("AL1|1|DA|PEN^Penicillin").text()).await;
        house.run().await;
        assert_eq!(refused(&house).await, None, "{why}: rows of this program");
        let canonical = house.canonical().await;

        let table = fits::FORM.name;
        let form = match stored {
            Some(form) => Write::Put { table, values: vec![name(), Value::Int(form)] },
            None => Write::Delete { table, key: vec![name()] },
        };
        write(&house.tables, form).await;
        // Of that form, and nothing that this program can read.
        for mut row in house.rows(&CONTENT).await {
            row.values[3] = Value::Text("<person/>".to_owned());
            write(&house.tables, Write::Put { table: CONTENT.name, values: row.values }).await;
        }
        assert_eq!(refused(&house).await, Some((stored.unwrap_or(0), ours)), "{why}");
        assert!(
            fits::go_back::<Adt>(&house.log, &house.tables).await.is_err(),
            "{why}: nothing on top of it"
        );

        // Nor does a runner begin (with a copy), whose tables may have opened after the program asked.
        house.send(&Msg::new("A01", "C1", "010800", "1", "V1").with("AL1|1|DA|PEN^Penicillin").text()).await;
        let running = run_all(&house.projection, &house.log, &house.tables, &house.clock);
        let paused = loop {
            if let Some(paused) =
                running.progress().health().partitions.iter().find_map(|one| one.paused.clone())
            {
                break paused;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert_eq!(paused.cause, Cause::OtherLog, "{why}: {}", paused.why);
        running.stop().await;

        house.rebuild().await;
        assert_eq!(refused(&house).await, None, "{why}: made anew");
        assert_eq!(house.canonical().await, canonical, "{why}");
    }
}

/// What a small story leaves in the rows that are read back.
async fn stored() -> String {
    let house = House::new();
    let admission = Msg::new("A01", "C1", "010800", "1", "V1")
        .at("W1^101^1^H")
        .pid3("1^^^H^MR~S1^^^Z^PI")
        .pv1(7, "501^Park^Ui^^^^^^H")
        .with("NK1|1|Kim^Su")
        .with("AL1|1|DA|PEN^Penicillin")
        .with("IAM|1|DA|NUT^Nuts")
        .with("DG1|1||I10^Hypertension^I10");
    let pending = Msg::new("A15", "C2", "010900", "1", "V1").pv1(42, "W2^201^1^H");
    let inferred = Msg::new("A04", "C3", "011000", "2", "").class("O").with("DG1|1||E11^Diabetes^I10");
    let nobody = Msg::new("A04", "C4", "011100", "", "V4").at("ED^1^^H");
    let deleted = Msg::new("A29", "C5", "011200", "2", "").without_pv1();
    let merged = Msg::new("A40", "C6", "011300", "1", "").without_pv1().with("MRG|2^^^H^MR");
    let unpaired = Msg::new("A40", "C7", "011400", "1", "").without_pv1();
    // Whose authority is guessed, and what it is found by besides.
    let guessed = Msg::new("A01", "C8", "011500", "3", "V5").at("W3^1^1").pid3("3").name("\u{3000}");
    let guessed = guessed.text().replace("|APP|H|", "|APP||");
    let own_delimiters = Msg::new("A01", "C_9", "011600", "4", "V6").at("W3^1^2^H").text();
    let own_delimiters = own_delimiters.replace('^', "$").replace("C_9", "C^9");
    // Who asks not to be told.
    let asking = Msg::new("A01", "CA", "011700", "5", "V7")
        .at("W3^1^3^H")
        .with(&format!("PD1{}Y", "|".repeat(12)))
        .with(&format!("DG1|1||F10^Alcohol^I10{}Y", "|".repeat(15)));
    let messages = [admission, pending, inferred, nobody, deleted, merged, unpaired, asking];
    for message in messages.iter().map(Msg::text).chain([guessed, own_delimiters]) {
        house.send(&message).await;
        house.run().await;
    }
    assert!(!house.rows(&FRAMED).await.is_empty(), "a control id that is answered otherwise");
    let mut text = String::new();
    for table in hilum_adt::tables::OF_FAMILY.iter().chain(&[&SEEN, &BOARD, &FRAMED]) {
        for row in house.table(table).await {
            writeln!(text, "{}: {row:?}", table.name).unwrap();
        }
    }
    text
}

#[tokio::test]
async fn whoever_changes_what_a_row_holds_raises_the_form() {
    let form = hilum_adt::tables::FORM;
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/stored/rows-{form}.txt"));
    let found = stored().await;
    if blessing() {
        std::fs::write(&path, &found).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(kept.lines()).find(|(found, kept)| found != kept);
    assert!(
        found == kept,
        "the rows are not those of form {form}: raise tables::FORM, then BLESS=1 writes the new file\n{differs:#?}"
    );
}

/// The environment is the test's own argument: whether to write the file anew.
#[allow(clippy::disallowed_methods)]
fn blessing() -> bool {
    std::env::var_os("BLESS").is_some()
}
