//! Transactions.

use std::sync::Arc;

use cqi_core::{
    Code, Kind,
    database::{Database, Executor, Isolation, TxOptions},
};
use tokio::task::JoinSet;

use super::{DatabaseHarness, kit::Scene};
use crate::conformance::{Failure, Outcome, ensure, ensure_eq, refused};

const DEFAULT: TxOptions = TxOptions {
    isolation: Isolation::Default,
    read_only: false,
};

/// DB-4: what was committed is there, for other handles too.
pub async fn a_commit_makes_changes_lasting<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    for isolation in [Isolation::Default, Isolation::Serializable] {
        let tx = scene
            .db
            .begin(TxOptions {
                isolation,
                read_only: false,
            })
            .await?;
        let id = if isolation == Isolation::Default { 1 } else { 2 };
        scene.insert(&*tx, id, 0).await?;
        tx.commit().await?;
    }
    scene.holds(h, &[1, 2], "after commit").await
}

/// DB-4: what was rolled back is gone, inserts, updates and deletes alike.
pub async fn a_rollback_takes_changes_back<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    scene.insert(&*scene.db, 1, 10).await?;
    scene.insert(&*scene.db, 2, 20).await?;
    let tx = scene.db.begin(DEFAULT).await?;
    scene.insert(&*tx, 3, 30).await?;
    tx.execute(scene.sql("UPDATE {t} SET n = 99 WHERE id = 1"))
        .await?;
    tx.execute(scene.sql("DELETE FROM {t} WHERE id = 2")).await?;
    tx.rollback().await?;
    scene.holds(h, &[1, 2], "after rollback").await?;
    let rows = scene.db.query(scene.sql("SELECT n FROM {t} ORDER BY id")).await?;
    ensure_eq!(rows[0].get::<i64>("n")?, 10, "a value after rollback");
    Ok(())
}

/// Dropping a transaction rolls it back and gives its connection back whole, more often than there are connections.
pub async fn a_dropped_transaction_is_rolled_back<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    for id in 0..i64::try_from(h.connections() * 3).unwrap_or(3) {
        let tx = scene.db.begin(DEFAULT).await?;
        scene.insert(&*tx, id, 0).await?;
        drop(tx);
    }
    scene.holds(h, &[], "after dropped transactions").await?;
    scene.pool_is_clean(h, 100).await
}

/// A task that panics in the middle of a transaction rolls it back.
pub async fn a_transaction_of_a_panicked_task_is_rolled_back<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Arc::new(Scene::with_table(h).await?);
    let mut tasks = JoinSet::new();
    let own = Arc::clone(&scene);
    tasks.spawn(async move {
        let tx = own.db.begin(DEFAULT).await?;
        own.insert(&*tx, 1, 0).await?;
        // Unwinds as a bug would, without the noise of the panic hook.
        std::panic::resume_unwind(Box::new("on purpose"));
        #[allow(unreachable_code)]
        Ok::<_, cqi_core::Error>(())
    });
    let ended = tasks.join_next().await;
    ensure!(matches!(ended, Some(Err(_))), "the task did not panic: {ended:?}");
    scene.holds(h, &[], "after a panic").await?;
    scene.pool_is_clean(h, 100).await
}

/// What is not committed is not seen by others: they see the state before, or have to wait.
pub async fn uncommitted_changes_are_not_seen_by_others<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    scene.insert(&*scene.db, 1, 0).await?;
    if !h.connects_apart() {
        return Err(Failure::not_applicable(
            "the database is one connection: there are no others",
        ));
    }
    let other = h.connect().await?;
    let tx = scene.db.begin(DEFAULT).await?;
    scene.insert(&*tx, 2, 0).await?;
    for reader in [&scene.db, &other] {
        match reader.query(scene.sql("SELECT id FROM {t}")).await {
            Ok(rows) => ensure_eq!(rows.len(), 1, "rows seen while another transaction is open"),
            Err(error) => ensure!(
                error.is_temporary(),
                "reading while another transaction is open: {error}"
            ),
        }
    }
    tx.commit().await?;
    scene.holds(h, &[1, 2], "after commit").await
}

/// A transaction reads what it wrote.
pub async fn a_transaction_sees_its_own_changes<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    let tx = scene.db.begin(DEFAULT).await?;
    scene.insert(&*tx, 1, 0).await?;
    ensure_eq!(scene.ids(&*tx).await?, [1], "ids inside the transaction");
    tx.rollback().await?;
    Ok(())
}

