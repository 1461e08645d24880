//! What goes wrong, and what that does to connections and transactions.

use super::*;

#[tokio::test]
async fn c_11_s_01_faults_have_a_kind_and_a_code_and_show_no_value() {
    let db = memory().await;
    let setup = "CREATE TABLE strict_t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL CHECK (n < 10)) STRICT;
        CREATE TABLE child (t INTEGER REFERENCES t (id));
        CREATE TRIGGER no BEFORE DELETE ON child BEGIN SELECT RAISE(ABORT, 'never'); END;
        INSERT INTO t (v) VALUES ('canary'); INSERT INTO child VALUES (1);";
    db.execute(sql(setup)).await.unwrap();
    use Kind::{InvalidInput, Permanent};
    let canary = "canary";
    let constraint = Some(Code::FailedPrecondition);
    for (statement, kind, code) in [
        (insert(canary), Permanent, Some(Code::AlreadyExists)),
        (
            sql("INSERT INTO t (id) VALUES ($1)").bind(1),
            Permanent,
            Some(Code::AlreadyExists),
        ),
        (
            sql("INSERT INTO strict_t (n) VALUES ($1)").bind(canary),
            InvalidInput,
            constraint,
        ),
        (
            sql("INSERT INTO strict_t (n) VALUES ($1)").bind(None::<i64>),
            InvalidInput,
            constraint,
        ),
        (
            sql("INSERT INTO strict_t (n) VALUES ($1)").bind(77),
            InvalidInput,
            constraint,
        ),
        (
            sql("INSERT INTO child VALUES ($1)").bind(77),
            InvalidInput,
            constraint,
        ),
        (
            sql("DELETE FROM child WHERE $1 = $1").bind(canary),
            InvalidInput,
            constraint,
        ),
        (
            sql("INSERT INTO t (id) VALUES ($1)").bind(canary),
            InvalidInput,
            constraint,
        ),
        (sql("SELEC 1"), Permanent, None),
        (
            sql("SELECT * FROM nowhere WHERE a = $1").bind(canary),
            Permanent,
            None,
        ),
        (sql("SELECT json_extract('{}', $1)").bind(canary), Permanent, None),
        (sql("SELECT $1").bind(canary).bind(canary), InvalidInput, None),
        (sql("SELECT $1, $2").bind(canary), InvalidInput, None),
        (sql("SELECT ?1").bind(canary), InvalidInput, None),
        (sql("BEGIN"), InvalidInput, None),
        (sql("SELECT 1; \0"), InvalidInput, None),
    ] {
        let text = statement.text().to_owned();
        let error = db.query(statement).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (kind, code), "{text}: {error}");
        assert_eq!(error.operation(), Some("database.query"), "{text}");
        assert!(error.context().any(|(key, _)| key == "statement"), "{error}");
        let shown = format!("{error} {error:?} {}", error.chain());
        assert!(!shown.contains(canary) && !shown.contains("77"), "{shown}");
    }
    let error = db.query(sql("SELECT * FROM nowhere")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "database.query: no such table: nowhere (sqlite_code=1, statement=SELECT)"
    );
}

#[tokio::test]
async fn a_transaction_that_sqlite_has_ended_runs_nothing_more() {
    let db = memory().await;
    db.execute(insert("a")).await.unwrap();
    let tx = db.begin(TxOptions::default()).await.unwrap();
    tx.execute(insert("b")).await.unwrap();
    // After an ordinary failure it can go back to a savepoint.
    tx.execute(sql("SAVEPOINT s")).await.unwrap();
    assert!(tx.execute(insert("a")).await.is_err());
    tx.execute(sql("ROLLBACK TO s")).await.unwrap();
    tx.execute(insert("c")).await.unwrap();
    let ends = sql("INSERT OR ROLLBACK INTO t (v) VALUES ($1)").bind("a");
    assert_eq!(
        tx.execute(ends).await.unwrap_err().code(),
        Some(Code::AlreadyExists)
    );
    for after in [insert("d"), sql("ROLLBACK TO s")] {
        let error = tx.execute(after).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Permanent, Some(Code::FailedPrecondition))
        );
    }
    assert!(tx.commit().await.is_err());
    assert_eq!(count(&db).await, 1);
}

