//! How often a delivery was handed back untried.
//!
//! JetStream counts every delivery of a message, and nothing a client can say takes a delivery back. So that a release
//! is not an attempt, the number of releases is kept beside the events: in a small stream with one message for each
//! released delivery, under `cqi.released.<stream>.<consumer>.<sequence>`. It is written when a delivery is released and
//! read when a message comes that was delivered before, so the ordinary way costs nothing.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use async_nats::{
    StatusCode,
    jetstream::{
        ErrorCode,
        stream::{Config, DiscardPolicy, Info, StorageType},
    },
};
use bytes::Bytes;
use cqi_core::{Code, Error, Result};
use tokio::sync::watch;

use crate::{config::StreamOptions, error, link::Link, stream::api};

/// What the counts may take up; the oldest go first.
const MAX_BYTES: i64 = 64 << 20;

/// The counts of one events' stream.
#[derive(Debug)]
pub(crate) struct Released {
    events: StreamOptions,
    stream: String,
    within: Duration,
    /// Whether it was said that counting does not work.
    said: AtomicBool,
    /// On which connection the server refused to tell the counts.
    denied: watch::Sender<Option<u64>>,
}

impl Released {
    pub(crate) fn new(events: &StreamOptions, within: Duration) -> Self {
        Self {
            events: events.clone(),
            stream: format!("{}_RELEASED", events.name),
            within,
            said: AtomicBool::new(false),
            denied: watch::Sender::new(None),
        }
    }

    fn subject(&self, consumer: &str, sequence: u64) -> String {
        format!("cqi.released.{}.{consumer}.{sequence}", self.events.name)
    }

    /// How often the message was released by this consumer's members: never, as far as a user can see who may not read
    /// the counts, or none of its events would be given out a second time. That is said once.
    pub(crate) async fn count(&self, link: &Link, consumer: &str, sequence: u64) -> Result<u32> {
        let connection = Some(link.losses());
        let mut denied = self.denied.subscribe();
        let subject = format!(
            "$JS.API.DIRECT.GET.{}.{}",
            self.stream,
            self.subject(consumer, sequence)
        );
        let answer = tokio::select! {
            biased;
            // Of many refusals at once, the connection does not remember each.
            _ = denied.wait_for(|on| *on == connection) => return Ok(0),
            answer = link.ask(subject.into(), None, Bytes::new(), self.within) => answer,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.code() == Some(Code::PermissionDenied) => {
                self.denied.send_replace(connection);
                self.say(link, &error);
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        // Nobody answers before the first release of all.
        let Some(found) = answer.filter(|answer| answer.status.is_none_or(|status| status == StatusCode::OK))
        else {
            return Ok(0);
        };
        let count = std::str::from_utf8(&found.payload).ok();
        Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
    }

    /// Notes that the message was now released `count` times. If that fails, its release will look like an attempt,
    /// which is said once.
    pub(crate) async fn note(&self, link: &Link, consumer: &str, sequence: u64, count: u32) {
        if let Err(error) = self.store(link, consumer, sequence, count).await {
            self.say(link, &error);
        }
    }

    fn say(&self, link: &Link, error: &Error) {
        if !self.said.swap(true, Relaxed) {
            tracing::warn!(
                server = link.server(), stream = self.stream, error = %error,
                "releases cannot be counted: events that are handed back count as attempts"
            );
        }
    }

    async fn store(&self, link: &Link, consumer: &str, sequence: u64, count: u32) -> Result<()> {
        for _ in 0..2 {
            let payload = Bytes::from(count.to_string());
            let subject = self.subject(consumer, sequence).into();
            if let Some(answer) = link.ask(subject, None, payload, self.within).await? {
                return crate::publish::acknowledged(&answer.payload);
            }
            self.create(link).await?;
        }
        Err(error::nobody())
    }

    async fn create(&self, link: &Link) -> Result<()> {
        let config = Config {
            name: self.stream.clone(),
            subjects: vec![format!("cqi.released.{}.*.*", self.events.name)],
            description: Some("How often events of cqi were handed back untried".into()),
            discard: DiscardPolicy::Old,
            storage: StorageType::File,
            num_replicas: self.events.replicas,
            max_age: self.events.max_age,
            max_bytes: MAX_BYTES,
            max_messages: -1,
            max_messages_per_subject: 1,
            max_consumers: -1,
            allow_direct: true,
            ..Config::default()
        };
        match api::<Info>(
            link,
            &format!("STREAM.CREATE.{}", self.stream),
            &config,
            self.within,
        )
        .await?
        {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.error_code() == ErrorCode::STREAM_NAME_EXIST => Ok(()),
            Err(refusal) => Err(error::jetstream(&refusal)),
        }
        .map_err(|error: Error| error.with_context("stream", &self.stream))
    }
}
