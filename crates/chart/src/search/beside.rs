//! Composites: the rows of what one element says side by side. A code stands in all of them.

use bytes::Bytes;
use hilum_core::Timestamp;
use hilum_engines::tables::Value;
use hilum_engines::tables::query::{Keep, Probe, Term, Test};
use hilum_fhir::r4::{Parameter, r4};
use hilum_fhir::search::fold::{cut, fold};
use hilum_fhir::search::query::{Number, Operand, Prefix, Target, Token};
use hilum_fhir::search::unit::{Canonical, UCUM};
use hilum_fhir::search::values::Pair;

use super::plan::{Asked, PlanError, unanswered};
use super::rows::{self, At, Rows, behind, keep, keep_system, rank, spans, text, visible};
use crate::index::tables::PAIR;

impl Asked<'_> {
    /// The rows of one value of a composite.
    pub(super) fn parts(
        &self,
        at: &At,
        parameter: &'static Parameter,
        parts: &[Operand],
    ) -> Result<Vec<Rows>, PlanError> {
        let (first, second, third) = match parts {
            // DocumentReference's relationship is written the other way round.
            [Operand::Token(first), second] | [second @ Operand::Reference(_), Operand::Token(first)] => {
                (first, second, None)
            }
            [Operand::Token(first), second, Operand::Number(prefix, third)] => {
                (first, second, Some((*prefix, third)))
            }
            _ => return Err(unanswered(parameter, "is not answered so")),
        };
        if first.code.is_empty() {
            return Err(unanswered(parameter, "has a code here: code$value or system|code$value"));
        }
        let beside = Beside { at, first };
        match second {
            Operand::Token(second) if !second.code.is_empty() => {
                Ok(vec![beside.is(&second.code, keep_system("of", second))])
            }
            Operand::Text(raw) => Ok(vec![beside.begins(raw)]),
            Operand::Reference(target) => {
                let places = self.places(parameter, target);
                Ok(places.iter().map(|place| beside.is(place, None)).collect())
            }
            Operand::Date(prefix, moment) => {
                Ok(beside.dates(*prefix, self.bounds(*prefix, moment, &self.settings.zone)))
            }
            Operand::Number(prefix, second) => Ok(beside.numbers((*prefix, second), third)),
            Operand::Quantity { prefix, number, system, code } => {
                if system != UCUM && !system.is_empty() {
                    return Err(unanswered(parameter, "takes units of UCUM, or without a system"));
                }
                Ok(beside.quantities(*prefix, number, (system, code)))
            }
            _ => Err(unanswered(parameter, "is not answered so")),
        }
    }

    /// Where a reference leads, as the rows of composites say it.
    fn places(&self, parameter: &Parameter, target: &Target) -> Vec<String> {
        match target {
            Target::Local { resource_type, id } => vec![format!("{resource_type}/{id}")],
            Target::Id(id) => {
                let parts = parameter.components.iter().filter_map(|(part, _)| r4().by_id(part));
                parts.flat_map(|part| &part.targets).map(|ty| format!("{ty}/{id}")).collect()
            }
            Target::Address(address) => {
                let mut own = self.settings.bases.iter();
                let own = own.find_map(|base| address.strip_prefix(base.as_str())?.strip_prefix('/'));
                vec![own.unwrap_or(address).to_owned()]
            }
        }
    }
}

/// What stands beside a code.
struct Beside<'a> {
    at: &'a At,
    first: &'a Token,
}

