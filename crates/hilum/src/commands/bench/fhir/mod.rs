//! `hilum bench fhir`: the FHIR window over a population, each figure per CPU-second of the server, which a busy machine blurs
//! least, beside what the machine does at best in the same run. Authority and audit are on, as ever.

mod copies;
pub mod floor;
mod load;
mod sample;

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use hilum_engines::bare;
use hilum_launch::Postgres;
use hilum_records::import::{Imported, files};
use serde_json::{Value, json};

use self::load::{Connection, Load, Target, load};
use self::sample::{Sample, next_of};
use super::Scratch;
use super::process::{Server, ended_children_cpu_s, machine, memory_mb, own_cpu_s};
use crate::out;

/// Rows of one commit of the bare engine.
const BARE_GROUP: usize = 1_000;
/// The page that is compared with the second one.
const FAR_PAGE: usize = 1_000;
/// Pages whose median is one figure.
const PAGES_MEASURED: usize = 9;

/// Measures the FHIR window.
#[derive(Debug, Args)]
#[command(
    after_help = "The population is Synthea's, say (hospital, practitioner and patient Bundles of one folder); the project brings \
                        none. What is measured, and how, stands in docs/BENCHMARKS.md.\n\n\
                        Examples:\n  hilum bench fhir --bundles synthea/fhir --quick\n  \
                        hilum bench fhir --bundles synthea/fhir --copies 4 --json\n  \
                        hilum bench fhir --bundles synthea/fhir --engines postgres"
)]
pub struct Fhir {
    /// Files or folders, as `hilum import fhir` takes them
    #[arg(long, required = true, value_name = "PATH", num_args = 1..)]
    bundles: Vec<PathBuf>,
    /// How often the population is brought in, each copy under ids of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    copies: u32,
    /// What the tables stand on
    #[arg(long, value_enum, default_value = "embedded")]
    engines: On,
    /// Clients that ask at the same time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// Seconds of each figure
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Two seconds a figure, and no search alone
    #[arg(long)]
    quick: bool,
    /// Folder for the server under test; absent = a temporary one. It is removed
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    /// SQLite, in the program itself
    Embedded,
    /// A PostgreSQL that is started for it (`make tools` installs it)
    Postgres,
}

/// What stands while it runs.
struct Bench<'a> {
    asked: &'a Fhir,
    scratch: Scratch,
    postgres: Option<Postgres>,
    config: PathBuf,
    /// The figures, for programs.
    report: serde_json::Map<String, Value>,
}

/// Runs it.
///
/// # Errors
/// A server did not start, a resource was refused, an answer was none.
pub fn run(asked: &Fhir) -> Result<()> {
    let folder = asked.scratch.clone();
    let folder =
        folder.unwrap_or_else(|| std::env::temp_dir().join(format!("hilum-bench-{}", std::process::id())));
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let scratch = Scratch(folder);
    let mut bench = Bench::new(asked, scratch)?;
    bench.say("machine", json!(machine()), &format!("hilum {} · {}", env!("CARGO_PKG_VERSION"), machine()));
    let imported = bench.import()?;
    let server = Server::start_with(&bench.scratch.0, Some(&bench.config))?;
    let done = bench.serve(&server, &imported);
    server.stop()?;
    done?;
    if asked.json {
        out::line(&Value::Object(bench.report).to_string());
    }
    Ok(())
}

/// What was brought in, and what that cost.
struct Import {
    resources: f64,
    body_bytes: f64,
}

