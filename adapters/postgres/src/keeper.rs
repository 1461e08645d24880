//! What the pool does in the background: rolls back what was dropped, closes what is idle, opens what is missing.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    connection::Connection,
    pool::{Pool, Repair},
};

/// How long rolling back or closing may take; then the connection is just dropped.
const LIMIT: Duration = Duration::from_secs(5);

/// Rolls back dropped transactions until nobody can drop one any more. Each is done at once: it holds locks.
pub(crate) async fn repair(pool: Arc<Pool>, mut broken: mpsc::Receiver<Repair>) {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(Repair(mut connection, permit)) = broken.recv() => {
                let pool = &pool;
                running.push(async move {
                    match timeout(LIMIT, connection.repair()).await {
                        Ok(Ok(())) => pool.give_back(connection),
                        Ok(Err(fault)) => {
                            tracing::debug!(error = %fault.error.chain(), "rolling back a dropped transaction");
                        }
                        Err(_) => tracing::debug!("rolling back a dropped transaction took too long"),
                    }
                    drop(permit);
                });
            }
            Some(()) = running.next(), if !running.is_empty() => {}
            else => return,
        }
    }
}

/// Holds the number of connections between its limits.
pub(crate) async fn keep(pool: Arc<Pool>) {
    let options = &pool.options;
    let shortest = options.idle_timeout.min(options.max_lifetime) / 4;
    let mut ticks = interval(shortest.clamp(Duration::from_millis(10), Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !pool.is_closed() {
        ticks.tick().await;
        let over = pool.take_expired();
        if !over.is_empty() {
            let closing = futures::future::join_all(over.into_iter().map(Connection::close));
            // Left unfinished they are dropped, which closes them too.
            drop(timeout(LIMIT, closing).await);
        }
        while let Some(permit) = pool.missing() {
            match timeout(options.connection_timeout, pool.connect()).await {
                Ok(Ok(connection)) => pool.give_back(connection),
                // The next tick tries again.
                Ok(Err(_)) | Err(_) => break,
            }
            drop(permit);
        }
    }
}
