//! What the layers do around every call.

use std::{sync::Arc, time::Duration};

use cqi_core::Code;
use cqi_grpc::from_status;
use futures::{StreamExt as _, stream};
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use crate::{
    echo::{Client, Echo, Second, note},
    raw::{DATA, END_HEADERS, END_STREAM, HEADERS, Raw, call_headers, message},
    support::{SHORT, channel, options, serve, serve_with, server, soon, start},
};

#[tokio::test]
async fn ml_grpc_1_9_all_four_kinds_of_calls_are_served_and_observed() {
    let mut running = serve(options()).await;
    let client = &mut running.client;
    assert_eq!(client.ask("hello").await.unwrap(), note("hello", 7));
    let sum = client
        .upload((1..=4).map(|n| note("", n)).collect())
        .await
        .unwrap();
    assert_eq!(sum.number, 10);
    let counted: Vec<_> = client.count(note("end", 3)).await.unwrap().collect().await;
    let counted: Vec<_> = counted.into_iter().map(|note| note.unwrap().number).collect();
    assert_eq!(counted, [1, 2, 3, 0]);
    let mut answers = client
        .chat(stream::iter([note("a", 1), note("b", 2)]))
        .await
        .unwrap();
    assert_eq!(answers.message().await.unwrap(), Some(note("a", 1)));
    assert_eq!(answers.message().await.unwrap(), Some(note("b", 2)));
    assert_eq!(answers.message().await.unwrap(), None);
    for method in ["Unary", "Upload", "Count", "Chat"] {
        let name = format!("test.v1.Echo/{method}");
        running
            .notes
            .wait_for(&format!("grpc {name} {name} OK out="))
            .await;
    }
    running.notes.wait_for("Unary OK out=14").await; // five bytes of prefix and the message
}

#[tokio::test]
async fn ml_grpc_1_a_service_added_twice_is_an_error_at_build() {
    let built = server(options())
        .add(Echo::default())
        .unwrap()
        .add(Second::default())
        .unwrap();
    let error = built.add(Echo::default()).unwrap_err();
    assert_eq!(
        (error.code(), error.is_invalid_input()),
        (Some(Code::AlreadyExists), true)
    );
    assert!(error.to_string().contains("test.v1.Echo"), "{error}");
}

#[tokio::test]
async fn ml_grpc_7_a_panic_is_internal_without_its_text_and_the_server_goes_on() {
    let mut running = serve(options()).await;
    let status = running.client.ask("panic").await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::Internal, "internal error")
    );
    // The stream has begun when its handler panics.
    let (say, notes) = tokio::sync::mpsc::channel(1);
    let mut answers = running.client.chat(ReceiverStream::new(notes)).await.unwrap();
    say.send(note("a", 1)).await.unwrap();
    assert_eq!(answers.message().await.unwrap(), Some(note("a", 1)));
    say.send(note("panic", 2)).await.unwrap();
    let status = answers.message().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::Internal, "internal error")
    );
    running.client.ask("on").await.unwrap();
    running.notes.wait_for("Unary INTERNAL").await;
    running.notes.wait_for("Chat INTERNAL").await;
    assert_eq!(
        running
            .notes
            .all()
            .iter()
            .filter(|note| *note == "panic grpc")
            .count(),
        2
    );
}

#[tokio::test]
async fn err_8_a_handlers_error_becomes_its_status_and_stays_secret_inside() {
    let mut running = serve(options()).await;
    let status = running.client.ask("internal").await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::Internal, "internal error")
    );
    let status = running.client.ask("missing").await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::NotFound, "note 7 not found")
    );
    let error = from_status(running.client.ask("busy").await.unwrap_err());
    assert_eq!(error.retry_after(), Some(Duration::from_millis(20)));
    assert!(error.is_temporary());
    let status = running
        .client
        .count(note("missing", 0))
        .await
        .unwrap()
        .message()
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_dropped_and_the_shorter_time_counts() {
    let mut options = options();
    options.request_timeout = SHORT;
    let mut running = serve(options).await;
    let status = soon(running.client.ask("hang")).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    running.notes.wait_for("Unary DEADLINE_EXCEEDED").await;
}

#[tokio::test]
async fn the_clients_time_ends_a_call_also_when_the_client_does_not() {
    let running = serve(options()).await;
    let mut raw = Raw::connect(running.address).await;
    for (stream, timeout, text) in [(1, "20m", "hang"), (3, "0n", "at once")] {
        let headers = call_headers("/test.v1.Echo/Unary", &[("grpc-timeout", timeout)]);
        raw.send(HEADERS, END_HEADERS, stream, &headers).await;
        raw.send(DATA, END_STREAM, stream, &message(&note(text, 0))).await;
        running.notes.wait_for("Unary DEADLINE_EXCEEDED").await;
        running.notes.clear();
    }
}

