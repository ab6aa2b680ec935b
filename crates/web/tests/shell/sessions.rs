//! Signing in and out, and when a session ends.

use std::time::Duration;

use axum::http::StatusCode;
use hilum_core::Role;
use hilum_web::shell::Settings;
use hilum_web::{limits, session, users};

use crate::bench::Bench;

const PASSWORD: &str = "correct horse battery";

async fn is_in(bench: &Bench, cookie: &str) -> bool {
    match bench.get("/api/census", &[("cookie", cookie)]).await.status {
        StatusCode::OK => true,
        StatusCode::UNAUTHORIZED => false,
        other => panic!("{other}"),
    }
}

async fn by_password(bench: &Bench, password: &str) -> crate::bench::Answer {
    let form = format!("name=ada&password={}", password.replace(' ', "+"));
    bench.post("/sign-in", &[], &form).await
}

#[tokio::test]
async fn password_in_and_out() {
    let bench = Bench::new().await;
    bench.account("ada", Role::Viewer, Some(PASSWORD)).await;
    assert_eq!(by_password(&bench, "wrong password 1").await.status, StatusCode::UNAUTHORIZED);
    let answer = by_password(&bench, PASSWORD).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/"));
    let set = answer.header("set-cookie");
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && !set.contains("Secure"), "{set}");
    let cookie = answer.cookie();
    assert!(is_in(&bench, &cookie).await);
    assert_eq!(bench.get("/", &[("cookie", &cookie)]).await.header("location"), "/census");

    let token = bench.get("/password", &[("cookie", &cookie), ("accept", "text/html")]).await.csrf();
    let out = bench.post("/sign-out", &[("cookie", &cookie)], &format!("_csrf={token}")).await;
    assert_eq!(out.status, StatusCode::SEE_OTHER);
    assert!(!is_in(&bench, &cookie).await, "the cookie is dead on the server, too");
}

#[tokio::test]
async fn https_takes_the_host_prefix() {
    let bench = Bench::with(Settings { https: true, ..Settings::default() }).await;
    bench.account("ada", Role::Viewer, Some(PASSWORD)).await;
    let answer = by_password(&bench, PASSWORD).await;
    let set = answer.header("set-cookie");
    assert!(set.starts_with("__Host-hilum=") && set.contains("; Secure") && set.contains("Path=/;"), "{set}");
    assert!(answer.header("strict-transport-security").contains("max-age"));
}

#[tokio::test]
async fn a_session_ends() {
    let bench = Bench::new().await;
    bench.account("ada", Role::Viewer, Some(PASSWORD)).await;

    let idle = bench.sign_in("ada").await;
    bench.pass(limits::SESSION_IDLE.checked_sub(Duration::from_secs(1)).unwrap());
    assert!(is_in(&bench, &idle).await, "just before");
    bench.pass(limits::SESSION_IDLE);
    assert!(!is_in(&bench, &idle).await, "idle");

    let busy = bench.sign_in("ada").await;
    let step = Duration::from_mins(20);
    for _ in 0..(limits::SESSION_ABSOLUTE.as_secs() / step.as_secs() - 1) {
        bench.pass(step);
        assert!(is_in(&bench, &busy).await, "busy");
    }
    bench.pass(step);
    assert!(!is_in(&bench, &busy).await, "absolute");

    let disabled = bench.sign_in("ada").await;
    bench.pass(Duration::from_secs(1));
    users::set_disabled(&bench.rows, bench.clock(), "ada", true).await.unwrap();
    assert!(!is_in(&bench, &disabled).await, "disabled");
    assert_eq!(by_password(&bench, PASSWORD).await.status, StatusCode::UNAUTHORIZED, "disabled");
    users::set_disabled(&bench.rows, bench.clock(), "ada", false).await.unwrap();
    assert!(!is_in(&bench, &disabled).await, "enabling brings no old session back");

    let swept = session::sweep(&bench.rows, bench.clock()).await.unwrap();
    assert_eq!(swept, 1, "the idle one");
    bench.pass(limits::SESSION_IDLE);
    let swept = session::sweep(&bench.rows, bench.clock()).await.unwrap();
    assert_eq!(swept, 2, "the rest");
}

