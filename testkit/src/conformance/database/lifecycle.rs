//! Ping, the pool, and close.

use std::sync::Arc;

use cqi_core::{
    Code, Kind,
    database::{Executor, TxOptions, sql},
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{DatabaseHarness, kit::Scene};
use crate::conformance::{Failure, Outcome, ensure, refused};

/// `ping` is `Ok` while the database works.
pub async fn a_working_database_answers_a_ping<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    match timeout(scene.profile.limit, scene.db.ping()).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::new("ping did not answer")),
    }
}

/// ML-DB-6: with every connection in use, one more `begin` is `Temporary`/`Exhausted` within the limit; once one is
/// free, it works.
pub async fn an_exhausted_pool_says_so_in_time<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let reading = TxOptions {
        read_only: true,
        ..TxOptions::default()
    };
    let mut held = Vec::new();
    for _ in 0..h.connections() {
        held.push(scene.db.begin(reading).await?);
    }
    let start = Instant::now();
    let answer = match timeout(scene.profile.limit, scene.db.begin(reading)).await {
        Ok(answer) => answer.map(|_| "a transaction"),
        Err(_) => return Err(Failure::new("begin waits for ever on an exhausted pool")),
    };
    refused("begin", answer, Kind::Temporary, Some(Code::Exhausted))?;
    ensure!(
        start.elapsed() < scene.profile.limit,
        "that took {:?}",
        start.elapsed()
    );
    drop(held.pop());
    scene.db.begin(reading).await?.commit().await?;
    Ok(())
}

/// Many more tasks than connections all get their turn.
pub async fn many_borrowers_share_few_connections<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Arc::new(Scene::new(h).await?);
    let mut tasks = JoinSet::new();
    for n in 0..scene.profile.count(200, 50) {
        let scene = Arc::clone(&scene);
        tasks.spawn(async move {
            let n = i64::try_from(n).unwrap_or_default();
            let rows = scene
                .db
                .query(sql("SELECT CAST($1 AS BIGINT) AS n").bind(n))
                .await?;
            let seen: i64 = rows.first().map_or(Ok(-1), |row| row.get("n"))?;
            ensure!(seen == n, "asked for {n}, got {seen}: answers are mixed up");
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// DB-9: `close` waits for a statement that runs, and for its answer.
pub async fn close_waits_for_running_statements<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    let count = i64::try_from(scene.profile.count(100_000, 50_000)).unwrap_or(50_000);
    let text = "INSERT INTO {t} WITH RECURSIVE r(n) AS \
        (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM r WHERE n < $1) SELECT n, n FROM r";
    let insert = scene.db.execute(scene.sql(text).bind(count));
    let mut insert = std::pin::pin!(insert);
    // It is under way: far from its end, and no longer waiting for a connection.
    let begun = timeout(scene.profile.step / 50, insert.as_mut()).await;
    ensure!(begun.is_err(), "the statement ended too soon: {begun:?}");
    let (inserted, closed) = futures::future::join(insert, scene.db.close()).await;
    ensure!(
        inserted? == u64::try_from(count).unwrap_or_default(),
        "not all rows are told"
    );
    closed?;
    Ok(())
}

/// A second close is `Ok`; every other call is then `Permanent`/`Closed`.
pub async fn close_is_idempotent_and_final<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    scene.insert(&*scene.db, 1, 0).await?;
    scene.db.close().await?;
    scene.db.close().await?;
    let (kind, code) = (Kind::Permanent, Some(Code::Closed));
    refused(
        "execute",
        scene.insert(&*scene.db as &dyn Executor, 2, 0).await,
        kind,
        code,
    )?;
    refused("query", scene.db.query(sql("SELECT 1")).await, kind, code)?;
    refused("begin", scene.db.begin(TxOptions::default()).await, kind, code)?;
    refused("ping", scene.db.ping().await, kind, code)?;
    if h.connects_apart() {
        let other = h.connect().await?;
        ensure!(
            scene.ids(&*other).await? == [1],
            "what was written before close is there"
        );
    }
    Ok(())
}
