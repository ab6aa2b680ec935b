//! `hilum bench adt --engines kafka,postgres`: the main job on engines that many machines share, all of them here: three
//! brokers, PostgreSQL, one process of ours that does everything. Rounds of ours, a bare producer of the same messages and
//! a bare replay of recorded row batches; which goes first changes from round to round.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hilum_chart::fits;
use hilum_chart::runner::run_all;
use hilum_engines::bare::{self, Replayed};
use hilum_engines::tables::Tables;
use hilum_engines::tables::postgres::{Postgres, PostgresConfig};

use super::adt::{Adt, caught_up, send, steady_at};
use super::client::Client;
use super::process::{Server, own_cpu_s};
use crate::cluster::{Engines, Place, Size};
use crate::config::{Config, Overrides};
use crate::folder::Folder;
use crate::house::House;
use crate::out;

/// Records that are not answered at a time: of the senders, and of the bare producer.
const CONNECTIONS: usize = 16;
const WINDOW: usize = 32;
/// Messages a second of the steady part.
const STEADY_RATE: usize = 200;
/// The installation whose log is folded again, and the schema where its row batches are recorded.
const RECORDED: &str = "recorded";
const TAPED: &str = "taped";

/// One round's figures: seconds, and CPU milliseconds a message.
struct Round {
    acknowledged: f64,
    caught_up: f64,
    cpu_ms: f64,
    folded: f64,
    fold_cpu_ms: f64,
    produced: f64,
    replayed: f64,
}

/// What stands in one folder while it runs.
struct Bench<'a> {
    adt: &'a Adt,
    place: Place,
    engines: Engines,
    runtime: tokio::runtime::Runtime,
}

/// Runs it.
///
/// # Errors
/// An engine or a server did not start, or did not take what it was given.
pub fn run(adt: &Adt) -> Result<()> {
    let place = Place::make(std::env::temp_dir().join(format!("hilum-bench-{}", std::process::id())))?;
    let engines = Engines::start(&place, Size { brokers: 3, postgres: &[] })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let bench = Bench { adt, place, engines, runtime };
    out::line("row batches are recorded …");
    let (config, recorded) = bench.record()?;
    let mut rounds = Vec::new();
    let mut rows = Replayed::default();
    for n in 1..=adt.rounds.max(1) {
        let round;
        (round, rows) = bench.round(n, &config, &recorded)?;
        out::line(&format!(
            "round {n}: acknowledged in {:.2} s, bare producer {:.2} s; chart and census caught up in {:.2} s, bare replay \
             {:.2} s, the chart alone {:.2} s; {:.3} ms CPU of ours a message, the chart alone {:.3}",
            round.acknowledged,
            round.produced,
            round.caught_up,
            round.replayed,
            round.folded,
            round.cpu_ms,
            round.fold_cpu_ms
        ));
        rounds.push(round);
    }
    bench.report(&rounds, rows);
    if !adt.quick {
        let server = bench.start("steady")?;
        steady_at(adt, server, STEADY_RATE)?;
    }
    Ok(())
}

