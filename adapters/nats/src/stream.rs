//! The stream that holds the events, and requests to JetStream's API.

use std::time::Duration;

use async_nats::jetstream::{
    self, ErrorCode,
    stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType},
};
use bytes::Bytes;
use cqi_core::{Code, Error, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use crate::{config::StreamOptions, error, link::Link};

/// An answer of the API that is an error.
#[derive(Deserialize)]
struct Refusal {
    error: Option<jetstream::Error>,
}

/// Asks JetStream's API. The inner error is JetStream's own answer.
pub(crate) async fn api<T: DeserializeOwned>(
    link: &Link,
    what: &str,
    payload: &(impl Serialize + Sync),
    within: Duration,
) -> Result<Result<T, jetstream::Error>> {
    let strange = |error: serde_json::Error| {
        link.at(Error::permanent("JetStream's answer cannot be read")
            .with_code(Code::Undecodable)
            .with_source(error))
    };
    let mut payload = serde_json::to_vec(payload).map_err(strange)?;
    if payload == b"null" {
        payload.clear(); // what asks for nothing must say nothing
    }
    let answer = link
        .ask(
            format!("$JS.API.{what}").into(),
            None,
            Bytes::from(payload),
            within,
        )
        .await?;
    let answer = answer.ok_or_else(|| link.at(error::no_jetstream()))?;
    let refusal: Refusal = serde_json::from_slice(&answer.payload).map_err(strange)?;
    match refusal.error {
        Some(error) => Ok(Err(error)),
        None => serde_json::from_slice(&answer.payload).map(Ok).map_err(strange),
    }
}

/// What the adapter needs to know of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// When it was made: another moment means another stream of the same name.
    pub(crate) created: i128,
    pub(crate) duplicate_window: Duration,
    pub(crate) on_disk: bool,
}

/// Makes sure of the stream, `within` that time: it exists and can hold the events.
///
/// # Errors
/// `FailedPrecondition` naming what differs when there is one that cannot.
pub(crate) async fn ensure(link: &Link, options: &StreamOptions, within: Duration) -> Result<Facts> {
    // One request's limit, which says more, is no longer than that of all together.
    let ensured = timeout(within, look_or_create(link, options, within)).await;
    ensured.unwrap_or_else(|_| Err(link.at(Error::timeout(within))))
}

async fn look_or_create(link: &Link, options: &StreamOptions, within: Duration) -> Result<Facts> {
    if let Some(facts) = look(link, options, within).await? {
        return Ok(facts);
    }
    let created = api::<Info>(
        link,
        &format!("STREAM.CREATE.{}", options.name),
        &config(options),
        within,
    )
    .await?;
    match created {
        Ok(info) => {
            tracing::info!(server = link.server(), stream = options.name, "stream created");
            facts(info, options)
        }
        // Another process was faster, with limits of its own.
        Err(refusal) if refusal.error_code() == ErrorCode::STREAM_NAME_EXIST => look(link, options, within)
            .await?
            .ok_or_else(|| error::gone("the stream was deleted")),
        Err(refusal) => Err(error::jetstream(&refusal)
            .with_context("stream", &options.name)
            .with_context("subjects", options.subjects.join(","))),
    }
    .map_err(|error| link.at(error))
}

/// The stream as it is, if there is one.
pub(crate) async fn look(link: &Link, options: &StreamOptions, within: Duration) -> Result<Option<Facts>> {
    match api::<Info>(link, &format!("STREAM.INFO.{}", options.name), &(), within).await? {
        Ok(info) => facts(info, options).map(Some),
        Err(refusal) if refusal.error_code() == ErrorCode::STREAM_NOT_FOUND => return Ok(None),
        Err(refusal) => Err(error::jetstream(&refusal).with_context("stream", &options.name)),
    }
    .map_err(|error| link.at(error))
}

fn config(options: &StreamOptions) -> Config {
    Config {
        name: options.name.clone(),
        subjects: options.subjects.clone(),
        description: Some("Events of cqi".into()),
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: options.replicas,
        max_age: options.max_age,
        max_bytes: i64::try_from(options.max_bytes).unwrap_or(i64::MAX),
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        // The server wants it no longer than the events live.
        duplicate_window: options.duplicate_window.min(options.max_age),
        allow_direct: true,
        ..Config::default()
    }
}

/// What differs from what the bus needs is an error; limits that differ are the operator's choice.
fn facts(info: Info, options: &StreamOptions) -> Result<Facts> {
    let config = info.config;
    let missing = options
        .subjects
        .iter()
        .find(|wanted| !config.subjects.iter().any(|own| covers(own, wanted)));
    let why = if config.mirror.is_some() {
        "is a mirror, which takes no events".to_owned()
    } else if let Some(missing) = missing {
        format!(
            "takes {:?}, not {missing}: add the subject, or configure another stream",
            config.subjects
        )
    } else if config.retention != RetentionPolicy::Limits {
        format!("has retention {:?}, it must be Limits", config.retention)
    } else if config.no_ack {
        "does not acknowledge (no_ack)".to_owned()
    } else if config.sealed {
        "is sealed".to_owned()
    } else {
        return Ok(Facts {
            created: info.created.unix_timestamp_nanos(),
            duplicate_window: config.duplicate_window,
            on_disk: config.storage == StorageType::File,
        });
    };
    Err(Error::permanent(format!("stream {} {why}", options.name)).with_code(Code::FailedPrecondition))
}

/// Whether every subject that `wanted` stands for also matches `own`.
fn covers(own: &str, wanted: &str) -> bool {
    let (mut own, mut wanted) = (own.split('.'), wanted.split('.'));
    loop {
        match (own.next(), wanted.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(own), Some(token)) if own == token => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_must_take_every_subject() {
        for (own, wanted, expected) in [
            ("cqc.events.v1.>", "cqc.events.v1.>", true),
            ("cqc.>", "cqc.events.v1.>", true),
            (">", "a", true),
            ("a.*", "a.b", true),
            ("a.*", "a.*", true),
            ("a.*", "a.>", false),
            ("a.b", "a.*", false),
            ("a.>", "a", false),
            ("a", "a.b", false),
        ] {
            assert_eq!(covers(own, wanted), expected, "{own} {wanted}");
        }
    }
}
