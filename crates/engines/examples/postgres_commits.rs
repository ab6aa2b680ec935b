//! Commits a second and rows a second through the tables on PostgreSQL, beside bare tokio-postgres writing the same
//! rows: `cargo run --profile fast -p hilum-engines --example postgres_commits [seconds]`.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hilum_core::{Id, Seq};
use hilum_engines::tables::postgres::{Postgres, PostgresConfig};
use hilum_engines::tables::{Batch, Column, Expect, Index, Outgoing, Table, Type, Value, Write};
use hilum_testkit::postgres::Postgres as Server;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// Shaped as a census board is.
static BOARD: Table = Table {
    name: "bench_board",
    key_len: 1,
    columns: &[
        Column::new("encounter", Type::Id),
        Column::new("patient", Type::Id),
        Column::new("unit", Type::Text),
        Column::optional("bed", Type::Text),
        Column::new("status", Type::Text),
        Column::new("detail", Type::Text),
        Column::new("from_t", Type::Seq),
    ],
    indexes: &[
        Index { name: "by_place", columns: &["unit", "bed"] },
        Index { name: "by_patient", columns: &["patient"] },
    ],
    register: None,
};

/// Spread over the key space as hashed ids are.
fn uuid(n: u64) -> Uuid {
    let spread =
        |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    Uuid::from_u64_pair(spread(n + 1), n)
}

fn unit(n: u64) -> String {
    format!("{}W", n % 40)
}

fn bed(n: u64) -> String {
    format!("{}", n % 30)
}

const DETAIL: &str = "{\"name\":\"홍길동\",\"birthDate\":\"1970-01-01\",\"gender\":\"male\",\"identifiers\":[\"00123456\"],\
     \"attending\":\"Dr. Kim\",\"since\":\"2026-01-01T00:00:00Z\"}";

fn row(n: u64) -> Vec<Value> {
    vec![
        Value::Id(Id::from(uuid(n))),
        Value::Id(Id::from(uuid(n / 3))),
        Value::Text(unit(n)),
        Value::Text(bed(n)),
        Value::Text("in-progress".to_owned()),
        Value::Text(DETAIL.to_owned()),
        Value::ThisCommit,
    ]
}

fn batch(first: u64, rows: u64) -> Batch {
    let keys = (first..first + rows).map(|n| Id::from(uuid(n)));
    Batch {
        expects: keys
            .clone()
            .map(|key| Expect { table: BOARD.name, key: vec![Value::Id(key)], t: None })
            .collect(),
        writes: (first..first + rows).map(|n| Write::Put { table: BOARD.name, values: row(n) }).collect(),
        outbox: keys.take(1).map(|key| Outgoing { topic: "bench", key, body: "{\"v\":1}".into() }).collect(),
        ..Batch::default()
    }
}

/// Processor time of this process in milliseconds.
fn own_cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
    fields.map(|n| n.parse::<u64>().unwrap()).sum::<u64>() * 10
}

/// Runs `clients` loops for a while and prints what came of it.
async fn clients<F: Future<Output = ()> + Send + 'static>(
    what: &str,
    server: &Server,
    seconds: u64,
    clients: usize,
    call: impl Fn(usize) -> F + Clone + Send + 'static,
) {
    let (ours, theirs) = (own_cpu_ms(), server.cpu_ms());
    let begin = Instant::now();
    let until = begin + Duration::from_secs(seconds);
    let mut tasks = Vec::new();
    for client in 0..clients {
        let call = call.clone();
        tasks.push(tokio::spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < until {
                let begin = Instant::now();
                call(client).await;
                took.push(begin.elapsed().as_micros());
            }
            took
        }));
    }
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.unwrap());
    }
    took.sort_unstable();
    let rate = took.len() as f64 / begin.elapsed().as_secs_f64();
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    let each = |ms: u64| ms as f64 * 1_000.0 / took.len() as f64;
    println!(
        "{what:16}{clients:3} clients {rate:7.0} commits/s  p50 {p50:6} us  p99 {p99:6} us  CPU us a commit: {:4.0} + server {:4.0}",
        each(own_cpu_ms() - ours),
        each(server.cpu_ms() - theirs),
    );
}

