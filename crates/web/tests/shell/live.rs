//! Event streams.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::StatusCode;
use bytes::Bytes;
use futures::StreamExt as _;
use hilum_core::{Id, Role};
use hilum_engines::tables::{Batch, Outgoing, REREAD_TOPIC};
use hilum_web::route::{Access, READERS, Route, Surface};
use hilum_web::{Caller, Fault, keys, users};
use tower::ServiceExt as _;

use crate::bench::{Bench, request};

async fn change(bench: &Bench, topic: &'static str, n: u8) -> i64 {
    let outbox = vec![Outgoing {
        topic,
        key: Id::from_bytes([n; 16]),
        body: Bytes::from_static(b"{\"name\":\"secret\"}"),
    }];
    bench.rows.commit(Batch { outbox, ..Batch::default() }).await.unwrap().0
}

async fn open(bench: &Bench, query: &str, headers: &[(&str, &str)]) -> BodyDataStream {
    let response = bench.send(request("GET", &format!("/live?{query}"), headers, Body::empty())).await;
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().into_data_stream()
}

/// The next event of this name.
async fn next(stream: &mut BodyDataStream, name: &str) -> String {
    let read = async {
        while let Some(chunk) = stream.next().await {
            let text = String::from_utf8(chunk.unwrap().to_vec()).unwrap();
            if text.contains(&format!("event: {name}\n")) {
                return text;
            }
        }
        "closed".to_owned()
    };
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("an event within 5 s")
}

#[tokio::test]
async fn a_change_arrives_as_ids_and_is_resumed() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Viewer).await;
    let auth = ("x-api-key", key.as_str());
    let mut stream = open(&bench, "topics=adt.board", &[auth]).await;
    assert!(next(&mut stream, "beat").await.contains("\"at\":"));
    let t = change(&bench, "adt.board", 1).await;
    change(&bench, "adt.other", 2).await;
    let event = next(&mut stream, "change").await;
    assert!(event.contains(&format!("id: {t}")) || event.contains(&format!("id: {}", t + 1)), "{event}");
    assert!(event.contains(&Id::from_bytes([1; 16]).to_string()) && !event.contains("secret"), "{event}");
    assert!(!event.contains(&Id::from_bytes([2; 16]).to_string()), "{event}");

    let missed = change(&bench, "adt.board", 3).await;
    for (why, query, header) in [
        ("by the browser", "topics=adt.board".to_owned(), Some(t.to_string())),
        ("by a new page", format!("topics=adt.board&from={t}"), None),
    ] {
        let headers: Vec<_> =
            [auth].into_iter().chain(header.as_deref().map(|last| ("last-event-id", last))).collect();
        let mut again = open(&bench, &query, &headers).await;
        let event = next(&mut again, "change").await;
        assert!(event.contains(&format!("id: {missed}")), "{why}: {event}");
        assert!(event.contains(&Id::from_bytes([3; 16]).to_string()), "{why}: {event}");
        assert!(!event.contains(&Id::from_bytes([1; 16]).to_string()), "{why}: seen before: {event}");
    }
}

/// Of a topic whose ids name somebody it depends on who listens.
#[tokio::test]
async fn ids_are_told_to_those_alone_who_may_know_them() {
    let bench = Bench::new().await;
    let (id, asked) = (Id::from_bytes([1; 16]).to_string(), "topics=adt.masked,adt.board");
    for (role, hears) in [(Role::Viewer, false), (Role::Operator, true)] {
        let key = bench.key(role).await;
        let mut stream = open(&bench, asked, &[("x-api-key", &key)]).await;
        next(&mut stream, "beat").await;
        let t = change(&bench, "adt.masked", 1).await;
        let event = next(&mut stream, "change").await;
        assert_eq!((event.contains(&id), event.contains("\"adt.masked\":null")), (hears, !hears), "{event}");
        // Also to who comes back, and of that topic alone.
        change(&bench, "adt.board", 2).await;
        let mut again = open(&bench, &format!("{asked}&from={}", t - 1), &[("x-api-key", &key)]).await;
        let event = next(&mut again, "change").await;
        assert_eq!((event.contains(&id), event.contains("\"adt.masked\":null")), (hears, !hears), "{event}");
        assert!(event.contains(&Id::from_bytes([2; 16]).to_string()), "{event}");
    }
}

