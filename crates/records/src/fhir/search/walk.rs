//! One page of a walk. The walk's commit decides what is a match and in which order; what stands now, and who asks, decide
//! what is shown of it.

use std::cmp::Ordering;

use hilum_chart::Stored;
use hilum_chart::search::{From, Match, Plan};
use hilum_core::{Seq, Timestamp};
use hilum_engines::tables::Value;
use hilum_engines::tables::query::{Answer, Found};
use hilum_fhir::search::query::{Query, SortKey, Summary, Total};
use hilum_fhir::search::values::Settings;
use hilum_fhir::subset::Subset;
use hilum_fhir::{Bundle, BundleType, FhirId, IssueType, OperationOutcome, SearchMode, Severity};
use hilum_web::visit::Caller;

use super::explain::planned;
use super::include::Included;
use super::page::{Cell, Kind, Page};
use super::scope::Scope;
use super::style::Style;
use crate::Room;
use crate::fhir::answer::{self, Trouble};
use crate::fhir::form::Form;
use crate::fhir::read::visible_all;
use crate::limits::{INCLUDED_MAX, PAGE_ROUNDS_MAX, PAGE_TTL_S, TOTAL_ROWS_EACH};

/// What is asked of the chart, on whose behalf.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) room: &'a Room,
    pub(super) settings: &'a Settings,
    pub(super) caller: &'a Caller,
    /// What the addresses of resources begin with.
    pub(super) base: &'a str,
}

/// A search on its way through its pages.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) ask: Ask<'a>,
    pub(super) scope: &'a Scope,
    /// The search as it is understood.
    pub(super) pairs: &'a [(String, String)],
    /// The same for each of the types that are searched, at least one, in the order in which their resources come.
    pub(super) queries: &'a [Query],
    pub(super) style: Style,
    pub(super) form: &'a Form,
}

/// A resource that is shown.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) resource_type: &'static str,
    pub(super) id: FhirId,
    pub(super) version: i64,
    pub(super) body: String,
}

/// The matches of one page, in the walk's order.
pub(super) struct Matches {
    pub(super) t: Seq,
    pub(super) shown: Vec<Shown>,
    /// Whether there is something behind, in the direction of the walk.
    pub(super) more: bool,
    /// The first one that was looked at, if any was.
    begun: Option<Vec<Cell>>,
    /// Where the next page begins: the last one that was looked at.
    pub(super) end: Vec<Cell>,
    /// How many were looked at.
    looked: u64,
    /// Whether something was taken out that the plan had let through.
    hid: bool,
}

impl Matches {
    /// Behind what the page goes on, and before what it goes back. Where nothing was found, from the other end.
    pub(super) fn edges(&self, reversed: bool) -> (Vec<Cell>, Vec<Cell>) {
        let begun = self.begun.clone().unwrap_or_default();
        if reversed { (begun, self.end.clone()) } else { (self.end.clone(), begun) }
    }

    /// Whether none was found.
    pub(super) const fn is_none(&self) -> bool {
        self.begun.is_none()
    }

    /// Whether the number of the page and what it found speak against a total that was told: somebody is withheld, or let in,
    /// since then.
    fn is_against(&self, page: &Page, total: u64) -> bool {
        let Some(offset) = page.offset.map(u64::from) else { return false };
        let (counted, whole) = if page.reversed {
            (self.looked, offset + u64::from(page.wanted()))
        } else {
            (offset + self.looked, total)
        };
        match (self.more, self.looked) {
            (true, _) => counted >= whole,
            (false, 0) => counted < whole,
            (false, _) => counted != whole,
        }
    }
}

/// What was found, and of which of the types it is.
type Places = Vec<(usize, Found)>;