impl<'a> Bench<'a> {
    fn new(asked: &'a Fhir, scratch: Scratch) -> Result<Self> {
        let mut config = String::new();
        let postgres = match asked.engines {
            On::Embedded => None,
            On::Postgres => {
                open_to_others(&scratch.0)?;
                let entropy = crate::machine::entropy();
                let password = format!("{:032x}", u128::from_le_bytes(entropy.bytes()));
                let postgres =
                    Postgres::start(&scratch.0.join("postgresql"), &password, &[]).context("PostgreSQL")?;
                config = format!("[tables]\nengine = \"postgres\"\nurl = \"{}\"\n", postgres.url());
                Some(postgres)
            }
        };
        let path = scratch.0.join("hilum.toml");
        std::fs::write(&path, config)?;
        std::fs::create_dir_all(scratch.0.join("data"))?;
        Ok(Self { asked, scratch, postgres, config: path, report: serde_json::Map::new() })
    }

    /// A figure, for programs and for people.
    fn say(&mut self, name: &str, figure: Value, text: &str) {
        self.report.insert(name.to_owned(), figure);
        if !self.asked.json {
            out::line(text);
        }
    }

    fn postgres_cpu_s(&self) -> f64 {
        self.postgres.as_ref().map_or(0.0, |postgres| postgres.cpu_ms() as f64 / 1_000.0)
    }

    /// Brings the population in, a copy after the other.
    fn import(&mut self) -> Result<Import> {
        let found = files::files(&self.asked.bundles)?;
        let paths: Vec<PathBuf> = found.into_iter().map(|file| file.path).collect();
        let mut all = Import { resources: 0.0, body_bytes: 0.0 };
        let mut rounds = Vec::new();
        for copy in 1..=self.asked.copies {
            let of_copy = self.scratch.0.join("copy");
            let from = if copy == 1 { paths.clone() } else { vec![of_copy.clone()] };
            if copy > 1 {
                copies::write(&paths, &of_copy, copy)?;
            }
            let begun = Instant::now();
            let before = (ended_children_cpu_s()?, self.postgres_cpu_s());
            let (done, memory) = self.bring_in(&from)?;
            let (seconds, ours) = (begun.elapsed().as_secs_f64(), ended_children_cpu_s()? - before.0);
            let theirs = self.postgres_cpu_s() - before.1;
            if copy > 1 {
                std::fs::remove_dir_all(&of_copy)?;
            }
            let resources = done.written as f64;
            all.resources += resources;
            all.body_bytes += done.body_bytes as f64;
            let figure = json!({
                "resources": resources, "perS": resources / seconds, "perCpuS": resources / (ours + theirs),
                "cpuS": ours, "postgresqlCpuS": theirs, "rowsPerResource": done.rows as f64 / resources.max(1.0),
                "commits": done.commits, "memoryMbMax": memory, "bytesPerResource": done.body_bytes as f64 / resources.max(1.0),
            });
            let text = format!(
                "import {copy}: {resources:.0} resources in {seconds:.1} s ({:.0}/s), {:.0} per CPU-s (ours {ours:.1} CPU-s, \
                 PostgreSQL's {theirs:.1}); {:.1} rows a resource, {} commits; memory at its highest {memory:.0} MB",
                resources / seconds,
                resources / (ours + theirs),
                done.rows as f64 / resources.max(1.0),
                done.commits
            );
            rounds.push(figure);
            self.say("import", Value::Array(rounds.clone()), &text);
        }
        Ok(all)
    }

