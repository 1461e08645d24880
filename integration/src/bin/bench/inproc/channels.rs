//! Channels of tokio, with and without an acknowledgement of each message.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tokio::{
    sync::{Mutex, broadcast, mpsc, oneshot},
    task::JoinSet,
};

use super::{Bus, CAPACITY, Handler, Shape};
use crate::measure::join;

/// A channel per group; each message carries a oneshot that says it was handled.
pub(super) struct AckedMpsc {
    groups: Vec<mpsc::Sender<(Bytes, oneshot::Sender<()>)>>,
    unacked: VecDeque<oneshot::Receiver<()>>,
    consumers: JoinSet<()>,
}

impl Bus for AckedMpsc {
    async fn start(shape: Shape, handler: Handler) -> Self {
        let (mut groups, mut consumers) = (Vec::new(), JoinSet::new());
        for group in 0..shape.groups {
            let (send, receive) = mpsc::channel::<(Bytes, oneshot::Sender<()>)>(CAPACITY);
            let receive = Arc::new(Mutex::new(receive));
            groups.push(send);
            for _ in 0..shape.receivers {
                let (handler, receive) = (Arc::clone(&handler), Arc::clone(&receive));
                consumers.spawn(async move {
                    loop {
                        // Given back before the message is handled, so that the others can take theirs.
                        let next = receive.lock().await.recv().await;
                        let Some((payload, acked)) = next else { return };
                        handler(group, &payload);
                        acked.send(()).expect("a publisher that waits");
                    }
                });
            }
        }
        Self {
            groups,
            unacked: VecDeque::with_capacity(CAPACITY * shape.groups),
            consumers,
        }
    }

    async fn publish(&mut self, _: usize, payload: Bytes) {
        for group in &self.groups {
            if self.unacked.len() == CAPACITY * self.groups.len()
                && let Some(oldest) = self.unacked.pop_front()
            {
                oldest.await.expect("an acknowledgement");
            }
            let (acked, unacked) = oneshot::channel();
            self.unacked.push_back(unacked);
            group
                .send((payload.clone(), acked))
                .await
                .expect("a consumer that runs");
        }
    }

    async fn settled(&mut self) {
        for unacked in self.unacked.drain(..) {
            unacked.await.expect("an acknowledgement");
        }
    }

    async fn close(self) {
        drop(self.groups);
        join(self.consumers).await;
    }
}

/// One ring for all groups; each group sends the number of each message back when it was handled.
pub(super) struct AckedBroadcast {
    ring: broadcast::Sender<(usize, Bytes)>,
    acked: mpsc::Receiver<usize>,
    groups: usize,
    /// For each message from `oldest` on, how many groups have not acknowledged it.
    unacked: VecDeque<usize>,
    oldest: usize,
    consumers: JoinSet<()>,
}

impl Bus for AckedBroadcast {
    async fn start(shape: Shape, handler: Handler) -> Self {
        let ring = broadcast::Sender::new(CAPACITY);
        let (ack, acked) = mpsc::channel(CAPACITY * shape.groups);
        let mut consumers = JoinSet::new();
        for group in 0..shape.groups {
            let (mut receive, ack, handler) = (subscribe(&ring), ack.clone(), Arc::clone(&handler));
            consumers.spawn(async move {
                while let Some((number, payload)) = next(&mut receive).await {
                    handler(group, &payload);
                    ack.send(number).await.expect("a publisher that waits");
                }
            });
        }
        Self {
            ring,
            acked,
            groups: shape.groups,
            unacked: VecDeque::with_capacity(CAPACITY),
            oldest: 0,
            consumers,
        }
    }

    async fn publish(&mut self, number: usize, payload: Bytes) {
        // The ring overwrites what the slowest has not read, so the unacknowledged must fit into it.
        while self.unacked.len() == CAPACITY {
            self.take_acks().await;
        }
        self.unacked.push_back(self.groups);
        self.ring.send((number, payload)).expect("a consumer that runs");
    }

    async fn settled(&mut self) {
        while !self.unacked.is_empty() {
            self.take_acks().await;
        }
    }

    async fn close(self) {
        drop(self.ring);
        join(self.consumers).await;
    }
}

impl AckedBroadcast {
    /// Waits for an acknowledgement and takes those that are there.
    async fn take_acks(&mut self) {
        let mut next = self.acked.recv().await;
        while let Some(number) = next {
            self.unacked[number - self.oldest] -= 1;
            next = self.acked.try_recv().ok();
        }
        while self.unacked.front() == Some(&0) {
            self.unacked.pop_front();
            self.oldest += 1;
        }
    }
}

/// A channel per group, and no word about what became of a message.
pub(super) struct PlainMpsc {
    groups: Vec<mpsc::Sender<Bytes>>,
    consumers: JoinSet<()>,
}

impl Bus for PlainMpsc {
    async fn start(shape: Shape, handler: Handler) -> Self {
        let (mut groups, mut consumers) = (Vec::new(), JoinSet::new());
        for group in 0..shape.groups {
            let (send, mut receive) = mpsc::channel::<Bytes>(CAPACITY);
            let handler = Arc::clone(&handler);
            groups.push(send);
            consumers.spawn(async move {
                while let Some(payload) = receive.recv().await {
                    handler(group, &payload);
                }
            });
        }
        Self { groups, consumers }
    }

    async fn publish(&mut self, _: usize, payload: Bytes) {
        for group in &self.groups {
            group.send(payload.clone()).await.expect("a consumer that runs");
        }
    }

    async fn settled(&mut self) {
        self.groups.clear(); // consumers that end have handled all
        join(std::mem::take(&mut self.consumers)).await;
    }

    async fn close(self) {}
}

/// One ring for all groups. It drops what the slowest has not read, so the publisher holds back by its length.
pub(super) struct PlainBroadcast {
    ring: Option<broadcast::Sender<Bytes>>,
    consumers: JoinSet<()>,
}

impl Bus for PlainBroadcast {
    async fn start(shape: Shape, handler: Handler) -> Self {
        let ring = broadcast::Sender::new(CAPACITY);
        let mut consumers = JoinSet::new();
        for group in 0..shape.groups {
            let (mut receive, handler) = (subscribe(&ring), Arc::clone(&handler));
            consumers.spawn(async move {
                while let Some(payload) = next(&mut receive).await {
                    handler(group, &payload);
                }
            });
        }
        Self {
            ring: Some(ring),
            consumers,
        }
    }

    async fn publish(&mut self, number: usize, payload: Bytes) {
        let Some(ring) = &self.ring else { return };
        // Looking takes the ring's lock, so the publisher looks once in a while.
        if number.is_multiple_of(CAPACITY / 4) {
            while ring.len() > CAPACITY / 2 {
                tokio::task::yield_now().await;
            }
        }
        ring.send(payload).expect("a consumer that runs");
    }

    async fn settled(&mut self) {
        self.ring = None; // consumers that end have handled all
        join(std::mem::take(&mut self.consumers)).await;
    }

    async fn close(self) {}
}

fn subscribe<T: Clone>(ring: &broadcast::Sender<T>) -> broadcast::Receiver<T> {
    ring.subscribe()
}

/// The next message, or `None` after the last.
async fn next<T: Clone>(receive: &mut broadcast::Receiver<T>) -> Option<T> {
    match receive.recv().await {
        Ok(message) => Some(message),
        Err(broadcast::error::RecvError::Closed) => None,
        Err(error) => panic!("the ring was overrun: {error}"),
    }
}
