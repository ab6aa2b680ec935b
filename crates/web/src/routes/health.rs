//! `/healthz`, `/readyz`, `/metrics`.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::outcome::{Fault, own};
use crate::shell::Readiness;
use crate::visit::Visit;

/// The process is there and answers.
pub async fn alive() -> &'static str {
    "ok\n"
}

/// Whether it can work; 503 with the state while it cannot.
pub async fn ready(visit: Visit) -> Result<Response, Fault> {
    let state = (visit.shell().probes().ready)();
    let body = match &state {
        Readiness::Ready { notes } if notes.is_empty() => json!({"state": "ready"}),
        Readiness::Ready { notes } => json!({"state": "ready", "notes": notes}),
        Readiness::Starting => json!({"state": "starting"}),
        Readiness::CatchingUp { applied, target } => {
            json!({"state": "catching-up", "applied": applied, "target": target})
        }
        Readiness::Paused { partitions } => json!({"state": "paused", "partitions": partitions}),
        Readiness::TablesDown { why } => json!({"state": "tables-down", "why": why}),
        Readiness::Unfit { why } => json!({"state": "unfit", "why": why}),
        Readiness::ReadOnly { why } => json!({"state": "read-only", "why": why}),
        Readiness::Draining => json!({"state": "draining"}),
    };
    let mut response = visit.json(&body)?;
    if !matches!(state, Readiness::Ready { .. }) {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(own(response))
}

/// Prometheus text.
pub async fn metrics(visit: Visit) -> Response {
    let text = (visit.shell().probes().metrics)();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
