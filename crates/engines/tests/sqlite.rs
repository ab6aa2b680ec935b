//! What the SQLite tables do beyond the contract suite: their file, their groups, their schema, and scans against a
//! plain model.

use std::cmp::Ordering as Order;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hilum_core::{Entropy, Epoch, Id, Seq, Stream, Timestamp};
use hilum_engines::limits;
use hilum_engines::sqlite_file::SyncMode;
use hilum_engines::tables::sqlite::{Options, Place, Sqlite};
use hilum_engines::tables::{
    Batch, Column, Expect, Index, OffsetMove, Outgoing, Read, Row, Scan, Table, TablesError, Type, Value,
    Write,
};
use hilum_testkit::disk::Gate;

static ALL: Table = Table {
    name: "all_types",
    key_len: 1,
    columns: &[
        Column::new("id", Type::Id),
        Column::optional("text", Type::Text),
        Column::optional("int", Type::Int),
        Column::optional("bool", Type::Bool),
        Column::optional("time", Type::Time),
        Column::optional("seq", Type::Seq),
        Column::optional("bytes", Type::Bytes),
        Column::optional("other", Type::Id),
    ],
    indexes: &[Index { name: "by_text", columns: &["text", "int"] }],
    register: None,
};

/// Small rows: they stand in the tree of their key.
static BED: Table = Table {
    name: "bed",
    key_len: 2,
    columns: &[
        Column::new("unit", Type::Text),
        Column::new("n", Type::Int),
        Column::optional("a", Type::Int),
        Column::optional("b", Type::Text),
        Column::new("c", Type::Int),
    ],
    indexes: &[
        Index { name: "by_a_b", columns: &["a", "b"] },
        Index { name: "by_c", columns: &["c", "n"] },
        Index { name: "by_b", columns: &["b"] },
    ],
    register: None,
};

/// The same with a body: its rows stand apart from their key.
static WIDE: Table = Table {
    name: "wide",
    columns: &[
        Column::new("unit", Type::Text),
        Column::new("n", Type::Int),
        Column::optional("a", Type::Int),
        Column::optional("b", Type::Text),
        Column::new("c", Type::Int),
        Column::optional("body", Type::Bytes),
        Column::optional("body2", Type::Bytes),
    ],
    ..BED_LIKE
};
const BED_LIKE: Table = Table { name: "", key_len: 2, columns: &[], indexes: BED.indexes, register: None };

static REGISTER: Table = Table {
    name: "register",
    key_len: 1,
    columns: &[
        Column::new("id", Type::Int),
        Column::new("stamp", Type::Bytes),
        Column::optional("name", Type::Text),
    ],
    indexes: &[],
    register: Some("stamp"),
};

const SCHEMA: &[&Table] = &[&ALL, &BED, &WIDE, &REGISTER];

fn memory() -> Sqlite {
    Sqlite::open(Place::Memory, SCHEMA, Options::default()).expect("opens")
}

fn file(path: &Path) -> Sqlite {
    Sqlite::open(path, SCHEMA, Options { sync: SyncMode::Off, ..Options::default() }).expect("opens")
}

fn text(raw: &str) -> Value {
    Value::Text(raw.to_owned())
}

fn bed(unit: &str, n: i64, c: i64) -> Write {
    Write::Put {
        table: "bed",
        values: vec![text(unit), Value::Int(n), Value::Null, Value::Null, Value::Int(c)],
    }
}

fn writes(writes: Vec<Write>) -> Batch {
    Batch { writes, ..Batch::default() }
}

fn get(table: &'static str, key: Vec<Value>) -> Read {
    Read::Get { table, key }
}

async fn one(tables: &Sqlite, read: Read) -> Option<Row> {
    let mut rows = tables.read(&[read]).await.expect("reads").remove(0);
    assert!(rows.len() <= 1);
    rows.pop()
}

