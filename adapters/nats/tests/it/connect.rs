//! Bad days at the start: each is one clear, typed error within the limit.

use std::{net::SocketAddr, time::Duration};

use async_nats::jetstream::stream::{Config, RetentionPolicy};
use cqi_core::{Code, Error, Kind, event::EventBus};
use cqi_nats::{NatsBus, NatsOptions};
use cqi_testkit::fixture::{self, Kind as Fixture};
use futures::StreamExt;
use tokio::{
    io::AsyncWriteExt,
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::support::{event, operator, options, plain, topic};

/// Connects, and expects an error within a little more than the limit of a second.
async fn refused(mut options: NatsOptions) -> Error {
    options.connection_timeout = Duration::from_secs(1);
    let start = Instant::now();
    let error = NatsBus::connect(options).await.expect_err("connected");
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "after {:?}: {error}",
        start.elapsed()
    );
    assert!(!error.to_string().contains('\n'));
    error
}

fn seen(error: &Error) -> (Kind, Option<Code>) {
    (error.kind(), error.code())
}

#[tokio::test]
async fn nobody_listens() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let error = refused(options(&format!("nats://app:CANARY@{free}"))).await;
    assert_eq!(seen(&error), (Kind::Temporary, Some(Code::Unavailable)));
    assert!(error.to_string().contains(&free.to_string()), "{error}");
    assert!(!format!("{error:?} {}", error.chain()).contains("CANARY"));
}

async fn impostor(greeting: &'static [u8]) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(greeting).await;
            open.push(stream);
        }
    };
    let mut serving = JoinSet::new();
    serving.spawn(serve);
    (address, serving)
}

#[tokio::test]
async fn what_listens_is_no_nats_server() {
    for greeting in [
        &b""[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+PONG\r\n",
        &[0xff; 9000],
    ] {
        let (address, serving) = impostor(greeting).await;
        let error = refused(options(&format!("nats://{address}"))).await;
        assert_eq!(
            seen(&error),
            (Kind::Temporary, Some(Code::Unavailable)),
            "{error:?}"
        );
        drop(serving);
    }
}

#[tokio::test]
async fn c_11_a_wrong_password_is_refused_and_not_repeated() {
    let wanted = plain().line(r#"authorization: { user: app, password: "right" }"#);
    let Some(server) = fixture::require_own(Fixture::Nats, &wanted) else {
        return;
    };
    let with = |user: &str| options(&server.url().replace("nats://", &format!("nats://{user}")));
    for wrong in ["", "app:CANARY@", "CANARY@"] {
        let error = refused(with(wrong)).await;
        assert_eq!(error.kind(), Kind::Unauthorized, "{error:?}");
        assert!(!format!("{error:?} {error} {}", error.chain()).contains("CANARY"));
    }
    let bus = NatsBus::connect(with("app:right@")).await.unwrap();
    assert!(!format!("{bus:?}").contains("right"));
    bus.ping().await.unwrap();
}

#[tokio::test]
async fn jetstream_is_not_enabled() {
    let wanted = plain().line(r"accounts: { PLAIN: { users: [ { user: a, password: b } ] } }");
    let Some(server) = fixture::require_own(Fixture::Nats, &wanted) else {
        return;
    };
    let error = refused(options(&server.url().replace("nats://", "nats://a:b@"))).await;
    assert_eq!(
        seen(&error),
        (Kind::Permanent, Some(Code::FailedPrecondition)),
        "{error:?}"
    );
    assert!(error.to_string().contains("JetStream is not enabled"), "{error}");
}

#[tokio::test]
async fn what_the_user_may_not_do_is_said_at_once() {
    let wanted = plain().line(
        r#"authorization: { users: [
            { user: reader, password: x, permissions: { publish: { deny: ["$JS.API.STREAM.>"] } } },
            { user: mute, password: x, permissions: { publish: { deny: ["cqc.events.v1.secret"] } } },
            { user: deaf, password: x, permissions: { subscribe: { deny: ["_INBOX.>"] } } } ] }"#,
    );
    let Some(server) = fixture::require_own(Fixture::Nats, &wanted) else {
        return;
    };
    let with = |user: &str| options(&server.url().replace("nats://", &format!("nats://{user}:x@")));
    let denied = (Kind::Unauthorized, Some(Code::PermissionDenied));
    assert_eq!(seen(&refused(with("reader")).await), denied);
    assert_eq!(seen(&refused(with("deaf")).await), denied);
    let bus = NatsBus::connect(with("mute")).await.unwrap();
    let start = Instant::now();
    let secret = cqi_core::name::topic_name("secret").unwrap();
    let error = bus.publish(event(&secret, 1)).await.unwrap_err();
    assert_eq!(seen(&error), denied, "{error:?}");
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "after {:?}",
        start.elapsed()
    );
    bus.publish(event(&topic(), 1)).await.unwrap();
    // In a batch it is the one event's fault.
    let open = topic();
    let batch = [&open, &secret, &open].map(|topic| event(topic, 2)).to_vec();
    let results = bus.publish_batch(batch).await;
    let [Ok(()), Err(error), Ok(())] = &results[..] else {
        panic!("{results:?}")
    };
    assert_eq!(seen(error), denied, "{error:?}");
}

