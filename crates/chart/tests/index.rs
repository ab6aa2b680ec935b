//! The search index says at each commit what the bodies of that commit say, whatever order of versions, deletions and
//! re-creations led there, on both engines; and a rebuild finds and mends what it does not.

#![allow(clippy::unwrap_used)]

mod toy;

use std::collections::{BTreeMap, BTreeSet};

use hilum_chart::chart::Commit;
use hilum_chart::index::mend::{self, is_whole};
use hilum_chart::index::sweep::Sweep;
use hilum_chart::index::tables::{STRING, TABLES, TOKEN};
use hilum_chart::index::{Indexer, Unsearched};
use hilum_chart::projection::ResourceChange;
use hilum_chart::{Chart, ChartError};
use hilum_core::{Authority, Id, RecordId, Seq, Timestamp};
use hilum_engines::tables::{Batch, Tables, Value, Write};
use toy::{all, check_index, clock, id, indexer, open_postgres, open_tables, visible};

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// Few values, so that they go and come again.
fn body(random: &mut Random, resource_type: &str, id: Id) -> String {
    let name = random.of(&["Kim", "Lee", "José", "jose"]);
    let rest = match resource_type {
        "Patient" => format!(
            r#""gender":"{}","birthDate":"{}","name":[{{"family":"{name}"}}],"identifier":[{{"system":"http://{}","value":"{}"}}]"#,
            random.of(&["male", "female"]),
            random.of(&["1974", "1974-12-25"]),
            random.of(&["a", "b"]),
            random.of(&["1", "2"]),
        ),
        "Encounter" => format!(
            r#""status":"{}","subject":{{"reference":"Patient/{}"}},"period":{{"start":"{}"}}"#,
            random.of(&["in-progress", "finished"]),
            random.of(&["p", "q"]),
            random.of(&["2024-05-01", "2024-05-01T10:00:00Z"]),
        ),
        _ => format!(
            r#""status":"final","code":{{"coding":[{{"system":"http://l","code":"{}"}}]}},"valueQuantity":{{"value":{},"unit":"mg","system":"http://unitsofmeasure.org","code":"mg"}},"component":[{{"code":{{"text":"t","coding":[{{"code":"c"}}]}},"valueString":"{name}"}}]"#,
            random.of(&["1", "2", "3"]),
            random.of(&["5.4", "-1", "70"]),
        ),
    };
    format!(r#"{{"resourceType":"{resource_type}","id":"{id}",{rest}}}"#)
}

async fn commit(
    chart: &Chart,
    changes: BTreeMap<(&'static str, Id), Option<String>>,
) -> Result<Seq, ChartError> {
    let mut commit = Commit { door: "fhir", ..Commit::default() };
    for ((resource_type, id), body) in changes {
        let source = RecordId::new(Timestamp::from_micros(1), [0; 10]);
        commit.changes.resource(ResourceChange { resource_type, id, body, source });
    }
    Ok(chart.commit(&Authority::system("test"), commit).await?.t)
}

type Bodies = BTreeMap<(&'static str, Id), String>;

/// Random commits; the bodies that stand after each.
async fn walk(
    tables: &Tables,
    chart: &Chart,
    random: &mut Random,
    commits: usize,
    mut bodies: Bodies,
) -> Vec<(Seq, Bodies)> {
    let mut after = Vec::new();
    for _ in 0..commits {
        let mut changes = BTreeMap::new();
        for _ in 0..=random.below(3) {
            let resource_type = random.of(&["Patient", "Encounter", "Observation"]);
            let id = id(resource_type, random.below(3) as u32);
            let body = (random.below(4) > 0).then(|| body(random, resource_type, id));
            changes.insert((resource_type, id), body);
        }
        for (place, body) in &changes {
            match body {
                Some(body) => bodies.insert(*place, body.clone()),
                None => bodies.remove(place),
            };
        }
        let t = commit(chart, changes).await.unwrap();
        after.push((t, bodies.clone()));
    }
    assert!(is_whole(tables, &indexer()).await.unwrap());
    after
}

async fn says_what_the_bodies_say(tables: Tables, seed: u64) {
    let chart = Chart::open(tables.clone(), clock()).with_indexer(indexer());
    let mut random = Random(seed);
    let after = walk(&tables, &chart, &mut random, 120, Bodies::new()).await;
    says_at(&tables, &after, seed).await;
    check_index(&tables).await.unwrap();
    // One row a resource, the same for all its versions.
    let numbers = |rows: Vec<hilum_engines::tables::Row>| -> BTreeSet<_> {
        rows.into_iter().map(|row| row.values[10].clone()).collect()
    };
    let resources = all(&tables, &hilum_chart::resources::RESOURCE).await;
    assert_eq!(numbers(resources.clone()).len(), resources.len());

    // What no link asks for any more goes, and nothing else.
    let (gone, kept) = after.split_at(after.len() / 2);
    let until = gone.last().unwrap().0;
    assert!(closed(&tables, until).await > 20);
    let (mut sweep, mut removed) = (Sweep::default(), 0);
    loop {
        let step = sweep.step(&tables, until).await.unwrap();
        removed += step.removed;
        if step.is_round {
            break;
        }
    }
    assert!(removed > 20 && closed(&tables, until).await == 0, "{removed}");
    says_at(&tables, kept, seed).await;
    check_index(&tables).await.unwrap();
}

/// Rows that were closed at `until` or before.
async fn closed(tables: &Tables, until: Seq) -> usize {
    let mut count = 0;
    for table in TABLES {
        let to_t = table.column("to_t").unwrap();
        let rows = all(tables, table).await;
        count += rows.iter().filter(|row| matches!(row.values[to_t], Value::Seq(t) if t <= until)).count();
    }
    count
}

/// The rows visible at each commit are those of its bodies.
async fn says_at(tables: &Tables, after: &[(Seq, Bodies)], seed: u64) {
    for (t, bodies) in after {
        let want: BTreeSet<_> = bodies
            .iter()
            .flat_map(|((ty, id), body)| {
                let rows = indexer().rows(Some(body), |_| Unsearched::Nothing).rows;
                rows.into_iter().map(move |row| ((*ty).to_owned(), *id, format!("{row:?}")))
            })
            .collect();
        assert_eq!(visible(tables, *t).await, want, "at {t:?}, seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_says_what_the_bodies_said_at_each_commit() {
    for seed in 1..=4 {
        says_what_the_bodies_say(open_tables(), seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_on_postgresql() {
    let server = hilum_testkit::postgres::Postgres::shared();
    says_what_the_bodies_say(open_postgres(server, &server.url()).await, 9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_finds_and_mends_what_is_not_as_it_should_be() {
    let (tables, mut random) = (open_tables(), Random(5));
    // Before there was an index.
    let chart = Chart::open(tables.clone(), clock());
    for n in 0..3 {
        let id = id("Patient", n);
        commit(&chart, BTreeMap::from([(("Patient", id), Some(body(&mut random, "Patient", id)))]))
            .await
            .unwrap();
    }
    assert!(!is_whole(&tables, &indexer()).await.unwrap());
    let owners: mend::Owners<'_> = &[("fhir", |_| Unsearched::Nothing)];
    let rebuild = async || mend::rebuild(&tables, &indexer(), owners, &|_| ()).await.unwrap();
    let report = rebuild().await;
    assert_eq!((report.resources, report.indexed, report.removed), (3, 3, 0));
    assert!(is_whole(&tables, &indexer()).await.unwrap());
    check_index(&tables).await.unwrap();

    // On top of that, versions as ever.
    let chart = chart.with_indexer(indexer());
    walk(&tables, &chart, &mut random, 40, Bodies::new()).await;
    check_index(&tables).await.unwrap();
    let report = rebuild().await;
    assert_eq!((report.indexed, report.removed), (0, 0), "nothing differs");
    let sample = async || {
        let least = Id::from_bytes([0; 16]);
        mend::sample(&tables, &indexer(), owners, least).await.unwrap()
    };
    let seen = sample().await;
    assert!(seen.resources > 3 && seen.rows > 20 && seen.missing == 0, "{seen:?}");

    // A row is gone, another says something else.
    for (why, table, columns) in [("gone", &TOKEN, None), ("changed", &STRING, Some(1))] {
        let open = all(&tables, table).await.into_iter().find(|row| row.values[5] == Value::Null).unwrap();
        let mut writes =
            vec![Write::Delete { table: table.name, key: open.values[..table.key_len].to_vec() }];
        if let Some(at) = columns {
            let mut values = open.values.clone();
            values[at] = Value::Text("somebody else".to_owned());
            writes.push(Write::Put { table: table.name, values });
        }
        tables.commit(Batch { writes, ..Batch::default() }).await.unwrap();
        assert!(check_index(&tables).await.is_err(), "{why}: the check finds nothing");
        assert!(sample().await.missing > 0, "{why}: a look at some finds nothing");
        let report = rebuild().await;
        assert!(report.indexed == report.resources && report.removed > 0, "{why}: {report:?}");
        check_index(&tables).await.unwrap();
        assert_eq!(rebuild().await.indexed, 0, "{why}: mended for good");
    }

    // Other settings, and a time without an index: searches wait.
    let (key, mut settings) = toy::index_settings();
    settings.bases.push("http://elsewhere".to_owned());
    let other = Indexer::new(key, settings);
    assert!(!is_whole(&tables, &other).await.unwrap());
    let without = Chart::open(tables.clone(), clock());
    let id = id("Patient", 0);
    let last = r#"{"resourceType":"Patient","id":"ID","active":true}"#.replace("ID", &id.to_string());
    commit(&without, BTreeMap::from([(("Patient", id), Some(last))])).await.unwrap();
    assert!(!is_whole(&tables, &indexer()).await.unwrap());
    rebuild().await;
    assert!(is_whole(&tables, &indexer()).await.unwrap());
    check_index(&tables).await.unwrap();
}

#[tokio::test]
async fn a_body_with_too_many_values_is_refused() {
    let chart = Chart::open(open_tables(), clock()).with_indexer(indexer());
    let id = id("Patient", 1);
    let many: Vec<String> = (0..20_000).map(|n| format!(r#"{{"value":"{n}"}}"#)).collect();
    let body = format!(r#"{{"resourceType":"Patient","id":"{id}","identifier":[{}]}}"#, many.join(","));
    let refused = commit(&chart, BTreeMap::from([(("Patient", id), Some(body))])).await;
    assert!(matches!(refused, Err(ChartError::Bound { .. })), "{refused:?}");
}
