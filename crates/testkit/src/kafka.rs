//! A real Kafka for tests: one broker or several (`KRaft`, each broker its own controller), in a folder of its own on
//! free ports of 127.0.0.1; gone when the test's process is gone, however it ended.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::postgres::{free_port, run};
use crate::process::{Server, installed};
use crate::tls::Authority;

mod secured;

pub use secured::{Issuer, Secured};

/// Seconds until a broker must be ready: a busy machine and an election included.
const READY_S_MAX: u64 = 120;

/// The folder of `scripts/install-tools`, below the cache folder.
const PLACE: &str = "hilum/tools/kafka-4.3.1";

/// The id of every cluster here: 16 bytes as unpadded base64. Nothing tells clusters apart by it.
const CLUSTER: &str = "aGlsdW0tdGVzdC1jbHVzdA";

/// A running cluster.
#[derive(Debug)]
pub struct Kafka {
    dir: PathBuf,
    brokers: Vec<Broker>,
    authority: Option<Authority>,
}

#[derive(Debug)]
struct Broker {
    id: usize,
    port: u16,
    /// Where clients come by TLS and SASL.
    secured_port: Option<u16>,
    /// Of its JVM.
    flags: Vec<String>,
    dir: PathBuf,
    running: Mutex<Option<Server>>,
}

/// Free ports of one broker.
struct Ports {
    plain: u16,
    controller: u16,
    secured: Option<u16>,
}

static SHARED: Mutex<Option<&'static Kafka>> = Mutex::new(None);
static PREFIXES: AtomicU32 = AtomicU32::new(0);

