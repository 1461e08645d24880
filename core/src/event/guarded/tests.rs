use std::sync::Mutex;

use tokio::time::Instant;

use super::*;
use crate::{
    Code, Error,
    event::{Durability, Order},
    name::topic_name,
    policy::Retry,
};

const DEADLINE: Duration = Duration::from_secs(20);
/// How long joining a group takes.
const JOINING: Duration = Duration::from_secs(25);

/// Answers as the script says, call for call, then with `Ok`. Keeps the ids of what it took, in order.
#[derive(Debug, Default)]
struct Scripted {
    /// What becomes of each event of a call; those that are not named are taken.
    script: Mutex<Vec<Vec<Error>>>,
    stored: Mutex<Vec<String>>,
    calls: Mutex<Vec<usize>>,
    hangs: bool,
}

impl Scripted {
    fn take(&self, events: Vec<Event>) -> Vec<Result<()>> {
        self.calls.lock().unwrap().push(events.len());
        let mut script = self.script.lock().unwrap();
        let errors = if script.is_empty() {
            Vec::new()
        } else {
            script.remove(0)
        };
        let mut errors = errors.into_iter();
        let each = events.into_iter().map(|event| match errors.next() {
            Some(error) => Err(error),
            None => {
                self.stored.lock().unwrap().push(event.id().to_string());
                Ok(())
            }
        });
        each.collect()
    }
}

#[async_trait]
impl EventBus for Scripted {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durability: Durability::Memory,
            order: Order::PerKey,
            delayed_redelivery: true,
            dedup_window: None,
            max_payload: 1024,
            replay: false,
        }
    }

    async fn publish(&self, event: Event) -> Result<()> {
        self.publish_batch(vec![event]).await.remove(0)
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Vec<Result<()>> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        self.take(events)
    }

    async fn subscribe(&self, _: Subscription) -> Result<Box<dyn Deliveries>> {
        tokio::time::sleep(JOINING).await;
        Err(Error::unsupported("subscribing"))
    }

    async fn ping(&self) -> Result<()> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

fn temporary() -> Error {
    Error::temporary("connection refused")
}

/// Publishes three events of one key in a batch.
async fn publish(bus: Scripted) -> (Arc<Scripted>, Vec<Result<()>>) {
    let bus = Arc::new(bus);
    let port: Arc<dyn EventBus> = Arc::<Scripted>::clone(&bus);
    let guarded = GuardedBus::new(port, Policy::new(DEADLINE, Retry::default()));
    let event = |id: &str| {
        let event = Event::builder(topic_name("asset_created").unwrap()).key("k");
        event
            .id(crate::event::EventId::parse(id).unwrap())
            .build()
            .unwrap()
    };
    let results = guarded.publish_batch(["1", "2", "3"].map(event).into()).await;
    (bus, results)
}

fn scripted(script: impl Into<Vec<Vec<Error>>>) -> Scripted {
    Scripted {
        script: Mutex::new(script.into()),
        ..Scripted::default()
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_of_a_batch_is_repeated_in_its_order() {
    let none = vec![temporary(); 3];
    let (bus, results) = publish(scripted([none, vec![temporary(); 3]])).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(*bus.stored.lock().unwrap(), ["1", "2", "3"]);
    assert_eq!(*bus.calls.lock().unwrap(), [3, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn only_what_failed_for_a_passing_reason_is_repeated() {
    let too_large = Error::invalid_input("too large").with_code(Code::TooLarge);
    let first = vec![too_large.clone(), temporary()];
    let (bus, results) = publish(scripted([first])).await;
    assert_eq!(results[0].as_ref().unwrap_err().code(), too_large.code());
    assert!(results[1].is_ok() && results[2].is_ok(), "{results:?}");
    assert_eq!(*bus.stored.lock().unwrap(), ["3", "2"]);
    assert_eq!(*bus.calls.lock().unwrap(), [3, 1]);
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_batch_that_may_be_stored_stays_so() {
    let cut = temporary().maybe_applied();
    let script = [vec![cut, temporary()], vec![Error::permanent("refused"); 2]];
    let (_, results) = publish(scripted(script)).await;
    let unknown: Vec<_> = results.iter().map(|result| result.as_ref().err()).collect();
    let unknown = unknown
        .into_iter()
        .map(|error| error.is_some_and(Error::may_have_applied));
    assert_eq!(unknown.collect::<Vec<_>>(), [true, false, false]);
    assert!(results[0].as_ref().is_err_and(Error::is_permanent));
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_one_deadline_for_all_attempts() {
    let started = Instant::now();
    let hangs = Scripted {
        hangs: true,
        ..Scripted::default()
    };
    let (bus, results) = publish(hangs).await;
    assert_eq!(started.elapsed().as_secs(), DEADLINE.as_secs());
    assert!(bus.stored.lock().unwrap().is_empty());
    for error in results.into_iter().map(Result::unwrap_err) {
        assert_eq!(
            (error.code(), error.may_have_applied()),
            (Some(Code::Timeout), true)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn joining_a_group_may_take_longer_than_publishing() {
    let guarded = GuardedBus::new(
        Arc::new(Scripted::default()),
        Policy::new(DEADLINE, Retry::default()),
    );
    let group = crate::name::Group::parse("g").unwrap();
    let subscription = Subscription::new(topic_name("asset_created").unwrap(), group);
    let error = guarded.subscribe(subscription).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Unsupported), "{error}");
}

/// BUS-16, BUS-20: whoever asks has an answer within 5 s, whatever the policy's deadline is.
#[tokio::test(start_paused = true)]
async fn bus_16_20_a_broker_that_hangs_fails_its_check_within_5_s() {
    let hanging = Scripted {
        hangs: true,
        ..Scripted::default()
    };
    let guarded = GuardedBus::new(Arc::new(hanging), Policy::new(DEADLINE, Retry::default()));
    let started = Instant::now();
    let error = BusChecker::new(Arc::new(guarded)).check().await.unwrap_err();
    assert_eq!(
        (started.elapsed().as_secs(), error.code()),
        (5, Some(Code::Timeout))
    );
}
