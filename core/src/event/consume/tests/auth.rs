//! What becomes of events whose publisher is not known: the settlement table, and what a dead letter must not hold.

use async_trait::async_trait;

use super::*;
use crate::{
    auth::{AuthContext, AuthType, Verifier, current, refused},
    secret::Secret,
};

/// Knows `canary-good`; cannot tell who `canary-later` is the first two times.
#[derive(Debug, Default)]
struct Known(AtomicUsize);

#[async_trait]
impl Verifier for Known {
    async fn verify(&self, credential: &Secret) -> Result<AuthContext> {
        match credential.expose() {
            "canary-later" if self.0.fetch_add(1, SeqCst) < 2 => {
                Err(Error::temporary("the key server is down"))
            }
            "canary-good" | "canary-later" => Ok(AuthContext::new(AuthType::ApiKey).with_service("billing")),
            _ => Err(refused()),
        }
    }
}

/// A subscriber with the layer, and the calls of its handler, which refuses 13.
async fn start() -> (Running, mpsc::Receiver<(u32, u32)>) {
    let (router, calls) = reporting(|number, _| {
        assert_eq!(current()?.service_id.as_deref(), Some("billing"));
        match number {
            13 => Err(Error::permanent("never")),
            _ => Ok(()),
        }
    });
    let router = router.layer(middleware::Authenticate::new(Arc::new(Known::default())));
    (Running::start(router, ConsumeOptions::default()).await, calls)
}

async fn publish(running: &Running, number: &str, credential: Option<&str>) {
    let mut event = Event::builder(topic())
        .content_type("application/json")
        .payload(number.to_owned())
        .header("tenant", "acme")
        .build()
        .unwrap();
    if let Some(credential) = credential {
        event = event.with_credential(&credential.into()).unwrap();
    }
    running.bus.publish(event).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn auth_11_an_event_without_a_valid_credential_is_a_dead_letter_at_once() {
    let (running, mut calls) = start().await;
    let mut letters = running.dead_letters().await;
    for credential in [None, Some("canary-wrong")] {
        publish(&running, "1", credential).await;
        let letter = letters.next(1).await.unwrap().unwrap().remove(0);
        let headers = letter.event().headers();
        assert_eq!(headers.get(header::ERROR_CODE), Some("UNAUTHORIZED"));
        assert_eq!(headers.get(header::ATTEMPTS), Some("1"));
        assert_eq!(
            headers.get(header::ERROR),
            Some("event_bus.authenticate: credentials are missing or invalid")
        );
        letter.ack().await.unwrap();
    }
    publish(&running, "2", Some("canary-good")).await;
    assert_eq!(
        calls.recv().await.unwrap(),
        (2, 1),
        "no other has reached the handler"
    );
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn auth_11_no_dead_letter_holds_a_credential() {
    let (running, mut calls) = start().await;
    let mut letters = running.dead_letters().await;
    publish(&running, "13", Some("canary-good")).await;
    publish(&running, "1", Some("canary-wrong")).await;
    for _ in 0..2 {
        let letter = letters.next(1).await.unwrap().unwrap().remove(0);
        let headers = letter.event().headers();
        assert_eq!(headers.get("tenant"), Some("acme"), "the others stay");
        assert!(
            headers
                .iter()
                .all(|(name, value)| name != "authorization" && !value.contains("canary"))
        );
        letter.ack().await.unwrap();
    }
    assert_eq!(calls.recv().await.unwrap(), (13, 1));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_26_an_event_that_cannot_be_judged_is_redelivered() {
    let (running, mut calls) = start().await;
    publish(&running, "1", Some("canary-later")).await;
    assert_eq!(calls.recv().await.unwrap(), (1, 3));
    running.stop().await.unwrap();
}
