//! What can go wrong with a statement.

use cqi_core::{
    Code, Kind,
    database::{Executor, Statement, sql},
};

use super::{DatabaseHarness, kit::Scene};
use crate::conformance::{Failure, Outcome, ensure, ensure_eq, failure::keeps_secrets, refused};

/// A second row of the same primary key, or the same value in a unique column, is `Permanent`/`AlreadyExists` and changes
/// nothing, no other statement of the text included.
pub async fn a_unique_violation_is_already_exists<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    scene.create("id BIGINT PRIMARY KEY, v TEXT UNIQUE").await?;
    let insert = |id: i64, v: &str| {
        scene
            .sql("INSERT INTO {t} (id, v) VALUES ($1, $2)")
            .bind(id)
            .bind(v)
    };
    scene.db.execute(insert(1, "canary")).await?;
    let (kind, code) = (Kind::Permanent, Some(Code::AlreadyExists));
    refused(
        "the same id",
        scene.db.execute(insert(1, "other")).await,
        kind,
        code,
    )?;
    refused(
        "the same text",
        scene.db.execute(insert(2, "canary")).await,
        kind,
        code,
    )?;
    refused("by query", scene.db.query(insert(1, "canary")).await, kind, code)?;
    let update = scene.sql("INSERT INTO {t} (id, v) VALUES ($1, $2), ($3, $4)");
    let several = update.bind(3_i64).bind("three").bind(1_i64).bind("one");
    refused("one of two rows", scene.db.execute(several).await, kind, code)?;
    let texts =
        scene.sql("INSERT INTO {t} (id, v) VALUES (3, 'three'); INSERT INTO {t} (id, v) VALUES (1, 'one')");
    refused("one of two statements", scene.db.execute(texts).await, kind, code)?;
    ensure_eq!(scene.ids(&*scene.db).await?, [1], "ids after refused inserts");
    Ok(())
}

/// Any other broken constraint is `InvalidInput`/`FailedPrecondition` and changes nothing.
pub async fn other_constraints_are_failed_preconditions<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    scene
        .create(&format!(
            "id BIGINT PRIMARY KEY, v TEXT NOT NULL, n BIGINT CHECK (n > 0), parent BIGINT REFERENCES {} (id)",
            scene.table
        ))
        .await?;
    let insert = |id: i64, v: Option<&str>, n: i64, parent: Option<i64>| {
        let text = "INSERT INTO {t} (id, v, n, parent) VALUES ($1, $2, $3, $4)";
        scene.sql(text).bind(id).bind(v).bind(n).bind(parent)
    };
    scene.db.execute(insert(1, Some("x"), 1, None)).await?;
    let (kind, code) = (Kind::InvalidInput, Some(Code::FailedPrecondition));
    refused(
        "not null",
        scene.db.execute(insert(2, None, 1, None)).await,
        kind,
        code,
    )?;
    refused(
        "check",
        scene.db.execute(insert(2, Some("canary"), -1, None)).await,
        kind,
        code,
    )?;
    refused(
        "foreign key",
        scene.db.execute(insert(2, Some("canary"), 1, Some(99))).await,
        kind,
        code,
    )?;
    let parent = scene.sql("INSERT INTO {t} (id, v, n, parent) VALUES (5, 'x', 1, 1)");
    scene.db.execute(parent).await?;
    let delete = scene.sql("DELETE FROM {t} WHERE id = $1").bind(1_i64);
    refused("deleting a parent", scene.db.execute(delete).await, kind, code)?;
    ensure_eq!(
        scene.ids(&*scene.db).await?,
        [1, 5],
        "ids after refused statements"
    );
    Ok(())
}