#[tokio::test]
async fn another_password_ends_the_other_sessions() {
    let bench = Bench::new().await;
    bench.account("ada", Role::Viewer, Some(PASSWORD)).await;
    let (here, elsewhere) = (bench.sign_in("ada").await, bench.sign_in("ada").await);
    bench.pass(Duration::from_secs(1));
    let token = bench.get("/password", &[("cookie", &here), ("accept", "text/html")]).await.csrf();
    let change = async |old: &str, new: &str, again: &str| {
        let form = format!("_csrf={token}&old={old}&new={new}&again={again}").replace(' ', "+");
        bench.post("/password", &[("cookie", &here)], &form).await
    };
    assert_eq!(change("not it at all", "a new long one", "a new long one").await.status.as_u16(), 422);
    assert_eq!(change(PASSWORD, "short", "short").await.status.as_u16(), 422);
    assert_eq!(change(PASSWORD, "a new long one", "another long one").await.status.as_u16(), 422);
    let done = change(PASSWORD, "a new long one", "a new long one").await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    assert!(is_in(&bench, &done.cookie()).await, "this browser goes on");
    assert!(!is_in(&bench, &elsewhere).await && !is_in(&bench, &here).await);
    assert_eq!(by_password(&bench, PASSWORD).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(by_password(&bench, "a new long one").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_link_works_once_and_soon() {
    let bench = Bench::new().await;
    bench.account("ada", Role::Viewer, None).await;
    let make = || session::link(&bench.rows, bench.clock(), bench.shell.entropy(), "ada");
    let path = format!("/sign-in/link/{}", make().await.unwrap());
    // Looking at it signs nobody in and uses nothing up.
    for _ in 0..2 {
        let page = bench.get(&path, &[("accept", "text/html")]).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(
            page.headers.get("set-cookie").is_none() && page.body.contains("Sign in as ada"),
            "{}",
            page.body
        );
    }
    let (one, two) = tokio::join!(bench.post(&path, &[], ""), bench.post(&path, &[], ""));
    let mut both = [one.status.as_u16(), two.status.as_u16()];
    both.sort_unstable();
    assert_eq!(both, [303, 404], "at once: one of them");
    assert_eq!(bench.get(&path, &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(bench.post(&path, &[], "").await.status, StatusCode::NOT_FOUND);
    // A page of somebody else's cannot press the button.
    let other = format!("/sign-in/link/{}", make().await.unwrap());
    let foreign = bench.post(&other, &[("sec-fetch-site", "cross-site")], "").await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    assert_eq!(bench.post(&other, &[], "").await.status, StatusCode::SEE_OTHER);

    let late = format!("/sign-in/link/{}", make().await.unwrap());
    bench.pass(limits::LINK_LIFE);
    assert_eq!(bench.get(&late, &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(bench.post(&late, &[], "").await.status, StatusCode::NOT_FOUND);
    make().await.unwrap();
    bench.pass(limits::LINK_LIFE);
    assert_eq!(session::sweep(&bench.rows, bench.clock()).await.unwrap(), 1, "a link that nobody used");
    // Without a password there is no way in by one.
    assert_eq!(bench.post("/sign-in", &[], "name=ada&password=").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let bench = Bench::new().await;
    bench.account("ada", Role::Viewer, Some(PASSWORD)).await;
    for _ in 0..limits::SIGN_IN_FAILURES_FREE {
        assert_eq!(by_password(&bench, "wrong password 1").await.status, StatusCode::UNAUTHORIZED);
    }
    let locked = by_password(&bench, PASSWORD).await;
    assert_eq!(locked.status, StatusCode::TOO_MANY_REQUESTS, "the right one is not even looked at");
    let wait: u64 = locked.header("retry-after").parse().unwrap();
    assert!((1..=limits::SIGN_IN_WAIT_FIRST.as_secs()).contains(&wait), "{wait}");
    bench.pass(limits::SIGN_IN_WAIT_FIRST);
    assert_eq!(by_password(&bench, "wrong password 1").await.status, StatusCode::UNAUTHORIZED);
    bench.pass(limits::SIGN_IN_WAIT_FIRST);
    assert_eq!(by_password(&bench, PASSWORD).await.status, StatusCode::TOO_MANY_REQUESTS, "twice as long");
    bench.pass(limits::SIGN_IN_WAIT_FIRST);
    assert_eq!(by_password(&bench, PASSWORD).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_password_typed_as_a_name_is_not_written_down() {
    let bench = Bench::new().await;
    let guess = || bench.post("/sign-in", &[], "name=typed.secret&password=x");
    for _ in 0..limits::SIGN_IN_FAILURES_FREE {
        assert_eq!(guess().await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(guess().await.status, StatusCode::TOO_MANY_REQUESTS);
    let rows = bench.shell.audit().page(&hilum_web::audit::Filter::All, None).await.unwrap();
    assert!(rows.iter().any(|row| row.outcome == 429), "it is audited");
    assert!(rows.iter().all(|row| row.principal.is_empty()), "{rows:?}");
}

#[tokio::test]
async fn a_browser_is_led_to_sign_in_and_back() {
    let bench = Bench::new().await;
    let html = [("accept", "text/html")];
    let id = hilum_core::Id::from_bytes([3; 16]);
    let cases = [
        ("our own page", "/census".to_owned(), "/sign-in?to=/census".to_owned()),
        ("an id is ours", format!("/patients/{id}"), format!("/sign-in?to=/patients/{id}")),
        ("what is no id is not carried on", "/patients/HONG".to_owned(), "/sign-in".to_owned()),
        ("a query is not carried on", "/census?q=HONG".to_owned(), "/sign-in?to=/census".to_owned()),
    ];
    for (why, path, want) in cases {
        let answer = bench.get(&path, &html).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, want.as_str()), "{why}");
    }
    bench.account("ada", Role::Viewer, Some(PASSWORD)).await;
    for to in ["//evil.test", "/\\evil.test", "https://evil.test", "/a%0d%0aset-cookie:x"] {
        let form = format!("name=ada&password=correct+horse+battery&to={}", to.replace('/', "%2F"));
        let answer = bench.post("/sign-in", &[], &form).await;
        assert_eq!(answer.header("location"), "/", "{to}");
    }
}
