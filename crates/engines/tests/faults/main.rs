//! Crashes, power cuts and full disks, each against the real engine in a process of its own: the test binary starts
//! itself again, as the ignored test [`child`].
//!
//! kill -9 alone proves nothing about fsync: what a dead process has written stays with the operating system, synced
//! or not. The power cut is therefore simulated from a record of all writes and syncs (`recorder.c`, preloaded into
//! the child): at any instant, what was synced is there, and of the rest any part, down to single sectors. With
//! `SyncMode::Off` planted the same check must find a loss, and does: then no write is ever synced, so an
//! acknowledged record is only as safe as the sectors that happened to be written.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hilum_core::{Clock, Digest, Entropy, Envelope, Id, RecordId, Seq, Stream, Timestamp, failpoint};
use hilum_engines::limits;
use hilum_engines::log::embedded::{Embedded, Options as LogOptions};
use hilum_engines::log::{Log, LogError, ReadMax};
use hilum_engines::sqlite_file::SyncMode;
use hilum_engines::tables::sqlite::{Options as TablesOptions, Sqlite};
use hilum_engines::tables::{Batch, Column, Index, Outgoing, Read, Table, Type, Value, Write};
use hilum_testkit::record;

/// What the child is to do, as words on its standard input.
#[derive(Debug, Clone)]
struct Order {
    what: What,
    dir: PathBuf,
    /// Where acknowledgments are written down: the folder itself, or another when its disk will fail.
    acks_dir: PathBuf,
    sync: SyncMode,
    /// Acknowledgments after which it ends by itself.
    acks: u64,
    /// Hits of the failpoint after which it aborts; 0 = never.
    abort_after: u64,
    reserve: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Log,
    Tables,
}

impl Order {
    fn new(what: What, dir: &Path) -> Self {
        let (dir, acks_dir) = (dir.to_owned(), dir.to_owned());
        Self { what, dir, acks_dir, sync: SyncMode::Full, acks: u64::MAX, abort_after: 0, reserve: 0.0 }
    }

    fn write(&self) -> String {
        let Self { what, dir, acks_dir, sync, acks, abort_after, reserve } = self;
        format!("{what:?} {} {} {sync:?} {acks} {abort_after} {reserve}\n", dir.display(), acks_dir.display())
    }

    fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [what, dir, acks_dir, sync, acks, abort_after, reserve] = words[..] else {
            panic!("no order: {line}")
        };
        Self {
            what: if what == "Log" { What::Log } else { What::Tables },
            dir: dir.into(),
            acks_dir: acks_dir.into(),
            sync: if sync == "Full" { SyncMode::Full } else { SyncMode::Off },
            acks: acks.parse().expect("a number"),
            abort_after: abort_after.parse().expect("a number"),
            reserve: reserve.parse().expect("a number"),
        }
    }

    /// Starts the child, through `shell` if there is one, with the recorder if `record` is where to.
    fn start(&self, shell: Option<&str>, record: Option<(&Path, &Path)>) -> Running {
        let exe = std::env::current_exe().expect("this binary");
        let mut command = match shell {
            None => Command::new(&exe),
            Some(script) => {
                let mut command = Command::new("sh");
                command.args(["-c", script]).arg(&exe);
                command
            }
        };
        if let Some((library, to)) = record {
            command.env("LD_PRELOAD", library).env("RECORD_DIR", &self.dir).env("RECORD_TO", to);
        }
        let mut child = command
            .args(["--exact", "child", "--ignored", "--test-threads=1", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        child.stdin.take().expect("piped").write_all(self.write().as_bytes()).expect("takes its order");
        Running(child)
    }
}

/// A child that does not outlive its test, whatever becomes of that.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        assert!(ended.is_ok() || std::thread::panicking(), "the child ends");
    }
}

fn key(n: u64) -> Id {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    Id::from_bytes(bytes)
}