async fn commit(bench: &Bench, topic: &'static str, keys: std::ops::Range<u32>) -> i64 {
    let outgoing = |n: u32| {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&n.to_be_bytes());
        Outgoing { topic, key: Id::from_bytes(key), body: Bytes::new() }
    };
    let outbox = keys.map(outgoing).collect();
    bench.rows.commit(Batch { outbox, ..Batch::default() }).await.unwrap().0
}

fn id_of(event: &str) -> i64 {
    let line = event.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id");
    line.parse().unwrap()
}

/// A rebuild mends rows without a word about each: whoever was away meanwhile, and whoever is there, reads all again.
#[tokio::test]
async fn what_was_mended_is_read_again() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Viewer).await;
    let auth = ("x-api-key", key.as_str());
    let from = change(&bench, "adt.board", 1).await;
    let mut there = open(&bench, "topics=adt.board", &[auth]).await;
    assert!(next(&mut there, "beat").await.contains("\"at\":"));
    let mended = change(&bench, REREAD_TOPIC, 0).await;
    change(&bench, "adt.board", 2).await;
    let mut away = open(&bench, &format!("topics=adt.board&from={from}"), &[auth]).await;
    for (who, stream) in [("there", &mut there), ("away", &mut away)] {
        let event = next(stream, "change").await;
        assert!(event.contains("\"adt.board\":null") && id_of(&event) >= mended, "{who}: {event}");
        assert!(!event.contains(REREAD_TOPIC), "{who}: {event}");
    }
}

/// Everything that a page may have missed and that cannot be told one by one is "read all again".
#[tokio::test]
async fn a_gap_that_cannot_be_told_is_read_all_again() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Viewer).await;
    let auth = ("x-api-key", key.as_str());
    let from = bench.rows.now().await.unwrap().0;
    // Two commits, together more than one reading: it gives the first alone, which is fewer than were asked for.
    commit(&bench, "adt.other", 0..1_500).await;
    let ahead = commit(&bench, "adt.board", 0..1_500).await + 1_000_000;
    let cases =
        [("longer than one reading", from), ("of other tables, whose commits were counted further", ahead)];
    for (why, from) in cases {
        let now = bench.rows.now().await.unwrap().0;
        let mut stream = open(&bench, &format!("topics=adt.board&from={from}"), &[auth]).await;
        let event = next(&mut stream, "change").await;
        assert!(event.contains("\"adt.board\":null"), "{why}: {event}");
        // The key's own use is a commit too.
        assert!((now..now + 3).contains(&id_of(&event)), "{why}, at {now}: {event}");
        // And it goes on from there.
        let later = change(&bench, "adt.board", 9).await;
        let event = next(&mut stream, "change").await;
        assert!(event.contains(&format!("id: {later}")), "{why}: {event}");
    }

    let now = bench.rows.now().await.unwrap();
    bench.rows.prune(now).await.unwrap();
    let mut stream = open(&bench, &format!("topics=adt.board&from={from}"), &[auth]).await;
    let event = next(&mut stream, "change").await;
    assert!(event.contains("\"adt.board\":null") && id_of(&event) >= now.0, "pruned: {event}");
}

#[tokio::test]
async fn a_hub_that_was_away_for_longer_than_the_outbox_reaches_goes_on() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Viewer).await;
    let auth = ("x-api-key", key.as_str());
    let mut stream = open(&bench, "topics=adt.board", &[auth]).await;
    next(&mut stream, "beat").await;
    // The hub has read up to here at most; what follows is pruned before it looks again.
    for n in 0..4 {
        change(&bench, "adt.board", n).await;
    }
    let now = bench.rows.now().await.unwrap();
    bench.rows.prune(hilum_core::Seq(now.0 + 1)).await.unwrap();
    let event = next(&mut stream, "change").await;
    assert!(event.contains("\"adt.board\""), "{event}");
    let later = change(&bench, "adt.board", 9).await;
    loop {
        let event = next(&mut stream, "change").await;
        assert_ne!(event, "closed");
        if event.contains(&format!("id: {later}")) {
            return;
        }
    }
}

