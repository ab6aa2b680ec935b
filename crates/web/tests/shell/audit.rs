//! Who looked, and whether that can be denied.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use hilum_core::{Id, Role};
use hilum_engines::tables::{Batch, Read, Row, Scan, Value, Write};
use hilum_web::audit::{Action, Audit, AuditEvent, AuditRow, Durability, Filter, Verdict, is_ours};
use hilum_web::limits;
use hilum_web::session::SessionSecret;
use hilum_web::shell::Settings;
use hilum_web::tables::{AUDIT, AUDIT_HEAD};

use crate::bench::Bench;

async fn all(bench: &Bench) -> Vec<AuditRow> {
    let mut rows = bench.shell.audit().page(&Filter::All, None).await.unwrap();
    rows.reverse();
    rows
}

#[tokio::test]
async fn what_was_seen_is_written_down() {
    let bench = Bench::new().await;
    bench.account("ada", Role::Operator, None).await;
    let cookie = bench.sign_in("ada").await;
    let patient = Id::from_bytes([4; 16]);
    bench.get(&format!("/patients/{patient}"), &[("cookie", &cookie)]).await;
    bench.get("/api/census?secret=1", &[("cookie", &cookie)]).await;
    let denied = bench.get("/audit", &[("cookie", &cookie)]).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    bench.get("/api/census", &[("x-api-key", "hlm_wrong")]).await;
    bench.get("/healthz", &[]).await;

    let rows = all(&bench).await;
    let short: Vec<_> = rows
        .iter()
        .map(|row| (row.n, row.principal.as_str(), row.action.as_str(), row.route.as_str(), row.outcome))
        .collect();
    let want = [
        (1, "ada", "sign-in", "POST /sign-in/link/{token}", 303),
        (2, "ada", "read", "GET /patients/{id}", 200),
        (3, "ada", "read", "GET /api/census", 200),
        (4, "ada", "admin", "GET /audit", 403),
    ];
    assert_eq!(short, want);
    assert_eq!((rows[1].patient, rows[2].detail.as_str()), (Some(patient), "rows=2"));
    let about = bench.shell.audit().page(&Filter::Patient(patient), None).await.unwrap();
    assert_eq!(about.iter().map(|row| row.n).collect::<Vec<_>>(), [2]);

    // An admin reads it, and that is written down as well.
    let key = bench.key(Role::Admin).await;
    let answer = bench.get(&format!("/api/audit?patient={patient}"), &[("x-api-key", &key)]).await;
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(json["events"][0]["principal"], "ada");
    let about = bench.shell.audit().page(&Filter::Patient(patient), None).await.unwrap();
    assert_eq!(about.iter().map(|row| row.principal.as_str()).collect::<Vec<_>>(), ["admin", "ada"]);
    let page = bench.get("/audit?verify=1", &[("x-api-key", &key), ("accept", "text/html")]).await;
    assert!(page.body.contains("The audit log is whole"), "{}", page.body);
}

#[tokio::test]
async fn an_answer_about_many_names_each() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Viewer).await;
    let patient = |n: usize| Id::from_bytes((n as u128).to_be_bytes());
    let asked = async |many: usize| {
        let form = (1..=many).map(|n| format!("patient={}", patient(n))).collect::<Vec<_>>().join("&");
        bench.post("/typing", &[("x-api-key", &key)], &form).await.status
    };
    let newest = async |n: usize| {
        let about = bench.shell.audit().page(&Filter::Patient(patient(n)), None).await.unwrap();
        about.first().map(|row| row.detail.clone())
    };
    assert_eq!(asked(1_500).await, StatusCode::OK);
    for n in [1, 101, 1_500] {
        assert_eq!(newest(n).await.as_deref(), Some(""), "the look at {n}");
    }
    let max = limits::AUDIT_PATIENTS_MAX;
    assert_eq!(asked(max + 1).await, StatusCode::OK);
    assert_eq!(newest(max).await.as_deref(), Some("more patients"));
    assert_eq!(newest(max + 1).await, None);
    let whole = bench.shell.audit().verify().await.unwrap();
    assert_eq!(whole, Verdict::Whole { rows: 1_500 + max as i64 });
}

