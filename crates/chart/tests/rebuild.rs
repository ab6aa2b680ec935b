//! `hilum rebuild`: nothing differs; what was damaged is mended; from empty the same comes out.

#![allow(clippy::unwrap_used)]

mod toy;

use std::sync::Mutex;

use hilum_chart::chart::Commit;
use hilum_chart::index::{Unsearched, mend};
use hilum_chart::projection::{Changes, ResourceChange};
use hilum_chart::rebuild::{Damaged, Report, rebuild};
use hilum_chart::{Chart, resources, run_all};
use hilum_core::{Authority, Entropy, RecordId, Timestamp};
use hilum_engines::log::Log;
use hilum_engines::tables::{Batch, REREAD_TOPIC, Tables, Value, Write};
use toy::{FACT, Message, REFUSED, all, append, clock, day, id, open_log, open_tables, oracle, standing};

async fn run(log: &Log, tables: &Tables) -> u64 {
    let running = run_all(&toy::toy(), log, tables, &clock());
    while !running.progress().health().caught_up() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let commits = running.progress().health().partitions.iter().map(|one| one.commits).sum();
    running.stop().await;
    commits
}

async fn rebuilt(log: &Log, tables: &Tables) -> Report {
    let heard = Mutex::new(Vec::new());
    let done = |done, total| heard.lock().unwrap().push((done, total));
    let report =
        rebuild(&toy::toy(), log, tables, &open_tables(), &clock(), Damaged::Refuse, &done).await.unwrap();
    let heard = heard.into_inner().unwrap();
    assert_eq!(heard.first().unwrap().0, 0);
    assert_eq!(heard.last().unwrap(), &(report.records, report.records));
    assert_eq!(report.hash_after, report.hash_log);
    report
}

fn differing(report: &Report) -> Vec<(&'static str, u64, u64, u64)> {
    let tables = report.tables.iter().filter(|table| table.differing() > 0);
    tables.map(|table| (table.table, table.added, table.changed, table.removed)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_differs_damage_is_mended_and_empty_is_filled() {
    let folder = tempfile::tempdir().unwrap();
    let (log, live, random) = (open_log(folder.path()), open_tables(), Entropy::seeded(11));
    let mut messages = day(&random, 200);
    messages.push(Message::Bad);
    append(&log, &messages, &random).await;
    run(&log, &live).await;
    let want = oracle(&messages);
    assert_eq!(standing(&live).await, want);

    // What came by another door is nobody's to rebuild.
    let chart = Chart::open(live.clone(), clock()).with_indexer(toy::indexer());
    let operator = Authority::system("test");
    let own = id("Survey", 1);
    let mut changes = Changes::default();
    changes.resource(ResourceChange {
        resource_type: "Questionnaire",
        id: own,
        body: Some(format!(r#"{{"resourceType":"Questionnaire","id":"{own}"}}"#)),
        source: RecordId::new(Timestamp::from_micros(1), [0; 10]),
    });
    chart.commit(&operator, Commit { door: "door", changes, ..Commit::default() }).await.unwrap();

    let report = rebuilt(&log, &live).await;
    assert_eq!(differing(&report), []);
    assert_eq!(report.hash_before, report.hash_log);
    assert_eq!(report.records, messages.len() as u64);

    // Damage: a fact lost, a fact invented, a rejection changed, a body changed, a resource lost, one invented.
    let facts = all(&live, &FACT).await;
    let mut rows = all(&live, &resources::RESOURCE).await;
    rows.retain(|row| row.values[6] == Value::Text("toy".to_owned()));
    let (lost, changed) = (&rows[0].values, &rows[1].values);
    let mut invented_fact = facts[0].values.clone();
    invented_fact[1] = Value::Bytes(vec![7; 32].into());
    let mut refused = all(&live, &REFUSED).await[0].values.clone();
    refused[1] = Value::Text("wrong".to_owned());
    let with = |values: &[Value], place: usize, value: Value| {
        let mut values = values.to_vec();
        values[place] = value;
        values
    };
    let invented = with(lost, 1, Value::Id(id("Nobody", 1)));
    let put = |table, values| Write::Put { table, values };
    let damage = vec![
        Write::Delete { table: FACT.name, key: facts[1].values[..2].to_vec() },
        put(FACT.name, invented_fact),
        put(REFUSED.name, refused),
        put(
            "chart_resource",
            with(&with(changed, 8, Value::Bytes(vec![1].into())), 9, Value::Bytes(b"\x01{}".to_vec().into())),
        ),
        Write::Delete { table: "chart_resource", key: lost[..2].to_vec() },
        put("chart_resource", invented),
    ];
    live.commit(Batch { writes: damage, ..Batch::default() }).await.unwrap();
    assert_ne!(standing(&live).await, want);
    let before = live.now().await.unwrap();
    let report = rebuilt(&log, &live).await;
    // Open pages hear that they must read again; nobody is told anything twice.
    let told = live.changes(before, 1_000).await.unwrap();
    assert!(!told.is_empty() && told.iter().all(|change| change.topic == REREAD_TOPIC), "{told:?}");
    assert_eq!(
        differing(&report),
        [("toy_fact", 1, 0, 1), ("toy_refused", 0, 1, 0), ("chart_resource", 1, 1, 1)]
    );
    assert_ne!(report.hash_before, report.hash_log);
    // A resource whose row was lost has another number now: what pointed to the old one goes with the index made anew.
    let owners: mend::Owners<'_> = &[("toy", |_| Unsearched::Nothing), ("door", |_| Unsearched::Nothing)];
    let index = mend::rebuild(&live, &toy::indexer(), owners, &|_| ()).await.unwrap();
    assert!(index.removed > 0);
    let before = live.now().await.unwrap();
    assert_eq!(standing(&live).await, want);
    assert_eq!(differing(&rebuilt(&log, &live).await), [], "once is enough");
    assert_eq!(
        live.changes(before, 1_000).await.unwrap(),
        [],
        "and where nothing differs there is nothing to read"
    );
    assert_eq!(chart.read(&operator, "Questionnaire", own).await.unwrap().version, 1, "not touched");
    let Value::Id(mended) = changed[1] else { panic!("an id") };
    let Value::Text(resource_type) = &changed[0] else { panic!("a type") };
    let versions = chart.history(&operator, resource_type, mended, None, 10).await.unwrap();
    assert_eq!(versions[0].version, versions[1].version + 1, "mended as a new version");
    assert_eq!(versions[1].text().unwrap(), "{}");

    // From empty: the same, and nothing is left to apply.
    let empty = open_tables();
    let report = rebuilt(&log, &empty).await;
    assert!(report.differing() > 0);
    assert_eq!(standing(&empty).await, want);
    assert_eq!(run(&log, &empty).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_applied_yet_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let (log, live, random) = (open_log(folder.path()), open_tables(), Entropy::seeded(12));
    let messages = day(&random, 150);
    append(&log, &messages[..60], &random).await;
    run(&log, &live).await;
    append(&log, &messages[60..], &random).await;
    rebuilt(&log, &live).await;
    assert_eq!(standing(&live).await, oracle(&messages));
    assert_eq!(run(&log, &live).await, 0, "the offsets moved along");
    append(&log, &[Message::Merge { old: 3, new: 4, at: 9_999 }], &random).await;
    assert!(run(&log, &live).await > 0, "and it goes on from there");
}
