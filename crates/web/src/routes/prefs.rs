//! `POST /preferences`: language and theme, kept in cookies of the browser.

use axum::Form;
use axum::http::{HeaderValue, header};
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
    #[serde(default)]
    back: String,
}

/// Whether `path` is a place on this server: one leading slash, nothing that a browser would read as a host.
pub(super) fn is_local(path: &str) -> bool {
    let mut bytes = path.bytes();
    bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
}

/// Sets what is asked for and goes back.
pub async fn submit(visit: Visit, Form(wanted): Form<Wanted>) -> Result<Response, Fault> {
    let back = if is_local(&wanted.back) { wanted.back.as_str() } else { "/" };
    let mut response = visit.go(back);
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
