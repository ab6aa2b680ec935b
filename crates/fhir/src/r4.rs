//! The definitions of FHIR R4 (4.0.1), read once from the tables in `r4/`, which `scripts/make-r4` makes from the official
//! ones: types and their elements, codes of required bindings, search parameters, compartments.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::OnceLock;

/// What a type is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text, number or truth value, with an id and extensions beside it.
    Primitive,
    /// Elements within a resource.
    Complex,
    /// What has an address of its own.
    Resource,
}

/// A type, or the elements below one of its elements (`Patient.contact`).
#[derive(Debug)]
pub struct Shape {
    /// `Patient`, `Patient.contact`, `HumanName`.
    pub path: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its elements with those of its base, in the order of the definition, choices once for each of their types.
    fields: Vec<Field>,
    by_name: HashMap<Box<str>, usize>,
}

/// One element as it stands in JSON: a choice is one field a type.
#[derive(Debug)]
pub struct Field {
    /// Its member's name: `valueQuantity` for `value[x]` as a Quantity.
    pub name: Box<str>,
    /// Its name in the definition, without `[x]`.
    pub element: &'static str,
    /// The FHIR type: `Quantity`, `code`, `Reference`, `Resource`; of elements below an element the path of these.
    pub ty: &'static str,
    /// Whether the element has several types, of which one may stand.
    pub is_choice: bool,
    /// Whether it must be there.
    pub is_required: bool,
    /// Whether it may repeat, and is an array therefore.
    pub repeats: bool,
    /// Whether it is part of summaries.
    pub is_summary: bool,
    /// Whether it changes what that means in which it stands.
    pub is_modifier: bool,
    /// What a reference may point to; empty: anything.
    pub targets: Vec<&'static str>,
    /// The value set whose codes alone may stand here; absent where none is required, or it cannot be listed.
    pub codes: Option<&'static Codes>,
}

/// The codes of one value set.
#[derive(Debug)]
pub struct Codes {
    /// The end of its canonical address.
    pub value_set: &'static str,
    codes: HashSet<&'static str>,
}

impl Codes {
    /// Whether `code` is one.
    pub fn contains(&self, code: &str) -> bool {
        self.codes.contains(code)
    }
}

/// What a search parameter's values are (<https://hl7.org/fhir/R4/search.html#ptypes>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ParameterType {
    /// A number with implicit precision.
    Number,
    /// A period.
    Date,
    /// Text without regard to case and accents.
    String,
    /// A code and its system.
    Token,
    /// Another resource.
    Reference,
    /// Several parameters that one element fulfils.
    Composite,
    /// A number with a unit.
    Quantity,
    /// An address, letter by letter.
    Uri,
    /// By its own rules (`near`).
    Special,
}

/// A search parameter as it is defined.
#[derive(Debug)]
pub struct Parameter {
    /// `Patient-birthdate`; the end of its canonical address.
    pub id: &'static str,
    /// Its name in a query.
    pub code: &'static str,
    /// What its values are.
    pub ty: ParameterType,
    /// The resource types that have it; `Resource` and `DomainResource` stand for all.
    pub bases: Vec<&'static str>,
    /// The types a reference of it may point to.
    pub targets: Vec<&'static str>,
    /// Where its values are, in the part of FHIRPath that the definitions use; empty for the three that are no elements.
    pub expression: &'static str,
    /// Of a composite: a parameter's id, and where its value is below that of the composite.
    pub components: Vec<(&'static str, &'static str)>,
}

/// All of it.
#[derive(Debug)]
pub struct Definitions {
    shapes: HashMap<&'static str, Shape>,
    parameters: Vec<Parameter>,
    by_type: BTreeMap<&'static str, BTreeMap<&'static str, usize>>,
    compartments: BTreeMap<&'static str, BTreeMap<&'static str, Vec<&'static str>>>,
}

/// The definitions.
pub fn r4() -> &'static Definitions {
    static DEFINITIONS: OnceLock<Definitions> = OnceLock::new();
    DEFINITIONS.get_or_init(Definitions::read)
}

const ELEMENTS: &str = include_str!("../r4/elements.tsv");
const CODES: &str = include_str!("../r4/codes.tsv");
const SEARCH: &str = include_str!("../r4/search.tsv");
const COMPARTMENTS: &str = include_str!("../r4/compartments.tsv");

/// Of some names the one that a wrong one is nearest to, where one is near.
pub(crate) fn nearest(wrong: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // Names longer than any are not compared letter by letter.
    let wrong = wrong.get(..wrong.floor_char_boundary(64)).unwrap_or_default();
    let near = known.map(|known| (strsim::damerau_levenshtein(wrong, known), known)).min();
    near.filter(|(distance, known)| *distance <= known.len().div_ceil(2)).map(|(_, known)| known)
}

