//! [mockall](https://docs.rs/mockall) mocks of the five ports and of the handles they give out.
//!
//! A mock answers what a test tells it and fails the test when it is called otherwise. Where a test cares about what
//! happens rather than which calls are made, the in-memory defaults and [`faulty`](crate::faulty) serve better.
#![allow(missing_docs)] // mockall makes public items without documentation

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use cqi_core::{
    Result, cache,
    cache::SetOptions,
    database::{Dialect, Row, Statement, Transaction, TxOptions},
    event::{self, Deliveries, Delivery, Event, Lease, Redelivery, Subscription},
    registry::{Change, Instance, ServiceInfo, Watch},
};
use mockall::mock;
use uuid::Uuid;

mock! {
    /// A mock of [`cqi_core::event::EventBus`].
    ///
    /// ```
    /// use cqi_core::{event::{Event, EventBus}, name::topic_name};
    /// use cqi_testkit::mocks::MockEventBus;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> cqi_core::Result<()> {
    /// let mut bus = MockEventBus::new();
    /// bus.expect_publish()
    ///     .withf(|event| event.key() == Some("BTC"))
    ///     .times(1)
    ///     .returning(|_| Ok(()));
    /// bus.publish(Event::builder(topic_name("asset_created")?).key("BTC").build()?).await?;
    /// # Ok(()) }
    /// ```
    pub EventBus {}

    #[async_trait]
    impl event::EventBus for EventBus {
        fn capabilities(&self) -> event::Capabilities;
        async fn publish(&self, event: Event) -> Result<()>;
        async fn publish_batch(&self, events: Vec<Event>) -> Vec<Result<()>>;
        async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Deliveries>>;
        async fn ping(&self) -> Result<()>;
        async fn close(&self) -> Result<()>;
    }
}

mock! {
    /// A mock of [`cqi_core::event::Deliveries`], for what a mocked `subscribe` returns.
    pub Deliveries {}

    #[async_trait]
    impl Deliveries for Deliveries {
        async fn next(&mut self, max: usize) -> Option<Result<Vec<Delivery>>>;
        async fn close(&mut self) -> Result<()>;
    }
}

mock! {
    /// A mock of [`cqi_core::event::Acker`], for deliveries made by hand; see [`delivery`].
    pub Acker {}

    #[async_trait]
    impl event::Acker for Acker {
        async fn ack(&self, which: u64) -> Result<()>;
        async fn nack(&self, which: u64, redelivery: Redelivery) -> Result<()>;
        async fn extend(&self, which: u64) -> Result<()>;
    }
}

/// A delivery whose settling is mocked.
///
/// ```
/// use cqi_core::{event::Event, name::topic_name};
/// use cqi_testkit::mocks::{MockAcker, delivery};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> cqi_core::Result<()> {
/// let mut acker = MockAcker::new();
/// acker.expect_ack().times(1).returning(|_| Ok(()));
/// delivery(Event::builder(topic_name("asset_created")?).build()?, 1, acker).ack().await?;
/// # Ok(()) }
/// ```
pub fn delivery(event: Event, attempt: u32, acker: MockAcker) -> Delivery {
    Delivery::new(event, attempt, Lease::new(Arc::new(acker), 0))
}

