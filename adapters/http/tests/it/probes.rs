//! The probes and the metrics.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use cqi_core::{
    Error,
    health::{Health, check_fn},
};
use cqi_http::{admin_router, probe_router};

use crate::support::{Client, options, serve};

/// A health with one check, and the switch that makes it fail.
fn health() -> (Health, Arc<AtomicBool>) {
    let health = Health::new();
    let well = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&well);
    let check = check_fn("cache", move || {
        let well = asked.load(Ordering::SeqCst);
        async move {
            if well {
                Ok(())
            } else {
                Err(Error::temporary("connection refused"))
            }
        }
    });
    health.register_checker("cache", Arc::new(check)).unwrap();
    (health, well)
}

#[tokio::test]
async fn hlt_4_5_7_ml_hlt_2_probes_answer_200_or_503_with_a_report() {
    let (health, _) = health();
    let (address, _handle) = serve(probe_router(&health), options()).await;
    let mut client = Client::connect(address).await;
    let well = r#"{"status":"healthy","checks":{"cache":"ok"}}"#;
    let answer = client.get("/health/ready").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, well));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(client.get("/health/startup").await.status, 200);
    assert_eq!(
        client.get("/health").await.status,
        404,
        "details are for the admin listener"
    );
    assert_eq!(
        client.get("/metrics").await.status,
        404,
        "metrics are for the admin listener"
    );
    health.drain();
    let answer = client.get("/health/ready").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.body,
        r#"{"status":"unhealthy","checks":{"service":"error: shutting down"}}"#
    );
    let answer = client.get("/health/live").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"status":"healthy"}"#)
    );
}

#[tokio::test]
async fn hlt_7_h_23_the_admin_listener_has_details_and_metrics() {
    let (health, well) = health();
    well.store(false, Ordering::SeqCst);
    let router = admin_router(&health, "/metrics", || "requests_total 1\n".to_owned());
    let (address, _handle) = serve(router, options()).await;
    let mut client = Client::connect(address).await;
    let answer = client.get("/health").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.body,
        r#"{"status":"unhealthy","checks":{"cache":"error: connection refused"}}"#
    );
    let answer = client.get("/metrics").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "requests_total 1\n"));
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    assert_eq!(client.get("/health/live").await.status, 200);
}
