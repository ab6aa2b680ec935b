//! What every engine must do. Each check gives `Err` when the engine does not do it, so that a planted fault can be
//! shown to be found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hilum_core::{Entropy, Epoch, RecordId, Seq, Stream, Timestamp};
use hilum_engines::limits::LEASE_S_MAX;
use hilum_engines::tables::{Applied, Batch, Change, OffsetMove, Read, Row, Scan, Table, TablesError, Value};

use crate::sample::*;
use crate::subject::Subject;

pub type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+).into());
        }
    };
}

fn conflict<T>(answer: &Result<T, TablesError>) -> bool {
    matches!(answer, Err(TablesError::Conflict(_)))
}

fn shape<T>(answer: &Result<T, TablesError>) -> bool {
    matches!(answer, Err(TablesError::Shape { .. }))
}

/// A row comes back as it was put, every type, absent values too; a second put replaces it whole.
pub async fn put_and_get(subject: &mut Subject) -> Outcome {
    let full = vec![
        id(1),
        text("병동 3W · 'quote' \"double\" \\ % _"),
        text(""),
        time(-1),
        Value::Int(i64::MIN),
        Value::Bool(true),
        bytes(&[0, 255, 0]),
        Value::Seq(Seq(7)),
    ];
    let t = subject.commit(writes(vec![put(&ROOM, full.clone())])).await?;
    let row = subject.get(&ROOM, vec![id(1)]).await?;
    ensure!(row == Some(Row { values: full.clone(), t }), "not as it was put: {row:?}");
    let bare = room(1, "4E", None);
    let t2 = subject.commit(writes(vec![put(&ROOM, bare.clone())])).await?;
    ensure!(t2 > t, "t does not grow: {t} then {t2}");
    let row = subject.get(&ROOM, vec![id(1)]).await?.ok_or("the row is gone")?;
    ensure!(row.t == t2 && row.values[1..7] == bare[1..7], "not replaced whole: {row:?}");
    ensure!(row.values[7] == Value::Seq(t2), "this commit is not {t2}: {:?}", row.values[7]);
    ensure!(subject.get(&ROOM, vec![id(2)]).await?.is_none(), "a row that nobody put");
    ensure!(subject.tables.now().await? == t2, "now is not the newest commit");
    Ok(())
}

/// A delete removes the row; one for what is not there does nothing.
pub async fn deletes(subject: &mut Subject) -> Outcome {
    subject.commit(writes(vec![put(&PAIR, pair("a", 1, "x")), put(&PAIR, pair("a", 2, "y"))])).await?;
    let gone = delete(&PAIR, vec![text("a"), Value::Int(1)]);
    let never = delete(&PAIR, vec![text("b"), Value::Int(1)]);
    subject.commit(writes(vec![gone, never])).await?;
    let left = subject.scan(Scan::by_key(PAIR.name, vec![])).await?;
    ensure!(left.len() == 1 && left[0].values == pair("a", 2, "y"), "left: {left:?}");
    Ok(())
}

/// What is set changes, in whichever order it is named, and nothing else; where there is no row, there is none afterwards.
pub async fn sets(subject: &mut Subject) -> Outcome {
    let dice = Entropy::seeded(8);
    let below = |n: u64| u64::from_be_bytes(dice.bytes()) % n;
    let mut model: BTreeMap<u64, (Vec<Value>, Seq)> = BTreeMap::new();
    let (mut met, mut missed) = (0, 0);
    for _ in 0..80 {
        let (mut all, mut keys) = (Vec::new(), BTreeSet::new());
        let mut next = model.clone();
        for _ in 0..=below(8) {
            let n = below(12);
            if !keys.insert(n) {
                continue;
            }
            if below(4) == 0 {
                all.push(put(&ROOM, room(n, "3W", None)));
                next.insert(n, (room(n, "3W", None), Seq(0)));
                continue;
            }
            if below(6) == 0 {
                all.push(delete(&ROOM, vec![id(n)]));
                next.remove(&n);
                continue;
            }
            let any = [
                (7, "t", Value::ThisCommit),
                (4, "n", Value::Int(below(9) as i64)),
                (5, "open", Value::Bool(below(2) == 0)),
                (3, "since", if below(2) == 0 { Value::Null } else { time(below(9) as i64) }),
                (6, "raw", bytes(&[below(9) as u8])),
            ];
            let some: Vec<_> = any.into_iter().filter(|_| below(2) == 0).collect();
            if some.is_empty() {
                continue;
            }
            if let Some((row, t)) = next.get_mut(&n) {
                for (at, _, value) in &some {
                    row[*at] = value.clone();
                }
                *t = Seq(0);
                met += 1;
            } else {
                missed += 1;
            }
            all.push(set(
                &ROOM,
                vec![id(n)],
                some.into_iter().map(|(_, name, value)| (name, value)).collect(),
            ));
        }
        let now = subject.commit(writes(all)).await?;
        for (row, t) in next.values_mut().filter(|(_, t)| *t == Seq(0)) {
            *t = now;
            row.iter_mut()
                .filter(|value| **value == Value::ThisCommit)
                .for_each(|value| *value = Value::Seq(now));
        }
        model = next;
        let got = subject.scan(Scan::by_key(ROOM.name, vec![])).await?;
        let want: Vec<Row> =
            model.values().map(|(values, t)| Row { values: values.clone(), t: *t }).collect();
        ensure!(got == want, "at {now}: {got:?}\nnot\n{want:?}");
        // What orders an index is found there.
        let by_n = subject.scan(Scan::by_index(ROOM.name, "by_n", vec![Value::Int(3)])).await?;
        let want = want.iter().filter(|row| row.values[4] == Value::Int(3)).count();
        ensure!(by_n.len() == want, "at {now}: {} by its index, not {want}", by_n.len());
    }
    ensure!(met > 60 && missed > 20, "{met} met a row, {missed} none");

    // Two at once set other columns of one row: both stand.
    subject.commit(writes(vec![put(&ROOM, room(1, "3W", None))])).await?;
    let one = |column| writes(vec![set(&ROOM, vec![id(1)], vec![column])]);
    let (a, b) =
        tokio::join!(subject.commit(one(("n", Value::Int(7)))), subject.commit(one(("since", time(7)))));
    ensure!(a.is_ok() && b.is_ok(), "{a:?} {b:?}");
    let row = subject.get(&ROOM, vec![id(1)]).await?;
    ensure!(
        row.as_ref().is_some_and(|row| row.values[4] == Value::Int(7) && row.values[3] == time(7)),
        "{row:?}"
    );
    // And as any write it stands on what it was based on.
    let refused = Batch { expects: vec![expect(&ROOM, vec![id(1)], None)], ..one(("n", Value::Int(8))) };
    let answer = subject.commit(refused).await;
    ensure!(conflict(&answer), "{answer:?}");
    Ok(())
}

