//! Kill -9 of gateways, workers, a reader, a broker and PostgreSQL, and a worker that sleeps past its membership and
//! wakes: what was acknowledged is applied once, and the chart is the one of a single process that nobody disturbed.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hilum_core::Entropy;
use hilum_testkit::kafka::{Kafka, read_all};
use hilum_testkit::postgres::Postgres;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::load::{Done, Gateways, send};
use crate::server::{Server, Start, field, request, run, wait};

const MESSAGES: usize = 1_600;
const SENDERS: usize = 8;
/// Over which the messages come in: longer than the kills take.
const SPAN: Duration = Duration::from_secs(75);
/// Longer than a worker's membership lasts without a sign of life.
const ASLEEP: Duration = Duration::from_secs(14);

/// A seeded feed: encounters with moves, cancels, merges, late messages.
fn feed(folder: &TempDir, seed: u64) -> Vec<String> {
    let file = folder.path().join("feed.hl7");
    let (messages, seed) = (MESSAGES.to_string(), seed.to_string());
    let out = run(&[
        "bench",
        "generate",
        "--messages",
        &messages,
        "--seed",
        &seed,
        "--out",
        file.to_str().unwrap(),
    ]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = std::fs::read_to_string(file).unwrap();
    let messages: Vec<String> =
        text.split('\n').filter(|message| !message.is_empty()).map(str::to_owned).collect();
    assert_eq!(messages.len(), MESSAGES);
    messages
}

/// The folder of a further process of the installation.
fn sibling(secrets: &Path) -> TempDir {
    let folder = tempdir().unwrap();
    let own = folder.path().join("data/secrets");
    std::fs::create_dir_all(&own).unwrap();
    for path in [own.parent().unwrap(), &*own] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    for file in std::fs::read_dir(secrets).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), own.join(file.file_name())).unwrap();
    }
    folder
}

/// A process that is killed and started again, in a folder that stays.
struct Part {
    role: &'static str,
    folder: TempDir,
    server: Option<Server>,
}

struct House {
    config: String,
    parts: Vec<Part>,
    gateways: Arc<Gateways>,
}

impl House {
    fn of(&self, role: &str) -> Vec<usize> {
        (0..self.parts.len()).filter(|&at| self.parts[at].role == role).collect()
    }

    fn start(&mut self, at: usize) {
        let part = &mut self.parts[at];
        let start = Start { config: &self.config, arguments: &["--roles", part.role], ..Start::default() };
        part.server = Some(Server::start(&part.folder, &start));
        self.tell();
    }

    fn kill(&mut self, at: usize) {
        drop(self.parts[at].server.take());
        self.tell();
    }

    /// Senders know who is there as a load balancer does.
    fn tell(&self) {
        let open = self.of("gateway").into_iter().filter_map(|at| self.parts[at].server.as_ref());
        self.gateways.are(open.map(|server| server.mllp).collect());
    }

    fn server(&self, at: usize) -> &Server {
        self.parts[at].server.as_ref().unwrap()
    }
}

fn get(server: &Server, key: &str, path: &str) -> Option<Value> {
    let answer = request(server.http.unwrap(), "GET", path, &[("x-api-key", key)], b"");
    serde_json::from_slice(&answer.body).ok().filter(|_| answer.status == 200)
}

fn caught_up(server: &Server, key: &str) {
    wait("all of it is applied", 240, || {
        let census = get(server, key, "/api/census?unit=NONE")?;
        std::thread::sleep(Duration::from_millis(200));
        (census["lag"] == 0).then_some(())
    });
}

/// How often each message had an effect, and how often it came.
fn effects(server: &Server, key: &str, messages: &[String]) -> BTreeMap<String, (usize, usize)> {
    let effects = |message: &String| {
        let id = field(message, "MSH", 9);
        let found = get(server, key, &format!("/api/messages?control_id={id}")).expect("an answer");
        let found = found["messages"].as_array().unwrap().clone();
        let is_first = |one: &&Value| one["status"] != "duplicate";
        let first = found.iter().filter(is_first).count();
        (id, (first, found.len()))
    };
    messages.iter().map(effects).collect()
}

/// Commit, place in it, topic, key and content of an entry of the outbox.
type Entry = (i64, i64, String, String, String);