impl Bench<'_> {
    fn report(&self, rounds: &[Round], rows: Replayed) {
        let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
        let n = self.adt.feed().messages as f64;
        out::line(&format!(
            "medians of {} round(s), 16 × 32 pipelined: {n} messages acknowledged in {:.2} s ({:.0} msg/s); chart and census \
             caught up {:.2} s after the first byte ({:.0} msg/s: more than that for long, and the chart falls behind); \
             {:.3} ms CPU of ours a message",
            rounds.len(),
            of(|round| round.acknowledged),
            n / of(|round| round.acknowledged),
            of(|round| round.caught_up),
            n / of(|round| round.caught_up),
            of(|round| round.cpu_ms)
        ));
        out::line(&format!(
            "floor: a bare producer of the same messages, without keys and envelopes, {} in flight, same acks and linger: \
             {:.2} s; ratio {:.2}",
            CONNECTIONS * WINDOW,
            of(|round| round.produced),
            of(|round| round.produced / round.acknowledged)
        ));
        out::line(&format!(
            "floor: bare tokio-postgres with the {} rows and {} commits of one fold of the whole log: {:.2} s; ratio of the \
             chart alone, a log that stands folded into tables that are empty ({:.2} s, {:.3} ms CPU a message): {:.2}; \
             of all from the first byte: {:.2}",
            rows.rows,
            rows.commits,
            of(|round| round.replayed),
            of(|round| round.folded),
            of(|round| round.fold_cpu_ms),
            of(|round| round.replayed / round.folded),
            of(|round| round.replayed / round.caught_up)
        ));
    }

    fn round(&self, n: usize, config: &PostgresConfig, tape: &std::path::Path) -> Result<(Round, Replayed)> {
        let is_first = n.is_multiple_of(2);
        let floors = || -> Result<(f64, Replayed)> { Ok((self.produce(n)?, self.replay(n, config, tape)?)) };
        let before = is_first.then(floors).transpose()?;
        let (acknowledged, caught_up, cpu_ms) = self.ours(n)?;
        let (folded, fold_cpu_s) = self.fold_again(&format!("folded{n}"), None)?;
        let fold_cpu_ms = fold_cpu_s * 1_000.0 / self.adt.feed().messages as f64;
        let (produced, replayed) = match before {
            Some(floors) => floors,
            None => floors()?,
        };
        let round = Round {
            acknowledged,
            caught_up,
            cpu_ms,
            folded,
            fold_cpu_ms,
            produced,
            replayed: replayed.time.as_secs_f64(),
        };
        Ok((round, replayed))
    }

    fn ours(&self, n: usize) -> Result<(f64, f64, f64)> {
        let server = self.start(&format!("round{n}"))?;
        let client = Client::new(server.http, &server.key);
        let before = server.cpu_s()?;
        let begun = Instant::now();
        let (connections, window) = (CONNECTIONS.to_string(), WINDOW.to_string());
        let sent = send(&server, self.adt.feed(), &["--connections", &connections, "--window", &window])?;
        // The sender makes its feed before its first byte: that time is not the server's.
        let making = begun.elapsed().as_secs_f64() - sent.seconds;
        let caught_up = caught_up(&client, begun)? - making;
        let cpu_ms = (server.cpu_s()? - before) * 1_000.0 / self.adt.feed().messages as f64;
        server.stop()?;
        Ok((sent.seconds, caught_up, cpu_ms))
    }

    /// An installation of its own: its name is that of its schema, its topics and its folder.
    fn config(&self, name: &str) -> Result<PathBuf> {
        let folder = self.place.path().join(name);
        std::fs::create_dir(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        self.engines.write_config_of(&folder.join("hilum.toml"), name, "", "")
    }

    fn start(&self, name: &str) -> Result<Server> {
        let config = self.config(name)?;
        Server::start_with(&self.place.path().join(name), Some(&config))
    }

    /// Takes the feed in, and folds it once more into tables that write their statements on a tape.
    fn record(&self) -> Result<(PostgresConfig, PathBuf)> {
        let server = Server::start_with(&self.place.path().join(RECORDED), Some(&self.config(RECORDED)?))?;
        send(&server, self.adt.feed(), &["--connections", "16", "--window", "32"])?;
        server.stop()?;
        let tape = self.place.path().join("tape");
        self.fold_again(TAPED, Some(tape.clone()))?;
        Ok((PostgresConfig { schema: TAPED.to_owned(), ..self.engines.tables() }, tape))
    }

    /// Folds the whole log once more, into the new schema `schema`: seconds from the first look at a partition to the last
    /// message on the chart, and the CPU seconds of this process.
    fn fold_again(&self, schema: &str, tape: Option<PathBuf>) -> Result<(f64, f64)> {
        let folder = self.place.path().join(RECORDED);
        let known =
            Config::load(Some(&folder.join("hilum.toml")), std::iter::empty(), &Overrides::default())?;
        let config = PostgresConfig { schema: schema.to_owned(), tape, ..self.engines.tables() };
        self.runtime.block_on(async {
            let house = House::open(Folder::take(&folder.join("data"), "bench")?, known).await?;
            let tables = Tables::Postgres(Postgres::open(config, &crate::house::schema()).await?);
            fits::check::<hilum_adt::project::Adt>(&house.log, &tables).await?;
            let cpu = own_cpu_s()?;
            let running = run_all(&house.fold, &house.log, &tables, &house.clock);
            let until = Instant::now() + Duration::from_mins(20);
            let mut begun = None;
            loop {
                let health = running.progress().health();
                // Some seconds go by until the partitions are dealt out and their ends known.
                if health.lag_records().is_some_and(|lag| lag > 0) {
                    begun.get_or_insert_with(Instant::now);
                }
                if health.caught_up() && health.lag_records() == Some(0) {
                    break;
                }
                if Instant::now() > until {
                    bail!("the log was not folded again after 1,200 s");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let took = begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
            let cpu = own_cpu_s()? - cpu;
            running.stop().await;
            tables.close().await;
            house.close().await;
            Ok((took, cpu))
        })
    }

    fn produce(&self, n: usize) -> Result<f64> {
        let bodies = self.adt.feed().make();
        let (brokers, topic) = (self.engines.brokers(), format!("bare{n}"));
        let begun = Instant::now();
        let produced = bare::kafka::produce(
            &brokers,
            &topic,
            Config::default().log.partitions,
            &bodies,
            i32::try_from(CONNECTIONS * WINDOW)?,
            || begun.elapsed(),
        );
        Ok(self.runtime.block_on(produced)?.as_secs_f64())
    }

    fn replay(&self, n: usize, config: &PostgresConfig, tape: &std::path::Path) -> Result<Replayed> {
        let schema = format!("bare{n}");
        let begun = Instant::now();
        let replayed = bare::postgres::replay(config, &schema, tape, || begun.elapsed());
        Ok(self.runtime.block_on(replayed)?)
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
