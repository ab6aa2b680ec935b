//! One address in front of several processes: each connection goes to the next one that takes it. The demonstration's
//! alone: a house of its own has a load balancer there.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

/// How long a process may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// A listener that cannot accept (no file left) is asked again after so long.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Which doors there are behind an address.
#[derive(Debug, Clone, Default)]
pub struct Behind(Arc<Doors>);

#[derive(Debug, Default)]
struct Doors {
    open: Mutex<Vec<SocketAddr>>,
    next: AtomicUsize,
}

impl Behind {
    /// These are open now.
    pub fn are(&self, doors: Vec<SocketAddr>) {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) = doors;
    }

    /// All of them, each time another one first.
    fn in_turn(&self) -> Vec<SocketAddr> {
        let mut doors = self.0.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let first = self.0.next.fetch_add(1, Ordering::Relaxed) % doors.len().max(1);
        doors.rotate_left(first);
        doors
    }
}

/// Passes on whatever comes to `listener`, for ever.
pub async fn forward(listener: TcpListener, behind: Behind) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(pass_on(stream, behind.clone()))),
            Err(fault) => {
                tracing::warn!(%fault, "no connection is accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// To the first that takes it; closed when none does.
async fn pass_on(mut stream: TcpStream, behind: Behind) {
    for door in behind.in_turn() {
        let Ok(Ok(mut to)) = tokio::time::timeout(CONNECT, TcpStream::connect(door)).await else { continue };
        for end in [&stream, &to] {
            // Without it an answer may wait for a packet more; it is right all the same.
            end.set_nodelay(true).unwrap_or_else(|fault| tracing::debug!(%fault, "nodelay"));
        }
        // Whichever end is closed closes the other.
        if let Err(fault) = tokio::io::copy_bidirectional(&mut stream, &mut to).await {
            tracing::debug!(%fault, "a connection ended");
        }
        return;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A door that says its name to whoever comes.
    async fn door(name: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(name).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn connections_go_to_the_doors_in_turn_and_never_to_one_that_is_shut() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shut = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let behind = Behind::default();
        tokio::spawn(forward(listener, behind.clone()));
        let ask = || async {
            let mut said = String::new();
            TcpStream::connect(address).await.unwrap().read_to_string(&mut said).await.unwrap();
            said
        };
        assert_eq!(ask().await, "", "nobody is there: closed");
        behind.are(vec![door(b"a").await, shut, door(b"b").await]);
        let mut heard = Vec::new();
        for _ in 0..6 {
            heard.push(ask().await);
        }
        heard.sort();
        assert_eq!(heard.first().map(String::as_str), Some("a"), "{heard:?}");
        assert_eq!(heard.last().map(String::as_str), Some("b"), "{heard:?}");
    }
}
