//! Publishing: one idempotent producer, whose delivery reports wake the callers.

mod outbox;
mod outgoing;
mod reports;

use std::{
    fmt,
    pin::pin,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use cqi_core::{Code, Error, Result, event::Event};
use rdkafka::{
    error::KafkaError,
    message::OwnedHeaders,
    producer::{BaseRecord, Producer as _, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit, TryAcquireError},
    time::{Instant, timeout_at},
};

use self::{
    outbox::{HOLD, Outbox},
    outgoing::Outgoing,
    reports::Reports,
};
use crate::{
    client::{self, Trouble},
    config::KafkaOptions,
    error::{from_client, from_code},
    record,
};

/// How much longer than twice an event's time a producer may fail before it is replaced.
const SLACK: Duration = Duration::from_secs(2);
/// How long closing waits for events that are not with the client yet, before it looks again.
const TICK: Duration = Duration::from_millis(1);

pub(crate) const PUBLISH: &str = "event_bus.publish";

type Client = ThreadedProducer<Reports>;

/// The producer. What waits in it when it is dropped is lost: see [`Producer::flush`].
pub(crate) struct Producer {
    /// Taken in `drop` only.
    inner: Option<Client>,
    outbox: Outbox,
    max_in_flight: usize,
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
            // The outbox gathers, and a lone publisher waits for nobody.
            .set("linger.ms", "0")
            .set("message.timeout.ms", client::millis(options.publish_timeout))
            .set("request.timeout.ms", client::millis(options.publish_timeout))
            .set("message.max.bytes", options.max_message_bytes.to_string())
            // They are counted here: the client still counts one for a moment after its report.
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", "262144");
        let max_in_flight = options.max_in_flight.min(Semaphore::MAX_PERMITS);
        let inner: Client = config
            .create_with_context(Reports::new(max_in_flight))
            .map_err(|error| from_client(&error, "event_bus.connect"))?;
        Ok(Self {
            inner: Some(inner),
            outbox: Outbox::default(),
            max_in_flight,
            timeout: options.publish_timeout,
        })
    }

    #[allow(clippy::expect_used)] // see the field
    pub(crate) fn inner(&self) -> &Client {
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
    pub(crate) async fn publish(&self, event: Event, until: Instant) -> Result<()> {
        let event = self.admit(event, until).await?;
        let headers = record::headers(&event.event);
        let event = self.listen(event);
        let send = |event: &Arc<Outgoing>, headers| self.send(event, headers);
        if !self.outbox.pass(&event.event, headers, send) {
            self.hand_over(false);
        }
        self.confirm(event, None, until).await
    }

    /// Publishes `events` in order: all are on their way before the first answer is awaited.
    pub(crate) async fn publish_all(&self, events: Vec<Event>, until: Instant) -> Vec<Result<()>> {
        let mut queued = Vec::with_capacity(events.len());
        for event in events {
            queued.push(self.admit(event, until).await.map(|event| {
                let headers = record::headers(&event.event);
                self.outbox.put(Arc::clone(&event), headers);
                self.listen(event)
            }));
        }
        self.hand_over(false);
        let mut results = Vec::with_capacity(queued.len());
        let last = queued.iter().rev().find_map(|event| event.as_ref().ok());
        let last = last.map(|event| Arc::clone(&event.event));
        for event in queued {
            results.push(match event {
                Ok(event) => self.confirm(event, last.as_deref(), until).await,
                Err(error) => Err(error),
            });
        }
        results
    }

    /// Waits until there is room for the event, or `until`. Its outcome makes the room free.
    async fn admit(&self, event: Event, until: Instant) -> Result<Arc<Outgoing>> {
        if Instant::now() >= until {
            return Err(Error::temporary("no time is left to send it")
                .with_code(Code::Timeout)
                .with_operation(PUBLISH)
                .with_context("topic", event.topic()));
        }
        let room = &self.inner().context().room;
        let room = match room.try_acquire() {
            Err(TryAcquireError::NoPermits) => self.when_there_is_room(until).await,
            room => room.ok(),
        };
        let Some(room) = room else {
            let why = format!("no room within {:?}: the brokers do not keep up", self.timeout);
            return Err(Error::temporary(why)
                .with_code(Code::Exhausted)
                .with_operation(PUBLISH)
                .with_context("topic", event.topic()));
        };
        room.forget();
        Ok(Arc::new(Outgoing::new(event)))
    }

    fn listen(&self, event: Arc<Outgoing>) -> Listening<'_> {
        let outbox = &self.outbox;
        Listening { event, outbox }
    }

    async fn when_there_is_room(&self, until: Instant) -> Option<SemaphorePermit<'_>> {
        let (mut room, mut hold) = (pin!(self.inner().context().room.acquire()), HOLD);
        loop {
            self.hand_over(true); // what waits takes room too; and the client may have given it back, as it was full
            let next = until.min(Instant::now() + hold);
            match timeout_at(next, &mut room).await {
                Err(_) if next < until => hold *= 2,
                room => return room.ok().and_then(Result::ok),
            }
        }
    }

    /// Gives the client what waits, if it may go, or `now`.
    fn hand_over(&self, now: bool) {
        let cancelled = self
            .outbox
            .hand_over(now, |event, headers| self.send(event, headers));
        self.inner().context().room.add_permits(cancelled);
    }

    /// Gives the client an event, whose headers come back if it is full.
    fn send(&self, outgoing: &Arc<Outgoing>, headers: OwnedHeaders) -> Result<(), OwnedHeaders> {
        let client = self.inner();
        let event = &outgoing.event;
        let mut record = BaseRecord::with_opaque_to(event.topic().as_str(), Arc::clone(outgoing))
            .payload(&event.payload()[..])
            .headers(headers);
        if let Some(key) = event.key() {
            record = record.key(key);
        }
        let Err((error, record)) = client.send(record) else {
            return Ok(());
        };
        let code = error.rdkafka_error_code();
        // A client that has failed for good says so here only: it takes nothing that it could report on.
        client.context().check(code);
        match code {
            Some(RDKafkaErrorCode::QueueFull) => return Err(record.headers.unwrap_or_default()),
            code => outgoing.answer(Err(code.unwrap_or(RDKafkaErrorCode::InvalidArgument))),
        }
        client.context().room.add_permits(1);
        Ok(())
    }

    /// Waits for the outcome of an event. `last` is the last one of its batch, if it has one.
    async fn confirm(&self, listening: Listening<'_>, last: Option<&Outgoing>, until: Instant) -> Result<()> {
        let event = Arc::clone(&listening.event);
        let answer = self.answer(&event, last.unwrap_or(&event), until).await;
        drop(listening);
        self.hand_over(false);
        let reports = self.inner().context();
        let error = match answer {
            Some(Ok(())) => {
                reports.succeeded();
                return Ok(());
            }
            Some(Err(code)) => from_code(code, PUBLISH),
            // The client looks for timed out events once a second only.
            None => Error::timeout(self.timeout).with_operation(PUBLISH),
        };
        if error.is_temporary() {
            reports.failed();
        }
        Err(error.with_context("topic", event.event.topic()))
    }

    /// What became of an event, if it is known by `until`. Meanwhile the rest of its batch goes too.
    async fn answer(
        &self,
        event: &Outgoing,
        last: &Outgoing,
        until: Instant,
    ) -> Option<Result<(), RDKafkaErrorCode>> {
        let mut hold = HOLD;
        loop {
            let next = until.min(Instant::now() + hold);
            match timeout_at(next, event.outcome()).await {
                Ok(outcome) => return Some(outcome),
                Err(_) if next == until => return None,
                Err(_) if last.is_waiting() => self.hand_over(true),
                Err(_) => {}
            }
            hold *= 2;
        }
    }

    /// Waits until everything is delivered or has failed, at most `limit`. Blocks.
    pub(crate) fn flush(&self, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        loop {
            self.hand_over(true);
            let flushed = self
                .inner()
                .flush(until.saturating_duration_since(Instant::now()));
            match (flushed, self.in_flight()) {
                (_, 0) => return Ok(()),
                (Ok(()), _) if Instant::now() < until => self.inner().poll(TICK), // some wait, or are being handed over
                (flushed, left) => {
                    let error = flushed
                        .err()
                        .unwrap_or(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut));
                    let error = self.trouble().explain(&error, "event_bus.close");
                    return Err(error.with_context("unconfirmed_events", left));
                }
            }
        }
    }

    /// How many events have no outcome.
    fn in_flight(&self) -> usize {
        let free = self.inner().context().room.available_permits();
        self.max_in_flight.saturating_sub(free)
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

/// A publisher that has not heard.
struct Listening<'a> {
    event: Arc<Outgoing>,
    outbox: &'a Outbox,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.outbox.heard(&self.event);
    }
}

