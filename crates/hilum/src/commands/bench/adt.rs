//! `hilum bench adt`: the main job from the first byte on a socket to the census, with what the machine could do at
//! best beside each figure.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use hilum_chart::runner::run_all;
use hilum_engines::sqlite_file::SyncMode;
use hilum_engines::tables::Tables;
use hilum_engines::tables::sqlite::{self, Sqlite};

use super::client::Client;
use super::process::{Server, machine};
use super::send::Sent;
use super::{Feed, Scratch};
use crate::config::Config;
use crate::folder::Folder;
use crate::generate::message::{self, Charset, Head, Person, Place, Stay};
use crate::house::{House, schema};

/// Messages a second of the steady part.
const STEADY_RATE: usize = 1_000;

/// Measures the main job.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hilum bench adt --messages 20000 --quick\n  \
                  hilum bench adt --engines kafka,postgres --rounds 3")]
pub struct Adt {
    #[command(flatten)]
    feed: Feed,
    /// Folder for the servers under test; absent = a temporary one
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Seconds of the steady part
    #[arg(long, default_value_t = 20)]
    steady_s: usize,
    /// Seconds of the surge
    #[arg(long, default_value_t = 60)]
    surge_s: usize,
    /// Idle connections before the surge
    #[arg(long, default_value_t = 5_000)]
    idle: usize,
    /// Leave out all but the first figure
    #[arg(long)]
    pub(super) quick: bool,
    /// What it stands on
    #[arg(long, value_enum, default_value = "embedded")]
    engines: On,
    /// Rounds on servers, of which the medians are reported
    #[arg(long, default_value_t = 5)]
    pub(super) rounds: usize,
}

/// What the servers under test stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    /// The engines of the program itself
    Embedded,
    /// Three brokers of Kafka and a PostgreSQL, started for it (`make tools` installs them)
    #[value(name = "kafka,postgres")]
    Servers,
}

impl Adt {
    /// What is sent.
    pub(super) const fn feed(&self) -> Feed {
        self.feed
    }
}

/// Runs the command.
///
/// # Errors
/// A server did not start, a message was not acknowledged, or the chart did not catch up.
pub fn run(adt: &Adt) -> Result<()> {
    crate::out::line(&format!(
        "hilum {} · {} · feed of seed {}",
        env!("CARGO_PKG_VERSION"),
        machine(),
        adt.feed.seed
    ));
    if adt.engines == On::Servers {
        return super::many::run(adt);
    }
    let folder = adt
        .scratch
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("hilum-bench-{}", std::process::id())));
    let scratch = Scratch(folder);
    bulk(adt, &scratch)?;
    if !adt.quick {
        one_outstanding(adt, &scratch)?;
        steady_at(adt, Server::start(&scratch.0.join("steady"))?, STEADY_RATE)?;
        surge(adt, &scratch)?;
    }
    Ok(())
}

pub(super) fn send(server: &Server, feed: Feed, more: &[&str]) -> Result<Sent> {
    let out = Command::new(std::env::current_exe()?)
        .args(["bench", "send", "--to", &server.mllp.to_string()])
        .args(["--messages", &feed.messages.to_string(), "--seed", &feed.seed.to_string()])
        .args(more)
        .output()
        .context("the sender")?;
    if !out.status.success() {
        bail!("the sender failed: {}", String::from_utf8_lossy(&out.stderr));
    }
    let sent: Sent = serde_json::from_slice(&out.stdout).context("the sender's report")?;
    if sent.acknowledged != feed.messages {
        bail!(
            "{} of {} messages were acknowledged, {} refused",
            sent.acknowledged,
            feed.messages,
            sent.refused
        );
    }
    Ok(sent)
}

