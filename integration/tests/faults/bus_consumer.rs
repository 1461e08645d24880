//! Consumers that are killed or paused.

use std::{os::unix::process::ExitStatusExt as _, path::Path, sync::Arc, time::Duration};

use cqi_core::database::{Database, Executor, ExecutorExt, SqliteDatabase, SqliteOptions, TxOptions, sql};
use cqi_testkit::eventually;
use tokio::time::Instant;

use crate::harness::{
    Broker, Findings, Load, Log, Outcome, Tune, Worker, finish, on_each_broker, scale, topic,
};

const LIMIT: Duration = Duration::from_secs(60);

on_each_broker! {
    killed_between_effect_and_ack => f_bus_03_nats_consumer_killed_between_effect_and_ack,
        f_bus_03_kafka_consumer_killed_between_effect_and_ack;
    paused_past_its_session => nats_consumer_paused_past_its_deadline, f_kaf_02_consumer_paused_past_its_session;
}

/// What the workers write to.
struct Tables {
    database: SqliteDatabase,
    _folder: tempfile::TempDir,
    file: String,
}

impl Tables {
    async fn create() -> Self {
        let in_memory = Path::new("/dev/shm");
        let folder = if in_memory.is_dir() {
            tempfile::tempdir_in(in_memory)
        } else {
            tempfile::tempdir()
        }
        .unwrap();
        let file = folder.path().join("effects.db").display().to_string();
        let database = SqliteDatabase::open(SqliteOptions::file(&file)).await.unwrap();
        for table in [
            "CREATE TABLE deliveries (place INTEGER PRIMARY KEY, event_id TEXT NOT NULL)",
            "CREATE TABLE inbox (event_id TEXT PRIMARY KEY)",
            "CREATE TABLE effects (event_id TEXT NOT NULL)",
        ] {
            database.execute(sql(table)).await.unwrap();
        }
        Self {
            database,
            _folder: folder,
            file,
        }
    }

    async fn effects(&self) -> usize {
        let row = self
            .database
            .query_row(sql("SELECT COUNT(DISTINCT event_id) AS n FROM effects"))
            .await;
        usize::try_from(row.unwrap().get::<i64>("n").unwrap()).unwrap()
    }

    async fn ids(&self, table: &'static str) -> Vec<String> {
        let rows = self.database.query(sql(table)).await.unwrap();
        rows.iter().map(|row| row.get("event_id").unwrap()).collect()
    }

    /// Pauses a worker while it cannot hold the tables' lock, because we do: nobody else could write until it went on.
    async fn pause(&self, worker: &Worker) {
        let lock = self.database.begin(TxOptions::default()).await.unwrap();
        lock.execute(sql("DELETE FROM effects WHERE event_id = ''"))
            .await
            .unwrap();
        worker.pause();
        lock.rollback().await.unwrap();
    }

    /// Waits until this many events have had their effect; gives how long that took.
    async fn reach(&self, count: usize) -> Duration {
        let began = Instant::now();
        let seen = eventually("effects", LIMIT, || async {
            let effects = self.effects().await;
            if effects >= count { Ok(()) } else { Err(effects) }
        });
        seen.await.unwrap_or_else(|failure| panic!("{failure}"));
        began.elapsed()
    }
}

/// Two members of a group, of which one is killed again and again, each time right between effect and acknowledgement.
async fn killed_between_effect_and_ack(broker: Broker) {
    let Some(server) = broker.start() else { return };
    let bus = broker.connect(server.url(), &Tune::default()).await.unwrap();
    let (topic, log, tables) = (topic(), Arc::new(Log::default()), Tables::create().await);
    let consume = |kill_after: &'static str| {
        Worker::start(&[
            "consume",
            server.url(),
            topic.as_str(),
            "group",
            &tables.file,
            kill_after,
        ])
    };
    let load = Load {
        publishers: 4,
        events: 200,
        insist: true,
        ..Load::default()
    };
    let steady = consume("-1");
    steady.prints(1).await;
    let kills = scale(20).max(4);
    let mut published = 0;
    for n in 0..kills {
        let mut doomed = consume(["1", "2", "5", "10"][n % 4]);
        doomed.prints(1).await;
        let end = Instant::now() + LIMIT;
        let status = loop {
            finish(load.start(&bus, &topic, &log), &log).await;
            published += load.events;
            if let Some(status) = doomed.ended() {
                break status;
            }
            assert!(Instant::now() < end, "a member gets no events");
        };
        assert_eq!(status.signal(), Some(9), "it kills itself: {status}");
    }
    let rest = tables.reach(published).await;
    steady.stop().await;
    bus.close().await.unwrap();

    let delivered = tables.ids("SELECT event_id FROM deliveries ORDER BY place").await;
    let effects = tables.ids("SELECT event_id FROM effects").await;
    tables.database.close().await.unwrap();
    let found = Findings::of(&log, &delivered);
    found
        .figures("F-BUS-03", "consumer killed between effect and ack", broker.name())
        .unknown(log.count(Outcome::Unknown))
        .note(format!(
            "{kills} kills; with the inbox {} effects of {published} events; all handled {:.1} s after the last kill",
            effects.len(),
            rest.as_secs_f64()
        ))
        .report();
    // Members run side by side, so an event of a killed one may be overtaken by later ones of its key.
    found.hold_without_order();
    assert_eq!(effects.len(), published, "one effect for each event");
    assert!(
        found.duplicated >= kills,
        "each kill makes a second delivery: the fault was not felt"
    );
}

/// A member is stopped for longer than its group waits for it, and then goes on: it finds its events with others, and
/// its late acknowledgements do no harm.
async fn paused_past_its_session(broker: Broker) {
    let Some(server) = broker.start() else { return };
    let bus = broker.connect(server.url(), &Tune::default()).await.unwrap();
    let (topic, log, tables) = (topic(), Arc::new(Log::default()), Tables::create().await);
    let consume = || {
        Worker::start(&[
            "consume",
            server.url(),
            topic.as_str(),
            "group",
            &tables.file,
            "-1",
        ])
    };
    let (steady, paused) = (consume(), consume());
    steady.prints(1).await;
    paused.prints(1).await;
    let load = Load {
        publishers: 4,
        events: 400,
        insist: true,
        ..Load::default()
    };
    let publishers = load.start(&bus, &topic, &log);
    tables.reach(20).await;
    tables.pause(&paused).await;
    finish(publishers, &log).await;
    // The others get what it had; its session, or its events' deadline, is 1 s.
    let taken_over = tables.reach(load.events).await;
    paused.resume();
    finish(load.start(&bus, &topic, &log), &log).await;
    tables.reach(2 * load.events).await;
    // Alone, it has to take everything: it is a member again.
    steady.stop().await;
    finish(load.start(&bus, &topic, &log), &log).await;
    let alone = tables.reach(3 * load.events).await;
    paused.stop().await;
    bus.close().await.unwrap();

    let delivered = tables.ids("SELECT event_id FROM deliveries ORDER BY place").await;
    tables.database.close().await.unwrap();
    let found = Findings::of(&log, &delivered);
    let fault = if broker == Broker::Kafka {
        "F-KAF-02"
    } else {
        "PAUSE"
    };
    found
        .figures(fault, "consumer paused past its session", broker.name())
        .note(format!(
            "taken over within {:.1} s; once it was the only member, it had handled everything {:.1} s later",
            taken_over.as_secs_f64(),
            alone.as_secs_f64()
        ))
        .report();
    found.hold_without_order();
}
