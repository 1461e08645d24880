//! The brokers that every bus test runs on.

use std::{sync::Arc, time::Duration};

use cqi_core::{
    Result,
    event::EventBus,
    name::{Topic, topic_name},
};
use cqi_kafka::{KafkaBus, KafkaOptions};
use cqi_nats::{NatsBus, NatsOptions};
use cqi_testkit::{
    fixture::{self, Kind, Options, Server},
    unique,
};
use tokio::{task::block_in_place, time::Instant};

/// A broker behind the event bus port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broker {
    Nats,
    Kafka,
}

/// How a test wants its connection. Times are shorter than the defaults, so that a fault test does not last minutes.
#[derive(Debug, Clone)]
pub(crate) struct Tune {
    pub(crate) publish_timeout: Duration,
    pub(crate) ping_interval: Duration,
    pub(crate) session_timeout: Duration,
    pub(crate) connection_timeout: Duration,
    /// For how long NATS drops a second event of one id.
    pub(crate) duplicate_window: Duration,
    pub(crate) partitions: i32,
    /// The most bytes of the stream of NATS, which it wants to see on the disk.
    pub(crate) stream_bytes: u64,
}

impl Default for Tune {
    fn default() -> Self {
        Self {
            publish_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(2),
            session_timeout: Duration::from_secs(6),
            connection_timeout: Duration::from_secs(5),
            duplicate_window: Duration::from_secs(120),
            partitions: 6,
            stream_bytes: 1 << 30,
        }
    }
}

impl Broker {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Nats => Kind::Nats,
            Self::Kafka => Kind::Kafka,
        }
    }

    /// As the report calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nats => "NATS JetStream",
            Self::Kafka => "Kafka",
        }
    }

    /// How soon after it answers again the first event must be acknowledged: three times what is promised, as the machine has
    /// other work too. What it was is in the report.
    pub(crate) fn recovery(self) -> Duration {
        let promised = match self {
            Self::Nats => Duration::from_secs(5),
            Self::Kafka => Duration::from_secs(15),
        };
        promised * 3
    }

    /// A server of its own; `None` after saying that the test is skipped.
    pub(crate) fn start(self) -> Option<Server> {
        self.start_with(&Options::new())
    }

    /// As [`Broker::start`], with options.
    pub(crate) fn start_with(self, options: &Options) -> Option<Server> {
        block_in_place(|| fixture::require_own(self.kind(), options))
    }

    /// Connects the adapter.
    pub(crate) async fn connect(self, url: &str, tune: &Tune) -> Result<Arc<dyn EventBus>> {
        trace();
        match self {
            Self::Nats => {
                let mut options = NatsOptions::new(url);
                options.publish_timeout = tune.publish_timeout;
                options.ping_interval = tune.ping_interval;
                options.connection_timeout = tune.connection_timeout;
                options.stream.duplicate_window = tune.duplicate_window;
                options.stream.max_bytes = tune.stream_bytes;
                Ok(Arc::new(NatsBus::connect(options).await?))
            }
            Self::Kafka => {
                let options = KafkaOptions {
                    brokers: vec![url.trim_start_matches("kafka://").to_owned()],
                    publish_timeout: tune.publish_timeout,
                    connection_timeout: tune.connection_timeout,
                    session_timeout: tune.session_timeout,
                    partitions: tune.partitions,
                    ..KafkaOptions::default()
                };
                Ok(Arc::new(KafkaBus::connect(options).await?))
            }
        }
    }
}

/// `CQI_TRACE=cqi_kafka=debug` shows what the adapters log, to find out why a test fails.
fn trace() {
    if let Some(filter) = std::env::var_os("CQI_TRACE") {
        let filter = filter.into_string().unwrap();
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr);
        // Another test of this process was first.
        let _ = log.try_init();
    }
}

/// A topic that no other test uses.
pub(crate) fn topic() -> Topic {
    topic_name(&unique("fault")).unwrap()
}

/// Kills the broker, leaves it dead for `outage`, and starts it again. Gives the moment it answers.
pub(crate) async fn crash(server: &Server, outage: Duration) -> Instant {
    block_in_place(|| server.kill());
    tokio::time::sleep(outage).await;
    block_in_place(|| server.start());
    Instant::now()
}
