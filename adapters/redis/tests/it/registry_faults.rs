//! Instances and servers that fail, and records that others wrote.

use std::{collections::HashSet, sync::Arc, time::Duration};

use cqi_core::{
    Code,
    registry::{Change, KeepAlive, KeepAliveOptions, Registry, ServiceInfo, Watch},
    service::{Lifecycle, Service},
};
use cqi_redis::{RedisOptions, RedisRegistry, RedisRegistryOptions};
use cqi_testkit::{eventually, unique};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::kit::{ask, options, own, registry};

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(2);

fn info(name: &str, port: u16) -> ServiceInfo {
    ServiceInfo::new(name, "1", "localhost", port)
}

async fn next(watch: &mut Box<dyn Watch>) -> cqi_core::Result<Change> {
    timeout(SECOND * 10, watch.next())
        .await
        .expect("a change")
        .expect("an open registry")
}

fn keep_alive(port: &Arc<dyn Registry>, name: &str) -> KeepAlive {
    let options = KeepAliveOptions {
        interval: TTL / 4,
        ttl: TTL,
    };
    KeepAlive::new(Arc::clone(port), info(name, 1), options).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn f_reg_01_of_twenty_instances_the_five_that_die_are_gone_and_no_other() {
    let Some(server) = own(&[]) else { return };
    let name = unique("service");
    let mut handles = Vec::new();
    for port in 1..=20 {
        let handle = registry(server.address(), TTL).await;
        let id = handle.register(info(&name, port)).await.unwrap().id;
        handles.push((handle, id));
    }
    let watcher = registry(server.address(), TTL).await;
    let mut watch = watcher.watch(&name).await.unwrap();
    for _ in 0..20 {
        assert!(matches!(next(&mut watch).await, Ok(Change::Up(_))));
    }
    let dead: HashSet<_> = handles.drain(..5).map(|(_, id)| id).collect();
    let died = Instant::now();
    let beat = async {
        loop {
            for (handle, id) in &handles {
                handle.heartbeat(*id).await.unwrap();
            }
            sleep(TTL / 4).await;
        }
    };
    let check = async {
        let mut gone = HashSet::new();
        while gone.len() < 5 {
            match next(&mut watch).await.unwrap() {
                Change::Down(id) => assert!(gone.insert(id)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(gone, dead);
        assert!(
            died.elapsed() < TTL + SECOND * 2,
            "gone after {:?}",
            died.elapsed()
        );
        sleep(TTL * 2).await;
        assert_eq!(watcher.discover(&name).await.unwrap().len(), 15);
        assert!(timeout(SECOND / 2, watch.next()).await.is_err(), "another change");
    };
    tokio::select! {
        () = beat => {}
        () = check => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f_reg_03_who_was_paused_for_three_times_to_live_registers_anew_once() {
    let Some(server) = own(&[]) else { return };
    let (name, ttl) = (unique("service"), SECOND / 2);
    let (paused, other) = (
        registry(server.address(), ttl).await,
        registry(server.address(), ttl).await,
    );
    let old = paused.register(info(&name, 1)).await.unwrap();
    sleep(ttl * 3).await;
    assert_eq!(other.discover(&name).await.unwrap(), []);
    assert!(paused.heartbeat(old.id).await.unwrap_err().is_not_found());
    let new = paused.register(info(&name, 1)).await.unwrap();
    assert!(new.id != old.id && new.registered_at > old.registered_at);
    assert!(paused.heartbeat(old.id).await.unwrap_err().is_not_found());
    assert_eq!(other.discover(&name).await.unwrap(), [new]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reg_6_op_27_a_backend_that_forgot_everything_is_told_anew_and_watches_go_on() {
    let Some(server) = own(&[]) else { return };
    let name = unique("service");
    let port: Arc<dyn Registry> = Arc::new(registry(server.address(), TTL).await);
    let service = keep_alive(&port, &name);
    let mut instance = service.instance();
    let stop = CancellationToken::new();
    let (lifecycle, _ready) = Lifecycle::new(stop.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(Box::new(service).run(lifecycle));
    let old = instance.wait_for(Option::is_some).await.unwrap().clone().unwrap();

    let watcher = registry(server.address(), TTL).await;
    let mut watch = watcher.watch(&name).await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap(), Change::Up(old.clone()));
    server.kill();
    let error = next(&mut watch).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    // Whoever asks on and on is held back to about one error a second.
    let began = Instant::now();
    for _ in 0..2 {
        next(&mut watch).await.unwrap_err();
    }
    assert!(began.elapsed() >= SECOND, "{:?}", began.elapsed());
    server.start();
    let change = loop {
        if let Ok(change) = next(&mut watch).await {
            break change;
        }
    };
    assert_eq!(change, Change::Down(old.id));
    let Change::Up(new) = next(&mut watch).await.unwrap() else {
        panic!("no new instance")
    };
    assert_ne!(new.id, old.id);
    assert_eq!(watcher.discover(&name).await.unwrap(), [new]);

    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(watcher.discover(&name).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_others_broke_hide_nobody() {
    let Some(server) = own(&[]) else { return };
    let (name, address) = (unique("service"), server.address());
    let registry = registry(address, SECOND * 30).await;
    let mut ids = Vec::new();
    for port in 1..=5 {
        ids.push(registry.register(info(&name, port)).await.unwrap());
    }
    let key = |n: usize| format!("{{cqi-registry}}:instance:{}", ids[n].id);
    let _: i64 = ask(address, &["HSET", &key(0), "info", "{\"name\": \u{ff}"]).await;
    let _: i64 = ask(address, &["HSET", &key(1), "at", "yesterday"]).await;
    let _: () = ask(address, &["SET", &key(2), "text"]).await;
    let _: i64 = ask(
        address,
        &["ZADD", &format!("{{cqi-registry}}:name:{name}"), "9e15", "no-id"],
    )
    .await;
    let mut watch = registry.watch(&name).await.unwrap();
    for there in &ids[3..] {
        assert_eq!(next(&mut watch).await.unwrap(), Change::Up(there.clone()));
    }
    assert_eq!(registry.discover(&name).await.unwrap(), ids[3..]);
    assert!(registry.heartbeat(ids[2].id).await.unwrap_err().is_not_found());
    registry.heartbeat(ids[3].id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_publish_a_watch_hears_a_little_later() {
    let acl = "user app on >canary ~{cqi-registry}:* resetchannels +@all";
    let Some(server) = own(&[acl]) else { return };
    let redis = RedisOptions {
        user: "app".into(),
        password: "canary".into(),
        ..options(server.address())
    };
    let registry = RedisRegistry::connect(RedisRegistryOptions { redis, ttl: TTL })
        .await
        .unwrap();
    let name = unique("service");
    let mut watch = registry.watch(&name).await.unwrap();
    let instance = registry.register(info(&name, 1)).await.unwrap();
    let began = Instant::now();
    assert_eq!(next(&mut watch).await.unwrap(), Change::Up(instance.clone()));
    assert_eq!(next(&mut watch).await.unwrap(), Change::Down(instance.id));
    assert!(began.elapsed() < TTL + SECOND * 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_it_a_watch_hears_at_once() {
    let Some(server) = own(&[]) else { return };
    let name = unique("service");
    let (here, there) = (
        registry(server.address(), TTL * 10).await,
        registry(server.address(), TTL * 10).await,
    );
    let mut watch = there.watch(&name).await.unwrap();
    let mut waited = Duration::ZERO;
    for port in 1..=20 {
        let instance = here.register(info(&name, port)).await.unwrap();
        let began = Instant::now();
        assert_eq!(next(&mut watch).await.unwrap(), Change::Up(instance));
        waited += began.elapsed();
    }
    assert!(waited < SECOND * 5, "20 changes took {waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_of_ever_new_names_leave_nothing_behind_and_all_hear_at_once() {
    let Some(server) = own(&[]) else { return };
    let (here, there) = (
        registry(server.address(), TTL * 10).await,
        registry(server.address(), TTL * 10).await,
    );
    let channels = async || ask::<Vec<String>>(server.address(), &["PUBSUB", "CHANNELS", "*"]).await;
    assert_eq!(channels().await, [""; 0], "nobody has asked to hear anything");
    let name = unique("service");
    // The first is given up right after its beginning.
    let _ = timeout(Duration::ZERO, there.watch(&name)).await;
    for _ in 0..20 {
        there.watch(&unique("service")).await.unwrap();
    }
    let heard = eventually("it listens", SECOND * 5, async || match channels().await.len() {
        1 => Ok(()),
        count => Err(count),
    });
    heard.await.unwrap();
    let mut watch = there.watch(&name).await.unwrap();
    let mut waited = Duration::ZERO;
    for port in 1..=20 {
        here.register(info(&unique("service"), port)).await.unwrap();
        let instance = here.register(info(&name, port)).await.unwrap();
        let began = Instant::now();
        assert_eq!(next(&mut watch).await.unwrap(), Change::Up(instance));
        waited += began.elapsed();
    }
    assert!(waited < SECOND * 5, "20 changes took {waited:?}");
    assert_eq!(channels().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn f_cache_05_on_a_full_server_what_is_registered_stays_and_is_found() {
    let Some(server) = own(&["maxmemory-policy noeviction"]) else {
        return;
    };
    let registry = registry(server.address(), TTL * 10).await;
    let name = unique("service");
    let instance = registry.register(info(&name, 1)).await.unwrap();
    let _: () = ask(server.address(), &["CONFIG", "SET", "maxmemory", "1"]).await;
    let error = registry.register(info(&name, 2)).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Exhausted), "{error}");
    registry.heartbeat(instance.id).await.unwrap();
    assert_eq!(
        registry.discover(&name).await.unwrap(),
        std::slice::from_ref(&instance)
    );
    let mut watch = registry.watch(&name).await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap(), Change::Up(instance.clone()));
    // Nothing was ever said of this name, and nothing can be noted down.
    let other = unique("service");
    let mut empty = registry.watch(&other).await.unwrap();
    registry.deregister(instance.id).await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap(), Change::Down(instance.id));
    assert!(timeout(SECOND * 2, empty.next()).await.is_err(), "a change");
    let _: () = ask(server.address(), &["CONFIG", "SET", "maxmemory", "0"]).await;
    let instance = registry.register(info(&other, 3)).await.unwrap();
    assert_eq!(next(&mut empty).await.unwrap(), Change::Up(instance));
}

#[tokio::test(flavor = "multi_thread")]
async fn reg_10_closing_ends_heartbeats_watches_and_the_connection() {
    let Some(server) = own(&[]) else { return };
    let name = unique("service");
    let port: Arc<dyn Registry> = Arc::new(registry(server.address(), TTL).await);
    let service = keep_alive(&port, &name);
    let mut instance = service.instance();
    let (lifecycle, _ready) = Lifecycle::new(CancellationToken::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(Box::new(service).run(lifecycle));
    instance.wait_for(Option::is_some).await.unwrap();
    let mut watch = port.watch(&name).await.unwrap();
    next(&mut watch).await.unwrap();

    port.close().await.unwrap();
    assert!(watch.next().await.is_none());
    let ended = timeout(SECOND * 10, tasks.join_next()).await.expect("an end");
    let error = ended.unwrap().unwrap().unwrap_err();
    assert_eq!(error.code(), Some(Code::Closed));
    eventually("only our own connection is left", SECOND * 5, async || {
        let list: String = ask(server.address(), &["CLIENT", "LIST"]).await;
        match list.lines().count() {
            1 => Ok(()),
            _ => Err(list),
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reg_8_nothing_is_left_of_what_is_gone() {
    let Some(server) = own(&[]) else { return };
    let registry = registry(server.address(), SECOND / 2).await;
    for port in 1..=3 {
        let instance = registry.register(info(&unique("service"), port)).await.unwrap();
        if port == 1 {
            registry.deregister(instance.id).await.unwrap();
        }
    }
    eventually("the server is empty", SECOND * 5, async || {
        let keys: Vec<String> = ask(server.address(), &["KEYS", "*"]).await;
        if keys.is_empty() { Ok(()) } else { Err(keys) }
    })
    .await
    .unwrap();
}