/// In a read-only transaction of any isolation a write is an error, a read is not; the next user of the connection may
/// write again.
pub async fn a_read_only_transaction_refuses_writes<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    scene.insert(&*scene.db, 1, 0).await?;
    for id in 0..i64::try_from(h.connections() * 2 + 2).unwrap_or(4) {
        let isolation = if id % 2 == 0 {
            Isolation::Default
        } else {
            Isolation::Serializable
        };
        let tx = scene
            .db
            .begin(TxOptions {
                isolation,
                read_only: true,
            })
            .await?;
        ensure_eq!(
            scene.ids(&*tx).await?.len(),
            1,
            "rows read in a read-only transaction"
        );
        let answer = scene.insert(&*tx, id + 2, 0).await;
        ensure!(
            answer.as_ref().is_err_and(|e| !e.is_temporary()),
            "a write in a read-only transaction, {isolation:?}: {answer:?}"
        );
        drop(tx);
    }
    scene.holds(h, &[1], "after refused writes").await?;
    scene.pool_is_clean(h, 100).await
}

/// A statement that fails inside a transaction can be followed by a rollback, and nothing stays.
pub async fn a_failed_statement_in_a_transaction_can_be_rolled_back<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    scene.insert(&*scene.db, 1, 0).await?;
    let tx = scene.db.begin(DEFAULT).await?;
    scene.insert(&*tx, 2, 0).await?;
    let answer = scene.insert(&*tx, 1, 0).await;
    refused("the same id", answer, Kind::Permanent, Some(Code::AlreadyExists))?;
    tx.rollback().await?;
    scene.holds(h, &[1], "after rollback").await?;
    scene.pool_is_clean(h, 100).await
}

/// After a statement that fails, be it refused before it was sent, a transaction takes nothing but a rollback: neither
/// another statement nor a commit, which would leave half of it. Going back to a savepoint is a rollback, too.
pub async fn a_failed_statement_ends_its_transaction<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    let (kind, code) = (Kind::Permanent, Some(Code::FailedPrecondition));
    scene.insert(&*scene.db, 1, 0).await?;
    let tx = scene.db.begin(DEFAULT).await?;
    scene.insert(&*tx, 2, 0).await?;
    ensure!(
        scene.insert(&*tx, 1, 0).await.is_err(),
        "the same id was accepted"
    );
    refused("a statement after it", scene.insert(&*tx, 3, 0).await, kind, code)?;
    let query = tx.query(scene.sql("SELECT id FROM {t}")).await;
    refused("a query after it", query, kind, code)?;
    refused("a commit after it", tx.commit().await, kind, code)?;
    scene.holds(h, &[1], "after a refused commit").await?;

    let too_few = || scene.sql("INSERT INTO {t} (id, n) VALUES ($1, $2)").bind(9_i64);
    let tx = scene.db.begin(DEFAULT).await?;
    scene.insert(&*tx, 2, 0).await?;
    refused(
        "too few parameters",
        tx.execute(too_few()).await,
        Kind::InvalidInput,
        None,
    )?;
    refused("a statement after it", scene.insert(&*tx, 3, 0).await, kind, code)?;
    refused("a commit after it", tx.commit().await, kind, code)?;
    scene
        .holds(h, &[1], "after a commit behind too few parameters")
        .await?;

    let tx = scene.db.begin(DEFAULT).await?;
    scene.insert(&*tx, 2, 0).await?;
    tx.execute(scene.sql("SAVEPOINT s")).await?;
    ensure!(
        scene.insert(&*tx, 1, 0).await.is_err(),
        "the same id was accepted"
    );
    tx.execute(scene.sql("ROLLBACK TO SAVEPOINT s")).await?;
    ensure!(
        tx.execute(too_few()).await.is_err(),
        "too few parameters were accepted"
    );
    tx.execute(scene.sql("ROLLBACK TO SAVEPOINT s")).await?;
    scene.insert(&*tx, 3, 0).await?;
    tx.commit().await?;
    scene
        .holds(h, &[1, 2, 3], "after going back to a savepoint")
        .await?;
    scene.pool_is_clean(h, 100).await
}

/// What takes a `&dyn Executor` works with the database and with a transaction.
pub async fn repositories_work_in_and_out_of_a_transaction<H: DatabaseHarness>(h: &H) -> Outcome {
    async fn add_and_count(scene: &Scene, on: &dyn Executor, id: i64) -> Result<usize, Failure> {
        scene.insert(on, id, 0).await?;
        Ok(scene.ids(on).await?.len())
    }
    let scene = Scene::with_table(h).await?;
    ensure_eq!(
        add_and_count(&scene, &*scene.db, 1).await?,
        1,
        "rows out of a transaction"
    );
    let tx = scene.db.begin(DEFAULT).await?;
    ensure_eq!(add_and_count(&scene, &*tx, 2).await?, 2, "rows in a transaction");
    ensure_eq!(add_and_count(&scene, &*tx, 3).await?, 3, "rows in a transaction");
    tx.commit().await?;
    ensure_eq!(
        add_and_count(&scene, &*scene.db, 4).await?,
        4,
        "rows after the transaction"
    );
    Ok(())
}