impl Definitions {
    /// A type by its name, or the elements below an element by their path.
    pub fn shape(&self, path: &str) -> Option<&Shape> {
        self.shapes.get(path)
    }

    /// The names of all resource types that can stand alone, in their order.
    pub fn resource_types(&self) -> impl Iterator<Item = &'static str> {
        self.by_type.keys().copied()
    }

    /// The resource type that a name is nearest to, where one is near.
    pub fn nearest_type(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.resource_types())
    }

    /// Whether there is such a resource type.
    pub fn is_resource_type(&self, name: &str) -> bool {
        self.by_type.contains_key(name)
    }

    /// All search parameters, by id.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// A parameter by its id.
    pub fn by_id(&self, id: &str) -> Option<&Parameter> {
        let at = self.parameters.binary_search_by_key(&id, |parameter| parameter.id).ok()?;
        self.parameters.get(at)
    }

    /// A parameter of a resource type, by its name in a query.
    pub fn parameter(&self, resource_type: &str, code: &str) -> Option<&Parameter> {
        self.parameters.get(*self.by_type.get(resource_type)?.get(code)?)
    }

    /// The parameters of a resource type, by their names in a query.
    pub fn parameters_of(&self, resource_type: &str) -> impl Iterator<Item = &Parameter> {
        let of_type = self.by_type.get(resource_type).into_iter().flat_map(BTreeMap::values);
        of_type.filter_map(|&at| self.parameters.get(at))
    }

    /// The parameters by which a resource of `resource_type` lies in a compartment (`Patient`, `Encounter`, …).
    pub fn in_compartment(&self, compartment: &str, resource_type: &str) -> &[&'static str] {
        let of_type = self.compartments.get(compartment).and_then(|types| types.get(resource_type));
        of_type.map_or(&[], Vec::as_slice)
    }

    /// The compartments.
    pub fn compartments(&self) -> impl Iterator<Item = &'static str> {
        self.compartments.keys().copied()
    }

    fn read() -> Self {
        let types = RawType::all(ELEMENTS);
        let codes = codes(CODES);
        let mut shapes = HashMap::new();
        for (name, raw) in &types {
            for path in raw.paths(name) {
                shapes.insert(path, Shape::new(path, raw.kind, fields_of(path, raw, &types, codes)));
            }
        }
        let mut parameters: Vec<Parameter> = lines(SEARCH).map(Parameter::read).collect();
        parameters.sort_unstable_by_key(|parameter| parameter.id);
        let abstracts = ["Resource", "DomainResource"];
        let mut by_type: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for (name, raw) in types.iter().filter(|(_, raw)| raw.kind == Kind::Resource) {
            if abstracts.contains(name) {
                continue;
            }
            let has = |base: &&str| {
                base == name
                    || *base == "Resource"
                    || (*base == "DomainResource" && raw.base == "DomainResource")
            };
            let numbered = parameters.iter().enumerate();
            let of_type = numbered.filter(|(_, parameter)| parameter.bases.iter().any(has));
            by_type.insert(name, of_type.map(|(at, parameter)| (parameter.code, at)).collect());
        }
        let mut compartments: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
        for [compartment, resource_type, codes] in lines(COMPARTMENTS).map(columns) {
            compartments.entry(compartment).or_default().insert(resource_type, list(codes, ','));
        }
        Self { shapes, parameters, by_type, compartments }
    }
}

impl Shape {
    fn new(path: &'static str, kind: Kind, fields: Vec<Field>) -> Self {
        let by_name = fields.iter().enumerate().map(|(at, field)| (field.name.clone(), at)).collect();
        Self { path, kind, fields, by_name }
    }

    /// The field of a member.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.get(*self.by_name.get(name)?)
    }

    /// All fields, in the order of the definition.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The fields of an element: one, or one for each type of a choice.
    pub fn fields_of<'a>(&'a self, element: &'a str) -> impl Iterator<Item = &'a Field> {
        self.fields.iter().filter(move |field| field.element == element)
    }
}

