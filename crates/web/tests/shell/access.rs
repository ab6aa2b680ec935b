//! Who may: the whole table, role by role; keys.

use axum::body::Body;
use axum::http::StatusCode;
use hilum_core::{Id, Role};
use hilum_web::route::{Access, RouteInfo, Surface, check_document};
use hilum_web::{keys, route};

use crate::bench::{Bench, request, sample};

fn path_of(info: &RouteInfo) -> String {
    info.path
        .replace("{id}", &Id::from_bytes([5; 16]).to_string())
        .replace("{token}", "x")
        .replace("{version}/{name}", "x/hilum.css")
}

#[tokio::test]
async fn every_route_answers_every_role_as_the_table_says() {
    let bench = Bench::new().await;
    let mut walked = 0;
    for role in [None, Some(Role::Feed), Some(Role::Viewer), Some(Role::Operator), Some(Role::Admin)] {
        let key = match role {
            Some(role) => Some(bench.key(role).await),
            None => None,
        };
        for info in &bench.table {
            let headers: Vec<_> = key.iter().map(|key| ("x-api-key", key.as_str())).collect();
            let method = info.method.as_str();
            let response = bench.send(request(method, &path_of(info), &headers, Body::empty())).await;
            let status = response.status();
            let name = format!("{} as {role:?}", info.name());
            if info.allows(role) {
                let refused =
                    [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::METHOD_NOT_ALLOWED];
                // Signing in with an empty form is refused by what it does, not by who asks.
                assert!(!refused.contains(&status) || info.path == "/sign-in", "{name}: {status}");
            } else {
                let want = match role {
                    None => StatusCode::UNAUTHORIZED,
                    Some(_) if info.is_secret => StatusCode::NOT_FOUND,
                    Some(_) => StatusCode::FORBIDDEN,
                };
                assert_eq!(status, want, "{name}");
            }
            walked += 1;
        }
    }
    assert!(walked >= 100, "walked {walked}");
}

#[tokio::test]
async fn nothing_but_these_is_public() {
    let bench = Bench::new().await;
    let public: Vec<_> =
        bench.table.iter().filter(|info| info.access == Access::Public).map(|info| info.name()).collect();
    let want = [
        "GET /",
        "GET /sign-in",
        "POST /sign-in",
        "GET /sign-in/link/{token}",
        "POST /sign-in/link/{token}",
        "POST /preferences",
        "GET /assets/{version}/{name}",
        "GET /favicon.ico",
        "GET /healthz",
        "GET /readyz",
    ];
    assert_eq!(public, want);
}

#[tokio::test]
async fn the_document_shows_the_table() {
    let bench = Bench::new().await;
    let rooms = sample().len();
    let own = &bench.table[..bench.table.len() - rooms];
    let document = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/SECURITY.md");
    let bless = std::env::var_os("BLESS").is_some();
    check_document(&document, "web", own.iter().copied(), bless).unwrap();
    // A planted difference is found.
    let fewer = own.iter().copied().skip(1);
    assert!(check_document(&document, "web", fewer, false).is_err());
    assert!(
        route::markdown(bench.table.iter().copied()).contains("| `POST /hl7v2` | door |  | yes | | | yes |")
    );
}

#[tokio::test]
async fn a_key_that_does_not_hold_is_401_with_a_challenge() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Viewer).await;
    assert!(key.starts_with("hlm_") && key.len() == 47, "{}", key.len());
    let bearer = format!("Bearer {key}");
    assert_eq!(bench.get("/api/census", &[("x-api-key", &key)]).await.status, StatusCode::OK);
    assert_eq!(bench.get("/api/census", &[("authorization", &bearer)]).await.status, StatusCode::OK);

    let wrong = format!("hlm_{}", "A".repeat(43));
    let long = format!("hlm_{}", "A".repeat(4_000));
    let cases = [
        ("wrong", wrong.as_str()),
        ("empty", ""),
        ("another form", "secret"),
        ("too long", &long),
        ("cut short", key.get(..40).unwrap()),
    ];
    for (why, key) in cases {
        for (name, value) in [("x-api-key", key.to_owned()), ("authorization", format!("Bearer {key}"))] {
            let answer = bench.get("/api/census", &[(name, &value)]).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{why} in {name}");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{why}");
        }
    }

    keys::revoke(&bench.rows, bench.clock(), "viewer").await.unwrap();
    let answer = bench.get("/api/census", &[("x-api-key", &key)]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.body.contains("revoked"), "{}", answer.body);
    assert!(keys::revoke(&bench.rows, bench.clock(), "viewer").await.is_err(), "revoked twice");
    // The name is free again; the list keeps both.
    let again = bench.key(Role::Viewer).await;
    assert_ne!(again, key);
    let listed = keys::list(&bench.rows).await.unwrap();
    assert_eq!(listed.iter().filter(|key| key.revoked.is_some()).count(), 1);
    assert_eq!(listed.len(), 2);
    // The key itself is nowhere in the tables.
    assert!(!format!("{listed:?}").contains(key.get(12..).unwrap()));
}

#[tokio::test]
async fn a_door_takes_keys_and_no_cookie() {
    let bench = Bench::new().await;
    bench.account("ada", Role::Admin, None).await;
    let cookie = bench.sign_in("ada").await;
    let answer = bench.post("/hl7v2", &[("cookie", &cookie)], "MSH|").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let key = bench.key(Role::Feed).await;
    let answer = bench.post("/hl7v2", &[("x-api-key", &key)], "MSH|").await;
    // The door's own answer, untouched though its status is an error.
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (422, "ACK for 4 to feed"));
}

#[tokio::test]
async fn metrics_are_for_loopback_or_admins() {
    let bench = Bench::new().await;
    let near: std::net::SocketAddr = "127.0.0.1:5000".parse().unwrap();
    let ask = async |headers: &[(&str, &str)]| {
        let mut scrape = request("GET", "/metrics", headers, Body::empty());
        scrape.extensions_mut().insert(axum::extract::ConnectInfo(near));
        bench.send(scrape).await.status()
    };
    assert_eq!(ask(&[]).await, StatusCode::OK);
    assert_eq!(ask(&[("x-forwarded-for", "203.0.113.9")]).await, StatusCode::UNAUTHORIZED, "through a proxy");
    assert_eq!(bench.get("/metrics", &[]).await.status, StatusCode::UNAUTHORIZED, "from afar");
    let admin = bench.key(Role::Admin).await;
    assert_eq!(bench.get("/metrics", &[("x-api-key", &admin)]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_not_in_the_table_does_not_exist() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Admin).await;
    for path in
        ["/nope", "/api/nope", "/census/", "//census", "/%2e%2e/etc/passwd", "/assets/x/..%2f..%2fCargo.toml"]
    {
        let answer = bench.get(path, &[("x-api-key", &key)]).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    let answer = bench.ask(request("DELETE", "/api/census", &[("x-api-key", &key)], Body::empty())).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(answer.body.contains("\"kind\":\"invalid\""), "{}", answer.body);
}

#[tokio::test]
async fn every_answer_carries_the_headers() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Admin).await;
    let paths = bench.table.iter().filter(|info| info.method == "GET" && info.surface != Surface::Live);
    for path in paths.map(|info| path_of(info)).chain(["/nope".to_owned()]) {
        let answer = bench.get(&path, &[("x-api-key", &key)]).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-request-id").len(), 36, "{path}");
        let caching = answer.header("cache-control");
        assert!(caching == "no-store" || path.starts_with("/assets/"), "{path}: {caching}");
    }
}
