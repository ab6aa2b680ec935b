//! What the embedded engines give on this machine, beside bare SQLite with the same bytes in the same run:
//! `cargo run --release -p hilum-engines --example log_rate -- FOLDER [RECORDS]`.
#![allow(clippy::print_stdout, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hilum_core::{Clock, Digest, Entropy, Envelope, Id, RecordId, Seq, Stream, Timestamp};
use hilum_engines::log::embedded::{Embedded, Options as LogOptions};
use hilum_engines::log::{Log, ReadMax};
use hilum_engines::tables::sqlite::{Options, Sqlite};
use hilum_engines::tables::{Batch, Column, Expect, Index, Outgoing, Read, Table, Type, Value, Write};
use hilum_testkit::record;

const BODY_BYTES: usize = 1_200;

fn body(n: u64) -> Vec<u8> {
    let mut body = format!("MSH|^~\\&|ADT|WARD|HILUM||20240101||ADT^A01|{n}|P|2.5\r").into_bytes();
    let mut noise = vec![0; (BODY_BYTES - body.len()) / 2];
    Entropy::seeded(n).fill(&mut noise);
    body.extend(noise.iter().flat_map(|b| [b'a' + (b & 15), b'a' + (b >> 4)]));
    body
}

fn id(n: u64) -> Id {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Digest::of(&n.to_le_bytes()).as_bytes()[..16]);
    Id::from_bytes(bytes)
}

fn envelope(n: u64, body: Vec<u8>) -> Envelope {
    let received = Timestamp::from_micros(n as i64);
    Envelope {
        id: RecordId::new(received, [1; 10]),
        received,
        peer: Some("127.0.0.1:52575".to_owned()),
        key: id(n / 5),
        charset_rule: Some("msh-18".to_owned()),
        ..record::envelope(Stream::Hl7In, body)
    }
}

fn machine_clock() -> Clock {
    let start = Instant::now();
    Clock::new(move || Timestamp::from_micros(start.elapsed().as_micros() as i64))
}

fn open_log(path: &Path) -> Log {
    let log =
        Embedded::open(path, machine_clock(), Entropy::seeded(1), LogOptions::default()).expect("opens");
    Log::Embedded(log)
}

/// Appends `records` with `in_flight` at once; gives seconds and the sorted latencies in microseconds.
async fn appends(log: &Log, records: u64, in_flight: u64) -> (f64, Vec<u64>) {
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (log, next) = (log.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                let mut took = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= records {
                        return took;
                    }
                    let envelope = envelope(n, body(n));
                    let at = Instant::now();
                    log.append(envelope).await.expect("appends");
                    took.push(at.elapsed().as_micros() as u64);
                }
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.expect("joins"));
    }
    let seconds = start.elapsed().as_secs_f64();
    took.sort_unstable();
    (seconds, took)
}

fn spread(sorted: &[u64]) -> String {
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize] as f64 / 1_000.0;
    format!("p50 {:.2} p99 {:.2} max {:.2} ms", at(0.5), at(0.99), at(1.0))
}

/// One record each millisecond, for `seconds`.
async fn steady(log: &Log, seconds: u64) -> Vec<u64> {
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    let mut tasks = Vec::new();
    for n in 0..seconds * 1_000 {
        tick.tick().await;
        let log = log.clone();
        tasks.push(tokio::spawn(async move {
            let envelope = envelope(n, body(n));
            let at = Instant::now();
            log.append(envelope).await.expect("appends");
            at.elapsed().as_micros() as u64
        }));
    }
    let mut took = Vec::new();
    for task in tasks {
        took.push(task.await.expect("joins"));
    }
    took.sort_unstable();
    took
}