mock! {
    /// A mock of [`cqi_core::cache::Cache`].
    ///
    /// ```
    /// use cqi_core::cache::Cache;
    /// use cqi_testkit::mocks::MockCache;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> cqi_core::Result<()> {
    /// let mut cache = MockCache::new();
    /// cache.expect_get().withf(|key| key == "asset:BTC").returning(|_| Ok(Some("1".into())));
    /// assert_eq!(cache.get("asset:BTC").await?.as_deref(), Some(b"1".as_slice()));
    /// # Ok(()) }
    /// ```
    pub Cache {}

    #[async_trait]
    impl cache::Cache for Cache {
        fn capabilities(&self) -> cache::Capabilities;
        async fn get(&self, key: &str) -> Result<Option<Bytes>>;
        async fn set(&self, key: &str, value: Bytes, options: SetOptions) -> Result<bool>;
        async fn delete(&self, key: &str) -> Result<bool>;
        async fn exists(&self, key: &str) -> Result<bool>;
        async fn add(&self, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64>;
        async fn ping(&self) -> Result<()>;
        async fn close(&self) -> Result<()>;
    }
}

mock! {
    /// A mock of [`cqi_core::database::Database`].
    ///
    /// ```
    /// use cqi_core::database::{Executor, Row, Value, sql};
    /// use cqi_testkit::mocks::MockDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> cqi_core::Result<()> {
    /// let mut database = MockDatabase::new();
    /// database
    ///     .expect_query()
    ///     .withf(|statement| statement.text().starts_with("SELECT name"))
    ///     .returning(|_| Ok(vec![Row::new(["name".into()].into(), vec![Value::Text("Bitcoin".into())])]));
    /// let rows = database.query(sql("SELECT name FROM asset WHERE id = $1").bind(7)).await?;
    /// assert_eq!(rows[0].get::<String>("name")?, "Bitcoin");
    /// # Ok(()) }
    /// ```
    pub Database {}

    #[async_trait]
    impl cqi_core::database::Executor for Database {
        async fn execute(&self, statement: Statement) -> Result<u64>;
        async fn query(&self, statement: Statement) -> Result<Vec<Row>>;
    }

    #[async_trait]
    impl cqi_core::database::Database for Database {
        fn dialect(&self) -> Dialect;
        async fn begin(&self, options: TxOptions) -> Result<Box<dyn Transaction>>;
        async fn ping(&self) -> Result<()>;
        async fn close(&self) -> Result<()>;
    }
}

mock! {
    /// A mock of [`cqi_core::database::Transaction`], for what a mocked `begin` returns.
    ///
    /// ```
    /// use cqi_core::database::{Database, TxOptions};
    /// use cqi_testkit::mocks::{MockDatabase, MockTransaction};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> cqi_core::Result<()> {
    /// let mut database = MockDatabase::new();
    /// database.expect_begin().returning(|_| {
    ///     let mut transaction = MockTransaction::new();
    ///     transaction.expect_commit().times(1).returning(|| Ok(()));
    ///     Ok(Box::new(transaction))
    /// });
    /// database.begin(TxOptions::default()).await?.commit().await?;
    /// # Ok(()) }
    /// ```
    pub Transaction {}

    #[async_trait]
    impl cqi_core::database::Executor for Transaction {
        async fn execute(&self, statement: Statement) -> Result<u64>;
        async fn query(&self, statement: Statement) -> Result<Vec<Row>>;
    }

    #[async_trait]
    impl Transaction for Transaction {
        async fn commit(self: Box<Self>) -> Result<()>;
        async fn rollback(self: Box<Self>) -> Result<()>;
    }
}

mock! {
    /// A mock of [`cqi_core::registry::Registry`].
    ///
    /// ```
    /// use cqi_core::registry::Registry;
    /// use cqi_testkit::mocks::MockRegistry;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> cqi_core::Result<()> {
    /// let mut registry = MockRegistry::new();
    /// registry.expect_discover().returning(|_| Ok(Vec::new()));
    /// assert!(registry.discover("asset-registry").await?.is_empty());
    /// # Ok(()) }
    /// ```
    pub Registry {}

    #[async_trait]
    impl cqi_core::registry::Registry for Registry {
        async fn register(&self, info: ServiceInfo) -> Result<Instance>;
        async fn deregister(&self, id: Uuid) -> Result<()>;
        async fn heartbeat(&self, id: Uuid) -> Result<()>;
        async fn discover(&self, name: &str) -> Result<Vec<Instance>>;
        async fn watch(&self, name: &str) -> Result<Box<dyn Watch>>;
        async fn ping(&self) -> Result<()>;
        async fn close(&self) -> Result<()>;
    }
}

mock! {
    /// A mock of [`cqi_core::registry::Watch`], for what a mocked `watch` returns.
    pub Watch {}

    #[async_trait]
    impl Watch for Watch {
        async fn next(&mut self) -> Option<Result<Change>>;
    }
}

mock! {
    /// A mock of [`cqi_core::health::Checker`].
    ///
    /// ```
    /// use cqi_core::{Error, health::Checker};
    /// use cqi_testkit::mocks::MockChecker;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let mut checker = MockChecker::new();
    /// checker.expect_check().returning(|| Err(Error::temporary("no route to host")));
    /// assert!(checker.check().await.is_err());
    /// # }
    /// ```
    pub Checker {}

    #[async_trait]
    impl cqi_core::health::Checker for Checker {
        fn name(&self) -> &str;
        async fn check(&self) -> Result<()>;
    }
}

/// The ports ask for `Debug`; a mock shows its name only.
macro_rules! show_names {
    ($($mock:ident)*) => {$(
        impl fmt::Debug for $mock {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($mock))
            }
        }
    )*};
}

show_names!(MockEventBus MockDeliveries MockAcker MockCache MockDatabase MockTransaction MockRegistry MockWatch MockChecker);
