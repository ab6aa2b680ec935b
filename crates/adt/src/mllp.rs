//! The MLLP door: frames in, acknowledgments out, in the order of the frames.
//!
//! One task a connection. Frames are handed to [`Door::accept`] as they come, up to a window; their answers are
//! written in the order in which the frames stood, so that a sender that pipelines may count. What pushes back is the
//! socket that is not read: while the log's queue is full, the disk reserve is reached or too many bytes wait.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt as _};
use futures::{FutureExt as _, future};
use hilum_core::ContentType;
use hilum_hl7v2::mllp::{self, Deframer, Fault};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, sleep_until, timeout};

use crate::accept::{AcceptError, Door, Incoming, messages};
use crate::limits;
use crate::settings::OnTransient;
use crate::sources::{Came, Source};

/// The bounds that an installation may move.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest message, in bytes.
    pub message_bytes_max: usize,
    /// Connections at the same time; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Messages of one connection between read and answered.
    pub window_messages: usize,
    /// Bytes of messages that are not durable yet, over all connections.
    pub buffer_bytes_max: usize,
    /// Without a byte for so long a connection is closed.
    pub idle: Duration,
    /// From a frame's first byte to its last.
    pub read: Duration,
    /// For a peer to read an answer.
    pub write: Duration,
    /// Silence before TCP asks whether the peer is there; zero = never.
    pub keepalive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: limits::MESSAGE_BYTES_MAX,
            connections_max: limits::MLLP_CONNECTIONS_MAX,
            window_messages: limits::MLLP_WINDOW_MESSAGES,
            buffer_bytes_max: limits::MLLP_BUFFER_BYTES_MAX,
            idle: Duration::from_secs(limits::MLLP_IDLE_S),
            read: Duration::from_secs(limits::MLLP_READ_S),
            write: Duration::from_secs(limits::MLLP_WRITE_S),
            keepalive: Duration::from_secs(limits::MLLP_KEEPALIVE_S),
        }
    }
}

/// A listening socket that a restarted server can bind again at once. Port 0 takes a free one.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(limits::MLLP_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// What all connections of all listeners share.
#[derive(Debug, Clone)]
pub struct Mllp(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    door: Door,
    limits: Limits,
    connections: Arc<Semaphore>,
    open: metrics::Gauge,
    frames_odd: metrics::Counter,
    /// Bytes of frames that are not whole yet, beyond [`SMALL_BYTES`] a connection.
    partial_bytes: AtomicUsize,
}

/// What a connection may always hold of an unfinished frame: only larger ones share a budget, so that a peer that
/// sends large frames slowly does not hold up the others.
const SMALL_BYTES: usize = 64 << 10;

impl Mllp {
    /// The door that hands its frames to `door`.
    pub fn new(door: Door, limits: Limits) -> Self {
        Self(Arc::new(Shared {
            connections: Arc::new(Semaphore::new(limits.connections_max)),
            open: metrics::gauge!("hilum_mllp_connections"),
            frames_odd: metrics::counter!("hilum_mllp_odd_frames_total"),
            partial_bytes: AtomicUsize::new(0),
            door,
            limits,
        }))
    }

    /// Takes connections from `listener` (called `name` in the configuration) until `stop` is true; then what was
    /// accepted is answered and the connections close. Returns when the last one has.
    pub async fn serve(&self, listener: TcpListener, name: String, mut stop: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            // The permit comes first: beyond the cap a connection stays in the kernel's queue.
            let permit = tokio::select! {
                permit = Arc::clone(&self.0.connections).acquire_owned() => permit,
                () = stopped(&mut stop) => break,
                Some(ended) = connections.join_next() => {
                    report(&ended);
                    continue;
                }
            };
            let Ok(permit) = permit else { break };
            let (stream, peer) = loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok(accepted) => break accepted,
                        Err(error) => {
                            // Out of file descriptors, or the peer was gone again: both pass.
                            tracing::warn!(listener = name, %error, "connection not accepted");
                            sleep(Duration::from_millis(100)).await;
                        }
                    },
                    () = stopped(&mut stop) => return drain(connections).await,
                    Some(ended) = connections.join_next() => report(&ended),
                }
            };
            let came = Came { listener: Some(&name), peer: Some(peer.ip()), key: None };
            let source = Arc::clone(self.0.door.sources().find(&came));
            let shared = Arc::clone(&self.0);
            let stop = stop.clone();
            connections.spawn(async move {
                let _permit = permit;
                Box::pin(connection(shared, stream, peer, source, stop)).await;
            });
        }
        drain(connections).await;
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same: nobody will ever say stop.
    stop.wait_for(|&stop| stop).await.map(drop).unwrap_or_default();
}

async fn drain(mut connections: JoinSet<()>) {
    while let Some(ended) = connections.join_next().await {
        report(&ended);
    }
}

/// A connection that died of a fault of ours is not forgotten.
fn report(ended: &Result<(), JoinError>) {
    if ended.as_ref().is_err_and(JoinError::is_panic) {
        tracing::error!("the program failed on a connection: it is closed");
    }
}

