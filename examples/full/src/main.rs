//! A positions service over HTTP and gRPC, with logs, metrics, traces, health and authentication.

mod grpc;
mod http;
mod positions;
mod proto;
mod summaries;

use cqi::{
    database::{Migration, Migrations},
    prelude::*,
};

use crate::{
    grpc::Service, positions::Positions, proto::positions_server::PositionsServer, summaries::Summaries,
};

#[tokio::main]
async fn main() -> ExitCode {
    cqi::run(include_str!("../config.yaml"), |cqi| async move {
        migrations()?.apply(&*cqi.database()).await?;
        let positions = Positions::new(cqi.database(), cqi.read_through(), cqi.bus());
        let summaries = Summaries::new(cqi.database());

        let routes = http::routes(positions.clone(), summaries.clone());
        let events = {
            let (positions, summaries) = (positions.clone(), summaries);
            Events::new().on_event(move |event| changed(positions.clone(), summaries.clone(), event))
        };
        cqi.http(routes).subscriber(events)?.grpc(|server| {
            let service = Service::new(positions, server.draining());
            server
                .add(PositionsServer::new(service))?
                .reflection(proto::DESCRIPTORS)
        })
    })
    .await
}

/// The tables. Of instances that start at once one makes them.
fn migrations() -> Result<Migrations> {
    let migration = |version, name: &str, up: &str| Migration {
        version,
        name: name.into(),
        up: up.into(),
        down: None,
    };
    Migrations::new([
        migration(1, "positions", positions::TABLE),
        migration(2, "summaries", summaries::TABLES),
    ])
}

/// Counts the change, then tells those who watch.
async fn changed(
    positions: Positions,
    summaries: Summaries,
    event: Received<proto::PositionChanged>,
) -> Result<()> {
    summaries.count(&event).await?;
    tracing::info!(
        portfolio_id = event.portfolio_id,
        asset_id = event.asset_id,
        "position changed"
    );
    positions.tell(&event);
    Ok(())
}
