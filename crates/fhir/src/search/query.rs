//! What a search asks (<https://hl7.org/fhir/R4/search.html>): names and values of an address or a form become criteria,
//! all of which must hold. Strict: what is not known, or not answered, is refused with the nearest name. A query written
//! again by [`Query::pairs`] means the same.

mod operand;
mod rules;

pub use operand::{Moment, Number, Operand, Target, Token};
pub use rules::{Modifier, Prefix, RULES, Rule};

#[cfg(test)]
mod tests;

use crate::limits::{
    CHAIN_STEPS_MAX, CHAIN_WAYS_MAX, INCLUDES_MAX, QUERY_BYTES_MAX, QUERY_PARAMETERS_MAX,
    QUERY_VALUE_BYTES_MAX, QUERY_VALUES_MAX, SORT_KEYS_MAX,
};
use crate::r4::{Parameter, ParameterType, r4};

/// Why a search is refused. Names what was wrong by its place and by names of ours, never by what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A name that the type does not have.
    #[error("parameter {at}: {resource_type} has no such parameter{}", nearest_said(*nearest))]
    Unknown {
        /// From 1.
        at: usize,
        /// The type.
        resource_type: &'static str,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// A name that R4 has and that is not answered here.
    #[error("parameter {at}: `{name}` is not supported here")]
    Unanswered {
        /// From 1.
        at: usize,
        /// The name.
        name: &'static str,
    },
    /// A modifier that the parameter does not have here.
    #[error("parameter {at}: `{name}` is a {ty} parameter and takes {takes}")]
    Modifier {
        /// From 1.
        at: usize,
        /// The parameter.
        name: &'static str,
        /// Its type.
        ty: &'static str,
        /// What it takes.
        takes: String,
    },
    /// A value that is none.
    #[error("parameter {at}: a value of `{name}` is {wants}")]
    Value {
        /// From 1.
        at: usize,
        /// The parameter.
        name: &'static str,
        /// How a value is written.
        wants: &'static str,
    },
    /// A chain through what is no reference, or to a type to which the reference does not lead.
    #[error("parameter {at}: {why}")]
    Chain {
        /// From 1.
        at: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// A result parameter that stands twice.
    #[error("parameter {at}: `{name}` stands twice")]
    Twice {
        /// From 1.
        at: usize,
        /// The parameter.
        name: &'static str,
    },
    /// More than a bound.
    #[error("a search has at most {max} {what}")]
    Bound {
        /// Of what.
        what: &'static str,
        /// How many.
        max: usize,
    },
}

fn nearest_said(nearest: Option<&'static str>) -> String {
    nearest
        .map_or_else(|| "; /fhir/metadata lists them".to_owned(), |name| format!("; the nearest is `{name}`"))
}

/// One thing that must hold.
#[derive(Debug, Clone)]
pub enum Criterion {
    /// Of the resource itself.
    Filter(Filter),
    /// Of a resource that it refers to.
    Chain {
        /// By this parameter.
        reference: &'static Parameter,
        /// For each type that it may be, what holds of it: any of them.
        to: Vec<(&'static str, Criterion)>,
    },
    /// Of a resource that refers to it.
    Has {
        /// Its type.
        resource_type: &'static str,
        /// By this parameter of it.
        reference: &'static Parameter,
        /// What holds of it.
        holds: Box<Criterion>,
    },
}

/// Values of a parameter, any of which (`:not`: none of which) must be there.
#[derive(Debug, Clone)]
pub struct Filter {
    /// The parameter.
    pub parameter: &'static Parameter,
    /// Its modifier.
    pub modifier: Option<Modifier>,
    /// The values, at least one.
    pub values: Vec<Operand>,
}

/// By what an answer is sorted.
#[derive(Debug, Clone, Copy)]
pub struct SortKey {
    /// The parameter.
    pub parameter: &'static Parameter,
    /// Greatest first.
    pub descending: bool,
}

/// Whether the number of matches is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Total {
    /// Where it can be counted within a bound.
    #[default]
    WhereCheap,
    /// No.
    None,
    /// Whatever it costs.
    Accurate,
}

/// What is told of the matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Summary {
    /// All.
    #[default]
    False,
    /// How many there are, alone.
    Count,
}