impl Beside<'_> {
    /// What all rows keep.
    fn kept(&self) -> Vec<Keep> {
        visible(&self.at.t).into_iter().chain(keep_system("system", self.first)).collect()
    }

    fn code(&self) -> Term {
        Term::Is(text(cut(&self.first.code)))
    }

    /// A code, or an address.
    fn is(&self, second: &str, more: Option<Keep>) -> Rows {
        let keep: Vec<Keep> = self.kept().into_iter().chain(more).collect();
        let parts = [self.code(), Term::Is(text(cut(second))), Term::Is(Value::Bytes(Bytes::new()))];
        let walk = std::iter::once(self.at.param()).chain(parts.clone()).collect();
        let of = [self.at.param(), Term::Subject].into_iter().chain(parts).collect();
        let walk = Probe { keep: keep.clone(), ..Probe::by_key(PAIR.name, walk) };
        let of = Probe { keep, ..Probe::by_index(PAIR.name, "by_subject", of) };
        Rows { walk: Some(walk), of, rank: rank::CODE }
    }

    /// A text that begins so.
    fn begins(&self, raw: &str) -> Rows {
        let folded = fold(raw);
        let (from, to) = (Some(text(folded.clone())), Some(behind(&folded)));
        let walk = Probe::by_key(PAIR.name, vec![self.at.param(), self.code()]);
        let walk = Probe { from: from.clone(), to: to.clone(), keep: self.kept(), ..walk };
        let of = vec![self.at.param(), Term::Subject, self.code()];
        let of = Probe { from, to, keep: self.kept(), ..Probe::by_index(PAIR.name, "by_subject", of) };
        Rows { walk: Some(walk), of, rank: rank::NARROW }
    }

    fn dates(&self, prefix: Prefix, bounds: (Timestamp, Timestamp)) -> Vec<Rows> {
        let instant = |micros: i64| {
            Value::Bytes(Bytes::copy_from_slice(&Pair::instant(Timestamp::from_micros(micros))))
        };
        let (walk, of) = self.at.in_unit("", Some(&self.first.code));
        let within = |span: &rows::Span| {
            let keep: Vec<Keep> =
                self.kept().into_iter().chain(span.end.map(|end| end.keep(instant))).collect();
            let (from, to) = (span.from.map(instant), span.to.map(instant));
            let walk = Probe { from: from.clone(), to: to.clone(), keep: keep.clone(), ..walk.clone() };
            Rows { walk: Some(walk), of: Probe { from, to, keep, ..of.clone() }, rank: rank::CODE }
        };
        spans(prefix, bounds).iter().map(within).collect()
    }

    /// A number, and of three parts another one.
    fn numbers(&self, (prefix, second): (Prefix, &Number), third: Option<(Prefix, &Number)>) -> Vec<Rows> {
        let asked = |number: &Number| rows::Asked::of(number, Clone::clone);
        let thirds: Vec<Vec<Test>> = match third {
            Some((prefix, third)) => asked(third).tests(prefix),
            None => vec![Vec::new()],
        };
        let place = self.at.in_unit("", Some(&self.first.code));
        let mut all = Vec::new();
        for tests in thirds {
            let third = tests.into_iter().map(|test| keep("third", test));
            let more: Vec<Keep> = keep_system("system", self.first).into_iter().chain(third).collect();
            all.extend(self.at.numbers(prefix, &asked(second), &place, &more));
        }
        all
    }

    /// In a unit of UCUM whichever it was written in; in another one as it is written.
    fn quantities(&self, prefix: Prefix, number: &Number, (system, code): (&str, &str)) -> Vec<Rows> {
        let mut more: Vec<Keep> = keep_system("system", self.first).into_iter().collect();
        if let Some(canonical) = (system == UCUM).then(|| Canonical::of(code)).flatten() {
            let asked = rows::Asked::of(number, |decimal| canonical.of_number(decimal));
            let place = self.at.in_unit(&canonical.unit, Some(&self.first.code));
            return self.at.numbers(prefix, &asked, &place, &more);
        }
        if !code.is_empty() {
            more.push(keep("of", Test::Is(Value::Int(Pair::unit(code)))));
        }
        let asked = rows::Asked::of(number, Clone::clone);
        self.at.numbers(prefix, &asked, &self.at.in_unit("", Some(&self.first.code)), &more)
    }
}