    /// One `hilum import fhir`: what it said, and its memory at its highest, MB.
    fn bring_in(&self, from: &[PathBuf]) -> Result<(Imported, f64)> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["import", "fhir", "--json", "--data"])
            .arg(self.scratch.0.join("data"))
            .arg("--config")
            .arg(&self.config)
            .args(from)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("hilum import fhir")?;
        let mut memory: f64 = 0.0;
        while child.try_wait()?.is_none() {
            memory = memory.max(memory_mb(child.id()).map_or(0.0, |(_, peak)| peak));
            std::thread::sleep(Duration::from_millis(20));
        }
        let out = child.wait_with_output()?;
        let done: Imported = serde_json::from_slice(&out.stdout).context("hilum import fhir said nothing")?;
        if done.refused > 0 {
            let first = done.refused_named.first().map(|one| one.text.clone()).unwrap_or_default();
            bail!("{} resources are refused, the first one since: {first}", done.refused);
        }
        Ok((done, memory))
    }

    fn serve(&mut self, server: &Server, imported: &Import) -> Result<()> {
        let sample = Sample::take(server.http, &server.key)?;
        let floor = self.floors(&sample)?;
        let span = Duration::from_secs(if self.asked.quick { 2 } else { self.asked.seconds });
        let empty = floor.load(&[String::from("/empty")], self.asked.clients, span)?;
        self.load_said("emptyHandler", "floor: an empty handler", &empty, None);
        let numbers: Vec<String> = (1..=sample.bodies.len()).map(|n| format!("/read/{n}")).collect();
        let bare = floor.load(&numbers, self.asked.clients, span)?;
        self.load_said("bareRead", "floor: a point read of SQLite, inline", &bare, None);
        drop(floor);
        let ours = |paths: &[String]| {
            let postgres = self.postgres.as_ref();
            let cpu_s = || Ok(server.cpu_s()? + postgres.map_or(0.0, |one| one.cpu_ms() as f64 / 1_000.0));
            let target = Target { address: server.http, key: &server.key, cpu_s: &cpu_s };
            load(&target, paths, usize::from(self.asked.clients), span)
        };
        let reads = ours(&sample.reads)?;
        let mixed = ours(&sample.mixed())?;
        let uncounted: Vec<String> =
            sample.mixed().iter().map(|path| format!("{path}&_total=none")).collect();
        let uncounted = ours(&uncounted)?;
        let mut alone = Vec::new();
        if !self.asked.quick {
            for (name, paths) in &sample.searches {
                alone.push((*name, ours(paths)?));
            }
        }
        self.load_said("read", "read by id", &reads, Some(("bare read", bare.per_cpu_s)));
        self.load_said("searches", "the five searches in equal parts", &mixed, None);
        self.load_said("uncounted", "the same, asked for no total", &uncounted, None);
        for (name, load) in &alone {
            self.load_said(name, name, load, None);
        }
        self.pages(server)?;
        let (now_mb, peak_mb) = server.memory_mb()?;
        let text = format!("server: resident memory {now_mb:.0} MB, at its highest {peak_mb:.0} MB");
        self.say("memoryMb", json!({"now": now_mb, "max": peak_mb}), &text);
        let disk = self.disk_bytes();
        let ratio = disk / imported.body_bytes;
        let text = format!(
            "tables on disk: {:.1} MB, {ratio:.2} × the compact JSON of {:.0} resources ({:.1} MB)",
            disk / 1e6,
            imported.resources,
            imported.body_bytes / 1e6
        );
        self.say("disk", json!({"bytes": disk, "json": imported.body_bytes, "ratio": ratio}), &text);
        Ok(())
    }

    fn load_said(&mut self, name: &str, what: &str, load: &Load, beside: Option<(&str, f64)>) {
        let beside = beside.map_or_else(String::new, |(floor, per_cpu_s)| {
            format!("; ratio to the {floor} {:.2}", load.per_cpu_s / per_cpu_s)
        });
        let text = format!(
            "{what}, {} clients: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, {:.0} per CPU-s, {:.0} bytes{beside}",
            self.asked.clients, load.per_s, load.p50_ms, load.p99_ms, load.per_cpu_s, load.bytes
        );
        self.say(name, json!(load), &text);
    }

    /// The bare engine with the same bodies, and the server that does nothing else.
    fn floors(&mut self, sample: &Sample) -> Result<FloorServer> {
        let path = self.scratch.0.join("bodies.sqlite");
        let (before, begun) = (own_cpu_s()?, Instant::now());
        bare::append(&path, &sample.bodies, BARE_GROUP)?;
        let (n, cpu_s) = (sample.bodies.len() as f64, own_cpu_s()? - before);
        let text = format!(
            "floor: bodies alone into bare SQLite: {:.0}/s, {:.0} per CPU-s",
            n / begun.elapsed().as_secs_f64(),
            n / cpu_s.max(0.01)
        );
        self.say("bareInsert", json!({"perCpuS": n / cpu_s.max(0.01)}), &text);
        FloorServer::start(&path)
    }

    /// A walk through all Observations: what a page costs near the beginning, and far behind it.
    fn pages(&mut self, server: &Server) -> Result<()> {
        let mut connection = Connection::open(server.http, &server.key)?;
        let mut ask = |path: &str| -> Result<(f64, Option<String>)> {
            let asked = Instant::now();
            let body = connection.get(path)?;
            let took_ms = asked.elapsed().as_secs_f64() * 1_000.0;
            Ok((took_ms, next_of(&serde_json::from_slice(body)?)))
        };
        let mut next = Some("/fhir/Observation?_count=20".to_owned());
        let (mut took_ms, mut links) = (Vec::new(), Vec::new());
        while let Some(path) = next.take().filter(|_| took_ms.len() < FAR_PAGE + PAGES_MEASURED) {
            let (took, behind) = ask(&path)?;
            took_ms.push(took);
            links.push(path);
            next = behind;
        }
        let pages = took_ms.len();
        // One near and one far by turns: what slows the machine for a while slows both.
        let (mut near, mut far) = (Vec::new(), Vec::new());
        let behind_first = links.iter().skip(1).take(PAGES_MEASURED);
        for (one, other) in behind_first.zip(links.iter().rev().take(PAGES_MEASURED)) {
            near.push(ask(one)?.0);
            far.push(ask(other)?.0);
        }
        let (near, far) = (median(&near), median(&far));
        let first = took_ms.first().copied().unwrap_or_default();
        let worst = took_ms.iter().skip(1).copied().fold(0.0, f64::max);
        let text = format!(
            "pages of 20: the first {first:.2} ms (with the total), page 2 {near:.2} ms, page {pages} {far:.2} ms; ratio {:.2}; the \
             slowest {worst:.2} ms",
            far / near
        );
        self.say(
            "pages",
            json!({"second": near, "far": far, "pages": pages, "ratio": far / near, "slowest": worst}),
            &text,
        );
        Ok(())
    }

    fn disk_bytes(&self) -> f64 {
        match &self.postgres {
            Some(postgres) => size_of(&postgres.dir().join("data").join("base")),
            None => size_of(&self.scratch.0.join("data").join("tables.sqlite")),
        }
    }
}

