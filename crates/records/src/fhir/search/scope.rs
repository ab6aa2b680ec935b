//! What is searched: resources of one type, of several, or of all; anywhere, or in somebody's compartment.

use hilum_fhir::FhirId;
use hilum_fhir::r4::r4;
use hilum_fhir::search::query::{Compartment, Criterion, Handling, Query, QueryError};

use super::Pairs;
use crate::Room;
use crate::fhir::answer::Trouble;
use crate::fhir::ask;
use crate::limits::TYPES_MAX;

/// What is in R4's compartment of a Patient, and yet not said of one: who looked.
const NOT_OF_A_PATIENT: &str = "AuditEvent";

/// What is searched.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// With commas between them, each once, in R4's order; empty: all.
    types: String,
    within: Option<Compartment>,
    /// Whether the address names no type.
    is_open: bool,
}

impl Scope {
    /// `/fhir/Type`.
    pub(super) fn of_type(resource_type: &str) -> Result<Self, Trouble> {
        let types = ask::type_of(resource_type)?.to_owned();
        Ok(Self { types, within: None, is_open: false })
    }

    /// `/fhir`, with what `_type` says.
    pub(super) fn of_all(types: Option<&str>) -> Result<Self, Trouble> {
        Ok(Self { types: listed(types)?, within: None, is_open: true })
    }

    /// `/fhir/Patient/123/Type`, or `*` with what `_type` says.
    pub(super) fn within(
        (whose, id): (&str, &str),
        resource_type: &str,
        types: Option<&str>,
    ) -> Result<Self, Trouble> {
        if resource_type.starts_with('$') {
            return Err(Trouble::NoOperation);
        }
        let within = Some(compartment(whose, id)?);
        let is_open = resource_type == "*";
        let types = match (is_open, types) {
            (true, types) => listed(types)?,
            (false, None) => ask::type_of(resource_type)?.to_owned(),
            (false, Some(_)) => {
                return Err(Trouble::Unsupported(
                    "`_type` belongs to a search over all types: write * in the place of the type",
                ));
            }
        };
        let scope = Self { types, within, is_open };
        if scope.all().is_empty() {
            return Err(Trouble::Unsupported("no resource of this type lies in such a compartment"));
        }
        Ok(scope)
    }

    /// As a link's state has it.
    pub(super) fn again(types: &str, within: Option<&str>) -> Result<Self, Trouble> {
        let within = match within.map(|within| within.split_once('/').unwrap_or((within, ""))) {
            Some((whose, id)) => Some(compartment(whose, id)?),
            None => None,
        };
        Ok(Self { types: types.to_owned(), within, is_open: types.is_empty() || types.contains(',') })
    }

    /// As a link's state has it.
    pub(super) fn types(&self) -> &str {
        &self.types
    }

    /// The type, where there is one alone.
    pub(super) fn only_type(&self) -> Option<&str> {
        Some(self.types()).filter(|types| !types.is_empty() && !types.contains(','))
    }

    /// As a link's state has it.
    pub(super) fn within_said(&self) -> Option<String> {
        self.within.as_ref().map(|Compartment { resource_type, id }| format!("{resource_type}/{id}"))
    }

    /// What `_type` says.
    pub(super) fn type_said(&self) -> Option<&str> {
        Some(self.types.as_str()).filter(|types| self.is_open && !types.is_empty())
    }

    /// Its address behind `/fhir`.
    pub(super) fn path(&self) -> String {
        let types = if self.is_open { "*" } else { &self.types };
        match &self.within {
            Some(Compartment { resource_type, id }) => format!("/{resource_type}/{id}/{types}"),
            None if self.is_open => String::new(),
            None => format!("/{types}"),
        }
    }

    /// The types, in their order.
    fn all(&self) -> Vec<&'static str> {
        let named: Vec<&str> = self.types.split(',').filter(|ty| !ty.is_empty()).collect();
        let is_meant = |ty: &&str| match &self.within {
            _ if !named.is_empty() && !named.contains(ty) => false,
            None => true,
            Some(Compartment { resource_type, .. }) => {
                let is_own = ty == resource_type;
                let lies = is_own || !r4().in_compartment(resource_type, ty).is_empty();
                lies && (*resource_type != "Patient" || *ty != NOT_OF_A_PATIENT)
            }
        };
        r4().resource_types().filter(is_meant).collect()
    }

    /// What is asked of each type, and which parameters were left out. A parameter belongs to a search over several types
    /// where each of them has it.
    pub(super) fn read(
        &self,
        room: &Room,
        pairs: &Pairs,
        handling: Handling,
    ) -> Result<(Vec<Query>, Vec<QueryError>), Trouble> {
        let types = self.all();
        let (mut queries, mut left_out) = (Vec::new(), Vec::new());
        for ty in &types {
            let borrowed = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let (mut query, ignored) = Query::parse(ty, borrowed, handling)?;
            if let Some(first) = queries.first()
                && !is_same_order(first, &query)
            {
                return Err(Trouble::Unsupported(
                    "`_sort` over several types goes by parameters that are of one kind in each: _lastUpdated, _id, date",
                ));
            }
            query.count = query.count.map(|count| count.min(room.paging.matches_max));
            query.criteria.extend(self.within.clone().map(Criterion::Within));
            queries.push(query);
            left_out = ignored;
        }
        Ok((queries, left_out))
    }
}

/// Whether values of one type are compared with those of the other.
fn is_same_order(one: &Query, other: &Query) -> bool {
    let kinds = |query: &Query| query.sort.iter().map(|key| key.parameter.ty).collect::<Vec<_>>();
    kinds(one) == kinds(other)
}

/// The compartment of `Type/id`.
fn compartment(whose: &str, id: &str) -> Result<Compartment, Trouble> {
    let resource_type = ask::type_of(whose)?;
    if !r4().compartments().any(|known| known == resource_type) {
        return Err(Trouble::Unsupported(
            "there are compartments of Patient, Encounter, Device, Practitioner and RelatedPerson",
        ));
    }
    Ok(Compartment { resource_type, id: FhirId::parse(id).map_err(|_| Trouble::NoId)? })
}

/// The types that `_type` names, in R4's order.
fn listed(types: Option<&str>) -> Result<String, Trouble> {
    let Some(types) = types else { return Ok(String::new()) };
    let wrong = Trouble::Unsupported("`_type` is a list of types of R4; GET /fhir/metadata lists them");
    let named: Vec<&str> = types.split(',').collect();
    if named.len() > TYPES_MAX || named.iter().any(|ty| ask::type_of(ty).is_err()) {
        return Err(wrong);
    }
    let all: Vec<&str> = r4().resource_types().filter(|ty| named.contains(ty)).collect();
    Ok(all.join(","))
}
