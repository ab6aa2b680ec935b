//! The values of a resource's parameters: what stands in the index rows, as a set.

use std::collections::{BTreeSet, HashMap};
use std::sync::{LazyLock, OnceLock};

use hilum_core::Timestamp;
use jiff::tz::TimeZone;

use self::convert::Converter;
use crate::json::Json;
use crate::limits::INDEX_ROWS_MAX;
use crate::path::{Found, Path, Resolved};
use crate::r4::{Parameter, ParameterType, Shape, r4};
use crate::resource::FhirId;
use crate::search::number::Ordered;
use crate::search::param::ParamNumber;

pub mod compound;
mod convert;
mod pair;
#[cfg(test)]
mod tests;

pub use convert::of_type;
pub use pair::Pair;

/// What values depend on beside the body. Part of the index's form: where it changes, all is indexed anew.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The zone of times that name none (a day of an admission).
    pub zone: TimeZone,
    /// Addresses of this server: a reference that begins with one of them is to a resource here. Without `/` at the end.
    pub bases: Vec<String>,
}

/// One value of one parameter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The parameter, for the type of the resource.
    pub param: ParamNumber,
    /// The value.
    pub value: Value,
}

/// The system of a code, in 63 bits of a hash; 0 = none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct System(pub(crate) i64);

impl System {
    /// No system.
    pub const NONE: Self = Self(0);

    /// The one of this address.
    pub fn of(address: &str) -> Self {
        Self(digest(address.as_bytes()).max(1))
    }

    /// As it is stored.
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// 63 bits of a text's hash.
pub(crate) fn digest(bytes: &[u8]) -> i64 {
    let hash = blake3::hash(bytes);
    let first: [u8; 8] = std::array::from_fn(|at| hash.as_bytes().get(at).copied().unwrap_or_default());
    i64::from_be_bytes(first) & i64::MAX
}

/// A value by the kind of its rows. Which kinds a parameter has follows from its type:
///
/// | parameter | rows |
/// |---|---|
/// | number, quantity | [`Value::Number`] |
/// | date | [`Value::Date`] |
/// | string | [`Value::String`] |
/// | token | [`Value::Token`], [`Value::System`]; identifiers that say their type also under [`ParamNumber::of_type`]; what codes are called as [`Value::String`], `exact` 0, under [`ParamNumber::text`] |
/// | reference | [`Value::Reference`]; what leads elsewhere [`Value::Uri`], identifiers [`Value::Token`], [`Value::System`] |
/// | uri | [`Value::Uri`] |
/// | composite | [`Value::Pair`] |
/// | of a [`compound`], under [`ParamNumber::together`] | [`Value::Coded`], [`Value::String`] |
/// | of a Group's or List's [`members`] | [`Value::Reference`] |
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// A code, cut as [`crate::search::fold::cut`] does, and its system.
    Token {
        /// Never empty.
        code: String,
        /// Its system.
        system: System,
    },
    /// A system that stands without a code.
    System(System),
    /// Of the parameter `_id`: that the resource is there.
    There {
        /// Its id, where it has one.
        id: Option<FhirId>,
    },
    /// To a resource on this server, whether it is there or not; without a version.
    Reference {
        /// Its type.
        resource_type: &'static str,
        /// Its logical id.
        id: FhirId,
    },
    /// Of a compound: a code's [`compound::Coded::code`], and the Patient of whom it is said.
    Coded {
        /// The code.
        code: i64,
        /// The Patient's logical id.
        patient: FhirId,
    },
    /// An address, cut as [`crate::search::fold::cut`] does.
    Uri(String),
    /// A text.
    String {
        /// As [`crate::search::fold::fold`] gives it, at most [`crate::search::fold::FOLDED_BYTES_MAX`] bytes.
        folded: String,
        /// Of the text as it is written: [`crate::search::fold::exact`].
        exact: i64,
    },
    /// A period.
    Date {
        /// Its first microsecond; `i64::MIN` where it has no beginning.
        low: Timestamp,
        /// Its last; `i64::MAX` where it has no end.
        high: Timestamp,
    },
    /// A number, with a unit or without.
    Number {
        /// Empty: as it was written, whatever the unit; `ucum:` and a canonical unit: the number in that.
        unit: String,
        /// The least.
        low: Ordered,
        /// The greatest: the same but for ranges and comparators.
        high: Ordered,
        /// Of a quantity that was written: the system of its unit.
        system: System,
        /// The unit's code, or where there is none the unit as text, cut; empty where there is neither.
        code: String,
    },
    /// Values of several parameters that one element has.
    Pair(Pair),
}

