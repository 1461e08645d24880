use std::{
    collections::BTreeMap,
    future::{Future, pending},
    sync::atomic::AtomicUsize,
};

use tokio::{
    task::JoinSet as Tasks,
    time::{Instant, advance, sleep, timeout},
};

use tracing::Level;

use super::*;
use crate::{health::check_fn, testing::Logged};

const SECOND: Duration = Duration::from_secs(1);

/// A checker that counts its runs, takes `pause`, and fails while `down`.
#[derive(Debug, Default, Clone)]
struct Probe(Arc<(AtomicUsize, AtomicBool)>);

impl Probe {
    fn runs(&self) -> usize {
        self.0.0.load(Ordering::Relaxed)
    }

    fn set_down(&self, down: bool) {
        self.0.1.store(down, Ordering::Relaxed);
    }

    fn checker(&self, name: &str, pause: Duration) -> Arc<dyn Checker> {
        let probe = self.clone();
        checker(name, move || {
            let probe = probe.clone();
            async move {
                probe.0.0.fetch_add(1, Ordering::Relaxed);
                sleep(pause).await;
                if probe.0.1.load(Ordering::Relaxed) {
                    return Err(Error::temporary("connection refused"));
                }
                Ok(())
            }
        })
    }
}

fn checker<F, Fut>(name: &str, check: F) -> Arc<dyn Checker>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    Arc::new(check_fn(name, check))
}

fn ok(name: &str) -> Arc<dyn Checker> {
    checker(name, || async { Ok(()) })
}

fn texts(report: &Report) -> BTreeMap<&str, String> {
    report
        .checks
        .iter()
        .map(|(name, outcome)| (&**name, outcome.to_string()))
        .collect()
}

/// ML-HLT-3: readiness is that of its checks.
#[tokio::test(start_paused = true)]
async fn hlt_3_5_7_ready_is_healthy_when_all_checks_pass_and_names_the_culprit() {
    let cache = Probe::default();
    let health = Health::new()
        .with_database_check(ok("any"))
        .unwrap()
        .with_cache_check(cache.checker("any", Duration::ZERO))
        .unwrap()
        .with_event_bus_check(ok("any"))
        .unwrap();
    let report = health.ready().await;
    assert_eq!((report.is_healthy(), report.http_status()), (true, 200));
    assert_eq!(
        report.checks.keys().map(|name| &**name).collect::<Vec<_>>(),
        ["cache", "database", "event_bus"]
    );
    cache.set_down(true);
    advance(SECOND).await;
    let report = health.ready().await;
    assert_eq!((report.is_healthy(), report.http_status()), (false, 503));
    assert_eq!(texts(&report)["cache"], "error: connection refused");
    assert_eq!(texts(&report)["database"], "ok");
}

#[tokio::test(start_paused = true)]
async fn checks_never_latch() {
    let (health, probe) = (Health::new(), Probe::default());
    health
        .register(probe.checker("a", SECOND), CheckOptions::default())
        .unwrap();
    for down in [false, true, false, true, false] {
        probe.set_down(down);
        advance(SECOND).await;
        assert_eq!(health.ready().await.is_healthy(), !down);
    }
}

