//! F-LIFE-06: the shutdown under load of `shutdown.rs` where a single thread does everything. What waits for another task while
//! it holds that thread never ends.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use cqi::{database::SqliteDatabase, database::SqliteOptions, event, prelude::*, registry::Registry};
use nix::sys::signal::{Signal, raise};
use serde_json::Value;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};

use crate::{
    shutdown::{Told, write},
    support::{PATIENCE, alone_on, database_folder, until},
};

const CLIENTS: usize = 8;
const ENOUGH: u64 = 400;

#[test]
fn f_life_06_a_shutdown_under_load_loses_nothing_on_a_current_thread_runtime() {
    alone_on(
        "one_thread::f_life_06_a_shutdown_under_load_loses_nothing_on_a_current_thread_runtime",
        &mut Builder::new_current_thread(),
        shutdown_under_load,
    );
}

#[test]
fn f_life_06_a_shutdown_under_load_loses_nothing_on_a_runtime_of_one_worker() {
    alone_on(
        "one_thread::f_life_06_a_shutdown_under_load_loses_nothing_on_a_runtime_of_one_worker",
        Builder::new_multi_thread().worker_threads(1),
        shutdown_under_load,
    );
}

async fn shutdown_under_load() {
    let folder = database_folder();
    let file = folder.path().join("numbers.db");
    // Takes connections and never answers: the last spans cannot be sent.
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let cqi = service(&file, collector.local_addr().unwrap()).await.unwrap();
    let registry = cqi.registry();
    let app = cqi.app().unwrap();
    let handle = app.handle();
    let mut running = JoinSet::new();
    running.spawn(app.run());
    handle.running().await.unwrap();

    let address = address(&*registry).await;
    let accepted = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&accepted);
    let clients = std::thread::spawn(move || load(address, &seen));
    until("accepted changes", || {
        let count = accepted.load(Relaxed);
        if count >= ENOUGH { Ok(()) } else { Err(count) }
    })
    .await;
    raise(Signal::SIGTERM).unwrap();
    let ended = tokio::time::timeout(PATIENCE, running.join_next()).await;
    ended.expect("the app hangs").unwrap().unwrap().unwrap();

    let told = clients.join().unwrap();
    for one in &told {
        assert!(
            one.unanswered.is_empty() && one.refused.is_empty(),
            "{:?} {:?}",
            one.unanswered,
            one.refused
        );
    }
    let accepted: i64 = told.iter().map(|told| told.accepted).sum();
    let database = SqliteDatabase::open(SqliteOptions::file(&file)).await.unwrap();
    for table in ["stored", "counted"] {
        let row = database
            .query_row(sql(format!("SELECT COUNT(*) AS n FROM {table}")))
            .await
            .unwrap();
        assert_eq!(row.get::<i64>("n").unwrap(), accepted, "{table}");
    }
    database.close().await.unwrap();
}

/// Stores what is posted and counts it when its event comes.
async fn service(file: &Path, collector: SocketAddr) -> Result<Cqi> {
    let mut config = Config {
        service_name: "numbers".to_owned(),
        ..Config::default()
    };
    config.server.host = "127.0.0.1".to_owned();
    (config.server.port, config.metrics.port) = (0, 0);
    config.database.url = format!("sqlite://{}", file.display()).as_str().into();
    config.tracing.endpoint = collector.to_string();
    config.tracing.sample_rate = 1.0;
    let cqi = Cqi::connect(config).await?;
    let database = cqi.database();
    for table in ["stored", "counted"] {
        let new = sql(format!("CREATE TABLE {table} (id TEXT PRIMARY KEY)"));
        database.execute(new).await?;
    }
    let (bus, stored, counted) = (cqi.bus(), Arc::clone(&database), database);
    let topic = cqi::name::topic_name("number_stored")?;
    let published = topic.clone();
    let take = async move |Json(number): Json<Value>| -> HttpResult<StatusCode> {
        let key = number["portfolio_id"].as_str().unwrap_or_default();
        let event = bus
            .send(published, Some(key), &event::Json(number.clone()))
            .await?;
        insert(&*stored, "stored", &event).await?;
        Ok(StatusCode::CREATED)
    };
    let count = move |number: Received<event::Json<Value>>| {
        let counted = Arc::clone(&counted);
        async move { insert(&*counted, "counted", number.event()).await }
    };
    cqi.http(Router::new().route("/api/positions", post(take)))
        .subscriber(Events::new().on(topic, count))
}

/// An event that comes again is there already.
async fn insert(database: &dyn Database, table: &str, event: &event::Event) -> Result<()> {
    let row = sql(format!(
        "INSERT INTO {table} (id) VALUES ($1) ON CONFLICT DO NOTHING"
    ));
    database.execute(row.bind(event.id().to_string())).await.map(drop)
}

async fn address(registry: &dyn Registry) -> SocketAddr {
    let found = registry.discover("numbers").await.unwrap();
    let [instance] = &found[..] else {
        panic!("{found:?}")
    };
    format!("{}:{}", instance.info.address, instance.info.port)
        .parse()
        .unwrap()
}

/// Clients in a thread of their own, or they would wait for the service whose thread they hold.
fn load(address: SocketAddr, accepted: &Arc<AtomicU64>) -> Vec<Told> {
    let runtime: Runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(write(number, address, Arc::clone(accepted)));
        }
        clients.join_all().await
    })
}
