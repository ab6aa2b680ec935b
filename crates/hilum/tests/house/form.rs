//! Rows of another form, and rows that cannot be read: said by name, and made anew from the log.

use std::path::Path;

use hilum_adt::tables::CONTENT;
use hilum_chart::fits::FORM;
use hilum_engines::tables::{Batch, Read, Scan, Value, Write};
use hilum_testkit::disk;
use tempfile::tempdir;

use crate::damage::{doctor, json, now, open_tables, ready, send};
use crate::server::{Server, Start, a01, field, request, run, wait};

fn rewrite(data: &Path, write: Write) {
    let tables = open_tables(data);
    now(tables.commit(Batch { writes: vec![write], ..Batch::default() })).unwrap();
    now(tables.close());
}

fn board(server: &Server, key: &str) -> usize {
    json(server, "/api/census", key)["encounters"].as_array().unwrap().len()
}

#[test]
fn rows_of_another_form_are_refused_at_the_start_and_made_anew_by_a_rebuild() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let key = server.key("reader", "operator");
    send(&server, &["F1", "F2"], &key, 2);
    let data = server.data.clone();
    server.stop();
    let values = vec![Value::Text("adt".to_owned()), Value::Int(hilum_adt::tables::FORM + 1)];
    rewrite(&data, Write::Put { table: FORM.name, values });

    let path = data.to_str().unwrap();
    assert!(Server::try_start(&folder, &Start::default()).is_none());
    let said = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
    assert!(said.contains("rows of `adt` are of form") && said.contains("hilum rebuild census"), "{said}");
    let finding = doctor(&data).into_iter().find(|one| one.2.contains("are of form")).unwrap();
    assert!(finding.3.contains("hilum rebuild census"), "{finding:?}");
    let keep = run(&["rebuild", "census", "--behind", "keep", "--data", path]);
    assert_eq!(keep.status.code(), Some(1), "nothing is applied on top of them");

    let rebuilt = run(&["rebuild", "census", "--data", path]);
    assert_eq!(rebuilt.status.code(), Some(0), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    let server = Server::start(&folder, &Start::default());
    assert_eq!(board(&server, &key), 2);
}

#[test]
fn a_row_that_cannot_be_read_is_named_and_made_anew() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let key = server.key("reader", "operator");
    send(&server, &["R1"], &key, 1);
    let data = server.data.clone();
    server.stop();
    let tables = open_tables(&data);
    let scan = Read::Scan(Scan::by_key(CONTENT.name, Vec::new()));
    let rows = now(tables.read(&[scan])).unwrap().pop().unwrap();
    now(tables.close());
    for mut row in rows {
        row.values[3] = Value::Text("{".to_owned());
        rewrite(&data, Write::Put { table: CONTENT.name, values: row.values });
    }

    let server = Server::start(&folder, &Start::default());
    let again = a01("R1").replace("ADT^A01", "ADT^A08").replace("|R1|", "|R2|");
    assert_eq!(field(&server.connect().ask(&again), "MSA", 1), "AA");
    wait("the quarantine", 20, || {
        let quarantine = json(&server, "/api/quarantine", &key);
        (quarantine["messages"][0]["rule"] == "apply.rows").then_some(())
    });
    // The server is ready, and says that somebody should see to it; the patient's row says that something is missing.
    wait("the note", 10, || {
        let (status, said) = ready(&server);
        assert_eq!(status, 200, "{said}");
        let note = said["notes"][0].as_str()?.to_owned();
        (note.contains("apply.rows") && note.contains("hilum rebuild census")).then_some(())
    });
    let metrics = request(server.http.unwrap(), "GET", "/metrics", &[], b"").text();
    assert!(metrics.contains("hilum_unreadable_rows_messages 1"), "{metrics}");
    let marks = &json(&server, "/api/census", &key)["encounters"][0]["marks"];
    assert!(marks.as_array().unwrap().contains(&"not-applied:1".into()), "{marks}");
    let finding = doctor(&data).into_iter().find(|one| one.2.contains("apply.rows")).unwrap();
    assert!(finding.3.contains("hilum rebuild census"), "{finding:?}");
    server.stop();
    let rebuilt = run(&["rebuild", "census", "--data", data.to_str().unwrap()]);
    assert_eq!(rebuilt.status.code(), Some(3), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    let server = Server::start(&folder, &Start::default());
    assert_eq!(json(&server, "/api/quarantine", &key)["messages"].as_array().unwrap().len(), 0);
    assert_eq!(board(&server, &key), 1);
}

#[test]
fn a_new_required_column_is_filled_by_a_rebuild() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let key = server.key("reader", "operator");
    send(&server, &["Q1", "Q2"], &key, 2);
    let data = server.data.clone();
    server.stop();
    disk::forget_column(&data.join("tables.sqlite"), hilum_adt::tables::BOARD.name, "source");

    let path = data.to_str().unwrap();
    assert!(Server::try_start(&folder, &Start::default()).is_none());
    let said = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
    assert!(said.contains("column source") && said.contains("hilum rebuild census"), "{said}");
    let rebuilt = run(&["rebuild", "census", "--data", path]);
    assert_eq!(rebuilt.status.code(), Some(3), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    let server = Server::start(&folder, &Start::default());
    assert_eq!(board(&server, &key), 2, "accounts and keys stand, and so does the census");
    server.stop();
    let again = run(&["rebuild", "chart", "--data", path]);
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
}
