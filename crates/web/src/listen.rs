//! The HTTP listener: a bound on connections, a time limit for a request's head, and a drain at the end.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use crate::limits;
use crate::shell::Shell;

/// Serves `router` on `listener` until `stop` resolves, then lets open requests end.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    shell: Shell,
    router: Router,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_at_most(limits::CONNECTIONS_MAX, listener, shell, router, stop).await
}

/// As [`serve`], with at most `connections_max` connections at once; further ones wait in the kernel's queue.
///
/// # Errors
/// As [`serve`].
pub async fn serve_at_most(
    connections_max: usize,
    listener: TcpListener,
    shell: Shell,
    router: Router,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(connections_max));
    let open = GracefulShutdown::new();
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIMEOUT)
        .max_buf_size(limits::HEAD_BYTES_MAX)
        .keep_alive(true);
    let mut stop = std::pin::pin!(stop);
    loop {
        // When every place is taken the stop must be heard all the same. The semaphore is never closed.
        let permit = tokio::select! {
            permit = Arc::clone(&permits).acquire_owned() => permit.map_err(io::Error::other)?,
            () = &mut stop => break,
        };
        let (socket, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // One connection's trouble, or no more descriptors: wait for some to close.
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(limits::LIVE_EVENT_EVERY).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        // Answers are written whole; waiting to fill a packet only delays them.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let service =
            router.clone().map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(ConnectInfo(peer));
                request.map(axum::body::Body::new)
            });
        let connection = http.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
        let connection = open.watch(connection);
        tokio::spawn(async move {
            // The peer's doing: a request cut short, a time-out.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
            drop(permit);
        });
    }
    drop(listener);
    shell.live().close();
    if tokio::time::timeout(limits::DRAIN_TIMEOUT, open.shutdown()).await.is_err() {
        tracing::warn!("requests were still open at the end of the drain");
    }
    Ok(())
}
