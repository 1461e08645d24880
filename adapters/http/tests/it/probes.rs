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

use crate::support::{Client, PATIENCE, options, serve};

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

const WELL: (u16, &str) = (200, r#"{"status":"healthy"}"#);
const UNWELL: (u16, &str) = (503, r#"{"status":"unhealthy"}"#);

/// HLT-11: what orchestrators and load balancers ask.
#[tokio::test]
async fn hlt_4_5_h_23_public_probes_tell_up_or_down_and_no_more() {
    let (health, well) = health();
    let (address, _handle) = serve(probe_router(&health), options()).await;
    let mut client = Client::connect(address).await;
    for path in ["/health", "/health/live", "/health/ready", "/health/startup"] {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), WELL, "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let answer = client.get("/metrics").await;
    assert_eq!(answer.status, 404, "metrics are for the admin listener");
    well.store(false, Ordering::SeqCst);
    // An outcome is kept for a second.
    let unwell = async {
        while client.get("/health").await.status == 200 {}
        client.get("/health/ready").await
    };
    let answer = tokio::time::timeout(PATIENCE, unwell).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), UNWELL);
    health.drain();
    let answer = client.get("/health/ready").await;
    assert_eq!((answer.status, answer.body.as_str()), UNWELL);
    let answer = client.get("/health/live").await;
    assert_eq!((answer.status, answer.body.as_str()), WELL);
}

#[tokio::test]
async fn hlt_7_ml_hlt_2_h_23_the_admin_listener_has_details_and_metrics() {
    let (health, well) = health();
    well.store(false, Ordering::SeqCst);
    let router = admin_router(&health, "/metrics", || "requests_total 1\n".to_owned());
    let (address, _handle) = serve(router, options()).await;
    let mut client = Client::connect(address).await;
    for path in ["/health", "/health/ready"] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, 503);
        assert_eq!(
            answer.body,
            r#"{"status":"unhealthy","checks":{"cache":"error: connection refused"}}"#
        );
    }
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
