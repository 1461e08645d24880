use std::{
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{advance, sleep},
};

use super::*;
use crate::{
    cache::{MemoryCache, SetOptions, testing::Faulty},
    event::Json,
};

const TTL: Duration = Duration::from_secs(300);
const SECOND: Duration = Duration::from_secs(1);

fn read_through() -> (Arc<Faulty>, ReadThrough) {
    with(ReadThroughOptions::default())
}

fn with(options: ReadThroughOptions) -> (Arc<Faulty>, ReadThrough) {
    let faulty = Arc::new(Faulty::new(MemoryCache::default()));
    let cache: Arc<dyn Cache> = Arc::<Faulty>::clone(&faulty);
    (faulty, ReadThrough::with_options(cache, options))
}

/// A loader that takes a second, counts its runs and gives their number.
fn slow(loads: &Arc<AtomicUsize>) -> impl Future<Output = Result<Json<usize>>> + Send + 'static + use<> {
    let loads = Arc::clone(loads);
    async move {
        let load = loads.fetch_add(1, Ordering::Relaxed) + 1;
        sleep(SECOND).await;
        Ok(Json(load))
    }
}

async fn refuse() -> Result<Json<usize>> {
    Err(Error::not_found("asset", "BTC"))
}

#[tokio::test(start_paused = true)]
async fn cch_6_a_miss_is_loaded_stored_and_then_read() {
    let (faulty, cache) = read_through();
    let loads = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let counted = slow(&loads);
        assert_eq!(cache.get_or_load("a", TTL, || counted).await.unwrap(), Json(1));
    }
    assert_eq!(faulty.calls("set"), 1);
    assert_eq!(faulty.calls("get"), 3);
    advance(TTL * 2).await;
    let counted = slow(&loads);
    assert_eq!(cache.get_or_load("a", TTL, || counted).await.unwrap(), Json(2));
}

#[tokio::test(start_paused = true)]
async fn cch_6_a_loader_error_reaches_all_waiters_and_nothing_is_stored() {
    let (faulty, cache) = read_through();
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let cache = cache.clone();
        callers.spawn(async move {
            let load = || async {
                sleep(SECOND).await;
                refuse().await
            };
            cache.get_or_load("a", TTL, load).await
        });
    }
    for result in callers.join_all().await {
        assert!(result.unwrap_err().is_not_found());
    }
    assert_eq!(faulty.calls("set"), 0);
    let value = cache.get_or_load("a", TTL, || async { Ok(Json(7usize)) }).await;
    assert_eq!(value.unwrap(), Json(7));
}

