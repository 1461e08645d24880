//! What our spans are called in OpenTelemetry: name, kind, status and attributes by its semantic conventions.
//!
//! Spans of a program's own are sent as they are; the fields `otel.kind`, `otel.name`, `otel.status_code` (`ERROR`) and
//! `otel.status_description` say what the conventions cannot guess, and `error` or `error.type` marks a failed one.

use std::borrow::Cow;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::{FinishedSpan, trace::AttributeValue};

/// A span in the words of OpenTelemetry.
#[derive(Debug)]
pub(super) struct Shape<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) kind: SpanKind,
    pub(super) attributes: Vec<(&'static str, AttributeValue<'a>)>,
    /// A status that is an error, for the attribute `error.type`.
    pub(super) error_status: Option<i64>,
    /// Why it failed; empty when the attributes say it all.
    pub(super) error: Option<&'a str>,
}

/// The names of HTTP fields, here and there.
const HTTP: [(&str, &str); 5] = [
    ("method", "http.request.method"),
    ("path", "url.path"),
    ("url", "url.full"),
    ("route", "http.route"),
    ("status_code", "http.response.status_code"),
];

/// The label of requests that no route takes.
const UNMATCHED: &str = "unmatched";

pub(super) fn shape(span: &FinishedSpan) -> Shape<'_> {
    /// What is added to a span's own attributes at most.
    const MORE: usize = 4;
    let own = span.attributes.iter();
    let mut attributes = Vec::with_capacity(own.len() + MORE);
    attributes.extend(own);
    let mut shape = Shape {
        name: Cow::Borrowed(span.name),
        kind: SpanKind::Internal,
        attributes,
        error_status: None,
        error: None,
    };
    match span.name {
        "request" => shape.http(SpanKind::Server, 500),
        "http_client" => shape.http(SpanKind::Client, 400),
        "rpc" => shape.rpc(SpanKind::Server),
        "rpc_client" => shape.rpc(SpanKind::Client),
        "process" => shape.messaging(SpanKind::Consumer, "process", "process"),
        "event_bus.publish" | "event_bus.publish_batch" => {
            shape.messaging(SpanKind::Producer, "publish", "send");
        }
        name => match name.split_once('.') {
            Some(("cache", operation)) => {
                shape.kind = SpanKind::Client;
                shape.attributes.push(("db.operation.name", operation.into()));
            }
            Some(("database", _)) => {
                shape.kind = SpanKind::Client;
                if let Some(operation) = shape.text("db.operation.name") {
                    shape.name = Cow::Borrowed(operation);
                }
            }
            Some(("event_bus" | "registry", _)) => shape.kind = SpanKind::Client,
            _ => {}
        },
    }
    shape.own_words();
    shape
}

