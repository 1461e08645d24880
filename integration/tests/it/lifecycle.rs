//! Starting and stopping many times in one process leaves nothing behind.

use std::{net::SocketAddr, path::Path, sync::Arc};

use cqi::{
    database::{Database, SqliteDatabase, SqliteOptions},
    event::{EventBus, EventBusExt, Json, MemoryBus, Received, Router as Events, Subscriber},
    health::Health,
    http::{HttpOptions, HttpServer, probe_router},
    name::{Group, topic_name},
    service::{App, ServiceMetadata, Signals},
};
use tokio::{sync::mpsc, task::JoinSet};

use crate::support::{Client, alone, until};

const WARM_UP: usize = 5;
const CYCLES: usize = 50;

#[test]
fn f_life_07_starting_and_stopping_leaves_no_descriptor_and_no_thread() {
    alone(
        "lifecycle::f_life_07_starting_and_stopping_leaves_no_descriptor_and_no_thread",
        async || {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("cycles.db");
            for _ in 0..WARM_UP {
                cycle(&file).await;
            }
            let before = Usage::now();
            for _ in 0..CYCLES {
                cycle(&file).await;
            }
            // Threads of the database's pool end a moment after it is closed.
            let after = until("as few descriptors and threads as before", || {
                let now = Usage::now();
                let flat = now.descriptors <= before.descriptors && now.threads <= before.threads;
                if flat {
                    Ok(now)
                } else {
                    Err(format!("{now:?}, before: {before:?}"))
                }
            })
            .await;
            println!("after {CYCLES} cycles: {after:?}");
        },
    );
}

/// An app with server, subscriber and database: up, used, and down again.
async fn cycle(file: &Path) {
    let topic = topic_name("cycle").unwrap();
    let (handled, mut handling) = mpsc::channel(1);
    let events = Events::new().on(topic.clone(), move |number: Received<Json<u32>>| {
        let handled = handled.clone();
        async move {
            handled.send(number.0).await.unwrap();
            Ok(())
        }
    });
    let bus: Arc<dyn EventBus> = Arc::new(MemoryBus::default());
    let database = SqliteDatabase::open(SqliteOptions::file(file)).await.unwrap();
    let health = Health::new();
    let server = HttpServer::new("http", probe_router(&health), HttpOptions::listen("127.0.0.1", 0)).unwrap();
    let mut bound = server.bound();
    let (closing_bus, closing_database) = (Arc::clone(&bus), database.clone());
    let app = App::new(ServiceMetadata::new("cycles", "1.0.0"))
        .unwrap()
        .signals(Signals::none())
        .health(&health)
        .service(Subscriber::new(
            Arc::clone(&bus),
            Group::parse("cycles").unwrap(),
            events,
        ))
        .service(server)
        .on_shutdown("database", || async move { closing_database.close().await })
        .on_shutdown("bus", || async move { closing_bus.close().await });
    let handle = app.handle();
    let mut running = JoinSet::new();
    running.spawn(app.run());
    handle.running().await.unwrap();

    database.ping().await.unwrap();
    bus.send(topic, Some("key"), &Json(7)).await.unwrap();
    assert_eq!(handling.recv().await, Some(7));
    let address: SocketAddr = bound.address().await.unwrap();
    let mut client = Client::connect(address).await.unwrap();
    assert_eq!(client.get("/health/ready").await.unwrap().status, 200);

    handle.shutdown().await.unwrap();
    running.join_next().await.unwrap().unwrap().unwrap();
    assert!(Client::connect(address).await.is_err(), "the port is still open");
}

/// What this process holds.
#[derive(Debug)]
struct Usage {
    descriptors: usize,
    threads: usize,
}

impl Usage {
    fn now() -> Self {
        let entries = |folder| std::fs::read_dir(folder).unwrap().count();
        Self {
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
        }
    }
}
