//! All components in all their states, to be looked at.

use askama::Template;
use axum::response::Response;

use crate::outcome::Fault;
use crate::visit::Caller;
use crate::words::Words;

#[derive(Template)]
#[template(path = "gallery.html")]
struct Gallery {
    w: Words,
}

/// `GET /gallery`.
pub async fn page(caller: Caller) -> Result<Response, Fault> {
    caller.page(caller.words().t("gallery.title")).wide().body(&Gallery { w: caller.words() })
}
