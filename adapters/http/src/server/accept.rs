//! The accept loop and the drain of its connections.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use cqi_core::{Code, Error, Result, peers::PerClient, service::Lifecycle};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};

use super::{
    connection::{self, Shared},
    streams::Streams,
};
use crate::client_ip::Proxies;

/// The pauses after a failed accept, when the process has no file descriptors left for example (F-NET-05).
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepts until `lifecycle` asks to stop, then drains.
pub(super) async fn serve(listener: TcpListener, shared: Shared, lifecycle: Lifecycle) -> Result<()> {
    let options = Arc::clone(&shared.options);
    // Ends the requests of HTTP/2 connections also when this future is dropped.
    let _cut = shared.streams.cut.clone().drop_guard();
    let mut connections = JoinSet::new();
    let (per_client, proxies) = (PerClient::default(), Proxies::of(&options));
    let open = |connections: &mut JoinSet<()>, stream: TcpStream, peer: SocketAddr| {
        // Many clients share a proxy's address.
        let most = if proxies.trusts(peer.ip()) {
            usize::MAX
        } else {
            options.max_connections_per_client
        };
        let Some(counted) = per_client.admit(peer.ip(), most) else {
            return tracing::debug!(%peer, "closed: too many connections of this client");
        };
        // Without it, small responses could wait for the client's acknowledgement. It fails on dead sockets only.
        let _ = stream.set_nodelay(true);
        let served = connection::serve(stream, peer, shared.clone());
        connections.spawn(async move {
            served.await;
            drop(counted);
        });
    };
    let mut pause = FIRST_PAUSE;
    let mut resume = Instant::now();
    lifecycle.ready();
    loop {
        let room = connections.len() < options.max_connections;
        let resting = resume > Instant::now();
        tokio::select! {
            biased;
            () = lifecycle.shutdown() => break,
            Some(ended) = connections.join_next() => report(&ended),
            () = sleep_until(resume), if resting => {}
            accepted = listener.accept(), if room && !resting => match accepted {
                Ok((stream, peer)) => {
                    pause = FIRST_PAUSE;
                    open(&mut connections, stream, peer);
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, ?pause, connections = connections.len(), "cannot accept, pausing");
                    resume = Instant::now() + pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            },
        }
    }
    // Connections the kernel has accepted may have a request on its way. Asked directly: tokio may not know of them yet.
    let listener = listener
        .into_std()
        .map_err(|error| Error::permanent("stop listening").with_source(error))?;
    while connections.len() < options.max_connections
        && let Ok((stream, peer)) = listener.accept()
    {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            open(&mut connections, stream, peer);
        }
    }
    drop(listener);
    shared.drain.cancel();
    finish(connections, shared.streams, options.shutdown_grace).await
}

/// Waits for the connections to end, and cuts what is left after `grace`.
async fn finish(mut connections: JoinSet<()>, streams: Streams, grace: Duration) -> Result<()> {
    streams.tasks.close();
    let all = async {
        while let Some(ended) = connections.join_next().await {
            report(&ended);
        }
        streams.tasks.wait().await;
    };
    if timeout(grace, all).await.is_ok() {
        return Ok(());
    }
    let cut = connections.len();
    tracing::warn!(connections = cut, ?grace, "connections were cut");
    connections.shutdown().await;
    streams.cut.cancel();
    streams.tasks.wait().await;
    Err(Error::temporary(format!("{cut} connections were cut after {grace:?}")).with_code(Code::Timeout))
}

fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

fn report(ended: &Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection's task panicked");
    }
}
