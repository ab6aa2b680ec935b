//! Whether the log is the one that the tables were folded from, as far as they were, and whether their rows are of the
//! form that this program reads.
//!
//! A restore of one of the two files puts an older log beside newer tables. Then new messages would be given offsets
//! that are passed already: acknowledged, and never applied. The offset row keeps the id of the last record applied,
//! so that this is found out before anything is accepted, also when the log has grown past the offset since.

use hilum_core::{Id, Stream};
use hilum_engines::log::{Log, LogError, ReadMax};
use hilum_engines::tables::{
    Batch, Column, Expect, OffsetMove, Read, Table, Tables, TablesError, Type, Value, Write,
};

use crate::error::ChartError;
use crate::port;
use crate::projection::Projection;

/// In which form each projection's rows are: a row of another one may be read without an error and mean something else.
pub const FORM: Table = Table {
    name: "chart_form",
    key_len: 1,
    columns: &[Column::new("projection", Type::Text), Column::new("form", Type::Int)],
    indexes: &[],
    register: None,
};

/// Which log the rows were folded from: two logs in one schema would each pass over what the other applied.
pub const LOG: Table = Table {
    name: "chart_log",
    key_len: 1,
    columns: &[
        Column::new("one", Type::Int),
        Column::new("epoch", Type::Id),
        Column::new("place", Type::Text), // for people
    ],
    indexes: &[],
    register: None,
};

/// Whether the rows are of this log, as far as it is written down; whether it is.
async fn is_of_log(log: &Log, tables: &Tables) -> Result<bool, ChartError> {
    let read = Read::Get { table: LOG.name, key: vec![Value::Int(0)] };
    let found = port::read(tables, &[read]).await?.pop().unwrap_or_default();
    let Some([_, Value::Id(epoch), Value::Text(place)]) = found.first().map(|row| row.values.as_slice())
    else {
        return Ok(false);
    };
    let own = Id::from(log.epoch().0);
    if *epoch == own {
        return Ok(true);
    }
    let (stored, ours) = (format!("{epoch} ({place})"), format!("{own} ({})", log.place()));
    Err(ChartError::OtherLog { stored, ours })
}

/// Writes down which log the rows are of, unless another process was first.
async fn write_log(log: &Log, tables: &Tables) -> Result<(), ChartError> {
    let key = vec![Value::Int(0)];
    let values = vec![Value::Int(0), Value::Id(Id::from(log.epoch().0)), Value::Text(log.place())];
    let expects = vec![Expect { table: LOG.name, key, t: None }];
    let writes = vec![Write::Put { table: LOG.name, values }];
    match port::commit(tables, Batch { expects, writes, ..Batch::default() }).await {
        Ok(_) => Ok(()),
        Err(TablesError::Conflict(_)) => is_of_log(log, tables).await.map(drop),
        Err(error) => Err(error.into()),
    }
}

