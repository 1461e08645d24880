//! One direction of a connection.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::{ReadHalf, WriteHalf},
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::faults::{End, View};

/// How much is read at once.
const CHUNK: usize = 16 * 1024;
/// How many chunks may be under way. With a delay this bounds the throughput: 16 MiB within its time.
const UNDER_WAY: usize = 1024;

/// Passes bytes until the sender has ended and its end is passed on; an error ends the whole connection.
pub(super) async fn pump(read: ReadHalf<'_>, write: WriteHalf<'_>, view: View) -> Result<(), End> {
    let (sender, chunks) = mpsc::channel(UNDER_WAY);
    tokio::try_join!(fill(read, sender, view.clone()), drain(write, chunks, view)).map(|_| ())
}

/// Reads chunks, each with the time at which it may be written. An empty one is the end.
async fn fill(
    mut read: ReadHalf<'_>,
    chunks: mpsc::Sender<(Instant, Bytes)>,
    mut view: View,
) -> Result<(), End> {
    let mut last = Instant::now();
    loop {
        view.passable().await;
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let read = read.read_buf(&mut chunk).await.map_err(|_| End::Reset)?;
        let (delay, jitter) = view.flow().delay;
        // Never before what came earlier.
        last = last.max(Instant::now() + delay + random(jitter));
        if chunks.send((last, chunk.freeze())).await.is_err() || read == 0 {
            return Ok(());
        }
    }
}

/// Writes chunks when it is time, as the faults allow.
async fn drain(
    mut write: WriteHalf<'_>,
    mut chunks: mpsc::Receiver<(Instant, Bytes)>,
    mut view: View,
) -> Result<(), End> {
    let mut closing = view.clone();
    let mut cut = Cut::default();
    let passed = async {
        while let Some((due, chunk)) = chunks.recv().await {
            sleep_until(due).await;
            view.passable().await;
            if chunk.is_empty() {
                break;
            }
            pass(&mut write, chunk, &mut view, &mut cut).await?;
        }
        Ok(())
    };
    let closed = tokio::select! {
        biased;
        () = closing.closed() => true,
        result = passed => {
            result?;
            false
        }
    };
    // The receiver may be gone already.
    let _ = write.shutdown().await;
    // What the sender still sends is thrown away, so that it does not wait.
    while closed && chunks.recv().await.is_some_and(|(_, chunk)| !chunk.is_empty()) {}
    Ok(())
}

async fn pass(
    write: &mut WriteHalf<'_>,
    mut chunk: Bytes,
    view: &mut View,
    cut: &mut Cut,
) -> Result<(), End> {
    while !chunk.is_empty() {
        let flow = view.flow();
        let most = if flow.slices { 1 } else { chunk.len() };
        let left = cut.left(flow.cut);
        let part = chunk.split_to(most.min(usize::try_from(left).unwrap_or(usize::MAX)));
        write.write_all(&part).await.map_err(|_| End::Reset)?;
        if cut.passed(part.len()) {
            return Err(End::Closed);
        }
        if flow.slices {
            tokio::task::yield_now().await;
            view.passable().await;
        }
    }
    Ok(())
}

/// How far the connection is from being cut.
#[derive(Default)]
struct Cut {
    order: u64,
    left: Option<u64>,
}

impl Cut {
    /// How many bytes may still pass by this order.
    fn left(&mut self, order: Option<(u64, u64)>) -> u64 {
        match order {
            Some((order, bytes)) if order != self.order || self.left.is_none() => {
                (self.order, self.left) = (order, Some(bytes));
            }
            Some(_) => {}
            None => self.left = None,
        }
        self.left.unwrap_or(u64::MAX)
    }

    /// Counts bytes; whether it is to be cut now.
    fn passed(&mut self, bytes: usize) -> bool {
        let Some(left) = &mut self.left else { return false };
        *left = left.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
        *left == 0
    }
}

fn random(most: Duration) -> Duration {
    if most.is_zero() {
        most
    } else {
        rand::random_range(Duration::ZERO..=most)
    }
}
