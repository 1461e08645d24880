//! The loop over the memory bus: every row of the settlement table, isolation, order, leases and drain.

mod auth;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Result,
    event::{
        ConsumeOptions, DeadLetter, Event, EventBus, EventBusExt, Json, MemoryBus, Received, Router,
        Subscriber, Subscription, header, middleware,
    },
    name::{Group, Topic, topic_name},
    policy::Retry,
    request::remaining_time,
    service::{Lifecycle, Service},
};

type Number = Received<Json<u32>>;

fn topic() -> Topic {
    topic_name("number").unwrap()
}

struct Running {
    bus: Arc<dyn EventBus>,
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Running {
    async fn start(router: Router, options: ConsumeOptions) -> Self {
        Self::start_on(Arc::new(MemoryBus::default()), router, options).await
    }

    async fn start_on(bus: Arc<dyn EventBus>, router: Router, options: ConsumeOptions) -> Self {
        let subscriber =
            Subscriber::new(Arc::clone(&bus), Group::parse("g").unwrap(), router).with_options(options);
        let stop = CancellationToken::new();
        let (lifecycle, mut ready) = Lifecycle::new(stop.clone());
        #[allow(clippy::disallowed_methods)] // the test owns the handle
        let task = tokio::spawn(Box::new(subscriber).run(lifecycle));
        ready.wait_for(|ready| *ready).await.unwrap();
        Self { bus, stop, task }
    }

    async fn send(&self, number: u32, key: Option<&str>) -> Event {
        self.bus.send(topic(), key, &Json(number)).await.unwrap()
    }

    async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.task.await.unwrap()
    }

    async fn dead_letters(&self) -> Box<dyn crate::event::Deliveries> {
        let group = Group::parse("letters").unwrap();
        self.bus
            .subscribe(Subscription::new(topic().dead_letter(), group))
            .await
            .unwrap()
    }
}

/// A handler that reports each call with its attempt, then answers what `answer` says.
fn reporting(
    answer: impl Fn(u32, u32) -> Result<()> + Clone + Send + Sync + 'static,
) -> (Router, mpsc::Receiver<(u32, u32)>) {
    let (tx, rx) = mpsc::channel(1000);
    let router = Router::new().on(topic(), move |number: Number| {
        let (tx, answer) = (tx.clone(), answer.clone());
        async move {
            tx.send((number.0, number.attempt())).await.unwrap();
            answer(number.0, number.attempt())
        }
    });
    (router, rx)
}

