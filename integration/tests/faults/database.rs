//! PostgreSQL on a disk that fills. Its other faults are tests of the adapter.

use std::{collections::HashSet, fs, time::Duration};

use cqi_core::database::{Database, Executor, sql};
use cqi_postgres::{PostgresDatabase, PostgresOptions};
use cqi_testkit::{
    figures::Figures,
    fixture::{self, Kind, Options},
};
use tokio::{task::block_in_place, time::Instant};

use crate::harness::{Disk, Outcome};

/// Rows of 8 KiB, which do not compress.
const INSERT: &str =
    "INSERT INTO t SELECT $1, string_agg(md5(random()::text), '') FROM generate_series(1, 256)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_db_12_postgres_disk_full() {
    let Some(disk) = Disk::mount(256) else {
        fixture::skip("this process may not mount a file system");
        return;
    };
    let data = disk.folder.join("data");
    fs::create_dir(&data).unwrap();
    let options = Options::new()
        .data(&data)
        .line("min_wal_size = 32MB")
        .line("max_wal_size = 32MB");
    let Some(server) = block_in_place(|| fixture::require_own(Kind::Postgres, &options)) else {
        return;
    };
    let limit = Duration::from_secs(3);
    let database = PostgresDatabase::connect(PostgresOptions {
        connection_timeout: limit,
        statement_timeout: limit,
        ..PostgresOptions::from_url(server.url()).unwrap()
    })
    .await
    .unwrap();
    let create = sql("CREATE TABLE t (id BIGINT PRIMARY KEY, text TEXT NOT NULL)");
    database.execute(create).await.unwrap();
    let (mut committed, mut refused, mut unknown) = (Vec::new(), Vec::new(), 0);
    let (mut slowest, mut said) = (Duration::ZERO, HashSet::new());
    for id in 0..3_000_i64 {
        if id == 200 {
            block_in_place(|| disk.fill(2 << 20));
        }
        let asked = Instant::now();
        let result = database.execute(sql(INSERT).bind(id)).await;
        slowest = slowest.max(asked.elapsed());
        match Outcome::of(&result) {
            Outcome::Ok => committed.push(id),
            Outcome::Unknown => unknown += 1,
            Outcome::Failed => refused.push(id),
        }
        if let Err(error) = result {
            said.insert((error.kind(), error.code()));
            if refused.len() + unknown >= 20 {
                break;
            }
        }
    }
    block_in_place(|| {
        disk.free();
        // Where its log could not be written, it has ended.
        server.start();
    });
    let ready = Instant::now();
    let last = i64::MAX;
    while database.execute(sql(INSERT).bind(last)).await.is_err() {
        assert!(ready.elapsed() < Duration::from_secs(10), "it does not recover");
    }
    let recovery = ready.elapsed();
    let rows = database.query(sql("SELECT id FROM t")).await.unwrap();
    let there: HashSet<i64> = rows.iter().map(|row| row.get("id").unwrap()).collect();
    database.close().await.unwrap();
    let lost = committed.iter().filter(|id| !there.contains(id)).count();
    let revived = refused.iter().filter(|id| there.contains(id)).count();
    Figures::new("F-DB-12", "disk full, then freed and restarted", "PostgreSQL")
        .counts(committed.len(), there.len(), lost, 0)
        .unknown(unknown)
        .recovery(recovery)
        .note(format!(
            "{} refused, longest call {:.1} s of 3 s, errors {said:?}",
            refused.len(),
            slowest.as_secs_f64()
        ))
        .report();
    assert_eq!((lost, revived), (0, 0));
    assert!(refused.len() + unknown > 0, "the disk was not full");
    assert!(slowest < limit * 2 + Duration::from_secs(1), "{slowest:?}");
    // 2 s are promised; the machine has other work too.
    assert!(recovery < Duration::from_secs(2) * 3, "{recovery:?}");
}
