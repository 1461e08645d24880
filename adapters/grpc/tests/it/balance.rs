//! A channel over the instances of a service.

use std::{sync::Arc, time::Duration};

use cqi_core::registry::{MemoryRegistry, Registry, ServiceInfo};
use cqi_grpc::{GrpcChannel, GrpcClientOptions};
use tokio::net::TcpListener;
use tonic::Code;

use crate::{
    channel::connect,
    echo::Client,
    support::{Running, options, serve, soon},
};

#[tokio::test]
async fn calls_are_spread_over_the_instances_of_a_service_as_they_come_and_go() {
    let registry = Arc::new(MemoryRegistry::new(Duration::from_secs(60)));
    let (one, two) = (serve(options()).await, serve(options()).await);
    let register = async |port: u16, metadata: Option<u16>| {
        let info = ServiceInfo::new("notes", "1", "127.0.0.1", port);
        let info = match metadata {
            Some(port) => info.with_metadata("grpc_port", port.to_string()),
            None => info,
        };
        registry.register(info).await.unwrap().id
    };
    let dynamic: Arc<dyn Registry> = Arc::<MemoryRegistry>::clone(&registry);
    let mut client = connect(GrpcClientOptions::service(dynamic, "notes")).await;
    let status = soon(client.ask("nobody")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "service has no running instance")
    );

    let first = register(one.address.port(), None).await;
    let served = |running: &Running| running.notes.all().len();
    let until = async |client: &mut Client<GrpcChannel>, done: &(dyn Fn() -> bool + Sync)| {
        soon(async {
            while !done() {
                let _ = client.ask("hello").await;
            }
        })
        .await;
    };
    until(&mut client, &|| served(&one) > 3).await;
    // The second is registered with the port of another protocol.
    register(1, Some(two.address.port())).await;
    until(&mut client, &|| served(&two) > 3).await;
    let before = (served(&one), served(&two));
    for _ in 0..10 {
        client.ask("in turn").await.unwrap();
    }
    assert_eq!((served(&one) - before.0, served(&two) - before.1), (5, 5));
    registry.deregister(first).await.unwrap();
    let seen = std::cell::Cell::new(served(&one));
    soon(async {
        // Until ten calls in a row go to the second only.
        loop {
            for _ in 0..10 {
                client.ask("hello").await.unwrap();
            }
            if seen.replace(served(&one)) == served(&one) {
                break;
            }
        }
    })
    .await;
    drop(one);
    client.ask("the second is still there").await.unwrap();
}

#[tokio::test]
async fn an_instance_that_is_gone_costs_no_call() {
    let registry: Arc<dyn Registry> = Arc::new(MemoryRegistry::new(Duration::from_secs(60)));
    let running = serve(options()).await;
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    for port in [running.address.port(), gone.port()] {
        registry
            .register(ServiceInfo::new("notes", "1", "127.0.0.1", port))
            .await
            .unwrap();
    }
    let mut options = GrpcClientOptions::service(registry, "notes");
    options.retry.initial = Duration::from_millis(1);
    let mut client = connect(options).await;
    for _ in 0..10 {
        soon(client.ask("hello")).await.unwrap();
    }
}
