//! The service over gRPC.

use std::pin::Pin;

use cqi::{grpc, prelude::*};
use futures::{Stream, StreamExt as _};
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    positions::{self, Positions, check_id},
    proto::{
        GetPositionRequest, Position, PositionChanged, SetPositionRequest, WatchPositionsRequest,
        positions_server::Positions as Api,
    },
};

/// Answers calls. Who may make them is not its business: the server in front asks.
pub(crate) struct Service {
    positions: Positions,
    /// Cancelled when the server drains, which streams without an end must not hold up.
    draining: CancellationToken,
}

impl Service {
    pub(crate) fn new(positions: Positions, draining: CancellationToken) -> Self {
        Self { positions, draining }
    }

    async fn set(&self, request: SetPositionRequest) -> grpc::Result<Position> {
        let wrong = |error: Error| error.with_context("field", "quantity");
        let position = positions::Position {
            portfolio_id: request.portfolio_id,
            asset_id: request.asset_id,
            quantity: request.quantity.parse().map_err(wrong)?,
        };
        Ok(self.positions.set(position).await?.into())
    }

    async fn get(&self, request: GetPositionRequest) -> grpc::Result<Position> {
        Ok(self
            .positions
            .get(request.portfolio_id, request.asset_id)
            .await?
            .into())
    }

    fn watch(&self, request: WatchPositionsRequest) -> grpc::Result<Changes> {
        check_id("portfolio_id", &request.portfolio_id)?;
        let portfolio_id = request.portfolio_id;
        let changes = BroadcastStream::new(self.positions.watch()).filter_map(move |change| {
            let change = match change {
                Ok(change) if change.portfolio_id == portfolio_id => Some(Ok(Position::from(&*change))),
                Ok(_) => None,
                Err(BroadcastStreamRecvError::Lagged(missed)) => Some(Err(Status::data_loss(format!(
                    "{missed} changes were missed: read anew and watch again"
                )))),
            };
            std::future::ready(change)
        });
        Ok(Box::pin(
            changes.take_until(self.draining.clone().cancelled_owned()),
        ))
    }
}

type Changes = Pin<Box<dyn Stream<Item = Result<Position, Status>> + Send>>;

#[tonic::async_trait]
impl Api for Service {
    type WatchPositionsStream = Changes;

    async fn set_position(&self, request: Request<SetPositionRequest>) -> Result<Response<Position>, Status> {
        Ok(Response::new(self.set(request.into_inner()).await?))
    }

    async fn get_position(&self, request: Request<GetPositionRequest>) -> Result<Response<Position>, Status> {
        Ok(Response::new(self.get(request.into_inner()).await?))
    }

    async fn watch_positions(
        &self,
        request: Request<WatchPositionsRequest>,
    ) -> Result<Response<Self::WatchPositionsStream>, Status> {
        Ok(Response::new(self.watch(request.into_inner())?))
    }
}

impl From<positions::Position> for Position {
    fn from(position: positions::Position) -> Self {
        Self {
            portfolio_id: position.portfolio_id,
            asset_id: position.asset_id,
            quantity: position.quantity.to_string(),
        }
    }
}

impl From<&PositionChanged> for Position {
    fn from(change: &PositionChanged) -> Self {
        Self {
            portfolio_id: change.portfolio_id.clone(),
            asset_id: change.asset_id.clone(),
            quantity: change.quantity.clone(),
        }
    }
}
