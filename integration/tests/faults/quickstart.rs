//! The quickstart, unchanged, on PostgreSQL, Redis and a broker: shared work, foreign readers, shutdown under load.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cqi_core::database::{Database, Executor, ExecutorExt, sql};
use cqi_postgres::{PostgresDatabase, PostgresOptions};
use cqi_testkit::{
    eventually,
    figures::Figures,
    fixture::{self, Kind, Options, Server},
};
use tokio::{
    task::{JoinSet, block_in_place},
    time::Instant,
};

use crate::{
    harness::{Broker, on_each_broker, scale},
    support::{Client, Process, Program, ask, has_python, position, post, python, until},
};

on_each_broker! {
    shared => quickstart_on_nats_shares_events_and_adds_up, quickstart_on_kafka_shares_events_and_adds_up;
    terminated => f_life_01_shutdown_under_load_on_nats, f_life_01_shutdown_under_load_on_kafka;
    terminated_at_start => f_life_03_shutdown_while_the_start_waits_for_nats,
        f_life_03_shutdown_while_the_start_waits_for_kafka;
}

const TOPIC: &str = "cqc.events.v1.position_changed";
const LIMIT: Duration = Duration::from_secs(60);

/// The servers of one service.
struct Servers {
    broker: Server,
    redis: Server,
    postgres: Server,
}

impl Servers {
    fn start(broker: Broker) -> Option<Self> {
        block_in_place(|| {
            Some(Self {
                broker: broker.start()?,
                redis: fixture::require_own(Kind::Redis, &Options::new())?,
                postgres: fixture::require_own(Kind::Postgres, &Options::new())?,
            })
        })
    }

    /// The quickstart on them. Nothing but addresses is set.
    async fn quickstart(&self) -> Process {
        Process::quickstart(&[
            ("CQI_EVENT_BUS_URL", self.broker.url()),
            ("CQI_CACHE_URL", self.redis.url()),
            ("CQI_REGISTRY_URL", self.redis.url()),
            ("CQI_DATABASE_URL", self.postgres.url()),
            ("LOG_LEVEL", "warn,cqi_http::server=info,cqi_core::service=info"),
            ("CQI_SERVER_SHUTDOWN_TIMEOUT", "20s"),
        ])
        .await
    }

    async fn counted(&self) -> usize {
        let database = PostgresDatabase::connect(PostgresOptions::from_url(self.postgres.url()).unwrap())
            .await
            .unwrap();
        let row = database
            .query_row(sql("SELECT COUNT(*) AS n FROM counted_events"))
            .await
            .unwrap();
        database.close().await.unwrap();
        usize::try_from(row.get::<i64>("n").unwrap()).unwrap()
    }

    /// Waits until this many events are counted.
    async fn counts(&self, events: usize) -> usize {
        let look = || async {
            let counted = self.counted().await;
            if counted >= events {
                Ok(counted)
            } else {
                Err(counted)
            }
        };
        let counted = eventually("counted events", LIMIT, look).await;
        counted.unwrap_or_else(|failure| panic!("{failure}"))
    }
}

/// F-DB-10: instances that start at once on an empty database all start. PostgreSQL's `CREATE TABLE IF NOT EXISTS` alone
/// fails for some of them.
#[tokio::test(flavor = "multi_thread")]
async fn f_db_10_instances_that_start_at_once_make_their_tables_once() {
    let Some(postgres) = block_in_place(|| fixture::require_own(Kind::Postgres, &Options::new())) else {
        return;
    };
    let database = PostgresDatabase::connect(PostgresOptions::from_url(postgres.url()).unwrap())
        .await
        .unwrap();
    for _ in 0..5 {
        let settings = [("CQI_DATABASE_URL", postgres.url())];
        let starts = (0..8).map(|_| Process::quickstart(&settings));
        for instance in futures::future::join_all(starts).await {
            assert_eq!(instance.stop().await.code, Some(0));
        }
        let empty = sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
        database.execute(empty).await.unwrap();
    }
    database.close().await.unwrap();
}

