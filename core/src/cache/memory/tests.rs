use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use tokio::{task::JoinSet, time::advance};

use super::*;
use crate::{
    Code,
    cache::{Cache, Condition, SetOptions},
};

const SECOND: Duration = Duration::from_secs(1);

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn small(max_entries: usize, max_bytes: usize) -> MemoryCache {
    MemoryCache::new(MemoryCacheOptions {
        max_entries,
        max_bytes,
    })
}

#[tokio::test(start_paused = true)]
async fn cch_9_ml_cache_5_an_expired_entry_is_absent_at_once() {
    let cache = MemoryCache::default();
    let ttl = Duration::from_millis(1500);
    cache.set("a", bytes("1"), SetOptions::ttl(ttl)).await.unwrap();
    cache.set("b", bytes("2"), SetOptions::no_expiry()).await.unwrap();
    advance(ttl - Duration::from_millis(1)).await;
    assert_eq!(cache.get("a").await.unwrap(), Some(bytes("1")));
    advance(Duration::from_millis(1)).await;
    assert_eq!(cache.get("a").await.unwrap(), None);
    assert!(!cache.exists("a").await.unwrap());
    assert!(!cache.delete("a").await.unwrap());
    assert_eq!(cache.get("b").await.unwrap(), Some(bytes("2")));
}