#[tokio::test]
async fn every_type_comes_back_as_it_was() {
    let id = Id::from_bytes([0xff; 16]);
    let cases = [
        (
            "least",
            vec![
                text(""),
                Value::Int(i64::MIN),
                Value::Bool(false),
                Value::Time(Timestamp::from_micros(i64::MIN)),
                Value::Seq(Seq(i64::MIN)),
                Value::Bytes(Bytes::new()),
                Value::Id(Id::from_bytes([0; 16])),
            ],
        ),
        (
            "greatest",
            vec![
                text("뷁\u{10ffff}"),
                Value::Int(i64::MAX),
                Value::Bool(true),
                Value::Time(Timestamp::from_micros(i64::MAX)),
                Value::Seq(Seq(i64::MAX)),
                Value::Bytes(Bytes::from_static(&[0, 0xff, 0])),
                Value::Id(id),
            ],
        ),
        ("absent", vec![Value::Null; 7]),
    ];
    let dir = tempfile::tempdir().expect("a folder");
    for tables in [memory(), file(&dir.path().join("t.sqlite"))] {
        // Each over the one before: an update in which every column differs.
        for (why, rest) in &cases {
            let values: Vec<Value> = [Value::Id(id)].into_iter().chain(rest.clone()).collect();
            let t =
                tables.commit(writes(vec![Write::Put { table: "all_types", values: values.clone() }])).await;
            let row = one(&tables, get("all_types", vec![Value::Id(id)])).await;
            assert_eq!(row, Some(Row { values, t: t.expect(why) }), "{why}");
        }
    }
}

#[tokio::test]
async fn this_commit_is_the_t_that_the_commit_returns_and_t_grows() {
    let tables = memory();
    let id = Value::Id(Id::from_bytes([1; 16]));
    let mut values = vec![id.clone(), Value::Null, Value::Null, Value::Null, Value::Null, Value::ThisCommit];
    values.extend([Value::Null, Value::Null]);
    assert_eq!(tables.now().await.expect("now"), Seq(0));
    let mut before = Seq(0);
    for _ in 0..3 {
        let put = Write::Put { table: "all_types", values: values.clone() };
        let t = tables.commit(writes(vec![put])).await.expect("commits");
        assert!(t > before);
        before = t;
        let row = one(&tables, get("all_types", vec![id.clone()])).await.expect("there");
        assert_eq!((row.values[5].clone(), row.t), (Value::Seq(t), t));
        assert_eq!(tables.now().await.expect("now"), t);
        assert_eq!(*tables.committed().borrow(), t);
    }
}

#[tokio::test]
async fn expectations_are_validated_for_rows_that_are_there_and_that_are_not() {
    let tables = memory();
    let t = tables.commit(writes(vec![bed("A", 1, 0)])).await.expect("commits");
    let expect = |n, t| Expect { table: "bed", key: vec![text("A"), Value::Int(n)], t };
    let cases = [
        ("as read", vec![expect(1, Some(t)), expect(2, None)], true),
        ("written meanwhile", vec![expect(1, Some(Seq(t.0 - 1)))], false),
        ("there meanwhile", vec![expect(1, None)], false),
        ("gone", vec![expect(2, Some(t))], false),
        ("one of many", vec![expect(3, None), expect(1, None), expect(2, None)], false),
    ];
    for (why, expects, fits) in cases {
        // Only read, not written: it must be validated all the same.
        let batch = Batch { expects, writes: vec![bed("B", 1, 1)], ..Batch::default() };
        let answer = tables.commit(batch).await;
        assert_eq!(answer.is_ok(), fits, "{why}: {answer:?}");
        assert!(fits || matches!(answer, Err(TablesError::Conflict(_))), "{why}: {answer:?}");
        let there = one(&tables, get("bed", vec![text("B"), Value::Int(1)])).await.is_some();
        assert_eq!(there, fits, "{why}: nothing of a refused batch is there");
        tables
            .commit(writes(vec![Write::Delete { table: "bed", key: vec![text("B"), Value::Int(1)] }]))
            .await
            .expect("cleans up");
    }
}

#[tokio::test]
async fn a_put_over_what_was_read_and_over_what_was_not_is_the_same() {
    for expects in [true, false] {
        let tables = memory();
        let t = tables.commit(writes(vec![bed("A", 1, 1), bed("A", 2, 2)])).await.expect("commits");
        let expects = if expects {
            vec![
                Expect { table: "bed", key: vec![text("A"), Value::Int(1)], t: Some(t) },
                Expect { table: "bed", key: vec![text("A"), Value::Int(3)], t: None },
            ]
        } else {
            Vec::new()
        };
        let batch = Batch { expects, writes: vec![bed("A", 3, 3), bed("A", 1, 10)], ..Batch::default() };
        let next = tables.commit(batch).await.expect("commits");
        let rows =
            tables.read(&[Read::Scan(Scan::by_index("bed", "by_c", vec![]))]).await.expect("reads").remove(0);
        let got: Vec<(Value, Seq)> = rows.into_iter().map(|row| (row.values[4].clone(), row.t)).collect();
        assert_eq!(got, [(Value::Int(2), t), (Value::Int(3), next), (Value::Int(10), next)]);
    }
}

