//! What clients hear when a request is wrong: a status, and one JSON body.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::{Answer, Client, Process, ask};

const LONGEST: usize = 64;

#[tokio::test]
async fn err_9_what_is_wrong_with_a_position_is_answered_with_400() {
    let service = Process::quickstart(&[]).await;
    let long = "x".repeat(LONGEST + 1);
    let cases = [
        ("no JSON", "{\"portfolio_id\":".to_owned()),
        ("empty body", String::new()),
        ("another type", "[1]".to_owned()),
        ("number for a text", body("1", "\"a\"", "\"1\"")),
        ("number for a decimal", body("\"p\"", "\"a\"", "1.5")),
        ("word for a decimal", body("\"p\"", "\"a\"", "\"many\"")),
        ("exponent for a decimal", body("\"p\"", "\"a\"", "\"NaN\"")),
        ("empty decimal", body("\"p\"", "\"a\"", "\"\"")),
        (
            "missing field",
            r#"{"portfolio_id":"p","asset_id":"a"}"#.to_owned(),
        ),
        (
            "unknown field",
            r#"{"portfolio_id":"p","asset_id":"a","quantity":"1","x":1}"#.to_owned(),
        ),
        (
            "field twice",
            r#"{"portfolio_id":"p","portfolio_id":"q","asset_id":"a","quantity":"1"}"#.to_owned(),
        ),
        ("empty portfolio", body("\"\"", "\"a\"", "\"1\"")),
        ("empty asset", body("\"p\"", "\"\"", "\"1\"")),
        (
            "over-long portfolio",
            body(&format!("\"{long}\""), "\"a\"", "\"1\""),
        ),
        ("over-long asset", body("\"p\"", &format!("\"{long}\""), "\"1\"")),
        ("control character", body("\"p\\u0000\"", "\"a\"", "\"1\"")),
    ];
    let mut client = Client::connect(service.http()).await.unwrap();
    for (what, body) in cases {
        let answer = client.request(json_post(&body)).await.unwrap();
        refused(what, &answer, 400, "INVALID_INPUT");
    }
    for path in [
        format!("/api/positions/p/{long}"),
        format!("/api/portfolios/{long}"),
    ] {
        let answer = client.get(&path).await.unwrap();
        refused(&path, &answer, 400, "INVALID_INPUT");
    }
    // The longest that is allowed; the connection still serves.
    let longest = &long[..LONGEST];
    let answer = client
        .request(json_post(&body(&format!("\"{longest}\""), "\"a\"", "\"1\"")))
        .await;
    assert_eq!(answer.unwrap().status, 201);
    service.stop().await;
}

#[tokio::test]
async fn err_9_what_is_not_there_and_not_allowed() {
    let service = Process::quickstart(&[]).await;
    let mut client = Client::connect(service.http()).await.unwrap();
    for path in [
        "/api/positions/p/none",
        "/api/portfolios/none",
        "/none",
        "/",
        "/api/positions/p",
    ] {
        let answer = client.get(path).await.unwrap();
        refused(path, &answer, 404, "NOT_FOUND");
    }
    // The public port does not show what is for operators.
    refused(
        "metrics",
        &client.get("/metrics").await.unwrap(),
        404,
        "NOT_FOUND",
    );

    let wrong_methods = [
        ("GET", "/api/positions", "POST"),
        ("DELETE", "/api/positions/p/a", "GET,HEAD"),
        ("PUT", "/api/portfolios/p", "GET,HEAD"),
    ];
    for (method, path, allowed) in wrong_methods {
        let answer = client
            .request(format!(
                "{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n"
            ))
            .await
            .unwrap();
        refused(path, &answer, 405, "INVALID_INPUT");
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
    }

    for content_type in [
        "content-type: text/plain\r\n",
        "content-type: application/x-www-form-urlencoded\r\n",
        "",
    ] {
        let body = body("\"p\"", "\"a\"", "\"1\"");
        let request = format!(
            "POST /api/positions HTTP/1.1\r\nhost: test\r\n{content_type}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = client.request(request).await.unwrap();
        refused(content_type, &answer, 415, "INVALID_INPUT");
    }
    service.stop().await;
}

#[tokio::test]
async fn ml_http_4_an_oversized_body_is_answered_with_413_with_and_without_a_length() {
    let limit = 1000;
    let service = Process::quickstart(&[("CQI_SERVER_MAX_BODY_BYTES", &limit.to_string())]).await;
    let spaces = |count| " ".repeat(count);
    let fits = body("\"p\"", "\"a\"", "\"1\"");

    let exact = format!("{fits}{}", spaces(limit - fits.len()));
    assert_eq!(ask(service.http(), json_post(&exact)).await.status, 201);
    assert_eq!(ask(service.http(), chunked_post(&exact)).await.status, 201);

    let over = format!("{exact} ");
    too_large("one byte too many", service.http(), json_post(&over)).await;
    too_large(
        "one byte too many, in chunks",
        service.http(),
        chunked_post(&over),
    )
    .await;
    // Refused by its head alone: nothing of the body is sent.
    let head = format!(
        "POST /api/positions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        u64::MAX / 2
    );
    too_large("an absurd length", service.http(), head).await;
    too_large(
        "a megabyte in chunks",
        service.http(),
        chunked_post(&spaces(1 << 20)),
    )
    .await;
    service.stop().await;
}

async fn too_large(what: &str, address: SocketAddr, request: String) {
    refused(what, &ask(address, request).await, 413, "TOO_LARGE");
}

/// Every refusal has a JSON object of exactly two texts, and an id to look for in the log.
fn refused(what: &str, answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{what}: {answer:?}"
    );
    assert!(answer.header("x-request-id").is_some(), "{what}: {answer:?}");
    let Value::Object(body) = answer.json() else {
        panic!("{what}: {answer:?}")
    };
    let keys: Vec<&str> = body.keys().map(String::as_str).collect();
    assert!(
        keys == ["code", "error"] || keys == ["error", "code"],
        "{what}: {answer:?}"
    );
    assert_eq!(body["code"], code, "{what}: {answer:?}");
    assert!(
        body["error"].as_str().is_some_and(|text| !text.is_empty()),
        "{what}: {answer:?}"
    );
}

fn body(portfolio: &str, asset: &str, quantity: &str) -> String {
    format!("{{\"portfolio_id\":{portfolio},\"asset_id\":{asset},\"quantity\":{quantity}}}")
}

fn json_post(body: &str) -> String {
    let length = body.len();
    format!(
        "POST /api/positions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

fn chunked_post(body: &str) -> String {
    let length = body.len();
    format!(
        "POST /api/positions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n\
         {length:x}\r\n{body}\r\n0\r\n\r\n"
    )
}
