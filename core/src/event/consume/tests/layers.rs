//! Layers around the handler, and what it is told; the bus tells when all is settled.

use super::*;

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
