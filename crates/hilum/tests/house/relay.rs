//! The change feed: what the outbox says, in Kafka, in order and without a gap, whoever of the workers dies or sleeps.

use hilum_testkit::kafka::{Found, Kafka, read_all};
use hilum_testkit::postgres::Postgres;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::many::{config, send, sibling, state};
use crate::server::{Server, Start, run, wait};

/// Commit, place in it, topic, key and body of an entry.
type Entry = (i64, i64, String, String, String);

/// An installation with a change feed.
struct House<'a> {
    kafka: &'a Kafka,
    postgres: &'a Postgres,
    config: String,
    prefix: String,
    schema: String,
}

impl<'a> House<'a> {
    fn new(kafka: &'a Kafka, postgres: &'a Postgres) -> Self {
        let config = config(kafka, postgres).replace("durability", "relay = true\ndurability");
        let value = |key: &str| {
            let line = config.lines().find(|line| line.starts_with(key)).unwrap();
            line.split('"').nth(1).unwrap().to_owned()
        };
        let (prefix, schema) = (value("prefix"), value("schema"));
        Self { kafka, postgres, config, prefix, schema }
    }

    fn topic(&self) -> String {
        format!("{}.chart.changes", self.prefix)
    }

    fn start(&self, folder: &TempDir, environment: &[(&str, &str)]) -> Server {
        Server::start(folder, &Start { config: &self.config, environment, ..Start::default() })
    }

    /// What the outbox says. Nothing is cut from it here: that would take more commits.
    fn outbox(&self) -> Vec<Entry> {
        let sql = format!(
            "SELECT t, n, topic, key, convert_from(body, 'UTF8') FROM {}.hilum_outbox ORDER BY t, n",
            self.schema
        );
        let rows = self.postgres.rows(&sql).into_iter().map(|row| {
            let [t, n, topic, key, body] = row.try_into().unwrap();
            (t.parse().unwrap(), n.parse().unwrap(), topic, key, body)
        });
        rows.collect()
    }

    fn records(&self) -> Vec<(Value, Found)> {
        let records = read_all(&self.kafka.brokers(), &self.topic()).into_iter().map(|record| {
            let [(name, mark)] = &*record.headers else { panic!("{record:?}") };
            assert_eq!(name, "hilum-change");
            (serde_json::from_str(mark).unwrap(), record)
        });
        records.collect()
    }

    /// What a reader takes who keeps the greatest `(t, n)`, as docs/EVENTS.md tells him to.
    fn feed(&self) -> Vec<Entry> {
        let mut taken: Vec<Entry> = Vec::new();
        for (mark, record) in self.records() {
            let (t, n) = (mark["t"].as_i64().unwrap(), mark["n"].as_i64().unwrap());
            if taken.last().is_none_or(|last| (last.0, last.1) < (t, n)) {
                taken.push((t, n, mark["topic"].as_str().unwrap().to_owned(), record.key, record.value));
            }
        }
        taken
    }

    /// Waits until the feed has `at_least` new patients' worth of entries and is what the outbox says.
    fn published(&self, patients: usize) {
        let said = wait("all of it is published", 60, || {
            let (outbox, feed) = (self.outbox(), self.feed());
            std::thread::sleep(std::time::Duration::from_millis(100));
            // Behind a gap it will not come any more: say so at once.
            let common = outbox.iter().zip(&feed).take_while(|(one, other)| one == other).count();
            assert_eq!(
                common,
                feed.len().min(outbox.len()),
                "{:?} / {:?}",
                outbox.get(common),
                feed.get(common)
            );
            (outbox.len() == feed.len() && of_patients(&feed) >= patients).then_some(feed)
        });
        assert!(said.iter().all(|one| one.0 > 0 && one.1 >= 0));
    }

    /// The data folder of whoever publishes.
    fn publisher(&self) -> Option<String> {
        let sql = format!(
            "SELECT holder FROM {}.hilum_lease WHERE name = 'relay' AND until > \
             (extract(epoch FROM now()) * 1000000)::int8",
            self.schema
        );
        self.postgres.rows(&sql).pop()?.pop()
    }

    fn publishes(&self, server: &Server) -> bool {
        let id = std::fs::read_to_string(server.data.join("process.id")).unwrap();
        self.publisher().is_some_and(|holder| holder == id.trim())
    }
}

/// Distinct patients whose resources are told of.
fn of_patients(feed: &[Entry]) -> usize {
    let ids = feed.iter().filter(|one| one.4.contains("\"Patient\"")).map(|one| &one.3);
    ids.collect::<std::collections::BTreeSet<_>>().len()
}

