//! A batch that cannot be applied as it is: cut in half, until the one event stands alone that makes it.

use super::{Item, Place, Runner, Stage, Stepped, Taken};
use crate::error::ChartError;
use crate::projection::{Projection, Rows};

/// Why a batch cannot be applied as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Panic,
    Shape,
    Rounds,
    Range,
    Writes,
    Rows,
}

impl Fault {
    pub(super) const fn rule(self) -> &'static str {
        match self {
            Self::Panic => "apply.panic",
            Self::Shape => "apply.shape",
            Self::Rounds => "apply.rounds",
            Self::Range => "apply.range",
            Self::Writes => "apply.writes",
            Self::Rows => "apply.rows",
        }
    }

    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Panic => "the program failed on it",
            Self::Shape => "a value cannot be stored",
            Self::Rounds => "it needs more rounds of reading than are allowed",
            Self::Range => "it needs more rows than are allowed",
            Self::Writes => "it writes more rows than are allowed",
            Self::Rows => "a stored row that it would change cannot be read",
        }
    }
}

impl<P: Projection> Runner<P> {
    /// Halves the batch, or turns its one event into a rejection.
    pub(super) fn cut(&mut self, mut taken: Taken<P>, fault: Fault) -> Result<Stepped, ChartError> {
        taken.join();
        let Some(&Place { position, .. }) = taken.places.first() else { return Ok(Stepped::Idle) };
        if taken.events.len() > 1 {
            self.halve(&mut taken);
            self.stage = Stage::Gather(taken);
            return Ok(Stepped::Halved);
        }
        let rule = fault.rule();
        if taken.fault.is_some() {
            if taken.is_bare {
                return Err(ChartError::Stuck { position, rule });
            }
            taken.is_bare = true;
            self.stage = Stage::Apply(taken);
            return Ok(Stepped::Halved);
        }
        tracing::error!(projection = P::NAME, %position, rule, "event rejected: it cannot be applied");
        taken.claim = None;
        taken.fault = Some(fault);
        self.stage = Stage::Gather(taken);
        Ok(Stepped::Halved)
    }

    /// Gives the second half of the batch back to the queue.
    pub(super) fn halve(&mut self, taken: &mut Taken<P>) {
        // Half of the events touch other families and registers: what is claimed is claimed anew, all at once.
        (taken.claim, taken.rows) = (None, Rows::default());
        let keep = taken.events.len().div_ceil(2);
        let back = taken.events.split_off(keep).into_iter().zip(taken.places.split_off(keep));
        for (event, place) in back.rev() {
            self.queue.push_front(Item { place, event });
        }
        self.size = keep;
    }
}
