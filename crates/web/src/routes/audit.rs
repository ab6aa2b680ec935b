//! Who looked: the audit log as a page and as JSON.

use askama::Template;
use axum::extract::{Form, Query};
use axum::response::Response;
use hilum_core::{Id, Kind};
use serde::Deserialize;
use serde_json::json;

use crate::audit::{AuditRow, Filter, Verdict};
use crate::limits;
use crate::outcome::Fault;
use crate::visit::Caller;
use crate::words::Words;

/// Filters and place.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    patient: String,
    principal: String,
    before: Option<i64>,
    verify: Option<String>,
}

impl Asked {
    fn filter(&self) -> Result<Filter, Fault> {
        let (patient, principal) = (self.patient.trim(), self.principal.trim());
        if !patient.is_empty() {
            let id: Id = patient.parse().map_err(|_| Fault::worded(Kind::Invalid, "patient_id"))?;
            return Ok(Filter::Patient(id));
        }
        if !principal.is_empty() {
            return Ok(Filter::Principal(principal.to_owned()));
        }
        Ok(Filter::All)
    }
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    w: Words,
    csrf: String,
    rows: Vec<AuditRow>,
    patient: String,
    principal: String,
    older: Option<i64>,
    is_first: bool,
    verdict: Option<Verdict>,
    is_healthy: bool,
}

/// The key of an action's word.
fn action_key(action: &str) -> String {
    format!("action.{action}")
}

fn older(rows: &[AuditRow]) -> Option<i64> {
    let is_full = rows.len() == limits::AUDIT_PAGE_ROWS as usize;
    rows.last().filter(|_| is_full).map(|row| row.n)
}

/// `GET /audit`.
pub async fn page(caller: Caller, Query(asked): Query<Asked>) -> Result<Response, Fault> {
    answer(&caller, &asked).await
}

/// `POST /audit`: the same, with what was typed.
pub async fn find(caller: Caller, Form(asked): Form<Asked>) -> Result<Response, Fault> {
    answer(&caller, &asked).await
}

async fn answer(caller: &Caller, asked: &Asked) -> Result<Response, Fault> {
    let filter = asked.filter()?;
    let log = caller.shell().audit();
    let rows = log.page(&filter, asked.before).await?;
    caller.saw_rows(rows.len() as u64);
    if let Filter::Patient(id) = &filter {
        caller.saw(*id);
    }
    let verdict = if asked.verify.is_some() { Some(log.verify().await?) } else { None };
    let page = AuditPage {
        w: caller.words(),
        csrf: caller.csrf(),
        older: older(&rows),
        rows,
        patient: asked.patient.trim().to_owned(),
        principal: asked.principal.trim().to_owned(),
        is_first: asked.before.is_none(),
        verdict,
        is_healthy: log.is_healthy(),
    };
    caller.page(caller.words().t("audit.title")).wide().body(&page)
}

/// `GET /api/audit`.
pub async fn json(caller: Caller, Query(asked): Query<Asked>) -> Result<Response, Fault> {
    let filter = asked.filter()?;
    let log = caller.shell().audit();
    let rows = log.page(&filter, asked.before).await?;
    caller.saw_rows(rows.len() as u64);
    if let Filter::Patient(id) = &filter {
        caller.saw(*id);
    }
    let next = older(&rows);
    let rows: Vec<_> = rows
        .into_iter()
        .map(|row| {
            json!({
                "n": row.n, "at": row.at.to_string(), "principal": row.principal, "role": row.role,
                "action": row.action, "route": row.route, "patient": row.patient, "outcome": row.outcome,
                "detail": row.detail, "request": row.request,
            })
        })
        .collect();
    let verdict = if asked.verify.is_some() { Some(log.verify().await?) } else { None };
    caller.json(&json!({
        "asOf": caller.at().to_string(), "events": rows, "before": next, "verdict": verdict,
    }))
}
