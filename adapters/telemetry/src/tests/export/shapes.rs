//! The table of our spans in the words of OpenTelemetry.

use super::*;

/// Name, kind, whether it failed, and some attributes.
type Row = (
    &'static str,
    SpanKind,
    bool,
    &'static [(&'static str, &'static str)],
);

#[tokio::test]
async fn ml_trc_3_every_span_of_ours_has_kind_name_status_and_attributes() {
    let collector = Collector::grpc(Answer::Take).await;
    let rig = Exporting::to(&format!("http://{}", collector.address), ExportOptions::default());
    rig.run(|| {
        drop(info_span!(
            "request",
            method = "GET",
            route = "unmatched",
            status_code = 404
        ));
        drop(info_span!(
            "http_client",
            method = "POST",
            url = "https://api.test:8443/v1",
            status_code = 404
        ));
        drop(info_span!("rpc", method = "a.B/Get", status_code = "NOT_FOUND"));
        drop(info_span!("rpc", method = "/a.B/Put", status_code = "Internal"));
        drop(info_span!(
            "rpc_client",
            method = "a.B/Call",
            status_code = "NOT_FOUND"
        ));
        drop(info_span!("process", messaging.destination.name = "t"));
        drop(info_span!("event_bus.publish", messaging.destination.name = "t", error.type = "TIMEOUT"));
        drop(info_span!("event_bus.subscribe"));
        drop(info_span!("cache.get", cache.hit = true));
        drop(info_span!(
            "database.query",
            db.operation.name = "SELECT",
            db.system.name = "sqlite"
        ));
        drop(info_span!(
            "own",
            otel.kind = "client",
            otel.name = "else",
            otel.status_code = "ERROR",
            otel.status_description = "why"
        ));
        drop(info_span!("failed", error = "broken"));
    });
    rig.telemetry.shutdown(LIMIT).await.unwrap();
    let (server, client) = (SpanKind::Server, SpanKind::Client);
    let table: [Row; 12] = [
        ("GET", server, false, &[("http.response.status_code", "int 404")]),
        (
            "POST",
            client,
            true,
            &[
                ("url.full", "https://api.test:8443/v1"),
                ("server.address", "api.test"),
                ("server.port", "int 8443"),
                ("error.type", "404"),
            ],
        ),
        (
            "a.B/Get",
            server,
            false,
            &[
                ("rpc.system", "grpc"),
                ("rpc.service", "a.B"),
                ("rpc.method", "Get"),
                ("rpc.grpc.status_code", "int 5"),
            ],
        ),
        (
            "a.B/Put",
            server,
            true,
            &[("rpc.grpc.status_code", "int 13"), ("rpc.service", "a.B")],
        ),
        ("a.B/Call", client, true, &[("rpc.grpc.status_code", "int 5")]),
        (
            "process t",
            SpanKind::Consumer,
            false,
            &[
                ("messaging.operation.type", "process"),
                ("messaging.destination.name", "t"),
            ],
        ),
        (
            "publish t",
            SpanKind::Producer,
            true,
            &[("messaging.operation.type", "send"), ("error.type", "TIMEOUT")],
        ),
        ("event_bus.subscribe", client, false, &[]),
        (
            "cache.get",
            client,
            false,
            &[("cache.hit", "bool true"), ("db.operation.name", "get")],
        ),
        ("SELECT", client, false, &[("db.system.name", "sqlite")]),
        ("else", client, true, &[]),
        ("failed", SpanKind::Internal, true, &[("error", "broken")]),
    ];
    for (name, kind, failed, expected) in table {
        let span = collector.span(name);
        assert_eq!(span.kind(), kind, "{name}");
        let status = span.status.as_ref();
        assert_eq!(
            status.is_some_and(|status| status.code() == StatusCode::Error),
            failed,
            "{name}"
        );
        let known = attributes(&span.attributes);
        for (key, value) in expected {
            assert_eq!(
                known.get(key).map(String::as_str),
                Some(*value),
                "{name}: {known:?}"
            );
        }
    }
    assert_eq!(collector.span("else").status.unwrap().message, "why");
    let unmatched = collector.span("GET");
    assert!(!attributes(&unmatched.attributes).contains_key("http.route"));
}
