//! The index rows that hold one value of a criterion: as a range that is walked, and of one subject.

use hilum_core::{Id, Timestamp};
use hilum_engines::tables::Value;
use hilum_engines::tables::query::{Check, Keep, Probe, Source, Term, Test};
use hilum_fhir::search::fold::{cut, exact, fold};
use hilum_fhir::search::number::{Decimal, Ordered};
use hilum_fhir::search::param::{ParamNumber, type_number};
use hilum_fhir::search::query::{Number, Prefix, Token};
use hilum_fhir::search::values::{Kept, System, of_type};

use crate::index::tables::{DATE, NUMBER, PAIR, REF, STRING, TOKEN, URI};

/// Rows that hold a value.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    /// All of them; absent where no index leads to them.
    pub(super) walk: Option<Probe>,
    /// Those of the subject that is asked about.
    pub(super) of: Probe,
    /// How few they are, as a rule: less drives.
    pub(super) rank: u8,
}

impl Rows {
    pub(super) fn source(&self) -> Option<Source> {
        self.walk.clone().map(|probe| Source::Walk { probe, subject: "subject" })
    }

    pub(super) fn check(&self) -> Check {
        Check::Has(self.of.clone())
    }
}

/// Ranks, from what names one resource to all of a type.
pub(super) mod rank {
    /// By `_id`.
    pub(in crate::search) const ID: u8 = 0;
    /// By identifier.
    pub(in crate::search) const IDENTIFIER: u8 = 1;
    /// By several values together.
    pub(in crate::search) const TOGETHER: u8 = 1;
    /// What refers to one.
    pub(in crate::search) const REFERENCE: u8 = 2;
    /// A text's beginning, a day.
    pub(in crate::search) const NARROW: u8 = 4;
    /// A code.
    pub(in crate::search) const CODE: u8 = 5;
    /// More than a month, a number.
    pub(in crate::search) const WIDE: u8 = 6;
    /// Everything of a type.
    pub(in crate::search) const ALL: u8 = 9;
}

/// Rows that differ in one value alone become rows with one of a list of them.
pub(super) fn joined(rows: Vec<Rows>) -> Vec<Rows> {
    let mut joined: Vec<(Rows, usize, Vec<Value>)> = Vec::new();
    for one in rows {
        let last = one.of.prefix.iter().rposition(|term| matches!(term, Term::Is(_)));
        let value = last.and_then(|at| one.of.prefix.get(at).cloned());
        let (Some(at), Some(Term::Is(value)), Some(_), true) =
            (last, value, &one.walk, one.of.index.is_none())
        else {
            joined.push((one, usize::MAX, Vec::new()));
            continue;
        };
        let same =
            joined.iter_mut().find(|(other, place, _)| *place == at && is_alike(&one.of, &other.of, at));
        match same {
            Some((_, _, values)) if !values.contains(&value) => values.push(value),
            Some(_) => {}
            None => joined.push((one, at, vec![value])),
        }
    }
    let listed = |(mut rows, at, values): (Rows, usize, Vec<Value>)| {
        if values.len() > 1 {
            let list = Term::In(values);
            let probes = [Some(&mut rows.of), rows.walk.as_mut()];
            for term in probes.into_iter().flatten().filter_map(|probe| probe.prefix.get_mut(at)) {
                *term = list.clone();
            }
        }
        rows
    };
    joined.into_iter().map(listed).collect()
}

/// Whether two probes differ in the term at `at` alone, if anywhere.
fn is_alike(one: &Probe, other: &Probe, at: usize) -> bool {
    let mut other = other.clone();
    if let Some((term, own)) = other.prefix.get_mut(at).zip(one.prefix.get(at)) {
        *term = own.clone();
    }
    *one == other
}

/// A parameter of a type, and the commit whose state is asked.
#[derive(Debug, Clone)]
pub(super) struct At {
    pub(super) kept: Kept,
    pub(super) t: Value,
}

pub(super) fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

