//! What only a server can do to its clients: die in mid-call, lose an answer, be slow, be unsafe.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hilum_core::{Epoch, Kind, Seq, Stream};
use hilum_engines::tables::postgres::{Patience, Postgres, PostgresConfig};
use hilum_engines::tables::query::{Bounds, Check, Keep, Key, Probe, Query, Sort, Source, Term, Test};
use hilum_engines::tables::{
    Anew, Batch, Column, OffsetMove, Read, Scan, Table, TablesError, Type, Value, Write,
};
use hilum_testkit::postgres::Postgres as Server;

use crate::proxy::{Mode, Proxy};
use crate::sample::*;

async fn raw(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn through(proxy: &Proxy) -> Postgres {
    let server = Server::shared();
    let mut config = PostgresConfig::new(server.url_at(proxy.port), server.fresh_schema());
    config.pool_size = 1;
    Postgres::open(config, &TABLES).await.unwrap()
}

fn both(n: u64) -> Batch {
    Batch {
        expects: vec![
            expect(&ROOM, vec![id(n)], None),
            expect(&PAIR, vec![text("n"), Value::Int(n as i64)], None),
        ],
        writes: vec![
            put(&ROOM, room(n, "3W", None)),
            put(&PAIR, pair("n", n as i64, "x")),
            put_if_newer(code("c", 1, "one")),
        ],
        outbox: vec![outgoing(n)],
        ..Batch::default()
    }
}

async fn there(tables: &Postgres, n: u64) -> usize {
    let reads = [get(&ROOM, vec![id(n)]), get(&PAIR, vec![text("n"), Value::Int(n as i64)])];
    tables.read(&reads).await.unwrap().concat().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_too_old_is_refused_by_its_version_and_nothing_is_made_there() {
    let server = Server::older("12.22.0");
    let refused =
        Postgres::open(PostgresConfig::new(server.url(), "old"), &TABLES).await.expect_err("12").to_string();
    assert!(refused.contains("older than PostgreSQL 13, which hilum needs"), "{refused}");
    let made = "SELECT count(*) FROM pg_namespace WHERE nspname = 'old'";
    assert_eq!(raw(&server.url()).await.query_one(made, &[]).await.unwrap().get::<_, i64>(0), 0);
}

/// A dump reads for hours. A process that starts meanwhile waits for nothing that is there already, and so holds up nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_starts_beside_a_long_read_waits_for_nothing() {
    let server = Server::shared();
    let config = PostgresConfig::new(server.url(), server.fresh_schema());
    let first = Postgres::open(config.clone(), &TABLES).await.unwrap();
    let dump = raw(&config.url).await;
    dump.batch_execute("BEGIN").await.unwrap();
    let schema = &config.schema;
    let named = format!(
        "SELECT c.relname FROM pg_class c WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind = 'r'"
    );
    for row in dump.query(&named, &[]).await.unwrap() {
        let table: String = row.get(0);
        dump.batch_execute(&format!("LOCK TABLE \"{schema}\".\"{table}\" IN ACCESS SHARE MODE"))
            .await
            .unwrap();
    }
    let opened = tokio::time::timeout(Duration::from_secs(20), Postgres::open(config.clone(), &TABLES));
    let second = opened.await.expect("waits for the dump").unwrap();
    second.commit(both(1)).await.unwrap();
    assert_eq!(there(&first, 1).await, 2);
    dump.batch_execute("ROLLBACK").await.unwrap();
}

/// Whatever a commit or a read holds, it is one turn on the wire once its statements are known there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_one_turn_and_so_is_a_read() {
    let proxy = Proxy::start(Server::shared().port()).await;
    let tables = through(&proxy).await;
    let reads = [
        get(&ROOM, vec![id(1)]),
        get(&ROOM, vec![id(2)]),
        get(&PAIR, vec![text("n"), Value::Int(1)]),
        Read::Scan(Scan::by_index(ROOM.name, "by_place", vec![text("3W")])),
        Read::Scan(Scan::by_key(PAIR.name, vec![])),
    ];
    tables.commit(both(1)).await.unwrap();
    tables.read(&reads).await.unwrap();

    let before = proxy.turns();
    tables.commit(both(2)).await.unwrap();
    assert_eq!(proxy.turns() - before, 1, "turns of a commit");
    let before = proxy.turns();
    let answer = tables.read(&reads).await.unwrap();
    assert_eq!(proxy.turns() - before, 1, "turns of a read");
    assert_eq!(answer.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1, 2, 2]);
    // A refused one too, and eight that come at once: the first alone, seven together.
    let before = proxy.turns();
    let refused = tables.commit(both(2)).await;
    assert!(matches!(refused, Err(TablesError::Conflict(_))), "{refused:?}");
    assert_eq!(proxy.turns() - before, 1, "turns of a refused commit");
    let before = proxy.turns();
    let eight = futures::future::join_all((10..18).map(|n| tables.commit(both(n)))).await;
    assert!(eight.iter().all(Result::is_ok), "{eight:?}");
    assert!((1..=2).contains(&(proxy.turns() - before)), "{} turns of eight commits", proxy.turns() - before);
    // The check can fail: two calls one after the other are two turns.
    let before = proxy.turns();
    tables.now().await.unwrap();
    tables.now().await.unwrap();
    assert!(proxy.turns() - before >= 2);
}

