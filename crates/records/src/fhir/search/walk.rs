//! One page of a walk. The walk's commit decides what is a match and in which order; what stands now, and who asks, decide
//! what is shown of it.

use hilum_chart::search::{self, Asked, From, Match, Plan};
use hilum_core::{Seq, Timestamp};
use hilum_engines::tables::Value;
use hilum_engines::tables::query::{Answer, Found};
use hilum_fhir::search::query::{Query, QueryError, Summary, Total};
use hilum_fhir::search::values::Settings;
use hilum_fhir::{
    Bundle, BundleType, FhirId, IssueType, OperationOutcome, ResourceBody, SearchMode, Severity,
};
use hilum_web::visit::Caller;

use super::page::{Cell, Page};
use super::{PAGE_MATCHES, PAGE_TTL_S};
use crate::fhir::answer::{self, Trouble};
use crate::fhir::read::{saw, visible};
use crate::limits::{INCLUDED_MAX, PAGE_ROUNDS_MAX, TOTAL_MATCHES_MAX, TOTAL_ROWS_MAX};
use crate::{Room, logical};

/// A search on its way through its pages.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) room: &'a Room,
    pub(super) settings: &'a Settings,
    pub(super) caller: &'a Caller,
    pub(super) base: &'a str,
    pub(super) query: &'a Query,
}

/// A resource that is shown.
pub(super) struct Shown {
    pub(super) resource_type: &'static str,
    pub(super) id: FhirId,
    pub(super) body: String,
    /// Its place in the order.
    place: Vec<Cell>,
}

/// The matches of one page, in the walk's order.
struct Matches {
    t: Seq,
    shown: Vec<Shown>,
    /// Whether there is something behind, in the direction of the walk.
    more: bool,
    /// Where the next page begins: the last one that was looked at.
    end: Vec<Cell>,
    /// Whether something was taken out that the plan had let through.
    hid: bool,
}

