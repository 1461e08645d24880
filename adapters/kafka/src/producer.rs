//! Publishing: one idempotent producer, whose delivery reports wake the callers.

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use cqi_core::{Code, Error, Result, event::Event};
use futures::task::AtomicWaker;
use rdkafka::{
    ClientContext, Message as _,
    config::RDKafkaLogLevel,
    error::KafkaError,
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::{
    client::{self, Trouble, lock},
    config::KafkaOptions,
    error::{from_client, from_code},
    record,
};

/// How much longer than twice an event's time a producer may fail before it is replaced.
const SLACK: Duration = Duration::from_secs(2);

pub(crate) const PUBLISH: &str = "event_bus.publish";

/// Where the outcome of one published event arrives.
#[derive(Debug, Default)]
pub(crate) struct Receipt {
    outcome: OnceLock<Result<(), RDKafkaErrorCode>>,
    waker: AtomicWaker,
}

impl Receipt {
    async fn outcome(&self) -> Result<(), RDKafkaErrorCode> {
        poll_fn(|context| {
            if let Some(outcome) = self.outcome.get() {
                return Poll::Ready(*outcome);
            }
            self.waker.register(context.waker());
            // It may have come before the waker was there.
            self.outcome
                .get()
                .map_or(Poll::Pending, |outcome| Poll::Ready(*outcome))
        })
        .await
    }
}

/// What librdkafka calls for the producer.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    pub(crate) trouble: Trouble,
    /// Told when an event has left the full queue.
    room: Notify,
    /// How many publishers wait for room.
    waiting: AtomicUsize,
    broken: AtomicBool,
    /// Since when nothing but failures came.
    failing_since: Mutex<Option<Instant>>,
}

impl Reports {
    fn succeeded(&self) {
        *lock(&self.failing_since) = None;
    }

    fn failed(&self) {
        lock(&self.failing_since).get_or_insert_with(Instant::now);
    }