/// Many reads of one call are answered in their order, the same one twice too.
pub async fn reads_keep_their_order(subject: &mut Subject) -> Outcome {
    let rooms = (0..20).map(|n| put(&ROOM, room(n, "3W", None)));
    let pairs = (0..20).map(|n| put(&PAIR, pair("a", n, "x")));
    subject.commit(writes(rooms.chain(pairs).collect())).await?;
    let mut reads = Vec::new();
    for n in (0..25).rev() {
        reads.push(get(&ROOM, vec![id(n)]));
        reads.push(Read::Scan(Scan::by_key(PAIR.name, vec![text("a"), Value::Int(n as i64)])));
        reads.push(get(&PAIR, vec![text("a"), Value::Int(n as i64)]));
        reads.push(get(&ROOM, vec![id(n)]));
    }
    let answers = subject.read(&reads).await?;
    ensure!(answers.len() == reads.len(), "{} answers to {} reads", answers.len(), reads.len());
    for (at, four) in answers.chunks(4).enumerate() {
        let n = 24 - at as i64;
        let found = usize::from(n < 20);
        ensure!(four.iter().all(|rows| rows.len() == found), "read {at}: {four:?}");
        if found == 1 {
            ensure!(four[0] == four[3] && four[0][0].values[4] == Value::Int(n), "get {n}: {:?}", four[0]);
            ensure!(four[1] == four[2] && four[1][0].values[1] == Value::Int(n), "scan {n}: {:?}", four[1]);
        }
    }
    ensure!(subject.read(&[]).await?.is_empty(), "no reads have answers");
    Ok(())
}

/// Rows in every order that can matter: Korean, mixed case, prefixes of each other, absent values, negative numbers.
async fn many_rooms(subject: &Subject) -> Result<Vec<Row>, TablesError> {
    let units = ["", "3W", "3w", "a", "B", "Z", "ab", "응급", "가", "\u{10ffff}", "é", "e\u{301}"];
    let beds = [None, Some(""), Some("1"), Some("10"), Some("2"), Some("나")];
    let mut rows = Vec::new();
    let mut n = 0;
    for (u, unit) in units.iter().enumerate() {
        for (b, bed) in beds.iter().enumerate() {
            n += 1;
            let mut row = room(n * 7919 % 1009, unit, *bed);
            row[3] = if (u + b) % 3 == 0 { Value::Null } else { time(((u * b) as i64 - 7) * 1_000_000) };
            row[4] = Value::Int([i64::MIN, -1, 0, 1, i64::MAX][(u + b) % 5]);
            row[5] = Value::Bool(u % 2 == 0);
            rows.push(row);
        }
    }
    for part in rows.chunks(9) {
        subject.commit(writes(part.iter().map(|row| put(&ROOM, row.clone())).collect())).await?;
    }
    let pairs = ["", "A", "a", "가"].iter().flat_map(|group| {
        [-5, 0, 3].map(|offset| {
            let mut row = pair(group, offset, "x");
            if offset != 0 {
                row[3] = id(u64::from(offset > 0));
            }
            put(&PAIR, row)
        })
    });
    subject.commit(writes(pairs.collect())).await?;
    subject.scan(Scan::by_key(ROOM.name, vec![])).await
}

/// A table with its rows, an index, prefixes to scan under, and bounds of the column behind them.
type Spot<'a> = (&'static Table, &'a [Row], Option<&'static str>, Vec<Vec<Value>>, Vec<Value>);

/// Each shape of scan gives just what its definition says: prefix, bounds, cursor, absent values, both directions,
/// limits; collation is by bytes.
pub async fn scans(subject: &mut Subject) -> Outcome {
    let rooms = many_rooms(subject).await?;
    let pairs = subject.scan(Scan::by_key(PAIR.name, vec![])).await?;
    ensure!(rooms.len() == 72 && pairs.len() == 12, "{} rooms, {} pairs", rooms.len(), pairs.len());
    let mut shapes: Vec<Scan> = Vec::new();
    let spots: [Spot; 8] = [
        (&ROOM, &rooms, None, vec![vec![]], vec![id(300), id(700)]),
        (&ROOM, &rooms, Some("by_place"), vec![vec![]], vec![text("a"), text("응")]),
        (
            &ROOM,
            &rooms,
            Some("by_place"),
            vec![vec![text("3W")], vec![text("가")], vec![text("none")]],
            vec![text("1"), text("2")],
        ),
        (&ROOM, &rooms, Some("by_place"), vec![vec![text("3W"), Value::Null]], vec![]),
        (&ROOM, &rooms, Some("by_since"), vec![vec![]], vec![time(-5_000_000), time(3_000_000)]),
        (
            &ROOM,
            &rooms,
            Some("by_open"),
            vec![vec![Value::Bool(true)]],
            vec![Value::Int(-1), Value::Int(i64::MAX)],
        ),
        (&PAIR, &pairs, None, vec![vec![], vec![text("a")]], vec![]),
        (&PAIR, &pairs, Some("by_link"), vec![vec![], vec![Value::Null], vec![id(1)]], vec![]),
    ];
    for (table, rows, index, prefixes, bounds) in spots {
        for prefix in prefixes {
            let base = Scan { index, ..Scan::by_key(table.name, prefix) };
            let mut bounded = vec![base.clone()];
            if let [low, high] = bounds.as_slice() {
                bounded.push(Scan { from: Some(low.clone()), ..base.clone() });
                bounded.push(Scan { to: Some(high.clone()), ..base.clone() });
                bounded.push(Scan { from: Some(low.clone()), to: Some(high.clone()), ..base.clone() });
                bounded.push(Scan { from: Some(high.clone()), to: Some(low.clone()), ..base.clone() });
            }
            for scan in bounded {
                let under = oracle(table, &Scan { from: None, to: None, ..scan.clone() }, rows);
                let mut cursors: Vec<Option<Vec<Value>>> = vec![None];
                cursors.extend(under.iter().map(|row| Some(cursor(table, index, row))));
                for after in cursors {
                    for descending in [false, true] {
                        for limit in [0, 1, 3, 10_000] {
                            shapes.push(Scan { after: after.clone(), descending, limit, ..scan.clone() });
                        }
                    }
                }
            }
        }
    }
    let of = |scan: &Scan| if scan.table == ROOM.name { (&ROOM, &rooms) } else { (&PAIR, &pairs) };
    for part in shapes.chunks(500) {
        let reads: Vec<Read> = part.iter().cloned().map(Read::Scan).collect();
        for (scan, answer) in part.iter().zip(subject.read(&reads).await?) {
            let (table, rows) = of(scan);
            let want = oracle(table, scan, rows);
            ensure!(answer == want, "{scan:?} gives\n{answer:?}\nnot\n{want:?}");
        }
    }
    for scan in shapes.iter().step_by(37) {
        let (table, rows) = of(scan);
        let all = oracle(table, &Scan { limit: u32::MAX, ..scan.clone() }, rows).len() as u64;
        for cap in [1, 5, 1_000] {
            let count = subject.tables.count(scan, cap).await?;
            ensure!(count == all.min(cap), "{scan:?} counts {count} up to {cap}, there are {all}");
        }
    }
    Ok(())
}

/// A walk page by page gives each row once, in both directions, over absent values.
pub async fn pages(subject: &mut Subject) -> Outcome {
    many_rooms(subject).await?;
    for index in [None, Some("by_place"), Some("by_since"), Some("by_n"), Some("by_open"), Some("by_t")] {
        for descending in [false, true] {
            let mut scan = Scan { index, descending, limit: 5, ..Scan::by_key(ROOM.name, vec![]) };
            let mut seen = BTreeSet::new();
            let mut walked = 0;
            loop {
                let page = subject.scan(scan.clone()).await?;
                let Some(last) = page.last() else { break };
                scan.after = Some(cursor(&ROOM, index, last));
                walked += page.len();
                ensure!(walked <= 72, "{index:?} descending {descending}: rows come twice");
                seen.extend(page.iter().map(|row| row.values[0].clone()));
            }
            ensure!(
                seen.len() == 72 && walked == 72,
                "{index:?} descending {descending}: {} rows",
                seen.len()
            );
        }
    }
    Ok(())
}

