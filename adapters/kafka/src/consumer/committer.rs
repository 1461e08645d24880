//! Commits, on a thread of their own: the client reports the end of a commit only to who waits for it, and the driver
//! must not wait.

use std::{
    io,
    sync::{Arc, Mutex, Weak, mpsc},
    thread,
};

use cqi_core::name::Topic;
use rdkafka::{
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode,
};

use super::{callbacks::Callbacks, partition::Position, placing};
use crate::client::lock;

/// Carries out one commit at a time. The thread ends with this handle.
#[derive(Debug)]
pub(super) struct Committer {
    orders: mpsc::SyncSender<Vec<Position>>,
    answer: Arc<Mutex<Option<KafkaResult<()>>>>,
}

impl Committer {
    /// Starts the thread; it wakes the calling one when a commit has ended.
    pub(super) fn start(consumer: Weak<BaseConsumer<Callbacks>>, topic: Topic) -> io::Result<Self> {
        let (orders, accepted) = mpsc::sync_channel::<Vec<Position>>(1);
        let answer = Arc::new(Mutex::new(None));
        let (shared, driver) = (Arc::clone(&answer), thread::current());
        thread::Builder::new()
            .name("cqi-kafka-commit".to_owned())
            .spawn(move || {
                while let Ok(positions) = accepted.recv() {
                    // Held for the commit only: the client's end is the driver's business.
                    let ended = match consumer.upgrade() {
                        Some(consumer) => placing::positioned(&topic, &positions, true)
                            .and_then(|list| consumer.commit(&list, CommitMode::Sync)),
                        None => return,
                    };
                    *lock(&shared) = Some(ended);
                    driver.unpark();
                }
            })?;
        Ok(Self { orders, answer })
    }

    /// Begins a commit. Call it only when the one before has been answered.
    pub(super) fn begin(&self, positions: Vec<Position>) {
        if self.orders.try_send(positions).is_err() {
            *lock(&self.answer) = Some(Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::InProgress)));
        }
    }

    /// How the last commit ended, once.
    pub(super) fn answer(&self) -> Option<KafkaResult<()>> {
        lock(&self.answer).take()
    }
}
