//! How often callers may be wrong.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::refused;
use crate::{Code, Error, Result, peers::client_of, secret::Secret};

const WINDOW: Duration = Duration::from_secs(60);
/// The most counts that are kept, some 60 bytes each.
const MAX_COUNTS: usize = 100_000;
/// The longest id of a credential, in bytes.
const MAX_ID: usize = 64;

/// Limits wrong credentials, so many a minute. One for a server, or for several together.
///
/// - Of one [client](client_of): further wrong ones are answered with `Temporary`/`RateLimited` in place of
///   `Unauthorized`. Right ones pass, so that nobody is kept out by others behind the same address.
/// - Of one client for one id: further ones are refused unasked, right or wrong, until the minute is over.
/// - For one id, of all clients together: from then on each of them may be wrong for it once a minute only. A client that
///   was not wrong passes with the right one at any time, so guessing locks nobody out who calls from elsewhere.
///
/// The id is what stands before the dot of a credential that has exactly one, as keys made as `ID.SECRET` have. Other
/// credentials have none: the key id of a token is that of its issuer's key, which all its users share. For an id the same
/// credential counts once as long as no other comes between, so a client with an outdated key locks out nobody beside it.
///
/// What is kept is bounded, and is hashes with a secret of the process's: nothing of a credential can be read there. When
/// there is no more room, an arbitrary count is forgotten.
#[derive(Debug)]
pub(super) struct Failures {
    /// 0 for no limit.
    most: u32,
    hashes: RandomState,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    by: HashMap<u64, Count>,
    /// When those that are over were last thrown away.
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Count {
    ends: Instant,
    wrong: u32,
    /// The hash of the last wrong credential.
    last: u64,
}

/// What is counted; its hash is the key.
#[derive(Hash)]
enum Of<'a> {
    Client(IpAddr),
    Id(&'a str),
    Pair(IpAddr, &'a str),
}

impl Failures {
    pub(super) fn new(most_a_minute: u32) -> Self {
        Self {
            most: most_a_minute,
            hashes: RandomState::new(),
            counts: Mutex::default(),
        }
    }

    /// Whether the credential may be looked at.
    ///
    /// # Errors
    /// `Temporary`/`RateLimited` with the time to wait.
    pub(super) fn admit(&self, address: IpAddr, credential: &Secret) -> Result<()> {
        let Some(id) = id(credential).filter(|_| self.most > 0) else {
            return Ok(());
        };
        let now = Instant::now();
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let live = |of| counts.by.get(&self.hash(of)).filter(|count| count.ends > now);
        let Some(pair) = live(Of::Pair(client_of(address), id)) else {
            return Ok(());
        };
        let attacked = live(Of::Id(id)).is_some_and(|count| count.wrong > self.most);
        let most = if attacked { 1 } else { self.most };
        if pair.wrong < most {
            return Ok(());
        }
        Err(too_many(pair.ends - now))
    }

    /// Counts a wrong credential, or something in place of one, and gives the error it is answered with.
    pub(super) fn wrong(&self, address: IpAddr, credential: Option<&Secret>) -> Error {
        if self.most == 0 {
            return refused();
        }
        let (client, now) = (client_of(address), Instant::now());
        let given = credential.map(|credential| self.hash(credential.expose()));
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(id), Some(given)) = (credential.and_then(id), given) {
            for of in [Of::Id(id), Of::Pair(client, id)] {
                let count = counts.of(self.hash(of), now);
                if count.wrong == 0 || count.last != given {
                    (count.wrong, count.last) = (count.wrong.saturating_add(1), given);
                }
            }
        }
        let count = counts.of(self.hash(Of::Client(client)), now);
        count.wrong = count.wrong.saturating_add(1);
        if count.wrong <= self.most {
            return refused();
        }
        too_many(count.ends - now)
    }

    fn hash(&self, of: impl Hash) -> u64 {
        self.hashes.hash_one(of)
    }
}

impl Counts {
    fn of(&mut self, key: u64, now: Instant) -> &mut Count {
        if self.by.len() >= MAX_COUNTS && !self.by.contains_key(&key) {
            self.make_room(now);
        }
        let fresh = || Count {
            ends: now + WINDOW,
            wrong: 0,
            last: 0,
        };
        let count = self.by.entry(key).or_insert_with(fresh);
        if count.ends <= now {
            *count = fresh();
        }
        count
    }