#[tokio::test]
async fn a_live_pages_refreshes_count_once() {
    let bench = Bench::new().await;
    bench.account("ada", Role::Viewer, None).await;
    let cookie = bench.sign_in("ada").await;
    let refresh = async || {
        bench.get("/census", &[("cookie", &cookie), ("hilum-live", "1"), ("hx-request", "true")]).await
    };
    for _ in 0..10 {
        refresh().await;
    }
    assert_eq!(all(&bench).await.len(), 2, "sign-in and one");
    bench.pass(limits::AUDIT_LIVE_EVERY);
    refresh().await;
    refresh().await;
    assert_eq!(all(&bench).await.len(), 3);
    // Another patient's page is another view, whatever the request says of itself.
    for n in 1..=2 {
        let path = format!("/patients/{}", Id::from_bytes([n; 16]));
        bench.get(&path, &[("cookie", &cookie), ("hilum-live", "1")]).await;
    }
    assert_eq!(all(&bench).await.len(), 5);
    // And without the mark each one counts.
    bench.get("/census", &[("cookie", &cookie)]).await;
    bench.get("/census", &[("cookie", &cookie)]).await;
    assert_eq!(all(&bench).await.len(), 7);
}

#[tokio::test]
async fn a_page_left_open_after_a_search_makes_no_search() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Viewer).await;
    let (one, two) = (Id::from_bytes([1; 16]), Id::from_bytes([2; 16]));
    bench.post("/typing", &[("x-api-key", &key)], &format!("q=KIM&patient={one}")).await;
    let searched = all(&bench).await.len();
    let live = [("x-api-key", key.as_str()), ("hilum-live", "1")];
    for _ in 0..10 {
        bench.pass(limits::AUDIT_LIVE_EVERY / 20);
        bench.post("/typing", &live, &format!("q=KIM&patient={one}")).await;
    }
    assert_eq!(all(&bench).await.len(), searched, "it shows what was written down");
    // Whoever comes into sight is named, and so is everybody once in a while: as read, for nobody searched.
    bench.post("/typing", &live, &format!("q=KIM&patient={one}&patient={two}")).await;
    bench.pass(limits::AUDIT_LIVE_EVERY);
    bench.post("/typing", &live, &format!("q=KIM&patient={one}")).await;
    let rows = all(&bench).await;
    let later: Vec<_> = rows[searched..].iter().map(|row| (row.action.as_str(), row.patient)).collect();
    assert_eq!(later, [("read", Some(two)), ("read", Some(one))]);
}

#[tokio::test]
async fn a_search_that_is_typed_names_each_patient_once() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Viewer).await;
    let (one, two) = (Id::from_bytes([1; 16]), Id::from_bytes([2; 16]));
    let typed = async |q: &str, found: &[Id]| {
        let mut form = format!("q={q}");
        for patient in found {
            write!(form, "&patient={patient}").unwrap();
        }
        let before = all(&bench).await.len();
        let answer = bench.post("/typing", &[("x-api-key", &key)], &form).await;
        let rows = all(&bench).await;
        let new: Vec<Option<Id>> = rows[before..].iter().map(|row| row.patient).collect();
        (answer.status, new)
    };
    let ok = StatusCode::OK;
    let steps = [
        ("the first letter", "K", vec![one], vec![Some(one)]),
        ("the next", "KI", vec![one], vec![]),
        ("one more is found: nobody's look is lost", "KIM", vec![one, two], vec![Some(two)]),
        ("nobody: who was found is known", "KIMX", vec![], vec![]),
        ("taken back", "KI", vec![one], vec![]),
        ("another search", "PARK", vec![one], vec![Some(one)]),
        ("and one that finds nobody", "XX", vec![], vec![None]),
        ("still nobody", "XXX", vec![], vec![]),
    ];
    for (why, q, found, want) in steps {
        assert_eq!(typed(q, &found).await, (ok, want), "{why}");
    }
    bench.pass(limits::AUDIT_TYPING_PAUSE);
    assert_eq!(typed("XXXX", &[one]).await.1, [Some(one)], "after a pause");
    assert_eq!(typed("XXXX", &[one]).await.1, [], "and goes on");
    // One that rests never is written down again all the same.
    let mut again = 0;
    for _ in 0..60 {
        bench.pass(limits::AUDIT_TYPING_PAUSE / 2);
        again += typed("XXXX", &[one]).await.1.len();
    }
    assert_eq!(again, 1, "once in five minutes");
    // Another key's typing is another's.
    let other = bench.key(Role::Operator).await;
    bench.post("/typing", &[("x-api-key", &other)], &format!("q=XXXX&patient={one}")).await;
    assert_eq!(all(&bench).await.last().unwrap().principal, "operator");
}