#[tokio::test]
async fn tls_is_expected_where_there_is_none() {
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let error = refused(options(&server.url().replace("nats://", "tls://"))).await;
    assert_eq!(
        seen(&error),
        (Kind::Permanent, Some(Code::FailedPrecondition)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_stream_that_cannot_hold_the_events_is_named() {
    let Some(server) = fixture::require_own(Fixture::Nats, &plain()) else {
        return;
    };
    let operator = operator(&server).await;
    let existing = |name: &str, subject: &str| Config {
        name: name.into(),
        subjects: vec![subject.into()],
        ..Config::default()
    };
    operator
        .create_stream(existing("OTHER", "cqc.events.v1.taken"))
        .await
        .unwrap();
    let error = refused(options(server.url())).await;
    assert_eq!(
        seen(&error),
        (Kind::Permanent, Some(Code::FailedPrecondition)),
        "{error:?}"
    );
    assert!(error.to_string().contains("overlap"), "{error}");
    operator.delete_stream("OTHER").await.unwrap();

    for (config, word) in [
        (existing("CQC_EVENTS", "something.else"), "cqc.events.v1.>"),
        (
            Config {
                retention: RetentionPolicy::WorkQueue,
                ..existing("CQC_EVENTS", "cqc.events.v1.>")
            },
            "WorkQueue",
        ),
        (
            Config {
                no_ack: true,
                ..existing("CQC_EVENTS", "cqc.events.v1.>")
            },
            "no_ack",
        ),
    ] {
        operator.create_stream(config).await.unwrap();
        let error = refused(options(server.url())).await;
        assert_eq!(
            seen(&error),
            (Kind::Permanent, Some(Code::FailedPrecondition)),
            "{error:?}"
        );
        assert!(
            error.to_string().contains(word) && error.to_string().contains("CQC_EVENTS"),
            "{error}"
        );
        operator.delete_stream("CQC_EVENTS").await.unwrap();
    }

    // One that differs in its limits only is the operator's choice, and what it can do is what the bus says.
    let own = Config {
        duplicate_window: Duration::from_secs(7),
        storage: async_nats::jetstream::stream::StorageType::Memory,
        ..existing("CQC_EVENTS", "cqc.>")
    };
    operator.create_stream(own).await.unwrap();
    let bus = NatsBus::connect(options(server.url())).await.unwrap();
    let can = bus.capabilities();
    assert_eq!(can.dedup_window, Some(Duration::from_secs(7)));
    assert_eq!(can.durability, cqi_core::event::Durability::Memory);
}

#[tokio::test]
async fn slow_answers_have_one_limit_together() {
    // The API is not the server's own, but one that is slow and makes no stream.
    let wanted = plain().line(
        r#"accounts: { SLOW: { users: [ { user: a, password: b } ], mappings: {
            "$JS.API.STREAM.INFO.CQC_EVENTS": "slow.info", "$JS.API.STREAM.CREATE.CQC_EVENTS": "slow.create" } } }"#,
    );
    let Some(server) = fixture::require_own(Fixture::Nats, &wanted) else {
        return;
    };
    let slow = async_nats::ConnectOptions::with_user_and_password("a".into(), "b".into());
    let slow = slow.connect(server.url()).await.unwrap();
    let mut asked = slow.subscribe("slow.*").await.unwrap();
    slow.flush().await.unwrap();
    let answering = async {
        while let Some(request) = asked.next().await {
            let (status, number) = if request.subject.contains("create") {
                (400, 10058)
            } else {
                (404, 10059)
            };
            sleep(Duration::from_millis(600)).await;
            let answer = format!(r#"{{"error":{{"code":{status},"err_code":{number}}}}}"#);
            slow.publish(request.reply.unwrap(), answer.into()).await.unwrap();
        }
    };
    let start = Instant::now();
    let url = server.url().replace("nats://", "nats://a:b@");
    let error = tokio::select! {
        error = refused(options(&url)) => error,
        () = answering => panic!("it ended"),
    };
    assert_eq!(seen(&error), (Kind::Temporary, Some(Code::Timeout)), "{error:?}");
    assert!(
        start.elapsed() < Duration::from_millis(1200),
        "after {:?}",
        start.elapsed()
    );
}
