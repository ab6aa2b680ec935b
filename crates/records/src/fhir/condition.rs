//! Conditions: writes that go by what a search finds (<https://hl7.org/fhir/R4/http.html#ccreate>).
//!
//! Of several who ask for the same at once, one creates: the id of what a condition creates is made of the condition, so
//! all of them would create the same resource, and the one who comes second finds it.

use hilum_chart::Stored;
use hilum_chart::search::{self, Asked, From, Match, Plan};
use hilum_core::{Authority, Timestamp};
use hilum_engines::tables::Value;
use hilum_engines::tables::query::Found;
use hilum_fhir::search::query::Query;
use hilum_fhir::{FhirId, ResourceBody};
use hilum_web::visit::Caller;

use super::answer::{self, Trouble};
use super::ask::Place;
use super::read::visible;
use super::references::also_local;
use super::search::{By, criteria, expanded, settings};
use crate::limits::CONDITION_PLACES_MAX;
use crate::{Room, logical};

/// A condition that was understood.
#[derive(Debug, Clone)]
pub(crate) struct Condition(Query);

/// What a condition finds.
#[derive(Debug, Clone)]
pub(crate) enum Met {
    Nothing,
    One(Place),
    Several,
}

const fn row_of(found: &Found) -> Option<i64> {
    match found.subject {
        Value::Int(row) => Some(row),
        _ => None,
    }
}

impl Met {
    /// The one that there must be.
    pub(super) fn one(self) -> Result<Place, Trouble> {
        match self {
            Self::One(place) => Ok(place),
            Self::Nothing => Err(Trouble::NotFound),
            Self::Several => Err(Trouble::Several),
        }
    }
}

impl Condition {
    /// # Errors
    /// What is no search, has no criteria, or more than these.
    pub(crate) fn parse(resource_type: &'static str, raw: &str) -> Result<Self, Trouble> {
        // A variable that was empty would widen what is written to.
        let mut pairs = form_urlencoded::parse(raw.as_bytes());
        if pairs.any(|(name, value)| name.is_empty() || value.is_empty()) {
            return Err(Trouble::Address("a condition has a parameter without a value"));
        }
        let query = criteria(resource_type, raw)?;
        if query.criteria.is_empty() || query.pairs().len() != query.criteria.len() {
            return Err(Trouble::Address(
                "a condition is made of search parameters of the type, at least one, and of nothing else",
            ));
        }
        Ok(Self(query))
    }

    /// As `If-None-Exist` has it: criteria, or `Type?criteria`.
    ///
    /// # Errors
    /// As [`Condition::parse`]; another type.
    pub(crate) fn parse_header(resource_type: &'static str, raw: &str) -> Result<Self, Trouble> {
        let (ty, criteria) = raw.split_once('?').unwrap_or((resource_type, raw));
        if !ty.is_empty() && ty != resource_type {
            return Err(Trouble::Address(
                "the condition names another type, or a base: it is of the type that is created",
            ));
        }
        Self::parse(resource_type, criteria)
    }

