//! F-LIFE-04: a service that fails, panics or hangs while it starts, runs or stops takes nobody else's turn away.

use super::*;

/// What a stop may end with, and what the app then says.
type End = (fn() -> Result<()>, &'static str);

/// A service whose stop logs its name and ends as it is told.
fn ending_stop(log: &Log, name: &'static str, end: fn() -> Result<()>) -> impl Service {
    let log = log.clone();
    start_stop(
        name,
        || async { Ok(()) },
        move |()| async move {
            log.add(format!("-{name}"));
            end()
        },
    )
}

#[tokio::test(start_paused = true)]
async fn f_life_04_a_stop_that_fails_or_panics_is_named_and_the_others_are_stopped_once() {
    let ends: [End; 2] = [
        (
            || Err(Error::temporary("pool busy")),
            "service x failed: pool busy",
        ),
        (|| panic!("secret"), "service x panicked"),
    ];
    for (end, expected) in ends {
        let log = Log::default();
        let hook = log.clone();
        let app = app()
            .service(worker(&log, "a"))
            .service(ending_stop(&log, "x", end))
            .service(worker(&log, "b"))
            .on_shutdown("hook", move || async move {
                hook.add("hook");
                Ok(())
            });
        let handle = app.handle();
        let (ended, _) = tokio::join!(app.run(), async {
            handle.running().await.unwrap();
            handle.shutdown().await
        });
        let text = ended.unwrap_err().to_string();
        assert!(text.contains(expected) && !text.contains("secret"), "{text}");
        assert_eq!(log.text(), "+a, +b, -b, -x, -a, hook");
        assert_eq!(handle.state(), State::Failed);
    }
}

/// The reason why the app ended comes first, and what went wrong after it is told too.
#[tokio::test(start_paused = true)]
async fn f_life_04_one_that_fails_while_others_run_and_one_that_fails_to_stop_are_both_named() {
    let log = Log::default();
    let app = app()
        .service(ending_stop(&log, "a", || Err(Error::permanent("disk full"))))
        .service(ending("x", || Err(Error::temporary("broker gone"))));
    let error = app.run().await.unwrap_err();
    let text = error.chain().to_string();
    for part in ["service x failed", "broker gone", "service a failed: disk full"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(error.is_temporary(), "the reason's own kind: {error:?}");
    assert_eq!(log.text(), "-a");
}

#[tokio::test(start_paused = true)]
async fn f_life_04_a_start_that_panics_stops_what_was_started() {
    let log = Log::default();
    let panics = start_stop("x", || async { panic!("secret") }, |()| async { Ok(()) });
    let app = app()
        .service(worker(&log, "a"))
        .service(panics)
        .service(worker(&log, "b"));
    let error = app.run().await.unwrap_err();
    assert_eq!(error.chain().to_string(), "service x panicked");
    assert_eq!(log.text(), "+a, -a");
}

/// One that fails while another one starts ends the start.
#[tokio::test(start_paused = true)]
async fn f_life_04_one_that_fails_during_the_start_of_another_ends_the_start() {
    let log = Log::default();
    let begun = Instant::now();
    let app = app()
        .service(worker(&log, "a"))
        .service(ending("x", || Err(Error::temporary("broker gone"))))
        .service(start_stop(
            "slow",
            std::future::pending::<Result<()>>,
            |()| async { Ok(()) },
        ))
        .service(worker(&log, "b"));
    let error = app.run().await.unwrap_err();
    assert_eq!(error.chain().to_string(), "service x failed: broker gone");
    assert_eq!((log.text().as_str(), begun.elapsed().as_secs()), ("+a, -a", 1));
}
