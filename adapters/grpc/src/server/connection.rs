//! One connection, from accept to close.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use cqi_core::tls::{LiveTls, peer_identity};
use hyper::{body::Incoming, server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::activity::{Activity, Due, Watched};
use crate::{
    GrpcOptions,
    stack::{Peer, Stack},
};

/// What all connections of a server share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) stack: Arc<Stack>,
    pub(super) options: Arc<GrpcOptions>,
    pub(super) tls: Option<LiveTls>,
    /// All calls of the server.
    pub(super) calls: TaskTracker,
    pub(super) drain: CancellationToken,
}

/// Serves the calls of one connection until the client, a limit or the drain ends it.
pub(super) async fn serve(stream: TcpStream, remote: SocketAddr, shared: Shared) {
    let local = stream.local_addr().ok();
    let peer = |identity| {
        Arc::new(Peer {
            remote,
            local,
            identity,
        })
    };
    let Some(tls) = &shared.tls else {
        return run(stream, peer(None), &shared).await;
    };
    let handshake = TlsAcceptor::from(tls.config()).accept(stream);
    // A shutdown need not wait for what is not yet a connection.
    let accepted = tokio::select! {
        accepted = timeout(shared.options.handshake_timeout, handshake) => accepted,
        () = shared.drain.cancelled() => return,
    };
    match accepted {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let identity = peer_identity(certificates).map(Arc::new);
            run(stream, peer(identity), &shared).await;
        }
        Ok(Err(error)) => tracing::debug!(peer = %remote, %error, "TLS handshake failed"),
        Err(_elapsed) => tracing::debug!(peer = %remote, "closed: no TLS handshake in time"),
    }
}

async fn run<S>(stream: S, peer: Arc<Peer>, shared: &Shared)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let options = &*shared.options;
    let activity = Activity::new();
    let age = Instant::now() + spread(options.max_connection_age);
    let calls =
        service_fn(|request: http::Request<Incoming>| shared.stack.call(&peer, request, activity.call()));
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let cut_off = CancellationToken::new();
    let streams = Streams {
        tasks: shared.calls.clone(),
        cut_off: cut_off.clone(),
    };
    // Calls end with their connection, also when this future is dropped.
    let _cut_off = cut_off.drop_guard();
    let mut connection = pin!(builder(options, streams).serve_connection(io, calls));
    let mut timer = pin!(sleep_until(Instant::now() + options.handshake_timeout));
    let mut asked = pin!(shared.drain.cancelled());
    let mut told = false;
    let cut = poll_fn(|context| {
        loop {
            if let Poll::Ready(result) = connection.as_mut().poll(context) {
                if let Err(error) = result {
                    // Mostly clients that went away or broke the protocol: nothing to be done about it here.
                    tracing::debug!(peer = %peer.remote, %error, "connection ended");
                }
                return Poll::Ready(None);
            }
            if told || asked.as_mut().poll(context).is_pending() {
                let (when, due) = activity.next(options, age);
                // A timer that fires early costs less than setting it anew after every call.
                if when < timer.deadline() {
                    timer.as_mut().reset(when);
                }
                ready!(timer.as_mut().poll(context));
                match due {
                    _ if when > Instant::now() => {
                        timer.as_mut().reset(when);
                        continue;
                    }
                    Due::Cut(why) => return Poll::Ready(Some(why)),
                    Due::Close => {}
                }
            }
            told = true;
            activity.close();
            connection.as_mut().graceful_shutdown();
        }
    })
    .await;
    if let Some(why) = cut {
        tracing::debug!(peer = %peer.remote, why, "connection closed");
    }
}

/// Adds up to a tenth.
fn spread(age: Duration) -> Duration {
    let chance = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    age + age * chance / (255 * 10)
}

/// hyper with every limit set: tonic would switch two of them off (G-05).
fn builder(options: &GrpcOptions, streams: Streams) -> Builder<Streams> {
    let mut builder = Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_header_list_size(options.max_header_bytes)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(1024)
        .keep_alive_interval(options.keep_alive_interval)
        .keep_alive_timeout(options.keep_alive_timeout);
    builder
}

/// Runs the calls of a connection, each in a task that the server owns.
#[derive(Debug, Clone)]
struct Streams {
    tasks: TaskTracker,
    cut_off: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
{
    fn execute(&self, stream: F) {
        let cut_off = self.cut_off.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                _ = stream => {}
                () = cut_off.cancelled() => {}
            }
        });
    }
}
