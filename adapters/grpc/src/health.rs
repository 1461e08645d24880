//! The health service, fed by core's [`Health`].

use std::{sync::Arc, time::Duration};

use cqi_core::health::Health;
use futures::{Stream, StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health as Protocol, HealthServer},
};

use crate::stack::Names;

/// How often a `Watch` looks; checks are run once a second at most, however many watch.
const LOOK: Duration = Duration::from_secs(1);

/// Answers for the server as a whole and for each of its services, which share their dependencies.
#[derive(Clone)]
pub(crate) struct HealthService {
    health: Health,
    services: Names,
    drain: CancellationToken,
}

impl HealthService {
    pub(crate) fn new(health: Health, services: Names, drain: CancellationToken) -> Self {
        Self {
            health,
            services,
            drain,
        }
    }

    pub(crate) fn into_server(self) -> HealthServer<Self> {
        HealthServer::from_arc(Arc::new(self))
    }

    async fn status(&self, service: &str) -> ServingStatus {
        if !service.is_empty() && !self.services.contains(service) {
            ServingStatus::ServiceUnknown
        } else if !self.drain.is_cancelled() && self.health.ready().await.is_healthy() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    }

    /// The status whenever it has changed. A drain is told and ends the stream, which would hold it up.
    fn changes(self, service: String) -> impl Stream<Item = ServingStatus> + Send + 'static {
        let looks = stream::unfold((self, service, false), |(this, service, waited)| async move {
            if waited {
                if this.drain.is_cancelled() {
                    return None;
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = this.drain.cancelled() => {}
                }
            }
            let status = this.status(&service).await;
            Some((status, (this, service, true)))
        });
        let mut told = None;
        looks.filter(move |status| {
            let news = told.replace(*status) != Some(*status);
            async move { news }
        })
    }
}

#[tonic::async_trait]
impl Protocol for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match self.status(&request.get_ref().service).await {
            ServingStatus::ServiceUnknown => Err(Status::not_found("no such service")),
            status => Ok(Response::new(response(status))),
        }
    }

    type WatchStream = stream::BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let changes = self.clone().changes(request.into_inner().service);
        Ok(Response::new(changes.map(|status| Ok(response(status))).boxed()))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}
