//! A real Kafka: one broker or several (`KRaft`, each broker its own controller).

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::process::Process;
use crate::{free_port, installed, run, tail};

/// Seconds until a broker must be ready: a busy machine and an election included.
const READY_S_MAX: u64 = 120;
/// How often ports are chosen, where somebody else was first.
const TRIES_MAX: usize = 3;

/// Where `scripts/install-tools` puts it.
const PLACE: &str = "kafka-4.3.1";

/// The id of every cluster here: 16 bytes as unpadded base64. Nothing tells clusters apart by it.
const CLUSTER: &str = "aGlsdW0tdGVzdC1jbHVzdA";

/// What a cluster is to be.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Brokers.
    pub brokers: usize,
    /// Largest heap of each, in MB.
    pub heap_mb: u32,
    /// Settings (`message.max.bytes=…`) beyond the usual ones.
    pub settings: &'a [&'a str],
    /// A second door, by TLS and SASL.
    pub secured: Option<&'a SecuredDoor<'a>>,
}

impl Default for Shape<'_> {
    fn default() -> Self {
        Self { brokers: 1, heap_mb: 400, settings: &[], secured: None }
    }
}

/// What every broker needs for a door by TLS and SASL.
pub struct SecuredDoor<'a> {
    /// Settings of the broker whose folder is given.
    pub settings: &'a dyn Fn(&Path) -> io::Result<String>,
    /// What `StorageTool format` is told of users.
    pub formatted: Vec<String>,
    /// Flags of its JVM.
    pub flags: Vec<String>,
}

impl std::fmt::Debug for SecuredDoor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecuredDoor").finish_non_exhaustive()
    }
}

/// A running cluster. Killed, and its folder removed, when it goes out of scope.
#[derive(Debug)]
pub struct Kafka {
    dir: PathBuf,
    brokers: Vec<Broker>,
}

#[derive(Debug)]
struct Broker {
    id: usize,
    port: u16,
    /// Where clients come by TLS and SASL.
    secured_port: Option<u16>,
    java: Java,
    dir: PathBuf,
    running: Mutex<Option<Process>>,
}

/// How the JVM of a broker is started.
#[derive(Debug, Clone)]
struct Java {
    /// Where the broker's classes are.
    lib: PathBuf,
    heap_mb: u32,
    flags: Vec<String>,
}

/// Free ports of one broker.
struct Ports {
    plain: u16,
    controller: u16,
    secured: Option<u16>,
}

