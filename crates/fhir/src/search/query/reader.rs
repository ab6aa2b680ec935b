//! Names and values one after the other.

use super::operand::{self, Operand};
use super::{
    Criterion, Filter, Include, Modifier, Query, QueryError, RESULT, Rule, SortKey, Summary, Total,
    UNANSWERED,
};
use crate::limits::{
    CHAIN_STEPS_MAX, CHAIN_WAYS_MAX, INCLUDES_MAX, QUERY_NEGATIONS_MAX, QUERY_VALUE_BYTES_MAX,
    QUERY_VALUES_MAX, SORT_KEYS_MAX,
};
use crate::path::Path;
use crate::r4::{Parameter, ParameterType, nearest, r4};
use crate::search::fold::{FOLDED_BYTES_MAX, fold};
use crate::search::unit::{UCUM, is_unit};

/// A query that is being read.
pub(super) struct Reader {
    pub(super) query: Query,
    /// Which parameter, from 1.
    pub(super) at: usize,
    seen: Vec<&'static str>,
    values: usize,
    negations: usize,
}

impl Reader {
    pub(super) const fn new(query: Query) -> Self {
        Self { query, at: 0, seen: Vec::new(), values: 0, negations: 0 }
    }

    /// Whether there is such a parameter: of one without a value nothing else is asked.
    pub(super) fn known(&self, name: &str) -> Result<(), QueryError> {
        let plain = name.split([':', '.']).next().unwrap_or_default();
        if RESULT.contains(&plain) {
            return Ok(());
        }
        match self.parameter(self.query.resource_type, plain) {
            Err(QueryError::Unanswered { .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    pub(super) fn pair(&mut self, name: &str, value: &str) -> Result<(), QueryError> {
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
                    let sorts = |parameter: &Parameter| Rule::of(parameter.ty).sorts;
                    let parameter = self.named("_sort", self.query.resource_type, code, sorts)?;
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
        if value != "*" {
            let mut parts = value.split(':');
            let (source, code, target) = (parts.next(), parts.next(), parts.next());
            let (Some(source), Some(code), None) = (source.and_then(type_of), code, parts.next()) else {
                return Err(wrong);
            };
            include.source = Some(source);
            if code != "*" {
                let refers = |parameter: &Parameter| parameter.ty == ParameterType::Reference;
                let parameter = self.named(name, source, code, refers)?;
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
        self.named("", resource_type, code, |_| true)
    }

    /// A parameter that is answered, which `within` names; of those that fit is told which is nearest.
    fn named(
        &self,
        within: &'static str,
        resource_type: &'static str,
        code: &str,
        fits: impl Fn(&Parameter) -> bool,
    ) -> Result<&'static Parameter, QueryError> {
        if let Some(parameter) = r4().parameter(resource_type, code) {
            if Rule::answers(parameter) {
                return Ok(parameter);
            }
            return Err(QueryError::Unanswered { at: self.at, name: parameter.code });
        }
        if let Some(name) = UNANSWERED.into_iter().find(|known| *known == code) {
            return Err(QueryError::Unanswered { at: self.at, name });
        }
        let answered =
            r4().parameters_of(resource_type).filter(|parameter| Rule::answers(parameter) && fits(parameter));
        let results = RESULT.into_iter().filter(|_| within.is_empty());
        let known = answered.map(|parameter| parameter.code).chain(results);
        Err(QueryError::Unknown { at: self.at, within, resource_type, nearest: nearest(code, known) })
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
        if name == "_has" || name.starts_with("_has:") {
            let rest = name.split_once(':').map_or("", |(_, rest)| rest);
            return self.has(resource_type, rest, value, steps, ways);
        }
        if name == "_list" {
            return self.list(value);
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
        self.is_followed(resource_type, reference)?;
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

    /// Refuses to go on through what is named by a canonical address: it would find nothing, and not say so.
    fn is_followed(&self, ty: &'static str, reference: &'static Parameter) -> Result<(), QueryError> {
        let path = Path::of(reference, ty).ok().zip(r4().shape(ty));
        if path.is_some_and(|(path, shape)| path.types(r4(), shape) == ["canonical"]) {
            return Err(self.chain(
                "this reference names what it leads to by a canonical address, which chains and _has do not follow: \
                 _include does, or search by the address",
            ));
        }
        Ok(())
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
        self.is_followed(ty, reference)?;
        let holds = Box::new(self.criterion(ty, behind, value, steps + 1, ways)?);
        Ok(Criterion::Has { resource_type: ty, reference, holds })
    }

    /// What stands in a List, which is not what was struck off it. Lists that are functions (`$current-problems`) are none.
    fn list(&mut self, value: &str) -> Result<Criterion, QueryError> {
        if value.contains(['$', '/']) {
            let is = "the id of a List that is here; $current-… and other functions are none";
            return Err(self.value("_list", is));
        }
        Ok(Criterion::Listed(Box::new(Criterion::Filter(self.filter("List", "_id", value)?))))
    }

    fn filter(&mut self, resource_type: &'static str, name: &str, value: &str) -> Result<Filter, QueryError> {
        let (code, said) = name.split_once(':').map_or((name, None), |(code, said)| (code, Some(said)));
        let parameter = self.parameter(resource_type, code)?;
        let rule = Rule::of(parameter.ty);
        let is_reference = parameter.ty == ParameterType::Reference;
        let of_type = said.filter(|_| is_reference).and_then(type_of);
        let modifier = match said {
            Some(said) if of_type.is_none() => {
                let known =
                    Modifier::parse(said).filter(|known| Rule::takes(resource_type, parameter, *known));
                let type_too = if is_reference { ", :[type]" } else { "" };
                let takes = format!("{}{type_too}", Rule::modifiers_of(resource_type, parameter));
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
            let operand = operand.ok_or_else(|| self.value(parameter.code, wants))?;
            if is_cut(&operand, parameter, modifier) {
                let what = "bytes in one text, without case and accents (but for :exact)";
                return Err(QueryError::Bound { what, max: FOLDED_BYTES_MAX - SIGN_BYTES });
            }
            if has_no_unit(&operand) {
                return Err(self.value(
                    parameter.code,
                    "in a unit that UCUM knows (mg, mmol/L, mm[Hg]), where its system is UCUM's",
                ));
            }
            values.push(operand);
        }
        if matches!(modifier, Some(Modifier::Not | Modifier::NotIn)) {
            self.negations += 1;
            if self.negations > QUERY_NEGATIONS_MAX {
                return Err(QueryError::Bound {
                    what: "parameters with :not or :not-in",
                    max: QUERY_NEGATIONS_MAX,
                });
            }
        }
        if modifier == Some(Modifier::Missing) && values.len() > 1 {
            return Err(self.value(parameter.code, wants));
        }
        Ok(Filter { parameter, modifier, values })
    }
}

/// Bytes of the longest sign and of a blank, by which a text that was cut may be shorter than the bound.
const SIGN_BYTES: usize = 6;

/// Whether a text may be longer than what of texts is kept: it would find those that begin alike, and a condition write to them.
fn is_cut(operand: &Operand, parameter: &Parameter, modifier: Option<Modifier>) -> bool {
    let is_folded = match modifier {
        Some(Modifier::Text) => true,
        Some(Modifier::Exact) => false,
        _ => matches!(parameter.ty, ParameterType::String | ParameterType::Composite),
    };
    is_folded && has_long_text(operand)
}

fn has_long_text(operand: &Operand) -> bool {
    match operand {
        Operand::Text(text) => fold(text).len() > FOLDED_BYTES_MAX - SIGN_BYTES,
        Operand::Parts(parts) => parts.iter().any(has_long_text),
        _ => false,
    }
}

/// Whether a quantity is in a unit of UCUM that UCUM does not know: it would find nothing, and not say so.
fn has_no_unit(operand: &Operand) -> bool {
    match operand {
        Operand::Quantity { system, code, .. } => system == UCUM && !code.is_empty() && !is_unit(code),
        Operand::Parts(parts) => parts.iter().any(has_no_unit),
        _ => false,
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