/// Each operation of the port is as many statements as the engine's documentation says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_is_as_many_statements_as_documented() {
    let proxy = Proxy::start(Server::shared().port()).await;
    let tables = through(&proxy).await;
    let epoch = Epoch(uuid::Uuid::from_u128(7));
    let moved = |from: u64| OffsetMove {
        projection: "p",
        stream: Stream::Hl7In,
        partition: 0,
        epoch,
        from,
        to: from + 1,
        last: None,
    };
    // The statements are prepared with the first.
    tables.commit(Batch { offset: Some(moved(0)), ..both(1) }).await.unwrap();
    macro_rules! count {
        ($what:literal, $want:literal, $call:expr) => {
            let before = proxy.statements();
            $call.await.expect($what);
            assert_eq!(proxy.statements() - before, $want, $what);
        };
    }
    let only = |writes: Vec<Write>| Batch { writes, ..Batch::default() };
    // begin, counter, a row, sign, commit.
    count!("a commit of one table", 5, tables.commit(only(vec![put(&ROOM, room(50, "3W", None))])));
    let many = (60..90).map(|n| put(&ROOM, room(n, "3W", None))).collect();
    count!("of many rows", 5, tables.commit(only(many)));
    let two = vec![put(&ROOM, room(60, "3W", None)), delete(&ROOM, vec![id(61)])];
    count!("and a delete", 6, tables.commit(only(two)));
    let closing = |columns: Vec<(&'static str, Value)>| {
        only((60..90).map(|n| set(&ROOM, vec![id(n)], columns.clone())).collect())
    };
    count!("of columns of many rows", 5, tables.commit(closing(vec![("n", Value::Int(1))])));
    // Two tables' expectations and the gate; three writes; the outbox.
    count!("a whole one", 11, tables.commit(both(2)));
    count!("with an offset", 13, tables.commit(Batch { offset: Some(moved(1)), ..both(3) }));
    let before = proxy.statements();
    let refused = tables.commit(both(3)).await;
    assert!(matches!(refused, Err(TablesError::Conflict(_))), "{refused:?}");
    assert_eq!(proxy.statements() - before, 11, "a refused one: all of it was sent");

    let gets = [get(&ROOM, vec![id(1)]), get(&ROOM, vec![id(2)])];
    tables.read(&gets).await.unwrap();
    count!("gets of a table", 1, tables.read(&gets));
    let scan = || Scan::by_index(ROOM.name, "by_place", vec![text("3W")]);
    let walk = Probe::by_index(ROOM.name, "by_place", vec![Term::Is(text("3W"))]);
    let same = Check::Has(Probe::by_key(ROOM.name, vec![Term::Subject]));
    let query = Query { checks: vec![same], ..Query::new(Source::Walk { probe: walk, subject: "id" }) };
    tables.query(&query).await.unwrap();
    let ten = Bounds { cap: 10, rows: None, budget: None };
    let two = [query.clone(), query.clone()];
    tables.query_counts(&two, ten).await.unwrap();
    count!("a query", 1, tables.query(&query));
    count!("two counts", 2, tables.query_counts(&two, ten));
    let reads =
        [gets[0].clone(), gets[1].clone(), Read::Scan(scan()), Read::Scan(Scan::by_key(PAIR.name, vec![]))];
    count!("gets and two scans", 3, tables.read(&reads));
    let alike: Vec<Read> = ["3W", "4A", "5B"]
        .map(|unit| Read::Scan(Scan::by_index(ROOM.name, "by_place", vec![text(unit)])))
        .into();
    tables.read(&alike).await.unwrap();
    count!("scans that differ in their values alone", 1, tables.read(&alike));
    count!("count", 1, tables.count(&scan(), 100));
    count!("changes", 2, tables.changes(Seq(0), 100));
    count!("offset", 1, tables.applied("p", Stream::Hl7In, 0, epoch));
    count!("now", 1, tables.now());
    count!("ready", 1, tables.ready());
    let (now, until) = (hilum_core::Timestamp::from_micros(0), hilum_core::Timestamp::from_micros(9));
    count!("lease", 1, tables.lease("l", "a", now, until));
    count!("prune", 1, tables.prune(Seq(1)));
}

/// Scans that are answered together say what each says alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_answer_together_as_each_alone() {
    let server = Server::shared();
    let config = PostgresConfig::new(server.url(), server.fresh_schema());
    let tables = Postgres::open(config, &TABLES).await.unwrap();
    let rooms = (0..300).map(|n| {
        let bed = (n % 4 > 0).then(|| format!("{}", n % 7));
        put(&ROOM, room(n, &format!("U{}", n % 5), bed.as_deref()))
    });
    tables.commit(writes(rooms.collect())).await.unwrap();
    let units = ["U3", "U0", "none", "U0", "U4"];
    let mut scans = Vec::new();
    for unit in units {
        let all = Scan::by_index(ROOM.name, "by_place", vec![text(unit)]);
        let bed = |bed: Value| Scan { prefix: vec![text(unit), bed], ..all.clone() };
        scans.extend([bed(text("3")), bed(Value::Null)]);
        scans.push(Scan { from: Some(text("2")), to: Some(text("5")), ..all.clone() });
        scans.push(Scan { limit: 7, descending: true, ..all.clone() });
        scans.push(Scan { limit: 7, ..all.clone() });
        scans.push(Scan { limit: 0, ..all.clone() });
        // Behind a place: of several segments.
        scans.push(Scan { after: Some(vec![text(unit), text("3"), id(40)]), ..all.clone() });
        scans.push(all);
        scans.push(Scan { limit: 3, ..Scan::by_key(ROOM.name, vec![]) });
    }
    let reads: Vec<Read> = scans.iter().cloned().map(Read::Scan).collect();
    let together = tables.read(&reads).await.unwrap();
    assert!(together.iter().filter(|rows| rows.len() > 1).count() > 20, "what is compared is there");
    for (read, rows) in reads.iter().zip(together) {
        assert_eq!(rows, tables.read(std::slice::from_ref(read)).await.unwrap().concat(), "{read:?}");
    }
}

/// A commit whose answer is lost is asked about: it stands, and the caller is told its t.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_asked_about() {
    let proxy = Proxy::start(Server::shared().port()).await;
    let tables = through(&proxy).await;
    let t1 = tables.commit(both(1)).await.unwrap();
    proxy.arm(Mode::LoseTheAnswer);
    let t2 = tables.commit(both(2)).await.expect("it is committed, so it is told");
    assert!(t2 > t1);
    proxy.reached().await;
    assert_eq!(there(&tables, 2).await, 2);
    let row = tables.read(&[get(&ROOM, vec![id(2)])]).await.unwrap().concat();
    assert_eq!(row[0].t, t2);

    // The same for a group of which one was refused: it is held up behind another flight until both are in it.
    tables.commit(both(3)).await.unwrap();
    proxy.arm(Mode::HoldTheEnd);
    let commit = |n| {
        tokio::spawn({
            let tables = tables.clone();
            async move { tables.commit(both(n)).await }
        })
    };
    let held = commit(4);
    proxy.reached().await;
    let (whole, refused) = (commit(5), commit(2));
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.arm(Mode::LoseTheAnswer);
    proxy.release();
    held.await.unwrap().unwrap();
    let (whole, refused) = (whole.await.unwrap().unwrap(), refused.await.unwrap());
    assert!(matches!(refused, Err(TablesError::Conflict(_))), "{refused:?}");
    let row = tables.read(&[get(&ROOM, vec![id(5)])]).await.unwrap().concat();
    assert_eq!(row[0].t, whole);
    assert!(tables.commit(both(6)).await.unwrap() > whole);
}

/// A commit that the server gets only after the client has given it up is never made, however late it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_flight_does_not_land() {
    let proxy = Proxy::start(Server::shared().port()).await;
    let tables = through(&proxy).await;
    let t1 = tables.commit(both(1)).await.unwrap();
    proxy.arm(Mode::DeliverLate);
    let answer = tables.commit(both(2)).await;
    assert!(matches!(&answer, Err(error) if error.kind() == Kind::Transient), "{answer:?}");
    proxy.reached().await; // broken off
    assert_eq!(there(&tables, 2).await, 0);
    proxy.release();
    proxy.reached().await; // the server has had it, and has answered
    assert_eq!(there(&tables, 2).await, 0, "a commit that was told to have failed is there");
    assert_eq!(tables.now().await.unwrap(), t1);
    tables.commit(both(2)).await.unwrap();
    assert_eq!(there(&tables, 2).await, 2);
}

