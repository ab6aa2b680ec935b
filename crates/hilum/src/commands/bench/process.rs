//! The server under test: its own process, started from this same binary, watched from outside.

use std::ffi::OsStr;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// A running `hilum serve`.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where its HTTP door is.
    pub http: SocketAddr,
    /// Where its MLLP door is.
    pub mllp: SocketAddr,
    /// A key of role viewer.
    pub key: String,
    /// Its data folder.
    pub data: PathBuf,
}

#[derive(serde::Deserialize)]
struct Ready {
    http: SocketAddr,
    mllp: SocketAddr,
}

impl Server {
    /// Starts `hilum serve` on free ports over the folder `data`.
    ///
    /// # Errors
    /// It did not become ready within a minute; its own words are in `serve.log` there.
    pub fn start(data: &Path) -> Result<Self> {
        Self::start_with(data, None)
    }

    /// The same with a configuration.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_with(data: &Path, config: Option<&Path>) -> Result<Self> {
        let program = std::env::current_exe().context("this program's own path")?;
        std::fs::create_dir_all(data).with_context(|| format!("cannot make {}", data.display()))?;
        let ready_file = data.join("ready.json");
        let log = std::fs::File::create(data.join("serve.log")).context("serve.log")?;
        let child = Command::new(&program)
            .args(["serve", "--http", "127.0.0.1:0", "--mllp", "127.0.0.1:0", "--data"])
            .arg(data.join("data"))
            .arg("--ready-file")
            .arg(&ready_file)
            .args(config.iter().flat_map(|config| [OsStr::new("--config"), config.as_os_str()]))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("serve.log")?)
            .stderr(log)
            .spawn()
            .context("cannot start the server")?;
        let mut server = Self {
            child,
            http: ([127, 0, 0, 1], 0).into(),
            mllp: ([127, 0, 0, 1], 0).into(),
            key: String::new(),
            data: data.to_owned(),
        };
        let ready = server.wait_ready(&ready_file)?;
        (server.http, server.mllp) = (ready.http, ready.mllp);
        let out = Command::new(&program)
            .args(["keys", "add", "bench", "--role", "viewer", "--data"])
            .arg(data.join("data"))
            .args(config.iter().flat_map(|config| [OsStr::new("--config"), config.as_os_str()]))
            .output()
            .context("hilum keys add")?;
        if !out.status.success() {
            bail!("hilum keys add: {}", String::from_utf8_lossy(&out.stderr));
        }
        let text = String::from_utf8_lossy(&out.stdout);
        text.lines().last().unwrap_or_default().clone_into(&mut server.key);
        Ok(server)
    }

    fn wait_ready(&mut self, ready_file: &Path) -> Result<Ready> {
        let until = Instant::now() + Duration::from_mins(1);
        while Instant::now() < until {
            if let Ok(text) = std::fs::read_to_string(ready_file)
                && let Ok(ready) = serde_json::from_str(&text)
            {
                return Ok(ready);
            }
            if let Some(status) = self.child.try_wait().context("the server")? {
                bail!("the server ended ({status}): see {}", self.data.join("serve.log").display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the server was not ready within 60 s: see {}", self.data.join("serve.log").display())
    }

    /// Its CPU seconds so far, user and system.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn cpu_s(&self) -> Result<f64> {
        cpu_s(&self.child.id().to_string())
    }

    /// Its resident memory in MB: now and at its highest.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn memory_mb(&self) -> Result<(f64, f64)> {
        memory_mb(self.child.id())
    }

    /// Ends it as a service manager would, and waits.
    ///
    /// # Errors
    /// It did not end within 30 s and was killed.
    pub fn stop(mut self) -> Result<()> {
        let asked =
            Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().context("kill")?;
        if !asked.success() {
            bail!("the server is gone already");
        }
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            if self.child.try_wait().context("the server")?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the server did not end within 30 s of SIGTERM")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            if let Err(fault) = self.child.kill() {
                tracing::warn!(%fault, "the server under test could not be killed");
            }
            if let Err(fault) = self.child.wait() {
                tracing::warn!(%fault, "the server under test was not reaped");
            }
        }
    }
}

/// The resident memory of a process in MB: now and at its highest.
///
/// # Errors
/// `/proc` cannot be read.
pub fn memory_mb(pid: u32) -> Result<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("/proc/PID/status")?;
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kb| kb / 1024.0)
    };
    Ok((of("VmRSS:").context("VmRSS")?, of("VmHWM:").context("VmHWM")?))
}

/// CPU seconds of this process so far, user and system.
///
/// # Errors
/// `/proc` cannot be read.
pub fn own_cpu_s() -> Result<f64> {
    cpu_s("self")
}

/// CPU seconds of another process so far, user and system.
///
/// # Errors
/// `/proc` cannot be read.
pub fn cpu_of(pid: u32) -> Result<f64> {
    cpu_s(&pid.to_string())
}

/// CPU seconds of the children that this process has waited for, user and system.
///
/// # Errors
/// `/proc` cannot be read.
pub fn ended_children_cpu_s() -> Result<f64> {
    ticks_s("self", 13)
}

fn cpu_s(process: &str) -> Result<f64> {
    ticks_s(process, 11)
}

/// The sum of two fields of `/proc/PID/stat`, counted behind the name.
fn ticks_s(process: &str, first: usize) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).context("/proc/PID/stat")?;
    let (_, rest) = stat.rsplit_once(") ").context("/proc/PID/stat has another form")?;
    let ticks: f64 = rest.split(' ').skip(first).take(2).filter_map(|word| word.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0) // USER_HZ is 100 on every Linux that reports through /proc.
}

/// What the machine is, for the head of a report.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut memory = String::new();
    if let Ok(mut file) = std::fs::File::open("/proc/meminfo") {
        let mut text = String::new();
        if file.read_to_string(&mut text).is_ok()
            && let Some(kb) = text.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok())
        {
            memory = format!(", {} GiB", (kb + (1 << 19)) >> 20);
        }
    }
    format!("{cores} cores{memory}")
}
