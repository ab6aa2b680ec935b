//! Serves the shell alone, in demo mode, on a throw-away folder: to look at components and pages.
//!
//! `cargo run -p hilum-web --example gallery [PORT]` prints a sign-in link.

#![allow(clippy::unwrap_used, clippy::print_stdout)]
// A wiring of its own: it reads the machine.
#![allow(clippy::disallowed_methods)]

use std::time::{SystemTime, UNIX_EPOCH};

use hilum_core::{Clock, Entropy, Role, Timestamp};
use hilum_engines::tables::Tables;
use hilum_engines::tables::sqlite::{Options, Sqlite};
use hilum_web::session::{self, SessionSecret};
use hilum_web::shell::{FeedHealth, FeedState, Mode, Parts, Probes, Settings, Shell};
use hilum_web::{keys, tables, users};

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new(|| {
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        Timestamp::from_micros(i64::try_from(micros).unwrap())
    });
    // A folder that is thrown away needs no better seed.
    let entropy = Entropy::seeded(clock.now().as_micros().unsigned_abs());
    let open = |name: &str, schema| {
        Tables::Sqlite(Sqlite::open(folder.path().join(name).as_path(), schema, Options::default()).unwrap())
    };
    let rows = open("tables.sqlite", tables::ALL);
    users::add(&rows, &clock, &entropy, "jimin.han", Role::Admin, Some("correct horse battery"))
        .await
        .unwrap();
    users::add(&rows, &clock, &entropy, "ward5w", Role::Viewer, None).await.unwrap();
    keys::add(&rows, &clock, &entropy, "epic-adt", Role::Feed).await.unwrap();
    let link = session::link(&rows, &clock, &entropy, "jimin.han").await.unwrap();
    let at = clock.now();
    let probes = Probes {
        feed_health: Box::new(move || {
            Some(FeedHealth { state: FeedState::Ok, last: Some(at), href: "/gallery" })
        }),
        ..Probes::default()
    };
    let parts = Parts {
        clock,
        entropy,
        tables: rows,
        audit: open("audit.sqlite", tables::AUDIT_ALL),
        secret: SessionSecret::new([7; 32]),
        settings: Settings { mode: Mode::Demo, ..Settings::default() },
        words: Vec::new(),
        topics: Vec::new(),
        probes,
    };
    let shell = Shell::start(parts).await.unwrap();
    let mounted = shell.mount(Vec::new());
    let port = std::env::args().nth(1).unwrap_or_else(|| "0".to_owned());
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    println!("http://{}/sign-in/link/{link}", listener.local_addr().unwrap());
    hilum_web::listen::serve(listener, shell, mounted.router, std::future::pending()).await.unwrap();
}
