//! What comes with the matches of a page (<https://hl7.org/fhir/R4/search.html#include>). Found by searches of their own, so
//! that who may not find a resource gets it by no reference either.

use std::collections::{BTreeMap, BTreeSet};

use hilum_chart::search::From;
use hilum_core::{Seq, Timestamp};
use hilum_fhir::json::Json;
use hilum_fhir::path::{Found, Path};
use hilum_fhir::r4::{Parameter, ParameterType, r4};
use hilum_fhir::search::query::{Criterion, Filter, Include, Operand, Query, Target, Token, Total};
use hilum_fhir::{FhirId, Reference};

use super::walk::{Ask, Shown};
use crate::fhir::answer::Trouble;
use crate::limits::{INCLUDE_ROUNDS_MAX, INCLUDE_VALUES_MAX, INCLUDED_MAX};

/// A resource by its type and logical id.
type Place = (&'static str, FhirId);

/// What comes with a page.
#[derive(Default)]
pub(super) struct Included {
    pub(super) shown: Vec<Shown>,
    /// That there is more than a page may bring.
    pub(super) is_cut: bool,
}

impl Ask<'_> {
    /// What `includes` want beside `matches`; nothing twice.
    pub(super) async fn included(
        &self,
        includes: &[Include],
        matches: &[Shown],
        t: Seq,
        began: Timestamp,
    ) -> Result<Included, Trouble> {
        let mut out = Included::default();
        let place = |shown: &Shown| (shown.resource_type, shown.id.clone());
        let mut seen: BTreeSet<Place> = matches.iter().map(place).collect();
        let mut begun = 0;
        for round in 0..INCLUDE_ROUNDS_MAX {
            let all = if round == 0 { matches } else { out.shown.get(begun..).unwrap_or_default() };
            if all.is_empty() {
                break;
            }
            let wanted = includes.iter().filter(|include| round == 0 || include.iterates);
            let queries: Vec<Query> = wanted.flat_map(|include| self.queries(include, all, &seen)).collect();
            begun = out.shown.len();
            for query in queries {
                let room = INCLUDED_MAX - out.shown.len();
                let from = From { limit: room as u32 + 1, ..From::default() };
                let answer = self.search(&query, Some(t), began, from).await?;
                out.is_cut |= answer.found.len() > room;
                let found = answer.found.get(..room.min(answer.found.len())).unwrap_or_default();
                for shown in self.resolved(query.resource_type, found, t).await?.into_iter().flatten() {
                    if seen.insert(place(&shown)) {
                        out.shown.push(shown);
                    }
                }
            }
            if out.is_cut {
                break;
            }
        }
        Ok(out)
    }

    /// The searches that find what one include wants.
    fn queries(&self, include: &Include, all: &[Shown], seen: &BTreeSet<Place>) -> Vec<Query> {
        if include.is_reverse { reverse(include, all) } else { self.forward(include, all, seen) }
    }

    fn forward(&self, include: &Include, all: &[Shown], seen: &BTreeSet<Place>) -> Vec<Query> {
        let mut wanted: BTreeMap<&'static str, BTreeSet<FhirId>> = BTreeMap::new();
        for shown in all.iter().filter(|shown| include.source.is_none_or(|ty| ty == shown.resource_type)) {
            let Ok(json) = Json::parse(shown.body.as_bytes()) else { continue };
            for parameter in references(include, shown.resource_type) {
                for (ty, id) in self.targets(parameter, shown.resource_type, &json) {
                    let is_new = !seen.contains(&(ty, id.clone()));
                    if is_new && include.target.is_none_or(|target| target == ty) {
                        wanted.entry(ty).or_default().insert(id);
                    }
                }
            }
        }
        let mut queries = Vec::new();
        for (ty, ids) in wanted {
            let Some(parameter) = r4().parameter(ty, "_id") else { continue };
            let token = |id: &FhirId| Operand::Token(Token { system: None, code: id.to_string() });
            let values: Vec<Operand> = ids.iter().map(token).collect();
            queries.extend(of_values(ty, parameter, &values));
        }
        queries
    }

    /// Where a parameter of a resource leads to on this server.
    fn targets(&self, parameter: &'static Parameter, ty: &'static str, json: &Json<'_>) -> Vec<Place> {
        let Some((path, shape)) = Path::of(parameter, ty).ok().zip(r4().shape(ty)) else { return Vec::new() };
        let mut places = Vec::new();
        for found in path.walk(r4(), json, shape) {
            let Found::Element(element, "Reference") = found else { continue };
            let raw = element.get("reference").and_then(Json::as_str).unwrap_or_default();
            let mut own = self.settings.bases.iter();
            let own = own.find_map(|base| raw.strip_prefix(base.as_str())?.strip_prefix('/'));
            if let Ok(Reference::Relative { resource_type, id, .. }) = own.unwrap_or(raw).parse()
                && let Some(ty) = r4().resource_types().find(|known| *known == resource_type.as_str())
            {
                places.push((ty, id));
            }
        }
        places
    }
}

/// Resources that refer to one of these.
fn reverse(include: &Include, all: &[Shown]) -> Vec<Query> {
    let Some(source) = include.source else { return Vec::new() };
    let mut queries = Vec::new();
    for parameter in references(include, source) {
        let leads = |ty: &str| {
            (parameter.targets.is_empty() || parameter.targets.contains(&ty))
                && include.target.is_none_or(|target| target == ty)
        };
        let to = all.iter().filter(|shown| leads(shown.resource_type));
        let to = to.map(|shown| Target::Local { resource_type: shown.resource_type, id: shown.id.clone() });
        let values: Vec<Operand> = to.map(Operand::Reference).collect();
        queries.extend(of_values(source, parameter, &values));
    }
    queries
}

/// The parameters that an include goes by.
fn references(include: &Include, resource_type: &'static str) -> Vec<&'static Parameter> {
    match include.parameter {
        Some(parameter) => vec![parameter],
        None => r4().parameters_of(resource_type).filter(|one| one.ty == ParameterType::Reference).collect(),
    }
}

/// Searches for these values, so many at once as one statement holds.
fn of_values(
    resource_type: &'static str,
    parameter: &'static Parameter,
    values: &[Operand],
) -> impl Iterator<Item = Query> {
    values.chunks(INCLUDE_VALUES_MAX).map(move |values| Query {
        criteria: vec![Criterion::Filter(Filter { parameter, modifier: None, values: values.to_vec() })],
        total: Total::None,
        ..Query::of(resource_type)
    })
}
