//! Where a search parameter's values are: the part of FHIRPath that R4's definitions use, compiled once for each resource
//! type, and walked over a resource with the types of its elements known.
//!
//! | written | means |
//! |---|---|
//! | `Patient.name.given` | elements, each as often as it stands |
//! | `(Observation.value as Quantity)`, `.value.as(Quantity)` | a choice where it has that type |
//! | `.where(system='phone')` | elements with that text in one of theirs |
//! | `.where(resolve() is Patient)` | references to that type |
//! | `.entry[0]` | the first |
//! | `X.exists() and X != false` | true or false: whether X says something else than no |

use crate::json::Json;
use crate::r4::{Codes, Definitions, Parameter, Shape};

/// Why an expression cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{step}` is not of the part of FHIRPath that search parameters use")]
pub struct PathError {
    /// The step.
    pub step: String,
}

/// An expression for one resource type: the values of all its branches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    branches: Vec<Vec<Step>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// An element by its name, without `[x]`.
    Element(&'static str),
    /// Of a choice the one type.
    As(&'static str),
    /// What has `text` in its element.
    Where { element: &'static str, text: &'static str },
    /// References to a type.
    RefersTo(&'static str),
    /// Of what repeats the first.
    First,
    /// Whether there is one that is not `false`: always one truth value.
    IsSaid,
}

/// A value that an expression leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'j> {
    /// An element and its FHIR type.
    Element(&'j Json<'j>, &'static str),
    /// A truth value that no element holds.
    Truth(bool),
}

impl Path {
    /// The values of `parameter` in a resource of `resource_type`; no branch where it has none there.
    ///
    /// # Errors
    /// [`PathError`] names the step.
    pub fn of(parameter: &Parameter, resource_type: &str) -> Result<Self, PathError> {
        let is_here = |root: &str| [resource_type, "Resource", "DomainResource"].contains(&root);
        let mut branches = Vec::new();
        for branch in split(parameter.expression, '|') {
            let (root, mut steps) = compile(branch)?;
            match root {
                Some(root) if is_here(root) => branches.push(steps),
                // One of the official definitions leaves its type out (InsurancePlan-name).
                Some(element) if element.starts_with(char::is_lowercase) => {
                    steps.insert(0, Step::Element(element));
                    branches.push(steps);
                }
                _ => {}
            }
        }
        Ok(Self { branches })
    }

    /// The values of a composite's component, below an element that the composite leads to.
    ///
    /// # Errors
    /// [`PathError`] names the step.
    pub fn below(expression: &'static str) -> Result<Self, PathError> {
        let branches = split(expression, '|').map(|branch| {
            let (root, mut steps) = compile(branch)?;
            // `%resource.…` begins at the top again: whoever walks it has the resource at hand.
            if let Some(first) = root.filter(|root| *root != "%resource") {
                steps.insert(0, Step::Element(first));
            }
            Ok(steps)
        });
        Ok(Self { branches: branches.collect::<Result<_, _>>()? })
    }

    /// Where it leads to references to one type alone: the same without that, and the type.
    pub(crate) fn of_any_target(&self) -> Option<(Self, &'static str)> {
        let mut only = None;
        let mut branches = self.branches.clone();
        for branch in &mut branches {
            let Some(Step::RefersTo(ty)) = branch.pop() else { return None };
            if only.replace(ty).is_some_and(|other| other != ty) {
                return None;
            }
        }
        only.map(|ty| (Self { branches }, ty))
    }

    /// Each of its branches alone.
    pub(crate) fn each(&self) -> impl Iterator<Item = Self> {
        self.branches.iter().map(|branch| Self { branches: vec![branch.clone()] })
    }

    /// Whether it leads nowhere.
    pub fn is_empty(&self) -> bool {
        self.branches.is_empty()
    }

    /// The types that its values may have.
    pub fn types(&self, r4: &'static Definitions, shape: &'static Shape) -> Vec<&'static str> {
        fn walk(r4: &'static Definitions, steps: &[Step], ty: &'static str) -> Vec<&'static str> {
            let Some((step, rest)) = steps.split_first() else { return vec![ty] };
            match step {
                Step::Element(name) => {
                    let fields = r4.shape(ty).into_iter().flat_map(|shape| shape.fields_of(name));
                    fields.flat_map(|field| walk(r4, rest, field.ty)).collect()
                }
                Step::As(wanted) if !ty.eq_ignore_ascii_case(wanted) => Vec::new(),
                Step::IsSaid => vec!["boolean"],
                _ => walk(r4, rest, ty),
            }
        }
        let mut types: Vec<&str> =
            self.branches.iter().flat_map(|steps| walk(r4, steps, shape.path)).collect();
        types.sort_unstable();
        types.dedup();
        types
    }

    /// The required bindings of the elements that it leads to; absent where one of them has none, or is no code.
    pub fn bindings(&self, r4: &'static Definitions, shape: &'static Shape) -> Option<Vec<&'static Codes>> {
        fn walk(
            r4: &'static Definitions,
            steps: &[Step],
            (ty, codes): (&'static str, Option<&'static Codes>),
            out: &mut Vec<Option<&'static Codes>>,
        ) {
            let Some((step, rest)) = steps.split_first() else {
                return out.push(codes.filter(|_| ty == "code"));
            };
            match step {
                Step::Element(name) => {
                    for field in r4.shape(ty).into_iter().flat_map(|shape| shape.fields_of(name)) {
                        walk(r4, rest, (field.ty, field.codes), out);
                    }
                }
                Step::As(wanted) if !ty.eq_ignore_ascii_case(wanted) => {}
                Step::IsSaid => out.push(None),
                _ => walk(r4, rest, (ty, codes), out),
            }
        }
        let mut bindings = Vec::new();
        self.branches.iter().for_each(|steps| walk(r4, steps, (shape.path, None), &mut bindings));
        bindings.into_iter().collect()
    }

    /// All values below `from`, in the order of the branches and of the document.
    pub fn walk<'j>(
        &self,
        r4: &'static Definitions,
        from: &'j Json<'j>,
        shape: &'static Shape,
    ) -> Vec<Found<'j>> {
        let mut found = Vec::new();
        for steps in &self.branches {
            walk(r4, steps, (from, shape.path), &mut found);
        }
        found
    }
}

