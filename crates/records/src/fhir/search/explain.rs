//! How a search is executed, for people and for pages that show it: the plan in words, what it costs here and now.

use hilum_chart::search::{self, Asked, From, Plan, Step};
use hilum_core::{Authority, Clock, Seq, Timestamp};
use hilum_fhir::FhirId;
use hilum_fhir::search::query::{Handling, Query};
use hilum_fhir::search::values::Settings;
use serde::{Deserialize, Serialize};

use super::scope::Scope;
use super::{By, Pairs, expanded, pairs_of, take};
use crate::fhir::answer::Trouble;
use crate::limits::{EXPLAINED_MATCHES_MAX, EXPLAINED_ROWS_MAX};
use crate::{Room, logical};

/// What a search of one type does, and what that costs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// The type.
    pub resource_type: String,
    /// One thing after the other; the first one drives.
    pub steps: Vec<Said>,
    /// Resources that what drives gives, of those that who asks may know of: each is asked the rest. Absent beyond [`EXPLAINED_ROWS_MAX`].
    pub driver_rows: Option<u64>,
    /// Resources that match; absent beyond [`EXPLAINED_MATCHES_MAX`].
    pub matches: Option<u64>,
    /// What the first page takes, without its resources, µs.
    pub took_us: u64,
    /// What the engine says of it. May quote values.
    pub engine: String,
}

/// A step in words.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    /// `drives`, `guards`, `verifies`, `orders`.
    pub does: String,
    /// By which criterion: names, no values.
    pub criterion: String,
    /// How few resources it is thought to be of, from 0 to 9.
    pub rank: u8,
    /// The same in words.
    pub thought: String,
}

impl Said {
    fn of(step: &Step) -> Self {
        Self {
            does: step.does.as_str().to_owned(),
            criterion: step.criterion.clone(),
            rank: step.rank,
            thought: step.rank_said().to_owned(),
        }
    }
}

/// What is executed for a query of one type.
pub(super) fn planned(
    room: &Room,
    settings: &Settings,
    authority: &Authority,
    query: &Query,
    (t, began): (Option<Seq>, Timestamp),
) -> Result<Plan, Trouble> {
    let withheld = room.discretions.withheld();
    let chart_id = |ty: &str, id: &FhirId| logical::chart_id(&room.key, ty, id);
    let asked = Asked { authority, query, t, began, settings, chart_id: &chart_id, withheld: &withheld };
    search::plan(&asked).map_err(Trouble::Plan)
}

/// The scope that an address names, `Patient?…`, `Patient/1/Observation?…` or `?_type=…`, and what it asks.
pub(super) fn asked(address: &str) -> Result<(Scope, Pairs), Trouble> {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let mut pairs = pairs_of(query.as_bytes());
    let types = take(&mut pairs, "_type")?;
    let path = path.trim_start_matches('/');
    let parts: Vec<&str> = path.strip_prefix("fhir/").unwrap_or(path).split('/').collect();
    let scope = match parts.as_slice() {
        [""] => Scope::of_all(types.as_deref())?,
        [ty] => Scope::of_type(ty)?,
        [whose, id, of] => Scope::within((whose, id), of, types.as_deref())?,
        _ => return Err(Trouble::NoType),
    };
    Ok((scope, pairs))
}

fn read(room: &Room, address: &str) -> Result<Vec<Query>, Trouble> {
    let (scope, pairs) = asked(address)?;
    Ok(scope.read(room, &pairs, Handling::Strict)?.0)
}

/// Explains a search on behalf of `authority`. Nothing is written.
///
/// # Errors
/// Why it is refused, in words.
pub async fn explain(
    room: &Room,
    authority: &Authority,
    clock: &Clock,
    address: &str,
) -> Result<Vec<Explained>, String> {
    let all = async {
        let queries = read(room, address)?;
        let settings = super::settings(room).await?;
        let types: Vec<&str> = queries.iter().map(|query| query.resource_type).collect();
        let there = room.chart.types_there(authority, &types).await?;
        let there = queries.into_iter().zip(there).filter(|(_, is_there)| *is_there);
        let by = By { room, settings, authority, began: clock.now() };
        let (queries, t) = expanded(by, there.map(|(query, _)| query).collect(), None).await?;
        let mut all = Vec::new();
        for query in &queries {
            let plan = planned(room, settings, authority, query, (t, clock.now()))?;
            all.push(cost(room, (authority, clock), query, &plan).await?);
        }
        Ok::<_, Trouble>(all)
    };
    all.await.map_err(|trouble| trouble.text())
}

async fn cost(
    room: &Room,
    (authority, clock): (&Authority, &Clock),
    query: &Query,
    plan: &Plan,
) -> Result<Explained, Trouble> {
    let chart = &room.chart;
    let limit = query.count.unwrap_or(room.paging.matches);
    let began = clock.now();
    chart.search(authority, plan, From { limit, ..From::default() }).await?;
    let took_us = u64::try_from(clock.now().micros_since(began)).unwrap_or_default();
    let within = |cap: u64| move |count: &u64| *count <= cap;
    let rows = chart.search_count(authority, &plan.driver(), EXPLAINED_ROWS_MAX + 1, None).await?;
    let cap = EXPLAINED_MATCHES_MAX + 1;
    let matches = chart.search_count(authority, plan, cap, Some(EXPLAINED_ROWS_MAX)).await?;
    let engine = chart.tables().explain_query(&plan.query).await;
    Ok(Explained {
        resource_type: query.resource_type.to_owned(),
        steps: plan.steps.iter().map(Said::of).collect(),
        driver_rows: rows.filter(within(EXPLAINED_ROWS_MAX)),
        matches: matches.filter(within(EXPLAINED_MATCHES_MAX)),
        took_us,
        engine: engine.map_err(hilum_chart::ChartError::Tables)?,
    })
}
