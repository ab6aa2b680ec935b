//! Search (<https://hl7.org/fhir/R4/http.html#search>): by GET and by POST, one page after the other.
//!
//! | file | what stands there |
//! |---|---|
//! | `walk` | one page of a walk: which matches, which links |
//! | `include` | what comes with the matches |
//! | `page` | the sealed link to a page |

mod include;
mod page;
mod walk;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use hilum_fhir::search::query::{Handling, Query, QueryError};
use hilum_fhir::search::values::Settings;
use hilum_web::visit::Caller;

use self::page::{Page, PageError};
use self::walk::Walk;
use super::answer::{self, Trouble};
use super::ask;
use crate::Room;
use crate::limits::{PAGE_MATCHES, PAGE_MATCHES_MAX, PAGE_TTL_S};

type Pairs = Vec<(String, String)>;

fn pairs_of(raw: &[u8]) -> Pairs {
    form_urlencoded::parse(raw).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// What the window itself answers: the form of the answer.
fn form_of(pairs: &mut Pairs, headers: &HeaderMap) -> Result<bool, Trouble> {
    let mut take = |wanted: &str| -> Result<Option<String>, Trouble> {
        let mut found = None;
        for (_, value) in
            pairs.extract_if(.., |(name, _)| name == wanted).filter(|(_, value)| !value.is_empty())
        {
            if found.replace(value).is_some() {
                return Err(Trouble::Parameter { known: wanted.to_owned() });
            }
        }
        Ok(found)
    };
    let (format, pretty) = (take("_format")?, take("_pretty")?);
    ask::takes_json(headers, format.as_deref())?;
    ask::is_pretty(pretty.as_deref())
}

fn read(
    resource_type: &'static str,
    pairs: &Pairs,
    handling: Handling,
) -> Result<(Query, Vec<QueryError>), Trouble> {
    let borrowed = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let (mut query, left_out) = Query::parse(resource_type, borrowed, handling)?;
    query.count = query.count.map(|count| count.min(PAGE_MATCHES_MAX));
    Ok((query, left_out))
}

/// Criteria of this type, as an address has them behind its question mark.
pub(super) fn criteria(resource_type: &'static str, raw: &str) -> Result<Query, Trouble> {
    read(resource_type, &pairs_of(raw.as_bytes()), Handling::Strict).map(|(query, _)| query)
}

/// The first page of a search within a Bundle.
pub(super) async fn within(
    room: &Room,
    caller: &Caller,
    base: &str,
    (ty, raw): (&str, &str),
) -> Result<String, Trouble> {
    let query = criteria(ask::type_of(ty)?, raw)?;
    let settings = settings(room).await?;
    Walk { room, settings, caller, base, query: &query }.begin(&[]).await
}

/// What the index was made with, once all of it is there.
pub(super) async fn settings(room: &Room) -> Result<&Settings, Trouble> {
    let indexer = room.chart.indexer().ok_or(Trouble::NoSearch)?;
    if room.chart.is_indexed().await? { Ok(indexer.settings()) } else { Err(Trouble::NotIndexed) }
}

async fn begin(
    room: &Room,
    caller: &Caller,
    ty: &str,
    mut pairs: Pairs,
    headers: &HeaderMap,
) -> Result<Response, Trouble> {
    let pretty = form_of(&mut pairs, headers)?;
    let resource_type = ask::type_of(ty)?;
    let (query, left_out) = read(resource_type, &pairs, ask::handling(headers)?)?;
    let base = answer::base(caller.shell(), headers);
    let settings = settings(room).await?;
    let walk = Walk { room, settings, caller, base: &base, query: &query };
    Ok(answer::json(walk.begin(&left_out).await?, pretty))
}

/// `GET /fhir/Type?…`.
pub(super) async fn get(
    State(room): State<Room>,
    caller: Caller,
    Path(ty): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    begin(&room, &caller, &ty, pairs_of(query.unwrap_or_default().as_bytes()), &headers).await
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
    ask::brings_form(&headers, body.is_empty())?;
    let mut pairs = pairs_of(query.unwrap_or_default().as_bytes());
    pairs.extend(pairs_of(&body));
    begin(&room, &caller, &ty, pairs, &headers).await
}

/// `GET /fhir/_page/token`.
pub(super) async fn page(
    State(room): State<Room>,
    caller: Caller,
    Path(token): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let pretty = ask::form(query.as_deref(), &headers)?;
    let base = answer::base(caller.shell(), &headers);
    let page = match Page::open(&token, &room.key, caller.authority.principal(), caller.at()) {
        Ok(page) => page,
        Err(PageError::Expired(page)) => return Ok(expired(&room, &caller, &base, *page)),
        Err(_) => return Err(Trouble::NotFound),
    };
    let resource_type = ask::type_of(&page.resource_type)?;
    let (query, _) = read(resource_type, &page.pairs, Handling::Strict)?;
    let settings = settings(&room).await?;
    let walk = Walk { room: &room, settings, caller: &caller, base: &base, query: &query };
    Ok(answer::json(walk.go_on(page, &token).await?, pretty))
}

/// 410, with the way to begin anew.
fn expired(room: &Room, caller: &Caller, base: &str, page: Page) -> Response {
    let until_us = caller.at().as_micros().saturating_add(PAGE_TTL_S * 1_000_000);
    // No snapshot: what it sees is what is there when it is followed.
    let first = Page { after: Vec::new(), reversed: false, total: None, t: None, until_us, ..page };
    let mut response = answer::expired();
    if let Ok(token) = first.seal(&room.key, caller.authority.principal(), room.entropy.bytes())
        && let Ok(link) = HeaderValue::from_str(&format!("<{base}/_page/{token}>; rel=\"first\""))
    {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}
