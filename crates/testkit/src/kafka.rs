//! A real Kafka for tests: one broker or several (`KRaft`, each broker its own controller), in a folder of its own on
//! free ports of 127.0.0.1; gone when the test's process is gone, however it ended.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::postgres::{free_port, run};

/// Seconds until a broker must be ready: a busy machine and an election included.
const READY_S_MAX: u64 = 120;

/// The folder of `scripts/install-tools`, below the cache folder.
const PLACE: &str = "hilum/tools/kafka-4.3.1";

/// The id of every cluster here: 16 bytes as unpadded base64. Nothing tells clusters apart by it.
const CLUSTER: &str = "aGlsdW0tdGVzdC1jbHVzdA";

/// Runs one broker and waits for the end of its own standard input (our process's end closes it, even a kill), then
/// kills the broker: what it has acknowledged, it has.
const WATCHER: &str = r#"trap '' INT
log=$1; shift
"$@" >>"$log" 2>&1 </dev/null &
pid=$!
echo "$pid"
read -r word || word=gone
kill -9 "$pid" 2>/dev/null
wait
[ "$word" = gone ] && rm -rf "$(dirname "$log")"
exit 0"#;

/// A running cluster.
#[derive(Debug)]
pub struct Kafka {
    dir: PathBuf,
    brokers: Vec<Broker>,
}

#[derive(Debug)]
struct Broker {
    id: usize,
    port: u16,
    dir: PathBuf,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    watcher: Child,
    pid: String,
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
        match Self::try_start(brokers, settings) {
            Ok(cluster) => cluster,
            Err(error) => panic!("kafka for tests: {error}"),
        }
    }

    fn try_start(count: usize, settings: &[&str]) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("hilum-kafka-").tempdir()?.keep();
        let mut ports = Vec::new();
        for _ in 0..count {
            ports.push((free_port()?, free_port()?));
        }
        let voters: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(n, (_, controller))| format!("{}@127.0.0.1:{controller}", n + 1))
            .collect();
        let mut brokers = Vec::new();
        for (n, (port, controller)) in ports.into_iter().enumerate() {
            let id = n + 1;
            let home = dir.join(format!("broker-{id}"));
            fs::create_dir_all(&home)?;
            let place = (port, controller);
            fs::write(home.join("server.properties"), properties(id, place, &voters, &home, settings))?;
            fs::write(home.join("log4j2.properties"), LOGGING)?;
            let mut format = java(&home)?;
            format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "--ignore-formatted", "-c"]);
            run(format.arg(home.join("server.properties")))?;
            brokers.push(Broker { id, port, dir: home, running: Mutex::default() });
        }
        let cluster = Self { dir, brokers };
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
        stop(&mut running.watcher, "kill");
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
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: &str) {
        let running = self.running();
        let pid = &running.as_ref().expect("a running broker").pid;
        run(Command::new("kill").args([signal, pid])).expect("signalled");
    }

    fn boot(&self) -> io::Result<()> {
        let log = self.dir.join("server.log");
        // Of this boot only: readiness is a line of it.
        fs::write(&log, "")?;
        let java = java(&self.dir)?;
        let mut watcher = Command::new("sh")
            .args(["-c", WATCHER, "watcher"])
            .arg(&log)
            .arg(java.get_program())
            .args(java.get_args())
            .arg("kafka.Kafka")
            .arg(self.dir.join("server.properties"))
            .current_dir(&self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut pid = String::new();
        if let Some(stdout) = watcher.stdout.as_mut() {
            io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut pid)?;
        }
        *self.running() = Some(Running { watcher, pid: pid.trim().to_owned() });
        Ok(())
    }

    fn wait_ready(&self) -> io::Result<()> {
        let until = Instant::now() + Duration::from_secs(READY_S_MAX);
        let pid = self.running().as_ref().map(|running| running.pid.clone()).unwrap_or_default();
        loop {
            let log = fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
            if log.contains("Kafka Server started") && TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            if Instant::now() > until || !Path::new(&format!("/proc/{pid}")).exists() {
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
                stop(&mut running.watcher, "kill");
            }
        }
        // What is left is in the folder of temporary files.
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// Tells a watcher to kill its broker, and waits for both.
fn stop(watcher: &mut Child, word: &str) {
    if let Some(mut stdin) = watcher.stdin.take() {
        // A watcher that is gone needs no word.
        drop(stdin.write_all(format!("{word}\n").as_bytes()));
    }
    drop(watcher.wait());
}

const LOGGING: &str = "\
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=OUT
appender.out.type=Console
appender.out.name=OUT
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %m (%c)%n
";

fn properties(
    id: usize,
    (port, controller): (u16, u16),
    voters: &[String],
    home: &Path,
    settings: &[&str],
) -> String {
    let count = voters.len();
    let (copies, in_sync) = if count >= 3 { (3, 2) } else { (1, 1) };
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={voters}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
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

/// `java` with the broker's classes.
#[allow(clippy::disallowed_methods)] // the same folder as the script that installs it
fn java(home: &Path) -> io::Result<Command> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_default();
    let place = cache.join(PLACE);
    if !place.join("whole").exists() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("not installed: no {}; run scripts/install-tools (make tools)", place.display()),
        ));
    }
    let mut java = Command::new("java");
    java.args(["-Xms96m", "-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    java.arg(format!("-Dlog4j2.configurationFile={}", home.join("log4j2.properties").display()));
    java.arg("-cp").arg(format!("{}/*", place.join("lib").display()));
    Ok(java)
}
