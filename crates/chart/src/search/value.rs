//! The rows of one value, by what it is.

use hilum_core::Timestamp;
use hilum_engines::tables::Value;
use hilum_engines::tables::query::{Keep, Test};
use hilum_fhir::FhirId;
use hilum_fhir::r4::{Parameter, ParameterType, r4};
use hilum_fhir::search::fold::cut;
use hilum_fhir::search::implied::system_of;
use hilum_fhir::search::query::{Modifier, Moment, Operand, Prefix, Target, Token};
use hilum_fhir::search::unit::{Canonical, UCUM};
use hilum_fhir::search::values::{System, is_nominal, texts};
use jiff::tz::TimeZone;

use super::plan::{Asked, PlanError, unanswered};
use super::rows::{self, At, Rows, rank};
use crate::limits::{ABOVE_MAX, SEARCH_TYPES_MAX};

impl Asked<'_> {
    /// The rows of one value.
    pub(super) fn rows(
        &self,
        at: &At,
        (resource_type, parameter, modifier): (&str, &'static Parameter, Option<Modifier>),
        value: &Operand,
    ) -> Result<Vec<Rows>, PlanError> {
        Ok(match value {
            // Whoever asks has put codes in their place.
            Operand::ValueSet(_) => return Err(unanswered(parameter, "by a value set is not answered here")),
            Operand::Token(_) if matches!(modifier, Some(Modifier::Above | Modifier::Below)) => {
                return Err(unanswered(parameter, "by a code above or below is not answered here"));
            }
            Operand::OfType { ty, value } => vec![at.of_type(ty, value)],
            Operand::Token(token) => {
                // What an element of type code leaves out is what its binding says.
                let system = token.system.as_deref().filter(|system| !system.is_empty());
                let is_implied = system.is_some() && system == system_of(resource_type, parameter);
                let bare = Token { system: Some(String::new()), code: token.code.clone() };
                let token = if is_implied { &bare } else { token };
                let is_identifier = parameter.code == "identifier" || modifier == Some(Modifier::Identifier);
                let rank = match (token.code.is_empty(), is_identifier) {
                    (true, _) => rank::ALL,
                    (false, true) => rank::IDENTIFIER,
                    (false, false) => rank::CODE,
                };
                vec![at.token(token, rank)]
            }
            Operand::Text(text) if parameter.ty == ParameterType::Uri => match modifier {
                Some(Modifier::Below) => vec![at.uri(text), at.uris_below(text)],
                Some(Modifier::Above) => above(text).into_iter().map(|above| at.uri(above)).collect(),
                _ => vec![at.uri(text)],
            },
            Operand::Text(text) => match modifier {
                Some(Modifier::Text) => {
                    let numbers = texts(resource_type, parameter.code);
                    numbers.iter().map(|number| at.called(*number, text)).collect()
                }
                Some(Modifier::Exact) => vec![at.exactly(text)],
                Some(Modifier::Contains) => vec![at.contains(text)],
                _ => vec![at.begins(text)],
            },
            Operand::Reference(target) => self.target(at, parameter, target)?,
            Operand::Date(prefix, moment) => {
                let zone = if is_nominal(resource_type, parameter.code) {
                    TimeZone::UTC
                } else {
                    self.settings.zone.clone()
                };
                at.dates(*prefix, self.bounds(*prefix, moment, &zone))
            }
            Operand::Number(prefix, number) => {
                at.numbers(*prefix, &rows::Asked::of(number, Clone::clone), &at.in_unit("", None), &[])
            }
            Operand::Quantity { prefix, number, system, code } => {
                let plain = rows::Asked::of(number, Clone::clone);
                let mut more = Vec::new();
                if !system.is_empty() {
                    let system = Value::Int(System::of(system).get());
                    more.push(Keep { column: "system", test: Test::Is(system) });
                }
                if !code.is_empty() {
                    more.push(Keep { column: "code", test: Test::Is(Value::Text(cut(code).into_owned())) });
                }
                // What UCUM knows is found in whichever unit it was written.
                let canonical = (system == UCUM).then(|| Canonical::of(code)).flatten();
                match canonical {
                    Some(canonical) => {
                        let asked = rows::Asked::of(number, |decimal| canonical.of_number(decimal));
                        at.numbers(*prefix, &asked, &at.in_unit(&canonical.unit, None), &[])
                    }
                    None => at.numbers(*prefix, &plain, &at.in_unit("", None), &more),
                }
            }
            Operand::Parts(parts) => return self.parts(at, parameter, parts),
            Operand::Missing(_) => return Err(unanswered(parameter, "is not answered so")),
        })
    }

    /// What a prefix compares with; about the same is within a tenth of how long it is ago, or ahead.
    pub(super) fn bounds(&self, prefix: Prefix, moment: &Moment, zone: &TimeZone) -> (Timestamp, Timestamp) {
        let (low, high) = moment.bounds(zone);
        if prefix != Prefix::About {
            return (low, high);
        }
        let (low, high) = (low.as_micros(), high.as_micros());
        let middle = low / 2 + high / 2;
        let off = i64::try_from(self.began.as_micros().abs_diff(middle) / 10).unwrap_or(i64::MAX);
        (Timestamp::from_micros(low.saturating_sub(off)), Timestamp::from_micros(high.saturating_add(off)))
    }

    fn target(
        &self,
        at: &At,
        parameter: &'static Parameter,
        target: &Target,
    ) -> Result<Vec<Rows>, PlanError> {
        Ok(match target {
            Target::Local { resource_type, id } => {
                vec![at.reference(resource_type, (self.chart_id)(resource_type, id))]
            }
            Target::Id(id) => {
                if parameter.targets.is_empty() || parameter.targets.len() > SEARCH_TYPES_MAX {
                    return Err(unanswered(parameter, "leads to resources of many types: say Type/id"));
                }
                let targets = parameter.targets.iter();
                targets.map(|ty| at.reference(ty, (self.chart_id)(ty, id))).collect()
            }
            Target::Address(address) => {
                let own = self
                    .settings
                    .bases
                    .iter()
                    .find_map(|base| address.strip_prefix(base.as_str())?.strip_prefix('/'));
                let mut parts = own.into_iter().flat_map(|own| own.split('/'));
                let ty = parts.next().and_then(|ty| r4().resource_types().find(|known| *known == ty));
                let id = parts.next().and_then(|id| FhirId::parse(id).ok());
                match (ty, id) {
                    // A canonical address is kept as it is written, whoever's it is.
                    (Some(ty), Some(id)) => {
                        vec![at.reference(ty, (self.chart_id)(ty, &id)), at.uri(address)]
                    }
                    _ => vec![at.uri(address)],
                }
            }
        })
    }
}

/// An address and those above it: each part behind a `/` less.
fn above(address: &str) -> Vec<&str> {
    let path = address.split_once("://").map_or(0, |(scheme, _)| scheme.len() + 3);
    let ends = address.char_indices().filter(|(at, sign)| *sign == '/' && *at > path);
    let mut all: Vec<&str> =
        ends.flat_map(|(at, _)| [address.get(..at), address.get(..=at)]).flatten().collect();
    all.push(address);
    all.dedup();
    all.truncate(ABOVE_MAX);
    all
}
