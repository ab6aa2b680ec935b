//! What the embedded engine's file promises beyond the contract.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hilum_core::{ContentType, Entropy, Envelope, Kind, RecordId, Stream, Timestamp};
use hilum_engines::log::embedded::{Embedded, Options};
use hilum_engines::log::{Log, LogError};
use hilum_testkit::disk::{self, Gate};

use crate::sample::{ALL, START, bodies, envelope, hl7, ticking};

fn open_with(path: &Path, options: Options) -> Result<Log, LogError> {
    Embedded::open(path, ticking(), Entropy::seeded(1), options).map(Log::Embedded)
}

fn open(path: &Path) -> Log {
    open_with(path, Options { disk_reserve_ratio: 0.0, ..Options::default() }).expect("opens")
}

/// Stops the writer inside a commit until it is let go.
fn shut() -> (Gate, Options) {
    let (gate, fault) = Gate::shut();
    (gate, Options { disk_reserve_ratio: 0.0, fault: Some(fault), ..Options::default() })
}

#[tokio::test]
async fn a_full_queue_makes_append_wait_and_ready_refuse() {
    let dir = tempfile::tempdir().expect("a folder");
    let (gate, options) = shut();
    let log = open_with(&dir.path().join("log.sqlite"), Options { queue_bytes_max: 20_000, ..options })
        .expect("opens");
    let append = |n| {
        let log = log.clone();
        tokio::spawn(async move { log.append(envelope(Stream::Hl7In, n, vec![1; 9_000])).await })
    };
    let mut tasks = vec![append(1), append(2)];
    while log.health().queue_bytes < 18_000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(log.ready(500).is_ok(), "what fits is taken");
    assert!(matches!(log.ready(9_000), Err(LogError::Full(_))));
    tasks.push(append(3));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(tasks.iter().all(|task| !task.is_finished()), "nothing is acknowledged before it is durable");
    assert!(log.health().queue_bytes <= 20_000);
    gate.open();
    for task in tasks {
        task.await.expect("joins").expect("durable after all");
    }
    assert_eq!(log.health().queue_bytes, 0);
    assert!(log.ready(9_000).is_ok());
}

#[tokio::test]
async fn what_waits_when_it_closes_is_written_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log.sqlite");
    let (gate, options) = shut();
    let log = open_with(&path, options).expect("opens");
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let log = log.clone();
            tokio::spawn(async move { log.append(hl7(n)).await })
        })
        .collect();
    while log.health().queue_bytes < 50 * 300 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let closing = tokio::spawn({
        let log = log.clone();
        async move { log.close().await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    gate.open();
    closing.await.expect("closes");
    for task in tasks {
        task.await.expect("joins").expect("acknowledged");
    }
    let log = open(&path);
    let mut ends = 0;
    for partition in 0..log.partitions(Stream::Hl7In) {
        ends += log.end(Stream::Hl7In, partition).await.expect("end");
    }
    assert_eq!(ends, 50);
}

#[tokio::test]
async fn a_disk_error_refuses_the_group_and_all_after_it_and_is_never_retried() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log.sqlite");
    let broken = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicI64::new(0));
    let fault = {
        let (broken, asked) = (Arc::clone(&broken), Arc::clone(&asked));
        move |_: &str| -> io::Result<()> {
            asked.fetch_add(1, Ordering::Relaxed);
            if broken.load(Ordering::Acquire) { Err(io::Error::other("EIO")) } else { Ok(()) }
        }
    };
    let options = Options { disk_reserve_ratio: 0.0, fault: Some(Arc::new(fault)), ..Options::default() };
    let log = open_with(&path, options).expect("opens");
    let kept = log.append(hl7(1)).await.expect("appends");
    broken.store(true, Ordering::Release);
    let group = futures::future::join_all((0..10).map(|_| log.append(hl7(1)))).await;
    assert!(group.iter().all(|answer| matches!(answer, Err(LogError::ReadOnly(_)))), "{group:?}");
    broken.store(false, Ordering::Release);
    let tries = asked.load(Ordering::Relaxed);
    assert!(
        matches!(log.append(hl7(1)).await, Err(LogError::ReadOnly(_))),
        "read-only although the disk is well"
    );
    assert!(matches!(log.ready(1), Err(LogError::ReadOnly(_))));
    assert!(log.health().read_only.is_some_and(|why| why.contains("EIO")));
    assert_eq!(
        bodies(&log, Stream::Hl7In, kept.partition).await.len(),
        1,
        "what was acknowledged is still read"
    );
    log.close().await;
    assert_eq!(asked.load(Ordering::Relaxed), tries, "neither a commit nor a checkpoint is tried again");

    let log = open(&path);
    assert_eq!(bodies(&log, Stream::Hl7In, kept.partition).await.len(), 1);
    log.append(hl7(1)).await.expect("a restart accepts again");
}

