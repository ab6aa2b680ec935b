//! A record of the log that cannot be read back: a flipped bit, a torn page, a row that is gone.
//!
//! It must not hold up what stands behind it, and must not be forgotten either: its place is written down where
//! messages that were set aside stand, and the offset moves over it. When it can be read again (the log is restored
//! from a copy, or what read it wrongly has come to an end), a rebuild reads the record itself, and what stands for its
//! place goes.

use hilum_core::{Position, Timestamp};
use hilum_engines::log::{Log, LogError, ReadMax};

use crate::error::ChartError;
use crate::limits::{NEIGHBOURS_MAX, UNREADABLE_NEIGHBOURS, UNREADABLE_TRIES, UNREADABLE_TRIES_MIN};
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
    /// Records right before it that were passed over.
    neighbours: u32,
    /// What stands before it and them, once it was looked for.
    before: Option<Before>,
}

/// The nearest record before a damaged stretch that can be read.
#[derive(Debug, Clone, Copy)]
struct Before {
    /// Absent where there is none near.
    offset: Option<u64>,
    received: Timestamp,
}

impl Unread {
    /// Counts one more try; `before` is the record that could not be read last.
    pub(crate) fn again(before: Option<Self>, offset: u64) -> Self {
        match before {
            Some(one) if one.offset == offset => Self { tries: one.tries + 1, ..one },
            Some(one) if one.offset + 1 == offset => {
                let neighbours = one.neighbours.saturating_add(1);
                let is_long = neighbours >= UNREADABLE_NEIGHBOURS;
                let tries_max = if is_long { 1 } else { (one.tries_max / 2).max(UNREADABLE_TRIES_MIN) };
                Self { offset, tries: 1, tries_max, neighbours, before: one.before }
            }
            _ => Self { offset, tries: 1, tries_max: UNREADABLE_TRIES, neighbours: 0, before: None },
        }
    }

    /// Whether it is tried once more before it is passed over.
    pub(crate) const fn is_tried_again(self) -> bool {
        self.tries < self.tries_max
    }
}

/// What should stand for the record at `position`, which is `unread`.
pub(crate) async fn changes<P: Projection>(
    projection: &P,
    log: &Log,
    unread: &mut Unread,
    position: Position,
    why: String,
) -> Result<Changes, ChartError> {
    tracing::error!(
        projection = P::NAME, %position, why,
        "record cannot be read and is passed over: restore the log from a copy, then rebuild"
    );
    let received = received_before(log, unread, position).await?;
    let mut changes = Changes::default();
    projection.unreadable(&Unreadable { position, epoch: log.epoch(), received, why }, &mut changes);
    Ok(changes)
}

/// When the nearest readable record before it was received; when the log began where there is none. Never from what
/// stands behind it, which may come later: a rebuild must find the same.
async fn received_before(
    log: &Log,
    unread: &mut Unread,
    position: Position,
) -> Result<Timestamp, ChartError> {
    let before = match unread.before {
        Some(before) => before,
        None => look_before(log, position).await?,
    };
    unread.before = Some(before);
    let is_near = before.offset.is_some_and(|at| position.offset.saturating_sub(at) <= NEIGHBOURS_MAX);
    Ok(if is_near { before.received } else { log.created() })
}

async fn look_before(log: &Log, position: Position) -> Result<Before, ChartError> {
    for offset in (position.offset.saturating_sub(NEIGHBOURS_MAX)..position.offset).rev() {
        let one = ReadMax { records: 1, bytes: 0 };
        match port::records(log, (position.stream, position.partition), offset, one).await {
            Ok(records) => {
                if let Some(record) = records.first() {
                    return Ok(Before { offset: Some(offset), received: record.envelope.received });
                }
            }
            Err(LogError::Corrupt { .. } | LogError::Missing { .. } | LogError::Newer { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Before { offset: None, received: log.created() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries until the record at `offset` is passed over.
    fn tries(before: &mut Option<Unread>, offset: u64) -> u32 {
        loop {
            let one = Unread::again(*before, offset);
            *before = Some(one);
            if !one.is_tried_again() {
                return one.tries;
            }
        }
    }

    #[test]
    fn a_long_damaged_stretch_is_not_waited_for_record_by_record() {
        let mut before = None;
        let stretch: Vec<u32> = (0..100_000).map(|offset| tries(&mut before, offset)).collect();
        assert_eq!(stretch[..4], [UNREADABLE_TRIES, 4, 2, 2]);
        assert_eq!(stretch[15..18], [2, 1, 1]);
        let waits: u32 = stretch.iter().map(|tries| tries - 1).sum();
        assert_eq!(waits, 25, "as many half seconds in all");
        assert_eq!(tries(&mut before, 200_000), UNREADABLE_TRIES, "behind one that was read");
    }
}