#[tokio::test]
async fn a_register_keeps_the_newest_in_any_order() {
    let tables = memory();
    let put = |stamp: &'static [u8], name: &str| {
        let values = vec![Value::Int(1), Value::Bytes(Bytes::from_static(stamp)), text(name)];
        writes(vec![Write::PutIfNewer { table: "register", values }])
    };
    let cases: [(&str, &[u8], &str); 5] = [
        ("first", b"\x02", "two"),
        ("older", b"\x01\xff", "two"),
        ("equal", b"\x02", "two"),
        ("longer is greater", b"\x02\x00", "longer"),
        ("newer", b"\x10", "newer"),
    ];
    for (why, stamp, want) in cases {
        let name = match why {
            "first" => "two",
            "longer is greater" => "longer",
            other => other,
        };
        tables.commit(put(stamp, name)).await.expect(why);
        let row = one(&tables, get("register", vec![Value::Int(1)])).await.expect("there");
        assert_eq!(row.values[2], text(want), "{why}");
    }
}

fn epoch(n: u8) -> Epoch {
    Epoch(Id::from_bytes([n; 16]).as_uuid())
}

#[tokio::test]
async fn offsets_move_only_from_where_they_are_and_within_one_log() {
    let tables = memory();
    let move_ = |from, to, log| Batch {
        writes: vec![bed("A", 1, to as i64)],
        offset: Some(OffsetMove {
            projection: "census",
            stream: Stream::Hl7In,
            partition: 3,
            epoch: epoch(log),
            from,
            to,
            last: None,
        }),
        ..Batch::default()
    };
    let offset =
        async |log| tables.applied("census", Stream::Hl7In, 3, epoch(log)).await.map(|applied| applied.next);
    assert_eq!(offset(1).await.expect("none yet"), 0);
    assert!(matches!(tables.commit(move_(5, 6, 1)).await, Err(TablesError::Fenced { .. })), "not from 0");
    tables.commit(move_(0, 10, 1)).await.expect("from 0");
    assert!(matches!(tables.commit(move_(0, 10, 1)).await, Err(TablesError::Fenced { .. })), "twice");
    assert!(
        matches!(tables.commit(move_(10, 11, 2)).await, Err(TablesError::OtherLog { .. })),
        "another log"
    );
    assert!(matches!(offset(2).await, Err(TablesError::OtherLog { .. })), "another log asks");
    assert!(matches!(tables.commit(move_(11, 10, 1)).await, Err(TablesError::Shape { .. })), "backwards");
    assert_eq!(offset(1).await.expect("moved"), 10);
    let row = one(&tables, get("bed", vec![text("A"), Value::Int(1)])).await.expect("there");
    assert_eq!(row.values[4], Value::Int(10), "what was refused wrote nothing");
}

fn outgoing(n: u8) -> Outgoing {
    Outgoing { topic: "adt.board", key: Id::from_bytes([n; 16]), body: Bytes::from(vec![n]) }
}

