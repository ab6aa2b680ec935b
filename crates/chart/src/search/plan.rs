//! What drives a search, and what is asked of each subject after that. Pure: the same criteria make the same plan, whatever
//! the tables hold, so that the pages of a walk go on in one order.

use hilum_core::{Authority, Id, Seq, Timestamp};
use hilum_engines::tables::Value;
use hilum_engines::tables::query::{Check, Keep, Probe, Query as Tables, Sort, Source, Term, Test};
use hilum_fhir::FhirId;
use hilum_fhir::r4::{Parameter, ParameterType, r4};
use hilum_fhir::search::fold::cut;
use hilum_fhir::search::implied::system_of;
use hilum_fhir::search::query::{
    Compartment, Criterion, Filter, Modifier, Operand, Prefix, Query, Target, Token,
};
use hilum_fhir::search::unit::{Canonical, UCUM};
use hilum_fhir::search::values::{Pair, Settings, System, is_nominal, kept};
use jiff::tz::TimeZone;

use super::explain::{Does, Step};
use super::permitted::is_permitted;
use super::rows::{self, At, Rows, is_to, rank};
use super::withheld::{Withheld, is_withheld};
use crate::index::tables::{DATE, NUMBER, PAIR, STRING, TOKEN, URI};
use crate::limits::{ABOVE_MAX, SEARCH_TYPES_MAX};
use crate::resources::{HISTORY, RESOURCE};

/// Why criteria that were read make no plan. Names parameters, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A parameter that is answered, though not so.
    #[error("`{name}` {why}")]
    Unanswered {
        /// The parameter.
        name: &'static str,
        /// How it was asked.
        why: &'static str,
    },
    /// More than one statement holds.
    #[error("the search has too many values, chains or both: ask for less at once")]
    TooComplex,
}

/// What is asked, of what, by whom.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// On whose behalf.
    pub authority: &'a Authority,
    /// The criteria.
    pub query: &'a Query,
    /// The commit whose state is asked; absent: the newest that the query sees.
    pub t: Option<Seq>,
    /// When the walk began: what is about the same as a date goes by it.
    pub began: Timestamp,
    /// What the index was made with.
    pub settings: &'a Settings,
    /// What stands for a logical id in the chart.
    pub chart_id: &'a dyn Fn(&str, &FhirId) -> Id,
    /// Whom no search may find.
    pub withheld: &'a [Withheld],
}

/// How a search is executed.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The query.
    pub query: Tables,
    /// What it does, one thing after the other, for people.
    pub steps: Vec<Step>,
}

/// A criterion as both of what it may be.
struct Planned {
    check: Check,
    source: Option<Source>,
    rank: u8,
    name: String,
    /// Whether what the source gives is alive at t.
    is_alive: bool,
    /// Whether the source gives what the check holds of, and nothing else.
    is_exact: bool,
}

impl Planned {
    /// What only asks.
    const fn check(check: Check, name: String) -> Self {
        Self { check, source: None, rank: rank::ALL, name, is_alive: true, is_exact: false }
    }
}

/// Plans a search.
///
/// # Errors
/// [`PlanError`].
pub fn plan(asked: &Asked<'_>) -> Result<Plan, PlanError> {
    let resource_type = asked.query.resource_type;
    let mut criteria = Vec::new();
    for criterion in &asked.query.criteria {
        criteria.push(asked.criterion(resource_type, criterion)?);
    }
    criteria.sort_by_key(|planned| planned.rank);
    let driver = criteria.iter().position(|planned| planned.source.is_some() && planned.rank < rank::ALL);
    let driver = driver.map(|at| criteria.remove(at));
    let steps = steps(asked, driver.as_ref(), &criteria);
    let mut checks = asked.hop(resource_type, driver.as_ref().is_some_and(|driver| !driver.is_alive));
    let from = match driver {
        Some(Planned { check, source: Some(source), is_exact, .. }) => {
            // A walk of its rows is what it asks; through references it is only where to look.
            if !is_exact {
                checks.push(check);
            }
            source
        }
        _ => asked.all_of(resource_type),
    };
    checks.extend(criteria.into_iter().map(|planned| planned.check));
    let mut query = Tables { checks, ..Tables::new(from) };
    for key in &asked.query.sort {
        query.sort.push(asked.sort(resource_type, key.parameter, key.descending)?);
    }
    if !query.size().fits() {
        return Err(PlanError::TooComplex);
    }
    Ok(Plan { query, steps })
}