/// While one process holds an open commit, the next one waits behind it, and who follows the changes sees neither:
/// so no commit is ever seen late. Open transactions of others, in this database or another, delay nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_commit_is_not_overtaken() {
    let server = Server::shared();
    let proxy = Proxy::start(server.port()).await;
    let schema = server.fresh_schema();
    let slow =
        Postgres::open(PostgresConfig::new(server.url_at(proxy.port), &schema), &TABLES).await.unwrap();
    let fast = Postgres::open(PostgresConfig::new(server.url(), &schema), &TABLES).await.unwrap();

    let url = server.url();
    let here = raw(&url).await;
    here.batch_execute(&format!("CREATE DATABASE other_{schema}")).await.unwrap();
    here.batch_execute(&format!("CREATE TABLE {schema}.strange (n int8)")).await.unwrap();
    let (address, _) = url.rsplit_once('/').unwrap();
    let there = raw(&format!("{address}/other_{schema}")).await;
    there
        .batch_execute("CREATE TABLE strange (n int8); BEGIN; INSERT INTO strange VALUES (1)")
        .await
        .unwrap();
    here.batch_execute(&format!("BEGIN; INSERT INTO {schema}.strange VALUES (1)")).await.unwrap();

    slow.commit(both(1)).await.unwrap();
    let first = fast.changes(Seq(0), 100).await.unwrap();
    assert_eq!(first.len(), 1, "an open transaction of somebody else hides a commit");

    proxy.arm(Mode::HoldTheEnd);
    let held = tokio::spawn({
        let slow = slow.clone();
        async move { slow.commit(both(2)).await }
    });
    proxy.reached().await;
    let overtakes = tokio::spawn({
        let fast = fast.clone();
        async move { fast.commit(both(3)).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!overtakes.is_finished(), "it did not wait for the commit before it");
    assert_eq!(fast.changes(Seq(0), 100).await.unwrap().len(), 1, "a commit is seen before it is made");
    proxy.release();
    let (held, overtakes) = (held.await.unwrap().unwrap(), overtakes.await.unwrap().unwrap());
    assert!(held < overtakes, "{held} and {overtakes}");
    let seen: Vec<Seq> = fast.changes(first[0].t, 100).await.unwrap().iter().map(|change| change.t).collect();
    assert_eq!(seen, [held, overtakes]);
    here.batch_execute("ROLLBACK").await.unwrap();
}

/// The server is killed under load and comes back: callers get a transient error, the same handle goes on, what was
/// acknowledged is there, nothing is half there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_dies_in_mid_call() {
    let server = Server::start(&[]);
    let tables = Postgres::open(PostgresConfig::new(server.url(), "dies"), &TABLES).await.unwrap();
    let (stop, next) = (AtomicBool::new(false), AtomicU64::new(0));
    let writer = || async {
        let (mut acknowledged, mut failed) = (Vec::new(), Vec::new());
        while !stop.load(Ordering::SeqCst) {
            let n = next.fetch_add(1, Ordering::SeqCst);
            match tables.commit(both(n)).await {
                Ok(_) => acknowledged.push(n),
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Transient, "{error}");
                    failed.push(n);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        (acknowledged, failed)
    };
    let killer = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            tokio::task::block_in_place(|| server.kill());
            let down = tables.read(&[get(&ROOM, vec![id(0)])]).await;
            assert!(matches!(&down, Err(error) if error.kind() == Kind::Transient), "{down:?}");
            tokio::task::block_in_place(|| server.restart());
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        stop.store(true, Ordering::SeqCst);
    };
    let (a, b, c, ()) = tokio::join!(writer(), writer(), writer(), killer);
    let acknowledged: Vec<u64> = [&a.0, &b.0, &c.0].into_iter().flatten().copied().collect();
    let failed: Vec<u64> = [&a.1, &b.1, &c.1].into_iter().flatten().copied().collect();
    assert!(acknowledged.len() > 50, "{} commits", acknowledged.len());
    for n in acknowledged {
        assert_eq!(there(&tables, n).await, 2, "commit {n} was acknowledged");
    }
    for n in failed {
        assert_eq!(there(&tables, n).await, 0, "commit {n} was told to have failed");
    }
    let entries = tables.changes(Seq(0), 100_000).await.unwrap();
    let rows = tables.count(&Scan::by_key(ROOM.name, vec![]), 1_000_000).await.unwrap();
    assert_eq!(entries.len() as u64, rows, "outbox and rows");
    let newest = tables.commit(both(1_000_000)).await.unwrap();
    assert!(entries.iter().all(|change| change.t < newest));
}

/// A server that may lose what it acknowledged is refused by name, unless it is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_weak_server_is_refused_wherever_it_was_made_so() {
    let server = Server::start(&["fsync=off", "full_page_writes=off"]);
    let mut config = PostgresConfig::new(server.url(), "weak");
    let refused = Postgres::open(config.clone(), &TABLES).await.expect_err("fsync is off").to_string();
    assert!(refused.contains("off: fsync (command line), full_page_writes (command line)"), "{refused}");
    assert!(refused.contains("--allow-weak-tables"), "{refused}");
    let operator = raw(&server.url()).await;
    let made = "SELECT count(*) FROM pg_namespace WHERE nspname = 'weak'";
    assert_eq!(operator.query_one(made, &[]).await.unwrap().get::<_, i64>(0), 0, "nothing was made");
    config.allow_weak = true;
    let tables = Postgres::open(config, &TABLES).await.unwrap();
    assert_eq!(
        tables.describe(),
        "postgresql WEAK, off: fsync (command line), full_page_writes (command line)"
    );

    let shared = Server::shared();
    let operator = raw(&shared.url()).await;
    for sql in [
        "CREATE DATABASE weak_base",
        "ALTER DATABASE weak_base SET synchronous_commit = off",
        "CREATE ROLE weak_role LOGIN PASSWORD 'test-weak'",
        "GRANT CREATE ON DATABASE postgres TO weak_role",
        "ALTER ROLE weak_role SET synchronous_commit = off",
    ] {
        operator.batch_execute(sql).await.unwrap();
    }
    let (before, _) = shared.url().rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let (_, host) = before.rsplit_once('@').unwrap();
    let cases = [
        ("its session", format!("{}?options=-c%20synchronous_commit%3Doff", shared.url()), "client"),
        ("its database", format!("{before}/weak_base"), "database"),
        ("its role", format!("postgresql://weak_role:test-weak@{host}/postgres"), "user"),
    ];
    for (whose, url, place) in cases {
        let config = PostgresConfig::new(url, shared.fresh_schema());
        let refused = Postgres::open(config.clone(), &TABLES).await.expect_err(whose).to_string();
        assert!(refused.contains(&format!("off: synchronous_commit ({place})")), "{whose}: {refused}");
        let allowed =
            Postgres::open(PostgresConfig { allow_weak: true, ..config }, &TABLES).await.expect(whose);
        assert!(allowed.describe().contains("WEAK"), "{whose}: {}", allowed.describe());
    }
    let config = PostgresConfig::new(shared.url(), shared.fresh_schema());
    assert!(!format!("{config:?}").contains("test-"), "the password is printed");
    let tables = Postgres::open(config, &TABLES).await.unwrap();
    assert_eq!(tables.describe(), "postgresql fsync");
    tables.commit(both(1)).await.unwrap();
}