/// What the outbox says: so few commits that nothing is cut from it.
fn outbox(postgres: &Postgres, schema: &str) -> Vec<Entry> {
    let sql = format!(
        "SELECT t, n, topic, key, convert_from(body, 'UTF8') FROM {schema}.hilum_outbox ORDER BY t, n"
    );
    let entries = postgres.rows(&sql).into_iter().map(|row| {
        let [t, n, topic, key, body] = row.try_into().unwrap();
        (t.parse().unwrap(), n.parse().unwrap(), topic, key, body)
    });
    entries.collect()
}

/// How many records the change feed has, and what a reader takes of them who keeps the greatest `(t, n)`.
fn published(kafka: &Kafka, prefix: &str) -> (usize, Vec<Entry>) {
    let records = read_all(&kafka.brokers(), &format!("{prefix}.chart.changes"));
    let came = records.len();
    let mut taken: Vec<Entry> = Vec::new();
    for record in records {
        let mark: Value = serde_json::from_str(&record.headers[0].1).unwrap();
        let (t, n) = (mark["t"].as_i64().unwrap(), mark["n"].as_i64().unwrap());
        if taken.last().is_none_or(|last| (last.0, last.1) < (t, n)) {
            taken.push((t, n, mark["topic"].as_str().unwrap().to_owned(), record.key, record.value));
        }
    }
    (came, taken)
}

/// The chart's hash where no process runs any more, and that chart and census are what the log gives.
fn hash(data: &Path, config: Option<&Path>) -> String {
    let mut reports = Vec::new();
    for what in ["chart", "census"] {
        let mut arguments = vec!["rebuild", what, "--json", "--data", data.to_str().unwrap()];
        arguments.extend(config.iter().flat_map(|path| ["--config", path.to_str().unwrap()]));
        let out = run(&arguments);
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{what}: {said}{}", String::from_utf8_lossy(&out.stderr));
        reports.push(serde_json::from_str::<Value>(&said).unwrap());
    }
    assert_eq!(reports[0]["hashBefore"], reports[0]["hashLog"], "{}", reports[0]);
    reports[0]["hashAfter"].as_str().unwrap().to_owned()
}

/// What a single process makes of the same messages, with the same key: the hash before the last message, and after it.
fn undisturbed(secrets: &Path, messages: &[String]) -> (String, String) {
    let folder = sibling(secrets);
    let (last, others) = messages.split_last().unwrap();
    let mut hashes = Vec::new();
    for messages in [others, std::slice::from_ref(last)] {
        let server = Server::start(&folder, &Start::default());
        let key = server.key(&format!("viewer{}", hashes.len()), "viewer");
        let mut mllp = server.connect();
        for message in messages {
            assert_eq!(field(&mllp.ask(message), "MSA", 1), "AA");
        }
        caught_up(&server, &key);
        let data = server.data.clone();
        server.stop();
        hashes.push(hash(&data, None));
    }
    let last = hashes.pop().unwrap();
    (hashes.pop().unwrap(), last)
}

/// One after the other, in an order that the seed says; then those again that recover fastest, as long as there is load.
fn disturb(
    house: &mut House,
    kafka: &Kafka,
    postgres: &Postgres,
    seed: u64,
    until: Instant,
) -> Vec<&'static str> {
    let random = Entropy::seeded(seed);
    let below = |n: usize| u32::from_le_bytes(random.bytes()) as usize % n;
    let mut kinds = ["gateway", "worker", "broker", "postgresql", "zombie", "reader", "worker-mid-batch"];
    for at in (1..kinds.len()).rev() {
        kinds.swap(at, below(at + 1));
    }
    let quick = ["gateway", "worker", "postgresql", "worker-mid-batch"];
    let mut done = Vec::new();
    while done.len() < kinds.len() || Instant::now() < until {
        let kind = kinds.get(done.len()).copied().unwrap_or_else(|| quick[below(quick.len())]);
        eprintln!("{kind}");
        match kind {
            "broker" => {
                let id = 1 + below(3);
                kafka.kill(id);
                std::thread::sleep(Duration::from_secs(4));
                kafka.restart(id);
            }
            "postgresql" => {
                postgres.kill();
                std::thread::sleep(Duration::from_secs(2));
                postgres.restart();
            }
            "zombie" => {
                let workers = house.of("worker");
                let worker = house.server(workers[below(workers.len())]);
                worker.signal("STOP");
                std::thread::sleep(ASLEEP);
                // It still believes that its partitions are its own, and goes on where it stood.
                worker.signal("CONT");
            }
            "worker-mid-batch" => {
                // Twice within a moment: the second one has just been given the first one's partitions.
                let workers = house.of("worker");
                for &at in &workers[..2] {
                    house.kill(at);
                    std::thread::sleep(Duration::from_millis(300 + below(700) as u64));
                }
                for &at in &workers[..2] {
                    house.start(at);
                }
            }
            role => {
                let of_role = house.of(role);
                let at = of_role[below(of_role.len())];
                house.kill(at);
                std::thread::sleep(Duration::from_millis(500 + below(1_500) as u64));
                house.start(at);
            }
        }
        done.push(kind);
        std::thread::sleep(Duration::from_millis(500 + below(1_000) as u64));
    }
    done
}

