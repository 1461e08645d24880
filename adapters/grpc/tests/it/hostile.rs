//! Table G of the reliability catalogue.

use bytes::Bytes;
use http_body_util::Full;
use prost::Message as _;
use tonic::{Code, Status, body::Body, transport::Channel};
use tower::{Service as _, ServiceExt as _};

use crate::{
    echo::{Client, Note, note},
    raw::{
        ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Raw, SETTINGS, call_headers, frame,
        message, prefixed,
    },
    support::{channel, options, serve, soon},
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