/// A path with the members of its elements looked up: what it costs to walk is what it costs to find these.
#[derive(Debug)]
pub struct Resolved {
    branches: Vec<Node>,
}

#[derive(Debug)]
enum Node {
    /// Here, of this type.
    Here(&'static str),
    /// Members, and what is behind each.
    Members {
        only_first: bool,
        members: Vec<(&'static str, Node)>,
    },
    /// As the steps of the same names.
    Where {
        element: &'static str,
        text: &'static str,
        rest: Box<Node>,
    },
    RefersTo(&'static str, Box<Node>),
    IsSaid(Vec<&'static str>),
    /// Below a resource within the resource: which type it is of is said there.
    Within(Vec<Step>),
    Nowhere,
}

impl Path {
    /// The same path for a type of resource.
    pub fn resolve(&self, r4: &'static Definitions, shape: &'static Shape) -> Resolved {
        Resolved { branches: self.branches.iter().map(|steps| Node::of(r4, steps, shape.path)).collect() }
    }
}

impl Resolved {
    /// As [`Path::walk`].
    pub fn walk<'j>(&self, r4: &'static Definitions, from: &'j Json<'j>, found: &mut Vec<Found<'j>>) {
        for node in &self.branches {
            node.walk(r4, from, found);
        }
    }
}

impl Node {
    fn of(r4: &'static Definitions, steps: &[Step], ty: &'static str) -> Self {
        let Some((step, rest)) = steps.split_first() else { return Self::Here(ty) };
        match step {
            Step::Element(_) if ty == "Resource" => Self::Within(steps.to_vec()),
            Step::Element(name) => {
                let Some(shape) = r4.shape(ty) else { return Self::Nowhere };
                let (only_first, rest) = match rest.split_first() {
                    Some((Step::First, rest)) => (true, rest),
                    Some((Step::IsSaid, _)) => {
                        return Self::IsSaid(shape.fields_of(name).map(|field| &*field.name).collect());
                    }
                    _ => (false, rest),
                };
                let members = shape.fields_of(name).map(|field| (&*field.name, Self::of(r4, rest, field.ty)));
                let members = members.filter(|(_, node)| !matches!(node, Self::Nowhere));
                Self::Members { only_first, members: members.collect() }
            }
            Step::As(wanted) if ty.eq_ignore_ascii_case(wanted) => Self::of(r4, rest, ty),
            Step::Where { element, text } => {
                Self::Where { element, text, rest: Box::new(Self::of(r4, rest, ty)) }
            }
            Step::RefersTo(wanted) => Self::RefersTo(wanted, Box::new(Self::of(r4, rest, ty))),
            Step::As(_) | Step::First | Step::IsSaid => Self::Nowhere,
        }
    }

    fn walk<'j>(&self, r4: &'static Definitions, json: &'j Json<'j>, found: &mut Vec<Found<'j>>) {
        match self {
            Self::Here(ty) => found.push(Found::Element(json, ty)),
            Self::Members { only_first, members } => {
                for (name, node) in members {
                    let elements = json.get(name).map_or(&[][..], Json::elements);
                    let count = if *only_first { 1 } else { elements.len() };
                    for element in elements.iter().take(count).filter(|element| **element != Json::Null) {
                        node.walk(r4, element, found);
                    }
                }
            }
            Self::Where { element, text, rest } => {
                if json.get(element).and_then(Json::as_str) == Some(text) {
                    rest.walk(r4, json, found);
                }
            }
            Self::RefersTo(wanted, rest) => {
                if refers_to(json, wanted) {
                    rest.walk(r4, json, found);
                }
            }
            Self::IsSaid(names) => {
                let mut said = names.iter().filter_map(|name| json.get(name));
                found.push(Found::Truth(said.any(|value| *value != Json::Bool(false))));
            }
            Self::Within(steps) => walk(r4, steps, (json, "Resource"), found),
            Self::Nowhere => {}
        }
    }
}

fn walk<'j>(
    r4: &'static Definitions,
    steps: &[Step],
    (json, ty): (&'j Json<'j>, &'static str),
    found: &mut Vec<Found<'j>>,
) {
    let Some((step, rest)) = steps.split_first() else {
        found.push(Found::Element(json, ty));
        return;
    };
    match step {
        Step::Element(name) => {
            let ty = if ty == "Resource" { of_resource(json) } else { ty };
            let Some(shape) = r4.shape(ty) else { return };
            let (only_first, rest) = match rest.split_first() {
                Some((Step::First, rest)) => (true, rest),
                Some((Step::IsSaid, _)) => {
                    let mut said = shape.fields_of(name).filter_map(|field| json.get(&field.name));
                    found.push(Found::Truth(said.any(|value| *value != Json::Bool(false))));
                    return;
                }
                _ => (false, rest),
            };
            for field in shape.fields_of(name) {
                let elements = json.get(&field.name).map_or(&[][..], Json::elements);
                let count = if only_first { 1 } else { elements.len() };
                for element in elements.iter().take(count).filter(|element| **element != Json::Null) {
                    walk(r4, rest, (element, field.ty), found);
                }
            }
        }
        Step::As(wanted) if ty.eq_ignore_ascii_case(wanted) => walk(r4, rest, (json, ty), found),
        Step::Where { element, text } if json.get(element).and_then(Json::as_str) == Some(text) => {
            walk(r4, rest, (json, ty), found);
        }
        Step::RefersTo(wanted) if refers_to(json, wanted) => walk(r4, rest, (json, ty), found),
        Step::As(_) | Step::Where { .. } | Step::RefersTo(_) | Step::First | Step::IsSaid => {}
    }
}

/// The type of a resource within another, if R4 has it.
fn of_resource(json: &Json<'_>) -> &'static str {
    let name = json.get("resourceType").and_then(Json::as_str).unwrap_or_default();
    crate::r4::r4().resource_types().find(|known| *known == name).unwrap_or_default()
}

/// Whether a Reference names the type `wanted`: in its address, or beside it.
fn refers_to(reference: &Json<'_>, wanted: &str) -> bool {
    if reference.get("type").and_then(Json::as_str) == Some(wanted) {
        return true;
    }
    let Some(text) = reference.get("reference").and_then(Json::as_str) else { return false };
    let address = text.split_once("/_history/").map_or(text, |(address, _)| address);
    let mut from_behind = address.rsplit('/');
    from_behind.next().is_some_and(|id| !id.is_empty()) && from_behind.next() == Some(wanted)
}

/// One branch: its root (a type, or the first element of a component) and the steps behind it.
fn compile(branch: &'static str) -> Result<(Option<&'static str>, Vec<Step>), PathError> {
    let branch = branch.trim();
    if let Some((said, denied)) = branch.split_once(".exists() and ")
        && denied.strip_suffix(" != false") == Some(said)
    {
        let (root, mut steps) = compile(said)?;
        steps.push(Step::IsSaid);
        return Ok((root, steps));
    }
    // `(X as T).rest`
    if let Some((inner, rest)) = branch.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
        let (root, mut steps) = compile(inner)?;
        for step in split(rest, '.') {
            steps.extend(compile_step(step)?);
        }
        return Ok((root, steps));
    }
    if let Some((path, ty)) = branch.split_once(" as ") {
        let (root, mut steps) = compile(path)?;
        steps.push(Step::As(name(ty.trim())?));
        return Ok((root, steps));
    }
    let mut parts = split(branch, '.');
    let root = parts.next();
    let mut steps = Vec::new();
    for part in parts {
        steps.extend(compile_step(part)?);
    }
    Ok((root, steps))
}

fn compile_step(step: &'static str) -> Result<Vec<Step>, PathError> {
    if let Some(ty) = step.strip_prefix("as(").and_then(|rest| rest.strip_suffix(')')) {
        return Ok(vec![Step::As(name(ty)?)]);
    }
    if let Some(condition) = step.strip_prefix("where(").and_then(|rest| rest.strip_suffix(')')) {
        if let Some(ty) = condition.strip_prefix("resolve() is ") {
            return Ok(vec![Step::RefersTo(name(ty)?)]);
        }
        let text = condition.split_once('=').and_then(|(element, text)| {
            Some((element.trim(), text.trim().strip_prefix('\'')?.strip_suffix('\'')?))
        });
        let (element, text) = text.ok_or_else(|| PathError { step: step.to_owned() })?;
        return Ok(vec![Step::Where { element: name(element)?, text }]);
    }
    if let Some(element) = step.strip_suffix("[0]") {
        return Ok(vec![Step::Element(name(element)?), Step::First]);
    }
    Ok(vec![Step::Element(name(step)?)])
}

/// A name of letters and digits.
fn name(text: &'static str) -> Result<&'static str, PathError> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(text);
    }
    Err(PathError { step: text.to_owned() })
}

/// Parts between `sign`, where it stands in no bracket; no empty ones.
fn split(text: &'static str, sign: char) -> impl Iterator<Item = &'static str> {
    let mut depth = 0_i32;
    let between = move |letter: char| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        letter == sign && depth == 0
    };
    text.split(between).map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::r4::{ParameterType, r4};

    fn values(resource: &str, code: &str) -> Vec<String> {
        let json = Json::parse(resource.as_bytes()).unwrap();
        let ty = json.get("resourceType").and_then(Json::as_str).unwrap().to_owned();
        let parameter = r4().parameter(&ty, code).unwrap();
        let shape = r4().shape(&ty).unwrap();
        let path = Path::of(parameter, &ty).unwrap();
        let found = path.walk(r4(), &json, shape);
        let mut resolved = Vec::new();
        path.resolve(r4(), shape).walk(r4(), &json, &mut resolved);
        assert_eq!(resolved, found, "resolved it leads elsewhere");
        let shown = |found: &Found<'_>| match found {
            Found::Truth(truth) => truth.to_string(),
            Found::Element(Json::String(text), ty) => format!("{ty} {text}"),
            Found::Element(Json::Object(members), ty) => format!("{ty} of {}", members.len()),
            Found::Element(other, ty) => format!("{ty} {}", other.kind()),
        };
        found.iter().map(shown).collect()
    }