/// What does not fit a declaration is refused by name, nothing is written, and no value stands in the error.
pub async fn misfits(subject: &mut Subject) -> Outcome {
    let with = |at: usize, value: Value| {
        let mut row = room(1, "3W", None);
        row[at] = value;
        writes(vec![put(&ROOM, row)])
    };
    let scan = |scan: Scan| Read::Scan(scan);
    let batches = [
        (
            "a set key",
            writes(vec![set(&PAIR, vec![text("a"), Value::Int(1)], vec![("offset", Value::Int(2))])]),
        ),
        ("a set column that is none", writes(vec![set(&ROOM, vec![id(1)], vec![("gone", Value::Int(2))])])),
        ("nothing set", writes(vec![set(&ROOM, vec![id(1)], vec![])])),
        ("set to another type", writes(vec![set(&ROOM, vec![id(1)], vec![("n", text("hong"))])])),
        ("set to absent", writes(vec![set(&ROOM, vec![id(1)], vec![("n", Value::Null)])])),
        ("set text of an index", writes(vec![set(&ROOM, vec![id(1)], vec![("bed", text("hong"))])])),
        (
            "set twice",
            writes(vec![set(&ROOM, vec![id(1)], vec![("n", Value::Int(1)), ("n", Value::Int(2))])]),
        ),
        (
            "set and put",
            writes(vec![
                set(&ROOM, vec![id(1)], vec![("n", Value::Int(1))]),
                put(&ROOM, room(1, "3W", None)),
            ]),
        ),
        ("text with NUL", with(1, text("hong\0gildong"))),
        ("optional text with NUL", with(2, text("\0hong"))),
        ("wrong type", with(4, text("hong"))),
        ("absent", with(1, Value::Null)),
        ("a number of the commit that is too large", with(4, Value::ThisCommitNth(1 << 20))),
        ("a number of the commit where none belongs", with(7, Value::ThisCommitNth(1))),
        ("a moment where none belongs", with(7, Value::ThisMoment)),
        ("what stands for such a number", with(4, Value::Int(i64::MIN + (1 << 40) + 7))),
        (
            "a number of the commit in a key that is removed",
            writes(vec![delete(&PAIR, vec![text("hong"), Value::ThisCommitNth(1)])]),
        ),
        ("too long for an index", with(2, text(&"hong".repeat(300)))),
        ("too long for a key", writes(vec![put(&PAIR, pair(&"hong".repeat(300), 1, "x"))])),
        ("key too short", writes(vec![delete(&PAIR, vec![text("hong")])])),
        ("row too short", writes(vec![put(&PAIR, vec![text("hong")])])),
        (
            "not a register",
            writes(vec![hilum_engines::tables::Write::PutIfNewer {
                table: ROOM.name,
                values: room(1, "hong", None),
            }]),
        ),
        ("unknown table", writes(vec![hilum_engines::tables::Write::Put { table: "hong", values: vec![] }])),
        ("one key twice", writes(vec![put(&PAIR, pair("hong", 1, "x")), put(&PAIR, pair("hong", 1, "y"))])),
        (
            "put and delete of one key",
            writes(vec![put(&PAIR, pair("hong", 1, "x")), delete(&PAIR, vec![text("hong"), Value::Int(1)])]),
        ),
        (
            "expectation of a wrong key",
            Batch {
                expects: vec![expect(&PAIR, vec![Value::Int(1), text("hong")], None)],
                ..Batch::default()
            },
        ),
    ];
    for (why, batch) in batches {
        let answer = subject.commit(batch).await;
        ensure!(shape(&answer), "{why}: {answer:?}");
        let said = answer.map_or_else(|error| error.to_string(), |_| String::new());
        ensure!(!said.contains("hong") || why == "unknown table", "{why}: the error holds the value: {said}");
    }
    let place = |prefix: Vec<Value>| Scan::by_index(ROOM.name, "by_place", prefix);
    let reads = [
        ("unknown table", get_of("nowhere", vec![id(1)])),
        ("unknown index", scan(Scan::by_index(ROOM.name, "by_nothing", vec![]))),
        ("key of a wrong type", get(&ROOM, vec![text("hong")])),
        ("prefix of a wrong type", scan(place(vec![Value::Int(1)]))),
        ("prefix with NUL", scan(place(vec![text("ho\0ng")]))),
        ("prefix too long", scan(place(vec![text("a"), text("b"), id(1), id(2)]))),
        ("absent bound", scan(Scan { from: Some(Value::Null), ..place(vec![text("a")]) })),
        (
            "bound without a column",
            scan(Scan { to: Some(id(1)), ..place(vec![text("a"), text("b"), id(1)]) }),
        ),
        ("cursor too short", scan(Scan { after: Some(vec![text("a")]), ..place(vec![]) })),
        (
            "cursor elsewhere",
            scan(Scan { after: Some(vec![text("b"), text("1"), id(1)]), ..place(vec![text("a")]) }),
        ),
    ];
    for (why, read) in reads {
        let answer = subject.read(&[read]).await;
        ensure!(shape(&answer), "{why}: {answer:?}");
    }
    ensure!(subject.tables.now().await? == Seq(0), "a refused batch took a t");
    Ok(())
}

fn get_of(table: &'static str, key: Vec<Value>) -> Read {
    Read::Get { table, key }
}

/// 8 MiB in one value, and every byte that there is.
pub async fn large_values(subject: &mut Subject) -> Outcome {
    let mut large = room(1, "3W", None);
    large[6] = Value::Bytes((0..8 << 20).map(|n: u32| (n % 251) as u8).collect::<Vec<u8>>().into());
    let all_bytes: Vec<u8> = (0..=255).collect();
    let mut every = room(2, "3W", None);
    every[6] = bytes(&all_bytes);
    let long = pair("a", 1, &"가".repeat(2 << 20));
    let batch = vec![put(&ROOM, large.clone()), put(&ROOM, every.clone()), put(&PAIR, long.clone())];
    subject.commit(writes(batch)).await?;
    let reads =
        [get(&ROOM, vec![id(1)]), get(&ROOM, vec![id(2)]), get(&PAIR, vec![text("a"), Value::Int(1)])];
    let rows = subject.read(&reads).await?.concat();
    ensure!(rows.len() == 3, "{} rows", rows.len());
    ensure!(rows[0].values[6] == large[6], "8 MiB differ");
    ensure!(rows[1].values[6] == every[6], "bytes differ");
    ensure!(rows[2].values == long, "long text differs");
    Ok(())
}