pub(super) fn keep(column: &'static str, test: Test) -> Keep {
    Keep { column, test }
}

/// References to this type.
pub(super) fn is_to(column: &'static str, resource_type: &str) -> Keep {
    keep(column, Test::Is(Value::Int(type_number(resource_type).unwrap_or_default())))
}

/// The system that a code is asked with, where it is.
pub(super) fn keep_system(column: &'static str, token: &Token) -> Option<Keep> {
    let system = token.system.as_deref().map(|system| match system {
        "" => System::NONE,
        system => System::of(system),
    });
    system.map(|system| keep(column, Test::Is(Value::Int(system.get()))))
}

/// What was visible at `t`.
pub(super) fn visible(t: &Value) -> Vec<Keep> {
    vec![keep("from_t", Test::AtMost(t.clone())), keep("to_t", Test::AbsentOrAbove(t.clone()))]
}

/// Behind all texts that begin with `prefix`.
pub(super) fn behind(prefix: &str) -> Value {
    text(format!("{prefix}\u{10ffff}"))
}

fn bytes(number: &Ordered) -> Value {
    Value::Bytes(number.as_bytes().to_vec().into())
}

/// Right behind a number: nothing lies between.
fn right_behind(number: &Ordered) -> Value {
    Value::Bytes([number.as_bytes(), &[0]].concat().into())
}

impl At {
    pub(super) fn param(&self) -> Term {
        Term::Is(Value::Int(self.kept.number.get()))
    }

    /// All references of one subject to this server.
    pub(super) fn refers(&self) -> Probe {
        let param = Term::Is(Value::Int(self.kept.references.get()));
        let mut keep = visible(&self.t);
        keep.extend(self.kept.only.map(|ty| is_to("type", ty)));
        Probe { keep, ..Probe::by_index(REF.name, "by_subject", vec![param, Term::Subject]) }
    }

    /// References from this parameter to one of a type, whose id the subject is.
    pub(super) fn referring(&self, resource_type: &str) -> Probe {
        let number = Value::Int(type_number(resource_type).unwrap_or_default());
        let param = Value::Int(self.number_to(resource_type).get());
        let prefix = vec![Term::Is(param), Term::Is(number), Term::Subject];
        Probe { keep: visible(&self.t), ..Probe::by_key(REF.name, prefix) }
    }

    /// The number of references to a type: its own, under which there are none, where only another type's are meant.
    fn number_to(&self, resource_type: &str) -> ParamNumber {
        let is_meant = self.kept.only.is_none_or(|only| only == resource_type);
        if is_meant { self.kept.references } else { self.kept.number }
    }

    /// Rows under a prefix of the key, behind which the subject stands.
    fn equal(&self, table: &'static str, prefix: Vec<Value>, more: Vec<Keep>, rank: u8) -> Rows {
        self.equal_of(self.kept.number, table, prefix, more, rank)
    }

    fn equal_of(
        &self,
        param: ParamNumber,
        table: &'static str,
        prefix: Vec<Value>,
        more: Vec<Keep>,
        rank: u8,
    ) -> Rows {
        let mut terms = vec![Term::Is(Value::Int(param.get()))];
        terms.extend(prefix.into_iter().map(Term::Is));
        let mut keep = visible(&self.t);
        keep.extend(more);
        let walk = Probe { keep: keep.clone(), ..Probe::by_key(table, terms.clone()) };
        terms.push(Term::Subject);
        Rows { walk: Some(walk), of: Probe { keep, ..Probe::by_key(table, terms) }, rank }
    }

    pub(super) fn token(&self, token: &Token, rank: u8) -> Rows {
        let same = keep_system("system", token);
        if token.code.is_empty() {
            // Of a system alone: no index leads to its codes.
            let mut of = self.any(TOKEN.name);
            of.keep.extend(same);
            return Rows { walk: None, of, rank: rank::ALL };
        }
        self.equal(TOKEN.name, vec![text(cut(&token.code))], same.into_iter().collect(), rank)
    }

