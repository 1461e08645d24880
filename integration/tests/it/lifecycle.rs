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
use tokio::{runtime::Handle, sync::mpsc, task::JoinSet};

use crate::support::{Client, alone, database_folder, until};

const WARM_UP: usize = 20;
const CYCLES: usize = 200;
/// How much more memory may be resident afterwards, in KiB: the allocator's own way of keeping some.
const MORE: usize = 4 * 1024;

#[test]
fn f_life_07_two_hundred_starts_and_stops_leave_nothing_behind() {
    alone(
        "lifecycle::f_life_07_two_hundred_starts_and_stops_leave_nothing_behind",
        async || {
            let folder = database_folder();
            let file = folder.path().join("cycles.db");
            for n in 0..WARM_UP {
                cycle(&file, n).await;
            }
            let before = Usage::now();
            for n in 0..CYCLES {
                cycle(&file, n).await;
            }
            // Threads of the database's pool end a moment after it is closed.
            let after = until("as much in use as before", || {
                let now = Usage::now();
                if now.is_no_more_than(&before) {
                    Ok(now)
                } else {
                    Err(format!("{now:?}, before: {before:?}"))
                }
            })
            .await;
            println!("after {CYCLES} cycles: {after:?}, before: {before:?}");
        },
    );
}

/// An app with server, subscriber and database: up, used, and down again. Each tenth time a client stays connected, for which
/// the server waits a moment.
async fn cycle(file: &Path, number: usize) {
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
    let _stays = number.is_multiple_of(10).then_some(client);

    handle.shutdown().await.unwrap();
    running.join_next().await.unwrap().unwrap().unwrap();
    assert!(Client::connect(address).await.is_err(), "the port is still open");
}

/// What this process holds.
#[derive(Debug)]
struct Usage {
    descriptors: usize,
    threads: usize,
    tasks: usize,
    /// In KiB.
    memory: usize,
}

impl Usage {
    fn now() -> Self {
        let entries = |folder| std::fs::read_dir(folder).unwrap().count();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        Self {
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            tasks: Handle::current().metrics().num_alive_tasks(),
            memory: resident.split_whitespace().next().unwrap().parse().unwrap(),
        }
    }

    fn is_no_more_than(&self, before: &Self) -> bool {
        self.descriptors <= before.descriptors
            && self.threads <= before.threads
            && self.tasks <= before.tasks
            && self.memory <= before.memory + MORE
    }
}
