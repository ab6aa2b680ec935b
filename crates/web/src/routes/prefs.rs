//! `POST /preferences`: language and theme, kept in cookies of the browser.

use axum::Form;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use serde::Deserialize;

use crate::outcome::Fault;
use crate::visit::{Theme, Visit};
use crate::words::Lang;

/// What the form carries.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    lang: Option<String>,
    theme: Option<String>,
}

/// Whether `path` is a place on this server: one leading slash, nothing that a browser would read as a host.
pub(super) fn is_local(path: &str) -> bool {
    let mut bytes = path.bytes();
    bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
}

/// The page of ours that the form stood on, by the browser's own word.
fn back(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let (_, rest) = headers.get(header::REFERER)?.to_str().ok()?.split_once("://")?;
    rest.strip_prefix(host).filter(|path| is_local(path))
}

/// Sets what is asked for and goes back.
pub async fn submit(visit: Visit, headers: HeaderMap, Form(wanted): Form<Wanted>) -> Result<Response, Fault> {
    let mut response = visit.go(back(&headers).unwrap_or("/"));
    let lang = wanted.lang.as_deref().and_then(Lang::parse).map(|lang| ("hilum_lang", lang.as_str()));
    let theme = wanted.theme.as_deref().and_then(Theme::parse).map(|theme| ("hilum_theme", theme.as_str()));
    let secure = if visit.shell().is_https() { "; Secure" } else { "" };
    for (name, value) in lang.into_iter().chain(theme) {
        let cookie = format!("{name}={value}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax{secure}");
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
    Ok(response)
}