#[tokio::test]
async fn changes_come_in_whole_commits_and_say_when_they_are_pruned() {
    let tables = memory();
    for size in [2_u8, 3, 1, 4] {
        let outbox = (0..size).map(outgoing).collect();
        tables.commit(Batch { outbox, ..Batch::default() }).await.expect("commits");
    }
    tables.commit(writes(vec![bed("A", 1, 1)])).await.expect("a commit without outbox");
    let cases = [
        ("all", 0, 100, vec![1, 1, 2, 2, 2, 3, 4, 4, 4, 4]),
        ("cut at a commit", 0, 4, vec![1, 1]),
        ("exactly", 0, 5, vec![1, 1, 2, 2, 2]),
        ("one commit at least", 1, 1, vec![2, 2, 2]),
        ("one commit at least, also for nothing", 3, 0, vec![4, 4, 4, 4]),
        ("behind", 2, 2, vec![3]),
        ("at the end", 4, 10, vec![]),
        ("after the end", 400, 10, vec![]),
    ];
    for (why, after, limit, want) in cases {
        let got = tables.changes(Seq(after), limit).await.expect(why);
        assert_eq!(got.iter().map(|c| c.t.0).collect::<Vec<_>>(), want, "{why}");
    }
    let got = tables.changes(Seq(1), 3).await.expect("reads");
    assert_eq!(got.iter().map(|c| c.n).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(
        (got[2].topic.as_str(), got[2].key, &got[2].body[..]),
        ("adt.board", Id::from_bytes([2; 16]), &[2][..])
    );

    assert_eq!(tables.prune(Seq(3)).await.expect("prunes"), 5);
    assert_eq!(tables.prune(Seq(3)).await.expect("again"), 0);
    assert_eq!(tables.changes(Seq(2), 1).await.expect("what is left").len(), 1);
    let refused = tables.changes(Seq(1), 1).await.expect_err("a gap");
    assert!(matches!(refused, TablesError::Pruned { oldest: Seq(3) }), "{refused:?}");
    assert_eq!(tables.prune(Seq(i64::MAX)).await.expect("all"), 5);
    assert!(tables.changes(Seq(5), 1).await.expect("from now on").is_empty());
}

#[tokio::test]
async fn a_large_outbox_is_pruned_in_steps_of_whole_commits() {
    let tables = memory();
    for size in [9_000, 15_000, 100] {
        let outbox = (0..size).map(|n| outgoing(n as u8)).collect();
        tables.commit(Batch { outbox, ..Batch::default() }).await.expect("commits");
    }
    assert_eq!(tables.prune(Seq(3)).await.expect("prunes"), 24_000);
    assert_eq!(tables.changes(Seq(2), 1_000).await.expect("the last").len(), 100);
}

#[tokio::test]
async fn a_lease_has_one_holder_and_a_token_that_grows() {
    let tables = memory();
    let lease = async |holder: &str, now, until| {
        let at = Timestamp::from_micros;
        tables.lease("publish", holder, at(now), at(until)).await.expect("asks").map(|token| token.0)
    };
    assert_eq!(lease("a", 0, 10).await, Some(1));
    assert_eq!(lease("b", 5, 15).await, None, "held");
    assert_eq!(lease("a", 9, 20).await, Some(1), "renewed in time");
    assert_eq!(lease("b", 19, 30).await, None, "the renewal holds");
    assert_eq!(lease("b", 20, 30).await, Some(2), "run out");
    assert_eq!(lease("a", 25, 40).await, None);
    assert_eq!(lease("b", 31, 40).await, Some(3), "anew after it ran out, also by the same");
}

// --- scans against a plain model ---

struct Random(Entropy);

impl Random {
    fn below(&self, n: u64) -> u64 {
        u64::from_le_bytes(self.0.bytes()) % n
    }

    fn maybe(&self, value: Value) -> Value {
        if self.below(3) == 0 { Value::Null } else { value }
    }

    fn column(&self, table: &Table, at: usize) -> Value {
        let column = &table.columns[at];
        let value = match column.ty {
            Type::Text => text(["", "A", "Aa", "B", "뷁"][self.below(5) as usize]),
            _ => Value::Int(self.below(4) as i64),
        };
        if column.optional { self.maybe(value) } else { value }
    }
}

/// The columns that order a scan.
fn order_of(table: &Table, scan: &Scan) -> Vec<usize> {
    let index = scan.index.and_then(|name| table.indexes.iter().find(|index| index.name == name));
    let mut columns: Vec<usize> =
        index.map_or_else(Vec::new, |index| index.columns.iter().filter_map(|c| table.column(c)).collect());
    for at in 0..table.key_len {
        if !columns.contains(&at) {
            columns.push(at);
        }
    }
    columns
}

/// What the port promises, said as plainly as can be: `Value::Null` is the least variant of `Value`.
fn model(table: &Table, rows: &[Vec<Value>], scan: &Scan) -> Vec<Vec<Value>> {
    let columns = order_of(table, scan);
    let by = |row: &[Value]| columns.iter().map(|&at| row[at].clone()).collect::<Vec<_>>();
    let mut found: Vec<Vec<Value>> = rows
        .iter()
        .filter(|row| by(row)[..scan.prefix.len()] == scan.prefix[..])
        .filter(|row| {
            let bounded = columns.get(scan.prefix.len()).map(|&at| &row[at]);
            scan.from.as_ref().is_none_or(|from| bounded.is_some_and(|v| *v != Value::Null && v >= from))
                && scan.to.as_ref().is_none_or(|to| bounded.is_some_and(|v| *v != Value::Null && v < to))
        })
        .cloned()
        .collect();
    let direction = |order: Order| if scan.descending { order.reverse() } else { order };
    found.sort_by(|a, b| direction(by(a).cmp(&by(b))));
    if let Some(after) = &scan.after {
        let indexed = after.len() - table.key_len;
        let place: Vec<Value> = columns
            .iter()
            .enumerate()
            .map(|(i, &at)| if i < indexed { after[i].clone() } else { after[indexed + at].clone() })
            .collect();
        found.retain(|row| direction(by(row).cmp(&place)) == Order::Greater);
    }
    found.truncate(scan.limit as usize);
    found
}

#[tokio::test]
async fn scans_and_counts_are_those_of_a_plain_model() {
    let random = Random(Entropy::seeded(7));
    let dir = tempfile::tempdir().expect("a folder");
    for (table, tables) in [(&BED, memory()), (&WIDE, memory()), (&WIDE, file(&dir.path().join("t.sqlite")))]
    {
        let mut rows: std::collections::BTreeMap<Vec<Value>, Vec<Value>> = std::collections::BTreeMap::new();
        for _ in 0..120 {
            let mut row: Vec<Value> = (0..5).map(|at| random.column(table, at)).collect();
            row[1] = Value::Int(random.below(20) as i64);
            row.resize(table.columns.len(), Value::Null);
            tables
                .commit(writes(vec![Write::Put { table: table.name, values: row.clone() }]))
                .await
                .expect("puts");
            rows.insert(row[..2].to_vec(), row);
        }
        let rows: Vec<Vec<Value>> = rows.into_values().collect();
        let mut with_rows = 0;
        for n in 0..2_000 {
            let index = [None, Some("by_a_b"), Some("by_c"), Some("by_b")][random.below(4) as usize];
            let mut scan = Scan { index, ..Scan::by_key(table.name, vec![]) };
            let columns = order_of(table, &scan);
            let prefix = random.below(columns.len() as u64 + 1) as usize;
            scan.prefix = columns[..prefix].iter().map(|&at| random.column(table, at)).collect();
            scan.descending = random.below(2) == 0;
            scan.limit = [3, 50][random.below(2) as usize];
            if let Some(&at) = columns.get(prefix) {
                let present = |value: Value| (value != Value::Null).then_some(value);
                scan.from = (random.below(4) == 0).then(|| random.column(table, at)).and_then(present);
                scan.to = (random.below(4) == 0).then(|| random.column(table, at)).and_then(present);
            }
            if random.below(3) > 0 {
                // A row that is there, or one that never was.
                let mut place = match random.below(2) {
                    0 => rows[random.below(rows.len() as u64) as usize].clone(),
                    _ => (0..table.columns.len()).map(|at| random.column(table, at)).collect(),
                };
                for (&at, value) in columns.iter().zip(&scan.prefix) {
                    place[at] = value.clone();
                }
                let indexed = index.map_or(0, |name| {
                    table.indexes.iter().find(|i| i.name == name).map_or(0, |i| i.columns.len())
                });
                let after = columns[..indexed].iter().chain(&[0, 1]).map(|&at| place[at].clone()).collect();
                scan.after = Some(after);
            }
            let want = model(table, &rows, &scan);
            let got = tables.read(&[Read::Scan(scan.clone())]).await.expect("scans").remove(0);
            let got: Vec<Vec<Value>> = got.into_iter().map(|row| row.values).collect();
            assert_eq!(got, want, "scan {n}: {scan:?}");
            with_rows += usize::from(!got.is_empty());
            let all = model(table, &rows, &Scan { limit: u32::MAX, ..scan.clone() }).len() as u64;
            for cap in [0, 1, 5, 1_000] {
                assert_eq!(
                    tables.count(&scan, cap).await.expect("counts"),
                    all.min(cap),
                    "count {n}: {scan:?}"
                );
            }
        }
        assert!(with_rows > 300, "{with_rows} scans found rows: the test must not be hollow");
    }
}

// --- groups, file, faults ---

fn shut() -> (Gate, Options) {
    let (gate, fault) = Gate::shut();
    (gate, Options { sync: SyncMode::Off, fault: Some(fault), ..Options::default() })
}

#[tokio::test]
async fn a_batch_that_fails_in_a_group_leaves_its_neighbours_whole_and_reads_see_committed_rows_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("t.sqlite");
    file(&path).close().await;
    let trigger =
        "CREATE TRIGGER no BEFORE INSERT ON wide WHEN NEW.c = 666 BEGIN SELECT RAISE(ABORT, 'no'); END";
    rusqlite::Connection::open(&path).and_then(|c| c.execute_batch(trigger)).expect("plants a refusal");
    let (gate, options) = shut();
    let tables = Sqlite::open(path.as_path(), SCHEMA, options).expect("opens");
    let commit = |batch: Batch| {
        let tables = tables.clone();
        tokio::spawn(async move { tables.commit(batch).await })
    };
    // Refused by the engine in the middle of its batch, after a row was written.
    let wide =
        [text("Z"), Value::Int(1), Value::Null, Value::Null, Value::Int(666), Value::Null, Value::Null];
    let late = vec![bed("Z", 1, 1), Write::Put { table: "wide", values: wide.to_vec() }];
    let first = commit(writes(vec![bed("A", 0, 0)])); // holds the gate
    tokio::time::sleep(Duration::from_millis(50)).await;
    let group = [
        commit(writes(vec![bed("A", 1, 1)])),
        commit(Batch {
            expects: vec![Expect { table: "bed", key: vec![text("A"), Value::Int(1)], t: None }],
            writes: vec![bed("A", 2, 2)],
            ..Batch::default()
        }),
        commit(writes(late)),
        commit(writes(vec![bed("A", 3, 3)])),
    ];
    tokio::time::sleep(Duration::from_millis(200)).await;
    let seen = one(&tables, get("bed", vec![text("A"), Value::Int(0)])).await;
    assert_eq!(seen, None, "not committed yet");
    gate.open();
    let t = first.await.expect("joins").expect("commits");
    let [one_, conflict, shape, three] = group;
    assert_eq!(one_.await.expect("joins").expect("commits"), Seq(t.0 + 1));
    assert!(matches!(conflict.await.expect("joins"), Err(TablesError::Conflict(_))));
    let shape = shape.await.expect("joins");
    assert!(matches!(shape, Err(TablesError::Shape { .. })), "{shape:?}");
    assert_eq!(three.await.expect("joins").expect("commits"), Seq(t.0 + 2), "no t is lost");
    let rows = tables.read(&[Read::Scan(Scan::by_key("bed", vec![]))]).await.expect("reads").remove(0);
    let keys: Vec<i64> = rows.iter().map(|r| if let Value::Int(n) = r.values[1] { n } else { -1 }).collect();
    assert_eq!(keys, [0, 1, 3], "neither of the refused batches left a row");
}

