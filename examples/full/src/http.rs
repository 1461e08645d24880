//! The service over HTTP.

use cqi::prelude::*;

use crate::{
    positions::{Position, Positions},
    summaries::{Summaries, Summary},
};

/// Its routes. Who may call is not their business: the server in front asks.
pub(crate) fn routes(positions: Positions, summaries: Summaries) -> Router {
    Router::new()
        .route("/api/positions", post(set_position))
        .route("/api/positions/{portfolio_id}/{asset_id}", get(get_position))
        .route("/api/portfolios/{portfolio_id}", get(get_summary))
        .with_state((positions, summaries))
}

type Ports = (Positions, Summaries);

async fn set_position(
    State((positions, _)): State<Ports>,
    Json(position): Json<Position>,
) -> HttpResult<(StatusCode, Json<Position>)> {
    Ok((StatusCode::CREATED, Json(positions.set(position).await?)))
}

async fn get_position(
    State((positions, _)): State<Ports>,
    Path((portfolio_id, asset_id)): Path<(String, String)>,
) -> HttpResult<Json<Position>> {
    Ok(Json(positions.get(portfolio_id, asset_id).await?))
}

async fn get_summary(
    State((_, summaries)): State<Ports>,
    Path(portfolio_id): Path<String>,
) -> HttpResult<Json<Summary>> {
    Ok(Json(summaries.get(&portfolio_id).await?))
}