/// One open connection among those that the gauge shows, however it ends.
struct Open<'a>(&'a metrics::Gauge);

impl<'a> Open<'a> {
    fn new(gauge: &'a metrics::Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// What a frame is answered with.
enum Reply {
    /// These bytes.
    Bytes(Bytes),
    /// Nothing, as asked.
    Nothing,
    /// These bytes, if any, and then the connection closes.
    Close(Option<Bytes>, End),
}

/// Counts the bytes of a connection's unfinished frame among all connections' for as long as it lives.
struct Partial<'a> {
    all: &'a AtomicUsize,
    mine: usize,
}

impl Partial<'_> {
    fn set(&mut self, bytes: usize) {
        let bytes = bytes.saturating_sub(SMALL_BYTES);
        if bytes > self.mine {
            self.all.fetch_add(bytes - self.mine, Ordering::Relaxed);
        } else {
            self.all.fetch_sub(self.mine - bytes, Ordering::Relaxed);
        }
        self.mine = bytes;
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.mine, Ordering::Relaxed);
    }
}

/// Why a connection ended, for the log and the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Peer,
    Stopped,
    Idle,
    SlowFrame,
    SlowReader,
    FrameTooLarge,
    Stray,
    NotKept,
    Io,
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer closed",
            Self::Stopped => "server stops",
            Self::Idle => "idle",
            Self::SlowFrame => "frame not finished in time",
            Self::SlowReader => "answers not read in time",
            Self::FrameTooLarge => "frame too large",
            Self::Stray => "too many bytes outside frames",
            Self::NotKept => "message could not be kept",
            Self::Io => "connection lost",
        }
    }
}

async fn connection(
    shared: Arc<Shared>,
    mut stream: TcpStream,
    peer: SocketAddr,
    source: Arc<Source>,
    mut stop: watch::Receiver<bool>,
) {
    prepare(&stream, shared.limits.keepalive);
    let open = Open::new(&shared.open);
    let counted = source.connected();
    tracing::debug!(source = %source.name(), "connection opened");
    let end = converse(&shared, &mut stream, peer, &source, &mut stop).await;
    drop(counted);
    drop(open);
    metrics::counter!("hilum_mllp_connections_ended_total", "why" => end.as_str()).increment(1);
    match end {
        End::Peer | End::Stopped | End::Idle | End::Io => {
            tracing::debug!(source = %source.name(), why = end.as_str(), "connection closed");
        }
        End::SlowFrame | End::SlowReader | End::FrameTooLarge | End::Stray | End::NotKept => {
            tracing::warn!(source = %source.name(), why = end.as_str(), "connection closed");
        }
    }
    close(stream).await;
}

fn prepare(stream: &TcpStream, keepalive: Duration) {
    let socket = SockRef::from(stream);
    let asks =
        TcpKeepalive::new().with_time(keepalive).with_interval(Duration::from_secs(10)).with_retries(5);
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| if keepalive.is_zero() { Ok(()) } else { socket.set_tcp_keepalive(&asks) });
    if let Err(error) = prepared {
        tracing::debug!(%error, "socket option not set");
    }
}