#[tokio::test(start_paused = true)]
async fn a_temporary_error_is_redelivered_after_the_back_off_until_it_succeeds() {
    let (router, mut calls) = reporting(|_, attempt| {
        if attempt < 3 {
            Err(Error::temporary("x"))
        } else {
            Ok(())
        }
    });
    let options = ConsumeOptions::default().with_retry(Retry {
        jitter: 0.0,
        ..Retry::default()
    });
    let running = Running::start(router, options).await;
    let started = Instant::now();
    running.send(7, None).await;
    for attempt in 1..=3 {
        assert_eq!(calls.recv().await.unwrap(), (7, attempt));
    }
    assert_eq!(started.elapsed().as_secs(), 3); // 1 s, then 2 s
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn f_bus_13_spent_attempts_end_in_the_dead_letter_topic_with_the_reason() {
    let (router, mut calls) = reporting(|number, _| {
        if number == 13 {
            Err(Error::temporary("no luck"))
        } else {
            Ok(())
        }
    });
    let running = Running::start(router, ConsumeOptions::default()).await;
    let mut letters = running.dead_letters().await;
    let poison = running.send(13, None).await;
    running.send(1, None).await;
    let letter = letters.next(1).await.unwrap().unwrap().remove(0);
    let headers = letter.event().headers();
    assert_eq!(letter.event().id(), poison.id());
    assert_eq!(letter.event().payload(), poison.payload());
    assert_eq!(headers.get(header::TOPIC), Some(topic().as_str()));
    assert_eq!(headers.get(header::GROUP), Some("g"));
    assert_eq!(headers.get(header::ATTEMPTS), Some("3"));
    assert_eq!(headers.get(header::ERROR_CODE), Some("TEMPORARY"));
    assert_eq!(headers.get(header::ERROR), Some("no luck"));
    letter.ack().await.unwrap();
    let mut seen = Vec::new();
    while let Ok(call) = calls.try_recv() {
        seen.push(call);
    }
    seen.sort_unstable();
    assert_eq!(seen, [(1, 1), (13, 1), (13, 2), (13, 3)]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn permanent_errors_and_undecodable_payloads_are_dead_letters_at_once() {
    let (router, mut calls) = reporting(|_, _| Err(Error::permanent("never")));
    let running = Running::start(router, ConsumeOptions::default()).await;
    let mut letters = running.dead_letters().await;
    running.send(1, None).await;
    let letter = letters.next(1).await.unwrap().unwrap().remove(0);
    assert_eq!(letter.event().headers().get(header::ATTEMPTS), Some("1"));
    letter.ack().await.unwrap();
    running
        .bus
        .publish(Event::builder(topic()).payload("no json").build().unwrap())
        .await
        .unwrap();
    let letter = letters.next(1).await.unwrap().unwrap().remove(0);
    assert_eq!(
        letter.event().headers().get(header::ERROR_CODE),
        Some("UNDECODABLE")
    );
    letter.ack().await.unwrap();
    assert_eq!(calls.recv().await.unwrap(), (1, 1));
    assert!(
        calls.try_recv().is_err(),
        "the undecodable event must not reach the handler"
    );
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn f_bus_14_a_panicking_handler_is_a_failed_attempt_and_the_worker_lives_on() {
    let (router, mut calls) = reporting(|number, attempt| {
        assert!(number != 1 || attempt > 1, "on purpose");
        Ok(())
    });
    let running = Running::start(router, ConsumeOptions::default().with_concurrency(1)).await;
    running.send(1, None).await;
    running.send(2, None).await;
    let calls = [
        calls.recv().await.unwrap(),
        calls.recv().await.unwrap(),
        calls.recv().await.unwrap(),
    ];
    assert_eq!(calls, [(1, 1), (2, 1), (1, 2)]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_fails_goes_round_its_own_topic_never() {
    let (tx, mut rx) = mpsc::channel(10);
    let letters = topic().dead_letter();
    let router = Router::new().on(letters.clone(), move |number: Number| {
        let tx = tx.clone();
        async move {
            tx.send(number.attempt()).await.unwrap();
            Err(Error::permanent("x"))
        }
    });
    let running = Running::start(router, ConsumeOptions::default()).await;
    running.bus.send(letters, None, &Json(1u32)).await.unwrap();
    for attempt in 1..=5 {
        assert_eq!(
            rx.recv().await,
            Some(attempt),
            "one event, redelivered with a growing pause"
        );
    }
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn never_dead_letter_means_redelivered_for_ever() {
    let (router, mut calls) = reporting(|_, attempt| {
        if attempt < 20 {
            Err(Error::permanent("x"))
        } else {
            Ok(())
        }
    });
    let options = ConsumeOptions::default().with_dead_letter(DeadLetter::Never);
    let running = Running::start(router, options).await;
    running.send(1, None).await;
    for attempt in 1..=20 {
        assert_eq!(calls.recv().await.unwrap(), (1, attempt));
    }
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_key_is_handled_in_order_across_a_retry_and_keys_run_side_by_side() {
    let (router, mut calls) = reporting(|number, attempt| {
        if number == 0 && attempt == 1 {
            Err(Error::temporary("x"))
        } else {
            Ok(())
        }
    });
    let running = Running::start(router, ConsumeOptions::default()).await;
    for number in 0..4 {
        running.send(number, Some("a")).await;
    }
    running.send(9, Some("b")).await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(calls.recv().await.unwrap().0);
    }
    let b = seen.iter().position(|number| *number == 9).unwrap();
    assert!(b < 2, "key b must not wait for the retry of key a: {seen:?}");
    seen.retain(|number| *number != 9);
    assert_eq!(seen, [0, 0, 1, 2, 3]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn never_more_handlers_than_the_concurrency_and_all_of_it_is_used() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (done, mut all) = mpsc::channel(100);
    let router = Router::new().on(topic(), {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        move |_: Number| {
            let (now, most, done) = (Arc::clone(&now), Arc::clone(&most), done.clone());
            async move {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::time::sleep(Duration::from_secs(1)).await;
                now.fetch_sub(1, SeqCst);
                done.send(()).await.unwrap();
                Ok(())
            }
        }
    });
    let running = Running::start(router, ConsumeOptions::default().with_concurrency(5)).await;
    let started = Instant::now();
    for number in 0..50 {
        running.send(number, None).await;
    }
    for _ in 0..50 {
        all.recv().await.unwrap();
    }
    assert_eq!((most.load(SeqCst), started.elapsed().as_secs()), (5, 10));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_keeps_its_lease_and_so_do_events_that_wait_behind_it() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (done, mut all) = mpsc::channel(10);
    let router = Router::new().on(topic(), {
        let calls = Arc::clone(&calls);
        move |number: Number| {
            let (calls, done) = (Arc::clone(&calls), done.clone());
            async move {
                calls.lock().unwrap().push((number.0, number.attempt()));
                tokio::time::sleep(Duration::from_secs(100)).await;
                done.send(()).await.unwrap();
                Ok(())
            }
        }
    });
    let options = ConsumeOptions::default()
        .with_concurrency(1)
        .with_ack_deadline(Duration::from_secs(10))
        .with_handler_timeout(Duration::from_secs(1000));
    let running = Running::start(router, options).await;
    for number in 0..3 {
        running.send(number, None).await;
    }
    for _ in 0..3 {
        all.recv().await.unwrap();
    }
    assert_eq!(*calls.lock().unwrap(), [(0, 1), (1, 1), (2, 1)]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn drain_finishes_what_runs_and_hands_back_the_rest_without_counting() {
    let bus: Arc<dyn EventBus> = Arc::new(MemoryBus::default());
    let (started, mut begun) = mpsc::channel(100);
    let router = Router::new().on(topic(), move |_: Number| {
        let started = started.clone();
        async move {
            started.send(()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(())
        }
    });
    let running = Running::start_on(
        Arc::clone(&bus),
        router,
        ConsumeOptions::default().with_concurrency(10),
    )
    .await;
    for number in 0..25 {
        running.send(number, None).await;
    }
    for _ in 0..10 {
        begun.recv().await.unwrap();
    }
    running.stop().await.unwrap();
    let mut rest = bus
        .subscribe(Subscription::new(topic(), Group::parse("g").unwrap()))
        .await
        .unwrap();
    let rest = rest.next(100).await.unwrap().unwrap();
    assert_eq!(rest.len(), 15);
    assert!(rest.iter().all(|delivery| delivery.attempt() == 1));
}

#[tokio::test(start_paused = true)]
async fn handlers_over_the_drain_timeout_are_cut_named_and_redelivered_uncounted() {
    let bus: Arc<dyn EventBus> = Arc::new(MemoryBus::default());
    let (started, mut begun) = mpsc::channel(1);
    let router = Router::new().on(topic(), move |_: Number| {
        let started = started.clone();
        async move {
            started.send(()).await.unwrap();
            std::future::pending().await
        }
    });
    let options = ConsumeOptions::default().with_drain_timeout(Duration::from_secs(3));
    let running = Running::start_on(Arc::clone(&bus), router, options).await;
    running.send(1, None).await;
    begun.recv().await.unwrap();
    let error = running.stop().await.unwrap_err();
    assert!(error.to_string().contains("handlers_cut=1"), "{error}");
    let mut rest = bus
        .subscribe(Subscription::new(topic(), Group::parse("g").unwrap()))
        .await
        .unwrap();
    let rest = rest.next(1).await.unwrap().unwrap().remove(0);
    assert_eq!(rest.attempt(), 1);
    rest.ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_bus_closed_under_a_subscription_ends_it_with_an_error() {
    let (router, _calls) = reporting(|_, _| Ok(()));
    let running = Running::start(router, ConsumeOptions::default()).await;
    running.bus.close().await.unwrap();
    let error = running.task.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(crate::Code::Closed));
}

#[tokio::test(start_paused = true)]
async fn layers_see_the_message_in_the_documented_order() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str| {
        let order = Arc::clone(&order);
        middleware::from_fn(move |message, next: crate::event::Next| {
            order.lock().unwrap().push(name);
            async move { next.run(message).await }
        })
    };
    let (router, mut calls) = reporting(|_, _| Ok(()));
    let router = router
        .layer(
            tower::ServiceBuilder::new()
                .layer(note("second"))
                .layer(note("third")),
        )
        .layer(note("first"));
    let running = Running::start(router, ConsumeOptions::default()).await;
    running.send(1, None).await;
    calls.recv().await.unwrap();
    assert_eq!(*order.lock().unwrap(), ["first", "second", "third"]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn bus_10_in_place_retry_repeats_temporary_errors_inside_one_delivery() {
    let calls = Arc::new(AtomicUsize::new(0));
    let (done, mut all) = mpsc::channel(1);
    let counted = Arc::clone(&calls);
    let router = Router::new()
        .on(topic(), move |number: Number| {
            let (calls, done) = (Arc::clone(&counted), done.clone());
            async move {
                if calls.fetch_add(1, SeqCst) < 2 {
                    return Err(Error::temporary("x"));
                }
                done.send(number.attempt()).await.unwrap();
                Ok(())
            }
        })
        .layer(middleware::InPlaceRetry::new(Retry::default()));
    let running = Running::start(router, ConsumeOptions::default()).await;
    running.send(1, None).await;
    assert_eq!(all.recv().await, Some(1));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_memory_bus_tells_when_everything_is_settled() {
    let (router, mut calls) = reporting(|_, attempt| {
        if attempt == 1 {
            Err(Error::temporary("x"))
        } else {
            Ok(())
        }
    });
    let memory = MemoryBus::default();
    let running = Running::start_on(Arc::new(memory.clone()), router, ConsumeOptions::default()).await;
    memory.idle().await;
    for number in 0..10 {
        running.send(number, Some("k")).await;
    }
    assert_eq!(memory.unsettled(), 10);
    memory.idle().await;
    assert_eq!(memory.unsettled(), 0);
    let mut handled = 0;
    while calls.try_recv().is_ok() {
        handled += 1;
    }
    assert_eq!(handled, 20);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn f_net_03_a_handler_knows_how_much_time_it_has_left() {
    let (told, mut all) = mpsc::channel(10);
    let router = Router::new().on(topic(), move |_: Number| {
        let told = told.clone();
        async move {
            for _ in 0..3 {
                told.send(remaining_time().map(|left| left.as_secs()))
                    .await
                    .unwrap();
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
            Ok(())
        }
    });
    let options = ConsumeOptions::default().with_handler_timeout(Duration::from_secs(100));
    let running = Running::start(router, options).await;
    running.send(1, None).await;
    for left in [100, 80, 60] {
        assert_eq!(all.recv().await.unwrap(), Some(left));
    }
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_cut_and_its_key_goes_on() {
    let (done, mut all) = mpsc::channel(10);
    let router = Router::new().on(topic(), move |number: Number| {
        let done = done.clone();
        async move {
            if number.0 == 1 && number.attempt() == 1 {
                std::future::pending::<()>().await;
            }
            done.send((number.0, number.attempt())).await.unwrap();
            Ok(())
        }
    });
    let options = ConsumeOptions::default().with_handler_timeout(Duration::from_secs(60));
    let running = Running::start(router, options).await;
    running.send(1, Some("k")).await;
    running.send(2, Some("k")).await;
    assert_eq!(
        [all.recv().await.unwrap(), all.recv().await.unwrap()],
        [(1, 2), (2, 1)]
    );
    running.stop().await.unwrap();
}
