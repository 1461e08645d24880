//! What the pool does in the background: finishes what was dropped, closes what is idle, opens what is missing.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    connection::Connection,
    pool::{Pool, Unfinished},
};

/// How long rolling back or closing may take; then the connection is just dropped.
const LIMIT: Duration = Duration::from_secs(5);

/// Finishes what loans left behind until nobody can leave anything any more. All of it at once: some holds locks.
pub(crate) async fn finish(pool: Arc<Pool>, mut left: mpsc::Receiver<Unfinished>) {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(Unfinished(work, permit)) = left.recv() => {
                let pool = &pool;
                running.push(async move {
                    if let Some(connection) = work.await {
                        pool.give_back(connection);
                    }
                    drop(permit);
                });
            }
            Some(()) = running.next(), if !running.is_empty() => {}
            else => return,
        }
    }
}

/// Rolls back what is open; `None` if that does not work.
pub(crate) async fn repaired(mut connection: Connection) -> Option<Connection> {
    match timeout(LIMIT, connection.repair()).await {
        Ok(Ok(())) => return Some(connection),
        Ok(Err(fault)) => {
            tracing::debug!(error = %fault.error.chain(), "rolling back a dropped transaction");
        }
        Err(_) => tracing::debug!("rolling back a dropped transaction took too long"),
    }
    None
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
            match pool.closed.run_until_cancelled(pool.open()).await {
                Some(Ok(connection)) => pool.give_back(connection),
                // The next tick tries again.
                Some(Err(_)) | None => break,
            }
            drop(permit);
        }
    }
}
