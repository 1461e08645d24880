//! The client channel.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use cqi_core::{
    Error,
    auth::{ApiKeys, Verifier},
    policy::Retry,
    request::{RequestId, Scope},
};
use cqi_grpc::{GrpcAuth, GrpcChannel, GrpcClientOptions, GrpcError, from_status};
use futures::future::BoxFuture;
use tokio::{net::TcpListener, time::Instant};
use tonic::{Code, Request, Response, Status, body::Body, server::NamedService};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::{
    echo::{Client, Note, note},
    support::{Notes, PATIENCE, SHORT, options, serve, serve_with, soon},
};

pub(crate) async fn connect(options: GrpcClientOptions) -> Client<GrpcChannel> {
    Client::new(GrpcChannel::connect(options).await.unwrap())
}

fn to(address: SocketAddr) -> GrpcClientOptions {
    GrpcClientOptions::uri(format!("http://{address}"))
}

#[tokio::test]
async fn all_kinds_of_calls_go_through_the_channel_and_are_observed() {
    let running = serve(options()).await;
    let notes = Arc::new(Notes::default());
    let mut options = to(running.address);
    options.observer = Arc::<Notes>::clone(&notes);
    let mut client = connect(options).await;
    assert_eq!(client.ask("hello").await.unwrap(), note("hello", 7));
    assert_eq!(
        client
            .upload(vec![note("", 1), note("", 2)])
            .await
            .unwrap()
            .number,
        3
    );
    let mut stream = client.count(note("end", 2)).await.unwrap();
    for number in [1, 2, 0] {
        assert_eq!(stream.message().await.unwrap().unwrap().number, number);
    }
    assert_eq!(stream.message().await.unwrap(), None);
    assert_eq!(client.ask("missing").await.unwrap_err().code(), Code::NotFound);
    let noted = notes.all();
    let calls: Vec<_> = noted.iter().filter(|note| note.contains("grpc.call")).collect();
    assert_eq!(calls.len(), 4, "{noted:?}");
    assert!(
        calls[..3].iter().all(|call| call.contains("error: None")),
        "{calls:?}"
    );
    assert!(calls[3].contains("NotFound"), "{calls:?}");
    // The server continues the trace that the observer knows.
    running
        .notes
        .wait_for("trace 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .await;
}

#[tokio::test]
async fn every_call_has_a_deadline_which_is_sent_along() {
    let mut running = serve(options()).await;
    let mut options = to(running.address);
    options.timeout = Duration::from_secs(4);
    let mut client = connect(options.clone()).await;
    let left = client.ask("remaining").await.unwrap().number;
    assert!((1..=4000).contains(&left), "{left}");
    let mut longer = Request::new(note("remaining", 0));
    longer.set_timeout(Duration::from_secs(20));
    let left = client.unary(longer).await.unwrap().into_inner().number;
    assert!((10_000..=20_000).contains(&left), "{left}");

    options.timeout = SHORT;
    let mut hasty = connect(options).await;
    let error = from_status(soon(hasty.ask("hang")).await.unwrap_err());
    assert_eq!(
        (error.code(), error.may_have_applied()),
        (Some(cqi_core::Code::Timeout), true)
    );
    let mut stream = hasty.count(note("hang", 1)).await.unwrap();
    stream.message().await.unwrap();
    let status = soon(stream.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    running.handle.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_nothing_was_applied() {
    // Bound and dropped: nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let notes = Arc::new(Notes::default());
    let mut options = to(address);
    options.observer = Arc::<Notes>::clone(&notes);
    let mut client = connect(options).await;
    let status = soon(client.ask("hello")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let error = from_status(status);
    assert!(error.is_temporary() && !error.may_have_applied(), "{error:?}");
    // A call that was not sent is repeated, whatever it is.
    let noted = notes.all();
    assert_eq!(
        noted.iter().filter(|note| note.starts_with("Retrying")).count(),
        2,
        "{noted:?}"
    );
    assert!(noted.last().unwrap().contains("attempts: 3"), "{noted:?}");
}

#[tokio::test]
async fn a_call_waits_for_a_server_that_comes_back() {
    let mut first = serve(options()).await;
    let mut options = to(first.address);
    options.retry = Retry {
        attempts: 100,
        initial: Duration::from_millis(20),
        max: Duration::from_millis(20),
        ..Retry::default()
    };
    let mut client = connect(options).await;
    client.ask("hello").await.unwrap();
    first.handle.stop(PATIENCE).await.unwrap();
    let again = async {
        let mut options = crate::support::options();
        options.port = first.address.port();
        serve(options).await
    };
    let (answer, _second) = soon(async { tokio::join!(client.ask("still there?"), again) }).await;
    assert_eq!(answer.unwrap().text, "still there?");
}

/// A service with any methods, all of which do the same.
#[derive(Clone)]
struct Any<F>(F);

impl<F> NamedService for Any<F> {
    const NAME: &'static str = "test.v1.Any";
}

impl<F, Fut> tower::Service<http::Request<Body>> for Any<F>
where
    F: FnMut(Request<Note>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<Note>, Status>> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = service_fn(self.0.clone());
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Note, Note>::default());
            Ok(grpc.unary(answer, request).await)
        })
    }
}