/// A refused batch leaves nothing: no row, no delete, no offset, no outbox entry; and a whole one leaves all.
pub async fn all_or_nothing(subject: &mut Subject) -> Outcome {
    let epoch = Epoch(uuid::Uuid::from_u128(1));
    let t = subject.commit(writes(vec![put(&PAIR, pair("a", 1, "old"))])).await?;
    let batch = |expected: Option<Seq>| Batch {
        expects: vec![expect(&PAIR, vec![text("a"), Value::Int(1)], expected)],
        writes: vec![
            put(&PAIR, pair("a", 2, "new")),
            delete(&PAIR, vec![text("a"), Value::Int(1)]),
            put(&ROOM, room(1, "3W", None)),
            put_if_newer(code("c", 1, "one")),
        ],
        offset: Some(offset_move(3, epoch, 0, 10)),
        outbox: vec![outgoing(1), outgoing(2)],
        ..Batch::default()
    };
    let answer = subject.commit(batch(Some(Seq(t.0 + 1_000)))).await;
    ensure!(conflict(&answer), "a broken expectation: {answer:?}");
    let everything = [
        Read::Scan(Scan::by_key(PAIR.name, vec![])),
        Read::Scan(Scan::by_key(ROOM.name, vec![])),
        Read::Scan(Scan::by_key(CODE.name, vec![])),
    ];
    let left = subject.read(&everything).await?.concat();
    ensure!(left.len() == 1 && left[0].values == pair("a", 1, "old"), "half a batch: {left:?}");
    ensure!(subject.offset("p", 3, epoch).await? == 0, "the offset has moved");
    ensure!(subject.changes(Seq(0), 10).await?.is_empty(), "the outbox has entries");
    ensure!(subject.tables.now().await? == t, "a batch that was refused took a t");

    let t = subject.commit(batch(Some(t))).await?;
    let rows = subject.read(&everything).await?.concat();
    ensure!(rows.len() == 3 && rows.iter().all(|row| row.t == t), "not the whole batch: {rows:?}");
    ensure!(subject.offset("p", 3, epoch).await? == 10, "the offset has not moved");
    let changes = subject.changes(Seq(0), 10).await?;
    let told: Vec<(Seq, i64)> = changes.iter().map(|change| (change.t, change.n)).collect();
    ensure!(told == [(t, 0), (t, 1)], "outbox: {told:?}");
    let Value::Id(key) = id(1) else { unreachable!("an id") };
    ensure!(
        changes[0].key == key && changes[0].topic == "sample.room" && changes[0].body == outgoing(1).body,
        "outbox entry: {:?}",
        changes[0]
    );
    Ok(())
}

/// What was read is validated: rows that changed, went away or came, also when they are not written.
pub async fn expectations(subject: &mut Subject) -> Outcome {
    let key = |n: i64| vec![text("head"), Value::Int(n)];
    let t1 = subject
        .commit(writes(vec![put(&PAIR, pair("head", 1, "a")), put(&PAIR, pair("head", 2, "a"))]))
        .await?;
    let t2 = subject.commit(writes(vec![put(&PAIR, pair("head", 2, "b"))])).await?;
    let t3 = subject.commit(writes(vec![put(&PAIR, pair("head", 3, "c"))])).await?;
    subject.commit(writes(vec![delete(&PAIR, key(3))])).await?;
    let cases = [
        ("unchanged", vec![(1, Some(t1))], true),
        ("newer", vec![(2, Some(t2))], true),
        ("absent", vec![(9, None)], true),
        ("deleted, so absent", vec![(3, None)], true),
        ("changed meanwhile", vec![(2, Some(t1))], false),
        ("was absent, is there", vec![(1, None)], false),
        ("was there, is deleted", vec![(3, Some(t3))], false),
        ("was never there", vec![(9, Some(t1))], false),
        ("one of many", vec![(1, Some(t1)), (2, Some(t2)), (9, None), (3, Some(t3))], false),
        ("all of many", vec![(1, Some(t1)), (2, Some(t2)), (9, None), (3, None)], true),
    ];
    for (n, (why, expects, holds)) in cases.into_iter().enumerate() {
        let batch = Batch {
            expects: expects.into_iter().map(|(n, t)| expect(&PAIR, key(n), t)).collect(),
            writes: vec![put(&ROOM, room(n as u64, "3W", None))], // another table: the rows are only read
            ..Batch::default()
        };
        let answer = subject.commit(batch).await;
        ensure!(if holds { answer.is_ok() } else { conflict(&answer) }, "{why}: {answer:?}");
        let written = subject.get(&ROOM, vec![id(n as u64)]).await?.is_some();
        ensure!(written == holds, "{why}: written {written}");
    }
    Ok(())
}

/// A scan is validated through its head row: who adds a row under it bumps the head, and the reader conflicts.
pub async fn scans_are_validated_through_a_head(subject: &mut Subject) -> Outcome {
    let head = vec![text("family"), Value::Int(0)];
    subject
        .commit(writes(vec![put(&PAIR, pair("family", 0, "head")), put(&PAIR, pair("family", 1, "x"))]))
        .await?;
    let read = |subject: &Subject| {
        let reads = [get(&PAIR, head.clone()), Read::Scan(Scan::by_key(PAIR.name, vec![text("family")]))];
        let tables = subject.tables.clone();
        async move { tables.read(&reads).await }
    };
    let before = read(subject).await?;
    let head_t = before[0][0].t;
    // Another worker adds to the family: new row and head together.
    subject
        .commit(Batch {
            expects: vec![expect(&PAIR, head.clone(), Some(head_t))],
            writes: vec![put(&PAIR, pair("family", 2, "y")), put(&PAIR, pair("family", 0, "head"))],
            ..Batch::default()
        })
        .await?;
    let result_of = |rows: &[Row]| put(&ROOM, room(rows.len() as u64, "3W", None));
    let stale = Batch {
        expects: vec![expect(&PAIR, head.clone(), Some(head_t))],
        writes: vec![result_of(&before[1])],
        ..Batch::default()
    };
    let answer = subject.commit(stale).await;
    ensure!(conflict(&answer), "computed from a scan that is no longer true: {answer:?}");
    let again = read(subject).await?;
    subject
        .commit(Batch {
            expects: vec![expect(&PAIR, head, Some(again[0][0].t))],
            writes: vec![result_of(&again[1])],
            ..Batch::default()
        })
        .await?;
    ensure!(subject.get(&ROOM, vec![id(3)]).await?.is_some(), "the retry is not written");
    Ok(())
}

/// Sixteen workers each add one to each of three counters, many times, from what they read; none is lost. Two
/// handles stand for two processes where the engine allows two.
pub async fn read_modify_write_loses_nothing(subject: &mut Subject) -> Outcome {
    const WORKERS: usize = 16;
    const ROUNDS: i64 = 12;
    let other = subject.other_process().await;
    let subject: &Subject = subject;
    let workers = (0..WORKERS).map(|worker| {
        let other = other.clone();
        async move {
            for _ in 0..ROUNDS {
                loop {
                    let key = |n: i64| vec![text("counter"), Value::Int(n)];
                    let reads: Vec<Read> = (0..3).map(|n| get(&PAIR, key(n))).collect();
                    let rows = subject.read(&reads).await?;
                    let mut batch = Batch::default();
                    for (n, rows) in rows.iter().enumerate() {
                        let row = rows.first();
                        batch.expects.push(expect(&PAIR, key(n as i64), row.map(|row| row.t)));
                        let was = match row.map(|row| &row.values[2]) {
                            Some(Value::Text(was)) => was.parse::<i64>().unwrap_or(i64::MIN),
                            _ => 0,
                        };
                        batch.writes.push(put(&PAIR, pair("counter", n as i64, &(was + 1).to_string())));
                    }
                    let answer =
                        if worker % 2 == 0 { subject.commit(batch).await } else { other.commit(batch).await };
                    match answer {
                        Ok(_) => break,
                        Err(TablesError::Conflict(_)) => tokio::task::yield_now().await,
                        Err(error) => return Err(error),
                    }
                }
            }
            Ok(())
        }
    });
    futures::future::try_join_all(workers).await?;
    for row in subject.scan(Scan::by_key(PAIR.name, vec![text("counter")])).await? {
        let want = (WORKERS as i64 * ROUNDS).to_string();
        ensure!(row.values[2] == text(&want), "{:?} instead of {want}", row.values[2]);
    }
    other.close_if_other(subject).await;
    Ok(())
}