async fn row(bench: &Bench, n: i64) -> Row {
    let read = Read::Get { table: AUDIT.name, key: vec![Value::Int(n)] };
    bench.audit.read(&[read]).await.unwrap().remove(0).remove(0)
}

async fn tamper(bench: &Bench, writes: Vec<Write>) {
    bench.audit.commit(Batch { writes, ..Batch::default() }).await.unwrap();
}

async fn verdict(bench: &Bench) -> Verdict {
    bench.shell.audit().verify().await.unwrap()
}

#[tokio::test]
async fn the_chain_shows_what_was_done_to_it() {
    let bench = Bench::new().await;
    assert_eq!(verdict(&bench).await, Verdict::Whole { rows: 0 });
    let key = bench.key(Role::Viewer).await;
    for _ in 0..5 {
        bench.get("/api/census", &[("x-api-key", &key)]).await;
    }
    assert_eq!(verdict(&bench).await, Verdict::Whole { rows: 5 });
    let kept: Vec<Row> =
        bench.audit.read(&[Read::Scan(Scan::by_key(AUDIT.name, Vec::new()))]).await.unwrap().remove(0);
    let head = bench.audit.read(&[Read::Scan(Scan::by_key(AUDIT_HEAD.name, Vec::new()))]).await.unwrap();
    let put = |row: &Row| Write::Put { table: AUDIT.name, values: row.values.clone() };
    let delete = |n: i64| Write::Delete { table: AUDIT.name, key: vec![Value::Int(n)] };

    tamper(&bench, vec![delete(3)]).await;
    assert_eq!(verdict(&bench).await, Verdict::Missing { n: 3 });
    tamper(&bench, vec![put(&kept[2])]).await;
    assert_eq!(verdict(&bench).await, Verdict::Whole { rows: 5 }, "put back as it was");

    for (column, other) in [
        (1, Value::Time(hilum_core::Timestamp::from_micros(1))),
        (2, Value::Text("somebody else".to_owned())),
        (6, Value::Id(Id::from_bytes([8; 16]))),
        (7, Value::Int(404)),
        (10, Value::Bytes(Bytes::from_static(&[0; 32]))),
    ] {
        let mut values = row(&bench, 4).await.values;
        values[column] = other;
        tamper(&bench, vec![Write::Put { table: AUDIT.name, values }]).await;
        assert_eq!(verdict(&bench).await, Verdict::Altered { n: 4 }, "column {column}");
        tamper(&bench, vec![put(&kept[3])]).await;
    }

    tamper(&bench, vec![delete(5)]).await;
    assert_eq!(verdict(&bench).await, Verdict::End { last: 4, sealed: Some(5) });
    // A head that is moved back without the key is no seal.
    let mut values = head[0][0].values.clone();
    values[1] = Value::Int(4);
    values[2] = kept[3].values[10].clone();
    tamper(&bench, vec![Write::Put { table: AUDIT_HEAD.name, values }]).await;
    assert_eq!(verdict(&bench).await, Verdict::End { last: 4, sealed: None });
    // Nor is one that is gone.
    tamper(&bench, vec![Write::Delete { table: AUDIT_HEAD.name, key: vec![Value::Int(0)] }]).await;
    assert_eq!(verdict(&bench).await, Verdict::End { last: 4, sealed: None });
}

