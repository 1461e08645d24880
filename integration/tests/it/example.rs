//! The three calls of the README, on a fresh process.

use serde_json::json;

use crate::support::{Client, Quickstart, ask, position, post, summary};

#[tokio::test]
async fn the_three_calls_of_the_readme_answer_as_printed() {
    let service = Quickstart::start(&[]).await;
    let stored = json!({"portfolio_id": "p1", "asset_id": "BTC", "quantity": "1.50"});

    let answer = ask(service.http(), post(&position("p1", "BTC", "1.50"))).await;
    assert_eq!((answer.status, answer.json()), (201, stored.clone()));
    assert_eq!(answer.header("content-type"), Some("application/json"));

    let mut client = Client::connect(service.http()).await.unwrap();
    let answer = client.get("/api/positions/p1/BTC").await.unwrap();
    assert_eq!((answer.status, answer.json()), (200, stored));

    assert_eq!(
        summary(&service, "p1", 1).await,
        json!({"portfolio_id": "p1", "positions": 1, "changes": 1})
    );
    service.stop().await;
}

#[tokio::test]
async fn a_change_is_read_at_once_and_counted_once() {
    let service = Quickstart::start(&[]).await;
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
    let service = Quickstart::start(&[]).await;
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