#[cfg(test)]
mod tests {
    use cqi_core::name::topic_name;
    use futures::FutureExt as _;
    use tokio::time::advance;

    use super::*;

    #[tokio::test]
    async fn after_its_time_an_event_is_not_sent() {
        let producer = Producer::new(&KafkaOptions::default()).unwrap();
        let event = Event::builder(topic_name("late").unwrap()).build().unwrap();
        let error = producer.publish(event, Instant::now()).await.unwrap_err();
        assert_eq!((error.code(), producer.in_flight()), (Some(Code::Timeout), 0));
        assert!(!error.may_have_applied(), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_publishers_wait_for_each_other_and_more_for_nobody() {
        let producer = Producer::new(&KafkaOptions {
            brokers: vec!["127.0.0.1:9".to_owned()], // nobody answers
            ..KafkaOptions::default()
        })
        .unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let mut publishing = Vec::new();
        for waiting in [0, 1, 2, 3, 4, 5, 6, 7, 0, 0] {
            let event = Event::builder(topic_name("many").unwrap()).build().unwrap();
            let mut publish = Box::pin(producer.publish(event, until));
            assert!(publish.as_mut().now_or_never().is_none());
            publishing.push(publish);
            assert_eq!(producer.outbox.waiting(), waiting);
        }
    }

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
