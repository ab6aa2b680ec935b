//! Criteria of what a resource refers to, of what refers to it, and of the compartment it lies in.

use hilum_engines::tables::Value;
use hilum_engines::tables::query::{Check, Probe, Source, Term};
use hilum_fhir::r4::{Parameter, r4};
use hilum_fhir::search::query::{Compartment, Criterion, Operand, Token};

use super::plan::{Asked, PlanError, Planned, by_row, one_of};
use super::rows::{At, is_to, rank};
use crate::resources::RESOURCE;

impl Asked<'_> {
    /// That a resource lies in somebody's or something's compartment: any of the references that put it there, or that it is
    /// the one itself.
    pub(super) fn within(
        &self,
        resource_type: &str,
        compartment: &Compartment,
    ) -> Result<Planned, PlanError> {
        let Compartment { resource_type: whose, id } = compartment;
        let (mut any, mut sources) = (Vec::new(), Vec::new());
        for code in r4().in_compartment(whose, resource_type) {
            let Some(parameter) = r4().parameter(resource_type, code) else { continue };
            let rows = self.parameter(resource_type, parameter)?.reference(whose, (self.chart_id)(whose, id));
            any.push(rows.check());
            sources.extend(rows.source());
        }
        let is_own = resource_type == *whose;
        if is_own {
            let id = Token { system: None, code: id.to_string() };
            let own = self.ids(resource_type, None, &[Operand::Token(id)]);
            any.push(own.check);
            sources.extend(own.source);
        }
        let (check, name) = (Check::Any(any), format!("{whose}/…"));
        let source = (!sources.is_empty()).then(|| one_of(sources));
        Ok(Planned { check, source, rank: rank::REFERENCE, name, is_alive: !is_own, is_exact: true })
    }

    /// Of what a resource refers to.
    pub(super) fn chain(
        &self,
        resource_type: &str,
        reference: &'static Parameter,
        to: &[(&'static str, Criterion)],
    ) -> Result<Planned, PlanError> {
        let at = self.parameter(resource_type, reference)?;
        let (mut any, mut sources, mut rank, mut name) = (Vec::new(), Vec::new(), 0, String::new());
        for (ty, criterion) in to {
            let inner = self.criterion(ty, criterion)?;
            rank = rank.max(inner.rank);
            name = format!("{}.{}", reference.code, inner.name);
            let holds = self.hop(ty, true, vec![inner.check]);
            let mut refers = at.refers();
            refers.keep.push(is_to("type", ty));
            any.push(Check::Each {
                probe: refers,
                subject: "target",
                check: Box::new(Check::Each {
                    probe: by_id(ty),
                    subject: "row",
                    check: Box::new(Check::All(holds)),
                }),
            });
            sources.push(inner.source.map(|source| Source::Follow {
                of: Box::new(Source::Follow { of: Box::new(source), probe: by_row(), subject: "id" }),
                probe: at.referring(ty),
                subject: "subject",
            }));
        }
        let all: Option<Vec<Source>> = sources.into_iter().collect();
        Ok(Planned {
            check: Check::Any(any),
            source: all.filter(|all| !all.is_empty()).map(one_of),
            rank: rank.saturating_add(3).min(rank::ALL),
            name,
            is_alive: true,
            is_exact: false,
        })
    }

    /// Of what refers to a resource, by the rows `at`.
    pub(super) fn has(
        &self,
        resource_type: &str,
        (other, at, name): (&'static str, At, String),
        holds: &Criterion,
    ) -> Result<Planned, PlanError> {
        let inner = self.criterion(other, holds)?;
        let checks = self.hop(other, true, vec![inner.check]);
        let check = Check::Each {
            probe: by_row(),
            subject: "id",
            check: Box::new(Check::Each {
                probe: at.referring(resource_type),
                subject: "subject",
                check: Box::new(Check::All(checks)),
            }),
        };
        let mut refers = at.refers();
        refers.keep.push(is_to("type", resource_type));
        let source = inner.source.map(|source| {
            one_of(vec![Source::Follow {
                of: Box::new(Source::Follow { of: Box::new(source), probe: refers, subject: "target" }),
                probe: by_id(resource_type),
                subject: "row",
            }])
        });
        let name = format!("{name}:{}", inner.name);
        let rank = inner.rank.saturating_add(3).min(rank::ALL);
        Ok(Planned { check, source, rank, name, is_alive: false, is_exact: false })
    }
}

/// The resource of a type's id.
fn by_id(resource_type: &str) -> Probe {
    Probe::by_key(RESOURCE.name, vec![Term::Is(Value::Text(resource_type.to_owned())), Term::Subject])
}
