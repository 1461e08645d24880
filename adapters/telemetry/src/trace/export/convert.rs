//! Spans as OTLP's messages.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, status::StatusCode},
};

use super::{options::ExportOptions, semantic::shape};
use crate::{FinishedSpan, ServiceIdentity, trace::Value};

/// The flag of a sampled span (W3C).
const SAMPLED: u32 = 1;

/// Who sends.
pub(super) fn resource(service: &ServiceIdentity, options: &ExportOptions) -> Resource {
    let known = [
        ("service.name", service.name.as_str()),
        ("service.version", &service.version),
        ("service.instance.id", &service.instance),
        ("deployment.environment.name", &options.environment),
        ("telemetry.sdk.name", "cqi"),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    let known = known.into_iter().filter(|(_, value)| !value.is_empty());
    Resource {
        attributes: known.map(|(name, value)| attribute(name, value.into())).collect(),
        ..Resource::default()
    }
}

/// One request with all of `spans`, those of one module together.
pub(super) fn request(resource: &Resource, spans: Vec<FinishedSpan>) -> ExportTraceServiceRequest {
    let mut scopes: Vec<(&'static str, Vec<Span>)> = Vec::new();
    for span in spans {
        let target = span.target;
        let span = convert(span);
        match scopes.iter_mut().find(|(known, _)| *known == target) {
            Some((_, spans)) => spans.push(span),
            None => scopes.push((target, vec![span])),
        }
    }
    let scope = |(target, spans): (&str, _)| ScopeSpans {
        scope: Some(InstrumentationScope {
            name: target.to_owned(),
            ..InstrumentationScope::default()
        }),
        spans,
        schema_url: String::new(),
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: scopes.into_iter().map(scope).collect(),
            schema_url: String::new(),
        }],
    }
}

fn convert(mut span: FinishedSpan) -> Span {
    let started = u64::try_from(span.started.as_nanosecond()).unwrap_or(0);
    let elapsed = u64::try_from(span.elapsed.as_nanos()).unwrap_or(u64::MAX);
    let shape = shape(&mut span);
    Span {
        trace_id: span.trace_id.get().to_be_bytes().to_vec(),
        span_id: span.span_id.get().to_be_bytes().to_vec(),
        trace_state: span.state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: span
            .parent_id
            .map_or_else(Vec::new, |id| id.get().to_be_bytes().to_vec()),
        flags: SAMPLED,
        name: shape.name,
        kind: shape.kind.into(),
        start_time_unix_nano: started,
        end_time_unix_nano: started.saturating_add(elapsed),
        attributes: shape
            .attributes
            .into_iter()
            .map(|(name, value)| attribute(name, value))
            .collect(),
        dropped_attributes_count: span.dropped_attributes,
        status: shape.error.map(|message| Status {
            message,
            code: StatusCode::Error.into(),
        }),
        ..Span::default()
    }
}

fn attribute(name: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Bool(value) => any_value::Value::BoolValue(value),
        Value::Int(value) => any_value::Value::IntValue(value),
        Value::Float(value) => any_value::Value::DoubleValue(value),
        Value::Text(value) => any_value::Value::StringValue(value),
    };
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
