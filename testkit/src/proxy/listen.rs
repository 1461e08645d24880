//! Accepting and refusing connections.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use super::{
    Counts, connection,
    faults::{Faults, View},
};

/// A port that is either listened on, or held without listening, so that connections are refused and nobody else gets it.
pub(super) struct Listener {
    address: SocketAddr,
    state: State,
}

enum State {
    Listening(TcpListener),
    Refusing(TcpSocket),
    /// The port could not be held; connections are refused all the same.
    Lost,
}

impl Listener {
    pub(super) fn new(address: SocketAddr) -> io::Result<Self> {
        let listener = hold(address)?.listen(1024)?;
        let address = listener.local_addr()?;
        let state = State::Listening(listener);
        Ok(Self { address, state })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until it is dropped; owns the connections.
    pub(super) async fn run(
        &mut self,
        mut faults: watch::Receiver<Faults>,
        refusing: &watch::Sender<bool>,
        counts: &Arc<Counts>,
    ) {
        let mut connections = JoinSet::new();
        loop {
            let refuses = faults.borrow_and_update().refuses;
            self.set(refuses);
            refusing.send_replace(!matches!(self.state, State::Listening(_)));
            tokio::select! {
                // Without the proxy nobody wants it any more.
                changed = faults.changed() => if changed.is_err() { return },
                Some(_) = connections.join_next() => {}
                client = self.accept() => {
                    let number = counts.accepted.fetch_add(1, Ordering::SeqCst);
                    let view = View::new(faults.clone(), number);
                    connections.spawn(connection::run(client, view, Arc::clone(counts)));
                }
            }
        }
    }

    fn set(&mut self, refuses: bool) {
        match (&self.state, refuses) {
            (State::Listening(_), true) => {
                // The old socket must be gone before the port can be held anew.
                self.state = State::Lost;
                if let Ok(socket) = hold(self.address) {
                    self.state = State::Refusing(socket);
                }
            }
            (State::Refusing(_) | State::Lost, false) => {
                let held = match std::mem::replace(&mut self.state, State::Lost) {
                    State::Refusing(socket) => Ok(socket),
                    _ => hold(self.address),
                };
                if let Ok(listener) = held.and_then(|socket| socket.listen(1024)) {
                    self.state = State::Listening(listener);
                }
            }
            _ => {}
        }
    }

    /// The next connection.
    async fn accept(&self) -> TcpStream {
        if let State::Listening(listener) = &self.state {
            loop {
                if let Ok((client, _)) = listener.accept().await {
                    return client;
                }
                // The client has gone again, or files are short for a moment.
                sleep(Duration::from_millis(10)).await;
            }
        }
        std::future::pending().await
    }
}

fn hold(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Its own old connections may still be there.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
