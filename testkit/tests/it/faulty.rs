//! The faulty wrappers strike as planned and log what was done.

use std::{sync::Arc, time::Duration};

use cqi_core::{
    Error,
    cache::{Cache, MemoryCache, SetOptions},
    database::{Database, SqliteDatabase, TxOptions, sql},
    event::{
        ConsumeOptions, Event, EventBus, MemoryBus, Message, Route, Router, Subscriber, Subscription, header,
    },
    health::{Checker, check_fn},
    name::{Group, Topic, topic_name},
    policy::Retry,
    registry::{MemoryRegistry, Registry, ServiceInfo},
    service::{Lifecycle, Service},
};
use cqi_testkit::faulty::{
    Ended, Faults, FaultyBus, FaultyCache, FaultyChecker, FaultyDatabase, FaultyRegistry,
};
use futures::FutureExt;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

pub(crate) fn bus(inner: Arc<dyn EventBus>) -> Arc<dyn EventBus> {
    Arc::new(FaultyBus::new(inner, Faults::default()))
}

pub(crate) fn cache(inner: Arc<dyn Cache>) -> Arc<dyn Cache> {
    Arc::new(FaultyCache::new(inner, Faults::default()))
}

pub(crate) fn database(inner: Arc<dyn Database>) -> Arc<dyn Database> {
    Arc::new(FaultyDatabase::new(inner, Faults::default()))
}

pub(crate) fn registry(inner: Arc<dyn Registry>) -> Arc<dyn Registry> {
    Arc::new(FaultyRegistry::new(inner, Faults::default()))
}

pub(crate) fn checker(inner: Arc<dyn Checker>) -> Arc<dyn Checker> {
    Arc::new(FaultyChecker::new(inner, Faults::default()))
}

fn topic() -> Topic {
    topic_name("asset_created").unwrap()
}

fn event() -> Event {
    Event::builder(topic()).payload("1").build().unwrap()
}

fn faulty_bus() -> (Arc<dyn EventBus>, Faults) {
    let faults = Faults::default();
    (
        Arc::new(FaultyBus::new(Arc::new(MemoryBus::default()), faults.clone())),
        faults,
    )
}

fn temporary() -> Error {
    Error::temporary("planned")
}

#[tokio::test(start_paused = true)]
async fn tkt_2_faults_strike_in_order_and_only_once() {
    let (bus, faults) = faulty_bus();
    faults.fail_next("publish", temporary());
    faults.delay_next("publish", Duration::from_secs(3));
    faults.hang_next("publish");
    faults.panic_next("publish");
    assert_eq!(faults.unused(), ["publish"]);

    assert!(bus.publish(event()).await.unwrap_err().is_temporary());
    let start = Instant::now();
    bus.publish(event()).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    assert!(
        timeout(Duration::from_secs(60), bus.publish(event()))
            .await
            .is_err()
    );
    let panicked = std::panic::AssertUnwindSafe(bus.publish(event()))
        .catch_unwind()
        .await;
    assert!(panicked.is_err());
    bus.publish(event()).await.unwrap();

    assert!(faults.unused().iter().all(|name| name != "publish"));
    let ended: Vec<&str> = faults
        .log()
        .iter()
        .map(|operation| match operation.ended {
            Ended::Ok => "ok",
            Ended::Failed(_) => "failed",
            Ended::Dropped => "dropped",
        })
        .collect();
    assert_eq!(ended, ["failed", "ok", "dropped", "dropped", "ok"]);
    assert_eq!(faults.log()[0].target, "cqc.events.v1.asset_created");
    assert_eq!(faults.count("publish"), 5);
}

#[tokio::test(start_paused = true)]
async fn tkt_2_an_effect_can_happen_although_its_caller_sees_an_error() {
    let (bus, faults) = faulty_bus();
    let group = Group::parse("g").unwrap();
    let mut deliveries = bus.subscribe(Subscription::new(topic(), group)).await.unwrap();
    faults.fail_after_applying("publish", temporary());
    assert!(bus.publish(event()).await.unwrap_err().may_have_applied());
    faults.fail_after_applying("publish_batch", temporary());
    let results = bus.publish_batch(vec![event(), event()]).await;
    assert!(
        results
            .iter()
            .all(|result| result.as_ref().is_err_and(Error::may_have_applied))
    );
    assert_eq!(results.len(), 2);
    let batch = deliveries.next(10).await.unwrap().unwrap();
    assert_eq!(batch.len(), 3);
    faults.fail_after_applying("ack", temporary());
    faults.fail_next("nack", temporary());
    faults.fail_next("extend", temporary());
    for (n, delivery) in batch.into_iter().enumerate() {
        let settled = match n {
            0 => delivery.ack().await,
            1 => delivery.nack(cqi_core::event::Redelivery::Release).await,
            _ => delivery.extend().await,
        };
        assert!(settled.unwrap_err().is_temporary());
    }
    faults.fail_next("next", temporary());
    assert!(deliveries.next(1).await.unwrap().is_err());
    // The acked one is gone, the two others come back by their deadline.
    assert_eq!(deliveries.next(10).await.unwrap().unwrap().len(), 2);
    assert!(faults.unused().is_empty());
}