#[tokio::test]
async fn somebody_elses_open_write_refuses_for_as_long_as_it_lasts() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log.sqlite");
    let log = open(&path);
    log.append(hl7(1)).await.expect("appends");
    let other = rusqlite::Connection::open(&path).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("begins");
    let refused = log.append(hl7(2)).await.expect_err("held up");
    assert!(matches!(refused, LogError::Engine(_)) && refused.kind() == Kind::Transient, "{refused:?}");
    assert_eq!(log.health().read_only, None);
    other.execute_batch("ROLLBACK").expect("ends");
    log.look().await;
    assert_eq!(log.health().held, None, "it is seen to be over though nobody appends");
    other.execute_batch("BEGIN IMMEDIATE").expect("begins");
    log.look().await;
    assert!(log.health().held.is_some_and(|why| why.contains("another process")), "nor does anybody now");
    other.execute_batch("ROLLBACK").expect("ends");
    let kept = log.append(hl7(2)).await.expect("no restart is needed");
    assert!(!bodies(&log, Stream::Hl7In, kept.partition).await.is_empty());
}

#[tokio::test]
async fn the_disk_reserve_refuses_for_as_long_as_it_is_reached() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = Options { disk_reserve_ratio: 1.1, ..Options::default() };
    let log = open_with(&dir.path().join("log.sqlite"), options).expect("opens");
    assert!(matches!(log.append(hl7(1)).await, Err(LogError::Full(_))));
    assert!(matches!(log.ready(1), Err(LogError::Full(_))));
    let health = log.health();
    assert!(health.full.is_some() && health.read_only.is_none(), "{health:?}");
}

#[tokio::test]
async fn a_second_opener_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log.sqlite");
    let log = open(&path);
    let second = open_with(&path, Options::default()).expect_err("in use");
    assert!(
        matches!(second, LogError::InUse { .. }) && second.to_string().contains("log.sqlite"),
        "{second}"
    );
    log.append(hl7(1)).await.expect("the first one goes on");
    drop(log);
    open(&path).append(hl7(1)).await.expect("free again");
}

#[tokio::test]
async fn what_is_no_log_of_ours_is_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("other.sqlite");
    rusqlite::Connection::open(&path)
        .and_then(|c| c.execute_batch("CREATE TABLE x (y)"))
        .expect("another database");
    assert!(open_with(&path, Options::default()).is_err());
    let newer = dir.path().join("newer.sqlite");
    open(&newer).close().await;
    rusqlite::Connection::open(&newer)
        .and_then(|c| c.execute_batch("PRAGMA user_version = 3"))
        .expect("a newer log");
    let refused = open_with(&newer, Options::default()).expect_err("newer");
    assert!(refused.to_string().contains("format 3"), "{refused}");
}

#[tokio::test]
async fn a_flipped_bit_is_found_and_only_its_place_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let cases = [
        ("body", "body = CAST('MSH|^~\\&|Kim' AS BLOB)"),
        ("header", "header = replace(header, '\"received\":17', '\"received\":18')"),
        ("header that is no JSON", "header = 'Kim'"),
        ("body of another type", "body = zeroblob(0)"),
        ("seal", "seal = seal + 1"),
        ("a record that is gone", "\"offset\" = 1000"),
    ];
    for (why, damage) in cases {
        let path = dir.path().join(format!("{why}.sqlite"));
        let log = open(&path);
        for _ in 0..3 {
            log.append(hl7(1)).await.expect("appends");
        }
        log.close().await;
        let changed = rusqlite::Connection::open(&path)
            .and_then(|c| c.execute(&format!("UPDATE record_hl7_in_1 SET {damage} WHERE \"offset\" = 1"), []))
            .expect("damages");
        assert_eq!(changed, 1, "{why}");
        let log = open(&path);
        let before = log.read(Stream::Hl7In, 1, 0, ALL).await.expect("what stands before it");
        assert_eq!(before.len(), 1, "{why}");
        let refused = log.read(Stream::Hl7In, 1, 1, ALL).await.expect_err(why);
        let LogError::Corrupt { position, .. } = &refused else { panic!("{why}: {refused:?}") };
        assert_eq!(position.to_string(), "hl7.in/1/1", "{why}");
        assert!(!format!("{refused} {refused:?}").contains("Kim"), "{why}: {refused}");
        let behind = log.read(Stream::Hl7In, 1, 2, ALL).await.expect("what stands behind it");
        assert_eq!(behind.len(), 1, "{why}");
    }
}