/// Of many writers that saw the same row, one wins; the others can try again.
pub async fn one_writer_wins(subject: &mut Subject) -> Outcome {
    for round in 0..8 {
        let key = vec![text("bed"), Value::Int(round)];
        let racers = (0..8).map(|n| {
            let batch = Batch {
                expects: vec![expect(&PAIR, key.clone(), None)],
                writes: vec![put(&PAIR, pair("bed", round, &n.to_string()))],
                outbox: vec![outgoing(n)],
                ..Batch::default()
            };
            subject.commit(batch)
        });
        let answers = futures::future::join_all(racers).await;
        let won: Vec<usize> = answers.iter().enumerate().filter(|(_, a)| a.is_ok()).map(|(n, _)| n).collect();
        ensure!(won.len() == 1, "round {round}: {} winners", won.len());
        ensure!(answers.iter().filter(|a| conflict(a)).count() == 7, "round {round}: {answers:?}");
        let row = subject.get(&PAIR, key.clone()).await?.ok_or("no row")?;
        ensure!(row.values[2] == text(&won[0].to_string()), "the winner's row is not there: {row:?}");
        let retry = Batch {
            expects: vec![expect(&PAIR, key, Some(row.t))],
            writes: vec![put(&PAIR, pair("bed", round, "again"))],
            ..Batch::default()
        };
        subject.commit(retry).await?;
    }
    let told = subject.changes(Seq(0), 1_000).await?.len();
    ensure!(told == 8, "{told} outbox entries of 8 winners");
    Ok(())
}

/// Batches that come at once stand or fall each for itself: those that conflict, fence or do not fit leave their
/// neighbours whole, and each whole one has its own t.
pub async fn a_failing_batch_leaves_its_neighbours_whole(subject: &mut Subject) -> Outcome {
    let epoch = Epoch(uuid::Uuid::from_u128(1));
    let calls = (0..60u64).map(|n| {
        let mut batch = Batch {
            expects: vec![expect(&ROOM, vec![id(n)], None)],
            writes: vec![put(&ROOM, room(n, "3W", None)), put(&PAIR, pair("n", n as i64, "x"))],
            outbox: vec![outgoing(n)],
            ..Batch::default()
        };
        match n % 5 {
            1 => batch.expects.push(expect(&PAIR, vec![text("no"), Value::Int(1)], Some(Seq(3)))),
            2 => batch.offset = Some(offset_move(n as u16, epoch, 7, 8)), // it stands at 0
            3 => batch.writes.push(put(&PAIR, pair("\0", 1, "x"))),
            _ => {}
        }
        subject.commit(batch)
    });
    let answers = futures::future::join_all(calls).await;
    let mut seen = BTreeSet::new();
    for (n, answer) in answers.iter().enumerate() {
        let as_it_should = match n % 5 {
            1 => conflict(answer),
            2 => matches!(answer, Err(TablesError::Fenced { .. })),
            3 => shape(answer),
            _ => answer.is_ok(),
        };
        ensure!(as_it_should, "batch {n}: {answer:?}");
        let reads = [get(&ROOM, vec![id(n as u64)]), get(&PAIR, vec![text("n"), Value::Int(n as i64)])];
        let rows = subject.read(&reads).await?.concat();
        match answer {
            Ok(t) => {
                ensure!(rows.len() == 2 && rows.iter().all(|row| row.t == *t), "batch {n} at {t}: {rows:?}");
                ensure!(rows[0].values[7] == Value::Seq(*t), "batch {n}: this commit is not {t}");
                ensure!(seen.insert(*t), "two commits have the t {t}");
            }
            Err(_) => ensure!(rows.is_empty(), "batch {n} is half there: {rows:?}"),
        }
    }
    let told: Vec<Seq> = subject.changes(Seq(0), 1_000).await?.iter().map(|change| change.t).collect();
    ensure!(
        told == seen.into_iter().collect::<Vec<_>>(),
        "the outbox is not that of the whole ones: {told:?}"
    );
    Ok(())
}

/// Moments grow with the commits, also where clocks stand still or go back, among neighbours, in two processes, and after
/// the tables were opened again; none is before its writer's clock.
pub async fn moments_grow_with_commits(subject: &mut Subject) -> Outcome {
    let batch = |n: u64, clock: i64| {
        let mut row = room(n, "3W", None);
        row[3] = Value::ThisMoment;
        row[7] = Value::ThisCommit;
        Batch { moment: Some(Timestamp::from_micros(clock)), ..writes(vec![put(&ROOM, row)]) }
    };
    let clock = |n: u64| 1_700_000_000_000_000 - (n as i64 % 7) * 1_000_000;
    let other = subject.other_process().await;
    let here = (0..20).map(|n| subject.commit(batch(n, clock(n))));
    let there = (20..40).map(|n| other.commit(batch(n, clock(n))));
    let (here, there) = futures::join!(futures::future::join_all(here), futures::future::join_all(there));
    for t in here.into_iter().chain(there) {
        t?;
    }
    other.close_if_other(subject).await;
    subject.reopen(&TABLES).await?;
    for n in 40..43 {
        subject.commit(batch(n, clock(n))).await?;
    }
    let mut rows = subject.scan(Scan::by_key(ROOM.name, vec![])).await?;
    ensure!(rows.len() == 43, "{} rows", rows.len());
    rows.sort_by_key(|row| row.t);
    let mut last = i64::MIN;
    for row in &rows {
        let (Value::Id(id), Value::Time(at)) = (&row.values[0], &row.values[3]) else {
            return Err(format!("no moment: {row:?}").into());
        };
        let n = (0..43).find(|n| Value::Id(*id) == crate::sample::id(*n)).ok_or("whose?")?;
        ensure!(at.as_micros() > last, "{at} in commit {:?}, behind {last}", row.t);
        ensure!(at.as_micros() >= clock(n), "{at} is before the clock of its writer");
        last = at.as_micros();
    }
    let far = 1_900_000_000_000_000;
    subject.commit(batch(1, far)).await?;
    let row = subject.get(&ROOM, vec![id(1)]).await?.ok_or("no row")?;
    ensure!(row.values[3] == time(far), "a clock that has gone on is believed: {:?}", row.values[3]);
    Ok(())
}

