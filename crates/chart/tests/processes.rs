//! The test that decides, once more, with real processes: three workers, each a process of its own with its own connections
//! to one PostgreSQL, stop behind each step (read, apply, commit) and go on when the test says so. Partitions are taken
//! from one by another, a process is killed between two steps now and then. Every schedule ends in what the sequential
//! oracle says; with a planted fault it does not.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stderr)]

mod toy;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use hilum_chart::projection::Projection;
use hilum_chart::runner::Stepped;
use hilum_chart::{Progress, Runner, resources};
use hilum_core::{Entropy, Position, Stream};
use hilum_engines::tables::postgres::{Postgres, PostgresConfig};
use hilum_engines::tables::{Table, Tables};
use hilum_testkit::postgres::Postgres as Server;
use toy::{TABLES, Toy, append, below, clock, day, open_log, oracle, standing};

const WORKERS: usize = 3;
/// Steps after which a schedule that has no end is given up.
const STEPS_MAX: u32 = 20_000;
/// Before each line of an answer: the test's own output stands between.
const MARK: &str = "step> ";

fn config(url: &str, schema: &str) -> PostgresConfig {
    PostgresConfig { pool_size: 2, ..PostgresConfig::new(url, schema) }
}

async fn open(url: &str, schema: &str) -> Tables {
    let tables: Vec<&'static Table> = resources::TABLES.iter().chain(TABLES).copied().collect();
    Tables::Postgres(Postgres::open(config(url, schema), &tables).await.unwrap())
}

#[test]
#[ignore = "the process that the tests here start, step and kill"]
fn worker() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work());
}

/// First line: folder of the log, url, schema, whether what a batch was based on is forgotten. Then `take STREAM PARTITION
/// RECORDS` or `step`, each answered by a line.
async fn work() {
    let mut lines = std::io::stdin().lines().map(Result::unwrap);
    let order = lines.next().unwrap();
    let [folder, url, schema, forgets] = order.split(' ').collect::<Vec<_>>()[..] else { panic!("{order}") };
    let (log, tables) = (open_log(Path::new(folder)), open(url, schema).await);
    let progress = Progress::new(Toy::NAME, log.places(Toy::STREAMS));
    let mut runner: Option<((Stream, u16), Runner<Toy>)> = None;
    let say = |line: &str| {
        let mut out = std::io::stdout().lock();
        out.write_all(format!("\n{MARK}{line}\n").as_bytes()).unwrap();
        out.flush().unwrap();
    };
    say("ready");
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["take", stream, partition, records] => {
                let stream = Stream::ALL.into_iter().find(|one| one.as_str() == stream).unwrap();
                let place = (stream, partition.parse().unwrap());
                let (log, tables) = (log.clone(), tables.clone());
                let taken =
                    Runner::new(Arc::new(Toy::default()), log, tables, clock(), place, progress.clone());
                runner = Some((place, taken.batches_of(records.parse().unwrap())));
                say("taken");
            }
            ["step"] => {
                let ((stream, partition), runner) = runner.as_mut().unwrap();
                if let Some(batch) = runner.ready_mut()
                    && forgets == "true"
                {
                    batch.expects.clear();
                }
                let end = log.end(*stream, *partition).await.unwrap();
                let last = Position { stream: *stream, partition: *partition, offset: end - 1 };
                say(match runner.step().await {
                    Ok(Stepped::Committed { .. }) if progress.applied(last) => "done",
                    Ok(Stepped::Committed { .. }) => "committed",
                    Ok(Stepped::Conflict) => "conflict",
                    Ok(Stepped::Fenced) => "fenced",
                    Ok(Stepped::Idle) => "idle",
                    Ok(Stepped::Read { .. }) => "read",
                    Ok(Stepped::Applied) => "applied",
                    Ok(Stepped::Halved | Stepped::Parted | Stepped::Waits) => "goes on",
                    Err(error) => panic!("{error}"),
                });
            }
            _ => panic!("{line}"),
        }
    }
}

/// A worker's process; killed when it goes out of scope.
struct Worker {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    holds: Option<(Stream, u16)>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Worker {
    fn start(order: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker", "--ignored", "--test-threads=1", "--quiet", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut worker = Self { child, to, from, holds: None };
        assert_eq!(worker.ask(order), "ready");
        worker
    }

