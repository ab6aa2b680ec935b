//! Pages of other origins: those that are named may use the FHIR window with a key, and nothing else.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode};
use hilum_core::Role;
use hilum_web::route::{Access, EVERYONE, Route, Surface};
use hilum_web::shell::Settings;
use tower::ServiceExt as _;

use crate::bench::{Bench, request};

async fn fine() -> &'static str {
    "fine"
}

/// The header of an answer to this request.
async fn asked(
    bench: &Bench,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> (StatusCode, Option<String>) {
    let (fhir, everyone) = (Surface::Fhir, Access::Roles(EVERYONE));
    let router = bench.shell.mount(vec![
        Route::get("/fhir/x", everyone, fhir, (), fine),
        Route::put("/fhir/x", everyone, fhir, (), fine),
        Route::get("/page", everyone, Surface::Page, (), fine),
    ]);
    let answer = router.router.oneshot(request(method, path, headers, Body::empty())).await.unwrap();
    let allowed = answer.headers().get("access-control-allow-origin");
    assert!(answer.headers().get("access-control-allow-credentials").is_none(), "no cookie goes along");
    let varies = answer.headers().get_all("vary").iter();
    let by_origin = varies.map(|vary| vary.to_str().unwrap()).any(|vary| vary.contains("origin"));
    let one_alone = allowed.is_some_and(|allowed| allowed != "*");
    assert!(by_origin || !one_alone, "what is kept for one origin is no answer to another");
    (answer.status(), allowed.map(|origin| origin.to_str().unwrap().to_owned()))
}

#[tokio::test]
async fn named_origins_are_let_in_and_nobody_else() {
    let named = |origins: &[&'static str]| Settings {
        cors_origins: origins.iter().map(|origin| HeaderValue::from_static(origin)).collect(),
        ..Settings::default()
    };
    let app = "https://app.example.org";
    for (origins, origin, allowed) in [
        (&[][..], app, None),
        (&[app][..], app, Some(app)),
        (&[app][..], "https://evil.example.org", None),
        (&[app][..], "null", None),
        (&["*"][..], app, Some("*")),
    ] {
        let bench = Bench::with(named(origins)).await;
        let key = bench.key(Role::Operator).await;
        let why = format!("{origins:?} {origin}");
        let before = [
            ("origin", origin),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-api-key,if-match"),
        ];
        let (status, said) = asked(&bench, "OPTIONS", "/fhir/x", &before).await;
        assert_eq!((status.is_success(), said.as_deref()), (!origins.is_empty(), allowed), "before, {why}");
        let with_key = [("origin", origin), ("x-api-key", key.as_str())];
        let (status, said) = asked(&bench, "GET", "/fhir/x", &with_key).await;
        assert_eq!((status, said.as_deref()), (StatusCode::OK, allowed), "{why}");
        let (status, said) = asked(&bench, "GET", "/fhir/x", &[("origin", origin)]).await;
        assert_eq!(
            (status, said.as_deref()),
            (StatusCode::UNAUTHORIZED, allowed),
            "a refusal can be read, {why}"
        );
        assert_eq!(asked(&bench, "GET", "/page", &with_key).await.1, None, "pages are nobody else's, {why}");
    }
}