/// Resources beside the matches.
#[derive(Debug, Clone, Copy)]
pub struct Include {
    /// Those that refer to a match, in place of those that a match refers to.
    pub is_reverse: bool,
    /// Also from what was included.
    pub iterates: bool,
    /// The type that has the reference; absent = any.
    pub source: Option<&'static str>,
    /// By which parameter; absent = any.
    pub parameter: Option<&'static Parameter>,
    /// To which type; absent = any.
    pub target: Option<&'static str>,
}

/// A search.
#[derive(Debug, Clone)]
pub struct Query {
    /// What is searched for.
    pub resource_type: &'static str,
    /// What must hold of it, all of it.
    pub criteria: Vec<Criterion>,
    /// The order; empty: ours.
    pub sort: Vec<SortKey>,
    /// Matches in a page; absent: the server's.
    pub count: Option<u32>,
    /// Whether the number is told.
    pub total: Total,
    /// What is told.
    pub summary: Summary,
    /// What comes with it.
    pub includes: Vec<Include>,
}

/// How parameters that are not known are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Handling {
    /// Refused.
    #[default]
    Strict,
    /// Left out, and said.
    Lenient,
}

/// Parameters that say how to answer; `_format` and `_pretty` are the window's own.
const RESULT: [&str; 7] = ["_sort", "_count", "_total", "_summary", "_include", "_revinclude", "_has"];

/// Result parameters of R4 that are not answered.
const UNANSWERED: [&str; 8] =
    ["_elements", "_contained", "_containedType", "_list", "_type", "_filter", "_score", "_at"];

impl Query {
    /// Reads names and values in their order. With [`Handling::Lenient`] also says what was left out.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn parse<'p>(
        resource_type: &'static str,
        pairs: impl IntoIterator<Item = (&'p str, &'p str)>,
        handling: Handling,
    ) -> Result<(Self, Vec<QueryError>), QueryError> {
        let query = Self {
            resource_type,
            criteria: Vec::new(),
            sort: Vec::new(),
            count: None,
            total: Total::default(),
            summary: Summary::default(),
            includes: Vec::new(),
        };
        let mut reader = Reader { query, at: 0, seen: Vec::new(), values: 0 };
        let (mut left_out, mut size_bytes) = (Vec::new(), 0);
        for (name, value) in pairs {
            reader.at += 1;
            size_bytes += name.len() + value.len();
            if reader.at > QUERY_PARAMETERS_MAX {
                return Err(QueryError::Bound { what: "parameters", max: QUERY_PARAMETERS_MAX });
            }
            if size_bytes > QUERY_BYTES_MAX {
                return Err(QueryError::Bound { what: "bytes", max: QUERY_BYTES_MAX });
            }
            if value.is_empty() {
                continue;
            }
            match reader.pair(name, value) {
                Err(error @ (QueryError::Unknown { .. } | QueryError::Unanswered { .. }))
                    if handling == Handling::Lenient =>
                {
                    left_out.push(error);
                }
                other => other?,
            }
        }
        Ok((reader.query, left_out))
    }

    /// The query as names and values, each thing in one way.
    pub fn pairs(&self) -> Vec<(String, String)> {
        let mut pairs: Vec<(String, String)> = self.criteria.iter().map(Criterion::pair).collect();
        let mut say = |name: &str, value: String| pairs.push((name.to_owned(), value));
        if !self.sort.is_empty() {
            let keys = self.sort.iter().map(|key| {
                let sign = if key.descending { "-" } else { "" };
                format!("{sign}{}", key.parameter.code)
            });
            say("_sort", keys.collect::<Vec<_>>().join(","));
        }
        for include in &self.includes {
            let name = if include.is_reverse { "_revinclude" } else { "_include" };
            let name = if include.iterates { format!("{name}:iterate") } else { name.to_owned() };
            let parameter = include.parameter.map_or("*", |parameter| parameter.code);
            let target = include.target.map_or_else(String::new, |target| format!(":{target}"));
            let value = match include.source {
                None => "*".to_owned(),
                Some(source) => format!("{source}:{parameter}{target}"),
            };
            say(&name, value);
        }
        match self.total {
            Total::WhereCheap => {}
            Total::None => say("_total", "none".to_owned()),
            Total::Accurate => say("_total", "accurate".to_owned()),
        }
        if self.summary == Summary::Count {
            say("_summary", "count".to_owned());
        }
        if let Some(count) = self.count {
            say("_count", count.to_string());
        }
        pairs
    }
}

