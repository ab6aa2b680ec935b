//! Kafka and PostgreSQL of our own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hilum_engines::tables::postgres::PostgresConfig;
use hilum_launch::kafka::Shape;
use hilum_launch::{Kafka, Postgres};

use super::Place;
use crate::machine;

/// How long a server that ended stays so: long enough to be seen.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Of each broker; three of them, PostgreSQL and seven processes of ours share one machine.
const HEAP_MB: u32 = 256;

/// How large the engines are.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Brokers: three keep each record on two before it is acknowledged.
    pub brokers: usize,
    /// Settings of PostgreSQL beyond its defaults.
    pub postgres: &'static [&'static str],
}

/// Both, running.
#[derive(Debug)]
pub struct Engines {
    kafka: Kafka,
    postgres: Postgres,
    size: Size,
    /// Since when a server is seen not to run, by name.
    ended: Vec<(String, Instant)>,
}

impl Engines {
    /// Starts both below `place`, at the same time.
    ///
    /// # Errors
    /// What is not installed or does not start, with the way out.
    pub fn start(place: &Place, size: Size) -> anyhow::Result<Self> {
        let password = format!("{:032x}", u128::from_le_bytes(machine::entropy().bytes()));
        let (of_kafka, of_postgres) = (place.path().join("kafka"), place.path().join("postgresql"));
        let (kafka, postgres) = std::thread::scope(|scope| {
            let kafka = scope.spawn(|| {
                let shape = Shape { brokers: size.brokers, heap_mb: HEAP_MB, ..Shape::default() };
                Kafka::start(&machine::cache(), &of_kafka, &shape)
            });
            (kafka.join(), Postgres::start(&of_postgres, &password, size.postgres))
        });
        let kafka = kafka.map_err(|_| anyhow::anyhow!("the thread that starts Kafka ended"))?;
        Ok(Self {
            kafka: kafka.context("Kafka")?,
            postgres: postgres.context("PostgreSQL")?,
            size,
            ended: Vec::new(),
        })
    }

    /// Where Kafka is.
    pub fn brokers(&self) -> String {
        self.kafka.brokers()
    }

    /// Where the tables are.
    pub fn tables(&self) -> PostgresConfig {
        PostgresConfig::new(self.postgres.url(), "hilum")
    }

    /// Writes the configuration of a process that stands on both.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_config(&self, path: &Path, further: &str) -> anyhow::Result<PathBuf> {
        self.write_config_of(path, &self.tables().schema, "relay = true\n", further)
    }

    /// The same for the installation `name`: its schema and its topics are called so. `of_log` are further settings of the
    /// log.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_config_of(
        &self,
        path: &Path,
        name: &str,
        of_log: &str,
        further: &str,
    ) -> anyhow::Result<PathBuf> {
        let tables = self.tables();
        let durability = if self.size.brokers > 1 { "replicated" } else { "fsync" };
        let text = format!(
            "[log]
engine = \"kafka\"
brokers = \"{}\"
prefix = \"{name}\"
durability = \"{durability}\"
{of_log}
\
             [tables]
engine = \"postgres\"
url = \"{}\"
schema = \"{name}\"

{further}",
            self.brokers(),
            tables.url
        );
        std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path.to_owned())
    }

    /// Each server that runs: its name, its process, and where it is.
    pub fn running(&self) -> Vec<(String, u32, String)> {
        let mut running: Vec<_> = self
            .kafka
            .running()
            .into_iter()
            .map(|(id, pid, port)| (format!("broker-{id}"), pid, format!("Kafka 127.0.0.1:{port}")))
            .collect();
        if let Some(pid) = self.postgres.pid() {
            let place = format!("127.0.0.1:{}", self.postgres.port());
            running.push(("postgresql".to_owned(), pid, place));
        }
        running
    }

    /// Looks whether all run; starts again what ended some seconds ago. Says what it saw.
    pub(super) fn look(&mut self, say: &dyn Fn(&str)) {
        let brokers = (1..=self.size.brokers).map(|id| format!("broker-{id}"));
        let names: Vec<String> = brokers.chain(["postgresql".to_owned()]).collect();
        let running = self.running();
        for (at, name) in names.iter().enumerate() {
            if running.iter().any(|(one, ..)| one == name) {
                continue;
            }
            let Some((_, since)) = self.ended.iter().find(|(one, _)| one == name) else {
                say(&format!("{name} ended"));
                self.ended.push((name.clone(), Instant::now()));
                continue;
            };
            if since.elapsed() < AGAIN_AFTER {
                continue;
            }
            let again =
                if name == "postgresql" { self.postgres.restart() } else { self.kafka.restart(at + 1) };
            self.ended.retain(|(one, _)| one != name);
            match again {
                Ok(()) => {
                    let pid =
                        self.running().into_iter().find(|(one, ..)| one == name).map_or(0, |(_, pid, _)| pid);
                    say(&format!("{name} runs again, pid {pid}"));
                }
                Err(fault) => say(&format!("{name} does not start again: {fault}")),
            }
        }
    }
}
