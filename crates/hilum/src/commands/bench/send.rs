//! `hilum bench send`: a sender in its own process. Each connection is one thread that keeps a window of messages
//! outstanding, so that the sender costs as little of the two cores as it can.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::Feed;

/// Sends the feed.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hilum bench send --to 127.0.0.1:2575 --messages 1000 --connections 4 --window 8"
)]
pub struct Send {
    #[command(flatten)]
    feed: Feed,
    /// The MLLP address
    #[arg(long, value_name = "ADDR")]
    to: SocketAddr,
    /// Connections
    #[arg(long, default_value_t = 16, value_parser = super::at_least_one)]
    connections: usize,
    /// Messages outstanding on a connection
    #[arg(long, default_value_t = 32, value_parser = super::at_least_one)]
    window: usize,
    /// Messages a second over all connections; absent = as fast as they are acknowledged
    #[arg(long)]
    rate: Option<f64>,
    /// Connections that are open and say nothing meanwhile
    #[arg(long, default_value_t = 0)]
    idle: usize,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sent {
    /// Messages sent.
    pub messages: usize,
    /// Answers AA or CA.
    pub acknowledged: usize,
    /// Other answers.
    pub refused: usize,
    /// Seconds from the first byte to the last acknowledgment.
    pub seconds: f64,
    /// Time from send to acknowledgment, median, ms.
    pub p50_ms: f64,
    /// The same, 99th percentile.
    pub p99_ms: f64,
    /// Idle connections that were still open at the end.
    pub idle_open: usize,
    /// The sender's own CPU seconds.
    pub sender_cpu_s: f64,
}

/// Runs the command: prints one line of JSON.
///
/// # Errors
/// The server cannot be reached or closes a connection.
pub fn run(send: &Send) -> Result<()> {
    let messages = send.feed.make();
    // The feed is made: from here on the clock counts.
    let idle = (0..send.idle)
        .map(|_| TcpStream::connect(send.to))
        .collect::<Result<Vec<_>, _>>()
        .context("idle connections")?;
    let begun = Instant::now();
    let connections = send.connections.max(1);
    let parts: Vec<Result<Part>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..connections)
            .map(|n| {
                let mine: Vec<&[u8]> =
                    messages.iter().skip(n).step_by(connections).map(Vec::as_slice).collect();
                let pace = send.rate.map(|rate| Duration::from_secs_f64(connections as f64 / rate));
                scope.spawn(move || one_connection(send.to, &mine, send.window.max(1), pace))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| bail!("a sender thread ended")))
            .collect()
    });
    let seconds = begun.elapsed().as_secs_f64();
    let mut all = Part::default();
    for part in parts {
        let part = part?;
        all.acknowledged += part.acknowledged;
        all.refused += part.refused;
        all.latencies_us.extend(part.latencies_us);
    }
    all.latencies_us.sort_unstable();
    let quantile = |q: f64| {
        let at = ((all.latencies_us.len() as f64 * q) as usize).min(all.latencies_us.len().saturating_sub(1));
        f64::from(all.latencies_us.get(at).copied().unwrap_or(0)) / 1_000.0
    };
    let idle_open = idle.iter().filter(|stream| still_open(stream)).count();
    let sent = Sent {
        messages: messages.len(),
        acknowledged: all.acknowledged,
        refused: all.refused,
        seconds,
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
        idle_open,
        sender_cpu_s: own_cpu_s(),
    };
    crate::out::line(&serde_json::to_string(&sent)?);
    Ok(())
}

#[derive(Debug, Default)]
struct Part {
    acknowledged: usize,
    refused: usize,
    latencies_us: Vec<u32>,
}

fn one_connection(to: SocketAddr, messages: &[&[u8]], window: usize, pace: Option<Duration>) -> Result<Part> {
    let stream = TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    let mut answers = BufReader::with_capacity(64 << 10, stream.try_clone()?);
    let mut out = stream;
    let mut part = Part { latencies_us: Vec::with_capacity(messages.len()), ..Part::default() };
    let mut outstanding: VecDeque<Instant> = VecDeque::with_capacity(window);
    let mut frame = Vec::with_capacity(64 << 10);
    let mut answer = Vec::with_capacity(1_024);
    let begun = Instant::now();
    let mut next = 0;
    while next < messages.len() || !outstanding.is_empty() {
        frame.clear();
        while next < messages.len() && outstanding.len() < window {
            if let Some(pace) = pace {
                let due = begun + pace * next as u32;
                let now = Instant::now();
                if due > now {
                    if !outstanding.is_empty() || !frame.is_empty() {
                        break;
                    }
                    std::thread::sleep(due - now);
                }
            }
            frame.push(0x0B);
            frame.extend_from_slice(messages[next]);
            frame.extend_from_slice(b"\x1C\r");
            outstanding.push_back(Instant::now());
            next += 1;
        }
        if !frame.is_empty() {
            out.write_all(&frame).context("the server closed the connection")?;
        }
        // One answer at least, then whatever has come already.
        loop {
            if outstanding.is_empty() {
                break;
            }
            answer.clear();
            if answers.read_until(0x1C, &mut answer).context("no answer within 60 s")? == 0 {
                bail!("the server closed the connection with {} messages unanswered", outstanding.len());
            }
            let sent = outstanding.pop_front().context("an answer too many")?;
            part.latencies_us.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
            let accepted = [&b"\rMSA|AA|"[..], b"\rMSA|CA|"]
                .iter()
                .any(|code| memchr::memmem::find(&answer, code).is_some());
            if accepted {
                part.acknowledged += 1;
            } else {
                part.refused += 1;
            }
            if answers.buffer().len() < 2 {
                break;
            }
        }
    }
    Ok(part)
}

fn still_open(stream: &TcpStream) -> bool {
    let mut byte = [0];
    stream.set_nonblocking(true).is_ok()
        && matches!(stream.peek(&mut byte), Err(fault) if fault.kind() == std::io::ErrorKind::WouldBlock)
}

fn own_cpu_s() -> f64 {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return 0.0 };
    let Some((_, rest)) = stat.rsplit_once(") ") else { return 0.0 };
    rest.split(' ').skip(11).take(2).filter_map(|word| word.parse::<f64>().ok()).sum::<f64>() / 100.0
}
