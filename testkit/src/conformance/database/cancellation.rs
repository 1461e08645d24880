//! Futures dropped at every point of their work.

use cqi_core::database::TxOptions;

use super::{DatabaseHarness, kit::Scene};
use crate::conformance::{Outcome, cut, ensure};

/// A `begin` dropped after any number of steps leaves no transaction open: the next borrower of the connection does not
/// stand inside a foreign one.
pub async fn a_cancelled_begin_leaves_no_transaction_behind<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    for round in 0..scene.profile.count(40, 12) {
        drop(cut(scene.db.begin(TxOptions::default()), round % 6).await);
        let id = i64::try_from(round).unwrap_or_default();
        scene.insert(&*scene.db, -1 - id, 0).await?;
    }
    // What was written outside of a transaction is lasting.
    let other = h.connect().await?;
    let lasting = scene.ids(&*other).await?.len();
    let written = scene.profile.count(40, 12);
    ensure!(
        lasting == written,
        "{lasting} of {written} rows are there: some were written inside a foreign transaction"
    );
    scene.pool_is_clean(h, 100).await
}

/// A statement dropped after any number of steps, in and out of a transaction, leaves its connection usable and answers
/// of others unmixed.
pub async fn a_cancelled_statement_leaves_the_connection_whole<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    for round in 0..scene.profile.count(40, 12) {
        let steps = round % 6;
        drop(cut(scene.db.query(scene.sql("SELECT 1 AS a")), steps).await);
        let insert = scene.sql("INSERT INTO {t} (id, n) VALUES (1, 1) ON CONFLICT DO NOTHING");
        drop(cut(scene.db.execute(insert), steps).await);
        if let Some(Ok(tx)) = cut(scene.db.begin(TxOptions::default()), 1_000).await {
            drop(cut(tx.execute(scene.sql("UPDATE {t} SET n = 2")), steps).await);
            drop(tx); // rolled back
        }
        let rows = scene.db.query(scene.sql("SELECT 7 AS seven")).await?;
        ensure!(
            rows.len() == 1 && rows[0].get::<i64>("seven")? == 7,
            "got the answer of another statement: {rows:?}"
        );
    }
    let twos = scene
        .db
        .query(scene.sql("SELECT id FROM {t} WHERE n = 2"))
        .await?;
    ensure!(
        twos.is_empty(),
        "a transaction that was dropped midway changed {} rows",
        twos.len()
    );
    scene.pool_is_clean(h, 100).await
}

/// A `commit` dropped midway has happened whole or not at all.
pub async fn a_cancelled_commit_either_happened_or_not<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    for round in 0..scene.profile.count(30, 12) {
        let id = i64::try_from(round).unwrap_or_default() * 2;
        let tx = scene.db.begin(TxOptions::default()).await?;
        scene.insert(&*tx, -1 - id, 0).await?;
        scene.insert(&*tx, -2 - id, 0).await?;
        let known = cut(tx.commit(), round % 5).await;
        let rows = scene.db.query(
            scene
                .sql("SELECT id FROM {t} WHERE id = $1 OR id = $2")
                .bind(-1 - id)
                .bind(-2 - id),
        );
        let rows = rows.await?.len();
        ensure!(rows == 0 || rows == 2, "half of a transaction was committed");
        if let Some(Ok(())) = known {
            ensure!(rows == 2, "commit said Ok and nothing is there");
        }
    }
    scene.pool_is_clean(h, 1_000).await
}