// Like the board and the journey of a message.
static BOARD: Table = Table {
    name: "board",
    key_len: 1,
    columns: &[
        Column::new("encounter", Type::Id),
        Column::new("patient", Type::Id),
        Column::new("unit", Type::Text),
        Column::optional("bed", Type::Text),
        Column::new("status", Type::Text),
        Column::new("detail", Type::Text),
        Column::new("message", Type::Id),
        Column::new("from_t", Type::Seq),
    ],
    indexes: &[
        Index { name: "by_place", columns: &["unit", "bed"] },
        Index { name: "by_patient", columns: &["patient"] },
    ],
    register: None,
};
static MESSAGE: Table = Table {
    name: "message",
    key_len: 1,
    columns: &[
        Column::new("id", Type::Id),
        Column::new("received", Type::Time),
        Column::new("control_id", Type::Text),
        Column::new("status", Type::Text),
        Column::new("findings", Type::Text),
        Column::optional("patient", Type::Id),
        Column::optional("encounter", Type::Id),
        Column::new("size", Type::Int),
    ],
    indexes: &[
        Index { name: "by_received", columns: &["received"] },
        Index { name: "by_control_id", columns: &["control_id", "received"] },
        Index { name: "by_status", columns: &["status", "received"] },
        Index { name: "by_patient", columns: &["patient", "received"] },
        Index { name: "by_encounter", columns: &["encounter", "received"] },
    ],
    register: None,
};
static HEAD: Table = Table {
    name: "head",
    key_len: 1,
    columns: &[Column::new("id", Type::Id), Column::new("family", Type::Id)],
    indexes: &[],
    register: None,
};
static RESOURCE: Table = Table {
    name: "resource",
    key_len: 2,
    columns: &[
        Column::new("type", Type::Text),
        Column::new("id", Type::Id),
        Column::new("version", Type::Int),
        Column::new("body", Type::Bytes),
        Column::new("source", Type::Id),
        Column::new("t", Type::Seq),
    ],
    indexes: &[],
    register: None,
};

/// What the fold of message `n` writes: about 4 rows.
fn rows(n: u64) -> Vec<Write> {
    let (encounter, patient, message) =
        (id(0x100_0000_0000 + n / 5), id(0x200_0000_0000 + n / 5), id(0x300_0000_0000 + n));
    let text = |text: String| Value::Text(text);
    let put = |table: &'static Table, values| Write::Put { table: table.name, values };
    let mut body = vec![0; 600];
    Entropy::seeded(n).fill(&mut body);
    let resource = |kind: &str, id| {
        put(
            &RESOURCE,
            vec![
                text(kind.to_owned()),
                Value::Id(id),
                Value::Int((n % 5) as i64),
                Value::Bytes(Bytes::from(body.clone())),
                Value::Id(message),
                Value::ThisCommit,
            ],
        )
    };
    vec![
        put(
            &BOARD,
            vec![
                Value::Id(encounter),
                Value::Id(patient),
                text(format!("unit {}", n % 30)),
                Some(n % 7).filter(|bed| *bed > 0).map_or(Value::Null, |bed| text(format!("bed {bed}"))),
                text("in-progress".to_owned()),
                text("x".repeat(200)),
                Value::Id(message),
                Value::ThisCommit,
            ],
        ),
        put(
            &MESSAGE,
            vec![
                Value::Id(message),
                Value::Time(Timestamp::from_micros(n as i64)),
                text(format!("{n}")),
                text("applied".to_owned()),
                text("[]".to_owned()),
                Value::Id(patient),
                Value::Id(encounter),
                Value::Int(1_200),
            ],
        ),
        put(&HEAD, vec![Value::Id(encounter), Value::Id(patient)]),
        resource("Encounter", encounter),
    ]
}

