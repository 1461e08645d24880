//! Renewal, under a clock that stands still.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use cqi_core::{observe::Observer, trace::TraceContext};
use jsonwebtoken::Algorithm::EdDSA;
use tokio::time::{advance, sleep};

use super::*;
use crate::{KeySource, load_public_key_from_pem};

/// An issuer whose answers a test sets.
#[derive(Debug, Default)]
struct Issuer {
    /// The ids of its keys; none when it is down.
    ids: Mutex<Option<Vec<&'static str>>>,
    fetches: AtomicU64,
    /// How long an answer takes.
    slow: Mutex<Duration>,
    /// Whether the fetches that an observer was told of brought keys.
    observed: Mutex<Vec<bool>>,
}

impl Issuer {
    fn with(ids: &[&'static str]) -> Arc<Self> {
        let issuer = Self::default();
        issuer.publishes(ids);
        Arc::new(issuer)
    }

    fn publishes(&self, ids: &[&'static str]) {
        *self.ids.lock().unwrap() = Some(ids.to_vec());
    }

    fn goes_down(&self) {
        *self.ids.lock().unwrap() = None;
    }

    fn fetches(&self) -> u64 {
        self.fetches.load(Ordering::Relaxed)
    }

    async fn start(self: &Arc<Self>) -> Result<CachedKeys> {
        self.start_with(JwksOptions::default()).await
    }

    async fn start_with(self: &Arc<Self>, jwks: JwksOptions) -> Result<CachedKeys> {
        let issuer = Arc::clone(self);
        let mut options = options().with_observer(Arc::<Self>::clone(self));
        options.jwks = jwks;
        options.validate().unwrap();
        CachedKeys::start(move || Arc::clone(&issuer).fetch(), Arc::new(options)).await
    }

    async fn fetch(self: Arc<Self>) -> Result<KeySet> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let slow = *self.slow.lock().unwrap();
        sleep(slow).await;
        let ids = self.ids.lock().unwrap().clone();
        let ids = ids.ok_or_else(|| Error::temporary("the issuer is down"))?;
        let key = load_public_key_from_pem(include_str!("../../tests/it/keys/ed25519.pub.pem"))?;
        let keys = ids.into_iter().map(|id| key.clone().with_id(id)).collect();
        Ok(KeySet::new(keys, &options()))
    }
}

impl Observer for Issuer {
    fn observe(&self, observation: &Observation<'_>) {
        if let Observation::KeysFetched { issuer, error } = observation {
            assert_eq!(*issuer, "issuer");
            self.observed.lock().unwrap().push(error.is_none());
        }
    }

