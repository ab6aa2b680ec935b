//! Spans as OTLP has them.

use hilum_core::Timestamp;
use hilum_core::trace::{Said, Span, SpanKind};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as Otlp, Status, span};
use prost::Message as _;

use crate::house::House;
use crate::machine;

/// The bit of `flags` that is `traceparent`'s.
const SAMPLED: u32 = 1;

/// Who tells, by the names of OpenTelemetry's conventions.
pub fn resource(house: &House) -> Resource {
    let says = [
        ("service.name", "hilum".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", house.process.to_string()),
        ("host.name", machine::host()),
        ("hilum.roles", house.config.roles.to_string()),
    ];
    let attributes = says.into_iter().map(|(key, value)| key_value(key, Value::StringValue(value)));
    Resource { attributes: attributes.collect(), ..Resource::default() }
}

/// The body of one request.
pub fn request(resource: &Resource, spans: Vec<Span>) -> Vec<u8> {
    let scope = InstrumentationScope {
        name: "hilum".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_spans = vec![ScopeSpans {
        scope: Some(scope),
        spans: spans.into_iter().map(otlp).collect(),
        ..ScopeSpans::default()
    }];
    let resource = Some(resource.clone());
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn otlp(span: Span) -> Otlp {
    let kind = match span.kind {
        SpanKind::Server => span::SpanKind::Server,
        SpanKind::Internal => span::SpanKind::Internal,
        SpanKind::Producer => span::SpanKind::Producer,
        SpanKind::Consumer => span::SpanKind::Consumer,
    };
    Otlp {
        trace_id: span.context.trace.to_vec(),
        span_id: span.context.span.0.to_vec(),
        parent_span_id: span.parent.map_or_else(Vec::new, |parent| parent.0.to_vec()),
        flags: if span.context.is_sampled { SAMPLED } else { 0 },
        name: span.name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanos(span.start),
        end_time_unix_nano: nanos(span.end),
        attributes: span.says.into_iter().map(|(key, said)| key_value(key, value(&said))).collect(),
        status: span.failed.map(|why| Status { message: why.to_owned(), code: StatusCode::Error.into() }),
        ..Otlp::default()
    }
}

fn value(said: &Said) -> Value {
    match said {
        Said::Number(number) => Value::IntValue(*number),
        Said::Word(word) => Value::StringValue((*word).to_owned()),
        Said::Source(source) => Value::StringValue(source.to_string()),
        Said::Record(record) => Value::StringValue(record.to_string()),
        Said::Stream(stream) => Value::StringValue(stream.to_string()),
    }
}

fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn nanos(at: Timestamp) -> u64 {
    at.as_micros().max(0).unsigned_abs().saturating_mul(1_000)
}
