//! What the log says of a call, with the fields of its span.

use std::{
    io::Write,
    sync::{Arc, Mutex, OnceLock},
};

use cqi_grpc::{GrpcChannel, GrpcClientOptions};
use serde_json::Value;

use crate::{
    echo::{Client, note},
    support::{options, serve},
};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Collects the log of this thread.
    fn collect() -> (Self, tracing::subscriber::DefaultGuard) {
        // With one subscriber only, tracing would ask the thread that comes to a log line first whether anybody wants
        // it, and that may be another test's.
        static SECOND: OnceLock<tracing::Dispatch> = OnceLock::new();
        SECOND.get_or_init(|| tracing::Dispatch::new(tracing_subscriber::registry()));
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || writer.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    fn values(&self, message: &str) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("canary"), "{text}");
        let values = text.lines().map(|line| serde_json::from_str(line).unwrap());
        values
            .filter(|value: &Value| value["fields"]["message"] == message)
            .collect()
    }
}

#[tokio::test]
async fn log_10_trc_6_start_and_end_are_logged_with_what_is_known() {
    let (lines, _guard) = Lines::collect();
    let mut running = serve(options()).await;
    let mut request = tonic::Request::new(note("", 0));
    request
        .metadata_mut()
        .insert("x-request-id", "abc-1".parse().unwrap());
    running.client.unary(request).await.unwrap();
    running.client.ask("panic").await.unwrap_err();
    let mut stream = running.client.count(note("missing", 1)).await.unwrap();
    while let Ok(Some(_)) = stream.message().await {}
    running.notes.wait_for("Count NOT_FOUND").await;

    let starts = lines.values("call started");
    assert_eq!((starts.len(), &starts[0]["level"]), (3, &Value::from("DEBUG")));
    assert_eq!(starts[0]["span"]["method"], "test.v1.Echo/Unary");
    assert_eq!(starts[0]["span"]["request_id"], "abc-1");
    let ends = lines.values("call");
    let told: Vec<_> = ends
        .iter()
        .map(|end| (&end["level"], &end["fields"]["status"]))
        .collect();
    let info = Value::from("INFO");
    let codes = ["OK", "INTERNAL", "NOT_FOUND"].map(Value::from);
    assert_eq!(told, [(&info, &codes[0]), (&info, &codes[1]), (&info, &codes[2])]);
    for end in &ends {
        assert_eq!(end["span"]["name"], "rpc");
        assert!(end["fields"]["duration_ms"].as_f64().unwrap() > 0.0);
    }
    // What a handler logs is inside of the span, in a stream too.
    let refused = lines.values("call refused");
    assert_eq!(refused[0]["span"]["method"], "test.v1.Echo/Count");
    assert_eq!(lines.values("the handler panicked")[0]["level"], "ERROR");
}

#[tokio::test]
async fn err_10_an_internal_error_is_logged_with_its_causes() {
    let (lines, _guard) = Lines::collect();
    let mut running = serve(options()).await;
    running.client.ask("broken").await.unwrap_err();
    let failed = lines.values("call failed");
    assert_eq!(failed[0]["fields"]["error"], "cannot load: the disk is gone");
    assert_eq!(failed[0]["span"]["method"], "test.v1.Echo/Unary");
}

#[tokio::test]
async fn trc_6_a_call_that_is_made_has_a_span() {
    let (lines, _guard) = Lines::collect();
    let running = serve(options()).await;
    let mut options = GrpcClientOptions::uri("http://127.0.0.1:1");
    options.retry.initial = std::time::Duration::from_millis(1);
    let mut nobody = Client::new(GrpcChannel::connect(options).await.unwrap());
    nobody.ask("hello").await.unwrap_err();
    let retries = lines.values("retrying");
    assert_eq!(retries.len(), 2);
    assert_eq!(retries[0]["span"]["name"], "rpc_client");
    assert_eq!(retries[0]["span"]["method"], "test.v1.Echo/Unary");
    drop(running);
}