    #[test]
    fn every_parameter_of_r4_is_compiled_for_every_type_that_has_it() {
        let mut without = Vec::new();
        for ty in r4().resource_types() {
            for parameter in r4().parameters_of(ty) {
                let path = Path::of(parameter, ty).unwrap_or_else(|why| panic!("{}: {why}", parameter.id));
                if path.is_empty() {
                    without.push(parameter.code);
                }
                for (_, below) in &parameter.components {
                    assert!(!Path::below(below).unwrap().is_empty(), "{}", parameter.id);
                }
            }
        }
        without.sort_unstable();
        without.dedup();
        assert_eq!(without, ["_content", "_query", "_text"], "what no element answers");
    }

    /// Each step of each path is an element that is there: a name that is not would find nothing, in silence.
    #[test]
    fn every_path_leads_to_elements_that_there_are() {
        let mut nowhere = Vec::new();
        for ty in r4().resource_types() {
            for parameter in r4().parameters_of(ty).filter(|one| one.ty != ParameterType::Composite) {
                for branch in Path::of(parameter, ty).unwrap().branches {
                    let branch = Path { branches: vec![branch] };
                    if branch.types(r4(), r4().shape(ty).unwrap()).is_empty() {
                        nowhere.push(format!("{ty} {}", parameter.id));
                    }
                }
            }
        }
        assert_eq!(nowhere, Vec::<String>::new());
    }