/// Weakened while it runs: found when the connection is made anew, and nothing more is committed until it is mended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_weakened_takes_no_more_commits() {
    let server = Server::start(&[]);
    let tables = Postgres::open(PostgresConfig::new(server.url(), "w"), &TABLES).await.unwrap();
    tables.commit(both(1)).await.unwrap();
    let operator = raw(&server.url()).await;
    operator.batch_execute("ALTER ROLE postgres SET synchronous_commit = off").await.unwrap();
    server.kill();
    server.restart();
    let refused = loop {
        match tables.commit(both(2)).await {
            Err(error) if error.to_string().contains("synchronous_commit (user)") => break error,
            Err(error) => assert_eq!(error.kind(), Kind::Transient, "{error}"),
            Ok(t) => panic!("committed at {t}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(refused.kind(), Kind::Transient, "paused");
    let operator = raw(&server.url()).await;
    operator.batch_execute("ALTER ROLE postgres RESET synchronous_commit").await.unwrap();
    tables.commit(both(2)).await.expect("goes on by itself");
}

/// Weakened while a commit is in the air: neither it nor the next one is acknowledged until that is mended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_weakened_in_mid_flight_takes_no_more_commits() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port()).await;
    let mut config = PostgresConfig::new(server.url_at(proxy.port), "w");
    config.patience.ask = Duration::from_secs(1);
    let tables = Postgres::open(config, &TABLES).await.unwrap();
    tables.commit(both(1)).await.unwrap();
    let operator = raw(&server.url()).await;
    for (n, mode) in [(2, Mode::DeliverLate), (3, Mode::LoseTheAnswer)] {
        operator.batch_execute("ALTER ROLE postgres SET synchronous_commit = off").await.unwrap();
        proxy.arm(mode);
        let broken = tables.commit(both(n)).await;
        assert!(matches!(broken, Err(TablesError::Engine(_))), "{mode:?}: {broken:?}");
        proxy.reached().await;
        let next = tables.commit(both(n + 10)).await;
        assert!(
            matches!(&next, Err(error) if error.to_string().contains("synchronous_commit (user)")),
            "{mode:?}: {next:?}"
        );
        operator.batch_execute("ALTER ROLE postgres RESET synchronous_commit").await.unwrap();
        tables.commit(both(n + 10)).await.expect("goes on by itself");
        assert_eq!(there(&tables, n).await, if mode == Mode::LoseTheAnswer { 2 } else { 0 }, "{mode:?}");
    }
}

/// A commit breaks in mid-flight, and what answers behind it lacks the last commits: the next one goes behind all that
/// was seen, as whoever finds it so at the start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_go_back_in_mid_flight_go_on_behind_what_was_seen() {
    let server = Server::shared();
    let proxy = Proxy::start(server.port()).await;
    let tables = through(&proxy).await;
    for n in 1..=5 {
        tables.commit(both(n)).await.unwrap();
    }
    let (seen, s) = (*tables.committed().borrow(), tables.schema());
    // As a standby that has not had the last two.
    let back = format!(
        "UPDATE {s}.hilum_counter SET t = t - 2; UPDATE {s}.hilum_writer SET seq = seq - 2, base = base - 2"
    );
    raw(&server.url()).await.batch_execute(&back).await.unwrap();
    proxy.arm(Mode::DeliverLate);
    let broken = tables.commit(both(6)).await;
    assert!(matches!(broken, Err(TablesError::Engine(_))), "{broken:?}");
    proxy.reached().await;
    let t = tables.commit(both(7)).await.unwrap();
    assert!(t > seen, "{t} was given before: {seen} was seen");
    let said = tables.went_back().borrow().expect("it is said");
    assert_eq!((said.from, said.to), (seen, Seq(3)));
    proxy.release();
    proxy.reached().await; // the late one: its signature was made impossible
    assert_eq!(there(&tables, 6).await, 0);
}

/// Why a call ended that had no answer.
async fn silent<T: std::fmt::Debug>(
    what: &str,
    asked: impl Future<Output = Result<T, TablesError>>,
) -> String {
    let answer = tokio::time::timeout(Duration::from_secs(6), asked).await;
    match answer.unwrap_or_else(|_| panic!("{what}: no end")) {
        Err(TablesError::Engine(why)) => why,
        other => panic!("{what}: {other:?}"),
    }
}

/// A server that stands still (its machine hangs, its disk does not answer) keeps its connections and says nothing: reads
/// and commits end in bounded time, in every step. When it goes on, so does the same handle, and nothing is there twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_is_not_waited_for() {
    let server = Server::start(&[]);
    let (answer, ask) = (Duration::from_secs(2), Duration::from_secs(1));
    let mut config = PostgresConfig::new(format!("{}?connect_timeout=2", server.url()), "still");
    config.patience = Patience { answer, commit: answer, ask };
    let tables = Postgres::open(config.clone(), &TABLES).await.unwrap();
    let other = Postgres::open(config, &TABLES).await.unwrap();
    tables.commit(both(1)).await.unwrap();
    other.commit(both(2)).await.unwrap();
    assert_eq!(there(&tables, 2).await, 2);
    server.freeze();
    let reads = [get(&ROOM, vec![id(1)])];
    let (read, commit, prepare) = tokio::join!(
        silent("a read", tables.read(&reads)),
        silent("a commit", tables.commit(both(3))),
        // A statement that its connection does not know yet.
        silent("a statement", other.commit(writes(vec![delete(&ROOM, vec![id(2)])]))),
    );
    assert!(read.contains("get: no answer within 2s"), "{read}");
    assert!(commit.contains("cannot be asked what became of it"), "{commit}");
    assert!(prepare.contains("prepare: no answer within 2s"), "{prepare}");
    let commit = silent("another commit", tables.commit(both(4))).await;
    assert!(!commit.contains("cannot be asked"), "nothing is sent: {commit}");
    // Nor is the schema held by a connection that says nothing: another server may have taken this one's place.
    let begun = std::time::Instant::now();
    while let Err(why) = tables.ready().await
        && !why.to_string().contains("hold")
    {
        assert!(begun.elapsed() < Duration::from_secs(10), "that nobody holds the schema is not said: {why}");
    }
    server.thaw();

    let begun = std::time::Instant::now();
    while let Err(why) = tables.commit(both(5)).await {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not go on by itself: {why}");
    }
    // Nobody could say what became of the one in the air: whoever tries it again has it once.
    let again = tables.commit(both(3)).await;
    assert!(matches!(again, Ok(_) | Err(TablesError::Conflict(_))), "{again:?}");
    assert_eq!((there(&tables, 2).await, there(&tables, 3).await, there(&tables, 4).await), (2, 2, 0));
    let entries = tables.changes(Seq(0), 100).await.unwrap();
    let rows = tables.count(&Scan::by_key(ROOM.name, vec![]), 100).await.unwrap();
    assert_eq!((entries.len() as u64, rows), (4, 4), "outbox and rows");
}

/// A question that takes too long is called off at the server too, and whoever asks next has a connection of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_takes_too_long_is_called_off() {
    let server = Server::start(&[]);
    let mut config = PostgresConfig::new(server.url(), "slow");
    config.pool_size = 1;
    config.patience.answer = Duration::from_secs(1);
    let tables = Postgres::open(config, &TABLES).await.unwrap();
    tables.commit(both(1)).await.unwrap();
    let operator = raw(&server.url()).await;
    operator.batch_execute(&format!("BEGIN; LOCK TABLE slow.{}", ROOM.name)).await.unwrap();
    let why = silent("a read", tables.read(&[get(&ROOM, vec![id(1)])])).await;
    assert!(why.contains("no answer within 1s"), "{why}");
    let read = tables.read(&[get(&PAIR, vec![text("n"), Value::Int(1)])]).await.unwrap();
    assert_eq!(read[0].len(), 1, "another table, at once");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    for n in 0.. {
        if operator.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            break;
        }
        assert!(n < 50, "it waits on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    operator.batch_execute("COMMIT").await.unwrap();
    assert_eq!(there(&tables, 1).await, 2);
}

