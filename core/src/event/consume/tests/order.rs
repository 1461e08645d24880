//! Order of one key, many handlers at once, and leases that live as long as the work.

use super::*;

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
