//! From an element to values: one arm for each pair of a parameter's and an element's type that R4 has.

use hilum_core::Timestamp;
use jiff::tz::TimeZone;

use super::{Compiled, Extracted, Settings, System, Value};
use crate::date::DateTime;
use crate::json::Json;
use crate::path::Found;
use crate::r4::{ParameterType, r4};
use crate::reference::Reference;
use crate::resource::FhirId;
use crate::search::fold::{cut, exact, fold};
use crate::search::number::{Decimal, Ordered};
use crate::search::unit::{Canonical, UCUM};

/// The system of a currency.
const CURRENCY: &str = "urn:iso:std:iso:4217";
/// The parts of a name that a search for the name looks at.
const NAME_PARTS: [&str; 5] = ["text", "family", "given", "prefix", "suffix"];
/// The parts of an address.
const ADDRESS_PARTS: [&str; 7] = ["text", "line", "city", "district", "state", "postalCode", "country"];

/// Adds the values of one parameter.
pub(super) struct Converter<'a> {
    pub(super) parameter: &'a Compiled,
    pub(super) settings: &'a Settings,
    pub(super) out: &'a mut Extracted,
}

impl Converter<'_> {
    pub(super) fn add(&mut self, found: &Found<'_>) {
        let (json, ty) = match *found {
            Found::Truth(truth) => return self.token(if truth { "true" } else { "false" }, System::NONE),
            Found::Element(json, ty) => (json, ty),
        };
        match self.parameter.ty {
            ParameterType::Token => self.tokens(json, ty),
            ParameterType::String => self.strings(json, ty),
            ParameterType::Date => self.dates(json, ty),
            ParameterType::Number => self.numbers(json, ty),
            ParameterType::Quantity => self.quantities(json, ty),
            ParameterType::Reference => self.references(json, ty),
            ParameterType::Uri => self.addresses(json),
            ParameterType::Composite | ParameterType::Special => {}
        }
    }

    fn push(&mut self, value: Value) {
        self.out.push(self.parameter.number, value);
    }

    fn token(&mut self, code: &str, system: System) {
        self.push(Value::Token { code: cut(code).into_owned(), system });
    }

    fn tokens(&mut self, json: &Json<'_>, ty: &str) {
        match (ty, json) {
            ("CodeableConcept", _) => {
                self.called(text(json, "text"));
                json.get("coding").map_or(&[][..], Json::elements).iter().for_each(|one| self.coding(one));
            }
            ("Coding", _) => self.coding(json),
            ("Identifier", _) => {
                self.identifier(json);
                self.called(json.get("type").and_then(|kind| text(kind, "text")));
            }
            // What a phone number is of (`phone`, `home`) is no system of codes.
            ("ContactPoint", _) => self.coded(text(json, "value"), None),
            (_, Json::Bool(truth)) => self.token(if *truth { "true" } else { "false" }, System::NONE),
            (_, Json::String(code)) if !code.is_empty() => self.token(code, System::NONE),
            _ => {}
        }
    }

    fn coding(&mut self, json: &Json<'_>) {
        self.coded(text(json, "code"), text(json, "system"));
        self.called(text(json, "display"));
    }

    /// What a code is called; however it is written, once.
    fn called(&mut self, written: Option<&str>) {
        let folded = written.map(fold).filter(|folded| !folded.is_empty());
        if let Some(folded) = folded.filter(|_| self.parameter.has_texts) {
            self.out.push(self.parameter.number.text(), Value::String { folded, exact: 0 });
        }
    }

    /// A code, or a system without one: that has no token, and is there all the same.
    fn coded(&mut self, code: Option<&str>, system: Option<&str>) {
        let of = system.map_or(System::NONE, System::of);
        match (code, system) {
            (Some(code), _) => self.token(code, of),
            (None, Some(_)) => self.push(Value::System(of)),
            (None, None) => {}
        }
    }

    fn identifier(&mut self, json: &Json<'_>) {
        let value = text(json, "value");
        self.coded(value, text(json, "system"));
        let Some(value) = value else { return };
        let kinds = json.get("type").and_then(|kind| kind.get("coding")).map_or(&[][..], Json::elements);
        for kind in kinds {
            let Some(code) = text(kind, "code") else { continue };
            let value =
                Value::Token { code: cut(value).into_owned(), system: of_type(text(kind, "system"), code) };
            self.out.push(self.parameter.number.of_type(), value);
        }
    }

    fn strings(&mut self, json: &Json<'_>, ty: &str) {
        let parts: &[&str] = match ty {
            "HumanName" => &NAME_PARTS,
            "Address" => &ADDRESS_PARTS,
            _ => return self.string(json),
        };
        for part in parts {
            for one in json.get(part).map_or(&[][..], Json::elements) {
                self.string(one);
            }
        }
    }

    fn string(&mut self, json: &Json<'_>) {
        let Some(written) = json.as_str() else { return };
        let folded = fold(written);
        if !folded.is_empty() {
            self.push(Value::String { folded, exact: exact(written) });
        }
    }

    fn dates(&mut self, json: &Json<'_>, ty: &str) {
        match ty {
            "Period" => self.period(json),
            "Timing" => {
                for event in json.get("event").map_or(&[][..], Json::elements) {
                    self.date(event);
                }
                if let Some(bounds) = json.get("repeat").and_then(|repeat| repeat.get("boundsPeriod")) {
                    self.period(bounds);
                }
            }
            // An age or a text is no date.
            _ => self.date(json),
        }
    }

    fn date(&mut self, json: &Json<'_>) {
        if let Some((low, high)) = self.bounds(Some(json)) {
            self.push(Value::Date { low, high });
        }
    }

    fn period(&mut self, json: &Json<'_>) {
        let (start, end) = (self.bounds(json.get("start")), self.bounds(json.get("end")));
        if start.is_none() && end.is_none() {
            return;
        }
        let low = start.map_or(Timestamp::from_micros(i64::MIN), |(low, _)| low);
        let high = end.map_or(Timestamp::from_micros(i64::MAX), |(_, high)| high);
        self.push(Value::Date { low, high });
    }

    fn bounds(&self, json: Option<&Json<'_>>) -> Option<(Timestamp, Timestamp)> {
        let date = DateTime::parse(json?.as_str()?)?;
        let zone = if self.parameter.is_nominal { &TimeZone::UTC } else { &self.settings.zone };
        Some(date.bounds(zone))
    }

    fn numbers(&mut self, json: &Json<'_>, ty: &str) {
        let (low, high) = match (ty, json) {
            ("Range", _) => (number(json.get("low"), "value"), number(json.get("high"), "value")),
            (_, Json::Number(written)) => (Decimal::parse(written), Decimal::parse(written)),
            _ => return,
        };
        if low.is_some() || high.is_some() {
            self.quantity(low.as_ref(), high.as_ref(), &Unit::default());
        }
    }

    fn quantities(&mut self, json: &Json<'_>, ty: &str) {
        match ty {
            "Range" => {
                let (low, high) = (json.get("low"), json.get("high"));
                let unit = low.or(high).map(Unit::of).unwrap_or_default();
                let (low, high) = (number(low, "value"), number(high, "value"));
                if low.is_some() || high.is_some() {
                    self.quantity(low.as_ref(), high.as_ref(), &unit);
                }
            }
            "SampledData" => {
                if let Some((low, high)) = sampled(json) {
                    let unit = json.get("origin").map(Unit::of).unwrap_or_default();
                    self.quantity(Some(&low), Some(&high), &unit);
                }
            }
            "Money" => {
                let Some(value) = number(Some(json), "value") else { return };
                let unit = Unit { system: Some(CURRENCY), code: text(json, "currency"), written: None };
                self.quantity(Some(&value), Some(&value), &unit);
            }
            _ => {
                let Some(value) = number(Some(json), "value") else { return };
                let (low, high) = match text(json, "comparator") {
                    Some("<" | "<=") => (None, Some(&value)),
                    Some(">" | ">=") => (Some(&value), None),
                    _ => (Some(&value), Some(&value)),
                };
                self.quantity(low, high, &Unit::of(json));
            }
        }
    }

    /// As written, by its code and where that differs by its unit; and in the canonical unit.
    fn quantity(&mut self, low: Option<&Decimal>, high: Option<&Decimal>, unit: &Unit<'_>) {
        let ends = |of: &dyn Fn(&Decimal) -> Decimal| {
            let low = low.map_or_else(Ordered::least, |low| of(low).ordered());
            (low, high.map_or_else(Ordered::greatest, |high| of(high).ordered()))
        };
        let (least, most) = ends(&Decimal::clone);
        let system = unit.system.map_or(System::NONE, System::of);
        let as_text = unit.written.filter(|text| Some(*text) != unit.code).map(|text| (System::NONE, text));
        let coded = unit.code.map(|code| (system, code));
        let mut written: Vec<(System, &str)> = coded.into_iter().chain(as_text).collect();
        if written.is_empty() {
            written.push((system, ""));
        }
        for (system, code) in written {
            let (low, high) = (least.clone(), most.clone());
            let code = cut(code).into_owned();
            self.push(Value::Number { unit: String::new(), low, high, system, code });
        }
        let ucum = unit.code.filter(|_| unit.system == Some(UCUM));
        if let Some(canonical) = ucum.and_then(Canonical::of) {
            let (low, high) = ends(&|number| canonical.of_number(number));
            let (unit, code) = (canonical.unit, String::new());
            self.push(Value::Number { unit, low, high, system: System::NONE, code });
        }
    }

    fn references(&mut self, json: &Json<'_>, ty: &str) {
        match ty {
            "Reference" => {
                if let Some(written) = text(json, "reference") {
                    self.reference(written);
                }
                if let Some(identifier) = json.get("identifier") {
                    self.coded(text(identifier, "value"), text(identifier, "system"));
                }
            }
            // The first entry of a document or a message: the resource itself.
            "Resource" => {
                let (ty, id) = (text(json, "resourceType"), text(json, "id"));
                if let Some((ty, id)) = ty.zip(id) {
                    self.local(ty, FhirId::parse(id).ok());
                }
            }
            "Attachment" => {
                if let Some(address) = json.get("url") {
                    self.addresses(address);
                }
            }
            _ => self.canonical(json),
        }
    }

    /// A canonical address; one that is relative leads to a resource here.
    fn canonical(&mut self, json: &Json<'_>) {
        if json.as_str().is_some_and(|address| address.starts_with('#')) {
            return self.contained();
        }
        self.addresses(json);
        let unversioned =
            json.as_str().map(|address| address.split_once('|').map_or(address, |(own, _)| own));
        if let Some(Ok(Reference::Relative { resource_type, id, .. })) = unversioned.map(str::parse) {
            self.local(resource_type.as_str(), Some(id));
        }
    }

    /// To what is within the resource: no search leads there, but the parameter is not missing.
    fn contained(&mut self) {
        self.push(Value::Uri("#".to_owned()));
    }

    /// A literal reference, without its version: local where it is to this server.
    fn reference(&mut self, written: &str) {
        let bases = self.settings.bases.iter().map(String::as_str);
        let mut own = bases.filter_map(|base| written.strip_prefix(base)?.strip_prefix('/'));
        let address = own.next().unwrap_or(written);
        match address.parse() {
            Ok(Reference::Relative { resource_type, id, .. }) => self.local(resource_type.as_str(), Some(id)),
            Ok(Reference::Contained(_)) => self.contained(),
            Ok(Reference::Absolute(_) | Reference::Urn(_)) | Err(_) => {
                let unversioned = address.split_once("/_history/").map_or(address, |(address, _)| address);
                self.push(Value::Uri(cut(unversioned).into_owned()));
            }
        }
    }

    fn local(&mut self, resource_type: &str, id: Option<FhirId>) {
        let known = r4().resource_types().find(|known| *known == resource_type);
        if let Some((resource_type, id)) = known.zip(id).filter(|_| !self.parameter.leaves_references) {
            self.push(Value::Reference { resource_type, id });
        }
    }

    /// An address as it is, and a canonical one that names its version without that too.
    fn addresses(&mut self, json: &Json<'_>) {
        let Some(address) = json.as_str().filter(|address| !address.is_empty()) else { return };
        self.push(Value::Uri(cut(address).into_owned()));
        if let Some((unversioned, _)) = address.rsplit_once('|').filter(|(before, _)| !before.is_empty()) {
            self.push(Value::Uri(cut(unversioned).into_owned()));
        }
    }
}

