//! Words, pages and assets.

use std::path::Path;
use std::time::Duration;

use axum::http::StatusCode;
use hilum_core::{Role, Timestamp};
use hilum_web::assets::URLS;
use hilum_web::words::{Dictionary, Lang, WORDS, Words, problems};
use jiff::civil::date;
use jiff::tz::TimeZone;

use crate::bench::Bench;

#[test]
fn every_word_is_there_in_both_languages() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The top bar's words belong to rooms that other crates bring.
    let found = problems(&WORDS, &[], &[&folder.join("src")], &["action.", "nav.", "fault."]).unwrap();
    assert_eq!(found, Vec::<String>::new());
    // A planted fault is found.
    let mut broken = WORDS;
    broken.ko = "[page]\nskip = \"x\"\n";
    assert!(problems(&broken, &[], &[], &[]).unwrap().iter().any(|line| line == "page.nav: no Korean"));
}

#[test]
fn templates_have_nothing_inline() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pages");
    let mut open = vec![folder];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        for bad in
            ["style=", "<style", "onclick", "onload", "onsubmit", "javascript:", "hx-on", "hx-vals=\"js:"]
        {
            assert!(!text.contains(bad), "{}: {bad}", path.display());
        }
        for script in text.split("<script").skip(1) {
            assert!(script.starts_with(" src="), "{}: inline script", path.display());
        }
    }
    assert!(seen > 8);
}

#[test]
fn nothing_that_is_typed_goes_into_a_url() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pages");
    assert_eq!(hilum_web::forms::typed_into_urls(&pages).unwrap(), Vec::<String>::new());
}

#[test]
fn dates_times_and_numbers() {
    let words = |lang, zone: &str| {
        let dictionary = Dictionary::new(&[WORDS]).unwrap();
        Words::new(dictionary.into(), lang, TimeZone::get(zone).unwrap())
    };
    let (en, ko) = (words(Lang::En, "UTC"), words(Lang::Ko, "Asia/Seoul"));
    assert_eq!(
        (en.date(date(2026, 3, 2)), ko.date(date(2026, 3, 2))),
        ("02-Mar-2026".into(), "2026-03-02".into())
    );
    let at = Timestamp::from_micros(1_773_324_451_000_000);
    assert_eq!((en.at_second(&at), ko.at(&at)), ("12-Mar-2026 14:07:31".into(), "2026-03-12 23:07".into()));
    assert_eq!((en.number(1_234_567), en.number(12)), ("1,234,567".into(), "12".into()));
    assert_eq!((en.span(59), en.span(60), ko.span(7_200)), ("59 s".into(), "1 min".into(), "2시간".into()));
    assert_eq!(
        (en.n("audit.whole_text", 1), en.t("no.such")),
        ("The one row is there and unaltered.".into(), "no.such")
    );
    let ages = [
        ("the day before", date(2026, 3, 11), Some(46)),
        ("the birthday", date(2026, 3, 12), Some(47)),
        ("not born yet", date(1970, 1, 1), None),
    ];
    for (why, on, want) in ages {
        assert_eq!(Words::age_years(date(1979, 3, 12), on), want, "{why}");
    }
    assert_eq!(Words::age_years(date(2024, 2, 29), date(2025, 2, 28)), Some(0));
}

#[test]
fn the_reader_chooses_the_language() {
    let cases = [
        ("ko-KR,ko;q=0.9,en;q=0.8", Lang::Ko),
        ("en-GB,ko;q=0.5", Lang::En),
        ("fr, de;q=0.9", Lang::En),
        ("fr, ko;q=0.1", Lang::Ko),
        ("ko;q=0", Lang::En),
        ("", Lang::En),
        ("ko;q=nonsense", Lang::En),
    ];
    for (header, want) in cases {
        assert_eq!(Lang::accept(header), want, "{header}");
    }
}

#[tokio::test]
async fn every_page_renders_in_both_languages() {
    let bench = Bench::new().await;
    bench.account("ada", Role::Admin, None).await;
    bench.key(Role::Feed).await;
    let cookie = bench.sign_in("ada").await;
    for lang in ["en", "ko"] {
        let cookie = format!("{cookie}; hilum_lang={lang}; hilum_theme=dark");
        for path in ["/audit", "/audit?verify=1", "/admin", "/password", "/gallery", "/sign-in", "/nope"] {
            let answer = bench.get(path, &[("cookie", &cookie), ("accept", "text/html")]).await;
            assert!(answer.body.contains(&format!("<html lang=\"{lang}\" data-theme=\"dark\">")), "{path}");
            assert!(answer.body.ends_with("</html>"), "{path}");
            assert!(answer.body.contains(&URLS.css), "{path}");
        }
    }
    // A failure inside a page that is open is a piece of a page.
    let piece = bench.get("/nope", &[("cookie", &cookie), ("hx-request", "true")]).await;
    assert!(piece.status == StatusCode::NOT_FOUND && !piece.body.contains("<html"), "{}", piece.body);
    // A key's owner sees the top bar's items of its role only.
    let key = bench.key(Role::Viewer).await;
    let page = bench.get("/password", &[("x-api-key", &key), ("accept", "text/html")]).await;
    assert!(
        page.body.contains("href=\"/census\"") && !page.body.contains("href=\"/admin\""),
        "{}",
        page.body
    );
}