/// Whether nothing was ever applied to these tables, nor a log begun beside them.
async fn is_new<P: Projection>(log: &Log, tables: &Tables) -> Result<bool, ChartError> {
    if stored_form::<P>(tables).await?.is_some() {
        return Ok(false);
    }
    for (stream, partition) in log.places(P::STREAMS) {
        if port::offset(tables, P::NAME, stream, partition, log.epoch()).await? > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Refuses tables that others share and that are new beside a log which is not: they may be those of another server,
/// while what the right ones have (accounts, keys, who looked) is elsewhere. A rebuild makes them on purpose.
///
/// # Errors
/// [`ChartError::NewTables`]; else the engines'.
pub async fn refuse_new<P: Projection>(log: &Log, tables: &Tables) -> Result<(), ChartError> {
    // What is not new never will be again: the log need not be asked then.
    if !tables.is_shared() || !is_new::<P>(log, tables).await? {
        return Ok(());
    }
    // Before the tables are asked once more: who begins both writes the tables down before anything into the log.
    let mut records = 0;
    for (stream, partition) in log.places(P::STREAMS) {
        records += port::known_end(log, stream, partition).await?.unwrap_or_default();
    }
    if records > 0 && is_new::<P>(log, tables).await? {
        return Err(ChartError::NewTables { records });
    }
    Ok(())
}

async fn stored_form<P: Projection>(tables: &Tables) -> Result<Option<i64>, ChartError> {
    let read = Read::Get { table: FORM.name, key: vec![Value::Text(P::NAME.to_owned())] };
    let found = port::read(tables, &[read]).await?.pop().unwrap_or_default();
    Ok(found.first().and_then(|row| match row.values.get(1) {
        Some(Value::Int(form)) => Some(*form),
        _ => None,
    }))
}

/// Writes down that the rows are of this program's form: those of a projection that keeps none yet, or that were made
/// anew.
pub(crate) async fn write_form<P: Projection>(tables: &Tables) -> Result<(), ChartError> {
    if stored_form::<P>(tables).await? != Some(P::FORM) {
        let values = vec![Value::Text(P::NAME.to_owned()), Value::Int(P::FORM)];
        let writes = vec![Write::Put { table: FORM.name, values }];
        port::commit(tables, Batch { writes, ..Batch::default() }).await?;
    }
    Ok(())
}

/// Whether the rows are of the form that `P` reads; written down for those of a projection that keeps none yet.
///
/// # Errors
/// [`ChartError::OtherForm`], or the engines'.
pub(crate) async fn check_form<P: Projection>(log: &Log, tables: &Tables) -> Result<(), ChartError> {
    let stored = stored_form::<P>(tables).await?;
    if stored == Some(P::FORM) {
        return Ok(());
    }
    if is_new::<P>(log, tables).await? {
        return write_form::<P>(tables).await;
    }
    // Somebody may have begun in between: the form is written before the first batch is.
    let stored = stored_form::<P>(tables).await?;
    if stored == Some(P::FORM) {
        return Ok(());
    }
    Err(ChartError::OtherForm { projection: P::NAME, stored: stored.unwrap_or_default(), ours: P::FORM })
}

/// The next offset of one partition, if the log fits.
pub(crate) async fn next_offset<P: Projection>(
    log: &Log,
    tables: &Tables,
    stream: Stream,
    partition: u16,
) -> Result<u64, ChartError> {
    let applied = port::applied(tables, P::NAME, stream, partition, log.epoch()).await?;
    let end = port::known_end(log, stream, partition).await?;
    let next = applied.next;
    if let Some(end) = end.filter(|end| *end < next) {
        return Err(ChartError::LogBehind { stream, partition, end, next });
    }
    let (Some(offset), Some(last)) = (next.checked_sub(1), applied.last) else { return Ok(next) };
    let one = ReadMax { records: 1, bytes: 0 };
    match port::records(log, (stream, partition), offset, one).await {
        Ok(records) if records.first().is_some_and(|record| record.envelope.id != last) => {
            Err(ChartError::LogReplaced { stream, partition, offset })
        }
        // One that cannot be read any more says nothing about the log.
        Ok(_)
        | Err(
            LogError::Corrupt { .. }
            | LogError::Missing { .. }
            | LogError::Newer { .. }
            | LogError::Unsure { .. },
        ) => Ok(next),
        Err(error) => Err(error.into()),
    }
}

/// Whether the log fits what `P` keeps in `tables`, and that this program: to be asked before anything is accepted into
/// it.
///
/// # Errors
/// [`ChartError::LogBehind`], [`ChartError::LogReplaced`], [`ChartError::OtherLog`] or
/// [`OtherLog`](hilum_engines::tables::TablesError::OtherLog) when the log does not, [`ChartError::OtherForm`] when the
/// rows do not; else the engines'.
pub async fn check<P: Projection>(log: &Log, tables: &Tables) -> Result<(), ChartError> {
    let is_written_down = is_of_log(log, tables).await?;
    for (stream, partition) in log.places(P::STREAMS) {
        next_offset::<P>(log, tables, stream, partition).await?;
    }
    check_form::<P>(log, tables).await?;
    if !is_written_down {
        write_log(log, tables).await?;
    }
    Ok(())
}

/// Moves the offsets of all partitions whose log does not fit back to its beginning, so that all of it is applied
/// once more on top of what stands: state is a function of the set of messages, so what was applied before changes
/// nothing, what was passed over is applied, and what only the tables know stays. Returns how many records that is.
///
/// # Errors
/// The engines'; another life of the log is no older copy of it, and is refused, and so is another form of the rows.
pub async fn go_back<P: Projection>(log: &Log, tables: &Tables) -> Result<u64, ChartError> {
    check_form::<P>(log, tables).await?;
    let mut records = 0;
    for (stream, partition) in log.places(P::STREAMS) {
        match next_offset::<P>(log, tables, stream, partition).await {
            Err(ChartError::LogBehind { .. } | ChartError::LogReplaced { .. }) => {}
            fits => {
                fits?;
                continue;
            }
        }
        let epoch = log.epoch();
        let from = port::offset(tables, P::NAME, stream, partition, epoch).await?;
        let offset = OffsetMove { projection: P::NAME, stream, partition, epoch, from, to: 0, last: None };
        let batch = Batch { offset: Some(offset), ..Batch::default() };
        port::commit(tables, batch).await?;
        records += port::known_end(log, stream, partition).await?.unwrap_or_default();
    }
    Ok(records)
}