/// About 1 kB that only `n` makes.
fn body(n: u64) -> Bytes {
    let mut text = String::new();
    while text.len() < 1_000 {
        write!(text, "{n}|").expect("a string takes all");
    }
    Bytes::from(text)
}

fn envelope(n: u64) -> Envelope {
    let received = Timestamp::from_micros(n as i64);
    let id = RecordId::new(received, [1; 10]);
    Envelope { id, received, key: key(n), ..record::envelope(Stream::Hl7In, body(n)) }
}

static ROWS: Table = Table {
    name: "rows",
    key_len: 1,
    columns: &[
        Column::new("id", Type::Int),
        Column::new("digest", Type::Bytes),
        Column::new("body", Type::Bytes),
        Column::new("from_t", Type::Seq),
    ],
    indexes: &[Index { name: "by_digest", columns: &["digest"] }],
    register: None,
};

fn batch(n: u64) -> Batch {
    let body = body(n);
    let digest = Value::Bytes(Bytes::copy_from_slice(Digest::of(&body).as_bytes()));
    let values = vec![Value::Int(n as i64), digest, Value::Bytes(body), Value::ThisCommit];
    let outbox = vec![Outgoing { topic: "rows", key: key(n), body: Bytes::new() }];
    Batch { writes: vec![Write::Put { table: "rows", values }], outbox, ..Batch::default() }
}

/// Each time it is read the last look at the free space is old.
fn clock() -> Clock {
    let looks = AtomicU64::new(1);
    Clock::new(move || {
        Timestamp::from_micros(looks.fetch_add(1, Ordering::Relaxed) as i64 * limits::DISK_CHECK_MICROS)
    })
}

/// Few pages, so that the write-ahead log is moved and begun anew many times.
const WAL_PAGES_MAX: i64 = 40;

fn open_log(path: &Path, sync: SyncMode, reserve: f64) -> Result<Log, LogError> {
    let options = LogOptions {
        sync,
        disk_reserve_ratio: reserve,
        wal_pages_max: WAL_PAGES_MAX,
        ..LogOptions::default()
    };
    Embedded::open(path, clock(), Entropy::seeded(1), options).map(Log::Embedded)
}

fn open_tables(path: &Path, sync: SyncMode) -> Result<Sqlite, String> {
    let options = TablesOptions { sync, wal_pages_max: WAL_PAGES_MAX, ..TablesOptions::default() };
    Sqlite::open(path, &[&ROWS], options).map_err(|why| why.to_string())
}

// --- the child ---

static HITS: AtomicU64 = AtomicU64::new(0);
static ABORT_AFTER: AtomicU64 = AtomicU64::new(0);

/// The engine that a child works on.
enum Engine {
    Log(Log),
    Tables(Sqlite),
}

impl Engine {
    /// Makes `n` durable and gives the words of its acknowledgment.
    async fn put(&self, n: u64) -> Result<String, String> {
        match self {
            Self::Log(log) => match log.append(envelope(n)).await {
                Ok(position) => Ok(format!("{n} {} {}", position.partition, position.offset)),
                Err(why) => Err(format!("{why:?}")),
            },
            Self::Tables(tables) => match tables.commit(batch(n)).await {
                Ok(t) => Ok(format!("{n} 0 {t}")),
                Err(why) => Err(format!("{why:?}")),
            },
        }
    }
}

