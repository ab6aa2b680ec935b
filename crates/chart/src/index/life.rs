//! Since when the index stands: where all of it was made anew, what was visible at earlier commits is not known any more, and
//! what goes on from there has to begin anew.

use hilum_core::Seq;
use hilum_engines::tables::{Column, Read, Table, Tables, Type, Value, Write};

use crate::error::ChartError;
use crate::port;

/// One row, once the index was made anew.
pub const LIFE: Table = Table {
    name: "chart_x_life",
    key_len: 1,
    columns: &[Column::new("id", Type::Int), Column::new("since", Type::Seq)],
    indexes: &[],
    register: None,
};

/// Says that it begins anew with the commit that writes this.
pub(super) fn begin() -> Write {
    Write::Put { table: LIFE.name, values: vec![Value::Int(0), Value::ThisCommit] }
}

/// Since which commit it stands; 0 = it was never made anew.
pub(crate) async fn since(tables: &Tables) -> Result<Seq, ChartError> {
    let read = Read::Get { table: LIFE.name, key: vec![Value::Int(0)] };
    let found = port::read(tables, &[read]).await?.pop().unwrap_or_default();
    Ok(match found.first().and_then(|row| row.values.get(1)) {
        Some(Value::Seq(since)) => *since,
        _ => Seq(0),
    })
}