impl Walk<'_> {
    fn plan(&self, t: Option<Seq>, began: Timestamp) -> Result<Plan, Trouble> {
        let withheld = self.room.discretions.withheld();
        let chart_id = |ty: &str, id: &hilum_fhir::FhirId| logical::chart_id(&self.room.key, ty, id);
        let asked = Asked {
            authority: &self.caller.authority,
            query: self.query,
            t,
            began,
            settings: self.settings,
            chart_id: &chart_id,
            withheld: &withheld,
        };
        search::plan(&asked).map_err(Trouble::Plan)
    }

    fn count(&self) -> u32 {
        self.query.count.unwrap_or(PAGE_MATCHES)
    }

    /// The first page.
    pub(super) async fn begin(&self, left_out: &[QueryError]) -> Result<String, Trouble> {
        let began = self.caller.at();
        let mut bundle = Self::bundle_with(left_out);
        if self.query.summary == Summary::Count {
            let plan = self.plan(None, began)?;
            let total = self.all(&plan).await?;
            self.caller.saw_rows(0);
            return Ok(bundle.total(total).link("self", &self.self_link()).finish());
        }
        let page = Page {
            resource_type: self.query.resource_type.to_owned(),
            pairs: self.query.pairs(),
            t: None,
            began_us: began.as_micros(),
            after: Vec::new(),
            reversed: false,
            count: self.count(),
            total: None,
            until_us: began.as_micros().saturating_add(PAGE_TTL_S * 1_000_000),
        };
        let matches = self.matches(&page).await?;
        let total = self.total(&page, &matches).await?;
        let page = Page { t: Some(matches.t.0), total, ..page };
        bundle = bundle.link("self", &self.self_link());
        self.finish(bundle, &page, matches).await
    }

    /// A later page, by its link.
    pub(super) async fn go_on(&self, page: Page, token: &str) -> Result<String, Trouble> {
        let matches = self.matches(&page).await?;
        let bundle = Bundle::new(BundleType::Searchset).link("self", &format!("{}/_page/{token}", self.base));
        let page = Page { t: Some(matches.t.0), ..page };
        self.finish(bundle, &page, matches).await
    }

    /// The search as it is understood, as an address: in the answer alone, never in a log.
    fn self_link(&self) -> String {
        let mut address = form_urlencoded::Serializer::new(String::new());
        address.extend_pairs(self.query.pairs());
        format!("{}/{}?{}", self.base, self.query.resource_type, address.finish())
    }

    fn bundle_with(left_out: &[QueryError]) -> Bundle {
        let mut bundle = Bundle::new(BundleType::Searchset);
        let mut all = left_out.iter().map(|error| format!("left out: {error}"));
        if let Some(first) = all.next() {
            let begun = OperationOutcome::one(Severity::Warning, IssueType::NotSupported, first);
            let outcome = all
                .fold(begun, |outcome, text| outcome.and(Severity::Warning, IssueType::NotSupported, text));
            bundle.entry(None, &outcome.to_json(), Some(SearchMode::Outcome));
        }
        bundle
    }

    /// So many matches as the page has, and whether there are more. What may not be shown is passed over.
    async fn matches(&self, page: &Page) -> Result<Matches, Trouble> {
        let mut t = page.t.map(Seq);
        let mut out = Matches {
            t: t.unwrap_or_default(),
            shown: Vec::new(),
            more: true,
            end: page.after.clone(),
            hid: false,
        };
        let wanted = page.count.max(1) as usize;
        for _ in 0..PAGE_ROUNDS_MAX {
            let missing = wanted - out.shown.len();
            let after = (!out.end.is_empty()).then(|| out.end.iter().map(Cell::value).collect());
            let from = From { after, reversed: page.reversed, limit: missing as u32 + 1 };
            let answer = self.search(t, Timestamp::from_micros(page.began_us), from).await?;
            // A walk goes on in what its first page saw.
            (out.t, t) = (t.unwrap_or(answer.t), Some(t.unwrap_or(answer.t)));
            out.more = answer.found.len() > missing;
            let found = answer.found.get(..missing.min(answer.found.len())).unwrap_or_default();
            if let Some(last) = found.last() {
                out.end = place_of(last)?;
            }
            let shown = self.resolved(found, out.t).await?;
            out.hid |= shown.len() < found.len();
            out.shown.extend(shown);
            if !out.more || out.shown.len() == wanted {
                break;
            }
        }
        Ok(out)
    }

    /// What the query finds.
    pub(super) async fn search(
        &self,
        t: Option<Seq>,
        began: Timestamp,
        from: From,
    ) -> Result<Answer, Trouble> {
        let plan = self.plan(t, began)?;
        Ok(self.room.chart.search(&self.caller.authority, &plan, from).await?)
    }

    /// The resources that were found, as they were at `t`, those that may be shown now.
    pub(super) async fn resolved(&self, found: &[Found], t: Seq) -> Result<Vec<Shown>, Trouble> {
        let (room, authority) = (self.room, &self.caller.authority);
        let row = |found: &Found| match found.subject {
            Value::Int(row) => row,
            _ => i64::MIN, // no row
        };
        let rows: Vec<i64> = found.iter().map(row).collect();
        let mut shown = Vec::with_capacity(rows.len());
        for (found, found_match) in found.iter().zip(room.chart.matches(authority, &rows, t).await?) {
            let Some(Match { then, now }) = found_match else { continue };
            let may = match &now {
                Some(now) => visible(room, self.caller, now).await?.is_some(),
                None => true,
            };
            let body = if may { visible(room, self.caller, &then).await? } else { None };
            let Some(body) = body else {
                tracing::debug!("what a search found was withheld behind its plan");
                continue;
            };
            saw(self.caller, &body);
            let resource = ResourceBody::parse(then.body.clone());
            let resource = resource.map_err(|_| answer::broken("a stored body is no resource"))?;
            let id = resource.id().clone();
            shown.push(Shown { resource_type: self.query.resource_type, id, body, place: place_of(found)? });
        }
        Ok(shown)
    }

    /// The number of matches at the walk's commit: exact, or not told.
    async fn total(&self, page: &Page, matches: &Matches) -> Result<Option<u64>, Trouble> {
        if self.query.total == Total::None || matches.hid {
            return Ok(None);
        }
        if !matches.more {
            return Ok(Some(matches.shown.len() as u64));
        }
        let plan = self.plan(Some(matches.t), Timestamp::from_micros(page.began_us))?;
        if self.query.total == Total::Accurate {
            return self.all(&plan).await.map(Some);
        }
        // By rows, never by time: a total that comes and goes with the load is a lie.
        let (chart, cap) = (&self.room.chart, TOTAL_MATCHES_MAX + 1);
        let total = chart.search_count(&self.caller.authority, &plan, cap, Some(TOTAL_ROWS_MAX)).await?;
        Ok(total.filter(|total| *total < cap))
    }

    /// How many match, whatever it costs within one statement's time.
    async fn all(&self, plan: &Plan) -> Result<u64, Trouble> {
        let cap = i64::MAX as u64;
        let total = self.room.chart.search_count(&self.caller.authority, plan, cap, None).await?;
        total.ok_or(Trouble::TooCostly)
    }

    async fn finish(&self, mut bundle: Bundle, page: &Page, matches: Matches) -> Result<String, Trouble> {
        if let Some(total) = page.total {
            bundle = bundle.total(total);
        }
        let link = |after: Vec<Cell>, reversed: bool| -> Result<String, Trouble> {
            let there = Page { after, reversed, ..page.clone() };
            let token = there
                .seal(&self.room.key, self.caller.authority.principal(), self.room.entropy.bytes())
                .map_err(|_| Trouble::TooLongForPages)?;
            Ok(format!("{}/_page/{token}", self.base))
        };
        let Matches { t, mut shown, more, end, .. } = matches;
        if page.reversed {
            shown.reverse();
        }
        let is_begun = !page.after.is_empty();
        let (has_next, has_previous) = if page.reversed { (is_begun, more) } else { (more, is_begun) };
        let (first, last) = (shown.first(), shown.last());
        // Where all that was looked at was withheld the walk goes on behind it.
        let edge = |shown: Option<&Shown>| shown.map_or(end.clone(), |shown| shown.place.clone());
        let behind = if page.reversed { edge(last) } else { end.clone() };
        let before = if page.reversed { end.clone() } else { edge(first) };
        if has_next || has_previous {
            bundle = bundle.link("first", &link(Vec::new(), false)?);
        }
        if has_previous {
            bundle = bundle.link("previous", &link(before, true)?);
        }
        if has_next {
            bundle = bundle.link("next", &link(behind, false)?);
        }
        if has_next || has_previous {
            bundle = bundle.link("last", &link(Vec::new(), true)?);
        }
        self.caller.saw_rows(shown.len() as u64);
        let included = self.included(&shown, t, Timestamp::from_micros(page.began_us)).await?;
        let matches = shown.iter().map(|one| (one, SearchMode::Match));
        for (one, mode) in matches.chain(included.shown.iter().map(|one| (one, SearchMode::Include))) {
            let full_url = format!("{}/{}/{}", self.base, one.resource_type, one.id);
            bundle.entry(Some(&full_url), &one.body, Some(mode));
        }
        if included.is_cut {
            let text = format!(
                "more than {INCLUDED_MAX} resources would come with this page: ask for a smaller _count"
            );
            let outcome = OperationOutcome::one(Severity::Warning, IssueType::TooCostly, text);
            bundle.entry(None, &outcome.to_json(), Some(SearchMode::Outcome));
        }
        Ok(bundle.finish())
    }
}

/// Where a match stands in the order, as a link holds it.
fn place_of(found: &Found) -> Result<Vec<Cell>, Trouble> {
    let cells: Option<Vec<Cell>> = found.keys.iter().chain([&found.subject]).map(Cell::of).collect();
    cells.ok_or_else(|| answer::broken("a key of an order is of no type that a link holds"))
}