#[tokio::test]
async fn a_second_writer_waits_then_conflicts() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(SqliteOptions {
        busy_timeout: SECOND / 20,
        ..file(&folder)
    })
    .await;
    let writer = db.begin(TxOptions::default()).await.unwrap();
    for error in [
        db.begin(TxOptions::default()).await.map(drop).unwrap_err(),
        db.execute(insert("x")).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Temporary, Some(Code::Conflict)),
            "{error}"
        );
        assert!(!error.may_have_applied());
    }
    assert_eq!(count(&db).await, 0, "readers are not held up");
    writer.rollback().await.unwrap();
    db.execute(insert("x")).await.unwrap();
}

#[tokio::test]
async fn f_db_04_changed_tables_do_not_break_cached_statements() {
    let folder = tempfile::tempdir().unwrap();
    for db in [memory().await, open(file(&folder)).await] {
        let all = || db.query(sql("SELECT * FROM t"));
        db.execute(insert("a")).await.unwrap();
        let (one, two) = (db.pool.acquire(false).await.unwrap(), db.clone());
        drop(one);
        futures::future::try_join_all((0..8).map(|_| two.query(sql("SELECT * FROM t"))))
            .await
            .unwrap();
        db.execute(sql("ALTER TABLE t ADD COLUMN w TEXT")).await.unwrap();
        for rows in futures::future::try_join_all((0..8).map(|_| all()))
            .await
            .unwrap()
        {
            assert_eq!(rows[0].columns().collect::<Vec<_>>(), ["id", "v", "w"]);
        }
        let tx = db.begin(TxOptions::default()).await.unwrap();
        tx.query(sql("SELECT * FROM t")).await.unwrap();
        tx.execute(sql("ALTER TABLE t DROP COLUMN w")).await.unwrap();
        assert_eq!(
            tx.query(sql("SELECT * FROM t")).await.unwrap()[0].values().len(),
            2
        );
        tx.rollback().await.unwrap();
        assert_eq!(all().await.unwrap()[0].values().len(), 3);
    }
}

#[tokio::test]
async fn f_db_04_another_processs_change_costs_one_call_per_connection_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(SqliteOptions {
        max_connections: 1,
        ..file(&folder)
    })
    .await;
    db.execute(insert("a")).await.unwrap();
    db.query(sql("SELECT * FROM t")).await.unwrap();
    let other = SqliteDatabase::open(file(&folder)).await.unwrap();
    other
        .execute(sql("ALTER TABLE t ADD COLUMN w TEXT"))
        .await
        .unwrap();
    if let Err(error) = db.query(sql("SELECT * FROM t")).await {
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Temporary, Some(Code::Unavailable)),
            "{error}"
        );
    }
    assert_eq!(
        db.query(sql("SELECT * FROM t")).await.unwrap()[0].values().len(),
        3
    );
}

#[tokio::test]
async fn several_statements_hide_no_transaction() {
    let db = memory().await;
    for text in ["INSERT INTO t (v) VALUES ('a'); BEGIN", "SELECT 1; COMMIT"] {
        assert!(
            db.execute(sql(text)).await.unwrap_err().is_invalid_input(),
            "{text}"
        );
    }
    let tx = db.begin(TxOptions::default()).await.unwrap();
    let hidden = tx.execute(sql("INSERT INTO t (v) VALUES ('a'); COMMIT")).await;
    assert!(hidden.unwrap_err().is_invalid_input());
    tx.rollback().await.unwrap();
    assert_eq!(db.query(sql("SELECT v FROM t")).await.unwrap(), []);
    // The END of a trigger ends no transaction.
    let trigger = "CREATE TABLE u (v); CREATE TRIGGER r AFTER INSERT ON t BEGIN DELETE FROM u; INSERT INTO u VALUES (1); END";
    db.execute(sql(trigger)).await.unwrap();
    assert!(
        db.execute(sql(format!("{trigger}; COMMIT")))
            .await
            .unwrap_err()
            .is_invalid_input()
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_says_which_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(
        at("text"),
        "this is no database, and it is longer than a header. ".repeat(50),
    )
    .unwrap();
    for (path, kind, why) in [
        (
            at("missing/t.db"),
            Kind::InvalidInput,
            "its folder does not exist",
        ),
        (folder.path().to_owned(), Kind::InvalidInput, "it is a folder"),
        (at("text"), Kind::Permanent, "file is not a database"),
    ] {
        let error = SqliteDatabase::open(SqliteOptions::file(&path))
            .await
            .unwrap_err();
        let shown = error.to_string();
        assert_eq!(error.kind(), kind, "{shown}");
        assert!(
            shown.contains(why) && shown.contains(path.to_str().unwrap()),
            "{shown}"
        );
    }
}