/// What stands for an identifier's type where `:of-type` asks for it.
pub fn of_type(system: Option<&str>, code: &str) -> System {
    System::of(&format!("{}|{code}", system.unwrap_or_default()))
}

/// The unit of a quantity.
#[derive(Default)]
struct Unit<'a> {
    system: Option<&'a str>,
    code: Option<&'a str>,
    /// As people read it.
    written: Option<&'a str>,
}

impl<'a> Unit<'a> {
    fn of(json: &'a Json<'_>) -> Self {
        Self { system: text(json, "system"), code: text(json, "code"), written: text(json, "unit") }
    }
}

fn text<'a>(json: &'a Json<'_>, name: &str) -> Option<&'a str> {
    json.get(name).and_then(Json::as_str).filter(|text| !text.is_empty())
}

fn number(json: Option<&Json<'_>>, name: &str) -> Option<Decimal> {
    match json?.get(name) {
        Some(Json::Number(written)) => Decimal::parse(written),
        _ => None,
    }
}

/// The least and the greatest of what was measured.
fn sampled(json: &Json<'_>) -> Option<(Decimal, Decimal)> {
    let origin = number(json.get("origin"), "value")?;
    let factor = number(Some(json), "factor");
    let mut ends: Option<(Decimal, Decimal)> = None;
    for sample in text(json, "data")?.split_ascii_whitespace() {
        let value = match sample {
            "L" => number(Some(json), "lowerLimit"),
            "U" => number(Some(json), "upperLimit"),
            _ => Decimal::parse(sample),
        };
        let Some(value) = value else { continue };
        let value = factor.as_ref().map_or_else(|| value.clone(), |factor| value.times(factor)).plus(&origin);
        ends = Some(match ends {
            None => (value.clone(), value),
            Some((low, high)) => {
                let (least, most) = (value.ordered() < low.ordered(), value.ordered() > high.ordered());
                (if least { value.clone() } else { low }, if most { value } else { high })
            }
        });
    }
    ends
}