/// What a plan does, in its order.
fn steps(asked: &Asked<'_>, driver: Option<&Planned>, verify: &[Planned]) -> Vec<Step> {
    let step = |does: Does, criterion: &str, rank: u8| Step { does, criterion: criterion.to_owned(), rank };
    let drives =
        driver.map_or(step(Does::Drives, "", rank::ALL), |one| step(Does::Drives, &one.name, one.rank));
    let mut steps = vec![drives];
    if !asked.withheld.is_empty() {
        steps.push(step(Does::Guards, "nobody who is withheld", rank::ALL));
    }
    if asked.authority.patients().is_some() {
        steps.push(step(Does::Guards, "the patients of who asks", rank::ALL));
    }
    let own = driver.filter(|driver| !driver.is_exact);
    steps.extend(own.into_iter().chain(verify).map(|one| step(Does::Verifies, &one.name, one.rank)));
    steps.extend(asked.query.sort.iter().map(|key| step(Does::Orders, key.parameter.code, rank::ALL)));
    steps
}

const fn unanswered(parameter: &Parameter, why: &'static str) -> PlanError {
    PlanError::Unanswered { name: parameter.code, why }
}

impl Asked<'_> {
    fn t(&self) -> Value {
        self.t.map_or(Value::ThisSnapshot, Value::Seq)
    }

    fn parameter(&self, resource_type: &str, parameter: &Parameter) -> Result<At, PlanError> {
        let kept = kept(resource_type, parameter.code);
        kept.map(|kept| At { kept, t: self.t() }).ok_or(unanswered(parameter, "is not kept in the index"))
    }

    /// The rows that say of each resource of a type that it is there.
    fn alive(&self, resource_type: &str) -> Rows {
        let kept =
            kept(resource_type, "_id").or_else(|| kept("Patient", "_id")).expect("every type has an _id");
        At { kept, t: self.t() }.there()
    }

    fn all_of(&self, resource_type: &str) -> Source {
        let probe = self.alive(resource_type).walk.expect("presence is walked by its key");
        Source::Walk { probe, subject: "subject" }
    }

    /// What is asked of every resource that a search goes through, before anything else: that it is there, and that who
    /// asks may know.
    fn hop(&self, resource_type: &str, is_dead: bool) -> Vec<Check> {
        let mut checks = Vec::new();
        if !self.authority.reads_charts() {
            checks.push(Check::Any(Vec::new()));
        }
        if is_dead {
            checks.push(self.alive(resource_type).check());
        }
        let withheld = is_withheld(resource_type, self.withheld);
        checks.extend(withheld.map(|withheld| Check::Not(Box::new(withheld))));
        checks.extend(is_permitted(resource_type, self.authority));
        checks
    }

    fn criterion(&self, resource_type: &str, criterion: &Criterion) -> Result<Planned, PlanError> {
        match criterion {
            Criterion::Filter(filter) => self.filter(resource_type, filter),
            Criterion::Chain { reference, to } => self.chain(resource_type, reference, to),
            Criterion::Has { resource_type: other, reference, holds } => {
                self.has(resource_type, (other, reference), holds)
            }
            Criterion::Within(compartment) => self.within(resource_type, compartment),
        }
    }

    /// That a resource lies in somebody's or something's compartment: any of the references that put it there, or that it is
    /// the one itself.
    fn within(&self, resource_type: &str, compartment: &Compartment) -> Result<Planned, PlanError> {
        let Compartment { resource_type: whose, id } = compartment;
        let (mut any, mut sources) = (Vec::new(), Vec::new());
        for code in r4().in_compartment(whose, resource_type) {
            let Some(parameter) = r4().parameter(resource_type, code) else { continue };
            let rows = self.parameter(resource_type, parameter)?.reference(whose, (self.chart_id)(whose, id));
            any.push(rows.check());
            sources.extend(rows.source());
        }
        let is_own = resource_type == *whose;
        if is_own {
            let id = Token { system: None, code: id.to_string() };
            let own = self.ids(resource_type, None, &[Operand::Token(id)]);
            any.push(own.check);
            sources.extend(own.source);
        }
        let (check, name) = (Check::Any(any), format!("{whose}/…"));
        let source = (!sources.is_empty()).then(|| one_of(sources));
        Ok(Planned { check, source, rank: rank::REFERENCE, name, is_alive: !is_own, is_exact: true })
    }

    /// Of what a resource refers to.
    fn chain(
        &self,
        resource_type: &str,
        reference: &'static Parameter,
        to: &[(&'static str, Criterion)],
    ) -> Result<Planned, PlanError> {
        let at = self.parameter(resource_type, reference)?;
        let (mut any, mut sources, mut rank, mut name) = (Vec::new(), Vec::new(), 0, String::new());
        for (ty, criterion) in to {
            let inner = self.criterion(ty, criterion)?;
            rank = rank.max(inner.rank);
            name = format!("{}.{}", reference.code, inner.name);
            let mut holds = self.hop(ty, true);
            holds.push(inner.check);
            let mut refers = at.refers();
            refers.keep.push(is_to("type", ty));
            any.push(Check::Each {
                probe: refers,
                subject: "target",
                check: Box::new(Check::Each {
                    probe: by_id(ty),
                    subject: "row",
                    check: Box::new(Check::All(holds)),
                }),
            });
            sources.push(inner.source.map(|source| Source::Follow {
                of: Box::new(Source::Follow { of: Box::new(source), probe: by_row(), subject: "id" }),
                probe: at.referring(ty),
                subject: "subject",
            }));
        }
        let all: Option<Vec<Source>> = sources.into_iter().collect();
        Ok(Planned {
            check: Check::Any(any),
            source: all.filter(|all| !all.is_empty()).map(one_of),
            rank: rank.saturating_add(3).min(rank::ALL),
            name,
            is_alive: true,
            is_exact: false,
        })
    }

    /// Of what refers to a resource.
    fn has(
        &self,
        resource_type: &str,
        (other, reference): (&'static str, &'static Parameter),
        holds: &Criterion,
    ) -> Result<Planned, PlanError> {
        let at = self.parameter(other, reference)?;
        let inner = self.criterion(other, holds)?;
        let mut checks = self.hop(other, true);
        checks.push(inner.check);
        let check = Check::Each {
            probe: by_row(),
            subject: "id",
            check: Box::new(Check::Each {
                probe: at.referring(resource_type),
                subject: "subject",
                check: Box::new(Check::All(checks)),
            }),
        };
        let mut refers = at.refers();
        refers.keep.push(is_to("type", resource_type));
        let source = inner.source.map(|source| {
            one_of(vec![Source::Follow {
                of: Box::new(Source::Follow { of: Box::new(source), probe: refers, subject: "target" }),
                probe: by_id(resource_type),
                subject: "row",
            }])
        });
        let name = format!("_has:{other}:{}:{}", reference.code, inner.name);
        let rank = inner.rank.saturating_add(3).min(rank::ALL);
        Ok(Planned { check, source, rank, name, is_alive: false, is_exact: false })
    }

    fn filter(&self, resource_type: &str, filter: &Filter) -> Result<Planned, PlanError> {
        let Filter { parameter, modifier, values } = filter;
        let name = parameter.code.to_owned();
        let asks_who_lacks = matches!(modifier, Some(Modifier::Missing | Modifier::Not));
        if asks_who_lacks && self.withheld.iter().any(|room| room.leaves_out(resource_type, parameter.code)) {
            let why = "is not indexed of what messages made: who has none, or another one, is not known (:missing, :not)";
            return Err(unanswered(parameter, why));
        }
        if let [Operand::Missing(is_missing)] = values.as_slice() {
            return self.missing(resource_type, parameter, *is_missing);
        }
        if parameter.code == "_id" {
            return Ok(self.ids(resource_type, *modifier, values));
        }
        if parameter.code == "_lastUpdated" {
            return self.updated(resource_type, parameter, values);
        }
        let at = self.parameter(resource_type, parameter)?;
        let mut all = Vec::new();
        for value in values {
            all.extend(self.rows(&at, (resource_type, parameter, *modifier), value)?);
        }
        let all = rows::joined(all);
        let rank = all.iter().map(|rows| rows.rank).max().unwrap_or(rank::ALL);
        let any = Check::Any(all.iter().map(Rows::check).collect());
        if *modifier == Some(Modifier::Not) {
            return Ok(Planned::check(Check::Not(Box::new(any)), name));
        }
        let sources: Option<Vec<Source>> = all.iter().map(Rows::source).collect();
        let source = sources.filter(|all| !all.is_empty()).map(one_of);
        Ok(Planned { check: any, source, rank, name, is_alive: true, is_exact: true })
    }

    /// The rows of one value.
    fn rows(
        &self,
        at: &At,
        (resource_type, parameter, modifier): (&str, &'static Parameter, Option<Modifier>),
        value: &Operand,
    ) -> Result<Vec<Rows>, PlanError> {
        Ok(match value {
            // Whoever asks has put codes in their place.
            Operand::ValueSet(_) => return Err(unanswered(parameter, "by a value set is not answered here")),
            Operand::Token(_) if matches!(modifier, Some(Modifier::Above | Modifier::Below)) => {
                return Err(unanswered(parameter, "by a code above or below is not answered here"));
            }
            Operand::OfType { ty, value } => vec![at.of_type(ty, value)],
            Operand::Token(token) => {
                // What an element of type code leaves out is what its binding says.
                let system = token.system.as_deref().filter(|system| !system.is_empty());
                let is_implied = system.is_some() && system == system_of(resource_type, parameter);
                let bare = Token { system: Some(String::new()), code: token.code.clone() };
                let token = if is_implied { &bare } else { token };
                let is_identifier = parameter.code == "identifier" || modifier == Some(Modifier::Identifier);
                let rank = match (token.code.is_empty(), is_identifier) {
                    (true, _) => rank::ALL,
                    (false, true) => rank::IDENTIFIER,
                    (false, false) => rank::CODE,
                };
                vec![at.token(token, rank)]
            }
            Operand::Text(text) if parameter.ty == ParameterType::Uri => match modifier {
                Some(Modifier::Below) => vec![at.uri(text), at.uris_below(text)],
                Some(Modifier::Above) => above(text).into_iter().map(|above| at.uri(above)).collect(),
                _ => vec![at.uri(text)],
            },
            Operand::Text(text) => match modifier {
                Some(Modifier::Exact) => vec![at.exactly(text)],
                Some(Modifier::Contains) => vec![at.contains(text)],
                _ => vec![at.begins(text)],
            },
            Operand::Reference(target) => self.target(at, parameter, target)?,
            Operand::Date(prefix, moment) => {
                let zone = if is_nominal(resource_type, parameter.code) {
                    TimeZone::UTC
                } else {
                    self.settings.zone.clone()
                };
                let bounds = moment.bounds(&zone);
                at.dates(*prefix, if *prefix == Prefix::About { self.about(bounds) } else { bounds })
            }
            Operand::Number(prefix, number) => {
                at.numbers(*prefix, &rows::Asked::of(number, Clone::clone), &at.in_unit("", None), &[])
            }
            Operand::Quantity { prefix, number, system, code } => {
                let plain = rows::Asked::of(number, Clone::clone);
                let mut more = Vec::new();
                if !system.is_empty() {
                    let system = Value::Int(System::of(system).get());
                    more.push(Keep { column: "system", test: Test::Is(system) });
                }
                if !code.is_empty() {
                    more.push(Keep { column: "code", test: Test::Is(Value::Text(cut(code).into_owned())) });
                }
                // What UCUM knows is found in whichever unit it was written.
                let canonical = (system == UCUM).then(|| Canonical::of(code)).flatten();
                match canonical {
                    Some(canonical) => {
                        let asked = rows::Asked::of(number, |decimal| canonical.of_number(decimal));
                        at.numbers(*prefix, &asked, &at.in_unit(&canonical.unit, None), &[])
                    }
                    None => at.numbers(*prefix, &plain, &at.in_unit("", None), &more),
                }
            }
            Operand::Parts(parts) => return Self::parts(at, parameter, parts),
            Operand::Missing(_) => return Err(unanswered(parameter, "is not answered so")),
        })
    }

    /// The rows of one value of a composite: what one element says side by side.
    fn parts(at: &At, parameter: &'static Parameter, parts: &[Operand]) -> Result<Vec<Rows>, PlanError> {
        let [Operand::Token(first), second] = parts else {
            return Err(unanswered(parameter, "is not answered so"));
        };
        if first.code.is_empty() {
            return Err(unanswered(parameter, "begins with a code here: code$value or system|code$value"));
        }
        match second {
            Operand::Token(second) if !second.code.is_empty() => Ok(vec![at.token_beside(first, second)]),
            Operand::Text(raw) => Ok(vec![at.text_beside(first, raw)]),
            Operand::Quantity { prefix, number, system, code } => {
                let mut more: Vec<Keep> = rows::keep_system("system", first).into_iter().collect();
                let is_ucum = system == UCUM;
                if let Some(canonical) = is_ucum.then(|| Canonical::of(code)).flatten() {
                    let asked = rows::Asked::of(number, |decimal| canonical.of_number(decimal));
                    return Ok(at.numbers(
                        *prefix,
                        &asked,
                        &at.in_unit(&canonical.unit, Some(&first.code)),
                        &more,
                    ));
                }
                if !is_ucum && !system.is_empty() {
                    return Err(unanswered(parameter, "takes units of UCUM, or without a system"));
                }
                if !code.is_empty() {
                    more.push(Keep { column: "of", test: Test::Is(Value::Int(Pair::unit(code))) });
                }
                let asked = rows::Asked::of(number, Clone::clone);
                Ok(at.numbers(*prefix, &asked, &at.in_unit("", Some(&first.code)), &more))
            }
            _ => Err(unanswered(parameter, "is not answered so")),
        }
    }

    /// Within a tenth of how long it is ago, or ahead.
    fn about(&self, (low, high): (Timestamp, Timestamp)) -> (Timestamp, Timestamp) {
        let (low, high) = (low.as_micros(), high.as_micros());
        let middle = low / 2 + high / 2;
        let off = i64::try_from(self.began.as_micros().abs_diff(middle) / 10).unwrap_or(i64::MAX);
        (Timestamp::from_micros(low.saturating_sub(off)), Timestamp::from_micros(high.saturating_add(off)))
    }

    fn target(
        &self,
        at: &At,
        parameter: &'static Parameter,
        target: &Target,
    ) -> Result<Vec<Rows>, PlanError> {
        Ok(match target {
            Target::Local { resource_type, id } => {
                vec![at.reference(resource_type, (self.chart_id)(resource_type, id))]
            }
            Target::Id(id) => {
                if parameter.targets.is_empty() || parameter.targets.len() > SEARCH_TYPES_MAX {
                    return Err(unanswered(parameter, "leads to resources of many types: say Type/id"));
                }
                let targets = parameter.targets.iter();
                targets.map(|ty| at.reference(ty, (self.chart_id)(ty, id))).collect()
            }
            Target::Address(address) => {
                let own = self
                    .settings
                    .bases
                    .iter()
                    .find_map(|base| address.strip_prefix(base.as_str())?.strip_prefix('/'));
                let mut parts = own.into_iter().flat_map(|own| own.split('/'));
                let ty = parts.next().and_then(|ty| r4().resource_types().find(|known| *known == ty));
                let id = parts.next().and_then(|id| FhirId::parse(id).ok());
                match (ty, id) {
                    (Some(ty), Some(id)) => vec![at.reference(ty, (self.chart_id)(ty, &id))],
                    _ => vec![at.uri(address)],
                }
            }
        })
    }

    fn missing(
        &self,
        resource_type: &str,
        parameter: &'static Parameter,
        is_missing: bool,
    ) -> Result<Planned, PlanError> {
        let name = parameter.code.to_owned();
        if ["_id", "_lastUpdated"].contains(&parameter.code) {
            // Every resource has them.
            let check = if is_missing { Check::Any(Vec::new()) } else { Check::All(Vec::new()) };
            return Ok(Planned::check(check, name));
        }
        let at = self.parameter(resource_type, parameter)?;
        let any = match parameter.ty {
            ParameterType::Token => vec![at.any(TOKEN.name)],
            ParameterType::Uri => vec![at.any(URI.name)],
            ParameterType::Reference => vec![at.refers(), at.any(URI.name), at.any(TOKEN.name)],
            ParameterType::String => vec![at.any(STRING.name)],
            ParameterType::Date => vec![at.any(DATE.name)],
            ParameterType::Number | ParameterType::Quantity => vec![at.any(NUMBER.name)],
            ParameterType::Composite => vec![at.any(PAIR.name)],
            ParameterType::Special => return Err(unanswered(parameter, "is not answered so")),
        };
        let there = Check::Any(any.into_iter().map(Check::Has).collect());
        Ok(Planned::check(if is_missing { Check::Not(Box::new(there)) } else { there }, name))
    }

    fn ids(&self, resource_type: &str, modifier: Option<Modifier>, values: &[Operand]) -> Planned {
        let mut ids = Vec::new();
        for value in values {
            // An id has no system.
            let Operand::Token(Token { system, code }) = value else { continue };
            let id = FhirId::parse(code).ok().filter(|_| system.as_deref().is_none_or(str::is_empty));
            ids.extend(id.map(|id| (self.chart_id)(resource_type, &id)));
        }
        let all: Vec<Value> = ids.into_iter().map(Value::Id).collect();
        let same = Keep { column: "id", test: Test::In(all.clone()) };
        let any = Check::Has(Probe { keep: vec![same], ..by_row() });
        let name = "_id".to_owned();
        if modifier == Some(Modifier::Not) {
            return Planned::check(Check::Not(Box::new(any)), name);
        }
        let prefix = vec![Term::Is(Value::Text(resource_type.to_owned())), Term::In(all)];
        let source = Source::Walk { probe: Probe::by_key(RESOURCE.name, prefix), subject: "row" };
        Planned { check: any, source: Some(source), rank: rank::ID, name, is_alive: false, is_exact: true }
    }

    /// When the version that stood at t was written: of the current one, or of an earlier one where that is newer.
    fn updated(
        &self,
        resource_type: &str,
        parameter: &'static Parameter,
        values: &[Operand],
    ) -> Result<Planned, PlanError> {
        let mut any = Vec::new();
        for value in values {
            let Operand::Date(prefix, moment) = value else {
                return Err(unanswered(parameter, "is not answered so"));
            };
            let bounds = moment.bounds(&self.settings.zone);
            let (low, high) = if *prefix == Prefix::About { self.about(bounds) } else { bounds };
            let time = Value::Time;
            let before = Timestamp::from_micros(low.as_micros().saturating_sub(1));
            let tests = match prefix {
                Prefix::Equal | Prefix::About => {
                    vec![vec![Test::Above(time(before)), Test::AtMost(time(high))]]
                }
                Prefix::NotEqual => vec![vec![Test::AtMost(time(before))], vec![Test::Above(time(high))]],
                Prefix::Greater | Prefix::StartsAfter => vec![vec![Test::Above(time(high))]],
                Prefix::Less | Prefix::EndsBefore => vec![vec![Test::AtMost(time(before))]],
                Prefix::GreaterOrEqual => vec![vec![Test::Above(time(before))]],
                Prefix::LessOrEqual => vec![vec![Test::AtMost(time(high))]],
            };
            any.extend(tests);
        }
        let version = |tests: Vec<Test>| {
            let t = self.t();
            let updated = tests.into_iter().map(|test| Keep { column: "updated", test });
            let from = Keep { column: "t_from", test: Test::AtMost(t.clone()) };
            let keep: Vec<Keep> = updated.chain([from]).collect();
            let mut earlier = keep.clone();
            earlier.push(Keep { column: "t_to", test: Test::Above(t) });
            let of = vec![Term::Is(Value::Text(resource_type.to_owned())), Term::Subject];
            Check::Any(vec![
                Check::Has(Probe { keep, ..by_row() }),
                Check::Each {
                    probe: by_row(),
                    subject: "id",
                    check: Box::new(Check::Has(Probe { keep: earlier, ..Probe::by_key(HISTORY.name, of) })),
                },
            ])
        };
        let check = Check::Any(any.into_iter().map(version).collect());
        Ok(Planned::check(check, parameter.code.to_owned()))
    }

    fn sort(
        &self,
        resource_type: &str,
        parameter: &'static Parameter,
        descending: bool,
    ) -> Result<Sort, PlanError> {
        if parameter.code == "_lastUpdated" {
            return Err(unanswered(
                parameter,
                "is no key of an order here yet: without _sort the oldest comes first",
            ));
        }
        let at = self.parameter(resource_type, parameter)?;
        let ends = if descending { "high" } else { "low" };
        let (probe, column) = match parameter.ty {
            ParameterType::String => (at.any(STRING.name), "folded"),
            ParameterType::Date => (at.any(DATE.name), ends),
            ParameterType::Number | ParameterType::Quantity => {
                let mut probe = at.any(NUMBER.name);
                probe.prefix.push(Term::Is(Value::Text(String::new())));
                (probe, ends)
            }
            ParameterType::Token if parameter.code == "_id" => (at.there().of, ends),
            ParameterType::Token => {
                let mut probe = at.any(TOKEN.name);
                probe.keep.push(Keep { column: "code", test: Test::Above(Value::Text(String::new())) });
                (probe, "code")
            }
            ParameterType::Uri => (at.any(URI.name), "value"),
            ParameterType::Reference | ParameterType::Composite | ParameterType::Special => {
                return Err(unanswered(parameter, "is no key of an order"));
            }
        };
        Ok(Sort { probe, column, descending })
    }
}

/// An address and those above it: each part behind a `/` less.
fn above(address: &str) -> Vec<&str> {
    let path = address.split_once("://").map_or(0, |(scheme, _)| scheme.len() + 3);
    let ends = address.char_indices().filter(|(at, sign)| *sign == '/' && *at > path);
    let mut all: Vec<&str> =
        ends.flat_map(|(at, _)| [address.get(..at), address.get(..=at)]).flatten().collect();
    all.push(address);
    all.dedup();
    all.truncate(ABOVE_MAX);
    all
}

/// The resource of a row.
fn by_row() -> Probe {
    Probe::by_index(RESOURCE.name, "by_row", vec![Term::Subject])
}

/// The resource of a type's id.
fn by_id(resource_type: &str) -> Probe {
    Probe::by_key(RESOURCE.name, vec![Term::Is(Value::Text(resource_type.to_owned())), Term::Subject])
}

/// One source, or any of several.
fn one_of(mut all: Vec<Source>) -> Source {
    if all.len() == 1 { all.remove(0) } else { Source::Any(all) }
}
