//! Prometheus itself: its checker, and its scrape.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    KEY, KEYS,
    support::{Process, ask, position, post, until},
    with_token,
};

fn installed(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let there = found.is_ok_and(|status| status.success());
    if !there {
        cqi_testkit::fixture::skip(&format!(
            "{program} is not installed: run scripts/servers, which installs it"
        ));
    }
    there
}

#[tokio::test]
async fn met_2_promtool_has_nothing_to_object_to() {
    if !installed("promtool") {
        return;
    }
    let service = busy().await;
    let metrics = ask(service.admin(), "GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n")
        .await
        .body;
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
    service.stop().await;
}

/// Ends Prometheus with the test.
struct Prometheus(std::process::Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn met_1_2_prometheus_scrapes_and_answers_a_query() {
    if !installed("prometheus") {
        return;
    }
    let service = busy().await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    let scrape = format!(
        "scrape_configs: [{{job_name: cqi, scrape_interval: 200ms, scrape_timeout: 200ms, \
         static_configs: [{{targets: ['{}']}}]}}]\n",
        service.admin()
    );
    std::fs::write(&config, scrape).unwrap();
    // It cannot be asked for a free port; one that was free a moment ago nearly always still is.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.path().join("data").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _prometheus = Prometheus(child);
    let query = "GET /api/v1/query?query=positions_http_request_count_total HTTP/1.0\r\nhost: test\r\n\r\n";
    let seen = until("a scraped counter", || {
        let answer = get(address, query).map_err(|error| error.to_string())?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let answer: Value = serde_json::from_str(body).map_err(|error| format!("{error}: {answer}"))?;
        let found = answer["data"]["result"].as_array().into_iter().flatten();
        let post = found
            .into_iter()
            .find(|series| series["metric"]["path"] == "/api/positions")
            .cloned();
        post.ok_or_else(|| answer.to_string())
    })
    .await;
    assert_eq!(
        (&seen["metric"]["status_code"], &seen["value"][1]),
        (&Value::from("201"), &Value::from("1"))
    );
    service.stop().await;
}

/// A service that has answered something.
async fn busy() -> Process {
    let service = Process::full(&[KEYS]).await;
    let answer = ask(service.http(), with_token(&post(&position("p", "a", 1)), KEY)).await;
    assert_eq!(answer.status, 201);
    service.line_with("position changed").await;
    service
}

/// Sends these bytes, reads to the end.
fn get(address: std::net::SocketAddr, request: &str) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
