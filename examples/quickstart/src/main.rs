//! A positions service: HTTP in, SQL and cache behind it, an event per change, and a summary kept by a subscriber.

use std::time::Duration;

use cqi::{
    database::{Migration, Migrations},
    event::Json as Cached,
    prelude::*,
};
use serde::{Deserialize, Serialize};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS positions (portfolio_id TEXT NOT NULL, asset_id TEXT NOT NULL, quantity TEXT NOT NULL,
        PRIMARY KEY (portfolio_id, asset_id));
    CREATE TABLE IF NOT EXISTS summaries (portfolio_id TEXT PRIMARY KEY, positions BIGINT NOT NULL, changes BIGINT NOT NULL);
    CREATE TABLE IF NOT EXISTS summarised_assets (portfolio_id TEXT NOT NULL, asset_id TEXT NOT NULL,
        PRIMARY KEY (portfolio_id, asset_id));
    CREATE TABLE IF NOT EXISTS counted_events (event_id TEXT PRIMARY KEY);
";

/// How long a position may be read from the cache.
const CACHE_TTL: Duration = Duration::from_secs(60);

/// `cqc.events.v1.PositionChanged`, published to `cqc.events.v1.position_changed`.
#[derive(Clone, PartialEq, prost::Message)]
struct PositionChanged {
    #[prost(string, tag = "1")]
    portfolio_id: String,
    #[prost(string, tag = "2")]
    asset_id: String,
    /// The new quantity, a decimal number.
    #[prost(string, tag = "3")]
    quantity: String,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "4")]
    timestamp_ms: i64,
}

cqi::domain_event!(PositionChanged = "position_changed", key = portfolio_id);

/// What is posted, stored, cached and answered.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    portfolio_id: String,
    asset_id: String,
    quantity: Decimal,
}

#[derive(Serialize)]
struct Summary {
    portfolio_id: String,
    positions: i64,
    changes: i64,
}

#[tokio::main]
async fn main() -> ExitCode {
    cqi::run(include_str!("../config.yaml"), |cqi| async move {
        migrations()?.apply(&*cqi.database()).await?;
        let positions = Positions {
            database: cqi.database(),
            cache: cqi.read_through(),
            bus: cqi.bus(),
        };
        let routes = Router::new()
            .route("/api/positions", post(set_position))
            .route("/api/positions/{portfolio_id}/{asset_id}", get(get_position))
            .route("/api/portfolios/{portfolio_id}", get(get_summary))
            .with_state(positions.clone());
        let events = Events::new().on_event(move |event| summarise(positions.clone(), event));
        cqi.http(routes).subscriber(events)
    })
    .await
}

/// Of instances that start at once one makes the tables.
fn migrations() -> Result<Migrations> {
    Migrations::new([Migration {
        version: 1,
        name: "positions".into(),
        up: SCHEMA.into(),
        down: None,
    }])
}

#[derive(Clone)]
struct Positions {
    database: Arc<dyn Database>,
    cache: ReadThrough,
    bus: Arc<dyn EventBus>,
}

/// Stores the position, then tells: 201 means that the row is committed and the event acknowledged. Any other answer may
/// be followed by the same request again.
async fn set_position(
    State(service): State<Positions>,
    Json(position): Json<Position>,
) -> HttpResult<(StatusCode, Json<Position>)> {
    check_id("portfolio_id", &position.portfolio_id)?;
    check_id("asset_id", &position.asset_id)?;
    let stored = service
        .database
        .with_transaction(|tx| {
            Box::pin(async move {
                let row = sql(
                    "INSERT INTO positions (portfolio_id, asset_id, quantity) VALUES ($1, $2, $3) \
                     ON CONFLICT (portfolio_id, asset_id) DO UPDATE SET quantity = excluded.quantity \
                     RETURNING portfolio_id, asset_id, quantity",
                );
                let row = row
                    .bind(position.portfolio_id)
                    .bind(position.asset_id)
                    .bind(position.quantity.as_str());
                to_position(&tx.query_row(row).await?)
            })
        })
        .await?;
    service
        .cache
        .invalidate(&cache_key(&stored.portfolio_id, &stored.asset_id))
        .await?;
    let event = PositionChanged {
        portfolio_id: stored.portfolio_id.clone(),
        asset_id: stored.asset_id.clone(),
        quantity: stored.quantity.to_string(),
        timestamp_ms: Timestamp::now().as_millisecond(),
    };
    service.bus.emit(&event).await?;
    Ok((StatusCode::CREATED, Json(stored)))
}

