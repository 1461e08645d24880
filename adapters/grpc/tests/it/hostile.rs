//! Table G of the reliability catalogue.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use prost::Message as _;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status, body::Body, transport::Channel};
use tower::{Service as _, ServiceExt as _};

use crate::{
    echo::{Client, Note, note},
    raw::{
        ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw, SETTINGS, call_headers,
        frame, message, prefixed,
    },
    support::{PATIENCE, SHORT, channel, options, serve, soon},
};

/// Sends these bytes as a call of the unary method and gives the status of the answer.
async fn send(mut channel: Channel, bytes: impl Into<Bytes>) -> Status {
    let request = http::Request::post("/test.v1.Echo/Unary")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Full::new(bytes.into())))
        .unwrap();
    let response = soon(async { channel.ready().await.unwrap().call(request).await.unwrap() }).await;
    match Status::from_header_map(response.headers()) {
        Some(status) => status,
        None => {
            use http_body_util::BodyExt as _;
            let body = response.into_body().collect().await.unwrap();
            Status::from_header_map(body.trailers().unwrap()).unwrap()
        }
    }
}

#[tokio::test]
async fn g_01_a_message_over_the_limit_is_refused_on_its_length() {
    let mut options = options();
    options.max_request_bytes = 100_000;
    options.max_response_bytes = 1000;
    let mut running = serve(options).await;
    let channel = || channel(running.address);
    // Four GiB announced, five bytes sent.
    let status = send(channel(), [&[0][..], &u32::MAX.to_be_bytes(), &[1; 5]].concat()).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let status = send(channel(), prefixed(&note("x".repeat(100_001), 0).encode_to_vec())).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    running.client.ask(&"x".repeat(900)).await.unwrap();
    // In a stream of messages the third is too large.
    let notes = vec![note("", 1), note("", 2), note("x".repeat(100_001), 3)];
    assert_eq!(
        running.client.upload(notes).await.unwrap_err().code(),
        Code::ResourceExhausted
    );
    // What is sent is limited, too.
    let status = running.client.unary(note("big", 2000)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    running.notes.wait_for("Unary RESOURCE_EXHAUSTED").await;
}

#[tokio::test]
async fn g_01_the_default_limit_is_four_mebibytes() {
    let mut running = serve(options()).await;
    let fits = note("x".repeat((4 << 20) - 100), 0);
    running.client.unary(fits).await.unwrap();
    let status = running
        .client
        .unary(note("x".repeat(4 << 20), 0))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn g_02_a_compressed_bomb_stops_at_the_limit() {
    let running = serve(options()).await;
    let mut client = Client::compressed(channel(running.address));
    client.ask("small").await.unwrap();
    // 64 MiB of one letter are some 64 KiB of gzip.
    let status = client.unary(note("x".repeat(64 << 20), 0)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
}

#[tokio::test]
async fn g_03_deep_nesting_and_group_bombs_are_errors() {
    let running = serve(options()).await;
    let mut deep = Note::default();
    for _ in 0..200 {
        deep = Note {
            inner: Some(Box::new(deep)),
            ..Note::default()
        };
    }
    let groups = vec![0x33; 100_000]; // "start of group 6", never ended
    for bytes in [
        deep.encode_to_vec(),
        groups,
        vec![0xff; 1000],
        b"\x0a\x05\xff\xfe\xfd\xfc\xfb".to_vec(),
    ] {
        let status = send(channel(running.address), prefixed(&bytes)).await;
        assert_eq!(status.code(), Code::Internal, "{status:?}");
    }
    assert!(!running.notes.all().contains(&"panic grpc".to_owned()));
}

#[tokio::test]
async fn g_04_a_packed_field_of_four_million_flags_is_held_in_as_many_bytes() {
    let mut running = serve(options()).await;
    let flags = Note {
        flags: vec![true; (4 << 20) - 100],
        ..Note::default()
    };
    // A bool is a byte on the wire and in memory: the factor is one.
    let answer = soon(running.client.unary(flags)).await.unwrap().into_inner();
    assert_eq!(answer.flags.len(), (4 << 20) - 100);
    assert_eq!(size_of::<bool>(), 1);
}

#[tokio::test]
async fn g_05_streams_over_the_limit_are_refused() {
    let running = serve(options()).await;
    let mut raw = Raw::connect(running.address).await;
    let headers = call_headers("/test.v1.Echo/Unary", &[]);
    let hang = message(&note("hang", 0));
    for call in 0..1000 {
        let stream = 2 * call + 1;
        raw.send(HEADERS, END_HEADERS, stream, &headers).await;
        raw.send(DATA, END_STREAM, stream, &hang).await;
    }
    let mut refused = 0;
    let mut announced = None;
    while refused < 900 {
        match soon(raw.next()).await {
            Some(frame) if frame.kind == RST_STREAM => refused += 1,
            Some(frame) if frame.kind == SETTINGS && frame.flags & ACK == 0 => {
                // Setting 3 is the most concurrent streams.
                let setting = frame.payload.chunks(6).find(|setting| setting[1] == 3);
                announced = setting.map(|setting| setting[5]);
            }
            Some(frame) if frame.kind == GOAWAY => break,
            Some(_) => {}
            None => break,
        }
    }
    assert_eq!(announced, Some(100));
    assert!(
        running.echo.entered.available_permits() <= 100,
        "{}",
        running.echo.entered.available_permits()
    );
}

#[tokio::test]
async fn g_05_rapid_resets_end_the_connection() {
    let running = serve(options()).await;
    let mut raw = Raw::connect(running.address).await;
    let headers = call_headers("/test.v1.Echo/Unary", &[]);
    let mut bytes = Vec::new();
    for call in 0..20_000 {
        let stream = 2 * call + 1;
        bytes.extend(frame(HEADERS, END_HEADERS, stream, &headers));
        bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
    }
    raw.write(&bytes).await;
    assert!(raw.closed().await.contains(&GOAWAY));
    soon(running.client.clone().ask("others are served"))
        .await
        .unwrap();
}

#[tokio::test]
async fn g_08_a_long_message_with_control_characters_is_cut_and_encoded() {
    let mut running = serve(options()).await;
    let status = running.client.ask("long").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().starts_with("é\r\n") && status.message().len() <= 1024,
        "{}",
        status.message().len()
    );
}

#[tokio::test]
async fn g_09_unknown_methods_and_services_are_unimplemented_under_one_label() {
    let mut running = serve(options()).await;
    for path in [
        "/test.v1.Echo/Nothing",
        "/test.v1.Nobody/Unary",
        "/",
        "/x",
        "/test.v1.Echo/",
        "/test.v1.Echo/Unary/x",
    ] {
        let status = running.client.call(path, note("", 0)).await;
        // Our test service looks at the last part only.
        if let Err(status) = status {
            assert_eq!(status.code(), Code::Unimplemented, "{path}");
        }
    }
    for n in 0..50 {
        let path: &'static str = Box::leak(format!("/test.v1.Echo/Random{n}").into_boxed_str());
        running.client.call(path, note("", 0)).await.unwrap_err();
    }
    let notes = running.notes.all();
    assert!(
        notes
            .iter()
            .all(|note| !note.contains("Random") && !note.contains("Nobody")),
        "{notes:?}"
    );
    assert!(notes.contains(&"grpc unmatched unmatched UNIMPLEMENTED out=0".to_owned()));
}

#[tokio::test]
async fn what_is_no_grpc_is_turned_away() {
    let running = serve(options()).await;
    let mut channel = channel(running.address);
    for request in [
        http::Request::get("/test.v1.Echo/Unary").header("content-type", "application/grpc"),
        http::Request::post("/test.v1.Echo/Unary").header("content-type", "application/json"),
        http::Request::post("/test.v1.Echo/Unary"),
    ] {
        let request = request.body(Body::empty()).unwrap();
        let response = channel.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "3");
    }
}

#[tokio::test]
async fn g_10_who_says_nothing_is_closed() {
    let mut options = options();
    options.handshake_timeout = SHORT;
    options.idle_timeout = 2 * SHORT;
    let running = serve(options).await;
    let mut silent = Raw::silent(running.address).await;
    silent.closed().await;
    let mut half = Raw::silent(running.address).await;
    half.write(b"PRI * HTTP/2.0\r\n").await;
    half.closed().await;
    let mut idle = Raw::connect(running.address).await;
    assert!(idle.closed().await.contains(&GOAWAY));
}

#[tokio::test]
async fn g_10_pings_do_not_keep_an_idle_connection_open() {
    let mut options = options();
    options.idle_timeout = SHORT;
    let running = serve(options).await;
    let mut raw = Raw::connect(running.address).await;
    let begun = Instant::now();
    // The pause is the ping rate of the hostile client, not a wait for something.
    loop {
        raw.send(PING, 0, 0, &[7; 8]).await;
        sleep(Duration::from_millis(1)).await;
        let frame = soon(raw.next()).await;
        if frame.is_none_or(|frame| frame.kind == GOAWAY) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE);
    }
}