/// Concurrent `n = n + 1` statements on one row all count.
pub async fn concurrent_increments_lose_nothing<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Arc::new(Scene::with_table(h).await?);
    scene.insert(&*scene.db, 1, 0).await?;
    let (tasks, each) = (8, scene.profile.count(20, 5));
    increment_in_tasks(&scene, tasks, move |scene| async move {
        let mut counted = 0;
        while counted < each {
            match scene
                .db
                .execute(scene.sql("UPDATE {t} SET n = n + 1 WHERE id = 1"))
                .await
            {
                Ok(_) => counted += 1,
                Err(error) if error.is_temporary() && !error.may_have_applied() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(counted)
    })
    .await
}

/// Serializable transactions that read a number and write it back one higher lose no update: one that cannot be put in
/// order with the others fails as `Temporary` and is repeated.
pub async fn serializable_transactions_do_not_lose_updates<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Arc::new(Scene::with_table(h).await?);
    scene.insert(&*scene.db, 1, 0).await?;
    let (tasks, each) = (4, scene.profile.count(10, 5));
    increment_in_tasks(&scene, tasks, move |scene| async move {
        let mut counted = 0;
        while counted < each {
            match read_and_write_back(&scene).await {
                Ok(()) => counted += 1,
                Err(error) if error.is_temporary() && !error.may_have_applied() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(counted)
    })
    .await
}

/// Two serializable transactions that each read what the other one writes are not both committed; the one that fails is
/// `Temporary`, for a conflict `Conflict`, and nothing of it stays.
pub async fn serializable_transactions_do_not_pass_each_other<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    if h.connections() < 2 {
        return Err(Failure::not_applicable(
            "the database is one connection: there are no others",
        ));
    }
    for id in 1..=2 {
        scene.insert(&*scene.db, id, 1).await?;
    }
    let (options, text) = (
        TxOptions {
            isolation: Isolation::Serializable,
            read_only: false,
        },
        "UPDATE {t} SET n = 0 WHERE id = $1 AND (SELECT SUM(n) FROM {t}) = 2",
    );
    let mut committed = 0;
    let mut open = Vec::new();
    let mut failed = Vec::new();
    for id in [1_i64, 2] {
        match scene.db.begin(options).await {
            Ok(tx) => match tx.execute(scene.sql(text).bind(id)).await {
                Ok(_) => open.push(tx),
                Err(error) => failed.push(error),
            },
            Err(error) => failed.push(error),
        }
    }
    for tx in open {
        match tx.commit().await {
            Ok(()) => committed += 1,
            Err(error) => {
                ensure_eq!(error.code(), Some(Code::Conflict), "code of {error}");
                failed.push(error);
            }
        }
    }
    for error in &failed {
        ensure!(
            error.is_temporary() && !error.may_have_applied(),
            "of two serializable transactions one failed with {error:?}"
        );
    }
    ensure_eq!(
        (committed, failed.len()),
        (1, 1),
        "transactions committed, and failed"
    );
    let rows = scene
        .db
        .query(scene.sql("SELECT id FROM {t} WHERE n = 0"))
        .await?;
    ensure_eq!(rows.len(), 1, "rows changed");
    scene.pool_is_clean(h, 100).await
}

async fn read_and_write_back(scene: &Scene) -> cqi_core::Result<()> {
    let tx = scene
        .db
        .begin(TxOptions {
            isolation: Isolation::Serializable,
            read_only: false,
        })
        .await?;
    let rows = tx.query(scene.sql("SELECT n FROM {t} WHERE id = 1")).await?;
    let n: i64 = rows.first().map_or(Ok(0), |row| row.get("n"))?;
    tokio::task::yield_now().await;
    tx.execute(scene.sql("UPDATE {t} SET n = $1 WHERE id = 1").bind(n + 1))
        .await?;
    tx.commit().await
}

/// Runs tasks that count together and compares their sum with the row.
async fn increment_in_tasks<F, Fut>(scene: &Arc<Scene>, tasks: usize, one: F) -> Outcome
where
    F: Fn(Arc<Scene>) -> Fut,
    Fut: Future<Output = Result<usize, Failure>> + Send + 'static,
{
    let mut set = JoinSet::new();
    for _ in 0..tasks {
        set.spawn(one(Arc::clone(scene)));
    }
    let mut counted = 0;
    while let Some(done) = set.join_next().await {
        counted += done??;
    }
    let db: &dyn Database = &*scene.db;
    let rows = db.query(scene.sql("SELECT n FROM {t} WHERE id = 1")).await?;
    ensure_eq!(
        rows[0].get::<i64>("n")?,
        i64::try_from(counted).unwrap_or(-1),
        "the sum of all increments"
    );
    Ok(())
}
