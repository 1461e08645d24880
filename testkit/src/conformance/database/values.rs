//! Every type of value, there and back.

use bytes::Bytes;
use cqi_core::{
    Code, Kind,
    database::{Decimal, FromValue, Value, sql},
};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::{
    DatabaseHarness,
    kit::{Column, Scene},
};
use crate::conformance::{Failure, Outcome, ensure, ensure_eq, refused};

/// 64-bit integers with their extremes, narrower ones, and both truth values.
pub async fn integers_and_truth_values_round_trip<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    scene
        .round_trip(Column::Int, [0, 1, -1, i64::MAX, i64::MIN])
        .await?;
    scene.round_trip(Column::Int, [0, i32::MAX, i32::MIN]).await?;
    scene.round_trip(Column::Int, [0, u32::MAX]).await?;
    scene.round_trip(Column::Bool, [true, false]).await
}

/// Doubles, bit by bit: tiny, huge, negative and whole ones.
pub async fn floats_round_trip<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let floats = [
        0.0,
        0.1,
        -1.5,
        1.0,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        f64::EPSILON,
        1e300,
        12_345_678.9,
    ];
    scene.round_trip(Column::Float, floats).await
}

/// Texts with quotes, line ends, non-ASCII and 1 MiB; bytes of every value.
pub async fn texts_and_bytes_round_trip<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let texts = [
        "",
        " ",
        "it's",
        "\"q\"",
        "a\r\nb\tc",
        "☺ ñ 日本語 🦀",
        "$1",
        "?",
        "%_\\",
        "NULL",
        "0012",
        "1e5",
    ];
    let long = "x".repeat(1 << 20);
    scene
        .round_trip(Column::Text, texts.map(str::to_owned).into_iter().chain([long]))
        .await?;
    let all: Vec<u8> = (0..=255).collect();
    let bytes = [Vec::new(), vec![0], all, vec![0xff; 1 << 16]].map(Bytes::from);
    scene.round_trip(Column::Bytes, bytes).await
}

/// Decimals keep every digit.
pub async fn decimals_round_trip_exactly<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let texts = [
        "0",
        "0.1",
        "-12.34",
        "100",
        "0.000000000000000001",
        "123456789012345678901234567890.123456789",
        "1000000",
    ];
    let decimals: Result<Vec<Decimal>, _> = texts.iter().map(|text| text.parse()).collect();
    scene.round_trip(Column::Decimal, decimals?).await
}

/// Points in time keep their microseconds, before 1970 too. In a column of text they sort as time does.
pub async fn timestamps_round_trip_to_the_microsecond<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let times = [
        (0, 0),
        (1_700_000_000, 123_456_000),
        (-1, -1_000),
        (4_102_444_800, 999_999_000),
        (1_700_000_000, 500_000_000),
        (1_700_000_000, 0),
    ];
    let times: Result<Vec<_>, _> = times.iter().map(|(s, ns)| Timestamp::new(*s, *ns)).collect();
    let times = times.map_err(|error| Failure::new(error.to_string()))?;
    scene.round_trip(Column::Timestamp, times.clone()).await?;
    scene.round_trip(Column::Text, times.clone()).await?;
    scene.create("id BIGINT PRIMARY KEY, v TEXT").await?;
    for (id, time) in (0_i64..).zip(&times) {
        let insert = scene.sql("INSERT INTO {t} (id, v) VALUES ($1, $2)");
        scene.db.execute(insert.bind(id).bind(*time)).await?;
    }
    let rows = scene.db.query(scene.sql("SELECT v FROM {t} ORDER BY v")).await?;
    let seen: Result<Vec<Timestamp>, _> = rows.iter().map(|row| row.get("v")).collect();
    let mut sorted = times;
    sorted.sort();
    ensure_eq!(seen?, sorted, "times in a column of text, in its order");
    Ok(())
}