#[tokio::test]
async fn a_record_that_was_misread_is_read_from_the_file_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log.sqlite");
    let log = open(&path);
    log.append(hl7(1)).await.expect("appends");
    log.close().await;
    drop(log);
    let places = disk::flip_bit(&path, b"MSH|^~");
    let log = open(&path);
    let read = async || log.read(Stream::Hl7In, 1, 0, ALL).await;
    assert!(matches!(read().await, Err(LogError::Corrupt { .. })));
    disk::flip_bits_at(&path, &places);
    assert_eq!(read().await.expect("not what a cache remembers").len(), 1);
}

#[tokio::test]
async fn a_damaged_page_is_an_error_of_its_place_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log.sqlite");
    let log = open(&path);
    for _ in 0..400 {
        log.append(envelope(Stream::Hl7In, 1, vec![b'x'; 1_000])).await.expect("appends");
    }
    log.close().await;
    let mut file = std::fs::read(&path).expect("reads");
    let page = file.len() / 8_192 / 2 * 8_192;
    file[page..page + 8_192].fill(0xff);
    std::fs::write(&path, file).expect("writes");
    let log = open(&path);
    let mut next = 0;
    let mut corrupt = 0;
    while next < log.end(Stream::Hl7In, 1).await.expect("end") {
        match log.read(Stream::Hl7In, 1, next, ALL).await {
            Ok(records) => next += records.len() as u64,
            Err(LogError::Corrupt { position, .. }) => {
                assert_eq!(position.offset, next);
                corrupt += 1;
                next += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!((1..20).contains(&corrupt), "{corrupt} records of one page");
}

#[tokio::test]
async fn a_damaged_table_of_groups_costs_no_record() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log.sqlite");
    let log = open(&path);
    for _ in 0..3 {
        log.append(hl7(1)).await.expect("appends");
    }
    log.close().await;
    let root: u32 = rusqlite::Connection::open(&path)
        .and_then(|c| {
            c.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'groups'", [], |row| row.get(0))
        })
        .expect("its page");
    // Opened first: it is the file under a running server that is damaged.
    let log = open(&path);
    let mut file = std::fs::read(&path).expect("reads");
    let root = root as usize * 8_192;
    file[root - 8_192..root].fill(0xff);
    std::fs::write(&path, file).expect("writes");
    for offset in 0..3 {
        let records = log.read(Stream::Hl7In, 1, offset, ALL).await.expect("the record itself is whole");
        assert_eq!((records[0].position.offset, records[0].durable), (offset, None));
    }
}

#[tokio::test]
async fn the_stored_form_of_version_1_is_read_for_ever() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/envelope-v1.json");
    let body = b"MSH|^~\\&|ADT1|GOOD HEALTH HOSPITAL\r".to_vec();
    let mut whole = envelope(Stream::Hl7In, 0x0102_0304_0506_0708, body.clone());
    whole.charset_rule = Some("msh-18".to_owned());
    whole.replaces = Some(RecordId::new(Timestamp::from_micros(START - 1_000_000), [9; 10]));
    whole.cipher_key = Some(1);
    whole.trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let mut least = whole.clone();
    least.stream = Stream::Decisions;
    least.content_type = ContentType::Decision;
    (least.peer, least.charset_rule, least.replaces, least.cipher_key, least.trace) =
        (None, None, None, None, None);
    let mut unicode = least.clone();
    unicode.content_type = ContentType::Hl7v2Unicode;

    // One header per line, so that a line is what the file holds byte for byte.
    let stored = std::fs::read_to_string(&golden).expect("the golden file");
    let lines: Vec<&str> = stored.lines().collect();
    assert_eq!(lines.len(), 3);
    for (line, want) in lines.iter().zip([&whole, &least, &unicode]) {
        assert_eq!(&serde_json::to_string(want).expect("JSON"), line, "written as ever");
        let mut read: Envelope = serde_json::from_str(line).expect("reads version 1");
        read.body = Bytes::from(body.clone());
        assert_eq!(&read, want, "read as ever");
    }

    // And the file holds exactly that.
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log.sqlite");
    let log = open(&path);
    let position = log.append(whole.clone()).await.expect("appends");
    log.close().await;
    let header: String = rusqlite::Connection::open(&path)
        .and_then(|c| {
            c.query_row(&format!("SELECT header FROM record_hl7_in_{}", position.partition), [], |row| {
                row.get(0)
            })
        })
        .expect("the stored header");
    assert_eq!(header, lines[0]);
}

