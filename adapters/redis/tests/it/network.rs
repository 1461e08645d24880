//! The network between us and the server fails.

use std::time::Duration;

use cqi_core::{Code, Kind, cache::Cache};
use cqi_redis::{RedisCache, RedisOptions};
use cqi_testkit::{
    eventually,
    fixture::{self, Kind as Fixture},
    proxy::{Direction, Proxy},
    unique,
};
use futures::future::join_all;
use tokio::time::{Instant, sleep};

use crate::kit::{FOR_EVER, options, own};

async fn scene(ping_interval: Duration) -> Option<(Proxy, RedisCache, Duration)> {
    scene_with(|options| RedisOptions {
        ping_interval,
        ..options
    })
    .await
}

async fn scene_with(
    change: impl FnOnce(RedisOptions) -> RedisOptions,
) -> Option<(Proxy, RedisCache, Duration)> {
    let server = fixture::require(Fixture::Redis)?;
    let proxy = Proxy::start(server.address()).await.unwrap();
    let options = change(options(proxy.address()));
    let timeout = options.timeout;
    let cache = RedisCache::connect(options).await.unwrap();
    Some((proxy, cache, timeout))
}

#[tokio::test(flavor = "multi_thread")]
async fn f_cache_02_a_dead_connection_is_replaced_within_three_timeouts() {
    // Without the help of pings.
    let Some((proxy, cache, timeout)) = scene(Duration::from_secs(600)).await else {
        return;
    };
    proxy.black_hole_old(Direction::Both);
    let began = Instant::now();
    let mut failed = 0;
    while let Err(error) = cache.get("k").await {
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Temporary, Some(Code::Timeout))
        );
        failed += 1;
    }
    assert_eq!(failed, 3);
    assert!(
        began.elapsed() < timeout * 3 + Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(proxy.accepted(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_late_on_a_dead_connection_does_not_count_against_the_next() {
    let Some((proxy, cache, timeout)) = scene(Duration::from_secs(600)).await else {
        return;
    };
    proxy.black_hole_old(Direction::Both);
    let three = || join_all((0..3).map(|_| cache.get("k")));
    let late = async {
        sleep(timeout / 2).await;
        three().await
    };
    let (first, late) = tokio::join!(three(), late);
    assert!(first.iter().chain(&late).all(Result::is_err));
    proxy.latency(timeout * 2);
    let error = cache.get("k").await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Timeout));
    proxy.heal().await;
    eventually("it works", timeout * 10, async || cache.ping().await)
        .await
        .unwrap();
    assert_eq!(proxy.accepted(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_the_server_does_not_know_takes_no_more_than_the_time_of_one_call() {
    let Some(server) = own(&[]) else { return };
    let proxy = Proxy::start(server.address()).await.unwrap();
    let limit = Duration::from_secs(1);
    let options = RedisOptions {
        timeout: limit,
        ping_interval: Duration::from_secs(600),
        ..options(proxy.address())
    };
    let cache = RedisCache::connect(options).await.unwrap();
    // There and back, so that one call has the time and two have not.
    proxy.latency(limit * 3 / 8);
    let began = Instant::now();
    let error = cache.add("k", 1, Some(limit)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.may_have_applied()),
        (Some(Code::Timeout), true)
    );
    assert!(began.elapsed() < limit * 5 / 4, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_connection_is_noticed_and_replaced_while_idle() {
    let interval = Duration::from_secs(1);
    let Some((proxy, cache, _)) = scene(interval).await else {
        return;
    };
    proxy.black_hole_old(Direction::Down);
    let replaced = eventually(
        "there is a new connection",
        interval * 2 + interval / 2,
        async || match proxy.accepted() {
            2 => Ok(()),
            count => Err(count),
        },
    );
    replaced.await.unwrap();
    eventually("it works", interval, async || cache.ping().await)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_write_may_have_applied_and_a_cut_read_changed_nothing() {
    let Some((proxy, cache, _)) = scene(Duration::from_secs(600)).await else {
        return;
    };
    let key = unique("cut");
    proxy.black_hole_old(Direction::Down);
    let error = cache.set(&key, "v".into(), FOR_EVER).await.unwrap_err();
    assert_eq!(
        (error.code(), error.may_have_applied()),
        (Some(Code::Timeout), true)
    );
    let error = cache.get(&key).await.unwrap_err();
    assert_eq!(
        (error.code(), error.may_have_applied()),
        (Some(Code::Timeout), false)
    );
    proxy.heal().await;
    proxy.reset();
    eventually("it works again", Duration::from_secs(2), async || {
        cache.ping().await
    })
    .await
    .unwrap();
    assert_eq!(cache.get(&key).await.unwrap().as_deref(), Some(&b"v"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nothing_can_be_reached_calls_fail_at_once_and_then_work_again() {
    let Some((proxy, cache, timeout)) = scene(Duration::from_secs(1)).await else {
        return;
    };
    proxy.refuse().await;
    proxy.reset();
    eventually(
        "the connection is known to be down",
        Duration::from_secs(3),
        async || {
            let began = Instant::now();
            match cache.get("k").await {
                Err(error) if began.elapsed() < timeout / 10 => Ok(error),
                other => Err((other, began.elapsed())),
            }
        },
    )
    .await
    .unwrap();
    for _ in 0..100 {
        let began = Instant::now();
        let error = cache.get("k").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Temporary, Some(Code::Unavailable))
        );
        assert!(began.elapsed() < timeout / 2);
    }
    proxy.heal().await;
    eventually("it works again", Duration::from_secs(2), async || {
        cache.ping().await
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_in_small_pieces_changes_nothing() {
    // A busy machine may need long for a thousand pieces.
    let patient = |options| RedisOptions {
        timeout: Duration::from_secs(30),
        ping_interval: Duration::from_secs(600),
        ..options
    };
    let Some((proxy, cache, _)) = scene_with(patient).await else {
        return;
    };
    proxy.slice();
    proxy.latency(Duration::from_millis(50));
    let key = unique("slow");
    let value = vec![b'x'; 1000];
    assert!(cache.set(&key, value.clone().into(), FOR_EVER).await.unwrap());
    assert_eq!(cache.get(&key).await.unwrap().as_deref(), Some(&value[..]));
    assert_eq!(proxy.accepted(), 1);
}
