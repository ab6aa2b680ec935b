//! The tables that the suite writes, and short forms for their rows.

use bytes::Bytes;
use hilum_core::{Id, Seq, Timestamp};
use hilum_engines::tables::{
    Batch, Column, Expect, Index, Key, Outgoing, Read, Row, Scan, Table, Type, Value, Write,
};

/// All types, optional columns, an index over each kind of order.
pub static ROOM: Table = Table {
    name: "sample_room",
    key_len: 1,
    columns: &[
        Column::new("id", Type::Id),
        Column::new("unit", Type::Text),
        Column::optional("bed", Type::Text),
        Column::optional("since", Type::Time),
        Column::new("n", Type::Int),
        Column::new("open", Type::Bool),
        Column::optional("raw", Type::Bytes),
        Column::new("t", Type::Seq), // a declared column of that name, beside the hidden one
    ],
    indexes: &[
        Index { name: "by_place", columns: &["unit", "bed"] },
        Index { name: "by_since", columns: &["since"] },
        Index { name: "by_n", columns: &["n"] },
        Index { name: "by_open", columns: &["open", "n"] },
        Index { name: "by_t", columns: &["t"] },
    ],
    register: None,
};

/// A key of two columns, names that SQL reserves.
pub static PAIR: Table = Table {
    name: "sample_pair",
    key_len: 2,
    columns: &[
        Column::new("group", Type::Text),
        Column::new("offset", Type::Int),
        Column::new("order", Type::Text),
        Column::optional("link", Type::Id),
    ],
    // A key column in the index, too.
    indexes: &[Index { name: "by_link", columns: &["link", "offset"] }],
    register: None,
};

/// A register.
pub static CODE: Table = Table {
    name: "sample_code",
    key_len: 1,
    columns: &[
        Column::new("code", Type::Text),
        Column::new("stamp", Type::Bytes),
        Column::new("display", Type::Text),
    ],
    indexes: &[],
    register: Some("stamp"),
};

/// What is known of whom from when to when: as an index of a chart is.
pub static FACT: Table = Table {
    name: "sample_fact",
    key_len: 4,
    columns: &[
        Column::new("kind", Type::Int),
        Column::new("value", Type::Text),
        Column::new("who", Type::Id),
        Column::new("from_t", Type::Seq),
        Column::optional("to_t", Type::Seq),
        Column::optional("rank", Type::Int),
    ],
    indexes: &[
        Index { name: "by_who", columns: &["kind", "who", "value"] },
        Index { name: "by_rank", columns: &["kind", "rank"] },
    ],
    register: None,
};

/// Who refers to whom.
pub static REFERS: Table = Table {
    name: "sample_refers",
    key_len: 3,
    columns: &[Column::new("kind", Type::Int), Column::new("who", Type::Id), Column::new("whom", Type::Id)],
    indexes: &[Index { name: "by_whom", columns: &["kind", "whom"] }],
    register: None,
};

/// What every engine of the suite opens.
pub static TABLES: [&Table; 5] = [&ROOM, &PAIR, &CODE, &FACT, &REFERS];

pub fn id(n: u64) -> Value {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    Value::Id(Id::from_bytes(bytes))
}

pub fn seq(t: i64) -> Value {
    Value::Seq(Seq(t))
}

pub fn text(raw: &str) -> Value {
    Value::Text(raw.to_owned())
}

pub fn opt(raw: Option<&str>) -> Value {
    raw.map_or(Value::Null, text)
}

pub fn bytes(raw: &[u8]) -> Value {
    Value::Bytes(Bytes::copy_from_slice(raw))
}

pub fn time(micros: i64) -> Value {
    Value::Time(Timestamp::from_micros(micros))
}

/// A plain row of [`ROOM`].
pub fn room(n: u64, unit: &str, bed: Option<&str>) -> Vec<Value> {
    vec![
        id(n),
        text(unit),
        opt(bed),
        Value::Null,
        Value::Int(n as i64),
        Value::Bool(n.is_multiple_of(2)),
        Value::Null,
        Value::ThisCommit,
    ]
}

/// A row of [`PAIR`].
pub fn pair(group: &str, offset: i64, order: &str) -> Vec<Value> {
    vec![text(group), Value::Int(offset), text(order), Value::Null]
}

/// A row of [`CODE`].
pub fn code(code: &str, stamp: u8, display: &str) -> Vec<Value> {
    vec![text(code), bytes(&[stamp]), text(display)]
}

pub fn put(table: &'static Table, values: Vec<Value>) -> Write {
    Write::Put { table: table.name, values }
}

pub fn put_if_newer(values: Vec<Value>) -> Write {
    Write::PutIfNewer { table: CODE.name, values }
}

pub fn set(table: &'static Table, key: Key, columns: Vec<(&'static str, Value)>) -> Write {
    Write::Set { table: table.name, key, columns }
}

pub fn delete(table: &'static Table, key: Key) -> Write {
    Write::Delete { table: table.name, key }
}

pub fn get(table: &'static Table, key: Key) -> Read {
    Read::Get { table: table.name, key }
}

pub fn expect(table: &'static Table, key: Key, t: Option<Seq>) -> Expect {
    Expect { table: table.name, key, t }
}

pub fn writes(writes: Vec<Write>) -> Batch {
    Batch { writes, ..Batch::default() }
}

pub fn outgoing(n: u64) -> Outgoing {
    let Value::Id(key) = id(n) else { unreachable!("an id") };
    Outgoing { topic: "sample.room", key, body: Bytes::from(format!("{{\"n\":{n}}}")) }
}

/// What a scan must give, computed from all rows: the definition in plain words.
pub fn oracle(table: &Table, scan: &Scan, rows: &[Row]) -> Vec<Row> {
    let mut order: Vec<usize> = match scan.index {
        None => vec![],
        Some(name) => {
            let index = table.indexes.iter().find(|index| index.name == name).expect("a declared index");
            index.columns.iter().map(|column| table.column(column).expect("a declared column")).collect()
        }
    };
    let with_key: Vec<usize> = order.iter().copied().chain(0..table.key_len).collect();
    order.extend((0..table.key_len).filter(|key| !with_key[..with_key.len() - table.key_len].contains(key)));
    let place = |row: &Row, columns: &[usize]| -> Vec<Value> {
        columns.iter().map(|column| row.values[*column].clone()).collect()
    };
    let mut found: Vec<Row> = rows
        .iter()
        .filter(|row| {
            let at = place(row, &order);
            if at[..scan.prefix.len()] != scan.prefix[..] {
                return false;
            }
            if scan.from.is_some() || scan.to.is_some() {
                let next = &at[scan.prefix.len()];
                if *next == Value::Null
                    || scan.from.as_ref().is_some_and(|from| next < from)
                    || scan.to.as_ref().is_some_and(|to| next >= to)
                {
                    return false;
                }
            }
            let with_key = place(row, &with_key);
            match &scan.after {
                None => true,
                Some(after) if scan.descending => with_key < *after,
                Some(after) => with_key > *after,
            }
        })
        .cloned()
        .collect();
    found.sort_by_key(|row| place(row, &order));
    if scan.descending {
        found.reverse();
    }
    found.truncate(scan.limit as usize);
    found
}

/// The cursor behind `row` on an index.
pub fn cursor(table: &Table, index: Option<&str>, row: &Row) -> Vec<Value> {
    let columns = index
        .and_then(|name| table.indexes.iter().find(|index| index.name == name))
        .map_or(&[][..], |index| index.columns);
    columns
        .iter()
        .filter_map(|name| table.column(name))
        .chain(0..table.key_len)
        .map(|column| row.values[column].clone())
        .collect()
}
