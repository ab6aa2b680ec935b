//! What lies in a patient's compartment, type by type.

use hilum_core::{Authority, Id, Seq, Timestamp};
use hilum_engines::tables::Value;
use hilum_engines::tables::query::{Check, Keep, Probe, Query, Source, Term, Test};
use hilum_fhir::search::param::{ParamNumber, type_number};
use hilum_fhir::search::query::Prefix;
use hilum_fhir::search::values::{kept, ties};

use super::permitted::is_permitted;
use super::rows::visible;
use super::withheld::{Withheld, is_withheld};
use super::{Plan, PlanError, updated};
use crate::index::tables::{DATE, REF};
use crate::resources::RESOURCE;

/// What of a compartment is asked for, by whom.
#[derive(Debug, Clone, Copy)]
pub struct Compartment<'a> {
    /// On whose behalf.
    pub authority: &'a Authority,
    /// The patient's id in the chart.
    pub patient: Id,
    /// The commit whose state is asked; absent: the newest that the query sees.
    pub t: Option<Seq>,
    /// Whose version was written then or later.
    pub since: Option<Timestamp>,
    /// Whose `date` touches this period, where the type has such a parameter and the resource a value.
    pub period: Option<(Timestamp, Timestamp)>,
    /// Whom no search may find.
    pub withheld: &'a [Withheld],
}

impl Compartment<'_> {
    /// Resources of one type; absent where none of it lies in a patient's compartment. Ordered by their rows.
    ///
    /// # Errors
    /// [`PlanError::TooComplex`].
    pub fn of_type(&self, resource_type: &str) -> Result<Option<Plan>, PlanError> {
        let patients = Value::Int(type_number("Patient").unwrap_or_default());
        let t = self.t.map_or(Value::ThisSnapshot, Value::Seq);
        let walk = |param: ParamNumber| {
            let prefix = [Value::Int(param.get()), patients.clone(), Value::Id(self.patient)];
            let prefix = prefix.into_iter().map(Term::Is).collect();
            let probe = Probe { keep: visible(&t), ..Probe::by_key(REF.name, prefix) };
            Source::Walk { probe, subject: "subject" }
        };
        let mut sources: Vec<Source> = ties(resource_type).into_iter().map(walk).collect();
        if resource_type == "Patient" {
            let key = vec![Term::Is(Value::Text("Patient".to_owned())), Term::Is(Value::Id(self.patient))];
            sources.push(Source::Walk { probe: Probe::by_key(RESOURCE.name, key), subject: "row" });
        }
        let mut query = match sources.len() {
            0 => return Ok(None),
            1 => Query::new(sources.remove(0)),
            _ => Query::new(Source::Any(sources)),
        };
        if !self.authority.reads_charts() {
            query.checks.push(Check::Any(Vec::new()));
        }
        let withheld = is_withheld(resource_type, self.withheld);
        query.checks.extend(withheld.map(|withheld| Check::Not(Box::new(withheld))));
        query.checks.extend(is_permitted(resource_type, self.authority));
        let begin = query.checks.len();
        if let Some(since) = self.since {
            query.checks.push(updated::check(resource_type, &t, Prefix::GreaterOrEqual, (since, since)));
        }
        let dated = kept(resource_type, "date").map(|kept| kept.number).zip(self.period);
        query.checks.extend(dated.map(|(param, period)| within(param, period, &t)));
        let criteria = begin..query.checks.len();
        if !query.size().fits() {
            return Err(PlanError::TooComplex);
        }
        Ok(Some(Plan { query, steps: Vec::new(), criteria }))
    }
}

/// Whether a date touches a period, or there is none.
fn within(param: ParamNumber, (low, high): (Timestamp, Timestamp), t: &Value) -> Check {
    let prefix = vec![Term::Is(Value::Int(param.get())), Term::Subject];
    let any = Probe { keep: visible(t), ..Probe::by_index(DATE.name, "by_subject", prefix) };
    let mut touching = any.clone();
    touching.keep.push(Keep { column: "low", test: Test::AtMost(Value::Time(high)) });
    touching.keep.push(Keep { column: "high", test: Test::AtLeast(Value::Time(low)) });
    Check::Any(vec![Check::Has(touching), Check::Not(Box::new(Check::Has(any)))])
}