#[tokio::test]
async fn an_admin_makes_accounts_and_keys() {
    let bench = Bench::new().await;
    bench.account("ada", Role::Admin, None).await;
    let cookie = bench.sign_in("ada").await;
    let token = bench.get("/admin", &[("cookie", &cookie), ("accept", "text/html")]).await.csrf();
    let post = async |path: &str, form: &str| {
        bench.post(path, &[("cookie", &cookie)], &format!("_csrf={token}&{form}")).await
    };
    let made = post("/admin/users", "name=grace&role=operator").await;
    let link = made.body.split("/sign-in/link/").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let in_by_link = bench.post(&format!("/sign-in/link/{link}"), &[], "").await;
    assert_eq!(in_by_link.status, StatusCode::SEE_OTHER);
    assert_eq!(post("/admin/users", "name=grace&role=operator").await.status.as_u16(), 422, "there is one");
    assert_eq!(post("/admin/users", "name=a+b&role=operator").await.status.as_u16(), 422, "no name");
    assert_eq!(post("/admin/users", "name=x&role=god").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(post("/admin/users/state", "name=ada&state=disabled").await.status.as_u16(), 422, "oneself");

    let made = post("/admin/keys", "name=lab&role=viewer").await;
    let key = made.body.split(">hlm_").nth(1).unwrap().split('<').next().unwrap();
    let key = format!("hlm_{key}");
    assert_eq!(bench.get("/api/census", &[("x-api-key", &key)]).await.status, StatusCode::OK);
    let again = bench.get("/admin", &[("cookie", &cookie), ("accept", "text/html")]).await;
    assert!(!again.body.contains(&key), "shown once");
    assert_eq!(post("/admin/keys/revoke", "name=lab").await.status, StatusCode::OK);
    assert_eq!(bench.get("/api/census", &[("x-api-key", &key)]).await.status, StatusCode::UNAUTHORIZED);

    bench.pass(Duration::from_secs(1));
    assert_eq!(post("/admin/users/state", "name=grace&state=disabled").await.status, StatusCode::OK);
    let out = bench.get("/api/census", &[("cookie", &in_by_link.cookie())]).await;
    assert_eq!(out.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn preferences_and_assets() {
    let bench = Bench::new().await;
    let set = bench
        .post("/preferences", &[("referer", "http://hilum.test/audit?before=4")], "lang=ko&theme=dark")
        .await;
    assert_eq!((set.status.as_u16(), set.header("location")), (303, "/audit?before=4"));
    assert_eq!(set.headers.get_all("set-cookie").iter().count(), 2);
    for referer in ["http://evil.test/x", "http://hilum.test//evil.test", "http://hilum.test.evil.test/", ""]
    {
        let answer = bench.post("/preferences", &[("referer", referer)], "lang=xx").await;
        assert_eq!((answer.header("location"), answer.header("set-cookie")), ("/", ""), "{referer}");
    }
    for url in [&URLS.css, &URLS.js, &URLS.htmx, &URLS.icon] {
        let answer = bench.get(url, &[("accept-encoding", "gzip")]).await;
        assert_eq!(answer.status, StatusCode::OK, "{url}");
        assert!(answer.header("cache-control").contains("immutable"), "{url}");
    }
    let zipped = bench.get(&URLS.css, &[("accept-encoding", "gzip")]).await;
    assert_eq!(zipped.header("content-encoding"), "gzip");
    let old = bench.get("/assets/000000000000/hilum.css", &[]).await;
    assert_eq!(
        (old.status.as_u16(), old.header("cache-control")),
        (200, "no-cache"),
        "a page from before an update"
    );
}

#[tokio::test]
async fn the_listener_serves_and_drains() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let bench = Bench::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server =
        tokio::spawn(hilum_web::listen::serve(listener, bench.shell.clone(), bench.router.clone(), async {
            stopped.await.ok();
        }));
    let mut socket = tokio::net::TcpStream::connect(addr).await.unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut head = vec![0; 4_096];
    let n = socket.read(&mut head).await.unwrap();
    assert!(head[..n].starts_with(b"HTTP/1.1 200"));
    stop.send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), server).await;
    ended.expect("drained").unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}