/// A server that is not there, a wrong password, a schema's bad name: an error that tells, without the password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_opened_says_why() {
    let server = Server::shared();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cases = [
        (server.url_at(port), "fine", "see that the server runs"),
        (server.url().replace(":test-", ":wrong-"), "fine", "28P01"),
        ("http://nothing".to_owned(), "fine", "no connection url"),
        (server.url(), "Bad-Name", "lower-case"),
        (server.url(), "pg_own", "PostgreSQL's own"),
    ];
    for (url, schema, want) in cases {
        let error =
            Postgres::open(PostgresConfig::new(url, schema), &TABLES).await.expect_err(want).to_string();
        assert!(error.contains(want) && !error.contains("wrong-") && !error.contains("test-"), "{error}");
    }
}

/// At 100,000 rows every declared index is walked in its order, from the cursor on, and no table is read whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_walk_indexes() {
    const ROWS: u64 = 100_000;
    let server = Server::shared();
    let schema = server.fresh_schema();
    let tables = Postgres::open(PostgresConfig::new(server.url(), &schema), &TABLES).await.unwrap();
    for part in 0..ROWS / 10_000 {
        let rows = (part * 10_000..(part + 1) * 10_000).map(|n| {
            let bed = (n % 3 > 0).then(|| format!("{}", n % 7));
            let mut row = room(n, &format!("U{}", n % 50), bed.as_deref());
            row[3] = if n % 4 == 0 { Value::Null } else { time(n as i64) };
            put(&ROOM, row)
        });
        tables.commit(writes(rows.collect())).await.unwrap();
    }
    let at = |n: u64| vec![get(&ROOM, vec![id(n)])];
    let middle = tables.read(&at(51_000)).await.unwrap().concat().remove(0);
    let indexes = std::iter::once(None).chain(ROOM.indexes.iter().map(|index| Some(index.name)));
    for index in indexes {
        let whole = Scan { index, limit: 20, ..Scan::by_key(ROOM.name, vec![]) };
        let after = Some(cursor(&ROOM, index, &middle));
        let first = after.clone().unwrap().remove(0);
        let mut shapes = vec![whole.clone(), Scan { after: after.clone(), ..whole.clone() }];
        if index.is_some() {
            shapes.push(Scan { prefix: vec![first.clone()], after, ..whole.clone() });
        }
        if first != Value::Null {
            shapes.push(Scan { from: Some(first.clone()), ..whole.clone() });
            shapes.push(Scan { to: Some(first), ..whole });
        }
        for scan in shapes {
            for scan in [scan.clone(), Scan { descending: true, ..scan }] {
                let plan = tables.explain(std::slice::from_ref(&scan)).await.unwrap();
                assert!(plan.contains("Index Scan"), "{scan:?}\n{plan}");
                for bad in ["Seq Scan", "Sort", "Bitmap", "Rows Removed by Filter", "Hash"] {
                    assert!(!plan.contains(bad), "{bad} in {scan:?}\n{plan}");
                }
            }
        }
    }
    let of_unit = |n: u64| Scan::by_index(ROOM.name, "by_place", vec![text(&format!("U{n}"))]);
    let plan = tables.explain(&(0..40).map(of_unit).collect::<Vec<_>>()).await.unwrap();
    assert!(
        plan.contains("Nested Loop") && plan.contains("Index Scan") && plan.contains("loops=40"),
        "{plan}"
    );
    for bad in ["Seq Scan", "Sort", "Bitmap", "Rows Removed by Filter", "Hash"] {
        assert!(!plan.contains(bad), "{bad} in\n{plan}");
    }
    // The other statements, by what the server counts: gets, expectations, puts, deletes and counts read no table.
    for n in 0..20u64 {
        let row = tables.read(&at(n)).await.unwrap().concat().remove(0);
        let batch = Batch {
            expects: vec![expect(&ROOM, vec![id(n)], Some(row.t)), expect(&ROOM, vec![id(n + ROWS)], None)],
            writes: vec![put(&ROOM, room(n, "3W", None)), delete(&ROOM, vec![id(ROWS - 1 - n)])],
            ..Batch::default()
        };
        tables.commit(batch).await.unwrap();
    }
    tables.count(&Scan::by_index(ROOM.name, "by_place", vec![text("U7")]), 100).await.unwrap();
    tables.close().await;
    let client = raw(&server.url()).await;
    let sql = "SELECT coalesce(seq_tup_read, 0)::int8, coalesce(idx_scan, 0)::int8 FROM pg_stat_user_tables WHERE schemaname = $1 AND relname = $2";
    let mut counted = (i64::MAX, 0_i64);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await; // the server counts when its process ends
        let row = client.query_one(sql, &[&schema, &ROOM.name]).await.unwrap();
        counted = (row.get(0), row.get(1));
        if counted.1 > 80 {
            break;
        }
    }
    assert!(counted.1 > 80, "the counts do not come: {counted:?}");
    assert!(counted.0 < 1_000, "{} rows were read by scanning the table", counted.0);
}