/// The values of a resource.
pub type Values = BTreeSet<Entry>;

/// What a resource's values are made of: its type's parameters, compiled once.
struct OfType {
    name: &'static str,
    parameters: Vec<Compiled>,
    composites: Vec<pair::Composite>,
    /// Of each parameter but composites.
    kept: HashMap<&'static str, Kept>,
    /// Of each whose codes are called something.
    texts: HashMap<&'static str, Vec<ParamNumber>>,
}

/// Under which numbers the rows of a parameter stand: what several parameters say is kept once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Of all rows but those of references to this server: its own, or that of a parameter with the same path.
    pub number: ParamNumber,
    /// Of references to this server: the same, or that of the parameter whose references to one type it has.
    pub references: ParamNumber,
    /// That type (`patient` beside `subject`).
    pub only: Option<&'static str>,
}

/// Where the rows of a type's parameter stand; absent where it has none.
///
/// ```
/// use hilum_fhir::search::values::kept;
/// let (patient, subject) = (kept("Encounter", "patient").unwrap(), kept("Encounter", "subject").unwrap());
/// assert_eq!((patient.references, patient.only), (subject.references, Some("Patient")));
/// assert_eq!(kept("Patient", "phonetic"), kept("Patient", "name"));
/// ```
pub fn kept(resource_type: &str, code: &str) -> Option<Kept> {
    let composite = |number| Kept { number, references: number, only: None };
    let of_type = OfType::of(resource_type)?;
    of_type.kept.get(code).copied().or_else(|| ParamNumber::of(resource_type, code).map(composite))
}

/// The numbers of the references by which a resource of a type lies in the compartment of a Patient that they lead to. A Patient
/// lies in its own, too, which no row says.
pub fn ties(resource_type: &str) -> BTreeSet<ParamNumber> {
    let kept =
        r4().in_compartment("Patient", resource_type).iter().filter_map(|code| kept(resource_type, code));
    kept.filter(|kept| kept.only.is_none_or(|ty| ty == "Patient")).map(|kept| kept.references).collect()
}

/// A parameter of a type with its path.
struct Written {
    code: &'static str,
    number: ParamNumber,
    ty: ParameterType,
    path: Path,
}

impl Written {
    fn of(resource_type: &'static str, parameter: &'static Parameter) -> Option<Self> {
        let (code, ty) = (parameter.code, parameter.ty);
        let path = Path::of(parameter, resource_type).ok().filter(|path| !path.is_empty())?;
        let is_own = OF_THE_ROW.contains(&code) || ty == ParameterType::Composite;
        let number = ParamNumber::of(resource_type, code)?;
        (!is_own).then_some(Self { code, number, ty, path })
    }

    /// Where its rows are, among `all` of the type: the first one of the same path keeps them.
    fn kept(&self, all: &[Self]) -> Kept {
        let first = |path: &Path| all.iter().find(|one| one.ty == self.ty && one.path == *path);
        let number = first(&self.path).map_or(self.number, |one| one.number);
        let wider = self.path.of_any_target().and_then(|(path, only)| Some((first(&path)?.number, only)));
        let (references, only) = wider.map_or((number, None), |(wide, only)| (wide, Some(only)));
        Kept { number, references, only }
    }
}

impl Written {
    /// Under which numbers it is kept what its codes are called, among `all` of the type.
    fn texts(&self, shape: &'static Shape, all: &[Self], kept: &HashMap<&str, Kept>) -> Vec<ParamNumber> {
        let types = self.path.types(r4(), shape);
        if self.ty != ParameterType::Token || !types.iter().any(|ty| CALLED.contains(ty)) {
            return Vec::new();
        }
        let of = |path: Path| all.iter().find(|one| one.ty == self.ty && one.path == path);
        let parts: Option<BTreeSet<ParamNumber>> =
            self.path.each().map(|branch| Some(of(branch)?.number.text())).collect();
        let own = kept.get(self.code).map_or(self.number, |kept| kept.number);
        parts.map_or_else(|| vec![own.text()], |parts| parts.into_iter().collect())
    }
}

