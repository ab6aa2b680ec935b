//! Whether the log is the one that the tables were folded from, as far as they were.
//!
//! A restore of one of the two files puts an older log beside newer tables. Then new messages would be given offsets
//! that are passed already: acknowledged, and never applied. The offset row keeps the id of the last record applied,
//! so that this is found out before anything is accepted, also when the log has grown past the offset since.

use hilum_core::Stream;
use hilum_engines::log::{Log, LogError, ReadMax};
use hilum_engines::tables::{OffsetMove, Tables};

use crate::error::ChartError;
use crate::port;
use crate::projection::Projection;

/// The next offset of one partition, if the log fits.
pub(crate) async fn next_offset<P: Projection>(
    log: &Log,
    tables: &Tables,
    stream: Stream,
    partition: u16,
) -> Result<u64, ChartError> {
    let applied = port::applied(tables, P::NAME, stream, partition, log.epoch()).await?;
    let end = port::end(log, stream, partition).await?;
    let next = applied.next;
    if end < next {
        return Err(ChartError::LogBehind { stream, partition, end, next });
    }
    let (Some(offset), Some(last)) = (next.checked_sub(1), applied.last) else { return Ok(next) };
    let one = ReadMax { records: 1, bytes: 0 };
    match port::records(log, (stream, partition), offset, one).await {
        Ok(records) if records.first().is_some_and(|record| record.envelope.id != last) => {
            Err(ChartError::LogReplaced { stream, partition, offset })
        }
        // One that cannot be read any more says nothing about the log.
        Ok(_) | Err(LogError::Corrupt { .. } | LogError::Newer { .. }) => Ok(next),
        Err(error) => Err(error.into()),
    }
}

/// Whether the log fits what `P` keeps in `tables`: to be asked before anything is accepted into it.
///
/// # Errors
/// [`ChartError::LogBehind`], [`ChartError::LogReplaced`] or
/// [`OtherLog`](hilum_engines::tables::TablesError::OtherLog) when it does not; else the engines'.
pub async fn check<P: Projection>(log: &Log, tables: &Tables) -> Result<(), ChartError> {
    for &stream in P::STREAMS {
        for partition in 0..log.partitions() {
            next_offset::<P>(log, tables, stream, partition).await?;
        }
    }
    Ok(())
}

/// Moves the offsets of all partitions whose log does not fit back to its beginning, so that all of it is applied
/// once more on top of what stands: state is a function of the set of messages, so what was applied before changes
/// nothing, what was passed over is applied, and what only the tables know stays. Returns how many records that is.
///
/// # Errors
/// The engines'; another life of the log is no older copy of it, and is refused.
pub async fn go_back<P: Projection>(log: &Log, tables: &Tables) -> Result<u64, ChartError> {
    let mut records = 0;
    for &stream in P::STREAMS {
        for partition in 0..log.partitions() {
            match next_offset::<P>(log, tables, stream, partition).await {
                Err(ChartError::LogBehind { .. } | ChartError::LogReplaced { .. }) => {}
                fits => {
                    fits?;
                    continue;
                }
            }
            let epoch = log.epoch();
            let from = port::offset(tables, P::NAME, stream, partition, epoch).await?;
            let offset =
                OffsetMove { projection: P::NAME, stream, partition, epoch, from, to: 0, last: None };
            let batch = hilum_engines::tables::Batch { offset: Some(offset), ..Default::default() };
            port::commit(tables, batch).await?;
            records += port::end(log, stream, partition).await?;
        }
    }
    Ok(records)
}