    fn make_room(&mut self, now: Instant) {
        // At most once a second: it looks at all of them.
        if self
            .swept
            .is_none_or(|swept| now - swept >= Duration::from_secs(1))
        {
            self.swept = Some(now);
            self.by.retain(|_, count| count.ends > now);
        }
        if self.by.len() >= MAX_COUNTS
            && let Some(any) = self.by.keys().next().copied()
        {
            self.by.remove(&any);
        }
    }
}

/// The public part of a credential that has one.
fn id(credential: &Secret) -> Option<&str> {
    let (id, secret) = credential.expose().split_once('.')?;
    ((1..=MAX_ID).contains(&id.len()) && !secret.contains('.')).then_some(id)
}

fn too_many(wait: Duration) -> Error {
    Error::temporary("too many wrong credentials")
        .with_code(Code::RateLimited)
        .with_retry_after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "192.0.2.1";

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    /// The seconds to wait, if this is refused: unasked, or because it is wrong.
    fn guess(failures: &Failures, from: &str, credential: &str) -> Option<u64> {
        let credential = credential.into();
        let error = match failures.admit(at(from), &credential) {
            Ok(()) => failures.wrong(at(from), Some(&credential)),
            Err(error) => error,
        };
        assert_eq!(error.is_unauthorized(), error.code() != Some(Code::RateLimited));
        error.retry_after().map(|wait| wait.as_secs())
    }

    fn passes(failures: &Failures, from: &str, credential: &str) -> bool {
        failures.admit(at(from), &credential.into()).is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_25_many_ids_from_one_client_are_limited_and_a_right_one_passes() {
        let failures = Failures::new(3);
        let guesses = (0..1000).map(|n| guess(&failures, "2001:db8::1", &format!("id{n}.secret")));
        let limited: Vec<_> = guesses.collect();
        assert_eq!((&limited[..3], limited[3]), (&[None; 3][..], Some(60)));
        assert!(limited[3..].iter().all(Option::is_some));
        assert!(
            guess(&failures, "2001:db8::2", "neighbour").is_some(),
            "the same /64"
        );
        assert_eq!(guess(&failures, "2001:db8:0:1::1", "elsewhere"), None);
        assert!(passes(&failures, "2001:db8::2", "billing.right"));
        tokio::time::advance(WINDOW).await;
        assert_eq!(guess(&failures, "2001:db8::1", "id.secret"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_25_one_id_from_one_client_is_refused_unasked_and_only_there() {
        let failures = Failures::new(3);
        let guesses = [0, 1, 2].map(|n| guess(&failures, HERE, &format!("billing.{n}")));
        assert_eq!(guesses, [None; 3]);
        tokio::time::advance(Duration::from_secs(20)).await;
        let refusal = failures.admit(at(HERE), &"billing.right".into()).unwrap_err();
        assert_eq!(
            (refusal.code(), refusal.http_status()),
            (Some(Code::RateLimited), 429)
        );
        assert_eq!(refusal.retry_after(), Some(Duration::from_secs(40)));
        assert!(passes(&failures, HERE, "orders.right"), "another id");
        assert!(passes(&failures, "192.0.2.2", "billing.right"), "another client");
        tokio::time::advance(Duration::from_secs(40)).await;
        assert!(passes(&failures, HERE, "billing.right"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_25_one_id_from_many_clients_is_limited_and_a_right_one_from_elsewhere_passes() {
        let failures = Failures::new(3);
        let address = |n: u32| IpAddr::from(n.to_be_bytes()).to_string();
        for n in 0..1000 {
            assert_eq!(guess(&failures, &address(n), &format!("billing.{n}")), None);
        }
        let again = (0..1000).filter(|n| guess(&failures, &address(*n), "billing.x").is_some());
        assert_eq!(again.count(), 1000, "each once");
        assert!(passes(&failures, HERE, "billing.right"));
        assert_eq!(guess(&failures, HERE, "billing.x"), None);
        assert!(!passes(&failures, HERE, "billing.y"), "a client that was wrong");
    }

    #[tokio::test(start_paused = true)]
    async fn a_25_an_outdated_key_locks_nobody_out() {
        let failures = Failures::new(3);
        for _ in 0..1000 {
            guess(&failures, HERE, "billing.outdated");
        }
        assert!(passes(&failures, HERE, "billing.right"));
        assert!(
            guess(&failures, HERE, "billing.outdated").is_some(),
            "it is limited"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_25_tokens_and_plain_keys_have_no_id() {
        let failures = Failures::new(1);
        for credential in [
            "plain",
            "header.claims.signature",
            ".x",
            &format!("{}.x", "i".repeat(65)),
        ] {
            for n in 0..10 {
                guess(&failures, HERE, &format!("{credential}{n}"));
            }
            assert!(passes(&failures, HERE, credential), "{credential}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_25_what_is_kept_is_bounded() {
        let failures = Failures::new(3);
        let kept = || failures.counts.lock().unwrap().by.len();
        for n in 0..60_000u32 {
            let from = IpAddr::from(n.to_be_bytes()).to_string();
            guess(&failures, &from, &format!("id{n}.x"));
        }
        assert_eq!(kept(), MAX_COUNTS);
        for n in 0..4 {
            guess(&failures, HERE, &format!("billing.{n}"));
        }
        assert!(
            guess(&failures, HERE, "billing.x").is_some(),
            "new ones count still"
        );
        tokio::time::advance(WINDOW).await;
        guess(&failures, "198.51.100.1", "orders.x");
        assert_eq!(kept(), 3, "what is over was forgotten");
    }

    #[test]
    fn zero_is_no_limit() {
        let failures = Failures::new(0);
        assert!((0..100).all(|n| guess(&failures, HERE, &format!("billing.{n}")).is_none()));
    }
}
