//! What portfolios amount to, counted from events.

use cqi::prelude::*;
use serde::Serialize;

use crate::{positions::check_id, proto::PositionChanged};

pub(crate) const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS summaries (portfolio_id TEXT PRIMARY KEY, positions BIGINT NOT NULL, changes BIGINT NOT NULL);
    CREATE TABLE IF NOT EXISTS summarised_assets (portfolio_id TEXT NOT NULL, asset_id TEXT NOT NULL,
        PRIMARY KEY (portfolio_id, asset_id));
    CREATE TABLE IF NOT EXISTS counted_events (event_id TEXT PRIMARY KEY);
";

/// One portfolio's.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    portfolio_id: String,
    positions: i64,
    changes: i64,
}

/// All summaries. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Summaries(Arc<dyn Database>);

impl Summaries {
    /// On this database.
    pub(crate) fn new(database: Arc<dyn Database>) -> Self {
        Self(database)
    }

    /// Reads a summary; `NotFound` for a portfolio nobody has heard of.
    pub(crate) async fn get(&self, portfolio_id: &str) -> Result<Summary> {
        check_id("portfolio_id", portfolio_id)?;
        let row = sql("SELECT positions, changes FROM summaries WHERE portfolio_id = $1").bind(portfolio_id);
        let row = self.0.query_opt(row).await?;
        let row = row.ok_or_else(|| Error::not_found("portfolio", portfolio_id))?;
        Ok(Summary {
            portfolio_id: portfolio_id.to_owned(),
            positions: row.get("positions")?,
            changes: row.get("changes")?,
        })
    }

    /// Counts an event once however often it is delivered: its id and its effect are written in one transaction.
    pub(crate) async fn count(&self, event: &Received<PositionChanged>) -> Result<()> {
        let id = event.event().id().to_string();
        let (portfolio_id, asset_id) = (event.portfolio_id.clone(), event.asset_id.clone());
        self.0
            .with_transaction(|tx| {
                Box::pin(async move {
                    let inbox = sql("INSERT INTO counted_events (event_id) VALUES ($1) ON CONFLICT DO NOTHING");
                    if tx.execute(inbox.bind(id)).await? == 0 {
                        return Ok(()); // delivered before, and counted then
                    }
                    let asset = sql("INSERT INTO summarised_assets (portfolio_id, asset_id) VALUES ($1, $2) \
                                     ON CONFLICT DO NOTHING");
                    let new = tx.execute(asset.bind(&portfolio_id).bind(asset_id)).await?;
                    let summary = sql(
                        "INSERT INTO summaries (portfolio_id, positions, changes) VALUES ($1, $2, 1) \
                         ON CONFLICT (portfolio_id) DO UPDATE \
                         SET positions = summaries.positions + excluded.positions, changes = summaries.changes + 1",
                    );
                    tx.execute(summary.bind(portfolio_id).bind(i64::from(new == 1))).await?;
                    Ok(())
                })
            })
            .await
    }
}
