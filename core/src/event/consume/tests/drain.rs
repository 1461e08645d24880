//! How a subscription ends, and how handlers that do not are cut.

use super::*;
use crate::event::consume::Consumer;

/// ML-MSG-5: leaving waits for handlers in flight.
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
async fn durations_past_the_end_of_the_clock_are_for_ever() {
    let bus = MemoryBus::new(crate::event::MemoryBusOptions {
        capacity: 1,
        publish_wait: Duration::MAX,
        ..Default::default()
    });
    let (router, mut calls) = reporting(|_, attempt| match attempt {
        1 => Err(Error::temporary("x").with_retry_after(Duration::MAX)),
        _ => Ok(()),
    });
    let retry = Retry {
        max: Duration::MAX,
        ..Retry::default()
    };
    let options = ConsumeOptions::default()
        .with_retry(retry)
        .with_ack_deadline(Duration::MAX)
        .with_handler_timeout(Duration::MAX)
        .with_drain_timeout(Duration::MAX);
    let running = Running::start_on(Arc::new(bus.clone()), router, options).await;
    running.send(1, None).await;
    assert_eq!(calls.recv().await.unwrap(), (1, 1));
    running.send(2, None).await;
    let full = Event::builder(topic()).build().unwrap();
    assert!(futures::poll!(bus.publish(full)).is_pending());
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drain_without_patience_that_cuts_no_handler_is_clean() {
    let (router, mut calls) = reporting(|_, _| Ok(()));
    let options = ConsumeOptions::default().with_drain_timeout(Duration::ZERO);
    let running = Running::start(router, options).await;
    running.send(1, None).await;
    calls.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    running.stop().await.unwrap();
}

/// Fails every fetch.
#[derive(Debug)]
struct Broken(mpsc::Sender<Instant>);

#[async_trait::async_trait]
impl crate::event::Deliveries for Broken {
    async fn next(&mut self, _: usize) -> Option<Result<Vec<crate::event::Delivery>>> {
        self.0.send(Instant::now()).await.unwrap();
        Some(Err(Error::temporary("connection refused")))
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_pauses_after_failed_fetches_grow_however_many_workers_there_are() {
    let (fetched, mut fetches) = mpsc::channel(1);
    let (router, _calls) = reporting(|_, _| Ok(()));
    let (_, route) = router.into_routes().unwrap().pop_first().unwrap();
    let consumer = Consumer {
        bus: Arc::new(MemoryBus::default()),
        subscription: Subscription::new(topic(), Group::parse("g").unwrap()),
        route,
        options: ConsumeOptions::default().with_concurrency(64),
        observer: Arc::new(crate::observe::Silent),
        measured: None,
    };
    let stop = CancellationToken::new();
    let watch = async {
        let first = fetches.recv().await.unwrap();
        for _ in 0..9 {
            fetches.recv().await.unwrap();
        }
        let last = fetches.recv().await.unwrap();
        stop.cancel();
        last - first
    };
    let (ended, took) = tokio::join!(consumer.run(Box::new(Broken(fetched)), stop.clone()), watch);
    ended.unwrap();
    // 0.1 s, doubled up to 5 s: 26.3 s, give or take a quarter.
    assert!((19..33).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_shortest_ack_deadline_is_one() {
    let (router, _calls) = reporting(|_, _| Ok(()));
    let options = ConsumeOptions::default().with_ack_deadline(Duration::from_nanos(2));
    let running = Running::start(router, options).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    running.stop().await.unwrap();
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
