//! What a server does at least: the same framework with a handler that does nothing, and with one that reads a body of SQLite
//! by its number, on the thread that asks.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use clap::Args;
use hilum_engines::bare::Bodies;

/// Serves both until it is ended.
#[derive(Debug, Args)]
pub struct Floor {
    /// What `bare::append` wrote
    bodies: PathBuf,
}

/// Prints the address, and serves.
///
/// # Errors
/// The port cannot be had.
pub fn run(floor: &Floor) -> Result<()> {
    let bodies = Arc::new(Bodies::open(&floor.bodies));
    let router =
        Router::new().route("/empty", get(|| async {})).route("/read/{number}", get(read)).with_state(bodies);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("a port on loopback")?;
        crate::out::line(&listener.local_addr()?.to_string());
        axum::serve(listener, router).await.context("serving")
    })
}

async fn read(State(bodies): State<Arc<Bodies>>, Path(number): Path<i64>) -> Result<Vec<u8>, StatusCode> {
    let body = bodies.get(number).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    body.ok_or(StatusCode::NOT_FOUND)
}
