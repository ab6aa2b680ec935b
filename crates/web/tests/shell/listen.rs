//! The listener.

use std::time::Duration;

use axum::extract::State;
use hilum_core::Role;
use hilum_web::audit::Action;
use hilum_web::listen::serve_at_most;
use hilum_web::route::{Access, EVERYONE, Route, Surface};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
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

/// Says when what was begun is given up.
struct Begun(UnboundedSender<&'static str>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.send("given up").unwrap();
    }
}

async fn reads(State(says): State<UnboundedSender<&'static str>>) {
    says.send("begun").unwrap();
    let _begun = Begun(says);
    std::future::pending::<()>().await;
}

async fn decides(State(says): State<UnboundedSender<&'static str>>) {
    says.send("begun").unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    says.send("decided").unwrap();
}

/// A client that is gone waits for nothing: what was read for it is given up, and with it the query; what it decided is done.
#[tokio::test]
async fn what_is_read_for_a_client_that_hangs_up_is_given_up_and_what_it_decided_is_done() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Operator).await;
    let (says, mut said) = unbounded_channel();
    let (everyone, api) = (Access::Roles(EVERYONE), Surface::Api);
    let mounted = bench.shell.mount(vec![
        Route::get("/reads", everyone, api, says.clone(), reads),
        Route::post("/reads", everyone, api, says.clone(), reads).audit(Action::Search),
        Route::post("/decides", everyone, api, says, decides),
    ]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move { stopped.await.unwrap() };
    let served = tokio::spawn(serve_at_most(9, listener, bench.shell.clone(), mounted.router, stopped));
    let hears = async |said: &mut UnboundedReceiver<&'static str>| {
        let next = tokio::time::timeout(Duration::from_secs(20), said.recv()).await;
        next.expect("something is said").unwrap()
    };
    for (line, end) in [("GET /reads", "given up"), ("POST /reads", "given up"), ("POST /decides", "decided")]
    {
        let mut client = TcpStream::connect(address).await.unwrap();
        let head = format!("{line} HTTP/1.1\r\nhost: h\r\nx-api-key: {key}\r\ncontent-length: 0\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(hears(&mut said).await, "begun", "{line}");
        drop(client);
        assert_eq!(hears(&mut said).await, end, "{line}");
    }
    stop.send(()).unwrap();
    served.await.unwrap().unwrap();
}