/// One publisher sleeps past its lease and wakes, the next is killed, a third dies between acknowledgment and cursor:
/// the feed is what the outbox says.
#[test]
fn the_feed_is_the_outbox_whoever_dies_or_sleeps() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let house = House::new(kafka, postgres);
    let folder = tempdir().unwrap();
    let one = house.start(&folder, &[]);
    send(&one, 0..20);
    house.published(20);
    let other = sibling(&folder);
    let two = house.start(&other, &[]);
    assert!(house.publishes(&one));

    // What comes in while its publisher sleeps, the other publishes; then the first one wakes.
    one.signal("STOP");
    send(&two, 20..40);
    house.published(40);
    assert!(house.publishes(&two));
    one.signal("CONT");
    send(&one, 40..60);
    house.published(60);
    assert!(house.publishes(&two), "who woke is not let in before");

    two.signal("KILL");
    drop(two);
    send(&one, 60..80);
    house.published(80);
    assert!(house.publishes(&one));
    // In good order the next one has it at once.
    let mut dies = house.start(&other, &[("HILUM_FAILPOINT", "relay:1")]);
    one.stop();
    send(&dies, 80..81);
    let status = dies.ended(60);
    assert!(!status.success() && dies.said().contains("failpoint relay fired"), "{}", dies.said());
    let one = house.start(&folder, &[]);
    send(&one, 81..100);
    house.published(100);

    let records = house.records();
    assert!(records.len() > house.outbox().len(), "some came twice");
    let lives: std::collections::BTreeSet<_> =
        records.iter().map(|(mark, _)| mark["life"].to_string()).collect();
    assert_eq!(lives.len(), 1, "{lives:?}");
    let mut terms: Vec<_> = records.iter().map(|(mark, _)| mark["term"].as_i64().unwrap()).collect();
    terms.dedup();
    assert!(terms.len() >= 4, "{terms:?}");
    // Ids and kinds, and no patients.
    for (mark, record) in &records {
        for patient in ["KIM", "DOE", "Minjun", "MRN"] {
            assert!(!record.value.contains(patient) && !mark.to_string().contains(patient), "{record:?}");
        }
    }
    one.stop();
}

/// A feed that cannot be published is said everywhere, loses nothing, and goes on by itself.
#[test]
fn a_feed_that_stands_still_is_said_and_goes_on() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let house = House::new(kafka, postgres);
    let topics = "org.apache.kafka.tools.TopicCommand";
    let topic = house.topic();
    kafka.tool(topics, &["--create", "--topic", &topic, "--partitions", "2"]);
    let folder = tempdir().unwrap();
    let server = house.start(&folder, &[]);
    send(&server, 0..5);
    let (status, said) = wait("it is noted", 30, || {
        let (status, said) = state(&server);
        said["notes"].to_string().contains("change feed stands still").then_some((status, said))
    });
    assert_eq!(status, 200, "{said}: messages are applied all the same");
    assert!(said["notes"].to_string().contains("has 2 partitions"), "{said}");
    let doctor = || {
        let out = run(&["doctor", "--json", "--data", server.data.to_str().unwrap()]);
        let findings: Value = serde_json::from_slice(&out.stdout).unwrap();
        let of_feed = findings.as_array().unwrap().iter().find(|one| one["about"] == "change feed");
        of_feed.unwrap().clone()
    };
    let found = doctor();
    assert_eq!(found["level"], "bad", "{found}");
    assert!(found["remedy"].as_str().unwrap().contains("log.relay = false"), "{found}");

    kafka.tool(topics, &["--delete", "--topic", &topic]);
    house.published(5);
    wait("nothing to note", 30, || state(&server).1["notes"].is_null().then_some(()));
    let found = doctor();
    assert_eq!(found["level"], "ok", "{found}");
    server.stop();
}

/// Who is told twice to stop does so at once, though a thread of it waits for brokers that do not answer.
#[test]
fn a_publisher_that_waits_for_its_brokers_ends_when_it_is_told_to() {
    let (kafka, postgres) = (Kafka::start(1, &[]), Postgres::shared());
    let house = House::new(&kafka, postgres);
    let folder = tempdir().unwrap();
    let one = house.start(&folder, &[]);
    send(&one, 0..5);
    house.published(5);
    let other = sibling(&folder);
    let mut two = house.start(&other, &[]);
    kafka.pause(1);
    one.signal("KILL");
    drop(one);
    wait("the other one tries to publish", 30, || house.publishes(&two).then_some(()));
    let begun = std::time::Instant::now();
    two.signal("TERM");
    std::thread::sleep(std::time::Duration::from_millis(500));
    two.signal("TERM");
    two.ended(60);
    let took = begun.elapsed();
    assert!(took < std::time::Duration::from_secs(4), "{took:?}: {}", two.said());
    kafka.resume(1);
}