/// Reads, accepts and answers until the connection ends.
async fn converse(
    shared: &Arc<Shared>,
    stream: &mut TcpStream,
    peer: SocketAddr,
    source: &Arc<Source>,
    stop: &mut watch::Receiver<bool>,
) -> End {
    let limits = &shared.limits;
    let mut deframer = Deframer::new(limits.message_bytes_max);
    let mut partial = Partial { all: &shared.partial_bytes, mine: 0 };
    let mut waiting: FuturesOrdered<BoxFuture<'static, Reply>> = FuturesOrdered::new();
    let mut out = BytesMut::new();
    // Why nothing more is read; the answers to what was read still go out.
    let mut ending: Option<End> = None;
    let mut active = tokio::time::Instant::now();
    let mut frame_since: Option<tokio::time::Instant> = None;
    let peer: Arc<str> = peer.to_string().into();

    loop {
        while ending.is_none() && waiting.len() < limits.window_messages {
            match deframer.next_frame() {
                Some(Ok(frame)) => {
                    if frame.stray_bytes > 0 || frame.missing_cr || frame.inner_marks {
                        shared.frames_odd.increment(1);
                    }
                    for body in messages(frame.body) {
                        waiting.push_back(accept(shared, source, &peer, body));
                    }
                }
                Some(Err(Fault::TooLarge { head })) => {
                    let ack = mllp::frame(&shared.door.too_large(source, &head));
                    waiting.push_back(future::ready(Reply::Close(Some(ack), End::FrameTooLarge)).boxed());
                    ending = Some(End::FrameTooLarge);
                }
                // A message that lost its end may have lost more: it is not taken, and its sender waits in vain.
                Some(Err(Fault::Unterminated { .. })) => shared.frames_odd.increment(1),
                Some(Err(Fault::Stray)) => ending = Some(End::Stray),
                None => {
                    frame_since = match (deframer.is_inside(), frame_since) {
                        (false, _) => None,
                        (true, Some(since)) => Some(since),
                        (true, None) => Some(tokio::time::Instant::now()),
                    };
                    break;
                }
            }
        }
        partial.set(deframer.buffered_bytes());
        if let (Some(end), true) = (ending, waiting.is_empty()) {
            return end;
        }
        let reading = ending.is_none();
        let deadline = frame_since.map_or(active + limits.idle, |since| since + limits.read);
        tokio::select! {
            biased;
            Some(reply) = waiting.next(), if !waiting.is_empty() => {
                let mut close = encode(reply, &mut out);
                // What is ready by now goes out in the same write.
                while close.is_none() && let Some(Some(reply)) = waiting.next().now_or_never() {
                    close = encode(reply, &mut out);
                }
                if !out.is_empty() {
                    match timeout(limits.write, stream.write_all(&out)).await {
                        Ok(Ok(())) => out.clear(),
                        Ok(Err(_)) => return End::Io,
                        Err(_) => return End::SlowReader,
                    }
                    if waiting.is_empty() {
                        out = BytesMut::new();
                    }
                }
                if let Some(end) = close {
                    return end;
                }
                active = tokio::time::Instant::now();
            }
            () = stopped(stop), if reading => ending = Some(End::Stopped),
            ready = stream.readable(), if reading && waiting.len() < limits.window_messages => {
                if ready.is_err() {
                    return End::Io;
                }
                if is_closed(shared, deframer.buffered_bytes()) {
                    sleep(Duration::from_millis(limits::GATE_LOOK_MS)).await;
                    // The wait was ours: it does not count as the peer's.
                    frame_since = frame_since.map(|_| tokio::time::Instant::now());
                    active = tokio::time::Instant::now();
                    continue;
                }
                match read(stream, &mut deframer) {
                    Ok(0) => ending = Some(End::Peer),
                    Ok(_) => active = tokio::time::Instant::now(),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return End::Io,
                }
            }
            () = sleep_until(deadline), if reading && waiting.is_empty() => {
                return if frame_since.is_some() { End::SlowFrame } else { End::Idle };
            }
        }
    }
}

/// One read of the socket. Its buffer lives on the stack: an idle connection holds none.
fn read(stream: &TcpStream, deframer: &mut Deframer) -> io::Result<usize> {
    let mut chunk = [0; limits::MLLP_READ_BYTES];
    let count = stream.try_read(&mut chunk)?;
    deframer.push(chunk.get(..count).unwrap_or_default());
    Ok(count)
}

/// Whether nothing should be read now: the log does not take it, or too many bytes wait.
fn is_closed(shared: &Shared, buffered_bytes: usize) -> bool {
    let limits = &shared.limits;
    !shared.door.is_open(limits.buffer_bytes_max)
        || (buffered_bytes > SMALL_BYTES
            && shared.partial_bytes.load(Ordering::Relaxed) > limits.buffer_bytes_max / 2)
}

/// Puts a reply behind the others; why the connection closes after it, if it does.
fn encode(reply: Reply, out: &mut BytesMut) -> Option<End> {
    match reply {
        Reply::Bytes(bytes) => out.extend_from_slice(&bytes),
        Reply::Nothing => {}
        Reply::Close(bytes, end) => {
            out.extend_from_slice(&bytes.unwrap_or_default());
            return Some(end);
        }
    }
    None
}

fn accept(
    shared: &Arc<Shared>,
    source: &Arc<Source>,
    peer: &Arc<str>,
    body: Bytes,
) -> BoxFuture<'static, Reply> {
    let incoming = Incoming {
        body,
        content_type: ContentType::Hl7v2,
        source: Arc::clone(source),
        peer: Some(peer.to_string()),
        received: shared.door.now(),
        trace: None,
        replaces: None,
    };
    let door = shared.door.clone();
    async move {
        let on_transient = incoming.source.settings().on_transient;
        match door.accept(incoming).await {
            Ok(accepted) => accepted.ack.map_or(Reply::Nothing, |ack| Reply::Bytes(mllp::frame(&ack))),
            Err(AcceptError::TooLarge { ack, .. }) => {
                Reply::Close(Some(mllp::frame(&ack)), End::FrameTooLarge)
            }
            Err(AcceptError::NotKept { ack, .. }) => match on_transient {
                // Many senders drop a message that was answered AE or AR; what gets no answer is sent again.
                OnTransient::Close => Reply::Close(None, End::NotKept),
                OnTransient::Reject | OnTransient::Error => Reply::Bytes(mllp::frame(&ack)),
            },
        }
    }
    .boxed()
}

/// Closes so that the last answers arrive: a socket that is closed with unread bytes in it takes them back.
async fn close(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let until = tokio::time::Instant::now() + Duration::from_millis(limits::MLLP_LINGER_MS);
    let mut chunk = [0; 1_024];
    let mut dropped = 0;
    while let Ok(Ok(())) = tokio::time::timeout_at(until, stream.readable()).await {
        match stream.try_read(&mut chunk) {
            Ok(0) => return,
            Ok(size_bytes) => dropped += size_bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        if dropped > limits::MLLP_LINGER_BYTES_MAX {
            return;
        }
    }
}
