//! What drives a search, and what is asked of each subject after that. Pure: the same criteria make the same plan, whatever
//! the tables hold, so that the pages of a walk go on in one order.

use std::ops::Range;

use hilum_core::{Authority, Id, Seq, Timestamp};
use hilum_engines::tables::Value;
use hilum_engines::tables::query::{Check, Probe, Query as Tables, Source, Term};
use hilum_fhir::FhirId;
use hilum_fhir::r4::Parameter;
use hilum_fhir::search::query::{Criterion, Query};
use hilum_fhir::search::values::{Kept, Settings, kept, members};

use super::explain::{Does, Step};
use super::permitted::is_permitted;
use super::rows::{At, Rows, rank};
use super::withheld::{Withheld, is_withheld};
use crate::resources::RESOURCE;

/// Why criteria that were read make no plan. Names parameters, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A parameter that is answered, though not so.
    #[error("`{name}` {why}")]
    Unanswered {
        /// The parameter.
        name: &'static str,
        /// How it was asked.
        why: &'static str,
    },
    /// More than one statement holds.
    #[error("the search has too many values, chains or both: ask for less at once")]
    TooComplex,
}

/// What is asked, of what, by whom.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// On whose behalf.
    pub authority: &'a Authority,
    /// The criteria.
    pub query: &'a Query,
    /// The commit whose state is asked; absent: the newest that the query sees.
    pub t: Option<Seq>,
    /// When the walk began: what is about the same as a date goes by it.
    pub began: Timestamp,
    /// What the index was made with.
    pub settings: &'a Settings,
    /// What stands for a logical id in the chart.
    pub chart_id: &'a dyn Fn(&str, &FhirId) -> Id,
    /// Whom no search may find.
    pub withheld: &'a [Withheld],
}

/// How a search is executed.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The query.
    pub query: Tables,
    /// What it does, one thing after the other, for people.
    pub steps: Vec<Step>,
    /// Which of the query's checks ask for what is searched; the others, whether who asks may know of a resource at all.
    pub criteria: Range<usize>,
}

impl Plan {
    /// What drives alone: of what it gives, that which who asks may know of.
    #[must_use]
    pub fn driver(&self) -> Self {
        let mut driver = self.clone();
        driver.query.checks.drain(self.criteria.clone());
        driver
    }
}

/// A criterion as both of what it may be.
pub(super) struct Planned {
    pub(super) check: Check,
    pub(super) source: Option<Source>,
    pub(super) rank: u8,
    pub(super) name: String,
    /// Whether what the source gives is alive at t.
    pub(super) is_alive: bool,
    /// Whether the source gives what the check holds of, and nothing else.
    pub(super) is_exact: bool,
}

impl Planned {
    /// What only asks.
    pub(super) const fn check(check: Check, name: String) -> Self {
        Self { check, source: None, rank: rank::ALL, name, is_alive: true, is_exact: false }
    }
}

/// Plans a search.
///
/// # Errors
/// [`PlanError`].
pub fn plan(asked: &Asked<'_>) -> Result<Plan, PlanError> {
    let resource_type = asked.query.resource_type;
    let mut criteria = Vec::new();
    for criterion in &asked.query.criteria {
        criteria.push(asked.criterion(resource_type, criterion)?);
    }
    let together = asked.together();
    criteria.extend(together.filter(|one| criteria.iter().all(|other| one.rank < other.rank)));
    criteria.sort_by_key(|planned| planned.rank);
    let driver = criteria.iter().position(|planned| planned.source.is_some() && planned.rank < rank::ALL);
    let driver = driver.map(|at| criteria.remove(at));
    let steps = steps(asked, driver.as_ref(), &criteria);
    let is_dead = driver.as_ref().is_some_and(|driver| !driver.is_alive);
    let mut checks = Vec::new();
    let from = match driver {
        Some(Planned { check, source: Some(source), is_exact, .. }) => {
            // A walk of its rows is what it asks; through references it is only where to look.
            if !is_exact {
                checks.push(check);
            }
            source
        }
        _ => asked.all_of(resource_type),
    };
    checks.extend(criteria.into_iter().map(|planned| planned.check));
    let begin = usize::from(!asked.authority.reads_charts()) + usize::from(is_dead);
    let criteria = begin..begin + checks.len();
    let checks = asked.hop(resource_type, is_dead, checks);
    let mut query = Tables { checks, ..Tables::new(from) };
    for key in &asked.query.sort {
        query.sort.push(asked.sort(resource_type, key.parameter, key.descending)?);
    }
    if !query.size().fits() {
        return Err(PlanError::TooComplex);
    }
    Ok(Plan { query, steps, criteria })
}