#[tokio::test]
async fn a_stream_goes_on_past_our_limit_but_not_past_the_clients() {
    let mut options = options();
    options.request_timeout = SHORT;
    let mut running = serve(options).await;
    let mut patient = running.client.count(note("wait", 1)).await.unwrap();
    assert_eq!(patient.message().await.unwrap(), Some(note("", 1)));
    running.echo.wait_entered().await;

    let mut hasty = Request::new(note("hang", 1));
    hasty
        .metadata_mut()
        .insert("grpc-timeout", "400m".parse().unwrap());
    let mut hasty = running.client.count(hasty).await.unwrap();
    assert_eq!(hasty.message().await.unwrap(), Some(note("", 1)));
    let status = soon(hasty.message()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);

    running.echo.go.add_permits(1);
    assert_eq!(patient.message().await.unwrap(), Some(note("done", 0)));
    assert_eq!(patient.message().await.unwrap(), None);
}

#[tokio::test]
async fn f_net_03_handlers_know_the_time_that_is_left() {
    let mut running = serve(options()).await;
    let ask = |timeout: Option<&str>| {
        let mut request = Request::new(note("remaining", 0));
        if let Some(timeout) = timeout {
            request
                .metadata_mut()
                .insert("grpc-timeout", timeout.parse().unwrap());
        }
        request
    };
    let left = running.client.unary(ask(None)).await.unwrap().into_inner().number;
    assert!((25_000..=30_000).contains(&left), "{left}");
    let left = running
        .client
        .unary(ask(Some("5S")))
        .await
        .unwrap()
        .into_inner()
        .number;
    assert!((1_000..=5_000).contains(&left), "{left}");
    // Malformed: as if none was given.
    let left = running
        .client
        .unary(ask(Some("soon")))
        .await
        .unwrap()
        .into_inner()
        .number;
    assert!(left > 25_000, "{left}");
    // In a stream only the client's time counts.
    let mut stream = running.client.count(ask(None)).await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().number, 0);
    let mut stream = running.client.count(ask(Some("5S"))).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().number > 1_000);
}

#[tokio::test]
async fn a_dropped_call_and_a_dropped_stream_are_cancelled() {
    let running = serve(options()).await;
    let (mut one, mut two) = (running.client.clone(), running.client.clone());
    let call = async { one.ask("hang").await };
    tokio::select! {
        _ = call => unreachable!(),
        () = running.echo.wait_entered() => {}
    }
    running.notes.wait_for("Unary CANCELLED").await;
    let mut stream = two.count(note("hang", 1)).await.unwrap();
    stream.message().await.unwrap();
    drop(stream);
    running.notes.wait_for("Count CANCELLED").await;
}

#[tokio::test]
async fn the_request_id_is_taken_over_or_made_and_given_back() {
    let mut running = serve(options()).await;
    let mut request = Request::new(note("id", 0));
    request
        .metadata_mut()
        .insert("x-request-id", "abc-1".parse().unwrap());
    let response = running.client.unary(request).await.unwrap();
    assert_eq!(response.metadata().get("x-request-id").unwrap(), "abc-1");
    assert_eq!(response.into_inner().text, "abc-1");
    let response = running.client.unary(note("id", 0)).await.unwrap();
    let id = response.metadata().get("x-request-id").unwrap().clone();
    assert_eq!(response.into_inner().text, id.to_str().unwrap());
    let status = running.client.ask("missing").await.unwrap_err();
    assert!(status.metadata().get("x-request-id").is_some());
}

#[tokio::test]
async fn trc_4_the_trace_that_comes_in_is_continued() {
    let mut running = serve(options()).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (header, times) in [("garbage", 0), (trace, 1)] {
        let mut request = Request::new(note("", 0));
        request
            .metadata_mut()
            .insert("traceparent", header.parse().unwrap());
        running.client.unary(request).await.unwrap();
        let noted = running.notes.all();
        assert_eq!(
            noted.iter().filter(|note| note.starts_with("trace ")).count(),
            times
        );
    }
}

#[tokio::test]
async fn calls_run_side_by_side_on_one_connection() {
    let running = serve(options()).await;
    let held = Arc::new(Semaphore::new(0));
    let mut calls = Vec::new();
    for _ in 0..20 {
        let (mut client, held) = (Client::new(channel(running.address)), Arc::clone(&held));
        calls.push(async move {
            let answer = client.ask("wait").await;
            held.add_permits(1);
            answer
        });
    }
    let all = futures::future::join_all(calls);
    let gate = async {
        running.echo.entered.acquire_many(20).await.unwrap().forget();
        running.echo.go.add_permits(20);
    };
    let (answers, ()) = soon(async { tokio::join!(all, gate) }).await;
    assert!(answers.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_server_with_a_malformed_name_is_not_built_and_a_taken_port_is_told() {
    assert!(
        cqi_grpc::GrpcServer::new("Bad Name", options())
            .unwrap_err()
            .is_invalid_input()
    );
    let (address, _handle) = start(server(options())).await;
    let mut taken = options();
    taken.port = address.port();
    let error = server(taken).bind().await.unwrap_err().to_string();
    assert!(error.contains("already in use"), "{error}");
}

#[tokio::test]
async fn a_requirement_for_an_unknown_service_is_an_error_at_build() {
    use cqi_core::auth::Requirement;
    let running = serve_with(options(), |server| {
        let server = server
            .require("test.v1.Echo/Upload", Requirement::authenticated())
            .unwrap();
        assert!(
            server
                .require("test.v1.Ecko", Requirement::authenticated())
                .is_err(),
            "a typo would leave it open"
        );
        crate::support::server(options()).add(Echo::default()).unwrap()
    })
    .await;
    drop(running);
}