/// At 100,000 rows a query drives from what it is told to and asks of each subject what it is told to: no table is read
/// whole, and no check reads more than the rows of its subject.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_of_queries_walk_indexes() {
    const PEOPLE: u64 = 10_000;
    let server = Server::shared();
    let config = PostgresConfig::new(server.url(), server.fresh_schema());
    let tables = Postgres::open(config, &TABLES).await.unwrap();
    let fact = |kind: i64, value: String, who: u64| {
        put(
            &FACT,
            vec![
                Value::Int(kind),
                text(&value),
                id(who),
                Value::ThisCommit,
                Value::Null,
                Value::Int(who as i64 % 9),
            ],
        )
    };
    for part in 0..10 {
        let of = |who: u64| {
            let mut rows: Vec<Write> =
                (0..9).map(|kind| fact(kind, format!("{}", (who * 7 + kind as u64) % 500), who)).collect();
            rows.push(put(&REFERS, vec![Value::Int(1), id(who), id(who / 3)]));
            rows
        };
        tables
            .commit(writes((part * PEOPLE / 10..(part + 1) * PEOPLE / 10).flat_map(of).collect()))
            .await
            .unwrap();
    }
    let kind = |kind: i64| Term::Is(Value::Int(kind));
    let seven = || Probe::by_key(FACT.name, vec![kind(3), Term::Is(text("7"))]);
    let of_one = |value: &str| Probe {
        from: Some(text(value)),
        ..Probe::by_index(FACT.name, "by_who", vec![kind(4), Term::Subject])
    };
    let back = || Probe::by_index(REFERS.name, "by_whom", vec![kind(1), Term::Subject]);
    let to = || Probe::by_key(REFERS.name, vec![kind(1), Term::Subject]);
    let from = || Query { limit: 20, ..Query::new(Source::Walk { probe: seven(), subject: "who" }) };
    let of = |column| Key::Of {
        probe: Probe::by_index(FACT.name, "by_who", vec![kind(5), Term::Subject]),
        column,
    };
    let by = |key| Query { sort: vec![Sort { key, descending: true }], ..from() };
    let each = |probe, subject| Check::Each { probe, subject, check: Box::new(Check::Has(of_one("3"))) };
    // Ten thousand subjects: met in their order, so a page stops.
    let in_order = || Probe::by_index(FACT.name, "by_who", vec![kind(3)]);
    let all = || Query { from: Source::Walk { probe: in_order(), subject: "who" }, ..from() };
    let of_values = || Term::In((7..10).map(|n| text(&format!("{n}"))).collect());
    let walk_of =
        |term| Source::Walk { probe: Probe::by_key(FACT.name, vec![kind(3), term]), subject: "who" };
    let now = || {
        vec![
            Keep { column: "from_t", test: Test::AtMost(Value::ThisSnapshot) },
            Keep { column: "to_t", test: Test::AbsentOrAbove(Value::ThisSnapshot) },
        ]
    };
    let two_kinds = || Query {
        from: Source::Walk {
            probe: Probe {
                keep: now(),
                ..Probe::by_index(FACT.name, "by_who", vec![Term::In(vec![Value::Int(3), Value::Int(4)])])
            },
            subject: "who",
        },
        checks: vec![Check::Has(of_one("2"))],
        ..from()
    };
    let several = |source| Query { from: source, ..from() };
    let first = |term| Probe::by_key(FACT.name, vec![kind(4), term, Term::Subject]);
    let last = |term| Probe::by_index(FACT.name, "by_who", vec![kind(4), Term::Subject, term]);
    let queries = [
        ("one", from()),
        ("the first of many", all()),
        ("the next ones", Query { after: Some(vec![id(5_000)]), ..all() }),
        ("the last ones", Query { reversed: true, ..all() }),
        ("those before", Query { reversed: true, after: Some(vec![id(5_000)]), ..all() }),
        ("one of several", several(walk_of(of_values()))),
        (
            "one of several, from the middle",
            Query { after: Some(vec![id(5_000)]), ..several(walk_of(of_values())) },
        ),
        ("one of two kinds", two_kinds()),
        ("one of two kinds, the last ones", Query { reversed: true, ..two_kinds() }),
        ("who has one of several", Query { checks: vec![Check::Has(first(of_values()))], ..from() }),
        ("who, and one of several", Query { checks: vec![Check::Has(last(of_values()))], ..from() }),
        (
            "of many, who now",
            Query {
                from: Source::Walk { probe: Probe { keep: now(), ..in_order() }, subject: "who" },
                ..all()
            },
        ),
        ("of many, who also", Query { checks: vec![Check::Has(of_one("2"))], ..all() }),
        (
            "and another",
            Query {
                checks: vec![Check::Has(of_one("2")), Check::Not(Box::new(Check::Has(of_one("9"))))],
                ..from()
            },
        ),
        ("sorted", by(of("value"))),
        // An index of another order has the column, too.
        ("sorted by another column", by(of("rank"))),
        (
            "sorted by what they refer to",
            by(Key::Through { probe: to(), subject: "whom", key: Box::new(of("value")) }),
        ),
        ("a chain", Query { checks: vec![each(to(), "whom")], ..from() }),
        ("the other way", Query { checks: vec![each(back(), "who")], ..from() }),
        (
            "driven through",
            Query::new(Source::Follow { of: Box::new(from().from), probe: back(), subject: "who" }),
        ),
        (
            "any",
            Query::new(Source::Any(vec![
                from().from,
                Source::Follow { of: Box::new(from().from), probe: to(), subject: "whom" },
            ])),
        ),
    ];
    for (why, query) in queries {
        assert!(!tables.query(&query).await.unwrap().found.is_empty(), "{why}");
        let plan = tables.explain_query(&query).await.unwrap();
        for bad in ["Seq Scan", "Bitmap", "Hash", "Merge Join"] {
            assert!(!plan.contains(bad), "{why}: {bad} in\n{plan}");
        }
        assert!(!plan.contains("by_rank"), "{why}: an index that nobody named, in\n{plan}");
        let is_ordered = !why.starts_with("sorted") && !["driven through", "any"].contains(&why);
        assert!(!is_ordered || !plan.contains("Sort  ("), "{why}: a sort in\n{plan}");
        for line in plan.lines().filter(|line| line.contains("Scan using") || line.contains("Rows Removed")) {
            let rows = line.split_once("(actual rows=").map_or(line, |(_, rest)| rest);
            let rows: String =
                rows.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
            assert!(rows.parse::<u64>().unwrap() <= 60, "{why}: {line} in\n{plan}");
        }
    }
    tables.close().await;
}

/// A query that nobody waits for is over at the server as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_waits_for_is_called_off() {
    let server = Server::shared();
    let config = PostgresConfig::new(server.url(), server.fresh_schema());
    let tables = Postgres::open(config.clone(), &TABLES).await.unwrap();
    let (rows, _, costly) = crate::queries::a_costly_one();
    tables.commit(writes(rows)).await.unwrap();
    let operator = raw(&config.url).await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() \
               AND position($1 IN query) > 0";
    let active = async || operator.query_one(sql, &[&config.schema]).await.unwrap().get::<_, i64>(0);
    let asked = tables.clone();
    let asking = tokio::spawn(async move { asked.query(&costly).await });
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if active().await == 1 {
            break;
        }
    }
    assert_eq!(active().await, 1, "it runs");
    asking.abort();
    for _ in 0..100 {
        if active().await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it runs on");
}

/// Processes that start at once make the schema one after the other, and all of them work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_open_at_once() {
    let server = Server::shared();
    let schema = server.fresh_schema();
    let opened = (0..4).map(|_| Postgres::open(PostgresConfig::new(server.url(), &schema), &TABLES));
    let opened = futures::future::try_join_all(opened).await.unwrap();
    let ts =
        futures::future::try_join_all(opened.iter().zip(0..).map(|(tables, n)| tables.commit(both(n)))).await;
    let mut ts = ts.unwrap();
    ts.sort();
    assert_eq!(ts, [Seq(1), Seq(2), Seq(3), Seq(4)]);
    assert_eq!(opened[0].count(&Scan::by_key(ROOM.name, vec![]), 100).await.unwrap(), 4);
}

/// A row that the server cannot take fails alone: batches that flew with it are made, and the error holds no value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_refuses_falls_alone() {
    let server = Server::shared();
    let config = PostgresConfig::new(server.url(), server.fresh_schema());
    let tables = Postgres::open(config.clone(), &TABLES).await.unwrap();
    let sql = format!("ALTER TABLE {}.sample_pair ADD CHECK (\"order\" <> 'hong')", config.schema);
    raw(&server.url()).await.batch_execute(&sql).await.unwrap();
    let calls = (0..20).map(|n| {
        let order = if n == 7 { "hong" } else { "fine" };
        tables.commit(writes(vec![put(&PAIR, pair("a", n, order)), put(&PAIR, pair("b", n, "fine"))]))
    });
    for (n, answer) in futures::future::join_all(calls).await.into_iter().enumerate() {
        match answer {
            Ok(_) => assert_ne!(n, 7),
            Err(error) => {
                assert_eq!(n, 7, "{error}");
                // The batch's fault and not the server's: whoever made it must not try it for ever.
                assert!(matches!(error, TablesError::Shape { .. }), "{error:?}");
                assert!(
                    error.to_string().contains("23514") && !error.to_string().contains("hong"),
                    "{error}"
                );
            }
        }
    }
    assert_eq!(tables.count(&Scan::by_key(PAIR.name, vec![]), 100).await.unwrap(), 38);
}