#[tokio::test(start_paused = true)]
async fn hlt_9_a_burst_of_probes_runs_each_checker_once_a_second() {
    let (health, probe) = (Health::new(), Probe::default());
    health
        .register(probe.checker("a", SECOND / 2), CheckOptions::default())
        .unwrap();
    let mut callers = Tasks::new();
    for _ in 0..1000 {
        let health = health.clone();
        callers.spawn(async move { health.ready().await });
    }
    assert!(callers.join_all().await.iter().all(Report::is_healthy));
    assert_eq!(probe.runs(), 1);
    advance(SECOND - Duration::from_millis(1)).await;
    health.ready().await;
    assert_eq!(probe.runs(), 1);
    advance(Duration::from_millis(1)).await;
    health.ready().await;
    assert_eq!(probe.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn hlt_6_op_26_f_reg_04_hanging_and_panicking_checks_harm_no_other() {
    let health = Health::new();
    let default = CheckOptions::default();
    health.register(ok("fine"), default).unwrap();
    health.register(checker("hangs", pending), default).unwrap();
    let panics = checker("panics", || async { panic!("canary") });
    health.register(panics, default).unwrap();
    let at_once = checker("panics-at-once", || -> std::future::Ready<Result<()>> {
        panic!("canary")
    });
    health.register(at_once, default).unwrap();
    let short = CheckOptions {
        timeout: SECOND,
        ..default
    };
    health.register(checker("hangs-too", pending), short).unwrap();
    let started = Instant::now();
    let report = health.ready().await;
    // In parallel, each under its own timeout.
    assert_eq!(started.elapsed().as_secs(), 5);
    assert_eq!(
        texts(&report),
        BTreeMap::from([
            ("fine", "ok".to_owned()),
            ("hangs", "error: no answer within 5s".to_owned()),
            ("hangs-too", "error: no answer within 1s".to_owned()),
            ("panics", "error: check panicked".to_owned()),
            ("panics-at-once", "error: check panicked".to_owned()),
        ])
    );
    assert!(health.live().is_healthy());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_reg_04_a_check_that_blocks_its_thread_is_cut_all_the_same() {
    let health = Health::new();
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Mutex::new(blocked);
    let blocks = checker("blocks", move || {
        let _ = blocked.lock().unwrap().recv();
        async { Ok(()) }
    });
    let options = CheckOptions {
        timeout: SECOND / 10,
        ..CheckOptions::default()
    };
    health.register(blocks, options).unwrap();
    for _ in 0..2 {
        let report = timeout(SECOND * 10, health.ready()).await.unwrap();
        assert_eq!(texts(&report)["blocks"], "error: no answer within 100ms");
    }
    drop(unblock);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_probe_leaves_its_checks_to_the_others() {
    let (health, probe) = (Health::new(), Probe::default());
    health
        .register(probe.checker("a", SECOND), CheckOptions::default())
        .unwrap();
    assert!(timeout(SECOND / 2, health.ready()).await.is_err());
    let started = Instant::now();
    assert!(health.ready().await.is_healthy());
    assert_eq!((probe.runs(), started.elapsed().as_millis() / 10), (1, 50));
}

#[tokio::test(start_paused = true)]
async fn ml_hlt_6_a_probe_that_began_before_the_shutdown_says_so_too() {
    let health = Health::new();
    health
        .register(Probe::default().checker("a", SECOND), CheckOptions::default())
        .unwrap();
    let mut asked = Box::pin(health.ready());
    assert!(futures::poll!(&mut asked).is_pending());
    health.drain();
    assert_eq!(texts(&asked.await)["service"], "error: shutting down");
}

/// ML-HLT-3: liveness is that of the process.
#[tokio::test(start_paused = true)]
async fn hlt_4_liveness_runs_no_check() {
    let (health, probe) = (Health::new(), Probe::default());
    probe.set_down(true);
    health
        .register(probe.checker("a", SECOND), CheckOptions::default())
        .unwrap();
    health.drain();
    assert!(health.live().is_healthy());
    assert_eq!(probe.runs(), 0);
}

/// ML-HLT-5: any async function is a check, of the probes it is registered for.
#[tokio::test(start_paused = true)]
async fn ml_hlt_4_startup_latches_once_passed() {
    let (health, slow, other) = (Health::new(), Probe::default(), Probe::default());
    let startup = CheckOptions {
        ready: false,
        startup: true,
        ..CheckOptions::default()
    };
    health
        .register(slow.checker("slow", Duration::ZERO), startup)
        .unwrap();
    health
        .register(other.checker("other", Duration::ZERO), CheckOptions::default())
        .unwrap();
    slow.set_down(true);
    assert!(!health.startup().await.is_healthy());
    slow.set_down(false);
    advance(SECOND).await;
    health.set_ready(false);
    assert!(!health.startup().await.is_healthy());
    health.set_ready(true);
    assert!(health.startup().await.is_healthy());
    slow.set_down(true);
    advance(SECOND).await;
    assert!(health.startup().await.is_healthy());
    assert_eq!((slow.runs(), other.runs()), (2, 0));
    assert!(health.ready().await.is_healthy());
    let all = health.report().await;
    assert_eq!((all.is_healthy(), all.checks.len()), (false, 2));
}

#[tokio::test(start_paused = true)]
async fn ml_hlt_6_readiness_ends_for_good_when_shutdown_begins() {
    let (health, probe) = (Health::new(), Probe::default());
    health
        .register(probe.checker("a", Duration::ZERO), CheckOptions::default())
        .unwrap();
    health.set_ready(false);
    assert_eq!(texts(&health.ready().await)["service"], "error: not ready");
    health.set_ready(true);
    assert!(health.ready().await.is_healthy());
    health.drain();
    health.set_ready(true);
    let report = health.ready().await;
    assert_eq!(texts(&report)["service"], "error: shutting down");
    assert_eq!((report.is_healthy(), probe.runs()), (false, 1));
}

#[tokio::test(start_paused = true)]
async fn an_optional_check_shows_but_does_not_count() {
    let (health, probe) = (Health::new(), Probe::default());
    probe.set_down(true);
    let optional = CheckOptions {
        required: false,
        ..CheckOptions::default()
    };
    health
        .register(probe.checker("a", Duration::ZERO), optional)
        .unwrap();
    let report = health.ready().await;
    assert!(report.is_healthy());
    assert_eq!(texts(&report)["a"], "error: connection refused");
}

/// HLT-2: checkers are registered under names.
#[tokio::test(start_paused = true)]
async fn ml_hlt_1_names_are_checked_and_checks_can_be_removed() {
    let health = Health::new();
    for bad in ["", "A", "a b", "service"] {
        assert!(
            health
                .register_checker(bad, ok("a"))
                .unwrap_err()
                .is_invalid_input()
        );
    }
    for timeout in [Duration::ZERO, Duration::MAX] {
        let options = CheckOptions {
            timeout,
            ..CheckOptions::default()
        };
        assert!(health.register(ok("a"), options).unwrap_err().is_invalid_input());
    }
    health.register_checker("a", ok("b")).unwrap();
    let error = health.register_checker("a", ok("b")).unwrap_err();
    assert_eq!(error.code(), Some(Code::AlreadyExists));
    assert!(health.remove("a") && !health.remove("a"));
    assert!(health.ready().await.checks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn hlt_8_a_failing_check_is_logged_when_it_begins_and_ends_to_fail() {
    let logged = Logged::of("cqi_core::health", Level::TRACE);
    let _guard = logged.install();
    let (health, probe) = (Health::new(), Probe::default());
    health
        .register(probe.checker("a", Duration::ZERO), CheckOptions::default())
        .unwrap();
    for down in [false, true, true, true, false, false] {
        probe.set_down(down);
        for _ in 0..3 {
            health.ready().await;
        }
        advance(SECOND).await;
    }
    let lines = logged.lines();
    let levels: Vec<_> = lines.iter().map(|(level, _)| *level).collect();
    assert_eq!(levels, [Level::WARN, Level::INFO]);
    for part in ["check=\"a\"", "error=connection refused", "required=true"] {
        assert!(lines[0].1.contains(part), "{lines:?}");
    }
}

#[test]
fn a_check_cut_off_by_the_end_of_its_runtime_is_run_anew() {
    let (health, probe) = (Health::new(), Probe::default());
    health
        .register(probe.checker("a", SECOND), CheckOptions::default())
        .unwrap();
    for expected in [false, true] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let patience = if expected { SECOND * 2 } else { SECOND / 2 };
        let report = runtime.block_on(async { timeout(patience, health.ready()).await });
        assert_eq!(report.is_ok_and(|report| report.is_healthy()), expected);
    }
    assert_eq!(probe.runs(), 2);
}
