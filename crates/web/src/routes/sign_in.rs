//! Signing in by password or one-time link, and out.

use askama::Template;
use axum::Form;
use axum::extract::{Path, Query};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hilum_core::Kind;
use serde::Deserialize;

use super::prefs::is_local;
use crate::outcome::{Fault, own};
use crate::session;
use crate::shell::Shell;
use crate::store;
use crate::users::Account;
use crate::visit::{Caller, SignedIn, Via, Visit};
use crate::words::Words;

/// Where to go after.
#[derive(Debug, Deserialize)]
pub struct To {
    #[serde(default)]
    to: String,
}

/// The form.
#[derive(Debug, Deserialize)]
pub struct Credentials {
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    to: String,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn {
    w: Words,
    csrf: String,
    name: String,
    to: String,
    problem: Option<String>,
    is_demo: bool,
}

#[derive(Template)]
#[template(path = "link.html")]
struct Link {
    w: Words,
    csrf: String,
    name: String,
    action: String,
}

/// `GET /`: the first page that the visitor may open.
pub async fn home(visit: Visit) -> Response {
    let role = visit.signed_in().map(|who| who.authority.role());
    visit.go(visit.shell().home(role))
}

fn sign_in_page(visit: &Visit, form: &SignIn, status: StatusCode) -> Result<Response, Fault> {
    let title = visit.words().t("sign_in.title").to_owned();
    Ok(own(visit.page(title).bare().status(status).body(form)?))
}

/// `GET /sign-in`.
pub async fn form(visit: Visit, Query(To { to }): Query<To>) -> Result<Response, Fault> {
    let form = SignIn {
        w: visit.words(),
        csrf: visit.csrf(),
        name: String::new(),
        to: if is_local(&to) { to } else { String::new() },
        problem: None,
        is_demo: visit.shell().is_demo(),
    };
    sign_in_page(&visit, &form, StatusCode::OK)
}

/// The name as it was typed may be a password in the wrong field: only known ones are written down.
async fn known_name(shell: &Shell, name: &str) -> Result<String, Fault> {
    let is_known = crate::users::get(shell.tables(), name).await?.is_some();
    Ok(if is_known { name.to_owned() } else { String::new() })
}

/// `POST /sign-in`.
pub async fn submit(visit: Visit, Form(given): Form<Credentials>) -> Result<Response, Fault> {
    let shell = visit.shell().clone();
    let (peer, now) = (visit.0.peer, visit.at());
    // What is no name is counted under no name: the table of failures holds short keys only.
    let known_shape = store::check_name(&given.name).is_ok();
    let name = if known_shape { given.name.as_str() } else { "" };
    let words = visit.words();
    let again = |problem: String, status: StatusCode| {
        let form = SignIn {
            w: words.clone(),
            csrf: visit.csrf(),
            name: name.to_owned(),
            to: if is_local(&given.to) { given.to.clone() } else { String::new() },
            problem: Some(problem),
            is_demo: shell.is_demo(),
        };
        sign_in_page(&visit, &form, status)
    };
    if let Some(seconds) = shell.failures().must_wait_s(peer, name, now) {
        visit.notes().principal = Some((known_name(&shell, name).await?, None));
        visit.detail("must wait");
        let problem = words.f("sign_in.wait", &[("time", &words.span(seconds))]);
        let mut response = again(problem, StatusCode::TOO_MANY_REQUESTS)?;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        return Ok(response);
    }
    // Counted before the check and forgiven after it, so that guesses sent at once count too.
    shell.failures().failed(peer, name, now);
    let account = shell.passwords().verify(shell.tables(), name, &given.password).await?;
    let Some(account) = account else {
        visit.notes().principal = Some((known_name(&shell, name).await?, None));
        return again(words.t("sign_in.wrong").to_owned(), StatusCode::UNAUTHORIZED);
    };
    shell.failures().succeeded(peer, name);
    let cookie = begin(&visit, &account).await?;
    let to = if is_local(&given.to) { given.to.as_str() } else { "/" };
    let mut response = visit.go(to);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// `GET /sign-in/link/{token}`: a page with one button. The link is used up by the button alone: a preview, or a page of
/// somebody else's that opens it, signs nobody in.
pub async fn link(visit: Visit, Path(token): Path<String>) -> Result<Response, Fault> {
    let shell = visit.shell();
    let name = session::link_account(shell.tables(), shell.clock(), &token).await?;
    let name = name.ok_or(Fault::worded(Kind::NotFound, "link"))?;
    let words = visit.words();
    let title = words.t("sign_in.title").to_owned();
    let link = Link { w: words, csrf: visit.csrf(), name, action: format!("/sign-in/link/{token}") };
    visit.page(title).bare().body(&link)
}

/// `POST /sign-in/link/{token}`: once, and soon after it was printed.
pub async fn redeem(visit: Visit, Path(token): Path<String>) -> Result<Response, Fault> {
    let shell = visit.shell().clone();
    let account = session::redeem(shell.tables(), shell.clock(), &token).await?;
    let account = account.ok_or(Fault::worded(Kind::NotFound, "link"))?;
    let cookie = begin(&visit, &account).await?;
    let mut response = visit.go(shell.home(Some(account.role)));
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// `POST /sign-out`.
pub async fn out(caller: Caller) -> Result<Response, Fault> {
    let shell = caller.shell();
    if let Some(SignedIn { via: Via::Session(digest), .. }) = caller.signed_in() {
        session::end(shell.tables(), digest).await?;
    }
    let mut response = caller.go("/sign-in");
    let headers = response.headers_mut();
    if let Ok(gone) = HeaderValue::from_str(&cookie_text(&caller, "", Some(0))) {
        headers.append(header::SET_COOKIE, gone);
    }
    headers.insert("clear-site-data", HeaderValue::from_static("\"cache\", \"storage\""));
    Ok(response.into_response())
}

fn cookie_text(visit: &Visit, token: &str, max_age_s: Option<u64>) -> String {
    let name = visit.shell().cookie_name();
    let secure = if visit.shell().is_https() { "; Secure" } else { "" };
    let age = max_age_s.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    format!("{name}={token}; Path=/; HttpOnly; SameSite=Strict{secure}{age}")
}

/// Begins a session for `account`; ends the one that the browser had.
pub(super) async fn begin(visit: &Visit, account: &Account) -> Result<HeaderValue, Fault> {
    let shell = visit.shell();
    if let Some(SignedIn { via: Via::Session(digest), .. }) = visit.signed_in() {
        session::end(shell.tables(), digest).await?;
    }
    visit.notes().principal = Some((account.name.clone(), Some(account.role)));
    let token = session::begin(shell.tables(), shell.clock(), shell.entropy(), &account.name).await?;
    HeaderValue::from_str(&cookie_text(visit, &token, None))
        .map_err(|error| Fault::because(Kind::Internal, &error))
}
