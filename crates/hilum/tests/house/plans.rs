//! PostgreSQL's plans for what the rooms declare: at 100,000 rows each index of each table is walked in its order, and no
//! table is read whole.

use std::fmt::Write as _;

use hilum_engines::tables::postgres::{Postgres, PostgresConfig};
use hilum_engines::tables::{Column, Index, Read, Row, Scan, Table, Tables, Type, Value};
use hilum_testkit::postgres::Postgres as Server;

const ROWS: u32 = 100_000;

/// All tables of the house, and those of who looked.
fn declared() -> Vec<&'static Table> {
    let parts = [
        hilum_web::tables::ALL,
        hilum_web::tables::AUDIT_ALL,
        hilum_chart::resources::TABLES,
        &[&hilum_chart::presence::PROCESS, &hilum_chart::relay::RELAY],
        hilum_adt::tables::TABLES,
        hilum_adt::tables::OWN,
    ];
    parts.into_iter().flatten().copied().collect()
}

/// The value of a column in row `g`, as SQL: of a key's columns the last one tells rows apart, all others repeat.
fn expression(table: &Table, at: usize, column: &Column) -> String {
    let n = match at {
        last if last + 1 == table.key_len => "g".to_owned(),
        _ => format!("(g % {})", 97 + at),
    };
    let value = match column.ty {
        Type::Id => format!("md5('{at}' || {n})::uuid"),
        Type::Text => format!("'v' || {n}"),
        Type::Int | Type::Seq => format!("{n}::int8"),
        Type::Bool => format!("{n} % 2 = 0"),
        Type::Time => format!("timestamptz 'epoch' + {n} * interval '1 minute'"),
        Type::Bytes => format!("decode(md5({n}::text), 'hex')"),
    };
    if column.optional { format!("CASE WHEN g % 5 > 0 THEN {value} END") } else { value }
}

fn fill(schema: &str, table: &Table) -> String {
    let (mut names, mut values) = (String::new(), String::new());
    for (at, column) in table.columns.iter().enumerate() {
        write!(names, "\"{}\", ", column.name).unwrap();
        write!(values, "{}, ", expression(table, at, column)).unwrap();
    }
    let name = format!("{schema}.\"{}\"", table.name);
    format!(
        "INSERT INTO {name} ({names}t_) SELECT {values}1 FROM generate_series(1, {ROWS}) AS g; ANALYZE {name}"
    )
}

/// Where a scan goes on behind `row`.
fn cursor(table: &Table, index: Option<&Index>, row: &Row) -> Vec<Value> {
    let columns = index.map(|index| index.columns).unwrap_or_default().iter();
    let of_index = columns.map(|name| row.values[table.column(name).unwrap()].clone());
    of_index.chain(row.values[..table.key_len].iter().cloned()).collect()
}

/// All of it, from a place on, under a value, and between values; up and down.
fn shapes(table: &'static Table, index: Option<&'static Index>, row: &Row) -> Vec<Scan> {
    let index_name = index.map(|index| index.name);
    let whole = Scan { index: index_name, limit: 20, ..Scan::by_key(table.name, Vec::new()) };
    let after = cursor(table, index, row);
    let (first, is_one_column) = (after[0].clone(), index.is_none() && table.key_len == 1);
    let mut shapes = vec![whole.clone(), Scan { after: Some(after.clone()), ..whole.clone() }];
    if !is_one_column {
        shapes.push(Scan { prefix: vec![first.clone()], ..whole.clone() });
        shapes.push(Scan { prefix: vec![first.clone()], after: Some(after), ..whole.clone() });
    }
    if first != Value::Null {
        shapes.push(Scan { from: Some(first.clone()), ..whole.clone() });
        shapes.push(Scan { to: Some(first), ..whole });
    }
    let down = shapes.iter().map(|scan| Scan { descending: true, ..scan.clone() }).collect::<Vec<_>>();
    shapes.into_iter().chain(down).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_index_of_every_table_is_walked_in_its_order() {
    let server = Server::start(&["fsync=off", "synchronous_commit=off", "max_wal_size=4GB"]);
    let config = PostgresConfig { allow_weak: true, ..PostgresConfig::new(server.url(), "plans") };
    let declared = declared();
    let postgres = Postgres::open(config, &declared).await.unwrap();
    let tables = Tables::Postgres(postgres.clone());
    let mut plans = 0;
    for table in declared {
        // A register of one row, or of a few, is read by its key whatever its size; the key tells rows apart by one column.
        if table.columns[table.key_len - 1].ty == Type::Bool {
            continue;
        }
        tokio::task::block_in_place(|| {
            let sql = fill("plans", table);
            std::thread::scope(|scope| scope.spawn(|| drop(server.rows(&sql))).join().unwrap());
        });
        let scan = Scan { limit: 500, ..Scan::by_key(table.name, Vec::new()) };
        let row = tables.read(&[Read::Scan(scan)]).await.unwrap().concat().pop().unwrap();
        for index in std::iter::once(None).chain(table.indexes.iter().map(Some)) {
            for scan in shapes(table, index, &row) {
                // Alone, and beside one that is like it.
                let plan = postgres.explain(std::slice::from_ref(&scan)).await.unwrap();
                let plan =
                    format!("{plan}\n{}", postgres.explain(&[scan.clone(), scan.clone()]).await.unwrap());
                assert!(plan.contains("Index Scan") || plan.contains("Index Only Scan"), "{scan:?}\n{plan}");
                for bad in ["Seq Scan", "Sort", "Bitmap", "Rows Removed by Filter", "Hash"] {
                    assert!(!plan.contains(bad), "{bad} in {scan:?}\n{plan}");
                }
                plans += 1;
            }
        }
        let sql = format!("TRUNCATE plans.\"{}\"", table.name);
        tokio::task::block_in_place(|| {
            std::thread::scope(|scope| scope.spawn(|| drop(server.rows(&sql))).join().unwrap());
        });
    }
    assert!(plans > 300, "{plans} plans");
}