impl Criterion {
    /// What it asks in the end, behind all references.
    fn name(&self) -> String {
        match self {
            Self::Filter(Filter { parameter, modifier, .. }) => match modifier {
                None => parameter.code.to_owned(),
                Some(modifier) => format!("{}:{}", parameter.code, modifier.as_str()),
            },
            Self::Chain { reference, to } => {
                let behind = to.first().map(|(_, behind)| behind.name()).unwrap_or_default();
                match to.as_slice() {
                    [(ty, _)] => format!("{}:{ty}.{behind}", reference.code),
                    _ => format!("{}.{behind}", reference.code),
                }
            }
            Self::Has { resource_type, reference, holds } => {
                format!("_has:{resource_type}:{}:{}", reference.code, holds.name())
            }
        }
    }

    fn values(&self) -> &[Operand] {
        match self {
            Self::Filter(filter) => &filter.values,
            Self::Chain { to, .. } => to.first().map_or(&[], |(_, behind)| behind.values()),
            Self::Has { holds, .. } => holds.values(),
        }
    }

    fn pair(&self) -> (String, String) {
        let values: Vec<String> = self.values().iter().map(ToString::to_string).collect();
        (self.name(), values.join(","))
    }
}

struct Reader {
    query: Query,
    at: usize,
    seen: Vec<&'static str>,
    values: usize,
}

impl Reader {
    fn pair(&mut self, name: &str, value: &str) -> Result<(), QueryError> {
        let (plain, modifier) =
            name.split_once(':').map_or((name, None), |(plain, rest)| (plain, Some(rest)));
        match plain {
            "_sort" | "_count" | "_total" | "_summary" => {
                let name = RESULT.into_iter().find(|known| *known == plain).unwrap_or_default();
                if modifier.is_some() {
                    return Err(self.modifier(name, "result", "no modifier"));
                }
                if self.seen.contains(&name) {
                    return Err(QueryError::Twice { at: self.at, name });
                }
                self.seen.push(name);
                self.result(name, value)
            }
            "_include" | "_revinclude" => self.include(plain == "_revinclude", modifier, value),
            _ => {
                let mut ways = 0;
                let criterion = self.criterion(self.query.resource_type, name, value, 0, &mut ways)?;
                self.query.criteria.push(criterion);
                Ok(())
            }
        }
    }

    fn modifier(&self, name: &'static str, ty: &'static str, takes: &str) -> QueryError {
        QueryError::Modifier { at: self.at, name, ty, takes: takes.to_owned() }
    }

    fn value(&self, name: &'static str, wants: &'static str) -> QueryError {
        QueryError::Value { at: self.at, name, wants }
    }

    fn chain(&self, why: &'static str) -> QueryError {
        QueryError::Chain { at: self.at, why }
    }

    fn result(&mut self, name: &'static str, value: &str) -> Result<(), QueryError> {
        match (name, value) {
            ("_sort", keys) => {
                for key in keys.split(',') {
                    let (code, descending) = key.strip_prefix('-').map_or((key, false), |code| (code, true));
                    let parameter = self.parameter(self.query.resource_type, code)?;
                    if !Rule::of(parameter.ty).sorts {
                        return Err(self.value(
                            "_sort",
                            "a list of parameters that can be sorted by, - before those that descend",
                        ));
                    }
                    self.query.sort.push(SortKey { parameter, descending });
                }
                if self.query.sort.len() > SORT_KEYS_MAX {
                    return Err(QueryError::Bound { what: "keys in _sort", max: SORT_KEYS_MAX });
                }
            }
            ("_count", digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                match digits.parse().unwrap_or(u32::MAX) {
                    0 => self.query.summary = Summary::Count,
                    count => self.query.count = Some(count),
                }
            }
            ("_count", _) => return Err(self.value(name, "a number from 0")),
            ("_total", "none") => self.query.total = Total::None,
            ("_total", "accurate") => self.query.total = Total::Accurate,
            // R4 has no mark for an estimate: none is ever told.
            ("_total", "estimate") => self.query.total = Total::WhereCheap,
            ("_total", _) => return Err(self.value(name, "none, estimate or accurate")),
            ("_summary", "count") => self.query.summary = Summary::Count,
            ("_summary", "false") => {}
            _ => {
                return Err(
                    self.value("_summary", "count or false; true, text and data are not supported here")
                );
            }
        }
        Ok(())
    }

