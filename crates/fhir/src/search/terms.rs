//! Value sets and code systems as they stand on the server: as lists of codes, for `:in`, `:not-in`, `:above` and `:below`.
//! What a resource says in another way than by listing (filters by properties, other servers' systems) is refused by name.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::json::Json;
use crate::limits::{TERMS_CODES_MAX, TERMS_DEPTH_MAX};

/// A code of a system; an empty code stands for all of the system.
pub type Coded = (String, String);

/// Why a value set is no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// It says what is in it otherwise than by codes, hierarchies and other value sets.
    #[error("the value set says what is in it by filters that are not evaluated here: give it an expansion")]
    Filter,
    /// More than a bound.
    #[error("the value set has more than {TERMS_CODES_MAX} codes, or lies too deep")]
    TooMany,
}

/// What a value set is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// These codes.
    Codes(Vec<Coded>),
    /// A code's descendants in its system, and itself or not.
    Below {
        /// The system.
        system: String,
        /// The code.
        code: String,
        /// Whether it is itself one.
        itself: bool,
    },
    /// What is in another value set.
    ValueSet(String),
}

/// What a value set takes in, and what of that it leaves out. All of one list hold of a code that is in: `Vec` of alternatives,
/// each a list of parts that must all have the code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Composed {
    /// In any of these: in all parts of it.
    pub include: Vec<Vec<Part>>,
    /// In none of these: in all parts of it.
    pub exclude: Vec<Vec<Part>>,
}

fn text<'j>(json: &'j Json<'_>, name: &str) -> Option<&'j str> {
    json.get(name).and_then(Json::as_str)
}

fn each<'j, 'b>(json: &'j Json<'b>, name: &str) -> &'j [Json<'b>] {
    json.get(name).map_or(&[][..], Json::elements)
}

/// What a ValueSet says: its expansion where it has one, else what it is composed of.
///
/// # Errors
/// [`TermsError`].
pub fn composed(value_set: &Json<'_>) -> Result<Composed, TermsError> {
    if let Some(expansion) = value_set.get("expansion") {
        let mut codes = Vec::new();
        contained(each(expansion, "contains"), 0, &mut codes)?;
        return Ok(Composed { include: vec![vec![Part::Codes(codes)]], exclude: Vec::new() });
    }
    let Some(compose) = value_set.get("compose") else { return Ok(Composed::default()) };
    let parts = |name: &str| each(compose, name).iter().map(parts).collect::<Result<Vec<_>, _>>();
    Ok(Composed { include: parts("include")?, exclude: parts("exclude")? })
}

fn contained(all: &[Json<'_>], depth: usize, codes: &mut Vec<Coded>) -> Result<(), TermsError> {
    for one in all {
        if codes.len() >= TERMS_CODES_MAX || depth > TERMS_DEPTH_MAX {
            return Err(TermsError::TooMany);
        }
        let is_abstract = one.get("abstract") == Some(&Json::Bool(true));
        if let Some(code) = text(one, "code").filter(|_| !is_abstract) {
            codes.push((text(one, "system").unwrap_or_default().to_owned(), code.to_owned()));
        }
        contained(each(one, "contains"), depth + 1, codes)?;
    }
    Ok(())
}

/// What one `include` or `exclude` asks, all of it.
fn parts(one: &Json<'_>) -> Result<Vec<Part>, TermsError> {
    let mut parts: Vec<Part> = each(one, "valueSet")
        .iter()
        .filter_map(|address| Some(Part::ValueSet(address.as_str()?.to_owned())))
        .collect();
    let Some(system) = text(one, "system") else { return Ok(parts) };
    let concepts = each(one, "concept");
    let filters = each(one, "filter");
    if concepts.len() > TERMS_CODES_MAX {
        return Err(TermsError::TooMany);
    }
    if !concepts.is_empty() {
        let codes = concepts.iter().filter_map(|concept| text(concept, "code"));
        parts.push(Part::Codes(codes.map(|code| (system.to_owned(), code.to_owned())).collect()));
    }
    for filter in filters {
        let (property, op, code) = (text(filter, "property"), text(filter, "op"), text(filter, "value"));
        let itself = match (property, op) {
            (Some("concept"), Some("is-a")) => true,
            (Some("concept"), Some("descendent-of")) => false,
            _ => return Err(TermsError::Filter),
        };
        let code = code.ok_or(TermsError::Filter)?.to_owned();
        parts.push(Part::Below { system: system.to_owned(), code, itself });
    }
    if concepts.is_empty() && filters.is_empty() {
        parts.push(Part::Codes(vec![(system.to_owned(), String::new())]));
    }
    Ok(parts)
}

/// Codes, and systems all of whose codes they are, to be asked whether one is among them.
pub struct Among<'c> {
    codes: HashSet<(&'c str, &'c str)>,
    systems: HashSet<&'c str>,
}

