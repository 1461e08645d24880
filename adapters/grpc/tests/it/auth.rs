//! Who may call what.

use std::sync::Arc;

use async_trait::async_trait;
use cqi_core::{
    Error, Result,
    auth::{ApiKeys, AuthContext, AuthType, Requirement, Verifier},
    health::Health,
    secret::Secret,
};
use cqi_grpc::GrpcAuth;
use serde_json::json;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    echo::{Client, Note, Second, note},
    support::{Running, SHORT, channel, options, serve_with, soon},
};

const KEY: &str = "3f1b0c2e9a7d4865";

fn keys() -> Arc<dyn Verifier> {
    Arc::new(ApiKeys::parse([format!("billing:{KEY}").as_str().into()]).unwrap())
}

fn with(credential: &str, note: Note) -> Request<Note> {
    let mut request = Request::new(note);
    request
        .metadata_mut()
        .insert("authorization", credential.parse().unwrap());
    request
}

async fn secured(auth: GrpcAuth) -> Running {
    serve_with(options(), |server| {
        let server = server.add(Second::default()).unwrap();
        server
            .health(&Health::new())
            .unwrap()
            .reflection(&[])
            .unwrap()
            .auth(auth)
    })
    .await
}

#[tokio::test]
async fn g_12_ml_grpc_8_every_service_is_closed_but_the_open_ones() {
    let running = secured(GrpcAuth::verifier(keys())).await;
    let mut client = Client::new(channel(running.address));
    for path in [
        "/test.v1.Echo/Unary",
        "/test.v1.Echo/Upload",
        "/test.v1.Echo/Count",
        "/test.v1.Echo/Chat",
        "/test.v1.Echo/Nothing",
        "/test.v1.Second/Unary",
        "/test.v1.Nobody/Unary",
        "/",
    ] {
        let status = client.call(path, note("", 0)).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unauthenticated, "credentials are missing or invalid"),
            "{path}"
        );
    }
    let mut health = HealthClient::new(channel(running.address));
    health.check(HealthCheckRequest::default()).await.unwrap();
    let reflection = client
        .call("/grpc.reflection.v1.ServerReflection/Nothing", note("", 0))
        .await;
    assert_eq!(reflection.unwrap_err().code(), Code::Unimplemented);
    // What is refused is measured, under no name that a caller has made up.
    running
        .notes
        .wait_for("grpc unmatched unmatched UNAUTHENTICATED")
        .await;
    // Nothing was learnt of methods that nobody reached.
    assert!(running.notes.all().iter().all(|note| !note.contains("Echo")));
}

#[tokio::test]
async fn met_6_a_method_that_the_program_named_is_measured_by_name_from_its_first_call_on() {
    let descriptors = crate::health::descriptors();
    let running = serve_with(options(), |server| {
        let named = server.reflection(&descriptors).unwrap();
        let named = named.require("test.v1.Echo/Upload", Requirement::permission("upload"));
        named.unwrap().auth(GrpcAuth::verifier(keys()))
    })
    .await;
    let mut client = Client::new(channel(running.address));
    for n in 0..50 {
        let path: &'static str = Box::leak(format!("/test.v1.Echo/Random{n}").into_boxed_str());
        client.call(path, note("", 0)).await.unwrap_err();
    }
    // Count and Unary stand in the descriptors, Upload in a requirement, Chat in neither.
    for (method, label) in [
        ("test.v1.Echo/Unary", "test.v1.Echo/Unary"),
        ("test.v1.Echo/Count", "test.v1.Echo/Count"),
        ("test.v1.Echo/Upload", "test.v1.Echo/Upload"),
        ("test.v1.Echo/Chat", "unmatched"),
    ] {
        let path: &'static str = Box::leak(format!("/{method}").into_boxed_str());
        client.call(path, note("", 0)).await.unwrap_err();
        let expected = format!("grpc {label} {label} UNAUTHENTICATED");
        running.notes.wait_for(&expected).await;
    }
    let notes = running.notes.all();
    assert!(
        notes
            .iter()
            .all(|note| !note.contains("Random") && !note.contains("Chat")),
        "{notes:?}"
    );
}