    /// Of a type's `_id`: the rows that say of each resource that it is there.
    pub(super) fn there(&self) -> Rows {
        self.equal(TOKEN.name, vec![text("")], Vec::new(), rank::ALL)
    }

    pub(super) fn uri(&self, address: &str) -> Rows {
        self.equal(URI.name, vec![text(cut(address))], Vec::new(), rank::REFERENCE)
    }

    /// Addresses whose path goes on behind this one.
    pub(super) fn uris_below(&self, address: &str) -> Rows {
        let begin = if address.ends_with('/') { address.to_owned() } else { format!("{address}/") };
        let (from, to) = (Some(text(cut(&begin))), Some(behind(&begin)));
        let keep = visible(&self.t);
        let walk = Probe::by_key(URI.name, vec![self.param()]);
        let walk = Probe { from: from.clone(), to: to.clone(), keep, ..walk };
        Rows { walk: Some(walk), of: Probe { from, to, ..self.any(URI.name) }, rank: rank::NARROW }
    }

    /// An identifier by the code of its type.
    pub(super) fn of_type(&self, ty: &Token, value: &str) -> Rows {
        let kept = Kept { number: self.kept.number.of_type(), ..self.kept };
        let of = Self { kept, t: self.t.clone() };
        let system = of_type(ty.system.as_deref(), &ty.code);
        let same = keep("system", Test::Is(Value::Int(system.get())));
        of.equal(TOKEN.name, vec![text(cut(value))], vec![same], rank::IDENTIFIER)
    }

    pub(super) fn reference(&self, resource_type: &str, id: Id) -> Rows {
        let number = type_number(resource_type).unwrap_or_default();
        let (param, target) = (self.number_to(resource_type), vec![Value::Int(number), Value::Id(id)]);
        self.equal_of(param, REF.name, target, Vec::new(), rank::REFERENCE)
    }

    /// All rows of one subject by `by_subject`.
    pub(super) fn any(&self, table: &'static str) -> Probe {
        let prefix = vec![self.param(), Term::Subject];
        Probe { keep: visible(&self.t), ..Probe::by_index(table, "by_subject", prefix) }
    }

    /// Codes that are called so, or by a text that begins so.
    pub(super) fn called(&self, number: ParamNumber, raw: &str) -> Rows {
        Self { kept: Kept { number, ..self.kept }, t: self.t.clone() }.begins(raw)
    }

    pub(super) fn begins(&self, raw: &str) -> Rows {
        let folded = fold(raw);
        let (from, to) = (Some(text(folded.clone())), Some(behind(&folded)));
        let walk = Probe {
            from: from.clone(),
            to: to.clone(),
            keep: visible(&self.t),
            ..Probe::by_key(STRING.name, vec![self.param()])
        };
        Rows { walk: Some(walk), of: Probe { from, to, ..self.any(STRING.name) }, rank: rank::NARROW }
    }

    pub(super) fn exactly(&self, raw: &str) -> Rows {
        let (folded, exact) = (text(fold(raw)), Value::Int(exact(raw)));
        self.equal(STRING.name, vec![folded], vec![keep("exact", Test::Is(exact))], rank::NARROW)
    }

    /// Texts with this in them, wherever.
    pub(super) fn contains(&self, raw: &str) -> Rows {
        let mut keep = visible(&self.t);
        keep.push(Keep { column: "folded", test: Test::Contains(text(fold(raw))) });
        let walk = Probe { keep: keep.clone(), ..Probe::by_key(STRING.name, vec![self.param()]) };
        Rows { walk: Some(walk), of: Probe { keep, ..self.any(STRING.name) }, rank: rank::WIDE }
    }

