//! What stands around every handler: who asks, may they, is it their own form, how long, and what is written down.

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use hilum_core::{Digest, Id, Kind, Role};
use tracing::Instrument as _;

use crate::audit::{Action, AuditEvent};
use crate::outcome::{Fault, Own};
use crate::route::{Access, RouteInfo, Surface};
use crate::shell::Shell;
use crate::visit::{Inner, Notes, SignedIn, Theme, Via, Visit, cookie};
use crate::words::{Lang, Words};
use crate::{keys, limits, page, session};

/// The policy of every answer.
pub const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// The layer around one route.
pub(crate) async fn guard(
    State((shell, route)): State<(Shell, &'static RouteInfo)>,
    request: Request,
    next: Next,
) -> Response {
    // Only the passing of time is measured here; what time it is comes from the shell's clock.
    let began = tokio::time::Instant::now();
    let id = Id::from_bytes(shell.entropy().bytes());
    let span = tracing::info_span!("request", route = route.path, method = %route.method, request = %id);
    let work = async {
        let mut visit = anonymous(&shell, route, id, &request);
        let answer = match pass(&mut visit, request, next).await {
            Ok(response) => response,
            Err(fault) => fault.into_response(),
        };
        let answer = finish(&visit, answer);
        let status = answer.status().as_u16();
        let took_us = began.elapsed().as_micros() as u64;
        let labels = [("route", route.path.to_owned()), ("status", status.to_string())];
        metrics::counter!("hilum_http_requests_total", &labels).increment(1);
        metrics::histogram!("hilum_http_request_seconds", "route" => route.path)
            .record(began.elapsed().as_secs_f64());
        tracing::debug!(status, took_us, "answered");
        answer
    };
    work.instrument(span).await
}

/// The request before anybody is known.
fn anonymous(shell: &Shell, route: &'static RouteInfo, request_id: Id, request: &Request) -> Visit {
    let headers = request.headers();
    let lang = cookie(headers, "hilum_lang").and_then(Lang::parse).unwrap_or_else(|| {
        let accept = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        accept.map_or(Lang::En, Lang::accept)
    });
    let theme = cookie(headers, "hilum_theme").and_then(Theme::parse).unwrap_or(Theme::Auto);
    let is_htmx = headers.contains_key("hx-request");
    let accepts_html = headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|value| value.as_bytes().windows(9).any(|w| w == b"text/html"));
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(addr)| addr.ip());
    let target =
        request.uri().path_and_query().map_or_else(|| "/".to_owned(), |target| target.as_str().to_owned());
    Visit(Arc::new(Inner {
        shell: shell.clone(),
        route,
        request: request_id,
        at: shell.clock().now(),
        from: *shell.tables().committed().borrow(),
        words: Words::new(shell.dictionary(), lang, shell.zone().clone()),
        theme,
        signed_in: None,
        peer,
        target,
        host: headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned),
        is_htmx,
        is_forwarded: ["forwarded", "x-forwarded-for", "via"].iter().any(|name| headers.contains_key(*name)),
        is_live: headers.contains_key("hilum-live"),
        wants_html: route.surface == Surface::Page && (accepts_html || is_htmx),
        notes: Mutex::new(Notes::default()),
    }))
}

async fn pass(visit: &mut Visit, request: Request, next: Next) -> Result<Response, Fault> {
    let (shell, route) = (visit.0.shell.clone(), visit.0.route);
    let asked = identify(&shell, route, visit.0.peer, request.headers());
    let Ok(signed_in) = tokio::time::timeout(limits::IDENTIFY_TIMEOUT, asked).await else {
        return Err(Fault::because(Kind::Transient, &"who asks cannot be looked up in time"));
    };
    let signed_in = signed_in?;
    if let Some(inner) = Arc::get_mut(&mut visit.0) {
        inner.signed_in = signed_in;
    }
    if let Err(fault) = may(visit) {
        if visit.0.signed_in.is_none() {
            return Err(fault);
        }
        return Ok(audit(visit, fault.into_response()).await);
    }
    if changes(route) && is_encoded(request.headers()) {
        let mut response = Fault::worded(Kind::Invalid, "body_encoding")
            .status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            .into_response();
        response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        return Ok(response);
    }
    let mut request = own_form(visit, request).await?;
    if declared_length(request.headers()).is_some_and(|length| length > route.body_bytes_max as u64) {
        return Err(Fault::new(Kind::TooLarge));
    }
    if changes(route) && route.audit.is_some() && shell.audit_fails_closed() && !shell.audit().is_healthy() {
        return Err(Fault::worded(Kind::Transient, "audit"));
    }
    request.extensions_mut().insert(visit.clone());
    let run = AssertUnwindSafe(next.run(request)).catch_unwind();
    let run = tokio::time::timeout(route.timeout, run);
    let recorded = {
        let visit = visit.clone();
        async move {
            let response = match run.await {
                Ok(Ok(response)) => response,
                Ok(Err(_)) => Fault::because(Kind::Internal, &"a handler panicked").into_response(),
                Err(_) => Fault::worded(Kind::Transient, "timeout")
                    .status(StatusCode::REQUEST_TIMEOUT)
                    .into_response(),
            };
            audit(&visit, response).await
        }
        .in_current_span()
    };
    if changes(route) && !matches!(route.audit, Some(Action::Read | Action::Search)) {
        // What changes something is written down though its client hangs up meanwhile.
        tokio::spawn(recorded).await.map_err(|error| Fault::because(Kind::Internal, &error))
    } else {
        Ok(recorded.await)
    }
}