/// A type as its lines say it.
struct RawType {
    kind: Kind,
    base: &'static str,
    elements: Vec<[&'static str; 6]>,
}

impl RawType {
    fn all(table: &'static str) -> BTreeMap<&'static str, Self> {
        let mut types = BTreeMap::new();
        let mut name = "";
        for line in lines(table) {
            if let Some(head) = line.strip_prefix('=') {
                let [found, kind, base] = columns(head);
                let kind = match kind {
                    "primitive-type" => Kind::Primitive,
                    "resource" => Kind::Resource,
                    _ => Kind::Complex,
                };
                name = found;
                types.insert(name, Self { kind, base, elements: Vec::new() });
            } else if let Some(raw) = types.get_mut(name) {
                raw.elements.push(columns(line));
            }
        }
        types
    }

    /// Its own path, and those of its elements that have elements.
    fn paths(&self, name: &'static str) -> Vec<&'static str> {
        let inner =
            self.elements.iter().filter(|[.., types, _, _]| matches!(*types, "BackboneElement" | "Element"));
        let inner = inner.map(|[below, ..]| &*format!("{name}.{below}").leak());
        std::iter::once(name).chain(inner).collect()
    }
}

/// The fields at `path` of `raw`, with those that it has from its base.
fn fields_of(
    path: &'static str,
    raw: &RawType,
    types: &BTreeMap<&'static str, RawType>,
    codes: &'static HashMap<&'static str, Codes>,
) -> Vec<Field> {
    let mut fields = Vec::new();
    let (root, below) = path.split_once('.').map_or((path, ""), |(root, below)| (root, below));
    // What is below an element: which of the two it is was said by its own line.
    let own = raw.elements.iter().find(|[found, ..]| *found == below).map(|[.., types, _, _]| *types);
    let mut base = own.unwrap_or(raw.base);
    let mut bases = Vec::new();
    while let Some((name, found)) = types.get_key_value(base) {
        bases.push((*name, found));
        base = found.base;
    }
    for (name, found) in bases.into_iter().rev() {
        let direct = found.elements.iter().filter(|[below, ..]| !below.contains('.'));
        fields.extend(direct.flat_map(|element| fields_of_element(name, element, codes)));
    }
    for element in &raw.elements {
        let [found, ..] = element;
        let (parent, _) = found.rsplit_once('.').unwrap_or(("", found));
        if parent == below {
            fields.extend(fields_of_element(root, element, codes));
        }
    }
    // A type may say again what its base has, with less room.
    let mut seen = HashSet::new();
    let mut kept: Vec<Field> =
        fields.into_iter().rev().filter(|field| seen.insert(field.name.clone())).collect();
    kept.reverse();
    kept
}

fn fields_of_element(
    root: &'static str,
    &[below, min, max, types, value_set, flags]: &[&'static str; 6],
    codes: &'static HashMap<&'static str, Codes>,
) -> Vec<Field> {
    let (_, name) = below.rsplit_once('.').unwrap_or(("", below));
    let (element, is_choice) = match name.strip_suffix("[x]") {
        Some(element) => (element, true),
        None => (name, false),
    };
    let one = |ty: &'static str| {
        let (ty, targets) = match ty.strip_suffix(')').and_then(|ty| ty.split_once('(')) {
            Some((ty, targets)) => (ty, list(targets, '|')),
            None => (ty, Vec::new()),
        };
        let field_name = if is_choice { format!("{element}{}", capital(ty)) } else { element.to_owned() };
        let inner = matches!(ty, "BackboneElement" | "Element");
        let ty = match ty.strip_prefix('@') {
            Some(path) => path,
            None if inner => &*format!("{root}.{below}").leak(),
            None => ty,
        };
        Field {
            name: field_name.into(),
            element,
            ty,
            is_choice,
            is_required: min != "0",
            repeats: max != "1" && max != "0",
            is_summary: flags.contains('s'),
            is_modifier: flags.contains('m'),
            targets,
            codes: codes.get(value_set),
        }
    };
    list(types, ',').into_iter().map(one).collect()
}

fn capital(ty: &str) -> String {
    let mut letters = ty.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

impl Parameter {
    /// Whether it is a reference that may be to a resource of this type.
    pub fn leads_to(&self, resource_type: &str) -> bool {
        let is_any = self.targets.is_empty();
        self.ty == ParameterType::Reference && (is_any || self.targets.contains(&resource_type))
    }

    fn read(line: &'static str) -> Self {
        let [id, code, ty, bases, targets, expression, components] = columns(line);
        let ty = match ty {
            "number" => ParameterType::Number,
            "date" => ParameterType::Date,
            "string" => ParameterType::String,
            "token" => ParameterType::Token,
            "reference" => ParameterType::Reference,
            "composite" => ParameterType::Composite,
            "quantity" => ParameterType::Quantity,
            "uri" => ParameterType::Uri,
            _ => ParameterType::Special,
        };
        let components = list(components, ';').into_iter().filter_map(|one| one.split_once('=')).collect();
        Self { id, code, ty, bases: list(bases, ','), targets: list(targets, ','), expression, components }
    }
}

fn codes(table: &'static str) -> &'static HashMap<&'static str, Codes> {
    static CODES: OnceLock<HashMap<&'static str, Codes>> = OnceLock::new();
    CODES.get_or_init(|| {
        let one = |line: &'static str| {
            let [value_set, codes] = columns(line);
            (value_set, Codes { value_set, codes: list(codes, ' ').into_iter().collect() })
        };
        lines(table).map(one).collect()
    })
}

fn lines(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().filter(|line| !line.starts_with('#'))
}

fn list(text: &'static str, between: char) -> Vec<&'static str> {
    text.split(between).filter(|one| !one.is_empty()).collect()
}

/// The columns of a line, empty where it has fewer.
fn columns<const N: usize>(line: &'static str) -> [&'static str; N] {
    let mut found = line.split('\t');
    std::array::from_fn(|_| found.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn all_of_r4_is_there() {
        let r4 = r4();
        assert_eq!(r4.resource_types().count(), 146, "https://hl7.org/fhir/R4/resourcelist.html");
        assert_eq!(r4.parameters().len(), 1_375);
        assert_eq!(
            r4.compartments().collect::<Vec<_>>(),
            ["Device", "Encounter", "Patient", "Practitioner", "RelatedPerson"]
        );
        let codes = r4.shapes.values().flat_map(Shape::fields).filter(|field| field.codes.is_some()).count();
        assert!(codes > 300, "{codes}");
    }

    #[test]
    fn every_field_has_a_type_that_is_there() {
        for shape in r4().shapes.values() {
            for field in shape.fields() {
                let system = field.ty == "xhtml" || r4().shape(field.ty).is_some();
                assert!(system, "{}.{}: {}", shape.path, field.name, field.ty);
            }
        }
    }

    #[test]
    fn elements_say_what_may_stand() {
        let cases = [
            ("from DomainResource", "Patient", "text", "Narrative", false, false),
            ("from Resource", "Patient", "meta", "Meta", false, false),
            ("repeats", "Patient", "name", "HumanName", false, true),
            ("a choice", "Observation", "valueQuantity", "Quantity", false, false),
            ("required", "Observation", "status", "code", true, false),
            ("below an element", "Patient", "contact", "Patient.contact", false, true),
            ("its own elements", "Patient.contact", "relationship", "CodeableConcept", false, true),
            (
                "what an element has from its base",
                "Patient.contact",
                "modifierExtension",
                "Extension",
                false,
                true,
            ),
            ("by reference to another", "Questionnaire.item", "item", "Questionnaire.item", false, true),
            ("a resource within", "Bundle.entry", "resource", "Resource", false, false),
            ("a kind of Quantity", "Age", "value", "decimal", false, false),
            ("of a data type", "Timing.repeat", "boundsPeriod", "Period", false, false),
        ];
        for (why, path, name, ty, is_required, repeats) in cases {
            let field =
                r4().shape(path).and_then(|shape| shape.field(name)).unwrap_or_else(|| panic!("{why}"));
            assert_eq!((field.ty, field.is_required, field.repeats), (ty, is_required, repeats), "{why}");
        }
        let patient = r4().shape("Patient").unwrap();
        assert!(patient.field("valueQuantity").is_none() && patient.field("deceased").is_none());
        assert!(patient.field("gender").unwrap().codes.unwrap().contains("female"));
        let subject = r4().shape("Encounter").unwrap().field("subject").unwrap();
        assert_eq!(subject.targets, ["Patient", "Group"]);
    }

    #[test]
    fn parameters_are_found_by_type_and_name() {
        let birthdate = r4().parameter("Patient", "birthdate").unwrap();
        assert_eq!(
            (birthdate.ty, birthdate.expression),
            (ParameterType::Date, "Patient.birthDate | Person.birthDate | RelatedPerson.birthDate")
        );
        assert!(r4().parameter("Patient", "_id").is_some(), "of every resource");
        assert!(r4().parameter("Bundle", "_text").is_none(), "Bundle has no narrative");
        assert!(r4().parameter("Patient", "code").is_none());
        assert_eq!(r4().in_compartment("Patient", "Observation"), ["subject", "performer"]);
        assert!(r4().in_compartment("Patient", "Medication").is_empty());
        let composite = r4().parameter("Observation", "code-value-quantity").unwrap();
        assert_eq!(composite.components.len(), 2);
    }
}