    /// Periods as a prefix compares them with `low..=high`.
    pub(super) fn dates(&self, prefix: Prefix, bounds: (Timestamp, Timestamp)) -> Vec<Rows> {
        let (first, last) = bounds;
        let is_wide = last.micros_since(first) > 40 * 86_400 * 1_000_000;
        let rank = if prefix == Prefix::Equal && !is_wide { rank::NARROW } else { rank::WIDE };
        spans(prefix, bounds).iter().filter_map(|span| self.within(span, rank)).collect()
    }

    fn within(&self, span: &Span, rank: u8) -> Option<Rows> {
        let time = |micros: i64| Value::Time(Timestamp::from_micros(micros));
        let (from, to) = (span.from.map(time), span.to.map(time));
        let mut keep = visible(&self.t);
        keep.extend(span.end.map(|end| end.keep(time)));
        let of = Probe { from: from.clone(), to: to.clone(), keep: keep.clone(), ..self.any(DATE.name) };
        let by_high =
            Probe { keep: visible(&self.t), ..Probe::by_index(DATE.name, "by_high", vec![self.param()]) };
        let walk = match (&from, &to, span.end) {
            // What ends within bounds is walked by its own index.
            (None, None, Some(End::After(end))) => Probe { from: Some(time(end.checked_add(1)?)), ..by_high },
            (None, None, Some(End::By(end))) => Probe { to: end.checked_add(1).map(time), ..by_high },
            _ => Probe { from, to, keep, ..Probe::by_key(DATE.name, vec![self.param()]) },
        };
        Some(Rows { walk: Some(walk), of, rank })
    }

    /// Where numbers in a unit stand: those of a parameter, or of a composite behind its code.
    pub(super) fn in_unit(&self, unit: &str, behind: Option<&str>) -> (Probe, Probe) {
        let table = if behind.is_some() { PAIR.name } else { NUMBER.name };
        let code = behind.map(|code| Term::Is(text(cut(code))));
        let (mut walk, mut of) = (vec![self.param()], vec![self.param(), Term::Subject]);
        for prefix in [&mut walk, &mut of] {
            prefix.extend(code.clone());
            prefix.push(Term::Is(text(unit)));
        }
        (Probe::by_key(table, walk), Probe::by_index(table, "by_subject", of))
    }

    /// Numbers as a prefix compares them, among those that keep `more`.
    pub(super) fn numbers(
        &self,
        prefix: Prefix,
        asked: &Asked,
        (walk, of): &(Probe, Probe),
        more: &[Keep],
    ) -> Vec<Rows> {
        let by_low = |from: Option<Value>, to: Option<Value>, high: Option<Test>| {
            let mut kept = visible(&self.t);
            kept.extend(more.iter().cloned());
            kept.extend(high.map(|test| keep("high", test)));
            let walk = Probe { from: from.clone(), to: to.clone(), keep: kept.clone(), ..walk.clone() };
            let of = Probe { from, to, keep: kept, ..of.clone() };
            Rows { walk: Some(walk), of, rank: rank::WIDE }
        };
        let Asked { exactly, low, high, about } = asked;
        let ends_from = |number: &Ordered| by_low(None, None, Some(Test::AtLeast(bytes(number))));
        match prefix {
            // What rounds to it: from the lower bound to the upper one, the latter not with it.
            Prefix::Equal => {
                vec![by_low(Some(bytes(low)), Some(bytes(high)), Some(Test::Below(bytes(high))))]
            }
            Prefix::NotEqual => vec![by_low(None, Some(bytes(low)), None), ends_from(high)],
            Prefix::Greater => vec![by_low(None, None, Some(Test::Above(bytes(exactly))))],
            Prefix::Less => vec![by_low(None, Some(bytes(exactly)), None)],
            Prefix::GreaterOrEqual => vec![ends_from(exactly)],
            Prefix::LessOrEqual => vec![by_low(None, Some(right_behind(exactly)), None)],
            Prefix::StartsAfter => vec![by_low(Some(right_behind(exactly)), None, None)],
            Prefix::EndsBefore => {
                vec![by_low(None, Some(bytes(exactly)), Some(Test::Below(bytes(exactly))))]
            }
            Prefix::About => {
                let (low, high) = about;
                vec![by_low(None, Some(right_behind(high)), Some(Test::AtLeast(bytes(low))))]
            }
        }
    }
}

