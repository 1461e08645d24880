use tokio::{
    task::JoinSet,
    time::{advance, timeout},
};

use super::*;

const TTL: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

fn info(name: &str, port: u16) -> ServiceInfo {
    ServiceInfo::new(name, "1.0.0", "127.0.0.1", port)
}

async fn ports(registry: &MemoryRegistry, name: &str) -> Vec<u16> {
    let instances = registry.discover(name).await.unwrap();
    instances.iter().map(|instance| instance.info.port).collect()
}

async fn next(watch: &mut Box<dyn Watch>) -> Change {
    timeout(TTL * 10, watch.next())
        .await
        .expect("a change")
        .unwrap()
        .unwrap()
}

async fn is_quiet(watch: &mut Box<dyn Watch>) -> bool {
    timeout(Duration::from_millis(1), watch.next()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn reg_1_3_7_8_instances_are_found_in_order_of_registration() {
    let registry = MemoryRegistry::default();
    let a = registry.register(info("a", 3)).await.unwrap();
    registry.register(info("a", 1)).await.unwrap();
    registry.register(info("b", 9)).await.unwrap();
    registry.register(info("a", 2)).await.unwrap();
    assert_eq!(a.info, info("a", 3));
    assert_eq!(ports(&registry, "a").await, [3, 1, 2]);
    assert_eq!(ports(&registry, "nobody").await, [0; 0]);
    registry.deregister(a.id).await.unwrap();
    assert_eq!(ports(&registry, "a").await, [1, 2]);
    assert!(registry.deregister(a.id).await.unwrap_err().is_not_found());
    assert!(registry.heartbeat(a.id).await.unwrap_err().is_not_found());
}

#[tokio::test(start_paused = true)]
async fn reg_5_f_reg_01_what_is_not_renewed_expires_and_the_others_stay() {
    let registry = MemoryRegistry::default();
    let mut ids = Vec::new();
    for port in 1..=20 {
        ids.push(registry.register(info("a", port)).await.unwrap().id);
    }
    for _ in 0..6 {
        advance(TTL / 3).await;
        for id in &ids[5..] {
            registry.heartbeat(*id).await.unwrap();
        }
    }
    assert_eq!(ports(&registry, "a").await, (6..=20).collect::<Vec<_>>());
    assert!(registry.heartbeat(ids[0]).await.unwrap_err().is_not_found());
    assert!(registry.deregister(ids[1]).await.unwrap_err().is_not_found());
    advance(TTL - Duration::from_millis(1)).await;
    assert_eq!(ports(&registry, "a").await.len(), 15);
    advance(Duration::from_millis(1)).await;
    assert_eq!(ports(&registry, "a").await.len(), 0);
}

#[tokio::test]
async fn reg_9_k_09_bad_services_are_refused() {
    let registry = MemoryRegistry::default();
    let huge = info("a", 1).with_metadata("k", "v".repeat(1_000_000));
    for bad in [
        info("", 1),
        info("a", 0),
        ServiceInfo::new("a", "1", "", 1),
        ServiceInfo::new("a", "1", "http://169.254.169.254", 1),
        ServiceInfo::new("a", "1", "file:///etc/passwd", 1),
        huge,
    ] {
        assert!(registry.register(bad).await.unwrap_err().is_invalid_input());
    }
    assert_eq!(registry.0.lock().names.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_watch_gives_the_snapshot_and_then_each_change_once_in_order() {
    let registry = MemoryRegistry::default();
    let a = registry.register(info("a", 1)).await.unwrap();
    let mut watches = [
        registry.watch("a").await.unwrap(),
        registry.watch("a").await.unwrap(),
    ];
    let b = registry.register(info("a", 2)).await.unwrap();
    registry.register(info("other", 3)).await.unwrap();
    registry.deregister(a.id).await.unwrap();
    let c = registry.register(info("a", 4)).await.unwrap();
    registry.deregister(c.id).await.unwrap();
    let expected = [
        Change::Up(a.clone()),
        Change::Up(b.clone()),
        Change::Down(a.id),
        Change::Up(c.clone()),
        Change::Down(c.id),
    ];
    for watch in &mut watches {
        for change in &expected {
            assert_eq!(next(watch).await, *change);
        }
        assert!(is_quiet(watch).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_sees_expiry_without_anybodys_help() {
    let registry = MemoryRegistry::default();
    let mut watch = registry.watch("a").await.unwrap();
    assert!(is_quiet(&mut watch).await);
    let a = registry.register(info("a", 1)).await.unwrap();
    assert_eq!(next(&mut watch).await, Change::Up(a.clone()));
    advance(TTL / 2).await;
    let b = registry.register(info("a", 2)).await.unwrap();
    registry.heartbeat(a.id).await.unwrap();
    advance(SECOND).await;
    registry.heartbeat(a.id).await.unwrap();
    assert_eq!(next(&mut watch).await, Change::Up(b.clone()));
    let started = Instant::now();
    assert_eq!(next(&mut watch).await, Change::Down(b.id));
    assert_eq!(started.elapsed().as_secs(), 29);
    assert_eq!(next(&mut watch).await, Change::Down(a.id));
    assert_eq!(started.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn expired_and_registered_again_is_down_before_up() {
    let registry = MemoryRegistry::default();
    let a = registry.register(info("a", 1)).await.unwrap();
    let mut watch = registry.watch("a").await.unwrap();
    advance(TTL).await;
    let b = registry.register(info("a", 1)).await.unwrap();
    assert_ne!(a.id, b.id);
    assert_eq!(next(&mut watch).await, Change::Up(a.clone()));
    assert_eq!(next(&mut watch).await, Change::Down(a.id));
    assert_eq!(next(&mut watch).await, Change::Up(b));
}

#[tokio::test(start_paused = true)]
async fn a_watcher_far_behind_gets_the_difference() {
    let registry = MemoryRegistry::default();
    let gone = registry.register(info("a", 1)).await.unwrap();
    let stays = registry.register(info("a", 2)).await.unwrap();
    let mut watch = registry.watch("a").await.unwrap();
    assert_eq!(next(&mut watch).await, Change::Up(gone.clone()));
    assert_eq!(next(&mut watch).await, Change::Up(stays.clone()));
    registry.deregister(gone.id).await.unwrap();
    for _ in 0..1000 {
        let short = registry.register(info("a", 3)).await.unwrap();
        registry.deregister(short.id).await.unwrap();
    }
    let new = registry.register(info("a", 4)).await.unwrap();
    assert_eq!(next(&mut watch).await, Change::Down(gone.id));
    assert_eq!(next(&mut watch).await, Change::Up(new.clone()));
    assert!(is_quiet(&mut watch).await);
    registry.deregister(new.id).await.unwrap();
    assert_eq!(next(&mut watch).await, Change::Down(new.id));
}

/// REG-4: a map that many may use at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reg_13_concurrent_use_loses_nothing() {
    let registry = MemoryRegistry::default();
    let mut watch = registry.watch("a").await.unwrap();
    let mut tasks = JoinSet::new();
    for port in 1..=50 {
        let registry = registry.clone();
        tasks.spawn(async move {
            let instance = registry.register(info("a", port)).await.unwrap();
            registry.heartbeat(instance.id).await.unwrap();
            if port % 2 == 0 {
                registry.deregister(instance.id).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let (mut up, mut down) = (0, 0);
    for _ in 0..75 {
        match next(&mut watch).await {
            Change::Up(_) => up += 1,
            Change::Down(_) => down += 1,
        }
    }
    assert_eq!((up, down), (50, 25));
    assert_eq!(registry.discover("a").await.unwrap().len(), 25);
}

#[tokio::test(start_paused = true)]
async fn reg_8_names_without_instances_and_watchers_are_forgotten() {
    let registry = MemoryRegistry::default();
    let a = registry.register(info("a", 1)).await.unwrap();
    let watches = [
        registry.watch("a").await.unwrap(),
        registry.watch("a").await.unwrap(),
        registry.watch("b").await.unwrap(),
    ];
    registry.deregister(a.id).await.unwrap();
    assert_eq!(registry.0.lock().names.len(), 2);
    drop(watches);
    assert_eq!(registry.0.lock().names.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_registry_refuses_until_something_expires() {
    let registry = MemoryRegistry::default();
    for i in 0..MAX_INSTANCES {
        let name = format!("n{}", i % 100);
        registry.register(info(&name, 1)).await.unwrap();
    }
    let error = registry.register(info("a", 1)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.is_temporary()),
        (Some(Code::Exhausted), true)
    );
    advance(TTL).await;
    registry.register(info("a", 1)).await.unwrap();
    assert_eq!(registry.0.lock().ids.len(), 1);
}

#[tokio::test]
async fn after_close_watches_end_and_everything_says_closed() {
    let registry = MemoryRegistry::default();
    let a = registry.register(info("a", 1)).await.unwrap();
    let mut watch = registry.watch("a").await.unwrap();
    next(&mut watch).await;
    registry.close().await.unwrap();
    registry.close().await.unwrap();
    assert!(watch.next().await.is_none());
    for result in [
        registry.register(info("a", 1)).await.map(drop),
        registry.deregister(a.id).await,
        registry.heartbeat(a.id).await,
        registry.discover("a").await.map(drop),
        registry.watch("a").await.map(drop),
        registry.ping().await,
    ] {
        let error = result.unwrap_err();
        assert!(error.is_permanent() && error.code() == Some(Code::Closed));
    }
}
