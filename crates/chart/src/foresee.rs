//! What a record that stands further behind in the log says about one before it.
//!
//! A correction replaces a message that was read before it and was set aside, so it comes too late only for a program
//! that can read what another one could not: a rebuild, or a fold that begins anew. What such a message said cannot be
//! taken out of registers again; it must not get into them. So the part of the log that is not applied yet is looked
//! through before any of it is.

use hilum_core::Stream;
use hilum_engines::log::{Log, LogError, ReadMax};
use hilum_engines::tables::{Batch, Expect, Read, Tables, TablesError, Write};

use crate::error::ChartError;
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, COMMIT_ATTEMPTS_MAX};
use crate::port;
use crate::projection::{Changes, Projection};

/// Puts the rows that [`Projection::foresee`] names, where there are none yet.
pub(crate) async fn foresee<P: Projection>(
    projection: &P,
    log: &Log,
    tables: &Tables,
) -> Result<(), ChartError> {
    if !P::FORESEES {
        return Ok(());
    }
    let mut changes = Changes::default();
    for &stream in P::STREAMS {
        for partition in 0..log.partitions() {
            let from = port::offset(tables, P::NAME, stream, partition, log.epoch()).await?;
            look_through(projection, log, (stream, partition), from, &mut changes).await?;
        }
    }
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
    let end = port::end(log, place.0, place.1).await?;
    while from < end {
        let max = ReadMax { records: BATCH_RECORDS_MAX, bytes: BATCH_BYTES_MAX };
        match port::records(log, place, from, max).await {
            Ok(records) => {
                let Some(last) = records.last() else { break };
                from = last.position.offset + 1;
                for record in &records {
                    projection.foresee(record, changes);
                }
            }
            // It will be passed over, or waited for, when it is its turn.
            Err(LogError::Corrupt { position, .. } | LogError::Newer { position, .. }) => {
                from = position.offset + 1;
            }
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
