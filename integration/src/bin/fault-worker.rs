//! The process that fault tests kill: it consumes or publishes, and says each thing it has done on one line of its
//! standard output.
//!
//! ```text
//! fault-worker consume URL TOPIC GROUP FILE KILL_AFTER   handles into a SQLite file; after KILL_AFTER effects of its own
//!                                                        it kills itself between the effect and the acknowledgement
//! fault-worker publish URL TOPIC                         publishes until it is killed, and prints each id that was
//!                                                        acknowledged
//! ```
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its lines are what the tests read"
)]

use std::{
    env,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use cqi_core::{
    Error, Result,
    database::{DatabaseExt, SqliteDatabase, SqliteOptions, sql},
    event::{ConsumeOptions, Event, EventBus, Message, Route, Router, StartAt, Subscriber},
    name::{Group, Topic},
    policy::Retry,
    service::ServiceHandle,
};
use cqi_kafka::{KafkaBus, KafkaOptions};
use cqi_nats::{NatsBus, NatsOptions};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::task::JoinSet;

/// How many events a publishing worker has under way.
const PUBLISHERS: usize = 32;

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["consume", url, topic, group, file, kill_after] => {
            consume(url, topic, group, file, kill_after).await
        }
        ["publish", url, topic] => publish(url, topic).await,
        _ => Err(Error::invalid_input(
            "usage: fault-worker consume URL TOPIC GROUP FILE KILL_AFTER | publish URL TOPIC",
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fault-worker: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

async fn connect(url: &str) -> Result<Arc<dyn EventBus>> {
    if let Some(brokers) = url.strip_prefix("kafka://") {
        let options = KafkaOptions {
            brokers: vec![brokers.to_owned()],
            // Killed members must be missed soon.
            session_timeout: Duration::from_secs(1),
            ..KafkaOptions::default()
        };
        return Ok(Arc::new(KafkaBus::connect(options).await?));
    }
    Ok(Arc::new(NatsBus::connect(NatsOptions::new(url)).await?))
}

async fn consume(url: &str, topic: &str, group: &str, file: &str, kill_after: &str) -> Result<()> {
    let kill_after: i64 = kill_after
        .parse()
        .map_err(|_| Error::invalid_input("KILL_AFTER is no number"))?;
    let database = SqliteDatabase::open(SqliteOptions::file(file)).await?;
    let bus = connect(url).await?;
    let left = Arc::new(AtomicI64::new(kill_after));
    let handle = move |message: Message| {
        let (database, left) = (database.clone(), Arc::clone(&left));
        async move {
            let is_new = effect(&database, &message.event).await?;
            // Here is the moment the test is about: the effect is there, the acknowledgement is not.
            if is_new && left.fetch_sub(1, SeqCst) == 1 {
                kill(Pid::this(), Signal::SIGKILL).map_err(|error| Error::permanent(error.to_string()))?;
            }
            // Members that take their time share.
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok(())
        }
    };
    let retry = Retry {
        attempts: 1000,
        initial: Duration::from_millis(20),
        ..Retry::default()
    };
    let options = ConsumeOptions::default()
        .with_retry(retry)
        .with_concurrency(4)
        .with_batch(8)
        .with_ack_deadline(Duration::from_secs(1));
    let router = Router::new().route(Topic::parse(topic)?, Route::from_fn(handle));
    let subscriber = Subscriber::new(bus, Group::parse(group)?, router)
        .with_start_at(StartAt::Oldest)
        .with_options(options);
    let mut member = ServiceHandle::start(subscriber, Duration::from_secs(60)).await?;
    println!("ready");
    // The test ends it by closing its standard input, if it has not been killed by then.
    let closed = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    let _ = closed.await;
    member.stop(Duration::from_secs(20)).await
}

/// Notes the delivery, and has the effect unless an earlier delivery had it: all in one transaction.
async fn effect(database: &SqliteDatabase, event: &Event) -> Result<bool> {
    let id = event.id().to_string();
    database
        .with_transaction(|tx| {
            Box::pin(async move {
                tx.execute(sql("INSERT INTO deliveries (event_id) VALUES ($1)").bind(&id))
                    .await?;
                let inbox = sql("INSERT INTO inbox (event_id) VALUES ($1) ON CONFLICT DO NOTHING").bind(&id);
                let is_new = tx.execute(inbox).await? == 1;
                if is_new {
                    tx.execute(sql("INSERT INTO effects (event_id) VALUES ($1)").bind(&id))
                        .await?;
                }
                Ok(is_new)
            })
        })
        .await
}

async fn publish(url: &str, topic: &str) -> Result<()> {
    let bus = connect(url).await?;
    let topic = Topic::parse(topic)?;
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let (bus, topic) = (Arc::clone(&bus), topic.clone());
        publishers.spawn(async move {
            loop {
                let event = Event::builder(topic.clone())
                    .key(format!("p{publisher}"))
                    .payload("x")
                    .build()?;
                bus.publish(event.clone()).await?;
                // One write of one line; what is printed was acknowledged.
                println!("{}", event.id());
            }
        });
    }
    publishers.join_next().await.map_or(Ok(()), |ended| {
        ended.unwrap_or_else(|error| Err(Error::panicked("publisher").with_source(error)))
    })
}
