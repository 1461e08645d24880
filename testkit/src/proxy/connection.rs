//! One connection.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{net::TcpStream, time::timeout};

use super::{
    Counts,
    faults::{End, View},
    pump::pump,
};

/// How long the server may take to accept.
const CONNECT: Duration = Duration::from_secs(5);

/// Passes bytes both ways until both sides have ended, or a fault ends it.
pub(super) async fn run(client: TcpStream, view: View, counts: Arc<Counts>) {
    counts.open.fetch_add(1, Ordering::SeqCst);
    let _open = Open(counts);
    if let Ok(Ok(server)) = timeout(CONNECT, TcpStream::connect(view.upstream())).await {
        between(client, server, view).await;
    } else {
        // Nobody is there: what comes closest to being refused.
        end(client, End::Reset);
    }
}

async fn between(mut client: TcpStream, mut server: TcpStream, view: View) {
    let how = {
        let (client_says, client_hears) = client.split();
        let (server_says, server_hears) = server.split();
        let pumps = async {
            let ended = tokio::try_join!(
                pump(client_says, server_hears, view.clone()),
                pump(server_says, client_hears, view.down()),
            );
            // In a black hole nobody hears of the end either.
            for mut way in [view.clone(), view.down()] {
                way.passable().await;
            }
            ended.map_or_else(|how| how, |_| End::Closed)
        };
        let mut ends = view.clone();
        tokio::select! {
            biased;
            how = ends.ended() => how,
            how = pumps => how,
        }
    };
    end(server, how);
    end(client, how);
}

fn end(stream: TcpStream, how: End) {
    if how == End::Reset {
        // Without it the stream is closed in the orderly way, which is the second best.
        let _ = stream.set_zero_linger();
    }
    drop(stream);
}

/// Counts an open connection while it lives.
struct Open(Arc<Counts>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}
