//! Clients in another language: health, reflection, calls, streams, tokens.

use serde_json::{Value, json};

use crate::{
    KEY, KEYS, call, has_clients,
    support::{Process, ask, python},
    with_token,
};

const SERVICE: &str = "cqi.examples.positions.v1.Positions";

/// What Python's client says of these calls.
fn called(service: &Process, calls: &[String]) -> Vec<Value> {
    let lines = python("grpc_client.py", &[&service.grpc().to_string()], &calls.concat());
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ml_grpc_10_health_and_reflection_answer_everybody_and_methods_those_with_a_key() {
    if !has_clients() {
        return;
    }
    let service = Process::full(&[KEYS]).await;
    let set = format!("{SERVICE}/SetPosition");
    let position = json!({"portfolio_id": "p", "asset_id": "a", "quantity": "1.50"});
    let answers = called(
        &service,
        &[
            call("health", &Value::Null, ""),
            call("services", &Value::Null, ""),
            call(&set, &position, KEY),
            call(
                &format!("{SERVICE}/GetPosition"),
                &json!({"portfolio_id": "p", "asset_id": "a"}),
                KEY,
            ),
            call(
                &set,
                &json!({"portfolio_id": "p", "asset_id": "a", "quantity": "much"}),
                KEY,
            ),
            call(
                &format!("{SERVICE}/GetPosition"),
                &json!({"portfolio_id": "p", "asset_id": "b"}),
                KEY,
            ),
            call(&set, &position, ""),
            call(&set, &position, "wrong"),
        ],
    );
    assert_eq!(answers[0]["answers"], json!([{"status": "SERVING"}]));
    assert!(
        answers[1]["answers"]
            .as_array()
            .unwrap()
            .contains(&json!(SERVICE))
    );
    let stored = json!([{"portfolio_id": "p", "asset_id": "a", "quantity": "1.50"}]);
    assert_eq!(answers[2]["answers"], stored, "{answers:?}");
    assert_eq!(answers[3]["answers"], stored, "{answers:?}");
    let codes: Vec<_> = answers[4..].iter().map(|answer| &answer["code"]).collect();
    assert_eq!(
        codes,
        [
            "INVALID_ARGUMENT",
            "NOT_FOUND",
            "UNAUTHENTICATED",
            "UNAUTHENTICATED"
        ]
    );
    assert_eq!(answers[6]["details"], answers[7]["details"], "refused alike");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_5_7_a_token_of_another_library_is_accepted_and_wrong_ones_are_refused_alike() {
    if !has_clients() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("issuer.pem").display().to_string();
    let (issuer, audience) = ("https://issuer.example", "positions");
    let tokens = python("tokens.py", &[&key, issuer, audience], "");
    let tokens: serde_json::Map<String, Value> = serde_json::from_str(&tokens[0]).unwrap();
    let service = Process::full(&[
        ("CQI_AUTH_JWT_PUBLIC_KEY", &key),
        ("CQI_AUTH_JWT_ISSUER", issuer),
        ("CQI_AUTH_JWT_AUDIENCE", audience),
    ])
    .await;
    let request = "GET /api/positions/p/a HTTP/1.1\r\nhost: test\r\n\r\n";
    let without = ask(service.http(), request).await;
    assert_eq!(
        (without.status, without.header("www-authenticate")),
        (401, Some("Bearer"))
    );
    let get = format!("{SERVICE}/GetPosition");
    let calls: Vec<_> = tokens
        .values()
        .map(|token| {
            call(
                &get,
                &json!({"portfolio_id": "p", "asset_id": "a"}),
                token.as_str().unwrap(),
            )
        })
        .collect();
    let answers = called(&service, &calls);
    for ((name, token), by_grpc) in tokens.iter().zip(answers) {
        let by_http = ask(service.http(), with_token(request, token.as_str().unwrap())).await;
        if name == "good" {
            // It gets in, and learns that there is no such position.
            assert_eq!((by_http.status, &by_grpc["code"]), (404, &json!("NOT_FOUND")));
        } else {
            assert_eq!((by_http.status, &by_http.body), (401, &without.body), "{name}");
            assert_eq!(by_grpc["code"], "UNAUTHENTICATED", "{name}");
        }
    }
    for line in service.log() {
        let line = line.to_string();
        assert!(
            !tokens
                .values()
                .any(|token| line.contains(token.as_str().unwrap())),
            "{line}"
        );
    }
    service.stop().await;
}