/// What a plan does, in its order.
fn steps(asked: &Asked<'_>, driver: Option<&Planned>, verify: &[Planned]) -> Vec<Step> {
    let step = |does: Does, criterion: &str, rank: u8| Step { does, criterion: criterion.to_owned(), rank };
    let drives =
        driver.map_or(step(Does::Drives, "", rank::ALL), |one| step(Does::Drives, &one.name, one.rank));
    let mut steps = vec![drives];
    let own = driver.filter(|driver| !driver.is_exact);
    steps.extend(own.into_iter().chain(verify).map(|one| step(Does::Verifies, &one.name, one.rank)));
    if !asked.withheld.is_empty() {
        steps.push(step(Does::Guards, "nobody who is withheld", rank::ALL));
    }
    if asked.authority.patients().is_some() {
        steps.push(step(Does::Guards, "the patients of who asks", rank::ALL));
    }
    steps.extend(asked.query.sort.iter().map(|key| step(Does::Orders, key.parameter.code, rank::ALL)));
    steps
}

pub(super) const fn unanswered(parameter: &Parameter, why: &'static str) -> PlanError {
    PlanError::Unanswered { name: parameter.code, why }
}

impl Asked<'_> {
    pub(super) fn t(&self) -> Value {
        self.t.map_or(Value::ThisSnapshot, Value::Seq)
    }

    pub(super) fn parameter(&self, resource_type: &str, parameter: &Parameter) -> Result<At, PlanError> {
        let kept = kept(resource_type, parameter.code);
        kept.map(|kept| At { kept, t: self.t() }).ok_or(unanswered(parameter, "is not kept in the index"))
    }

    /// The rows that say of each resource of a type that it is there.
    fn alive(&self, resource_type: &str) -> Rows {
        let kept =
            kept(resource_type, "_id").or_else(|| kept("Patient", "_id")).expect("every type has an _id");
        At { kept, t: self.t() }.there()
    }

    fn all_of(&self, resource_type: &str) -> Source {
        let probe = self.alive(resource_type).walk.expect("presence is walked by its key");
        Source::Walk { probe, subject: "subject" }
    }

    /// What is asked of every resource that a search goes through, in this order: that it is there, `holds`, and that who asks
    /// may know. The last costs most, and is asked of what is left.
    pub(super) fn hop(&self, resource_type: &str, is_dead: bool, holds: Vec<Check>) -> Vec<Check> {
        let mut checks = Vec::new();
        if !self.authority.reads_charts() {
            checks.push(Check::Any(Vec::new()));
        }
        if is_dead {
            checks.push(self.alive(resource_type).check());
        }
        checks.extend(holds);
        let withheld = is_withheld(resource_type, self.withheld);
        checks.extend(withheld.map(|withheld| Check::Not(Box::new(withheld))));
        checks.extend(is_permitted(resource_type, self.authority));
        checks
    }

    pub(super) fn criterion(&self, resource_type: &str, criterion: &Criterion) -> Result<Planned, PlanError> {
        match criterion {
            Criterion::Filter(filter) => self.filter(resource_type, filter),
            Criterion::Chain { reference, to } => self.chain(resource_type, reference, to),
            Criterion::Has { resource_type: other, reference, holds } => {
                let at = self.parameter(other, reference)?;
                let name = format!("_has:{other}:{}", reference.code);
                self.has(resource_type, (other, at, name), holds)
            }
            Criterion::Listed(holds) => {
                let (kept, references) = kept("List", "item").zip(members("List")).expect("a List has items");
                let at = At { kept: Kept { references, ..kept }, t: self.t() };
                self.has(resource_type, ("List", at, "_list".to_owned()), holds)
            }
            Criterion::Within(compartment) => self.within(resource_type, compartment),
        }
    }
}

/// The resource of a row.
pub(super) fn by_row() -> Probe {
    Probe::by_index(RESOURCE.name, "by_row", vec![Term::Subject])
}

/// One source, or any of several.
pub(super) fn one_of(mut all: Vec<Source>) -> Source {
    if all.len() == 1 { all.remove(0) } else { Source::Any(all) }
}