/// One batch of messages: a row that several of them write is written once, the last word counts.
fn batch(from: u64, messages: u64, tables: &[(&'static str, usize)]) -> Batch {
    let mut last = std::collections::BTreeMap::new();
    for write in (from..from + messages).flat_map(rows) {
        let Write::Put { table, values } = &write else { continue };
        let key_len = tables.iter().find(|(name, _)| name == table).map_or(1, |(_, len)| *len);
        last.insert((*table, values[..key_len].to_vec()), write);
    }
    let outbox = (from..from + messages)
        .map(|n| Outgoing { topic: "adt.board", key: id(n), body: Bytes::from_static(b"{\"t\":1}") })
        .collect();
    Batch { writes: last.into_values().collect(), outbox, ..Batch::default() }
}

async fn commits(dir: &Path, messages: u64, size: u64) {
    let tables = Sqlite::open(
        dir.join("tables.sqlite").as_path(),
        &[&BOARD, &MESSAGE, &HEAD, &RESOURCE],
        Options::default(),
    )
    .expect("opens");
    let keys = [("board", 1), ("message", 1), ("head", 1), ("resource", 2)];
    let batches: Vec<Batch> = (0..messages / size).map(|n| batch(n * size, size, &keys)).collect();
    let rows: usize = batches.iter().map(|batch| batch.writes.len()).sum();
    let start = Instant::now();
    let mut read_s = 0.0;
    let mut took = Vec::new();
    for batch in &batches {
        // As the runner does: read what is written, then commit what it was based on.
        let reads: Vec<Read> = batch
            .writes
            .iter()
            .filter_map(|write| match write {
                Write::Put { table, values } => {
                    let key_len = keys.iter().find(|(name, _)| name == table).map_or(1, |(_, len)| *len);
                    Some(Read::Get { table, key: values[..key_len].to_vec() })
                }
                _ => None,
            })
            .collect();
        let at = Instant::now();
        let found = tables.read(&reads).await.expect("reads");
        read_s += at.elapsed().as_secs_f64();
        let expects = reads
            .into_iter()
            .zip(found)
            .filter_map(|(read, rows)| match read {
                Read::Get { table, key } => Some(Expect { table, key, t: rows.first().map(|row| row.t) }),
                Read::Scan(_) => None,
            })
            .collect();
        let at = Instant::now();
        tables.commit(Batch { expects, ..batch.clone() }).await.expect("commits");
        took.push(at.elapsed().as_micros() as u64);
    }
    let seconds = start.elapsed().as_secs_f64();
    took.sort_unstable();
    println!(
        "tables: {messages} messages in batches of {size}, {rows} rows: {:.0} rows/s, {:.0} messages/s (reads {read_s:.1} s of {seconds:.1} s); commit {}",
        rows as f64 / seconds,
        messages as f64 / seconds,
        spread(&took)
    );
    assert_eq!(tables.now().await.expect("now"), Seq(batches.len() as i64));
    tables.close().await;
    let file = std::fs::metadata(dir.join("tables.sqlite")).expect("there").len();
    println!("tables: {:.0} bytes a message", file as f64 / messages as f64);

    // The same rows bare: the same tables and indexes, an upsert for each row, one transaction for each batch.
    let bare = rusqlite::Connection::open(dir.join("bare-tables.sqlite")).expect("opens");
    bare.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -49152;
         CREATE TABLE board (encounter BLOB PRIMARY KEY, patient BLOB, unit TEXT, bed TEXT, status TEXT, detail TEXT, message BLOB, from_t INTEGER) STRICT;
         CREATE INDEX by_place ON board (unit, bed, encounter); CREATE INDEX by_patient ON board (patient, encounter);
         CREATE TABLE message (id BLOB PRIMARY KEY, received INTEGER, control_id TEXT, status TEXT, findings TEXT, patient BLOB, encounter BLOB, size INTEGER) STRICT;
         CREATE INDEX m1 ON message (received, id); CREATE INDEX m2 ON message (control_id, received, id);
         CREATE INDEX m3 ON message (status, received, id); CREATE INDEX m4 ON message (patient, received, id);
         CREATE INDEX m5 ON message (encounter, received, id);
         CREATE TABLE head (id BLOB PRIMARY KEY, family BLOB) STRICT, WITHOUT ROWID;
         CREATE TABLE resource (type TEXT, id BLOB, version INTEGER, body BLOB, source BLOB, t INTEGER, PRIMARY KEY (type, id)) STRICT;",
    )
    .expect("makes");
    let start = Instant::now();
    for batch in &batches {
        bare.execute_batch("BEGIN IMMEDIATE").expect("begins");
        for write in &batch.writes {
            let Write::Put { table, values } = write else { continue };
            let marks = vec!["?"; values.len()].join(", ");
            let mut statement = bare
                .prepare_cached(&format!("INSERT OR REPLACE INTO {table} VALUES ({marks})"))
                .expect("prepares");
            for (at, value) in values.iter().enumerate() {
                let at = at + 1;
                match value {
                    Value::Null => statement.raw_bind_parameter(at, rusqlite::types::Null),
                    Value::Int(int) => statement.raw_bind_parameter(at, int),
                    Value::Time(time) => statement.raw_bind_parameter(at, time.as_micros()),
                    Value::Id(id) => statement.raw_bind_parameter(at, &id.as_bytes()[..]),
                    Value::Text(text) => statement.raw_bind_parameter(at, text),
                    Value::Bytes(bytes) => statement.raw_bind_parameter(at, &bytes[..]),
                    _ => statement.raw_bind_parameter(at, 1),
                }
                .expect("binds");
            }
            statement.raw_execute().expect("inserts");
        }
        bare.execute_batch("COMMIT").expect("commits");
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("bare SQLite, the same rows replaced unread: {:.0} rows/s", rows as f64 / seconds);
}

fn cpu_s() -> f64 {
    // utime and stime in ticks of 10 ms.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().expect("a folder");
    let records: u64 = args.next().map_or(100_000, |n| n.parse().expect("a number"));
    let dir = Path::new(&dir);
    std::fs::create_dir_all(dir).expect("a folder");

    let bodies: Vec<Vec<u8>> = (0..records).map(body).collect();
    let start = Instant::now();
    hilum_engines::bare::append(&dir.join("bare.sqlite"), &bodies, 512).expect("appends");
    let bare = records as f64 / start.elapsed().as_secs_f64();
    println!("bare SQLite, groups of 512: {bare:.0} records/s");
    drop(bodies);

    let log = open_log(&dir.join("log.sqlite"));
    for (in_flight, records) in [(512, records), (16, records / 5), (1, records / 50)] {
        let (cpu, groups) = (cpu_s(), *log.appended().borrow());
        let (seconds, took) = appends(&log, records, in_flight).await;
        let groups = *log.appended().borrow() - groups;
        println!(
            "log, {in_flight} in flight: {:.0} records/s ({:.2} of bare), {:.1} a group, {:.1} µs CPU each with the sender, {}",
            records as f64 / seconds,
            records as f64 / seconds / bare,
            records as f64 / groups as f64,
            (cpu_s() - cpu) * 1e6 / records as f64,
            spread(&took)
        );
    }
    println!("log, steady 1,000/s for 10 s: {}", spread(&steady(&log, 10).await));
    let start = Instant::now();
    let mut read = 0;
    for partition in 0..log.partitions(Stream::Hl7In) {
        let mut from = 0;
        loop {
            let max = ReadMax { records: 1_000, bytes: 4 << 20 };
            let records = log.read(Stream::Hl7In, partition, from, max).await.expect("reads");
            let Some(last) = records.last() else { break };
            from = last.position.offset + 1;
            read += records.len();
        }
    }
    println!("log, read back and checked: {:.0} records/s", read as f64 / start.elapsed().as_secs_f64());
    log.close().await;

    for size in [200, 1_000] {
        let dir = dir.join(format!("tables-{size}"));
        std::fs::create_dir_all(&dir).expect("a folder");
        commits(&dir, records / 2, size).await;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
}