#[tokio::test]
async fn a_batch_has_a_bound_in_bytes() {
    let half = Value::Bytes(Bytes::from(vec![0; limits::BATCH_BYTES_MAX / 2]));
    let values = vec![text("Z"), Value::Int(1), Value::Null, Value::Null, Value::Int(1), half.clone(), half];
    let refused = memory().commit(writes(vec![Write::Put { table: "wide", values }])).await;
    assert!(matches!(refused, Err(TablesError::Shape { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_disk_error_refuses_the_group_and_all_after_it_until_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("t.sqlite");
    let broken = Arc::new(AtomicBool::new(false));
    let fault = {
        let broken = Arc::clone(&broken);
        move |_: &str| -> io::Result<()> {
            if broken.load(Ordering::Acquire) { Err(io::Error::other("EIO")) } else { Ok(()) }
        }
    };
    let options = Options { fault: Some(Arc::new(fault)), ..Options::default() };
    let tables = Sqlite::open(path.as_path(), SCHEMA, options).expect("opens");
    let t = tables.commit(writes(vec![bed("A", 1, 1)])).await.expect("commits");
    broken.store(true, Ordering::Release);
    assert!(matches!(tables.commit(writes(vec![bed("A", 2, 2)])).await, Err(TablesError::ReadOnly(_))));
    broken.store(false, Ordering::Release);
    let refused = tables.commit(writes(vec![bed("A", 3, 3)])).await.expect_err("read-only");
    assert!(refused.to_string().contains("read-only"), "{refused}");
    let at = Timestamp::from_micros;
    assert!(tables.lease("x", "a", at(0), at(1)).await.is_err());
    assert_eq!(tables.now().await.expect("now"), t);
    assert!(one(&tables, get("bed", vec![text("A"), Value::Int(1)])).await.is_some(), "reads go on");
    assert!(one(&tables, get("bed", vec![text("A"), Value::Int(2)])).await.is_none());
    tables.close().await;
    let tables = file(&path);
    assert_eq!(tables.commit(writes(vec![bed("A", 2, 2)])).await.expect("after a restart"), Seq(t.0 + 1));
}

#[tokio::test]
async fn what_is_committed_is_there_after_reopening_and_t_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("t.sqlite");
    let tables = file(&path);
    assert_eq!(tables.describe(), "sqlite none");
    let refused = Sqlite::open(path.as_path(), SCHEMA, Options::default()).expect_err("in use");
    assert!(refused.to_string().contains("t.sqlite are in use"), "{refused}");
    let t = tables.commit(writes(vec![bed("A", 1, 1)])).await.expect("commits");
    tables.close().await;
    assert!(tables.commit(writes(vec![bed("A", 2, 2)])).await.is_err(), "closed");
    assert!(tables.read(&[get("bed", vec![text("A"), Value::Int(1)])]).await.is_err(), "closed");
    let tables = Sqlite::open(path.as_path(), SCHEMA, Options::default()).expect("opens again");
    assert_eq!(tables.describe(), "sqlite fsync");
    assert_eq!(tables.now().await.expect("now"), t);
    assert!(one(&tables, get("bed", vec![text("A"), Value::Int(1)])).await.is_some());
    assert_eq!(tables.commit(writes(vec![bed("A", 2, 2)])).await.expect("commits"), Seq(t.0 + 1));
}

#[tokio::test]
async fn readers_do_not_wait_for_an_open_group() {
    let dir = tempfile::tempdir().expect("a folder");
    let (gate, options) = shut();
    let tables = Sqlite::open(dir.path().join("t.sqlite").as_path(), SCHEMA, options).expect("opens");
    let commit = tokio::spawn({
        let tables = tables.clone();
        async move { tables.commit(writes(vec![bed("A", 1, 1)])).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let reads = (0..20).map(|_| one(&tables, get("bed", vec![text("A"), Value::Int(1)])));
    let all = tokio::time::timeout(Duration::from_secs(5), futures::future::join_all(reads)).await;
    assert!(all.expect("in time").iter().all(Option::is_none));
    assert!(!commit.is_finished());
    gate.open();
    commit.await.expect("joins").expect("commits");
    assert!(one(&tables, get("bed", vec![text("A"), Value::Int(1)])).await.is_some());
}

// --- schema ---

const V1: Table = Table {
    name: "grows",
    key_len: 1,
    columns: &[Column::new("id", Type::Int), Column::new("a", Type::Text)],
    indexes: &[Index { name: "by_a", columns: &["a"] }],
    register: None,
};

#[tokio::test]
async fn a_schema_grows_without_loss_and_refuses_the_rest_by_name() {
    static FIRST: Table = V1;
    static GROWN: Table = Table {
        columns: &[
            Column::new("id", Type::Int),
            Column::optional("b", Type::Int),
            Column::new("a", Type::Text),
        ],
        indexes: &[Index { name: "by_b", columns: &["b"] }, Index { name: "by_a", columns: &["a", "b"] }],
        ..V1
    };
    static REQUIRED: Table = Table {
        columns: &[Column::new("id", Type::Int), Column::new("a", Type::Text), Column::new("b", Type::Int)],
        ..V1
    };
    static RETYPED: Table =
        Table { columns: &[Column::new("id", Type::Int), Column::new("a", Type::Int)], ..V1 };
    static RELAXED: Table = Table {
        columns: &[
            Column::new("id", Type::Int),
            Column::optional("a", Type::Text),
            Column::optional("b", Type::Int),
        ],
        ..V1
    };
    static DROPPED: Table = Table { columns: &[Column::new("id", Type::Int)], indexes: &[], ..V1 };
    static REKEYED: Table = Table { key_len: 2, ..V1 };
    static BACK_AGAIN: Table = Table {
        columns: &[Column::new("id", Type::Int), Column::optional("b", Type::Text)],
        indexes: &[],
        ..V1
    };

    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("t.sqlite");
    let open = |table: &'static Table| Sqlite::open(path.as_path(), &[table], Options::default());
    let put = async |tables: &Sqlite, values: Vec<Value>| {
        tables.commit(writes(vec![Write::Put { table: "grows", values }])).await.map(|_| ())
    };
    let row = async |tables: &Sqlite, id| {
        one(tables, get("grows", vec![Value::Int(id)])).await.expect("there").values
    };

    open(&FIRST).expect("makes").close().await;
    open(&REQUIRED).expect("without rows it may be required").close().await;
    open(&FIRST).expect("and be forgotten again").close().await;
    let tables = open(&FIRST).expect("opens");
    put(&tables, vec![Value::Int(1), text("x")]).await.expect("a row without b");
    tables.close().await;
    let refused = [
        ("required", &REQUIRED, "column b: is required now, but there are rows"),
        ("another type", &RETYPED, "column a: is stored as text"),
        ("another key", &REKEYED, "the key differs from the stored one"),
    ];
    for (why, table, want) in refused {
        assert_eq!(open(table).expect_err(why).to_string(), format!("table grows: {want}"), "{why}");
    }
    let tables = open(&GROWN).expect("grows");
    assert_eq!(row(&tables, 1).await, [Value::Int(1), Value::Null, text("x")]);
    put(&tables, vec![Value::Int(2), Value::Int(5), text("x")]).await.expect("commits");
    for (index, prefix) in [("by_b", vec![Value::Int(5)]), ("by_a", vec![text("x"), Value::Int(5)])] {
        let found = tables.read(&[Read::Scan(Scan::by_index("grows", index, prefix))]).await.expect("reads");
        assert_eq!(found[0].len(), 1, "{index}");
    }
    tables.close().await;
    let tables = open(&RELAXED).expect("may be absent now");
    put(&tables, vec![Value::Int(3), Value::Null, Value::Null]).await.expect("commits");
    tables.close().await;
    let tables = open(&DROPPED).expect("nobody declares them");
    put(&tables, vec![Value::Int(4)]).await.expect("commits");
    tables.close().await;
    let refused = open(&BACK_AGAIN).expect_err("of another type").to_string();
    assert_eq!(refused, "table grows: column b: is stored as int");
    let tables = open(&GROWN).expect_err("a is required again").to_string();
    assert!(tables.contains("column a: is required now"), "{tables}");
    let tables = open(&RELAXED).expect("as it was");
    assert_eq!(
        row(&tables, 2).await,
        [Value::Int(2), text("x"), Value::Int(5)],
        "what nobody declared stayed"
    );
    assert_eq!(row(&tables, 4).await, [Value::Int(4), Value::Null, Value::Null]);
}

#[tokio::test]
async fn a_newer_layout_and_other_databases_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("t.sqlite");
    file(&path).close().await;
    let sql = |path: &Path, sql: &str| rusqlite::Connection::open(path).and_then(|c| c.execute_batch(sql));
    sql(&path, "PRAGMA user_version = 9").expect("a newer program");
    let refused = Sqlite::open(path.as_path(), SCHEMA, Options::default()).expect_err("newer");
    assert!(matches!(refused, TablesError::Newer { stored: 9, ours: 2 }), "{refused:?}");
    let other = dir.path().join("other.sqlite");
    sql(&other, "CREATE TABLE x (y)").expect("another database");
    assert!(Sqlite::open(other.as_path(), SCHEMA, Options::default()).is_err());
}

#[tokio::test]
async fn an_analyst_reads_typed_tables() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("t.sqlite");
    let tables = file(&path);
    tables.commit(writes(vec![bed("A", 1, 7)])).await.expect("commits");
    // Another connection, while the server runs.
    let analyst = rusqlite::Connection::open(&path).expect("opens");
    let c: i64 =
        analyst.query_row("SELECT sum(c) FROM bed WHERE unit = 'A'", [], |row| row.get(0)).expect("reads");
    assert_eq!(c, 7);
    let strict: i64 = analyst
        .query_row(
            "SELECT min(strict) FROM pragma_table_list WHERE name IN ('bed', 'wide', 'all_types')",
            [],
            |row| row.get(0),
        )
        .expect("reads");
    assert_eq!(strict, 1);
}

#[tokio::test]
async fn a_tape_replayed_bare_gives_the_same_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second, tape) =
        (folder.path().join("first.sqlite"), folder.path().join("second.sqlite"), folder.path().join("tape"));
    let options = Options { tape: Some(tape.clone()), ..Options::default() };
    let tables = Sqlite::open(first.as_path(), &[&BED], options).expect("opens");
    for n in 0..5 {
        let batch = writes(vec![bed("A", n, n), bed("B", 1, n)]);
        tables.commit(batch).await.expect("commits");
    }
    tables.close().await;
    drop(tables);
    let done = hilum_engines::bare::replay(&second, &first, &tape, || Duration::ZERO).expect("replays");
    assert_eq!((done.commits, done.rows), (5, 10));
    let rows = |path: &Path| -> Vec<String> {
        let conn = rusqlite::Connection::open(path).expect("opens");
        let sql = "SELECT unit || ' ' || n || ' ' || c FROM bed ORDER BY unit, n";
        let mut statement = conn.prepare(sql).expect("prepares");
        let rows = statement.query_map([], |row| row.get(0)).expect("reads");
        rows.collect::<Result<_, _>>().expect("reads")
    };
    assert_eq!(rows(&first).len(), 6);
    assert_eq!(rows(&first), rows(&second));
}
