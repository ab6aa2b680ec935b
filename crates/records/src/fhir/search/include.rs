//! What comes with the matches of a page (<https://hl7.org/fhir/R4/search.html#include>). Found by searches of their own, so
//! that who may not find a resource gets it by no reference either.

use std::collections::{BTreeMap, BTreeSet};

use hilum_chart::ChartError;
use hilum_chart::logical::chart_id;
use hilum_chart::search::From;
use hilum_core::{Seq, Timestamp};
use hilum_fhir::json::Json;
use hilum_fhir::path::{Found, Path, Resolved};
use hilum_fhir::r4::{Parameter, ParameterType, r4};
use hilum_fhir::search::query::{Criterion, Filter, Include, Operand, Query, Rule, Target, Token, Total};
use hilum_fhir::{FhirId, Reference};

use super::canonical::Canonical;
use super::walk::{Ask, Shown};
use crate::fhir::answer::Trouble;
use crate::fhir::read::visible;
use crate::limits::{
    INCLUDE_QUERIES_MAX, INCLUDE_ROUNDS_MAX, INCLUDE_VALUES_MAX, INCLUDED_MAX, PAGE_ROUNDS_MAX,
};
use crate::logical::is_of;

/// A resource by its type and logical id.
type Place = (&'static str, FhirId);

/// What comes with a page.
#[derive(Default)]
pub(super) struct Included {
    pub(super) shown: Vec<Shown>,
    /// That there is more than a page may bring.
    pub(super) is_cut: bool,
}

/// One that is included already: as it was at the walk's commit where no version is said.
type Seen = BTreeSet<(Place, Option<i64>)>;

/// Of each resource in which versions it is wanted; absent: as it was at the walk's commit.
type Versions = BTreeSet<(FhirId, Option<i64>)>;

/// A search for what is wanted, and what of that which it finds.
struct Wanted {
    query: Query,
    which: Which,
}

/// What is wanted of that which a search finds.
enum Which {
    /// Each, as it was at the walk's commit.
    Each,
    /// In these versions.
    In(Versions),
    /// What one of these names means.
    Named(BTreeSet<Canonical>),
    /// What names one of these addresses there without a version: the index gives those of whichever version, too.
    Unversioned(Way, BTreeSet<String>),
}

impl Ask<'_> {
    /// What `includes` want beside `matches`, as far as it is wanted; nothing twice.
    pub(super) async fn included(
        &self,
        includes: &[Include],
        (matches, t, began): (&[Shown], Seq, Timestamp),
        is_wanted: &(dyn Fn(&Shown) -> bool + Sync),
    ) -> Result<Included, Trouble> {
        let mut out = Included::default();
        let mut seen = Seen::new();
        for shown in matches {
            seen.extend([None, Some(shown.version)].map(|version| (place(shown), version)));
        }
        let sources = self.sources(includes).await?;
        let (mut begun, mut asked) = (0, 0);
        for round in 0..INCLUDE_ROUNDS_MAX {
            let all = if round == 0 { matches } else { out.shown.get(begun..).unwrap_or_default() };
            if all.is_empty() {
                break;
            }
            let wanted = includes.iter().filter(|include| round == 0 || include.iterates);
            let mut wanted: Vec<Wanted> =
                wanted.flat_map(|include| self.wanted((include, &sources), all, &seen)).collect();
            self.keep_those_there(&mut wanted).await?;
            begun = out.shown.len();
            for wanted in wanted {
                asked += 1;
                if out.is_cut || asked > INCLUDE_QUERIES_MAX {
                    out.is_cut = true;
                    break;
                }
                self.found_by(&wanted, (t, began), is_wanted, (&mut seen, &mut out)).await?;
            }
            if out.is_cut {
                break;
            }
        }
        Ok(out)
    }

    /// The types that may refer to a match where none is named: those of which there is any resource.
    async fn sources(&self, includes: &[Include]) -> Result<Vec<&'static str>, Trouble> {
        if !includes.iter().any(|include| include.is_reverse && include.source.is_none()) {
            return Ok(Vec::new());
        }
        let types: Vec<&'static str> = r4().resource_types().collect();
        let are = self.room.chart.types_there(&self.caller.authority, &types).await?;
        Ok(types.into_iter().zip(are).filter_map(|(ty, is)| is.then_some(ty)).collect())
    }

    /// Leaves out searches by name of types of which there is nothing: a name may be that of many.
    async fn keep_those_there(&self, wanted: &mut Vec<Wanted>) -> Result<(), Trouble> {
        let by_name = |one: &Wanted| matches!(one.which, Which::Named(_));
        let types: Vec<&str> =
            wanted.iter().filter(|one| by_name(one)).map(|one| one.query.resource_type).collect();
        if types.is_empty() {
            return Ok(());
        }
        let are = self.room.chart.types_there(&self.caller.authority, &types).await?;
        let there: BTreeSet<&str> =
            types.into_iter().zip(are).filter_map(|(ty, is)| is.then_some(ty)).collect();
        wanted.retain(|one| !by_name(one) || there.contains(one.query.resource_type));
        Ok(())
    }

    /// Takes what a search finds, page by page: what is not wanted takes nobody's place.
    async fn found_by(
        &self,
        Wanted { query, which }: &Wanted,
        (t, began): (Seq, Timestamp),
        is_wanted: &(dyn Fn(&Shown) -> bool + Sync),
        (seen, out): (&mut Seen, &mut Included),
    ) -> Result<(), Trouble> {
        let mut after = None;
        for _ in 0..PAGE_ROUNDS_MAX {
            let room = INCLUDED_MAX - out.shown.len();
            let from = From { after: after.take(), limit: room as u32 + 1, ..From::default() };
            let answer = self.search(query, Some(t), began, from).await?;
            let found = answer.found.get(..room.min(answer.found.len())).unwrap_or_default();
            let is_meant = |shown: &Shown| which.is_met(shown) && is_wanted(shown);
            for shown in
                self.resolved(query.resource_type, (found, t), &is_meant).await?.into_iter().flatten()
            {
                self.take(shown, which, t, (out, seen)).await?;
            }
            if answer.found.len() == found.len() {
                return Ok(());
            }
            let Some(last) = found.last() else { break };
            after = Some(last.keys.iter().chain([&last.subject]).cloned().collect());
        }
        out.is_cut = true;
        Ok(())
    }

    /// Takes a resource that was found in the versions that are wanted of it.
    async fn take(
        &self,
        shown: Shown,
        which: &Which,
        t: Seq,
        (out, seen): (&mut Included, &mut Seen),
    ) -> Result<(), Trouble> {
        let of = place(&shown);
        let versions = if let Which::In(versions) = which { Some(versions) } else { None };
        let wanted = versions.into_iter().flatten().filter(|(id, _)| *id == shown.id);
        let mut wanted: BTreeSet<Option<i64>> = wanted.map(|(_, version)| *version).collect();
        if versions.is_none() || wanted.remove(&Some(shown.version)) {
            wanted.insert(None);
        }
        for version in wanted {
            let one = match version {
                Some(version) => self.in_version(&of, version, t).await?,
                None => Some(shown.clone()),
            };
            let Some(one) = one else { continue };
            if out.shown.len() == INCLUDED_MAX {
                out.is_cut = true;
                break;
            }
            let is_new = seen.insert((of.clone(), Some(one.version)));
            if version.is_none() {
                seen.insert((of.clone(), None));
            }
            if is_new {
                out.shown.push(one);
            }
        }
        Ok(())
    }

    /// A version by its number, where it was there at the walk's commit and may be shown now: of a resource that may be.
    async fn in_version(&self, (ty, id): &Place, version: i64, t: Seq) -> Result<Option<Shown>, Trouble> {
        let (room, authority) = (self.room, &self.caller.authority);
        let found = room.chart.version(authority, ty, chart_id(&room.key, ty, id), version).await;
        let stored = match found {
            Ok(stored) if stored.t_from <= t && !stored.deleted && is_of(&stored, id) => stored,
            Ok(_) | Err(ChartError::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(visible) = visible(room, self.caller, &stored).await? else { return Ok(None) };
        let body = visible.seen(self.caller);
        Ok(Some(Shown { resource_type: ty, id: id.clone(), version, body }))
    }

    /// The searches that find what one include wants.
    fn wanted(
        &self,
        (include, sources): (&Include, &[&'static str]),
        all: &[Shown],
        seen: &Seen,
    ) -> Vec<Wanted> {
        if include.is_reverse {
            let sources = if include.source.is_some() { include.source.as_slice() } else { sources };
            return sources.iter().flat_map(|source| reverse(include, source, all)).collect();
        }
        self.forward(include, all, seen)
    }

    fn forward(&self, include: &Include, all: &[Shown], seen: &Seen) -> Vec<Wanted> {
        let mut wanted: BTreeMap<&'static str, Versions> = BTreeMap::new();
        let mut named: BTreeMap<&'static str, BTreeSet<Canonical>> = BTreeMap::new();
        let mut ways: BTreeMap<&'static str, Vec<Way>> = BTreeMap::new();
        let is_meant = |ty: &str| include.target.is_none_or(|target| target == ty);
        for shown in all.iter().filter(|shown| include.source.is_none_or(|ty| ty == shown.resource_type)) {
            let Ok(json) = Json::parse(shown.body.as_bytes()) else { continue };
            let ty = shown.resource_type;
            for way in ways.entry(ty).or_insert_with(|| ways_of(include, ty)).iter() {
                for leads in self.targets(way, &json) {
                    match leads {
                        Leads::To(of, version) => {
                            if is_meant(of.0) && !seen.contains(&(of.clone(), version)) {
                                wanted.entry(of.0).or_default().insert((of.1, version));
                            }
                        }
                        Leads::By(name) => {
                            for ty in types_named().filter(|ty| way.parameter.leads_to(ty) && is_meant(ty)) {
                                named.entry(ty).or_default().insert(name.clone());
                            }
                        }
                    }
                }
            }
        }
        let mut queries = Vec::new();
        for (ty, versions) in wanted {
            let Some(parameter) = r4().parameter(ty, "_id") else { continue };
            let ids: BTreeSet<&FhirId> = versions.iter().map(|(id, _)| id).collect();
            let token = |id: &FhirId| Operand::Token(Token { system: None, code: id.to_string() });
            let values: Vec<Operand> = ids.into_iter().map(token).collect();
            let which = || Which::In(versions.clone());
            queries.extend(of_values(ty, parameter, &values).map(|query| Wanted { query, which: which() }));
        }
        for (ty, names) in named {
            let Some(parameter) = r4().parameter(ty, "url") else { continue };
            let urls: BTreeSet<&str> = names.iter().map(|name| name.url.as_str()).collect();
            let values: Vec<Operand> = urls.into_iter().map(|url| Operand::Text(url.to_owned())).collect();
            let which = || Which::Named(names.clone());
            queries.extend(of_values(ty, parameter, &values).map(|query| Wanted { query, which: which() }));
        }
        queries
    }

    /// Where a way leads from a resource.
    fn targets(&self, way: &Way, json: &Json<'_>) -> Vec<Leads> {
        let (mut leads, mut found) = (Vec::new(), Vec::new());
        way.path.walk(r4(), json, &mut found);
        for found in found {
            let (raw, is_canonical) = match found {
                Found::Element(element, "Reference") => {
                    (element.get("reference").and_then(Json::as_str), false)
                }
                Found::Element(element, "canonical") => (element.as_str(), true),
                _ => continue,
            };
            let raw = raw.unwrap_or_default();
            let mut own = self.settings.bases.iter();
            let own = own.find_map(|base| raw.strip_prefix(base.as_str())?.strip_prefix('/'));
            if let Ok(Reference::Relative { resource_type, id, version }) = own.unwrap_or(raw).parse()
                && let Some(ty) = r4().resource_types().find(|known| *known == resource_type.as_str())
            {
                // One that is no number is none that there ever was.
                let number = version.map(|version| version.as_str().parse().unwrap_or_default());
                leads.push(Leads::To((ty, id), number));
            }
            if is_canonical {
                leads.extend(Canonical::parse(raw).map(Leads::By));
            }
        }
        leads
    }
}

/// Where a resource says what an include wants of it.
struct Way {
    parameter: &'static Parameter,
    path: Resolved,
}

/// Where a reference leads to.
enum Leads {
    /// To a resource on this server, and to which version where it says one.
    To(Place, Option<i64>),
    /// To what has this name.
    By(Canonical),
}

impl Which {
    /// Whether what a search found is meant: a search by address alone finds other versions, too.
    fn is_met(&self, shown: &Shown) -> bool {
        match self {
            Self::Each | Self::In(_) => true,
            Self::Named(names) => {
                let json = Json::parse(shown.body.as_bytes());
                let called = json.ok().and_then(|json| Canonical::of(&json));
                called
                    .is_some_and(|called| names.contains(&called) || names.contains(&called.of_any_version()))
            }
            Self::Unversioned(way, urls) => {
                let Ok(json) = Json::parse(shown.body.as_bytes()) else { return false };
                let mut found = Vec::new();
                way.path.walk(r4(), &json, &mut found);
                found.iter().any(|found| {
                    let Found::Element(element, "canonical") = found else { return false };
                    let name = element.as_str().and_then(Canonical::parse);
                    name.is_some_and(|name| name.version.is_none() && urls.contains(&name.url))
                })
            }
        }
    }
}

fn place(shown: &Shown) -> Place {
    (shown.resource_type, shown.id.clone())
}

/// Resources of a type that refer to one of these.
fn reverse(include: &Include, source: &'static str, all: &[Shown]) -> Vec<Wanted> {
    let mut queries = Vec::new();
    for parameter in references(include, source) {
        let leads = |ty: &str| parameter.leads_to(ty) && include.target.is_none_or(|target| target == ty);
        let to: Vec<&Shown> = all.iter().filter(|shown| leads(shown.resource_type)).collect();
        let local =
            |shown: &&Shown| Target::Local { resource_type: shown.resource_type, id: shown.id.clone() };
        let values: Vec<Operand> = to.iter().map(local).map(Operand::Reference).collect();
        let found = of_values(source, parameter, &values);
        queries.extend(found.map(|query| Wanted { query, which: Which::Each }));
        if !is_by_name(parameter, source) {
            continue;
        }
        let called = |shown: &&Shown| Canonical::of(&Json::parse(shown.body.as_bytes()).ok()?);
        let called: BTreeSet<Canonical> = to.iter().filter_map(called).collect();
        let address = |address: &String| Operand::Reference(Target::Address(address.clone()));
        let versioned = called.iter().filter(|called| called.version.is_some()).map(Canonical::to_string);
        let values: Vec<Operand> = versioned.map(|called| address(&called)).collect();
        let found = of_values(source, parameter, &values);
        queries.extend(found.map(|query| Wanted { query, which: Which::Each }));
        let urls: BTreeSet<String> = called.into_iter().map(|called| called.url).collect();
        let values: Vec<Operand> = urls.iter().map(address).collect();
        for query in of_values(source, parameter, &values) {
            let Some(way) = way_of(parameter, source) else { continue };
            queries.push(Wanted { query, which: Which::Unversioned(way, urls.clone()) });
        }
    }
    queries
}

/// Types of what canonical addresses name: those that are found by a `url` that is one.
fn types_named() -> impl Iterator<Item = &'static str> {
    let is_one = |ty: &&str| !["Device", "Subscription"].contains(ty) && r4().parameter(ty, "url").is_some();
    r4().resource_types().filter(is_one)
}

/// Whether a parameter leads to what it names by canonical addresses.
fn is_by_name(parameter: &'static Parameter, ty: &'static str) -> bool {
    let path = Path::of(parameter, ty).ok().zip(r4().shape(ty));
    path.is_some_and(|(path, shape)| path.types(r4(), shape).contains(&"canonical"))
}

/// The parameters that an include goes by.
fn references(include: &Include, resource_type: &'static str) -> Vec<&'static Parameter> {
    if let Some(parameter) = include.parameter {
        return vec![parameter];
    }
    let refers = |one: &&Parameter| one.ty == ParameterType::Reference && Rule::answers(one);
    r4().parameters_of(resource_type).filter(refers).collect()
}

/// Where resources of a type say what an include wants of them.
fn ways_of(include: &Include, ty: &'static str) -> Vec<Way> {
    references(include, ty).into_iter().filter_map(|parameter| way_of(parameter, ty)).collect()
}

fn way_of(parameter: &'static Parameter, ty: &'static str) -> Option<Way> {
    let path = Path::of(parameter, ty).ok()?.resolve(r4(), r4().shape(ty)?);
    Some(Way { parameter, path })
}

/// Searches for these values, so many at once as one statement holds.
fn of_values(
    resource_type: &'static str,
    parameter: &'static Parameter,
    values: &[Operand],
) -> impl Iterator<Item = Query> {
    values.chunks(INCLUDE_VALUES_MAX).map(move |values| Query {
        criteria: vec![Criterion::Filter(Filter { parameter, modifier: None, values: values.to_vec() })],
        total: Total::None,
        ..Query::of(resource_type)
    })
}
