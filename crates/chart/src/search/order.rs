//! What an answer is ordered by.

use hilum_engines::tables::Value;
use hilum_engines::tables::query::{Keep, Key, Probe, Sort, Term, Test};
use hilum_fhir::r4::{Parameter, ParameterType};

use super::plan::{Asked, PlanError, unanswered};
use super::rows::{behind, text};
use super::updated;
use crate::index::tables::{DATE, NUMBER, STRING, TOKEN, URI};

impl Asked<'_> {
    pub(super) fn sort(
        &self,
        resource_type: &str,
        parameter: &'static Parameter,
        descending: bool,
    ) -> Result<Sort, PlanError> {
        if parameter.code == "_lastUpdated" {
            return Ok(Sort { key: updated::key(resource_type, &self.t()), descending });
        }
        let at = self.parameter(resource_type, parameter)?;
        let ends = if descending { "high" } else { "low" };
        let (probe, column) = match parameter.ty {
            ParameterType::String => (at.any(STRING.name), "folded"),
            ParameterType::Date => (at.any(DATE.name), ends),
            ParameterType::Number | ParameterType::Quantity => {
                let mut probe = at.any(NUMBER.name);
                probe.prefix.push(Term::Is(Value::Text(String::new())));
                if parameter.ty == ParameterType::Quantity {
                    // By how much it is, where UCUM says it: 5 mg is less than 1 g. Else by the number as it is written.
                    let (from, to) = (Some(text("ucum:")), Some(behind("ucum:")));
                    let canonical = Probe { from, to, ..at.any(NUMBER.name) };
                    let keys = [canonical, probe].map(|probe| Key::Of { probe, column: ends });
                    return Ok(Sort { key: Key::First(keys.into()), descending });
                }
                (probe, ends)
            }
            ParameterType::Token if parameter.code == "_id" => (at.there().of, ends),
            ParameterType::Token => {
                let mut probe = at.any(TOKEN.name);
                probe.keep.push(Keep { column: "code", test: Test::Above(Value::Text(String::new())) });
                (probe, "code")
            }
            ParameterType::Uri => (at.any(URI.name), "value"),
            ParameterType::Reference | ParameterType::Composite | ParameterType::Special => {
                return Err(unanswered(parameter, "is no key of an order"));
            }
        };
        Ok(Sort { key: Key::Of { probe, column }, descending })
    }
}