    /// The type that it goes by.
    pub(super) const fn resource_type(&self) -> &'static str {
        self.0.resource_type
    }

    /// What is executed: codes in the place of value sets, as they are now, and the newest of what it asks for.
    async fn plan(
        query: Query,
        room: &Room,
        (authority, began): (&Authority, Timestamp),
        all: bool,
    ) -> Result<Plan, Trouble> {
        let settings = settings(room).await?;
        let by = By { room, settings, authority, began };
        let (queries, _) = expanded(by, vec![query], None).await?;
        let query = queries.first().ok_or_else(|| answer::broken("a condition is one search"))?;
        let rooms = room.discretions.withheld();
        let is_by = search::unfound(query, &rooms).iter().any(|(_, code)| code.is_some());
        if is_by && room.chart.has_made(authority, &rooms).await? {
            return Err(Trouble::Unsupported(
                "resources made from messages are not found by one of these parameters, so whether any meets the condition is \
                 not known: go by `identifier`",
            ));
        }
        let withheld = if all { Vec::new() } else { rooms };
        let chart_id = |ty: &str, id: &FhirId| logical::chart_id(&room.key, ty, id);
        let asked =
            Asked { authority, query, t: None, began, settings, chart_id: &chart_id, withheld: &withheld };
        search::plan(&asked).map_err(Trouble::Plan)
    }

    /// Looks as a search does: what is withheld is not there.
    pub(super) async fn look(&self, room: &Room, caller: &Caller) -> Result<Met, Trouble> {
        self.seek(room, caller, false).await
    }

    /// Looks for something that would be created. By their number somebody who is withheld is found too, or a second patient
    /// would be made beside the first: whoever asks is told that there are several. By anything else that would tell too much.
    pub(super) async fn look_before(&self, room: &Room, caller: &Caller) -> Result<Met, Trouble> {
        let by_number = self.0.pairs().iter().all(|(name, _)| name == "identifier");
        self.seek(room, caller, by_number).await
    }

    async fn seek(&self, room: &Room, caller: &Caller, all: bool) -> Result<Met, Trouble> {
        let asker = (&caller.authority, caller.at());
        let plan = Self::plan(also_local(caller, self.0.clone()), room, asker, all).await?;
        let found = room.chart.search(&caller.authority, &plan, From { limit: 2, ..From::default() }).await?;
        let rows: Vec<i64> = found.found.iter().filter_map(row_of).collect();
        let mut met = Met::Nothing;
        for found in room.chart.matches(&caller.authority, &rows, found.t).await?.into_iter().flatten() {
            let Match { then, now } = found;
            let stored = now.unwrap_or(then);
            let is_shown = visible(room, caller, &stored).await?.is_some();
            if !is_shown && !all {
                continue;
            }
            if !is_shown || !matches!(met, Met::Nothing) {
                return Ok(Met::Several);
            }
            met = Met::One(self.place_of(&stored)?);
        }
        Ok(met)
    }

    /// Looks for the process itself, from which nobody is withheld.
    pub(crate) async fn look_whole(
        &self,
        room: &Room,
        authority: &Authority,
        at: Timestamp,
    ) -> Result<Met, Trouble> {
        let plan = Self::plan(self.0.clone(), room, (authority, at), true).await?;
        let found = room.chart.search(authority, &plan, From { limit: 2, ..From::default() }).await?;
        let rows: Vec<i64> = found.found.iter().filter_map(row_of).collect();
        let mut met = Met::Nothing;
        for Match { then, now } in room.chart.matches(authority, &rows, found.t).await?.into_iter().flatten()
        {
            if !matches!(met, Met::Nothing) {
                return Ok(Met::Several);
            }
            met = Met::One(self.place_of(&now.unwrap_or(then))?);
        }
        Ok(met)
    }

    fn place_of(&self, stored: &Stored) -> Result<Place, Trouble> {
        let body = ResourceBody::parse(stored.body.clone());
        let logical = body.map_err(|_| answer::broken("a stored body is no resource"))?.id().clone();
        Ok(Place { resource_type: self.0.resource_type, logical, id: stored.id })
    }

    /// Where what it creates stands; `tried` times something else stood there. After some of these any place is as good:
    /// what stands there does not meet the condition that it was made by.
    pub(super) fn place(&self, room: &Room, caller: &Caller, tried: u32) -> Place {
        if tried > CONDITION_PLACES_MAX {
            return Place::anew(room, caller, self.0.resource_type);
        }
        let pairs = self.0.pairs();
        let mut parts: Vec<&[u8]> = vec![self.0.resource_type.as_bytes()];
        parts.extend(pairs.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
        let tried = tried.to_le_bytes();
        parts.push(&tried);
        let id = room.key.id("if-none-exist", &parts);
        Place { resource_type: self.0.resource_type, logical: FhirId::from(id), id }
    }
}