impl<'a> Shape<'a> {
    fn get(&self, name: &str) -> Option<AttributeValue<'a>> {
        let found = self.attributes.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value)
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(AttributeValue::as_str)
    }

    fn take(&mut self, name: &str) -> Option<AttributeValue<'a>> {
        let at = self.attributes.iter().position(|(known, _)| *known == name)?;
        Some(self.attributes.remove(at).1)
    }

    /// Takes note of a failure, for which the attribute may be there already.
    fn fail(&mut self, status: i64) {
        if self.get("error.type").is_none() {
            self.error_status = Some(status);
        }
        self.error.get_or_insert_default();
    }

    fn http(&mut self, kind: SpanKind, fails_from: i64) {
        self.kind = kind;
        if self.text("route") == Some(UNMATCHED) {
            self.take("route");
        }
        for (name, _) in &mut self.attributes {
            if let Some((_, theirs)) = HTTP.iter().find(|(ours, _)| ours == name) {
                *name = theirs;
            }
        }
        if let Some(status) = self
            .take("http.response.status_code")
            .and_then(|status| status.as_int())
        {
            self.attributes
                .push(("http.response.status_code", AttributeValue::Int(status)));
            if status >= fails_from {
                self.fail(status);
            }
        }
        if let Some((host, port)) = self.text("url.full").and_then(authority) {
            self.attributes
                .push(("server.address", AttributeValue::Text(host)));
            self.attributes
                .extend(port.map(|port| ("server.port", AttributeValue::Int(port))));
        }
        let method = self.text("http.request.method").unwrap_or("HTTP");
        self.name = match self.text("http.route") {
            Some(route) => Cow::Owned([method, " ", route].concat()),
            None => Cow::Borrowed(method),
        };
    }

    fn rpc(&mut self, kind: SpanKind) {
        self.kind = kind;
        self.attributes.push(("rpc.system", "grpc".into()));
        if let Some(AttributeValue::Text(full)) = self.take("method") {
            let full = full.trim_start_matches('/');
            if let Some((service, method)) = full.rsplit_once('/') {
                self.attributes.push(("rpc.service", service.into()));
                self.attributes.push(("rpc.method", method.into()));
            }
            self.name = Cow::Borrowed(full);
        }
        let status = self.take("status_code");
        let Some(code) = status.and_then(AttributeValue::as_str).and_then(grpc_code) else {
            return;
        };
        self.attributes
            .push(("rpc.grpc.status_code", AttributeValue::Int(code)));
        // A server's fault: unknown, deadline exceeded, unimplemented, internal, unavailable, data loss.
        let servers_fault = matches!(code, 2 | 4 | 12 | 13 | 14 | 15);
        if servers_fault || (kind == SpanKind::Client && code != 0) {
            self.fail(code);
        }
    }

    fn messaging(&mut self, kind: SpanKind, name: &'static str, operation: &'static str) {
        self.kind = kind;
        self.name = match self.text("messaging.destination.name") {
            Some(topic) => Cow::Owned([name, " ", topic].concat()),
            None => Cow::Borrowed(name),
        };
        self.attributes.push(("messaging.operation.name", name.into()));
        self.attributes
            .push(("messaging.operation.type", operation.into()));
    }

    /// What the span's own fields say about it.
    fn own_words(&mut self) {
        if let Some(AttributeValue::Text(name)) = self.take("otel.name") {
            self.name = Cow::Borrowed(name);
        }
        if let Some(AttributeValue::Text(kind)) = self.take("otel.kind") {
            self.kind = match kind.to_ascii_lowercase().as_str() {
                "server" => SpanKind::Server,
                "client" => SpanKind::Client,
                "producer" => SpanKind::Producer,
                "consumer" => SpanKind::Consumer,
                "internal" => SpanKind::Internal,
                _ => self.kind,
            };
        }
        let status = self.take("otel.status_code");
        let said = status.and_then(AttributeValue::as_str);
        if said.is_some_and(|said| said.eq_ignore_ascii_case("error")) || self.get("error.type").is_some() {
            self.error.get_or_insert_default();
        }
        let description = self.take("otel.status_description");
        let why = match (description, self.get("error")) {
            (Some(AttributeValue::Text(why)), _) => Some(why),
            (_, Some(AttributeValue::Text(why))) => Some(why),
            (_, Some(AttributeValue::Bool(true))) => Some(""),
            _ => None,
        };
        self.error = why.or(self.error);
    }
}

/// Host and port of a URL.
fn authority(url: &str) -> Option<(&str, Option<i64>)> {
    let uri: tonic::transport::Uri = url.parse().ok()?;
    // The same text, in what is not ours to drop.
    let at = url.find(uri.host()?)?;
    let host = &url[at..at + uri.host()?.len()];
    Some((host, uri.port_u16().map(i64::from)))
}

/// The number of a code's name, written `NOT_FOUND` or `NotFound`.
fn grpc_code(name: &str) -> Option<i64> {
    const CODES: [&str; 17] = [
        "ok",
        "cancelled",
        "unknown",
        "invalidargument",
        "deadlineexceeded",
        "notfound",
        "alreadyexists",
        "permissiondenied",
        "resourceexhausted",
        "failedprecondition",
        "aborted",
        "outofrange",
        "unimplemented",
        "internal",
        "unavailable",
        "dataloss",
        "unauthenticated",
    ];
    let plain = name.replace('_', "").to_ascii_lowercase();
    let at = CODES.iter().position(|code| *code == plain)?;
    i64::try_from(at).ok()
}