/// What is committed while a page is on its way is told by its stream, which begins at the page's own `t`.
#[tokio::test]
async fn a_page_says_where_its_stream_begins() {
    #[derive(askama::Template)]
    #[template(source = "rows", ext = "html")]
    struct Rows;
    async fn page(caller: Caller) -> Result<axum::response::Response, Fault> {
        let outbox = vec![Outgoing { topic: "adt.board", key: Id::from_bytes([8; 16]), body: Bytes::new() }];
        let late = Batch { outbox, ..Batch::default() };
        caller.shell().tables().commit(late).await.map_err(|_| Fault::new(hilum_core::Kind::Internal))?;
        caller.page("Board").live(&["adt.board"]).body(&Rows)
    }
    let bench = Bench::new().await;
    let key = bench.key(Role::Viewer).await;
    let auth = ("x-api-key", key.as_str());
    let route = Route::get("/board", Access::Roles(READERS), Surface::Page, (), page);
    let router = bench.shell.mount(vec![route]).router;
    let response = router.oneshot(request("GET", "/board", &[auth], Body::empty())).await.unwrap();
    let html = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let html = String::from_utf8(html.to_vec()).unwrap();
    let (_, after) = html.split_once("data-from=\"").expect("the page's own t");
    let from = after.split('"').next().unwrap();
    let mut stream = open(&bench, &format!("topics=adt.board&from={from}"), &[auth]).await;
    let event = next(&mut stream, "change").await;
    assert!(event.contains(&Id::from_bytes([8; 16]).to_string()), "{event}");
}

#[tokio::test]
async fn a_burst_is_at_most_two_events_a_second() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Viewer).await;
    let mut stream = open(&bench, "topics=adt.board", &[("x-api-key", &key)]).await;
    next(&mut stream, "beat").await;
    let writer = async {
        for n in 0..40 {
            change(&bench, "adt.board", n).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let reader = async {
        let (mut events, mut ids) = (0, std::collections::BTreeSet::new());
        while ids.len() < 40 {
            let event = next(&mut stream, "change").await;
            events += 1;
            for n in 0..40_u8 {
                let id = Id::from_bytes([n; 16]).to_string();
                if event.contains(&id) {
                    ids.insert(id);
                }
            }
        }
        events
    };
    let ((), events) = tokio::join!(writer, reader);
    assert!((2..=7).contains(&events), "{events} events in 2 to 3 seconds");
}

#[tokio::test]
async fn a_stream_ends_with_the_right_to_it() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Viewer).await;
    bench.account("ada", Role::Viewer, None).await;
    let cookie = bench.sign_in("ada").await;
    let mut by_key = open(&bench, "topics=adt.board", &[("x-api-key", &key)]).await;
    let mut by_cookie = open(&bench, "topics=adt.board", &[("cookie", &cookie)]).await;
    next(&mut by_key, "beat").await;
    next(&mut by_cookie, "beat").await;

    keys::revoke(&bench.rows, bench.clock(), "viewer").await.unwrap();
    bench.pass(Duration::from_secs(1));
    users::set_disabled(&bench.rows, bench.clock(), "ada", true).await.unwrap();
    change(&bench, "adt.board", 1).await;
    for stream in [&mut by_key, &mut by_cookie] {
        let end = next(stream, "end").await;
        assert!(end.contains("event: end") && !end.contains("change"), "{end}");
        assert_eq!(next(stream, "change").await, "closed");
    }
}

#[tokio::test]
async fn topics_are_asked_for_by_who_may() {
    let bench = Bench::new().await;
    let viewer = bench.key(Role::Viewer).await;
    let get =
        async |query: &str| bench.get(&format!("/live?{query}"), &[("x-api-key", &viewer)]).await.status;
    assert_eq!(get("topics=adt.work").await, StatusCode::FORBIDDEN);
    assert_eq!(get("topics=nope").await, StatusCode::BAD_REQUEST);
    for (why, query, told) in [
        ("no topic of ours", "topics=nope,adt.board", "topics takes: adt.board, adt.work"),
        ("no parameter of ours", "topic=adt.board", "It has: topics, from."),
        ("no number", "from=nope", "from takes: the id of an event."),
    ] {
        let answer = bench.get(&format!("/live?{query}"), &[("x-api-key", &viewer)]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{why}");
        assert!(answer.body.contains(told) && !answer.body.contains("nope"), "{why}: {}", answer.body);
    }
    assert_eq!(get(&format!("topics={}", "adt.board,".repeat(17))).await, StatusCode::BAD_REQUEST);
    // The server's end is theirs.
    let mut stream = open(&bench, "topics=adt.board", &[("x-api-key", &viewer)]).await;
    next(&mut stream, "beat").await;
    bench.shell.live().close();
    assert_eq!(next(&mut stream, "change").await, "closed");
}