async fn get_position(
    State(service): State<Positions>,
    Path((portfolio_id, asset_id)): Path<(String, String)>,
) -> HttpResult<Json<Position>> {
    check_id("portfolio_id", &portfolio_id)?;
    check_id("asset_id", &asset_id)?;
    let key = cache_key(&portfolio_id, &asset_id);
    let database = service.database;
    let load = || async move {
        let row = sql("SELECT portfolio_id, asset_id, quantity FROM positions WHERE portfolio_id = $1 AND asset_id = $2")
            .bind(&portfolio_id)
            .bind(&asset_id);
        let found = database
            .query_opt(row)
            .await?
            .map(|row| to_position(&row))
            .transpose()?;
        found
            .map(Cached)
            .ok_or_else(|| Error::not_found("position", format!("{portfolio_id}/{asset_id}")))
    };
    let Cached(position) = service.cache.get_or_load(&key, CACHE_TTL, load).await?;
    Ok(Json(position))
}

async fn get_summary(
    State(service): State<Positions>,
    Path(portfolio_id): Path<String>,
) -> HttpResult<Json<Summary>> {
    check_id("portfolio_id", &portfolio_id)?;
    let row = sql("SELECT positions, changes FROM summaries WHERE portfolio_id = $1").bind(&portfolio_id);
    let row = service
        .database
        .query_opt(row)
        .await?
        .ok_or_else(|| Error::not_found("portfolio", &portfolio_id))?;
    Ok(Json(Summary {
        portfolio_id,
        positions: row.get("positions")?,
        changes: row.get("changes")?,
    }))
}

/// Counts an event once however often it is delivered: its id and its effect are written in one transaction.
async fn summarise(service: Positions, event: Received<PositionChanged>) -> Result<()> {
    service
        .database
        .with_transaction(|tx| {
            Box::pin(async move {
                let id = sql("INSERT INTO counted_events (event_id) VALUES ($1) ON CONFLICT DO NOTHING");
                if tx.execute(id.bind(event.event().id().to_string())).await? == 0 {
                    return Ok(()); // delivered before, and counted then
                }
                let asset = sql(
                    "INSERT INTO summarised_assets (portfolio_id, asset_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                );
                let new = tx.execute(asset.bind(&event.portfolio_id).bind(&event.asset_id)).await?;
                let summary = sql(
                    "INSERT INTO summaries (portfolio_id, positions, changes) VALUES ($1, $2, 1) \
                     ON CONFLICT (portfolio_id) DO UPDATE \
                     SET positions = summaries.positions + excluded.positions, changes = summaries.changes + 1",
                );
                tx.execute(summary.bind(&event.portfolio_id).bind(i64::from(new == 1))).await?;
                Ok(())
            })
        })
        .await
}

fn to_position(row: &Row) -> Result<Position> {
    Ok(Position {
        portfolio_id: row.get("portfolio_id")?,
        asset_id: row.get("asset_id")?,
        quantity: row.get("quantity")?,
    })
}

fn cache_key(portfolio_id: &str, asset_id: &str) -> String {
    key("position", [portfolio_id, asset_id])
}

fn check_id(field: &str, id: &str) -> Result<()> {
    if (1..=64).contains(&id.len()) && !id.contains(char::is_control) {
        return Ok(());
    }
    Err(Error::invalid_input(format!(
        "{field} must have 1 to 64 bytes and no control characters"
    )))
}
