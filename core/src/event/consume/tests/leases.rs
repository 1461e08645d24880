//! Leases under handlers that keep their thread or that were kept from running, and how much is held.

use std::pin::pin;

use async_trait::async_trait;

use super::*;
use crate::{
    Code,
    event::{
        Acker, Deliveries, Delivery, Redelivery, Route,
        consume::{Consumer, feed::Feed},
    },
};

const DEADLINE: Duration = Duration::from_secs(20);

/// A broker that takes each delivery back at its deadline, and then gives it to somebody else.
#[derive(Debug, Default)]
struct Broker {
    /// Until when each delivery is ours.
    until: Mutex<Vec<Instant>>,
    settled: AtomicUsize,
    /// Deliveries that were settled too late.
    late: AtomicUsize,
}

impl Broker {
    fn lease(&self, which: u64) -> Result<()> {
        let mut all = self.until.lock().unwrap();
        let until = &mut all[usize::try_from(which).unwrap()];
        if *until <= Instant::now() {
            return Err(Error::permanent("too late").with_code(Code::FailedPrecondition));
        }
        *until = Instant::now() + DEADLINE;
        Ok(())
    }

    fn settle(&self, which: u64) -> Result<()> {
        let settled = self.lease(which);
        let count = if settled.is_ok() {
            &self.settled
        } else {
            &self.late
        };
        count.fetch_add(1, SeqCst);
        settled
    }
}

#[async_trait]
impl Acker for Broker {
    async fn ack(&self, which: u64) -> Result<()> {
        self.settle(which)
    }

    async fn nack(&self, which: u64, _: Redelivery) -> Result<()> {
        self.settle(which)
    }

    async fn extend(&self, which: u64) -> Result<()> {
        self.lease(which)
    }
}

