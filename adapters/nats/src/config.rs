//! How a [`NatsBus`](crate::NatsBus) connects, and the stream it uses.

use std::{fmt, path::PathBuf, time::Duration};

use async_nats::ServerAddr;
use cqi_core::{
    Error, Result,
    config::{ConnectionUrl, EventBusConfig, is_loopback},
    name::TOPIC_PREFIX,
    secret::Secret,
};

/// The longest time that can be set, and to which a longer pause or deadline of an event is cut: a year.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// How to connect, and what to expect there.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// The servers of one cluster: `nats://host:4222`, or `tls://` for an encrypted connection; plain text that leaves this
    /// machine is warned of. One entry may hold several, separated by commas. A user and password in a URL count for all
    /// servers.
    pub servers: Vec<ConnectionUrl>,
    /// The user. Default empty: what the URL says.
    pub user: String,
    /// The password, or the token if there is no user. Default empty.
    pub password: Secret,
    /// A file of certificates to trust besides the system's, for `tls://`. Default none.
    pub ca_file: Option<PathBuf>,
    /// The name the server shows for this connection. Default `cqi`.
    pub name: String,
    /// How long connecting, with the check of the stream, may last; also the limit of a ping. Default 5 s.
    pub connection_timeout: Duration,
    /// How long the server may take to acknowledge an event, a settlement or a request. Default 5 s.
    pub publish_timeout: Duration,
    /// A link that gives no sign of life for twice this long at most is given up and opened anew. Default 10 s.
    pub ping_interval: Duration,
    /// How long [`close`](cqi_core::event::EventBus::close) may take to finish what is pending. Default 5 s.
    pub close_timeout: Duration,
    /// The consumers' name instead of the group's, for a process with one group. Default empty: the group's.
    pub durable: String,
    /// The most unsettled deliveries of one group and topic, over all members; those that wait for a retry count.
    /// Default 10,000.
    pub max_ack_pending: i64,
    /// The most bytes of unsettled events of one group and topic in this process; then it asks for no more, beside what it has
    /// asked for already. Default 64 MiB.
    pub max_unsettled_bytes: usize,
    /// Whether settling a delivery waits for the server's confirmation, at about half the rate. Default false.
    pub confirm_acks: bool,
    /// The stream.
    pub stream: StreamOptions,
}

/// The stream that holds the events. It is created when it is missing; one that exists is checked and left as it is.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Its name. Default `CQC_EVENTS`.
    pub name: String,
    /// The subjects it must take. Default `cqc.events.v1.>`.
    pub subjects: Vec<String>,
    /// On how many servers it is kept. Default 1.
    pub replicas: usize,
    /// How long an event is kept. Default 7 days.
    pub max_age: Duration,
    /// The most bytes it holds; the oldest events go first. Default 1 GiB.
    pub max_bytes: u64,
    /// For how long the stream drops a second event of the same id; must be longer than publishing is ever repeated.
    /// Default 2 minutes.
    pub duplicate_window: Duration,
}

impl NatsOptions {
    /// The defaults, with the servers of `url`.
    pub fn new(url: &str) -> Self {
        Self {
            servers: vec![url.into()],
            user: String::new(),
            password: Secret::default(),
            ca_file: None,
            name: "cqi".into(),
            connection_timeout: Duration::from_secs(5),
            publish_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            durable: String::new(),
            max_ack_pending: 10_000,
            max_unsettled_bytes: 64 << 20,
            confirm_acks: false,
            stream: StreamOptions::default(),
        }
    }

    /// The addresses without their secrets, and who connects.
    ///
    /// The secrets are taken out of the addresses because the client shows those in its own log lines.
    pub(crate) fn addresses(&self) -> Result<Addresses> {
        let mut found = Addresses {
            servers: Vec::new(),
            user: self.user.clone(),
            password: self.password.clone(),
        };
        let all = self.servers.iter().flat_map(|urls| urls.expose().split(','));
        for url in all.map(str::trim).filter(|url| !url.is_empty()) {
            let refused = || Error::invalid_input("NATS server must be nats://host:port or tls://host:port");
            let address: ServerAddr = url.parse().map_err(|_| refused())?;
            if !matches!(address.scheme(), "nats" | "tls") {
                return Err(refused().with_context("scheme", address.scheme()));
            }
            let (user, password) = (address.username(), address.password());
            match (user, password) {
                (None, _) => {}
                _ if !found.password.is_empty() => {} // said outside of the URL, or by an earlier one
                (Some(token), None) if found.user.is_empty() => found.password = Secret::new(plain(token)?),
                (Some(user), password) => {
                    found.user = plain(user)?;
                    found.password = Secret::new(plain(password.unwrap_or_default())?);
                }
            }
            let host = address.host();
            let brackets = if host.contains(':') { ("[", "]") } else { ("", "") };
            let bare = format!(
                "{}://{}{host}{}:{}",
                address.scheme(),
                brackets.0,
                brackets.1,
                address.port()
            );
            found.servers.push(bare.parse().map_err(|_| refused())?);
        }
        if found.servers.is_empty() {
            return Err(
                Error::invalid_input("no NATS server is configured").with_context("key", "event_bus.servers")
            );
        }
        Ok(found)
    }

