//! What a record that stands further behind in the log says about one before it.
//!
//! A correction replaces a message that was read before it and was set aside, so it comes too late only for a program
//! that can read what another one could not: a rebuild, or a fold that begins anew. What such a message said cannot be
//! taken out of registers again; it must not get into them. So the part of the log that is not applied yet is looked
//! through before any of it is.
//!
//! A correction has the key of what it corrects, whoever it names, so both stand in one partition, and nothing of that
//! partition is applied before all of it was looked through. One that stood in another partition (no door writes such
//! a one) is foreseen as long as all partitions can be looked through in time
//! ([`FORESEE_WAIT`](crate::limits::FORESEE_WAIT)); behind that it may come too late, is logged as that, and a rebuild
//! mends it.

use futures::future::try_join_all;
use hilum_core::Stream;
use hilum_engines::log::{Log, LogError, ReadMax};
use hilum_engines::tables::{Batch, Expect, Read, Tables, TablesError, Write};

use crate::error::ChartError;
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, COMMIT_ATTEMPTS_MAX, UNREADABLE_RETRY};
use crate::port;
use crate::projection::{Changes, Projection};
use crate::unreadable::Unread;

/// Every partition that is looked through before it is applied.
pub(crate) fn places<P: Projection>(log: &Log) -> Vec<(Stream, u16)> {
    if P::FORESEES { log.places(P::STREAMS) } else { Vec::new() }
}

/// [`foresee`] for every partition.
pub(crate) async fn foresee_all<P: Projection>(
    projection: &P,
    log: &Log,
    tables: &Tables,
) -> Result<(), ChartError> {
    let each = places::<P>(log).into_iter().map(|place| foresee(projection, log, tables, place));
    try_join_all(each).await.map(drop)
}

/// Looks through what of one partition is not applied yet, and puts the rows that [`Projection::foresee`] names, where
/// there are none yet.
pub(crate) async fn foresee<P: Projection>(
    projection: &P,
    log: &Log,
    tables: &Tables,
    place: (Stream, u16),
) -> Result<(), ChartError> {
    let from = port::offset(tables, P::NAME, place.0, place.1, log.epoch()).await?;
    let mut changes = Changes::default();
    look_through(projection, log, place, from, &mut changes).await?;
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        match put_absent(tables, &changes).await {
            Err(ChartError::Tables(TablesError::Conflict(_))) => {}
            done => return done,
        }
    }
    put_absent(tables, &changes).await
}

async fn look_through<P: Projection>(
    projection: &P,
    log: &Log,
    place: (Stream, u16),
    mut from: u64,
    changes: &mut Changes,
) -> Result<(), ChartError> {
    let end = port::known_end(log, place.0, place.1).await?;
    let mut unread = None;
    while end.is_none_or(|end| from < end) {
        let max = ReadMax { records: BATCH_RECORDS_MAX, bytes: BATCH_BYTES_MAX };
        match port::records(log, place, from, max).await {
            Ok(records) => {
                let Some(last) = records.last() else { break };
                from = last.position.offset + 1;
                for record in &records {
                    projection.foresee(record, changes);
                }
            }
            Err(LogError::Corrupt { position, .. }) => {
                // As often as when it is its turn: a correction that is misread now and read then would come too late.
                let one = Unread::again(unread, position.offset);
                unread = Some(one);
                if one.is_tried_again() {
                    tokio::time::sleep(UNREADABLE_RETRY).await;
                } else {
                    from = position.offset + 1;
                }
            }
            // The fold does not go on there; what is behind it is known then all the same.
            Err(LogError::Missing { to, .. }) => from = to,
            // That is all that can be read of it.
            Err(LogError::Unsure { .. }) => break,
            // It will be waited for when it is its turn.
            Err(LogError::Newer { position, .. }) => from = position.offset + 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn put_absent(tables: &Tables, changes: &Changes) -> Result<(), ChartError> {
    for rows in changes.rows.iter().collect::<Vec<_>>().chunks(BATCH_RECORDS_MAX) {
        let reads: Vec<Read> =
            rows.iter().map(|((table, key), _)| Read::Get { table, key: key.clone() }).collect();
        let found = port::read(tables, &reads).await?;
        let mut batch = Batch::default();
        for (((table, key), values), found) in rows.iter().zip(found) {
            if let (Some(values), true) = (values, found.is_empty()) {
                batch.expects.push(Expect { table, key: key.clone(), t: None });
                batch.writes.push(Write::Put { table, values: values.clone() });
            }
        }
        if !batch.writes.is_empty() {
            port::commit(tables, batch).await?;
        }
    }
    Ok(())
}