/// Gives out so many events of one key or none, as they are asked for.
#[derive(Debug)]
struct Once(Arc<Broker>, usize, Option<&'static str>);

#[async_trait]
impl Deliveries for Once {
    async fn next(&mut self, max: usize) -> Option<Result<Vec<Delivery>>> {
        let acker: Arc<dyn Acker> = Arc::clone(&self.0) as _;
        let range = {
            let mut until = self.0.until.lock().unwrap();
            let range = until.len()..self.1.min(until.len() + max);
            until.resize(range.end, Instant::now() + DEADLINE);
            range
        };
        if range.is_empty() {
            std::future::pending::<()>().await;
        }
        let give = |which: usize| {
            let mut event = Event::builder(topic()).payload(which.to_string());
            if let Some(key) = self.2 {
                event = event.key(key);
            }
            Delivery::new(
                event.build().unwrap(),
                1,
                crate::event::Lease::new(Arc::clone(&acker), which as u64),
            )
        };
        Some(Ok(range.map(give).collect()))
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

fn consumer(route: Route, options: ConsumeOptions) -> Consumer {
    Consumer {
        bus: Arc::new(MemoryBus::default()),
        subscription: Subscription::new(topic(), Group::parse("g").unwrap()),
        route,
        options: options.with_ack_deadline(DEADLINE),
        observer: Arc::new(crate::observe::Silent),
        measured: None,
    }
}

/// The handler's own: the clock goes on, and nobody else gets the thread.
async fn compute(time: Duration) {
    let _ = futures::poll!(pin!(tokio::time::advance(time)));
}

#[tokio::test(start_paused = true)]
async fn handlers_that_keep_the_only_thread_do_not_cost_the_leases_of_what_waits() {
    let broker = Arc::new(Broker::default());
    let (done, mut all) = mpsc::channel(100);
    let route = Route::from_fn(move |_| {
        let done = done.clone();
        async move {
            compute(Duration::from_secs(1)).await;
            done.send(()).await.unwrap();
            Ok(())
        }
    });
    let stop = CancellationToken::new();
    let source = Box::new(Once(Arc::clone(&broker), 60, None));
    let handled = async {
        for _ in 0..60 {
            all.recv().await.unwrap();
        }
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(
        consumer(route, ConsumeOptions::default()).run(source, stop.clone()),
        handled
    );
    ended.unwrap();
    assert_eq!((broker.settled.load(SeqCst), broker.late.load(SeqCst)), (60, 0));
}

#[tokio::test(start_paused = true)]
async fn slow_handlers_leave_to_other_members_what_they_cannot_begin() {
    let bus: Arc<dyn EventBus> = Arc::new(MemoryBus::default());
    let (done, mut all) = mpsc::channel(100);
    let mut members = Vec::new();
    for _ in 0..3 {
        let done = done.clone();
        let router = Router::new().on(topic(), move |_: Number| {
            let done = done.clone();
            async move {
                tokio::time::sleep(Duration::from_secs(60)).await;
                done.send(()).await.unwrap();
                Ok(())
            }
        });
        let options = ConsumeOptions::default()
            .with_concurrency(2)
            .with_handler_timeout(Duration::from_secs(100));
        members.push(Running::start_on(Arc::clone(&bus), router, options).await);
    }
    let start = Instant::now();
    for number in 0..24 {
        members[0].send(number, None).await;
    }
    for _ in 0..24 {
        all.recv().await.unwrap();
    }
    assert_eq!(start.elapsed().as_secs(), 24 / (3 * 2) * 60);
    for member in members {
        member.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_waited_past_its_lease_is_not_run_here_any_more() {
    let broker = Arc::new(Broker::default());
    let (begun, mut all) = mpsc::channel(100);
    let route = Route::from_fn(move |_| {
        let begun = begun.clone();
        async move {
            begun.send(()).await.unwrap();
            tokio::time::sleep(DEADLINE).await;
            compute(DEADLINE).await;
            Ok(())
        }
    });
    let stop = CancellationToken::new();
    // One runs, and as one worker is idle, it has fetched what waits behind it.
    let source = Box::new(Once(Arc::clone(&broker), 5, Some("k")));
    let options = ConsumeOptions::default()
        .with_concurrency(2)
        .with_handler_timeout(DEADLINE * 4);
    let watch = async {
        all.recv().await.unwrap();
        tokio::time::sleep(DEADLINE * 3).await;
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(consumer(route, options).run(source, stop.clone()), watch);
    ended.unwrap();
    assert_eq!(broker.until.lock().unwrap().len(), 5);
    assert!(all.try_recv().is_err(), "an event of others is run too");
    assert_eq!((broker.settled.load(SeqCst), broker.late.load(SeqCst)), (0, 1));
}

#[test]
fn what_waits_behind_an_event_that_is_taken_out_comes_in_its_place() {
    let acker: Arc<dyn Acker> = Arc::new(Broker::default());
    let give = |(which, key): (u64, &str)| {
        let event = Event::builder(topic()).key(key).payload(which.to_string());
        Delivery::new(
            event.build().unwrap(),
            1,
            crate::event::Lease::new(Arc::clone(&acker), which),
        )
    };
    let batch: Vec<_> = [(0, "a"), (1, "b"), (2, "a"), (3, "a"), (4, "b"), (5, "c")]
        .map(give)
        .into();
    let lost = [0, 2, 4, 5].map(|at: usize| batch[at].lease().clone());
    let mut feed = Feed::new(1);
    feed.push(batch);
    assert_eq!(feed.take(&lost).len(), 4);
    let number = |delivery: Delivery| String::from_utf8(delivery.event().payload().to_vec()).unwrap();
    let mut left: Vec<_> = std::iter::from_fn(|| feed.pop(0).map(number)).collect();
    left.sort();
    assert_eq!(left, ["1", "3"]);
    for key in ["a", "b", "c"] {
        assert!(feed.finish(0, &key.into()).is_none());
        feed.push(vec![give((6, key))]);
        assert!(feed.pop(0).is_some(), "{key} is not free");
    }
}