    /// For how long nothing but failures came.
    fn failing_for(&self) -> Duration {
        lock(&self.failing_since).map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn check(&self, code: Option<RDKafkaErrorCode>) {
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
    type DeliveryOpaque = Arc<Receipt>;

    fn delivery(&self, result: &DeliveryResult<'_>, receipt: Arc<Receipt>) {
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
        let _ = receipt.outcome.set(outcome);
        receipt.waker.wake();
        if self.waiting.load(SeqCst) > 0 {
            self.room.notify_one();
        }
    }
}

/// The producer. What waits in it when it is dropped is lost: see [`Producer::flush`].
pub(crate) struct Producer {
    /// Taken in `drop` only.
    inner: Option<ThreadedProducer<Reports>>,
    timeout: Duration,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

impl Producer {
    pub(crate) fn new(options: &KafkaOptions) -> Result<Self> {
        let mut config = client::settings(options);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            // A lone publisher pays no linger; what comes while a request is under way is batched for the next one.
            .set("linger.ms", "0")
            .set("message.timeout.ms", client::millis(options.publish_timeout))
            .set("request.timeout.ms", client::millis(options.publish_timeout))
            .set("message.max.bytes", options.max_message_bytes.to_string())
            .set("queue.buffering.max.messages", options.max_in_flight.to_string())
            .set("queue.buffering.max.kbytes", "262144");
        // One at a time: so concurrent publishers share requests, and no event is stored before one that was refused.
        const IN_FLIGHT: &str = "max.in.flight.requests.per.connection";
        if !options.properties.contains_key(IN_FLIGHT) {
            config.set(IN_FLIGHT, "1");
        }
        let inner = config
            .create_with_context(Reports::default())
            .map_err(|error| from_client(&error, "event_bus.connect"))?;
        Ok(Self {
            inner: Some(inner),
            timeout: options.publish_timeout,
        })
    }

    #[allow(clippy::expect_used)] // see the field
    pub(crate) fn inner(&self) -> &ThreadedProducer<Reports> {
        self.inner
            .as_ref()
            .expect("the client lives as long as the producer")
    }

    /// Whether the client is beyond help: it has failed for good (it may not say whether events were stored, and refuses
    /// all others), or nothing got through it for so long that every event in it is over its time. An idempotent producer
    /// was seen to stay stuck after its broker had been paused.
    pub(crate) fn is_broken(&self) -> bool {
        let reports = self.inner().context();
        reports.broken.load(SeqCst) || reports.failing_for() > self.timeout * 2 + SLACK
    }

    pub(crate) fn trouble(&self) -> &Trouble {
        &self.inner().context().trouble
    }

    /// Publishes one event.
    pub(crate) async fn publish(&self, event: &Event, until: Instant) -> Result<()> {
        let receipt = self.enqueue(event, until).await?;
        self.confirm(event, &receipt, until).await
    }

    /// Publishes `events` in order: all are on their way before the first answer is awaited.
    pub(crate) async fn publish_all(&self, events: &[Event], until: Instant) -> Vec<Result<()>> {
        let mut receipts = Vec::with_capacity(events.len());
        for event in events {
            receipts.push(self.enqueue(event, until).await);
        }
        let mut results = Vec::with_capacity(events.len());
        for (event, receipt) in events.iter().zip(receipts) {
            results.push(match receipt {
                Ok(receipt) => self.confirm(event, &receipt, until).await,
                Err(error) => Err(error),
            });
        }
        results
    }

    /// Hands the event to the client, waiting for room until `until`.
    async fn enqueue(&self, event: &Event, until: Instant) -> Result<Arc<Receipt>> {
        let receipt = Arc::new(Receipt::default());
        match self.send(event, &receipt) {
            Err(RDKafkaErrorCode::QueueFull) => self.enqueue_waiting(event, &receipt, until).await?,
            Err(code) => return Err(from_code(code, PUBLISH).with_context("topic", event.topic())),
            Ok(()) => {}
        }
        Ok(receipt)
    }

    async fn enqueue_waiting(&self, event: &Event, receipt: &Arc<Receipt>, until: Instant) -> Result<()> {
        let reports = self.inner().context();
        reports.waiting.fetch_add(1, SeqCst);
        let _waiting = Waiting(&reports.waiting);
        loop {
            let room = reports.room.notified(); // before the attempt, so that no room is missed
            match self.send(event, receipt) {
                Ok(()) => return Ok(()),
                Err(RDKafkaErrorCode::QueueFull) => {}
                Err(code) => return Err(from_code(code, PUBLISH).with_context("topic", event.topic())),
            }
            if timeout_at(until, room).await.is_err() {
                let message = format!("no room within {:?}: the brokers do not keep up", self.timeout);
                return Err(Error::temporary(message)
                    .with_code(Code::Exhausted)
                    .with_operation(PUBLISH)
                    .with_context("topic", event.topic()));
            }
        }
    }

    fn send(&self, event: &Event, receipt: &Arc<Receipt>) -> Result<(), RDKafkaErrorCode> {
        let mut record = BaseRecord::with_opaque_to(event.topic().as_str(), Arc::clone(receipt))
            .payload(&event.payload()[..])
            .headers(record::headers(event));
        if let Some(key) = event.key() {
            record = record.key(key);
        }
        self.inner().send(record).map_err(|(error, _)| {
            error
                .rdkafka_error_code()
                .unwrap_or(RDKafkaErrorCode::InvalidArgument)
        })
    }

    async fn confirm(&self, event: &Event, receipt: &Receipt, until: Instant) -> Result<()> {
        let reports = self.inner().context();
        let error = match timeout_at(until, receipt.outcome()).await {
            Ok(Ok(())) => {
                reports.succeeded();
                return Ok(());
            }
            Ok(Err(code)) => from_code(code, PUBLISH),
            // The client looks for timed out events once a second only.
            Err(_) => Error::timeout(self.timeout).with_operation(PUBLISH),
        };
        if error.is_temporary() {
            reports.failed();
        }
        Err(error.with_context("topic", event.topic()))
    }

    /// Waits until everything is delivered or has failed, at most `limit`. Blocks.
    pub(crate) fn flush(&self, limit: Duration) -> Result<()> {
        let flushed = self.inner().flush(limit);
        match (flushed, self.inner().in_flight_count()) {
            (Ok(()), _) | (_, 0) => Ok(()),
            (Err(error), left) => Err(self
                .trouble()
                .explain(&error, "event_bus.close")
                .with_context("unconfirmed_events", left)),
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let inner = self.inner.take();
        // Its end takes up to a second; without a thread for it, waiting is better than a leak.
        let _ = std::thread::Builder::new()
            .name("cqi-kafka-end".to_owned())
            .spawn(move || drop(inner));
    }
}

/// Counts a publisher that waits for room while it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_producer_that_only_fails_is_given_up_after_its_events_are_over_their_time() {
        let options = KafkaOptions::default();
        let producer = Producer::new(&options).unwrap();
        let reports = producer.inner().context();
        let limit = options.publish_timeout * 2 + SLACK;
        reports.failed();
        advance(limit).await;
        reports.failed(); // goes on, and does not begin anew
        assert!(!producer.is_broken());
        advance(Duration::from_millis(1)).await;
        assert!(producer.is_broken());
        reports.succeeded();
        assert!(!producer.is_broken());
    }
}