impl Kafka {
    /// The one broker that all tests of this process share; the first caller starts it.
    ///
    /// # Panics
    /// As [`Kafka::start`].
    pub fn shared() -> &'static Self {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        // Never dropped: its watcher stops it when this process ends.
        shared.get_or_insert_with(|| Box::leak(Box::new(Self::start(1, &[]))))
    }

    /// A cluster of the caller's own, with broker settings (`message.max.bytes=…`) beyond the usual ones.
    ///
    /// # Panics
    /// When Kafka is not installed (the message names the command) or does not start (with its log).
    pub fn start(brokers: usize, settings: &[&str]) -> Self {
        match Self::try_start(brokers, settings, None) {
            Ok(cluster) => cluster,
            Err(error) => panic!("kafka for tests: {error}"),
        }
    }

    /// A broker of the caller's own that lets clients in by TLS and SASL, and asks whether they may.
    ///
    /// # Panics
    /// As [`Kafka::start`].
    pub fn secured(secured: &Secured<'_>) -> Self {
        match Self::try_start(1, &[], Some(secured)) {
            Ok(cluster) => cluster,
            Err(error) => panic!("kafka for tests: {error}"),
        }
    }

    fn try_start(count: usize, settings: &[&str], secured: Option<&Secured<'_>>) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("hilum-kafka-").tempdir()?.keep();
        let authority = secured.map(|_| Authority::new("brokers of a test")).transpose()?;
        if let Some(authority) = &authority {
            fs::write(dir.join("ca.pem"), authority.certificate())?;
        }
        let mut ports = Vec::new();
        for _ in 0..count {
            ports.push(Ports {
                plain: free_port()?,
                controller: free_port()?,
                secured: secured.map(|_| free_port()).transpose()?,
            });
        }
        let voters: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(n, ports)| format!("{}@127.0.0.1:{}", n + 1, ports.controller))
            .collect();
        let mut brokers = Vec::new();
        for (n, ports) in ports.into_iter().enumerate() {
            let id = n + 1;
            let home = dir.join(format!("broker-{id}"));
            fs::create_dir_all(&home)?;
            let mut text = properties(id, &ports, &voters, &home, settings);
            let mut format = java(&home, &[])?;
            format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "--ignore-formatted", "-c"]);
            format.arg(home.join("server.properties"));
            if let (Some(secured), Some(authority)) = (secured, &authority) {
                text.push_str(&secured.settings(&home, authority)?);
                format.args(secured.formatted());
            }
            fs::write(home.join("server.properties"), text)?;
            fs::write(home.join("log4j2.properties"), LOGGING)?;
            run(&mut format)?;
            brokers.push(Broker {
                id,
                port: ports.plain,
                secured_port: ports.secured,
                flags: secured.map(Secured::flags).unwrap_or_default(),
                dir: home,
                running: Mutex::default(),
            });
        }
        let cluster = Self { dir, brokers, authority };
        for broker in &cluster.brokers {
            broker.boot()?;
        }
        for broker in &cluster.brokers {
            broker.wait_ready()?;
        }
        Ok(cluster)
    }

    /// `bootstrap.servers` of the cluster.
    pub fn brokers(&self) -> String {
        let addresses: Vec<String> =
            self.brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.port)).collect();
        addresses.join(",")
    }

    /// `bootstrap.servers` for who comes by TLS and SASL.
    ///
    /// # Panics
    /// When the cluster is none of [`Kafka::secured`].
    pub fn secured_brokers(&self) -> String {
        let port = |broker: &Broker| broker.secured_port.expect("a secured cluster");
        let addresses: Vec<String> =
            self.brokers.iter().map(|broker| format!("127.0.0.1:{}", port(broker))).collect();
        addresses.join(",")
    }

    /// The file with the certificate of whoever signed the brokers' certificates.
    ///
    /// # Panics
    /// When the cluster is none of [`Kafka::secured`].
    pub fn ca_file(&self) -> PathBuf {
        assert!(self.authority.is_some(), "a secured cluster");
        self.dir.join("ca.pem")
    }

    /// Runs one of Kafka's own tools as the administrator: its class, and what comes behind `--bootstrap-server …`.
    ///
    /// # Panics
    /// When it fails, with what it said.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> String {
        let said = java(&self.brokers[0].dir, &[]).and_then(|mut java| {
            java.args([class, "--bootstrap-server", &self.brokers()]).args(arguments).output()
        });
        let said = said.expect("the tool runs");
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(
            said.status.success(),
            "{class} {arguments:?}: {text}{}",
            String::from_utf8_lossy(&said.stderr)
        );
        text
    }

    /// A prefix of topics that no other test of this cluster has.
    pub fn fresh_prefix(&self) -> String {
        format!("test{}", PREFIXES.fetch_add(1, Ordering::Relaxed))
    }

    /// Kills broker `id` (from 1) with SIGKILL, and waits until its port is closed: the old socket answers for some
    /// milliseconds more.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&self, id: usize) {
        let broker = &self.brokers[id - 1];
        let mut running = broker.running().take().expect("a running broker");
        running.kill();
        while TcpStream::connect(("127.0.0.1", broker.port)).is_ok() {
            sleep(Duration::from_millis(20));
        }
    }

    /// Stops broker `id` in its tracks (SIGSTOP): it holds its sockets and answers nothing.
    ///
    /// # Panics
    /// When it is not running.
    pub fn pause(&self, id: usize) {
        self.brokers[id - 1].signal("-STOP");
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it is not running.
    pub fn resume(&self, id: usize) {
        self.brokers[id - 1].signal("-CONT");
    }

    /// Starts broker `id` again after [`Kafka::kill`], on the same folder and port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&self, id: usize) {
        let broker = &self.brokers[id - 1];
        broker.boot().and_then(|()| broker.wait_ready()).expect("kafka starts again");
    }
}