#[tokio::test(start_paused = true)]
async fn f_cache_04_500_tasks_make_one_load() {
    let (_, cache) = read_through();
    let loads = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..500 {
        let (cache, counted) = (cache.clone(), slow(&loads));
        callers.spawn(async move { cache.get_or_load("a", TTL, || counted).await.unwrap() });
    }
    assert!(callers.join_all().await.iter().all(|value| *value == Json(1)));
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    assert_eq!(cache.loads(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f_cache_04_one_load_however_the_threads_interleave() {
    let (_, cache) = read_through();
    for round in 0..200 {
        let loads = Arc::new(AtomicUsize::new(0));
        let mut callers = JoinSet::new();
        for _ in 0..32 {
            let (cache, loads) = (cache.clone(), Arc::clone(&loads));
            callers.spawn(async move {
                let load = || async move { Ok(Json(loads.fetch_add(1, Ordering::Relaxed))) };
                let key = format!("key:{round}");
                cache.get_or_load(&key, TTL, load).await.unwrap()
            });
        }
        callers.join_all().await;
        assert_eq!(loads.load(Ordering::Relaxed), 1, "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn f_cache_04_a_cancelled_leader_hangs_nobody() {
    let (faulty, cache) = read_through();
    let loads = Arc::new(AtomicUsize::new(0));
    let leader = {
        let (cache, counted) = (cache.clone(), slow(&loads));
        async move { cache.get_or_load("a", TTL, || counted).await }
    };
    assert!(timeout(SECOND / 2, leader).await.is_err());
    let counted = slow(&loads);
    assert_eq!(cache.get_or_load("a", TTL, || counted).await.unwrap(), Json(1));

    // Alone, too: the load goes on and is stored.
    let counted = slow(&loads);
    let alone = cache.get_or_load("b", TTL, || counted);
    assert!(timeout(SECOND / 2, alone).await.is_err());
    cache.close().await;
    assert_eq!(faulty.get_as("b").await.unwrap(), Some(Json(2usize)));
}

#[tokio::test(start_paused = true)]
async fn f_cache_04_an_unpolled_leader_hangs_nobody() {
    let (_, cache) = read_through();
    let loads = Arc::new(AtomicUsize::new(0));
    let counted = slow(&loads);
    let mut leader = Box::pin(cache.get_or_load("a", TTL, || counted));
    assert!(futures::poll!(&mut leader).is_pending());
    let counted = slow(&loads);
    assert_eq!(cache.get_or_load("a", TTL, || counted).await.unwrap(), Json(1));
    assert_eq!(leader.await.unwrap(), Json(1));
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_hanging_loader_are_errors_and_leave_nothing_behind() {
    let (_, cache) = read_through();
    let panic = || async { panic!("canary") };
    let error = cache
        .get_or_load::<Json<usize>, _, _>("a", TTL, panic)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::Panicked));
    assert!(!error.chain().to_string().contains("canary"));
    let error = cache
        .get_or_load("a", TTL, pending::<Result<Json<usize>>>)
        .await
        .unwrap_err();
    assert_eq!((error.code(), error.is_temporary()), (Some(Code::Timeout), true));
    assert_eq!(cache.loads(), 0);
    let value = cache.get_or_load("a", TTL, || async { Ok(Json(1usize)) }).await;
    assert_eq!(value.unwrap(), Json(1));
}

#[tokio::test(start_paused = true)]
async fn cch_13_an_outage_of_the_cache_does_not_fail_the_read() {
    let (faulty, cache) = read_through();
    faulty.fail_all(Some(&Error::temporary("connection refused")));
    let loads = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let (cache, counted) = (cache.clone(), slow(&loads));
        callers.spawn(async move { cache.get_or_load("a", TTL, || counted).await.unwrap() });
    }
    callers.join_all().await;
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    assert_eq!(faulty.calls("set"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_can_be_made_to_fail_the_read() {
    let (faulty, cache) = with(ReadThroughOptions {
        on_outage: OnOutage::Fail,
        ..ReadThroughOptions::default()
    });
    faulty.fail("get", Some(Error::temporary("connection refused")));
    let result = cache
        .get_or_load::<Json<usize>, _, _>("a", TTL, || async { unreachable!("must not load") })
        .await;
    assert_eq!(result.unwrap_err().message(), "connection refused");
    faulty.fail("get", None);
    faulty.fail("set", Some(Error::temporary("out of memory")));
    let value = cache.get_or_load("a", TTL, || async { Ok(Json(1usize)) }).await;
    assert_eq!(value.unwrap(), Json(1));
}

#[tokio::test(start_paused = true)]
async fn times_to_live_spread_by_a_tenth() {
    let memory: Arc<dyn Cache> = Arc::new(MemoryCache::default());
    let cache = ReadThrough::new(Arc::clone(&memory));
    for i in 0..200usize {
        cache
            .get_or_load(&format!("k:{i}"), TTL, move || async move { Ok(Json(i)) })
            .await
            .unwrap();
    }
    let mut alive = Vec::new();
    // At 89 %, 100 % and 111 % of the time to live.
    for step in [89, 11, 11] {
        advance(TTL * step / 100).await;
        let mut count = 0;
        for i in 0..200 {
            count += u32::from(memory.exists(&format!("k:{i}")).await.unwrap());
        }
        alive.push(count);
    }
    assert!(
        alive[0] == 200 && (1..200).contains(&alive[1]) && alive[2] == 0,
        "{alive:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn more_loads_than_allowed_wait_for_their_turn() {
    let (_, cache) = with(ReadThroughOptions {
        max_loads: 2,
        ..ReadThroughOptions::default()
    });
    let loads = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for i in 0..6 {
        let (cache, counted) = (cache.clone(), slow(&loads));
        callers.spawn(async move {
            let key = i.to_string();
            cache.get_or_load(&key, TTL, || counted).await.unwrap()
        });
    }
    sleep(SECOND / 2).await;
    assert_eq!((cache.loads(), loads.load(Ordering::Relaxed)), (2, 2));
    callers.join_all().await;
    assert_eq!(loads.load(Ordering::Relaxed), 6);
}

#[tokio::test(start_paused = true)]
async fn k_04_an_entry_of_an_older_form_is_loaded_anew() {
    let (faulty, cache) = read_through();
    let old = bytes::Bytes::from_static(b"{");
    faulty.set("a", old, SetOptions::ttl(TTL)).await.unwrap();
    let value = cache.get_or_load("a", TTL, || async { Ok(Json(1usize)) }).await;
    assert_eq!(value.unwrap(), Json(1));
    assert_eq!(faulty.get_as("a").await.unwrap(), Some(Json(1usize)));
}

#[tokio::test(start_paused = true)]
async fn after_close_reads_hit_but_do_not_load() {
    let (_, cache) = read_through();
    cache
        .get_or_load("a", TTL, || async { Ok(Json(1usize)) })
        .await
        .unwrap();
    cache.close().await;
    cache.close().await;
    let load = || async { Ok(Json(2usize)) };
    assert_eq!(cache.get_or_load("a", TTL, load).await.unwrap(), Json(1));
    let error = cache.get_or_load("b", TTL, load).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Closed));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_clone_ends_its_loads() {
    let (_, cache) = read_through();
    let (held, mut dropped) = oneshot::channel::<()>();
    let load = || async move {
        let _held = held;
        pending::<Result<Json<usize>>>().await
    };
    assert!(timeout(SECOND, cache.get_or_load("a", TTL, load)).await.is_err());
    assert!(dropped.try_recv().is_err());
    drop(cache);
    // Well before the load's own timeout.
    let ended = timeout(SECOND, &mut dropped).await.unwrap();
    assert!(ended.is_err());
}

#[tokio::test]
async fn op_34_bad_input_is_refused_before_anything_is_asked() {
    let (faulty, cache) = read_through();
    let load = || async { Ok(Json(1usize)) };
    assert!(
        cache
            .get_or_load("", TTL, load)
            .await
            .unwrap_err()
            .is_invalid_input()
    );
    let result = cache.get_or_load("a", Duration::ZERO, load).await;
    assert!(result.unwrap_err().is_invalid_input());
    assert_eq!(faulty.calls("get"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_leaves_no_value_that_was_read_before_it() {
    let cache = ReadThrough::new(Arc::new(MemoryCache::default()));
    let (begin, begun) = oneshot::channel();
    let reader = cache.clone();
    let old = async move {
        let load = || async move {
            begin.send(()).unwrap();
            sleep(Duration::from_secs(1)).await; // read the old value, slow to come back
            Ok(Json(1u32))
        };
        reader
            .get_or_load("k", Duration::from_secs(60), load)
            .await
            .unwrap()
    };
    let invalidated = async {
        begun.await.unwrap();
        cache.invalidate("k").await.unwrap();
        cache
            .get_or_load("k", Duration::from_secs(60), || async { Ok(Json(2u32)) })
            .await
            .unwrap()
    };
    let (old, new) = tokio::join!(old, invalidated);
    assert_eq!((old, new), (Json(1), Json(2)));
}
