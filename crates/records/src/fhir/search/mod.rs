//! Search (<https://hl7.org/fhir/R4/http.html#search>): by GET and by POST, one page after the other.
//!
//! | file | what stands there |
//! |---|---|
//! | `scope` | what is searched: a type, several, a compartment |
//! | `walk` | one page of a walk: which matches |
//! | `everything` | all that there is about a patient |
//! | `include` | what comes with the matches |
//! | `links` | the links of a page, in each style |
//! | `style` | which style: sealed, offset, getpages |
//! | `terms` | value sets become codes |
//! | `page` | the sealed link to a page |
//! | `explain` | what a search does and costs |
//! | `kept` | searches that are kept, as nobody can read them |

mod canonical;
pub(super) mod everything;
mod explain;
mod include;
mod kept;
mod links;
pub(super) mod page;
mod scope;
mod style;
mod terms;
mod walk;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use hilum_chart::search::{self, Unfound};
use hilum_core::{Seq, Timestamp};
use hilum_fhir::json::Json;
use hilum_fhir::r4::r4;
use hilum_fhir::search::query::{Handling, Query, QueryError, Summary, Total, is_of_result};
use hilum_fhir::search::values::Settings;
use hilum_web::visit::Caller;
use serde_json::Value;

pub use self::explain::{Explained, explain};
pub use self::kept::sweep;
use self::links::Address;
use self::page::{Kind, Page, PageError};
use self::scope::Scope;
pub use self::style::{Paging, Style};
pub(super) use self::terms::{By, expanded};
use self::walk::{Ask, Walk};
use super::answer::{self, Trouble};
use super::ask;
use super::form::{Form, Pairs, pairs_of};
use super::history;
use super::references::also_local;
use crate::Room;
use crate::limits::{OFFSET_MAX, PAGE_TTL_S};

/// What of an address is not the search's own: the value of a parameter that may stand once.
fn take(pairs: &mut Pairs, wanted: &str) -> Result<Option<String>, Trouble> {
    let mut found = None;
    for (_, value) in pairs.extract_if(.., |(name, _)| name == wanted).filter(|(_, value)| !value.is_empty())
    {
        if found.replace(value).is_some() {
            return Err(Trouble::Parameter { known: wanted.to_owned() });
        }
    }
    Ok(found)
}

/// Of a later page: whether it is laid out, though its link does not say so. Which part of each resource is shown stands there.
fn pretty_of(pairs: &mut Pairs, headers: &HeaderMap) -> Result<bool, Trouble> {
    let (format, pretty) = (take(pairs, "_format")?, take(pairs, "_pretty")?);
    ask::takes_json(headers, format.as_deref())?;
    ask::is_pretty(pretty.as_deref())
}

/// How many matches are before the page that is wanted.
fn offset_of(pairs: &mut Pairs, name: &str) -> Result<Option<u32>, Trouble> {
    let Some(raw) = take(pairs, name)? else { return Ok(None) };
    if raw.is_empty() || !raw.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Trouble::Parameter { known: format!("{name} (a number from 0)") });
    }
    let offset = raw.parse().unwrap_or(u32::MAX);
    if offset > OFFSET_MAX {
        let what = "matches before a page that is asked for by _offset: follow its link `next`, or ask with \
                    Prefer: hilum-paging=sealed, where any page costs the same";
        return Err(QueryError::Bound { what, max: OFFSET_MAX as usize }.into());
    }
    Ok(Some(offset))
}

/// A number of matches that a link carries beside its token.
fn count_of(room: &Room, pairs: &mut Pairs) -> Result<Option<u32>, Trouble> {
    let wrong = || Trouble::Parameter { known: "_count (a number from 1)".to_owned() };
    let Some(raw) = take(pairs, "_count")? else { return Ok(None) };
    let is_number = raw.bytes().all(|byte| byte.is_ascii_digit());
    let count = raw.parse().ok().filter(|count| is_number && *count > 0).ok_or_else(wrong)?;
    Ok(Some(room.paging.matches_max.min(count)))
}