    #[test]
    fn paths_lead_where_they_should() {
        let observation = r#"{"resourceType":"Observation","subject":{"reference":"http://x/fhir/Patient/1/_history/2"},
            "valueQuantity":{"value":1},"component":[{"valueString":"a"},{"valueQuantity":{"value":2,"unit":"mg"}}]}"#;
        let patient = r#"{"resourceType":"Patient","name":[{"given":["a",null,"b"]},{"given":["c"]}],
            "telecom":[{"system":"phone","value":"1"},{"system":"email","value":"2"}]}"#;
        let cases: [(&str, &str, &str, &[&str]); 9] = [
            ("what repeats within what repeats", patient, "given", &["string a", "string b", "string c"]),
            ("by a text", patient, "email", &["ContactPoint of 2"]),
            ("a choice", observation, "value-quantity", &["Quantity of 1"]),
            ("another of it", observation, "value-date", &[]),
            ("several branches", observation, "combo-value-quantity", &["Quantity of 1", "Quantity of 2"]),
            ("a reference by its type", observation, "patient", &["Reference of 1"]),
            ("nothing said", patient, "deceased", &["false"]),
            ("said", r#"{"resourceType":"Patient","deceasedDateTime":"2020"}"#, "deceased", &["true"]),
            (
                "the first, and a resource within",
                r#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Basic"}},{"resource":{"resourceType":"Basic"}}]}"#,
                "composition",
                &["Resource of 1"],
            ),
        ];
        for (why, resource, code, want) in cases {
            assert_eq!(values(resource, code), want, "{why}");
        }
        let elsewhere = r#"{"resourceType":"Observation","subject":{"reference":"Device/1"}}"#;
        assert_eq!(values(elsewhere, "patient"), Vec::<String>::new(), "of another type");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for expression in
            ["Patient.name.first()", "Patient.where(a>1)", "Patient.name[1]", "(Patient.x as T-1)"]
        {
            assert!(compile(expression).is_err(), "{expression}");
        }
    }
}
