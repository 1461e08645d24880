//! Layers around the handler, and what it is told; the bus tells when all is settled.

use super::*;

/// OP-40 the other way round, as `Router::layer` says: the layer added last is the outermost.
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

/// BUS-11: what does not pass is not tried again in place, nor is it given back.
#[tokio::test(start_paused = true)]
async fn bus_11_in_place_retry_leaves_lasting_errors_alone() {
    let (router, mut calls) = reporting(|_, _| Err(Error::permanent("x")));
    let router = router.layer(middleware::InPlaceRetry::new(Retry::default()));
    let running = Running::start(router, ConsumeOptions::default()).await;
    let mut letters = running.dead_letters().await;
    running.send(1, None).await;
    letters
        .next(1)
        .await
        .unwrap()
        .unwrap()
        .remove(0)
        .ack()
        .await
        .unwrap();
    assert_eq!(calls.recv().await, Some((1, 1)));
    assert!(calls.try_recv().is_err());
    running.stop().await.unwrap();
}

/// BUS-12: what an error means is decided by a layer of the service's own, here one of tower.
#[tokio::test(start_paused = true)]
async fn bus_12_errors_can_be_handled_in_a_layer() {
    let (router, mut calls) = reporting(|number, attempt| match (number, attempt) {
        (1, _) => Err(Error::not_found("asset", "BTC")),
        (_, 1) => Err(Error::permanent("locked")),
        _ => Ok(()),
    });
    let router = router.layer(tower::util::MapResultLayer::new(
        |result: Result<()>| match result {
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) if error.is_permanent() => Err(Error::temporary("again").with_source(error)),
            other => other,
        },
    ));
    let memory = MemoryBus::default();
    let running = Running::start_on(Arc::new(memory.clone()), router, ConsumeOptions::default()).await;
    running.send(1, None).await;
    running.send(2, None).await;
    memory.idle().await;
    let seen = [calls.recv().await, calls.recv().await, calls.recv().await];
    assert_eq!(seen, [Some((1, 1)), Some((2, 1)), Some((2, 2))]);
    assert!(calls.try_recv().is_err());
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