/// Criteria of this type, as an address has them behind its question mark.
pub(super) fn criteria(resource_type: &'static str, raw: &str) -> Result<Query, Trouble> {
    let pairs = pairs_of(raw.as_bytes());
    let borrowed = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Ok(Query::parse(resource_type, borrowed, Handling::Strict)?.0)
}

/// The first page of a search within a Bundle.
pub(super) async fn within(
    room: &Room,
    caller: &Caller,
    base: &str,
    address: (&str, &str),
) -> Result<String, Trouble> {
    let (body, _) = wanted_within(address)?.first(room, caller, base, Handling::Strict).await?;
    Ok(body)
}

fn wanted_within((ty, raw): (&str, &str)) -> Result<Wanted, Trouble> {
    let mut pairs = pairs_of(raw.as_bytes());
    let form = Form::take(&mut pairs, &HeaderMap::new(), Some(ask::type_of(ty)?))?;
    let offset = offset_of(&mut pairs, "_offset")?;
    Ok(Wanted { scope: Scope::of_type(ty)?, pairs, form, offset, style: None })
}

/// Refuses what is no search that [`within`] could make.
pub(super) fn is_one((ty, raw): (&str, &str)) -> Result<(), Trouble> {
    let wanted = wanted_within((ty, raw))?;
    let pairs = wanted.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Query::parse(ask::type_of(ty)?, pairs, Handling::Strict)?;
    Ok(())
}

/// Refuses a search that could not be answered, though it is one: by a value set that is not here, say.
pub(super) async fn is_answered(room: &Room, caller: &Caller, address: (&str, &str)) -> Result<(), Trouble> {
    let wanted = wanted_within(address)?;
    let (queries, _) = wanted.scope.read(room, &wanted.pairs, Handling::Strict)?;
    let queries = queries.into_iter().map(|query| also_local(caller, query)).collect();
    let settings = settings(room).await?;
    let by = By { room, settings, authority: &caller.authority, began: caller.at() };
    let (queries, t) = expanded(by, queries, None).await?;
    for query in &queries {
        explain::planned(room, settings, &caller.authority, query, (t, by.began))?;
    }
    Ok(())
}