/// A commit gives numbers that no other one gives, in keys and beside them, also among neighbours that ask for the same.
pub async fn numbers_of_a_commit_are_nobody_elses(subject: &mut Subject) -> Outcome {
    let nth = Value::ThisCommitNth;
    let last = hilum_engines::limits::NTH_END - 1;
    let row = |group: &str, n: u32| vec![text(group), nth(n), text("x"), Value::Null];
    let calls = (0..40u64).map(|n| {
        let mut beside = room(n, "3W", None);
        beside[4] = nth(1);
        let rows = vec![
            put(&PAIR, row("n", 0)),
            put(&PAIR, row("n", 1)),
            put(&PAIR, row("n", last)),
            put(&ROOM, beside),
        ];
        subject.commit(writes(rows))
    });
    let mut commits = Vec::new();
    for t in futures::future::join_all(calls).await {
        commits.push(t?);
    }
    let number = |t: Seq, n: u32| Value::Int((t.0 << 20) + i64::from(n));
    let mut want: Vec<Value> = commits.iter().flat_map(|t| [0, 1, last].map(|n| number(*t, n))).collect();
    want.sort_unstable();
    let got = subject.scan(Scan::by_key(PAIR.name, vec![text("n")])).await?;
    let got: Vec<Value> = got.into_iter().filter_map(|row| row.values.into_iter().nth(1)).collect();
    ensure!(got == want, "numbers in keys: {got:?}, not {want:?}");
    for (n, t) in commits.iter().enumerate() {
        let row = subject.read(&[get(&ROOM, vec![id(n as u64)])]).await?.concat();
        ensure!(row.iter().all(|row| row.values[4] == number(*t, 1)), "beside a key at {t}: {row:?}");
    }
    // A row that is there is found again by its number, and written over.
    subject
        .commit(writes(vec![put(&PAIR, vec![text("n"), want[0].clone(), text("y"), Value::Null])]))
        .await?;
    let again = subject.scan(Scan::by_key(PAIR.name, vec![text("n")])).await?;
    ensure!(again.len() == want.len() && again[0].values[2] == text("y"), "written over: {again:?}");
    Ok(())
}

/// A batch whose expectation is broken by one that came at the same moment conflicts, and only then.
pub async fn neighbours_see_each_other(subject: &mut Subject) -> Outcome {
    for round in 0..10 {
        let key = vec![text("n"), Value::Int(round)];
        let expects_absent = |write: Option<&str>| Batch {
            expects: vec![expect(&PAIR, key.clone(), None)],
            writes: write.map(|order| put(&PAIR, pair("n", round, order))).into_iter().collect(),
            outbox: vec![outgoing(1)],
            ..Batch::default()
        };
        let (writer, reader) =
            tokio::join!(subject.commit(expects_absent(Some("x"))), subject.commit(expects_absent(None)));
        ensure!(writer.is_ok(), "round {round}: the first is refused: {writer:?}");
        // The reader was first (and it was absent) or second (and conflicts): its t tells.
        match (&writer, &reader) {
            (Ok(writer), Ok(reader)) => {
                ensure!(reader < writer, "round {round}: at {reader} the row of {writer} was not there");
            }
            _ => ensure!(conflict(&reader), "round {round}: {reader:?}"),
        }
    }
    Ok(())
}

fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![vec![]];
    }
    let mut all = Vec::new();
    for shorter in orders(n - 1) {
        for at in 0..=shorter.len() {
            let mut order = shorter.clone();
            order.insert(at, n - 1);
            all.push(order);
        }
    }
    all
}

/// A register ends with its newest value in any order of arrival, also when all come at once.
pub async fn registers_take_the_newest(subject: &mut Subject) -> Outcome {
    let stamps = [3u8, 1, 4, 2];
    for (n, order) in orders(4).into_iter().enumerate() {
        let name = format!("c{n}");
        for &at in &order {
            subject
                .commit(writes(vec![put_if_newer(code(&name, stamps[at], &stamps[at].to_string()))]))
                .await?;
        }
        let row = subject.get(&CODE, vec![text(&name)]).await?.ok_or("no row")?;
        ensure!(row.values == code(&name, 4, "4"), "order {order:?}: {row:?}");
    }
    let all_at_once = (1..=9u8).map(|stamp| {
        let stamp = stamp * 7 % 11;
        subject.commit(writes(vec![put_if_newer(code("burst", stamp, &stamp.to_string()))]))
    });
    let answers = futures::future::join_all(all_at_once).await;
    ensure!(answers.iter().all(Result::is_ok), "{answers:?}");
    let row = subject.get(&CODE, vec![text("burst")]).await?.ok_or("no row")?;
    ensure!(row.values == code("burst", 10, "10"), "burst: {row:?}");
    // An equal stamp changes nothing: not the row, not its t.
    subject.commit(writes(vec![put_if_newer(code("burst", 10, "other"))])).await?;
    let same = subject.get(&CODE, vec![text("burst")]).await?;
    ensure!(same.as_ref() == Some(&row), "an equal stamp has replaced it: {same:?}");
    Ok(())
}

fn record(n: u64) -> RecordId {
    RecordId::from_uuid(uuid::Uuid::from_u128(u128::from(n) + 7))
}

fn offset_move(partition: u16, epoch: Epoch, from: u64, to: u64) -> OffsetMove {
    OffsetMove { projection: "p", stream: Stream::Hl7In, partition, epoch, from, to, last: Some(record(to)) }
}

/// An offset moves from where it stands only, and another log's is refused.
pub async fn offsets_are_fenced(subject: &mut Subject) -> Outcome {
    let (epoch, other) = (Epoch(uuid::Uuid::from_u128(1)), Epoch(uuid::Uuid::from_u128(2)));
    let batch = |epoch, from, to, n| Batch {
        writes: vec![put(&ROOM, room(n, "3W", None))],
        offset: Some(offset_move(0, epoch, from, to)),
        ..Batch::default()
    };
    ensure!(subject.offset("p", 0, epoch).await? == 0, "an offset before the first commit");
    subject.commit(batch(epoch, 0, 10, 1)).await?;
    subject.commit(batch(epoch, 10, 25, 2)).await?;
    let late = subject.commit(batch(epoch, 10, 20, 3)).await;
    ensure!(
        matches!(&late, Err(TablesError::Fenced { projection, partition: 0, .. }) if projection == "p"),
        "another worker was there: {late:?}"
    );
    let skip = subject.commit(batch(epoch, 30, 40, 3)).await;
    ensure!(matches!(skip, Err(TablesError::Fenced { .. })), "a gap: {skip:?}");
    // Who has lost the partition is told so, also when what was read has changed as well: reading again is no help.
    let mut stale = batch(epoch, 10, 20, 3);
    stale.expects.push(expect(&ROOM, vec![id(1)], None));
    let late = subject.commit(stale).await;
    ensure!(matches!(late, Err(TablesError::Fenced { .. })), "fenced and changed: {late:?}");
    let foreign = subject.commit(batch(other, 25, 30, 3)).await;
    ensure!(
        matches!(foreign, Err(TablesError::OtherLog { stored, given }) if stored == epoch && given == other),
        "another log: {foreign:?}"
    );
    let asked = subject.offset("p", 0, other).await;
    ensure!(matches!(asked, Err(TablesError::OtherLog { .. })), "another log asks: {asked:?}");
    ensure!(subject.get(&ROOM, vec![id(3)]).await?.is_none(), "a fenced batch is written");
    ensure!(subject.offset("p", 0, epoch).await? == 25, "the offset is not where it was left");
    let applied = subject.tables.applied("p", Stream::Hl7In, 0, epoch).await?;
    ensure!(
        applied == Applied { next: 25, last: Some(record(25)) },
        "the last record is not known: {applied:?}"
    );
    let nothing = OffsetMove { last: None, ..offset_move(2, epoch, 0, 3) };
    subject.commit(Batch { offset: Some(nothing), ..Batch::default() }).await?;
    let applied = subject.tables.applied("p", Stream::Hl7In, 2, epoch).await?;
    ensure!(applied == Applied { next: 3, last: None }, "no record is known: {applied:?}");
    ensure!(subject.offset("p", 1, epoch).await? == 0, "another partition has moved");
    ensure!(subject.offset("q", 0, epoch).await? == 0, "another projection has moved");
    // Two workers think that they own the partition: one goes on, the other is told.
    let two = tokio::join!(subject.commit(batch(epoch, 25, 30, 4)), subject.commit(batch(epoch, 25, 31, 5)));
    let fenced =
        [&two.0, &two.1].into_iter().filter(|a| matches!(a, Err(TablesError::Fenced { .. }))).count();
    ensure!(fenced == 1 && (two.0.is_ok() || two.1.is_ok()), "two owners: {two:?}");
    Ok(())
}

