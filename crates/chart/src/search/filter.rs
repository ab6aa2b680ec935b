//! Criteria of a resource itself: any of a parameter's values, or none, or whether there is any.

use hilum_engines::tables::Value;
use hilum_engines::tables::query::{Check, Keep, Probe, Source, Term, Test};
use hilum_fhir::FhirId;
use hilum_fhir::r4::{Parameter, ParameterType};
use hilum_fhir::search::query::{Filter, Modifier, Operand, Token};

use super::plan::{Asked, PlanError, Planned, by_row, one_of, unanswered};
use super::rows::{self, Rows, rank};
use super::updated;
use crate::index::tables::{DATE, NUMBER, PAIR, STRING, TOKEN, URI};
use crate::resources::RESOURCE;

impl Asked<'_> {
    pub(super) fn filter(&self, resource_type: &str, filter: &Filter) -> Result<Planned, PlanError> {
        let Filter { parameter, modifier, values } = filter;
        let name = parameter.code.to_owned();
        let asks_who_lacks = matches!(modifier, Some(Modifier::Missing | Modifier::Not));
        if asks_who_lacks && self.withheld.iter().any(|room| room.leaves_out(resource_type, parameter.code)) {
            let why = "is not indexed of what messages made: who has none, or another one, is not known; ask without :missing and :not";
            return Err(unanswered(parameter, why));
        }
        if let [Operand::Missing(is_missing)] = values.as_slice() {
            return self.missing(resource_type, parameter, *is_missing);
        }
        if parameter.code == "_id" {
            return Ok(self.ids(resource_type, *modifier, values));
        }
        if parameter.code == "_lastUpdated" {
            return self.updated(resource_type, parameter, values);
        }
        let at = self.parameter(resource_type, parameter)?;
        let mut all = Vec::new();
        for value in values {
            all.extend(self.rows(&at, (resource_type, parameter, *modifier), value)?);
        }
        let all = rows::joined(all);
        let rank = all.iter().map(|rows| rows.rank).max().unwrap_or(rank::ALL);
        let any = Check::Any(all.iter().map(Rows::check).collect());
        if *modifier == Some(Modifier::Not) {
            return Ok(Planned::check(Check::Not(Box::new(any)), name));
        }
        let sources: Option<Vec<Source>> = all.iter().map(Rows::source).collect();
        let source = sources.filter(|all| !all.is_empty()).map(one_of);
        Ok(Planned { check: any, source, rank, name, is_alive: true, is_exact: true })
    }

    fn missing(
        &self,
        resource_type: &str,
        parameter: &'static Parameter,
        is_missing: bool,
    ) -> Result<Planned, PlanError> {
        let name = parameter.code.to_owned();
        if ["_id", "_lastUpdated"].contains(&parameter.code) {
            // Every resource has them.
            let check = if is_missing { Check::Any(Vec::new()) } else { Check::All(Vec::new()) };
            return Ok(Planned::check(check, name));
        }
        let at = self.parameter(resource_type, parameter)?;
        let any = match parameter.ty {
            ParameterType::Token => vec![at.any(TOKEN.name)],
            ParameterType::Uri => vec![at.any(URI.name)],
            ParameterType::Reference => vec![at.refers(), at.any(URI.name), at.any(TOKEN.name)],
            ParameterType::String => vec![at.any(STRING.name)],
            ParameterType::Date => vec![at.any(DATE.name)],
            ParameterType::Number | ParameterType::Quantity => vec![at.any(NUMBER.name)],
            ParameterType::Composite => vec![at.any(PAIR.name)],
            ParameterType::Special => return Err(unanswered(parameter, "is not answered so")),
        };
        let there = Check::Any(any.into_iter().map(Check::Has).collect());
        Ok(Planned::check(if is_missing { Check::Not(Box::new(there)) } else { there }, name))
    }

    pub(super) fn ids(&self, resource_type: &str, modifier: Option<Modifier>, values: &[Operand]) -> Planned {
        let mut ids = Vec::new();
        for value in values {
            // An id has no system.
            let Operand::Token(Token { system, code }) = value else { continue };
            let id = FhirId::parse(code).ok().filter(|_| system.as_deref().is_none_or(str::is_empty));
            ids.extend(id.map(|id| (self.chart_id)(resource_type, &id)));
        }
        let all: Vec<Value> = ids.into_iter().map(Value::Id).collect();
        let same = Keep { column: "id", test: Test::In(all.clone()) };
        let any = Check::Has(Probe { keep: vec![same], ..by_row() });
        let name = "_id".to_owned();
        if modifier == Some(Modifier::Not) {
            return Planned::check(Check::Not(Box::new(any)), name);
        }
        let prefix = vec![Term::Is(Value::Text(resource_type.to_owned())), Term::In(all)];
        let source = Source::Walk { probe: Probe::by_key(RESOURCE.name, prefix), subject: "row" };
        Planned { check: any, source: Some(source), rank: rank::ID, name, is_alive: false, is_exact: true }
    }

    fn updated(
        &self,
        resource_type: &str,
        parameter: &'static Parameter,
        values: &[Operand],
    ) -> Result<Planned, PlanError> {
        let mut any = Vec::new();
        for value in values {
            let Operand::Date(prefix, moment) = value else {
                return Err(unanswered(parameter, "is not answered so"));
            };
            let bounds = self.bounds(*prefix, moment, &self.settings.zone);
            any.push(updated::check(resource_type, &self.t(), *prefix, bounds));
        }
        Ok(Planned::check(Check::Any(any), parameter.code.to_owned()))
    }
}