/// An operator ends the connection in mid-flight: nothing is half there, the caller is told, the next call works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_connection_is_asked_about() {
    let proxy = Proxy::start(Server::shared().port()).await;
    let tables = through(&proxy).await;
    tables.commit(both(1)).await.unwrap();
    proxy.arm(Mode::HoldTheEnd);
    let held = tokio::spawn({
        let tables = tables.clone();
        async move { tables.commit(both(2)).await }
    });
    proxy.reached().await;
    let operator = raw(&Server::shared().url()).await;
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks \
               WHERE relation = $1::text::regclass AND mode = 'RowExclusiveLock'";
    let counter = format!("{}.hilum_counter", tables.schema());
    let ended: i64 = operator.query_one(sql, &[&counter]).await.unwrap().get(0);
    assert_eq!(ended, 1);
    proxy.release();
    let answer = held.await.unwrap();
    assert!(matches!(&answer, Err(error) if error.kind() == Kind::Transient), "{answer:?}");
    assert_eq!(there(&tables, 2).await, 0);
    tables.commit(both(2)).await.unwrap();
    assert_eq!(there(&tables, 2).await, 2);
}

/// Another session holds the counter row for a while: commits wait for it and are made then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_wait_for_the_counter() {
    let server = Server::shared();
    let schema = server.fresh_schema();
    let tables = Postgres::open(PostgresConfig::new(server.url(), &schema), &TABLES).await.unwrap();
    let other = raw(&server.url()).await;
    other.batch_execute(&format!("BEGIN; UPDATE {schema}.hilum_counter SET t = t + 5")).await.unwrap();
    let waiting = tokio::spawn({
        let tables = tables.clone();
        async move { tables.commit(both(1)).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Seq(6));
}

/// A process that can do without its tables starts without them: each call gives the engine's error until the server
/// answers, then they are as any others. What can never fit is said at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_opened_as_soon_as_the_server_answers() {
    let server = Server::start(&[]);
    let schema = server.fresh_schema();
    let config = || PostgresConfig::new(server.url(), schema.clone());
    server.kill();
    let patience = Duration::from_millis(500);
    assert!(Postgres::open(config(), &TABLES).await.is_err(), "others do not start without it");
    let tables = Postgres::open_later(config(), &TABLES, patience).await.unwrap();
    assert!(matches!(tables.commit(both(1)).await, Err(TablesError::Engine(_))));
    assert!(matches!(tables.now().await, Err(TablesError::Engine(_))));
    assert_eq!(tables.ready().await.unwrap_err().kind(), Kind::Transient);
    assert!(tables.describe().contains("not open yet"), "{}", tables.describe());
    server.restart();
    tokio::time::timeout(Duration::from_secs(30), tables.wait_open()).await.expect("opened by itself");
    tables.commit(both(1)).await.unwrap();
    assert_eq!(there(&tables, 1).await, 2);
    assert!(tables.describe().contains("fsync"), "{}", tables.describe());
    // It goes once more: from now on calls speak for themselves, and find it again.
    server.kill();
    assert!(matches!(tables.now().await, Err(TablesError::Engine(_))));
    server.restart();
    tables.commit(both(2)).await.unwrap();
    tables.close().await;
    let newer = raw(&server.url()).await;
    newer.batch_execute(&format!("UPDATE {schema}.hilum_version SET version = 99")).await.unwrap();
    let refused = Postgres::open(config(), &TABLES).await;
    assert!(matches!(refused, Err(TablesError::Newer { stored: 99, .. })), "{refused:?}");
    // Who can do without goes on, and says why.
    let later = Postgres::open_later(config(), &TABLES, Duration::from_secs(30)).await.unwrap();
    assert!(
        later.ready().await.is_err() && later.describe().contains("not open yet"),
        "{}",
        later.describe()
    );
    newer.batch_execute(&format!("UPDATE {schema}.hilum_version SET version = 1")).await.unwrap();
    later.close().await;
}

/// A table that cannot be brought to its declaration is refused, and made anew only for who computes it anew: with all
/// that its projection keeps, and how far it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_do_not_fit_are_made_anew_for_a_rebuild_alone() {
    static BEFORE: Table = Table {
        name: "anew_a",
        key_len: 1,
        columns: &[Column::new("k", Type::Int)],
        indexes: &[],
        register: None,
    };
    static AFTER: Table = Table {
        columns: &[Column::new("k", Type::Int), Column::new("new", Type::Text)],
        ..Table { name: "anew_a", key_len: 1, columns: &[], indexes: &[], register: None }
    };
    static OTHER: Table = Table { name: "anew_b", ..BEFORE_LIKE };
    const BEFORE_LIKE: Table =
        Table { name: "", key_len: 1, columns: &[Column::new("k", Type::Int)], indexes: &[], register: None };
    static KEPT: Table = Table { name: "anew_kept", ..BEFORE_LIKE };
    static OF_PROJECTION: [&Table; 2] = [&AFTER, &OTHER];
    let server = Server::shared();
    let config = PostgresConfig::new(server.url(), server.fresh_schema());
    let tables = Postgres::open(config.clone(), &[&BEFORE, &OTHER, &KEPT]).await.unwrap();
    let epoch = Epoch(uuid::Uuid::from_u128(1));
    let offset = OffsetMove {
        projection: "p",
        stream: Stream::Hl7In,
        partition: 0,
        epoch,
        from: 0,
        to: 7,
        last: None,
    };
    let writes = [&BEFORE, &OTHER, &KEPT].map(|table| put(table, vec![Value::Int(1)])).to_vec();
    tables.commit(Batch { writes, offset: Some(offset), ..Batch::default() }).await.unwrap();
    tables.close().await;

    let now = [&AFTER, &OTHER, &KEPT];
    let refused = Postgres::open(config.clone(), &now).await.unwrap_err();
    assert!(matches!(&refused, TablesError::Shape { table, .. } if table == "anew_a"), "{refused:?}");
    let anew = Some(Anew { projection: "p", tables: &OF_PROJECTION });
    let tables = Postgres::open(PostgresConfig { anew, ..config.clone() }, &now).await.unwrap();
    let count = async |table: &Table| {
        tables.read(&[Read::Scan(Scan::by_key(table.name, vec![]))]).await.unwrap()[0].len()
    };
    assert_eq!((count(&AFTER).await, count(&OTHER).await, count(&KEPT).await), (0, 0, 1));
    assert_eq!(tables.applied("p", Stream::Hl7In, 0, epoch).await.unwrap().next, 0);
    tables.close().await;
    // What fits is left alone.
    let tables = Postgres::open(PostgresConfig { anew, ..config }, &now).await.unwrap();
    tables
        .commit(Batch { writes: vec![put(&OTHER, vec![Value::Int(2)])], ..Batch::default() })
        .await
        .unwrap();
}

