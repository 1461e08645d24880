use super::*;

fn migration(version: i64, up: &str, down: Option<&str>) -> Migration {
    Migration {
        version,
        name: "m".into(),
        up: up.into(),
        down: down.map(Into::into),
    }
}

#[test]
fn ml_mig_5_gaps_and_duplicates_are_refused() {
    let of = |versions: &[i64]| Migrations::new(versions.iter().map(|v| migration(*v, "SELECT 1", None)));
    assert!(of(&[]).is_ok() && of(&[2, 1, 3]).is_ok());
    for bad in [&[2][..], &[1, 3], &[1, 2, 2], &[0, 1], &[-1]] {
        assert!(of(bad).unwrap_err().is_invalid_input(), "{bad:?}");
    }
}

#[test]
fn s_07_the_checksum_is_stable_and_ignores_the_kind_of_line_ends() {
    // The published test vectors of FNV-1a.
    assert_eq!(checksum(""), "cbf29ce484222325");
    assert_eq!(checksum("foobar"), "85944171f73967e8");
    assert_eq!(checksum("a\r\nb\r\n"), checksum("a\nb\n"));
    assert_ne!(checksum("a\rb"), checksum("ab"));
    assert_ne!(checksum("a\r"), checksum("a"));
}

#[tokio::test]
async fn ml_mig_2_a_folder_holds_up_and_down_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("000002_b.up.sql", "two");
    write("000001_a.up.sql", "one");
    write("000001_a.down.sql", "back");
    write("README.md", "no migration");
    let read = Migrations::from_dir(folder.path()).await.unwrap();
    assert_eq!(
        read.0[0],
        Migration {
            version: 1,
            name: "a".into(),
            up: "one".into(),
            down: Some("back".into())
        }
    );
    assert_eq!((read.0[1].version, &read.0[1].down), (2, &None));
    for bad in [
        "3_c.down.sql",
        "3.up.sql",
        "3_.up.sql",
        "x_c.up.sql",
        "3_c.sql",
        "000002_other.up.sql",
        "1_a.up.sql",
        "01_a.down.sql",
        "4_d.up.sql",
    ] {
        write(bad, "x");
        assert!(
            Migrations::from_dir(folder.path())
                .await
                .unwrap_err()
                .is_invalid_input(),
            "{bad}"
        );
        std::fs::remove_file(folder.path().join(bad)).unwrap();
    }
    let error = Migrations::from_dir(folder.path().join("missing"))
        .await
        .unwrap_err();
    assert!(
        error.is_invalid_input() && error.to_string().contains("missing"),
        "{error}"
    );
}

#[cfg(feature = "sqlite")]
mod on_sqlite {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;
    use crate::database::{ExecutorExt as _, SqliteDatabase, SqliteOptions};

    fn three() -> Vec<Migration> {
        vec![
            migration(
                1,
                "CREATE TABLE a (v INTEGER); -- two; statements\r\nCREATE TRIGGER t AFTER INSERT ON a BEGIN
                    UPDATE a SET v = v + 1 WHERE rowid = NEW.rowid; END;\r\nINSERT INTO a VALUES (1);",
                Some("DROP TABLE a"),
            ),
            migration(2, "CREATE TABLE b (v INTEGER)", Some("DROP TABLE b")),
            migration(3, "INSERT INTO b VALUES (3)", Some("DELETE FROM b; SELECT 1;")),
        ]
    }

    async fn tables(db: &dyn Executor) -> Vec<String> {
        let rows = db
            .query(sql(
                "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name",
            ))
            .await
            .unwrap();
        rows.iter().map(|row| row.at(0).unwrap()).collect()
    }

    #[tokio::test]
    async fn ml_mig_1_up_down_and_status() {
        let db = SqliteDatabase::in_memory().await.unwrap();
        let two = Migrations::new(three().into_iter().take(2)).unwrap();
        assert_eq!(two.apply(&db).await.unwrap(), 2);
        assert_eq!(two.apply(&db).await.unwrap(), 0);
        assert_eq!(
            db.query_row(sql("SELECT v FROM a"))
                .await
                .unwrap()
                .at::<i64>(0)
                .unwrap(),
            2
        );
        let all = Migrations::new(three()).unwrap();
        let applied = |status: &[MigrationStatus]| status.iter().filter(|s| s.applied_at.is_some()).count();
        assert_eq!(applied(&all.status(&db).await.unwrap()), 2);
        assert_eq!(all.apply(&db).await.unwrap(), 1);
        assert_eq!(all.revert(&db, 2).await.unwrap(), 2);
        assert_eq!(tables(&db).await, ["a", "cqi_migrations"]);
        assert_eq!(all.revert(&db, 5).await.unwrap(), 1);
        assert_eq!(tables(&db).await, ["cqi_migrations"]);
        assert_eq!(all.apply(&db).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn ml_mig_5_s_07_what_does_not_fit_is_refused_before_anything_runs() {
        let db = SqliteDatabase::in_memory().await.unwrap();
        Migrations::new(three().into_iter().take(2))
            .unwrap()
            .apply(&db)
            .await
            .unwrap();
        let mut edited = three();
        edited[0].up.push(' ');
        let mut one_way = three();
        one_way[0].down = None;
        let mut crlf = three();
        crlf[0].up = crlf[0].up.replace("\r\n", "\n");
        let refused = |error: Error, named: &str| {
            assert_eq!(
                (error.is_permanent(), error.code()),
                (true, Some(Code::FailedPrecondition))
            );
            assert!(error.to_string().contains(named), "{error}");
        };
        let edited = Migrations::new(edited).unwrap();
        refused(edited.apply(&db).await.unwrap_err(), "1_m was changed");
        refused(edited.revert(&db, 1).await.unwrap_err(), "1_m was changed");
        let shorter = Migrations::new(three().into_iter().take(1)).unwrap();
        refused(shorter.apply(&db).await.unwrap_err(), "migration 2 is applied");
        refused(
            Migrations::new(one_way)
                .unwrap()
                .revert(&db, 2)
                .await
                .unwrap_err(),
            "1_m has no down-SQL",
        );
        assert_eq!(tables(&db).await, ["a", "b", "cqi_migrations"]);
        Migrations::new(crlf).unwrap().apply(&db).await.unwrap();
    }

    #[tokio::test]
    async fn ml_mig_6_a_failing_migration_is_rolled_back_whole_and_named() {
        let db = SqliteDatabase::in_memory().await.unwrap();
        let mut broken = three();
        broken[1].up = "CREATE TABLE b (v INTEGER); INSERT INTO nowhere VALUES (1)".into();
        let error = Migrations::new(broken).unwrap().apply(&db).await.unwrap_err();
        assert_eq!(error.to_string(), "migration 2_m failed");
        assert!(
            error.chain().to_string().contains("no such table: nowhere"),
            "{}",
            error.chain()
        );
        assert_eq!(tables(&db).await, ["a", "cqi_migrations"]);
        assert_eq!(Migrations::new(three()).unwrap().apply(&db).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn ml_mig_7_f_db_10_several_that_start_at_once_apply_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let all = Arc::new(Migrations::new(three()).unwrap());
        let mut starting = JoinSet::new();
        for _ in 0..5 {
            let (all, path) = (Arc::clone(&all), folder.path().join("t.db"));
            starting.spawn(async move {
                let db = SqliteDatabase::open(SqliteOptions::file(path)).await?;
                all.apply(&db).await
            });
        }
        let counts: Vec<usize> = starting
            .join_all()
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(counts.iter().sum::<usize>(), 3, "{counts:?}");
    }
}
