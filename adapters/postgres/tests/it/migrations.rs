//! F-DB-10: migrations, one process at a time.

use std::time::Duration;

use cqi_core::{
    Kind,
    database::{Database, Executor, Migration, Migrations, TxOptions, sql},
};
use cqi_postgres::PostgresOptions;
use tokio::{task::JoinSet, time::timeout};

use crate::support::{connect, one, pool_is_clean, run, shared, until};

fn migrations() -> Migrations {
    let step = |version, up: &str, down: &str| Migration {
        version,
        name: format!("step{version}"),
        up: up.to_owned(),
        down: Some(down.to_owned()),
    };
    Migrations::new([
        step(1, "CREATE TABLE a (n BIGINT); INSERT INTO a VALUES (1); SELECT pg_sleep(0.2)", "DROP TABLE a"),
        step(2, "CREATE FUNCTION f() RETURNS INT AS $$ SELECT 1; $$ LANGUAGE sql; ALTER TABLE a ADD m TEXT DEFAULT ';'",
            "DROP FUNCTION f; ALTER TABLE a DROP m"),
        step(3, "INSERT INTO a VALUES (2)", "DELETE FROM a WHERE n = 2"),
    ])
    .unwrap()
}

/// What is applied is found also when a schema appears that comes first in the search path.
#[test]
fn s_10_a_schema_with_the_users_name_does_not_begin_migrations_anew() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect(&options).await;
        let step = |version, up: String| Migration {
            version,
            name: format!("step{version}"),
            up,
            down: None,
        };
        let migrations = Migrations::new([
            step(1, format!("CREATE SCHEMA {}", options.user)),
            step(2, "CREATE TABLE a (n BIGINT)".to_owned()),
        ])
        .unwrap();
        assert_eq!(migrations.apply(&db).await.unwrap(), 2);
        assert_eq!(migrations.apply(&db).await.unwrap(), 0);
        let status = migrations.status(&db).await.unwrap();
        assert!(status.iter().all(|status| status.applied_at.is_some()));
    });
}

#[test]
fn f_db_10_five_that_start_at_once_migrate_once() {
    let Some(options) = shared() else { return };
    run(async {
        let mut starting = JoinSet::new();
        for _ in 0..5 {
            let options = options.clone();
            starting.spawn(async move {
                let db = connect(&options).await;
                let applied = migrations().apply(&db).await.unwrap();
                assert!(
                    migrations()
                        .status(&db)
                        .await
                        .unwrap()
                        .iter()
                        .all(|status| status.applied_at.is_some())
                );
                applied
            });
        }
        let applied: usize = starting.join_all().await.into_iter().sum();
        let db = connect(&options).await;
        assert_eq!(applied, 3);
        assert_eq!(one::<i64>(&db, "SELECT count(*) FROM a").await, 2);
        assert_eq!(migrations().revert(&db, 3).await.unwrap(), 3);
        assert_eq!(
            one::<i64>(&db, "SELECT count(*) FROM pg_class WHERE relname = 'a'").await,
            0
        );
        assert_eq!(migrations().apply(&db).await.unwrap(), 3);
    });
}

/// The connection of one that migrates is killed: nothing of the step stays, and the next one goes on.
#[test]
fn f_db_10_one_that_dies_midway_leaves_a_clean_state() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect(&options).await;
        let dying = connect(&PostgresOptions {
            application_name: "dying".into(),
            ..options.clone()
        })
        .await;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { migrations().apply(&dying).await });
        let asleep = "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'dying' AND wait_event = 'PgSleep' \
                      AND datname = current_database()";
        until(&db, asleep).await;
        db.execute(sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dying' \
                        AND datname = current_database()",
        ))
        .await
        .unwrap();
        let error = tasks.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::Temporary, "{error}");
        assert!(
            !error.may_have_applied() && error.to_string().contains("1_step1"),
            "{error}"
        );
        assert_eq!(
            one::<i64>(&db, "SELECT count(*) FROM pg_class WHERE relname = 'a'").await,
            0
        );
        assert_eq!(migrations().apply(&db).await.unwrap(), 3);
    });
}

/// One that is cancelled while it waits, or while it migrates, leaves no lock on a connection of the pool.
#[test]
fn f_db_10_one_that_is_cancelled_leaves_no_lock() {
    let Some(options) = shared() else { return };
    run(async {
        let (db, other) = (connect(&options).await, connect(&options).await);
        migrations().status(&db).await.unwrap();
        let holder = other.begin(TxOptions::default()).await.unwrap();
        holder
            .execute(sql("SELECT pg_advisory_xact_lock(1277804876526101616)"))
            .await
            .unwrap();
        let waiting = timeout(Duration::from_millis(300), migrations().apply(&db)).await;
        assert!(waiting.is_err(), "it did not wait: {waiting:?}");
        holder.rollback().await.unwrap();
        let working = timeout(Duration::from_millis(100), migrations().apply(&db)).await;
        assert!(working.is_err(), "it was quicker than its pause: {working:?}");
        until(
            &other,
            "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND database = \
                       (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .await;
        assert_eq!(migrations().apply(&other).await.unwrap(), 3);
        pool_is_clean(&db, 4).await;
    });
}

/// A migration that fails says which, and a changed one is refused.
#[test]
fn s_07_a_failed_or_changed_migration_is_named() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect(&options).await;
        let step = |up: &str| {
            let name = "only".to_owned();
            Migrations::new([Migration {
                version: 1,
                name,
                up: up.to_owned(),
                down: None,
            }])
            .unwrap()
        };
        let error = step("CREATE TABLE a (n BIGINT); SELEC")
            .apply(&db)
            .await
            .unwrap_err();
        assert!(
            error.is_permanent() && error.to_string().contains("1_only"),
            "{error}"
        );
        assert_eq!(
            one::<i64>(&db, "SELECT count(*) FROM pg_class WHERE relname = 'a'").await,
            0
        );
        step("CREATE TABLE a (n BIGINT)").apply(&db).await.unwrap();
        let error = step("CREATE TABLE a (n TEXT)").apply(&db).await.unwrap_err();
        assert!(
            error.is_permanent() && error.to_string().contains("changed"),
            "{error}"
        );
    });
}
