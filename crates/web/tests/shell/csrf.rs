//! Requests that other people's pages make with our cookie.

use axum::http::StatusCode;
use hilum_core::{Id, Role};

use crate::bench::Bench;

#[tokio::test]
async fn a_changing_request_by_cookie_needs_origin_and_token() {
    let bench = Bench::new().await;
    bench.account("ada", Role::Operator, None).await;
    bench.account("eve", Role::Operator, None).await;
    let (cookie, other) = (bench.sign_in("ada").await, bench.sign_in("eve").await);
    let page = |cookie: String| {
        let bench = &bench;
        async move { bench.get("/password", &[("cookie", &cookie), ("accept", "text/html")]).await.csrf() }
    };
    let (token, foreign) = (page(cookie.clone()).await, page(other).await);
    assert_ne!(token, page(cookie.clone()).await, "masked anew in each page");
    let path = format!("/decide/{}", Id::from_bytes([1; 16]));
    let mut forged = token.clone();
    let last = if forged.ends_with('A') { 'B' } else { 'A' };
    forged.replace_range(0..1, &last.to_string());

    let good = format!("_csrf={token}");
    let same = ("sec-fetch-site", "same-origin");
    type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str, u16);
    let cases: [Case; 12] = [
        ("token in the form", vec![same], &good, 200),
        ("token in a header", vec![same, ("x-csrf-token", &token)], "", 200),
        ("no browser's word about the origin", vec![], &good, 200),
        ("origin is our host", vec![("origin", "http://hilum.test")], &good, 200),
        ("no token", vec![same], "", 403),
        ("another session's token", vec![same, ("x-csrf-token", &foreign)], "", 403),
        ("forged token", vec![same, ("x-csrf-token", &forged)], "", 403),
        ("empty token", vec![same, ("x-csrf-token", "")], &good, 403),
        ("cross-site", vec![("sec-fetch-site", "cross-site")], &good, 403),
        ("same site is another origin", vec![("sec-fetch-site", "same-site")], &good, 403),
        ("another origin", vec![("origin", "http://evil.test")], &good, 403),
        ("origin null", vec![("origin", "null")], &good, 403),
    ];
    for (why, headers, form, want) in cases {
        let headers: Vec<_> = headers.into_iter().chain([("cookie", cookie.as_str())]).collect();
        let answer = bench.post(&path, &headers, form).await;
        assert_eq!(answer.status.as_u16(), want, "{why}: {}", answer.body);
    }
    // JSON with a cookie: only with the header.
    let json = ("content-type", "application/json");
    let answer = bench.post("/api/search", &[("cookie", &cookie), json], "[]").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    // A key is no cookie: no page can send it.
    let key = bench.key(Role::Operator).await;
    let cross = ("sec-fetch-site", "cross-site");
    assert_eq!(bench.post(&path, &[("x-api-key", &key), cross], "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn nobody_elses_page_signs_in() {
    let bench = Bench::new().await;
    bench.account("ada", Role::Viewer, Some("correct horse battery")).await;
    let form = "name=ada&password=correct+horse+battery";
    let cross = bench.post("/sign-in", &[("sec-fetch-site", "cross-site")], form).await;
    assert_eq!(cross.status, StatusCode::FORBIDDEN);
    let own = bench.post("/sign-in", &[("sec-fetch-site", "same-origin")], form).await;
    assert_eq!(own.status, StatusCode::SEE_OTHER);
}