#[tokio::test(start_paused = true)]
async fn tkt_2_an_outage_fails_everything_until_it_is_healed() {
    let faults = Faults::default();
    let cache = FaultyCache::new(Arc::new(MemoryCache::default()), faults.clone());
    let ever = SetOptions::no_expiry();
    cache.set("a", "1".into(), ever).await.unwrap();
    faults.begin_outage(temporary());
    assert!(cache.get("a").await.is_err());
    assert!(cache.set("a", "2".into(), ever).await.is_err());
    assert!(cache.ping().await.is_err());
    faults.heal();
    assert_eq!(cache.get("a").await.unwrap().as_deref(), Some(b"1".as_slice()));

    let checker = FaultyChecker::new(Arc::new(check_fn("x", || async { Ok(()) })), faults.clone());
    faults.fail_next("check", temporary());
    assert!(checker.check().await.is_err());
    assert!(checker.check().await.is_ok());
}

#[tokio::test]
async fn tkt_2_transactions_have_faults_too() {
    let faults = Faults::default();
    let inner = Arc::new(SqliteDatabase::in_memory().await.unwrap());
    let database: Arc<dyn Database> = Arc::new(FaultyDatabase::new(inner, faults.clone()));
    database
        .execute("CREATE TABLE t (id BIGINT PRIMARY KEY)".into())
        .await
        .unwrap();
    let insert = |id: i64| sql("INSERT INTO t (id) VALUES ($1)").bind(id);

    faults.fail_next("commit", temporary());
    let tx = database.begin(TxOptions::default()).await.unwrap();
    tx.execute(insert(1)).await.unwrap();
    assert!(!tx.commit().await.unwrap_err().may_have_applied());

    faults.fail_after_applying("commit", temporary());
    let tx = database.begin(TxOptions::default()).await.unwrap();
    tx.execute(insert(2)).await.unwrap();
    assert!(tx.commit().await.unwrap_err().may_have_applied());

    let rows = database.query("SELECT id FROM t".into()).await.unwrap();
    let ids: Vec<i64> = rows.iter().map(|row| row.get("id").unwrap()).collect();
    assert_eq!(ids, [2]);
    assert_eq!(faults.log()[0].target, "CREATE");
}

#[tokio::test(start_paused = true)]
async fn tkt_2_watches_have_faults_too() {
    let faults = Faults::default();
    let registry = FaultyRegistry::new(Arc::new(MemoryRegistry::default()), faults.clone());
    let mut watch = registry.watch("a").await.unwrap();
    registry
        .register(ServiceInfo::new("a", "1", "localhost", 1))
        .await
        .unwrap();
    faults.fail_next("changes", temporary());
    assert!(watch.next().await.unwrap().is_err());
    assert!(watch.next().await.unwrap().is_ok());
    faults.fail_next("discover", temporary());
    assert!(registry.discover("a").await.is_err());
}

/// What the suites cannot show without faults: a dead letter that cannot be published is no settlement.
#[tokio::test(start_paused = true)]
async fn an_event_is_kept_while_its_dead_letter_cannot_be_published() {
    let (bus, faults) = faulty_bus();
    let mut letters = bus
        .subscribe(Subscription::new(
            topic().dead_letter(),
            Group::parse("letters").unwrap(),
        ))
        .await
        .unwrap();
    let failing = Route::from_fn(|_: Message| async { Err(Error::permanent("no use")) });
    let router = Router::new().route(topic(), failing);
    let options = ConsumeOptions::default().with_retry(Retry {
        initial: Duration::from_millis(10),
        ..Retry::default()
    });
    let subscriber =
        Subscriber::new(Arc::clone(&bus), Group::parse("g").unwrap(), router).with_options(options);
    let stop = CancellationToken::new();
    let (lifecycle, mut ready) = Lifecycle::new(stop.clone());
    let mut running = JoinSet::new();
    running.spawn(Box::new(subscriber).run(lifecycle));
    ready.wait_for(|ready| *ready).await.unwrap();

    bus.publish(event()).await.unwrap();
    faults.fail_next("publish", temporary());
    faults.fail_next("publish", temporary());
    let letter = letters.next(1).await.unwrap().unwrap().pop().unwrap();
    assert_eq!(letter.event().headers().get(header::ATTEMPTS), Some("3"));
    assert!(faults.unused().is_empty());
    letter.ack().await.unwrap();
    stop.cancel();
    running.join_next().await.unwrap().unwrap().unwrap();
}