#[test]
fn whatever_is_killed_what_was_acknowledged_is_applied_once_and_the_chart_is_the_same() {
    let seed = std::env::var("HILUM_TEST_SEED").ok().and_then(|raw| raw.parse().ok()).unwrap_or(20_261_121);
    eprintln!("HILUM_TEST_SEED={seed}");
    let (kafka, postgres) = (Kafka::start(3, &[]), Postgres::start(&[]));
    let scratch = tempdir().unwrap();
    let messages = feed(&scratch, seed);
    let (prefix, schema) = (kafka.fresh_prefix(), postgres.fresh_schema());
    let config = format!(
        "[log]\nengine = \"kafka\"\nbrokers = \"{}\"\nprefix = \"{prefix}\"\nrelay = true\n\n\
         [tables]\nengine = \"postgres\"\nurl = \"{}\"\nschema = \"{schema}\"\n",
        kafka.brokers(),
        postgres.url(),
    );
    let first = tempdir().unwrap();
    let start = Start { config: &config, arguments: &["--roles", "reader"], ..Start::default() };
    let reader = Server::start(&first, &start);
    let viewer = reader.key("viewer", "viewer");
    let secrets = reader.data.join("secrets");
    let mut house = House { config, parts: Vec::new(), gateways: Arc::default() };
    for (role, count) in [("gateway", 2), ("worker", 3), ("reader", 1)] {
        for _ in 0..count {
            house.parts.push(Part { role, folder: sibling(&secrets), server: None });
            house.start(house.parts.len() - 1);
        }
    }

    let numbered: Vec<(usize, &str)> = messages.iter().map(String::as_str).enumerate().collect();
    let done = Done::default();
    let gateways = Arc::clone(&house.gateways);
    let disturbed = std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let mine: Vec<_> = numbered.iter().skip(sender).step_by(SENDERS).copied().collect();
            let (done, gateways) = (&done, &gateways);
            scope.spawn(move || send(&mine, MESSAGES, SPAN, gateways, done));
        }
        disturb(&mut house, &kafka, &postgres, seed, Instant::now() + SPAN)
    });
    eprintln!(
        "{} acknowledged, {} tries without an answer, {} disturbances: {disturbed:?}",
        done.acknowledged.load(Ordering::Relaxed),
        done.again.load(Ordering::Relaxed),
        disturbed.len()
    );
    assert_eq!(done.acknowledged.load(Ordering::Relaxed), MESSAGES);

    caught_up(&reader, &viewer);
    let effects = effects(&reader, &viewer, &messages);
    let wrong: Vec<_> = effects.iter().filter(|(_, (first, _))| *first != 1).collect();
    assert!(wrong.is_empty(), "each has one effect: {wrong:?}");
    let copies: usize = effects.values().map(|(_, all)| all - 1).sum();
    eprintln!("{copies} copies had no effect");
    wait("the change feed is what the outbox says", 60, || {
        let outbox = outbox(&postgres, &schema);
        let (came, taken) = published(&kafka, &prefix);
        let common = outbox.iter().zip(&taken).take_while(|(one, other)| one == other).count();
        assert_eq!(
            common,
            outbox.len().min(taken.len()),
            "{:?} / {:?}",
            outbox.get(common),
            taken.get(common)
        );
        std::thread::sleep(Duration::from_millis(200));
        (outbox.len() == taken.len())
            .then(|| eprintln!("{} entries of the change feed, {came} came", taken.len()))
    });

    drop(house.parts);
    let data = reader.data.clone();
    reader.stop();
    let of_many = hash(&data, Some(&first.path().join("hilum.toml")));
    let (short_of_one, of_one) = undisturbed(&data.join("secrets"), &messages);
    assert_eq!(of_many, of_one, "the chart of many processes is the chart of one");
    assert_ne!(of_many, short_of_one, "and a message that is missing would be seen");
}
