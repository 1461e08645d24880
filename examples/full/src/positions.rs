//! Positions: stored, read through the cache, published when they change.

use std::time::Duration;

use cqi::{event::Json as Cached, prelude::*};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::proto::PositionChanged;

pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS positions (portfolio_id TEXT NOT NULL, asset_id TEXT NOT NULL, \
                     quantity TEXT NOT NULL, PRIMARY KEY (portfolio_id, asset_id))";

/// How long a position may be read from the cache.
const CACHE_TTL: Duration = Duration::from_secs(60);

/// How many changes a watcher may lag behind.
const LAG: usize = 1024;

/// What is set, stored, cached and answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Position {
    pub(crate) portfolio_id: String,
    pub(crate) asset_id: String,
    pub(crate) quantity: Decimal,
}

/// All positions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Positions {
    database: Arc<dyn Database>,
    cache: ReadThrough,
    bus: Arc<dyn EventBus>,
    changes: broadcast::Sender<Arc<PositionChanged>>,
}

impl Positions {
    /// On these ports.
    pub(crate) fn new(database: Arc<dyn Database>, cache: ReadThrough, bus: Arc<dyn EventBus>) -> Self {
        Self {
            database,
            cache,
            bus,
            changes: broadcast::Sender::new(LAG),
        }
    }

    /// Stores a position, then tells: `Ok` means that the row is committed and the event acknowledged. After an error the
    /// same may be asked again.
    pub(crate) async fn set(&self, position: Position) -> Result<Position> {
        check_id("portfolio_id", &position.portfolio_id)?;
        check_id("asset_id", &position.asset_id)?;
        let row = sql(
            "INSERT INTO positions (portfolio_id, asset_id, quantity) VALUES ($1, $2, $3) \
                       ON CONFLICT (portfolio_id, asset_id) DO UPDATE SET quantity = excluded.quantity \
                       RETURNING portfolio_id, asset_id, quantity",
        );
        let row = row
            .bind(position.portfolio_id)
            .bind(position.asset_id)
            .bind(position.quantity.as_str());
        let stored = to_position(&self.database.query_row(row).await?)?;
        self.cache
            .invalidate(&cache_key(&stored.portfolio_id, &stored.asset_id))
            .await?;
        let event = PositionChanged {
            portfolio_id: stored.portfolio_id.clone(),
            asset_id: stored.asset_id.clone(),
            quantity: stored.quantity.to_string(),
            timestamp_ms: Timestamp::now().as_millisecond(),
        };
        self.bus.emit(&event).await?;
        Ok(stored)
    }

    /// Reads a position; `NotFound` when there is none.
    pub(crate) async fn get(&self, portfolio_id: String, asset_id: String) -> Result<Position> {
        check_id("portfolio_id", &portfolio_id)?;
        check_id("asset_id", &asset_id)?;
        let key = cache_key(&portfolio_id, &asset_id);
        let database = Arc::clone(&self.database);
        let load = || async move {
            let row = sql("SELECT portfolio_id, asset_id, quantity FROM positions \
                           WHERE portfolio_id = $1 AND asset_id = $2");
            let found = database
                .query_opt(row.bind(&portfolio_id).bind(&asset_id))
                .await?;
            let found = found.map(|row| to_position(&row)).transpose()?;
            found
                .map(Cached)
                .ok_or_else(|| Error::not_found("position", format!("{portfolio_id}/{asset_id}")))
        };
        let Cached(position) = self.cache.get_or_load(&key, CACHE_TTL, load).await?;
        Ok(position)
    }

    /// The changes that this process hears of from now on.
    pub(crate) fn watch(&self) -> broadcast::Receiver<Arc<PositionChanged>> {
        self.changes.subscribe()
    }

    /// Tells those who watch.
    pub(crate) fn tell(&self, change: &PositionChanged) {
        // Nobody has to watch.
        let _ = self.changes.send(Arc::new(change.clone()));
    }
}

/// Refuses what is no id.
pub(crate) fn check_id(field: &'static str, id: &str) -> Result<()> {
    if (1..=64).contains(&id.len()) && !id.contains(char::is_control) {
        return Ok(());
    }
    Err(Error::invalid_input(format!(
        "{field} must have 1 to 64 bytes and no control characters"
    ))
    .with_context("field", field))
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
