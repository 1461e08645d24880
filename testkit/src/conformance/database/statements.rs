//! Running statements.

use cqi_core::database::sql;

use super::{DatabaseHarness, kit::Scene};
use crate::conformance::{Outcome, ensure, ensure_eq};

/// DB-1, ML-DB-1: `execute` gives the number of rows it inserted, updated or deleted; a statement that changes none
/// gives 0.
pub async fn execute_counts_the_rows_it_changed<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    for id in 0..5 {
        ensure_eq!(scene.insert(&*scene.db, id, id).await?, 1, "rows inserted");
    }
    let count = async |text: &str| scene.db.execute(scene.sql(text)).await;
    ensure_eq!(
        count("UPDATE {t} SET n = 9 WHERE id < 3").await?,
        3,
        "rows updated"
    );
    ensure_eq!(
        count("UPDATE {t} SET n = 9 WHERE id > 99").await?,
        0,
        "rows updated"
    );
    ensure_eq!(count("DELETE FROM {t} WHERE id = 4").await?, 1, "rows deleted");
    ensure_eq!(
        count("INSERT INTO {t} SELECT id + 100, n FROM {t}").await?,
        4,
        "rows inserted"
    );
    ensure_eq!(
        count("CREATE INDEX i_{t} ON {t} (n)").await?,
        0,
        "rows changed by CREATE INDEX"
    );
    Ok(())
}

/// DB-1, ML-DB-1: `query` gives every row, in the order asked for; no rows are an empty list.
pub async fn query_gives_all_rows_in_order<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    ensure_eq!(scene.ids(&*scene.db).await?, [0_i64; 0], "ids of an empty table");
    for id in [3, 1, 2] {
        scene.insert(&*scene.db, id, -id).await?;
    }
    let rows = scene
        .db
        .query(scene.sql("SELECT id FROM {t} ORDER BY id DESC"))
        .await?;
    let ids: Result<Vec<i64>, _> = rows.iter().map(|row| row.at(0)).collect();
    ensure_eq!(ids?, [3, 2, 1], "ids");
    Ok(())
}

/// Values are found by column name and by position.
pub async fn columns_have_names_and_positions<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    scene.insert(&*scene.db, 1, 2).await?;
    let rows = scene
        .db
        .query(scene.sql("SELECT n AS renamed, id, n + 1 AS more FROM {t}"))
        .await?;
    ensure_eq!(rows.len(), 1, "rows");
    ensure_eq!(
        rows[0].columns().collect::<Vec<_>>(),
        ["renamed", "id", "more"],
        "columns"
    );
    let by_name = (
        rows[0].get::<i64>("renamed")?,
        rows[0].get::<i64>("id")?,
        rows[0].get::<i64>("more")?,
    );
    let by_position = (
        rows[0].at::<i64>(0)?,
        rows[0].at::<i64>(1)?,
        rows[0].at::<i64>(2)?,
    );
    ensure_eq!(by_name, (2, 1, 3), "values by name");
    ensure_eq!(by_position, by_name, "values by position");
    Ok(())
}

/// `$1` is the first value wherever and however often it stands.
pub async fn parameters_go_by_number<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    let insert = scene
        .sql("INSERT INTO {t} (id, n) VALUES ($2, $1)")
        .bind(10_i64)
        .bind(1_i64);
    scene.db.execute(insert).await?;
    let select = scene
        .sql("SELECT id FROM {t} WHERE n = $1 AND id = $2 AND n = $1")
        .bind(10_i64)
        .bind(1_i64);
    ensure_eq!(scene.db.query(select).await?.len(), 1, "rows");
    // More than nine, and a dollar sign inside a text is no parameter.
    let columns: Vec<String> = (1..=12)
        .map(|n| format!("CAST(${n} AS BIGINT) AS c{n}"))
        .collect();
    let mut select = sql(format!("SELECT {}, '$99' AS text", columns.join(", ")));
    for n in 1..=12_i64 {
        select = select.bind(n * n);
    }
    let rows = scene.db.query(select).await?;
    ensure_eq!(rows.len(), 1, "rows");
    for n in 1..=12_i64 {
        ensure_eq!(rows[0].get::<i64>(&format!("c{n}"))?, n * n, "parameter {n}");
    }
    ensure_eq!(rows[0].get::<String>("text")?, "$99", "a text with a dollar sign");
    Ok(())
}

