//! A record of the log that cannot be read back: a flipped bit, a torn page, a row that is gone.
//!
//! It must not hold up what stands behind it, and must not be forgotten either: its place is written down where
//! messages that were set aside stand, and the offset moves over it. When it can be read again (the log is restored
//! from a copy, or what read it wrongly has come to an end), a rebuild reads the record itself, and what stands for its
//! place goes.

use hilum_core::{Position, Timestamp};
use hilum_engines::log::{Log, LogError, ReadMax};

use crate::error::ChartError;
use crate::limits::{NEIGHBOURS_MAX, UNREADABLE_TRIES, UNREADABLE_TRIES_MIN};
use crate::port;
use crate::projection::{Changes, Projection, Unreadable};

/// A record that cannot be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unread {
    pub(crate) offset: u64,
    /// Tries so far, in a row.
    pub(crate) tries: u32,
    /// Tries before it is passed over.
    tries_max: u32,
}

impl Unread {
    /// Counts one more try; `before` is the record that could not be read last.
    pub(crate) fn again(before: Option<Self>, offset: u64) -> Self {
        match before {
            Some(one) if one.offset == offset => Self { tries: one.tries + 1, ..one },
            Some(one) if one.offset + 1 == offset => {
                Self { offset, tries: 1, tries_max: (one.tries_max / 2).max(UNREADABLE_TRIES_MIN) }
            }
            _ => Self { offset, tries: 1, tries_max: UNREADABLE_TRIES },
        }
    }

    /// Whether it is tried once more before it is passed over.
    pub(crate) const fn is_tried_again(self) -> bool {
        self.tries < self.tries_max
    }
}

/// What should stand for the record at `position`.
pub(crate) async fn changes<P: Projection>(
    projection: &P,
    log: &Log,
    position: Position,
    why: String,
) -> Result<Changes, ChartError> {
    tracing::error!(
        projection = P::NAME, %position, why,
        "record cannot be read and is passed over: restore the log from a copy, then rebuild"
    );
    let received = received_before(log, position).await?;
    let mut changes = Changes::default();
    projection.unreadable(&Unreadable { position, epoch: log.epoch(), received, why }, &mut changes);
    Ok(changes)
}

/// When the nearest readable record before it was received; when the log began where there is none. Never from what
/// stands behind it, which may come later: a rebuild must find the same.
async fn received_before(log: &Log, position: Position) -> Result<Timestamp, ChartError> {
    for offset in (position.offset.saturating_sub(NEIGHBOURS_MAX)..position.offset).rev() {
        let one = ReadMax { records: 1, bytes: 0 };
        match port::records(log, (position.stream, position.partition), offset, one).await {
            Ok(records) => {
                if let Some(record) = records.first() {
                    return Ok(record.envelope.received);
                }
            }
            Err(LogError::Corrupt { .. } | LogError::Missing { .. } | LogError::Newer { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(log.created())
}