/// One parameter of one type.
struct Compiled {
    number: ParamNumber,
    ty: ParameterType,
    path: Resolved,
    /// Whether its values are days that have no zone.
    is_nominal: bool,
    /// Whether another parameter's rows tell its references to this server.
    leaves_references: bool,
    /// Whether what its codes are called is kept under its number.
    has_texts: bool,
}

/// Types of elements that say what they are called beside their code.
const CALLED: [&str; 3] = ["CodeableConcept", "Coding", "Identifier"];

/// Parameters that are answered by the resource's own row.
const OF_THE_ROW: [&str; 2] = ["_id", "_lastUpdated"];

impl OfType {
    fn new(name: &'static str) -> Option<Self> {
        let shape = r4().shape(name)?;
        let written: Vec<Written> =
            r4().parameters_of(name).filter_map(|one| Written::of(name, one)).collect();
        let kept: HashMap<_, _> = written.iter().map(|one| (one.code, one.kept(&written))).collect();
        let texts = written.iter().map(|one| (one.code, one.texts(shape, &written, &kept)));
        let texts: HashMap<_, _> = texts.filter(|(_, texts)| !texts.is_empty()).collect();
        let own = written.iter().filter_map(|one| Some((one, kept.get(one.code)?)));
        let own = own.filter(|(one, kept)| kept.number == one.number);
        let compiled = |(one, kept): (&Written, &Kept)| {
            let types = one.path.types(r4(), shape);
            Compiled {
                number: one.number,
                ty: one.ty,
                path: one.path.resolve(r4(), shape),
                is_nominal: one.ty == ParameterType::Date && types.iter().all(|ty| *ty == "date"),
                leaves_references: kept.references != one.number,
                has_texts: texts.get(one.code).is_some_and(|texts| *texts == [one.number.text()]),
            }
        };
        let parameters = own.map(compiled).collect();
        let composites =
            r4().parameters_of(name).filter(|parameter| parameter.ty == ParameterType::Composite);
        let composites = composites.filter_map(|parameter| pair::Composite::new(shape, parameter)).collect();
        Some(Self { name, parameters, composites, kept, texts })
    }

    /// Compiled when it is first asked for: most servers hold few of all types.
    fn of(name: &str) -> Option<&'static Self> {
        static ALL: LazyLock<HashMap<&'static str, OnceLock<Option<OfType>>>> =
            LazyLock::new(|| r4().resource_types().map(|name| (name, OnceLock::new())).collect());
        let (name, of_type) = ALL.get_key_value(name)?;
        of_type.get_or_init(|| Self::new(name)).as_ref()
    }
}

/// Whether a parameter of type date compares days that have no zone (`birthdate`): a query's are then read as UTC, as the
/// values are.
pub fn is_nominal(resource_type: &str, code: &str) -> bool {
    let Some((of_type, kept)) = OfType::of(resource_type).zip(kept(resource_type, code)) else {
        return false;
    };
    of_type.parameters.iter().any(|parameter| parameter.number == kept.number && parameter.is_nominal)
}

/// Under which numbers it is kept what the codes of a parameter are called (`:text`); none where they are called nothing. A
/// parameter that is several others together has no texts of its own.
///
/// ```
/// use hilum_fhir::search::{param::ParamNumber, values::texts};
/// let own = |code| ParamNumber::of("Observation", code).unwrap().text();
/// assert_eq!(texts("Observation", "combo-code"), [own("code"), own("component-code")]);
/// assert!(texts("Patient", "gender").is_empty());
/// ```
pub fn texts(resource_type: &str, code: &str) -> &'static [ParamNumber] {
    OfType::of(resource_type).and_then(|of_type| of_type.texts.get(code)).map_or(&[], Vec::as_slice)
}

/// The values of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Each once.
    pub values: Values,
    /// That there are more than [`INDEX_ROWS_MAX`]: what is behind them was left out.
    pub too_many: bool,
}

impl Extracted {
    fn push(&mut self, param: ParamNumber, value: Value) {
        if self.values.len() < INDEX_ROWS_MAX {
            self.values.insert(Entry { param, value });
        } else if !self.too_many {
            self.too_many = !self.values.contains(&Entry { param, value });
        }
    }
}

