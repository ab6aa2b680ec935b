//! Composites: values of several parameters that one element has, in one row, so that 120 is not taken for what is 80.

use hilum_core::Timestamp;

use super::convert::Converter;
use super::{Compiled, Extracted, Settings, System, Value};
use crate::json::Json;
use crate::path::{Found, Path, Resolved};
use crate::r4::{Parameter, ParameterType, Shape, r4};
use crate::search::fold::cut;
use crate::search::param::ParamNumber;

/// Values side by side. The first is a token: it is in all of R4's composites, but for DocumentReference's `relationship`, whose
/// reference is the second here. The second by its kind:
///
/// | second | `second` | `low`, `high` | `of` |
/// |---|---|---|---|
/// | token | the code | empty | its system |
/// | quantity, number | the unit, as in [`Value::Number`] | the bytes of the ends | [`Pair::unit`] of a unit as it is written; else 0 |
/// | date | empty | [`Pair::instant`] of the ends | 0 |
/// | string | folded | empty | `exact` |
/// | reference | `Type/id`, cut; or the address | empty | 0 |
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// The first's code, cut.
    pub code: String,
    /// The first's system.
    pub system: System,
    /// See above.
    pub second: String,
    /// See above.
    pub low: Vec<u8>,
    /// See above.
    pub high: Vec<u8>,
    /// See above.
    pub of: i64,
    /// Of a composite of three the third's number; else empty.
    pub third: Vec<u8>,
}

impl Pair {
    /// A unit as it is written, by its code or its text.
    pub fn unit(code: &str) -> i64 {
        if code.is_empty() { 0 } else { System::of(code).get() }
    }

    /// An instant, in bytes that compare as instants do.
    pub fn instant(at: Timestamp) -> [u8; 8] {
        (at.as_micros() ^ i64::MIN).to_be_bytes()
    }

    fn of(first: &Value, second: &Value, third: Option<&Value>) -> Option<Self> {
        let Value::Token { code, system } = first else { return None };
        let (second, low, high, of) = match second {
            Value::Token { code, system } => (code.clone(), Vec::new(), Vec::new(), system.get()),
            Value::Number { unit, low, high, code, .. } => {
                (unit.clone(), low.as_bytes().to_vec(), high.as_bytes().to_vec(), Self::unit(code))
            }
            Value::Date { low, high } => {
                (String::new(), Self::instant(*low).to_vec(), Self::instant(*high).to_vec(), 0)
            }
            Value::String { folded, exact } => (folded.clone(), Vec::new(), Vec::new(), *exact),
            Value::Reference { resource_type, id } => {
                let place = format!("{resource_type}/{}", id.as_str());
                (cut(&place).into_owned(), Vec::new(), Vec::new(), 0)
            }
            Value::Uri(address) => (address.clone(), Vec::new(), Vec::new(), 0),
            Value::System(_) | Value::There { .. } | Value::Pair(_) | Value::Coded { .. } => return None,
        };
        let third = match third {
            Some(Value::Number { low, .. }) => low.as_bytes().to_vec(),
            Some(_) => return None,
            None => Vec::new(),
        };
        Some(Self { code: code.clone(), system: *system, second, low, high, of, third })
    }
}

/// A composite of one type.
pub(super) struct Composite {
    number: ParamNumber,
    path: Resolved,
    parts: Vec<Part>,
}

struct Part {
    /// As if it were a parameter of its own: for each type of element that the composite leads to.
    by_type: Vec<(&'static str, Compiled)>,
    /// Whether it stands below the resource, wherever the composite's element is.
    is_at_top: bool,
}

impl Composite {
    pub(super) fn new(shape: &'static Shape, parameter: &'static Parameter) -> Option<Self> {
        let number = ParamNumber::of(shape.path, parameter.code)?;
        let path = Path::of(parameter, shape.path).ok()?;
        let elements = path.types(r4(), shape);
        let part = |(id, expression): &(&str, &'static str)| {
            let of = r4().parameters().iter().find(|one| one.id == *id)?;
            let path = Path::below(expression).ok()?;
            let is_at_top = expression.starts_with("%resource");
            let by_type = elements.iter().filter_map(|element| {
                let from = if is_at_top { shape } else { r4().shape(element)? };
                let path = path.resolve(r4(), from);
                let (is_nominal, leaves_references, has_texts) = (false, false, false);
                Some((
                    *element,
                    Compiled { number, ty: of.ty, path, is_nominal, leaves_references, has_texts },
                ))
            });
            Some(Part { by_type: by_type.collect(), is_at_top })
        };
        let mut components = parameter.components.clone();
        // The official definition gives the code's place to the reference, and that of the reference to the code.
        if let ("DocumentReference-relationship", [(_, one), (_, other)]) =
            (parameter.id, components.as_mut_slice())
        {
            std::mem::swap(one, other);
            components.reverse();
        }
        let parts: Vec<Part> = components.iter().filter_map(part).collect();
        let is_known = parts.len() == parameter.components.len() && (2..=3).contains(&parts.len());
        let is_code = |(_, of): &(&str, Compiled)| of.ty == ParameterType::Token;
        let has_code = parts.first().is_some_and(|part| part.by_type.iter().all(is_code));
        (is_known && has_code).then(|| Self { number, path: path.resolve(r4(), shape), parts })
    }

    pub(super) const fn number(&self) -> ParamNumber {
        self.number
    }

    pub(super) fn add(&self, resource: &Json<'_>, settings: &Settings, out: &mut Extracted) {
        let mut elements = Vec::new();
        self.path.walk(r4(), resource, &mut elements);
        for found in elements {
            let Found::Element(element, ty) = found else { continue };
            let values = |part: &Part| {
                let mut of = Extracted::default();
                let Some((_, parameter)) = part.by_type.iter().find(|(of, _)| *of == ty) else {
                    return of.values;
                };
                let mut found = Vec::new();
                parameter.path.walk(r4(), if part.is_at_top { resource } else { element }, &mut found);
                for found in &found {
                    Converter { parameter, settings, out: &mut of }.add(found);
                }
                // Who is named by a number is not beside it as an address.
                if parameter.ty == ParameterType::Reference {
                    of.values.retain(|entry| matches!(entry.value, Value::Reference { .. } | Value::Uri(_)));
                }
                of.values
            };
            let mut parts = self.parts.iter().map(values);
            let (Some(first), Some(second)) = (parts.next(), parts.next()) else { continue };
            let third = parts.next();
            let thirds: Vec<Option<&Value>> = match &third {
                Some(third) => third.iter().map(|entry| Some(&entry.value)).collect(),
                None => vec![None],
            };
            for (one, two) in first.iter().flat_map(|one| second.iter().map(move |two| (one, two))) {
                for three in &thirds {
                    if out.too_many {
                        return;
                    }
                    if let Some(pair) = Pair::of(&one.value, &two.value, *three) {
                        out.push(self.number, Value::Pair(pair));
                    }
                }
            }
        }
    }
}