/// UUIDs and JSON documents.
pub async fn uuids_and_json_round_trip<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    scene
        .round_trip(
            Column::Uuid,
            [Uuid::nil(), Uuid::max(), Uuid::new_v4(), Uuid::now_v7()],
        )
        .await?;
    let documents = [
        json!({"a": [1, 2.5, "x", null, true], "b": {"c": "it's ☺"}}),
        json!([]),
        json!({}),
        json!("text"),
        json!(12),
    ];
    scene.round_trip(Column::Json, documents).await
}

/// Null goes in and comes out for every column type, and is not mistaken for a value.
pub async fn null_round_trips_as_every_type<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let columns: Vec<String> = (0..)
        .zip(Column::ALL)
        .map(|(n, column): (usize, Column)| format!("c{n} {}", column.of(scene.db.dialect())))
        .collect();
    scene.create(&columns.join(", ")).await?;
    let places: Vec<String> = (1..=columns.len()).map(|n| format!("${n}")).collect();
    let mut insert = scene.sql(&format!("INSERT INTO {{t}} VALUES ({})", places.join(", ")));
    for _ in &columns {
        insert = insert.bind(Value::Null);
    }
    scene.db.execute(insert).await?;
    let rows = scene.db.query(scene.sql("SELECT * FROM {t}")).await?;
    ensure_eq!(rows.len(), 1, "rows");
    for at in 0..columns.len() {
        ensure_eq!(rows[0].at::<Value>(at)?, Value::Null, "column {at}");
        ensure_eq!(
            rows[0].at::<Option<String>>(at)?,
            None,
            "column {at} as an optional text"
        );
        refused(
            "null as an integer",
            rows[0].at::<i64>(at),
            Kind::Permanent,
            Some(Code::Undecodable),
        )?;
    }
    Ok(())
}

/// Arrays come back as they went in, the empty one too; a database without arrays says `Unsupported`.
pub async fn arrays_round_trip_or_are_unsupported<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let probe = sql("SELECT $1").bind(Value::Array(vec![Value::Int(1)]));
    if let Err(error) = scene.db.query(probe).await
        && error.code() == Some(Code::Unsupported)
    {
        ensure!(
            !error.may_have_applied(),
            "unsupported, yet the error says it may have applied"
        );
        return Ok(());
    }
    let integers = vec![Value::Int(1), Value::Int(i64::MIN)];
    let texts = ["a", "it's", ""]
        .map(|text| Value::Text(text.to_owned()))
        .to_vec();
    let arrays = [
        ("BIGINT[]", integers),
        ("TEXT[]", texts),
        ("BOOLEAN[]", vec![Value::Bool(true)]),
    ];
    for (n, (column, items)) in arrays.into_iter().enumerate() {
        let table = format!("{}_{n}", scene.table);
        scene
            .db
            .execute(sql(format!("CREATE TABLE {table} (v {column})")))
            .await?;
        let insert = sql(format!("INSERT INTO {table} (v) VALUES ($1)"));
        scene.db.execute(insert.bind(Value::Array(items.clone()))).await?;
        let rows = scene.db.query(sql(format!("SELECT v FROM {table}"))).await?;
        ensure_eq!(rows.len(), 1, "rows");
        let seen = Vec::<Value>::from_value(&rows[0].values()[0])?;
        ensure!(seen == items, "an array of {column} came back changed");
    }
    Ok(())
}

/// Reading a column as a type it does not hold, or a column that is not there, is `Permanent`/`Undecodable`.
pub async fn a_value_of_another_type_is_undecodable<H: DatabaseHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    scene.create("v TEXT").await?;
    scene
        .db
        .execute(scene.sql("INSERT INTO {t} (v) VALUES ($1)").bind("canary"))
        .await?;
    let rows = scene.db.query(scene.sql("SELECT v FROM {t}")).await?;
    ensure_eq!(rows.len(), 1, "rows");
    let (kind, code) = (Kind::Permanent, Some(Code::Undecodable));
    refused("text as integer", rows[0].get::<i64>("v"), kind, code)?;
    refused("text as uuid", rows[0].get::<Uuid>("v"), kind, code)?;
    refused("a missing column", rows[0].get::<String>("w"), kind, code)?;
    refused("a missing position", rows[0].at::<String>(1), kind, code)
}