#[tokio::test]
async fn auth_3_7_8_keys_open_calls_of_all_kinds_and_all_else_is_refused_alike() {
    let mut running = secured(GrpcAuth::verifier(keys())).await;
    let right = format!("bearer {KEY}");
    let answer = running.client.unary(with(&right, note("who", 0))).await.unwrap();
    assert_eq!(answer.into_inner().text, "billing");
    // The identity is known while the stream runs, too.
    let mut stream = running.client.count(with(&right, note("who", 1))).await.unwrap();
    stream.message().await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().text, "billing");

    let wrong = [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic 3f1b0c2e9a7d4865",
        KEY,
    ];
    for wrong in wrong {
        let unary = running
            .client
            .unary(with(wrong, note("who", 0)))
            .await
            .unwrap_err();
        let stream = running
            .client
            .count(with(wrong, note("who", 0)))
            .await
            .unwrap_err();
        for status in [unary, stream] {
            assert_eq!(status.code(), Code::Unauthenticated, "{wrong}");
            assert_eq!(status.message(), "credentials are missing or invalid", "{wrong}");
        }
    }
    let mut twice = with(&right, note("who", 0));
    twice
        .metadata_mut()
        .append("authorization", right.parse().unwrap());
    assert_eq!(
        running.client.unary(twice).await.unwrap_err().code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn a_25_who_is_wrong_too_often_waits_and_the_right_key_opens_still() {
    let mut auth = GrpcAuth::verifier(keys());
    auth.failed_logins = 3;
    let mut running = secured(auth).await;
    let mut codes = Vec::new();
    for _ in 0..4 {
        let status = running
            .client
            .unary(with("Bearer wrong", note("who", 0)))
            .await
            .unwrap_err();
        codes.push(status.code());
        let wait = cqi_grpc::from_status(status).retry_after();
        assert_eq!(wait.is_some(), codes.len() == 4);
    }
    assert_eq!(codes[2..], [Code::Unauthenticated, Code::ResourceExhausted]);
    // To show none at all is no guess.
    let status = running.client.ask("who").await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    running
        .client
        .unary(with(&format!("Bearer {KEY}"), note("who", 0)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_25_an_id_that_was_wrong_too_often_waits_and_others_pass() {
    let entries = ["billing.0123456789abcdef", "orders.0123456789abcdef"];
    let keys = ApiKeys::parse(entries.map(Secret::from)).unwrap();
    let mut auth = GrpcAuth::verifier(Arc::new(keys));
    auth.failed_logins = 3;
    let mut running = secured(auth).await;
    for number in 0..1000 {
        let wrong = format!("Bearer billing.{number}");
        let status = running.client.unary(with(&wrong, note("", 0))).await.unwrap_err();
        let expected = if number < 3 {
            Code::Unauthenticated
        } else {
            Code::ResourceExhausted
        };
        assert_eq!(status.code(), expected);
        assert_eq!(cqi_grpc::from_status(status).retry_after().is_some(), number >= 3);
    }
    let right = |id: &str| with(&format!("Bearer {id}.0123456789abcdef"), note("", 0));
    let status = running.client.unary(right("billing")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "refused unasked");
    running.client.unary(right("orders")).await.unwrap();
}

/// A verifier that knows one token, and otherwise hangs, fails or panics as it is told.
#[derive(Debug)]
struct Odd;

#[async_trait]
impl Verifier for Odd {
    async fn verify(&self, credential: &Secret) -> Result<AuthContext> {
        let claims = json!({"scope": "notes:read", "roles": ["auditor"]});
        match credential.expose() {
            "reader" => {
                let serde_json::Value::Object(claims) = claims else {
                    unreachable!()
                };
                Ok(AuthContext::new(AuthType::Jwt)
                    .with_service("reader")
                    .with_claims(claims))
            }
            "down" => Err(Error::temporary("canary").with_context("server", "canary")),
            "panic" => panic!("canary"),
            _ => std::future::pending().await,
        }
    }
}

#[tokio::test]
async fn a_26_who_cannot_verify_never_allows() {
    let mut auth = GrpcAuth::verifier(Arc::new(Odd));
    auth.timeout = SHORT;
    let mut running = secured(auth).await;
    for credential in ["Bearer down", "Bearer hang"] {
        let status = soon(running.client.unary(with(credential, note("who", 0))))
            .await
            .unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "the caller cannot be verified now")
        );
    }
    let status = running
        .client
        .unary(with("Bearer panic", note("who", 0)))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Internal, "internal error")
    );
}

#[tokio::test]
async fn p_auth_2_requirements_hold_for_a_method_and_a_service() {
    let auth = GrpcAuth::verifier(Arc::new(Odd));
    let mut running = serve_with(options(), |server| {
        server
            .add(Second::default())
            .unwrap()
            .require("test.v1.Echo", Requirement::permission("notes:read"))
            .unwrap()
            .require("test.v1.Echo/Upload", Requirement::role("admin"))
            .unwrap()
            .auth(auth)
    })
    .await;
    let reader = |path| {
        let mut client = running.client.clone();
        async move { client.call(path, with("Bearer reader", note("who", 0))).await }
    };
    reader("/test.v1.Echo/Unary").await.unwrap();
    reader("/test.v1.Second/Unary").await.unwrap();
    let status = reader("/test.v1.Echo/Upload").await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::PermissionDenied, "the caller may not do this")
    );
    let status = running.client.upload(vec![note("", 1)]).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_requirement_without_any_authentication_lets_nobody_in() {
    let mut running = serve_with(options(), |server| {
        server
            .require("test.v1.Echo/Upload", Requirement::authenticated())
            .unwrap()
    })
    .await;
    running.client.ask("open").await.unwrap();
    let status = running.client.upload(vec![note("", 1)]).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn an_open_service_with_a_requirement_is_not_open() {
    let mut auth = GrpcAuth::verifier(keys());
    auth.open.push("test.v1.Echo".to_owned());
    let mut running = serve_with(options(), |server| {
        let requirement = Requirement::authenticated();
        server
            .require("test.v1.Echo/Count", requirement)
            .unwrap()
            .auth(auth)
    })
    .await;
    running.client.ask("open").await.unwrap();
    let status = running.client.count(note("", 0)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    running
        .client
        .count(with(&format!("Bearer {KEY}"), note("", 0)))
        .await
        .unwrap();
}
