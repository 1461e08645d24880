//! Opening a connection, to its end even if its caller waits no longer.
//!
//! A caller that has less time than connecting takes would otherwise break off what it began, and so would whoever comes
//! next: nobody would ever get through.

use std::{future::pending, mem::replace, sync::Arc};

use cqi_core::Result;
use futures::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    connection::Connection,
    pool::{Pool, Unfinished},
};

/// Opens a connection for this place in the pool. The place is taken away while the future runs; when it is dropped, the
/// keeper goes on with both, until the pool closes.
pub(crate) async fn open(pool: &Arc<Pool>, place: &mut Option<OwnedSemaphorePermit>) -> Result<Connection> {
    let mut opening = Opening {
        work: pool.open(),
        place: place.take(),
        pool,
    };
    let opened = (&mut opening.work).await;
    *place = opening.place.take();
    opened
}

struct Opening<'a> {
    work: BoxFuture<'static, Result<Connection>>,
    /// There until the end of `work` was seen.
    place: Option<OwnedSemaphorePermit>,
    pool: &'a Arc<Pool>,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        let work = replace(&mut self.work, Box::pin(pending()));
        let closed = self.pool.closed.clone();
        let opened = async move { closed.run_until_cancelled(work).await?.ok() };
        self.pool.leave(Unfinished(Box::pin(opened), place));
    }
}