/// Two instances in one group.
async fn shared(broker: Broker) {
    let needed = if broker == Broker::Kafka { "kafka" } else { "json" };
    if !has_python(needed) {
        fixture::skip("no Python, or not with kafka-python: run scripts/servers, which installs it");
        return;
    }
    let Some(servers) = Servers::start(broker) else {
        return;
    };
    let instances = [servers.quickstart().await, servers.quickstart().await];
    let clients = 20;
    let each = scale(100).max(20);
    let mut posting = JoinSet::new();
    for n in 0..clients {
        let address = instances[n % 2].http();
        posting.spawn(async move {
            let mut client = Client::connect(address).await.unwrap();
            for quantity in 0..each {
                let position = position(
                    &format!("p{}", n % 10),
                    &format!("a{n}-{}", quantity % 5),
                    quantity,
                );
                assert_eq!(client.request(post(&position)).await.unwrap().status, 201);
            }
        });
    }
    posting.join_all().await;
    let posted = clients * each;
    let counted = servers.counts(posted).await;

    // Either instance gives the sums of both.
    for (n, instance) in instances.iter().enumerate() {
        for portfolio in 0..10 {
            let path = format!("GET /api/portfolios/p{portfolio} HTTP/1.1\r\nhost: test\r\n\r\n");
            let answer = ask(instance.http(), path).await.json();
            let expected = (i64::try_from(posted / 10).unwrap(), 10);
            let seen = (
                answer["changes"].as_i64().unwrap(),
                answer["positions"].as_i64().unwrap(),
            );
            assert_eq!(seen, expected, "instance {n}: {answer}");
        }
    }
    let mut handled = Vec::new();
    for instance in &instances {
        handled.push(consumed(instance.admin()).await);
    }
    let headers = foreign(broker, &servers);
    for instance in instances {
        let ended = instance.stop().await;
        assert!(!ended.log.contains("\"level\":\"error\""), "{}", ended.log);
    }
    let distinct: HashSet<_> = headers
        .iter()
        .map(|one| one[&broker.header("id")].clone())
        .collect();
    Figures::new(
        "QUICKSTART",
        "two instances on PostgreSQL, Redis and the broker",
        broker.name(),
    )
    .counts(
        posted,
        counted,
        posted - distinct.len().min(posted),
        headers.len() - distinct.len(),
    )
    .note(format!(
        "the instances handled {} and {}; a Python client read {} messages",
        handled[0],
        handled[1],
        headers.len()
    ))
    .report();
    assert_eq!(counted, posted);
    assert!(
        handled.iter().all(|handled| *handled > 0),
        "both take part: {handled:?}"
    );
    assert_eq!(distinct.len(), posted);
    for one in &headers {
        for name in ["specversion", "id", "source", "type", "time", "partitionkey"] {
            assert!(
                one.contains_key(&broker.header(name)),
                "{name} is missing: {one:?}"
            );
        }
        assert_eq!(one[&broker.header("specversion")], "1.0");
        assert_eq!(one[&broker.header("type")], TOPIC);
        assert_eq!(one[&broker.header("source")], "positions");
        assert_eq!(one["content-type"], "application/protobuf");
        assert!(one.contains_key("traceparent"), "{one:?}");
        if broker == Broker::Kafka {
            assert_eq!(one["key"], one[&broker.header("partitionkey")]);
        }
    }
}

impl Broker {
    /// The name of an attribute of CloudEvents in this broker's headers.
    fn header(self, attribute: &str) -> String {
        match self {
            Self::Nats => format!("ce-{attribute}"),
            Self::Kafka => format!("ce_{attribute}"),
        }
    }
}

/// How many events an instance has handled, by its metrics.
async fn consumed(admin: SocketAddr) -> usize {
    let metrics = ask(admin, "GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n")
        .await
        .body;
    let lines = metrics
        .lines()
        .filter(|line| line.contains("bus_messages_consumed_total{"));
    let counts = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count
    let sum = counts.sum::<f64>() as usize;
    sum
}

