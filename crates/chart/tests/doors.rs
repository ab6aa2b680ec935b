//! The chart's doors: who may read what, versions and history, rules, and chart-first commits against other writers.

#![allow(clippy::unwrap_used)]

mod toy;

use std::collections::BTreeMap;

use hilum_chart::chart::{Commit, CommitRule, Refusal};
use hilum_chart::family::Head;
use hilum_chart::projection::{Changes, Projection, ResourceChange};
use hilum_chart::runner::Stepped;
use hilum_chart::{Chart, ChartError, Progress, Runner};
use hilum_core::{Authority, Entropy, Id, Kind, RecordId, Role, Seq, Timestamp};
use hilum_engines::tables::{Key, Value};
use toy::{Message, Toy, clock, envelope, id, open_log, open_tables};

fn change(resource_type: &'static str, id: Id, body: Option<&str>) -> Changes {
    let mut changes = Changes::default();
    changes.resource(ResourceChange {
        resource_type,
        id,
        body: body.map(|rest| format!(r#"{{"resourceType":"{resource_type}","id":"{id}"{rest}}}"#)),
        source: RecordId::new(Timestamp::from_micros(1), [0; 10]),
    });
    changes
}

fn commit(changes: Changes) -> Commit {
    Commit { door: "fhir", changes, ..Commit::default() }
}

fn operator() -> Authority {
    Authority::new("kim", Role::Operator)
}

#[tokio::test]
async fn versions_history_and_deletion() {
    let chart = Chart::open(open_tables(), clock());
    let (who, one) = (operator(), id("Goal", 1));
    assert!(matches!(chart.read(&who, "Goal", one).await, Err(ChartError::NotFound)));
    for (body, want) in [
        (r#","n":1"#, Some(1)),
        (r#","n":1"#, None),
        (r#","meta":{"versionId":"77","lastUpdated":"x"},"n":2"#, Some(2)),
    ] {
        let done = chart.commit(&who, commit(change("Goal", one, Some(body)))).await.unwrap();
        assert_eq!(done.versions.get(&("Goal", one)).copied(), want, "{body}");
    }
    let stored = chart.read(&who, "Goal", one).await.unwrap();
    assert_eq!(stored.text().unwrap(), format!(r#"{{"resourceType":"Goal","id":"{one}","n":2}}"#));
    assert_eq!(
        stored.json().unwrap(),
        format!(
            r#"{{"resourceType":"Goal","id":"{one}","meta":{{"versionId":"2","lastUpdated":"{}"}},"n":2}}"#,
            stored.updated
        )
    );
    chart.commit(&who, commit(change("Goal", one, None))).await.unwrap();
    let gone = chart.read(&who, "Goal", one).await;
    assert!(matches!(gone, Err(ChartError::Gone { version: 3 })), "{gone:?}");
    let versions = chart.history(&who, "Goal", one, None, 10).await.unwrap();
    assert_eq!(
        versions.iter().map(|stored| (stored.version, stored.deleted)).collect::<Vec<_>>(),
        [(3, true), (2, false), (1, false)]
    );
    assert!(
        versions.windows(2).all(|pair| pair[1].t_to == Some(pair[0].t_from)),
        "one ends where the next begins"
    );
    let before = chart.history(&who, "Goal", one, Some(3), 1).await.unwrap();
    assert_eq!(before.iter().map(|stored| stored.version).collect::<Vec<_>>(), [2]);
    assert_eq!(chart.version(&who, "Goal", one, 1).await.unwrap().version, 1);
    assert!(matches!(chart.version(&who, "Goal", one, 4).await, Err(ChartError::NotFound)));
    let outbox = chart.tables().changes(Seq(0), 100).await.unwrap();
    assert_eq!(outbox.len(), 3, "one entry for each version");
    assert_eq!(outbox[2].body, format!(r#"{{"type":"Goal","id":"{one}","version":3}}"#));
}

#[tokio::test]
async fn who_may_not_read_finds_nothing() {
    let chart = Chart::open(open_tables(), clock());
    let one = id("Goal", 1);
    chart.commit(&operator(), commit(change("Goal", one, Some("")))).await.unwrap();
    let feed = Authority::new("feed", Role::Feed);
    let outcomes = [
        chart.read(&feed, "Goal", one).await.err(),
        chart.read_all(&feed, &[("Goal", one)]).await.err(),
        chart.version(&feed, "Goal", one, 1).await.err(),
        chart.history(&feed, "Goal", one, None, 1).await.err(),
        chart.page(&feed, "Goal", None, 1).await.err(),
        chart.canonical_hash(&feed, &[]).await.err(),
    ];
    for outcome in outcomes {
        assert!(matches!(outcome, Some(ChartError::NotFound)), "{outcome:?}");
    }
    let viewer = Authority::new("lee", Role::Viewer);
    assert!(chart.read(&viewer, "Goal", one).await.is_ok());
    let refused = chart.commit(&viewer, commit(change("Goal", one, None))).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Forbidden);
}

#[tokio::test]
async fn bodies_are_what_they_are_said_to_be() {
    let chart = Chart::open(open_tables(), clock());
    let (one, other) = (id("Goal", 1), id("Goal", 2));
    let cases = [
        ("no JSON", "{".to_owned()),
        ("another type", format!(r#"{{"resourceType":"Task","id":"{one}"}}"#)),
        ("another id", format!(r#"{{"resourceType":"Goal","id":"{other}"}}"#)),
    ];
    for (why, body) in cases {
        let mut changes = change("Goal", one, None);
        changes.resources.get_mut(&("Goal", one)).unwrap().body = Some(body);
        let outcome = chart.commit(&operator(), commit(changes)).await;
        assert!(matches!(outcome, Err(ChartError::Body(_))), "{why}: {outcome:?}");
    }
}

#[tokio::test]
async fn of_two_writers_with_the_same_version_one_wins() {
    let chart = Chart::open(open_tables(), clock());
    let one = id("Goal", 1);
    chart.commit(&operator(), commit(change("Goal", one, Some("")))).await.unwrap();
    let write = |n: u32| {
        let chart = chart.clone();
        async move {
            let body = format!(",\"n\":{n}");
            let if_versions = BTreeMap::from([(("Goal", one), 1)]);
            let commit = Commit { if_versions, ..commit(change("Goal", one, Some(&body))) };
            chart.commit(&operator(), commit).await
        }
    };
    let outcomes = futures::future::join_all((0..8).map(write)).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for lost in outcomes.into_iter().filter_map(Result::err) {
        assert!(matches!(lost, ChartError::Version { given: 1, current: 2 }), "{lost:?}");
    }
    // Without a version named, all of them come through one after the other.
    let blind = |n: u32| {
        let chart = chart.clone();
        async move { chart.commit(&operator(), commit(change("Goal", one, Some(&format!(",\"b\":{n}"))))).await }
    };
    for outcome in futures::future::join_all((0..4).map(blind)).await {
        outcome.unwrap();
    }
    assert_eq!(chart.read(&operator(), "Goal", one).await.unwrap().version, 6);
}

#[tokio::test]
async fn rules_refuse_and_add() {
    const NO_SECRETS: CommitRule = CommitRule {
        name: "no-secrets",
        resource_type: "Goal",
        check: |proposed, changes| {
            let body = proposed.change.body.as_deref().unwrap_or_default();
            if body.contains("secret") {
                return Err(Refusal("it has a secret".to_owned()));
            }
            if proposed.current.is_none() {
                let id = proposed.change.id;
                changes.resource(ResourceChange {
                    resource_type: "Task",
                    id,
                    body: Some(format!(r#"{{"resourceType":"Task","id":"{id}"}}"#)),
                    source: proposed.change.source,
                });
            }
            Ok(())
        },
    };
    let chart = Chart::open(open_tables(), clock()).with_rules([NO_SECRETS]);
    let one = id("Goal", 1);
    let refused = chart.commit(&operator(), commit(change("Goal", one, Some(r#","a":"secret""#)))).await;
    assert!(matches!(refused, Err(ChartError::Refused { rule: "no-secrets", .. })), "{refused:?}");
    assert!(matches!(chart.read(&operator(), "Goal", one).await, Err(ChartError::NotFound)));
    let done = chart.commit(&operator(), commit(change("Goal", one, Some("")))).await.unwrap();
    assert_eq!(done.versions, BTreeMap::from([(("Goal", one), 1), (("Task", one), 1)]));
    let other_door = Commit { door: "proms", ..commit(change("Goal", one, None)) };
    let owned = chart.commit(&operator(), other_door).await;
    assert!(matches!(&owned, Err(ChartError::Owned { owner }) if owner == "fhir"), "{owned:?}");
}

#[tokio::test]
async fn a_commit_into_a_compartment_and_a_fold_of_it_are_ordered() {
    let folder = tempfile::tempdir().unwrap();
    let (log, tables) = (open_log(folder.path()), open_tables());
    let note = Message::Note { account: 1, visit: 1, place: 1, value: 1, at: 1 };
    let position = log.append(envelope(&note, &Entropy::seeded(1))).await.unwrap();
    let progress = Progress::new(Toy::NAME, log.places(Toy::STREAMS));
    let place = (position.stream, position.partition);
    let mut runner = Runner::new(toy::toy(), log, tables.clone(), clock(), place, progress);
    runner.step().await.unwrap();
    runner.step().await.unwrap();
    let chart = Chart::open(tables, clock());
    let touching = || Commit {
        heads: vec![Head::patient(id("Account", 1))],
        ..commit(change("Goal", id("Goal", 1), Some("")))
    };
    let first = chart.commit(&operator(), touching()).await.unwrap();
    assert_eq!(runner.step().await.unwrap(), Stepped::Conflict, "it read the family before");
    while !matches!(runner.step().await.unwrap(), Stepped::Committed { .. }) {}
    let key: Key = vec![Value::Id(id("Account", 1))];
    let read = [hilum_engines::tables::Read::Get { table: "chart_family", key }];
    let family = chart.tables().read(&read).await.unwrap().pop().unwrap().pop().unwrap();
    assert!(family.t > first.t);
    assert_eq!(family.values[1], Value::Int(2), "the head that the door founded, and the visit");
}

#[tokio::test]
async fn the_hash_is_of_what_stands_not_of_how_it_came() {
    let (direct, detour) = (Chart::open(open_tables(), clock()), Chart::open(open_tables(), clock()));
    let who = operator();
    for n in 0..30 {
        let body = format!(",\"n\":{n}");
        direct.commit(&who, commit(change("Goal", id("Goal", n), Some(&body)))).await.unwrap();
    }
    assert_ne!(
        direct.canonical_hash(&who, &[]).await.unwrap(),
        detour.canonical_hash(&who, &[]).await.unwrap()
    );
    for n in (0..30).rev() {
        let body = format!(",\"n\":{n}");
        detour.commit(&who, commit(change("Goal", id("Goal", n), Some(",\"n\":99")))).await.unwrap();
        detour.commit(&who, commit(change("Goal", id("Goal", n), Some(&body)))).await.unwrap();
    }
    detour.commit(&who, commit(change("Goal", id("Goal", 99), Some("")))).await.unwrap();
    detour.commit(&who, commit(change("Goal", id("Goal", 99), None))).await.unwrap();
    let hash = |chart: &Chart, types: &'static [&'static str]| {
        let (chart, who) = (chart.clone(), who.clone());
        async move { chart.canonical_hash(&who, types).await.unwrap() }
    };
    assert_eq!(hash(&direct, &[]).await, hash(&detour, &[]).await);
    assert_eq!(hash(&direct, &["Goal", "Task"]).await, hash(&detour, &["Task", "Goal", "Goal"]).await);
    detour.commit(&who, commit(change("Task", id("Task", 1), Some("")))).await.unwrap();
    assert_ne!(hash(&direct, &[]).await, hash(&detour, &[]).await);
    assert_eq!(hash(&direct, &["Goal"]).await, hash(&detour, &["Goal"]).await);
    let (page, cursor) = direct.page(&who, "Goal", None, 20).await.unwrap();
    let (rest, end) = direct.page(&who, "Goal", cursor, 20).await.unwrap();
    assert_eq!((page.len(), rest.len(), end), (20, 10, None));
}