#[tokio::test]
async fn an_answer_that_cannot_be_audited_does_not_leave() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Operator).await;
    let patient = format!("/patients/{}", Id::from_bytes([4; 16]));
    assert_eq!(bench.get(&patient, &[("x-api-key", &key)]).await.status, StatusCode::OK);
    bench.disk_fails.store(true, Ordering::SeqCst);
    let answer = bench.get(&patient, &[("x-api-key", &key)]).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!answer.body.contains("04040404"), "{}", answer.body);
    assert!(!answer.header("retry-after").is_empty());
    // What would change something is not begun.
    let path = format!("/decide/{}", Id::from_bytes([1; 16]));
    assert_eq!(bench.post(&path, &[("x-api-key", &key)], "").await.status, StatusCode::SERVICE_UNAVAILABLE);
    // What shows nothing about anybody goes on.
    assert_eq!(bench.get("/healthz", &[]).await.status, StatusCode::OK);

    let open = Bench::with(Settings { audit_fails_closed: false, ..Settings::default() }).await;
    let key = open.key(Role::Operator).await;
    open.disk_fails.store(true, Ordering::SeqCst);
    assert_eq!(open.get(&patient, &[("x-api-key", &key)]).await.status, StatusCode::OK, "by setting");
}

/// Makes writes fail until [`mend`]: a disk that failed would stay failed for the process.
async fn fail(bench: &Bench) -> Vec<Row> {
    let kept =
        bench.audit.read(&[Read::Scan(Scan::by_key(AUDIT_HEAD.name, Vec::new()))]).await.unwrap().remove(0);
    let zero = Value::Bytes(Bytes::from_static(&[0; 32]));
    let values = vec![Value::Int(0), Value::Int(7), zero.clone(), zero];
    tamper(bench, vec![Write::Put { table: AUDIT_HEAD.name, values }]).await;
    kept
}

async fn mend(bench: &Bench, kept: Vec<Row>) {
    let write = match kept.into_iter().next() {
        Some(row) => Write::Put { table: AUDIT_HEAD.name, values: row.values },
        None => Write::Delete { table: AUDIT_HEAD.name, key: vec![Value::Int(0)] },
    };
    tamper(bench, vec![write]).await;
}

#[tokio::test]
async fn one_failed_write_stops_nobody_for_good() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Operator).await;
    let auth = [("x-api-key", key.as_str())];
    let path = format!("/decide/{}", Id::from_bytes([1; 16]));
    // Before anything was ever written, and after.
    for rows in [1, 2] {
        let kept = fail(&bench).await;
        assert_eq!(bench.get("/api/census", &auth).await.status, StatusCode::SERVICE_UNAVAILABLE);
        tokio::time::sleep(limits::AUDIT_DELAY_MAX * 3 / 2).await;
        assert_eq!(bench.post(&path, &auth, "").await.status, StatusCode::SERVICE_UNAVAILABLE, "still");
        mend(&bench, kept).await;
        tokio::time::sleep(limits::AUDIT_DELAY_MAX * 3 / 2).await;
        // Nobody came with anything but this.
        assert_eq!(bench.post(&path, &auth, "").await.status, StatusCode::OK);
        assert_eq!(verdict(&bench).await, Verdict::Whole { rows });
    }
}