impl Ask<'_> {
    /// What is executed for a query of one type.
    pub(super) fn plan(&self, query: &Query, t: Option<Seq>, began: Timestamp) -> Result<Plan, Trouble> {
        planned(self.room, self.settings, &self.caller.authority, query, (t, began))
    }

    /// What a query finds.
    pub(super) async fn search(
        &self,
        query: &Query,
        t: Option<Seq>,
        began: Timestamp,
        from: From,
    ) -> Result<Answer, Trouble> {
        let plan = self.plan(query, t, began)?;
        Ok(self.room.chart.search(&self.caller.authority, &plan, from).await?)
    }

    /// The resources that were found, as they were at `t`, those that may be shown now and are wanted: of others the audit log
    /// learns nothing.
    pub(super) async fn resolved(
        &self,
        resource_type: &'static str,
        (found, t): (&[Found], Seq),
        is_wanted: &(dyn Fn(&Shown) -> bool + Sync),
    ) -> Result<Vec<Option<Shown>>, Trouble> {
        let (room, authority) = (self.room, &self.caller.authority);
        let row = |found: &Found| match found.subject {
            Value::Int(row) => row,
            _ => i64::MIN, // no row
        };
        let rows: Vec<i64> = found.iter().map(row).collect();
        let matches = room.chart.matches(authority, &rows, t).await?;
        // Whether what matched may be shown is asked of what stands now, too.
        let versions =
            matches.iter().flatten().flat_map(|one| one.now.as_ref().into_iter().chain([&one.then]));
        let versions: Vec<&Stored> = versions.collect();
        let mut bodies = visible_all(room, self.caller, &versions).await?.into_iter();
        let mut shown = Vec::with_capacity(rows.len());
        for found_match in &matches {
            let Some(Match { then, now }) = found_match else {
                shown.push(None);
                continue;
            };
            let may = now.is_none() || bodies.next().flatten().is_some();
            let Some(mut visible) = bodies.next().flatten().filter(|_| may) else {
                tracing::debug!("what a search found was withheld behind its plan");
                shown.push(None);
                continue;
            };
            let id = visible.logical.take();
            let id = id.ok_or_else(|| answer::broken("a stored body is no resource"))?;
            let body = std::mem::take(&mut visible.body);
            let one = Some(Shown { resource_type, id, version: then.version, body }).filter(is_wanted);
            if one.is_some() {
                visible.is_seen(self.caller);
            }
            shown.push(one);
        }
        Ok(shown)
    }
}