async fn bare(server: &Server) -> Client {
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

const COLUMNS: &str = "encounter, patient, unit, bed, status, detail, from_t, t_";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let seconds = std::env::args().nth(1).map_or(5, |raw| raw.parse().unwrap());
    let server = Server::shared();
    let next = std::sync::Arc::new(AtomicU64::new(0));
    let tables = Postgres::open(PostgresConfig::new(server.url(), "ours"), &[&BOARD]).await.unwrap();
    // The same tables for the bare client.
    Postgres::open(PostgresConfig::new(server.url(), "bare"), &[&BOARD]).await.unwrap().close().await;
    println!("{}; {seconds} s each; one row, one expectation, one outbox entry a commit", tables.describe());
    for n in [1, 16, 64] {
        let (tables, next) = (tables.clone(), next.clone());
        clients("ours", server, seconds, n, move |_| {
            let (tables, n) = (tables.clone(), next.fetch_add(1, Ordering::Relaxed));
            async move {
                tables.commit(batch(n, 1)).await.unwrap();
            }
        })
        .await;
    }
    for (what, with_counter) in [("bare + counter", true), ("bare, no t", false)] {
        for n in [1, 16] {
            let mut connections = Vec::new();
            for _ in 0..n {
                let client = bare(server).await;
                client.batch_execute("SET search_path = bare").await.unwrap();
                let insert = client
                    .prepare(&format!("INSERT INTO bench_board ({COLUMNS}) VALUES ($1,$2,$3,$4,$5,$6,0,0)"))
                    .await
                    .unwrap();
                let outbox =
                    client.prepare("INSERT INTO hilum_outbox VALUES ($1, 0, 'bench', $2, '')").await.unwrap();
                let counter = client.prepare("UPDATE hilum_counter SET t = t + 1").await.unwrap();
                connections.push(std::sync::Arc::new((client, insert, outbox, counter)));
            }
            let next = next.clone();
            clients(what, server, seconds, n, move |at| {
                let (connection, n) = (connections[at].clone(), next.fetch_add(1, Ordering::Relaxed));
                async move {
                    let (client, insert, outbox, counter) = &*connection;
                    let (key, patient, unit, bed) = (uuid(n), uuid(n / 3), unit(n), bed(n));
                    let count =
                        async { if with_counter { client.execute(counter, &[]).await } else { Ok(0) } };
                    let t = n as i64;
                    let row: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
                        [&key, &patient, &unit, &bed, &"in-progress", &DETAIL];
                    let told: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&t, &key];
                    let (begin, one, two, three, commit) = futures::join!(
                        client.batch_execute("BEGIN"),
                        client.execute(insert, &row),
                        client.execute(outbox, &told),
                        count,
                        client.batch_execute("COMMIT"),
                    );
                    begin.unwrap();
                    one.unwrap();
                    two.unwrap();
                    three.unwrap();
                    commit.unwrap();
                }
            })
            .await;
        }
    }

    const ROWS: u64 = 2_000;
    const BATCHES: u64 = 25;
    println!("batches of {ROWS} rows, {BATCHES} of them, one after the other");
    let (own, theirs) = (own_cpu_ms(), server.cpu_ms());
    let begin = Instant::now();
    let mut last = Seq(0);
    for _ in 0..BATCHES {
        last = tables.commit(batch(next.fetch_add(ROWS, Ordering::Relaxed), ROWS)).await.unwrap();
    }
    let ours = (ROWS * BATCHES) as f64 / begin.elapsed().as_secs_f64();
    let each = |ms: u64| ms as f64 * 1_000.0 / (ROWS * BATCHES) as f64;
    println!(
        "ours, validated {ours:7.0} rows/s  CPU us a row: {:.1} + server {:.1}; last t {last}",
        each(own_cpu_ms() - own),
        each(server.cpu_ms() - theirs),
    );
    let client = bare(server).await;
    client.batch_execute("SET search_path = bare").await.unwrap();
    let insert = client
        .prepare(&format!(
            "INSERT INTO bench_board ({COLUMNS}) SELECT *, 0, 0 FROM \
             unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[])"
        ))
        .await
        .unwrap();
    let (own, theirs) = (own_cpu_ms(), server.cpu_ms());
    let begin = Instant::now();
    for _ in 0..BATCHES {
        let first = next.fetch_add(ROWS, Ordering::Relaxed);
        let all = first..first + ROWS;
        let keys: Vec<Uuid> = all.clone().map(uuid).collect();
        let patients: Vec<Uuid> = all.clone().map(|n| uuid(n / 3)).collect();
        let units: Vec<String> = all.clone().map(unit).collect();
        let beds: Vec<String> = all.clone().map(bed).collect();
        let (status, details) = (vec!["in-progress"; ROWS as usize], vec![DETAIL; ROWS as usize]);
        client.execute(&insert, &[&keys, &patients, &units, &beds, &status, &details]).await.unwrap();
    }
    let bare = (ROWS * BATCHES) as f64 / begin.elapsed().as_secs_f64();
    println!(
        "bare UNNEST     {bare:7.0} rows/s  CPU us a row: {:.1} + server {:.1}; ours is {:.2} of it",
        each(own_cpu_ms() - own),
        each(server.cpu_ms() - theirs),
        ours / bare,
    );
}