    fn include(&mut self, is_reverse: bool, modifier: Option<&str>, value: &str) -> Result<(), QueryError> {
        let name = if is_reverse { "_revinclude" } else { "_include" };
        let iterates = match modifier {
            None => false,
            Some("iterate") => true,
            Some(_) => return Err(self.modifier(name, "result", ":iterate")),
        };
        let wrong = self.value(name, "Type:parameter, Type:parameter:Type, Type:* or *");
        let mut include = Include { is_reverse, iterates, source: None, parameter: None, target: None };
        if value == "*" && is_reverse {
            return Err(self.value(name, "Type:parameter, Type:parameter:Type or Type:*"));
        }
        if value != "*" {
            let mut parts = value.split(':');
            let (source, code, target) = (parts.next(), parts.next(), parts.next());
            let (Some(source), Some(code), None) = (source.and_then(type_of), code, parts.next()) else {
                return Err(wrong);
            };
            include.source = Some(source);
            if code != "*" {
                let parameter = self.parameter(source, code)?;
                if parameter.ty != ParameterType::Reference {
                    return Err(wrong);
                }
                include.parameter = Some(parameter);
            }
            if let Some(target) = target.filter(|target| !target.is_empty()) {
                include.target = Some(type_of(target).ok_or(wrong)?);
            }
        }
        if self.query.includes.len() == INCLUDES_MAX {
            return Err(QueryError::Bound { what: "_include and _revinclude", max: INCLUDES_MAX });
        }
        self.query.includes.push(include);
        Ok(())
    }

