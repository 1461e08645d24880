//! What becomes of a delivery after its handler has ended. This table is the only one:
//!
//! | outcome | settlement |
//! | --- | --- |
//! | `Ok` | acknowledged |
//! | `Temporary`, or a panic; attempts left | redelivered after the back-off |
//! | `Temporary`, or a panic; attempts spent | dead letter, then acknowledged |
//! | any other error, undecodable included | dead letter at once, then acknowledged |
//! | shutdown before the handler ran | handed back, no attempt counted |
//!
//! `Temporary` stands for what [`Retry::on`] accepts, which is that by default.
//!
//! A dead letter that cannot be published is no settlement: the event is redelivered instead.

use tokio_util::sync::CancellationToken;

use super::{Delivery, Event, EventBus, Redelivery};
use crate::{Code, Error, Result, name::Topic, observe::Observation, observe::Observer, policy::Retry};

/// Headers that mean something to cqi; all but the first are those of a dead-lettered event.
pub mod header {
    /// The credential of whoever published the event: `Bearer …`. A dead letter has none.
    pub const AUTHORIZATION: &str = "authorization";
    /// The topic it came from.
    pub const TOPIC: &str = "cqi-topic";
    /// The consumer group that gave up.
    pub const GROUP: &str = "cqi-group";
    /// How many attempts were made.
    pub const ATTEMPTS: &str = "cqi-attempts";
    /// The last error's kind or code, for example `TEMPORARY` or `UNDECODABLE`.
    pub const ERROR_CODE: &str = "cqi-error-code";
    /// The last error on one line, at most 1024 bytes.
    pub const ERROR: &str = "cqi-error";
    /// When it was given up, RFC 3339.
    pub const TIME: &str = "cqi-dead-lettered-at";
}

/// Where events go that cannot be handled.
#[non_exhaustive]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeadLetter {
    /// To the topic's own dead-letter topic: `{topic}_dead_letter`.
    #[default]
    Default,
    /// To this topic.
    Topic(Topic),
    /// Nowhere: the event is redelivered for ever, with the longest pause. It holds back its key.
    Never,
}

/// Everything settling needs to know about its subscription.
#[derive(Debug)]
pub(super) struct Settling<'a> {
    pub(super) bus: &'a dyn EventBus,
    pub(super) retry: &'a Retry,
    pub(super) dead_letter: &'a DeadLetter,
    pub(super) group: &'a str,
    pub(super) observer: &'a dyn Observer,
    /// Ends a pause that is made here.
    pub(super) stop: &'a CancellationToken,
}

impl Settling<'_> {
    /// Settles by the table above, after an error.
    pub(super) async fn settle(&self, delivery: Delivery, error: Error) -> Result<()> {
        let attempt = delivery.attempt();
        let passing = self.retry.on.accepts(&error) || error.code() == Some(Code::Panicked);
        let topic = delivery.event().topic();
        let Some(target) = self.target(topic) else {
            return self.redeliver(delivery, &error).await;
        };
        if passing && attempt < self.retry.attempts {
            return self.redeliver(delivery, &error).await;
        }
        let published = match dead_letter(delivery.event(), target, self.group, attempt, &error) {
            Ok(letter) => self.bus.publish(letter).await,
            Err(failed) => Err(failed),
        };
        if let Err(failed) = published {
            tracing::error!(%topic, group = self.group, error = %failed.chain(), "dead letter could not be published");
            return self.redeliver(delivery, &failed).await;
        }
        tracing::error!(
            %topic, group = self.group, event_id = %delivery.event().id(), attempt, error = %error.chain(),
            "event went to its dead-letter topic"
        );
        self.observer.observe(&Observation::DeadLettered {
            topic: topic.as_str(),
            group: self.group,
            error: &error,
        });
        delivery.ack().await
    }

    /// Where this topic's dead letters go; a dead-letter topic has none of its own, or letters would circle.
    fn target(&self, topic: &Topic) -> Option<Topic> {
        let target = match self.dead_letter {
            DeadLetter::Default => topic.dead_letter(),
            DeadLetter::Topic(target) => target.clone(),
            DeadLetter::Never => return None,
        };
        (target != *topic).then_some(target)
    }

    async fn redeliver(&self, delivery: Delivery, error: &Error) -> Result<()> {
        let pause = self
            .retry
            .backoff()
            .delay(delivery.attempt())
            .max(error.retry_after().unwrap_or_default().min(self.retry.max));
        tracing::warn!(
            topic = %delivery.event().topic(), group = self.group, event_id = %delivery.event().id(),
            attempt = delivery.attempt(), delay_ms = pause.as_secs_f64() * 1e3, error = %error.chain(),
            "handler failed, event will be redelivered"
        );
        if self.bus.capabilities().delayed_redelivery {
            return delivery.nack(Redelivery::After(pause)).await;
        }
        // The broker cannot wait, so this slot does, until the subscription stops. Its lease is kept alive by the loop.
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
        delivery.nack(Redelivery::After(std::time::Duration::ZERO)).await
    }
}

fn dead_letter(event: &Event, target: Topic, group: &str, attempts: u32, error: &Error) -> Result<Event> {
    let mut text = error.chain().to_string().replace(char::is_control, " ");
    text.truncate(text.floor_char_boundary(1024));
    event
        .clone()
        // Dead letters are kept long and read by many.
        .without_header(header::AUTHORIZATION)
        .with_protocol_header(header::TOPIC, event.topic().as_str())?
        .with_protocol_header(header::GROUP, group)?
        .with_protocol_header(header::ATTEMPTS, &attempts.to_string())?
        .with_protocol_header(header::ERROR_CODE, error.wire_code())?
        .with_protocol_header(header::ERROR, &text)?
        .with_protocol_header(header::TIME, &jiff::Timestamp::now().to_string())
        .map(|letter| letter.with_topic(target))
}
