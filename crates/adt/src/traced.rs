//! The trace of a message at its door: `receive`, and in it `parse`, `append`, `acknowledge`.

use hilum_core::trace::{Said, Span, SpanId, SpanKind};
use hilum_core::{Clock, RecordId, SourceName, Timestamp, TraceContext, Tracer};

use crate::accept::Judgement;

/// What a door remembers of one message until it is answered.
pub(crate) struct Visit {
    /// Of the step `receive`.
    context: TraceContext,
    /// The sender's step.
    parent: Option<SpanId>,
    /// Of the step `append`: what is done with the record follows from it.
    append: SpanId,
    record: RecordId,
    received: Timestamp,
    size_bytes: usize,
}

/// When a message that is on disk was where.
#[derive(Clone, Copy)]
pub(crate) struct Steps {
    /// It was judged, and went to the log.
    pub(crate) appending: Timestamp,
    /// It was durable.
    pub(crate) durable: Timestamp,
    /// It was answered.
    pub(crate) acked: Timestamp,
}

impl Visit {
    /// Begins, where traces are told. Whoever is refused, or will be quarantined because nobody can read him, is told of
    /// as far as the pace allows.
    pub(crate) fn begin(
        tracer: &Tracer,
        clock: &Clock,
        record: RecordId,
        (sender, received): (Option<&str>, Timestamp),
        judgement: &Judgement<'_>,
        size_bytes: usize,
    ) -> Option<Self> {
        if !tracer.is_open() {
            return None;
        }
        let (sender, now) = (sender.and_then(TraceContext::parse), clock.now());
        let mut context = tracer.begin(record, sender, now);
        let is_odd = judgement.refusal.is_some() || judgement.parsed.is_err();
        context.is_sampled = context.is_sampled || is_odd && tracer.may_begin(now);
        let parent = sender.map(|sender| sender.span);
        Some(Self { context, parent, append: tracer.span_id(), record, received, size_bytes })
    }

    /// What the record carries on.
    pub(crate) fn carried(&self) -> String {
        self.context.at(self.append).to_string()
    }

    /// It is on disk and answered.
    pub(crate) fn kept(self, tracer: &Tracer, source: &SourceName, steps: Steps, is_refused: bool) {
        if !self.context.is_sampled {
            return;
        }
        let Steps { appending, durable, acked } = steps;
        let outcome = if is_refused { "refused" } else { "accepted" };
        self.tell(tracer, self.part(tracer, "parse", self.received, appending));
        let append = Span {
            kind: SpanKind::Producer,
            context: self.context.at(self.append),
            ..self.part(tracer, "append", appending, durable)
        };
        self.tell(tracer, append);
        self.tell(tracer, self.part(tracer, "acknowledge", durable, acked));
        self.tell(tracer, self.whole(source, acked, outcome));
    }

    /// The log did not take it: told as far as the pace allows.
    pub(crate) fn not_kept(
        mut self,
        tracer: &Tracer,
        source: &SourceName,
        (appending, now): (Timestamp, Timestamp),
    ) {
        self.context.is_sampled = self.context.is_sampled || tracer.may_begin(now);
        if !self.context.is_sampled {
            return;
        }
        let failed = Some("not-kept");
        self.tell(tracer, self.part(tracer, "parse", self.received, appending));
        let append = Span {
            kind: SpanKind::Producer,
            context: self.context.at(self.append),
            failed,
            ..self.part(tracer, "append", appending, now)
        };
        self.tell(tracer, append);
        self.tell(tracer, Span { failed, ..self.whole(source, now, "not-kept") });
    }

    fn tell(&self, tracer: &Tracer, mut span: Span) {
        span.says.push(("hilum.record", Said::Record(self.record)));
        tracer.finish(span);
    }

    fn part(&self, tracer: &Tracer, name: &'static str, start: Timestamp, end: Timestamp) -> Span {
        Span {
            context: self.context.at(tracer.span_id()),
            parent: Some(self.context.span),
            name,
            kind: SpanKind::Internal,
            start,
            end,
            says: Vec::new(),
            failed: None,
        }
    }

    fn whole(&self, source: &SourceName, end: Timestamp, outcome: &'static str) -> Span {
        let size_bytes = i64::try_from(self.size_bytes).unwrap_or(i64::MAX);
        Span {
            context: self.context,
            parent: self.parent,
            name: "receive",
            kind: SpanKind::Server,
            start: self.received,
            end,
            says: vec![
                ("hilum.source", Said::Source(source.clone())),
                ("hilum.size_bytes", Said::Number(size_bytes)),
                ("hilum.outcome", Said::Word(outcome)),
            ],
            failed: None,
        }
    }
}
