//! One `hilum serve` as a process of ours.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hilum_launch::Process;

/// How long it may take until its doors accept.
const READY_PATIENCE: Duration = Duration::from_mins(2);
/// How long one that ended stays so: long enough to be seen.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long it may finish what it accepted.
const DRAIN: Duration = Duration::from_secs(8);

/// Where it listens.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
pub struct Doors {
    /// HTTP.
    pub http: SocketAddr,
    /// MLLP, of a gateway.
    pub mllp: Option<SocketAddr>,
}

/// A process of the house.
#[derive(Debug)]
pub struct Part {
    /// `gateway-1`.
    pub name: String,
    place: PathBuf,
    arguments: Vec<String>,
    state: State,
    process: Process,
}

#[derive(Debug)]
enum State {
    Starting,
    Open(Doors),
    Ended(Instant),
}

impl Part {
    /// Starts the process `name` in `place`/`name`, with the secrets of its installation. Its doors accept later.
    ///
    /// # Errors
    /// When its folder cannot be made or no process can be started.
    pub fn start(
        place: &Path,
        name: &str,
        secrets: &Path,
        config: &Path,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let place = place.join(name);
        let own = place.join("data/secrets");
        let make = || {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&own)?;
            for secret in std::fs::read_dir(secrets)? {
                let secret = secret?;
                std::fs::copy(secret.path(), own.join(secret.file_name()))?;
            }
            std::io::Result::Ok(())
        };
        make().with_context(|| format!("{} cannot be made", own.display()))?;
        let mut all: Vec<String> =
            ["serve", "--http", "127.0.0.1:0", "--mllp", "127.0.0.1:0"].map(str::to_owned).into();
        for (option, path) in [
            ("--data", place.join("data")),
            ("--config", config.to_owned()),
            ("--ready-file", place.join("ready")),
        ] {
            all.extend([option.to_owned(), path.display().to_string()]);
        }
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let process = launch(&place, &all)?;
        Ok(Self { name: name.to_owned(), place, arguments: all, state: State::Starting, process })
    }

    /// Waits until its doors accept.
    ///
    /// # Errors
    /// When it ended or they do not; what it said is named.
    pub fn wait_open(&mut self) -> anyhow::Result<Doors> {
        let until = Instant::now() + READY_PATIENCE;
        loop {
            self.look(&|_| {});
            match self.state {
                State::Open(doors) => return Ok(doors),
                State::Starting if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
                State::Starting | State::Ended(_) => {
                    let said = std::fs::read_to_string(self.place.join("said")).unwrap_or_default();
                    let last: Vec<&str> = said.lines().rev().take(5).collect();
                    let last: Vec<&str> = last.into_iter().rev().collect();
                    bail!("{} does not open its doors:\n{}", self.name, last.join("\n"));
                }
            }
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it listens, when it does.
    pub fn doors(&self) -> Option<Doors> {
        match self.state {
            State::Open(doors) => Some(doors),
            State::Starting | State::Ended(_) => None,
        }
    }

    /// Looks how it does; starts it again when it ended some seconds ago. Says what it saw.
    pub(super) fn look(&mut self, say: &dyn Fn(&str)) {
        let runs = self.process.runs();
        match self.state {
            State::Starting | State::Open(_) if !runs => {
                self.state = State::Ended(Instant::now());
                say(&format!("{} ended", self.name));
            }
            State::Starting => {
                let text = std::fs::read_to_string(self.place.join("ready")).unwrap_or_default();
                if let Ok(doors) = serde_json::from_str(&text) {
                    self.state = State::Open(doors);
                    say(&format!("{} runs, pid {}", self.name, self.pid()));
                }
            }
            State::Ended(since) if since.elapsed() >= AGAIN_AFTER => {
                match launch(&self.place, &self.arguments) {
                    Ok(process) => {
                        self.process = process;
                        self.state = State::Starting;
                    }
                    Err(fault) => {
                        self.state = State::Ended(Instant::now());
                        say(&format!("{} does not start again: {fault:#}", self.name));
                    }
                }
            }
            State::Open(_) | State::Ended(_) => {}
        }
    }

    /// Asks it to end.
    pub(super) fn ask_to_stop(&self) {
        // One that is gone has ended.
        self.process.signal("-TERM").unwrap_or_else(|fault| tracing::debug!(%fault, "gone already"));
    }

    /// Ends it in good order, as a service manager would.
    pub fn stop(mut self) {
        self.process.stop(DRAIN);
    }
}

fn launch(place: &Path, arguments: &[String]) -> anyhow::Result<Process> {
    let ready = place.join("ready");
    if ready.exists() {
        std::fs::remove_file(&ready).with_context(|| format!("{} cannot be removed", ready.display()))?;
    }
    let program = std::env::current_exe().context("this program's own path")?;
    let mut command = Command::new(program);
    // What configures us is not what configures it.
    for (name, _) in crate::machine::environment() {
        if name.starts_with("HILUM_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    Process::start(&command, place, &place.join("said")).context("a process of ours")
}