impl Kafka {
    /// A cluster in the folder `dir`, which is made, of the Kafka that is installed below `cache`. Returns when every
    /// broker answers.
    ///
    /// # Errors
    /// When Kafka is not installed (with the way out) or does not start (with the end of its log).
    pub fn start(cache: &Path, dir: &Path, shape: &Shape<'_>) -> io::Result<Self> {
        let mut tries = 1;
        loop {
            match Self::attempt(cache, dir, shape) {
                // Some seconds lie between the choice of a port and the broker that listens there.
                Err(why) if why.to_string().contains("Address already in use") && tries < TRIES_MAX => {
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    fn attempt(cache: &Path, dir: &Path, shape: &Shape<'_>) -> io::Result<Self> {
        let java = Java {
            lib: installed(cache, PLACE)?.join("lib"),
            heap_mb: shape.heap_mb,
            flags: shape.secured.map(|door| door.flags.clone()).unwrap_or_default(),
        };
        fs::create_dir_all(dir)?;
        let mut ports = Vec::new();
        for _ in 0..shape.brokers {
            ports.push(Ports {
                plain: free_port()?,
                controller: free_port()?,
                secured: shape.secured.map(|_| free_port()).transpose()?,
            });
        }
        let voters: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(n, ports)| format!("{}@127.0.0.1:{}", n + 1, ports.controller))
            .collect();
        let mut cluster = Self { dir: dir.to_owned(), brokers: Vec::new() };
        for (n, ports) in ports.into_iter().enumerate() {
            let id = n + 1;
            let home = dir.join(format!("broker-{id}"));
            fs::create_dir_all(&home)?;
            let mut text = properties(id, &ports, &voters, &home, shape.settings);
            let mut format = java.command(&home);
            format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "--ignore-formatted", "-c"]);
            format.arg(home.join("server.properties"));
            if let Some(door) = shape.secured {
                text.push_str(&(door.settings)(&home)?);
                format.args(&door.formatted);
            }
            fs::write(home.join("server.properties"), text)?;
            fs::write(home.join("log4j2.properties"), LOGGING)?;
            run(&mut format)?;
            cluster.brokers.push(Broker {
                id,
                port: ports.plain,
                secured_port: ports.secured,
                java: java.clone(),
                dir: home,
                running: Mutex::default(),
            });
        }
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

    /// `bootstrap.servers` for who comes by TLS and SASL; `None` where there is no such door.
    pub fn secured_brokers(&self) -> Option<String> {
        let addresses: Option<Vec<String>> =
            self.brokers.iter().map(|broker| Some(format!("127.0.0.1:{}", broker.secured_port?))).collect();
        Some(addresses?.join(","))
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Each broker that runs: its id (from 1), its process, its port.
    pub fn running(&self) -> Vec<(usize, u32, u16)> {
        let runs = |broker: &Broker| {
            let running = broker.running();
            let process = running.as_ref().filter(|process| process.runs())?;
            Some((broker.id, process.pid(), broker.port))
        };
        self.brokers.iter().filter_map(runs).collect()
    }

    /// Runs one of Kafka's own tools as the administrator: its class, and what comes behind `--bootstrap-server …`.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> io::Result<String> {
        let broker = self.broker(1)?;
        let mut java = broker.java.command(&broker.dir);
        let said = java.args([class, "--bootstrap-server", &self.brokers()]).args(arguments).output()?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        if said.status.success() {
            return Ok(text);
        }
        let why = String::from_utf8_lossy(&said.stderr);
        Err(io::Error::other(format!("{class} {arguments:?}: {text}{why}")))
    }

    /// Kills broker `id` (from 1) with SIGKILL, and waits until its port is closed: the old socket answers for some
    /// milliseconds more.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&self, id: usize) -> io::Result<()> {
        let broker = self.broker(id)?;
        broker.running().take().ok_or_else(|| not_running(id))?.kill();
        while TcpStream::connect(("127.0.0.1", broker.port)).is_ok() {
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Stops broker `id` in its tracks (SIGSTOP): it holds its sockets and answers nothing.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pause(&self, id: usize) -> io::Result<()> {
        self.broker(id)?.signal("-STOP")
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it is not running.
    pub fn resume(&self, id: usize) -> io::Result<()> {
        self.broker(id)?.signal("-CONT")
    }

    /// Starts broker `id` again after its end, on the same folder and port.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&self, id: usize) -> io::Result<()> {
        let broker = self.broker(id)?;
        broker.boot()?;
        broker.wait_ready()
    }

    fn broker(&self, id: usize) -> io::Result<&Broker> {
        self.brokers.iter().find(|broker| broker.id == id).ok_or_else(|| not_running(id))
    }
}

fn not_running(id: usize) -> io::Error {
    io::Error::other(format!("broker {id} does not run"))
}

impl Broker {
    fn running(&self) -> MutexGuard<'_, Option<Process>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        self.running().as_ref().ok_or_else(|| not_running(self.id))?.signal(signal)
    }

    fn boot(&self) -> io::Result<()> {
        let log = self.dir.join("server.log");
        // Of this boot only: readiness is a line of it.
        fs::write(&log, "")?;
        let mut java = self.java.command(&self.dir);
        java.arg("kafka.Kafka").arg(self.dir.join("server.properties"));
        *self.running() = Some(Process::start(&java, &self.dir, &log)?);
        Ok(())
    }

    fn wait_ready(&self) -> io::Result<()> {
        let until = Instant::now() + Duration::from_secs(READY_S_MAX);
        loop {
            let log = fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
            if log.contains("Kafka Server started") && TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            let runs = self.running().as_ref().is_some_and(Process::runs);
            if Instant::now() > until || !runs {
                let log = tail(&log);
                return Err(io::Error::other(format!("broker {} does not start:\n{log}", self.id)));
            }
            sleep(Duration::from_millis(50));
        }
    }
}

impl Java {
    /// `java` with the broker's classes.
    fn command(&self, home: &Path) -> Command {
        let mut java = Command::new("java");
        java.arg("-Xms96m").arg(format!("-Xmx{}m", self.heap_mb));
        java.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        java.args(&self.flags);
        java.arg(format!("-Dlog4j2.configurationFile={}", home.join("log4j2.properties").display()));
        java.arg("-cp").arg(format!("{}/*", self.lib.display()));
        java
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