#[tokio::test]
async fn only_what_is_repeatable_is_repeated_after_an_answer() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let busy = Any(move |request: Request<Note>| {
        let call = counted.fetch_add(1, Relaxed);
        async move {
            if call % 3 < 2 {
                let error = Error::temporary("busy").with_retry_after(Duration::from_millis(30));
                return Err(GrpcError::from(error).into());
            }
            Ok(Response::new(request.into_inner()))
        }
    });
    let running = serve_with(options(), |server| server.add(busy).unwrap()).await;
    let mut options = to(running.address);
    options.retry.initial = Duration::from_millis(1);
    let channel = GrpcChannel::connect(options).await.unwrap();
    let mut once = Client::new(channel.clone());
    let status = once.call("/test.v1.Any/Ask", note("x", 1)).await.unwrap_err();
    let error = from_status(status);
    assert_eq!(
        (error.message(), error.retry_after()),
        ("busy", Some(Duration::from_millis(30)))
    );
    assert!(error.may_have_applied());
    calls.store(0, Relaxed);
    let mut repeated = Client::new(channel.repeatable());
    let begun = Instant::now();
    let answer = repeated.call("/test.v1.Any/Ask", note("x", 1)).await.unwrap();
    assert_eq!(answer.into_inner(), note("x", 1));
    assert!(
        begun.elapsed() >= Duration::from_millis(60),
        "the server's pauses are kept"
    );
    assert_eq!(calls.load(Relaxed), 3);
    // Other errors are not repeated at all.
    assert_eq!(repeated.ask("missing").await.unwrap_err().code(), Code::NotFound);
    // And what cannot succeed in time is not tried.
    let mut hasty = Request::new(note("x", 1));
    hasty.set_timeout(Duration::from_millis(20));
    let status = repeated.call("/test.v1.Any/Ask", hasty).await.unwrap_err();
    assert!(
        [Code::Unavailable, Code::DeadlineExceeded].contains(&status.code()),
        "{status:?}"
    );
}

const KEY: &str = "3f1b0c2e9a7d4865";