/// The headers of all messages, as a client of another language sees them.
fn foreign(broker: Broker, servers: &Servers) -> Vec<HashMap<String, String>> {
    let address = servers.broker.address().to_string();
    let lines = block_in_place(|| match broker {
        Broker::Nats => python("nats_client.py", &[&address, "CQC_EVENTS", TOPIC], ""),
        Broker::Kafka => python("kafka_client.py", &["read", &address, TOPIC], ""),
    });
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
        .collect()
}

/// SIGTERM under load: everybody gets an answer, and what was accepted is counted, by a successor if need be.
async fn terminated(broker: Broker) {
    let Some(servers) = Servers::start(broker) else {
        return;
    };
    let service = servers.quickstart().await;
    let accepted = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for n in 0..20 {
        clients.spawn(write(n, service.http(), Arc::clone(&accepted)));
    }
    let enough = scale(1_000).max(200);
    until("accepted changes", || {
        let count = accepted.load(SeqCst);
        if count >= enough { Ok(()) } else { Err(count) }
    })
    .await;
    service.terminate();
    let asked = Instant::now();
    let unanswered: Vec<String> = clients.join_all().await.into_iter().flatten().collect();
    let ended = service.ended().await;
    let took = asked.elapsed();
    let accepted = accepted.load(SeqCst);
    let before = servers.counted().await;
    let successor = servers.quickstart().await;
    let counted = servers.counts(accepted).await;
    successor.stop().await;
    Figures::new(
        "F-LIFE-01",
        "SIGTERM under load, on PostgreSQL, Redis and the broker",
        broker.name(),
    )
    .counts(accepted, counted, accepted.saturating_sub(counted), 0)
    .note(format!(
        "exit code {:?} after {} ms, {} requests without an answer, {} events left to a successor",
        ended.code,
        took.as_millis(),
        unanswered.len(),
        accepted - before.min(accepted)
    ))
    .report();
    assert_eq!(ended.code, Some(0), "{}", ended.said());
    assert!(unanswered.is_empty(), "{unanswered:?}");
    assert!(!ended.log.contains("\"level\":\"error\""), "{}", ended.log);
    assert_eq!(counted, accepted);
}

/// Posts until nobody listens any more; gives the requests that got no answer, or another than 201.
async fn write(number: usize, address: SocketAddr, accepted: Arc<AtomicUsize>) -> Vec<String> {
    let mut unanswered = Vec::new();
    let mut quantity = 0;
    // Refused means: the port is closed.
    while let Ok(mut client) = Client::connect(address).await {
        loop {
            quantity += 1;
            let asset = format!("a{}", quantity % 7);
            match client
                .request(post(&position(&format!("p{number}"), &asset, quantity)))
                .await
            {
                Ok(answer) if answer.status == 201 => {
                    accepted.fetch_add(1, SeqCst);
                    if answer.is_last() {
                        break;
                    }
                }
                Ok(answer) => {
                    unanswered.push(format!("{answer:?}"));
                    break;
                }
                Err(error) => {
                    unanswered.push(error.to_string());
                    break;
                }
            }
        }
    }
    unanswered
}

/// SIGTERM while the start waits for a broker that is not there.
async fn terminated_at_start(broker: Broker) {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("{}://{nobody}", broker.kind());
    let service = Process::spawn(
        Program::Quickstart,
        &[
            ("CQI_EVENT_BUS_URL", url.as_str()),
            ("CQI_STARTUP_WAIT", "120s"),
            ("CQI_EVENT_BUS_CONNECTION_TIMEOUT", "1s"),
        ],
    );
    service.line_with("waiting for what cannot be reached").await;
    let asked = Instant::now();
    service.terminate();
    let ended = service.ended().await;
    let took = asked.elapsed();
    Figures::new("F-LIFE-03", "SIGTERM while the start waits", broker.name())
        .note(format!(
            "ended after {} ms, exit code {:?}",
            took.as_millis(),
            ended.code
        ))
        .report();
    assert!(took < Duration::from_secs(3), "{took:?}");
    // Killed by the signal itself, or ended by its own code: either way it is told what ended it.
    assert!(ended.code != Some(1), "{}", ended.said());
}