/// While writers commit, a reader that follows `changes` sees each commit whole, once, in order of t.
pub async fn changes_skip_nothing(subject: &mut Subject) -> Outcome {
    const WRITERS: u64 = 8;
    const COMMITS: u64 = 30;
    let other = subject.other_process().await;
    let subject: &Subject = subject;
    let done = Arc::new(AtomicBool::new(false));
    let writers = async {
        let each = (0..WRITERS).map(|writer| {
            let tables = if writer % 2 == 0 { subject.tables.clone() } else { other.clone() };
            async move {
                for n in 0..COMMITS {
                    let n = writer * COMMITS + n;
                    let batch = Batch {
                        writes: vec![put(&ROOM, room(n, "3W", None))],
                        outbox: (0..=n % 3).map(|_| outgoing(n)).collect(),
                        ..Batch::default()
                    };
                    tables.commit(batch).await?;
                }
                Ok::<(), TablesError>(())
            }
        });
        let all = futures::future::try_join_all(each).await;
        done.store(true, Ordering::SeqCst);
        all
    };
    let reader = async {
        let mut followed: Vec<Change> = Vec::new();
        loop {
            let last_look = done.load(Ordering::SeqCst);
            let after = followed.last().map_or(Seq(0), |change| change.t);
            let news = subject.changes(after, 4).await?;
            if news.is_empty() && last_look {
                return Ok::<_, TablesError>(followed);
            }
            followed.extend(news);
            tokio::task::yield_now().await;
        }
    };
    let (written, followed) = tokio::join!(writers, reader);
    written?;
    let followed = followed?;
    let ordered = followed.windows(2).all(|pair| (pair[0].t, pair[0].n) < (pair[1].t, pair[1].n));
    ensure!(ordered, "not in the order of t and n");
    let commits: BTreeSet<Seq> = followed.iter().map(|change| change.t).collect();
    ensure!(commits.len() as u64 == WRITERS * COMMITS, "{} commits followed", commits.len());
    let keys: BTreeSet<_> = followed.iter().map(|change| change.key).collect();
    ensure!(keys.len() as u64 == WRITERS * COMMITS, "{} subjects followed", keys.len());
    let want: u64 = (0..WRITERS * COMMITS).map(|n| n % 3 + 1).sum();
    ensure!(followed.len() as u64 == want, "{} entries of {want}", followed.len());
    other.close_if_other(subject).await;
    Ok(())
}

/// `changes` gives whole commits, at least one; `prune` shortens it and says so to who is behind.
pub async fn changes_come_in_whole_commits(subject: &mut Subject) -> Outcome {
    let mut ts = Vec::new();
    for entries in [3u64, 1, 5, 0, 2] {
        let batch = Batch { outbox: (0..entries).map(outgoing).collect(), ..Batch::default() };
        ts.push(subject.commit(batch).await?);
    }
    let cases = [
        ("less than the first commit", Seq(0), 1, vec![(ts[0], 3)]),
        ("just the first commit", Seq(0), 3, vec![(ts[0], 3)]),
        ("two commits", Seq(0), 4, vec![(ts[0], 3), (ts[1], 1)]),
        ("two and a part", Seq(0), 8, vec![(ts[0], 3), (ts[1], 1)]),
        ("a large one alone", ts[1], 2, vec![(ts[2], 5)]),
        ("over a commit without entries", ts[2], 10, vec![(ts[4], 2)]),
        ("the end", ts[4], 10, vec![]),
        ("all", Seq(0), 1_000, vec![(ts[0], 3), (ts[1], 1), (ts[2], 5), (ts[4], 2)]),
    ];
    for (why, after, limit, want) in &cases {
        let mut got: Vec<(Seq, usize)> = Vec::new();
        for change in subject.changes(*after, *limit).await? {
            match got.last_mut() {
                Some((t, n)) if *t == change.t => *n += 1,
                _ => got.push((change.t, 1)),
            }
        }
        ensure!(got == *want, "{why}: {got:?}");
    }
    let pruned = subject.tables.prune(ts[2]).await?;
    ensure!(pruned == 4, "pruned {pruned} of 4");
    let behind = subject.changes(ts[0], 10).await;
    ensure!(
        matches!(behind, Err(TablesError::Pruned { oldest }) if oldest == ts[2]),
        "who is behind: {behind:?}"
    );
    let left = subject.changes(ts[1], 100).await?;
    ensure!(left.len() == 7, "{} entries left", left.len());
    let later = subject.tables.prune(Seq(i64::MAX)).await?;
    ensure!(later == 7, "pruned {later} of 7");
    let t = subject.commit(Batch { outbox: vec![outgoing(1)], ..Batch::default() }).await?;
    let fresh = subject.changes(ts[4], 10).await?;
    ensure!(fresh.len() == 1 && fresh[0].t == t, "after the window: {fresh:?}");
    Ok(())
}

/// One holder at a time; each new one, and an old one that was late, gets the next token.
pub async fn leases_are_fenced(subject: &mut Subject) -> Outcome {
    let first = subject.lease("publisher", "a", 0, 100).await?.ok_or("nobody holds it, and yet")?;
    ensure!(subject.lease("publisher", "b", 50, 150).await?.is_none(), "two holders");
    let renewed = subject.lease("publisher", "a", 60, 200).await?;
    ensure!(renewed == Some(first), "a renewal in time: {renewed:?}");
    // To the moment, where the clock is ours; a server's own is some moments further when it is asked.
    let (last, over) = if subject.allows_two_processes() { (150, 260) } else { (199, 200) };
    ensure!(subject.lease("publisher", "b", last, 300).await?.is_none(), "it runs until 200");
    let second = subject.lease("publisher", "b", over, over + 200).await?.ok_or("it ran out at 200")?;
    ensure!(second > first, "{second:?} after {first:?}");
    ensure!(subject.lease("publisher", "a", 300, 400).await?.is_none(), "the old holder is back too soon");
    let third = subject.lease("publisher", "b", 520, 600).await?.ok_or("its own, ran out")?;
    ensure!(third > second, "the same holder after it ran out: {third:?} after {second:?}");
    ensure!(subject.lease("other", "a", 0, 1).await?.is_some(), "another lease");
    // What is given is what was asked for: one that would be cut short is refused.
    let most = 520 + LEASE_S_MAX * 100;
    ensure!(subject.lease("long", "a", 520, most).await?.is_some(), "as long as any is given");
    let longer = subject.lease("long", "a", 520, most + 1).await;
    ensure!(matches!(longer, Err(TablesError::Shape { .. })), "longer than any is given: {longer:?}");
    ensure!(subject.lease("long", "b", 520, 600).await?.is_none(), "whoever wants it for less");
    let subject: &Subject = subject;
    let rivals = (0..8).map(|n| {
        let holder = format!("h{n}");
        async move { subject.lease("race", &holder, 0, 1_000).await }
    });
    let won = futures::future::try_join_all(rivals).await?.into_iter().flatten().count();
    ensure!(won == 1, "{won} holders after a race");
    Ok(())
}