/// Waits until the chart has caught up and gives the seconds since `begun`.
pub(super) fn caught_up(client: &Client, begun: Instant) -> Result<f64> {
    let until = begun + Duration::from_mins(10);
    while Instant::now() < until {
        if client.lag()? == 0 {
            return Ok(begun.elapsed().as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("the chart had not caught up after 600 s")
}

fn bulk(adt: &Adt, scratch: &Scratch) -> Result<()> {
    let server = Server::start(&scratch.0.join("bulk"))?;
    let client = Client::new(server.http, &server.key);
    let before = server.cpu_s()?;
    let begun = Instant::now();
    let sent = send(&server, adt.feed, &["--connections", "16", "--window", "32"])?;
    // The sender makes its feed before its first byte: that time is not the server's.
    let making = begun.elapsed().as_secs_f64() - sent.seconds;
    let caught = caught_up(&client, begun)? - making;
    let cpu_ms = (server.cpu_s()? - before) * 1_000.0 / adt.feed.messages as f64;
    let (now_mb, peak_mb) = server.memory_mb()?;
    let n = adt.feed.messages as f64;
    crate::out::line(&format!(
        "16 × 32 pipelined: {} messages acknowledged in {:.2} s ({:.0} msg/s, p50 {:.1} ms, p99 {:.1} ms, sender {:.1} CPU-s)",
        adt.feed.messages,
        sent.seconds,
        n / sent.seconds,
        sent.p50_ms,
        sent.p99_ms,
        sent.sender_cpu_s
    ));
    crate::out::line(&format!(
        "chart and census caught up {caught:.2} s after the first byte; server {cpu_ms:.3} ms CPU a message"
    ));
    crate::out::line(&format!("resident memory {now_mb:.0} MB, at its highest {peak_mb:.0} MB"));
    server.stop()?;
    floor_of_the_log(adt, scratch, sent.seconds)?;
    floor_of_the_chart(scratch, caught)
}

fn floor_of_the_log(adt: &Adt, scratch: &Scratch, acknowledged_s: f64) -> Result<()> {
    let messages = adt.feed.make();
    let begun = Instant::now();
    hilum_engines::bare::append(&scratch.0.join("bare-log.sqlite"), &messages, 512)?;
    let bare = begun.elapsed().as_secs_f64();
    crate::out::line(&format!(
        "floor: the bare engine appends the same bytes in groups of 512 in {bare:.2} s; ratio {:.2}",
        bare / acknowledged_s
    ));
    Ok(())
}

/// The row statements of the chart, recorded from the log that the server left, run again by the bare engine.
fn floor_of_the_chart(scratch: &Scratch, caught_up_s: f64) -> Result<()> {
    let (tables, tape) = (scratch.0.join("taped.sqlite"), scratch.0.join("tape"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(record(&scratch.0.join("bulk").join("data"), &tables, &tape))?;
    let begun = Instant::now();
    let bare = scratch.0.join("bare-tables.sqlite");
    let done = hilum_engines::bare::replay(&bare, &tables, &tape, || begun.elapsed())?;
    let bare = done.time.as_secs_f64();
    crate::out::line(&format!(
        "floor: the bare engine runs the same {} row statements in the same {} commits in {bare:.2} s; ratio {:.2}",
        done.rows,
        done.commits,
        bare / caught_up_s
    ));
    Ok(())
}

/// Folds the log of `data` into new tables and writes their statements on a tape.
async fn record(data: &Path, tables: &Path, tape: &Path) -> Result<()> {
    let house = House::open(Folder::take(data, "bench")?, Config::default()).await?;
    let options =
        sqlite::Options { sync: SyncMode::Off, tape: Some(tape.to_owned()), ..sqlite::Options::default() };
    let taped = Tables::Sqlite(Sqlite::open(tables, &schema(), options)?);
    let running = run_all(&house.fold, &house.log, &taped, &house.clock);
    let until = Instant::now() + Duration::from_mins(10);
    while !running.progress().health().caught_up() || running.progress().health().lag_records() != Some(0) {
        if Instant::now() > until {
            bail!("the log was not folded again after 600 s");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running.stop().await;
    taped.close().await;
    house.close().await;
    Ok(())
}

fn one_outstanding(adt: &Adt, scratch: &Scratch) -> Result<()> {
    for (connections, messages) in [("16", 20_000), ("1", 5_000)] {
        let server = Server::start(&scratch.0.join(format!("one-{connections}")))?;
        let feed = Feed { messages, ..adt.feed };
        let sent = send(&server, feed, &["--connections", connections, "--window", "1"])?;
        crate::out::line(&format!(
            "{connections} connection(s), one outstanding: {:.0} msg/s, p50 {:.2} ms, p99 {:.2} ms",
            messages as f64 / sent.seconds,
            sent.p50_ms,
            sent.p99_ms
        ));
        server.stop()?;
    }
    Ok(())
}

/// A steady feed, and beside it a probe a tenth of a second: from the moment its bytes are written until its row
/// stands in `/api/census`.
pub(super) fn steady_at(adt: &Adt, server: Server, rate: usize) -> Result<()> {
    let client = Client::new(server.http, &server.key);
    let feed = Feed { messages: adt.steady_s * rate, ..adt.feed };
    let (seconds, rate) = (adt.steady_s, rate.to_string());
    let (sent, latencies) = std::thread::scope(|scope| {
        let sender =
            scope.spawn(|| send(&server, feed, &["--connections", "16", "--window", "8", "--rate", &rate]));
        std::thread::sleep(Duration::from_secs(1));
        let latencies = probe(&server, &client, Duration::from_secs(seconds.saturating_sub(1) as u64));
        (sender.join(), latencies)
    });
    let sent = match sent {
        Ok(sent) => sent?,
        Err(_) => bail!("the sender's thread ended"),
    };
    let mut latencies = latencies?;
    latencies.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        latencies
            .get(((latencies.len() as f64 * q) as usize).min(latencies.len() - 1))
            .copied()
            .unwrap_or(f64::NAN)
    };
    crate::out::line(&format!(
        "steady {:.0} msg/s for {seconds} s: receive → in /api/census p50 {:.0} ms, p99 {:.0} ms ({} probes); acknowledged p99 {:.1} ms",
        feed.messages as f64 / sent.seconds,
        quantile(0.5),
        quantile(0.99),
        latencies.len(),
        sent.p99_ms
    ));
    server.stop()
}

fn probe(server: &Server, client: &Client, span: Duration) -> Result<Vec<f64>> {
    let mut stream = TcpStream::connect(server.mllp)?;
    stream.set_nodelay(true)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let begun = Instant::now();
    let mut latencies = Vec::new();
    let mut answer = Vec::new();
    while begun.elapsed() < span {
        let bytes = probe_message(latencies.len());
        let sent = Instant::now();
        stream.write_all(&[&[0x0B], bytes.as_slice(), &[0x1C, b'\r']].concat())?;
        answer.clear();
        answers.read_until(0x1C, &mut answer)?;
        answers.read_exact(&mut [0])?;
        let room = format!("P{:05}", latencies.len());
        loop {
            let census = client.get(&format!("/api/census?unit=PROBE{}", latencies.len()))?;
            let there = census["encounters"]
                .as_array()
                .is_some_and(|rows| rows.iter().any(|row| row["room"] == room.as_str()));
            if there {
                break;
            }
            if sent.elapsed() > Duration::from_secs(30) {
                bail!("a probe was not in the census after 30 s");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        latencies.push(sent.elapsed().as_secs_f64() * 1_000.0);
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(latencies)
}

fn probe_message(n: usize) -> Vec<u8> {
    let at = super::start();
    let person = Person {
        number: format!("9{n:07}"),
        name: ("PROBE".to_owned(), "Steady".to_owned()),
        latin: None,
        born: "19700101".to_owned(),
        sex: 'U',
        national: None,
        allergies: Vec::new(),
        kin: None,
        confidential: false,
    };
    // A unit of its own, so that the answer has one row.
    let unit: &'static str = Box::leak(format!("PROBE{n}").into_boxed_str());
    let place = Place { unit, room: format!("P{n:05}"), bed: "1".to_owned() };
    let stay = Stay {
        visit: format!("P{n:07}"),
        class: 'I',
        place: Some(place),
        doctor: 0,
        diagnosis: 0,
        admitted: at,
        discharged: None,
    };
    let head = Head {
        application: "PROBE",
        facility: "BENCH",
        trigger: "A01",
        control_id: format!("P{n:08}"),
        sent: at,
        occurred: at,
        charset: Charset::Utf8,
    };
    message::write(&head, &person, Some(&stay), None)
}

fn surge(adt: &Adt, scratch: &Scratch) -> Result<()> {
    let server = Server::start(&scratch.0.join("surge"))?;
    let client = Client::new(server.http, &server.key);
    // Ten times a hospital group's 300 messages a second.
    let feed = Feed { messages: adt.surge_s * 3_000, ..adt.feed };
    let idle = adt.idle.to_string();
    let begun = Instant::now();
    let sent =
        send(&server, feed, &["--connections", "16", "--window", "32", "--rate", "3000", "--idle", &idle])?;
    let making = begun.elapsed().as_secs_f64() - sent.seconds;
    let caught = caught_up(&client, begun)? - making;
    let (now_mb, peak_mb) = server.memory_mb()?;
    crate::out::line(&format!(
        "{} idle connections ({} still open) and a surge of 3,000 msg/s for {} s: all {} acknowledged (p99 {:.0} ms), drained {:.1} s after the last; resident {now_mb:.0} MB, at its highest {peak_mb:.0} MB",
        adt.idle,
        sent.idle_open,
        adt.surge_s,
        sent.acknowledged,
        sent.p99_ms,
        (caught - sent.seconds).max(0.0)
    ));
    server.stop()
}
