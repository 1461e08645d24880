//! How to reach Kafka, and how much to hold.

use std::{borrow::Cow, collections::BTreeMap, ops::RangeInclusive, time::Duration};

use cqi_core::{Error, Result, config::EventBusConfig, secret::Secret};
use percent_encoding::percent_decode_str;

/// How a [`KafkaBus`](crate::KafkaBus) connects and works.
#[allow(clippy::exhaustive_structs)] // plain settings, built with `..KafkaOptions::default()`
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// The brokers to start from, `host:port`. Default `localhost:9092`.
    pub brokers: Vec<String>,
    /// The SASL user; empty: no authentication. Needs the cargo feature `ssl`. Default empty.
    pub user: String,
    /// The SASL password.
    pub password: Secret,
    /// How long connecting, looking up and creating a topic may last. Default 5 s.
    pub connection_timeout: Duration,
    /// How long publishing may last: looking up the topic, waiting for room, sending, and the brokers' acknowledgement.
    /// Default 5 s.
    pub publish_timeout: Duration,
    /// How long joining a group that has no positions yet may last. Default 20 s.
    pub join_timeout: Duration,
    /// Whether topics that are missing are created. Default true.
    pub create_topics: bool,
    /// The partitions of a topic that is created: the most members of one group that can share it. Default 6.
    pub partitions: i32,
    /// On how many brokers a topic that is created is kept; -1 for the cluster's default. Default -1.
    pub replication: i32,
    /// Whether each topic of a consumer group has a Kafka group of its own, `{group}.{topic}`, so that a member that
    /// joins, leaves or is slow on one topic disturbs no other topic. Otherwise Kafka's group is `{group}`, as in a
    /// service that was written without cqi. Default true.
    pub group_per_topic: bool,
    /// How long a member may be silent before its partitions go to others; at least the broker's
    /// `group.min.session.timeout.ms`, 6 s. Default 15 s.
    pub session_timeout: Duration,
    /// How long a partition that moves to another member waits for deliveries in flight to be settled. Default 10 s.
    pub handover_timeout: Duration,
    /// The most unsettled deliveries of one subscription, waiting ones included; then fetching pauses. Default 1000.
    pub max_unsettled: usize,
    /// The most bytes of them. Default 64 MiB.
    pub max_unsettled_bytes: usize,
    /// The most published events that may wait for their acknowledgement; then publishing waits for room. Default
    /// 100,000.
    pub max_in_flight: usize,
    /// The brokers' `message.max.bytes`: the largest event with its headers. Default 1,048,588, which is Kafka's.
    pub max_message_bytes: usize,
    /// Further settings of librdkafka, for example `ssl.ca.location`. What delivery depends on cannot be changed.
    /// Default none.
    pub properties: BTreeMap<String, Secret>,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            brokers: vec!["localhost:9092".to_owned()],
            user: String::new(),
            password: Secret::default(),
            connection_timeout: Duration::from_secs(5),
            publish_timeout: Duration::from_secs(5),
            join_timeout: Duration::from_secs(20),
            create_topics: true,
            partitions: 6,
            replication: -1,
            group_per_topic: true,
            session_timeout: Duration::from_secs(15),
            handover_timeout: Duration::from_secs(10),
            max_unsettled: 1000,
            max_unsettled_bytes: 64 << 20,
            max_in_flight: 100_000,
            max_message_bytes: 1_048_588,
            properties: BTreeMap::new(),
        }
    }
}

/// What is kept free in a message for key, headers and Kafka's own frame.
const HEADROOM: usize = 64 << 10;
/// The times that can be set: the client counts milliseconds in 31 bits, and for some takes zero for "without end".
const TIMES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(i32::MAX as u64);

impl KafkaOptions {
    /// The largest payload: a message without room for key and headers.
    pub fn max_payload(&self) -> usize {
        self.max_message_bytes.saturating_sub(HEADROOM)
    }

    /// The brokers on one line, for messages.
    pub(crate) fn servers(&self) -> String {
        self.brokers.join(",")
    }

    /// Whether connections are neither encrypted nor logged in.
    pub(crate) fn is_plain(&self) -> bool {
        self.user.is_empty() && !self.properties.contains_key("security.protocol")
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let times = [
            ("connection_timeout", self.connection_timeout),
            ("publish_timeout", self.publish_timeout),
            ("join_timeout", self.join_timeout),
            ("session_timeout", self.session_timeout),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| !TIMES.contains(time)) {
            let why = format!("kafka: {name} must be between 1 ms and 24 days");
            return Err(Error::invalid_input(why));
        }
        let broken = if self.brokers.is_empty() || self.brokers.iter().any(String::is_empty) {
            "kafka: brokers must be host:port, at least one"
        } else if self.partitions < 1 {
            "kafka: partitions must be at least 1"
        } else if self.max_unsettled == 0 || self.max_unsettled_bytes == 0 || self.max_in_flight == 0 {
            "kafka: limits must be at least 1"
        } else if !self.user.is_empty() && cfg!(not(feature = "ssl")) {
            "kafka: user and password need this build's feature `ssl` of cqi-kafka, which is off"
        } else {
            return Ok(());
        };
        Err(Error::invalid_input(broken))
    }
}

