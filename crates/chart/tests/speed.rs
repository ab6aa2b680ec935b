//! How fast the runner is with a projection that does little: run by hand, `cargo test -p hilum-chart --test speed --
//! --ignored --nocapture`. Says where the time of a real one goes.

#![allow(clippy::unwrap_used)]

mod toy;

use std::time::Instant;

use hilum_chart::{resources, run_all};
use hilum_core::Entropy;
use hilum_engines::tables::sqlite::{self, Sqlite};
use hilum_engines::tables::{Table, Tables};
use toy::{Message, below, clock, envelope, open_log};

const MESSAGES: u32 = 100_000;
const ACCOUNTS: u32 = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn hundred_thousand() {
    let folder = tempfile::tempdir().unwrap();
    let (log, random) = (open_log(folder.path()), Entropy::seeded(1));
    let schema: Vec<&'static Table> = resources::TABLES.iter().chain(toy::TABLES).copied().collect();
    let place = folder.path().join("tables.sqlite");
    let tables = Tables::Sqlite(Sqlite::open(place.as_path(), &schema, sqlite::Options::default()).unwrap());
    let envelopes: Vec<_> = (0..MESSAGES)
        .map(|n| {
            let account = below(&random, ACCOUNTS);
            let message = match below(&random, 200) {
                0 => Message::Merge { old: account, new: below(&random, ACCOUNTS), at: n },
                _ => {
                    Message::Note { account, visit: account, place: below(&random, 300), value: 3 * n, at: n }
                }
            };
            envelope(&message, &random)
        })
        .collect();
    let start = Instant::now();
    let running = run_all(&toy::toy(), &log, &tables, &clock());
    for chunk in envelopes.chunks(2_000) {
        let appends = chunk.iter().map(|envelope| log.append(envelope.clone()));
        for outcome in futures::future::join_all(appends).await {
            outcome.unwrap();
        }
    }
    let durable = start.elapsed();
    let applied = |health: &hilum_chart::ProjectionHealth| -> u64 {
        health.partitions.iter().map(|one| one.applied).sum()
    };
    let mut moved = running.progress().moved();
    while applied(&running.progress().health()) < u64::from(MESSAGES) {
        moved.changed().await.unwrap();
    }
    let all = start.elapsed();
    let health = running.progress().health();
    running.stop().await;
    let (mut commits, mut conflicts) = (0, 0);
    for one in &health.partitions {
        commits += one.commits;
        conflicts += one.conflicts;
    }
    println!("durable {durable:?}, applied {all:?}, commits {commits}, conflicts {conflicts}");
}