    /// Checks servers and numbers, without connecting.
    ///
    /// # Errors
    /// `InvalidInput` naming what is wrong, and no secret.
    pub fn validate(&self) -> Result<()> {
        self.addresses()
            .map_err(|error| error.with_operation("event_bus.connect"))?;
        let wrong = [
            ("connection_timeout", self.connection_timeout),
            ("publish_timeout", self.publish_timeout),
            ("ping_interval", self.ping_interval),
            ("close_timeout", self.close_timeout),
        ]
        .into_iter()
        .find(|(_, time)| time.is_zero() || *time > MAX_TIME);
        let valid_name = |name: &str| {
            name.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
                && name.len() <= 200
        };
        let why = if let Some((name, _)) = wrong {
            format!("{name} must be above zero and at most a year")
        } else if self.stream.name.is_empty() || !valid_name(&self.stream.name) {
            "stream.name must be [A-Za-z0-9_-]+".into()
        } else if !valid_name(&self.durable) {
            "durable must be [A-Za-z0-9_-]+".into()
        } else if self.stream.subjects.is_empty() {
            "stream.subjects is required".into()
        } else if self.max_ack_pending < 1 {
            "max_ack_pending must be at least 1".into()
        } else if self.max_unsettled_bytes == 0 {
            "max_unsettled_bytes must be at least 1".into()
        } else {
            return Ok(());
        };
        Err(Error::invalid_input(why).with_operation("event_bus.connect"))
    }
}

/// A part of a URL, its escapes undone.
fn plain(part: &str) -> Result<String> {
    crate::headers::decode(part)
        .map(std::borrow::Cow::into_owned)
        .ok_or_else(|| Error::invalid_input("user or password in a NATS URL is not UTF-8"))
}

/// Where to connect, and as whom.
pub(crate) struct Addresses {
    pub(crate) servers: Vec<ServerAddr>,
    pub(crate) user: String,
    pub(crate) password: Secret,
}

impl Addresses {
    /// Whether a URL asks for no encryption on a way that others may read (C-13).
    pub(crate) fn are_open_to_others(&self) -> bool {
        let open = |server: &ServerAddr| !server.tls_required() && !is_loopback(server.host());
        self.servers.iter().any(open)
    }
}

impl fmt::Display for Addresses {
    /// `host:port` of each server.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, server) in self.servers.iter().enumerate() {
            write!(
                f,
                "{}{}:{}",
                if n == 0 { "" } else { "," },
                server.host(),
                server.port()
            )?;
        }
        Ok(())
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            name: "CQC_EVENTS".into(),
            subjects: vec![format!("{TOPIC_PREFIX}>")],
            replicas: 1,
            max_age: Duration::from_secs(7 * 24 * 3600),
            max_bytes: 1 << 30,
            duplicate_window: Duration::from_secs(120),
        }
    }
}

impl From<&EventBusConfig> for NatsOptions {
    fn from(config: &EventBusConfig) -> Self {
        let defaults = Self::new("");
        Self {
            servers: if config.url.is_empty() {
                config.servers.clone()
            } else {
                vec![config.url.clone()]
            },
            user: config.user.clone(),
            password: config.password.clone(),
            connection_timeout: config.connection_timeout,
            publish_timeout: config.publish_timeout,
            durable: config.durable.clone(),
            stream: StreamOptions {
                name: config.stream.name.clone(),
                subjects: config.stream.subjects.clone(),
                replicas: config.stream.replicas,
                max_age: config.stream.max_age,
                max_bytes: config.stream.max_bytes,
                // A publish may be repeated for a few timeouts; a repeat after the window would be stored twice.
                duplicate_window: defaults.stream.duplicate_window.max(config.publish_timeout * 8),
            },
            ..defaults
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_leave_the_addresses() {
        let options = NatsOptions::new("nats://app:CAN%40ARY@a:4223, tls://app:CANARY@[::1]");
        let found = options.addresses().unwrap();
        assert_eq!((found.user.as_str(), found.password.expose()), ("app", "CAN@ARY"));
        assert_eq!(found.to_string(), "a:4223,::1:4222");
        assert!(!format!("{:?}{options:?}", found.servers).contains("CANARY"));
        let token = NatsOptions::new("nats://CANARY@a").addresses().unwrap();
        assert_eq!((token.user.as_str(), token.password.expose()), ("", "CANARY"));
    }

    #[test]
    fn c_13_only_loopback_and_tls_are_safe_from_others() {
        for (servers, open) in [
            ("nats://localhost", false),
            ("nats://[::1],tls://nats.example", false),
            ("nats://nats.example", true),
            ("tls://a.example,nats://b.example", true),
        ] {
            let addresses = NatsOptions::new(servers).addresses().unwrap();
            assert_eq!(addresses.are_open_to_others(), open, "{servers}");
        }
    }

    #[test]
    fn bad_urls_are_refused_without_repeating_them() {
        for bad in [
            "",
            "kafka://a:1",
            "nats://app:CANARY@",
            "ws://a",
            "nats://app:CANARY@a:99999",
        ] {
            let error = NatsOptions::new(bad).addresses().err().unwrap();
            assert!(error.is_invalid_input(), "{bad}");
            assert!(!error.to_string().contains("CANARY"), "{error}");
        }
    }

    #[test]
    fn bus_14_the_configuration_says_servers_and_stream() {
        let mut config = EventBusConfig {
            user: "app".into(),
            publish_timeout: Duration::from_secs(60),
            ..EventBusConfig::default()
        };
        config.stream.name = "OTHER".into();
        let options = NatsOptions::from(&config);
        assert_eq!(options.addresses().unwrap().to_string(), "localhost:4222");
        assert_eq!(
            (options.user.as_str(), options.stream.name.as_str()),
            ("app", "OTHER")
        );
        assert!(options.stream.duplicate_window > Duration::from_secs(240));
        config.url = "nats://b:1,nats://c:2".into();
        assert_eq!(
            NatsOptions::from(&config).addresses().unwrap().to_string(),
            "b:1,c:2"
        );
    }
}