/// When periods begin, from and up to but not with, and when they end. In microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    pub(super) from: Option<i64>,
    pub(super) to: Option<i64>,
    pub(super) end: Option<End>,
}

/// When a period ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// Then or before.
    By(i64),
    /// Later.
    After(i64),
}

impl End {
    pub(super) fn keep(self, value: impl Fn(i64) -> Value) -> Keep {
        keep(
            "high",
            match self {
                Self::By(end) => Test::AtMost(value(end)),
                Self::After(end) => Test::Above(value(end)),
            },
        )
    }
}

/// The periods that a prefix compares with `low..=high`: of any of these.
pub(super) fn spans(prefix: Prefix, (low, high): (Timestamp, Timestamp)) -> Vec<Span> {
    let (first, last) = (low.as_micros(), high.as_micros());
    let (before, after) = (first.checked_sub(1), last.checked_add(1));
    let from = |from: i64| Span { from: Some(from), ..Span::default() };
    let to = |to: i64| Span { to: Some(to), ..Span::default() };
    let end = |end: End| Span { end: Some(end), ..Span::default() };
    match prefix {
        Prefix::Equal => vec![Span { from: Some(first), to: after, end: Some(End::By(last)) }],
        Prefix::NotEqual => vec![to(first), end(End::After(last))],
        Prefix::Greater => vec![end(End::After(last))],
        Prefix::Less => vec![to(first)],
        Prefix::GreaterOrEqual => vec![from(first), end(End::After(last))],
        Prefix::LessOrEqual => vec![end(End::By(last)), to(first)],
        Prefix::StartsAfter => after.map(from).into_iter().collect(),
        Prefix::EndsBefore => before.map(|before| end(End::By(before))).into_iter().collect(),
        Prefix::About => vec![Span { from: None, to: after, end: before.map(End::After) }],
    }
}

/// A number that is asked for, in one unit.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    exactly: Ordered,
    low: Ordered,
    high: Ordered,
    about: (Ordered, Ordered),
}

impl Asked {
    /// What a number without a range is held to, as a prefix compares it: all of any of these.
    pub(super) fn tests(&self, prefix: Prefix) -> Vec<Vec<Test>> {
        let Self { exactly, low, high, about } = self;
        match prefix {
            Prefix::Equal => vec![vec![Test::AtLeast(bytes(low)), Test::Below(bytes(high))]],
            Prefix::NotEqual => vec![vec![Test::Below(bytes(low))], vec![Test::AtLeast(bytes(high))]],
            Prefix::Greater | Prefix::StartsAfter => vec![vec![Test::Above(bytes(exactly))]],
            Prefix::Less | Prefix::EndsBefore => vec![vec![Test::Below(bytes(exactly))]],
            Prefix::GreaterOrEqual => vec![vec![Test::AtLeast(bytes(exactly))]],
            Prefix::LessOrEqual => vec![vec![Test::AtMost(bytes(exactly))]],
            Prefix::About => vec![vec![Test::AtLeast(bytes(&about.0)), Test::AtMost(bytes(&about.1))]],
        }
    }

    /// As it was written, or by `convert` in another unit.
    pub(super) fn of(number: &Number, convert: impl Fn(&Decimal) -> Decimal) -> Self {
        let in_unit = |decimal: &Decimal| convert(decimal).ordered();
        let decimal = number.decimal();
        let (low, high) = decimal.implicit();
        let (least, most) = decimal.about();
        let about = if least.ordered() <= most.ordered() { (least, most) } else { (most, least) };
        Self {
            exactly: in_unit(decimal),
            low: in_unit(&low),
            high: in_unit(&high),
            about: (in_unit(&about.0), in_unit(&about.1)),
        }
    }
}
