//! The server dies, hangs, is full.

use std::time::Duration;

use bytes::Bytes;
use cqi_core::{Code, Kind, cache::Cache};
use cqi_testkit::eventually;
use futures::future::join_all;
use tokio::{task::JoinSet, time::Instant};

use crate::kit::{FOR_EVER, ask, cache, own};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn f_cache_01_cch_8_a_killed_server_gives_errors_in_time_and_works_2_s_after_its_return() {
    let Some(server) = own(&[]) else { return };
    let cache = cache(&server).await;
    cache.set("kept", "old".into(), FOR_EVER).await.unwrap();
    server.kill();
    let began = Instant::now();
    // For a while, so that it is seen with the connection just lost, being replaced, and down.
    while began.elapsed() < SECOND * 2 {
        let (key, value) = ("lost", Bytes::from("v"));
        let (asked, all) = (
            Instant::now(),
            join_all((0..8).map(|_| cache.set(key, value.clone(), FOR_EVER))),
        );
        for answer in all.await {
            let error = answer.unwrap_err();
            // While the connection is being replaced, a busy machine may not get as far within the caller's time.
            assert_eq!(error.kind(), Kind::Temporary);
            assert!(
                matches!(error.code(), Some(Code::Unavailable | Code::Timeout)),
                "{error}"
            );
            assert!(
                error.to_string().contains(&server.address().to_string()),
                "{error}"
            );
        }
        assert!(asked.elapsed() < SECOND, "calls took {:?}", asked.elapsed());
    }
    server.start();
    let back = eventually("the cache works", SECOND * 2, async || {
        cache.set("new", "v".into(), FOR_EVER).await
    });
    assert!(back.await.unwrap());
    assert_eq!(
        cache.get("kept").await.unwrap(),
        None,
        "a server without persistence has forgotten"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn f_cache_07_after_a_stop_of_5_s_every_caller_gets_its_own_reply() {
    let Some(server) = own(&[]) else { return };
    let cache = cache(&server).await;
    let mut tasks = JoinSet::new();
    let end = Instant::now() + SECOND * 7;
    for task in 0..64 {
        let cache = cache.clone();
        tasks.spawn(async move {
            let key = format!("task:{task}");
            let (mut round, mut failed, mut last) = (0_u64, 0_u64, Instant::now());
            while Instant::now() < end {
                round += 1;
                let tag = Bytes::from(format!("{task}/{round}"));
                let set = cache.set(&key, tag.clone(), FOR_EVER).await;
                let got = cache.get(&key).await;
                for error in [set.err(), got.as_ref().err().cloned()].into_iter().flatten() {
                    assert!(error.is_temporary(), "{error}");
                    failed += 1;
                }
                if let Ok(Some(value)) = got {
                    let text = String::from_utf8(value.to_vec()).unwrap();
                    assert!(
                        text.starts_with(&format!("{task}/")),
                        "task {task} got the reply {text}"
                    );
                    last = Instant::now();
                }
            }
            (failed, last)
        });
    }
    tokio::time::sleep(SECOND / 2).await;
    server.pause();
    tokio::time::sleep(SECOND * 5).await;
    server.resume();
    let resumed = Instant::now();
    for (failed, last) in tasks.join_all().await {
        assert!(failed > 0, "no call failed while the server stood");
        assert!(last > resumed, "a task had no reply any more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f_cache_05_a_full_server_refuses_writes_and_goes_on_reading() {
    let Some(server) = own(&["maxmemory 4mb", "maxmemory-policy noeviction"]) else {
        return;
    };
    let cache = cache(&server).await;
    cache.set("early", "there".into(), FOR_EVER).await.unwrap();
    let mut refusal = None;
    for n in 0..1_000 {
        let set = cache
            .set(&format!("k{n}"), vec![1; 64 << 10].into(), FOR_EVER)
            .await;
        if let Err(error) = set {
            refusal = Some(error);
            break;
        }
    }
    let error = refusal.expect("a refusal");
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Temporary, Some(Code::Exhausted))
    );
    assert!(
        !error.may_have_applied() && error.to_string().contains("maxmemory"),
        "{error}"
    );
    assert_eq!(cache.get("early").await.unwrap().as_deref(), Some(&b"there"[..]));
    assert!(cache.exists("early").await.unwrap());
    for n in 0..1_000 {
        cache.delete(&format!("k{n}")).await.unwrap();
    }
    assert!(cache.set("late", "v".into(), FOR_EVER).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_and_dropped_handles_leave_no_connection() {
    let Some(server) = own(&[]) else { return };
    let clients = async || {
        let list: String = ask(server.address(), &["CLIENT", "LIST"]).await;
        match list.lines().count() {
            1 => Ok(()),
            count => Err(format!("{count} connections")),
        }
    };
    for n in 0..10 {
        let one = cache(&server).await;
        one.set("k", "v".into(), FOR_EVER).await.unwrap();
        if n % 2 == 0 {
            one.close().await.unwrap();
        }
    }
    eventually("only our own connection is left", SECOND * 5, clients)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_left_for_what_the_address_leads_to_next() {
    let (Some(server), Some(primary)) = (own(&[]), own(&[])) else {
        return;
    };
    let cache = cache(&server).await;
    cache.set("k", "v".into(), FOR_EVER).await.unwrap();
    let before: String = ask(server.address(), &["CLIENT", "LIST", "TYPE", "normal"]).await;
    let port = primary.address().port().to_string();
    let _: () = ask(server.address(), &["REPLICAOF", "127.0.0.1", &port]).await;
    let error = cache.set("k", "w".into(), FOR_EVER).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Temporary, Some(Code::Unavailable))
    );
    assert!(!error.may_have_applied());
    // The connection is exchanged, without a gap.
    let id = |list: &str| {
        let ours = list
            .lines()
            .find(|line| line.contains("cmd=set") || line.contains("cmd=ping") || line.contains("cmd=get"));
        ours.and_then(|line| line.split(' ').next()).map(str::to_owned)
    };
    let old = id(&before);
    assert!(old.is_some(), "{before}");
    eventually("the connection is another one", SECOND * 2, async || {
        cache.ping().await.map_err(|error| error.to_string())?;
        let list: String = ask(server.address(), &["CLIENT", "LIST", "TYPE", "normal"]).await;
        if id(&list) == old { Err(list) } else { Ok(()) }
    })
    .await
    .unwrap();
    let _: () = ask(server.address(), &["REPLICAOF", "NO", "ONE"]).await;
    assert!(cache.set("k", "x".into(), FOR_EVER).await.unwrap());
}
