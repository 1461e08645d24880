//! The calls of the README, and what a newcomer tries next.

use serde_json::{Value, json};

use crate::support::{Client, Process, ask, position, post, summary};

#[tokio::test]
async fn the_calls_of_the_readme_answer_as_printed() {
    let calls = calls_of_the_readme();
    assert_eq!(calls.len(), 3, "{calls:?}");
    let service = Process::quickstart(&[]).await;
    for (path, body, printed) in calls {
        let request = match &body {
            Some(body) => post(body),
            None => format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"),
        };
        // The summary is kept by a subscriber: not there at once.
        if let Some(portfolio) = path.strip_prefix("/api/portfolios/") {
            summary(&service, portfolio, 1).await;
        }
        let answer = ask(service.http(), request).await;
        assert_eq!(answer.body, printed, "{path}");
        assert_eq!(
            answer.status,
            if body.is_some() { 201 } else { 200 },
            "{answer:?}"
        );
    }
    service.stop().await;
}

/// Path, body if it is a post, and what the README says is printed.
fn calls_of_the_readme() -> Vec<(String, Option<Value>, String)> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (calls, after) = readme
        .split_once("```sh\ncurl ")
        .and_then(|(_, calls)| calls.split_once("\n```"))
        .expect("README.md: a block of curl commands");
    let (_, answers) = after.split_once("```json\n").expect("README.md: what they print");
    let calls = calls.lines().zip(answers.lines()).map(|(call, answer)| {
        let (_, call) = call
            .split_once("http://localhost:8080")
            .expect("README.md: the port");
        let (path, body) = match call.split_once(" --json '") {
            Some((path, body)) => (
                path,
                Some(serde_json::from_str(body.trim_end_matches('\'')).unwrap()),
            ),
            None => (call, None),
        };
        (path.to_owned(), body, answer.to_owned())
    });
    calls.collect()
}

#[tokio::test]
async fn a_change_is_read_at_once_and_counted_once() {
    let service = Process::quickstart(&[]).await;
    let mut client = Client::connect(service.http()).await.unwrap();
    for quantity in ["1", "-2.50", "0.0000000001"] {
        let answer = client.request(post(&position("p", "a", quantity))).await.unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
        // Twice: from the database, then from the cache.
        for _ in 0..2 {
            let answer = client.get("/api/positions/p/a").await.unwrap();
            assert_eq!(answer.json()["quantity"], quantity);
        }
    }
    assert_eq!(
        summary(&service, "p", 3).await,
        json!({"portfolio_id": "p", "positions": 1, "changes": 3})
    );
    service.stop().await;
}

#[tokio::test]
async fn ids_of_any_script_come_back_as_they_were_sent() {
    let service = Process::quickstart(&[]).await;
    let mut client = Client::connect(service.http()).await.unwrap();
    for (id, path) in [
        ("a b", "a%20b"),
        ("ä/ß", "%C3%A4%2F%C3%9F"),
        ("'; --", "'%3B%20--"),
        ("%41", "%2541"),
    ] {
        let answer = client.request(post(&position("ids", id, "1"))).await.unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
        let answer = client.get(&format!("/api/positions/ids/{path}")).await.unwrap();
        assert_eq!((answer.status, &answer.json()["asset_id"]), (200, &json!(id)));
    }
    service.stop().await;
}
