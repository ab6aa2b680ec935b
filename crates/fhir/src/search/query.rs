//! What a search asks (<https://hl7.org/fhir/R4/search.html>): names and values of an address or a form become criteria,
//! all of which must hold. Strict: what is not known, or not answered, is refused with the nearest name. A query written
//! again by [`Query::pairs`] means the same.

mod operand;
mod reader;
mod rules;

pub use operand::{Escaped, Moment, Number, Operand, Target, Token};
pub use rules::{Modifier, Prefix, RULES, Rule};

#[cfg(test)]
mod tests;

use self::reader::Reader;
use crate::limits::{QUERY_BYTES_MAX, QUERY_PARAMETERS_MAX};
use crate::r4::Parameter;
use crate::resource::FhirId;

/// Why a search is refused. Names what was wrong by its place and by names of ours, never by what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A name that the type does not have.
    #[error("parameter {at}: {}{resource_type} has no such parameter{}", within_said(within), nearest_said(*nearest))]
    Unknown {
        /// From 1.
        at: usize,
        /// The result parameter whose value names it; empty where it is named itself.
        within: &'static str,
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
    /// Bytes that are no UTF-8: another text would be looked for.
    #[error("parameter {at}: it is not UTF-8, or holds U+FFFD, which stands for what is not")]
    Encoding {
        /// From 1.
        at: usize,
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

impl QueryError {
    /// The parameter that is wrong, where it is one that we know.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Unanswered { name, .. }
            | Self::Modifier { name, .. }
            | Self::Value { name, .. }
            | Self::Twice { name, .. } => Some(*name),
            Self::Unknown { within, .. } => Some(*within).filter(|within| !within.is_empty()),
            Self::Encoding { .. } | Self::Chain { .. } | Self::Bound { .. } => None,
        }
    }
}

fn within_said(within: &str) -> String {
    if within.is_empty() { String::new() } else { format!("in `{within}`: ") }
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
    /// Of a List in which it stands: what holds of that (`_list`).
    Listed(Box<Criterion>),
    /// That it lies in a compartment: said by the address, not by a parameter.
    Within(Compartment),
}

/// The compartment of one resource (<https://hl7.org/fhir/R4/compartmentdefinition.html>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compartment {
    /// Whose: the type, of which there are compartments.
    pub resource_type: &'static str,
    /// The logical id.
    pub id: FhirId,
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
const RESULT: [&str; 8] =
    ["_sort", "_count", "_total", "_summary", "_include", "_revinclude", "_has", "_list"];

/// Result parameters of R4 that are not answered.
const UNANSWERED: [&str; 7] =
    ["_elements", "_contained", "_containedType", "_type", "_filter", "_score", "_at"];

/// Whether R4 has a parameter of this name that says how to answer.
pub fn is_of_result(name: &str) -> bool {
    RESULT.contains(&name) || UNANSWERED.contains(&name)
}

impl Query {
    /// All resources of a type.
    pub fn of(resource_type: &'static str) -> Self {
        Self {
            resource_type,
            criteria: Vec::new(),
            sort: Vec::new(),
            count: None,
            total: Total::default(),
            summary: Summary::default(),
            includes: Vec::new(),
        }
    }

    /// What is asked of values, wherever it stands: also behind references.
    pub fn filters_mut(&mut self) -> Vec<&mut Filter> {
        let mut filters = Vec::new();
        self.criteria.iter_mut().for_each(|criterion| criterion.filters_mut(&mut filters));
        filters
    }

    /// Reads names and values in their order. With [`Handling::Lenient`] also says what was left out.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn parse<'p>(
        resource_type: &'static str,
        pairs: impl IntoIterator<Item = (&'p str, &'p str)>,
        handling: Handling,
    ) -> Result<(Self, Vec<QueryError>), QueryError> {
        let mut reader = Reader::new(Self::of(resource_type));
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
            // What reading a form makes of bytes that are none.
            if name.contains(char::REPLACEMENT_CHARACTER) || value.contains(char::REPLACEMENT_CHARACTER) {
                return Err(QueryError::Encoding { at: reader.at });
            }
            let read = match (name, value) {
                ("", "") => continue,
                (name, "") => reader.known(name),
                (name, value) => reader.pair(name, value),
            };
            match read {
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
        let mut pairs: Vec<(String, String)> = self.criteria.iter().filter_map(Criterion::pair).collect();
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
            Self::Listed(_) => "_list".to_owned(),
            Self::Within(_) => String::new(),
        }
    }

    fn values(&self) -> &[Operand] {
        match self {
            Self::Filter(filter) => &filter.values,
            Self::Chain { to, .. } => to.first().map_or(&[], |(_, behind)| behind.values()),
            Self::Has { holds, .. } | Self::Listed(holds) => holds.values(),
            Self::Within(_) => &[],
        }
    }

    fn filters_mut<'c>(&'c mut self, out: &mut Vec<&'c mut Filter>) {
        match self {
            Self::Filter(filter) => out.push(filter),
            Self::Chain { to, .. } => to.iter_mut().for_each(|(_, behind)| behind.filters_mut(out)),
            Self::Has { holds, .. } | Self::Listed(holds) => holds.filters_mut(out),
            Self::Within(_) => {}
        }
    }

    fn pair(&self) -> Option<(String, String)> {
        if matches!(self, Self::Within(_)) {
            return None;
        }
        let values: Vec<String> = self.values().iter().map(ToString::to_string).collect();
        Some((self.name(), values.join(",")))
    }
}