#[test]
#[ignore = "the process that the tests here start and kill"]
fn child() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("an order");
    let order = Order::parse(&line);
    ABORT_AFTER.store(order.abort_after, Ordering::Relaxed);
    failpoint::install(|name| {
        if (name == "append" || name == "commit")
            && HITS.fetch_add(1, Ordering::Relaxed) + 1 == ABORT_AFTER.load(Ordering::Relaxed)
        {
            std::process::abort();
        }
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runs");
    runtime.block_on(work(order));
}

async fn work(order: Order) {
    let path = order.dir.join("data.sqlite");
    let engine = match order.what {
        What::Log => Engine::Log(open_log(&path, order.sync, order.reserve).expect("opens")),
        What::Tables => Engine::Tables(open_tables(&path, order.sync).expect("opens")),
    };
    let engine = std::sync::Arc::new(engine);
    // One acknowledgment, one write: so each is whole, in the order in which they were given.
    let acks =
        fs::OpenOptions::new().create(true).append(true).open(order.acks_dir.join("acks")).expect("acks");
    let acks = std::sync::Arc::new(acks);
    let next =
        std::sync::Arc::new(AtomicU64::new(fs::metadata(order.acks_dir.join("acks")).map_or(0, |m| m.len())));
    let given = std::sync::Arc::new(AtomicU64::new(0));
    let workers = (0..16).map(|_| {
        let (engine, acks, next, given) = (engine.clone(), acks.clone(), next.clone(), given.clone());
        tokio::spawn(async move {
            while given.load(Ordering::Relaxed) < order.acks {
                // Numbers go on behind those of an earlier life, which had fewer than bytes of acknowledgments.
                let n = next.fetch_add(1, Ordering::Relaxed);
                let line = match engine.put(n).await {
                    Ok(ack) => format!("ack {ack}\n"),
                    Err(why) => format!("refused {why}\n"),
                };
                (&*acks).write_all(line.as_bytes()).expect("acks");
                if line.starts_with("refused") {
                    return;
                }
                given.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("works");
    }
}

// --- the checker ---

/// (n, partition, offset or t) of each whole acknowledgment, and the refusals.
fn acknowledged(acks: &[u8]) -> (Vec<(u64, u16, u64)>, Vec<String>) {
    let text = String::from_utf8_lossy(acks);
    let (mut given, mut refused) = (Vec::new(), Vec::new());
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        if let Some(why) = line.strip_prefix("refused ") {
            refused.push(why.to_owned());
            continue;
        }
        let words: Vec<u64> = line.split(' ').skip(1).map(|word| word.parse().expect("a number")).collect();
        let [n, partition, place] = words[..] else { panic!("no acknowledgment: {line}") };
        given.push((n, partition as u16, place));
    }
    (given, refused)
}

/// Whether all that was acknowledged is there, whole, and all that is there can be read.
async fn check(what: What, dir: &Path, acks: &[u8]) -> Result<usize, String> {
    let (given, _) = acknowledged(acks);
    let path = dir.join("data.sqlite");
    match what {
        What::Log => check_log(&path, &given).await?,
        What::Tables => check_tables(&path, &given).await?,
    }
    Ok(given.len())
}

async fn check_log(path: &Path, given: &[(u64, u16, u64)]) -> Result<(), String> {
    let log = open_log(path, SyncMode::Off, 0.0).map_err(|why| why.to_string())?;
    let mut found = BTreeMap::new();
    for partition in 0..log.partitions(Stream::Hl7In) {
        let end = log.end(Stream::Hl7In, partition).await.map_err(|why| why.to_string())?;
        let mut from = 0;
        while from < end {
            let max = ReadMax { records: 1_000, bytes: 1 << 30 };
            for record in
                log.read(Stream::Hl7In, partition, from, max).await.map_err(|why| why.to_string())?
            {
                from = record.position.offset + 1;
                found.insert((partition, record.position.offset), record);
            }
        }
    }
    for &(n, partition, offset) in given {
        let record =
            found.get(&(partition, offset)).ok_or(format!("record {n} was acknowledged and is lost"))?;
        if *record.envelope != envelope(n) {
            return Err(format!("record {n} is another"));
        }
    }
    log.append(envelope(0)).await.map_err(|why| format!("does not go on: {why}"))?;
    log.close().await;
    Ok(())
}

async fn check_tables(path: &Path, given: &[(u64, u16, u64)]) -> Result<(), String> {
    let tables = open_tables(path, SyncMode::Off)?;
    let now = tables.now().await.map_err(|why| why.to_string())?;
    let mut outbox = Vec::new();
    while let Some(last) = {
        let after = outbox.last().map_or(Seq(0), |change: &hilum_engines::tables::Change| change.t);
        let more = tables.changes(after, 1_000).await.map_err(|why| why.to_string())?;
        let last = more.last().map(|change| change.t);
        if last.is_some_and(|last| last <= after) {
            return Err("the outbox goes in a circle".to_owned());
        }
        outbox.extend(more);
        last
    } {
        if last > now {
            return Err("an outbox entry is newer than now".to_owned());
        }
    }
    let told: BTreeMap<i64, Id> = outbox.iter().map(|change| (change.t.0, change.key)).collect();
    for &(n, _, t) in given {
        let get = Read::Get { table: "rows", key: vec![Value::Int(n as i64)] };
        let row = tables.read(&[get]).await.map_err(|why| why.to_string())?.remove(0).pop();
        let row = row.ok_or(format!("row {n} was acknowledged and is lost"))?;
        if row.t.0 as u64 != t || row.values[2] != Value::Bytes(body(n)) {
            return Err(format!("row {n} is another"));
        }
        if told.get(&(t as i64)) != Some(&key(n)) {
            return Err(format!("the outbox entry of row {n} is lost"));
        }
    }
    tables.commit(batch(u64::MAX / 2)).await.map_err(|why| format!("does not go on: {why}"))?;
    tables.close().await;
    Ok(())
}

fn acks_of(dir: &Path) -> Vec<u8> {
    fs::read(dir.join("acks")).unwrap_or_default()
}

/// Waits until the child has acknowledged more, or has ended.
fn wait_for_acks(child: &mut Running, dir: &Path, beyond: usize) {
    for _ in 0..3_000 {
        if acks_of(dir).len() > beyond || child.0.try_wait().expect("asks").is_some() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the child acknowledges nothing");
}

// --- kill -9 ---

async fn killed_at_random(what: What) {
    let dir = tempfile::tempdir().expect("a folder");
    let random = Entropy::seeded(11);
    let mut before = 0;
    for cycle in 0..6 {
        let mut child = Order::new(what, dir.path()).start(None, None);
        wait_for_acks(&mut child, dir.path(), before);
        std::thread::sleep(Duration::from_millis(u64::from(random.bytes::<1>()[0]) / 2));
        child.0.kill().expect("kills");
        child.0.wait().expect("ends");
        let acks = acks_of(dir.path());
        assert!(acks.len() > before, "cycle {cycle}: nothing was acknowledged, so nothing is proven");
        before = acks.len();
        check(what, dir.path(), &acks).await.unwrap_or_else(|why| panic!("cycle {cycle}: {why}"));
    }
}

#[tokio::test]
async fn kill_9_at_random_loses_no_acknowledged_record() {
    killed_at_random(What::Log).await;
}

#[tokio::test]
async fn kill_9_at_random_loses_no_commit() {
    killed_at_random(What::Tables).await;
}

#[tokio::test]
async fn a_crash_between_insert_and_commit_loses_no_acknowledged_record() {
    for what in [What::Log, What::Tables] {
        let dir = tempfile::tempdir().expect("a folder");
        for abort_after in [1, 2, 7] {
            let mut child = Order { abort_after, ..Order::new(what, dir.path()) }.start(None, None);
            let status = child.0.wait().expect("ends");
            assert!(!status.success(), "{what:?}: the failpoint never fired");
            check(what, dir.path(), &acks_of(dir.path()))
                .await
                .unwrap_or_else(|why| panic!("{what:?}: {why}"));
        }
    }
}

// --- power cuts ---

#[derive(Debug)]
struct Call {
    op: u8,
    file: String,
    offset: usize,
    data: Vec<u8>,
}

fn calls(record: &[u8]) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut rest = record;
    while let Some((head, more)) = rest.split_at_checked(14) {
        let name = usize::from(head[1]);
        let len = u32::from_le_bytes(head[2..6].try_into().expect("4 bytes")) as usize;
        let offset = u64::from_le_bytes(head[6..14].try_into().expect("8 bytes")) as usize;
        assert!(offset < 1 << 30, "the record is broken behind {} calls", calls.len());
        let Some((file, more)) = more.split_at_checked(name) else { break };
        let Some((data, more)) = more.split_at_checked(len) else { break };
        let file = String::from_utf8(file.to_vec()).expect("a name");
        calls.push(Call { op: head[0], file, offset, data: data.to_vec() });
        rest = more;
    }
    calls
}

fn write_at(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if image.len() < offset + data.len() {
        image.resize(offset + data.len(), 0);
    }
    image[offset..offset + data.len()].copy_from_slice(data);
}

/// What is on the disk after a cut behind the first `cut` calls: of each file all up to its last sync, and of what
/// came later each sector with a chance of `keep` in 255. Names are taken to last as they are (the engines sync the
/// folder when they make a file).
fn after_power_cut(calls: &[Call], cut: usize, keep: u8, random: &Entropy) -> BTreeMap<String, Vec<u8>> {
    let calls = &calls[..cut];
    let mut synced: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        if call.op == b'S' {
            synced.insert(&call.file, at);
        }
    }
    let kept = || random.bytes::<1>()[0] < keep;
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        if call.op == b'U' {
            files.remove(&String::from_utf8_lossy(&call.data).into_owned());
            continue;
        }
        let image = files.entry(call.file.clone()).or_default();
        let durable = synced.get(call.file.as_str()).is_some_and(|&last| at < last);
        match call.op {
            b'T' if durable || kept() => image.resize(call.offset, 0),
            b'W' if durable => write_at(image, call.offset, &call.data),
            b'W' => {
                for (i, sector) in call.data.chunks(512).enumerate() {
                    if kept() {
                        write_at(image, call.offset + i * 512, sector);
                    }
                }
            }
            _ => {}
        }
    }
    files
}

/// Records one life of the engine, cuts the power at many instants of it, and counts what each cut lost.
async fn power_cuts(what: What, sync: SyncMode, seed: u64) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a folder");
    let library = dir.path().join("recorder.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/recorder.c");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let built = cc.status().expect("a C compiler, as SQLite needs one too");
    assert!(built.success(), "the recorder compiles");
    let data = dir.path().join("data");
    fs::create_dir(&data).expect("a folder");
    let record = dir.path().join("record");
    let order = Order { sync, acks: 600, ..Order::new(what, &data) };
    let status = order.start(None, Some((&library, &record))).0.wait().expect("ends");
    assert!(status.success(), "the child works with the recorder");

    let calls = calls(&fs::read(&record).expect("the record"));
    let of = |op: u8, file: &str| calls.iter().filter(|call| call.op == op && call.file == file).count();
    assert!(of(b'W', "data.sqlite-wal") > 100, "the record is not hollow");
    if sync == SyncMode::Full {
        assert!(of(b'S', "data.sqlite-wal") > 20, "commits are synced");
        assert!(of(b'S', "data.sqlite") > 1, "the write-ahead log was moved into the file more than once");
    }
    // Before the first acknowledgment there is nothing to lose.
    let first = calls.iter().position(|call| call.file == "acks" && call.op == b'W').expect("acknowledges");
    let random = Entropy::seeded(seed);
    let mut losses = Vec::new();
    for n in 0..60 {
        let cut = first + u64::from_le_bytes(random.bytes()) as usize % (calls.len() - first + 1);
        let keep = [0, 255, 128, 230][n % 4];
        let image = dir.path().join(format!("image-{n}"));
        fs::create_dir(&image).expect("a folder");
        for (name, bytes) in after_power_cut(&calls, cut, keep, &random) {
            if name.starts_with("data.sqlite") && !name.ends_with("-shm") {
                fs::write(image.join(name), bytes).expect("writes");
            }
        }
        let acks: Vec<u8> = calls[..cut]
            .iter()
            .filter(|call| call.file == "acks" && call.op == b'W')
            .flat_map(|call| call.data.clone())
            .collect();
        if let Err(why) = check(what, &image, &acks).await {
            losses.push(format!("seed {seed}, cut {n} behind call {cut}, keep {keep}: {why}"));
        }
        fs::remove_dir_all(&image).expect("cleans up");
    }
    losses
}

#[tokio::test]
async fn a_power_cut_loses_no_acknowledged_record() {
    let losses = power_cuts(What::Log, SyncMode::Full, 1).await;
    assert!(losses.is_empty(), "{losses:#?}");
}

#[tokio::test]
async fn a_power_cut_loses_no_commit() {
    let losses = power_cuts(What::Tables, SyncMode::Full, 2).await;
    assert!(losses.is_empty(), "{losses:#?}");
}

#[tokio::test]
async fn the_power_cut_finds_a_log_and_tables_that_do_not_sync() {
    for what in [What::Log, What::Tables] {
        let losses = power_cuts(what, SyncMode::Off, 3).await;
        println!("{losses:#?}"); // what the check found, for who runs it with --nocapture
        assert!(losses.len() > 10, "{what:?}: {losses:#?}");
    }
}

// --- full disks ---

/// The child must have stopped by itself, refused everything since, and lost nothing; with room it goes on.
fn stopped_by_the_disk(what: What, acks_dir: &Path, child: &mut Running) -> Vec<String> {
    child.0.wait().expect("ends");
    let acks = acks_of(acks_dir);
    let (given, refused) = acknowledged(&acks);
    assert!(given.len() > 20, "{what:?}: only {} acknowledged", given.len());
    assert_eq!(refused.len(), 16, "{what:?}: each worker was refused once: {refused:?}");
    refused
}

#[tokio::test]
async fn a_file_that_cannot_grow_is_a_disk_error_and_nothing_acknowledged_is_lost() {
    for what in [What::Log, What::Tables] {
        let dir = tempfile::tempdir().expect("a folder");
        // 512-byte blocks: 1 MiB for each file. The signal ignored, the write fails with EFBIG.
        let shell = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\"";
        let mut child = Order::new(what, dir.path()).start(Some(shell), None);
        let refused = stopped_by_the_disk(what, dir.path(), &mut child);
        assert!(refused.iter().all(|why| why.to_lowercase().contains("read")), "read-only: {refused:?}");
        check(what, dir.path(), &acks_of(dir.path())).await.unwrap_or_else(|why| panic!("{what:?}: {why}"));
    }
}

/// A small volume, unmounted at the end.
struct Volume(tempfile::TempDir);

impl Volume {
    /// `None` where this process may not mount.
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(dir))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking(), "unmounts");
    }
}

#[tokio::test]
async fn a_full_volume_is_refused_before_it_is_full_or_else_is_a_disk_error() {
    for (reserve, want) in [(0.5, "Full("), (0.0, "ReadOnly(")] {
        let Some(volume) = Volume::mount("4m") else {
            println!("not run: this process may not mount a volume");
            return;
        };
        let data = volume.0.path().join("data");
        fs::create_dir(&data).expect("a folder");
        let room = tempfile::tempdir().expect("a folder");
        let order = Order { reserve, acks_dir: room.path().to_owned(), ..Order::new(What::Log, &data) };
        let refused = stopped_by_the_disk(What::Log, room.path(), &mut order.start(None, None));
        assert!(refused.iter().all(|why| why.starts_with(want)), "reserve {reserve}: {refused:?}");
        // With room again, here on another volume, it goes on.
        for name in ["data.sqlite", "data.sqlite-wal"] {
            fs::copy(data.join(name), room.path().join(name)).expect("copies");
        }
        check(What::Log, room.path(), &acks_of(&data))
            .await
            .unwrap_or_else(|why| panic!("reserve {reserve}: {why}"));
    }
}