/// One resource that meets criteria and may be shown, if there is any.
pub(super) async fn any(
    room: &Room,
    caller: &Caller,
    resource_type: &'static str,
    mut pairs: Pairs,
) -> Result<Option<String>, Trouble> {
    pairs.extend(
        [("_count", "1"), ("_total", "none")].map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let scope = Scope::of_type(resource_type)?;
    // Whatever the asker's style: nothing is kept for pages that nobody asks for.
    let (form, style) = (Form::default(), Some(Style::Sealed));
    let (body, _) =
        Wanted { scope, pairs, form, offset: None, style }.first(room, caller, "", Handling::Strict).await?;
    let bundle = Json::parse(body.as_bytes())?;
    let found = bundle.get("entry").and_then(|entries| entries.elements().first()?.get("resource"));
    Ok(found.map(Json::to_text))
}

/// What the index was made with, once all of it is there.
pub(super) async fn settings(room: &Room) -> Result<&Settings, Trouble> {
    let indexer = room.chart.indexer().ok_or(Trouble::NoSearch)?;
    if room.chart.is_indexed().await? { Ok(indexer.settings()) } else { Err(Trouble::NotIndexed) }
}

/// A search as it was asked for.
struct Wanted {
    scope: Scope,
    pairs: Pairs,
    form: Form,
    offset: Option<u32>,
    /// What the request prefers.
    style: Option<Style>,
}

impl Wanted {
    /// Its first page, and how its pages are linked.
    async fn first(
        &self,
        room: &Room,
        caller: &Caller,
        base: &str,
        handling: Handling,
    ) -> Result<(String, Style), Trouble> {
        let (queries, left_out) = self.scope.read(room, &self.pairs, handling)?;
        let queries = queries.into_iter().map(|query| also_local(caller, query)).collect();
        let settings = settings(room).await?;
        let queries = there(room, caller, queries).await?;
        let style = match (self.style, self.offset) {
            (Some(Style::GetPages), _) => Style::GetPages,
            // Who counts matches is answered so.
            (_, Some(_)) => Style::Offset,
            (Some(style), None) => style,
            (None, None) => room.paging.style_of(caller.authority.principal()),
        };
        let ask = Ask { room, settings, caller, base };
        let pairs = said(&queries);
        let by = By { room, settings, authority: &caller.authority, began: caller.at() };
        let (mut queries, t) = expanded(by, queries, None).await?;
        let unfound = unfound(room, caller, &mut queries).await?;
        let told: Vec<String> =
            left_out.iter().map(|error| format!("left out: {error}")).chain(unfound).collect();
        let form = &self.form;
        let walk = Walk { ask, scope: &self.scope, pairs: &pairs, queries: &queries, style, form };
        Ok((walk.begin(&told, self.offset, t).await?, style))
    }
}

/// What messages made that these searches do not find, in words. Of what is not all found by a parameter nobody is told how
/// many there are.
async fn unfound(room: &Room, caller: &Caller, queries: &mut [Query]) -> Result<Vec<String>, Trouble> {
    let rooms = room.discretions.withheld();
    let mut unfound: Unfound = queries.iter().flat_map(|query| search::unfound(query, &rooms)).collect();
    // A search of all types is one of those that are found.
    unfound.retain(|(_, code)| code.is_some() || queries.len() == 1);
    if unfound.is_empty() || !room.chart.has_made(&caller.authority, &rooms).await? {
        return Ok(Vec::new());
    }
    let is_counted = |query: &Query| query.total == Total::Accurate || query.summary == Summary::Count;
    if unfound.iter().any(|(_, code)| code.is_some()) {
        if queries.iter().any(is_counted) {
            return Err(Trouble::Unsupported(
                "resources made from messages are not found by one of these parameters, so their number is not known: ask \
                 without _total=accurate and _summary=count",
            ));
        }
        for query in queries {
            query.total = Total::None;
        }
    }
    let said = |(ty, code): (&str, Option<&str>)| match code {
        Some(code) => format!("{ty}s made from messages are not found by `{code}`"),
        None => format!("{ty}s made from messages are found by no search"),
    };
    Ok(unfound.into_iter().map(said).collect())
}

/// Of searches for several types, those of which there is any resource; one at least.
async fn there(room: &Room, caller: &Caller, queries: Vec<Query>) -> Result<Vec<Query>, Trouble> {
    if queries.len() == 1 {
        return Ok(queries);
    }
    let types: Vec<&str> = queries.iter().map(|query| query.resource_type).collect();
    let are = room.chart.types_there(&caller.authority, &types).await?;
    let any = are.iter().any(|is| *is);
    let kept = queries.into_iter().zip(are).enumerate().filter(|(at, (_, is))| *is || (!any && *at == 0));
    Ok(kept.map(|(_, (query, _))| query).collect())
}

/// Whether a name means something in a search of any type, by R4 or here.
pub fn is_parameter(name: &str) -> bool {
    const OURS: [&str; 3] = ["_format", "_pretty", "_offset"];
    let name = name.split([':', '.']).next().unwrap_or_default();
    let is_of = |ty| r4().parameters_of(ty).any(|one| one.code == name);
    name.starts_with("_getpages")
        || OURS.contains(&name)
        || is_of_result(name)
        || r4().resource_types().any(is_of)
}

/// Parameters of an address without those that are not looked at.
fn asked(room: &Room, query: Option<&str>) -> Pairs {
    let mut pairs = pairs_of(query.unwrap_or_default().as_bytes());
    pairs.retain(|(name, _)| !room.policy.ignored_parameters.contains(name));
    pairs
}

async fn begin(
    room: &Room,
    caller: &Caller,
    scope: Scope,
    mut pairs: Pairs,
    headers: &HeaderMap,
) -> Result<Response, Trouble> {
    let form = Form::take(&mut pairs, headers, scope.only_type())?;
    let is_pretty = form.is_pretty;
    let offset = offset_of(&mut pairs, "_offset")?;
    let preferred = ask::paging(headers)?;
    let wanted = Wanted { scope, pairs, form, offset, style: preferred };
    let base = answer::base(caller.shell(), headers);
    let (body, style) = wanted.first(room, caller, &base, ask::handling(headers)?).await?;
    let mut response = answer::json(body, is_pretty);
    if preferred.is_some()
        && let Ok(applied) = HeaderValue::from_str(&format!("hilum-paging={}", style.as_str()))
    {
        response.headers_mut().insert(HeaderName::from_static("preference-applied"), applied);
    }
    Ok(response)
}

/// `GET /fhir/Type?…`.
pub(super) async fn get(
    State(room): State<Room>,
    caller: Caller,
    Path(ty): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let pairs = asked(&room, query.as_deref());
    begin(&room, &caller, Scope::of_type(&ty)?, pairs, &headers).await
}

/// `POST /fhir/Type/_search`: the same in a form, which no log of addresses keeps.
pub(super) async fn post(
    State(room): State<Room>,
    caller: Caller,
    Path(ty): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Trouble> {
    let pairs = posted(&room, query.as_deref(), &headers, &body)?;
    begin(&room, &caller, Scope::of_type(&ty)?, pairs, &headers).await
}

/// Parameters of a form, and of the address that it is sent to.
fn posted(room: &Room, query: Option<&str>, headers: &HeaderMap, body: &Bytes) -> Result<Pairs, Trouble> {
    ask::brings_form(headers, body.is_empty())?;
    let mut pairs = asked(room, query);
    pairs.extend(pairs_of(body));
    Ok(pairs)
}

/// `GET /fhir?_type=…`, and `GET /fhir?_getpages=…`: a page of a search that is kept.
pub(super) async fn get_all(
    State(room): State<Room>,
    caller: Caller,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let mut pairs = asked(&room, query.as_deref());
    if let Some(name) = take(&mut pairs, "_getpages")? {
        let is_pretty = pretty_of(&mut pairs, &headers)?;
        let base = answer::base(caller.shell(), &headers);
        return Ok(match kept_page(&room, &caller, &base, name, pairs).await? {
            Later::There(body, form) => answer::json(body, is_pretty || form.is_pretty),
            Later::Answered(response) => response,
        });
    }
    let types = take(&mut pairs, "_type")?;
    begin(&room, &caller, Scope::of_all(types.as_deref())?, pairs, &headers).await
}

/// `POST /fhir/_search`.
pub(super) async fn post_all(
    State(room): State<Room>,
    caller: Caller,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Trouble> {
    let mut pairs = posted(&room, query.as_deref(), &headers, &body)?;
    let types = take(&mut pairs, "_type")?;
    begin(&room, &caller, Scope::of_all(types.as_deref())?, pairs, &headers).await
}

/// `GET /fhir/Patient/123/Type?…` and `GET /fhir/Patient/123/*?…`.
pub(super) async fn get_within(
    State(room): State<Room>,
    caller: Caller,
    Path((whose, id, ty)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let mut pairs = asked(&room, query.as_deref());
    let types = take(&mut pairs, "_type")?;
    let scope = Scope::within((&whose, &id), &ty, types.as_deref())?;
    begin(&room, &caller, scope, pairs, &headers).await
}

/// `POST /fhir/Patient/123/Type/_search`.
pub(super) async fn post_within(
    State(room): State<Room>,
    caller: Caller,
    Path((whose, id, ty)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Trouble> {
    let mut pairs = posted(&room, query.as_deref(), &headers, &body)?;
    let types = take(&mut pairs, "_type")?;
    let scope = Scope::within((&whose, &id), &ty, types.as_deref())?;
    begin(&room, &caller, scope, pairs, &headers).await
}

/// `GET /fhir/_page/token`, where pages are counted with `_offset` and `_count` beside it.
pub(super) async fn page(
    State(room): State<Room>,
    caller: Caller,
    Path(token): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let mut pairs = asked(&room, query.as_deref());
    let is_pretty = pretty_of(&mut pairs, &headers)?;
    let base = answer::base(caller.shell(), &headers);
    Ok(match linked_page(&room, &caller, &base, (&token, is_pretty), pairs).await? {
        Later::There(body, form) => answer::json(body, is_pretty || form.is_pretty),
        Later::Answered(response) => response,
    })
}

/// What a link of ours leads to.
enum Later {
    /// A page, and the form of the first one.
    There(String, Form),
    /// An answer of its own: 410, a page of a history, of all about a patient.
    Answered(Response),
}

async fn linked_page(
    room: &Room,
    caller: &Caller,
    base: &str,
    (token, is_pretty): (&str, bool),
    mut pairs: Pairs,
) -> Result<Later, Trouble> {
    let (offset, count) = (offset_of(&mut pairs, "_offset")?, count_of(room, &mut pairs)?);
    only(&pairs, "_offset, _count, _format, _pretty")?;
    let (page, is_over) = match Page::open(token, &room.key, caller.authority.principal(), caller.at()) {
        Ok(page) => (page, false),
        Err(PageError::Expired(page)) => (*page, true),
        Err(_) => return Err(Trouble::NotFound),
    };
    let Some(page) = whole(room, caller, page).await? else { return Ok(Later::Answered(answer::expired())) };
    // What is no search has no pages that are counted.
    let offset = offset.filter(|_| page.kind == Kind::Search);
    let style = if offset.is_some() { Style::Offset } else { Style::Sealed };
    let count = count.unwrap_or(page.count);
    let page = match offset {
        Some(offset) => page.numbered(offset, count),
        None => Page { count, mark: None, ..page },
    };
    let is_of_index = page.kind != Kind::History;
    if is_over || is_of_index && page.life != room.chart.indexed_since().await?.0 {
        return expired(room, caller, base, style, page).await.map(Later::Answered);
    }
    let form = Form { is_pretty, ..Form::default() };
    match page.kind {
        Kind::Search => {}
        Kind::History => {
            return history::go_on(room, caller, base, (&page, token), form).await.map(Later::Answered);
        }
        Kind::Everything => {
            return everything::go_on(room, caller, base, (page, token), form).await.map(Later::Answered);
        }
    }
    let address = format!("{base}/_page/{token}");
    let address = match offset {
        Some(offset) => Address::Sealed(address).page(offset, page.count),
        None => address,
    };
    go_on(room, caller, base, style, page, &address, None).await
}

/// `GET /fhir?_getpages=…&_getpagesoffset=…`.
async fn kept_page(
    room: &Room,
    caller: &Caller,
    base: &str,
    name: String,
    mut pairs: Pairs,
) -> Result<Later, Trouble> {
    let (offset, count) = (offset_of(&mut pairs, "_getpagesoffset")?, count_of(room, &mut pairs)?);
    if take(&mut pairs, "_bundletype")?.is_some_and(|ty| ty != "searchset") {
        return Err(Trouble::Parameter { known: "_bundletype (searchset)".to_owned() });
    }
    let place = take(&mut pairs, "_getpagesplace")?;
    only(&pairs, "_getpages, _getpagesoffset, _getpagesplace, _count, _bundletype, _format, _pretty")?;
    let ticket = kept::Ticket::parse(&name).ok_or(Trouble::NotFound)?;
    let state = kept::kept(room.chart.tables(), caller.authority.principal(), &ticket).await?;
    let Some(state) = state else {
        // Who made the name up is not told that it was good once.
        let was_given = ticket.was_given(&room.key, caller.authority.principal());
        return if was_given { Ok(Later::Answered(answer::expired())) } else { Err(Trouble::NotFound) };
    };
    let page: Page = serde_json::from_slice(&state)
        .map_err(|_| answer::broken("a search that is kept has another shape"))?;
    let page = match &place {
        Some(place) => marked(room, caller, (place, &name), page)?,
        None => page,
    };
    let (offset, count) = (offset.unwrap_or_default(), count.unwrap_or(page.count));
    let page = page.numbered(offset, count);
    let is_over = page.until_us <= caller.at().as_micros();
    if is_over || page.life != room.chart.indexed_since().await?.0 {
        return expired(room, caller, base, Style::GetPages, page).await.map(Later::Answered);
    }
    let address = Address::Named(base.to_owned(), name.clone(), place).page(offset, page.count);
    // One that begins anew is kept with the commit that it sees.
    let name = page.t.map(|_| name);
    go_on(room, caller, base, Style::GetPages, page, &address, name).await
}

/// A page of a search that is kept, at the place that a link to it carries.
fn marked(room: &Room, caller: &Caller, (place, name): (&str, &str), page: Page) -> Result<Page, Trouble> {
    let there = match Page::open(place, &room.key, caller.authority.principal(), caller.at()) {
        Ok(there) => there,
        Err(PageError::Expired(there)) => *there,
        Err(_) => return Err(Trouble::NotFound),
    };
    // Of this search, not of another one.
    if there.kept.as_deref() != Some(name) {
        return Err(Trouble::NotFound);
    }
    Ok(Page { mark: there.mark, count: there.count, ..page })
}

/// A page as the explorer shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Matches on it.
    pub matches: u64,
    /// Resources that come with them.
    pub included: u64,
    /// The total, where it is told.
    pub total: Option<u64>,
    /// Bytes of the answer.
    pub bytes: u64,
    /// What it took, µs.
    pub took_us: u64,
    /// The relations of its links.
    pub links: Vec<String>,
    /// The address of the next page.
    pub next: Option<String>,
}

impl Seen {
    fn of(body: &str, took_us: i64) -> Result<Self, Trouble> {
        let page: Value = serde_json::from_str(body).map_err(|_| answer::broken("a page is no JSON"))?;
        let of_mode = |mode: &str| {
            let entries = page["entry"].as_array().into_iter().flatten();
            entries.filter(|entry| entry["search"]["mode"] == mode).count() as u64
        };
        let links = page["link"].as_array().into_iter().flatten();
        let links: Vec<(&str, &str)> =
            links.filter_map(|link| link["relation"].as_str().zip(link["url"].as_str())).collect();
        Ok(Self {
            matches: of_mode("match"),
            included: of_mode("include"),
            total: page["total"].as_u64(),
            bytes: body.len() as u64,
            took_us: u64::try_from(took_us).unwrap_or_default(),
            next: links.iter().find(|(name, _)| *name == "next").map(|(_, url)| (*url).to_owned()),
            links: links.iter().map(|(name, _)| (*name).to_owned()).collect(),
        })
    }
}

/// Walks the first pages of a search (`Patient?…`) in a style, as a client would who follows `next`.
///
/// # Errors
/// Why it is refused, in words.
pub async fn pages(
    room: &Room,
    caller: &Caller,
    address: &str,
    style: Style,
    pages_max: usize,
) -> Result<Vec<Seen>, String> {
    walked(room, caller, address, style, pages_max).await.map_err(|trouble| trouble.text())
}

async fn walked(
    room: &Room,
    caller: &Caller,
    address: &str,
    style: Style,
    pages_max: usize,
) -> Result<Vec<Seen>, Trouble> {
    let base = answer::base(caller.shell(), &HeaderMap::new());
    let (scope, mut pairs) = explain::asked(address)?;
    let form = Form::take(&mut pairs, &HeaderMap::new(), scope.only_type())?;
    let offset = offset_of(&mut pairs, "_offset")?;
    let wanted = Wanted { scope, pairs, form, offset, style: Some(style) };
    let clock = caller.shell().clock();
    let began = clock.now();
    let (mut body, _) = wanted.first(room, caller, &base, Handling::Strict).await?;
    let mut seen = vec![Seen::of(&body, clock.now().micros_since(began))?];
    while let Some(next) = seen.last().and_then(|page| page.next.clone()).filter(|_| seen.len() < pages_max) {
        let began = clock.now();
        body = match followed(room, caller, &base, &next).await? {
            Later::There(body, _) => body,
            Later::Answered(_) => return Err(Trouble::NotFound),
        };
        seen.push(Seen::of(&body, clock.now().micros_since(began))?);
    }
    Ok(seen)
}

/// A link of ours.
async fn followed(room: &Room, caller: &Caller, base: &str, url: &str) -> Result<Later, Trouble> {
    let path = url.strip_prefix(base).ok_or(Trouble::NotFound)?;
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut pairs = pairs_of(query.as_bytes());
    match (path.strip_prefix("/_page/"), take(&mut pairs, "_getpages")?) {
        (Some(token), _) => linked_page(room, caller, base, (token, false), pairs).await,
        (None, Some(name)) => kept_page(room, caller, base, name, pairs).await,
        (None, None) => Err(Trouble::NotFound),
    }
}

/// Nothing else may stand there.
fn only(pairs: &Pairs, known: &str) -> Result<(), Trouble> {
    let is_empty = pairs.iter().all(|(_, value)| value.is_empty());
    if is_empty { Ok(()) } else { Err(Trouble::Parameter { known: known.to_owned() }) }
}

/// A link's state with the search that is kept for it; absent where that is gone.
async fn whole(room: &Room, caller: &Caller, page: Page) -> Result<Option<Page>, Trouble> {
    let Some(name) = &page.kept else { return Ok(Some(page)) };
    let ticket = kept::Ticket::parse(name);
    let ticket = ticket.ok_or_else(|| answer::broken("a search that is kept has a name that is none"))?;
    let state = kept::kept(room.chart.tables(), caller.authority.principal(), &ticket).await?;
    let Some(state) = state else { return Ok(None) };
    // What another version of the program kept is as gone.
    Ok(page.with_kept(&state))
}

async fn go_on(
    room: &Room,
    caller: &Caller,
    base: &str,
    style: Style,
    page: Page,
    address: &str,
    name: Option<String>,
) -> Result<Later, Trouble> {
    let scope = Scope::again(&page.resource_type, page.within.as_deref())?;
    let (queries, _) = scope.read(room, &page.pairs, Handling::Strict)?;
    let settings = settings(room).await?;
    let queries = there(room, caller, queries).await?;
    let ask = Ask { room, settings, caller, base };
    let began = Timestamp::from_micros(page.began_us);
    let by = By { room, settings, authority: &caller.authority, began };
    let (mut queries, t) = expanded(by, queries, page.t.map(Seq)).await?;
    // One that begins anew has no total yet, and is told what a first page is told.
    let told = match page.t {
        Some(_) => None,
        None => Some(unfound(room, caller, &mut queries).await?),
    };
    let page = Page { t: t.map(|t| t.0), ..page };
    let pairs = page.pairs.clone();
    let form = Form::default().again(&page.form);
    let walk = Walk { ask, scope: &scope, pairs: &pairs, queries: &queries, style, form: &form };
    let body = walk.go_on((page, told), address, name).await?;
    Ok(Later::There(body, form))
}

/// The search as it is understood: the same of all types.
fn said(queries: &[Query]) -> Pairs {
    queries.first().map(Query::pairs).unwrap_or_default()
}

/// 410, with the way to begin anew.
async fn expired(
    room: &Room,
    caller: &Caller,
    base: &str,
    style: Style,
    page: Page,
) -> Result<Response, Trouble> {
    let until_us = caller.at().as_micros().saturating_add(PAGE_TTL_S * 1_000_000);
    // No snapshot: what it sees is what is there when it is followed.
    let mut first = Page {
        after: Vec::new(),
        reversed: false,
        total: None,
        t: None,
        kept: None,
        mark: None,
        offset: None,
        life: room.chart.indexed_since().await?.0,
        until_us,
        ..page
    };
    let principal = caller.authority.principal();
    let name = match style {
        Style::GetPages => kept::keep_page(room, principal, &first).await?,
        Style::Sealed | Style::Offset => None,
    };
    kept::keep_if_long(room, principal, &mut first, &[]).await?;
    let token = first.seal(&room.key, principal, room.entropy.bytes());
    let sealed = token.map(|token| format!("{base}/_page/{token}")).ok();
    let address = match (name, style) {
        (Some(name), _) => Some(Address::Named(base.to_owned(), name, None).page(0, first.count)),
        (None, Style::Sealed) => sealed,
        (None, Style::Offset | Style::GetPages) => {
            sealed.map(|sealed| Address::Sealed(sealed).page(0, first.count))
        }
    };
    let mut response = answer::expired();
    if let Some(address) = address
        && let Ok(link) = HeaderValue::from_str(&format!("<{address}>; rel=\"first\""))
    {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}
