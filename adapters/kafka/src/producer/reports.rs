//! What the client tells of what it was given.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext, Message as _,
    config::RDKafkaLogLevel,
    error::KafkaError,
    producer::{DeliveryResult, ProducerContext},
    types::RDKafkaErrorCode,
};
use tokio::{sync::Semaphore, time::Instant};

use super::outgoing::Outgoing;
use crate::client::{self, Trouble, lock};

/// What librdkafka calls for the producer.
#[derive(Debug)]
pub(crate) struct Reports {
    pub(crate) trouble: Trouble,
    /// For so many events more there is room.
    pub(super) room: Semaphore,
    pub(super) broken: AtomicBool,
    /// Since when nothing but failures came.
    failing_since: Mutex<Option<Instant>>,
}

impl Reports {
    pub(super) fn new(room: usize) -> Self {
        Self {
            trouble: Trouble::default(),
            room: Semaphore::new(room),
            broken: AtomicBool::new(false),
            failing_since: Mutex::default(),
        }
    }

    pub(super) fn succeeded(&self) {
        *lock(&self.failing_since) = None;
    }

    pub(super) fn failed(&self) {
        lock(&self.failing_since).get_or_insert_with(Instant::now);
    }

    /// For how long nothing but failures came.
    pub(super) fn failing_for(&self) -> Duration {
        lock(&self.failing_since).map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub(super) fn check(&self, code: Option<RDKafkaErrorCode>) {
        if code == Some(RDKafkaErrorCode::Fatal) {
            self.broken.store(true, SeqCst);
        }
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        client::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble.note(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Arc<Outgoing>;

    fn delivery(&self, result: &DeliveryResult<'_>, event: Arc<Outgoing>) {
        let outcome = match result {
            // Without an offset it is the client's guess: an earlier attempt failed, and as a later event of the partition
            // was stored, it takes this one for stored too. But a broker that knows nothing of this producer yet accepts
            // a later event first: it was seen to lose the first event of a new topic, with this very report.
            Ok(message) if message.offset() < 0 => Err(RDKafkaErrorCode::GaplessGuarantee),
            Ok(_) => Ok(()),
            Err((error, _)) => {
                let code = error.rdkafka_error_code();
                self.check(code);
                Err(code.unwrap_or(RDKafkaErrorCode::Fail))
            }
        };
        event.answer(outcome);
        self.room.add_permits(1);
    }
}
