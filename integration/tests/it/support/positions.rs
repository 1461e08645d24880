//! Positions on the wire and in the file.

use std::{fmt::Display, path::Path};

use cqi_core::database::{Database, Executor, ExecutorExt, SqliteDatabase, SqliteOptions, sql};
use cqi_testkit::eventually;
use serde_json::{Value, json};

use super::{PATIENCE, Process, ask};

pub(crate) fn position(portfolio: &str, asset: &str, quantity: impl Display) -> Value {
    json!({"portfolio_id": portfolio, "asset_id": asset, "quantity": quantity.to_string()})
}

/// The request that sets a position.
pub(crate) fn post(position: &Value) -> String {
    let body = position.to_string();
    let length = body.len();
    format!(
        "POST /api/positions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// Asks for a portfolio until this many changes are counted: events are handled after the answer.
///
/// # Panics
/// When that takes too long, with the last answer.
pub(crate) async fn summary(service: &Process, portfolio: &str, changes: i64) -> Value {
    let path = format!("GET /api/portfolios/{portfolio} HTTP/1.1\r\nhost: test\r\n\r\n");
    let look = async || {
        let answer = ask(service.http(), &path).await.json();
        if answer["changes"] == changes {
            Ok(answer)
        } else {
            Err(answer.to_string())
        }
    };
    let seen = eventually(&format!("{changes} changes of {portfolio}"), PATIENCE, look).await;
    seen.unwrap_or_else(|failure| panic!("{failure}"))
}

/// What a process that has ended left in its database file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    /// Portfolio, asset and quantity.
    pub(crate) positions: Vec<(String, String, String)>,
    /// Portfolio, positions and changes.
    pub(crate) summaries: Vec<(String, i64, i64)>,
    pub(crate) summarised_assets: i64,
    pub(crate) counted_events: i64,
}

impl Tables {
    pub(crate) async fn read(file: &Path) -> Self {
        let database = SqliteDatabase::open(SqliteOptions::file(file)).await.unwrap();
        let rows = |text: &'static str| database.query(sql(text));
        let positions = rows("SELECT portfolio_id, asset_id, quantity FROM positions ORDER BY 1, 2").await;
        let summaries = rows("SELECT portfolio_id, positions, changes FROM summaries ORDER BY 1").await;
        let count = async |table: &str| {
            let row = database
                .query_row(sql(format!("SELECT COUNT(*) AS n FROM {table}")))
                .await;
            row.unwrap().get::<i64>("n").unwrap()
        };
        let tables = Self {
            positions: positions
                .unwrap()
                .iter()
                .map(|row| {
                    (
                        row.get("portfolio_id").unwrap(),
                        row.get("asset_id").unwrap(),
                        row.get("quantity").unwrap(),
                    )
                })
                .collect(),
            summaries: summaries
                .unwrap()
                .iter()
                .map(|row| {
                    (
                        row.get("portfolio_id").unwrap(),
                        row.get("positions").unwrap(),
                        row.get("changes").unwrap(),
                    )
                })
                .collect(),
            summarised_assets: count("summarised_assets").await,
            counted_events: count("counted_events").await,
        };
        database.close().await.unwrap();
        tables
    }
}
