//! Clients that ask as fast as they are answered, each over one connection that stays open.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// One connection.
pub struct Connection {
    stream: TcpStream,
    /// What stands in every request behind its path.
    rest: String,
    buffer: Vec<u8>,
}

impl Connection {
    /// To the server at `address`, with a key.
    pub fn open(address: SocketAddr, key: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).context("the server under test")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        let rest = format!(" HTTP/1.1\r\nHost: {address}\r\nX-API-Key: {key}\r\n\r\n");
        Ok(Self { stream, rest, buffer: Vec::new() })
    }

    /// The body at `path`.
    ///
    /// # Errors
    /// Another status than 200; no answer.
    pub fn get(&mut self, path: &str) -> Result<&[u8]> {
        self.stream.write_all(format!("GET {path}{}", self.rest).as_bytes())?;
        self.buffer.clear();
        let mut chunk = [0; 16 << 10];
        let head = loop {
            let read = self.stream.read(&mut chunk)?;
            if read == 0 {
                bail!("the server hung up");
            }
            self.buffer.extend_from_slice(chunk.get(..read).unwrap_or_default());
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
        };
        let (is_good, length) = head_of(self.buffer.get(..head).unwrap_or_default())?;
        while self.buffer.len() < head + length {
            let read = self.stream.read(&mut chunk)?;
            if read == 0 {
                bail!("the server hung up");
            }
            self.buffer.extend_from_slice(chunk.get(..read).unwrap_or_default());
        }
        let body = self.buffer.get(head..).unwrap_or_default();
        if !is_good {
            let kind = path.split(['?', '/']).nth(2).unwrap_or_default();
            bail!("GET /fhir/{kind}…: {}", String::from_utf8_lossy(body));
        }
        Ok(body)
    }
}

/// Whether the status is 200, and how long the body is.
fn head_of(head: &[u8]) -> Result<(bool, usize)> {
    let head = std::str::from_utf8(head)?;
    let mut lines = head.lines();
    let is_good = lines.next().is_some_and(|first| first.starts_with("HTTP/1.1 200"));
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok());
    Ok((is_good, length.context("an answer without Content-Length")?))
}

/// What clients saw.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// Answers.
    pub answers: usize,
    /// Answers a second.
    pub per_s: f64,
    /// Answers per CPU-second of the server; for PostgreSQL its own CPU too.
    pub per_cpu_s: f64,
    /// Median, ms.
    pub p50_ms: f64,
    /// The slowest hundredth, ms.
    pub p99_ms: f64,
    /// Bytes of an answer's body.
    pub bytes: f64,
}

/// Whom clients ask, and how its CPU is read.
pub struct Target<'a> {
    /// Where it is.
    pub address: SocketAddr,
    /// A key of it.
    pub key: &'a str,
    /// Its CPU seconds so far.
    pub cpu_s: &'a (dyn Fn() -> Result<f64> + Sync),
}

/// Asks the paths one after the other, again from the first when they are at their end, by `clients` for `span`.
///
/// # Errors
/// An answer that is no 200.
pub fn load(target: &Target<'_>, paths: &[String], clients: usize, span: Duration) -> Result<Load> {
    if paths.is_empty() {
        bail!("there is nothing to ask for: the population is too small");
    }
    // What is new is planned, cached and connected before it is measured.
    drive(target, paths, clients, span / 5)?;
    let (before, begun) = ((target.cpu_s)()?, Instant::now());
    let (mut took_ms, bytes) = drive(target, paths, clients, span)?;
    let (seconds, cpu_s) = (begun.elapsed().as_secs_f64(), (target.cpu_s)()? - before);
    took_ms.sort_by(f64::total_cmp);
    let at = |q: f64| took_ms.get(((took_ms.len() as f64 * q) as usize).min(took_ms.len().saturating_sub(1)));
    let answers = took_ms.len();
    Ok(Load {
        answers,
        per_s: answers as f64 / seconds,
        per_cpu_s: answers as f64 / cpu_s.max(0.01),
        p50_ms: at(0.5).copied().unwrap_or(f64::NAN),
        p99_ms: at(0.99).copied().unwrap_or(f64::NAN),
        bytes: bytes as f64 / answers.max(1) as f64,
    })
}

fn drive(target: &Target<'_>, paths: &[String], clients: usize, span: Duration) -> Result<(Vec<f64>, usize)> {
    let next = AtomicUsize::new(0);
    let until = Instant::now() + span;
    let one = || -> Result<(Vec<f64>, usize)> {
        let mut connection = Connection::open(target.address, target.key)?;
        let (mut took_ms, mut bytes) = (Vec::new(), 0);
        while Instant::now() < until {
            let n = next.fetch_add(1, Ordering::Relaxed) % paths.len();
            let Some(path) = paths.get(n) else { break };
            let asked = Instant::now();
            bytes += connection.get(path)?.len();
            took_ms.push(asked.elapsed().as_secs_f64() * 1_000.0);
        }
        Ok((took_ms, bytes))
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(one)).collect();
        let (mut all, mut bytes) = (Vec::new(), 0);
        for client in clients {
            let Ok(done) = client.join() else { bail!("a client's thread ended") };
            let (took_ms, read) = done?;
            all.extend(took_ms);
            bytes += read;
        }
        Ok((all, bytes))
    })
}