/// The values of all parameters of a resource; none of what is no resource. What does not have the structure of R4 gives no
/// values where it has not. The parameters `without` are left out, by their names, and so is what follows from them.
///
/// ```
/// use hilum_fhir::json::Json;
/// use hilum_fhir::search::param::ParamNumber;
/// use hilum_fhir::search::values::{Settings, Value, values};
/// let settings = Settings { zone: jiff::tz::TimeZone::UTC, bases: Vec::new() };
/// let json = Json::parse(br#"{"resourceType":"Patient","name":[{"family":"Lee"}]}"#).unwrap();
/// let family = ParamNumber::of("Patient", "family").unwrap();
/// let found = values(&json, &settings, &[]).values.into_iter().find(|entry| entry.param == family).unwrap();
/// assert!(matches!(found.value, Value::String { folded, .. } if folded == "lee"));
/// ```
pub fn values(resource: &Json<'_>, settings: &Settings, without: &[&str]) -> Extracted {
    let mut out = Extracted::default();
    let name = resource.get("resourceType").and_then(Json::as_str).unwrap_or_default();
    let Some(of_type) = OfType::of(name) else { return out };
    let mut found = Vec::new();
    let without: Vec<Kept> = without.iter().filter_map(|code| kept(name, code)).collect();
    let is_left_out = |number| without.iter().any(|kept| [kept.number, kept.references].contains(&number));
    for parameter in of_type.parameters.iter().filter(|parameter| !is_left_out(parameter.number)) {
        found.clear();
        parameter.path.walk(r4(), resource, &mut found);
        for found in &found {
            Converter { parameter, settings, out: &mut out }.add(found);
        }
    }
    for composite in of_type.composites.iter().filter(|composite| !is_left_out(composite.number())) {
        composite.add(resource, settings, &mut out);
    }
    add_members(of_type, resource, settings, &mut out);
    let compounds = compound::of(of_type.name, &out.values);
    out.values.extend(compounds);
    out.values.extend(is_there(of_type, resource));
    out
}

/// Under which number the references of a Group to its members, or of a List to its entries, stand: the parameter `member`, or
/// `item`, has those who were, too (`inactive`, `deleted`). Absent of other types.
pub fn members(resource_type: &str) -> Option<ParamNumber> {
    members_of(resource_type)
        .and_then(|(code, ..)| ParamNumber::of(resource_type, code))
        .map(ParamNumber::together)
}

/// The parameter, where its values stand, what says that one is none any more, and the reference.
fn members_of(resource_type: &str) -> Option<(&'static str, &'static str, &'static str, &'static str)> {
    match resource_type {
        "Group" => Some(("member", "member", "inactive", "entity")),
        "List" => Some(("item", "entry", "deleted", "item")),
        _ => None,
    }
}

fn add_members(of_type: &OfType, resource: &Json<'_>, settings: &Settings, out: &mut Extracted) {
    let Some((_, all, gone, entity)) = members_of(of_type.name) else { return };
    let Some(number) = members(of_type.name) else { return };
    let Some(member) = of_type.parameters.iter().find(|one| one.number == number.itself()) else { return };
    let mut found = Extracted::default();
    let all = resource.get(all).map_or(&[][..], Json::elements);
    let active = all.iter().filter(|one| !matches!(one.get(gone), Some(Json::Bool(true))));
    for entity in active.filter_map(|one| one.get(entity)) {
        let mut converter = Converter { parameter: member, settings, out: &mut found };
        converter.add(&Found::Element(entity, "Reference"));
    }
    // Beyond the bound of what clients search for: whoever is held by `member` is held here.
    let ours = found.values.into_iter().filter(|entry| matches!(entry.value, Value::Reference { .. }));
    out.values.extend(ours.map(|entry| Entry { param: number, value: entry.value }));
}

/// That it is there: what all of a type are walked by, what a resource that a search goes through is asked for, and by
/// whose id an answer is ordered.
fn is_there(of_type: &OfType, resource: &Json<'_>) -> Option<Entry> {
    let param = ParamNumber::of(of_type.name, "_id")?;
    let id = resource.get("id").and_then(Json::as_str).and_then(|id| FhirId::parse(id).ok());
    Some(Entry { param, value: Value::There { id } })
}
