//! The engines' calls as boxed futures: the compiler then looks into each engine's futures once, here, and not again
//! for every projection, test and binary that runs one.

use futures::future::BoxFuture;
use hilum_core::{Epoch, Seq, Stream};
use hilum_engines::log::{Log, LogError, ReadMax, Record};
use hilum_engines::tables::query::{self, Query};
use hilum_engines::tables::{Applied, Batch, Read, Row, Tables, TablesError};

type Answer<'a, T> = BoxFuture<'a, Result<T, TablesError>>;

pub(crate) fn read<'a>(tables: &'a Tables, reads: &'a [Read]) -> Answer<'a, Vec<Vec<Row>>> {
    Box::pin(tables.read(reads))
}

pub(crate) fn commit(tables: &Tables, batch: Batch) -> Answer<'_, Seq> {
    Box::pin(tables.commit(batch))
}

pub(crate) fn query<'a>(tables: &'a Tables, query: &'a Query) -> Answer<'a, query::Answer> {
    Box::pin(tables.query(query))
}

pub(crate) fn query_counts<'a>(
    tables: &'a Tables,
    queries: &'a [Query],
    bounds: query::Bounds,
) -> Answer<'a, Vec<Option<u64>>> {
    Box::pin(tables.query_counts(queries, bounds))
}

pub(crate) fn offset<'a>(
    tables: &'a Tables,
    projection: &'a str,
    stream: Stream,
    partition: u16,
    epoch: Epoch,
) -> Answer<'a, u64> {
    Box::pin(tables.offset(projection, stream, partition, epoch))
}

pub(crate) fn applied<'a>(
    tables: &'a Tables,
    projection: &'a str,
    stream: Stream,
    partition: u16,
    epoch: Epoch,
) -> Answer<'a, Applied> {
    Box::pin(tables.applied(projection, stream, partition, epoch))
}

pub(crate) fn records(
    log: &Log,
    (stream, partition): (Stream, u16),
    from: u64,
    max: ReadMax,
) -> BoxFuture<'_, Result<Vec<Record>, LogError>> {
    Box::pin(log.read(stream, partition, from, max))
}

/// Where a partition ends; absent where its end is damaged and nobody knows.
pub(crate) async fn known_end(log: &Log, stream: Stream, partition: u16) -> Result<Option<u64>, LogError> {
    match end(log, stream, partition).await {
        Ok(end) => Ok(Some(end)),
        Err(LogError::Unsure { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn end(log: &Log, stream: Stream, partition: u16) -> BoxFuture<'_, Result<u64, LogError>> {
    Box::pin(log.end(stream, partition))
}