    fn ask(&mut self, line: &str) -> String {
        self.to.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut lines = (&mut self.from).lines().map(Result::unwrap);
        let answer = lines.find_map(|line| line.strip_prefix(MARK).map(str::to_owned));
        answer.expect("the worker answers")
    }
}

/// Runs one schedule to the end of the log; how often each answer was given.
fn schedule(orders: &[String], places: &[(Stream, u16)], seed: u64) -> BTreeMap<String, usize> {
    let random = Entropy::seeded(seed);
    let below = |n: usize| below(&random, u32::try_from(n).unwrap()) as usize;
    let mut left = places.to_vec();
    let mut workers: Vec<Worker> = orders.iter().map(|order| Worker::start(order)).collect();
    let mut answers = BTreeMap::new();
    for _ in 0..STEPS_MAX {
        if left.is_empty() {
            return answers;
        }
        let at = below(workers.len());
        let worker = &mut workers[at];
        let Some(place) = worker.holds else {
            // Any partition, also one that another worker has: the offset decides who was right.
            let place = left[below(left.len())];
            worker.ask(&format!("take {} {} {}", place.0, place.1, 1 + below(6)));
            worker.holds = Some(place);
            continue;
        };
        if below(50) == 0 {
            // Between any two steps, and another process in its place. Killed first: its copy of the log has one owner.
            worker.child.kill().unwrap();
            worker.child.wait().unwrap();
            workers[at] = Worker::start(&orders[at]);
            *answers.entry("killed".to_owned()).or_default() += 1;
            continue;
        }
        let answer = worker.ask("step");
        match &*answer {
            "done" => left.retain(|one| *one != place),
            "fenced" | "idle" => worker.holds = None,
            _ => {}
        }
        if answer == "done" || (answer == "committed" && below(2) == 0) {
            worker.holds = None;
        }
        *answers.entry(answer).or_default() += 1;
    }
    panic!("seed {seed}: the schedule does not end");
}

/// How many of the schedules end elsewhere than the oracle, and what the workers answered.
async fn wrong(seeds: std::ops::Range<u64>, forgets: bool) -> (Vec<u64>, BTreeMap<String, usize>) {
    let server = Server::shared();
    let (mut wrong, mut answers) = (Vec::new(), BTreeMap::<String, usize>::new());
    for seed in seeds {
        let random = Entropy::seeded(seed);
        let messages = day(&random, 50);
        let want = oracle(&messages);
        // Each process has a copy of one log: a file has one owner, and nothing is written any more.
        let folders: Vec<_> = (0..=WORKERS).map(|_| tempfile::tempdir().unwrap()).collect();
        let (first, copies) = folders.split_first().unwrap();
        let log = open_log(first.path());
        append(&log, &messages, &random).await;
        let mut places = Vec::new();
        for (stream, partition) in log.places(Toy::STREAMS) {
            if log.end(stream, partition).await.unwrap() > 0 {
                places.push((stream, partition));
            }
        }
        log.close().await;
        drop(log);
        let schema = server.fresh_schema();
        let url = server.url();
        let tables = open(&url, &schema).await;
        let order = |copy: &tempfile::TempDir| {
            for file in std::fs::read_dir(first.path()).unwrap().map(Result::unwrap) {
                std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
            }
            format!("{} {url} {schema} {forgets}", copy.path().display())
        };
        let orders: Vec<String> = copies.iter().map(order).collect();
        let given = tokio::task::block_in_place(|| schedule(&orders, &places, seed));
        for (answer, count) in given {
            *answers.entry(answer).or_default() += count;
        }
        if standing(&tables).await != want {
            wrong.push(seed);
        }
        tables.close().await;
    }
    eprintln!("{answers:?}");
    (wrong, answers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_end_as_the_oracle_says_in_every_schedule() {
    let (wrong, answers) = wrong(0..6, false).await;
    assert_eq!(wrong, [] as [u64; 0], "seeds");
    for met in ["conflict", "fenced", "killed"] {
        assert!(
            answers.get(met).is_some_and(|&count| count > 3),
            "{met}, or nothing was tested: {answers:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_expectations_three_processes_are_red() {
    let (wrong, _) = wrong(0..3, true).await;
    assert!(!wrong.is_empty());
}