    /// A parameter that is answered.
    fn parameter(&self, resource_type: &'static str, code: &str) -> Result<&'static Parameter, QueryError> {
        if let Some(parameter) = r4().parameter(resource_type, code) {
            if Rule::answers(parameter) {
                return Ok(parameter);
            }
            return Err(QueryError::Unanswered { at: self.at, name: parameter.code });
        }
        if let Some(name) = UNANSWERED.into_iter().find(|known| *known == code) {
            return Err(QueryError::Unanswered { at: self.at, name });
        }
        let answered = r4().parameters_of(resource_type).filter(|parameter| Rule::answers(parameter));
        let known = answered.map(|parameter| parameter.code).chain(RESULT);
        // Names longer than any are not compared letter by letter.
        let wrong = code.get(..64).unwrap_or(code);
        let near = known.map(|known| (strsim::damerau_levenshtein(wrong, known), known)).min();
        let nearest =
            near.filter(|(distance, known)| *distance <= known.len().div_ceil(2)).map(|(_, known)| known);
        Err(QueryError::Unknown { at: self.at, resource_type, nearest })
    }

    fn criterion(
        &mut self,
        resource_type: &'static str,
        name: &str,
        value: &str,
        steps: usize,
        ways: &mut usize,
    ) -> Result<Criterion, QueryError> {
        if steps > CHAIN_STEPS_MAX {
            return Err(QueryError::Bound {
                what: "references that a parameter follows",
                max: CHAIN_STEPS_MAX,
            });
        }
        if let Some(rest) = name.strip_prefix("_has:") {
            return self.has(resource_type, rest, value, steps, ways);
        }
        let Some((head, behind)) = name.split_once('.') else {
            *ways += 1;
            if *ways > CHAIN_WAYS_MAX {
                return Err(QueryError::Bound {
                    what: "ways through a chain: name the types (subject:Patient.name)",
                    max: CHAIN_WAYS_MAX,
                });
            }
            return self.filter(resource_type, name, value).map(Criterion::Filter);
        };
        let (code, ty) = head.split_once(':').map_or((head, None), |(code, ty)| (code, Some(ty)));
        let reference = self.parameter(resource_type, code)?;
        if reference.ty != ParameterType::Reference {
            return Err(self.chain("only a reference leads to parameters of another resource"));
        }
        if let Some(ty) = ty {
            let no_type = || {
                self.chain(
                    "behind the colon of a chain stands the type of a resource to which the reference leads",
                )
            };
            let ty = type_of(ty).filter(|ty| leads_to(reference, ty)).ok_or_else(no_type)?;
            let behind = self.criterion(ty, behind, value, steps + 1, ways)?;
            return Ok(Criterion::Chain { reference, to: vec![(ty, behind)] });
        }
        if reference.targets.is_empty() || reference.targets.len() > CHAIN_WAYS_MAX {
            return Err(self.chain("this reference leads to any type: name one (focus:Patient.name)"));
        }
        let mut to = Vec::new();
        let mut first_error = None;
        for ty in reference.targets.clone() {
            let values = self.values;
            match self.criterion(ty, behind, value, steps + 1, ways) {
                Ok(behind) => to.push((ty, behind)),
                Err(error @ (QueryError::Unknown { .. } | QueryError::Chain { .. })) => {
                    self.values = values;
                    first_error = first_error.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        match (to.is_empty(), first_error) {
            (true, Some(error)) => Err(error),
            _ => Ok(Criterion::Chain { reference, to }),
        }
    }

    /// `Observation:patient:code`, behind `_has:`.
    fn has(
        &mut self,
        resource_type: &'static str,
        rest: &str,
        value: &str,
        steps: usize,
        ways: &mut usize,
    ) -> Result<Criterion, QueryError> {
        let wrong = self.chain("_has is written _has:Type:reference:parameter");
        let mut parts = rest.splitn(3, ':');
        let (Some(ty), Some(code), Some(behind)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong);
        };
        let ty = type_of(ty).ok_or(wrong)?;
        let reference = self.parameter(ty, code)?;
        if reference.ty != ParameterType::Reference || !leads_to(reference, resource_type) {
            return Err(self.chain("_has goes by a reference that leads to the type that is searched for"));
        }
        let holds = Box::new(self.criterion(ty, behind, value, steps + 1, ways)?);
        Ok(Criterion::Has { resource_type: ty, reference, holds })
    }

    fn filter(&mut self, resource_type: &'static str, name: &str, value: &str) -> Result<Filter, QueryError> {
        let (code, said) = name.split_once(':').map_or((name, None), |(code, said)| (code, Some(said)));
        let parameter = self.parameter(resource_type, code)?;
        let rule = Rule::of(parameter.ty);
        let is_reference = parameter.ty == ParameterType::Reference;
        let of_type = said.filter(|_| is_reference).and_then(type_of);
        let modifier = match said {
            Some(said) if of_type.is_none() => {
                let known = Modifier::parse(said).filter(|known| rule.modifiers.contains(known));
                let type_too = if is_reference { ", :[type]" } else { "" };
                let takes = format!("{}{type_too}", rule.modifiers_said());
                Some(known.ok_or_else(|| self.modifier(parameter.code, rule.name, &takes))?)
            }
            _ => None,
        };
        let wants = operand::wants(parameter, modifier);
        let mut values: Vec<Operand> = Vec::new();
        for raw in operand::split(value, ',') {
            if raw.len() > QUERY_VALUE_BYTES_MAX {
                return Err(QueryError::Bound { what: "bytes in one value", max: QUERY_VALUE_BYTES_MAX });
            }
            self.values += 1;
            if self.values > QUERY_VALUES_MAX {
                return Err(QueryError::Bound { what: "values", max: QUERY_VALUES_MAX });
            }
            let operand = if raw.is_empty() || raw.contains('\0') {
                None
            } else {
                Operand::parse(parameter, modifier, of_type, raw)
            };
            values.push(operand.ok_or_else(|| self.value(parameter.code, wants))?);
        }
        if modifier == Some(Modifier::Missing) && values.len() > 1 {
            return Err(self.value(parameter.code, wants));
        }
        Ok(Filter { parameter, modifier, values })
    }
}

/// Whether a reference may lead to a type.
fn leads_to(reference: &Parameter, resource_type: &str) -> bool {
    reference.targets.is_empty() || reference.targets.contains(&resource_type)
}

/// A type of R4.
fn type_of(name: &str) -> Option<&'static str> {
    r4().resource_types().find(|known| *known == name)
}
