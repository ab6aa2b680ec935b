//! The interleaving test of the spine, over the real fold: three workers over eight partitions of two streams, their steps
//! interleaved by a seeded scheduler, partitions taken from one worker by another in between, one patient's messages on any
//! partition. Every schedule ends in the rows of the sequential run; with a planted fault some do not.
#![allow(clippy::unwrap_used)]

mod harness;

use std::sync::Arc;

use harness::stream::{Dice, messages};
use harness::{House, Msg, how_many, sqlite_tables};
use hilum_adt::decision::Decision;
use hilum_adt::project::{Adt, Planted};
use hilum_adt::settings::SourceSettings;
use hilum_chart::Runner;
use hilum_core::{Envelope, Id};
use hilum_engines::tables::Tables;
use hilum_testkit::workers::{Plant, interleave, nothing};

/// Runs one schedule to the end of the log. Returns how often workers were in each other's way.
async fn schedule(house: &House, tables: &Tables, seed: u64, plant: Plant) -> usize {
    let start = |place, progress| {
        let (projection, clock) = (Arc::clone(&house.projection), house.clock.clone());
        Runner::new(projection, house.log.clone(), tables.clone(), clock, place, progress)
    };
    interleave(&house.log, seed, plant, start).await
}

/// A day's messages and decisions, copies among them, on partitions that have nothing to do with patients.
fn day(house: &House, seed: u64) -> Vec<Envelope> {
    let dice = Dice::new(seed);
    let mut all = house.envelopes(&messages(seed, 50));
    let copies: Vec<Envelope> = all.iter().filter(|_| dice.one_in(6)).map(|one| house.copy_of(one)).collect();
    all.extend(copies);
    let (old, new, by) = (house.patient_id("11"), house.patient_id("12"), "kim".to_owned());
    all.push(house.decision(&Decision::Merge { old, new, by: by.clone(), reason: String::new() }));
    all.push(house.decision(&Decision::Unmerge { old, new, by, reason: String::new(), until: None }));
    dice.shuffle(&mut all);
    for (at, envelope) in all.iter_mut().enumerate() {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&(at as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        envelope.key = Id::from_bytes(key);
    }
    all
}

/// Which of the schedules end elsewhere than the sequential run, and how often workers met.
async fn wrong(days: u64, orders: u64, plant: Plant) -> (Vec<(u64, u64)>, usize) {
    let (mut wrong, mut in_the_way) = (Vec::new(), 0);
    for seed in 0..days {
        let mut house = House::with(sqlite_tables(), SourceSettings::default(), seed);
        house.pass_time(4 * 86_400);
        house.append_all(&day(&house, seed)).await;
        house.run().await;
        let want = house.canonical().await;
        for order in 0..orders {
            house.tables = sqlite_tables();
            let tables = house.tables.clone();
            in_the_way += schedule(&house, &tables, seed * 1_000 + order, plant).await;
            if house.canonical().await != want {
                wrong.push((seed, order));
            }
        }
    }
    (wrong, in_the_way)
}

#[tokio::test]
async fn every_schedule_ends_in_the_rows_of_the_sequential_run() {
    let days = how_many("HILUM_SIMULATED_DAYS", 4);
    let (wrong, in_the_way) = wrong(days, 3, nothing).await;
    assert_eq!(wrong, [], "(day, order)");
    assert!(in_the_way > 50, "the workers must have met, or nothing was tested: {in_the_way}");
}

#[tokio::test]
async fn without_the_check_of_heads_and_families_it_is_red() {
    let plant: Plant = |batch| batch.expects.retain(|expect| !expect.table.starts_with("chart_"));
    let (wrong, _) = wrong(3, 3, plant).await;
    assert!(!wrong.is_empty());
}

/// Two transfers of one second, in both orders of arrival.
async fn ties(planted: Option<Planted>) -> Vec<Vec<String>> {
    let mut seen = Vec::new();
    for order in [[0, 1, 2], [0, 2, 1], [2, 1, 0]] {
        let mut house = House::new();
        if let Some(planted) = planted {
            let projection = Adt::new(house.key.clone(), house.clock.clone()).planted(planted);
            house.projection = Arc::new(projection);
        }
        let all = [
            Msg::new("A01", "1", "010800", "1", "V1").at("W1^101^1^H").text(),
            Msg::new("A02", "2", "010900", "1", "V1").at("W2^201^1^H").text(),
            Msg::new("A02", "3", "010900", "1", "V1").at("W3^301^1^H").text(),
        ];
        for at in order {
            house.send(&all[at]).await;
        }
        house.run().await;
        seen.push(house.census().await);
    }
    seen.dedup();
    seen
}

#[tokio::test]
async fn with_ties_decided_by_arrival_it_is_red() {
    assert_eq!(ties(None).await.len(), 1);
    assert!(
        ties(Some(Planted::TiesByArrival)).await.len() > 1,
        "a fold that lets arrival decide must be caught"
    );
}
