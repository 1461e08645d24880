//! One connection, from accept to close.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    mem,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{Router, body::Body, extract::ConnectInfo, routing::future::RouteFuture};
use bytes::Bytes;
use cqi_core::{
    auth::AuthContext,
    tls::{LiveTls, peer_identity},
};
use http::{HeaderValue, Request, Response, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::{Builder, UpgradeableConnection},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::{
    activity::{Active, Activity, LINGER, Overdue, Watched},
    streams::{Streams, offered, taken},
};
use crate::{HttpOptions, auth::PeerIdentity, stack::Ambiguous};

/// What all connections of a server share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) builder: Builder<Streams>,
    pub(super) streams: Streams,
    pub(super) options: Arc<HttpOptions>,
    pub(super) tls: Option<LiveTls>,
    pub(super) drain: CancellationToken,
}

impl Shared {
    pub(super) fn new(
        router: Router,
        options: Arc<HttpOptions>,
        tls: Option<LiveTls>,
        drain: CancellationToken,
    ) -> Self {
        let streams = Streams::new(options.write_timeout);
        Self {
            router,
            builder: builder(&options, streams.clone()),
            streams,
            options,
            tls,
            drain,
        }
    }
}

/// Serves one connection until the client, a limit or the drain ends it.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, shared: Shared) {
    let Some(tls) = &shared.tls else {
        return requests(stream, peer, None, shared).await;
    };
    // A silent client, and one that begins a handshake as the server ends, are let go (H-02).
    let ended = async {
        shared.drain.cancelled().await;
        sleep(LINGER).await;
    };
    let handshake = TlsAcceptor::from(tls.config()).accept(stream);
    let handshake = timeout(shared.options.handshake_timeout, handshake);
    let stream = tokio::select! {
        result = handshake => match result {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "closed: no TLS handshake"),
            Err(_) => return tracing::debug!(%peer, "closed: no TLS handshake in time"),
        },
        () = ended => return,
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let identity = certificates.and_then(peer_identity).map(Arc::new);
    requests(stream, peer, identity, shared).await;
}

/// Serves the requests of one connection.
async fn requests<T>(stream: T, peer: SocketAddr, identity: Option<Arc<AuthContext>>, shared: Shared)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Shared {
        router,
        builder,
        options,
        drain,
        ..
    } = shared;
    let activity = Activity::new();
    let _cut = activity.cut_with();
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let requests = Requests {
        router,
        peer,
        identity: identity.map(PeerIdentity),
        activity: Arc::clone(&activity),
    };
    let connection = builder.serve_connection_with_upgrades(io, requests);
    match until_overdue(connection, peer, &options, &drain, &activity).await {
        Some(Overdue::SlowHead) => tracing::debug!(%peer, "closed: no complete request in time"),
        Some(Overdue::SlowReader) => tracing::debug!(%peer, "closed: client does not read"),
        Some(Overdue::Idle) | None => {}
    }
    // One that went on in another protocol is a connection until its handler lets go of it.
    activity.gone().await;
}

/// Serves requests until there are no more, or the connection is to be closed.
async fn until_overdue<T>(
    connection: UpgradeableConnection<'_, TokioIo<Watched<T>>, Requests, Streams>,
    peer: SocketAddr,
    options: &HttpOptions,
    drain: &CancellationToken,
    activity: &Activity,
) -> Option<Overdue>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connection = pin!(connection);
    let mut timer = pin!(sleep_until(Instant::now() + options.header_timeout));
    let mut asked = pin!(drain.cancelled());
    let (mut draining, mut told) = (false, false);
    poll_fn(|context| {
        loop {
            if let Poll::Ready(result) = connection.as_mut().poll(context) {
                if let Err(error) = result {
                    // Mostly clients that went away or broke the protocol: nothing to be done about it here.
                    tracing::debug!(%peer, error, "connection ended");
                }
                return Poll::Ready(None);
            }
            if !draining && asked.as_mut().poll(context).is_ready() {
                draining = true;
                activity.drain();
            }
            // hyper would close a connection without a request at once, and one may be on its way.
            if !draining || told || activity.may_get_request() {
                break;
            }
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        while let Some((deadline, why)) = activity.deadline(options) {
            // A timer that fires early costs less than setting it anew after every request.
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(context));
            if deadline <= Instant::now() {
                return Poll::Ready(Some(why));
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    })
    .await
}

/// hyper with every limit set. It has no timer for HTTP/1: [`Activity`] knows the same and allocates nothing.
fn builder(options: &HttpOptions, streams: Streams) -> Builder<Streams> {
    let mut builder = Builder::new(streams);
    builder
        .http1()
        .header_read_timeout(None)
        .max_buf_size(options.max_header_bytes);
    if options.max_headers != 100 {
        // Setting hyper's own default would cost an allocation per request.
        builder.http1().max_headers(options.max_headers);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_header_list_size(u32::try_from(options.max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(1024)
        .keep_alive_interval(options.idle_timeout / 2)
        .keep_alive_timeout(options.header_timeout);
    builder
}

struct Requests {
    router: Router,
    peer: SocketAddr,
    identity: Option<PeerIdentity>,
    activity: Arc<Activity>,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<Responding>;
    type Error = Infallible;
    type Future = Respond;

    fn call(&self, mut request: Request<Incoming>) -> Respond {
        let active = self.activity.request(request.version() == Version::HTTP_2);
        // A chunked request may have had a Content-Length as well, which hyper takes away; a proxy may have believed that
        // one. It is refused, or where it cannot be told, nothing more is read from this connection (H-07, RFC 9112
        // section 6.3).
        let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
        if chunked && self.activity.announced_length() {
            request.extensions_mut().insert(Ambiguous);
        }
        // And a drain lets a connection have one last request.
        let close = chunked || self.activity.is_draining();
        if request.extensions().get::<OnUpgrade>().is_some() {
            self.activity.may_switch();
        }
        request.extensions_mut().insert(ConnectInfo(self.peer));
        if let Some(identity) = &self.identity {
            request.extensions_mut().insert(identity.clone());
        }
        let response = self.router.clone().call(request);
        Respond {
            response,
            active: Some(active),
            close,
        }
    }
}

struct Respond {
    response: RouteFuture<Infallible>,
    active: Option<Active>,
    close: bool,
}

impl Future for Respond {
    type Output = Result<Response<Responding>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(Pin::new(&mut self.response).poll(context))?;
        if self.close {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let active = self.active.take();
        Poll::Ready(Ok(response.map(|body| Responding {
            body,
            rest: Bytes::new(),
            _active: active,
        })))
    }
}

/// The most bytes that HTTP/2 gets at once: it keeps them for as long as the client's window has no room.
const PART: usize = 64 << 10;

/// A response's body; the request is in flight until it is dropped.
struct Responding {
    body: Body,
    /// What was more than a part.
    rest: Bytes,
    _active: Option<Active>,
}

impl Responding {
    fn part(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        frame.map_data(|mut data| {
            self.rest = data.split_off(data.len().min(PART));
            data
        })
    }
}

impl HttpBody for Responding {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        taken();
        let next = if self.rest.is_empty() {
            ready!(Pin::new(&mut self.body).poll_frame(context))
        } else {
            Some(Ok(Frame::data(mem::take(&mut self.rest))))
        };
        Poll::Ready(match next {
            Some(Ok(frame)) if offered() => Some(Ok(self.part(frame))),
            next => next,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    /// Asked for before the first part.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
