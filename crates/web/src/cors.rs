//! Other origins (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>): which pages of other servers may use the FHIR
//! window with a key of theirs. No cookie goes along.

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::limits::CORS_MAX_AGE;

const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
const TAKEN: [HeaderName; 10] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    HeaderName::from_static("if-none-exist"),
    HeaderName::from_static("prefer"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-request-id"),
];
const SHOWN: [HeaderName; 7] = [
    header::ETAG,
    header::LAST_MODIFIED,
    header::LINK,
    header::LOCATION,
    header::RETRY_AFTER,
    HeaderName::from_static("preference-applied"),
    HeaderName::from_static("x-request-id"),
];

/// The layer for these origins, `*` among them for all; absent where there are none.
pub(crate) fn layer(origins: &[HeaderValue]) -> Option<CorsLayer> {
    let allowed = match origins {
        [] => return None,
        all if all.iter().any(|origin| origin == "*") => AllowOrigin::any(),
        all => AllowOrigin::list(all.to_vec()),
    };
    let layer = CorsLayer::new().allow_origin(allowed).allow_methods(METHODS).allow_headers(TAKEN);
    Some(layer.expose_headers(SHOWN).max_age(CORS_MAX_AGE))
}