impl Walk<'_> {
    /// What is the same for all types: the order, what is told, what comes with it.
    pub(super) fn common(&self) -> &Query {
        self.queries.first().expect("a walk is of one type at least")
    }

    fn count(&self) -> u32 {
        self.common().count.unwrap_or(self.ask.room.paging.matches)
    }

    /// The first page; `offset`: the one behind so many matches; `t`: at this commit, where one was seen already.
    pub(super) async fn begin(
        &self,
        told: &[String],
        offset: Option<u32>,
        t: Option<Seq>,
    ) -> Result<String, Trouble> {
        if self.form.subset == Some(Subset::Text) && !self.common().includes.is_empty() {
            return Err(Trouble::Address("_summary=text and includes exclude each other"));
        }
        let began = self.ask.caller.at();
        let mut bundle = Self::bundle_with(told);
        if self.common().summary == Summary::Count {
            let total = self.counted(t, began, i64::MAX as u64, None).await?.ok_or(Trouble::TooCostly)?;
            self.ask.caller.saw_rows(0);
            return Ok(bundle.total(total).link("self", &self.self_link(None)).finish());
        }
        let page = Page {
            kind: Kind::Search,
            form: self.form.kept(),
            resource_type: self.scope.types().to_owned(),
            within: self.scope.within_said(),
            pairs: self.pairs.to_vec(),
            t: t.map(|t| t.0),
            life: self.ask.room.chart.indexed_since().await?.0,
            began_us: began.as_micros(),
            count: self.count(),
            until_us: began.as_micros().saturating_add(PAGE_TTL_S * 1_000_000),
            offset: offset.or((self.style != Style::Sealed).then_some(0)),
            ..Page::default()
        };
        let matches = self.matches(&page).await?;
        let total = self.total(&page, &matches).await?;
        let page = Page { t: Some(matches.t.0), total, ..page };
        bundle = bundle.link("self", &self.self_link(offset));
        self.finish(bundle, page, None, matches).await
    }

    /// A later page, by its link `address`; `name`: of a search that is kept; `told`: of a first one,
    /// whose total is not known, what is to be told of the search.
    pub(super) async fn go_on(
        &self,
        (page, told): (Page, Option<Vec<String>>),
        address: &str,
        name: Option<String>,
    ) -> Result<String, Trouble> {
        let matches = self.matches(&page).await?;
        let total = if told.is_some() { self.total(&page, &matches).await? } else { page.total };
        let bundle = Self::bundle_with(&told.unwrap_or_default()).link("self", address);
        let page = Page { t: Some(matches.t.0), total, ..page };
        self.finish(bundle, page, name, matches).await
    }

    /// The search as it is understood, as an address: in the answer alone, never in a log.
    fn self_link(&self, offset: Option<u32>) -> String {
        let mut address = form_urlencoded::Serializer::new(String::new());
        address.extend_pairs(self.scope.type_said().map(|types| ("_type", types)));
        address.extend_pairs(self.pairs).extend_pairs(self.form.kept());
        address.extend_pairs(offset.map(|offset| ("_offset", offset.to_string())));
        format!("{}{}?{}", self.ask.base, self.scope.path(), address.finish())
    }

    /// With what is to be told of the search itself.
    fn bundle_with(told: &[String]) -> Bundle {
        let mut bundle = Bundle::new(BundleType::Searchset);
        let mut all = told.iter().cloned();
        if let Some(first) = all.next() {
            let begun = OperationOutcome::one(Severity::Warning, IssueType::NotSupported, first);
            let outcome = all
                .fold(begun, |outcome, text| outcome.and(Severity::Warning, IssueType::NotSupported, text));
            bundle.entry(None, &outcome.to_json(), Some(SearchMode::Outcome));
        }
        bundle
    }

    /// So many matches as the page has, and whether there are more. What may not be shown is passed over; where pages are
    /// counted it leaves its place empty.
    async fn matches(&self, page: &Page) -> Result<Matches, Trouble> {
        let mut t = page.t.map(Seq);
        let mut out = Matches {
            t: t.unwrap_or_default(),
            shown: Vec::new(),
            more: true,
            begun: None,
            end: page.after.clone(),
            looked: 0,
            hid: false,
        };
        let (wanted, before) = (page.wanted() as usize, page.skipped() as usize);
        let rounds = if page.offset.is_some() { 1 } else { PAGE_ROUNDS_MAX };
        for _ in 0..rounds {
            let missing = wanted - out.shown.len();
            let (seen, found) = self.found(page, &out.end, t, before + missing + 1).await?;
            // A walk goes on in what its first page saw.
            (out.t, t) = (seen, Some(seen));
            out.more = found.len() > before + missing;
            let found = found.get(before..found.len().min(before + missing)).unwrap_or_default();
            if let (Some((at, first)), Some((of, last))) = (found.first(), found.last()) {
                out.begun = Some(out.begun.map_or_else(|| self.place_of(*at, first), Ok)?);
                out.end = self.place_of(*of, last)?;
            }
            out.looked += found.len() as u64;
            let shown = self.resolved(found, out.t).await?;
            out.hid |= shown.len() < found.len();
            out.shown.extend(shown);
            if !out.more || out.shown.len() == wanted {
                break;
            }
        }
        Ok(out)
    }

    /// The next `limit` matches behind a place.
    async fn found(
        &self,
        page: &Page,
        after: &[Cell],
        t: Option<Seq>,
        limit: usize,
    ) -> Result<(Seq, Places), Trouble> {
        let after = match after.split_first() {
            None => None,
            Some((ty, keys)) => {
                let at = self.queries.iter().position(|query| Cell::of_type(query) == *ty);
                Some((at.ok_or(Trouble::NotFound)?, keys.iter().map(Cell::value).collect()))
            }
        };
        let of_several = self.queries.len() > 1;
        if of_several && !self.common().sort.is_empty() {
            return self.merged(page, after, t, limit).await;
        }
        let (begins_at, mut after) = match after {
            Some((at, keys)) => (at, Some(keys)),
            None if page.reversed => (self.queries.len() - 1, None),
            None => (0, None),
        };
        let forward = begins_at..self.queries.len();
        let types: Vec<usize> =
            if page.reversed { (0..=begins_at).rev().collect() } else { forward.collect() };
        let (mut t, mut found) = (t, Places::new());
        for at in types {
            let missing = limit - found.len();
            t = Some(self.found_of(at, page, after.take(), t, (&mut found, missing)).await?);
            if found.len() >= limit {
                break;
            }
        }
        Ok((t.unwrap_or_default(), found))
    }

    /// The same of several types in one order: by the keys, then type by type, as without them.
    async fn merged(
        &self,
        page: &Page,
        after: Option<(usize, Vec<Value>)>,
        mut t: Option<Seq>,
        limit: usize,
    ) -> Result<(Seq, Places), Trouble> {
        let mut found = Places::new();
        for at in 0..self.queries.len() {
            let after = after.as_ref().map(|(of, place)| behind(place, at.cmp(of)));
            t = Some(self.found_of(at, page, after, t, (&mut found, limit)).await?);
        }
        let keys = &self.common().sort;
        found.sort_by(|one, other| {
            let order = in_order(keys, one, other);
            if page.reversed { order.reverse() } else { order }
        });
        found.truncate(limit);
        Ok((t.unwrap_or_default(), found))
    }

    /// Adds the next matches of one of the types; gives the commit that was seen.
    async fn found_of(
        &self,
        at: usize,
        page: &Page,
        after: Option<Vec<Value>>,
        t: Option<Seq>,
        (found, limit): (&mut Places, usize),
    ) -> Result<Seq, Trouble> {
        let Some(query) = self.queries.get(at) else { return Err(Trouble::NotFound) };
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let from = From { after, reversed: page.reversed, limit };
        let answer = self.ask.search(query, t, Timestamp::from_micros(page.began_us), from).await?;
        found.extend(answer.found.into_iter().map(|one| (at, one)));
        Ok(t.unwrap_or(answer.t))
    }

    /// The resources of these places that may be shown.
    async fn resolved(&self, found: &[(usize, Found)], t: Seq) -> Result<Vec<Shown>, Trouble> {
        let mut all = Vec::with_capacity(found.len());
        for of_type in found.chunk_by(|(one, _), (other, _)| one == other) {
            let Some((at, _)) = of_type.first() else { continue };
            let Some(query) = self.queries.get(*at) else { continue };
            let places: Vec<Found> = of_type.iter().map(|(_, found)| found.clone()).collect();
            let shown = self.ask.resolved(query.resource_type, (&places, t), &|_| true).await?;
            all.extend(shown.into_iter().flatten());
        }
        Ok(all)
    }

    /// Where a match stands in the order, as a link holds it.
    fn place_of(&self, at: usize, found: &Found) -> Result<Vec<Cell>, Trouble> {
        let ty = self.queries.get(at).map(Cell::of_type);
        let keys = found.keys.iter().chain([&found.subject]).map(Cell::of);
        let cells: Option<Vec<Cell>> = [ty].into_iter().chain(keys).collect();
        cells.ok_or_else(|| answer::broken("a key of an order is of no type that a link holds"))
    }

    /// The number of matches at the walk's commit: exact, or not told.
    async fn total(&self, page: &Page, matches: &Matches) -> Result<Option<u64>, Trouble> {
        let total = self.common().total;
        if total == Total::None || matches.hid {
            return Ok(None);
        }
        if !matches.more && page.offset.unwrap_or_default() == 0 {
            return Ok(Some(matches.shown.len() as u64));
        }
        let (t, began) = (Some(matches.t), Timestamp::from_micros(page.began_us));
        if total == Total::Accurate {
            return self.counted(t, began, i64::MAX as u64, None).await?.map(Some).ok_or(Trouble::TooCostly);
        }
        // By rows, never by time: a total that comes and goes with the load is a lie.
        let most = self.ask.room.paging.totals_max;
        if most == 0 {
            return Ok(None);
        }
        let total = self.counted(t, began, most + 1, Some(most * TOTAL_ROWS_EACH)).await?;
        Ok(total.filter(|total| *total <= most))
    }

    /// How many match, of all types together.
    async fn counted(
        &self,
        t: Option<Seq>,
        began: Timestamp,
        cap: u64,
        rows: Option<u64>,
    ) -> Result<Option<u64>, Trouble> {
        let (chart, authority) = (&self.ask.room.chart, &self.ask.caller.authority);
        let plans = self.queries.iter().map(|query| self.ask.plan(query, t, began));
        let plans: Vec<Plan> = plans.collect::<Result<_, _>>()?;
        // Of several types each has its part of the rows, though not fewer than may be told; all together have the time of one.
        let rows = rows.map(|rows| (rows / plans.len().max(1) as u64).max(cap));
        let counts = chart.search_counts(authority, &plans, cap, rows).await?;
        Ok(counts.into_iter().sum())
    }

    async fn finish(
        &self,
        mut bundle: Bundle,
        page: Page,
        name: Option<String>,
        mut matches: Matches,
    ) -> Result<String, Trouble> {
        if let Some(total) = page.total.filter(|total| !matches.is_against(&page, *total)) {
            bundle = bundle.total(total);
        }
        if page.reversed {
            matches.shown.reverse();
        }
        let began = Timestamp::from_micros(page.began_us);
        for (relation, address) in self.links(page, name, &matches).await? {
            bundle = bundle.link(relation, &address);
        }
        let Matches { t, shown, .. } = matches;
        self.ask.caller.saw_rows(shown.len() as u64);
        let included = self.ask.included(&self.common().includes, (&shown, t, began), &|_| true).await?;
        self.ask.entries(self.form, &mut bundle, &shown, &included)?;
        Ok(bundle.finish())
    }
}