#[tokio::test]
async fn a_view_that_was_not_written_down_does_not_count() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Viewer).await;
    let live = [("x-api-key", key.as_str()), ("hilum-live", "1")];
    let kept = fail(&bench).await;
    for _ in 0..2 {
        assert_eq!(bench.get("/census", &live).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    mend(&bench, kept).await;
    for _ in 0..2 {
        assert_eq!(bench.get("/census", &live).await.status, StatusCode::OK);
    }
    assert_eq!(all(&bench).await.len(), 1);
}

#[tokio::test]
async fn a_search_is_one_whatever_it_says_of_itself() {
    let bench = Bench::new().await;
    let key = bench.key(Role::Viewer).await;
    let live = [("x-api-key", key.as_str()), ("hilum-live", "1")];
    let one = Id::from_bytes([1; 16]);
    let found = format!("q=KIM&patient={one}");
    // One that finds somebody, a refresh of it, one that finds nobody, another; and lists without a search.
    for form in [found.as_str(), found.as_str(), "q=LEE", "q=PARK", "q=", "q="] {
        bench.post("/typing", &live, form).await;
        bench.pass(limits::AUDIT_TYPING_PAUSE);
    }
    let rows = all(&bench).await;
    let said: Vec<_> = rows.iter().map(|row| (row.action.as_str(), row.patient)).collect();
    assert_eq!(said, [("search", Some(one)), ("search", None), ("search", None)]);
}

#[tokio::test]
async fn within_a_second_is_written_within_a_second() {
    let bench = Bench::with(Settings { audit: Durability::WithinSecond, ..Settings::default() }).await;
    let key = bench.key(Role::Viewer).await;
    for _ in 0..3 {
        bench.get("/api/census", &[("x-api-key", &key)]).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(verdict(&bench).await, Verdict::Whole { rows: 3 });
    // Another process that has the same log goes on where this one is.
    let other = Audit::start(bench.audit.clone(), &SessionSecret::new([9; 32]), Durability::AtOnce);
    let mut event = event_of(&all(&bench).await[0]);
    event.principal = "other".to_owned();
    let auth = [("x-api-key", key.as_str())];
    let (mine, theirs) = tokio::join!(bench.get("/api/census", &auth), other.record(event));
    assert_eq!(mine.status, StatusCode::OK);
    theirs.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(verdict(&bench).await, Verdict::Whole { rows: 5 });
}

/// Answers may leave before their rows are on disk, so many and no more; of those that left each is written.
#[tokio::test]
async fn what_waits_is_bounded_by_rows_and_none_of_it_is_lost() {
    let bench = Bench::with(Settings { audit: Durability::WithinSecond, ..Settings::default() }).await;
    let key = bench.key(Role::Viewer).await;
    bench.get("/api/census", &[("x-api-key", &key)]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let event = event_of(&all(&bench).await[0]);
    let audit = bench.shell.audit();
    let each = limits::AUDIT_PATIENTS_MAX;
    let mut taken = 0;
    while audit.record_all(vec![event.clone(); each]).await.is_ok() {
        taken += each;
    }
    assert_eq!(taken, limits::AUDIT_WAITING_MAX);
    assert!(audit.record(event.clone()).await.is_err(), "no room for one more");
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..100 {
        if verdict(&bench).await == (Verdict::Whole { rows: taken as i64 + 1 }) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(verdict(&bench).await, Verdict::Whole { rows: taken as i64 + 1 });
    assert!(audit.record(event).await.is_ok(), "and there is room again");
}

fn event_of(row: &AuditRow) -> hilum_web::audit::AuditEvent {
    hilum_web::audit::AuditEvent {
        at: row.at,
        principal: row.principal.clone(),
        role: None,
        action: hilum_web::audit::Action::Read,
        route: row.route.clone(),
        patient: None,
        outcome: 200,
        detail: String::new(),
        request: row.request,
    }
}

/// Several processes write into one log: whoever loses the race for the next number goes on from there, however often,
/// and no answer is held back for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_write_one_chain() {
    let bench = Bench::new().await;
    let secret = SessionSecret::new([7; 32]);
    let event = |n: u8| AuditEvent {
        at: bench.shell.clock().now(),
        principal: format!("reader-{n}"),
        role: Some(Role::Viewer),
        action: Action::Read,
        route: "GET /census".to_owned(),
        patient: None,
        outcome: 200,
        detail: String::new(),
        request: Id::from_bytes([n; 16]),
    };
    let writers: Vec<_> = (0..12)
        .map(|n| {
            let audit = Audit::start(bench.audit.clone(), &secret, Durability::AtOnce);
            let event = event(n);
            tokio::spawn(async move {
                for _ in 0..20 {
                    audit.record(event.clone()).await.expect("written down");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let audit = Audit::start(bench.audit.clone(), &secret, Durability::AtOnce);
    assert_eq!(audit.verify().await.unwrap(), Verdict::Whole { rows: 240 });
    assert!(is_ours(&bench.audit, &secret).await.unwrap());
    assert!(!is_ours(&bench.audit, &SessionSecret::new([8; 32])).await.unwrap(), "another secret");
}