impl<'c> Among<'c> {
    /// Of these.
    pub fn of(codes: &'c [Coded]) -> Self {
        let systems = codes.iter().filter(|(_, code)| code.is_empty());
        Self {
            codes: codes.iter().map(|(system, code)| (system.as_str(), code.as_str())).collect(),
            systems: systems.map(|(system, _)| system.as_str()).collect(),
        }
    }

    /// Whether a code is one of them.
    pub fn has(&self, (system, code): &Coded) -> bool {
        self.systems.contains(system.as_str()) || self.codes.contains(&(system.as_str(), code.as_str()))
    }
}

/// The codes that all parts of a list have, where each part is a list of codes.
pub fn in_all(mut parts: Vec<Vec<Coded>>) -> Vec<Coded> {
    let Some(first) = parts.pop() else { return Vec::new() };
    // Of a code and all of its system, both of which a list may say, the code is what both have.
    let mut kept = first;
    for other in parts {
        let (own, others) = (Among::of(&kept), Among::of(&other));
        let narrower = other.iter().filter(|one| own.has(one));
        let both: BTreeSet<&Coded> = kept.iter().filter(|one| others.has(one)).chain(narrower).collect();
        kept = both.into_iter().cloned().collect();
    }
    let unique: BTreeSet<Coded> = kept.into_iter().collect();
    unique.into_iter().collect()
}

/// Which codes of a CodeSystem lie below which.
///
/// ```
/// use hilum_fhir::json::Json;
/// use hilum_fhir::search::terms::Hierarchy;
/// let tree = Json::parse(br#"{"concept":[{"code":"a","concept":[{"code":"b"},{"code":"c"}]}]}"#).unwrap();
/// let tree = Hierarchy::of(&tree).unwrap();
/// assert_eq!(tree.beside("a", false).unwrap(), ["a", "b", "c"]);
/// assert_eq!(tree.beside("c", true).unwrap(), ["a", "c"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchy {
    /// Each before what lies below it.
    concepts: Vec<Concept>,
    /// Where a code stands: more than once where it lies below several.
    at: HashMap<String, Vec<usize>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Concept {
    code: String,
    above: Option<usize>,
    /// Where what lies below it ends.
    end: usize,
}

impl Hierarchy {
    /// What a CodeSystem says.
    ///
    /// # Errors
    /// [`TermsError::TooMany`] where it lies too deep.
    pub fn of(code_system: &Json<'_>) -> Result<Self, TermsError> {
        let mut all = Self::default();
        all.read(each(code_system, "concept"), None, 0)?;
        Ok(all)
    }

