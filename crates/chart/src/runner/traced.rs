//! What a batch says of the messages in it whose traces are told: `apply`, and behind it `commit`.
//!
//! Told are those that their door chose; the ones that are set aside, and the one that a partition stood still at, whoever
//! chose, as far as the pace allows. Of the others nothing is done but looking at one flag, and in a batch of which some
//! are set aside, whether it is one of them.

use std::collections::BTreeMap;

use hilum_core::trace::{Said, Span, SpanKind};
use hilum_core::{Envelope, Position, Seq, Timestamp, TraceContext, Tracer};

use super::{Place, Runner};
use crate::error::Cause;
use crate::projection::Projection;

/// Since when a partition stands still.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stood {
    since: Timestamp,
    cause: Cause,
}

/// A batch that is committed.
pub(super) struct Done<'a> {
    pub(super) places: &'a [Place],
    /// What of it was set aside, and by which rule.
    pub(super) rejected: &'a [(Position, &'static str)],
    /// When it was taken from the queue.
    pub(super) taken: Timestamp,
    /// When the commit began.
    pub(super) commits: Timestamp,
    pub(super) t: Seq,
}

/// What the record's header says, where somebody wants to know.
pub(super) fn of_header(tracer: &Tracer, envelope: &Envelope) -> Option<TraceContext> {
    if !tracer.is_open() {
        return None;
    }
    envelope.trace.as_deref().and_then(TraceContext::parse)
}

impl<P: Projection> Runner<P> {
    /// Tells of a batch that is committed.
    pub(super) fn tell(&mut self, done: &Done<'_>) {
        let stood = self.stood.take();
        if !self.tracer.is_open() {
            return;
        }
        let now = self.clock.now();
        let rules: BTreeMap<Position, &'static str> = done.rejected.iter().copied().collect();
        for (at, place) in done.places.iter().enumerate() {
            let stood = stood.filter(|_| at == 0);
            let is_chosen = place.trace.is_some_and(|trace| trace.is_sampled);
            if !is_chosen && stood.is_none() && rules.is_empty() {
                continue;
            }
            let rule = rules.get(&place.position).copied();
            let is_odd = rule.is_some() || stood.is_some();
            if is_chosen || is_odd && self.tracer.may_begin(now) {
                self.tell_one(done, place, rule, stood, now);
            }
        }
    }

    fn tell_one(
        &self,
        done: &Done<'_>,
        place: &Place,
        rule: Option<&'static str>,
        stood: Option<Stood>,
        now: Timestamp,
    ) {
        let mut apply = self.span(place, "apply", SpanKind::Consumer, (done.taken, done.commits));
        apply
            .says
            .push(("hilum.outcome", Said::Word(if rule.is_some() { "quarantined" } else { "applied" })));
        apply.says.push(("hilum.conflicts", Said::Number(i64::from(self.conflicts))));
        if let Some(rule) = rule {
            apply.says.push(("hilum.rule", Said::Word(rule)));
        }
        if let Some(Stood { since, cause }) = stood {
            apply.start = apply.start.min(since);
            apply.says.push(("hilum.paused", Said::Word(cause.as_str())));
        }
        let mut commit = self.span(place, "commit", SpanKind::Internal, (done.commits, now));
        (commit.context.trace, commit.parent) = (apply.context.trace, Some(apply.context.span));
        let count = |count: usize| Said::Number(i64::try_from(count).unwrap_or(i64::MAX));
        commit.says.extend([
            ("hilum.commit", Said::Number(done.t.0)),
            ("hilum.batch.records", count(done.places.len())),
            ("hilum.batch.rejected", count(done.rejected.len())),
        ]);
        self.tracer.finish(apply);
        self.tracer.finish(commit);
    }

    /// Tells that the partition stands still, once until it goes on.
    pub(super) fn tell_paused(&mut self, cause: Cause) {
        if self.stood.is_some() {
            return;
        }
        let now = self.clock.now();
        self.stood = Some(Stood { since: now, cause });
        let Some(place) = self.at else { return };
        if self.tracer.is_open() && self.tracer.may_begin(now) {
            let mut apply = self.span(&place, "apply", SpanKind::Consumer, (self.taken, now));
            apply.failed = Some(cause.as_str());
            apply.says.push(("hilum.outcome", Said::Word("paused")));
            self.tracer.finish(apply);
        }
    }

    /// A step of one message, behind the one that its header names; one without a header has a trace by its record.
    fn span(
        &self,
        place: &Place,
        name: &'static str,
        kind: SpanKind,
        (start, end): (Timestamp, Timestamp),
    ) -> Span {
        let span = self.tracer.span_id();
        let trace = place.trace.map_or_else(|| place.record.as_uuid().into_bytes(), |carried| carried.trace);
        let Position { stream, partition, offset } = place.position;
        Span {
            context: TraceContext { trace, span, is_sampled: true },
            parent: place.trace.map(|carried| carried.span),
            name,
            kind,
            start,
            end,
            says: vec![
                ("hilum.record", Said::Record(place.record)),
                ("hilum.projection", Said::Word(P::NAME)),
                ("hilum.stream", Said::Stream(stream)),
                ("hilum.partition", Said::Number(i64::from(partition))),
                ("hilum.offset", Said::Number(i64::try_from(offset).unwrap_or(i64::MAX))),
            ],
            failed: None,
        }
    }
}
