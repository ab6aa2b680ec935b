//! A TCP proxy between an engine and its server: sees the turns on the wire, and breaks connections at bad moments.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// For so long nothing must come until what came is taken for whole.
const QUIET: Duration = Duration::from_millis(15);

/// What happens to what a client sends next. Each but `Pass` holds for one flight, then connections pass again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// The server gets it and answers; the client sees its connection break before the answer.
    LoseTheAnswer,
    /// The client's connection breaks; the server gets it only after [`Proxy::release`].
    DeliverLate,
    /// The server gets all but the end, which follows after [`Proxy::release`].
    HoldTheEnd,
}

#[derive(Debug)]
struct State {
    mode: Mutex<Mode>,
    /// How often a client sent something after it had got something.
    turns: Mutex<u64>,
    /// Statements that clients had executed.
    statements: Mutex<u64>,
    reached: Notify,
    released: Notify,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts one before the server on `port`.
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let own = listener.local_addr().expect("an address").port();
        let state = Arc::new(State {
            mode: Mutex::new(Mode::Pass),
            turns: Mutex::new(0),
            statements: Mutex::new(0),
            reached: Notify::new(),
            released: Notify::new(),
        });
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await {
                    tokio::spawn(pump(client, server, shared.clone()));
                }
            }
        });
        Self { port: own, state, task }
    }

    /// Sets what happens to the next flight.
    pub fn arm(&self, mode: Mode) {
        *self.state.mode.lock().expect("nobody panics with it") = mode;
    }

    /// Waits until the armed mode has struck.
    pub async fn reached(&self) {
        self.state.reached.notified().await;
    }

    /// Lets go what it holds.
    pub fn release(&self) {
        self.state.released.notify_one();
    }

    /// Statements so far.
    pub fn statements(&self) -> u64 {
        *self.state.statements.lock().expect("nobody panics with it")
    }

    /// Turns so far.
    pub fn turns(&self) -> u64 {
        *self.state.turns.lock().expect("nobody panics with it")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn take_mode(&self) -> Mode {
        std::mem::replace(&mut *self.mode.lock().expect("nobody panics with it"), Mode::Pass)
    }
}

/// Moves what the client sends on when it is quiet, and the answer when both are: so a client that needs an answer
/// to go on is seen to need a turn, and one that does not is not.
async fn pump(mut client: TcpStream, mut server: TcpStream, state: Arc<State>) {
    let (mut flight, mut answer) = (Vec::new(), Vec::new());
    let mut answered = true;
    loop {
        let waiting = !flight.is_empty() || !answer.is_empty();
        tokio::select! {
            read = client.read_buf(&mut flight) => {
                if read.unwrap_or(0) == 0 {
                    // A client that says good-bye (or is gone) needs no answer.
                    drop(server.write_all(&flight).await);
                    return;
                }
            }
            read = server.read_buf(&mut answer) => {
                if read.unwrap_or(0) == 0 {
                    drop(client.write_all(&answer).await);
                    return;
                }
            }
            () = tokio::time::sleep(QUIET), if waiting => {
                if flight.is_empty() {
                    answered = true;
                    if client.write_all(&answer).await.is_err() {
                        return;
                    }
                    answer.clear();
                    continue;
                }
                if std::mem::take(&mut answered) {
                    *state.turns.lock().expect("nobody panics with it") += 1;
                }
                *state.statements.lock().expect("nobody panics with it") += executed(&flight);
                match state.take_mode() {
                    Mode::Pass => drop(server.write_all(&flight).await),
                    Mode::LoseTheAnswer => {
                        drop(server.write_all(&flight).await);
                        swallow(&mut server).await;
                        state.reached.notify_one();
                        return;
                    }
                    Mode::DeliverLate => {
                        drop(client);
                        state.reached.notify_one();
                        state.released.notified().await;
                        drop(server.write_all(&flight).await);
                        swallow(&mut server).await;
                        state.reached.notify_one();
                        return;
                    }
                    Mode::HoldTheEnd => {
                        // The last message is a 5-byte Sync, before it the Execute of COMMIT: neither is whole.
                        let (begin, end) = flight.split_at(flight.len() - 8);
                        drop(server.write_all(begin).await);
                        state.reached.notify_one();
                        state.released.notified().await;
                        drop(server.write_all(end).await);
                    }
                }
                flight.clear();
            }
        }
    }
}

/// Waits until the server has answered a whole flight: it is ready for the next one, outside a transaction.
async fn swallow(server: &mut TcpStream) {
    let mut answer = Vec::new();
    let patience = Duration::from_secs(5);
    while !answer.ends_with(b"Z\0\0\0\x05I") {
        match tokio::time::timeout(patience, server.read_buf(&mut answer)).await {
            Ok(Ok(1..)) => {}
            _ => return,
        }
    }
}

/// How many statements whole messages of a client have executed: `Execute`, and `Query` for those that are sent as text.
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
fn executed(mut flight: &[u8]) -> u64 {
    let mut count = 0;
    while let Some(&kind) = flight.first() {
        // The first message of a connection has no kind, and its length begins with 0.
        let at = usize::from(kind != 0);
        let Some(Ok(length)) = flight.get(at..at + 4).map(<[u8; 4]>::try_from) else { return count };
        count += u64::from(kind == b'E' || kind == b'Q');
        flight = flight.get(at + u32::from_be_bytes(length) as usize..).unwrap_or_default();
    }
    count
}