    fn read(&mut self, concepts: &[Json<'_>], above: Option<usize>, depth: usize) -> Result<(), TermsError> {
        if depth > TERMS_DEPTH_MAX && !concepts.is_empty() {
            return Err(TermsError::TooMany);
        }
        for concept in concepts {
            let code = text(concept, "code").unwrap_or_default();
            let at = self.concepts.len();
            self.at.entry(code.to_owned()).or_default().push(at);
            self.concepts.push(Concept { code: code.to_owned(), above, end: at });
            self.read(each(concept, "concept"), Some(at), depth + 1)?;
            let end = self.concepts.len();
            if let Some(own) = self.concepts.get_mut(at) {
                own.end = end;
            }
        }
        Ok(())
    }

    /// The codes that lie below one (`above`: above it), the code itself with them: of one that the system does not list it
    /// is all that is known.
    ///
    /// # Errors
    /// [`TermsError::TooMany`].
    pub fn beside(&self, code: &str, above: bool) -> Result<Vec<String>, TermsError> {
        let mut codes = BTreeSet::from([code]);
        for at in self.at.get(code).into_iter().flatten() {
            if above {
                let mut next = Some(*at);
                while let Some(concept) = next.and_then(|at| self.concepts.get(at)) {
                    codes.insert(&concept.code);
                    next = concept.above;
                }
            } else {
                let end = self.concepts.get(*at).map_or(*at, |concept| concept.end);
                let below = self.concepts.get(*at..end).unwrap_or_default();
                // More than are looked for are not looked at.
                codes.extend(below.iter().take(TERMS_CODES_MAX + 1).map(|concept| concept.code.as_str()));
            }
            if codes.len() > TERMS_CODES_MAX {
                return Err(TermsError::TooMany);
            }
        }
        Ok(codes.into_iter().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn codes(list: &[(&str, &str)]) -> Vec<Coded> {
        list.iter().map(|(system, code)| ((*system).to_owned(), (*code).to_owned())).collect()
    }

    #[test]
    fn value_sets_are_read_as_they_say() {
        let cases = [
            ("nothing", r"{}", Ok(Composed::default())),
            (
                "an expansion goes before what it was made of",
                r#"{"expansion":{"contains":[{"system":"s","code":"a","abstract":true,"contains":[{"system":"s","code":"b"}]}]},
                    "compose":{"include":[{"system":"x"}]}}"#,
                Ok(Composed { include: vec![vec![Part::Codes(codes(&[("s", "b")]))]], exclude: vec![] }),
            ),
            (
                "codes, a whole system, another set",
                r#"{"compose":{"include":[{"system":"s","concept":[{"code":"a"}]},{"system":"t"},{"valueSet":["v"]}]}}"#,
                Ok(Composed {
                    include: vec![
                        vec![Part::Codes(codes(&[("s", "a")]))],
                        vec![Part::Codes(codes(&[("t", "")]))],
                        vec![Part::ValueSet("v".to_owned())],
                    ],
                    exclude: vec![],
                }),
            ),
            (
                "a hierarchy, without one",
                r#"{"compose":{"include":[{"system":"s","filter":[{"property":"concept","op":"is-a","value":"a"}]}],
                    "exclude":[{"system":"s","concept":[{"code":"b"}]}]}}"#,
                Ok(Composed {
                    include: vec![vec![Part::Below {
                        system: "s".to_owned(),
                        code: "a".to_owned(),
                        itself: true,
                    }]],
                    exclude: vec![vec![Part::Codes(codes(&[("s", "b")]))]],
                }),
            ),
            (
                "by a property",
                r#"{"compose":{"include":[{"system":"s","filter":[{"property":"x","op":"=","value":"a"}]}]}}"#,
                Err(TermsError::Filter),
            ),
        ];
        for (why, json, want) in cases {
            let json = Json::parse(json.as_bytes()).unwrap();
            assert_eq!(composed(&json), want, "{why}");
        }
    }

    #[test]
    fn what_all_parts_have_is_in() {
        let (a, all) = (codes(&[("s", "a"), ("s", "b")]), codes(&[("s", "")]));
        assert_eq!(in_all(vec![a.clone(), all.clone()]), a);
        assert_eq!(in_all(vec![all, a.clone()]), a);
        assert_eq!(in_all(vec![a, codes(&[("s", "b"), ("t", "a")])]), codes(&[("s", "b")]));
        assert_eq!(in_all(Vec::new()), Vec::new());
    }

    #[test]
    fn a_code_lies_beside_others_wherever_it_stands() {
        let tree = r#"{"concept":[
            {"code":"a","concept":[{"code":"b","concept":[{"code":"c"}]},{"code":"d"}]},
            {"code":"e","concept":[{"code":"b","concept":[{"code":"f"}]}]}]}"#;
        let tree = Hierarchy::of(&Json::parse(tree.as_bytes()).unwrap()).unwrap();
        let cases: &[(&str, &str, bool, &[&str])] = &[
            ("below", "a", false, &["a", "b", "c", "d"]),
            ("below either of two places", "b", false, &["b", "c", "f"]),
            ("above both", "b", true, &["a", "b", "e"]),
            ("a leaf", "d", false, &["d"]),
            ("of none that is listed", "x", true, &["x"]),
        ];
        for (why, code, above, want) in cases {
            assert_eq!(tree.beside(code, *above).unwrap(), *want, "{why}");
        }
    }
}
