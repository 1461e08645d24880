//! What becomes of an event after its handler: every row of the settlement table.

use async_trait::async_trait;

use super::*;
use crate::event::{Capabilities, Deliveries};

/// BUS-8: the handler is a closure.
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

/// BUS-3, ML-MSG-4, ML-MSG-5: a body that does not decode reaches no handler and holds nobody up.
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

/// A bus that cannot wait before a redelivery.
#[derive(Debug, Default)]
struct Impatient(MemoryBus);

#[async_trait]
impl EventBus for Impatient {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            delayed_redelivery: false,
            ..self.0.capabilities()
        }
    }

    async fn publish(&self, event: Event) -> Result<()> {
        self.0.publish(event).await
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Vec<Result<()>> {
        self.0.publish_batch(events).await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Deliveries>> {
        self.0.subscribe(subscription).await
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_bus_cannot_wait_the_loop_does_but_not_past_its_stop() {
    let bus: Arc<dyn EventBus> = Arc::new(Impatient::default());
    let (router, mut calls) = reporting(|_, _| Err(Error::temporary("x")));
    let options = ConsumeOptions::default().with_retry(Retry {
        initial: Duration::from_secs(100),
        max: Duration::from_secs(100),
        jitter: 0.0,
        ..Retry::default()
    });
    let running = Running::start_on(Arc::clone(&bus), router, options).await;
    let started = Instant::now();
    running.send(7, Some("k")).await;
    for (attempt, seconds) in [(1, 0), (2, 100)] {
        assert_eq!(calls.recv().await.unwrap(), (7, attempt));
        assert_eq!(started.elapsed().as_secs(), seconds);
    }
    running.stop().await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 100);
    let group = Group::parse("g").unwrap();
    let mut rest = bus.subscribe(Subscription::new(topic(), group)).await.unwrap();
    let rest = rest.next(1).await.unwrap().unwrap().remove(0);
    assert_eq!(rest.attempt(), 3);
    rest.ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handler_over_its_time_is_gone_before_its_event_is_settled() {
    let locked = Arc::new(tokio::sync::Mutex::new(()));
    let lock = Arc::clone(&locked);
    let router = Router::new().on(topic(), move |_: Number| {
        let lock = Arc::clone(&lock);
        async move {
            let _held = lock.lock().await;
            std::future::pending().await
        }
    });
    let options = ConsumeOptions::default()
        .with_handler_timeout(Duration::from_secs(1))
        .with_retry(Retry {
            initial: Duration::from_secs(20),
            ..Retry::default()
        });
    // Settling takes the pause here.
    let running = Running::start_on(Arc::new(Impatient::default()), router, options).await;
    running.send(1, None).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(locked.try_lock().is_ok());
    running.stop().await.unwrap();
}

/// Cannot be dropped in peace.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[tokio::test(start_paused = true)]
async fn f_bus_14_a_handler_that_panics_when_it_is_cut_off_fails_its_own_event_only() {
    let (done, mut all) = mpsc::channel(10);
    let router = Router::new().on(topic(), move |number: Number| {
        let done = done.clone();
        async move {
            if number.attempt() == 1 {
                let _bomb = Bomb;
                std::future::pending::<()>().await;
            }
            done.send(number.attempt()).await.unwrap();
            Ok(())
        }
    });
    let running = Running::start(router, ConsumeOptions::default()).await;
    running.send(1, None).await;
    assert_eq!(all.recv().await, Some(2));
    running.stop().await.unwrap();
}