#[tokio::test]
async fn g_10_a_client_that_does_not_answer_pings_is_cut() {
    let mut options = options();
    options.keep_alive_interval = SHORT;
    options.keep_alive_timeout = SHORT;
    let running = serve(options).await;
    let mut raw = Raw::connect(running.address).await;
    assert!(raw.closed().await.contains(&PING));
    // One that does stays; tonic's client answers.
    let mut stream = running.client.clone().count(note("wait", 1)).await.unwrap();
    stream.message().await.unwrap();
    sleep(3 * SHORT).await; // longer than the server would wait
    running.echo.go.add_permits(1);
    assert_eq!(stream.message().await.unwrap(), Some(note("done", 0)));
}

#[tokio::test]
async fn connections_over_the_cap_wait_for_a_place() {
    let mut options = options();
    options.max_connections = 1;
    let running = serve(options).await;
    let mut first = Raw::connect(running.address).await;
    first.next().await.unwrap(); // its place is taken
    let mut client = running.client.clone();
    let waiting = client.ask("hello");
    tokio::pin!(waiting);
    let early = timeout(SHORT, &mut waiting).await;
    assert!(early.is_err(), "a second connection is served");
    drop(first);
    soon(waiting).await.unwrap();
}

#[tokio::test]
async fn g_10_a_call_whose_message_never_comes_ends_in_time() {
    let mut options = options();
    options.request_timeout = SHORT;
    let running = serve(options).await;
    let mut raw = Raw::connect(running.address).await;
    raw.send(HEADERS, END_HEADERS, 1, &call_headers("/test.v1.Echo/Unary", &[]))
        .await;
    raw.send(DATA, 0, 1, &[0, 0]).await; // two bytes of a prefix
    raw.send(
        HEADERS,
        END_HEADERS,
        3,
        &call_headers("/test.v1.Echo/Upload", &[]),
    )
    .await;
    running.notes.wait_for("Unary DEADLINE_EXCEEDED").await;
    running.notes.wait_for("Upload DEADLINE_EXCEEDED").await;
}

