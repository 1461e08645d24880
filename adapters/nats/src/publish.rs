//! Publishing: one event, or many in a pipeline.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use async_nats::jetstream;
use cqi_core::{Code, Error, Result, event::Event};
use futures::{StreamExt, stream};
use serde::Deserialize;

use crate::{bus::Shared, error, headers};

/// How many events of one batch are under way at once.
const WINDOW: usize = 256;
/// What is left of the server's limit for the headers, which it counts in; a quarter of a small limit.
const HEADER_ROOM: usize = 16 << 10;

/// JetStream's answer to a published message.
#[derive(Deserialize)]
struct Acknowledgement {
    seq: Option<u64>,
    error: Option<jetstream::Error>,
}

/// Reads JetStream's answer to a published message.
pub(crate) fn acknowledged(answer: &[u8]) -> Result<()> {
    match serde_json::from_slice(answer) {
        Ok(Acknowledgement {
            error: Some(refusal), ..
        }) => Err(error::jetstream(&refusal)),
        Ok(Acknowledgement { seq: Some(_), .. }) => Ok(()),
        _ => Err(Error::temporary("what answered is no JetStream stream").maybe_applied()),
    }
}

/// What became of one attempt.
enum Outcome {
    Stored,
    /// No stream takes the subject.
    Nobody,
}

impl Shared {
    /// The largest payload.
    pub(crate) fn max_payload(&self) -> usize {
        let server = self.link.client().max_payload();
        server - HEADER_ROOM.min(server / 4)
    }

    pub(crate) async fn publish(&self, event: Event) -> Result<()> {
        let _pending = self.tasks.token();
        let outcome = match self.send(&event).await {
            // The stream is gone, so the event is certainly not stored.
            Ok(Outcome::Nobody) => match self.ensure_stream().await {
                Ok(()) => self.send(&event).await,
                Err(error) => Err(error),
            },
            outcome => outcome,
        };
        finish(outcome, &event)
    }

    pub(crate) async fn publish_batch(self: &Arc<Self>, events: Vec<Event>) -> Vec<Result<()>> {
        let _pending = self.tasks.token();
        // Once an event's fate is not known, those behind it must not overtake it.
        let broken = AtomicBool::new(false);
        let missing = AtomicBool::new(false);
        let send = |event: Event| {
            let (broken, missing) = (&broken, &missing);
            async move {
                if broken.load(Relaxed) {
                    let error = Error::temporary("not sent: an earlier event of the batch failed");
                    return finish(Err(error.with_code(Code::Unavailable)), &event);
                }
                let outcome = self.send(&event).await;
                match &outcome {
                    Ok(Outcome::Stored) => {}
                    Ok(Outcome::Nobody) => {
                        missing.store(true, Relaxed);
                        broken.store(true, Relaxed);
                    }
                    Err(error) if error.is_temporary() => broken.store(true, Relaxed),
                    Err(_) => {}
                }
                finish(outcome, &event)
            }
        };
        let results = stream::iter(events).map(send).buffered(WINDOW).collect().await;
        if missing.into_inner()
            && let Err(error) = self.ensure_stream().await
        {
            tracing::debug!(error = %error, "the stream is missing and cannot be made");
        }
        results
    }

    /// Sends one event and waits for the stream's answer.
    async fn send(&self, event: &Event) -> Result<Outcome> {
        self.check_open()?;
        let (size, max) = (event.payload().len(), self.max_payload());
        if size > max {
            let why = format!("payload has {size} bytes, at most {max} are allowed");
            return Err(Error::invalid_input(why).with_code(Code::TooLarge));
        }
        let subject = event.topic().as_str().into();
        let headers = Some(headers::write(event));
        let within = self.options.publish_timeout;
        match self
            .link
            .ask(subject, headers, event.payload().clone(), within)
            .await?
        {
            Some(answer) => acknowledged(&answer.payload)
                .map(|()| Outcome::Stored)
                .map_err(|error| self.link.at(error)),
            None => Ok(Outcome::Nobody),
        }
    }
}

fn finish(outcome: Result<Outcome>, event: &Event) -> Result<()> {
    match outcome {
        Ok(Outcome::Stored) => return Ok(()),
        Ok(Outcome::Nobody) => Err(error::nobody()),
        Err(error) => Err(error),
    }
    .map_err(|error| {
        error
            .with_operation("event_bus.publish")
            .with_context("topic", event.topic())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stored_message_is_ok() {
        assert!(acknowledged(br#"{"stream":"S","seq":7}"#).is_ok());
        assert!(acknowledged(br#"{"stream":"S","seq":7,"duplicate":true}"#).is_ok());
        let full = br#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"S","seq":0}"#;
        let error = acknowledged(full).unwrap_err();
        assert_eq!(
            (error.is_temporary(), error.code()),
            (true, Some(Code::Exhausted))
        );
        for foreign in [&b"OK"[..], b"", b"{}", b"null"] {
            assert!(acknowledged(foreign).unwrap_err().may_have_applied());
        }
    }
}