impl Ask<'_> {
    /// The matches of a page, and what comes with them.
    pub(super) fn entries(
        &self,
        form: &Form,
        bundle: &mut Bundle,
        matches: &[Shown],
        included: &Included,
    ) -> Result<(), Trouble> {
        let matches = matches.iter().map(|one| (one, SearchMode::Match));
        for (one, mode) in matches.chain(included.shown.iter().map(|one| (one, SearchMode::Include))) {
            let full_url = format!("{}/{}/{}", self.base, one.resource_type, one.id);
            let is_part =
                |subset: &Subset| mode == SearchMode::Match || subset.is_of_included(one.resource_type);
            let part = form.subset.as_ref().filter(|subset| is_part(subset));
            let part = part.map(|subset| subset.of(&one.body)).transpose()?;
            bundle.entry(Some(&full_url), part.as_ref().unwrap_or(&one.body), Some(mode));
        }
        if included.is_cut {
            let text = format!(
                "not all that is to come with this page is here ({INCLUDED_MAX} resources at most): ask for a smaller \
                 _count, or search for it"
            );
            let outcome = OperationOutcome::one(Severity::Warning, IssueType::TooCostly, text);
            bundle.entry(None, &outcome.to_json(), Some(SearchMode::Outcome));
        }
        Ok(())
    }
}

/// Of a type that stands so beside the one of `place`: the place of the same keys.
fn behind(place: &[Value], of: Ordering) -> Vec<Value> {
    let edge = match of {
        Ordering::Less => i64::MAX,
        Ordering::Greater => i64::MIN,
        Ordering::Equal => return place.to_vec(),
    };
    let keys = place.split_last().map_or(&[][..], |(_, keys)| keys);
    keys.iter().cloned().chain([Value::Int(edge)]).collect()
}

/// As an engine orders matches of one type, and those of an earlier type first where the keys are the same.
fn in_order(sort: &[SortKey], (at, one): &(usize, Found), (of, other): &(usize, Found)) -> Ordering {
    for ((one, other), key) in one.keys.iter().zip(&other.keys).zip(sort) {
        let order = match (*one == Value::Null, *other == Value::Null) {
            (false, false) if key.descending => other.cmp(one),
            (false, false) => one.cmp(other),
            (one, other) => one.cmp(&other),
        };
        if order.is_ne() {
            return order;
        }
    }
    at.cmp(of).then_with(|| one.subject.cmp(&other.subject))
}
