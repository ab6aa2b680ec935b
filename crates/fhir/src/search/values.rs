//! The values of a resource's parameters: what stands in the index rows, as a set.

use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

use hilum_core::Timestamp;
use jiff::tz::TimeZone;

use self::convert::Converter;
use crate::json::Json;
use crate::limits::INDEX_ROWS_MAX;
use crate::path::{Path, Resolved};
use crate::r4::{Parameter, ParameterType, r4};
use crate::resource::FhirId;
use crate::search::number::Ordered;
use crate::search::param::ParamNumber;

mod convert;
mod pair;

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
/// | token | [`Value::Token`], [`Value::System`]; identifiers that say their type also under [`ParamNumber::of_type`] |
/// | reference | [`Value::Reference`]; what leads elsewhere [`Value::Uri`], identifiers [`Value::Token`], [`Value::System`] |
/// | uri | [`Value::Uri`] |
/// | composite | [`Value::Pair`] |
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

/// One parameter of one type.
struct Compiled {
    number: ParamNumber,
    ty: ParameterType,
    path: Resolved,
    /// Whether its values are days that have no zone.
    is_nominal: bool,
    /// Whether another parameter's rows tell its references to this server.
    leaves_references: bool,
}

/// Parameters that are answered by the resource's own row.
const OF_THE_ROW: [&str; 2] = ["_id", "_lastUpdated"];

impl OfType {
    fn new(name: &'static str) -> Option<Self> {
        let shape = r4().shape(name)?;
        let written: Vec<Written> =
            r4().parameters_of(name).filter_map(|one| Written::of(name, one)).collect();
        let kept: HashMap<_, _> = written.iter().map(|one| (one.code, one.kept(&written))).collect();
        let own = written.iter().filter_map(|one| Some((one, kept.get(one.code)?)));
        let own = own.filter(|(one, kept)| kept.number == one.number);
        let parameters = own.map(|(one, kept)| Compiled {
            number: one.number,
            ty: one.ty,
            is_nominal: one.ty == ParameterType::Date
                && one.path.types(r4(), shape).iter().all(|ty| *ty == "date"),
            path: one.path.resolve(r4(), shape),
            leaves_references: kept.references != one.number,
        });
        let parameters = parameters.collect();
        let composites =
            r4().parameters_of(name).filter(|parameter| parameter.ty == ParameterType::Composite);
        let composites = composites.filter_map(|parameter| pair::Composite::new(shape, parameter)).collect();
        Some(Self { name, parameters, composites, kept })
    }

    fn of(name: &str) -> Option<&'static Self> {
        static ALL: OnceLock<HashMap<&'static str, OfType>> = OnceLock::new();
        let all = ALL.get_or_init(|| {
            r4().resource_types().filter_map(|name| Some((name, Self::new(name)?))).collect()
        });
        all.get(name)
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
    out.values.extend(is_there(of_type, resource));
    out
}

