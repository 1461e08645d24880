//! The life of an app, end to end, on both runtimes.

mod stopping;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use super::*;
use crate::{Code, Error, Result, health::check_fn};

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().join(", ")
    }
}

fn app() -> App {
    App::new(ServiceMetadata::new("test", "1.0.0"))
        .unwrap()
        .signals(Signals::none())
}

/// A service that logs its start and stop.
fn worker(log: &Log, name: &'static str) -> impl Service {
    let (up, down) = (log.clone(), log.clone());
    start_stop(
        name,
        move || async move {
            up.add(format!("+{name}"));
            Ok(())
        },
        move |()| async move {
            down.add(format!("-{name}"));
            Ok(())
        },
    )
}

/// A service that is ready at once and ends with `end` one second later.
fn ending(name: &'static str, end: fn() -> Result<()>) -> impl Service {
    service_fn(name, move |lifecycle: Lifecycle| async move {
        lifecycle.ready();
        tokio::time::sleep(Duration::from_secs(1)).await;
        end()
    })
}

/// A service that neither stops nor, if so wanted, becomes ready.
fn stubborn(name: &'static str, ready: bool) -> impl Service {
    service_fn(name, move |lifecycle: Lifecycle| async move {
        if ready {
            lifecycle.ready();
        }
        std::future::pending().await
    })
}

fn logged(log: &Log) -> impl Fn(bool) + Send + Sync + 'static {
    let log = log.clone();
    move |ready| log.add(if ready { "ready" } else { "not ready" })
}

/// A whole life with two services, hooks and a programmatic end.
async fn whole_life() {
    let log = Log::default();
    let (one, two) = (log.clone(), log.clone());
    let app = app()
        .readiness(logged(&log))
        .service(worker(&log, "a"))
        .service(worker(&log, "b"))
        .on_shutdown("first", move || async move {
            one.add("first");
            Ok(())
        })
        .on_shutdown("second", move || async move {
            two.add("second");
            Ok(())
        });
    let handle = app.handle();
    assert_eq!((handle.name(), handle.state()), ("test", State::New));
    handle.health().unwrap_err();
    let stopper = async {
        handle.running().await.unwrap();
        assert_eq!(handle.state(), State::Running);
        handle.health().unwrap();
        let (one, two) = tokio::join!(handle.shutdown(), handle.shutdown());
        one.and(two).unwrap();
        assert_eq!(handle.state(), State::Stopped);
        handle.shutdown().await.unwrap();
    };
    let (ended, ()) = tokio::join!(app.run(), stopper);
    ended.unwrap();
    assert_eq!(log.text(), "+a, +b, ready, not ready, -b, -a, second, first");
    assert_eq!(
        handle
            .on_shutdown("late", || async { Ok(()) })
            .unwrap_err()
            .code(),
        Some(Code::Closed)
    );
}

