//! Callers that have less time than connecting takes.

use std::time::Duration;

use cqi_core::database::{Database, Executor, TxOptions, sql};
use cqi_postgres::PostgresOptions;
use cqi_testkit::{
    fixture::{self, Kind},
    proxy::Proxy,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{connect, run, shared};

/// A link so slow that connecting, of four questions and answers at least, takes 400 ms, and a query half of that.
async fn slow_link(options: PostgresOptions) -> (Proxy, PostgresOptions) {
    let server = fixture::shared(Kind::Postgres).unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    proxy.latency(Duration::from_millis(50));
    let address = proxy.address();
    let options = PostgresOptions {
        host: address.ip().to_string(),
        port: address.port(),
        ..options
    };
    (proxy, options)
}

/// Connecting goes on when its caller is gone, so that the next one finds a connection.
#[test]
fn callers_in_a_hurry_get_through_in_the_end() {
    let Some(options) = shared() else { return };
    run(async {
        let (proxy, options) = slow_link(options).await;
        let db = connect(&options).await;
        proxy.reset();
        let start = Instant::now();
        while !matches!(
            timeout(Duration::from_millis(350), db.query(sql("SELECT 1"))).await,
            Ok(Ok(_))
        ) {
            assert!(start.elapsed() < Duration::from_secs(20), "nobody gets through");
        }
        db.close().await.unwrap();
    });
}

/// More callers than the pool can serve, so that whoever comes to its turn has hardly any time left. When its connections
/// break they are replaced, though.
#[test]
fn f_db_06_an_overloaded_pool_replaces_its_connections() {
    let Some(options) = shared() else { return };
    run(async {
        let (proxy, options) = slow_link(PostgresOptions {
            max_connections: 1,
            connection_timeout: Duration::from_secs(1),
            ..options
        })
        .await;
        let db = connect(&options).await;
        let held = db.begin(TxOptions::default()).await.unwrap();
        let mut callers = JoinSet::new();
        let begin = Instant::now();
        let mut broken = None;
        let mut held = Some(held);
        loop {
            let caller = db.clone();
            callers.spawn(async move { caller.ping().await });
            sleep(Duration::from_millis(10)).await;
            // The queue is as long as the time allows.
            if broken.is_none() && begin.elapsed() > Duration::from_millis(1500) {
                proxy.reset();
                drop(held.take());
                broken = Some(Instant::now());
            }
            while let Some(answer) = callers.try_join_next() {
                if answer.unwrap().is_ok() {
                    return;
                }
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "nobody gets through");
        }
    });
}
