//! The listener.

use std::time::Duration;

use hilum_web::listen::serve_at_most;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::bench::Bench;

#[tokio::test]
async fn the_stop_is_heard_though_every_place_is_taken() {
    let bench = Bench::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move { stopped.await.unwrap() };
    let served = tokio::spawn(serve_at_most(1, listener, bench.shell.clone(), bench.router.clone(), stopped));
    // One that says nothing, and one that waits in the queue.
    let open = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), served).await;
    ended.expect("the stop is heard").unwrap().unwrap();
    drop(open);
}
