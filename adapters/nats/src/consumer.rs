//! A consumer group on JetStream: one durable pull consumer per topic.

use std::{collections::HashMap, time::Duration};

use async_nats::jetstream::{
    ErrorCode,
    consumer::{AckPolicy, Config, DeliverPolicy, Info, IntoConsumerConfig, pull},
};
use cqi_core::{
    Code, Error, Result,
    event::{StartAt, Subscription},
};
use serde::Serialize;

use crate::{config::NatsOptions, error, link::Link, stream::api};

/// The longest name; the server allows 255 bytes, which is also what a file system takes.
const MAX_NAME: usize = 200;
/// Where a consumer says whose it is, so that two groups never share one by mistake.
const GROUP_KEY: &str = "cqi-group";

/// The name of a group's consumer: readable, and different for every group and topic.
pub(crate) fn name(durable: &str, subscription: &Subscription) -> String {
    let group = if durable.is_empty() {
        subscription.group.as_str()
    } else {
        durable
    };
    let event_type = subscription.topic.event_type();
    let name = format!("{group}-{event_type}"); // an event type has no hyphen
    if name.len() <= MAX_NAME {
        return name;
    }
    // The hash is in capitals, which no event type has.
    format!("{}-{:016X}", &name[..MAX_NAME - 17], fnv1a(name.as_bytes()))
}

pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| {
        (hash ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// How long the server waits for an acknowledgement: a little longer than promised, so that we never believe a delivery
/// ours that the server has given away.
pub(crate) fn ack_wait(deadline: Duration) -> Duration {
    deadline + (deadline / 20).clamp(Duration::from_millis(20), Duration::from_secs(1))
}

/// Where a consumer that has to be made begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Begin {
    At(StartAt),
    /// After this event of the stream.
    After(u64),
}

#[derive(Serialize)]
struct CreateRequest<'a> {
    stream_name: &'a str,
    config: &'a Config,
    action: &'static str,
}

/// Makes sure of the consumer. One that exists goes on where it was. Returns up to which event of the stream the group
/// has settled everything.
pub(crate) async fn ensure(
    link: &Link,
    options: &NatsOptions,
    name: &str,
    subscription: &Subscription,
    begin: Begin,
) -> Result<u64> {
    let (stream, within) = (options.stream.name.as_str(), options.publish_timeout);
    let wanted = wanted(options, name, subscription, begin);
    let place = |error: Error| {
        link.at(error
            .with_context("consumer", name)
            .with_context("topic", &subscription.topic))
    };
    // Twice, as other members may create or delete it in between.
    for _ in 0..2 {
        if let Some(info) = look(link, stream, name, within).await? {
            check(&info, &wanted).map_err(place)?;
            if info.config.ack_wait == wanted.ack_wait {
                return Ok(info.ack_floor.stream_sequence);
            }
            let config = Config {
                ack_wait: wanted.ack_wait,
                ..info.config
            };
            match create(link, stream, name, &config, "update", within).await? {
                Ok(info) => return Ok(info.ack_floor.stream_sequence),
                Err(refusal) if refusal.error_code() == ErrorCode::CONSUMER_DOES_NOT_EXIST => continue,
                Err(refusal) => return Err(place(error::jetstream(&refusal))),
            }
        }
        match create(link, stream, name, &wanted, "create", within).await? {
            Ok(info) => return Ok(info.ack_floor.stream_sequence),
            Err(refusal)
                if matches!(
                    refusal.error_code(),
                    ErrorCode::CONSUMER_ALREADY_EXISTS | ErrorCode::CONSUMER_NAME_EXIST
                ) => {}
            Err(refusal) => return Err(place(error::jetstream(&refusal))),
        }
    }
    Err(place(
        Error::temporary("the group's consumer is being changed by others").with_code(Code::Conflict),
    ))
}