#[tokio::test(start_paused = true)]
async fn f_life_06_ml_core_2_12_whole_life_on_one_thread() {
    whole_life().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn f_life_06_whole_life_on_a_single_worker() {
    whole_life().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_life_06_07_two_hundred_lives_leave_no_task_behind() {
    for _ in 0..200 {
        whole_life().await;
    }
    // A task that has ended is still counted until its worker has put it away.
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let gone = async {
        while alive() > 0 {
            tokio::task::yield_now().await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(10), gone).await.is_ok(),
        "{} tasks are left",
        alive()
    );
}

#[tokio::test(start_paused = true)]
async fn f_life_04_a_failed_start_stops_what_was_started() {
    let log = Log::default();
    let hook = log.clone();
    let app = app()
        .readiness(logged(&log))
        .service(worker(&log, "a"))
        .service(worker(&log, "b"))
        .service(start_stop(
            "c",
            || async { Err(Error::temporary("port in use")) },
            |()| async { Ok(()) },
        ))
        .service(worker(&log, "d"))
        .on_shutdown("hook", move || async move {
            hook.add("hook");
            Ok(())
        });
    let handle = app.handle();
    let error = app.run().await.unwrap_err();
    assert_eq!(error.chain().to_string(), "service c failed: port in use");
    assert_eq!(log.text(), "+a, +b, not ready, -b, -a, hook");
    assert_eq!(handle.state(), State::Failed);
    assert_eq!(handle.running().await.unwrap_err().to_string(), error.to_string());
}

#[tokio::test(start_paused = true)]
async fn f_life_04_a_service_that_ends_fails_or_panics_ends_the_app() {
    type End = fn() -> Result<()>;
    let cases: [(End, &str); 3] = [
        (|| Ok(()), "service x ended without being asked to"),
        (
            || Err(Error::temporary("broker gone")),
            "service x failed: broker gone",
        ),
        (|| panic!("secret"), "service x panicked"),
    ];
    for (end, expected) in cases {
        let log = Log::default();
        let app = app()
            .service(worker(&log, "a"))
            .service(ending("x", end))
            .service(worker(&log, "b"));
        assert_eq!(app.run().await.unwrap_err().chain().to_string(), expected);
        assert_eq!(log.text(), "+a, +b, -b, -a");
    }
}

#[tokio::test(start_paused = true)]
async fn f_life_04_a_service_that_is_never_ready_fails_the_start() {
    let app = app()
        .start_timeout(Duration::from_secs(7))
        .service(stubborn("x", false));
    let begun = Instant::now();
    let error = app
        .shutdown_timeout(Duration::from_secs(2))
        .run()
        .await
        .unwrap_err();
    assert!(
        error.to_string().starts_with("service x was not ready in time"),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("service x overran its deadline and was aborted"),
        "{error}"
    );
    assert_eq!(begun.elapsed(), Duration::from_secs(9));
}

#[tokio::test(start_paused = true)]
async fn ml_core_9_svc_7_overrunners_are_named_and_the_rest_gets_its_turn() {
    let log = Log::default();
    let hook = log.clone();
    let app = app()
        .drain_delay(Duration::from_secs(3))
        .shutdown_timeout(Duration::from_secs(10))
        .service(worker(&log, "a"))
        .service(stubborn("x", true))
        .on_shutdown("last", move || async move {
            hook.add("last");
            Ok(())
        })
        .on_shutdown("slow", std::future::pending);
    let handle = app.handle();
    let begun = Instant::now();
    let (ended, ()) = tokio::join!(app.run(), async {
        handle.running().await.unwrap();
        handle.request_shutdown();
    });
    let error = ended.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_millis(10_100));
    assert_eq!(error.code(), Some(Code::Timeout));
    assert!(
        error.to_string().contains("service x overran its deadline"),
        "{error}"
    );
    assert!(
        error.to_string().contains("shutdown hook slow overran"),
        "{error}"
    );
    assert_eq!(log.text(), "+a, -a, last");
}

#[tokio::test(start_paused = true)]
async fn ml_core_14_17_nothing_starts_before_the_dependencies_are_well() {
    let log = Log::default();
    let down = Arc::new(check_fn("database", || async {
        Err(Error::temporary("refused"))
    }));
    let app = app()
        .service(worker(&log, "a"))
        .dependency(down, DependencyOptions::default());
    let error = app.run().await.unwrap_err();
    assert_eq!(
        error.message(),
        "dependencies are not well: dependency database failed: refused"
    );
    assert_eq!(log.text(), "");
}

#[tokio::test(start_paused = true)]
async fn ml_core_15_every_fault_of_the_plan_is_named_before_anything_starts() {
    let log = Log::default();
    let well: Arc<dyn crate::health::Checker> = Arc::new(check_fn("", || async { Ok(()) }));
    let error = app()
        .service(worker(&log, "a"))
        .service(worker(&log, "a"))
        .dependency(well, DependencyOptions::default().with_timeout(Duration::ZERO))
        .on_shutdown("hook", || async { Ok(()) })
        .on_shutdown("hook", || async { Ok(()) })
        .shutdown_timeout(Duration::ZERO)
        .start_timeout(Duration::ZERO)
        .drain_delay(Duration::from_secs(1))
        .signals(Signals::of([Signal::from_raw(9)]))
        .run()
        .await
        .unwrap_err();
    for part in [
        "service a is added twice",
        "dependency must not be empty",
        "dependency timeout must not be zero",
        "hook is registered twice",
        "shutdown timeout must not be zero",
        "start timeout must not be zero",
        "drain delay must be shorter",
        "signal 9 cannot be listened to",
    ] {
        assert!(error.message().contains(part), "{part} in {error}");
    }
    assert!(error.is_invalid_input());
    assert_eq!(log.text(), "");
}

#[tokio::test(start_paused = true)]
async fn svc_9_f_life_03_a_wish_to_stop_during_start_up_cancels_it_cleanly() {
    let log = Log::default();
    let hanging = start_stop("b", std::future::pending::<Result<()>>, |()| async { Ok(()) });
    let app = app()
        .service(worker(&log, "a"))
        .service(hanging)
        .service(worker(&log, "c"));
    let handle = app.handle();
    let (ended, stopped) = tokio::join!(app.run(), async {
        while !log.text().contains("+a") {
            tokio::task::yield_now().await;
        }
        handle.shutdown().await
    });
    ended.and(stopped).unwrap();
    assert_eq!(log.text(), "+a, -a");
    assert_eq!(handle.running().await.unwrap_err().code(), Some(Code::Closed));
}

#[tokio::test(start_paused = true)]
async fn ml_core_4_stopping_what_never_started_is_no_error_and_starts_nothing() {
    let log = Log::default();
    let app = app().service(worker(&log, "a"));
    app.handle().shutdown().await.unwrap();
    app.run().await.unwrap();
    assert_eq!(log.text(), "");
}

#[tokio::test(start_paused = true)]
async fn ml_core_6_12_the_first_signal_drains_and_the_second_aborts_at_once() {
    let (send, signals) = mpsc::channel(2);
    let app = app()
        .signals(Signals::from_channel(signals))
        .service(stubborn("x", true));
    let handle = app.handle();
    let begun = Instant::now();
    let (ended, ()) = tokio::join!(app.run(), async {
        handle.running().await.unwrap();
        send.send(Signal::TERMINATE).await.unwrap();
        while handle.state() != State::Stopping {
            tokio::task::yield_now().await;
        }
        send.send(Signal::INTERRUPT).await.unwrap();
    });
    let error = ended.unwrap_err();
    assert_eq!(error.chain().to_string(), "shutdown was cut short: second SIGINT");
    assert_eq!(
        signal::Interrupted::find(&error).map(Signal::exit_code),
        Some(130)
    );
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_run_tells_those_who_wait() {
    let app = app().service(stubborn("x", true));
    let handle = app.handle();
    tokio::select! {
        _ = app.run() => unreachable!("it has a service that never ends"),
        running = handle.running() => running.unwrap(),
    }
    assert_eq!(handle.wait().await.unwrap_err().code(), Some(Code::Cancelled));
    assert_eq!(handle.state(), State::Failed);
}

#[tokio::test(start_paused = true)]
async fn ml_hlt_6_health_is_ready_exactly_while_the_app_runs() {
    let health = crate::health::Health::new();
    let app = app().health(&health).service(worker(&Log::default(), "a"));
    let handle = app.handle();
    assert!(!health.ready().await.is_healthy());
    let (ended, ()) = tokio::join!(app.run(), async {
        handle.running().await.unwrap();
        assert!(health.ready().await.is_healthy());
        handle.shutdown().await.unwrap();
    });
    ended.unwrap();
    assert!(!health.ready().await.is_healthy());
    assert!(health.live().is_healthy());
}

/// Who waits for it may ask for its readiness at once, from another thread.
#[tokio::test(start_paused = true)]
async fn an_app_that_is_seen_running_has_said_that_it_is_ready() {
    let (log, app) = (Log::default(), app());
    let (told, handle) = (log.clone(), app.handle());
    let asked = handle.clone();
    let app = app
        .service(worker(&log, "a"))
        .readiness(move |ready| told.add(format!("{ready} while {}", asked.state())));
    let (ended, stopped) = tokio::join!(app.run(), async {
        handle.running().await?;
        handle.shutdown().await
    });
    ended.and(stopped).unwrap();
    assert_eq!(log.text(), "+a, true while starting, false while stopping, -a");
}

#[cfg(unix)]
#[tokio::test]
async fn svc_6_a_signal_of_the_system_ends_the_app() {
    let log = Log::default();
    // One that no other test listens to: the whole test process hears it.
    let app = app()
        .signals(Signals::of([Signal::HANGUP]))
        .service(worker(&log, "a"));
    let handle = app.handle();
    let (ended, ()) = tokio::join!(app.run(), async {
        handle.running().await.unwrap();
        let command = format!("kill -HUP {}", std::process::id());
        assert!(
            std::process::Command::new("sh")
                .args(["-c", &command])
                .status()
                .unwrap()
                .success()
        );
    });
    ended.unwrap();
    assert_eq!(log.text(), "+a, -a");
}
