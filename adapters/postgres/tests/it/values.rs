//! Values whose type in the table is not that of the value, and what the port's suite cannot know of.

use cqi_core::{
    Code, Kind,
    database::{Decimal, Executor, Value, sql},
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::support::{connect, run, shared};

/// Writes a value to a column of this type and reads it back.
async fn round(on: &dyn Executor, column: &str, value: Value) -> cqi_core::Result<Value> {
    on.execute(sql("DROP TABLE IF EXISTS t")).await?;
    on.execute(sql(format!("CREATE TABLE t (v {column})"))).await?;
    on.execute(sql("INSERT INTO t VALUES ($1)").bind(value)).await?;
    on.query(sql("SELECT v FROM t")).await?[0].at(0)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn the_server_says_the_type_of_a_parameter() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect(&options).await;
        db.execute(sql(
            "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE DOMAIN small AS INT CHECK (VALUE < 9)",
        ))
        .await
        .unwrap();
        let id = Uuid::new_v4();
        let time: Timestamp = "2026-01-31T09:00:00.123456Z".parse().unwrap();
        let decimal = |text: &str| Value::Decimal(text.parse::<Decimal>().unwrap());
        for (column, value, back) in [
            ("SMALLINT", Value::Int(-5), Value::Int(-5)),
            ("INTEGER", Value::Int(7), Value::Int(7)),
            ("INTEGER", decimal("7"), Value::Int(7)),
            ("small", Value::Int(7), Value::Int(7)),
            ("REAL", Value::Float(0.5), Value::Float(0.5)),
            ("DOUBLE PRECISION", Value::Int(3), Value::Float(3.0)),
            ("NUMERIC(12, 4)", Value::Int(3), decimal("3.0000")),
            ("NUMERIC", text("-1.50"), decimal("-1.50")),
            ("NUMERIC", Value::Float(2.5), decimal("2.5")),
            ("VARCHAR(9)", Value::Int(12), text("12")),
            ("CHAR(3)", text("abc"), text("abc")),
            ("mood", text("good"), text("good")),
            ("UUID", text(&id.to_string()), Value::Uuid(id)),
            ("TEXT", Value::Uuid(id), text(&id.to_string())),
            (
                "TEXT",
                Value::Timestamp(time),
                text("2026-01-31T09:00:00.123456Z"),
            ),
            (
                "TIMESTAMPTZ",
                text("2026-01-31T09:00:00.123456Z"),
                Value::Timestamp(time),
            ),
            ("TIMESTAMP", Value::Timestamp(time), Value::Timestamp(time)),
            (
                "TIMESTAMP",
                text("2026-01-31T09:00:00.123456"),
                Value::Timestamp(time),
            ),
            ("DATE", text("1999-12-31"), text("1999-12-31")),
            ("TIME", text("23:59:59.5"), text("23:59:59.5")),
            ("REAL", Value::Float(f64::INFINITY), Value::Float(f64::INFINITY)),
            ("REAL", Value::Float(0.0), Value::Float(0.0)),
            (
                "JSON",
                text("{\"a\":1}"),
                Value::Json(serde_json::json!({"a": 1})),
            ),
            ("JSONB", text("[1]"), Value::Json(serde_json::json!([1]))),
            (
                "INTEGER[]",
                Value::Array(vec![Value::Int(1), Value::Null]),
                Value::Array(vec![Value::Int(1), Value::Null]),
            ),
            (
                "UUID[]",
                Value::Array(vec![text(&id.to_string())]),
                Value::Array(vec![Value::Uuid(id)]),
            ),
            ("NUMERIC[]", Value::Array(vec![]), Value::Array(vec![])),
        ] {
            let seen = round(&db, column, value.clone()).await;
            assert!(
                seen.as_ref().is_ok_and(|seen| *seen == back),
                "{column} {value:?}: {seen:?}"
            );
        }
        // Null first, a value second: the types do not come from what was bound first.
        let insert = || sql("INSERT INTO u VALUES ($1, $2)");
        db.execute(sql("CREATE TABLE u (a INTEGER, b TEXT)"))
            .await
            .unwrap();
        db.execute(insert().bind(Value::Null).bind(Value::Null))
            .await
            .unwrap();
        db.execute(insert().bind(1_i64).bind("x")).await.unwrap();
        db.execute(insert().bind(2_i64).bind(Value::Null)).await.unwrap();
        let rows = db
            .query(sql("SELECT substr('abc', $1), $2").bind(2_i64).bind(true))
            .await
            .unwrap();
        assert_eq!(rows[0].values(), [text("bc"), text("true")]);
    });
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_sent() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect(&options).await;
        for (column, value) in [
            ("SMALLINT", Value::Int(40_000)),
            ("INTEGER", Value::Int(1 << 40)),
            ("BIGINT", text("canary")),
            ("BIGINT", Value::Float(1.0)),
            ("REAL", Value::Float(1e39)),
            ("REAL", Value::Float(-1e-60)),
            ("BOOLEAN", Value::Int(1)),
            ("UUID", text("canary")),
            ("TIMESTAMPTZ", text("canary")),
            ("NUMERIC", text("canary")),
            ("NUMERIC", Value::Float(f64::NAN)),
            ("INTERVAL", text("canary")),
            ("TEXT", Value::Array(vec![text("canary")])),
            ("BYTEA", text("canary")),
        ] {
            let error = round(&db, column, value.clone()).await.unwrap_err();
            assert!(
                error.is_invalid_input() && !error.may_have_applied(),
                "{column} {value:?}: {error}"
            );
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
        for (column, value, kind) in [
            ("JSONB", "canary", Kind::InvalidInput),
            ("VARCHAR(2)", "canary", Kind::InvalidInput),
            ("TEXT", "can\0ary", Kind::InvalidInput),
        ] {
            let error = round(&db, column, text(value)).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{column}: {error}");
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
        for unreadable in [
            "SELECT INTERVAL '1 day'",
            "SELECT 'NaN'::numeric",
            "SELECT 'infinity'::timestamptz",
        ] {
            let error = db.query(sql(unreadable)).await.unwrap_err();
            assert_eq!(error.code(), Some(Code::Undecodable), "{unreadable}");
        }
        let rows = db
            .query(sql("SELECT ($1::text::interval * 2)::text").bind("1 day"))
            .await
            .unwrap();
        assert_eq!(rows[0].values(), [text("2 days")]);
    });
}