/// A text that is no SQL, and names that are not there, are `Permanent`.
pub async fn bad_sql_is_permanent<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    for text in [
        "SELEC 1",
        "SELECT FROM WHERE",
        "SELECT * FROM no_such_table_here",
        "SELECT no_such_column FROM {t}",
        "SELECT (",
    ] {
        refused(text, scene.db.query(scene.sql(text)).await, Kind::Permanent, None)?;
        refused(
            text,
            scene.db.execute(scene.sql(text)).await,
            Kind::Permanent,
            None,
        )?;
    }
    Ok(())
}

/// Too few and too many values for the parameters are an error that repeating does not mend, and nothing is run. Values for
/// several statements are `InvalidInput`, and so is a query of several.
pub async fn a_wrong_number_of_parameters_is_refused<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    let insert = || scene.sql("INSERT INTO {t} (id, n) VALUES ($1, $2)");
    let wrong: [Statement; 3] = [
        insert(),
        insert().bind(1_i64),
        insert().bind(1_i64).bind(2_i64).bind("canary"),
    ];
    for statement in wrong {
        match scene.db.execute(statement).await {
            Ok(_) => return Err(Failure::new("a wrong number of values was accepted")),
            Err(error) => {
                ensure!(
                    !error.is_temporary() && !error.may_have_applied(),
                    "a wrong number of values: {error}"
                );
                keeps_secrets("a wrong number of values", &error)?;
            }
        }
    }
    let several =
        || scene.sql("INSERT INTO {t} (id, n) VALUES (1, 1); INSERT INTO {t} (id, n) VALUES (2, $1)");
    let answer = scene.db.execute(several().bind(1_i64)).await;
    refused("values for several statements", answer, Kind::InvalidInput, None)?;
    let queries = scene.sql("INSERT INTO {t} (id, n) VALUES (1, 1); SELECT id FROM {t}");
    let answer = scene.db.query(queries).await;
    refused("a query of several statements", answer, Kind::InvalidInput, None)?;
    ensure_eq!(
        scene.ids(&*scene.db).await?,
        [0_i64; 0],
        "ids after refused statements"
    );
    Ok(())
}

/// S-09: no error, in `Display`, `Debug` or its chain of causes, shows the value of a parameter.
pub async fn no_error_shows_a_parameter<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    scene
        .create("id BIGINT PRIMARY KEY, v TEXT UNIQUE CHECK (LENGTH(v) < 8)")
        .await?;
    let insert = |v: &str| {
        scene
            .sql("INSERT INTO {t} (id, v) VALUES ($1, $2)")
            .bind(1_i64)
            .bind(v)
    };
    scene.db.execute(insert("canary")).await?;
    let failing = [
        insert("canary"),
        insert("bad canary"),
        sql("SELECT * FROM no_such_table_here WHERE v = $1").bind("canary"),
        sql("SELECT CAST($1 AS no_such_type_here(").bind("canary"),
        sql("SELEC $1").bind("canary"),
    ];
    let tx = scene.db.begin(Default::default()).await?;
    let in_tx = tx.execute(insert("canary")).await;
    tx.rollback().await?;
    let mut errors = vec![in_tx.err()];
    for statement in failing {
        errors.push(scene.db.query(statement).await.err());
    }
    for error in errors {
        let Some(error) = error else {
            return Err(Failure::new("a statement that must fail did not"));
        };
        keeps_secrets("a failed statement", &error)?;
        ensure!(!error.message().is_empty(), "an error says nothing");
    }
    Ok(())
}

/// After errors of every kind, on every connection, statements work.
pub async fn a_failed_statement_leaves_the_connection_working<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    for id in 0..20 {
        let failed = scene.db.execute(scene.sql("SELEC 1")).await;
        ensure!(failed.is_err(), "bad SQL was accepted");
        scene.insert(&*scene.db, id, 0).await?;
        let failed = scene.insert(&*scene.db, id, 0).await;
        ensure!(failed.is_err(), "a second row of the same id was accepted");
    }
    let ids = scene.ids(&*scene.db as &dyn Executor).await?;
    ensure_eq!(ids, (0..20).collect::<Vec<i64>>(), "ids");
    Ok(())
}
