//! The adapter under core's helpers: transactions that cannot be forgotten, and savepoints.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use cqi_core::{
    Code, Error, Kind,
    database::{DatabaseExt, Executor, ExecutorExt, Isolation, TxOptions},
    policy::Retry,
};
use futures::FutureExt;

use super::{DatabaseHarness, kit::Scene};
use crate::conformance::{Failure, Outcome, cut, ensure, ensure_eq, refused};

/// `with_transaction` commits when the work is `Ok` and gives its value.
pub async fn with_transaction_commits_on_ok<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    let insert = scene.sql("INSERT INTO {t} (id, n) VALUES (1, 2)");
    let changed = scene
        .db
        .with_transaction(|tx| Box::pin(async move { tx.execute(insert).await }))
        .await?;
    ensure_eq!(changed, 1, "the value of the work");
    scene.holds(h, &[1], "after with_transaction").await
}

/// `with_transaction` rolls back when the work is an error, and gives that error.
pub async fn with_transaction_rolls_back_on_an_error<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    let insert = scene.sql("INSERT INTO {t} (id, n) VALUES (1, 2)");
    let answer = scene
        .db
        .with_transaction(|tx| {
            Box::pin(async move {
                tx.execute(insert).await?;
                Err::<(), _>(Error::not_found("asset", "BTC"))
            })
        })
        .await;
    refused("with_transaction", answer, Kind::NotFound, None)?;
    scene.holds(h, &[], "after an error").await?;
    scene.pool_is_clean(h, 100).await
}

/// `with_transaction` rolls back when the work panics, and the panic goes on.
pub async fn with_transaction_rolls_back_on_a_panic<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    let insert = scene.sql("INSERT INTO {t} (id, n) VALUES (1, 2)");
    let work = scene.db.with_transaction(|tx| {
        Box::pin(async move {
            tx.execute(insert).await?;
            // Unwinds as a bug would, without the noise of the panic hook.
            std::panic::resume_unwind(Box::new("on purpose"));
            #[allow(unreachable_code)]
            Ok(())
        })
    });
    let caught = AssertUnwindSafe(work).catch_unwind().await;
    ensure!(caught.is_err(), "the panic did not go on");
    scene.holds(h, &[], "after a panic").await?;
    scene.pool_is_clean(h, 100).await
}

/// `with_transaction` dropped at any point has committed whole or not at all, and leaves no transaction open.
pub async fn with_transaction_can_be_dropped_anywhere<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    for round in 0..scene.profile.count(30, 12) {
        let id = -2 * i64::try_from(round).unwrap_or_default() - 2;
        let first = scene.sql("INSERT INTO {t} (id, n) VALUES ($1, 0)").bind(id);
        let second = scene.sql("INSERT INTO {t} (id, n) VALUES ($1, 0)").bind(id + 1);
        let work = scene.db.with_transaction(|tx| {
            Box::pin(async move {
                tx.execute(first).await?;
                tx.execute(second).await
            })
        });
        drop(cut(work, round % 10).await);
        let select = scene
            .sql("SELECT id FROM {t} WHERE id = $1 OR id = $2")
            .bind(id)
            .bind(id + 1);
        let rows = scene.db.query(select).await?.len();
        ensure!(rows == 0 || rows == 2, "half of a transaction was committed");
    }
    scene.pool_is_clean(h, 1_000).await
}

/// A savepoint whose work fails is taken back alone; the transaction around it goes on.
pub async fn a_failed_savepoint_is_taken_back_alone<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Arc::new(Scene::with_table(h).await?);
    let own = Arc::clone(&scene);
    let failed = scene
        .db
        .with_transaction(|tx| {
            Box::pin(async move {
                own.insert(tx, 1, 0).await?;
                let statements = (
                    own.sql("INSERT INTO {t} VALUES (2, 0)"),
                    own.sql("INSERT INTO {t} VALUES (1, 0)"),
                );
                let inner: cqi_core::Result<u64> = tx
                    .with_savepoint(|tx| {
                        Box::pin(async move {
                            tx.execute(statements.0).await?;
                            tx.execute(statements.1).await // the id is taken
                        })
                    })
                    .await;
                own.insert(tx, 3, 0).await?;
                Ok(inner)
            })
        })
        .await?;
    refused(
        "the savepoint",
        failed,
        Kind::Permanent,
        Some(Code::AlreadyExists),
    )?;
    scene.holds(h, &[1, 3], "after a failed savepoint").await
}

/// Conflicts are repeated by `with_transaction_opts`: concurrent transactions that read and write back lose no update.
pub async fn conflicts_are_repeated<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Arc::new(Scene::with_table(h).await?);
    scene.insert(&*scene.db, 1, 0).await?;
    let attempts = Arc::new(AtomicU32::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (scene, attempts) = (Arc::clone(&scene), Arc::clone(&attempts));
        tasks.spawn(async move {
            let options = TxOptions {
                isolation: Isolation::Serializable,
                read_only: false,
            };
            let retry = Retry {
                attempts: 100,
                initial: std::time::Duration::from_millis(5),
                ..Retry::default()
            };
            for _ in 0..5 {
                let (work, attempts) = (Arc::clone(&scene), Arc::clone(&attempts));
                let counted =
                    scene
                        .db
                        .with_transaction_opts(options, retry.clone(), move |tx: &dyn Executor| {
                            let (scene, attempts) = (Arc::clone(&work), Arc::clone(&attempts));
                            Box::pin(async move {
                                attempts.fetch_add(1, SeqCst);
                                let rows = tx.query(scene.sql("SELECT n FROM {t} WHERE id = 1")).await?;
                                let n: i64 = rows.first().map_or(Ok(0), |row| row.get("n"))?;
                                tx.execute(scene.sql("UPDATE {t} SET n = $1 WHERE id = 1").bind(n + 1))
                                    .await
                            })
                        });
                counted.await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let rows = scene
        .db
        .query(scene.sql("SELECT n FROM {t} WHERE id = 1"))
        .await?;
    ensure_eq!(rows[0].get::<i64>("n")?, 20, "the sum of all increments");
    ensure!(attempts.load(SeqCst) >= 20, "the work was not run each time");
    Ok(())
}