#[tokio::test]
async fn g_10_a_connection_over_its_age_ends_and_its_endless_calls_are_cut() {
    let mut options = options();
    options.max_connection_age = SHORT;
    options.max_connection_age_grace = SHORT;
    let mut running = serve(options).await;
    let mut endless = running.client.count(note("hang", 1)).await.unwrap();
    endless.message().await.unwrap();
    soon(endless.message()).await.unwrap_err();
    running.notes.wait_for("Count CANCELLED").await;
    // A new connection is made.
    soon(running.client.ask("again")).await.unwrap();
}

#[tokio::test]
async fn g_10_a_client_that_does_not_read_is_cut() {
    let mut options = options();
    options.write_timeout = SHORT;
    let running = serve(options).await;
    let mut raw = Raw::connect(running.address).await;
    // Allows the server to send as much as it likes, and reads nothing of it.
    raw.send(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]).await;
    raw.send(8, 0, 0, &0x7f00_0000u32.to_be_bytes()).await; // WINDOW_UPDATE of the connection
    raw.send(HEADERS, END_HEADERS, 1, &call_headers("/test.v1.Echo/Count", &[]))
        .await;
    raw.send(DATA, END_STREAM, 1, &message(&note("", u64::MAX))).await;
    running.notes.wait_for("Count CANCELLED").await;
}

#[tokio::test]
async fn g_11_what_a_message_lacks_is_invalid_and_named() {
    use tonic_types::StatusExt as _;
    let mut running = serve(options()).await;
    let inner = Some(Box::new(note("in", 0)));
    let needs = |side, inner| Note {
        side,
        inner,
        ..note("needs", 0)
    };
    let fine = running.client.unary(needs(1, inner.clone())).await.unwrap();
    assert_eq!(fine.into_inner().text, "Buy in");
    for (note, field) in [(needs(77, inner), "side"), (needs(1, None), "inner")] {
        let status = running.client.unary(note).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
    // An `Any` or an unknown field is skipped by whoever does not know it.
    let mut odd = note("odd", 1).encode_to_vec();
    odd.extend(b"\x9a\x06\x0btype.x/y\xff\xfez"); // field 99
    assert_eq!(
        send(channel(running.address), prefixed(&odd)).await.code(),
        Code::Ok
    );
}

#[tokio::test]
async fn metadata_over_the_limit_is_refused() {
    let mut running = serve(options()).await;
    let mut request = tonic::Request::new(note("", 0));
    for n in 0..20 {
        let key: &'static str = Box::leak(format!("x-{n}").into_boxed_str());
        request
            .metadata_mut()
            .insert(key, "v".repeat(1000).parse().unwrap());
    }
    soon(running.client.unary(request)).await.unwrap_err();
    soon(running.client.ask("on")).await.unwrap();
}
