//! The health and reflection services, asked by the standard clients.

use std::sync::Arc;

use cqi_core::{
    Error,
    health::{CheckOptions, Health, check_fn},
};
use futures::{StreamExt as _, stream};
use prost::Message as _;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{
    echo::Client,
    support::{PATIENCE, channel, options, serve, serve_with, soon},
};

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[tokio::test]
async fn ml_grpc_10_health_follows_readiness_for_the_server_and_its_services() {
    let health = Health::new();
    let running = serve_with(options(), |server| server.health(&health).unwrap()).await;
    let mut client = HealthClient::new(channel(running.address));
    for (ready, expected) in [
        (true, ServingStatus::Serving),
        (false, ServingStatus::NotServing),
        (true, ServingStatus::Serving),
    ] {
        health.set_ready(ready);
        for service in ["", "test.v1.Echo", "grpc.health.v1.Health"] {
            let answer = client.check(of(service)).await.unwrap().into_inner();
            assert_eq!(answer.status(), expected, "{service}");
        }
    }
    assert_eq!(
        client.check(of("unknown")).await.unwrap_err().code(),
        Code::NotFound
    );
    running.notes.wait_for("grpc.health.v1.Health/Check OK").await;
}

#[tokio::test]
async fn ml_grpc_10_a_failing_check_is_not_serving() {
    let health = Health::new();
    let down = check_fn("database", || async { Err(Error::temporary("down")) });
    health.register(Arc::new(down), CheckOptions::default()).unwrap();
    let running = serve_with(options(), |server| server.health(&health).unwrap()).await;
    let mut client = HealthClient::new(channel(running.address));
    let answer = client.check(of("")).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn ml_grpc_10_watch_tells_changes_and_the_drain_and_does_not_hold_it_up() {
    let health = Health::new();
    let mut running = serve_with(options(), |server| server.health(&health).unwrap()).await;
    let mut client = HealthClient::new(channel(running.address));
    let mut watch = client.watch(of("test.v1.Echo")).await.unwrap().into_inner();
    let mut unknown = client.watch(of("unknown")).await.unwrap().into_inner();
    let mut next = async || soon(watch.message()).await.unwrap().map(|answer| answer.status());
    assert_eq!(next().await, Some(ServingStatus::Serving));
    let first = unknown.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::ServiceUnknown);
    health.set_ready(false);
    assert_eq!(next().await, Some(ServingStatus::NotServing));
    health.set_ready(true);
    assert_eq!(next().await, Some(ServingStatus::Serving));
    let stopping = running.handle.stop(PATIENCE);
    let (stopped, ()) = tokio::join!(stopping, async {
        assert_eq!(next().await, Some(ServingStatus::NotServing));
        assert_eq!(next().await, None);
    });
    stopped.unwrap();
}

#[tokio::test]
async fn g_09_neither_health_nor_reflection_is_there_unless_asked_for() {
    let running = serve(options()).await;
    let mut client = Client::new(channel(running.address));
    for path in [
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.channelz.v1.Channelz/GetServers",
    ] {
        let status = client.call(path, crate::echo::note("", 0)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
    }
}

/// What docs/grpc.md shows for `build.rs`, with a file of its own.
const PROTO: &str = r#"
syntax = "proto3";
package test.v1;
message Note { string text = 1; uint64 number = 2; }
service Echo { rpc Unary(Note) returns (Note); rpc Count(Note) returns (stream Note); }
"#;

pub(crate) fn descriptors() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("echo.proto"), PROTO).unwrap();
    let mut compiler = protox::Compiler::new([folder]).unwrap();
    compiler.include_imports(true).open_file("echo.proto").unwrap();
    let set = compiler.file_descriptor_set();
    let encoded = set.encode_to_vec();
    tonic_prost_build::configure()
        .bytes(".")
        .out_dir(folder)
        .compile_fds(set)
        .unwrap();
    let generated = std::fs::read_to_string(folder.join("test.v1.rs")).unwrap();
    assert!(generated.contains("pub trait Echo") && generated.contains("EchoClient"));
    encoded
}

#[tokio::test]
async fn ml_grpc_10_reflection_lists_the_services_without_protoc() {
    let descriptors = descriptors();
    let running = serve_with(options(), |server| server.reflection(&descriptors).unwrap()).await;
    let mut client = ServerReflectionClient::new(channel(running.address));
    let ask = |request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let requests = stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("test.v1.Echo".to_owned())),
    ]);
    let answers = client
        .server_reflection_info(requests)
        .await
        .unwrap()
        .into_inner();
    let answers: Vec<_> = answers
        .map(|answer| answer.unwrap().message_response.unwrap())
        .collect()
        .await;
    let MessageResponse::ListServicesResponse(services) = &answers[0] else {
        panic!("{answers:?}")
    };
    let names: Vec<_> = services
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for name in [
        "test.v1.Echo",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert!(
        matches!(&answers[1], MessageResponse::FileDescriptorResponse(_)),
        "{answers:?}"
    );
    let malformed = crate::support::server(options()).reflection(b"no descriptor");
    assert!(malformed.unwrap_err().is_invalid_input());
}
