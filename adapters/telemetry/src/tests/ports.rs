//! The spans of database, cache, bus and registry calls.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use cqi_core::{
    Error, Result,
    cache::{Cache, GuardedCache, MemoryCache, SetOptions},
    config::LogFormat,
    database::{Database, Dialect, Executor, GuardedDatabase, Row, Statement, Transaction, TxOptions, sql},
    event::{Event, EventBus, GuardedBus, MemoryBus, Message, Route, Router, Subscription, middleware},
    name::{Group, topic_name},
    policy::{Policy, Retry},
    registry::{GuardedRegistry, MemoryRegistry, Registry, ServiceInfo},
    trace::TraceContext,
};
use tracing::{Instrument as _, info_span, instrument::WithSubscriber as _};

use super::Rig;
use crate::{FinishedSpan, trace::AttributeValue};

/// A database that knows nothing and fails to write.
#[derive(Debug)]
struct Empty;

#[async_trait]
impl Executor for Empty {
    async fn execute(&self, _: Statement) -> Result<u64> {
        Err(Error::permanent("read only"))
    }

    async fn query(&self, _: Statement) -> Result<Vec<Row>> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Database for Empty {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    async fn begin(&self, _: TxOptions) -> Result<Box<dyn Transaction>> {
        Ok(Box::new(Self))
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Transaction for Empty {
    async fn commit(self: Box<Self>) -> Result<()> {
        Ok(())
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// A bit of everything, inside a span `request`.
async fn work(rig: &Rig) -> Event {
    let policy = Policy::new(Duration::from_secs(5), Retry::never()).with_observer(rig.telemetry.observer());
    let cache = GuardedCache::new(Arc::new(MemoryCache::default()), policy.clone());
    let database = GuardedDatabase::new(Arc::new(Empty), policy.clone());
    let registry = GuardedRegistry::new(Arc::new(MemoryRegistry::default()), policy.clone());
    let bus = GuardedBus::new(Arc::new(MemoryBus::default()), policy);
    let topic = topic_name("orders").unwrap();
    let work = async {
        cache
            .set("secret-key", Bytes::from_static(b"v"), SetOptions::no_expiry())
            .await
            .unwrap();
        cache.get("secret-key").await.unwrap();
        cache.get("other-key").await.unwrap();
        let statement = sql("SELECT a FROM t WHERE b = 'canary' AND c = $1").bind("canary");
        database.query(statement).await.unwrap();
        database.execute(sql("DELETE FROM t")).await.unwrap_err();
        let transaction = database.begin(TxOptions::default()).await.unwrap();
        transaction.query(sql("SELECT 7")).await.unwrap();
        transaction.commit().await.unwrap();
        let info = ServiceInfo::new("shop", "1", "127.0.0.1", 1);
        let id = registry.register(info).await.unwrap().id;
        registry.heartbeat(id).await.unwrap();
        registry.discover("shop").await.unwrap();
        drop(registry.watch("shop").await.unwrap());
        registry.deregister(id).await.unwrap();
        registry.heartbeat(id).await.unwrap_err();
        let subscription = Subscription::new(topic.clone(), Group::parse("g").unwrap());
        let mut deliveries = bus.subscribe(subscription).await.unwrap();
        bus.publish(Event::builder(topic).payload("{}").build().unwrap())
            .await
            .unwrap();
        deliveries.next(1).await.unwrap().unwrap()[0].event().clone()
    };
    let span = rig.run(|| info_span!("request"));
    let event = work.instrument(span).with_subscriber(rig.dispatch.clone()).await;
    bus.close().await.unwrap();
    event
}

fn attribute<'a>(span: &'a FinishedSpan, name: &str) -> Option<AttributeValue<'a>> {
    span.attributes.get(name)
}

fn text<'a>(span: &'a FinishedSpan, name: &str) -> &'a str {
    attribute(span, name)
        .and_then(AttributeValue::as_str)
        .unwrap_or_default()
}

#[tokio::test]
async fn trc_7_p_trc_1_calls_of_ports_have_spans_without_values() {
    let rig = Rig::new("error");
    let event = work(&rig).await;
    let spans = rig.spans();
    let names: Vec<_> = spans.iter().map(|span| span.name).collect();
    let expected = [
        "cache.set",
        "cache.get",
        "cache.get",
        "database.query",
        "database.execute",
        "database.begin",
        "database.query",
        "database.commit",
        "registry.register",
        "registry.heartbeat",
        "registry.discover",
        "registry.watch",
        "registry.deregister",
        "registry.heartbeat",
        "event_bus.publish",
        "request",
    ];
    assert_eq!(names, expected);
    let request = spans.last().unwrap();
    assert!(
        spans[..15]
            .iter()
            .all(|span| span.parent_id == Some(request.span_id))
    );
    assert!(!format!("{spans:?}").contains("canary") && !format!("{spans:?}").contains("-key"));
    assert_eq!(
        attribute(&spans[1], "cache.hit"),
        Some(AttributeValue::Bool(true))
    );
    assert_eq!(
        attribute(&spans[2], "cache.hit"),
        Some(AttributeValue::Bool(false))
    );
    assert_eq!(text(&spans[3], "db.system.name"), "sqlite");
    assert_eq!(text(&spans[3], "db.operation.name"), "SELECT");
    assert_eq!(
        text(&spans[3], "db.query.text"),
        "SELECT a FROM t WHERE b = ? AND c = $1"
    );
    assert_eq!(
        (text(&spans[4], "error.type"), attribute(&spans[3], "error.type")),
        ("PERMANENT", None)
    );
    for service in [8, 10, 11] {
        assert_eq!(text(&spans[service], "registry.service.name"), "shop");
    }
    assert_eq!(
        (
            text(&spans[13], "error.type"),
            attribute(&spans[12], "error.type")
        ),
        ("NOT_FOUND", None)
    );
    assert_eq!(
        text(&spans[14], "messaging.destination.name"),
        event.topic().as_str()
    );
    assert_eq!(text(&spans[14], "messaging.message.id"), event.id().to_string());
    // Whoever handles the event continues the span that published it.
    let sent = TraceContext::parse(event.headers().get("traceparent").unwrap(), None).unwrap();
    assert_eq!(
        (sent.trace_id, sent.span_id),
        (request.trace_id, spans[14].span_id)
    );
}

#[tokio::test]
async fn p_trc_3_the_span_of_a_handler_says_whether_it_failed() {
    let rig = Rig::new("error");
    let topic = topic_name("orders").unwrap();
    let layer = middleware::Trace::new(rig.telemetry.observer());
    let fails = |fails: bool| {
        let handler = move |_: Message| async move {
            if fails {
                Err(Error::temporary("later"))
            } else {
                Ok(())
            }
        };
        let router = Router::new()
            .route(topic.clone(), Route::from_fn(handler))
            .layer(layer.clone());
        router.into_routes().unwrap().remove(&topic).unwrap()
    };
    let event = Event::builder(topic.clone()).payload("{}").build().unwrap();
    for fail in [false, true] {
        let message = Message::new(event.clone(), 1, Group::parse("g").unwrap());
        let handled = fails(fail)
            .handle(message)
            .with_subscriber(rig.dispatch.clone())
            .await;
        assert_eq!(handled.is_err(), fail);
    }
    let spans = rig.spans();
    let errors: Vec<_> = spans.iter().map(|span| text(span, "error.type")).collect();
    assert_eq!((spans[0].name, errors), ("process", vec!["", "TEMPORARY"]));
}

#[tokio::test]
async fn a_trace_that_is_not_recorded_opens_no_spans_for_calls() {
    let rig = Rig::with("trace", LogFormat::Json, 0.0);
    let event = work(&rig).await;
    let sent = TraceContext::parse(event.headers().get("traceparent").unwrap(), None).unwrap();
    assert!(!sent.sampled && rig.spans().is_empty());
    // Every line stands in the one span there is.
    let lines = rig.lines();
    assert!(!lines.is_empty());
    assert!(
        lines
            .iter()
            .all(|line| line["span_id"] == format!("{:016x}", sent.span_id))
    );
}

#[tokio::test]
async fn without_a_trace_or_a_sink_calls_open_no_spans() {
    let rig = Rig::new("error");
    let policy = Policy::default().with_observer(rig.telemetry.observer());
    let cache = GuardedCache::new(Arc::new(MemoryCache::default()), policy);
    cache
        .get("a")
        .with_subscriber(rig.dispatch.clone())
        .await
        .unwrap();
    assert!(rig.spans().is_empty());
}