/// A log with 41 records in partition 1 and one in partition 2, closed; the offset of the newest in partition 1.
async fn closed_with_41(path: &Path) -> u64 {
    let log = open(path);
    log.append(hl7(2)).await.expect("appends");
    for _ in 0..40 {
        log.append(hl7(1)).await.expect("appends");
    }
    let newest = log.append(hl7(1)).await.expect("appends");
    log.close().await;
    newest.offset
}

async fn damage_newest(path: &Path, partition: u16, offset: u64) {
    let log = open(path);
    let record = log.read(Stream::Hl7In, partition, offset, ALL).await.expect("reads").remove(0);
    log.close().await;
    drop(log);
    disk::damage_log_page(path, record.envelope.id.to_string().as_bytes());
}

/// Records of a partition that cannot be read.
async fn corrupt(log: &Log, partition: u16) -> Vec<u64> {
    let mut found = Vec::new();
    let mut next = 0;
    while next < log.end(Stream::Hl7In, partition).await.expect("end") {
        match log.read(Stream::Hl7In, partition, next, ALL).await {
            Ok(records) => next += records.len() as u64,
            Err(LogError::Corrupt { position, .. }) => {
                found.push(position.offset);
                next += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    found
}

#[tokio::test]
async fn a_partition_goes_on_behind_its_damaged_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log.sqlite");
    let newest = closed_with_41(&path).await;
    // Again and again: what goes on is damaged too.
    let mut end = newest + 1;
    for round in 1..=3 {
        damage_newest(&path, 1, end - 1).await;
        let log = open(&path);
        assert_eq!(log.end(Stream::Hl7In, 1).await.expect("is known"), end, "round {round}");
        let damaged = log.health().damaged;
        assert!(
            damaged.iter().any(|one| one.before == Some(end) && one.partition == 1),
            "round {round}: {damaged:?}"
        );
        let lost = corrupt(&log, 1).await;
        assert!(lost.contains(&(end - 1)) && lost.len() <= 40, "round {round}: {lost:?}");
        let position = log.append(hl7(1)).await.expect("goes on");
        assert_eq!(position.offset, end, "round {round}: no offset is given twice");
        let back = log.read(Stream::Hl7In, 1, end, ALL).await.expect("reads");
        assert_eq!((back.len(), back[0].position.offset), (1, end), "round {round}");
        assert_eq!(log.append(hl7(2)).await.expect("as ever").offset, round, "others are as they were");
        log.close().await;
        end += 1;
    }
    let log = open(&path);
    assert_eq!(log.end(Stream::Hl7In, 1).await.expect("is known"), end);
    assert_eq!(log.health().damaged.len(), 3, "said until a copy is restored");
}

#[tokio::test]
async fn a_partition_whose_end_nobody_knows_takes_nothing_until_it_is_settled() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log.sqlite");
    let newest = closed_with_41(&path).await;
    damage_newest(&path, 1, newest).await;
    disk::damage_log_table(&path, "groups");
    for round in ["at first", "and after a restart"] {
        let log = open(&path);
        let is_unsure =
            |why: &LogError| matches!(why, LogError::Unsure { stream: Stream::Hl7In, partition: 1 });
        let refused = log.append(hl7(1)).await.expect_err("nothing is kept there");
        assert!(is_unsure(&refused) && refused.kind() == Kind::Transient, "{round}: {refused:?}");
        assert!(is_unsure(&log.end(Stream::Hl7In, 1).await.expect_err("not known")), "{round}");
        let damaged = log.health().damaged;
        assert!(damaged.len() == 1 && damaged[0].before.is_none(), "{round}: {damaged:?}");
        log.append(hl7(2)).await.expect("others go on");
        let mut readable = 0;
        let end = loop {
            match log.read(Stream::Hl7In, 1, readable, ALL).await {
                Ok(records) => readable += records.len() as u64,
                Err(why) => break why,
            }
        };
        assert!(is_unsure(&end) && readable > 0 && readable <= newest, "{round}: {readable} are read");
        log.close().await;
    }
    // Offsets that were applied are never given again, though the records cannot be read.
    let (clock, entropy) = (ticking(), Entropy::seeded(1));
    let settled = Embedded::settle(&path, &clock, &entropy, &|_, _| newest - 1).expect("settles");
    assert_eq!(settled.len(), 1);
    assert_eq!(settled[0].offset, newest - 1);
    let log = open(&path);
    assert_eq!(log.append(hl7(1)).await.expect("goes on").offset, newest - 1);
    assert!(!corrupt(&log, 1).await.is_empty());
    log.close().await;
    drop(log);
    let nothing_to_do = Embedded::settle(&path, &clock, &entropy, &|_, _| 0).expect("settles");
    assert!(nothing_to_do.is_empty());
}

#[tokio::test]
async fn what_is_readable_behind_what_was_applied_is_kept_by_settling() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log.sqlite");
    let newest = closed_with_41(&path).await;
    damage_newest(&path, 1, newest).await;
    disk::damage_log_table(&path, "groups");
    let log = open(&path);
    let mut readable = 0;
    while let Ok(records) = log.read(Stream::Hl7In, 1, readable, ALL).await {
        readable += records.len() as u64;
    }
    log.close().await;
    drop(log);
    let settled = Embedded::settle(&path, &ticking(), &Entropy::seeded(1), &|_, _| 0).expect("settles");
    assert_eq!(settled[0].offset, readable);
    assert_eq!(corrupt(&open(&path), 1).await, Vec::<u64>::new());
}