/// S-01: whatever a value holds, it stays a value.
pub async fn parameters_never_become_sql<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    scene.create("v TEXT").await?;
    let attacks = [
        "'; DROP TABLE {t}; --".replace("{t}", &scene.table),
        "' OR '1'='1".to_owned(),
        "\\'; SELECT 1; --".to_owned(),
        "$1".to_owned(),
        "/*".to_owned(),
    ];
    for attack in &attacks {
        scene
            .db
            .execute(scene.sql("INSERT INTO {t} (v) VALUES ($1)").bind(attack))
            .await?;
        let rows = scene
            .db
            .query(scene.sql("SELECT v FROM {t} WHERE v = $1").bind(attack))
            .await?;
        ensure_eq!(rows.len(), 1, "rows that equal {attack}");
    }
    let rows = scene.db.query(scene.sql("SELECT v FROM {t}")).await?;
    ensure_eq!(rows.len(), attacks.len(), "rows in the table");
    Ok(())
}

/// `RETURNING` gives rows to `query`; `ON CONFLICT` updates or does nothing, and counts so.
pub async fn returning_and_on_conflict_work<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    let rows = scene
        .db
        .query(scene.sql("INSERT INTO {t} VALUES (1, 10), (2, 20) RETURNING id, n"))
        .await?;
    ensure_eq!(rows.len(), 2, "rows returned");
    let upsert = "INSERT INTO {t} VALUES (1, 11) ON CONFLICT (id) DO UPDATE SET n = excluded.n RETURNING n";
    let rows = scene.db.query(scene.sql(upsert)).await?;
    ensure_eq!(rows.len(), 1, "rows returned by an upsert");
    ensure_eq!(rows[0].get::<i64>("n")?, 11, "the updated value");
    let nothing = scene.sql("INSERT INTO {t} VALUES (1, 12) ON CONFLICT DO NOTHING");
    ensure_eq!(scene.db.execute(nothing).await?, 0, "rows changed by DO NOTHING");
    Ok(())
}

/// Common table expressions and window functions work.
pub async fn ctes_and_window_functions_work<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    scene
        .db
        .execute(scene.sql("INSERT INTO {t} VALUES (1, 10), (2, 20), (3, 30)"))
        .await?;
    let select = "WITH big AS (SELECT id, n FROM {t} WHERE n > 10)
        SELECT id, ROW_NUMBER() OVER (ORDER BY n DESC) AS place FROM big ORDER BY id";
    let rows = scene.db.query(scene.sql(select)).await?;
    let seen: Result<Vec<(i64, i64)>, cqi_core::Error> = rows
        .iter()
        .map(|row| Ok((row.get("id")?, row.get("place")?)))
        .collect();
    ensure_eq!(seen?, [(2, 2), (3, 1)], "ids and places");
    Ok(())
}

/// The sum of integers is read as an integer, whatever type the database gives it.
pub async fn a_sum_of_integers_is_read_as_an_integer<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::with_table(h).await?;
    for id in 1..=3 {
        scene.insert(&*scene.db, id, 10 * id).await?;
    }
    let rows = scene.db.query(scene.sql("SELECT SUM(n) AS s FROM {t}")).await?;
    ensure_eq!(rows[0].get::<i64>("s")?, 60, "a sum");
    ensure_eq!(rows[0].get::<u32>("s")?, 60, "a sum as a smaller integer");
    let none = scene.sql("SELECT SUM(n) AS s FROM {t} WHERE id > 9");
    let rows = scene.db.query(none).await?;
    ensure_eq!(rows[0].get::<Option<i64>>("s")?, None, "the sum of nothing");
    Ok(())
}

/// A result of several thousand rows arrives whole.
pub async fn many_rows_arrive<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let count = i64::try_from(scene.profile.count(5_000, 500)).unwrap_or(500);
    let select = "WITH RECURSIVE r(n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM r WHERE n < $1) SELECT n FROM r ORDER BY n";
    let rows = scene.db.query(sql(select).bind(count)).await?;
    for (expected, row) in (1..=count).zip(&rows) {
        ensure!(row.get::<i64>("n")? == expected, "row {expected} is missing");
    }
    ensure_eq!(i64::try_from(rows.len()).unwrap_or(-1), count, "rows");
    Ok(())
}