impl Broker {
    fn running(&self) -> MutexGuard<'_, Option<Server>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: &str) {
        self.running().as_ref().expect("a running broker").signal(signal).expect("signalled");
    }

    fn boot(&self) -> io::Result<()> {
        let log = self.dir.join("server.log");
        // Of this boot only: readiness is a line of it.
        fs::write(&log, "")?;
        let mut java = java(&self.dir, &self.flags)?;
        java.arg("kafka.Kafka").arg(self.dir.join("server.properties"));
        *self.running() = Some(Server::start(&java, &self.dir, &log)?);
        Ok(())
    }

    fn wait_ready(&self) -> io::Result<()> {
        let until = Instant::now() + Duration::from_secs(READY_S_MAX);
        loop {
            let log = fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
            if log.contains("Kafka Server started") && TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            let runs = self.running().as_ref().is_some_and(Server::runs);
            if Instant::now() > until || !runs {
                return Err(io::Error::other(format!("broker {} does not start:\n{log}", self.id)));
            }
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        for broker in &self.brokers {
            if let Some(mut running) = broker.running().take() {
                running.kill();
            }
        }
        // What is left is in the folder of temporary files.
        drop(fs::remove_dir_all(&self.dir));
    }
}

const LOGGING: &str = "\
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=OUT
appender.out.type=Console
appender.out.name=OUT
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %m (%c)%n
";

fn properties(id: usize, ports: &Ports, voters: &[String], home: &Path, settings: &[&str]) -> String {
    let count = voters.len();
    let (copies, in_sync) = if count >= 3 { (3, 2) } else { (1, 1) };
    let mut listeners = format!("PLAINTEXT://127.0.0.1:{}", ports.plain);
    if let Some(port) = ports.secured {
        write!(listeners, ",SASL_SSL://127.0.0.1:{port}").expect("into a string");
    }
    let controller = ports.controller;
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={voters}\n\
         controller.listener.names=CONTROLLER\n\
         listeners={listeners},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners={listeners}\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL\n\
         log.dirs={dirs}\n\
         auto.create.topics.enable=false\n\
         default.replication.factor={copies}\n\
         min.insync.replicas={in_sync}\n\
         group.initial.rebalance.delay.ms=0\n\
         broker.heartbeat.interval.ms=500\n\
         broker.session.timeout.ms=3000\n\
         log.cleaner.enable=false\n\
         num.network.threads=2\n\
         num.io.threads=4\n",
        voters = voters.join(","),
        dirs = home.join("data").display(),
    );
    for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
        writeln!(text, "{topic}.replication.factor={copies}").expect("into a string");
    }
    for topic in ["transaction.state.log", "share.coordinator.state.topic"] {
        writeln!(text, "{topic}.min.isr={in_sync}").expect("into a string");
    }
    writeln!(text, "offsets.topic.num.partitions=4").expect("into a string");
    for setting in settings {
        writeln!(text, "{setting}").expect("into a string");
    }
    text
}

/// Writes into a partition within a transaction that is then aborted: offsets at which nobody finds a record.
///
/// # Panics
/// When the cluster does not do it.
pub fn leave_a_gap(brokers: &str, topic: &str, partition: u16) {
    let wait = Duration::from_secs(20);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("transactional.id", topic)
        .create()
        .expect("a producer");
    let end = || {
        let bounds = producer.client().fetch_watermarks(topic, i32::from(partition), wait);
        bounds.expect("the partition").1
    };
    let before = end();
    producer.init_transactions(wait).expect("transactions");
    producer.begin_transaction().expect("begins");
    let record: BaseRecord<'_, (), str> =
        BaseRecord::to(topic).partition(i32::from(partition)).payload("gone");
    producer.send(record).map_err(|(why, _)| why).expect("sends");
    producer.flush(wait).expect("is there");
    producer.abort_transaction(wait).expect("is not");
    // The record, and what says that it does not count: that is written a moment after the answer.
    let begun = Instant::now();
    while end() < before + 2 {
        assert!(begun.elapsed() < wait, "the transaction leaves its marker");
        sleep(Duration::from_millis(20));
    }
}

/// `java` with the broker's classes, and `flags` for it.
fn java(home: &Path, flags: &[String]) -> io::Result<Command> {
    let place = installed(PLACE)?;
    let mut java = Command::new("java");
    java.args(["-Xms96m", "-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    java.args(flags);
    java.arg(format!("-Dlog4j2.configurationFile={}", home.join("log4j2.properties").display()));
    java.arg("-cp").arg(format!("{}/*", place.join("lib").display()));
    Ok(java)
}