/// That it is there: what all of a type are walked by, what a resource that a search goes through is asked for, and by
/// whose id an answer is ordered.
fn is_there(of_type: &OfType, resource: &Json<'_>) -> Option<Entry> {
    let param = ParamNumber::of(of_type.name, "_id")?;
    let id = resource.get("id").and_then(Json::as_str).and_then(|id| FhirId::parse(id).ok());
    Some(Entry { param, value: Value::There { id } })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings() -> Settings {
        Settings {
            zone: TimeZone::get("Asia/Seoul").unwrap(),
            bases: vec!["https://hilum.example/fhir".to_owned()],
        }
    }

    /// The values of one parameter, as text.
    fn of(resource: &str, code: &str) -> Vec<String> {
        let json = Json::parse(resource.as_bytes()).unwrap();
        let ty = json.get("resourceType").and_then(Json::as_str).unwrap();
        let number = ParamNumber::of(ty, code).unwrap();
        let found = values(&json, &settings(), &[]).values.into_iter();
        let found = found.filter(|entry| entry.param.itself() == number);
        found.map(|Entry { param, value }| shown(&value, param != number)).collect()
    }

    fn shown(value: &Value, is_typed: bool) -> String {
        let named = |system: &System| {
            let known = ["http://a", "http://b", "urn:iso:std:iso:4217", "http://unitsofmeasure.org"];
            match known.into_iter().find(|known| System::of(known) == *system) {
                _ if *system == System::NONE => "-".to_owned(),
                Some(known) => known.rsplit(['/', ':']).next().unwrap().to_owned(),
                None => "?".to_owned(),
            }
        };
        let at = |at: &Timestamp| match at.as_micros() {
            i64::MIN | i64::MAX => "…".to_owned(),
            _ => at.to_jiff().to_string(),
        };
        match value {
            Value::Token { code, system } if is_typed => format!("of type {} {code}", named(system)),
            Value::Token { code, system } => format!("{}|{code}", named(system)),
            Value::System(system) => format!("any {}", named(system)),
            Value::There { id } => format!("there {id:?}"),
            Value::Reference { resource_type, id } => format!("{resource_type}/{}", id.as_str()),
            Value::Pair(Pair { code, system, second, low, high, third, .. }) => {
                let bytes = |bytes: &[u8]| {
                    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
                };
                format!("{}|{code} ${second} {} {} {}", named(system), bytes(low), bytes(high), bytes(third))
            }
            Value::Uri(address) => format!("uri {address}"),
            Value::String { folded, .. } => folded.clone(),
            Value::Date { low, high } => format!("{} {}", at(low), at(high)),
            Value::Number { unit, low, high, system, code } => {
                let bytes = |end: &Ordered| {
                    end.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
                };
                format!("{unit} {} {} {}|{code}", bytes(low), bytes(high), named(system))
            }
        }
    }

    #[test]
    fn every_kind_of_element_becomes_what_is_searched() {
        let cases: &[(&str, &str, &str, &[&str])] = &[
            (
                "codings, one without a system, one without a code",
                r#"{"resourceType":"Condition","code":{"coding":[{"system":"http://a","code":"x"},{"system":"http://a","code":"z"},{"code":"y"},{"system":"http://b"}],"text":"t"}}"#,
                "code",
                &["-|y", "a|x", "a|z", "any b"],
            ),
            (
                "a Coding",
                r#"{"resourceType":"Encounter","class":{"system":"http://a","code":"IMP"}}"#,
                "class",
                &["a|IMP"],
            ),
            ("a code", r#"{"resourceType":"Patient","gender":"male"}"#, "gender", &["-|male"]),
            ("a truth", r#"{"resourceType":"Patient","active":false}"#, "active", &["-|false"]),
            ("what is said", r#"{"resourceType":"Patient"}"#, "deceased", &["-|false"]),
            (
                "a phone",
                r#"{"resourceType":"Patient","telecom":[{"system":"phone","value":"1"}]}"#,
                "phone",
                &["-|1"],
            ),
            (
                "an identifier with its type",
                r#"{"resourceType":"Patient","identifier":[{"type":{"coding":[{"system":"http://a","code":"MR"}]},"system":"http://b","value":"7"}]}"#,
                "identifier",
                &["b|7", "of type ? 7"],
            ),
            (
                "a name's parts, each once",
                r#"{"resourceType":"Patient","name":[{"family":"Núñez","given":["Ana","ANA"]},{"text":"Ana Núñez"}]}"#,
                "name",
                &["ana", "ana", "ana nunez", "nunez"],
            ),
            (
                "an address",
                r#"{"resourceType":"Patient","address":[{"line":["1 A","2 B"],"city":"C"}]}"#,
                "address",
                &["1 a", "2 b", "c"],
            ),
            (
                "a date has no zone",
                r#"{"resourceType":"Patient","birthDate":"1974-12-25"}"#,
                "birthdate",
                &["1974-12-25T00:00:00Z 1974-12-25T23:59:59.999999Z"],
            ),
            (
                "a day of a time is of the zone",
                r#"{"resourceType":"Patient","deceasedDateTime":"2024-05-01"}"#,
                "death-date",
                &["2024-04-30T15:00:00Z 2024-05-01T14:59:59.999999Z"],
            ),
            (
                "a period",
                r#"{"resourceType":"Encounter","period":{"start":"2024-05-01T00:00:00Z"}}"#,
                "date",
                &["2024-05-01T00:00:00Z …"],
            ),
            (
                "one that ended",
                r#"{"resourceType":"Encounter","period":{"end":"2024-05-01T00:00:00Z"}}"#,
                "date",
                &["… 2024-05-01T00:00:00.999999Z"],
            ),
            ("one without ends", r#"{"resourceType":"Encounter","period":{"id":"x"}}"#, "date", &[]),
            (
                "a timing's events and bounds",
                r#"{"resourceType":"ServiceRequest","occurrenceTiming":{"event":["2024-01-01T00:00:00Z"],"repeat":{"boundsPeriod":{"start":"2024-02-01T00:00:00Z"}}}}"#,
                "occurrence",
                &["2024-01-01T00:00:00Z 2024-01-01T00:00:00.999999Z", "2024-02-01T00:00:00Z …"],
            ),
            (
                "a quantity as written and as UCUM has it",
                r#"{"resourceType":"Observation","valueQuantity":{"value":5.40,"unit":"mg","system":"http://unitsofmeasure.org","code":"mg"}}"#,
                "value-quantity",
                &[" 034e1f36 034e1f36 unitsofmeasure.org|mg", "ucum:g 034e1c36 034e1c36 -|"],
            ),
            (
                "without a code",
                r#"{"resourceType":"Observation","valueQuantity":{"value":5.4,"unit":"mg"}}"#,
                "value-quantity",
                &[" 034e1f36 034e1f36 -|mg"],
            ),
            (
                "less than",
                r#"{"resourceType":"Observation","valueQuantity":{"value":5.4,"comparator":"<"}}"#,
                "value-quantity",
                &[" 00 034e1f36 -|"],
            ),
            (
                "without a value",
                r#"{"resourceType":"Observation","valueQuantity":{"unit":"mg"}}"#,
                "value-quantity",
                &[],
            ),
            (
                "samples",
                r#"{"resourceType":"Observation","valueSampledData":{"origin":{"value":0},"period":1,"factor":2,"dimensions":1,"data":"1 E 3 U","upperLimit":4}}"#,
                "value-quantity",
                &[" 034e1f14 034e1f50 -|"],
            ),
            (
                "money",
                r#"{"resourceType":"Invoice","totalGross":{"value":5.4,"currency":"KRW"}}"#,
                "totalgross",
                &[" 034e1f36 034e1f36 4217|KRW"],
            ),
            (
                "a number",
                r#"{"resourceType":"RiskAssessment","prediction":[{"probabilityDecimal":0.5}]}"#,
                "probability",
                &[" 034e1e32 034e1e32 -|"],
            ),
            (
                "a range of numbers",
                r#"{"resourceType":"RiskAssessment","prediction":[{"probabilityRange":{"low":{"value":0.5}}}]}"#,
                "probability",
                &[" 034e1e32 04 -|"],
            ),
            (
                "references, versions taken off",
                r#"{"resourceType":"Encounter","participant":[{"individual":{"reference":"Practitioner/1/_history/3"}},{"individual":{"reference":"https://hilum.example/fhir/Practitioner/2"}},
                {"individual":{"reference":"https://other.example/fhir/Practitioner/2/_history/1"}},{"individual":{"reference":"urn:uuid:x"}},{"individual":{"reference":"\u0023c"}},{"individual":{"display":"d"}}]}"#,
                "participant",
                &[
                    "Practitioner/1",
                    "Practitioner/2",
                    "uri https://other.example/fhir/Practitioner/2",
                    "uri urn:uuid:x",
                ],
            ),
            (
                "by identifier",
                r#"{"resourceType":"Encounter","subject":{"identifier":{"system":"http://a","value":"7"}}}"#,
                "subject",
                &["a|7"],
            ),
            (
                "a canonical address",
                r#"{"resourceType":"QuestionnaireResponse","questionnaire":"http://q|1"}"#,
                "questionnaire",
                &["uri http://q", "uri http://q|1"],
            ),
            (
                "a relative one",
                r#"{"resourceType":"QuestionnaireResponse","questionnaire":"Questionnaire/q|1"}"#,
                "questionnaire",
                &["Questionnaire/q", "uri Questionnaire/q", "uri Questionnaire/q|1"],
            ),
            (
                "an address of its own",
                r#"{"resourceType":"ValueSet","url":"http://v"}"#,
                "url",
                &["uri http://v"],
            ),
            (
                "a code and a quantity of one element",
                r#"{"resourceType":"Observation","component":[{"code":{"coding":[{"system":"http://a","code":"d"}]},"valueQuantity":{"value":80}},
                {"code":{"coding":[{"code":"s"}]},"valueQuantity":{"value":120,"system":"http://unitsofmeasure.org","code":"mg"}}]}"#,
                "component-code-value-quantity",
                &["-|s $ 034e210c 034e210c ", "-|s $ucum:g 034e1e0c 034e1e0c ", "a|d $ 034e2050 034e2050 "],
            ),
            (
                "two codes, of the resource too",
                r#"{"resourceType":"Observation","code":{"coding":[{"code":"x"}]},"valueCodeableConcept":{"coding":[{"code":"y"}]}}"#,
                "combo-code-value-concept",
                &["-|x $y   "],
            ),
            (
                "a code and a date",
                r#"{"resourceType":"Observation","code":{"coding":[{"code":"x"}]},"valueDateTime":"1970-01-01T00:00:00Z"}"#,
                "code-value-date",
                &["-|x $ 8000000000000000 80000000000f423f "],
            ),
            (
                "a code and a reference",
                r#"{"resourceType":"DocumentReference","relatesTo":[{"code":"replaces","target":{"reference":"DocumentReference/1"}}]}"#,
                "relationship",
                &["-|replaces $DocumentReference/1   "],
            ),
            (
                "three, of which one stands elsewhere",
                r#"{"resourceType":"MolecularSequence","referenceSeq":{"chromosome":{"coding":[{"code":"1"}]}},"variant":[{"start":128,"end":130}]}"#,
                "chromosome-variant-coordinate",
                &["-|1 $ 034e210c50 034e210c50 034e210d"],
            ),
            (
                "nothing with the structure of something",
                r#"{"resourceType":"Patient","name":7,"birthDate":"7","link":[[]]}"#,
                "birthdate",
                &[],
            ),
        ];
        for (why, resource, code, want) in cases {
            let (mut got, mut want) = (of(resource, code), want.to_vec());
            got.sort_unstable();
            want.sort_unstable();
            assert_eq!(got, want, "{why}");
        }
    }

    #[test]
    fn what_several_parameters_say_is_kept_once() {
        let encounter = r#"{"resourceType":"Encounter","subject":{"reference":"Patient/p"}}"#;
        assert_eq!(of(encounter, "subject"), ["Patient/p"]);
        assert_eq!(of(encounter, "patient"), [""; 0], "subject tells it");
        let foreign = r#"{"resourceType":"Encounter","subject":{"reference":"https://b/Patient/p"}}"#;
        assert_eq!(of(foreign, "patient"), ["uri https://b/Patient/p"]);
        let group = r#"{"resourceType":"Encounter","subject":{"reference":"https://b/Group/p"}}"#;
        assert_eq!(of(group, "patient"), [""; 0]);
        let patient = r#"{"resourceType":"Patient","name":[{"text":"Lee"}]}"#;
        assert_eq!((of(patient, "name").len(), of(patient, "phonetic").len()), (1, 0));
        let json = Json::parse(patient.as_bytes()).unwrap();
        assert!(
            values(&json, &settings(), &["phonetic"])
                .values
                .iter()
                .all(|one| { ParamNumber::of("Patient", "name") != Some(one.param) }),
            "what may not be found by one is found by none"
        );
    }

    #[test]
    fn a_patients_compartment_is_told_by_references() {
        let number = |ty, code| ParamNumber::of(ty, code).unwrap();
        let cases: &[(&str, &[&str])] = &[
            ("Patient", &["link"]),
            ("Encounter", &["subject"]),
            ("Observation", &["performer", "subject"]),
            ("Appointment", &["actor"]),
            ("Practitioner", &[]),
        ];
        for (ty, want) in cases {
            let want: BTreeSet<_> = want.iter().map(|code| number(ty, code)).collect();
            assert_eq!(ties(ty), want, "{ty}");
        }
    }

    #[test]
    fn values_have_a_bound() {
        let many: Vec<String> = (0..=INDEX_ROWS_MAX).map(|n| format!(r#"{{"value":"{n}"}}"#)).collect();
        let patient = format!(r#"{{"resourceType":"Patient","identifier":[{}]}}"#, many.join(","));
        let found = values(&Json::parse(patient.as_bytes()).unwrap(), &settings(), &[]);
        assert!(found.too_many && found.values.len() <= INDEX_ROWS_MAX + 100);
    }
}