impl TryFrom<&EventBusConfig> for KafkaOptions {
    type Error = Error;

    /// Takes `url`, or else `brokers`, with `user`, `password` and the timeouts. User and password may be percent-encoded in
    /// the URL.
    ///
    /// # Errors
    /// `InvalidInput` for a URL of another kind, and for a user without the cargo feature `ssl`.
    fn try_from(config: &EventBusConfig) -> Result<Self> {
        let mut options = Self {
            brokers: config.brokers.clone(),
            user: config.user.clone(),
            password: config.password.clone(),
            connection_timeout: config.connection_timeout,
            publish_timeout: config.publish_timeout,
            ..Self::default()
        };
        if !config.url.is_empty() {
            let not_ours = || {
                Error::invalid_input("event_bus.url must be kafka://host:port[,host:port]")
                    .with_context("url", &config.url)
            };
            let rest = config
                .url
                .expose()
                .strip_prefix("kafka://")
                .ok_or_else(not_ours)?;
            let (login, hosts) = rest
                .rsplit_once('@')
                .map_or((None, rest), |(login, hosts)| (Some(login), hosts));
            if let Some(login) = login {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                options.user = plain(user)?;
                options.password = Secret::new(plain(password)?);
            }
            let hosts = hosts.trim_end_matches('/');
            if hosts.is_empty() || hosts.contains(['/', '?']) {
                return Err(not_ours());
            }
            options.brokers = hosts
                .split(',')
                .map(|host| host.strip_prefix("kafka://").unwrap_or(host))
                .map(|host| match host.contains(':') {
                    true => host.to_owned(),
                    false => format!("{host}:9092"),
                })
                .collect();
        }
        options.validate()?;
        Ok(options)
    }
}

/// A part of a URL, its escapes undone. What is no escape stays as it is.
fn plain(part: &str) -> Result<String> {
    let decoded = percent_decode_str(part).decode_utf8();
    decoded
        .map(Cow::into_owned)
        .map_err(|_| Error::invalid_input("user or password in a kafka URL is not UTF-8 when decoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_url(url: &str) -> Result<KafkaOptions> {
        KafkaOptions::try_from(&EventBusConfig {
            url: url.into(),
            ..EventBusConfig::default()
        })
    }

    #[test]
    fn bus_17_brokers_come_from_the_list_or_the_url() {
        let listed = KafkaOptions::try_from(&EventBusConfig {
            brokers: vec!["a:1".into(), "b:2".into()],
            ..EventBusConfig::default()
        });
        assert_eq!(listed.unwrap().brokers, ["a:1", "b:2"]);
        assert_eq!(of_url("kafka://a:1,b").unwrap().brokers, ["a:1", "b:9092"]);
        for bad in ["nats://a:1", "kafka://", "kafka://a/b"] {
            assert!(of_url(bad).unwrap_err().is_invalid_input(), "{bad}");
        }
    }

    #[test]
    fn escapes_of_a_url_are_undone() {
        for (part, expected) in [
            ("p%40s%2Fs%25", "p@s/s%"),
            ("%C3%A9", "é"),
            ("50%", "50%"),
            ("%zz%", "%zz%"),
            ("%é1", "%é1"),
            ("", ""),
        ] {
            assert_eq!(plain(part).unwrap(), expected, "{part}");
        }
        let error = of_url("kafka://app:CANARY%ff@a:1").unwrap_err();
        assert!(error.is_invalid_input() && !format!("{error:?}").contains("CANARY"));
        #[cfg(feature = "ssl")]
        {
            let options = of_url("kafka://a%40pp:p%3Ass@a:1").unwrap();
            assert_eq!(
                (options.user.as_str(), options.password.expose()),
                ("a@pp", "p:ss")
            );
        }
    }

    #[test]
    fn a_time_that_the_client_cannot_count_or_takes_for_none_is_refused() {
        for time in [Duration::ZERO, Duration::from_micros(999), Duration::MAX] {
            let options = KafkaOptions {
                publish_timeout: time,
                ..KafkaOptions::default()
            };
            let error = options.validate().unwrap_err();
            assert!(error.is_invalid_input(), "{time:?}");
            assert!(error.to_string().contains("publish_timeout"), "{error}");
        }
    }

    #[cfg(not(feature = "ssl"))]
    #[test]
    fn a_password_without_the_feature_is_an_error_that_names_it() {
        let error = of_url("kafka://me:CANARY@a:1").unwrap_err();
        assert!(error.to_string().contains("`ssl`"), "{error}");
        assert!(!format!("{error:?}").contains("CANARY"));
    }

    #[test]
    fn c_11_debug_shows_no_secret() {
        let options = KafkaOptions {
            password: "CANARY".into(),
            properties: [("ssl.key.pem".to_owned(), Secret::from("CANARY"))].into(),
            ..KafkaOptions::default()
        };
        assert!(!format!("{options:?}").contains("CANARY"));
    }
}