#[tokio::test]
async fn a_configured_credential_is_shown() {
    let keys: Arc<dyn Verifier> =
        Arc::new(ApiKeys::parse([format!("billing:{KEY}").as_str().into()]).unwrap());
    let running = serve_with(options(), |server| server.auth(GrpcAuth::verifier(keys))).await;
    let mut client = connect(to(running.address)).await;
    assert_eq!(client.ask("who").await.unwrap_err().code(), Code::Unauthenticated);
    let mut options = to(running.address);
    options.credential = Some(KEY.into());
    assert!(!format!("{options:?}").contains(KEY));
    let mut client = connect(options.clone()).await;
    assert_eq!(client.ask("who").await.unwrap().text, "billing");
    let mut own = Request::new(note("who", 0));
    own.metadata_mut()
        .insert("authorization", "Bearer wrong".parse().unwrap());
    assert_eq!(client.unary(own).await.unwrap_err().code(), Code::Unauthenticated);
    options.credential = Some("line\nbreak".into());
    assert!(
        GrpcChannel::connect(options)
            .await
            .unwrap_err()
            .is_invalid_input()
    );
}

#[tokio::test]
async fn f_net_03_what_is_left_of_the_time_shrinks_from_hop_to_hop_and_credentials_only_go_on_when_asked() {
    let keys: Arc<dyn Verifier> =
        Arc::new(ApiKeys::parse([format!("billing:{KEY}").as_str().into()]).unwrap());
    let auth = || GrpcAuth::verifier(Arc::clone(&keys));
    let last = serve_with(options(), |server| server.auth(auth())).await;
    for forward in [false, true] {
        let mut options = to(last.address);
        options.forward_credential = forward;
        let next = connect(options).await;
        let relay = Any(move |request: Request<Note>| {
            let mut next = next.clone();
            async move { next.unary(request.into_inner()).await }
        });
        let middle = serve_with(crate::support::options(), |server| {
            server.add(relay).unwrap().auth(auth())
        })
        .await;
        let mut options = to(middle.address);
        options.timeout = Duration::from_secs(2);
        options.credential = Some(KEY.into());
        let mut client = connect(options).await;
        let answer = client.call("/test.v1.Any/Ask", note("remaining", 0)).await;
        if forward {
            let left = answer.unwrap().into_inner().number;
            assert!((1..2000).contains(&left), "{left}");
            let mut named = Request::new(note("id", 0));
            named
                .metadata_mut()
                .insert("x-request-id", "abc-1".parse().unwrap());
            let answer = client.call("/test.v1.Any/Ask", named).await.unwrap();
            assert_eq!(answer.into_inner().text, "abc-1");
        } else {
            assert_eq!(answer.unwrap_err().code(), Code::Unauthenticated);
        }
    }
}

#[tokio::test]
async fn f_net_03_a_call_takes_along_what_is_known_whatever_the_protocol_it_came_by() {
    let tell = Any(|request: Request<Note>| async move {
        let metadata = request.metadata();
        let read = |name| metadata.get(name).map_or("", |value| value.to_str().unwrap());
        let all = ["grpc-timeout", "x-request-id", "authorization"].map(read);
        Ok(Response::new(note(all.join(" "), 0)))
    });
    let running = serve_with(options(), |server| server.add(tell).unwrap()).await;
    let mut options = to(running.address);
    options.forward_credential = true;
    let mut client = connect(options).await;
    let scope = Scope::default()
        .until(Some(Instant::now() + Duration::from_secs(3)))
        .with_id(RequestId::parse("mine").unwrap())
        .with_credential(Arc::new("canary".into()));
    let calling = client.call("/test.v1.Any/Ask", note("", 0));
    let told = scope.run(calling).await.unwrap().into_inner().text;
    let (timeout, rest) = told.split_once(' ').unwrap();
    assert_eq!(rest, "mine Bearer canary");
    let micros: u64 = timeout.strip_suffix('u').unwrap().parse().unwrap();
    assert!((1..=3_000_000).contains(&micros), "{timeout}");
}

#[tokio::test]
async fn bad_options_are_refused() {
    let mut zero = GrpcClientOptions::uri("http://localhost:1");
    zero.timeout = Duration::ZERO;
    for options in [
        zero,
        GrpcClientOptions::uri("no address"),
        GrpcClientOptions::uri(""),
    ] {
        assert!(
            GrpcChannel::connect(options)
                .await
                .unwrap_err()
                .is_invalid_input()
        );
    }
}
