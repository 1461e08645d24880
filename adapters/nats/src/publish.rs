//! Publishing: one event, or many in a pipeline.

use async_nats::{HeaderMap, Message, Subject, jetstream};
use cqi_core::{
    Code, Error, Result,
    event::{Event, header},
};
use serde::Deserialize;

use crate::{bus::Shared, error, headers, requests::Requests};

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

    pub(crate) async fn publish_batch(&self, events: Vec<Event>) -> Vec<Result<()>> {
        let _pending = self.tasks.token();
        let mut requests = Requests::new(&self.link);
        let mut outcomes = Vec::new();
        outcomes.resize_with(events.len(), || None);
        let mut unsent = events.iter().enumerate();
        // Once an event's fate is not known, those behind it must not overtake it.
        let (mut broken, mut missing) = (false, false);
        loop {
            let next = (!broken && requests.open() < WINDOW).then(|| unsent.next());
            let (index, outcome) = if let Some((index, event)) = next.flatten() {
                match self.send_in(&mut requests, index, event).await {
                    Ok(()) => continue,
                    Err(error) => (index, Err(error)),
                }
            } else if let Some((index, answer)) = requests.answer().await {
                (index, answer.and_then(|answer| self.outcome(answer.as_ref())))
            } else {
                break;
            };
            match &outcome {
                Ok(Outcome::Stored) => {}
                Ok(Outcome::Nobody) => (broken, missing) = (true, true),
                Err(error) => broken |= error.is_temporary(),
            }
            outcomes[index] = Some(outcome);
        }
        requests.finish();
        if missing && let Err(error) = self.ensure_stream().await {
            tracing::debug!(error = %error, "the stream is missing and cannot be made");
        }
        let results = outcomes.into_iter().zip(&events);
        results
            .map(|(outcome, event)| finish(outcome.unwrap_or_else(|| Err(not_sent())), event))
            .collect()
    }

    /// Sends one event and waits for the stream's answer.
    async fn send(&self, event: &Event) -> Result<Outcome> {
        let (subject, headers) = self.head(event)?;
        let within = self.options.publish_timeout;
        let payload = event.payload().clone();
        let answer = self.link.ask(subject, Some(headers), payload, within).await?;
        self.outcome(answer.as_ref())
    }

    /// Sends one event of a batch.
    async fn send_in(&self, requests: &mut Requests<'_>, index: usize, event: &Event) -> Result<()> {
        let (subject, headers) = self.head(event)?;
        let watch = self.link.watch(self.options.publish_timeout)?;
        let payload = event.payload().clone();
        requests.send(index, watch, subject, headers, payload).await
    }

    /// What stands before the payload of an event that may be sent.
    fn head(&self, event: &Event) -> Result<(Subject, HeaderMap)> {
        self.check_open()?;
        let (size, max) = (event.payload().len(), self.max_payload());
        // Others may fill a message to the brim: its dead letter is as large, and refused only by who counts the whole.
        if size > max && event.headers().get(header::GROUP).is_none() {
            let why = format!("payload has {size} bytes, at most {max} are allowed");
            return Err(Error::invalid_input(why).with_code(Code::TooLarge));
        }
        Ok((event.topic().as_str().into(), headers::write(event)))
    }

    fn outcome(&self, answer: Option<&Message>) -> Result<Outcome> {
        let Some(answer) = answer else {
            return Ok(Outcome::Nobody);
        };
        match acknowledged(&answer.payload) {
            Ok(()) => Ok(Outcome::Stored),
            Err(error) => Err(self.link.at(error)),
        }
    }
}

fn not_sent() -> Error {
    Error::temporary("not sent: an earlier event of the batch failed").with_code(Code::Unavailable)
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