/// PostgreSQL may run as another user, who has to pass through.
fn open_to_others(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711))?)
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Bytes of a file, or of all files in a folder.
fn size_of(path: &Path) -> f64 {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return 0.0 };
    if !metadata.is_dir() {
        return metadata.len() as f64;
    }
    let inside = std::fs::read_dir(path).into_iter().flatten().flatten();
    inside.map(|entry| size_of(&entry.path())).sum()
}

/// `hilum bench floor`, running.
struct FloorServer {
    child: Child,
    address: SocketAddr,
}

impl FloorServer {
    fn start(bodies: &Path) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "floor"])
            .arg(bodies)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("hilum bench floor")?;
        let mut line = String::new();
        let said = child.stdout.take().context("hilum bench floor")?;
        std::io::BufReader::new(said).read_line(&mut line)?;
        let address = line.trim().parse().context("hilum bench floor said no address")?;
        Ok(Self { child, address })
    }

    fn load(&self, paths: &[String], clients: u16, span: Duration) -> Result<Load> {
        let cpu_s = || super::process::cpu_of(self.child.id());
        let target = Target { address: self.address, key: "none", cpu_s: &cpu_s };
        load(&target, paths, usize::from(clients), span)
    }
}

impl Drop for FloorServer {
    fn drop(&mut self) {
        if let Err(fault) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::warn!(%fault, "the floor's server stays");
        }
    }
}
