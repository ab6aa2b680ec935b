//! Senders that do what senders do: a message at a time, sent again until it is acknowledged, to whoever is there.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::server::{field, frame};

/// How long one message may take, whatever is killed meanwhile.
const ACKNOWLEDGED_S_MAX: u64 = 180;

/// Where gateways are now.
#[derive(Default)]
pub struct Gateways(Mutex<Vec<SocketAddr>>);

impl Gateways {
    pub fn are(&self, doors: Vec<SocketAddr>) {
        *self.0.lock().unwrap() = doors;
    }

    fn one(&self, turn: usize) -> Option<SocketAddr> {
        let doors = self.0.lock().unwrap();
        doors.get(turn % doors.len().max(1)).copied()
    }
}

/// What the load has done so far.
#[derive(Default)]
pub struct Done {
    pub acknowledged: AtomicUsize,
    /// Sent more than once: not answered, or by a connection that was closed.
    pub again: AtomicUsize,
}

/// Sends message `n` of `of` when it is due: they are spread over `span`, and what could not be sent in time is sent at
/// once when it can.
pub fn send(messages: &[(usize, &str)], of: usize, span: Duration, gateways: &Gateways, done: &Done) {
    let begun = Instant::now();
    let mut turn = messages.first().map_or(0, |&(n, _)| n);
    let mut connection: Option<TcpStream> = None;
    for &(n, message) in messages {
        let due = begun + span.mul_f64(n as f64 / of as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let first = Instant::now();
        loop {
            if deliver(&mut connection, gateways.one(turn), message) {
                break;
            }
            assert!(
                first.elapsed() < Duration::from_secs(ACKNOWLEDGED_S_MAX),
                "message {n} is not acknowledged"
            );
            connection = None;
            turn += 1;
            done.again.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(100));
        }
        done.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether it was acknowledged. Anything but AA is sent again: a gateway whose log does not answer closes, one that is
/// killed resets the connection, and one that does not answer in time is left.
fn deliver(connection: &mut Option<TcpStream>, gateway: Option<SocketAddr>, message: &str) -> bool {
    let mut exchange = || -> std::io::Result<String> {
        let gateway = gateway.ok_or(ErrorKind::NotConnected)?;
        let stream = match connection {
            Some(stream) => stream,
            None => connection.insert(TcpStream::connect_timeout(&gateway, Duration::from_secs(2))?),
        };
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(&frame(message.as_bytes()))?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\x1C\r") {
            let mut chunk = [0; 4_096];
            match stream.read(&mut chunk)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => answer.extend_from_slice(&chunk[..count]),
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    exchange().is_ok_and(|answer| field(&answer, "MSA", 1) == "AA")
}