fn changes(route: &RouteInfo) -> bool {
    route.method != Method::GET && route.method != Method::HEAD
}

/// Whether a body is compressed, or otherwise not what it says: nothing here undoes that.
fn is_encoded(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONTENT_ENCODING);
    let mut codings = values.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    codings.any(|coding| !matches!(coding.trim_ascii(), coding if coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")))
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The API key of a request: `X-API-Key`, or `Authorization: Bearer`.
fn api_key(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(value) = headers.get("x-api-key") {
        return Some(value.as_bytes());
    }
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(key)
}

/// Who asks. A key that is given and does not hold is an error, even where a cookie would do.
async fn identify(
    shell: &Shell,
    route: &RouteInfo,
    peer: Option<IpAddr>,
    headers: &HeaderMap,
) -> Result<Option<SignedIn>, Fault> {
    let is_public = route.access == Access::Public;
    if let Some(raw) = api_key(headers)
        && !is_public
    {
        let key = std::str::from_utf8(raw).unwrap_or_default();
        let found = keys::verify(shell.tables(), shell.clock(), key).await?;
        let Some(found) = found else {
            metrics::counter!("hilum_http_key_refused_total").increment(1);
            tracing::warn!(peer = peer.map(tracing::field::display), "an API key that does not hold");
            return Err(Fault::worded(Kind::Unauthenticated, "key"));
        };
        let via = Via::Key(Digest::of(raw));
        return Ok(Some(SignedIn { authority: shell.authority(found.name, found.role), via }));
    }
    if route.surface == Surface::Door {
        return Ok(None);
    }
    let Some(token) = cookie(headers, shell.cookie_name()) else { return Ok(None) };
    let session = match session::verify(shell.tables(), shell.clock(), token).await {
        Ok(session) => session,
        // A public page is shown, though who asks cannot be known now.
        Err(error) if is_public => {
            tracing::warn!(%error, "session not read");
            None
        }
        Err(error) => return Err(error.into()),
    };
    Ok(session.map(|session| SignedIn {
        authority: shell.authority(session.account.name, session.account.role),
        via: Via::Session(session.digest),
    }))
}

fn may(visit: &Visit) -> Result<(), Fault> {
    let route = visit.0.route;
    let role = visit.0.signed_in.as_ref().map(|who| who.authority.role());
    let is_near =
        matches!(route.access, Access::LoopbackOr(_)) && visit.0.peer.is_some_and(|ip| ip.is_loopback());
    if route.allows(role) || (is_near && !visit.0.is_forwarded) {
        let is_key = visit.0.signed_in.as_ref().is_some_and(|who| matches!(who.via, Via::Key(_)));
        if is_key && matches!(route.access, Access::People(_)) {
            return Err(Fault::worded(Kind::Forbidden, "person"));
        }
        let is_limited = visit.0.signed_in.as_ref().is_some_and(|who| who.authority.patients().is_some());
        if is_limited && !is_for_limited(route) {
            return Err(Fault::new(Kind::Forbidden));
        }
        return Ok(());
    }
    Err(match role {
        None => Fault::new(Kind::Unauthenticated),
        Some(_) if route.is_secret => Fault::new(Kind::NotFound),
        Some(_) => Fault::new(Kind::Forbidden),
    })
}

/// What is open to who may know of some patients alone: reads and searches of the FHIR window, which ask for each resource.
fn is_for_limited(route: &RouteInfo) -> bool {
    let reads = matches!(route.audit, Some(Action::Read | Action::Search));
    route.access == Access::Public || (route.surface == Surface::Fhir && reads)
}

/// A changing request with a cookie must come from our own pages: by what the browser says about its origin, and by
/// the session's token in a header or in the form.
async fn own_form(visit: &Visit, request: Request) -> Result<Request, Fault> {
    let refused = || Fault::worded(Kind::Forbidden, "csrf");
    let route = visit.0.route;
    if !changes(route) || route.surface == Surface::Door {
        return Ok(request);
    }
    let session = match &visit.0.signed_in {
        Some(SignedIn { via: Via::Key(_), .. }) => return Ok(request),
        Some(SignedIn { via: Via::Session(digest), .. }) => Some(*digest),
        None => None,
    };
    if !same_origin(request.headers()) {
        return Err(refused());
    }
    let Some(session) = session else { return Ok(request) };
    let shell = &visit.0.shell;
    if let Some(token) = request.headers().get("x-csrf-token") {
        let holds = token.to_str().is_ok_and(|token| shell.csrf_holds(&session, token));
        return if holds { Ok(request) } else { Err(refused()) };
    }
    let is_form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    if !is_form {
        return Err(refused());
    }
    let (parts, body) = request.into_parts();
    let bound = route.body_bytes_max;
    let read = tokio::time::timeout(route.timeout, axum::body::to_bytes(body, bound));
    let bytes = match read.await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => return Err(Fault::new(Kind::TooLarge)),
        Err(_) => {
            return Err(Fault::worded(Kind::Transient, "timeout").status(StatusCode::REQUEST_TIMEOUT));
        }
    };
    let token = form_urlencoded::parse(&bytes).find(|(name, _)| name == "_csrf");
    if !token.is_some_and(|(_, token)| shell.csrf_holds(&session, &token)) {
        return Err(refused());
    }
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

/// Whether the browser says that the request comes from our own pages. A client that says nothing is no browser:
/// nobody else's page can make it send anything.
fn same_origin(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
}

/// Writes down what happened. Where the log must hold and does not, the answer does not leave.
async fn audit(visit: &Visit, response: Response) -> Response {
    let inner = &visit.0;
    let (action, patients, detail, principal, typed) = {
        let mut notes = visit.notes();
        let Some(action) = notes.action.take().or(inner.route.audit) else { return response };
        let mut details = std::mem::take(&mut notes.details);
        if let Some(rows) = notes.rows {
            details.push(format!("rows={rows}"));
        }
        if notes.is_more_patients {
            details.push("more patients".to_owned());
        }
        (
            action,
            std::mem::take(&mut notes.patients),
            details.join(" "),
            notes.principal.take(),
            notes.typed.take(),
        )
    };
    let via = inner.signed_in.as_ref().map(|who| *who.via.digest().as_bytes()).unwrap_or_default();
    let (principal, role): (String, Option<Role>) = principal.unwrap_or_else(|| match &inner.signed_in {
        Some(who) => (who.authority.principal().to_owned(), Some(who.authority.role())),
        None => (String::new(), None),
    });
    let about: Vec<Option<Id>> =
        if patients.is_empty() { vec![None] } else { patients.into_iter().map(Some).collect() };
    let is_view = matches!(action, Action::Read | Action::Search);
    let is_shown = is_view && response.status().is_success();
    let shell = &inner.shell;
    let typist = (via, inner.route.path);
    let is_refresh = inner.is_live && is_shown && {
        match typed.as_ref().map(|text| text.expose().trim()) {
            None => action == Action::Read,
            // Whatever a request says of itself: what was not searched for before is a search.
            Some(text) => text.is_empty() || shell.audit().typing().is_left_open(typist, text, inner.at),
        }
    };
    // What a page left open goes on to show, nobody looks for anew.
    let action = if is_refresh { Action::Read } else { action };
    let searched = typed.filter(|_| is_shown);
    let about = match &searched {
        Some(text) if !is_refresh => shell.audit().typing().news(typist, text.expose(), about, inner.at),
        _ => about,
    };
    let view_of = |patient: Option<Id>| (via, inner.route.path, patient);
    // A search that was written down is not written again for the refreshes of its page.
    let events = about
        .into_iter()
        .filter(|patient| !is_refresh || shell.audit().counts_again(&view_of(*patient), inner.at));
    let events: Vec<AuditEvent> = events
        .map(|patient| AuditEvent {
            at: inner.at,
            principal: principal.clone(),
            role,
            action,
            route: inner.route.name(),
            patient,
            outcome: response.status().as_u16(),
            detail: detail.clone(),
            request: inner.request,
        })
        .collect();
    let told: Vec<Option<Id>> = events.iter().map(|event| event.patient).collect();
    if let Err(error) = shell.audit().record_all(events).await {
        metrics::counter!("hilum_audit_failed_total").increment(1);
        if shell.audit_fails_closed() {
            tracing::error!(%error, "answer held back: it could not be audited");
            return Fault::worded(Kind::Transient, "audit").into_response();
        }
        tracing::error!(%error, "not audited");
        return response;
    }
    if is_refresh || searched.is_some() {
        shell.audit().counted(told.iter().copied().map(view_of), inner.at);
    }
    if let Some(text) = searched {
        shell.audit().typing().left_open(typist, text.expose().trim(), inner.at);
        if !is_refresh {
            shell.audit().typing().told(typist, told.into_iter());
        }
    }
    response
}

/// Renders a failure, and puts on what every answer carries.
fn finish(visit: &Visit, response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let mut response = if is_error && response.extensions().get::<Own>().is_none() {
        let fault = response.extensions().get::<Fault>().cloned().unwrap_or_else(|| Fault::of_status(status));
        page::failure(visit, &fault, response)
    } else {
        response
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, value);
    }
    if visit.0.route.surface == Surface::Fhir {
        // No form is posted from there, which would then not say where it comes from.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
    if visit.0.shell.is_https() {
        let hsts = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(&visit.0.request.to_string()) {
        headers.insert("x-request-id", id);
    }
    response
}
