//! Random searches by random principals, at random commits, against [`oracle`], on both engines. `SEARCH_QUERIES=100000`
//! asks for more than the sample.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod beside;
mod compare;
mod draw;
mod oracle;
mod quantity;
mod world;

use hilum_chart::resources;
use hilum_chart::search::From;
use hilum_core::{Authority, Role, Seq};
use hilum_engines::tables::Tables;
use hilum_engines::tables::postgres::{Postgres, PostgresConfig};
use hilum_engines::tables::sqlite::{self, Place as Where, Sqlite};
use hilum_fhir::search::query::{Handling, Query};
use world::{Principal, World, authority, withheld};

async fn postgres(server: &hilum_testkit::postgres::Postgres) -> Tables {
    let url = server.url();
    let config = PostgresConfig { allow_weak: true, ..PostgresConfig::new(url, server.fresh_schema()) };
    Tables::Postgres(Postgres::open(config, resources::TABLES).await.unwrap())
}

fn in_memory() -> Tables {
    Tables::Sqlite(Sqlite::open(Where::Memory, resources::TABLES, sqlite::Options::default()).unwrap())
}

async fn compare_all(tables: Tables, seed: u64) {
    let queries = std::env::var("SEARCH_QUERIES").map_or(400, |raw| raw.parse().unwrap());
    let mut world = World::new(tables, seed, 260).await;
    let mut hits = 0;
    for n in 0..queries {
        if n % 40 == 39 {
            world.write().await;
        }
        hits += usize::from(
            world.compare(&withheld()).await.unwrap_or_else(|why| panic!("seed {seed}: {why}")) > 0,
        );
    }
    assert!(hits * 4 > queries, "only {hits} of {queries} found anything");
}

#[tokio::test]
async fn searches_find_what_the_naked_eye_finds() {
    compare_all(in_memory(), 41).await;
}

#[tokio::test]
async fn searches_find_what_the_naked_eye_finds_on_postgresql() {
    let server = hilum_testkit::postgres::Postgres::shared();
    compare_all(postgres(server).await, 42).await;
}

/// Who only leaves out of an answer what may not be shown tells of it by totals, chains and `_has`: that is seen.
#[tokio::test]
async fn a_leak_is_seen() {
    let world = World::new(in_memory(), 43, 260).await;
    let (mut leaks, who) = (Vec::new(), Principal::all());
    for _ in 0..300 {
        leaks.extend(world.compare_as(&who, &who.authority, &[]).await.err());
    }
    let through = |what: &str| leaks.iter().filter(|leak| leak.contains(what)).count();
    assert!(leaks.len() > 20 && through("_has:") > 2 && through(":Patient.") > 2, "{leaks:#?}");
}

/// The same of who may know of some patients alone.
#[tokio::test]
async fn a_leak_to_who_is_limited_is_seen() {
    let world = World::new(in_memory(), 45, 260).await;
    let mut leaks = Vec::new();
    for _ in 0..200 {
        let who = Principal::some(&world.dice);
        leaks.extend(world.compare_as(&who, &authority(), &withheld()).await.err());
    }
    let through = |what: &str| leaks.iter().filter(|leak| leak.contains(what)).count();
    assert!(leaks.len() > 20 && through("_has:") > 2 && through("total") > 20, "{leaks:#?}");
}

#[test]
fn what_the_index_does_not_tell_is_refused_and_not_empty() {
    let cases = [
        ("identifiers have a type", "Patient", "identifier:of-type", None),
        ("under another name too", "ServiceRequest", "requisition:of-type", None),
        ("a concept has none", "Observation", "code:of-type", Some("code")),
        ("nor has a code", "Patient", "gender:of-type", Some("gender")),
        ("nor a coding", "Encounter", "class:of-type", Some("class")),
        ("nor a telephone", "Patient", "phone:of-type", Some("phone")),
        ("behind a reference", "Observation", "subject:Patient.gender:of-type", Some("gender")),
    ];
    for (why, ty, name, refused) in cases {
        // When it is read or when it is planned.
        let read = Query::parse(ty, [(name, "urn:t|MR|7")], Handling::Strict);
        let said = match read.map(|(query, _)| World::planned(&authority(), &query, None, &[])) {
            Ok(planned) => planned.err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        assert_eq!(said.is_some(), refused.is_some(), "{why}: {said:?}");
        let names = |code| said.iter().all(|said| said.contains(&format!("`{code}`")));
        assert!(refused.is_none_or(names), "{why}: {said:?}");
    }
}

#[tokio::test]
async fn who_may_not_read_finds_nothing() {
    let world = World::new(in_memory(), 44, 20).await;
    let (query, _) = Query::parse("Patient", [("gender:missing", "false")], Handling::Strict).unwrap();
    let plan = World::plan(&authority(), &query, None, &[]);
    let feed = Authority::new("feed", Role::Feed);
    assert!(world.chart.search(&feed, &plan, From { limit: 5, ..From::default() }).await.is_err());
    assert!(world.chart.search_count(&feed, &plan, 5, None).await.is_err());
    assert!(world.chart.matches(&feed, &[1], Seq(1)).await.is_err());
}