    fn current_trace(&self) -> Option<TraceContext> {
        None
    }
}

fn options() -> JwtOptions {
    JwtOptions::new(KeySource::Given(Vec::new()), "issuer", "audience")
}

/// Whether a key of this id is known now.
async fn knows(keys: &CachedKeys, id: &str) -> Result<bool> {
    let set = keys.find(Some(id), EdDSA).await?;
    Ok(set.fitting(Some(id), EdDSA).next().is_some())
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_19_a_key_taken_back_is_unknown_after_the_next_renewal() {
    let issuer = Issuer::with(&["old", "stays"]);
    let keys = issuer.start().await.unwrap();
    issuer.publishes(&["new", "stays"]);
    sleep(SECOND * 299).await;
    assert!(knows(&keys, "old").await.unwrap());
    sleep(SECOND * 2).await;
    assert!(!knows(&keys, "old").await.unwrap());
    assert!(knows(&keys, "stays").await.unwrap());
    assert!(knows(&keys, "new").await.unwrap());
    assert_eq!(issuer.fetches(), 2, "nobody asked out of turn");
}

#[tokio::test(start_paused = true)]
async fn ml_auth_7_keys_that_are_never_renewed_are_fetched_when_one_is_unknown() {
    let issuer = Issuer::with(&["old"]);
    let never = JwksOptions {
        refresh: Duration::MAX,
        keep: Duration::MAX,
        ..JwksOptions::default()
    };
    let keys = issuer.start_with(never).await.unwrap();
    sleep(SECOND * 1000).await;
    keys.checker().check().unwrap();
    issuer.publishes(&["old", "new"]);
    assert!(knows(&keys, "new").await.unwrap());
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn ml_auth_7_a_new_key_is_fetched_when_it_is_first_seen() {
    let issuer = Issuer::with(&["old"]);
    let keys = issuer.start().await.unwrap();
    sleep(SECOND * 40).await;
    issuer.publishes(&["old", "new"]);
    assert!(knows(&keys, "new").await.unwrap());
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_05_ten_thousand_unknown_ids_cost_one_fetch_per_cooldown() {
    let issuer = Issuer::with(&["good"]);
    let keys = Arc::new(issuer.start().await.unwrap());
    *issuer.slow.lock().unwrap() = SECOND;
    for round in 1..=3 {
        sleep(SECOND * 31).await;
        let mut callers = JoinSet::new();
        for number in 0..10_000 {
            let keys = Arc::clone(&keys);
            callers.spawn(async move { knows(&keys, &format!("{round}-{number}")).await });
        }
        // While they wait, a known key needs no fetch.
        tokio::task::yield_now().await;
        let before = Instant::now();
        assert!(knows(&keys, "good").await.unwrap());
        assert_eq!(before.elapsed(), Duration::ZERO);
        while let Some(known) = callers.join_next().await {
            assert!(!known.unwrap().unwrap(), "refused, not undecided");
        }
        assert_eq!(issuer.fetches(), 1 + round);
        assert!(!knows(&keys, "one more").await.unwrap());
        assert_eq!(issuer.fetches(), 1 + round, "within the cooldown");
    }
}

#[tokio::test(start_paused = true)]
async fn a_05_a_caller_who_goes_away_does_not_take_the_fetch_along() {
    let issuer = Issuer::with(&["old"]);
    let keys = issuer.start().await.unwrap();
    *issuer.slow.lock().unwrap() = SECOND;
    sleep(SECOND * 31).await;
    issuer.publishes(&["old", "new"]);
    let impatient = timeout(SECOND / 2, knows(&keys, "new")).await;
    assert!(impatient.is_err());
    assert!(knows(&keys, "new").await.unwrap());
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_18_old_keys_are_used_for_a_bounded_time_and_then_nobody_is_let_in() {
    let issuer = Issuer::with(&["good"]);
    let keys = issuer.start().await.unwrap();
    issuer.goes_down();
    sleep(SECOND * 301).await;
    assert!(
        keys.checker().check().unwrap_err().is_temporary(),
        "operators see it before callers do"
    );
    assert!(knows(&keys, "good").await.unwrap());
    assert!(
        knows(&keys, "other").await.unwrap_err().is_temporary(),
        "a_26 undecided"
    );
    sleep(SECOND * 3297).await;
    assert!(knows(&keys, "good").await.unwrap());
    sleep(SECOND * 3).await;
    let error = knows(&keys, "good").await.unwrap_err();
    assert!(
        error.is_temporary() && error.chain().to_string().contains("is down"),
        "{error}"
    );

    issuer.publishes(&["good"]);
    sleep(SECOND * 31).await;
    assert!(knows(&keys, "good").await.unwrap(), "it recovers by itself");
    assert!(keys.checker().check().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_18_an_issuer_that_is_down_is_asked_once_per_cooldown() {
    let issuer = Issuer::with(&["good"]);
    let keys = issuer.start().await.unwrap();
    issuer.goes_down();
    sleep(SECOND * 301).await;
    let before = issuer.fetches();
    for _ in 0..300 {
        sleep(SECOND).await;
        let _ = knows(&keys, "other").await;
    }
    assert!(issuer.fetches() - before <= 10, "{}", issuer.fetches() - before);
}

#[tokio::test(start_paused = true)]
async fn a_18_every_fetch_is_observed_so_that_operators_see_the_keys_grow_old() {
    let issuer = Issuer::with(&["good"]);
    let keys = issuer.start().await.unwrap();
    issuer.goes_down();
    sleep(SECOND * 340).await;
    assert_eq!(*issuer.observed.lock().unwrap(), [true, false, false]);
    issuer.publishes(&["good"]);
    sleep(SECOND * 30).await;
    assert_eq!(*issuer.observed.lock().unwrap(), [true, false, false, true]);
    drop(keys);
    issuer.goes_down();
    issuer.start().await.unwrap_err();
    assert_eq!(
        issuer.observed.lock().unwrap().last(),
        Some(&false),
        "at the start too"
    );
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_hangs_keeps_nobody_waiting_for_ever() {
    let issuer = Issuer::with(&["good"]);
    let keys = issuer.start().await.unwrap();
    *issuer.slow.lock().unwrap() = SECOND * 100_000;
    advance(SECOND * 31).await;
    let before = Instant::now();
    assert!(knows(&keys, "other").await.unwrap_err().is_temporary());
    assert!(before.elapsed() <= SECOND * 11);
    assert!(knows(&keys, "good").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn without_a_first_set_there_is_no_start() {
    let issuer = Arc::new(Issuer::default());
    assert!(issuer.start().await.unwrap_err().is_temporary());
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_verifier() {
    let issuer = Issuer::with(&["good"]);
    let keys = issuer.start().await.unwrap();
    drop(keys);
    sleep(SECOND * 1000).await;
    assert_eq!(issuer.fetches(), 1);
    assert_eq!(Arc::strong_count(&issuer), 1);
}
