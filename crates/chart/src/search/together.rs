//! Criteria that a compound leads to (`hilum_fhir::search::values::compound`): one row has what each of them asks for, so that
//! less is looked at than by any of them alone. It only leads: each criterion is asked as ever.

use hilum_engines::tables::Value;
use hilum_engines::tables::query::{Check, Probe, Source, Term};
use hilum_fhir::search::fold::{cut, fold};
use hilum_fhir::search::param::ParamNumber;
use hilum_fhir::search::query::{Criterion, Filter, Operand, Prefix, Target};
use hilum_fhir::search::values::compound::{Coded, Named};
use jiff::tz::TimeZone;

use super::plan::{Asked, Planned};
use super::rows::{behind, rank, text, visible};
use crate::index::tables::{REF, STRING};

impl Asked<'_> {
    /// What drives a search by several of its criteria; absent where no compound has them.
    pub(super) fn together(&self) -> Option<Planned> {
        let resource_type = self.query.resource_type;
        let (probe, name) =
            self.coded(Coded::of(resource_type)).or_else(|| self.named(Named::of(resource_type)?))?;
        let source = Some(Source::Walk { probe, subject: "subject" });
        let check = Check::All(Vec::new());
        Some(Planned { check, source, rank: rank::TOGETHER, name, is_alive: true, is_exact: true })
    }

    /// The values of a parameter that is asked without a modifier.
    fn values(&self, code: &str) -> Option<&[Operand]> {
        self.query.criteria.iter().find_map(|criterion| match criterion {
            Criterion::Filter(Filter { parameter, modifier: None, values }) if parameter.code == code => {
                Some(values.as_slice())
            }
            _ => None,
        })
    }

    fn coded(&self, coded: Option<Coded>) -> Option<(Probe, String)> {
        let Coded { reference, code, number, .. } = coded?;
        let codes: Option<Vec<Value>> = self.values(code)?.iter().map(code_of).collect();
        let prefix = vec![param(number), one_of(codes?), one_of(self.patients(reference)?)];
        let probe = Probe { keep: visible(&self.t()), ..Probe::by_key(REF.name, prefix) };
        Some((probe, format!("{reference} + {code}")))
    }

    /// The Patients to one of whom a reference is asked to lead.
    fn patients(&self, reference: &str) -> Option<Vec<Value>> {
        let values = self.values(reference);
        let (values, leads_to_others) = match values {
            Some(values) => (values, false),
            None => (self.values("subject")?, true),
        };
        let patient = |value: &Operand| {
            match value {
                Operand::Reference(Target::Local { resource_type: "Patient", id }) => Some(id),
                Operand::Reference(Target::Id(id)) if !leads_to_others => Some(id),
                _ => None,
            }
            .map(|id| Value::Id((self.chart_id)("Patient", id)))
        };
        values.iter().map(patient).collect()
    }

    fn named(&self, Named { codes: [day, code, beginning], number, .. }: Named) -> Option<(Probe, String)> {
        let [Operand::Date(Prefix::Equal, moment)] = self.values(day)? else { return None };
        let [Operand::Token(token)] = self.values(code)? else { return None };
        let bounds = moment.bounds(&TimeZone::UTC);
        let (begins, name) = match self.values(beginning) {
            Some([Operand::Text(text)]) => (fold(text), format!("{day} + {code} + {beginning}")),
            _ => (String::new(), format!("{day} + {code}")),
        };
        let begins = Named::text(bounds, &cut(&token.code), &begins).filter(|_| !token.code.is_empty())?;
        let keep = visible(&self.t());
        let (from, to) = (Some(text(begins.clone())), Some(behind(&begins)));
        Some((Probe { from, to, keep, ..Probe::by_key(STRING.name, vec![param(number)]) }, name))
    }
}

fn param(number: ParamNumber) -> Term {
    Term::Is(Value::Int(number.get()))
}

/// What stands for a code, whatever its system.
fn code_of(value: &Operand) -> Option<Value> {
    let Operand::Token(token) = value else { return None };
    (!token.code.is_empty()).then(|| Value::Int(Coded::code(&cut(&token.code))))
}

fn one_of(mut values: Vec<Value>) -> Term {
    if values.len() == 1 { Term::Is(values.remove(0)) } else { Term::In(values) }
}
