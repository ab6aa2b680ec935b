//! The files that pages load: in the binary, under URLs that carry their digest and are cached for ever.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use hilum_core::{Digest, Kind};

use crate::outcome::Fault;

struct Asset {
    name: &'static str,
    content_type: &'static str,
    body: &'static [u8],
}

const ASSETS: [Asset; 4] = [
    Asset {
        name: "hilum.css",
        content_type: "text/css; charset=utf-8",
        body: include_bytes!("../assets/hilum.css"),
    },
    Asset {
        name: "hilum.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_bytes!("../assets/hilum.js"),
    },
    Asset {
        name: "htmx.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_bytes!("../assets/htmx.min.js"),
    },
    Asset { name: "hilum.svg", content_type: "image/svg+xml", body: include_bytes!("../assets/hilum.svg") },
];

/// The URLs of the assets.
#[derive(Debug)]
pub struct Urls {
    /// Style sheet.
    pub css: String,
    /// Our script.
    pub js: String,
    /// htmx.
    pub htmx: String,
    /// Icon.
    pub icon: String,
}

fn version(asset: &Asset) -> String {
    Digest::of(asset.body).to_string().chars().take(12).collect()
}

/// The URLs of this build's assets.
pub static URLS: LazyLock<Urls> = LazyLock::new(|| {
    let [css, js, htmx, icon] = &ASSETS;
    let url = |asset: &Asset| format!("/assets/{}/{}", version(asset), asset.name);
    Urls { css: url(css), js: url(js), htmx: url(htmx), icon: url(icon) }
});

/// `GET /assets/{version}/{name}`. Another version than this build's gets this build's file, uncached: a page that
/// was open during an update must still work.
pub async fn serve(Path((asked, name)): Path<(String, String)>) -> Result<Response, Fault> {
    let asset = ASSETS.iter().find(|asset| asset.name == name).ok_or(Fault::new(Kind::NotFound))?;
    let caching = if version(asset) == asked { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static(caching)),
    ];
    Ok((headers, asset.body).into_response())
}

/// `GET /favicon.ico`: browsers ask for it on pages that are not ours, too.
pub async fn icon() -> Response {
    let [_, _, _, icon] = &ASSETS;
    ([(header::CONTENT_TYPE, icon.content_type)], icon.body).into_response()
}