/// What was committed is there after the engine was closed and opened again, and t goes on.
pub async fn reopening_keeps_all(subject: &mut Subject) -> Outcome {
    let epoch = Epoch(uuid::Uuid::from_u128(1));
    let t = subject
        .commit(Batch {
            writes: vec![put(&ROOM, room(1, "3W", Some("1"))), put_if_newer(code("c", 1, "one"))],
            offset: Some(offset_move(0, epoch, 0, 5)),
            outbox: vec![outgoing(1)],
            ..Batch::default()
        })
        .await?;
    let lease = subject.lease("l", "a", 0, 1_000).await?;
    let before = subject.get(&ROOM, vec![id(1)]).await?;
    subject.reopen(&TABLES).await?;
    ensure!(subject.get(&ROOM, vec![id(1)]).await? == before, "the row is not as it was");
    ensure!(subject.offset("p", 0, epoch).await? == 5, "the offset");
    ensure!(subject.changes(Seq(0), 10).await?.len() == 1, "the outbox");
    ensure!(subject.tables.now().await? == t, "the newest commit");
    ensure!(subject.lease("l", "b", 50, 60).await?.is_none(), "whoever wants it for less: {lease:?}");
    let next = subject.commit(writes(vec![put(&ROOM, room(2, "3W", None))])).await?;
    ensure!(next > t, "t went back: {next} after {t}");
    Ok(())
}

/// After `close` calls fail and do not hang; closing twice is no fault.
pub async fn closing_ends_it(subject: &mut Subject) -> Outcome {
    let waiting = (0..20).map(|n| subject.commit(writes(vec![put(&ROOM, room(n, "3W", None))])));
    let (answers, ()) = tokio::join!(futures::future::join_all(waiting), async {
        tokio::task::yield_now().await;
        subject.tables.close().await;
    });
    subject.tables.close().await;
    let late = subject.commit(writes(vec![put(&ROOM, room(99, "3W", None))])).await;
    ensure!(matches!(late, Err(TablesError::Engine(_))), "a commit after close: {late:?}");
    subject.reopen(&TABLES).await?;
    for (n, answer) in answers.iter().enumerate() {
        let there = subject.get(&ROOM, vec![id(n as u64)]).await?.is_some();
        ensure!(there == answer.is_ok(), "batch {n}: {answer:?}, and there: {there}");
    }
    Ok(())
}

/// Who waits for commits is woken with the newest one.
pub async fn commits_wake_who_waits(subject: &mut Subject) -> Outcome {
    let mut committed = subject.tables.committed();
    let t = subject.commit(writes(vec![put(&ROOM, room(1, "3W", None))])).await?;
    let seen =
        tokio::time::timeout(std::time::Duration::from_secs(5), committed.wait_for(|seen| *seen >= t)).await;
    ensure!(matches!(seen, Ok(Ok(_))), "nobody was woken");
    Ok(())
}

/// A schema of a newer program is refused, not changed.
pub async fn newer_schemas_are_refused(subject: &mut Subject) -> Outcome {
    subject.make_newer().await;
    let answer = subject.reopen(&TABLES).await;
    ensure!(matches!(answer, Err(TablesError::Newer { stored: 1_000_000, .. })), "{answer:?}");
    Ok(())
}

mod declared {
    use hilum_engines::tables::{Column, Index, Table, Type};

    pub static BEFORE: Table = Table {
        name: "sample_grows",
        key_len: 1,
        columns: &[
            Column::new("id", Type::Int),
            Column::new("unit", Type::Text),
            Column::new("gone", Type::Text),
        ],
        indexes: &[
            Index { name: "by_unit", columns: &["unit"] },
            Index { name: "by_gone", columns: &["gone"] },
        ],
        register: None,
    };
    /// A new column, one that may be absent now, one index more, one changed, one gone.
    pub static AFTER: Table = Table {
        columns: &[
            Column::new("id", Type::Int),
            Column::optional("unit", Type::Text),
            Column::new("gone", Type::Text),
            Column::optional("bed", Type::Text),
        ],
        indexes: &[
            Index { name: "by_unit", columns: &["unit", "bed"] },
            Index { name: "by_bed", columns: &["bed"] },
        ],
        ..BEFORE_BASE
    };
    pub static OTHER_TYPE: Table =
        Table { columns: &[Column::new("id", Type::Int), Column::new("unit", Type::Int)], ..BEFORE_BASE };
    pub static OTHER_KEY: Table = Table { key_len: 2, ..BEFORE_BASE };
    pub static REQUIRED: Table = Table {
        columns: &[
            Column::new("id", Type::Int),
            Column::new("unit", Type::Text),
            Column::new("gone", Type::Text),
            Column::new("bed", Type::Text),
        ],
        ..BEFORE_BASE
    };
    const BEFORE_BASE: Table = Table {
        name: "sample_grows",
        key_len: 1,
        columns: &[
            Column::new("id", Type::Int),
            Column::new("unit", Type::Text),
            Column::new("gone", Type::Text),
        ],
        indexes: &[],
        register: None,
    };
}

/// A declaration that only adds is followed; what would lose or reinterpret rows is refused.
pub async fn schemas_grow(subject: &mut Subject) -> Outcome {
    subject.reopen(&[&declared::BEFORE]).await?;
    let old = vec![Value::Int(1), text("3W"), text("x")];
    subject.commit(writes(vec![put(&declared::BEFORE, old)])).await?;
    for (why, table) in [
        ("another type", &declared::OTHER_TYPE),
        ("another key", &declared::OTHER_KEY),
        ("a column that old rows lack", &declared::REQUIRED),
    ] {
        let answer = subject.reopen(&[table]).await;
        ensure!(shape(&answer), "{why}: {answer:?}");
    }
    subject.reopen(&[&declared::AFTER]).await?;
    let row = subject.get(&declared::AFTER, vec![Value::Int(1)]).await?.ok_or("the row is gone")?;
    ensure!(row.values == [Value::Int(1), text("3W"), text("x"), Value::Null], "{row:?}");
    let new = vec![Value::Int(2), Value::Null, text("y"), text("7")];
    subject.commit(writes(vec![put(&declared::AFTER, new.clone())])).await?;
    let scan = Scan::by_index(declared::AFTER.name, "by_unit", vec![]);
    let rows: Vec<Vec<Value>> = subject.scan(scan).await?.into_iter().map(|row| row.values).collect();
    ensure!(rows.len() == 2 && rows[0] == new, "the changed index: {rows:?}");
    let bed = Scan::by_index(declared::AFTER.name, "by_bed", vec![text("7")]);
    ensure!(subject.scan(bed).await?.len() == 1, "the new index");
    subject.reopen(&[&declared::AFTER]).await?;
    ensure!(subject.scan(Scan::by_key(declared::AFTER.name, vec![])).await?.len() == 2, "opened again");
    Ok(())
}

trait CloseIfOther {
    async fn close_if_other(&self, subject: &Subject);
}

impl CloseIfOther for hilum_engines::tables::Tables {
    async fn close_if_other(&self, subject: &Subject) {
        if subject.allows_two_processes() {
            self.close().await;
        }
    }
}
