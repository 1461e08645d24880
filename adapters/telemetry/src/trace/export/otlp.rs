//! Spans as a request of OTLP, written once as the bytes that go out.
//!
//! The numbers of the fields are those of `opentelemetry/proto/trace/v1/trace.proto` and its neighbours, version 1.

use bytes::{BufMut, Bytes};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::status::StatusCode,
};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};

use super::{
    options::ExportOptions,
    semantic::{Shape, shape},
};
use crate::{FinishedSpan, ServiceIdentity, trace::AttributeValue};

/// The flag of a sampled span (W3C).
const SAMPLED: u32 = 1;

/// Who sends, as the field of `ResourceSpans`.
pub(super) fn resource(service: &ServiceIdentity, options: &ExportOptions) -> Bytes {
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
    let attribute = |(name, value): (&str, &str)| KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    };
    let resource = Resource {
        attributes: known.map(attribute).collect(),
        ..Resource::default()
    };
    let mut out = Vec::new();
    put_bytes(1, &resource.encode_to_vec(), &mut out);
    out.into()
}

/// An `ExportTraceServiceRequest` with all of `spans`, those of one module together.
pub(super) fn request(resource: &[u8], spans: &[FinishedSpan]) -> Bytes {
    let mut scopes: Vec<(&'static str, Vec<u8>)> = Vec::new();
    let mut one = Vec::new();
    for span in spans {
        let known = scopes.iter().position(|(known, _)| *known == span.target);
        let at = known.unwrap_or_else(|| {
            scopes.push((span.target, scope(span.target)));
            scopes.len() - 1
        });
        one.clear();
        put_span(span, &mut one);
        put_bytes(2, &one, &mut scopes[at].1);
    }
    let length = scopes
        .iter()
        .map(|(_, scope)| 2 + MOST_LENGTH + scope.len())
        .sum::<usize>();
    let mut body = Vec::with_capacity(resource.len() + length);
    body.extend_from_slice(resource);
    for (_, scope) in &scopes {
        put_bytes(2, scope, &mut body);
    }
    let mut request = Vec::with_capacity(1 + MOST_LENGTH + body.len());
    put_bytes(1, &body, &mut request);
    request.into()
}

/// The most bytes of a length.
const MOST_LENGTH: usize = 10;

/// The beginning of a `ScopeSpans`: the name of its scope.
fn scope(name: &str) -> Vec<u8> {
    let mut scope = Vec::new();
    put_bytes(1, name.as_bytes(), &mut scope);
    let mut out = Vec::new();
    put_bytes(1, &scope, &mut out);
    out
}

/// A `Span`.
fn put_span(span: &FinishedSpan, out: &mut Vec<u8>) {
    let Shape {
        name,
        kind,
        attributes,
        error_status,
        error,
    } = shape(span);
    let started = u64::try_from(span.started.as_nanosecond()).unwrap_or(0);
    let elapsed = u64::try_from(span.elapsed.as_nanos()).unwrap_or(u64::MAX);
    put_bytes(1, &span.trace_id.get().to_be_bytes(), out);
    put_bytes(2, &span.span_id.get().to_be_bytes(), out);
    if let Some(state) = &span.state {
        put_bytes(3, state.as_bytes(), out);
    }
    if let Some(parent) = span.parent_id {
        put_bytes(4, &parent.get().to_be_bytes(), out);
    }
    put_bytes(5, name.as_bytes(), out);
    put_number(6, kind as u64, out);
    encode_key(7, WireType::SixtyFourBit, out);
    out.put_u64_le(started);
    encode_key(8, WireType::SixtyFourBit, out);
    out.put_u64_le(started.saturating_add(elapsed));
    for (name, value) in attributes {
        put_attribute(name, value, out);
    }
    if let Some(status) = error_status {
        put_attribute(
            "error.type",
            AttributeValue::Text(itoa::Buffer::new().format(status)),
            out,
        );
    }
    if span.attributes.dropped() > 0 {
        put_number(10, span.attributes.dropped().into(), out);
    }
    if let Some(why) = error {
        let mut status = Vec::with_capacity(2 + MOST_LENGTH + why.len());
        put_bytes(2, why.as_bytes(), &mut status);
        put_number(3, StatusCode::Error as u64, &mut status);
        put_bytes(15, &status, out);
    }
    encode_key(16, WireType::ThirtyTwoBit, out);
    out.put_u32_le(SAMPLED);
}

/// A `KeyValue` of a span, with its `AnyValue`.
fn put_attribute(name: &str, value: AttributeValue<'_>, out: &mut Vec<u8>) {
    let text_len = |text: &str| key_len(1) + encoded_len_varint(text.len() as u64) + text.len();
    let any = match value {
        AttributeValue::Text(text) => text_len(text),
        AttributeValue::Bool(_) => key_len(2) + 1,
        AttributeValue::Int(number) => key_len(3) + encoded_len_varint(number.cast_unsigned()),
        AttributeValue::Float(_) => key_len(4) + 8,
    };
    let pair = text_len(name) + key_len(2) + encoded_len_varint(any as u64) + any;
    encode_key(9, WireType::LengthDelimited, out);
    encode_varint(pair as u64, out);
    put_bytes(1, name.as_bytes(), out);
    encode_key(2, WireType::LengthDelimited, out);
    encode_varint(any as u64, out);
    match value {
        AttributeValue::Text(text) => put_bytes(1, text.as_bytes(), out),
        AttributeValue::Bool(value) => put_number(2, value.into(), out),
        AttributeValue::Int(number) => put_number(3, number.cast_unsigned(), out),
        AttributeValue::Float(number) => {
            encode_key(4, WireType::SixtyFourBit, out);
            out.put_f64_le(number);
        }
    }
}

/// A field of bytes, text or a message.
fn put_bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// A field of a whole number.
fn put_number(field: u32, number: u64, out: &mut Vec<u8>) {
    encode_key(field, WireType::Varint, out);
    encode_varint(number, out);
}