#[tokio::test]
async fn a_newest_record_that_is_gone_leaves_its_offset_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log.sqlite");
    let newest = closed_with_41(&path).await;
    // A page that says again what it said before, as after a write that was lost.
    let gone = rusqlite::Connection::open(&path)
        .and_then(|c| c.execute("DELETE FROM record_hl7_in_1 WHERE \"offset\" = ?1", [newest as i64]))
        .expect("deletes");
    assert_eq!(gone, 1);
    for round in 1..=3 {
        let log = open(&path);
        assert_eq!(log.append(hl7(1)).await.expect("appends").offset, newest + round);
        assert_eq!(corrupt(&log, 1).await, [newest], "start {round}");
        let said: Vec<_> = log.health().damaged.iter().map(|one| (one.partition, one.before)).collect();
        assert_eq!(said, [(1, Some(newest + 1))], "start {round}: said until a copy is restored");
        log.close().await;
    }
}

#[tokio::test]
async fn a_log_from_before_ends_were_written_down_is_read_and_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    for (why, is_damaged) in [("whole", false), ("damaged before the first commit", true)] {
        let path = dir.path().join(format!("{is_damaged}.sqlite"));
        let newest = closed_with_41(&path).await;
        if is_damaged {
            damage_newest(&path, 1, newest).await;
        }
        rusqlite::Connection::open(&path)
            .and_then(|c| c.execute_batch("ALTER TABLE groups DROP COLUMN ends; PRAGMA user_version = 1"))
            .expect("as it was");
        let log = open(&path);
        let appended = log.append(hl7(1)).await;
        if is_damaged {
            assert!(matches!(appended, Err(LogError::Unsure { .. })), "{why}: {appended:?}");
            continue;
        }
        assert_eq!(appended.expect("appends").offset, newest + 1, "{why}");
        log.close().await;
        drop(log);
        damage_newest(&path, 1, newest + 1).await;
        assert_eq!(open(&path).end(Stream::Hl7In, 1).await.expect("is known by now"), newest + 2, "{why}");
    }
}

#[tokio::test]
async fn an_end_is_known_after_a_crash_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log.sqlite");
    // Given up without a close: the last group's instant is never written.
    let copy = dir.path().join("copy.sqlite");
    let log = open(&path);
    for _ in 0..41 {
        log.append(hl7(1)).await.expect("appends");
    }
    for suffix in ["", "-wal"] {
        std::fs::copy(format!("{}{suffix}", path.display()), format!("{}{suffix}", copy.display()))
            .expect("copies");
    }
    rusqlite::Connection::open(&copy)
        .and_then(|c| c.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))
        .expect("into the file");
    let record = log.read(Stream::Hl7In, 1, 40, ALL).await.expect("reads").remove(0);
    disk::damage_log_page(&copy, record.envelope.id.to_string().as_bytes());
    assert_eq!(open(&copy).end(Stream::Hl7In, 1).await.expect("is known"), 41);
}
