//! Starts that fail: one clear line, and the exit code that says whose fault it is.

use std::net::TcpListener;

use crate::support::{Ended, Process, Program};

const CANARY: &str = "canary-7f3a";

#[tokio::test]
async fn f_life_04_a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for port in ["CQI_SERVER_PORT", "CQI_METRICS_PORT"] {
        let ended = failed(&[(port, &address.port().to_string())], 1).await;
        let named = |line: &&str| line.contains(&address.to_string()) && line.contains("already in use");
        assert!(
            ended.said().lines().any(|line| named(&line)),
            "{port}: {}",
            ended.said()
        );
    }
}

#[tokio::test]
async fn a_database_file_that_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.db");
    std::fs::write(
        &text,
        "no database at all, but long enough to look at: ".repeat(100),
    )
    .unwrap();
    let missing = folder.path().join("missing").join("positions.db");
    for path in [folder.path(), &missing, &text] {
        let path = path.to_str().unwrap();
        let ended = failed(&[("CQI_DATABASE_URL", &format!("sqlite://{path}"))], 1).await;
        one_line(&ended, &["database", path]);
    }
}

#[tokio::test]
async fn bus_6_an_unknown_backend_is_named_without_its_secret() {
    let url = format!("smoke-signals://user:{CANARY}@hill");
    let ended = failed(&[("CQI_EVENT_BUS_URL", &url)], 2).await;
    one_line(&ended, &["`smoke-signals` is unknown", "memory"]);
}

#[tokio::test]
async fn f_bus_08_a_server_that_cannot_be_reached_is_named_in_one_line_without_its_secret() {
    for (variable, backend) in [
        ("CQI_CACHE_URL", "redis"),
        ("CQI_EVENT_BUS_URL", "nats"),
        ("CQI_EVENT_BUS_URL", "kafka"),
        ("CQI_DATABASE_URL", "postgres"),
        ("CQI_REGISTRY_URL", "redis"),
    ] {
        // Nobody listens on port 1.
        let (user, path) = match backend {
            "kafka" => (String::new(), ""),
            "nats" => (format!("user:{CANARY}@"), ""),
            _ => (format!("user:{CANARY}@"), "/0"),
        };
        let url = format!("{backend}://{user}127.0.0.1:1{path}");
        let ended = failed(&[(variable, &url)], 1).await;
        one_line(&ended, &["127.0.0.1:1"]);
    }
}

/// Starts one that must end by itself with this code, having said no secret.
pub(crate) async fn failed(settings: &[(&str, &str)], code: i32) -> Ended {
    let ended = Process::spawn(Program::Quickstart, settings).ended().await;
    assert_eq!(ended.code, Some(code), "{settings:?}: {}", ended.said());
    assert!(!ended.said().contains("canary"), "{settings:?}: {}", ended.said());
    ended
}

/// Asserts that standard error is one line with all of this.
pub(crate) fn one_line(ended: &Ended, parts: &[&str]) {
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.said());
    for part in parts {
        assert!(ended.stderr.contains(part), "no {part} in {}", ended.said());
    }
}