/// Older tables under processes that have seen later commits (a backup was restored, a standby took over): no `t` names
/// two commits, whoever reads changes is told to read all anew, and no lease gets a token that was given before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_went_back_go_on_behind_what_was_seen() {
    let server = Server::shared();
    let config = PostgresConfig::new(server.url(), server.fresh_schema());
    let (one, other) = (
        Postgres::open(config.clone(), &TABLES).await.unwrap(),
        Postgres::open(config.clone(), &TABLES).await.unwrap(),
    );
    for n in 1..=10 {
        one.commit(both(n)).await.unwrap();
    }
    let seen = one.now().await.unwrap();
    assert_eq!((seen, other.now().await.unwrap()), (Seq(10), Seq(10)));
    let (now, until) = (hilum_core::Timestamp::from_micros(1_000), hilum_core::Timestamp::from_micros(2_000));
    for _ in 0..2 {
        // Twice run out and taken anew.
        one.lease("relay", "one", now, now).await.unwrap();
    }
    let given = one.lease("relay", "one", now, until).await.unwrap().unwrap();

    let s = &config.schema;
    let restore = format!(
        "DELETE FROM {s}.hilum_outbox WHERE t > 4; UPDATE {s}.hilum_counter SET t = 4; DELETE FROM {s}.hilum_writer; \
         UPDATE {s}.hilum_lease SET token = 1; DELETE FROM {s}.{} WHERE t_ > 4; DELETE FROM {s}.{} WHERE t_ > 4",
        ROOM.name, PAIR.name
    );
    let operator = raw(&server.url()).await;
    operator.batch_execute(&restore).await.unwrap();
    // The writer's row is gone: what it is at fails, and nothing of it is written.
    let lost = one.commit(both(11)).await;
    assert!(matches!(&lost, Err(error) if error.kind() == Kind::Transient), "{lost:?}");
    let t = one.commit(both(11)).await.unwrap();
    assert!(t > seen, "{t} was given before");
    let back = one.went_back().borrow().unwrap();
    assert_eq!((back.from, back.to), (seen, Seq(4)));
    for tables in [&one, &other] {
        for after in [Seq(3), Seq(7), seen] {
            let told = tables.changes(after, 100).await;
            assert!(
                matches!(told, Err(TablesError::Pruned { oldest }) if oldest > seen),
                "{after}: {told:?}"
            );
        }
    }
    let next = other.lease("relay", "other", now, until).await.unwrap().unwrap();
    assert!(next > given, "{next:?} after {given:?}");

    // The other one had not seen as much: it hears of it all the same.
    let seen = other.now().await.unwrap();
    assert_eq!(*other.went_back().borrow(), Some(back));
    // Once more while nobody writes: who looks finds it. And by what was noted, when nobody looked.
    operator.batch_execute(&restore).await.unwrap();
    assert!(other.now().await.unwrap() > seen);
    assert!(other.went_back().borrow().is_some_and(|again| again.from == seen));
    let seen = other.now().await.unwrap();
    one.close().await;
    other.close().await;
    operator.batch_execute(&restore).await.unwrap();
    let noted = Postgres::open(PostgresConfig { seen, ..config.clone() }, &TABLES).await.unwrap();
    assert!(noted.now().await.unwrap() > seen);
    assert_eq!(there(&noted, 3).await, 2, "what was there stays");
    assert_eq!(there(&noted, 11).await, 0);
}

/// A server that lacks the tables is none of ours: nothing is made there by whoever has seen them, running or starting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_are_gone_are_not_made_anew() {
    let server = Server::shared();
    let config = PostgresConfig::new(server.url(), server.fresh_schema());
    let tables = Postgres::open(config.clone(), &TABLES).await.unwrap();
    tables.commit(both(1)).await.unwrap();
    let operator = raw(&server.url()).await;
    operator.batch_execute(&format!("DROP SCHEMA {} CASCADE", config.schema)).await.unwrap();
    let is_gone = |answer: Result<(), TablesError>| match answer {
        Err(error @ TablesError::Gone { .. }) => {
            assert_eq!(error.kind(), Kind::Transient, "paused, not poison");
            assert!(
                error.to_string().contains("tables.url") && error.to_string().contains("rebuild chart"),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    };
    is_gone(tables.now().await.map(drop));
    is_gone(tables.read(&[get(&ROOM, vec![id(1)])]).await.map(drop));
    is_gone(tables.commit(both(2)).await.map(drop));
    let seen = Seq(1);
    let starting = || PostgresConfig { seen, ..config.clone() };
    is_gone(Postgres::open(starting(), &TABLES).await.map(drop));
    let later = Postgres::open_later(starting(), &TABLES, Duration::from_secs(30)).await.unwrap();
    is_gone(later.now().await.map(drop));
    let sql = "SELECT count(*) FROM pg_namespace WHERE nspname = $1";
    let count: i64 = operator.query_one(sql, &[&config.schema]).await.unwrap().get(0);
    assert_eq!(count, 0, "nobody made it");
    // Somebody who never saw them makes empty ones: they are not the ones that were there either.
    let new = Postgres::open(config.clone(), &TABLES).await.unwrap();
    is_gone(tables.now().await.map(drop));
    is_gone(Postgres::open(starting(), &TABLES).await.map(drop));
    new.commit(both(1)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), later.wait_open()).await.expect("goes on by itself");
}

/// A process's clock that is an hour off, either way, or the server's that goes back by an hour: nobody waits an hour for
/// a lease, and nobody takes one that runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_clock_that_jumps_keeps_a_lease_or_takes_one() {
    const HOUR: i64 = 3_600_000_000;
    let server = Server::shared();
    let config = PostgresConfig::new(server.url(), server.fresh_schema());
    let tables = Postgres::open(config.clone(), &TABLES).await.unwrap();
    let at = |micros: i64| hilum_core::Timestamp::from_micros(1_800_000_000_000_000 + micros);
    let take = async |holder: &str, off: i64, seconds: i64| {
        let now = at(off);
        tables.lease("relay", holder, now, now.plus_micros(seconds * 1_000_000)).await.unwrap()
    };
    let mut last = None;
    for off in [HOUR, -HOUR] {
        let first = take("off", off, 60).await.expect("it is free");
        assert!(take("right", 0, 60).await.is_none(), "it runs");
        assert_eq!(take("off", -off, 60).await, Some(first), "its clock jumps: it is renewed all the same");
        assert!(take("right", 0, 0).await.is_none(), "nor given back by another one");
        // Given back, at once.
        take("off", off, 0).await;
        let second = take("right", 0, 60).await.expect("not in an hour");
        assert!(second > first && last < Some(first), "{last:?} {first:?} {second:?}");
        assert!(take("off", off, 60).await.is_none(), "it runs for the other one");
        take("right", 0, 0).await;
        last = Some(second);
    }
    take("right", 0, 60).await.expect("it is free");
    let operator = raw(&server.url()).await;
    let back = |micros: i64| format!("UPDATE {}.hilum_lease SET until = until + {micros}", config.schema);
    operator.batch_execute(&back(100_000_000)).await.unwrap();
    assert!(take("off", 0, 60).await.is_none(), "the server's clock was set by a moment: it runs");
    operator.batch_execute(&back(HOUR)).await.unwrap();
    let next = take("off", 0, 60).await.expect("the server's clock went back");
    assert!(Some(next) > last);
}
