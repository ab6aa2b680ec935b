//! Rows of another form are refused by name, and a rebuild makes them anew.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{House, Msg};
use hilum_adt::project::Adt;
use hilum_adt::tables::CONTENT;
use hilum_chart::{ChartError, fits};
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

        house.rebuild().await;
        assert_eq!(refused(&house).await, None, "{why}: made anew");
        assert_eq!(house.canonical().await, canonical, "{why}");
    }
}
