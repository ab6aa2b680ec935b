//! Conditions: writes that go by what a search finds (<https://hl7.org/fhir/R4/http.html#ccreate>).
//!
//! Of several who ask for the same at once, one creates: the id of what a condition creates is made of the condition, so
//! all of them would create the same resource, and the one who comes second finds it.

use hilum_chart::search::{self, Asked, From, Match, Plan};
use hilum_engines::tables::Value;
use hilum_engines::tables::query::Found;
use hilum_fhir::search::query::Query;
use hilum_fhir::search::values::Settings;
use hilum_fhir::{FhirId, ResourceBody};
use hilum_web::visit::Caller;

use super::answer::{self, Trouble};
use super::ask::Place;
use super::read::visible;
use super::search::{criteria, settings};
use crate::{Room, logical};

/// A condition that was understood.
#[derive(Debug, Clone)]
pub(super) struct Condition(Query);

/// What a condition finds.
#[derive(Debug, Clone)]
pub(super) enum Met {
    Nothing,
    One(Place),
    Several,
}

impl Condition {
    /// # Errors
    /// What is no search, has no criteria, or more than these.
    pub(super) fn parse(resource_type: &'static str, raw: &str) -> Result<Self, Trouble> {
        let query = criteria(resource_type, raw)?;
        if query.criteria.is_empty() || query.pairs().len() != query.criteria.len() {
            return Err(Trouble::Address(
                "a condition is made of search parameters of the type, at least one, and of nothing else",
            ));
        }
        Ok(Self(query))
    }

    /// The type that it goes by.
    pub(super) const fn resource_type(&self) -> &'static str {
        self.0.resource_type
    }

    fn plan(&self, room: &Room, caller: &Caller, settings: &Settings) -> Result<Plan, Trouble> {
        let chart_id = |ty: &str, id: &FhirId| logical::chart_id(&room.key, ty, id);
        let asked = Asked {
            authority: &caller.authority,
            query: &self.0,
            t: None,
            began: caller.at(),
            settings,
            chart_id: &chart_id,
            withheld: &[],
        };
        search::plan(&asked).map_err(Trouble::Plan)
    }

    /// Looks. Somebody who is withheld is found, too, or a second patient would be made beside the first; who asks is told
    /// that there are several.
    pub(super) async fn look(&self, room: &Room, caller: &Caller) -> Result<Met, Trouble> {
        let plan = self.plan(room, caller, settings(room).await?)?;
        let found = room.chart.search(&caller.authority, &plan, From { limit: 2, ..From::default() }).await?;
        let row = |one: &Found| match one.subject {
            Value::Int(row) => Some(row),
            _ => None,
        };
        let rows: Vec<i64> = found.found.iter().filter_map(row).collect();
        let mut met = Met::Nothing;
        for found in room.chart.matches(&caller.authority, &rows, found.t).await?.into_iter().flatten() {
            let Match { then, now } = found;
            let stored = now.unwrap_or(then);
            if !matches!(met, Met::Nothing) || visible(room, caller, &stored).await?.is_none() {
                return Ok(Met::Several);
            }
            let body = ResourceBody::parse(stored.body.clone());
            let logical = body.map_err(|_| answer::broken("a stored body is no resource"))?.id().clone();
            met = Met::One(Place { resource_type: self.0.resource_type, logical, id: stored.id });
        }
        Ok(met)
    }

    /// Where what it creates stands; `tried` times something else stood there.
    pub(super) fn place(&self, room: &Room, tried: u32) -> Place {
        let pairs = self.0.pairs();
        let mut parts: Vec<&[u8]> = vec![self.0.resource_type.as_bytes()];
        parts.extend(pairs.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
        let tried = tried.to_le_bytes();
        parts.push(&tried);
        let id = room.key.id("if-none-exist", &parts);
        Place { resource_type: self.0.resource_type, logical: FhirId::from(id), id }
    }
}