/// The consumer, if there is one.
pub(crate) async fn look(link: &Link, stream: &str, name: &str, within: Duration) -> Result<Option<Info>> {
    match api::<Info>(link, &format!("CONSUMER.INFO.{stream}.{name}"), &(), within).await? {
        Ok(info) => Ok(Some(info)),
        Err(refusal) if refusal.error_code() == ErrorCode::CONSUMER_NOT_FOUND => Ok(None),
        Err(refusal) => Err(link.at(error::jetstream(&refusal).with_context("consumer", name))),
    }
}

async fn create(
    link: &Link,
    stream: &str,
    name: &str,
    config: &Config,
    action: &'static str,
    within: Duration,
) -> Result<Result<Info, async_nats::jetstream::Error>> {
    let request = CreateRequest {
        stream_name: stream,
        config,
        action,
    };
    let subject = format!("CONSUMER.CREATE.{stream}.{name}.{}", config.filter_subject);
    api(link, &subject, &request, within).await
}

fn wanted(options: &NatsOptions, name: &str, subscription: &Subscription, begin: Begin) -> Config {
    let deliver_policy = match begin {
        Begin::At(StartAt::New) => DeliverPolicy::New,
        Begin::At(StartAt::Oldest) => DeliverPolicy::All,
        Begin::After(sequence) => DeliverPolicy::ByStartSequence {
            start_sequence: sequence + 1,
        },
    };
    pull::Config {
        durable_name: Some(name.to_owned()),
        name: Some(name.to_owned()),
        deliver_policy,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ack_wait(subscription.ack_deadline),
        max_deliver: -1, // who gives up is core, which keeps the event in the dead-letter topic
        filter_subject: subscription.topic.as_str().to_owned(),
        max_ack_pending: options.max_ack_pending,
        metadata: HashMap::from([(GROUP_KEY.to_owned(), subscription.group.as_str().to_owned())]),
        ..pull::Config::default()
    }
    .into_consumer_config()
}

/// Whether the consumer that exists can serve this subscription.
fn check(info: &Info, wanted: &Config) -> Result<()> {
    let (own, group) = (&info.config, wanted.metadata.get(GROUP_KEY));
    let why = if own.filter_subject != wanted.filter_subject {
        format!("reads {:?}", own.filter_subject)
    } else if own
        .metadata
        .get(GROUP_KEY)
        .is_some_and(|other| Some(other) != group)
    {
        "belongs to another consumer group: use another durable name".to_owned()
    } else if own.deliver_subject.is_some() {
        "is a push consumer".to_owned()
    } else if own.ack_policy != AckPolicy::Explicit {
        format!("has ack policy {:?}, it must be Explicit", own.ack_policy)
    } else if own.max_deliver > 0 {
        format!("gives up after {} deliveries, it must not", own.max_deliver)
    } else {
        return Ok(());
    };
    Err(Error::permanent(format!("the consumer that exists {why}")).with_code(Code::FailedPrecondition))
}

#[cfg(test)]
mod tests {
    use cqi_core::name::{Group, topic_name};

    use super::*;

    fn subscription(group: &str, event_type: &str) -> Subscription {
        Subscription::new(topic_name(event_type).unwrap(), Group::parse(group).unwrap())
    }

    #[test]
    fn b_14_names_are_valid_and_different() {
        assert_eq!(
            name("", &subscription("positions", "price_updated")),
            "positions-price_updated"
        );
        assert_eq!(
            name("mine", &subscription("positions", "price_updated")),
            "mine-price_updated"
        );
        let long = |last: &str| {
            name(
                "",
                &subscription(&"g".repeat(63), &format!("{}{last}", "t".repeat(198))),
            )
        };
        assert_eq!(long("a").len(), MAX_NAME);
        assert_ne!(long("a"), long("b"));
        assert_ne!(
            name("", &subscription("a-b", "c")),
            name("", &subscription("a", "b_c"))
        );
    }

    #[test]
    fn the_server_waits_longer_than_promised() {
        assert_eq!(ack_wait(Duration::from_secs(30)), Duration::from_secs(31));
        assert_eq!(ack_wait(Duration::from_millis(100)), Duration::from_millis(120));
    }
}