#[tokio::test(start_paused = true)]
async fn a_new_set_replaces_value_and_time_to_live() {
    let cache = MemoryCache::default();
    cache.set("a", bytes("1"), SetOptions::ttl(SECOND)).await.unwrap();
    advance(SECOND / 2).await;
    cache
        .set("a", bytes("22"), SetOptions::ttl(SECOND))
        .await
        .unwrap();
    advance(SECOND / 2).await;
    assert_eq!(cache.get("a").await.unwrap(), Some(bytes("22")));
    assert!(cache.delete("a").await.unwrap());
    assert_eq!((cache.len(), cache.bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn conditions_look_at_live_entries_only() {
    let cache = MemoryCache::default();
    let absent = SetOptions::ttl(SECOND).when(Condition::IfAbsent);
    let present = SetOptions::ttl(SECOND).when(Condition::IfPresent);
    assert!(!cache.set("a", bytes("0"), present).await.unwrap());
    assert!(cache.set("a", bytes("1"), absent).await.unwrap());
    assert!(!cache.set("a", bytes("2"), absent).await.unwrap());
    assert_eq!(cache.get("a").await.unwrap(), Some(bytes("1")));
    assert!(cache.set("a", bytes("3"), present).await.unwrap());
    advance(SECOND).await;
    assert!(!cache.set("a", bytes("4"), present).await.unwrap());
    assert!(cache.set("a", bytes("5"), absent).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_50_racers_one_sets_and_all_add() {
    let cache = Arc::new(MemoryCache::default());
    let mut racers = JoinSet::new();
    for i in 0..50 {
        let cache = Arc::clone(&cache);
        racers.spawn(async move {
            let options = SetOptions::no_expiry().when(Condition::IfAbsent);
            for _ in 0..100 {
                cache.add("sum", 1, None).await.unwrap();
            }
            cache.set("lock", bytes(&i.to_string()), options).await.unwrap()
        });
    }
    let winners = racers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(winners, 1);
    assert_eq!(cache.get("sum").await.unwrap(), Some(bytes("5000")));
}

#[tokio::test(start_paused = true)]
async fn add_keeps_the_time_to_live_of_a_present_key() {
    let cache = MemoryCache::default();
    assert_eq!(cache.add("n", 5, Some(SECOND)).await.unwrap(), 5);
    advance(SECOND / 2).await;
    assert_eq!(cache.add("n", -7, Some(SECOND)).await.unwrap(), -2);
    advance(SECOND / 2).await;
    assert_eq!(cache.get("n").await.unwrap(), None);
    assert_eq!(cache.add("n", i64::MIN, None).await.unwrap(), i64::MIN);
}

#[tokio::test]
async fn add_refuses_what_is_no_decimal_and_keeps_it() {
    let cache = MemoryCache::default();
    for bad in ["", "x", "+1", "007", "-0", " 1", "1.0", "9223372036854775808"] {
        cache.set("n", bytes(bad), SetOptions::no_expiry()).await.unwrap();
        assert!(cache.add("n", 1, None).await.unwrap_err().is_invalid_input());
        assert_eq!(cache.get("n").await.unwrap(), Some(bytes(bad)));
    }
    let max = bytes(&i64::MAX.to_string());
    cache
        .set("n", max.clone(), SetOptions::no_expiry())
        .await
        .unwrap();
    assert!(cache.add("n", 1, None).await.unwrap_err().is_invalid_input());
    assert_eq!(cache.get("n").await.unwrap(), Some(max));
}

#[tokio::test]
async fn k_01_op_34_bad_keys_zero_ttl_and_huge_values_are_refused() {
    let cache = small(10, 64 * 1024);
    let zero = SetOptions::ttl(Duration::ZERO);
    assert!(cache.get("").await.unwrap_err().is_invalid_input());
    assert!(cache.delete("a\r\nb").await.unwrap_err().is_invalid_input());
    assert!(
        cache
            .set("a", bytes(""), zero)
            .await
            .unwrap_err()
            .is_invalid_input()
    );
    assert!(
        cache
            .add("a", 1, Some(Duration::ZERO))
            .await
            .unwrap_err()
            .is_invalid_input()
    );
    let max = cache.capabilities().max_value;
    let for_ever = SetOptions::ttl(Duration::MAX);
    assert!(cache.set("a", Bytes::from(vec![0; max]), for_ever).await.unwrap());
    assert_eq!(cache.get("a").await.unwrap().unwrap().len(), max);
    let error = cache
        .set("a", Bytes::from(vec![0; max + 1]), for_ever)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::TooLarge));
    assert!(error.is_invalid_input());
}

#[tokio::test]
async fn k_06_many_keys_stay_within_both_bounds_and_the_newest_is_there() {
    for (max_entries, max_bytes) in [
        (1, 1 << 20),
        (3000, 1 << 30),
        (100_000, 1 << 20),
        (50_000, 1 << 14),
    ] {
        let cache = small(max_entries, max_bytes);
        for i in 0..20_000 {
            let key = format!("key:{i}");
            cache
                .set(&key, bytes("value"), SetOptions::no_expiry())
                .await
                .unwrap();
            assert!(cache.len() <= max_entries && cache.bytes() <= max_bytes);
            assert!(cache.exists(&key).await.unwrap());
        }
        let room = max_entries.min(max_bytes / 150);
        assert!(cache.len() >= room * 9 / 10, "{cache:?}");
    }
}

#[tokio::test]
async fn k_06_a_value_that_grows_pushes_out_entries_of_other_shards() {
    let cache = small(100_000, 1 << 20);
    let value = Bytes::from(vec![0; cache.capabilities().max_value]);
    for i in 0..100 {
        let key = i.to_string();
        cache.add(&key, 1, None).await.unwrap();
        cache
            .set(&key, value.clone(), SetOptions::no_expiry())
            .await
            .unwrap();
        assert!(cache.bytes() <= 1 << 20);
        assert_eq!(cache.get(&key).await.unwrap().as_ref(), Some(&value));
    }
}

#[tokio::test]
async fn a_full_cache_keeps_what_is_read() {
    let cache = small(1000, 1 << 20);
    for i in 0..100 {
        cache
            .set(&format!("hot:{i}"), bytes("v"), SetOptions::no_expiry())
            .await
            .unwrap();
    }
    for i in 0..50_000 {
        cache
            .set(&format!("scan:{i}"), bytes("v"), SetOptions::no_expiry())
            .await
            .unwrap();
        cache.get(&format!("hot:{}", i % 100)).await.unwrap();
    }
    let mut kept = 0;
    for i in 0..100 {
        kept += u32::from(cache.exists(&format!("hot:{i}")).await.unwrap());
    }
    assert_eq!(kept, 100);
}

#[tokio::test(start_paused = true)]
async fn dead_entries_go_while_others_come() {
    let cache = MemoryCache::default();
    for i in 0..10_000 {
        cache
            .set(&format!("a:{i}"), bytes("v"), SetOptions::ttl(SECOND))
            .await
            .unwrap();
    }
    advance(SECOND).await;
    for i in 0..10_000 {
        cache
            .set(&format!("b:{i}"), bytes("v"), SetOptions::no_expiry())
            .await
            .unwrap();
    }
    assert!(cache.len() < 12_000, "{cache:?}");
}

#[tokio::test]
async fn cch_14_after_close_everything_says_closed() {
    let cache = MemoryCache::default();
    cache.set("a", bytes("1"), SetOptions::no_expiry()).await.unwrap();
    cache.close().await.unwrap();
    cache.close().await.unwrap();
    assert_eq!(cache.bytes(), 0);
    for result in [
        cache.get("a").await.map(drop),
        cache
            .set("a", bytes("1"), SetOptions::no_expiry())
            .await
            .map(drop),
        cache.delete("a").await.map(drop),
        cache.exists("a").await.map(drop),
        cache.add("a", 1, None).await.map(drop),
        cache.ping().await,
    ] {
        let error = result.unwrap_err();
        assert!(error.is_permanent() && error.code() == Some(Code::Closed));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Get,
    Set(Option<u64>, Condition),
    Delete,
    Add(i64, Option<u64>),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<(u8, Step)>> {
    let ttl = || prop::option::of(1..20u64);
    let condition = prop_oneof![
        Just(Condition::Always),
        Just(Condition::IfAbsent),
        Just(Condition::IfPresent)
    ];
    let step = prop_oneof![
        Just(Step::Get),
        (ttl(), condition).prop_map(|(ttl, condition)| Step::Set(ttl, condition)),
        Just(Step::Delete),
        (-5..5i64, ttl()).prop_map(|(delta, ttl)| Step::Add(delta, ttl)),
        (1..10u64).prop_map(Step::Wait),
    ];
    prop::collection::vec((0..5u8, step), 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Random calls give what a plain map with deadlines gives.
    #[test]
    fn cch_random_calls_agree_with_a_model(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let cache = MemoryCache::default();
            let mut model = BTreeMap::<u8, (i64, Option<u64>)>::new();
            let mut now = 0;
            for (i, (id, step)) in steps.into_iter().enumerate() {
                let key = id.to_string();
                model.retain(|_, (_, end)| end.is_none_or(|end| end > now));
                let there = model.contains_key(&id);
                match step {
                    Step::Get => {
                        let expected = model.get(&id).map(|(value, _)| bytes(&value.to_string()));
                        assert_eq!(cache.get(&key).await.unwrap(), expected);
                        assert_eq!(cache.exists(&key).await.unwrap(), there);
                    }
                    Step::Set(ttl, condition) => {
                        let holds = match condition {
                            Condition::Always => true,
                            Condition::IfAbsent => !there,
                            Condition::IfPresent => there,
                        };
                        let ttl_of = ttl.map(Duration::from_millis);
                        let options = SetOptions { ttl: ttl_of, condition };
                        let value = bytes(&i.to_string());
                        assert_eq!(cache.set(&key, value, options).await.unwrap(), holds);
                        if holds {
                            model.insert(id, (i64::try_from(i).unwrap(), ttl.map(|ttl| now + ttl)));
                        }
                    }
                    Step::Delete => {
                        assert_eq!(cache.delete(&key).await.unwrap(), model.remove(&id).is_some());
                    }
                    Step::Add(delta, ttl) => {
                        let entry = model.entry(id).or_insert((0, ttl.map(|ttl| now + ttl)));
                        entry.0 += delta;
                        let sum = cache.add(&key, delta, ttl.map(Duration::from_millis)).await;
                        assert_eq!(sum.unwrap(), entry.0);
                    }
                    Step::Wait(ms) => {
                        advance(Duration::from_millis(ms)).await;
                        now += ms;
                    }
                }
            }
        });
    }
}
